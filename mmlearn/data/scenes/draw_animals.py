"""Drawings of people and animals. Each function draws one object with a ``Pen``, facing right."""

from collections.abc import Sequence

from mmlearn.data.scenes.pen import INK, Pen, darker, lighter, mix, rgb
from mmlearn.data.scenes.shapes import Number
from mmlearn.data.scenes.sheet import Distance, blend, both, cut, union

_SKIN = ((252, 214, 178), (238, 186, 142), (206, 148, 104), (156, 104, 72), (112, 74, 54))
_HAIR = ((62, 44, 40), (120, 76, 46), (214, 160, 80), (44, 40, 52), (176, 88, 50), (206, 206, 212))
_TROUSERS = ((66, 84, 130), (88, 78, 72), (70, 72, 86), (120, 96, 74), (52, 108, 116))
_BLUSH, _ROSE = (246, 150, 140), (232, 128, 138)


def draw_person(p: Pen) -> None:
    """A person in a shirt of the object's colour: standing, waving or running."""
    skin, hair, cloth = rgb(p.pick(1, _SKIN)), rgb(p.pick(2, _HAIR)), rgb(p.pick(3, _TROUSERS))
    skirt, long_hair = p.vary(4) > 0.3, p.vary(5) > 0.1
    shoe, sleeve, hand = mix(cloth, INK, 0.65), darker(p.colour, 0.06), skin
    running = p.pose == "running"
    cx = 0.10 if running else (-0.10 if p.pose == "waving" else 0.0)
    hip, arm = 0.30, 0.088
    legs: list[Sequence[tuple[float, float]]]
    lean = 0.10 if running else 0.0
    if running:
        legs = [((cx - 0.02, hip), (cx - 0.26, 0.52), (cx - 0.60, 0.62)),
                ((cx + 0.04, hip), (cx + 0.34, 0.46), (cx + 0.30, 0.90))]
    else:
        legs = [((-0.13 + cx, hip), (-0.14 + cx, 0.90)), ((0.13 + cx, hip), (0.14 + cx, 0.90))]
    back = [(cx - 0.05, -0.22), (cx + 0.30, 0.02), (cx + 0.50, -0.16)] if running else [(cx + 0.22, -0.24),
                                                                                        (cx + 0.32, 0.22)]
    p.fill(p.path(back, arm, 0.075), darker(sleeve, 0.10))
    p.fill(p.circle(*back[-1], 0.085), hand)
    if long_hair:
        p.fill(p.ellipse(cx + lean - 0.07, -0.50, 0.27, 0.36), hair)
    for leg in legs:
        bare = skirt and not running
        p.fill(p.path(leg, 0.115, 0.10), skin if bare else cloth)
        fx, fy = leg[-1]
        p.fill(p.capsule(fx - 0.02, fy + 0.02, fx + 0.11, fy + 0.02, 0.08), shoe)
    if skirt and not running:
        p.fill(p.polygon([(cx - 0.15, 0.16), (cx + 0.15, 0.16), (cx + 0.27, 0.54), (cx - 0.27, 0.54)], 0.03),
               cloth)
    body = p.polygon([(cx - 0.17 + lean, -0.26), (cx + 0.17 + lean, -0.26), (cx + 0.17, 0.30),
                      (cx - 0.17, 0.30)], 0.09)
    p.fill(body, textured=True, period=0.26)
    if p.pose == "waving":
        wave = [(cx + 0.20, -0.22), (cx + 0.42, -0.40), (cx + 0.46, -0.76)]
        p.fill(p.path(wave, arm, 0.075), sleeve)
        p.fill(p.circle(cx + 0.47, -0.82, 0.095), hand)
    front = [(cx, -0.22), (cx - 0.30, -0.04), (cx - 0.34, 0.22)] if running else [(cx - 0.22, -0.24),
                                                                                  (cx - 0.32, 0.22)]
    p.fill(p.path(front, arm, 0.075), sleeve)
    p.fill(p.circle(*front[-1], 0.085), hand)
    hx, hy = cx + lean, -0.65
    p.fill(p.circle(hx, hy, 0.285), skin)
    cap = cut(p.circle(hx, hy - 0.02, 0.31), p.ellipse(hx + 0.10, hy + 0.18, 0.30, 0.33))
    p.fill(cap, hair)
    p.eye(hx + 0.05, hy + 0.02, 0.034)
    p.eye(hx + 0.20, hy + 0.02, 0.034)
    p.mark(p.circle(hx - 0.03, hy + 0.12, 0.05), _BLUSH, 0.6)
    p.mark(p.arc(hx + 0.12, hy + 0.08, 0.075, 0.3, 2.84, 0.016), (150, 60, 60))


