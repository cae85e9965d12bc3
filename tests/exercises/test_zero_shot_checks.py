"""What the checks of chapter 4's exercises about zero-shot, pooling and bias know of mistakes, and what they
take for right."""

import math

import pytest
import torch
from exercise_parts import check_answers, check_mistakes, checked_by
from notebooks import ROOT
from sections import exercises, solutions_of

from mmlearn.exercises import planted_bias, pooled_encoders, zero_shot_classifiers

MODULES = {"zero_shot_classifiers": zero_shot_classifiers, "pooled_encoders": pooled_encoders,
           "planted_bias": planted_bias}
PAGE = ROOT / "book" / "exercises" / "4-text-for-vision.ipynb"
PARTS = checked_by(exercises(solutions_of(PAGE))[1], MODULES)
SHORT = [part for part in PARTS if "(open)" not in part.title]       # the studies have stand-ins, below
each_short_part = pytest.mark.parametrize("part", SHORT, ids=lambda part: part.title.split()[1])

# --------------------------------------------------------------------------- the answers on the page


def test_these_modules_check_six_exercises():
    assert len(PARTS) == 6 and len(SHORT) == 4


@each_short_part
def test_right_answers_are_right_and_each_wrong_one_gets_a_hint_of_its_own(part, capsys):
    given = {"torch": torch, "math": math}
    for cell in part.cells:                                 # wrong answers of exercise 8 share functions
        if cell.metadata.get("tags") == ["hide-cell"]:
            exec(cell.source, given)
    check_answers(part, capsys, **given)


@each_short_part
def test_every_known_mistake_differs_from_the_right_answer_and_from_the_other_mistakes(part, monkeypatch):
    check_mistakes(part, (zero_shot_classifiers, pooled_encoders), monkeypatch)


# ----------------------------------------------------------------------------- more mistakes in words


def hits(scores, owner):
    mine = owner == torch.arange(len(scores))[:, None]
    return mine, scores.masked_fill(~mine, -torch.inf).amax(1, keepdim=True), scores.gather(0, owner[None])


def own_ties(scores, owner, k):
    mine, best, right = hits(scores, owner)
    return (float((((scores >= best).sum(1) - 1) < k).float().mean()),
            float(((~mine & (scores >= right)).sum(0) < k).float().mean()))


def own_competitors(scores, owner, k):
    right = scores.gather(0, owner[None])[0]
    return (float((((scores[owner] >= right[:, None]).sum(1) - 1) < k).float().mean()),
            float((((scores >= right).sum(0) - 1) < k).float().mean()))


@pytest.mark.parametrize("wrong, words", [
    (own_ties, "a tie with another caption of the same picture"),
    (own_competitors, "with the picture's other captions as competitors"),
    (lambda scores, owner, k: None, "is the return missing?")])
def test_what_is_often_written_for_recalls_is_answered_in_words(wrong, words):
    assert words in zero_shot_classifiers.recalls.verdict(wrong)


# ---------------------------------------------------------------------------------------------------- studies


def accuracy(templates, split):
    return 0.5 + len(templates[0]) / 100 + (split == "test") / 50


SENTENCES = tuple(f"{{}} {'x' * n}" for n in range(10))


def search(accuracy, some=("{}", *SENTENCES)):
    val = {(s,): accuracy((s,), "val") for s in some}
    best = max(val, key=val.get)
    return {"templates": best, "val": val[best], "test": accuracy(best, "test")}


def test_a_search_that_looks_once_is_right_and_one_without_the_bare_name_is_not():
    said = zero_shot_classifiers.search_for_a_prompt.verdict
    assert said(search, accuracy).startswith("right: ")
    assert "it is the one to beat" in said(lambda a: search(a, SENTENCES), accuracy)
    assert "try at least ten" in said(lambda a: search(a, ("{}",)), accuracy)


def plant(group, agreement, generator):
    agrees = torch.rand(len(group), generator=generator) < agreement
    return torch.where(agrees, group, 1 - group)


def trained(plant, agreement, seed):
    return 2 * agreement - 1 + 0.01 * (-1) ** seed


def study(train, agreements=(0.1, 0.5, 0.9), seeds=(0, 1)):
    return {agreement: [train(agreement, seed) for seed in seeds] for agreement in agreements}


def verdict(plant=plant, study=study, trained=trained):
    return planted_bias.planted_bias.verdict(plant, study, trained)


def test_a_study_with_a_control_and_two_directions_is_right():
    assert verdict().startswith("right: ")


@pytest.mark.parametrize("changed, words", [
    (lambda t: study(t, (0.1, 0.9)), "where nothing is planted, is the control"),
    (lambda t: study(t, (0.5, 0.9)), "one on either side"),
    (lambda t: study(t, seeds=(0,)), "cannot tell a bias from luck"),
    (lambda t: {a: [abs(g) for g in row] for a, row in study(t).items()}, "without their sign"),
    (lambda t: {a: 2 * [max(row)] for a, row in study(t).items()}, "none left out"),
    (lambda t: list(study(t)), "return a dictionary")])
def test_a_study_that_leaves_out_is_told_so(changed, words):
    assert words in verdict(study=changed)


@pytest.mark.parametrize("planted, words", [
    (lambda g, a, r: torch.where(torch.rand(len(g), generator=r) < a, 1 - g, g), "should agree disagree"),
    (lambda g, a, r: torch.where(torch.rand(len(g)) < a, g, 1 - g), "draw with the generator"),
    (lambda g, a, r: torch.where(torch.arange(len(g)) // 2 < a * len(g) / 2, g, 1 - g), "has to be drawn")])
def test_roles_that_are_not_drawn_as_asked_are_told_so(planted, words):
    assert words in verdict(plant=planted)


def test_a_gap_that_drowns_in_the_spread_of_its_control_is_no_bias():
    said = verdict(trained=lambda plant, a, seed: 0.1 * (2 * a - 1) + (-1) ** seed)
    assert "does not stand out from the control" in said
