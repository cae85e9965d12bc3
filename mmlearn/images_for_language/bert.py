r"""BERT's pre-training: words that were hidden, and sentences that follow each other.

Paper: J. Devlin, M.-W. Chang, K. Lee and K. Toutanova (2019), *BERT: Pre-training of Deep Bidirectional
Transformers for Language Understanding*, NAACL, arXiv:1810.04805, sec. 3.1 and app. A.1; rules of
github.com/google-research/bert (create_pretraining_data.py).  Survey: 3.2; Vokenization (3.5.1) builds on it.
Differs from the paper: masks are drawn anew each time a text is seen, where the released code draws ten for
all; a configuration without a pooler has no next-sentence prediction (Vokenization's language models).

The encoder and its sizes are ``mmlearn.nn.bert``. Only what was chosen is scored: the matrix of the words,
the largest of the model, multiplies 15 % of the states.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.bert import BERT, BERTConfig, initialise
from mmlearn.nn.transformer import GELU

IGNORED = -100              # label of a position at which nothing is asked
IS_NEXT, IS_RANDOM = 0, 1   # labels of pairs of sentences, as released: 0 says that B follows A
NextLabels = Int[Tensor, " b"]

# ---------------------------------------------------------------------------------------------------- masking


Chooser = Callable[..., Tensor]     # (candidates (b, t), lengths (b,), rate, generator) -> chosen (b, t)


def choose_exactly(
    candidates: Bool[Tensor, "b t"], lengths: Int[Tensor, " b"], rate: float,
    generator: torch.Generator | None = None, most: int | None = None,
) -> Bool[Tensor, "b t"]:
    r"""eq:bert-choose: $|M|=\max(1,\mathrm{round}(0.15\,n))$, the released rule: so many of n tokens.

    ``lengths`` count [CLS] and [SEP], which are no candidates; a half is rounded to the even number, and
    ``most`` is the limit ``max_predictions_per_seq``.
    """
    counts = (rate * lengths.double()).round().clamp(1, most).to(lengths.dtype)
    order = uniform(candidates, generator).masked_fill(~candidates, 2.0)
    ranks = order.argsort(dim=1).argsort(dim=1)
    return candidates & (ranks < counts[:, None])


def choose_independently(
    candidates: Bool[Tensor, "b t"], lengths: Int[Tensor, " b"], rate: float,
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "b t"]:
    """Every candidate with probability ``rate`` for itself, as transformers' collator has it; a short text
    may have none."""
    return candidates & (uniform(candidates, generator) < rate)


def uniform(
    like: Tensor, generator: torch.Generator | None
) -> Float[Tensor, "b t"]:
    """Numbers in [0, 1) in the shape of ``like``, drawn where the generator is."""
    device = generator.device if generator else None
    drawn = torch.rand(like.shape, generator=generator, device=device)
    return drawn.to(like.device)


def corrupt(
    ids: Int[Tensor, "b t"], chosen: Bool[Tensor, "b t"],
    vocab: int, mask_id: int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "b t"]:
    r"""eq:bert-mask: $\tilde w_i=$ [MASK] with probability 0.8, any word with 0.1, $w_i$ with 0.1, for
    $i\in M$.

    Any word is uniform over the whole vocabulary, [CLS] and [PAD] among it.
    """
    dice = uniform(ids, generator)
    device = generator.device if generator else None
    words = torch.randint(vocab, ids.shape, generator=generator, device=device)
    masked = ids.masked_fill(chosen & (dice < 0.8), mask_id)
    return torch.where(chosen & (dice >= 0.9), words.to(ids), masked)


def mask_tokens(
    ids: Int[Tensor, "b t"], special: Collection[int],
    vocab: int, mask_id: int,
    generator: torch.Generator | None = None, rate: float = 0.15,
    choose: Chooser = choose_exactly, pad: int = 0,
) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    """What the model reads instead of ``ids``, and what it is asked (eq:bert-mask).

    ``special`` are the ids that are never chosen, [PAD], [CLS] and [SEP]; ``vocab`` the number of words.
    ``choose`` is ``choose_exactly`` or ``choose_independently``. Labels are the ids at the chosen positions,
    whatever stands there now, and -100 elsewhere. A word may give way to [PAD]: a model that reads the result
    is given the mask of ``ids``. Raises ``ValueError`` for a rate or an id that cannot be.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate is {rate}; give the share to choose, "
                         "above 0 and at most 1")
    if not 0 <= mask_id < vocab:
        raise ValueError(f"mask_id is {mask_id}, the vocabulary goes from 0 "
                         f"to {vocab - 1}; give the id of [MASK]")
    never = torch.tensor(sorted(special), dtype=ids.dtype, device=ids.device)
    lengths = (ids != pad).sum(dim=1)
    chosen = choose(~torch.isin(ids, never), lengths, rate, generator)
    inputs = corrupt(ids, chosen, vocab, mask_id, generator)
    return inputs, ids.masked_fill(~chosen, IGNORED)


