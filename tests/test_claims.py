"""Claims are judged where they are made, and never loosened."""

import math

import pytest

from mmlearn import claims as module
from mmlearn.claims import Claim, ClaimFailed, budget, claim, claims_table, scale, scale_note


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(module, "claims", [])
    monkeypatch.setenv("MMLEARN_SCALE", "cpu")


@pytest.mark.parametrize("ours, comparison, other, holds", [
    (2, ">", 1, True), (1, ">", 1, False), (1, ">=", 1, True), (1, "<", 2, True), (2, "<", 1, False),
    (1, "<=", 1, True), (2, "<=", 1, False), (1, "==", 1, True), (1, "==", 2, False),
    (math.nan, ">", 0, False), (math.nan, "<", 0, False),
])
def test_a_claim_holds_or_stops_the_run(ours, comparison, other, holds, capsys):
    if holds:
        assert claim("so it is", ours, comparison, other).verdict == "holds"
    else:
        with pytest.raises(ClaimFailed, match="so it is: .* does not hold"):
            claim("so it is", ours, comparison, other)
    printed = capsys.readouterr().out
    assert ("holds" if holds else "fails") in printed and "so it is" in printed
    assert [made.verdict for made in module.claims] == ["holds" if holds else "fails"]


def test_at_smoke_scale_nothing_is_judged(monkeypatch, capsys):
    monkeypatch.setenv("MMLEARN_SCALE", "smoke")
    assert claim("so it is", 1, ">", 2).verdict == "not judged"
    assert "not judged" in capsys.readouterr().out


def test_an_unknown_comparison_or_scale_is_named(monkeypatch):
    with pytest.raises(ValueError, match="comparison '=>' is unknown"):
        claim("so it is", 1, "=>", 2)
    monkeypatch.setenv("MMLEARN_SCALE", "huge")
    with pytest.raises(ValueError, match="MMLEARN_SCALE is 'huge'"):
        scale()


@pytest.mark.parametrize("name, want", [("smoke", 2), ("cpu", 600), ("gpu", 6000)])
def test_the_budget_follows_the_scale(monkeypatch, name, want):
    monkeypatch.setenv("MMLEARN_SCALE", name)
    assert budget(cpu=600, gpu=6000) == want
    assert budget(cpu=1) == 1
    assert name in scale_note()


def test_the_table_has_a_row_a_claim_and_reads_as_text_and_as_markdown():
    table = claims_table([Claim("M2 wins", 1.25, ">", 1.0, "holds"),
                          Claim("p(a|b)", 10.0, "<", 2.0, "fails")])
    assert table.splitlines()[:4] == [
        "| claim   |   ours |   | other | verdict |",
        "|---------|-------:|---|------:|---------|",
        "| M2 wins |  1.250 | > | 1.000 | holds   |",
        r"| p(a\|b) | 10.000 | < | 2.000 | fails   |",
    ]
    assert table.endswith(scale_note())


def test_a_table_without_claims_says_so():
    assert claims_table() == "No claims were made."
