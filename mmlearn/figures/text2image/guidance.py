"""Figures of GLIDE and of what came after it: its U-Net with text, a cascade, unCLIP, latent diffusion; what
guidance does in the plane and to pictures; the reverse chain of a text; holes.

Papers: A. Nichol et al. (2021), *GLIDE*, arXiv:2112.10741; A. Ramesh et al. (2022), *unCLIP*,
arXiv:2204.06125, fig. 2; C. Saharia et al. (2022), *Imagen*, arXiv:2205.11487, fig. A.4; R. Rombach et al.
(2022), arXiv:2112.10752, fig. 3.  Survey: 2.3, 2.3.1.

Colours as in ``architecture``: violet is what a system adds, grey is frozen. Moving figures draw with
whatever ``Painter`` they are given; pictures are tensors (…, 3, s, s) in [-1, 1].
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmlearn.figures.diagram import Box, Diagram, Number, literal
from mmlearn.figures.interactive import Block, player, slider
from mmlearn.figures.text2image.architecture import CAPTION, noise_box, real_picture, stand_in
from mmlearn.nn.modes import eval_mode
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.diffusion import draw as draw_noise
from mmlearn.text2image.glide import GLIDEConfig, quantised
from mmlearn.text2image.painting import COOLER, FAST, GUIDANCE, Painter
from mmlearn.text2image.samplers import Method, Step, guided, sample, sample_steps
from mmlearn.text2image.toy_diffusion import UNLABELLED, Mixture, MixtureDenoiser

SAID = f"“{CAPTION}”"
Z_BAR, EPS_HAT = "z\u0303", "ε\u0302"

# ------------------------------------------------------------------------------------------------- diagrams


def glide(config: GLIDEConfig | None = None) -> Diagram:
    """GLIDE's base model: where the sentence enters ADM's U-Net; below it the upsampler."""
    config = config or GLIDEConfig.full()
    net, text = config.unet, config.text
    widths = [round(net.width * m) for m in net.multipliers]
    sides = [net.size >> i for i in range(len(widths))]
    reads = [side in net.attention for side in sides]
    maps = ", ".join(f"{c} maps of {s} by {s}{' with attention' if a else ''}"
                     for c, s, a in zip(widths, sides, reads))
    drawn = Diagram(470, 626, (
        f"GLIDE's base model. A sentence becomes {text.context} tokens; a transformer of {text.layers} "
        f"layers and width {text.width}, trained with the rest, reads them. Its last state passes a "
        "linear layer and is added to the timestep's embedding, which scales and shifts every residual "
        "block of the U-Net. All its states go to every attention layer, as keys and values beside "
        f"those of the picture. The U-Net takes the noisy picture x_t of 3 by {net.size} by {net.size} "
        f"down through {maps}, and up again, with skips between equal sides; it gives the noise, and "
        "three more maps for the variance. Below: a second model of the same kind, with a transformer "
        f"of its own, enlarges {net.size} pixels to 256. Violet: what GLIDE adds to ADM."))
    drawn.text(20, 16, SAID, 14, "text", "start")
    reader = drawn.box(106, 66, f"transformer\n{text.layers} layers, width {text.width}", "new", 172, 48)
    drawn.arrow((60, 26), (60, 42), role="text")
    plus = drawn.node(238, 66, "+", "new")
    time = drawn.box(378, 66, "timestep *t*\nwaves, linear, linear", "", 164, 48)
    drawn.arrow(reader, plus, role="new")
    drawn.arrow(time, plus)
    drawn.text(238, 36, "last state, linear: *e*", 13, "new")
    drawn.arrow(plus, (238, 172))
    drawn.text(247, 103, "scale and shift of", 13, "soft", "start")
    drawn.text(247, 119, "each residual block", 13, "soft", "start")
    picture = real_picture(32)
    speck = torch.randn(32, 32, 3, generator=torch.Generator().manual_seed(1)).numpy()
    noisy = (0.55 * picture + 0.45 * (128 + 60 * speck)).clip(0, 255).astype("uint8")
    level, gap = 206, 58
    seen = drawn.image(100, 152, noisy, 42)
    drawn.text(72, 152, "*x_t*", 15, "image", "end", 600)
    drawn.text(376, 152, f"*{EPS_HAT}*, variance", 14, "image", weight=600)
    rows = [level + gap * i for i in range(len(widths))]
    low, foot = rows[-1] + gap, rows[-1] + gap + 34
    down: list[Box] = []
    up: list[Box] = []
    for i, (c, s, attends, y) in enumerate(zip(widths, sides, reads, rows)):
        label = f"{c} × {s}^2" + ("\nattention" if attends else "")
        w = 150 - 16 * i
        down.append(drawn.box(100, y, label, "", w, 42))
        up.append(drawn.box(376, y, label, "", w, 42))
        drawn.arrow(down[-1], up[-1], "skip" if i == 0 else "", dashed=True)
    middle = drawn.box(238, low, f"{widths[-1]} × {sides[-1]}^2\nattention", "", 118, 42)
    drawn.arrow(seen, down[0])
    for before, after in zip(down, down[1:]):
        drawn.arrow(before, after)
    for before, after in zip(up[::-1], up[-2::-1]):
        drawn.arrow(before, after)
    drawn.arrow(down[-1], middle, sides="bl")
    drawn.arrow(middle, up[-1], sides="rb")
    drawn.arrow(up[0], (376, 162))
    drawn.line([(32, 90), (32, 126), (12, 126), (12, foot), (458, foot)], "new")
    first = reads.index(True) if any(reads) else 0
    drawn.line([(458, foot), (458, rows[first])], "new")
    for attends, y, left, right in zip(reads, rows, down, up):
        if attends:
            drawn.arrow((12, y), (left.at("l")[0], y), role="new")
            drawn.arrow((458, y), (right.at("r")[0], y), role="new")
    drawn.arrow((238, foot), (238, low + 21), role="new")
    drawn.text(20, foot + 14, f"all {text.context} states: keys and values in every attention", 13, "new",
               "start")
    y = foot + 84
    small = drawn.image(60, y, stand_in(real_picture(32), 2), 42)
    larger = drawn.box(226, y, f"upsampler, {net.size}^2 to 256^2\nnoise and the small picture", "new",
                       206, 48)
    fine = drawn.image(410, y, stand_in(real_picture(), 1), 84)
    drawn.arrow(small, larger)
    drawn.arrow(larger, fine)
    drawn.text(226, y - 40, "reads the sentence itself", 13, "text")
    return drawn


def cascade() -> Diagram:
    """Imagen: a frozen language model reads, three diffusion models draw, each larger than the one before."""
    drawn = Diagram(470, 456, (
        "Imagen, a cascade. A frozen T5-XXL, 4.8 billion parameters, reads the sentence; all three "
        "diffusion models are told what it says. The base model, 2 billion parameters, draws 64 by 64 "
        "pixels from noise. An Efficient U-Net of 600 million enlarges them to 256, a second one of "
        "400 million to 1024. What is enlarged is first spoilt by noise of a strength a that the model "
        "is told. Violet: what Imagen adds."))
    drawn.text(20, 16, SAID, 14, "text", "start")
    reader = drawn.box(104, 62, "T5-XXL, frozen\n4.8 B, text only", "frozen", 160, 48)
    drawn.arrow((60, 26), (60, 38), role="text")
    rows, shown, names = (150, 256, 392), (44, 76, 108), (
        "base U-Net, 2 B\n64^2, from noise", "Efficient U-Net, 600 M\nto 256^2",
        "Efficient U-Net, 400 M\nto 1024^2")
    drawn.line([(40, reader.at("b")[1]), (40, rows[-1])], "text")
    before = None
    for i, (y, side, name) in enumerate(zip(rows, shown, names)):
        box = drawn.box(156, y, name, "new" if i else "", 178, 50)
        drawn.arrow((40, y), box, role="text")
        seen = drawn.image(352, y, stand_in(real_picture((24, 48, 96)[i]), (5, 2, 1)[i]), side)
        drawn.arrow(box, seen)
        if before is not None:
            drawn.arrow(before, box, role="new", sides="bt")
            drawn.text(252, (before.at("b")[1] + box.at("t")[1]) / 2 - 11, "spoilt by noise *a*", 13, "new")
        before = seen
    drawn.text(448, rows[0], "64", 13, "image", "end")
    drawn.text(448, rows[1], "256", 13, "image", "end")
    drawn.text(448, rows[2], "1024", 13, "image", "end")
    return drawn


def unclip() -> Diagram:
    """unCLIP (DALL-E 2): from the sentence a CLIP embedding of a picture, from that the picture."""
    drawn = Diagram(470, 466, (
        "unCLIP, or DALL-E 2. CLIP, frozen, turns the sentence into its embedding z_t; a prior, a "
        "diffusion model of 1 billion parameters, draws from it the embedding z of a picture, 1024 "
        "numbers. In training z is what CLIP says of the real picture. The decoder is GLIDE's model of "
        "3.5 billion: it starts from noise x_T; z is added to the timestep's embedding and becomes "
        "four more tokens of context, beside the sentence's. Two upsamplers, which read nothing, "
        "enlarge 64 pixels to 256 and 1024. Violet: what unCLIP adds to GLIDE."))
    drawn.text(20, 16, SAID, 14, "text", "start")
    reader = drawn.box(88, 64, "CLIP, text\nfrozen", "frozen", 116, 48)
    drawn.arrow((60, 26), (60, 40), role="text")
    prior = drawn.box(250, 64, "prior, 1 B\na diffusion model", "new", 136, 48)
    drawn.arrow(reader, prior, "*z_t*", "text")
    z = drawn.box(398, 64, "*z*\n1024 numbers", "new", 100, 48)
    drawn.arrow(prior, z, role="new")
    real = drawn.image(258, 150, real_picture(64), 52)
    image = drawn.box(398, 150, "CLIP, picture\nfrozen", "frozen", 112, 48)
    drawn.arrow(real, image, dashed=True)
    drawn.arrow(image, z, dashed=True)
    drawn.text(222, 150, "in training", 13, "soft", "end")
    decoder = drawn.box(244, 262, "decoder: GLIDE’s, 3.5 B\n*z* joins *t*, and 4 tokens", "new", 196, 50)
    drawn.arrow(z, decoder, role="new", sides="rr", via=((462, 64), (462, 262)))
    drawn.line([(24, 26), (24, 262)], "text")
    drawn.arrow((24, 262), decoder, "its tokens", "text", sides="rl")
    drawn.arrow(noise_box(drawn, 96, 196, label="*x_T*"), decoder, sides="rt")
    y = 378
    small = drawn.image(60, y, stand_in(real_picture(24), 5), 40)
    drawn.arrow(decoder, small, sides="bt")
    first = drawn.box(142, y, "700 M", "", 68, 34)
    middle = drawn.image(230, y, stand_in(real_picture(48), 2), 66)
    second = drawn.box(314, y, "300 M", "", 68, 34)
    large = drawn.image(412, y, stand_in(real_picture(), 1), 96)
    for before, after in ((small, first), (first, middle), (middle, second), (second, large)):
        drawn.arrow(before, after)
    for x, size in ((60, "64"), (230, "256"), (412, "1024")):
        drawn.text(x, y + 62, size, 13, "image")
    drawn.text(142, y + 30, "enlarges", 13, "soft")
    return drawn


def latent_diffusion() -> Diagram:
    """Latent diffusion: an autoencoder before and after, a chain on its latents, text by cross-attention."""
    drawn = Diagram(470, 312, (
        "Latent diffusion as in Stable Diffusion. A frozen encoder makes latents of 4 by 64 by 64 "
        "numbers of a picture of 3 by 512 by 512, 48 times fewer; they are multiplied by a scale. "
        "Noise is added to the latents, and a U-Net of 860 million parameters takes it away, reading "
        "the states of CLIP's frozen text encoder by cross-attention. A frozen decoder makes the "
        "picture of the latents, once. Violet: what latent diffusion adds."))
    x = drawn.image(60, 66, real_picture(), 84)
    drawn.text(60, 122, "3 × 512^2", 13, "image")
    encoder = drawn.box(178, 66, "encoder\nfrozen", "frozen", 92, 48)
    z = drawn.box(298, 66, "*z*\n4 × 64^2", "new", 84, 48)
    drawn.arrow(x, encoder, dashed=True)
    drawn.arrow(encoder, z, "× *s*", "new", dashed=True)
    drawn.text(350, 66, "in training", 13, "soft", "start")
    net = drawn.box(298, 206, "U-Net, 860 M\ncross-attention", "new", 142, 50)
    drawn.arrow(noise_box(drawn, 424, 206, label="*z_T*"), net)
    drawn.arrow(z, net, "noised", "new", dashed=True)
    reader = drawn.box(298, 284, "CLIP, text, frozen", "frozen", 156, 30)
    drawn.arrow(reader, net, role="text", sides="tb")
    drawn.text(212, 284, SAID[:18] + " …”", 13, "text", "end")
    decoder = drawn.box(172, 206, "decoder\nfrozen", "frozen", 78, 48)
    drawn.arrow(net, decoder, role="new")
    drawn.arrow(decoder, drawn.image(60, 206, stand_in(real_picture(), 1), 84))
    return drawn


# ---------------------------------------------------------------------------------------- guidance in a plane


def aimed_at(world: Mixture, scale: float | int, reach: float | int = 4.0) -> tuple[float, float]:
    """Mean and deviation, along the first axis, of what guidance towards class 1 aims at in a world whose
    classes lie on that axis: p(x|1)^s p(x)^(1-s), by a sum over a fine grid."""
    x, density = aimed_density(world, scale, reach)
    mean = float((density * x).sum() / density.sum())
    return mean, math.sqrt(float((density * (x - mean) ** 2).sum() / density.sum()))


def aimed_density(
    world: Mixture, scale: float | int, reach: float | int = 4.0, points: int = 4001
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Places of a line from -reach to reach, and the density there of what guidance aims at."""
    x = torch.linspace(-reach, reach, points, dtype=torch.float64)
    place = torch.stack([x, torch.zeros_like(x)], dim=1)
    every, own = world.log_density(place), world.log_joint(place)[:, world.labels == 1].logsumexp(1)
    mass = (scale * own + (1 - scale) * every).softmax(0)
    return x, mass / float(x[1] - x[0])


