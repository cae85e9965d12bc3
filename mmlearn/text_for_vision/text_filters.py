"""ALIGN's rules for throwing away some of the texts that the web writes under pictures.

Paper: C. Jia et al. (2021), *Scaling Up Visual and Vision-Language Representation Learning With Noisy Text
Supervision*, ICML 2021, arXiv:2102.05918, sec. 3 (the rules).  Survey: 4.3.
Differs from the paper: no filter for pornography; near-duplicates of test pictures are found by a small copy
of their pixels.

A rule returns a boolean for each text or picture, True = it may stay. Rules look at frequencies, lengths and
sizes only; none of them compares a text with its picture.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from mmlearn.data.pairs import PairData
from mmlearn.text_for_vision.overlap import nearest, pixel_embedding

# ------------------------------------------------------------------------------------------ rules about texts

def unigrams(text: str) -> list[str]:
    """The words of a text: lower case, cut at spaces, without punctuation at their ends."""
    words = (re.sub(r"^\W+|\W+$", "", word) for word in text.lower().split())
    return [word for word in words if word]


def grams(text: str) -> list[str]:
    """All unigrams and bigrams of a text, a bigram as two words with a space."""
    words = unigrams(text)
    return words + [f"{first} {second}" for first, second in zip(words, words[1:])]


def frequent_grams(texts: Sequence[str], size: int) -> frozenset[str]:
    """The ``size`` most frequent unigrams and bigrams, counted together (ties: in alphabetical order)."""
    counts = Counter(gram for text in texts for gram in grams(text))
    return frozenset(sorted(counts, key=lambda gram: (-counts[gram], gram))[:size])


def not_shared(
    texts: Sequence[str],
    pictures: Sequence[Hashable] | None = None,
    most: int = 10,
) -> Bool[Tensor, " n"]:
    """Texts that stand under at most ``most`` different pictures; ``pictures`` names that of each (default:
    all differ)."""
    names = range(len(texts)) if pictures is None else pictures
    if len(names) != len(texts):
        raise ValueError(
            f"{len(texts)} texts and {len(names)} pictures; "
            "name the picture of each text"
        )
    seen: dict[str, set[Hashable]] = defaultdict(set)
    for text, picture in zip(texts, names):
        seen[text].add(picture)
    return torch.tensor(
        [len(seen[text]) <= most for text in texts], dtype=torch.bool
    )


def without_rare(
    texts: Sequence[str], known: Collection[str]
) -> Bool[Tensor, " n"]:
    """Texts all of whose unigrams and bigrams are ``known`` (see ``frequent_grams``)."""
    return torch.tensor(
        [all(gram in known for gram in grams(text)) for text in texts],
        dtype=torch.bool,
    )


def right_length(
    texts: Sequence[str], least: int = 3, most: int = 20
) -> Bool[Tensor, " n"]:
    """Texts of ``least`` to ``most`` unigrams."""
    return torch.tensor(
        [least <= len(unigrams(text)) <= most for text in texts],
        dtype=torch.bool,
    )


@dataclass(frozen=True)
class TextRules:
    shared: int = 10                    # most pictures that may share a text
    vocabulary: int = 100_000_000       # unigrams and bigrams that count as known
    least: int = 3                      # unigrams of a text
    most: int = 20

    @classmethod
    def paper(cls) -> "TextRules":
        """For billions of texts (sec. 3)."""
        return cls()

    @classmethod
    def scenes(cls) -> "TextRules":
        """For thousands of texts in a language of some hundred words."""
        return cls(vocabulary=3_000)

    def apply(self, texts: Sequence[str], pictures: Sequence[Hashable]
              | None = None) -> dict[str, Bool[Tensor, " n"]]:
        """What each rule lets stay, "shared", "rare" and "length", and what passes "all". The vocabulary is
        that of ``texts``."""
        found = {"shared": not_shared(texts, pictures, self.shared),
                 "rare": without_rare(texts, frequent_grams(texts, self.vocabulary)),
                 "length": right_length(texts, self.least, self.most)}
        return {**found, "all": found["shared"] & found["rare"] & found["length"]}


# --------------------------------------------------------------------------------------- rules about pictures

def large_enough(sizes: Int[Tensor, "n 2"], side: int = 200) -> Bool[Tensor, " n"]:
    """Pictures whose shorter side is more than ``side`` pixels; ``sizes`` are heights and widths."""
    return sizes.amin(dim=1) > side


def not_elongated(sizes: Int[Tensor, "n 2"], ratio: float | int = 3.0) -> Bool[Tensor, " n"]:
    """Pictures whose longer side is less than ``ratio`` times the shorter one."""
    return sizes.amax(dim=1) < ratio * sizes.amin(dim=1)


def few_texts(pictures: Sequence[Hashable], texts: Sequence[str], most: int = 1000) -> Bool[Tensor, " n"]:
    """Pairs whose picture has at most ``most`` different texts: a logo or a button has one on every page."""
    if len(pictures) != len(texts):
        raise ValueError(f"{len(texts)} texts and {len(pictures)} pictures; name the picture of each text")
    seen: dict[Hashable, set[str]] = defaultdict(set)
    for picture, text in zip(pictures, texts):
        seen[picture].add(text)
    return torch.tensor([len(seen[picture]) <= most for picture in pictures], dtype=torch.bool)


def not_test_pictures(
    images: UInt8[Tensor, "n 3 s s"], test: UInt8[Tensor, "m 3 r r"], similarity: float = 0.95
) -> Bool[Tensor, " n"]:
    """Pictures whose small copy has a cosine below ``similarity`` with that of every test picture."""
    return nearest(pixel_embedding(images), pixel_embedding(test)).similarity < similarity


def filter_pairs(data: PairData, rules: TextRules) -> PairData:
    """Only the texts that pass all ``rules``, and only the pictures that have one left.

    Raises ``ValueError`` if nothing is left.
    """
    texts = [text for group in data.captions for text in group]
    owner = [i for i, group in enumerate(data.captions) for _ in group]
    stays = rules.apply(texts, owner)["all"].tolist()
    groups: list[list[str]] = [[] for _ in data.captions]
    for text, picture, good in zip(texts, owner, stays):
        if good:
            groups[picture].append(text)
    rows = [i for i, group in enumerate(groups) if group]
    if not rows:
        raise ValueError(f"no text of {len(texts)} passes {rules}; loosen the rules")
    return replace(data.rows(rows), captions=tuple(tuple(groups[i]) for i in rows))
