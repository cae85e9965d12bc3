"""The rule of evidence: when a study may say "better" or "worse"."""

import math

import pytest

from mmlearn.claims import evidence, evidence_rows, paired


def test_the_same_sign_with_every_seed_and_two_standard_errors_make_a_verdict():
    assert paired([1.1, 1.2, 1.3], [1.0, 1.1, 1.2]).verdict == "better"
    assert paired([1.0, 1.1, 1.2], [1.1, 1.2, 1.3]).verdict == "worse"
    assert paired([1.0, 1.1], [1.1, 1.2], lower_is_better=True).verdict == "better"


def test_one_seed_of_the_other_sign_forbids_a_verdict_however_large_the_mean():
    found = paired([9.0, 9.0, 9.0, 0.99], [1.0, 1.0, 1.0, 1.0])
    assert found.mean > 2 * found.error and found.verdict == "cannot tell"


def test_a_mean_below_twice_its_standard_error_forbids_a_verdict_although_all_signs_agree():
    found = paired([0.01, 0.01, 3.0], [0.0, 0.0, 0.0])
    assert 0 < found.mean < 2 * found.error and found.verdict == "cannot tell"


def test_one_seed_can_tell_nothing():
    found = paired([2.0], [1.0])
    assert found.verdict == "cannot tell" and math.isnan(found.error)


def test_the_standard_error_is_that_of_the_mean_of_the_differences():
    found = paired([1.0, 2.0, 4.0], [0.0, 0.0, 0.0])
    mean = 7 / 3
    assert found.mean == pytest.approx(mean)
    assert found.error == pytest.approx(
        math.sqrt(((1 - mean) ** 2 + (2 - mean) ** 2 + (4 - mean) ** 2) / 2 / 3)
    )


def test_pairs_are_by_seed_so_a_spread_that_both_arms_share_does_not_hide_a_difference():
    base = [1.0, 5.0, 9.0]
    assert paired([b + 0.1 for b in base], base).verdict == "better"


@pytest.mark.parametrize("ours, base", [([], []), ([1.0], [1.0, 2.0])])
def test_arms_without_a_partner_for_every_seed_are_refused(ours, base):
    with pytest.raises(ValueError, match="one of each arm for every seed"):
        paired(ours, base)


def test_every_metric_of_both_arms_is_reported_and_the_adverse_come_first():
    ours = {"good": [2.0, 3.0], "open": [1.0, -1.0], "bad": [0.0, 0.0], "errors": [2.0, 2.0], "alone": [1.0]}
    base = {"good": [1.0, 2.0], "open": [0.0, 0.0], "bad": [1.0, 1.0], "errors": [1.0, 1.0]}
    found = evidence(ours, base, lower_is_better=["errors"])
    assert {name: p.verdict for name, p in found.items()} == {
        "bad": "worse", "errors": "worse", "open": "cannot tell", "good": "better"}
    assert list(found) == ["bad", "errors", "open", "good"]


def test_a_table_has_a_row_a_metric_and_a_column_an_arm():
    judged = evidence({"a": [1.5, 1.5], "b": [1.0, 1.0]}, {"a": [1.0, 1.0], "b": [2.0, 2.0]})
    first = evidence({"a": [1.0, 1.0]}, {"a": [1.0, 1.0]})
    assert evidence_rows({"one": judged, "two": first}) == [
        ["b", "worse (-1.000 ± 0.000)", ""],
        ["a", "better (+0.500 ± 0.000)", "cannot tell (+0.000 ± 0.000)"]]
