"""DF-GAN, the Deep Fusion GAN: one generator without stages, into which the sentence enters at every depth.

Paper: M. Tao, H. Tang, F. Wu, X. Jing, B.-K. Bao and C. Xu (2022), *DF-GAN: A Simple and Effective Baseline
for Text-to-Image Synthesis*, CVPR 2022, arXiv:2008.05865, sec. 3 (blocks: sec. 3.4; target-aware
discriminator: sec. 3.3).  Survey: 2.1.3.
Differs from the paper: the two sizes are those of the authors' code of 2022 (``code="2022"``: the scales and
shifts also read the noise, six blocks that upsample first) and of 2020 (``"2020"``: they read the sentence
alone, as in the paper's formula; seven blocks, each weighted by a learned gain). The penalty takes the joint
norm of both gradients, as the code does; the paper's sum is ``norm="sum"``. Shortcuts that the code builds
and never calls are left out of the discriminator (``unused_parameters`` counts them).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text2image.adversarial import hinge_generator_loss
from mmlearn.text_for_vision.blockwise import single

CODES = ("2022", "2020")
SLOPE = 0.2                             # of every leaky ReLU


@dataclass(frozen=True)
class DFGANConfig:
    size: int = 256         # pixels a side: a power of two, 8 or more
    width: int = 32         # n, channels at full resolution
    noise: int = 100        # d_z, size of the noise
    text: int = 256         # D, size of a sentence embedding
    code: str = "2022"      # whose architecture: that of the authors' code of "2022" or of "2020"

    def __post_init__(self) -> None:
        check(self)
        if self.code not in CODES:
            raise ValueError(f"code is {self.code!r}; use one of {', '.join(CODES)}")
        if self.size < 8 or self.size & (self.size - 1):
            raise ValueError(f"size is {self.size} pixels; use a power of two from 8 on, such as 64 or 256")

    @classmethod
    def cub(cls) -> "DFGANConfig":
        """Birds, code of 2022: 9,744,131 parameters of the generator."""
        return cls()

    @classmethod
    def coco(cls) -> "DFGANConfig":
        """COCO, code of 2022: the same network as for birds, trained for fewer epochs (see ``RECIPES``)."""
        return cls()

    @classmethod
    def code2020(cls) -> "DFGANConfig":
        """The first version of the code: 12,240,010 parameters of the generator."""
        return cls(code="2020")

    @classmethod
    def mini(cls, size: int = 64, width: int = 16, text: int = 64, noise: int = 32) -> "DFGANConfig":
        """A miniature for the scene world, of 64 or 32 pixels."""
        return cls(size, width, noise, text)

    @property
    def doublings(self) -> int:
        """How often 4 pixels are doubled until they are ``size``."""
        return int(math.log2(self.size)) - 2

    @property
    def generator_channels(self) -> list[int]:
        """Channels at 4, 8, 16 … pixels, in the generator: 8 n at most."""
        return [self.width * min(2**i, 8) for i in reversed(range(self.doublings + 1))]

    @property
    def discriminator_channels(self) -> list[int]:
        """Channels at full, half, quarter … resolution, in the discriminator: 8 n at most, 16 n in 2020."""
        most = 8 if self.code == "2022" else 16
        return [self.width * min(2**i, most) for i in range(self.doublings + 1)]

    @property
    def condition(self) -> int:
        """Size of what scales and shifts are computed from: noise and sentence, or the sentence alone."""
        return self.noise + self.text if self.code == "2022" else self.text


@dataclass(frozen=True)
class Recipe:
    """How the authors' code trains: Adam, one step of each net in turn."""

    batch: int
    epochs: int
    lr_generator: float = 1e-4
    lr_discriminator: float = 4e-4                      # four times as fast: two time scales
    betas: tuple[float, float] = (0.0, 0.9)


RECIPES = {"cub": Recipe(32, 1300), "coco": Recipe(32, 300),
           "cub 2020": Recipe(24, 600), "coco 2020": Recipe(24, 120)}


# -------------------------------------------------------------------------------------------------- equations


def affine(
    x: Float[Tensor, "b c y x"], gamma: Float[Tensor, "b c"], theta: Float[Tensor, "b c"]
) -> Float[Tensor, "b c y x"]:
    r"""eq:dfgan-affine: $\mathrm{AFF}(x_i\mid e)=\gamma_i(e)\,x_i+\theta_i(e)$, one scale and one shift a
    channel."""
    return gamma[:, :, None, None] * x + theta[:, :, None, None]


