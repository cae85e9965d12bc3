"""Figures of section 3.4: multimodal skip-gram A and B, words that pictures pull, lengths under two
gradients, and the grounded space of sentences.

Papers: A. Lazaridou, N. T. Pham and M. Baroni (2015), arXiv:1501.02598, fig. 1; P. Bordes et al. (2019),
arXiv:2002.02734, fig. 1.  Survey: 3.4, 3.4.1.

Teal is the picture's side, amber the word's, violet what a system adds, grey is fixed, red are losses.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.data.word_vectors import WordVectors
from mmlearn.data.word_world import word_pictures
from mmlearn.figures.diagram import Box, Diagram, Number, literal, text_width
from mmlearn.figures.interactive import Block, player
from mmlearn.images_for_language.grounded_space import GroundedSpaceConfig
from mmlearn.images_for_language.multimodal_skip_gram import (
    MultimodalSkipGram,
    MultimodalSkipGramConfig,
    train_multimodal_skip_gram,
)
from mmlearn.images_for_language.zero_shot import unit_rows
from mmlearn.plot import PALETTE

WORD, OTHER = "robin", "husky"                  # with pictures, both


def seen_picture(word: str) -> Tensor:
    """A picture of a noun, of those that no training sees."""
    return word_pictures(word, 1, "test")[0] / 255


# ----------------------------------------------------------------------------------------------- diagrams


def two_models(a: MultimodalSkipGramConfig | None = None,
               b: MultimodalSkipGramConfig | None = None) -> Diagram:
    """Multimodal skip-gram A and, below it, B with its mapping."""
    a, b = a or MultimodalSkipGramConfig.paper_a(), b or MultimodalSkipGramConfig.paper_b()
    drawn = Diagram(470, 500, (
        f"Multimodal skip-gram, two models. In both a word, {WORD}, has a vector v with {a.dim} numbers. "
        "It predicts the words around it through a hierarchical softmax: the gain L_ling. Its pictures and "
        "those of other words have fixed vectors f. Model A: the word's vector is compared with those of "
        f"{a.features} numbers as it is, by cosines and with a margin, beside {a.others} others: the gain "
        f"L_vision. Model B: a full matrix M of {b.dim} by {b.features} first brings the word among the "
        f"pictures, z is v times M; compared are z and vectors of {b.features} numbers, beside {b.others} "
        "others. Grey: fixed. Violet: what pictures add."))
    drawn.text(16, 16, "A: a word lies among pictures as it is", 14, "soft", "start", 600)
    v = _word_and_neighbours(drawn, 66, a.dim)
    cos = drawn.box(150, 152, f"cosines, margin {a.margin:g}\n*L_{{vision}}*", "new", 168, 46)
    drawn.arrow(v, cos, "*z_w* = *v_w*", "text", sides="bt")
    _pictures(drawn, cos, 152, a, 5)
    drawn.line([(16, 214), (454, 214)], dashed=True)
    drawn.text(16, 236, "B: a mapping brings it there", 14, "soft", "start", 600)
    v = _word_and_neighbours(drawn, 286, b.dim)
    M = drawn.matrix(150, 354, ["new"] * 5, 8, 12)
    drawn.text(208, 354, f"*M*, {b.dim} × {b.features}", 13, "new", "start", 600)
    drawn.arrow(v, M, role="text", sides="bt")
    cos = drawn.box(150, 446, f"cosines, margin {b.margin:g}\n*L_{{vision}}*", "new", 168, 46)
    drawn.arrow(M, cos, "*z_w* = *v_w* *M*", "new", sides="bt")
    _pictures(drawn, cos, 446, b, 8)
    return drawn


def _word_and_neighbours(drawn: Diagram, y: Number, dim: int) -> Box:
    """A word, its vector, and what it predicts; returns the vector."""
    word = drawn.box(48, y, WORD, "text", 64, 30)
    v = drawn.matrix(150, y, ["text"], 5, 13)
    drawn.text(150, y - 18, f"*v_w*, {dim}", 13, "text")
    drawn.arrow(word, v, role="text")
    tree = drawn.box(312, y, "hierarchical softmax\n*L_{ling}*: words around it", "block", 180, 46)
    drawn.arrow(v, tree, role="text")
    return v


def _pictures(drawn: Diagram, cos: Box, y: Number, config: MultimodalSkipGramConfig, cells: int) -> None:
    """Own and others' vectors of pictures, to the right of the box that compares them."""
    for dy, word, role, name in ((-25, WORD, "image", "*f_w*"), (23, OTHER, "frozen", "*f_{w′}*")):
        row = drawn.matrix(318, y + dy, [role], cells, 11)
        shown = drawn.image(424, y + dy, seen_picture(word), 38)
        drawn.arrow(shown, row, role="frozen")
        drawn.line([row.at("l"), (254, y + dy), (254, y + dy / 2.5), (cos.at("r")[0], y + dy / 2.5)], role,
                   head=True)
        drawn.text(318, y + dy - 15, f"{name}, {config.features}", 13, "image" if role == "image" else "soft")
    drawn.text(318, y + 40, f"{config.others} others", 13, "soft")


