"""Figures of DALL-E: its two stages, what a place of the picture reads, relaxed samples, a grid that fills.

Papers: A. Ramesh et al. (2021), *Zero-Shot Text-to-Image Generation*, arXiv:2102.12092; E. Jang et al.
(2017), *Categorical Reparameterization with Gumbel-Softmax*, arXiv:1611.01144.  Survey: 2.2, 2.2.1.

Colours as in ``architecture``: orange is text, teal the picture, violet what sets the system apart.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.figures.diagram import Box, Diagram, Number, literal
from mmlearn.figures.interactive import Block, plane, player, slider
from mmlearn.figures.text2image.architecture import X_HAT, real_picture, stand_in
from mmlearn.nn.modes import blank, eval_mode
from mmlearn.plot import PALETTE, picture
from mmlearn.text2image.dalle import DALLEConfig
from mmlearn.text2image.dvae import (
    DVAE,
    DVAEConfig,
    DVAEDecoder,
    DVAEEncoder,
    DVAESchedule,
    gumbel,
    gumbel_softmax,
    logit_laplace_nll,
)
from mmlearn.text2image.sparse_attention import dalle_mask, image_mask
from mmlearn.text2image.token_drawing import Score, TokenDrawer, rerank

# --------------------------------------------------------------------------------------------- architecture


def dvae(config: DVAEConfig | None = None) -> Diagram:
    """The dVAE: from pixels to logits of codes, a relaxed sample, and back to a density of the pixels."""
    config = config or DVAEConfig.paper()
    s, w, k, n = config.size, config.side, config.vocab, config.blocks
    widths, sides = config.widths, [config.size >> i for i in range(config.groups)]
    with blank():                                           # shapes only
        weights = {part: sum(p.numel() for p in make(config).parameters())
                   for part, make in (("encoder", DVAEEncoder), ("decoder", DVAEDecoder))}
    sizes = ", ".join(f"{c} channels of {side} by {side}" for c, side in zip(widths, sides))
    drawn = Diagram(470, 724, (
        f"The discrete VAE. A picture of 3 by {s} by {s} numbers between 0 and 1 is moved into 0.1 to 0.9. "
        f"The encoder is a 7 by 7 convolution and {config.groups} groups of {n} blocks, {sizes}, the side "
        f"halved by max-pooling between them; a 1 by 1 convolution gives {k} logits at each of {w} by {w} "
        "places. A divergence loss pulls their softmax q towards even odds. Gumbel noise is added, and a "
        "softmax with temperature tau makes soft codes y. The decoder's first 1 by 1 convolution is the "
        f"codebook, {config.code_width} numbers a code; the groups follow in the other order, and a 1 by 1 "
        "convolution gives mu and log b of each number of the picture. Their logit-Laplace density is the "
        "second loss. The sigmoid of mu, moved back, is the picture drawn. The encoder has "
        f"{weights['encoder']:,} parameters, the decoder {weights['decoder']:,}. Violet, added to the VAE: "
        "logits, noise, soft codes and codebook."))
    place = drawn.image(52, 66, real_picture(64), 72)
    drawn.text(52, 114, f"*x*, 3 × {s}^2", 13, "image")
    inputs = drawn.box(178, 66, "conv 7 × 7\nof 0.8*x* + 0.1", "image", 116, 46)
    drawn.arrow(place, inputs, role="image")
    drawn.text(376, 16, f"encoder, {config.groups} × {n} blocks,", 13, "image", weight=600)
    drawn.text(376, 34, f"{weights['encoder']:,} parameters", 13, "image")
    foot = _groups(drawn, widths, sides, 66, "max-pool", inputs)
    logits = drawn.box(212, 258, f"conv 1 × 1\nlogits *ℓ*, {k} × {w}^2", "new", 158, 48)
    drawn.arrow((384, foot), logits, role="image", sides="br")
    loss = drawn.box(56, 258, "*β* KL\nof *q* = softmax", "loss", 104, 48)
    drawn.arrow(logits, loss, role="loss")
    drawn.text(56, 294, "to even odds", 13, "loss")
    plus = drawn.node(212, 322, "+", "new")
    drawn.arrow(logits, plus, role="new")
    drawn.text(98, 322, "Gumbel noise *g*", 13, "soft")
    drawn.arrow((158, 322), plus)
    soft = drawn.box(212, 374, "softmax(·/*τ*)\nsoft codes *y*", "new", 132, 48)
    drawn.arrow(plus, soft, role="new")
    drawn.matrix(56, 374, ["new"] * 4, 4, 13)
    drawn.text(56, 412, f"{w} × {w} places", 13, "soft")
    book = drawn.box(212, 448, f"conv 1 × 1: codebook\n{k} vectors of {config.code_width}", "new", 180, 48)
    drawn.arrow(soft, book, f"{k} × {w}^2", "new")
    drawn.text(380, 396, f"decoder, {config.groups} × {n} blocks,", 13, "image", weight=600)
    drawn.text(380, 414, f"{weights['decoder']:,} parameters", 13, "image")
    foot = _groups(drawn, widths[::-1], sides[::-1], 448, "side × 2", book)
    maps = drawn.box(212, 640, f"conv 1 × 1\n*μ*, log *b*: 6 × {s}^2", "image", 158, 48)
    drawn.arrow((384, foot), maps, role="image", sides="br")
    made = drawn.image(52, 566, stand_in(real_picture(64), 2), 72)
    drawn.text(52, 516, f"*{X_HAT}*: sigmoid(*μ*),", 13, "image")
    drawn.text(52, 614, "moved back", 13, "image")
    drawn.arrow(maps.at("l", 0.3), made, role="image", sides="lr", via=((112, 631), (112, 566)))
    second = drawn.box(212, 702, "−log *f*(*x*′ | *μ*, *b*)", "loss", 150, 30)
    drawn.arrow(maps, second, role="loss")
    return drawn


def _groups(drawn: Diagram, widths: Sequence[int], sides: Sequence[int], top: Number, between: str,
            start: Box) -> Number:
    """A column of groups of blocks from ``start`` downwards, with what changes the side between them; its
    foot."""
    before, y = start, top
    for i, (width, side) in enumerate(zip(widths, sides)):
        y = top + 48 * i
        box = drawn.box(384, y, f"{width} × {side}^2", "image", 108, 30)
        drawn.arrow(before, box, role="image")
        if i:
            drawn.text(392, y - 24, between, 13, "soft", "start")
        before = box
    return y + 15


def transformer(config: DALLEConfig | None = None) -> Diagram:
    """DALL-E's sequence of words, padding and codes, its layers, and what is predicted."""
    config = config or DALLEConfig.paper()
    t, n, d = config.text_len, config.codes, config.width
    kinds = {kind: config.kinds.count(kind) for kind in ("row", "column", "convolution", "full")}
    made = ", ".join(f"{count} of kind {kind}" for kind, count in kinds.items() if count)
    drawn = Diagram(470, 492, (
        f"DALL-E. The sequence is a start token, {t} places of text and the codes of a picture, {n} of which "
        "all but the last enter. A word is its vector plus that of its place; a place after the last word "
        "has a padding vector of its own; a code is its vector plus those of its row and its column. "
        f"{config.layers} layers of width {d} with {config.heads} heads follow, their attention {made}: "
        "text sees the text before it, a code sees all of the text and a part of the picture. Each place "
        f"predicts the next token: words of {config.text_vocab} kinds, weight one eighth, and codes of "
        f"{config.image_vocab} kinds, weight seven eighths; padding is not predicted. The codes of training "
        "come from the frozen encoder of the first stage, and drawn ones go to its decoder. Violet: padding "
        "vectors and sparse attention."))
    tokens = [("▸", "block"), ("a", "text"), ("yellow", "text"), ("bird", "text"), ("pad", "new"),
              ("pad", "new"), ("z_1", "image"), ("z_2", "image"), ("…", "image")]
    lefts, wide = [], [28, 30, 58, 44, 44, 44, 40, 40, 40]
    x = 16.0
    for (token, role), w in zip(tokens, wide):
        drawn.rect(x + w / 2, 400, w, 30, role, 5)
        drawn.text(x + w / 2, 400, f"*{token}*" if token.startswith("z") else token, 14, weight=600)
        lefts.append(x + w / 2)
        x += w + 9
    rows = (("vector of the token", 428), ("+ of its place", 446))
    for label, y in rows:
        drawn.text(100, y, label, 13, "text")
    drawn.text(246, 428, "one a place", 13, "new")
    drawn.text(246, 446, "+ of its place", 13, "text")
    drawn.text(382, 428, "vector of the code", 13, "image")
    drawn.text(382, 446, "+ of row, + of column", 13, "image")
    drawn.text(100, 474, f"start and {t} places of text", 13, "soft")
    drawn.text(382, 474, f"{n - 1} of {n} codes", 13, "soft")
    drawn.group(235, 280, 446, 136, f"{config.layers} layers, width {d}, {config.heads} heads", "new")
    shown = [(name, count) for name, count in
             (("row", kinds["row"]), ("column", kinds["column"]), ("window", kinds["convolution"]),
              ("all before", kinds["full"])) if count]
    for i, (name, count) in enumerate(shown):
        drawn.box(235 + 130 * (i - (len(shown) - 1) / 2), 262, f"{name}\n{count} layers" if count > 1
                  else f"{name}\nthe last layer", "new", 116, 48)
    for i, middle in enumerate(lefts):
        role = tokens[i][1]
        drawn.arrow((middle, 384), (middle, 350), role=role)
        into = tokens[i + 1] if i + 1 < len(tokens) else ("…", "image")
        if into[1] == "new":
            drawn.text(middle, 186, "–", 14, "soft")
            continue
        drawn.arrow((middle, 211), (middle, 197), role=into[1])
        drawn.text(middle, 182, f"*{into[0]}*" if into[0].startswith("z") else into[0], 14, into[1])
    left = drawn.box(104, 132, f"{config.text_vocab} words\n⅛ of the loss", "loss", 150, 48)
    right = drawn.box(360, 132, f"{config.image_vocab} codes\n⅞ of the loss", "loss", 150, 48)
    drawn.arrow((104, 170), left, role="loss")
    drawn.arrow((360, 170), right, role="loss")
    picture = drawn.image(44, 46, real_picture(64), 64)
    encoder = drawn.box(150, 46, "encoder\nfrozen", "frozen", 84, 46)
    drawn.arrow(picture, encoder, role="image")
    grid = drawn.matrix(235, 46, ["image"] * 4, 4, 13)
    drawn.arrow(encoder, grid, role="image")
    decoder = drawn.box(322, 46, "decoder\nfrozen", "frozen", 84, 46)
    drawn.arrow(grid, decoder, role="image")
    drawn.arrow(decoder, drawn.image(426, 46, stand_in(real_picture(64), 2), 64), role="image")
    drawn.text(235, 86, f"{config.side} × {config.side} codes", 13, "image")
    return drawn


