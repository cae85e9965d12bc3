r"""What the GANs of this chapter are built from: gated units, blocks that double or halve a map,
conditions that are drawn.

Papers: H. Zhang et al. (2017), *StackGAN*, arXiv:1612.03242, sec. 3.2 (conditioning augmentation); H.
Zhang et al. (2018), *StackGAN++*, arXiv:1710.10916, sec. 3 (first stage, discriminators with two heads);
Y. Dauphin et al. (2017), arXiv:1612.08083 (gated linear unit); A. Radford et al. (2016), *DCGAN*,
arXiv:1511.06434, sec. 4 (initialisation); T. Miyato et al. (2018), arXiv:1802.05957 (spectral
normalisation).  Survey: 2.1. Differs from the papers: discriminators return logits, the losses take them;
spectral normalisation iterates while training only (the DM-GAN code: also in evaluation).

Images (b, 3, s, s) are in [-1, 1]; maps are (b, c, s, s); letters of shapes: b images, c channels, t words.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mmlearn.text_for_vision.blockwise import single


class Generated(NamedTuple):
    """What a generator with several branches draws: pictures from small to large, and how they came about.

    ``images`` in [-1, 1]; ``mu`` and ``log_var`` (b, c) of the condition; ``attention`` (b, p, t), one for
    each branch that read words, p being the places of the map in rows; ``gates`` of DM-GAN's memory.
    """

    images: tuple[Tensor, ...]
    mu: Tensor
    log_var: Tensor
    attention: tuple[Tensor, ...] = ()
    gates: tuple["Gates", ...] = ()


class Gates(NamedTuple):
    """DM-GAN's gates of one branch: ``writing`` (b, t, 1) of each word, ``response`` (b, p, 1) of each
    place."""

    writing: Tensor
    response: Tensor


# -------------------------------------------------------------------------------------------------- equations

def glu(x: Float[Tensor, "b two_c *s"]) -> Float[Tensor, "b c *s"]:
    r"""eq:glu: $\mathrm{GLU}([a;b])=a\odot\sigma(b)$: one half of the channels opens and closes the other."""
    if x.shape[1] % 2:
        raise ValueError("a gated linear unit halves the channels, and there "
                         f"are {x.shape[1]}; give an even number")
    a, b = x.chunk(2, dim=1)
    return a * torch.sigmoid(b)


def draw_condition(
    mu: Float[Tensor, "b c"], log_var: Float[Tensor, "b c"],
    epsilon: Float[Tensor, "b c"]
) -> Float[Tensor, "b c"]:
    r"""eq:ca-sample: $\hat c=\mu+\sigma\odot\epsilon$, $\epsilon\sim\mathcal N(0,I)$: differentiable in $\mu$
    and $\log\sigma^2$."""
    return mu + (0.5 * log_var).exp() * epsilon


def kl_to_standard_normal(
    mu: Float[Tensor, "b c"], log_var: Float[Tensor, "b c"]
) -> Float[Tensor, " b"]:
    r"""eq:ca-kl: $\mathrm{KL}\big(\mathcal N(\mu,\mathrm{diag}\,\sigma^2)\,\|\,\mathcal
    N(0,I)\big)=\frac12\sum_j\big(\mu_j^2+\sigma_j^2-\log\sigma_j^2-1\big)$, nats per example."""
    mu, log_var = single(mu), single(log_var)
    return (mu.square() + log_var.exp() - log_var - 1).sum(dim=1) / 2


def mean_kl(mu: Float[Tensor, "b c"], log_var: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    r"""eq:ca-kl-mean: $\frac1{bc}\sum_{i}\mathrm{KL}_i$: the mean over examples **and** dimensions that
    all the released codes take, c times smaller than the mean of eq:ca-kl."""
    return kl_to_standard_normal(mu, log_var).mean() / mu.shape[1]


# ------------------------------------------------------------------------------------------- initialisation

def weight_of(module: nn.Module) -> Tensor:
    """The parameter behind ``module.weight``, also under spectral normalisation."""
    if nn.utils.parametrize.is_parametrized(module, "weight"):
        return module.parametrizations.weight.original             # type: ignore[union-attr, return-value]
    return module.weight                                           # type: ignore[return-value]


def _init(model: nn.Module, draw: Callable[[Tensor], Tensor]) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            draw(weight_of(module).detach())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
    return model


def init_normal(model: nn.Module, std: float = 0.02) -> nn.Module:
    """DCGAN's start: weights from N(0, 0.02), batch norm's scales from N(1, 0.02), biases 0. Returns
    ``model``."""
    return _init(model, lambda weight: nn.init.normal_(weight, 0.0, std))


def init_orthogonal(model: nn.Module) -> nn.Module:
    """The start of StackGAN-v2, AttnGAN and DM-GAN: orthogonal weights; batch norm and biases as DCGAN's."""
    return _init(model, lambda weight: nn.init.orthogonal_(weight))


