"""The adversarial game where everything about it is known: on tables, on a line, and by the formulas written
out."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmlearn.text2image.adversarial import (
    criterion,
    density_ratio,
    discriminator_loss,
    fake_loss,
    hinge_discriminator_loss,
    hinge_floor,
    hinge_generator_loss,
    hinge_of_game,
    hinge_optimum,
    jensen_shannon,
    jensen_shannon_bound,
    kullback_leibler,
    masses,
    non_saturating_divergence,
    non_saturating_gradient,
    non_saturating_loss,
    optimal_discriminator,
    optimal_logit,
    real_loss,
    saturating_gradient,
    saturating_loss,
    total_variation,
    value,
    value_of_game,
)

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)


def random_tables(rows=5, places=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, rows, places, dtype=torch.float64, generator=g).mul(1.5).softmax(-1).unbind()


def naive_kl(p, q):
    return sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q) if a > 0)


def logits(n=9, seed=0, spread=3.0):
    return spread * torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sigmoid(a):
    return 1 / (1 + math.exp(-float(a)))


# ------------------------------------------------------------------------------------------------- the value


@pytest.mark.equation("eq:gan-value")
def test_the_value_is_two_means_of_logarithms():
    real, fake = logits(6, 0), logits(9, 1)
    want = sum(math.log(sigmoid(a)) for a in real) / 6 + sum(math.log(1 - sigmoid(a)) for a in fake) / 9
    assert value(real, fake).item() == pytest.approx(want)


@pytest.mark.equation("eq:gan-value-sum")
def test_the_value_of_a_known_game_is_a_sum_over_places():
    p, q = random_tables()
    D = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for row in range(5):
        want = sum(float(p[row, x]) * math.log(D[row, x]) + float(q[row, x]) * math.log(1 - D[row, x])
                   for x in range(7))
        assert value_of_game(p, q, D)[row].item() == pytest.approx(want)


@pytest.mark.equation("eq:gan-value")
@pytest.mark.equation("eq:gan-value-sum")
def test_the_mean_over_samples_approaches_the_sum_over_places():
    g = torch.Generator().manual_seed(0)
    a = torch.tensor([1.0, -0.5, -2.0], dtype=torch.float64)
    real, fake = (a[torch.multinomial(table, 20_000, True, generator=g)] for table in (P, Q))
    assert value(real, fake).item() == pytest.approx(value_of_game(P, Q, a.sigmoid()).item(), abs=0.02)


@pytest.mark.equation("eq:gan-optimal-d")
def test_no_other_discriminator_has_a_higher_value():
    p, q = random_tables()
    best = optimal_discriminator(p, q)
    torch.testing.assert_close(best, torch.stack([torch.stack([
        p[i, x] / (p[i, x] + q[i, x]) for x in range(7)]) for i in range(5)]))
    D = torch.rand(200, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    others = torch.stack([value_of_game(p, q, d) for d in D])
    assert (others < value_of_game(p, q, best)).all()
    raised = best.clone().requires_grad_()
    value_of_game(p, q, raised).sum().backward()
    assert raised.grad.abs().max() < 1e-12                            # a stationary point


@pytest.mark.equation("eq:gan-optimal-d")
def test_where_nothing_lies_the_discriminator_may_say_anything_and_says_a_half():
    p, q = torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([0.5, 0.0, 0.5, 0.0])
    assert optimal_discriminator(p, q).tolist() == [0.5, 1.0, 0.0, 0.5]


@pytest.mark.equation("eq:gan-optimal-logit")
@pytest.mark.equation("eq:gan-density-ratio")
def test_the_best_logit_is_the_logarithm_of_the_density_ratio():
    p, q = random_tables()
    a = optimal_logit(p.log(), q.log())
    torch.testing.assert_close(a.sigmoid(), optimal_discriminator(p, q))
    torch.testing.assert_close(density_ratio(a), p / q)
    D = a.sigmoid()
    torch.testing.assert_close(density_ratio(a), D / (1 - D))


@pytest.mark.equation("eq:gan-optimal-logit")
def test_between_two_gaussians_of_one_width_the_best_logit_is_a_straight_line():
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    a = optimal_logit(-(x - 1) ** 2 / 2, -(x + 1) ** 2 / 2)
    torch.testing.assert_close(a, 2 * x)


@pytest.mark.equation("eq:gan-criterion")
def test_against_the_best_discriminator_the_value_is_a_jensen_shannon_divergence():
    p, q = random_tables()
    torch.testing.assert_close(criterion(p, q), value_of_game(p, q, optimal_discriminator(p, q)))
    for i in range(5):
        middle = (p[i] + q[i]) / 2
        assert criterion(p, q)[i].item() == pytest.approx(
            -math.log(4) + naive_kl(p[i], middle) + naive_kl(q[i], middle))


@pytest.mark.equation("eq:gan-jsd-bound")
def test_any_discriminator_bounds_the_divergence_from_below():
    p, q = random_tables()
    for d in torch.rand(20, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)):
        assert jensen_shannon_bound(value_of_game(p[0], q[0], d)) < jensen_shannon(p[0], q[0])
    best = value_of_game(p[0], q[0], optimal_discriminator(p[0], q[0]))
    assert jensen_shannon_bound(best) == pytest.approx((best.item() + math.log(4)) / 2)
    assert jensen_shannon_bound(best) == pytest.approx(jensen_shannon(p[0], q[0]).item())


# ------------------------------------------------------------------------------------------------- distances


@pytest.mark.equation("eq:gan-kl")
@pytest.mark.equation("eq:gan-jsd")
@pytest.mark.equation("eq:gan-tv")
def test_distances_are_sums_over_places():
    p, q = random_tables()
    for i in range(5):
        middle = [(float(a) + float(b)) / 2 for a, b in zip(p[i], q[i])]
        assert kullback_leibler(p, q)[i].item() == pytest.approx(naive_kl(p[i], q[i]))
        assert jensen_shannon(p, q)[i].item() == pytest.approx(
            naive_kl(p[i], middle) / 2 + naive_kl(q[i], middle) / 2)
        assert total_variation(p, q)[i].item() == pytest.approx(
            sum(abs(float(a) - float(b)) for a, b in zip(p[i], q[i])) / 2)


@pytest.mark.equation("eq:gan-kl")
@pytest.mark.equation("eq:gan-jsd")
def test_the_divergence_of_torch_agrees():
    p, q = random_tables()
    torch.testing.assert_close(kullback_leibler(p, q), F.kl_div(q.log(), p, reduction="none").sum(-1))
    categorical = [torch.distributions.Categorical(t) for t in (p, (p + q) / 2, q)]
    kl = torch.distributions.kl_divergence
    torch.testing.assert_close(jensen_shannon(p, q), (kl(categorical[0], categorical[1])
                                                      + kl(categorical[2], categorical[1])) / 2)


@pytest.mark.equation("eq:gan-jsd")
def test_the_divergence_is_zero_for_the_same_and_log_two_for_strangers():
    apart = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert jensen_shannon(*apart).item() == pytest.approx(math.log(2))
    assert kullback_leibler(*apart).item() == math.inf and total_variation(*apart).item() == 1
    assert jensen_shannon(P, P).item() == kullback_leibler(P, P).item() == total_variation(P, P).item() == 0


@pytest.mark.equation("eq:gan-kl")
@pytest.mark.equation("eq:gan-tv")
def test_on_a_fine_grid_two_gaussians_have_their_closed_forms():
    x = torch.linspace(-12, 14, 4001, dtype=torch.float64)
    p, q = masses(-(x**2) / 2), masses(-(x - 2) ** 2 / 2)
    assert kullback_leibler(p, q).item() == pytest.approx(2**2 / 2, abs=1e-6)
    assert total_variation(p, q).item() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=1e-5)


@pytest.mark.equation("eq:gan-non-saturating-divergence")
def test_the_non_saturating_loss_descends_a_reversed_divergence_minus_two_others():
    """The generator moves, the discriminator stays the best one for where it was."""
    p, _ = random_tables()
    theta = logits(7).clone().requires_grad_()
    with torch.no_grad():
        a = optimal_logit(p[0].log(), theta.log_softmax(-1))
    loss = (theta.softmax(-1) * -F.logsigmoid(a)).sum()
    ours = torch.autograd.grad(loss, theta)[0]
    want = torch.autograd.grad(non_saturating_divergence(p[0], theta.softmax(-1)), theta)[0]
    torch.testing.assert_close(ours, want)
    q = theta.detach().softmax(-1)
    middle = (p[0] + q) / 2
    assert non_saturating_divergence(p[0], q).item() == pytest.approx(
        naive_kl(q, p[0]) - naive_kl(p[0], middle) - naive_kl(q, middle))


@pytest.mark.equation("eq:gan-non-saturating-divergence")
def test_a_missing_mode_costs_little_and_a_picture_of_nothing_much():
    data = torch.tensor([0.499, 0.499, 0.002])
    missing, nothing = torch.tensor([0.996, 0.002, 0.002]), torch.tensor([0.3, 0.3, 0.4])
    assert non_saturating_divergence(data, missing) < 0.3 < 1 < non_saturating_divergence(data, nothing)


# ---------------------------------------------------------------------------------------------------- losses


@pytest.mark.equation("eq:gan-d-loss")
@pytest.mark.equation("eq:bce-real")
@pytest.mark.equation("eq:bce-fake")
def test_the_discriminators_loss_is_a_cross_entropy_with_labels_one_and_zero():
    real, fake = logits(6, 0), logits(9, 1)
    want = (F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
            + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)))
    torch.testing.assert_close(discriminator_loss(real, fake), want)
    torch.testing.assert_close(discriminator_loss(real, fake), -value(real, fake))
    assert real_loss(real).item() == pytest.approx(-sum(math.log(sigmoid(a)) for a in real) / 6)
    assert fake_loss(real).item() == pytest.approx(-sum(math.log(1 - sigmoid(a)) for a in real) / 6)
    assert discriminator_loss(torch.zeros(3), torch.zeros(4)).item() == pytest.approx(math.log(4))


@pytest.mark.equation("eq:gan-saturating")
@pytest.mark.equation("eq:gan-non-saturating")
def test_the_generators_losses_are_means_of_logarithms():
    fake = logits()
    assert saturating_loss(fake).item() == pytest.approx(sum(math.log(1 - sigmoid(a)) for a in fake) / 9)
    assert non_saturating_loss(fake).item() == pytest.approx(-sum(math.log(sigmoid(a)) for a in fake) / 9)


@pytest.mark.equation("eq:gan-saturating-gradient")
@pytest.mark.equation("eq:gan-non-saturating-gradient")
def test_the_gradients_in_the_logits_are_those_of_autograd():
    a = logits().requires_grad_()
    for loss, gradient in ((saturating_loss, saturating_gradient),
                           (non_saturating_loss, non_saturating_gradient)):
        torch.testing.assert_close(torch.autograd.grad(loss(a), a)[0] * len(a), gradient(a.detach()))
    for x in a.tolist():
        assert saturating_gradient(torch.tensor(x)).item() == pytest.approx(-sigmoid(x), abs=1e-6)
        assert non_saturating_gradient(torch.tensor(x)).item() == pytest.approx(-(1 - sigmoid(x)), abs=1e-6)
    assert torch.autograd.gradcheck(non_saturating_loss, a) and torch.autograd.gradcheck(saturating_loss, a)


@pytest.mark.equation("eq:gan-hinge")
@pytest.mark.equation("eq:gan-hinge-g")
def test_the_hinge_is_a_mean_of_margins():
    real, fake = logits(6, 0), logits(9, 1)
    want = sum(max(0.0, 1 - float(a)) for a in real) / 6 + sum(max(0.0, 1 + float(a)) for a in fake) / 9
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx(want)
    assert hinge_generator_loss(fake).item() == pytest.approx(-sum(map(float, fake)) / 9)
    assert hinge_discriminator_loss(torch.full((2,), 1.5), torch.full((2,), -2.0)).item() == 0


@pytest.mark.equation("eq:gan-hinge-sum")
@pytest.mark.equation("eq:gan-hinge-optimum")
@pytest.mark.equation("eq:gan-hinge-tv")
def test_the_best_hinge_is_the_sign_and_its_loss_two_minus_twice_the_total_variation():
    p, q = random_tables()
    a = hinge_optimum(p, q)
    assert a.tolist() == [[1.0 if p[i, x] > q[i, x] else -1.0 for x in range(7)] for i in range(5)]
    for i in range(5):
        assert hinge_of_game(p, q, a)[i].item() == pytest.approx(sum(
            float(p[i, x]) * max(0.0, 1 - float(a[i, x])) + float(q[i, x]) * max(0.0, 1 + float(a[i, x]))
            for x in range(7)))
    torch.testing.assert_close(hinge_of_game(p, q, a), hinge_floor(p, q))
    torch.testing.assert_close(hinge_floor(p, q), 2 - 2 * total_variation(p, q))
    for other in torch.randn(200, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)):
        assert (hinge_of_game(p, q, other) >= hinge_floor(p, q)).all()


@pytest.mark.equation("eq:gan-hinge-tv")
def test_the_hinge_on_the_table_of_the_errata():
    assert total_variation(P, Q).item() == pytest.approx(0.4)
    assert hinge_floor(P, Q).item() == pytest.approx(1.2)
    for tie in (-1.0, -0.3, 0.0, 1.0):
        assert hinge_of_game(P, P, torch.full((3,), tie, dtype=torch.float64)).item() == pytest.approx(2)


@pytest.mark.parametrize("loss", [saturating_loss, non_saturating_loss, hinge_generator_loss,
                                  lambda a: discriminator_loss(a, a), lambda a: value(a, a),
                                  lambda a: hinge_discriminator_loss(a, a)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_sixteen_bit_logits_are_finite_and_in_single_precision(loss, dtype):
    a = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0], dtype=dtype, requires_grad=True)
    out = loss(a)
    out.backward()
    assert out.dtype == torch.float32 and out.isfinite() and a.grad.isfinite().all()


def test_logits_that_a_sigmoid_would_round_still_have_a_loss_and_a_gradient():
    a = torch.tensor([-60.0], requires_grad=True)
    loss = non_saturating_loss(a)
    loss.backward()
    assert loss.item() == pytest.approx(60) and a.grad.item() == pytest.approx(-1)
    assert fake_loss(torch.tensor([60.0])).item() == pytest.approx(60)


@pytest.mark.parametrize("p, q, message", [
    (P, Q[:2] / Q[:2].sum(), "p has shape"), (P, 2 * Q, "q sums to 2"),
    (torch.tensor([1.5, -0.5]), torch.tensor([0.5, 0.5]), "least entry is -0.5"),
])
def test_what_is_not_two_distributions_is_refused(p, q, message):
    for distance in (kullback_leibler, jensen_shannon, total_variation, hinge_floor, criterion):
        with pytest.raises(ValueError, match=message):
            distance(p, q)
