"""Does a picture show what its sentence says? R-precision, CLIP score and the accuracy of attributes.

Papers: T. Xu et al. (2018), *AttnGAN*, CVPR 2018, arXiv:1711.10485, sec. 4 (R-precision); J. Hessel et al.
(2021), *CLIPScore: A Reference-free Evaluation Metric for Image Captioning*, EMNLP 2021, arXiv:2104.08718;
A. Nichol et al. (2021), *GLIDE*, arXiv:2112.10741 (products scaled as in CLIP's training).  Survey: 2.1.
Differs from the papers: sentences with the score of the right one stand before it, so that an encoder which
says the same of all finds nothing. Take an encoder here that no generator was trained with.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


class RPrecision(NamedTuple):
    """Share of pictures whose own sentence comes first: mean and standard deviation over folds, each
    picture's hit."""

    mean: float
    std: float                              # over folds, divided by their number
    hits: Bool[Tensor, " n"]


def draw_candidates(
    classes: Int[Tensor, " n"], count: int = 99, rows: Int[Tensor, " r"] | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "r k"]:
    """For each picture of ``rows`` (default: all) the numbers of ``count`` different sentences of other
    classes.

    Raises ``ValueError`` if a class leaves fewer.
    """
    rows = torch.arange(len(classes)) if rows is None else rows
    keys = torch.rand(len(rows), len(classes), generator=generator)
    keys[classes[rows][:, None] == classes] = -1.0
    drawn = keys.topk(min(count, len(classes)), dim=1)
    if len(classes) < count or bool((drawn.values < 0).any()):
        others = len(classes) - int(torch.bincount(classes.unique(return_inverse=True)[1]).max())
        raise ValueError(f"{others} sentences are left for the largest class, {count} candidates are wanted; "
                         f"give more pictures, or fewer candidates")
    return drawn.indices


def r_precision(
    pictures: Float[Tensor, "n e"], sentences: Float[Tensor, "m f"], classes: Int[Tensor, " k"] | None = None,
    *, candidates: int = 99, folds: int = 10, generator: torch.Generator | None = None, chunk: int = 256,
) -> RPrecision:
    r"""eq:r-precision: $\frac1n\sum_i\mathbf 1\big[\cos(u_i,v_i)>\max_{j\in C_i}\cos(u_i,v_j)\big]$, with
    $C_i$ 99 sentences of other classes, drawn at random.

    Row i of ``pictures`` was generated from row i of ``sentences``; both are embeddings of one encoder.
    ``classes`` (default: all different) says which sentences may not stand against each other: those of one
    class, or those that say the same. By chance 1 / (1 + ``candidates``) is reached. Folds are consecutive
    and of equal size, the last rows that fill none being left out of mean and deviation. Raises
    ``ValueError`` for embeddings that do not fit and too few other sentences.
    """
    n = len(pictures)
    if pictures.shape != sentences.shape or (classes is not None and len(classes) != n):
        raise ValueError(f"{n} pictures, {len(sentences)} sentences and "
                         f"{n if classes is None else len(classes)} classes; give one of each a row, and "
                         f"embeddings of one size")
    if not 1 <= folds <= n:
        raise ValueError(f"{n} pictures cannot be put into {folds} folds; give from 1 to {n} folds")
    labels = torch.arange(n) if classes is None else classes.cpu()
    u, v = F.normalize(pictures.double(), dim=1), F.normalize(sentences.double(), dim=1)
    hits = []
    for rows in torch.arange(n).split(chunk):
        wrong = draw_candidates(labels, candidates, rows, generator).to(v.device)
        mine = (u[rows] * v[rows]).sum(dim=1)
        others = torch.einsum("re,rke->rk", u[rows], v[wrong])
        hits.append(mine > others.amax(dim=1) + 1e-12)      # a sentence said twice ties, whatever is rounded
    found = torch.cat(hits).cpu()
    size = n // folds
    means = found[: folds * size].view(folds, size).double().mean(dim=1)
    return RPrecision(float(means.mean()), float(means.std(correction=0)), found)


def cosines(u: Float[Tensor, "n e"], v: Float[Tensor, "m f"]) -> Float[Tensor, " n"]:
    """Cosine of each picture's embedding with its sentence's."""
    if u.shape != v.shape:
        raise ValueError(f"embeddings are {tuple(u.shape)} and {tuple(v.shape)}; give a sentence for each "
                         f"picture, of one encoder")
    return F.cosine_similarity(u.double(), v.double(), dim=1)


def clip_score(u: Float[Tensor, "n e"], v: Float[Tensor, "m f"], weight: float | int = 2.5) -> float:
    r"""eq:clip-score: $\frac1n\sum_iw\max(\cos(u_i,v_i),0)$, $w=2.5$: CLIPScore as it was published."""
    return float(weight * cosines(u, v).clamp(min=0).mean())


def clip_score_percent(u: Float[Tensor, "n e"], v: Float[Tensor, "m f"]) -> float:
    r"""eq:clip-score-percent: $\max\big(\frac{100}n\sum_i\cos(u_i,v_i),0\big)$, as torchmetrics has it:
    clamped after the mean."""
    return max(0.0, float(100 * cosines(u, v).mean()))


def clip_score_logit(u: Float[Tensor, "n e"], v: Float[Tensor, "m f"], scale: float | int = 100) -> float:
    r"""eq:clip-score-logit: $\frac1n\sum_is\cos(u_i,v_i)$, with the scale $s$ of the model's logits (100 in
    CLIP): nothing is clamped."""
    return float(scale * cosines(u, v).mean())


def attribute_hits(
    answers: Mapping[str, Int[Tensor, " n"]], wanted: Mapping[str, Int[Tensor, " m"]]
) -> dict[str, Bool[Tensor, " _"]]:
    """For each attribute whether the answer is right, of the pictures whose sentence says it; "all": whether
    everything that is said is right.

    ``answers`` are a classifier's, by attribute (colour, category, setting …); ``wanted`` what the sentences
    ask for, -1 where one is silent. An attribute of which no sentence speaks is left out. Raises
    ``ValueError`` for attributes without an answer, and if no sentence says anything.
    """
    if missing := sorted(set(wanted) - set(answers)):
        raise ValueError(f"there are no answers for {', '.join(missing)}; ask a classifier that knows them")
    found: dict[str, Tensor] = {}
    right, said = [], []
    for name, want in wanted.items():
        if answers[name].shape != want.shape:
            raise ValueError(f"{name}: {len(answers[name])} answers for {len(want)} sentences; give one each")
        speaks = want >= 0
        hit = answers[name].to(want) == want
        right.append(hit | ~speaks)
        said.append(speaks)
        if bool(speaks.any()):
            found[name] = hit[speaks]
    if not found:
        raise ValueError("no sentence asks for any attribute; give sentences that do")
    return found | {"all": torch.stack(right).all(dim=0)[torch.stack(said).any(dim=0)]}


def attribute_accuracy(
    answers: Mapping[str, Int[Tensor, " n"]], wanted: Mapping[str, Int[Tensor, " m"]]
) -> dict[str, float]:
    r"""eq:attribute-accuracy: $\frac1{|S_a|}\sum_{i\in S_a}\mathbf 1[\hat a_i=a_i]$ for each attribute $a$,
    over the pictures $S_a$ whose sentence says it; see ``attribute_hits``."""
    return {name: float(hits.double().mean()) for name, hits in attribute_hits(answers, wanted).items()}
