"""CLIP's residual network: a three-convolution stem, blurred strides, and attention instead of the last mean.

Papers: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 2.4; T. He et al. (2019), *Bag of Tricks for Image Classification*, arXiv:1812.01187
(ResNet-D); R. Zhang (2019), *Making Convolutional Networks Shift-Invariant Again*, arXiv:1904.11486
(anti-aliasing).
Survey: 4.2.2.  Differs from the paper: nothing; "rect-2 blur pooling" is, as in its code, a mean over 2 x 2
cells.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.attention import CrossAttention
from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.vision import grid_to_sequence

EXPANSION = 4                           # a block puts out four times the channels of its inner convolutions


@dataclass(frozen=True)
class ResNetConfig:
    size: int = 224                                 # pixels a side of the (square) image
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)    # bottleneck blocks of the four stages
    width: int = 64                                 # w, channels after the stem; the last grid has C = 32 w
    heads: int = 32                                 # h, heads of the attention pool, of width C / h

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "channels")
        if self.size % 32:
            raise ValueError(
                f"size {self.size} is not a multiple of 32, the stride of the network; choose one that is")

    @property
    def channels(self) -> int:
        """C, channels of the last grid."""
        return 32 * self.width

    @property
    def grid(self) -> int:
        """Cells a side of the last grid."""
        return self.size // 32


def conv_norm(into: int, out: int, kernel: int, stride: int = 1, gain: float = 1.0) -> nn.Sequential:
    """Convolution without bias that keeps (or divides by ``stride``) the sides, and batch normalisation."""
    norm = nn.BatchNorm2d(out)
    nn.init.constant_(norm.weight, gain)
    return nn.Sequential(nn.Conv2d(into, out, kernel, stride=stride, padding=kernel // 2, bias=False), norm)


class Bottleneck(nn.Module):
    """1x1, 3x3, mean over ``stride`` x ``stride`` cells, 1x1; added to its input: (b, c, y, x) -> (b, 4
    inner, y', x').

    Both paths average before they drop cells (anti-aliasing), no convolution has a stride. Where the shape
    changes, the shortcut is mean, 1x1 convolution, normalisation. The last normalisation starts with gain 0:
    a new block is its shortcut.
    """

    def __init__(self, into: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.first = conv_norm(into, inner, 1)
        self.second = conv_norm(inner, inner, 3)
        self.third = conv_norm(inner, EXPANSION * inner, 1, gain=0.0)
        changes = stride > 1 or into != EXPANSION * inner
        self.shortcut = (conv_norm(into, EXPANSION * inner, 1)
                         if changes else None)

    def blur(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c v u"]:
        """Mean over the cells that become one."""
        return F.avg_pool2d(x, self.stride) if self.stride > 1 else x

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f v u"]:
        inner = F.relu(self.first(x), inplace=True)
        inner = F.relu(self.second(inner), inplace=True)
        inner = self.third(self.blur(inner))
        if self.shortcut is not None:
            x = self.shortcut(self.blur(x))
        return F.relu(inner + x, inplace=True)


def pool_tokens(
    cells: Float[Tensor, "b p c"], positions: Float[Tensor, "p_and_1 c"]
) -> Float[Tensor, "b p_and_1 c"]:
    r"""eq:attention-pool-tokens: $X'=[\bar x;X]+E_{\mathrm{pos}}$, the mean of all cells before the cells,
    plus positions."""
    mean = cells.mean(dim=1, keepdim=True)
    return torch.cat([mean, cells], dim=1) + positions


class AttentionPool(nn.Module):
    r"""eq:attention-pool: $\tilde u=[\mathrm{Att}(X'_0W_q^{(a)},X'W_k^{(a)},X'W_v^{(a)})]_{a=1\dots h}W_o$:
    the mean of a grid asks, its cells answer (eq:attention-pool-tokens), (b, p, c) -> (b, e).

    One multi-head attention whose only query is the mean; its output projection goes straight to ``embed``
    numbers. ``record_attention`` gets its weights as "attention" (b, 1, h, 1, 1 + p).
    """

    def __init__(self, channels: int, heads: int, cells: int, embed: int) -> None:
        super().__init__()
        std = channels**-0.5
        self.positions = nn.Parameter(std * torch.randn(cells + 1, channels))
        self.attention = CrossAttention(channels, heads)
        self.attention.out = nn.Linear(channels, embed)
        nn.init.normal_(self.attention.in_weight, std=std)
        nn.init.uniform_(self.attention.in_bias, -std, std)
        nn.init.normal_(self.attention.out.weight, std=std)

    def forward(self, cells: Float[Tensor, "b p c"]) -> Float[Tensor, "b e"]:
        x = pool_tokens(cells, self.positions)
        return self.attention(x[:, :1], x)[:, 0]


class ModifiedResNet(nn.Module):
    """Images (b, 3, s, s), standardised -> embeddings (b, e), not normalised; the sides are divided by 32 in
    all.

    ``grid`` gives the last feature map (b, 32 w, s / 32, s / 32). Raises ``ValueError`` for images of another
    size.
    """

    def __init__(self, config: ResNetConfig, embed: int) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.stem = nn.ModuleList([
            conv_norm(3, w // 2, 3, stride=2), conv_norm(w // 2, w // 2, 3), conv_norm(w // 2, w, 3)])
        stages: list[nn.Module] = []
        into = w
        for i, blocks in enumerate(config.blocks):
            inner = w * 2**i
            first = Bottleneck(into, inner, stride=1 if i == 0 else 2)
            into = EXPANSION * inner
            stages.append(nn.Sequential(first, *(Bottleneck(into, inner) for _ in range(blocks - 1))))
        self.stages = nn.ModuleList(stages)
        self.pool = AttentionPool(config.channels, config.heads, config.grid**2, embed)
        self.to(memory_format=torch.channels_last)

    def grid(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c v u"]:
        size = self.config.size
        if tuple(images.shape[-2:]) != (size, size):
            raise ValueError(
                f"images are {images.shape[-2]} x {images.shape[-1]} pixels, "
                f"the model wants {size} x {size}; "
                "resize them")
        x = images.contiguous(memory_format=torch.channels_last)
        for convolution in self.stem:
            x = F.relu(convolution(x), inplace=True)
        x = F.avg_pool2d(x, 2)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b e"]:
        return self.pool(grid_to_sequence(self.grid(images)))
