r"""Vectors of words against people: rank correlation with ratings, how sure it is, and analogies.

Papers: C. Spearman (1904), *The Proof and Measurement of Association between Two Things*, American Journal of
Psychology 15; B. Efron (1979), *Bootstrap Methods: Another Look at the Jackknife*, Annals of Statistics 7;
A. Lazaridou, N. T. Pham and M. Baroni (2015), arXiv:1501.02598, table 1 (all words beside those that every
model covers); F. Hill, R. Reichart and A. Korhonen (2015), *SimLex-999*, Computational Linguistics 41.
Survey: 3.2 and 3.3.

Ratings stand on a scale of their own (WordSim-353 and SimLex-999 from 0 to 10), which is none of cosines;
only their order counts. What is judged is a function of two lists of words that says how alike the words of a
pair are, not a number where it does not know one of them, or ``WordVectors``, whose function is the cosine.
"""

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmlearn.data.word_vectors import ADD, WordVectors
from mmlearn.files import read_text, shown

Likeness = Callable[[Sequence[str], Sequence[str]], Tensor]
Judged = WordVectors | Likeness
CELLS = 1 << 22                 # numbers that a bootstrap holds at once
FIRST = 300_000                 # words that gensim looks among, the most frequent ones


# ------------------------------------------------------------------------------------------ equations


