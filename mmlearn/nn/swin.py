"""Swin: attention within small windows, shifted from layer to layer, over a map that halves stage by stage.

Papers: Z. Liu et al. (2021), *Swin Transformer: Hierarchical Vision Transformer using Shifted Windows*, ICCV
2021, arXiv:2103.14030, sec. 3; H. Wu et al. (2021), *CvT: Introducing Convolutions to Vision Transformers*,
ICCV 2021, arXiv:2103.15808, sec. 3.1 (convolutional embedding).  Survey: 4.4.1.
Differs from the papers: nothing. As in the released code, cells added to fill the last windows are zeros
after the normalisation, and may be attended to; where a map is smaller than a window, the window becomes the
map, and the middle of the table of relative positions is read.

Maps are (b, y, x, c) inside, channels last; a window has $M\\times M$ cells.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from mmlearn.nn.configuration import check
from mmlearn.nn.modes import remembered
from mmlearn.nn.transformer import FeedForward, LayerNorm32, pre_norm


@dataclass(frozen=True)
class SwinConfig:
    size: int = 224                                 # pixels a side it is trained at; other sizes work, too
    width: int = 96                                 # C, channels of the first stage; each stage doubles them
    depths: tuple[int, ...] = (2, 2, 6, 2)          # blocks of each stage
    heads: tuple[int, ...] = (3, 6, 12, 24)         # h, of each stage
    window: int = 7                                 # M, cells a side
    convolutional: bool = False                     # CvT's embeddings in place of patches and merging
    drop_path: float = 0.2                          # chance that training skips the last block; others less
    eps: float = 1e-5                               # of layer normalisation

    def __post_init__(self) -> None:
        check(self)
        if len(self.depths) > 8:
            raise ValueError(f"{len(self.depths)} stages halve a picture too often; give at most 8")
        if len(self.depths) != len(self.heads):
            raise ValueError(
                f"{len(self.depths)} depths and {len(self.heads)} numbers of heads; give one of each a stage")
        bad = next((i for i, (w, h) in enumerate(zip(self.widths, self.heads)) if w % h), None)
        if bad is not None:
            raise ValueError(f"stage {bad + 1} has {self.widths[bad]} channels and {self.heads[bad]} heads; "
                             "choose heads that divide the channels")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**i for i in range(len(self.depths)))

    @property
    def channels(self) -> int:
        """Channels of the last stage."""
        return self.widths[-1]

    @classmethod
    def swin_t(cls) -> "SwinConfig":
        """27,519,354 parameters."""
        return cls()

    @classmethod
    def swin_b(cls) -> "SwinConfig":
        """86,743,224 parameters."""
        return cls(width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), drop_path=0.5)

    @classmethod
    def coswin_h(cls) -> "SwinConfig":
        """Florence's image tower: the paper gives 637 M parameters and no layout; this has 637.5 M."""
        return cls(width=256, depths=(2, 2, 40, 2), heads=(8, 16, 32, 64), convolutional=True, drop_path=0.5)

    @classmethod
    def mini(cls) -> "SwinConfig":
        """A CoSwin for drawings of 64 pixels: maps of 16, 8 and 4 cells a side."""
        return cls(size=64, width=48, depths=(2, 2, 2), heads=(2, 4, 8), window=4, convolutional=True,
                   drop_path=0.0)


# ---------------------------------------------------------------------------------------------------- windows

def fill_up(x: Float[Tensor, "b y x c"], m: int) -> Float[Tensor, "b v u c"]:
    """A map with zeros below and at the right, so that m divides its sides; itself where it does already."""
    y, x_ = x.shape[1:3]
    return F.pad(x, (0, 0, 0, -x_ % m, 0, -y % m)) if y % m or x_ % m else x


