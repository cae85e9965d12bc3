import math

import pytest
import torch
import torch.nn.functional as F

from mmlearn.image2text.m2 import MemoryAttention
from mmlearn.nn.attention import MultiHeadAttention, record_attention
from mmlearn.nn.transformer import (
    FeedForward,
    LayerNorm32,
    PreNormEncoderLayer,
    QuickGELU,
    pre_norm,
    quick_gelu,
)
from mmlearn.nn.vit import VisionTransformer, ViTConfig, attention_rollout, resize_positions, vit_embed

TINY = ViTConfig(size=16, patch=4, width=12, layers=3, heads=2)


def tower(**changes):
    torch.manual_seed(0)
    return VisionTransformer(TINY, embed=5, **changes).double().eval()


# ---------------------------------------------------------------------------------------- parts of the layers

@pytest.mark.equation("eq:quick-gelu")
def test_quick_gelu_is_its_argument_times_a_logistic_gate():
    z = torch.linspace(-6, 6, 41, dtype=torch.float64)
    want = torch.tensor([float(x) / (1 + math.exp(-1.702 * float(x))) for x in z], dtype=torch.float64)
    torch.testing.assert_close(quick_gelu(z), want)
    torch.testing.assert_close(QuickGELU()(z[None])[0], want)
    z.requires_grad_()
    assert torch.autograd.gradcheck(quick_gelu, z)


def test_without_gradient_the_fused_feed_forward_says_the_same():
    net = FeedForward(6, 20, dropout=0.5, activation=QuickGELU).double()
    for bias in (net.inner.bias, net.outer.bias):
        torch.nn.init.normal_(bias)
    net.eval()
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    want, kept = net(x), x.clone()
    assert want.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(net(x), want.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(net(x.mT.contiguous().mT), want.detach(), rtol=1e-12, atol=1e-12)
        assert net(x[:0]).shape == (0, 4, 6)
        torch.testing.assert_close(net(x[0, 0]), want[0, 0].detach(), rtol=1e-12, atol=1e-12)
    assert x.equal(kept)                                    # the activation writes over its own input alone
    net.train()
    with torch.no_grad(), pytest.raises(AssertionError):    # dropout stays
        torch.testing.assert_close(net(x), want)


def test_quick_gelu_is_near_gelu_but_not_gelu():
    z = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    gap = (quick_gelu(z) - F.gelu(z)).abs().max()
    assert 0.02 < gap < 0.021


@pytest.mark.equation("eq:pre-norm")
def test_a_pre_norm_layer_adds_to_a_state_that_stays_as_it_is():
    torch.manual_seed(0)
    layer = PreNormEncoderLayer(8, 2, 16, activation=QuickGELU, layer_norm=LayerNorm32).double()
    for norm in (layer.attention_norm, layer.feed_forward_norm):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 8, dtype=torch.float64)

    def normal(row, norm):
        mean = row.sum() / 8
        variance = ((row - mean) ** 2).sum() / 8
        return (row - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias

    want = x.clone()
    read = layer.attention(torch.stack([torch.stack([normal(row, layer.attention_norm) for row in one])
                                        for one in x]))
    for i in range(2):
        for t in range(5):
            state = x[i, t] + read[i, t]
            inner = (
                layer.feed_forward.inner.weight @ normal(state, layer.feed_forward_norm)
                + layer.feed_forward.inner.bias
            )
            inner = inner * torch.sigmoid(1.702 * inner)
            want[i, t] = state + layer.feed_forward.outer.weight @ inner + layer.feed_forward.outer.bias
    torch.testing.assert_close(layer(x), want)
    torch.testing.assert_close(pre_norm(x, lambda z: 3 * z, lambda z: z + 1), 4 * x + 3)


@pytest.mark.parametrize("causal", [False, True])
def test_one_position_of_a_layer_is_that_row_of_all_of_them_and_so_are_its_gradients(causal):
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2, causal)
    layer = PreNormEncoderLayer(8, 2, 16, activation=QuickGELU, attention=attention).double()
    x, at = torch.randn(3, 6, 8, dtype=torch.float64), torch.tensor([0, 5, 2])
    results = []
    for one in (False, True):
        layer.zero_grad()
        y = x.clone().requires_grad_()
        out = layer.forward_at(y, at)[:, 0] if one else layer(y)[torch.arange(3), at]
        out.square().sum().backward()
        results.append([out.detach(), y.grad, *(p.grad for p in layer.parameters())])
    for all_rows, single in zip(*results):
        torch.testing.assert_close(single, all_rows)


def test_one_position_is_refused_where_it_would_be_wrong():
    x, at = torch.randn(1, 3, 8), torch.tensor([0])
    with pytest.raises(ValueError, match="MemoryAttention"):
        PreNormEncoderLayer(8, 2, 16, attention=MemoryAttention(8, 2, 4, "xavier")).forward_at(x, at)


def test_layer_normalisation_of_half_precision_is_computed_in_float32():
    torch.manual_seed(0)
    norm = LayerNorm32(64)
    x = 300 * torch.randn(4, 64) + 2000                                 # squares that float16 cannot hold
    got = norm.half()(x.half())
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), F.layer_norm(x.half().float(), (64,)), atol=2e-3, rtol=2e-3)


# -------------------------------------------------------------------------------------------------- the tower

