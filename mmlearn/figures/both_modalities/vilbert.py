"""Figures of ViLBERT: two streams and where they meet, one meeting in detail, a place in five numbers, what
words and regions read in one another, what a hidden region is taken for.

Paper: J. Lu, D. Batra, D. Parikh and S. Lee (2019), *ViLBERT*, NeurIPS, arXiv:1908.02265, fig. 1 to 3.
Survey: 5.2.

Green is the picture, orange the text, violet the co-attention that ViLBERT adds, red what is asked.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.both_modalities.vilbert import WHOLE, ViLBERTConfig
from mmlearn.both_modalities.vilbert_fine_tuning import Task
from mmlearn.both_modalities.vilbert_pretraining import PretrainingConfig, ViLBERTForPreTraining
from mmlearn.both_modalities.vilbert_regions import Seen, see
from mmlearn.both_modalities.vilbert_training import (
    CHECKPOINT,
    PretrainingBatches,
    load_vilbert,
    mini_model,
    pretrain,
    scene_regions,
    scores_of,
)
from mmlearn.checkpoints import is_saved
from mmlearn.data.expressions import ExpressionSet
from mmlearn.data.pairs import draw_scenes
from mmlearn.data.scenes import CATEGORIES
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.diagram import Diagram, Number, literal
from mmlearn.figures.interactive import Block, hover, slider
from mmlearn.image2text.regions import Detector
from mmlearn.nn.attention import record_attention
from mmlearn.nn.modes import eval_mode

WIDE = 470
NAMES = ("background", *(category.name for category in CATEGORIES))

# ----------------------------------------------------------------------------------------------- two streams


def streams(config: ViLBERTConfig | None = None) -> Diagram:
    """The layers of both streams in the order in which they run, and the three heads."""
    config = config or ViLBERTConfig.base()
    rows: list[tuple[str, str, str]] = []               # words, both, regions: what stands in a row
    for kind, i in config.schedule():
        if kind == "co":
            rows.append(("", f"Co-TRM {i}", ""))
        elif kind == "text":
            rows.append((f"TRM {i}", "", ""))
        elif rows[-1][0] and not rows[-1][2]:
            rows[-1] = (rows[-1][0], "", f"TRM {i}")
        else:
            rows.append(("", "", f"TRM {i}"))
    rows = _side_by_side(rows)
    step, top = 25, 112
    bottom = top + step * len(rows)
    alone = config.co_text[0] if config.co_text else config.text.layers
    drawn = Diagram(WIDE, bottom + 142, (
        f"ViLBERT from top to bottom. At the left the words, of width {config.text.width}, pass "
        f"{config.text.layers} Transformer layers; at the right the regions, of width {config.width}, pass "
        f"{config.layers}. The first {alone} layers of the words stand alone. Then {len(config.co_text)} "
        "times a layer of co-attention, Co-TRM, spans both streams, each followed by one Transformer layer, "
        "TRM, in each stream. At the bottom are three heads: hidden words from the states of the words, "
        "hidden regions from those of the regions, and from the product of the first two states whether "
        "text and picture belong together."))
    left, right, wide = 118, 352, 150
    words = drawn.box(left, 50, "words\n[CLS] a red cat [SEP]", "text", 178, 54)
    seen = drawn.box(right, 50, "regions\n[IMG] and 10 to 36 boxes", "image", 200, 54)
    drawn.text(left, 14, f"*Y*: t × {config.text.width}", 13, "text")
    drawn.text(right, 14, f"*X*: (n + 1) × {config.width}", 13, "image")
    drawn.arrow(words, (left, top - 12), role="text")
    first = next((k for k, row in enumerate(rows) if row[1] or row[2]), len(rows))
    drawn.arrow(seen, (right, top + step * first - 11), role="image")
    for k, (text, both, vision) in enumerate(rows):
        y = top + step * k
        if both:
            drawn.rect(235, y, right - left + wide, 21, "new", 5)
            drawn.text(235, y, both, 13, "new", weight=600)
        for x, name, role in ((left, text, "text"), (right, vision, "image")):
            if name:
                drawn.rect(x, y, wide, 21, role, 5)
                drawn.text(x, y, name, 13)
    y = bottom + 46
    product = drawn.box(235, y, "*h*_X ⊙ *h*_Y", "block", 104, 34)
    for x, role in ((left, "text"), (right, "image")):
        drawn.line([(x, bottom - 12), (x, bottom + 14), (235, bottom + 14)], role)
    drawn.arrow((235, bottom + 14), product)
    for x, role in ((54, "text"), (416, "image")):
        near = left - wide / 2 + 11 if x < 235 else right + wide / 2 - 11
        drawn.arrow((near, bottom - 12), (near, y + 34), role=role)
    drawn.arrow(product, (235, y + 34), role="loss")
    for x, one, two in ((76, "hidden words", "*v* scores"), (235, "one another’s?", "2 scores"),
                        (394, "hidden regions", f"{config.classes} scores")):
        drawn.text(x, y + 48, one, 14, "loss", weight=600)
        drawn.text(x, y + 68, two, 13, "soft")
    return drawn


def _side_by_side(rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Rows of which a layer of words and the next of regions, which run after one another, share one."""
    out: list[tuple[str, str, str]] = []
    for row in rows:
        before = out[-1] if out else ("", "co", "")
        if not before[1] and not row[1] and (before[0] == "") != (row[0] == "") and (
                before[2] == "") != (row[2] == ""):
            out[-1] = (before[0] or row[0], "", before[2] or row[2])
        else:
            out.append(row)
    return out


