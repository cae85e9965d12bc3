"""The figures of feelings show the examples, the sum that fails and the study."""

from itertools import product

import pytest
import torch
from figure_parts import check_texts, texts

from mmlearn.data.affect import FEELINGS, feeling_of, make_affect
from mmlearn.figures.both_modalities import affect


def hum(words, tones, seeds):
    return torch.sin(torch.arange(1200) / 20).expand(len(words), -1)


def test_examples_say_their_cues_and_their_feeling():
    data = make_affect(32, "test", size=32, speak=hum)
    which = affect.one_of_each(data)
    assert [int(data.feelings[i]) for i in which] == [0, 1, 2, 3]
    drawn = affect.feelings(data)
    check_texts(drawn)
    said = texts(drawn)
    for i in which:
        cues = data.cues[i]
        assert FEELINGS[feeling_of(cues)] in said and f"“{data.texts[i]}”" in said
        assert f"{'wink' if cues.wink else 'no wink'}, arms {'raised' if cues.arms else 'down'}" in said
    with pytest.raises(ValueError, match="no example is"):
        affect.one_of_each(data.rows([0]))
    silent = affect.feelings(make_affect(16, size=16))
    assert len(texts(silent)) == len(said)


def test_a_wave_is_drawn_by_the_largest_values_of_its_parts():
    points = affect.wave_points(torch.tensor([0.0, 1.0, -1.0, 0.5]), 0, 10, 20, 4, columns=2)
    assert points == [(5.0, 8.0), (5.0, 10.0), (15.0, 9.0), (15.0, 12.0)]


def test_no_sum_gets_all_four_cases_and_one_product_does():
    assert affect.best_of_sums() == 3
    assert all(((2 * a - 1) * (2 * b - 1) < 0) == (a != b) for a, b in product((0, 1), repeat=2))
    drawn = affect.xor()
    check_texts(drawn)
    assert "at most 3 of 4 are right" in texts(drawn)


def test_the_study_is_drawn_with_its_means_and_best_guesses():
    found = {"best guess": {"picture": 0.25, "all: product": 1.0}, "arms": {
        "picture": [{"scores": {"accuracy": 0.2}}, {"scores": {"accuracy": 0.3}}],
        "all: product": [{"scores": {"accuracy": 1.0}}, {"scores": {"accuracy": 0.98}}]}}
    drawn = affect.fusion(found)
    check_texts(drawn)
    said = texts(drawn)
    assert "0.25" in said and "0.99" in said and "product" in said
    assert "picture: 0.25, best guess 0.25" in drawn.alt
