r"""BERT is trained: pairs of sentences out of documents, batches with new masks, the released optimiser.

Paper: J. Devlin et al. (2019), *BERT*, NAACL, arXiv:1810.04805, app. A.1 and A.2; rules of
github.com/google-research/bert (create_pretraining_data.py, optimization.py).  Survey: 3.2.
Differs from the paper: a mask is a function of (seed, number of the batch), so that a run resumes exactly;
miniatures see thousands of pairs, not billions, so that the learning rate is higher and the warm-up shorter.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmlearn.data.batches import Batches
from mmlearn.data.wordpiece import WordPiece
from mmlearn.images_for_language.bert import (
    IGNORED,
    IS_NEXT,
    IS_RANDOM,
    BERTForPreTraining,
    Chooser,
    choose_exactly,
    mask_tokens,
    mlm_loss,
    pretraining_loss,
)
from mmlearn.nn.modes import eval_mode
from mmlearn.train import History, Schedule, fit, parameter_groups

Ids = list[int]
Document = Sequence[Ids]                # sentences, each the ids of its pieces

# ----------------------------------------------------------------------------------------- pairs of sentences


class SentencePair(NamedTuple):
    """Two stretches of text, and whether the second follows the first (0) or is random (1)."""

    first: Ids
    second: Ids
    label: int


def pairs_of(
    documents: Sequence[Document], index: int, most: int, dice: random.Random,
    short: float = 0.1,
) -> Iterator[SentencePair]:
    """The pairs of one document of several, as released: together at most ``most`` tokens each.

    A stretch of sentences that fills ``most`` (one document in ten, by ``short``: fewer) is cut in two. Half
    of the second parts are replaced by sentences of another document, and what was replaced is used in the
    next pair. A stretch of a single sentence has no second part: its second part is random always, so that
    documents of one sentence teach nothing else. Another document is sought ten times; a single document
    hands out its own sentences as random ones.
    """
    document, start = documents[index], 0
    target = dice.randint(2, most) if dice.random() < short else most
    while start < len(document):
        end, length = start, 0
        while end < len(document) and length < target:
            length += len(document[end])
            end += 1
        alone = end - start == 1
        cut = end if alone else dice.randint(start + 1, end - 1)
        first = flat(document[start:cut])
        if alone or dice.random() < 0.5:
            label, start = IS_RANDOM, cut
            second = random_part(documents, index, target - len(first), dice)
        else:
            second, label, start = flat(document[cut:end]), IS_NEXT, end
        yield SentencePair(*shortened(first, second, most, dice), label)


def random_part(
    documents: Sequence[Document], index: int, length: int, dice: random.Random
) -> Ids:
    """Sentences of another document than ``index``, from a random one on, until there are ``length``
    tokens."""
    tries = [dice.randrange(len(documents))]
    while tries[-1] == index and len(tries) < 10:
        tries.append(dice.randrange(len(documents)))
    document = documents[tries[-1]]
    part: Ids = []
    for sentence in document[dice.randrange(len(document)):]:
        part += sentence
        if len(part) >= length:
            break
    return part


def shortened(
    first: Ids, second: Ids, most: int, dice: random.Random
) -> tuple[Ids, Ids]:
    """Both with at most ``most`` tokens in all: the longer one loses its first or last, by chance."""
    first, second = list(first), list(second)
    while len(first) + len(second) > most:
        longer = first if len(first) > len(second) else second
        longer.pop(0 if dice.random() < 0.5 else -1)
    return first, second


def flat(sentences: Iterable[Ids]) -> Ids:
    return [i for sentence in sentences for i in sentence]


@dataclass(frozen=True)
class PairTexts:
    """Pairs as BERT reads them, ``[CLS] A [SEP] B [SEP]``: tokens and segments (n, t), labels (n,)."""

    tokens: Int[Tensor, "n t"]
    segments: Int[Tensor, "n t"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)


def pair_texts(
    documents: Sequence[Sequence[str]], tokeniser: WordPiece, length: int, copies: int = 1, seed: int = 0,
    short: float = 0.1,
) -> PairTexts:
    """Documents, each a list of sentences, as pairs of at most ``length`` tokens, [CLS] and both [SEP] among
    them.

    Every document is cut ``copies`` times, each time in another way (the released ``dupe_factor``). Sentences
    and documents without a piece are left out. Raises ``ValueError`` if nothing is left or the length holds
    no pair.
    """
    if length < 5:
        raise ValueError(f"length is {length}; a pair takes 5 tokens at least: [CLS] a [SEP] b [SEP]")
    coded = [[ids for ids in map(tokeniser.encode, document) if ids] for document in documents]
    coded = [document for document in coded if document]
    if not coded:
        raise ValueError("the documents hold no words; give a list of lists of sentences")
    dice = random.Random(seed)
    pairs = [pair for _ in range(copies) for index in range(len(coded))
             for pair in pairs_of(coded, index, length - 3, dice, short)]
    dice.shuffle(pairs)
    tokens = torch.full((len(pairs), length), tokeniser.pad)
    segments = torch.zeros_like(tokens)
    for row, (first, second, _) in enumerate(pairs):
        ids = [tokeniser.bos, *first, tokeniser.eos, *second, tokeniser.eos]
        tokens[row, : len(ids)] = torch.tensor(ids)
        segments[row, len(first) + 2 : len(ids)] = 1
    return PairTexts(tokens, segments, torch.tensor([pair.label for pair in pairs]))


# ---------------------------------------------------------------------------------------------------- batches


class PretrainingBatch(NamedTuple):
    """What BERT reads, ``tokens`` and ``segments`` (b, t), and what it is asked: ``labels`` (b, t), of pairs
    ``following`` (b,).

    ``real`` (b, t) says where the text is: a word that gave way to another, which may be [PAD], is still
    attended to.
    """

    tokens: Int[Tensor, "b t"]
    real: Bool[Tensor, "b t"]
    segments: Int[Tensor, "b t"]
    labels: Int[Tensor, "b t"]
    following: Int[Tensor, " b"]


class PretrainingBatches(Batches):
    """Batches of ``PairTexts``, masked anew each time: the mask follows from (seed, number of the batch)."""

    def __init__(self, texts: PairTexts, size: int, tokeniser: WordPiece, *, seed: int = 0,
                 rate: float = 0.15, choose: Chooser = choose_exactly, **options: Any) -> None:
        super().__init__(texts, size, seed=seed, **options)
        self.tokeniser, self.rate, self.choose = tokeniser, rate, choose

    def make(self, indices: list[int], number: int) -> PretrainingBatch:
        """The batch ``number`` of these texts."""
        texts = self.data
        tokens, segments, following = texts.tokens[indices], texts.segments[indices], texts.labels[indices]
        draws = np.random.default_rng((self.seed, number, indices[0]))
        generator = torch.Generator().manual_seed(int(draws.integers(2**62)))
        of = self.tokeniser
        masked, labels = mask_tokens(tokens, of.special, len(of), of.mask, generator, self.rate, self.choose,
                                     of.pad)
        return PretrainingBatch(masked, tokens != of.pad, segments, labels, following)


# -------------------------------------------------------------------------------------------------- optimiser


def adam_step_(
    w: Tensor, g: Tensor, m: Tensor, v: Tensor, eta: float,
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
    decay: float = 0.0,
) -> None:
    r"""eq:bert-adam: $m\leftarrow\beta_1m+(1-\beta_1)g$, $v\leftarrow\beta_2v+(1-\beta_2)g^2$,
    $w\leftarrow w-\eta\big(m/(\sqrt v+\epsilon)+\lambda w\big)$: Adam that does not divide by $1-\beta^s$.

    In place. $m$ and $v$ begin at 0 and are too small at first, $v$ under its root less than $m$: the first
    step is $(1-\beta_1)/\sqrt{1-\beta_2}\approx3.2$ times that of Adam.
    """
    m.lerp_(g, 1 - betas[0])
    v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    step = m / (v.sqrt() + eps)
    w.sub_(step.add_(w, alpha=decay), alpha=eta)


class BERTAdam(torch.optim.Optimizer):
    """The released optimiser: eq:bert-adam, the decay beside the gradient (AdamW's), no correction of the
    beginning."""

    def __init__(self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-6, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:    # type: ignore[override]
        """Move every weight that has a gradient; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                state = self.state[w]
                if not state:
                    state["m"], state["v"] = torch.zeros_like(w), torch.zeros_like(w)
                adam_step_(w, w.grad, state["m"], state["v"], group["lr"], group["betas"], group["eps"],
                           group["weight_decay"])
        return loss


def bert_rate(step: int, lr: float, warmup: int, steps: int) -> float:
    r"""eq:bert-rate: $\eta_s=\eta\,s/w$ while $s<w$, then $\eta\,(1-s/S)$, for s = 0 … S-1: the first rate is
    0, and the top, $\eta$, is never reached."""
    return lr * step / warmup if step < warmup else lr * (1 - step / steps)


def bert_schedule(lr: float, warmup: int, steps: int) -> Schedule:
    """eq:bert-rate as a schedule of ``fit``, whose steps count from 1."""
    return Schedule(f"bert(lr={lr}, warmup={warmup}, steps={steps})",
                    lambda step: bert_rate(step - 1, lr, warmup, steps))


# --------------------------------------------------------------------------------------------------- training


def pretraining_objective(
    model: BERTForPreTraining, batch: PretrainingBatch
) -> tuple[Tensor, dict[str, Any]]:
    """A loss for ``fit``: eq:bert-loss of a batch, its two parts, and the share of words that are right."""
    asked = batch.labels != IGNORED
    scores = model(batch.tokens, asked, batch.real, batch.segments)
    words = batch.labels[asked]
    loss, parts = pretraining_loss(scores, words, batch.following)
    right = scores.words.argmax(dim=-1) == words
    return loss, {**parts, "right": right.float().mean()}


def train_bert(
    model: BERTForPreTraining, texts: PairTexts, tokeniser: WordPiece, *, steps: int, batch: int = 64,
    lr: float = 1e-3, warmup: int = 100, weight_decay: float = 0.01, rate: float = 0.15,
    choose: Chooser = choose_exactly, seed: int = 0, **options: Any,
) -> History:
    """Train BERT on pairs of sentences: eq:bert-loss, ``BERTAdam``, a warm-up of at most a tenth of the steps
    and a straight line to 0, gradients of norm 1 at most.

    The paper has ``lr=1e-4, warmup=10_000, steps=1_000_000, batch=256`` at 512 tokens, and 128 in the first
    nine tenths of the steps. Further ``options`` (``evaluate``, ``folder``, ``title`` …) go to ``fit``.
    """
    batches = PretrainingBatches(texts, batch, tokeniser, seed=seed, rate=rate, choose=choose)
    options = {"optimizer": BERTAdam(parameter_groups(model, weight_decay), lr=lr),
               "schedule": bert_schedule(lr, max(1, min(warmup, steps // 10)), steps), "clip": 1.0, **options}
    return fit(model, pretraining_objective, batches, steps=steps, seed=seed, **options)


# -------------------------------------------------------------------------------------------------- judgement


def hidden(
    texts: PairTexts, tokeniser: WordPiece, seed: int = 0
) -> tuple[Int[Tensor, "n t"], Bool[Tensor, "n t"]]:
    """Texts with 15 % of their tokens behind [MASK], all of them, and where: a test without words to copy."""
    generator = torch.Generator().manual_seed(seed)
    _, labels = mask_tokens(texts.tokens, tokeniser.special, len(tokeniser), tokeniser.mask, generator,
                            pad=tokeniser.pad)
    asked = labels != IGNORED
    return texts.tokens.masked_fill(asked, tokeniser.mask), asked


@torch.no_grad()
def judge_bert(
    model: BERTForPreTraining, texts: PairTexts, tokeniser: WordPiece, seed: int = 0, batch: int = 250
) -> dict[str, float]:
    """Shares of hidden words and of pairs that are told right, and the loss of the words in nats."""
    tokens, asked = hidden(texts, tokeniser, seed)
    loss = right = pairs = 0.0
    with eval_mode(model) as device:
        for start in range(0, len(texts), batch):
            part = slice(start, start + batch)
            chosen, words = asked[part].to(device), texts.tokens[part][asked[part]].to(device)
            scores = model(tokens[part].to(device), chosen, segments=texts.segments[part].to(device))
            loss += float(mlm_loss(scores.words, words)) * len(words)
            right += float((scores.words.argmax(dim=-1) == words).sum())
            if scores.pairs is not None:
                pairs += float((scores.pairs.argmax(dim=-1).cpu() == texts.labels[part]).sum())
    count = int(asked.sum())
    found = {"mlm loss": loss / count, "mlm accuracy": right / count}
    return found if model.pairs is None else {**found, "nsp accuracy": pairs / len(texts)}


def follower_counts(texts: PairTexts, vocab: int) -> Float[Tensor, "v v"]:
    """How often word j stands after word i in the texts (they must not have too many words for a table)."""
    pairs = texts.tokens[:, :-1] * vocab + texts.tokens[:, 1:]
    return torch.bincount(pairs.flatten(), minlength=vocab * vocab).view(vocab, vocab).float()


def counting_accuracy(
    train: PairTexts, test: PairTexts, tokeniser: WordPiece, seed: int = 0
) -> dict[str, float]:
    """What counting gets right of the words that ``judge_bert`` hides: shares of right answers.

    "unigram" says the most frequent word always; "bigram" the most frequent after the word before, which it
    is told even where it is hidden; "both" multiplies the chances after the word before and before the word
    behind.
    """
    vocab = len(tokeniser)
    follows = follower_counts(train, vocab)
    unasked = torch.zeros(vocab, dtype=torch.bool)
    unasked[list(tokeniser.special)] = True
    _, asked = hidden(test, tokeniser, seed)
    rows, places = asked.nonzero(as_tuple=True)
    words = test.tokens[rows, places]
    # the last token of a text is [SEP], so that a word behind a hidden one is always there
    before, behind = test.tokens[rows, places - 1], test.tokens[rows, places + 1]
    ahead = (follows + 0.1) / (follows + 0.1).sum(dim=1, keepdim=True)
    counts = follows.sum(dim=0)
    scores = {"unigram": counts.expand(len(words), -1), "bigram": follows[before],
              "both": ahead[before] * ahead[:, behind].T}
    return {name: float((found.masked_fill(unasked, -1.0).argmax(dim=1) == words).float().mean())
            for name, found in scores.items()}
