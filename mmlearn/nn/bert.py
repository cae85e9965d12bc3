"""BERT: a Transformer encoder that reads a sentence in both directions at once.

Paper: J. Devlin, M.-W. Chang, K. Lee and K. Toutanova (2019), *BERT: Pre-training of Deep Bidirectional
Transformers for Language Understanding*, NAACL, arXiv:1810.04805, sec. 3 and app. A.2; sizes and
initialisation of github.com/google-research/bert.  Survey: 3.2 and 4.3.1; chapter 5 builds on it.
Differs from the paper: no dropout on the attention weights; GELU in its exact form unless the configuration
asks for the released code's tanh form.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.transformer import GELU, EncoderLayer


@dataclass(frozen=True)
class BERTConfig:
    vocab: int = 30_522         # word pieces
    context: int = 512          # most positions
    width: int = 768            # d, size of a token state
    layers: int = 12            # l
    heads: int = 12             # h
    ff: int = 3072              # inner width of the feed-forward networks
    segments: int = 2           # kinds of sentences (A and B)
    pad: int = 0                # id of the token that fills up a batch
    eps: float = 1e-12          # of layer normalisation
    dropout: float = 0.1
    pooler: bool = True         # a layer with tanh on the first state, for next-sentence prediction
    gelu: Literal["erf", "tanh"] = "erf"    # exact, as in transformers; by tanh, as in the released code

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")
        if not 0 <= self.pad < self.vocab:
            raise ValueError(
                f"pad is {self.pad}, the vocabulary goes from 0 to {self.vocab - 1}; give its padding id")

    @classmethod
    def base(cls) -> "BERTConfig":
        """109,482,240 parameters."""
        return cls()

    @classmethod
    def large(cls) -> "BERTConfig":
        """335,141,888 parameters."""
        return cls(width=1024, layers=24, heads=16, ff=4096)

    @classmethod
    def small(cls) -> "BERTConfig":
        """35,068,416 parameters: the six layers of Vokenization's small language model."""
        return cls(width=512, layers=6, heads=8, ff=2048)

    @classmethod
    def mini(cls, vocab: int = 400, pad: int = 1, context: int = 32, pooler: bool = False) -> "BERTConfig":
        """A miniature for the scene world, whose tokenisers of words pad with 1 (word pieces: 0)."""
        return cls(vocab, context, 64, 2, 2, 256, pad=pad, dropout=0.0, pooler=pooler)


class BERTEmbeddings(nn.Module):
    """Word, position and segment embeddings, summed, normalised, dropped out: (b, t) -> (b, t, d)
    (eq:bert-embed)."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.segments = nn.Embedding(config.segments, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, tokens: Int[Tensor, "b t"], segments: Int[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t d"]:
        words = self.words(tokens)
        positions = self.positions.weight[: tokens.shape[1]]
        kinds = self.segments.weight[0] if segments is None else self.segments(segments)
        return self.dropout(self.norm(embedding_sum(words, positions, kinds)))


def embedding_sum(
    words: Float[Tensor, "b t d"], positions: Float[Tensor, "t d"],
    segments: Float[Tensor, "b t d"] | Float[Tensor, " d"]
) -> Float[Tensor, "b t d"]:
    r"""eq:bert-embed: $x_{im}=E_{T_{im}}+P_m+S_{a_{im}}$: one row each of the three tables, to be
    normalised."""
    return words + positions + segments


def pooled_state(
    h: Float[Tensor, "b d"], W_p: Float[Tensor, "d d"], b_p: Float[Tensor, " d"]
) -> Float[Tensor, "b d"]:
    r"""eq:bert-pooler: $\tanh(h_1W_p+b_p)$ of the first token's state, which stands for the whole text."""
    return torch.tanh(F.linear(h, W_p.mT, b_p))


def bert_layer(config: BERTConfig) -> EncoderLayer:
    """A post-norm layer with GELU; dropout follows the two sub-layers, not the activation between them."""
    layer = EncoderLayer(config.width, config.heads, config.ff, config.dropout,
                         activation=partial(GELU, config.gelu),
                         layer_norm=partial(nn.LayerNorm, eps=config.eps))
    layer.feed_forward.dropout.p = 0.0
    return layer


def initialise(module: nn.Module) -> None:
    """Matrices from a normal distribution of width 0.02, cut at twice that; biases 0 (released code)."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


class BERT(nn.Module):
    """Token ids (b, t) -> states (b, t, d) of the last layer; all layers see all real tokens.

    ``mask`` (b, t) says which tokens are real (default: all but ``config.pad``); padding changes no other
    state. ``segments`` (b, t) are sentence kinds (default: all 0). ``pooled`` turns states into the pooler's
    (b, d), ``by_layer`` yields the states of every layer. ``record_attention`` gets the weights of layer i as
    "layers.i.attention" (b, h, t, t). Post-norm layers with GELU. Raises ``ValueError`` for texts longer than
    the context and ids outside the vocabulary.
    """

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = BERTEmbeddings(config)
        self.layers = nn.ModuleList(bert_layer(config) for _ in range(config.layers))
        self.pooler = nn.Linear(config.width, config.width) if config.pooler else None
        initialise(self)

    def check(self, tokens: Int[Tensor, "b t"]) -> None:
        """Refuse texts that would be misread."""
        if tokens.shape[1] > self.config.context:
            raise ValueError(
                f"texts have {tokens.shape[1]} tokens, the context has {self.config.context}; cut them")
        check_tokens(tokens, self.config.vocab)

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | None = None,
        segments: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        return deque(self.by_layer(tokens, mask, segments), maxlen=1).pop()          # the last layer's

    def by_layer(
        self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None = None,
        segments: Int[Tensor, "b t"] | None = None,
    ) -> Iterator[Float[Tensor, "b t d"]]:
        """The embeddings, then the states of layer 1, 2, …: l + 1 tensors (b, t, d), one after the other."""
        self.check(tokens)
        mask = tokens != self.config.pad if mask is None else mask
        x = self.embed(tokens, segments)
        yield x
        for layer in self.layers:
            x = layer(x, mask)
            yield x

    def pooled(self, states: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        """The first state through a layer with tanh. Raises ``ValueError`` if the model has no pooler."""
        if self.pooler is None:
            raise ValueError("this BERT has no pooler; build it with BERTConfig(pooler=True)")
        return pooled_state(states[:, 0], self.pooler.weight.mT, self.pooler.bias)
