"""Pictures of section 4.2: which text belongs to which picture, the pull on one embedding, the weights of
negatives.

Papers: none has these figures.  Survey: 4.2 (the matrix of similarities).
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.plot import PALETTE
from mmlearn.text_for_vision.contrastive import embedding_gradient, logits, negative_weights


def pull_on_the_circle(u: Float[Tensor, " 2"], v: Float[Tensor, "b 2"],
                       scales: Sequence[float | int]) -> Figure:
    """One image (its partner is text 0) on the unit circle, with the step down its loss, a panel for each
    scale.

    The size of a text is its probability; the cross is their weighted mean.
    """
    figure, axes = plt.subplots(1, len(scales), figsize=(3.1 * len(scales), 3.5), layout="constrained",
                                squeeze=False)
    turn = torch.linspace(0, 2 * torch.pi, 200)
    for axis, scale in zip(axes[0], scales):
        p = logits(u[None], v, scale).softmax(dim=1)[0]
        mean = p @ v
        step = -embedding_gradient(u[None].expand(len(v), 2), v, scale)[0]
        step = 0.55 * step / step.norm().clamp_min(1e-12)
        axis.plot(turn.cos(), turn.sin(), color="#bbbbbb", linewidth=1)
        axis.scatter(*v[1:].T, s=30 + 600 * p[1:], color=PALETTE[5], alpha=0.8, label="other texts")
        axis.scatter(*v[:1].T, s=float(30 + 600 * p[0]), color=PALETTE[0], alpha=0.8, label="its text")
        axis.plot(*mean, "x", color="black", markersize=8, label="mean of all")
        axis.plot(*u, "s", color=PALETTE[2], markersize=9, label="image")
        axis.annotate("", (float(u[0] + step[0]), float(u[1] + step[1])), (float(u[0]), float(u[1])),
                      arrowprops={"arrowstyle": "->", "linewidth": 2, "color": PALETTE[2]})
        axis.set(aspect="equal", xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), xticks=[], yticks=[],
                 title=f"$e^t$ = {scale:g}")
        axis.set_axis_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=4)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([60])
    return figure


def weights_of_negatives(s: Float[Tensor, " n"], temperatures: Sequence[float | int]) -> Figure:
    """How the push is shared out among negatives, from the most similar to the least, at several
    temperatures."""
    figure, axis = plt.subplots(layout="constrained")
    s = s.sort(descending=True).values
    for i, tau in enumerate(temperatures):
        axis.plot(range(1, len(s) + 1), negative_weights(s, tau), marker="osD^v"[i % 5], markersize=4,
                  label=rf"$\tau$ = {tau:g}", color=PALETTE[i % 7], linestyle=("-", "--", "-.", ":")[i % 4])
    axis.set(xlabel="negative, from the most similar", ylabel="share of the push", yscale="log",
             ylim=(1e-4, 1.5))
    axis.legend()
    return figure
