"""Transformer layers: attention and a feed-forward net, each with a residual connection and layer
normalisation.

Paper: A. Vaswani et al. (2017), *Attention Is All You Need*, arXiv:1706.03762, sec. 3.1.  Survey: 1.2.
Differs from the paper: dropout follows each sub-layer and the activation, never the attention weights or
embeddings. Pre-norm layers (R. Xiong et al., 2020, arXiv:2002.04745) normalise before the sub-layer instead
of after the sum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import CrossAttention, MultiHeadAttention


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
        """The same images with ``k`` rows of tokens for each row there was, standing together; nothing is
        copied."""
        return Context(self.levels, self.mask, self.copies * k)

    def select(self, index: Int[Tensor, " rows"]) -> "Context":
        """The context of the rows ``index`` (in this order, repeats allowed); the images are copied."""
        images = index // self.copies
        return Context(self.levels[images], None if self.mask is None else self.mask[images])


def feed_forward(
    x: Float[Tensor, "*b d"],
    W_1: Float[Tensor, "d f"],
    b_1: Float[Tensor, " f"],
    W_2: Float[Tensor, "f d"],
    b_2: Float[Tensor, " d"],
    phi: Callable[[Tensor], Tensor] = torch.relu,
) -> Float[Tensor, "*b d"]:
    r"""eq:ffn: $\mathcal F(x)=\mathrm{ReLU}(xW_1+b_1)W_2+b_2$, the same for every position.

    ``F.linear(x, W.mT, b)`` is $xW+b$ in one pass. ``phi`` is the ReLU, in a module followed by dropout.
    """
    hidden = phi(F.linear(x, W_1.mT, b_1))
    return F.linear(hidden, W_2.mT, b_2)


def pre_norm(
    x: Float[Tensor, "*b d"], f: Callable[[Tensor], Tensor], norm: Callable[[Tensor], Tensor]
) -> Float[Tensor, "*b d"]:
    r"""eq:pre-norm: $x+f(\mathrm{LN}(x))$: the sub-layer $f$ reads a normalised state, the sum stays as it
    is."""
    return x + f(norm(x))


def quick_gelu(z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:quick-gelu: $z\,\sigma(1.702\,z)$, CLIP's approximation of GELU; as SiLU it keeps one tensor, not
    two."""
    return F.silu(1.702 * z) / 1.702


def fused_quick_feed_forward(
    x: Float[Tensor, "*b d"],
    W_1: Float[Tensor, "d f"],
    b_1: Float[Tensor, " f"],
    W_2: Float[Tensor, "f d"],
    b_2: Float[Tensor, " d"],
) -> Float[Tensor, "*b d"]:
    """An optimisation: ``feed_forward`` with ``quick_gelu`` and no gradient: both factors of the activation
    are applied by the products, and the activation writes over what it reads."""
    hidden = torch.addmm(b_1, x.reshape(-1, x.shape[-1]), W_1, beta=1.702, alpha=1.702)
    hidden = F.silu(hidden, inplace=True)
    return torch.addmm(b_2, hidden, W_2, alpha=1 / 1.702).view(*x.shape[:-1], W_2.shape[1])


