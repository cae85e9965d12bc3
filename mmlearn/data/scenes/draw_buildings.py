"""Drawings of buildings and furniture. Each function draws one object with a ``Pen``, facing right."""


from mmlearn.data.scenes.pen import INK, Pen, darker, lighter, mix, rgb
from mmlearn.data.scenes.shapes import Number
from mmlearn.data.scenes.sheet import Distance, both, cut, union

_GLASS, _WARM, _CREAM = (176, 220, 242), (255, 226, 140), (255, 248, 232)
_WOOD, _DARK_WOOD = (170, 114, 72), (120, 78, 56)


def _bricks(p: Pen, wall: Distance, period: Number) -> None:
    """Texture of a wall: boards, or bricks that stand out by a shade."""
    if p.flat or p.texture == "plain":
        return
    tone = darker(p.colour, 0.34) if p.name not in ("brown", "grey", "purple") else lighter(p.colour, 0.55)
    p.fill(wall, textured=True, period=period, accent=tone, outline=None)


def draw_house(p: Pen) -> None:
    """A house with a roof, chimney, door and two windows."""
    roof = rgb(p.pick(1, ((168, 86, 78), (104, 92, 120), (94, 80, 78), (86, 108, 140))))
    if p.name in ("red", "brown"):
        roof = rgb((104, 92, 120))
    lit = p.vary(2) > -0.2
    pane = _WARM if lit else _GLASS
    side = 1 if p.vary(3) > 0 else -1
    p.fill(p.box(side * 0.46, -0.62, 0.11, 0.28, 0.01), mix(roof, (200, 120, 100), 0.5))
    p.fill(p.box(side * 0.46, -0.90, 0.15, 0.05, 0.02), mix(roof, (120, 70, 70), 0.5))
    wall = p.polygon([(-0.76, 0.96), (-0.76, -0.12), (0, -0.78), (0.76, -0.12), (0.76, 0.96)], 0.01)
    p.fill(wall)
    _bricks(p, wall, 0.24)
    p.mark(p.polygon([(-0.78, -0.10), (0, -0.74), (0.78, -0.10), (0.78, 0.06), (0, -0.58), (-0.78, 0.06)]),
           INK, 0.18, inside=wall)
    p.fill(p.path([(-0.92, -0.06), (0, -0.84), (0.92, -0.06)], 0.10), roof)
    door = union(p.box(-side * 0.30, 0.66, 0.20, 0.30, 0.02), p.circle(-side * 0.30, 0.38, 0.20))
    wood = rgb(p.pick(4, ((138, 88, 58), (66, 104, 142), (150, 70, 70), (70, 120, 90))))
    p.mark(door - 0.05, _CREAM, inside=wall)
    p.fill(door, wood, outline=0.7)
    p.mark(p.circle(-side * 0.30 + 0.11, 0.62, 0.035), (252, 216, 110))
    for cx, cy, half in ((side * 0.36, 0.38, 0.20), (0.0, -0.30, 0.15)):
        p.fill(p.box(cx, cy, half + 0.05, half + 0.05, 0.02), _CREAM, outline=0.7)
        p.mark(p.box(cx, cy, half, half, 0.01), pane)
        cross = union(p.box(cx, cy, half, 0.022), p.box(cx, cy, 0.022, half))
        p.mark(cross, _CREAM)
    p.fill(p.box(side * 0.36, 0.66, 0.28, 0.06, 0.02), (206, 112, 74), outline=0.7)
    for dx, tone in ((-0.18, (240, 120, 140)), (0.0, (255, 206, 90)), (0.18, (240, 120, 140))):
        p.mark(p.circle(side * 0.36 + dx, 0.58, 0.075), tone)
    p.fill(p.box(0, 0.955, 0.80, 0.035, 0.01), mix(p.colour, (130, 120, 120), 0.6), outline=0.7)


