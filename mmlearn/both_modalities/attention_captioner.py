r"""The recurrent attention captioner: an LSTM that looks at a picture once for each word.

Papers: J. Lu, C. Xiong, D. Parikh and R. Socher (2017), *Knowing When to Look: Adaptive Attention via A
Visual Sentinel for Image Captioning*, CVPR, arXiv:1612.01887, sec. 2.2 (spatial attention), 2.3 (sentinel);
K. Xu et al. (2015), *Show, Attend and Tell*, ICML, arXiv:1502.03044, sec. 3.1.2 (first state, deep output),
4.1 (hard attention), 4.2 (soft attention, doubly stochastic penalty); M.-T. Luong et al. (2015), *Effective
Approaches to Attention-based Neural Machine Translation*, arXiv:1508.04025, sec. 3 (joining by a tangent).
Survey: 5.3, whose five equations, given there for Flamingo, are this captioner:
$V=f_v(I)$, $h_t=f_l(w_t,h_{t-1})$, $v_t=f_a(V,h_t)$, $h^*_t=f_s(v_t,h_t)$,
$p_t=\mathrm{softmax}(h^*_tW_p+b_p)$.
Differs from the survey: $h_t$ has read $w_t$, so that $p_t$ is the distribution of $w_{t+1}$. Differs from
Lu et al.: the cells of the grid are projected without a ReLU, the picture's vector is the mean of the
projected cells, the first state is that of Xu et al., and attention has a bias. Differs from Xu et al.:
attention asks the present state and its answer enters only the output. So the LSTM runs over a whole caption
at once, and a place that is drawn by hard attention changes the word of its own step only, which alone is
its reward (theirs changes all later words). In evaluation hard attention takes the likeliest place.

Letters of shapes: r captions, r a multiple of the b pictures, those of a picture standing together; t words,
p cells, d width of a state, e of a word, k of the attention, q words asked at once, n captions times words.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.data.tokenisers import Tokeniser
from mmlearn.generate import beam, greedy
from mmlearn.image2text.captioner import LITE0, build_trunk
from mmlearn.image2text.losses import caption_cross_entropy
from mmlearn.nn.attention import KVCache
from mmlearn.nn.configuration import check
from mmlearn.nn.modes import eval_mode
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.transformer import Context
from mmlearn.nn.vision import Frozen

PAD = 1


@dataclass(frozen=True)
class AttentionCaptionerConfig:
    trunk: str = "features"     # "features": grids (b, p, f) come in; else as CaptionerConfig: "conv", …
    weights: str | None = None  # torchvision weights of the trunk
    frozen: bool = False        # the trunk is not trained
    features: int = 2048        # f, numbers of a cell, where grids come in
    vocab: int = 10_000         # V, words with the four special tokens
    embedding: int = 512        # e, numbers of a word
    width: int = 512            # d, numbers of a state and of a projected cell
    attention: int = 49         # k, inner width of the attention
    reading: Literal["soft", "hard"] = "soft"       # mean over the cells, or one cell that is drawn
    output: Literal["sum", "tanh", "deep"] = "sum"  # how state and reading are joined
    sentinel: bool = False      # one more place to look at: what the memory holds
    dropout: float = 0.5        # of words and of what the output layer gets
    max_len: int = 54           # T, most tokens of a caption with <bos>

    def __post_init__(self) -> None:
        check(self)
        if self.sentinel and self.reading == "hard":
            raise ValueError("sentinel with hard reading: no paper draws the sentinel; use soft reading")

    @classmethod
    def spatial(cls) -> "AttentionCaptionerConfig":
        """Lu et al.'s spatial attention: 7 x 7 cells of ResNet-152, 2048 numbers each; states of 512.

        The vocabulary is a round number. Their released code has wider layers: 512 numbers in the attention,
        and another layer before the output.
        """
        return cls()

    @classmethod
    def adaptive(cls) -> "AttentionCaptionerConfig":
        """The same with the sentinel."""
        return cls(sentinel=True)

    @classmethod
    def deep(cls) -> "AttentionCaptionerConfig":
        """With Xu et al.'s output layer and the sizes of their released training script for COCO: 14 x 14
        cells of VGG, 512 numbers each, states of 1800."""
        return cls(features=512, width=1800, attention=512, output="deep")

    @classmethod
    def mini(cls, vocab: int = 200) -> "AttentionCaptionerConfig":
        """Four blocks of convolution (64 pixels -> 8 x 8 cells of 64 channels), states of 128."""
        return cls("conv", vocab=vocab, embedding=64, width=128, attention=96, dropout=0.1, max_len=30)


class Reading(NamedTuple):
    """What is read for each word: ``logits`` (r, t, v), ``weights`` (r, t, p) of the cells, ``log_drawn``
    (r, t), log-probability of the place that was drawn (0 for soft attention), and ``sentinel`` (r, t), the
    weight of the sentinel (0 without one)."""

    logits: Tensor
    weights: Tensor
    log_drawn: Tensor
    sentinel: Tensor


# -------------------------------------------------------------------------------------------------- equations

def picture_vector(
    V: Float[Tensor, "b p d"], mask: Bool[Tensor, "b p"] | None = None
) -> Float[Tensor, "b d"]:
    r"""eq:recap-mean: $\bar v=\frac1p\sum_iv_i$: the picture in one row, a mean over its real cells."""
    if mask is None:
        return V.mean(dim=1)
    real = mask[..., None].to(V.dtype)
    return (V * real).sum(dim=1) / real.sum(dim=1)


def first_state(
    v_bar: Float[Tensor, "r d"], W: Float[Tensor, "d d"],
    b: Float[Tensor, " d"]
) -> Float[Tensor, "r d"]:
    r"""eq:recap-first: $h_0=\tanh(\bar vW_h+b_h)$, and $c_0$ likewise with weights of its own."""
    return torch.tanh(v_bar @ W + b)


def lstm_input(
    words: Float[Tensor, "r t e"], v_bar: Float[Tensor, "r d"]
) -> Float[Tensor, "r t f"]:
    r"""eq:recap-state: $(h_t,c_t)=\mathrm{LSTM}([E_{w_t};\bar v],h_{t-1},c_{t-1})$; this is the bracket."""
    whole = v_bar[:, None].expand(-1, words.shape[1], -1)
    return torch.cat([words, whole], dim=-1)


def place_scores(
    keys: Float[Tensor, "b p k"], queries: Float[Tensor, "b q k"],
    w: Float[Tensor, " k"]
) -> Float[Tensor, "b q p"]:
    r"""eq:recap-scores: $e_{t,i}=\tanh(v_iW_v+h_tW_h+b_a)\,w_a$: how well cell i suits step t. ``keys``
    are $v_iW_v$, ``queries`` $h_tW_h+b_a$."""
    return torch.tanh(keys[:, None] + queries[:, :, None]) @ w


def place_weights(
    scores: Float[Tensor, "b q p"],
    mask: Bool[Tensor, "b p"] | None = None
) -> Float[Tensor, "b q p"]:
    r"""eq:recap-weights: $\alpha_t=\mathrm{softmax}(e_t)$, a distribution over the real cells."""
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], float("-inf"))
    return scores.softmax(dim=-1)


def soft_reading(
    weights: Float[Tensor, "b q p"], V: Float[Tensor, "b p d"]
) -> Float[Tensor, "b q d"]:
    r"""eq:recap-soft: $v_t=\sum_i\alpha_{t,i}v_i$: the mean of what hard attention would read."""
    return weights @ V


def hard_reading(
    places: Int[Tensor, "b q"], V: Float[Tensor, "b p d"]
) -> Float[Tensor, "b q d"]:
    r"""eq:recap-hard: $v_t=v_{s_t}$ with $s_t\sim\alpha_t$: one cell, which was drawn."""
    return V.gather(1, places[..., None].expand(-1, -1, V.shape[-1]))


def soft_jacobian(
    weights: Float[Tensor, " p"], V: Float[Tensor, "p d"]
) -> Float[Tensor, "p d"]:
    r"""eq:recap-jacobian: $\partial v_t/\partial e_{t,i}=\alpha_{t,i}(v_i-v_t)$: a cell gains as far as it
    differs from what is read already; a cell without weight learns nothing."""
    return weights[:, None] * (V - weights @ V)


def join_sum(
    v: Float[Tensor, "*b d"], h: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b d"]:
    r"""eq:recap-sum: $h^*_t=v_t+h_t$ (Lu et al.)."""
    return v + h


def join_tanh(
    v: Float[Tensor, "*b d"], h: Float[Tensor, "*b d"],
    W: Float[Tensor, "2*d d"]
) -> Float[Tensor, "*b d"]:
    r"""eq:recap-tanh: $h^*_t=\tanh([v_t;h_t]W_s)$ (Luong et al.)."""
    return torch.tanh(torch.cat([v, h], dim=-1) @ W)


def join_deep(
    word: Float[Tensor, "*b e"], v: Float[Tensor, "*b f"],
    h: Float[Tensor, "*b d"], W_v: Float[Tensor, "f e"],
    W_h: Float[Tensor, "d e"]
) -> Float[Tensor, "*b e"]:
    r"""eq:recap-deep: $h^*_t=E_{w_t}+v_tW_z+h_tW_g$: the word, the reading and the state (Xu et al.)."""
    return word + v @ W_v + h @ W_h


def word_logits(
    joined: Float[Tensor, "*b d"], W: Float[Tensor, "d v"],
    b: Float[Tensor, " v"]
) -> Float[Tensor, "*b v"]:
    r"""eq:recap-word: $p_\theta(w_{t+1}\mid w_{\le t},I)=\mathrm{softmax}(h^*_tW_p+b_p)$; these are the
    logits."""
    return joined @ W + b


def sentinel(
    gate: Float[Tensor, "*b d"], h: Float[Tensor, "*b d"],
    out_gate: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b d"]:
    r"""eq:recap-sentinel: $\varsigma_t=g_t\odot\tanh c_t$ with $g_t=\sigma(x_tW_x+h_{t-1}W_u)$.

    An LSTM over a whole caption gives $h_t=o_t\odot\tanh c_t$ and not $c_t$; so $\tanh c_t=h_t/o_t$.
    """
    return gate * h / out_gate


def sentinel_share(
    scores: Float[Tensor, "*b p"], score: Float[Tensor, "*b"]
) -> Float[Tensor, "*b"]:
    r"""eq:recap-share: $\beta_t=\sigma(e_{t,\varsigma}-\log\sum_i\exp e_{t,i})$: the sentinel's part of the
    softmax over all cells and itself."""
    return torch.sigmoid(score - scores.logsumexp(dim=-1))


def adaptive_reading(
    share: Float[Tensor, "*b"], s: Float[Tensor, "*b d"],
    v: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b d"]:
    r"""eq:recap-adaptive: $\hat v_t=\beta_t\varsigma_t+(1-\beta_t)v_t$: memory or picture."""
    return share[..., None] * s + (1 - share)[..., None] * v


def doubly_stochastic(
    weights: Float[Tensor, "b t p"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    r"""eq:recap-doubly: $\sum_i(1-\sum_t\alpha_{t,i})^2$, a mean over captions: every cell is to be looked
    at as much as the others. ``mask`` is true where a word is asked for."""
    seen = (weights * mask[..., None]).sum(dim=1)
    return (1 - seen).square().sum(dim=-1).mean()


def reinforce(
    log_p: Float[Tensor, "*b"], log_drawn: Float[Tensor, "*b"],
    entropy: Float[Tensor, "*b"], baseline: Float[Tensor, ""],
    weight: float | int = 1.0, explore: float | int = 0.0
) -> Float[Tensor, "*b"]:
    r"""eq:recap-reinforce: $\ell_t+\lambda_r\,\mathrm{sg}[\ell_t-b]\log\alpha_{t,s_t}+\lambda_e\,H(\alpha_t)$
    with $\ell_t=\log p_\theta(w_{t+1}\mid s_t)$: its mean gradient over $s_t\sim\alpha_t$ is, for
    $\lambda_r=1$ and $\lambda_e=0$, that of $\sum_i\alpha_{t,i}\log p_\theta(w_{t+1}\mid s_t=i)$."""
    gain = (log_p - baseline).detach()
    return log_p + weight * gain * log_drawn + explore * entropy


def moving_baseline(
    baseline: Float[Tensor, ""], log_p: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    r"""eq:recap-baseline: $b\leftarrow0.9\,b+0.1\,\ell$, with $\ell$ the mean over the last batch."""
    return 0.9 * baseline + 0.1 * log_p.detach()


def place_entropy(weights: Float[Tensor, "*b p"]) -> Float[Tensor, "*b"]:
    r"""eq:recap-entropy: $H(\alpha_t)=-\sum_i\alpha_{t,i}\log\alpha_{t,i}$, in nats; $\log p$ at most.

    A cell without weight adds 0, and so does its gradient."""
    tiny = torch.finfo(weights.dtype).tiny
    return -(weights * weights.clamp(min=tiny).log()).sum(dim=-1)


# ----------------------------------------------------------------------------------------------------- blocks

class Recurrence(nn.Module):
    """An LSTM over words (eq:recap-state): inputs (r, t, f), first state and memory (r, d) -> (r, t, d).

    Inside a ``KVCache`` it goes on where the last call ended, and a beam takes its state along.
    """

    cache: KVCache | None = None
    keeps_past = True

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, width, batch_first=True)

    def forward(
        self, x: Float[Tensor, "r t f"], h: Float[Tensor, "r d"],
        c: Float[Tensor, "r d"],
    ) -> tuple[Float[Tensor, "r t d"], Float[Tensor, "r t d"]]:
        """States after each word, and before each word."""
        if self.cache is not None and self in self.cache.past:
            h, c = (old[:, 0, -1] for old in self.cache.past[self])
        states, (last, memory) = self.lstm(x, (h[None].contiguous(), c[None].contiguous()))
        if self.cache is not None:
            self.cache.extend(self, last[0][:, None, None], memory[0][:, None, None])
        return states, torch.cat([h[:, None], states[:, :-1]], dim=1)

    def out_gate(
        self, x: Float[Tensor, "r t f"], before: Float[Tensor, "r t d"]
    ) -> Float[Tensor, "r t d"]:
        """The LSTM's output gate $o_t$, which it does not give out."""
        last = 3 * self.lstm.hidden_size                # the gates are stacked: input, forget, cell, output
        W_x, W_h, b_x, b_h = (p[last:] for p in self.lstm.parameters())
        return torch.sigmoid(F.linear(x, W_x, b_x) + F.linear(before, W_h, b_h))


