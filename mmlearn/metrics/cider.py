"""CIDEr and CIDEr-D: n-grams weighted by how rare they are over the images.

Paper: R. Vedantam et al. (2015), *CIDEr: Consensus-based Image Description Evaluation*, arXiv:1411.5726, sec.
3, 6.
Survey: none (metrics); the reward of self-critical training.
Differs from the paper: in CIDEr-D the term frequency is the raw count and the length is counted in bigrams,
as in the official code, because under the clip a division by the caption's length would change the score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import snowballstemmer
from jaxtyping import Float

from mmlearn.metrics.ngrams import Match, NgramIndex, Words, check_pairs, check_words

SIGMA = 6.0                     # sigma, words; width of the length penalty


@dataclass(frozen=True)
class CiderResult:
    """CIDEr or CIDEr-D: ``corpus`` is the mean of ``per_image``, whose mean over n is taken of
    ``per_order``."""

    corpus: float
    per_image: Float[np.ndarray, "i"]
    per_order: Float[np.ndarray, "i 4"]


class CiderD:
    """CIDEr-D against fixed references (eq:cider-tfidf, eq:cider-d); fast enough to be a reward.

    ``references[i]`` are the tokenised captions of image i; document frequencies are counted once, over
    images, or with ``documents="caption"`` over single captions (as in M2's self-critical training).
    ``clip=False`` and ``sigma=inf`` leave out one of the two ideas that CIDEr-D adds to CIDEr. A reward that
    should see the end of a caption gets the end token as a word, in references and candidates. Scores lie
    between 0 and 10.
    Raises ``ValueError`` for an image without references.
    """

    def __init__(
        self, references: Sequence[Sequence[Words]], *, documents: str = "image",
        clip: bool = True, sigma: float = SIGMA,
    ) -> None:
        self.index = NgramIndex(references, documents)
        self.clip, self.sigma = clip, sigma
        top = np.log(float(self.index.num_documents))
        self.weights = [np.append(top - np.log(np.maximum(1.0, order.frequency)), top)
                        for order in self.index.orders]
        self.norms = [np.sqrt(np.bincount(np.repeat(np.arange(len(self.index.lengths)), np.diff(order.first)),
                                          (order.count * weight[order.gram]) ** 2, len(self.index.lengths)))
                      for order, weight in zip(self.index.orders, self.weights)]

    def __call__(self, candidates: Sequence[Words],
                 images: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """CIDEr-D of each candidate, (c,): a reward."""
        return self.score(candidates, images).per_image

    def score(self, candidates: Sequence[Words],
              images: Sequence[int] | np.ndarray | None = None) -> CiderResult:
        """CIDEr-D of tokenised ``candidates``; candidate i belongs to image ``images[i]`` (default: to image
        i).

        Raises ``ValueError`` if there is not one image for each candidate, or no such image.
        """
        count = len(self.index.per_image)
        at = np.arange(len(candidates)) if images is None else np.asarray(images, dtype=np.int64)
        if len(at) != len(candidates) or (images is None and len(at) != count):
            raise ValueError(f"{len(candidates)} candidates for {count if images is None else len(at)} "
                             f"images; "
                             "give one image each")
        if len(at) and (at.min() < 0 or at.max() >= count):
            raise ValueError(f"images go from 0 to {count - 1}, got {at.min()} to {at.max()}")
        check_words(candidates)
        lengths, matches = self.index.match(candidates, at)
        return self.from_matches(at, lengths, matches)

    def from_matches(self, images: np.ndarray, lengths: np.ndarray, matches: list[Match]) -> CiderResult:
        """CIDEr-D of candidates that were already matched against ``self.index``."""
        candidate, reference = self.index.pairs(images)
        bigrams = np.maximum(0, lengths - 1)[candidate] - np.maximum(0, self.index.lengths - 1)[reference]
        penalty = np.exp(-bigrams.astype(float) ** 2 / (2 * self.sigma**2))
        columns = []
        for match, weight, norms in zip(matches, self.weights, self.norms):
            dots, own = weighted_dots(match, weight, len(reference), len(lengths), self.clip)
            cosines = _divide(dots, own[candidate] * norms[reference]) * penalty
            columns.append(10 * np.bincount(candidate, cosines, len(lengths)) / self.index.per_image[images])
        per_order = np.stack(columns, axis=-1)
        per_image = per_order.mean(-1)
        return CiderResult(float(per_image.mean()) if len(per_image) else 0.0, per_image, per_order)


def weighted_dots(
    match: Match,
    weight: Float[np.ndarray, "w"],
    pairs: int,
    candidates: int,
    clip: bool,
) -> tuple[Float[np.ndarray, "p"], Float[np.ndarray, "c"]]:
    r"""eq:cider-tfidf: $\min(g(c), g(s)) \cdot g(s)$ (or $g(c) \cdot g(s)$) of each pair, and $\|g(c)\|$."""
    unseen = len(weight) - 1             # an n-gram in no reference: df = 1
    g_c = match.count * weight[np.minimum(match.gram, unseen)]
    norms = np.sqrt(np.bincount(match.owner, g_c**2, candidates))
    present = match.hit >= 0
    g_s = match.ref_count[present] * weight[match.ref_gram[present]]
    g_c = g_c[match.hit[present]]
    products = (np.minimum(g_c, g_s) if clip else g_c) * g_s
    dots = np.bincount(match.ref_pair[present], products, pairs)
    return dots.astype(float), norms     # of nothing, bincount makes integers


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b is 0 (then a is 0 too)."""
    return np.divide(a, b, out=np.zeros(len(a)), where=b > 0)


def cider_d(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> CiderResult:
    """eq:cider-d: CIDEr-D of tokenised candidates, document frequencies from the same references.

    It is the number that COCO evaluation prints as "CIDEr". Raises ``ValueError`` if the lists differ in
    length.
    """
    check_pairs(candidates, references)
    return CiderD(references).score(candidates)


def cider(candidates: Sequence[Words], references: Sequence[Sequence[Words]], *,
          stem: bool = True) -> CiderResult:
    """eq:cider: the original CIDEr of the paper, between 0 and 1: stemmed words, mean cosine, no clip, no
    length penalty.

    It is *not* the number that papers report under this name; see ``cider_d``.
    Raises ``ValueError`` if the lists differ in length.
    """
    check_pairs(candidates, references)
    if stem:
        candidates = [[stemmed(word) for word in words] for words in candidates]
        references = [[[stemmed(word) for word in words] for words in refs] for refs in references]
    result = CiderD(references, clip=False, sigma=np.inf).score(candidates)
    return CiderResult(result.corpus / 10, result.per_image / 10, result.per_order / 10)


_snowball = snowballstemmer.stemmer("english")


@lru_cache(maxsize=100_000)
def stemmed(word: str) -> str:
    """The Snowball (English) stem of a word."""
    return str(_snowball.stemWord(word))


