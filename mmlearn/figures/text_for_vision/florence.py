"""Pictures of section 4.4: what Florence adapts to, which cells a window sees, what the detector finds.

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

from mmlearn.nn.swin import shift_mask, to_windows
from mmlearn.plot import PALETTE, picture

AXES = {                                                # axis: from what to what, and the adapter for it
    "space": (("whole picture", "single objects"), "Dynamic Head", (1.0, 0.0)),
    "time": (("picture", "video"), "Video CoSwin", (0.0, 1.0)),
    "modality": (("colours", "depth", "captions"), "METER", (0.62, 0.5)),
}


def adapters() -> Figure:
    """The three directions in which tasks differ, and what is added to the pre-trained model in each."""
    figure, axis = plt.subplots(figsize=(6.0, 3.5), layout="constrained")
    for color, (name, (steps, adapter, (dx, dy))) in zip(PALETTE, AXES.items()):
        axis.annotate(
            "", (dx, dy), (0, 0), arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2.5}
        )
        right = {"space": (0.12, -0.08), "time": (-0.03, 0.75), "modality": (0.68, 0.52)}[name]
        axis.text(*right, f"{name}: {' → '.join(steps)}\n{adapter}", color=color, fontsize=11,
                  ha={"space": "left", "time": "right", "modality": "left"}[name],
                  va={"space": "top", "time": "center", "modality": "center"}[name])
    axis.plot(0, 0, "o", color="black", markersize=9)
    axis.text(-0.05, 0.0, "classification,\nretrieval", ha="right", va="center", fontsize=11)
    axis.set(xlim=(-0.75, 1.5), ylim=(-0.3, 1.05))
    axis.axis("off")
    return figure


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
