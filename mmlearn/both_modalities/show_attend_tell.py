r"""Show, Attend and Tell: what was read of the picture goes into the next state, word after word.

Paper: K. Xu et al. (2015), *Show, Attend and Tell: Neural Image Caption Generation with Visual Attention*,
ICML, arXiv:1502.03044, sec. 3.1.2 (equations 1 to 7), 4.1 (hard attention), 4.2 (soft attention), 4.2.1 (the
gate).  Survey: 5.3, as the relative of its five equations: there attention asks $h_t$ and enters the output
only; here it asks $h_{t-1}$ and enters the LSTM.
Differs from the paper: the network of the first state and that of the attention have one hidden layer at most
(the released code adds a layer to each), and the cells of the grid are projected to the width of the
attention once for a picture. In evaluation hard attention takes the likeliest cell.

Letters of shapes: r captions, r a multiple of the b pictures; t words, p cells, f numbers of a cell, d width
of a state, e of a word, k of the attention.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.both_modalities.attention_captioner import (
    PAD,
    Reading,
    doubly_stochastic,
    hard_reading,
    join_deep,
    moving_baseline,
    picture_vector,
    place_entropy,
    place_scores,
    place_weights,
    reinforce,
    soft_reading,
    word_logits,
)
from mmlearn.image2text.losses import caption_cross_entropy
from mmlearn.nn.attention import KVCache
from mmlearn.nn.configuration import check
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.transformer import Context


@dataclass(frozen=True)
class ShowAttendTellConfig:
    features: int = 512         # f, numbers of a cell: 14 x 14 cells of VGG's last convolutions
    vocab: int = 10_000         # V, words with the four special tokens
    embedding: int = 512        # e, numbers of a word
    width: int = 1800           # d, numbers of a state
    attention: int = 512        # k, inner width of the attention
    reading: Literal["soft", "hard"] = "soft"
    dropout: float = 0.5        # of states before the output layer, and of what it gives
    max_len: int = 54           # T, most tokens of a caption with <bos>

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def coco(cls) -> "ShowAttendTellConfig":
        """The sizes of the authors' training script for COCO (evaluate_coco.py)."""
        return cls()

    @classmethod
    def mini(cls, vocab: int = 200) -> "ShowAttendTellConfig":
        """For grids of 64 numbers a cell: states of 128."""
        return cls(64, vocab, 64, 128, 96, dropout=0.1, max_len=30)


# -------------------------------------------------------------------------------------------------- equations

def gated_reading(
    v: Float[Tensor, "r d"], h: Float[Tensor, "r e"], w: Float[Tensor, " e"],
    b: Float[Tensor, ""]
) -> Float[Tensor, "r d"]:
    r"""eq:sat-gate: $\hat z_t=\beta_t\sum_i\alpha_{t,i}a_i$ with $\beta_t=\sigma(h_{t-1}w_\beta+b_\beta)$:
    the state says how much it wants of the picture at all."""
    return torch.sigmoid(h @ w + b)[:, None] * v


def read_then_step(
    word: Float[Tensor, "r e"], z: Float[Tensor, "r f"]
) -> Float[Tensor, "r n"]:
    r"""eq:sat-state: $(h_t,c_t)=\mathrm{LSTM}([E_{w_t};\hat z_t],h_{t-1},c_{t-1})$; this is the bracket."""
    return torch.cat([word, z], dim=-1)


# ------------------------------------------------------------------------------------------------------ model