def _coat(p: Pen, d: Distance, angle: Number = 1.57, period: Number = 0.34) -> None:
    """Fur: the object's colour and texture; stripes and spots are darker, or lighter on dark fur."""
    dark = p.name in ("black", "brown", "grey")
    tone = lighter(p.colour, 0.62) if dark else darker(p.colour, 0.42)
    p.fill(d, textured=True, period=period, angle=angle, accent=tone)


def _cat_head(p: Pen, asleep: bool = False) -> None:
    """A cat's head about the origin, of radius 0.5."""
    inner = mix(p.colour, _ROSE, 0.6)
    for side in (-1, 1):
        p.fill(p.polygon([(side * 0.46, -0.10), (side * 0.43, -0.66), (side * 0.06, -0.38)], 0.04))
        p.mark(p.polygon([(side * 0.38, -0.22), (side * 0.38, -0.52), (side * 0.16, -0.36)], 0.02), inner)
    head = p.ellipse(0, 0, 0.56, 0.47)
    p.fill(head)
    if p.texture == "striped":
        tone = lighter(p.colour, 0.62) if p.name in ("black", "brown", "grey") else darker(p.colour, 0.42)
        for cx in (-0.13, 0.0, 0.13):
            p.mark(p.capsule(cx, -0.42, cx * 0.8, -0.24, 0.035, 0.02), tone)
    muzzle = lighter(p.colour, 0.55) if p.name != "white" else (255, 240, 232)
    p.mark(union(p.ellipse(-0.11, 0.20, 0.15, 0.13), p.ellipse(0.11, 0.20, 0.15, 0.13)), muzzle)
    if asleep:
        for side in (-1, 1):
            p.mark(p.arc(side * 0.25, -0.04, 0.10, 0.35, 2.8, 0.024), INK)
    else:
        for side in (-1, 1):
            white = p.ellipse(side * 0.24, -0.02, 0.125, 0.135)
            if p.pixel < 0.14:
                p.mark(white, (206, 226, 110) if p.vary(9) > 0 else (150, 214, 214))
                p.mark(p.ellipse(side * 0.24, -0.02, 0.055, 0.125), INK)
                p.mark(p.circle(side * 0.24 + 0.03, -0.07, 0.032), (255, 255, 255))
            else:
                p.mark(p.circle(side * 0.24, -0.02, 0.10), INK if p.name != "black" else (206, 226, 110))
    p.mark(p.polygon([(-0.06, 0.11), (0.06, 0.11), (0, 0.18)], 0.015), _ROSE)
    whisker = (70, 62, 70) if p.name != "black" else (230, 226, 226)
    for side in (-1, 1):
        p.mark(p.arc(side * 0.07, 0.20, 0.07, 0.2, 2.94, 0.014), (90, 60, 66))
        if p.pixel < 0.08:
            for dy in (-0.03, 0.06):
                p.stroke(p.capsule(side * 0.28, 0.17 + dy * 0.5, side * 0.72, 0.13 + dy * 2.2, 0.008),
                         whisker)


