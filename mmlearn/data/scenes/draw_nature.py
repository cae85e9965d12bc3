"""Drawings of plants and of things in the sky. Each function draws one object with a ``Pen``, facing
right."""

import math
from collections.abc import Sequence

import numpy as np

from mmlearn.data.scenes.pen import INK, Pen, darker, lighter, mix, rgb
from mmlearn.data.scenes.shapes import length
from mmlearn.data.scenes.sheet import blend, both, cut, union

_BARK, _LEAF, _CLAY = (128, 86, 60), (86, 158, 78), (206, 112, 74)
_BLUSH = (246, 150, 140)


def draw_tree(p: Pen) -> None:
    """A tree with a round crown or, by variant, a fir; spotted trees bear fruit."""
    deep, light = darker(p.colour, 0.24), lighter(p.colour, 0.22)
    places: Sequence[tuple[float, float]]                         # of the fruit
    fruit = rgb((226, 70, 62)) if p.name not in ("red", "orange") else rgb((255, 216, 90))
    if p.vary(1) > 0.25 and p.name == "green":                    # a fir
        p.fill(p.box(0, 0.84, 0.10, 0.16, 0.03), _BARK)
        for top, bottom, half in ((-0.10, 0.74, 0.66), (-0.52, 0.30, 0.52), (-0.92, -0.14, 0.38)):
            tier = p.polygon([(0, top), (half, bottom), (0, bottom + 0.07), (-half, bottom)], 0.05)
            p.fill(tier, mix(p.colour, deep, 0.5 * (bottom + 0.14)))
            p.mark(p.polygon([(0, top + 0.06), (-0.05, bottom), (-half * 0.9, bottom - 0.02)], 0.01), light,
                   0.35, inside=tier)
        places = ((-0.28, 0.58), (0.30, 0.60), (0.02, 0.36), (-0.22, 0.14), (0.22, 0.10), (0.0, -0.22))
    else:
        p.fill(p.polygon([(-0.11, -0.1), (0.11, -0.1), (0.13, 0.80), (0.24, 0.96), (-0.24, 0.96),
                          (-0.13, 0.80)], 0.02), _BARK)
        p.fill(p.capsule(0.04, 0.40, 0.30, 0.10, 0.06, 0.04), _BARK)
        w = 0.05 * p.vary(2)
        puffs = [(-0.34, 0.04, 0.34), (0.34, 0.02 + w, 0.34), (-0.30, -0.40 + w, 0.34), (0.30, -0.42, 0.35),
                 (0.0, -0.64, 0.33),
                 (0.0, -0.10, 0.42)]
        crown = union(*(p.circle(*puff) for puff in puffs))
        p.fill(crown)
        p.mark(union(p.circle(-0.42, 0.16, 0.36), p.circle(0.06, 0.24, 0.40), p.circle(0.46, 0.14, 0.36)),
               deep, 0.5, inside=crown)
        p.mark(union(p.circle(-0.16, -0.66, 0.24), p.circle(-0.40, -0.36, 0.20)), light, 0.65, inside=crown)
        for cx, cy in ((0.14, -0.34), (0.34, -0.12), (-0.10, 0.0)):
            p.mark(p.arc(cx, cy, 0.10, 3.5, 5.9, 0.022), light, 0.8)
        places = ((-0.36, -0.10), (0.34, -0.24), (0.02, -0.44), (-0.22, -0.52), (0.20, 0.14), (-0.08, 0.10),
                  (0.48, 0.12))
    if p.texture == "spotted":
        for cx, cy in places:
            p.fill(p.circle(cx, cy, 0.085), fruit, outline=0.7)