# ------------------------------------------------------------------------------------------------------ masks

NAMES = {"row": "row", "column": "column", "convolution": "window"}


def reads(side: int = 8, kernel: int = 5) -> Block:
    """Point at a code in the first grid (or choose row and column): what it reads in each kind of layer.

    A small picture of ``side`` x ``side`` codes with a window of ``kernel``, so that one sees the cells.
    """
    masks = {kind: image_mask(kind, side, kernel) for kind in NAMES}
    cell = 136 // side
    top, wide = 44, cell * side
    lefts = [235 + 154 * (i - 1) - wide / 2 for i in range(len(NAMES))]
    under = Diagram(470, top + wide + 30, "grids of codes")
    under.text(lefts[0] + wide / 2, top + wide + 16, "point at a code here", 13, "image")
    for (kind, name), left in zip(NAMES.items(), lefts):
        under.text(left + wide / 2, 16, f"{name} layers" if kind != "convolution" else "the last layer", 14,
                   weight=600)
        lines = _lattice(left, top, side, cell)
        under.add(f'<path class="mm-l mm-frozen" style="stroke-width:0.8" d="{lines}"/>')
    frames, labels = [], []
    for column in range(side):
        for row in reversed(range(side)):                   # a plane runs from left to right and upwards
            place = side * row + column
            keys = {kind: mask[place].nonzero()[:, 0].tolist() for kind, mask in masks.items()}
            told = ", ".join(f"{name} {len(keys[kind])}" for kind, name in NAMES.items())
            drawn = Diagram(470, under.height, f"row {row + 1}, column {column + 1}: {told}")
            for kind, left in zip(NAMES, lefts):
                others = [key for key in keys[kind] if key != place]
                drawn.add(f'<path class="mm-b mm-new" d="{_cells(others, left, top, side, cell)}"/>')
                drawn.add(f'<path class="mm-h mm-image" d="{_cells([place], left, top, side, cell)}"/>')
                drawn.text(left + wide / 2, 33, f"{len(keys[kind])} places", 13, "new")
            frames.append(drawn)
            labels.append(f"code {place + 1} reads all of the text, and of the picture: {told}, itself "
                          "included")
    numbers = list(range(1, side + 1))
    middle = side // 2
    edges = (lefts[0] / 470, top / under.height, (lefts[0] + wide) / 470, (top + wide) / under.height)
    return plane({"column": numbers, "row": numbers[::-1]}, frames,
                 "Which codes the chosen code reads in row layers, column layers and the last layer",
                 area=edges, under=under, labels=labels, start=side * middle + side - 1 - middle)


