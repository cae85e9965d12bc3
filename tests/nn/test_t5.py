"""T5's encoder: its formulas by loops, its sizes, and the same states as transformers' encoder."""

import math

import pytest
import torch
from networks import count

from mmlearn.nn.modes import blank
from mmlearn.nn.t5 import (
    RMSNorm,
    T5Config,
    T5Encoder,
    biased_attention,
    distance_bucket,
    fused_biased_attention,
    gated_feed_forward,
    rms_norm,
)

TINY = T5Config(vocab=50, width=16, heads=3, head=4, ff=20, layers=2, buckets=8, distance=20)


@pytest.mark.parametrize("name, published", [
    ("xxl", 4_762_310_656), ("xl", 1_223_527_424), ("large", 341_231_104), ("base", 109_628_544),
    ("small", 35_332_800),
])
def test_an_encoder_has_the_size_that_transformers_counts(name, published):
    with blank():
        assert count(T5Encoder(getattr(T5Config, name)())) == published


@pytest.mark.equation("eq:t5-norm")
def test_the_norm_divides_by_the_root_mean_square_and_takes_no_mean_off():
    x, g = torch.randn(3, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    for row, got in zip(x, rms_norm(x, g, 1e-6)):
        size = math.sqrt(sum(float(v) ** 2 for v in row) / 5 + 1e-6)
        torch.testing.assert_close(got, torch.stack([g[i] * row[i] / size for i in range(5)]))
    shifted = rms_norm(x + 3, g)
    assert not torch.allclose(shifted, rms_norm(x, g))  # a layer norm would not see the shift
    assert RMSNorm(5)(x.bfloat16()).dtype == torch.float32               # the gain's dtype, in float32 inside


@pytest.mark.equation("eq:t5-bucket")
def test_near_distances_have_kinds_of_their_own_and_far_ones_share():
    def by_hand(delta, n=16, far=128):
        kind, distance = (n if delta > 0 else 0), abs(delta)
        if distance < n // 2:
            return kind + distance
        m = n // 2
        return kind + min(m + int(math.log(distance / m) / math.log(far / m) * (n - m)), n - 1)

    offsets = torch.arange(-300, 301)
    got = distance_bucket(offsets).tolist()
    exact = [by_hand(int(o)) for o in offsets]
    differing = [int(o) for o, a, b in zip(offsets, got, exact) if a != b]
    assert all(abs(o) in (16, 32, 64, 128) for o in differing)           # on a border rounding decides
    assert set(got) == set(range(32)) - {16}                             # nothing is 0 tokens ahead
    assert got[300] == 0 and got[301] == 17 and got[299] == 1
    assert len(set(got[:172])) == 1 and len(set(got[-172:])) == 1        # 129 tokens away or 300


@pytest.mark.equation("eq:t5-attention")
def test_scores_are_not_divided_and_get_a_number_for_their_distance():
    Q, K, V = torch.randn(3, 2, 3, 4, 5, dtype=torch.float64)
    B = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    want = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    for b in range(2):
        for h in range(3):
            for i in range(4):
                weights = [math.exp(float(Q[b, h, i] @ K[b, h, j] + B[0, h, i, j])) for j in range(4)]
                want[b, h, i] = sum(w * V[b, h, j] for j, w in enumerate(weights)) / sum(weights)
    torch.testing.assert_close(biased_attention(Q, K, V, B), want)
    torch.testing.assert_close(fused_biased_attention(Q, K, V, B), want)


@pytest.mark.equation("eq:t5-feed-forward")
def test_one_half_of_the_inner_states_gates_the_other():
    x, W_0, W_1, W_2 = (torch.randn(*s, dtype=torch.float64) for s in ((2, 3), (3, 4), (3, 4), (4, 3)))

    def gelu(z):
        return 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    for row, got in zip(x, gated_feed_forward(x, W_0, W_1, W_2)):
        inner = [gelu(float(row @ W_0[:, i])) * float(row @ W_1[:, i]) for i in range(4)]
        torch.testing.assert_close(got, sum(inner[i] * W_2[i] for i in range(4)))


def test_padding_changes_no_real_token_and_a_row_is_what_it_is_alone():
    torch.manual_seed(0)
    model = T5Encoder(TINY).eval()
    tokens = torch.randint(0, 50, (2, 7))
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    both = model(tokens, mask)
    torch.testing.assert_close(both[:1], model(tokens[:1]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[1:, :4], model(tokens[1:, :4]), atol=1e-5, rtol=1e-5)
    changed = tokens.clone()
    changed[1, 5] = (changed[1, 5] + 1) % 50
    torch.testing.assert_close(model(changed, mask)[:, :4], both[:, :4])


def test_order_matters_by_distance_alone_and_gradients_reach_every_parameter():
    torch.manual_seed(0)
    model = T5Encoder(TINY)
    tokens = torch.randint(0, 50, (1, 6))
    out = model(tokens)
    assert not torch.allclose(out, model(tokens.flip(1)).flip(1), atol=1e-4)
    model(torch.arange(50)[None]).pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_impossible_inputs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="buckets of T5Config is 10 for a distance of 20"):
        T5Config(buckets=10, distance=20)
    with pytest.raises(ValueError, match="token ids go from 0 to 50"):
        T5Encoder(TINY)(torch.tensor([[0, 50]]))


@pytest.mark.parity
def test_states_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    c = TINY
    torch.manual_seed(0)
    theirs = transformers.T5EncoderModel(transformers.T5Config(
        vocab_size=c.vocab, d_model=c.width, d_kv=c.head, d_ff=c.ff, num_layers=c.layers, num_heads=c.heads,
        relative_attention_num_buckets=c.buckets, relative_attention_max_distance=c.distance,
        feed_forward_proj="gated-gelu", dropout_rate=0.0)).eval()
    state = {name: torch.randn_like(value) * 0.3 for name, value in theirs.state_dict().items()}
    state["encoder.embed_tokens.weight"] = state["shared.weight"]
    theirs.load_state_dict(state)
    ours = T5Encoder(c).eval()
    left = dict(state)
    left.pop("encoder.embed_tokens.weight")
    new = {
        "words.weight": left.pop("shared.weight"),
        "norm_after.weight": left.pop("encoder.final_layer_norm.weight"),
        "bias.table.weight": left.pop("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
    }
    for i in range(c.layers):
        attention, feed = f"encoder.block.{i}.layer.0", f"encoder.block.{i}.layer.1"
        new |= {
            f"layers.{i}.attention_norm.weight": left.pop(f"{attention}.layer_norm.weight"),
            f"layers.{i}.project.weight": torch.cat(
                [left.pop(f"{attention}.SelfAttention.{name}.weight") for name in "qkv"]),
            f"layers.{i}.out.weight": left.pop(f"{attention}.SelfAttention.o.weight"),
            f"layers.{i}.feed_forward_norm.weight": left.pop(f"{feed}.layer_norm.weight"),
            f"layers.{i}.gate.weight": left.pop(f"{feed}.DenseReluDense.wi_0.weight"),
            f"layers.{i}.inner.weight": left.pop(f"{feed}.DenseReluDense.wi_1.weight"),
            f"layers.{i}.outer.weight": left.pop(f"{feed}.DenseReluDense.wo.weight")}
    assert not left
    ours.load_state_dict(new)
    tokens = torch.randint(0, 50, (2, 40))
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[1, 25:] = False
    with torch.no_grad():
        want = theirs(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(ours(tokens, mask)[mask], want[mask], atol=1e-5, rtol=1e-5)
