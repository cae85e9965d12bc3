r"""Where the embeddings of two modalities lie: the gap between them, alignment, uniformity, and a plane to
draw them in.

Papers: W. Liang et al. (2022), *Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
Representation Learning*, arXiv:2203.02053, sec. 2; T. Wang and P. Isola (2020), *Understanding Contrastive
Representation Learning through Alignment and Uniformity on the Hypersphere*, arXiv:2005.10242, sec. 4.
Survey: none.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def modality_gap(u: Float[Tensor, "n e"], v: Float[Tensor, "m e"]) -> float:
    r"""eq:modality-gap: $\big\lVert\frac1n\sum_iu_i-\frac1m\sum_jv_j\big\rVert$ of unit embeddings, between 0
    and 2."""
    return float((u.mean(0) - v.mean(0)).norm())


def alignment(u: Float[Tensor, "n e"], v: Float[Tensor, "m e"]) -> float:
    r"""eq:alignment: $\frac1n\sum_i\lVert u_i-v_i\rVert^2=2-\frac2n\sum_iu_i^\top v_i$ of unit embeddings; 0
    if pairs coincide.

    Raises ``ValueError`` if there are not as many images as texts.
    """
    if u.shape != v.shape:
        raise ValueError(
            f"images have shape {tuple(u.shape)} and texts {tuple(v.shape)}; "
            "give one text for each image"
        )
    return float((u - v).square().sum(1).mean())


def uniformity(u: Float[Tensor, "n e"], t: float | int = 2) -> float:
    r"""eq:uniformity: $\log\frac1{n(n-1)}\sum_{i\ne j}e^{-t\lVert u_i-u_j\rVert^2}$; 0 if all are one point,
    lower if they spread.

    Raises ``ValueError`` for less than two embeddings.
    """
    if len(u) < 2:
        raise ValueError(
            f"{len(u)} embeddings have no distances; give at least two"
        )
    return float((-t * torch.pdist(u).square()).exp().mean().log())


def principal_plane(*parts: Float[Tensor, "_ e"]) -> list[Float[Tensor, "_ 2"]]:
    """Coordinates of each part in the plane of largest variance of all parts together, their mean at the
    origin."""
    together = torch.cat(parts)
    centred = together - together.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    return list((centred @ axes.T).split([len(part) for part in parts]))
