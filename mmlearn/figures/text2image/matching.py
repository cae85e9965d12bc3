"""Figures of section 2.1.2: the text encoder, the three kinds of pairs, and what a generator makes of
sentences: over training, between two sentences, in the style of another picture.

Papers: S. Reed et al. (2016), arXiv:1605.05395 (text encoder) and arXiv:1605.05396, fig. 2, 6 and 8.
Survey: 2.1.2.  Pictures are tensors (…, 3, s, s) in [-1, 1], by whatever generator.
"""

import textwrap
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmlearn.data.scenes import portrait, render
from mmlearn.data.scenes.graph import Scene
from mmlearn.figures.diagram import Diagram, Number, literal
from mmlearn.figures.interactive import Block, player, slider
from mmlearn.text2image.blocks import halvings
from mmlearn.text2image.char_cnn_rnn import CharCNNRNNConfig
from mmlearn.text2image.gan_cls import GANCLSConfig


def _drawn(scene: Scene, size: int = 96) -> Float[Tensor, "3 s s"]:
    return torch.from_numpy(render(scene, size).image).permute(2, 0, 1) / 127.5 - 1


def _show(drawn: Diagram, x: Number, y: Number, pixels: Float[Tensor, "3 h w"], size: Number) -> None:
    """A picture in [-1, 1] around (x, y)."""
    drawn.image(x, y, (pixels.detach().cpu().float() + 1) / 2, size)


def _lines(drawn: Diagram, x: Number, y: Number, text: str, letters: int, size: Number = 13,
           role: str = "text", anchor: str = "middle", most: int = 4) -> None:
    """A sentence broken after ``letters``, its first line at y."""
    for k, line in enumerate(textwrap.wrap(text, letters)[:most]):
        drawn.text(x, y + 1.25 * size * k, literal(line), size, role, anchor)


# ------------------------------------------------------------------------------------------------- diagrams

def text_encoder(sentence: str = "a blue bird in a meadow", config: CharCNNRNNConfig | None = None,
                 scene: Scene | None = None) -> Diagram:
    """char-CNN-RNN from letters to an embedding, and the structured joint embedding with its picture's."""
    config = config or CharCNNRNNConfig.cvpr()
    a, b, c = config.channels
    first = config.length - 3
    second = first // 3 - 3
    drawn = Diagram(470, 546, (
        f"The text encoder char-CNN-RNN. A sentence of up to {config.length} characters becomes a table of "
        f"{config.symbols} by {config.length} zeros and ones. Three convolutions with pooling shorten it: "
        f"{a} by {first // 3}, {b} by {second // 3}, {c} by {config.steps}. A recurrent network reads these "
        f"{config.steps} steps; the mean of its states, times a matrix, is the embedding phi of "
        f"{config.embed} numbers. The picture's embedding theta, as long, is that of a frozen GoogLeNet. "
        f"Their inner product S says how well they fit."))
    x = 150
    drawn.text(x, 14, f"“{literal(sentence)}”", 14, "text", weight=600)
    letters = drawn.matrix(x, 58, ["text" if i == 1 else "" for i in range(4)], 14, 10)
    drawn.arrow((x, 24), letters)
    drawn.text(x + 80, 58, f"{config.symbols} × {config.length}", 13, "soft", "start")
    pooled = ", pool 3/2" if config.last_pool else ""
    before, names = letters, ("conv 4, ReLU, pool 3", "conv 4, ReLU, pool 3", f"conv 4, ReLU{pooled}")
    shapes = (f"{a} × {first // 3}", f"{b} × {second // 3}", f"{c} × {config.steps}")
    for i, (name, shape) in enumerate(zip(names, shapes)):
        box = drawn.box(x, 124 + 64 * i, f"{name}\n{shape}", "text", 210, 42)
        drawn.arrow(before, box)
        before = box
    count = min(config.steps, 8)
    places = [x - 105 + 210 * (i + 0.5) / count for i in range(count)]
    states = [drawn.node(place, 316, "", "text", 20) for place in places]
    for earlier, later in zip(states, states[1:]):
        drawn.arrow(earlier, later)
    drawn.arrow(before, (x, 304))
    drawn.text(x + 112, 316, f"*h*_1 … *h*_{{{config.steps}}}", 14, "text", "start")
    mean = drawn.box(x, 368, "mean over the steps", "text", 180, 34)
    drawn.arrow((x, 328), mean)
    phi = drawn.box(x, 432, "φ = *h̄W* + *b*", "text", 150, 34)
    drawn.arrow(mean, phi, f"{c}")
    far = 390
    _show(drawn, far, 236, _drawn(scene or portrait("bird", colour="blue", setting="meadow")), 84)
    eye = drawn.box(far, 340, "GoogLeNet\nfrozen", "frozen", 120, 46)
    drawn.arrow((far, 278), eye)
    theta = drawn.box(far, 432, "θ", "frozen", 60, 34)
    drawn.arrow(eye, theta)
    score = drawn.box(270, 514, "*S* = θ · φ\na margin of 1 to every wrong pair", "loss", 250, 50)
    drawn.arrow(phi, score, f"{config.embed}", sides="bt", bend=0.5)
    drawn.arrow(theta, score, f"{config.embed}", sides="bt", bend=0.5)
    return drawn


