"""Drawings of food, toys and household things. Each function draws one object with a ``Pen``, facing
right."""

import math

import numpy as np

from mmlearn.data.scenes.pen import INK, Colour, Pen, darker, lighter, mix
from mmlearn.data.scenes.shapes import Number, length
from mmlearn.data.scenes.sheet import blend, both, cut, union

_STALK, _LEAF, _STRING = (112, 78, 52), (104, 174, 84), (110, 96, 104)


def _shine(p: Pen, cx: Number, cy: Number, size: Number = 1.0, angle: Number = -0.7) -> None:
    """The gleam of a window on something round."""
    q = p.at(cx, cy, angle)
    q.mark(q.ellipse(0, 0, 0.20 * size, 0.09 * size), (255, 255, 255), 0.75)


def draw_apple(p: Pen) -> None:
    """An apple with a stalk and a leaf."""
    w = 0.04 * p.vary(1)
    p.fill(p.path([(0.02, -0.44), (0.04, -0.70), (0.14, -0.92)], 0.06), _STALK)
    body = blend(blend(p.ellipse(-0.34, 0.12, 0.54 + w, 0.66), p.ellipse(0.34, 0.12, 0.54 + w, 0.66), 0.12),
                 p.ellipse(0, 0.44, 0.52, 0.50), 0.2)
    body = cut(body, p.ellipse(0, -0.62, 0.18, 0.22))
    p.fill(body)
    blush = (252, 214, 110) if p.name != "green" else (226, 236, 130)
    if p.name == "yellow":
        blush = (244, 150, 90)
    p.mark(p.at(0.02, 0.02).circle(0.40, 0.40, 0.42), blush, 0.28, inside=body + 0.05)
    p.mark(cut(body, p.ellipse(-0.14, 0.04, 0.92, 0.88)), INK, 0.13)
    p.mark(p.ellipse(0.02, -0.40, 0.22, 0.08), darker(p.colour, 0.5), 0.6, inside=body)
    leaf = p.at(0.38, -0.72, -0.45)
    leaf.fill(leaf.ellipse(0, 0, 0.32, 0.15), _LEAF)
    leaf.mark(leaf.capsule(-0.22, 0, 0.22, 0, 0.018), lighter(_LEAF, 0.5))
    _shine(p, -0.42, -0.14, 1.1)


def _banana(p: Pen, colour: Colour, radius: Number, width: Number) -> np.ndarray:
    """One banana along a circle about (0, -0.86); gives its distance."""
    turn = np.arctan2(p.x, p.y + 0.86)
    half = width * np.sqrt(np.maximum(1.02 - (turn / 1.40) ** 2, 0.02)).astype(np.float32)
    body = np.maximum(abs(length(p.x, p.y + 0.86) - radius) - half, (abs(turn) - 1.34) * radius)
    p.fill(body, colour)
    return body


def draw_banana(p: Pen) -> None:
    """A banana, or a bunch of two, by variant."""
    q = p.at(0.03, 0.06, -0.14, 0.93)
    if p.vary(1) > 0:
        _banana(p.at(0.0, -0.14, 0.0, 0.93), darker(p.colour, 0.12), 1.30, 0.36)
    body = _banana(q, p.colour, 1.30, 0.42)
    q.mark(abs(q.circle(0.0, -0.80, 1.42)) - 0.03, darker(p.colour, 0.35), 0.55, inside=body + 0.10)
    q.mark(abs(q.circle(0.0, -0.90, 1.18)) - 0.06, lighter(p.colour, 0.7), 0.55, inside=body + 0.12)
    if p.texture == "spotted":
        spot = (124, 84, 48) if p.name != "brown" else (72, 46, 36)
        for cx, cy, r in ((-0.86, 0.14, 0.09), (-0.44, 0.42, 0.11), (0.06, 0.52, 0.09), (0.50, 0.36, 0.11),
                          (0.16, 0.28, 0.06), (0.92, 0.08, 0.08)):
            q.mark(q.circle(cx, cy, r), spot, 0.9, inside=body)
    q.fill(q.capsule(1.24, -0.56, 1.32, -0.84, 0.12, 0.09), mix(p.colour, (120, 96, 50), 0.6))
    q.fill(q.circle(-1.28, -0.56, 0.09), (96, 70, 50), outline=0.6)


