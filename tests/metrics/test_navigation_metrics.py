"""Success, SPL, oracle success and navigation error."""

import pytest
import torch

from mmlearn.metrics.navigation import (
    navigation_error,
    navigation_scores,
    oracle_success,
    path_share,
    spl,
    success,
)

# five walks: right away; a detour; stopped too early; passed the goal; at the goal without saying so
TO_GOAL = torch.tensor([[2, 1, 0, 0, 0], [2, 3, 2, 1, 0], [3, 2, 2, 2, 2], [1, 0, 1, 2, 2], [2, 1, 0, 0, 0]])
STOPPED = torch.tensor([True, True, True, True, False])
SHORTEST = torch.tensor([2, 2, 3, 1, 2])
TAKEN = torch.tensor([2, 4, 1, 3, 2])


@pytest.mark.equation("eq:nav-error", "eq:nav-success", "eq:nav-oracle")
def test_error_success_and_oracle_success_are_the_definitions():
    assert navigation_error(TO_GOAL).tolist() == [0, 0, 2, 2, 0]
    assert success(navigation_error(TO_GOAL), STOPPED).tolist() == [True, True, False, False, False]
    assert success(navigation_error(TO_GOAL), STOPPED, 2).tolist() == [True, True, True, True, False]
    assert oracle_success(TO_GOAL).tolist() == [True, True, False, True, True]


@pytest.mark.equation("eq:nav-share", "eq:nav-spl")
def test_spl_is_the_mean_of_success_times_shortest_over_the_longer_of_both():
    good = success(navigation_error(TO_GOAL), STOPPED)
    want = 0.0
    for s, shortest, taken in zip(good.tolist(), SHORTEST.tolist(), TAKEN.tolist()):
        want += float(s) * shortest / max(taken, shortest)
    assert float(spl(good, SHORTEST, TAKEN)) == pytest.approx(want / 5) == pytest.approx(1.5 / 5)
    metres = 2.25
    assert float(spl(good, SHORTEST * metres, TAKEN * metres)) == pytest.approx(want / 5)
    assert path_share(torch.tensor([0, 0]), torch.tensor([0, 3])).tolist() == [1.0, 0.0]


def test_spl_lies_between_nothing_and_the_rate_of_success():
    torch.manual_seed(0)
    for _ in range(20):
        good, shortest = torch.rand(30) < 0.5, torch.randint(1, 9, (30,))
        taken = torch.randint(0, 20, (30,))
        assert 0 <= float(spl(good, shortest, taken)) <= float(good.float().mean()) + 1e-6
        assert float(spl(good, shortest, shortest)) == pytest.approx(float(good.float().mean()))


def test_scores_hold_the_means_of_all_walks():
    scores = navigation_scores(TO_GOAL, STOPPED, SHORTEST, TAKEN)
    assert scores.success == pytest.approx(0.4) and scores.oracle_success == pytest.approx(0.8)
    assert scores.error == pytest.approx(0.8) and scores.length == pytest.approx(2.4) and scores.walks == 5
    assert scores.spl == pytest.approx(0.3)
    assert navigation_scores(TO_GOAL, STOPPED, SHORTEST, TAKEN, radius=2).success == pytest.approx(0.8)


def test_walks_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="there is no walk to score"):
        navigation_scores(TO_GOAL[:0], STOPPED[:0], SHORTEST[:0], TAKEN[:0])
    with pytest.raises(ValueError, match="a distance is negative"):
        navigation_scores(TO_GOAL - 1, STOPPED, SHORTEST, TAKEN)
    with pytest.raises(ValueError, match="walk 0 reached its goal by 2, shorter than the shortest way 4"):
        navigation_scores(TO_GOAL, STOPPED, SHORTEST * 2, TAKEN)