def _lattice(left: Number, top: Number, side: int, cell: int) -> str:
    """The lines of a grid."""
    far, levels = cell * side, [cell * i for i in range(side + 1)]
    return "".join(f"M{left:g} {top + y:g}h{far}M{left + y:g} {top:g}v{far}" for y in levels)


def _cells(places: Sequence[int], left: Number, top: Number, side: int, cell: int) -> str:
    """The squares of some places of a grid."""
    inner = cell - 3
    return "".join(f"M{left + cell * (p % side) + 1.5:g} {top + cell * (p // side) + 1.5:g}h{inner}v{inner}"
                   f"h-{inner}z" for p in places)


def mask_matrices(text: int = 6, side: int = 6, kernel: int = 5) -> Figure:
    """The whole masks, text and picture, of the three kinds: query down, key across."""
    figure, axes = plt.subplots(1, 3, figsize=(8.0, 3.1), layout="constrained")
    for axis, (kind, name) in zip(axes, NAMES.items()):
        mask = dalle_mask(kind, text, side, kernel)
        axis.imshow(_tinted(mask, text))
        axis.axhline(text - 0.5, color="#6b7686", linewidth=1)
        axis.axvline(text - 0.5, color="#6b7686", linewidth=1)
        axis.set(title=f"{name}: {int(mask[text:, text:].sum())} pairs of codes", xticks=[], yticks=[],
                 xlabel="key: text, picture")
        axis.grid(False)
    axes[0].set_ylabel("query")
    return figure