def draw_flower(p: Pen) -> None:
    """A flower with a ring of petals, or a tulip, by variant."""
    bend = 0.08 * p.vary(1)
    p.fill(p.path([(bend, -0.30), (bend * 0.3, 0.30), (0, 0.96)], 0.05), (78, 150, 74))
    for side, cy in ((-1, 0.62), (1, 0.46)):
        leaf = p.at(0.0, cy + 0.12, side * -0.62)
        leaf.fill(leaf.ellipse(side * 0.27, 0, 0.27, 0.105), _LEAF)
        leaf.mark(leaf.capsule(side * 0.06, 0, side * 0.42, 0, 0.012), lighter(_LEAF, 0.4))
    if p.vary(2) > 0.45:                                          # a tulip
        for side in (-1, 1):
            q = p.at(bend + side * 0.22, -0.46, side * 0.20)
            q.fill(q.ellipse(0, 0, 0.24, 0.46), darker(p.colour, 0.12))
        bloom = p.ellipse(bend, -0.46, 0.27, 0.50)
        p.fill(bloom)
        p.mark(p.ellipse(bend - 0.08, -0.52, 0.08, 0.28), lighter(p.colour), 0.7)
        return
    count = p.pick(3, (5, 6, 7, 8))
    head = p.at(bend, -0.46, 0.4 * p.vary(4))
    angle = np.arctan2(head.y, head.x) * (count / (2 * math.pi))
    turn = (angle - np.round(angle)) * (2 * math.pi / count)      # all petals are one, folded
    radius = length(head.x, head.y)
    u, v = radius * np.cos(turn), radius * np.sin(turn)
    half = min(0.20, 0.90 / count)
    petals = (length((u - 0.30) / 0.24, v / half) - 1) * half
    p.fill(petals.astype(np.float32), outline=1.0)
    p.mark((length((u - 0.26) / 0.16, v / (0.3 * half)) - 1) * half * 0.3, darker(p.colour, 0.18), 0.7)
    centre = rgb((250, 200, 64)) if p.name not in ("yellow", "orange") else rgb((140, 84, 48))
    p.fill(p.circle(bend, -0.46, 0.17), centre)
    p.mark(p.circle(bend - 0.05, -0.51, 0.06), lighter(centre), 0.8)


def draw_cactus(p: Pen) -> None:
    """A cactus with two arms and a small flower, in a clay pot."""
    body = p.capsule(0, -0.66, 0, 0.50, 0.25)
    left, right = 0.10 * p.vary(1), 0.10 * p.vary(2)
    arms = union(p.path([(0, 0.12 + left), (-0.46, 0.10 + left), (-0.50, -0.24 + left)], 0.135),
                 p.path([(0, -0.02 + right), (0.46, -0.04 + right), (0.50, -0.36 + right)], 0.125))
    shape = blend(body, arms, 0.08)
    p.fill(shape, textured=True, period=0.20 if p.texture == "striped" else 0.30, angle=1.57)
    if p.texture == "plain":
        for cx, cy in ((-0.09, -0.58), (0.10, -0.34), (-0.10, -0.08), (0.09, 0.18), (-0.08, 0.40),
                       (-0.49, -0.10), (0.49, -0.22)):
            tick = union(p.capsule(cx - 0.04, cy - 0.03, cx, cy, 0.014),
                         p.capsule(cx + 0.04, cy - 0.03, cx, cy, 0.014))
            p.mark(tick, lighter(p.colour, 0.75))
    p.mark(p.capsule(-0.15, -0.70, -0.15, 0.20, 0.03), lighter(p.colour), 0.4)
    bloom = (244, 128, 160) if p.name != "purple" else (252, 206, 96)
    p.fill(union(p.circle(-0.10, -0.88, 0.09), p.circle(0.10, -0.88, 0.09), p.circle(0, -0.92, 0.075)), bloom,
           outline=0.8)
    p.fill(p.polygon([(-0.40, 0.48), (0.40, 0.48), (0.28, 0.95), (-0.28, 0.95)], 0.03), _CLAY)
    p.fill(p.box(0, 0.46, 0.46, 0.095, 0.04), lighter(_CLAY, 0.12))


def draw_mushroom(p: Pen) -> None:
    """A mushroom with a cap of the object's colour, on a pale stem with a face."""
    w = 0.05 * p.vary(1)
    stem = p.polygon([(-0.24, 0.0), (0.24, 0.0), (0.32, 0.82), (-0.32, 0.82)], 0.12)
    p.fill(stem, (250, 236, 214))
    p.mark(p.ellipse(0, 0.06, 0.5, 0.14), (206, 176, 150), 0.8, inside=stem)
    cap = cut(p.ellipse(0, 0.06, 0.94 + w, 0.98), p.box(0, 0.66, 1.2, 0.54))
    cap = blend(cap, p.capsule(-0.80 - w, 0.06, 0.80 + w, 0.06, 0.10), 0.06)
    p.fill(cap)
    if p.texture == "spotted":
        pale = rgb((255, 250, 236)) if p.name != "white" else rgb((214, 96, 84))
        for cx, cy, r in ((-0.10, -0.52, 0.19), (0.48, -0.30, 0.16), (-0.58, -0.22, 0.15),
                          (0.12, -0.10, 0.13), (-0.24, -0.06, 0.09), (0.78, 0.0, 0.10)):
            p.mark(p.circle(cx + w, cy, r), pale, inside=cap)
    p.mark(p.at(-0.40, -0.56, -0.7).ellipse(0, 0, 0.22, 0.07), lighter(p.colour, 0.6), 0.7)
    for side in (-1, 1):
        p.eye(side * 0.13, 0.44, 0.048)
        p.mark(p.circle(side * 0.22, 0.55, 0.05), _BLUSH, 0.7)
    p.mark(p.arc(0, 0.50, 0.07, 0.3, 2.84, 0.016), (130, 70, 66))


