"""What the checks of the exercises about a picture as a prefix know of mistakes, and take for right."""

import pytest
import torch
from exercise_parts import check_answers, check_mistakes, checked_by
from notebooks import ROOT
from sections import exercises, solutions_of

from mmlearn.claims import paired
from mmlearn.exercises import prefixes

MODULES = {"prefixes": prefixes}
PAGE = ROOT / "book" / "exercises" / "5-both-modalities.ipynb"
PARTS = checked_by(exercises(solutions_of(PAGE))[1], MODULES)
SHORT = [part for part in PARTS if "(open)" not in part.title]
each_short_part = pytest.mark.parametrize("part", SHORT, ids=lambda part: part.title.split()[1])


@each_short_part
def test_right_answers_are_right_and_each_wrong_one_gets_a_hint_of_its_own(part, capsys):
    check_answers(part, capsys, torch=torch)


@each_short_part
def test_every_known_mistake_differs_from_the_right_answer_and_from_the_other_mistakes(part, monkeypatch):
    check_mistakes(part, MODULES.values(), monkeypatch)


# ------------------------------------------------------------------------------------------- 18: the mask


def mask_of(n, real, sees):
    b, t = real.shape
    first = t - real.sum(1)
    return torch.tensor([[[bool(real[i, k]) and sees(q, k, int(first[i]), int(n[i])) for k in range(t)]
                          for q in range(t)] for i in range(b)])


@pytest.mark.parametrize("sees, words", [
    (lambda q, k, a, n: k <= q or max(q, k) < a + n, "right:"),
    (lambda q, k, a, n: k <= q, "those behind it"),
    (lambda q, k, a, n: True, "a word would be told the words behind it"),
    (lambda q, k, a, n: k <= q or q < a + n, "hands on what they say"),
    (lambda q, k, a, n: k <= q or max(q, k) < n, "not at 0"),
    (lambda q, k, a, n: k < q or max(q, k) < a + n, "a place sees itself, too"),
])
def test_masks_are_told_right_or_by_their_mistake(sees, words):
    assert words in prefixes.prefix_mask.verdict(lambda n, real: mask_of(n, real, sees))


# --------------------------------------------------------------------------------------- 19: freeze or not


def trained(part, seed):
    """A stand-in: training the language model gains on captions, and costs on text."""
    gain = {"prefix": 0.0, "prefix and language model": 0.5, "other pictures": -0.3}[part]
    cost = 0.2 + 0.01 * seed if part == prefixes.PARTS[1] else 0.0
    return {"captions": 2.0 - gain + 0.01 * seed, "text alone": 1.0 + cost}


def told(trained, seeds=range(3), parts=prefixes.PARTS, scores=prefixes.SCORES, lower=True, turned=False):
    runs = {part: [trained(part, seed) for seed in seeds] for part in parts}
    tables = {score: {part: [run[score] for run in runs[part]] for part in parts} for score in scores}
    pair = parts[:2] if turned else parts[1::-1]
    return tables, {score: paired(by[pair[0]], by[pair[1]], lower_is_better=lower)
                    for score, by in tables.items()}


def changed(trained, change):
    tables, verdicts = told(trained)
    return {score: {part: change(row) for part, row in by.items()} for score, by in tables.items()}, verdicts


@pytest.mark.parametrize("study, words", [
    (told, "right:"),
    (lambda t: told(t, seeds=(4, 2, 3, 0)), "right:"),
    (lambda t: told(t, parts=prefixes.PARTS[:2]), "the control is missing"),
    (lambda t: told(t, scores=("captions",)), "what is gained, and what it costs"),
    (lambda t: told(t, lower=False), "a loss is better when it is lower"),
    (lambda t: told(t, turned=True), "the arms are exchanged"),
    (lambda t: told(t, seeds=range(2)), "fewer than three seeds"),
    (lambda t: told(lambda part, seed: {"captions": t(part, seed)["text alone"],
                                        "text alone": t(part, seed)["captions"]}),
     "the two losses are exchanged"),
    (lambda t: changed(t, lambda row: [sum(row) / 3] * 3), "these are means over seeds"),
    (lambda t: changed(t, lambda row: [min(row)] * 3), "the lowest loss of the arm"),
    (lambda t: (told(t)[0], {}), "what `paired` has returned"),
    (lambda t: t("nothing", 0), "there is no arm 'nothing'"),
])
def test_studies_of_freezing_are_told_right_or_by_their_mistake(study, words):
    said = prefixes.freeze_or_not.verdict(study, trained)
    assert words in said, said