def draw_cat(p: Pen) -> None:
    """A cat: standing in profile, sitting, or asleep in a curl."""
    deep = darker(p.colour, 0.14)
    if p.pose == "sitting":
        p.fill(p.curve([(-0.15, 0.80), (-0.56, 0.80), (-0.66, 0.52), (-0.56, 0.30)], 0.10, 0.075), deep)
        _coat(p, blend(p.ellipse(-0.10, 0.56, 0.50, 0.42), p.ellipse(0.05, 0.15, 0.34, 0.50), 0.2), 0.2)
        for cx in (0.02, 0.28):
            p.fill(p.capsule(cx, 0.40, cx + 0.01, 0.86, 0.095))
            p.fill(p.ellipse(cx + 0.04, 0.90, 0.13, 0.085), lighter(p.colour, 0.25))
        p.mark(p.ellipse(0.16, 0.22, 0.15, 0.24), lighter(p.colour, 0.45), 0.8)
        _cat_head(p.at(0.10, -0.42, 0.0, 0.80))
    elif p.pose == "sleeping":
        _coat(p, p.ellipse(-0.10, 0.22, 1.42, 0.74))
        p.mark(p.arc(-0.15, 0.55, 0.95, 3.3, 4.6, 0.025), darker(p.colour, 0.4), 0.5)
        p.fill(p.curve([(-1.25, 0.60), (-0.75, 0.84), (-0.1, 0.84), (0.45, 0.74)], 0.15, 0.12), deep)
        _cat_head(p.at(0.98, 0.14, 0.12, 1.02), asleep=True)
    else:
        p.fill(p.curve([(-0.72, 0.02), (-1.02, -0.14), (-1.14, -0.46),
                        (-1.00 + p.vary(6, -0.10, 0.18), -0.78)], 0.115, 0.085))
        for cx in (-0.48, 0.52):
            p.fill(p.capsule(cx, 0.30, cx + 0.02, 0.86, 0.12, 0.10), darker(p.colour, 0.22))
        for cx in (-0.68, 0.30):
            p.fill(p.capsule(cx, 0.25, cx, 0.86, 0.14, 0.105))
            p.fill(p.ellipse(cx + 0.05, 0.89, 0.15, 0.09), lighter(p.colour, 0.25))
        _coat(p, blend(p.ellipse(-0.18, 0.10, 0.72, 0.37), p.circle(0.42, -0.05, 0.30), 0.2))
        _cat_head(p.at(0.70, -0.36, 0.06 * p.vary(7), p.vary(8, 0.80, 0.92)))


def _dog_head(p: Pen) -> None:
    """A dog's head in profile about the origin, of radius 0.5."""
    floppy = p.vary(3) > -0.2
    ear = darker(p.colour, 0.38) if p.name != "black" else lighter(p.colour, 0.22)
    snout = lighter(p.colour, 0.4)
    head = blend(p.circle(0, 0, 0.46), p.ellipse(0.40, 0.16, 0.36, 0.24), 0.16)
    if not floppy:
        p.fill(p.polygon([(-0.32, -0.22), (-0.26, -0.62), (0.04, -0.36)], 0.06), ear)
    p.fill(head)
    p.mark(both(head, p.ellipse(0.50, 0.26, 0.34, 0.20)), snout)
    if p.texture == "spotted":
        p.mark(p.circle(0.10, -0.08, 0.24), ear, inside=head)
    if floppy:
        p.fill(p.at(-0.28, -0.04, 0.28).ellipse(0, 0.16, 0.19, 0.42), ear)
    p.mark(p.ellipse(0.70, 0.07, 0.115, 0.095), INK)
    if p.name == "black" and p.pixel < 0.2:
        p.mark(p.circle(0.16, -0.10, 0.105), (248, 246, 240))
    p.eye(0.17, -0.10, 0.080)
    p.mark(p.arc(0.42, 0.20, 0.20, 0.2, 1.9, 0.022), darker(p.colour, 0.7))
    p.fill(p.ellipse(0.40, 0.46, 0.10, 0.15), (238, 116, 126), outline=0.7)