def draw_cake(p: Pen) -> None:
    """A round cake with icing that runs down, cherries and a candle."""
    plate = p.ellipse(0, 0.84, 1.04, 0.14)
    p.fill(plate, (236, 238, 244))
    sponge = union(p.box(0, 0.46, 0.86, 0.34, 0.06), p.ellipse(0, 0.80, 0.86, 0.12))
    p.fill(sponge, (250, 226, 178) if p.name != "yellow" else (214, 150, 100), textured=True, period=0.26,
           accent=(202, 120, 92) if p.name != "brown" else (240, 190, 160))
    drips = union(*(p.capsule(cx, 0.08, cx, 0.22 + d, 0.135) for cx, d in
                    zip((-0.70, -0.42, -0.14, 0.14, 0.42, 0.70), (0.10, 0.26, 0.06, 0.20, 0.04, 0.22))))
    icing = union(drips, p.ellipse(0, 0.04, 0.88, 0.24), p.box(0, 0.14, 0.86, 0.10, 0.06))
    p.fill(icing)
    p.mark(p.ellipse(0, 0.00, 0.72, 0.14), lighter(p.colour, 0.5), 0.6)
    for cx, cy in ((-0.52, -0.10), (0.50, -0.10), (-0.26, 0.02), (0.26, 0.02)):
        p.fill(p.circle(cx, cy, 0.115), (214, 52, 64), outline=0.7)
        p.mark(p.circle(cx - 0.03, cy - 0.04, 0.03), (255, 220, 220))
    candle = p.box(0, -0.36, 0.065, 0.30, 0.02)
    p.fill(candle, (126, 190, 232))
    p.mark(abs((p.y + p.x) % 0.18 - 0.09) - 0.035, (255, 255, 255), 0.9, inside=candle)
    p.glow(p.circle(0, -0.80, 0.1), (255, 220, 120), 0.14, 0.5)
    p.fill(blend(p.circle(0, -0.77, 0.085), p.capsule(0, -0.80, 0.01, -0.95, 0.06, 0.01), 0.06),
           (255, 186, 60), outline=0.7)
    p.mark(p.circle(0, -0.75, 0.04), (255, 246, 190))


def draw_ball(p: Pen) -> None:
    """A ball; a plain one shows the panels of a beach ball by a shade."""
    disc = p.circle(0, 0, 0.95)
    turn = 0.6 * p.vary(1)
    if p.texture == "spotted":
        p.fill(disc)
        for cx, cy, r in ((-0.10, -0.05, 0.25), (-0.62, -0.42, 0.20), (0.56, -0.38, 0.22),
                          (-0.52, 0.46, 0.22), (0.42, 0.50, 0.24), (0.02, -0.74, 0.15), (0.84, 0.18, 0.12),
                          (-0.06, 0.84, 0.12), (-0.88, 0.06, 0.12)):
            q = p.at(0, 0, turn)
            q.mark(q.circle(cx, cy, r), p.accent, inside=disc + 0.02)
    else:
        p.fill(disc, textured=True, period=0.60, angle=turn)
    if p.texture == "plain":
        q = p.at(0, 0, turn)
        for cx in (-0.62, 0.62):
            q.mark(abs(q.ellipse(cx, 0, 0.72, 1.1)) - 0.028, darker(p.colour, 0.35), 0.55, inside=disc)
    p.mark(cut(disc, p.circle(-0.16, -0.18, 0.92)), INK, 0.16)
    _shine(p, -0.42, -0.46, 1.2)


def draw_kite(p: Pen) -> None:
    """A diamond kite with a tail of bows."""
    top, side, low = (0.06, -0.96), 0.54, 0.20
    q = p.at(0.0, -0.34, 0.10)
    tail = [(0.0, 0.20), (-0.16, 0.46), (0.10, 0.66), (-0.14, 0.92)]
    p.stroke(p.curve(tail, 0.014), _STRING)
    for (cx, cy), tone in zip(tail[1:], ((250, 200, 80), (120, 190, 230), (240, 130, 150))):
        for turn in (-1, 1):
            p.fill(p.polygon([(cx, cy), (cx + turn * 0.16, cy - 0.075), (cx + turn * 0.16, cy + 0.075)],
                             0.012), tone, outline=0.7)
    face = q.polygon([(top[0] - 0.06, -0.60), (side, -0.10), (0, low + 0.36), (-side, -0.10)], 0.02)
    q.fill(face, textured=True, period=0.36)
    q.mark(q.polygon([(0, -0.60), (-side, -0.10), (0, -0.10)], 0.0), (255, 255, 255), 0.28, inside=face)
    q.mark(q.polygon([(0, 0.56), (side, -0.10), (0, -0.10)], 0.0), INK, 0.14, inside=face)
    q.mark(union(q.capsule(0, -0.60, 0, 0.56, 0.016), q.capsule(-side, -0.10, side, -0.10, 0.016)),
           darker(p.colour, 0.5), 0.9)


def draw_balloon(p: Pen) -> None:
    """A balloon on a wavy string."""
    w = 0.05 * p.vary(1)
    p.stroke(p.curve([(0, 0.26), (0.07 + w, 0.42), (-0.05, 0.60), (0.05, 0.78), (0.0, 0.96)], 0.012), _STRING)
    body = blend(p.ellipse(0, -0.40, 0.46, 0.54), p.ellipse(0, -0.10, 0.22, 0.26), 0.3)
    p.fill(p.polygon([(0, 0.10), (0.085, 0.26), (-0.085, 0.26)], 0.015), darker(p.colour, 0.15))
    p.fill(body, textured=True, period=0.32)
    p.mark(cut(body, p.ellipse(-0.08, -0.46, 0.44, 0.54)), INK, 0.13)
    _shine(p, -0.18, -0.62, 0.75, -0.9)


