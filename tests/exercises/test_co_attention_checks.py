"""What the checks of chapter 5's exercises about ViLBERT know of mistakes, and what they take for right."""

import math

import pytest
import torch

from mmlearn.both_modalities.vilbert import co_attention
from mmlearn.both_modalities.vilbert_heads import answer_loss, soft_score
from mmlearn.both_modalities.vilbert_pretraining import region_loss
from mmlearn.exercises import co_attention as checks

# --------------------------------------------------------------------------------- reading, or not reading


def meet(X, Y, x_real, y_real, W, *, slot=True, mask=True, keys="other", scale=None, stable=True):
    found = []
    for own, o, other, p, real in ((X, "X", Y, "Y", y_real), (Y, "Y", X, "X", x_real)):
        source, name, there = other, p, real
        if keys == "own":
            source, name, there = own, o, x_real if o == "X" else y_real
        Q, K, V = own @ W[f"Q_{o}"], source @ W[f"K_{name}"], source @ W[f"V_{name}"]
        s = Q @ K.T / (scale or math.sqrt(Q.shape[1]))
        if mask:
            s = s.masked_fill(~there, -math.inf)
        if slot:
            s = torch.cat([s, torch.zeros(len(s), 1).double()], 1)
            V = torch.cat([V, torch.zeros(1, V.shape[1]).double()])
        shares = s.softmax(1) if stable else s.exp() / s.exp().sum(1, keepdim=True)
        found.append(shares @ V)
    return tuple(found)


def one_by_one(X, Y, x_real, y_real, W):
    def half(own, o, other, p, real):
        s = (own @ W[f"Q_{o}"]) @ (other @ W[f"K_{p}"]).T / W[f"Q_{o}"].shape[1] ** 0.5
        s = s.masked_fill(~real, -math.inf)
        most = s.amax(1, keepdim=True).clamp(min=0)
        weights = (s - most).exp()
        return weights @ (other @ W[f"V_{p}"]) / (weights.sum(1, keepdim=True) + (-most).exp())
    return half(X, "X", Y, "Y", y_real), half(Y, "Y", X, "X", x_real)


@pytest.mark.parametrize("answer", [meet, one_by_one])
def test_reading_the_other_stream_is_right(answer):
    assert checks.reading_or_not.verdict(answer).startswith("right:")


@pytest.mark.parametrize("options, hint", [
    ({"keys": "own"}, "each stream reads itself"), ({"slot": False}, "empty slot is missing"),
    ({"mask": False}, "padding of the other"), ({"scale": 1.0}, "not divided by the root of k"),
    ({"stable": False}, "take the largest off"),
])
def test_each_wrong_way_of_reading_has_its_hint(options, hint):
    said = checks.reading_or_not.verdict(lambda *inputs: meet(*inputs, **options))
    assert said.startswith("not yet:") and hint in said
    assert "exchanged: C_X" in checks.reading_or_not.verdict(lambda *inputs: meet(*inputs)[::-1])