def text_conditional_gan(config: GANCLSConfig | None = None, scene: Scene | None = None) -> Diagram:
    """Both networks of GAN-CLS: DCGAN's, and where the sentence enters each of them."""
    config = config or GANCLSConfig.gan_int_cls()
    top = 1 << (halvings(config.size) - 1)
    wide, deep = config.generator_width * top, config.discriminator_width * top
    e, p, z, s = config.text, config.compressed, config.noise, config.size
    drawn = Diagram(470, 452, (
        f"The two networks of GAN-CLS. The sentence's embedding phi of {e} numbers is compressed to {p} in "
        f"each of them. Generator: it stands behind {z} numbers of noise; transposed convolutions make maps "
        f"of 4 by 4 up to {s // 2} by {s // 2} and a picture of {s} by {s}. Discriminator: convolutions "
        f"bring the picture down to {deep} maps of 4 by 4; the compressed sentence is repeated at all 16 "
        f"places, and two more convolutions make one logit a."))
    left, right = 106, 352
    drawn.text(left, 14, "generator *G*", 15, weight=600)
    drawn.text(right, 14, "discriminator *D*", 15, weight=600)
    noise = drawn.box(50, 58, f"*z*, {z}", "frozen", 80, 34)
    phi = drawn.box(160, 58, f"φ(*t*), {e}", "text", 104, 34)
    small = drawn.box(160, 132, f"linear\nleaky, {p}", "new", 92, 46)
    drawn.arrow(phi, small)
    joined = drawn.matrix(left, 204, ["frozen"], ["frozen"] * 4 + ["new"] * 5, 14)
    drawn.arrow(noise, joined, sides="bt")
    drawn.arrow(small, joined, sides="bt")
    maps = f"{wide} × 4² … {config.generator_width} × {s // 2}²"
    up = drawn.box(left, 282, f"DCGAN, up\n{maps}", "block", 176, 46)
    drawn.arrow(joined, up, f"{z + p}")
    seen = _drawn(scene or portrait("bird", colour="blue", setting="meadow"))
    _show(drawn, left, 392, seen, 84)
    drawn.arrow(up, (left, 350), f"3 × {s}²")
    down = drawn.box(288, 132, f"DCGAN, down\n{deep} × 4²", "block", 124, 46)
    _show(drawn, 288, 62, seen, 64)
    drawn.arrow((288, 94), down)
    sentence = drawn.box(414, 58, f"φ(*t*), {e}", "text", 104, 34)
    code = drawn.box(414, 132, f"linear\nleaky, {p}", "new", 92, 46)
    drawn.arrow(sentence, code)
    both = drawn.matrix(right, 214, [""] * 4, ["block"] * 5 + ["new"] * 3, 13)
    drawn.arrow(down, both, sides="bt")
    drawn.arrow(code, both, sides="bt", role="new")
    drawn.text(right + 60, 214, "at all 16", 13, "new", "start")
    drawn.text(right + 60, 231, "places", 13, "new", "start")
    look = drawn.box(right, 322, f"conv 1, conv 4\n{deep + p} → {deep} → 1", "block", 150, 46)
    drawn.arrow(both, look, f"{deep + p} × 4²")
    logit = drawn.box(right, 404, "logit *a*", "loss", 90, 34)
    drawn.arrow(look, logit)
    return drawn


