r"""WordPiece as BERT has it: a text is cut into words, and each word into the longest pieces that are known.

Papers: Y. Wu et al. (2016), *Google's Neural Machine Translation System*, arXiv:1609.08144, sec. 4.1; J.
Devlin et al. (2019), *BERT*, NAACL, arXiv:1810.04805, sec. 3; rules of github.com/google-research/bert
(tokenization.py).  Survey: 3.2.
Differs from the papers: how Google learns its pieces was never released ("dependencies on Google's internal
libraries", says the README); here, as in the `tokenizers` library, the pair that occurs most often becomes a
piece, and pairs that occur alike are taken by the alphabet, so that the same texts give the same pieces.

``mmlearn.data.tokenisers.WordPieceTokeniser`` does the same by the `tokenizers` library, faster. The two part
where Python's and Rust's tables of letters do, and in one thing by intent: here, as in the released code, a
text that holds "[SEP]" does not spell the token [SEP].
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path

from mmlearn.data.tokenisers import Tokeniser, read_vocabulary
from mmlearn.files import write_atomically

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INNER = "##"                            # before a piece that goes on with a word
LONGEST = 100                           # letters of a word, in transformers; the released code says 200
CHINESE = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
           (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F))

# ------------------------------------------------------------------------------------------ a text into words


@cache
def cleaned(letter: str) -> str:
    """What becomes of a letter: nothing (control, format, U+FFFD), a blank, a word of its own (Chinese), or
    itself."""
    kind = unicodedata.category(letter)
    if letter in "\t\n\r" or kind == "Zs":
        return " "
    if letter == "\ufffd" or kind in ("Cc", "Cf"):
        return ""
    if any(first <= ord(letter) <= last for first, last in CHINESE):
        return f" {letter} "
    return letter


@cache
def is_punctuation(letter: str) -> bool:
    """Punctuation in Unicode's sense, and every other sign of ASCII: "$", "+", "^" …"""
    plain = letter.isalnum() or letter == " "
    sign = letter.isascii() and letter.isprintable() and not plain
    return sign or unicodedata.category(letter).startswith("P")


def without_accents(word: str) -> str:
    """The letters of ``word`` without the marks above and below them."""
    parts = unicodedata.normalize("NFD", word)
    return "".join(c for c in parts if unicodedata.category(c) != "Mn")


def split_at_punctuation(word: str) -> list[str]:
    """The runs between punctuation, and each sign of punctuation as a word of its own."""
    parts = [""]
    for letter in word:
        if is_punctuation(letter):
            parts += [letter, ""]
        else:
            parts[-1] += letter
    return [part for part in parts if part]


def basic_words(text: str, lowercase: bool = True) -> list[str]:
    """The words of a text, before they are cut into pieces.

    Control letters go, Chinese signs and punctuation stand alone; with ``lowercase`` words lose capital
    letters and accents.
    """
    words = []
    for word in "".join(map(cleaned, text)).split():
        if lowercase:
            word = without_accents(word.lower())
        words += split_at_punctuation(word)
    return words


# ----------------------------------------------------------------------------------------- a word into pieces


def longest_first(
    word: str, known: Collection[str], longest: int = LONGEST
) -> list[str] | None:
    """The pieces of a word: the longest known beginning, then the longest known piece that goes on there.

    Pieces inside a word begin with "##". None if the word has more than ``longest`` letters, or where no
    piece goes on: then the whole word is unknown, not its rest.
    """
    if len(word) > longest:
        return None
    pieces: list[str] = []
    start = 0
    while start < len(word):
        before = INNER if start else ""
        ends = range(len(word), start, -1)
        fitting = (end for end in ends if before + word[start:end] in known)
        end = next(fitting, None)
        if end is None:
            return None
        pieces.append(before + word[start:end])
        start = end
    return pieces


# -------------------------------------------------------------------------------------------- learning pieces


