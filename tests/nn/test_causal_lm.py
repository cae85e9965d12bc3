"""Causal language models, compared with loops, with themselves step by step, and with transformers'."""

import math

import pytest
import torch
from networks import count_blank, stirred

from mmlearn import generate
from mmlearn.nn.attention import KVCache, record_attention
from mmlearn.nn.causal_lm import (
    CausalLM,
    CausalLMConfig,
    Prompt,
    alibi_slopes,
    linear_bias,
    lm_loss,
    relative_bias,
    rotated,
    text_prompt,
    token_log_probs,
    with_bias,
    word_logits,
)
from mmlearn.nn.transformer import Context

KINDS = ("learned", "alibi", "rotary", "relative")


def config(positions="learned", **more):
    return CausalLMConfig(**{"vocab": 23, "context": 32, "width": 16, "layers": 2, "heads": 4, "ff": 24,
                             "positions": positions, **more})


def model(positions="learned", **more):
    """A language model in evaluation mode whose weights are large enough for its attention to matter."""
    torch.manual_seed(0)
    return stirred(CausalLM(config(positions, **more)), scale=0.3).eval()


def texts(b=3, t=9):
    return torch.randint(4, 23, (b, t), generator=torch.Generator().manual_seed(1))


# Sizes ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, count", [
    ("gpt2", 124_439_808), ("gpt2_medium", 354_823_168), ("gpt2_large", 774_030_080),
    ("gpt2_xl", 1_557_611_200), ("opt_125m", 125_239_296), ("opt_1b3", 1_315_758_080),
    ("opt_6b7", 6_658_473_984), ("mpt_1b", 1_311_442_944), ("redpajama_3b", 2_775_864_320),
    ("mpt_7b", 6_649_286_656)])
def test_released_sizes_have_the_number_of_parameters_of_their_weights(name, count):
    assert count_blank(CausalLM, getattr(CausalLMConfig, name)()) == count


@pytest.mark.parametrize("name, billions", [("chinchilla_1b4", 1.4), ("chinchilla_70b", 70)])
def test_chinchilla_with_relative_positions_has_what_flamingo_states(name, billions):
    count = count_blank(CausalLM, getattr(CausalLMConfig, name)())
    assert count / 1e9 == pytest.approx(billions, rel=0.02)


def test_the_shapes_that_flamingo_9b_states_give_more_than_the_7_billion_that_it_states():
    assert count_blank(CausalLM, CausalLMConfig.chinchilla_7b()) / 1e9 == pytest.approx(8.86, abs=0.01)


def test_the_miniature_has_half_a_million_parameters():
    assert 4e5 < count_blank(CausalLM, CausalLMConfig.mini()) < 6e5


@pytest.mark.parametrize("wrong, words", [
    ({"heads": 3}, "heads"), ({"eps": 2.0}, "eps"),
    ({"positions": "rotary", "width": 12, "heads": 4}, "even width"), ({"layers": -1}, "layers")])
def test_a_size_that_no_model_can_have_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        config(**wrong)


# Equations --------------------------------------------------------------------------------------------------

@pytest.mark.equation("eq:lm-chain", "eq:lm-loss")
def test_the_loss_is_what_each_token_gets_from_the_row_before_it():
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    scored = torch.tensor([[1, 1, 0, 1, 0], [0, 0, 1, 0, 0]]).bool()
    got, total, chosen = token_log_probs(logits, tokens), [], []
    for i in range(2):
        for t in range(1, 5):
            exps = [math.exp(float(x)) for x in logits[i, t - 1]]
            want = math.log(exps[int(tokens[i, t])] / sum(exps))
            assert float(got[i, t - 1]) == pytest.approx(want, abs=1e-5)
            total.append(want)
            chosen += [want] if scored[i, t] else []
    assert float(lm_loss(logits, tokens)) == pytest.approx(-sum(total) / 8, abs=1e-5)
    assert float(lm_loss(logits, tokens, scored)) == pytest.approx(-sum(chosen) / 3, abs=1e-5)


