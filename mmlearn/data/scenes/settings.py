"""The six settings: meadow, beach, street, night, snow and room, painted as backgrounds without objects.

Each has eight variants (and their mirror images), and a shade of its own for every scene. Nothing in a
background belongs to a category, so that what a picture shows is exactly what its graph says.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from mmlearn.data.scenes import shapes
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.pen import RGB, mix, rgb
from mmlearn.data.scenes.shapes import Number

VARIANTS = 8


def background(scene: Scene, size: int, flat: bool = False) -> np.ndarray:
    """The background of a scene, (3, size, size) float32 in 0..255, the caller's own copy."""
    bits = ((scene.index + 1) * 0x9E3779B1 ^ (abs(scene.seed)
                                              + 7) * 0x85EBCA6B ^ len(scene.split) * 0xC2B2AE35)
    bits = ((bits & 0xFFFFFFFF) ^ ((bits & 0xFFFFFFFF) >> 13)) * 0x5BD1E995 & 0xFFFFFFFF
    bits ^= bits >> 15
    picture = _painted(scene.setting, size, bits % VARIANTS, flat)
    if bits & 8:
        picture = picture[:, :, ::-1]
    warmth, light = ((bits >> 8) % 256 / 255 - 0.5) * 0.07, ((bits >> 16) % 256 / 255 - 0.5) * 0.08
    shade = np.array((1 + light + warmth, 1 + light, 1 + light - warmth), np.float32)
    return np.ascontiguousarray(picture * shade[:, None, None])


@lru_cache(maxsize=2 * 6 * VARIANTS)
def _painted(setting: str, size: int, variant: int, flat: bool) -> np.ndarray:
    paper = _Paper(size, variant, flat)
    _SETTINGS[setting](paper)
    paper.canvas.flags.writeable = False
    return paper.canvas


class _Paper:
    """A canvas with coordinates 0..1 (``x`` right, ``y`` down) on which a setting is painted."""

    def __init__(self, size: int, variant: int, flat: bool):
        steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        self.y, self.x = (np.ascontiguousarray(a) for a in np.meshgrid(steps, steps, indexing="ij"))
        self.size, self.pixel, self.variant, self.flat = size, 1 / size, variant, flat
        self.canvas = np.zeros((3, size, size), np.float32)
        self.random = np.random.Philox(key=variant + 1)

    def draw(self, low: Number = 0.0, high: Number = 1.0) -> float:
        return low + (high - low) * (int(self.random.random_raw()) >> 40) / (1 << 24)

    def gradient(self, top: RGB, bottom: RGB, first: Number = 0.0, last: Number = 1.0) -> np.ndarray:
        """A vertical gradient (3, size, size) between two heights; in flat style its middle colour."""
        t = np.clip((self.y - first) / (last - first), 0, 1) if not self.flat else np.full_like(self.y, 0.5)
        return np.array(rgb(top), np.float32)[:, None, None] * (1 - t) + np.array(rgb(bottom), np.float32)[:,
                None, None] * t

    def paint(self, distance: np.ndarray, colour: RGB | np.ndarray, strength: Number = 1.0) -> None:
        target = colour if isinstance(colour, np.ndarray) else np.array(rgb(colour), np.float32)[:, None,
                                                                                                 None]
        cover = shapes.coverage(distance, self.pixel) * np.float32(strength)
        self.canvas += cover * (target - self.canvas)

    def haze(self, cover: np.ndarray, colour: RGB) -> None:
        if not self.flat:
            self.canvas += cover.astype(np.float32) * (np.array(rgb(colour), np.float32)[:, None,
                                                                                         None] - self.canvas)

    def hill(self, height: Number, swell: Number, slot: int) -> np.ndarray:
        """A rolling skyline about ``height``: negative below it."""
        phase = 6.283 * ((self.variant * 0.381 + slot * 0.618) % 1)
        wave = np.sin(self.x * (3.1 + slot) + phase) + 0.5 * np.sin(self.x * (6.7 + 2 * slot) + 2.1 * phase)
        return (height + swell * wave - self.y).astype(np.float32)

    def tufts(self, count: int, first: Number, colour: RGB, light: RGB) -> None:
        """Blades of grass, larger towards the viewer."""
        if self.flat:
            return
        for _ in range(count):
            cx, cy = self.draw(), first + (1 - first) * self.draw() ** 0.8
            h = 0.012 + 0.028 * (cy - first) / (1 - first)
            blades = shapes.union(*(shapes.capsule(self.x, self.y, cx + 0.3 * s * h, cy, cx + s * h, cy - h,
                                                  0.0028, 0.001)
                                   for s in (-0.7, 0.05, 0.8)))
            self.paint(blades, colour if self.draw() < 0.6 else light, 0.75)


