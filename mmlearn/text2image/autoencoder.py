r"""The convolutional autoencoder of VQGAN and latent diffusion: pictures to a small grid of latents and back.

Papers: P. Esser, R. Rombach and B. Ommer (2021), *Taming Transformers for High-Resolution Image Synthesis*,
arXiv:2012.09841, sec. 3.1 and tab. 7; R. Rombach et al. (2022), *High-Resolution Image Synthesis with Latent
Diffusion Models*, arXiv:2112.10752, app. E.1. Both halves are those of the U-Net of J. Ho et al. (2020),
arXiv:2006.11239, without time and without the bridges between them.  Survey: 2.2, 2.3.1.
Differs from the papers: nothing; where attention stands is told by how far the grid has been reduced, so that
a configuration does not name a size of pictures. The three projections of an attention are one matrix.

``Encoder`` and ``Decoder`` know neither codes nor distributions: ``vqgan`` and ``kl_autoencoder`` put those
between them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.attention import fused_attention
from mmlearn.nn.configuration import check, check_divides

EPS = 1e-6                          # of every group normalisation


@dataclass(frozen=True)
class AutoencoderConfig:
    width: int = 128                                # channels of a map at full resolution
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)  # of the width, a level each; all but the last halve
    blocks: int = 2                                 # residual blocks of a level (the decoder has one more)
    attention: tuple[int, ...] = (16,)              # levels with attention, by their reduction f
    latent: int = 256                               # channels of the grid between the halves
    double: bool = False                            # the encoder gives twice as many: mean and variance
    channels: int = 3                               # of a picture
    groups: int = 32                                # of a group normalisation
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check(self, blocks=(1, 1000))
        check_divides(self, "groups", "width")
        if not self.multipliers:
            raise ValueError("multipliers are empty; name at least one level, such as (1, 2)")
        stray = [f for f in self.attention if f not in self.reductions]
        if stray:
            raise ValueError(f"attention is at a reduction of {stray[0]}, the levels have "
                             f"{', '.join(map(str, self.reductions))}; choose some of these")

    @property
    def reductions(self) -> tuple[int, ...]:
        """How many times smaller the grid of a level is than the picture, level by level."""
        return tuple(2**i for i in range(len(self.multipliers)))

    @property
    def factor(self) -> int:
        """f, how many times smaller the latent grid is."""
        return self.reductions[-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the levels."""
        return tuple(self.width * m for m in self.multipliers)


# ----------------------------------------------------------------------------------------------------- blocks


def residual(
    x: Float[Tensor, "b c y x"], h: Float[Tensor, "b e y x"],
    shortcut: nn.Module,
) -> Float[Tensor, "b e y x"]:
    r"""eq:autoencoder-residual: $s(x)+h(x)$: what the branch $h$ has found
    is added to the map, brought to its width by $s$ (the map itself where
    the widths agree)."""
    return shortcut(x) + h


class ResidualBlock(nn.Module):
    """Normalise, SiLU, convolve, twice (eq:autoencoder-residual): maps
    (b, c, y, x) -> (b, e, y, x)."""

    def __init__(self, into: int, out: int, groups: int,
                 dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, into, EPS)
        self.conv1 = nn.Conv2d(into, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, EPS)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = (nn.Identity() if into == out
                         else nn.Conv2d(into, out, 1))

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b e y x"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return residual(x, h, self.shortcut)


class GridAttention(nn.Module):
    """eq:attention with one head: every place of a map reads all places,
    (b, c, y, x) -> (b, c, y, x), and what it reads is added to it."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        places = self.norm(x).flatten(2).mT               # b c y x -> b p c
        Q, K, V = self.qkv(places)[:, None].chunk(3, dim=-1)  # b 1 p c
        read = self.out(fused_attention(Q, K, V)[:, 0])
        return x + read.mT.reshape(x.shape)


class Halve(nn.Module):
    """A convolution 3 x 3 at every second place, the map being padded with a row and a column of zeros at its
    far ends alone: (b, c, y, x) -> (b, c, y / 2, x / 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 2)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c h w"]:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Double(nn.Module):
    """Every place four times, then a convolution 3 x 3: (b, c, y, x) -> (b, c, 2 y, 2 x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c h w"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    """What both halves have at the small end: residual block, attention, residual block."""

    def __init__(self, width: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.first = ResidualBlock(width, width, groups, dropout)
        self.attention = GridAttention(width, groups)
        self.second = ResidualBlock(width, width, groups, dropout)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        return self.second(self.attention(self.first(x)))


class Level(nn.Module):
    """``count`` residual blocks, each with an attention behind it if the level has ``attention``, then
    ``resample``, which changes the resolution."""

    def __init__(self, into: int, out: int, count: int,
                 config: AutoencoderConfig, attention: bool,
                 resample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(into if i == 0 else out, out, config.groups,
                          config.dropout) for i in range(count))
        self.attentions = nn.ModuleList(
            GridAttention(out, config.groups)
            for _ in range(count * attention))
        self.resample = resample

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b e h w"]:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions:
                x = self.attentions[i](x)
        return self.resample(x)


# ----------------------------------------------------------------------------------------------------- halves


class Encoder(nn.Module):
    """Pictures (b, 3, y, x) in [-1, 1] -> a grid (b, z, y / f, x / f), with ``double`` of 2 z channels.

    Raises ``ValueError`` for sides that f does not divide.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c = self.config = config
        last = c.widths[-1]
        self.enter = nn.Conv2d(c.channels, c.width, 3, padding=1)
        self.levels = nn.Sequential(*(
            Level(before, after, c.blocks, c, f in c.attention,
                  nn.Identity() if f == c.factor else Halve(after))
            for before, after, f in zip((c.width, *c.widths), c.widths,
                                        c.reductions)))
        self.middle = Middle(last, c.groups, c.dropout)
        self.norm = nn.GroupNorm(c.groups, last, EPS)
        out = 2 * c.latent if c.double else c.latent
        self.leave = nn.Conv2d(last, out, 3, padding=1)

    def forward(
        self, images: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b z h w"]:
        y, x = images.shape[-2:]
        if y % self.config.factor or x % self.config.factor:
            raise ValueError(
                f"pictures of {y} x {x} pixels cannot be reduced "
                f"{self.config.factor} times; give sides that this number "
                f"divides")
        grid = self.middle(self.levels(self.enter(images)))
        return self.leave(F.silu(self.norm(grid)))


class Decoder(nn.Module):
    """A grid (b, z, h, w) -> pictures (b, 3, f h, f w), about in [-1, 1] and not cut off there.

    ``leave`` is the last layer, whose weight VQGAN's adaptive weight looks at.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c = self.config = config
        widths = c.widths[::-1]                     # from the small end
        self.enter = nn.Conv2d(c.latent, widths[0], 3, padding=1)
        self.middle = Middle(widths[0], c.groups, c.dropout)
        self.levels = nn.Sequential(*(
            Level(before, after, c.blocks + 1, c, f in c.attention,
                  nn.Identity() if f == 1 else Double(after))
            for before, after, f in zip((widths[0], *widths), widths,
                                        c.reductions[::-1])))
        self.norm = nn.GroupNorm(c.groups, widths[-1], EPS)
        self.leave = nn.Conv2d(widths[-1], c.channels, 3, padding=1)

    def forward(
        self, latents: Float[Tensor, "b z h w"]
    ) -> Float[Tensor, "b c y x"]:
        x = self.levels(self.middle(self.enter(latents)))
        return self.leave(F.silu(self.norm(x)))


def clipped(images: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Reconstructions as pictures: cut off at -1 and 1."""
    return torch.clamp(images, -1, 1)
