"""BLEU: how many n-grams of the candidate stand in its references, counted over the whole corpus.

Paper: K. Papineni et al. (2002), *BLEU: a Method for Automatic Evaluation of Machine Translation*, sec. 2.
Survey: none (the metrics of the captioning literature).
Differs from the paper: reference length and the two small constants are those of the COCO caption evaluation
(Chen et al. 2015, arXiv:1504.00325), so that the numbers are the published ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mmlearn.metrics.ngrams import ORDERS, Match, NgramIndex, Words, check_pairs

TINY, SMALL = 1e-15, 1e-9     # added to numerators and denominators by the official code: no division by zero


@dataclass(frozen=True)
class BleuResult:
    """BLEU-1 … BLEU-4 of a corpus and of each of its images, with the counts they come from."""

    corpus: Float[np.ndarray, "4"]          # BLEU-1, -2, -3, -4; not the mean of the images
    per_image: Float[np.ndarray, "i 4"]
    correct: Int[np.ndarray, "i 4"]         # clipped matches of each order
    guess: Int[np.ndarray, "i 4"]           # n-grams in the candidate
    candidate_length: Int[np.ndarray, "i"]  # words
    reference_length: Int[np.ndarray, "i"]  # words of the reference closest in length


def bleu_precision(
    correct: Int[np.ndarray, "*i 4"], guess: Int[np.ndarray, "*i 4"]
) -> Float[np.ndarray, "*i 4"]:
    r"""eq:bleu-precision: $p_n$, clipped matches over n-grams of the candidates, $n = 1 \dots 4$."""
    return (correct + TINY) / (guess + SMALL)


def bleu_from_counts(
    correct: Int[np.ndarray, "*i 4"], guess: Int[np.ndarray, "*i 4"],
    candidate_length: Int[np.ndarray, "*i"],
    reference_length: Int[np.ndarray, "*i"],
) -> Float[np.ndarray, "*i 4"]:
    r"""eq:bleu: $\mathrm{BP}\,(\prod_{n \le N} p_n)^{1/N}$ for $N = 1 \dots 4$."""
    products = np.cumprod(bleu_precision(correct, guess), axis=-1)
    mean = products ** (1 / np.array(ORDERS))
    ratio = np.asarray(candidate_length) + TINY
    ratio = ratio / (np.asarray(reference_length) + SMALL)
    penalty = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)
    return mean * penalty[..., None]


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> BleuResult:
    """BLEU of tokenised ``candidates``, each against its list of tokenised references (eq:bleu).

    Raises ``ValueError`` if the two lists differ in length, or a caption is a string.
    """
    check_pairs(candidates, references)
    index = NgramIndex(references)
    return bleu_from_matches(index, *index.match(candidates, np.arange(len(references))))


def bleu_from_matches(index: NgramIndex, lengths: Int[np.ndarray, "i"], matches: list[Match]) -> BleuResult:
    """BLEU of candidates that were already matched, candidate i against image i."""
    images = np.arange(len(lengths))
    correct = np.stack([_clipped(match, len(lengths)) for match in matches], axis=-1)
    guess = np.maximum(0, lengths[:, None] - np.array(ORDERS) + 1)
    pair, reference = index.pairs(images)
    closest = _closest(lengths, pair, index.lengths[reference])
    totals = (correct.sum(0), guess.sum(0), np.asarray(lengths.sum()), np.asarray(closest.sum()))
    return BleuResult(bleu_from_counts(*totals), bleu_from_counts(correct, guess, lengths, closest),
                      correct, guess, lengths, closest)


def _clipped(match: Match, size: int) -> Int[np.ndarray, "i"]:
    """For each candidate: its n-grams, each counted at most as often as the reference that has it most."""
    most = np.zeros(len(match.count), dtype=np.int64)
    present = match.hit >= 0
    np.maximum.at(most, match.hit[present], match.ref_count[present])
    matched = np.bincount(match.owner, weights=np.minimum(most, match.count), minlength=size)
    return matched.astype(np.int64)


def _closest(lengths: np.ndarray, pair: np.ndarray, reference: np.ndarray) -> Int[np.ndarray, "i"]:
    """Length of the reference closest in length to each candidate; of two as close, the shorter."""
    order = np.lexsort((reference, np.abs(reference - lengths[pair]), pair))
    first = np.searchsorted(pair[order], np.arange(len(lengths)))
    return reference[order][first]
