"""ROUGE-L: the longest common subsequence of candidate and reference.

Paper: C.-Y. Lin (2004), *ROUGE: A Package for Automatic Evaluation of Summaries*, sec. 3.  Survey: none
(metrics).
Differs from the paper: as in the COCO caption evaluation, the best precision and the best recall may come
from different references, and an empty caption counts as one empty word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mmlearn.metrics.ngrams import Words, check_pairs

BETA = 1.2                      # beta, weight of recall


@dataclass(frozen=True)
class RougeResult:
    """ROUGE-L: ``corpus`` is the mean of ``per_image``."""

    corpus: float
    per_image: Float[np.ndarray, "i"]


def rouge_l(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> RougeResult:
    """eq:rouge-l: $F_\\beta$ of LCS precision and recall, each the best over the references; mean over
    images.

    Raises ``ValueError`` if the two lists differ in length, or a caption is a string.
    """
    check_pairs(candidates, references)
    scores = np.array([_score(c or ("",), [r or ("",) for r in refs]) for c,
                       refs in zip(candidates, references)])
    return RougeResult(float(scores.mean()), scores)


def _score(candidate: Words, references: Sequence[Words]) -> float:
    places = _places(candidate)
    common = [_lcs(places, len(candidate), reference) for reference in references]
    precision = max(common) / len(candidate)
    recall = max(length / len(reference) for length, reference in zip(common, references))
    if precision == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def lcs_table(a: Words, b: Words) -> Int[np.ndarray, "rows columns"]:
    """eq:lcs: entry (i, j) is the length for the first i words of ``a`` and the first j of ``b``; the plain
    way."""
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            if a[i - 1] == b[j - 1]:
                table[i, j] = table[i - 1, j - 1] + 1
            else:
                table[i, j] = max(table[i - 1, j], table[i, j - 1])
    return table


def lcs_length(a: Words, b: Words) -> int:
    """Length of the longest common subsequence of two captions."""
    return _lcs(_places(a), len(a), b)


def _places(words: Words) -> dict[str, int]:
    """For each word, an integer whose bit i says that it stands at place i."""
    places: dict[str, int] = {}
    for i, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << i
    return places


def _lcs(places: dict[str, int], length: int, other: Words) -> int:
    """LCS by Hyyrö's bit vectors: a whole row of the dynamic programme is one integer, its steps are the zero
    bits."""
    row = full = (1 << length) - 1
    for word in other:
        if word in places:
            steps = row & places[word]
            row = (row + steps) | (row - steps)
    return length - (row & full).bit_count()
