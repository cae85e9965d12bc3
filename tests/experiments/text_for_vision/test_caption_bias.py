"""Planted correlations are what they are said to be, and shares and gaps are counted right."""

import math

import pytest
import torch

from mmlearn.experiments.text_for_vision.caption_bias import (
    CLASSES,
    GROUPS,
    POSES,
    REMEDIES,
    ROLES,
    People,
    among_others,
    answers,
    associations,
    bias_tokeniser,
    condition,
    mean_probabilities,
    measure,
    people,
    pose_errors,
    repeated,
    role_shares,
    shares_by_threshold,
    study,
    without_roles,
)
from mmlearn.metrics.bias import FAIRFACE, answer_share, association, label_share, share_gap
from mmlearn.text_for_vision.small_encoder import StudyConfig, StudyEncoder


@pytest.fixture
def crowd() -> People:
    return people(40, 0.9, 0)


@pytest.fixture
def model_and_words(crowd):
    tokeniser = bias_tokeniser(among_others(crowd, 8))
    torch.manual_seed(0)
    return StudyEncoder(StudyConfig(len(tokeniser), (4, 8, 8, 8), 16, width=16, layers=1)).eval(), tokeniser


def test_people_differ_by_group_and_by_nothing_else_that_was_not_planted():
    crowd = people(160, 0.9, 0)
    assert crowd.group.bincount().tolist() == [80, 80]
    assert {s.objects[0].colour for s, g in zip(crowd.data.scenes, crowd.group) if g == 0} == {GROUPS[0]}
    assert abs(float((crowd.role == crowd.group).double().mean()) - 0.9) < 0.06
    assert abs(float((crowd.pose == crowd.group).double().mean()) - 0.9) < 0.06
    within = [(crowd.role == crowd.group)[crowd.pose == crowd.group],
              (crowd.role == crowd.group)[crowd.pose != crowd.group]]
    # role and pose decided apart
    assert abs(float(within[0].double().mean() - within[1].double().mean())) < 0.15
    assert torch.equal(people(160, 0.9, 0).role, crowd.role)
    assert not torch.equal(people(160, 0.5, 0).role, crowd.role)


def test_without_correlation_role_and_pose_have_nothing_to_do_with_the_group():
    crowd = people(160, 0.5, 0)
    for words in (crowd.role, crowd.pose):
        assert abs(float((words == crowd.group).double().mean()) - 0.5) < 0.08


def test_captions_tell_the_pose_and_the_clothes_truly_and_the_role_as_planted(crowd):
    for i, texts in enumerate(crowd.data.captions):
        said = " ".join(texts)
        assert len(texts) == 5 and ROLES[crowd.role[i]] in said and ROLES[1 - crowd.role[i]] not in said
        assert POSES[crowd.pose[i]] in said and POSES[1 - crowd.pose[i]] not in said
        assert GROUPS[crowd.group[i]] in said and GROUPS[1 - crowd.group[i]] not in said
        assert crowd.data.scenes[i].objects[0].pose == POSES[crowd.pose[i]]


def test_leaving_roles_out_keeps_pictures_and_poses(crowd):
    silent = without_roles(crowd)
    assert torch.equal(silent.data.images, crowd.data.images) and torch.equal(silent.pose, crowd.pose)
    assert not any(role in text for texts in silent.data.captions for text in texts for role in ROLES)
    assert all(len(texts) == 2 for texts in silent.data.captions)


def test_repeating_makes_every_combination_equally_common():
    crowd = people(80, 0.6, 0)
    evened = repeated(crowd)
    cells = (4 * evened.group + 2 * evened.role + evened.pose).bincount()
    assert len(cells) == 8 and len(set(cells.tolist())) == 1
    assert len(evened) == len(evened.data) == int(cells.sum())
    assert set(evened.data.scenes) == set(crowd.data.scenes)  # nobody is lost, nobody invented


def test_conditions_are_known_by_name():
    for agreement in (0.9, 0.5):
        named, wanted = condition(agreement, 40), people(40, agreement, 0)
        assert torch.equal(named.role, wanted.role) and named.data.captions == wanted.data.captions
    silent, evened = (condition(name, 40) for name in REMEDIES)
    assert silent.data.captions == without_roles(people(40)).data.captions and len(evened) == len(
        repeated(people(40))
    )
    with pytest.raises(ValueError, match="condition is 'fair'; use an agreement or one of role words left "
                                         "out"):
        condition("fair", 12)


def test_others_are_no_people(crowd):
    data = among_others(crowd, 12)
    assert len(data) == 52 and not any(s.objects[0].category == "person" for s in data.scenes[40:])


def test_impossible_crowds_are_refused():
    with pytest.raises(ValueError, match="agreement 1.5"):
        people(10, 1.5)
    with pytest.raises(ValueError, match="1 people"):
        people(1)


