"""Robustness measures, and the numbers of the paper."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.metrics.robustness import (
    CLIP_ADAPTED,
    CLIP_TABLE,
    SHIFTS,
    Line,
    effective_robustness,
    fit_line,
    logit,
    relative_robustness,
)

ACCURACY = torch.tensor([0.55, 0.62, 0.71, 0.76, 0.83], dtype=torch.float64)
SHIFTED = torch.tensor([0.30, 0.41, 0.48, 0.60, 0.66], dtype=torch.float64)


@pytest.mark.equation("eq:accuracy-logit")
def test_the_logit_is_the_log_of_the_odds():
    assert logit(ACCURACY).tolist() == pytest.approx([math.log(a / (1 - a)) for a in ACCURACY.tolist()])
    for bad in (0.0, 1.0, 76.2):
        with pytest.raises(ValueError, match="a logit needs 0 < a < 1"):
            logit(torch.tensor([0.5, bad]))


@pytest.mark.equation("eq:robustness-fit")
def test_no_other_line_fits_better():
    line = fit_line(ACCURACY, SHIFTED)

    def error(slope: float, intercept: float) -> float:
        total = 0.0
        for a, s in zip(ACCURACY.tolist(), SHIFTED.tolist()):
            total += (math.log(s / (1 - s)) - slope * math.log(a / (1 - a)) - intercept) ** 2
        return total

    least = error(line.slope, line.intercept)
    for ds in (-0.01, 0.0, 0.01):
        for di in (-0.01, 0.0, 0.01):
            assert error(line.slope + ds, line.intercept + di) >= least
    step = 1e-6                                                               # and the error is flat there
    assert abs(error(line.slope + step, line.intercept)
               - error(line.slope - step, line.intercept)) / step < 1e-6
    assert abs(error(line.slope, line.intercept + step)
               - error(line.slope, line.intercept - step)) / step < 1e-6


@pytest.mark.equation("eq:robustness-line")
@given(st.floats(0.2, 3), st.floats(-2, 2), st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_the_line_is_straight_on_the_logit_scale(slope, intercept, a):
    got = Line(slope, intercept).expected(torch.tensor([a], dtype=torch.float64))
    z = slope * math.log(a / (1 - a)) + intercept
    assert float(got) == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-12)


@given(st.floats(0.3, 2), st.floats(-1, 1))
@settings(max_examples=40, deadline=None)
def test_models_on_a_line_give_that_line_back_and_have_no_effective_robustness(slope, intercept):
    true = Line(slope, intercept)
    line = fit_line(ACCURACY, true.expected(ACCURACY))
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept), abs=1e-9)
    assert effective_robustness(ACCURACY, true.expected(ACCURACY), line).abs().max() < 1e-12


@pytest.mark.equation("eq:effective-robustness")
def test_effective_robustness_is_what_is_above_the_line():
    line = Line(1.2, -0.7)
    got = effective_robustness(ACCURACY, SHIFTED, line)
    for a, s, rho in zip(ACCURACY.tolist(), SHIFTED.tolist(), got.tolist()):
        expected = 1 / (1 + math.exp(-(1.2 * math.log(a / (1 - a)) - 0.7)))
        assert rho == pytest.approx(s - expected, abs=1e-12)


@pytest.mark.equation("eq:relative-robustness")
def test_relative_robustness_is_the_gain_under_shift():
    got = relative_robustness(torch.tensor([0.6, 0.4]), torch.tensor([0.5, 0.45]))
    assert got.tolist() == pytest.approx([0.6 - 0.5, 0.4 - 0.45])


def test_the_papers_table_has_the_differences_that_the_paper_prints():
    supervised, zero_shot = CLIP_TABLE.values()
    assert len(SHIFTS) == len(supervised) == len(zero_shot) == len(CLIP_ADAPTED)
    differences = [round(z - s, 1) for z, s in zip(zero_shot, supervised)]
    assert differences == [0, 5.8, 51.2, 39.7, 35.0, 74.4]
    assert round(zero_shot[0] + CLIP_ADAPTED[0], 1) == 85.4


def test_lines_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="2 or more reference models"):
        fit_line(ACCURACY[:1], SHIFTED[:1])
    with pytest.raises(ValueError, match="5 accuracies and 4 under shift"):
        fit_line(ACCURACY, SHIFTED[:4])
    with pytest.raises(ValueError, match="the same accuracy"):
        fit_line(torch.full((3,), 0.5), SHIFTED[:3].float())