def _meadow(p: _Paper) -> None:
    p.canvas[:] = p.gradient((112, 186, 240), (222, 242, 250), 0, 0.56)
    p.haze(0.5 * np.exp(-((p.y - 0.5) / 0.13) ** 2), (255, 246, 222))
    far, near = p.hill(0.47, 0.035, 0), p.hill(0.53, 0.03, 1)
    p.paint(far, p.gradient((150, 200, 176), (176, 216, 160), 0.4, 0.6))
    p.paint(near, p.gradient((138, 200, 118), (168, 216, 126), 0.46, 0.66))
    ground = p.hill(0.60, 0.012, 2)
    p.paint(ground, p.gradient((152, 210, 106), (98, 176, 84), 0.58, 1.0))
    middle = 0.5 + 0.22 * np.sin(3.2 * (p.y - 0.55) * 2 + p.variant) * (p.y - 0.45)
    path = np.abs(p.x - middle.astype(np.float32)) - (0.015 + 0.24 * np.maximum(p.y - 0.59, 0) ** 1.25)
    if p.variant % 2:
        p.paint(shapes.both(path.astype(np.float32), ground),
                p.gradient((232, 216, 164), (222, 196, 142), 0.6, 1), 0.85)
    p.haze(0.20 * (np.sin(p.x * 9 + p.y * 31 + p.variant) > 0.55) * (p.y > 0.63), (170, 220, 110))
    p.tufts(34, 0.64, (70, 146, 66), (188, 226, 120))


def _beach(p: _Paper) -> None:
    p.canvas[:] = p.gradient((96, 184, 238), (250, 238, 214), 0, 0.36)
    sea = p.gradient((52, 146, 196), (108, 208, 210), 0.345, 0.63)
    p.paint(0.345 - p.y, sea)
    for i in range(9):
        if p.flat:
            break
        cy = 0.37 + 0.026 * i + 0.01 * p.draw()
        wave = cy + 0.004 * np.sin(p.x * (24 + 5 * i) + 6 * p.draw())
        window = np.abs(((p.x + p.draw()) % 0.5) - 0.25) - (0.06 + 0.012 * i)
        line = np.maximum(np.abs(p.y - wave) - 0.0022 - 0.0004 * i, window * 0.3)
        p.paint(line.astype(np.float32), (220, 246, 248), 0.6)
    shore = (0.655 + 0.02 * np.sin(p.x * 5 + p.variant)
             + 0.008 * np.sin(p.x * 13 + 2 * p.variant)).astype(np.float32)
    p.paint(shore - 0.030 - p.y, (160, 226, 222), 0.7)
    p.paint(shore - 0.016 - p.y, (252, 252, 246))
    p.paint(shore - p.y, (214, 182, 128))
    p.paint(shore + 0.026 - p.y, p.gradient((240, 216, 160), (248, 224, 170), 0.66, 1))
    for _ in range(0 if p.flat else 60):
        cx, cy = p.draw(), p.draw(0.73, 1)
        p.paint(shapes.ellipse(p.x, p.y, cx, cy, 0.006, 0.0035),
                (218, 186, 132) if p.draw() < 0.7 else (255, 244, 214), 0.8)
    for _ in range(3):
        a, b = p.draw(), p.draw(0.8, 0.98)
        p.haze(0.5 * np.exp(-(((p.x - a) / 0.25) ** 2 + ((p.y - b) / 0.022) ** 2)), (228, 198, 142))


