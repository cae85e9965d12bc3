"""What the checks of chapter 5's exercises about questions, reasons and feelings know of mistakes, and what
they take for right."""

import pytest
import torch
from exercise_parts import check_answers, check_mistakes, checked_by
from notebooks import ROOT
from sections import exercises, solutions_of

from mmlearn.both_modalities.affect_fusion import sum_of_decisions
from mmlearn.exercises import Answer, questions_and_feelings
from mmlearn.metrics.vcr import choose, vcr_scores
from mmlearn.metrics.vqa import accuracy_of_matches, vqa_accuracy

MODULES = {"questions_and_feelings": questions_and_feelings}
PAGE = ROOT / "book" / "exercises" / "5-both-modalities.ipynb"
PARTS = checked_by(exercises(solutions_of(PAGE))[1], MODULES) if PAGE.exists() else []
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title.split()[1])


@pytest.mark.skipif(not PAGE.exists(), reason="the page of exercises is not there yet")
def test_this_module_checks_three_exercises():
    assert len(PARTS) == 3


@each_part
def test_right_answers_are_right_and_each_wrong_one_gets_a_hint_of_its_own(part, capsys):
    check_answers(part, capsys, torch=torch)


@each_part
def test_every_known_mistake_differs_from_the_right_answer_and_from_the_other_mistakes(part, monkeypatch):
    check_mistakes(part, MODULES.values(), monkeypatch)


# ----------------------------------------------------------------------------- the book's own formulas


def right(check, answer) -> bool:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return check.look(Answer(answer)) is None


def test_the_official_accuracy_is_taken_for_right():
    assert right(questions_and_feelings.three_of_the_others, vqa_accuracy)
    assert right(questions_and_feelings.three_of_the_others,
                 lambda c, said: accuracy_of_matches(said.count(c), len(said)))


def test_the_three_scores_of_the_book_are_taken_for_right():
    def answer(answers, reasons, a, r):
        given = reasons[torch.arange(len(a)), a]
        return [*vcr_scores(choose(answers), choose(given), a, r).table().values()]

    assert right(questions_and_feelings.both_or_neither, answer)


def test_a_sum_of_decisions_over_one_hot_cues_is_taken_for_right():
    def answer(f, g):
        W = torch.stack([torch.stack([f, -f], 1), torch.stack([g, -g], 1)]).double()
        eye = torch.eye(2, dtype=torch.float64)
        rows = torch.stack([torch.stack([eye[w], eye[p]]) for w in (0, 1) for p in (0, 1)])
        votes = sum_of_decisions(rows, W, torch.zeros(2, dtype=torch.float64))[:, 0].view(2, 2)
        return (votes > 0) == torch.tensor([[False, True], [True, False]])

    assert right(questions_and_feelings.cases_got_right, answer)
