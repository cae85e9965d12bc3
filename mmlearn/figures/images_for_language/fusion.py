"""Figures of section 3.3 and of its side page: two tables made apart, mixed and joined by one weight.

Papers: E. Bruni, N.-K. Tran and M. Baroni (2014), *Multimodal Distributional Semantics*, JAIR 49, fig. 1 and
sec. 3; D. Kiela and L. Bottou (2014), EMNLP, fig. 1; D. Lowe (2004), IJCV 60, fig. 7 (the descriptor).
Survey: 3.3.

Colours as everywhere: amber is the text's side, teal the pictures', violet what is mixed or joined of both.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.data.scenes.categories import CATEGORY
from mmlearn.data.scenes.pen import PALETTE
from mmlearn.data.word_world import KINDS_OF_WORDS, word_pictures
from mmlearn.figures.diagram import COLOURS, Diagram, Number, Point
from mmlearn.figures.interactive import Block, player, slider
from mmlearn.images_for_language.sequential_fusion import score_weight
from mmlearn.images_for_language.visual_vectors import AlexNetConfig
from mmlearn.images_for_language.visual_words import (
    CELLS,
    DIRECTIONS,
    BagOfVisualWords,
    VisualWordsConfig,
    cell_weights,
    described,
    direction_maps,
    limited,
    rgb_to_hsv,
)
from mmlearn.plot import image_grid

SETS = {"relatedness": "text", "visual": "image", "mixed": "new"}
GREY = "#9aa5b5"
SHOWN_TWINS = (("raven", "dove"), ("taxi", "jeep"), ("poppy", "bluebell"))


def shown(word: str, index: int = 0) -> np.ndarray:
    """A picture of a word, (s, s, 3) bytes."""
    return word_pictures(word, 1, start=index)[0].permute(1, 2, 0).numpy()


# ------------------------------------------------------------------------------------------------- diagrams


def bruni_pipeline(config: VisualWordsConfig | None = None, targets: int = 20_525, contexts: int = 30_000,
                   rank: int = 512) -> Diagram:
    """Bruni's pipeline: a table of visual words and one of neighbours, weighed, at unit length, mixed, cut
    apart and joined."""
    config = config or VisualWordsConfig.bruni()
    drawn = Diagram(470, 590, (
        "The pipeline of Bruni, Tran and Baroni. Left: the pictures of a word, here raven; descriptors of a "
        f"grid of points, 128 numbers each; k-means makes {config.words:,} visual words; counted in "
        f"{config.bins} by {config.bins} parts and summed over the word's pictures they give a table of "
        f"{targets:,} words by {config.columns:,} columns. Right: sentences with the word; counting the "
        f"words in a window around it gives a table of {targets:,} by {contexts:,}. Both are weighed by "
        "local mutual information, and each row is brought to length 1. Violet, what the survey leaves out: "
        f"both tables side by side are M, replaced by the nearest table of rank {rank}, and cut apart again "
        "into F_v and F_t. Below: either the vectors are joined with the weight alpha, or the cosines are "
        "mixed with the weight beta."))
    left, right = 120, 352
    for i, x in enumerate((62, 120, 178)):
        drawn.image(x, 40, shown("raven", i), 50)
    drawn.text(left, 78, "pictures tagged *raven*", 13, "image")
    for y, words in ((26, "the raven sings above the chapel"), (48, "a raven and the widow wait"),
                     (70, "every raven nests")):
        drawn.text(right, y, words, 13, "text")
    sift = drawn.box(left, 118, "dense SIFT\n128 numbers a point", "image", 176, 46)
    kinds = drawn.box(left, 188, f"k-means\n{config.words:,} visual words", "image", 176, 46)
    count = drawn.box(left, 258, f"count, sum\n{targets:,} × {config.columns:,}", "image", 176, 46)
    around = drawn.box(right, 188, "neighbours\nin a window of 2", "text", 176, 46)
    table = drawn.box(right, 258, f"count\n{targets:,} × {contexts:,}", "text", 176, 46)
    drawn.arrow((left, 86), sift)
    drawn.arrow(sift, kinds)
    drawn.arrow(kinds, count)
    drawn.arrow((right, 80), around)
    drawn.arrow(around, table)
    unit_v = drawn.box(left, 330, "LMI, rows of length 1\n*N_v*", "image", 190, 48)
    unit_t = drawn.box(right, 330, "LMI, rows of length 1\n*N_t*", "text", 190, 48)
    drawn.arrow(count, unit_v)
    drawn.arrow(table, unit_t)
    mix = drawn.box(236, 404, f"mix: *M* = [*N_t* ; *N_v*], rank {rank}\n*M_k* = *U_k* Σ*_k* *V_k*^T", "new",
                    300, 50)
    drawn.arrow(unit_v, mix, sides="bt", role="new")
    drawn.arrow(unit_t, mix, sides="bt", role="new")
    f_v = drawn.box(left, 474, f"*F_v*, {config.columns:,}", "new", 120, 34)
    f_t = drawn.box(right, 474, f"*F_t*, {contexts:,}", "new", 120, 34)
    drawn.arrow(mix, f_v, sides="bt", role="new")
    drawn.arrow(mix, f_t, sides="bt", role="new")
    drawn.text(236, 446, "split", 13, "new", halo=True)
    feature = drawn.box(left, 556, "join the vectors\n*F* = *α F_t* ⊕ (1 − *α*) *F_v*", "", 204, 50)
    score = drawn.box(right, 556, "or mix the cosines\n*S* = *β S_t* + (1 − *β*) *S_v*", "", 204, 50)
    for start in (f_v, f_t):
        for end in (feature, score):
            drawn.arrow(start, end, sides="bt", bend=0.5)
    return drawn


def kiela_bottou(config: AlexNetConfig | None = None, text: int = 100) -> Diagram:
    """Kiela and Bottou: FC7 of each picture of a word, aggregated, beside a skip-gram vector."""
    config = config or AlexNetConfig.oquab()
    c, f = config.channels, config.width
    drawn = Diagram(470, 402, (
        "The model of Kiela and Bottou. Each picture x_i of a word enters a network that was trained to "
        f"classify: five convolutions C1 to C5 with {', '.join(map(str, c))} channels, then FC6 and FC7 with "
        f"{f:,} units each. The last layer, FC8 with {config.classes:,} classes, is cut off, in grey. The "
        f"output of FC7, {f:,} numbers, is the feature of the picture. Violet: over all pictures of the word "
        f"the mean or the maximum of each number is taken. Beside it a skip-gram vector of {text} numbers, "
        "learned from text alone. Both are brought to length 1 and joined with the weight alpha."))
    for i, y in enumerate((46, 104, 162)):
        drawn.image(42, y, shown("raven", i), 46)
    drawn.text(42, 198, "*x*_1 … *x_n*", 14, "image")
    tall = 128
    for i, (channels, x) in enumerate(zip(c, (92, 124, 156, 188, 220)), start=1):
        drawn.rect(x, 104, 26, tall - 14 * (i - 1), "image", radius=4)
        drawn.text(x, 104, f"C{i}", 13, weight=600)
        drawn.text(x, 182, str(channels), 12, "soft")
    for name, x in (("FC6", 264), ("FC7", 314)):
        drawn.rect(x, 104, 40, 112, "image", radius=4)
        drawn.text(x, 104, name, 13, weight=600)
        drawn.text(x, 182, f"{f:,}", 12, "soft")
    drawn.rect(410, 104, 40, 60, "frozen", radius=4, marks=' style="stroke-dasharray:5 4"')
    drawn.text(410, 104, "FC8", 13, "frozen", weight=600)
    drawn.text(410, 182, f"{config.classes:,} cut", 12, "frozen")
    drawn.arrow((66, 104), (79, 104))
    drawn.line([(362, 36), (362, 196)], "loss", dashed=True)
    drawn.text(362, 24, "the network is cut here", 13, "loss")
    pool = drawn.box(314, 240, f"mean or max over *i*\n*v_w*, {f:,}", "new", 172, 48)
    drawn.arrow((314, 192), pool, role="new")
    drawn.text(344, 205, "*f*(*x_i*)", 13, "new")
    words = drawn.box(112, 240, f"skip-gram, from text\n*v_{{text}}*, {text}", "text", 184, 48)
    unit_t = drawn.box(112, 312, "to length 1", "text", 110, 30)
    unit_v = drawn.box(314, 312, "centre, to length 1", "image", 176, 30)
    drawn.arrow(words, unit_t)
    drawn.arrow(pool, unit_v)
    join = drawn.box(214, 374, f"*α v_{{text}}* ⊕ (1 − *α*) *v_{{vis}}*, {text + f:,}", "", 270, 36)
    drawn.arrow(unit_t, join, sides="bt")
    drawn.arrow(unit_v, join, sides="bt")
    return drawn


# ----------------------------------------------------------------------------------------------- the weight


def path(points: Sequence[Point], role: str) -> str:
    """SVG of straight lines through points."""
    return f'<path class="mm-l mm-{role}" d="M' + "L".join(f"{x:.0f} {y:.1f}" for x, y in points) + '"/>'


def mean_curve(runs: Sequence[Sequence[Mapping[str, float | None]]], name: str) -> list[float]:
    """The mean over seeds of a curve over weights, of one set of pairs."""
    return [float(np.mean([run[i][name] for run in runs])) for i in range(len(runs[0]))]


def rho_over_weight(study: Mapping[str, Any],
                    which: Sequence[str] = ("visual words", "CNN mean", "CNN mean, shuffled"),
                    start: float | int = 0.75) -> Block:
    """Two sliders, the pictures and the weight: rho on three sets of pairs, and what each side has of the
    cosine (eq:fusion-weight).

    ``study`` are the results of ``sequential-fusion``. Raises ``ValueError`` for pictures that it lacks.
    """
    missing = [name for name in which if name not in study["curves"]]
    if missing:
        raise ValueError(f"the study has no curve of {missing[0]!r}; it has {', '.join(study['curves'])}")
    shares = study["shares"]
    left, wide, top, foot, low, high = 52.0, 394.0, 34.0, 226.0, -0.05, 0.95

    def at(share: Number, rho: Number) -> Point:
        return left + wide * share, foot - (foot - top) * (rho - low) / (high - low)

    under = Diagram(470, 322, "rho over the weight of the text, and the shares of both sides")
    under.line([(left, top), (left, foot), (left + wide, foot)])
    for value in (0, 0.25, 0.5, 0.75):
        x, y = at(0, value)
        under.text(x - 6, y, f"{value:g}", 12, "soft", "end")
        under.line([(x - 3, y), (x, y)])
    for value in (0, 0.25, 0.5, 0.75, 1):
        under.text(left + wide * value, foot + 12, f"{value:g}", 12, "soft")
    under.text(20, top - 2, "*ρ*", 14)
    under.text(left + wide / 2, foot + 28, "*α*, weight of the text", 13, "soft")
    under.text(left + wide / 2, 276, "share of the cosine", 13, "soft")
    frames, labels = [], []
    for name in which:
        curves = {each: mean_curve(study["curves"][name], each) for each in SETS}
        for i, share in enumerate(shares):
            beta = score_weight(share)
            frame = Diagram(470, 322, f"{name}, alpha {share:g}: " + ", ".join(
                f"{each} {curve[i]:.2f}" for each, curve in curves.items()))
            cursor = at(share, low)[0]
            frame.line([(cursor, top), (cursor, foot)], dashed=True)
            for (each, curve), middle in zip(curves.items(), (116, 249, 382)):
                frame.add(path([at(*point) for point in zip(shares, curve)], SETS[each]))
                x, y = at(share, curve[i])
                frame.add(f'<circle class="mm-h mm-{SETS[each]}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
                frame.text(middle, 14, f"{each} {curve[i]:.2f}", 14, SETS[each], weight=600)
            frame.bar(left, 300, wide * beta, 18, "text")
            frame.bar(left + wide * beta, 300, wide * (1 - beta), 18, "image")
            frame.text(left, 276, f"text {beta:.0%}", 13, "text", "start", 600)
            frame.text(left + wide, 276, f"pictures {1 - beta:.0%}", 13, "image", "end", 600)
            frames.append(frame)
            labels.append(f"{name}: α = {share:g}, so text has {beta:.0%} of the cosine")
    place = min(range(len(shares)), key=lambda i: abs(shares[i] - start))
    return slider({"pictures": list(which), "weight α": [f"{share:g}" for share in shares]}, frames,
                  "Spearman's rho over the weight of the text, for relatedness, visual and mixed similarity, "
                  "and what share of the cosine text and pictures have", under=under, labels=labels,
                  start=min(1, len(which) - 1) * len(shares) + place)


# --------------------------------------------------------------------------------------------------- the map


def fused_products(text: Float[Tensor, "w j"], image: Float[Tensor, "w m"],
                   alpha: float | int) -> Float[Tensor, "w w"]:
    """Cosines of all words with all, both sides being of unit length (eq:fusion-weight)."""
    beta = score_weight(alpha)
    return beta * text @ text.mT + (1 - beta) * image @ image.mT


def projected(products: Float[Tensor, "w w"]) -> tuple[Float[Tensor, "w 2"], float]:
    """The two directions in which points with these inner products spread most, and their share of the
    spread."""
    centred = products - products.mean(dim=0) - products.mean(dim=1, keepdim=True) + products.mean()
    values, vectors = torch.linalg.eigh(centred)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    return vectors[:, :2] * values[:2].sqrt(), float(values[:2].sum() / values.sum())


def turned(points: Float[Tensor, "w 2"], like: Float[Tensor, "w 2"]) -> Float[Tensor, "w 2"]:
    """Points turned, or mirrored, so that they lie as near to others as they can (Procrustes)."""
    U, _, Vh = torch.linalg.svd(points.mT @ like)
    return points @ (U @ Vh)


def colour_of(word: str) -> str:
    """The colour of a noun's dot: its own, or grey if it stands for things of all colours."""
    kind = KINDS_OF_WORDS[word]
    if word in CATEGORY or len(kind.colours) > 1:
        return GREY
    return "#" + "".join(f"{int(part):02x}" for part in PALETTE[kind.colours[0]])


