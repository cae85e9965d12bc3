"""Figures of section 4.6 and its side page: who is called what, gaps of answers and scores, classes,
thresholds.

Paper: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 7.1.  Survey: 4.6.

A group is shown by its place or its clothes and never by the colour of a bar: amber and violet are the two
roles in every figure, grey is what is neither.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mmlearn.experiments.text_for_vision.caption_bias import GROUPS, ROLES, People
from mmlearn.figures.diagram import COLOURS
from mmlearn.plot import PALETTE, picture

ROLE_COLOURS = (COLOURS["text"], COLOURS["new"], "#8a8f98")     # first role, second role, neither
MARKERS = ("s", "o")


def called(crowd: People, count: int = 6, columns: int = 3) -> Figure:
    """The first people, each under the role that the captions give."""
    count = min(count, len(crowd))
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 2.0 * rows), squeeze=False,
                                layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for i, (image, axis) in enumerate(zip(crowd.data.images[:count], axes.flat)):
        axis.imshow(picture(image))
        axis.set_title(f"“{ROLES[int(crowd.role[i])]}”", fontsize=11)
    return figure


def amplification(study: Mapping[str, Any]) -> Figure:
    """Gaps between the groups against that in the training captions: a circle is the answers of a seed, a
    cross its mean probabilities; on the diagonal a gap is as in the captions."""
    figure, axis = plt.subplots(figsize=(4.8, 3.9), layout="constrained")
    axis.plot([0, 1], [0, 1], ":", color="grey", label="as in the captions")
    for i, agreement in enumerate(study["settings"]["agreements"]):
        runs = study["runs"][str(agreement)]
        aside = np.linspace(-0.018, 0.018, len(runs)) if len(runs) > 1 else np.zeros(1)
        at = abs(2 * agreement - 1) + aside
        axis.plot(at, [run["gap"] for run in runs], "o", color=PALETTE[0], alpha=0.7, markersize=5,
                  label=None if i else "answers")
        scores = [abs(run["probabilities"][0][0] - run["probabilities"][1][0]) for run in runs]
        axis.plot(at, scores, "x", color=PALETTE[1], markersize=6, label=None if i else "mean probabilities")
    axis.set(xlabel="gap between the groups in the captions", ylabel="gap in the model", xlim=(-0.06, 1),
             ylim=(-0.04, 1.04))
    axis.legend(loc="lower right", fontsize=9)
    return figure


def shares(rows: Mapping[str, Any], groups: Sequence[str], classes: Sequence[str]) -> Figure:
    """Bars that are divided among the classes: a panel for each list of classes, a bar for each group."""
    figure, axes = plt.subplots(1, len(rows), figsize=(max(4.0, 2.1 * len(rows)), 3.3), sharey=True,
                                layout="constrained", squeeze=False)
    hatches = ("", "//", "..")
    for axis, (title, table) in zip(axes[0], rows.items()):
        for g, row in enumerate(table):
            bottom = 0.0
            for c, share in enumerate(row):
                axis.bar(g, share, 0.7, bottom=bottom, color=ROLE_COLOURS[c], alpha=0.8, hatch=hatches[c],
                         edgecolor="white", label=classes[c] if g == 0 else None)
                bottom += share
        axis.set_title(title, fontsize=10)
        axis.set_xticks(range(len(groups)), [f"in {group}" for group in groups])
    axes[0, 0].set_ylabel("share of the group's pictures")
    handles = {label: h for axis in axes[0] for h, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), [f"called {label}" for label in handles], loc="outside lower center",
                  ncols=3)
    return figure


def labels_by_threshold(labels: Mapping[str, Any], groups: Sequence[str] = GROUPS,
                        roles: Sequence[str] = ROLES) -> Figure:
    """Share of each group's pictures for which a role is shown as a label, against the threshold on its
    probability."""
    figure, axes = plt.subplots(1, len(groups), figsize=(3.6 * len(groups), 3.2), sharey=True,
                                layout="constrained", squeeze=False)
    at = [float(t) for t in labels]
    for g, axis in enumerate(axes[0]):
        for r, role in enumerate(roles):
            axis.plot(at, [table[g][r] for table in labels.values()], MARKERS[r] + "-",
                      color=ROLE_COLOURS[r], label=role)
        axis.set(title=f"people in {groups[g]}", xlabel="threshold", xscale="log", ylim=(-0.03, 1.03))
        axis.set_xticks(at, [f"{t:g}" for t in at], rotation=45)
        axis.minorticks_off()
    axes[0, 0].set_ylabel("share with this label")
    axes[0, 0].legend()
    return figure
