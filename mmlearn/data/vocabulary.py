r"""Words as numbers: the vocabulary of a corpus, the corpus as one row of ids, and what of it is read.

Papers: T. Mikolov, I. Sutskever, K. Chen, G. Corrado and J. Dean (2013), *Distributed Representations of
Words and Phrases and their Compositionality*, NeurIPS, arXiv:1310.4546, sec. 2.3 (subsampling); T. Mikolov,
K. Chen, G. Corrado and J. Dean (2013), *Efficient Estimation of Word Representations in Vector Space*,
arXiv:1301.3781, sec. 3.2 (windows of random width); github.com/tmikolov/word2vec.  Survey: 3.2.
Differs from the code: a sentence is as long as it is (the code cuts it at 1000 words, the length of its
buffer), and ``</s>`` is no word.

A corpus in memory is a list of sentences, each a list of words. A file holds one sentence a line, its words
separated by white space. Letters of shapes: n words of a corpus, m pairs, v words of the vocabulary.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from mmlearn.data.batches import Batches
from mmlearn.files import read_text, shown

LONGEST = 1 << 16               # of a word, letters here and bytes in a file of vectors; more is no word


@dataclass(frozen=True)
class Vocabulary:
    """The words of a corpus by falling count (of two alike the earlier one first; in gensim it is the later),
    and how often each occurs.

    ``ids`` gives the number of a word. Raises ``ValueError`` for no word, a word that stands twice, and
    counts that are below 1 or rise.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.words or len(self.words) != len(self.counts):
            raise ValueError(f"a vocabulary has {len(self.words)} words and {len(self.counts)} counts; give "
                             f"at least one word, and each its count")
        object.__setattr__(self, "ids", {word: i for i, word in enumerate(self.words)})
        if len(self.ids) < len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self.ids[word] != i)
            raise ValueError(f"the vocabulary lists {twice!r} twice; every word has one id")
        if self.counts[-1] < 1 or any(a < b for a, b in zip(self.counts, self.counts[1:])):
            raise ValueError("the counts of a vocabulary fall and end at 1 or more; sort its words by count")

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], min_count: int = 1) -> "Vocabulary":
        """The words that occur at least ``min_count`` times. Raises ``ValueError`` if there is none."""
        counts = Counter(word for sentence in sentences for word in sentence)
        if not counts:
            raise ValueError("the corpus holds no word; give sentences of at least one word")
        kept = [(word, n) for word, n in counts.items() if n >= min_count]
        if not kept:
            most, n = counts.most_common(1)[0]
            raise ValueError(f"no word occurs {min_count} times, the most frequent one, {shown(most)}, {n} "
                             f"times; lower the number (min_count, --min-count)")
        kept.sort(key=lambda pair: -pair[1])                         # a stable sort: ties stay as they occur
        return cls(tuple(word for word, _ in kept), tuple(n for _, n in kept))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Ids of ``words``, those that are not in the vocabulary left out."""
        ids = self.ids
        return [ids[word] for word in words if word in ids]

    def frequencies(self) -> Float[Tensor, " v"]:
        """The share of each word in the corpus, unknown words not counted, in double precision."""
        counts = torch.tensor(self.counts, dtype=torch.float64)
        return counts / counts.sum()


class Text(NamedTuple):
    """A corpus as numbers: ``ids`` (n) of its known words, one sentence after the other, and for each of them
    the number of its ``sentence`` (n)."""

    ids: Tensor
    sentence: Tensor

    def kept(self, mask: Bool[Tensor, " n"]) -> "Text":
        """The same without the words where ``mask`` is False; those around them move together."""
        return Text(self.ids[mask], self.sentence[mask])


def numbered(sentences: Iterable[Sequence[str]], vocabulary: Vocabulary) -> Text:
    """A corpus as numbers. Raises ``ValueError`` if it holds no word of the vocabulary."""
    lengths: list[int] = []

    def each() -> Iterator[int]:
        for sentence in sentences:
            row = vocabulary.encode(sentence)
            lengths.append(len(row))
            yield from row

    ids = np.fromiter(each(), np.int64)
    if not len(ids):
        raise ValueError(f"none of the {len(vocabulary)} words of the vocabulary occurs in the corpus; "
                         f"use the vocabulary of this corpus")
    sentence = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return Text(torch.from_numpy(ids), torch.from_numpy(sentence))


def read_corpus(path: str | Path) -> list[list[str]]:
    """The sentences of a text file in UTF-8, one a line, their words separated by white space.

    Empty lines are passed over. Raises ``FileNotFoundError``, and ``ValueError`` for a file that is no text
    or holds no word.
    """
    remedy = "give a text file in UTF-8 with one sentence a line"
    lines = read_text(path, remedy).split("\n")
    sentences = [[intern(word) for word in line.split()] for line in lines]   # a word is held once
    for number, (line, words) in enumerate(zip(lines, sentences), 1):
        if len(line) > LONGEST and len(max(words, key=len, default="")) > LONGEST:
            raise ValueError(f"{path}, line {number}: a word has more than {LONGEST:,} letters, so this "
                             f"seems to be no text parted by white space; {remedy}")
    sentences = [words for words in sentences if words]
    if not sentences:
        raise ValueError(f"{path} holds no word; {remedy}")
    return sentences


# ------------------------------------------------------------------------------------ equations: what is read

def keep_probability(
    f: Float[Tensor, "*n"], t: float | int
) -> Float[Tensor, "*n"]:
    r"""eq:skipgram-keep: $\min\big(1,\sqrt{t/f}\big)$: the paper keeps an occurrence of a word of relative
    frequency $f$ with this probability; words rarer than $t$ are all kept."""
    return (t / f).sqrt().clamp(max=1)


def keep_probability_of_code(
    f: Float[Tensor, "*n"], t: float | int
) -> Float[Tensor, "*n"]:
    r"""eq:skipgram-keep-code: $\min\big(1,\sqrt{t/f}+t/f\big)$: what word2vec.c (and gensim) does instead; it
    keeps a little more."""
    return ((t / f).sqrt() + t / f).clamp(max=1)


KEEP = {"paper": keep_probability, "code": keep_probability_of_code}


def window_share(
    j: Int[Tensor, "*n"], c: int
) -> Float[Tensor, "*n"]:
    r"""eq:skipgram-window: $P(|j|\le B)=\max\big(0,(c-|j|+1)/c\big)$ for a width $B$ drawn uniformly from
    $1,\dots,c$: how often a word at distance $j\ne0$ is read; near words weigh more."""
    return (c - j.abs() + 1).clamp(min=0) / c


# ------------------------------------------------------------------------------------ subsampling and windows

def stays(
    ids: Int64[Tensor, " n"], keep: Float[Tensor, " v"],
    generator: torch.Generator | None = None
) -> Bool[Tensor, " n"]:
    """Which words of a corpus are read: word w stays with probability ``keep[w]``, each time anew.

    Windows come after ``text.kept(stays(…))``, so that they reach over what was left out.
    """
    drawn = torch.rand(len(ids), generator=generator, dtype=keep.dtype)
    return drawn < keep[ids]


def widths(
    count: int, window: int, generator: torch.Generator | None = None,
    dynamic: bool = True
) -> Int64[Tensor, " n"]:
    """The width of the window around each of ``count`` words: drawn from 1 .. ``window``, or always it."""
    if not dynamic:
        return torch.full((count,), window)
    return torch.randint(1, window + 1, (count,), generator=generator)


def pairs(
    text: Text, width: Int64[Tensor, " n"],
    centres: Int64[Tensor, " m"] | None = None
) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " k"]]:
    """All pairs (input, target) of a corpus, or of the words at the places ``centres`` alone.

    The target is the word in the middle of a window, the inputs are those around it, as in word2vec.c; over a
    whole corpus that is the same as the reverse. The pairs stand in the order of the centres, and of their
    contexts from left to right.
    """
    n, most = len(text.ids), int(width.max()) if len(width) else 0
    centres = torch.arange(n) if centres is None else centres
    steps = torch.arange(-most, most + 1)
    steps = steps[steps != 0]
    context = centres[:, None] + steps                            # m -> m 2c
    inside = (context >= 0) & (context < n)
    inside &= steps.abs() <= width[centres, None]
    context = context.clamp(0, max(0, n - 1))
    inside &= text.sentence[context] == text.sentence[centres, None]
    target = text.ids[centres, None].expand_as(context)
    return text.ids[context[inside]], target[inside]


def cooccurrences(
    text: Text, size: int, window: int, dynamic: bool = True
) -> Float[Tensor, "v v"]:
    """How often each word of ``size`` (rows: inputs) is expected within the window of each other one
    (columns: targets), weighted by eq:skipgram-window; in double precision, for small vocabularies."""
    found = torch.zeros(size * size, dtype=torch.float64)
    for j in range(1, window + 1):
        same = text.sentence[j:] == text.sentence[:-j]
        left, right = text.ids[:-j][same], text.ids[j:][same]
        weight = float(window_share(torch.tensor(j), window)) if dynamic else 1.0
        for a, b in ((left, right), (right, left)):
            found += weight * torch.bincount(a * size + b, minlength=size * size)
    return found.view(size, size)


def generator_of(seed: int, *place: int) -> torch.Generator:
    """A generator whose numbers follow from ``seed`` and a ``place`` (an epoch, a part of it) alone."""
    state = np.random.SeedSequence((seed, *place)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class WindowBatches(Batches):
    """Batches of pairs: those around ``size`` centres of a corpus at a time, epoch after epoch.

    A batch is ``(inputs, targets)``, each (k); how many pairs there are differs from batch to batch. ``keep``
    (v) is the probability that an occurrence stays (None: all stay); what is left out, the widths of the
    windows and the order of the centres follow from (seed, epoch), so that a stopped run continues exactly.
    """

    def __init__(self, text: Text, size: int, *, window: int = 5, keep: Tensor | None = None,
                 dynamic: bool = True, seed: int = 0) -> None:
        if window < 1 or seed < 0:
            raise ValueError(f"window is {window} and seed {seed}; take a window of 1 or more and a seed of "
                             f"0 or more")
        super().__init__(range(len(text.ids)), size, seed=seed, drop_last=False)
        self.text, self.window, self.keep, self.dynamic = text, window, keep, dynamic
        self._drawn: tuple[int, Text, Tensor, Tensor] | None = None

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, window={self.window}, dynamic={self.dynamic}, " \
               f"subsampled={self.keep is not None})"

    def epoch(self, number: int) -> tuple[Text, Int64[Tensor, " n"], Int64[Tensor, " m"]]:
        """What is read in an epoch, the widths of its windows, and the place there of each word of the whole
        corpus (-1: left out)."""
        if self._drawn is None or self._drawn[0] != number:
            generator = generator_of(self.seed, number)
            ids, keep = self.text.ids, self.keep
            read = torch.ones_like(ids).bool() if keep is None else stays(ids, keep, generator)
            text = self.text.kept(read)
            place = torch.where(read, read.cumsum(0) - 1, -1)
            self._drawn = (number, text, widths(len(text.ids), self.window, generator, self.dynamic), place)
        return self._drawn[1:]

    def make(self, indices: list[int], number: int) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " k"]]:
        text, width, place = self.epoch(number // len(self))
        centres = place[torch.tensor(indices)]
        return pairs(text, width, centres[centres >= 0])