def guided_points(
    world: Mixture, scale: float | int, count: int = 400, steps: int = 100, seed: int = 0
) -> Float[Tensor, "n 2"]:
    """Points that the perfect denoiser of a world draws of class 1, with guidance."""
    chain, g = NoiseSchedule.cosine(), torch.Generator().manual_seed(seed)
    asked = torch.ones(count, dtype=torch.long)
    denoise = guided(MixtureDenoiser(world, chain), {"labels": asked},
                     {"labels": torch.full_like(asked, UNLABELLED)}, float(scale))
    return sample(denoise, chain.respaced(steps), (count, 2), "ddpm", denoised_fn=None, generator=g)


def guidance_in_the_plane(
    scales: Sequence[Number] = (0, 1, 1.5, 2, 3, 5, 8), count: int = 300, steps: int = 60
) -> Block:
    """A slider over the scale: points drawn of one of two overlapping classes by the perfect denoiser, what
    they are along one axis, and what guidance aims at."""
    world = Mixture.overlapping()
    left, unit, middle, foot, tall = 235, 130, 110, 292, 32

    def across(x: float | int) -> float:
        return left + unit * (x - 0.3)

    under = Diagram(470, 316, "two classes, axes")
    for mean, std, role in zip(world.means.tolist(), world.stds.tolist(), ("frozen", "image")):
        for times in (1, 2):
            under.add(f'<circle class="mm-l mm-{role}" cx="{across(mean[0]):.1f}" '
                      f'cy="{middle - unit * mean[1]:.1f}" r="{times * unit * std:.1f}" '
                      f'stroke-dasharray="{"" if times == 1 else "4 4"}"/>')
    under.text(across(-0.25) - 96, 24, "the other class", 13, "frozen", weight=600)
    under.text(across(0.25) + 96, 24, "the class asked for", 13, "image", weight=600)
    under.line([(20, foot), (450, foot)])
    x, own = aimed_density(world, 1)
    under.add(_curve(x, own, across, foot, tall, "image", ' stroke-dasharray="4 4"'))
    under.text(446, foot - 62, "the class itself", 13, "image", "end")
    under.text(446, foot - 44, "aimed at", 13, "new", "end", 600)
    under.text(446, foot - 26, "drawn (bars)", 13, "text", "end")
    frames, labels = [], []
    for scale in scales:
        drawn = Diagram(470, 316, f"scale {scale:g}")
        points = guided_points(world, scale, count, steps)
        dots = "".join(f"M{across(a):.0f} {middle - unit * b:.0f}h0" for a, b in points.tolist())
        drawn.add(f'<path class="mm-l mm-text" d="{dots}" style="stroke-width:4;stroke-linecap:round;'
                  'stroke-opacity:0.6"/>')
        counts = torch.histc(points[:, 0], 33, -1.4, 1.9)
        for k, share in enumerate((counts / counts.sum() / 0.1).tolist()):
            if share:
                drawn.bar(across(-1.4 + 0.1 * k), foot - tall * share / 2, 0.1 * unit - 1, tall * share,
                          "text", ' fill-opacity="0.45"')
        drawn.add(_curve(*aimed_density(world, scale), across, foot, tall, "new"))
        frames.append(drawn)
        sure = float(world.log_classes(points)[:, 1].exp().mean())
        labels.append(f"p(y|x) of what is drawn {sure:.2f}; mean {points[:, 0].mean():.2f}, aimed at "
                      f"{aimed_at(world, scale)[0]:.2f}".replace("-", "−"))
    return slider({"scale s": [f"{scale:g}" for scale in scales]}, frames,
                  "Guidance in the plane: points drawn of the right one of two overlapping classes, at each "
                  "scale of guidance", under=under, labels=labels, start=1)


