"""The training loop does what its documentation says, step by step."""

import io
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from mmlearn import checkpoints
from mmlearn.train import (
    Batches,
    History,
    constant,
    epochs,
    fit,
    linear_decay,
    linear_warmup,
    noam,
    noam_rate,
    warmup_cosine,
    warmup_linear,
)


def examples(count=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=generator)
    return [(row, row.sum()[None]) for row in x]


def line(seed=1):
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def squared(model, batch):
    x, y = batch
    return ((model(x) - y) ** 2).mean()


def train(model, batches=None, **settings):
    settings = {"steps": 6, "lr": 0.05, "progress": False, **settings}
    return fit(model, squared, batches or Batches(examples(), 8), **settings)


# Learning rates

@pytest.mark.equation("eq:noam")
@pytest.mark.parametrize("step, want", [
    (1, 512 ** -0.5 * 1 / 10_000 ** 1.5),                 # on the way up: s w^(-3/2)
    (10_000, 1 / math.sqrt(512 * 10_000)),                # the peak, where both branches meet
    (40_000, 1 / math.sqrt(512 * 40_000)),                # on the way down: s^(-1/2)
])
def test_the_noam_rate_rises_linearly_and_falls_with_the_root(step, want):
    assert noam_rate(step, width=512, warmup=10_000) == pytest.approx(want, rel=1e-12)
    assert noam(512, 10_000, factor=2.0)(step) == pytest.approx(2 * want, rel=1e-12)


def test_the_peak_of_the_m2_recipe_is_the_published_one():
    rates = [noam_rate(step, 512, 10_000) for step in range(1, 30_000, 7)] + [noam_rate(10_000, 512, 10_000)]
    assert max(rates) == rates[-1] == pytest.approx(4.42e-4, rel=1e-3)


def test_a_cosine_schedule_passes_through_its_corner_points():
    rate = warmup_cosine(1.0, warmup=10, steps=110, final=0.2)
    assert [rate(5), rate(10), rate(60), rate(110), rate(500)] == pytest.approx([0.5, 1.0, 0.6, 0.2, 0.2])


def test_a_rate_rises_and_falls_in_straight_lines():
    rate = warmup_linear(1e-3, 10, 110)
    assert [rate(s) for s in (1, 10, 60, 110)] == pytest.approx([1e-4, 1e-3, 5e-4, 0.0])


def test_a_linear_warmup_ends_at_a_constant_rate():
    rate = linear_warmup(2.0, 4)
    assert [rate(s) for s in (1, 2, 4, 100)] == [0.5, 1.0, 2.0, 2.0]
    assert constant(0.3)(17) == 0.3


def test_a_rate_that_decays_stays_and_then_falls_to_nothing_after_the_last_step():
    rate = linear_decay(2.0, begin=6, steps=9)
    assert [rate(s) for s in (1, 6, 7, 8, 9, 10, 50)] == pytest.approx([2, 2, 1.5, 1, 0.5, 0, 0])


def test_schedules_are_compared_by_their_settings():
    assert noam(64, 100) == noam(64, 100) and noam(64, 100) != noam(64, 200)
    assert repr(noam(64, 100)) == "noam(width=64, warmup=100, factor=1.0)"


# The loop

def test_a_run_takes_the_steps_of_a_loop_written_out_by_hand():
    ours, theirs = line(), line()
    batches = [torch.utils.data.default_collate(examples()[i : i + 8]) for i in (0, 8, 16)]
    history = train(ours, batches, steps=7, schedule=linear_warmup(0.1, 5), lr=None, clip=0.5)
    optimizer = torch.optim.AdamW(theirs.parameters())
    losses = []
    for step in range(1, 8):
        optimizer.param_groups[0]["lr"] = 0.1 * min(1, step / 5)
        loss = squared(theirs, batches[(step - 1) % 3])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.sqrt(sum((p.grad ** 2).sum() for p in theirs.parameters()))
        for p in theirs.parameters():
            p.grad *= min(1.0, 0.5 / float(norm))
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-5, atol=1e-6)
    assert history.loss == pytest.approx(losses, rel=1e-5)
    assert history.steps == [1, 2, 3, 4, 5, 6, 7]
    assert history.scalars["norm"][-1] == pytest.approx(float(norm), rel=1e-4)


def test_a_line_is_learnt():
    model = line()
    history = train(model, steps=300, schedule=warmup_cosine(0.1, 10, 300), lr=None)
    assert history.loss[-1] < 1e-4 < history.loss[0]
    torch.testing.assert_close(model.weight, torch.ones(1, 3), atol=0.02, rtol=0)