def modality_map(words: Sequence[str], text: Float[Tensor, "w j"], image: Float[Tensor, "w m"],
                 weights: Sequence[float | int] = tuple(i / 10 for i in range(11)),
                 twins: Sequence[tuple[str, str]] = SHOWN_TWINS, start: float | int = 1) -> Block:
    """A slider over the weight: all words in the plane in which the fused vectors spread most.

    ``text`` and ``image`` have rows of unit length. Places are square roots of coordinates, so that the crowd
    in the middle is seen. Dots have the colour of the things; ``twins`` are named and joined by a line.
    Raises ``ValueError`` for a number of rows that is not that of the words.
    """
    if len(words) != len(text):
        raise ValueError(f"there are {len(words)} words and {len(text)} rows of text; give one of each a "
                         f"word")
    place = {word: i for i, word in enumerate(words)}
    twins = [pair for pair in twins if pair[0] in place and pair[1] in place]
    points: list[Tensor] = []
    spread: list[float] = []
    products = [fused_products(text.double(), image.double(), alpha) for alpha in weights]
    for table in products:
        found, part = projected(table)
        found = turned(found, points[-1]) if points else found
        points.append(found)
        spread.append(part)
    middle, reach = (235.0, 170.0), 152.0
    colours = [colour_of(word) for word in words]
    frames, labels = [], []
    for alpha, table, found, part in zip(weights, products, points, spread):
        frame = Diagram(470, 340, f"all nouns at alpha {alpha:g}")
        found = found.sign() * (found.abs() / found.abs().amax(dim=0).clamp(min=1e-9)).sqrt()
        flat = [(middle[0] + 1.35 * reach * x, middle[1] - reach * y) for x, y in found.tolist()]
        dots = "".join(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="{colour}"/>'
                       for (x, y), colour in zip(flat, colours))
        frame.add(f'<g stroke="{GREY}" stroke-width="0.7">{dots}</g>')
        for pair in twins:
            ends = [flat[place[word]] for word in pair]
            frame.line(ends, "loss")
            below = ends[0][1] > ends[1][1]
            for word, (x, y), down in zip(pair, ends, (below, not below)):
                frame.text(min(max(x, 34), 436), y + (13 if down else -13), word, 13, weight=600, halo=True)
        said = ", ".join(f"{a} and {b} {float(table[place[a], place[b]]):.2f}" for a, b in twins)
        frames.append(frame)
        labels.append(f"α = {alpha:g}, text has {score_weight(alpha):.0%}. Cosines: {said}. "
                      f"The plane holds {part:.0%} of the spread.")
    first = min(range(len(weights)), key=lambda i: abs(weights[i] - start))
    return slider({"weight α": [f"{alpha:g}" for alpha in weights]}, frames,
                  "A map of all nouns, from pictures alone at alpha 0 to text alone at alpha 1; lines join "
                  "words whose text is the same", labels=labels, start=first)


