import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from mmlearn.text_for_vision.blockwise import running_logsumexp, symmetric_loss
from mmlearn.text_for_vision.contrastive import (
    GaussianPairs,
    clip_gradient,
    clip_loss,
    cold_limit,
    convirt_loss,
    decoupled_gradient,
    decoupled_loss,
    decoupled_rows,
    embedding_gradient,
    fused_clip_loss,
    hot_limit,
    info_nce,
    info_nce_gradient,
    info_nce_rows,
    leave_one_out_bound,
    logits,
    loss_floor,
    mi_lower_bound,
    negative_weights,
    nt_xent,
    partner_posterior,
    partner_weight,
    simplex_floor,
    survey_rows,
    symmetric_cross_entropy,
    temperature_gradient,
)


def pairs(b=6, e=4, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    u, v = (F.normalize(torch.randn(b, e, generator=g, dtype=torch.float64),
                        dim=1).to(dtype) for _ in range(2))
    return u, v


def naive_row(l, i, itself=True):
    """-log of the share of logit (i, i) among those of row i."""
    below = sum(math.exp(l[i][j]) for j in range(len(l[i])) if itself or j != i)
    return -math.log(math.exp(l[i][i]) / below)


def matrix(b=6, scale=3.0, seed=0):
    u, v = pairs(b, seed=seed)
    return scale * u @ v.T


# ----------------------------------------------------------------------------------------------------- losses


@pytest.mark.equation("eq:contrastive-logits")
def test_logits_are_scaled_products_of_rows():
    u, v = pairs()
    want = [[2.5 * sum(a * c for a, c in zip(x, y)) for y in v.tolist()] for x in u.tolist()]
    torch.testing.assert_close(logits(u, v[:4], 2.5), torch.tensor(want, dtype=torch.float64)[:, :4])


@pytest.mark.equation("eq:info-nce")
def test_info_nce_is_the_mean_log_share_of_the_pair_in_its_row():
    u, v = pairs()
    l = (2.5 * u @ v.T).tolist()
    want = [naive_row(l, i) for i in range(6)]
    torch.testing.assert_close(info_nce_rows(logits(u, v, 2.5)), torch.tensor(want, dtype=torch.float64))
    assert info_nce(u, v, 2.5).item() == pytest.approx(sum(want) / 6, abs=1e-12)
    assert info_nce(u, v, 2.5).item() == pytest.approx(
        F.cross_entropy(2.5 * u @ v.T, torch.arange(6)).item(), abs=1e-12
    )


@pytest.mark.equation("eq:clip-loss")
@pytest.mark.parametrize("b", [1, 2, 7])
def test_the_symmetric_loss_is_the_mean_over_rows_and_columns(b):
    u, v = pairs(b)
    rows = (4.0 * u @ v.T).tolist()
    columns = [list(c) for c in zip(*rows)]
    want = sum(naive_row(rows, i) + naive_row(columns, i) for i in range(b)) / (2 * b)
    assert symmetric_cross_entropy(logits(u, v, 4.0)).item() == pytest.approx(want, abs=1e-12)
    assert clip_loss(u, v, 4.0).item() == pytest.approx(want, abs=1e-12)


@pytest.mark.equation("eq:convirt")
def test_convirt_weighs_the_two_directions():
    u, v = pairs()
    rows = (4.0 * u @ v.T).tolist()
    columns = [list(c) for c in zip(*rows)]
    want = sum(0.75 * naive_row(rows, i) + 0.25 * naive_row(columns, i) for i in range(6)) / 6
    assert convirt_loss(u, v, 4.0).item() == pytest.approx(want, abs=1e-12)
    assert convirt_loss(u, v, 4.0, 0.5).item() == pytest.approx(clip_loss(u, v, 4.0).item(), abs=1e-12)
    assert convirt_loss(u, v, 4.0, 1).item() == pytest.approx(info_nce(u, v, 4.0).item(), abs=1e-12)
    assert convirt_loss(u, v, 4.0, 0).item() == pytest.approx(info_nce(v, u, 4.0).item(), abs=1e-12)


@pytest.mark.equation("eq:decoupled")
def test_the_decoupled_loss_leaves_the_pair_out_of_the_sum():
    u, v = pairs()
    l = (2.5 * u @ v.T).tolist()
    want = [naive_row(l, i, itself=False) for i in range(6)]
    torch.testing.assert_close(decoupled_rows(logits(u, v, 2.5)), torch.tensor(want, dtype=torch.float64))
    assert decoupled_loss(u, v, 2.5).item() == pytest.approx(sum(want) / 6, abs=1e-12)


def test_the_decoupled_loss_is_log_of_e_to_the_loss_minus_one():
    l = matrix()
    torch.testing.assert_close(decoupled_rows(l), torch.log(torch.expm1(info_nce_rows(l))))


@pytest.mark.equation("eq:survey-contrastive")
def test_the_survey_formula_divides_outside_the_exponential():
    s, tau = matrix(scale=1.0), 0.07
    want = [-math.log(math.exp(s[i, i]) / tau / sum(math.exp(s[i, j] / tau) for j in range(6) if j != i))
            for i in range(6)]
    torch.testing.assert_close(survey_rows(s, tau), torch.tensor(want, dtype=torch.float64))


def test_the_survey_formula_pulls_with_one_at_every_temperature():
    for tau in (0.05, 0.5):
        s = matrix(scale=1.0).requires_grad_()
        survey_rows(s, tau).sum().backward()
        torch.testing.assert_close(s.grad.diagonal(), -torch.ones(6, dtype=torch.float64))


def test_solved_pairs_have_loss_zero_in_the_right_formula_and_a_negative_one_in_the_survey_s():
    s = torch.eye(8, dtype=torch.float64)
    assert info_nce_rows(s / 0.07).mean().item() == pytest.approx(4.4e-6, rel=0.02)
    assert decoupled_rows(s / 0.07).mean().item() == pytest.approx(-12.34, abs=0.01)


@pytest.mark.equation("eq:nt-xent")
def test_nt_xent_compares_each_view_with_all_others():
    z = torch.cat(pairs(4))
    l = (3.0 * z @ z.T).tolist()
    want = 0.0
    for i in range(8):
        below = sum(math.exp(l[i][k]) for k in range(8) if k != i)
        want -= math.log(math.exp(l[i][(i + 4) % 8]) / below) / 8
    assert nt_xent(z, 3.0).item() == pytest.approx(want, abs=1e-12)


# ---------------------------------------------------------------------------------------------- the fast path


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("b, chunk", [(1, 1), (5, 2), (6, 3), (6, 100), (7, None)])
def test_the_fused_loss_and_its_gradients_are_those_of_the_formula(b, chunk, keep):
    u, v = pairs(b)
    t = torch.tensor(1.7, dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for x in (u, v, t)]
    mine = symmetric_loss(inputs[0], inputs[1], inputs[2].exp(), chunk, keep)
    mine.backward(torch.tensor(0.3, dtype=torch.float64))
    wanted = [x.clone().requires_grad_() for x in (u, v, t)]
    loss = symmetric_cross_entropy(wanted[2].exp() * wanted[0] @ wanted[1].T)
    (0.3 * loss).backward()
    torch.testing.assert_close(mine, loss, rtol=0, atol=1e-12)
    for found, want in zip(inputs, wanted):
        torch.testing.assert_close(found.grad, want.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("apart", [0.0, 1.0, 79.0, 81.0, 400.0])
def test_near_and_far_logits_have_the_loss_and_the_gradients_of_double_precision(apart):
    """One exponential serves rows and columns up to 80 between the logits, the running sums beyond."""
    g = torch.Generator().manual_seed(3)
    u, v = (torch.nn.functional.normalize(torch.randn(300, 8, generator=g), dim=1) for _ in range(2))
    products = u @ v.T
    scale = apart / float(products.max() - products.min())
    found = [x.clone().requires_grad_() for x in (u, v, torch.tensor(scale))]
    wanted = [x.detach().double().requires_grad_() for x in found]
    symmetric_loss(*found).backward()
    mine = symmetric_loss(*found).detach()
    loss = symmetric_cross_entropy(wanted[2] * wanted[0] @ wanted[1].T)
    loss.backward()
    assert mine.item() == pytest.approx(loss.item(), rel=2e-6, abs=1e-6)
    # of a logit, as the gradient feels it
    rounding = 2**-23 * max(apart, 1.0) * max(scale, 1.0) / (2 * 300)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=2e-5, atol=2 * rounding)


def test_the_fused_gradient_passes_gradcheck_also_where_the_vectors_are_not_unit():
    g = torch.Generator().manual_seed(2)
    u, v = (torch.randn(5, 3, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    for keep in (True, False):
        assert torch.autograd.gradcheck(lambda *x, k=keep: symmetric_loss(*x, chunk=2, keep=k), (u, v, scale))


@pytest.mark.parametrize("asked", [(True, False), (False, True)])
@pytest.mark.parametrize("loss", [clip_loss, fused_clip_loss])
def test_one_side_may_be_frozen_and_the_scale_a_number(loss, asked):
    u, v = pairs()
    inputs = [x.clone().requires_grad_(a) for x, a in zip((u, v), asked)]
    loss(*inputs, 5.0).backward()
    l = (5.0 * u @ v.T).requires_grad_()
    symmetric_cross_entropy(l).backward()
    want = (5.0 * l.grad @ v, 5.0 * l.grad.T @ u)
    for x, a, w in zip(inputs, asked, want):
        assert (x.grad is not None) == a
        if a:
            torch.testing.assert_close(x.grad, w)


def test_the_fused_twin_of_the_loss_is_the_formula_and_so_is_its_gradient():
    inputs = [x.requires_grad_() for x in (*pairs(), torch.tensor(5.0, dtype=torch.float64))]
    torch.testing.assert_close(fused_clip_loss(*inputs), clip_loss(*inputs))
    for a, b in zip(*(torch.autograd.grad(loss(*inputs), inputs) for loss in (fused_clip_loss, clip_loss))):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("loss", [clip_loss, fused_clip_loss])
def test_without_gradients_nothing_is_kept(loss):
    u, v = pairs()
    assert not loss(u, v, 5.0).requires_grad
    with torch.no_grad():
        assert not loss(u.requires_grad_(), v, 5.0).requires_grad


@pytest.mark.parametrize("loss", [clip_loss, fused_clip_loss])
def test_the_gradient_may_be_asked_for_twice(loss):
    u, v = pairs()
    u.requires_grad_()
    value = loss(u, v, 5.0)
    first, = torch.autograd.grad(value, u, retain_graph=True)
    second, = torch.autograd.grad(value, u)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("loss", [clip_loss, fused_clip_loss])
def test_the_largest_scale_neither_overflows_nor_vanishes(loss):
    u, v = pairs(40, 3, dtype=torch.float32)
    u.requires_grad_()
    loss(u, v, 100.0).backward()
    want = u.detach().double().requires_grad_()
    symmetric_cross_entropy(100.0 * want @ v.double().T).backward()
    torch.testing.assert_close(u.grad.double(), want.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", [clip_loss, fused_clip_loss])
def test_sixteen_bit_embeddings_are_compared_in_thirty_two(loss, dtype):
    u, v = (x.requires_grad_() for x in pairs(30, 8, dtype=dtype))
    exact = symmetric_cross_entropy(50.0 * u.detach().double() @ v.detach().double().T)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(u, v, torch.tensor(50.0))
        plain = symmetric_cross_entropy(logits(u, v, torch.tensor(50.0)))
    assert value.dtype == torch.float32 and plain.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain.double(), exact, rtol=1e-5, atol=1e-5)
    value.backward()
    assert u.grad.dtype == dtype and u.grad.isfinite().all()


@pytest.mark.equation("eq:running-logsumexp")
def test_a_running_logsumexp_is_that_of_all_rows():
    l = 30 * matrix(9)
    most, total = torch.full((9,), -math.inf, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    for block in l.split(4):
        most, total = running_logsumexp(most, total, block)
    want = [math.log(sum(math.exp(x) for x in column)) for column in l.T.tolist()]
    torch.testing.assert_close(most + total.log(), torch.tensor(want, dtype=torch.float64))


@pytest.mark.parity
@pytest.mark.parametrize("loss", [clip_loss, fused_clip_loss])
def test_the_loss_is_that_of_open_clip_and_of_transformers(loss):
    from open_clip.loss import ClipLoss
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    inputs = [x.requires_grad_() for x in (*pairs(16, 8), torch.tensor(14.3, dtype=torch.float64))]
    ours = torch.autograd.grad(loss(*inputs), inputs)
    theirs = torch.autograd.grad(ClipLoss()(*inputs), inputs)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    u, v, scale = inputs
    torch.testing.assert_close(loss(u, v, scale), image_text_contrastive_loss(scale * v @ u.T), rtol=0,
                               atol=1e-12)


@pytest.mark.parametrize("loss", [clip_loss, fused_clip_loss, info_nce, decoupled_loss, convirt_loss])
def test_tensors_that_are_not_pairs_are_refused(loss):
    u, v = pairs()
    with pytest.raises(ValueError, match="row i of both is pair i"):
        loss(u, v[:5], 1.0)
    with pytest.raises(ValueError, match="row i of both is pair i"):
        loss(u, v[:, :3], 1.0)
    with pytest.raises(ValueError, match="b of at least 1"):
        loss(u[:0], v[:0], 1.0)


def test_bad_settings_are_refused():
    u, v = pairs()
    with pytest.raises(ValueError, match="at least 2"):
        decoupled_loss(u[:1], v[:1], 1.0)
    with pytest.raises(ValueError, match="weight is 1.5"):
        convirt_loss(u, v, 1.0, 1.5)
    with pytest.raises(ValueError, match="5 views"):
        nt_xent(u[:5], 1.0)
    with pytest.raises(ValueError, match="the temperature is 0"):
        survey_rows(u @ v.T, 0)
    with pytest.raises(ValueError, match="chunk is 0"):
        symmetric_loss(u, v, 1.0, 0)
    with pytest.raises(ValueError, match="rho 1.0"):
        GaussianPairs(4, 1.0)


# -------------------------------------------------------------------------------------------------- gradients


@pytest.mark.equation("eq:clip-gradient")
def test_the_gradient_of_the_symmetric_loss_is_p_plus_q_minus_two():
    l = matrix().requires_grad_()
    symmetric_cross_entropy(l).backward()
    torch.testing.assert_close(clip_gradient(l.detach()), l.grad)
    x = l.tolist()
    for i, j in itertools.product(range(6), repeat=2):
        p = math.exp(x[i][j]) / sum(math.exp(x[i][k]) for k in range(6))
        q = math.exp(x[i][j]) / sum(math.exp(x[k][j]) for k in range(6))
        assert l.grad[i, j].item() == pytest.approx((p + q - 2 * (i == j)) / 12, abs=1e-12)


@pytest.mark.equation("eq:info-nce-gradient")
def test_the_gradient_of_info_nce_is_p_minus_one_on_the_pair():
    l = matrix().requires_grad_()
    info_nce_rows(l).sum().backward()
    torch.testing.assert_close(info_nce_gradient(l.detach()), l.grad)


@pytest.mark.equation("eq:decoupled-gradient")
def test_the_decoupled_gradient_never_stops_pulling():
    l = matrix().requires_grad_()
    decoupled_rows(l).sum().backward()
    found = decoupled_gradient(l.detach())
    torch.testing.assert_close(found, l.grad)
    p = l.detach().softmax(1)
    for i, j in itertools.product(range(6), repeat=2):
        want = -1.0 if i == j else (p[i, j] / (1 - p[i, i])).item()
        assert found[i, j].item() == pytest.approx(want, abs=1e-12)
    torch.testing.assert_close(info_nce_gradient(l.detach()), (1 - p.diagonal())[:, None] * found)


@pytest.mark.equation("eq:embedding-gradient")
def test_the_gradient_on_an_embedding_is_the_projected_difference_of_means():
    g = torch.Generator().manual_seed(1)
    raw = torch.randn(6, 4, generator=g, dtype=torch.float64, requires_grad=True)
    _, v = pairs()
    info_nce_rows(logits(F.normalize(raw, dim=1), v, 5.0)).sum().backward()
    found = embedding_gradient(raw.detach(), v, 5.0)
    torch.testing.assert_close(found, raw.grad)
    i, x = 2, raw.detach()[2]
    u = x / x.norm()
    p = (5.0 * v @ u).exp() / (5.0 * v @ u).exp().sum()
    project = torch.eye(4, dtype=torch.float64) - torch.outer(u, u)
    want = 5.0 / x.norm() * project @ (sum(p[j] * v[j] for j in range(6)) - v[i])
    torch.testing.assert_close(found[i], want)
    assert (found * raw.detach()).sum(1).abs().max() < 1e-12            # so a plain step can only lengthen it


@pytest.mark.equation("eq:temperature-gradient")
def test_the_gradient_of_the_temperature_compares_the_pair_with_the_softmax_average():
    s, tau = matrix(scale=1.0), torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(-math.log(0.2), dtype=torch.float64, requires_grad=True)
    by_tau, by_t = temperature_gradient(s, 0.2)
    for i in range(6):
        assert torch.autograd.grad(info_nce_rows(s / tau)[i],
                                   tau)[0].item() == pytest.approx(by_tau[i].item(), abs=1e-11)
        assert torch.autograd.grad(info_nce_rows(s * t.exp())[i],
                                   t)[0].item() == pytest.approx(by_t[i].item(), abs=1e-11)
        p = (s[i] / 0.2).softmax(0)
        mean = sum(p[j] * s[i, j] for j in range(6)).item()
        assert by_tau[i].item() == pytest.approx((s[i, i].item() - mean) / 0.04, abs=1e-11)


@pytest.mark.equation("eq:negative-weights")
def test_negatives_share_the_push_by_a_softmax_among_themselves():
    s = matrix(scale=1.0)
    p = (s / 0.1).softmax(1)
    others = [1, 2, 3, 4, 5]
    want = torch.stack([p[0, j] / (1 - p[0, 0]) for j in others])
    torch.testing.assert_close(negative_weights(s[0, others], 0.1), want)


@pytest.mark.equation("eq:cold-limit")
def test_at_low_temperature_only_the_hardest_negative_counts():
    s, tau = matrix(scale=1.0), 1e-3
    want = [max(s[i, j].item() - s[i, i].item() for j in range(6)) / tau for i in range(6)]
    torch.testing.assert_close(cold_limit(s, tau), torch.tensor(want, dtype=torch.float64))
    torch.testing.assert_close(info_nce_rows(s / tau), cold_limit(s, tau), rtol=0, atol=1e-3)
    assert (cold_limit(s, tau) > 0).any() and (cold_limit(torch.eye(3), tau) == 0).all()


@pytest.mark.equation("eq:hot-limit")
def test_at_high_temperature_all_candidates_count_alike():
    s = matrix(scale=1.0)
    errors = []
    for tau in (10.0, 100.0):
        want = [math.log(6) + (sum(s[i].tolist()) / 6 - s[i, i].item()) / tau for i in range(6)]
        torch.testing.assert_close(hot_limit(s, tau), torch.tensor(want, dtype=torch.float64))
        errors.append((info_nce_rows(s / tau) - hot_limit(s, tau)).abs().max().item())
    assert errors[1] < errors[0] / 50  # the rest falls with the square of tau


@pytest.mark.equation("eq:loss-floor")
def test_no_unit_vectors_get_below_the_floor():
    assert loss_floor(32_768, 1.0) == pytest.approx(8.40, abs=0.005)
    best = torch.full((5, 5), -1.0, dtype=torch.float64).fill_diagonal_(1.0)
    assert loss_floor(5, 0.5) == pytest.approx(naive_row((best / 0.5).tolist(), 0), abs=1e-12)
    assert clip_loss(*pairs(5), 2.0).item() > loss_floor(5, 0.5)


@pytest.mark.equation("eq:simplex-floor")
def test_a_regular_simplex_has_the_least_loss_of_all_batches():
    b, tau = 4, 0.7
    corners = F.normalize(torch.eye(b, dtype=torch.float64) - 1 / b, dim=1)
    assert simplex_floor(b, tau) == pytest.approx(clip_loss(corners, corners, 1 / tau).item(), abs=1e-12)
    assert simplex_floor(2, tau) == pytest.approx(loss_floor(2, tau), abs=1e-12)
    assert simplex_floor(32_768, 1.0) == pytest.approx(9.397, abs=0.001)
    raw = [torch.randn(b, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64,
                       requires_grad=True) for i in (0, 1)]
    descent = torch.optim.Adam(raw, lr=0.1)
    for _ in range(300):
        descent.zero_grad()
        loss = clip_loss(F.normalize(raw[0], dim=1), F.normalize(raw[1], dim=1), 1 / tau)
        loss.backward()
        descent.step()
    assert simplex_floor(b, tau) - 1e-9 < loss.item() < simplex_floor(b, tau) + 1e-3


# ----------------------------------------------------------------------------------------- mutual information


JOINT = torch.tensor([[0.3, 0.05, 0.05], [0.1, 0.2, 0.3]], dtype=torch.float64)        # p(x, y), 2 x 3


def log_ratio_table():
    return (JOINT / (JOINT.sum(1, keepdim=True) * JOINT.sum(0))).log()


@pytest.mark.equation("eq:partner-posterior")
def test_the_posterior_of_the_partner_is_the_softmax_of_the_log_ratio():
    p_x, p_y = JOINT.sum(1), JOINT.sum(0)
    for x, ys in itertools.product(range(2), itertools.product(range(3), repeat=3)):
        joint = []  # p(i is the partner, x, y_1..3) by Bayes
        for i in range(3):
            others = math.prod(p_y[ys[k]].item() for k in range(3) if k != i)
            joint.append(JOINT[x, ys[i]].item() / p_x[x].item() * others / 3)
        want = torch.tensor([[j / sum(joint) for j in joint]], dtype=torch.float64)
        torch.testing.assert_close(partner_posterior(log_ratio_table()[x, list(ys)][None]), want)


@pytest.mark.equation("eq:partner-weight")
def test_the_partner_weight_has_mean_one_over_independent_candidates():
    h = torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()  # any score
    p_y = JOINT.sum(0).tolist()
    mean = 0.0
    for ys in itertools.product(range(3), repeat=3):
        scores = torch.tensor([[h[y] for y in ys]], dtype=torch.float64)
        naive = math.exp(h[ys[0]]) / (sum(math.exp(h[y]) for y in ys) / 3)
        assert partner_weight(scores).item() == pytest.approx(naive, abs=1e-12)
        mean += math.prod(p_y[y] for y in ys) * naive
    assert mean == pytest.approx(1.0, abs=1e-12)


def exact_losses(h):
    """The expected losses of a table of scores with three candidates, by enumeration: with and without the
    pair."""
    p_y, loss, without = JOINT.sum(0).tolist(), 0.0, 0.0
    for x, y1, y2, y3 in itertools.product(range(2), range(3), range(3), range(3)):
        chance = JOINT[x, y1].item() * p_y[y2] * p_y[y3]
        e1, e2, e3 = (math.exp(h[x][y]) for y in (y1, y2, y3))
        loss -= chance * math.log(e1 / (e1 + e2 + e3))
        without -= chance * math.log(e1 / (e2 + e3))
    return loss, without


@pytest.mark.equation("eq:mi-bound")
def test_log_b_minus_the_loss_is_below_the_information_for_any_score():
    information = (JOINT * log_ratio_table()).sum().item()
    best = mi_lower_bound(exact_losses(log_ratio_table().tolist())[0], 3)
    assert mi_lower_bound(1.0, 8) == pytest.approx(math.log(8) - 1.0)
    for seed in range(20):
        h = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert mi_lower_bound(exact_losses(h.tolist())[0], 3) < best < information


@pytest.mark.equation("eq:mi-leave-one-out")
def test_without_the_pair_the_bound_is_above_at_the_best_score_and_nowhere_at_others():
    information = (JOINT * log_ratio_table()).sum().item()
    assert leave_one_out_bound(exact_losses(log_ratio_table().tolist())[1], 3) > information
    worse = leave_one_out_bound(exact_losses((-log_ratio_table()).tolist())[1], 3)
    assert worse < information
    assert leave_one_out_bound(1.0, 8) == pytest.approx(math.log(7) - 1.0)


@pytest.mark.equation("eq:gaussian-mi")
def test_the_information_of_gaussian_pairs_is_the_mean_of_their_log_ratio():
    source = GaussianPairs(4, 0.5)
    assert source.information == pytest.approx(-2 * math.log(0.75))
    x, y = source.sample(100_000, torch.Generator().manual_seed(0))
    mean = torch.stack([source.log_ratio(*part).diagonal().mean()
                        for part in zip(x.split(500), y.split(500))]).mean()
    assert mean.item() == pytest.approx(source.information, abs=0.01)
    assert (x * y).mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.equation("eq:gaussian-ratio")
def test_the_log_ratio_is_the_quotient_of_the_densities():
    source = GaussianPairs(3, 0.6)
    x, y = source.sample(2, torch.Generator().manual_seed(0))
    for i, j in itertools.product(range(2), repeat=2):
        want = 0.0
        for a, c in zip(x[i].tolist(), y[j].tolist()):
            joint = math.exp(-(a * a - 1.2 * a * c + c * c) / (2 * 0.64)) / (2 * math.pi * 0.8)
            alone = math.exp(-(a * a + c * c) / 2) / (2 * math.pi)
            want += math.log(joint / alone)
        assert source.log_ratio(x, y)[i, j].item() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("k, rho, b, below, above, close", [
    (4, 0.5, 16, 0.518, 0.638, 0.02), (4, 0.5, 256, 0.570, 0.578, 0.02), (10, 0.8, 16, 2.557, 8.36, 0.1),
    (10, 0.8, 256, 4.275, 5.85, 0.12), (20, 0.9, 256, 5.544, 33.9, 0.6),
])
def test_the_two_bounds_stand_on_either_side_of_the_information(k, rho, b, below, above, close):
    source = GaussianPairs(k, rho)  # values from 200,000 draws; here 20,000
    low, high = source.bounds(b, 20_000, torch.Generator().manual_seed(1))
    assert low == pytest.approx(below, abs=min(close, 0.04)) and high == pytest.approx(above, abs=close)
    assert low <= math.log(b) and (low < source.information < high or k == 4)
