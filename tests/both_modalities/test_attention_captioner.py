"""The recurrent attention captioner: the survey's five equations, as what they are."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from networks import count_blank, numbers, stirred

from mmlearn.both_modalities.attention_captioner import (
    AttentionCaptionerConfig,
    RecurrentAttentionCaptioner,
    adaptive_reading,
    doubly_stochastic,
    first_state,
    hard_attention_loss,
    hard_reading,
    join_deep,
    join_sum,
    join_tanh,
    lstm_input,
    moving_baseline,
    picture_vector,
    place_entropy,
    place_scores,
    place_weights,
    reinforce,
    sentinel,
    sentinel_share,
    soft_attention_loss,
    soft_jacobian,
    soft_reading,
    word_logits,
    write_captions,
)
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.generate import beam, greedy, score

pytestmark = pytest.mark.usefixtures("seeded")
TINY = AttentionCaptionerConfig(features=5, vocab=11, embedding=4, width=6, attention=3, dropout=0.0,
                                max_len=9)
KINDS = {
    "sum": TINY,
    "tanh": replace(TINY, output="tanh"),
    "deep": replace(TINY, output="deep"),
    "sentinel": replace(TINY, sentinel=True),
    "hard": replace(TINY, reading="hard"),
}


def made(kind, dtype=torch.float32):
    model = RecurrentAttentionCaptioner(KINDS[kind])
    return stirred(model, scale=0.3).to(dtype).eval()


def sample(b=2, g=2, t=4, p=7):
    """Grids, a mask of cells, and rows of tokens without padding."""
    grid = torch.randn(b, p, 5)
    mask = torch.arange(p) < torch.tensor([p, p - 3])[:, None]
    tokens = torch.randint(4, 11, (b * g, t))
    tokens[:, 0] = 2
    return grid, mask, tokens


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:recap-mean", "eq:recap-first", "eq:recap-state")
def test_the_first_state_and_what_the_lstm_gets_are_the_formulas():
    V, W, b, words = numbers(2, 3, 4), numbers(4, 4, seed=1), numbers(4, seed=2), numbers(2, 5, 3, seed=3)
    mask = torch.tensor([[True, True, True], [True, False, True]])
    mean = torch.stack([(V[0, 0] + V[0, 1] + V[0, 2]) / 3, (V[1, 0] + V[1, 2]) / 2])
    torch.testing.assert_close(picture_vector(V, mask), mean)
    torch.testing.assert_close(picture_vector(V), V.sum(1) / 3)
    torch.testing.assert_close(first_state(mean, W, b), torch.stack([torch.tanh(v @ W + b) for v in mean]))
    got = lstm_input(words, mean)
    for i in range(2):
        for t in range(5):
            torch.testing.assert_close(got[i, t], torch.cat([words[i, t], mean[i]]))


@pytest.mark.equation("eq:recap-scores", "eq:recap-weights", "eq:recap-soft", "eq:recap-hard")
def test_scores_weights_and_both_ways_of_reading_are_the_formulas():
    keys, queries, w = numbers(2, 3, 4), numbers(2, 5, 4, seed=1), numbers(4, seed=2)
    V = numbers(2, 3, 6, seed=3)
    mask = torch.tensor([[True, True, True], [True, False, True]])
    scores = place_scores(keys, queries, w)
    weights = place_weights(scores, mask)
    places = torch.tensor([[0, 1, 2, 0, 1], [2, 2, 0, 0, 2]])
    for b in range(2):
        for t in range(5):
            e = torch.stack([torch.tanh(keys[b, i] + queries[b, t]) @ w for i in range(3)])
            torch.testing.assert_close(scores[b, t], e)
            a = e.exp() * mask[b]
            a = a / a.sum()
            torch.testing.assert_close(weights[b, t], a)
            want = sum(a[i] * V[b, i] for i in range(3))
            torch.testing.assert_close(soft_reading(weights, V)[b, t], want)
            torch.testing.assert_close(hard_reading(places, V)[b, t], V[b, places[b, t]])
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5, dtype=torch.float64))


@pytest.mark.equation("eq:recap-jacobian")
def test_the_gradient_of_soft_attention_is_the_derived_one():
    scores, V = numbers(4), numbers(4, 3, seed=1)
    want = torch.autograd.functional.jacobian(lambda e: e.softmax(0) @ V, scores)     # d p
    torch.testing.assert_close(soft_jacobian(scores.softmax(0), V), want.mT)
    assert torch.autograd.gradcheck(
        lambda e, v: soft_reading(place_weights(e), v), (numbers(1, 2, 4).requires_grad_(),
                                                          V[None].requires_grad_()))


@pytest.mark.equation("eq:recap-sum", "eq:recap-tanh", "eq:recap-deep", "eq:recap-word")
def test_the_three_output_layers_are_the_formulas():
    v, h, word = numbers(3, 4), numbers(3, 4, seed=1), numbers(3, 2, seed=2)
    W, Wv, Wh, Wp, bp = (numbers(*s, seed=i) for i, s in enumerate([(8, 4), (4, 2), (4, 2), (4, 5), (5,)]))
    for i in range(3):
        torch.testing.assert_close(join_sum(v, h)[i], v[i] + h[i])
        torch.testing.assert_close(join_tanh(v, h, W)[i], torch.tanh(v[i] @ W[:4] + h[i] @ W[4:]))
        torch.testing.assert_close(join_deep(word, v, h, Wv, Wh)[i], word[i] + v[i] @ Wv + h[i] @ Wh)
        torch.testing.assert_close(word_logits(v, Wp, bp)[i], v[i] @ Wp + bp)


@pytest.mark.equation("eq:recap-sentinel", "eq:recap-share", "eq:recap-adaptive")
def test_the_sentinel_is_one_more_place_of_the_softmax():
    scores, extra, s, V = numbers(2, 3), numbers(2, seed=1), numbers(2, 4, seed=2), numbers(3, 4, seed=3)
    share = sentinel_share(scores, extra)
    got = adaptive_reading(share, s, scores.softmax(-1) @ V)
    for b in range(2):
        a = torch.cat([scores[b], extra[b:b + 1]]).softmax(0)
        torch.testing.assert_close(share[b], a[3])
        torch.testing.assert_close(got[b], a[:3] @ V + a[3] * s[b])
    gate, c, o = numbers(2, 4).sigmoid(), numbers(2, 4, seed=5), numbers(2, 4, seed=6).sigmoid()
    torch.testing.assert_close(sentinel(gate, o * c.tanh(), o), gate * c.tanh())


@pytest.mark.equation("eq:recap-doubly", "eq:recap-entropy", "eq:recap-baseline")
def test_the_penalty_the_entropy_and_the_baseline_are_the_formulas():
    weights = numbers(2, 3, 4).softmax(-1)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    want = 0.0
    for b in range(2):
        for i in range(4):
            want += (1 - sum(weights[b, t, i] for t in range(3) if mask[b, t])) ** 2 / 2
    torch.testing.assert_close(doubly_stochastic(weights, mask), want)
    torch.testing.assert_close(place_entropy(weights),
                               -torch.stack([sum(a * a.log() for a in row) for row in weights.flatten(0, 1)]
                                            ).view(2, 3))
    even = torch.full((1, 4), 0.25, dtype=torch.float64)
    assert float(place_entropy(even)) == pytest.approx(torch.tensor(4.0).log().item())
    e = torch.tensor([0.3, float("-inf")], dtype=torch.float64, requires_grad=True)
    place_entropy(e.softmax(0)).backward()
    assert torch.isfinite(e.grad).all()
    assert float(moving_baseline(torch.tensor(-2.0), torch.tensor(-1.0))) == pytest.approx(-1.9)


@pytest.mark.equation("eq:recap-reinforce")
def test_the_mean_of_the_drawn_gradients_is_the_gradient_of_the_expected_log_probability():
    scores = numbers(4).requires_grad_()
    theta = numbers(4, seed=1).requires_grad_()         # log p of the word, by the place that is drawn
    alpha = scores.softmax(0)
    exact = torch.autograd.grad((alpha * theta).sum(), (scores, theta))
    for b in (0.0, -1.7):                              # a baseline changes the variance, not the mean
        mean = [torch.zeros(4, dtype=torch.float64) for _ in range(2)]
        for place in range(4):
            alpha = scores.softmax(0)
            surrogate = reinforce(theta[place], alpha[place].log(), place_entropy(alpha),
                                  torch.tensor(b, dtype=torch.float64))
            for total, g in zip(mean, torch.autograd.grad(surrogate, (scores, theta))):
                total += float(alpha[place]) * g
        torch.testing.assert_close(tuple(mean), exact)


# ------------------------------------------------------------------------------------------------------ model

def naive(model, grid, mask, tokens):
    """The logits of one caption, word by word, with the gates of the LSTM written out."""
    c, d = model.config, model.config.width
    real = grid[mask]
    V = real @ model.project.weight.T + model.project.bias
    v_bar = V.mean(0)
    h = torch.tanh(model.first_h.weight @ v_bar + model.first_h.bias)
    m = torch.tanh(model.first_c.weight @ v_bar + model.first_c.bias)
    lstm, out, a = model.recurrence.lstm, [], model.attention
    for token in tokens:
        word = model.embed.weight[token]
        x = torch.cat([word, v_bar])
        old = h
        i, f, g, o = (lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h
                      + lstm.bias_hh_l0).split(d)
        m = torch.sigmoid(f) * m + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(m)
        asked = a.queries.weight @ h + a.queries.bias
        e = [a.score.weight[0] @ torch.tanh(a.keys.weight @ v + asked) for v in V]
        values = list(V)
        if model.sentinel is not None:
            s = model.sentinel
            values.append(torch.sigmoid(s.new.weight @ x + s.old.weight @ old) * torch.tanh(m))
            e.append(a.score.weight[0] @ torch.tanh(s.keys.weight @ values[-1] + asked))
        e = torch.stack(e)
        if c.reading == "hard":
            v = V[e.argmax()]
        else:
            v = sum(w * value for w, value in zip(e.softmax(0), values))
        if c.output == "sum":
            joined = v + h
        elif c.output == "tanh":
            joined = torch.tanh(model.join[0].weight @ torch.cat([v, h]))
        else:
            joined = word + model.join[0].weight @ v + model.join[1].weight @ h
        out.append(model.predict.weight @ joined + model.predict.bias)
    return torch.stack(out)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_caption_at_once_is_the_loop_over_its_words(kind):
    model = made(kind, torch.float64)
    grid, mask, tokens = sample()
    got = model(grid.double(), tokens, mask)
    for row in range(4):
        with torch.no_grad():
            want = naive(model, grid[row // 2].double(), mask[row // 2], tokens[row])
        torch.testing.assert_close(got[row].detach(), want)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_rows_and_masked_cells_are_what_they_should_be(kind):
    model = made(kind)
    grid, mask, tokens = sample()
    reading = model.read(tokens, model.encode(grid, mask).repeat(2))
    assert reading.logits.shape == (4, 4, 11) and reading.weights.shape == (4, 4, 7)
    torch.testing.assert_close(reading.weights.sum(-1) + reading.sentinel, torch.ones(4, 4))
    assert (reading.weights[2:, :, 4:] == 0).all()
    alone = model(grid[1:], tokens[2:3], mask[1:])
    torch.testing.assert_close(alone, reading.logits[2:3])
    other = grid.clone()
    other[1, 4:] = 99.0
    torch.testing.assert_close(model(other, tokens, mask), reading.logits)
    short = model(grid[1:, :4], tokens[2:3])                    # without the cells that are not there
    torch.testing.assert_close(short, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    model = made(kind).train()
    grid, mask, tokens = sample()
    batch = SimpleNamespace(inputs=grid, mask=mask, tokens=tokens)
    loss = hard_attention_loss if kind == "hard" else soft_attention_loss
    value, scalars = loss(model, batch)
    value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0
               for p in model.parameters())
    assert scalars["weight"] == 12


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_written_one_at_a_time_as_they_are_read_all_at_once(kind):
    model = made(kind)
    grid, mask, _ = sample()
    context = model.encode(grid, mask)
    tokens, log_probs = greedy(model, context, max_len=5)
    torch.testing.assert_close(score(model, context, tokens[:, None])[:, 0].detach(), log_probs,
                               rtol=1e-4, atol=1e-4)
    found, gains = beam(model, context, k=3, max_len=5)
    torch.testing.assert_close(score(model, context, found).detach(), gains, rtol=1e-4, atol=1e-4)
    assert (gains.sum(-1)[:, 0] >= log_probs.sum(-1) - 1e-4).all()
    one, _ = beam(model, context, k=1, max_len=5)
    assert torch.equal(one[:, 0], tokens)


def test_dropout_and_drawing_are_for_training_only():
    model = RecurrentAttentionCaptioner(replace(TINY, reading="hard", dropout=0.5))
    grid, _, tokens = sample()
    model.eval()
    assert torch.equal(model(grid, tokens), model(grid, tokens))
    model.train()
    assert not torch.equal(model(grid, tokens), model(grid, tokens))
    model.dropout.p = 0.0
    context = model.encode(grid).repeat(2)
    a, b = (model.read(tokens, context, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a.logits, b.logits)
    before = model.baseline.clone()
    hard_attention_loss(model, SimpleNamespace(inputs=grid, mask=None, tokens=tokens))
    assert model.baseline < before


@pytest.mark.parametrize("kind, steps", [("soft", 100), ("hard", 180)])
def test_a_handful_of_pictures_is_captioned_by_heart(kind, steps):
    grid = torch.randn(3, 6, 5)
    tokens = torch.tensor([[2, 4, 5, 6, 3], [2, 7, 5, 3, 1], [2, 8, 9, 10, 3]])
    model = RecurrentAttentionCaptioner(replace(TINY, reading=kind, width=24, embedding=12, attention=8))
    batch = SimpleNamespace(inputs=grid, mask=None, tokens=tokens)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    g = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (soft_attention_loss(model, batch, 0.1) if kind == "soft"
                else hard_attention_loss(model, batch, generator=g))
        loss[0].backward()
        optimizer.step()
    assert loss[1]["cross_entropy"] < 0.1
    tokeniser = WordTokeniser(["<unk>", "<pad>", "<bos>", "<eos>", *"abcdefg"], "simple")
    for size in (1, 3):
        assert write_captions(model, grid, tokeniser, beam_size=size) == ["a b c", "d b", "e f g"]


def test_the_miniature_captions_pictures_and_the_papers_sizes_are_counted():
    model = RecurrentAttentionCaptioner(AttentionCaptionerConfig.mini(50))
    logits = model(torch.rand(2, 3, 64, 64), torch.randint(2, 50, (2, 6)))
    assert logits.shape == (2, 6, 50)
    d, e, k, v, f = 512, 512, 49, 10_000, 2048
    lstm = 4 * d * (e + d) + 4 * d * d + 8 * d
    spatial = (f + 1) * d + v * e + 2 * (d + 1) * d + lstm + d * k + (d + 1) * k + k + (d + 1) * v
    assert count_blank(RecurrentAttentionCaptioner, AttentionCaptionerConfig.spatial()) == spatial
    more = d * (e + d) + d * d + d * k
    assert count_blank(RecurrentAttentionCaptioner, AttentionCaptionerConfig.adaptive()) == spatial + more


def test_wrong_inputs_are_refused_in_a_sentence():
    model = made("sum")
    grid, _, tokens = sample()
    with pytest.raises(ValueError, match=r"inputs have 4 axes, but trunk is 'features'; give grids"):
        model(torch.rand(2, 3, 8, 8), tokens)
    with pytest.raises(ValueError, match="4 rows of tokens for 2 pictures with 1 each; use context.repeat"):
        model.decode(tokens, model.encode(grid))
    with pytest.raises(ValueError, match="token ids go from 2 to 99, the vocabulary from 0 to 10"):
        model(grid, torch.full_like(tokens, 99).index_fill(1, torch.tensor([0]), 2))
    with pytest.raises(ValueError, match="the model reads softly"):
        hard_attention_loss(model, SimpleNamespace(inputs=grid, mask=None, tokens=tokens))
    with pytest.raises(ValueError, match="sentinel with hard reading"):
        AttentionCaptionerConfig(sentinel=True, reading="hard")


# --------------------------------------------------------------------------------------------------- errata

def learnt(shift):
    """Cross-entropy of an LSTM on sequences in which nothing can be predicted, asked for w_t or w_{t+1}."""
    torch.manual_seed(0)
    config = replace(TINY, vocab=24, width=48, embedding=32, attention=4)
    model = RecurrentAttentionCaptioner(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        words = torch.randint(4, 24, (24, 21))
        logits = model(torch.zeros(24, 1, 5), words[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), words[:, shift:20 + shift].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_e17_a_state_that_has_read_a_word_must_be_asked_for_the_next():
    assert learnt(0) < 0.05                                     # the survey's target: the word just read
    assert learnt(1) > 0.95 * torch.tensor(20.0).log().item()


def test_e16_the_five_equations_take_one_picture_and_read_it_once_a_word():
    model = made("sum", torch.float64)
    grid, _, tokens = sample()
    context = model.encode(grid.double()[:1])
    reading = model.read(tokens[:1], context)
    V = context.levels[0, 0]
    h, _ = model.recurrence(lstm_input(model.embed(tokens[:1]), picture_vector(V[None])),
                            *(first_state(picture_vector(V[None]), f.weight.mT, f.bias)
                              for f in (model.first_h, model.first_c)))
    read = reading.weights[0] @ V
    torch.testing.assert_close(reading.logits[0], model.predict(read + h[0]))
