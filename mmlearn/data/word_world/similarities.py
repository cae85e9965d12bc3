r"""How alike two words of the word world are, known by construction: in what is written, in looks, in both.

Paper: E. Bruni, N.-K. Tran and M. Baroni (2014), *Multimodal distributional semantics*, JAIR 49, for pairs of
words as a test of vectors; F. Hill, R. Reichart and A. Korhonen (2015), *SimLex-999*, for relatedness and
similarity as two things.  Survey: 3.2, 3.3.
Differs from rated pairs: nobody was asked. *Relatedness* is what an endless corpus would tell; *visual*
similarity what the pictures are drawn from; *mixed* their mean, as a person who reads and sees might rate.

Relatedness is $r(a,b)=\cos(P_a,P_b)$ with $P_{wy}=\max\big(0,\log\frac{N_{wy}N}{N_wN_y}\big)$, where
$N_{wy}$ is how often $w$ and $y$ meet in a sentence on average (``grammar.expected_pairs``), $N_w$, $N_y$ and
$N$ are its sums, and $y$ goes over all words with content.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float64

from mmlearn.data.scenes.sample import Draws
from mmlearn.data.word_world.grammar import class_of, expected_pairs, word_ids, words
from mmlearn.data.word_world.lexicon import ABSTRACT, CONCRETENESS, NOUNS
from mmlearn.data.word_world.looks import visual_similarities, visual_similarity
from mmlearn.metrics.similarity import WordPairs

BINS = 10                               # of equal width over the scores; pairs are drawn evenly from them


@cache
def concreteness() -> Mapping[str, float]:
    """How concrete every word is, from 1 to 5: by its class (``CONCRETENESS``)."""
    return MappingProxyType({word: CONCRETENESS[class_of(word)] for word in words()})


@cache
def _company() -> Float64[np.ndarray, "v y"]:
    """The rows P_w, each of length one (or zero)."""
    content = [i for i, word in enumerate(words()) if class_of(word) != "function"]
    pairs = expected_pairs()[:, content]
    chance = pairs.sum(1, keepdims=True) * pairs.sum(0, keepdims=True) / pairs.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = np.where(pairs > 0, np.log(pairs / chance), 0.0).clip(0)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def relatedness_of(first: str, second: str) -> float:
    """How alike the company of two words is, between 0 and 1. Raises ``ValueError`` for an unknown word."""
    for word in (first, second):
        class_of(word)
    rows, ids = _company(), word_ids()
    return float(rows[ids[first]] @ rows[ids[second]])


def mixed_of(first: str, second: str) -> float:
    """The mean of relatedness and visual similarity of two nouns with pictures."""
    return (relatedness_of(first, second) + visual_similarity(first, second)) / 2


@cache
def _known() -> Mapping[str, Float64[np.ndarray, "n n"]]:
    """The three similarities of all nouns, abstract ones last (not a number where one has no picture)."""
    rows = _company()[[word_ids()[word] for word in (*NOUNS, *ABSTRACT)]]
    related = rows @ rows.T
    seen = np.full_like(related, np.nan)
    seen[:len(NOUNS), :len(NOUNS)] = visual_similarities()
    return MappingProxyType({"relatedness": related, "visual": seen, "mixed": (related + seen) / 2})


def _drawn(name: str, chosen_words: Sequence[str], count: int, seed: int) -> WordPairs:
    """``count`` pairs of the words, as evenly over the range of their scores as there are pairs."""
    place = {word: i for i, word in enumerate((*NOUNS, *ABSTRACT))}
    unknown = [word for word in chosen_words if word not in place or (name != "relatedness"
                                                                      and word not in NOUNS)]
    if unknown:
        raise ValueError(f"{unknown[0]!r} has no known {name} similarity; take words of NOUNS")
    numbers = np.array([place[word] for word in chosen_words], int)
    first, second = np.triu_indices(len(numbers), 1)
    if not 1 <= count <= len(first):
        raise ValueError(f"count is {count}; there are {len(first)} pairs, take 1 or more of them")
    candidates = [(chosen_words[i], chosen_words[j]) for i, j in zip(first.tolist(), second.tolist())]
    scores = _known()[name][numbers[first], numbers[second]]
    low, high = scores.min(), scores.max()
    bins: list[list[int]] = [[] for _ in range(BINS)]
    for i, place in enumerate(((scores - low) / max(high - low, 1e-12) * BINS).astype(int).clip(0, BINS - 1)):
        bins[place].append(i)
    draws = Draws(seed, 5)
    chosen: list[int] = []
    while len(chosen) < count:
        for options in bins:
            if options and len(chosen) < count:
                chosen.append(options.pop(draws.below(len(options))))
    chosen.sort()
    return WordPairs(tuple(candidates[i][0] for i in chosen), tuple(candidates[i][1] for i in chosen),
                     torch.tensor(scores[chosen]))


def relatedness(count: int = 2000, part: str = "all", seed: int = 0) -> WordPairs:
    """``count`` pairs of nouns with their relatedness; ``part``: of nouns with pictures ("concrete"), of
    abstract nouns, or of both kinds mixed ("all", which also pairs the one with the other).

    Raises ``ValueError`` for an unknown part and for more pairs than there are.
    """
    names = {"concrete": NOUNS, "abstract": ABSTRACT, "all": (*NOUNS, *ABSTRACT)}
    if part not in names:
        raise ValueError(f"part {part!r} is unknown; take 'all', 'concrete' or 'abstract'")
    return _drawn("relatedness", names[part], count, seed)


def visual(count: int = 2000, words: Sequence[str] = NOUNS, seed: int = 0) -> WordPairs:
    """``count`` pairs of nouns (of ``words``) with their visual similarity."""
    return _drawn("visual", words, count, seed)


def mixed(count: int = 2000, words: Sequence[str] = NOUNS, seed: int = 0) -> WordPairs:
    """``count`` pairs of nouns (of ``words``) with the mean of relatedness and visual similarity."""
    return _drawn("mixed", words, count, seed)
