"""Where each word of a caption looks: point at a word, and the picture is bright where its attention lies.

Paper: K. Xu et al. (2015), *Show, Attend and Tell*, arXiv:1502.03044, fig. 3 (the idea).  Survey: 1.2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mmlearn.figures.diagram import ROLES
from mmlearn.figures.interactive import Block, hover
from mmlearn.plot import picture


def where_words_look(image: Any, words: Sequence[str], weights: Any, boxes: Any = None,
                     names: Sequence[str] | None = None, size: int = 320) -> Block:
    """Hover figure: the picture of each word, bright where its attention is large.

    ``weights`` are (t, rows, columns) over a grid, or (t, p) over a square grid row by row, or (t, p) over
    the p ``boxes`` (p, 4) = (x, y, width, height) in pixels of the image, which may have ``names``. Each word
    has its own scale: its largest weight is full brightness. Raises ``ValueError`` if numbers do not fit.
    """
    pixels = picture(image)
    table = np.asarray(weights.detach().float().cpu() if hasattr(weights, "detach") else weights, dtype=float)
    if len(table) != len(words):
        raise ValueError(f"{len(table)} rows of weights for {len(words)} words; give one row a word")
    if boxes is None and table.ndim == 2:
        side = round(table.shape[1] ** 0.5)
        if side * side != table.shape[1]:
            raise ValueError(f"{table.shape[1]} weights make no square; give (t, rows, columns) or boxes")
        table = table.reshape(-1, side, side)
    scale = size / max(pixels.shape[:2])
    high, wide = (round(scale * side) for side in pixels.shape[:2])
    sharp = np.asarray(_resized(pixels, wide, high, Image.Resampling.BICUBIC)).clip(0, 1)
    places = None if boxes is None else np.asarray(boxes, dtype=float) * scale
    panels = [_lit(sharp, row, places) for row in table]
    labels = [_label(word, row, names if boxes is not None else None) for word, row in zip(words, table)]
    return hover(words, panels, "Where each word looks", labels=labels, width=size)


def _resized(values: np.ndarray, wide: int, high: int, how: Image.Resampling) -> np.ndarray:
    planes = values[..., None] if values.ndim == 2 else values
    grown = [np.asarray(Image.fromarray(planes[..., c].astype(np.float32)).resize((wide, high), how))
             for c in range(planes.shape[-1])]
    return np.stack(grown, axis=-1)


def _lit(sharp: np.ndarray, row: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    """The picture, dark where the weights of a word are small; with boxes the first of them is outlined."""
    high, wide = sharp.shape[:2]
    if places is None:
        light = _resized(row, wide, high, Image.Resampling.BICUBIC).clip(0, None)
    else:
        light = np.zeros((high, wide, 1))
        for (x, y, w, h), weight in zip(places, row):
            part = light[max(0, round(y)) : max(0, round(y + h)), max(0, round(x)) : max(0, round(x + w))]
            np.maximum(part, weight, out=part)
    grey = sharp.mean(axis=-1, keepdims=True)
    light = light / max(float(light.max()), 1e-12)
    shown = (0.3 + 0.7 * light) * (light * sharp + (1 - light) * (0.5 * sharp + 0.5 * grey))
    if places is None:
        return shown
    drawn = Image.fromarray((255 * shown).round().astype(np.uint8))
    x, y, w, h = places[int(row.argmax())]
    corners = max(x, 0), max(y, 0), min(x + w, wide) - 1, min(y + h, high) - 1
    ImageDraw.Draw(drawn).rectangle(corners, outline=ROLES["text"][2], width=3)
    return np.asarray(drawn)


def _label(word: str, row: np.ndarray, names: Sequence[str] | None) -> str:
    """What a word looks at most, in words."""
    flat = row.ravel() / max(float(row.sum()), 1e-12)
    if names is None:
        eighth = np.sort(flat)[::-1][: max(1, len(flat) // 8)].sum()
        return f"“{word}”: {eighth:.0%} of its attention on an eighth of the picture"
    best = np.argsort(-flat)[:2]
    return f"“{word}”: " + ", ".join(f"{names[i]} {flat[i]:.0%}" for i in best)
