r"""Walks by instruction: small houses of drawn rooms, ways through them, and sentences that tell the way.

Papers: P. Anderson et al. (2018), *Vision-and-Language Navigation: Interpreting Visually-Grounded Navigation
Instructions in Real Environments*, CVPR, arXiv:1711.07280 (rooms as a graph, instructions of shortest paths,
seen and unseen houses, what is right at a place that the walker was led to by itself); D. Fried et al.
(2018), *Speaker-Follower Models for Vision-and-Language Navigation*, NeurIPS, arXiv:1806.02724 (an action is
one of the ways that are seen).  Sections were not looked up.  Survey: 5.
Differs from the papers: rooms stand on a grid, a view is one drawing of what is behind each door, steps are
counted and not metres, and the sentences are made from the path.

A room has four sides, 0 north, 1 east, 2 south, 3 west, and a drawing of a landmark that no other room of its
house has. A walker stands in a room and faces a side. It acts by relative directions: 0 ahead, 1 right, 2
behind, 3 left go through the door there and face that way afterwards; ``STOP`` ends the walk. It sees five
pictures: those of the four rooms next to it, in this order, a wall where there is no door, and the room
where it stands. Letters of shapes: m houses, b walks, n rooms, s pixels a side, k pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from mmlearn.data.scenes import CATEGORY, portrait, render
from mmlearn.data.scenes.language import Dice

SIDES = ("north", "east", "south", "west")
DIRECTIONS = ("ahead", "right", "behind", "left")
STOP, ACTIONS = 4, 5
HERE, VIEWS = 4, 5                      # place of the room's own picture among the views
KINDS = ("car", "house", "flower", "tent", "balloon", "bird", "umbrella", "ball")
COLOURS = ("red", "yellow", "green", "blue", "purple")
LANDMARKS = tuple((colour, kind) for kind in KINDS for colour in COLOURS)
VARIANTS = 3                            # drawings of a landmark in each of the two sets of houses
SPLITS = ("train", "seen", "unseen")    # seen: new walks in the houses of "train"; unseen: new houses
_STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))
_TURNS = ("go straight on", "turn right and go on", "turn around and go on", "turn left and go on")
_VISITS = ("walk to the {}", "go to the {}", "head for the {}")
_PASSES = ("pass the {}", "go past the {}", "walk by the {}")
_ENDS = ("stop there", "wait there", "and stop")


@dataclass(frozen=True)
class House:
    """``doors`` (side, side, 4): true where a door is; ``landmarks`` a (colour, kind) for each room, row by
    row; ``variants`` which drawing of it hangs there."""

    doors: Bool[np.ndarray, "y x 4"]
    landmarks: tuple[tuple[str, str], ...]
    variants: tuple[int, ...]


@dataclass(frozen=True)
class Walk:
    """A walk in house number ``house``: ``path`` is a shortest one, room after room, of which the last is the
    goal; ``facing`` is the side that the walker faces at first."""

    house: int
    path: tuple[int, ...]
    facing: int
    instruction: str


# ---------------------------------------------------------------------------------------------------- houses

def make_house(seed: int, index: int, side: int = 4, extra: float | int = 0.35,
               variants: Sequence[int] = tuple(range(VARIANTS))) -> House:
    """House number ``index``: a random spanning tree of ``side`` x ``side`` rooms, and every other door with
    probability ``extra``; a function of its arguments.

    Raises ``ValueError`` for a house with more rooms than there are landmarks, or fewer than 2 a side.
    """
    if not 2 <= side <= int(len(LANDMARKS) ** 0.5):
        raise ValueError(f"side is {side}; use 2 to {int(len(LANDMARKS) ** 0.5)} rooms a side, since each "
                         f"needs a landmark of its own")
    dice = Dice("house", seed, index)
    doors = np.zeros((side, side, 4), dtype=bool)
    walls = [(y, x, d) for y in range(side) for x in range(side) for d in (1, 2)
             if y + _STEPS[d][0] < side and x + _STEPS[d][1] < side]
    group = list(range(side * side))                       # rooms that can reach one another
    for y, x, d in dice.shuffled(walls):
        v, u = y + _STEPS[d][0], x + _STEPS[d][1]
        here, there = group[y * side + x], group[v * side + u]
        if here == there and not dice.chance(extra):
            continue
        doors[y, x, d] = doors[v, u, (d + 2) % 4] = True
        group = [here if g == there else g for g in group]
    landmarks = tuple(dice.shuffled(LANDMARKS)[:side * side])
    return House(doors, landmarks, tuple(dice.pick(variants) for _ in landmarks))


def neighbours(doors: Bool[np.ndarray, "*m y x 4"]) -> Int[np.ndarray, "*m n 4"]:
    """The room behind each door, by number (row by row); -1 where there is a wall."""
    rows, columns = doors.shape[-3:-1]
    room = np.arange(rows * columns)
    step = np.array([-columns, 1, columns, -1])
    flat = doors.reshape(*doors.shape[:-3], rows * columns, 4)
    return np.where(flat, room[:, None] + step, -1)


def shortest_paths(
    doors: Bool[np.ndarray, "*m y x 4"]
) -> Int[np.ndarray, "*m n n"]:
    r"""eq:nav-distance: $d(u,v)=\min\{1+d(w,v):w\text{ next to }u\}$, $d(v,v)=0$: doors to go through from
    every room to every other, of all houses at once; -1 where no way leads.

    A wave leaves all rooms at the same time: one step moves a map of booleans to four sides.
    """
    *houses, rows, columns, _ = doors.shape
    n = rows * columns
    flat = doors.reshape(-1, 1, rows, columns, 4)
    wave = np.broadcast_to(np.eye(n, dtype=bool).reshape(1, n, rows, columns),
                           (len(flat), n, rows, columns))
    distance = np.where(wave, 0, -1)
    for step in range(1, n):
        reached = np.zeros(wave.shape, dtype=bool)
        for d, (down, right) in enumerate(_STEPS):
            through = wave & flat[..., d]
            reached[:, :, slice(max(down, 0), rows + min(down, 0)),
                    slice(max(right, 0), columns + min(right, 0))] |= through[
                :, :, slice(max(-down, 0), rows - max(down, 0)),
                slice(max(-right, 0), columns - max(right, 0))]
        wave = reached & (distance < 0)
        if not wave.any():
            break
        distance[wave] = step
    return distance.reshape(*houses, n, n)


# ------------------------------------------------------------------------------------------------- pictures

@lru_cache(maxsize=4096)
def _landmark(colour: str, kind: str, variant: int, size: int) -> np.ndarray:
    dice = Dice("landmark", colour, kind, variant)
    scene = portrait(kind, colour=colour, setting=dice.pick(CATEGORY[kind].settings), flip=dice.chance(0.5),
                     variant=variant * 31 + KINDS.index(kind))
    image = render(scene, size).image
    image.flags.writeable = False
    return image


def landmark_picture(colour: str, kind: str, variant: int, size: int = 32) -> UInt8[np.ndarray, "s s 3"]:
    """A drawing of a landmark, in the style of the scene world; a function of its arguments."""
    return _landmark(colour, kind, variant, size).copy()


def wall_picture(size: int = 32) -> UInt8[np.ndarray, "s s 3"]:
    """A wall of bricks."""
    y, x = np.mgrid[:size, :size]
    high, wide = max(2, size // 8), max(4, size // 4)
    row = y // high
    along = x + (row % 2) * (wide // 2)
    joint = (y % high == 0) | (along % wide == 0)
    brick = np.array((176, 120, 98)) + ((row * 7 + along // wide * 13) % 5)[..., None] * 6
    return np.where(joint[..., None], np.array((214, 204, 190)), brick).astype(np.uint8)


def draw_house(house: House, size: int = 48, path: Sequence[int] = ()) -> UInt8[np.ndarray, "y x 3"]:
    """The house from above: its rooms' drawings, walls dark and doors light, and a path in white."""
    side, gap = len(house.doors), max(4, size // 8)
    pitch = size + gap
    plan = np.full((side * pitch + gap, side * pitch + gap, 3), (70, 58, 66), dtype=np.uint8)

    def middle(room: int) -> tuple[int, int]:
        return (gap + room // side * pitch + size // 2, gap + room % side * pitch + size // 2)

    for room, ((colour, kind), variant) in enumerate(zip(house.landmarks, house.variants)):
        y, x = gap + room // side * pitch, gap + room % side * pitch
        plan[y:y + size, x:x + size] = _landmark(colour, kind, variant, size)
        third = size // 3
        if house.doors[room // side, room % side, 1]:
            plan[y + third:y + size - third, x + size:x + pitch] = (236, 226, 206)
        if house.doors[room // side, room % side, 2]:
            plan[y + size:y + pitch, x + third:x + size - third] = (236, 226, 206)
    half = max(1, size // 32)
    for a, b in zip(path, path[1:]):
        (y, x), (v, u) = middle(a), middle(b)
        plan[min(y, v) - half:max(y, v) + half + 1, min(x, u) - half:max(x, u) + half + 1] = 255
    for room, colour_of in ((path[0], (255, 255, 255)), (path[-1], (222, 62, 60))) if len(path) else ():
        y, x = middle(room)
        plan[y - 3 * half:y + 3 * half + 1, x - 3 * half:x + 3 * half + 1] = colour_of
    return plan


# ----------------------------------------------------------------------------------------------- instructions

def sides_of(path: Sequence[int], side: int) -> list[int]:
    """The side by which each room of a path is left."""
    by = {-side: 0, 1: 1, side: 2, -1: 3}
    return [by[b - a] for a, b in zip(path, path[1:])]


def instruct(house: House, path: Sequence[int], facing: int, dice: Dice, landmarks: float | int = 0.6) -> str:
    """A sentence that tells the way: each step by what stands in the next room (with probability
    ``landmarks``) or by where to turn.

    Neither the words nor the pictures alone tell the way, unless ``landmarks`` is 0: "go to the red car" is
    to the left in one house and behind in another.
    """
    phrases = []
    sides = sides_of(path, len(house.doors))
    for step, (room, leave) in enumerate(zip(path[1:], sides)):
        turn = (leave - (facing if step == 0 else sides[step - 1])) % 4
        if dice.chance(landmarks):
            names = _VISITS if step == len(sides) - 1 else (*_VISITS, *_PASSES)
            phrases.append(dice.pick(names).format(" ".join(house.landmarks[room])))
        else:
            phrases.append(_TURNS[turn])
    return ", ".join([*phrases, dice.pick(_ENDS)])


def make_walk(houses: Sequence[House], distances: Int[np.ndarray, "m n n"], seed: int, index: int,
              split: str = "train", steps: tuple[int, int] = (3, 6), landmarks: float | int = 0.6,
              allowed: Bool[np.ndarray, "n n"] | None = None) -> Walk:
    """Walk number ``index``: start and goal as many doors apart as ``steps`` allows, one of the shortest
    paths, drawn door by door, and its instruction; a function of its arguments.

    ``allowed``: which rooms may be start (row) and goal (column) of one walk; None for all. Raises
    ``ValueError`` if no two rooms of its house are that far apart.
    """
    dice = Dice("walk", seed, index, split)
    number = int(dice.random() * len(houses))
    house, distance = houses[number], distances[number]
    fits = (distance >= steps[0]) & (distance <= steps[1])
    pairs = np.argwhere(fits if allowed is None else fits & allowed)
    if not len(pairs):
        raise ValueError(f"no two rooms of house {number} are {steps[0]} to {steps[1]} doors apart (the "
                         f"farthest are {distance.max()}); take shorter walks or larger houses")
    start, goal = dice.pick(pairs.tolist())
    next_to = neighbours(house.doors)
    path = [start]
    while path[-1] != goal:
        path.append(dice.pick([int(r) for r in next_to[path[-1]]
                               if r >= 0 and distance[r, goal] == distance[path[-1], goal] - 1]))
    facing = int(dice.random() * 4)
    return Walk(number, tuple(path), facing, instruct(house, path, facing, dice, landmarks))


# ------------------------------------------------------------------------------------------------- the world

class World:
    """All houses of a split, ready to be walked in by many walkers at once.

    ``next_to`` (m, n, 4): the room on each side or -1; ``distances`` (m, n, n) in doors; ``pictures`` (k, 3,
    s, s) in [0, 1], of which 0 is the wall; ``room_picture`` (m, n): the picture of each room; ``features``
    (k, f): what a frozen network sees in each picture, after ``see``.
    """

    features: Float[Tensor, "k f"] | None = None

    def __init__(self, houses: Sequence[House], size: int = 32) -> None:
        if not houses:
            raise ValueError("there is no house to walk in; give at least one")
        self.houses = list(houses)
        doors = np.stack([house.doors for house in houses])
        self.next_to: Int[Tensor, "m n 4"] = torch.from_numpy(neighbours(doors))
        self.distances: Int[Tensor, "m n n"] = torch.from_numpy(shortest_paths(doors))
        names = sorted({(*landmark, variant) for house in houses
                        for landmark, variant in zip(house.landmarks, house.variants)})
        number = {name: i + 1 for i, name in enumerate(names)}
        images = np.stack([wall_picture(size), *(_landmark(*name, size) for name in names)])
        self.pictures: Float[Tensor, "k 3 s s"] = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        self.room_picture: Int[Tensor, "m n"] = torch.tensor([
            [number[*landmark, variant] for landmark, variant in zip(house.landmarks, house.variants)]
            for house in houses])

    def see(self, network: Callable[[Tensor], Tensor]) -> None:
        """Let a frozen network look at all pictures once: (k, 3, s, s) in [0, 1] -> (k, f)."""
        with torch.no_grad():
            self.features = network(self.pictures)

    def ways(
        self, house: Int[Tensor, " b"], room: Int[Tensor, " b"], facing: Int[Tensor, " b"]
    ) -> Int[Tensor, "b 4"]:
        """The room in each relative direction, -1 for a wall."""
        sides = (facing[:, None] + torch.arange(4)) % 4
        return self.next_to[house, room].gather(1, sides)

    def views(
        self, house: Int[Tensor, " b"], room: Int[Tensor, " b"], facing: Int[Tensor, " b"]
    ) -> Int[Tensor, "b 5"]:
        """Numbers of the five pictures that are seen: ahead, right, behind, left, here."""
        ways = self.ways(house, room, facing)
        seen = self.room_picture[house[:, None], ways.clamp(min=0)].masked_fill(ways < 0, 0)
        return torch.cat([seen, self.room_picture[house, room][:, None]], dim=1)

    def step(
        self, house: Int[Tensor, " b"], room: Int[Tensor, " b"], facing: Int[Tensor, " b"],
        action: Int[Tensor, " b"],
    ) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
        """Room and facing after an action. Who stops or walks into a wall stays as it is."""
        ways = self.ways(house, room, facing)
        to = ways.gather(1, action.clamp(max=3)[:, None])[:, 0]
        moves = (action != STOP) & (to >= 0)
        return torch.where(moves, to, room), torch.where(moves, (facing + action) % 4, facing)


@dataclass(frozen=True)
class Walks:
    """Walks as tensors: ``house``, ``start``, ``facing``, ``goal`` (b), ``shortest`` (b) in doors, and
    ``lead`` (b, n), the room where each room's right way leads: on along the path that the instruction tells,
    from elsewhere on a shortest way to the goal; the goal leads to itself."""

    world: World
    walks: tuple[Walk, ...]
    house: Int[Tensor, " b"]
    start: Int[Tensor, " b"]
    facing: Int[Tensor, " b"]
    goal: Int[Tensor, " b"]
    shortest: Int[Tensor, " b"]
    lead: Int[Tensor, "b n"]

    def __len__(self) -> int:
        return len(self.walks)

    @property
    def instructions(self) -> list[str]:
        """The sentence of each walk."""
        return [walk.instruction for walk in self.walks]

    @classmethod
    def of(cls, world: World, walks: Sequence[Walk]) -> "Walks":
        """Tensors of ``walks``. Raises ``ValueError`` if there is none."""
        if not walks:
            raise ValueError("there is no walk; give at least one")
        house = torch.tensor([w.house for w in walks])
        start, goal = (torch.tensor([w.path[i] for w in walks]) for i in (0, -1))
        left = world.distances[house, :, goal]                              # b n
        next_to = world.next_to[house]                                      # b n 4
        n = left.shape[1]
        beyond = left[:, None].expand(-1, n, -1).gather(2, next_to.clamp(min=0))
        nearer = (next_to >= 0) & (beyond == left[..., None] - 1)
        lead = next_to.gather(2, nearer.int().argmax(dim=2, keepdim=True))[..., 0]
        for row, walk in enumerate(walks):
            lead[row, list(walk.path)] = torch.tensor([*walk.path[1:], walk.path[-1]])
        return cls(world, tuple(walks), house, start, torch.tensor([w.facing for w in walks]), goal,
                   world.distances[house, start, goal], lead)

    def rows(self, indices: Sequence[int]) -> "Walks":
        """The walks of these numbers, in this order."""
        return Walks.of(self.world, [self.walks[i] for i in indices])

    def right_action(
        self, room: Int[Tensor, " b"], facing: Int[Tensor, " b"]
    ) -> Int[Tensor, " b"]:
        """What is right wherever the walkers are, on their paths or not: through the door where ``lead``
        leads, and ``STOP`` at the goal."""
        to = self.lead.gather(1, room[:, None])
        ways = self.world.ways(self.house, room, facing)
        door = (ways == to).int().argmax(dim=1)
        return torch.where(room == self.goal, STOP, door)


def make_walks(count: int, split: str = "train", *, houses: int = 20, side: int = 4, size: int = 32,
               steps: tuple[int, int] = (3, 6), landmarks: float | int = 0.6, seed: int = 0) -> Walks:
    """``count`` walks of a split, a function of the arguments.

    "train" and "seen" share their houses: a fifth of all pairs of rooms, those whose number is a multiple of
    five, are start and goal in "seen" only. "unseen" has houses and drawings of its own. Raises
    ``ValueError`` for another split.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {SPLITS}")
    new, n = split == "unseen", side * side
    drawings = range(VARIANTS, 2 * VARIANTS) if new else range(VARIANTS)
    made = [make_house(seed, (1_000_000 if new else 0) + i, side, variants=tuple(drawings))
            for i in range(houses)]
    world = World(made, size)
    fifth = (np.arange(n)[:, None] * n + np.arange(n)) % 5 == 0
    allowed = np.ones_like(fifth) if new else fifth if split == "seen" else ~fifth
    distances = world.distances.numpy()
    return Walks.of(world, [make_walk(made, distances, seed, i, split, steps, landmarks, allowed)
                            for i in range(count)])


# ---------------------------------------------------------------------------------------- walks and baselines

@dataclass(frozen=True)
class Trail:
    """Where walkers were: ``rooms`` (b, t), the first being the start, the last repeated after the end;
    ``stopped`` (b): whether the walker said that it had arrived; ``to_goal`` (b, t), doors to the goal from
    each room; ``taken`` (b), doors gone through."""

    rooms: Int[Tensor, "b t"]
    stopped: Bool[Tensor, " b"]
    to_goal: Int[Tensor, "b t"]
    taken: Int[Tensor, " b"]


def trail_of(walks: Walks, rooms: Sequence[Tensor], stopped: Bool[Tensor, " b"]) -> Trail:
    """Where walkers were, from their rooms (b) step by step."""
    trail = torch.stack(list(rooms), dim=1)
    to_goal = walks.world.distances[walks.house[:, None], trail, walks.goal[:, None]]
    return Trail(trail, stopped, to_goal, (trail[:, 1:] != trail[:, :-1]).sum(dim=1))


Policy = Callable[[Walks, Tensor, Tensor, int], Tensor]     # walks, room, facing, step -> actions (b,)


def follow(walks: Walks, policy: Policy, most: int = 12) -> Trail:
    """Let ``policy`` walk until it stops, or ``most`` steps."""
    if most < 1:
        raise ValueError(f"most is {most} steps; give at least 1")
    world, room, facing = walks.world, walks.start, walks.facing
    stopped, rooms = torch.zeros(len(walks), dtype=torch.bool), [room]
    for step in range(most):
        action = torch.where(stopped, STOP, policy(walks, room, facing, step))
        room, facing = world.step(walks.house, room, facing, action)
        stopped = stopped | (action == STOP)
        rooms.append(room)
        if stopped.all():
            break
    return trail_of(walks, rooms, stopped)


def shortest_path_policy(walks: Walks, room: Int[Tensor, " b"], facing: Int[Tensor, " b"],
                         step: int) -> Int[Tensor, " b"]:
    """Who knows the map, the path and the goal: the best that can be."""
    return walks.right_action(room, facing)


def random_policy(generator: torch.Generator) -> Policy:
    """Any of the doors that are there, or a stop, all alike."""
    def policy(walks: Walks, room: Tensor, facing: Tensor, step: int) -> Tensor:
        open_ways = walks.world.ways(walks.house, room, facing) >= 0
        chances = torch.cat([open_ways, torch.ones_like(open_ways[:, :1])], dim=1).float()
        return torch.multinomial(chances, 1, generator=generator)[:, 0]
    return policy


def forward_policy(steps: int = 4) -> Policy:
    """Ahead; where a wall is there, right, else left, else back; a stop after ``steps``."""
    def policy(walks: Walks, room: Tensor, facing: Tensor, step: int) -> Tensor:
        ways = walks.world.ways(walks.house, room, facing) >= 0
        order = torch.tensor([0, 1, 3, 2])                      # behind is the last resort
        first = order[ways[:, order].int().argmax(dim=1)]
        return torch.full_like(first, STOP) if step >= steps else first
    return policy