# ----------------------------------------------------------------------------------------------------- blocks

class GLU(nn.Module):
    """eq:glu as a layer: half of the channels come out."""

    def forward(self, x: Float[Tensor, "b two_c *s"]) -> Float[Tensor, "b c *s"]:
        return glu(x)


def conv3(into: int, out: int, bias: bool = False) -> nn.Conv2d:
    """A convolution 3 x 3 that keeps the side."""
    return nn.Conv2d(into, out, 3, padding=1, bias=bias)


def leaky() -> nn.LeakyReLU:
    """The activation of all discriminators: slope 0.2 below 0."""
    return nn.LeakyReLU(0.2)


class ConvBlock(nn.Module):
    """Convolution 3 x 3, batch norm, activation: (b, into, s, s) -> (b, out, s, s). Before a GLU the
    channels are twice as many."""

    def __init__(self, into: int, out: int, activation: Callable[[], nn.Module] = GLU) -> None:
        super().__init__()
        wide = 2 * out if activation is GLU else out
        self.conv = conv3(into, wide)
        self.norm = nn.BatchNorm2d(wide)
        self.activation = activation()

    def forward(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b d s s"]:
        return self.activation(self.norm(self.conv(x)))


class UpBlock(ConvBlock):
    """A map of twice the side: every pixel four times, then a ``ConvBlock``; no transposed convolution."""

    def forward(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b d two_s two_s"]:
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class ResidualBlock(nn.Module):
    r"""eq:glu-residual: $x+\mathrm{BN}(C_2\,\mathrm{GLU}(\mathrm{BN}(C_1x)))$, of StackGAN-v2, AttnGAN and
    DM-GAN; nothing after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = ConvBlock(channels, channels)
        self.conv = conv3(channels, channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c s s"]:
        return x + self.norm(self.conv(self.inner(x)))


class ReLUResidualBlock(ResidualBlock):
    r"""eq:relu-residual: $\mathrm{ReLU}(x+\mathrm{BN}(C_2\,\mathrm{ReLU}(\mathrm{BN}(C_1x))))$, of StackGAN's
    second stage."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.inner = ConvBlock(channels, channels, nn.ReLU)

    def forward(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c s s"]:
        return F.relu(super().forward(x))


class Bottleneck(nn.Module):
    """x plus 1 x 1 to ``middle`` channels, 3 x 3, 3 x 3 back, batch norm after each: of GAN-CLS and
    StackGAN-v1.

    No activation stands right before the block or after the sum; the net around it has them.
    """

    def __init__(self, channels: int, middle: int, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, middle, 1, bias=False), nn.BatchNorm2d(middle), activation(),
            conv3(middle, middle), nn.BatchNorm2d(middle), activation(),
            conv3(middle, channels), nn.BatchNorm2d(channels),
        )

    def forward(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c s s"]:
        return x + self.inner(x)


NORMS = ("batch", "spectral", "none")


def normalised(conv: Callable[[bool], nn.Conv2d], norm: str) -> list[nn.Module]:
    """A convolution with its normalisation, and LeakyReLU: "batch" (no bias), "spectral" (with bias),
    "none" (no bias)."""
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; use one of {', '.join(NORMS)}")
    if norm == "spectral":
        return [spectral_norm(conv(True), eps=1e-12), leaky()]
    made = conv(False)
    return [made, nn.BatchNorm2d(made.out_channels), leaky()] if norm == "batch" else [made, leaky()]


class DownBlock(nn.Sequential):
    """A map of half the side: convolution 4 x 4 of stride 2, normalisation, LeakyReLU."""

    def __init__(self, into: int, out: int, norm: str = "batch") -> None:
        super().__init__(*normalised(lambda bias: nn.Conv2d(into, out, 4, 2, 1, bias=bias), norm))


class SameBlock(nn.Sequential):
    """Convolution 3 x 3, normalisation, LeakyReLU: the discriminators' block that keeps the side."""

    def __init__(self, into: int, out: int, norm: str = "batch") -> None:
        super().__init__(*normalised(lambda bias: conv3(into, out, bias), norm))


def halvings(size: int) -> int:
    """How often ``size`` is halved down to 4. Raises ``ValueError`` if that is not a whole number, or
    none."""
    n = (size // 4).bit_length() - 1
    if size < 8 or 4 * 2**n != size:
        raise ValueError(f"pictures have {size} pixels a side; give 4 times a power of two: 8, 16, 32, 64 …")
    return n


# ------------------------------------------------------------------------------------------------- conditions

class ConditioningAugmentation(nn.Module):
    r"""eq:ca-parameters: $[\mu;\log\sigma^2]=\mathrm{act}(W\varphi(t)+b)$, from which a condition is drawn
    (eq:ca-sample).

    Input text (b, d); output the condition (b, c), mu (b, c), log_var (b, c). ``activation`` "glu" is that of
    StackGAN-v2, AttnGAN and DM-GAN; "relu" StackGAN's PyTorch code, where sigma cannot be below 1;
    "leaky_relu" StackGAN's TensorFlow code, where the second half is log sigma and no epsilon lies beyond 2.
    """

    ACTIVATIONS = ("glu", "relu", "leaky_relu")

    def __init__(self, text: int, width: int, activation: str = "glu") -> None:
        super().__init__()
        if activation not in self.ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; use one of {', '.join(self.ACTIVATIONS)}")
        self.activation, self.width = activation, width
        self.fc = nn.Linear(text, (4 if activation == "glu" else 2) * width)

    def statistics(self, text: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        """mu and log sigma^2 of a text."""
        x = self.fc(text)
        if self.activation == "glu":
            x = glu(x)
        else:
            x = F.relu(x) if self.activation == "relu" else F.leaky_relu(x, 0.2)
        mu, second = x.chunk(2, dim=1)
        return mu, 2 * second if self.activation == "leaky_relu" else second

    def epsilon(self, like: Float[Tensor, "b c"], generator: torch.Generator | None) -> Float[Tensor, "b c"]:
        """Standard normal numbers, cut off at 2 for "leaky_relu"."""
        drawn = torch.empty_like(like)
        if self.activation == "leaky_relu":
            return nn.init.trunc_normal_(drawn, generator=generator)
        return drawn.normal_(generator=generator)

    def forward(
        self, text: Float[Tensor, "b d"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        mu, log_var = self.statistics(text)
        return draw_condition(mu, log_var, self.epsilon(mu, generator)), mu, log_var


def tile(code: Float[Tensor, "b c"], map: Float[Tensor, "b d s s"]) -> Float[Tensor, "b c s s"]:
    """The same code at every place of ``map``."""
    return code[:, :, None, None].expand(-1, -1, *map.shape[2:])


def pyramid(image: Float[Tensor, "b 3 s s"], sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Real pictures in the sizes of the branches: means over squares of pixels. Raises ``ValueError`` for
    a size that does not divide the side."""
    if any(image.shape[-1] % size for size in sizes):
        raise ValueError(f"pictures of {image.shape[-1]} pixels a side cannot be reduced to "
                         f"{', '.join(map(str, sizes))}; load them with the side of the largest branch")
    return tuple(F.avg_pool2d(image, image.shape[-1] // size) for size in sizes)


# ---------------------------------------------------------- first stage and heads of StackGAN-v2 and later

class FirstStage(nn.Module):
    """Condition and noise to a map of ``width`` channels and ``size`` pixels: Linear, batch norm, GLU,
    then up blocks that halve the channels."""

    def __init__(self, noise: int, condition: int, width: int, size: int) -> None:
        super().__init__()
        ups = halvings(size)
        self.top = width * 2**ups                                       # 16 g for 64 pixels
        self.fc = nn.Linear(condition + noise, 2 * self.top * 16, bias=False)
        self.norm = nn.BatchNorm1d(2 * self.top * 16)
        self.up = nn.Sequential(*(UpBlock(self.top >> i, self.top >> (i + 1)) for i in range(ups)))

    def forward(
        self, condition: Float[Tensor, "b c"], noise: Float[Tensor, "b z"]
    ) -> Float[Tensor, "b g s s"]:
        x = glu(self.norm(self.fc(torch.cat([condition, noise], dim=1))))
        return self.up(x.unflatten(1, (self.top, 4, 4)))


class ImageHead(nn.Sequential):
    """A map to a picture: convolution 3 x 3 without bias, tanh."""

    def __init__(self, channels: int) -> None:
        super().__init__(conv3(channels, 3), nn.Tanh())


class JointDiscriminator(nn.Module):
    """Two questions about a picture of ``size`` pixels: is it real (no text), and does it fit the text?

    Down blocks to 4 x 4, ``SameBlock`` s back to 8 d channels, then a head without text and one that first
    joins the text's vector (b, e) to every place. ``features`` (b, 3, s, s) -> (b, c, 4, 4);
    ``unconditional`` and ``conditional`` turn features into logits (b), so that features of a real picture
    serve its wrong text too.
    """

    def __init__(self, size: int, width: int, text: int, norm: str = "batch",
                 unconditional: bool = True) -> None:
        super().__init__()
        n, d = halvings(size), width
        top = d * 2 ** min(n - 1, 3)                                    # 8 d from 64 pixels on
        first = DownBlock(3, d, norm if norm == "spectral" else "none")
        downs = [DownBlock(d << i, d << (i + 1), norm) for i in range(n - 1)]
        backs = [SameBlock(d << i, d << (i - 1), norm) for i in range(n - 1, 3, -1)]
        self.size, self.text = size, text
        self.body = nn.Sequential(first, *downs, *backs)
        self.join = SameBlock(top + text, top, norm)
        self.fits = nn.Conv2d(top, 1, 4, 4)
        self.real = nn.Conv2d(top, 1, 4, 4) if unconditional else None

    def features(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b c 4 4"]:
        if image.shape[-1] != self.size:
            raise ValueError(f"pictures have {image.shape[-1]} pixels a side, this discriminator wants "
                             f"{self.size}; give it the pictures of its own branch")
        return self.body(image)

    def unconditional(self, features: Float[Tensor, "b c 4 4"]) -> Float[Tensor, " b"]:
        if self.real is None:
            raise ValueError("this discriminator has no unconditional head; build it with unconditional=True")
        return self.real(features).flatten()

    def conditional(
        self, features: Float[Tensor, "b c 4 4"], text: Float[Tensor, "b e"]
    ) -> Float[Tensor, " b"]:
        return self.fits(self.join(torch.cat([features, tile(text, features)], dim=1))).flatten()

    def forward(
        self, image: Float[Tensor, "b 3 s s"], text: Float[Tensor, "b e"]
    ) -> tuple[Float[Tensor, " b"] | None, Float[Tensor, " b"]]:
        features = self.features(image)
        unconditional = None if self.real is None else self.unconditional(features)
        return unconditional, self.conditional(features, text)
