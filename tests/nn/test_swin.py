import math

import pytest
import torch
import torch.nn.functional as F

from mmlearn.catalog import count_parameters
from mmlearn.nn.swin import (
    ConvEmbedding,
    PatchMerging,
    Swin,
    SwinBlock,
    SwinConfig,
    WindowAttention,
    from_windows,
    inflate,
    relative_bias,
    relative_index,
    shift_mask,
    to_windows,
    window_attention,
)

SMALL = SwinConfig(56, 16, (2, 2), (2, 4), 7, drop_path=0.0)


def shaken(model, amount=0.2):
    """Random biases, gains and tables: nothing stays where a mistake would not show."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 1 or "table" in name:
                value.add_(amount * torch.randn_like(value))
    return model.eval()


# ---------------------------------------------------------------------------------------------------- windows

def test_windows_are_squares_of_neighbours_and_come_back_as_the_map():
    x = torch.arange(24.0).view(1, 4, 6, 1)
    windows = to_windows(x, 2)
    assert windows[0, 1, :, 0].tolist() == [2, 3, 8, 9]
    assert windows[0, 3, :, 0].tolist() == [12, 13, 18, 19]
    torch.testing.assert_close(from_windows(windows, 4, 6), x)


@pytest.mark.equation("eq:relative-index")
@pytest.mark.parametrize("m, M", [(3, 3), (2, 3), (1, 4)])
def test_pairs_with_the_same_offset_share_a_row_of_the_table(m, M):
    index = relative_index(m, M)
    for i in range(m * m):
        for j in range(m * m):
            dy, dx = i // m - j // m, i % m - j % m
            assert int(index[i, j]) == (2 * M - 1) * (dy + M - 1) + dx + M - 1
    assert int(index.min()) >= 0 and int(index.max()) < (2 * M - 1) ** 2
    assert len(index.unique()) == (2 * m - 1) ** 2


@pytest.mark.equation("eq:relative-bias")
def test_the_bias_of_a_pair_is_read_from_the_table_by_its_offset():
    table, m = torch.randn(25, 2, dtype=torch.float64), 3
    want = torch.empty(2, 9, 9, dtype=torch.float64)
    for i in range(9):
        for j in range(9):
            dy, dx = i // 3 - j // 3, i % 3 - j % 3
            want[:, i, j] = table.view(5, 5, 2)[dy + 2, dx + 2]
    torch.testing.assert_close(relative_bias(table, m), want)
    middle = relative_bias(table, 2)  # a smaller window reads the middle of the table
    torch.testing.assert_close(middle[:, 0, 3], table.view(5, 5, 2)[1, 1])


@pytest.mark.equation("eq:shift-mask")
@pytest.mark.parametrize("y, x, m, shift", [(8, 8, 4, 2), (6, 9, 3, 1), (14, 21, 7, 3)])
def test_cells_that_meet_in_a_rolled_window_see_each_other_if_they_were_neighbours(y, x, m, shift):
    rows, columns = torch.meshgrid(torch.arange(y), torch.arange(x), indexing="ij")
    rolled = to_windows(torch.stack([rows, columns], -1).roll((-shift, -shift), (0, 1))[None].float(),
                        m)[0].long()
    mask = shift_mask(y, x, m, shift)
    assert mask.shape == (len(rolled), m * m, m * m)
    for window in range(len(rolled)):
        for i in range(m * m):
            for j in range(m * m):
                # else they met across the seam
                near = (rolled[window, i] - rolled[window, j]).abs().max() < m
                assert bool(mask[window, i, j]) == bool(near)


@pytest.mark.equation("eq:window-attention")
def test_window_attention_is_softmax_of_scores_plus_bias():
    Q, K, V = (torch.randn(2, 3, 4, 5, dtype=torch.float64) for _ in range(3))
    B = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    B[0, :, 1, 2] = -math.inf
    want = torch.zeros_like(V)
    for n in range(2):
        for h in range(3):
            for i in range(4):
                e = [math.exp(float(Q[n, h, i] @ K[n, h, j]) / math.sqrt(5) + float(B[0, h, i, j]))
                     for j in range(4)]
                want[n, h, i] = sum(e[j] / sum(e) * V[n, h, j] for j in range(4))
    torch.testing.assert_close(window_attention(Q, K, V, B), want)


def reads(shifted, side=8, window=4):
    """Which cells change the output at which cell, (p, p): row = output."""
    torch.manual_seed(0)
    layer = WindowAttention(8, 2, window).double()
    x = torch.randn(1, side, side, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: layer(z, shifted).sum(-1), x)
    return jacobian.abs().sum(-1).view(side * side, side * side) > 1e-12


def test_a_cell_reads_its_window_and_shifted_windows_are_cut_at_the_seam():
    place = torch.stack([torch.arange(64) // 8, torch.arange(64) % 8], -1)
    plain = (place[:, None] // 4 == place // 4).all(-1)
    assert torch.equal(reads(False), plain)
    moved = ((place[:, None] + 2) // 4 == (place + 2) // 4).all(-1)     # windows that begin two cells earlier
    assert torch.equal(reads(True), moved)


def test_two_blocks_join_windows_that_one_does_not():
    assert not bool(reads(False)[0, 63]) and not bool(reads(False)[27, 28])
    assert bool(reads(True)[27, 28])                                    # neighbours on both sides of a border


def test_a_window_larger_than_the_map_sees_all_of_it_and_is_not_shifted():
    torch.manual_seed(0)
    layer = shaken(WindowAttention(8, 2, 7)).double()
    x = torch.randn(2, 4, 4, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x, True), layer(x, False))
    q, k, v = (z.unflatten(-1, (2, 4)).transpose(1, 2) for z in layer.project(x.flatten(1, 2)).chunk(3, -1))
    read = window_attention(q, k, v, relative_bias(layer.table, 4)[None])
    torch.testing.assert_close(layer(x), layer.out(read.transpose(1, 2).flatten(2)).view_as(x))


def test_a_map_that_is_no_multiple_of_the_window_is_filled_with_zeros():
    torch.manual_seed(0)
    layer = shaken(WindowAttention(8, 2, 4)).double()
    x = torch.randn(1, 6, 5, 8, dtype=torch.float64)
    filled = F.pad(x, (0, 0, 0, 3, 0, 2))
    for shifted in (False, True):
        torch.testing.assert_close(layer(x, shifted), layer(filled, shifted)[:, :6, :5])


# --------------------------------------------------------------------------------------------- between stages

@pytest.mark.equation("eq:patch-merging")
def test_merging_joins_four_cells_normalises_and_narrows():
    torch.manual_seed(0)
    merge = shaken(PatchMerging(3)).double()
    x = torch.randn(1, 5, 4, 3, dtype=torch.float64)
    want = torch.empty(1, 3, 2, 6, dtype=torch.float64)
    for i in range(3):
        for j in range(2):
            cells = [x[0, 2 * i + dy, 2 * j + dx] if 2 * i + dy < 5 else torch.zeros(3).double()
                     for dy, dx in ((0, 0), (1, 0), (0, 1), (1, 1))]
            four = torch.cat(cells)
            normal = (four - four.mean()) / torch.sqrt(
                four.var(unbiased=False) + 1e-5
            ) * merge.norm.weight + merge.norm.bias
            want[0, i, j] = merge.reduce.weight @ normal
    torch.testing.assert_close(merge(x), want)


@pytest.mark.equation("eq:inflation")
def test_an_inflated_kernel_answers_a_still_clip_as_the_kernel_of_pictures_answers_a_frame():
    torch.manual_seed(0)
    weight, frame = torch.randn(4, 3, 3, 3, dtype=torch.float64), torch.randn(1, 3, 7, 7, dtype=torch.float64)
    kernel = inflate(weight, 4)
    for tau in range(4):
        torch.testing.assert_close(kernel[:, :, tau], weight / 4)
    clip = frame[:, :, None].expand(-1, -1, 6, -1, -1)
    answer = F.conv3d(clip, kernel)
    torch.testing.assert_close(answer, F.conv2d(frame, weight)[:, :, None].expand_as(answer))
    moving = torch.randn_like(clip)
    assert not torch.allclose(F.conv3d(moving, kernel)[:, :, 0], F.conv2d(moving[:, :, 0], weight))
    with pytest.raises(ValueError, match="frames is 0"):
        inflate(weight, 0)


# -------------------------------------------------------------------------------------------------- the trunk

@pytest.mark.parametrize("config, count", [(SwinConfig.swin_t(), 27_519_354),
                                           (SwinConfig.swin_b(), 86_743_224),
                                           (SwinConfig.coswin_h(), 637_521_712)])
def test_published_sizes(config, count):
    with torch.device("meta"):
        model = Swin(config)
    assert count_parameters(model) == count


def test_maps_halve_and_channels_double_at_any_size():
    model = Swin(SwinConfig.mini()).eval()
    for side in (64, 72):
        shapes = [tuple(x.shape) for x in model.maps(torch.randn(1, 3, side, side))]
        assert shapes == [(1, 48, side // 4, side // 4), (1, 96, side // 8, side // 8),
                          (1, 192, -(-side // 16), -(-side // 16))]
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 192)
    with torch.device("meta"):
        huge = Swin(SwinConfig.coswin_h())
        assert [x.shape[-1] for x in huge.maps(torch.empty(1, 3, 384, 384))] == [96, 48, 24, 12]


def test_the_vector_is_the_mean_of_normalised_cells_and_rows_do_not_mix():
    torch.manual_seed(0)
    model, images = shaken(Swin(SMALL)), torch.randn(3, 3, 56, 56)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model.tokens(images).mean(1))
        torch.testing.assert_close(model(images[1:2])[0], model(images)[1], atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter_and_dropped_paths_only_in_training():
    torch.manual_seed(0)
    model, images = Swin(SwinConfig.mini()), torch.randn(2, 3, 64, 64)
    model(images).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
    block, x = SwinBlock(8, 2, 4, True, 0.5), torch.randn(64, 4, 4, 8)
    same = (block(x) == x).flatten(1).all(1)
    assert 0 < int(same.sum()) < 40  # both parts left out: a quarter of the pictures
    assert not bool((block.eval()(x) == x).flatten(1).all(1).any())


def test_a_cached_index_from_inference_can_be_trained_with():
    relative_index.cache_clear()
    shift_mask.cache_clear()
    model, images = Swin(SwinConfig.mini()), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        model(images)
    model(images).sum().backward()


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="2 depths and 3 numbers of heads"):
        SwinConfig(depths=(2, 2), heads=(1, 2, 4))
    with pytest.raises(ValueError, match="stage 1 has 96 channels and 5 heads"):
        SwinConfig(heads=(5, 6, 12, 24))
    with pytest.raises(ValueError, match="the convolution reads 7"):
        Swin(SwinConfig.mini())(torch.randn(1, 3, 2, 2))


# ----------------------------------------------------------------------------------------------------- parity

TIMM = (("attention_norm", "norm1"), ("feed_forward_norm", "norm2"), ("attention.project", "attn.qkv"),
        ("attention.out", "attn.proj"), ("attention.table", "attn.relative_position_bias_table"),
        ("feed_forward.inner", "mlp.fc1"), ("feed_forward.outer", "mlp.fc2"))


def timm_name(name):
    parts = name.split(".")
    if parts[0] == "embeddings" and parts[1] == "0":
        return "patch_embed." + ("proj" if parts[2] == "project" else "norm") + "." + parts[3]
    if parts[0] == "embeddings":
        return (
            f"layers.{parts[1]}.downsample."
            + ("reduction" if parts[2] == "reduce" else "norm")
            + "."
            + parts[3]
        )
    if parts[0] == "stages":
        rest = ".".join(parts[3:])
        for ours, theirs in TIMM:
            if rest.startswith(ours + ".") or rest == ours:
                rest = theirs + rest.removeprefix(ours)
                break
        return f"layers.{parts[1]}.blocks.{parts[2]}.{rest}"
    return name


@pytest.mark.parity
@pytest.mark.parametrize("side", [56, 84])
def test_with_patches_it_is_timms_swin_transformer(side):
    """At 84 pixels the first map (21) is whole windows and the second (11) is not."""
    from timm.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    theirs = shaken(SwinTransformer(img_size=side, embed_dim=16, depths=(2, 2), num_heads=(2, 4),
                                    window_size=7, num_classes=0))
    ours = Swin(SMALL).eval()
    state = {name: value for name, value in theirs.state_dict().items()
             if "relative_position_index" not in name and "attn_mask" not in name}
    names = {name: timm_name(name) for name in ours.state_dict()}
    assert set(names.values()) == set(state)
    ours.load_state_dict({name: state[other] for name, other in names.items()})
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        if side == 56:
            torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-5)
        else:  # timm rolls before it fills up; compare the first stage
            first = theirs.layers[0](theirs.patch_embed(images))
            torch.testing.assert_close(ours.stage_maps(images)[0], first, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_with_patches_it_is_transformers_swin_model_also_where_windows_are_filled_up():
    from transformers import SwinConfig as TheirConfig
    from transformers import SwinModel

    torch.manual_seed(0)
    theirs = shaken(SwinModel(TheirConfig(image_size=72, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
                                          window_size=4, drop_path_rate=0.0), add_pooling_layer=True))
    ours = Swin(SwinConfig(72, 16, (2, 2), (2, 4), 4, drop_path=0.0)).eval()
    state = {name: value for name, value in theirs.state_dict().items()
             if "relative_position_index" not in name}
    filled, used = {}, set()
    for name in ours.state_dict():
        parts, tail = name.split("."), name.rsplit(".", 1)[-1]
        if parts[0] == "embeddings":
            base = ("embeddings." + {"project": "patch_embeddings.projection",
                                     "norm": "norm"}[parts[2]] if parts[1] == "0" else
                    "encoder.layers.0.downsample." + {"reduce": "reduction", "norm": "norm"}[parts[2]])
            wanted = [f"{base}.{tail}"]
        elif parts[0] == "norm":
            wanted = [f"layernorm.{tail}"]
        else:
            block = f"encoder.layers.{parts[1]}.blocks.{parts[2]}."
            rest = ".".join(parts[3:-1]) if tail != "table" else "attention.table"
            wanted = {
                "attention.project": [f"{block}attention.{x}_proj.{tail}" for x in "qkv"],
                "attention.out": [f"{block}attention.o_proj.{tail}"],
                "attention.table": [f"{block}attention.relative_position_bias.relative_position_bias_table"],
                "attention_norm": [f"{block}layernorm_before.{tail}"],
                "feed_forward_norm": [f"{block}layernorm_after.{tail}"],
                "feed_forward.inner": [f"{block}mlp.fc1.{tail}"],
                "feed_forward.outer": [f"{block}mlp.fc2.{tail}"],
            }[rest]
        used.update(wanted)
        filled[name] = torch.cat([state[other] for other in wanted])
    assert used == set(state), (sorted(set(state) - used)[:5], sorted(used - set(state))[:5])
    ours.load_state_dict(filled)
    images = torch.randn(2, 3, 72, 72)  # maps of 18 and 9 cells a side, windows of 4
    with torch.no_grad():
        found = theirs(images)
        torch.testing.assert_close(ours.tokens(images), found.last_hidden_state, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours(images), found.pooler_output, atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_convolutional_embeddings_are_those_of_transformers_cvt_model():
    from transformers import CvtConfig, CvtModel

    torch.manual_seed(0)
    theirs = shaken(CvtModel(CvtConfig(embed_dim=[16, 32, 64], num_heads=[1, 2, 4], depth=[1, 2, 3])))
    channels, x = 3, torch.randn(2, 3, 56, 56)
    for stage, (kernel, stride, padding) in enumerate(((7, 4, 2), (3, 2, 1), (3, 2, 1))):
        layer = theirs.encoder.stages[stage].embedding.convolution_embeddings
        ours = ConvEmbedding(channels, 16 * 2**stage, kernel, stride, padding)
        ours.load_state_dict({"project.weight": layer.projection.weight,
                              "project.bias": layer.projection.bias,
                              "norm.weight": layer.normalization.weight,
                              "norm.bias": layer.normalization.bias})
        with torch.no_grad():
            want = layer(x)
            torch.testing.assert_close(ours(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), want, atol=1e-5,
                                       rtol=1e-5)
        channels, x = 16 * 2**stage, want
    built = Swin(SwinConfig(56, 16, (1, 1, 1), (2, 4, 8), 7, convolutional=True)).embeddings
    assert [(e.project.kernel_size[0], e.project.stride[0],
             e.project.padding[0]) for e in built] == [(7, 4, 2), (3, 2, 1), (3, 2, 1)]