def draw_cup(p: Pen) -> None:
    """A cup of something hot; the handle is at the right."""
    p.fill(abs(p.ellipse(0.70, 0.14, 0.30, 0.34)) - 0.085, darker(p.colour, 0.05))
    body = p.polygon([(-0.80, -0.46), (0.62, -0.46), (0.46, 0.86), (-0.64, 0.86)], 0.08)
    p.fill(body, textured=True, period=0.38)
    p.mark(p.x + 0.52, (255, 255, 255), 0.22, inside=both(body, -0.72 - p.x))
    p.mark(0.32 - p.x, INK, 0.12, inside=body)
    p.fill(p.ellipse(-0.09, -0.48, 0.78, 0.19), lighter(p.colour, 0.35))
    p.fill(p.ellipse(-0.09, -0.46, 0.62, 0.12), (112, 70, 48), outline=0.5)
    for cx in (-0.30, 0.10):
        steam = [(cx, -0.60), (cx - 0.09, -0.70), (cx + 0.07, -0.82), (cx, -0.95)]
        p.mark(p.curve(steam, 0.045, 0.02), (255, 255, 255), 0.75)


def draw_umbrella(p: Pen) -> None:
    """An umbrella, open or rolled up."""
    if p.pose == "closed":
        p.fill(p.capsule(0, -0.97, 0, -0.80, 0.025), (200, 196, 200), outline=0.7)
        roll = p.polygon([(0, -0.84), (0.21, 0.30), (0.10, 0.40), (-0.10, 0.40), (-0.21, 0.30)], 0.04)
        p.fill(roll, textured=True, period=0.28)
        for side in (-1, 1):
            p.mark(p.capsule(0, -0.76, side * 0.10, 0.34, 0.012), darker(p.colour, 0.45), 0.8)
        p.fill(p.box(0, 0.16, 0.20, 0.04, 0.01), lighter(p.colour, 0.5), outline=0.6)
        handle = union(p.capsule(0, 0.40, 0, 0.80, 0.045), p.arc(0.10, 0.82, 0.10, 0.0, math.pi, 0.045))
        p.fill(handle, (140, 92, 62), outline=0.8)
        return
    pole = union(p.capsule(0, -0.6, 0, 0.80, 0.04), p.arc(0.13, 0.80, 0.13, 0.0, math.pi, 0.04))
    p.fill(pole, (140, 92, 62), outline=0.8)
    p.fill(p.capsule(0, -0.98, 0, -0.84, 0.03), (200, 196, 200), outline=0.7)
    dome = both(p.ellipse(0, 0.02, 1.02, 0.90), p.y - 0.06)
    for cx in (-0.765, -0.255, 0.255, 0.765):
        dome = cut(dome, p.ellipse(cx, 0.09, 0.235, 0.16))
    p.fill(dome, textured=True, period=0.34, angle=0.0 if p.texture != "striped" else 1.57)
    for cx in (-0.51, 0.0, 0.51):
        rib = abs(p.ellipse(0, 0.02, max(abs(cx), 0.001), 0.90)) - 0.014 if cx else abs(p.x) - 0.014
        p.mark(both(rib, (p.x if cx <= 0 else -p.x) - 0.02), darker(p.colour, 0.45), 0.6, inside=dome)
    p.mark(p.at(-0.42, -0.50, -0.8).ellipse(0, 0, 0.24, 0.07), (255, 255, 255), 0.4)


def draw_clock(p: Pen) -> None:
    """An alarm clock with two bells; the time is the object's own."""
    for side in (-1, 1):
        p.fill(p.capsule(side * 0.36, 0.60, side * 0.52, 0.90, 0.075), darker(p.colour, 0.4))
        bell = p.at(side * 0.46, -0.64, side * 0.62)
        bell.fill(both(bell.circle(0, 0.10, 0.32), bell.y - 0.06), darker(p.colour, 0.12))
        p.fill(p.capsule(side * 0.56, -0.86, side * 0.58, -0.90, 0.05), (220, 206, 170), outline=0.7)
    p.fill(union(p.capsule(0, -0.56, 0, -0.80, 0.035), p.capsule(-0.08, -0.84, 0.08, -0.84, 0.055)),
           (130, 120, 130), outline=0.7)
    p.fill(p.circle(0, 0.14, 0.76))
    p.fill(p.circle(0, 0.14, 0.58), (255, 252, 240), outline=0.6)
    for k in range(12):
        a = math.pi * k / 6
        r = 0.055 if k % 3 == 0 else 0.03
        if k % 3 == 0 or p.pixel < 0.08:
            p.mark(p.circle(0.46 * math.sin(a), 0.14 - 0.46 * math.cos(a), r), (90, 84, 100))
    hour = int(p.vary(1, 0, 11.99))
    minute = int(p.vary(2, 0, 3.99)) * 15
    short, long = math.pi * (hour + minute / 60) / 6, math.pi * minute / 30
    p.mark(p.capsule(0, 0.14, 0.28 * math.sin(short), 0.14 - 0.28 * math.cos(short), 0.055), INK)
    p.mark(p.capsule(0, 0.14, 0.42 * math.sin(long), 0.14 - 0.42 * math.cos(long), 0.04), INK)
    p.mark(p.circle(0, 0.14, 0.07), (222, 70, 66))
