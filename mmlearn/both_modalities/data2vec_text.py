r"""data2vec for text: RoBERTa's encoder, which learns from its own slow copy instead of from hidden words.

Paper: A. Baevski et al. (2022), *data2vec*, ICML, arXiv:2202.03555, sec. 3 and 4; Y. Liu et al. (2019),
*RoBERTa*, arXiv:1907.11692, for the encoder; released code: fairseq's examples/data2vec (base.yaml,
data2vec_text.py, mask_tokens_dataset.py). Table 5 of the paper has the four tensors that can be a target.
Survey: 5.1.
Differs from the paper: no dropout on the attention weights. The teacher reads the whole sequence, as the
paper says; in the released code it reads the hidden tokens alone, with padding for the rest (fairseq issue
4881). The encoder has RoBERTa's table of one segment, as public weights have it; fairseq has none.

The hidden places are those whose token is <mask>: under the rule of BERT a chosen token that stays, or gives
way to another, is asked for by nobody, as released. <s> and </s> are hidden like others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.both_modalities.data2vec import (
    BlockTensors,
    Data2Vec,
    Data2VecConfig,
    MaskedInputs,
    TargetBlock,
    regression_head,
)
from mmlearn.data.batches import Batches
from mmlearn.images_for_language.bert import uniform
from mmlearn.nn.bert import BERT, BERTConfig, BERTEmbeddings, initialise
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.transformer import GELU

Target = Literal["attention", "ffn", "residual", "end"]


@dataclass(frozen=True)
class Data2VecTextConfig:
    """Sizes of the encoder. Token ids are those of RoBERTa: <s> 0, <pad> 1, </s> 2, <unk> 3, <mask> last."""

    vocab: int = 50_265         # byte pairs
    context: int = 512          # most tokens, <s> and </s> counted
    width: int = 768            # d
    layers: int = 12            # L
    heads: int = 12             # h
    ff: int = 3072              # inner width of the feed-forward nets
    pad: int = 1                # id of padding; positions count from pad + 1
    mask: int = 50_264          # id of what stands for a hidden token
    eps: float = 1e-5           # of layer normalisation
    dropout: float = 0.1
    target: Target = "ffn"      # which tensor of a block is a^l (BlockTensors)

    def __post_init__(self) -> None:
        check(self, mask=(0, 10_000_000))
        if self.mask >= self.vocab or self.mask == self.pad:
            raise FieldError("Data2VecTextConfig", "mask",
                             f"is {self.mask}, with a vocabulary of {self.vocab} and padding {self.pad}; "
                             f"give <mask> an id of its own")
        self.bert()

    def bert(self) -> BERTConfig:
        """The same sizes as BERT's: rows of positions before the first are never read."""
        return BERTConfig(self.vocab, self.context + self.pad + 1, self.width, self.layers, self.heads,
                          self.ff, 1, self.pad, self.eps, self.dropout, pooler=False)

    @classmethod
    def base(cls) -> "Data2VecTextConfig":
        """124,055,040 parameters, those of RoBERTa base."""
        return cls()

    @classmethod
    def large(cls) -> "Data2VecTextConfig":
        """354,310,144 parameters: the paper's large size; weights of it have not been published."""
        return cls(width=1024, layers=24, heads=16, ff=4096)

    @classmethod
    def mini(cls, vocab: int = 400, pad: int = 1, context: int = 32) -> "Data2VecTextConfig":
        """A miniature for the scene world's tokenisers of ``vocab - 1`` words; the last id is <mask>."""
        return cls(vocab, context, 96, 4, 4, 384, pad, vocab - 1, dropout=0.0)


# ------------------------------------------------------------------------------------------------ the encoder


def text_positions(
    tokens: Int[Tensor, "b t"], pad: int
) -> Int[Tensor, "b t"]:
    r"""eq:d2v-positions: $p_t=\mathrm{pad}+\sum_{s\le t}[w_s\neq\mathrm{pad}]$
    for a word, pad for padding: RoBERTa counts from pad + 1."""
    real = tokens != pad
    return pad + real.cumsum(dim=1) * real


