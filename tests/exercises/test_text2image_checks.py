"""What the checks of chapter 2's exercises know of mistakes, and what they take for right."""

import pytest
import torch
from exercise_parts import check_mistakes
from notebooks import ROOT
from sections import exercises, solutions_of

from mmlearn.exercises import (
    Hint,
    measured_table,
    text2image,
    text2image_diffusion,
    text2image_likelihood,
    text2image_metrics,
    text2image_systems,
)
from mmlearn.text2image.adversarial import optimal_discriminator, value_of_game

PAGE = ROOT / "book" / "exercises" / "2-text2image.ipynb"
PARTS = exercises(solutions_of(PAGE))[1]
MODULES = (text2image, text2image_metrics, text2image_systems, text2image_likelihood, text2image_diffusion)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title.split()[1])
def test_every_known_mistake_differs_from_the_right_answer_and_from_the_other_mistakes(part, monkeypatch):
    check_mistakes(part, MODULES, monkeypatch, "(open)")


@pytest.mark.parametrize("w", [0.0, 0.3, 0.5, 0.8])
def test_no_other_generator_leaves_the_best_discriminator_of_gan_cls_less(w):
    generator = torch.Generator().manual_seed(0)

    def least(p_r, p_w, p_g):
        refused = w * p_w + (1 - w) * p_g
        return float(value_of_game(p_r, refused, optimal_discriminator(p_r, refused)))

    for _ in range(5):
        p_r, p_w = (2 * torch.randn(2, 6, generator=generator, dtype=torch.float64)).softmax(1)
        rest = text2image.rest_of(p_r, p_w, w)
        assert rest.min() >= 0 and float(rest.sum()) == pytest.approx(1)
        for scale in (1e-3, 0.1, 1.0):
            tables = (3 * torch.randn(60, 6, generator=generator, dtype=torch.float64)).softmax(1)
            for other in tables:
                assert least(p_r, p_w, rest) <= least(p_r, p_w, (1 - scale) * rest + scale * other) + 1e-12


def test_the_frechet_distance_by_matrix_roots_is_that_of_the_package():
    generator = torch.Generator().manual_seed(0)
    A, B = (torch.randn(n, 5, generator=generator, dtype=torch.float64) @ torch.randn(
        5, 5, generator=generator, dtype=torch.float64) for n in (12, 30))
    ours = text2image_metrics.distance_of(A.mean(0) - B.mean(0), A.mT.cov(), B.mT.cov())
    assert ours == pytest.approx(text2image_metrics.frechet(A, B), rel=1e-9)


def table_of(record):
    return measured_table({n: [1.0 * s for s in range(3)] for n in (1, 2, 4)}, record, "pictures",
                          ("distance", "distances"))


def test_a_table_of_what_was_measured_is_handed_back():
    record = {(n, s): 1.0 * s for n in (1, 2, 4) for s in range(3)}
    assert table_of(record) == {1: [0.0, 1.0, 2.0], 2: [0.0, 1.0, 2.0], 4: [0.0, 1.0, 2.0]}


def test_a_table_of_a_study_holds_what_was_measured_with_seeds_of_their_own():
    record = {(n, s): 1.0 * s for n in (1, 2, 4) for s in range(3)}
    with pytest.raises(Hint, match="none made up"):
        table_of(record | {(2, 1): 7.0})
    with pytest.raises(Hint, match="a seed of their own"):
        table_of({key: value for key, value in record.items() if key != (4, 2)})


@pytest.mark.parametrize("table,control,words", [
    ([1.0], None, r"return a dictionary \{slots: \[accuracy of each seed\]\}"),
    ({0: 0.5}, None, "a mean alone has no spread"),
    ({0: [1.0], 1: [1.0]}, None, "needs at least three"),
    ({1: [1.0] * 3, 2: [1.0] * 3, 3: [1.0] * 3}, 0, r"needs 0 \(the control\)"),
    ({0: [1.0] * 3, 2: [1.0] * 3, 3: [1.0] * 2}, 0, "fewer than three seeds"),
])
def test_a_table_of_a_study_has_settings_seeds_and_a_control(table, control, words):
    with pytest.raises(Hint, match=words):
        measured_table(table, {}, "slots", ("accuracy", "accuracies"), control)


def best_of(n, seed):
    """What doubling gains is halved from 8 on."""
    return {1: 0.2, 2: 0.4, 4: 0.6, 8: 0.75, 16: 0.8, 32: 0.84, 64: 0.86}[n] + 1e-4 * seed


@pytest.mark.parametrize("number, said", [
    (8, "right:"), (16, "this is already the double"), (64, "the largest number measured is no answer"),
    (4, "from 8 on, not from 4")])
def test_the_number_of_pictures_is_read_off_the_students_own_table(number, said):
    def study(measure):
        return {2**i: [measure(2**i, seed) for seed in range(3)] for i in range(7)}, number

    assert said in text2image_likelihood.best_of_many.verdict(study, best_of)


def test_a_step_of_ddim_is_a_way_back_only_if_it_is_the_inverse():
    def towards_the_data_only(x, noise, start, end):
        data = (x - (1 - start) ** 0.5 * noise) / start**0.5
        late = end**0.5 * data + (1 - end) ** 0.5 * noise
        return late if end > start else late + 1e-3

    assert "should be" in text2image_diffusion.both_ways.verdict(towards_the_data_only)
