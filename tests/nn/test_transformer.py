import pytest
import torch
from torch import nn

from mmlearn.nn.attention import KVCache, MultiHeadAttention, record_attention
from mmlearn.nn.transformer import (
    Context,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    InputProjection,
    PreNormDecoderLayer,
    PreNormEncoderLayer,
    feed_forward,
)

ENCODERS = {"post": EncoderLayer, "pre": PreNormEncoderLayer}
DECODERS = {"post": DecoderLayer, "pre": PreNormDecoderLayer}


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
    x, W_1, b_1, W_2, b_2 = (torch.randn(*s, dtype=torch.float64)
                             for s in ((2, 3, 4), (4, 5), (5,), (5, 4), (4,)))
    want = torch.stack([
        torch.stack([
            torch.stack([
                sum(max(sum(x[n, t, i] * W_1[i, f] for i in range(4)) + b_1[f],
                        0) * W_2[f, o] for f in range(5))
                + b_2[o] for o in range(4)
            ]) for t in range(3)
        ]) for n in range(2)
    ])
    torch.testing.assert_close(feed_forward(x, W_1, b_1, W_2, b_2), want)
    layer = FeedForward(4, 5).double()
    layer.load_state_dict({"inner.weight": W_1.T, "inner.bias": b_1, "outer.weight": W_2.T,
                           "outer.bias": b_2})
    torch.testing.assert_close(layer(x), want)


@pytest.mark.equation("eq:add-norm")
def test_add_and_norm_standardises_the_sum():
    layer = shake(EncoderLayer(4, 2, 6)).double().eval()
    x = torch.randn(2, 3, 4, dtype=torch.float64)

    def normal(row, norm):
        mean = sum(row) / 4
        variance = sum((value - mean) ** 2 for value in row) / 4
        return norm.weight * (row - mean) / (variance + 1e-5) ** 0.5 + norm.bias

    got, read = layer(x), layer.attention(x)
    for n in range(2):
        for t in range(3):
            state = normal(x[n, t] + read[n, t], layer.attention_norm)
            want = normal(state + layer.feed_forward(state), layer.feed_forward_norm)
            torch.testing.assert_close(got[n, t], want)


@pytest.mark.equation("eq:grid-projection")
def test_the_input_projection_is_relu_then_layer_norm():
    layer = shake(InputProjection(3, 4)).double()
    x = torch.randn(1, 2, 3, dtype=torch.float64)
    for p in range(2):
        weight, bias = layer.linear.weight.detach(), layer.linear.bias.detach()
        row = torch.tensor([max(0.0, float(weight[o] @ x[0, p] + bias[o])) for o in range(4)],
                           dtype=torch.float64)
        want = (row - row.mean()) / (row.var(unbiased=False)
                                     + 1e-5).sqrt() * layer.norm.weight + layer.norm.bias
        torch.testing.assert_close(layer(x)[0, p], want)


@pytest.mark.parity
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("padded", [False, True])
def test_our_encoder_layer_equals_that_of_torch(norm, padded):
    theirs = shake(
        nn.TransformerEncoderLayer(16, 4, 32, 0.1, "relu", batch_first=True, norm_first=norm == "pre")
    ).eval()
    ours = ENCODERS[norm](16, 4, 32, 0.1).eval()
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
    theirs = shake(
        nn.TransformerDecoderLayer(16, 4, 32, 0.1, "relu", batch_first=True, norm_first=norm == "pre")
    ).eval()
    ours = DECODERS[norm](16, 4, 32, 0.1).eval()
    fill(ours, theirs, {"self_attn": "self_attention", "multihead_attn": "cross_attention"})
    x, source = torch.randn(2, 6, 16), torch.randn(2, 5, 16)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool) if padded else None
    future = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1)
    want = theirs(x, source, tgt_mask=future, memory_key_padding_mask=None if mask is None else ~mask)
    torch.testing.assert_close(ours(x, source, mask), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_decoder_layer_with_a_cache_says_the_same_word_by_word(norm):
    layer = shake(DECODERS[norm](16, 4, 32)).double().eval()
    x, source = torch.randn(4, 6, 16, dtype=torch.float64), torch.randn(2, 5, 16, dtype=torch.float64)
    with KVCache(layer):
        parts = [layer(x[:, i : i + 1], source) for i in range(6)]
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x, source))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_an_encoder_layer_can_be_causal_with_a_cache(norm):
    layer = shake(ENCODERS[norm](16, 4, 32, attention=MultiHeadAttention(16, 4, causal=True))).double().eval()
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    with KVCache(layer):
        parts = [layer(x[:, i : i + 2]) for i in range(0, 6, 2)]
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_recording_attention_changes_nothing(norm):
    layers = nn.ModuleDict({"e": ENCODERS[norm](16, 4, 32), "d": DECODERS[norm](16, 4, 32)})
    encoder, decoder = shake(layers).eval().values()
    x, source = torch.randn(2, 6, 16), torch.randn(2, 5, 16)
    want = encoder(source), decoder(x, source)
    with record_attention(layers) as weights:
        torch.testing.assert_close((encoder(source), decoder(x, source)), want)
    assert {name: tuple(value.shape) for name, value in weights.items()} == {
        "e.attention": (2, 4, 5, 5), "d.self_attention": (2, 4, 6, 6), "d.cross_attention": (2, 1, 4, 6, 5)}
    assert weights["d.self_attention"].triu(1).abs().max() == 0
    assert torch.equal(decoder(x, source), want[1])                  # afterwards the fused kernel is back


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_dropout_follows_each_sub_layer_and_stops_in_evaluation(norm):
    layer = DECODERS[norm](16, 4, 32, 0.5)
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