def _street(p: _Paper) -> None:
    p.canvas[:] = p.gradient((148, 196, 232), (250, 232, 214), 0, 0.6)
    x = 0.0
    while x < 1:                                                  # a pale skyline, far away
        width, top = p.draw(0.07, 0.15), p.draw(0.30, 0.47)
        shade = mix((178, 190, 216), (206, 200, 214), p.draw())
        p.paint(shapes.box(p.x, p.y, x + width / 2, top + 0.4, width / 2, 0.4), shade)
        if not p.flat:
            for row in range(6):
                for column in range(2):
                    p.paint(shapes.box(p.x, p.y, x + width * (0.3 + 0.4 * column), top + 0.035 + 0.038 * row,
                                       0.012, 0.010),
                            mix(shade, (255, 246, 214), 0.55), 0.8)
        x += width
    p.paint(0.555 - p.y, p.gradient((134, 176, 132), (150, 188, 138), 0.55, 0.63))        # a hedge
    p.haze(0.35 * (np.sin(p.x * 60) * np.sin(p.y * 190 + p.variant) > 0.2) * (p.y > 0.565) * (p.y < 0.615),
           (112, 158, 116))
    p.paint(0.62 - p.y, p.gradient((222, 214, 206), (208, 200, 194), 0.62, 0.75))         # pavement
    for i in range(-6, 18):
        slab = np.abs((p.x - 0.5) - (i / 12 - 0.5) * (0.8 + 0.8 * (p.y - 0.62))) - 0.002
        p.paint(np.maximum(slab, 0.62 - p.y).astype(np.float32), (186, 178, 176), 0.7)
    p.paint(np.abs(p.y - 0.672) - 0.0018, (186, 178, 176), 0.7)
    p.paint(0.742 - p.y, (240, 236, 230))                                                 # kerb
    p.paint(0.758 - p.y, (172, 168, 172))
    p.paint(0.772 - p.y, p.gradient((116, 118, 132), (98, 100, 114), 0.77, 1))            # road
    dash = np.maximum(np.abs(((p.x + 0.11 * p.variant - 0.25 * (p.y - 0.88)) % 0.26) - 0.13) - 0.075,
                      np.abs(p.y - 0.885) - 0.009)
    p.paint(dash.astype(np.float32), (244, 236, 214), 0.9)


def _night(p: _Paper) -> None:
    p.canvas[:] = p.gradient((34, 40, 98), (128, 112, 172), 0, 0.56)
    p.haze(0.45 * np.exp(-((p.y - 0.53) / 0.09) ** 2), (214, 146, 176))
    band = p.y - 0.12 - 0.35 * (p.x - 0.2)
    p.haze(0.16 * np.exp(-(band / 0.1) ** 2), (170, 160, 220))
    for i in range(0 if p.flat else 62):
        cx, cy, r = p.draw(), 0.50 * p.draw() ** 1.2, p.draw(0.0016, 0.0042)
        colour = (255, 250, 224) if p.draw() < 0.7 else (200, 220, 255)
        p.paint(shapes.circle(p.x, p.y, cx, cy, max(r, 0.45 * p.pixel)), colour, 0.55 + 0.4 * p.draw())
        if i % 12 == 0:
            near = shapes.circle(p.x, p.y, cx, cy, 0)
            p.haze(0.5 * np.exp(-near / 0.010), colour)
            cross = np.minimum(np.abs(p.x - cx) * 5 + np.abs(p.y - cy),
                               np.abs(p.y - cy) * 5 + np.abs(p.x - cx)) - 0.014
            p.paint(cross.astype(np.float32), colour, 0.8)
    p.paint(p.hill(0.47, 0.03, 0), (82, 82, 146))
    p.paint(p.hill(0.515, 0.022, 1), (62, 72, 128))
    p.paint(0.535 - p.y, p.gradient((126, 120, 184), (58, 82, 142), 0.535, 0.68))         # a lake
    for i in range(0 if p.flat else 10):
        cx, cy, w = p.draw(), 0.55 + 0.0125 * i, p.draw(0.03, 0.10)
        p.paint(shapes.capsule(p.x, p.y, cx - w, cy, cx + w, cy, 0.0018), (186, 180, 226), 0.5)
    shore = p.hill(0.685, 0.010, 2)
    p.paint(shore, p.gradient((62, 116, 116), (44, 84, 96), 0.68, 1))
    p.tufts(30, 0.72, (36, 76, 84), (92, 150, 134))


def _snow(p: _Paper) -> None:
    p.canvas[:] = p.gradient((146, 178, 222), (236, 232, 244), 0, 0.56)
    for i in range(5):                                            # mountains with white tops
        cx, top, w = (i + 0.5) / 5 + p.draw(-0.08, 0.08), p.draw(0.27, 0.40), p.draw(0.15, 0.24)
        slope = (np.abs(p.x - cx) * (0.56 - top) / w + top - p.y) * 0.6
        p.paint(slope.astype(np.float32), mix((150, 168, 206), (176, 188, 218), p.draw()))
        zigzag = top + 0.075 + 0.018 * np.abs(((p.x - cx) * 26) % 2 - 1)
        p.paint(np.maximum(slope, (p.y - zigzag) * 0.8).astype(np.float32), (246, 248, 254))
        p.haze(0.22 * (slope < 0) * (p.x > cx), (120, 140, 188))
    p.paint(p.hill(0.53, 0.022, 0), (214, 224, 242))
    p.paint(p.hill(0.575, 0.018, 1), (228, 236, 248))
    p.paint(p.hill(0.62, 0.012, 2), p.gradient((238, 243, 252), (214, 226, 244), 0.6, 1))
    for _ in range(6):
        a, b, w = p.draw(), p.draw(0.68, 0.98), p.draw(0.12, 0.28)
        p.haze(0.5 * np.exp(-(((p.x - a) / w) ** 2 + ((p.y - b) / 0.016) ** 2)), (190, 206, 234))
    for _ in range(0 if p.flat else 54):
        cx, cy, r = p.draw(), p.draw(), p.draw(0.003, 0.0075)
        p.paint(shapes.circle(p.x, p.y, cx, cy, max(r, 0.5 * p.pixel)), (255, 255, 255), 0.9)