# ------------------------------------------------------------------------------------------------ one meeting


def meeting(config: ViLBERTConfig | None = None) -> Diagram:
    """One layer of co-attention: queries stay, keys and values cross."""
    config = config or ViLBERTConfig.base()
    per = config.inner // config.co_heads
    drawn = Diagram(WIDE, 404, (
        "One layer of co-attention. The words Y make queries, keys and values, and so do the regions X. The "
        "queries of the words stay at the left; their keys and values cross to the right. The queries of the "
        "regions stay at the right; their keys and values cross to the left. So the attention at the left, "
        "in which words ask, weighs the values of regions, and the attention at the right weighs the values "
        "of words. What was read is added to the own states and normalised, then each stream has a "
        "feed-forward net of its own."))
    sides = ((118, "text", "*Y*", "Y", config.text.width, "*t*"),
             (352, "image", "*X*", "X", config.width, "(*n* + 1)"))
    columns: dict[str, list[Number]] = {}
    for x, role, name, letter, width, count in sides:
        drawn.text(x, 14, f"{count} × {width}", 13, "soft")
        stream = drawn.box(x, 42, name, role, 190, 30)
        columns[letter] = [x - 62, x, x + 62] if letter == "Y" else [x + 62, x, x - 62]
        for at, part in zip(columns[letter], "QKV"):
            drawn.arrow((at, stream.y + 15), (at, 84), role=role)
            drawn.rect(at, 98, 46, 28, role, 5)
            drawn.text(at, 98, f"*{part}*_{letter}", 14, role, weight=600)
    boxes = {}
    for x, _, _, letter, *_ in sides:
        other = "*X*" if letter == "Y" else "*Y*"
        boxes[letter] = drawn.box(x, 226, "softmax(*QK*^⊤/√*d*_k) *V*\n"
                                  f"own *Q*, *K* and *V* of {other}", "new", 206, 52)
    for own, other, role, high in (("Y", "X", "text", 140), ("X", "Y", "image", 168)):
        q = columns[own][0]
        drawn.arrow((q, 112), (q, 200), role=role)
        box = boxes[other]
        for k, at in enumerate(columns[own][1:]):
            level = high + 12 * k
            into = box.x + (-14 - 22 * k if own == "X" else 14 + 22 * k)
            drawn.arrow((at, 112), (into, 200), role=role, via=[(at, level), (into, level)])
    for x, role, _, letter, *_ in sides:
        add = drawn.box(x, 300, "add and normalise", "block", 160, 32)
        drawn.arrow(boxes[letter], add, f"*C*_{letter}")
        net = drawn.box(x, 356, "feed-forward, add, norm", "block", 212, 32)
        drawn.arrow(add, net)
        outer = x - 108 if letter == "Y" else x + 108
        start = x - 95 if letter == "Y" else x + 95
        drawn.line([(start, 42), (outer, 42), (outer, 300)], role, dashed=True)
        drawn.arrow((outer, 300), add, role=role, dashed=True, sides="rl" if letter == "Y" else "lr")
    drawn.text(235, 390, f"{config.co_heads} heads of {per} numbers", 13, "soft")
    return drawn


# --------------------------------------------------------------------------------------------------- a model


class Shown(NamedTuple):
    """What figures show: a model, its words, and a drawn scene as the detector sees it."""

    model: ViLBERTForPreTraining
    tokeniser: WordTokeniser
    scene: Scene
    image: Tensor                   # (3, s, s), bytes
    seen: Seen                      # of this picture alone


