"""Figures of sections 2.2 and 2.2.1: compress a picture, then model what is left.

Papers: D. Kingma and M. Welling (2014), arXiv:1312.6114, fig. 4 (the plane); A. van den Oord et al. (2017),
arXiv:1711.00937, fig. 1; P. Esser et al. (2021), arXiv:2012.09841, fig. 2; A. Ramesh et al. (2021),
arXiv:2102.12092, sec. 2.  Survey: 2.2, 2.2.1.

Colours as in ``architecture``: teal is the picture's side, amber the decoder's, violet what a system adds to
the one before it, red are losses. Sizes are those of the papers' configurations.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.figures.diagram import COLOURS, Box, Diagram, Number, Point
from mmlearn.figures.interactive import Block, plane, slider
from mmlearn.figures.text2image.architecture import X_HAT, real_picture, stand_in
from mmlearn.nn.modes import eval_mode
from mmlearn.text2image.dalle import DALLEConfig
from mmlearn.text2image.vae import LatentModel, VAEConfig
from mmlearn.text2image.vector_quantisation import code_bits
from mmlearn.text2image.vqgan import PatchConfig, VQGANConfig
from mmlearn.text2image.vqvae import VQVAEConfig

ROLES = ("image", "text", "block", "new")               # of cells that stand for codes
TINY = 1e-9


def code_roles(rows: int, columns: int, seed: int = 2) -> list[list[str]]:
    """Roles for a grid of cells that stand for codes."""
    drawn = np.random.default_rng(seed).integers(0, len(ROLES), (rows, columns))
    return [[ROLES[i] for i in row] for row in drawn]


def code_grid(drawn: Diagram, x: Number, y: Number, rows: int = 4, columns: int = 4, cell: Number = 13,
              seed: int = 2) -> Box:
    """A grid of cells, each in the colour of one of four codes, around (x, y)."""
    w, h = cell * columns, cell * rows
    for i, row in enumerate(code_roles(rows, columns, seed)):
        for j, role in enumerate(row):
            drawn.rect(x - w / 2 + (j + 0.5) * cell, y - h / 2 + (i + 0.5) * cell, cell, cell, role, radius=2)
    return Box(x, y, w, h)


# ----------------------------------------------------------------------------------------------- diagrams


def two_stages(config: DALLEConfig | None = None, pixels: int = 256) -> Diagram:
    """DALL-E in two stages: a picture to a grid of codes and back; a Transformer over text and codes."""
    config = config or DALLEConfig.paper()
    side, text, codes = config.side, config.text_len, config.image_vocab
    drawn = Diagram(470, 330, (
        f"The plan of DALL-E. Stage 1, compress: an encoder turns a picture of 3 by {pixels} by {pixels} "
        f"numbers into a grid of {side} by {side} codes, each one of {codes:,}; a decoder draws the picture "
        f"again from them. Stage 2, model: the {text} tokens of a text and the {side * side:,} codes of its "
        "picture, row by row, stand in one sequence, and a Transformer predicts each from those before it. "
        "To draw, the Transformer reads a text and writes codes, which the decoder of stage 1 turns into "
        "pixels. Violet: the codes, by which the two stages meet."))
    drawn.group(235, 76, 456, 140)
    drawn.text(20, 18, "stage 1: compress", 14, "soft", "start", 600)
    picture = real_picture()
    seen = drawn.image(54, 78, picture, 72)
    drawn.text(54, 128, f"3 × {pixels}^2", 13, "image")
    encoder = drawn.box(150, 78, "encoder", "image", 76, 38)
    grid = code_grid(drawn, 236, 78, 5, 5)
    drawn.text(236, 128, f"{side} × {side} of {codes:,}", 13, "new")
    decoder = drawn.box(322, 78, "decoder", "text", 76, 38)
    again = drawn.image(416, 78, stand_in(picture, 1), 72)
    drawn.text(416, 128, f"*{X_HAT}*", 13, "image")
    drawn.arrow(seen, encoder)
    drawn.arrow(encoder, grid, role="new")
    drawn.arrow(grid, decoder, role="new")
    drawn.arrow(decoder, again)
    drawn.group(235, 240, 456, 166)
    drawn.text(20, 308, "stage 2: model what is left", 14, "soft", "start", 600)
    y, cell = 268, 17
    for i, word in enumerate(("a", "yellow", "bird", "…")):
        drawn.rect(42 + 48 * i, y, 46, 22, "text", radius=4)
        drawn.text(42 + 48 * i, y, word, 13, "text")
    drawn.text(111, y + 22, f"{text} tokens of text", 13, "text")
    for j, role in enumerate(code_roles(1, 12, 5)[0]):
        drawn.rect(228 + cell * j, y, cell - 1, 22, role, radius=3)
    drawn.text(322, y + 22, f"{side * side:,} codes of the picture", 13, "new")
    body = drawn.box(235, 206, f"Transformer, {config.layers} layers", "block", 400, 34)
    for x in (66, 114, 162, 228, 279, 330, 381):
        drawn.arrow((x, y - 11), (x, 223), sides="tb", head=False)
    for x, role in ((66, "text"), (114, "text"), (228, "new"), (279, "new"), (330, "new"), (381, "new")):
        drawn.arrow((x + 18, body.y - 17), (x + 18, 174), role=role)
    drawn.text(190, 180, "the next one", 13, "soft")
    return drawn


def vae(config: VAEConfig | None = None) -> Diagram:
    """The variational autoencoder: encoder, draw, decoder, and the two parts of the bound."""
    config = config or VAEConfig.mini()
    c, (rows, columns), n = config.channels, config.size, config.latent
    drawn = Diagram(470, 330, (
        f"The variational autoencoder. A picture x of {c} by {rows} by {columns} numbers enters the encoder, "
        f"which gives a mean mu and a deviation sigma, {n} numbers each. Noise epsilon is multiplied by "
        "sigma and added to mu: that is z. The decoder makes a picture x hat of z. Two losses in red: the "
        "divergence of the encoder's distribution from the standard normal one, and minus the logarithm of "
        "the probability of x under the decoder. Violet, added to a plain autoencoder: the draw. To "
        "generate, z comes from the prior, and encoder and mu and sigma are not needed."))
    picture = real_picture()
    x = drawn.image(50, 76, picture, 72)
    drawn.text(50, 26, "*x*", 15, weight=600)
    drawn.text(50, 126, f"{c} × {rows} × {columns}", 13, "image")
    encoder = drawn.box(156, 76, "encoder\n*q*(*z* | *x*)", "image", 92, 52)
    mu = drawn.box(264, 50, f"*μ*, {n}", "new", 68, 30)
    sigma = drawn.box(264, 102, f"*σ*, {n}", "new", 68, 30)
    plus, times = drawn.node(344, 50, "+", "new"), drawn.node(344, 102, "⊙", "new")
    drawn.arrow(x, encoder)
    drawn.arrow(encoder, mu, role="new")
    drawn.arrow(encoder, sigma, role="new")
    drawn.arrow(mu, plus, role="new")
    drawn.arrow(sigma, times, role="new")
    drawn.arrow(times, plus, role="new")
    drawn.text(362, 150, "*ε* ~ N(0, *I*)", 13, "soft")
    drawn.arrow((344, 140), times)
    z = drawn.box(424, 50, f"*z*, {n}", "", 60, 30)
    drawn.arrow(plus, z, role="new")
    drawn.text(264, 20, "loss KL(*q* ‖ N(0, *I*))", 14, "loss", weight=600)
    decoder = drawn.box(330, 238, "decoder\n*p_θ*(*x* | *z*)", "text", 96, 52)
    drawn.arrow(z, decoder, sides="br")
    again = drawn.image(196, 238, stand_in(picture, 3), 72)
    drawn.text(196, 188, f"*{X_HAT}*", 15, weight=600)
    drawn.text(196, 288, f"{c} × {rows} × {columns}", 13, "image")
    drawn.arrow(decoder, again)
    loss = drawn.box(60, 238, "loss\n−log *p_θ*(*x* | *z*)", "loss", 108, 52)
    drawn.arrow(again, loss, role="loss")
    drawn.arrow((50, 136), loss, role="loss")
    drawn.text(330, 304, "to generate: *z* ~ N(0, *I*)", 13, "soft")
    drawn.arrow((330, 294), decoder, dashed=True)
    return drawn


def vqvae(config: VQVAEConfig | None = None) -> Diagram:
    """VQ-VAE: the nearest code in the place of each vector, and where gradients go."""
    config = config or VQVAEConfig.imagenet()
    side, K, d = config.grid, config.codes, config.code_width
    drawn = Diagram(470, 374, (
        f"VQ-VAE. A picture of 3 by {config.size} by {config.size} numbers enters the encoder, which gives a "
        f"map z of {side} by {side} vectors with {d} numbers each. A codebook holds {K} codes of {d} "
        f"numbers. At each place the nearest code is found: {side} by {side} whole numbers k, "
        f"{config.bits:,.0f} bits, all that goes on. Its vector z_q enters the decoder, which draws "
        "the picture again. Dashed: the decoder's gradient jumps from z_q straight to z. Losses in red: "
        "codes go to the vectors that chose them, vectors stay near their codes, and the picture is to be "
        "drawn again. Violet, added to the autoencoder: the codebook."))
    picture = real_picture()
    x = drawn.image(50, 76, picture, 72)
    drawn.text(50, 26, "*x*", 15, weight=600)
    drawn.text(50, 126, f"3 × {config.size}^2", 13, "image")
    encoder = drawn.box(150, 76, "encoder", "image", 78, 38)
    drawn.arrow(x, encoder)
    z = drawn.matrix(252, 76, ["image"] * 4, 4, 14)
    drawn.text(252, 30, "*z*", 15, weight=600)
    drawn.text(252, 118, f"{d} × {side}^2", 13, "image")
    drawn.arrow(encoder, z)
    find = drawn.box(376, 76, "nearest code\n*k* = argmin ‖*z* − *e_j*‖", "new", 160, 52)
    drawn.arrow(z, find)
    for j, role in enumerate(ROLES):
        for i in range(5):
            drawn.rect(346 + 15 * i, 152 + 15 * j, 14, 14, role, radius=2)
        drawn.text(330, 152 + 15 * j, f"*e*_{j + 1 if j < 3 else 'K'}", 13, "soft", "end")
    drawn.text(364, 218, f"codebook, {K} × {d}", 13, "new", weight=600)
    book = Box(376, 174, 74, 60)
    drawn.arrow(book, find, role="new", sides="tb")
    k = code_grid(drawn, 376, 268, 4, 4, 14)
    drawn.text(376, 314, f"*k*, {side}^2", 13, "new")
    drawn.line([(448, 102), (448, 268), (404, 268)], "new", head=True)
    z_q = code_grid(drawn, 252, 268, 4, 4, 14)
    drawn.text(252, 314, f"*z_q*, {d} × {side}^2", 13, "new")
    drawn.arrow(k, z_q, role="new")
    decoder = drawn.box(150, 268, "decoder", "text", 78, 38)
    drawn.arrow(z_q, decoder)
    again = drawn.image(50, 268, stand_in(picture, 2), 72)
    drawn.text(50, 318, f"*{X_HAT}*, 3 × {config.size}^2", 13, "image")
    drawn.arrow(decoder, again)
    drawn.arrow((238, 236), (238, 132), "straight", "loss", dashed=True, sides="tb", side=-1)
    drawn.text(230, 202, "through", 13, "loss", "end", halo=True)
    drawn.line([(50, 138), (50, 224)], "loss")
    drawn.text(58, 174, "loss", 13, "loss", "start")
    drawn.text(58, 191, "−log *p*(*x* | *z_q*)", 13, "loss", "start")
    drawn.text(235, 346, "loss ‖sg[*z*] − *e*‖^2 : codes go to their vectors", 13, "loss")
    drawn.text(235, 364, "loss *β* ‖*z* − sg[*e*]‖^2 : vectors stay near their codes", 13, "loss")
    return drawn


def vqgan(config: VQGANConfig | None = None, patch: PatchConfig | None = None,
          pixels: int = 256) -> Diagram:
    """VQGAN's first stage: codes as in VQ-VAE, judged by features and by a discriminator of patches."""
    config, patch = config or VQGANConfig.imagenet_f16_1024(), patch or PatchConfig.paper()
    side, field = pixels // config.factor, patch.receptive_field
    drawn = Diagram(470, 356, (
        f"VQGAN. A picture of 3 by {pixels} by {pixels} becomes a map of {side} by {side} vectors of "
        f"{config.embed} numbers, each of which the nearest of {config.codes:,} codes replaces; the decoder, "
        "whose last layer is called W, draws the picture again. Violet, added to VQ-VAE: a frozen network of "
        "features compares the two pictures, which is the perceptual distance d, and a discriminator gives "
        f"one score for each patch of {field} by {field} pixels, of the real picture and of the drawn one. "
        "The game's loss L_G is weighted by lambda, so that it pulls at W as hard as the reconstruction."))
    picture = real_picture()
    x = drawn.image(50, 70, picture, 72)
    drawn.text(50, 22, "*x*", 15, weight=600)
    drawn.text(50, 120, f"3 × {pixels}^2", 13, "image")
    encoder = drawn.box(140, 70, "encoder", "image", 76, 38)
    grid = code_grid(drawn, 224, 70, 4, 4, 13)
    drawn.text(224, 26, f"{config.embed} × {side}^2", 13, "image")
    drawn.text(224, 112, f"{config.codes:,} codes", 13, "soft")
    decoder = drawn.box(312, 70, "decoder, *W*", "text", 96, 38)
    again = drawn.image(420, 70, stand_in(picture, 1), 72)
    drawn.text(420, 22, f"*{X_HAT}*", 15, weight=600)
    drawn.text(420, 120, f"3 × {pixels}^2", 13, "image")
    drawn.arrow(x, encoder)
    drawn.arrow(encoder, grid)
    drawn.arrow(grid, decoder)
    drawn.arrow(decoder, again)
    pixel = drawn.box(235, 158, "pixels\n|*x* − *" + X_HAT + "*|", "", 110, 46)
    seen = drawn.box(235, 222, "features, frozen\n*d*(*x*, *" + X_HAT + "*)", "new", 146, 46)
    judge = drawn.box(235, 298, f"discriminator\neach score: {field}^2 pixels", "new", 158, 46)
    for box in (pixel, seen, judge):
        drawn.arrow((36, box.y), box, sides="rl")
        drawn.arrow((434, box.y), box, sides="lr")
    drawn.line([(36, 130), (36, judge.y)], "image")
    drawn.line([(434, 130), (434, judge.y)], "image")
    drawn.text(428, 146, "loss *L*_{nll}", 14, "loss", "end", 600)
    drawn.text(428, 210, "+ *w_p d*", 14, "loss", "end", 600)
    drawn.text(428, 286, "loss *λ w_d L_G*", 14, "loss", "end", 600)
    drawn.text(42, 286, "loss *L_D*", 14, "loss", "start", 600)
    drawn.text(235, 340, "*λ*: both losses pull equally hard at *W*", 13, "loss")
    return drawn


