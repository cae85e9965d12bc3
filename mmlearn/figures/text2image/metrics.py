"""Figures of the metrics of generated pictures: which number notices which fault, what the Frechet distance
measures, and what the number of pictures does to it.

Papers: see ``mmlearn.metrics``.  Survey: 2.1.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from mmlearn.data.pairs import PairData
from mmlearn.figures.diagram import Diagram, Number, literal
from mmlearn.figures.interactive import Block, hover
from mmlearn.metrics.frechet import Extrapolation
from mmlearn.metrics.manifolds import in_manifold, neighbour_radii
from mmlearn.plot import PALETTE

SHARES = ("precision", "recall", "R-precision", "attributes")          # full marks are 1
LOWER = ("Frechet distance", "kernel distance")                        # the smaller, the better


def suspects(made: Mapping[str, PairData], scores: Mapping[str, Mapping[str, Number]], shown: int = 5,
             highest: Mapping[str, Number] | None = None) -> Block:
    """Tap a set of pictures: some of them, the sentence of the first, and a bar for each of its scores beside
    those of the first set (the line).

    ``scores`` are {set: {metric: value}}; bars of metrics that are no shares go up to ``highest`` (default:
    the largest value of all sets). Raises ``ValueError`` if sets and scores differ.
    """
    names = list(made)
    if not names or names != list(scores) or any(list(scores[n]) != list(scores[names[0]]) for n in names):
        raise ValueError(f"sets are {names}, scores are of {list(scores)}; give the same metrics for each")
    metrics, first = list(scores[names[0]]), scores[names[0]]
    tops = {m: 1.0 if m in SHARES else max(float(scores[n][m]) for n in names) or 1.0 for m in metrics}
    tops |= highest or {}
    side, head, panels = 84, 120, []
    for name in names:
        told = ", ".join(f"{m} {scores[name][m]:.3g}" for m in metrics)
        drawn = Diagram(460, head + 30 * len(metrics) + 8, f"{name}: {told}")
        for k, image in enumerate(made[name].images[:shown]):
            drawn.image(48 + 91 * k, 44, image, side)
        drawn.text(230, 102, literal(f"the first is to show: {made[name].captions[0][0]}"), 13, "soft")
        for k, metric in enumerate(metrics):
            y, value = head + 16 + 30 * k, float(scores[name][metric])
            worse = value > first[metric] if metric in LOWER else value < first[metric]
            far = abs(value - first[metric]) > 0.15 * max(abs(float(first[metric])), 0.05 * tops[metric])
            drawn.text(136, y, metric, 14, anchor="end", weight=600)
            drawn.bar(146, y, 220, 16, "frozen", ' fill-opacity="0.18"')
            drawn.bar(146, y, 220 * min(max(value / tops[metric], 0), 1), 16,
                      "loss" if worse and far else "text")
            x = 146 + 220 * min(max(float(first[metric]) / tops[metric], 0), 1)
            drawn.line([(x, y - 11), (x, y + 11)])
            drawn.text(376, y, f"{value:.3g}".replace("-", "−"), 14, "", "start", 600)
        panels.append(drawn)
    return hover(names, panels, "Sets of pictures that stand for generated ones, and their scores")


def transport(mean: Float[Tensor, " 2"], factor: Float[Tensor, "2 2"], other_mean: Float[Tensor, " 2"],
              other: Float[Tensor, "2 2"], angles: Sequence[float], costs: Sequence[float],
              least: float | int) -> Figure:
    """Two Gaussians given by mean and factor, where each point of the first goes at the cheapest angle, and
    the cost at every angle beside the value of the formula, ``least``."""
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.2), layout="constrained")
    best = angles[min(range(len(costs)), key=lambda i: costs[i])]
    turn = _turn(best)
    ring = torch.stack([torch.tensor([math.cos(t), math.sin(t)], dtype=torch.float64)
                        for t in torch.linspace(0, 2 * math.pi, 73).tolist()])
    start, end = mean + ring @ factor.T, other_mean + ring @ turn @ other.T
    for points, colour, label in ((start, PALETTE[0], "real"), (end, PALETTE[1], "generated")):
        axes[0].plot(points[:, 0], points[:, 1], color=colour, label=label)
    for a, b in zip(start[:-1:6].tolist(), end[:-1:6].tolist()):
        axes[0].annotate("", b, a, arrowprops={"arrowstyle": "->", "color": "#6b7686", "linewidth": 1.0})
    axes[0].set_aspect("equal")
    axes[0].legend(fontsize=9, loc="upper left")
    axes[1].plot([math.degrees(angle) for angle in angles], costs, color=PALETTE[2], label="linear couplings")
    axes[1].axhline(float(least), linestyle=":", color="black", label="the formula")
    axes[1].set(xlabel="angle of the coupling, degrees", ylabel="mean squared way", ylim=(0, None))
    axes[1].legend(fontsize=9)
    return figure


def _turn(angle: float) -> Float[Tensor, "2 2"]:
    """Rows times this matrix are turned by ``angle``."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, s], [-s, c]], dtype=torch.float64)