def trained_model(steps: int = 40, scenes: int = 80,
                  detector: Detector | None = None) -> tuple[ViLBERTForPreTraining, WordTokeniser]:
    """The miniature that comes with the book; where it is not there, one that is trained for a few steps."""
    if is_saved(CHECKPOINT):
        return load_vilbert()[:2]
    from mmlearn.image2text.regions import load_detector

    data = scene_regions(detector or load_detector(), scenes)
    tokeniser = data.vocabulary()
    model = mini_model(tokeniser, data)
    pretrain(model, PretrainingBatches(data, tokeniser, PretrainingConfig.mini()), steps=steps,
             progress=False)
    return model.eval(), tokeniser


def shown(model: ViLBERTForPreTraining, tokeniser: WordTokeniser, detector: Detector, scene: Scene) -> Shown:
    """A scene drawn and seen."""
    images = draw_scenes([scene])
    return Shown(model, tokeniser, scene, images[0], Seen(*(part.cpu() for part in see(detector, images))))


Place = tuple[float, ...]


def regions_of(seen: Seen) -> tuple[list[str], list[Place]]:
    """The whole picture and the regions of the first picture: what the detector takes them for, numbered from
    1, and where they are."""
    own = seen.mask[0]
    classes = seen.classes[0][own].argmax(dim=-1).tolist()
    names = [f"{k} {NAMES[c]}" for k, c in enumerate(classes, start=1)]
    return ["whole picture", *names], [WHOLE, *map(tuple, seen.boxes[0][own].tolist())]


# --------------------------------------------------------------------------------------------------- a place

PARTS = ("*x*_1/*w*", "*y*_1/*h*", "*x*_2/*w*", "*y*_2/*h*", "area")


def places(what: Shown) -> Block:
    """A slider over the regions of a picture: the box, and the five numbers that say where it is."""
    names, rows = regions_of(what.seen)
    side, left, top = 200, 12, 12
    under = Diagram(WIDE, 226, "a drawn scene")
    under.image(left + side / 2, top + side / 2, what.image, side)
    frames = []
    for name, row in zip(names, rows):
        frame = Diagram(WIDE, 226, f"{name}: " + ", ".join(f"{number:.2f}" for number in row))
        _box(frame, row, left, top, side, "new", 1.0)
        frame.text(340, 24, name, 15, "image", weight=600)
        for k, (part, number) in enumerate(zip(PARTS, row)):
            y = 62 + 34 * k
            frame.text(286, y, part, 14, "", "end")
            frame.rect(354, y, 110, 18, radius=3)
            frame.bar(299, y, 110 * number, 18, "new" if part == "area" else "image")
            frame.text(438, y, f"{number:.2f}", 14)
        frames.append(frame)
    return slider({"region": names}, frames, under=under, start=min(1, len(frames) - 1), alt=(
        "A drawn scene, one of its regions framed, and beside it five numbers: the left, top, right and "
        "lower edge as shares of the picture's sides, and the share of its area. The whole picture has "
        "0, 0, 1, 1, 1"))


def _box(frame: Diagram, place: Sequence[float], left: Number, top: Number, side: Number, role: str,
         weight: float, marks: str = "") -> None:
    """A frame around a region of a picture that is drawn ``side`` wide; the more ``weight``, the fuller."""
    x_1, y_1, x_2, y_2 = (min(1.0, max(0.0, number)) for number in place[:4])
    frame.add(f'<rect class="mm-l mm-{role}" x="{left + side * x_1:.4g}" y="{top + side * y_1:.4g}" '
              f'width="{side * (x_2 - x_1):.4g}" height="{side * (y_2 - y_1):.4g}" rx="3" '
              f'style="fill:none;stroke-width:{1 + 4 * weight:.3g};stroke-opacity:{0.35 + 0.65 * weight:.3g}"'
              f'{marks}/>')


# ------------------------------------------------------------------------------------- who reads what in whom


class Read(NamedTuple):
    """Weights of one layer of co-attention, a mean of its heads."""

    by_words: Float[Tensor, "t n"]      # of each word, over the whole picture and the regions
    by_regions: Float[Tensor, "n t"]    # of the whole picture and each region, over the words