def sentences_grounded(config: GroundedSpaceConfig | None = None) -> Diagram:
    """Bordes et al.: a projection between the vectors of sentences and pictures."""
    c = config or GroundedSpaceConfig.skip_thought()
    drawn = Diagram(470, 366, (
        "A grounded space for sentences. Two captions of one picture and one of another go through an "
        f"encoder and become vectors t of {c.width} numbers. A text loss trains these: they predict the "
        f"sentences before and after. A projection brings them to g, {c.grounded} numbers, in the grounded "
        "space, where two losses act. The cluster loss: captions of one picture nearer to each other than to "
        "others, by a margin. The perceptual loss: cosines of pairs in the grounded space correlate with the "
        "cosines of their pictures' vectors v. No caption has to lie on its picture. Violet: what is new."))
    rows = ((52, "the robin nests here", WORD), (102, "a small red bird", WORD),
            (172, "a husky on a road", OTHER))
    encoder = drawn.box(234, 112, f"encoder\n*t*, {c.width}", "text", 92, 170)
    for y, said, _ in rows:
        drawn.text(6, y, said, 13, "text", "start")
        drawn.arrow((142, y), (encoder.at("l")[0], y), role="text")
    text = drawn.box(234, 250, "*L_T*: sentences\nbefore and after", "loss", 128, 46)
    drawn.arrow(encoder, text, role="text", sides="bt")
    project = drawn.box(322, 112, "*g*\nMLP", "new", 54, 170)
    drawn.arrow(encoder, project, role="new")
    drawn.text(414, 14, f"*g*, {c.grounded}", 13, "new", weight=600)
    drawn.group(414, 112, 100, 170, "", "new")
    for x, y in ((396, 62), (418, 92), (434, 168)):
        drawn.add(f'<circle class="mm-h mm-new" cx="{x}" cy="{y}" r="5"/>')
    drawn.line([(396, 62), (418, 92)], "loss")
    drawn.line([(418, 92), (434, 168)], "loss", dashed=True)
    drawn.arrow(project, (364, 112), role="new", sides="rl")
    drawn.box(390, 250, "*L_C*: captions\nof a picture", "loss", 122, 46)
    drawn.arrow((390, 197), (390, 227), role="loss", sides="bt")
    first = drawn.image(60, 312, seen_picture(WORD), 46)
    second = drawn.image(122, 312, seen_picture(OTHER), 46)
    drawn.text(91, 350, "vectors *v* of pictures, fixed", 13, "image")
    drawn.line([first.at("r"), second.at("l")], "loss")
    like = drawn.box(318, 326, "*L_P*: likeness of pairs\nin pictures and among the *g*", "loss",
                     252, 46)
    drawn.arrow((150, 326), like, role="image")
    drawn.line([(459, 197), (459, 326), (446, 326)], "loss", head=True)
    return drawn


# ------------------------------------------------------------------------------------------- words in motion


def pulled(before: MultimodalSkipGram, pictures: WordVectors, text: Sequence[Sequence[str]], parts: int = 12,
           lr: float = 0.0125, seed: int = 0) -> dict[int, WordVectors]:
    """Where words lie (model A) before ``pictures`` join a skip-gram that has read, and after each of so many
    parts of the text, at one learning rate: by the sentences read since.

    Raises ``ValueError`` for fewer than one part or more than sentences.
    """
    if not 1 <= parts <= len(text):
        raise ValueError(f"{parts} parts of {len(text)} sentences; choose from 1 to their number")
    config = replace(before.config, epochs=1, lr=lr, least=1.0)
    model = MultimodalSkipGram(config, before.vocabulary, pictures)
    with torch.no_grad():
        model.W_in.copy_(before.W_in)
        model.W_out.copy_(before.W_out)
    moments, size = {0: model.word_pictures()}, len(text) // parts
    for part in range(parts):
        train_multimodal_skip_gram(text[part * size:(part + 1) * size], model=model, seed=seed + part,
                                   progress=False)
        moments[(part + 1) * size] = model.word_pictures()
    return moments


def stacked(words: Sequence[str], spots: Sequence[tuple[float, float]], size: int = 14) -> list[float]:
    """Heights at which ``words`` stand above their ``spots``; where two would cover each other, the upper one
    is moved further up."""
    placed: dict[int, tuple[float, float, float]] = {}
    for i in sorted(range(len(words)), key=lambda i: -spots[i][1]):
        x, y, half = spots[i][0], spots[i][1] - 13, text_width(words[i], size) / 2
        while any(abs(x - x2) < half + half2 + 4 and abs(y - y2) < size + 2
                  for x2, y2, half2 in placed.values()):
            y -= 2
        placed[i] = x, y, half
    return [placed[i][1] for i in range(len(words))]