def _room(p: _Paper) -> None:
    walls = ((250, 226, 196), (206, 226, 232), (222, 230, 204), (246, 214, 208),
             (228, 218, 240), (250, 236, 200), (212, 228, 216), (236, 222, 210))
    wall = rgb(walls[p.variant])
    p.canvas[:] = p.gradient(mix(wall, (255, 255, 255), 0.15), mix(wall, (190, 150, 130), 0.12), 0, 0.7)
    stripe = np.abs(((p.x * 9) % 1) - 0.5) / 9 - 0.028
    p.paint(stripe.astype(np.float32), mix(wall, (255, 255, 255), 0.4), 0.5)
    cx = 0.26 + 0.05 * (p.variant % 3)
    frame = shapes.box(p.x, p.y, cx, 0.27, 0.150, 0.185, 0.012)
    p.paint(frame - 0.018, mix(wall, (120, 84, 70), 0.35), 0.5)
    p.paint(frame, (252, 248, 240))
    pane = shapes.box(p.x, p.y, cx, 0.27, 0.130, 0.165, 0.004)
    evening = p.variant in (2, 5)
    sky = p.gradient((120, 150, 210), (252, 206, 170), 0.1, 0.44) if evening else p.gradient((138, 200, 242),
            (226, 242, 248), 0.1, 0.44)
    p.paint(pane, sky)
    p.paint(shapes.both(pane, p.hill(0.385, 0.015, 1)), (148, 200, 140))
    p.paint(np.minimum(np.abs(p.x - cx), np.abs(p.y - 0.27)) - 0.007 + 10 * np.maximum(frame, 0),
            (252, 248, 240))
    p.paint(shapes.box(p.x, p.y, cx, 0.462, 0.172, 0.013, 0.006), (252, 248, 240))
    cloth = rgb(((226, 122, 110), (92, 136, 186), (136, 170, 110), (232, 160, 110))[p.variant % 4])
    for side in (-1, 1):                                          # curtains
        edge = np.abs(p.x - (cx + side * 0.175)) - (0.038
                                                    + 0.018 * np.sin(np.clip((p.y - 0.06) * 6.2, 0, 3.1)))
        curtain = np.maximum(edge, np.abs(p.y - 0.275) - 0.225).astype(np.float32)
        p.paint(curtain, cloth)
        p.haze(0.18 * (np.sin(p.x * 190) > 0.1) * (curtain < 0), mix(cloth, (40, 20, 40), 0.6))
    p.paint(shapes.box(p.x, p.y, cx, 0.052, 0.235, 0.007, 0.006), (146, 104, 80))
    floor = 0.70
    p.paint(floor - 0.028 - p.y, (252, 248, 242))                 # skirting board
    p.paint(floor - 0.004 - p.y, (150, 104, 78))
    p.paint(floor - p.y, p.gradient((206, 158, 112), (222, 176, 128), floor, 1))
    for i in range(-8, 20):                                       # boards towards the vanishing point
        board = np.abs((p.x - 0.5) - (i / 12 - 0.5) * (1 + 1.6 * (p.y - floor))) - 0.0018
        p.paint(np.maximum(board, floor - p.y).astype(np.float32), (178, 130, 92), 0.7)
    rug = shapes.ellipse(p.x, p.y, 0.52, 0.885, 0.40, 0.080)
    if p.variant % 2 == 0:
        p.paint(rug, mix(cloth, (255, 246, 232), 0.35))
        p.paint(np.abs(rug + 0.018) - 0.005, mix(cloth, (255, 246, 232), 0.8))
    p.haze(0.10 * np.exp(-np.abs(p.x - cx - 0.25 * (p.y - floor)) / 0.12) * (p.y > floor), (255, 250, 220))


_SETTINGS: dict[str, Callable[[_Paper], None]] = {
    "meadow": _meadow, "beach": _beach, "street": _street, "night": _night, "snow": _snow, "room": _room,
}
