"""BEiT: a Vision Transformer that knows where patches lie to each other, and whose patches can be hidden.

Papers: H. Bao, L. Dong, S. Piao and F. Wei (2022), *BEiT: BERT Pre-Training of Image Transformers*,
arXiv:2106.08254, sec. 2; H. Touvron et al. (2021), *Going deeper with Image Transformers*, arXiv:2103.17239,
sec. 2 (LayerScale); G. Huang et al. (2016), *Deep Networks with Stochastic Depth*, arXiv:1603.09382 (drop
path).  Survey: 5.1; it is the image encoder of data2vec.
Differs from the papers: nothing. As in the released code there are no absolute positions but a learned bias
for each head and each offset, one table for all layers (pre-training) or one a layer (fine-tuning); queries
and values have biases, keys have none; initial weights are cut at one standard deviation, and those that end
a branch of block l are divided by the root of 2l.

A key's bias would change nothing: it adds the same number to all scores of a query, and the softmax is blind
to that. A picture of another size is read with the table resized as ``transformers`` does it (bilinear); the
authors' fine-tuning script uses splines over a geometric grid.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.modes import remembered
from mmlearn.nn.swin import relative_index
from mmlearn.nn.transformer import FeedForward, LayerNorm32
from mmlearn.nn.vision import PatchEmbedding

Rows = slice | Int[Tensor, " k"]                # which pictures of a batch a branch is computed for
CLASS_OFFSETS = 3                               # rows of a table that belong to the class token


@dataclass(frozen=True)
class BEiTConfig:
    size: int = 224                             # pixels a side it is trained at; other sizes work, too
    patch: int = 16                             # P, pixels a side of a patch
    width: int = 768                            # d, size of a token state
    layers: int = 12                            # L, blocks
    heads: int = 12                             # h, attention heads of width d / h
    ff: int = 3072                              # inner width of the feed-forward nets
    bias: Literal["shared", "layer"] = "shared"  # one table of offsets for all blocks, or one a block
    layer_scale: float = 0.1                    # first value of gamma
    drop_path: float = 0.1                      # chance that training skips the last block; others less
    eps: float = 1e-6                           # of layer normalisation

    def __post_init__(self) -> None:
        check(self, layers=(1, 1000), layer_scale=(1e-9, 1e3))
        check_divides(self, "heads", "width")
        if self.drop_path >= 1:
            raise ValueError(f"drop_path {self.drop_path} leaves no block; choose less than 1")
        if self.size % self.patch:
            raise ValueError(
                f"size {self.size} is not a multiple of patch {self.patch}; choose a patch that divides it")

    @property
    def grid(self) -> int:
        """Patches a side, G."""
        return self.size // self.patch

    @property
    def places(self) -> int:
        """Patches of a picture."""
        return self.grid**2


# ------------------------------------------------------------------------------------------ equations


@remembered
@torch.inference_mode(False)
def class_index(
    grid: int, device: torch.device | None = None
) -> Int[Tensor, "t t"]:
    r"""eq:beit-index: $r(i,j)$ of eq:relative-index for two patches of a
    $G\times G$ grid; with $n=(2G-1)^2$, $r(0,j)=n$, $r(i,0)=n+1$ and $r(0,0)=n+2$ for the
    class token 0."""
    n = (2 * grid - 1) ** 2
    index = F.pad(relative_index(grid, grid, device), (1, 0, 1, 0))
    index[0] = n
    index[:, 0] = n + 1
    index[0, 0] = n + 2
    return index


def offset_bias(
    table: Float[Tensor, "r h"], grid: int
) -> Float[Tensor, "h t t"]:
    r"""eq:beit-bias: $R^{(k)}_{ij}=\hat R_{r(i,j),k}$, a learned number for each
    head $k$ and each offset from place $j$ to place $i$."""
    index = class_index(grid, table.device)
    R = F.embedding(index, table)                               # t t h
    return R.permute(2, 0, 1).contiguous()


def relative_attention(
    Q: Float[Tensor, "b h q e"], K: Float[Tensor, "b h t e"],
    V: Float[Tensor, "b h t e"], R: Float[Tensor, "#b h q t"],
) -> Float[Tensor, "b h q e"]:
    r"""eq:beit-attention: $\mathrm{softmax}(QK^\top/\sqrt{d_k}+R)\,V$ in each
    head. As the formula stands."""
    scores = Q @ K.mT / math.sqrt(Q.shape[-1]) + R
    return scores.softmax(dim=-1) @ V


def layer_scale(
    x: Float[Tensor, "b t d"], f: Float[Tensor, "b t d"],
    gamma: Float[Tensor, " d"],
) -> Float[Tensor, "b t d"]:
    r"""eq:layer-scale: $x+\gamma\odot f$: a branch $f$ enters through a learned
    gate a channel, nearly shut at the start."""
    return torch.addcmul(x, gamma, f)


def drop_path(
    x: Float[Tensor, "b t d"], f: Float[Tensor, "b t d"],
    gamma: Float[Tensor, " d"], kept: Bool[Tensor, " b"], p: float,
) -> Float[Tensor, "b t d"]:
    r"""eq:drop-path: $x+\frac{m}{1-\pi}\,\gamma\odot f$, $m=1$ with probability
    $1-\pi$ and 0 otherwise, drawn for each picture. As the formula stands."""
    m = kept.to(x.dtype)[:, None, None]
    return x + m / (1 - p) * gamma * f


def with_mask(
    patches: Float[Tensor, "b p d"], mask: Bool[Tensor, "b p"],
    token: Float[Tensor, " d"],
) -> Float[Tensor, "b p d"]:
    r"""eq:beit-mask: $x_i\leftarrow e_{[M]}$ where patch $i$ is hidden: a learned
    vector stands for what is not to be seen."""
    return torch.where(mask[..., None], token, patches)


# ----------------------------------------------------------------------------------------- fused twins


def fused_relative_attention(
    Q: Float[Tensor, "b h q e"], K: Float[Tensor, "b h t e"], V: Float[Tensor, "b h t e"],
    R: Float[Tensor, "#b h q t"],
) -> Float[Tensor, "b h q e"]:
    """An optimisation: ``relative_attention`` by PyTorch's fused kernel, which never stores the weights where
    it can do without."""
    return F.scaled_dot_product_attention(Q, K, V, attn_mask=R.to(Q.dtype))


def kept_rows(b: int, p: float) -> Int[Tensor, " k"]:
    """Which of ``b`` pictures keep a branch, each with probability 1 - p; drawn on the processor, so that no
    device has to be waited for."""
    return (torch.rand(b) >= p).nonzero().flatten()


def kept_residual(
    x: Float[Tensor, "b t d"], f: Float[Tensor, "k t d"], gamma: Float[Tensor, " d"], rows: Int[Tensor, " k"],
    p: float,
) -> Float[Tensor, "b t d"]:
    """An optimisation: ``drop_path`` where the branch was computed for the ``rows`` that keep it, and for no
    others."""
    return x.index_add(0, rows, (gamma / (1 - p)) * f)


# ----------------------------------------------------------------------------------------------- tables


def resize_table(table: Float[Tensor, "r h"], grid: int) -> Float[Tensor, "q h"]:
    """A table of offsets for a grid of ``grid`` patches a side, bilinear; rows of the class token stay.

    Raises ``ValueError`` if the other rows do not form a square of offsets.
    """
    side, wanted = math.isqrt(max(0, len(table) - CLASS_OFFSETS)), 2 * grid - 1
    if side * side != len(table) - CLASS_OFFSETS or not side % 2:
        raise ValueError(f"a table of {len(table)} rows holds no square of offsets and three of the class "
                         f"token; give (2G - 1)² + 3 rows")
    if side == wanted:
        return table
    image = table[:-CLASS_OFFSETS].T.unflatten(1, (side, side))[None]               # (y x) h -> 1 h y x
    image = F.interpolate(image, size=(wanted, wanted), mode="bilinear", align_corners=False)
    return torch.cat([image[0].flatten(1).T, table[-CLASS_OFFSETS:]])


def cut_normal_(weight: Tensor, std: float = 0.02) -> None:
    """Fill with normal numbers of deviation ``std`` that are cut at one ``std``, as the authors do."""
    nn.init.trunc_normal_(weight, std=std, a=-std, b=std)


# ----------------------------------------------------------------------------------------------- blocks


class BEiTAttention(nn.Module):
    """Self-attention with biases of offsets (eq:beit-attention): (b, t, d) and
    R (·, h, t, t) -> (b, t, d).

    With ``places`` (b, q) only these positions ask, and R is (b, h, q, t): (b,
    q, d). The three projections are one matrix; queries and values have
    biases, keys have none.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.empty(3 * width, width))   # Q, K, V
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.out = nn.Linear(width, width)

    def split(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b h t e"]:
        """Cut the width into heads: b t (h e) -> b h t e."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(
        self, z: Float[Tensor, "b t d"],
        places: Int[Tensor, "b q"] | None = None,
    ) -> tuple[Float[Tensor, "b h q e"], Float[Tensor, "b h t e"],
               Float[Tensor, "b h t e"]]:
        """Queries (of the ``places``), keys and values."""
        d, none = z.shape[-1], torch.zeros_like(self.q_bias)
        biases = torch.cat([self.q_bias, none, self.v_bias])
        if places is None:
            Q, K, V = F.linear(z, self.weight, biases).chunk(3, dim=-1)
        else:
            Q = F.linear(rows_at(z, places), self.weight[:d], self.q_bias)
            source = F.linear(z, self.weight[d:], biases[d:])
            K, V = source.chunk(2, dim=-1)
        return self.split(Q), self.split(K), self.split(V)

    def weights(
        self, z: Float[Tensor, "b t d"], R: Float[Tensor, "#b h t t"]
    ) -> Float[Tensor, "b h t t"]:
        """How much each position reads of each other one; rows sum to 1."""
        Q, K, _ = self.project(z)
        scores = Q @ K.mT / math.sqrt(Q.shape[-1]) + R
        return scores.softmax(dim=-1)

    def forward(
        self, z: Float[Tensor, "b t d"], R: Float[Tensor, "#b h q t"],
        places: Int[Tensor, "b q"] | None = None,
    ) -> Float[Tensor, "b q d"]:
        read = fused_relative_attention(*self.project(z, places), R)
        return self.out(read.transpose(1, 2).flatten(2))    # b q (h e)


def rows_at(x: Float[Tensor, "b t d"], places: Int[Tensor, "b q"]) -> Float[Tensor, "b q d"]:
    """The states of some places of each picture."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


class BEiTBlock(nn.Module):
    """Attention, then a feed-forward net, each normalised before, gated and at
    times skipped (eq:layer-scale, eq:drop-path): (b, t, d) -> (b, t, d).

    A branch is computed for the pictures that keep it. With ``places`` (b, q)
    the block gives these positions alone, (b, q, d), which saves their share
    of everything but keys and values. ``table`` is the block's own table of
    offsets, if it has one.
    """

    def __init__(self, config: BEiTConfig, number: int) -> None:
        super().__init__()
        d, eps = config.width, config.eps
        self.drop_path = config.drop_path * number / max(1, config.layers - 1)
        self.attention_norm = LayerNorm32(d, eps=eps)
        self.attention = BEiTAttention(d, config.heads)
        self.feed_forward_norm = LayerNorm32(d, eps=eps)
        self.feed_forward = FeedForward(d, config.ff, activation=nn.GELU)
        self.gamma_1 = nn.Parameter(torch.full((d,), config.layer_scale))
        self.gamma_2 = nn.Parameter(torch.full((d,), config.layer_scale))
        own = config.bias == "layer"
        self.table = new_table(config) if own else None

    def add(
        self, x: Float[Tensor, "b t d"], branch: Callable[[Rows], Tensor],
        gamma: Float[Tensor, " d"],
    ) -> Float[Tensor, "b t d"]:
        """The sum of a state and its branch."""
        p = self.drop_path
        if not self.training or p == 0:
            return layer_scale(x, branch(slice(None)), gamma)
        rows = kept_rows(len(x), p).to(x.device)
        if not len(rows):
            return x
        return kept_residual(x, branch(rows), gamma, rows, p)

    def forward(
        self, x: Float[Tensor, "b t d"], R: Float[Tensor, "h t t"],
        places: Int[Tensor, "b q"] | None = None,
    ) -> Float[Tensor, "b q d"]:
        if places is None:
            asking, biases = x, R[None]
        else:
            asking = rows_at(x, places)
            biases = R[:, places].transpose(0, 1)           # b h q t

        def attend(rows: Rows) -> Tensor:
            z = self.attention_norm(x[rows])
            if places is None:
                return self.attention(z, biases)
            return self.attention(z, biases[rows], places[rows])

        def widen(rows: Rows) -> Tensor:
            return self.feed_forward(self.feed_forward_norm(y[rows]))

        y = self.add(asking, attend, self.gamma_1)
        return self.add(y, widen, self.gamma_2)


def new_table(config: BEiTConfig) -> nn.Parameter:
    """Offsets of a grid, and three of the class token, for each head: zeros, so that all places are alike."""
    return nn.Parameter(torch.zeros((2 * config.grid - 1) ** 2 + CLASS_OFFSETS, config.heads))


# ------------------------------------------------------------------------------------------------ model


class BEiT(nn.Module):
    """Images (b, 3, s, s), standardised -> states of their patches (b, p, d), not normalised after the last
    block.

    ``mask`` (b, p) says which patches are hidden (eq:beit-mask). ``tokens`` keeps the class token in front,
    (b, 1 + p, d); ``layers`` gives what each block ends with, patches only; ``hidden_states`` and
    ``hidden_layers`` give the patches ``at`` (b, p) alone, one below the other (n, d), and save the rest of
    the last block. Images of another size are read with the tables resized. Raises ``ValueError`` for images
    that are not square or do not cut into patches.
    """

    def __init__(self, config: BEiTConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.patches = PatchEmbedding(config.patch, d)
        self.cls, self.mask_token = (nn.Parameter(torch.empty(d)) for _ in range(2))
        self.table = new_table(config) if config.bias == "shared" else None
        self.blocks = nn.ModuleList(BEiTBlock(config, i) for i in range(config.layers))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The authors' start: cut normal numbers, ends of branches divided by the root of 2l."""
        for part in (self.cls, self.mask_token, self.patches.project.weight):
            cut_normal_(part)
        blocks: Any = self.blocks
        self.patches.project.bias.zero_()           # type: ignore[union-attr]
        for l, block in enumerate(blocks, start=1):
            ends = (block.attention.out, block.feed_forward.outer)
            for linear in (*ends, block.feed_forward.inner):
                cut_normal_(linear.weight)
                nn.init.zeros_(linear.bias)
            cut_normal_(block.attention.weight)
            for linear in ends:
                linear.weight.div_(math.sqrt(2 * l))

    def embed(
        self, images: Float[Tensor, "b 3 y x"], mask: Bool[Tensor, "b p"] | None = None
    ) -> Float[Tensor, "b t d"]:
        """What the first block reads: the class token, then patches or the vector in their place."""
        if images.shape[-1] != images.shape[-2]:
            raise ValueError(f"images are {images.shape[-2]} x {images.shape[-1]} pixels, the tables of "
                             f"offsets are square; crop them to squares")
        patches = self.patches(images)
        if mask is not None:
            if mask.shape != patches.shape[:2]:
                raise ValueError(f"the mask is {tuple(mask.shape)}, the patches are "
                                 f"{tuple(patches.shape[:2])}; give one truth value a patch")
            patches = with_mask(patches, mask, self.mask_token)
        return torch.cat([self.cls.expand(len(patches), 1, -1), patches], dim=1)

    def biases(self, grid: int) -> list[Float[Tensor, "h t t"]]:
        """What every block adds to its scores: offsets of the shared table, or of its own."""
        if self.table is not None:
            return [offset_bias(resize_table(self.table, grid), grid)] * len(self.blocks)
        tables: list[Any] = [block.table for block in self.blocks]
        return [offset_bias(resize_table(table, grid), grid) for table in tables]

    def ends(
        self, images: Float[Tensor, "b 3 y x"],
        mask: Bool[Tensor, "b p"] | None = None,
        places: Int[Tensor, "b q"] | None = None, last: int | None = None,
    ) -> list[Float[Tensor, "b _ d"]]:
        """The ends of the ``last`` blocks (of all), class token included; the
        last one only at ``places``."""
        x, total = self.embed(images, mask), len(self.blocks)
        biases = self.biases(math.isqrt(x.shape[1] - 1))
        kept = []
        for i, (block, R) in enumerate(zip(self.blocks, biases), start=1):
            x = block(x, R, places if i == total else None)
            if last is None or i > total - last:
                kept.append(x)
        return kept

    def tokens(
        self, images: Float[Tensor, "b 3 y x"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        return self.ends(images, mask, last=1)[0]

    def forward(
        self, images: Float[Tensor, "b 3 y x"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "b p d"]:
        return self.tokens(images, mask)[:, 1:]

    def layers(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> tuple[Float[Tensor, "b p d"], ...]:
        return tuple(x[:, 1:] for x in self.ends(images))

    def features(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b d"]:
        """eq:mean-pool: the mean of the patches' states, what fine-tuning classifies; no softmax in it."""
        return mean_pool(self.tokens(images))

    def hidden_states(
        self, images: Float[Tensor, "b 3 y x"], mask: Bool[Tensor, "b p"]
    ) -> Float[Tensor, "n d"]:
        """An optimisation: ``forward(images, mask)[mask]``, the last block
        being computed at hidden patches only."""
        places, real = places_of(mask)
        return self.ends(images, mask, places, last=1)[0][real]

    def hidden_layers(
        self, images: Float[Tensor, "b 3 y x"], at: Bool[Tensor, "b p"],
        last: int,
    ) -> tuple[Float[Tensor, "n d"], ...]:
        """An optimisation: the ``last`` of ``layers(images)`` at the patches
        ``at`` of pictures that are seen whole."""
        places, real = places_of(at)
        *before, end = self.ends(images, None, places, last)
        return (*(x[:, 1:][at] for x in before), end[real])

    @torch.no_grad()
    def attention_maps(self, images: Float[Tensor, "b 3 y x"]) -> list[Float[Tensor, "b h t t"]]:
        """The attention weights of every block, class token first."""
        x, maps = self.embed(images), []
        for block, R in zip(self.blocks, self.biases(math.isqrt(x.shape[1] - 1))):
            attention: Any = block.attention
            maps.append(attention.weights(block.attention_norm(x), R[None]))    # type: ignore[operator]
            x = block(x, R)
        return maps


def mean_pool(tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
    r"""eq:mean-pool: $\frac1p\sum_{i=1}^p z_i$, all patches alike, the class token left
    out."""
    return tokens[:, 1:].mean(dim=1)


def places_of(mask: Bool[Tensor, "b p"]) -> tuple[Int[Tensor, "b q"], Bool[Tensor, "b q"]]:
    """Positions (the class token being 0) of the patches that ``mask`` names, filled up with zeros to the
    longest row, and which of them are real."""
    counts = mask.sum(dim=1)
    q = int(counts.max())
    order = torch.sort(mask.int(), dim=1, descending=True, stable=True).indices[:, :q]
    real = torch.arange(q, device=mask.device) < counts[:, None]
    return torch.where(real, order + 1, 0), real


class MaskedHead(nn.Module):
    """What a learner says of patches: normalisation, then a linear layer: (…, d) -> (…, o).

    data2vec says a vector of the width, BEiT scores codes; ``out`` 0 leaves the linear layer away.
    """

    def __init__(self, width: int, out: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm = LayerNorm32(width, eps=eps)
        self.out = nn.Linear(width, out) if out else nn.Identity()
        if isinstance(self.out, nn.Linear):
            cut_normal_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, states: Float[Tensor, "*n d"]) -> Float[Tensor, "*n o"]:
        return self.out(self.norm(states))


class MaskedBEiT(nn.Module):
    """An encoder and its head, as pre-training leaves them: images (b, 3, s, s) -> (b, p, o).

    ``out`` numbers a patch: the width (data2vec), codes (BEiT), or 0 for the normalised states themselves.
    """

    def __init__(self, config: BEiTConfig, out: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = BEiT(config)
        self.head = MaskedHead(config.width, out, config.eps)

    def forward(
        self, images: Float[Tensor, "b 3 y x"], mask: Bool[Tensor, "b p"] | None = None
    ) -> Float[Tensor, "b p o"]:
        return self.head(self.encoder(images, mask))


class BEiTClassifier(nn.Module):
    """An encoder and what fine-tuning puts on it: images (b, 3, s, s) -> logits (b, c).

    The mean of the patches (eq:mean-pool) is normalised, then projected; ``classes`` 0 gives the normalised
    mean itself.
    """

    def __init__(self, config: BEiTConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = BEiT(config)
        self.head = MaskedHead(config.width, classes, config.eps)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        return self.head(self.encoder.features(images))
