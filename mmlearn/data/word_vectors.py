r"""Vectors of words: what every system of static vectors returns, its neighbours and analogies, its files.

Papers: T. Mikolov, W. Yih and G. Zweig (2013), *Linguistic Regularities in Continuous Space Word
Representations*, NAACL-HLT (3CosAdd); O. Levy and Y. Goldberg (2014), *Linguistic Regularities in Sparse and
Explicit Word Representations*, CoNLL (3CosMul, which also names both).  Survey: 3.2.

The files are those of word2vec, as text and in binary, and of GloVe, which are word2vec's text without its
first line. Differs from other readers: a file that is not whole is refused, never read in part; a word of a
text file may hold spaces, as some of ``glove.840B`` do, since the numbers are counted from the end of a row.
"""

import codecs
import gzip
import math
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.data.vocabulary import LONGEST
from mmlearn.files import shown, written_whole

ADD, MUL = "3CosAdd", "3CosMul"
DUPLICATES = ("refuse", "first")
SCORES = 1 << 24                # numbers of scores that a search holds at once
BLOCK = 1 << 22                 # bytes of a file that are read at once
SPACES = b" \t\r\n\v\f"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
FASTTEXT = b"\xba\x16\x4f\x2f"  # with which a model of fastText begins


# ------------------------------------------------------------------------------------------ equations


def cosines(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]
) -> Float[Tensor, "n m"]:
    r"""eq:words-cosine: $\cos(x,y)=\frac{x\,y^\top}{\|x\|\,\|y\|}$ of all pairs of rows; 0 for a
    row of zeros."""
    return at_length_1(x) @ at_length_1(y).mT


