r"""VQGAN: a picture as a small grid of codes, from which a decoder that has played against a discriminator
draws it again.

Paper: P. Esser, R. Rombach and B. Ommer (2021), *Taming Transformers for High-Resolution Image Synthesis*,
CVPR, arXiv:2012.09841, sec. 3.1; the discriminator is that of P. Isola et al. (2017), *Image-to-Image
Translation with Conditional Adversarial Networks*, CVPR, arXiv:1611.07004, app. 6.1.2. The Gumbel variant is
of the authors' code; E. Jang et al. (2017), arXiv:1611.01144.  Survey: 2.2.
Differs from the paper: where paper and code differ, both are there by name. ``VQGANLossConfig.code()`` has
the hinge, absolute errors of pixels, $\delta=10^{-4}$ and a weight of at most $10^4$ that is multiplied by
0.8; ``paper()`` has eq. 4 to 7: the logarithms, squared errors and $\delta=10^{-6}$. ``legacy`` is the code's
slip: the weight $\beta$ stands at the term of the codebook. The discriminator judges the reconstruction from
before the autoencoder's step, where the code computes it again; gradients of perceptual distance and
discriminator are computed once, where the code computes them twice (``weigh``). Codes of the Gumbel variant
are the likeliest; the code draws them with noise even when it is not trained.

Pictures are in [-1, 1], codes are (b, h, w) from 0 to K - 1.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text2image.adversarial import (
    discriminator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    saturating_loss,
)
from mmlearn.text2image.autoencoder import AutoencoderConfig, Decoder, Encoder
from mmlearn.text2image.vector_quantisation import Codebook, Quantised, kl_to_uniform
from mmlearn.text_for_vision.blockwise import single

Distance = Callable[[Tensor, Tensor], Tensor]           # perceptual: pictures, pictures -> (b)
SLOPE = 0.2                                             # of every leaky ReLU of the discriminator


@dataclass(frozen=True)
class VQGANConfig:
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    codes: int = 1024                                   # K, size of the codebook
    embed: int = 256                                    # n_z, numbers of a code
    quantiser: Literal["nearest", "gumbel"] = "nearest"

    def __post_init__(self) -> None:
        check(self)
        if self.autoencoder.double:
            raise ValueError("the encoder gives mean and variance; codes are looked up for one grid, set "
                             "double=False")

    @classmethod
    def imagenet_f16_1024(cls) -> "VQGANConfig":
        """ImageNet, 16 times smaller, 1,024 codes: 72,141,699 parameters; FID of reconstructions 7.94."""
        return cls()

    @classmethod
    def imagenet_f16_16384(cls) -> "VQGANConfig":
        """ImageNet, 16 times smaller, 16,384 codes: 76,073,859 parameters; FID of reconstructions 4.98."""
        return cls(codes=16384)

    @classmethod
    def openimages_f8_gumbel(cls) -> "VQGANConfig":
        """OpenImages, 8 times smaller, 8,192 codes with the Gumbel quantiser; FID of reconstructions 1.49 on
        ImageNet."""
        return cls(AutoencoderConfig(multipliers=(1, 1, 2, 4), attention=(8,)), 8192, quantiser="gumbel")

    @classmethod
    def mini(cls, factor: int = 4, codes: int = 256) -> "VQGANConfig":
        """A miniature for scenes of 64 pixels: 16 x 16 codes, or 8 x 8 with ``factor`` 8."""
        if factor not in (4, 8):
            raise ValueError(f"factor is {factor}; the miniature reduces 4 or 8 times")
        multipliers = (1, 2, 4) if factor == 4 else (1, 2, 4, 4)
        return cls(AutoencoderConfig(16, multipliers, 1, (), 64, groups=8), codes, 16)

    @property
    def factor(self) -> int:
        """f, how many times smaller the grid of codes is."""
        return self.autoencoder.factor


@dataclass(frozen=True)
class PatchConfig:
    width: int = 64         # channels behind the first convolution
    layers: int = 3         # convolutions that halve the sides
    channels: int = 3       # of a picture

    def __post_init__(self) -> None:
        check(self, layers=(1, 10))

    @classmethod
    def paper(cls) -> "PatchConfig":
        """2,765,633 parameters, each score for 70 x 70 pixels."""
        return cls()

    @classmethod
    def mini(cls) -> "PatchConfig":
        """For 64 pixels: each score for 34 x 34 of them."""
        return cls(16, 2)

    @property
    def receptive_field(self) -> int:
        """Pixels a side on which one score depends."""
        pixels = 1
        for stride in [1, 1] + [2] * self.layers:                   # from the score back to the picture
            pixels = (pixels - 1) * stride + 4
        return pixels


@dataclass(frozen=True)
class VQGANLossConfig:
    perceptual: float = 1.0         # w_p, weight of the perceptual distance
    adversarial: float = 0.8        # w_d, by which the adaptive weight is multiplied
    codebook: float = 1.0           # w_c, weight of the loss of the codes
    beta: float = 0.25              # weight of the commitment, or of the codebook with ``legacy``
    legacy: bool = True             # beta stands where the released checkpoints had it
    kl: float = 5e-4                # weight of the Gumbel quantiser's divergence from uniform
    start: int = 250_001            # step with which the game begins, counted from 0
    delta: float = 1e-4             # keeps the adaptive weight finite
    most: float = 1e4               # largest adaptive weight
    game: Literal["hinge", "logarithm"] = "hinge"
    error: Literal["absolute", "squared"] = "absolute"

    def __post_init__(self) -> None:
        check(self, start=(0, 10**9), most=(0, 1e30), delta=(0, 1))

    @classmethod
    def code(cls) -> "VQGANLossConfig":
        """The authors' code for ImageNet."""
        return cls()

    @classmethod
    def gumbel(cls) -> "VQGANLossConfig":
        """The authors' code for the Gumbel quantiser on OpenImages."""
        return cls(kl=1e-8)

    @classmethod
    def paper(cls) -> "VQGANLossConfig":
        """Equations 4 to 7 of the paper."""
        return cls(adversarial=1.0, legacy=False, delta=1e-6, most=1e30, game="logarithm", error="squared")

    @classmethod
    def mini(cls) -> "VQGANLossConfig":
        """For the miniature, which plays after its first thousand steps."""
        return cls(perceptual=0.3, legacy=False, start=1000)