def gelu(z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:gelu: $z\,\Phi(z)=\frac z2\big(1+\mathrm{erf}(z/\sqrt2)\big)$, z times how likely a standard
    normal number is below it."""
    return F.gelu(z)


def gelu_tanh(z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:gelu-tanh: $\frac z2\big(1+\tanh(\sqrt{2/\pi}\,(z+0.044715\,z^3))\big)$, within 0.0005 of
    eq:gelu."""
    return F.gelu(z, approximate="tanh")


class GELU(nn.Module):
    """The activation eq:gelu (``form`` "erf") or eq:gelu-tanh ("tanh") as a module: any shape."""

    def __init__(self, form: str = "erf") -> None:
        super().__init__()
        if form not in ("erf", "tanh"):
            raise ValueError(f"form {form!r} of GELU is unknown; use erf or tanh")
        self.form = form

    def forward(self, z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return gelu(z) if self.form == "erf" else gelu_tanh(z)


class QuickGELU(nn.Module):
    """The activation eq:quick-gelu as a module: any shape."""

    def forward(self, z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return quick_gelu(z)


class LayerNorm32(nn.LayerNorm):
    """Layer normalisation computed in float32 at least, whatever the input; the result has the dtype of the
    input."""

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        if x.dtype in (torch.float32, torch.float64):
            return super().forward(x)
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


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

    def activate(self, z: Float[Tensor, "*b f"]) -> Float[Tensor, "*b f"]:
        """The activation, with dropout in training."""
        return self.dropout(self.activation(z))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        W_1, W_2 = self.inner.weight.mT, self.outer.weight.mT
        if isinstance(self.activation, QuickGELU) and not (self.training or torch.is_grad_enabled()):
            return fused_quick_feed_forward(x, W_1, self.inner.bias, W_2, self.outer.bias)
        return feed_forward(x, W_1, self.inner.bias, W_2, self.outer.bias, self.activate)


class EncoderLayer(nn.Module):
    r"""eq:add-norm: $\mathrm{LN}(x+f(x))$ for f = self-attention, then f = feed-forward: (b, t, d) -> (b, t,
    d).

    So do Vaswani et al., M2 and BERT (post-norm). ``attention`` replaces the plain multi-head attention (M2
    puts its memory there), ``layer_norm`` the normalisation. ``mask`` (b, t) says which positions are real.
    """

    def __init__(
        self, width: int, heads: int, ff: int, dropout: float = 0.0,
        activation: Callable[[], nn.Module] = nn.ReLU,
        attention: MultiHeadAttention | None = None,
        layer_norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.attention = attention or MultiHeadAttention(width, heads)
        self.attention_norm = layer_norm(width)
        self.feed_forward = FeedForward(width, ff, dropout, activation)
        self.feed_forward_norm = layer_norm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class PreNormEncoderLayer(EncoderLayer):
    r"""eq:pre-norm: $x+f(\mathrm{LN}(x))$ in both parts, as GPT-2 and CLIP have it: (b, t, d) -> (b, t,
    d)."""

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def forward_at(self, x: Float[Tensor, "b t d"], at: Int[Tensor, " b"]) -> Float[Tensor, "b 1 d"]:
        """An optimisation: row ``at[i]`` of output i alone, for a last layer of which nothing else is read.

        Keys and values are computed for all positions, everything else for one: a sixth of the work. A
        recorder gets the weights of all positions. Raises ``ValueError`` for another attention than the plain
        one.
        """
        attend, rows = self.attention, torch.arange(len(x), device=x.device)
        if type(attend) is not MultiHeadAttention:
            raise ValueError(
                f"single positions need plain attention, this layer has {type(attend).__name__}; "
                "compute all positions")
        if "attend" in vars(attend):
            return self(x)[rows, at][:, None]
        z = self.attention_norm(x)
        Q, (K, V) = attend.project_queries(z[rows, at][:, None]), attend.project_source(z)
        past = torch.arange(x.shape[1], device=x.device) <= at[:, None] if attend.causal else None
        read = attend.attend(Q, K, V, None if past is None else past[:, None, None])
        x = x[rows, at][:, None] + self.dropout(attend.out(attend.join(read)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention, feed-forward, each as in eq:add-norm: (r, t, d) -> (r, t, d).

    ``source`` (b, p, d) is what cross-attention reads, r = b g rows; ``mask`` (b, p) says which of it is
    real. Inside a ``KVCache`` only new positions are given, and the image's keys and values are projected
    once.
    """

    def __init__(
        self, width: int, heads: int, ff: int, dropout: float = 0.0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(width, heads, causal=True)
        self.self_norm = nn.LayerNorm(width)
        self.cross_attention = CrossAttention(width, heads)
        self.cross_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, ff, dropout, activation)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "r t d"],
        source: Float[Tensor, "b p d"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "r t d"]:
        x = self.self_norm(x + self.dropout(self.self_attention(x)))
        read = self.cross_attention(x, source, mask)
        x = self.cross_norm(x + self.dropout(read))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class PreNormDecoderLayer(DecoderLayer):
    """The same with eq:pre-norm in each of its three parts."""

    def forward(
        self,
        x: Float[Tensor, "r t d"],
        source: Float[Tensor, "b p d"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "r t d"]:
        x = x + self.dropout(self.self_attention(self.self_norm(x)))
        read = self.cross_attention(self.cross_norm(x), source, mask)
        x = x + self.dropout(read)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class InputProjection(nn.Module):
    r"""eq:grid-projection: $\mathrm{LN}(\mathrm{Drop}(\mathrm{ReLU}(XW_e+b_e)))$, image features (b, p, f) ->
    (b, p, d)."""

    def __init__(self, features: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Float[Tensor, "b p f"]) -> Float[Tensor, "b p d"]:
        return self.norm(self.dropout(torch.relu(self.linear(features))))
