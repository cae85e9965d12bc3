"""Figures of chapter 5's opening: three answers to two modalities, what is frozen, how many labels it takes.

Papers: A. Baevski et al. (2022), *data2vec*, arXiv:2202.03555, fig. 1; J. Lu et al. (2019), *ViLBERT*,
arXiv:1908.02265, fig. 1; J.-B. Alayrac et al. (2022), *Flamingo*, arXiv:2204.14198, fig. 3 and app. A.1.
Survey: 5.

Colours as everywhere: teal is the picture's side, amber the text's, violet what sets a system apart, grey
what is frozen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mmlearn.both_modalities.flamingo import FlamingoAdapter, FlamingoConfig
from mmlearn.catalog import published
from mmlearn.data.scenes import render, sample_scene
from mmlearn.figures.diagram import COLOURS, Box, Diagram, Number
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.modes import blank

NFNET_F6 = 435_300_000          # timm's nfnet_f6 without its classifier


def shown(index: int = 7) -> np.ndarray:
    """A drawn scene, (s, s, 3) bytes."""
    return render(sample_scene(0, index, "train"), 64).image


# -------------------------------------------------------------------------------------------- three answers


def title(drawn: Diagram, y: Number, name: str, answer: str) -> None:
    """The name of a system and its answer in a line."""
    drawn.text(14, y, name, 15, anchor="start", weight=600)
    drawn.text(104, y, answer, 13, "soft", "start")


def inputs(drawn: Diagram, top: Number, low: Number, pixels: np.ndarray) -> tuple[Box, Box]:
    """A picture and a sentence at the left of a panel."""
    picture = drawn.image(44, top, pixels, 50)
    words = drawn.rect(44, low, 72, 40, "text")
    drawn.text(44, low - 9, "a dog on", 13, "text")
    drawn.text(44, low + 9, "the beach", 13, "text")
    return picture, words


def data2vec_panel(drawn: Diagram, y: Number, pixels: np.ndarray) -> None:
    """Two models that never meet, each taught by its own average."""
    title(drawn, y + 14, "data2vec", "one rule, a model for each modality, nothing shared")
    for given, at, role in zip(inputs(drawn, y + 62, y + 138, pixels), (y + 62, y + 138), ("image", "text")):
        student = drawn.box(178, at, "student\nsees a part", role, 116, 46)
        teacher = drawn.box(376, at, "teacher\nsees all of it", "frozen", 126, 46)
        drawn.arrow(given, student)
        drawn.arrow(student, teacher, "predicts", "loss")
    drawn.line([(100, y + 100), (452, y + 100)], "soft", dashed=True)


def vilbert_panel(drawn: Diagram, y: Number, pixels: np.ndarray) -> None:
    """Two streams that read each other."""
    title(drawn, y + 14, "ViLBERT", "two streams that read each other, trained together")
    picture, words = inputs(drawn, y + 62, y + 138, pixels)
    detector = drawn.box(134, y + 62, "detector\nregions", "frozen", 84, 46)
    drawn.arrow(picture, detector)
    layers = drawn.box(134, y + 138, "6 layers\nself", "text", 84, 46)
    drawn.arrow(words, layers)
    left = [drawn.box(238, at, "co-attend", "new", 90, 34) for at in (y + 62, y + 138)]
    right = [drawn.box(390, y + 62, "self\nimage states", "image", 118, 46),
             drawn.box(390, y + 138, "self\nword states", "text", 118, 46)]
    drawn.arrow(detector, left[0])
    drawn.arrow(layers, left[1])
    for one in (0, 1):
        drawn.arrow(left[one], right[one])
        x = 224 if one == 0 else 252
        ends = (y + 79, y + 121) if one == 0 else (y + 121, y + 79)
        drawn.arrow((x, ends[0]), (x, ends[1]), role="new")
    drawn.text(262, y + 100, "keys, values", 13, "new", "start")
    drawn.text(390, y + 100, "six times", 13, "soft")


def flamingo_panel(drawn: Diagram, y: Number, pixels: np.ndarray) -> None:
    """Frozen parts, joined one way."""
    title(drawn, y + 14, "Flamingo", "two frozen models, joined one way by new layers")
    picture, words = inputs(drawn, y + 62, y + 138, pixels)
    encoder = drawn.box(138, y + 62, "encoder\nfrozen", "frozen", 84, 46)
    resampler = drawn.box(262, y + 62, "resampler\n64 tokens", "new", 104, 46)
    drawn.arrow(picture, encoder)
    drawn.arrow(encoder, resampler)
    gate = drawn.box(262, y + 138, "gated\nread", "new", 68, 46)
    first = drawn.box(164, y + 138, "LM layer", "frozen", 74, 46)
    second = drawn.box(358, y + 138, "LM layer", "frozen", 74, 46)
    drawn.arrow(words, first)
    drawn.arrow(first, gate)
    drawn.arrow(gate, second)
    drawn.arrow(resampler, gate, "keys, values", "new", sides="bt")
    drawn.text(428, y + 129, "next", 13, "text")
    drawn.text(428, y + 147, "word", 13, "text")
    drawn.arrow(second, (410, y + 138), sides="rl")


def three_answers(pixels: np.ndarray | None = None) -> Diagram:
    """The map of the chapter: what data2vec, ViLBERT and Flamingo do with a picture and a sentence."""
    drawn = Diagram(470, 558, (
        "Three answers to two modalities, one below the other, each with a picture and the sentence 'a dog "
        "on the beach' at the left. data2vec: the picture goes to a student that sees a part of it and "
        "predicts "
        "the states of a teacher that sees all; below, parted by a dashed line, the sentence goes to another "
        "student and teacher; nothing passes between them. ViLBERT: a frozen detector makes regions of the "
        "picture, six layers states of the sentence; then, six times, both streams attend to the other's "
        "keys and values, in both directions, and to their own states. Flamingo: a frozen encoder and a new "
        "resampler make 64 tokens of the picture, which a new gated layer reads between the layers of a "
        "frozen language model; the arrow goes one way, from the picture to the text."))
    pixels = shown() if pixels is None else pixels
    for i, panel in enumerate((data2vec_panel, vilbert_panel, flamingo_panel)):
        drawn.group(235, 94 + 185 * i, 458, 178, dashed=False)
        panel(drawn, 8 + 185 * i, pixels)
    return drawn


# --------------------------------------------------------------------------------------- frozen and trained


@dataclass(frozen=True)
class Count:
    """Parameters of a system, trained and frozen, and what the frozen ones are."""

    name: str
    trained: int
    frozen: int
    note: str


def _adapter(config: FlamingoConfig, language: CausalLMConfig, name: str) -> Count:
    with blank():
        trained = sum(w.numel() for w in FlamingoAdapter(config).parameters())
        frozen = sum(w.numel() for w in CausalLM(language).parameters())
    return Count(name, trained, frozen + NFNET_F6, "language model, encoder")


def counts() -> list[Count]:
    """What is trained and what is frozen at the papers' sizes."""
    return [
        Count("data2vec, pictures", published("data2vec vision")["base"], 0, "a teacher follows"),
        Count("data2vec, text", published("data2vec text")["base"], 0, "a teacher follows"),
        Count("ViLBERT", published("ViLBERT")["base"], 0, "the frozen detector is not counted"),
        _adapter(FlamingoConfig.flamingo_3b(), CausalLMConfig.chinchilla_1b4(), "Flamingo-3B"),
        _adapter(FlamingoConfig.flamingo_9b(), CausalLMConfig.chinchilla_7b(), "Flamingo-9B"),
        _adapter(FlamingoConfig.flamingo_80b(), CausalLMConfig.chinchilla_70b(), "Flamingo-80B"),
    ]


