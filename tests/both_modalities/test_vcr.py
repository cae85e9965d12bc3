"""Problems with reasons: one choice is right, the others are not, and choices alone give nothing away."""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch

from mmlearn.data.rationales import (
    FAMILIES,
    FORBIDDEN,
    Claim,
    VCRSet,
    adversarial_choices,
    assignment,
    matching_weight,
    reasoned,
    shortcuts,
    tags,
    vcr_problems,
    with_names,
)
from mmlearn.data.scenes import CATEGORIES, sample_scene
from mmlearn.data.scenes.language import HYPERNYMS, RELATION_WORDS
from mmlearn.metrics.vcr import CHANCE, choose, joint_accuracy, vcr_scores

PREDICATE = {words[0]: predicate for predicate, words in RELATION_WORDS.items()}
SUPER = {c.name: c.supercategory for c in CATEGORIES}
PLACES = {"on the left": (0, 0), "in the middle": (0, 1), "on the right": (0, 2), "at the top": (1, 0),
          "at half height": (1, 1), "at the bottom": (1, 2)}
AREA = {"less than a thirtieth": (0, 0.03), "about a twentieth": (0.03, 0.06), "about a tenth": (0.06, 0.12),
        "about a sixth": (0.12, 0.2), "more than a fifth": (0.2, 9)}


@pytest.fixture(scope="module")
def train():
    return vcr_problems(240, "train", scenes=100)


@pytest.fixture(scope="module")
def test():
    return vcr_problems(180, "test", scenes=80)


def says_truth(text, scene, things):
    """Whether a sentence is true of a scene, from its words, the boxes and the lists of the graph."""
    objects = scene.objects
    if m := re.fullmatch(r"Both are (.+)\.", text):
        one, two = (objects[i] for i in things)
        kinds = {SUPER[o.category] for o in (one, two)}
        return (any(m[1] == a == b for a, b in ((one.colour, two.colour), (one.size, two.size),
                                                 (one.texture, two.texture)))
                or len(kinds) == 1 and m[1] == HYPERNYMS.get(kinds.copy().pop(), ("", ""))[1])
    if m := re.fullmatch(r"\[(\d+)\] hides a part of \[(\d+)\]\.", text):
        return holds(scene, int(m[1]), "in front of", int(m[2]))
    if m := re.fullmatch(r"\[(\d+)\] is (.+) \[(\d+)\]\.", text):
        return holds(scene, int(m[1]), PREDICATE[m[2]], int(m[3]))
    if m := re.fullmatch(r"\[(\d+)\] fills (.+) of the picture, and \[(\d+)\] fills (.+)\.", text):
        return all(AREA[w][0] <= objects[int(i)].width * objects[int(i)].height < AREA[w][1]
                   for i, w in ((m[1], m[2]), (m[3], m[4])))
    m = re.fullmatch(r"\[(\d+)\] is (.+), and \[(\d+)\] is (?:only )?(.+)\.", text)
    assert m, text
    one, two = objects[int(m[1])], objects[int(m[3])]
    if m[2].endswith(" of the picture"):
        truths = []
        for o, words in ((one, m[2].removesuffix(" of the picture")), (two, m[4])):
            axis, third = PLACES[words]
            truths.append(min(2, int(3 * max(0.0, (o.x, o.y)[axis]))) == third)
        return all(truths)
    return described(one, m[2]) and described(two, m[4])


def described(thing, words):
    words = re.sub(r"^an? ", "", words)
    return words in (thing.category, f"{thing.colour} {thing.category}",
                     *([f"person in {thing.colour}"] if thing.category == "person" else []))


def holds(scene, i, predicate, j):
    return any((r.subject, r.predicate, r.object) == (i, predicate, j) for r in scene.relations)


def test_the_right_answer_and_reason_are_true_and_no_other_answer_is(train, test):
    for data in (train, test):
        for p in data.problems:
            scene = data.scenes[p.scene]
            truths = [says_truth(text, scene, p.things) for text in p.answers]
            assert [i for i, truth in enumerate(truths) if truth] == [p.answer], (p, truths)
            assert says_truth(p.rationales[p.rationale], scene, p.things), p
            assert len(set(p.answers)) == len(set(p.rationales)) == 4


def test_a_true_reason_that_is_wrong_is_beside_the_matter(train):
    beside = 0
    for p in train.problems:
        for i, text in enumerate(p.rationales):
            if i != p.rationale and says_truth(text, train.scenes[p.scene], p.things):
                right = p.rationales[p.rationale]
                across = [any(w in t for w in ("left", "middle", "right")) for t in (text, right)]
                assert "hides" in text + right or across[0] != across[1], (text, right)
                beside += 1
    assert beside > 0


def test_all_tags_point_at_the_two_things_of_the_question(train):
    for p in train.problems:
        assert tags(p.question) == p.things
        for text in (*p.answers, *p.rationales):
            assert set(tags(text)) <= set(p.things)
        left, top, right, bottom = p.box(train.scenes[p.scene], 0)
        assert left < right and top < bottom
    assert with_names("[0] is red.", train.scenes[0]) == f"{train.scenes[0].objects[0].category} [0] is red."


def test_every_choice_is_right_once_and_wrong_three_times(train):
    assert {p.family for p in train.problems} == set(FAMILIES)
    assert len(train) > 120
    for family in FAMILIES:
        own = [p for p in train.problems if p.family == family]
        for texts, place in (("answers", "answer"), ("rationales", "rationale")):
            right = Counter(re.sub(r"\d", "", getattr(p, texts)[getattr(p, place)]) for p in own)
            every = Counter(re.sub(r"\d", "", text) for p in own for text in getattr(p, texts))
            assert every == Counter({text: 4 * n for text, n in right.items()})


