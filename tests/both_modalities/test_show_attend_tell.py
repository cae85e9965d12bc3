"""Show, Attend and Tell: attention inside the recurrence."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from networks import count_blank, numbers, stirred

from mmlearn.both_modalities.show_attend_tell import (
    ShowAttendTell,
    ShowAttendTellConfig,
    gated_reading,
    read_then_step,
    show_attend_tell_loss,
)
from mmlearn.generate import beam, greedy, score

pytestmark = pytest.mark.usefixtures("seeded")
TINY = ShowAttendTellConfig(5, 11, 4, 6, 3, dropout=0.0, max_len=9)


def made(reading="soft", dtype=torch.float32):
    return stirred(ShowAttendTell(replace(TINY, reading=reading)), scale=0.3).to(dtype).eval()


def sample(b=2, g=2, t=4, p=7):
    tokens = torch.randint(4, 11, (b * g, t))
    tokens[:, 0] = 2
    return torch.randn(b, p, 5), torch.arange(p) < torch.tensor([p, p - 3])[:, None], tokens


@pytest.mark.equation("eq:sat-gate", "eq:sat-state")
def test_the_gate_and_the_input_are_the_formulas():
    v, h, w, b = numbers(2, 3), numbers(2, 4, seed=1), numbers(4, seed=2), numbers(1, seed=3)[0]
    for i in range(2):
        torch.testing.assert_close(gated_reading(v, h, w, b)[i], torch.sigmoid(h[i] @ w + b) * v[i])
        torch.testing.assert_close(read_then_step(h, v)[i], torch.cat([h[i], v[i]]))


@pytest.mark.parametrize("reading", ["soft", "hard"])
def test_a_caption_is_read_word_by_word_as_the_paper_says(reading):
    model = made(reading, torch.float64)
    grid, mask, tokens = sample()
    got = model(grid.double(), tokens, mask).detach()
    cell = model.cell
    with torch.no_grad():
        for row in range(4):
            a = grid[row // 2][mask[row // 2]].double()
            h, c = (torch.tanh(f.weight @ a.mean(0) + f.bias) for f in (model.first_h, model.first_c))
            for t, token in enumerate(tokens[row]):
                e = torch.stack([model.score.weight[0] @ torch.tanh(
                    model.keys.weight @ x + model.queries.weight @ h + model.queries.bias) for x in a])
                z = a[e.argmax()] if reading == "hard" else e.softmax(0) @ a
                z = torch.sigmoid(model.gate.weight[0] @ h + model.gate.bias[0]) * z
                word = model.embed.weight[token]
                gates = (cell.weight_ih @ torch.cat([word, z]) + cell.bias_ih + cell.weight_hh @ h
                         + cell.bias_hh)
                i, f, g, o = gates.split(6)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                deep = torch.tanh(word + model.out_h.weight @ h + model.out_v.weight @ z)
                torch.testing.assert_close(got[row, t], model.predict.weight @ deep + model.predict.bias)


@pytest.mark.parametrize("reading", ["soft", "hard"])
def test_gradients_reach_every_parameter_and_rows_do_not_meet(reading):
    model = made(reading)
    grid, mask, tokens = sample()
    together = model(grid, tokens, mask)
    torch.testing.assert_close(model(grid[1:], tokens[2:3], mask[1:]), together[2:3])
    torch.testing.assert_close(model(grid[1:, :4], tokens[2:3]), together[2:3])
    model.train()
    loss, scalars = show_attend_tell_loss(model, SimpleNamespace(inputs=grid, mask=mask, tokens=tokens))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert scalars["weight"] == 12 and (reading == "soft") == (float(model.baseline) == 0)


@pytest.mark.parametrize("reading", ["soft", "hard"])
def test_words_are_written_as_they_are_read(reading):
    model = made(reading)
    grid, mask, _ = sample()
    context = model.encode(grid, mask)
    tokens, log_probs = greedy(model, context, max_len=5)
    torch.testing.assert_close(score(model, context, tokens[:, None])[:, 0].detach(), log_probs,
                               rtol=1e-4, atol=1e-4)
    found, gains = beam(model, context, k=3, max_len=5)
    torch.testing.assert_close(score(model, context, found).detach(), gains, rtol=1e-4, atol=1e-4)


def test_the_mean_of_drawn_gradients_is_that_of_the_expected_log_probability(monkeypatch):
    """Two words, three cells: all nine ways to look, with their probabilities."""
    model = made("hard", torch.float64).train()
    grid, tokens = torch.randn(1, 3, 5, dtype=torch.float64), torch.tensor([[2, 5, 7]])
    batch = SimpleNamespace(inputs=grid, mask=None, tokens=tokens)
    weights = [p for p in model.parameters() if p is not model.predict.bias]
    exact = [torch.zeros_like(p) for p in weights]
    mean = [torch.zeros_like(p) for p in weights]
    total, places = 0.0, []
    monkeypatch.setattr(torch, "multinomial", lambda *a, **k: torch.tensor([[places.pop(0)]]))
    for first in range(3):
        for second in range(3):
            places += [first, second] * 2
            model.baseline.fill_(-1.0)
            loss, _ = show_attend_tell_loss(model, batch)
            grads = torch.autograd.grad(loss, weights, allow_unused=True)
            reading = model.read(tokens[:, :-1], model.encode(grid))
            chance = reading.log_drawn.sum().exp()
            log_p = reading.logits.log_softmax(-1)[0, [0, 1], tokens[0, 1:]].sum()
            wanted = torch.autograd.grad(-chance * log_p / 2, weights, allow_unused=True)
            total += float(chance)
            for i, (g, w) in enumerate(zip(grads, wanted)):
                mean[i] += 0 if g is None else float(chance) * g
                exact[i] += 0 if w is None else w
    assert total == pytest.approx(1.0)
    torch.testing.assert_close(mean, exact)


def test_a_handful_of_pictures_is_learnt_by_heart_and_the_papers_size_is_counted():
    grid = torch.randn(3, 6, 5)
    tokens = torch.tensor([[2, 4, 5, 6, 3], [2, 7, 5, 3, 1], [2, 8, 9, 10, 3]])
    model = ShowAttendTell(replace(TINY, width=24, embedding=12, attention=8))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    batch = SimpleNamespace(inputs=grid, mask=None, tokens=tokens)
    for _ in range(120):
        optimizer.zero_grad()
        loss, scalars = show_attend_tell_loss(model, batch, 0.1)
        loss.backward()
        optimizer.step()
    assert scalars["cross_entropy"] < 0.1
    assert greedy(model.eval(), model.encode(grid), max_len=4)[0].tolist() == tokens[:, 1:].tolist()
    f, e, d, k, v = 512, 512, 1800, 512, 10_000
    cell = 4 * d * (e + f + d + 2)
    want = v * e + 2 * (f + 1) * d + f * k + (d + 1) * k + k + d + 1 + cell + f * e + d * e + (e + 1) * v
    assert count_blank(ShowAttendTell, ShowAttendTellConfig.coco()) == want


def test_rows_of_tokens_have_to_fit_the_pictures():
    model = made()
    grid, _, tokens = sample()
    with pytest.raises(ValueError, match="4 rows of tokens for 2 pictures with 1 each"):
        model.decode(tokens, model.encode(grid))
    assert ShowAttendTellConfig.mini(50).vocab == 50
