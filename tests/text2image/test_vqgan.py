"""VQGAN: sizes as counted in the authors' code, each equation by loops, the game, and the usual promises."""

import math
from dataclasses import replace

import pytest
import torch
from networks import count, far
from oracles import taming
from torch import nn

from mmlearn.text2image.autoencoder import AutoencoderConfig
from mmlearn.text2image.vqgan import (
    VQGAN,
    GumbelCodebook,
    PatchConfig,
    PatchDiscriminator,
    VQGANConfig,
    VQGANGame,
    VQGANLossConfig,
    adaptive_weight,
    autoencoder_loss,
    patch_generator_loss,
    patch_hinge_loss,
    reconstruction_loss,
    temperature,
    vqgan_game,
    weigh,
    with_gradient,
)
from mmlearn.train import fit

TINY = VQGANConfig(AutoencoderConfig(8, (1, 2), 1, (2,), 6, groups=4), 9, 5)
GUMBEL = replace(TINY, quantiser="gumbel")
PATCH = PatchConfig(4, 2)
NOW = VQGANLossConfig(start=0)


def pictures(b=3, size=16, seed=1):
    return torch.rand(b, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def build(config=TINY, loss=NOW, seed=0, **options):
    """A game whose codes lie among the vectors of the encoder, so that several are chosen."""
    torch.manual_seed(seed)
    game = VQGANGame(config, PATCH, loss, **options)
    with torch.no_grad():
        game.autoencoder.codebook.weight.normal_(0, 0.3)
    return game


def step(game, x, distance=None):
    """The losses of one step with the gradients that they leave, and no step."""
    gradients = []
    for player, loss, *_ in vqgan_game(distance)(game, x):
        part = getattr(game, player)
        part.zero_grad()
        loss.backward(inputs=list(part.parameters()))
        gradients.append((player, float(loss), {name: p.grad.clone() for name, p in part.named_parameters()}))
    return gradients


# ------------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize("name, parameters", [
    ("imagenet_f16_1024", 72_141_699), ("imagenet_f16_16384", 76_073_859),
])
def test_released_sizes_are_those_of_the_authors_code(name, parameters):
    with torch.device("meta"):
        assert count(VQGAN(getattr(VQGANConfig, name)())) == parameters
        assert count(PatchDiscriminator(PatchConfig.paper())) == 2_765_633


def test_the_released_sizes_make_grids_of_codes_sixteen_and_eight_times_smaller():
    assert VQGANConfig.imagenet_f16_1024().factor == 16 and VQGANConfig.openimages_f8_gumbel().factor == 8
    with torch.device("meta"):
        model = VQGAN(VQGANConfig.imagenet_f16_1024())
        assert model.grid(torch.empty(1, 3, 256, 256)).shape == (1, 256, 16, 16)
        scores = PatchDiscriminator(PatchConfig.paper())(torch.empty(2, 3, 256, 256))
        assert scores.shape == (2, 1, 30, 30)


