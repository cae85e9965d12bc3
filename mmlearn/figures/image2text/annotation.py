"""Pictures of section 1.1: the annotation pipeline on one scene, its cost, and a precision-recall staircase.

Paper: T.-Y. Lin et al. (2014), *Microsoft COCO*, arXiv:1405.0312, fig. 3 (the idea of the first).  Survey:
1.1.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from mmlearn.data.scenes import portrait, render
from mmlearn.data.scenes.graph import Scene
from mmlearn.image2text.annotation import (
    NAMES,
    GroundTruth,
    Hours,
    Worker,
    ground_truth,
    label_categories,
    segment,
    spot_instances,
)
from mmlearn.plot import PALETTE

STAGES = ("the picture", "a. categories", "b. instances", "c. masks")


def draw_stages(scene: Scene, annotators: int = 8, size: int = 160, seed: int = 0) -> Figure:
    """One scene in four panels: as it is, with icons (stage a), crosses (stage b), polygons (stage c)."""
    rng, worker = np.random.default_rng(seed), Worker(slip=0.0, false_alarm=0.0)
    truth, image = ground_truth([scene], size), render(scene, size=size).image
    labels = label_categories(truth, [worker] * annotators, rng).union()
    crosses = spot_instances(truth, labels, [worker] * annotators, rng)
    figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.45), layout="constrained")
    for axis, title in zip(axes, STAGES):
        axis.imshow(image, alpha=1.0 if title == STAGES[0] else 0.45)
        axis.set(title=title, xlim=(0, size), ylim=(size, 0))
        axis.axis("off")
    for category in np.nonzero(labels[0])[0]:
        _drop_icon(axes[1], truth, int(category), size)
    for w in range(annotators):
        x, y = (crosses.position[crosses.worker == w] * size).T
        axes[2].plot(x, y, "x", color=PALETTE[w % len(PALETTE)], markersize=6, markeredgewidth=1.6)
    for number, row in enumerate(np.unique(crosses.instance)):
        for polygon in segment(truth.masks[row], worker, rng):
            x, y = np.reshape(polygon, (-1, 2)).T
            axes[3].fill(x, y, facecolor=PALETTE[number % 6] + "88", edgecolor=PALETTE[number % 6],
                         linewidth=1.4)
    return figure


def _drop_icon(axis: Axes, truth: GroundTruth, category: int, size: int) -> None:
    """Put the icon of a category onto its most visible instance."""
    rows = np.nonzero(truth.category == category)[0]
    if not len(rows):
        return
    x, y = truth.centre[rows[np.argmax(truth.area[rows])]] * size
    picture = render(portrait(NAMES[category]), size=96)
    down, across = (np.nonzero(picture.masks[0].any(axis=axis))[0] for axis in (1, 0))
    shown = np.where(picture.masks[0][..., None], picture.image,
                     255)[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    icon = OffsetImage(shown, zoom=26 / max(shown.shape))
    axis.add_artist(AnnotationBbox(icon, (x, y), pad=0.2,
                                   bboxprops={"edgecolor": "#444444", "linewidth": 0.8}))


def draw_hours(rows: Mapping[str, Hours], unit: str = "worker-hours") -> Figure:
    """Stacked bars, one for each entry of ``rows``: hours of the four stages, with the total at the end."""
    figure, axis = plt.subplots(figsize=(7.2, 0.7 + 0.5 * len(rows)), layout="constrained")
    left = np.zeros(len(rows))
    for stage, colour in zip(Hours._fields, PALETTE):
        part = np.array([getattr(hours, stage) for hours in rows.values()])
        if not part.any():
            continue
        axis.barh(list(rows), part, left=left, color=colour, label=stage)
        left += part
    for y, total in enumerate(left):
        axis.text(total, y, f" {total:,.0f}", va="center")
    axis.set(xlabel=unit, xlim=(0, left.max() * 1.16))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.grid(visible=False, axis="y")
    axis.invert_yaxis()
    axis.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.45, 1.0), frameon=False)
    return figure


def draw_precision_recall(recall: Sequence[float] | Float[np.ndarray, " n"],
                          precision: Sequence[float] | Float[np.ndarray, " n"], points: int = 101) -> Figure:
    """Measured points, the monotone envelope max over higher recalls, and the recalls at which AP samples
    it."""
    recalls, precisions = np.asarray(recall, dtype=float), np.asarray(precision, dtype=float)
    grid = np.linspace(0, 1, points)
    envelope = np.array([max([p for r, p in zip(recalls, precisions) if r >= at],
                             default=0.0) for at in grid])
    figure, axis = plt.subplots(figsize=(5.2, 3.0), layout="constrained")
    axis.plot(grid, envelope, ".", color=PALETTE[0], markersize=4, label=f"envelope at {points} recalls")
    axis.plot(recalls, precisions, "o", color=PALETTE[1], markersize=8, markerfacecolor="none",
              label="after each detection")
    for k, (x, y) in enumerate(zip(recalls, precisions), start=1):
        axis.annotate(str(k), (x, y), textcoords="offset points", xytext=(7, -12))
    axis.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.04), ylim=(0, 1.1))
    axis.legend(loc="lower left")
    return figure
