"""Scores of affective computing."""

import pytest
import torch
from networks import numbers

from mmlearn.metrics.affect import affect_scores, class_f1, strength_error, weighted_f1

TRUTH = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 0])
ANSWERS = torch.tensor([0, 1, 0, 1, 2, 2, 2, 2, 0, 0])


@pytest.mark.equation("eq:affect-f1", "eq:affect-weighted")
def test_the_weighted_f1_is_the_mean_of_the_classes_by_their_counts():
    want, weighted = [], 0.0
    for c in range(4):
        hits = sum(a == t == c for a, t in zip(ANSWERS.tolist(), TRUTH.tolist()))
        said, true = ANSWERS.tolist().count(c), TRUTH.tolist().count(c)
        precision, recall = hits / max(said, 1), hits / max(true, 1)
        want.append(2 * precision * recall / (precision + recall) if hits else 0.0)
        weighted += true / len(TRUTH) * want[-1]
    torch.testing.assert_close(class_f1(ANSWERS, TRUTH, 4), torch.tensor(want))
    assert float(weighted_f1(ANSWERS, TRUTH, 4)) == pytest.approx(weighted)
    assert affect_scores(ANSWERS, TRUTH, 4) == pytest.approx({"accuracy": 0.7, "weighted F1": weighted})


@pytest.mark.parity
def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    g = torch.Generator().manual_seed(0)
    for n in (5, 50):
        answers, truth = (torch.randint(0, 4, (n,), generator=g) for _ in range(2))
        ours = affect_scores(answers, truth, 4)
        assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(truth, answers))
        assert ours["weighted F1"] == pytest.approx(
            metrics.f1_score(truth, answers, average="weighted", zero_division=0))


@pytest.mark.equation("eq:affect-error")
def test_the_error_of_strengths_is_the_mean_distance():
    a, b = numbers(5), numbers(5, seed=1)
    assert float(strength_error(a, b)) == pytest.approx(sum(abs(float(x - y)) for x, y in zip(a, b)) / 5)


def test_classes_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="there is no answer to score"):
        affect_scores(ANSWERS[:0], TRUTH[:0], 3)
    with pytest.raises(ValueError, match="classes go from 0 to 2, expected 0 to 1"):
        affect_scores(ANSWERS, TRUTH, 2)
