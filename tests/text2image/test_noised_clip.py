"""Noised CLIP: embeddings of noisy pictures and of captions in one space, and the gradient that guides a
sampler."""

import math
from dataclasses import replace

import pytest
import torch
from networks import count
from torch import nn

from mmlearn.data.pairs import PairData
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.nn.modes import blank, seeded
from mmlearn.nn.vit import ViTConfig
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.diffusion_training import train_noised_clip
from mmlearn.text2image.noised_clip import (
    AttentionWithoutKeyBias,
    NoisedCLIP,
    NoisedCLIPConfig,
    as_clip_sees,
    clip_gradient,
    noised_clip_loss,
    noised_embed,
)
from mmlearn.text2image.samplers import sample
from mmlearn.text_for_vision.clip import TextConfig

TINY = NoisedCLIPConfig(6, ViTConfig(8, 4, 8, 2, 2), TextConfig(12, 5, 8, 2, 2, 3), 20, 5.0, True)
TOKENS = torch.tensor([[2, 5, 6, 3, 1], [2, 7, 3, 1, 1]])


def model(config=TINY, seed=0):
    with seeded(seed):
        made = NoisedCLIP(config)
        for parameter in made.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, std=0.3)
        return made.eval()


@pytest.mark.equation("eq:noised-clip-embed")
@pytest.mark.equation("eq:noised-clip-pixels")
def test_a_vector_of_the_timestep_stands_where_clip_has_its_class_token():
    patches, time, positions = torch.randn(2, 3, 4).double(), torch.randn(2, 4).double(), torch.randn(4,
                                                                                                      4).double()
    want = torch.stack([torch.stack([(time[i] if j == 0 else patches[i, j - 1]) + positions[j] for j
                                     in range(4)])
                        for i in range(2)])
    torch.testing.assert_close(noised_embed(patches, time, positions), want)
    means, stds = (122.77093945, 116.74601272, 104.09373519), (68.50053285, 66.63215831, 70.32316309)
    x = torch.randn(1, 3, 2, 2).double()
    seen = as_clip_sees(x)
    for c in range(3):
        torch.testing.assert_close(seen[:, c], ((x[:, c] + 1) * 127.5 - means[c]) / stds[c], atol=1e-6,
                                   rtol=1e-6)


def test_the_released_sizes_have_their_parameters():
    with blank():
        released = NoisedCLIP(NoisedCLIPConfig.released())
        mini = NoisedCLIP(NoisedCLIPConfig.mini())
    assert count(released.text) == 71_679_488
    assert count(released.image) == 86_443_776
    # the scale is fixed
    assert sum(p.numel() for p in released.parameters() if p.requires_grad) == 158_123_264
    assert count(mini) < 1.2e6 and mini.logit_scale.requires_grad


def test_a_bias_of_the_keys_would_change_nothing():
    from mmlearn.nn.attention import MultiHeadAttention

    with seeded(0):
        ours, plain = AttentionWithoutKeyBias(8, 2), MultiHeadAttention(8, 2)
    nn.init.normal_(ours.in_bias)
    state = ours.state_dict()
    queries, values = state["in_bias"].chunk(2)
    plain.load_state_dict({**state, "in_bias": torch.cat([queries, torch.randn(8), values])})
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(ours(x), plain(x), atol=1e-5, rtol=1e-4)
    assert ours.in_bias.shape == (16,)