def draw_tower(p: Pen) -> None:
    """A tower: a castle's with battlements, or, by variant, one with a pointed roof."""
    roof = rgb(p.pick(1, ((196, 78, 72), (86, 104, 160), (112, 96, 132))))
    if p.name == "red":
        roof = rgb((86, 104, 160))
    pointed = p.vary(2) > 0
    top = -0.36 if pointed else -0.62
    wall = p.polygon([(-0.29, top), (0.29, top), (0.35, 0.96), (-0.35, 0.96)], 0.01)
    p.fill(wall)
    _bricks(p, wall, 0.20 if p.texture == "checked" else 0.36)
    p.mark(p.x + 0.16, (255, 255, 255), 0.16, inside=wall)
    p.mark(0.14 - p.x, INK, 0.12, inside=wall)
    rim = p.box(0, top, 0.38, 0.085, 0.02)
    if pointed:
        p.fill(p.capsule(0, -0.97, 0, -0.80, 0.016), _DARK_WOOD, outline=0.6)
        flag = p.polygon([(0.015, -0.98), (0.20, -0.93), (0.015, -0.87)], 0.005)
        p.fill(flag, (250, 200, 80), outline=0.6)
        p.fill(p.polygon([(0, -0.86), (0.40, top - 0.05), (-0.40, top - 0.05)], 0.03), roof)
        p.mark(p.polygon([(0, -0.82), (-0.10, top - 0.04), (-0.36, top - 0.04)], 0.01), lighter(roof), 0.45)
    else:
        for cx in (-0.31, 0.0, 0.31):
            p.fill(p.box(cx, top - 0.16, 0.085, 0.13, 0.01), darker(p.colour, 0.06))
    p.fill(rim, darker(p.colour, 0.10))
    for cy, half in ((top + 0.36, 0.085), (top + 0.76, 0.085)):
        window = union(p.box(0, cy + 0.05, half, 0.09), p.circle(0, cy - 0.04, half))
        p.fill(window, _WARM if p.vary(3) > -0.3 else (86, 92, 120), outline=0.8)
    door = union(p.box(0, 0.83, 0.13, 0.13), p.circle(0, 0.70, 0.13))
    p.fill(door, _DARK_WOOD, outline=0.8)
    p.mark(p.capsule(0, 0.60, 0, 0.94, 0.010), darker(_DARK_WOOD, 0.5))


def draw_tent(p: Pen) -> None:
    """A ridge tent with an open flap."""
    for cx, cy in ((-1.34, 0.93), (1.34, 0.93)):
        p.stroke(p.capsule(cx * 0.62, 0.10, cx, cy, 0.014), (120, 100, 90))
    p.fill(p.capsule(0, -0.80, 0.03, -0.96, 0.035), _DARK_WOOD)
    side = p.polygon([(0, -0.82), (1.18, 0.92), (-1.18, 0.92)], 0.05)
    p.fill(side, textured=True, period=0.34, angle=0.0 if p.texture != "striped" else 1.57)
    p.mark(p.polygon([(0, -0.80), (1.20, 0.94), (0.42, 0.94)], 0.0), INK, 0.13, inside=side)
    opening = p.polygon([(0, -0.34), (0.44, 0.94), (-0.44, 0.94)], 0.01)
    p.fill(opening, darker(p.colour, 0.66), outline=0.7)
    flap = lighter(p.colour, 0.42)
    p.fill(p.polygon([(0, -0.34), (-0.44, 0.94), (-0.66, 0.94), (-0.30, 0.30)], 0.01), flap, outline=0.7)
    p.fill(p.polygon([(0, -0.34), (0.44, 0.94), (0.66, 0.94), (0.30, 0.30)], 0.01), flap, outline=0.7)
    p.mark(p.capsule(-1.0, 0.92, 1.0, 0.92, 0.03), darker(p.colour, 0.35), 0.7, inside=side)


def draw_chair(p: Pen) -> None:
    """A chair with a padded back; it faces right."""
    wood = _WOOD if p.name not in ("brown", "orange") else _DARK_WOOD
    for cx in (-0.14, 0.52):
        p.fill(p.capsule(cx, 0.25, cx + 0.02, 0.78, 0.05), darker(wood, 0.22))
    back = p.polygon([(-0.46, -0.84), (-0.16, -0.92), (-0.08, 0.20), (-0.40, 0.24)], 0.08)
    p.fill(back, textured=True, period=0.32)
    p.mark(p.polygon([(-0.50, -0.84), (-0.42, -0.86), (-0.36, 0.22), (-0.44, 0.24)], 0.03), INK, 0.16,
           inside=back)
    for cx in (-0.40, 0.32):
        p.fill(p.capsule(cx, 0.30, cx, 0.93, 0.06), wood)
    seat = p.polygon([(-0.46, 0.20), (0.48, 0.20), (0.56, 0.32), (-0.40, 0.36)], 0.08)
    p.fill(seat, lighter(p.colour, 0.12), textured=True, period=0.32, angle=1.57)
    p.mark(p.capsule(-0.44, 0.40, 0.56, 0.38, 0.03), INK, 0.2, inside=seat)