def matching_pairs(scene: Scene | None = None, other: Scene | None = None,
                   sentence: str = "a blue bird in a meadow",
                   generated: Float[Tensor, "3 h w"] | None = None) -> Diagram:
    """GAN-CLS: the three kinds of pairs that its discriminator sees, the new one in the colour of news.

    ``sentence`` fits ``scene`` and not ``other``. Without a ``generated`` picture a coarse copy of the right
    one stands for it.
    """
    right = _drawn(scene or portrait("bird", colour="blue", setting="meadow"))
    wrong = _drawn(other or portrait("car", colour="yellow", setting="street"))
    if generated is None:
        small = F.interpolate(right[None], size=(14, 14), mode="area")
        generated = F.interpolate(small, size=(96, 96), mode="bicubic")[0].clamp(-1, 1)
    drawn = Diagram(470, 424, (
        f"GAN-CLS shows its discriminator three kinds of pairs with the sentence “{sentence}”. First: a real "
        f"picture that it fits; the answer should be yes. Second, and new: a real picture that it does not "
        f"fit; the answer should be no, at weight one half. Third: a generated picture, drawn from noise z "
        f"and this sentence; the answer should be no, at weight one half."))
    rows = ((right, "real picture, right sentence", "", "yes", "log *s_r*"),
            (wrong, "real picture, wrong sentence", "new", "no", "½ log(1 − *s_w*)"),
            (generated, "generated picture, right sentence", "", "no", "½ log(1 − *s_f*)"))
    judge = drawn.rect(333, 222, 48, 372, "block", 10)
    drawn.text(333, 222, "*D*", 20, weight=600)
    for i, (pixels, name, role, verdict, term) in enumerate(rows):
        y = 84 + 136 * i
        if role:
            drawn.rect(138, y - 6, 268, 130, role, 12)
        drawn.text(12, y - 56, f"{i + 1}  {name}", 14, role, "start", 600)
        _show(drawn, 58, y + 4, pixels, 88)
        _lines(drawn, 186, y - 14, f"“{sentence}”", 17)
        drawn.arrow((104, y + 40), (309, y + 40), role=role)
        drawn.text(366, y - 8, verdict, 18, "image" if verdict == "yes" else "loss", "start", 600)
        drawn.text(366, y + 16, term, 13, "soft", "start")
        drawn.arrow((judge.x + judge.w / 2, y - 8), (362, y - 8), role=role, head=False)
    drawn.text(186, 408, "*x̂* = *G*(*z*, φ(*t*))", 14, "soft")
    return drawn


# ----------------------------------------------------------------------------------------- what a model draws

def _check(pictures: Tensor, frames: int, columns: int, what: str) -> None:
    if pictures.ndim != 5 or pictures.shape[:2] != (frames, columns):
        raise ValueError(f"pictures have shape {tuple(pictures.shape)}; give ({frames}, {columns}, 3, s, s): "
                         f"{what}")


