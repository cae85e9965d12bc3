r"""VQ-VAE and VQ-VAE-2: an autoencoder whose code is a map of whole numbers, and one with two such maps.

Papers: A. van den Oord, O. Vinyals and K. Kavukcuoglu (2017), *Neural Discrete Representation Learning*,
NeurIPS, arXiv:1711.00937, sec. 3.2 (maps of codes), 4.1 (networks), 4.2 (ImageNet); A. Razavi, A. van den
Oord and O. Vinyals (2019), *Generating Diverse High-Fidelity Images with VQ-VAE-2*, NeurIPS,
arXiv:1906.00446, sec. 3.1 (two levels), 3.3 (rejection).  Survey: 2.2.
Differs from the papers: the first says nothing of how its 256 channels become a code of d numbers and back;
``code="paper"`` takes convolutions 1 x 1. ``code="released"`` is the network of DeepMind's example (Sonnet):
half the channels in the outer convolutions, another 3 x 3 before the residual blocks, 128 and 32 channels.
CIFAR-10 has ten codes at each place, each of a codebook of its own, and 256 logits for each number of a
pixel, as the authors told readers who asked (nadavbh12/VQ-VAE, issue 8; deepmind/sonnet, issue 131); K = 512
is assumed there. Sizes of VQ-VAE-2 are those that later accounts report; we could not check them in the
paper. The autoregressive priors are ``mmlearn.text2image.pixelcnn``.

Pictures (b, 3, y, x) are in [-1, 1]; letters of shapes: g codes at one place, d numbers of a code.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text2image.vector_quantisation import (
    BETA,
    Codebook,
    EMACodebook,
    Quantised,
    code_bits,
)
from mmlearn.text_for_vision.blockwise import single

CODES = ("paper", "released")


@dataclass(frozen=True)
class VQVAEConfig:
    size: int = 128             # pixels a side: a multiple of 4
    width: int = 256            # channels of a map
    inner: int = 256            # channels within a residual block
    blocks: int = 2             # residual blocks, in the encoder as in the decoder
    codes: int = 512            # K, codes of a codebook
    code_width: int = 64        # d, numbers of a code
    books: int = 1              # g, codes at one place, each of its own codebook
    levels: int = 0             # logits for each number of a pixel, or 0: the pixel itself
    ema: bool = False           # codes as moving averages; else by gradient
    decay: float = 0.99         # gamma of the moving averages
    beta: float = BETA          # weight of the commitment
    code: str = "paper"         # whose network: that of the "paper" or the "released" one

    def __post_init__(self) -> None:
        check(self, beta=(0, 100), levels=(0, 256), decay=(0, 1))
        if self.size % 4:
            raise ValueError(f"size is {self.size} pixels; use a multiple of 4, such as 32 or 128")
        if self.levels == 1:
            raise ValueError("levels is 1; use 0 for real pixels, or 2 and more values, such as 256")
        if self.code not in CODES:
            raise ValueError(f"code is {self.code!r}; use one of {', '.join(CODES)}")

    @classmethod
    def imagenet(cls) -> "VQVAEConfig":
        """ImageNet at 128 pixels: 32 x 32 codes of 512, 42.7 times fewer bits than the picture."""
        return cls()

    @classmethod
    def cifar10(cls) -> "VQVAEConfig":
        """CIFAR-10: 8 x 8 x 10 codes and a likelihood of 256 values (4.67 bits per dimension)."""
        return cls(32, books=10, levels=256)

    @classmethod
    def released(cls) -> "VQVAEConfig":
        """DeepMind's example for CIFAR-10: 8 x 8 codes of 64 numbers."""
        return cls(32, 128, 32, code="released")

    @classmethod
    def mini(cls) -> "VQVAEConfig":
        """A miniature for scenes of 32 pixels: 8 x 8 codes of 64."""
        return cls(32, 64, 32, 2, 64, 16, ema=True, code="released")

    @property
    def grid(self) -> int:
        """Places of a map of codes on a side."""
        return self.size // 4

    @property
    def bits(self) -> float:
        """Bits of the codes of a picture."""
        return code_bits(self.grid**2 * self.books, self.codes)

    @property
    def compression(self) -> float:
        """How many times fewer bits than a picture with 8 bits a number."""
        return self.size**2 * 3 * 8 / self.bits


