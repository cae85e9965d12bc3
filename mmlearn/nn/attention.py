"""Attention: every query reads a weighted mean of values, the weights being given by how well its key fits.

Paper: A. Vaswani et al. (2017), *Attention Is All You Need*, arXiv:1706.03762, sec. 3.2.  Survey: 1.2.
Differs from the paper: a query that may attend to nothing reads zeros (the formula would divide by zero), and
there is no dropout on the weights.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
Attend = Callable[..., Tensor]              # (Q, K, V, mask or None) -> what the queries read


# -------------------------------------------------------------------------------------------------- equations


def attention_weights(
    Q: Float[Tensor, "*#n t e"], K: Float[Tensor, "*#n s e"], mask: Bool[Tensor, "*#m t_or_1 s"] | None = None
) -> Float[Tensor, "*n t s"]:
    r"""The weights of eq:attention: $\mathrm{softmax}(QK^\top/\sqrt{d_k})$; ``mask`` True = may be attended
    to.

    A row of the mask that is all False gives a row of zeros.
    """
    scores = Q @ K.mT / math.sqrt(Q.shape[-1])
    if mask is None:
        return scores.softmax(dim=-1)
    empty = ~mask.any(dim=-1, keepdim=True)
    weights = scores.masked_fill(~mask, -math.inf).masked_fill(empty, 0.0).softmax(dim=-1)
    return weights.masked_fill(empty, 0.0)


def attention(
    Q: Float[Tensor, "*#n t e"],
    K: Float[Tensor, "*#n s e"],
    V: Float[Tensor, "*#n s v"],
    mask: Bool[Tensor, "*#m t_or_1 s"] | None = None,
) -> Float[Tensor, "*n t v"]:
    r"""eq:attention: $\mathrm{softmax}(QK^\top/\sqrt{d_k})\,V$, as the formula stands."""
    return attention_weights(Q, K, mask) @ V


def causal_mask(
    t: int, s: int | None = None, device: torch.device | str | None = None
) -> Bool[Tensor, "t s"]:
    """True where query i (the i-th of the last ``t`` of ``s`` positions) may see key j: j at or before i."""
    s = t if s is None else s
    return torch.ones(t, s, dtype=torch.bool, device=device).tril(s - t)


# ------------------------------------------------------------------------------------------------ fused twins


def fused_attention(
    Q: Float[Tensor, "b h t e"],
    K: Float[Tensor, "b h s e"],
    V: Float[Tensor, "b h s e"],
    mask: Bool[Tensor, "#b #h t_or_1 s"] | None = None,
) -> Float[Tensor, "b h t e"]:
    """An optimisation: ``attention`` by PyTorch's fused kernel, which never stores the weights.

    Not where the way back through that kernel is the slower: on a CPU in half precision, up to 512 x 512
    weights a head."""
    if (Q.device.type == "cpu" and Q.dtype == torch.bfloat16 and Q.shape[-2] * K.shape[-2] <= 512 * 512
            and torch.is_grad_enabled() and (Q.requires_grad or K.requires_grad or V.requires_grad)):
        return attention(Q, K, V, mask).to(Q.dtype)
    return F.scaled_dot_product_attention(Q, K, V, attn_mask=mask)


def fused_cross_attention(
    Q: Float[Tensor, "b g *ones h t e"],
    K: Float[Tensor, "b 1 *n h s e"],
    V: Float[Tensor, "b 1 *n h s e"],
    mask: Bool[Tensor, "b *ones_too s"] | None = None,
) -> Float[Tensor, "b g *n h t e"]:
    """An optimisation: ``attention`` of g rows to the keys that they share, by PyTorch's fused kernel.

    The queries of the g rows of an image become one long list, so that its keys and values are not copied g
    times.
    """
    b, g, *_, h, t, e = Q.shape
    n = K.shape[2:-3]
    Q = Q.reshape(b, g, h, t, e).transpose(1, 2).reshape(b, *[1] * len(n), h, g * t, e)
    Q = Q.expand(b, *n, h, -1, -1)
    if mask is not None:
        mask = mask[:, 0].expand(b, *n, 1, 1, -1).flatten(0, -4)
    read = fused_attention(Q.flatten(0, -4), K.flatten(0, -4), V.flatten(0, -4), mask)
    return read.view(b, *n, h, g, t, e).movedim(-3, 1)


# ----------------------------------------------------------------------------------------------------- layers


class MultiHeadAttention(nn.Module):
    """Self-attention in ``heads`` parts of the width, side by side (eq:multi-head): (b, t, d) -> (b, t, d).

    ``mask`` is (b, t), the positions that exist, or (b, t, t); True = may be attended to. With ``causal`` a
    position sees itself and those before it, and inside a ``KVCache`` only new positions are given. The three
    input projections are one matrix, so that they are one multiplication; each third is initialised on its
    own. ``attend`` is the fused twin of ``attention``, or records its weights inside ``record_attention``.
    Raises ``ValueError`` if ``heads`` does not divide ``width``.
    """

    attend: Attend = staticmethod(fused_attention)
    cache: "KVCache | None" = None

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"width {width} is not a multiple of heads {heads}; choose heads that divide the width")
        self.width, self.heads, self.causal = width, heads, causal
        self.keeps_past = causal
        self.in_weight = nn.Parameter(torch.empty(3 * width, width))      # rows: queries, keys, values
        self.in_bias = nn.Parameter(torch.zeros(3 * width))
        self.out = self.make_out()
        for block in self.in_weight.detach().chunk(3):
            nn.init.xavier_uniform_(block)

    def make_out(self) -> nn.Linear:
        """The output projection, Xavier-uniform with zero bias."""
        out = nn.Linear(self.width, self.width)
        nn.init.xavier_uniform_(out.weight)
        nn.init.zeros_(out.bias)
        return out

    def extra_repr(self) -> str:
        return f"width={self.width}, heads={self.heads}"

    def split(self, x: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b h t e"]:
        """Cut the width into heads: b t (h e) -> b h t e."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def join(self, x: Float[Tensor, "*b h t e"]) -> Float[Tensor, "*b t d"]:
        """Put the heads side by side again: b h t e -> b t (h e)."""
        return x.transpose(-3, -2).flatten(-2)

    def project_queries(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b h t e"]:
        """Queries alone."""
        return self.split(F.linear(x, self.in_weight[: self.width], self.in_bias[: self.width]))

    def project_source(
        self, source: Float[Tensor, "*b s d"]
    ) -> tuple[Float[Tensor, "*b h s e"], Float[Tensor, "*b h s e"]]:
        """Keys and values of what is attended to."""
        K, V = F.linear(source, self.in_weight[self.width :], self.in_bias[self.width :]).chunk(2, dim=-1)
        return self.split(K), self.split(V)

    def project_all(
        self, x: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b h t e"], Float[Tensor, "b h t e"]]:
        """Queries, keys and values of self-attention in one multiplication."""
        Q, K, V = F.linear(x, self.in_weight, self.in_bias).chunk(3, dim=-1)
        return self.split(Q), self.split(K), self.split(V)

    def project_out(
        self, read: Float[Tensor, "*b t d"], queries: Float[Tensor, "*b t d"]
    ) -> Float[Tensor, "*b t o"]:
        """What leaves the layer; ``queries`` are there for attentions whose output depends on them."""
        return self.out(read)

    def read(
        self, Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"], V: Float[Tensor, "b h s e"],
        mask: Bool[Tensor, "#b 1 t_or_1 s"] | None,
    ) -> Float[Tensor, "b h t e"]:
        """eq:attention in each head."""
        return self.attend(Q, K, V, mask)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b s"] | Bool[Tensor, "b t s"] | None = None
    ) -> Float[Tensor, "b t d"]:
        Q, K, V = self.project_all(x)
        if self.cache is not None:
            K, V = self.cache.extend(self, K, V)
        read = self.read(Q, K, V, head_mask(mask, Q.shape[2], K.shape[2], self.causal, x.device))
        return self.project_out(self.join(read), x)


def head_mask(
    mask: Bool[Tensor, "b s"] | Bool[Tensor, "b t s"] | None, t: int, s: int, causal: bool,
    device: torch.device,
) -> Bool[Tensor, "b_or_1 1 t_or_1 s"] | None:
    """A mask of keys (b, s) or of pairs (b, t, s), and the past if ``causal``, shaped to broadcast over
    heads."""
    if mask is not None:
        mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
    if not causal or t == 1:                                # the newest position sees everything before it
        return mask
    past = causal_mask(t, s, device)[None, None]
    return past if mask is None else mask & past


class CrossAttention(MultiHeadAttention):
    """eq:m2-cross: words look at images, (r, t, d) and (b, s, d) -> (r, t, d), for r = b g rows of words, g
    an image.

    The g rows of an image (its captions, or beams) stand together. ``source`` may also be several things an
    image, (b, n, s, d) -> (r, n, t, d); ``mask`` (b, s) says which of an image is real. Inside a ``KVCache``
    keys and values are projected once. Recorded weights are (b, g, h, t, s) or (b, g, n, h, t, s). Raises
    ``ValueError`` if the rows are not a multiple of the images.
    """

    attend: Attend = staticmethod(fused_cross_attention)

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.keeps_past = True

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "r t d"], source: Float[Tensor, "b *n s d"],
        mask: Bool[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "r *n t o"]:
        b, *n, s, _ = source.shape
        if len(x) % b:
            raise ValueError(
                f"{len(x)} rows of tokens for {b} images; give each image the same number of rows")
        K, V = self.project_source(source) if self.cache is None else self.cache.source(self, source)
        ones = [1] * len(n)
        Q = self.project_queries(x)
        Q = Q.reshape(b, -1, *ones, *Q.shape[1:])                          # (b g) h t e -> b g *1 h t e
        mask = None if mask is None else mask.view(b, 1, *ones, 1, 1, s)
        read = self.attend(Q, K[:, None], V[:, None], mask)                # b g *n h t e
        read = self.join(read).flatten(0, 1)                               # (b g) *n t d
        return self.project_out(read, x.view(len(x), *ones, *x.shape[1:]).expand_as(read))


