"""data2vec's method: the slow teacher, targets of the last blocks, the loss and its two regimes, what
collapses, and what the survey says of it."""

import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from networks import numbers
from torch import nn

from mmlearn.both_modalities.data2vec import (
    Data2Vec,
    Data2VecConfig,
    MaskedInputs,
    TargetBlock,
    data2vec_objective,
    effective_rank,
    ema_decay,
    ema_shares,
    ema_update_,
    half_life,
    instance_normed,
    layer_normed,
    regression_head,
    regression_loss,
    smooth_l1,
    smooth_l1_slope,
    spread,
    squared,
    survey_smooth_l1,
    targets,
    train_data2vec,
    tri_stage,
    tri_stage_rate,
)
from mmlearn.data.batches import Batches
from mmlearn.nn.modes import seeded


class Places(nn.Module):
    """A small encoder of rows of numbers (b, t, 6): a map, then blocks; hidden places get one vector."""

    shared = ("enter",)

    def __init__(self, width=8, blocks=3, dropout=0.0):
        super().__init__()
        self.enter = nn.Linear(6, width)
        self.hidden = nn.Parameter(0.1 * torch.randn(width))
        self.place = nn.Parameter(torch.randn(12, width))
        self.blocks = nn.ModuleList(TargetBlock(width, 2, 2 * width, dropout, nn.GELU) for _ in range(blocks))
        self.register_buffer("seen", torch.zeros(()))

    def states(self, inputs, mask=None):
        x = self.enter(inputs)
        if mask is not None:
            x = torch.where(mask[..., None], self.hidden, x)
        return x + self.place[: x.shape[1]]

    def forward(self, inputs, mask=None):
        x = self.states(inputs, mask)
        for block in self.blocks:
            x = block(x)
        return x

    def layers(self, inputs):
        x, found = self.states(inputs), []
        for block in self.blocks:
            tensors = block.tensors(x)
            found.append(tensors.ffn)
            x = tensors.end
        return tuple(found)


def learner(config=None, **options):
    config = config or Data2VecConfig(2, 1.0, 0.9, 0.99, 10)
    with seeded(0):
        return Data2Vec(Places(**options), regression_head(8), config)


def batch(b=4, t=5):
    g = torch.Generator().manual_seed(1)
    mask = torch.zeros(b, t, dtype=torch.bool)
    mask[:, 1] = mask[0, 3] = True
    return MaskedInputs(torch.randn(b, t, 6, generator=g), mask)


# ------------------------------------------------------------------------------------------------ the teacher


@pytest.mark.equation("eq:d2v-decay")
def test_the_decay_is_a_straight_line_and_then_stays():
    for u in range(1, 300):
        want = 0.999 + (0.9999 - 0.999) * u / 200 if u < 200 else 0.9999
        assert ema_decay(u, 0.999, 0.9999, 200) == pytest.approx(want, abs=1e-12)
        fairseq = 0.9999 - (0.9999 - 0.999) * (1 - u / 200) if u < 200 else 0.9999
        assert want == pytest.approx(fairseq, abs=1e-12)


@pytest.mark.equation("eq:d2v-ema")
def test_every_number_of_the_teacher_is_the_mean_of_old_and_new_and_shared_parts_are_copied():
    with seeded(0):
        teacher, student = Places().double(), Places().double()
    student.seen.fill_(7)
    before, thetas = deepcopy(dict(teacher.named_parameters())), dict(student.named_parameters())
    ema_update_(teacher, student, 0.9, ("enter",))
    assert teacher.seen == 7
    for name, delta in teacher.named_parameters():
        for new, old, theta in zip(delta.flatten(), before[name].flatten(), thetas[name].flatten()):
            want = theta if name.startswith("enter.") else 0.9 * old + 0.1 * theta
            assert float(new) == pytest.approx(float(want), abs=1e-12)


def test_a_name_that_begins_alike_is_not_shared():
    teacher, student = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    old, new = teacher.weight.item(), student.weight.item()
    ema_update_(teacher, student, 0.5, ("wei",))
    assert teacher.weight.item() == pytest.approx((old + new) / 2)