@pytest.mark.equation("eq:lm-logits")
def test_a_logit_is_the_product_of_the_state_and_the_words_vector():
    z, E = torch.randn(3, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    got = word_logits(z, E)
    for i in range(3):
        for w in range(5):
            assert float(got[i, w]) == pytest.approx(sum(float(z[i, k] * E[w, k]) for k in range(4)))


@pytest.mark.equation("eq:lm-slopes", "eq:lm-alibi")
def test_linear_biases_grow_with_the_distance_by_a_slope_a_head():
    m = alibi_slopes(8)
    assert m.tolist() == [2.0**-a for a in range(1, 9)]
    got = linear_bias(m, 2, 5)
    for a in range(8):
        for i in range(2):
            for j in range(5):
                assert float(got[a, i, j]) == pytest.approx(-float(m[a]) * (3 + i - j))
    assert alibi_slopes(6).tolist() == pytest.approx([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])


@pytest.mark.equation("eq:lm-rotary")
def test_a_rotation_turns_pairs_and_products_depend_on_the_distance_alone():
    x = torch.randn(4, 6, dtype=torch.float64)
    got = rotated(x, start=3)
    for t in range(4):
        for i in range(3):
            angle = (3 + t) * 10_000.0 ** (-2 * i / 6)
            pair = complex(float(x[t, i]), float(x[t, i + 3])) * complex(math.cos(angle), math.sin(angle))
            assert float(got[t, i]) == pytest.approx(pair.real, abs=1e-5)
            assert float(got[t, i + 3]) == pytest.approx(pair.imag, abs=1e-5)
    q, k = torch.randn(1, 6, dtype=torch.float64), torch.randn(1, 6, dtype=torch.float64)
    near = rotated(q, 7) @ rotated(k, 5).mT
    torch.testing.assert_close(near, rotated(q, 23) @ rotated(k, 21).mT, atol=1e-5, rtol=1e-5)


@pytest.mark.equation("eq:lm-relative")
def test_relative_positions_add_what_a_query_likes_of_a_distance():
    torch.manual_seed(0)
    Q, K, R = (torch.randn(*s, dtype=torch.float64) for s in ((1, 2, 3, 4), (1, 2, 5, 4), (2, 5, 4)))
    u, v = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    got = relative_bias(Q, K, R, u, v)
    for a in range(2):
        for i in range(3):
            for j in range(2 + i + 1):                      # keys at or before the query
                r = R[a, 2 + i - j]
                want = float((Q[0, a, i] + v[a]) @ r + u[a] @ K[0, a, j]) / 2
                assert float(got[0, a, i, j]) == pytest.approx(want)


def test_a_bias_can_be_a_coordinate_of_queries_and_keys():
    torch.manual_seed(0)
    Q, K, B = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5), torch.randn(1, 3, 4, 6)
    queries, keys = with_bias(Q, K, B)
    scores = queries @ keys.mT / math.sqrt(queries.shape[-1])
    torch.testing.assert_close(scores, Q @ K.mT / math.sqrt(5) + B, atol=1e-5, rtol=1e-5)


# The model --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("positions", KINDS)
def test_no_position_sees_a_later_one_and_every_one_sees_those_before(positions):
    lm, tokens = model(positions), texts()
    other = tokens.clone()
    other[:, 4] = (tokens[:, 4] - 3) % 19 + 4
    with torch.no_grad():
        changed = (lm(tokens) - lm(other)).abs().amax(dim=-1) > 1e-6
    assert not changed[:, :4].any() and changed[:, 4:].all()


@pytest.mark.parametrize("positions", KINDS)
def test_order_matters(positions):
    lm, tokens = model(positions), texts()
    swapped = tokens[:, [1, 0, *range(2, 9)]]
    with torch.no_grad():
        assert (lm(tokens) - lm(swapped))[:, -1].abs().max() > 1e-4


