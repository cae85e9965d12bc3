"""StackGAN's two stages and the three branches of its second version."""

import math
from dataclasses import replace

import pytest
import torch
from networks import count, numbers
from torch import nn

from mmlearn.nn.modes import blank
from mmlearn.text2image.blocks import ConditioningAugmentation, halvings
from mmlearn.text2image.stackgan import (
    MatchingDiscriminator,
    SketchGenerator,
    StackGAN,
    StackGANConfig,
    StackGANv2,
    StackGANv2Config,
    branch_loss,
    colour_consistency,
    colour_statistics,
    joint_matching_loss,
    matching_loss,
    stage_loss,
)

PYTORCH = replace(StackGANConfig.mini(text=10), width=8, critic=4, condition=5, noise=6)
TENSORFLOW = replace(PYTORCH, code="tensorflow")
V2 = replace(StackGANv2Config.mini(text=10), size=8, width=8, critic=4, condition=5, noise=6)
CODES = {"pytorch": PYTORCH, "tensorflow": TENSORFLOW}


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("config, counts", [
    (StackGANConfig.paper(), (14_264_192, 4_029_824, 26_290_080, 48_603_520)),
    (StackGANConfig.coco(), (20_020_832, 12_407_425, 37_130_480, 159_889_538)),
])
def test_the_first_version_has_the_parameters_of_the_released_codes(config, counts):
    with blank():
        model = StackGAN(config)
    assert (count(model.stage1), count(model.critic1), count(model.stage2), count(model.critic2)) == counts


def test_the_second_version_has_the_parameters_of_the_released_code():
    with blank():
        model = StackGANv2(StackGANv2Config.paper())
    assert count(model.generator) == 21_239_696
    assert [count(critic) for critic in model.critics] == [5_723_906, 18_834_178, 71_269_122]
    assert StackGANv2Config.paper().sizes == (64, 128, 256)


# ----------------------------------------------------------------------------------------------------- losses

def cross_entropy(logits, label):
    values = [-math.log(1 / (1 + math.exp(-a if label else a))) for a in logits.tolist()]
    return sum(values) / len(values)


@pytest.mark.equation("eq:stackgan-discriminator")
@pytest.mark.equation("eq:stackgan-generator")
def test_losses_of_the_first_version_are_the_formulas():
    real, wrong, fake = (numbers(4, seed=s) for s in range(3))
    want = cross_entropy(real, 1) + 0.5 * cross_entropy(wrong, 0) + 0.5 * cross_entropy(fake, 0)
    assert matching_loss(real, wrong, fake).item() == pytest.approx(want)
    mu, log_var = numbers(4, 3, seed=3), numbers(4, 3, seed=4)
    kl = sum(0.5 * (m * m + math.exp(v) - v - 1)
             for m, v in zip(mu.flatten().tolist(), log_var.flatten().tolist()))
    assert stage_loss(fake, mu, log_var, 2.0).item() == pytest.approx(cross_entropy(fake, 1) + 2 * kl / 12)


@pytest.mark.equation("eq:stackgan2-discriminator")
@pytest.mark.equation("eq:stackgan2-generator")
def test_losses_of_the_second_version_ask_both_questions():
    real, wrong, fake = ((numbers(4, seed=s), numbers(4, seed=s + 3)) for s in range(3))
    want = (cross_entropy(real[0], 1) + cross_entropy(fake[0], 0) + cross_entropy(wrong[0], 1)
            + cross_entropy(real[1], 1) + cross_entropy(fake[1], 0) + cross_entropy(wrong[1], 0))
    assert joint_matching_loss(real, wrong, fake).item() == pytest.approx(want)
    assert branch_loss(fake).item() == pytest.approx(cross_entropy(fake[0], 1) + cross_entropy(fake[1], 1))


