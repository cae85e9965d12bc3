"""Pictures of the two studies of section 4.2: accuracy against images seen, and the learned scale.

Survey: 4.2.  Colours and markers are those of ``mmlearn.plot``; lines also differ in style, so that they
print in grey.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

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
