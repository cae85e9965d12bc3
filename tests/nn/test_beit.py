"""BEiT: offsets between patches, gates, skipped branches, hidden patches, and work that is spared."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import numbers, stirred

from mmlearn.nn.attention import attention_weights
from mmlearn.nn.beit import (
    BEiT,
    BEiTClassifier,
    BEiTConfig,
    MaskedBEiT,
    class_index,
    drop_path,
    fused_relative_attention,
    kept_residual,
    kept_rows,
    layer_scale,
    mean_pool,
    offset_bias,
    places_of,
    relative_attention,
    resize_table,
    with_mask,
)
from mmlearn.nn.modes import seeded as seeded_block

TINY = BEiTConfig(size=16, patch=4, width=12, layers=3, heads=2, ff=20, drop_path=0.0)
SHARED, APART = TINY, replace(TINY, bias="layer")


def model_of(config=TINY, seed=0):
    """A model of which nothing is at rest, in float64."""
    with seeded_block(seed):
        model = BEiT(config).double()
    return stirred(model, seed, 0.3).eval()


def pictures(b=2, size=16, seed=0):
    return numbers(b, 3, size, size, seed=seed)


def some_mask(b=2, p=16, seed=0):
    """Masks with different numbers of hidden patches."""
    mask = torch.rand(b, p, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[:, 0], mask[0, :4] = True, True
    mask[-1, 1:5] = False
    return mask


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:beit-index")
def test_offsets_have_a_row_each_and_the_class_token_three_of_its_own():
    G = 3
    index, n = class_index(G), (2 * G - 1) ** 2
    assert index.shape == (10, 10)
    for i in range(10):
        for j in range(10):
            if i == 0 and j == 0:
                want = n + 2
            elif i == 0:
                want = n
            elif j == 0:
                want = n + 1
            else:
                (yi, xi), (yj, xj) = divmod(i - 1, G), divmod(j - 1, G)
                want = (yi - yj + G - 1) * (2 * G - 1) + (xi - xj + G - 1)
            assert index[i, j] == want
    assert sorted(set(index.flatten().tolist())) == list(range(n + 3))


@pytest.mark.equation("eq:beit-bias")
def test_two_pairs_of_patches_with_the_same_offset_have_the_same_bias():
    table = numbers(7 * 7 + 3, 2)
    R = offset_bias(table, 4)
    assert R.shape == (2, 17, 17)
    for k in range(2):
        for i in range(17):
            for j in range(17):
                assert R[k, i, j] == table[class_index(4)[i, j], k]
    assert R[0, 1, 2] == R[0, 6, 7] == R[0, 15, 16] and R[0, 1, 2] != R[0, 2, 1]


@pytest.mark.equation("eq:beit-attention")
@pytest.mark.parametrize("trained", [False, True])
def test_biases_are_added_to_scores_that_are_divided_by_the_root_of_the_width(trained):
    Q, K, V = (numbers(2, 2, t, 4, seed=i) for i, t in enumerate((3, 5, 5)))
    R = numbers(1, 2, 3, 5, seed=9)
    want = torch.zeros(2, 2, 3, 4, dtype=torch.float64)
    for b in range(2):
        for h in range(2):
            for i in range(3):
                scores = [float(Q[b, h, i] @ K[b, h, j]) / math.sqrt(4) + float(R[0, h, i, j])
                          for j in range(5)]
                total = sum(math.exp(s) for s in scores)
                for j in range(5):
                    want[b, h, i] += math.exp(scores[j]) / total * V[b, h, j]
    torch.testing.assert_close(relative_attention(Q, K, V, R), want)
    torch.testing.assert_close(fused_relative_attention(Q, K, V, R.requires_grad_(trained)), want)


def test_the_fused_twin_has_the_same_gradients_and_leaves_its_biases_alone():
    Q, K, V = (numbers(1, 2, 4, 3, seed=i).requires_grad_() for i in range(3))
    for rows in (1, 2):
        R = numbers(rows, 2, 4, 4, seed=7).requires_grad_()
        q, k, v = (part.expand(rows, -1, -1, -1) for part in (Q, K, V))
        before, grads = R.detach().clone(), []
        for of in (relative_attention, fused_relative_attention):
            out = of(q, k, v, R)
            grads.append(torch.autograd.grad((out * numbers(*out.shape, seed=5)).sum(), (Q, K, V, R)))
        for a, b in zip(*grads):
            torch.testing.assert_close(a, b)
        assert torch.equal(R.detach(), before)


@pytest.mark.equation("eq:layer-scale")
def test_a_branch_enters_through_a_gate_of_its_channel():
    x, f, gamma = numbers(2, 3, 4, seed=0), numbers(2, 3, 4, seed=1), numbers(4, seed=2)
    got = layer_scale(x, f, gamma)
    for b in range(2):
        for t in range(3):
            for c in range(4):
                assert abs(got[b, t, c] - (x[b, t, c] + gamma[c] * f[b, t, c])) < 1e-12


@pytest.mark.equation("eq:drop-path")
def test_a_branch_that_is_skipped_for_a_picture_leaves_its_state_and_else_counts_more():
    x, f, gamma = numbers(3, 2, 4, seed=0), numbers(3, 2, 4, seed=1), numbers(4, seed=2)
    kept = torch.tensor([True, False, True])
    got = drop_path(x, f, gamma, kept, 0.2)
    for b in range(3):
        want = x[b] + gamma * f[b] / 0.8 if kept[b] else x[b]
        torch.testing.assert_close(got[b], want)
    rows = kept.nonzero().flatten()
    torch.testing.assert_close(kept_residual(x, f[rows], gamma, rows, 0.2), got)     # the twin


def test_a_branch_is_kept_as_often_as_it_should_be_and_its_mean_is_unchanged():
    with seeded_block(0):
        counts = [len(kept_rows(50, 0.3)) for _ in range(200)]
    share = sum(counts) / 10_000
    assert abs(share - 0.7) < 4 * math.sqrt(0.21 / 10_000)
    assert abs(share / 0.7 - 1) < 0.03                                  # what the branch counts on average


@pytest.mark.equation("eq:beit-mask")
def test_a_learned_vector_stands_where_a_patch_is_hidden():
    patches, token, mask = numbers(2, 3, 4), numbers(4, seed=1), torch.tensor([[1, 0, 1], [0, 0, 1]]).bool()
    got = with_mask(patches, mask, token)
    for b in range(2):
        for p in range(3):
            assert torch.equal(got[b, p], token if mask[b, p] else patches[b, p])


@pytest.mark.equation("eq:mean-pool")
def test_e8_pooling_is_a_mean_without_a_softmax():
    tokens = numbers(2, 5, 3)
    want = torch.stack([sum(tokens[b, p] for p in range(1, 5)) / 4 for b in range(2)])
    torch.testing.assert_close(mean_pool(tokens), want)
    model, images = model_of(), pictures()
    torch.testing.assert_close(model.features(images), model.tokens(images)[:, 1:].mean(1))
    weighted = (tokens[:, 1:].softmax(dim=1) * tokens[:, 1:]).sum(dim=1)         # what the survey's words say
    assert not torch.allclose(weighted, want, atol=1e-2)


def test_e18_the_softmax_is_over_queries_and_keys_alone():
    Q, K = numbers(1, 2, 4, 3, seed=0), numbers(1, 2, 4, 3, seed=1)
    A = attention_weights(Q, K)
    torch.testing.assert_close(A.sum(dim=-1), torch.ones(1, 2, 4, dtype=torch.float64))
    V = numbers(1, 2, 4, 3, seed=2).requires_grad_()
    assert torch.autograd.grad(A.sum() + 0 * V.sum(), V)[0].abs().max() == 0     # A does not depend on V
    model, images = model_of(), pictures()
    before = model.attention_maps(images)[0]
    with torch.no_grad():
        model.blocks[0].attention.weight[24:] += 1                      # rows of the values
        model.blocks[0].attention.v_bias += 1
    torch.testing.assert_close(model.attention_maps(images)[0], before)


def test_scores_of_unit_numbers_have_the_variance_of_the_width_until_they_are_divided():
    q, k = torch.randn(2, 20_000, 64, generator=torch.Generator().manual_seed(0)).unbind()
    scores = (q * k).sum(dim=1)
    assert abs(scores.var() / 64 - 1) < 0.05 and abs((scores / 8).var() - 1) < 0.05


# ------------------------------------------------------------------------------------------------ the model

@pytest.mark.parametrize("config", [SHARED, APART])
def test_states_of_patches_have_their_shape_and_do_not_depend_on_the_batch(config):
    model, images, mask = model_of(config), pictures(3), some_mask(3)
    got = model(images, mask)
    assert got.shape == (3, 16, 12) and model.tokens(images).shape == (3, 17, 12)
    torch.testing.assert_close(model(images[1:2], mask[1:2]), got[1:2])
    torch.testing.assert_close(got, model.tokens(images, mask)[:, 1:])


@pytest.mark.parametrize("config", [SHARED, APART])
def test_a_block_is_attention_and_a_feed_forward_net_each_normalised_gated_and_added(config):
    model, images = model_of(config), pictures(1)
    x = model.embed(images)
    ends = model.layers(images)
    assert len(ends) == 3 and all(end.shape == (1, 16, 12) for end in ends)

    def normal(row, norm):
        centred = row - row.mean()
        return centred / (centred.square().mean() + 1e-6).sqrt() * norm.weight + norm.bias

    for l, block in enumerate(model.blocks):
        R = offset_bias(model.table if block.table is None else block.table, 4)
        attention, net = block.attention, block.feed_forward
        W_q, W_k, W_v = attention.weight.chunk(3)
        z = torch.stack([normal(row, block.attention_norm) for row in x[0]])
        q, k, v = z @ W_q.T + attention.q_bias, z @ W_k.T, z @ W_v.T + attention.v_bias
        heads = []
        for h in range(2):
            part = slice(6 * h, 6 * h + 6)
            A = (q[:, part] @ k[:, part].T / math.sqrt(6) + R[h]).softmax(-1)
            heads.append(A @ v[:, part])
        y = x[0] + block.gamma_1 * (torch.cat(heads, 1) @ attention.out.weight.T + attention.out.bias)
        z = torch.stack([normal(row, block.feed_forward_norm) for row in y])
        inner = F.gelu(z @ net.inner.weight.T + net.inner.bias)
        x = (y + block.gamma_2 * (inner @ net.outer.weight.T + net.outer.bias))[None]
        torch.testing.assert_close(ends[l], x[:, 1:])


def test_a_patch_is_cut_flattened_by_channel_row_and_column_and_projected():
    model, images = model_of(), pictures(1)
    project = model.patches.project
    rows = F.unfold(images, 4, stride=4).mT                             # b p (c y x)
    want = rows @ project.weight.flatten(1).T + project.bias
    torch.testing.assert_close(model.embed(images)[:, 1:], want)
    torch.testing.assert_close(model.embed(images)[0, 0], model.cls)


def test_what_is_hidden_does_not_reach_any_state():
    model, images, mask = model_of(), pictures(), some_mask()
    pixels = F.interpolate(mask.view(2, 1, 4, 4).double(), scale_factor=4)
    other = torch.where(pixels.bool(), pictures(seed=5), images)
    torch.testing.assert_close(model(other, mask), model(images, mask))
    assert not torch.allclose(model(other), model(images), atol=1e-3)


@pytest.mark.parametrize("config", [SHARED, APART])
def test_hidden_patches_alone_have_the_states_and_gradients_that_they_have_among_all(config):
    model, images, mask = model_of(config), pictures(), some_mask()
    assert len(set(mask.sum(dim=1).tolist())) == 2                      # rows of different lengths
    grads = []
    for short in (False, True):
        model.zero_grad()
        states = model.hidden_states(images, mask) if short else model(images, mask)[mask]
        (states * numbers(*states.shape, seed=3)).sum().backward()
        grads.append([states.detach(), *(p.grad for p in model.parameters())])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)
    for last in (1, 2, 3):
        want = [end[mask] for end in model.layers(images)[-last:]]
        got = model.hidden_layers(images, mask, last)
        assert len(got) == last
        for a, b in zip(got, want):
            torch.testing.assert_close(a, b)


def test_places_of_masks_are_in_order_and_count_the_class_token():
    mask = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]]).bool()
    places, real = places_of(mask)
    assert places.tolist() == [[2, 4], [1, 0]] and real.tolist() == [[True, True], [True, False]]


def test_gradients_reach_every_parameter():
    for config in (SHARED, APART):
        for model in (MaskedBEiT(config, 5), BEiTClassifier(config, 7)):
            stirred(model)
            model.train()
            masked = isinstance(model, MaskedBEiT)
            out = model(pictures().float(), *([some_mask()] if masked else []))
            assert out.shape == ((2, 16, 5) if masked else (2, 7))
            out.square().sum().backward()
            for name, p in model.named_parameters():
                hidden = name.endswith("mask_token") and not masked     # nothing is hidden from a classifier
                assert hidden or (p.grad is not None and p.grad.abs().sum() > 0), name


def test_branches_are_skipped_in_training_only_and_more_often_the_deeper_they_are():
    config = BEiTConfig(size=16, patch=4, width=12, layers=3, heads=2, ff=20, drop_path=0.5)
    model, images = model_of(config), pictures(4)
    assert [block.drop_path for block in model.blocks] == [0.0, 0.25, 0.5]
    torch.testing.assert_close(model(images), model(images))
    torch.testing.assert_close(model(images), model_of()(images))        # the same weights without skipping
    model.train()
    with seeded_block(0):
        first, second = model(images), model(images)
    assert not torch.allclose(first, second)
    with seeded_block(0):
        torch.testing.assert_close(model(images), first)
    with seeded_block(1):                                               # hidden patches, too
        assert model.hidden_states(images, some_mask(4)).shape == (int(some_mask(4).sum()), 12)


def test_a_skipped_block_gives_what_went_in():
    config = BEiTConfig(size=16, patch=4, width=12, layers=3, heads=2, ff=20, drop_path=0.999999)
    model, images = model_of(config).train(), pictures(2)
    with seeded_block(0):
        ends = model.layers(images)
    torch.testing.assert_close(ends[2], ends[1], atol=0, rtol=0)
    places = places_of(some_mask())[0]
    last = model.blocks[2]
    x = numbers(2, 17, 12, seed=4)
    with seeded_block(0):
        got = last(x, model.biases(4)[2], places)
    torch.testing.assert_close(got, x.gather(1, places[..., None].expand(-1, -1, 12)))


def test_a_fresh_model_starts_as_the_authors_start_it():
    with seeded_block(0):
        model = BEiT(BEiTConfig(size=32, patch=8, width=64, layers=4, heads=4, ff=256, layer_scale=1e-4))
    assert (model.table == 0).all() and (model.patches.project.bias == 0).all()
    for l, block in enumerate(model.blocks, start=1):
        assert (block.gamma_1 == 1e-4).all() and (block.gamma_2 == 1e-4).all()
        plain = block.feed_forward.inner.weight
        cut = math.sqrt(0.2911)                     # deviation of a normal number that is cut at one
        assert plain.abs().max() <= 0.02 and abs(plain.std() / (0.02 * cut) - 1) < 0.05
        for end in (block.attention.out.weight, block.feed_forward.outer.weight):
            assert abs(end.std() * math.sqrt(2 * l) / (0.02 * cut) - 1) < 0.05
        assert (block.attention.q_bias == 0).all() and (block.attention.out.bias == 0).all()


def test_queries_and_values_have_biases_and_keys_would_have_none_that_matter():
    names = [name for name, _ in BEiT(TINY).named_parameters()]
    assert any(name.endswith("q_bias") for name in names) and not any("k_bias" in name for name in names)
    Q, K = numbers(1, 2, 4, 3, seed=0), numbers(1, 2, 4, 3, seed=1)
    torch.testing.assert_close(attention_weights(Q, K + numbers(3, seed=2)), attention_weights(Q, K))


def test_e7_there_are_no_absolute_positions_and_without_offsets_patches_are_a_bag():
    model, images = model_of(), pictures()
    assert not any("pos" in name for name in model.state_dict())
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    cut = images.unflatten(2, (4, 4)).unflatten(4, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    mixed = cut[:, order].unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
    assert not torch.allclose(model.features(mixed), model.features(images), atol=1e-3)
    with torch.no_grad():
        model.table.zero_()
    torch.testing.assert_close(model.features(mixed), model.features(images))
    torch.testing.assert_close(model(mixed), model(images)[:, order])


def test_a_picture_of_another_size_is_read_with_the_table_resized():
    model = model_of()
    assert model.tokens(pictures(1, 24)).shape == (1, 37, 12)
    table = numbers(7 * 7 + 3, 2)
    assert resize_table(table, 4) is table
    larger = resize_table(table, 6)
    assert larger.shape == (11 * 11 + 3, 2) and torch.equal(larger[-3:], table[-3:])
    for k in range(2):
        for y in range(11):
            for x in range(11):
                want = 0.0
                for i in range(7):
                    for j in range(7):
                        share = 1.0
                        for at, near in ((y, i), (x, j)):
                            place = min(max((at + 0.5) * 7 / 11 - 0.5, 0), 6)
                            share *= max(0.0, 1 - abs(place - near))
                        want += share * float(table[i * 7 + j, k])
                assert abs(float(larger[y * 11 + x, k]) - want) < 1e-9


def test_attention_maps_are_those_that_the_model_reads_by():
    model, images = model_of(APART), pictures()
    maps = model.attention_maps(images)
    assert len(maps) == 3 and all(m.shape == (2, 2, 17, 17) for m in maps)
    z = model.blocks[0].attention_norm(model.embed(images))
    attention = model.blocks[0].attention
    _, _, V = attention.project(z)
    want = attention(z, model.biases(4)[0][None])
    torch.testing.assert_close(attention.out((maps[0] @ V).transpose(1, 2).flatten(2)), want)


def test_wrong_pictures_masks_tables_and_sizes_are_refused_with_the_remedy():
    model = model_of()
    with pytest.raises(ValueError, match="crop them to squares"):
        model(numbers(1, 3, 16, 12))
    with pytest.raises(ValueError, match="multiples of it"):
        model(numbers(1, 3, 18, 18))
    with pytest.raises(ValueError, match="give one truth value a patch"):
        model(pictures(), some_mask(2, 9))
    with pytest.raises(ValueError, match="three of the class token"):
        resize_table(numbers(10, 2), 4)
    with pytest.raises(ValueError, match="choose a patch that divides it"):
        BEiTConfig(size=30)
    with pytest.raises(ValueError, match="choose a number that does"):
        BEiTConfig(heads=7)
    with pytest.raises(ValueError, match="choose less than 1"):
        BEiTConfig(drop_path=1.0)
