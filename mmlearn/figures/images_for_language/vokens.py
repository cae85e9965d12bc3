"""Figures of section 3.5.1: the matcher of tokens and pictures, the language model that is asked for vokens,
what a hinge does to a token that cannot be grounded, and the vokens of a sentence.

Paper: H. Tan and M. Bansal (2020), *Vokenization*, EMNLP, arXiv:2010.06775, fig. 2 and 4.  Survey: 3.5.1.

Teal are pictures, amber is text, violet is what learns or is new, red are losses, grey is frozen.
"""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.data.scenes import portrait, render
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.diagram import COLOURS, Diagram, Number, literal
from mmlearn.figures.interactive import Block, hover
from mmlearn.images_for_language.token_image_matching import MatcherConfig, undecided_hinge
from mmlearn.images_for_language.voken_lm import VokenLMConfig
from mmlearn.images_for_language.vokenizer import Vokenizer

TOKENS = ("[CLS]", "a", "yellow", "bird", "[SEP]")
HIDDEN = ("a", "[MASK]", "bird", "in", "a", "meadow")
RESNEXT = 2048                          # numbers of a picture after torchvision's largest ResNets


def scene(category: str, colour: str, setting: str, size: int = 64) -> np.ndarray:
    """A picture of one thing, (size, size, 3) bytes."""
    return render(portrait(category, colour=colour, setting=setting), size=size).image


# ------------------------------------------------------------------------------------------------- diagrams


def matcher(config: MatcherConfig | None = None) -> Diagram:
    """Tokens and pictures on one sphere: two frozen networks, two small ones, cosines, a hinge."""
    config = config or MatcherConfig.paper()
    words = config.states * config.text.width
    seen = RESNEXT if isinstance(config.trunk, str) else config.trunk[-1]
    name = "ResNeXt" if isinstance(config.trunk, str) else "CNN"
    drawn = Diagram(470, 440, (
        f"The token-image matcher. Left: the tokens of a caption, {', '.join(TOKENS)}, enter a frozen BERT, "
        f"of which the last {config.states} layers stand side by side, {words:,} numbers a token. A small "
        f"network, which learns, makes {config.hidden} and then {config.embed} numbers of them, which are "
        f"divided by their length: f. Right: the caption's own picture x and another one, x prime, enter a "
        f"frozen {name}, {seen:,} numbers a picture, and a second small network: g of length 1. Below: the "
        "cosine of every token with its own picture and with the other one. The loss of a token, in red, is "
        f"the larger of 0 and M minus the first plus the second, with M = {config.margin:g}; the mean is "
        "taken over all tokens. Violet is what learns."))
    places = [37 + 50 * i for i in range(len(TOKENS))]
    for x, word in zip(places, TOKENS):
        drawn.rect(x, 22, 47, 24, "text", radius=4)
        drawn.text(x, 22, word, 13, "text")
        drawn.arrow((x, 34), (x, 56))
    bert = drawn.box(137, 80, f"BERT, frozen\nlast {config.states} layers, side by side", "frozen", 246, 48)
    small = drawn.box(137, 176, f"small network\n{words:,} → {config.hidden} → {config.embed}", "new",
                      190, 48)
    drawn.arrow(bert, small, f"{words:,} a token")
    for i, x in enumerate(places):
        drawn.rect(x, 256, 47, 26, "new", radius=4)
        drawn.text(x, 256, f"*f*_{i + 1}", 14)
    drawn.arrow(small, (137, 243), "length 1", "new")
    drawn.image(326, 40, scene("bird", "yellow", "meadow"), 58)
    drawn.image(420, 40, scene("car", "red", "street"), 58)
    drawn.text(326, 80, "*x*, its own", 13, "image")
    drawn.text(420, 80, "*x′*, another", 13, "image")
    cnn = drawn.box(373, 128, f"{name}, frozen\n{seen:,} a picture", "frozen", 150, 48)
    drawn.arrow((326, 88), (326, 104))
    drawn.arrow((420, 88), (420, 104), dashed=True)
    net = drawn.box(373, 200, f"small network\n{seen:,} → {config.hidden} → {config.embed}", "new", 172, 46)
    drawn.arrow(cnn, net)
    for x, label in ((326, "*g*(*x*)"), (420, "*g*(*x′*)")):
        drawn.rect(x, 256, 70, 26, "new", radius=4)
        drawn.text(x, 256, label, 14)
        drawn.arrow((x, 223), (x, 243), role="new", dashed=x > 400)
    for y, mark in ((316, ""), (352, "′")):
        for x in places:
            drawn.rect(x, y, 47, 26, "", radius=4)
            drawn.text(x, y, f"*r*(*x{mark}*)", 13)
    for x in places:
        drawn.arrow((x, 269), (x, 303))
    drawn.line([(326, 269), (326, 316), (264, 316)], head=True)
    drawn.line([(420, 269), (420, 352), (264, 352)], dashed=True, head=True)
    drawn.text(334, 316, "cosines", 13, "soft", "start")
    hinge = drawn.box(137, 412, f"loss max(0, *M* − *r*(*x*) + *r*(*x′*))\nmean over tokens, *M* = "
                      f"{config.margin:g}", "loss", 246, 48)
    drawn.arrow((137, 365), hinge, role="loss")
    return drawn