@pytest.mark.equation("eq:vit-embed")
def test_the_class_token_comes_first_and_every_token_has_its_position():
    patches, cls, positions = (torch.randn(*shape, dtype=torch.float64)
                               for shape in ((2, 4, 3), (3,), (5, 3)))
    want = torch.empty(2, 5, 3, dtype=torch.float64)
    for i in range(2):
        want[i, 0] = cls + positions[0]
        for p in range(4):
            want[i, p + 1] = patches[i, p] + positions[p + 1]
    torch.testing.assert_close(vit_embed(patches, cls, positions), want)


def test_embeddings_have_the_size_asked_for_and_do_not_depend_on_the_batch():
    model = tower()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    got = model(images)
    assert (
        got.shape == (3, 5)
        and model.features(images).shape == (3, 12)
        and model.tokens(images).shape == (3, 17, 12)
    )
    torch.testing.assert_close(model(images[1:2]), got[1:2])
    torch.testing.assert_close(model(images), model.features(images) @ model.projection)


def test_the_short_way_through_the_last_layer_changes_nothing():
    model = tower()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with record_attention(model) as weights:
        recorded = model(images)  # a recorder gets all rows of the last layer too
    torch.testing.assert_close(model(images), recorded)
    torch.testing.assert_close(model(images), model.norm_after(model.tokens(images)[:, 0]) @ model.projection)
    assert list(weights) == [f"layers.{i}.attention" for i in range(3)]
    assert all(w.shape == (2, 2, 17, 17) for w in weights.values())
    torch.testing.assert_close(weights["layers.2.attention"].sum(-1),
                               torch.ones(2, 2, 17, dtype=torch.float64))


def test_gradients_reach_every_parameter():
    model = tower().train()
    model(torch.randn(2, 3, 16, 16, dtype=torch.float64)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_layers_start_as_pytorchs_own_modules_do():
    torch.manual_seed(0)
    model = VisionTransformer(ViTConfig(16, 8, 256, 1, 4), embed=64)
    theirs, linear = torch.nn.MultiheadAttention(256, 4).requires_grad_(False), torch.nn.Linear(256, 1024)
    linear.requires_grad_(False)
    layer = model.layers[0]
    assert float(layer.attention.in_weight.detach().std()) == pytest.approx(
        float(theirs.in_proj_weight.std()), rel=0.01
    )
    assert float(layer.attention.out.weight.detach().std()) == pytest.approx(
        float(theirs.out_proj.weight.std()), rel=0.02
    )
    assert float(layer.feed_forward.inner.weight.detach().std()) == pytest.approx(
        float(linear.weight.std()), rel=0.01
    )
    assert float(layer.feed_forward.inner.bias.detach().std()) == pytest.approx(
        float(linear.bias.std()), rel=0.1
    )
    for value in (model.cls, model.positions, model.projection):
        assert float(value.detach().std()) == pytest.approx(256**-0.5, rel=0.15)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="size 20 is not a multiple of patch 8"):
        ViTConfig(size=20, patch=8)
    with pytest.raises(ValueError, match="32 x 16 pixels, the model wants 16 x 16"):
        tower()(torch.randn(1, 3, 32, 16, dtype=torch.float64))


# -------------------------------------------------------------------------------------------------- positions

def test_positions_of_another_grid_keep_the_class_row():
    table = torch.randn(1 + 16, 3)
    assert resize_positions(table, 4) is table
    wider = resize_positions(table, 6)
    assert wider.shape == (37, 3)
    torch.testing.assert_close(wider[0], table[0])


def test_a_constant_stays_constant_and_a_slope_stays_a_slope():
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    grid = torch.stack([torch.full((4, 4), 2.0), x, y], dim=-1).flatten(0, 1)
    wider = resize_positions(torch.cat([torch.full((1, 3), 9.0), grid]), 8)[1:].unflatten(0, (8, 8))
    torch.testing.assert_close(wider[..., 0], torch.full((8, 8), 2.0))
    steps = wider[:, 1:, 1] - wider[:, :-1, 1]
    torch.testing.assert_close(steps[:, 3], torch.full((8,), 0.5), atol=0.06, rtol=0)  # twice as many cells
    torch.testing.assert_close(wider[..., 2], wider[..., 1].T)  # no axis is mistaken for the other
    assert (wider[0, 1:, 1] > wider[0, :-1, 1]).all()


def test_positions_that_are_no_square_are_refused():
    with pytest.raises(ValueError, match="18 positions are not one class token and a square"):
        resize_positions(torch.randn(18, 3), 5)


# ---------------------------------------------------------------------------------------------------- rollout

@pytest.mark.equation("eq:attention-rollout")
def test_rollout_multiplies_the_layers_each_half_identity():
    torch.manual_seed(0)
    weights = [torch.rand(2, 3, 4, 4, dtype=torch.float64).softmax(-1) for _ in range(3)]
    got = attention_rollout(weights)
    for i in range(2):
        want = torch.eye(4, dtype=torch.float64)
        for A in weights:
            mixed = torch.zeros(4, 4, dtype=torch.float64)
            for q in range(4):
                for k in range(4):
                    mixed[q, k] = 0.5 * (q == k) + 0.5 * sum(float(A[i, h, q, k]) for h in range(3)) / 3
            want = mixed @ want
        torch.testing.assert_close(got[i], want)
    torch.testing.assert_close(got.sum(-1), torch.ones(2, 4, dtype=torch.float64))


def test_rollout_needs_layers():
    with pytest.raises(ValueError, match="no attention weights"):
        attention_rollout([])
