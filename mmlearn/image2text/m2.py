"""M2, the Meshed-Memory Transformer: an encoder that remembers, and a decoder that reads all of its layers.

Paper: M. Cornia, M. Stefanini, L. Baraldi and R. Cucchiara (2020), *Meshed-Memory Transformer for Image
Captioning*, CVPR 2020, arXiv:1912.08226, sec. 3.  Survey: 1.2.1.
Differs from the paper: by default the decoder normalises where the released code does (``norm="code"``; the
paper's formula is ``norm="paper"``), padded regions are really masked, positions are true sinusoids, and the
padding row of the word embedding stays zero (the released code overwrites both by its initialisation).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import Attend, CrossAttention, MultiHeadAttention, attention
from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.positions import KINDS, TokenEmbedding
from mmlearn.nn.transformer import Context, EncoderLayer, FeedForward, InputProjection

UNK, PAD, BOS, EOS = 0, 1, 2, 3

CHOICES = {
    "mesh": ("sigmoid", "softmax", "one-to-one", "last"), "norm": ("code", "paper"),
    "memory_init": ("xavier", "nominal"), "positions": KINDS, "padding": ("zero-rows", "off"),
}


@dataclass(frozen=True)
class M2Config:
    vocab: int = 10_201             # V, words with the four special tokens
    width: int = 512                # d, size of a token or region state
    heads: int = 8                  # h, attention heads of width d_k = d / h
    layers: int = 3                 # N, layers of the encoder and of the decoder
    ff: int = 2048                  # d_ff, inner width of the feed-forward nets
    memory: int = 40                # n_m, memory slots of each encoder layer (0: none)
    features: int = 2048            # size of a region or grid feature
    dropout: float = 0.1            # after input ReLU, attention output, feed-forward ReLU and output
    max_len: int = 54               # T, most tokens of a caption with <bos>
    mesh: str = "sigmoid"           # how decoder layers read the encoder's ("last": a plain Transformer)
    norm: str = "code"              # where meshed attention is normalised: as in "code" or in "paper"
    memory_init: str = "xavier"     # how the released code ends up, or what it says ("nominal")
    positions: str = "sinusoid"     # the decoder's: "sinusoid", "learned", "random" (frozen)
    padding: str = "zero-rows"      # all-zero feature rows are padding, or "off": nothing is masked
    aoa: bool = False               # attention on attention (L. Huang et al., 2019) everywhere

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(choices)}")
        if self.memory and self.aoa:
            raise ValueError(
                "memory slots and attention on attention are not combined; set memory=0 or aoa=False")

    @classmethod
    def paper(cls) -> "M2Config":
        """The published model: 38,411,264 trainable parameters."""
        return cls()

    @classmethod
    def released(cls) -> "M2Config":
        """What the public weights were trained with: no padding mask, positions of frozen noise."""
        return cls(positions="random", padding="off")

    @classmethod
    def transformer_3(cls) -> "M2Config":
        """The paper's 3-layer baseline: 33,565,184 parameters."""
        return cls(memory=0, mesh="last")

    @classmethod
    def transformer_6(cls) -> "M2Config":
        """The paper's 6-layer baseline, "as in Vaswani et al.": 55,634,432 parameters."""
        return cls(memory=0, mesh="last", layers=6)

    @classmethod
    def transformer_aoa(cls) -> "M2Config":
        """The paper's baseline with attention on attention in every attention layer."""
        return cls(memory=0, mesh="last", aoa=True)

    @classmethod
    def one_to_one_no_memory(cls) -> "M2Config":
        """Decoder layer i reads encoder layer i; no memory."""
        return cls(memory=0, mesh="one-to-one")

    @classmethod
    def one_to_one(cls) -> "M2Config":
        """Decoder layer i reads encoder layer i; with memory."""
        return cls(mesh="one-to-one")

    @classmethod
    def no_memory(cls) -> "M2Config":
        """The full mesh without memory."""
        return cls(memory=0)

    @classmethod
    def softmax_gates(cls) -> "M2Config":
        """Gates that compete between layers instead of independent ones."""
        return cls(mesh="softmax")

    @classmethod
    def mini(cls, vocab: int = 200, features: int = 64) -> "M2Config":
        """A miniature for the scene world."""
        return cls(vocab=vocab, features=features, width=64, heads=4, layers=3, memory=8, ff=128, max_len=30)

    @classmethod
    def plain_mini(cls, vocab: int = 200, features: int = 64) -> "M2Config":
        """A plain Transformer with as many parameters as ``mini`` (24 more), by wider feed-forward nets."""
        return equalise(replace(cls.mini(vocab, features), memory=0, mesh="last"), cls.mini(vocab, features))