def to_windows(
    x: Float[Tensor, "b y x c"] | Int[Tensor, "b y x c"], m: int
) -> Float[Tensor, "b n p c"] | Int[Tensor, "b n p c"]:
    """Cut a map into squares of m x m cells, row by row: b (i m) (j m) c -> b (i j) (m m) c."""
    b, y, x_, c = x.shape
    return x.view(b, y // m, m, x_ // m, m, c).transpose(2, 3).reshape(b, -1, m * m, c)


def from_windows(w: Float[Tensor, "b n p c"], y: int, x: int) -> Float[Tensor, "b y x c"]:
    """The map of y x x cells that ``to_windows`` cut: b (i j) (m m) c -> b (i m) (j m) c."""
    b, _, p, c = w.shape
    m = math.isqrt(p)
    return w.view(b, y // m, x // m, m, m, c).transpose(2, 3).reshape(b, y, x, c)


@remembered
@torch.inference_mode(False)
def relative_index(
    m: int, M: int, device: torch.device | None = None
) -> Int[Tensor, "p p"]:
    r"""eq:relative-index: $r(i,j)=(2m-1)(y_i-y_j+m-1)+(x_i-x_j+m-1)$ for the cells i, j of an m x m window:
    the row of a table with one row an offset, made for windows of M >= m cells a side."""
    place = torch.arange(m, device=device)
    y, x = place.repeat_interleave(m), place.repeat(m)
    return (2 * M - 1) * (y[:, None] - y + M - 1) + (x[:, None] - x + M - 1)


def relative_bias(
    table: Float[Tensor, "r h"], m: int
) -> Float[Tensor, "h p p"]:
    r"""eq:relative-bias: $B^{(a)}_{ij}=\hat B_{r(i,j),a}$ of head a, read from the learned table
    $\hat B\in\mathbb R^{(2m-1)^2\times h}$."""
    M = (math.isqrt(len(table)) + 1) // 2
    return table[relative_index(m, M, table.device).flatten()].T.unflatten(
        1, (m * m, m * m)
    )


@remembered
@torch.inference_mode(False)
def shift_mask(
    y: int, x: int, m: int, shift: int, device: torch.device | None = None
) -> Bool[Tensor, "n p p"]:
    r"""eq:shift-mask: which cells of a window on the rolled map may attend to each other: those that were
    neighbours before.

    Rolling a map of y x x cells by ``shift`` puts its first rows below its last ones; a window holds cells of
    both sides of that seam (the last ``shift`` rows of the rolled map came from the top), and attends within
    a side only.
    """
    below = (torch.arange(y, device=device) >= y - shift).long()[:, None]
    right = (torch.arange(x, device=device) >= x - shift).long()
    side = 2 * below + right
    part = to_windows(side[None, :, :, None], m)[0, :, :, 0]  # n (m m)
    return part[:, :, None] == part[:, None]


def window_attention(
    Q: Float[Tensor, "*n p e"],
    K: Float[Tensor, "*n p e"],
    V: Float[Tensor, "*n p e"],
    B: Float[Tensor, "*#n p p"],
) -> Float[Tensor, "*n p e"]:
    r"""eq:window-attention: $\mathrm{softmax}(QK^\top/\sqrt{d_k}+B)\,V$ in each window and head;
    $B_{ij}=-\infty$ where j is hidden."""
    return F.scaled_dot_product_attention(Q, K, V, attn_mask=B)


class WindowAttention(nn.Module):
    """Multi-head attention in windows of a map (eq:window-attention): (b, y, x, c) -> (b, y, x, c).

    ``shifted`` moves the windows by half a window (eq:shift-mask). The map is filled up with zeros to whole
    windows.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(
        self, x: Float[Tensor, "b y x c"], shifted: bool = False
    ) -> Float[Tensor, "b y x c"]:
        _, y, x_, c = x.shape
        m = min(self.window, y, x_)
        # one window sees everything already
        shift = m // 2 if shifted and min(y, x_) > self.window else 0
        x = fill_up(x, m)
        high, wide = x.shape[1:3]
        x = torch.roll(x, (-shift, -shift), (1, 2)) if shift else x
        q, k, v = (  # b n p (h e) -> b n h p e
            part.unflatten(-1, (self.heads, -1)).transpose(2, 3)
            for part in self.project(to_windows(x, m)).chunk(3, dim=-1)
        )
        B = relative_bias(self.table, m)
        if shift:
            hidden = ~shift_mask(high, wide, m, shift, x.device)
            B = B.masked_fill(hidden[:, None], -math.inf)
            B = B.flatten(0, 1)                      # n h p p -> (n h) p p
            # windows are further heads
            q, k, v = (part.flatten(1, 2) for part in (q, k, v))
        else:
            # windows are further images
            q, k, v = (part.flatten(0, 1) for part in (q, k, v))
        read = window_attention(q, k, v, B.to(q.dtype)[None])
        read = (
            read.reshape(len(x), -1, self.heads, m * m, c // self.heads)
            .transpose(2, 3)
            .flatten(3)
        )
        out = from_windows(self.out(read), high, wide)
        out = torch.roll(out, (shift, shift), (1, 2)) if shift else out
        return out[:, :y, :x_]


class SwinBlock(nn.Module):
    """Window attention, then a feed-forward net, each normalised before (eq:pre-norm): (b, y, x, c) -> (b, y,
    x, c).

    In training each of the two is left out for a picture with probability ``drop_path``, else divided by the
    chance to be there.
    """

    def __init__(
        self, width: int, heads: int, window: int, shifted: bool, drop_path: float | int = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.shifted = shifted
        self.attention_norm = LayerNorm32(width, eps=eps)
        self.attention = WindowAttention(width, heads, window)
        self.feed_forward_norm = LayerNorm32(width, eps=eps)
        self.feed_forward = FeedForward(width, 4 * width, activation=nn.GELU)
        self.drop_path = StochasticDepth(float(drop_path), "row")

    def forward(self, x: Float[Tensor, "b y x c"]) -> Float[Tensor, "b y x c"]:
        x = pre_norm(x, lambda z: self.drop_path(self.attention(z, self.shifted)), self.attention_norm)
        return pre_norm(x, lambda z: self.drop_path(self.feed_forward(z)), self.feed_forward_norm)


# ---------------------------------------------------------------------------------------- from stage to stage

class ConvEmbedding(nn.Module):
    """A convolution that overlaps, then layer normalisation: (b, y, x, c) -> (b, y / stride, x / stride, d),
    rounded up.

    CvT's (kernel 7, stride 4 for pixels; 3 and 2 between stages) has ``kernel // 2`` cells of zeros around;
    Swin's patches are the case kernel = stride = 4 without any.
    """

    def __init__(
        self, before: int, width: int, kernel: int, stride: int, padding: int, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.project = nn.Conv2d(before, width, kernel, stride, padding)
        self.norm = LayerNorm32(width, eps=eps)

    def forward(self, x: Float[Tensor, "b y x c"]) -> Float[Tensor, "b v u d"]:
        kernel, stride, padding = (
            self.project.kernel_size[0],
            self.project.stride[0],
            self.project.padding[0],
        )
        if not padding:  # patches: fill up the last ones
            x = fill_up(x, stride)
        if min(x.shape[1:3]) + 2 * int(padding) < kernel:
            raise ValueError(
                f"the map has {x.shape[1]} x {x.shape[2]} cells, "
                f"the convolution reads {kernel}; give larger images"
            )
        return self.norm(self.project(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    r"""eq:patch-merging: $x'_{yx}=\mathrm{LN}\big([x_{2y,2x};x_{2y+1,2x};x_{2y,2x+1};x_{2y+1,2x+1}]\big)W$,
    four cells to one: (b, y, x, c) -> (b, y / 2, x / 2, 2c), rounded up with zeros; W (4c, 2c) has no
    bias."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = LayerNorm32(4 * width, eps=eps)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Float[Tensor, "b y x c"]) -> Float[Tensor, "b v u d"]:
        x = fill_up(x, 2)
        four = torch.cat(
            [
                x[:, 0::2, 0::2],
                x[:, 1::2, 0::2],
                x[:, 0::2, 1::2],
                x[:, 1::2, 1::2],
            ],
            dim=-1,
        )
        return self.reduce(self.norm(four))


class Swin(nn.Module):
    """Images (b, 3, s, s), standardised -> one vector an image (b, c), the mean of the last map after
    normalisation.

    ``maps`` gives the map of every stage (b, c_i, y_i, x_i) at strides 4, 8, …, not normalised, for
    detection; ``tokens`` the normalised cells of the last one (b, p, c), row by row.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        eps, widths = config.eps, config.widths
        if config.convolutional:
            first: nn.Module = ConvEmbedding(3, widths[0], 7, 4, 2, eps)
            later: list[nn.Module] = [ConvEmbedding(c, 2 * c, 3, 2, 1, eps) for c in widths[:-1]]
        else:
            first = ConvEmbedding(3, widths[0], 4, 4, 0, eps)
            later = [PatchMerging(c, eps) for c in widths[:-1]]
        self.embeddings = nn.ModuleList([first, *later])
        rates = iter(torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*(
                SwinBlock(c, h, config.window, bool(i % 2), next(rates), eps) for i in range(depth)))
            for c, h, depth in zip(widths, config.heads, config.depths))
        self.norm = LayerNorm32(config.channels, eps=eps)
        self.apply(self._initialise)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def stage_maps(self, images: Float[Tensor, "b 3 y x"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The map of every stage, channels last."""
        found = []
        x = images.permute(0, 2, 3, 1)
        for embedding, stage in zip(self.embeddings, self.stages):
            x = stage(embedding(x))
            found.append(x)
        return found

    def maps(self, images: Float[Tensor, "b 3 y x"]) -> list[Float[Tensor, "b _ _ _"]]:
        return [x.permute(0, 3, 1, 2) for x in self.stage_maps(images)]

    def tokens(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p c"]:
        return self.norm(self.stage_maps(images)[-1]).flatten(1, 2)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        return self.tokens(images).mean(dim=1)


def inflate(
    weight: Float[Tensor, "d c k k2"], frames: int
) -> Float[Tensor, "d c t k k2"]:
    r"""eq:inflation: $W'_i=W/n$ for $i=1\dots n$: a kernel for n = ``frames`` frames that answers a
    clip in which nothing moves as the kernel W of pictures answers one frame. Raises ``ValueError`` for less
    than one frame."""
    if frames < 1:
        raise ValueError(f"frames is {frames}; a kernel covers at least 1")
    return weight[:, :, None].expand(-1, -1, frames, -1, -1) / frames