def test_right_choices_stand_at_every_place_alike(train):
    for name in ("answer", "rationale"):
        counts = Counter(getattr(p, name) for p in train.problems)
        expected = len(train) / 4
        assert sum((counts[i] - expected) ** 2 / expected for i in range(4)) < 16.3     # p = 0.001


def test_choices_alone_are_no_better_than_guessing(train, test):
    found = shortcuts(train, test)
    assert set(found) == {"choices only", "most words in common", "longest"}
    n = len(test)
    for share, chance in ((found["choices only"].answer, 1 / 4), (found["choices only"].rationale, 1 / 4),
                          (found["longest"].answer, 1 / 4)):
        assert abs(share - chance) < 4 * math.sqrt(chance * (1 - chance) / n)
    assert found["choices only"].joint < 0.2
    assert found["most words in common"].answer < 0.5


def test_problems_are_a_function_of_their_arguments():
    one = vcr_problems(60, "val", seed=2, scenes=40)
    assert one == vcr_problems(60, "val", seed=2, scenes=40) != vcr_problems(60, "val", seed=3, scenes=40)
    assert VCRSet(one.scenes[:2], ()).images(16).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("arguments, sentence", [
    ((5,), "count is 5"), ((60, "new"), "split 'new' is unknown")])
def test_what_cannot_be_made_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        vcr_problems(*arguments)


def test_questions_of_a_scene_have_true_answers_and_reasons():
    for index in range(20):
        scene = sample_scene(5, index)
        for one in reasoned(scene):
            assert one.answer.holds(scene, *one.things) and one.reason.holds(scene, *one.things)


@pytest.mark.equation("eq:vcr-weight")
def test_a_wrong_choice_should_be_relevant_and_not_as_right():
    relevance, similarity = np.array([[0.5, 0.25], [1.0, 0.1]]), np.array([[1.0, 0.5], [0.0, 1.0]])
    got = matching_weight(relevance, similarity, 2.0)
    want = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            want[i, j] = (FORBIDDEN if similarity[i, j] == 1 else
                          math.log(relevance[i, j]) + 2 * math.log(1 - similarity[i, j]))
    np.testing.assert_allclose(got, want)


def test_the_assignment_is_the_cheapest_of_all():
    draw = np.random.default_rng(0)
    for n in (1, 2, 3, 5, 6):
        for _ in range(6):
            cost = draw.normal(size=(n, n)).round(1)
            best = min(sum(cost[i, p[i]] for i in range(n)) for p in itertools.permutations(range(n)))
            found = assignment(cost)
            assert sorted(found) == list(range(n))
            assert cost[np.arange(n), found].sum() == pytest.approx(best)


@pytest.mark.parity
def test_the_assignment_costs_what_scipy_finds():
    from scipy.optimize import linear_sum_assignment

    draw = np.random.default_rng(1)
    for n in (20, 60):
        cost = draw.normal(size=(n, n))
        cost[draw.random((n, n)) < 0.3] = 1e6
        rows, columns = linear_sum_assignment(cost)
        assert cost[np.arange(n), assignment(cost)].sum() == pytest.approx(cost[rows, columns].sum())


def test_a_question_without_wrong_choices_is_named():
    scene = sample_scene(0, 0)
    asked = [one for i in range(30) for one in reasoned(sample_scene(0, i), i) if one.family == "where"][:2]
    scenes = [sample_scene(0, i) for i in range(30)]
    assert None in adversarial_choices(asked, scenes, lambda one: one.answer)      # three are needed
    assert adversarial_choices([], [scene], lambda one: one.answer) == []


def test_claims_are_sentences():
    assert Claim("relation", ("left of",)).text() == "[0] is to the left of [1]."
    assert Claim("share", ("kind", "animals")).text() == "Both are animals."
    assert Claim("kinds", ("umbrella", "cup")).text() == "[0] is an umbrella, and [1] is only a cup."


@pytest.mark.equation("eq:vcr-joint")
def test_both_choices_must_be_right_for_the_joint_number():
    draw = torch.Generator().manual_seed(0)
    answers, rationales, right_a, right_r = (torch.randint(4, (50,), generator=draw) for _ in range(4))
    scores = vcr_scores(answers, rationales, right_a, right_r)
    hits = [0, 0, 0]
    for i in range(50):
        a, r = bool(answers[i] == right_a[i]), bool(rationales[i] == right_r[i])
        hits = [hits[0] + a, hits[1] + r, hits[2] + (a and r)]
    assert list(scores.table().values()) == pytest.approx([hit / 50 for hit in hits])
    assert list(scores.table()) == list(CHANCE) == ["Q->A", "QA->R", "Q->AR"]
    assert joint_accuracy(answers == right_a, rationales == right_r) == pytest.approx(hits[2] / 50)
    assert CHANCE["Q->AR"] == CHANCE["Q->A"] * CHANCE["QA->R"] == 0.0625


def test_logits_are_chosen_from_and_broken_ones_refused():
    assert choose(torch.tensor([[0., 2, 1, 2], [3, 0, 0, 0]])).tolist() == [1, 0]
    with pytest.raises(ValueError, match="3 logits a question"):
        choose(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="not a number"):
        choose(torch.full((1, 4), math.nan))
    one = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="3 answers, 2 rationales"):
        vcr_scores(one, one[:2], one, one)
    with pytest.raises(ValueError, match="rationales go from 4 to 4"):
        vcr_scores(one, one + 4, one, one)
