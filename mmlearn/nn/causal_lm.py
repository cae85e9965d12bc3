r"""A causal language model: a Transformer that reads a text from left to right and says which token is next.

Papers: A. Radford et al. (2019), *Language Models are Unsupervised Multitask Learners* (GPT-2); S. Zhang et
al. (2022), *OPT: Open Pre-trained Transformer Language Models*, arXiv:2205.01068; J. Hoffmann et al. (2022),
*Training Compute-Optimal Large Language Models*, arXiv:2203.15556 (Chinchilla); O. Press, N. A. Smith and M.
Lewis (2022), *Train Short, Test Long*, arXiv:2108.12409 (linear biases); J. Su et al. (2021), *RoFormer*,
arXiv:2104.09864 (rotation); Z. Dai et al. (2019), *Transformer-XL*, arXiv:1901.02860, sec. 3.3 (relative
positions).  Survey: 5.3.
Differs from the papers: dropout follows the two parts of a layer and the embeddings, never the attention
weights. OPT-350M, which normalises after the sum and has narrower word vectors, is left out. What is written
of Chinchilla leaves open if its matrices have biases and if word vectors serve twice: both are so here, as in
GPT-2, which it follows but for RMS normalisation and relative positions. The two vectors of eq:lm-relative
belong to a layer each. MPT and RedPajama are as their released configurations say.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import KVCache, MultiHeadAttention
from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.positions import check_tokens, sinusoids
from mmlearn.nn.t5 import RMSNorm
from mmlearn.nn.transformer import GELU, Context, FeedForward, PreNormEncoderLayer

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "gelu": GELU, "gelu tanh": partial(GELU, "tanh")}


@dataclass(frozen=True)
class CausalLMConfig:
    vocab: int = 50_257         # tokens
    context: int = 1024         # positions of a text, at most if they are learned, else in training
    width: int = 768            # d, size of a token state
    layers: int = 12
    heads: int = 12             # h
    ff: int = 3072              # inner width of the feed-forward nets
    positions: Literal["learned", "alibi", "rotary", "relative"] = "learned"
    activation: Literal["relu", "gelu", "gelu tanh"] = "gelu tanh"
    norm: Literal["layer", "rms"] = "layer"     # layer normalisation, or root mean squares (eq:t5-norm)
    bias: bool = True           # do matrices and layer normalisations have biases?
    tied: bool = True           # are the word vectors those of the output, too?
    qk_norm: bool = False       # are queries and keys normalised, over all heads together?
    offset: int = 0             # rows of learned positions before the first one (OPT: 2)
    eps: float = 1e-5           # of the normalisations
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check(self, offset=(0, 1000))
        check_divides(self, "heads", "width")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(f"heads are {self.width // self.heads} wide, and a rotation turns pairs of "
                             f"numbers; choose heads of an even width")

    @classmethod
    def gpt2(cls) -> "CausalLMConfig":
        """GPT-2, small: 124,439,808 parameters."""
        return cls()

    @classmethod
    def gpt2_medium(cls) -> "CausalLMConfig":
        """GPT-2, medium: 354,823,168 parameters."""
        return cls(width=1024, layers=24, heads=16, ff=4096)

    @classmethod
    def gpt2_large(cls) -> "CausalLMConfig":
        """GPT-2, large: 774,030,080 parameters."""
        return cls(width=1280, layers=36, heads=20, ff=5120)

    @classmethod
    def gpt2_xl(cls) -> "CausalLMConfig":
        """GPT-2, the largest: 1,557,611,200 parameters."""
        return cls(width=1600, layers=48, heads=25, ff=6400)

    @classmethod
    def opt_125m(cls) -> "CausalLMConfig":
        """OPT-125M: 125,239,296 parameters."""
        return cls(50_272, 2048, activation="relu", offset=2)

    @classmethod
    def opt_1b3(cls) -> "CausalLMConfig":
        """OPT-1.3B: 1,315,758,080 parameters."""
        return cls(50_272, 2048, 2048, 24, 32, 8192, activation="relu", offset=2)

    @classmethod
    def opt_6b7(cls) -> "CausalLMConfig":
        """OPT-6.7B: 6,658,473,984 parameters."""
        return cls(50_272, 2048, 4096, 32, 32, 16_384, activation="relu", offset=2)

    @classmethod
    def mpt_1b(cls) -> "CausalLMConfig":
        """MPT-1B, the language model of OpenFlamingo-3B: 1,311,442,944 parameters."""
        return cls(50_432, 2048, 2048, 24, 16, 8192, "alibi", "gelu", bias=False, qk_norm=True)

    @classmethod
    def redpajama_3b(cls) -> "CausalLMConfig":
        """RedPajama-INCITE-3B, the language model of OpenFlamingo-4B: 2,775,864,320 parameters."""
        return cls(50_432, 2048, 2560, 32, 32, 10_240, "rotary", "gelu", tied=False)

    @classmethod
    def mpt_7b(cls) -> "CausalLMConfig":
        """MPT-7B, the language model of OpenFlamingo-9B: 6,649,286,656 parameters."""
        return cls(50_432, 2048, 4096, 32, 32, 16_384, "alibi", "gelu", bias=False)

    @classmethod
    def chinchilla_1b4(cls) -> "CausalLMConfig":
        """The language model of Flamingo-3B ("1.4B"), by the shapes of the paper."""
        return cls(32_000, 2048, 2048, 24, 16, 8192, "relative", "gelu", "rms")

    @classmethod
    def chinchilla_7b(cls) -> "CausalLMConfig":
        """The language model of Flamingo-9B ("7.1B"), by the shapes of the paper, which give more."""
        return cls(32_000, 2048, 4096, 40, 32, 16_384, "relative", "gelu", "rms")

    @classmethod
    def chinchilla_70b(cls) -> "CausalLMConfig":
        """The language model of Flamingo-80B: Chinchilla ("70B")."""
        return cls(32_000, 2048, 8192, 80, 64, 32_768, "relative", "gelu", "rms")

    @classmethod
    def mini(cls, vocab: int = 400, context: int = 256) -> "CausalLMConfig":
        """A miniature for the scene world: half a million parameters."""
        return cls(vocab, context, 96, 4, 4, 384, "rotary", "gelu")


# ------------------------------------------------------------------------------------- equations


def token_log_probs(
    logits: Float[Tensor, "b t v"], tokens: Int[Tensor, "b t"]
) -> Float[Tensor, "b t_minus_1"]:
    r"""eq:lm-chain: $\log p_\theta(y)=\sum_t\log p_\theta(y_{t+1}\mid y_1,\dots,y_t)$: row t
    of the logits says what it gives to token t + 1; here term by term."""
    log_probs = logits[:, :-1].float().log_softmax(dim=-1)
    return log_probs.gather(-1, tokens[:, 1:, None])[..., 0]


def lm_loss(
    logits: Float[Tensor, "b t v"], tokens: Int[Tensor, "b t"],
    scored: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, ""]:
    r"""eq:lm-loss: $-\frac1{|S|}\sum_{t\in S}\log p_\theta(y_t\mid y_{<t})$ in nats a token, over
    the tokens $S$ that are ``scored`` (default: all but the first)."""
    log_probs = token_log_probs(logits, tokens)
    if scored is None:
        return -log_probs.mean()
    return -log_probs[scored[:, 1:]].mean()


def word_logits(
    z: Float[Tensor, "*b d"], E: Float[Tensor, "v d"]
) -> Float[Tensor, "*b v"]:
    r"""eq:lm-logits: $zE^\top$: a token is the likelier the better its vector fits the
    last state; the vectors are those that tokens enter by."""
    return F.linear(z, E)


def alibi_slopes(h: int) -> Float[Tensor, " h"]:
    r"""eq:lm-slopes: $m_a=2^{-8a/h}$ for the heads $a=1,\dots,h$.

    If h is no power of 2, slopes of the next one are taken, every second of them first (as in MPT).
    """
    n = 2 ** math.ceil(math.log2(h))
    m = 2.0 ** (-8.0 * torch.arange(1, n + 1) / n)
    return m if n == h else torch.cat([m[1::2], m[::2]])[:h]


def linear_bias(
    m: Float[Tensor, " h"], t: int, s: int
) -> Float[Tensor, "h t s"]:
    r"""eq:lm-alibi: $B_{aij}=-m_a(i-j)$: the farther behind a key, the less it counts, by a
    slope a head. Queries are the last t of s positions."""
    i = torch.arange(s - t, s, device=m.device)[:, None]
    j = torch.arange(s, device=m.device)
    return -m[:, None, None] * (i - j)


def rotated(
    x: Float[Tensor, "*b t e"], start: int = 0, base: float = 10_000.0
) -> Float[Tensor, "*b t e"]:
    r"""eq:lm-rotary: the pair $(x_i,x_{i+e/2})$ at position p is turned by the angle
    $p\,\omega^{-2i/e}$, $\omega=10^4$, so that $q^\top k$ depends on the distance alone."""
    t, e = x.shape[-2:]
    rate = base ** (-torch.arange(0, e, 2, device=x.device) / e)
    angle = torch.arange(start, start + t, device=x.device)[:, None] * rate
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def relative_bias(
    Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"],
    R: Float[Tensor, "h s e"],
    u: Float[Tensor, "h e"], v: Float[Tensor, "h e"],
) -> Float[Tensor, "b h t s"]:
    r"""eq:lm-relative: $B_{ij}=\big((q_i+v)^\top r_{i-j}+u^\top k_j\big)/\sqrt{d_k}$, added to the
    scores $q_i^\top k_j/\sqrt{d_k}$: how a query likes a distance, all queries a key, and all
    queries a distance. Row $\delta$ of R is $r_\delta$."""
    t, s = Q.shape[2], K.shape[2]
    i = torch.arange(s - t, s, device=Q.device)[:, None]
    far = (i - torch.arange(s, device=Q.device)).clamp(min=0)       # t s
    by_distance = (Q + v[:, None]) @ R.mT                           # b h t s
    places = by_distance.gather(-1, far.expand_as(by_distance))
    keys = (K * u[:, None]).sum(dim=-1)[:, :, None]                 # b h 1 s
    return (places + keys) / math.sqrt(Q.shape[-1])


# ---------------------------------------------------------------------------------------- layers


class CausalAttention(MultiHeadAttention):
    """Causal self-attention (b, t, d) -> (b, t, d) without positions of its own, with or without biases,
    queries and keys normalised or not.

    Kinds that know distances override ``bias``, what is added to the scores, or ``project_all``.
    """

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__(config.width, config.heads, causal=True)
        norm = make_norm(config) if config.qk_norm else nn.Identity
        self.query_norm, self.key_norm = norm(config.width), norm(config.width)
        if not config.bias:
            self.register_parameter("in_bias", None)
            self.out.register_parameter("bias", None)

    def project_all(
        self, x: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b h t e"], Float[Tensor, "b h t e"]]:
        Q, K, V = F.linear(x, self.in_weight, self.in_bias).chunk(3, dim=-1)
        return self.split(self.query_norm(Q)), self.split(self.key_norm(K)), self.split(V)

    @property
    def past(self) -> int:
        """Positions that are in the cache already."""
        if self.cache is None or self not in self.cache.past:
            return 0
        return self.cache.past[self][0].shape[-2]

    def bias(
        self, Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"]
    ) -> Float[Tensor, "#b h t s"] | None:
        """What is added to the scores; nothing here."""
        return None

    def read(
        self, Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"], V: Float[Tensor, "b h s e"],
        mask: Bool[Tensor, "#b 1 t_or_1 s"] | None,
    ) -> Float[Tensor, "b h t e"]:
        """eq:attention in each head, of scores with ``bias``."""
        B = self.bias(Q, K)
        if B is None:
            return self.attend(Q, K, V, mask)
        if "attend" in vars(self):                      # somebody records the weights
            return self.attend(*with_bias(Q, K, B), V, mask)
        B = B if mask is None else B.masked_fill(~mask, -math.inf)
        return F.scaled_dot_product_attention(Q, K, V, attn_mask=B)


def with_bias(
    Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"], B: Float[Tensor, "#b h t s"]
) -> tuple[Float[Tensor, "b h t w"], Float[Tensor, "b h s w"]]:
    """Queries and keys whose scores are those of ``Q`` and ``K`` plus ``B``: each key gets a coordinate of
    its own, on which the query's is its bias."""
    b, h, s, e = K.shape
    wide = math.sqrt(e + s)
    own = torch.eye(s, dtype=K.dtype, device=K.device).expand(b, h, s, s)
    queries = torch.cat([Q * (wide / math.sqrt(e)), (B * wide).expand(b, h, -1, -1)], dim=-1)
    return queries, torch.cat([K, own], dim=-1)