# -------------------------------------------------------------------------------------------------- equations


def reconstruction_loss(
    x: Float[Tensor, "b c y x"], x_hat: Float[Tensor, "b c y x"],
    distance: Float[Tensor, " b"] | float, w: float | int = 1.0,
    error: str = "absolute",
) -> Float[Tensor, ""]:
    r"""eq:vqgan-reconstruction: $L_{nll}=\frac1n\sum_{i=1}^n|x_i-\hat x_i|
    +w_p\,d(x,\hat x)$ over the n numbers of a picture, the mean over
    pictures; the paper squares the first difference."""
    pixels = (F.l1_loss if error == "absolute" else F.mse_loss)(
        single(x_hat), single(x), reduction="none")
    return (pixels.flatten(1).mean(dim=1) + w * distance).mean()


def adaptive_weight(
    by_nll: Float[Tensor, "*n"], by_game: Float[Tensor, "*n"],
    delta: float | int = 1e-4, most: float | int = 1e4,
) -> Float[Tensor, ""]:
    r"""eq:vqgan-adaptive: $\lambda=\min\Big(\frac{\lVert\nabla_WL_{nll}
    \rVert}{\lVert\nabla_WL_G\rVert+\delta},\lambda_{max}\Big)$: with this
    weight the game pulls as hard at the decoder's last layer $W$ as the
    reconstruction does. No gradient passes."""
    ratio = single(by_nll).norm() / (single(by_game).norm() + delta)
    return ratio.clamp(0, most).detach()


