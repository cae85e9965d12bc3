"""Figures of a feeling that no cue tells: examples, why no sum of two cues can tell it, the study of fusion.

Papers: D. Kiela et al. (2020), arXiv:2005.04790 (examples made so that one modality does not suffice); A.
Zadeh et al. (2017), arXiv:1707.07250 (the outer product).  Survey: 5.

Teal is the picture, orange the sentence, blue the voice, violet what a product adds, red what is wrong.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch

from mmlearn.data.affect import FEELINGS, AffectData
from mmlearn.figures.diagram import Diagram, Number, literal

WIDE = 470


# -------------------------------------------------------------------------------------------------- examples

def one_of_each(data: AffectData) -> list[int]:
    """The first example of each feeling, in the order of ``FEELINGS``. Raises ``ValueError`` if one is not
    there."""
    found = []
    for number, name in enumerate(FEELINGS):
        where = (data.feelings == number).nonzero()
        if not len(where):
            raise ValueError(f"no example is {name}; make 16 or more")
        found.append(int(where[0, 0]))
    return found


def wave_points(wave: torch.Tensor, left: Number, y: Number, wide: Number, high: Number,
                columns: int = 60) -> list[tuple[Number, Number]]:
    """A wave as a line of ``columns`` strokes up and down, of the largest values of each stretch."""
    parts = wave[: len(wave) // columns * columns].view(columns, -1)
    points: list[tuple[Number, Number]] = []
    for i, (low, top) in enumerate(zip(parts.amin(1).tolist(), parts.amax(1).tolist())):
        x = left + wide * (i + 0.5) / columns
        points += [(x, y - high / 2 * top), (x, y - high / 2 * low)]
    return points


def feelings(data: AffectData, which: Sequence[int] | None = None) -> Diagram:
    """Examples with what each shows: picture, sentence, voice, the cues in them, and the feeling."""
    rows = data.rows(list(one_of_each(data) if which is None else which))
    told = "; ".join(f"{'wink' if c.wink else 'no wink'}, arms {'raised' if c.arms else 'down'}, "
                     f"“{text}”, voice {'lively' if c.lively else 'calm'}: {FEELINGS[int(f)]}"
                     for c, text, f in zip(rows.cues, rows.texts, rows.feelings))
    drawn = Diagram(WIDE, 8 + 104 * len(rows), f"Examples of feelings made of cues. {told}.")
    for i, (cues, text, feeling) in enumerate(zip(rows.cues, rows.texts, rows.feelings)):
        y = 54 + 104 * i
        drawn.image(52, y, rows.pictures[i], 88)
        drawn.text(106, y - 30, f"{'wink' if cues.wink else 'no wink'}, "
                   f"arms {'raised' if cues.arms else 'down'}", 13, "image", "start")
        drawn.text(106, y - 8, literal(f"“{text}”"), 14, "text", "start")
        drawn.text(106, y + 14, f"“{rows.said[i].word}”, {'lively' if cues.lively else 'calm'}", 13, "block",
                   "start")
        if rows.waves is not None:
            drawn.line(wave_points(rows.waves[i], 106, y + 36, 200, 26), "block")
        good, lively = cues.praise != cues.wink, cues.lively != cues.arms
        drawn.text(400, y - 22, f"{'good' if good else 'bad'} is meant", 13, "soft")
        drawn.text(400, y - 2, f"{'lively' if lively else 'calm'} is meant", 13, "soft")
        drawn.text(400, y + 24, FEELINGS[int(feeling)], 17, "new", weight=700)
    return drawn


# ------------------------------------------------------------------------------------------- sum and product

def best_of_sums() -> int:
    """How many of the four cases of two cues a sum of two votes can get right at most, by trying all signs
    and sizes that matter: votes of -3 to 3 for each cue's two values, and a threshold."""
    votes = range(-3, 4)
    best = 0
    for f0, f1, g0, g1 in product(votes, repeat=4):
        right = sum(((f0, f1)[wink] + (g0, g1)[praise] > 0) == (wink != praise)
                    for wink, praise in product((0, 1), repeat=2))
        best = max(best, right)
    return best