def sample_bias(lines: Mapping[str, Extrapolation], ylabel: str = "Frechet distance") -> Figure:
    """A metric over 1/n for each set: the draws, the line through them, and where it meets n = infinity."""
    figure, axis = plt.subplots(figsize=(6.4, 3.5), layout="constrained")
    sizes: set[int] = set()
    for i, (name, line) in enumerate(lines.items()):
        x = [1 / n for n in line.sizes]
        axis.plot(x, line.values, "os^D"[i % 4], color=PALETTE[i], markersize=5, label=name)
        axis.plot([0, max(x)], [line.at_infinity, line.at_infinity + line.slope * max(x)], "--",
                  color=PALETTE[i], linewidth=1.2)
        axis.plot(0, line.at_infinity, "*", color=PALETTE[i], markersize=12, clip_on=False)
        sizes |= set(line.sizes)
    marks = sorted(sizes)
    axis.set_xticks([0, *(1 / n for n in marks)], ["∞", *(f"{n:,}" for n in marks)])
    axis.set(xlabel="number of generated pictures (the axis is 1/n)", ylabel=ylabel, ylim=(0, None))
    axis.legend(fontsize=9)
    return figure


def by_level(curves: Mapping[str, Mapping[Number, Number]], levels: Mapping[str, str]) -> Figure:
    """A distance over the level of each fault, one panel a fault; ``levels`` says what its level is."""
    figure, axes = plt.subplots(1, len(curves), figsize=(3.6 * len(curves), 2.9), sharey=True,
                                layout="constrained", squeeze=False)
    for i, (axis, (name, values)) in enumerate(zip(axes[0], curves.items())):
        axis.plot(list(values), list(values.values()), "o-", color=PALETTE[i])
        axis.set(title=name, xlabel=levels[name], yscale="log")
        axis.yaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(plt.NullFormatter())
    axes[0, 0].set_ylabel("Frechet distance")
    return figure


def manifolds(real: Float[Tensor, "n 2"], fake: Float[Tensor, "m 2"], k: int = 3) -> Figure:
    """Precision and recall of points in the plane: balls around one set, and which points of the other are in
    them."""
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.5), layout="constrained", sharex=True, sharey=True)
    _balls(axes[0], real, fake, k, ("real", "generated"), PALETTE[0], PALETTE[1], "precision")
    _balls(axes[1], fake, real, k, ("generated", "real"), PALETTE[1], PALETTE[0], "recall")
    return figure


def _balls(axis: Axes, of: Tensor, points: Tensor, k: int, names: tuple[str, str], colour: str, other: str,
           what: str) -> None:
    radii = neighbour_radii(of, k)
    for (x, y), r in zip(of.tolist(), radii.tolist()):
        axis.add_patch(Circle((x, y), r, color=colour, alpha=0.12, linewidth=0))
    inside = in_manifold(points, of, radii)
    axis.plot(of[:, 0], of[:, 1], ".", color=colour, markersize=5, label=names[0])
    axis.plot(points[inside, 0], points[inside, 1], "o", color=other, markersize=4,
              label=f"{names[1]}, inside")
    axis.plot(points[~inside, 0], points[~inside, 1], "x", color=other, markersize=5,
              label=f"{names[1]}, outside")
    axis.set(title=f"{what} {float(inside.double().mean()):.2f}", aspect="equal")
    axis.grid(False)
    axis.legend(fontsize=8, loc="upper left")