class RoBERTaEmbeddings(BERTEmbeddings):
    """Words, positions (eq:d2v-positions) and the one segment, summed and normalised: (b, t) -> (b, t, d)."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__(config)
        self.pad = config.pad

    def forward(
        self, tokens: Int[Tensor, "b t"], segments: Int[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t d"]:
        words = self.words(tokens) + self.segments.weight[0]
        return self.dropout(self.norm(words + self.positions(text_positions(tokens, self.pad))))


class RoBERTa(BERT):
    """Token ids (b, t) -> states (b, t, d): BERT with the positions of RoBERTa and blocks that tell what they
    compute. Raises ``ValueError`` for texts longer than the context and ids outside the vocabulary."""

    def __init__(self, config: BERTConfig) -> None:
        nn.Module.__init__(self)
        self.config, self.pooler = config, None
        self.embed = RoBERTaEmbeddings(config)
        self.layers = nn.ModuleList(roberta_block(config) for _ in range(config.layers))
        initialise(self)

    def check(self, tokens: Int[Tensor, "b t"]) -> None:
        """Refuse texts that would be misread."""
        most = self.config.context - self.config.pad - 1
        if tokens.shape[1] > most:
            raise ValueError(f"texts have {tokens.shape[1]} tokens, the context has {most}; cut them")
        check_tokens(tokens, self.config.vocab)

    def by_block(self, tokens: Int[Tensor, "b t"]) -> Iterator[BlockTensors]:
        """The tensors of block 1, 2, …; padding is attended to by nobody."""
        self.check(tokens)
        mask = tokens != self.config.pad
        x = self.embed(tokens)
        for block in self.layers:
            found = cast(TargetBlock, block).tensors(x, mask)
            yield found
            x = found.end


def roberta_block(config: BERTConfig) -> TargetBlock:
    """A post-norm block with GELU; dropout follows the two sub-layers, not the activation between them."""
    block = TargetBlock(config.width, config.heads, config.ff, config.dropout, GELU,
                        layer_norm=partial(nn.LayerNorm, eps=config.eps))
    block.feed_forward.dropout.p = 0.0
    return block


class Data2VecText(nn.Module):
    """The text encoder, a ``Learner``: tokens (b, t) -> states (b, t, d).

    Where ``mask`` (b, t) is True the token becomes <mask>. ``layers`` gives
    the targets $a^1,…,a^L$ of whole texts. The teacher copies the
    embeddings. Raises ``ValueError`` for a mask that hides padding, texts
    longer than the context, and ids outside the vocabulary.
    """

    shared = ("bert.embed",)

    def __init__(self, config: Data2VecTextConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = RoBERTa(config.bert())

    def forward(
        self, inputs: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        if mask is not None:
            padding = inputs == self.config.pad
            if not inputs.is_meta and (mask & padding).any():
                raise ValueError("the mask hides padding, where there is no "
                                 "word; hide places of the text alone")
            inputs = inputs.masked_fill(mask, self.config.mask)
        return self.bert(inputs)

    def layers(
        self, inputs: Int[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t d"], ...]:
        """$a^1,…,a^L$: what ``config.target`` names, of every block."""
        of = self.config.target
        blocks = self.bert.by_block(inputs)
        return tuple(getattr(block, of) for block in blocks)


def data2vec_text(config: Data2VecTextConfig, method: Data2VecConfig | None = None) -> Data2Vec:
    """Student, head of two maps and teacher, with the paper's numbers where none are given."""
    return Data2Vec(Data2VecText(config), regression_head(config.width, 2), method or Data2VecConfig.text())


class Data2VecTextClassifier(nn.Module):
    """An encoder with RoBERTa's head, to be fine-tuned: tokens (b, t) -> logits (b, c).

    The state of <s> goes through dropout, a map, tanh, dropout and a second map. GLUE is learned with a rate
    of 1e-5 to 4e-5.
    """

    def __init__(self, encoder: Data2VecText, classes: int) -> None:
        super().__init__()
        width = encoder.config.width
        self.encoder = encoder
        self.dropout = nn.Dropout(encoder.config.dropout)
        self.dense, self.out = nn.Linear(width, width), nn.Linear(width, classes)
        initialise(self.dense)
        initialise(self.out)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        h = torch.tanh(self.dense(self.dropout(self.encoder(tokens)[:, 0])))
        return self.out(self.dropout(h))


# --------------------------------------------------------------------------------------------- what is hidden


