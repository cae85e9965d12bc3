"""Sampling a scene: from ``(seed, index, split)`` to a graph of plausible things in plausible places.

Survey: 1.1 (iconic objects, iconic scenes and non-iconic images of COCO).  The distribution is our own.

Everything is decided with integers: draws come from the SplitMix64 generator (G. Steele, D. Lea and C. Flood
(2014),
*Fast splittable pseudorandom number generators*), positions are counted in 1/256 of the picture. So the graph
is the same on every platform and in every order of calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmlearn.data.scenes.categories import (
    CATEGORIES,
    CATEGORY,
    HELD_OUT_CATEGORIES,
    HELD_OUT_PAIRS,
    SURFACES,
    box_shape,
)
from mmlearn.data.scenes.graph import COLOURS, KINDS, SETTINGS, Category, Relation, Scene, SceneObject

SPLITS = ("train", "val", "test", "compositional", "zero_shot")
UNIT = 256                                                       # positions are multiples of 1/256
SIZE_PERCENT = {"small": 70, "medium": 100, "large": 140}         # of the height of a medium one
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Stage:
    """Where things can be in a setting, in 1/256 of the picture from the top; (first, last) of a bottom
    edge."""

    ground: tuple[int, int]
    sky: tuple[int, int]                                          # (top edge at least, bottom edge at most)
    water: tuple[int, int] = (0, 0)
    road: tuple[int, int] = (0, 0)                                # vehicles keep to it
    kerb: tuple[int, int] = (0, 0)                                # buildings and plants keep to it


STAGES: dict[str, Stage] = {
    "meadow": Stage((172, 246), (8, 140)),
    "beach": Stage((188, 246), (8, 104), water=(122, 162)),
    "street": Stage((172, 246), (8, 120), road=(212, 244), kerb=(166, 184)),
    "night": Stage((184, 246), (8, 128), water=(140, 170)),
    "snow": Stage((172, 246), (8, 140)),
    "room": Stage((196, 246), (10, 150)),
}
# What one expects in a setting: an iconic scene shows some of these, first the ones that make the place.
TYPICAL: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "meadow": (("tree", "house", "tent", "tower"),
               ("flower", "sun", "cloud", "dog", "bird", "mushroom", "kite")),
    "beach": (("boat", "umbrella", "boat"), ("sun", "ball", "bird", "person", "cloud", "kite", "fish")),
    "street": (("house", "car", "bus", "tower"), ("car", "bicycle", "person", "tree", "cloud", "dog")),
    "night": (("house", "tent", "tree", "tower"), ("moon", "moon", "tree", "cat", "boat", "car")),
    "snow": (("house", "tree", "tower"), ("person", "cloud", "dog", "tree", "moon", "rabbit")),
    "room": (("table", "bed", "table"), ("chair", "lamp", "cat", "cup", "clock", "cake", "balloon", "apple")),
}
_WEIGHTS = {"person": 3, "cat": 2, "dog": 2, "bird": 2, "tree": 2, "car": 2, "table": 2, "flower": 2}
_SKY_ORDER = ("sun", "moon", "cloud")                   # back to front; everything else in the sky after them


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class Draws:
    """A stream of random integers that is a function of its key: SplitMix64, integers only."""

    def __init__(self, *key: int):
        self.state = 0
        for part in key:
            self.state = _mix(self.state ^ _mix(part & _MASK) ^ (_mix(part >> 64)
                                                                 if part >> 64 not in (0, -1) else 0))

    def below(self, n: int) -> int:
        """An integer in [0, n)."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        return (_mix(self.state) * n) >> 64

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high], or the middle of an empty range."""
        return low + self.below(high - low + 1) if high >= low else (low + high) // 2

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.below(len(options))]

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent


@dataclass
class _Thing:
    """An object being placed: its attributes, and its box in units of 1/256."""

    category: Category
    colour: str
    size: str
    texture: str
    pose: str
    flip: bool
    variant: int
    width: int = 0
    height: int = 0
    left: int = 0
    bottom: int = 0
    place: str = "ground"
    support: "_Thing | None" = None

    @property
    def top(self) -> int:
        return self.bottom - self.height

    def order(self) -> tuple[int, int, int]:
        """Back to front: sky before water and ground, then by the line on which it stands."""
        if self.place == "sky":
            name = self.category.name
            return (0, _SKY_ORDER.index(name) if name in _SKY_ORDER else len(_SKY_ORDER), self.bottom)
        if self.support is not None:
            return (1, self.support.bottom, 1 + self.bottom)
        return (1, self.bottom, 0)


def _box(category: Category, pose: str, percent: int) -> tuple[int, int]:
    """Width and height in 1/256, both even (so that edges too are multiples of 1/256), at most 240 wide."""
    aspect, scale = box_shape(category, pose)
    height = max(10, round(scale * UNIT * percent / 200)) * 2
    width = max(8, round(height * aspect / 2) * 2)
    if width > 240:
        height, width = max(10, round(240 / aspect / 2) * 2), 240
    return width, height


def _allowed_colours(category: Category, split: str) -> tuple[str, ...]:
    if split == "compositional":
        return category.colours
    return tuple(c for c in category.colours if (c, category.name) not in HELD_OUT_PAIRS)


def _place_of(category: Category, pose: str) -> str:
    return "sky" if pose == "flying" else category.place


def _thing(draws: Draws, category: Category, split: str, colour: str | None = None,
           size: str | None = None) -> _Thing:
    """Choose attributes. Plain is the commonest texture, medium the commonest size."""
    texture = (
        "plain" if "plain" in category.textures and draws.chance(50) else draws.choice(category.textures)
    )
    thing = _Thing(
        category, colour or draws.choice(_allowed_colours(category, split)),
        size or draws.choice(("small", "medium", "medium", "large")), texture, draws.choice(category.poses),
        category.facing and draws.chance(50), draws.below(1 << 16),
    )
    thing.place = _place_of(category, thing.pose)
    return thing


def _resize(draws: Draws, thing: _Thing) -> None:
    percent = SIZE_PERCENT[thing.size] * draws.between(94, 106) // 100
    thing.width, thing.height = _box(thing.category, thing.pose, percent)


def _band(thing: _Thing, stage: Stage) -> tuple[int, int]:
    """First and last line on which the bottom edge may be."""
    if thing.place == "sky":
        return stage.sky[0] + thing.height, stage.sky[1]
    if thing.place == "water":
        return stage.water
    group = thing.category.supercategory
    if group == "vehicle" and stage.road[1]:
        return stage.road
    if group in ("building", "plant", "furniture") and stage.kerb[1]:
        return stage.kerb
    if group == "building":                                       # large things stand far back
        return stage.ground[0], stage.ground[0] + (stage.ground[1] - stage.ground[0]) // 3
    return stage.ground


def _covered(things: Sequence[_Thing]) -> int:
    """The largest share of a box, in percent, that boxes in front of it cover (overlaps counted twice)."""
    worst = 0
    ordered = sorted(things, key=_Thing.order)
    for i, back in enumerate(ordered):
        total = 0
        for front in ordered[i + 1:]:
            across = min(back.left + back.width, front.left + front.width) - max(back.left, front.left)
            down = min(back.bottom, front.bottom) - max(back.top, front.top)
            if across > 0 and down > 0:
                total += across * down
        worst = max(worst, 100 * total // (back.width * back.height))
    return worst


def _put(draws: Draws, thing: _Thing, placed: list[_Thing], stage: Stage, limit: int,
         tries: int = 14) -> bool:
    """Find a place for ``thing`` where no box is covered by more than ``limit`` percent; True if there is
    one."""
    supports = [t for t in placed if t.category.name in SURFACES] if _rests(thing) else []
    for attempt in range(tries):
        if supports and draws.chance(80):
            _rest(draws, thing, draws.choice(supports))
        else:
            low, high = _band(thing, stage)
            thing.support = None
            thing.bottom = max(draws.between(low, high), thing.height + 4)
            thing.left = draws.between(4, UNIT - 4 - thing.width)
        if _covered([*placed, thing]) <= limit and (thing.support is not None
                                                    or not _collides(thing, placed)):
            placed.append(thing)
            return True
        if attempt == tries // 2 and thing.size == "large":
            thing.size = "medium"                                 # a crowded picture: try a smaller one
            _resize(draws, thing)
    return False


def _rests(thing: _Thing) -> bool:
    return thing.category.place == "surface" or (thing.category.name == "cat" and thing.pose == "sleeping")


def _rest(draws: Draws, thing: _Thing, support: _Thing) -> None:
    """Put ``thing`` on ``support`` (a table, a bed)."""
    if thing.size == "large":
        thing.size = "medium"
        thing.width, thing.height = _box(thing.category, thing.pose, SIZE_PERCENT["medium"])
    line = round(SURFACES[support.category.name] * support.height)
    thing.support, thing.bottom = support, support.top + line
    margin = support.width // 10
    thing.left = draws.between(support.left + margin, support.left + support.width - margin - thing.width)


def _collides(thing: _Thing, placed: Sequence[_Thing]) -> bool:
    """Two things on the ground whose feet are at the same depth and overlap: neither is in front of the
    other."""
    if thing.place == "sky":
        return False
    for other in placed:
        if other.place == "sky" or other.support is not None:
            continue
        across = min(thing.left + thing.width, other.left + other.width) - max(thing.left, other.left)
        if across > min(thing.width, other.width) // 6 and abs(thing.bottom - other.bottom) < 5:
            return True
    return False


def _kind(draws: Draws) -> str:
    return KINDS[(0, 0, 1, 1, 2, 2, 2, 2, 2, 2)[draws.below(10)]]


def _fill(thing: _Thing, draws: Draws, stage: Stage) -> None:
    """An iconic object: one thing, near the middle, as large as the picture and its place allow."""
    thing.size = "large"
    if thing.category.name == "fish":
        thing.pose = "jumping"                                    # a big fish would not fit into the sea
    if thing.category.name == "bird":
        thing.place = _place_of(thing.category, thing.pose)
    aspect, _ = box_shape(thing.category, thing.pose)
    height = draws.between(148, 176)
    if thing.place == "water":
        height = min(height, stage.water[1] - 20)
    height = min(height, round(draws.between(190, 214) / aspect)) // 2 * 2
    thing.height, thing.width = height, max(8, round(height * aspect / 2) * 2)
    thing.left = (UNIT - thing.width) // 2 + draws.between(-10, 10)
    if thing.place == "sky":
        thing.bottom = 108 + height // 2 + draws.between(-8, 8)
    elif thing.place == "water":
        thing.bottom = stage.water[1] + draws.between(-6, 0)
    else:
        thing.bottom = draws.between(max(206, height + 30), 232)


def _compose(draws: Draws, kind: str, setting: str, first: Category, colour: str | None, split: str,
             known: Sequence[Category]) -> list[_Thing]:
    """Place the first thing and then, by kind, its company."""
    stage = STAGES[setting]
    if kind == "iconic object":
        thing = _thing(draws, first, split, colour)
        _fill(thing, draws, stage)
        return [thing]
    here = [c for c in known if setting in c.settings]
    wish: list[tuple[Category, str | None, str | None]] = [(first, colour, None)]
    if kind == "iconic scene":
        names = {c.name: c for c in here}
        main, rest = ([names[n] for n in group if n in names] for group in TYPICAL[setting])
        if colour is None and first.name not in HELD_OUT_CATEGORIES and first.id <= len(CATEGORIES):
            wish = [(draws.choice(main), None, None)] if main else wish
        wish += [(draws.choice(rest or here), None, None) for _ in range(draws.between(1, 3))]
        limit = 12
    else:
        weighted = [c for c in here for _ in range(_WEIGHTS.get(c.name, 1))]
        total = draws.between(2, 6)
        while len(wish) < total:
            category = draws.choice(weighted) if len(wish) > 1 or draws.chance(60) else first
            many = draws.chance(35) and category.name not in ("sun", "moon", "bed", "table")
            alike = draws.choice(_allowed_colours(category, split)) if many and draws.chance(60) else None
            size = draws.choice(("small", "medium")) if many else None
            wish += [(category, alike, size)] * min(draws.between(2, 3) if many else 1, total - len(wish))
        limit = 46
    placed: list[_Thing] = []
    for category, shade, size in wish:
        if category.name in ("sun", "moon", "bed") and any(
                t.category.name == category.name or {t.category.name, category.name} == {"sun", "moon"}
                for t in placed):
            continue                                              # one sun, one moon, one bed
        thing = _thing(draws, category, split, shade, size)
        _resize(draws, thing)
        if not placed:                                            # the first thing always finds its place
            _put(draws, thing, placed, stage, limit=100, tries=1)
        else:
            _put(draws, thing, placed, stage, limit)
    return placed


def relations(objects: Sequence[SceneObject]) -> tuple[Relation, ...]:
    """All relations between objects (back to front), from their boxes alone; each with its converse.

    *left of / right of*: the boxes overlap by at most a quarter of the narrower one, horizontally.
    *above / below*: one box ends (up to 1/64) where the other has not begun, and they overlap horizontally.
    *on*: the subject's bottom is the standing line of a table or bed, and its middle is over it.
    *in front of / behind*: the boxes overlap, the nearer is drawn later, and neither is on the other.
    """
    holding: list[Relation] = []
    for i, a in enumerate(objects):
        for j in range(i + 1, len(objects)):
            b = objects[j]
            across = min(a.x + a.width / 2, b.x + b.width / 2) - max(a.x - a.width / 2, b.x - b.width / 2)
            down = min(a.y + a.height / 2, b.y + b.height / 2) - max(a.y - a.height / 2, b.y - b.height / 2)
            if across <= min(a.width, b.width) / 4:
                left, right = (i, j) if a.x < b.x else (j, i)
                holding += [Relation(left, "left of", right), Relation(right, "right of", left)]
            if is_on(b, a):
                holding.append(Relation(j, "on", i))
            elif across > 0 and down > 0:
                holding += [Relation(j, "in front of", i), Relation(i, "behind", j)]
            elif across > 0 and down <= 1 / 64:
                above, below = (i, j) if a.y < b.y else (j, i)
                holding += [Relation(above, "above", below), Relation(below, "below", above)]
    return tuple(holding)


def is_on(thing: SceneObject, support: SceneObject) -> bool:
    """Whether ``thing`` stands on the line of ``support`` on which things can be put (a table's, a bed's)."""
    if support.category not in SURFACES or thing.category in SURFACES:
        return False
    height = round(support.height * UNIT)
    line = round((support.y - support.height / 2) * UNIT) + round(SURFACES[support.category] * height)
    bottom = round((thing.y + thing.height / 2) * UNIT)
    return bottom == line and abs(thing.x - support.x) < support.width / 2


def _scene(seed: int, index: int, split: str, kind: str, setting: str, things: Sequence[_Thing]) -> Scene:
    objects = tuple(
        SceneObject(t.category.name, t.colour, t.size, t.texture, t.pose, t.flip,
                    (t.left + t.width // 2) / UNIT,
                    (t.bottom - t.height // 2) / UNIT, t.width / UNIT, t.height / UNIT, t.variant)
        for t in sorted(things, key=_Thing.order))
    return Scene(seed, index, split, kind, setting, objects, relations(objects))


def sample_scene(seed: int, index: int, split: str = "train",
                 categories: Sequence[Category] = CATEGORIES) -> Scene:
    """The scene number ``index`` of a split: a pure function of its arguments, the same on every platform.

    ``categories`` are those that may occur (your own included); the held-out ones occur in "zero_shot" only.
    Raises ``ValueError`` for an unknown split, a negative index, or categories that leave nothing to draw.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {SPLITS}")
    if index < 0:
        raise ValueError(f"index {index} is negative; scenes are numbered from 0")
    draws = Draws(seed, index, SPLITS.index(split))
    seen = [c for c in categories if c.name not in HELD_OUT_CATEGORIES]
    known = list(categories) if split == "zero_shot" else seen
    first, colour = _subject(draws, split, seen, known)
    setting = draws.choice(first.settings)
    kind = _kind(draws)
    return _scene(seed, index, split, kind, setting,
                  _compose(draws, kind, setting, first, colour, split, known))