class LinearBiasAttention(CausalAttention):
    """Causal self-attention with eq:lm-alibi."""

    def bias(
        self, Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"]
    ) -> Float[Tensor, "#b h t s"]:
        m = alibi_slopes(self.heads).to(Q.device)
        return linear_bias(m, Q.shape[2], K.shape[2]).to(Q.dtype)[None]


class RotaryAttention(CausalAttention):
    """Causal self-attention whose queries and keys are turned by their positions (eq:lm-rotary)."""

    def project_all(
        self, x: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b h t e"], Float[Tensor, "b h t e"]]:
        Q, K, V = super().project_all(x)
        return rotated(Q, self.past), rotated(K, self.past), V


class RelativeAttention(CausalAttention):
    """Causal self-attention with eq:lm-relative; distances are sinusoids, through a matrix of the layer."""

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__(config)
        self.distances = nn.Linear(config.width, config.width, bias=False)
        self.u = nn.Parameter(torch.zeros(config.heads, config.width // config.heads))
        self.v = nn.Parameter(torch.zeros(config.heads, config.width // config.heads))

    def bias(
        self, Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"]
    ) -> Float[Tensor, "#b h t s"]:
        table = sinusoids(K.shape[2], self.width).to(Q.device, Q.dtype)
        R = self.split(self.distances(table))                        # s (h e) -> h s e
        return relative_bias(Q, K, R, self.u, self.v)


ATTENTIONS: dict[str, type[CausalAttention]] = {
    "learned": CausalAttention, "alibi": LinearBiasAttention, "rotary": RotaryAttention,
    "relative": RelativeAttention}


def make_norm(config: CausalLMConfig) -> Callable[[int], nn.Module]:
    """The normalisation of a model, as a function of the width."""
    if config.norm == "rms":
        return partial(RMSNorm, eps=config.eps)
    return partial(nn.LayerNorm, eps=config.eps, bias=config.bias)


class PlainFeedForward(FeedForward):
    """eq:ffn without biases: (…, d) -> (…, d)."""

    def __init__(self, width: int, hidden: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__(width, hidden, activation=activation)
        self.inner.register_parameter("bias", None)
        self.outer.register_parameter("bias", None)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return self.outer(self.activate(self.inner(x)))


class CausalLayer(PreNormEncoderLayer):
    """Causal self-attention, then the feed-forward net, each with eq:pre-norm: (b, t, d) -> (b, t, d).

    ``mask`` (b, s) says which of all positions so far are real, those in a ``KVCache`` included; or (b, t, s)
    which of them each position may see.
    """

    def __init__(self, config: CausalLMConfig) -> None:
        activation = ACTIVATIONS[config.activation]
        super().__init__(config.width, config.heads, config.ff, config.dropout, activation,
                         ATTENTIONS[config.positions](config), make_norm(config))
        if not config.bias:
            self.feed_forward = PlainFeedForward(config.width, config.ff, activation)
        self.feed_forward.dropout.p = 0.0

    def forward(
        self, x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b s"] | Bool[Tensor, "b t s"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        read = self.attention(self.attention_norm(x), mask)
        x = x + self.dropout(read)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


# ------------------------------------------------------------------------------ what was read before


@dataclass
class Prompt(Context):
    """What a language model has read when it begins to write, for ``mmlearn.generate``.

    ``tokens`` (b, s) stand at the right, after padding where texts are shorter; ``real`` (b, s) says where
    they are (None: everywhere). A model that sees finds its pictures in ``levels`` (b, m, r, d), r tokens for
    each of m pictures, and in ``media`` (b, s) the number of the picture that a token sees, from 1 (0: none).
    ``copies`` rows that are written (beams, samples, answers) share a prompt.
    """

    tokens: Int[Tensor, "b s"] | None = None
    real: Bool[Tensor, "b s"] | None = None
    media: Int[Tensor, "b s"] | None = None

    def __post_init__(self) -> None:
        if self.tokens is None or self.tokens.shape[1] < 1 or len(self.tokens) != len(self.levels):
            seen = "no tokens" if self.tokens is None else f"tokens of shape {tuple(self.tokens.shape)}"
            raise ValueError(f"a prompt for {len(self.levels)} texts has {seen}; give at least one a text")

    def repeat(self, k: int) -> "Prompt":
        """The same prompts with ``k`` rows for each row there was, standing together; nothing is copied."""
        return replace(self, copies=self.copies * k)

    def select(self, index: Int[Tensor, " rows"]) -> "Prompt":
        """The prompts of the rows ``index``, in this order; they are copied."""
        texts = index // self.copies
        names = ("levels", "mask", "tokens", "real", "media")
        parts: dict[str, Any] = {name: None if getattr(self, name) is None else getattr(self, name)[texts]
                                 for name in names}
        return replace(self, copies=1, **parts)

    def rows_of(self, x: Tensor) -> Tensor:
        """What belongs to a prompt, (b, …), once for each of its rows: (r, …)."""
        return x if self.copies == 1 else x.repeat_interleave(self.copies, dim=0)

    def given(
        self, tokens: Int[Tensor, "r t"], past: int = 0
    ) -> tuple[Int[Tensor, "r u"], Bool[Tensor, "r s"] | None]:
        """The tokens to read now, and which of all positions so far are real (None: all).

        Without a ``past`` the first column of ``tokens`` stands for the prompt, which takes its place.
        """
        if past == 0 and self.tokens is not None:
            tokens = torch.cat([self.rows_of(self.tokens), tokens[:, 1:]], dim=1)
        if self.real is None:
            return tokens, None
        written = past + tokens.shape[1] - self.real.shape[1]
        new = torch.ones(len(tokens), written, dtype=torch.bool, device=tokens.device)
        return tokens, torch.cat([self.rows_of(self.real), new], dim=1)

    def phi(self, s: int) -> Int[Tensor, "r s"]:
        """The picture that each of ``s`` positions sees; a token that is written sees that of the last one.
        Raises ``ValueError`` if the prompt has no ``media``."""
        if self.media is None:
            raise ValueError("the prompt does not say which picture a token sees; give it media")
        media = self.rows_of(self.media)
        last = media[:, -1:].expand(-1, max(0, s - media.shape[1]))
        return torch.cat([media, last], dim=1)[:, :s]


def text_prompt(
    rows: Sequence[Sequence[int]], pad: int = 1, device: torch.device | str | None = None
) -> Prompt:
    """A prompt of texts alone, each the ids of its tokens, padded at the left.

    Raises ``ValueError`` for a text without a token.
    """
    if not rows or not all(len(row) for row in rows):
        raise ValueError("a prompt has no token; begin it with <bos>")
    tokens, real = left_padded(rows, pad, device)
    levels = torch.empty(len(rows), 0, 0, 0, device=device)
    return Prompt(levels, tokens=tokens, real=real)


def left_padded(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device | str | None = None
) -> tuple[Int[Tensor, "b s"], Bool[Tensor, "b s"] | None]:
    """Rows of ids that end together, and where they are real (None if all are as long)."""
    longest = max(len(row) for row in rows)
    tokens = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows], device=device)
    if all(len(row) == longest for row in rows):
        return tokens, None
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return tokens, torch.arange(longest, device=device) >= longest - lengths[:, None]


# ----------------------------------------------------------------------------------------- model


class CausalLM(nn.Module):
    """Token ids (b, t) -> logits (b, t, v) of the token after each; a position sees itself and those before.

    ``mask`` (b, t) says which tokens are real; it is needed for padding at the left alone, since nothing sees
    what stands at the right. Inside a ``KVCache`` only new tokens are given, the mask being that of all so
    far. ``embed``, ``layers``, ``norm`` and ``logits`` are the parts, for whoever puts something between
    them. ``decode`` goes on from a ``Prompt``, so that all of ``mmlearn.generate`` applies. Raises
    ``ValueError`` for texts longer than learned positions reach and ids outside the vocabulary.
    """

    cache: KVCache | None = None
    keeps_past = True

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__()
        self.config, d = config, config.width
        self.words = nn.Embedding(config.vocab, d)
        learned = config.positions == "learned"
        rows = config.context + config.offset
        self.positions = nn.Parameter(torch.empty(rows, d)) if learned else None
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(CausalLayer(config) for _ in range(config.layers))
        self.norm = make_norm(config)(d)
        self.out = None if config.tied else nn.Linear(d, config.vocab, bias=False)
        initialise(self)

    def embed(
        self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b t d"]:
        """Word vectors, and those of learned positions, which count real tokens."""
        check_tokens(tokens, self.config.vocab)
        x = self.words(tokens)
        if self.positions is None:
            return self.dropout(x)
        t, start = tokens.shape[1], 0 if self.cache is None else self.cache.length
        if start + t > self.config.context:
            raise ValueError(
                f"the text has {start + t} tokens, the model reads {self.config.context}; cut it")
        if mask is None:
            place = torch.arange(start, start + t, device=tokens.device)
        else:
            place = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -t:]
        return self.dropout(x + self.positions[place + self.config.offset])

    def states(
        self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b t d"]:
        """The last layer's states, normalised."""
        x = self.embed(tokens, mask)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)

    def logits(self, z: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """eq:lm-logits, of normalised states."""
        return word_logits(z, self.words.weight if self.out is None else self.out.weight)

    def forward(
        self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b t v"]:
        return self.logits(self.states(tokens, mask))

    def decode(
        self, tokens: Int[Tensor, "r t"], context: Context
    ) -> Float[Tensor, "r t v"]:
        """Logits after each of ``tokens``, which follow a ``Prompt``; the first of all stands for it."""
        if not isinstance(context, Prompt):
            raise ValueError(f"a language model goes on from a Prompt, not a {type(context).__name__}; make "
                             "one with text_prompt")
        past = 0 if self.cache is None else self.cache.length
        given, mask = context.given(tokens, past)
        return self.logits(self.states(given, mask)[:, -tokens.shape[1]:])


def initialise(model: CausalLM) -> None:
    """GPT-2's beginning: normal numbers of deviation 0.02, in the two matrices that end a layer's parts
    divided by the root of their number, so that the sum of all does not grow; biases 0."""
    last = 0.02 / math.sqrt(2 * max(1, model.config.layers))
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            ends = name.endswith(("attention.out.weight", "outer.weight"))
            nn.init.normal_(parameter, std=last if ends else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