def fusion(
    x: Float[Tensor, "b c y x"], gammas: Float[Tensor, "b k c"],
    thetas: Float[Tensor, "b k c"]
) -> Float[Tensor, "b c y x"]:
    r"""eq:dfgan-fusion: $\mathrm{DFBlock}(x)=\mathrm{LReLU}\circ\mathrm{AFF}_2\circ\mathrm{LReLU}\circ
    \mathrm{AFF}_1(x)$.

    Any number k of affine maps is stacked. Without the leaky ReLU between them they would be one:
    $\gamma_2\gamma_1x+\gamma_2\theta_1+\theta_2$.
    """
    for gamma, theta in zip(gammas.unbind(1), thetas.unbind(1)):
        x = F.leaky_relu(affine(x, gamma, theta), SLOPE)
    return x


def discriminator_hinge(
    real: Float[Tensor, " b"], fake: Float[Tensor, " b"], mismatched: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    r"""eq:dfgan-hinge: $\mathbb E\big[(1-a(x,e))_+\big]+\tfrac12\mathbb E\big[(1+a(\hat x,e))_+\big]
    +\tfrac12\mathbb E\big[(1+a(x_{mis},e))_+\big]$; the paper writes $-\min(0,-1+D)$ for $(1-a)_+$.

    Scores of real pictures with their sentence, of generated ones, of real ones with the sentence of another.
    """
    real, fake, mismatched = single(real), single(fake), single(mismatched)
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean() / 2 + F.relu(1 + mismatched).mean() / 2


def joint_penalty(
    by_image: Float[Tensor, "b 3 y x"], by_text: Float[Tensor, "b e"],
    k: float | int = 2, p: float | int = 6
) -> Float[Tensor, ""]:
    r"""eq:dfgan-magp: $k\,\mathbb E\big[(\lVert\nabla_xa\rVert^2+\lVert\nabla_ea\rVert^2)^{p/2}\big]$, as the
    code has it: the norm of both gradients in one vector.

    ``by_image`` and ``by_text`` are the gradients of the scores. The square is never rooted, so that the
    penalty has a gradient where the norm is zero.
    """
    square = (single(by_image).square().sum(dim=(1, 2, 3))
              + single(by_text).square().sum(dim=1))
    return k * square.pow(p / 2).mean()


def summed_penalty(
    by_image: Float[Tensor, "b 3 y x"], by_text: Float[Tensor, "b e"],
    k: float | int = 2, p: float | int = 6
) -> Float[Tensor, ""]:
    r"""eq:dfgan-magp-paper: $k\,\mathbb E\big[(\lVert\nabla_xa\rVert+\lVert\nabla_ea\rVert)^p\big]$, as the
    paper writes it: between 1 and $2^{p/2}$ times eq:dfgan-magp."""
    norms = (single(by_image).flatten(1).norm(dim=1)
             + single(by_text).norm(dim=1))
    return k * norms.pow(p).mean()


PENALTIES = {"joint": joint_penalty, "sum": summed_penalty}


def truncated_normal(uniform: Float[Tensor, "*n"], bound: float | int = 2.0) -> Float[Tensor, "*n"]:
    r"""eq:dfgan-truncated: $z=\Phi^{-1}\big(\Phi(-a)+u\,(\Phi(a)-\Phi(-a))\big)$: normal noise that never
    leaves $[-a,a]$, from $u$ uniform on $[0,1)$."""
    tail = torch.special.ndtr(torch.tensor(-float(bound), dtype=torch.float64))
    z = torch.special.ndtri(tail + uniform.double() * (1 - 2 * tail))
    return z.clamp(-bound, bound).to(uniform.dtype)


# ----------------------------------------------------------------------------------------------------- blocks


class Affine(nn.Module):
    """Scale and shift of c channels, each from a small network that reads the condition (b, q)
    (eq:dfgan-affine).

    Both start as the identity, that is with scales 1 and shifts 0, whatever the condition says.
    """

    def __init__(self, condition: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.gamma = self.network(condition, hidden, channels, 1.0)
        self.theta = self.network(condition, hidden, channels, 0.0)

    @staticmethod
    def network(condition: int, hidden: int, channels: int, start: float) -> nn.Sequential:
        last = nn.Linear(hidden, channels)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, start)
        return nn.Sequential(nn.Linear(condition, hidden), nn.ReLU(), last)

    def forward(self, condition: Float[Tensor, "b q"]) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        return self.gamma(condition), self.theta(condition)


class DFBlock(nn.Module):
    """Two affine maps of the channels by the text, a leaky ReLU after each: (b, c, y, x) -> the same
    (eq:dfgan-fusion)."""

    def __init__(self, condition: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.affines = nn.ModuleList(Affine(condition, hidden, channels) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "b c y x"], condition: Float[Tensor, "b q"]
    ) -> Float[Tensor, "b c y x"]:
        gammas, thetas = zip(*(affine(condition) for affine in self.affines))
        return fusion(x, torch.stack(gammas, dim=1), torch.stack(thetas, dim=1))


class GeneratorBlock(nn.Module):
    """Fuse, filter, fuse, filter, and add what came in: (b, c, y, x) and condition (b, q) -> (b, f, y, x).

    With ``gain`` the update is weighted by a learned number that starts at 0 (code of 2020). What came in
    goes through a 1 x 1 convolution where the widths differ.
    """

    def __init__(self, config: DFGANConfig, before: int, after: int) -> None:
        super().__init__()
        new = config.code == "2022"
        def fuse(channels: int) -> DFBlock:
            return DFBlock(config.condition, channels if new else config.text, channels)

        self.fuse1, self.conv1 = fuse(before), nn.Conv2d(before, after, 3, padding=1)
        self.fuse2, self.conv2 = fuse(after), nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.gain = None if new else nn.Parameter(torch.zeros(1))

    def forward(
        self, x: Float[Tensor, "b c y x"], condition: Float[Tensor, "b q"]
    ) -> Float[Tensor, "b f y x"]:
        update = self.conv1(self.fuse1(x, condition))
        update = self.conv2(self.fuse2(update, condition))
        if self.gain is not None:
            update = self.gain * update
        return self.shortcut(x) + update


class DiscriminatorBlock(nn.Module):
    """Halve the sides: (b, c, y, x) -> (b, f, y/2, x/2), a residual update weighted by a number that starts
    at 0."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 4, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f g h"]:
        update = F.leaky_relu(self.conv1(x), SLOPE)
        update = F.leaky_relu(self.conv2(update), SLOPE)
        return F.avg_pool2d(self.shortcut(x), 2) + self.gain * update


# ----------------------------------------------------------------------------------------------------- models


class DFGANGenerator(nn.Module):
    """Noise (b, d_z) and sentence embeddings (b, D) -> pictures (b, 3, s, s) in [-1, 1].

    No normalisation and no stages: 4 x 4 places are doubled (nearest neighbour) and fused with the text until
    they are pixels. Raises ``ValueError`` for noise or sentences of another size, or not the same number.
    """

    def __init__(self, config: DFGANConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.generator_channels
        self.start = nn.Linear(config.noise, 16 * channels[0])
        if config.code == "2020":
            channels = [channels[0], *channels]             # one block before the first doubling
        self.blocks = nn.ModuleList(GeneratorBlock(config, before, after)
                                    for before, after in zip(channels, channels[1:]))
        self.to_rgb = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(
        self, noise: Float[Tensor, "b z"], sentences: Float[Tensor, "n e"]
    ) -> Float[Tensor, "b 3 y x"]:
        config = self.config
        check_sentences(sentences, len(noise), config.text)
        if noise.shape[1] != config.noise:
            raise ValueError(f"noise has {noise.shape[1]} numbers, the model wants {config.noise}; draw it "
                             f"with model.noise")
        condition = torch.cat([noise, sentences], dim=1) if config.code == "2022" else sentences
        x = self.start(noise).unflatten(1, (-1, 4, 4))                       # b (c 4 4) -> b c 4 4
        for i, block in enumerate(self.blocks):
            if i > 0 or config.code == "2022":
                x = F.interpolate(x, scale_factor=2)
            x = block(x, condition)
        return torch.tanh(self.to_rgb(F.leaky_relu(x, SLOPE)))


class MatchingOutput(nn.Module):
    """The one way out: features (b, c, 4, 4) and sentences (b, D), tiled over the places -> one score (b) of
    the pair.

    There is no second score of the picture alone, whose gradient would lead towards any real picture.
    """

    def __init__(self, channels: int, text: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels + text, hidden, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(hidden, 1, 4, bias=False)

    def forward(
        self, features: Float[Tensor, "b c 4 4"], sentences: Float[Tensor, "b e"]
    ) -> Float[Tensor, " b"]:
        tiled = sentences[:, :, None, None].expand(-1, -1, 4, 4)
        x = F.leaky_relu(self.conv1(torch.cat([features, tiled.to(features)], dim=1)), SLOPE)
        return self.conv2(x).flatten()


class DFGANDiscriminator(nn.Module):
    """Pictures (b, 3, s, s) in [-1, 1] and sentences (b, D) -> scores (b), not squashed.

    ``features`` are the costly part and know no text; ``output`` compares them with sentences, so that one
    batch of features serves matching and mismatching pairs. Raises ``ValueError`` for pictures of another
    size.
    """

    def __init__(self, config: DFGANConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.discriminator_channels
        self.from_rgb = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(before, after)
                                    for before, after in zip(channels, channels[1:]))
        self.matching = MatchingOutput(channels[-1], config.text, 2 * config.width)

    def features(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c 4 4"]:
        if images.shape[-2:] != (self.config.size, self.config.size):
            raise ValueError(f"pictures have {images.shape[-2]} x {images.shape[-1]} pixels, the model wants "
                             f"{self.config.size} a side; resize them")
        x = self.from_rgb(images)
        for block in self.blocks:
            x = block(x)
        return x

    def output(
        self, features: Float[Tensor, "b c 4 4"], sentences: Float[Tensor, "n e"]
    ) -> Float[Tensor, " b"]:
        check_sentences(sentences, len(features), self.config.text)
        return self.matching(features, sentences)

    def forward(
        self, images: Float[Tensor, "b 3 y x"], sentences: Float[Tensor, "n e"]
    ) -> Float[Tensor, " b"]:
        return self.output(self.features(images), sentences)


class TwoWayDiscriminator(DFGANDiscriminator):
    """For comparison, what the paper argues against: ``alone`` scores a picture without any text, from the
    same features."""

    def __init__(self, config: DFGANConfig) -> None:
        super().__init__(config)
        self.unconditional = MatchingOutput(config.discriminator_channels[-1], 0, 2 * config.width)

    def alone(self, features: Float[Tensor, "b c 4 4"]) -> Float[Tensor, " b"]:
        return self.unconditional(features, features.new_zeros(len(features), 0))


class DFGAN(nn.Module):
    """Generator and discriminator. ``sample``: sentences (b, D) -> pictures (b, 3, s, s) in [-1, 1].

    ``truncation`` r draws noise in [-2, 2] times r (the code evaluates with 0.88); None draws as in training.
    """

    def __init__(self, config: DFGANConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = DFGANGenerator(config)
        self.discriminator = DFGANDiscriminator(config)

    def noise(self, count: int, truncation: float | None = None,
              generator: torch.Generator | None = None) -> Float[Tensor, "b z"]:
        """Noise (count, d_z), drawn on the processor so that a seed means the same on every device."""
        return draw_noise(count, self.config.noise, truncation, generator).to(self.generator.start.weight)

    @torch.no_grad()
    def sample(self, sentences: Float[Tensor, "b e"], truncation: float | None = 0.88,
               generator: torch.Generator | None = None) -> Float[Tensor, "b 3 y x"]:
        return self.generator(self.noise(len(sentences), truncation, generator), sentences)


def draw_noise(count: int, size: int, truncation: float | None = None,
               generator: torch.Generator | None = None) -> Float[Tensor, "b z"]:
    """Noise (count, size): normal, or eq:dfgan-truncated times ``truncation``."""
    if truncation is None:
        return torch.randn(count, size, generator=generator)
    return truncation * truncated_normal(torch.rand(count, size, generator=generator))


def check_sentences(sentences: Tensor, count: int, width: int) -> None:
    """Refuse sentences that do not go with ``count`` pictures or have another size."""
    if len(sentences) != count or sentences.shape[1] != width:
        raise ValueError(f"{len(sentences)} sentences of size {sentences.shape[1]} for {count} pictures; "
                         f"give one of size {width} for each")


def unused_parameters(config: DFGANConfig) -> int:
    """Parameters of the shortcuts that the authors' discriminator holds where widths match, and never
    uses."""
    channels = config.discriminator_channels
    return sum(c * c + c for c, after in zip(channels, channels[1:]) if c == after)


# --------------------------------------------------------------------------------------------- training steps


class DiscriminatorLoss(NamedTuple):
    """``loss`` is hinge + penalty; the other three are mean scores, to be watched."""

    loss: Float[Tensor, ""]
    hinge: Float[Tensor, ""]
    penalty: Float[Tensor, ""]
    real: Float[Tensor, ""]
    fake: Float[Tensor, ""]
    mismatched: Float[Tensor, ""]


def discriminator_loss(
    discriminator: DFGANDiscriminator, images: Float[Tensor, "b 3 y x"], fakes: Float[Tensor, "b 3 y x"],
    sentences: Float[Tensor, "b e"], k: float | int = 2, p: float | int = 6, norm: str = "joint",
) -> DiscriminatorLoss:
    r"""eq:dfgan-discriminator: $\mathcal L_D=$ eq:dfgan-hinge $+$ eq:dfgan-magp at real pictures with their
    own sentences.

    A mismatch is a picture with the sentence of its neighbour in the batch, for which the features of the
    real pictures serve once more; batches whose neighbours say the same make it void. ``k=0`` leaves the
    penalty out, ``norm`` is "joint" (code) or "sum" (paper). Raises ``ValueError`` for a batch of one and
    an unknown norm.
    """
    if len(images) < 2:
        raise ValueError("a batch of one picture has no mismatching sentence; give at least 2")
    if norm not in PENALTIES:
        raise ValueError(f"norm is {norm!r}; use one of {', '.join(PENALTIES)}")
    x = images.detach().requires_grad_(k != 0)
    e = sentences.detach().requires_grad_(k != 0)
    features = discriminator.features(x)
    real = discriminator.output(features, e)
    mismatched = discriminator.output(features.roll(-1, 0), sentences.detach())
    fake = discriminator(fakes.detach(), sentences.detach())
    hinge = discriminator_hinge(real, fake, mismatched)
    penalty = hinge.new_zeros(())
    if k:
        by_image, by_text = torch.autograd.grad(single(real).sum(), (x, e), create_graph=True)
        penalty = PENALTIES[norm](by_image, by_text, k, p)
    return DiscriminatorLoss(hinge + penalty, hinge.detach(), penalty.detach(), real.detach().mean(),
                             fake.detach().mean(), mismatched.detach().mean())


def generator_loss(
    discriminator: DFGANDiscriminator, fakes: Float[Tensor, "b 3 y x"], sentences: Float[Tensor, "b e"]
) -> Float[Tensor, ""]:
    r"""eq:dfgan-generator: $\mathcal L_G=-\mathbb E_{\hat x\sim P_g}[a(\hat x,e)]$, the linear hinge
    (eq:gan-hinge-g); only the generator may be stepped by its gradient."""
    return hinge_generator_loss(discriminator(fakes, sentences))


def slope_at_matches(
    discriminator: DFGANDiscriminator, images: Float[Tensor, "b 3 y x"], sentences: Float[Tensor, "b e"]
) -> Float[Tensor, " b"]:
    r"""$\sqrt{\lVert\nabla_xa\rVert^2+\lVert\nabla_ea\rVert^2}$ of each pair: what the penalty keeps small at
    real pictures."""
    x, e = images.detach().requires_grad_(), sentences.detach().requires_grad_()
    by_image, by_text = torch.autograd.grad(discriminator(x, e).sum(), (x, e))
    return (by_image.square().sum(dim=(1, 2, 3)) + by_text.square().sum(dim=1)).sqrt()


def turned_away(
    discriminator: TwoWayDiscriminator, images: Float[Tensor, "b 3 y x"],
    sentences: Float[Tensor, "b e"]
) -> Float[Tensor, " b"]:
    r"""eq:dfgan-two-way: the angle, in degrees, between $\nabla_xa(x,e)$ and $\nabla_x\big(a(x,e)+a(x)\big)$:
    how far the second output leads a picture away from the one that matches."""
    x = images.detach().requires_grad_()
    features = discriminator.features(x)
    matched = discriminator.output(features, sentences).sum()
    alone = discriminator.alone(features).sum()
    towards = torch.autograd.grad(matched, x, retain_graph=True)[0].flatten(1)
    summed = torch.autograd.grad(matched + alone, x)[0].flatten(1)
    return F.cosine_similarity(towards, summed).clamp(-1, 1).arccos().rad2deg()
