"""Figures of the book: one colour-blind-safe style, and the few kinds of picture that several chapters draw.

Palette: M. Okabe and K. Ito (2008), *Color Universal Design*.  Every function returns the figure it drew.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# Okabe and Ito's colours, the palest (yellow) last: on white it carries no line.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
# A phone shows a figure of 6.4 inches at about 60 % of its size, where text below 11 pt is lost.
STYLE: Any = {
    "figure.figsize": (6.4, 3.6), "figure.dpi": 100, "savefig.dpi": 100, "figure.facecolor": "white",
    "figure.constrained_layout.use": True, "savefig.facecolor": "white", "font.size": 12,
    "axes.titlesize": 12, "axes.labelsize": 12, "xtick.labelsize": 11, "ytick.labelsize": 11,
    "legend.fontsize": 11, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#dddddd",
    "axes.axisbelow": True, "lines.linewidth": 2.0, "image.cmap": "cividis", "image.interpolation": "nearest",
    "axes.prop_cycle": cycler(color=PALETTE),
}


def use_style() -> None:
    """Draw every figure of this session in the book's style."""
    mpl.rcParams.update(STYLE)


def picture(image: Any) -> np.ndarray:
    """An image as (height, width, 3) in [0, 1], from a tensor (3, h, w), an array (h, w, 3), uint8 or float,
    or grey."""
    pixels = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[-1] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)                       # c h w -> h w c
    if pixels.ndim not in (2, 3):
        raise ValueError(f"an image has shape {pixels.shape}; pass (3, h, w), (h, w, 3) or (h, w)")
    if pixels.ndim == 2 or pixels.shape[-1] == 1:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=-1)
    return pixels / 255 if pixels.dtype == np.uint8 else pixels.clip(0, 1)


def curves(histories: Mapping[str, Any], metric: str | None = None, span: int = 20) -> Figure:
    """Learning curves of runs by name: the smoothed loss, and beside it ``metric`` (default: the first
    evaluated).

    A value is a ``History``, or a sequence of losses.
    """
    runs = {name: run for name, run in histories.items() if hasattr(run, "metrics")}
    metric = metric or next((name for run in runs.values() for name in run.metrics), None)
    figure, axes = plt.subplots(1, 2 if metric else 1, squeeze=False, figsize=(8.0 if metric else 6.4, 3.4))
    for i, (name, run) in enumerate(histories.items()):
        colour, dashes = PALETTE[i % 7], ("-", "--", "-.", ":")[i % 4]     # told apart without colour, too
        if name in runs:
            axes[0, 0].plot(run.steps, run.loss, color=colour, alpha=0.15, linewidth=1)
            axes[0, 0].plot(run.steps, run.smooth(span), dashes, color=colour, label=name)
        else:
            axes[0, 0].plot(range(1, len(run) + 1), list(run), dashes, color=colour, label=name)
        if metric and name in runs and metric in run.metrics:
            axes[0, 1].plot(run.metric_steps, run.metrics[metric], dashes, marker="o", color=colour,
                            label=name)
    axes[0, 0].set(xlabel="step", ylabel="loss")
    if metric:
        axes[0, 1].set(xlabel="step", ylabel=metric)
    if len(histories) > 1:
        axes[0, -1].legend()
    return figure


def image_grid(images: Any, titles: Sequence[str] | None = None, columns: int = 4,
               width: float = 1.9, wrap: int = 22) -> Figure:
    """Images (a list, or a tensor of them) in rows of ``columns``, each ``width`` inches wide, under titles
    broken after ``wrap`` letters."""
    images = list(images)
    columns = min(columns, max(1, len(images)))
    rows = math.ceil(len(images) / columns)
    titles = [textwrap.fill(title, wrap) for title in titles] if titles is not None else [""] * len(images)
    if len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} images; give one each")
    lines = max((title.count("\n") + 1 for title in titles if title), default=0)
    figure, axes = plt.subplots(rows, columns, squeeze=False,
                                figsize=(columns * width, rows * (width + 0.19 * lines)))
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow(picture(image))
        axis.set_title(title, fontsize=11)
    return figure


def attention_overlay(image: Any, weights: Any, words: Sequence[str], boxes: Any = None,
                      columns: int = 4) -> Figure:
    """Where each word looks: the image once a word, bright where ``weights`` are large.

    ``weights`` (t, p) are attention weights of t words over p places: cells of a square grid row by row, or
    the p ``boxes`` (p, 4) = (x, y, width, height) in pixels. Each word's picture has its own scale.
    """
    pixels = picture(image)
    weights = np.asarray(weights.detach().float().cpu() if hasattr(weights, "detach") else weights,
                         dtype=float)
    if len(weights) != len(words):
        raise ValueError(f"{len(weights)} rows of weights for {len(words)} words; give one row a word")
    height, wide = pixels.shape[:2]
    pictures = []
    for row in weights:
        if boxes is None:
            side = math.isqrt(len(row))
            if side * side != len(row):
                raise ValueError(f"{len(row)} weights make no square grid; pass boxes, or a square number")
            light = _resize(row.reshape(side, side), height, wide)
        else:
            light = np.zeros((height, wide))
            for (x, y, w, h), weight in zip(np.asarray(boxes, dtype=float), row):
                part = light[max(0, round(y)) : round(y + h), max(0, round(x)) : round(x + w)]
                np.maximum(part, weight, out=part)
        light = light / max(light.max(), 1e-12)
        pictures.append(pixels * (0.3 + 0.7 * light[..., None]))
    figure = image_grid(pictures, list(words), columns)
    if boxes is not None:
        for axis, row in zip(figure.axes, weights):
            x, y, w, h = np.asarray(boxes, dtype=float)[int(row.argmax())]
            axis.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, edgecolor=PALETTE[5], linewidth=2))
    return figure


def _resize(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """A small grid stretched to an image, linear between the centres of its cells."""
    def stretched(values: np.ndarray, size: int) -> np.ndarray:
        at = (np.arange(size) + 0.5) / size * len(values) - 0.5
        return np.stack([np.interp(at, np.arange(len(values)), column) for column in values.T], axis=1)
    return stretched(stretched(grid, height).T, width).T


def heatmap(values: Any, rows: Sequence[str] | None = None, columns: Sequence[str] | None = None, *,
            xlabel: str = "", ylabel: str = "", title: str = "", numbers: bool = False,
            limits: tuple[float | int, float | int] | None = None) -> Figure:
    """A matrix as colours with a scale beside it, names along its sides, and on request its ``numbers``
    inside."""
    matrix = np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, dtype=float)
    height = min(7.0, max(2.2, 0.36 * len(matrix) + 1.2))
    figure, axis = plt.subplots(figsize=(min(8.0, max(4.5, 0.5 * matrix.shape[1] + 2.5)), height))
    low, high = limits or (matrix.min(), matrix.max())
    shown = axis.imshow(matrix, vmin=low, vmax=high, aspect="auto")
    axis.grid(False)
    if rows is not None:
        axis.set_yticks(range(len(rows)), rows)
    if columns is not None:
        axis.set_xticks(range(len(columns)), columns, rotation=45 if max(map(len, columns)) > 3 else 0,
                        ha="right" if max(map(len, columns)) > 3 else "center")
    if numbers:
        for (i, j), value in np.ndenumerate(matrix):
            dark = value < low + 0.55 * (high - low)
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=10,
                      color="white" if dark else "black")
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    figure.colorbar(shown, ax=axis, fraction=0.05)
    return figure
