"""Transformer layers: attention and a feed-forward net, each with a residual connection and layer normalisation.

Paper: A. Vaswani et al. (2017), *Attention Is All You Need*, arXiv:1706.03762, sec. 3.1.  Survey: 1.2.
Differs from the paper: dropout follows each sub-layer and the activation, never the attention weights or embeddings.
Pre-norm layers (R. Xiong et al., 2020, arXiv:2002.04745) normalise before the sub-layer instead of after the sum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import LayerCache, MultiHeadAttention

NormKind = Literal["post", "pre"]
Record = dict[str, Any]                     # what a figure needs: name -> attention weights or gates


@dataclass
class Context:
    """What a decoder reads: the outputs of the encoder's layers, and which of their rows are real.

    ``copies`` rows of tokens stand for each image (beams or captions), without copying the image.
    """

    levels: Float[Tensor, "b n p d"]              # outputs of the encoder's layers, first to last
    mask: Bool[Tensor, "b p"] | None = None       # True = a real region
    copies: int = 1

    @property
    def rows(self) -> int:
        """Rows of tokens that belong to this context."""
        return self.levels.shape[0] * self.copies

    @property
    def device(self) -> torch.device:
        """Where tokens must be."""
        return self.levels.device

    def repeat(self, k: int) -> "Context":
        """The same images with ``k`` rows of tokens for each row there was, standing together; nothing is copied."""
        return Context(self.levels, self.mask, self.copies * k)

    def select(self, index: Int[Tensor, " rows"]) -> "Context":
        """The context of the rows ``index`` (in this order, repeats allowed); the images are copied."""
        images = index // self.copies
        return Context(self.levels[images], None if self.mask is None else self.mask[images])


def feed_forward(
    x: Float[Tensor, "*b d"],
    V: Float[Tensor, "f d"],
    b: Float[Tensor, " f"],
    U: Float[Tensor, "d f"],
    c: Float[Tensor, " d"],
) -> Float[Tensor, "*b d"]:
    r"""eq:ffn: $\mathcal F(x)=U\,\mathrm{ReLU}(Vx+b)+c$, the same for every position."""
    return torch.relu(x @ V.mT + b) @ U.mT + c


def quick_gelu(z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:quick-gelu: $z\,\sigma(1.702\,z)$, CLIP's approximation of GELU; written as SiLU it keeps one tensor instead of two."""
    return F.silu(1.702 * z) / 1.702


class QuickGELU(nn.Module):
    """The activation eq:quick-gelu as a module: any shape."""

    def forward(self, z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return quick_gelu(z)


class LayerNorm32(nn.LayerNorm):
    """Layer normalisation computed in float32 at least, whatever the input; the result has the dtype of the input."""

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        if x.dtype in (torch.float32, torch.float64):
            return super().forward(x)
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps).to(x.dtype)


