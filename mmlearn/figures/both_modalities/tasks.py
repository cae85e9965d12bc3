"""Figures of the tasks: a balanced pair of questions, what ten people's answers are worth, a problem of
visual commonsense, the table of all models.

Papers: Y. Goyal et al. (2017), arXiv:1612.00837, fig. 1 (balanced pairs); S. Antol et al. (2015), arXiv:
1505.00468 (ten answers); R. Zellers et al. (2019), arXiv:1811.10830, fig. 1 (tags and boxes).  Survey: 5.

Teal is the picture, orange text, violet an answer that counts, red what is wrong.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from mmlearn.data.questions import VQAPairs, VQAQuestion
from mmlearn.data.rationales import VCRSet, tags, with_names
from mmlearn.figures.diagram import Diagram, Number, literal, text_width
from mmlearn.figures.interactive import Block, slider
from mmlearn.metrics.vqa import ENOUGH, accuracy_of_matches, comparable, vqa_accuracy

WIDE = 470
PEOPLE = 10


def wrapped(text: str, size: Number, wide: Number) -> list[str]:
    """A text in lines of at most ``wide`` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > wide:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


# ------------------------------------------------------------------------------------------- balanced pairs

def pair_of_kind(data: VQAPairs, kind: str, number: int = 0) -> tuple[VQAQuestion, VQAQuestion]:
    """The pair with this number among those of a kind. Raises ``ValueError`` if there are not so many."""
    found = [pair for pair in data.pairs() if pair[0].program.kind == kind]
    if number >= len(found):
        raise ValueError(f"there are {len(found)} pairs of the kind {kind!r}; ask for a number below that")
    return found[number]


def balanced_pair(
    pair: tuple[VQAQuestion, VQAQuestion], images: UInt8[Tensor, "n 3 s s"]
) -> Diagram:
    """One question, two pictures, and what ten people answer to each; ``images`` are those of all scenes."""
    question = pair[0].text
    counts = [Counter(comparable("", one.answers)[1]).most_common() for one in pair]
    told = "; ".join(f"of the {side} picture " + ", ".join(f"{n} say {answer}" for answer, n in count)
                     for side, count in zip(("left", "right"), counts))
    most = max(map(len, counts))
    drawn = Diagram(WIDE, 282 + 22 * most, (
        f"A balanced pair. The question is: {question} It is asked of two pictures that are alike; the right "
        f"answers are {pair[0].answer} and {pair[1].answer}. People's answers: {told}. Who does not look "
        "gives the same answer twice and is right at most once."))
    drawn.text(WIDE / 2, 20, literal(question), 16, "text", weight=600)
    for x, one, count in zip((122, 348), pair, counts):
        drawn.image(x, 136, images[one.scene], 196, 196)
        drawn.text(x, 252, literal(f"right: {one.answer}"), 15, "new", weight=600)
        for i, (answer, n) in enumerate(count):
            y = 280 + 22 * i
            worth = vqa_accuracy(answer, one.answers)
            drawn.bar(x - 98, y, 9 * n, 14, "new" if answer == one.answer else "frozen")
            drawn.text(x - 94 + 9 * n, y, literal(f"{n} {answer}: {worth:.2f}"), 13, anchor="start")
    return drawn


# ------------------------------------------------------------------------------------------- ten annotators

def left_out(m: int) -> list[float]:
    """What an answer that ``m`` of ten people gave gets when each person is left out in turn: first those
    who gave it."""
    return [min(1.0, (m - (i < m)) / ENOUGH) for i in range(PEOPLE)]


def annotators() -> Block:
    """A slider over how many of ten people gave the answer: who is left out, what the nine others are worth,
    the mean."""
    frames, labels = [], []
    for m in range(PEOPLE + 1):
        worth, score = left_out(m), accuracy_of_matches(m)
        frame = Diagram(WIDE, 172, (
            f"{m} of ten people gave the answer. Left out in turn, the others are worth "
            f"{', '.join(f'{value:.2f}' for value in worth)}; the mean is {score:.2f}"))
        frame.text(8, 16, "ten people", 13, "soft", "start")
        frame.text(8, 92, "worth, if this one is left out", 13, "soft", "start")
        for i, value in enumerate(worth):
            x = 30 + 45.5 * i
            frame.rect(x, 48, 32, 32, "new" if i < m else "", 16)
            frame.text(x, 48, "yes" if i < m else "–", 13, "new" if i < m else "soft", weight=600)
            frame.text(x, 118, f"{value:.2f}", 14, "new" if value else "soft")
        frame.text(8, 154, "mean", 13, "soft", "start")
        frame.bar(60, 154, 330 * score, 18, "new")
        frame.text(66 + 330 * score, 154, f"{score:.1f}", 15, "new", "start", 600)
        frames.append(frame)
        labels.append(
            "Nobody gave it." if not m else
            f"{m} gave it. In {m} of ten turns one of them is left out, and {m - 1} count; in {PEOPLE - m} "
            f"somebody else, and {m} count.")
    return slider({"people with this answer": list(range(PEOPLE + 1))}, frames, (
        "The official accuracy of an answer to a question of VQA, by the number of people who gave it: each "
        "of the ten is left out once, three of the other nine are enough, and the ten values are averaged. "
        "It is 0.3, 0.6 and 0.9 for 1, 2 and 3 people, and 1 from four on"), labels=labels, start=2)