@pytest.mark.equation("eq:answer-share")
def test_the_share_of_answers_counts_the_most_probable_class():
    P = torch.rand(9, 4, dtype=torch.float64)
    members = torch.tensor([True, False, True, True, False, True, True, False, True])
    want = [0.0] * 4
    for i in range(9):
        if members[i]:
            best = max(range(4), key=lambda c: float(P[i, c]))
            want[best] += 1 / 6
    torch.testing.assert_close(answer_share(P, members), torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:label-share")
@pytest.mark.parametrize("threshold", [0, 0.3, 0.5, 1.0])
def test_the_share_of_labels_counts_every_class_above_the_threshold(threshold):
    P = torch.rand(9, 4, dtype=torch.float64)
    P[0, 0], members = 0.5, torch.arange(9) < 5
    want = [sum(float(P[i, c]) >= threshold for i in range(5)) / 5 for c in range(4)]
    torch.testing.assert_close(label_share(P, members, threshold), torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:share-gap")
def test_the_gap_is_the_largest_difference_between_two_groups():
    shares = torch.rand(3, 5, dtype=torch.float64)
    want = [max(abs(float(shares[g, c] - shares[h, c])) for g in range(3) for h in range(3))
            for c in range(5)]
    torch.testing.assert_close(share_gap(shares), torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:word-association")
def test_the_association_compares_how_often_two_things_meet_with_chance():
    members, said = torch.rand(30) < 0.5, torch.rand(30) < 0.4
    both = sum(bool(m) and bool(s) for m, s in zip(members, said))
    want = math.log((both / 30) / ((sum(map(bool, members)) / 30) * (sum(map(bool, said)) / 30)))
    assert association(members, said) == pytest.approx(want)
    assert association(members, ~members) == -math.inf
    with pytest.raises(ValueError, match="no members"):
        association(members, torch.zeros(30, dtype=torch.bool))


def test_a_word_for_everybody_is_associated_with_nobody_and_true_clothes_most():
    found = associations(people(160, 0.9, 0), (*ROLES, "person in blue", "person"))
    assert found[0, 0] > 0.3 > -0.5 > found[1, 0] and found[1, 1] > 0.3  # guide with blue, guest with orange
    assert (
        found[0, 2] > found[0, 0] and found[0, 2] == pytest.approx(math.log(2)) and found[1, 2] == -math.inf
    )
    assert found[0, 3] == found[1, 3] == pytest.approx(0, abs=1e-6)


def test_a_share_of_nobody_is_refused():
    with pytest.raises(ValueError, match="no members"):
        answer_share(torch.rand(3, 2), torch.zeros(3, dtype=torch.bool))


def test_answers_are_distributions_and_shares_follow_from_them(model_and_words, crowd):
    model, tokeniser = model_and_words
    P = answers(model, tokeniser, crowd.data.images, (*ROLES, "person"))
    assert P.shape == (40, 3)
    torch.testing.assert_close(P.sum(dim=1), torch.ones(40))
    shares = role_shares(model, tokeniser, crowd, (*ROLES, "person"))
    torch.testing.assert_close(shares[1], answer_share(P, crowd.group == 1))
    labels = shares_by_threshold(model, tokeniser, crowd, (0.0, 0.3), (*ROLES, "person"))
    torch.testing.assert_close(labels[1, 0], label_share(P, crowd.group == 0, 0.3))
    assert labels.shape == (2, 2, 3) and bool((labels[0] == 1).all())


def test_pose_errors_are_told_apart_by_agreement(model_and_words, crowd):
    model, tokeniser = model_and_words
    said = answers(model, tokeniser, crowd.data.images, [f"{pose} person" for pose in POSES]).argmax(dim=1)
    errors = pose_errors(model, tokeniser, crowd)
    for name, agrees in (("agreeing", True), ("counter-examples", False)):
        rows = [i for i in range(40) if (int(crowd.pose[i]) == int(crowd.group[i])) == agrees]
        assert errors[name] == pytest.approx(
            sum(int(said[i]) != int(crowd.pose[i]) for i in rows) / len(rows)
        )


def test_a_measurement_holds_everything_the_section_shows(model_and_words, crowd):
    told = measure(*model_and_words, crowd)
    assert set(told) == {"shares", "gap", "probabilities", "labels",
                         "pose errors"} and set(told["shares"]) == set(CLASSES)
    assert told["gap"] == pytest.approx(abs(told["shares"]["two roles"][0][0]
                                            - told["shares"]["two roles"][1][0]), abs=2e-4)
    for name, classes in CLASSES.items():
        assert [len(row) for row in told["shares"][name]] == [len(classes)] * 2
        assert [sum(row) for row in told["shares"][name]] == pytest.approx([1, 1], abs=1e-3)
    assert [len(row) for row in told["labels"]["0.005"]] == [2, 2]
    assert [sum(row) for row in told["probabilities"]] == pytest.approx([1, 1], abs=1e-3)


def test_mean_probabilities_are_those_of_the_group(model_and_words, crowd):
    P = answers(*model_and_words, crowd.data.images, ROLES)
    for g, row in enumerate(mean_probabilities(*model_and_words, crowd)):
        mine = [P[i].tolist() for i in range(len(P)) if crowd.group[i] == g]
        assert row.tolist() == pytest.approx([sum(x) / len(mine) for x in zip(*mine)], abs=1e-5)


@pytest.mark.slow
def test_a_planted_role_is_learnt_from_the_clothes_and_not_where_it_was_not_planted():
    runs = study((0.9, 0.5), count=300, others=60, test=80, steps=60, told=lambda line: None)
    assert runs["0.9"][0]["gap"] > runs["0.5"][0]["gap"] + 0.3


def test_adding_a_class_lowers_the_papers_shares():
    assert all(before > after for before, after in FAIRFACE.values())