def voken_lm(config: VokenLMConfig | None = None) -> Diagram:
    """A language model with two heads: hidden words, and the voken of every token."""
    config = config or VokenLMConfig.base()
    width = config.text.width
    drawn = Diagram(470, 370, (
        f"Vokenization's language model. The tokens {', '.join(HIDDEN)} enter BERT, {config.text.layers} "
        f"layers of width {width}. Of the hidden token's state one head says the word, yellow. A second "
        f"head, in violet, says at every token, hidden or not, which of {config.vokens:,} pictures is its "
        "voken; the pictures stand above the tokens. A red loss for each: cross-entropy of the hidden "
        "words, cross-entropy of the vokens; they are added. After this training both heads are thrown "
        "away."))
    places = [98 + 61 * i for i in range(len(HIDDEN))]
    for x, word in zip(places, HIDDEN):
        hidden = word == "[MASK]"
        drawn.rect(x, 350, 58, 24, "loss" if hidden else "text", radius=4)
        drawn.text(x, 350, word, 13, "loss" if hidden else "text")
        drawn.arrow((x, 338), (x, 316))
    drawn.text(58, 350, "*w̃*", 15, weight=600, anchor="end")
    drawn.box(250, 292, f"BERT, {config.text.layers} layers of {width}", "", 364, 46)
    for x in places:
        drawn.arrow((x, 269), (x, 224), role="new")
    drawn.text(412, 248, "*h_i*", 14, "soft", "start")
    drawn.box(250, 200, f"voken head: {width} → {width} → {config.vokens:,}", "new", 364, 46)
    shown = (scene("house", "white", "meadow"), scene("bird", "yellow", "meadow"),
             scene("bird", "blue", "meadow"), scene("car", "red", "street"),
             scene("house", "white", "meadow"), scene("tree", "green", "meadow"))
    for x, pixels in zip(places, shown):
        drawn.arrow((x, 177), (x, 152), role="new")
        drawn.image(x, 126, pixels, 48)
    drawn.text(62, 126, "*v_i*", 15, "new", "end", 600)
    drawn.text(250, 88, "the picture of every token, by its number", 13, "soft")
    drawn.arrow((places[1], 269), (places[1], 246), role="new")
    head = drawn.box(34, 200, "word\nhead", "text", 56, 48)
    drawn.line([(places[1], 258), (34, 258), (34, 224)], "text", head=True)
    said = drawn.rect(42, 30, 66, 26, "text", radius=4)
    drawn.text(42, 30, "yellow", 14, "text")
    drawn.line([head.at("t"), (34, 43)], "text", head=True)
    drawn.arrow(said, drawn.box(160, 30, "*L_{MLM}*", "loss", 84, 30), role="loss")
    drawn.text(224, 30, "+", 16, weight=600)
    voken = drawn.box(296, 30, "*L_{voken}*", "loss", 96, 30)
    drawn.arrow((296, 80), voken, role="loss", sides="tb")
    return drawn


# ---------------------------------------------------------------------------------------------------- plots


def undecided(margin: Number = 0.5) -> Figure:
    """What a token pays that prefers one of two pictures by delta, although either is as often the right
    one."""
    delta = torch.linspace(-1, 1, 401)
    figure, axis = plt.subplots(figsize=(6.4, 2.8))
    for sign, name in ((1, "the preferred one is right"), (-1, "the other one is right")):
        axis.plot(delta, (margin - sign * delta).clamp(min=0), "--" if sign > 0 else ":",
                  color=COLOURS["frozen"], label=name)
    axis.plot(delta, undecided_hinge(delta, margin), color=COLOURS["loss"], label="mean of both")
    axis.axvspan(-float(margin), float(margin), color=COLOURS["image"], alpha=0.08)
    axis.set(xlabel="preference δ", ylabel="loss", xlim=(-1, 1), ylim=(0, None))
    axis.legend(fontsize=9, loc="upper center")
    return figure


# ---------------------------------------------------------------------------------------------- moving ones


def vokens_of(
    vokenizer: Vokenizer, tokeniser: WordTokeniser, sentences: Sequence[str],
    images: UInt8[Tensor, "n 3 y x"], columns: int = 5
) -> Block:
    """Choose a sentence: each of its tokens with its voken and how relevant that is.

    ``images`` are the pictures whose embeddings are the vokenizer's keys. Raises ``ValueError`` for another
    number of them, and without a sentence.
    """
    if len(images) != len(vokenizer.keys):
        raise ValueError(f"{len(images)} pictures for {len(vokenizer.keys)} keys; give those that the keys "
                         "were made of")
    if not sentences:
        raise ValueError("there is no sentence to choose; give at least one")
    ids = [tokeniser.encode(text)[: vokenizer.limit] for text in sentences]
    rows = max(math.ceil(len(each) / columns) for each in ids)
    cell, tall = 470 / columns, 114
    panels = []
    for text, each in zip(sentences, ids):
        scores, places = vokenizer.top(each, 1)
        said = [tokeniser.words[i] for i in each]
        found = [f"{word}: picture {int(place)}" for word, place in zip(said, places[:, 0])]
        drawn = Diagram(470, max(tall * rows, 1), f"vokens of “{text}”: " + ", ".join(found))
        for i, (word, score, place) in enumerate(zip(said, scores[:, 0].tolist(), places[:, 0].tolist())):
            row, column = divmod(i, columns)
            x, y = (column + 0.5) * cell, row * tall
            drawn.text(x, y + 12, literal(word), 14, "text", weight=600)
            drawn.image(x, y + 54, images[place], 62)
            drawn.text(x, y + 96, f"{score:.2f}".replace("-", "−"), 13, "soft")
        panels.append(drawn)
    return hover(list(sentences), panels, "Choose a sentence: the voken of each of its tokens, the picture "
                 "that a matcher finds most relevant, with its relevance below")