def said(number: int) -> str:
    """A count as people say it: 86 M, 1.35 B."""
    return f"{number / 1e9:.3g} B" if number >= 1e9 else f"{number / 1e6:.3g} M"


def frozen_and_trained(rows: Sequence[Count] | None = None) -> Diagram:
    """A bar for each system: the share of its parameters that is trained, in violet, and frozen, in grey."""
    rows = counts() if rows is None else rows
    told = "; ".join(f"{row.name}: {said(row.trained)} trained, {said(row.frozen) if row.frozen else 'none'} "
                     f"frozen" for row in rows)
    drawn = Diagram(470, 44 + 64 * len(rows), (
        "Bars of equal length, one a system: violet is the share of its parameters that is trained, grey "
        f"what is frozen. {told}."))
    drawn.text(14, 16, "trained", 13, "new", "start", 600)
    drawn.text(456, 16, "frozen", 13, "frozen", "end", 600)
    for i, row in enumerate(rows):
        y, share = 44 + 64 * i, row.trained / (row.trained + row.frozen)
        drawn.text(14, y, row.name, 14, anchor="start", weight=600)
        drawn.text(456, y, row.note, 13, "soft", "end")
        drawn.bar(14, y + 18, 442 * share, 14, "new")
        drawn.text(14, y + 36, said(row.trained), 13, "new", "start")
        if row.frozen:
            drawn.bar(14 + 442 * share, y + 18, 442 * (1 - share), 14, "frozen")
            drawn.text(456, y + 36, said(row.frozen), 13, "frozen", "end")
    return drawn


# --------------------------------------------------------------------------------------------------- labels


def labels_needed(curves: Mapping[str, Mapping[int, Sequence[float]]], chance: float) -> Figure:
    """Accuracy over the number of labelled pictures: a line for each kind of features, a dot a draw."""
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    colours = [COLOURS[role] for role in ("new", "image", "frozen", "text")]
    for (name, by), colour in zip(curves.items(), colours):
        axis.plot(list(by), [float(np.mean(v)) for v in by.values()], color=colour, label=name)
        for n, values in by.items():
            axis.scatter([n] * len(values), values, color=colour, s=10, alpha=0.6)
    axis.axhline(chance, color=COLOURS["loss"], linestyle=":", label="chance")
    ticks = sorted({n for by in curves.values() for n in by})
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(n) for n in ticks])
    axis.set(xlabel="labelled pictures", ylabel="right, of new pictures", ylim=(0, 1))
    axis.legend(fontsize=8)
    return figure
