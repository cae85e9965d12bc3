"""The pen with which a category is drawn: coordinates in the box of an object, shapes, colours, light and
texture.

A drawing function gets a ``Pen`` and fills shapes, back to front. ``y`` goes from -1 (top of the box) to 1
(bottom), ``x`` from ``-aspect`` to ``aspect``; drawings face right, and the pen mirrors them where an object
faces left.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mmlearn.data.scenes import shapes
from mmlearn.data.scenes.graph import SceneObject
from mmlearn.data.scenes.shapes import Edges, Number, Points
from mmlearn.data.scenes.sheet import Distance, Layer, Part, Shape, Sheet, later

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (222, 62, 60), "orange": (246, 142, 48), "yellow": (252, 208, 66), "green": (88, 172, 88),
    "blue": (64, 128, 214), "purple": (146, 94, 196), "pink": (246, 152, 186), "brown": (150, 98, 62),
    "white": (250, 248, 242), "grey": (152, 156, 166), "black": (58, 56, 70),
}
Colour = tuple[Number, Number, Number]
RGB = str | Sequence[Number]                                   # a palette name, or red, green, blue in 0..255
INK: Colour = (38, 30, 48)                                        # darkest line


def rgb(colour: RGB) -> Colour:
    """Colour as a triple in 0..255."""
    if type(colour) is tuple:
        return colour
    r, g, b = PALETTE[colour] if isinstance(colour, str) else colour
    return (r, g, b)


def mix(first: RGB, second: RGB, share: Number) -> Colour:
    """``share`` of the second colour in the first."""
    r, g, b = PALETTE[first] if isinstance(first, str) else first
    u, v, w = PALETTE[second] if isinstance(second, str) else second
    return (r + share * (u - r), g + share * (v - g), b + share * (w - b))


def lighter(colour: RGB, share: Number = 0.4) -> Colour:
    """Towards a warm white."""
    return mix(colour, (255, 252, 240), share)


def darker(colour: RGB, share: Number = 0.3) -> Colour:
    """Towards ink."""
    return mix(colour, INK, share)


class Pen:
    """Draws one object: notes on a sheet what is to be painted, back to front.

    ``colour``: of the object (a triple); ``accent``: of its texture; ``pose``, ``texture``: as in the graph.
    ``x``, ``y`` (h, w) are the coordinates of the pixels that the object may cover, ``pixel`` is the side of
    one.
    """

    def __init__(self, thing: SceneObject, sheet: Sheet, part: Part, size: int, flat: bool = False):
        scale = 2 / (thing.height * size)                         # one pixel in units of the box
        left, top, right, bottom = part.box
        steps = pixels(size)
        across, down = steps[left:right] - thing.x * size, steps[top:bottom] - thing.y * size
        across *= scale
        down *= scale
        self.aspect = thing.width / thing.height
        self.flip, self.name = thing.flip, thing.colour
        self.texture, self.pose, self.variant = thing.texture, thing.pose, thing.variant
        if thing.flip:
            np.negative(across, out=across)
        across *= self.vary(101, 1.0, 1.10)                 # no two of a kind are quite as wide, or as bright
        shape = bottom - top, right - left
        self.x, self.y = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self.x[:], self.y[:] = across, down[:, None]
        self.sheet, self.part = sheet, part
        # height of the first row, unless turned
        self.top: float | None = (top + 0.5 - thing.y * size) * scale
        self.pixel, self.size, self.flat = scale, size, flat
        self.line = scale * max(0.8, size / 80)                   # width of an outline, in units of the box
        shade = self.vary(102, -0.09, 0.09)
        self.colour = mix(thing.colour, (255, 252, 240) if shade > 0 else INK, abs(shade))
        self.accent = self._accent()

    def finish(self) -> None:
        """Light from above over all that was painted: once, when the drawing is done."""
        if not self.flat:
            light = self.y * np.float32(-0.055)
            light -= self.x * np.float32(0.05 * (-1 if self.flip else 1) / max(self.aspect, 0.3))
            self.part.light = light
        self.part.done = True

    def _accent(self) -> Colour:
        """A colour for stripes, spots and checks that stands out and still leaves the object its colour."""
        if self.name in ("white", "yellow", "pink"):
            return mix(self.colour, (120, 70, 120) if self.name != "white" else (84, 92, 128), 0.62)
        return mix(self.colour, (255, 250, 235), 0.80 if self.name != "grey" else 0.85)

    # Variation within the class -----------------------------------------------------------------------------

    def vary(self, slot: int, low: Number = -1.0, high: Number = 1.0) -> float:
        """A number in [low, high] that belongs to this very object; another ``slot``, another number."""
        bits = (self.variant * 0x9E3779B1 + slot * 0x85EBCA6B + 0x1234567) & 0xFFFFFFFF
        bits = ((bits ^ (bits >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
        bits = ((bits ^ (bits >> 12)) * 0x297A2D39) & 0xFFFFFFFF
        return low + (high - low) * ((bits ^ (bits >> 15)) & 0xFFFF) / 0xFFFF

    def pick(self, slot: int, options: Sequence[Any]) -> Any:
        """One of ``options``, by the object's variant."""
        return options[min(int(self.vary(slot, 0, len(options))), len(options) - 1)]

    # Frames and shapes --------------------------------------------------------------------------------------

    def at(self, cx: Number, cy: Number, angle: Number = 0.0, scale: Number = 1.0) -> "Pen":
        """A pen with its origin at (cx, cy), turned clockwise by ``angle`` radians, drawing ``scale`` times
        as large."""
        other = object.__new__(Pen)
        other.__dict__.update(self.__dict__)
        c, s = math.cos(angle) / scale, math.sin(angle) / scale
        u, v = self.x - cx, self.y - cy
        if angle:
            other.x, other.y = u * c + v * s, v * c - u * s
            other.top = None
        else:
            u *= c
            v *= c
            other.x, other.y = u, v
            other.top = None if self.top is None else (self.top - cy) / scale
        other.pixel, other.line = self.pixel / scale, self.line / scale
        return other

    def circle(self, cx: Number, cy: Number, r: Number) -> Shape:
        return Shape(self, "circle", (cx, cy, r), cy - r, cy + r)

    def ellipse(self, cx: Number, cy: Number, a: Number, b: Number) -> Shape:
        reach = b if b <= a else b + 4 * self.pixel * (b / a - 1)   # above a slim one distances are too small
        return Shape(self, "ellipse", (cx, cy, a, b), cy - reach, cy + reach)

    def box(self, cx: Number, cy: Number, a: Number, b: Number, r: Number = 0.0) -> Shape:
        return Shape(self, "box", shapes.box_numbers(cx, cy, a, b, r), cy - b, cy + b)

    def capsule(self, ax: Number, ay: Number, bx: Number, by: Number, r: Number,
                s: Number | None = None) -> Shape:
        widest, (low, high) = r if s is None or s < r else s, (ay, by) if ay < by else (by, ay)
        return Shape(self, "capsule", shapes.capsule_numbers(ax, ay, bx, by, r, s), low - widest,
                     high + widest)

    def path(self, points: Points, r: Number, s: Number | None = None) -> Shape:
        return self._edges(Edges(points, False, r, s), r if s is None or s < r else s)

    def curve(self, points: Points, r: Number, s: Number | None = None) -> Shape:
        """A stroke along a smooth curve through the points (Catmull-Rom, four pieces between two points)."""
        padded = [points[0], *points, points[-1]]
        smooth: list[tuple[Number, Number]] = []
        for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:]):
            for t in (0.0, 0.25, 0.5, 0.75):
                u, v = (
                    0.5 * (2 * q + (w - o) * t + (2 * o - 5 * q + 4 * w - z) * t**2
                           + (3 * q - o - 3 * w + z) * t**3)
                    for o, q, w, z in zip(a, b, c, d))
                smooth.append((u, v))
        return self.path([*smooth, points[-1]], r, s)

    def polygon(self, points: Points, r: Number = 0.0) -> Shape:
        return self._edges(Edges(points, True, r, None), r)

    def _edges(self, edges: Edges, widest: Number) -> Shape:
        heights = [y for _, y in edges.points]
        return Shape(self, "edges", edges, min(heights) - widest, max(heights) + widest)

    def arc(self, cx: Number, cy: Number, radius: Number, start: Number, stop: Number, r: Number) -> Shape:
        reach = radius + r
        return Shape(self, "arc", shapes.arc_numbers(cx, cy, radius, start, stop, r), cy - reach, cy + reach)

    # Paint --------------------------------------------------------------------------------------------------

    def paint(self, cover: Distance, colour: RGB) -> None:
        """Paint with a given coverage (h, w); does not count for the mask."""
        self.sheet.note(self.part, Layer(cover, rgb(colour), 0.0))

    def fill(self, distance: Distance, colour: RGB | None = None, *, outline: Number | None = 1.0,
             textured: bool = False, period: Number = 0.42, angle: Number = 0.0,
             accent: RGB | None = None) -> None:
        """Fill a shape: outline (in line widths, None for none), colour, the object's texture if
        ``textured``.

        ``period`` and ``angle`` are those of the texture; at angle 0 stripes go across.
        """
        note, part, scale = self.sheet.note, self.part, -1 / self.pixel
        colour = self.colour if colour is None else rgb(colour)
        if outline is not None:
            edge = colour if self.flat else mix(colour, INK, 0.62)
            note(part, Layer(distance, edge, scale, self.line * outline, True, None, 1.0))
        note(part, Layer(distance, colour, scale, 0.0, outline is None, None, 1.0))
        if textured and self.texture != "plain" and not self.flat:
            tone = self.accent if accent is None else rgb(accent)
            note(part, Layer(distance, tone, scale, 0.0, False, None, self.pattern(period, angle)))

    def mark(self, distance: Distance, colour: RGB, strength: Number = 1.0,
             inside: Distance | None = None) -> None:
        """Paint a detail without outline, only inside the shape ``inside`` if given; not a part of the
        silhouette."""
        if not self.flat or strength >= 1:
            self.sheet.note(self.part, Layer(distance, rgb(colour), -1 / self.pixel, 0.0, False, inside,
                                             strength))

    def stroke(self, distance: Distance, colour: RGB = INK) -> None:
        """A thin line that counts for the mask: a string, a whisker, a leg. Never thinner than a visible
        pixel."""
        wider = max(0.0, 0.42 * self.pixel)
        self.sheet.note(self.part, Layer(distance, rgb(colour), -1 / self.pixel, wider, counts=True))

    def glow(self, distance: Distance, colour: RGB, reach: Number, strength: Number = 0.5) -> None:
        """Light around a shape, gone at a distance ``reach``; not a part of the silhouette."""
        if not self.flat:
            self.paint(later(_fade, distance, 1 / reach, strength), colour)

    def pattern(self, period: Number = 0.42, angle: Number = 0.0) -> np.ndarray:
        """Coverage of the object's texture."""
        period = max(period, 3.2 * self.pixel)                    # finer than three pixels is a blur
        x, y = self.x, self.y
        if angle:
            c, s = math.cos(angle), math.sin(angle)
            x, y = x * c + y * s, y * c - x * s
        if self.texture == "striped":
            return shapes.stripes(y, period, self.pixel)
        if self.texture == "spotted":
            return shapes.spots(x, y, period, self.pixel)
        return shapes.checks(x, y, period * 1.15, self.pixel)

    def eye(self, cx: Number, cy: Number, r: Number) -> None:
        """A dark eye with a glint."""
        r = max(r, 0.55 * self.pixel)
        self.mark(self.circle(cx, cy, r), INK)
        if r > 1.2 * self.pixel:
            self.mark(self.circle(cx + 0.3 * r, cy - 0.35 * r, 0.33 * r), (255, 255, 255))


@lru_cache(maxsize=8)
def pixels(size: int) -> np.ndarray:
    """The middles of the pixels of a row."""
    middles = np.arange(size, dtype=np.float32) + np.float32(0.5)
    middles.flags.writeable = False
    return middles


def _fade(distance: np.ndarray, rate: Number, strength: Number) -> np.ndarray:
    fade = np.maximum(1 - np.maximum(distance, 0) * rate, 0)
    return strength * fade * fade
