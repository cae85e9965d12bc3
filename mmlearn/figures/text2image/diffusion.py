"""Figures of diffusion: the two chains, a scene that drowns in noise, samplers over their steps, the U-Net.

Papers: J. Sohl-Dickstein et al. (2015), arXiv:1503.03585, fig. 1 (points noised and drawn back); J. Ho et al.
(2020), arXiv:2006.11239, fig. 2 and app. B; P. Dhariwal and A. Nichol (2021), arXiv:2105.05233, sec. 3.
Survey: 2.3.1.

Teal are pictures and the forward chain, violet is the reverse chain and, in the U-Net, attention. Everything
that moves is drawn from a denoiser that is given.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.figures.diagram import COLOURS, Box, Diagram, Number
from mmlearn.figures.interactive import Block, player, slider
from mmlearn.figures.text2image.architecture import real_picture
from mmlearn.plot import picture
from mmlearn.text2image.ddpm import DDPMConfig
from mmlearn.text2image.diffusion import (
    NoiseSchedule,
    bound_weight,
    draw,
    forward_chain,
    noised,
    x0_from_noise,
)
from mmlearn.text2image.samplers import (
    DDIM,
    Ancestral,
    DPMSolver,
    Heun,
    Method,
    even_in_lambda,
    half_log_snr,
    sample,
    sample_steps,
)
from mmlearn.text2image.toy_diffusion import Mixture, MixtureDenoiser
from mmlearn.text2image.unet import UNetConfig

ALPHA_BAR = "α\u0304"
HUES = ("image", "text", "new", "block")            # of the components of a mixture, in turn
REACH = 3.2                                         # half of the side of the plane that is shown

# name -> the sampler, and whether its steps are even in lambda (else in t)
SAMPLERS: dict[str, tuple[Method, bool]] = {
    "ancestral, large": (Ancestral("large"), False), "ancestral, small": (Ancestral("small"), False),
    "DDIM": (DDIM(), False), "DDIM, even in λ": (DDIM(), True),
    "DPM-Solver++": (DPMSolver(), False), "DPM-Solver++, even in λ": (DPMSolver(), True)}


def shown(x: Float[Tensor, "3 y x"]) -> np.ndarray:
    """A picture in [-1, 1] and beyond, for the eye."""
    return picture((x.detach().cpu().float() + 1) / 2)


def scene() -> Float[Tensor, "3 64 64"]:
    """The scene of these figures, in [-1, 1]."""
    return torch.from_numpy(real_picture(64)).permute(2, 0, 1).float() / 127.5 - 1


# -------------------------------------------------------------------------------------------------- diagrams


def chain(schedule: NoiseSchedule | None = None) -> Diagram:
    """The forward and the reverse chain: what is fixed, what is learned."""
    schedule = schedule or NoiseSchedule.linear()
    drawn = Diagram(470, 292, (
        "Forward and reverse chain. Four pictures in a row: x_0, a drawn scene; x_{t-1} and x_t, the same "
        "with more and more noise; x_T, noise alone. Above, from x_{t-1} to x_t, the forward step q: shrink "
        "and add noise, nothing to learn. Below, from x_t back to x_{t-1}, the reverse step p theta: a "
        "network reads x_t and t and says which noise is in it, then the step goes to a mean and adds a "
        "little fresh noise. Violet: what is learned."))
    x0, noise = scene(), draw((3, 64, 64), torch.Generator().manual_seed(0))
    last = len(schedule) - 1
    row: list[Box] = []
    for x, place, name in ((40, -1, "*x*_0"), (150, last // 5, "*x_{t−1}*"), (320, last // 3, "*x_t*"),
                           (430, last, "*x_T*")):
        bar = 1.0 if place < 0 else schedule.alpha_bars[place].item()
        row.append(drawn.image(x, 108, shown(noised(x0, noise, bar)), 64))
        drawn.text(x, 154, name, 15, "image", weight=600)
    for x in (95, 375):
        drawn.text(x, 108, "…", 18, "soft")
    drawn.text(40, 174, "data", 13, "soft")
    drawn.text(430, 174, "noise", 13, "soft")
    drawn.text(235, 14, "forward *q*(*x_t* | *x_{t−1}*), fixed", 14, "image", weight=600)
    drawn.text(235, 34, "shrink by √(1 − *β_t*), add noise of variance *β_t*", 13, "soft")
    drawn.arrow(row[1], row[2], role="image", sides="tt", via=[(150, 54), (320, 54)])
    net = drawn.box(235, 212, "network\nwhich noise is in *x_t*?", "new", 144, 48)
    drawn.arrow((320, 168), net, role="new", sides="br", via=[(320, 212)])
    drawn.arrow(net, (150, 168), role="new", sides="lb", via=[(150, 212)])
    drawn.text(235, 258, "reverse *p_θ*(*x_{t−1}* | *x_t*), learned", 14, "new", weight=600)
    drawn.text(235, 278, "go to the mean *μ_θ*, add noise of variance *σ_t*^2", 13, "soft")
    return drawn


def unet(config: UNetConfig | None = None) -> Diagram:
    """A U-Net with the shapes of its maps: down on the left, up on the right, skips across. By default DDPM's
    of CIFAR-10."""
    config = config or DDPMConfig.cifar10()
    levels = [(width, config.size >> i) for i, width in enumerate(config.widths)]
    pitch, top = 82, 134
    foot = top + pitch * len(levels)
    maps = ", ".join(f"{width} x {side} x {side}" for width, side in levels)
    drawn = Diagram(470, foot + 38, (
        f"A U-Net. x_t, {config.in_channels} x {config.size} x {config.size}, enters on the left and goes "
        f"down through {len(levels)} levels with maps of {maps}. A level has {config.blocks} residual "
        f"blocks, each followed by attention where maps have a side of "
        f"{' or '.join(map(str, config.attention))} (violet). In the middle: residual block, attention, "
        f"residual block. On the right it goes up again, {config.blocks + 1} residual blocks a level, and "
        f"each is joined by a map of the way down. Out comes the predicted noise, {config.out_channels} "
        f"maps. Every residual block also reads e, {config.embedding} numbers made of the timestep."))
    x0, noise = scene(), draw((3, 64, 64), torch.Generator().manual_seed(0))
    into = drawn.image(92, 50, shown(noised(x0, noise, 0.6)), 48)
    out = drawn.image(378, 50, shown(noise), 48)
    drawn.text(92, 12, f"*x_t*, {config.in_channels} × {config.size} × {config.size}", 14, "image")
    drawn.text(378, 12, f"*ε_θ*, {config.out_channels} × {config.size} × {config.size}", 14, "new")
    drawn.box(235, 38, f"timestep *t*\nwaves, two layers\n*e*: {config.embedding} numbers", "text", 150, 66)
    drawn.text(235, 86, "read by every", 13, "text")
    drawn.text(235, 102, "residual block", 13, "text")
    before_left, before_right = into, out
    for i, (width, side) in enumerate(levels):
        y = top + pitch * i
        attends = side in config.attention
        shape = f"{width} × {side} × {side}"
        names = [f"{n} × " + ("(residual, attention)" if attends else "residual") for n in
                 (config.blocks, config.blocks + 1)]
        left = drawn.box(92, y, f"{shape}\n{names[0]}", "new" if attends else "block", 172, 46)
        right = drawn.box(378, y, f"{shape}\n{names[1]}", "new" if attends else "block", 172, 46)
        drawn.arrow(before_left, left, "convolution" if not i else "half the side", side=1)
        drawn.arrow(right, before_right, "convolution" if not i else "twice the side", side=-1)
        drawn.arrow(left, right, f"{config.blocks + 1} maps", role="image", dashed=True)
        before_left, before_right = left, right
    width, side = levels[-1]
    middle = drawn.box(235, foot - 8, f"{width} × {side} × {side}\nresidual, attention, residual", "new",
                       206, 46)
    drawn.arrow(before_left, middle, sides="bl")
    drawn.arrow(middle, before_right, sides="rb")
    return drawn


# ------------------------------------------------------------------------------------------ chains that move


def noised_scene(x0: Float[Tensor, "3 y x"] | None = None, schedule: NoiseSchedule | None = None,
                 frames: int = 11, seed: int = 0) -> Block:
    """A player along the forward chain: a picture at every so many steps, and the shares of picture and
    noise."""
    schedule = schedule or NoiseSchedule.linear()
    x0 = scene() if x0 is None else x0
    T, draws = len(schedule), torch.Generator().manual_seed(seed)
    wanted = {round(T * k / (frames - 1)) for k in range(frames)}
    pictures, labels = [], []
    for t, (_, x) in enumerate(forward_chain(x0, schedule, draws)):
        if t not in wanted:
            continue
        bar = 1.0 if t == 0 else schedule.alpha_bars[t - 1].item()
        shares = bar**0.5, (1 - bar)**0.5
        drawn = Diagram(470, 212, f"t = {t}: share of the picture {shares[0]:.3f}, of noise {shares[1]:.3f}")
        drawn.image(106, 106, shown(x), 204)
        for y, name, share, role in ((66, f"picture √*{ALPHA_BAR}_t*", shares[0], "image"),
                                     (146, f"noise √(1 − *{ALPHA_BAR}_t*)", shares[1], "frozen")):
            drawn.text(230, y - 20, f"{name} = {share:.3f}", 14, role, "start", 600)
            drawn.rect(345, y + 4, 230, 18, radius=2, marks=' style="fill:none;stroke-width:1"')
            drawn.bar(230, y + 4, 230 * share, 18, role)
        pictures.append(drawn)
        labels.append(f"t = {t} of {T}")
    return player(pictures, labels, "A drawn scene on its way into noise", seconds=0.6)


def two_chains(denoiser: MixtureDenoiser, mixture: Mixture, n: int = 260, frames: int = 26,
               seed: int = 0) -> Block:
    """A player: points of a mixture that are noised, and beside them points that begin as noise and take the
    reverse steps, DDPM's with the small variance.

    Colours are components: where a point comes from, and where it ends.
    """
    schedule, draws = denoiser.schedule, torch.Generator().manual_seed(seed)
    T = len(schedule)
    wanted = sorted({round(T * k / (frames - 1)) for k in range(frames)})
    data, _ = mixture.sample(n, draws)
    forth = {t: x for t, (_, x) in enumerate(forward_chain(data, schedule, draws)) if t in wanted}
    back, t = {}, T
    for step in sample_steps(denoiser, schedule, (n, 2), Ancestral("small"), denoised_fn=None,
                             generator=draws):
        if t in wanted:
            back[t] = step.x
        t -= 1
    colours = [nearest(x, mixture) for x in (data, back[0])]
    side, top = 222, 26
    under = Diagram(470, 252, "the centres of the data")
    for left, name in ((6, "forward: noise is added"), (242, "reverse: noise is taken away")):
        under.text(left + side / 2, 12, name, 14, weight=600)
        _panel(under, mixture, left, top, side)
    pictures, labels = [], []
    for t in wanted:
        drawn = Diagram(470, 252, f"{n} points after {t} forward steps; {n} others after {t} reverse steps")
        for left, x, hue in ((6, forth[t], colours[0]), (242, back[T - t], colours[1])):
            _dots(drawn, x, hue, left, top, side)
        pictures.append(drawn)
        labels.append(f"forward t = {t} · reverse t = {T - t}")
    return player(pictures, labels, "Points of a ring of blobs on their way into noise, and others on their "
                                    "way back", under=under, seconds=0.4)


def nearest(x: Float[Tensor, "n 2"], mixture: Mixture) -> Tensor:
    """Which component's centre is nearest to each point."""
    return torch.cdist(x.double(), mixture.means.double()).argmin(dim=1)


