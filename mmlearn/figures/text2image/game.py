"""Figures of the game of two networks: its value on a line, its gradients, its paths, its modes.

Papers: I. Goodfellow et al. (2014), *Generative Adversarial Nets*, arXiv:1406.2661; L. Metz et al. (2017),
*Unrolled Generative Adversarial Networks*, arXiv:1611.02163 (points that hop between modes).  Survey: 2.1.1.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.figures.diagram import COLOURS, Diagram, Number, Point
from mmlearn.figures.interactive import Block, player, slider
from mmlearn.text2image.adversarial import (
    criterion,
    masses,
    non_saturating_gradient,
    saturating_gradient,
)
from mmlearn.text2image.gan import GAN, GaussianMixture, grid, mode_coverage, mode_shares

DATA = GaussianMixture(torch.tensor([[1.0]], dtype=torch.float64), 0.7)     # of the game on a line
MEANS = [-4 + 0.5 * k for k in range(15)]
WIDTHS = [0.35, 0.7, 1.4]
_LINES = [("image", "--"), ("block", "-."), ("new", ":"), ("loss", "-")]


# ----------------------------------------------------------------------------------------- the game on a line


def line_game(mean: float | int, std: float | int, data: GaussianMixture = DATA,
              points: int = 1201) -> dict[str, Tensor]:
    """What is known of a game on a line: places ``x`` (n), densities ``p`` and ``q`` (n), the best
    discriminator ``D`` (n), and the value ``C`` that it leaves, all in double precision."""
    x = grid(-12, 12, points, d=1).double()
    q = GaussianMixture(torch.tensor([[mean]], dtype=torch.float64), std)
    log_p, log_q = data.log_density(x), q.log_density(x)
    # sigma of the logit: far out both densities are 0 in any precision, their ratio is not
    return {"x": x[:, 0], "p": log_p.exp(), "q": log_q.exp(), "D": (log_p - log_q).sigmoid(),
            "C": criterion(masses(log_p), masses(log_q))}


def game_on_a_line(data: GaussianMixture = DATA, means: Sequence[Number] = MEANS,
                   widths: Sequence[Number] = WIDTHS) -> Block:
    """Two sliders move and widen the generator: densities, the best discriminator, and what the value is."""
    low = -math.log(4)
    left, wide, top, tall, under_top, deep = 30, 250, 24, 96, 150, 62
    right, far, up, down = 326, 128, 44, 140
    most = 1.2

    def place(x: Tensor, y: Tensor, foot: Number, height: Number) -> list[Point]:
        keep = (x >= -5) & (x <= 4)
        return [(left + wide * (a + 5) / 9, foot - height * b)
                for a, b in zip(x[keep].tolist()[::6], y[keep].tolist()[::6])]

    def at(mean: Number, C: Number) -> Point:
        return right + far * (mean - means[0]) / (means[-1] - means[0]), up + down * C / low

    under = Diagram(470, 240, "density of the data, axes")
    first = line_game(means[0], widths[0], data)
    _area(under, place(first["x"], first["p"] / most, top + tall, tall), "image", top + tall)
    under.line([(left, top + tall), (left + wide, top + tall)])
    for y, name in ((under_top, "1"), (under_top + deep / 2, "½"), (under_top + deep, "0")):
        under.line([(left, y), (left + wide, y)], "frozen", dashed=name == "½")
        under.text(left - 6, y, name, 12, "soft", "end")
    under.text(left, top - 12, "data *p*", 13, "image", "start", 600)
    under.text(left + 78, top - 12, "generator *q*", 13, "text", "start", 600)
    under.text(left, under_top - 12, "best discriminator *D*^*", 13, "block", "start", 600)
    under.line([(right, up), (right, up + down), (right + far, up + down)])
    under.text(right, 12, "what is left of *V*", 13, "loss", "start", 600)
    under.line([(right, up), (right + far, up)], "frozen", dashed=True)
    under.text(right - 4, up, "0", 12, "soft", "end")
    under.text(right - 4, up + down, "−log 4", 12, "soft", "end")
    under.text(right + far / 2, up + down + 16, "mean of *q*", 12, "soft")
    known = {(mean, width): line_game(mean, width, data) for mean in means for width in widths}
    curves = {width: [(m, float(line_game(m, width, data, 601)["C"]))
                      for m in np.linspace(means[0], means[-1], 57)] for width in widths}
    frames, labels = [], []
    for (mean, width), each in known.items():
        C = float(each["C"])
        drawn = Diagram(470, 240, f"generator of mean {mean:g} and width {width:g}: value {C:.3f}")
        _area(drawn, place(each["x"], each["q"] / most, top + tall, tall), "text", top + tall)
        _curve(drawn, place(each["x"], each["D"], under_top + deep, deep), "block")
        _curve(drawn, [at(m, C) for m, C in curves[width]], "loss")
        x, y = at(mean, C)
        drawn.add(f'<circle class="mm-h mm-loss" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        frames.append(drawn)
        JSD = (C - low) / 2
        labels.append(f"C(G) = {C:.3f} = −log 4 + 2 · {JSD:.3f}".replace("-", "−"))
    start = min(range(len(frames)), key=lambda i: abs([*known][i][0] + 1) + abs([*known][i][1] - widths[1]))
    return slider({"mean of q": means, "width of q": widths}, frames,
                  "A game on a line: data, generator, the best discriminator, and what is left of the value",
                  under=under, labels=labels, start=start)


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _curve(drawn: Diagram, points: Sequence[Point], role: str) -> None:
    drawn.add(f'<path class="mm-l mm-{role}" d="{_path(points)}" style="stroke-width:2.2"/>')


def _area(drawn: Diagram, points: Sequence[Point], role: str, foot: Number) -> None:
    """The area between a curve and the line at ``foot``."""
    closed = f"{_path(points)}L{points[-1][0]:.1f} {foot:.1f}L{points[0][0]:.1f} {foot:.1f}Z"
    drawn.add(f'<path class="mm-b mm-{role}" d="{closed}" fill-opacity="0.75"/>')


# ------------------------------------------------------------------------------------------------------ plots


def logit_gradients() -> Figure:
    """How hard each loss pulls at the logit of a generated picture, over the logit."""
    a = torch.linspace(-8, 8, 161)
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    axis.plot(a, saturating_gradient(a).abs(), "--", color=COLOURS["loss"], label="saturating: σ(a)")
    axis.plot(a, non_saturating_gradient(a).abs(), color=COLOURS["block"], label="non-saturating: 1 − σ(a)")
    axis.plot(a, torch.ones_like(a), ":", color=COLOURS["new"], linewidth=2, label="hinge: 1")
    axis.axvspan(-8, -4, color=COLOURS["frozen"], alpha=0.12)
    axis.text(-6, 0.5, "D is sure:\na fake", ha="center", va="center", fontsize=10)
    axis.set(xlabel="logit a of a generated example", ylabel="size of the gradient", ylim=(-0.04, 1.12))
    axis.legend(loc="center right", fontsize=9)
    return figure


def learned_logit(x: Tensor, log_p: Tensor, log_q: Tensor, a: Tensor) -> Figure:
    """A discriminator's logits over a line beside the logarithm of the density ratio; grey where points are
    rarer than a twentieth of where they are most frequent."""
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    density = log_p.exp() + log_q.exp()
    seen = density > density.max() / 20
    axis.plot(x, log_p - log_q, color=COLOURS["frozen"], linewidth=4, alpha=0.5, label="log p(x)/q(x)")
    axis.plot(x, a, "--", color=COLOURS["block"], label="logit of the trained D")
    axis.fill_between(x, -12, 12, where=~seen.numpy(), color=COLOURS["frozen"], alpha=0.15, linewidth=0)
    axis.set(xlabel="x", ylabel="logit", ylim=(-12, 12), xlim=(float(x.min()), float(x.max())))
    axis.legend(fontsize=9)
    return figure


def discriminators_in_the_plane(best: Tensor, learned: Tensor, reach: float | int) -> Figure:
    """D* and a trained D on the n points of a square ``grid`` from -reach to reach, side by side."""
    steps = math.isqrt(len(best))
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True)
    for axis, D, title in zip(axes, (best, learned), ("the best D", "the trained D")):
        shown = axis.imshow(D.reshape(steps, steps).T, origin="lower", vmin=0, vmax=1, cmap="RdBu",
                            extent=(-reach, reach, -reach, reach))
        axis.set(title=title, xlabel="$x_1$")
        axis.grid(visible=False)
    axes[0].set_ylabel("$x_2$")
    figure.colorbar(shown, ax=axes, fraction=0.024, label="D(x)")
    return figure


def fitted_bells(x: Tensor, p: Tensor, fits: Mapping[str, Tensor]) -> Figure:
    """The data on a line and what fits it best by each of several measures."""
    figure, axis = plt.subplots(figsize=(6.6, 3.4))
    step = float(x[1] - x[0])
    axis.fill_between(x, p / step, color=COLOURS["frozen"], alpha=0.25, linewidth=0, label="data")
    for (name, q), (role, dashes) in zip(fits.items(), _LINES):
        axis.plot(x, q / step, dashes, color=COLOURS[role], label=name)
    axis.set(xlabel="x", ylabel="density", ylim=(0, None))
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.32), ncols=2)
    return figure


def paths_of_two(paths: Mapping[str, Sequence[Point]]) -> Figure:
    """Paths of two players with one number each, around their optimum, a panel a path."""
    figure, axes = plt.subplots(1, len(paths), figsize=(2.05 * len(paths), 2.5), sharex=True, sharey=True,
                                squeeze=False)
    for axis, (name, points) in zip(axes[0], paths.items()):
        theta, psi = np.array(points).T
        axis.plot(theta, psi, color=COLOURS["block"], linewidth=1)
        axis.plot(theta[0], psi[0], "o", color=COLOURS["text"], markersize=6)
        axis.plot(0, 0, "+", color="black", markersize=8)
        axis.set(xlabel="θ", aspect="equal")
        axis.set_title(name.replace(", ", ",\n"), fontsize=10)
    axes[0, 0].set_ylabel("ψ")
    return figure


# ------------------------------------------------------------------------------------------- points and modes


class Snapshots:
    """Where the same ``n`` rows of noise land as training goes on; ``train_gan`` calls it after each step.

    ``steps`` and ``points``, one (n, d) for each of them: the first step, and every ``every``-th.
    """

    def __init__(self, every: int, n: int = 500, noise: int = 2) -> None:
        self.every = every
        self.z = torch.randn(n, noise, generator=torch.Generator().manual_seed(0))
        self.steps: list[int] = []
        self.points: list[Tensor] = []

    @torch.no_grad()
    def __call__(self, step: int, gan: GAN) -> None:
        if step == 1 or step % self.every == 0:
            self.steps.append(step)
            self.points.append(gan(self.z.to(next(gan.parameters()).device)).cpu())


def modes_over_training(runs: Mapping[str, Snapshots], mixture: GaussianMixture, shown: int = 220) -> Block:
    """A player over training: generated points over the mixture's modes, and each mode's share of the good
    ones, for one or two ``runs`` that were looked at after the same steps.

    At most ``shown`` points of a run are drawn, all are counted. Raises ``ValueError`` for other steps.
    """
    steps = next(iter(runs.values())).steps if runs else []
    if not 1 <= len(runs) <= 2 or any(run.steps != steps for run in runs.values()) or not steps:
        raise ValueError(f"runs {list(runs)} were looked at after {[run.steps for run in runs.values()]} "
                         f"steps; give one or two with the same steps")
    side, top, foot, high = 216, 24, 318, 50
    lefts = [8, 246] if len(runs) == 2 else [127]
    reach = 1.45 * float(mixture.centres.abs().max())
    m, fair = len(mixture.centres), 1 / len(mixture.centres)

    def inside(points: Tensor, left: Number) -> np.ndarray:
        return np.array([left, top]) + side * (points.numpy() * [1, -1] + reach) / (2 * reach)

    under = Diagram(470, 344, "modes of the data")
    for (name, _), left in zip(runs.items(), lefts):
        under.text(left + side / 2, 11, name, 14, weight=600)
        under.rect(left + side / 2, top + side / 2, side, side, radius=4, marks=' style="fill:none"')
        for x, y in inside(mixture.centres, left):
            under.add(f'<circle class="mm-b mm-image" cx="{x:.1f}" cy="{y:.1f}" '
                      f'r="{max(4.0, 3 * mixture.std * side / (2 * reach)):.1f}"/>')
        under.line([(left, foot), (left + side, foot)])
        fair_y = foot - high * 2 * fair
        under.line([(left, fair_y), (left + side, fair_y)], "frozen", dashed=True)
    frames = []
    for i, step in enumerate(steps):
        said = {}
        for name, run in runs.items():
            found = mode_coverage(run.points[i], mixture)
            said[name] = f"{found.modes} of {m} modes, {found.good:.0%} good"
        drawn = Diagram(470, 344, f"after {step} steps. " + "; ".join(f"{k}: {v}" for k, v in said.items()))
        for (name, run), left in zip(runs.items(), lefts):
            dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in inside(run.points[i][:shown], left)
                           if left < x < left + side and top < y < top + side)
            drawn.add(f'<path class="mm-l mm-text" d="{dots or "M0 0"}" '
                      f'style="stroke-width:4;stroke-linecap:round;stroke-opacity:.6"/>')
            for k, share in enumerate(mode_shares(run.points[i], mixture)[0].tolist()):
                tall = high * min(2 * share, 1)                             # half of all fills the height
                drawn.bar(left + side * (k + 0.15) / m, foot - tall / 2, 0.7 * side / m, tall, "text")
            drawn.text(left + side / 2, foot + 14, said[name], 13, halo=True)
        frames.append(drawn)
    labels = [f"after {step:,} step{'s' * (step != 1)}" for step in steps]
    return player(frames, labels, "What a GAN draws of eight modes as its training goes on", under=under,
                  start=-1, seconds=0.5)