def choose_spans(
    real: Bool[Tensor, "b t"], rate: float = 0.35, span: int = 4,
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "b t"]:
    r"""eq:d2v-starts: $\lfloor pn/m+u\rfloor$ different starts among a text's
    n tokens, u uniform in [0, 1), each of a span of m; spans may overlap and
    are cut at the end of the text.

    ``real`` says which places are tokens; ``rate`` is p, ``span`` m. A short
    text may keep all of its tokens. Raises ``ValueError`` for a rate or span
    that cannot be.
    """
    if not 0 < rate <= 1 or span < 1:
        raise ValueError(f"rate is {rate} and span {span}; give a rate above "
                         f"0 and at most 1, and a span of 1 or more")
    n = real.sum(dim=1)
    starts = (rate * n / span + uniform(real[:, :1], generator)[:, 0]).floor()
    order = uniform(real, generator).masked_fill(~real, 2.0)
    chosen = order.argsort(dim=1).argsort(dim=1) < starts[:, None]
    hidden = chosen.clone()
    for i in range(1, span):
        hidden[:, i:] |= chosen[:, : chosen.shape[1] - i]
    return hidden & real


def span_share(rate: float, span: int) -> float:
    r"""eq:d2v-span-share: $1-(1-p/m)^m$, the share of a long text that
    eq:d2v-starts hides: 0.307 for p = 0.35 and m = 4, as spans overlap."""
    return 1 - (1 - rate / span) ** span


class Corrupted(NamedTuple):
    """What a student reads, (b, t), and which places of it are hidden and asked for, (b, t)."""

    tokens: Tensor
    hidden: Tensor


def corrupt_words(
    tokens: Int[Tensor, "b t"], chosen: Bool[Tensor, "b t"],
    words: Int[Tensor, " n"], mask_id: int,
    generator: torch.Generator | None = None,
) -> Corrupted:
    r"""eq:d2v-corrupt: a chosen token becomes <mask> with probability 0.8, one
    of ``words`` with 0.1, and stays with 0.1; those that became <mask> are
    hidden, the others are asked for by nobody."""
    dice = uniform(tokens, generator)
    draws = torch.randint(len(words), tokens.shape, generator=generator)
    hidden = chosen & (dice < 0.8)
    read = torch.where(chosen & (dice >= 0.9), words[draws].to(tokens), tokens)
    return Corrupted(read.masked_fill(hidden, mask_id), hidden)


Rule = Callable[[Tensor, Data2VecTextConfig, torch.Generator | None], MaskedInputs]


def hide_spans(
    tokens: Int[Tensor, "b t"], config: Data2VecTextConfig,
    generator: torch.Generator | None = None,
    rate: float = 0.35, span: int = 4,
) -> MaskedInputs:
    """The released rule, the better row of the paper's table 4: spans
    (eq:d2v-starts), always <mask>."""
    hidden = choose_spans(tokens != config.pad, rate, span, generator)
    return MaskedInputs(tokens, hidden)


def hide_words(
    tokens: Int[Tensor, "b t"], config: Data2VecTextConfig,
    generator: torch.Generator | None = None, rate: float = 0.15,
) -> MaskedInputs:
    """BERT's rule as fairseq has it: 15 % of the tokens, single ones, of which eight in ten are hidden
    (eq:d2v-corrupt). Others come from ids 4 … without <mask>."""
    chosen = choose_spans(tokens != config.pad, rate, 1, generator)
    words = torch.arange(min(4, config.vocab - 2), config.vocab)
    words = words[(words != config.mask) & (words != config.pad)]
    found = corrupt_words(tokens, chosen, words, config.mask, generator)
    return MaskedInputs(tokens, found.hidden, found.tokens)


class HiddenTexts(Batches):
    """Batches of ``MaskedInputs`` from texts, rows of ids (n, t) that end in padding, hidden anew each time:
    what is hidden follows from (seed, number of the batch).

    ``rule`` is ``hide_spans`` or ``hide_words``. A batch is as long as its longest text; where a rule hides
    nothing of it, it is asked again.
    """

    def __init__(self, texts: Int[Tensor, "n t"], size: int, config: Data2VecTextConfig, *, seed: int = 0,
                 rule: Rule = hide_spans, **options: Any) -> None:
        super().__init__(texts, size, seed=seed, **options)
        self.config, self.rule = config, rule

    def make(self, indices: list[int], number: int) -> MaskedInputs:
        """The batch ``number`` of these texts."""
        tokens = self.data[indices]
        tokens = tokens[:, : int((tokens != self.config.pad).sum(dim=1).max())]
        draws = np.random.default_rng((self.seed, number, indices[0]))
        generator = torch.Generator().manual_seed(int(draws.integers(2**62)))
        for _ in range(100):
            batch = self.rule(tokens, self.config, generator)
            if batch.mask.any():
                return batch
        raise ValueError(f"nothing was hidden of texts of {tokens.shape[1]} tokens at most; give longer "
                         f"texts or a higher rate")