@pytest.mark.parametrize("positions", KINDS)
def test_e13_one_pass_gives_what_step_by_step_gives(positions):
    lm, tokens = model(positions), texts()
    with torch.no_grad():
        want = lm(tokens)
        with KVCache(lm):
            parts = [lm(tokens[:, :4]), *(lm(tokens[:, i : i + 1]) for i in range(4, 9))]
    torch.testing.assert_close(torch.cat(parts, dim=1), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", KINDS)
def test_a_row_of_a_batch_is_a_batch_of_one_and_padding_on_either_side_changes_nothing(positions):
    lm, tokens = model(positions), texts()
    with torch.no_grad():
        want = lm(tokens)
        torch.testing.assert_close(lm(tokens[1:2]), want[1:2], atol=1e-5, rtol=1e-5)
        pad = torch.ones(3, 4, dtype=torch.long)
        right = lm(torch.cat([tokens, pad], dim=1))[:, :9]
        mask = torch.cat([torch.zeros(3, 4), torch.ones(3, 9)], dim=1).bool()
        left = lm(torch.cat([pad, tokens], dim=1), mask)[:, 4:]
    torch.testing.assert_close(right, want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(left, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", KINDS)
def test_recorded_weights_are_distributions_over_the_past_and_change_no_output(positions):
    lm, tokens = model(positions), texts()
    with torch.no_grad():
        want = lm(tokens)
        with record_attention(lm) as weights:
            got = lm(tokens)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert set(weights) == {"layers.0.attention", "layers.1.attention"}
    for w in weights.values():
        assert w.shape == (3, 4, 9, 9) and not w.triu(1).any()
        torch.testing.assert_close(w.sum(-1), torch.ones(3, 4, 9))


@pytest.mark.parametrize("positions, more", [
    ("learned", {"dropout": 0.1}), ("alibi", {"bias": False, "qk_norm": True}), ("rotary", {"tied": False}),
    ("relative", {"norm": "rms"})])
def test_gradients_reach_every_parameter(positions, more):
    lm, tokens = model(positions, **more).train(), texts(8, 12)
    lm_loss(lm(tokens), tokens).backward()
    for name, parameter in lm.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        assert "bias" not in name or more.get("bias", True)


def test_dropout_is_active_in_training_alone():
    lm, tokens = model(dropout=0.5), texts()
    with torch.no_grad():
        assert torch.equal(lm(tokens), lm(tokens))
        lm.train()
        assert not torch.equal(lm(tokens), lm(tokens))


def test_a_model_that_knows_nothing_is_in_doubt_between_all_words():
    torch.manual_seed(0)
    tokens = torch.randint(4, 400, (4, 30))
    loss = lm_loss(CausalLM(CausalLMConfig.mini())(tokens), tokens)
    assert float(loss.detach()) == pytest.approx(math.log(400), abs=0.15)


@pytest.mark.parametrize("positions", KINDS)
def test_a_handful_of_texts_is_learnt_by_heart(positions):
    torch.manual_seed(0)
    lm, tokens = CausalLM(config(positions, width=32, ff=64)), texts(4, 10)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = lm_loss(lm(tokens), tokens)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.35                      # the second token follows from nothing


@pytest.mark.parametrize("tokens, words", [
    (torch.full((1, 40), 5), "40 tokens, the model reads 32"),
    (torch.tensor([[5, 23]]), "token ids go from")])
def test_texts_that_would_be_misread_are_refused(tokens, words):
    with pytest.raises(ValueError, match=words):
        model()(tokens)


# Writing ----------------------------------------------------------------------------------------------------

ROWS = [[2, 5, 9, 11], [2, 7], [2, 20, 4]]


@pytest.mark.parametrize("positions", KINDS)
def test_greedy_search_goes_on_from_prompts_of_different_lengths(positions):
    lm = model(positions)
    tokens, log_probs = generate.greedy(lm, text_prompt(ROWS), eos=-1, max_len=6)
    for row, written, scores in zip(ROWS, tokens, log_probs):
        ids = list(row)
        for word, score in zip(written.tolist(), scores.tolist()):
            with torch.no_grad():
                want = lm(torch.tensor([ids]))[0, -1].log_softmax(-1)
            assert word == int(want.argmax()) and score == pytest.approx(float(want.max()), abs=1e-4)
            ids.append(word)


def test_a_beam_of_one_is_greedy_and_wider_ones_are_no_worse_at_two_tokens():
    lm, prompt = model("rotary"), text_prompt(ROWS)
    greedy, _ = generate.greedy(lm, prompt, eos=-1, max_len=2)
    one, scores_of_one = generate.beam(lm, prompt, k=1, eos=-1, max_len=2)
    _, scores = generate.beam(lm, prompt, k=23, eos=-1, max_len=2)
    assert torch.equal(one[:, 0], greedy)
    for i, row in enumerate(ROWS):                          # all texts of two tokens, one after the other
        rows = torch.tensor([[*row, a, b] for a in range(23) for b in range(23)])
        with torch.no_grad():
            best = token_log_probs(lm(rows), rows)[:, -2:].sum(-1).max()
        assert float(scores[i, 0].sum()) == pytest.approx(float(best), abs=1e-4)
        assert scores[i, 0].sum() >= scores_of_one[i, 0].sum() - 1e-5


@pytest.mark.parametrize("positions", KINDS)
def test_the_score_of_an_answer_is_that_of_its_tokens_after_the_prompt(positions):
    lm = model(positions)
    answers = torch.tensor([[[6, 3, 1], [8, 9, 3]]] * 3)
    got = generate.score(lm, text_prompt(ROWS), answers)
    for i, row in enumerate(ROWS):
        for k in range(2):
            ids = [*row, *answers[i, k].tolist()]
            with torch.no_grad():
                want = token_log_probs(lm(torch.tensor([ids])), torch.tensor([ids]))[0, len(row) - 1:]
            want[2] *= answers[i, k, 1] != 3                 # after <eos> nothing counts
            torch.testing.assert_close(got[i, k], want, atol=1e-5, rtol=1e-5)


def test_samples_follow_from_their_generator():
    lm, prompt = model("alibi"), text_prompt(ROWS)
    a, b = (generate.sample(lm, prompt, k=2, eos=-1, max_len=4, generator=torch.Generator().manual_seed(3))[0]
            for _ in range(2))
    assert a.shape == (3, 2, 4) and torch.equal(a, b)


def test_a_prompt_keeps_its_rows_together():
    prompt = text_prompt(ROWS)
    two = prompt.repeat(2)
    assert two.rows == 6 and two.device.type == "cpu"
    given, real = two.given(torch.zeros(6, 1, dtype=torch.long))
    assert given.tolist()[2] == given.tolist()[3] == [1, 1, 2, 7]
    assert real[2].tolist() == [False, False, True, True]
    chosen = two.select(torch.tensor([3, 0]))
    assert chosen.tokens.tolist() == [[1, 1, 2, 7], [2, 5, 9, 11]] and chosen.rows == 2
    with pytest.raises(ValueError, match="give it media"):
        prompt.phi(3)
    seen = Prompt(prompt.levels, tokens=prompt.tokens, media=torch.tensor([[0, 1, 1, 2]] * 3)).repeat(2)
    assert seen.phi(6).tolist() == [[0, 1, 1, 2, 2, 2]] * 6


def test_what_is_no_prompt_is_refused():
    with pytest.raises(ValueError, match="goes on from a Prompt, not a Context"):
        model().decode(torch.zeros(1, 1, dtype=torch.long), Context(torch.zeros(1, 1, 1, 1)))
    with pytest.raises(ValueError, match="begin it with <bos>"):
        text_prompt([[2], []])
    with pytest.raises(ValueError, match="no tokens"):
        Prompt(torch.zeros(1, 0, 0, 0))
