"""Retrieval: how far down the list of answers is the right one, from images to texts and from texts to
images.

Papers: A. Karpathy and L. Fei-Fei (2015), *Deep Visual-Semantic Alignments for Generating Image
Descriptions*, arXiv:1412.2306, sec. 4.2 (R@k and median rank of 5 captions an image); A. Radford et al.
(2021), arXiv:2103.00020, table 13.
Survey: 4.2.1.  Differs from the papers: ties, of which they say nothing, count against the model: wrong
answers with the same score stand before the right one. A model that gives every pair the same score so finds
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Place of the right answer in each list, counted from 1: of the best own text of each image, of each
    text's image."""

    image_to_text: Int[Tensor, " i"]
    text_to_image: Int[Tensor, " n"]


def retrieval_ranks(
    u: Float[Tensor, "i e"], v: Float[Tensor, "n e"], owner: Int[Tensor, " k"] | None = None, *,
    chunk: int = 1024
) -> Ranks:
    r"""eq:retrieval-rank: $r_i=1+\big|\{j: o_j\ne i,\ s_{ij}\ge\max_{o_k=i}s_{ik}\}\big|$, and for texts
    $1+|\{i\ne o_j: s_{ij}\ge s_{o_jj}\}|$.

    ``u``: embeddings of i images, ``v`` of n texts, ``owner`` the image of each text (default: text j has
    image j); scores are products, so give unit vectors for cosines. Memory is that of ``chunk`` rows of
    scores. Raises ``ValueError`` unless each text has an image and each image a text.
    """
    images, texts = len(u), len(v)
    if owner is None:
        if images != texts:
            raise ValueError(f"{images} images and {texts} texts; pass owner, the image of each text")
        owner = torch.arange(texts)
    owner = owner.to(u.device).long()
    if len(owner) != texts or (texts and not (0 <= int(owner.min()) and int(owner.max()) < images)):
        raise ValueError(f"owner has {len(owner)} entries for {texts} texts and {images} images; give one "
                         f"image number a text")
    if len(alone := (torch.bincount(owner, minlength=images) == 0).nonzero()):
        raise ValueError(f"image {int(alone[0])} has no text, so that it has no rank; leave it out")
    rank_i = torch.empty(images, dtype=torch.long, device=u.device)
    rank_t = torch.zeros(texts, dtype=torch.long, device=u.device)
    mine = torch.empty(texts, dtype=u.dtype, device=u.device)       # score of each text with its image
    pieces = range(0, images, chunk)
    for start in pieces:                                            # each image's list
        scores = _scores(u[start:start + chunk], v)
        column = ((owner >= start) & (owner < start + chunk)).nonzero()[:, 0]
        row = owner[column] - start
        mine[column] = own = scores[row, column]
        best = torch.full((len(scores),), float("-inf"), dtype=u.dtype, device=u.device).scatter_reduce(0,
                row, own, "amax")
        own_among = torch.bincount(row[own >= best[row]], minlength=len(scores))
        rank_i[start:start + chunk] = 1 + (scores >= best[:, None]).sum(dim=1) - own_among
    for start in pieces:                             # each text's list; its own image is one of those counted
        rank_t += (_scores(u[start:start + chunk], v) >= mine).sum(dim=0)
    return Ranks(rank_i, rank_t)


def _scores(u: Tensor, v: Tensor) -> Tensor:
    """Scores of some images with all texts; the same call gives the same bits, so that a score ties with
    itself."""
    scores = u @ v.T
    if not bool(scores.sum().isfinite()):
        raise ValueError("some scores are not finite; look for NaN in the embeddings")
    return scores


def recall_at_k(ranks: Int[Tensor, " n"], k: int) -> float:
    r"""eq:recall-at-k: $R@k=\frac1n\sum_{i=1}^n\mathbf 1[r_i\le k]$: the fraction of questions answered in
    the first k places."""
    if k < 1:
        raise ValueError(f"k is {k}; the first place is 1")
    return float((ranks <= k).double().mean())


def median_rank(ranks: Int[Tensor, " n"]) -> float:
    """The middle rank (the mean of the middle two for an even number)."""
    return float(ranks.double().quantile(0.5))


def retrieval(
    u: Float[Tensor, "i e"], v: Float[Tensor, "n e"], owner: Int[Tensor, " k"] | None = None,
    ks: Sequence[int] = (1, 5, 10), *, chunk: int = 1024
) -> dict[str, float]:
    """R@k in both directions, as "image to text R@1" and so on, and the median ranks; see
    ``retrieval_ranks``."""
    ranks = retrieval_ranks(u, v, owner, chunk=chunk)
    recalls: dict[str, float] = {}
    for name, places in (("image to text", ranks.image_to_text), ("text to image", ranks.text_to_image)):
        recalls |= {f"{name} R@{k}": recall_at_k(places, k) for k in ks}
        recalls[f"{name} median rank"] = median_rank(places)
    return recalls
