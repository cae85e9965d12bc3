"""The dVAE of DALL-E: each equation by loops or integrals, schedules, sizes, the promises, errata."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import count, stirred
from oracles import dall_e
from PIL import Image
from torch import nn

from mmlearn.nn.modes import blank
from mmlearn.text2image.dalle_images import (
    area_shares,
    dalle_crop,
    dvae_crop,
    resize_by_area,
    square_for_tests,
)
from mmlearn.text2image.dvae import (
    DVAE,
    DVAEBlock,
    DVAEConfig,
    DVAEDecoder,
    DVAEEncoder,
    DVAESchedule,
    bound,
    cosine,
    dvae_loss,
    gumbel,
    gumbel_max,
    gumbel_softmax,
    kl_to_uniform,
    logit_laplace_nll,
    map_pixels,
    unmap_pixels,
)

TINY = DVAEConfig(vocab=16, width=8, code_width=6, groups=3, blocks=2, size=16)


def build(config=TINY, seed=0):
    """A model whose residual branches have a say: the small constant would hide them."""
    torch.manual_seed(seed)
    return stirred(DVAE(config), seed=None, scale=0.05)


# ------------------------------------------------------------------------------------------- samples of codes

@pytest.mark.equation("eq:dvae-gumbel")
def test_minus_log_of_minus_log_of_uniform_numbers_is_gumbel():
    u = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    want = torch.tensor([-math.log(-math.log(x)) for x in (0.1, 0.5, 0.9)], dtype=torch.float64)
    torch.testing.assert_close(gumbel(u), want)
    draws = gumbel(torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert float(draws.mean()) == pytest.approx(0.5772, abs=0.01)           # Euler's constant
    assert float(draws.var()) == pytest.approx(math.pi**2 / 6, abs=0.02)


@pytest.mark.equation("eq:dvae-gumbel-max")
def test_the_largest_logit_with_gumbel_noise_is_drawn_as_often_as_the_softmax_says():
    torch.manual_seed(0)
    logits, n = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5], dtype=torch.float64), 20_000
    drawn = gumbel_max(logits[None, :, None].expand(1, -1, n), gumbel(torch.rand(1, 5, n).double()))
    seen = torch.bincount(drawn.flatten(), minlength=5).double()
    expected = n * logits.softmax(0)
    assert float(((seen - expected).square() / expected).sum()) < 18.47     # chi-square, 4 degrees, 0.1 %


@pytest.mark.equation("eq:dvae-gumbel-softmax")
def test_relaxed_codes_are_a_softmax_and_become_one_hot_as_tau_goes_to_zero():
    torch.manual_seed(0)
    logits, g = torch.randn(2, 4, 3, dtype=torch.float64), gumbel(torch.rand(2, 4, 3).double())
    y = gumbel_softmax(logits, g, 0.7)
    for b in range(2):
        for p in range(3):
            terms = [math.exp((logits[b, k, p] + g[b, k, p]) / 0.7) for k in range(4)]
            for k in range(4):
                assert float(y[b, k, p]) == pytest.approx(terms[k] / sum(terms))
    hard = F.one_hot(gumbel_max(logits, g), 4).movedim(-1, 1).double()
    torch.testing.assert_close(gumbel_softmax(logits, g, 1e-4), hard)
    assert torch.autograd.gradcheck(lambda z: gumbel_softmax(z, g, 0.7), logits.requires_grad_())


@pytest.mark.equation("eq:dvae-kl")
def test_the_kl_to_the_uniform_prior_is_that_of_torch_and_lies_between_zero_and_log_k():
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 5, 3, 2, dtype=torch.float64)
    q = torch.distributions.Categorical(logits=logits.movedim(1, -1))
    want = torch.distributions.kl_divergence(q, torch.distributions.Categorical(
        logits=torch.zeros_like(q.logits)))
    torch.testing.assert_close(kl_to_uniform(logits), want)
    assert kl_to_uniform(torch.ones(1, 7)).item() == pytest.approx(0, abs=1e-6)
    sure = kl_to_uniform(F.one_hot(torch.tensor([3]), 7) * 1000.0)
    assert sure.item() == pytest.approx(math.log(7))
    assert torch.autograd.gradcheck(kl_to_uniform, logits.requires_grad_())


@pytest.mark.equation("eq:dvae-bound")
def test_p7_with_a_larger_weight_of_the_kl_it_is_still_a_bound_and_with_a_smaller_one_it_is_not():
    torch.manual_seed(0)
    k, beaten = 6, False
    for _ in range(200):
        log_likelihood = 2 * torch.randn(k, dtype=torch.float64)
        log_p = torch.logsumexp(log_likelihood, 0) - math.log(k)            # sum over codes, prior 1/K
        q = (2 * torch.randn(k, dtype=torch.float64)).softmax(0)
        one, more, less = (float(bound(log_likelihood, q, beta)) for beta in (1.0, 6.6, 0.2))
        assert more <= one <= float(log_p) + 1e-12
        beaten |= less > float(log_p)
    posterior = log_likelihood.softmax(0)
    assert float(bound(log_likelihood, posterior)) == pytest.approx(float(log_p))     # tight at the posterior
    assert beaten
    naive = sum(q[i] * log_likelihood[i] for i in range(k)) - sum(q[i] * (q[i] * k).log() for i in range(k))
    assert float(bound(log_likelihood, q)) == pytest.approx(float(naive))


# --------------------------------------------------------------------------------------------- the likelihood

@pytest.mark.equation("eq:dvae-map-pixels")
@pytest.mark.equation("eq:dvae-unmap-pixels")
def test_pixels_are_mapped_away_from_the_edges_and_back():
    x = torch.tensor([0.0, 0.25, 1.0])
    torch.testing.assert_close(map_pixels(x), torch.tensor([0.1, 0.3, 0.9]))
    torch.testing.assert_close(unmap_pixels(map_pixels(x)), x)
    assert unmap_pixels(torch.tensor([0.02, 0.97])).tolist() == [0.0, 1.0]


@pytest.mark.equation("eq:dvae-logit-laplace")
def test_p8_the_likelihood_is_a_logit_laplace_density_which_integrates_to_one():
    for mu, log_b in ((0.0, 0.0), (1.3, -1.0), (-2.0, 0.3)):
        t = torch.linspace(-60, 60, 240_001, dtype=torch.float64)           # integrate over the logit of x
        x = t.sigmoid()
        inside = (x > 0) & (x < 1)
        ones = torch.ones_like(t)
        log_f = -logit_laplace_nll(x[inside], mu * ones[inside], log_b * ones[inside])
        density = log_f.exp() * (x * (1 - x))[inside]
        assert float(torch.trapezoid(density, t[inside])) == pytest.approx(1, abs=1e-4)


@pytest.mark.equation("eq:dvae-logit-laplace")
def test_the_density_is_that_of_the_sigmoid_of_a_laplace_variable_and_may_exceed_one():
    torch.manual_seed(0)
    x, mu, log_b = torch.rand(50).double() * 0.8 + 0.1, torch.randn(50).double(), torch.randn(50).double()
    laplace = torch.distributions.TransformedDistribution(
        torch.distributions.Laplace(mu, log_b.exp()), torch.distributions.SigmoidTransform())
    torch.testing.assert_close(logit_laplace_nll(x, mu, log_b), -laplace.log_prob(x))
    sharp = logit_laplace_nll(torch.tensor(0.5), torch.tensor(0.0), torch.tensor(-5.0))
    assert float(sharp) < 0
    inputs = [v.requires_grad_() for v in (x, mu, log_b)]
    assert torch.autograd.gradcheck(logit_laplace_nll, inputs)


@pytest.mark.equation("eq:dvae-loss")
def test_the_loss_is_the_sum_over_pixels_and_places_divided_by_the_numbers_of_a_picture():
    torch.manual_seed(0)
    nll, kl = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.rand(2, 2, 2, dtype=torch.float64)
    want = sum((nll[b].sum() + 6.6 * kl[b].sum()) / (3 * 8 * 8) for b in range(2)) / 2
    torch.testing.assert_close(dvae_loss(nll, kl, 6.6), want)
    at_256 = dvae_loss(torch.zeros(1, 3, 256, 256), torch.ones(1, 32, 32), 6.6)
    assert float(at_256) == pytest.approx(6.6 / 192)


def test_e25_a_picture_of_256_pixels_becomes_13312_bits_and_a_192th_of_its_numbers():
    config = DVAEConfig.paper()
    places = config.side**2
    assert (config.side, places, config.vocab) == (32, 1024, 8192)
    assert math.log2(config.vocab) * places == 13_312
    assert config.size**2 * config.channels / places == 192
    assert math.log(config.vocab) == pytest.approx(9.01, abs=0.001)


# -------------------------------------------------------------------------------------------------- schedules

@pytest.mark.equation("eq:dvae-cosine")
def test_annealing_goes_down_half_a_cosine_and_stays_there():
    values = [cosine(step, 1.0, 0.2, 100) for step in (0, 25, 50, 75, 100, 1000)]
    want = [0.2 + 0.4 * (1 + math.cos(math.pi * s)) for s in (0, 0.25, 0.5, 0.75, 1, 1)]
    assert values == pytest.approx(want)


def test_the_three_schedules_of_the_paper_begin_and_end_where_it_says():
    s = DVAESchedule.paper()
    assert [s.beta_at(i) for i in (0, 5_000, 3_000_000)] == pytest.approx([0, 6.6, 6.6])
    taus = [s.tau_at(i) for i in (0, 75_000, 150_000, 3_000_000)]
    assert taus == pytest.approx([1, 17 / 32, 1 / 16, 1 / 16])
    assert [s.lr_at(i) for i in (0, 1_200_000, 3_000_000)] == pytest.approx([1e-4, 1.25e-6, 1.25e-6])
    mini = DVAESchedule.mini(steps=200)
    assert mini.beta_at(10) == pytest.approx(6.6) and mini.tau_at(150) == pytest.approx(1 / 16)


# ---------------------------------------------------------------------------------------------- architecture

@pytest.mark.equation("eq:dvae-block")
def test_a_block_adds_a_64th_of_four_convolutions_to_what_it_read():
    torch.manual_seed(0)
    block = DVAEBlock(4, 8, (3, 3, 3, 1), count=8)
    x = torch.randn(2, 4, 5, 5)
    z = x
    for layer in block.convs:
        z = F.conv2d(z.clamp_min(0), layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)
    torch.testing.assert_close(block(x), block.shortcut(x) + z / 64)
    assert isinstance(DVAEBlock(8, 8, (1, 3, 3, 3), 8).shortcut, nn.Identity)


def test_e27_the_dvae_was_released_and_has_as_many_parameters_as_its_weights():
    with blank():
        model = DVAE(DVAEConfig.paper())
    assert (count(model.encoder), count(model.decoder)) == (53_786_240, 43_829_766)
    assert count(model) == 97_616_006


def test_weights_start_so_that_a_convolution_keeps_the_variance_and_biases_are_zero():
    torch.manual_seed(0)
    model = DVAE(replace(TINY, width=64))
    for layer in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        assert not layer.bias.any()
        fan = layer.weight[0].numel()
        assert float(layer.weight.std()) == pytest.approx(fan**-0.5, rel=0.2)


@pytest.mark.parametrize("config", [TINY, DVAEConfig.mini(), replace(TINY, groups=1, blocks=1)],
                         ids=["tiny", "mini", "one group"])
def test_shapes_of_codes_maps_and_pictures(config):
    model = build(config)
    images = torch.rand(2, 3, config.size, config.size)
    out = model(images, 0.5)
    assert out.logits.shape == out.codes.shape == (2, config.vocab, config.side, config.side)
    assert out.mu.shape == out.log_b.shape == images.shape
    tokens = model.tokens(images)
    assert tokens.shape == (2, config.side, config.side) and tokens.dtype == torch.int64
    pictures = model.reconstruct(images)
    assert pictures.shape == images.shape and 0 <= pictures.min() and pictures.max() <= 1


def test_another_size_works_where_the_side_can_be_halved_and_else_says_so():
    model = build()
    assert model.tokens(torch.rand(1, 3, 24, 8)).shape == (1, 6, 2)
    with pytest.raises(ValueError, match=r"shape \(1, 3, 18, 16\).*sides that 4 divides"):
        model.tokens(torch.rand(1, 3, 18, 16))


def test_tokens_looked_up_in_the_codebook_decode_as_one_hot_codes_do():
    model = build()
    tokens = torch.randint(16, (2, 4, 4))
    one_hot = F.one_hot(tokens, 16).movedim(-1, 1).float()
    for ours, theirs in zip(model.decoder.of_tokens(tokens), model.decoder(one_hot)):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="token ids go from 0 to 16"):
        model.pictures(torch.tensor([[[0, 16]]]))


def test_tokens_are_the_likeliest_codes_without_noise():
    model, images = build(), torch.rand(2, 3, 16, 16)
    logits = model.encoder(map_pixels(images))
    assert torch.equal(model.tokens(images), logits.argmax(1))
    assert torch.equal(model.tokens(images), model.tokens(images))


def test_the_kl_of_training_knows_neither_noise_nor_temperature():
    model, images = build(), torch.rand(2, 3, 16, 16)
    kls = [model.loss(images, tau, 1.0)[1]["kl"] for tau in (1.0, 0.1)]
    assert torch.equal(*kls)


def test_pictures_between_minus_one_and_one_go_through_encode_and_decode():
    model, images = build(), torch.rand(2, 3, 16, 16)
    codes = model.encode(2 * images - 1)
    assert torch.equal(codes, model.tokens(images))
    torch.testing.assert_close(model.decode(codes), 2 * model.pictures(codes) - 1)


def test_a_batch_of_one_is_a_row_of_a_batch_and_both_modes_are_alike():
    model, images = build(), torch.rand(3, 3, 16, 16)
    whole = model.encoder(images)
    torch.testing.assert_close(model.encoder(images[1:2]), whole[1:2], atol=1e-5, rtol=1e-5)
    assert torch.equal(model.train().tokens(images), model.eval().tokens(images))


def test_noise_follows_from_its_generator():
    model, images = build(), torch.rand(1, 3, 16, 16)
    one, two, other = (model(images, 0.5, torch.Generator().manual_seed(s)).codes for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_gradients_reach_every_parameter():
    model = build()
    model.loss(torch.rand(2, 3, 16, 16), 0.5, 1.0)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_hard_pass_meets_the_relaxed_one_as_tau_falls():
    model, images = build(), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        gaps = []
        for tau in (1.0, 0.1, 0.001):
            out = model(images, tau, torch.Generator().manual_seed(0))
            mu, _ = model.decoder.of_tokens(out.codes.argmax(1))
            gaps.append(float((mu - out.mu).abs().mean()))
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-4


def test_a_handful_of_pictures_is_learnt():
    torch.manual_seed(0)
    model = DVAE(DVAEConfig(vocab=32, width=16, code_width=16, groups=3, blocks=1, size=16))
    images = F.interpolate(torch.rand(4, 3, 4, 4), scale_factor=4)
    before = float((model.reconstruct(images) - images).square().mean())
    schedule = DVAESchedule.mini(300)
    adam = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(schedule.steps):
        loss, _ = model.loss(images, schedule.tau_at(step), schedule.beta_at(step))
        adam.zero_grad()
        loss.backward()
        adam.step()
    after = float((model.reconstruct(images) - images).square().mean())
    assert after < 0.3 * before and float(loss) < 0
    assert len(model.tokens(images).unique()) > 4               # without the KL two or three codes are left


@pytest.mark.parametrize("change, message", [
    ({"width": 6}, "width is 6.*multiple of 4"), ({"size": 18}, "size is 18.*multiple of 4"),
    ({"vocab": 0}, "vocab of DVAEConfig is 0"), ({"groups": 0}, "groups of DVAEConfig is 0")])
def test_an_impossible_size_is_a_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


# --------------------------------------------------------------------------------------------------- pictures

def test_resizing_by_area_takes_the_mean_of_what_lies_under_a_pixel():
    shares = area_shares(5, 2)
    torch.testing.assert_close(shares, torch.tensor([[.4, .4, .2, 0, 0], [0, 0, .2, .4, .4]]).double())
    image = torch.rand(3, 6, 6)
    want = F.avg_pool2d(image[None], 3)[0]
    torch.testing.assert_close(resize_by_area(image, 2), want)
    torch.testing.assert_close(area_shares(7, 3).sum(1), torch.ones(3).double())


def test_a_test_picture_is_its_middle_square_at_the_models_size():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    ours = square_for_tests(picture, 20)
    want = np.asarray(picture.resize((20, 30), Image.Resampling.LANCZOS))[5:25] / 255
    torch.testing.assert_close(ours, torch.tensor(want).permute(2, 0, 1).float())
    with pytest.raises(ValueError, match="short side has 40 pixels, the model wants 64"):
        square_for_tests(picture, 64)


def test_crops_for_the_dvae_lie_where_listing_1_says():
    g = torch.Generator().manual_seed(0)
    crops = [dvae_crop(300, 500, 256, g) for _ in range(300)]
    assert {c.top for c in crops} == {0} and all(0 <= c.left <= 200 for c in crops)
    assert {c.side for c in crops} == {300}
    assert {c.resized for c in crops} <= set(range(288, 301))               # 9/8 of 256, never enlarged
    assert min(c.resized for c in crops) == 288 and max(c.resized for c in crops) == 300
    assert all(0 <= c.top_again <= c.resized - 256 for c in crops)
    assert 100 < sum(c.mirrored for c in crops) < 200
    assert {c.resized for c in (dvae_crop(256, 300, 256, g) for _ in range(9))} == {256}


def test_crops_for_the_transformer_are_near_the_middle_and_never_mirrored():
    g = torch.Generator().manual_seed(0)
    crops = [dalle_crop(300, 500, 256, g) for _ in range(300)]
    assert {c.left for c in crops} == set(range(75, 125)) and {c.top for c in crops} == {0}
    assert {c.resized for c in crops} == set(range(256, 289)) and not any(c.mirrored for c in crops)


def test_a_crop_cuts_resizes_cuts_and_mirrors():
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    crop = replace(dvae_crop(40, 60, 16, torch.Generator().manual_seed(1)), mirrored=True)
    out = crop(image, 16)
    assert out.shape == (3, 16, 16) and out.dtype == torch.uint8
    square = image[:, :, crop.left:crop.left + 40].float()
    small = resize_by_area(square, crop.resized).round()
    want = small[:, crop.top_again:crop.top_again + 16, crop.left_again:crop.left_again + 16].flip(-1)
    assert torch.equal(out, want.byte())


# ----------------------------------------------------------------------------------------------------- parity

@pytest.mark.parity
def test_mapping_of_pixels_and_a_convolutions_start_are_those_of_the_release():
    theirs = dall_e()
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(map_pixels(x), theirs.map_pixels(x))
    torch.testing.assert_close(unmap_pixels(x), theirs.unmap_pixels(x))
    for ours, peer in ((DVAEEncoder(DVAEConfig(512, 64, blocks=1)), theirs.Encoder(
            n_hid=64, n_blk_per_group=1, vocab_size=512)),
            (DVAEDecoder(DVAEConfig(512, 64, blocks=1)), theirs.Decoder(
                n_hid=64, n_blk_per_group=1, vocab_size=512))):
        assert sorted(p.shape for p in ours.parameters()) == sorted(p.shape for p in peer.parameters())
