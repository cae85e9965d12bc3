r"""GloVe: vectors of words whose products are the logarithms of how often the words stand together.

Paper: J. Pennington, R. Socher and C. D. Manning (2014), *GloVe: Global Vectors for Word Representation*,
EMNLP; defaults and update of github.com/stanfordnlp/GloVe.  Survey: 3.2, which leaves out the biases, the
weights and the distance (erratum E9: without biases nothing takes up how frequent a word is).
Differs: ``updates="all"`` is full-batch AdaGrad, as in ``mittens``, for corpora whose non-zero counts fit
into memory; ``updates="entry"`` is the released program, an update a count. The paper's loss has no 1/2 and
its gradient the factor 2, which both programs leave away; ``glove_loss`` is the paper's, training reports
the programs' mean of 1/2 f e^2.

The released program beside the paper: biases begin in (-1/2, 1/2) / (d + 1) as vectors do; AdaGrad's sums
begin at 1 and hold squares of gradients times the rate; a component of a gradient is cut at 100; and since
2020 (with that cut) biases move without the rate, so 20 times as fast. Counts are shuffled once, not for
every pass. Words that are not in the vocabulary do not count for distances; a new line ends a window. Its
window to the left alone (``-symmetric 0``) counts in the row of the *left* word. Its text files end with a
word ``<unk>``, the mean of the 100 rarest; in its loss a NaN is passed over. Here a row is the word's whose
neighbours are counted, there is no ``<unk>``, and a loss that is not finite is refused.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mmlearn import checkpoints
from mmlearn.data.vocabulary import Text, Vocabulary, numbered
from mmlearn.data.word_vectors import WordVectors
from mmlearn.files import locked
from mmlearn.images_for_language.glove_updates import AllEntries, EntryByEntry
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.modes import seeded
from mmlearn.progress import Progress
from mmlearn.train import History

UPDATES = ("entry", "all")
SIDES = ("sum", "word", "context")
DENSE = 1 << 24             # cells of a table that counts are gathered in; larger ones are sorted
PART = 1 << 20              # tokens that are counted at once
# P(k | ice), P(k | steam) in 6 billion tokens (Pennington et al., table 1)
ICE_STEAM = {"solid": (1.9e-4, 2.2e-5), "gas": (6.6e-5, 7.8e-4), "water": (3.0e-3, 2.2e-3),
             "fashion": (1.7e-5, 1.8e-5)}


@dataclass(frozen=True)
class GloVeConfig:
    """Size, counting and training of a GloVe; the defaults are the paper's for its 300 numbers."""

    vocab: int = 400_000        # v, words; a model of a corpus has those of its vocabulary
    dim: int = 300              # d, numbers of a word's vector
    window: int = 10            # c, words on a side that count
    both_sides: bool = True     # or those to the left alone, which favour grammar
    distance: bool = True       # does a word at distance j count 1/j?
    x_max: float | int = 100    # counts from which all weigh 1
    alpha: float | int = 0.75   # exponent of the weight below it
    biases: bool = True         # False: what the survey writes
    lr: float | int = 0.05      # eta, of AdaGrad
    accumulator: float | int = 1.0    # what AdaGrad's sums of squares begin with
    epochs: int = 100           # passes over the counts
    updates: str = "entry"      # an update a count, "entry", or one a pass, "all"
    min_count: int = 1          # words of a corpus that occur less often are left out

    def __post_init__(self) -> None:
        check(self, x_max=(1e-6, 1e9), alpha=(0, 10), lr=(1e-9, 100), accumulator=(1e-9, 1e9),
              vocab=(1, 100_000_000))
        if self.updates not in UPDATES:
            raise FieldError("GloVeConfig", "updates", f"is {self.updates!r}; use one of "
                                                       f"{', '.join(UPDATES)}")

    @classmethod
    def glove_300(cls) -> "GloVeConfig":
        """The paper's 300 numbers over 400,000 words of 6 billion tokens: 240.8 million parameters."""
        return cls()

    @classmethod
    def glove_100(cls) -> "GloVeConfig":
        """The paper's 100 numbers, for which 50 passes are enough: 80.8 million parameters."""
        return cls(dim=100, epochs=50)

    @classmethod
    def demo(cls) -> "GloVeConfig":
        """The released program's own defaults: 50 numbers, 15 words a side, 25 passes."""
        return cls(dim=50, window=15, epochs=25)

    @classmethod
    def mini(cls, vocab: int = 300, dim: int = 32) -> "GloVeConfig":
        """For some thousand sentences: counts seldom reach 100 there, so ``x_max`` is 10."""
        return cls(vocab, dim, window=5, x_max=10, epochs=300, updates="all", accumulator=0.1)


