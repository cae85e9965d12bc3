r"""Flamingo: a frozen language model that reads pictures and videos between its words, and learns a task from
a few examples in its prompt.

Paper: J.-B. Alayrac et al. (2022), *Flamingo: a Visual Language Model for Few-Shot Learning*,
arXiv:2204.14198, sec. 2 and appendix A.1, whose table of sizes is followed here; A. Jaegle et al. (2021),
*Perceiver*, arXiv:2103.03206 (latents that read); A. Awadalla et al. (2023), *OpenFlamingo*,
arXiv:2308.01390 (the public models).  Survey: 5.3.  Differs from the paper: what it leaves open is chosen
here. The features of the vision encoder are projected to the width of the resampler (its count of 194M says
that they are), whose output is normalised, as both open reproductions do; keys and values of a gated block
come from that width. The projections have no biases. A video of more frames than there are embeddings of
times gets the table stretched from its first to its last row. A token ``<image>`` sees its own picture. The
learned vector of the new token <EOC> is what is added to its frozen row.

Letters: $y_\ell$ is token $\ell$ of a text, $x_i$ its picture or video $i$, $\phi(\ell)$ the number of the
last one before it; $X$ are the $r$ latents of a picture, $X_f$ its features, $Y$ the states of the tokens.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import Attend, KVCache, MultiHeadAttention, attention, fused_attention
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.transformer import GELU

PARTS = ("language", "vision")                  # that were trained before, and are frozen
SEES = ("last", "all")                          # which of the pictures before it a token sees
# weights of the paper's four sets of data: pages, captions (two sets), videos
MIXTURE = {"M3W": 1.0, "ALIGN": 0.2, "LTIP": 0.2, "VTP": 0.03}
MANY = 32                                       # visual tokens of a picture, from which on tokens are sorted
# what all OpenFlamingos have in common, over CLIP ViT-L/14; their tables of words are trained as a whole
OPEN: dict[str, Any] = {"heads": 8, "features": 1024, "visual": 1024, "resampler_heads": 8, "frames": 0,
                        "head": 64, "activation": "gelu", "ends": False}


class LanguageModel(Protocol):
    """What Flamingo needs of a causal language model: the parts between which its blocks stand.

    ``embed(tokens (b t), mask)`` -> states (b, t, d), with positions that go on inside a ``KVCache``; each of
    ``layers`` is called as ``layer(x, mask)`` and sees the past only; ``norm`` and ``logits`` tell words (b,
    t, v). ``mask`` (b, s) says which of all positions so far are real, None: all.
    """

    layers: nn.ModuleList
    norm: nn.Module

    def embed(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor: ...

    def logits(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FlamingoConfig:
    layers: int = 80            # of the frozen language model
    width: int = 8192           # D, of its states
    heads: int = 64             # of a gated block
    every: int = 7              # a gated block stands before each n-th layer,
    first: int = 0              # beginning with this one
    features: int = 3072        # f, numbers of a cell of the vision encoder
    visual: int = 1536          # d, width of the resampler and of visual tokens
    resampler_layers: int = 6
    resampler_heads: int = 16
    latents: int = 64           # r, visual tokens of a picture or video
    frames: int = 8             # embeddings of times; 0: none
    head: int = 128             # d_k, width of a head, here and there
    activation: str = "squared relu"    # of the feed-forward nets: "squared relu", "gelu" or "relu"
    sees: str = "last"          # which pictures a token sees: the "last" one before it, or "all" before it
    gated: bool = True          # are the blocks behind gates that begin at 0?
    ends: bool = True           # is a vector learned for <EOC>?
    image: int = 4              # id of the token <image>
    eoc: int = 3                # id of the token <EOC>, which ends a chunk

    def __post_init__(self) -> None:
        check(self, first=(0, 1000), frames=(0, 10_000), image=(0, 10_000_000), eoc=(0, 10_000_000),
              layers=(1, 1000), resampler_layers=(0, 1000))
        if self.activation not in ACTIVATIONS:
            raise FieldError("FlamingoConfig", "activation", f"is {self.activation!r}; use one of "
                                                             f"{', '.join(ACTIVATIONS)}")
        if self.sees not in SEES:
            raise FieldError("FlamingoConfig", "sees", f"is {self.sees!r}; use one of {', '.join(SEES)}")
        if self.first >= self.layers:
            raise FieldError("FlamingoConfig", "first", f"is {self.first} of {self.layers} layers, so that "
                                                        "no block would be there; choose a lower one")
        if self.image == self.eoc:
            raise FieldError("FlamingoConfig", "eoc", f"is {self.eoc}, which is <image> already; "
                                                      "give each token its own id")

    @property
    def places(self) -> range:
        """The layers of the language model that have a gated block before them."""
        return range(self.first, self.layers, self.every)

    @classmethod
    def flamingo_3b(cls) -> "FlamingoConfig":
        """Flamingo-3B, over Chinchilla's 1.4B: a block before each of 24 layers."""
        return cls(24, 2048, 16, 1)

    @classmethod
    def flamingo_9b(cls) -> "FlamingoConfig":
        """Flamingo-9B, over Chinchilla's 7.1B: a block before every fourth of 40 layers."""
        return cls(40, 4096, 32, 4)

    @classmethod
    def flamingo_80b(cls) -> "FlamingoConfig":
        """Flamingo, over Chinchilla's 70B: a block before every seventh of 80 layers."""
        return cls()

    @classmethod
    def openflamingo_3b(cls) -> "FlamingoConfig":
        """OpenFlamingo-3B, over MPT-1B."""
        return cls(24, 2048, every=1, first=0, **OPEN)

    @classmethod
    def openflamingo_4b(cls) -> "FlamingoConfig":
        """OpenFlamingo-4B, over RedPajama-INCITE-3B."""
        return cls(32, 2560, every=2, first=1, **OPEN)

    @classmethod
    def openflamingo_9b(cls) -> "FlamingoConfig":
        """OpenFlamingo-9B, over MPT-7B."""
        return cls(32, 4096, every=4, first=3, **OPEN)

    @classmethod
    def mini(cls, width: int = 96, layers: int = 4, features: int = 64) -> "FlamingoConfig":
        """A miniature over a miniature language model, for pictures of 8 x 8 cells: 0.56M trained."""
        return cls(layers, width, 4, 1, 0, features, 64, 2, 4, 8, 4, 24)


