r"""Pseudo-sentences: what pictures show of a word, written into the text beside it, so that any text model
learns from both.

Paper: F. Hill and A. Korhonen (2014), *Learning Abstract Concept Embeddings from Multi-Modal Data: Since You
Probably Can't See What I Mean*, EMNLP, fig. 1.  Survey: beyond it; joint training (3.4) without another loss.
Differs from the paper: there, a word of the corpus that has perceptual features is followed by an update on a
pseudo-sentence of them, and a rate says how much of that there is; that a pseudo-sentence names word and
feature in turn, that features are drawn by their weights, and that the rate counts pseudo-sentences for an
occurrence is our reading, which we could not check.

The model is a skip-gram as it is (``mmlearn.images_for_language.skip_gram``): only its corpus changes. A word
without features stands in the text alone, and learns of pictures through the words around it.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmlearn.images_for_language.counts import sums

Features = Mapping[str, Mapping[str, float | int]]        # word -> feature -> weight


def feature_shares(weights: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    r"""eq:pseudo-share: $P(p\mid w)=\frac{a_{wp}}{\sum_{p'}a_{wp'}}$ for the weights $a_{wp}\ge0$ of the
    features p of word w."""
    return weights / weights.sum()


def expected_meetings(
    count: float | int, rate: float | int, pairs: int, share: float | int
) -> float:
    r"""eq:pseudo-meetings: $\#(w)\,\alpha\,m\,P(p\mid w)$: how often feature p is written beside w, of which
    the corpus has $\#(w)$, in $\alpha$ pseudo-sentences for each with m features."""
    return count * rate * pairs * share


def pseudo_sentence(
    word: str, features: Sequence[str], shares: Float[Tensor, " p"],
    pairs: int, generator: torch.Generator
) -> list[str]:
    """The word and a drawn feature in turn, ``pairs`` times: crocodile green crocodile teeth …"""
    drawn = torch.multinomial(shares, pairs, replacement=True,
                              generator=generator).tolist()
    return [part for number in drawn for part in (word, features[number])]


def with_pseudo_sentences(
    sentences: Sequence[Sequence[str]], features: Features, generator: torch.Generator,
    rate: float | int = 1.0, pairs: int = 5
) -> list[list[str]]:
    """The corpus with pseudo-sentences after the sentences whose words have features.

    For each occurrence there are ``rate`` of them: its whole part, and one more with the probability of the
    rest. Raises ``ValueError`` for a rate below 0, less than one pair, and a word whose features have no
    weight.
    """
    if not 0 <= rate < math.inf or pairs < 1:
        raise ValueError(f"rate is {rate} and pairs {pairs}; use a rate of 0 or more and at least 1 pair")
    known = {}
    for word, of in features.items():
        weights = torch.tensor(list(of.values()), dtype=torch.float64)
        if not len(weights) or not bool((weights >= 0).all()) or float(weights.sum()) <= 0:
            raise ValueError(f"the features of {word!r} have no weight; give weights of 0 and more, one of "
                             f"them above 0")
        known[word] = (list(of), feature_shares(weights))
    written = []
    for sentence in sentences:
        written.append(list(sentence))
        for word in sentence:
            if word in known:
                more = int(torch.rand((), generator=generator) < rate - math.floor(rate))
                for _ in range(math.floor(rate) + more):
                    written.append(pseudo_sentence(word, *known[word], pairs, generator))
    return written


def visual_features(
    words: Sequence[str], table: Float[Tensor, "w c"], most: int = 10, prefix: str = "seen"
) -> dict[str, dict[str, float]]:
    """The ``most`` heaviest columns of each word of a table of visual words as features, named "seen:17";
    words with an empty row have none."""
    if len(words) != len(table):
        raise ValueError(f"there are {len(words)} words and {len(table)} rows; give a row a word")
    found = {}
    for word, row, total in zip(words, table.to_dense(), sums(table, 1)):
        if total > 0:
            values, columns = row.topk(min(most, len(row)))
            found[word] = {f"{prefix}:{column}": float(value)
                           for value, column in zip(values, columns.tolist()) if value > 0}
    return found