class Coded(NamedTuple):
    """A picture, coded and decoded: ``output`` (b, 3, y, x), or logits (b, 3, levels, y, x); ``codes``
    (b, g, y/4, x/4), or (b, y/4, x/4) where a place has one; the codebooks' two errors, summed over the maps
    of codes (``codebook``, ``commitment``)."""

    output: Tensor
    codes: Tensor
    codebook: Tensor
    commitment: Tensor


class CodedTwice(NamedTuple):
    """``Coded`` with two maps: ``top`` (b, y/8, x/8) and ``bottom`` (b, y/4, x/4)."""

    output: Tensor
    top: Tensor
    bottom: Tensor
    codebook: Tensor
    commitment: Tensor


# -------------------------------------------------------------------------------------------------- equations

def vqvae_loss(
    error: Float[Tensor, ""], codebook: Float[Tensor, ""],
    commitment: Float[Tensor, ""], beta: float | int = BETA
) -> Float[Tensor, ""]:
    r"""eq:vqvae-loss: $L=-\log p_\theta(x\mid z_q)+\lVert\mathrm{sg}[z]-e\rVert^2+\beta\,\lVert z-\mathrm{sg}
    [e]\rVert^2$: the first term trains encoder and decoder, the second the codes, the third the encoder."""
    return error + codebook + beta * commitment


def scaled_error(
    x_hat: Float[Tensor, "b c y x"], x: Float[Tensor, "b c y x"],
    variance: float | int = 1.0
) -> Float[Tensor, ""]:
    r"""eq:vqvae-error: $\frac1{D\,v}\lVert x-\hat x\rVert^2$ with $v$ the variance of the data's pixels: 1
    for a model that has learnt nothing but the mean; a Gaussian likelihood of variance $v/2$, but for a
    constant."""
    return F.mse_loss(single(x_hat), single(x)) / variance


def pixel_values(
    x: Float[Tensor, "*b"], levels: int = 256
) -> Int[Tensor, "*b"]:
    r"""eq:vqvae-values: $\lfloor L\,(x+1)/2\rfloor$: pixels in [-1, 1] as whole numbers from 0 to L - 1."""
    return ((x + 1) / 2 * levels).floor().clamp(0, levels - 1).long()


def categorical_error(
    logits: Float[Tensor, "b c v y x"], x: Float[Tensor, "b c y x"]
) -> Float[Tensor, ""]:
    r"""eq:vqvae-softmax: $-\frac1D\sum_i\log\mathrm{softmax}(a_i)_{x_i}$: nats for each number of a picture
    under a likelihood of L values."""
    values = pixel_values(x, logits.shape[2])
    return F.cross_entropy(single(logits).transpose(1, 2), values)


def bits_per_number(
    error: float | int, code_bits: float | int, numbers: int
) -> float:
    r"""eq:vqvae-bits: $\frac{-\log p_\theta(x\mid z_q)/\log2+P\log_2K}D$, with $-\log p_\theta/D$ = ``error``
    nats: the codes are counted, too, under a uniform prior."""
    return error / math.log(2) + code_bits / numbers


# ----------------------------------------------------------------------------------------------------- blocks

