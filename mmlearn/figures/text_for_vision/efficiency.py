"""Pictures of the two studies of section 4.2: accuracy against images seen, differences with equal seeds, and
the learned scale.

Survey: 4.2.  Colours and markers are those of ``mmlearn.plot``; lines also differ in style, so that they
print in grey.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mmlearn.claims import paired
from mmlearn.figures.diagram import COLOURS

STYLES = ("-", "--", "-.", ":")


def efficiency_curves(
    study: Mapping[str, Any],
    live: Mapping[str, tuple[Sequence[float | int], Sequence[float | int]]] | None = None,
) -> Figure:
    """Zero-shot accuracy against images seen: mean of the seeds as a line, their range as a band, live runs
    as crosses.

    ``study`` is what the study "clip-efficiency" stored; ``live`` holds (images, accuracy) of runs by the
    same names.
    """
    figure, axis = plt.subplots(figsize=(5.2, 3.6))
    for i, (name, arm) in enumerate(study["arms"].items()):
        images = np.array([0, *arm["runs"][0]["images"]]) / 1000
        values = np.array([[0.0, *run["top-1"]] for run in arm["runs"]])
        line, = axis.plot(images, values.mean(axis=0), STYLES[i % 4], label=name)
        axis.fill_between(images, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2,
                          linewidth=0)
        if live and name in live:
            axis.plot(np.array(live[name][0]) / 1000, live[name][1], "x", color=line.get_color())
    axis.set_xlabel("images seen, thousands")
    axis.set_ylabel("zero-shot top-1 accuracy")
    axis.set_ylim(0, 1)
    axis.legend(loc="upper left")
    return figure


VERDICTS = {"worse": "loss", "cannot tell": "frozen", "better": "image"}      # the roles of their colours


def paired_differences(variants: Mapping[str, Sequence[Mapping[str, Any]]], metric: str,
                       base: str = "CLIP") -> Figure:
    """How far each variant is from ``base`` with the same seeds: a dot a seed, a line two standard errors to
    either side of the mean, coloured by the verdict of the book's rule."""
    def scores(name: str) -> list[float]:
        return [float(run["scores"][metric]) for run in variants[name]]

    names = [name for name in variants if name != base]
    figure, axis = plt.subplots(figsize=(5.4, 0.42 * len(names) + 1.1), layout="constrained")
    for row, name in enumerate(names):
        found = paired(scores(name), scores(base))
        colour = COLOURS[VERDICTS[found.verdict]]
        axis.plot([found.mean - 2 * found.error, found.mean + 2 * found.error], [row, row], color=colour)
        axis.plot([a - b for a, b in zip(scores(name), scores(base))], [row] * len(variants[name]), "o",
                  color=colour, markersize=6)
        axis.text(1.02, row, found.verdict, color=colour, va="center", transform=axis.get_yaxis_transform())
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(f"{metric}: difference from {base}")
    return figure


def scale_curves(study: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """The scale $e^t$ over the steps of the study "contrastive-ablation", one line a variant and seed."""
    figure, axis = plt.subplots(figsize=(5.2, 3.2))
    for i, name in enumerate(names):
        for seed, run in enumerate(study["variants"][name]):
            axis.plot(run["curve"]["step"], run["curve"]["scale"], STYLES[i % 4], color=f"C{i}",
                      label=name if seed == 0 else None)
    axis.set_xlabel("step")
    axis.set_ylabel(r"scale $e^t$")
    axis.legend()
    return figure
