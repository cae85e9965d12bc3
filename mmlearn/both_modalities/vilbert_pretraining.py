r"""ViLBERT's pre-training: words that were hidden, regions that were hidden, and whether text and picture
belong together.

Paper: J. Lu, D. Batra, D. Parikh and S. Lee (2019), *ViLBERT*, NeurIPS, arXiv:1908.02265, sec. 2.2 and 3.1;
rules and settings of github.com/jiasenlu/vilbert_beta (train_concap.py, concept_cap_dataset.py).  Survey:
5.2, which leaves all of it out.
Differs from the paper: a random caption is that of another picture of the batch and never the right one (the
code draws from all captions, and may draw the right one). Where nothing is hidden a loss is 0 (the released
loss of regions divides by zero there). The released script lets biases and normalisation decay and matrices
not, where it starts from BERT; here matrices decay, as it was meant.

The rules of the released code, kept here: every token and every region is chosen on its own; nine of ten
chosen regions lose their feature, none loses its box; the whole picture is the mean of the features that are
left, divided by the number of all regions; hidden words and regions are asked for even where the text is that
of another picture (``only_aligned`` is a choice of the later code, vilbert-multi-task, which also divides the
sum of the whole picture by the number of regions that overlap no hidden one by more than 0.4; not here).
Label 0 says that text and picture belong together.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.both_modalities.vilbert import ViLBERT, ViLBERTConfig, ViLBERTStates, initialise, joint_state
from mmlearn.both_modalities.vilbert_regions import Seen
from mmlearn.images_for_language.bert import (
    IGNORED,
    MLMHead,
    choose_independently,
    mask_tokens,
    mlm_loss,
    uniform,
)
from mmlearn.nn.configuration import check
from mmlearn.nn.transformer import GELU
from mmlearn.train import parameter_groups

ALIGNED, RANDOM = 0, 1      # labels of pairs, as released: 0 says that text and picture belong together


@dataclass(frozen=True)
class PretrainingConfig:
    """What is hidden, and how it is trained."""

    word_rate: float = 0.15         # share of the tokens that are asked for
    region_rate: float = 0.15       # share of the regions that are asked for
    zeroed: float = 0.9             # share of those that lose their feature
    random_text: float = 0.5        # share of the pairs that get the text of another picture
    only_aligned: bool = False      # nothing is asked of a text at another picture
    batch: int = 512                # pairs
    epochs: int = 10
    lr: float = 1e-4
    warmup: float = 0.1             # share of all steps in which the rate rises; then it falls to 0
    text_scale: float = 0.1         # of the rate of what BERT's weights start
    decay: float = 0.01             # of weights
    text_length: int = 36           # tokens, the special ones counted
    max_regions: int = 36           # of a picture

    def __post_init__(self) -> None:
        share = (0, 1)
        check(self, word_rate=share, region_rate=share, zeroed=share, random_text=share, warmup=share,
              text_scale=share, decay=share, lr=(0, 10))

    @classmethod
    def released(cls) -> "PretrainingConfig":
        """On Conceptual Captions, 3.1 million pairs that could still be fetched of 3.3 million."""
        return cls()

    @classmethod
    def mini(cls) -> "PretrainingConfig":
        """For the scene world, from scratch."""
        return cls(batch=64, lr=1e-3, text_scale=1.0, text_length=24, max_regions=9)


# --------------------------------------------------------------------------------------------- what is hidden


def mask_regions(
    regions: Float[Tensor, "b n f"], mask: Bool[Tensor, "b n"],
    generator: torch.Generator | None = None,
    rate: float = 0.15, zeroed: float = 0.9,
) -> tuple[Float[Tensor, "b n f"], Bool[Tensor, "b n"]]:
    r"""eq:vilbert-hide: $\tilde f_i=0$ with probability 0.9, $f_i$ with
    0.1, for $i\in M$, where each region is in $M$ with probability 0.15;
    its place stays. Returns the features that are left, and $M$."""
    chosen = mask & (uniform(mask, generator) < rate)
    gone = chosen & (uniform(mask, generator) < zeroed)
    return regions.masked_fill(gone[..., None], 0.0), chosen


def draw_texts(
    b: int, generator: torch.Generator | None = None, share: float = 0.5
) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
    """For every picture the row of its text, and whether it is its own (0) or that of another picture (1).

    Another row is drawn with probability ``share``. Raises ``ValueError`` for a batch of one, which has no
    other.
    """
    if b < 2:
        raise ValueError(f"{b} pairs have no text of another picture; use batches of 2 or more")
    device = generator.device if generator else None
    other = torch.rand(b, generator=generator, device=device) < share
    step = torch.randint(1, b, (b,), generator=generator, device=device)
    rows = (torch.arange(b, device=device) + step * other) % b
    return rows, torch.where(other, RANDOM, ALIGNED)


class PretrainingBatch(NamedTuple):
    """What the model reads, and what it is asked: labels of words are -100 where nothing is asked."""

    tokens: Int[Tensor, "b t"]
    text_mask: Bool[Tensor, "b t"]
    regions: Float[Tensor, "b n f"]
    boxes: Float[Tensor, "b n 5"]
    region_mask: Bool[Tensor, "b n"]
    words: Int[Tensor, "b t"]
    hidden: Bool[Tensor, "b n"]
    classes: Float[Tensor, "b n c"]
    pairs: Int[Tensor, " b"]


def pretraining_batch(
    tokens: Int[Tensor, "b t"], seen: Seen, config: PretrainingConfig, *,
    special: Collection[int], vocab: int, mask_id: int, pad: int = 0,
    generator: torch.Generator | None = None,
) -> PretrainingBatch:
    """Texts and pictures of the same rows, as they are read and asked for.

    ``special`` are the ids that are never hidden ([PAD], [CLS], [SEP]), ``mask_id`` that of [MASK]. Text and
    regions are cut to the lengths of ``config``; the last token of a text that is cut stays its last. Raises
    ``ValueError`` unless there are as many texts as pictures, and two of them.
    """
    if len(tokens) != len(seen.mask):
        raise ValueError(f"{len(tokens)} texts for {len(seen.mask)} pictures; give one for each")
    rows, pairs = draw_texts(len(tokens), generator, config.random_text)
    tokens, pairs = shorten(tokens, config.text_length, pad)[rows.to(tokens.device)], pairs.to(tokens.device)
    inputs, words = mask_tokens(tokens, special, vocab, mask_id, generator, config.word_rate,
                                choose_independently, pad)
    features, boxes, mask, classes = (part[:, :config.max_regions] for part in seen)
    features, hidden = mask_regions(features, mask, generator, config.region_rate, config.zeroed)
    if config.only_aligned:
        words, hidden = ask_aligned(words, hidden, pairs)
    return PretrainingBatch(inputs, tokens != pad, features, boxes, mask, words, hidden, classes, pairs)


def shorten(tokens: Int[Tensor, "b t"], length: int, pad: int) -> Int[Tensor, "b s"]:
    """Texts of at most ``length`` tokens; where some are cut off, the last one ([SEP]) stands at the end."""
    if tokens.shape[1] <= length:
        return tokens
    last = (tokens != pad).sum(dim=1)
    kept = tokens[:, :length].clone()
    long = last > length
    kept[long, -1] = tokens[long, last[long] - 1]
    return kept


def ask_aligned(
    words: Int[Tensor, "b t"], hidden: Bool[Tensor, "b n"], pairs: Int[Tensor, " b"]
) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b n"]]:
    """Labels and hidden regions of those pairs alone that belong together; what is hidden stays hidden."""
    aligned = (pairs == ALIGNED)[:, None]
    return words.masked_fill(~aligned, IGNORED), hidden & aligned


# ---------------------------------------------------------------------------------------------------- heads


class RegionHead(nn.Module):
    r"""eq:vilbert-region-head: logits $\mathrm{LN}(\mathrm{GELU}(xW+b))W_c
    +b_c$ of the detector's classes: (…, d) -> (…, c)."""

    def __init__(self, config: ViLBERTConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.activation = GELU()
        self.norm = nn.LayerNorm(config.width, eps=config.text.eps)
        self.classes = nn.Linear(config.width, config.classes)

    def forward(
        self, states: Float[Tensor, "*n d"]
    ) -> Float[Tensor, "*n c"]:
        h = self.norm(self.activation(self.dense(states)))
        return self.classes(h)


class ViLBERTScores(NamedTuple):
    """Logits of words (m, v) and of classes (k, c), of what was asked row by row or (b, t, v) and (b, n, c)
    of all, and of pairs (b, 2): belong together, do not."""

    words: Tensor
    regions: Tensor
    pairs: Float[Tensor, "b 2"]


class ViLBERTForPreTraining(nn.Module):
    """ViLBERT with its three heads. ``words`` (b, t) and ``hidden``
    (b, n) say which positions and regions are scored (default: all)."""

    def __init__(self, config: ViLBERTConfig) -> None:
        super().__init__()
        self.config = config
        self.vilbert = ViLBERT(config)
        self.words = MLMHead(config.text, self.vilbert.text.embed.words)
        self.regions = RegionHead(config)
        self.pairs = nn.Linear(config.inner, 2)
        self.dropout = nn.Dropout(config.dropout)
        for head in (self.words, self.regions, self.pairs):
            initialise(head)

    def forward(
        self, tokens: Int[Tensor, "b t"],
        segments: Int[Tensor, "b t"] | None,
        text_mask: Bool[Tensor, "b t"] | None,
        regions: Float[Tensor, "b n f"], boxes: Float[Tensor, "b n 5"],
        region_mask: Bool[Tensor, "b n"] | None = None,
        words: Bool[Tensor, "b t"] | None = None,
        hidden: Bool[Tensor, "b n"] | None = None,
    ) -> ViLBERTScores:
        states = self.vilbert(
            tokens, segments, text_mask, regions, boxes, region_mask)
        y, x = states.text, states.vision[:, 1:]
        return ViLBERTScores(
            self.words(y if words is None else y[words]),
            self.regions(x if hidden is None else x[hidden]),
            self.pairs(self.joint(states)))

    def joint(self, states: ViLBERTStates) -> Float[Tensor, "b e"]:
        """Picture and text as one vector (eq:vilbert-joint), dropped out in training."""
        return self.dropout(joint_state(states.pooled_vision, states.pooled_text))


# --------------------------------------------------------------------------------------------------- losses


def region_loss(
    logits: Float[Tensor, "m c"], p: Float[Tensor, "m c"]
) -> Float[Tensor, ""]:
    r"""eq:vilbert-region: $L_{region}=\frac1{|M|}\sum_{i\in M}\sum_c
    p_{ic}(\log p_{ic}-\log q_{ic})$, $q$ the softmax of the logits and $p$
    what the detector says of region i: nats per region, 0 without any."""
    log_q = logits.log_softmax(dim=-1)
    total = F.kl_div(log_q, p, reduction="sum")
    return total / max(len(p), 1)


def alignment_loss(
    logits: Float[Tensor, "b 2"], labels: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    r"""eq:vilbert-alignment: $L_{pair}=-\log p_\theta(y\mid X,Y)$, y = 0 if
    text and picture belong together, 1 if not; a mean over the batch."""
    return F.cross_entropy(logits, labels)


def pretraining_loss(
    scores: ViLBERTScores, words: Int[Tensor, " m"],
    p: Float[Tensor, "k c"], pairs: Int[Tensor, " b"],
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    r"""eq:vilbert-loss: $L=L_{MLM}+L_{region}+L_{pair}$, without weights.
    Also returns the parts, "mlm", "region" and "pair"."""
    parts = {"mlm": mlm_loss(scores.words, words),
             "region": region_loss(scores.regions, p),
             "pair": alignment_loss(scores.pairs, pairs)}
    return torch.stack([*parts.values()]).sum(), parts


def pretraining_step(
    model: ViLBERTForPreTraining, batch: PretrainingBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and its parts, for ``train.fit``."""
    asked = batch.words != IGNORED
    scores = model(batch.tokens, None, batch.text_mask, batch.regions, batch.boxes, batch.region_mask,
                   asked, batch.hidden)
    return pretraining_loss(scores, batch.words[asked], batch.classes[batch.hidden], batch.pairs)


def pretraining_groups(model: ViLBERTForPreTraining, config: PretrainingConfig) -> list[dict[str, Any]]:
    """Parameters for an optimiser: matrices decay; the text stream, which BERT starts, has ``text_scale`` of
    the rate that ``train.fit`` gives the others."""
    text = {id(p) for p in model.vilbert.text.parameters()}
    groups = []
    for group in parameter_groups(model, config.decay):
        for own, scale in ((True, config.text_scale), (False, 1.0)):
            chosen = [p for p in group["params"] if (id(p) in text) == own]
            groups.append({**group, "params": chosen, "scale": scale})
    return groups


def alignment_score(
    logits: Float[Tensor, "b 2"]
) -> Float[Tensor, " b"]:
    r"""eq:vilbert-score: $p_\theta(y=0\mid X,Y)$, how probable it is that
    they belong together: the score of retrieval without fine-tuning."""
    return logits.softmax(dim=-1)[:, ALIGNED]
