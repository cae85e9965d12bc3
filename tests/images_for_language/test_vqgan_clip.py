"""VQGAN+CLIP: the angle that is made small, latents that stay among the codes, and pictures that repeat."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import numbers

from mmlearn.data.images import standardise
from mmlearn.images_for_language.cutouts import CutoutConfig, cut, draw_cuts, pooled
from mmlearn.images_for_language.vqgan_clip import (
    VQGANCLIP,
    VQGANCLIPConfig,
    chord,
    clamped,
    drawn,
    frozen,
    imagine_loss,
    latent_decay,
    latents_of,
    spherical_loss,
    within_codes,
)
from mmlearn.nn.modes import seeded
from mmlearn.nn.vit import ViTConfig
from mmlearn.text2image.autoencoder import AutoencoderConfig
from mmlearn.text2image.dvae import DVAE, DVAEConfig
from mmlearn.text2image.vector_quantisation import nearest_codes
from mmlearn.text2image.vit_vqgan import ViTVQGAN, ViTVQGANConfig
from mmlearn.text2image.vqgan import VQGAN, VQGANConfig
from mmlearn.text2image.vqvae import VQVAEConfig
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig, TextConfig

TINY_VQGAN = VQGANConfig(AutoencoderConfig(8, (1, 2), 1, (), 6, groups=4), 12, 5)
TINY_VQVAE = VQVAEConfig(16, 8, 4, 1, 10, 4)
TINY_CLIP = CLIPConfig(6, ViTConfig(8, 4, 16, 1, 2), TextConfig(20, 6, 16, 1, 2, 3))
CUTS = CutoutConfig(3, degrees=10.0, noise=0.05)


def tiny(kind=TINY_VQGAN, cutouts=CUTS, steps=4, seed=0, **options):
    with seeded(seed):
        model = VQGANCLIP(VQGANCLIPConfig(kind, TINY_CLIP, cutouts, 16, steps, **options))
        for part in ([model.vqgan.codebook] if isinstance(model.vqgan, VQGAN) else model.vqgan.codebooks):
            torch.nn.init.normal_(part.weight)                              # codes that lie far apart
    return model.eval()


def goals(b=2, seed=1):
    return torch.randn(b, 6, generator=torch.Generator().manual_seed(seed))


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:imagine-chord")
def test_e1_the_distance_is_the_root_and_only_of_unit_vectors():
    u, v = (F.normalize(numbers(5, 4, seed=s), dim=-1) for s in (0, 1))
    inner = (u * v).sum(dim=-1)
    torch.testing.assert_close(chord(u, v), (2 * (1 - inner)).sqrt())
    assert not torch.allclose(chord(u, v), 2 * (1 - inner))                 # as the survey has it
    e1, e2 = torch.eye(2).double()
    assert chord(e1, e2) == pytest.approx(math.sqrt(2)) and 2 * (1 - e1 @ e2) == 2
    assert chord(2 * e1, e2) ** 2 == pytest.approx(5)                       # other lengths: neither
    keys, query = numbers(200, 8, seed=2) * torch.linspace(0.2, 3, 200)[:, None], numbers(8, seed=3)
    assert chord(keys, query).argmin() != (keys @ query).argmax()
    unit, q = F.normalize(keys, dim=-1), F.normalize(query, dim=-1)
    assert chord(unit, q).argmin() == (unit @ q).argmax()


@pytest.mark.equation("eq:imagine-angle")
def test_the_loss_is_half_the_squared_angle_whatever_the_lengths():
    u, v = 3 * numbers(6, 5, seed=0), 0.2 * numbers(6, 5, seed=1)
    for i in range(6):
        cos = float(u[i] @ v[i] / math.sqrt(float(u[i] @ u[i]) * float(v[i] @ v[i])))
        assert float(spherical_loss(u, v)[i]) == pytest.approx(math.acos(cos) ** 2 / 2)
    line = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    want = torch.tensor([0, math.pi**2 / 8, math.pi**2 / 2])
    torch.testing.assert_close(spherical_loss(line, line[:1]), want)
    assert torch.autograd.gradcheck(spherical_loss, (u.requires_grad_(), v.requires_grad_()))


def test_the_gradient_of_the_angle_turns_and_does_not_stretch():
    u, v = numbers(4, 5, seed=0).requires_grad_(), numbers(4, 5, seed=1)
    by_u, = torch.autograd.grad(spherical_loss(u, v).sum(), u)
    torch.testing.assert_close((by_u * u).sum(dim=-1), torch.zeros(4).double())
    theta = (2 * spherical_loss(u, v)).sqrt()
    torch.testing.assert_close(by_u.norm(dim=-1), theta / u.norm(dim=-1))   # d(theta^2 / 2) is theta dtheta


@pytest.mark.equation("eq:imagine-clamp")
def test_a_pixel_beyond_the_range_gets_only_the_gradient_that_brings_it_back():
    x = torch.tensor([-0.5, -0.5, 0.3, 0.3, 1.4, 1.4], requires_grad=True)
    g = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    y = clamped(x)
    torch.testing.assert_close(y, torch.tensor([0.0, 0.0, 0.3, 0.3, 1.0, 1.0]))
    # a step goes against the gradient: below the range it has to be negative, above positive
    by_x, = torch.autograd.grad(y, x, g)
    assert by_x.tolist() == [0.0, -1.0, 1.0, -1.0, 1.0, 0.0]


@pytest.mark.equation("eq:imagine-range")
def test_latents_stay_within_the_range_of_the_codes_channel_by_channel():
    z, book = 3 * numbers(2, 3, 2, 2), numbers(5, 3, seed=1)
    want = z.clone()
    for j in range(3):
        low, high = min(book[:, j].tolist()), max(book[:, j].tolist())
        for b in range(2):
            for y in range(2):
                for x in range(2):
                    want[b, j, y, x] = min(max(float(z[b, j, y, x]), low), high)
    torch.testing.assert_close(within_codes(z, book), want)


@pytest.mark.equation("eq:imagine-loss")
def test_the_loss_is_a_mean_over_cuts_of_a_weighted_sum_over_texts():
    u, t, w = numbers(4, 2, 6), numbers(2, 3, 6, seed=1), torch.tensor([1.0, 0.5, -0.25]).double()
    want = torch.zeros(2).double()
    for b in range(2):
        for g in range(3):
            for i in range(4):
                want[b] += w[g] * spherical_loss(u[i, b], t[b, g]) / 4
    torch.testing.assert_close(imagine_loss(u, t, w, 4), want)
    torch.testing.assert_close(imagine_loss(u[:1], t, w, 4) + imagine_loss(u[1:], t, w, 4), want)


@pytest.mark.equation("eq:imagine-decay")
def test_the_pull_towards_zero_fades():
    z = numbers(2, 3, 2, 2)
    for step, share in ((0, 1), (1, 3), (10, 21)):
        want = torch.stack([0.4 / (2 * share) * sum(v**2 for v in z[i].flatten()) / 12 for i in range(2)])
        torch.testing.assert_close(latent_decay(z, step, 0.4), want)


# -------------------------------------------------------------------------------------------------- the codes

@pytest.mark.parametrize("kind", [
    TINY_VQGAN, VQGANConfig(TINY_VQGAN.autoencoder, 12, 5, "gumbel"), TINY_VQVAE,
    VQVAEConfig(16, 8, 4, 1, 10, 4, books=2, levels=8, ema=True)],
    ids=["vqgan", "gumbel", "vqvae", "two books"])
def test_every_model_with_codes_draws_them_and_passes_gradients_straight_through(kind):
    model = tiny(kind)
    latents = latents_of(model.vqgan)
    z = model.first(2) + 0.3 * torch.randn(2, sum(latents.widths), 16 // latents.factor, 16 // latents.factor,
                                           generator=torch.Generator().manual_seed(0))
    codes = latents.nearest(z)
    for i, (part, book) in enumerate(zip(z.split(latents.widths, dim=1), latents.books)):
        want = nearest_codes(part.movedim(1, -1).reshape(-1, part.shape[1]), book)
        assert torch.equal(codes[:, i].flatten(), want)
    pictures = drawn(latents, z.requires_grad_())
    assert pictures.shape == (2, 3, 16, 16) and 0 <= pictures.min() and pictures.max() <= 1
    through = latents.draw(latents.look_up(codes)).add(1).div(2).clamp(0, 1)
    torch.testing.assert_close(pictures, through, atol=1e-5, rtol=0)
    direct = latents.look_up(codes).detach().requires_grad_()
    by_z, = torch.autograd.grad((pictures * through.detach()).sum(), z)
    by_q, = torch.autograd.grad((clamped((latents.draw(direct) + 1) / 2) * through.detach()).sum(), direct)
    torch.testing.assert_close(by_z, by_q, atol=1e-5, rtol=1e-4)
    assert by_z.abs().sum() > 0


def test_a_transformers_codes_serve_too_and_other_models_are_refused():
    model = ViTVQGAN(ViTVQGANConfig.mini(16)).eval()
    latents = latents_of(model)
    codes = torch.randint(128, (1, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    z = latents.look_up(codes)
    assert torch.equal(latents.nearest(z), codes)
    torch.testing.assert_close(latents.draw(z), model.decode(codes[:, 0]))
    whole = VQGANCLIP.of(model, CLIP(TINY_CLIP), CutoutConfig.none(), size=16, steps=2)
    assert whole.config.factor == 4 and whole.imagine(goals()).images.shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="this transformer draws 16; use its size"):
        VQGANCLIP.of(model, CLIP(TINY_CLIP), size=8)
    with pytest.raises(ValueError, match="DVAE has no codes to imagine with; give a VQGAN"):
        latents_of(DVAE(DVAEConfig.mini(16, 8, 8)))


# ------------------------------------------------------------------------------------------------ imagination

def test_one_step_is_adam_on_the_gradient_of_the_written_out_loss():
    model, text = tiny(steps=1), goals(1)
    latents, config = latents_of(model.vqgan), model.config
    z = model.first(1, 5).clone().requires_grad_()
    start = z.detach().clone()
    cuts = draw_cuts(config.cutouts, torch.Generator().manual_seed(6))
    x = clamped((latents.draw(z + (latents.look_up(latents.nearest(z)) - z).detach()) + 1) / 2)
    seen = cut(pooled(x, 8), cuts)
    loss = sum(spherical_loss(model.clip.encode_image(standardise(seen[i])), text) for i in range(3)) / 3
    optimizer = torch.optim.Adam([z], lr=0.1)
    loss.sum().backward()
    optimizer.step()
    found = model.imagine(text, seed=5, keep_every=1)
    want = drawn(latents, latents.within(z.detach()))
    torch.testing.assert_close(found.images, want * 2 - 1, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.losses[0], loss.detach())
    assert torch.equal(found.codes, latents.nearest(latents.within(z.detach())))
    assert found.frame_steps == (0, 1) and found.frames.shape == (2, 1, 3, 16, 16)
    torch.testing.assert_close(found.frames[0].float() / 255, drawn(latents, start), atol=3e-3, rtol=0)


def test_e28_clip_draws_it_is_not_only_asked_how_well_a_picture_fits():
    """Its gradient is all that moves the latents: with another text they go elsewhere, without it nowhere."""
    model, text = tiny(steps=3), goals(1)
    start = model.imagine(text, seed=5, keep_every=1).frames[0]
    one, other = (model.imagine(goal, seed=5).images for goal in (text, -text))
    assert (one - other).abs().max() > 1e-3
    still = model.imagine(text[:, None], weights=torch.zeros(1), seed=5, keep_every=1).frames
    assert torch.equal(still[-1], still[0]) and torch.equal(still[0], start)


def test_few_cuts_at_a_time_give_the_same_gradient():
    model, text = tiny(), goals()[:, None]
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    cuts = draw_cuts(CutoutConfig(5), torch.Generator().manual_seed(1))
    results = [model.pull(x.clone().requires_grad_(), text, torch.ones(1), cuts, n) for n in (1, 2, 5)]
    for loss, gradient in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        torch.testing.assert_close(gradient, results[0][1], atol=1e-6, rtol=1e-4)
    assert results[0][1].abs().sum() > 0


def test_a_picture_depends_on_its_sentence_and_the_seed_alone():
    model, text = tiny(steps=3), goals(3)
    together, again, other = (model.imagine(text, seed=s) for s in (0, 0, 1))
    alone = model.imagine(text[1:2], seed=0, at_once=1)
    assert torch.equal(together.images, again.images) and not torch.equal(together.images, other.images)
    torch.testing.assert_close(together.images[1:2], alone.images, atol=1e-4, rtol=0)
    torch.testing.assert_close(together.losses[:, 1:2], alone.losses, atol=1e-4, rtol=0)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    model.imagine(text[:1])
    assert torch.equal(state, torch.get_rng_state())                        # nobody else's dice are thrown


def test_nothing_of_the_models_moves_and_they_are_left_as_they_were():
    model = tiny(VQVAEConfig(16, 8, 4, 1, 10, 4, ema=True)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.imagine(goals())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    with pytest.raises(RuntimeError), frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
        raise RuntimeError
    assert all(p.requires_grad for p in model.parameters())


def test_the_angle_falls_and_the_score_rises():
    model, text = tiny(steps=40, cutouts=CutoutConfig.none()), goals()
    first = drawn(latents_of(model.vqgan), model.first(2))
    start = model.scores(first * 2 - 1, text)
    seen = []
    found = model.imagine(text, on_step=seen.append)
    assert found.losses.shape == (40, 2) and (found.losses[-5:].mean(dim=0) < 0.9 * found.losses[0]).all()
    assert (model.scores(found.images, text) > start).all() and seen == list(range(1, 41))
    with torch.no_grad():
        u = model.clip.encode_image(standardise(pooled(first, 8)))
    torch.testing.assert_close(found.losses[0], spherical_loss(u, text), atol=1e-5, rtol=1e-4)


def test_a_weight_below_zero_repels_and_a_decay_pulls_the_latents_together():
    text = torch.stack([goals(1), goals(1, seed=4)], dim=1)
    toward, away = (tiny(steps=30, cutouts=CutoutConfig.none()).imagine(
        text, weights=torch.tensor([1.0, w])).images for w in (0.0, -0.7))
    model = tiny()
    assert model.scores(away, text[:, 1]) < model.scores(toward, text[:, 1])
    free, held = (tiny(steps=20, decay=d, cutouts=CutoutConfig.none()) for d in (0.0, 1e4))
    norms = [latents_of(m.vqgan).look_up(m.imagine(text[:, 0]).codes).square().mean() for m in (free, held)]
    assert norms[1] < norms[0]


def test_a_picture_can_be_the_start():
    model = tiny(steps=0)
    start = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        want = model.vqgan.decode(model.vqgan.encode(start)).clamp(-1, 1)
    found = model.imagine(goals(), start=start)
    torch.testing.assert_close(found.images, want, atol=1e-5, rtol=0)
    assert found.losses.shape == (0, 2) and len(found.frames) == 0
    with pytest.raises(ValueError, match="start with have 8 x 16 pixels; resize them to 16 x 16"):
        model.imagine(goals(), start=start[:, :, :8])


def test_goals_that_do_not_fit_are_refused():
    model = tiny()
    with pytest.raises(ValueError, match=r"goals have shape \(2, 5\), and CLIP's embeddings have 6 numbers"):
        model.imagine(torch.randn(2, 5))
    with pytest.raises(ValueError, match="there are 2 weights of 1 texts a picture"):
        model.imagine(goals(), weights=torch.ones(2))
    with pytest.raises(ValueError, match="size is 50 pixels.*use a multiple of 16"):
        VQGANCLIPConfig(size=50)


def test_two_trained_models_are_put_together_with_the_papers_recipe():
    with seeded(0):
        vqgan, clip = VQGAN(TINY_VQGAN), CLIP(TINY_CLIP)
    model = VQGANCLIP.of(vqgan, clip)
    config, paper = model.config, VQGANCLIPConfig.paper()
    assert model.vqgan is vqgan and model.clip is clip
    assert (config.cutouts, config.steps, config.lr) == (paper.cutouts, paper.steps, paper.lr)
    assert config.size == 8 and config.factor == 2
    assert (paper.size, paper.steps, paper.lr, paper.cutouts.cuts) == (512, 500, 0.1, 32)
    assert VQGANCLIPConfig.small().size == 256 and VQGANCLIPConfig.mini().factor == 8
