"""DALL-E's sparse attention: masks as counted from the paper, one result by blocks and step by step."""

import pytest
import torch
import torch.nn.functional as F
from networks import covers

from mmlearn.nn.attention import KVCache, record_attention
from mmlearn.text2image.sparse_attention import (
    KINDS,
    PairCache,
    SparseAttention,
    block_attention,
    column_mask,
    convolution_mask,
    dalle_mask,
    image_mask,
    keys_of,
    layer_kinds,
    row_mask,
)

TEXT, SIDE, KERNEL = 5, 6, 5
WHOLE = TEXT + SIDE * SIDE


def layer(kind, seed=0):
    torch.manual_seed(seed)
    return SparseAttention(8, 2, kind, TEXT, SIDE, KERNEL)


def attended(kind, i, j, side, half):
    """May place i of a picture attend to place j, counted in rows and columns as in the paper's figure?"""
    (row, column), (above, beside) = divmod(i, side), divmod(j, side)
    if j > i:
        return False
    if kind == "row":                       # the row up to here, and of the row above from this column on
        return row == above or (row - above == 1 and beside >= column)
    if kind == "column":
        return column == beside
    if kind == "full":
        return True
    for r in range(half + 1):               # a window whose sides wrap around into the neighbouring rows
        for c in range(-half, half + 1):
            if (row - r) * side + column + c == j:
                return True
    return False


# ------------------------------------------------------------------------------------------------------ masks

@pytest.mark.parametrize("kind, pairs", [("row", 33_264), ("column", 16_896), ("convolution", 57_169),
                                         ("full", 524_800)])
def test_a_picture_of_32_by_32_has_as_many_attended_pairs_as_the_papers_masks(kind, pairs):
    assert int(image_mask(kind, 32, 11).sum()) == pairs


@pytest.mark.parametrize("kind, most", [("row", 33), ("column", 32), ("convolution", 61)])
def test_a_query_has_at_most_so_many_keys_in_the_picture(kind, most):
    assert int(image_mask(kind, 32, 11).sum(1).max()) == most