def test_without_the_slot_it_is_the_chapters_co_attention():
    X, Y = torch.randn(3, 4).double(), torch.randn(2, 5).double()
    W = {f"{part}_{s}": torch.randn(width, 6).double() for s, width in (("X", 4), ("Y", 5)) for part in "QKV"}
    real = torch.ones(3, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    want = co_attention(*(tuple((one @ W[f"{part}_{s}"])[None, None] for part in "QKV")
                          for s, one in (("X", X), ("Y", Y))))
    for got, expected in zip(meet(X, Y, *real, W, slot=False), want):
        torch.testing.assert_close(got, expected[0, 0])


# ----------------------------------------------------------------------------------------------- who is blind


def blind(n, score=lambda n: (n / 3).clamp(max=1), inverse=torch.logit,
          total=lambda each: each.sum(1).mean()):
    s = (n / 3).clamp(max=1).double()
    share = score(n).double().mean(0).clamp(1e-4, 1 - 1e-4)
    z = inverse(share)
    return z, total(-(s * z.sigmoid().log() + (1 - s) * (-z).sigmoid().log()))


def by_the_chapters_loss(n):
    s = soft_score(n).double()
    share = s.mean(0).clamp(1e-4, 1 - 1e-4)
    z = torch.log(share / (1 - share))
    return z, answer_loss(z.expand_as(s), s)


@pytest.mark.parametrize("answer", [blind, by_the_chapters_loss])
def test_the_log_odds_of_the_mean_score_are_the_best_that_is_blind(answer):
    assert checks.blind_head.verdict(answer).startswith("right:")
    n = torch.tensor([[7, 0, 1], [10, 2, 0], [0, 3, 3], [1, 1, 0]])
    z = answer(n)[0].double().requires_grad_()
    (grad,) = torch.autograd.grad(answer_loss(z.expand(4, 3), soft_score(n).double()), z)
    assert grad.abs().max() < 1e-6                      # no other constant pays less


@pytest.mark.parametrize("options, hint", [
    ({"score": lambda n: n / 10}, "shares of ten"), ({"score": lambda n: n > 0}, "as soon as one person"),
    ({"score": lambda n: torch.nn.functional.one_hot(n.argmax(1), n.shape[1])}, "several may be right"),
    ({"inverse": torch.log}, "those of a softmax"), ({"inverse": lambda s: s}, "the logits are the shares"),
    ({"total": lambda each: each.mean()}, "mean over answers"),
    ({"total": lambda each: each.sum()}, "sum over questions"),
    ({"score": lambda n: n / 3}, "cannot be more than right"),
])
def test_each_wrong_blind_head_has_its_hint(options, hint):
    said = checks.blind_head.verdict(lambda n: blind(n, **options))
    assert said.startswith("not yet:") and hint in said


# --------------------------------------------------------------------------------------------- hidden regions


def hidden_loss(logits, p, hidden, pairs, aligned=0, count=None, entropy=True, whole=False):
    total, number = logits.new_zeros(()), 0
    for i in range(len(logits)):
        for j in range(logits.shape[1]):
            if (hidden[i, j] or whole) and (aligned is None or pairs[i] == aligned):
                log_q = logits[i, j].log_softmax(0)
                for c in range(len(log_q)):
                    if p[i, j, c] > 0:
                        total = total + p[i, j, c] * ((p[i, j, c].log() if entropy else 0) - log_q[c])
                number += 1
    if count == "sum":
        return total
    if count == "all":
        return total / hidden.numel()
    return total / max(number, 1) if count is None else total / number


def by_the_chapter(logits, p, hidden, pairs):
    chosen = hidden & (pairs == 0)[:, None]
    return region_loss(logits[chosen], p[chosen])


@pytest.mark.parametrize("answer", [hidden_loss, by_the_chapter])
def test_a_mean_over_hidden_regions_of_aligned_pairs_is_right(answer):
    assert checks.hidden_regions.verdict(answer).startswith("right:")


@pytest.mark.parametrize("options, hint", [
    ({"aligned": None}, "do not belong together are asked"), ({"aligned": 1}, "label 0 says"),
    ({"whole": True}, "were not hidden"), ({"count": "all"}, "number of all regions"),
    ({"count": "sum"}, "this is a sum"), ({"entropy": False}, "cross-entropy"),
])
def test_each_wrong_loss_of_regions_has_its_hint(options, hint):
    said = checks.hidden_regions.verdict(lambda *inputs: hidden_loss(*inputs, **options))
    assert said.startswith("not yet:") and hint in said


def test_what_is_no_number_or_divides_by_nothing_is_told():
    def bare(logits, p, hidden, pairs):
        chosen = hidden & (pairs == 0)[:, None]
        q = logits[chosen].softmax(-1)
        return (p[chosen] * (p[chosen].log() - q.log())).sum(-1).mean()

    def unguarded(logits, p, hidden, pairs):
        chosen = hidden & (pairs == 0)[:, None]
        return torch.nn.functional.kl_div(logits[chosen].log_softmax(-1), p[chosen], reduction="batchmean")

    assert "0 times log 0" in checks.hidden_regions.verdict(bare)
    assert "where nothing is asked the loss is 0" in checks.hidden_regions.verdict(unguarded)
