"""Self-attention as matrices, beside a recurrence."""

import math

import pytest
import torch
from networks import numbers, stirred

from mmlearn.images_for_language.self_attention import (
    attention_cost,
    equivariance_gap,
    influence,
    one_query,
    recurrence,
    recurrence_cost,
    self_attention,
)
from mmlearn.nn.bert import BERT, BERTConfig
from mmlearn.nn.transformer import EncoderLayer

ORDER = torch.tensor([3, 0, 4, 1, 2])


def matrices(d=4, e=3, v=2):
    return numbers(d, e, seed=1), numbers(d, e, seed=2), numbers(d, v, seed=3)


@pytest.mark.equation("eq:attention-row")
@pytest.mark.equation("eq:self-attention")
def test_all_queries_at_once_are_the_queries_one_by_one_and_the_formula():
    X, (W_q, W_k, W_v) = numbers(5, 4), matrices()
    got = self_attention(X, W_q, W_k, W_v)
    for i in range(5):
        torch.testing.assert_close(one_query(X[i], X, W_q, W_k, W_v), got[i])
        shares = []
        for j in range(5):
            q = [sum(float(X[i, k]) * float(W_q[k, m]) for k in range(4)) for m in range(3)]
            key = [sum(float(X[j, k]) * float(W_k[k, m]) for k in range(4)) for m in range(3)]
            shares.append(math.exp(sum(a * b for a, b in zip(q, key)) / math.sqrt(3)))
        for n in range(2):
            values = [sum(float(X[j, k]) * float(W_v[k, n]) for k in range(4)) for j in range(5)]
            want = sum(s * value for s, value in zip(shares, values)) / sum(shares)
            assert float(got[i, n]) == pytest.approx(want, abs=1e-12)
    batch = numbers(2, 5, 4, seed=7)
    alone = self_attention(batch[1], W_q, W_k, W_v)
    torch.testing.assert_close(self_attention(batch, W_q, W_k, W_v)[1], alone)


@pytest.mark.equation("eq:recurrence")
def test_a_recurrence_goes_one_token_after_the_other_as_torchs_does():
    X, W_x, W_h, b = numbers(2, 5, 4), numbers(4, 3, seed=1), numbers(3, 3, seed=2), numbers(3, seed=3)
    got = recurrence(X, W_x, W_h, b)
    for n in range(2):
        h = [0.0] * 3
        for i in range(5):
            h = [math.tanh(sum(float(X[n, i, k]) * float(W_x[k, m]) for k in range(4))
                           + sum(h[k] * float(W_h[k, m]) for k in range(3)) + float(b[m])) for m in range(3)]
            torch.testing.assert_close(got[n, i], torch.tensor(h).double())
    cell = torch.nn.RNN(4, 3, batch_first=True).double()
    with torch.no_grad():
        cell.weight_ih_l0.copy_(W_x.mT)
        cell.weight_hh_l0.copy_(W_h.mT)
        cell.bias_ih_l0.copy_(b)
        cell.bias_hh_l0.zero_()
        torch.testing.assert_close(cell(X)[0], got)


@pytest.mark.equation("eq:equivariance")
def test_e15_attention_without_positions_does_not_know_the_order_of_its_tokens():
    """Nor does an encoder layer, nor BERT whose positions are taken away; a recurrence knows the order."""
    X, W = numbers(2, 5, 16), matrices(16, 8, 8)
    assert equivariance_gap(lambda x: self_attention(x, *W), X, ORDER) < 1e-12
    layer = stirred(EncoderLayer(16, 2, 32).double()).eval()
    assert equivariance_gap(layer, X, ORDER) < 1e-12
    weights = numbers(16, 8, seed=4), numbers(8, 8, seed=5), numbers(8, seed=6)
    assert equivariance_gap(lambda x: recurrence(x, *weights), X, ORDER) > 0.1
    bert = stirred(BERT(BERTConfig(20, 8, 16, 2, 2, 32)), scale=0.3).eval()
    tokens = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 5, 6, 12]])
    with torch.no_grad():
        assert (bert(tokens[:, ORDER]) - bert(tokens)[:, ORDER]).abs().max() > 0.1
        bert.embed.positions.weight.zero_()
        assert (bert(tokens[:, ORDER]) - bert(tokens)[:, ORDER]).abs().max() < 1e-5