def patch_hinge_loss(
    real: Float[Tensor, "b 1 y x"], fake: Float[Tensor, "b 1 y x"],
) -> Float[Tensor, ""]:
    r"""eq:vqgan-discriminator: $L_D=\frac12\big(\mathbb E[(1-a(x))_+]
    +\mathbb E[(1+a(\hat x))_+]\big)$, half of eq:gan-hinge, over all scores
    of all pictures."""
    return hinge_discriminator_loss(real.flatten(), fake.flatten()) / 2


def patch_generator_loss(
    fake: Float[Tensor, "b 1 y x"]
) -> Float[Tensor, ""]:
    r"""eq:vqgan-generator: $L_G=-\mathbb E[a(\hat x)]$ over all scores of
    all pictures."""
    return hinge_generator_loss(fake.flatten())


def autoencoder_loss(
    nll: Float[Tensor, ""], lam: Float[Tensor, ""] | float | int,
    game: Float[Tensor, ""], codes: Float[Tensor, ""] | float | int,
    w_d: float | int = 0.8, w_c: float | int = 1.0,
) -> Float[Tensor, ""]:
    r"""eq:vqgan-loss: $L=L_{nll}+\lambda w_dL_G+w_cL_{VQ}$; before the game
    begins $\lambda=0$."""
    return nll + lam * w_d * game + w_c * codes


def temperature(
    step: int, steps: int = 1_000_001, first: float = 0.9,
    last: float = 1e-6,
) -> float:
    r"""eq:vqgan-temperature: $\tau_s=\tau_S+\frac12(\tau_0-\tau_S)
    \big(1+\cos\frac{\pi s}S\big)$, the Gumbel quantiser's from step 0 to
    the last, S."""
    share = min(step / steps, 1)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def with_gradient(
    value: Float[Tensor, ""], x: Float[Tensor, "*n"], gradient: Float[Tensor, "*n"]
) -> Float[Tensor, ""]:
    """An optimisation: the number ``value``, whose gradient in ``x`` is ``gradient``."""
    return value.detach() + ((x - x.detach()) * gradient).sum()


class Weighed(NamedTuple):
    """What ``weigh`` finds: $L_{nll}+\\lambda w_dL_G$ with its gradient, its two parts, and $\\lambda$."""

    loss: Tensor
    nll: Tensor
    game: Tensor
    weight: Tensor


def weigh(
    x_hat: Float[Tensor, "b c y x"], last: Float[Tensor, "c e 3 3"],
    nll: Callable[[Tensor], Tensor],
    game: Callable[[Tensor], Tensor] | None, config: VQGANLossConfig,
) -> Weighed:
    """eq:vqgan-adaptive and the first two parts of eq:vqgan-loss, with each
    network passed backwards once.

    The gradients of both losses are taken at ``x_hat``; those at the weight
    ``last`` of the decoder's last layer follow by that layer alone, and
    their weighted sum goes on into the decoder. ``game`` is None until the
    game begins.
    """
    x_hat = single(x_hat)
    leaf = x_hat.detach().requires_grad_()
    L_nll = nll(leaf)
    by_nll, = torch.autograd.grad(L_nll, leaf)
    zero = L_nll.new_zeros(())
    if game is None:
        return Weighed(with_gradient(L_nll, x_hat, by_nll), L_nll, zero, zero)
    L_G = game(leaf)
    by_game, = torch.autograd.grad(L_G, leaf)
    pulls, plays = (torch.autograd.grad(x_hat, last, g, retain_graph=True)[0]
                    for g in (by_nll, by_game))
    lam = adaptive_weight(pulls, plays, config.delta, config.most)
    loss = autoencoder_loss(L_nll, lam, L_G, 0, config.adversarial)
    gradient = by_nll + lam * config.adversarial * by_game
    return Weighed(with_gradient(loss, x_hat, gradient), L_nll, L_G, lam)


# ------------------------------------------------------------------------------------------------------ model


