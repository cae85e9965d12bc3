"""Pictures of section 4.2: two towers and their matrix, a matrix of pairs, the matrix while it is learned.

Paper: A. Radford et al. (2021), arXiv:2103.00020, fig. 1 (1).  Survey: 4.2 (its figure of the matrix).

Teal is the picture's side, amber the text's, violet what belongs together, red the loss.
"""

import textwrap
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmlearn.data.pairs import PairData, scene_pairs
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.figures.diagram import Diagram, Number, literal
from mmlearn.figures.interactive import Block, player
from mmlearn.text_for_vision.training import embed_images, embed_texts

WIDE = 470


def long_captions(pairs: PairData) -> list[str]:
    """The caption of each scene that has the most words, of its first four."""
    return [max(texts[:4], key=lambda text: len(text.split())) for texts in pairs.captions]


# ---------------------------------------------------------------------------------------------------- diagram

def dual_encoder(images: UInt8[Tensor, "n 3 s s"] | None = None, words: Sequence[str] | None = None
                 ) -> Diagram:
    """Two towers, the matrix of logits with its diagonal, and the two directions of the loss, for four
    pairs."""
    images = scene_pairs(8, "test").images[[2, 3, 5, 6]] if images is None else images
    words = words or ("a pink tree at night", "two birds in a street", "two trees in a field",
                      "two cats, and the sun")
    drawn = Diagram(WIDE, 500, (
        "A dual encoder. On the left four pictures, b × 3 × s × s pixels, go through an image encoder (teal) "
        "and become vectors u_1 to u_4 of length 1, b × e. At the top four captions, b × t tokens, go "
        "through a text encoder (amber) and become vectors v_1 to v_4, b × e. All are multiplied with all "
        "and with the scale e^t: a matrix of logits ℓ, b × b, a row a picture and a column a text. The cells "
        "of the diagonal, where picture and caption belong together, are violet. Two arrows in red leave the "
        "matrix: each row is a question, which text? and each column is one, which picture? Their "
        "cross-entropies are averaged to the loss L."))
    for i, text in enumerate(words):
        drawn.text(232, 18 + 19 * i, literal(text), 13, "text", "start")
        drawn.text(222, 18 + 19 * i, f"{i + 1}", 13, "soft", "end")
    encoder = drawn.box(309, 124, "text encoder\nb × t tokens to b × e", "text", 190, 48)
    drawn.arrow((309, 84), encoder, role="text", sides="bt")
    cell, left, top = 44, 221, 208
    xs, ys = [left + cell * (i + 0.5) for i in range(4)], [top + cell * (i + 0.5) for i in range(4)]
    for i, x in enumerate(xs):
        drawn.rect(x, 178, cell - 6, 24, "text", radius=4)
        drawn.text(x, 178, f"*v*_{i + 1}", 14, "text")
    drawn.box(108, 296, "image\nencoder", "image", 80, 176)
    for i, (image, y) in enumerate(zip(images, ys)):
        drawn.image(30, y, image, 40)
        drawn.arrow((51, y), (68, y), role="image")
        drawn.rect(188, y, 38, 24, "image", radius=4)
        drawn.text(188, y, f"*u*_{i + 1}", 14, "image")
        drawn.arrow((148, y), (168, y), role="image")
        for j, x in enumerate(xs):
            drawn.rect(x, y, cell - 3, cell - 3, "new" if i == j else "", radius=4)
            drawn.text(x, y, f"*ℓ*_{{{i + 1}{j + 1}}}", 14, "new" if i == j else "soft",
                       weight=600 if i == j else 400)
    drawn.text(8, 402, "b × 3 × s × s", 13, "soft", "start")
    drawn.text(188, 402, "b × e", 13, "soft")
    rows = drawn.box(439, 296, "rows\nwhich\ntext?", "loss", 54, 84)
    drawn.arrow((398, 318), (412, 318), role="loss", sides="rl")
    columns = drawn.box(300, 430, "columns: which picture?", "loss", 208, 34)
    drawn.arrow((309, 385), (309, 413), role="loss", sides="bt")
    mean = drawn.node(439, 430, "+", "loss")
    drawn.arrow(rows, mean, role="loss", sides="bt")
    drawn.arrow(columns, mean, role="loss", sides="rl")
    drawn.text(462, 464, "loss: mean of both", 13, "loss", "end", 600)
    drawn.text(10, 440, "*ℓ_{ij}* = *e^t u_i* · *v_j*", 15, anchor="start", weight=600)
    drawn.text(10, 464, "matrix *ℓ*: b × b", 13, "soft", "start")
    drawn.text(10, 484, "violet: belongs together", 13, "new", "start")
    return drawn


