"""The parts that U-Nets of diffusion share: each equation by loops, and what a fresh block does."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import redrawn
from torch import nn

from mmlearn.nn.attention import record_attention
from mmlearn.nn.norm_activation import NormActivation, in_order, norm_activation
from mmlearn.text2image.unet import (
    Downsample,
    GroupNorm,
    ResidualBlock,
    SpatialAttention,
    TimeEmbedding,
    UNet,
    UNetConfig,
    Upsample,
    conv3,
    conv_doubled,
    doubled_kernel,
    read_maps,
    sinusoids,
    sinusoids_ddpm,
)

TINY = UNetConfig(8, 8, (1, 2), 1, (4,), heads=2, groups=4)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -------------------------------------------------------------------------------------------------- equations


@pytest.mark.equation("eq:unet-time")
@pytest.mark.equation("eq:unet-time-ddpm")
def test_waves_of_a_timestep_are_their_formulas():
    t = torch.tensor([0, 1, 37, 999])
    for waves, first, second, least in ((sinusoids, math.cos, math.sin, 4),
                                        (sinusoids_ddpm, math.sin, math.cos, 3)):
        got = waves(t, 8)
        for i, step in enumerate(t.tolist()):
            angles = [step * 10_000 ** (-k / least) for k in range(4)]
            want = [first(a) for a in angles] + [second(a) for a in angles]
            assert got[i].tolist() == pytest.approx(want, abs=2e-4)          # 999 radians in single precision
    assert waves(t, 7).shape == (4, 7) and not waves(t, 7)[:, -1].any()      # an odd width ends in a zero
    assert torch.equal(sinusoids(torch.tensor([0.5]), 4)[0, :2], torch.tensor([0.5, 0.005]).cos())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.equation("eq:norm-activation")
def test_norm_scale_shift_and_activation_are_their_formula(layout):
    x = draw(2, 6, 3, 2).to(memory_format=layout)
    scale, shift = draw(2, 6, seed=1), draw(2, 6, seed=2)
    norm = redrawn(nn.GroupNorm(3, 6, eps=1e-3).double())
    got, plain = norm_activation(x, norm, scale, shift), norm_activation(x, norm)
    for b in range(2):
        for c in range(6):
            group = x[b, c - c % 2: c - c % 2 + 2].flatten().tolist()
            mean = sum(group) / len(group)
            deviation = math.sqrt(sum((v - mean) ** 2 for v in group) / len(group) + 1e-3)
            for y in range(3):
                for i in range(2):
                    h = (float(x[b, c, y, i]) - mean) / deviation
                    h = h * float(norm.weight[c]) + float(norm.bias[c])
                    assert float(plain[b, c, y, i]) == pytest.approx(h / (1 + math.exp(-h)))
                    h = h * (1 + float(scale[b, c])) + float(shift[b, c])
                    assert float(got[b, c, y, i]) == pytest.approx(h / (1 + math.exp(-h)))
    assert plain.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("modulated", [False, True])
def test_the_gradient_that_norm_and_activation_compute_again_is_right(layout, modulated):
    x = draw(2, 6, 3, 2).to(memory_format=layout).requires_grad_()
    norm = redrawn(nn.GroupNorm(3, 6).double())
    scale, shift = draw(2, 6, seed=1).requires_grad_(), draw(2, 6, seed=2).requires_grad_()
    condition = (scale, shift) if modulated else (None, None)

    def run(x, weight, bias, *_):
        return NormActivation.apply(x, weight, bias, *condition, 3, 1e-5, 0.0)

    inputs = (x, norm.weight, norm.bias, *(condition if modulated else ()))
    assert torch.autograd.gradcheck(run, inputs)


def test_dropout_of_an_activation_leaves_its_mean_and_drops_the_same_backwards():
    x = draw(1, 4, 64, 64, dtype=torch.float32).requires_grad_()
    norm = nn.GroupNorm(2, 4)
    whole, got = norm_activation(x, norm), norm_activation(x, norm, dropout=0.25)
    left = got != 0
    assert float(left.float().mean()) == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(got[left], whole[left] / 0.75)
    gradient, = torch.autograd.grad(got.sum(), x, retain_graph=True)
    want, = torch.autograd.grad((whole * left / 0.75).sum(), x)
    torch.testing.assert_close(gradient, want, atol=1e-5, rtol=1e-4)
    assert not norm_activation(x, norm, dropout=1).any()


def test_norm_and_activation_keep_one_map_and_a_byte_a_number():
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    norm, bytes_kept = nn.GroupNorm(4, 8), []

    def pack(tensor):
        bytes_kept.append(tensor.nbytes if tensor.data_ptr() != x.data_ptr() else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        norm_activation(x, norm, torch.zeros(2, 8), torch.zeros(2, 8), dropout=0.5)
    assert sum(bytes_kept) < x.numel() + 1000


def test_in_16_bit_norm_and_activation_are_those_of_single_precision():
    x, norm = torch.randn(2, 8, 4, 4).bfloat16(), redrawn(nn.GroupNorm(4, 8))
    got = norm_activation(x, norm)
    assert got.dtype == torch.bfloat16 and torch.equal(got, norm_activation(x.float(), norm).bfloat16())


@pytest.mark.equation("eq:unet-up")
def test_a_doubled_map_filtered_is_one_transposed_convolution():
    conv = conv3(3, 2).double()
    x = draw(2, 3, 3, 5).requires_grad_()
    doubled = torch.zeros(2, 3, 8, 12, dtype=torch.float64)                  # with a margin of 1
    for y in range(6):
        for i in range(10):
            doubled[:, :, y + 1, i + 1] = x[:, :, y // 2, i // 2]
    got = conv_doubled(x, conv)
    for y in range(6):
        for i in range(10):
            patch = doubled[:, :, y: y + 3, i: i + 3]
            want = torch.einsum("bcyx,ocyx->bo", patch, conv.weight) + conv.bias
            torch.testing.assert_close(got[:, :, y, i], want)
    kernel = doubled_kernel(conv.weight)
    assert kernel.shape == (3, 2, 4, 4)
    torch.testing.assert_close(kernel[1, 0, 1, 2], conv.weight[0, 1, 1:3, 0:2].sum())
    usual = F.conv2d(F.interpolate(x, scale_factor=2.0), conv.weight, conv.bias, padding=1)
    inputs = (x, conv.weight, conv.bias)
    for a, b in zip(torch.autograd.grad(got.square().sum(), inputs),
                    torch.autograd.grad(usual.square().sum(), inputs)):
        torch.testing.assert_close(a, b)


@pytest.mark.equation("eq:unet-up")
@pytest.mark.parametrize("batch", [15, 16])             # 240 places are doubled first, 256 never
def test_few_and_many_places_are_doubled_alike(batch):
    conv = conv3(3, 2).double()
    x = draw(batch, 3, 4, 4).requires_grad_()
    usual = F.conv2d(F.interpolate(x, scale_factor=2.0), conv.weight, conv.bias, padding=1)
    got, inputs = conv_doubled(x, conv), (x, conv.weight, conv.bias)
    torch.testing.assert_close(got, usual)
    for a, b in zip(torch.autograd.grad(got.square().sum(), inputs),
                    torch.autograd.grad(usual.square().sum(), inputs)):
        torch.testing.assert_close(a, b)


@pytest.mark.equation("eq:unet-attention")
def test_attention_scaled_by_both_fourth_roots_is_attention():
    Q, K, V = draw(1, 2, 3, 4), draw(1, 2, 5, 4, seed=1), draw(1, 2, 5, 4, seed=2)
    got = read_maps(Q, K, V)
    for h in range(2):
        for i in range(3):
            scores = [math.exp(float(Q[0, h, i] @ K[0, h, j]) / 2) for j in range(5)]
            want = sum(s / sum(scores) * V[0, h, j] for j, s in enumerate(scores))
            torch.testing.assert_close(got[0, h, i], want)
    torch.testing.assert_close(F.scaled_dot_product_attention(Q, K, V), got)


def test_halves_do_not_overflow_where_their_product_would():
    Q = torch.full((1, 1, 2, 64), 60.0, dtype=torch.float16)                 # products of 230,400 > 65,504
    assert (Q @ Q.mT).isinf().all()
    assert read_maps(Q, Q, Q).isfinite().all() and F.scaled_dot_product_attention(Q, Q, Q).isfinite().all()


# ----------------------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize("sampling", ["same", "down", "up"])
@pytest.mark.equation("eq:unet-residual")
def test_a_residual_block_is_its_formula(modulated, sampling):
    block = redrawn(ResidualBlock(4, 6, 5, modulated=modulated, sampling=sampling, groups=2).double())
    x, embedding = draw(2, 4, 4, 4), draw(2, 5, seed=1)

    def norm(layer, h):
        return F.group_norm(h, layer.num_groups, layer.weight, layer.bias, 1e-5)

    def resampled(h):
        if sampling == "down":
            return F.avg_pool2d(h, 2)
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3) if sampling == "up" else h

    e = block.condition(embedding * embedding.sigmoid())[:, :, None, None]
    h = norm(block.norm1, x)
    h = block.conv1(resampled(h * h.sigmoid()))
    h = (norm(block.norm2, h) * (1 + e[:, :6]) + e[:, 6:]) if modulated else norm(block.norm2, h + e)
    want = block.shortcut(resampled(x)) + block.conv2(h * h.sigmoid())
    torch.testing.assert_close(block(x, embedding), want)


def test_a_fresh_block_is_the_identity_and_a_fresh_attention_too():
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 5)
    assert torch.equal(ResidualBlock(8, 8, 5)(x, embedding), x)
    wider = ResidualBlock(8, 6, 5)
    assert torch.equal(wider(x, embedding), wider.shortcut(x))
    assert torch.equal(SpatialAttention(8, 2, context=3)(x, torch.randn(2, 4, 3)), x)


def test_dropout_of_a_block_is_for_training_only():
    block = redrawn(ResidualBlock(8, 8, 5, dropout=0.5, groups=4))
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 5)
    assert not torch.equal(block(x, embedding), block(x, embedding))
    block.eval()
    assert torch.equal(block(x, embedding), block(x, embedding))


def test_a_block_with_an_unknown_sampling_is_refused():
    with pytest.raises(ValueError, match="sampling is 'half'; use one of same, down, up"):
        ResidualBlock(8, 8, 5, sampling="half")


def test_places_attend_to_the_context_first_and_then_to_all_places():
    layer = redrawn(SpatialAttention(6, 2, context=5, groups=3).double())
    x, context = draw(2, 6, 2, 3), draw(2, 4, 5, seed=1)
    tokens = F.group_norm(x, 3, layer.norm.weight, layer.norm.bias, 1e-5).flatten(2).transpose(1, 2)
    q, k, v = (tokens @ layer.in_weight.T + layer.in_bias).split(6, dim=2)
    more = context @ layer.context.weight.T + layer.context.bias
    k, v = torch.cat([more[..., :6], k], 1), torch.cat([more[..., 6:], v], 1)
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(3)).softmax(2)
        heads.append(weights @ v[..., part])
    want = x + layer.out(torch.cat(heads, 2)).transpose(1, 2).reshape(2, 6, 2, 3)
    with record_attention(layer) as recorded:
        got = layer(x, context)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(layer(x, context), want)
    torch.testing.assert_close(recorded[""][:, 1], weights)
    assert recorded[""].shape == (2, 2, 6, 4 + 6)
    assert not torch.equal(layer(x, context), layer(x))
    with pytest.raises(ValueError, match="a context was given, and this U-Net has no layers that read one"):
        SpatialAttention(6)(x.float(), context.float())


def test_a_stride_starts_at_the_first_pixel_as_tensorflow_pads_or_before_it():
    x = draw(1, 2, 4, 4)
    after, around = Downsample(2, 3, after=True).double(), Downsample(2, 3).double()
    weight = after.conv.weight
    padded = F.pad(x, (0, 1, 0, 1))
    for y in range(2):
        for i in range(2):
            want = torch.einsum("cyx,ocyx->o", padded[0, :, 2 * y: 2 * y + 3, 2 * i: 2 * i + 3], weight)
            torch.testing.assert_close(after(x)[0, :, y, i], want + after.conv.bias)
    padded = F.pad(x, (1, 1, 1, 1))
    want = torch.einsum("cyx,ocyx->o", padded[0, :, :3, 2:5], around.conv.weight) + around.conv.bias
    torch.testing.assert_close(around(x)[0, :, 0, 1], want)
    assert Upsample(2, 5).double()(x).shape == (1, 5, 8, 8)


def test_groups_of_a_norm_divide_the_channels():
    assert [GroupNorm(c).num_groups for c in (320, 48, 144, 6, 5)] == [32, 16, 16, 2, 1]
    assert GroupNorm(64, 16).num_groups == 16


def test_the_embedding_of_a_timestep_is_two_layers_over_waves():
    layer = TimeEmbedding(8)
    t = torch.tensor([3, 900])
    hidden = sinusoids(t, 8) @ layer.linear1.weight.T + layer.linear1.bias
    want = (hidden * hidden.sigmoid()) @ layer.linear2.weight.T + layer.linear2.bias
    torch.testing.assert_close(layer(t), want)
    torch.testing.assert_close(layer(t.float()), want)
    assert layer.bfloat16()(t).dtype == torch.bfloat16


# -------------------------------------------------------------------------------------------------- the model


def test_a_fresh_unet_predicts_nothing_and_every_parameter_learns():
    model = UNet(TINY)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([0, 9])
    assert not model(x, t).any()
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(3):                           # what starts at 0 lets the layers before it learn later
        adam.zero_grad()
        F.mse_loss(model(x, t), torch.randn(2, 3, 8, 8)).backward()
        adam.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_every_map_of_the_way_down_reaches_the_way_up(monkeypatch):
    model = redrawn(UNet(TINY))
    x, t = torch.randn(1, 3, 8, 8), torch.tensor([5])
    want, (middle, kept) = model(x, t), model.descend(x, model.time(t))
    assert [one.shape[1] for one in kept] == model.kept == [8, 8, 8, 16]
    for i in range(4):
        others = [one * (j != i) for j, one in enumerate(kept)]
        monkeypatch.setattr(model, "descend", lambda *inputs, others=others: (middle, others))
        assert not torch.allclose(model(x, t), want)


def test_a_row_of_a_batch_is_what_it_is_alone_and_so_is_the_layout():
    model = redrawn(UNet(TINY)).eval()
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([0, 500, 999])
    whole = model(x, t)
    for i in range(3):
        torch.testing.assert_close(model(x[i: i + 1], t[i: i + 1])[0], whole[i], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(x, t), whole, atol=1e-5, rtol=1e-4)


def test_a_unet_runs_under_autocast_and_without_a_gradient():
    model = redrawn(UNet(TINY))
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([1, 2])
    want = model(x, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = model(x, t)
        got.float().square().sum().backward()
    assert (got - want).abs().max() < 0.1 * want.abs().max()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    with torch.inference_mode():
        torch.testing.assert_close(model(x, t), want)


@pytest.mark.parametrize("change, sentence", [
    (dict(size=6, multipliers=(1, 2, 2)), "size of UNetConfig is 6, which cannot be halved 2 times"),
    (dict(multipliers=()), "multipliers of UNetConfig is empty"),
    (dict(multipliers=(0.3,)), "makes no whole numbers of channels of width 128"),
    (dict(heads=3), "heads of UNetConfig is 3, which does not divide the 256 channels"),
    (dict(head_channels=96), "head_channels of UNetConfig is 96, which does not divide the 256 channels"),
    (dict(width=0), "width of UNetConfig is 0, expected from 1"),
])
def test_impossible_sizes_are_refused_in_a_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        UNetConfig(**change)


def test_maps_of_another_size_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="maps have 3 channels of 8 x 4, the U-Net wants 3 of 8 x 8"):
        UNet(TINY)(torch.randn(1, 3, 8, 4), torch.tensor([0]))


def test_maps_for_an_accelerator_s_group_norm_have_one_channel_behind_the_other():
    there = torch.empty(2, 8, 4, 4, device="meta").to(memory_format=torch.channels_last)
    here = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert in_order(there).is_contiguous()
    assert in_order(here) is here                           # a CPU takes it as it is
