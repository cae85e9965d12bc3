"""The variational autoencoder: its bound, its gradients, and what a plain autoencoder cannot do."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count, vectors
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from mmlearn.text2image.blocks import kl_to_standard_normal
from mmlearn.text2image.vae import (
    VAE,
    Autoencoder,
    VAEConfig,
    autoencoder_loss,
    bernoulli_log_likelihood,
    beta_elbo,
    bits_per_dimension,
    elbo,
    gaussian_log_likelihood,
    implied_variance,
    importance_weighted,
    kl_between,
    kl_to_prior,
    log_normal,
    log_weights,
    pathwise_gradients,
    reparameterise,
    score_gradients,
    vae_loss,
)

pytestmark = pytest.mark.usefixtures("seeded")


SMALL = VAEConfig((8, 8), 3, 4, (8, 16), "convolutional", "gaussian", 0.2)
KINDS = {
    "convolutional": SMALL,
    "mlp": VAEConfig((4, 6), 1, 3, (10,)),
    "deep": VAEConfig((4, 6), 1, 3, (10, 7)),
    "learned": VAEConfig((4, 6), 1, 3, (10,), likelihood="learned"),
}


def pictures(config, n=5):
    x = torch.rand(n, config.channels, *config.size)
    return x if config.likelihood == "bernoulli" else 2 * x - 1


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:vae-reparameterise")
def test_a_draw_is_the_mean_plus_noise_times_the_deviation():
    mu, log_var, epsilon = vectors(3, 2, 4)
    got = reparameterise(mu, log_var, epsilon)
    for i, j in itertools.product(range(2), range(4)):
        want = float(mu[i, j]) + math.sqrt(math.exp(float(log_var[i, j]))) * float(epsilon[i, j])
        assert float(got[i, j]) == pytest.approx(want)
    inputs = [t.clone().requires_grad_() for t in (mu, log_var, epsilon)]
    assert torch.autograd.gradcheck(reparameterise, inputs)


@pytest.mark.equation("eq:vae-kl")
def test_the_kl_in_closed_form_is_the_integral():
    mu, log_var = torch.tensor([[0.7, -1.2]]).double(), torch.tensor([[-0.5, 0.4]]).double()
    total = 0.0
    for m, v in zip(mu[0].tolist(), log_var[0].exp().tolist()):
        z = torch.linspace(m - 12 * v**0.5, m + 12 * v**0.5, 20_001, dtype=torch.float64)
        log_q = -0.5 * (math.log(2 * math.pi * v) + (z - m) ** 2 / v)
        log_p = -0.5 * (math.log(2 * math.pi) + z**2)
        total += float(torch.trapezoid(log_q.exp() * (log_q - log_p), z))
    assert float(kl_to_prior(mu, log_var)) == pytest.approx(total, rel=1e-8)


def test_the_kl_in_closed_form_is_what_samples_say():
    mu, log_var = vectors(1, 3), vectors(1, 3) / 2
    z = reparameterise(mu.expand(200_000, 3), log_var.expand(200_000, 3), vectors(200_000, 3))
    zeros = torch.zeros_like(z)
    drawn = log_normal(z, mu.expand_as(z), log_var.expand_as(z)) - log_normal(z, zeros, zeros)
    error = float(drawn.std()) / math.sqrt(200_000)
    assert abs(float(drawn.mean() - kl_to_prior(mu, log_var))) < 5 * error


@pytest.mark.equation("eq:vae-kl")
@pytest.mark.equation("eq:vae-kl-two")
def test_both_divergences_are_those_of_torch_and_of_the_other_chapters_formula():
    mu, log_var, mu2, log_var2 = vectors(4, 5, 3)
    q, p = Normal(mu, (log_var / 2).exp()), Normal(mu2, (log_var2 / 2).exp())
    unit = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    torch.testing.assert_close(kl_to_prior(mu, log_var), kl_divergence(q, unit).sum(1))
    torch.testing.assert_close(kl_to_prior(mu, log_var), kl_to_standard_normal(mu, log_var))
    torch.testing.assert_close(kl_between(mu, log_var, mu2, log_var2), kl_divergence(q, p).sum(1))
    torch.testing.assert_close(kl_between(mu, log_var, 0 * mu, 0 * mu), kl_to_prior(mu, log_var))
    maps = vectors(2, 5, 3, 2, 2)
    torch.testing.assert_close(kl_to_prior(*maps), kl_to_prior(*maps.flatten(2)))
    inputs = [mu.clone().requires_grad_(), log_var.clone().requires_grad_()]
    assert torch.autograd.gradcheck(kl_to_prior, inputs)


def test_a_kl_is_never_negative_and_zero_only_at_the_prior():
    mu, log_var = 3 * vectors(2, 1000, 2)
    assert (kl_to_prior(mu, log_var) > 0).all()
    assert (kl_between(mu, log_var, mu.flip(0), log_var.flip(0)) > 0).all()
    assert (kl_to_prior(torch.zeros(3, 2), torch.zeros(3, 2)) == 0).all()
    assert (kl_between(mu, log_var, mu, log_var).abs() < 1e-9).all()


@pytest.mark.equation("eq:vae-normal")
def test_the_density_of_a_diagonal_gaussian():
    z, mu, log_var = vectors(3, 4, 2)
    want = Independent(Normal(mu, (log_var / 2).exp()), 1).log_prob(z)
    torch.testing.assert_close(log_normal(z, mu, log_var), want)
    by_hand = [sum(-0.5 * (math.log(2 * math.pi) + float(v) + float(a - m) ** 2 / math.exp(float(v)))
                   for a, m, v in zip(*rows)) for rows in zip(z, mu, log_var)]
    torch.testing.assert_close(log_normal(z, mu, log_var), torch.tensor(by_hand, dtype=torch.float64))


@pytest.mark.equation("eq:vae-bernoulli")
def test_a_bernoulli_likelihood_is_a_sum_over_pixels_and_a_distribution_of_pictures():
    logits = vectors(1, 1, 2, 2)
    every = torch.tensor(list(itertools.product([0.0, 1], repeat=4))).double().view(-1, 1, 2, 2)
    got = bernoulli_log_likelihood(logits.expand(16, 1, 2, 2), every)
    assert float(got.exp().sum()) == pytest.approx(1)
    for x, value in zip(every, got):
        want = sum(math.log(p if pixel else 1 - p)
                   for p, pixel in zip(torch.sigmoid(logits).flatten().tolist(), x.flatten().tolist()))
        assert float(value) == pytest.approx(want)
    torch.testing.assert_close(got, Bernoulli(logits=logits).log_prob(every).sum(dim=(1, 2, 3)))


@pytest.mark.equation("eq:vae-gaussian")
def test_a_gaussian_likelihood_is_a_squared_distance_and_a_constant():
    x_hat, x, s = vectors(3, 2, 2, 2), vectors(3, 2, 2, 2), 0.3
    want = Independent(Normal(x_hat, s), 3).log_prob(x)
    torch.testing.assert_close(gaussian_log_likelihood(x_hat, x, s), want)


@pytest.mark.equation("eq:vae-elbo")
@pytest.mark.equation("eq:vae-beta")
def test_the_bound_is_the_likelihood_less_the_kl_and_beta_weighs_the_kl():
    a, kl = vectors(4), vectors(4).abs()
    torch.testing.assert_close(elbo(a, kl), torch.stack([a[i] - kl[i] for i in range(4)]))
    torch.testing.assert_close(beta_elbo(a, kl, 4), torch.stack([a[i] - 4 * kl[i] for i in range(4)]))
    assert (beta_elbo(a, kl, 4) <= elbo(a, kl)).all()


class Line:
    """p(z) = N(0, 1), p(x | z) = N(w z, s^2): a model whose likelihood and posterior are known."""

    w, s, x = 1.3, 0.6, 0.9
    log_p = float(Normal(0.0, math.sqrt(1.3**2 + 0.6**2)).log_prob(torch.tensor(0.9)))
    variance = 1 / (1 + w**2 / s**2)
    mean = variance * w * x / s**2

    @classmethod
    def weights(cls, mu, sigma, shape):
        """log w for draws from q = N(mu, sigma^2)."""
        z = mu + sigma * torch.randn(*shape, dtype=torch.float64)
        likelihood = Normal(cls.w * z, cls.s).log_prob(torch.tensor(cls.x).double())
        return likelihood + Normal(0.0, 1.0).log_prob(z) - Normal(mu, sigma).log_prob(z)


@pytest.mark.parametrize("mu, sigma", [(0.0, 1.0), (0.5, 0.3), (-1.0, 2.0)])
def test_the_gap_below_the_log_likelihood_is_the_kl_to_the_true_posterior(mu, sigma):
    z = torch.linspace(mu - 12 * sigma, mu + 12 * sigma, 20_001, dtype=torch.float64)
    q = Normal(mu, sigma).log_prob(z).exp()
    likelihood = Normal(Line.w * z, Line.s).log_prob(torch.tensor(Line.x).double())
    expected = float(torch.trapezoid(q * likelihood, z))
    kl = float(kl_to_prior(torch.tensor([[mu]]).double(), torch.tensor([[2 * math.log(sigma)]]).double()))
    gap = float(kl_divergence(Normal(mu, sigma), Normal(Line.mean, Line.variance**0.5)))
    bound = float(elbo(torch.tensor([expected]).double(), torch.tensor([kl]).double()))
    assert bound == pytest.approx(Line.log_p - gap, rel=1e-5) and gap > 0


@pytest.mark.equation("eq:vae-importance")
def test_more_samples_raise_the_importance_weighted_bound_to_the_log_likelihood():
    log_w = Line.weights(0.0, 1.0, (4000, 64))
    want = [math.log(sum(math.exp(float(w)) for w in row) / 64) for row in log_w[:5]]
    torch.testing.assert_close(importance_weighted(log_w[:5]), torch.tensor(want).double())
    torch.testing.assert_close(importance_weighted(log_w[:, :1]), log_w[:, 0])
    means = [float(importance_weighted(log_w[:, :k]).mean()) for k in (1, 4, 16, 64)]
    assert means == sorted(means) and means[0] < Line.log_p - 0.3
    assert means[-1] == pytest.approx(Line.log_p, abs=0.02)
    exact = Line.weights(Line.mean, Line.variance**0.5, (3, 1))
    assert exact[:, 0].tolist() == pytest.approx([Line.log_p] * 3)  # from the posterior all weights are p(x)


@pytest.mark.equation("eq:vae-mean-for-sum")
def test_a_mean_over_pixels_is_the_bound_of_a_decoder_with_a_huge_variance():
    x_hat, x, kl = vectors(4, 3, 8, 8), vectors(4, 3, 8, 8), vectors(4).abs()
    for weight in (1.0, 0.01):
        variance = implied_variance(weight, 192)
        wrong = (x - x_hat).square().flatten(1).mean(1) + weight * kl
        constant = 192 / 2 * math.log(2 * math.pi * variance)
        bound = elbo(gaussian_log_likelihood(x_hat, x, math.sqrt(variance)), kl)
        torch.testing.assert_close(wrong, weight * (-bound - constant))
    assert implied_variance(1, 3 * 32 * 32) == 1536


@pytest.mark.equation("eq:vae-pathwise")
@pytest.mark.equation("eq:vae-score")
def test_both_gradients_have_the_same_mean_and_the_score_scatters_more():
    r"""For f(z) = z^2: means 2 mu; variances 4 s^2, and (mu^4 + 18 mu^2 s^2 + 15 s^4) / s^2 - 4 mu^2."""
    epsilon = vectors(400_000, 1)
    for m, s in ((1.0, 1.0), (2.0, 0.5)):
        mu, sigma = torch.tensor([m]).double(), torch.tensor([s]).double()
        path, score = (gradients(lambda z: z.square().sum(1), mu, sigma, epsilon)
                       for gradients in (pathwise_gradients, score_gradients))
        assert float(path.mean()) == pytest.approx(2 * m, abs=0.02)
        assert float(score.mean()) == pytest.approx(2 * m, abs=0.15)
        assert float(path.var()) == pytest.approx(4 * s**2, rel=0.02)
        assert float(score.var()) == pytest.approx((m**4 + 18 * m**2 * s**2 + 15 * s**4) / s**2 - 4 * m**2,
                                                   rel=0.05)
        assert score.var() > 7 * path.var()
    z = 1 + epsilon[:5, 0]
    one = torch.ones(1, dtype=torch.float64)
    path, score = (gradients(lambda z: z.square().sum(1), one, one, epsilon[:5])[:, 0]
                   for gradients in (pathwise_gradients, score_gradients))
    torch.testing.assert_close(path, 2 * z)
    torch.testing.assert_close(score, z**2 * (z - 1))


@pytest.mark.equation("eq:vae-bits")
def test_nats_as_bits_per_number():
    assert float(bits_per_dimension(torch.tensor([-math.log(256) * 10]), 10)) == pytest.approx(8)


# ----------------------------------------------------------------------------------------- the usual promises

@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_ranges(kind):
    config = KINDS[kind]
    model, x = VAE(config), pictures(config)
    output, (mu, log_var), z = model(x)
    channels = config.channels * (2 if kind == "learned" else 1)
    assert output.shape == (5, channels, *config.size)
    assert mu.shape == log_var.shape == z.shape == (5, config.latent)
    assert model.log_likelihood(output, x).shape == (5,)
    drawn = model.sample(3)
    assert drawn.shape == (3, config.channels, *config.size) and not drawn.requires_grad
    low = 0 if config.likelihood == "bernoulli" else -1
    assert low <= float(drawn.min()) <= float(drawn.max()) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    config = KINDS[kind]
    model = VAE(config)
    vae_loss(model, pictures(config)).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_batch_is_what_it_is_alone(kind):
    config = KINDS[kind]
    model, x = VAE(config).eval(), pictures(config)
    together = model(x)
    for i in range(5):
        alone = model(x[i : i + 1])
        torch.testing.assert_close(alone.output[0], together.output[i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.z[0], together.z[i], atol=1e-5, rtol=1e-5)


def test_z_is_drawn_in_training_and_the_mean_in_evaluation():
    model, x = VAE(SMALL), pictures(SMALL)
    assert not torch.equal(model(x).z, model(x).z)
    first, second = (model(x, torch.Generator().manual_seed(3)).z for _ in range(2))
    assert torch.equal(first, second)
    model.eval()
    assert torch.equal(model(x).z, model.encode(x).mu)
    one, two = (vae_loss(model, x).loss for _ in range(2))
    assert one != two                              # the bound is drawn in evaluation mode, too


def test_the_loss_is_the_formula_written_out():
    model, x = VAE(SMALL).double(), pictures(SMALL).double()
    got = vae_loss(model, x, beta=3, generator=torch.Generator().manual_seed(5))
    epsilon = torch.randn(5, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    mu, log_var = model.encode(x)
    x_hat = model.decoder(mu + log_var.exp().sqrt() * epsilon)
    nll = kl = 0.0
    for i in range(5):
        nll += float((x[i] - x_hat[i]).square().sum()) / (2 * 0.2**2)
        nll += 192 / 2 * math.log(2 * math.pi * 0.2**2)
        kl += sum(0.5 * (m**2 + math.exp(v) - v - 1) for m, v in zip(mu[i].tolist(), log_var[i].tolist()))
    assert float(got.loss) == pytest.approx((nll + 3 * kl) / 5)
    assert float(got.kl) == pytest.approx(kl / 5) and float(got.log_likelihood) == pytest.approx(-nll / 5)


def test_log_variances_stay_within_their_bounds():
    model = VAE(SMALL)
    with torch.no_grad():
        model.encoder[-1].bias[SMALL.latent:] = torch.tensor([-100.0, 100, 0, 1])
    log_var = model.encode(pictures(SMALL)).log_var
    assert (log_var[:, 0] == -30).all() and (log_var[:, 1] == 20).all()


def test_samples_are_a_function_of_the_seed():
    model = VAE(SMALL)
    first, second = (model.sample(2, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first, model.sample(2))


def test_sizes_of_the_named_configurations():
    counts = {}
    with torch.device("meta"):
        for name in ("mnist", "frey", "mini", "plane"):
            model = VAE(getattr(VAEConfig, name)())
            counts[name] = count(model)
    assert counts["mnist"] == 784 * 500 + 500 + 500 * 40 + 40 + 20 * 500 + 500 + 500 * 784 + 784 == 815_824
    assert counts["frey"] == 560 * 200 + 200 + 200 * 20 + 20 + 10 * 200 + 200 + 200 * 1120 + 1120 == 343_540
    assert counts["mini"] == 529_795 and counts["plane"] == 345_415
    assert VAEConfig.plane().latent == 2 and VAEConfig.mini().numbers == 3072


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_under_autocast_is_single_and_finite(dtype):
    model = VAE(SMALL)
    with torch.autocast("cpu", dtype=dtype):
        loss = vae_loss(model, pictures(SMALL)).loss
    assert loss.dtype == torch.float32 and loss.isfinite()


def test_impossible_inputs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="network is 'cnn'; use one of mlp, convolutional"):
        replace(SMALL, network="cnn")
    with pytest.raises(ValueError, match="likelihood is 'laplace'; use one of bernoulli, gaussian, learned"):
        replace(SMALL, likelihood="laplace")
    with pytest.raises(ValueError, match="pictures of 30 x 32 pixels cannot be halved 2 times"):
        replace(SMALL, size=(30, 32))
    with pytest.raises(ValueError, match="hidden is empty"):
        replace(SMALL, hidden=())
    with pytest.raises(ValueError, match="s of VAEConfig is 0.0, expected from 0.001"):
        replace(SMALL, s=0.0)
    with pytest.raises(ValueError, match="pictures are 3 x 8 x 9, the model wants 3 x 8 x 8"):
        VAE(SMALL)(torch.randn(2, 3, 8, 9))
    with pytest.raises(ValueError, match="latent vectors have 5 numbers, the model wants 4"):
        VAE(SMALL).decode(torch.randn(2, 5))
    with pytest.raises(ValueError, match="pixels are from -1 to 1, a Bernoulli likelihood wants 0 to 1"):
        vae_loss(VAE(KINDS["mlp"]), torch.tensor([-1.0, 1]).repeat(12).view(1, 1, 4, 6))
    with pytest.raises(ValueError, match="samples is 0; draw at least one"):
        log_weights(VAE(SMALL), pictures(SMALL), 0)
    with pytest.raises(ValueError, match="a plain autoencoder has no deviations"):
        Autoencoder(KINDS["learned"])


# ----------------------------------------------------------------------------------------------------- parity

@pytest.mark.parity
def test_the_posterior_is_diffusers_diagonal_gaussian():
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    parameters, others, x = torch.randn(3, 8, 2, 2), torch.randn(3, 8, 2, 2), torch.randn(3, 4, 2, 2)
    theirs, prior = DiagonalGaussianDistribution(parameters), DiagonalGaussianDistribution(others)
    (mu, log_var), (mu2, log_var2) = parameters.chunk(2, 1), others.chunk(2, 1)
    torch.testing.assert_close(kl_to_prior(mu, log_var), theirs.kl())
    torch.testing.assert_close(kl_between(mu, log_var, mu2, log_var2), theirs.kl(prior))
    torch.testing.assert_close(-log_normal(x.flatten(1), mu.flatten(1), log_var.flatten(1)), theirs.nll(x))
    epsilon = torch.randn(mu.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(reparameterise(mu, log_var, epsilon),
                               theirs.sample(torch.Generator().manual_seed(2)))


# ------------------------------------------------------------------------------------ what it learns; errata

def squares():
    """Pictures of 8 x 8 pixels with a bright square of 4 x 4, at each of the 25 places."""
    x = torch.full((25, 1, 8, 8), -1.0)
    for i in range(25):
        row, column = divmod(i, 5)
        x[i, :, row : row + 4, column : column + 4] = 1
    return x


SQUARES = VAEConfig((8, 8), 1, 8, (64, 64), likelihood="gaussian", s=0.3)


def trained(kind, steps):
    torch.manual_seed(2)
    model, x = (VAE if kind == "vae" else Autoencoder)(SQUARES), squares()
    adam = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(steps):
        adam.zero_grad(set_to_none=True)
        loss = (vae_loss(model, x, beta=min(1.0, step / 200)).loss if kind == "vae"
                else autoencoder_loss(model, x))
        loss.backward()
        adam.step()
    return model.eval(), x


@pytest.fixture(scope="module")
def models():
    return {kind: trained(kind, 600) for kind in ("vae", "ae")}


def test_a_handful_of_pictures_is_learnt_by_heart(models):
    for kind, (model, x) in models.items():
        error = F.mse_loss(model.pictures(model(x).output), x)
        assert float(error) < 0.02, (kind, float(error))                       # the variance is 0.75


def test_e26_noise_decodes_into_pictures_with_a_vae_and_not_with_an_autoencoder(models):
    """The survey says that a VAE learns the distribution of the data by encoding; it is the prior term that
    makes noise decodable, and a plain autoencoder has none."""
    distances, hits, spread = {}, {}, {}
    for kind, (model, x) in models.items():
        drawn = model.sample(300, torch.Generator().manual_seed(0))
        to_nearest = torch.cdist(drawn.flatten(1), x.flatten(1)).min(dim=1).values.square() / 64
        distances[kind], hits[kind] = float(to_nearest.mean()), float((to_nearest < 0.1).float().mean())
        spread[kind] = float(model(x).z.detach().std())
    assert distances["vae"] < 0.7 * distances["ae"], distances
    assert hits["vae"] > 5 * hits["ae"], hits
    assert spread["ae"] > 2 > 1.3 > spread["vae"] > 0.5, spread            # codes of the one lie anywhere


def test_e26_each_picture_has_its_distribution_and_the_bound_stays_below_the_likelihood(models):
    model, x = models["vae"]
    mu, log_var = model.encode(x)
    assert mu.shape == (25, 8) and len(mu.round(decimals=3).unique(dim=0)) > 20
    log_w = log_weights(model, x, 200, torch.Generator().manual_seed(0))
    bound, better = log_w.mean(dim=1), importance_weighted(log_w)
    assert (bound <= better).all() and float((better - bound).mean()) > 0.05
    fewer = importance_weighted(log_w.view(25, 20, 10).flatten(0, 1)).view(25, 20).mean(1)
    assert bound.mean() <= fewer.mean() <= better.mean()
    assert float(vae_loss(model, x).loss) == pytest.approx(-float(bound.mean()), abs=2)


def test_a_mean_where_a_sum_belongs_lets_the_posterior_collapse():
    """The same network, the same data; the reconstruction averaged over pixels instead of summed."""
    kls = {}
    for wrong in (False, True):
        torch.manual_seed(2)
        model, x = VAE(SQUARES), squares()
        adam = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(150):
            output, posterior, _ = model(x)
            kl = kl_to_prior(*posterior)
            error = F.mse_loss(output, x) if wrong else -model.log_likelihood(output, x).mean()
            adam.zero_grad(set_to_none=True)
            (error + kl.mean()).backward()
            adam.step()
        kls[wrong] = float(kl.mean())
    assert kls[True] < 0.05 < 1 < kls[False], kls