def _panel(drawn: Diagram, mixture: Mixture, left: Number, top: Number, side: Number) -> None:
    """A square of the plane with circles of three deviations around the centres."""
    drawn.rect(left + side / 2, top + side / 2, side, side, radius=4, marks=' style="fill:none"')
    for (x, y), std in zip(_inside(mixture.means, left, top, side), mixture.stds.tolist()):
        drawn.add(f'<circle class="mm-b mm-frozen" cx="{x:.1f}" cy="{y:.1f}" '
                  f'r="{max(2.0, 3 * std * side / (2 * REACH)):.1f}"/>')


def _inside(points: Tensor, left: Number, top: Number, side: Number) -> np.ndarray:
    return np.array([left, top]) + side * (points.double().numpy() * [1, -1] + REACH) / (2 * REACH)


def _dots(drawn: Diagram, points: Tensor, hues: Tensor, left: Number, top: Number, side: Number) -> None:
    """Points of a panel, those out of sight left out, in the colours of their components."""
    places, kinds = _inside(points, left, top, side), hues.numpy() % len(HUES)
    for k, role in enumerate(HUES):
        path = "".join(f"M{x:.0f} {y:.0f}h0" for (x, y), kind in zip(places, kinds)
                       if kind == k and left < x < left + side and top < y < top + side)
        if path:
            drawn.add(f'<path class="mm-l mm-{role}" d="{path}" '
                      f'style="stroke-width:4;stroke-linecap:round;stroke-opacity:.75"/>')