def _curve(x: Tensor, y: Tensor, across: Any, foot: Number, tall: Number, role: str, marks: str = "") -> str:
    """A density over the line, from -1.4 to 1.9."""
    keep = (x >= -1.4) & (x <= 1.9)
    points = list(zip(x[keep].tolist()[::40], y[keep].tolist()[::40]))
    path = "L".join(f"{across(a):.1f} {foot - tall * b:.1f}" for a, b in points)
    return f'<path class="mm-l mm-{role}" d="M{path}" style="stroke-width:2.2"{marks}/>'


# ------------------------------------------------------------------------------------- what a painter does


def _show(drawn: Diagram, x: Number, y: Number, pixels: Float[Tensor, "3 h w"], size: Number) -> None:
    drawn.image(x, y, (pixels.detach().float().clamp(-1, 1) + 1) / 2, size)


@torch.no_grad()
def reverse_chain(
    painter: Painter, text: str, samples: int = 4, seed: int = 0, steps: int | str = 50,
    guidance: float | int = GUIDANCE, method: Method = "ddim", upsampling: int | str = FAST,
) -> tuple[list[Step], Float[Tensor, "n 3 y x"]]:
    """All moments of the base model's chain, and the finished pictures: those that
    ``painter.draw([text], samples, seed, …)`` gives for the same options."""
    draws, model = torch.Generator().manual_seed(seed), painter.base
    with eval_mode(painter) as device:
        tokens = painter.tokens([text]).repeat_interleave(samples, dim=0).to(device)
        conditions = model.read(tokens[:, : model.config.text.context])._asdict()
        noise = draw_noise((samples, 3, model.config.size, model.config.size), draws).to(device)
        denoise = guided(model.predict, conditions, model.empty(samples)._asdict(), float(guidance))
        chain = list(sample_steps(denoise, model.config.noise.respaced(steps), noise.shape, method,
                                  generator=draws, start=noise))
        drawn, up = chain[-1].x, painter.upsampler
        if up is not None:
            noise = draw_noise((samples, 3, up.config.size, up.config.size), draws).to(device) * COOLER
            drawn = painter.paint(up, tokens, noise, upsampling, 1.0, draws, "ddim", low=quantised(drawn))
    return chain, drawn.float().cpu()


