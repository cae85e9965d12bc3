import math

import pytest
import torch
from torch import nn

from mmlearn.nn.attention import (
    CrossAttention,
    KVCache,
    MultiHeadAttention,
    attention,
    attention_weights,
    causal_mask,
    fused_attention,
    fused_cross_attention,
    record_attention,
)


def doubles(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def naive_attention(Q, K, V, may_attend):
    rows = []
    for i, q in enumerate(Q):
        exps = [math.exp((q @ k).item() / math.sqrt(len(q))) if may_attend(i, j) else 0.0 for j,
                k in enumerate(K)]
        total = sum(exps)
        rows.append(sum((e / total * v for e, v in zip(exps, V)), torch.zeros(V.shape[1], dtype=V.dtype)))
    return torch.stack(rows)


@pytest.mark.equation("eq:attention")
def test_attention_equals_the_formula_read_aloud():
    Q, K, V = doubles(3, 4), doubles(5, 4, seed=1), doubles(5, 6, seed=2)
    torch.testing.assert_close(attention(Q, K, V), naive_attention(Q, K, V, lambda i, j: True))


@pytest.mark.equation("eq:attention")
def test_a_mask_leaves_out_what_is_false_and_rescales_the_rest():
    Q, K, V = doubles(3, 4), doubles(5, 4, seed=1), doubles(5, 4, seed=2)
    mask = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 0]], dtype=torch.bool)
    torch.testing.assert_close(attention(Q, K, V, mask),
                               naive_attention(Q, K, V, lambda i, j: bool(mask[i, j])))


def test_a_query_that_may_see_nothing_reads_zero_and_has_a_finite_gradient():
    Q, K, V = (doubles(2, 3, 4, seed=s).requires_grad_() for s in range(3))
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    mask[1, 2] = False
    out = attention(Q, K, V, mask)
    assert (out[1, 2] == 0).all()
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (Q, K, V))


def test_scores_of_unit_queries_and_keys_have_unit_spread_only_with_the_root_of_the_head_width():
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(4000, 64, generator=g), torch.randn(4000, 64, generator=g)
    products = (q * k).sum(-1)
    assert (products / math.sqrt(64)).std() == pytest.approx(1.0, abs=0.05)
    assert (products / math.sqrt(512)).std() < 0.5


def test_the_attention_formula_has_the_gradient_of_finite_differences():
    inputs = [doubles(1, 3, 4, seed=s).requires_grad_() for s in range(3)]
    mask = torch.tensor([[True, True, False], [True, True, True], [False, True, False]])
    assert torch.autograd.gradcheck(lambda Q, K, V: attention(Q, K, V, mask), inputs)


def test_the_past_is_visible_and_the_future_is_not():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]


@pytest.mark.equation("eq:multi-head")
def test_multi_head_attention_is_each_head_on_its_slice_then_one_projection():
    torch.manual_seed(0)
    layer = MultiHeadAttention(6, 2).double()
    nn.init.normal_(layer.in_bias)
    x = doubles(1, 4, 6)
    W_q, W_k, W_v = layer.in_weight.chunk(3)
    b_q, b_k, b_v = layer.in_bias.chunk(3)
    heads = []
    for a in (slice(0, 3), slice(3, 6)):
        Q = torch.stack([(W_q @ row + b_q)[a] for row in x[0]])
        K = torch.stack([(W_k @ row + b_k)[a] for row in x[0]])
        V = torch.stack([(W_v @ row + b_v)[a] for row in x[0]])
        heads.append(naive_attention(Q, K, V, lambda i, j: True))
    want = torch.stack([layer.out.weight @ row + layer.out.bias for row in torch.cat(heads, dim=1)])
    torch.testing.assert_close(layer(x)[0], want)


@pytest.mark.parity
@pytest.mark.parametrize("masked", [False, True])
def test_our_attention_equals_that_of_torch(masked):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours = CrossAttention(16, 4)
    ours.load_state_dict({
        "in_weight": theirs.in_proj_weight, "in_bias": theirs.in_proj_bias,
        "out.weight": theirs.out_proj.weight, "out.bias": theirs.out_proj.bias,
    })
    queries, source = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool) if masked else None
    want, weights = theirs(queries, source, source, key_padding_mask=None if mask is None else ~mask,
                           average_attn_weights=False)
    with record_attention(ours) as recorded:
        got = ours(queries, source, mask)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(recorded[""][:, 0], weights, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours(queries, source, mask), want, atol=1e-6, rtol=1e-5)
    alone = MultiHeadAttention(16, 4)
    alone.load_state_dict(ours.state_dict())
    want = theirs(source, source, source, key_padding_mask=None if mask is None else ~mask)[0]
    torch.testing.assert_close(alone(source, mask), want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, "keys", "pairs"])
def test_the_fused_kernel_gives_what_the_formula_gives(causal, mask):
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 2, causal=causal).double()
    x = doubles(3, 5, 8)
    where = None
    if mask == "keys":
        where = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    elif mask == "pairs":
        where = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    with record_attention(layer) as weights:
        slow = layer(x, where)
    torch.testing.assert_close(layer(x, where), slow)
    sums = weights[""].sum(-1)
    assert (((sums - 1).abs() < 1e-9) | (sums == 0)).all()