# -------------------------------------------------------------------------------------------------- samplers


def drawn_by(name: str, denoiser: MixtureDenoiser, calls: int, n: int = 1000,
             seed: int = 0) -> Float[Tensor, "n 2"]:
    """Points that a sampler of ``SAMPLERS``, or "Heun, even in λ", makes of the same noise with so many calls
    of the denoiser (one fewer for Heun's method)."""
    method, even = SAMPLERS.get(name, (Heun(), True))
    steps = (calls + 1) // 2 if isinstance(method, Heun) else calls
    places: Any = even_in_lambda(denoiser.schedule, steps) if even else steps
    start = draw((n, 2), torch.Generator().manual_seed(seed))
    return sample(denoiser, denoiser.schedule.respaced(places), (n, 2), method, denoised_fn=None, start=start,
                  generator=torch.Generator().manual_seed(seed + 1))


def at_blobs(points: Float[Tensor, "n 2"], mixture: Mixture) -> float:
    """The share of points within three deviations of the nearest centre."""
    far = torch.cdist(points.double(), mixture.means.double()) / mixture.stds.double()
    return (far.min(dim=1).values <= 3).double().mean().item()


def path_ends(denoiser: MixtureDenoiser, n: int = 1000, seed: int = 0) -> Float[Tensor, "n 2"]:
    """Where the exact paths of the noise of ``drawn_by`` end: by Heun's method with all steps."""
    start = draw((n, 2), torch.Generator().manual_seed(seed))
    return sample(denoiser, denoiser.schedule, (n, 2), Heun(), denoised_fn=None, start=start)


