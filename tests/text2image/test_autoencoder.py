"""The convolutional autoencoder: sizes, each block by loops, and what both halves promise."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import count, stirred
from torch import nn

from mmlearn.text2image.autoencoder import (
    AutoencoderConfig,
    Decoder,
    Double,
    Encoder,
    GridAttention,
    Halve,
    ResidualBlock,
    clipped,
    residual,
)

TINY = AutoencoderConfig(8, (1, 2), 1, (2,), 6, groups=4)


def test_both_halves_of_vqgan_have_the_parameters_of_the_authors_code():
    with torch.device("meta"):
        assert count(Encoder(AutoencoderConfig())) == 29_298_176
        assert count(Decoder(AutoencoderConfig())) == 42_449_795


def test_attention_stands_where_the_grid_is_sixteen_times_smaller():
    config = AutoencoderConfig()
    assert config.reductions == (1, 2, 4, 8, 16) and config.factor == 16
    assert config.widths == (128, 128, 256, 256, 512)
    with torch.device("meta"):
        encoder, decoder = Encoder(config), Decoder(config)
        assert [len(level.attentions) for level in encoder.levels] == [0, 0, 0, 0, 2]
        assert [len(level.attentions) for level in decoder.levels] == [3, 0, 0, 0, 0]
        grid = encoder(torch.empty(2, 3, 256, 384))
        assert grid.shape == (2, 256, 16, 24) and decoder(grid).shape == (2, 3, 256, 384)


@pytest.mark.equation("eq:autoencoder-residual")
def test_a_residual_block_adds_to_the_map_what_two_convolutions_find():
    torch.manual_seed(0)
    block = stirred(ResidualBlock(4, 6, 2)).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)

    def normalised(h, norm):
        out = torch.empty_like(h)
        for b in range(len(h)):
            for group in range(2):
                part = slice(group * h.shape[1] // 2, (group + 1) * h.shape[1] // 2)
                mean = h[b, part].mean()
                variance = ((h[b, part] - mean) ** 2).mean()
                out[b, part] = (h[b, part] - mean) / (variance + 1e-6).sqrt()
        return out * norm.weight[:, None, None] + norm.bias[:, None, None]

    def silu(h):
        return h / (1 + (-h).exp())

    h = F.conv2d(silu(normalised(x, block.norm1)), block.conv1.weight, block.conv1.bias, padding=1)
    h = F.conv2d(silu(normalised(h, block.norm2)), block.conv2.weight, block.conv2.bias, padding=1)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                want = h[b, :, i, j] + block.shortcut.weight[:, :, 0, 0] @ x[b, :, i, j] + block.shortcut.bias
                torch.testing.assert_close(block(x)[b, :, i, j], want)
    torch.testing.assert_close(residual(x, x, nn.Identity()), 2 * x)


def test_every_place_of_an_attention_reads_all_places_with_one_head():
    torch.manual_seed(0)
    layer = stirred(GridAttention(4, 2)).double()
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64)
    places = layer.norm(x)[0].reshape(4, 6).T
    Q, K, V = (places @ layer.qkv.weight[4 * i:4 * i + 4].T + layer.qkv.bias[4 * i:4 * i + 4]
               for i in range(3))
    got = layer(x)[0].reshape(4, 6).T
    for p in range(6):
        scores = [math.exp(float(Q[p] @ K[q]) / 2) for q in range(6)]
        read = sum(scores[q] / sum(scores) * V[q] for q in range(6))
        torch.testing.assert_close(got[p], x[0].reshape(4, 6).T[p] + layer.out.weight @ read + layer.out.bias)


def test_halving_pads_the_far_ends_alone_and_doubling_repeats_every_place():
    x = torch.randn(1, 2, 4, 4)
    half, double = Halve(2), Double(2)
    with torch.no_grad():
        got = half(x)
        assert got.shape == (1, 2, 2, 2)
        want = half.conv.bias + (half.conv.weight[:, :, :2, :2] * x[0, None, :, 2:, 2:]).sum((1, 2, 3))
        torch.testing.assert_close(got[0, :, 1, 1], want)               # the third row and column are zeros
        torch.testing.assert_close(got[0, :, 0, 0], half.conv.bias + (
            half.conv.weight * x[0, None, :, :3, :3]).sum((1, 2, 3)))   # none before the first
        up = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(double(x), F.conv2d(up, double.conv.weight, double.conv.bias, padding=1))


def test_gradients_reach_every_parameter_and_a_row_is_what_it_is_alone():
    encoder, decoder = Encoder(TINY), Decoder(TINY)
    images = torch.rand(3, 3, 8, 12) * 2 - 1
    grid = encoder(images)
    drawn = decoder(grid)
    drawn.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0
               for p in (*encoder.parameters(), *decoder.parameters()))
    torch.testing.assert_close(encoder(images[1:2])[0], grid[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoder(grid[1:2])[0], drawn[1], atol=1e-5, rtol=1e-5)
    assert clipped(10 * drawn).abs().max() == 1


def test_dropout_acts_in_training_alone():
    config = AutoencoderConfig(8, (1, 2), 1, (2,), 6, groups=4, dropout=0.5)
    encoder, images = Encoder(config), torch.rand(1, 3, 8, 8)
    assert not torch.equal(encoder(images), encoder(images))
    encoder.eval()
    assert torch.equal(encoder(images), encoder(images))


def test_impossible_sizes_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="attention is at a reduction of 3, the levels have 1, 2"):
        AutoencoderConfig(8, (1, 2), attention=(3,), groups=4)
    with pytest.raises(ValueError, match="groups of AutoencoderConfig is 3, which does not divide width 8"):
        AutoencoderConfig(8, groups=3)
    with pytest.raises(ValueError, match="multipliers are empty"):
        AutoencoderConfig(multipliers=(), attention=())
    with pytest.raises(ValueError, match="pictures of 8 x 9 pixels cannot be reduced 2 times"):
        Encoder(TINY)(torch.rand(1, 3, 8, 9))
