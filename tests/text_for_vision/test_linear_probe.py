"""The linear probe: its loss, its optimum, its search, few examples."""

import math

import pytest
import torch

from mmlearn.text_for_vision.linear_probe import (
    EIGHTHS,
    draw_shots,
    few_shot_curve,
    fit_probe,
    labels_worth,
    linear_probe,
    probe_loss,
    search_penalty,
)


def clouds(n: int, classes: int = 3, width: int = 4, spread: float = 1.0,
           seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99)) * 1.5
    labels = torch.arange(n) % classes
    return centres[labels] + spread * torch.randn(n, width, generator=generator), labels


@pytest.mark.equation("eq:linear-probe")
def test_the_loss_is_the_sum_of_log_losses_and_half_the_squared_matrix():
    x, y = clouds(7)
    x = x.double()
    W, b = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    want = 0.0
    for row, label in zip(x, y.tolist()):
        z = [float(W[c] @ row + b[c]) for c in range(3)]
        want -= z[label] - math.log(sum(math.exp(v) for v in z))
    want += 0.3 / 2 * sum(float(w) ** 2 for w in W.flatten())
    assert float(probe_loss(W, b, x, y, 0.3)) == pytest.approx(want, abs=1e-10)


def test_at_the_optimum_the_gradient_is_zero_and_the_biases_cancel():
    x, y = clouds(60)
    probe = fit_probe(x, y, 3, 0.5)
    W, b = probe.W.clone().requires_grad_(), probe.b.clone().requires_grad_()
    probe_loss(W, b, x.double(), y, 0.5).backward()
    assert W.grad is not None and b.grad is not None
    assert W.grad.abs().max() < 1e-4 and b.grad.abs().max() < 1e-4
    assert probe.W.sum(0).abs().max() < 1e-5  # the rows of the optimum sum to zero: regularisation is fair


@pytest.mark.parity
@pytest.mark.parametrize("penalty", [1e-2, 1.0, 30.0, 1e5])
def test_the_optimum_is_that_of_scikit_learn(penalty):
    from sklearn.linear_model import LogisticRegression

    x, y = clouds(90, spread=2.0)
    theirs = LogisticRegression(C=1 / penalty, max_iter=5000, tol=1e-10).fit(x.double().numpy(), y.numpy())
    ours = fit_probe(x, y, 3, penalty)
    torch.testing.assert_close(ours.W, torch.from_numpy(theirs.coef_), atol=2e-5 / max(1, penalty), rtol=1e-3)
    p = ours.scores(x).softmax(1)
    torch.testing.assert_close(p, torch.from_numpy(theirs.predict_proba(x.double().numpy())), atol=2e-5,
                               rtol=1e-4)
    assert ours.accuracy(x, y) == pytest.approx(theirs.score(x.double().numpy(), y.numpy()))


def test_the_search_finds_a_peak_of_the_grid_with_few_tries():
    assert (
        len(EIGHTHS) == 97
        and 10 ** (EIGHTHS[0] / 8) == pytest.approx(1e-6)
        and 10 ** (EIGHTHS[-1] / 8) == pytest.approx(1e6)
    )
    for peak in EIGHTHS:
        best, tried = search_penalty(lambda penalty, at=peak: -abs(math.log10(penalty) * 8 - at))
        assert math.log10(best) * 8 == pytest.approx(peak) and len(tried) <= 15
    best, tried = search_penalty(lambda penalty: 0.5)
    assert best == pytest.approx(1)                         # of equally good ones the middle


def test_the_protocol_beats_chance_and_ends_on_all_examples():
    train, val, test = (clouds(n, spread=0.6, seed=n) for n in (45, 48, 300))
    probe, tried = linear_probe(train, val, 3)
    assert (
        probe.accuracy(*test) > 0.8 and probe.penalty in tried and max(tried.values()) == tried[probe.penalty]
    )
    both = fit_probe(torch.cat([train[0], val[0]]), torch.cat([train[1], val[1]]), 3, probe.penalty)
    torch.testing.assert_close(probe.W, both.W, atol=1e-4, rtol=1e-3)


def test_a_class_without_examples_is_never_the_answer():
    x, y = clouds(30, classes=2)
    probe = fit_probe(x, y, 3)
    assert (probe.scores(x).argmax(1) < 2).all()


def test_shots_are_of_every_class_and_without_repetition():
    labels = torch.arange(40) % 4
    rows = draw_shots(labels, 5, 4, torch.Generator().manual_seed(0))
    assert labels[rows].bincount().tolist() == [5] * 4 and len(set(rows.tolist())) == 20
    with pytest.raises(ValueError, match="class 0 has 10 examples, 11 are wanted"):
        draw_shots(labels, 11, 4, torch.Generator())


def test_more_examples_help():
    curve = few_shot_curve(clouds(150, seed=1, spread=1.5), clouds(300, seed=2, spread=1.5), 3, shots=(1, 16),
                           draws=4)
    assert list(curve) == [1, 16] and all(len(values) == 4 for values in curve.values())
    assert sum(curve[16]) > sum(curve[1])
    assert curve == few_shot_curve(clouds(150, seed=1, spread=1.5), clouds(300, seed=2, spread=1.5), 3,
                                   shots=(1, 16), draws=4)


@pytest.mark.equation("eq:labels-worth")
def test_what_no_labels_are_worth_is_read_off_between_two_points():
    curve = {1: [0.125, 0.375], 4: [0.5], 16: [0.75]}
    assert labels_worth(curve, 0.25) == 1 and labels_worth(curve, 0.5) == pytest.approx(4)
    share = (0.4 - 0.25) / (0.5 - 0.25)
    assert labels_worth(curve, 0.4) == pytest.approx(
        math.exp(math.log(1) + share * (math.log(4) - math.log(1)))
    )
    assert labels_worth(curve, 0.625) == pytest.approx(8)
    assert labels_worth(curve, 0.1) == 0 and labels_worth(curve, 0.75) == math.inf


def test_what_cannot_be_fitted_is_refused():
    x, y = clouds(6)
    for bad, message in (((x, y[:5], 3), "6 rows of features and 5 labels"),
                         ((x, y, 2), "labels go from 0 to 2"), ((x * math.nan, y, 3), "not finite"),
                         ((x, y, 3, 0.0), "penalty is 0")):
        with pytest.raises(ValueError, match=message):
            fit_probe(*bad)
