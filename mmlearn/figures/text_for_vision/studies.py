"""Pictures of the studies: effective robustness, noise against size, UniCL.

Papers and survey: see the studies of ``mmlearn.experiments.text_for_vision`` whose results are drawn.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmlearn.metrics.robustness import fit_line
from mmlearn.plot import PALETTE

MARKERS = ("s", "D", "v", "o", "^", "P")
TICKS = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)


def _logit_axes(axis: Axes, low: float = 0.01, high: float = 0.993) -> None:
    axis.set(xscale="logit", yscale="logit", xlim=(0.4, high), ylim=(low, high))
    for side in (axis.xaxis, axis.yaxis):
        side.set_minor_locator(plt.NullLocator())
        side.set_major_locator(plt.FixedLocator(TICKS))
        side.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))


def robustness(study: Mapping[str, Any], shifts: Sequence[str], same: str = "same") -> Figure:
    """Accuracy under each shift against accuracy without it, both on a logit scale, with the reference line.

    ``study`` holds "reference", a list of models with their "accuracy" by test set, and "runs", accuracies by
    arm.
    """
    figure, axes = plt.subplots(1, len(shifts), figsize=(3.0 * len(shifts), 3.9), sharey=True,
                                layout="constrained", squeeze=False)
    grid = torch.linspace(0.4, 0.993, 60, dtype=torch.float64)
    for axis, shift in zip(axes[0], shifts):
        x, y = (torch.tensor([m["accuracy"][name] for m in study["reference"]],
                             dtype=torch.float64) for name in (same, shift))
        axis.plot(grid, grid, ":", color="grey", label="no loss")
        axis.plot(grid, fit_line(x, y).expected(grid), color=PALETTE[0], label="line of the references")
        axis.plot(x, y, ".", color=PALETTE[0], markersize=8, label="reference models: labels, narrow")
        for i, (name, rows) in enumerate(study["runs"].items()):
            axis.plot([row[same] for row in rows], [row[shift] for row in rows], MARKERS[i],
                      color=PALETTE[i + 1], markersize=6, label=name, alpha=0.85)
        _logit_axes(axis)
        axis.set(title=shift, xlabel="accuracy, same world")
        axis.tick_params(axis="x", labelrotation=45)
    axes[0, 0].set_ylabel("accuracy under shift")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _band(axis: Axes, runs: Mapping[str, Sequence[float]], label: str, number: int) -> None:
    """Means over seeds with the range between the lowest and the highest, over numeric keys."""
    at = sorted(int(key) for key in runs)
    values = [runs[str(key)] for key in at]
    axis.plot(at, [np.mean(v) for v in values], MARKERS[number] + "-", color=PALETTE[number], label=label)
    axis.fill_between(at, [min(v) for v in values], [max(v) for v in values], color=PALETTE[number],
                      alpha=0.2, linewidth=0)


def noise_against_size(study: Mapping[str, Any], chance: float | int = 1 / 30) -> Figure:
    """Zero-shot accuracy against the number of pictures, with and without wrong captions; bands from lowest
    to highest."""
    figure, axis = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    share = round(100 * study["settings"]["noise"])
    _band(axis, study["clean"], "captions right", 0)
    _band(axis, study["noisy"], f"{share} % of captions wrong", 1)
    size, values = next(iter(study["smoothed"].items()))
    axis.plot([int(size)] * len(values), values, "*", color=PALETTE[2], markersize=9,
              label="same, labels smoothed")
    axis.axhline(chance, linestyle=":", color="grey", label="chance")
    sizes = sorted({int(n) for n in (*study["clean"], *study["noisy"])})
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axis.minorticks_off()
    axis.set(xlabel="training pictures", ylabel="zero-shot accuracy", ylim=(0, 1))
    axis.legend(fontsize=8)
    return figure


def curves_of_losses(study: Mapping[str, Any], panels: Sequence[str]) -> Figure:
    """Accuracy against steps for CLIP's and UniCL's loss, a panel a kind of caption; bands from lowest to
    highest seed."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.7 * len(panels), 3.5), sharey=True,
                                layout="constrained", squeeze=False)
    for axis, panel in zip(axes[0], panels):
        for number, (loss, runs) in enumerate(study["curves"][panel].items()):
            by_step = {str(step): [run["top-1"][i] for run in runs] for i, step in enumerate(runs[0]["step"])}
            _band(axis, by_step, loss, number)
        axis.set(title=panel, xlabel="step")
    axes[0, 0].set_ylabel("zero-shot accuracy")
    axes[0, 0].legend()
    return figure
