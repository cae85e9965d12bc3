"""Modality gap, alignment and uniformity: by hand, against the definitions, and where they must not
change."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmlearn.metrics.embedding_space import alignment, modality_gap, principal_plane, uniformity


def unit(n, e=6, seed=0):
    return normalize(torch.randn(n, e, generator=torch.Generator().manual_seed(seed), dtype=torch.float64),
                     dim=1)


@pytest.mark.equation("eq:modality-gap")
def test_the_gap_is_the_distance_of_the_means():
    """eq:modality-gap: two points against one."""
    u, v = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[-1.0, 0]])
    assert modality_gap(u, v) == pytest.approx(math.hypot(1.5, 0.5))
    assert modality_gap(u, u.flip(0)) == 0
    assert modality_gap(v, -v) == 2                                                  # as far as it goes


@pytest.mark.equation("eq:alignment")
def test_alignment_is_two_minus_twice_the_mean_cosine():
    """eq:alignment."""
    u, v = unit(9, seed=1), unit(9, seed=2)
    assert alignment(u, v) == pytest.approx(2 - 2 * (u * v).sum(1).mean().item())
    assert alignment(u, u) == 0 and alignment(u, -u) == pytest.approx(4)
    with pytest.raises(ValueError, match="give one text for each image"):
        alignment(u, v[:3])


@pytest.mark.equation("eq:uniformity")
def test_uniformity_is_least_for_what_is_spread():
    """eq:uniformity: over all ordered pairs."""
    u = unit(7)
    d = torch.stack([(u[i] - u[j]).square().sum() for i in range(7) for j in range(7) if i != j])
    assert uniformity(u) == pytest.approx((-2 * d).exp().mean().log().item())
    assert uniformity(u, 3) == pytest.approx((-3 * d).exp().mean().log().item())
    assert uniformity(u[:1].expand(4, 6)) == 0
    simplex = normalize(torch.eye(7, dtype=torch.float64) - 1 / 7, dim=1)
    assert uniformity(simplex) < uniformity(unit(7, 7)) < 0
    with pytest.raises(ValueError, match="at least two"):
        uniformity(u[:1])


def test_the_plane_keeps_the_distances_of_what_is_flat():
    flat = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1.0, 2, 0, 1], [0, 1, 1, 3]]
    )
    a, b = principal_plane(flat[:3], flat[3:])
    assert a.shape == (3, 2) and b.shape == (5, 2)
    torch.testing.assert_close(torch.pdist(torch.cat([a, b])), torch.pdist(flat))
    torch.testing.assert_close(torch.cat([a, b]).mean(0), torch.zeros(2), atol=1e-5, rtol=0)
