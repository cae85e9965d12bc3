"""Imagen: formulas by loops, sizes beside the stated ones, thresholding as in diffusers, and the usual
promises."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, stirred

from mmlearn.nn.modes import blank
from mmlearn.nn.t5 import T5Config
from mmlearn.text2image.adm import ADMConfig
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.efficient_unet import (
    EfficientUNet,
    EfficientUNetConfig,
    ReadingBlock,
    scaled_residual,
)
from mmlearn.text2image.imagen import (
    Imagen,
    ImagenBase,
    ImagenConfig,
    ImagenUpsampler,
    TextCondition,
    augmented,
    base_loss,
    draw_pictures,
    drop_text,
    pooled,
    upsampler_loss,
)
from mmlearn.text2image.samplers import dynamic_threshold

UP = EfficientUNetConfig(16, (8, 16), (1, 2), True, 4, 12, 8, 4)
TINY = ImagenConfig(
    T5Config(30, 16, 2, 8, 20, 1, 8, 20),
    ADMConfig(8, 8, (1.0, 2.0), 1, (4,), out_channels=3, groups=4, head_channels=8, context=16), UP,
    replace(UP, size=32, low=16, self_attention=False))


def texts(b=2):
    g = torch.Generator().manual_seed(0)
    mask = torch.arange(5) < torch.tensor([5, 3])[:b, None]
    return torch.randn(b, 5, 16, generator=g), mask


# --------------------------------------------------------------------------------------------- sizes


def test_sizes_are_told_beside_the_stated_ones():
    with blank():
        model = Imagen(ImagenConfig.paper())
    assert count(model.text) == 4_762_310_656
    assert not any(p.requires_grad for p in model.text.parameters())
    assert count(model.base) == 2_424_829_955                        # stated: 2B
    assert count(model.first) == 601_908_227                         # stated: 600M
    assert count(model.second) == 597_709_827                        # stated: 400M, with blocks not told


# ------------------------------------------------------------------------------------------ equations


@pytest.mark.equation("eq:imagen-pool")
def test_a_learned_query_pools_the_real_tokens_of_a_text():
    Q, K, V = (torch.randn(*s, dtype=torch.float64) for s in ((2, 3), (2, 2, 5, 3), (2, 2, 5, 3)))
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    for b, got in enumerate(pooled(Q, K, V, mask)):
        want = []
        for h in range(2):
            n = int(mask[b].sum())
            w = [math.exp(float(Q[h] @ K[b, h, i]) / math.sqrt(3)) for i in range(n)]
            want.append(sum(w[i] * V[b, h, i] for i in range(n)) / sum(w))
        torch.testing.assert_close(got, torch.cat(want))
    assert (pooled(Q, K, V, torch.zeros(2, 5, dtype=torch.bool)) == 0).all()


@pytest.mark.equation("eq:imagen-augmentation")
def test_augmentation_adds_a_known_share_of_noise():
    low, noise = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    level = torch.tensor([0.0, 0.3], dtype=torch.float64)
    got = augmented(low, noise, level)
    torch.testing.assert_close(got[0], low[0])
    want = [
        math.sqrt(0.7) * float(a) + math.sqrt(0.3) * float(e)
        for a, e in zip(low[1].flatten(), noise[1].flatten())
    ]
    torch.testing.assert_close(got[1].flatten(), torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:imagen-drop")
def test_a_dropped_text_is_zeros():
    states, mask = (part.repeat_interleave(500, 0) for part in texts())
    dropped, real = drop_text(states, mask, 0.1, torch.Generator().manual_seed(0))
    gone = ~real.any(1)
    assert 0.07 < float(gone.float().mean()) < 0.13 and (dropped[gone] == 0).all()
    assert torch.equal(dropped[~gone], states[~gone])


@pytest.mark.equation("eq:imagen-skip")
def test_skips_are_scaled_by_the_root_of_a_half():
    x, h = torch.randn(2, 1, 2, 3, 3, dtype=torch.float64)
    want = [float(a) * 0.5**0.5 + float(b) for a, b in zip(x.flatten(), h.flatten())]
    torch.testing.assert_close(scaled_residual(x, h).flatten(), torch.tensor(want, dtype=torch.float64))


@pytest.mark.parity
def test_dynamic_thresholding_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(
        thresholding=True, dynamic_thresholding_ratio=0.995, sample_max_value=1e6
    )
    x0 = torch.randn(3, 3, 8, 8) * torch.tensor([0.2, 1.0, 4.0])[:, None, None, None]
    torch.testing.assert_close(dynamic_threshold(x0), theirs._threshold_sample(x0), atol=1e-6, rtol=1e-5)
    assert torch.equal(dynamic_threshold(x0[:1]), x0[:1])               # nothing to be done within [-1, 1]
    plain = diffusers.DDPMScheduler(thresholding=True)                   # its default is a plain clip
    torch.testing.assert_close(plain._threshold_sample(x0), x0.clamp(-1, 1))


def test_dynamic_thresholding_keeps_what_a_clip_saturates():
    x0 = 3 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    dynamic, static = dynamic_threshold(x0), x0.clamp(-1, 1)
    assert float((static.abs() == 1).float().mean()) > 0.7 > 0.02 > float((dynamic.abs() == 1).float().mean())
    assert dynamic.abs().max() <= 1


# --------------------------------------------------------------------------------------- the usual promises


def test_the_base_reads_the_text_twice_and_learns_everywhere():
    model = stirred(ImagenBase(TINY))
    states, mask = texts()
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 900])
    out = model(x, t, states, mask)
    assert out.shape == (2, 3, 8, 8)
    spoilt = torch.where(mask[..., None], states, torch.tensor(9.0))
    torch.testing.assert_close(model(x, t, spoilt, mask), out)           # padding says nothing
    assert not torch.allclose(model(x, t, states.flip(0), mask), out, atol=1e-4)
    for part in ("to_time", "to_tokens"):                                # either way alone is enough
        other = stirred(ImagenBase(TINY))
        silenced = other.text.to_time[2] if part == "to_time" else other.text.norm
        for p in silenced.parameters():
            p.data.zero_()
        moved = other(x, t, states.flip(0), mask) - other(x, t, states, mask)
        assert moved.abs().max() > 1e-4
    for i in range(2):
        torch.testing.assert_close(model(x[i:i + 1], t[i:i + 1], states[i:i + 1], mask[i:i + 1])[0], out[i],
                                   atol=1e-5, rtol=1e-5)
    base_loss(model, x, states, mask, torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("config", [TINY.first, TINY.second], ids=["with self-attention", "without"])
def test_an_upsampler_reads_small_picture_level_and_text_and_learns_everywhere(config):
    model = stirred(ImagenUpsampler(config, 16))
    states, mask = texts()
    n = config.size
    x, t, low = torch.randn(2, 3, n, n), torch.tensor([3, 900]), torch.randn(2, 3, config.low, config.low)
    level = torch.tensor([0.1, 0.5])
    out = model(x, t, states, mask, low, level)
    assert out.shape == x.shape
    for other in (
        model(x, t, states, mask, low + 1, level),
        model(x, t, states, mask, low, level.flip(0)),
        model(x, t, states.flip(0), mask, low, level),
        model(x, t.flip(0), states, mask, low, level),
    ):
        assert not torch.allclose(other, out, atol=1e-5)
    nothing = torch.zeros_like(mask)
    assert model(x, t, 0 * states, nothing, low, level).isfinite().all()
    crop = model(x[..., :8, :8], t, states, mask, low[..., :4, :4], level)
    assert crop.shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="halves them 2 times; give sides that 4 divides"):
        model(x[..., :6, :6], t, states, mask, low, level)
    schedule = NoiseSchedule.cosine()
    upsampler_loss(model, x, low, states, mask, schedule, torch.Generator().manual_seed(0)).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not missing


def test_self_attention_of_the_last_level_can_be_left_out():
    x, states, mask = torch.randn(2, 16, 4, 4), torch.randn(2, 5, 12), texts()[1]
    blocks = {places: stirred(ReadingBlock(16, replace(UP, self_attention=places))).eval()
              for places in (True, False)}
    moved = x.clone()
    moved[:, :, 0, 0] += torch.randn(16)
    for places, block in blocks.items():
        block.norm = torch.nn.Identity()                                # it would spread what is changed
        change = (block(moved, states, mask) - block(x, states, mask)).abs().amax((0, 1))
        assert bool((change[1:] > 1e-6).any()) == places


def test_blocks_stand_where_maps_are_small():
    config = EfficientUNetConfig.to_256()
    with blank():
        model = EfficientUNet(config)
    assert [len(level.blocks) for level in model.down] == [2, 4, 8, 8]
    assert [len(level.blocks) for level in model.up] == [8, 8, 4, 2]
    assert [level.read is not None for level in model.down] == [False, False, False, True]


def test_a_handful_of_small_pictures_is_enlarged_by_heart():
    torch.manual_seed(0)
    model = ImagenUpsampler(UP, 16)
    states, mask = texts()
    wanted = torch.tensor([1.0, -1.0])[:, None, None, None].expand(2, 3, 16, 16)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    g = torch.Generator().manual_seed(0)
    for _ in range(80):
        x, low = torch.randn(2, 3, 16, 16, generator=g), torch.randn(2, 3, 8, 8, generator=g)
        optimizer.zero_grad()
        loss = F.mse_loss(
            model(x, torch.tensor([5, 500]), states, mask, low, torch.rand(2, generator=g)), wanted
        )
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.1


def test_a_cascade_draws_three_sizes():
    model = stirred(Imagen(TINY)).eval()
    tokens, mask = torch.randint(0, 30, (2, 5)), texts()[1]
    runs = [
        draw_pictures(
            model, tokens, mask, scales, steps=(3, 2, 2), generator=torch.Generator().manual_seed(0)
        )
        for scales in ((7.5, 8, 8), (7.5, 8, 8), (1, 1, 1))
    ]
    assert [x.shape[-1] for x in runs[0]] == [8, 16, 32] and all(x.abs().max() <= 1 for x in runs[0])
    assert torch.equal(runs[0][2], runs[1][2]) and not torch.equal(runs[0][0], runs[2][0])
    assert ImagenConfig.mini().second.size == 64


def test_impossible_inputs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="base of ImagenConfig reads tokens of size 16, the text's have 24"):
        replace(TINY, text=replace(TINY.text, width=24))
    with pytest.raises(ValueError, match="make them follow each other"):
        replace(TINY, second=replace(TINY.second, low=8))
    with pytest.raises(ValueError, match="blocks of EfficientUNetConfig has 1 numbers for 2 levels"):
        replace(UP, blocks=(1,))
    assert TextCondition(16, 8, heads=8).query.shape == (16,)


# --------------------------------------------------------------------------------------------- errata


def test_booklet_b6_imagen_denoises_whole_pictures_and_has_no_order_of_tokens():
    """The booklet calls Imagen "autoregressive": every pixel depends on every other at each step."""
    model = stirred(ImagenBase(TINY)).eval()
    states, mask = texts(1)
    x, t = torch.randn(1, 3, 8, 8), torch.tensor([500])
    jacobian = torch.autograd.functional.jacobian(
        lambda x: model(x, t, states, mask).sum((0, 1)).flatten(), x).abs().sum((1, 2)).flatten(1)
    assert (jacobian > 0).all()