def joined(pieces: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """``pieces`` with every ``pair`` of neighbours as one piece, from left to right."""
    out: list[str] = []
    for piece in pieces:
        if out and (out[-1], piece) == pair:
            out[-1] += piece.removeprefix(INNER)
        else:
            out.append(piece)
    return out


class PairCounts:
    """How often two pieces stand side by side, and in which words."""

    def __init__(self) -> None:
        self.times: Counter[tuple[str, str]] = Counter()
        self.words: dict[tuple[str, str], set[str]] = defaultdict(set)

    def add(self, word: str, pieces: Sequence[str], times: int) -> None:
        """Count the neighbours in a word that occurs so many times."""
        for pair in pairwise(pieces):
            self.times[pair] += times
            self.words[pair].add(word)


def learn_pieces(
    counts: Mapping[str, int], size: int, min_count: int = 2
) -> list[str]:
    """At most ``size`` pieces for words that occur ``counts`` times, in the order in which they were learnt.

    First the letters, by the alphabet; then, again and again, the two neighbours that occur most often become
    one piece, as long as they occur ``min_count`` times. Raises ``ValueError`` if there are more letters than
    pieces.
    """
    spelt = {word: [word[0], *(INNER + c for c in word[1:])]
             for word in counts}
    letters = sorted({c for pieces in spelt.values() for c in pieces})
    if len(letters) > size:
        raise ValueError(f"{size} pieces are asked for, and the letters alone "
                         f"are {len(letters)}; ask for more")
    known, pairs = dict.fromkeys(letters), PairCounts()
    for word, pieces in spelt.items():
        pairs.add(word, pieces, counts[word])
    heap = [(-n, pair) for pair, n in pairs.times.items()]
    heapify(heap)
    while heap and len(known) < size:
        negative, pair = heappop(heap)
        n, touched = pairs.times[pair], {pair}
        if n < min_count:
            continue
        if n == -negative:                      # else it has become rarer
            known[pair[0] + pair[1].removeprefix(INNER)] = None
            for word in pairs.words.pop(pair):
                pairs.add(word, spelt[word], -counts[word])
                spelt[word] = joined(spelt[word], pair)
                pairs.add(word, spelt[word], counts[word])
                touched.update(pairwise(spelt[word]))
        for one in touched:
            heappush(heap, (-pairs.times[one], one))
    return list(known)


# ---------------------------------------------------------------------------------------------- the tokeniser


class WordPiece(Tokeniser):
    """BERT's tokeniser: ids of word pieces, in the order of ``words``.

    ``unk``, ``pad``, ``bos``, ``eos``, ``mask`` are the ids of [UNK], [PAD], [CLS], [SEP] and [MASK];
    ``longest`` is the number of letters above which a word is unknown. Raises ``ValueError`` if ``words``
    lacks a special token or lists a piece twice.
    """

    def __init__(self, words: Sequence[str], lowercase: bool = True, longest: int = LONGEST) -> None:
        self.words, self.lowercase, self.longest = list(words), lowercase, longest
        self.index = {word: i for i, word in enumerate(self.words)}
        if missing := [token for token in SPECIALS if token not in self.index]:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}; use the file the model was "
                             "trained with")
        if len(self.index) < len(self.words):
            twice = next(word for word, n in Counter(self.words).items() if n > 1)
            raise ValueError(f"the vocabulary lists {twice!r} twice; every piece must have one id")
        self.pad, self.unk, self.bos, self.eos, self.mask = (self.index[token] for token in SPECIALS)
        self.special = (self.pad, self.bos, self.eos)       # what is never masked
        known = self.index.keys() - set(SPECIALS)           # a text cannot spell a special token

        @lru_cache(maxsize=100_000)
        def ids(word: str) -> tuple[int, ...]:
            pieces = longest_first(word, known, longest)
            return (self.unk,) if pieces is None else tuple(self.index[piece] for piece in pieces)

        self._ids_of = ids

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 8000, min_count: int = 2,
              lowercase: bool = True) -> "WordPiece":
        """Learn at most ``size`` tokens from ``texts``, the five special ones among them.

        Raises ``ValueError`` if there are no words or fewer tokens than letters.
        """
        if min_count < 1:
            raise ValueError(f"min_count is {min_count}; pieces occur once or more often, take 1 or more")
        counts = Counter(word for text in texts for word in basic_words(text, lowercase)
                         if len(word) <= LONGEST)
        if not counts:
            raise ValueError("the texts hold no words; give texts to learn from")
        found = learn_pieces(counts, size - len(SPECIALS), min_count)
        return cls([*SPECIALS, *(piece for piece in found if piece not in SPECIALS)], lowercase)

    def __len__(self) -> int:
        return len(self.words)

    def __reduce__(self) -> tuple:                   # what is remembered does not travel to other processes
        return type(self), (self.words, self.lowercase, self.longest)

    def split(self, text: str) -> list[tuple[str, tuple[int, ...]]]:
        """The words of a text, each with the ids of its pieces."""
        return [(word, self._ids_of(word)) for word in basic_words(text, self.lowercase)]

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text, as the vocabulary spells them."""
        return [self.words[i] for i in self.encode(text)]

    def _ids(self, text: str) -> list[int]:
        return [i for _, ids in self.split(text) for i in ids]

    def _text(self, ids: list[int]) -> str:
        return " ".join(self.words[i] for i in ids).replace(f" {INNER}", "")

    def save(self, path: str | Path) -> None:
        """Write ``vocab.txt``: one piece a line, the line number is the id; in one step.

        Whether capital letters count does not stand in it.
        """
        write_atomically(path, ("\n".join(self.words) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path, lowercase: bool = True, longest: int = LONGEST) -> "WordPiece":
        """From a ``vocab.txt``. Raises ``FileNotFoundError``, ``ValueError`` for a file that is none."""
        words = read_vocabulary(path)
        try:
            return cls(words, lowercase, longest)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