# ---------------------------------------------------------------------------------------------- moving ones


@torch.no_grad()
def latent_plane(model: LatentModel, images: Float[Tensor, "n c y x"] | None = None, reach: Number = 2.5,
                 steps: int = 11) -> Block:
    """Point at the plane of a model with two latent numbers: what it decodes there, larger.

    The small pictures are decoded at ``steps`` by ``steps`` points from -reach to reach; dots are the codes
    of ``images``. Raises ``ValueError`` for a model with another number of latent numbers.
    """
    if model.config.latent != 2:
        raise ValueError(f"the model has {model.config.latent} latent numbers; a plane shows 2")
    values = torch.linspace(-float(reach), float(reach), steps)
    points = torch.cartesian_prod(values, values)                       # the second runs fastest
    with eval_mode(model) as device:
        drawn = ((model.decode(points.to(device)) + 1) / 2).clamp(0, 1).cpu()
        codes = None if images is None else model(images.to(device)).z.cpu()    # type: ignore[operator]
    side, left, top = 242.0, 22.0, 10.0
    cell = side / steps
    grid = drawn.unflatten(0, (steps, steps)).flip(1)                   # z_1 right, z_2 up
    mosaic = grid.permute(2, 1, 3, 0, 4).flatten(3).flatten(1, 2)       # c (z_2 y) (z_1 x)
    under = Diagram(470, 282, "pictures decoded all over a plane of two numbers")
    under.image(left + side / 2, top + side / 2, mosaic, side)
    for z in [] if codes is None else codes.tolist():
        x, y = (left + side / 2 * (1 + z[0] / (reach + reach / (steps - 1))),
                top + side / 2 * (1 - z[1] / (reach + reach / (steps - 1))))
        if left < x < left + side and top < y < top + side:
            under.add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.9" fill="#fff" stroke="#1d2733" '
                      f'stroke-width="0.9"/>')
    for share, name in ((0, -reach), (0.5, 0), (1, reach)):
        at = left + cell / 2 + share * (side - cell)
        under.text(at, top + side + 9, f"{name:g}".replace("-", "−"), 12, "soft")
    under.text(left + side / 2, top + side + 23, "*z*_1", 14)
    under.text(left - 12, top + side / 2, "*z*_2", 14)
    frames, labels = [], []
    for i, (point, picture) in enumerate(zip(points.tolist(), drawn)):
        said = f"({point[0]:.1f}, {point[1]:.1f})".replace("-", "−")
        frame = Diagram(470, 282, f"decoded at z = {said}")
        column, row = divmod(i, steps)
        frame.rect(left + (column + 0.5) * cell, top + (steps - row - 0.5) * cell, cell + 3, cell + 3, "loss",
                   radius=2, marks=' style="fill:none;stroke-width:2.6"')
        frame.image(372, top + side / 2, picture, 170)
        frame.text(372, top + side / 2 + 102, f"decoded at *z* = {said}", 14)
        frames.append(frame)
        labels.append("")
    names = [f"{value:.1f}".replace("-", "−") for value in values.tolist()]
    area = left / 470, top / 282, (left + side) / 470, (top + side) / 282
    return plane({"first number": names, "second number": names}, frames,
                 "A plane of two numbers: point at it to see the picture that is decoded there", area=area,
                 under=under, start=(steps * steps) // 2)


def reconstructions_over_bits(images: Float[Tensor, "n c y x"],
                              drawn: Mapping[tuple[int, int], Float[Tensor, "n c y x"]]) -> Block:
    """Two sliders over codebooks: pictures in [-1, 1] drawn again from codes, and the error over the bits.

    ``drawn`` has, for each side of a patch and each number of codes, the pictures again; every side with the
    same numbers of codes. Raises ``ValueError`` where one is missing.
    """
    sides, sizes = (list(dict.fromkeys(key[i] for key in drawn)) for i in (0, 1))
    missing = [(side, K) for side in sides for K in sizes if (side, K) not in drawn]
    if missing or not drawn:
        raise ValueError(f"there are no pictures for side and codes {missing[:1]}; give all combinations")
    pixels = images.shape[-1]
    bits = {(side, K): code_bits((pixels // side) ** 2, K) for side, K in drawn}
    error = {key: float((again - images).square().mean().sqrt()) for key, again in drawn.items()}
    left, wide, top, foot = 62, 384, 246, 352
    low, high = (math.log2(f(bits.values())) for f in (min, max))
    most = max(error.values()) * 1.1

    def at(key: tuple[int, int]) -> Point:
        share = (math.log2(bits[key]) - low) / max(high - low, TINY)
        return left + wide * share, foot - (foot - top) * error[key] / max(most, TINY)

    under = Diagram(470, 398, "the pictures, and the errors of all codebooks")
    under.text(14, 60, "*x*", 15, weight=600)
    under.text(14, 164, f"*{X_HAT}*", 15, weight=600)
    under.image(250, 58, strip(images), 400)
    under.line([(left, top - 12), (left, foot), (left + wide + 12, foot)])
    under.text(left - 8, top - 4, f"{most:.1f}", 12, "soft", "end")
    under.text(left - 8, foot, "0", 12, "soft", "end")
    under.text(left - 12, (top + foot) / 2, "error", 13, "soft", "end")
    under.text(left + wide / 2, foot + 32, "bits of a picture", 13, "soft")
    for power in range(math.ceil(low), math.floor(high) + 1, 2):
        x = left + wide * (power - low) / max(high - low, TINY)
        under.text(x, foot + 13, f"{2**power:,}", 12, "soft")
    for side, role in zip(sides, ("image", "text", "block", "new")):
        places = [at((side, K)) for K in sizes]
        if len(places) > 1:
            under.line(places, role)
        for x, y in places:
            under.add(f'<circle class="mm-h mm-{role}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>')
        under.text(places[0][0] + 4, places[0][1] - 13, f"{side} × {side}", 13, role, "start", halo=True)
    frames, labels = [], []
    for side in sides:
        for K in sizes:
            key, count = (side, K), (pixels // side) ** 2
            said = f"{count:,} places × {math.log2(K):g} bits = {bits[key]:,.0f} bits"
            frame = Diagram(470, 398, f"patches of {side} by {side}, {K} codes: {said}")
            frame.image(250, 162, strip(drawn[key]), 400)
            x, y = at(key)
            frame.add(f'<circle class="mm-l mm-loss" cx="{x:.1f}" cy="{y:.1f}" r="7" '
                      f'style="fill:none;stroke-width:2.4"/>')
            frames.append(frame)
            labels.append(f"{said}, error {error[key]:.2f}")
    return slider({"side of a patch": sides, "codes K": sizes}, frames,
                  "Pictures drawn again from the codes of their patches, over the bits of the codes",
                  under=under, labels=labels, start=len(frames) // 2)


def strip(images: Float[Tensor, "n c y x"]) -> np.ndarray:
    """Pictures in [-1, 1] side by side, (s, n * s, 3), with white between them."""
    parts: list[Any] = []
    for image in images:
        pixels = ((image + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()
        parts += [pixels, np.ones((len(pixels), 2, 3))]
    return np.concatenate(parts[:-1], axis=1)


# ------------------------------------------------------------------------------------------------------ plots


def losses_of_an_edge(places: Sequence[int] = (3, 4, 5, 6), pixels: int = 10) -> Figure:
    """An edge at one of several places: the picture of least squared error is a ramp, that of least absolute
    error one edge."""
    edges = np.array([[0.0 if x < place else 1.0 for x in range(pixels)] for place in places])
    figure, axis = plt.subplots(figsize=(6.4, 2.8))
    for i, edge in enumerate(edges):
        axis.step(range(pixels), edge, where="mid", color=COLOURS["frozen"], alpha=0.4,
                  label="what it may be" if i == 0 else None)
    axis.step(range(pixels), edges.mean(axis=0), where="mid", color=COLOURS["loss"], label="mean: squares")
    axis.step(range(pixels), np.sort(edges, axis=0)[(len(edges) - 1) // 2], "--", where="mid",
              color=COLOURS["block"], label="median: absolute errors")
    axis.set(xlabel="pixel of a row", ylabel="brightness")
    axis.legend(fontsize=9, loc="upper left")
    return figure