class Steps(nn.Module):
    """The states of a loop over words; inside a ``KVCache`` it goes on where the last call ended."""

    cache: KVCache | None = None
    keeps_past = True

    def begin(self, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        if self.cache is None or self not in self.cache.past:
            return h, c
        h, c = (old[:, 0, -1] for old in self.cache.past[self])
        return h, c

    def end(self, h: Tensor, c: Tensor) -> None:
        if self.cache is not None:
            self.cache.extend(self, h[:, None, None], c[:, None, None])


class ShowAttendTell(nn.Module):
    """Grids (b, p, f) in, scores of the next word out.

    ``encode`` makes a ``Context`` of cells (b, 1, p, f); ``read`` goes over the words (r, t) one after the
    other and gives a ``Reading``; ``decode`` and ``forward`` its logits (r, t, v). Hard attention draws from
    ``generator`` in training. Raises ``ValueError`` for tokens outside the vocabulary.
    """

    def __init__(self, config: ShowAttendTellConfig) -> None:
        super().__init__()
        self.config = config
        f, e, d, k = config.features, config.embedding, config.width, config.attention
        self.embed = nn.Embedding(config.vocab, e, padding_idx=PAD)
        self.first_h, self.first_c = nn.Linear(f, d), nn.Linear(f, d)
        self.keys, self.queries = nn.Linear(f, k, bias=False), nn.Linear(d, k)
        self.score = nn.Linear(k, 1, bias=False)
        self.gate = nn.Linear(d, 1)
        self.cell = nn.LSTMCell(e + f, d)
        self.steps = Steps()
        self.out_v, self.out_h = nn.Linear(f, e, bias=False), nn.Linear(d, e, bias=False)
        self.predict = nn.Linear(e, config.vocab)
        self.dropout = nn.Dropout(config.dropout)
        self.baseline: Tensor
        self.register_buffer("baseline", torch.zeros(()))

    def encode(self, grid: Float[Tensor, "b p f"], mask: Bool[Tensor, "b p"] | None = None) -> Context:
        return Context(grid[:, None], mask)

    def look(
        self, a: Float[Tensor, "b p f"], keys: Float[Tensor, "b p k"], h: Float[Tensor, "r d"],
        mask: Bool[Tensor, "b p"] | None, generator: torch.Generator | None,
    ) -> tuple[Float[Tensor, "r f"], Float[Tensor, "r p"], Float[Tensor, " r"]]:
        """What is read for each caption's next word, the weights, and the logarithm of what was drawn."""
        asked = self.queries(h).view(len(a), -1, keys.shape[-1])                # (b g) k -> b g k
        weights = place_weights(place_scores(keys, asked, self.score.weight[0]), mask)
        if self.config.reading == "soft":
            v, drawn = soft_reading(weights, a), weights.new_zeros(weights.shape[:2])
        else:
            places = weights.argmax(dim=-1)
            if self.training:
                flat = weights.detach().flatten(0, 1)
                places = torch.multinomial(flat, 1, generator=generator).view(weights.shape[:2])
            v = hard_reading(places, a)
            drawn = weights.gather(-1, places[..., None])[..., 0].log()
        return v.flatten(0, 1), weights.flatten(0, 1), drawn.flatten()

    def read(
        self, tokens: Int[Tensor, "r t"], context: Context, generator: torch.Generator | None = None
    ) -> Reading:
        """Logits of the word after each token, and how the picture was read for it."""
        check_tokens(tokens, self.config.vocab)
        a, mask, g = context.levels[:, -1], context.mask, context.copies
        if len(tokens) != len(a) * g:
            raise ValueError(f"{len(tokens)} rows of tokens for {len(a)} pictures with {g} each; use "
                             f"context.repeat")
        mean = picture_vector(a, mask).repeat_interleave(g, dim=0)
        h, c = self.steps.begin(torch.tanh(self.first_h(mean)), torch.tanh(self.first_c(mean)))
        keys, words = self.keys(a), self.embed(tokens)
        states, read, weights, drawn = [], [], [], []
        for word in words.unbind(dim=1):
            v, alpha, log_drawn = self.look(a, keys, h, mask, generator)
            z = gated_reading(v, h, self.gate.weight[0], self.gate.bias[0])
            h, c = self.cell(read_then_step(word, z), (h, c))
            states.append(h)
            read.append(z)
            weights.append(alpha)
            drawn.append(log_drawn)
        self.steps.end(h, c)
        h_all, z_all = torch.stack(states, dim=1), torch.stack(read, dim=1)
        joined = torch.tanh(join_deep(words, z_all, self.dropout(h_all), self.out_v.weight.mT,
                                      self.out_h.weight.mT))
        logits = word_logits(self.dropout(joined), self.predict.weight.mT, self.predict.bias)
        return Reading(logits, torch.stack(weights, dim=1), torch.stack(drawn, dim=1),
                       logits.new_zeros(tokens.shape))

    def decode(self, tokens: Int[Tensor, "r t"], context: Context) -> Float[Tensor, "r t v"]:
        return self.read(tokens, context).logits

    def forward(
        self, grid: Float[Tensor, "b p f"], tokens: Int[Tensor, "r t"],
        mask: Bool[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "r t v"]:
        return self.decode(tokens, self.encode(grid, mask).repeat(len(tokens) // len(grid)))


# ----------------------------------------------------------------------------------------------------- losses

def show_attend_tell_loss(
    model: ShowAttendTell, batch: Any, penalty: float | int = 1.0, weight: float | int = 1.0,
    explore: float | int = 0.0, generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    r"""Cross-entropy in nats per word, plus ``penalty`` times eq:recap-doubly for soft attention.

    For hard attention minus eq:recap-reinforce of a whole caption ($\ell$ is the sum over its words, since
    every place that is drawn changes all later words), a mean over captions of the mean over words; the
    baseline moves on. ``batch`` has ``inputs``, ``mask`` and ``tokens`` (r, t), as ``CaptionBatch``.
    """
    inputs, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
    context = model.encode(batch.inputs, batch.mask).repeat(len(inputs) // len(batch.inputs))
    reading, real = model.read(inputs, context, generator), targets != PAD
    loss = caption_cross_entropy(reading.logits, targets, PAD)
    scalars = {"cross_entropy": float(loss.detach()), "weight": float(real.sum())}
    if model.config.reading == "soft":
        return loss + penalty * doubly_stochastic(reading.weights, real), scalars
    log_p = reading.logits.log_softmax(dim=-1).gather(-1, targets[..., None])[..., 0]
    whole, drawn, entropy = ((x * real).sum(dim=1) for x in (log_p, reading.log_drawn,
                                                             place_entropy(reading.weights)))
    gain = reinforce(whole, drawn, entropy, model.baseline, weight, explore)
    if model.training:
        model.baseline.copy_(moving_baseline(model.baseline, whole.mean()))
    return -(gain / real.sum(dim=1)).mean(), scalars