def test_bits_of_a_picture_are_those_of_its_codes():
    assert 16 * 16 * math.log2(VQGANConfig.imagenet_f16_1024().codes) == 2560
    mini = VQGANConfig.mini()
    assert (64 // mini.factor) ** 2 * math.log2(mini.codes) == 2048
    assert (64 // VQGANConfig.mini(8).factor) ** 2 * math.log2(mini.codes) == 512


@pytest.mark.parametrize("config", [PatchConfig.paper(), PatchConfig.mini()])
def test_a_score_depends_on_a_patch_of_the_picture(config):
    torch.manual_seed(0)
    judge = PatchDiscriminator(replace(config, width=2)).eval()
    x = torch.randn(1, 3, 160, 160, requires_grad=True)
    scores = judge(x)
    middle = scores.shape[-1] // 2
    scores[0, 0, middle, middle].backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == config.receptive_field


def test_the_discriminator_starts_from_small_normal_weights():
    torch.manual_seed(0)
    judge = PatchDiscriminator(PatchConfig())
    assert abs(float(judge[5].weight.std()) - 0.02) < 1e-3 and judge[2].bias is None
    assert abs(float(judge[3].weight.mean()) - 1) < 0.01 and judge[0].bias is not None


# -------------------------------------------------------------------------------------------------- equations


@pytest.mark.equation("eq:vqgan-reconstruction")
@pytest.mark.parametrize("error", ["absolute", "squared"])
def test_the_reconstruction_is_judged_by_pixels_and_by_a_distance(error):
    x, x_hat = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64)
    d = torch.rand(2, dtype=torch.float64)
    want = 0.0
    for i in range(2):
        errors = [abs(p - q) for p, q in zip(x[i].flatten().tolist(), x_hat[i].flatten().tolist())]
        errors = errors if error == "absolute" else [e * e for e in errors]
        want += (sum(errors) / 12 + 0.5 * float(d[i])) / 2
    assert float(reconstruction_loss(x, x_hat, d, 0.5, error)) == pytest.approx(want)


@pytest.mark.equation("eq:vqgan-adaptive")
def test_the_adaptive_weight_is_the_ratio_of_two_norms_cut_off():
    a, b = torch.randn(2, 3, 4, dtype=torch.float64)
    norms = [math.sqrt(sum(v * v for v in g.flatten().tolist())) for g in (a, b)]
    assert float(adaptive_weight(a, b)) == pytest.approx(norms[0] / (norms[1] + 1e-4))
    assert float(adaptive_weight(a, b, delta=1e-6)) == pytest.approx(norms[0] / (norms[1] + 1e-6))
    assert float(adaptive_weight(a, 0 * b)) == pytest.approx(min(1e4, norms[0] / 1e-4))
    assert float(adaptive_weight(1e9 * a, b)) == 1e4


@pytest.mark.equation("eq:vqgan-discriminator")
@pytest.mark.equation("eq:vqgan-generator")
def test_the_losses_of_the_game_are_means_over_all_patches():
    real, fake = torch.randn(2, 2, 1, 2, 3, dtype=torch.float64) * 2
    want_d = sum(max(0, 1 - r) + max(0, 1 + f)
                 for r, f in zip(real.flatten().tolist(), fake.flatten().tolist())) / 24
    assert float(patch_hinge_loss(real, fake)) == pytest.approx(want_d)
    assert float(patch_generator_loss(fake)) == pytest.approx(-sum(fake.flatten().tolist()) / 12)


@pytest.mark.equation("eq:vqgan-loss")
def test_the_loss_of_the_autoencoder_is_a_weighted_sum():
    nll, lam, game, codes = torch.rand(4, dtype=torch.float64)
    want = float(nll) + float(lam) * 0.8 * float(game) + 0.3 * float(codes)
    assert float(autoencoder_loss(nll, lam, game, codes, 0.8, 0.3)) == pytest.approx(want)


@pytest.mark.equation("eq:vqgan-temperature")
def test_the_temperature_falls_along_a_cosine():
    assert temperature(0) == pytest.approx(0.9) and temperature(1_000_001) == pytest.approx(1e-6)
    assert temperature(25, 100, 1.0, 0.0) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert temperature(10**9) == pytest.approx(1e-6)


def test_a_number_can_carry_a_gradient():
    x, g = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    value = with_gradient(torch.tensor(4.5), x, g)
    value.backward()
    assert float(value) == 4.5 and torch.equal(x.grad, g)


def test_each_network_is_passed_backwards_once_and_the_gradients_are_those_of_the_formula():
    game = build().double()
    x = pictures().double()
    x_hat, _ = game.autoencoder(x)
    last = game.autoencoder.decoder.leave.weight

    def nll(drawn):
        return reconstruction_loss(x, drawn, far(drawn, x))

    found = weigh(x_hat, last, nll, game.generator_loss, NOW)
    parameters = list(game.autoencoder.decoder.parameters())
    got = torch.autograd.grad(found.loss, parameters, retain_graph=True)
    plain, played = nll(x_hat), game.generator_loss(x_hat)
    by_nll, by_game = (torch.autograd.grad(v, last, retain_graph=True)[0] for v in (plain, played))
    lam = float(by_nll.norm() / (by_game.norm() + 1e-4))
    want = torch.autograd.grad(plain + lam * 0.8 * played, parameters)
    assert float(found.weight) == pytest.approx(lam)
    assert float(found.loss) == pytest.approx(float(plain + lam * 0.8 * played))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_with_the_adaptive_weight_the_game_pulls_as_hard_as_the_reconstruction():
    game = build().double()
    x = pictures().double()
    x_hat, _ = game.autoencoder(x)
    last = game.autoencoder.decoder.leave.weight
    loss = replace(NOW, adversarial=1.0, delta=0.0)
    for harder in (1, 1000):                               # a discriminator that shouts is not heard more
        def played(drawn, harder=harder):
            return harder * game.generator_loss(drawn)

        found = weigh(x_hat, last, lambda drawn: reconstruction_loss(x, drawn, 0.0), played, loss)
        by_game = torch.autograd.grad(found.weight * played(x_hat), last, retain_graph=True)[0]
        by_nll = torch.autograd.grad(reconstruction_loss(x, x_hat, 0.0), last, retain_graph=True)[0]
        assert float(by_game.norm() / by_nll.norm()) == pytest.approx(1)


# ----------------------------------------------------------------------- where the paper and its code differ


def test_the_code_weighs_the_codebook_where_the_paper_weighs_the_commitment():
    """Erratum P7: with the released setting the codes move four times more slowly."""
    pulled = {}
    for legacy in (True, False):
        game = build(loss=replace(NOW, legacy=legacy, start=10)).double()
        z = game.autoencoder.grid(pictures().double()).detach().requires_grad_()
        game.code_loss(game.autoencoder.codebook(z)).backward()
        pulled[legacy] = game.autoencoder.codebook.weight.grad, z.grad
    torch.testing.assert_close(4 * pulled[True][0], pulled[False][0])
    torch.testing.assert_close(pulled[True][1], 4 * pulled[False][1])
    assert pulled[True][0].abs().sum() > 0


def test_p12_the_paper_plays_with_logarithms_and_the_code_with_a_hinge():
    """Erratum P6: the game, delta, the cut-off, the factor 0.8 and the error of pixels."""
    code, paper = VQGANLossConfig.code(), VQGANLossConfig.paper()
    assert (code.game, code.delta, code.most, code.adversarial, code.error) == (
        "hinge", 1e-4, 1e4, 0.8, "absolute")
    assert (paper.game, paper.delta, paper.adversarial, paper.error) == ("logarithm", 1e-6, 1, "squared")
    game = build(loss=replace(paper, start=0)).double().eval()
    x, x_hat = pictures().double(), pictures(seed=2).double()
    real, fake = (game.discriminator(images).flatten().tolist() for images in (x, x_hat))

    def log_d(a):
        return -math.log(1 + math.exp(-a))

    value = sum(map(log_d, real)) / len(real) + sum(log_d(-a) for a in fake) / len(fake)
    assert float(game.discriminator_loss(x, x_hat)) == pytest.approx(-value)
    assert float(game.generator_loss(x_hat)) == pytest.approx(sum(log_d(-a) for a in fake) / len(fake))


# ------------------------------------------------------------------------------------------------------ model


def test_codes_are_those_of_the_nearest_vectors_and_decode_to_the_reconstruction():
    model = build().autoencoder.eval()
    x = pictures()
    codes, z = model.encode(x), model.grid(x).movedim(1, -1)
    assert codes.shape == (3, 8, 8) and len(codes.unique()) > 1
    for i in range(3):
        for r in range(8):
            distances = [float((z[i, r, r] - e).square().sum()) for e in model.codebook.weight]
            assert int(codes[i, r, r]) == distances.index(min(distances))
    torch.testing.assert_close(model.decode(codes), model(x).images, atol=1e-5, rtol=1e-5)


def test_the_gradient_passes_the_codes_and_leaves_them_alone():
    model = build().autoencoder
    model(pictures()).images.square().mean().backward()
    assert model.codebook.weight.grad is None
    assert all(p.grad.abs().sum() > 0 for p in model.encoder.parameters())


@pytest.mark.parametrize("config", [TINY, GUMBEL], ids=["nearest", "gumbel"])
def test_gradients_reach_every_parameter_of_both_players(config):
    game = build(config)
    nn.init.constant_(game.discriminator[-1].bias, 1.2)         # within both margins its gradient is 0
    moves = step(game, pictures(), far)
    assert [player for player, *_ in moves] == ["autoencoder", "discriminator"]
    for _, _, gradients in moves:
        assert all(g.abs().sum() > 0 for g in gradients.values())


def test_a_row_of_a_batch_is_what_it_is_alone():
    model, x = build().autoencoder.eval(), pictures()
    together = model(x).images
    for i in range(3):
        torch.testing.assert_close(model(x[i:i + 1]).images[0], together[i], atol=1e-5, rtol=1e-5)
    judge = PatchDiscriminator(PATCH).eval()
    torch.testing.assert_close(judge(x[1:2])[0], judge(x)[1], atol=1e-5, rtol=1e-5)


def test_drawn_codes_follow_the_softmax_in_training_and_are_the_likeliest_otherwise():
    torch.manual_seed(0)
    codebook = GumbelCodebook(4, 3)
    z = torch.randn(1, 3, 1, 1).expand(1, 3, 64, 64)
    probabilities = codebook.logits(z)[0, :, 0, 0].softmax(0)
    found = codebook(z)
    shares = torch.bincount(found.codes.flatten(), minlength=4) / 4096
    chi_square = float((4096 * (shares - probabilities).square() / probabilities).sum())
    assert chi_square < 16.3                                            # 3 degrees of freedom, p = .001
    kl = sum(p * math.log(4 * p) for p in probabilities.tolist())
    assert float(found.codebook) == pytest.approx(kl, rel=1e-4)
    torch.testing.assert_close(found.z_q, codebook.look_up(found.codes), atol=1e-5, rtol=1e-5)
    codebook.eval()
    assert (codebook(z).codes == int(probabilities.argmax())).all()
    assert torch.equal(codebook(z).codes, codebook.quantise(z))


# ------------------------------------------------------------------------------------------------------- game


def test_before_the_game_begins_the_discriminator_neither_moves_nor_matters():
    game = build(loss=replace(NOW, start=2), seed=1)
    before = {name: v.clone() for name, v in game.discriminator.state_dict().items()}
    history = fit(game, vqgan_game(far), lambda i: pictures(seed=i), steps=2, lr=1e-3, progress=False)
    assert history.scalars["weight of the game"] == [0.0, 0.0] and int(game.step) == 2
    assert all(torch.equal(v, before[name]) for name, v in game.discriminator.state_dict().items())
    more = fit(game, vqgan_game(far), lambda i: pictures(seed=i), steps=1, lr=1e-3, progress=False)
    assert more.scalars["weight of the game"][0] > 0 and "discriminator" in more.scalars
    assert not torch.equal(game.discriminator[0].weight, before["0.weight"])


def test_codes_that_nobody_chose_restart_on_vectors_of_the_batch():
    game = build(restart_every=3)
    with torch.no_grad():
        game.autoencoder.codebook.weight[2:] = 100.0                    # nobody chooses these
    x = pictures()
    z = game.autoencoder.grid(x).detach().movedim(1, -1).flatten(0, 2)
    for _ in vqgan_game()(game, x):
        pass
    moved = game.autoencoder.codebook.weight[2:]
    assert all(float((z - e).square().sum(dim=1).min()) < 1e-10 for e in moved)
    assert game.chosen.sum() == 0
    for _ in vqgan_game()(game, x):
        pass
    assert game.chosen.sum() == 3 * 64


def test_losses_under_autocast_are_float32_and_finite():
    game = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for player, loss, _ in vqgan_game(far)(game, pictures()):
            assert loss.dtype == torch.float32
            loss.backward(inputs=list(getattr(game, player).parameters()))
    assert all(p.grad.isfinite().all() for p in game.parameters())


def test_a_handful_of_pictures_is_learnt_by_heart():
    game = build(replace(TINY, codes=32), replace(NOW, start=1000, legacy=False), restart_every=10)
    x = torch.stack([torch.full((3, 16, 16), v) for v in (-0.8, -0.3, 0.3, 0.8)])
    x[:, :, 4:10, 3:8] *= -1
    fit(game, vqgan_game(), lambda i: x, steps=250, lr=5e-3, progress=False)
    model = game.autoencoder.eval()
    assert float((model(x).images - x).abs().mean()) < 0.06
    assert len(model.encode(x).unique()) > 4


def test_impossible_settings_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="the encoder gives mean and variance; codes are looked up for one"):
        VQGANConfig(AutoencoderConfig(double=True))
    with pytest.raises(ValueError, match="factor is 2; the miniature reduces 4 or 8 times"):
        VQGANConfig.mini(2)
    with pytest.raises(ValueError, match="leave restart_every at 0"):
        VQGANGame(GUMBEL, PATCH, restart_every=3)