def draw_table(p: Pen) -> None:
    """A table seen a little from above, so that things can stand on it; checked ones wear a cloth."""
    leg = darker(p.colour, 0.18)
    for cx in (-1.06, 1.06):
        p.fill(p.capsule(cx * 0.92, -0.5, cx * 0.92, 0.62, 0.07), darker(p.colour, 0.38))
    for cx in (-1.34, 1.34):
        p.fill(p.capsule(cx, -0.4, cx, 0.90, 0.095, 0.075), leg)
    p.fill(p.box(0, -0.36, 1.40, 0.15, 0.03), darker(p.colour, 0.14))
    top = p.polygon([(-1.22, -0.92), (1.22, -0.92), (1.44, -0.50), (-1.44, -0.50)], 0.05)
    p.fill(top, lighter(p.colour, 0.10))
    if p.texture == "checked":
        cloth = union(p.polygon([(-1.0, -0.94), (1.0, -0.94), (1.18, -0.48), (-1.18, -0.48)], 0.02),
                      p.box(0, -0.28, 1.20, 0.24, 0.02))
        p.fill(cloth, textured=True, period=0.36)
        p.mark(p.y + 0.48, INK, 0.13, inside=both(cloth, -0.48 - p.y))
    else:
        for cy in (-0.80, -0.64):
            p.mark(p.capsule(-1.1, cy, 1.1, cy, 0.016), darker(p.colour, 0.3), 0.35)
        p.mark(p.capsule(-1.38, -0.47, 1.38, -0.47, 0.02), lighter(p.colour, 0.6), 0.7)
        p.fill(p.box(0, -0.33, 0.34, 0.09, 0.03), darker(p.colour, 0.05), outline=0.6)
        p.mark(p.circle(0, -0.33, 0.04), (250, 220, 140))


def draw_bed(p: Pen) -> None:
    """A bed with a quilt of the object's colour; the pillow is at the left end."""
    wood = _WOOD if p.name not in ("orange",) else _DARK_WOOD
    p.fill(p.box(-1.60, -0.02, 0.10, 0.90, 0.07), wood)
    p.fill(p.circle(-1.60, -0.86, 0.11), lighter(wood, 0.2))
    for cx in (-1.52, 1.56):
        p.fill(p.box(cx, 0.84, 0.085, 0.14, 0.02), darker(wood, 0.25))
    p.fill(p.box(0.0, 0.62, 1.62, 0.17, 0.03), wood)
    p.fill(p.box(0, 0.30, 1.54, 0.26, 0.12), (250, 246, 238))
    quilt = union(p.polygon([(-0.70, -0.02), (1.50, -0.02), (1.58, 0.20), (1.58, 0.62), (-0.84, 0.62)], 0.06))
    p.fill(quilt, textured=True, period=0.34)
    p.fill(p.polygon([(-0.76, -0.04), (-0.46, -0.04), (-0.54, 0.64), (-0.90, 0.64)], 0.04),
           lighter(p.colour, 0.6))
    for cx in (0.2, 0.9):
        p.mark(p.arc(cx, -0.3, 0.7, 0.7, 1.5, 0.016), INK, 0.14, inside=quilt)
    pillow = p.at(-1.10, -0.06, -0.16)
    pillow.fill(pillow.box(0, 0, 0.36, 0.19, 0.16), (255, 252, 246))
    p.fill(p.box(1.62, 0.22, 0.09, 0.50, 0.06), wood)
    p.fill(p.circle(1.62, -0.28, 0.10), lighter(wood, 0.2))


def draw_lamp(p: Pen) -> None:
    """A table lamp: the shade carries colour and texture, and glows."""
    p.glow(p.ellipse(0, -0.38, 0.40, 0.42), (255, 240, 180), 0.24, 0.6)
    base = rgb(p.pick(1, ((196, 148, 92), (120, 120, 136), (240, 228, 208), (110, 142, 150))))
    p.fill(p.capsule(0, 0.0, 0, 0.62, 0.055), mix(base, (210, 170, 90), 0.4))
    if p.vary(2) > 0:
        p.fill(p.ellipse(0, 0.56, 0.27, 0.33), base)
        p.mark(p.ellipse(-0.10, 0.48, 0.06, 0.14), (255, 255, 255), 0.6)
    p.fill(cut(p.ellipse(0, 0.94, 0.40, 0.20), p.box(0, 1.45, 1, 0.5)), darker(base, 0.1))
    shade = p.polygon([(-0.30, -0.92), (0.30, -0.92), (0.56, 0.06), (-0.56, 0.06)], 0.04)
    p.fill(shade, textured=True, period=0.34)
    p.mark(p.ellipse(0, 0.02, 0.32, 0.42), (255, 250, 214), 0.42, inside=shade)
    p.mark(p.capsule(-0.54, 0.06, 0.54, 0.06, 0.04), lighter(p.colour, 0.6), 0.9, inside=shade)
    p.stroke(p.capsule(0.30, 0.10, 0.30, 0.34, 0.012), (150, 120, 90))
    p.mark(p.circle(0.30, 0.36, 0.04), (240, 200, 110))