@torch.no_grad()
def co_attended(
    model: ViLBERTForPreTraining, tokens: Int[Tensor, "1 t"], seen: Seen, layer: int = -1
) -> Read:
    """What words read in regions and regions in words, in a layer of co-attention (the last by default)."""
    k = layer % len(model.vilbert.co_layers)
    with eval_mode(model), record_attention(model) as weights:
        model(tokens, None, None, *seen[:3])
    by_words = weights[f"vilbert.co_layers.{k}.text.attention"][0].mean(dim=0)
    by_regions = weights[f"vilbert.co_layers.{k}.vision.attention"][0].mean(dim=0)
    real = torch.cat([torch.ones(1, dtype=torch.bool), seen.mask[0]])
    return Read(by_words[:, real], by_regions[real])


def looking(what: Shown, text: str, layer: int = -1) -> Block:
    """Words and boxes to point at: a word lights the boxes that it reads, a box the words."""
    tokens = what.tokeniser.batch([text])
    read = co_attended(what.model, tokens, what.seen, layer)
    words = ["[CLS]", *what.tokeniser.decode(tokens[0]).split(), "[SEP]"]
    names, rows = regions_of(what.seen)
    side, left, top = 200, 10, 10
    high = max(20 + 21 * len(words), 226 + 21 * len(names))
    under = Diagram(WIDE, high, f"a drawn scene and “{text}”")
    under.image(left + side / 2, top + side / 2, what.image, side)
    at_word = [20 + 21 * k for k in range(len(words))]
    at_region = [232 + 21 * k for k in range(len(names))]
    frames, labels = [], []
    for k, word in enumerate(words):
        weights = read.by_words[k].tolist()
        frame = Diagram(WIDE, high, f"what “{word}” reads")
        _lists(frame, words, names, at_word, at_region, chosen_word=k, weights=weights)
        for number, (row, weight) in enumerate(zip(rows[1:], weights[1:]), start=1):
            _box(frame, row, left, top, side, "new", weight)
            frame.text(left + side * row[0] + 7, top + side * row[3] - 8, str(number), 12, "new", weight=600,
                       halo=True)
        frames.append(frame)
        best = max(range(len(names)), key=weights.__getitem__)
        labels.append(f"“{word}” reads most in: {names[best]}, {weights[best]:.2f}.")
    for k, name in enumerate(names):
        weights = read.by_regions[k].tolist()
        frame = Diagram(WIDE, high, f"what {name} reads")
        _lists(frame, words, names, at_word, at_region, chosen_region=k, weights=weights)
        _box(frame, rows[k], left, top, side, "image", 1.0)
        frames.append(frame)
        best = max(range(len(words)), key=weights.__getitem__)
        labels.append(f"{name.capitalize()} reads most in: “{words[best]}”, {weights[best]:.2f}.")
    buttons = [*words, *(f"□ {name}" for name in names)]
    kinds = {name.split(maxsplit=1)[1] for name in names[1:]}
    start = next((k for k, word in enumerate(words) if word in kinds), 1)
    return hover(buttons, frames, under=under, labels=labels, start=start, alt=(
        f"Co-attention of a trained miniature over “{text}” and the {len(names) - 1} regions of a drawn "
        "scene. A word that is pointed at lights the boxes that it reads, a box the words that it reads; "
        "beside each stands its weight, a mean over heads"))


def _lists(frame: Diagram, words: Sequence[str], names: Sequence[str], at_word: Sequence[Number],
           at_region: Sequence[Number], weights: Sequence[float], chosen_word: int | None = None,
           chosen_region: int | None = None) -> None:
    """Words at the right and regions at the lower left, with bars where they are read."""
    for k, (word, y) in enumerate(zip(words, at_word)):
        mine = k == chosen_word
        frame.text(300, y, literal(word), 14, "text" if mine else "", "end", 600 if mine else 400)
        if chosen_region is not None:
            frame.bar(310, y, 100 * weights[k], 13, "text")
            frame.text(430, y, f"{weights[k]:.2f}", 13, "soft")
    for k, (name, y) in enumerate(zip(names, at_region)):
        mine = k == chosen_region
        frame.text(104, y, name, 14, "image" if mine else "", "end", 600 if mine else 400)
        if chosen_word is not None:
            frame.bar(112, y, 70 * weights[k], 13, "new")
            frame.text(200, y, f"{weights[k]:.2f}", 13, "soft")


# ------------------------------------------------------------------------------------------- a hidden region


def hidden_region(
    model: ViLBERTForPreTraining, tokens: Int[Tensor, "1 t"], seen: Seen, number: int, pad: int
) -> tuple[list[float], list[float]]:
    """What the detector says of a region, p, and what the model says when its feature is hidden, q."""
    features = seen.features.clone()
    features[0, number] = 0.0
    _, logits, _ = scores_of(model, tokens, seen._replace(features=features), pad)
    return seen.classes[0, number].tolist(), logits[0, number].softmax(dim=-1).tolist()