@pytest.mark.equation("eq:d2v-unrolled")
def test_the_teacher_is_a_weighted_mean_of_all_students_there_were():
    thetas, tau, u = numbers(31), 0.9, 30
    delta = thetas[0].clone()
    for s in range(1, u + 1):
        delta = tau * delta + (1 - tau) * thetas[s]
    shares = ema_shares(u, tau)
    assert float((shares * thetas).sum()) == pytest.approx(float(delta), abs=1e-12)
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(ema_shares(0, tau)) == 1.0


@pytest.mark.equation("eq:d2v-half-life")
def test_half_lives_of_the_papers_decays():
    assert [round(half_life(tau)) for tau in (0.999, 0.9998, 0.9999)] == [693, 3466, 6931]
    assert [round(1 / (1 - tau)) for tau in (0.999, 0.9998, 0.9999)] == [1000, 5000, 10_000]
    for tau in (0.99, 0.999, 0.9999):
        assert abs(half_life(tau) + math.log(2) / math.log(tau)) < 1


def test_a_teacher_of_half_precision_is_refused_since_it_would_stand_still():
    student, teacher = nn.Linear(1, 1), nn.Linear(1, 1).bfloat16()
    teacher.weight.data.fill_(1.0)
    still = teacher.weight.data.clone().lerp_(torch.tensor([[2.0]]).bfloat16(), 0.0001)
    assert torch.equal(still, teacher.weight)                        # the step is rounded away
    with pytest.raises(ValueError, match="weight is torch.bfloat16, in which small steps are lost"):
        ema_update_(teacher, student, 0.9999)


def test_a_student_of_half_precision_has_a_teacher_of_single_precision():
    with seeded(0):
        model = Data2Vec(Places().bfloat16(), regression_head(8).bfloat16(), Data2VecConfig(2))
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float32}
    model.update()
    assert {p.dtype for p in model.student.parameters()} == {torch.bfloat16}


# ------------------------------------------------------------------------------------------------ the targets


@pytest.mark.equation("eq:d2v-layer-norm")
def test_layer_norm_is_over_the_channels_of_a_place():
    a = numbers(2, 3, 5)
    for b in range(2):
        for t in range(3):
            mean = sum(a[b, t]) / 5
            variance = sum((x - mean) ** 2 for x in a[b, t]) / 5
            for c in range(5):
                want = (a[b, t, c] - mean) / (variance + 1e-5).sqrt()
                assert float(layer_normed(a)[b, t, c]) == pytest.approx(float(want), abs=1e-12)


@pytest.mark.equation("eq:d2v-instance-norm")
def test_instance_norm_is_over_the_places_of_a_channel_and_wipes_out_what_is_the_same_at_all():
    a = numbers(2, 4, 3)
    a[:, :, 1] = 5.0
    found = instance_normed(a)
    for b in range(2):
        for c in range(3):
            mean = sum(a[b, :, c]) / 4
            variance = sum((x - mean) ** 2 for x in a[b, :, c]) / 4
            for t in range(4):
                want = (a[b, t, c] - mean) / (variance + 1e-5).sqrt()
                assert float(found[b, t, c]) == pytest.approx(float(want), abs=1e-12)
    assert not found[:, :, 1].any()
    torch.testing.assert_close(found[..., [0, 2]].var(dim=1, correction=0), torch.ones(2, 2).double(),
                               atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="1 place to normalise over"):
        instance_normed(a[:, :1])


def test_layer_norm_lets_all_places_be_alike_where_instance_norm_does_not():
    same = numbers(2, 1, 6).expand(2, 7, 6)
    assert layer_normed(same)[0].std(dim=1).min() > 0.5
    assert instance_normed(same).abs().max() < 1e-6


@pytest.mark.equation("eq:d2v-targets")
@pytest.mark.parametrize("norm, one", [
    ("layer", lambda a: F.layer_norm(a, a.shape[-1:])), ("none", lambda a: a),
    ("instance", lambda a: F.instance_norm(a.transpose(1, 2)).transpose(1, 2))])
