"""Overlap: test pictures that a model may have seen in training, and what they do to its accuracy.

Paper: A. Radford et al. (2021), arXiv:2103.00020, sec. 5 and app. C (near-duplicates of test pictures in the
training data; accuracy on All, Overlap and Clean; a one-sided binomial test and 99.5 % Clopper-Pearson
intervals); C. Clopper and E. Pearson (1934), Biometrika 26, 404-413.  Survey: 4.2.1.
Differs from the paper: pictures are compared by the edges of a small copy, not by a network trained for the
purpose.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

# Table of sec. 5, fig. 17 and app. C: of 35 data sets, how much overlaps and how far accuracy moves, in
# percent (points).
PAPER = {"data sets": 35, "without overlap": 9, "median overlap": 2.2, "mean overlap": 3.2,
         "moved by more than 0.1": 7, "largest gain": ("Birdsnap", 12.1, 0.6),
         "largest overlap": ("Country211", 21.5, 0.2)}


def pixel_embedding(images: UInt8[Tensor, "n 3 y x"], side: int = 16) -> Float[Tensor, "n e"]:
    """Unit vectors of e = 6 (side - 1)^2 numbers: the picture shrunk to ``side`` pixels, each minus its
    neighbours.

    The differences, to the left and above, keep the edges and leave out brightness; a length of 1 leaves out
    contrast; shrinking evens out a new size, mild noise and compression. Another picture with the same things
    in it is far away: this asks whether two files show the same picture, not the same content.
    """
    small = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
    here = small[..., 1:, 1:]
    return F.normalize(torch.cat([here - small[..., 1:, :-1], here - small[..., :-1, 1:]], dim=1).flatten(1),
                       dim=1)


class Nearest(NamedTuple):
    """For each test picture the training picture most like it, and their cosine."""

    which: Int64[Tensor, " m"]
    similarity: Float[Tensor, " m"]


def nearest(test: Float[Tensor, "m e"], train: Float[Tensor, "n e"], *, chunk: int = 4096) -> Nearest:
    """The closest row of ``train`` for each row of ``test``, both of length 1; memory is that of ``chunk``
    rows squared."""
    if not len(train):
        raise ValueError("there are no training pictures to compare with; give at least 1")
    which, similarity = [], []
    for rows in test.split(chunk):
        best = torch.full((len(rows),), -math.inf, dtype=test.dtype, device=test.device)
        at = torch.zeros(len(rows), dtype=torch.long, device=test.device)
        for i, part in enumerate(train.split(chunk)):
            value, place = (rows @ part.T).max(dim=1)
            better = value > best
            best, at = torch.where(better, value, best), torch.where(better, place + i * chunk, at)
        which.append(at)
        similarity.append(best)
    return Nearest(torch.cat(which), torch.cat(similarity))


def precision_recall(flagged: Bool[Tensor, " m"], planted: Bool[Tensor, " m"]) -> tuple[float, float]:
    """Of the flagged ones, the fraction that are duplicates; of the duplicates, the fraction flagged (1 where
    none is)."""
    both, said, true = (int(group.sum()) for group in (flagged & planted, flagged, planted))
    return both / said if said else 1.0, both / true if true else 1.0


# ------------------------------------------------------------------------------------------------ how certain

def binomial_tail(successes: int, trials: int, p: float) -> float:
    r"""eq:binomial-tail: $P(X\ge k)=\sum_{j=k}^n\binom nj p^j(1-p)^{n-j}$ for $X$ of $n$ trials with
    probability $p$.

    As a p-value: how likely a subset would do this well if its accuracy were ``p``. Raises ``ValueError``
    unless
    0 <= successes <= trials and 0 <= p <= 1.
    """
    if not (0 <= successes <= trials and 0 <= p <= 1):
        raise ValueError(
            f"{successes} successes of {trials} trials with probability {p}; "
            "give 0 <= successes <= trials, 0 <= p <= 1"
        )
    if successes == 0 or p in (0.0, 1.0):
        return float(successes == 0 or p == 1)
    j = torch.arange(successes, trials + 1, dtype=torch.float64)
    n = torch.tensor(float(trials), dtype=torch.float64)
    choices = (torch.lgamma(n + 1) - torch.lgamma(j + 1)
               - torch.lgamma(n - j + 1))
    log_terms = choices + j * math.log(p) + (n - j) * math.log1p(-p)
    return min(1.0, float(log_terms.logsumexp(0).exp()))


def clopper_pearson(successes: int, trials: int, confidence: float = 0.995) -> tuple[float, float]:
    r"""eq:clopper-pearson: all $p$ with $P_p(X\ge k)\ge\frac\alpha2$ and $P_p(X\le k)\ge\frac\alpha2$,
    $\alpha=1-$ ``confidence``.

    The interval for the accuracy of which ``successes`` of ``trials`` were seen; "exact", because it holds
    the true value at least as often as it says, however few trials there are. (0, 1) for no trials.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a number between 0 and 1, such as 0.995")
    if not trials:
        return 0.0, 1.0
    half = (1 - confidence) / 2
    # The tail P(X >= k) grows with p: the lower end is where it reaches half, the upper one where P(X <= k)
    # falls to it.
    low = 0.0 if successes == 0 else _root(lambda p: binomial_tail(successes, trials, p) - half)
    high = (
        1.0 if successes == trials else _root(lambda p: binomial_tail(successes + 1, trials, p) - (1 - half))
    )
    return low, high


def _root(growing: Callable[[float], float]) -> float:
    """Where a growing function on [0, 1] crosses zero, by halving."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if growing(middle) >= 0 else (middle, high)
    return (low + high) / 2


@dataclass(frozen=True)
class OverlapReport:
    """Accuracies on all test pictures, on those that overlap with the training data, and on the clean rest.

    ``gain`` is All minus Clean, the estimate of how much the overlap inflates the accuracy; ``p_value`` the
    probability of doing as well on Overlap if the accuracy there were that on Clean; ``interval`` the 99.5 %
    Clopper-Pearson interval of the accuracy on Overlap. nan where a set is empty.
    """

    fraction: float
    all: float
    overlap: float
    clean: float
    p_value: float
    interval: tuple[float, float]

    @property
    def gain(self) -> float:
        return self.all - self.clean


def overlap_report(correct: Bool[Tensor, " m"], flagged: Bool[Tensor, " m"]) -> OverlapReport:
    """The paper's analysis of one test set: which answers were ``correct``, which pictures are ``flagged`` as
    overlap."""
    if not len(correct):
        raise ValueError("there are no answers to analyse; give at least 1")
    overlap, clean = correct[flagged], correct[~flagged]
    on_all, on_overlap, on_clean = (float(part.double().mean()) if len(part) else math.nan
                                    for part in (correct, overlap, clean))
    hits = int(overlap.sum())
    p_value = binomial_tail(hits, len(overlap), on_clean) if len(overlap) and len(clean) else math.nan
    return OverlapReport(float(flagged.double().mean()), on_all, on_overlap, on_clean, p_value,
                         clopper_pearson(hits, len(overlap)))