def posterior(what: Shown, texts: Sequence[str], number: int = 0, top: int = 4) -> Diagram:
    """A region whose feature is hidden: the detector's classes, and the model's with each of two texts."""
    pad = what.tokeniser.pad
    told = [hidden_region(what.model, what.tokeniser.batch([text]), what.seen, number, pad) for text in texts]
    p, columns = told[0][0], [q for _, q in told]
    best = sorted(range(len(p)), key=lambda c: -max(p[c], *(q[c] for q in columns)))[:top]
    side = 150
    high = 196 + (len(texts) - 1) * 20 + 24
    rows: list[tuple[str, list[float], str]] = [("detector", p, "image")]
    rows += [(f"text {k + 1}", q, "new") for k, q in enumerate(columns)]
    drawn = Diagram(WIDE, max(high, 30 + len(rows) * (26 + 20 * top) + 20 * len(texts)), (
        f"A drawn scene in which the feature of one region is hidden. The detector takes it for "
        f"{NAMES[max(range(len(p)), key=p.__getitem__)]}, {max(p):.2f}. " + " ".join(
            f"Reading “{text}” the model says {NAMES[max(range(len(q)), key=q.__getitem__)]}, {max(q):.2f}."
            for text, q in zip(texts, columns))))
    drawn.image(10 + side / 2, 14 + side / 2, what.image, side)
    place = what.seen.boxes[0, number].tolist()
    _box(drawn, place, 10, 14, side, "loss", 0.6, ' stroke-dasharray="5 4"')
    y: Number = 20
    for name, values, role in rows:
        drawn.text(196, y, name, 14, role, "start", 600)
        for c in best:
            y += 20
            drawn.text(286, y, NAMES[c], 13, "", "end")
            drawn.bar(294, y, 120 * values[c], 13, role)
            drawn.text(440, y, f"{values[c]:.2f}", 13, "soft")
        y += 26
    for k, text in enumerate(texts):
        drawn.text(10, drawn.height - 14 - 20 * (len(texts) - 1 - k), f"text {k + 1}: {literal(text)}", 13,
                   "text", "start")
    return drawn


def pictures_of_pairs(found: Sequence[tuple[Any, str, float]]) -> Diagram:
    """Pictures side by side, each with a text below and how probable it is that they belong together."""
    side = 140
    drawn = Diagram(WIDE, 66 + side, "; ".join(f"“{text}”: {p:.2f}" for _, text, p in found))
    for k, (image, text, p) in enumerate(found):
        x = WIDE * (k + 0.5) / len(found)
        drawn.image(x, 10 + side / 2, image, side)
        drawn.text(x, side + 28, literal(text), 12, "text")
        drawn.text(x, side + 50, f"{p:.2f}", 15, "new" if p > 0.5 else "loss", weight=600)
    return drawn


def referred_boxes(
    data: ExpressionSet, task: Task, chosen: Int[Tensor, " n"], count: int = 4
) -> Diagram:
    """Expressions with the box that is meant (dashed) and the region that was chosen: first those that were
    hit, then as many that were missed."""
    iou = task.right.gather(1, chosen[:, None])[:, 0]
    order = [*(iou > 0.5).nonzero()[:, 0].tolist()[: count // 2],
             *(iou <= 0.5).nonzero()[:, 0].tolist()[: count - count // 2]]
    side, images = 200, draw_scenes([data.scenes[data.expressions[i].scene] for i in order])
    drawn = Diagram(WIDE, 14 + (side + 62) * ((len(order) + 1) // 2), "; ".join(
        f"“{data.expressions[i].text}”: the chosen box overlaps by {float(iou[i]):.2f}" for i in order))
    for k, (i, image) in enumerate(zip(order, images)):
        left, top = 18 + 234 * (k % 2), 12 + (side + 62) * (k // 2)
        one, hit = data.expressions[i], bool(iou[i] > 0.5)
        drawn.image(left + side / 2, top + side / 2, image, side)
        _box(drawn, data.boxes(one.scene)[one.target].tolist(), left, top, side, "text", 0.4,
             ' stroke-dasharray="5 4"')
        _box(drawn, task.seen.boxes[one.scene, chosen[i]].tolist(), left, top, side,
             "new" if hit else "loss", 0.6)
        drawn.text(left + side / 2, top + side + 16, literal(one.text), 13, "text")
        drawn.text(left + side / 2, top + side + 36, f"IoU {float(iou[i]):.2f}", 13, "new" if hit else "loss")
    return drawn
