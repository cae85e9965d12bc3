"""DF-GAN: sizes as counted in the authors' code, each equation by loops, and the usual promises."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, stirred
from torch import nn

from mmlearn.text2image.dfgan import (
    DFGAN,
    RECIPES,
    Affine,
    DFBlock,
    DFGANConfig,
    DFGANDiscriminator,
    DFGANGenerator,
    TwoWayDiscriminator,
    affine,
    discriminator_hinge,
    discriminator_loss,
    draw_noise,
    fusion,
    generator_loss,
    joint_penalty,
    slope_at_matches,
    summed_penalty,
    truncated_normal,
    turned_away,
    unused_parameters,
)

MINI = DFGANConfig(size=16, width=4, noise=6, text=5)
KINDS = {"2022": MINI, "2020": replace(MINI, code="2020")}


def build(config=MINI, seed=0, stir=True):
    """A model whose zeros at the start are stirred, so that every part has a say."""
    torch.manual_seed(seed)
    model = DFGAN(config)
    return stirred(model, seed=None) if stir else model


def batch(b=3, config=MINI, seed=1, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    images = torch.rand(b, 3, config.size, config.size, generator=g).to(dtype) * 2 - 1
    return images, torch.randn(b, config.text, generator=g).to(dtype), torch.randn(
        b, config.noise, generator=g).to(dtype)


# ------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("name, generator, discriminator, unused", [
    ("cub", 9_744_131, 6_915_142, 197_376), ("coco", 9_744_131, 6_915_142, 197_376),
    ("code2020", 12_240_010, 20_170_566, 525_312),
])
def test_published_sizes_are_those_of_the_authors_code(name, generator, discriminator, unused):
    config = getattr(DFGANConfig, name)()
    with torch.device("meta"):
        model = DFGAN(config)
    assert count(model.generator) == generator
    assert unused_parameters(config) == unused
    assert count(model.discriminator) + unused == discriminator


def test_the_blocks_have_the_widths_of_the_code():
    new, old = DFGANConfig.coco(), DFGANConfig.code2020()
    assert new.generator_channels == [256, 256, 256, 256, 128, 64, 32]
    assert new.discriminator_channels == [32, 64, 128, 256, 256, 256, 256]
    assert old.discriminator_channels == [32, 64, 128, 256, 512, 512, 512]
    with torch.device("meta"):
        assert len(DFGANGenerator(new).blocks) == 6 and len(DFGANGenerator(old).blocks) == 7
    assert (new.condition, old.condition) == (356, 256)


def test_the_published_size_gives_pictures_and_scores_of_the_right_shape():
    with torch.device("meta"):
        model, config = DFGAN(DFGANConfig.coco()), DFGANConfig.coco()
        pictures = model.generator(torch.empty(2, config.noise), torch.empty(2, config.text))
        features = model.discriminator.features(pictures)
        assert pictures.shape == (2, 3, 256, 256) and features.shape == (2, 256, 4, 4)
        assert model.discriminator.output(features, torch.empty(2, config.text)).shape == (2,)


def test_the_recipes_are_those_of_the_code():
    assert (RECIPES["cub"].epochs, RECIPES["coco"].epochs, RECIPES["coco"].batch) == (1300, 300, 32)
    assert (RECIPES["coco 2020"].batch, RECIPES["cub 2020"].epochs) == (24, 600)
    assert RECIPES["coco"].lr_discriminator == 4 * RECIPES["coco"].lr_generator


# -------------------------------------------------------------------------------------------------- equations


@pytest.mark.equation("eq:dfgan-affine")
def test_an_affine_map_scales_and_shifts_each_channel():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    gamma, theta = torch.randn(2, 2, 3, dtype=torch.float64)
    got = affine(x, gamma, theta)
    for b in range(2):
        for c in range(3):
            for i in range(4):
                for j in range(5):
                    assert float(got[b, c, i, j]) == pytest.approx(
                        float(gamma[b, c] * x[b, c, i, j] + theta[b, c]))


@pytest.mark.equation("eq:dfgan-fusion")
def test_a_fusion_block_is_two_affine_maps_with_a_leaky_relu_after_each():
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    gammas, thetas = torch.randn(2, 2, 2, 3, dtype=torch.float64)
    want = x
    for k in range(2):
        want = torch.stack([torch.stack([gammas[b, k, c] * want[b, c] + thetas[b, k, c] for c in range(3)])
                            for b in range(2)])
        want = torch.where(want > 0, want, 0.2 * want)
    torch.testing.assert_close(fusion(x, gammas, thetas), want)


def test_two_affine_maps_without_a_relu_between_are_one():
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    (g1, g2), (t1, t2) = torch.randn(2, 2, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(affine(affine(x, g1, t1), g2, t2), affine(x, g1 * g2, g2 * t1 + t2))
    assert not torch.allclose(fusion(x, torch.stack([g1, g2], 1), torch.stack([t1, t2], 1)),
                              F.leaky_relu(affine(x, g1 * g2, g2 * t1 + t2), 0.2))


def test_affine_maps_start_as_the_identity_whatever_the_text_says():
    gamma, theta = Affine(5, 7, 3)(torch.randn(4, 5))
    assert torch.equal(gamma, torch.ones(4, 3)) and torch.equal(theta, torch.zeros(4, 3))


@pytest.mark.equation("eq:dfgan-hinge")
def test_the_hinge_of_the_discriminator_is_the_formula():
    real, fake, mismatched = torch.randn(3, 7, dtype=torch.float64) * 2
    want = 0.0
    for r, f, m in zip(real.tolist(), fake.tolist(), mismatched.tolist()):
        want += -min(0, -1 + r) - 0.5 * min(0, -1 - f) - 0.5 * min(0, -1 - m)
    assert float(discriminator_hinge(real, fake, mismatched)) == pytest.approx(want / 7, rel=1e-6)


@pytest.mark.equation("eq:dfgan-generator")
def test_the_loss_of_the_generator_is_minus_the_mean_score():
    model = build()
    images, sentences, _ = batch()
    want = -sum(float(model.discriminator(images[i : i + 1], sentences[i : i + 1])) for i in range(3)) / 3
    assert float(generator_loss(model.discriminator, images, sentences)) == pytest.approx(want, rel=1e-5)


@pytest.mark.equation("eq:dfgan-magp")
@pytest.mark.equation("eq:dfgan-magp-paper")
def test_both_penalties_are_their_formulas():
    by_image, by_text = torch.randn(3, 3, 2, 2) * 0.3, torch.randn(3, 5) * 0.3
    joint = summed = 0.0
    for i in range(3):
        a = math.sqrt(sum(g * g for g in by_image[i].flatten().tolist()))
        b = math.sqrt(sum(g * g for g in by_text[i].tolist()))
        joint += 2 * math.sqrt(a * a + b * b) ** 6 / 3
        summed += 2 * (a + b) ** 6 / 3
    assert float(joint_penalty(by_image, by_text)) == pytest.approx(joint, rel=1e-4)
    assert float(summed_penalty(by_image, by_text)) == pytest.approx(summed, rel=1e-4)


@pytest.mark.parametrize("penalty", [joint_penalty, summed_penalty])
def test_penalties_of_a_flat_discriminator_are_zero_and_have_a_gradient(penalty):
    by_image, by_text = torch.zeros(2, 3, 2, 2, requires_grad=True), torch.zeros(2, 5, requires_grad=True)
    value = penalty(by_image, by_text)
    value.backward()
    assert float(value) == 0 and by_image.grad.isfinite().all() and by_text.grad.isfinite().all()


@pytest.mark.equation("eq:dfgan-truncated")
def test_truncated_noise_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(truncated_normal(u), torch.from_numpy(stats.truncnorm.ppf(u.numpy(), -2, 2)))
    z = draw_noise(2000, 5, 0.88, torch.Generator().manual_seed(0))
    assert z.abs().max() <= 2 * 0.88 and abs(float(z.std()) - 0.88 * stats.truncnorm.std(-2, 2)) < 0.01
    assert draw_noise(2000, 5).abs().max() > 2 * 0.88


@pytest.mark.equation("eq:dfgan-discriminator")
@pytest.mark.parametrize("norm", ["joint", "sum"])
def test_the_loss_of_the_discriminator_pairs_each_picture_with_its_neighbours_sentence(norm):
    model = build().double()
    images, sentences, noise = batch(dtype=torch.float64)
    fakes = model.generator(noise, sentences)
    got = discriminator_loss(model.discriminator, images, fakes, sentences, norm=norm)
    hinge, penalty = 0.0, 0.0
    for i in range(3):
        x, e = images[i : i + 1].requires_grad_(), sentences[i : i + 1].detach().requires_grad_()
        real = model.discriminator(x, e)
        gx, ge = torch.autograd.grad(real.sum(), (x, e))
        fake = model.discriminator(fakes[i : i + 1], sentences[i : i + 1])
        mismatched = model.discriminator(images[(i + 1) % 3][None], sentences[i : i + 1])
        r, f, m = float(real), float(fake), float(mismatched)
        hinge += (max(0, 1 - r) + max(0, 1 + f) / 2 + max(0, 1 + m) / 2) / 3
        size = (math.sqrt(float(gx.pow(2).sum() + ge.pow(2).sum())) if norm == "joint"
                else float(gx.norm() + ge.norm()))
        penalty += 2 * size**6 / 3
    assert float(got.hinge) == pytest.approx(hinge, rel=1e-5)
    assert float(got.penalty) == pytest.approx(penalty, rel=1e-4)
    assert float(got.loss) == pytest.approx(hinge + penalty, rel=1e-5)


def test_without_weight_the_penalty_is_not_computed():
    model = build()
    images, sentences, noise = batch()
    got = discriminator_loss(model.discriminator, images, model.generator(noise, sentences), sentences, k=0)
    assert float(got.penalty) == 0 and float(got.loss) == float(got.hinge)


@pytest.mark.equation("eq:dfgan-two-way")
def test_a_second_output_turns_the_gradient_away_from_the_match():
    torch.manual_seed(0)
    discriminator = TwoWayDiscriminator(MINI).double()
    images, sentences, _ = batch(dtype=torch.float64)
    got = turned_away(discriminator, images, sentences)
    for i in range(3):
        x = images[i : i + 1].requires_grad_()
        features = discriminator.features(x)
        towards = torch.autograd.grad(discriminator.output(features, sentences[i : i + 1]).sum(), x,
                                      retain_graph=True)[0].flatten()
        other = torch.autograd.grad(discriminator.alone(features).sum(), x)[0].flatten()
        total = towards + other
        cosine = float(towards @ total / towards.norm() / total.norm())
        assert float(got[i]) == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-6)
    assert (got > 1).all()
    assert count(TwoWayDiscriminator(MINI)) > count(DFGANDiscriminator(MINI))


# ----------------------------------------------------------------------------------------- the usual promises


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    model = build(KINDS[kind])
    images, sentences, noise = batch()
    fakes = model.generator(noise, sentences)
    generator_loss(model.discriminator, fakes, sentences).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.generator.parameters())
    model.zero_grad()
    discriminator_loss(model.discriminator, images, fakes, sentences).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.discriminator.parameters())
    assert all(p.grad is None for p in model.generator.parameters())           # its pictures are detached


def test_before_training_gains_and_affine_maps_leave_the_text_out_and_let_it_learn():
    model = build(stir=False)
    _, sentences, noise = batch()
    assert torch.equal(model.generator(noise, sentences), model.generator(noise, -sentences))
    generator_loss(model.discriminator, model.generator(noise, sentences), sentences).backward()
    last = model.generator.blocks[0].fuse1.affines[0].gamma[2]
    assert last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_batch_is_what_it_is_alone(kind):
    model = build(KINDS[kind]).eval()
    images, sentences, noise = batch()
    together, scores = model.generator(noise, sentences), model.discriminator(images, sentences)
    for i in range(3):
        one = slice(i, i + 1)
        torch.testing.assert_close(model.generator(noise[one], sentences[one])[0], together[i], atol=1e-5,
                                   rtol=1e-5)
        torch.testing.assert_close(model.discriminator(images[one], sentences[one])[0], scores[i], atol=1e-5,
                                   rtol=1e-5)


def test_pictures_are_a_function_of_the_seed_and_lie_between_minus_one_and_one():
    model = build()
    _, sentences, _ = batch()
    first, second = (model.sample(sentences, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second) and first.abs().max() <= 1 and not first.requires_grad
    other = model.sample(sentences, generator=torch.Generator().manual_seed(4))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_under_autocast_are_float32_and_finite(dtype):
    model = build()
    images, sentences, noise = batch()
    with torch.autocast("cpu", dtype=dtype):
        fakes = model.generator(noise, sentences)
        loss = discriminator_loss(model.discriminator, images, fakes, sentences).loss
        of_generator = generator_loss(model.discriminator, fakes, sentences)
    assert loss.dtype == of_generator.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.discriminator.parameters())


def test_the_penalty_flattens_the_discriminator_at_matching_pairs():
    images, sentences, noise = batch(8)
    slopes = {}
    for k in (0, 2):
        model = build(seed=2, stir=False)
        fakes = model.generator(noise, sentences).detach()
        optimizer = torch.optim.Adam(model.discriminator.parameters(), 2e-3, betas=RECIPES["cub"].betas)
        for _ in range(100):
            optimizer.zero_grad()
            discriminator_loss(model.discriminator, images, fakes, sentences, k=k).loss.backward()
            optimizer.step()
        slopes[k] = float(slope_at_matches(model.discriminator, images, sentences).mean())
    assert slopes[2] < 1 < slopes[0], slopes


def test_a_handful_of_pictures_is_learnt_by_heart():
    config = replace(MINI, width=8)
    model = build(config, stir=False)
    _, sentences, noise = batch(4, config)
    targets = torch.stack([torch.full((3, 16, 16), v) for v in (-0.8, -0.3, 0.3, 0.8)])
    optimizer = torch.optim.Adam(model.generator.parameters(), 5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        error = F.mse_loss(model.generator(noise[:1].expand(4, -1), sentences), targets)
        error.backward()
        optimizer.step()
    assert float(error) < 0.01                          # the text alone tells them apart: the noise is shared


def test_impossible_inputs_are_refused_in_a_sentence():
    for size in (4, 48):
        with pytest.raises(ValueError, match=f"size is {size} pixels; use a power of two"):
            DFGANConfig(size=size)
    with pytest.raises(ValueError, match="code is '2021'; use one of 2022, 2020"):
        DFGANConfig(code="2021")
    with pytest.raises(ValueError, match="width of DFGANConfig is 0, expected from 1"):
        DFGANConfig(width=0)
    model = build()
    images, sentences, noise = batch()
    with pytest.raises(ValueError, match="2 sentences of size 5 for 3 pictures"):
        model.generator(noise, sentences[:2])
    with pytest.raises(ValueError, match="noise has 5 numbers, the model wants 6"):
        model.generator(noise[:, :5], sentences)
    with pytest.raises(ValueError, match="8 x 8 pixels, the model wants 16 a side"):
        model.discriminator(images[:, :, ::2, ::2], sentences)
    with pytest.raises(ValueError, match="a batch of one picture has no mismatching sentence"):
        discriminator_loss(model.discriminator, images[:1], images[:1], sentences[:1])
    with pytest.raises(ValueError, match="norm is 'max'; use one of joint, sum"):
        discriminator_loss(model.discriminator, images, images, sentences, norm="max")


# ----------------------------------------------------------------------------------------------------- errata


def test_e13_df_means_deep_fusion_the_text_enters_at_every_depth_and_nothing_is_disentangled():
    """The survey has "Disentangled Feature" and sub-features; the text scales whole channels, 24 times."""
    with torch.device("meta"):
        generator = DFGANGenerator(DFGANConfig.coco())
    fusions = [m for m in generator.modules() if isinstance(m, DFBlock)]
    assert len(fusions) == 2 * 6 and sum(isinstance(m, Affine) for m in generator.modules()) == 2 * 2 * 6
    assert not any(isinstance(m, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d)
                   for m in generator.modules())
    pictures = [m for m in generator.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 3]
    assert len(pictures) == 1                                                                      # one stage
    block = build().generator.blocks[0].fuse1.double()
    x = torch.randn(1, 16, 1, 1, dtype=torch.float64)
    condition = torch.randn(1, MINI.condition, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda c: block(x, c).flatten(), condition)
    assert (jacobian.abs() > 0).all()              # every channel depends on every number of the condition


def test_p5_the_paper_sums_the_norms_and_the_code_joins_them():
    """(a + b)^p beside (a^2 + b^2)^(p/2): equal if one norm is zero, 2^(p/2) = 8 times if both are alike."""
    unit = torch.zeros(1, 3, 2, 2)
    unit[0, 0, 0, 0] = 1
    text = torch.zeros(1, 5)
    text[0, 2] = 1
    ratios = [float(summed_penalty(a * unit, b * text) / joint_penalty(a * unit, b * text))
              for a, b in ((1, 0), (0, 1), (1, 1), (1, 0.1))]
    assert ratios[:3] == pytest.approx([1, 1, 8]) and 1 < ratios[3] < 2