class FeedForward(nn.Module):
    """Widen, activate, narrow (eq:ffn): (…, d) -> (…, d); ``hidden`` is the inner width."""

    def __init__(
        self, width: int, hidden: int, dropout: float = 0.0, activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.activation = activation()
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(hidden, width)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return self.outer(self.dropout(self.activation(self.inner(x))))


def add_norm(x: Float[Tensor, "*#b d"], update: Float[Tensor, "*b d"], norm: nn.Module) -> Float[Tensor, "*b d"]:
    r"""eq:add-norm: $\mathrm{LN}(x+f(x))$, the update being $f(x)$ after dropout (post-norm)."""
    return norm(x + update)


def pre_norm(
    x: Float[Tensor, "*b d"], f: Callable[[Tensor], Tensor], norm: Callable[[Tensor], Tensor]
) -> Float[Tensor, "*b d"]:
    r"""eq:pre-norm: $x+f(\mathrm{LN}(x))$: the sub-layer $f$ reads a normalised state, the sum stays as it is."""
    return x + f(norm(x))


def self_attention(
    attend: nn.Module,
    x: Float[Tensor, "b t d"],
    mask: Bool[Tensor, "b s"] | Bool[Tensor, "b t s"] | None,
    causal: bool,
    cache: LayerCache | None,
    record: Record | None,
    name: str,
) -> Float[Tensor, "b t d"]:
    """Self-attention of a layer; with ``record`` its weights are kept there under ``name``."""
    if record is None:
        return attend(x, mask=mask, causal=causal, cache=cache)
    update, record[name] = attend(x, mask=mask, causal=causal, cache=cache, return_weights=True)
    return update


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each with residual and normalisation (eq:add-norm): (b, p, d) -> (b, p, d).

    ``norm`` "post" normalises the sum (Vaswani et al., M2), "pre" the input of each sub-layer. ``attention`` replaces
    the plain multi-head attention (M2 puts its memory there), ``layer_norm`` the normalisation (CLIP's is in float32).
    With ``causal`` it is a decoder-only layer. ``at`` (b,) asks for one position a row only, (b, 1, d): where nothing else
    of the last layer is read, five sixths of its work are saved (pre-norm with plain attention).
    """

    def __init__(
        self, width: int, heads: int, ff: int, dropout: float = 0.0, norm: NormKind = "post",
        activation: Callable[[], nn.Module] = nn.ReLU, attention: nn.Module | None = None,
        layer_norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.attention = MultiHeadAttention(width, heads) if attention is None else attention
        self.attention_norm = layer_norm(width)
        self.feed_forward = FeedForward(width, ff, dropout, activation)
        self.feed_forward_norm = layer_norm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b s"] | Bool[Tensor, "b t s"] | None = None,
        *,
        causal: bool = False,
        cache: LayerCache | None = None,
        record: Record | None = None,
        name: str = "encoder.0",
        at: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t_or_1 d"]:
        name = f"{name}.attention"
        if at is not None:
            return self.forward_at(x, at, causal)
        if self.norm == "pre":
            x = pre_norm(x, lambda z: self.dropout(self_attention(self.attention, z, mask, causal, cache, record, name)),
                         self.attention_norm)
            return pre_norm(x, lambda z: self.dropout(self.feed_forward(z)), self.feed_forward_norm)
        update = self_attention(self.attention, x, mask, causal, cache, record, name)
        x = add_norm(x, self.dropout(update), self.attention_norm)
        return add_norm(x, self.dropout(self.feed_forward(x)), self.feed_forward_norm)


    def forward_at(self, x: Float[Tensor, "b t d"], at: Int[Tensor, " b"], causal: bool) -> Float[Tensor, "b 1 d"]:
        """Row ``at[i]`` of the output i: keys and values of all positions, everything else of one."""
        attend = self.attention
        if self.norm != "pre" or not isinstance(attend, MultiHeadAttention) or type(attend) is not MultiHeadAttention:
            raise ValueError(f"single positions need norm='pre' and plain attention, this layer has norm={self.norm!r} and "
                             f"{type(attend).__name__}; compute all positions")
        rows, z = torch.arange(len(x), device=x.device), self.attention_norm(x)
        mask = (torch.arange(x.shape[1], device=x.device) <= at[:, None])[:, None, None] if causal else None
        q, (k, v) = attend.project_queries(z[rows, at][:, None]), attend.project_source(z)
        x = x[rows, at][:, None] + self.dropout(attend.out(attend.attend(q, k, v, mask)[0]))
        return pre_norm(x, lambda z: self.dropout(self.feed_forward(z)), self.feed_forward_norm)


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the image, feed-forward: (r, t, d) -> (r, t, d).

    ``source`` (b, p, d) is what cross-attention reads, r = b g rows; ``mask`` (b, p) says which of it is real.
    With ``cache`` only new positions are given, and the image's keys and values are projected once.
    """

    def __init__(
        self, width: int, heads: int, ff: int, dropout: float = 0.0, norm: NormKind = "post",
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.self_attention = MultiHeadAttention(width, heads)
        self.self_norm = nn.LayerNorm(width)
        self.cross_attention = MultiHeadAttention(width, heads)
        self.cross_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, ff, dropout, activation)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def read(
        self, x: Float[Tensor, "r t d"], source: Float[Tensor, "b p d"], mask: Bool[Tensor, "b p"] | None,
        cache: LayerCache | None, record: Record | None, name: str,
    ) -> Float[Tensor, "r t d"]:
        """Cross-attention; its weights (r, h, t, p) are recorded as ``name.cross``."""
        keys, values = source_keys(self.cross_attention, source[:, None], cache)
        read, weights = self.cross_attention.cross(x, keys, values, mask, weights=record is not None)
        if record is not None and weights is not None:
            record[f"{name}.cross"] = weights[:, 0]
        return read[:, 0]

    def forward(
        self,
        x: Float[Tensor, "r t d"],
        source: Float[Tensor, "b p d"],
        mask: Bool[Tensor, "b p"] | None = None,
        *,
        cache: LayerCache | None = None,
        record: Record | None = None,
        name: str = "decoder.0",
    ) -> Float[Tensor, "r t d"]:
        own = f"{name}.self"
        if self.norm == "pre":
            update = self_attention(self.self_attention, self.self_norm(x), None, True, cache, record, own)
            x = x + self.dropout(update)
            x = x + self.dropout(self.read(self.cross_norm(x), source, mask, cache, record, name))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        update = self_attention(self.self_attention, x, None, True, cache, record, own)
        x = add_norm(x, self.dropout(update), self.self_norm)
        x = add_norm(x, self.dropout(self.read(x, source, mask, cache, record, name)), self.cross_norm)
        return add_norm(x, self.dropout(self.feed_forward(x)), self.feed_forward_norm)


def source_keys(
    attend: MultiHeadAttention, levels: Float[Tensor, "b n p d"], cache: LayerCache | None
) -> tuple[Float[Tensor, "b n h p e"], Float[Tensor, "b n h p e"]]:
    """Keys and values of the image for one decoder layer, projected at the first step and kept in ``cache``."""
    if cache is not None and cache.source is not None:
        return cache.source
    projected = attend.project_source(levels)
    if cache is not None:
        cache.source = projected
    return projected


class InputProjection(nn.Module):
    r"""eq:grid-projection: $\mathrm{LN}(\mathrm{Drop}(\mathrm{ReLU}(XW_e+b_e)))$, image features (b, p, f) -> (b, p, d)."""

    def __init__(self, features: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Float[Tensor, "b p f"]) -> Float[Tensor, "b p d"]:
        return self.norm(self.dropout(torch.relu(self.linear(features))))
