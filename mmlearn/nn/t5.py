r"""T5's encoder: a Transformer that knows distances instead of positions, as Imagen reads its texts with.

Paper: C. Raffel et al. (2020), *Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer*, JMLR 21, arXiv:1910.10683, sec. 2.1; N. Shazeer (2020), *GLU Variants Improve Transformer*,
arXiv:2002.05202 (the gated feed-forward net of version 1.1); B. Zhang and R. Sennrich (2019), *Root Mean
Square Layer Normalization*, arXiv:1910.07467.  Survey: 2.3.1.
Differs from the paper: the encoder of version 1.1 alone, without dropout, since whoever uses it here keeps it
frozen. The three input projections of an attention are one matrix. A query that may read nothing reads zeros.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.positions import check_tokens


@dataclass(frozen=True)
class T5Config:
    vocab: int = 32_128         # tokens of the SentencePiece vocabulary, padded to a multiple of 128
    width: int = 4096           # d, size of a token state
    heads: int = 64             # h
    head: int = 64              # d_k, size of a head's queries and keys; h d_k need not be d
    ff: int = 10_240            # d_ff, inner width of the feed-forward net
    layers: int = 24
    buckets: int = 32           # kinds of distances that are told apart, half of them for each direction
    distance: int = 128         # from this distance on all are one kind
    eps: float = 1e-6           # of the normalisation

    def __post_init__(self) -> None:
        check(self, buckets=(4, 4096))
        if self.buckets % 4 or self.distance <= self.buckets // 4:
            raise FieldError("T5Config", "buckets", f"is {self.buckets} for a distance of {self.distance}; "
                             "choose a multiple of 4 that is less than four times the distance")

    @classmethod
    def xxl(cls) -> "T5Config":
        """T5-XXL, version 1.1, the encoder of Imagen: 4,762,310,656 parameters."""
        return cls()

    @classmethod
    def xl(cls) -> "T5Config":
        """T5-XL, version 1.1."""
        return cls(width=2048, heads=32, ff=5120)

    @classmethod
    def large(cls) -> "T5Config":
        """T5-Large, version 1.1."""
        return cls(width=1024, heads=16, ff=2816)

    @classmethod
    def base(cls) -> "T5Config":
        """T5-Base, version 1.1."""
        return cls(width=768, heads=12, ff=2048, layers=12)

    @classmethod
    def small(cls) -> "T5Config":
        """T5-Small, version 1.1."""
        return cls(width=512, heads=6, ff=1024, layers=8)

    @classmethod
    def mini(cls, vocab: int = 400) -> "T5Config":
        """A miniature for the scene world."""
        return cls(vocab, 64, 4, 16, 128, 2, 16, 32)


# ------------------------------------------------------------------------------------------ equations


def rms_norm(
    x: Float[Tensor, "*b d"], g: Float[Tensor, " d"], eps: float = 1e-6
) -> Float[Tensor, "*b d"]:
    r"""eq:t5-norm: $g\odot x\,/\sqrt{\tfrac1d\sum_i x_i^2+\varepsilon}$: layer
    normalisation without a mean and without a bias."""
    size = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    scale = torch.rsqrt(size.square().mean(dim=-1, keepdim=True) + eps)
    return g * (size * scale).to(x.dtype)


def distance_bucket(
    offset: Int[Tensor, "*n"], buckets: int = 32, distance: int = 128
) -> Int[Tensor, "*n"]:
    r"""eq:t5-bucket: with $n$ kinds a direction and $m=n/2$, the kind of a key $\delta$ tokens behind its
    query is $\kappa(\delta)=n\,[\delta>0]+|\delta|$ for $|\delta|<m$, else
    $n\,[\delta>0]+\min\big(m+\lfloor m\log(|\delta|/m)/\log(D/m)\rfloor,n-1\big)$."""
    n, far = buckets // 2, offset.abs()
    m = n // 2
    growth = (far.float().clamp(min=m) / m).log() / math.log(distance / m)
    log = (m + (growth * (n - m)).long()).clamp(max=n - 1)
    return n * (offset > 0) + torch.where(far < m, far, log)


def biased_attention(
    Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"],
    V: Float[Tensor, "b h s e"], B: Float[Tensor, "#b h t s"],
) -> Float[Tensor, "b h t e"]:
    r"""eq:t5-attention: $\mathrm{softmax}(QK^\top+B)V$, $B_{ij}=\rho_{\kappa(j-i)}$: a
    number for each head and each kind of distance, and no division by
    $\sqrt{d_k}$. As the formula stands."""
    return (Q @ K.mT + B).softmax(dim=-1) @ V


def fused_biased_attention(
    Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"], V: Float[Tensor, "b h s e"],
    B: Float[Tensor, "#b h t s"],
) -> Float[Tensor, "b h t e"]:
    """An optimisation: ``biased_attention`` by PyTorch's fused kernel, which never stores the weights."""
    return F.scaled_dot_product_attention(Q, K, V, attn_mask=B.to(Q.dtype), scale=1.0)