def at_length_1(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows in their direction, at length 1; a row of zeros stays. Squares of numbers near the largest and
    the smallest that there are would be infinite, or 0, so a row is divided by its largest first."""
    largest = x.abs().amax(dim=1, keepdim=True)
    x = x / largest.where(largest > 0, 1)
    return x / x.norm(dim=1, keepdim=True).clamp(min=1)


def add_target(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], c: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    r"""eq:words-cosadd: $x^*=\arg\max_x\cos(x,\hat b-\hat a+\hat c)
    =\arg\max_x\,\cos(x,b)-\cos(x,a)+\cos(x,c)$, a hat being a vector at length 1: the point that
    a : b = c : x asks for."""
    a, b, c = (torch.nn.functional.normalize(x, dim=1) for x in (a, b, c))
    return b - a + c


def cos_mul(
    a: Float[Tensor, "n m"], b: Float[Tensor, "n m"],
    c: Float[Tensor, "n m"], eps: float | int = 1e-3,
) -> Float[Tensor, "n m"]:
    r"""eq:words-cosmul: $x^*=\arg\max_x\frac{s(x,b)\,s(x,c)}{s(x,a)+\epsilon}$ with
    $s=(1+\cos)/2$, of the cosines of candidates with the three words: no one of them can decide
    alone."""
    a, b, c = ((1 + cosine) / 2 for cosine in (a, b, c))
    return b * c / (a + eps)


# -------------------------------------------------------------------------------------- words and vectors


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and their vectors (v, d), row i being that of word i; usually the frequent words come first.

    ``vectors[word]`` is a row. Raises ``ValueError`` for a word that stands twice, numbers that are not
    finite and other than one row a word; every method raises it for a word that is not there.
    """

    words: tuple[str, ...]
    vectors: Float[Tensor, "v d"]

    def __post_init__(self) -> None:
        if len(self.words) != len(self.vectors):
            raise ValueError(f"{len(self.words)} words and {len(self.vectors)} vectors; give one of each for "
                             f"a word")
        if len(self.ids) < len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self.ids[word] != i)
            raise ValueError(f"the word {twice!r} stands twice; give each word once")
        if not bool(torch.isfinite(self.vectors.sum())) and not bool(torch.isfinite(self.vectors).all()):
            i = int((~torch.isfinite(self.vectors).all(dim=1)).nonzero()[0])
            raise ValueError(f"the vector of {self.words[i]!r} is not finite; train with a lower rate, or "
                             f"leave the word out")

    @cached_property
    def ids(self) -> dict[str, int]:
        """The row of each word."""
        return {word: i for i, word in reversed(list(enumerate(self.words)))}

    @property
    def width(self) -> int:
        """d, the numbers of a vector."""
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.ids

    def __getitem__(self, word: str) -> Float[Tensor, " d"]:
        return self.vectors[self.indices([word])[0]]

    def indices(self, words: Iterable[str]) -> list[int]:
        """The numbers of the rows of words."""
        try:
            return [self.ids[word] for word in words]
        except KeyError as unknown:
            raise ValueError(f"{unknown} is none of the {len(self):,} words that have a vector; leave it "
                             f"out, or spell it as they are") from None

    def rows(self, words: Iterable[str]) -> Float[Tensor, "n d"]:
        """The vectors of words, one a row."""
        return self.vectors[self.indices(words)]

    def subset(self, words: Iterable[str]) -> "WordVectors":
        """The vectors of these words alone, in their order."""
        words = tuple(words)
        return WordVectors(words, self.rows(words))

    def cosine(self, first: str, second: str) -> float:
        """The cosine of two words (eq:words-cosine)."""
        return float(cosines(self.rows([first]), self.rows([second])))

    def pair_cosines(self, first: Sequence[str], second: Sequence[str]) -> Float[Tensor, " n"]:
        """The cosine of each word of ``first`` with the word of ``second`` at its place."""
        if len(first) != len(second):
            raise ValueError(f"{len(first)} first and {len(second)} second words; give as many of both")
        x, y = (at_length_1(self.rows(words)) for words in (first, second))
        return (x * y).sum(dim=1)

    # Searching

    def neighbours(self, what: str | Float[Tensor, " d"], k: int = 10) -> list[tuple[str, float]]:
        """The k words nearest to a word (itself left out) or to a vector, with their cosines."""
        if isinstance(what, str):
            i = self.indices([what])
            found = self.nearest(self.vectors[i], k, [i])
        else:
            found = self.nearest(what[None], k)
        return self._named(found)[0]

    def nearest(self, queries: Float[Tensor, "n e"], k: int = 10,
                without: Sequence[Iterable[int]] | None = None) -> "Nearest":
        """The k rows of largest cosine with each query, ``without`` naming rows left out for each.

        At most ``SCORES`` scores are held at once, whatever the sizes.
        """
        if queries.shape[1] != self.width:
            raise ValueError(f"a query has {queries.shape[1]} numbers, a vector {self.width}; give vectors "
                             f"of these words")
        queries = queries.to(self.vectors)
        return self._search(lambda part, rows: cosines(queries[part], rows), len(queries), k, without)

    def analogy(self, a: str, b: str, c: str, k: int = 10, method: str = ADD,
                eps: float | int = 1e-3) -> list[tuple[str, float]]:
        """a is to b as c is to …: the k best words, the three left out, with their scores.

        ``method``: "3CosAdd" (eq:words-cosadd) or "3CosMul" (eq:words-cosmul).
        """
        return self._named(self.analogies([a], [b], [c], k, method, eps))[0]

    def analogies(self, a: Sequence[str], b: Sequence[str], c: Sequence[str], k: int = 1, method: str = ADD,
                  eps: float | int = 1e-3, without: Sequence[Iterable[int]] | None = None) -> "Nearest":
        """The k best rows of many analogies (a[i] is to b[i] as c[i] is to …), ``without`` naming rows left
        out for each (default: the three words)."""
        if not len(a) == len(b) == len(c):
            raise ValueError(f"{len(a)}, {len(b)} and {len(c)} words; give as many of each")
        ids = [self.indices(words) for words in (a, b, c)]
        x, y, z = (at_length_1(self.vectors[i]) for i in ids)
        without = [*zip(*ids)] if without is None else without
        if method == ADD:
            return self.nearest(add_target(x, y, z), k, without)
        if method != MUL:
            raise ValueError(f"method is {method!r}; use {ADD!r} or {MUL!r}")

        def score(part: slice, rows: Tensor) -> Tensor:
            of_a, of_b, of_c = (cosines(one[part], rows) for one in (x, y, z))
            return cos_mul(of_a, of_b, of_c, eps)

        return self._search(score, len(a), k, without, 3)

    def _search(self, score: Callable[[slice, Tensor], Tensor], n: int, k: int,
                without: Sequence[Iterable[int]] | None, share: int = 1) -> "Nearest":
        """The k best rows of n questions; ``score`` gives those of some questions with some rows."""
        if k < 1:
            raise ValueError(f"k is {k}; take 1 or more")
        k = min(k, len(self) - max((len(set(out)) for out in without or ()), default=0))
        if k < 1:
            raise ValueError(f"of the words that have vectors, {len(self)} in all, none is left to be found; "
                             f"take vectors of more words")
        if without is not None and (len(without) != n or any(
                not 0 <= i < len(self) for out in without for i in out)):
            raise ValueError(f"rows are left out for {len(without)} of {n} questions, or some that are none "
                             f"of 0 to {len(self) - 1}; name those rows for each question")
        many = max(1, min(n, 256))
        rows_at_once = max(k, SCORES // (many * share), 1)
        parts = []
        for start in range(0, n, many):
            part = slice(start, min(start + many, n))
            out = [(q, i) for q, ids in enumerate((without or [()] * n)[part]) for i in set(ids)]
            barred = torch.tensor(out, dtype=torch.long, device=self.vectors.device).view(-1, 2)
            best: list[Tensor] = []
            for low in range(0, len(self), rows_at_once):
                scores = score(part, self.vectors[low:low + rows_at_once])
                here = barred[(barred[:, 1] >= low) & (barred[:, 1] < low + rows_at_once)]
                scores[here[:, 0], here[:, 1] - low] = -math.inf
                top = scores.topk(min(k, scores.shape[1]), dim=1)
                best = [torch.cat(both, dim=1) for both in zip(best, (top.values, top.indices + low))] or [
                    top.values, top.indices + low]
                keep = best[0].topk(min(k, best[0].shape[1]), dim=1).indices
                best = [one.gather(1, keep) for one in best]
            parts.append(Nearest(*best))
        if not parts:
            return Nearest(self.vectors.new_empty(0, k), torch.empty(0, k, dtype=torch.long))
        return Nearest(*(torch.cat(one) for one in zip(*parts)))

    def _named(self, found: "Nearest") -> list[list[tuple[str, float]]]:
        return [[(self.words[i], s) for s, i in zip(scores, ids)]
                for scores, ids in zip(found.scores.tolist(), found.ids.tolist())]


class Nearest(NamedTuple):
    """The best rows of each question, the best first: their scores (n, k) and numbers (n, k)."""

    scores: Float[Tensor, "n k"]
    ids: Int[Tensor, "n k"]


# -------------------------------------------------------------------------------------------------- reading


def read_vectors(path: str | Path, encoding: str = "utf-8", errors: str = "strict",
                 duplicates: str = "refuse", limit: int | None = None) -> WordVectors:
    """The vectors of a file: ``.bin`` is word2vec's binary format, all else text, with word2vec's first line
    (how many words, how many numbers) or, as GloVe's, without; also compressed, ``….gz``.

    ``errors`` says what becomes of words that are not in ``encoding``: "strict" refuses the file, "replace"
    and "ignore" are those of ``bytes.decode``. ``duplicates``: "refuse", or "first" to keep the first of
    rows with the same word. ``limit``: how many rows are read at most. Raises ``FileNotFoundError`` and
    ``ValueError`` with file, line and remedy.
    """
    path = Path(path)
    if duplicates not in DUPLICATES:
        raise ValueError(f"duplicates is {duplicates!r}; use one of {', '.join(DUPLICATES)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; take 1 or more")
    check_encoding(encoding)
    try:
        codecs.lookup_error(errors)
    except LookupError:
        raise ValueError(f"errors is {errors!r}; use strict, replace or ignore") from None
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of vectors {path}; check the path, or train some: mmlearn "
                                f"train words CORPUS --out {path}")
    reader = _Reader(path, encoding, errors, duplicates, limit)
    try:
        return reader.binary() if is_binary(path) else reader.text()
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); download it again") from None