# ----------------------------------------------------------------------------------- equations: what is asked


def conditional(X: Float[Tensor, "v v"]) -> Float[Tensor, "v v"]:
    r"""eq:glove-conditional: $P_{ik}=X_{ik}/X_i$, $X_i=\sum_kX_{ik}$: how much of what stands around
    word $i$ is word $k$."""
    return X / X.sum(dim=1, keepdim=True)


def ratio(
    P: Float[Tensor, "v v"], i: Int64[Tensor, " n"],
    j: Int64[Tensor, " n"], k: Int64[Tensor, " n"],
) -> Float[Tensor, " n"]:
    r"""eq:glove-ratio: $F(w_i,w_j,\tilde w_k)=P_{ik}/P_{jk}$: large where $k$ goes with $i$ alone,
    small where with $j$ alone, near 1 where with both or neither."""
    return P[i, k] / P[j, k]


def ratio_of_vectors(
    w_i: Float[Tensor, "*n d"], w_j: Float[Tensor, "*n d"],
    w_k: Float[Tensor, "*n d"],
) -> Float[Tensor, "*n"]:
    r"""eq:glove-exp: $F\big((w_i-w_j)\,\tilde w_k^\top\big)=\exp\big((w_i-w_j)\,\tilde w_k^\top\big)
    =\frac{\exp(w_i\tilde w_k^\top)}{\exp(w_j\tilde w_k^\top)}$: of a difference of vectors a ratio of
    probabilities, for which $F$ must turn sums into products."""
    return ((w_i - w_j) * w_k).sum(dim=-1).exp()


def log_counts(
    X: Float[Tensor, "v v"]
) -> Float[Tensor, "v v"]:
    r"""eq:glove-log: $w_i\,\tilde w_k^\top=\log P_{ik}=\log X_{ik}-\log X_i$: it would not change with
    $i$ and $k$ exchanged but for $\log X_i$."""
    return X.log() - X.sum(dim=1, keepdim=True).log()