# -------------------------------------------------------------------------------------- while a context lasts


class KVCache:
    """Keys and values that a decoder has projected already, so that a step costs one position instead of all
    of them.

    ``with KVCache(model) as cache:`` each call of ``decode`` gets the new tokens only; causal self-attention
    appends their keys and values to those of earlier tokens, cross-attention projects the image once, and the
    rows (beams, samples) of an image share it. Layers that take part have ``keeps_past``, and find the cache
    in ``cache``.
    """

    def __init__(self, model: Any) -> None:
        self.layers = [layer for layer in model.modules() if getattr(layer, "keeps_past", False)]
        self.past: dict[nn.Module, KeysValues] = {}                        # of tokens, (r, h, t, e)
        self.sources: dict[nn.Module, KeysValues] = {}                     # of images, (b, *n, h, s, e)

    def __enter__(self) -> "KVCache":
        for layer in self.layers:
            layer.cache = self
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self.layers:
            layer.cache = None

    @property
    def length(self) -> int:
        """Number of positions decoded so far."""
        return next((K.shape[-2] for K, _ in self.past.values()), 0)

    def extend(self, layer: nn.Module, K: Tensor, V: Tensor) -> KeysValues:
        """Append the keys and values of new positions; returns those of all positions."""
        if layer in self.past:
            past_K, past_V = self.past[layer]
            K, V = torch.cat([past_K, K], dim=-2), torch.cat([past_V, V], dim=-2)
        self.past[layer] = K, V
        return K, V

    def source(self, layer: MultiHeadAttention, source: Tensor) -> KeysValues:
        """Keys and values of the images, projected at the first step."""
        if layer not in self.sources:
            self.sources[layer] = layer.project_source(source)
        return self.sources[layer]

    def select(self, rows: Int[Tensor, " r"]) -> None:
        """Let row i continue from the past of row ``rows[i]``, which must be a row of the same image (beam
        search)."""
        for layer, (K, V) in self.past.items():
            self.past[layer] = K.index_select(0, rows), V.index_select(0, rows)


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """``with record_attention(model) as weights:`` keeps the attention weights of the last call of each
    layer.

    A key is the name of a layer in ``model.named_modules()``; self-attention has weights (b, h, t, s), for
    cross-attention see ``CrossAttention``. Meanwhile ``attention`` runs as the formula stands; outputs are
    the same.
    """
    weights: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, MultiHeadAttention)}
    for name, layer in layers.items():
        layer.attend = partial(_keep_weights, weights, name)
    try:
        yield weights
    finally:
        for layer in layers.values():
            vars(layer).pop("attend", None)                                # the class's own again


def _keep_weights(
    weights: dict[str, Tensor], name: str, Q: Tensor, K: Tensor, V: Tensor, mask: Tensor | None = None
) -> Tensor:
    """``attention`` in its two steps."""
    weights[name] = attention_weights(Q, K, mask)
    return weights[name] @ V