class GumbelCodebook(nn.Module):
    r"""Codes that are drawn: a convolution gives each place of a grid the logits of K codes.

    ``forward``: a grid (b, n, y, x) -> ``Quantised`` whose codebook error is the divergence from the uniform
    distribution, in nats a place, and whose commitment is 0. While training, Gumbel noise is added and the
    gradient is that of the softmax at the ``temperature`` (straight-through); otherwise the code is the
    likeliest.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size, self.width, self.temperature = size, width, 1.0
        self.logits = nn.Conv2d(width, size, 1)
        self.weight = nn.Parameter(torch.randn(size, width))

    def quantise(self, z: Float[Tensor, "b n y x"]) -> Int[Tensor, "b y x"]:
        """The likeliest codes."""
        return self.logits(z).argmax(dim=1)

    def look_up(self, codes: Int[Tensor, "b y x"]) -> Float[Tensor, "b n y x"]:
        """The vectors of codes."""
        return F.embedding(codes, self.weight).movedim(-1, 1)

    def forward(self, z: Float[Tensor, "b n y x"]) -> Quantised:
        logits = single(self.logits(z))
        kl = kl_to_uniform(logits.movedim(1, -1).softmax(dim=-1)).mean()
        if not self.training:
            codes = logits.argmax(dim=1)
            return Quantised(self.look_up(codes), codes, kl, kl.new_zeros(()))
        drawn = F.gumbel_softmax(logits, self.temperature, hard=True, dim=1)
        z_q = torch.einsum("bkyx,kn->bnyx", drawn, self.weight)
        return Quantised(z_q, drawn.argmax(dim=1), kl, kl.new_zeros(()))


class Reconstruction(NamedTuple):
    """Pictures drawn again (b, 3, y, x), and what the codebook made of the grid."""

    images: Tensor
    quantised: Quantised


class VQGAN(nn.Module):
    """Encoder, codebook, decoder: pictures (b, 3, y, x) in [-1, 1] -> codes (b, y/f, x/f) and back.

    ``forward`` draws pictures again with gradients (straight through the codes), ``encode`` and ``decode``
    are its halves. ``grid`` are the encoder's vectors, ``draw`` decodes vectors: between them
    ``codebook`` quantises. What is drawn is not cut off at -1 and 1 (``autoencoder.clipped`` does).
    """

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config, latent = config, config.autoencoder.latent
        self.encoder = Encoder(config.autoencoder)
        self.to_codes = nn.Conv2d(latent, config.embed, 1)
        kind = Codebook if config.quantiser == "nearest" else GumbelCodebook
        self.codebook: Any = kind(config.codes, config.embed)
        self.from_codes = nn.Conv2d(config.embed, latent, 1)
        self.decoder = Decoder(config.autoencoder)

    def grid(
        self, images: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b n h w"]:
        return self.to_codes(self.encoder(images))

    def draw(
        self, vectors: Float[Tensor, "b n h w"]
    ) -> Float[Tensor, "b c y x"]:
        return self.decoder(self.from_codes(vectors))

    def forward(self, images: Float[Tensor, "b c y x"]) -> Reconstruction:
        quantised = self.codebook(self.grid(images))
        return Reconstruction(self.draw(quantised.z_q), quantised)

    @torch.no_grad()
    def encode(
        self, images: Float[Tensor, "b c y x"]
    ) -> Int[Tensor, "b h w"]:
        return self.codebook.quantise(self.grid(images))

    def decode(
        self, codes: Int[Tensor, "b h w"]
    ) -> Float[Tensor, "b c y x"]:
        return self.draw(self.codebook.look_up(codes))


class PatchDiscriminator(nn.Sequential):
    """Is each patch of a picture real? Pictures (b, 3, y, x) -> scores (b, 1, h, w), no probabilities.

    A score depends on ``config.receptive_field`` pixels a side. Convolutions 4 x 4, batch normalisation but
    behind the first, weights from N(0, 0.02).
    """

    def __init__(self, config: PatchConfig) -> None:
        into = config.width
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, into, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for i in range(1, config.layers + 1):
            out = config.width * min(2**i, 8)
            stride = 2 if i < config.layers else 1
            layers += [nn.Conv2d(into, out, 4, stride, 1, bias=False),
                       nn.BatchNorm2d(out), nn.LeakyReLU(SLOPE)]
            into = out
        super().__init__(*layers, nn.Conv2d(into, 1, 4, 1, 1))
        self.config = config
        for module in self:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)


# --------------------------------------------------------------------------------------------------- the game


class VQGANGame(nn.Module):
    """Both players and the clock: ``autoencoder``, ``discriminator``, and ``step``, how many were played.

    ``restart_every`` steps (0: never) codes that nobody chose since the last time are put onto vectors of
    the batch, the first time at once; ``chosen`` counts. The authors' code does no such thing.
    """

    step: Tensor
    chosen: Tensor

    def __init__(self, config: VQGANConfig, patch: PatchConfig | None = None,
                 loss: VQGANLossConfig | None = None, restart_every: int = 0) -> None:
        super().__init__()
        if restart_every and config.quantiser != "nearest":
            raise ValueError("codes that are drawn do not die by distance; leave restart_every at 0")
        self.loss = loss or VQGANLossConfig.code()
        self.restart_every = restart_every
        self.autoencoder = VQGAN(config)
        self.discriminator = PatchDiscriminator(patch or PatchConfig.paper())
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("chosen", torch.zeros(config.codes, dtype=torch.long))

    @property
    def plays(self) -> bool:
        """Has the game begun?"""
        return int(self.step) >= self.loss.start

    def code_loss(self, quantised: Quantised) -> Float[Tensor, ""]:
        """eq:vq-loss, with ``legacy`` eq:vq-legacy; of drawn codes their divergence."""
        if self.autoencoder.config.quantiser == "gumbel":
            return self.loss.kl * quantised.codebook
        return quantised.loss(self.loss.beta, self.loss.legacy)

    def generator_loss(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, ""]:
        """What the autoencoder wants of the scores of its pictures."""
        scores = self.discriminator(images)
        return (patch_generator_loss(scores) if self.loss.game == "hinge"
                else saturating_loss(scores.flatten()))

    def discriminator_loss(
        self, real: Float[Tensor, "b c y x"], fake: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, ""]:
        """What the discriminator wants; ``fake`` gets no gradient."""
        scores = self.discriminator(real), self.discriminator(fake.detach())
        return (patch_hinge_loss(*scores) if self.loss.game == "hinge"
                else discriminator_loss(*(a.flatten() for a in scores)))

    def revive(self, z: Float[Tensor, "b n y x"], codes: Int[Tensor, "b y x"]) -> None:
        """Count the codes of a batch, and restart dead ones when it is time."""
        self.chosen += torch.bincount(codes.flatten(), minlength=len(self.chosen))
        if self.restart_every and int(self.step) % self.restart_every == 0:
            self.autoencoder.codebook.restart(single(z.detach()), self.chosen == 0)
            self.chosen.zero_()


def vqgan_game(distance: Distance | None = None) -> Callable[[Any, Any], Iterator[Any]]:
    """The game of VQGAN for ``fit``, on batches with ``images`` (or tensors) and a ``VQGANGame``: the
    autoencoder moves down eq:vqgan-loss, from ``start`` on the discriminator down eq:vqgan-discriminator.

    ``distance`` is perceptual, (pictures, pictures) -> (b); without one that part is zero.
    """
    def play(model: VQGANGame, batch: Any) -> Iterator[Any]:
        x, config = getattr(batch, "images", batch), model.loss
        z = model.autoencoder.grid(x)
        quantised = model.autoencoder.codebook(z)
        x_hat = model.autoencoder.draw(quantised.z_q)

        def nll(drawn: Tensor) -> Tensor:
            seen = distance(drawn, x) if distance is not None else 0.0
            return reconstruction_loss(x, drawn, seen, config.perceptual,
                                       config.error)

        found = weigh(x_hat, model.autoencoder.decoder.leave.weight, nll,
                      model.generator_loss if model.plays else None, config)
        codes = model.code_loss(quantised)
        yield ("autoencoder", found.loss + config.codebook * codes,
               {"nll": found.nll, "codes": codes, "game": found.game,
                "weight of the game": found.weight})
        if model.plays:
            yield "discriminator", model.discriminator_loss(x, x_hat), {}
        model.revive(z, quantised.codes)
        model.step += 1

    return play
