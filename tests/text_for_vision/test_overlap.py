"""Overlap of training and test pictures, and the exact statistics of its effect."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.text_for_vision.overlap import (
    PAPER,
    binomial_tail,
    clopper_pearson,
    nearest,
    overlap_report,
    pixel_embedding,
    precision_recall,
)


def pictures(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randint(0, 256, (n, 3, 6, 6), generator=generator).float()
    return torch.nn.functional.interpolate(rough, (32, 32), mode="bilinear").byte()


def tail(k: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1)), Fraction(0))


@pytest.mark.equation("eq:binomial-tail")
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20))
@settings(max_examples=80, deadline=None)
def test_the_tail_is_that_of_exact_fractions(k, n, twentieths):
    k = min(k, n)
    assert binomial_tail(k, n, twentieths / 20) == pytest.approx(
        float(tail(k, n, Fraction(twentieths, 20))), abs=1e-12, rel=1e-9
    )


@pytest.mark.equation("eq:clopper-pearson")
@pytest.mark.parametrize("k, n", [(0, 5), (5, 5), (3, 10), (1, 1), (17, 40)])
def test_at_the_ends_of_the_interval_either_tail_is_half_of_alpha(k, n):
    low, high = clopper_pearson(k, n, 0.95)
    assert low <= k / n <= high
    if k > 0:
        assert float(tail(k, n, Fraction(low))) == pytest.approx(0.025, abs=1e-9)
    if k < n:
        assert 1 - float(tail(k + 1, n, Fraction(high))) == pytest.approx(0.025, abs=1e-9)
    assert (low == 0) == (k == 0) and (high == 1) == (k == n)


@pytest.mark.parity
@pytest.mark.parametrize("k, n", [(0, 7), (7, 7), (3, 11), (250, 1000), (4000, 5000)])
def test_interval_and_p_value_are_those_of_scipy(k, n):
    from scipy.stats import binomtest

    test = binomtest(k, n, 0.31, alternative="greater")
    assert binomial_tail(k, n, 0.31) == pytest.approx(test.pvalue, rel=1e-7, abs=1e-300)
    exact = binomtest(k, n).proportion_ci(0.995, method="exact")
    assert clopper_pearson(k, n) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_the_nearest_picture_is_that_of_a_full_table():
    u = torch.nn.functional.normalize(torch.randn(23, 5), dim=1)
    v = torch.nn.functional.normalize(torch.randn(31, 5), dim=1)
    for chunk in (4, 7, 100):
        found = nearest(u, v, chunk=chunk)
        for i in range(23):
            scores = [float(u[i] @ v[j]) for j in range(31)]
            assert int(found.which[i]) == scores.index(max(scores)) and float(
                found.similarity[i]
            ) == pytest.approx(max(scores), abs=1e-6)
    with pytest.raises(ValueError, match="no training pictures"):
        nearest(u, v[:0])


def test_planted_duplicates_are_found_through_noise_and_resizing():
    train, fresh = pictures(60, 0), pictures(40, 1)
    copies = torch.nn.functional.interpolate(train[:20].float(), (28, 28), mode="bilinear", antialias=True)
    copies = torch.nn.functional.interpolate(copies, (32, 32), mode="bilinear")
    copies = (
        (copies * 0.8 + 20 + 4 * torch.randn(copies.shape, generator=torch.Generator().manual_seed(2)))
        .clamp(0, 255)
        .byte()
    )
    test = torch.cat([copies, fresh])
    planted = torch.arange(60) < 20
    found = nearest(pixel_embedding(test), pixel_embedding(train), chunk=16)
    assert precision_recall(found.similarity > 0.95, planted) == (1.0, 1.0)
    assert found.which[:20].tolist() == list(range(20))


def test_precision_and_recall_are_counted():
    flagged, planted = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, True])
    assert precision_recall(flagged, planted) == (1 / 2, 1 / 3)
    assert precision_recall(~flagged & flagged, planted) == (1.0, 0.0)


def test_the_report_keeps_the_three_sets_apart():
    correct = torch.tensor([True] * 9 + [False] + [True] * 20 + [False] * 20)
    flagged = torch.arange(50) < 10
    report = overlap_report(correct, flagged)
    assert (report.fraction, report.all, report.overlap, report.clean) == (0.2, 29 / 50, 0.9, 0.5)
    assert report.gain == pytest.approx(0.08)
    assert report.p_value == pytest.approx(
        float(tail(9, 10, Fraction(1, 2)))
    ) and report.interval == clopper_pearson(9, 10)
    none = overlap_report(correct, torch.zeros(50, dtype=torch.bool))
    assert none.fraction == 0 and math.isnan(none.overlap) and math.isnan(none.p_value) and none.gain == 0


def test_the_papers_figures_are_there():
    assert PAPER["without overlap"] == 9 and PAPER["largest gain"][2] == 0.6


def test_what_is_no_probability_is_refused():
    for bad in ((3, 2, 0.5), (-1, 2, 0.5), (1, 2, 1.5)):
        with pytest.raises(ValueError, match="give 0 <= successes"):
            binomial_tail(*bad)
    with pytest.raises(ValueError, match="confidence is 99.5"):
        clopper_pearson(1, 2, 99.5)
    with pytest.raises(ValueError, match="no answers"):
        overlap_report(torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.bool))