def denoising_player(
    painter: Painter, text: str, samples: int = 4, seed: int = 0, frames: int = 12, **options: Any
) -> Block:
    """A player over the reverse chain of a sentence: above x_t of each of ``samples`` pictures, below the
    estimate of the picture at that step; the last frame shows what is drawn.

    ``options`` are those of ``reverse_chain``. Raises ``ValueError`` for less than 2 frames.
    """
    if frames < 2:
        raise ValueError(f"{frames} frame; a player needs 2 at least")
    chain, drawn = reverse_chain(painter, text, samples, seed, **options)
    cell = min(108.0, 396 / samples)
    wide, high = 470, 44 + 2 * cell
    places = [66 + cell * (i + 0.5) for i in range(samples)]
    under = Diagram(wide, high, "the sentence")
    under.text(wide / 2, 16, literal(f"“{text}”"), 15, "text", weight=600)
    moments = sorted({round(i * (len(chain) - 2) / (frames - 2)) for i in range(frames - 1)}
                     if frames > 2 else {0})
    shown, labels = [], []
    for i in moments:
        step = chain[i]
        each = Diagram(wide, high, f"timestep {step.t}")
        each.text(58, 36 + cell / 2, "*x_t*", 15, "image", "end")
        each.text(58, 36 + 1.5 * cell, "estimate", 13, "soft", "end")
        for x, now, guess in zip(places, step.x.cpu(), step.x0.cpu()):
            _show(each, x, 36 + cell / 2, now, cell - 6)
            _show(each, x, 36 + 1.5 * cell, guess, cell - 6)
        shown.append(each)
        labels.append(f"timestep {step.t}, after {i} of {len(chain) - 1} steps")
    last = Diagram(wide, high, "what is drawn")
    size = min(2 * cell, 396 / samples) - 6
    for x, pixels in zip(places, drawn):
        _show(last, x, 36 + cell, pixels, size)
    last.text(58, 36 + cell, "drawn", 13, "soft", "end")
    side, small = painter.config.size, painter.base.config.size
    labels.append(f"done: {small} pixels a side" + (f", enlarged to {side}" if side != small else ""))
    return player([*shown, last], labels, f"Noise becomes pictures of “{text}”", under=under, seconds=0.6)