ABLATION = {                            # the rows of the paper's ablation, in its order
    "Transformer, 6 layers": M2Config.transformer_6,
    "Transformer, 3 layers": M2Config.transformer_3,
    "Transformer with AoA": M2Config.transformer_aoa,
    "M2 1-to-1, no memory": M2Config.one_to_one_no_memory,
    "M2 1-to-1": M2Config.one_to_one,
    "M2, no memory": M2Config.no_memory,
    "M2, softmax gates": M2Config.softmax_gates,
    "M2": M2Config.paper,
}


def extra_parameters(N: int, n_m: int, d: int) -> int:
    r"""eq:m2-params: M2 has $2Nn_md+N^2(2d^2+d)$ parameters more than a plain Transformer of the same
    sizes."""
    return 2 * N * n_m * d + N**2 * (2 * d**2 + d)


def equal_ff(N: int, n_m: int, d: int) -> float:
    r"""eq:m2-equal-params: $\Delta d_{ff}=\frac{2Nn_md+N^2(2d^2+d)}{2N(2d+1)}$ gives a plain Transformer M2's
    size."""
    return extra_parameters(N, n_m, d) / (2 * N * (2 * d + 1))


def parameter_count(config: M2Config) -> int:
    """Trainable parameters by arithmetic: input projection, layers, memory, gates, words, output."""
    d, N, ff = config.width, config.layers, config.ff
    attend = 4 * d * d + 4 * d + (3 * d * d + d if config.aoa else 0)      # AoA: 2d -> 2d instead of d -> d
    feed = 2 * d * ff + ff + d
    encoder = attend + feed + 2 * 2 * d + 2 * config.memory * d
    gates = N * (2 * d * d + d) if config.mesh in ("sigmoid", "softmax") else 0
    decoder = 2 * attend + feed + 3 * 2 * d + gates
    positions = (config.max_len + 1) * d if config.positions == "learned" else 0
    return (config.features + 3) * d + N * (encoder + decoder) + 2 * config.vocab * d + positions


def equalise(config: M2Config, target: M2Config) -> M2Config:
    """``config`` with ``ff`` changed so that its parameter count is as near as can be to that of
    ``target``."""
    missing = parameter_count(target) - parameter_count(config)
    return replace(config, ff=config.ff + round(missing / (2 * config.layers * (2 * config.width + 1))))


# -------------------------------------------------------------------------------------------------- equations


def memory_attention(
    Q: Float[Tensor, "*n t e"],
    K: Float[Tensor, "*n p e"],
    V: Float[Tensor, "*n p e"],
    M_k: Float[Tensor, "*n m e"],
    M_v: Float[Tensor, "*n m e"],
    mask: Bool[Tensor, "*#n #t p_and_m"] | None = None,
    attend: Attend = attention,
) -> Float[Tensor, "*n t e"]:
    r"""eq:m2-memory: $\mathrm{Att}(Q,[K;M_k],[V;M_v])$: the slots are appended to the keys and values, not
    added.

    ``attend`` is ``attention``, or its fused twin in ``MemoryAttention``.
    """
    keys, values = torch.cat([K, M_k], dim=-2), torch.cat([V, M_v], dim=-2)
    return attend(Q, keys, values, mask)


def memory_gate(
    Q: Float[Tensor, "*n t e"],
    K: Float[Tensor, "*n p e"],
    M_k: Float[Tensor, "*n m e"],
) -> Float[Tensor, "*n t"]:
    r"""eq:m2-lambda: $\lambda(q)=\sigma(\log Z_X-\log Z_M)$, the part of a query's attention that the image
    gets."""
    scale = math.sqrt(Q.shape[-1])
    log_Z_X = (Q @ K.mT / scale).logsumexp(-1)
    log_Z_M = (Q @ M_k.mT / scale).logsumexp(-1)
    return torch.sigmoid(log_Z_X - log_Z_M)


