"""Drawings of vehicles. Each function draws one object with a ``Pen``, facing right."""

import math

from mmlearn.data.scenes.pen import INK, Pen, darker, lighter, mix
from mmlearn.data.scenes.shapes import Number
from mmlearn.data.scenes.sheet import Distance, blend, both, union

_GLASS, _LIGHT, _TYRE, _RIM = (178, 222, 242), (255, 234, 150), (52, 50, 62), (206, 208, 216)
_WOOD = (156, 104, 68)


def _wheel(p: Pen, cx: Number, cy: Number, r: Number) -> None:
    p.fill(p.circle(cx, cy, r), _TYRE, outline=0.6)
    p.mark(p.circle(cx, cy, 0.56 * r), _RIM)
    p.mark(p.circle(cx, cy, 0.20 * r), _TYRE)


def _window(p: Pen, d: Distance) -> None:
    """A pane with a slanted reflection."""
    p.mark(d - 0.6 * p.line, darker(p.colour, 0.6))
    p.mark(d, _GLASS)
    p.mark(abs((p.x * 0.8 + p.y * 0.6) % 0.62 - 0.31) - 0.06, (255, 255, 255), 0.45, inside=d)


def draw_car(p: Pen) -> None:
    """A car with a rounded cabin; checked ones are taxis with a sign."""
    back, front = -0.98 + 0.12 * p.vary(1), 0.44 + 0.10 * p.vary(2)
    if p.texture == "checked":
        p.fill(p.box(-0.22, -0.88, 0.22, 0.10, 0.03), (255, 236, 150))
    cabin = p.polygon([(back - 0.16, 0.05), (back + 0.20, -0.66), (front - 0.16, -0.66),
                       (front + 0.40, 0.05)], 0.10)
    body = blend(p.box(0, 0.28, 1.86, 0.36, 0.24), cabin, 0.10)
    p.fill(body)
    if p.texture == "striped":
        for cy in (0.10, 0.30):
            p.mark(abs(p.y - cy) - 0.06, p.accent, inside=body)
    elif p.texture == "checked":
        u, v = p.x % 0.36 - 0.18, p.y - 0.24
        field = both(abs(abs(u) - 0.09) - 0.09, abs(v) - 0.20)
        same = (u * v > 0)
        p.mark(abs(v) - 0.20, (250, 248, 242), inside=body)
        p.paint(((field < 0.05) & same & (abs(v) < 0.20) & (body < 0)).astype("float32"), INK)
    middle = (back + front) / 2 + 0.06
    _window(p, p.polygon([(back + 0.06, -0.06), (back + 0.30, -0.54), (middle - 0.07, -0.54),
                          (middle - 0.07, -0.06)], 0.03))
    _window(p, p.polygon([(middle + 0.09, -0.06), (middle + 0.09, -0.54), (front - 0.16, -0.54),
                          (front + 0.20, -0.06)], 0.03))
    p.mark(p.capsule(middle + 0.01, 0.05, middle + 0.01, 0.52, 0.018), darker(p.colour, 0.45), 0.8)
    p.mark(p.capsule(middle - 0.34, 0.14, middle - 0.20, 0.14, 0.035), darker(p.colour, 0.45))
    p.mark(p.capsule(-1.5, 0.02, 1.5, 0.02, 0.03), lighter(p.colour, 0.5), 0.5, inside=body)
    p.fill(p.ellipse(1.72, 0.18, 0.13, 0.15), _LIGHT, outline=0.7)
    p.fill(p.box(-1.80, 0.20, 0.08, 0.13, 0.04), (226, 74, 66), outline=0.7)
    p.fill(p.capsule(-1.80, 0.56, 1.80, 0.56, 0.075), (196, 198, 208), outline=0.7)
    for cx in (-1.02, 1.06):
        p.mark(p.circle(cx, 0.58, 0.44), darker(p.colour, 0.6), inside=body)
        _wheel(p, cx, 0.60, 0.37)


def draw_bus(p: Pen) -> None:
    """A bus: a row of windows, a door, and lights."""
    body = p.box(0, -0.08, 1.82, 0.82, 0.22)
    p.fill(body)
    if p.texture == "striped":
        for cy in (0.10, 0.32):
            p.mark(abs(p.y - cy) - 0.065, p.accent, inside=body)
    p.mark(p.box(0, -0.84, 1.7, 0.06, 0.02), lighter(p.colour, 0.6), 0.8, inside=body)
    for i in range(4):
        _window(p, p.box(-1.42 + 0.56 * i, -0.36, 0.22, 0.25, 0.05))
    _window(p, p.box(1.58, -0.30, 0.19, 0.32, 0.06))
    door = p.box(0.94, 0.12, 0.24, 0.56, 0.04)
    p.mark(door - 0.6 * p.line, darker(p.colour, 0.6))
    p.mark(door, mix(_GLASS, (120, 150, 190), 0.35))
    p.mark(p.capsule(0.94, -0.42, 0.94, 0.66, 0.02), darker(p.colour, 0.5))
    p.fill(p.ellipse(1.76, 0.42, 0.10, 0.12), _LIGHT, outline=0.7)
    p.fill(p.box(-1.78, 0.40, 0.06, 0.12, 0.03), (226, 74, 66), outline=0.7)
    for cx in (-1.06, 1.40):
        p.mark(p.circle(cx, 0.68, 0.36), darker(p.colour, 0.6), inside=body)
        _wheel(p, cx, 0.69, 0.29)


