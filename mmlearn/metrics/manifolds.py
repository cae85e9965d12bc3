"""Two sets of features compared picture by picture: kernel distance, and precision and recall of their
manifolds.

Papers: M. Binkowski, D. Sutherland, M. Arbel and A. Gretton (2018), *Demystifying MMD GANs*,
arXiv:1801.01401, sec. 4 (kernel distance, KID); T. Kynkaanniemi et al. (2019), *Improved Precision and Recall
Metric for Assessing Generative Models*, NeurIPS, arXiv:1904.06991, sec. 2.  Survey: 2.1.
Differs from the papers: nothing.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def polynomial_kernel(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], degree: int = 3
) -> Float[Tensor, "n m"]:
    r"""eq:polynomial-kernel: $k(x,y)=\big(\frac1dx^\top y+1\big)^3$, which sees means, covariances and
    skewness."""
    return (x @ y.T / x.shape[1] + 1) ** degree


def unbiased_mmd(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m e"], degree: int = 3, chunk: int = 2048
) -> float:
    r"""eq:kernel-distance: $\frac1{n(n-1)}\sum_{i\ne j}k(x_i,x_j)+\frac1{m(m-1)}\sum_{i\ne j}k(y_i,y_j)
    -\frac2{nm}\sum_{i,j}k(x_i,y_j)$.

    Its expectation is the same for every number of pictures, and it may be negative where the sets are alike.
    Memory is that of ``chunk`` x ``chunk`` kernel values. Raises ``ValueError`` for fewer than two rows.
    """
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"features are {tuple(x.shape)} and {tuple(y.shape)}; give two rows or more of one "
                         f"size on both sides")
    x, y = x.double(), y.double()

    def total(a: Tensor, b: Tensor) -> float:
        return sum(float(polynomial_kernel(p, q, degree).sum())
                   for p in a.split(chunk) for q in b.split(chunk))

    def within(a: Tensor) -> float:
        itself = float(((a.square().sum(dim=1) / a.shape[1] + 1) ** degree).sum())
        return (total(a, a) - itself) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y))


class KernelDistance(NamedTuple):
    """Mean over blocks, and their standard deviation (divided by the number of blocks, as the reference
    implementations do)."""

    mean: float
    std: float


def kernel_distance(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], blocks: int = 100, size: int = 1000,
    degree: int = 3, generator: torch.Generator | None = None,
) -> KernelDistance:
    """The kernel distance (KID) as it is reported: the mean of eq:kernel-distance over ``blocks`` random
    blocks of ``size`` pictures of each side.

    Raises ``ValueError`` if a side has fewer than ``size`` pictures.
    """
    if size > min(len(real), len(fake)):
        raise ValueError(f"blocks of {size} pictures cannot be drawn from {len(real)} and {len(fake)}; give "
                         f"a smaller size")

    def block(x: Tensor) -> Tensor:
        return x[torch.randperm(len(x), generator=generator)[:size].to(x.device)]

    found = torch.tensor([unbiased_mmd(block(real), block(fake), degree) for _ in range(blocks)],
                         dtype=torch.float64)
    return KernelDistance(float(found.mean()), float(found.std(correction=0)))


def neighbour_radii(x: Float[Tensor, "n d"], k: int = 3, chunk: int = 1024) -> Float[Tensor, " n"]:
    r"""eq:neighbour-radius: $r_k(x_i)=\lVert x_i-\mathrm{NN}_k(x_i)\rVert$, the distance to the k-th nearest
    other picture.

    Memory is that of ``chunk`` rows of distances. Raises ``ValueError`` unless 1 <= k < n.
    """
    if not 1 <= k < len(x):
        raise ValueError(f"k is {k} for {len(x)} pictures; give one from 1 to {len(x) - 1}")
    return torch.cat([_distances(rows, x).kthvalue(k + 1, dim=1).values for rows in x.split(chunk)])


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances by differences: as exact for far sets as for near ones."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def in_manifold(
    points: Float[Tensor, "m d"], of: Float[Tensor, "n d"], radii: Float[Tensor, " n"], chunk: int = 1024
) -> Bool[Tensor, " m"]:
    r"""eq:in-manifold: $f(y,X)=1$ if $\lVert y-x_i\rVert\le r_k(x_i)$ for any $x_i$ of $X$, else 0."""
    return torch.cat([(_distances(rows, of) <= radii).any(dim=1) for rows in points.split(chunk)])


def spread(features: Float[Tensor, "n s d"]) -> float:
    r"""$\frac1n\sum_i\frac2{s(s-1)}\sum_{j<k}\lVert f_{ij}-f_{ik}\rVert$: how far apart s pictures of one
    sentence are, on average over n sentences; 0 for a generator that ignores its noise."""
    n, s, _ = features.shape
    if s < 2:
        raise ValueError(f"there is {s} picture of each sentence; give 2 or more")
    total = torch.cdist(features.double(), features.double()).sum(dim=(1, 2))
    return float((total / (s * (s - 1))).mean())


class PrecisionRecall(NamedTuple):
    """Share of generated pictures among the real ones' neighbourhoods, and of real ones among the generated
    ones'."""

    precision: float
    recall: float


def precision_recall(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], k: int = 3, chunk: int = 1024
) -> PrecisionRecall:
    r"""eq:manifold-precision: $\mathrm{precision}=\frac1m\sum_jf(y_j,X)$,
    $\mathrm{recall}=\frac1n\sum_if(x_i,Y)$: are the generated pictures $Y$ possible, and is everything there?

    A set is taken as the balls around its pictures that reach to their k-th neighbour. Both rise with the
    number of pictures: compare at one number. Raises ``ValueError`` for sets of k pictures or fewer.
    """
    precise = in_manifold(fake, real, neighbour_radii(real, k, chunk), chunk)
    recalled = in_manifold(real, fake, neighbour_radii(fake, k, chunk), chunk)
    return PrecisionRecall(float(precise.double().mean()), float(recalled.double().mean()))