def survey_memory(
    X: Float[Tensor, "*n p d"],
    W_q: Float[Tensor, "d d"],
    W_k: Float[Tensor, "d d"],
    W_v: Float[Tensor, "d d"],
    M_k: Float[Tensor, "m d"],
    M_v: Float[Tensor, "m d"],
    W_km: Float[Tensor, "d d"],
    W_vm: Float[Tensor, "d d"],
) -> Float[Tensor, "*n p d"]:
    r"""eq:m2-survey-memory: the survey's $K=XW_k+M_kW_{km}$, $V=XW_v+M_vW_{vm}$; wrong, kept to show why.

    It exists only if there are as many slots as regions, and it ties slot i to the region that happens to
    stand at place i. Raises ``ValueError`` if the numbers differ.
    """
    if X.shape[-2] != M_k.shape[-2]:
        raise ValueError(
            f"{M_k.shape[-2]} slots cannot be added to {X.shape[-2]} regions; append them instead")
    return attention(X @ W_q, X @ W_k + M_k @ W_km, X @ W_v + M_v @ W_vm)


def mesh_gate(
    Y: Float[Tensor, "b t d"],
    C: Float[Tensor, "b t d"],
    W: Float[Tensor, "d two_d"],
    b: Float[Tensor, " d"],
) -> Float[Tensor, "b t d"]:
    r"""eq:m2-gate: $\alpha_i=\sigma(W_i[Y;C(\tilde X^i,Y)]+b_i)$, one gate per word and channel."""
    return torch.sigmoid(torch.cat([Y, C], dim=-1) @ W.mT + b)


def softmax_gates(
    Y: Float[Tensor, "b t d"],
    C: Float[Tensor, "b n t d"],
    W: Float[Tensor, "n d two_d"],
    b: Float[Tensor, "n d"],
) -> Float[Tensor, "b n t d"]:
    r"""eq:m2-softmax-gate: the same scores, normalised over the layers so that $\sum_i\alpha_i=1$ in each
    channel."""
    pairs = torch.cat([Y[:, None].expand_as(C), C], dim=-1)
    scores = torch.einsum("bnti,ndi->bntd", pairs, W) + b[:, None]
    return scores.softmax(dim=1)


def mesh(
    alpha: Float[Tensor, "b n t d"], C: Float[Tensor, "b n t d"]
) -> Float[Tensor, "b t d"]:
    r"""eq:m2-mesh: $\frac1{\sqrt N}\sum_i\alpha_i\odot C_i$."""
    return (alpha * C).sum(dim=1) / math.sqrt(C.shape[1])


# ----------------------------------------------------------------------------------------------------- layers


class AttentionOnAttention(MultiHeadAttention):
    """Attention whose output is information times gate, both seen from result and query: GLU(W [V̂; Q] + b).

    L. Huang et al. (2019), *Attention on Attention for Image Captioning*, arXiv:1908.06954, sec. 3.1.
    """

    def make_out(self) -> nn.Linear:
        out = nn.Linear(2 * self.width, 2 * self.width)
        nn.init.xavier_uniform_(out.weight)
        nn.init.zeros_(out.bias)
        return out

    def project_out(
        self, read: Float[Tensor, "*b t d"], queries: Float[Tensor, "*b t d"]
    ) -> Float[Tensor, "*b t d"]:
        return F.glu(self.out(torch.cat([read, queries], dim=-1)), dim=-1)


class CrossAttentionOnAttention(AttentionOnAttention, CrossAttention):
    """The same for words that look at images."""


