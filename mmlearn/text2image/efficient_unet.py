r"""The Efficient U-Net: most blocks where maps are small, so that large pictures cost little.

Paper: C. Saharia et al. (2022), *Photorealistic Text-to-Image Diffusion Models with Deep Language
Understanding* (Imagen), arXiv:2205.11487, sec. 2.3 and app. B.1 and F.  Survey: 2.3.1. Differs from the
paper: what it leaves open is chosen here: time and text are added before the second convolution as in DDPM,
the maps that a level's blocks make on the way down are all kept and joined on the way up, and attention has
an MLP of twice the width behind it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmlearn.nn.attention import MultiHeadAttention
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.transformer import LayerNorm32
from mmlearn.text2image.unet import GroupNorm, TimeEmbedding, conv3, zeroed


@dataclass(frozen=True)
class EfficientUNetConfig:
    size: int = 256                                     # pixels a side of what is drawn
    widths: tuple[int, ...] = (128, 256, 512, 1024)     # channels of the levels
    blocks: tuple[int, ...] = (2, 4, 8, 8)              # residual blocks of the levels
    self_attention: bool = True                         # on the last level
    heads: int = 8
    text: int = 512                                     # size of the tokens that the last level reads
    low: int = 64                                       # pixels a side of what is enlarged
    groups: int = 32

    def __post_init__(self) -> None:
        check(self, blocks=(1, 100))
        if len(self.widths) != len(self.blocks):
            raise FieldError("EfficientUNetConfig", "blocks", f"has {len(self.blocks)} numbers for "
                             f"{len(self.widths)} levels; give each level one")
        if self.size % 2 ** len(self.widths) or self.widths[-1] % self.heads:
            raise FieldError(
                "EfficientUNetConfig",
                "size",
                f"is {self.size}, to be halved {len(self.widths)} times, "
                f"and {self.heads} heads share {self.widths[-1]} channels; choose multiples",
            )

    @classmethod
    def to_256(cls) -> "EfficientUNetConfig":
        """Imagen's first upsampler, from 64 to 256 pixels: stated as 600M, with the text 601,908,227 here."""
        return cls()

    @classmethod
    def to_1024(cls) -> "EfficientUNetConfig":
        """Imagen's second, from 256 to 1024 pixels, without self-attention: stated as 400M; with as many
        blocks as the first, which is what the paper's words leave, it is 597,709,827 with the text."""
        return cls(1024, self_attention=False, low=256)

    @classmethod
    def mini(cls, size: int = 64, text: int = 64) -> "EfficientUNetConfig":
        """A miniature for the scene world, to twice the side."""
        return cls(size, (16, 32, 48), (1, 1, 2), True, 4, text, size // 2, 8)

    @property
    def embedding(self) -> int:
        """Size of the embedding of the timestep: 4 widths."""
        return 4 * self.widths[0]


# ------------------------------------------------------------------------------------------ equations


def scaled_residual(
    x: Float[Tensor, "b c y x"], h: Float[Tensor, "b c y x"]
) -> Float[Tensor, "b c y x"]:
    r"""eq:imagen-skip: $x\cdot2^{-1/2}+h$: skips are scaled down, which the paper found to
    converge faster."""
    return x / math.sqrt(2) + h


# --------------------------------------------------------------------------------------------- blocks


class EfficientBlock(nn.Module):
    """Normalise, SiLU, convolve, twice, with the embedding added between, and a scaled skip (eq:imagen-skip):
    (b, i, y, x) and (b, e) -> (b, o, y, x)."""

    def __init__(self, into: int, out: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = GroupNorm(into, groups), conv3(into, out)
        self.condition = nn.Linear(embedding, out)
        self.norm2, self.conv2 = GroupNorm(out, groups), zeroed(conv3(out, out))
        self.shortcut = nn.Conv2d(into, out, 1)

    def forward(
        self, x: Float[Tensor, "b i y x"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b o y x"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.condition(F.silu(embedding))[:, :, None, None]
        return scaled_residual(self.shortcut(x), self.conv2(F.silu(self.norm2(h))))


class ReadingBlock(MultiHeadAttention):
    """Places read the caption, and with ``places`` each other in the same softmax, then an MLP: (b, c, y, x)
    and tokens (b, k, e), of which ``mask`` (b, k) says which are real -> (b, c, y, x)."""

    def __init__(self, channels: int, config: EfficientUNetConfig) -> None:
        super().__init__(channels, config.heads)
        self.places = config.self_attention
        self.norm = GroupNorm(channels, config.groups)
        self.text = nn.Linear(config.text, 2 * channels)
        self.mlp_norm = LayerNorm32(channels)
        self.inner, self.outer = nn.Linear(channels, 2 * channels), zeroed(nn.Linear(2 * channels, channels))
        zeroed(self.out)
        if not self.places:                             # queries alone: no place is a key
            self.in_weight = nn.Parameter(self.in_weight.detach()[:channels].clone())
            self.in_bias = nn.Parameter(self.in_bias.detach()[:channels].clone())

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b c y x"], context: Float[Tensor, "b k e"],
        mask: Bool[Tensor, "b k"]
    ) -> Float[Tensor, "b c y x"]:
        rows, old = self.norm(x).flatten(2).mT, x.flatten(2).mT                 # b c y x -> b (y x) c
        K, V = (self.split(part) for part in self.text(context).chunk(2, dim=-1))
        if self.places:
            Q, own_K, own_V = self.project_all(rows)
            K, V = torch.cat([K, own_K], dim=2), torch.cat([V, own_V], dim=2)
            mask = F.pad(mask, (0, rows.shape[1]), value=True)
        else:
            Q = self.project_queries(rows)
        rows = old + self.out(self.join(self.attend(Q, K, V, mask[:, None, None])))
        rows = rows + self.outer(F.gelu(self.inner(self.mlp_norm(rows))))
        return rows.mT.unflatten(2, x.shape[2:])


class DownLevel(nn.Module):
    """Halve first, then the blocks: the convolutions see a quarter of the places (paper: reversed order)."""

    def __init__(self, into: int, out: int, count: int, config: EfficientUNetConfig, last: bool) -> None:
        super().__init__()
        self.halve = nn.Conv2d(into, out, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(EfficientBlock(out, out, config.embedding, config.groups)
                                    for _ in range(count))
        self.read = ReadingBlock(out, config) if last else None

    def forward(self, x: Tensor, embedding: Tensor, *text: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, kept = self.halve(x), []
        for block in self.blocks:
            x = block(x, embedding)
            kept.append(x)
        return (x if self.read is None else self.read(x, *text)), kept


class UpLevel(nn.Module):
    """The blocks first, each joined with what was kept on the way down, then double."""

    def __init__(self, into: int, out: int, count: int, config: EfficientUNetConfig, last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EfficientBlock(2 * into, into, config.embedding, config.groups)
                                    for _ in range(count))
        self.read = ReadingBlock(into, config) if last else None
        self.conv = conv3(into, out)

    def forward(self, x: Tensor, kept: list[Tensor], embedding: Tensor, *text: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(torch.cat([x, kept.pop()], dim=1), embedding)
        x = x if self.read is None else self.read(x, *text)
        return self.conv(F.interpolate(x, scale_factor=2.0))


class EfficientUNet(nn.Module):
    """Noisy pictures beside enlarged small ones (b, 6, s, s), an embedding (b, e) of time and conditions,
    tokens (b, k, t) of captions and their mask -> the noise (b, 3, s, s).

    Every level halves, the first one too; any side will do that can be halved so often, so that crops may be
    trained on.
    """

    def __init__(self, config: EfficientUNetConfig) -> None:
        super().__init__()
        self.config = config
        levels = list(zip((config.widths[0], *config.widths), config.widths, config.blocks))
        self.time = TimeEmbedding(config.widths[0])
        self.conv_in = conv3(6, config.widths[0])
        self.down = nn.ModuleList(DownLevel(*level, config, i == len(levels) - 1)
                                  for i, level in enumerate(levels))
        self.up = nn.ModuleList(UpLevel(out, into, count, config, i == len(levels) - 1)
                                for i, (into, out, count) in reversed(list(enumerate(levels))))
        self.norm = GroupNorm(2 * config.widths[0], config.groups)
        self.conv_out = zeroed(conv3(2 * config.widths[0], 3))

    def forward(
        self, x: Float[Tensor, "b 6 y x"], embedding: Float[Tensor, "b e"],
        context: Float[Tensor, "b k t"], mask: Bool[Tensor, "b k"],
    ) -> Float[Tensor, "b 3 y x"]:
        least = 2 ** len(self.config.widths)
        if x.shape[2] % least or x.shape[3] % least:
            raise ValueError(f"maps are {x.shape[2]} x {x.shape[3]}, the U-Net halves them "
                             f"{len(self.config.widths)} times; give sides that {least} divides")
        x = first = self.conv_in(x)
        kept = []
        for level in self.down:
            x, maps = level(x, embedding, context, mask)
            kept.append(maps)
        for level in self.up:
            x = level(x, kept.pop(), embedding, context, mask)
        return self.conv_out(F.silu(self.norm(torch.cat([x, first], dim=1))))