# ----------------------------------------------------------------------------------------------------- oracle


def copied(ours, theirs, names):
    """Weights of the reference, every name accounted for on both sides."""
    state, used = theirs.state_dict(), set()
    for name, value in ours.state_dict().items():
        parts = names(name)
        used |= set(parts)
        value.copy_(torch.cat([state[p].reshape(value.shape[0] // len(parts), *value.shape[1:])
                               for p in parts]))
    assert used == set(state)
    return ours.eval()


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["VQModel", "GumbelVQ"])
@torch.no_grad()
def test_codes_and_pictures_are_those_of_the_authors_code(kind):
    from mmlearn.pretrained.vqgan import compvis_names

    settings = dict(double_z=False, z_channels=32, resolution=16, in_channels=3, out_ch=3, ch=32,
                    ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=[8], dropout=0.0)
    options = dict(n_embed=11, embed_dim=32, lossconfig={"target": "torch.nn.Identity"})
    if kind == "GumbelVQ":
        options["temperature_scheduler_config"] = {"target": "torch.nn.Identity"}
    torch.manual_seed(0)
    theirs = getattr(taming().models.vqgan, kind)(settings, **options).eval()
    for value in theirs.parameters():
        value.add_(0.05 * torch.randn_like(value))
    gumbel = kind == "GumbelVQ"
    config = VQGANConfig(AutoencoderConfig(32, (1, 2), 1, (2,), 32), 11, 32,
                         "gumbel" if gumbel else "nearest")
    ours = copied(VQGAN(config), theirs, compvis_names(config.autoencoder, gumbel))
    x = pictures(2)
    h = theirs.quant_conv(theirs.encoder(x))
    torch.testing.assert_close(ours.grid(x), h, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.draw(h), theirs.decode(h), atol=1e-5, rtol=1e-5)
    if gumbel:
        assert torch.equal(ours.encode(x), theirs.quantize.proj(h).argmax(1))
        kl = theirs.quantize(h)[1] / theirs.quantize.kl_weight
        torch.testing.assert_close(ours(x).quantised.codebook, kl, atol=1e-5, rtol=1e-5)
        return
    quantised, loss, (_, _, codes) = theirs.quantize(h)
    found = ours(x).quantised
    assert torch.equal(found.codes.flatten(), codes.flatten())
    torch.testing.assert_close(found.z_q, quantised, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.loss(0.25, legacy=True), loss, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.decode(found.codes), theirs(x)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_both_losses_and_their_gradients_are_those_of_the_authors_code(monkeypatch):
    class Far(nn.Module):
        def forward(self, x, y):
            return far(y, x)[:, None, None, None]

    module = taming().modules.losses.vqperceptual
    monkeypatch.setattr(module, "LPIPS", Far)
    theirs = module.VQLPIPSWithDiscriminator(disc_start=0, disc_weight=0.8, disc_num_layers=2, disc_ndf=4)
    game = build()
    names = {f"{name}": f"main.{name}" for name in game.discriminator.state_dict()}
    theirs.discriminator.load_state_dict({names[name]: v.clone() for name, v in
                                          game.discriminator.state_dict().items()})
    x, model = pictures(), game.autoencoder
    parameters = dict(model.named_parameters())
    x_hat, quantised = model(x)
    kwargs = dict(global_step=5, last_layer=model.decoder.leave.weight)
    loss, _ = theirs(quantised.loss(0.25, legacy=True), x, x_hat, 0, **kwargs)
    want = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()))))
    judged, _ = theirs(quantised.loss().detach(), x, x_hat, 1, **kwargs)
    judged.backward()
    (_, ours, gradients), (_, ours_judged, gradients_judged) = step(game, x, far)
    assert ours == pytest.approx(float(loss), rel=1e-5)
    assert ours_judged == pytest.approx(float(judged), rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, want[name], atol=1e-5, rtol=1e-4)
    for name, p in theirs.discriminator.named_parameters():
        torch.testing.assert_close(gradients_judged[name.removeprefix("main.")], p.grad, atol=1e-5, rtol=1e-4)