# -------------------------------------------------------------------------------------------------- equations


def last_picture(is_picture: Bool[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    r"""eq:flamingo-phi: $\phi(\ell)=\max\{i:\ \ell_i\le\ell\}$ for pictures at the tokens
    $\ell_1<\ell_2<\dots$, and 0 before the first: which picture was shown last."""
    return is_picture.cumsum(dim=1)


def media_mask(
    phi: Int[Tensor, "b t"], m: int, sees: str = "last"
) -> Bool[Tensor, "b t m"]:
    r"""eq:flamingo-mask: $M_{\ell i}=[\phi(\ell)=i]$: a token sees the last picture
    before it alone; with ``sees`` "all" $M_{\ell i}=[i\le\phi(\ell)]$: all before it."""
    i = torch.arange(1, m + 1, device=phi.device)
    phi = phi[..., None]
    return phi == i if sees == "last" else i <= phi


def with_times(
    X_f: Float[Tensor, "b n p d"], e: Float[Tensor, "k d"]
) -> Float[Tensor, "b n_p d"]:
    r"""eq:flamingo-time: $X_f\leftarrow X_f+e_n$ for frame $n$, whatever the place in it;
    then all places of all frames are one sequence."""
    e = frame_times(e, X_f.shape[1])
    return (X_f + e[:, None]).flatten(1, 2)


def frame_times(
    e: Float[Tensor, "k d"], n: int
) -> Float[Tensor, "n d"]:
    r"""eq:flamingo-time-between: $e(u)=(1-w)\,e_{\lfloor u\rfloor}+w\,e_{\lfloor u\rfloor+1}$
    with $w=u-\lfloor u\rfloor$, $u=i\,(k-1)/(n-1)$: $k$ times for $n>k$ frames; fewer frames
    have the first ones."""
    k = len(e)
    if n <= k:
        return e[:n]
    u = torch.arange(n, device=e.device) * (k - 1)              # n - 1 times u
    below, w = u // (n - 1), (u % (n - 1))[:, None] / (n - 1)
    w = w.to(e.dtype)
    return (1 - w) * e[below] + w * e[(below + 1).clamp(max=k - 1)]


def read_latents(
    Q: Float[Tensor, "b h r e"], features: tuple[Tensor, Tensor],
    latents: tuple[Tensor, Tensor], attend: Attend = attention,
) -> Float[Tensor, "b h r e"]:
    r"""eq:flamingo-resample:
    $X\leftarrow X+\mathrm{MHA}\big(\mathrm{LN}(X),[\mathrm{LN}(X_f);\mathrm{LN}(X)]\big)$:
    latents read features and latents; the keys and values of both are given here."""
    K, V = (torch.cat(pair, dim=-2) for pair in zip(features, latents))
    return attend(Q, K, V, None)


def read_features(
    Q: Float[Tensor, "b h r e"], X: Float[Tensor, "b s d"],
    W_k: Float[Tensor, "h e d"], W_v: Float[Tensor, "h e d"],
    latents: tuple[Tensor, Tensor],
) -> Float[Tensor, "b h r e"]:
    r"""eq:flamingo-absorb: $q_i(XW_k)^\top=(q_iW_k^\top)X^\top$ and
    $A(XW_v)=(AX)W_v$: what ``read_latents`` reads of the features $X$, without keys
    and values of them; an optimisation where they outnumber the latents by far."""
    (K, V), s = latents, X.shape[1]
    Q = Q / Q.shape[-1] ** 0.5
    q = Q @ W_k                                                # b h r d
    of_X = (q.flatten(1, 2) @ X.mT).unflatten(1, q.shape[1:3])
    A = torch.cat([of_X, Q @ K.mT], dim=-1).softmax(dim=-1)    # b h r (s r)
    read = (A[..., :s].flatten(1, 2) @ X).view_as(q)
    return read @ W_v.mT + A[..., s:] @ V


def squared_relu(z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:flamingo-squared-relu: $\max(z,0)^2$."""
    return torch.relu(z).square()


def read_pictures(
    Q: Float[Tensor, "b h t e"], K: Float[Tensor, "b h s e"],
    V: Float[Tensor, "b h s e"], mask: Bool[Tensor, "b 1 t s"],
    attend: Attend = attention,
) -> Float[Tensor, "b h t e"]:
    r"""eq:flamingo-read: $H_\ell=[\phi(\ell)>0]\;\sum_jA_{\ell j}v_j$ with the weights $A$
    of eq:attention under the mask: a token before the first picture reads zeros."""
    sees = mask.any(dim=-1, keepdim=True)
    read = attend(Q, K, V, mask | ~sees)    # no row is empty: finite slopes
    return torch.where(sees, read, 0.0)


def fused_read_pictures(
    Q: Float[Tensor, "b t h e"], K: Float[Tensor, "b m h r e"],
    V: Float[Tensor, "b m h r e"], seen: Bool[Tensor, "b t m"],
) -> Float[Tensor, "b t h e"]:
    """An optimisation: ``read_pictures`` where a token sees one picture at most, by PyTorch's fused kernel.

    The queries that see a picture become a list, as long as the longest, which reads its keys and no others.
    """
    (b, t, m), longest = seen.shape, int(seen.sum(dim=1).amax())
    picture = seen.long().argmax(dim=-1, keepdim=True)
    rank = (seen.cumsum(dim=1) - 1).gather(2, picture)[..., 0]      # of a query, in its list
    start = torch.arange(b * m, device=Q.device).view(b, m).gather(1, picture[..., 0]) * longest
    end = b * m * longest                                           # where queries are put that see nothing
    place = torch.where(seen.any(dim=-1), start + rank, end).flatten()
    token = place.new_full((end + 1,), b * t).index_copy(0, place, torch.arange(b * t, device=Q.device))
    lists = Q.new_zeros(end + 1, *Q.shape[2:]).index_copy_(0, place, Q.flatten(0, 1))
    lists = lists[:end].unflatten(0, (b * m, longest)).transpose(1, 2)
    read = fused_attention(lists, K.flatten(0, 1), V.flatten(0, 1)).transpose(1, 2).flatten(0, 1)
    return Q.new_zeros(b * t + 1, *Q.shape[2:]).index_copy_(0, token[:end], read)[: b * t].view_as(Q)


def gated(
    Y: Float[Tensor, "*b d"], alpha: Float[Tensor, " 1"],
    f: Float[Tensor, "*b d"],
) -> Float[Tensor, "*b d"]:
    r"""eq:flamingo-gate: $Y\leftarrow Y+\tanh(\alpha)\,f(Y)$, $\alpha=0$ at the start: the
    block is not there until training opens its gate."""
    return torch.addcmul(Y, alpha.tanh(), f)


def gate_slope(
    g: Float[Tensor, "*b d"], alpha: Float[Tensor, " 1"],
    f: Float[Tensor, "*b d"],
) -> Float[Tensor, " 1"]:
    r"""eq:flamingo-gate-gradient: $\partial L/\partial\alpha=\langle g,f\rangle\,(1-\tanh^2\alpha)$
    with $g=\partial L/\partial Y$: not 0 at $\alpha=0$, where the gradient of all weights
    inside $f$, $\tanh(\alpha)$ times something, is."""
    return (g * f).sum() * (1 - alpha.tanh().square())


def interleaved_loss(
    logits: Float[Tensor, "b t v"], tokens: Int[Tensor, "b t"],
    scored: Bool[Tensor, "b t"],
) -> Float[Tensor, ""]:
    r"""eq:flamingo-chain: $-\log p(y\mid x)=-\sum_\ell\log p(y_\ell\mid y_{<\ell},x_{\le\ell})$,
    $x_{\le\ell}$ being the pictures up to $\phi(\ell)$: a mean over the tokens that are
    ``scored`` (never the first, which nothing predicts)."""
    log_p = logits[:, :-1].log_softmax(dim=-1)
    log_p = log_p.gather(-1, tokens[:, 1:, None])[..., 0]
    counted = scored[:, 1:].to(log_p)
    return -(log_p * counted).sum() / counted.sum().clamp(min=1)


def mixture_loss(
    losses: Float[Tensor, " m"], weights: Float[Tensor, " m"]
) -> Float[Tensor, ""]:
    r"""eq:flamingo-mixture: $\sum_m\lambda_mL_m$ over sets of data: the gradients of all are
    summed before one update (turns of one update each are worse)."""
    return (weights * losses).sum()


# ----------------------------------------------------------------------------------------------------- layers


class SquaredReLU(nn.Module):
    """The activation eq:flamingo-squared-relu as a module: any shape."""

    def forward(self, z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return squared_relu(z)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "squared relu": SquaredReLU, "gelu": GELU, "relu": nn.ReLU}


class Dense(nn.Module):
    """Normalise, widen four times, activate, narrow; no biases: (…, d) -> (…, d)."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 4 * width, bias=False)
        self.activation = ACTIVATIONS[activation]()
        self.outer = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return self.outer(self.activation(self.inner(self.norm(x))))


class LatentAttention(MultiHeadAttention):
    """Latents (b, r, d) read features (b, s, d) and themselves (eq:flamingo-resample): (b, r, d).

    Latents that are the same for all pictures may come once, (1, r, d). Both are normalised, each by a layer
    norm of its own. Where it is less work the keys and values of features are not made (eq:flamingo-absorb).
    """

    def __init__(self, width: int, heads: int, head: int) -> None:
        nn.Module.__init__(self)
        self.width, self.heads, self.inner = width, heads, heads * head
        self.norm_features = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        # rows: queries, keys, values
        self.in_weight = nn.Parameter(torch.empty(3 * self.inner, width))
        self.out = nn.Linear(self.inner, width, bias=False)
        for block in self.in_weight.detach().chunk(3):
            nn.init.xavier_uniform_(block)
        nn.init.xavier_uniform_(self.out.weight)

    def absorbs(self, r: int, s: int) -> bool:
        """Is it less work to read s features by r latents without making their keys and values?"""
        head = self.inner // self.heads
        return "attend" not in vars(self) and s * head > r * (s + head)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "#b r d"], features: Float[Tensor, "b s d"]
    ) -> Float[Tensor, "b r d"]:
        b, s, _ = features.shape
        features, x = self.norm_features(features), self.norm_latents(x)
        made = F.linear(x, self.in_weight).chunk(3, dim=-1)
        Q, K, V = (self.split(z).expand(b, -1, -1, -1) for z in made)
        if self.absorbs(Q.shape[2], s):
            W = self.in_weight.view(3, self.heads, -1, self.width)
            read = read_features(Q, features, W[1], W[2], (K, V))
        else:
            pair = F.linear(features, self.in_weight[self.inner:])
            K_f, V_f = (self.split(z) for z in pair.chunk(2, dim=-1))
            read = read_latents(Q, (K_f, V_f), (K, V), self.attend)
        return self.out(self.join(read))


class ResamplerLayer(nn.Module):
    """Latents read the features, then a feed-forward net; both add to them: (b, r, d)."""

    def __init__(self, config: FlamingoConfig) -> None:
        super().__init__()
        self.attention = LatentAttention(
            config.visual, config.resampler_heads, config.head)
        self.dense = Dense(config.visual, config.activation)

    def forward(
        self, x: Float[Tensor, "#b r d"], features: Float[Tensor, "b s d"]
    ) -> Float[Tensor, "b r d"]:
        x = x + self.attention(x, features)
        return x + self.dense(x)


class PerceiverResampler(nn.Module):
    """Features of frames (b, n, p, f) -> a fixed number of visual tokens (b, r, d), however many pixels and
    frames there were.

    Learned latents read the features of all frames, to which the embeddings of their times were added
    (eq:flamingo-time), layer by layer (eq:flamingo-resample). A picture is a video of one frame.
    """

    def __init__(self, config: FlamingoConfig) -> None:
        super().__init__()
        self.config, d, n = config, config.visual, config.frames
        same = config.features == d
        self.project = nn.Identity() if same else nn.Linear(config.features, d)
        self.latents = nn.Parameter(torch.randn(config.latents, d))
        self.times = nn.Parameter(0.02 * torch.randn(n, d)) if n else None
        self.layers = nn.ModuleList(
            ResamplerLayer(config) for _ in range(config.resampler_layers))
        self.norm = nn.LayerNorm(d)

    def forward(
        self, features: Float[Tensor, "b n p f"]
    ) -> Float[Tensor, "b r d"]:
        X_f = self.project(features)
        if self.times is None:
            X_f = X_f.flatten(1, 2)
        else:
            X_f = with_times(X_f, self.times)              # b (n p) d
        x = self.latents[None]
        for layer in self.layers:
            x = layer(x, X_f)
        return self.norm(x).expand(len(features), -1, -1)


class MediaAttention(MultiHeadAttention):
    """Tokens (rows, t, D) read the visual tokens (b, m, r, d) of the pictures that they see: (rows, t, D).

    ``seen`` (rows, t, m) says which (eq:flamingo-mask). The rows of a sequence (beams, samples) stand
    together and share its pictures; inside a ``KVCache`` these are projected once.
    """

    def __init__(self, config: FlamingoConfig) -> None:
        nn.Module.__init__(self)
        self.width, self.heads = config.width, config.heads
        self.inner = inner = config.heads * config.head
        self.keeps_past = True
        self.norm = nn.LayerNorm(config.width)
        self.queries = nn.Linear(config.width, inner, bias=False)
        self.sources = nn.Linear(config.visual, 2 * inner, bias=False)
        self.out = nn.Linear(inner, config.width, bias=False)
        for weight in (self.queries.weight, *self.sources.weight.chunk(2),
                       self.out.weight):
            nn.init.xavier_uniform_(weight.detach())

    def project_source(
        self, source: Float[Tensor, "b m r d"]
    ) -> tuple[Float[Tensor, "b h s e"], Float[Tensor, "b h s e"]]:
        K, V = self.sources(source.flatten(1, 2)).chunk(2, dim=-1)
        return self.split(K), self.split(V)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "rows t D"],
        visual: Float[Tensor, "b m r d"], seen: Bool[Tensor, "rows t m"],
    ) -> Float[Tensor, "rows t D"]:
        b, m, r, _ = visual.shape
        Q = self.queries(self.norm(x)).reshape(b, -1, self.inner)
        seen = seen.reshape(b, -1, m)
        if self.sorts(r, seen):
            K, V = (z.unflatten(0, (b, m)) for z in self.project_source(visual.flatten(0, 1)[:, None]))
            read = fused_read_pictures(Q.unflatten(-1, (self.heads, -1)), K, V, seen).flatten(2)
        else:
            if self.cache is None:
                K, V = self.project_source(visual)
            else:
                K, V = self.cache.source(self, visual)
            mask = seen.repeat_interleave(r, dim=-1)
            read = self.join(read_pictures(self.split(Q), K, V, mask[:, None], self.attend))
        return self.out(read).view_as(x)                # b (g t) -> (b g) t

    def sorts(self, r: int, seen: Bool[Tensor, "b t m"]) -> bool:
        """Is it less work to sort tokens by the picture that they see? It is where each sees one at most, of
        many visual tokens; not on an accelerator, which would have to wait for what ``seen`` says."""
        if self.cache is not None or "attend" in vars(self) or not seen.is_cpu:
            return False
        return r >= MANY and seen.shape[2] > 1 and bool(seen.any()) and int(seen.sum(dim=-1).amax()) == 1