def xor() -> Diagram:
    """Two cues and what follows from them: no line parts good from bad; their product does."""
    drawn = Diagram(WIDE, 270, (
        "Left: the four cases of two cues, wink from left to right and praise from bottom to top. Good is "
        "meant at the upper left (praise without a wink) and at the lower right (a complaint with a wink), "
        "bad at the two other corners. A sum of two votes is a line, and a line gets at most "
        f"{best_of_sums()} of the 4 right. Right: with the product of the cues, written as -1 and +1, as the "
        "one coordinate, good stands at -1 and bad at +1, and a threshold at 0 parts them."))
    drawn.text(138, 18, "a sum of two votes", 14, weight=600)
    drawn.text(362, 18, "their product", 14, "new", weight=600)
    drawn.rect(138, 128, 170, 160, "", 4)
    for wink, praise in product((0, 1), repeat=2):
        good = wink != praise
        x, y = 86 + 104 * wink, 184 - 112 * praise
        drawn.rect(x, y, 46, 28, "new" if good else "loss", 14)
        drawn.text(x, y, "good" if good else "bad", 14, "new" if good else "loss", weight=600)
    drawn.line([(104, 216), (230, 108)], "loss", True)
    drawn.text(86, 228, "no wink", 13, "image")
    drawn.text(190, 228, "wink", 13, "image")
    drawn.text(25, 72, "praise", 13, "text")
    drawn.text(25, 184, "not", 13, "text")
    drawn.text(138, 254, f"at most {best_of_sums()} of 4 are right", 14, "loss")
    drawn.line([(274, 128), (450, 128)])
    for value, good, name in ((-1, True, "cues differ"), (1, False, "cues alike")):
        x = 362 + 56 * value
        drawn.rect(x, 128, 46, 28, "new" if good else "loss", 14)
        drawn.text(x, 128, "good" if good else "bad", 14, "new" if good else "loss", weight=600)
        drawn.text(x, 160, f"{value:+d}".replace("-", "−"), 14)
        drawn.text(x + 4 * value, 182, name, 13, "soft")
    drawn.line([(362, 90), (362, 150)], "new", True)
    drawn.text(362, 76, "0", 14, "new")
    drawn.text(362, 254, "all 4 are right", 14, "new")
    return drawn


# ------------------------------------------------------------------------------------------------- the study

def fusion(found: Mapping[str, Any]) -> Diagram:
    """The accuracy of each arm of the study ``affect``, a dot a seed, beside the best guess from what it
    reads."""
    arms = found["arms"]
    means = {name: sum(run["scores"]["accuracy"] for run in runs) / len(runs) for name, runs in arms.items()}
    drawn = Diagram(WIDE, 66 + 30 * len(arms), "Accuracy of four feelings. " + "; ".join(
        f"{name}: {means[name]:.2f}, best guess {found['best guess'][name]:.2f}" for name in arms) + ".")

    def at(share: Number) -> Number:
        return 176 + 240 * share

    bottom = 40 + 30 * len(arms)
    for share in (0, 0.25, 0.5, 0.75, 1):
        drawn.line([(at(share), 34), (at(share), bottom)], "frozen", True)
        drawn.text(at(share), bottom + 14, f"{share:g}", 13, "soft")
    drawn.text(at(0.5), 16, "accuracy; grey bar: best guess", 13, "soft")
    for i, (name, runs) in enumerate(arms.items()):
        y = 52 + 30 * i
        drawn.text(166, y, name.replace("all: ", ""), 13, anchor="end")
        drawn.bar(at(0), y, 240 * found["best guess"][name], 8, "frozen", ' fill-opacity="0.35"')
        for run in runs:
            drawn.rect(at(run["scores"]["accuracy"]), y, 9, 9, "new" if "all" in name else "block", 5)
        drawn.text(426, y, f"{means[name]:.2f}", 13, anchor="start")
    return drawn