def draw_boat(p: Pen) -> None:
    """A sailing boat: the sails carry colour and texture, the hull is trimmed with it."""
    hull = p.polygon([(-0.88, 0.40), (0.90, 0.34), (0.62, 0.92), (-0.60, 0.92)], 0.05)
    mast = -0.04 + 0.05 * p.vary(1)
    p.fill(p.capsule(mast, -0.90, mast, 0.42, 0.035), _WOOD)
    sail = p.polygon([(mast - 0.06, -0.84), (mast - 0.06, 0.24), (-0.84, 0.24), (-0.52, -0.30)], 0.03)
    p.fill(sail, textured=True, period=0.36)
    jib = p.polygon([(mast + 0.08, -0.76), (mast + 0.52, -0.16), (0.80, 0.24), (mast + 0.08, 0.24)], 0.03)
    p.fill(jib, lighter(p.colour, 0.30))
    p.fill(p.polygon([(mast, -0.98), (mast + 0.26, -0.91), (mast, -0.84)], 0.01), (226, 74, 66), outline=0.7)
    p.fill(hull, _WOOD if p.name != "brown" else (240, 230, 214))
    p.mark(p.y - 0.54, p.colour, inside=hull)
    p.mark(abs(p.y - 0.56) - 0.02, lighter(p.colour, 0.7), inside=hull)
    for cx in (-0.36, 0.02, 0.40):
        p.fill(p.circle(cx, 0.72, 0.065), (250, 240, 214), outline=0.6)
    foam = union(*(p.ellipse(cx, 0.95, 0.24, 0.05) for cx in (-0.62, -0.2, 0.24, 0.64)))
    p.mark(foam, (244, 252, 252), 0.9)


def draw_bicycle(p: Pen) -> None:
    """A bicycle: two spoked wheels, frame, saddle, handlebar."""
    thick = max(0.06, 0.55 * p.pixel)
    for cx in (-0.86, 0.86):
        ring = abs(p.circle(cx, 0.40, 0.52)) - max(0.055, 0.5 * p.pixel)
        p.fill(ring, _TYRE, outline=0.4)
        if p.pixel < 0.12:
            for k in range(4):
                a = 0.4 + math.pi * k / 4
                c, s = 0.46 * math.cos(a), 0.46 * math.sin(a)
                p.mark(p.capsule(cx - c, 0.40 - s, cx + c, 0.40 + s, 0.008), (170, 172, 184), 0.8)
        p.fill(p.circle(cx, 0.40, 0.08), _RIM, outline=0.6)
    crank, seat, head = (-0.12, 0.42), (-0.36, -0.36), (0.56, -0.42)
    frame = union(p.path([(-0.86, 0.40), (-0.30, -0.16), (0.60, -0.26)], thick),
                  p.path([(-0.86, 0.40), crank, (0.62, -0.16)], thick),
                  p.capsule(*crank, *seat, thick), p.path([head, (0.64, -0.10), (0.86, 0.40)], thick))
    p.fill(frame, outline=0.9)
    p.fill(p.path([(0.84, -0.56), (0.62, -0.68), (0.52, -0.62), head], 0.05), (96, 92, 104), outline=0.7)
    p.fill(p.capsule(-0.62, -0.46, -0.20, -0.44, 0.105, 0.055), (96, 66, 56), outline=0.8)
    p.fill(p.circle(*crank, 0.13), (214, 214, 222), outline=0.8)
    p.fill(p.path([(-0.24, 0.72), crank, (0.02, 0.14)], 0.04), (96, 92, 104), outline=0.6)
    if p.vary(1) > 0:                                             # some have a basket
        p.fill(p.polygon([(0.66, -0.44), (1.16, -0.44), (1.08, -0.10), (0.74, -0.10)], 0.03), (214, 170, 110))


def draw_plane(p: Pen) -> None:
    """An airliner with a row of windows."""
    wing = darker(p.colour, 0.22) if p.name != "white" else mix(p.colour, (110, 130, 180), 0.35)
    p.fill(p.polygon([(0.30, -0.10), (-0.34, -0.78), (-0.62, -0.78), (-0.22, -0.06)], 0.06), wing)
    p.fill(p.polygon([(-1.20, -0.08), (-1.76, -0.88), (-1.36, -0.88), (-0.80, -0.16)], 0.06))
    body = blend(p.capsule(-1.45, -0.04, 1.20, 0.06, 0.18, 0.34), p.ellipse(1.22, 0.10, 0.62, 0.30), 0.1)
    p.fill(body)
    if p.texture == "striped":
        p.mark(abs(p.y - 0.20) - 0.07, p.accent, inside=body)
        p.mark(p.x + 1.02, p.accent, inside=both(body, abs(p.x + 1.16) - 0.10))
    p.mark(p.capsule(-1.3, -0.16, 1.1, -0.18, 0.05), lighter(p.colour, 0.7), 0.55, inside=body)
    for i in range(6):
        p.mark(p.circle(-0.78 + 0.30 * i, -0.04, 0.085), mix(_GLASS, (60, 90, 140), 0.45))
    pane = p.polygon([(1.16, -0.16), (1.44, -0.16), (1.60, 0.02), (1.20, 0.02)], 0.02)
    p.mark(both(pane, body + 0.02), mix(_GLASS, (60, 90, 140), 0.45))
    p.fill(p.polygon([(0.46, 0.22), (-0.46, 0.92), (-0.80, 0.92), (-0.26, 0.22)], 0.06), wing)
    p.fill(p.capsule(-0.20, 0.62, 0.10, 0.62, 0.11), lighter(wing, 0.35))
    p.fill(p.polygon([(-1.14, 0.04), (-1.60, 0.26), (-1.78, 0.24), (-1.50, 0.0)], 0.05), wing)