class ResidualBlock(nn.Module):
    """x plus ReLU, convolution 3 x 3 to ``inner`` channels, ReLU, convolution 1 x 1 back; no norm."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1)
        self.conv2 = nn.Conv2d(inner, width, 1)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def residual_stack(width: int, inner: int, blocks: int) -> list[nn.Module]:
    """Residual blocks, and the ReLU that the last of them lacks."""
    return [*(ResidualBlock(width, inner) for _ in range(blocks)), nn.ReLU()]


def down(into: int, out: int) -> nn.Conv2d:
    """A convolution 4 x 4 of stride 2: half the side."""
    return nn.Conv2d(into, out, 4, stride=2, padding=1)


def up(into: int, out: int) -> nn.ConvTranspose2d:
    """A transposed convolution 4 x 4 of stride 2: twice the side."""
    return nn.ConvTranspose2d(into, out, 4, stride=2, padding=1)


def encoder(
    into: int, width: int, inner: int, blocks: int, code: str
) -> nn.Sequential:
    """(b, into, 4y, 4x) -> (b, width, y, x)."""
    outer = width if code == "paper" else width // 2
    mix = [] if code == "paper" else [
        nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(
        down(into, outer), nn.ReLU(), down(outer, width), *mix,
        *residual_stack(width, inner, blocks))


def decoder(
    into: int, width: int, inner: int, blocks: int, out: int, code: str
) -> nn.Sequential:
    """(b, into, y, x) -> (b, out, 4y, 4x)."""
    outer, kernel = (width, 1) if code == "paper" else (width // 2, 3)
    return nn.Sequential(
        nn.Conv2d(into, width, kernel, padding=kernel // 2),
        *residual_stack(width, inner, blocks),
        up(width, outer), nn.ReLU(), up(outer, out))


def make_codebook(codes: int, width: int, ema: bool, decay: float) -> Codebook:
    """A codebook that learns by moving averages or by gradient."""
    return EMACodebook(codes, width, decay) if ema else Codebook(codes, width)


class VQVAE(nn.Module):
    """Encoder, codebook and decoder (eq:vq-nearest, eq:vq-straight-through; loss: eq:vqvae-loss).

    ``forward``: pictures (b, 3, s, s) in [-1, 1] -> ``Coded``. ``encode`` gives codes, ``decode`` pictures
    from codes. Raises ``ValueError`` for pictures of another size.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = c = config
        self.encoder = encoder(3, c.width, c.inner, c.blocks, c.code)
        self.to_codes = nn.Conv2d(c.width, c.books * c.code_width, 1)
        self.codebooks = nn.ModuleList(
            make_codebook(c.codes, c.code_width, c.ema, c.decay)
            for _ in range(c.books))
        self.decoder = decoder(
            c.books * c.code_width, c.width, c.inner, c.blocks,
            3 * max(c.levels, 1), c.code)

    def latents(self, images: Float[Tensor, "b 3 y x"]) -> tuple[Tensor, ...]:
        """What each codebook is asked for: (b, d, y/4, x/4)."""
        check_size(images, self.config.size)
        z = self.to_codes(self.encoder(images))
        return z.chunk(self.config.books, dim=1)

    def encode(self, images: Float[Tensor, "b 3 y x"]) -> Int[Tensor, "b *s"]:
        """The codes of pictures, without a gradient."""
        found = [book.quantise(z)                                       # type: ignore[operator]
                 for book, z in zip(self.codebooks, self.latents(images))]
        return stacked(found)

    def output(self, z_q: Float[Tensor, "b e y x"]) -> Tensor:
        """Quantised maps -> pixels, or logits of them."""
        output = self.decoder(z_q)
        return output.unflatten(1, (3, -1)) if self.config.levels else output

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Coded:
        found: list[Quantised] = [
            book(z) for book, z in zip(self.codebooks, self.latents(images))]
        output = self.output(torch.cat([q.z_q for q in found], dim=1))
        return Coded(output, stacked([q.codes for q in found]),
                     sum_of(q.codebook for q in found),
                     sum_of(q.commitment for q in found))

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b *s"]) -> Float[Tensor, "b 3 y x"]:
        """Pictures in [-1, 1] from codes (b, y, x), or (b, g, y, x) with g codes at a place."""
        wanted = 3 if self.config.books == 1 else 4
        if codes.ndim != wanted or (wanted == 4 and codes.shape[1] != self.config.books):
            raise ValueError(f"codes have shape {tuple(codes.shape)}; give (b, y, x) to a model with one "
                             f"code at a place, (b, {self.config.books}, y, x) to one with more")
        maps = codes.unsqueeze(1) if wanted == 3 else codes
        z_q = [book.look_up(c)                                          # type: ignore[operator]
               for book, c in zip(self.codebooks, maps.unbind(1))]
        return self.pictures(self.output(torch.cat(z_q, dim=1)))

    def pictures(self, output: Tensor) -> Float[Tensor, "b 3 y x"]:
        """What the output shows: pixels, or the middle of the most probable value."""
        if not self.config.levels:
            return output.clamp(-1, 1)
        return (output.argmax(dim=2) + 0.5) / self.config.levels * 2 - 1

    def loss(
        self, images: Float[Tensor, "b 3 y x"], variance: float | int = 1.0
    ) -> Float[Tensor, ""]:
        """eq:vqvae-loss of a batch; ``variance`` is that of the data's pixels (eq:vqvae-error)."""
        coded = self(images)
        error = (categorical_error(coded.output, images) if self.config.levels
                 else scaled_error(coded.output, images, variance))
        return vqvae_loss(error, coded.codebook, coded.commitment,
                          self.config.beta)