def draw_dog(p: Pen) -> None:
    """A dog: standing or sitting with a wagging tail, or running with ears behind."""
    far = darker(p.colour, 0.22)
    collar = rgb(p.pick(4, ((214, 66, 64), (64, 128, 204), (246, 190, 60))))
    if p.pose == "sitting":
        p.fill(p.curve([(-0.35, 0.72), (-0.62, 0.62), (-0.70, 0.32)], 0.10, 0.06))
        _coat(p, blend(p.ellipse(-0.16, 0.56, 0.46, 0.40), p.at(0.06, 0.18, 0.22).ellipse(0, 0, 0.32, 0.56),
                       0.2))
        p.fill(p.ellipse(-0.02, 0.88, 0.30, 0.10))
        for cx in (0.12, 0.32):
            p.fill(p.capsule(cx, 0.30, cx + 0.02, 0.84, 0.105))
            p.fill(p.ellipse(cx + 0.07, 0.89, 0.15, 0.095))
        p.fill(p.capsule(-0.14, -0.12, 0.36, -0.05, 0.07), collar)
        _dog_head(p.at(0.08, -0.46, -0.08, 0.80))
        return
    running = p.pose == "running"
    hind: list[Sequence[tuple[float, float]]]
    fore: list[Sequence[tuple[float, float]]]
    if running:
        hind = [((-0.78, 0.20), (-1.10, 0.42), (-1.46, 0.50)), ((-0.62, 0.24), (-0.86, 0.58), (-1.14, 0.84))]
        fore = [((0.48, 0.24), (0.78, 0.46), (1.02, 0.66)), ((0.40, 0.26), (0.50, 0.60), (0.78, 0.88))]
        tail = [(-0.92, 0.00), (-1.26, -0.22), (-1.44, -0.52)]
    else:
        hind = [((-0.46, 0.25), (-0.44, 0.88)), ((-0.68, 0.20), (-0.70, 0.88))]
        fore = [((0.42, 0.25), (0.44, 0.88)), ((0.22, 0.25), (0.20, 0.88))]
        tail = [(-0.70, 0.00), (-0.96, -0.22), (-1.06, -0.58)]
    p.fill(p.curve(tail, 0.12, 0.07))
    for legs in (hind, fore):
        p.fill(p.path(legs[0], 0.13, 0.10), far)
    for legs in (hind, fore):
        p.fill(p.path(legs[1], 0.17, 0.105))
        if not running:
            p.fill(p.ellipse(legs[1][-1][0] + 0.06, 0.89, 0.17, 0.095), lighter(p.colour, 0.2))
    length = 0.92 if running else 0.74
    chest = blend(p.ellipse(-0.16, 0.12, length, 0.34), p.at(0.48, -0.10, 0.6).ellipse(0, 0, 0.26, 0.40),
                  0.22)
    _coat(p, chest)
    p.mark(both(p.ellipse(0.42, 0.26, 0.22, 0.20), chest), lighter(p.colour, 0.4), 0.8)
    hx, hy = (1.02, -0.38) if running else (0.66, -0.44)
    p.fill(p.capsule(hx - 0.44, hy + 0.30, hx - 0.08, hy + 0.46, 0.075), collar)
    _dog_head(p.at(hx, hy, 0.0, 0.80))