# ----------------------------------------------------------------------------------------- visual commonsense

def vcr_problem(data: VCRSet, number: int, images: UInt8[Tensor, "n 3 s s"]) -> Diagram:
    """A problem: the picture with the boxes of its tags, the question, four answers, four reasons."""
    one = data.problems[number]
    scene = data.scenes[one.scene]
    question = with_names(one.question, scene)
    blocks = [("Which answer?", one.answers, one.answer), ("Why? (the answer is given)", one.rationales,
                                                            one.rationale)]
    lines = [[wrapped(with_names(text, scene), 13, WIDE - 90) for text in texts] for _, texts, _ in blocks]
    heights = [26 + sum(17 * len(text) + 7 for text in part) for part in lines]
    alt = " ".join([f"A problem of visual commonsense reasoning. Question: {question}",
                    *(f"{name} " + " / ".join(with_names(text, scene) for text in texts)
                      + f" Right is number {right + 1}." for name, texts, right in blocks)])
    drawn = Diagram(WIDE, 190 + sum(heights), alt)
    drawn.image(94, 94, images[one.scene], 172, 172)
    shown = tuple(dict.fromkeys(tags(one.question)))
    for tag in shown:
        x0, y0, x1, y1 = (8 + 172 * min(max(v, 0.0), 1.0) for v in
                          one.box(scene, one.things.index(tag)))
        drawn.rect((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, "new", 3, ' style="fill:none"')
    placed: list[Number] = []
    for tag in sorted(shown, key=lambda t: scene.objects[t].y):
        x0, y0, *_ = (8 + 172 * min(max(v, 0.0), 1.0) for v in one.box(scene, one.things.index(tag)))
        y = max([y0 + 9, 18, *(before + 20 for before in placed)])
        placed.append(y)
        drawn.text(min(x0 + 4, 148), y, f"[{tag}]", 14, "new", "start", 700, halo=True)
    for i, line in enumerate(wrapped(question, 15, 224)):
        drawn.text(198, 30 + 20 * i, literal(line), 15, "text", "start", 600)
    top = 196.0
    for (name, _, right), part, high in zip(blocks, lines, heights):
        drawn.text(8, top, name, 13, "soft", "start", 600)
        y = top + 22
        for k, text in enumerate(part):
            role = "new" if k == right else ""
            drawn.text(8, y, "✓" if k == right else "·", 15, role or "soft", "start", 700)
            for line in text:
                drawn.text(28, y, literal(line), 13, role, "start", 600 if k == right else 400)
                y += 17
            y += 7
        top += high
    return drawn


# ------------------------------------------------------------------------------------------- the final table

COLUMNS = {"VQA": "VQA", "VQA both of a pair": "both of a pair", "VCR Q->A": "Q→A", "VCR QA->R": "QA→R",
           "VCR Q->AR": "Q→AR", "referring": "referring", "retrieval R@1": "R@1",
           "captions CIDEr-D": "CIDEr-D", "walks success": "walks"}


def mean_of(runs: Sequence[Mapping[str, Any]], score: str) -> float | None:
    """The mean of a score over seeds; None where a system has none."""
    values = [run["scores"][score] for run in runs if score in run["scores"]]
    return sum(values) / len(values) if values else None


def task_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of a study's result: means over seeds, percentages but for CIDEr-D, a dash
    where a system does not do a task; columns that no system fills are left out."""
    used = [score for score in COLUMNS
            if any(mean_of(runs, score) is not None for runs in found["arms"].values())]

    def cell(runs: Sequence[Mapping[str, Any]], score: str) -> str:
        value = mean_of(runs, score)
        if value is None:
            return "–"
        return f"{value:.2f}" if score == "captions CIDEr-D" else f"{100 * value:.1f}"

    return (["system", *(COLUMNS[score] for score in used)],
            [[name, *(cell(runs, score) for score in used)] for name, runs in found["arms"].items()])