def test_a_target_is_the_mean_of_the_last_k_blocks_each_normalised_before(norm, one):
    layers = [numbers(2, 4, 6, seed=i) * 10**i for i in range(5)]
    for k in range(1, 6):
        want = sum(one(layers[l]) for l in range(5 - k, 5)) / k
        torch.testing.assert_close(targets(layers, k, norm), want)
        torch.testing.assert_close(targets(layers, k, norm, twice=True), F.layer_norm(want, (6,)))


def test_without_a_norm_the_largest_block_is_the_target():
    layers = [numbers(1, 50, 8, seed=0), 100 * numbers(1, 50, 8, seed=1)]
    like = [F.cosine_similarity(targets(layers, 2, norm), layers[0], dim=-1).mean()
            for norm in ("none", "layer")]
    assert like[0] < 0.1 and like[1] > 0.6


def test_targets_of_half_precision_are_computed_in_single_precision():
    assert targets([numbers(1, 3, 4).bfloat16()], 1).dtype == torch.float32


@pytest.mark.parametrize("k", [0, 4])
def test_a_number_of_blocks_that_there_is_not_is_refused(k):
    with pytest.raises(ValueError, match=f"K is {k} and there are 3 blocks; give a K from 1 to 3"):
        targets([numbers(1, 2, 3)] * 3, k)


@pytest.mark.equation("eq:add-norm")
def test_a_block_tells_its_four_tensors_and_the_last_is_what_it_gives():
    with seeded(0):
        block = TargetBlock(8, 2, 16, 0.0, nn.GELU).double()
    x, mask = numbers(2, 5, 8), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    found = block.tensors(x, mask)
    after = block.attention_norm(x + found.attention)
    torch.testing.assert_close(found.attention, block.attention(x, mask))
    torch.testing.assert_close(found.ffn, block.feed_forward(after))
    torch.testing.assert_close(found.residual, after + found.ffn)
    torch.testing.assert_close(found.end, block.feed_forward_norm(found.residual))
    assert torch.equal(block(x, mask), found.end)


# --------------------------------------------------------------------------------------------------- the loss


@pytest.mark.equation("eq:d2v-smooth-l1")
def test_the_loss_is_a_square_near_zero_and_a_line_beyond_for_each_number():
    y, f = 5 * numbers(40), 5 * numbers(40, seed=1)
    for beta in (0.5, 2.0, 4.0):
        for i, found in enumerate(smooth_l1(f, y, beta)):
            e = float(y[i] - f[i])
            want = e * e / (2 * beta) if abs(e) <= beta else abs(e) - beta / 2
            assert float(found) == pytest.approx(want, abs=1e-12)
        huber = F.huber_loss(f, y, reduction="none", delta=beta)
        torch.testing.assert_close(smooth_l1(f, y, beta), huber / beta)


@pytest.mark.equation("eq:d2v-slope")
def test_its_slope_is_the_clipped_error_whose_integral_is_the_loss():
    beta = 2.0
    e = (3 * numbers(30)).requires_grad_()
    smooth_l1(e, torch.zeros_like(e), beta).sum().backward()
    torch.testing.assert_close(e.grad, smooth_l1_slope(e.detach(), beta))
    x = torch.linspace(0, 5, 5001, dtype=torch.float64)
    integral = torch.trapezoid(smooth_l1_slope(x, beta), x)
    assert float(integral) == pytest.approx(float(smooth_l1(x[-1], torch.zeros(()).double(), beta)), abs=1e-6)
    f, y = numbers(6).requires_grad_(), 3 * numbers(6, seed=1)
    assert torch.autograd.gradcheck(lambda f: smooth_l1(f, y, beta), f)


@pytest.mark.equation("eq:d2v-squared", "eq:d2v-loss")
def test_the_loss_of_a_batch_is_a_mean_over_places_and_its_reductions_differ_by_a_factor():
    f, y = numbers(5, 9), numbers(5, 9, seed=1)
    for beta in (0.0, 2.0):
        total = 0.0
        for n in range(5):
            for j in range(9):
                e = abs(float(y[n, j] - f[n, j]))
                total += e * e if beta == 0 else e * e / 4 if e <= 2 else e - 1
        for reduction, scale in (("mean", 1 / 9), ("root", 1 / 3), ("sum", 1.0)):
            found = float(regression_loss(f, y, beta, reduction))
            assert found == pytest.approx(scale * total / 5, abs=1e-12)
    torch.testing.assert_close(squared(f, y), (f - y) ** 2)
    torch.testing.assert_close(smooth_l1(f, y, 1e-9), (f - y).abs(), atol=1e-8, rtol=0)     # and not squares
    assert regression_loss(f[:0], y[:0], 2.0) == 0