def path_error(name: str, denoiser: MixtureDenoiser, calls: int, ends: Float[Tensor, "n 2"],
               seed: int = 0) -> float:
    """The mean distance of what a sampler without noise makes from the ``path_ends`` of the same seed."""
    return (drawn_by(name, denoiser, calls, len(ends), seed) - ends).norm(dim=1).mean().item()


def sampler_slider(denoiser: MixtureDenoiser, mixture: Mixture,
                   counts: Sequence[int] = (5, 8, 10, 15, 20, 30, 50, 100), n: int = 150) -> Block:
    """A slider over the number of calls: what each of ``SAMPLERS`` draws, and its share of points at
    blobs."""
    side, gap, tall = 146, 8, 190
    places = [(8 + (side + gap) * (i % 3), 22 + tall * (i // 3)) for i in range(len(SAMPLERS))]
    high = 22 + tall * -(-len(SAMPLERS) // 3)
    under = Diagram(470, high, "the centres of the data, names of samplers")
    for (left, top), name in zip(places, SAMPLERS):
        head, _, tail = name.partition(", even")
        under.text(left + side / 2, top - 10, head + (", *λ*" if tail else ""), 13, weight=600)
        _panel(under, mixture, left, top, side)
    frames = []
    for calls in counts:
        drawings = {name: drawn_by(name, denoiser, calls) for name in SAMPLERS}
        shares = {name: at_blobs(points, mixture) for name, points in drawings.items()}
        drawn = Diagram(470, high, f"{calls} calls. " + "; ".join(f"{name}: {share:.0%} at blobs"
                                                                  for name, share in shares.items()))
        for (left, top), (name, points) in zip(places, drawings.items()):
            _dots(drawn, points[:n], nearest(points[:n], mixture), left, top, side)
            drawn.text(left + side / 2, top + side + 12, f"{shares[name]:.0%} at blobs", 13, "soft")
        frames.append(drawn)
    return slider({"calls of the denoiser": counts}, frames,
                  "What six samplers make of the same noise, over the number of calls", under=under,
                  start=min(2, len(counts) - 1))


def pictures_over_steps(drawn: Mapping[str, Sequence[Float[Tensor, "k 3 y x"]]], counts: Sequence[int],
                        text: str) -> Block:
    """A slider over the number of steps: a row of pictures in [-1, 1] for each sampler.

    Raises ``ValueError`` where a sampler has not as many drawings as there are counts.
    """
    for name, rows in drawn.items():
        if len(rows) != len(counts):
            raise ValueError(f"{name} has {len(rows)} drawings for {len(counts)} numbers of steps; give one "
                             f"each")
    cell, left = 96, 150
    k = min(3, min(len(each) for rows in drawn.values() for each in rows))
    under = Diagram(470, cell * len(drawn) + 4, "names of samplers")
    for i, name in enumerate(drawn):
        under.text(left - 10, cell * (i + 0.5), name, 14, anchor="end")
    frames = []
    for j, count in enumerate(counts):
        frame = Diagram(under.width, under.height, f"“{text}”, drawn in {count} steps by {', '.join(drawn)}")
        for i, rows in enumerate(drawn.values()):
            for p, pixels in enumerate(rows[j][:k]):
                frame.image(left + cell * (p + 0.5), cell * (i + 0.5) + 2, shown(pixels), cell - 6)
        frames.append(frame)
    return slider({"steps": counts}, frames, f"“{text}”, from the same noise by several samplers",
                  under=under, start=len(counts) - 1)


# ----------------------------------------------------------------------------------------------------- plots


def perfect_answers(denoiser: MixtureDenoiser, x0: Float[Tensor, "3 y x"],
                    timesteps: Sequence[int] = (100, 300, 400, 500, 600, 800, 999), seed: int = 0) -> Figure:
    """A picture, noised to several timesteps, and below it what a denoiser of flat pictures takes it for."""
    figure, axes = plt.subplots(2, len(timesteps), figsize=(1.02 * len(timesteps), 2.4), squeeze=False)
    noise = draw((1, x0.numel()), torch.Generator().manual_seed(seed))
    for column, t in zip(axes.T, timesteps):
        bar = denoiser.schedule.alpha_bars[t].item()
        x = noised(x0.reshape(1, -1), noise, bar)
        guess = x0_from_noise(x, denoiser(x, torch.tensor([t])), bar)
        column[0].set_title(f"t = {t}", fontsize=10)
        for axis, flat in zip(column, (x, guess)):
            axis.imshow(shown(flat.reshape(x0.shape)))
            axis.axis("off")
    return figure


def weights_over_time(schedule: NoiseSchedule | None = None) -> Figure:
    """What the simple loss drops, for both fixed variances, over t."""
    schedule = schedule or NoiseSchedule.linear()
    t = np.arange(2, len(schedule) + 1)
    figure, axis = plt.subplots(figsize=(6.4, 3.0))
    for kind, role, dashes in (("large", "block", "-"), ("small", "new", "--")):
        variances = schedule.log_variances(kind).exp()
        weights = bound_weight(schedule.betas, schedule.alpha_bars, variances)
        axis.plot(t, weights[1:], dashes, color=COLOURS[role],                          # type: ignore[index]
                  label=f"{kind} variance")
    axis.axhline(1, color=COLOURS["frozen"], linestyle=":", label="simple loss")
    axis.set(xlabel="t", ylabel="weight of the squared error", xscale="log", yscale="log")
    axis.legend(fontsize=9)
    return figure


def schedules_over_time(schedules: Mapping[str, NoiseSchedule]) -> Figure:
    """What is left of the signal, and half of the logarithm of signal to noise, over t."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.0))
    for (name, schedule), (role, dashes) in zip(schedules.items(), _LINES):
        t = np.arange(1, len(schedule) + 1) / len(schedule)
        bars = schedule.alpha_bars.tolist()
        axes[0].plot(t, bars, dashes, color=COLOURS[role], label=name)
        axes[1].plot(t, [half_log_snr(bar) for bar in bars], dashes, color=COLOURS[role])
    axes[0].set(xlabel="t/T", ylabel="share of the variance that is signal")
    axes[1].set(xlabel="t/T", ylabel="λ")
    axes[0].legend(fontsize=9)
    return figure


_LINES = [("block", "-"), ("new", "--"), ("text", "-."), ("image", ":")]


def terms_over_time(terms: Mapping[str, Sequence[float] | Tensor], timesteps: Sequence[int] | Tensor,
                    ylabel: str = "bits a dimension") -> Figure:
    """Terms of a bound (or other numbers above 0) over the timesteps, a line for each name."""
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    places = np.asarray(timesteps) + 1
    for (name, values), (role, dashes) in zip(terms.items(), _LINES):
        axis.plot(places, np.asarray(values), dashes, color=COLOURS[role], label=name)
    axis.set(xlabel="t", ylabel=ylabel, xscale="log", yscale="log")
    axis.legend(fontsize=9)
    return figure


def errors_over_calls(errors: Mapping[str, Sequence[float]], counts: Sequence[int]) -> Figure:
    """Errors of samplers over the number of calls, both in logarithms."""
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    looks = [("block", "-", "o"), ("block", "--", "s"), ("new", "-", "^"), ("new", "--", "v"),
             ("text", "-.", "D")]
    for (name, values), (role, dashes, mark) in zip(errors.items(), looks):
        axis.plot(counts, values, dashes, color=COLOURS[role], marker=mark, markersize=5, label=name)
    axis.set(xlabel="calls of the denoiser", ylabel="distance from the end of the path", xscale="log",
             yscale="log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.legend(fontsize=9)
    return figure


def paths_on_a_line(ways: Mapping[str, tuple[Sequence[float], Float[Tensor, "k n"]]],
                    density: Callable[[Tensor, float], Tensor] | None = None, reach: float = 3.0) -> Figure:
    """Paths of n numbers over time, a panel for each way: ``{name: (times, states)}``; ``density(x, time)``
    is drawn behind them in grey."""
    figure, axes = plt.subplots(1, len(ways), figsize=(2.5 * len(ways), 2.9), sharey=True, squeeze=False)
    places = torch.linspace(-reach, reach, 121)
    for axis, (name, (times, states)) in zip(axes[0], ways.items()):
        if density is not None:
            moments = np.linspace(min(times), max(times), 61)
            shades = torch.stack([density(places, float(s)) for s in moments], dim=1)
            axis.imshow(shades**0.5, origin="lower", aspect="auto", cmap="Greys", alpha=0.7,
                        extent=(moments[0], moments[-1], -reach, reach))
        axis.plot(times, states, color=COLOURS["new"], linewidth=0.8)
        axis.set(xlabel="s", ylim=(-reach, reach))
        axis.set_title(name, fontsize=10)
        axis.grid(visible=False)
    axes[0, 0].set_ylabel("x")
    return figure
