"""Texts as the web writes them under pictures, and ALIGN's rules for throwing some of them away.

Paper: C. Jia et al. (2021), *Scaling Up Visual and Vision-Language Representation Learning With Noisy Text Supervision*,
ICML 2021, arXiv:2102.05918, sec. 3 (the rules).  Survey: 4.3.
Differs from the paper: no filter for pornography; near-duplicates of test pictures are found by a small copy of their
pixels. The noise is ours: each text that is planted says what it is, so that a rule's errors can be counted.

A rule returns a boolean for each text or picture, True = it may stay. Rules look at frequencies, lengths and sizes only;
none of them compares a text with its picture.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from mmlearn.text_for_vision.overlap import nearest, pixel_embedding
from mmlearn.text_for_vision.task import PairData

# -------------------------------------------------------------------------------------------------- rules about texts


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
    texts: Sequence[str], pictures: Sequence[Hashable] | None = None, most: int = 10
) -> Bool[Tensor, " n"]:
    """Texts that stand under at most ``most`` different pictures; ``pictures`` names that of each (default: all differ)."""
    names = range(len(texts)) if pictures is None else pictures
    if len(names) != len(texts):
        raise ValueError(f"{len(texts)} texts and {len(names)} pictures; name the picture of each text")
    seen: dict[str, set[Hashable]] = defaultdict(set)
    for text, picture in zip(texts, names):
        seen[text].add(picture)
    return torch.tensor([len(seen[text]) <= most for text in texts], dtype=torch.bool)


def without_rare(texts: Sequence[str], known: Collection[str]) -> Bool[Tensor, " n"]:
    """Texts all of whose unigrams and bigrams are ``known`` (see ``frequent_grams``)."""
    return torch.tensor([all(gram in known for gram in grams(text)) for text in texts], dtype=torch.bool)


def right_length(texts: Sequence[str], least: int = 3, most: int = 20) -> Bool[Tensor, " n"]:
    """Texts of ``least`` to ``most`` unigrams."""
    return torch.tensor([least <= len(unigrams(text)) <= most for text in texts], dtype=torch.bool)


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

    def apply(self, texts: Sequence[str], pictures: Sequence[Hashable] | None = None) -> dict[str, Bool[Tensor, " n"]]:
        """What each rule lets stay, "shared", "rare" and "length", and what passes "all". The vocabulary is that of ``texts``."""
        found = {"shared": not_shared(texts, pictures, self.shared),
                 "rare": without_rare(texts, frequent_grams(texts, self.vocabulary)),
                 "length": right_length(texts, self.least, self.most)}
        return {**found, "all": found["shared"] & found["rare"] & found["length"]}


# ----------------------------------------------------------------------------------------------- rules about pictures

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


# ------------------------------------------------------------------------------------------------------- the noise

ADVERTS = ("click here to buy now", "free shipping on all orders", "best price online shop", "add to cart",
           "see more offers like this", "sign up for our newsletter")
STOCK = ("image for illustration purposes only", "no description available", "photo loading please wait",
         "picture may contain outdoor things", "thumbnail of the next page")
WORDS = ("beautiful", "wallpaper", "love", "summer", "new", "home", "nice", "art", "photo", "best", "free", "hd", "gift", "kids",
         "design", "print", "travel", "family", "nature", "party", "blog", "winter", "cheap", "style", "fun", "ideas")
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _letters(rng: np.random.Generator, count: int) -> str:
    return "".join(rng.choice(LETTERS, count))


def file_name(rng: np.random.Generator) -> str:
    """Such as IMG_4821.jpg."""
    return f"{_pick(rng, ('IMG_', 'DSC0', 'image', 'scan-'))}{rng.integers(10_000):04d}.{_pick(rng, ('jpg', 'JPG', 'png', 'gif'))}"


def code(rng: np.random.Generator) -> str:
    """Such as: item no 48210 ref qxkvb tid 25."""
    return f"item no {rng.integers(100_000)} ref {_letters(rng, 5)} tid {rng.integers(100)}"


def date(rng: np.random.Generator) -> str:
    """Such as 2019-03-14 or 14 march 2019."""
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(12)), int(rng.integers(1998, 2021))
    return f"{year}-{month + 1:02d}-{day:02d}" if rng.random() < 0.5 else f"{day} {MONTHS[month]} {year}"


def keywords(rng: np.random.Generator) -> str:
    """Search words in a row, 21 to 40 of them."""
    return ", ".join(_pick(rng, WORDS) for _ in range(int(rng.integers(21, 41))))


JUNK: dict[str, Callable[[np.random.Generator], str]] = {
    "file name": file_name, "code": code, "date": date, "one word": lambda rng: _pick(rng, WORDS),
    "advert": lambda rng: _pick(rng, ADVERTS), "stock phrase": lambda rng: _pick(rng, STOCK), "keywords": keywords}
SHARES = {"shuffled": 0.2, **{kind: 0.03 for kind in JUNK}}         # of all texts; the rest is clean


@dataclass(frozen=True)
class NoisyTexts:
    """Texts, one a picture, and what each is: "clean", "shuffled" (of another picture), or a kind of ``JUNK``."""

    texts: tuple[str, ...]
    kinds: tuple[str, ...]

    def are(self, *kinds: str) -> Bool[Tensor, " n"]:
        """True for texts of these kinds."""
        return torch.tensor([kind in kinds for kind in self.kinds], dtype=torch.bool)


def plan(count: int, shares: Mapping[str, float | int], rng: np.random.Generator) -> list[str]:
    """What each of ``count`` texts is to be: exactly these shares, rounded, in random places. Raises ``ValueError`` for an
    unknown kind and for shares that are negative or sum to more than 1."""
    unknown = sorted(set(shares) - {"shuffled", *JUNK})
    if unknown or min(shares.values(), default=0) < 0 or math.fsum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"shares are {dict(shares)}; give fractions of 0 or more that sum to at most 1, of shuffled, {', '.join(JUNK)}")
    kinds = ["clean"] * count
    order, start = rng.permutation(count), 0
    for kind, share in shares.items():
        stop = min(count, start + round(share * count))
        for place in order[start:stop]:
            kinds[int(place)] = kind
        start = stop
    return kinds


def web_texts(captions: Sequence[str], shares: Mapping[str, float | int] = SHARES, seed: int = 0) -> NoisyTexts:
    """``captions``, a share of them exchanged in a circle ("shuffled") and others replaced by junk; a function of ``seed``."""
    rng = np.random.default_rng(seed)
    kinds = plan(len(captions), shares, rng)
    moved = [i for i, kind in enumerate(kinds) if kind == "shuffled"]
    source = dict(zip(moved, moved[1:] + moved[:1]))
    texts = [JUNK[kind](rng) if kind in JUNK else captions[source.get(i, i)] for i, kind in enumerate(kinds)]
    return NoisyTexts(tuple(texts), tuple(kinds))


def removed_by_kind(noisy: NoisyTexts, kept: Mapping[str, Bool[Tensor, " n"]]) -> dict[str, dict[str, float]]:
    """For each rule and each kind of text, the fraction that the rule removes."""
    return {rule: {kind: float((~stays[noisy.are(kind)]).double().mean()) for kind in dict.fromkeys(noisy.kinds)}
            for rule, stays in kept.items()}


# ------------------------------------------------------------------------------------------------------ data sets

@dataclass(frozen=True)
class NoisyPairs:
    """A data set whose texts are partly noise; ``kinds`` says of which kind the texts of each picture are."""

    data: PairData
    kinds: tuple[str, ...] = field(repr=False)


def noisy_pairs(data: PairData, shares: Mapping[str, float | int] = SHARES, seed: int = 0) -> NoisyPairs:
    """The pictures of ``data``: some with all captions of another picture, some with one piece of junk instead of theirs."""
    noisy = web_texts([str(i) for i in range(len(data))], shares, seed)
    captions = tuple((text,) if kind in JUNK else data.captions[int(text)] for text, kind in zip(noisy.texts, noisy.kinds))
    return NoisyPairs(replace(data, captions=captions), noisy.kinds)


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