class PlaceAttention(nn.Module):
    """Scores of cells (b, p, d) for states (b, q, d): (b, q, p), eq:recap-scores."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.keys = nn.Linear(width, inner, bias=False)
        self.queries = nn.Linear(width, inner)
        self.score = nn.Linear(inner, 1, bias=False)

    def forward(self, V: Float[Tensor, "b p d"], h: Float[Tensor, "b q d"]) -> Float[Tensor, "b q p"]:
        return place_scores(self.keys(V), self.queries(h), self.score.weight[0])


class Sentinel(nn.Module):
    """The sentinel and its score: eq:recap-sentinel, and $\\tanh(\\varsigma_tW_\\varsigma+h_tW_h+b_a)w_a$."""

    def __init__(self, inputs: int, width: int, inner: int) -> None:
        super().__init__()
        self.new = nn.Linear(inputs, width, bias=False)
        self.old = nn.Linear(width, width, bias=False)
        self.keys = nn.Linear(width, inner, bias=False)

    def forward(
        self, x: Float[Tensor, "r t f"], before: Float[Tensor, "r t d"], h: Float[Tensor, "r t d"],
        out_gate: Float[Tensor, "r t d"], attention: PlaceAttention,
    ) -> tuple[Float[Tensor, "r t d"], Float[Tensor, "r t"]]:
        s = sentinel(torch.sigmoid(self.new(x) + self.old(before)), h, out_gate)
        both = torch.tanh(self.keys(s) + attention.queries(h))
        return s, both @ attention.score.weight[0]


# ------------------------------------------------------------------------------------------------------ model

class RecurrentAttentionCaptioner(nn.Module):
    """Pictures in, scores of the next word out; a baseline for chapter 5.

    1. ``encode``: pictures (b, 3, y, x) in [0, 1], or grids (b, p, f), -> ``Context`` of cells (b, 1, p, d).
    2. ``read``: words (r, t) and context -> ``Reading``, the weights of the cells among it.
    ``decode`` gives the logits (r, t, v) alone, as the methods of ``mmlearn.generate`` want them; ``forward``
    is ``encode`` and ``decode``. Hard attention draws from ``generator`` in training and takes the likeliest
    cell in evaluation. Raises ``ValueError`` for tokens outside the vocabulary.
    """

    def __init__(self, config: AttentionCaptionerConfig) -> None:
        super().__init__()
        self.config = config
        e, d, k = config.embedding, config.width, config.attention
        self.trunk = self._trunk(config)
        channels = config.features if self.trunk is None else self.trunk.out_channels
        self.project = nn.Linear(channels, d)
        self.embed = nn.Embedding(config.vocab, e, padding_idx=PAD)
        self.first_h, self.first_c = nn.Linear(d, d), nn.Linear(d, d)
        self.recurrence = Recurrence(e + d, d)
        self.attention = PlaceAttention(d, k)
        self.sentinel = Sentinel(e + d, d, k) if config.sentinel else None
        self.join = nn.ModuleList(
            {"sum": [], "tanh": [nn.Linear(2 * d, d, bias=False)],
             "deep": [nn.Linear(d, e, bias=False), nn.Linear(d, e, bias=False)]}[config.output])
        self.predict = nn.Linear(e if config.output == "deep" else d, config.vocab)
        self.dropout = nn.Dropout(config.dropout)
        self.baseline: Tensor
        self.register_buffer("baseline", torch.zeros(()))

    @staticmethod
    def _trunk(config: AttentionCaptionerConfig) -> Any:
        if config.trunk == "features":
            return None
        trunk = build_trunk(config.trunk, config.weights)
        return Frozen(trunk, trunk.out_channels) if config.frozen or config.trunk == LITE0 else trunk

    def encode(self, inputs: Tensor, mask: Bool[Tensor, "b p"] | None = None) -> Context:
        """Pictures (b, 3, y, x) or grids (b, p, f), whichever the configuration says."""
        wanted = 3 if self.trunk is None else 4
        if inputs.ndim != wanted:
            kind = "grids (b, p, f)" if self.trunk is None else "pictures (b, 3, y, x)"
            raise ValueError(f"inputs have {inputs.ndim} axes, but trunk is {self.config.trunk!r}; give "
                             f"{kind}")
        grid = inputs if self.trunk is None else self.trunk(inputs)
        return Context(self.project(grid)[:, None], mask)

    def join_all(
        self, words: Float[Tensor, "r t e"], v: Float[Tensor, "r t d"], h: Float[Tensor, "r t d"]
    ) -> Float[Tensor, "r t j"]:
        """What the output layer gets, by the configuration's ``output``."""
        weights = [weight.mT for weight in self.join.parameters()]
        if self.config.output == "sum":
            return join_sum(v, h)
        if self.config.output == "tanh":
            return join_tanh(v, h, *weights)
        return join_deep(words, v, h, *weights)

    def look(
        self, V: Float[Tensor, "b p d"], h: Float[Tensor, "b q d"], mask: Bool[Tensor, "b p"] | None,
        generator: torch.Generator | None,
    ) -> tuple[Float[Tensor, "b q d"], Float[Tensor, "b q p"], Float[Tensor, "b q"]]:
        """What is read of the cells, with which weights, and the log-probability of what was drawn."""
        weights = place_weights(self.attention(V, h), mask)
        if self.config.reading == "soft":
            return soft_reading(weights, V), weights, weights.new_zeros(weights.shape[:2])
        if self.training:
            flat = weights.detach().flatten(0, 1)
            places = torch.multinomial(flat, 1, generator=generator).view(weights.shape[:2])
        else:
            places = weights.argmax(dim=-1)
        log_drawn = weights.gather(-1, places[..., None])[..., 0].log()
        return hard_reading(places, V), weights, log_drawn

    def read(
        self, tokens: Int[Tensor, "r t"], context: Context, generator: torch.Generator | None = None
    ) -> Reading:
        """Logits of the word after each token, and how the picture was read for it."""
        check_tokens(tokens, self.config.vocab)
        V, mask, g = context.levels[:, -1], context.mask, context.copies
        rows = len(tokens)
        if rows != len(V) * g:
            raise ValueError(f"{rows} rows of tokens for {len(V)} pictures with {g} each; use context.repeat")
        v_bar = picture_vector(V, mask).repeat_interleave(g, dim=0)
        h_0 = first_state(v_bar, self.first_h.weight.mT, self.first_h.bias)
        c_0 = first_state(v_bar, self.first_c.weight.mT, self.first_c.bias)
        words = self.dropout(self.embed(tokens))
        x = lstm_input(words, v_bar)
        h, before = self.recurrence(x, h_0, c_0)                            # r t d
        asked = h.reshape(len(V), -1, h.shape[-1])                          # (b g) t d -> b (g t) d
        v, weights, log_drawn = self.look(V, asked, mask, generator)
        v, weights = v.reshape(h.shape), weights.reshape(rows, -1, V.shape[1])
        share = weights.new_zeros(tokens.shape)
        if self.sentinel is not None:
            s, score = self.sentinel(x, before, h, self.recurrence.out_gate(x, before), self.attention)
            scores = self.attention(V, asked).reshape(weights.shape)
            if mask is not None:
                scores = scores.masked_fill(~mask.repeat_interleave(g, dim=0)[:, None], float("-inf"))
            share = sentinel_share(scores, score)
            v = adaptive_reading(share, s, v)
            weights = (1 - share)[..., None] * weights
        joined = self.dropout(self.join_all(words, v, h))
        logits = word_logits(joined, self.predict.weight.mT, self.predict.bias)
        return Reading(logits, weights, log_drawn.reshape(tokens.shape), share)

    def decode(self, tokens: Int[Tensor, "r t"], context: Context) -> Float[Tensor, "r t v"]:
        return self.read(tokens, context).logits

    def forward(
        self, inputs: Tensor, tokens: Int[Tensor, "r t"], mask: Bool[Tensor, "b p"] | None = None
    ) -> Float[Tensor, "r t v"]:
        context = self.encode(inputs, mask)
        return self.decode(tokens, context.repeat(len(tokens) // len(inputs)))


# ----------------------------------------------------------------------------------------------------- losses

def soft_attention_loss(
    model: RecurrentAttentionCaptioner, batch: Any, penalty: float | int = 1.0
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    r"""Cross-entropy in nats per word plus ``penalty`` ($\lambda$) times eq:recap-doubly.

    ``batch`` has ``inputs``, ``mask`` and ``tokens`` (r, t): <bos> words <eos> <pad> …, as ``CaptionBatch``.
    """
    inputs, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
    context = model.encode(batch.inputs, batch.mask).repeat(len(inputs) // len(batch.inputs))
    reading, real = model.read(inputs, context), targets != PAD
    loss = caption_cross_entropy(reading.logits, targets, PAD)
    total = loss + penalty * doubly_stochastic(reading.weights, real) if penalty else loss
    return total, {"cross_entropy": float(loss.detach()), "weight": float(real.sum())}


def hard_attention_loss(
    model: RecurrentAttentionCaptioner, batch: Any, weight: float | int = 1.0, explore: float | int = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Minus eq:recap-reinforce, a mean over words; the model's baseline moves on by eq:recap-baseline.

    ``batch`` as for ``soft_attention_loss``. Raises ``ValueError`` for a model with soft reading.
    """
    if model.config.reading != "hard":
        raise ValueError("the model reads softly; use soft_attention_loss, or a configuration with "
                         "reading='hard'")
    inputs, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
    context = model.encode(batch.inputs, batch.mask).repeat(len(inputs) // len(batch.inputs))
    reading, real = model.read(inputs, context, generator), targets != PAD
    log_p = reading.logits.log_softmax(dim=-1).gather(-1, targets[..., None])[..., 0][real]
    gain = reinforce(log_p, reading.log_drawn[real], place_entropy(reading.weights)[real], model.baseline,
                     weight, explore)
    if model.training:
        model.baseline.copy_(moving_baseline(model.baseline, log_p.mean()))
    return -gain.mean(), {"cross_entropy": -float(log_p.detach().mean()), "weight": float(real.sum())}


def write_captions(
    model: RecurrentAttentionCaptioner, inputs: Tensor, tokeniser: Tokeniser, *, beam_size: int = 1,
    mask: Bool[Tensor, "b p"] | None = None,
) -> list[str]:
    """The caption of each picture, by ``greedy`` or by a beam of ``beam_size``, in evaluation mode."""
    ids = {"bos": tokeniser.bos, "eos": tokeniser.eos, "pad": tokeniser.pad}
    most = model.config.max_len - 1
    with eval_mode(model) as device, torch.no_grad():
        context = model.encode(inputs.to(device), None if mask is None else mask.to(device))
        if beam_size == 1:
            tokens, _ = greedy(model, context, max_len=most, **ids)
        else:
            tokens = beam(model, context, k=beam_size, max_len=most, **ids)[0][:, 0]
    return [tokeniser.decode(row) for row in tokens]