def ranks(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    r"""eq:sim-ranks: $r_i=1+|\{j:x_j<x_i\}|+\tfrac12\,|\{j\ne i:x_j=x_i\}|$: places in order, counted from
    1, equals sharing the mean of theirs."""
    values, group, size = x.unique(
        return_inverse=True, return_counts=True
    )
    last = size.cumsum(dim=0).double()
    return (last - (size - 1) / 2)[group]


def correlation(
    x: Float[Tensor, " n"], y: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    r"""eq:sim-correlation: $r(x,y)=\frac{\sum_i(x_i-\bar x)(y_i-\bar y)}
    {\sqrt{\sum_i(x_i-\bar x)^2\,\sum_i(y_i-\bar y)^2}}$; not a number where all $x$, or all $y$,
    are equal."""
    x, y = x - x.mean(), y - y.mean()
    return (x @ y) / (x.norm() * y.norm())


def spearman(a: Float[Tensor, " n"], b: Float[Tensor, " m"]) -> float:
    r"""eq:sim-spearman: $\rho(a,b)=r(\mathrm{ranks}(a),\mathrm{ranks}(b))$: 1 for any increasing
    relation, -1 for any decreasing one.

    Not a number for fewer than two pairs, and where all of a, or all of b, are equal. Raises ``ValueError``
    for lists of different length and for what is not a number.
    """
    check_lists(a, b)
    if len(a) < 2:
        return math.nan
    return float(correlation(ranks(a), ranks(b)).clamp(-1, 1))


def interval(
    draws: Float[Tensor, " s"], level: float | int = 0.95
) -> tuple[float, float]:
    r"""eq:sim-bootstrap: $\big[\,Q_{(1-q)/2},\,Q_{(1+q)/2}\big]$ of $\rho^{(1)},\dots,\rho^{(s)}$, each of
    $n$ pairs drawn with replacement: where a share $q$ of the drawn values lies."""
    low, high = (1 - level) / 2, (1 + level) / 2
    return float(draws.quantile(low)), float(draws.quantile(high))


def sign_probability(differences: Float[Tensor, " s"]) -> float:
    r"""eq:sim-paired: $p=\min\Big(1,\,2\,\frac{1+\min(|\{i:\Delta^{(i)}\le0\}|,\ |\{i:\Delta^{(i)}\ge0\}|)}
    {s+1}\Big)$ of differences $\Delta^{(i)}=\rho_1^{(i)}-\rho_2^{(i)}$, both on the same drawn pairs: how
    often the sign of the difference is another, on both sides."""
    fewer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (1 + fewer) / (len(differences) + 1))


def check_lists(*lists: Tensor) -> None:
    """Raises ``ValueError`` for lists of different lengths, or with what is not a number."""
    if len({len(one) for one in lists}) > 1:
        raise ValueError(f"the lists have {' and '.join(str(len(one)) for one in lists)} values; give one of "
                         f"each for a pair")
    if any(bool(one.isnan().any()) for one in lists):
        raise ValueError("some values are not numbers; leave out the pairs that have none")


# ------------------------------------------------------------------------------------------------ pairs


@dataclass(frozen=True, eq=False)
class WordPairs:
    """Pairs of words and what people say of them: ``score`` rises with their likeness, on any scale."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    score: Float[Tensor, " n"]

    def __post_init__(self) -> None:
        if not len(self.first) == len(self.second) == len(self.score):
            raise ValueError(f"{len(self.first)} first words, {len(self.second)} second words and "
                             f"{len(self.score)} scores; give one of each for a pair")
        check_lists(self.score)

    def __len__(self) -> int:
        return len(self.first)

    def where(self, chosen: Bool[Tensor, " n"]) -> "WordPairs":
        """The chosen pairs alone."""
        keep = chosen.nonzero()[:, 0].tolist()
        return WordPairs(tuple(self.first[i] for i in keep), tuple(self.second[i] for i in keep),
                         self.score[chosen])

    @property
    def words(self) -> list[str]:
        """The words of all pairs, each once, in their order."""
        return list(dict.fromkeys(word for pair in zip(self.first, self.second) for word in pair))


def read_pairs(path: str | Path, column: str | int | None = None) -> WordPairs:
    """The pairs of a file: two words and a score a line, parted by tabs, commas, semicolons or spaces.

    Lines that begin with # and empty ones do not count; a first line without a score is a header. The score
    is the first column after the words that holds numbers, as in WordSim-353, MEN, RW, SimVerb-3500 and
    SimLex-999 (whose third column is the part of speech), or ``column``: its name in the header, or its
    number, counted from 1. Raises ``FileNotFoundError`` and ``ValueError`` with file, line and remedy.
    """
    remedy = "give a file of word pairs: two words and a score a line, in UTF-8"
    text = read_text(path, remedy)
    rows = [(number, line) for number, line in enumerate(text.split("\n"), 1)
            if line.strip() and not line.startswith("#")]
    if not rows:
        raise ValueError(f"{path} holds no pair of words; {remedy}")
    first_line = rows[0][1]
    delimiter = next((one for one in "\t;," if one in first_line
                      and (one == "\t" or len(cells(first_line, one)) > 2)), None)
    table = [(number, cells(line, delimiter)) for number, line in rows]
    for number, row in table[:2]:
        refuse_comma(row, f"{path}, line {number}")
    header = table[0][1] if not any(map(is_score, table[0][1][2:])) else None
    table = table[1:] if header else table
    if not table:
        raise ValueError(f"{path}, line {rows[0][0]}: no score stands in it, and no line comes after it; "
                         f"{remedy}")
    if all(len(row) > 1 and is_score(row[1]) for _, row in table):
        raise ValueError(f"{path}, line {table[0][0]}: {table[0][1][1]} is no word, so this seems to be a "
                         f"file of vectors; {remedy}")
    if header and (len(header) < 3 or any(map(is_number, header[2:]))):
        raise ValueError(f"{path}, line {rows[0][0]}: {' | '.join(header)[:60]!r} is neither a pair with a "
                         f"score nor a header of the lines below; correct or remove the line")
    place = score_column(path, table[0], header, column, remedy)
    first, second, scores = [], [], []
    for number, row in table:
        if len(row) <= place or not row[0] or not row[1]:
            raise ValueError(f"{path}, line {number}: {' | '.join(row)[:60]!r} is no pair with a score in "
                             f"column {place + 1}; correct or remove the line")
        if not is_score(row[place]):
            raise ValueError(f"{path}, line {number}: the score is {row[place][:40]!r}, expected a number "
                             f"with a point; correct or remove the line")
        first.append(row[0])
        second.append(row[1])
        scores.append(float(row[place]))
    return WordPairs(tuple(first), tuple(second), torch.tensor(scores, dtype=torch.float64))


def cells(line: str, delimiter: str | None) -> list[str]:
    """The cells of a line, without the spaces around them."""
    try:
        row = line.split() if delimiter is None else next(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        row = line.split(delimiter)
    return [cell.strip() for cell in row]


def is_number(cell: str) -> bool:
    """Does ``float`` read this, be it finite or not?"""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_score(cell: str) -> bool:
    """Is this a finite number?"""
    return is_number(cell) and math.isfinite(float(cell))


def refuse_comma(row: Sequence[str], place: str) -> None:
    """Raises ``ValueError`` for a line whose score is a number with a comma, as in a table of a country that
    writes them so."""
    commas = [cell for cell in row[2:] if is_score(cell.replace(",", "."))]
    if commas and not any(map(is_score, row[2:])):
        raise ValueError(f"{place}: the score is {commas[0]!r}, expected a number with a point; write its "
                         f"commas as points")


def score_column(path: str | Path, first: tuple[int, list[str]], header: list[str] | None,
                 column: str | int | None, remedy: str) -> int:
    """Where the scores of a table stand, counted from 0."""
    number, row = first
    if isinstance(column, str):
        if header is None or column not in header:
            named = f"its columns are {', '.join(header)}" if header else "its first line names no columns"
            raise ValueError(f"{path} has no column {shown(column)}; {named}, so name one of them or give a "
                             f"number")
        return header.index(column)
    if column is not None:
        if not 3 <= column <= len(row):
            raise ValueError(f"{path} has no scores in column {column}: the words are columns 1 and 2, and "
                             f"the last is {len(row)}; give the number of one after the words")
        return column - 1
    found = next((i for i, cell in enumerate(row) if i > 1 and is_score(cell)), None)
    if found is None:
        raise ValueError(f"{path}, line {number}: {' | '.join(row)[:60]!r} is no pair with a score; {remedy}")
    return found


# ------------------------------------------------------------------------------------------- evaluation


def likeness(judged: Judged, fold_case: bool = True, first: int | None = None) -> Likeness:
    """How alike a model finds the words of pairs: a function as it is, of vectors the cosine.

    With ``fold_case`` a word has the vector of the first word that is spelt alike in capitals, as gensim has
    it; ``first`` takes so many words of the vectors into account, the others being unknown.
    """
    if not isinstance(judged, WordVectors):
        return judged
    vectors = judged
    known = folded(vectors, fold_case, first)

    def of(a: Sequence[str], b: Sequence[str]) -> Tensor:
        found = torch.full((len(a),), math.nan, dtype=torch.float64)
        pairs = [(i, *(known.get(word.upper() if fold_case else word) for word in pair))
                 for i, pair in enumerate(zip(a, b))]
        there = [(i, x, y) for i, x, y in pairs if x is not None and y is not None]
        if there:
            at, x, y = zip(*there)
            words = ([vectors.words[i] for i in ids] for ids in (x, y))
            found[list(at)] = vectors.pair_cosines(*words).double().cpu()
        return found

    return of


def folded(vectors: WordVectors, fold_case: bool, first: int | None) -> dict[str, int]:
    """The row of each spelling."""
    words = vectors.words[:first]
    return {word.upper() if fold_case else word: i for i, word in reversed(list(enumerate(words)))}


def evaluate_pairs(judged: Judged, pairs: WordPairs, fold_case: bool = True,
                   first: int | None = None) -> dict[str, float]:
    """``spearman`` of a model's likeness with the scores, over the pairs whose words it knows: how many
    ``pairs`` there are, and how many of them are ``covered``.

    ``spearman`` is not a number where fewer than two pairs are covered or all are alike.
    """
    found = likeness(judged, fold_case, first)(pairs.first, pairs.second).double()
    known = ~found.isnan()
    return {"spearman": spearman(found[known], pairs.score[known].double()), "pairs": len(pairs),
            "covered": int(known.sum())}


def compare(models: Mapping[str, Judged], pairs: WordPairs,
            fold_case: bool = True) -> dict[str, dict[str, float]]:
    """``evaluate_pairs`` of several models, each on the pairs that it knows, and beside it, as ``common``,
    on those that all of them know, of which there are ``shared``: only these numbers compare the models."""
    if not models:
        raise ValueError("there is no model to compare; give one or more")
    found = {name: likeness(model, fold_case)(pairs.first, pairs.second).double()
             for name, model in models.items()}
    shared = torch.stack([~value.isnan() for value in found.values()]).all(dim=0)
    result = {}
    for name, value in found.items():
        known = ~value.isnan()
        result[name] = {"spearman": spearman(value[known], pairs.score[known].double()), "pairs": len(pairs),
                        "covered": int(known.sum()),
                        "common": spearman(value[shared], pairs.score[shared].double()),
                        "shared": int(shared.sum())}
    return result


def common_words(*vocabularies: Iterable[str]) -> list[str]:
    """The words that all have, in the order of the first."""
    if not vocabularies:
        raise ValueError("there is no vocabulary; give one or more")
    first, *others = ([*words] for words in vocabularies)
    sets = [set(words) for words in others]
    return [word for word in first if all(word in other for other in sets)]


def pairs_within(pairs: WordPairs, words: Iterable[str]) -> WordPairs:
    """The pairs of which both words are among ``words``."""
    known = set(words)
    return pairs.where(torch.tensor([a in known and b in known for a, b in zip(pairs.first, pairs.second)],
                                    dtype=torch.bool))


# ---------------------------------------------------------------------------- concrete and abstract words


def pair_concreteness(pairs: WordPairs, concreteness: Mapping[str, float]) -> Float[Tensor, " n"]:
    """The mean concreteness of the two words of each pair, not a number where one of them has none."""
    means = [(concreteness.get(a, math.nan) + concreteness.get(b, math.nan)) / 2
             for a, b in zip(pairs.first, pairs.second)]
    return torch.tensor(means, dtype=torch.float64)


def halves(pairs: WordPairs, concreteness: Mapping[str, float],
           threshold: float | int | None = None) -> dict[str, WordPairs]:
    """The pairs that are at least as ``concrete`` as ``threshold`` (default: the median of the pairs), and
    the ``abstract`` others; those with a word of unknown concreteness are left out."""
    mean = pair_concreteness(pairs, concreteness)
    known = mean[~mean.isnan()]
    if not len(known):
        raise ValueError(f"none of the {len(pairs)} pairs has two words of known concreteness; give that of "
                         f"their words")
    bound = known.quantile(0.5) if threshold is None else threshold
    return {"concrete": pairs.where(mean >= bound), "abstract": pairs.where(mean < bound)}


def by_threshold(judged: Judged, pairs: WordPairs, concreteness: Mapping[str, float],
                 thresholds: Sequence[float | int], fold_case: bool = True) -> list[dict[str, float]]:
    """``evaluate_pairs`` of the pairs whose concreteness is at least each of the thresholds."""
    mean = pair_concreteness(pairs, concreteness)
    return [{"threshold": float(bound), **evaluate_pairs(judged, pairs.where(mean >= bound), fold_case)}
            for bound in thresholds]


# ------------------------------------------------------------------------------------------- how sure


class Interval(NamedTuple):
    """A value and where it would lie in other samples of pairs."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """The difference of two correlations with the same scores, its interval, and the probability that it is
    chance (two-sided)."""

    value: float
    low: float
    high: float
    p: float


def resampled(lists: Sequence[Float[Tensor, " n"]], score: Float[Tensor, " n"], samples: int,
              generator: torch.Generator | None = None) -> Float[Tensor, "k s"]:
    """Spearman's rho of each of k lists with the score on ``samples`` draws of n pairs with replacement, the
    same draws for all lists.

    A draw only says how often each pair counts: sorted once, ranks with ties are sums of counts.
    """
    n = len(score)
    orders = [order(one) for one in (*lists, score)]
    rhos = torch.empty(len(lists), samples, dtype=torch.float64)
    chunk = max(1, CELLS // n)
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        drawn = torch.randint(n, (rows, n), generator=generator)
        counts = torch.zeros(rows, n, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones(rows, n, dtype=torch.float64))
        *models, truth = (counted_ranks(counts, one) - (n + 1) / 2 for one in orders)
        spread = (counts * truth * truth).sum(dim=1)
        for i, model in enumerate(models):
            rhos[i, start:start + rows] = (counts * model * truth).sum(dim=1) / (
                (counts * model * model).sum(dim=1) * spread).sqrt()
    return rhos


class Order(NamedTuple):
    """Which group of equal values each value belongs to, and how many groups there are."""

    group: Int[Tensor, " n"]
    groups: int


def order(x: Float[Tensor, " n"]) -> Order:
    """The groups of equal values, in order."""
    values, group = x.unique(return_inverse=True)
    return Order(group, len(values))


def counted_ranks(counts: Float[Tensor, "s n"], of: Order) -> Float[Tensor, "s n"]:
    """Ranks of n values, each of which counts so many times (eq:sim-ranks)."""
    size = torch.zeros(len(counts), of.groups, dtype=counts.dtype).index_add_(1, of.group, counts)
    return (size.cumsum(dim=1) - (size - 1) / 2)[:, of.group]


def spearman_interval(a: Float[Tensor, " n"], b: Float[Tensor, " m"], samples: int = 1000,
                      level: float | int = 0.95, generator: torch.Generator | None = None) -> Interval:
    """Spearman's rho with its bootstrap interval over pairs (eq:sim-bootstrap); draws in which all values are
    equal do not count."""
    check_lists(a, b)
    check_bootstrap((a, b), samples, level)
    draws = numbers(resampled([a.double()], b.double(), samples, generator)[0])
    return Interval(spearman(a, b), *interval(draws, level))


def paired_difference(a: Float[Tensor, " n"], b: Float[Tensor, " m"], score: Float[Tensor, " k"],
                      samples: int = 1000, level: float | int = 0.95,
                      generator: torch.Generator | None = None) -> Difference:
    """By how much model a is better correlated with the score than model b, on the same pairs
    (eq:sim-paired): the two correlations depend on each other, so they are drawn together."""
    check_lists(a, b, score)
    check_bootstrap((a, b, score), samples, level)
    one, other = resampled([a.double(), b.double()], score.double(), samples, generator)
    draws = numbers(one - other)
    return Difference(spearman(a, score) - spearman(b, score), *interval(draws, level),
                      sign_probability(draws))


def numbers(draws: Float[Tensor, " s"]) -> Float[Tensor, " r"]:
    """The draws that are numbers. Raises ``ValueError`` if none is."""
    draws = draws[~draws.isnan()]
    if not len(draws):
        raise ValueError("in all draws the values are equal, which have no order; take more samples")
    return draws


def check_bootstrap(lists: Sequence[Tensor], samples: int, level: float | int) -> None:
    """Raises ``ValueError`` for what no interval can be drawn of."""
    for a in lists:
        if len(a) < 3:
            raise ValueError(f"an interval of {len(a)} pairs says nothing; give 3 or more")
        if len(a.unique()) < 2:
            raise ValueError(f"all {len(a)} values are {float(a[0]):g}, which have no order; give other "
                             f"values")
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"{samples} draws at level {level}; take 1 or more, and a level between 0 and 1")


# --------------------------------------------------------------------------------------------- analogies


@dataclass(frozen=True)
class Analogies:
    """Questions of one kind, a : b = c : d; d is to be found."""

    name: str
    questions: tuple[tuple[str, str, str, str], ...]


def read_analogies(path: str | Path) -> list[Analogies]:
    """The sections of a file like ``questions-words.txt``: a line ": name", then four words a line.

    Raises ``FileNotFoundError`` and ``ValueError`` with file, line and remedy.
    """
    remedy = "give a file like questions-words.txt: a line ': name', then four words a line"
    sections: list[tuple[str, list[tuple[str, str, str, str]]]] = []
    for number, line in enumerate(read_text(path, remedy).split("\n"), 1):
        words = line.split()
        if line.startswith(":"):
            sections.append((line.lstrip(": ").strip(), []))
        elif words:
            if not sections or len(words) != 4:
                wrong = f"{len(words)} words" if sections else "words before the first section"
                raise ValueError(f"{path}, line {number}: {line.strip()[:60]!r} are {wrong}; {remedy}")
            a, b, c, d = words
            sections[-1][1].append((a, b, c, d))
    if not any(questions for _, questions in sections):
        raise ValueError(f"{path} asks no question; {remedy}")
    return [Analogies(name, tuple(questions)) for name, questions in sections]


def evaluate_analogies(vectors: WordVectors, sections: Sequence[Analogies], method: str = ADD,
                       fold_case: bool = True, first: int | None = FIRST,
                       eps: float | int = 1e-3) -> dict[str, dict[str, float]]:
    """For each section, and for all as ``total``: the ``accuracy`` over the questions whose four words are
    ``covered``, how many are ``correct``, and how many ``questions`` there are.

    An answer is the best of the ``first`` words that is none of the three, in any spelling (eq:words-cosadd,
    eq:words-cosmul). The accuracy of no question is not a number.
    """
    words = vectors.words[:first]
    known = folded(vectors, fold_case, first)
    among = WordVectors(words, vectors.vectors[:first]) if len(words) < len(vectors) else vectors
    spellings: dict[str, list[int]] = {}
    for i, word in enumerate(words):
        spellings.setdefault(word.upper() if fold_case else word, []).append(i)
    result: dict[str, dict[str, float]] = {}
    total: Counter[str] = Counter()
    for section in sections:
        asked = [tuple(word.upper() if fold_case else word for word in question)
                 for question in section.questions]
        covered = [question for question in asked if all(word in known for word in question)]
        correct = 0
        if covered:
            a, b, c = ([words[known[q[i]]] for q in covered] for i in range(3))
            out = [[i for word in q[:3] for i in spellings[word]] for q in covered]
            found = among.analogies(a, b, c, 1, method, eps, out).ids[:, 0].tolist()
            answers = [words[i].upper() if fold_case else words[i] for i in found]
            correct = sum(answer == q[3] for answer, q in zip(answers, covered))
        counts = {"correct": correct, "covered": len(covered), "questions": len(asked)}
        total.update(counts)
        result[section.name] = {"accuracy": share(counts), **counts}
    return result | {"total": {"accuracy": share(total), **{key: total[key] for key in
                                                             ("correct", "covered", "questions")}}}


def share(counts: Mapping[str, int]) -> float:
    """Correct answers as a share of the questions that are covered."""
    return counts["correct"] / counts["covered"] if counts["covered"] else math.nan