def test_the_fused_twin_is_the_formula():
    Q, K, V = doubles(2, 3, 4, 6), doubles(2, 3, 5, 6, seed=1), doubles(2, 3, 5, 6, seed=2)
    mask = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(3)) < 0.6
    for where in (None, mask, mask[:, :, :1]):
        torch.testing.assert_close(fused_attention(Q, K, V, where), attention(Q, K, V, where))


@pytest.mark.parametrize("t", [4, 600])
def test_in_half_precision_the_fused_twin_leads_back_as_in_full(t):
    Q, K, V = (doubles(1, 2, t, 8, seed=s).bfloat16() for s in range(3))
    mask = torch.rand(1, 1, t, t, generator=torch.Generator().manual_seed(3)) < 0.6
    mask[..., 0, :] = False
    up = doubles(1, 2, t, 8, seed=4)
    ways = []
    for dtype in (torch.bfloat16, torch.float64):
        inputs = [x.to(dtype).requires_grad_() for x in (Q, K, V)]
        read = fused_attention(*inputs, mask)
        ways.append((read, *torch.autograd.grad(read, inputs, up.to(dtype))))
        assert read.dtype == dtype
    for half, full in zip(*ways):
        assert (half.double() - full).abs().max() < 0.02 * full.abs().max()


@pytest.mark.parametrize("n", [(), (1,), (3,)])
@pytest.mark.parametrize("g", [1, 4])
def test_the_fused_twin_of_rows_that_share_their_keys_is_the_formula(n, g):
    ones = [1] * len(n)
    Q = doubles(2, g, *ones, 3, 4, 6).requires_grad_()
    K, V = (doubles(2, 1, *n, 3, 5, 6, seed=s).requires_grad_() for s in (1, 2))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool).view(2, 1, *ones, 1, 1, 5)
    for where in (None, mask):
        fused, plain = fused_cross_attention(Q, K, V, where), attention(Q, K, V, where)
        torch.testing.assert_close(fused, plain)
        weight = doubles(*fused.shape, seed=4)
        for got, want in zip(*(torch.autograd.grad((out * weight).sum(), (Q, K, V))
                               for out in (fused, plain))):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3), (5,), (1, 4), (4, 1)])
def test_a_cache_gives_the_same_as_reading_everything_again(sizes):
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 2, causal=True).double()
    x = doubles(2, 5, 8)
    with KVCache(layer):
        parts = [layer(part) for part in x.split(list(sizes), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x))


def test_cached_beams_can_change_places():
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 2, causal=True).double()
    x, following = doubles(3, 4, 8), doubles(3, 1, 8, seed=1)
    order = torch.tensor([2, 0, 0])
    with KVCache(layer) as cache:
        assert cache.length == 0
        layer(x)
        cache.select(order)
        got = layer(following)
    assert cache.length == 5
    torch.testing.assert_close(got, layer(torch.cat([x[order], following], dim=1))[:, -1:])


def test_a_layer_forgets_its_past_when_the_context_ends_even_by_an_error():
    layer, x = MultiHeadAttention(8, 2, causal=True).double(), doubles(2, 3, 8)
    with pytest.raises(RuntimeError), KVCache(layer):
        layer(x)
        raise RuntimeError
    alone = layer(x)
    with KVCache(layer), record_attention(layer) as weights:
        torch.testing.assert_close(layer(x), alone)
    assert weights[""].shape == (2, 2, 3, 3) and "attend" not in vars(layer)


def test_attention_in_both_directions_has_no_past_to_keep():
    layer, x = MultiHeadAttention(8, 2).double(), doubles(2, 3, 8)
    with KVCache(layer):
        torch.testing.assert_close(layer(x), layer(x))


def test_rows_of_an_image_share_its_keys_without_copies():
    torch.manual_seed(0)
    layer = CrossAttention(8, 2).double()
    queries, levels = doubles(6, 4, 8), doubles(2, 3, 5, 8, seed=1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
    with record_attention(layer) as weights:
        got = layer(queries, levels, mask)
        together = weights[""]                                      # b g n h t s
        torch.testing.assert_close(layer(queries, levels[:, 1], mask), got[:, 1])
        for row in range(6):
            for level in range(3):
                want = layer(queries[row : row + 1], levels[row // 3, level][None], mask[row // 3][None])
                torch.testing.assert_close(got[row, level], want[0])
                torch.testing.assert_close(together[row // 3, row % 3, level], weights[""][0, 0])
    torch.testing.assert_close(layer(queries, levels, mask), got)


def test_rows_that_cannot_be_shared_out_among_images_are_refused():
    with pytest.raises(ValueError, match="3 rows of tokens for 2 images"):
        CrossAttention(8, 2)(torch.randn(3, 4, 8), torch.randn(2, 5, 8))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="not a multiple"):
        MultiHeadAttention(10, 3)


def test_each_input_projection_is_initialised_on_its_own():
    torch.manual_seed(0)
    layer = MultiHeadAttention(64, 4)
    bound = math.sqrt(6 / 128)
    for part in layer.in_weight.chunk(3):
        assert part.abs().max() <= bound
        assert part.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_weights_are_a_distribution_that_does_not_mind_the_order_of_the_keys():
    Q, K = doubles(2, 3, 4), doubles(2, 5, 4, seed=1)
    weights = attention_weights(Q, K)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(attention_weights(Q, K[:, order]), weights[..., order])
