"""Pictures of section 4.2.2: two activations, error against compute, similarities before and after, where
CLIP looks.

Paper: A. Radford et al. (2021), arXiv:2103.00020 (figure 10 has the idea of the second).  Survey: 4.2.2.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.nn.transformer import quick_gelu
from mmlearn.plot import PALETTE, picture
from mmlearn.text_for_vision.clip import Published


def activations(reach: float | int = 5.0) -> Figure:
    """GELU and QuickGELU, and what lies between them."""
    z = torch.linspace(-float(reach), float(reach), 501)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.6), layout="constrained")
    left.plot(z, F.gelu(z), color=PALETTE[0], label="GELU")
    left.plot(z, quick_gelu(z), "--", color=PALETTE[1], label="QuickGELU")
    left.set(xlabel="z", title="the activations")
    left.legend()
    right.plot(z, quick_gelu(z) - F.gelu(z), color=PALETTE[2])
    right.set(xlabel="z", title="QuickGELU minus GELU")
    return figure


def error_against_compute(models: Mapping[str, Published]) -> Figure:
    """Zero-shot error of published models against the arithmetic of one image and one caption, both
    logarithmic."""
    figure, axis = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    for family, marker, color, below in (("RN", "o", PALETTE[0], False), ("ViT", "s", PALETTE[1], True)):
        rows = {name: row for name, row in models.items() if name.startswith(family)}
        x, y = [row.gflops for row in rows.values()], [100 - row.imagenet for row in rows.values()]
        axis.loglog(x, y, marker=marker, color=color,
                    label="ResNets" if family == "RN" else "Vision Transformers")
        for name, across, up in zip(rows, x, y):
            axis.annotate(name, (across, up), xytext=(0, -12 if below else 7), textcoords="offset points",
                          ha="right" if below else "left", fontsize=9)
    axis.set(xlabel="GFLOPs of one image and one caption", ylabel="zero-shot error on ImageNet, %",
             xlim=(6, 1500), ylim=(20, 46))
    axis.set_yticks([25, 30, 35, 40], ["25", "30", "35", "40"])
    axis.minorticks_off()
    axis.legend()
    return figure


def embedding_map(maps: Mapping[str, Sequence[Float[Tensor, "_ 2"]]], pairs: Sequence[int]) -> Figure:
    """Images and texts in a plane, a panel for each model, with a line from some images to their texts."""
    figure, axes = plt.subplots(1, len(maps), figsize=(4.0 * len(maps), 4.1), layout="constrained",
                                squeeze=False)
    for axis, (title, (images, texts)) in zip(axes[0], maps.items()):
        axis.plot(*texts.T, "o", color=PALETTE[1], markersize=3, alpha=0.45, label="texts")
        axis.plot(*images.T, "s", color=PALETTE[0], markersize=3, alpha=0.45, label="pictures")
        for i in pairs:
            axis.plot([images[i, 0], texts[i, 0]], [images[i, 1], texts[i, 1]], color="black", linewidth=0.9)
        axis.set(title=title, aspect="equal", xlim=(-1, 1), ylim=(-1, 1), xlabel="first axis")
    axes[0, 0].set_ylabel("second axis")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, markerscale=2)
    return figure


def looks(images: Any, weights: Float[Tensor, "n p"], titles: Sequence[str], columns: int = 4) -> Figure:
    """Pictures and, below each, the same picture bright where its weight is large; every picture has its own
    scale.

    The p weights are cells of a square grid, row by row.
    """
    side = math.isqrt(weights.shape[1])
    if side * side != weights.shape[1]:
        raise ValueError(f"{weights.shape[1]} weights are no square grid; leave out the class token")
    rows = math.ceil(len(images) / columns)
    figure, axes = plt.subplots(2 * rows, columns, figsize=(1.9 * columns, 4.5 * rows), squeeze=False,
                                layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for i, (image, row, title) in enumerate(zip(images, weights, titles)):
        pixels = picture(image)
        size = (int(pixels.shape[0]), int(pixels.shape[1]))
        grid = F.interpolate(row.view(1, 1, side, side).float(), size=size, mode="bilinear")[0, 0]
        light = ((grid - grid.min()) / (grid.max() - grid.min()).clamp_min(1e-9)).numpy()[..., None]
        above, below = axes[2 * (i // columns), i % columns], axes[2 * (i // columns) + 1, i % columns]
        above.imshow(pixels)
        above.set_title(textwrap.fill(title, 26), fontsize=9)
        below.imshow(np.clip(pixels * (0.15 + 0.85 * light), 0, 1))
    return figure