@pytest.mark.equation("eq:dalle-row")
@pytest.mark.equation("eq:dalle-column")
@pytest.mark.equation("eq:dalle-convolution")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side, kernel", [(6, 5), (8, 3), (4, 7)])
def test_masks_are_those_of_rows_columns_and_windows_place_by_place(kind, side, kernel):
    want = torch.tensor([[attended(kind, i, j, side, kernel // 2) for j in range(side * side)]
                         for i in range(side * side)])
    assert torch.equal(image_mask(kind, side, kernel), want)


def test_a_mask_depends_on_how_far_the_key_lies_back():
    o = torch.arange(-3, 70)
    assert row_mask(o, 32).nonzero()[:, 0].tolist() == list(range(3, 36))
    assert (column_mask(o, 32).nonzero()[:, 0] - 3).tolist() == [0, 32, 64]
    near = (convolution_mask(o, 32, 3).nonzero()[:, 0] - 3).tolist()
    assert near == [0, 1, 31, 32, 33]


@pytest.mark.equation("eq:dalle-mask")
@pytest.mark.parametrize("kind", KINDS)
def test_text_sees_the_text_before_it_and_the_picture_sees_all_of_the_text(kind):
    mask = dalle_mask(kind, TEXT, SIDE, KERNEL)
    for i in range(WHOLE):
        for j in range(WHOLE):
            if i < TEXT:
                want = j <= i
            elif j < TEXT:
                want = True
            else:
                want = attended(kind, i - TEXT, j - TEXT, SIDE, KERNEL // 2)
            assert bool(mask[i, j]) == want


@covers("eq:dalle-layers")
def test_layers_see_a_row_a_column_a_row_a_row_and_the_last_one_a_window():
    kinds = layer_kinds(64)
    assert kinds[:8] == ("row", "column", "row", "row") * 2
    assert kinds[-1] == "convolution"
    assert [kinds.count(kind) for kind in ("row", "column", "convolution")] == [47, 16, 1]
    assert [i + 1 for i, kind in enumerate(kinds) if kind == "column"] == list(range(2, 63, 4))
    assert layer_kinds(4) == ("row", "column", "row", "convolution") and layer_kinds(0) == ()


def test_another_kind_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match="kind 'diagonal' is unknown; use one of row, column"):
        image_mask("diagonal", 4)
    with pytest.raises(ValueError, match="kind 'diagonal' is unknown"):
        SparseAttention(8, 2, "diagonal", TEXT, SIDE)


# ----------------------------------------------------------------------------------- one result, several ways

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [WHOLE, WHOLE - 1, TEXT + 8, TEXT + 1, TEXT, 3])
def test_attention_by_blocks_is_attention_under_the_mask(kind, n):
    torch.manual_seed(0)
    Q, K, V = (torch.randn(2, 3, n, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = dalle_mask(kind, TEXT, SIDE, KERNEL)[:n, :n]
    scores = (Q @ K.mT / 2).masked_fill(~mask, -torch.inf)
    want = scores.softmax(-1) @ V
    ours = block_attention(Q, K, V, kind, TEXT, SIDE, KERNEL)
    torch.testing.assert_close(ours, want)
    up = torch.randn_like(want)
    for a, b in zip(torch.autograd.grad(ours, (Q, K, V), up), torch.autograd.grad(want, (Q, K, V), up)):
        torch.testing.assert_close(a, b)


@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_torchs_attention_under_its_mask(kind):
    attend, x = layer(kind), torch.randn(2, WHOLE, 8)
    Q, K, V = (z.unflatten(-1, (2, 4)).transpose(1, 2)
               for z in F.linear(x, attend.in_weight, attend.in_bias).chunk(3, -1))
    read = F.scaled_dot_product_attention(Q, K, V, attn_mask=dalle_mask(kind, TEXT, SIDE, KERNEL))
    want = attend.out(read.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attend(x), want)
    attend.blockwise = True
    torch.testing.assert_close(attend(x), want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blockwise", [False, True])
def test_what_comes_later_changes_nothing_before_it(kind, blockwise):
    attend = layer(kind)
    attend.blockwise = blockwise
    x = torch.randn(1, WHOLE, 8, requires_grad=True)
    for i in (0, TEXT - 1, TEXT, TEXT + 9, WHOLE - 1):
        grad = torch.autograd.grad(attend(x)[0, i].sum(), x)[0][0].abs().sum(-1)
        allowed = dalle_mask(kind, TEXT, SIDE, KERNEL)[i]
        assert not grad[~allowed].any() and (grad[allowed] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [lambda layer: PairCache(layer, WHOLE), KVCache], ids=["pairs", "all"])
def test_a_sequence_in_pieces_and_token_by_token_is_the_sequence_at_once(kind, make):
    attend, x = layer(kind), torch.randn(2, WHOLE, 8)
    want = attend(x)
    with torch.no_grad(), make(attend) as cache:
        pieces = [attend(x[:, :TEXT + 3]), attend(x[:, TEXT + 3:TEXT + 5])]
        pieces += [attend(x[:, i:i + 1]) for i in range(TEXT + 5, WHOLE)]
        assert cache.length == WHOLE
    torch.testing.assert_close(torch.cat(pieces, dim=1), want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_meets_the_keys_of_its_mask_and_no_others(kind):
    mask = image_mask(kind, SIDE, KERNEL)
    for i in range(SIDE * SIDE):
        places = torch.arange(i + 1)[keys_of(kind, i, SIDE, KERNEL)]
        assert sorted(places.tolist()) == mask[i].nonzero()[:, 0].tolist()


def test_a_cache_repeats_its_rows_and_refuses_more_places_than_it_has():
    attend, x = layer("row"), torch.randn(2, TEXT + 2, 8)
    with torch.no_grad(), PairCache(attend, TEXT + 2) as cache:
        attend(x[:, :TEXT + 1])
        cache.repeat(3)
        step = attend(x[:, TEXT + 1:].repeat_interleave(3, 0))
        torch.testing.assert_close(step, attend_all(attend, x)[:, -1:].repeat_interleave(3, 0))
        with pytest.raises(ValueError, match="place 8 is past the cache's 7"):
            attend(x[:, :1].repeat_interleave(3, 0))
    assert attend.cache is None


def attend_all(attend, x):
    """The layer without its cache."""
    cache, attend.cache = attend.cache, None
    out = attend(x)
    attend.cache = cache
    return out


def test_recorded_weights_are_zero_where_nobody_may_look():
    attend = layer("column")
    attend.blockwise = True
    x = torch.randn(1, WHOLE, 8)
    with record_attention(attend) as weights:
        recorded = attend(x)
    (found,) = weights.values()
    assert not found[..., ~dalle_mask("column", TEXT, SIDE, KERNEL)].any()
    torch.testing.assert_close(recorded, attend(x), atol=1e-6, rtol=1e-5)


def test_a_sequence_longer_than_text_and_picture_is_refused():
    with pytest.raises(ValueError, match="has 42 places, the model 41: 5 of text and 6 x 6"):
        layer("row")(torch.randn(1, WHOLE + 1, 8))