class GatedCrossAttention(nn.Module):
    """The block GATED XATTN-DENSE: states (rows, t, D) that have read pictures (b, m, r, d), and a
    feed-forward net, both behind gates (eq:flamingo-gate).

    It is the identity until training opens a gate. The net acts on all tokens, also on those that see no
    picture. ``seen`` (rows, t, m) says which pictures a token sees.
    """

    gate_read: nn.Parameter | None
    gate_dense: nn.Parameter | None

    def __init__(self, config: FlamingoConfig) -> None:
        super().__init__()
        self.attention = MediaAttention(config)
        self.dense = Dense(config.width, config.activation)
        for name in ("gate_read", "gate_dense"):
            gate = nn.Parameter(torch.zeros(1)) if config.gated else None
            self.register_parameter(name, gate)

    def forward(
        self, x: Float[Tensor, "rows t D"],
        visual: Float[Tensor, "b m r d"], seen: Bool[Tensor, "rows t m"],
    ) -> Float[Tensor, "rows t D"]:
        x = self.add(x, self.gate_read, self.attention(x, visual, seen))
        return self.add(x, self.gate_dense, self.dense(x))

    def add(
        self, x: Float[Tensor, "rows t D"], gate: Tensor | None,
        f: Float[Tensor, "rows t D"],
    ) -> Float[Tensor, "rows t D"]:
        """eq:flamingo-gate, or the plain sum where there are no gates."""
        return x + f if gate is None else gated(x, gate, f)