def test_the_same_seed_gives_the_same_run():
    def noisy(model, batch):
        return squared(model, (nn.functional.dropout(batch[0], 0.5), batch[1]))
    runs = [fit(line(), noisy, Batches(examples(), 8), steps=5, lr=0.1, seed=s,
                progress=False).loss for s in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_two_half_batches_equal_one_whole_batch():
    whole, halves = line(), line()
    train(whole, Batches(examples(), 8, shuffle=False), steps=6)
    train(halves, Batches(examples(), 4, shuffle=False), steps=6, accumulate=2)
    torch.testing.assert_close(halves.state_dict(), whole.state_dict(), rtol=1e-6, atol=1e-6)


def uneven(count=6):
    """Batches with 1 and 3 valid targets in turn, as sentences of different lengths have."""
    x, y = torch.arange(1.0, 1 + 3 * count).view(count, 1, 3) / 10, torch.ones(count, 1, 1)
    return [(x[i].expand(1 + 2 * (i % 2), 3), y[i].expand(1 + 2 * (i % 2), 1)) for i in range(count)]


def test_with_a_weight_accumulation_means_over_all_tokens_without_one_over_batches():
    def counted(model, batch):
        return squared(model, batch), {"weight": len(batch[0])}
    batches = uneven()
    for loss_fn, share in ((counted, (0.25, 0.75)), (squared, (0.5, 0.5))):
        model, want = line(), line()
        history = fit(model, loss_fn, batches, steps=1, accumulate=2, progress=False,
                      optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
        loss = share[0] * squared(want, batches[0]) + share[1] * squared(want, batches[1])
        gradients = torch.autograd.grad(loss, list(want.parameters()))
        for ours, p, gradient in zip(model.parameters(), want.parameters(), gradients):
            torch.testing.assert_close(ours, p - 0.1 * gradient)
        assert history.loss == pytest.approx([loss.item()])


def test_scalars_are_recorded_beside_the_loss():
    def with_scalar(model, batch):
        loss = squared(model, batch)
        return loss, {"root": loss.sqrt(), "constant": 7}
    history = fit(line(), with_scalar, Batches(examples(), 8), steps=3, lr=0.1, progress=False)
    assert history.scalars["root"] == pytest.approx([math.sqrt(x) for x in history.loss], rel=1e-5)
    assert history.scalars["constant"] == [7, 7, 7]


def test_the_average_of_the_weights_follows_its_recursion():
    model, seen = line(), []
    history = train(model, steps=4, ema=0.75, on_step=lambda step, m: seen.append(m.weight.detach().clone()))
    average = seen[0]
    for weight in seen[1:]:
        average = 0.75 * average + 0.25 * weight
    torch.testing.assert_close(history.ema.weight, average)
    assert not torch.equal(history.ema.weight, model.weight)


def test_bf16_is_switched_on_around_every_method_a_loss_calls():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def decode(self, x):
            return self.layer(x)

    seen = []

    def loss_fn(model, batch):
        out = model.decode(batch[0])
        seen.append(out.dtype)
        return ((out.float() - batch[1]) ** 2).mean()
    for precision in ("bf16", "no"):
        fit(Model(), loss_fn, Batches(examples(), 8), steps=1, precision=precision, progress=False)
    assert seen == [torch.bfloat16, torch.float32]


def test_frozen_parameters_stay_as_they_are():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    train(model)
    assert torch.equal(model[0].weight, before["0.weight"]) and not torch.equal(
        model[1].weight, before["1.weight"]
    )


def test_gradients_left_behind_by_the_caller_do_not_count():
    clean, used = line(), line()
    used(torch.ones(4, 3)).sum().backward()
    train(clean)
    train(used)
    assert torch.equal(clean.weight, used.weight)


def test_a_rate_of_one_group_can_be_a_multiple_of_the_schedule():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    before = model[0].weight.clone()
    groups = [{"params": model[0].parameters(), "scale": 0.0}, {"params": model[1].parameters()}]
    train(model, optimizer=torch.optim.SGD(groups, lr=1.0))
    assert torch.equal(model[0].weight, before)


# Evaluation

def test_evaluation_sees_eval_mode_without_gradients_and_leaves_training_as_it_was():
    seen = []

    def evaluate(model):
        seen.append((model.training, torch.is_grad_enabled()))
        torch.rand(10)                                   # drawing here must not change what training draws
        return {"score": 1.0}

    def noisy(model, batch):
        assert model.training
        return squared(model, (nn.functional.dropout(batch[0], 0.5), batch[1]))
    runs = [fit(line(), noisy, Batches(examples(), 8), steps=6, lr=0.1, progress=False, evaluate=e,
                evaluate_every=2)
            for e in (None, evaluate)]
    assert seen == [(False, False)] * 3
    assert runs[0].loss == runs[1].loss
    assert runs[1].metric_steps == [2, 4, 6] and runs[1].metrics == {"score": [1.0, 1.0, 1.0]}


def test_of_two_evaluations_alike_the_later_weights_are_kept_and_patience_runs_on():
    model, kept = line(), {}
    history = train(model, steps=10, evaluate=lambda m: {"CIDEr": 0.0}, evaluate_every=1, watch="CIDEr",
                    patience=3, on_step=lambda step, m: kept.update({step: m.weight.detach().clone()}))
    assert history.steps == [1, 2, 3, 4] and history.best == (4, 0.0) and history.finished
    assert torch.equal(model.weight, kept[4])


def test_where_the_first_watched_metric_is_the_same_the_next_decides():
    rows = iter([(0.0, 5.0), (0.0, 3.0), (float("nan"), 1.0), (0.0, 4.0), (0.2, 9.0), (0.2, 9.5)])
    history = train(line(), steps=6, evaluate=lambda m: dict(zip(("CIDEr", "loss"), next(rows))),
                    evaluate_every=1, watch=("CIDEr", "-loss"), patience=3)
    assert history.best == (5, 0.2) and history.steps == [1, 2, 3, 4, 5, 6] and not history.finished


def test_training_stops_when_patience_is_over_and_returns_to_the_best_weights():
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    model, kept = line(), {}
    history = train(model, steps=10, evaluate=lambda m: {"CIDEr": next(scores)}, evaluate_every=1,
                    watch="CIDEr", patience=2, on_step=lambda step,
                    m: kept.update({step: m.weight.detach().clone()}))
    assert history.steps == [1, 2, 3, 4] and history.best == (2, 0.5) and history.finished
    assert torch.equal(model.weight, kept[2])


def test_a_metric_with_a_minus_sign_is_better_when_lower():
    scores = iter([3.0, 2.0, 4.0])
    history = train(line(), steps=3, evaluate=lambda m: {"loss": next(scores)}, evaluate_every=1,
                    watch="-loss")
    assert history.best == (2, 2.0)


# Batches

def test_a_shuffled_loader_is_read_in_an_order_that_the_seed_decides():
    def loss_fn(model, batch):
        order.append(batch[0][:, 0].tolist())
        return squared(model, batch)
    orders = []
    for seed in (0, 0, 1):
        order: list = []
        torch.manual_seed(len(orders))                   # the global state before the run does not matter
        fit(line(), loss_fn, DataLoader(examples(), 8, shuffle=True), steps=6, lr=0.1, seed=seed,
            progress=False)
        orders.append(order)
    assert orders[0] == orders[1] != orders[2]
    assert sorted(sum(orders[0][:3], [])) == sorted(sum(orders[0][3:], []))  # both epochs hold all examples
    assert orders[0][:3] != orders[0][3:]


def test_batches_may_be_a_function_of_their_number():
    numbers = []

    def batch(number):
        numbers.append(number)
        return torch.utils.data.default_collate(examples(4, seed=number))
    train(line(), batch, steps=3, accumulate=2)
    assert numbers == [0, 1, 2, 3, 4, 5]


def test_a_generator_that_runs_out_is_named():
    with pytest.raises(ValueError, match="ran out after 2"):
        train(line(), (torch.utils.data.default_collate(examples(4)) for _ in range(2)), steps=3)


def test_epochs_are_counted_in_optimiser_steps():
    assert epochs(Batches(examples(24), 8), 2) == 6
    assert epochs(Batches(examples(24), 4), 2, accumulate=3) == 4


# Errors and output

@pytest.mark.parametrize("settings, sentence", [
    ({"steps": 0}, "steps is 0"),
    ({"precision": "fp8"}, "precision is 'fp8'"),
    ({"schedule": noam(8, 10)}, "both lr=0.05 and a schedule"),
    ({"watch": "CIDEr"}, "needs evaluate"),
    ({"patience": 3}, "needs watch"),
    ({"evaluate": lambda m: {"BLEU": 1.0}, "watch": "CIDEr"}, "evaluate returned BLEU"),
    ({"lr": 1e30}, "lower the learning rate"),
])
def test_settings_that_make_no_sense_get_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(line(), **settings)


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("settings", [
    *({name: value} for name in ("steps", "accumulate", "save_every", "keep", "evaluate_every", "patience")
      for value in (0, -1, 10**30)),
    *({"lr": value} for value in (-1, -1e-9, NAN, INF, -INF)),
    *({"clip": value} for value in (0, -1, NAN, -INF)), *({"ema": value} for value in (-0.1, 1.1, NAN, INF)),
    *({"lr": None, "schedule": lambda step, rate=rate: rate} for rate in (NAN, INF, -0.1))])
def test_a_number_that_makes_no_sense_is_named_and_nothing_is_trained(settings):
    model = line()
    before = model.weight.clone()
    name = "learning rate of step 1" if "schedule" in settings else next(iter(settings))
    with pytest.raises(ValueError, match=rf"{name} is .*[;]"):
        train(model, **{"evaluate": lambda m: {"a": 1.0}, "watch": "a", **settings})
    assert torch.equal(model.weight, before)


def test_batches_that_are_none_are_refused():
    for batches in (None, 3):
        with pytest.raises(ValueError, match=f"batches is {batches}; give Batches"):
            fit(line(), squared, batches, steps=1, progress=False)
    with pytest.raises(ValueError, match="mean over 0 terms"):
        fit(line(), lambda model, batch: (squared(model, batch), {"weight": 0}), Batches(examples(), 8),
            steps=1, progress=False)


def test_weights_that_are_not_finite_are_never_the_result(tmp_path):
    def poisoned(step, model):
        if step == 3:
            model.weight.data[0, 0] = math.nan               # as a gradient of NaN in the last step does
    with pytest.raises(ValueError, match=r"the weights after step 3 are not finite \(weight\); lower"):
        train(line(), steps=3, on_step=poisoned, folder=tmp_path / "run", save_every=1)
    assert [checkpoints.read(path).step for path in checkpoints.steps_in(tmp_path / "run")] == [2, 1]
    with pytest.raises(ValueError, match="not finite"):
        train(line(), steps=3, on_step=poisoned)
    model = line()
    model.weight.data[0, 0] = math.inf
    with pytest.raises(ValueError, match=r"w\.safetensors is not written: the weights weight are not finite"):
        checkpoints.save_weights(model, tmp_path / "w.safetensors")
    model.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match="are not finite in 16 bits"):
        checkpoints.save_weights(model, tmp_path / "w.safetensors", half=True)
    checkpoints.save_weights(model, tmp_path / "w.safetensors")


def test_after_every_checkpoint_on_save_is_called_with_what_it_holds(tmp_path):
    seen = []

    def note(step, model):
        kept = checkpoints.newest(tmp_path)
        assert torch.equal(kept.tensors["model"]["weight"], model.weight)
        seen.append((step, kept.step))
    train(line(), steps=5, folder=tmp_path, save_every=2, on_save=note)
    assert seen == [(2, 2), (4, 4), (5, 5)]


def test_outside_a_terminal_progress_is_a_few_clean_lines():
    file = io.StringIO()
    train(line(), steps=200, progress=file, title="M2")
    lines = file.getvalue().splitlines()
    assert 5 <= len(lines) <= 11 and "\r" not in file.getvalue()
    assert lines[-1].startswith("M2: 100%") and "200/200" in lines[-1] and "loss" in lines[-1]
    assert all(len(text) <= 79 for text in lines)


def test_in_a_terminal_one_line_is_overwritten_and_closed():
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    file = Terminal()
    train(line(), steps=50, progress=file)
    assert file.getvalue().endswith("\n") and file.getvalue().count("\n") == 1
    assert "50/50" in file.getvalue().split("\r")[-1]


def test_a_history_smooths_and_plots_itself():
    history = History(steps=[1, 2, 3], loss=[3.0, 1.0, 2.0], metric_steps=[3], metrics={"CIDEr": [0.5]})
    assert history.smooth(2) == [3.0, 2.0, 1.5]
    left, right = history.plot().axes
    assert left.get_xlabel() == "step" and left.get_ylabel() == "loss" and right.get_ylabel() == "CIDEr"
    assert list(left.lines[1].get_ydata()) == [3.0, 2.0, 2.0]