def draw_bird(p: Pen) -> None:
    """A bird: on its feet, or in flight with raised wings."""
    belly, wing = lighter(p.colour, 0.55), darker(p.colour, 0.26)
    if p.name == "white":
        belly, wing = rgb((255, 250, 240)), rgb((206, 212, 226))
    beak = rgb((250, 176, 56)) if p.name not in ("orange", "yellow") else rgb((226, 96, 48))
    if p.pose == "flying":
        far = p.at(0.30, 0.20, 0.10)
        far.fill(union(far.ellipse(0, -0.52, 0.22, 0.58), far.ellipse(-0.16, -0.40, 0.20, 0.46)),
                 darker(wing, 0.15))
        p.fill(p.polygon([(-0.70, 0.36), (-1.30, 0.14), (-1.22, 0.44), (-1.28, 0.72)], 0.05), wing)
        p.fill(p.polygon([(1.02, 0.12), (1.32, 0.26), (1.00, 0.34)], 0.02), beak)
        body = blend(p.ellipse(-0.05, 0.42, 0.86, 0.40), p.circle(0.72, 0.18, 0.34), 0.25)
        p.fill(body)
        p.mark(p.ellipse(0.05, 0.66, 0.66, 0.24), belly, inside=body)
        near = p.at(0.12, 0.34, -0.52)
        feathers = blend(near.ellipse(0.02, -0.58, 0.27, 0.70), near.ellipse(-0.24, -0.44, 0.22, 0.54), 0.05)
        feathers = blend(feathers, near.ellipse(-0.44, -0.28, 0.17, 0.36), 0.05)
        near.fill(feathers, wing, textured=True, period=0.34)
        p.eye(0.82, 0.10, 0.085)
        return
    for cx in (-0.06, 0.20):
        p.fill(p.path([(cx, 0.55), (cx + 0.02, 0.92), (cx + 0.17, 0.94)], 0.045), beak, outline=0.8)
    p.fill(p.polygon([(-0.58, 0.22), (-1.06, 0.34), (-1.02, 0.62), (-0.46, 0.52)], 0.05), wing)
    p.fill(p.polygon([(0.78, -0.54), (1.10, -0.40), (0.76, -0.26)], 0.03), beak)
    body = blend(p.at(-0.05, 0.20, 0.30).ellipse(0, 0, 0.72, 0.52), p.circle(0.42, -0.48, 0.44), 0.30)
    p.fill(body)
    p.mark(p.ellipse(0.32, 0.26, 0.40, 0.42), belly, inside=body)
    p.fill(p.at(-0.22, 0.20, 0.42).ellipse(0, 0, 0.52, 0.29), wing, textured=True, period=0.32)
    if p.vary(2) > 0:
        p.fill(p.path([(0.34, -0.86), (0.20, -0.96)], 0.06, 0.03), wing)
    p.eye(0.54, -0.52, 0.085)
    p.mark(p.circle(0.40, -0.34, 0.08), _BLUSH, 0.6)


def draw_fish(p: Pen) -> None:
    """A fish, swimming level or jumping out of the water in an arc of drops."""
    q = p
    if p.pose == "jumping":
        for cx, cy, r in ((-0.78, 0.80, 0.12), (-0.40, 0.88, 0.10), (-0.98, 0.52, 0.08), (-0.10, 0.90, 0.08),
                          (-0.62, 0.58, 0.07)):
            p.fill(union(p.circle(cx, cy, r), p.capsule(cx, cy, cx, cy - 1.9 * r, 0.7 * r, 0.01)),
                   (190, 228, 250), outline=0.8)
        q = p.at(0.10, -0.10, -0.68, 0.66)
    fin = darker(p.colour, 0.20)
    sway = 0.06 * p.vary(1)
    q.fill(q.polygon([(-0.70, 0.0), (-1.56, -0.62 + sway), (-1.34, sway), (-1.56, 0.62 + sway)], 0.07), fin)
    q.fill(q.polygon([(-0.50, -0.40), (-0.26, -0.92), (0.42, -0.82), (0.46, -0.48)], 0.05), fin)
    q.fill(q.polygon([(-0.20, 0.50), (-0.36, 0.90), (0.16, 0.62)], 0.05), fin)
    body = blend(q.ellipse(0.30, 0, 1.28, 0.70), q.ellipse(-0.62, 0, 0.5, 0.26), 0.3)
    q.fill(body, textured=True, period=0.52, angle=1.57)
    face = both(body, q.circle(1.46, 0.02, 0.72))
    q.mark(face, lighter(p.colour, 0.28))
    q.mark(q.arc(1.46, 0.02, 0.73, 2.42, 3.86, 0.03), darker(p.colour, 0.4), inside=body)
    q.fill(q.at(0.16, 0.18, 0.5).ellipse(-0.12, 0, 0.30, 0.15), fin)
    if q.pixel < 0.26:
        q.mark(q.circle(1.10, -0.16, 0.19), (255, 255, 255))
    q.eye(1.13, -0.16, 0.11)
    q.mark(q.arc(1.40, 0.14, 0.14, 1.5, 3.0, 0.03), darker(p.colour, 0.65))