def words_in_motion(moments: Mapping[int, WordVectors], pictures: WordVectors, words: Sequence[str],
                    seen: Collection[str]) -> Block:
    """A player: directions of ``words`` in the plane of their pictures, at each of ``moments`` (from
    ``pulled``); those that are not ``seen`` with pictures are violet. Below, the mean cosine of all nouns
    with their own pictures.

    Raises ``ValueError`` for fewer than two words, which have no plane.
    """
    if len(words) < 2:
        raise ValueError(f"{len(words)} words have no plane; give two or more")
    looks = unit_rows(pictures.rows(words)).double()
    axes = torch.linalg.svd(looks, full_matrices=False).Vh[:2].mT
    axes = axes * torch.where(looks.mean(dim=0) @ axes < 0, -1.0, 1.0)
    places = {n: unit_rows(at.rows(words)).double() @ axes for n, at in moments.items()}
    shown = looks @ axes
    every = torch.cat([shown, *places.values(), torch.zeros(1, 2, dtype=torch.float64)])
    low, high = every.min(dim=0).values, every.max(dim=0).values
    wide, tall, edge = 470, 400, 46
    unit = min((wide - 2 * edge) / float(high[0] - low[0]), (tall - 2 * edge) / float(high[1] - low[1]))

    def at(place: Tensor) -> tuple[float, float]:
        x, y = (place - (low + high) / 2).tolist()
        return wide / 2 + unit * x, tall / 2 - unit * y

    under = Diagram(wide, tall, "pictures in their plane")
    x0, y0 = at(torch.zeros(2, dtype=torch.float64))
    under.line([(x0 - 6, y0), (x0 + 6, y0)])
    under.line([(x0, y0 - 6), (x0, y0 + 6)])
    for word, place in zip(words, shown):
        under.image(*at(place), seen_picture(word), 40)
    known, frames, labels = [word for word in pictures.words if word in moments[min(moments)]], [], []
    own = unit_rows(pictures.rows(known))
    for n, vectors in moments.items():
        drawn = Diagram(wide, tall, f"words after {n:,} sentences with pictures")
        for word, place, look in zip(words, places[n], shown):
            role = "text" if word in seen else "new"
            drawn.line([at(place), at(look)], role, dashed=word not in seen)
        spots = [at(place) for place in places[n]]
        for word, (x, y), height in zip(words, spots, stacked(words, spots)):
            role = "text" if word in seen else "new"
            drawn.add(f'<circle class="mm-h mm-{role}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
            drawn.text(x, height, literal(word), 14, role, weight=600, halo=True)
        frames.append(drawn)
        cosines = dict(zip(known, (unit_rows(vectors.rows(known)) * own).sum(dim=1).tolist()))
        with_them, without = ([c for word, c in cosines.items() if (word in seen) == kind]
                              for kind in (True, False))
        labels.append(f"{n:,} sentences with pictures: cosine with the own picture "
                      f"{sum(with_them) / max(1, len(with_them)):.2f} of nouns pictured, "
                      f"{sum(without) / max(1, len(without)):.2f} of those never pictured")
    return player(frames, labels, "Words move while pictures pull: " + ", ".join(words), under=under,
                  seconds=0.8)


# ------------------------------------------------------------------------------------------------- curves


def lengths_over_steps(lengths: Mapping[str, Sequence[float]]) -> Figure:
    """Lengths of vectors, relative to the start, over steps: one line a gradient."""
    figure, axis = plt.subplots(figsize=(5.2, 3.0), layout="constrained")
    for i, (name, values) in enumerate(lengths.items()):
        axis.plot([value / values[0] for value in values], ("-", "--", ":")[i % 3], color=PALETTE[i],
                  label=name)
    axis.set(xlabel="step", ylabel="length / length at the start")
    axis.legend()
    return figure


def moved_by_kind(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """How far words moved, by arm (a group of bars) and kind of word, with a dot for each seed."""
    kinds = list(next(iter(rows.values())))
    figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    width = 0.8 / len(kinds)
    for k, kind in enumerate(kinds):
        at = [i + (k - (len(kinds) - 1) / 2) * width for i in range(len(rows))]
        means = [sum(by[kind]) / len(by[kind]) for by in rows.values()]
        axis.bar(at, means, width * 0.9, color=PALETTE[k], alpha=0.75, hatch=("", "//", "..")[k % 3],
                 edgecolor="white", label=kind)
        for x, by in zip(at, rows.values()):
            axis.plot([x] * len(by[kind]), by[kind], ".", color="black", markersize=4)
    axis.set_xticks(range(len(rows)), [*rows])
    axis.set_ylabel("change of company")
    axis.legend()
    return figure