def draw_sun(p: Pen) -> None:
    """The sun with rays and a smile."""
    p.glow(p.circle(0, 0, 0.6), lighter(p.colour, 0.5), 0.40, 0.6)
    count = p.pick(1, (10, 12, 14))
    angle = np.arctan2(p.y, p.x) * (count / (2 * math.pi)) + 0.5 * p.vary(2)
    turn = np.abs(angle - np.round(angle)) * (2 * math.pi / count)
    radius = length(p.x, p.y)
    along, across = radius * np.cos(turn), radius * np.sin(turn)
    rays = np.maximum(across - 0.48 * (0.97 - along) * math.tan(math.pi / count) * 1.7,
                      abs(along - 0.70) - 0.22)
    p.fill(rays.astype(np.float32), mix(p.colour, (255, 160, 50), 0.35), outline=0.6)
    disc = p.circle(0, 0, 0.64)
    p.fill(disc)
    p.mark(p.circle(-0.08, -0.10, 0.46), lighter(p.colour, 0.5), 0.45)
    for side in (-1, 1):
        p.eye(side * 0.20, -0.06, 0.065)
        p.mark(p.circle(side * 0.34, 0.12, 0.10), (244, 120, 90), 0.55)
    p.mark(p.arc(0, 0.06, 0.18, 0.35, 2.79, 0.03), (150, 70, 40))


def draw_moon(p: Pen) -> None:
    """A crescent moon, asleep."""
    slim = 0.06 * p.vary(1)
    shape = cut(p.circle(0.06, 0, 0.95), p.circle(0.66 + slim, -0.16, 0.78))
    p.fill(shape)
    tone = mix(p.colour, (150, 140, 160), 0.45)
    if p.texture == "spotted":
        for cx, cy, r in ((-0.62, -0.36, 0.13), (-0.42, 0.62, 0.11), (-0.72, 0.16, 0.09), (0.06, 0.80, 0.08),
                          (-0.24, -0.66, 0.08)):
            p.mark(p.circle(cx, cy, r), tone, inside=shape)
    p.mark(p.arc(-0.38, 0.04, 0.13, 0.4, 2.75, 0.028), INK)
    p.mark(p.circle(-0.44, 0.28, 0.10), _BLUSH, 0.7)
    p.mark(p.arc(-0.14, 0.34, 0.12, 0.6, 2.2, 0.026), (150, 80, 70))


def draw_cloud(p: Pen) -> None:
    """A cloud of a few puffs, flat below."""
    w, v = 0.10 * p.vary(1), 0.10 * p.vary(2)
    puffs = union(p.circle(-0.62 + w, 0.06, 0.62), p.circle(0.16, -0.26 + v * 0.3, 0.70),
                  p.circle(0.86, 0.16, 0.54),
                  p.capsule(-1.18, 0.44, 1.20, 0.44, 0.50), p.circle(-1.12, 0.36, 0.42))
    shape = both(puffs, p.y - 0.93)
    p.fill(shape)
    shade = mix(p.colour, (120, 140, 190), 0.30)
    p.mark(p.capsule(-1.3, 0.86, 1.3, 0.86, 0.22), shade, 0.75, inside=shape + 0.02)
    p.mark(union(p.circle(-0.70 + w, -0.10, 0.30), p.circle(0.05, -0.48, 0.34)), lighter(p.colour, 0.8), 0.7,
           inside=shape)
    p.mark(p.arc(0.26, 0.02, 0.42, 3.5, 4.7, 0.035), shade, 0.7)