# ------------------------------------------------------------------------------------------ signs of collapse


@pytest.mark.equation("eq:d2v-spread")
def test_the_spread_is_the_mean_deviation_of_channels_and_a_thousandth_of_equal_rows():
    y = numbers(7, 4)
    want = 0.0
    for j in range(4):
        mean = sum(y[:, j]) / 7
        want += math.sqrt(float(sum((x - mean) ** 2 for x in y[:, j])) / 7 + 1e-6) / 4
    assert float(spread(y)) == pytest.approx(want, abs=1e-12)
    assert float(spread(torch.ones(5, 3))) == pytest.approx(1e-3)


@pytest.mark.equation("eq:d2v-rank")
def test_the_effective_rank_counts_directions_that_are_used_alike():
    y = torch.zeros(8, 5, dtype=torch.float64)
    for i in range(3):                                               # three directions, of equal strength
        y[2 * i, i], y[2 * i + 1, i] = 1.0, -1.0
    assert float(effective_rank(y)) == pytest.approx(3.0, abs=1e-9)
    y = numbers(8, 5)
    s = [math.sqrt(x) for x in torch.linalg.eigvalsh(torch.cov(y.T, correction=0) * 8).tolist()]
    p = [x / sum(s) for x in s]
    assert float(effective_rank(y)) == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)), abs=1e-9)
    line = torch.arange(6.0)[:, None] * torch.ones(4)
    assert float(effective_rank(line)) == pytest.approx(1.0, abs=1e-4)
    assert float(effective_rank(torch.full((6, 4), 0.3))) == 0.0


# ------------------------------------------------------------------------------------------------- the method


def test_only_hidden_places_are_predicted_and_targets_are_the_teachers_of_whole_inputs():
    model, (inputs, mask, _) = learner(), batch()
    found = model(inputs, mask)
    assert found.prediction.shape == found.target.shape == (int(mask.sum()), 8)
    with torch.no_grad():
        want = targets(model.teacher.layers(inputs), 2)[mask]
    assert torch.equal(found.target, want) and not found.target.requires_grad
    torch.testing.assert_close(found.prediction, model.head(model.student(inputs, mask))[mask])


def test_what_is_hidden_does_not_reach_the_student_and_reaches_the_teacher():
    model, (inputs, mask, _) = learner(), batch()
    other = inputs.clone()
    other[mask] += 1.0
    one, two = model(inputs, mask), model(other, mask)
    assert torch.equal(one.prediction, two.prediction) and not torch.allclose(one.target, two.target)


def test_an_example_alone_is_predicted_as_in_a_batch():
    model, (inputs, mask, _) = learner(), batch()
    rows = mask.nonzero()[:, 0] == 2
    alone, all_ = model(inputs[2:3], mask[2:3]), model(inputs, mask)
    torch.testing.assert_close(alone.prediction, all_.prediction[rows])
    torch.testing.assert_close(alone.target, all_.target[rows])


def test_gradients_reach_student_and_head_and_not_the_teacher():
    model = learner()
    loss, told = data2vec_objective(model, batch())
    loss.backward()
    assert told["weight"] == 5
    assert all(p.grad is not None and p.grad.abs().sum() > 0
               for part in (model.student, model.head) for p in part.parameters())
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())


def test_the_teacher_has_no_dropout_in_training_and_the_student_has():
    model, (inputs, mask, _) = learner(dropout=0.5).train(), batch()
    assert not model.teacher.training and model.student.training
    one, two = model(inputs, mask), model(inputs, mask)
    assert torch.equal(one.target, two.target) and not torch.equal(one.prediction, two.prediction)