class MemoryAttention(MultiHeadAttention):
    """Self-attention over regions and over ``slots`` learned, image-independent memory slots (eq:m2-memory).

    Input (b, p, d), output (b, p, d). ``mask`` (b, p) concerns regions; slots can always be attended to.
    Returned weights have the p regions first, then the slots. Slots are stored small and scaled at use, keys
    by sqrt(d_k), values by sqrt(n_m). ``init`` "nominal" draws them with std 1/d_k and 1/n_m, as the released
    code says; "xavier" uniformly within sqrt(6 / ((n_m + 1) d)), as it ends up after its general
    initialisation.
    """

    def __init__(self, width: int, heads: int, slots: int, init: str = "xavier") -> None:
        super().__init__(width, heads)
        if slots < 1:
            raise ValueError(f"{slots} memory slots; give at least 1, or use MultiHeadAttention")
        self.slots = slots
        self.memory_keys = nn.Parameter(torch.empty(slots, width))
        self.memory_values = nn.Parameter(torch.empty(slots, width))
        if init == "nominal":
            nn.init.normal_(self.memory_keys, std=heads / width)
            nn.init.normal_(self.memory_values, std=1 / slots)
        else:
            bound = math.sqrt(6 / ((slots + 1) * width))
            nn.init.uniform_(self.memory_keys, -bound, bound)
            nn.init.uniform_(self.memory_values, -bound, bound)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, slots={self.slots}"

    def memory(self, b: int) -> tuple[Float[Tensor, "b h m e"], Float[Tensor, "b h m e"]]:
        """Slots as attention sees them: scaled, cut into heads, the same for each of ``b`` images."""
        keys = self.split(self.memory_keys * math.sqrt(self.width / self.heads))
        values = self.split(self.memory_values * math.sqrt(self.slots))
        return keys.expand(b, -1, -1, -1), values.expand(b, -1, -1, -1)

    def read(
        self, Q: Float[Tensor, "b h p e"], K: Float[Tensor, "b h p e"], V: Float[Tensor, "b h p e"],
        mask: Bool[Tensor, "#b 1 #p p"] | None,
    ) -> Float[Tensor, "b h p e"]:
        M_k, M_v = (slots.to(K) for slots in self.memory(len(Q)))
        if mask is not None:
            mask = F.pad(mask, (0, self.slots), value=True)
        return memory_attention(Q, K, V, M_k, M_v, mask, self.attend)


class MeshedDecoderLayer(nn.Module):
    """Causal self-attention, gated cross-attention to all encoder layers, feed-forward: (r, t, d) -> (r, t,
    d).

    ``levels`` (b, n, p, d) are the outputs of the encoder's layers that this layer reads. One cross-attention
    is shared by all of them; each has its own gate. With n = 1 there is no gate. ``norm="code"`` is
    eq:m2-decoder-code (residual and normalisation inside each cross-attention), ``"paper"``
    eq:m2-decoder-paper (around the gated sum).
    """

    def __init__(self, config: M2Config) -> None:
        super().__init__()
        d, aoa = config.width, config.aoa
        self.mesh, self.norm = config.mesh, config.norm
        own = AttentionOnAttention if aoa else MultiHeadAttention
        cross = CrossAttentionOnAttention if aoa else CrossAttention
        self.self_attention = own(d, config.heads, causal=True)
        self.self_norm = nn.LayerNorm(d)
        self.cross_attention = cross(d, config.heads)
        self.cross_norm = nn.LayerNorm(d)
        self.feed_forward = FeedForward(d, config.ff, config.dropout)
        self.feed_forward_norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(config.dropout)
        if self.mesh in ("sigmoid", "softmax"):
            N = config.layers
            self.gate_weight = nn.Parameter(torch.empty(N, d, 2 * d))
            self.gate_bias = nn.Parameter(torch.zeros(N, d))
            for weight in self.gate_weight.detach():
                nn.init.xavier_uniform_(weight)

    def gates(
        self, Y: Float[Tensor, "r t d"], C: Float[Tensor, "r n t d"]
    ) -> Float[Tensor, "r n t d"]:
        """The gates of all encoder layers, each with its own W_i and b_i."""
        if self.mesh == "softmax":
            return softmax_gates(Y, C, self.gate_weight, self.gate_bias)
        layers = zip(C.unbind(1), self.gate_weight, self.gate_bias)
        alpha = [mesh_gate(Y, C_i, W_i, b_i) for C_i, W_i, b_i in layers]
        return torch.stack(alpha, dim=1)

    def combine(
        self, Y: Float[Tensor, "r t d"], C: Float[Tensor, "r n t d"]
    ) -> Float[Tensor, "r t d"]:
        """What the words take from the encoder's layers: a gated sum (eq:m2-mesh), or the only layer there
        is."""
        if self.mesh in ("one-to-one", "last"):
            return C[:, 0]
        return mesh(self.gates(Y, C), C)

    def forward(
        self,
        x: Float[Tensor, "r t d"],
        levels: Float[Tensor, "b n p d"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "r t d"]:
        Y = self.self_norm(x + self.dropout(self.self_attention(x)))
        C = self.dropout(self.cross_attention(Y, levels, mask))
        if self.norm == "code":
            E = self.cross_norm(Y[:, None] + C)
            Z = self.combine(Y, E)                       # eq:m2-decoder-code
        else:
            Z = self.cross_norm(Y + self.combine(Y, C))  # eq:m2-decoder-paper
        return self.feed_forward_norm(Z + self.dropout(self.feed_forward(Z)))


@contextmanager
def record_gates(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """``with record_gates(model) as gates:`` keeps the gates (r, n, t, d) of the last call of each decoder
    layer.

    A key is the name of a layer in ``model.named_modules()``; layers without gates leave nothing.
    """
    gates: dict[str, Tensor] = {}

    def keep(name: str, layer: MeshedDecoderLayer, Y: Tensor, C: Tensor) -> Tensor:
        gates[name] = type(layer).gates(layer, Y, C)
        return gates[name]

    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, MeshedDecoderLayer)}
    for name, layer in layers.items():
        layer.gates = partial(keep, name, layer)                           # type: ignore[method-assign]
    try:
        yield gates
    finally:
        for layer in layers.values():
            vars(layer).pop("gates", None)                                 # the class's own again