def is_binary(path: Path) -> bool:
    """Is this, by its name, a file in word2vec's binary format?"""
    return Path(path.name.lower().removesuffix(".gz")).suffix == ".bin"


def check_encoding(encoding: str) -> None:
    """Raises ``ValueError`` for an encoding that is unknown, or in which a space is no single byte."""
    try:
        codecs.lookup(encoding)
        fits = b"\n 0".decode(encoding) == "\n 0"
    except (LookupError, UnicodeError):
        fits = False
    if not fits:
        raise ValueError(f"encoding is {encoding!r}; name one that keeps ASCII as it is, such as utf-8 or "
                         f"latin-1")


class _Reader:
    """A file of vectors that is read from its beginning to its end, a block at a time."""

    def __init__(self, path: Path, encoding: str, errors: str, duplicates: str, limit: int | None) -> None:
        self.path, self.encoding, self.errors = path, encoding, errors
        self.duplicates, self.limit = duplicates, limit
        packed = path.suffix.lower() == ".gz"
        self.open: Callable[[], BufferedIOBase] = (lambda: gzip.open(path, "rb")) if packed else (
            lambda: path.open("rb"))
        self.size = path.stat().st_size * (1032 if packed else 1)      # of the unpacked file at most
        self.words: dict[str, int] = {}                                # the line (or number) of each word
        self.dropped: list[int] = []                                   # rows of words that came before
        self.says = "announces"                                        # of numbers in its first line

    def refuse(self, what: str, remedy: str, line: int | None = None, unit: str = "") -> NoReturn:
        place = "" if line is None else f", {unit or ('row' if is_binary(self.path) else 'line')} {line}"
        raise ValueError(f"{self.path}{place}: {what}; {remedy}")

    def announced(self, first: bytes, least: int) -> tuple[int, int]:
        """Words and numbers that the first line announces; a row has at least ``least`` bytes a number."""
        try:
            v, d = map(int, first.split())
        except ValueError:
            self.refuse(f"the first line is {shown(first)}, where a file of word2vec says how many words and "
                        f"numbers it has", "take the file as it was published", 1, "line")
        if v < 1 or d < 1:
            self.refuse(f"{v:,} words of {d:,} numbers are announced", "a file of vectors has one or more of "
                        "both, so write it again", 1, "line")
        if v * (2 + least * d) - 1 > self.size:
            self.refuse(f"{v:,} words of {d:,} numbers are announced, which do not fit into the "
                        f"{self.path.stat().st_size:,} bytes of the file", "download it again, or correct "
                        "the number", 1, "line")
        return v, d

    def take(self, words: list[bytes], first_line: int) -> None:
        """Note the words of some rows; ``first_line`` is the line of the first of them."""
        try:
            names = b"\n".join(words).decode(self.encoding, self.errors).split("\n")
        except UnicodeDecodeError:
            names = []
        if len(names) != len(words):                                   # one of them is to be blamed
            names = [self.decoded(word, first_line + i) for i, word in enumerate(words)]
        for line, name in enumerate(names, first_line):
            if not name:
                self.refuse("a row begins with no word", "remove it, or write the file again", line)
            if name in self.words:
                if self.duplicates == "refuse":
                    self.refuse(f"the word {shown(name)} stands there again, first it did in "
                                f"{'row' if is_binary(self.path) else 'line'} {self.words[name]}",
                                "remove one of them, or keep the first (duplicates, --duplicates)", line)
                self.dropped.append(line)
            else:
                self.words[name] = line

    def decoded(self, word: bytes, line: int) -> str:
        try:
            name = word.decode(self.encoding, self.errors)
        except UnicodeDecodeError as error:
            self.refuse(f"the word {shown(word)} is not {self.encoding} ({error.reason})",
                        "name its encoding, such as latin-1 (encoding, --encoding)", line)
        if "\n" in name:
            self.refuse(f"there is a line break in the word {shown(name)}", "the file was damaged where it "
                        "was copied as text, or its encoding is another: copy it again, or name that", line)
        return name

    def finished(self, vectors: Tensor, first_line: int) -> WordVectors:
        if self.dropped:
            keep = torch.ones(len(vectors), dtype=torch.bool)
            keep[torch.tensor(self.dropped) - first_line] = False
            vectors = vectors[keep]
        return WordVectors(tuple(self.words), vectors)

    # Text

    def text(self) -> WordVectors:
        """word2vec's text, or GloVe's, which lacks the first line."""
        with self.open() as file:
            first = file.readline(BLOCK)
            if not first.strip(SPACES):
                self.refuse("there is nothing in its first line" if first else "the file is empty",
                            "download it or write it again", 1)
            if b"\r" in first.rstrip(SPACES) or (first.startswith(UTF_16) and b"\0" in first):
                self.refuse("it is in UTF-16" if b"\0" in first else "its lines end with \\r alone, as those "
                            "of old Macs", "save it in UTF-8 with lines that end with \\n")
            bare = first.removeprefix(codecs.BOM_UTF8).split()
            headed = len(bare) == 2 and all(part.isdigit() for part in bare)
            if headed:
                v, d = self.announced(b" ".join(bare), 2)
            else:
                self.says = "has"
                mark = len(codecs.BOM_UTF8) if first.startswith(codecs.BOM_UTF8) else 0
                first = first[mark:]
                parts = first.split()
                v, d = self.most_rows(), len(parts) - 1
                while d > 0 and not number(parts[-d]):                 # a word of several parts
                    d -= 1
                if d < 1 or any(map(number, parts[1:-d])):
                    self.refuse(f"it reads {shown(first)}, which is neither a word and its numbers nor how "
                                f"many words and numbers there are", "give a file of vectors", 1)
                file.seek(mark)
            v = v if self.limit is None else min(v, self.limit)
            start = 1 + headed
            vectors, done = self.room(v, d), 0
            for lines in self.lines(file):
                lines = lines[:v - done] if self.limit is not None else lines
                if done + len(lines) > v:
                    extra = next((line for line in lines[v - done:] if line.strip(SPACES)), None)
                    if extra is not None:
                        self.refuse(f"the row of {shown(extra.split()[0])} comes after the {v:,} words that "
                                    f"the first line announces", "correct the number there", start + v)
                    lines = lines[:v - done]
                if lines:
                    vectors[done:done + len(lines)] = self.rows_of(lines, d, start + done)
                    done += len(lines)
                if done == v and self.limit is not None:
                    break
            if done < v and headed:
                self.refuse(f"the file ends after {done:,} of {v:,} words", "download it again, or correct "
                            "the number in its first line", start + done)
        return self.finished(vectors[:done], start)

    def most_rows(self) -> int:
        """How many rows a file has that does not say so, empty ones counted."""
        rows = 1
        with self.open() as file:
            while block := file.read(BLOCK):
                rows += block.count(b"\n")
        return rows

    def room(self, v: int, d: int) -> Tensor:
        """Vectors (v, d) to be filled."""
        try:
            return torch.empty(v, d)
        except (RuntimeError, MemoryError):
            self.refuse(f"its {v:,} words of {d:,} numbers do not fit into this machine's memory", "read "
                        "fewer of them (limit, --limit)")

    def lines(self, file: BufferedIOBase) -> Iterator[list[bytes]]:
        """The lines of a file, block by block, without empty ones at its end."""
        rest, empty = b"", 0
        while block := file.read(BLOCK):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            if len(rest) > 16 * BLOCK:
                self.refuse(f"it is longer than {16 * BLOCK:,} bytes", "a file in binary is to be named .bin")
            full = len(lines)
            while full and not lines[full - 1].strip(SPACES):
                full -= 1
            if full:
                yield [b""] * empty + lines[:full]
                empty = 0
            empty += len(lines) - full
        if rest.strip(SPACES):
            yield [b""] * empty + [rest]

    def rows_of(self, lines: list[bytes], d: int, line: int) -> Tensor:
        """The numbers (n, d) of some lines, the first of which is number ``line``; their words are noted."""
        words: list[bytes] = []
        numbers: list[bytes] = []
        for row in lines:
            word, _, rest = row.rstrip(SPACES).partition(b" ")
            if (rest.count(b" ") != d - 1 or b"  " in rest or rest[:1] in (b"", b" ")
                    or any(other in rest for other in (b"\t", b"\v", b"\f", b"\r"))):
                parts = row.split()
                if not parts:
                    self.refuse("the line is empty", "remove it, or download the file again",
                                line + len(words))
                if len(parts) <= d or (len(parts) > d + 1 and number(parts[-d - 1])):
                    self.refuse(f"{shown(row)} has {len(parts) - 1} numbers after its word, and line 1 "
                                f"{self.says} {d}", "correct the line that is wrong, or download the file "
                                "again", line + len(words))
                word, rest = b" ".join(parts[:-d]), b" ".join(parts[-d:])
            words.append(word)
            numbers.append(rest)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)     # of what is no number, in NumPy 1
                values = np.fromstring(b" ".join(numbers), dtype=np.float32, sep=" ")
        except (ValueError, DeprecationWarning):
            values = np.empty(0, dtype=np.float32)
        if len(values) != len(lines) * d:
            for i, rest in enumerate(numbers):
                bad = next((part for part in rest.split() if not number(part)), None)
                if bad is not None:
                    self.refuse(f"{shown(bad)} stands where the vector of {shown(words[i])} has a number",
                                "correct it, or download the file again", line + i)
        vectors = torch.from_numpy(values.reshape(len(lines), d))
        self.check_finite(vectors, words, line)
        self.take(words, line)
        return vectors

    def check_finite(self, vectors: Tensor, words: list[bytes], line: int) -> None:
        if not bool(torch.isfinite(vectors.sum())):
            wrong = ~torch.isfinite(vectors)
            if bool(wrong.any()):
                i, j = wrong.nonzero()[0].tolist()
                self.refuse(f"the vector of {shown(words[i])} holds {vectors[i, j].item()}", "the training "
                            "that wrote it had diverged, so remove the row or train again", line + i)

    # Binary

    def binary(self) -> WordVectors:
        """word2vec's binary format: a line as in its text, then for each word its name, a space and d
        numbers of 4 bytes; a line break before the next word, as word2vec writes it, may be there or not."""
        with self.open() as file:
            first = file.readline(200)
            if not first:
                self.refuse("the file is empty", "download it or write it again", 1, "line")
            if first.startswith(FASTTEXT):
                self.refuse("this is a model of fastText, which has a binary format of its own", "take the "
                            "file .vec that is published beside it")
            if not first.endswith(b"\n"):
                self.refuse(f"the first line is {shown(first)}, where a file of word2vec says how many words "
                            f"and numbers it has", "take the file as it was published", 1, "line")
            announced, d = self.announced(first, 4)
            v = announced if self.limit is None else min(announced, self.limit)
            vectors, done, rest, ended = self.room(v, d), 0, b"", False
            while done < v:
                if ended:
                    self.refuse(f"the file ends after {done:,} of {v:,} words", "download it again, or write "
                                "it as text if its name is wrong", done + 1)
                block = file.read(max(BLOCK, 4 * d + LONGEST))
                ended = not block
                rest += block
                words: list[bytes] = []
                places: list[int] = []
                start = 0
                while done + len(words) < v:
                    space = rest.find(b" ", start)
                    if space < 0 or space + 1 + 4 * d > len(rest):
                        space = space if space >= 0 else len(rest)
                        if space - start > LONGEST:
                            self.refuse(f"its word has more than {LONGEST:,} bytes", "the file is damaged, "
                                        "or is not in word2vec's binary format: download it again",
                                        done + len(words) + 1)
                        break
                    words.append(rest[start:space].lstrip(b"\n"))
                    places.append(space + 1)
                    start = space + 1 + 4 * d
                if words:
                    bytes_ = b"".join([rest[place:place + 4 * d] for place in places])
                    rows = torch.from_numpy(np.frombuffer(bytes_, "<f4").astype(np.float32).reshape(-1, d))
                    self.check_finite(rows, words, done + 1)
                    self.take(words, done + 1)
                    vectors[done:done + len(words)] = rows
                    done += len(words)
                    rest = rest[start:]
            if v == announced and (rest + file.read(BLOCK)).strip(SPACES):
                self.refuse(f"more follows after the {v:,} words that the first line announces", "correct "
                            "the number there, or download the file again", v + 1)
        return self.finished(vectors, 1)


