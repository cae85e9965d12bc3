import pytest
import torch
from torch import nn

from mmlearn.nn.attention import KVCache
from mmlearn.nn.transformer import (
    Context,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    InputProjection,
    add_norm,
    feed_forward,
)


def fill(ours, theirs, attentions):
    """Torch's weights under our names; every name on both sides must be used."""
    state = {}
    names = {"linear1": "feed_forward.inner", "linear2": "feed_forward.outer"}
    for name, value in theirs.state_dict().items():
        part, _, rest = name.partition(".")
        if part in attentions:
            rest = rest.replace("in_proj_", "in_").replace("out_proj", "out")
            state[f"{attentions[part]}.{rest}"] = value
        elif part in names:
            state[f"{names[part]}.{rest}"] = value
        else:
            norm = {"norm1": "attention_norm", "norm2": "feed_forward_norm"} if len(attentions) == 1 else {
                "norm1": "self_norm", "norm2": "cross_norm", "norm3": "feed_forward_norm"}
            state[f"{norm[part]}.{rest}"] = value
    ours.load_state_dict(state)


def shake(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.equation("eq:ffn")
def test_the_feed_forward_net_widens_activates_and_narrows_each_position():
    x, V, b, U, c = (torch.randn(*s, dtype=torch.float64) for s in ((2, 3, 4), (5, 4), (5,), (4, 5), (4,)))
    want = torch.stack([
        torch.stack([
            torch.stack([
                c[o] + sum(U[o, f] * max(b[f] + sum(V[f, i] * x[n, t, i] for i in range(4)), 0) for f in range(5))
                for o in range(4)
            ]) for t in range(3)
        ]) for n in range(2)
    ])
    torch.testing.assert_close(feed_forward(x, V, b, U, c), want)
    layer = FeedForward(4, 5).double()
    layer.load_state_dict({"inner.weight": V, "inner.bias": b, "outer.weight": U, "outer.bias": c})
    torch.testing.assert_close(layer(x), want)


@pytest.mark.equation("eq:add-norm")
def test_add_and_norm_standardises_the_sum():
    norm = nn.LayerNorm(4).double()
    x, update = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    got = add_norm(x, update, norm)
    for n in range(2):
        for t in range(3):
            row = x[n, t] + update[n, t]
            mean = sum(row) / 4
            variance = sum((value - mean) ** 2 for value in row) / 4
            torch.testing.assert_close(got[n, t], norm.weight * (row - mean) / (variance + 1e-5) ** 0.5 + norm.bias)


@pytest.mark.equation("eq:grid-projection")
def test_the_input_projection_is_relu_then_layer_norm():
    layer = shake(InputProjection(3, 4)).double()
    x = torch.randn(1, 2, 3, dtype=torch.float64)
    for p in range(2):
        weight, bias = layer.linear.weight.detach(), layer.linear.bias.detach()
        row = torch.tensor([max(0.0, float(weight[o] @ x[0, p] + bias[o])) for o in range(4)], dtype=torch.float64)
        want = (row - row.mean()) / (row.var(unbiased=False) + 1e-5).sqrt() * layer.norm.weight + layer.norm.bias
        torch.testing.assert_close(layer(x)[0, p], want)


@pytest.mark.parity
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("padded", [False, True])
def test_our_encoder_layer_equals_that_of_torch(norm, padded):
    theirs = shake(nn.TransformerEncoderLayer(16, 4, 32, 0.1, "relu", batch_first=True, norm_first=norm == "pre")).eval()
    ours = EncoderLayer(16, 4, 32, 0.1, norm).eval()
    fill(ours, theirs, {"self_attn": "attention"})
    x = torch.randn(2, 5, 16)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool) if padded else None
    want = theirs(x, src_key_padding_mask=None if mask is None else ~mask)
    got = ours(x, mask)
    real = torch.ones(2, 5, dtype=torch.bool) if mask is None else mask     # torch may zero what is padding
    torch.testing.assert_close(got[real], want[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("padded", [False, True])
def test_our_decoder_layer_equals_that_of_torch(norm, padded):
    theirs = shake(nn.TransformerDecoderLayer(16, 4, 32, 0.1, "relu", batch_first=True, norm_first=norm == "pre")).eval()
    ours = DecoderLayer(16, 4, 32, 0.1, norm).eval()
    fill(ours, theirs, {"self_attn": "self_attention", "multihead_attn": "cross_attention"})
    x, source = torch.randn(2, 6, 16), torch.randn(2, 5, 16)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool) if padded else None
    future = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1)
    want = theirs(x, source, tgt_mask=future, memory_key_padding_mask=None if mask is None else ~mask)
    torch.testing.assert_close(ours(x, source, mask), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_decoder_layer_with_a_cache_says_the_same_word_by_word(norm):
    layer = shake(DecoderLayer(16, 4, 32, norm=norm)).double().eval()
    x, source = torch.randn(4, 6, 16, dtype=torch.float64), torch.randn(2, 5, 16, dtype=torch.float64)
    cache = KVCache()
    parts = [layer(x[:, i : i + 1], source, cache=cache.layer(0)) for i in range(6)]
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x, source))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_an_encoder_layer_can_be_causal_with_a_cache(norm):
    layer = shake(EncoderLayer(16, 4, 32, norm=norm)).double().eval()
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    cache = KVCache()
    parts = [layer(x[:, i : i + 2], causal=True, cache=cache.layer(0)) for i in range(0, 6, 2)]
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x, causal=True))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_recording_attention_changes_nothing(norm):
    encoder, decoder = shake(EncoderLayer(16, 4, 32, norm=norm)).eval(), shake(DecoderLayer(16, 4, 32, norm=norm)).eval()
    x, source = torch.randn(2, 6, 16), torch.randn(2, 5, 16)
    record = {}
    torch.testing.assert_close(encoder(source, record=record, name="e"), encoder(source))
    torch.testing.assert_close(decoder(x, source, record=record, name="d"), decoder(x, source))
    assert {name: tuple(value.shape) for name, value in record.items()} == {
        "e.attention": (2, 4, 5, 5), "d.self": (2, 4, 6, 6), "d.cross": (2, 4, 6, 5)}
    assert record["d.self"].triu(1).abs().max() == 0


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_dropout_follows_each_sub_layer_and_stops_in_evaluation(norm):
    layer = DecoderLayer(16, 4, 32, 0.5, norm)
    x, source = torch.randn(2, 6, 16), torch.randn(2, 5, 16)
    assert not torch.equal(layer(x, source), layer(x, source))
    layer.eval()
    assert torch.equal(layer(x, source), layer(x, source))


def test_a_context_is_repeated_without_copies_and_selected_by_row():
    context = Context(torch.randn(2, 1, 3, 4), torch.tensor([[True, True, False], [True, True, True]]))
    beams = context.repeat(3)
    assert beams.rows == 6
    assert beams.levels is context.levels
    some = beams.select(torch.tensor([5, 0, 1]))
    assert some.rows == 3
    assert torch.equal(some.levels, context.levels[[1, 0, 0]])
    assert torch.equal(some.mask, context.mask[[1, 0, 0]])
