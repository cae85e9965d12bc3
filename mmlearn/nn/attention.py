"""Attention: every query reads a weighted mean of values, the weights being given by how well its key fits.

Paper: A. Vaswani et al. (2017), *Attention Is All You Need*, arXiv:1706.03762, sec. 3.2.  Survey: 1.2.
Differs from the paper: a query that may attend to nothing reads zeros (the formula would divide by zero), and there
is no dropout on the weights.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def attention_weights(
    Q: Float[Tensor, "*#n t e"], K: Float[Tensor, "*#n s e"], mask: Bool[Tensor, "*#m t_or_1 s"] | None = None
) -> Float[Tensor, "*n t s"]:
    r"""The weights of eq:attention: $\mathrm{softmax}(QK^\top/\sqrt{d_k})$; ``mask`` True = may be attended to.

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
    r"""eq:attention: $\mathrm{softmax}(QK^\top/\sqrt{d_k})\,V$, as the formula stands (slow, but shows the weights)."""
    return attention_weights(Q, K, mask) @ V


def causal_mask(t: int, s: int | None = None, device: torch.device | str | None = None) -> Bool[Tensor, "t s"]:
    """True where query i (the i-th of the last ``t`` of ``s`` positions) may see key j: j at or before i."""
    s = t if s is None else s
    return torch.ones(t, s, dtype=torch.bool, device=device).tril(s - t)


@dataclass
class LayerCache:
    """What one decoder layer has already projected: its own past (rows, h, t, e), and the image's (b, n, h, s, e)."""

    keys: Tensor | None = None
    values: Tensor | None = None
    source: tuple[Tensor, Tensor] | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new positions; returns those of all positions."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