# ------------------------------------------------------------------------------------------------------ model


class FlamingoAdapter(nn.Module):
    """All that Flamingo trains: the resampler, the gated blocks by their layer, and the vector of <EOC>."""

    def __init__(self, config: FlamingoConfig) -> None:
        super().__init__()
        self.config = config
        self.resampler = PerceiverResampler(config)
        self.blocks = nn.ModuleDict({str(i): GatedCrossAttention(config) for i in config.places})
        self.end = nn.Parameter(torch.zeros(config.width)) if config.ends else None

    def gates(self) -> Float[Tensor, "blocks 2"]:
        r"""$\tanh\alpha$ of both gates of each block: reading, feed-forward. Raises ``ValueError`` where
        there are none."""
        if not self.config.gated:
            raise ValueError("the blocks of this configuration have no gates; set gated = True")
        blocks: Any = self.blocks.values()
        return torch.stack([torch.cat([one.gate_read, one.gate_dense]) for one in blocks]).tanh()


class Flamingo(nn.Module):
    """Texts (b, t) with pictures or videos between their words -> logits (b, t, v) of the next token.

    ``language`` is any ``LanguageModel`` of ours, ``vision`` turns pictures (b, 3, y, x) into features (b,
    p, f); both are frozen and stay in evaluation mode, except parts that ``trained`` names. At the start the
    model is its language model. Texts without pictures pass by the blocks, so they are scored as before
    training (but for what <EOC> has learned). Raises ``ValueError`` for a language model of another size.
    """

    cache: KVCache | None = None
    keeps_past = True

    def __init__(
        self, config: FlamingoConfig, language: nn.Module, vision: nn.Module | None = None,
        trained: Collection[str] = (),
    ) -> None:
        super().__init__()
        if wrong := set(trained) - set(PARTS):
            raise ValueError(f"trained names {sorted(wrong)}; the frozen parts are {', '.join(PARTS)}")
        if not all(hasattr(language, name) for name in ("embed", "layers", "norm", "logits")):
            raise ValueError(f"{type(language).__name__} is no language model of ours; it needs embed, "
                             "layers, norm and logits")
        layers: Any = language.layers
        if len(layers) != config.layers:
            raise ValueError(f"the language model has {len(layers)} layers, the configuration "
                             f"{config.layers}; make both for one size")
        self.config = config
        self.adapter = FlamingoAdapter(config)
        self.language: Any = language
        self.vision = vision
        self.frozen = [part for part in PARTS if part not in trained and getattr(self, part) is not None]
        for part in self.frozen:
            getattr(self, part).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Flamingo":
        super().train(mode)
        for part in self.frozen:
            getattr(self, part).eval()
        return self

    def see(
        self, pictures: Float[Tensor, "b m 3 y x"] | Float[Tensor, "b m n 3 y x"] | None = None,
        features: Float[Tensor, "b m p f"] | Float[Tensor, "b m n p f"] | None = None,
    ) -> Float[Tensor, "b m r d"]:
        """Visual tokens of m pictures (or videos of n frames) a text, from pixels or from features of the
        vision encoder.

        Raises ``ValueError`` for both or neither, and for pixels without an encoder.
        """
        if pictures is not None and features is None:
            features = self.features(pictures if pictures.ndim == 6 else pictures[:, :, None])
        elif features is None or pictures is not None:
            raise ValueError("give either pictures or features of them")
        elif features.ndim == 4:
            features = features[:, :, None]                            # a frame each
        visual = self.adapter.resampler(features.flatten(0, 1))        # (b m) n p f -> (b m) r d
        return visual.unflatten(0, features.shape[:2])

    def features(self, pictures: Float[Tensor, "b m n 3 y x"]) -> Float[Tensor, "b m n p f"]:
        """What the vision encoder makes of each frame."""
        if self.vision is None:
            raise ValueError("this Flamingo has no vision encoder; give features, or make it with vision")
        with torch.set_grad_enabled(torch.is_grad_enabled() and "vision" not in self.frozen):
            return self.vision(pictures.flatten(0, 2)).unflatten(0, pictures.shape[:3])

    def read(
        self, tokens: Int[Tensor, "rows t"],
        visual: Float[Tensor, "b m r d"], phi: Int[Tensor, "rows t"],
        mask: Bool[Tensor, "rows s"] | None = None,
    ) -> Float[Tensor, "rows t v"]:
        """Logits of texts whose pictures have become visual tokens; ``phi`` says
        which was shown last, ``mask`` which of all positions so far are real."""
        lm, blocks = self.language, self.adapter.blocks
        seen = media_mask(phi, visual.shape[1], self.config.sees)
        x = lm.embed(tokens, mask)
        if self.adapter.end is not None:
            ends = (tokens == self.config.eoc)[..., None]
            x = x + ends * self.adapter.end
        for i, layer in enumerate(lm.layers):
            if str(i) in blocks and visual.shape[1]:
                x = blocks[str(i)](x, visual, seen)
            x = layer(x, mask)
        return lm.logits(lm.norm(x))

    def forward(
        self, tokens: Int[Tensor, "b t"],
        pictures: Float[Tensor, "b m 3 y x"] | Float[Tensor, "b m n 3 y x"] | None = None,
        features: Float[Tensor, "b m p f"] | Float[Tensor, "b m n p f"] | None = None,
        media: Int[Tensor, "b t"] | None = None, mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """``media`` is $\\phi$, by default counted by the tokens <image>; ``mask`` says which tokens are
        real.

        Raises ``ValueError`` for more pictures in a text than were given.
        """
        phi = last_picture(tokens == self.config.image) if media is None else media
        if pictures is None and features is None:
            visual = self.adapter.resampler.latents.new_zeros(len(tokens), 0, 1, 1)
        else:
            visual = self.see(pictures, features)
        if not tokens.is_meta and tokens.numel() and int(phi.max()) > visual.shape[1]:
            raise ValueError(f"a text shows {int(phi.max())} pictures, and {visual.shape[1]} are given; give "
                             "as many pictures as <image> stands in the longest text")
        return self.read(tokens, visual, phi, mask)

    def decode(self, tokens: Int[Tensor, "rows t"], context: Any) -> Float[Tensor, "rows t v"]:
        """Logits after each of ``tokens``, as ``mmlearn.generate`` asks for them; ``context`` is a ``Prompt``
        of ``mmlearn.nn.causal_lm``, whose texts and pictures (``see``) stand before the tokens."""
        past = 0 if self.cache is None else self.cache.length
        given, mask = context.given(tokens, past)
        if context.levels.shape[1]:
            phi = context.phi(past + given.shape[1])[:, past:]
        else:
            phi = torch.zeros_like(given)                              # a text alone
        return self.read(given, context.levels, phi, mask)[:, -tokens.shape[1]:]


def parameter_groups(model: Flamingo, decay: float | int = 0.1) -> Iterator[dict[str, Any]]:
    """What is trained, in two groups for AdamW: weights that decay, and the resampler's, which do not in the
    paper."""
    resampler = {id(p) for p in model.adapter.resampler.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    for weight_decay, inside in ((decay, False), (0.0, True)):
        yield {"params": [p for p in trained if (id(p) in resampler) is inside], "weight_decay": weight_decay}