def number(text: bytes) -> bool:
    """Is this a number, finite or not?"""
    try:
        float(text)
    except ValueError:
        return False
    return b"_" not in text


# -------------------------------------------------------------------------------------------------- writing


def write_vectors(path: str | Path, vectors: WordVectors) -> Path:
    """Write vectors as the name of the file says: ``.bin`` word2vec's binary format, ``.glove`` GloVe's text,
    ``.txt`` or ``.vec`` word2vec's text. Numbers are float32; text has as many digits as they need.

    The file is there whole or not at all. Raises ``ValueError`` for another name, and for a word that such a
    file cannot hold.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".bin", ".glove", ".txt", ".vec"):
        raise ValueError(f"{path} has a name that says no format; end it with .txt (word2vec's text), .bin "
                         f"(binary) or .glove")
    names = [encoded(word) for word in vectors.words]
    if kind == ".glove" and names[0].startswith(codecs.BOM_UTF8):
        raise ValueError(f"the first word {shown(vectors.words[0])} begins with a mark of the byte order, "
                         f"which a reader takes off; leave the mark out, or write .txt or .bin")
    with written_whole(path) as file:
        if kind != ".glove":
            file.write(f"{len(vectors)} {vectors.width}\n".encode())
        for start in range(0, len(names), 1024):
            rows = vectors.vectors[start:start + 1024].detach().cpu().float().numpy()
            if kind == ".bin":
                pieces: Iterable[bytes] = (row.tobytes() for row in rows.astype("<f4"))
            else:
                pieces = (b" ".join(row) + b"\n" for row in rows.astype("S16").tolist())
            file.write(b"".join(b"%b %b" % pair for pair in zip(names[start:start + 1024], pieces)))
    return path


def encoded(word: str) -> bytes:
    """A word as a file holds it. Raises ``ValueError`` for one that would not be read back."""
    try:
        name = word.encode()
    except UnicodeEncodeError:
        name = b""
    if len(name) > LONGEST:
        raise ValueError(f"the word {shown(word)} has {len(name):,} bytes, more than {LONGEST:,}; leave it "
                         f"out")
    if not name or any(byte in SPACES for byte in name):
        raise ValueError(f"the word {shown(word)} cannot stand in a file of vectors, whose words are parted "
                         f"by spaces; leave it out, or join it with _")
    return name
