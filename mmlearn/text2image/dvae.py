r"""The discrete VAE of DALL-E: a picture becomes a grid of codes, drawn from a relaxed categorical posterior.

Paper: A. Ramesh et al. (2021), *Zero-Shot Text-to-Image Generation*, arXiv:2102.12092, sec. 2.1, app. A.1 to
A.3; the Gumbel-softmax is that of E. Jang et al. (2017), arXiv:1611.01144, and C. Maddison et al. (2017),
arXiv:1611.00712; architecture as released, github.com/openai/DALL-E.  Survey: 2.2, 2.2.1.
Differs from the paper: convolutions run in one precision (the release switches to 16 bits on a GPU).

Training, in the paper: AdamW (0.9, 0.999), eps 1e-8, weight decay 1e-4, batches of 512, 3,000,000 updates
with the ``DVAESchedule``, an average of the weights with decay 0.999. The soft sample is used forward and
backward (no straight-through); KL and tokens come from the logits without noise and without tau.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.nn.positions import check_tokens

EDGE = 0.1                      # epsilon: pixels are kept so far from 0 and 1, where the density has poles


# ------------------------------------------------------------------------------- equations: a sample of codes

def gumbel(u: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:dvae-gumbel: $g=-\log(-\log u)$: standard Gumbel numbers from numbers uniform in (0, 1)."""
    return -(-u.log()).log()


def gumbel_max(
    logits: Float[Tensor, "b k *p"], g: Float[Tensor, "b k *p"]
) -> Int[Tensor, "b *p"]:
    r"""eq:dvae-gumbel-max: $k^*=\arg\max_k(\ell_k+g_k)$ is drawn with the probabilities
    $\mathrm{softmax}(\ell)$."""
    return (logits + g).argmax(dim=1)


def gumbel_softmax(
    logits: Float[Tensor, "b k *p"], g: Float[Tensor, "b k *p"],
    tau: float | int,
) -> Float[Tensor, "b k *p"]:
    r"""eq:dvae-gumbel-softmax: $y=\mathrm{softmax}((\ell+g)/\tau)$: one-hot where tau goes to 0, and
    differentiable."""
    return ((logits + g) / tau).softmax(dim=1)


def kl_to_uniform(logits: Float[Tensor, "b k *p"]) -> Float[Tensor, "b *p"]:
    r"""eq:dvae-kl: $\mathrm{KL}(q\,\|\,\mathrm{uniform})=\sum_k q_k\log q_k+\log K$ of each place, in nats,
    $q=\mathrm{softmax}(\ell)$."""
    log_q = logits.log_softmax(dim=1)
    return (log_q.exp() * log_q).sum(dim=1) + math.log(logits.shape[1])


def bound(
    log_likelihood: Float[Tensor, "*b k"], q: Float[Tensor, "*b k"],
    beta: float | int = 1.0,
) -> Float[Tensor, "*b"]:
    r"""eq:dvae-bound: $\mathcal L_\beta=\sum_k q_k\log p(x\mid k)-\beta\,\mathrm{KL}(q\,\|\,p)$ for one code
    and a uniform prior.

    A lower bound of $\log p(x)$ for every $\beta\ge 1$, not for $\beta=1$ alone: the KL is never negative.
    """
    kl = torch.special.xlogy(q, q).sum(dim=-1) + math.log(q.shape[-1])
    return (q * log_likelihood).sum(dim=-1) - beta * kl


# ---------------------------------------------------------------------------------- equations: the likelihood