def stacked(codes: list[Tensor]) -> Tensor:
    """(b, g, y, x), or (b, y, x) where there is one."""
    return codes[0] if len(codes) == 1 else torch.stack(codes, dim=1)


def sum_of(parts: Iterable[Tensor]) -> Tensor:
    """A sum of losses."""
    return torch.stack(list(parts)).sum()


def check_size(images: Tensor, size: int) -> None:
    """Refuse pictures of another size."""
    if images.shape[-2:] != (size, size):
        raise ValueError(f"pictures have {images.shape[-2]} x {images.shape[-1]} pixels, the model wants "
                         f"{size} x {size}; resize them")


# --------------------------------------------------------------------------------------------------- VQ-VAE-2

@dataclass(frozen=True)
class VQVAE2Config:
    size: int = 256             # pixels a side: a multiple of 8
    width: int = 128            # channels of a map
    inner: int = 64             # channels within a residual block
    blocks: int = 2             # residual blocks of every encoder and decoder
    codes: int = 512            # K, of each of the two codebooks
    code_width: int = 64        # d, numbers of a code
    decay: float = 0.99         # gamma of the moving averages
    beta: float = BETA          # weight of the commitment

    def __post_init__(self) -> None:
        check(self, beta=(0, 100), decay=(0, 1))
        if self.size % 8:
            raise ValueError(f"size is {self.size} pixels; use a multiple of 8, such as 32 or 256")

    @classmethod
    def imagenet(cls) -> "VQVAE2Config":
        """ImageNet at 256 pixels: 32 x 32 and 64 x 64 codes of 512 (sizes as later accounts have them)."""
        return cls()

    @classmethod
    def mini(cls) -> "VQVAE2Config":
        """A miniature for scenes of 32 pixels: 4 x 4 and 8 x 8 codes of 64."""
        return cls(32, 48, 24, 1, 64, 16)

    @property
    def bits(self) -> float:
        """Bits of the codes of a picture."""
        return code_bits((self.size // 8) ** 2 + (self.size // 4) ** 2, self.codes)


class VQVAE2(nn.Module):
    """Two maps of codes: the top from the deeper encoder, the bottom from the shallow one and the decoded
    top; the decoder sees both (codes: moving averages; loss: eq:vqvae-loss).

    ``forward``: pictures (b, 3, s, s) in [-1, 1] -> ``CodedTwice``. ``encode`` gives (top, bottom),
    ``decode`` pictures from both.
    """

    def __init__(self, config: VQVAE2Config) -> None:
        super().__init__()
        self.config = c = config
        half, stack = c.width // 2, (c.width, c.inner, c.blocks)
        self.encoder = encoder(3, *stack, "released")
        self.top_encoder = nn.Sequential(
            down(c.width, half), nn.ReLU(),
            nn.Conv2d(half, c.width, 3, padding=1), *residual_stack(*stack))
        self.to_top = nn.Conv2d(c.width, c.code_width, 1)
        self.top_codes = EMACodebook(c.codes, c.code_width, c.decay)
        self.top_decoder = nn.Sequential(
            nn.Conv2d(c.code_width, c.width, 3, padding=1),
            *residual_stack(*stack), up(c.width, c.code_width))
        self.to_bottom = nn.Conv2d(c.code_width + c.width, c.code_width, 1)
        self.bottom_codes = EMACodebook(c.codes, c.code_width, c.decay)
        self.up_top = up(c.code_width, c.code_width)
        self.decoder = decoder(2 * c.code_width, *stack, 3, "released")

    def latents(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> tuple[Float[Tensor, "b c y4 x4"], Float[Tensor, "b d y8 x8"]]:
        """The shallow encoder's map, and what the top codebook is asked for."""
        check_size(images, self.config.size)
        shallow = self.encoder(images)
        return shallow, self.to_top(self.top_encoder(shallow))

    def bottom_latent(self, shallow: Tensor, top: Tensor) -> Tensor:
        """What the bottom codebook is asked for: the map with what the top already says."""
        decoded = self.top_decoder(top)
        return self.to_bottom(torch.cat([decoded, shallow], dim=1))

    def encode(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> tuple[Int[Tensor, "b y8 x8"], Int[Tensor, "b y4 x4"]]:
        """Codes of the top and of the bottom, without a gradient."""
        shallow, z = self.latents(images)
        top = self.top_codes.quantise(z)
        bottom = self.bottom_latent(shallow, self.top_codes.look_up(top))
        return top, self.bottom_codes.quantise(bottom)

    def output(
        self, top: Float[Tensor, "b d y8 x8"], bottom: Float[Tensor, "b d y4 x4"]
    ) -> Float[Tensor, "b 3 y x"]:
        """Both quantised maps -> pixels."""
        return self.decoder(torch.cat([self.up_top(top), bottom], dim=1))

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> CodedTwice:
        shallow, z = self.latents(images)
        top = self.top_codes(z)
        bottom = self.bottom_codes(self.bottom_latent(shallow, top.z_q))
        return CodedTwice(
            self.output(top.z_q, bottom.z_q), top.codes, bottom.codes,
            top.codebook + bottom.codebook,
            top.commitment + bottom.commitment)

    @torch.no_grad()
    def decode(
        self, top: Int[Tensor, "b y8 x8"], bottom: Int[Tensor, "b y4 x4"]
    ) -> Float[Tensor, "b 3 y x"]:
        """Pictures in [-1, 1] from both maps of codes."""
        if bottom.shape[-2:] != (2 * top.shape[-2], 2 * top.shape[-1]):
            raise ValueError(f"the top has {top.shape[-2]} x {top.shape[-1]} codes, the bottom "
                             f"{bottom.shape[-2]} x {bottom.shape[-1]}; the bottom has twice the side")
        return self.output(self.top_codes.look_up(top), self.bottom_codes.look_up(bottom)).clamp(-1, 1)

    def loss(
        self, images: Float[Tensor, "b 3 y x"], variance: float | int = 1.0
    ) -> Float[Tensor, ""]:
        """eq:vqvae-loss of a batch; ``variance`` is that of the data's pixels (eq:vqvae-error)."""
        coded = self(images)
        error = scaled_error(coded.output, images, variance)
        return vqvae_loss(error, coded.codebook, coded.commitment,
                          self.config.beta)


def most_recognised(
    probabilities: Float[Tensor, "n c"], classes: Int[Tensor, " n"],
    rate: float | int
) -> Int[Tensor, " k"]:
    r"""eq:vqvae-reject: the $\lceil\rho n\rceil$ of n drawn pictures for which a classifier gives the class
    that was asked for the highest $p(y\mid\hat x)$, best first.

    Rejection by a classifier buys fidelity with diversity: a low ``rate`` of acceptance keeps the typical.
    Raises ``ValueError`` for a rate outside (0, 1] or for logits in the place of probabilities.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate is {rate}; accept a share above 0 and at most 1")
    sums = probabilities.sum(dim=1)
    if (probabilities < 0).any() or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError("rows of probabilities do not sum to 1; apply a softmax to the logits")
    scores = probabilities.gather(1, classes[:, None])[:, 0]
    return scores.topk(math.ceil(rate * len(scores))).indices
