"""What the checks of chapter 5's exercises about Flamingo and its prompts know of mistakes, and what they
take for right."""

import pytest
import torch
from exercise_parts import check_answers, check_mistakes, checked_by
from notebooks import ROOT
from sections import exercises, solutions_of

from mmlearn.both_modalities.few_shot import answer_scores, rices
from mmlearn.both_modalities.flamingo import gate_slope, last_picture, media_mask
from mmlearn.exercises import few_shot_prompts

PAGE = ROOT / "book" / "exercises" / "5-both-modalities.ipynb"
PARTS = checked_by(exercises(solutions_of(PAGE))[1], {"few_shot_prompts": few_shot_prompts})
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title.split()[1])


def test_this_module_checks_four_exercises():
    assert len(PARTS) == 4


@each_part
def test_right_answers_are_right_and_each_wrong_one_gets_a_hint_of_its_own(part, capsys):
    check_answers(part, capsys, torch=torch)


@each_part
def test_every_known_mistake_differs_from_the_right_answer_and_from_the_other_mistakes(part, monkeypatch):
    check_mistakes(part, [few_shot_prompts], monkeypatch)


# ----------------------------------------------------------------------------- the book's own formulas


def test_the_mask_of_the_book_is_what_one_block_changes():
    def reached(shows, i):
        phi = last_picture(shows[None])
        direct, later = (media_mask(phi, int(phi.max()), sees)[0, :, i - 1] for sees in ("last", "all"))
        return direct, later

    assert few_shot_prompts.what_a_picture_reaches.verdict(reached).startswith("right: ")


def test_one_channel_at_a_time_the_gate_has_the_slope_of_the_book():
    def gradients(g, f, alpha):
        each = [gate_slope(g[:, j], alpha[j : j + 1], f[:, j]) for j in range(len(alpha))]
        return torch.cat(each), g * alpha.tanh()

    assert few_shot_prompts.gate_for_every_channel.verdict(gradients).startswith("right: ")


def test_plain_rices_shows_an_answer_twice_and_the_book_scores_ends():
    def plain(query, support, answers, shots, own):
        return rices(query[None], support, shots, own=torch.tensor([own]))[0]

    assert "more than once" in few_shot_prompts.nearest_of_each_answer.verdict(plain)

    def scores(log_probs, tokens, eoc):
        own = log_probs.gather(2, tokens[..., None])[..., 0]
        ends = (tokens == eoc).long()
        return answer_scores(own.masked_fill(ends.cumsum(1) > ends, 0.0)[None])[0]

    assert few_shot_prompts.score_with_its_end.verdict(scores).startswith("right: ")