@pytest.mark.equation("eq:colour-statistics")
@pytest.mark.equation("eq:colour-consistency")
def test_colours_of_two_branches_are_compared_by_mean_and_covariance():
    larger, smaller = numbers(2, 3, 4, 4), numbers(2, 3, 2, 2, seed=1)
    want = 0.0
    for j in range(2):
        found = []
        for image in (larger[j], smaller[j]):
            pixels = [image[:, r, c] for r in range(image.shape[1]) for c in range(image.shape[2])]
            mu = sum(pixels) / len(pixels)
            found.append((mu, sum(torch.outer(x - mu, x - mu) for x in pixels) / len(pixels)))
        (mu, Sigma), (mu_before, Sigma_before) = found
        torch.testing.assert_close(colour_statistics(larger)[0][j], mu)
        torch.testing.assert_close(colour_statistics(larger)[1][j], Sigma)
        want += float(((mu - mu_before) ** 2).sum() + 5 * ((Sigma - Sigma_before) ** 2).sum()) / 2
    assert colour_consistency(larger, smaller).item() == pytest.approx(want)
    twice = smaller.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert colour_consistency(twice, smaller).item() == pytest.approx(0, abs=1e-12)


# ---------------------------------------------------------------------------------------------- version one

@pytest.mark.parametrize("code", CODES)
def test_a_picture_has_four_times_the_side_of_its_sketch(code):
    torch.manual_seed(0)
    model = StackGAN(CODES[code])
    drawn = model(torch.randn(3, 6), torch.randn(3, 10))
    assert [tuple(x.shape) for x in drawn.images] == [(3, 3, 16, 16), (3, 3, 64, 64)]
    assert all((x.abs() <= 1).all() for x in drawn.images)
    text = torch.randn(3, 10 if code == "tensorflow" else 5)
    logits = model.critic2(drawn.images[1], text)
    assert (logits if code == "tensorflow" else logits[1]).shape == (3,)


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("code", CODES)
def test_sketches_may_have_any_side_that_is_halved_to_four(code, size):
    config = replace(CODES[code], size=size, width=4, critic=2)
    assert SketchGenerator(config)(torch.randn(2, 6), torch.randn(2, 10))[0].shape == (2, 3, size, size)
    critic = MatchingDiscriminator(size, 2, 10, 5)
    assert critic(torch.randn(2, 3, size, size), torch.randn(2, 10)).shape == (2,)


@pytest.mark.parametrize("code", CODES)
def test_e10_the_second_stage_is_trained_on_sketches_that_stay_as_they_are(code):
    torch.manual_seed(0)
    model = StackGAN(CODES[code])
    text = torch.randn(4, 10)
    drawn = model(torch.randn(4, 6), text)
    drawn.images[1].square().mean().backward()
    assert all(p.grad is None for p in model.stage1.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.stage2.parameters())
    sketch, mu, log_var = model.stage1(torch.randn(4, 6), text)
    judged = text if code == "tensorflow" else mu
    logits = model.critic1(sketch, judged)
    stage_loss(logits if code == "tensorflow" else logits[1], mu, log_var).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.stage1.parameters())
    assert len(model(torch.randn(2, 6), text[:2]).images) == 2              # exactly two stages