def guidance_slider(
    painter: Painter, texts: Sequence[str], scales: Sequence[Number] = (0, 1, 2, 3, 5, 8), samples: int = 4,
    seed: int = 0, notes: Sequence[str] = (), **options: Any
) -> Block:
    """A slider over the scale of guidance: a row of pictures for each sentence, from the same noise at every
    scale. ``options`` are those of ``Painter.draw``; ``notes`` stand below, one a scale.

    Raises ``ValueError`` for another number of notes than scales.
    """
    if notes and len(notes) != len(scales):
        raise ValueError(f"{len(notes)} notes for {len(scales)} scales; give one each")
    cell = min(112.0, 460 / samples)
    head = 22
    high = len(texts) * (cell + head) + 2
    under = Diagram(470, high, "the sentences")
    left = (470 - cell * samples) / 2
    for r, text in enumerate(texts):
        under.text(235, r * (cell + head) + 12, literal(f"“{text}”"), 14, "text")
    frames = []
    for scale in scales:
        pictures = painter.draw(list(texts), samples, seed, guidance=scale, **options)
        drawn = Diagram(470, high, f"scale {scale:g}")
        for k, pixels in enumerate(pictures):
            row, column = divmod(k, samples)
            y = row * (cell + head) + head + cell / 2
            _show(drawn, left + cell * (column + 0.5), y, pixels, cell - 6)
        frames.append(drawn)
    start = min(range(len(scales)), key=lambda i: abs(scales[i] - 1))
    return slider({"scale s": [f"{scale:g}" for scale in scales]}, frames,
                  f"What is drawn at each scale of guidance, of {len(texts)} sentences", under=under,
                  labels=notes or None, start=start)