def training_player(steps: Sequence[int], pictures: Float[Tensor, "k n 3 h w"], sentences: Sequence[str],
                    columns: int = 4, alt: str = "What a generator draws as its training goes on") -> Block:
    """A player over training: what is drawn for n sentences, from the same noise, after each of k ``steps``.

    Raises ``ValueError`` if numbers do not fit, and for more than 400 kB.
    """
    _check(pictures, len(steps), len(sentences), "pictures of each sentence after each step")
    columns = min(columns, len(sentences))
    cell = 460 // max(columns, 3)
    lines = max(len(textwrap.wrap(text, cell // 7)) for text in sentences)
    tall = cell + 17 * min(lines, 4) + 4
    rows = -(-len(sentences) // columns)
    places = [(5 + cell * (i % columns + 0.5), tall * (i // columns)) for i in range(len(sentences))]
    under = Diagram(cell * columns + 10, tall * rows, "the sentences")
    for (x, y), text in zip(places, sentences):
        _lines(under, x, y + cell + 6, text, cell // 7)
    frames = []
    for step, drawings in zip(steps, pictures):
        drawn = Diagram(under.width, under.height, f"after {step} steps: " + "; ".join(sentences))
        for (x, y), pixels in zip(places, drawings):
            _show(drawn, x, y + cell / 2, pixels, cell - 8)
        frames.append(drawn)
    labels = [f"after {step:,} step{'s' * (step != 1)}" for step in steps]
    return player(frames, labels, alt, under=under, start=-1)


def between_sentences(first: str, second: str, shares: Sequence[Number],
                      pictures: Float[Tensor, "*k 3 h w"]) -> Block:
    """A slider from one sentence to another: n pictures, each from its own noise, at each of k ``shares`` of
    the first (β, from 1 to 0).

    Raises ``ValueError`` if numbers do not fit, for a share outside [0, 1], and for more than 400 kB.
    """
    if pictures.ndim != 5:
        raise ValueError(f"pictures have shape {tuple(pictures.shape)}; give (shares, noises, 3, s, s)")
    _check(pictures, len(shares), pictures.shape[1], "pictures at each share, of each noise")
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"shares go from {min(shares)} to {max(shares)}; the share β of the first sentence "
                         f"lies between 0 and 1")
    n = pictures.shape[1]
    cell = min(460 / n, 150)
    wide = 470
    left = (wide - cell * n) / 2
    head = 22 + 16 * max(len(textwrap.wrap(text, 28)) for text in (first, second))
    under = Diagram(wide, head + cell + 4, "the two sentences")
    frames = []
    for share, drawings in zip(shares, pictures):
        drawn = Diagram(under.width, under.height, f"{share:.2f} of “{first}”, {1 - share:.2f} of “{second}”")
        for text, part, x, anchor in ((first, share, 6, "start"), (second, 1 - share, wide - 6, "end")):
            drawn.bar(x if anchor == "start" else wide - 6 - 200 * part, 8, 200 * part, 9, "text")
            _lines(drawn, x, 28, text, 28, 14, "text" if part >= 0.5 else "soft", anchor)
        for i, pixels in enumerate(drawings):
            _show(drawn, left + cell * (i + 0.5), head + cell / 2, pixels, cell - 8)
        frames.append(drawn)
    return slider({"β": [f"{share:.2f}" for share in shares]}, frames,
                  f"Pictures between two sentences, from “{first}” to “{second}”", under=under)


def style_grid(styles: Float[Tensor, "r 3 h w"], sentences: Sequence[str],
               pictures: Float[Tensor, "_ n 3 x y"]) -> Diagram:
    """Style transfer: a row for each picture that gives the style, a column for each sentence.

    Raises ``ValueError`` if numbers do not fit.
    """
    _check(pictures, len(styles), len(sentences), "a picture for each style and sentence")
    cell = 460 // (len(sentences) + 1)
    letters = cell // 7
    head = 10 + 17 * max([2, *(len(textwrap.wrap(text, letters)) for text in sentences)])
    drawn = Diagram(470, head + cell * len(styles) + 4, (
        f"Style transfer. Each of {len(styles)} rows begins with a picture that gives the style, pose and "
        f"setting; the other pictures of the row are drawn from that style and the sentence above them: "
        + "; ".join(sentences)))
    drawn.rect(5 + cell / 2, head + cell * len(styles) / 2, cell - 2, cell * len(styles), "image", 8)
    _lines(drawn, 5 + cell / 2, 12, "style of this picture", letters, role="image")
    for j, text in enumerate(sentences, start=1):
        _lines(drawn, 5 + cell * (j + 0.5), 12, text, letters)
    for i, (style, row) in enumerate(zip(styles, pictures)):
        for j, pixels in enumerate([style, *row]):
            _show(drawn, 5 + cell * (j + 0.5), head + cell * (i + 0.5), pixels, cell - 10)
    return drawn
