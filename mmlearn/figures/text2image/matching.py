"""Figures of section 2.1.2: the three kinds of pairs, and what a generator makes of sentences: over training,
between two sentences, in the style of another picture.

Paper: S. Reed et al. (2016), *Generative Adversarial Text to Image Synthesis*, arXiv:1605.05396, fig. 2 to 8.
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