def _tinted(mask: Bool[Tensor, "s s"], text: int) -> np.ndarray:
    """A mask as a picture: pairs with a key of the text orange, those within the picture violet."""
    shown = np.ones((*mask.shape, 3))
    there = mask.numpy()
    shown[:, :text][there[:, :text]] = (0.70, 0.37, 0.0)
    shown[:, text:][there[:, text:]] = (0.46, 0.31, 0.78)
    return shown


# -------------------------------------------------------------------------------------- samples and densities

TAUS = (4.0, 2.0, 1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)


def tau_slider(q: Sequence[float] = (0.45, 0.25, 0.15, 0.1, 0.05), taus: Sequence[Number] = TAUS,
               draws: int = 5, seed: int = 6) -> Block:
    """Two sliders: the temperature and the draw of the noise. Bars of q, of the noisy logits and of y, with
    the slope of each share of y by its own logit."""
    logits = torch.tensor([q], dtype=torch.float64).log()
    u = torch.rand(draws, len(q), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    g = gumbel(u)
    noisy = (logits + g)
    low, high = float(noisy.min()) - 0.3, float(noisy.max()) + 0.3
    step, tall, foot = 26, 116, 160
    lefts = (22, 176, 330)
    under = Diagram(470, 212, "bars of five codes")
    heads = (("*q* = softmax(*ℓ*)", "frozen"), ("*ℓ* + *g*", "block"), ("*y*", "new"))
    for left, (head, role) in zip(lefts, heads):
        under.text(left + 59, 18, head, 14, role, weight=600)
        for i in range(len(q)):
            under.text(left + step * i + 8, foot + 14, str(i + 1), 13, "soft")
    for i, share in enumerate(q):
        _column(under, lefts[0] + step * i, foot, tall * share, "frozen")
    frames, labels = [], []
    for tau in taus:
        for draw in range(draws):
            y = gumbel_softmax(logits, g[draw:draw + 1], float(tau))[0]
            slope = y * (1 - y) / tau
            best = int(noisy[draw].argmax())
            drawn = Diagram(470, 212, f"temperature {_fraction(tau)}, draw {draw + 1}")
            for i in range(len(q)):
                role = "new" if i == best else "block"
                _column(drawn, lefts[1] + step * i, foot,
                        tall * (float(noisy[draw, i]) - low) / (high - low), role)
                _column(drawn, lefts[2] + step * i, foot, tall * float(y[i]), "new")
            drawn.text(lefts[2] + 59, foot + 38, f"steepest slope {float(slope.max()):.2f}", 13, "soft")
            drawn.text(lefts[1] + 59, foot + 38, f"largest: code {best + 1}", 13, "new")
            frames.append(drawn)
            shares = ", ".join(f"{float(share):.2f}" for share in y)
            labels.append(f"τ = {_fraction(tau)}: y = ({shares})")
    names = [_fraction(tau) for tau in taus]
    return slider({"τ": names, "draw": list(range(1, draws + 1))}, frames,
                  "A relaxed sample of five codes over the temperature, for several draws of the noise",
                  under=under, labels=labels, start=draws * (len(taus) // 2))


def _column(drawn: Diagram, left: Number, foot: Number, height: Number, role: str) -> None:
    """A full bar upwards from ``foot``."""
    drawn.bar(left, foot - max(height, 0.5) / 2, 17, max(height, 0.5), role)


def _fraction(value: Number) -> str:
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"


PAIRS = ((0.0, 0.1), (0.0, 0.5), (1.0, 0.3), (0.0, 2.0))


def logit_laplace_densities(pairs: Sequence[tuple[Number, Number]] = PAIRS) -> Figure:
    """Densities of a pixel for pairs of location and scale; grey is where no mapped pixel lies."""
    x = torch.linspace(0.004, 0.996, 497, dtype=torch.float64)
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    for i, (mu, b) in enumerate(pairs):
        scale = torch.full_like(x, math.log(b))
        density = (-logit_laplace_nll(x, torch.full_like(x, float(mu)), scale)).exp()
        axis.plot(x, density, ("-", "--", "-.", ":")[i % 4], color=PALETTE[i], label=f"μ = {mu:g}, b = {b:g}")
    for low, high in ((0, 0.1), (0.9, 1)):
        axis.axvspan(low, high, color="#6b7686", alpha=0.15, linewidth=0)
    axis.set(xlabel="pixel x′", ylabel="density", xlim=(0, 1), ylim=(0, 8))
    axis.legend(loc="upper right")
    return figure


def schedules(schedule: DVAESchedule | None = None) -> Figure:
    """The three annealings of the dVAE over updates, whose axis is logarithmic."""
    plan = schedule or DVAESchedule.paper()
    steps = np.unique(np.geomspace(1, plan.steps, 400).astype(int))
    figure, axes = plt.subplots(1, 3, figsize=(8.0, 2.8), layout="constrained")
    for i, (axis, name, value, end) in enumerate(zip(
            axes, ("KL weight β", "temperature τ", "learning rate"),
            (plan.beta_at, plan.tau_at, plan.lr_at), (plan.beta_steps, plan.tau_steps, plan.lr_steps))):
        axis.plot(steps, [value(int(step)) for step in steps], color=PALETTE[i])
        axis.axvline(end, color="black", linestyle=":", linewidth=1)
        axis.set(xscale="log", xlabel="update", title=name)
    axes[2].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    return figure


def annealed(trained: Mapping[str, Any]) -> Figure:
    """The three annealings of a miniature's training as they ran, and what its loss was made of.

    ``trained`` is what ``python -m mmlearn.experiments dvae`` recorded. The dotted line of the KL is a code
    that is certain.
    """
    settings, curve = trained["settings"], trained["curve"]
    plan = DVAESchedule.mini(settings["steps"], settings["beta"], settings["lr"])
    every = np.arange(0, plan.steps + 1, max(1, plan.steps // 400))
    figure, axes = plt.subplot_mosaic("aabbcc;dddeee", figsize=(8.0, 5.0), layout="constrained")
    lines = [("KL weight β", plan.beta_at), ("temperature τ", plan.tau_at), ("learning rate", plan.lr_at)]
    for i, (place, (name, value)) in enumerate(zip("abc", lines)):
        axes[place].plot(every, [value(int(step)) for step in every], color=PALETTE[i])
        axes[place].set(title=name, ylim=(0, None))
    axes["c"].ticklabel_format(axis="y", style="plain")
    for i, (place, name, title) in enumerate((("d", "nll", "−log f of a number, nats"),
                                              ("e", "kl", "KL of a place, nats")), start=3):
        axes[place].plot(curve["step"], curve[name], color=PALETTE[i])
        axes[place].set(title=title, xlabel="step")
    axes["e"].axhline(math.log(settings["codes"]), color="black", linestyle=":", linewidth=1)
    axes["e"].set(ylim=(0, None))
    ticks = [0, plan.steps // 2, plan.steps]
    for axis in axes.values():
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    return figure


@torch.no_grad()
def code_colours(model: DVAE) -> Float[Tensor, "k 3"]:
    """The mean colour of what each code draws where it fills the whole grid, in [0, 1]."""
    with eval_mode(model) as device:
        side = model.config.side
        tokens = torch.arange(model.config.vocab, device=device)[:, None, None].expand(-1, side, side)
        return model.pictures(tokens).mean((2, 3)).cpu()


@torch.no_grad()
def through_codes(model: DVAE, images: Float[Tensor, "n 3 s s"]) -> Figure:
    """Pictures in [0, 1], the grids of their likeliest codes, each in its colour of ``code_colours``, and
    what the decoder makes of the grids: one column a picture."""
    with eval_mode(model) as device:
        tokens = model.tokens(images.to(device))
        drawn = model.pictures(tokens).cpu()
    grids = code_colours(model)[tokens.cpu()].movedim(-1, 1)
    figure, axes = plt.subplots(3, len(images), squeeze=False, figsize=(8.0, 23.3 / len(images) + 0.1),
                                layout="constrained", gridspec_kw={"hspace": 0.02, "wspace": 0.02})
    for row, (name, shown) in zip(axes, (("picture", images), ("codes", grids), ("drawn", drawn))):
        for axis, image in zip(row, shown):
            axis.imshow(picture(image))
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(name)
    for axis, grid in zip(axes[1], tokens):
        for cut in range(1, grid.shape[0]):
            axis.axhline(cut - 0.5, color="white", linewidth=0.6)
            axis.axvline(cut - 0.5, color="white", linewidth=0.6)
    return figure


# ------------------------------------------------------------------------------------------ a grid that fills

def filling(drawer: TokenDrawer, text: str, clip: Score | None = None, samples: int = 4, seed: int = 0,
            every: int = 1) -> Block:
    """Player of drawing ``text``: ``samples`` pictures at once, code by code (every ``every`` codes), each
    cut out of the finished picture, since the decoder reads the whole grid; at the end CLIP's order.

    ``drawer`` is a ``TokenDrawer``; without ``clip`` nothing is ranked. Raises ``ValueError`` for no or more
    than four samples.
    """
    if not 1 <= samples <= 4:
        raise ValueError(f"{samples} samples do not fit a row; ask for 1 to 4")
    pictures = drawer.draw([text], samples, seed)
    ranked = rerank(pictures, text, clip) if clip else None
    side = drawer.dalle.config.side
    wide, top = 104, 34
    lefts = [235 + 114 * (i - (samples - 1) / 2) - wide / 2 for i in range(samples)]
    under = Diagram(470, top + wide + 46, "finished pictures")
    under.text(235, 14, literal(f"“{text}”"), 14, "text")
    for left, pixels in zip(lefts, pictures):
        under.image(left + wide / 2, top + wide / 2, (pixels + 1) / 2, wide)
    cell, n = wide / side, side * side
    frames, labels = [], []
    for written in [*range(0, n, every), n]:
        drawn = Diagram(470, under.height, f"{written} of {n} codes")
        row, column = divmod(written, side)
        for left in lefts if written < n else []:
            y, x = top + cell * row, left + cell * column
            cover = (f"M{x:.4g} {y:.4g}H{left + wide:.4g}V{y + cell:.4g}H{x:.4g}z"
                     f"M{left:.4g} {y + cell:.4g}h{wide}V{top + wide}h-{wide}z")
            drawn.add(f'<path class="mm-b mm-frozen" style="stroke-width:0" d="{cover}"/>')
            drawn.rect(x + cell / 2, y + cell / 2, cell, cell, "new", 1)
        frames.append(drawn)
        labels.append(f"{written} of {n} codes are drawn" if written < n else f"all {n} codes are drawn")
    if ranked is not None:
        drawn = Diagram(470, under.height, "the order of CLIP")
        for rank, i in enumerate(ranked.order.tolist()):
            middle = lefts[i] + wide / 2
            drawn.text(middle, top + wide + 18, f"{rank + 1}", 18, "new" if rank == 0 else "soft", weight=600)
            drawn.text(middle, top + wide + 38, f"cosine {float(ranked.scores[rank]):.3f}", 13, "soft")
            if rank == 0:
                drawn.rect(middle, top + wide / 2, wide + 6, wide + 6, "new", 5,
                           ' style="fill:none;stroke-width:4"')
        frames.append(drawn)
        labels.append(f"CLIP puts picture {int(ranked.order[0]) + 1} first")
    return player(frames, labels, f"DALL-E draws {samples} pictures of “{text}”, code by code", under=under,
                  start=-1, seconds=0.25)