@pytest.mark.parametrize("code", CODES)
def test_e9_the_text_enters_the_generator_at_one_place_and_normalises_nothing(code):
    torch.manual_seed(0)
    stage = SketchGenerator(CODES[code]).eval()
    text = torch.randn(2, 10)
    takers = []
    for name, module in stage.named_children():
        module.register_forward_pre_hook(lambda m, args, name=name: takers.append(name) if any(
            torch.is_tensor(a) and a.data_ptr() == text.data_ptr() for a in args) else None)
    noise = torch.randn(2, 6)
    first = stage(noise, text, seeded())[0]
    assert takers == ["condition"] and isinstance(stage.condition, ConditioningAugmentation)
    norms = [m for m in stage.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(type(m) in (nn.BatchNorm1d, nn.BatchNorm2d) for m in norms)    # no conditional one
    before = [(m.weight.clone(), m.bias.clone()) for m in norms]
    stage.condition.statistics = lambda other: (torch.zeros(2, 5), torch.zeros(2, 5))
    blind = [stage(noise, t, seeded())[0] for t in (text, text.flip(0))]
    assert torch.equal(*blind) and not torch.allclose(first, blind[0])   # the condition is the only way in
    assert all(torch.equal(m.weight, w) and torch.equal(m.bias, b) for m, (w, b) in zip(norms, before))


def test_one_text_and_one_noise_give_several_pictures_because_the_condition_is_drawn():
    torch.manual_seed(0)
    stage = SketchGenerator(PYTORCH).eval()
    noise, text = torch.randn(1, 6), torch.randn(1, 10)
    pictures = torch.cat([stage(noise, text, seeded(i))[0] for i in range(4)])
    assert pictures.std(dim=0).max() > 1e-3
    assert torch.equal(stage(noise, text, seeded(0))[0], stage(noise, text, seeded(0))[0])


def test_the_critic_of_the_tensorflow_code_has_the_activations_of_the_notes():
    body = MatchingDiscriminator(64, 2, 10, 5).body
    kinds = [type(m).__name__ for m in body]
    assert kinds == ["Conv2d", "LeakyReLU", "Conv2d", "BatchNorm2d", "LeakyReLU", "Conv2d", "BatchNorm2d",
                     "Conv2d", "BatchNorm2d", "Bottleneck", "LeakyReLU"]
    large = [type(m).__name__ for m in MatchingDiscriminator(256, 2, 10, 5).body]
    assert large.count("Conv2d") == 8 and large[-3:] == ["BatchNorm2d", "Bottleneck", "LeakyReLU"]


# ---------------------------------------------------------------------------------------------- version two

def test_e10_the_branches_of_the_second_version_are_trained_at_once():
    torch.manual_seed(0)
    model = StackGANv2(V2)
    drawn = model(torch.randn(4, 6), torch.randn(4, 10))
    assert [tuple(x.shape) for x in drawn.images] == [(4, 3, s, s) for s in (8, 16, 32)]
    drawn.images[2].square().mean().backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.generator.first.parameters())
    model.zero_grad()
    model.generator_loss(drawn).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.generator.parameters())
    model.zero_grad()
    real = tuple(torch.randn_like(x) for x in drawn.images)
    torch.stack(model.discriminator_losses(real, real, drawn)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.critics.parameters())
    assert all(p.grad is None for p in model.generator.parameters())


def test_a_row_of_a_batch_is_what_it_is_alone():
    torch.manual_seed(0)
    model = StackGANv2(V2).eval()
    model.generator.condition.epsilon = lambda like, generator: torch.ones_like(like)
    noise, text = torch.randn(3, 6), torch.randn(3, 10)
    together = model(noise, text)
    alone = model(noise[1:2], text[1:2])
    for whole, one in zip(together.images, alone.images):
        torch.testing.assert_close(whole[1], one[0], atol=1e-5, rtol=1e-4)


def test_the_generators_loss_is_the_sum_over_branches_and_the_kl():
    torch.manual_seed(0)
    model = StackGANv2(V2).eval()
    drawn = model(torch.randn(4, 6), torch.randn(4, 10))
    want = sum(cross_entropy(head, 1) for critic, x in zip(model.critics, drawn.images)
               for head in critic(x, drawn.mu))
    kl = (0.5 * (drawn.mu**2 + drawn.log_var.exp() - drawn.log_var - 1)).mean().item()
    assert model.generator_loss(drawn).item() == pytest.approx(want + 2 * kl, rel=1e-4)


def test_a_step_runs_in_16_bits_with_losses_in_32():
    torch.manual_seed(0)
    model = StackGANv2(V2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        drawn = model(torch.randn(4, 6), torch.randn(4, 10))
        loss = model.generator_loss(drawn)
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


@pytest.mark.parametrize("make, change, said", [
    (StackGANConfig.paper, {"code": "keras"}, "code is 'keras'"),
    (StackGANConfig.paper, {"size": 8}, "sketch of 8 pixels"),
    (StackGANConfig.paper, {"width": 30}, "widths 30"),
    (StackGANv2Config.paper, {"width": 6}, "6 channels cannot be halved"),
    (StackGANv2Config.paper, {"branches": 0}, "0 branches"),
    (StackGANv2Config.paper, {"size": 20}, "20 pixels a side"),
])
def test_configurations_that_make_no_sense_are_refused(make, change, said):
    with pytest.raises(ValueError, match=said):
        replace(make(), **change)
    assert halvings(64) == 4