def draw_rabbit(p: Pen) -> None:
    """A rabbit with long ears and a round tail: sitting, or in the middle of a hop."""
    inner, deep = mix(p.colour, _ROSE, 0.55), darker(p.colour, 0.13)
    hop = p.pose == "hopping"
    tail = lighter(p.colour, 0.75) if p.name != "white" else rgb((236, 232, 232))
    if hop:
        p.fill(p.path([(-0.60, 0.45), (-0.92, 0.72), (-1.10, 0.90)], 0.16, 0.10), deep)
        p.fill(p.path([(0.30, 0.50), (0.56, 0.74), (0.78, 0.80)], 0.12, 0.09), deep)
        p.fill(p.circle(-1.00, 0.16, 0.19), tail)
        _coat(p, blend(p.at(-0.34, 0.32, -0.2).ellipse(0, 0, 0.70, 0.46), p.circle(0.30, 0.20, 0.34), 0.25),
              period=0.3)
        head = p.at(0.66, -0.08, 0.0, 0.74)
    else:
        p.fill(p.circle(-0.60, 0.62, 0.17), tail)
        _coat(p, blend(p.ellipse(-0.12, 0.50, 0.52, 0.46), p.circle(0.16, 0.24, 0.32), 0.25), period=0.3)
        p.fill(p.ellipse(-0.14, 0.64, 0.22, 0.20), deep)
        p.fill(p.ellipse(-0.02, 0.90, 0.32, 0.10))
        p.fill(p.capsule(0.34, 0.46, 0.38, 0.86, 0.11))
        p.fill(p.ellipse(0.44, 0.90, 0.17, 0.09))
        head = p.at(0.26, -0.14, 0.0, 0.74)
    tilt = (-0.62, -0.28) if hop else (-0.18 - 0.1 * p.vary(2), 0.26 + 0.2 * p.vary(3))
    for angle, cx in zip(tilt, (-0.20, 0.16)):
        ear = head.at(cx, -0.30, angle)
        ear.fill(ear.ellipse(0, -0.42, 0.17, 0.50))
        ear.mark(ear.ellipse(0, -0.40, 0.085, 0.36), inner)
    head.fill(blend(head.circle(0, 0, 0.46), head.ellipse(0.22, 0.14, 0.34, 0.26), 0.1))
    head.mark(head.ellipse(0.32, 0.20, 0.22, 0.17), lighter(p.colour, 0.5))
    if p.name == "black":
        head.mark(head.circle(0.16, -0.08, 0.12), (240, 238, 238))
    head.eye(0.17, -0.08, 0.085)
    head.mark(head.ellipse(0.52, 0.08, 0.07, 0.055), _ROSE)
    head.mark(head.circle(0.02, 0.16, 0.09), _BLUSH, 0.55)
    if head.pixel < 0.1:
        for dy in (0.0, 0.12):
            head.stroke(head.capsule(0.36, 0.18 + dy * 0.4, 0.70, 0.16 + dy * 1.6, 0.007), (110, 100, 106))
