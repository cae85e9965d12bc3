"""The Frechet distance: closed forms, torchmetrics, scipy, streams of batches, and what sample size does."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.metrics.frechet import (
    GaussianStatistics,
    covariance_factor,
    extrapolate,
    frechet_distance,
    frechet_infinity,
    gather,
    merged_moments,
    root_trace,
)


def features(n, d=8, seed=0, shift=0.0):
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=g, dtype=torch.float64) / math.sqrt(d)
    return torch.randn(n, d, generator=g, dtype=torch.float64) @ mix + shift


def distance(x, y):
    return frechet_distance(GaussianStatistics.of(x), GaussianStatistics.of(y))


@pytest.mark.equation("eq:frechet-distance")
def test_independent_numbers_have_the_distance_of_means_and_deviations():
    """Diagonal covariances: the sum over numbers of (m - m')^2 + (s - s')^2."""
    a, b = GaussianStatistics(3), GaussianStatistics(3)
    a.count, a.mean = 11, torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
    b.count, b.mean = 21, torch.tensor([0.5, 1.0, 1.0], dtype=torch.float64)
    deviations = [(1.0, 2.0), (0.5, 0.5), (3.0, 0.25)]
    a.scatter = 10 * torch.diag(torch.tensor([s**2 for s, _ in deviations], dtype=torch.float64))
    b.scatter = 20 * torch.diag(torch.tensor([s**2 for _, s in deviations], dtype=torch.float64))
    want = 0.5**2 + 3.0**2 + sum((s - r) ** 2 for s, r in deviations)
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-12)


@pytest.mark.equation("eq:frechet-trace")
@pytest.mark.parity
def test_the_trace_of_the_root_is_scipys():
    linalg = pytest.importorskip("scipy.linalg")
    A, B = torch.cov(features(60).T), torch.cov(features(60, seed=1).T)
    want = float(np.trace(linalg.sqrtm((A @ B).numpy())).real)
    assert float(root_trace(covariance_factor(A), B)) == pytest.approx(want, rel=1e-9)
    assert float(root_trace(covariance_factor(B), A)) == pytest.approx(want, rel=1e-9)


@pytest.mark.parity
@pytest.mark.parametrize("n, m", [(200, 300), (200, 12)])
def test_the_distance_is_that_of_torchmetrics_on_the_same_features(n, m):
    fid = pytest.importorskip("torchmetrics.image.fid")
    net = torch.nn.Identity()
    net.num_features = 8
    theirs = fid.FrechetInceptionDistance(feature=net)
    real, fake = features(n), features(m, seed=1, shift=0.3)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert distance(real, fake) == pytest.approx(float(theirs.compute()), rel=1e-5, abs=1e-5)


@pytest.mark.parity
def test_fewer_pictures_than_features_are_no_trouble():
    """Covariances without full rank: the nuclear norm of the product of the centred features is the truth."""
    real, fake = features(300, 24), features(10, 24, seed=1)
    few = features(7, 24, seed=2)
    for x, y in ((real, fake), (fake, real), (few, fake)):
        P, Q = ((z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y))
        want = ((x.mean(0) - y.mean(0)).square().sum() + P.square().sum() + Q.square().sum()
                - 2 * np.linalg.svd((P @ Q.T).numpy(), compute_uv=False).sum())
        assert distance(x, y) == pytest.approx(float(want), rel=1e-6)


def test_a_number_that_is_always_zero_is_no_trouble():
    x, y = features(50), features(60, seed=1)
    dead = torch.zeros(60, 1, dtype=torch.float64)
    assert distance(torch.cat([x, dead[:50]], 1), torch.cat([y, dead], 1)) == pytest.approx(distance(x, y))


@given(st.integers(0, 10_000), st.integers(5, 40), st.integers(5, 40), st.integers(1, 6))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_distance_is_symmetric_not_negative_and_zero_for_the_same(seed, n, m, d):
    x, y = features(n, d, seed), features(m, d, seed + 1)
    there, back = distance(x, y), distance(y, x)
    assert there >= 0 and there == pytest.approx(back, rel=1e-6, abs=1e-6)
    assert distance(x, x) == pytest.approx(0, abs=1e-6)
    turned = torch.linalg.qr(features(d, d, seed + 2)).Q                       # and turning changes nothing
    assert distance(x @ turned, y @ turned) == pytest.approx(there, rel=1e-6, abs=1e-6)


@pytest.mark.equation("eq:merged-moments")
def test_statistics_of_batches_merged_are_those_of_all_pictures():
    x = features(50, shift=1000.0)                          # far from zero, where sums of squares lose digits
    whole = GaussianStatistics.of(x)
    torch.testing.assert_close(whole.mean, x.mean(0))
    torch.testing.assert_close(whole.covariance, torch.cov(x.T))
    streamed = gather(x.split(7))
    left, right = GaussianStatistics.of(x[:20]), GaussianStatistics.of(x[20:])
    left.merge(right)
    for other in (streamed, left):
        assert other.count == 50
        torch.testing.assert_close(other.mean, whole.mean)
        torch.testing.assert_close(other.covariance, whole.covariance)
    mean, scatter = merged_moments(2, x[:2].mean(0), torch.cov(x[:2].T), 1, x[2], torch.zeros(8, 8).double())
    torch.testing.assert_close(mean, x[:3].mean(0))
    torch.testing.assert_close(scatter, 2 * torch.cov(x[:3].T))


def test_statistics_are_saved_and_continued(tmp_path):
    x, y = features(30), features(40, seed=1)
    saved = GaussianStatistics.of(x, "scene classifier")
    saved.save(tmp_path / "real.npz")
    read = GaussianStatistics.load(tmp_path / "real.npz")
    assert (read.count, read.network) == (30, "scene classifier")
    assert frechet_distance(read, GaussianStatistics.of(y)) == pytest.approx(distance(x, y))
    read.update(y)
    torch.testing.assert_close(read.covariance, torch.cov(torch.cat([x, y]).T))
    with np.load(tmp_path / "real.npz") as file:                                     # pytorch-fid's own keys
        assert file["mu"].shape == (8,) and file["sigma"].shape == (8, 8)


def test_published_statistics_have_distances_and_no_count(tmp_path):
    x, y = features(30), features(40, seed=1)
    np.savez(tmp_path / "published.npz", mu=x.mean(0).numpy(), sigma=torch.cov(x.T).numpy())
    read = GaussianStatistics.load(tmp_path / "published.npz", network="Inception")
    assert frechet_distance(read, GaussianStatistics.of(y)) == pytest.approx(distance(x, y))
    with pytest.raises(ValueError, match="do not say of how many pictures"):
        read.update(y)
    with pytest.raises(ValueError, match="do not say of how many pictures"):
        GaussianStatistics.of(y).merge(read)


def test_bad_statistics_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at"):
        GaussianStatistics.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("nothing")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    np.savez(tmp_path / "code.npz", mu=np.array([{}], dtype=object), sigma=np.zeros((1, 1)))
    for name in ("text", "other", "code"):
        with pytest.raises(ValueError, match="holds no mean and covariance"):
            GaussianStatistics.load(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="do not go together"):
        GaussianStatistics.load(tmp_path / "shapes.npz")
    with pytest.raises(ValueError, match="are not finite"):
        GaussianStatistics.of(torch.tensor([[0.0, math.nan], [1.0, 2.0]]))
    with pytest.raises(ValueError, match="1 pictures have no covariance"):
        distance(features(1), features(5))
    with pytest.raises(ValueError, match="sizes 8 and 3"):
        distance(features(5), features(5, 3))
    with pytest.raises(ValueError, match="features have size 3, those before had 8"):
        GaussianStatistics.of(features(5)).update(features(5, 3))
    with pytest.raises(ValueError, match="of Inception, the other of Lite0"):
        frechet_distance(GaussianStatistics.of(features(5), "Inception"),
                         GaussianStatistics.of(features(5), "Lite0"))
    with pytest.raises(ValueError, match="no features came"):
        gather([])


@pytest.mark.equation("eq:sample-bias")
def test_the_extrapolated_line_is_the_least_squares_line():
    line = extrapolate(lambda indices: 3 + 50 / len(indices), 100, sizes=(10, 20, 50, 100), repeats=2)
    assert line.at_infinity == pytest.approx(3) and line.slope == pytest.approx(50)
    assert line.sizes == (10, 10, 20, 20, 50, 50, 100, 100) and line.at(25) == pytest.approx(5)
    crooked = extrapolate(lambda indices: float(len(indices) ** 0.5), 100, sizes=(4, 25, 100))
    slope, intercept = np.polyfit([1 / 4, 1 / 25, 1 / 100], [2, 5, 10], 1)
    assert (crooked.slope, crooked.at_infinity) == pytest.approx((slope, intercept))
    for sizes in ((10,), (10, 10), (1, 10), (10, 101)):
        with pytest.raises(ValueError, match="give two or more different numbers between 2 and 100"):
            extrapolate(lambda indices: 0.0, 100, sizes)


def test_a_distance_falls_with_the_number_of_pictures_and_is_extrapolated_below_them_all():
    x = features(4000, 16)
    real, fake = GaussianStatistics.of(x[:2000]), x[2000:]
    line = frechet_infinity(real, fake, sizes=(12, 50, 100, 200, 400), repeats=3,
                            generator=torch.Generator().manual_seed(0))
    means = [sum(line.values[i : i + 3]) / 3 for i in range(0, 15, 3)]
    assert means == sorted(means, reverse=True) and line.at_infinity < means[-1] and line.slope > 0
    first = fake[torch.randperm(2000, generator=torch.Generator().manual_seed(0))[:12]]
    assert line.values[0] == pytest.approx(distance(x[:2000], first), rel=1e-6)     # fewer than features, too