# ----------------------------------------------------------------------------------------------------- matrix

def short(cosine: float) -> str:
    """A cosine with two digits and without a leading zero."""
    return f"{abs(round(cosine, 2)):.2f}".replace("0.", ".").join(("−" if round(cosine, 2) < 0 else "", ""))


def _cells(drawn: Diagram, cosines: Float[Tensor, "b b"], x: Number, y: Number, cell: Number,
           said: bool) -> None:
    """Cells from their upper left corner on: violet by how large a cosine is, red below zero; true pairs are
    framed."""
    for i, row in enumerate(cosines.tolist()):
        for j, value in enumerate(row):
            role, centre = "new" if value >= 0 else "loss", (x + cell * (j + 0.5), y + cell * (i + 0.5))
            drawn.add(f'<rect class="mm-h mm-{role}" x="{centre[0] - cell / 2 + 1:.4g}" '
                      f'y="{centre[1] - cell / 2 + 1:.4g}" width="{cell - 2:.4g}" height="{cell - 2:.4g}" '
                      f'rx="3" opacity="{min(1.0, abs(value)) * 0.8:.2f}"/>')
            if i == j:
                drawn.rect(*centre, cell - 2, cell - 2, radius=3, marks=' style="fill:none;stroke-width:2"')
            if said:
                drawn.text(*centre, short(value), 13, weight=600 if i == j else 400, halo=abs(value) > 0.4)


def matched(images: UInt8[Tensor, "b 3 s s"], texts: Sequence[str],
            cosines: Float[Tensor, "b b"]) -> Diagram:
    """Pictures as rows, numbered captions (listed below) as columns, and the cosine of each with each."""
    b, cell = len(texts), 44
    lines = [textwrap.wrap(text, 62) for text in texts]
    own = ", ".join(f"{value:.2f}" for value in cosines.diagonal().tolist())
    drawn = Diagram(WIDE, 62 + cell * b + sum(4 + 18 * len(parts) for parts in lines), (
        f"A matrix of cosines: {b} drawn pictures as rows and their {b} captions as columns, violet where "
        f"the cosine is large, red where it is negative. The framed diagonal, where picture and caption "
        f"belong together, stands out: {own}. The captions: "
        + " ".join(f"{i}: {text}" for i, text in enumerate(texts, start=1))))
    left, top = 84, 34
    drawn.text(left + cell * b / 2, 10, "sentence", 13, "text")
    for i, image in enumerate(images):
        drawn.text(18, top + cell * (i + 0.5), str(i + 1), 13, "image")
        drawn.image(54, top + cell * (i + 0.5), image, cell - 5)
        drawn.text(left + cell * (i + 0.5), 24, str(i + 1), 13, "text")
    _cells(drawn, cosines, left, top, cell, True)
    y = top + cell * b + 20
    for i, parts in enumerate(lines):
        drawn.text(18, y, str(i + 1), 13, "text", weight=600)
        for part in parts:
            drawn.text(32, y, literal(part), 13, anchor="start")
            y += 18
        y += 4
    return drawn


# --------------------------------------------------------------------------------------------------- training

