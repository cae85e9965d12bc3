"""What ViLBERT reads of a text: a true caption beside one in which a little is wrong.

Papers: T. Thrush et al. (2022), *Winoground*, CVPR, arXiv:2204.03162 (the same words in another order);
L. A. Hendricks and A. Nematzadeh (2021), *Probing Image-Language Transformers for Verb Understanding*,
arXiv:2106.09141 (one word exchanged).  Survey: 5.2.
Differs from the papers: captions of drawn scenes, of which it is known what is true.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from mmlearn.both_modalities.vilbert_training import RegionTexts, scores_of
from mmlearn.data.scenes import CATEGORIES, COLOURS
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.language import Dice
from mmlearn.data.tokenisers import WordTokeniser

NAMES = tuple(category.name for category in CATEGORIES)
SIDES = {"left": "right", "right": "left"}
KINDS = ("another thing", "another colour", "colours exchanged", "left and right exchanged")


def altered(text: str, scene: Scene, kind: str, dice: Dice) -> str | None:
    """The caption made wrong, in one of ``KINDS``; None where it cannot be.

    A new word is true of nothing in the scene. Colours are exchanged between things of two categories.
    """
    words = text.lower().rstrip(".").split()
    colours = [i for i, word in enumerate(words) if word.strip(",") in COLOURS]
    if kind == KINDS[0]:
        there = {o.category for o in scene.objects}
        places = [i for i, word in enumerate(words) if word.strip(",") in NAMES]
        return _with(words, places[:1], [dice.pick([n for n in NAMES if n not in there])])
    if kind == KINDS[1]:
        there = {o.colour for o in scene.objects}
        other = [colour for colour in COLOURS if colour not in there]
        return _with(words, colours[:1], [dice.pick(other)] if other else [])
    if kind == KINDS[2]:
        things = [words[i + 1].strip(",") for i in colours if i + 1 < len(words)]
        if len(colours) != 2 or len(things) != 2 or things[0] == things[1] or not set(things) <= {*NAMES}:
            return None
        first, second = (words[i] for i in colours)
        return _with(words, colours, [second, first]) if first != second else None
    sides = [i for i, word in enumerate(words) if word in SIDES]
    return _with(words, sides, [SIDES[words[i]] for i in sides])


def _with(words: Sequence[str], places: Sequence[int], new: Sequence[str]) -> str | None:
    """The words with new ones at these places; None where there are none."""
    if not places or not new:
        return None
    changed = list(words)
    for place, word in zip(places, new):
        changed[place] = word
    return " ".join(changed)


class Contest(NamedTuple):
    """A true caption and a wrong one of picture ``number``."""

    number: int
    true: str
    wrong: str


def contests(data: RegionTexts, kind: str) -> list[Contest]:
    """One for every drawn scene that has a caption which can be made wrong in this way."""
    found = []
    for number, (texts, scene) in enumerate(zip(data.captions, data.scenes)):
        dice = Dice("wrong captions", kind, number)
        for text in texts:
            if wrong := altered(text, scene, kind, dice):
                found.append(Contest(number, text, wrong))
                break
    return found


@torch.no_grad()
def won(
    model: nn.Module, data: RegionTexts, tokeniser: WordTokeniser, asked: Sequence[Contest]
) -> list[bool]:
    """Of each contest whether the true caption is the more probable one to belong to the picture."""
    seen = data.seen.rows(torch.tensor([one.number for one in asked]))
    margins = []
    for texts in ([one.true for one in asked], [one.wrong for one in asked]):
        pairs = scores_of(model, tokeniser.batch(texts), seen, tokeniser.pad)[2]
        margins.append(pairs[:, 0] - pairs[:, 1])
    return (margins[0] > margins[1]).tolist()
