"""Kernel distance, precision and recall: by loops, against torchmetrics, and on sets one can see through."""

import pytest
import torch

from mmlearn.metrics.manifolds import (
    in_manifold,
    kernel_distance,
    neighbour_radii,
    polynomial_kernel,
    precision_recall,
    spread,
    unbiased_mmd,
)


def features(n, d=5, seed=0, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


@pytest.mark.equation("eq:polynomial-kernel")
@pytest.mark.equation("eq:kernel-distance")
def test_the_kernel_distance_is_the_formula_and_chunks_change_nothing():
    x, y = features(6), features(4, seed=1, shift=0.5)
    def k(a, b):
        return (sum(p * q for p, q in zip(a.tolist(), b.tolist())) / 5 + 1) ** 3

    assert float(polynomial_kernel(x, y)[2, 3]) == pytest.approx(k(x[2], y[3]))
    want = (sum(k(x[i], x[j]) for i in range(6) for j in range(6) if i != j) / 30
            + sum(k(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
            - 2 * sum(k(a, b) for a in x for b in y) / 24)
    assert unbiased_mmd(x, y) == pytest.approx(want)
    assert unbiased_mmd(x, y, chunk=2) == pytest.approx(want)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Metric .* will save all:UserWarning")
def test_a_block_has_the_value_of_torchmetrics():
    kid = pytest.importorskip("torchmetrics.image.kid")
    net = torch.nn.Identity()
    net.num_features = 5
    theirs = kid.KernelInceptionDistance(feature=net, subsets=2, subset_size=40)
    x, y = features(40), features(40, seed=1, shift=0.3)
    theirs.update(x, real=True)
    theirs.update(y, real=False)
    mean, std = theirs.compute()
    ours = kernel_distance(x, y, blocks=2, size=40)
    assert ours.mean == pytest.approx(float(mean), abs=1e-5)
    assert ours.std == pytest.approx(float(std), abs=1e-5)


def test_the_kernel_distance_of_sets_alike_is_zero_on_average_for_every_size():
    for size in (10, 40):
        found = kernel_distance(features(400), features(400, seed=1), 100, size,
                                generator=torch.Generator().manual_seed(0))
        assert abs(found.mean) < 3 * found.std / 10
    far = kernel_distance(features(400), features(400, seed=1, shift=0.5), 20, 40)
    assert far.mean > 0.3


@pytest.mark.equation("eq:neighbour-radius")
@pytest.mark.equation("eq:in-manifold")
@pytest.mark.equation("eq:manifold-precision")
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_precision_and_recall_are_counted_by_loops(chunk):
    real, fake, k = features(12, 2), features(9, 2, seed=1, shift=0.7), 2
    def radius(x, i):
        return sorted(float((x[i] - x[j]).norm()) for j in range(len(x)) if j != i)[k - 1]

    def inside(y, x):
        return any(float((y - x[i]).norm()) <= radius(x, i) for i in range(len(x)))

    assert neighbour_radii(real, k, chunk).tolist() == pytest.approx([radius(real, i) for i in range(12)])
    radii = neighbour_radii(real, k)
    assert in_manifold(fake, real, radii, chunk).tolist() == [inside(y, real) for y in fake]
    got = precision_recall(real, fake, k, chunk)
    assert got.precision == pytest.approx(sum(inside(y, real) for y in fake) / 9)
    assert got.recall == pytest.approx(sum(inside(x, fake) for x in real) / 12)


def test_pictures_of_one_mode_are_precise_and_recall_little():
    real = torch.cat([features(100, 2), features(100, 2, seed=1, shift=20.0)])
    one = features(200, 2, seed=2)
    got = precision_recall(real, one)
    assert got.precision > 0.85 and 0.4 < got.recall < 0.55
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, features(50, 2, shift=200.0)) == (0.0, 0.0)


def test_sets_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="two rows or more"):
        unbiased_mmd(features(1), features(5))
    with pytest.raises(ValueError, match="blocks of 6 pictures cannot be drawn from 9 and 5"):
        kernel_distance(features(9), features(5), size=6)
    with pytest.raises(ValueError, match="k is 3 for 3 pictures; give one from 1 to 2"):
        precision_recall(features(3), features(9))


def test_the_spread_is_the_mean_distance_of_two_pictures_of_one_sentence():
    features = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]], [[1.0, 1.0]] * 3])
    want = ((5 + 4 + 3) / 3 + 0) / 2
    assert spread(features) == pytest.approx(want)
    with pytest.raises(ValueError, match="there is 1 picture of each sentence"):
        spread(features[:, :1])
