"""Figures that move: a player over steps, sliders over parameters, words to point at.

One block of HTML each, without kernel, network or library: it works on the page, in JupyterLab and in Colab.
What is seen first is a still picture that needs no script; nothing moves before the reader asks for it.
"""

import html
import io
import itertools
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mmlearn.figures.diagram import STYLE, Diagram, Number, data_uri

LIMIT = 400_000                                   # bytes of one block
_numbers = itertools.count(1)                     # of this process: no two blocks of a page share a name

_SCRIPT = re.sub(r"\n *", "\n", Path(__file__).with_name("block.js").read_text(encoding="utf-8"))
_ICONS = {name: f'<svg viewBox="0 0 16 16" aria-hidden="true"><path d="{path}"/></svg>' for name, path in {
    "play": "M4 2l10 6-10 6z", "pause": "M3 2h4v12H3zM9 2h4v12H9z", "back": "M11 2v12L4 8z",
    "next": "M5 2v12l7-6z"}.items()}


class Block:
    """A moving figure: its HTML, and ``alt`` where only text is shown."""

    def __init__(self, html_text: str, alt: str) -> None:
        self.html, self.alt = html_text, alt

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"moving figure: {self.alt}"


def player(frames: Sequence[Any], labels: Sequence[str], alt: str, *, under: Diagram | None = None,
           start: int = 0, seconds: Number = 0.9, width: int = 640) -> Block:
    """Frames over steps: play, step back and forth, slide; ``labels`` (one a frame) stand below each.

    A frame is a ``Diagram``, a matplotlib figure (closed here), a picture (array, tensor) or SVG text. The
    width of pictures is ``width`` pixels. ``under`` is drawn once, below all frames of its size; ``start`` is
    the frame seen first (-1: the last), ``seconds`` a step's time.
    Raises ``ValueError`` without ``alt``, for another number of labels, and above 400 kB.
    """
    buttons = "".join(f'<button type="button" data-do="{name}" aria-label="{label}">{_ICONS[name]}</button>'
                      for name, label in (("back", "step back"), ("play", "play"), ("next", "step")))
    steps = [f"{i + 1} / {len(frames)}" for i in range(len(frames))]
    return _block(frames, labels, alt, start, width, bar=buttons, axes={"": steps}, wait=seconds, under=under)


def slider(values: Mapping[str, Sequence[Any]], frames: Sequence[Any], alt: str, *,
           under: Diagram | None = None, labels: Sequence[str] | None = None, start: int = 0,
           width: int = 640) -> Block:
    """Frames over one or two parameters, ``{name: its values}``; with two the second runs fastest.

    Otherwise as ``player``.
    """
    axes = {name: [str(value) for value in each] for name, each in values.items()}
    return _block(frames, labels or [""] * len(frames), alt, start, width, axes=axes, under=under)


def plane(values: Mapping[str, Sequence[Any]], frames: Sequence[Any], alt: str, *,
          area: tuple[Number, Number, Number, Number], under: Diagram | None = None,
          labels: Sequence[str] | None = None, start: int = 0, width: int = 640) -> Block:
    """Frames over two parameters, as ``slider`` with two, that can also be chosen by pointing.

    ``area`` is the part of a frame that is pointed at: its left, top, right and bottom edge as shares of the
    frame's sides. The first parameter runs from left to right, the second from the bottom up.
    Raises ``ValueError`` for an empty area and for another number of parameters.
    """
    if len(values) != 2:
        raise ValueError(f"{len(values)} parameters for a plane; give 2, or use slider")
    left, top, right, bottom = area
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(f"area is {area}; give left, top, right and bottom as growing shares from 0 to 1")
    axes = {name: [str(value) for value in each] for name, each in values.items()}
    return _block(frames, labels or [""] * len(frames), alt, start, width, axes=axes, under=under, area=area)


def hover(words: Sequence[str], panels: Sequence[Any], alt: str, *, under: Diagram | None = None,
          labels: Sequence[str] | None = None, start: int = 0, width: int = 640) -> Block:
    """A row of words over one panel each; seen is that of the word which is pointed at, tapped or focused.

    Otherwise as ``player``.
    """
    return _block(panels, labels or [""] * len(panels), alt, start, width, words=words, under=under)


def _block(frames: Sequence[Any], labels: Sequence[str], alt: str, start: int, width: int, *,
           bar: str = "", axes: Mapping[str, Sequence[str]] | None = None, words: Sequence[str] = (),
           wait: Number = 1.0, under: Diagram | None = None,
           area: tuple[Number, Number, Number, Number] | None = None) -> Block:
    axes = axes or {}
    wanted = len(words) or math.prod(len(values) for values in axes.values())
    if not alt.strip():
        raise ValueError("a moving figure needs alt: say what it shows to somebody who cannot see it")
    if not len(frames) == len(labels) == wanted or not frames:
        raise ValueError(f"{len(frames)} frames and {len(labels)} labels for {wanted} places; give one each")
    start %= len(frames)
    names = labels if any(labels) else words or [", ".join(v) for v in itertools.product(*axes.values())]
    below = [f'<div class="mm-label">{html.escape(label)}</div>' if label else "" for label in labels]
    parts = [_frame(frame, f"{alt}: {name}", width) + label
             for frame, name, label in zip(frames, names, below)]
    first, still = frames[start], parts[start]
    if isinstance(first, Diagram):
        still = first.still(under) + below[start]
    else:
        parts[start] = ""                                                 # the still one is carried once
    row = "".join(f'<button type="button">{html.escape(word)}</button>' for word in words)
    for axis, values in axes.items():
        bar += (f'<label>{html.escape(axis)}<input type="range" min="0" max="{len(values) - 1}" step="1" '
                f'aria-label="{html.escape(axis or "step")}"><output></output></label>')
    data: dict[str, Any] = {
        "frames": parts, "start": start, "under": under.svg if under else "", "words": row, "bar": bar,
        "axes": [*axes.values()], "wait": round(1000 * wait), **_ICONS}
    if area:
        data["area"] = [round(float(share), 4) for share in area]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("</", "<\\/").replace("<!", "<\\u0021")           # nothing may end or hide the script
    name = f"mm-{zlib.crc32((still + text).encode()):08x}-{next(_numbers)}"
    block = (f'<style>{STYLE}</style><div class="mm" id="{name}" data-mm="{name}" role="group" '
             f'aria-label="{html.escape(alt)}" data-lm-suppress-shortcuts="true">'
             f'<div class="mm-stage"><div class="mm-frame">{still}</div></div></div>'
             f"<script>{_SCRIPT.replace('__ID__', name).replace('__DATA__', text)}</script>")
    if len(block.encode()) > LIMIT:
        raise ValueError(f"the figure is {len(block.encode()) / 1000:.0f} kB, at most {LIMIT // 1000} kB are "
                         "allowed; give fewer frames, or smaller ones")
    return Block(block, alt)


def _frame(frame: Any, alt: str, width: int) -> str:
    """HTML of one frame."""
    if isinstance(frame, Diagram):
        return frame.svg
    if isinstance(frame, str):
        return frame
    if isinstance(frame, Figure):
        buffer = io.BytesIO()
        frame.savefig(buffer, format="png")
        plt.close(frame)
        address = data_uri(np.asarray(Image.open(buffer).convert("RGB")))
    else:
        address = data_uri(frame, lossless=False)
    return f'<img src="{address}" alt="{html.escape(alt)}" width="{width}">'
