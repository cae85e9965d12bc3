r"""word2vec's skip-gram: a word's vector is what helps to predict the words around it.

Papers: T. Mikolov, K. Chen, G. Corrado and J. Dean (2013), *Efficient Estimation of Word Representations in
Vector Space*, arXiv:1301.3781, sec. 3.2 (skip-gram, hierarchical softmax); T. Mikolov, I. Sutskever, K. Chen,
G. Corrado and J. Dean (2013), *Distributed Representations of Words and Phrases and their Compositionality*,
NeurIPS, arXiv:1310.4546, sec. 2 (negative sampling, subsampling); O. Levy and Y. Goldberg (2014), *Neural
Word Embedding as Implicit Matrix Factorization*, NeurIPS, sec. 3 (what negative sampling converges to);
defaults of github.com/tmikolov/word2vec.  Survey: 3.2.
Differs from the papers: they read a word and predict those around it; here, as in the released code, a word
around is read and the one in the middle predicted, which gives the same pairs over a corpus. The full softmax
is what the two others replace; the paper trains none. The sizes by name are those of the papers' tables as
later accounts report them: we could not check them there; epochs that no account gives are one.

Each word has a vector as input, ``W_in``, which is the word's vector in the end, and ``W_out`` holds those of
the output: a vector a word, or with the hierarchical softmax one for each inner node of Huffman's tree. Two
ways to train: ``train_skip_gram``, one update a pair as published, and ``fit`` on ``WindowBatches`` with
``pair_loss``, for what is trained together with something else. Letters of shapes: m pairs, v words,
k negatives, l nodes on a way, n inner nodes.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from mmlearn import checkpoints
from mmlearn.data.vocabulary import KEEP, Text, Vocabulary, generator_of, numbered, pairs, stays, widths
from mmlearn.files import locked
from mmlearn.images_for_language.huffman import HuffmanTree
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.modes import seeded
from mmlearn.progress import Progress
from mmlearn.train import History

if TYPE_CHECKING:
    from mmlearn.data.word_vectors import WordVectors

OBJECTIVES = ("hs", "ns", "softmax")
NOTHING = ("no two words of the vocabulary stand in one window; give sentences of two words and more, lower "
           "min_count, or leave fewer words out (sample)")
PART = 10_000               # words between two looks at the learning rate, as in word2vec.c


@dataclass(frozen=True)
class SkipGramConfig:
    """Size, objective and training of a skip-gram; the defaults are word2vec.c's, with the 71,291 words that
    occur five times in text8, the corpus of its first example."""

    vocab: int = 71_291         # v, words; a model of a corpus has those of its vocabulary
    dim: int = 100              # d, numbers of a word's vector
    objective: str = "ns"       # "hs" hierarchical softmax, "ns" negative sampling, or "softmax"
    window: int = 5             # c, words that are read on each side at most
    dynamic: bool = True        # is a window's width drawn from 1 .. c for each word?
    negatives: int = 5          # K, words that are drawn for a pair
    power: float = 0.75         # of the counts, for the distribution that they are drawn from
    sample: float = 1e-3        # t, frequency above which occurrences are left out; 0: none is
    keep: str = "code"          # the formula of what stays: of the "code", or of the "paper"
    min_count: int = 5          # occurrences of a word of the vocabulary, at least
    epochs: int = 5
    lr: float = 0.025           # at the start
    least: float = 1e-4         # share of it at the end; 1: it stays
    init: float = 0.5           # inputs begin uniform in (-init, init) / d (gensim 4 has 1), outputs as zeros

    def __post_init__(self) -> None:
        check(self, vocab=(2, 10_000_000), sample=(0, 1), min_count=(1, 10**9), lr=(0, 100), least=(0, 1),
              power=(0, 10), init=(0, 1000), window=(1, 1000))
        if self.objective not in OBJECTIVES:
            raise FieldError("SkipGramConfig", "objective", f"is {self.objective!r}, with which nothing "
                             f"would be learnt; use one of {', '.join(OBJECTIVES)}")
        if self.keep not in KEEP:
            raise FieldError("SkipGramConfig", "keep", f"is {self.keep!r}; use one of {', '.join(KEEP)}")

    @classmethod
    def word2vec(cls) -> "SkipGramConfig":
        """The defaults of word2vec.c on text8: 14,258,200 parameters."""
        return cls()

    @classmethod
    def ldc(cls) -> "SkipGramConfig":
        """The comparison of architectures (1301.3781, table 3): 320 million words, 82,000 of them in the
        vocabulary, 640 numbers, windows of 10: 104,959,360 parameters. Words are not left out yet."""
        return cls(82_000, 640, "hs", 10, sample=0.0, min_count=1, epochs=3)

    @classmethod
    def neg5(cls) -> "SkipGramConfig":
        """Negative sampling with 5 (1310.4546, table 1): a billion words of news, 692,000 in the vocabulary,
        300 numbers: 415,200,000 parameters."""
        return cls(692_000, 300, "ns", 5, sample=1e-5, keep="paper", epochs=1)

    @classmethod
    def neg15(cls) -> "SkipGramConfig":
        """The same with 15 negatives, the best of the table."""
        return replace(cls.neg5(), negatives=15)

    @classmethod
    def hs_huffman(cls) -> "SkipGramConfig":
        """The same with the hierarchical softmax: 415,199,700 parameters."""
        return replace(cls.neg5(), objective="hs")

    @classmethod
    def mini(cls) -> "SkipGramConfig":
        """A miniature for the captions of some thousand scenes: 32 numbers, windows of 2."""
        return cls(300, 32, "ns", 2, min_count=1, epochs=3)


# -------------------------------------------------------------------------------------------------- equations

def objective(
    log_p: Float[Tensor, " m"], words: int
) -> Float[Tensor, ""]:
    r"""eq:skipgram-objective: $\frac1T\sum_{t=1}^T\sum_{-c\le j\le c,\,j\ne0}\log p_\theta(w_{t+j}\mid w_t)$:
    the sum over all pairs of a corpus of $T$ words; it is made as large as possible."""
    return log_p.sum() / words


def softmax_loss(
    v: Float[Tensor, "m d"], U: Float[Tensor, "v d"],
    target: Int64[Tensor, " m"]
) -> Float[Tensor, " m"]:
    r"""eq:skipgram-softmax: $-\log p_\theta(o\mid i)=-u_o^\top v_i+\log\sum_w\exp(u_w^\top v_i)$: the cost
    grows with the vocabulary."""
    scores = v @ U.mT
    chosen = scores.gather(1, target[:, None])[:, 0]
    return scores.logsumexp(1) - chosen


def softmax_gradient(
    v: Float[Tensor, "m d"], U: Float[Tensor, "v d"],
    target: Int64[Tensor, " m"]
) -> Float[Tensor, "m d"]:
    r"""eq:skipgram-softmax-gradient: $\frac{\partial\ell}{\partial v_i}=-u_o+\sum_wp_\theta(w\mid i)\,u_w$:
    the expected output vector minus the observed one."""
    return (v @ U.mT).softmax(1) @ U - U[target]


def hs_loss(
    x: Float[Tensor, "m l"], bits: Int64[Tensor, "m l"],
    mask: Bool[Tensor, "m l"]
) -> Float[Tensor, " m"]:
    r"""eq:skipgram-hs: $-\log p_\theta(w\mid i)=-\sum_{j=1}^{L_w}\log\sigma\big((1-2b_j)\,x_j\big)$ with
    $x_j=n_{k_j}^\top v_i$: at each node on the way the right turn is taken with probability $\sigma(\pm x)$;
    bit 0 is the positive branch."""
    turns = F.logsigmoid((1 - 2 * bits) * x)
    return -turns.masked_fill(~mask, 0).sum(1)


def hs_gradient(
    x: Float[Tensor, "*m"], bits: Int64[Tensor, "*m"]
) -> Float[Tensor, "*m"]:
    r"""eq:skipgram-hs-gradient: $\frac{\partial\ell}{\partial x_j}=\sigma(x_j)-(1-b_j)$; with it
    $\frac{\partial\ell}{\partial n_{k_j}}=(\sigma(x_j)-1+b_j)\,v_i$ and
    $\frac{\partial\ell}{\partial v_i}=\sum_j(\sigma(x_j)-1+b_j)\,n_{k_j}$."""
    return x.sigmoid() - (1 - bits)


def ns_loss(
    x_o: Float[Tensor, " m"], x_k: Float[Tensor, "m k"],
    mask: Bool[Tensor, "m k"]
) -> Float[Tensor, " m"]:
    r"""eq:skipgram-ns: $\ell=-\log\sigma(x_o)-\sum_{k=1}^K\log\sigma(-x_k)$ with $x_o=u_o^\top v_i$,
    $x_k=u_k^\top v_i$: is the word a neighbour, or drawn from $P_n$? A word that was drawn and is the
    neighbour itself does not count (``mask``)."""
    others = F.logsigmoid(-x_k).masked_fill(~mask, 0)
    return -F.logsigmoid(x_o) - others.sum(1)


def ns_gradient(
    x_o: Float[Tensor, " m"], x_k: Float[Tensor, "m k"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, "m k"]]:
    r"""eq:skipgram-ns-gradient: $\frac{\partial\ell}{\partial x_o}=\sigma(x_o)-1$,
    $\frac{\partial\ell}{\partial x_k}=\sigma(x_k)$; with them
    $\frac{\partial\ell}{\partial v_i}=(\sigma(x_o)-1)\,u_o+\sum_k\sigma(x_k)\,u_k$."""
    return x_o.sigmoid() - 1, x_k.sigmoid()


def noise(
    counts: Float[Tensor, " v"], power: float | int = 0.75
) -> Float[Tensor, " v"]:
    r"""eq:skipgram-noise: $P_n(w)=\#(w)^{3/4}\big/\sum_{w'}\#(w')^{3/4}$: flatter than the counts, so that
    rare words are drawn more often than they occur."""
    weights = counts**power
    return weights / weights.sum()


def expected_ns_loss(
    x: Float[Tensor, "v c"], pairs: Float[Tensor, "v c"],
    P_n: Float[Tensor, " c"], K: int
) -> Float[Tensor, ""]:
    r"""eq:skipgram-ns-expected: $-\sum_{i,o}\Big(\#(i,o)\log\sigma(x_{io})+K\,\#(i)\,P_n(o)
    \log\sigma(-x_{io})\Big)$: what negative sampling costs on average over its draws, all terms of a pair of
    words collected."""
    drawn = K * pairs.sum(1, keepdim=True) * P_n
    return -(pairs * F.logsigmoid(x) + drawn * F.logsigmoid(-x)).sum()


def shifted_pmi(
    pairs: Float[Tensor, "v c"], P_n: Float[Tensor, " c"], K: int
) -> Float[Tensor, "v c"]:
    r"""eq:skipgram-shifted-pmi: $x^*_{io}=\log\frac{\#(i,o)}{\#(i)\,P_n(o)}-\log K$: where that is least; the
    PMI minus $\log K$ if $P_n$ is the unigram distribution. $-\infty$ for words that never meet."""
    return (pairs / (pairs.sum(1, keepdim=True) * P_n)).log() - math.log(K)


def implied_log_p(
    x: Float[Tensor, "m v"], P_n: Float[Tensor, " v"]
) -> Float[Tensor, "m v"]:
    r"""eq:skipgram-implied: $\log p(o\mid i)=x_{io}+\log P_n(o)-\log\sum_we^{x_{iw}}P_n(w)$: the distribution
    that scores of negative sampling imply, at $x^*$ exactly; they are not normalised by themselves."""
    return (x + P_n.log()).log_softmax(1)


def rate(
    done: float | int, lr: float | int, least: float | int = 1e-4
) -> float:
    r"""eq:skipgram-rate: $\eta=\eta_0\max(1-s,\,10^{-4})$ after the share $s$ of all words."""
    return lr * max(1 - done, least)


# ------------------------------------------------------------------------------------------------------ model

class SkipGram(nn.Module):
    """Pairs of words -> how badly the one predicts the other (eq:skipgram-hs, eq:skipgram-ns, or
    eq:skipgram-softmax, as the configuration says).

    ``inputs`` and ``targets`` (m) are ids; ``W_in`` (v, d) are the words' vectors, ``W_out`` those of outputs
    (v, d) or of inner nodes (v - 1, d). The size is that of the vocabulary, whose counts make the tree and
    the noise; without one it is the configuration's, and there is no loss. Losses are in nats a pair.
    """

    tree: HuffmanTree
    paths: Tensor
    bits: Tensor
    mask: Tensor
    noise: Tensor

    def __init__(
        self, config: SkipGramConfig, vocabulary: Vocabulary | None = None
    ) -> None:
        super().__init__()
        if vocabulary is not None:
            config = replace(config, vocab=len(vocabulary))
        self.config, self.vocabulary = config, vocabulary
        v, d, hs = config.vocab, config.dim, config.objective == "hs"
        bound = config.init / d
        self.W_in = nn.Parameter(torch.empty(v, d).uniform_(-bound, bound))
        self.W_out = nn.Parameter(torch.zeros(v - 1 if hs else v, d))
        if vocabulary is not None and hs:
            self.tree = HuffmanTree.of(vocabulary.counts)
            for name in ("paths", "bits", "mask"):
                self.register_buffer(name, getattr(self.tree, name), False)
        elif vocabulary is not None:
            counts = torch.tensor(vocabulary.counts, dtype=torch.float64)
            self.register_buffer("noise", noise(counts, config.power), False)

    def losses(
        self, inputs: Int64[Tensor, " m"], targets: Int64[Tensor, " m"],
        generator: torch.Generator | None = None
    ) -> Float[Tensor, " m"]:
        """The loss of each pair; negatives are drawn with ``generator``. Raises ``ValueError`` without a
        vocabulary."""
        _known(self)
        v, config = self.W_in[inputs], self.config
        if config.objective == "softmax":
            return softmax_loss(v, self.W_out, targets)
        if config.objective == "hs":
            x = (self.W_out[self.paths[targets]] @ v[:, :, None])[:, :, 0]
            return hs_loss(x, self.bits[targets], self.mask[targets])
        count = len(targets) * config.negatives
        drawn = torch.multinomial(self.noise, count, True, generator=generator)
        drawn = drawn.view(len(targets), config.negatives)
        x_o = (self.W_out[targets] * v).sum(1)
        x_k = (self.W_out[drawn] @ v[:, :, None])[:, :, 0]
        return ns_loss(x_o, x_k, drawn != targets[:, None])

    def loss(
        self, inputs: Int64[Tensor, " m"], targets: Int64[Tensor, " m"],
        generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """The mean loss of the pairs."""
        return self.losses(inputs, targets, generator).mean()

    forward = loss

    def log_p(self, inputs: Int64[Tensor, " m"]) -> Float[Tensor, "m v"]:
        """Log-probability of every word near each input: it sums to 1 over the words by itself with "hs" and
        "softmax", and is eq:skipgram-implied with "ns"."""
        _known(self)
        x = self.W_in[inputs] @ self.W_out.mT
        if self.config.objective == "softmax":
            return x.log_softmax(1)
        if self.config.objective == "ns":
            return implied_log_p(x, self.noise.to(x))
        return torch.stack([-hs_loss(row[self.paths], self.bits, self.mask)
                            for row in x])

    @torch.no_grad()
    def score(self, text: Text) -> float:
        """Sum of log p over all pairs of a corpus, windows in full width, no word left out."""
        width = torch.full_like(text.ids, self.config.window)
        inputs, targets = pairs(text, width)
        there, which = inputs.unique(return_inverse=True)
        return float(self.log_p(there)[which, targets].double().sum())

    def vectors(self) -> "WordVectors":
        """The words' vectors."""
        from mmlearn.data.word_vectors import WordVectors

        return WordVectors(_known(self).words, self.W_in.detach().cpu().clone())


def _known(model: SkipGram) -> Vocabulary:
    if model.vocabulary is None:
        raise ValueError("this skip-gram knows no words and counts; make it with the vocabulary of a corpus")
    return model.vocabulary


def pair_loss(
    model: SkipGram, batch: tuple[Int64[Tensor, " m"], Int64[Tensor, " m"]]
) -> tuple[Float[Tensor, ""], dict[str, Any]]:
    """For ``fit`` on ``WindowBatches``: the mean loss of a batch of pairs, and their number as its weight."""
    return model.loss(*batch), {"weight": len(batch[0])}


# --------------------------------------------------------------------------------------------------- training

@dataclass
class SkipGramTraining:
    """What training leaves behind: the model, the mean loss a pair of each part of 10,000 words
    (``history``; its scalar "pairs" says how many), and how many words were read, epochs counted."""

    model: SkipGram
    history: History
    words: int

    def vectors(self) -> "WordVectors":
        """The words' vectors."""
        return self.model.vectors()

    @property
    def words_per_second(self) -> float:
        """Words of the corpus that were read in a second."""
        return self.words / max(self.history.seconds, 1e-9)

    def loss(self, parts: int = 1) -> float:
        """Mean loss a pair over the last ``parts``, each counted by its pairs."""
        counts = self.history.scalars["pairs"][-parts:]
        return sum(n * loss for n, loss in zip(counts, self.history.loss[-parts:])) / sum(counts)


def train_skip_gram(
    sentences: Sequence[Sequence[str]], config: SkipGramConfig | None = None, *,
    vocabulary: Vocabulary | None = None, model: SkipGram | None = None, seed: int = 0, workers: int = 1,
    table_sigmoid: bool = False, folder: str | Path | None = None, save_every: int | None = None,
    progress: Any = True
) -> SkipGramTraining:
    """Train a skip-gram with "hs" or "ns" as published: one update a pair, word after word, on the CPU.

    ``config`` has word2vec.c's defaults; ``vocabulary`` is that of the corpus unless given; with ``model``
    training begins from its weights, with its configuration and vocabulary. ``table_sigmoid`` takes
    word2vec.c's table for the sigmoid, with which the hierarchical softmax equals gensim's number for number.
    ``workers`` threads update the same weights without waiting for each other, as word2vec.c's do: with more
    than one, no run is quite like another.

    ``fit`` trains by batches: a step costs it a millisecond, in which a thousand pairs are learnt here. So
    this is a loop of its own, with the same promise: with ``folder`` a checkpoint is written every
    ``save_every`` parts of 10,000 words (default: a tenth of the run); if one is there, the run goes on from
    it, to the same result with one worker. ``progress``: True, False, or a file.

    Raises ``ValueError`` for a corpus without a pair, settings that make no sense, a loss that is not finite,
    and a folder that holds another run.
    """
    if model is not None and (config is not None or vocabulary is not None):
        raise ValueError("a model is given, and a configuration or a vocabulary, too; it has its own, so "
                         "give it alone")
    config = model.config if model is not None else config or SkipGramConfig()
    if config.objective == "softmax":
        raise ValueError("objective is 'softmax', every pair of which moves the vectors of all words; choose "
                         "'hs' or 'ns', or train a SkipGram with fit, pair_loss and WindowBatches")
    counts = {"workers": (workers, 1024), "save_every": (1 if save_every is None else save_every, 10**9)}
    for name, (number, most) in counts.items():
        if not 1 <= number <= most:
            raise ValueError(f"{name} is {number}; take a whole number from 1 to {most:,}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; take a whole number from 0 to {2**32 - 1:,}")
    if model is None:
        vocabulary = vocabulary or Vocabulary.of(sentences, config.min_count)
        with seeded(seed):
            model = SkipGram(config, vocabulary)
    run = _Run(model, numbered(sentences, _known(model)), seed, workers, table_sigmoid)
    with locked(folder) if folder is not None else nullcontext():
        return run(folder, save_every, progress)


class _Run:
    """The passes over a corpus, part by part."""

    def __init__(self, model: SkipGram, text: Text, seed: int, workers: int, table_sigmoid: bool) -> None:
        from mmlearn.images_for_language import skip_gram_updates as updates

        self.model, self.text, self.seed, self.workers = model.cpu().train(), text, seed, workers
        self.config, self.history = model.config, History()
        if not bool((text.sentence[1:] == text.sentence[:-1]).any()):
            raise ValueError(NOTHING)
        self.parts = -(-len(text.ids) // PART)                     # of an epoch
        self.drawn: tuple[int, Any] = (-1, None)
        self.table = updates.sigmoid_table() if table_sigmoid else updates.EXACT
        self.weights = [w.detach().numpy() for w in (model.W_in, model.W_out)]
        if self.config.objective == "hs":
            tree = model.tree
            self.update: Any = updates.hs_updates
            self.fixed: tuple[Any, ...] = (tree.paths.int().numpy(), tree.bits.to(torch.int8).numpy(),
                                           tree.lengths.int().numpy())
        else:
            self.update = updates.ns_updates
            self.fixed = (*updates.alias_table(model.noise.numpy()), self.config.negatives)
        frequencies, sample = _known(model).frequencies(), self.config.sample
        self.keep = KEEP[self.config.keep](frequencies, sample).float() if sample else None
        self.about = checkpoints.describe(model, {
            "seed": seed, "workers": workers, "table_sigmoid": table_sigmoid,
            "corpus": f"{len(text.ids)} words, {zlib.crc32(text.ids.numpy().tobytes()):08x}"})

    def __call__(self, folder: str | Path | None, save_every: int | None, progress: Any) -> SkipGramTraining:
        steps = self.config.epochs * self.parts
        save_every = (save_every or max(1, steps // 10)) if folder is not None else steps
        done = self.resume(folder) if folder is not None else 0
        began, before = perf_counter(), self.history.seconds
        pool = ThreadPoolExecutor(self.workers)
        try:
            with Progress(steps, "skip-gram", None if isinstance(progress, bool) else progress, done,
                          progress is not False) as bar:
                while done < steps:
                    # to the end of the epoch or the next checkpoint, whichever comes before
                    span = min(self.parts - done % self.parts, save_every - done % save_every)
                    for loss, pairs in self.losses(range(done, done + span), pool):
                        done += 1
                        self.record(done, loss, pairs)
                        bar.update(done, self.note())
                    self.history.seconds = before + perf_counter() - began
                    if folder is not None and (done % save_every == 0 or done == steps):
                        self.save(folder, done)
        finally:
            pool.shutdown(cancel_futures=True)
        if not self.history.loss:
            raise ValueError(NOTHING)
        self.history.finished = True
        self.model.eval()
        return SkipGramTraining(self.model, self.history, self.config.epochs * len(self.text.ids))

    def losses(self, parts: range, pool: ThreadPoolExecutor) -> Iterable[tuple[float, int]]:
        """Do parts of one epoch: the sum of the losses and the number of pairs of each, one after the other
        or by several workers."""
        epoch = parts[0] // self.parts
        if self.drawn[0] != epoch:
            self.drawn = epoch, self.epoch(epoch)
        return (pool.map if self.workers > 1 else map)(self.drawn[1], (part % self.parts for part in parts))

    def epoch(self, epoch: int) -> Callable[[int], tuple[float, int]]:
        """What is read in an epoch, as a function of the part, which does its updates."""
        generator, text = generator_of(self.seed, epoch), self.text
        place = [*range(0, len(text.ids), PART), len(text.ids)]              # where the parts begin
        if self.keep is not None:
            read = stays(text.ids, self.keep, generator)
            text = text.kept(read)
            place = [0, *accumulate(int(part.sum()) for part in read.split(PART))]
        width = widths(len(text.ids), self.config.window, generator, self.config.dynamic)
        corpus = [column.int().numpy() for column in (*text, width)]

        def part(number: int) -> tuple[float, int]:
            done = (epoch + number / self.parts) / self.config.epochs
            lr = np.float32(rate(done, self.config.lr, self.config.least))
            drawn = () if self.config.objective == "hs" else (place_seed(self.seed, epoch, number),)
            return self.update(*self.weights, *corpus, place[number], place[number + 1], *self.fixed, lr,
                               self.table, *drawn)
        return part

    def record(self, step: int, loss: float, pairs: int) -> None:
        """Note the mean loss of a part; one without a pair leaves no note."""
        if not math.isfinite(loss):
            raise ValueError(f"the loss of the words up to {step * PART:,} is {loss}; lower the learning "
                             f"rate (lr, {self.config.lr})")
        if pairs:
            self.history.steps.append(step)
            self.history.loss.append(loss / pairs)
            self.history.scalars.setdefault("pairs", []).append(float(pairs))

    def note(self) -> str:
        return f"loss {self.history.loss[-1]:.3f}" if self.history.loss else ""

    def save(self, folder: str | Path, step: int) -> None:
        history = {name: getattr(self.history, name) for name in ("steps", "loss", "scalars", "seconds")}
        state = {"about": self.about, "history": history}
        checkpoints.save(folder, checkpoints.Checkpoint(step, state, {"model": self.model.state_dict()}))

    def resume(self, folder: str | Path) -> int:
        """Go on from the newest checkpoint of a folder; returns how many parts are done."""
        found = checkpoints.newest(folder)
        if found is None:
            return 0
        try:
            checkpoints.same_run(self.about, found.state["about"], folder)
            checkpoints.fill(self.model, found.tensors["model"], str(folder))
            self.history = History(**found.state["history"])
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{folder} holds no run that can go on ({type(error).__name__}: {error}); "
                             f"delete the folder to start again") from error
        return found.step


def place_seed(seed: int, *place: int) -> np.uint64:
    """A start for the random numbers of one part of one epoch."""
    return np.random.SeedSequence((seed, *place)).generate_state(1, np.uint64)[0]
