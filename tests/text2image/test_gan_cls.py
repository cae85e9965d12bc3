import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, numbers
from torch import nn

from mmlearn.text2image.adversarial import discriminator_loss, non_saturating_loss
from mmlearn.text2image.gan_cls import (
    GANCLS,
    RECIPES,
    GANCLSConfig,
    MatchingDiscriminator,
    StyleEncoder,
    TextToImageGenerator,
    interpolate,
    interpolated_generator_loss,
    matching_discriminator_loss,
    optimal_matching_discriminator,
    style_loss,
    style_objective,
    transfer_style,
    with_interpolated,
    wrong_partners,
)

MINI = replace(GANCLSConfig.mini(text=12), noise=6, compressed=5, generator_width=8, discriminator_width=8)


def build(config=MINI, seed=0):
    torch.manual_seed(seed)
    return GANCLS(config)


def batch(b=6, seed=0, size=32, text=12, z=6):
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(b, 3, size, size, generator=g) * 2 - 1, torch.randn(b, text, generator=g),
            torch.randn(b, z, generator=g))


def warm(model):
    """Evaluation mode with the statistics of one batch, so that signals are as large as in training."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    images, text, z = batch()
    model(z, text), model.discriminator(images, text)
    return model.eval()


# -------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("name, generator, discriminator", [
    *((name, 18_905_472, 4_030_080) for name in ("gan_int_cls", "gan_cls", "gan_int", "gan")),
    ("coco", 41_101_080, 36_183_440)])
def test_both_nets_have_the_parameters_counted_in_the_code(name, generator, discriminator):
    config = getattr(GANCLSConfig, name)()
    with torch.device("meta"):
        model = GANCLS(config)
        assert count(model.generator) == generator and count(model.discriminator) == discriminator
        images, text = model(torch.empty(2, 100), torch.empty(2, 1024)), torch.empty(2, 1024)
        assert images.shape == (2, 3, 64, 64) and model.discriminator(images, text).shape == (2,)
        assert StyleEncoder(config)(images).shape == (2, 100)


def test_the_four_variants_differ_by_two_weights_only():
    weights = {name: (c.cls_weight, c.interp_weight) for name in ("gan", "gan_cls", "gan_int", "gan_int_cls")
               for c in [getattr(GANCLSConfig, name)()]}
    assert weights == {"gan": (0, 0), "gan_cls": (0.5, 0), "gan_int": (0, 1), "gan_int_cls": (0.5, 1)}
    for name in weights:
        same = replace(getattr(GANCLSConfig, name)(), cls_weight=0.5, interp_weight=1.0)
        assert same == GANCLSConfig.gan_int_cls()
    assert RECIPES.keys() == {"gan_int_cls", "coco"}


class PlainBottleneck(nn.Module):
    def __init__(self, c, m, act):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(c, m, 1, bias=False), nn.BatchNorm2d(m), act(), nn.Conv2d(m, m, 3, 1, 1, bias=False),
            nn.BatchNorm2d(m), act(), nn.Conv2d(m, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, x):
        return x + self.convs(x)


def act():
    return nn.LeakyReLU(0.2)


def plain_generator(n, z, text, p):
    """The released generator for 64 pixels, layer by layer: (compress, rest)."""
    def up(a, b):
        return nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b)
    return nn.Sequential(nn.Linear(text, p), act()), nn.Sequential(
        nn.ConvTranspose2d(z + p, 8 * n, 4, bias=False), nn.BatchNorm2d(8 * n),
        PlainBottleneck(8 * n, 2 * n, nn.ReLU), nn.ReLU(),
        *up(8 * n, 4 * n), PlainBottleneck(4 * n, n, nn.ReLU), nn.ReLU(),
        *up(4 * n, 2 * n), nn.ReLU(), *up(2 * n, n), nn.ReLU(),
        nn.ConvTranspose2d(n, 3, 4, 2, 1, bias=False), nn.Tanh())


def plain_discriminator(n, text, p, interpolation):
    """The released discriminators for 64 pixels: (look, compress, match)."""
    def down(a, b):
        return nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b)
    look = nn.Sequential(
        nn.Conv2d(3, n, 4, 2, 1, bias=False), act(), *down(n, 2 * n), act(),
        *down(2 * n, 4 * n), *([] if interpolation else [act()]), *down(4 * n, 8 * n),
        PlainBottleneck(8 * n, 2 * n, act), act())
    compress = nn.Sequential(nn.Linear(text, p), *([nn.BatchNorm1d(p)] if interpolation else []), act())
    match = nn.Sequential(nn.Conv2d(8 * n + p, 8 * n, 1, bias=False), nn.BatchNorm2d(8 * n), act(),
                          nn.Conv2d(8 * n, 1, 4, bias=False))
    return look, compress, match


def copy(theirs, ours):
    """Weights in the order of the layers, every one of both sides used."""
    yours = [t for part in theirs for t in part.state_dict().values()]
    mine = list(ours.state_dict().items())
    assert [t.shape for _, t in mine] == [t.shape for t in yours]
    ours.load_state_dict(dict(zip([name for name, _ in mine], yours)))


def test_the_generator_is_the_released_one_layer_by_layer():
    torch.manual_seed(0)
    theirs = plain_generator(4, 6, 12, 5)
    ours = TextToImageGenerator(replace(MINI, size=64, generator_width=4))
    copy(theirs, ours)
    z, text = torch.randn(3, 6), torch.randn(3, 12)
    want = theirs[1](torch.cat([z, theirs[0](text)], dim=1).reshape(3, 11, 1, 1))
    torch.testing.assert_close(ours(z, text), want)
    assert ours(z, text).abs().max() <= 1


@pytest.mark.parametrize("interpolation", [True, False])
def test_the_discriminator_is_the_released_one_layer_by_layer(interpolation):
    torch.manual_seed(0)
    theirs = plain_discriminator(4, 12, 5, interpolation)
    ours = MatchingDiscriminator(replace(MINI, size=64, discriminator_width=4, int_layers=interpolation))
    copy(theirs, ours)
    images, text = torch.randn(3, 3, 64, 64), torch.randn(3, 12)
    code = theirs[1](text)[:, :, None, None].repeat(1, 1, 4, 4)
    want = theirs[2](torch.cat([theirs[0](images), code], dim=1)).flatten()
    torch.testing.assert_close(ours(images, text), want)


def test_convolutions_start_narrow_and_linear_layers_as_torch_starts_them():
    model = build(replace(GANCLSConfig.gan_int_cls(), generator_width=32, discriminator_width=32))
    kinds = {nn.Conv2d: 0.02, nn.ConvTranspose2d: 0.02, nn.Linear: 1 / math.sqrt(3 * 1024)}
    for module in model.modules():
        if type(module) in kinds and module.weight.numel() > 5000:
            assert module.weight.std().item() == pytest.approx(kinds[type(module)], rel=0.1)
    assert all((m.weight - 1).abs().max() < 0.12 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("name", ["gan", "gan_cls", "gan_int", "gan_int_cls"])
def test_gradients_reach_every_parameter_of_either_side(name, size):
    of = getattr(GANCLSConfig, name)()
    model = build(replace(MINI, size=size, cls_weight=of.cls_weight, interp_weight=of.interp_weight))
    images, text, z = batch(size=size)
    model.discriminator_loss(images, text, z, torch.tensor([1, 2, 3, 4, 5, 0])).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.discriminator.parameters())
    assert all(p.grad is None for p in model.generator.parameters())
    model.zero_grad()
    model.generator_loss(text, torch.randn(model.draws(6), 6)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.generator.parameters())


def test_the_caption_changes_the_picture_and_the_verdict():
    model = warm(build())
    images, text, z = batch()
    assert (model(z, text) - model(z, text.roll(1, 0))).abs().max() > 1e-3
    logits = [model.discriminator(images, t) for t in (text, text.roll(1, 0))]
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    torch.testing.assert_close(model(z, text)[2:3], model(z[2:3], text[2:3]))
    torch.testing.assert_close(model.discriminator(images, text)[2:3],
                               model.discriminator(images[2:3], text[2:3]))


# --------------------------------------------------------------------------------------- three kinds of pairs


@pytest.mark.equation("eq:gan-cls-d")
@pytest.mark.parametrize("weight", [0.5, 0.2, 1])
def test_the_discriminators_loss_is_a_mean_over_three_kinds_of_pairs(weight):
    real, wrong, fake = numbers(5), numbers(5, seed=1), numbers(5, seed=2)
    def s(a):
        return 1 / (1 + math.exp(-float(a)))
    want = -sum(math.log(s(r)) + weight * math.log(1 - s(w)) + (1 - weight) * math.log(1 - s(f))
                for r, w, f in zip(real, wrong, fake)) / 5
    assert matching_discriminator_loss(real, wrong, fake, weight).item() == pytest.approx(want)


@pytest.mark.equation("eq:gan-cls-optimum")
def test_the_best_matching_discriminator_beats_all_others_and_is_not_a_half_when_all_is_learnt():
    p_r, p_w, p_g = (numbers(6, seed=i).softmax(0) for i in range(3))
    best = optimal_matching_discriminator(p_r, p_w, p_g)
    assert best.tolist() == pytest.approx([float(r) / (float(r) + float(w) / 2 + float(g) / 2)
                                           for r, w, g in zip(p_r, p_w, p_g)])

    def value(D):
        return (p_r * D.log() + 0.5 * p_w * (1 - D).log() + 0.5 * p_g * (1 - D).log()).sum()

    for seed in range(50):
        assert value(numbers(6, seed=seed).sigmoid()) < value(best)
    learnt = optimal_matching_discriminator(p_r, p_w, p_r)
    torch.testing.assert_close(learnt, p_r / (1.5 * p_r + 0.5 * p_w))
    assert (learnt - 0.5).abs().max() > 0.05
    torch.testing.assert_close(optimal_matching_discriminator(p_r, p_w, p_r, 0), torch.full_like(p_r, 0.5))


@pytest.mark.equation("eq:gan-cls-d")
def test_a_batch_is_judged_in_three_calls_and_the_generator_learns_nothing_from_it():
    model = build()
    images, text, z = batch()
    wrong = wrong_partners(torch.tensor([0, 0, 1, 1, 2, 2]), torch.Generator().manual_seed(0))
    seen = []
    model.discriminator.register_forward_hook(lambda m, args, out: seen.append((*args, out)))
    loss = model.discriminator_loss(images, text, z, wrong)
    assert len(seen) == 3
    (x_r, t_r, a_r), (x_w, t_w, a_w), (x_f, t_f, a_f) = seen
    assert torch.equal(x_r, images) and torch.equal(x_w, images[wrong])
    assert all(torch.equal(t, text) for t in (t_r, t_w, t_f)) and not x_f.requires_grad
    torch.testing.assert_close(loss, matching_discriminator_loss(a_r, a_w, a_f))


def test_a_wrong_partner_is_of_another_class_and_any_of_them():
    classes = torch.tensor([3, 3, 3, 7, 9])
    g = torch.Generator().manual_seed(0)
    draws = torch.stack([wrong_partners(classes, g) for _ in range(300)])
    assert (classes[draws] != classes).all()
    assert [sorted(set(column.tolist())) for column in draws.T] == [[3, 4]] * 3 + [[0, 1, 2, 4], [0, 1, 2, 3]]
    with pytest.raises(ValueError, match="all 4 pictures of the batch have class 2"):
        wrong_partners(torch.full((4,), 2))


# -------------------------------------------------------------------------------------------- interpolation


@pytest.mark.equation("eq:gan-int-text")
def test_a_caption_between_two_is_their_weighted_mean():
    t1, t2 = numbers(3, 4), numbers(3, 4, seed=1)
    want = [[0.3 * float(a) + 0.7 * float(b) for a, b in zip(x, y)] for x, y in zip(t1, t2)]
    assert interpolate(t1, t2, 0.3).flatten().tolist() == pytest.approx([x for row in want for x in row])
    torch.testing.assert_close(interpolate(t1, t2, 1), t1)
    torch.testing.assert_close(interpolate(t1, t2), (t1 + t2) / 2)


@pytest.mark.parametrize("b", [6, 7])
def test_half_as_many_captions_again_lie_between_the_two_halves_of_the_batch(b):
    text = numbers(b, 4)
    both = with_interpolated(text)
    assert len(both) == b + 3 and torch.equal(both[:b], text)
    for i in range(3):
        torch.testing.assert_close(both[b + i], (text[i] + text[i + 3]) / 2)


@pytest.mark.equation("eq:gan-int-g")
@pytest.mark.parametrize("weight", [1, 0.4, 0])
def test_the_generators_loss_is_a_weighted_mean_over_written_and_interpolated_captions(weight):
    fake = numbers(9)
    s = [1 / (1 + math.exp(-float(a))) for a in fake]
    want = -(sum(map(math.log, s[:6])) + weight * sum(map(math.log, s[6:]))) / 9
    assert interpolated_generator_loss(fake, 6, weight).item() == pytest.approx(want)
    torch.testing.assert_close(interpolated_generator_loss(fake[:6], 6), non_saturating_loss(fake[:6]))
    theirs = F.binary_cross_entropy_with_logits(
        fake, torch.ones_like(fake), torch.tensor([1.0] * 6 + [float(weight)] * 3, dtype=torch.float64))
    torch.testing.assert_close(interpolated_generator_loss(fake, 6, weight), theirs)


@pytest.mark.equation("eq:gan-int-g")
def test_generator_and_discriminator_are_given_the_same_captions():
    model = build()
    _, text, _ = batch()
    seen = []
    for net in (model.generator, model.discriminator):
        net.register_forward_hook(lambda m, args, out: seen.append(args[1]))
    model.generator_loss(text, torch.randn(9, 6))
    assert torch.equal(seen[0], with_interpolated(text)) and torch.equal(seen[1], seen[0])
    with pytest.raises(ValueError, match="noise for 6 pictures, 9 are drawn"):
        model.generator_loss(text, torch.randn(6, 6))


# ----------------------------------------------------------------------------------------------------- style


@pytest.mark.equation("eq:gan-style")
def test_the_style_loss_is_a_squared_distance_between_noises():
    z, other = numbers(4, 6), numbers(4, 6, seed=1)
    want = sum(sum((float(a) - float(b)) ** 2 for a, b in zip(x, y)) for x, y in zip(z, other)) / 4
    assert style_loss(z, other).item() == pytest.approx(want)
    assert style_loss(numbers(4000, 6), torch.zeros(4000, 6)).item() == pytest.approx(6, abs=0.2)


@pytest.mark.equation("eq:gan-style")
def test_a_style_encoder_learns_to_read_the_noise_off_pictures_and_the_generator_stays():
    torch.manual_seed(0)
    model = build(replace(MINI, noise=2)).eval()
    encoder = StyleEncoder(model.config)
    before = [p.clone() for p in model.generator.parameters()]
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    g = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(60):
        loss = style_objective(encoder, model.generator, torch.randn(16, 12, generator=g),
                               torch.randn(16, 2, generator=g))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.7 * 2 and losses[0] > 1                # 2 is the loss of saying nothing
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.generator.parameters()))


@pytest.mark.equation("eq:gan-style-transfer")
def test_style_is_transferred_by_drawing_another_caption_with_the_noise_of_a_picture():
    model, encoder = build().eval(), StyleEncoder(MINI).eval()
    images, text, _ = batch()
    torch.testing.assert_close(transfer_style(encoder, model.generator, images, text),
                               model.generator(encoder(images), text))


# ------------------------------------------------------------------------------------------------- training


def test_a_matching_discriminator_learns_which_caption_fits_which_picture():
    """Two pictures, two captions, no generator needed to tell them apart."""
    model = build(replace(MINI, size=16))
    images, text, _ = batch(2, size=16)
    images, text, wrong = images.repeat(4, 1, 1, 1), text.repeat(4, 1), torch.tensor([1, 0] * 4)
    optimizer = torch.optim.Adam(model.discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    g = torch.Generator().manual_seed(0)
    for _ in range(60):
        loss = model.discriminator_loss(images, text, torch.randn(8, 6, generator=g), wrong)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    D = model.discriminator
    assert D(images, text).mean() > D(images[wrong], text).mean() + 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_under_autocast_are_finite_and_in_single_precision(dtype):
    model = build()
    images, text, z = batch()
    with torch.autocast("cpu", dtype=dtype):
        losses = [model.discriminator_loss(images, text, z, torch.arange(6).roll(1)),
                  model.generator_loss(text, torch.randn(9, 6)),
                  style_objective(StyleEncoder(MINI), model.generator, text, z)]
    for loss in losses:
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_baseline_of_the_paper_needs_no_wrong_pictures():
    model = build(replace(MINI, cls_weight=0, interp_weight=0))
    images, text, z = batch()
    seen = []
    model.discriminator.register_forward_hook(lambda m, args, out: seen.append(out))
    loss = model.discriminator_loss(images, text, z)
    torch.testing.assert_close(loss, discriminator_loss(*seen))


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("make, message", [
    (lambda: replace(MINI, size=48), "48 pixels a side"),
    (lambda: replace(MINI, size=8), "give at least 16"),
    (lambda: replace(MINI, cls_weight=2), "cls_weight of GANCLSConfig is 2"),
    (lambda: replace(MINI, interp_weight=-1), "interp_weight of GANCLSConfig is -1"),
    (lambda: replace(MINI, generator_width=2), "generator_width of GANCLSConfig is 2, expected from 4"),
    (lambda: build()(torch.randn(2, 6), torch.randn(2, 13)), "noise has 6 numbers and text 13"),
    (lambda: build().discriminator(torch.rand(2, 3, 16, 16), torch.randn(2, 12)), "16 x 16 pixels"),
    (lambda: build().discriminator_loss(*batch()), "give the wrong pictures, by wrong_partners"),
    (lambda: matching_discriminator_loss(torch.zeros(2), None, torch.zeros(2)), "there are none"),
])
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