class Watch:
    """Keeps what a dual encoder says of a few pairs, at ``moments`` moments of a training of ``steps`` steps:
    call ``watch(model, step)`` before each step, and after the last.

    The moments lie closer together at the start, where more happens. Raises ``ValueError`` for fewer than two
    steps or moments.
    """

    def __init__(self, tokeniser: Tokeniser, pairs: PairData, steps: int, moments: int = 13) -> None:
        if steps < 2 or moments < 2:
            raise ValueError(f"{steps} steps and {moments} moments; give at least two of each")
        self.tokeniser, self.pairs, self.texts = tokeniser, pairs, long_captions(pairs)
        self.at = {round(steps * (i / (moments - 1)) ** 1.7) for i in range(moments)}
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, model: nn.Module, step: int) -> None:
        if step in self.at:
            self.seen[step] = (embed_images(model, self.pairs.images),
                               embed_texts(model, self.tokeniser, self.texts))

    def player(self) -> Block:
        """The matrix and the map at each moment."""
        return matrix_and_map(self.pairs.images[:], self.seen)


def plane_of(u: Float[Tensor, "b e"], v: Float[Tensor, "b e"]) -> Float[Tensor, "e 2"]:
    """The plane in which 2b vectors differ most: two directions as columns."""
    both = torch.cat([u, v])
    return torch.linalg.svd(both - both.mean(dim=0), full_matrices=False).Vh[:2].mT


def own_first(cosines: Float[Tensor, "b b"]) -> tuple[int, int]:
    """How many pictures have their own text as the closest, and how many texts their own picture."""
    own = torch.arange(len(cosines))
    return int((cosines.argmax(1) == own).sum()), int((cosines.argmax(0) == own).sum())


def matrix_and_map(images: UInt8[Tensor, "b 3 s s"],
                   seen: dict[int, tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]]]) -> Block:
    """A player over steps: the matrix of cosines at the left, at the right all vectors in the plane of the
    last ones."""
    b, cell, left, top, middle = len(images), 24, 44, 30, (358, 132)
    last = max(seen)
    plane = plane_of(*seen[last])
    reach = max(float((torch.cat(pair) @ plane).abs().max()) for pair in seen.values())
    under = Diagram(WIDE, 262, "pictures, and axes of the map")
    for i, image in enumerate(images):
        under.image(24, top + cell * (i + 0.5), image, cell - 3)
        under.text(left + cell * (i + 0.5), 20, str(i + 1), 13, "text")
    under.text(left + cell * b / 2, top + cell * b + 20, "cosines", 13, "soft")
    under.text(middle[0], top + cell * b + 20, "map", 13, "soft")
    under.rect(*middle, 204, 204, marks=' style="fill:none"')
    frames, labels = [], []
    for step, (u, v) in sorted(seen.items()):
        cosines = u @ v.mT
        rows, columns = own_first(cosines)
        drawn = Diagram(WIDE, 262, f"after {step} steps: {rows} of {b} pictures and {columns} of {b} texts "
                                   "find their partner")
        _cells(drawn, cosines, left, top, cell, False)
        spots = [[(middle[0] + 92 * x / reach, middle[1] - 92 * y / reach)
                  for x, y in (side @ plane).tolist()] for side in (u, v)]
        for one, other in zip(*spots):
            drawn.line([one, other], "new")
        for points, role in zip(spots, ("image", "text")):
            for x, y in points:
                drawn.add(f'<circle class="mm-h mm-{role}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        frames.append(drawn)
        labels.append(f"step {step:,}: {rows} of {b} pictures find their text, {columns} of {b} texts their "
                      "picture")
    return player(frames, labels, f"Cosines of {b} pictures and {b} texts that were not trained on, and a "
                  "map of their vectors, while a CLIP is trained: the diagonal of the matrix appears, and "
                  "pictures and texts that belong together meet on the map", under=under, start=-1,
                  seconds=0.8)