# --------------------------------------------------------------------------------------------- visual words


def star(drawn: Diagram, x: Number, y: Number, lengths: Sequence[float], reach: Number) -> None:
    """The eight directions of a cell as lines from its middle."""
    for o, length in enumerate(lengths):
        if length > 0.02:
            angle = 2 * math.pi * o / DIRECTIONS
            end = x + reach * length * math.cos(angle), y + reach * length * math.sin(angle)
            drawn.line([(x, y), end], "image")


def descriptor_steps(image: UInt8[Tensor, "3 y x"], row: int, column: int, radius: int = 10) -> Block:
    """A player over the steps of one dense SIFT descriptor, of the brightness of a picture around a point.

    Raises ``ValueError`` for a point whose cells leave the picture.
    """
    side = image.shape[-1]
    if not all(radius <= place <= length - radius for place, length in zip((row, column), image.shape[1:])):
        raise ValueError(f"the cells of radius {radius} around ({row}, {column}) leave the picture of {side} "
                         f"pixels; take a point further inside")
    value = rgb_to_hsv(image[None].float() / 255)[:, 2]
    maps = direction_maps(value)[0]
    reach = 5 * radius // 4
    weights = cell_weights(radius).float()
    padded = torch.nn.functional.pad(maps, (reach,) * 4)
    patch = padded[:, row:row + 2 * reach + 1, column:column + 2 * reach + 1]
    cells = torch.einsum("iy,oyx,jx->ijo", weights, patch, weights)
    raw, final = cells.flatten(), limited(cells.flatten())
    strength = maps.sum(dim=0)
    pixels = image.permute(1, 2, 0).numpy()
    zoom, left, top = 190.0 / side, 16.0, 30.0

    def frame(title: str) -> Diagram:
        drawn = Diagram(470, 236, title)
        drawn.image(left + 95, top + 95, pixels, 190)
        drawn.rect(left + zoom * column, top + zoom * row, 2 * radius * zoom, 2 * radius * zoom, "loss", 2,
                   ' style="fill:none;stroke-width:2"')
        drawn.text(left + 95, 16, "the picture", 13, "soft")
        drawn.text(350, 16, title, 14, weight=600)
        return drawn

    def grey(table: Tensor, most: Tensor) -> np.ndarray:
        table = table / most.clamp(min=1e-9)
        return (255 * (1 - table)).clamp(0, 255).byte()[..., None].expand(-1, -1, 3).numpy()

    one = frame("brightness (value of HSV)")
    one.image(350, top + 95, (255 * value[0]).byte()[..., None].expand(-1, -1, 3).numpy(), 190)
    two = frame("how strongly it changes")
    two.image(350, top + 95, grey(strength, strength.max()), 190)
    three = frame("in eight directions")
    for o in range(DIRECTIONS):
        x, y = 290 + 58 * (o % 3), 62 + 62 * (o // 3)
        three.image(x, y, grey(maps[o], strength.max()), 52)
        angle = 2 * math.pi * o / DIRECTIONS
        three.line([(x, y), (x + 20 * math.cos(angle), y + 20 * math.sin(angle))], "loss", head=True)
    four = frame("summed in 4 × 4 cells")
    most = float(cells.max().clamp(min=1e-9))
    for i in range(CELLS):
        for j in range(CELLS):
            cell_x, cell_y = 350 + 46 * (j - 1.5), top + 95 + 46 * (i - 1.5)
            four.rect(cell_x, cell_y, 46, 46, radius=0, marks=' style="stroke-width:0.8"')
            star(four, cell_x, cell_y, (cells[i, j] / most).tolist(), 21)
    frames = [one, two, three, four]
    for title, numbers in (("128 numbers, length 1", raw / raw.norm().clamp(min=1e-9)),
                           ("cut at 0.2, length 1 again", final)):
        drawn = frame(title)
        drawn.line([(242, top + 180), (462, top + 180)])
        height = 160 / 0.6
        limit = top + 180 - 0.2 * height
        drawn.line([(242, limit), (462, limit)], "loss", dashed=True)
        drawn.text(238, limit, "0.2", 12, "loss", "end")
        for n, number in enumerate(numbers.tolist()):
            tall = min(number, 0.6) * height
            drawn.bar(244 + 1.69 * n, top + 180 - tall / 2, 1.3, tall, "image")
        frames.append(drawn)
    said = ["One number a pixel: how bright it is.", "White: nothing changes; black: an edge.",
            "Each edge is shared by the two directions beside its own.",
            "A pixel counts for the cells around it, less far from the point.",
            "4 × 4 cells × 8 directions, in one row.",
            "One strong edge may not outweigh all others."]
    return player(frames, said, "How a dense SIFT descriptor is made of the brightness around a point")


@torch.no_grad()
def patches_of_words(bag: BagOfVisualWords, images: UInt8[Tensor, "n 3 y x"], columns: Sequence[int],
                     count: int = 6) -> Figure:
    """For each visual word of ``columns`` the patches of pictures that lie nearest to it, one a picture."""
    points, places = described(images, bag.config)
    side = images.shape[-1]
    radii: list[int] = []
    for radius in bag.config.radii:
        number = (side - 2 * radius) // bag.config.step + 1
        radii += [radius] * number**2
    cut, titles = [], []
    for column in columns:
        apart = (points - bag.centres[column]).square().sum(dim=2)             # n points
        least, which = apart.min(dim=1)
        for n in least.argsort()[:count].tolist():
            radius = radii[int(which[n])]
            row, across = (int(round(float(part) * side)) for part in places[which[n]])
            patch = images[n, :, max(row - radius, 0):row + radius, max(across - radius, 0):across + radius]
            cut.append(torch.nn.functional.interpolate(patch[None].float() / 255, size=24)[0])
            titles.append(f"word {column}" if len(cut) % count == 1 else "")
    return image_grid(cut, titles, columns=count, width=0.95)


def mixing_tables(before: Float[Tensor, "w c"], after: Float[Tensor, "w c"], rows: Sequence[str],
                  columns: Sequence[str], cut: int) -> Figure:
    """A table and its nearest of lower rank beside each other, with the line at which they are cut apart."""
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.5), sharey=True)
    most = max(float(before.max()), float(after.max()))
    for axis, table, title in zip(axes, (before, after), ("$M$: before", "$M_k$: after the mixing")):
        axis.imshow(table.numpy(), cmap="Purples", vmin=0, vmax=most, aspect="auto")
        for (i, j), number in np.ndenumerate(table.numpy()):
            axis.text(j, i, f"{abs(number) if abs(number) < 0.005 else number:.2f}", ha="center",
                      va="center", fontsize=7, color="white" if number > 0.6 * most else "black")
        axis.axvline(cut - 0.5, color=COLOURS["loss"], linewidth=2)
        axis.set_xticks(range(len(columns)), columns, rotation=60, fontsize=8)
        axis.set_yticks(range(len(rows)), rows, fontsize=9)
        axis.set_title(title, fontsize=10)
        axis.grid(False)
    return figure


def tuning_grid(correlations: Mapping[tuple[int | None, float], float], title: str = "") -> Figure:
    """Rho on the pairs that are tuned on, over the weight, a line for each rank of the mixing."""
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    ranks = list(dict.fromkeys(rank for rank, _ in correlations))
    for i, rank in enumerate(ranks):
        points = sorted((share, rho) for (other, share), rho in correlations.items() if other == rank)
        shade = plt.get_cmap("viridis")(0.9 * i / max(len(ranks) - 1, 1))
        axis.plot(*zip(*points), color="black" if rank is None else shade,
                  linestyle="--" if rank is None else "-",
                  label="not mixed" if rank is None else f"rank {rank}")
    axis.set(xlabel="weight of the text", ylabel="Spearman's rho, development", title=title)
    axis.legend(fontsize=8)
    return figure