@dataclass
class KVCache:
    """Projected keys and values of a decoder, so that a step costs one position instead of all of them.

    Give a new ``KVCache()`` to the first call of ``decode`` and the same object to each later one, together with the
    new tokens only. Keys and values of the image are projected once, at the first call, and are shared by the rows
    (beams, samples) of an image.
    """

    layers: list[LayerCache] = field(default_factory=list)

    def layer(self, index: int) -> LayerCache:
        """The cache of decoder layer ``index`` (made at first use)."""
        while len(self.layers) <= index:
            self.layers.append(LayerCache())
        return self.layers[index]

    @property
    def length(self) -> int:
        """Number of positions decoded so far."""
        if not self.layers or self.layers[0].keys is None:
            return 0
        return self.layers[0].keys.shape[2]

    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Let row i continue from the past of row ``index[i]``, which must be a row of the same image (beam search)."""
        for layer in self.layers:
            if layer.keys is not None and layer.values is not None:
                layer.keys = layer.keys.index_select(0, index)
                layer.values = layer.values.index_select(0, index)


class MultiHeadAttention(nn.Module):
    """``heads`` attentions side by side, each on its slice of the width (eq:multi-head).

    Input ``queries`` (b, t, d) and ``source`` (b, s, d) (default: the queries themselves); output (b, t, d).
    ``mask`` is (b, s), the keys that exist, or (b, t, s); True = may be attended to; ``causal`` forbids the future.
    With ``cache`` the keys and values of earlier positions are prepended (self-attention only).
    The three input projections are one matrix, so that self-attention is one multiplication; each third is
    initialised on its own. Raises ``ValueError`` if ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}; choose heads that divide the width")
        self.width, self.heads = width, heads
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

    def project_queries(self, queries: Float[Tensor, "b t d"]) -> Float[Tensor, "b h t e"]:
        """Queries alone (cross-attention)."""
        return self.split(F.linear(queries, self.in_weight[: self.width], self.in_bias[: self.width]))

    def project_source(
        self, source: Float[Tensor, "*b s d"]
    ) -> tuple[Float[Tensor, "*b h s e"], Float[Tensor, "*b h s e"]]:
        """Keys and values of what is attended to (done once per image when decoding)."""
        keys, values = F.linear(source, self.in_weight[self.width:], self.in_bias[self.width:]).chunk(2, dim=-1)
        return self.split(keys), self.split(values)

    def project_all(
        self, x: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b h t e"], Float[Tensor, "b h t e"]]:
        """Queries, keys and values of self-attention in one multiplication."""
        q, k, v = F.linear(x, self.in_weight, self.in_bias).chunk(3, dim=-1)
        return self.split(q), self.split(k), self.split(v)

    def project_out(self, values: Float[Tensor, "*b t d"], queries: Float[Tensor, "*c t d"]) -> Float[Tensor, "*b t d"]:
        """What leaves the layer; ``queries`` are there for attentions whose output depends on them."""
        return self.out(values)

    def attend(
        self,
        q: Float[Tensor, "b h t e"],
        k: Float[Tensor, "b h s e"],
        v: Float[Tensor, "b h s e"],
        mask: Bool[Tensor, "#b #h #t s"] | None = None,
        causal: bool = False,
        weights: bool = False,
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b h t s"] | None]:
        """Read the values, by the fused kernel unless the weights are asked for; heads are joined again."""
        t, s = q.shape[2], k.shape[2]
        if causal and (weights or mask is not None or 1 < t < s):
            past = causal_mask(t, s, device=q.device)
            mask = past[None, None] if mask is None else mask & past
            causal = False
        if weights:
            found = attention_weights(q, k, mask)
            read = found @ v
        else:
            found = None
            read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and t > 1)
        return read.transpose(1, 2).flatten(2), found                      # b h t e -> b t (h e)

    def forward(
        self,
        queries: Float[Tensor, "b t d"],
        source: Float[Tensor, "b s d"] | None = None,
        mask: Bool[Tensor, "b s_all"] | Bool[Tensor, "#b t s_all"] | None = None,
        *,
        causal: bool = False,
        cache: LayerCache | None = None,
        return_weights: bool = False,
    ) -> Float[Tensor, "b t d"] | tuple[Float[Tensor, "b t d"], Float[Tensor, "b h t s_all"]]:
        if source is None:
            q, k, v = self.project_all(queries)
        else:
            q, (k, v) = self.project_queries(queries), self.project_source(source)
        if cache is not None:
            k, v = cache.extend(k, v)
        read, found = self.attend(q, k, v, head_mask(mask), causal, return_weights)
        out = self.project_out(read, queries)
        return out if found is None else (out, found)

    def cross(
        self,
        queries: Float[Tensor, "r t d"],
        keys: Float[Tensor, "b n h s e"],
        values: Float[Tensor, "b n h s e"],
        mask: Bool[Tensor, "b s"] | None = None,
        weights: bool = False,
    ) -> tuple[Float[Tensor, "r n t d"], Float[Tensor, "r n h t s"] | None]:
        """eq:m2-cross: attend to ``n`` sources of each of ``b`` images at once, from ``r`` = b g rows (g beams or captions an image).

        The g rows of an image stand together and share its keys and values: they are one long list of queries.
        Raises ``ValueError`` if the rows are not a multiple of the images.
        """
        b, n, h, s, e = keys.shape
        r, t, d = queries.shape
        if r % b:
            raise ValueError(f"{r} rows of tokens for {b} images; give each image the same number of rows")
        g = r // b
        q = self.project_queries(queries)                                  # (b g) h t e
        q = q.unflatten(0, (b, g)).transpose(1, 2).reshape(b, 1, h, g * t, e).expand(b, n, h, g * t, e)
        if mask is not None:
            mask = mask[:, None, None, None, :].expand(b, n, 1, 1, s).flatten(0, 1)
        read, found = self.attend(q.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1), mask, weights=weights)
        read = read.view(b, n, g, t, d).transpose(1, 2).flatten(0, 1)      # (b n) (g t) d -> (b g) n t d
        if found is not None:
            found = found.view(b, n, h, g, t, s).permute(0, 3, 1, 2, 4, 5).flatten(0, 1)
        return self.project_out(read, queries[:, None].expand_as(read)), found


def head_mask(
    mask: Bool[Tensor, "b s"] | Bool[Tensor, "b t s"] | None,
) -> Bool[Tensor, "b 1 t_or_1 s"] | None:
    """A mask of keys (b, s) or of pairs (b, t, s), shaped to broadcast over heads."""
    if mask is None:
        return None
    return mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