def _subject(draws: Draws, split: str, seen: Sequence[Category],
             known: Sequence[Category]) -> tuple[Category, str | None]:
    """What a scene of a split is about: a category, and its colour where the split demands one."""
    if split == "compositional":
        pairs = [(shade, c) for shade, name in HELD_OUT_PAIRS for c in seen if c.name == name]
        if not pairs:
            raise ValueError("split 'compositional' needs a category of HELD_OUT_PAIRS among the given "
                             "categories")
        colour, first = draws.choice(pairs)
        return first, colour
    pool = [c for c in known if c not in seen] if split == "zero_shot" else list(seen)
    if not pool:
        raise ValueError(f"split {split!r} finds none of its categories among the {len(known)} given")
    return draws.choice([c for c in pool for _ in range(_WEIGHTS.get(c.name, 1))]), None


def side_by_side(seed: int, index: int, split: str = "train") -> Scene:
    """Two things of different categories, one left of the other and each as large as its half of the picture
    allows: a pure function of its arguments, kind "non-iconic".

    In "compositional" one of them is a pair of colour and category that was never drawn in training, in
    "zero_shot" one is of a held-out category. Raises ``ValueError`` as ``sample_scene`` does.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {SPLITS}")
    if index < 0:
        raise ValueError(f"index {index} is negative; scenes are numbered from 0")
    draws = Draws(seed, index, SPLITS.index(split), 2)
    seen = [c for c in CATEGORIES if c.name not in HELD_OUT_CATEGORIES]
    first, colour = _subject(draws, split, seen, CATEGORIES)
    setting = draws.choice(first.settings)
    heaven = {"sun", "moon"}
    company = [c for c in seen if setting in c.settings and c.name != first.name
               and not {c.name, first.name} == heaven]
    things = [_thing(draws, first, split, colour), _thing(draws, draws.choice(company), "train")]
    for thing, half in zip(things, (0, 1) if draws.chance(50) else (1, 0)):
        _fill_half(thing, draws, STAGES[setting], half)
    return _scene(seed, index, split, "non-iconic", setting, things)


def _fill_half(thing: _Thing, draws: Draws, stage: Stage, half: int) -> None:
    """One of two things: as large as its half, 0 (left) or 1, allows, and a little less."""
    _fill(thing, draws, stage)
    height, width = thing.height, thing.width
    most = draws.between(96, 116)
    if width > most:
        height, width = max(8, round(height * most / width / 2) * 2), most // 2 * 2
    if height > 132:
        height, width = 132, max(8, round(width * 132 / height / 2) * 2)
    room = UNIT // 2 - 8 - width
    thing.left = half * UNIT // 2 + 4 + max(0, draws.between(room // 2 - 6, room // 2 + 6))
    if thing.place == "sky":
        thing.bottom += (height - thing.height) // 2
    thing.height, thing.width = height, width


def portrait(category: str, *, colour: str | None = None, texture: str | None = None, pose: str | None = None,
             setting: str | None = None, flip: bool = False, variant: int = 0) -> Scene:
    """A picture of one thing with the attributes asked for (or its first ones): an iconic object, split
    "portrait".

    Raises ``ValueError`` for a category or attribute that is not in the table.
    """
    if category not in CATEGORY:
        raise ValueError(f"category {category!r} is unknown; take one of {sorted(CATEGORY)} or add it by "
                         f"add_category")
    known = CATEGORY[category]
    asked = {"colour": (colour, known.colours, COLOURS), "texture": (texture, known.textures, known.textures),
             "pose": (pose, known.poses, known.poses), "setting": (setting, known.settings, SETTINGS)}
    values = {}
    for name, (value, usual, allowed) in asked.items():
        if value is not None and value not in allowed:
            raise ValueError(f"{name} {value!r} is not one of {allowed}, which a {category} can have")
        values[name] = usual[0] if value is None else value
    thing = _Thing(known, values["colour"], "large", values["texture"], values["pose"], flip, variant)
    thing.place = _place_of(known, thing.pose)
    stage = STAGES[values["setting"]]
    wanted = thing.pose
    _fill(thing, Draws(variant), stage)
    if thing.pose != wanted:                                    # a swimming fish keeps to its size in the sea
        thing.pose, thing.size = wanted, "medium"
        thing.width, thing.height = _box(known, wanted, 180)
        thing.left, thing.bottom = (UNIT - thing.width) // 2, stage.water[1] - 2
    return _scene(0, variant, "portrait", "iconic object", values["setting"], [thing])