def map_pixels(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:dvae-map-pixels: $x'=(1-2\epsilon)x+\epsilon$: from [0, 1] into [0.1, 0.9]."""
    return (1 - 2 * EDGE) * x + EDGE


def unmap_pixels(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:dvae-unmap-pixels: $x=\mathrm{clip}((x'-\epsilon)/(1-2\epsilon),0,1)$, the way back."""
    return ((x - EDGE) / (1 - 2 * EDGE)).clamp(0, 1)


def logit_laplace_nll(
    x: Float[Tensor, "*n"], mu: Float[Tensor, "*n"], log_b: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    r"""eq:dvae-logit-laplace: $-\log f(x\mid\mu,b)=\log 2b+\log x(1-x)+|\mathrm{logit}\,x-\mu|/b$ of x in
    (0, 1).

    The density of a sigmoid of a Laplace variable; being a density it may exceed 1, and this be negative.
    """
    distance = (x.logit() - mu).abs() * (-log_b).exp()
    return math.log(2) + log_b + x.log() + (-x).log1p() + distance


def dvae_loss(
    nll: Float[Tensor, "b c y x"], kl: Float[Tensor, "b h w"],
    beta: float | int,
) -> Float[Tensor, ""]:
    r"""eq:dvae-loss: $\frac1D\big(\sum_{i=1}^{D}\mathrm{nll}_i+\beta\sum_{p=1}^{P}\mathrm{KL}_p\big)$, the
    mean over pictures.

    D counts pixels times channels, P places: 196,608 and 1,024 at 256 pixels, so that beta weighs the mean
    KL with 1/192; at other sizes the ratio is another one.
    """
    pixels, places = nll[0].numel(), kl[0].numel()
    return nll.mean() + beta * places / pixels * kl.mean()


# -------------------------------------------------------------------------------------------------- schedules

def cosine(
    step: int, first: float | int, last: float | int, steps: int
) -> float:
    r"""eq:dvae-cosine: $v_1+\tfrac12(v_0-v_1)(1+\cos\pi\min(s/S,1))$, from the first value to the last in S
    steps."""
    share = min(step / steps, 1.0)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class DVAESchedule:
    """First value, last value and updates of the three annealings (app. A.2), all along a cosine."""

    beta: tuple[float, float] = (0.0, 6.6)          # weight of the KL
    tau: tuple[float, float] = (1.0, 1 / 16)        # temperature of the relaxation
    lr: tuple[float, float] = (1e-4, 1.25e-6)
    beta_steps: int = 5_000
    tau_steps: int = 150_000
    lr_steps: int = 1_200_000
    steps: int = 3_000_000                          # of the whole training

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def paper(cls) -> "DVAESchedule":
        return cls()

    @classmethod
    def mini(cls, steps: int = 2_000, beta: float | int = 6.6, lr: float | int = 2e-3) -> "DVAESchedule":
        """For a short training: beta is there after a twentieth of it, tau after three quarters."""
        return cls((0.0, beta), lr=(lr, lr / 20), beta_steps=max(1, steps // 20),
                   tau_steps=max(1, 3 * steps // 4), lr_steps=steps, steps=steps)

    def beta_at(self, step: int) -> float:
        return cosine(step, *self.beta, self.beta_steps)

    def tau_at(self, step: int) -> float:
        return cosine(step, *self.tau, self.tau_steps)

    def lr_at(self, step: int) -> float:
        return cosine(step, *self.lr, self.lr_steps)


# ------------------------------------------------------------------------------------------------------ model

@dataclass(frozen=True)
class DVAEConfig:
    vocab: int = 8192               # K, codes
    width: int = 256                # channels of the first group of the encoder; doubled in each further one
    code_width: int = 128           # channels of a code's vector, the decoder's first map
    groups: int = 4                 # of blocks; the side is halved after each but the last
    blocks: int = 2                 # of a group
    channels: int = 3               # of a picture
    size: int = 256                 # pixels a side that it is trained at; other multiples work, too

    def __post_init__(self) -> None:
        check(self, groups=(1, 8), blocks=(1, 100))
        if self.width % 4:
            raise ValueError(f"width is {self.width}, but a block's inner channels are a quarter of it; "
                             "choose a multiple of 4")
        if self.size % self.factor:
            raise ValueError(f"size is {self.size}, but the side is halved {self.groups - 1} times; choose a "
                             f"multiple of {self.factor}")

    @classmethod
    def paper(cls) -> "DVAEConfig":
        """The released model: 53,786,240 parameters of the encoder and 43,829,766 of the decoder."""
        return cls()

    @classmethod
    def mini(cls, size: int = 32, vocab: int = 128, width: int = 32) -> "DVAEConfig":
        """For the scene world: 32 pixels to 8 x 8 codes."""
        return cls(vocab, width, width, groups=3, blocks=1, size=size)

    @property
    def factor(self) -> int:
        """Pixels a side that one code stands for: 8 in the paper."""
        return 2 ** (self.groups - 1)

    @property
    def side(self) -> int:
        """Codes a side of a picture of ``size`` pixels."""
        return self.size // self.factor

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the groups, from the picture to the codes."""
        return tuple(self.width << i for i in range(self.groups))


def conv(into: int, out: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the side; weights from N(0, 1/(into kernel²)), no bias at the start."""
    layer = nn.Conv2d(into, out, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(into * kernel**2))
    for bias in (p for p in layer.parameters() if p.ndim == 1):
        nn.init.zeros_(bias)
    return layer


class DVAEBlock(nn.Module):
    r"""eq:dvae-block: $S(x)+\frac1{n^2}f(x)$: four convolutions with a ReLU before each, n blocks in all.

    Maps (b, into, y, x) -> (b, out, y, x). The small constant makes a deep net without normalisation start
    as a plain sum. ``S`` is the identity, or a 1 x 1 convolution where the channels change.
    """

    def __init__(
        self, into: int, out: int, kernels: Sequence[int], count: int
    ) -> None:
        super().__init__()
        inner = out // 4
        widths = (into, inner, inner, inner, out)
        self.gain = 1 / count**2
        self.shortcut = conv(into, out, 1) if into != out else nn.Identity()
        self.convs = nn.ModuleList(
            conv(before, after, kernel)
            for before, after, kernel in zip(widths, widths[1:], kernels))

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d y x"]:
        z = x
        for layer in self.convs:
            z = layer(z.relu())
        return self.shortcut(x) + self.gain * z


def group(into: int, out: int, kernels: Sequence[int], config: DVAEConfig) -> nn.Sequential:
    """The blocks of a group, of which the first changes the channels."""
    count = config.groups * config.blocks
    return nn.Sequential(*(DVAEBlock(out if i else into, out, kernels, count) for i in range(config.blocks)))


class DVAEEncoder(nn.Module):
    """Pictures (b, 3, s, s), mapped into [0.1, 0.9] -> logits (b, k, s/8, s/8) of the codes.

    A convolution 7 x 7, four groups of blocks with max-pooling between them, a ReLU and a convolution 1 x 1.
    """

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.input = conv(config.channels, config.width, 7)
        self.groups = nn.ModuleList(group(into, out, (3, 3, 3, 1), config)
                                    for into, out in zip((config.width, *widths), widths))
        self.output = conv(widths[-1], config.vocab, 1)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k h w"]:
        if x.shape[1] != self.config.channels or x.shape[2] % self.config.factor or (
                x.shape[3] % self.config.factor):
            raise ValueError(f"pictures have the shape {tuple(x.shape)}, expected {self.config.channels} "
                             f"channels and sides that {self.config.factor} divides; cut or resize them")
        z = self.input(x)
        for i, blocks in enumerate(self.groups):
            z = blocks(F.max_pool2d(z, 2) if i else z)
        return self.output(z.relu())


class DVAEDecoder(nn.Module):
    """Codes (b, k, h, w), one-hot or relaxed -> ``mu`` and ``log_b`` (b, 3, 8h, 8w) of the logit-Laplace.

    The first convolution is 1 x 1: its weights are the codebook. ``of_tokens`` looks the codes up in it,
    (b, h, w) numbers of codes, without making them one-hot.
    """

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config, widths = config, config.widths[::-1]
        self.input = conv(config.vocab, config.code_width, 1)
        self.groups = nn.ModuleList(group(into, out, (1, 3, 3, 3), config)
                                    for into, out in zip((config.code_width, *widths), widths))
        self.output = conv(config.width, 2 * config.channels, 1)

    def forward(
        self, y: Float[Tensor, "b k h w"]
    ) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b c y x"]]:
        return self.grow(self.input(y))

    def of_tokens(
        self, tokens: Int[Tensor, "b h w"]
    ) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b c y x"]]:
        check_tokens(tokens.flatten(1), self.config.vocab)
        vectors = F.embedding(tokens, self.input.weight[:, :, 0, 0].mT)          # b h w n
        return self.grow((vectors + self.input.get_parameter("bias")).movedim(-1, 1))

    def grow(
        self, z: Float[Tensor, "b n h w"]
    ) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b c y x"]]:
        """From the codes' vectors to the two maps."""
        for i, blocks in enumerate(self.groups):
            z = blocks(F.interpolate(z, scale_factor=2.0, mode="nearest") if i else z)
        mu, log_b = self.output(z.relu()).chunk(2, dim=1)
        return mu, log_b


class Relaxed(NamedTuple):
    """What a pass of training gives: logits and soft codes (b, k, h, w), ``mu`` and ``log_b`` of the pixels
    (b, 3, y, x)."""

    logits: Tensor
    codes: Tensor
    mu: Tensor
    log_b: Tensor


class DVAE(nn.Module):
    """The discrete VAE: pictures (b, 3, s, s) in [0, 1] <-> tokens (b, h, w) of ``config.vocab`` kinds.

    ``forward`` is the relaxed pass of training (eq:dvae-gumbel-softmax), whose noise comes from
    ``generator``; ``tokens`` takes the likeliest codes, without noise; ``pictures`` decodes tokens.
    """

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = DVAEEncoder(config), DVAEDecoder(config)

    def forward(
        self, images: Float[Tensor, "b c y x"], tau: float | int,
        generator: torch.Generator | None = None,
    ) -> Relaxed:
        logits = self.encoder(map_pixels(images))
        u = torch.rand(logits.shape, generator=generator,
                       device=logits.device, dtype=logits.dtype)
        g = gumbel(u.clamp_min(torch.finfo(u.dtype).tiny))
        codes = gumbel_softmax(logits, g, tau)
        return Relaxed(logits, codes, *self.decoder(codes))

    def loss(
        self, images: Float[Tensor, "b c y x"],
        tau: float | int, beta: float | int,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """eq:dvae-loss of pictures in [0, 1], in nats a number of the picture, and its two parts: the mean
        "nll" of a number and the mean "kl" of a place."""
        out = self(images, tau, generator)
        nll = logit_laplace_nll(map_pixels(images), out.mu, out.log_b)
        kl = kl_to_uniform(out.logits)
        parts = {"nll": nll.detach().mean(), "kl": kl.detach().mean()}
        return dvae_loss(nll, kl, beta), parts

    def tokens(self, images: Float[Tensor, "b c y x"]) -> Int[Tensor, "b h w"]:
        """The likeliest code of each place: no noise, no temperature."""
        return self.encoder(map_pixels(images)).argmax(dim=1)

    def pictures(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b c y x"]:
        """Pictures in [0, 1] from the medians of the pixels' densities; their scales are left aside."""
        mu, _ = self.decoder.of_tokens(tokens)
        return unmap_pixels(mu.sigmoid())

    def encode(self, images: Float[Tensor, "b c y x"]) -> Int[Tensor, "b h w"]:
        """``tokens`` of pictures in [-1, 1], as all first stages of this book take them."""
        return self.tokens((images + 1) / 2)

    def decode(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b c y x"]:
        """``pictures`` in [-1, 1]."""
        return 2 * self.pictures(tokens) - 1

    def reconstruct(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """Pictures through tokens and back, in [0, 1]."""
        return self.pictures(self.tokens(images))