# ------------------------------------------------------------------------------------------------------ heads


def word_scores(
    h: Float[Tensor, "*n d"], E: Float[Tensor, "v d"], b_v: Float[Tensor, " v"]
) -> Float[Tensor, "*n v"]:
    r"""eq:bert-words: $hE^\top+b_v$: the rows that words enter by are the rows that they are told by."""
    return F.linear(h, E, b_v)


class MLMHead(nn.Module):
    r"""eq:bert-mlm-head: $\mathrm{LN}(\mathrm{GELU}(hW+b))$, then eq:bert-words: (…, d) -> logits (…, v).

    ``words`` is the encoder's embedding, whose matrix is used and not copied; the bias is the head's own.
    """

    def __init__(self, config: BERTConfig, words: nn.Embedding) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.activation = GELU(config.gelu)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.bias = nn.Parameter(torch.zeros(words.num_embeddings))
        self.tied = (words,)          # in a tuple, so as to stay no part of it
        initialise(self)

    def forward(self, states: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
        h = self.norm(self.activation(self.dense(states)))
        return word_scores(h, self.tied[0].weight, self.bias)


class Scores(NamedTuple):
    """Logits of words (n, v), of the chosen positions row by row, or (b, t, v) of all; of pairs (b, 2)."""

    words: Tensor
    pairs: Tensor | None


class BERTForPreTraining(nn.Module):
    """BERT with its two heads: tokens (b, t) -> logits of words, and of "B follows A" against "B is random".

    ``chosen`` (b, t) says which positions are scored (default: all), as ``labels != -100`` does. Further
    arguments are those of ``BERT``. Without a pooler there are no scores of pairs, and it is BERT for masked
    language modelling alone.
    """

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = BERT(config)
        self.words = MLMHead(config, self.bert.embed.words)
        self.pairs = nn.Linear(config.width, 2) if config.pooler else None
        if self.pairs is not None:
            initialise(self.pairs)

    def forward(
        self, tokens: Int[Tensor, "b t"],
        chosen: Bool[Tensor, "b t"] | None = None,
        mask: Bool[Tensor, "b t"] | None = None,
        segments: Int[Tensor, "b t"] | None = None,
    ) -> Scores:
        states = self.bert(tokens, mask, segments)
        words = self.words(states if chosen is None else states[chosen])
        if self.pairs is None:
            return Scores(words, None)
        return Scores(words, self.pairs(self.bert.pooled(states)))


# ----------------------------------------------------------------------------------------------------- losses


def mlm_loss(
    logits: Float[Tensor, "*n v"], labels: Int[Tensor, "*n"]
) -> Float[Tensor, ""]:
    r"""eq:bert-mlm: $-\frac1{|M|}\sum_{i\in M}\log p_\theta(w_i\mid\tilde w)$, in nats per chosen token.

    Labels of -100 are no members of M; without any member the loss is 0.
    """
    total = F.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED,
        reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def nsp_loss(
    logits: Float[Tensor, "b 2"], labels: NextLabels
) -> Float[Tensor, ""]:
    r"""eq:bert-nsp: $-\log p_\theta(n\mid A,B)$, n = 0 if B follows A and 1 if it is random; a mean in nats.

    A model that learnt nothing has log 2 where both kinds are as frequent.
    """
    return F.cross_entropy(logits, labels)


def pretraining_loss(
    scores: Scores, labels: Int[Tensor, "*n"],
    following: NextLabels | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    r"""eq:bert-loss: $L=L_{MLM}+L_{NSP}$, each a mean over its own terms; without scores of pairs the first
    alone.

    ``labels`` are those of the positions that were scored. Also returns the parts, "mlm" and "nsp".
    """
    parts = {"mlm": mlm_loss(scores.words, labels)}
    if scores.pairs is not None and following is not None:
        parts["nsp"] = nsp_loss(scores.pairs, following)
    return torch.stack([*parts.values()]).sum(), parts