def test_e25_two_thirds_of_a_layer_are_not_attention_and_without_residuals_tokens_become_alike():
    layer = EncoderLayer(512, 8, 2048)
    in_attention = sum(p.numel() for name, p in layer.named_parameters() if name.startswith("attention."))
    whole = sum(p.numel() for p in layer.parameters())
    assert in_attention == 4 * (512 * 512 + 512) and 0.32 < in_attention / whole < 0.35
    X, W = numbers(6, 16), [0.05 * w for w in matrices(16, 16, 16)]

    def spread(x):
        return float((x - x.mean(dim=0)).norm() / x.norm())

    bare = rich = X
    for _ in range(8):
        bare, rich = self_attention(bare, *W), rich + self_attention(rich, *W)
        bare = bare / bare.norm()
    assert spread(X) > 0.5 and spread(bare) < 1e-3 < 0.4 < spread(rich)


def test_e26_reading_is_one_call_for_all_tokens_and_writing_is_a_call_for_each():
    """The inputs of a word that is to be written are not there before the one ahead of it is chosen."""
    W, words, calls = matrices(6, 6, 6), numbers(9, 6, seed=5), []

    def logits(tokens):                                 # of the token after each, which sees what is before
        calls.append(len(tokens))
        x = words[tokens]
        return torch.cat([self_attention(x[:i + 1], *W)[-1:] for i in range(len(x))]) @ words.mT

    written = [0]
    for _ in range(5):
        written.append(int(logits(written)[-1].argmax()))
    assert calls == [1, 2, 3, 4, 5]
    at_once = logits(written[:-1])                          # once they are known, one call has them all
    assert at_once.argmax(dim=-1).tolist() == written[1:] and len(calls) == 6
    assert issubclass(torch.nn.LSTM, torch.nn.modules.rnn.RNNBase)  # and an LSTM is a recurrent network


@pytest.mark.equation("eq:influence")
def test_every_token_is_one_step_away_and_in_a_recurrence_the_first_fades():
    X, W = 0.5 * numbers(30, 8), tuple(0.3 * w for w in matrices(8, 8, 8))
    near = influence(lambda x: self_attention(x, *W), X)
    faded = influence(lambda x: recurrence(x, 0.3 * numbers(8, 8, seed=1), 0.2 * numbers(8, 8, seed=2),
                                           numbers(8, seed=3)), X)
    assert near[0] > 0.01 * near.max() and faded[0] < 1e-6 * faded.max() and int(faded.argmax()) == 29
    moved = X.clone()
    moved[4, 2] += 1e-6
    slope = (self_attention(moved, *W)[-1] - self_attention(X, *W)[-1]) / 1e-6
    whole = torch.autograd.functional.jacobian(lambda x: self_attention(x, *W)[-1], X)
    torch.testing.assert_close(slope, whole[:, 4, 2], atol=1e-5, rtol=1e-4)
    assert float(near[4]) == pytest.approx(float(whole[:, 4].norm()))
    later = influence(lambda x: recurrence(x, *matrices(8, 8, 8)[:2], numbers(8)), X, at=10)
    assert (later[11:] == 0).all()                                       # it does not see what follows


@pytest.mark.equation("eq:attention-cost")
@pytest.mark.equation("eq:recurrence-cost")
def test_costs_count_the_multiplications_of_the_loops():
    t, d = 6, 4
    scores = sum(d for _ in range(t) for _ in range(t))
    values = sum(d for _ in range(t) for _ in range(t))
    assert attention_cost(t, d) == (scores + values, 1, 1)
    assert recurrence_cost(t, d) == (sum(d for _ in range(t) for _ in range(d)), t, t - 1)
    assert attention_cost(128, 768).multiplications < recurrence_cost(128, 768).multiplications
    assert attention_cost(384, 768).multiplications == recurrence_cost(384, 768).multiplications
