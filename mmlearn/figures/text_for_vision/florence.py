"""Pictures of section 4.4: Florence and its adapters, the targets of two losses, which cells a window sees,
what the detector finds.

Papers: L. Yuan et al. (2021), arXiv:2111.11432 (its figure 1 has the idea of the first); Z. Liu et al.
(2021), arXiv:2103.14030 (figure 2 has the idea of the second).  Survey: 4.4.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mmlearn.figures.diagram import Diagram
from mmlearn.nn.swin import shift_mask, to_windows
from mmlearn.plot import PALETTE, picture
from mmlearn.text_for_vision.unicl import targets, text_keys

WIDE = 470
TEXTS = ("red car", "a dog on a beach", "red car", "a cat")                # of the batch of four
ADAPTERS = {                                            # adapter: axis, from what to what
    "Dynamic Head": ("space", "from the picture", "to single objects"),
    "Video CoSwin": ("time", "from a picture", "to videos"),
    "METER": ("modality", "from colours to", "depth and captions"),
}


def model() -> Diagram:
    """Florence: two towers and their loss, and the three adapters that are added to the image tower."""
    axes = "; ".join(f"{axis}, {a} {b}: {name}" for name, (axis, a, b) in ADAPTERS.items())
    drawn = Diagram(WIDE, 384, (
        "Florence. Above, a picture passes the image tower CoSwin-H, 637 million parameters, and a text with "
        "its key the text tower, 12 layers, 256 million; their embeddings u and v, compared by UniCL's loss, "
        "serve classification and retrieval. Below, three adapters read the maps of the image tower, one for "
        f"each axis along which tasks differ. {axes}."))
    left, right, middle = 124, 346, WIDE / 2
    drawn.text(left, 14, "picture", 14, "image", weight=600)
    drawn.text(right, 14, "text, and its key *y*", 14, "text", weight=600)
    image = drawn.box(left, 72, "CoSwin-H\n637 M, maps of 4 scales", "image", 188, 54)
    text = drawn.box(right, 72, "Transformer\n12 layers, 256 M", "text", 188, 54)
    drawn.arrow((left, 26), image)
    drawn.arrow((right, 26), text)
    u, v = drawn.box(left, 150, "*u*", "image", 56, 30), drawn.box(right, 150, "*v*", "text", 56, 30)
    drawn.arrow(image, u, "mean, matrix")
    drawn.arrow(text, v, "end, matrix")
    loss = drawn.box(middle, 150, "UniCL", "loss", 76, 34)
    drawn.arrow(u, loss)
    drawn.arrow(v, loss)
    drawn.text(middle, 188, "what is this? which picture fits?", 13, "soft")
    drawn.text(middle, 205, "classification, retrieval", 13, weight=600)
    drawn.line([(30, 72), (14, 72), (14, 236), (388, 236)], "image")
    drawn.text(middle + 6, 224, "maps", 13, "image")
    for i, (name, (axis, first, second)) in enumerate(ADAPTERS.items()):
        x = 80 + 155 * i
        drawn.arrow((x, 236), (x, 262), role="image", sides="bt")
        drawn.box(x, 290, f"{name}\nadapter", "new", 142, 54)
        drawn.arrow((x, 317), (x, 334), role="new", sides="bt")
        drawn.text(x, 344, f"*{axis}:* {first}", 12.5, "new")
        drawn.text(x, 362, second, 12.5, "new")
    return drawn


def unicl_targets() -> Diagram:
    """What CLIP's and UniCL's loss want of a batch of four pairs, of which two have the same text."""
    keys = text_keys(TEXTS)
    cell, top = 42, 96
    wanted = {"CLIP": torch.eye(len(TEXTS)), "UniCL": targets(keys)}
    listed = ", ".join(f"{i} {text}, key {key}"
                       for i, (text, key) in enumerate(zip(TEXTS, keys.tolist()), start=1))
    drawn = Diagram(WIDE, top + 4 * cell + 12, (
        f"Four pairs and their keys: {listed}. Left, CLIP's targets: each picture has its own text, 1 on the "
        "diagonal. Right, UniCL's: pictures 1 and 3 share the belief between texts 1 and 3, one half each, "
        "pictures 2 and 4 keep 1 for their own."))
    for i, (text, key) in enumerate(zip(TEXTS, keys.tolist())):
        x, y = 24 + 230 * (i % 2), 14 + 22 * (i // 2)
        drawn.text(x, y, f"{i + 1}  {text}, key {key}", 14, "text", "start")
    for n, (name, T) in enumerate(wanted.items()):
        left = 52 + n * 230
        drawn.text(left - 28, top - 14, name, 14, "loss", weight=600)
        for i in range(len(TEXTS)):
            drawn.text(left + (i + 0.5) * cell, top - 14, f"*t*_{i + 1}", 14, "text")
            drawn.text(left - 18, top + (i + 0.5) * cell, f"*x*_{i + 1}", 14, "image")
            for j in range(len(TEXTS)):
                at, share = (left + (j + 0.5) * cell, top + (i + 0.5) * cell), float(T[i, j])
                drawn.rect(*at, cell, cell, "", radius=2)
                drawn.bar(at[0] - cell / 2, at[1], cell, cell, "loss", f' fill-opacity="{0.6 * share:.2f}"')
                drawn.text(*at, {0.0: "0", 0.5: "½", 1.0: "1"}[share], 14, weight=600 if share else 400)
    return drawn


def reach(side: int, window: int, shift: int, cell: tuple[int, int]) -> Float[Tensor, "y x"]:
    """1 where a cell of a map of ``side`` x ``side`` cells may look in one block, 0 elsewhere."""
    place = torch.arange(side * side).view(1, side, side, 1).roll((-shift, -shift), (1, 2))
    windows = to_windows(place, window)[0, :, :, 0]  # which cells are in which window
    n, i = (windows == cell[0] * side + cell[1]).nonzero()[0].tolist()
    sees = (
        shift_mask(side, side, window, shift)[n, i]
        if shift
        else torch.ones(window * window, dtype=torch.bool)
    )
    found = torch.zeros(side * side)
    found[windows[n][sees]] = 1
    return found.view(side, side)


def windows(side: int = 12, window: int = 4, cell: tuple[int, int] = (5, 6)) -> Figure:
    """Where one cell looks: in a block, in a shifted one, in a block and then a shifted one."""
    shift = window // 2
    first, second = reach(side, window, 0, cell), reach(side, window, shift, cell)
    both = torch.zeros(side, side)
    for i, j in second.nonzero().tolist():  # the second block reads what the first has gathered
        both = torch.maximum(both, reach(side, window, 0, (i, j)))
    panels = {"windows": (first, 0), "shifted windows": (second, shift), "both, in turn": (both, None)}
    figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.9), layout="constrained")
    for axis, (title, (seen, start)) in zip(axes, panels.items()):
        axis.imshow(seen, cmap="Blues", vmin=0, vmax=2, extent=(0, side, side, 0))
        for line in range(side + 1):
            border = start is not None and (line - start) % window == 0
            for draw in (axis.axhline, axis.axvline):
                draw(line, color=PALETTE[1] if border else "#cccccc", linewidth=2.2 if border else 0.6)
        axis.add_patch(Rectangle((cell[1], cell[0]), 1, 1, color=PALETTE[6]))
        axis.set(title=title, xticks=[], yticks=[], xlim=(0, side), ylim=(side, 0))
        axis.grid(False)
    return figure


def found(images: Any, boxes: Sequence[Float[Tensor, "_ 4"]], names: Sequence[Sequence[str]],
          truth: Sequence[Float[Tensor, "_ 4"]] | None = None, columns: int = 3) -> Figure:
    """Pictures with the boxes found (x0, y0, x1, y1) and their names; true boxes dotted, if given."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.5 * columns, 2.6 * rows), layout="constrained",
                                squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for n, (axis, image) in enumerate(zip(axes.flat, images)):
        shown = picture(image)
        axis.imshow(shown)
        for x0, y0, x1, y1 in truth[n].tolist() if truth is not None else []:
            axis.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color="white",
                                     linewidth=1.6, linestyle=":"))
        for (x0, y0, x1, y1), name in zip(boxes[n].tolist(), names[n]):
            axis.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color=PALETTE[1],
                                     linewidth=2))
            axis.text(np.clip(x0, 0, shown.shape[1] - 12), max(y0 - 1, 4), name, fontsize=9, color="white",
                      va="bottom", bbox={"facecolor": PALETTE[1], "pad": 1, "linewidth": 0})
    return figure