def test_embeddings_have_length_one_and_know_how_noisy_a_picture_is():
    clip, x = model(), torch.randn(2, 3, 8, 8)
    u, v, scale = clip(x, torch.tensor([3, 19]), TOKENS)
    assert u.shape == v.shape == (2, 6) and float(scale.detach()) != 0
    torch.testing.assert_close(u.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(v.norm(dim=1), torch.ones(2))
    assert not torch.allclose(clip.encode_image(x, torch.tensor([4, 19]))[0], u[0])
    torch.testing.assert_close(clip.encode_image(x[1:], torch.tensor([19])), u[1:], atol=1e-5, rtol=1e-4)
    cut = clip.encode_text(TOKENS[1:, :3])                          # behind the end nothing is read
    torch.testing.assert_close(cut, v[1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("x, t, message", [
    (torch.zeros(1, 3, 16, 16), torch.tensor([0]), "16 x 16 pixels, the model wants 8 x 8"),
    (torch.zeros(1, 3, 8, 8), torch.tensor([20]), "timesteps go from 20 to 20, those that were trained from "
                                                  "0 to 19")])
def test_other_pictures_and_timesteps_are_refused(x, t, message):
    with pytest.raises(ValueError, match=message):
        model().encode_image(x, t)


@pytest.mark.equation("eq:guidance-clip")
def test_the_gradient_is_that_of_the_scaled_cosine():
    clip = model().double()
    x, t = torch.randn(2, 3, 8, 8).double(), torch.tensor([3, 15])
    got = clip_gradient(clip, x, t, TOKENS, 2.0)
    v = clip.encode_text(TOKENS).detach()
    scale = math.exp(float(clip.logit_scale.detach()))

    def fit(x):
        u = clip.image(x, t)
        return 2.0 * scale * sum((u[i] / u[i].norm() * v[i]).sum() for i in range(2))

    for place in ((0, 0, 0, 0), (0, 2, 5, 3), (1, 1, 7, 7)):
        step = torch.zeros_like(x)
        step[place] = 1e-5
        with torch.no_grad():
            want = (fit(x + step) - fit(x - step)) / 2e-5
        torch.testing.assert_close(got[place], want, atol=1e-5, rtol=1e-4)


def test_gradients_reach_every_parameter_and_chance_costs_the_log_of_the_batch():
    clip = model().train()
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    loss = noised_clip_loss(clip, images, TOKENS, NoiseSchedule.cosine(20), torch.Generator().manual_seed(0))
    loss.backward()
    without = [name for name, p in clip.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    flat = NoisedCLIP(replace(TINY, scale=1e-6))
    alike = noised_clip_loss(flat, images, TOKENS, NoiseSchedule.cosine(20), torch.Generator().manual_seed(0))
    torch.testing.assert_close(alike.detach(), torch.tensor(math.log(2)), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_handful_of_pairs_is_told_apart_and_guides_a_sampler_towards_its_captions():
    colours = torch.tensor([[220, 20, 20], [20, 220, 20], [20, 20, 220], [220, 220, 20]], dtype=torch.uint8)
    texts = ["a red cat", "a green dog", "a blue car", "a yellow house"]
    data = PairData(colours[:, :, None, None].expand(4, 3, 8, 8).contiguous(),
                    tuple((text,) for text in texts))
    words = WordTokeniser.train(texts, splitter="simple")
    with seeded(0):
        clip = NoisedCLIP(replace(TINY, image=ViTConfig(8, 4, 32, 2, 2),
                                  text=TextConfig(len(words), 6, 16, 1, 2, words.eos)))
    schedule = NoiseSchedule.cosine(20)
    history = train_noised_clip(clip, data, words, schedule, steps=150, batch=4, lr=3e-3, progress=False)
    assert sum(history.loss[:10]) / 10 > 1.0 and sum(history.loss[-30:]) / 30 < 0.6
    x = data.images.float() / 127.5 - 1
    tokens, clean = words.batch(texts), torch.zeros(4, dtype=torch.long)
    with torch.no_grad():
        u, v, _ = clip(x, clean, tokens)
    assert (u @ v.T).argmax(1).tolist() == [0, 1, 2, 3]

    def denoise(x, t):                                              # of pictures that are grey noise
        return 0.9 * x

    fits = []
    for scale in (0.0, 30.0):
        drawn = sample(denoise, schedule, (4, 3, 8, 8), guide=clip.guide(tokens, scale),
                       generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            fits.append(float((clip.encode_image(drawn, clean) * v).sum(1).mean()))
    assert fits[1] > fits[0] + 0.2