def inpainting_slider(
    painter: Painter, picture: Float[Tensor, "3 y x"], hole: Bool[Tensor, "y x"], texts: Sequence[str],
    samples: int = 3, seed: int = 0, **options: Any
) -> Block:
    """A slider over sentences: a picture with its hole, and ``samples`` of what a painter puts there; below,
    by how much the known pixels changed. ``options`` are those of ``Painter.edit``."""
    cell = min(112.0, 460 / (samples + 1))
    lines = max(len(textwrap.wrap(text, 58)) for text in texts)
    high = 18 * lines + cell + 26
    left = (470 - cell * (samples + 1)) / 2
    middle = 18 * lines + 6 + cell / 2
    under = Diagram(470, high, "the picture with its hole")
    _show(under, left + cell / 2, middle, picture * ~hole + hole * 0.9, cell - 6)
    under.text(left + cell / 2, high - 9, "known", 13, "soft")
    frames, labels = [], []
    for text in texts:
        pictures = painter.edit(picture, hole, text, samples, seed, **options)
        drawn = Diagram(470, high, text)
        for k, line in enumerate(textwrap.wrap(f"“{text}”", 60)):
            drawn.text(235, 12 + 18 * k, literal(line), 14, "text")
        for k, pixels in enumerate(pictures):
            _show(drawn, left + cell * (k + 1.5), middle, pixels, cell - 6)
        frames.append(drawn)
        changed = float(((pictures - picture) * ~hole).abs().max())
        labels.append(f"largest change of a known pixel: {changed:g}")
    return slider({"sentence": [str(i + 1) for i in range(len(texts))]}, frames,
                  "A hole in a picture, filled for each of several sentences", under=under, labels=labels)