# ------------------------------------------------------------------------------------------------------ model


class M2Transformer(nn.Module):
    """Image features in, scores of the next word out (eq:m2-encoder, eq:m2-decoder-code).

    ``encode``: features (b, p, f), regions or grid cells, and optionally ``mask`` (b, p), True = real;
    returns a ``Context``. Without a mask, all-zero rows are padding (``padding="zero-rows"``). ``decode``:
    tokens (b k, t), k rows an image, and the context; returns logits (b k, t, v) of the token after each
    position, not normalised. Inside a ``KVCache`` only new tokens are given. Padding may only follow a
    caption; what is said there is not used. ``record_attention`` gets "encoder.i.attention" (b, h, p, p +
    n_m), "decoder.i.self_attention" (r, h, t, t) and "decoder.i.cross_attention" (b, g, n, h, t, p) for r = b
    g; ``record_gates`` gets "decoder.i" (r, n, t, d). Raises ``ValueError`` for features of another size, and
    for captions longer than ``max_len``.
    """

    def __init__(self, config: M2Config) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.project = InputProjection(config.features, d, config.dropout)
        self.encoder = nn.ModuleList(
            EncoderLayer(d, config.heads, config.ff, config.dropout, attention=encoder_attention(config))
            for _ in range(config.layers)
        )
        self.embed = TokenEmbedding(config.vocab, d, config.max_len, PAD, config.positions)
        self.decoder = nn.ModuleList(MeshedDecoderLayer(config) for _ in range(config.layers))
        self.output = nn.Linear(d, config.vocab, bias=False)
        nn.init.xavier_uniform_(self.output.weight)

    def encode(
        self, features: Float[Tensor, "b p f"], mask: Bool[Tensor, "b p"] | None = None
    ) -> Context:
        if features.shape[-1] != self.config.features:
            raise ValueError(
                f"features have size {features.shape[-1]}, the model wants {self.config.features}; "
                "build it with M2Config(features=…) of your extractor")
        if mask is None and self.config.padding == "zero-rows":
            mask = (features != 0).any(dim=-1)
        x = self.project(features)
        levels = []
        for layer in self.encoder:
            x = layer(x, mask)
            levels.append(x)
        return Context(torch.stack(levels, dim=1), mask)

    def decode(self, tokens: Int[Tensor, "r t"], context: Context) -> Float[Tensor, "r t v"]:
        x = self.embed(tokens)
        for i, layer in enumerate(self.decoder):
            x = layer(x, self.levels_of(i, context.levels), context.mask)
        return self.output(x)

    def levels_of(self, layer: int, levels: Float[Tensor, "b n p d"]) -> Float[Tensor, "b m p d"]:
        """The encoder outputs that decoder layer ``layer`` reads: all, its own, or the last."""
        if self.config.mesh == "one-to-one":
            return levels[:, layer : layer + 1]
        return levels[:, -1:] if self.config.mesh == "last" else levels

    def forward(
        self,
        features: Float[Tensor, "b p f"],
        tokens: Int[Tensor, "r t"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "r t v"]:
        return self.decode(tokens, self.encode(features, mask))


def encoder_attention(config: M2Config) -> MultiHeadAttention:
    """The attention of an encoder layer: with memory, on attention, or plain."""
    if config.memory:
        return MemoryAttention(config.width, config.heads, config.memory, config.memory_init)
    kind = AttentionOnAttention if config.aoa else MultiHeadAttention
    return kind(config.width, config.heads)
