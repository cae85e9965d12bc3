r"""Blocks that the U-Nets of diffusion share, and the U itself: down through levels, up again, skips across.

Papers: J. Ho, A. Jain and P. Abbeel (2020), *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239,
app. B; P. Dhariwal and A. Nichol (2021), *Diffusion Models Beat GANs on Image Synthesis*, arXiv:2105.05233,
sec. 3.  Survey: 2.3.
Differs from the papers: nothing in the result. A doubling and the convolution after it are one transposed
convolution (eq:unet-up), which needs 16 products where the two need 36; normalisation and activation keep one
map for the backward pass instead of two; maps are stored channels last.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import MultiHeadAttention
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.norm_activation import norm_activation

SAMPLINGS = ("same", "down", "up")


@dataclass(frozen=True)
class UNetConfig:
    """The sizes that every U-Net has; ``DDPMConfig`` and ``ADMConfig`` name those of the papers."""

    size: int = 32                              # pixels a side
    width: int = 128                            # channels of the first level, before its multiplier
    multipliers: tuple[float | int, ...] = (1, 2, 2, 2)       # channels of a level, in widths
    blocks: int = 2                             # R, residual blocks of a level on the way down; one more up
    attention: tuple[int, ...] = (16,)          # sides of the maps that attend, in pixels
    heads: int = 1                              # of every attention layer, unless head_channels says how wide
    head_channels: int | None = None            # channels of a head; layers have as many heads as that makes
    dropout: float | int = 0.0
    in_channels: int = 3
    out_channels: int = 3
    groups: int = 32                            # of a group norm, at most: their common divisor with channels

    def __post_init__(self) -> None:
        check(self, blocks=(1, 100), multipliers=(1 / 64, 64), attention=(1, 65_536))
        if not self.multipliers:
            raise FieldError(type(self).__name__, "multipliers", "is empty; a U-Net has a level or more")
        if self.size % 2 ** (len(self.multipliers) - 1):
            raise FieldError(type(self).__name__, "size", f"is {self.size}, which cannot be halved "
                             f"{len(self.multipliers) - 1} times; choose a multiple of "
                             f"{2 ** (len(self.multipliers) - 1)}, or fewer multipliers")
        if any(width < 1 or width != self.width * m for width, m in zip(self.widths, self.multipliers)):
            raise FieldError(type(self).__name__, "multipliers", f"is {self.multipliers}, which makes no "
                             f"whole numbers of channels of width {self.width}")
        for channels in self.attending:
            cut = self.heads if self.head_channels is None else self.head_channels
            if channels % cut:
                name = "heads" if self.head_channels is None else "head_channels"
                raise FieldError(type(self).__name__, name, f"is {cut}, which does not divide the {channels} "
                                 "channels of a layer that attends; choose a number that does")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the levels, from full resolution down."""
        return tuple(int(self.width * multiplier) for multiplier in self.multipliers)

    @property
    def embedding(self) -> int:
        """Size of the embedding of the timestep: 4 widths."""
        return 4 * self.width

    @property
    def attending(self) -> tuple[int, ...]:
        """Channels of the levels that attend, and of the middle."""
        sides = [self.size // 2**level for level in range(len(self.widths))]
        return *(w for w, side in zip(self.widths, sides) if side in self.attention), self.widths[-1]

    def heads_of(self, channels: int) -> int:
        """How many heads attention over so many channels has."""
        return self.heads if self.head_channels is None else channels // self.head_channels


# -------------------------------------------------------------------------------------------------- equations


def sinusoids(
    t: Float[Tensor, " b"] | Int[Tensor, " b"], width: int,
    base: float | int = 10_000,
) -> Float[Tensor, "b w"]:
    r"""eq:unet-time: $[\cos(t\omega_k);\sin(t\omega_k)]$, $\omega_k=10000^{-k/h}$,
    $k=0,\dots,h-1$, with $h$ half of the width: ADM's and GLIDE's."""
    half = width // 2
    k = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t[:, None].float() * torch.exp(-math.log(base) / half * k)
    waves = torch.cat([angles.cos(), angles.sin()], dim=1)
    return F.pad(waves, (0, width % 2))


def sinusoids_ddpm(
    t: Float[Tensor, " b"] | Int[Tensor, " b"], width: int,
    base: float | int = 10_000,
) -> Float[Tensor, "b w"]:
    r"""eq:unet-time-ddpm: $[\sin(t\omega_k);\cos(t\omega_k)]$,
    $\omega_k=10000^{-k/(h-1)}$: DDPM's, sines first and the last wave at $1/10000$."""
    half = width // 2
    k = torch.arange(half, dtype=torch.float32, device=t.device)
    slower = -math.log(base) / max(half - 1, 1)
    angles = t[:, None].float() * torch.exp(slower * k)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return F.pad(waves, (0, width % 2))


def doubled_kernel(
    weight: Float[Tensor, "o i 3 3"]
) -> Float[Tensor, "i o 4 4"]:
    r"""eq:unet-up: $K_{mn}=\sum_{k\in\{2-m,3-m\}}\sum_{l\in\{2-n,3-n\}}W_{kl}$: doubling a map and
    filtering it by $W$ is one transposed convolution by $K$ of stride 2."""
    A = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    K = weight.flatten(2) @ torch.kron(A, A).mT     # A W A^T: o i 9 -> o i 16
    return K.unflatten(2, (4, 4)).transpose(0, 1)


def read_maps(
    Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"],
    V: Float[Tensor, "b h s e"],
) -> Float[Tensor, "b h t e"]:
    r"""eq:unet-attention: $\mathrm{softmax}\big((Qe^{-1/4})(Ke^{-1/4})^\top\big)V$ for heads of
    $e$ channels: eq:attention, scaled before the product so that half precision does not overflow."""
    scale = Q.shape[-1] ** -0.25
    return ((Q * scale) @ (K * scale).mT).softmax(dim=-1) @ V


# ----------------------------------------------------------------------------------------------------- blocks


def zeroed(module: Any) -> Any:
    """``module`` with all its parameters 0, so that what it adds is nothing at first."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def conv3(into: int, out: int, stride: int = 1) -> nn.Conv2d:
    """A convolution 3 x 3 with a margin of 1."""
    return nn.Conv2d(into, out, 3, stride=stride, padding=1)


class GroupNorm(nn.GroupNorm):
    """Group norm of ``channels`` in as many groups as divide both them and ``groups``."""

    def __init__(self, channels: int, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__(math.gcd(channels, groups), channels, eps=eps)


class TimeEmbedding(nn.Module):
    """Timesteps (b) -> embeddings (b, 4 w): waves, linear, SiLU, linear (eq:unet-time or eq:unet-time-ddpm).

    Timesteps are those of the training, 0 to T - 1, whatever the sampler leaves out; they may be fractions.
    """

    def __init__(self, width: int, waves: Any = sinusoids) -> None:
        super().__init__()
        self.width, self.waves = width, waves
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, 4 * width)

    def forward(self, t: Float[Tensor, " b"] | Int[Tensor, " b"]) -> Float[Tensor, "b e"]:
        waves = self.waves(t, self.width).to(self.linear1.weight.dtype)
        return self.linear2(F.silu(self.linear1(waves)))


class Upsample(nn.Module):
    """Twice the side, then a convolution 3 x 3: (b, c, y, x) -> (b, f, 2y, 2x) (eq:unet-up)."""

    reads = ""

    def __init__(self, into: int, out: int | None = None) -> None:
        super().__init__()
        self.conv = conv3(into, out or into)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f g h"]:
        return conv_doubled(x, self.conv)


def conv_doubled(x: Float[Tensor, "b c y x"], conv: nn.Conv2d) -> Float[Tensor, "b f g h"]:
    """``conv`` of the nearest-neighbour doubling of ``x``, which is stored only where there are few places
    (eq:unet-up)."""
    if len(x) * x.shape[2] * x.shape[3] < 256:              # making the kernel costs more than it saves
        return conv(F.interpolate(x, scale_factor=2.0))
    return F.conv_transpose2d(x, doubled_kernel(conv.weight), conv.bias, stride=2, padding=1)


class Downsample(nn.Module):
    """Half the side by a convolution 3 x 3 of stride 2: (b, c, y, x) -> (b, f, y/2, x/2).

    ``after`` puts the whole margin below and right, as TensorFlow's "SAME" (DDPM); without it, all around.
    """

    reads = ""

    def __init__(self, into: int, out: int | None = None, after: bool = False) -> None:
        super().__init__()
        self.after = after
        self.conv = nn.Conv2d(into, out or into, 3, stride=2, padding=0 if after else 1)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f g h"]:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.after else x)


class ResidualBlock(nn.Module):
    r"""eq:unet-residual: $x'+C_2\,\phi(\mathrm{GN}(C_1\phi(\mathrm{GN}(x)))\text{ with }e)$: (b, c, y, x) and
    embeddings (b, e) -> (b, f, y, x).

    $\phi$ is SiLU. The embedding is added after the first convolution (DDPM), or with ``modulated`` scales
    and shifts the second norm (ADM, eq:norm-activation). ``sampling`` "down" takes means of 2 x 2 pixels,
    "up" repeats them, both of the map after the first activation and of what came in. The second
    convolution starts at 0, so that a fresh block adds nothing; where the widths differ, x' is a 1 x 1
    convolution of x.
    """

    reads = "embedding"

    def __init__(self, into: int, out: int, embedding: int, dropout: float = 0.0, modulated: bool = True,
                 sampling: str = "same", groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__()
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling is {sampling!r}; use one of {', '.join(SAMPLINGS)}")
        self.modulated, self.sampling = modulated, sampling
        self.norm1, self.conv1 = GroupNorm(into, groups, eps), conv3(into, out)
        self.condition = nn.Linear(embedding, 2 * out if modulated else out)
        self.norm2, self.conv2 = GroupNorm(out, groups, eps), zeroed(conv3(out, out))
        self.dropout = dropout
        self.shortcut = nn.Identity() if into == out else nn.Conv2d(into, out, 1)

    def forward(
        self, x: Float[Tensor, "b c y x"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b f g h"]:
        condition = self.condition(F.silu(embedding))
        h = norm_activation(x, self.norm1)
        if self.sampling == "up":
            h = conv_doubled(h, self.conv1)
            x = F.interpolate(x, scale_factor=2.0)
        elif self.sampling == "down":
            h, x = self.conv1(F.avg_pool2d(h, 2)), F.avg_pool2d(x, 2)
        else:
            h = self.conv1(h)
        scale = shift = None
        if self.modulated:                                      # ADM
            scale, shift = condition.chunk(2, dim=1)
        else:                                                   # DDPM
            h = h.add_(condition[:, :, None, None])
        dropout = self.dropout if self.training else 0
        h = norm_activation(h, self.norm2, scale, shift, dropout)
        return self.conv2(h).add_(self.shortcut(x))


class SpatialAttention(MultiHeadAttention):
    """Every place of a map reads all places, and the tokens of a context where there is one: (b, c, y, x) and
    (b, k, e) -> (b, c, y, x) (eq:unet-attention).

    Keys and values of the context stand before those of the map, in one softmax. The output projection starts
    at 0. Raises ``ValueError`` for a context without ``context``, its size.
    """

    reads = "context"

    def __init__(self, channels: int, heads: int = 1, context: int | None = None, groups: int = 32,
                 eps: float = 1e-5) -> None:
        super().__init__(channels, heads)
        self.norm = GroupNorm(channels, groups, eps)
        self.context = None if context is None else nn.Linear(context, 2 * channels)
        bound = channels**-0.5                          # as PyTorch starts a 1 x 1 convolution
        nn.init.uniform_(self.in_weight, -bound, bound)
        nn.init.uniform_(self.in_bias, -bound, bound)
        zeroed(self.out)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b c y x"], context: Float[Tensor, "b k e"] | None = None
    ) -> Float[Tensor, "b c y x"]:
        tokens = self.norm(x).flatten(2).mT                                 # b c y x -> b (y x) c
        Q, K, V = self.project_all(tokens)
        if context is not None:
            if self.context is None:
                raise ValueError("a context was given, and this U-Net has no layers that read one; build it "
                                 "with context=size of a token")
            seen_K, seen_V = self.context(context).chunk(2, dim=-1)
            K = torch.cat([self.split(seen_K), K], dim=2)
            V = torch.cat([self.split(seen_V), V], dim=2)
        read = self.out(self.join(self.read(Q, K, V, None)))
        return x + read.mT.unflatten(2, x.shape[2:])


class Stage(nn.ModuleList):
    """Layers in turn: residual blocks read the embedding, attention the context, the others neither."""

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor | None = None) -> Tensor:
        inputs = {"embedding": (embedding,), "context": (context,), "": ()}
        for layer in self:
            x = layer(x, *inputs[layer.reads])                              # type: ignore[index]
        return x


# -------------------------------------------------------------------------------------------------- the model


class HalfUNet(nn.Module):
    """The way down: noisy maps (b, i, s, s) and timesteps (b), whose embedding every residual block reads.

    A system says in ``residual``, ``attend`` and ``downsample`` which blocks it uses. Raises ``ValueError``
    for maps of another size.
    """

    waves: Any = staticmethod(sinusoids)
    eps = 1e-5                                                              # of every norm

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(config.width, self.waves)
        c, side = config.widths[0], config.size
        self.conv_in = conv3(config.in_channels, c)
        self.kept = [c]                         # channels of the maps that the way up joins, in this order
        self.down = nn.ModuleList()
        for level, width in enumerate(config.widths):
            if level:
                self.down.append(Stage([self.downsample(c)]))
                self.kept.append(c)
                side //= 2
            for _ in range(config.blocks):
                self.down.append(self.stage(c, width, side))
                self.kept.append(c := width)
        self.middle = Stage([self.residual(c, c), self.attend(c), self.residual(c, c)])

    def stage(self, into: int, out: int, side: int) -> Stage:
        """A residual block, and attention where maps of this side attend."""
        layers = [self.residual(into, out)]
        return Stage([*layers, self.attend(out)] if side in self.config.attention else layers)

    def residual(self, into: int, out: int, sampling: str = "same") -> nn.Module:
        """A residual block of this U-Net."""
        return ResidualBlock(into, out, self.config.embedding, self.config.dropout, sampling=sampling,
                             groups=self.config.groups, eps=self.eps)

    def attend(self, channels: int) -> nn.Module:
        """An attention layer of this U-Net."""
        config = self.config
        return SpatialAttention(channels, config.heads_of(channels), groups=config.groups, eps=self.eps)

    def downsample(self, channels: int) -> nn.Module:
        """What leads to the next level down."""
        return self.residual(channels, channels, "down")

    def descend(
        self, x: Float[Tensor, "b i y x"], embedding: Float[Tensor, "b e"],
        context: Float[Tensor, "b k w"] | None = None
    ) -> tuple[Float[Tensor, "b c v u"], list[Tensor]]:
        """The map that leaves the middle, and every map on the way to it."""
        config = self.config
        if tuple(x.shape[1:]) != (config.in_channels, config.size, config.size):
            raise ValueError(f"maps have {x.shape[1]} channels of {x.shape[2]} x {x.shape[3]}, the U-Net "
                             f"wants {config.in_channels} of {config.size} x {config.size}")
        x = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        kept = [x]
        for stage in self.down:
            x = stage(x, embedding, context)
            kept.append(x)
        return self.middle(x, embedding, context), kept


class UNet(HalfUNet):
    """Noisy maps (b, i, s, s), timesteps (b) and conditions -> maps (b, o, s, s).

    On the way up every map of the way down is joined to the one of its size; ``upsample`` says what leads up.
    The last convolution starts at 0: a fresh U-Net predicts nothing.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        c, side = config.widths[-1], config.size >> (len(config.widths) - 1)
        kept = list(self.kept)
        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(config.widths))):
            for _ in range(config.blocks + 1):
                self.up.append(self.stage(c + kept.pop(), width, side))
                c = width
            if level:
                self.up[-1].append(self.upsample(c))                          # type: ignore[operator]
                side *= 2
        self.norm = GroupNorm(c, config.groups, self.eps)
        self.conv_out = zeroed(conv3(c, config.out_channels))

    def upsample(self, channels: int) -> nn.Module:
        """What leads to the next level up."""
        return self.residual(channels, channels, "up")

    def through(
        self, x: Float[Tensor, "b i y x"], embedding: Float[Tensor, "b e"],
        context: Float[Tensor, "b k w"] | None = None
    ) -> Float[Tensor, "b o y x"]:
        """Down and up again, for an embedding that already holds timestep and conditions."""
        x, kept = self.descend(x, embedding, context)
        for stage in self.up:
            x = stage(torch.cat([x, kept.pop()], dim=1), embedding, context)
        return self.conv_out(norm_activation(x, self.norm))

    def forward(
        self, x: Float[Tensor, "b i y x"], t: Float[Tensor, " b"] | Int[Tensor, " b"]
    ) -> Float[Tensor, "b o y x"]:
        return self.through(x, self.time(t))
