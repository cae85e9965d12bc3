"""Rendering: a scene graph becomes pixels and, from the same distances, the exact mask of each object.

Survey: 1.1 (instance segmentation).  The picture is painted back to front; the mask of an object is where it
covers most of a pixel and nothing in front of it does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from mmlearn.data.scenes import draw_animals, draw_buildings, draw_nature, draw_small, draw_vehicles
from mmlearn.data.scenes.categories import CATEGORY, DRAWINGS
from mmlearn.data.scenes.graph import Scene, SceneObject
from mmlearn.data.scenes.pen import Pen, pixels
from mmlearn.data.scenes.settings import background
from mmlearn.data.scenes.sheet import Part, Sheet
from mmlearn.data.scenes.shifts import STYLES, restyle

_OURS: dict[str, Callable[[Pen], None]] = {
    name.removeprefix("draw_"): function
    for module in (draw_animals, draw_buildings, draw_nature, draw_small, draw_vehicles)
    for name, function in vars(module).items() if name.startswith("draw_")
}
_NO_SHADOW = ("sky", "water")
_TINT = np.array((1.0, 0.95, 0.75), np.float32)[:, None, None]    # of a shadow


@dataclass(frozen=True)
class Picture:
    """A picture of a scene: ``image`` in sRGB 0..255, and ``masks``, the visible part of each object of the
    graph."""

    image: UInt8[np.ndarray, "size size 3"]
    masks: Bool[np.ndarray, "n size size"]


def render(scene: Scene, size: int = 64, style: str = "normal") -> Picture:
    """Draw ``scene`` at ``size`` x ``size`` pixels in one of the drawing styles ``STYLES``.

    The masks do not depend on the style. Raises ``ValueError`` for an unknown style, a size outside 16..1024,
    or a category without a drawing.
    """
    if style not in STYLES:
        raise ValueError(f"style {style!r} is unknown; take one of {STYLES}")
    if not 16 <= size <= 1024:
        raise ValueError(f"size {size} is outside 16..1024 pixels; 64 is usual")
    flat = style == "flat"
    canvas = background(scene, size, flat)                        # 3 h w
    masks = paint(canvas, scene.objects, flat)
    pixels = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    image = np.ascontiguousarray(pixels.transpose(1, 2, 0))       # 3 h w -> h w 3
    return Picture(restyle(image, masks, style, scene), masks)


def paint(
    canvas: Float32[np.ndarray, "3 size size"], things: Sequence[SceneObject], flat: bool = False
) -> Bool[np.ndarray, "n size size"]:
    """Draw things on a canvas of numbers 0..255, back to front, in place; the mask of each is returned.

    Raises ``ValueError`` for a category without a drawing.
    """
    size = canvas.shape[1]
    masks = np.zeros((len(things), size, size), bool)
    sheet = Sheet(canvas, masks)
    for thing in things:
        draw = DRAWINGS.get(thing.category) or _OURS.get(thing.category)
        if draw is None:
            raise ValueError(f"category {thing.category!r} has no drawing; give it one by add_category")
        part = Part(_crop(thing, size), None if flat else partial(_shadow, thing=thing, size=size))
        sheet.begin(part)
        pen = Pen(thing, sheet, part, size, flat)
        draw(pen)
        pen.finish()
    sheet.flush()
    return masks


def _crop(thing: SceneObject, size: int) -> tuple[int, int, int, int]:
    """The pixels of the box and room for its outline: left, top, right, bottom."""
    margin = max(2.0, size / 48)
    left, right = (thing.x - thing.width / 2) * size - margin, (thing.x + thing.width / 2) * size + margin
    top, bottom = (thing.y - thing.height / 2) * size - margin, (thing.y + thing.height / 2) * size + margin
    return max(0, int(left)), max(0, int(top)), min(size, int(right) + 1), min(size, int(bottom) + 1)


def _shadow(canvas: np.ndarray, thing: SceneObject, size: int) -> None:
    """A soft shadow where a thing meets the ground; none in the sky or on water."""
    if CATEGORY[thing.category].place in _NO_SHADOW or thing.pose == "flying":
        return
    cx, cy = thing.x * size, (thing.y + thing.height / 2) * size - 0.012 * size
    a = thing.width * size * 0.52
    b = max(1.0, min(0.16 * a, 0.035 * size))
    left, right = max(0, int(cx - 1.3 * a)), min(size, int(cx + 1.3 * a) + 1)
    top, bottom = max(0, int(cy - 1.6 * b - 1)), min(size, int(cy + 1.8 * b) + 2)
    x, y = (pixels(size)[left:right] - cx) / a, (pixels(size)[top:bottom] - cy) / b
    dark = np.sqrt((x * x)[None] + (y * y)[:, None])
    np.subtract(1.15, dark, out=dark)
    np.maximum(dark, 0, out=dark)
    np.minimum(dark, 0.6, out=dark)
    dark *= 0.55
    canvas[:, top:bottom, left:right] *= 1 - dark * _TINT