def predicted(
    w: Float[Tensor, "n d"], c: Float[Tensor, "n d"],
    b: Float[Tensor, " n"], b_c: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    r"""eq:glove-bias: $w_i\,\tilde w_k^\top+b_i+\tilde b_k=\log X_{ik}$: $b_i$ has taken up $\log X_i$,
    and $\tilde b_k$ makes both words equal."""
    return (w * c).sum(dim=1) + b + b_c


def weight(
    X: Float[Tensor, "*n"], x_max: float | int = 100, alpha: float | int = 0.75
) -> Float[Tensor, "*n"]:
    r"""eq:glove-weight: $f(X)=\min\big(1,(X/x_{max})^{\alpha}\big)$: 0 where nothing was counted, never
    falling, and no larger for the most frequent pairs."""
    return (X / x_max).pow(alpha).clamp(max=1)


def glove_loss(
    prediction: Float[Tensor, " n"], X: Float[Tensor, " n"],
    x_max: float | int = 100, alpha: float | int = 0.75,
) -> Float[Tensor, ""]:
    r"""eq:glove-loss: $J=\sum_{X_{ij}>0}f(X_{ij})\,
    \big(w_i\,\tilde w_j^\top+b_i+\tilde b_j-\log X_{ij}\big)^2$, over the counts that are not zero."""
    return (weight(X, x_max, alpha) * (prediction - X.log()).square()).sum()


def gradients(
    W: Float[Tensor, "v d"], C: Float[Tensor, "v d"],
    b: Float[Tensor, " v"], b_c: Float[Tensor, " v"],
    X: Float[Tensor, "v v"],
    x_max: float | int = 100, alpha: float | int = 0.75,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""eq:glove-gradient: with the errors $e_{ij}=w_i\tilde w_j^\top+b_i+\tilde b_j-\log X_{ij}$,
    $\partial J/\partial w_i=2\sum_jf(X_{ij})\,e_{ij}\,\tilde w_j$,
    $\partial J/\partial b_i=2\sum_jf(X_{ij})\,e_{ij}$, and the same with $i$, $j$ exchanged for
    $\tilde w_j$, $\tilde b_j$."""
    error = W @ C.mT + b[:, None] + b_c - X.clamp(min=1e-30).log()
    fe = 2 * weight(X, x_max, alpha) * error * (X > 0)
    return fe @ C, fe.mT @ W, fe.sum(dim=1), fe.sum(dim=0)


def skip_gram_objective(
    X: Float[Tensor, "v v"], logits: Float[Tensor, "v v"]
) -> Float[Tensor, ""]:
    r"""eq:glove-skip-gram: $-\sum_{ij}X_{ij}\log Q_{ij}=\sum_iX_i\,H(P_i,Q_i)$ with
    $Q_{ij}=e^{w_i\tilde w_j^\top}/\sum_ke^{w_i\tilde w_k^\top}$: skip-gram over all counts; GloVe
    takes squares of logarithms for the cross-entropy and $f$ for $X_i$."""
    return -(X * logits.log_softmax(dim=1)).sum()


def word_sum(
    W: Float[Tensor, "v d"], C: Float[Tensor, "v d"]
) -> Float[Tensor, "v d"]:
    r"""eq:glove-sum: $w_i+\tilde w_i$, the vector of a word: the two differ by their beginnings alone,
    and what they have in common is less noisy."""
    return W + C


def standardised(vectors: WordVectors) -> WordVectors:
    r"""eq:glove-standardised: $x_{ik}\to(x_{ik}-\mu_k)/\sigma_k$ over the words of the vocabulary, which the
    paper does before it takes cosines."""
    x = vectors.vectors
    deviation = x.std(dim=0, correction=0).clamp(min=torch.finfo(x.dtype).tiny)
    return WordVectors(vectors.words, (x - x.mean(dim=0)) / deviation)


def agreement(
    x: Float[Tensor, " n"], y: Float[Tensor, " n"], f: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    r"""eq:glove-agreement: $r_f(x,y)=\frac{\sum_if_i(x_i-\bar x)(y_i-\bar y)}{\sqrt{\sum_if_i(x_i-\bar x)^2
    \sum_if_i(y_i-\bar y)^2}}$ with means weighted by $f$, too: how well predictions fit."""
    x, y = x - (f @ x) / f.sum(), y - (f @ y) / f.sum()
    return (f @ (x * y)) / ((f @ x.square()) * (f @ y.square())).sqrt()


# ---------------------------------------------------------------------------------------------------- counts


@dataclass(frozen=True, eq=False)
class Counts:
    """The counts that are not zero: ``values`` (n) in rows ``i`` (n) and columns ``j`` (n) of a table (v, v),
    by row, then by column, in double precision."""

    i: Int64[Tensor, " n"]
    j: Int64[Tensor, " n"]
    values: Float[Tensor, " n"]
    size: int

    def __len__(self) -> int:
        return len(self.i)

    def dense(self) -> Float[Tensor, "v v"]:
        """The whole table."""
        table = torch.zeros(self.size, self.size, dtype=self.values.dtype)
        table[self.i, self.j] = self.values
        return table

    @classmethod
    def of(cls, X: Float[Tensor, "v w"]) -> "Counts":
        """The counts of a table. Raises ``ValueError`` unless it is square, finite and not negative."""
        if X.shape[0] != X.shape[1] or not bool(torch.isfinite(X).all()) or bool((X < 0).any()):
            raise ValueError(f"a table of {X.shape[0]} x {X.shape[1]} counts is not square, or holds some "
                             f"that are negative or not finite; count again")
        i, j = X.nonzero().unbind(dim=1)
        return cls(i, j, X[i, j].double(), len(X))


def cooccurrence(text: Text, size: int, window: int = 10, both_sides: bool = True,
                 distance: bool = True) -> Counts:
    r"""eq:glove-counts: $X_{ij}=\sum_t\sum_{1\le\delta\le c}\frac1\delta\big(\mathbf1[w_t=i,w_{t-\delta}=j]
    +\mathbf1[w_t=i,w_{t+\delta}=j]\big)$ within sentences, a word at distance $\delta$ counting $1/\delta$.

    ``size`` is v; without ``both_sides`` only words to the left count (the first term), without ``distance``
    each counts 1. Memory is that of the counts and of ``PART`` tokens.
    """
    if window < 1:
        raise ValueError(f"window is {window}; take 1 or more")
    ids, sentence = text.ids.numpy(), text.sentence.numpy()
    dense = size * size <= DENSE
    table = np.zeros(size * size if dense else 0)
    keys, values = np.empty(0, np.int64), np.empty(0)
    for start in range(0, len(ids), PART):
        stop = min(start + PART, len(ids))
        found, weights = [keys], [values]
        for delta in range(1, window + 1):
            at = np.arange(max(start, delta), stop)
            at = at[sentence[at] == sentence[at - delta]]
            key = ids[at] * size + ids[at - delta]              # the word, and the one to its left
            if dense:
                table += np.bincount(key, minlength=len(table)) * (1 / delta if distance else 1.0)
            else:
                found.append(key)
                weights.append(np.full(len(key), 1 / delta if distance else 1.0))
        if not dense:
            keys, values = summed(np.concatenate(found), np.concatenate(weights))
    if dense:
        keys = np.flatnonzero(table)
        values = table[keys]
    if both_sides:
        turned = keys % size * size + keys // size
        keys, values = summed(np.concatenate([keys, turned]), np.concatenate([values, values]))
    i, j = torch.from_numpy(keys // size), torch.from_numpy(keys % size)
    return Counts(i, j, torch.from_numpy(values), size)


def summed(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each key once, in order, with the sum of its values."""
    once, inverse = np.unique(keys, return_inverse=True)
    return once, np.bincount(inverse, values, len(once)).astype(values.dtype)


# ----------------------------------------------------------------------------------------------------- model


class GloVe(nn.Module):
    """Pairs of words -> the predicted logarithm of their count (eq:glove-bias).

    ``i`` and ``j`` (n) are ids of a word and of one in its context; ``W`` (v, d) and ``b`` (v) belong to
    words, ``C`` (v, d) and ``b_c`` (v) to contexts. Without ``biases`` these stay 0. The size is that of the
    vocabulary, without one the configuration's.
    """

    W: Tensor
    C: Tensor
    b: Tensor
    b_c: Tensor

    def __init__(self, config: GloVeConfig, vocabulary: Vocabulary | None = None) -> None:
        super().__init__()
        if vocabulary is not None:
            config = replace(config, vocab=len(vocabulary))
        self.config, self.vocabulary = config, vocabulary
        v, d = config.vocab, config.dim
        for name, shape in (("W", (v, d)), ("C", (v, d)), ("b", (v,)), ("b_c", (v,))):
            learnt = config.biases or name in ("W", "C")
            values = torch.empty(shape).uniform_(-0.5, 0.5) / (d + 1) if learnt else torch.zeros(shape)
            setattr(self, name, nn.Parameter(values, requires_grad=learnt))

    def forward(
        self, i: Int64[Tensor, " n"], j: Int64[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        return predicted(self.W[i], self.C[j], self.b[i], self.b_c[j])

    def loss(self, counts: Counts) -> Float[Tensor, ""]:
        """J of some counts (eq:glove-loss)."""
        X = counts.values.to(self.W)
        return glove_loss(self(counts.i, counts.j), X, self.config.x_max, self.config.alpha)

    @torch.no_grad()
    def agreement(self, counts: Counts) -> float:
        """How well predictions fit the logarithms of the counts (eq:glove-agreement)."""
        f = weight(counts.values, self.config.x_max, self.config.alpha)
        return float(agreement(self(counts.i, counts.j).double(), counts.values.log(), f))

    def vectors(self, side: str = "sum") -> WordVectors:
        """The words' vectors: the "sum" of both (eq:glove-sum), or those of a side, "word" or "context"."""
        if self.vocabulary is None:
            raise ValueError("this GloVe knows no words; make it with the vocabulary of a corpus")
        if side not in SIDES:
            raise ValueError(f"side is {side!r}; use one of {', '.join(SIDES)}")
        with torch.no_grad():
            rows = {"sum": word_sum(self.W, self.C), "word": self.W, "context": self.C}[side]
        return WordVectors(self.vocabulary.words, rows.detach().cpu().clone())


# -------------------------------------------------------------------------------------------------- training


@dataclass
class GloVeTraining:
    """What training leaves behind: the model, the mean of 1/2 f e^2 of each pass (``history``), and the
    counts."""

    model: GloVe
    history: History
    counts: Counts

    def vectors(self, side: str = "sum") -> WordVectors:
        """The words' vectors, see ``GloVe.vectors``."""
        return self.model.vectors(side)


def train_glove(
    sentences: Sequence[Sequence[str]] | None, config: GloVeConfig | None = None, *,
    vocabulary: Vocabulary | None = None, counts: Counts | None = None, model: GloVe | None = None,
    seed: int = 0, folder: str | Path | None = None, save_every: int | None = None, progress: Any = True
) -> GloVeTraining:
    """Train a GloVe on the sentences of a corpus, or on ``counts`` that were made before (then ``sentences``
    may be None, and ``vocabulary`` or ``model`` says which words they are of).

    With ``model`` training begins from its weights, with its configuration and vocabulary. With ``folder`` a
    checkpoint is written every ``save_every`` passes (default: a tenth of them); if one is there, the run
    goes on from it to the same result. ``progress``: True, False, or a file. Raises ``ValueError`` for a
    corpus in which no two words stand together, settings that make no sense, a loss that is not finite (take
    a lower rate), and a folder that holds another run.
    """
    if model is not None and (config is not None or vocabulary is not None):
        raise ValueError("a model is given, and a configuration or a vocabulary, too; it has its own, so "
                         "give it alone")
    if sentences is None and counts is None:
        raise ValueError("there is nothing to train on; give sentences, or counts")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; take a whole number from 0 to {2**32 - 1:,}")
    if save_every is not None and save_every < 1:
        raise ValueError(f"save_every is {save_every}; take a whole number from 1")
    if model is None:
        config = config or GloVeConfig()
        if vocabulary is None and sentences is not None:
            vocabulary = Vocabulary.of(sentences, config.min_count)
        with seeded(seed):
            model = GloVe(config if counts is None else replace(config, vocab=counts.size), vocabulary)
    config = model.config
    if counts is None:
        if model.vocabulary is None:
            raise ValueError("the model knows no words; make it with the vocabulary of the corpus")
        counts = cooccurrence(numbered(sentences or [], model.vocabulary), config.vocab, config.window,
                              config.both_sides, config.distance)
    if counts.size != config.vocab:
        raise ValueError(f"the counts are of {counts.size} words, and the model has {config.vocab}; give "
                         f"counts of its vocabulary")
    if not len(counts):
        raise ValueError("no two words of the vocabulary stand in one window; give sentences of two words "
                         "and more, one a line, or lower min_count")
    with locked(folder) if folder is not None else nullcontext():
        return _trained(model, counts, seed, folder, save_every, progress)


def _trained(model: GloVe, counts: Counts, seed: int, folder: str | Path | None, save_every: int | None,
             progress: Any) -> GloVeTraining:
    config, history = model.config, History()
    kind = AllEntries if config.updates == "all" else EntryByEntry
    run = kind((model.W, model.C, model.b, model.b_c), counts.i, counts.j, counts.values.log(),
               weight(counts.values, config.x_max, config.alpha), config.lr, config.accumulator,
               config.biases, seed)
    about = checkpoints.describe(model, {"seed": seed, "counts": len(counts),
                                         "sum": round(float(counts.values.sum()), 6)})
    save_every = save_every or max(1, config.epochs // 10)
    done = _resume(folder, model, run, history, about) if folder is not None else 0
    began, before = perf_counter(), history.seconds
    with Progress(config.epochs, "GloVe", None if isinstance(progress, bool) else progress, done,
                  progress is not False) as bar:
        for step in range(done + 1, config.epochs + 1):
            loss = run.step() / len(counts)
            if not math.isfinite(loss):
                raise ValueError(f"the loss of pass {step} is {loss}; lower the learning rate (lr, "
                                 f"{config.lr}), or the size of the vectors if there are few words")
            history.steps.append(step)
            history.loss.append(loss)
            history.seconds = before + perf_counter() - began
            bar.update(step, f"loss {loss:.4f}")
            if folder is not None and (step % save_every == 0 or step == config.epochs):
                kept = {name: getattr(history, name) for name in ("steps", "loss", "seconds")}
                checkpoints.save(folder, checkpoints.Checkpoint(step, {"about": about, "history": kept}, {
                    "model": model.state_dict(), "sums": run.sums()}))
    history.finished = True
    return GloVeTraining(model.eval(), history, counts)


def _resume(folder: str | Path, model: GloVe, run: AllEntries | EntryByEntry, history: History,
            about: dict[str, Any]) -> int:
    """Go on from the newest checkpoint of a folder; returns how many passes are done."""
    found = checkpoints.newest(folder)
    if found is None:
        return 0
    try:
        checkpoints.same_run(about, found.state["about"], folder)
        checkpoints.fill(model, found.tensors["model"], str(folder))
        run.fill(found.tensors["sums"])
        for name, value in found.state["history"].items():
            setattr(history, name, value)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{folder} holds no run that can go on ({type(error).__name__}: {error}); delete "
                         f"the folder to start again") from error
    return found.step