def gated_feed_forward(
    x: Float[Tensor, "*b d"], W_0: Float[Tensor, "d f"],
    W_1: Float[Tensor, "d f"], W_2: Float[Tensor, "f d"],
) -> Float[Tensor, "*b d"]:
    r"""eq:t5-feed-forward: $\big(\mathrm{GELU}(xW_0)\odot xW_1\big)W_2$: one half of the
    inner states opens and closes the other (GELU by its tanh formula)."""
    gate = F.gelu(F.linear(x, W_0.mT), approximate="tanh")
    return F.linear(gate * F.linear(x, W_1.mT), W_2.mT)


# --------------------------------------------------------------------------------------------- layers


class RMSNorm(nn.Module):
    """eq:t5-norm with a learned gain, in float32 at least: (…, d) -> (…, d)."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return rms_norm(x, self.weight, self.eps)


class DistanceBias(nn.Module):
    """What is added to the scores of all layers: t positions -> (1, h, t, t), a number a head and kind of
    distance (eq:t5-bucket)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.buckets, config.heads)
        nn.init.normal_(self.table.weight, std=config.width**-0.5)

    def forward(self, t: int) -> Float[Tensor, "1 h t t"]:
        place = torch.arange(t, device=self.table.weight.device)
        kind = distance_bucket(place - place[:, None], self.config.buckets, self.config.distance)
        return self.table(kind).permute(2, 0, 1)[None]


class T5Layer(nn.Module):
    """Attention with biases, then the gated feed-forward net, each normalised before and added (eq:pre-norm):
    (b, t, d) and biases (·, h, t, t) -> (b, t, d)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        d, inner = config.width, config.heads * config.head
        self.heads = config.heads
        self.attention_norm = RMSNorm(d, config.eps)
        self.project = nn.Linear(d, 3 * inner, bias=False)              # rows: queries, keys, values
        self.out = nn.Linear(inner, d, bias=False)
        self.feed_forward_norm = RMSNorm(d, config.eps)
        self.gate, self.inner = nn.Linear(d, config.ff, bias=False), nn.Linear(d, config.ff, bias=False)
        self.outer = nn.Linear(config.ff, d, bias=False)
        std = d**-0.5                                                   # as T5 starts
        queries, rest = self.project.weight.detach().split([inner, 2 * inner])
        nn.init.normal_(queries, std=std * config.head**-0.5)           # in place of the division of scores
        nn.init.normal_(rest, std=std)
        for linear, size in ((self.out, inner), (self.gate, d), (self.inner, d), (self.outer, config.ff)):
            nn.init.normal_(linear.weight, std=size**-0.5)

    def attend(self, x: Float[Tensor, "b t d"], B: Float[Tensor, "#b h t t"]) -> Float[Tensor, "b t d"]:
        """eq:t5-attention in each head."""
        Q, K, V = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)         # b t (h e) -> b h t e
                   for part in self.project(x).chunk(3, dim=-1))
        return self.out(fused_biased_attention(Q, K, V, B).transpose(1, 2).flatten(2))

    def forward(
        self, x: Float[Tensor, "b t d"], B: Float[Tensor, "#b h t t"]
    ) -> Float[Tensor, "b t d"]:
        x = x + self.attend(self.attention_norm(x), B)
        W_0, W_1, W_2 = (linear.weight.mT for linear in (self.gate, self.inner, self.outer))
        return x + gated_feed_forward(self.feed_forward_norm(x), W_0, W_1, W_2)


class T5Encoder(nn.Module):
    """Token ids (b, t) -> states (b, t, d); every position reads all, both ways.

    ``mask`` (b, t) says which tokens are real. There is no longest text: distances from ``distance`` on are
    one kind. Raises ``ValueError`` for ids outside the vocabulary.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab, config.width)
        nn.init.normal_(self.words.weight)
        self.bias = DistanceBias(config)
        self.layers = nn.ModuleList(T5Layer(config) for _ in range(config.layers))
        self.norm_after = RMSNorm(config.width, config.eps)

    def forward(
        self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t d"]:
        check_tokens(tokens, self.config.vocab)
        x, B = self.words(tokens), self.bias(tokens.shape[1])
        if mask is not None:
            B = B.masked_fill(~mask[:, None, None], -math.inf)
        for layer in self.layers:
            x = layer(x, B)
        return self.norm_after(x)
