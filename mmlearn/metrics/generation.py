"""Metrics of generated pictures: Inception Score, all measures of two sets of features at once, and how
certain they are.

Papers: T. Salimans et al. (2016), *Improved Techniques for Training GANs*, arXiv:1606.03498, sec. 4
(Inception Score); B. Efron (1979), *Bootstrap Methods: Another Look at the Jackknife* (intervals).
Survey: 2.1.
Differs from the papers: nothing. Every number is a property of the network that the features come from: a
``Score`` names it, and scores of two networks cannot be compared.

The Frechet distance stands in ``metrics.frechet``, kernel distance, precision and recall in
``metrics.manifolds``, what concerns the sentences in ``metrics.text_match``.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.metrics.frechet import GaussianStatistics, frechet_distance
from mmlearn.metrics.manifolds import kernel_distance, precision_recall
from mmlearn.metrics.text_match import attribute_hits, cosines, r_precision


@runtime_checkable
class Network(Protocol):
    """What features come from: pictures (b, 3, y, x) in [-1, 1] -> features (b, ``num_features``)."""

    name: str
    num_features: int

    def __call__(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Score:
    """One number about generated pictures, and what it rests on.

    ``network`` names the network whose features or answers were used, ``pictures`` counts generated ones,
    ``real`` those they were compared with (0: none). ``low`` and ``high`` bound it where that was asked for.
    """

    name: str
    value: float
    network: str
    pictures: int
    real: int = 0
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        within = "" if self.low is None or self.high is None else f" [{self.low:.4g}, {self.high:.4g}]"
        against = f" against {self.real:,}" if self.real else ""
        return f"{self.name} {self.value:.4g}{within} ({self.network}; {self.pictures:,} pictures{against})"


@torch.no_grad()
def features_of(network: Network, images: Iterable[Tensor]) -> Float[Tensor, "n d"]:
    """Features (n, d) of pictures that come in batches (b, 3, y, x), in [-1, 1]. Raises ``ValueError`` if
    none comes."""
    found = [network(batch) for batch in images]
    if not found:
        raise ValueError("no pictures came; give at least one batch")
    return torch.cat(found)


class InceptionScore(NamedTuple):
    """Mean over splits, and their standard deviation (divided by their number, as in the original code)."""

    mean: float
    std: float


def conditional_information(
    log_probs: Float[Tensor, "n c"]
) -> Float[Tensor, ""]:
    r"""eq:inception-information: $\log\mathrm{IS}=H(y)-\mathbb E_xH(y\mid x)=I(x;y)$, the mutual information
    of picture and class in nats, between 0 and $\log c$."""
    probs = log_probs.exp()
    marginal = probs.mean(dim=0)
    def entropy(p: Tensor) -> Tensor:
        return -torch.xlogy(p, p).sum(dim=-1)

    return entropy(marginal) - entropy(probs).mean()


def inception_score(logits: Float[Tensor, "n c"], splits: int = 10) -> InceptionScore:
    r"""eq:inception-score: $\mathrm{IS}=\exp\mathbb E_{x\sim p_g}\mathrm{KL}\big(p(y\mid x)\,\|\,p(y)\big)$,
    $p(y)=\mathbb E_xp(y\mid x)$, computed as the exponential of eq:inception-information.

    ``logits`` are a classifier's for generated pictures alone: no real picture is needed, and no sentence.
    Splits are consecutive and as equal as can be; shuffle pictures that come in an order. Raises
    ``ValueError`` for fewer pictures than splits.
    """
    if not 1 <= splits <= len(logits):
        raise ValueError(f"{len(logits)} pictures cannot be split into {splits}; give from 1 to "
                         f"{len(logits)} splits")
    log_probs = logits.double().log_softmax(dim=1)
    scores = torch.stack([conditional_information(part).exp() for part in log_probs.tensor_split(splits)])
    return InceptionScore(float(scores.mean()), float(scores.std(correction=0)))


# -------------------------------------------------------------------------------------------------- intervals


class Interval(NamedTuple):
    """A value and an interval around it."""

    value: float
    low: float
    high: float


def resamples(count: int, repeats: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """``repeats`` times as many numbers below ``count`` as there are, drawn with replacement."""
    for _ in range(repeats):
        yield torch.randint(count, (count,), generator=generator)


def bootstrap(
    metric: Callable[[Tensor], float], count: int, repeats: int = 200, level: float = 0.95,
    generator: torch.Generator | None = None,
) -> Interval:
    """The percentile interval of a metric that is a mean over pictures (accuracy, R-precision, CLIP score).

    ``metric`` gets numbers of pictures, a tensor of indices below ``count``. Not for distances of sets
    (Frechet, kernel, precision): a picture drawn twice makes a set poorer than it is; take ``subsets``.
    Raises ``ValueError`` for fewer than two pictures or a level outside (0, 1).
    """
    if count < 2 or not 0 < level < 1:
        raise ValueError(f"{count} pictures at level {level}; give 2 pictures or more, and a level between 0 "
                         f"and 1")
    values = torch.tensor([metric(indices) for indices in resamples(count, repeats, generator)],
                          dtype=torch.float64)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = values.quantile(ends).tolist()
    return Interval(metric(torch.arange(count)), low, high)


def subsets(
    metric: Callable[[Tensor], float], count: int, size: int, repeats: int = 20, level: float = 0.95,
    generator: torch.Generator | None = None,
) -> Interval:
    r"""eq:subset-interval: $\bar m_b\pm z\,s_b\sqrt{b/n}$: a metric's mean over random subsets of $b$ of $n$
    pictures, its deviation $s_b$ there brought to $n$ pictures.

    The value is that of ``size`` pictures, with the bias of so many. Raises ``ValueError`` for a size that is
    not between 2 and half of ``count``, where subsets overlap too much to tell anything, and for a level
    outside (0, 1).
    """
    if not 2 <= size <= count / 2 or not 0 < level < 1:
        raise ValueError(f"subsets of {size} of {count} pictures at level {level}; give a size from 2 to "
                         f"{count // 2}, and a level between 0 and 1")
    values = torch.tensor([metric(torch.randperm(count, generator=generator)[:size])
                           for _ in range(repeats)], dtype=torch.float64)
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
    mean = float(values.mean())
    half = z * float(values.std()) * math.sqrt(size / count)
    return Interval(mean, mean - half, mean + half)


# ----------------------------------------------------------------------------------------------- all together


def compare(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], network: str, *,
    logits: Float[Tensor, "m c"] | None = None, splits: int = 10, block: int = 1000, k: int = 3,
    generator: torch.Generator | None = None,
) -> dict[str, Score]:
    """Frechet distance, kernel distance, precision and recall of generated pictures against real ones, from
    the features of one network; and the Inception Score, if its ``logits`` of the generated ones are given.

    Kernel distance and Inception Score have low and high one standard deviation of their blocks and splits
    away, where there are several. Blocks are no larger than the smaller set. Raises ``ValueError`` as the
    metrics themselves do.
    """
    def score(name: str, value: float, std: float | None = None, against: int = len(real)) -> Score:
        low, high = (value - std, value + std) if std else (None, None)
        return Score(name, value, network, len(fake), against, low, high)

    size = min(block, len(real), len(fake))
    kernel = kernel_distance(real, fake, size=size, generator=generator)
    if size == len(real) == len(fake):                          # all blocks are the whole sets
        kernel = kernel._replace(std=0.0)
    shares = precision_recall(real, fake, k)
    scores = [
        score("Frechet distance", frechet_distance(GaussianStatistics.of(real), GaussianStatistics.of(fake))),
        score("kernel distance", *kernel),
        score("precision", shares.precision), score("recall", shares.recall),
    ]
    if logits is not None:
        scores.append(score("Inception Score", *inception_score(logits, splits), against=0))
    return {found.name: found for found in scores}


def match_scores(
    pictures: Float[Tensor, "n e"], sentences: Float[Tensor, "m f"], network: str, *,
    classes: Int[Tensor, " k"] | None = None, candidates: int = 99, repeats: int = 200,
    generator: torch.Generator | None = None,
) -> dict[str, Score]:
    """R-precision and CLIP score (eq:clip-score) of pictures and the sentences they were made from, with
    bootstrap intervals.

    Embeddings are those of the encoder ``network``; see ``text_match.r_precision`` for the other arguments.
    """
    n = len(pictures)
    hits = r_precision(pictures, sentences, classes, candidates=candidates, folds=1, generator=generator).hits
    values = {"R-precision": hits.double(), "CLIP score": 2.5 * cosines(pictures, sentences).clamp(min=0)}
    return {name: _of_mean(name, value.cpu(), network, n, repeats, generator)
            for name, value in values.items()}


def attribute_scores(
    answers: Mapping[str, Int[Tensor, " n"]], wanted: Mapping[str, Int[Tensor, " m"]], network: str,
    repeats: int = 200, generator: torch.Generator | None = None,
) -> dict[str, Score]:
    """Accuracy of each attribute, and of "all" that a sentence says, with bootstrap intervals; see
    ``text_match.attribute_accuracy``.

    ``pictures`` of a score counts those whose sentence says the attribute.
    """
    return {name: _of_mean(name, hits.double().cpu(), network, len(hits), repeats, generator)
            for name, hits in attribute_hits(answers, wanted).items()}


def _of_mean(name: str, values: Tensor, network: str, pictures: int, repeats: int,
             generator: torch.Generator | None) -> Score:
    """The mean of a value of each picture, and its bootstrap interval where there are two or more."""
    if len(values) < 2:
        return Score(name, float(values.mean()), network, pictures)
    found = bootstrap(lambda indices: float(values[indices].mean()), len(values), repeats,
                      generator=generator)
    return Score(name, found.value, network, pictures, low=found.low, high=found.high)