def test_updates_are_counted_and_the_decay_follows_them():
    model = learner()
    taus = [model.update() for _ in range(12)]
    assert taus == [ema_decay(u, 0.9, 0.99, 10) for u in range(1, 13)] and model.updates == 12
    with torch.no_grad():
        model.student.place.add_(1.0)
    model.restart()
    assert model.updates == 0
    assert all(torch.equal(a, b) for a, b in zip(model.teacher.parameters(), model.student.parameters()))


def test_a_batch_in_which_nothing_is_hidden_is_refused():
    inputs, mask, _ = batch()
    with pytest.raises(ValueError, match="nothing is hidden in this batch"):
        learner()(inputs, torch.zeros_like(mask))


def test_a_handful_of_examples_is_learned_and_the_teacher_follows():
    config = Data2VecConfig(2, 1.0, 0.9, 0.99, 40)
    model, one = learner(config), batch()
    before = float(data2vec_objective(model, one)[0])
    first = deepcopy(model.teacher.state_dict())
    history = train_data2vec(model, [one], steps=80, lr=1e-2, progress=False)
    assert history.loss[-1] < before / 4 and model.updates == 80
    assert history.scalars["target spread"][-1] > 0.1
    assert any(not torch.equal(first[name], value) for name, value in model.teacher.state_dict().items())
    assert torch.equal(model.teacher.enter.weight, model.student.enter.weight)                     # shared


def test_a_run_that_was_stopped_goes_on_to_the_same_teacher(tmp_path):
    rows = [(x, torch.tensor([False, True, False, False, True])) for x in batch(8).inputs]
    batches = Batches(rows, 4, collate=lambda part: MaskedInputs(*map(torch.stack, zip(*part))))
    whole, parts = learner(), learner()
    train_data2vec(whole, batches, steps=6, progress=False, schedule=tri_stage(1e-2, 6))
    for steps in (3, 6):
        train_data2vec(parts, batches, steps=steps, progress=False, folder=tmp_path,
                       schedule=tri_stage(1e-2, 6))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


@pytest.mark.equation("eq:d2v-rate")
def test_the_rate_rises_stays_and_falls_to_a_hundredth():
    rate = [tri_stage_rate(s, 2.0, 200, (0.05, 0.8, 0.15)) for s in range(250)]
    assert rate[0] == pytest.approx(0.02) and rate[5] == pytest.approx(0.02 + 1.98 * 5 / 10)
    assert rate[10] == rate[169] == rate[170] == 2.0
    for s in range(170, 201):
        assert rate[s] == pytest.approx(2 * math.exp(math.log(0.01) / 30 * (s - 170)))
    assert rate[200] == rate[249] == pytest.approx(0.02)
    assert tri_stage(2.0, 200)(1) == rate[0]


def test_the_named_settings_are_the_papers():
    of = {name: getattr(Data2VecConfig, name)() for name in
          ("vision", "vision_second", "text", "text_released", "speech")}
    assert [(c.K, c.beta) for c in of.values()] == [(6, 2), (6, 2), (10, 4), (10, 4), (8, 0)]
    assert [c.norm for c in of.values()] == ["layer"] * 4 + ["instance"]
    assert [c.twice for c in of.values()] == [True, True, False, False, False]
    assert [c.decay(1) for c in (of["vision"], of["vision_second"])] == [0.9998, 0.9999]
    assert of["text"].decay(50_000) == pytest.approx(0.99945) and of["text"].decay(10**6) == 0.9999
    assert of["speech"].decay(30_000) == 0.9999
    assert of["text_released"].decay(150_000) == pytest.approx(0.99945)


@pytest.mark.parametrize("wrong, message", [
    ({"tau_e": 0.5}, "tau_e of Data2VecConfig is 0.5, below tau_0 0.999"),
    ({"tau_0": 1.5}, "tau_0 of Data2VecConfig is 1.5, expected from 0 to 1"),
    ({"K": 0}, "K of Data2VecConfig is 0"), ({"tau_n": 0}, "tau_n of Data2VecConfig is 0"),
])
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Data2VecConfig(**wrong)


# --------------------------------------------------------------------------------------- what the survey says


