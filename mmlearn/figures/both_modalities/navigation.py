"""Figures of the walks by instruction: the walker, three ways and their scores, a walk step by step.

Papers: P. Anderson et al. (2018), *Vision-and-Language Navigation*, arXiv:1711.07280, fig. 1; P. Anderson et
al. (2018), *On Evaluation of Embodied Navigation Agents*, arXiv:1807.06757.  Survey: 5.

Teal are pictures, amber is text, violet is what chooses, blue is the recurrence, red is the loss or the goal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmlearn.both_modalities.walker import NOTHING, Walker, WalkerConfig
from mmlearn.data.navigation import DIRECTIONS, STOP, Walks, draw_house, make_walks
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.figures.diagram import Diagram, Number, in_lines, literal, text_width
from mmlearn.figures.interactive import Block, player
from mmlearn.metrics.navigation import path_share
from mmlearn.nn.modes import eval_mode

PLAN = 48                               # pixels of a room on a plan
GAP = PLAN // 8
ACTIONS = (*DIRECTIONS, "stop")


# ------------------------------------------------------------------------------------------------- diagrams


def walker(config: WalkerConfig | None = None) -> Diagram:
    """What is read, what is seen, and how both choose a door."""
    config = config or WalkerConfig.frozen()
    d = config.width
    drawn = Diagram(470, 500, (
        "The walker. Left: the instruction goes through an LSTM that reads forth and one that reads back; "
        f"a word has a state x_i of {d} numbers. Right: the drawings behind the four doors and of the room "
        f"itself go through a frozen image tower ({config.features} numbers each), a linear map and an "
        "added vector for the direction: five ways u_j. The old state h_{t-1} glances at the ways; what "
        "it takes in, g_t, and the last action enter an LSTM cell, whose new state h_t weighs the words, "
        "gamma, and joins what it is told. The result q_t is compared with the five ways; a softmax over "
        "the open doors and the stop is the policy, and the loss asks for the right action at the place "
        "where the walker is."))
    drawn.rect(122, 24, 216, 30, "text", radius=4)
    drawn.text(122, 24, "pass the red car, turn right …", 14, "text")
    reader = drawn.box(122, 92, f"reader: LSTM ⇄\nstates *x_i*, {d} numbers", "text", 190, 48)
    drawn.arrow((122, 39), reader)
    walks = make_walks(1, houses=1, size=64)
    views = walks.world.views(walks.house, walks.start, walks.facing)[0]
    places = (282, 322, 362, 402, 446)
    for x, view in zip(places, views.tolist()):
        drawn.image(x, 30, walks.world.pictures[view], 36)
        drawn.arrow((x, 49), (x, 67))
    seen = f"image tower, frozen\n{config.features} → {d}, + direction *r_j*"
    sight = drawn.box(364, 92, seen, "frozen", 206, 48)
    ways = drawn.rect(364, 168, 206, 30, "image", radius=4)
    drawn.text(364, 168, "five ways *u_j*", 14, "image")
    drawn.arrow(sight, ways)
    glance = drawn.box(340, 238, "glance: *h_{t−1}* asks", "new", 184, 34)
    drawn.arrow((340, 183), glance, role="image")
    drawn.box(310, 306, "LSTM cell\n*h_{t−1} → h_t*", "block", 124, 50)
    drawn.arrow((310, 255), (310, 281), "*g_t*", "new")
    drawn.rect(420, 306, 54, 40, "", radius=4)
    drawn.text(420, 298, "last", 13, "soft")
    drawn.text(420, 314, "action", 13, "soft")
    drawn.arrow((393, 306), (372, 306))
    words = drawn.box(96, 306, "word weights *γ_i*\nsum of *γ_i x_i*", "new", 156, 50)
    drawn.arrow((96, 116), words, role="text")
    drawn.arrow((248, 306), (174, 306), "*h_t*")
    drawn.box(180, 384, "join, *q_t*", "new", 130, 34)
    drawn.arrow((130, 331), (130, 367))
    drawn.line([(280, 331), (280, 350), (210, 350), (210, 367)], head=True)
    drawn.box(250, 460, "policy: *q_t · u_j*, softmax\nopen doors and stop", "loss", 230, 50)
    drawn.arrow((200, 401), (200, 435))
    drawn.line([(459, 183), (459, 352), (340, 352), (340, 435)], "image", head=True)
    return drawn


def three_ways() -> Diagram:
    """One house, one instruction, three walkers: straight there, a detour, past the goal without a stop."""
    walks = make_walks(200, houses=8, size=32)
    number, detour = _with_detour(walks)
    walk = walks.walks[number]
    house = walks.world.houses[walk.house]
    n = len(walk.path) - 1
    ways = ((walk.path, True), (detour, True), (walk.path, False))
    shares = path_share(torch.full((3,), n), torch.tensor([len(way) - 1 for way, _ in ways]))
    drawn = Diagram(480, 240, (
        f"The same house from above three times, with the same start and goal, {n} doors apart. First the "
        f"shortest way: success, and it counts 1. Then a detour of {len(detour) - 1} doors: success, counts "
        f"{float(shares[1]):.2f}. Last the shortest way without a stop: no success, counts 0."))
    for x, (way, stops), share in zip((82, 240, 398), ways, shares.tolist()):
        drawn.image(x, 84, draw_house(house, 32, way), 148)
        drawn.text(x, 178, f"{len(way) - 1} doors, {'stops' if stops else 'no stop'}", 14)
        value = f"{n}/{max(len(way) - 1, n)} = {share:.2f}" if stops else "0"
        drawn.text(x, 202, f"success {int(stops)}", 14, "soft")
        drawn.text(x, 226, f"counts {value}", 14, "image" if stops else "loss", weight=600)
    return drawn


def _with_detour(walks: Walks) -> tuple[int, list[int]]:
    """A walk of three doors, and another way to its goal by two doors more, no room twice."""
    for number, walk in enumerate(walks.walks):
        next_to = walks.world.next_to[walk.house].tolist()
        ways = [[walk.path[0]]]
        for _ in range(len(walk.path) + 1):
            ways = [[*way, to] for way in ways for to in next_to[way[-1]] if to >= 0 and to not in way]
        found = [way for way in ways if way[-1] == walk.path[-1]]
        if len(walk.path) == 4 and found:
            return number, found[0]
    raise ValueError("no walk of these has a detour; make more of them")


# --------------------------------------------------------------------------------------- a walk, step by step


class Step(NamedTuple):
    """One step: where the walker stands and faces, what it sees (5 pictures), the policy (5), the weights of
    the words (t), and what it does."""

    room: int
    facing: int
    views: list[int]
    policy: Tensor
    words: Tensor
    action: int


@torch.no_grad()
def traced(model: Walker, walks: Walks, tokeniser: Tokeniser, number: int) -> list[Step]:
    """The walk ``number`` as the walker goes it, by its likeliest actions."""
    one, steps = walks.rows([number]), []
    world, room, facing = one.world, one.start, one.facing
    with eval_mode(model):
        instruction = model.read(tokeniser.batch(one.instructions))
        table, state = model.table(world), model.begin(instruction)
        before = torch.full((1,), NOTHING)
        for _ in range(model.config.most):
            views, ways = world.views(one.house, room, facing), world.ways(one.house, room, facing) >= 0
            open_ways = torch.cat([ways, torch.ones_like(ways[:, :1])], dim=1)
            logits, state, words = model.step(instruction, table[views], open_ways, before, state)
            before = logits.argmax(dim=-1)
            steps.append(Step(int(room), int(facing), views[0].tolist(), logits[0].softmax(0), words[0],
                              int(before)))
            room, facing = world.step(one.house, room, facing, before)
            if int(before) == STOP:
                break
    return steps


def _middle(room: int, side: int, scale: Number) -> tuple[float, float]:
    pitch = PLAN + GAP
    y, x = divmod(room, side)
    return 8 + scale * (GAP + x * pitch + PLAN / 2), 8 + scale * (GAP + y * pitch + PLAN / 2)


def walking(model: Walker, walks: Walks, tokeniser: Tokeniser, number: int) -> Block:
    """MOVING: a walk from above, step by step, with what is seen, the policy, and the words that are weighed.
    """
    steps = traced(model, walks, tokeniser, number)
    walk = walks.walks[number]
    house = walks.world.houses[walk.house]
    side = len(house.doors)
    words = [tokeniser.decode([i]) for i in tokeniser.encode(walk.instruction)]
    widths = [text_width(word, 15) + 8 for word in words]
    places = in_lines(widths, 464, 4)
    top = 278
    height = top + 28 * (places[-1][1] + 1)
    plan = draw_house(house, PLAN)
    scale = 224 / plan.shape[0]
    under = Diagram(480, height, "the house from above and the instruction")
    under.image(8 + 112, 8 + 112, plan, 224)
    goal = _middle(walk.path[-1], side, scale)
    under.add(f'<circle cx="{goal[0]:.4g}" cy="{goal[1]:.4g}" r="22" fill="none" stroke="#de3e3c" '
              f'stroke-width="3"/>')
    frames, labels = [], []
    for i, step in enumerate(steps):
        drawn = Diagram(480, height, _said(walks, walk.house, step, words))
        trail = [_middle(s.room, side, scale) for s in steps[:i + 1]]
        if len(set(trail)) > 1:
            path = "".join(f"{'L' if k else 'M'}{x:.4g} {y:.4g}" for k, (x, y) in enumerate(trail))
            drawn.add(f'<path d="{path}" fill="none" stroke="#fff" stroke-width="3.5"/>')
        _marker(drawn, trail[-1], step.facing)
        _seen(drawn, walks, step)
        weights = step.words[1:1 + len(words)]
        for word, wide, (x, line), weight in zip(words, widths, places, weights.tolist()):
            y = top + 28 * line
            drawn.add(f'<rect x="{8 + x - wide / 2:.4g}" y="{y - 12:.4g}" width="{wide:.4g}" height="24" '
                      f'rx="4" fill="#7650c8" opacity="{0.75 * weight / float(step.words.max()):.3f}"/>')
            drawn.text(8 + x, y, literal(word), 15)
        frames.append(drawn)
        labels.append(f"step {i + 1}: {_does(step)}")
    return player(frames, labels, (
        f"A walk in a house of {side} by {side} rooms, seen from above. The instruction: {walk.instruction}. "
        f"The walker goes {len(steps)} steps; the goal is ringed in red. To the right what it sees, with the "
        "policy below each picture; below, the words, darker with their weight."), under=under, seconds=1.6)


def _does(step: Step) -> str:
    """What is done, in words."""
    return "stop" if step.action == STOP else f"go {DIRECTIONS[step.action]}"


def _said(walks: Walks, house: int, step: Step, words: Sequence[str]) -> str:
    """A step in words."""
    most = int(step.words[1:1 + len(words)].argmax())
    colour, kind = walks.world.houses[house].landmarks[step.room]
    return (f"The walker stands at the {colour} {kind} and will {_does(step)}, with probability "
            f"{float(step.policy[step.action]):.2f}. The heaviest word is {words[most]}.")


def _marker(drawn: Diagram, at: tuple[float, float], facing: int) -> None:
    """A walker: a disc with a nose to the side that it faces."""
    x, y = at
    drawn.add(f'<g transform="translate({x:.4g} {y:.4g}) rotate({90 * facing})"><path d="M0 -19L8 -8L-8 -8Z" '
              'fill="#ffd34d" stroke="#1d2733"/><circle r="10" fill="#ffd34d" stroke="#1d2733" '
              'stroke-width="1.5"/></g>')


def _seen(drawn: Diagram, walks: Walks, step: Step) -> None:
    """The five pictures, the room itself in the middle, each with what the policy gives it."""
    for i, (x, y) in enumerate(((356, 34), (436, 112), (356, 190), (276, 112), (356, 112))):
        drawn.image(x, y, walks.world.pictures[step.views[i]], 50)
        chance, chosen = float(step.policy[i]), i == step.action
        wall = i != STOP and step.views[i] == 0
        drawn.text(x, y + 35, "wall" if wall else f"{ACTIONS[i]} {chance:.2f}", 13,
                   "new" if chosen else "soft", weight=600 if chosen else 400)
