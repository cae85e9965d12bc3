r"""Distributional vectors by counting: how often words stand together, and what of it is more than chance.

Papers: E. Bruni, N.-K. Tran and M. Baroni (2014), *Multimodal Distributional Semantics*, JAIR 49, sec. 3
(window counts, local mutual information); O. Levy and Y. Goldberg (2014), *Neural Word Embedding as Implicit
Matrix Factorization*, NIPS, sec. 3 (shifted PMI).  Survey: 3.1, 3.3.
Differs from the papers: nothing. Bruni counts content words only, so a window of 2 reaches over function
words: leave these out of the sentences before (``Vocabulary.encode`` drops words that it does not have).

A table of counts is a dense tensor, or a sparse one (coalesced COO) where it is large; what is weighed keeps
its form, because all weights but the shifted logarithm are 0 where nothing was counted.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

DENSE = 16_000_000          # cells of a table that is kept dense (128 MB)
BLOCK = 1_000_000           # positions of the corpus that are counted at once


# -------------------------------------------------------------------------------------------------- equations

def pmi(
    n: Float[Tensor, "*s"], row: Float[Tensor, "*r"],
    column: Float[Tensor, "*c"], total: float | int
) -> Float[Tensor, "*s"]:
    r"""eq:counts-pmi: $\mathrm{PMI}(t,c)=\log\frac{P(t,c)}{P(t)P(c)}=\log\frac{\#(t,c)\,N}{\#(t)\,\#(c)}$
    with $\#(t)=\sum_c\#(t,c)$ and $N=\sum_{t,c}\#(t,c)$: minus infinity where nothing was counted."""
    expected = (row * column).clamp(min=1e-300)     # no counts: log 0, not 0/0
    return torch.log(n * total / expected)


def ppmi(
    n: Float[Tensor, "*s"], row: Float[Tensor, "*r"],
    column: Float[Tensor, "*c"], total: float | int
) -> Float[Tensor, "*s"]:
    r"""eq:counts-ppmi: $\max(\mathrm{PMI}(t,c),0)$."""
    return pmi(n, row, column, total).clamp(min=0)


def lmi(
    n: Float[Tensor, "*s"], row: Float[Tensor, "*r"],
    column: Float[Tensor, "*c"], total: float | int
) -> Float[Tensor, "*s"]:
    r"""eq:counts-lmi: $\max\big(\#(t,c)\,\mathrm{PMI}(t,c),\,0\big)=\#(t,c)\,\mathrm{PPMI}(t,c)$: the count
    speaks, too, so that a pair that was met once cannot outweigh one that was met often."""
    return n * ppmi(n, row, column, total)


def shifted_pmi(
    n: Float[Tensor, "*s"], row: Float[Tensor, "*r"],
    column: Float[Tensor, "*c"], total: float | int, K: int
) -> Float[Tensor, "*s"]:
    r"""eq:counts-shifted: $\mathrm{PMI}(t,c)-\log K$: what skip-gram with $K$ negatives from the unigram
    distribution factorises, $u_c^\top v_t$ at its optimum."""
    return pmi(n, row, column, total) - math.log(K)


def shifted_ppmi(
    n: Float[Tensor, "*s"], row: Float[Tensor, "*r"],
    column: Float[Tensor, "*c"], total: float | int, K: int
) -> Float[Tensor, "*s"]:
    r"""eq:counts-shifted-positive: $\max(\mathrm{PMI}(t,c)-\log K,\,0)$, which is sparse again."""
    return shifted_pmi(n, row, column, total, K).clamp(min=0)


WEIGHTS: dict[str, Callable[..., Tensor]] = {"lmi": lmi, "ppmi": ppmi}


def weigh(
    counts: Float[Tensor, "r c"], weight: str | Callable[..., Tensor] = "lmi"
) -> Float[Tensor, "r c"]:
    """Every cell of a table of counts, weighed by ``lmi``, ``ppmi`` or a function like them.

    Numbers are computed in float64 and come back in it. Raises ``ValueError`` for another name, for counts
    below 0 and for a table without counts.
    """
    if isinstance(weight, str) and weight not in WEIGHTS:
        raise ValueError(f"weight is {weight!r}; use one of {', '.join(WEIGHTS)}")
    function = WEIGHTS[weight] if isinstance(weight, str) else weight
    counts = counts.double()
    if counts.is_sparse:
        counts = counts.coalesce()
    cells = counts.values() if counts.is_sparse else counts
    total = float(cells.sum())
    if not total or bool((cells < 0).any()):
        raise ValueError(f"the table holds {total:g} counts, the least cell {_least(cells):g}; give counts "
                         f"of 0 and more, and at least one")
    rows, columns = sums(counts, 1), sums(counts, 0)
    if not counts.is_sparse:
        return function(counts, rows[:, None], columns[None], total)
    t, c = counts.indices()
    weighed = function(cells, rows[t], columns[c], total)
    kept = weighed != 0
    return _sparse(torch.stack([t[kept], c[kept]]), weighed[kept], counts.shape)


def _least(cells: Tensor) -> float:
    return float(cells.min()) if cells.numel() else 0.0


def sums(table: Float[Tensor, "r c"], axis: int) -> Float[Tensor, " s"]:
    """The sums of a dense or sparse table over its rows (0) or its columns (1)."""
    if not table.is_sparse:
        return table.sum(dim=axis)
    table = table.coalesce()
    kept = 1 - axis
    return table.values().new_zeros(table.shape[kept]).index_add_(0, table.indices()[kept], table.values())


def _sparse(indices: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.sparse_coo_tensor(indices, values, tuple(shape), is_coalesced=True, check_invariants=False)


# ---------------------------------------------------------------------------------------------------- windows

def window_counts(
    sentences: Iterable[Sequence[int]], size: int, window: int = 2, dense: bool | None = None
) -> Float[Tensor, "size size"]:
    r"""eq:counts-window: $\#(t,c)=\sum_s\sum_i\sum_{0<|j|\le w}[w_{s,i}=t]\,[w_{s,i+j}=c]$: how often word c
    stands at most ``window`` places beside word t in a sentence s.

    ``sentences`` are lists of word numbers below ``size``; they may come one by one from a file. The table is
    symmetric, in float64; dense up to ``DENSE`` cells, else sparse, unless ``dense`` says. Raises
    ``ValueError`` for a window below 1 and for numbers outside the vocabulary.
    """
    if window < 1:
        raise ValueError(f"window is {window}; a context reaches at least 1 word to either side")
    dense = size * size <= DENSE if dense is None else dense
    if dense:
        table = torch.zeros(size * size, dtype=torch.float64)
        for keys in pair_keys(sentences, size, window):
            table += torch.bincount(keys, minlength=size * size)
        half = table.view(size, size)
        return half + half.mT
    keys, counts = torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
    for found in pair_keys(sentences, size, window):
        new, often = found.unique(return_counts=True)
        keys, counts = merged(torch.cat([keys, new]), torch.cat([counts, often]))
    t, c = keys // size, keys % size
    keys, counts = merged(torch.cat([keys, c * size + t]), torch.cat([counts, counts]))
    return _sparse(torch.stack([keys // size, keys % size]), counts.double(), (size, size))


def merged(keys: Int[Tensor, " n"], counts: Int[Tensor, " n"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Keys in order, each once, with the sum of its counts."""
    keys, place = keys.unique(return_inverse=True)
    return keys, torch.zeros_like(keys).index_add_(0, place, counts)


def pair_keys(sentences: Iterable[Sequence[int]], size: int, window: int) -> Iterator[Int[Tensor, " n"]]:
    """The pairs of a word and a later one in its window, as numbers t * size + c, a block of the corpus at a
    time."""
    for words, sentence in blocks(sentences, size):
        for distance in range(1, window + 1):
            together = sentence[:-distance] == sentence[distance:]
            yield (words[:-distance] * size + words[distance:])[together]


def blocks(
    sentences: Iterable[Sequence[int]], size: int
) -> Iterator[tuple[Int[Tensor, " n"], Int[Tensor, " n"]]]:
    """Whole sentences joined until they have ``BLOCK`` words: the words, and each one's sentence."""
    words: list[int] = []
    lengths: list[int] = []

    def joined() -> tuple[Tensor, Tensor]:
        ids = torch.tensor(words, dtype=torch.long)
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < size:
            raise ValueError(f"words are numbered from {int(ids.min())} to {int(ids.max())}, the vocabulary "
                             f"has {size}; encode the sentences with that vocabulary")
        return ids, torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.long))

    for sentence in sentences:
        words += sentence
        lengths.append(len(sentence))
        if len(words) >= BLOCK:
            yield joined()
            words, lengths = [], []
    if words:
        yield joined()