@pytest.mark.equation("eq:d2v-survey-loss")
def test_e1_the_surveys_loss_jumps_where_the_true_one_is_smooth():
    beta, near = 2.0, torch.tensor([2 - 1e-6, 2 + 1e-6], dtype=torch.float64, requires_grad=True)
    survey, true = survey_smooth_l1(near, beta), smooth_l1(near, torch.zeros_like(near), beta)
    assert survey.tolist() == pytest.approx([1.999998, 1.000001], abs=1e-8)
    assert true.tolist() == pytest.approx([0.999999, 1.000001], abs=1e-8)
    slopes = [torch.autograd.grad(loss.sum(), near)[0].tolist() for loss in (survey, true)]
    assert slopes[0] == pytest.approx([2.0, 1.0], abs=1e-5)
    assert slopes[1] == pytest.approx([1.0, 1.0], abs=1e-5)
    for e in numbers(20):
        want = float(e) ** 2 / beta if abs(e) <= beta else abs(float(e)) - beta / 2
        assert float(survey_smooth_l1(e, beta)) == pytest.approx(want)


def test_e2_each_number_has_its_own_regime_and_not_the_vector():
    e = torch.tensor([3.0, 0.1], dtype=torch.float64)
    found = smooth_l1(e, torch.zeros_like(e), 2.0)
    assert found.tolist() == pytest.approx([3.0 - 1.0, 0.1**2 / 4])
    assert float(e.norm()) > 2.0                                     # by the norm both would be lines


def test_e3_an_outlier_pulls_with_a_slope_of_one_at_most():
    e = torch.tensor([1.0, 100.0, -1e6], dtype=torch.float64, requires_grad=True)
    slope, = torch.autograd.grad(smooth_l1(e, torch.zeros_like(e), 2.0).sum(), e)
    assert slope.tolist() == [0.5, 1.0, -1.0]
    slope, = torch.autograd.grad(squared(e, torch.zeros_like(e)).sum(), e)
    assert slope.tolist() == [2.0, 200.0, -2e6]


def test_e4_two_learners_share_no_space_so_that_one_does_not_find_the_others():
    with seeded(0):
        inputs, n = torch.randn(60, 5, 6), 60
        mask = torch.zeros(n, 5, dtype=torch.bool)
        mask[:, ::2] = True
    found = []
    for seed in range(2):
        with seeded(seed):
            model = Data2Vec(Places(16), regression_head(16), Data2VecConfig(2, 1.0, 0.9, 0.99, 20))
        train_data2vec(model, [MaskedInputs(inputs, mask)], steps=30, lr=1e-2, seed=seed, progress=False)
        with torch.no_grad():
            pooled = model.student(inputs).mean(dim=1)
        found.append(F.normalize(pooled - pooled.mean(dim=0), dim=-1))
    own = (found[0] @ found[0].T).argmax(dim=1) == torch.arange(n)
    across = (found[0] @ found[1].T).argmax(dim=1) == torch.arange(n)
    assert own.all() and across.float().mean() < 6 / n               # chance is 1 / n


def test_e5_the_blocks_of_a_target_are_the_last_ones():
    layers = [torch.full((1, 2, 3), float(l)) for l in range(1, 7)]
    assert targets(layers, 2, "none").unique().item() == (5 + 6) / 2 != (1 + 2) / 2


def test_e6_student_and_teacher_differ_in_more_than_their_weights():
    model, (inputs, mask, _) = learner(dropout=0.1).train(), batch()
    seen = {}
    model.student.register_forward_pre_hook(lambda m, args: seen.update(student=args))
    layers = model.teacher.layers
    model.teacher.layers = lambda *args: seen.update(teacher=args) or layers(*args)
    model(inputs, mask)
    assert len(seen["student"]) == 2 and torch.equal(seen["student"][1], mask)       # hidden places
    assert len(seen["teacher"]) == 1                                                  # none are
    assert model.student.training and not model.teacher.training
    learned = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learned == {"student", "head"}


def test_e20_the_hat_on_a_is_a_normalisation_without_weights():
    a = numbers(2, 4, 6) * 3 + 1
    y = targets([a], 1, "layer")
    assert not torch.allclose(y, a)
    torch.testing.assert_close(y.mean(dim=-1), torch.zeros(2, 4).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(targets([5 * a + 7], 1, "layer"), y, atol=1e-4, rtol=1e-4)
