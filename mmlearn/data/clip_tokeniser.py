"""CLIP's tokeniser: text is repaired, lower-cased, cut into words, and each word's bytes are merged in the
order learned.

Papers: R. Sennrich, B. Haddow and A. Birch (2016), arXiv:1508.07909 (byte-pair encoding); A. Radford et al.
(2021), arXiv:2103.00020, sec. 2.4; the rules of ``simple_tokenizer.py`` in github.com/openai/CLIP.  Survey:
4.2.2.
Differs from the paper: it says 49,152 tokens and at most 76 positions, its code has 49,408 and 77, as here.

A copy of the list of merges is not part of this package: it is read from a checkpoint's folder or from where
``open_clip_torch`` keeps it.
"""

import gzip
import hashlib
import html
import importlib.util
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import ftfy
import regex
import torch
from jaxtyping import Int64
from torch import Tensor

from mmlearn.data.tokenisers import Tokeniser
from mmlearn.files import read_json, read_text

CONTEXT = 77                            # positions of a text, <start> and <end> included
MERGES = 48_894                         # 49,408 tokens = 2 x 256 bytes + merges + 2 special ones
# of "left right" lines: all CLIP models have one list
CHECKSUM = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
UNPACKED = 64 << 20                     # bytes that a packed list may have
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"                       # marks the last piece of a word
FILES = ("merges.txt", "bpe_simple_vocab_16e6.txt.gz", "tokenizer.json")

# A word is a special token, an English ending, letters, one digit, or a run of anything else but space.
WORD = regex.compile(
    rf"{regex.escape(START)}|{regex.escape(END)}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)


def byte_letters() -> dict[int, str]:
    """A visible letter for each of the 256 bytes, in the order of their token ids.

    A byte that Latin-1 prints stands for itself; the 68 others (control codes, spaces, the soft hyphen) take
    the letters from U+0100 on.
    """
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def clean(text: str) -> str:
    """``text`` without broken Unicode, HTML escapes (also doubly escaped ones), capital letters and doubled
    spaces."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return " ".join(text.lower().split())               # here ftfy would change nothing
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return regex.sub(r"\s+", " ", text.strip()).strip().lower()


def merge(
    pieces: Sequence[str], ranks: dict[tuple[str, str], int]
) -> list[str]:
    """Join neighbours, those whose pair was learned first before all others, until no pair is known."""
    pieces, last = list(pieces), len(ranks)
    while len(pieces) > 1:
        pairs = zip(pieces, pieces[1:])
        pair = min(pairs, key=lambda two: ranks.get(two, last))
        if pair not in ranks:
            break
        joined: list[str] = []
        i = 0
        while i < len(pieces):
            both = tuple(pieces[i:i + 2]) == pair
            joined.append(pair[0] + pair[1] if both else pieces[i])
            i += 2 if both else 1
        pieces = joined
    return pieces


def learn_merges(
    spelled: Mapping[str, Sequence[str]], counts: Mapping[str, int], most: int
) -> list[tuple[str, str]]:
    """At most ``most`` pairs, in the order in which they are learned: again and again the most frequent pair
    of neighbours inside words is joined; of equally frequent pairs, the first by alphabet.

    ``spelled`` gives each word as its letters, ``counts`` says how often it occurs. Ends early when every
    word is one piece.
    """
    words, learned = dict(spelled), list[tuple[str, str]]()
    while len(learned) < most:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        words = {word: merge(pieces, {best: 0}) for word, pieces in words.items()}
    return learned


class CLIPTokeniser(Tokeniser):
    """Byte-level BPE with an end-of-word mark, as CLIP reads text; no text is unknown.

    Ids: 256 bytes, 256 bytes that end a word, one a merge, <start> and <end>; ``pad`` is 0 (also a byte's id,
    which only stands inside words). ``encode`` and ``decode`` as in every ``Tokeniser``; ``batch`` pads to
    the longest text, ``tokeniser(texts)`` to ``context`` positions. A longer text is cut, and its last
    position holds <end>. Lower-casing and repair are lost: ``decode(encode(text))`` is the cleaned text, with
    a space after each word.
    """

    def __init__(self, merges: Sequence[tuple[str, str]], context: int = CONTEXT) -> None:
        if context < 2:
            raise ValueError(f"context is {context}, but <start> and <end> take 2 positions; use 2 or more")
        self.context = context
        self.letters = byte_letters()
        alphabet = list(self.letters.values())
        self.words = [*alphabet, *(letter + WORD_END for letter in alphabet), *(a + b for a, b in merges),
                      START, END]
        self.index = {word: i for i, word in enumerate(self.words)}
        self.ranks = {pair: i for i, pair in enumerate(merges)}
        self.bytes = {letter: byte for byte, letter in self.letters.items()}
        self.bos, self.eos = len(self.words) - 2, len(self.words) - 1
        self.unk, self.pad = self.eos, 0
        self._word = lru_cache(maxsize=100_000)(self._merged)       # texts repeat their words
        self._piece = lru_cache(maxsize=100_000)(self._words_of)    # and what stands between two spaces

    @classmethod
    def find(cls, folder: str | Path | None = None) -> "CLIPTokeniser":
        """From the list of merges in a checkpoint's folder, or, if it has none, from ``open_clip_torch``'s
        copy.

        Raises ``FileNotFoundError`` if there is neither.
        """
        places = [Path(folder) / name for name in FILES] if folder is not None else []
        spec = importlib.util.find_spec("open_clip")                # found, not imported
        places += [Path(place) / FILES[1]
                   for place in (spec.submodule_search_locations or [])] if spec else []
        for path in places:
            if path.is_file():
                return _remembered(path.resolve(), path.stat().st_mtime_ns)
        raise FileNotFoundError(f"CLIP's list of merges is neither in {folder or 'a folder (none given)'} "
                                f"nor installed; put "
                                "the checkpoint's merges.txt there, or `pip install open_clip_torch`")

    @classmethod
    def load(cls, path: str | Path) -> "CLIPTokeniser":
        """From one file: Hugging Face's ``merges.txt`` or ``tokenizer.json``, or OpenAI's
        ``bpe_simple_vocab_16e6.txt.gz``.

        Raises ``FileNotFoundError``, and ``ValueError`` for a file that does not hold CLIP's 48,894 merges.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no list of merges at {path}; give the folder of a CLIP checkpoint")
        try:
            merges = _read(path)
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read as a list of merges ({error}); download it "
                             f"again") from error
        if len(merges) != MERGES or merges[0] != ("i", "n"):
            raise ValueError(f"{path} holds {len(merges)} merges, CLIP has {MERGES}, of which ('i', 'n') is "
                             f"the first; take "
                             "the file of a CLIP checkpoint")
        if hashlib.sha256("\n".join(map(" ".join, merges)).encode()).hexdigest() != CHECKSUM:
            raise ValueError(f"{path} is not CLIP's list of merges, though as long: it was altered, or "
                             f"belongs to another model; take the file of a CLIP checkpoint")
        return cls(merges)

    @classmethod
    def train(cls, texts: Iterable[str], merges: int, context: int = CONTEXT) -> "CLIPTokeniser":
        """Learn a list of at most ``merges``: again and again the most frequent pair of neighbours inside
        words is joined.

        Of equally frequent pairs, the first by alphabet; ends early when every word is one piece.
        """
        letters = byte_letters()
        counts = Counter(word for text in texts for word in WORD.findall(clean(text)))
        spelled = {word: [*(letters[byte] for byte in word.encode()[:-1]),
                          letters[word.encode()[-1]] + WORD_END] for word in counts}
        return cls(learn_merges(spelled, counts, merges), context)

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, texts: str | Sequence[str]) -> Int64[Tensor, "b t"]:
        """Ids of each text between <start> and <end>, padded with 0 to ``context`` positions."""
        rows = self.batch([texts] if isinstance(texts, str) else texts)
        return torch.nn.functional.pad(rows, (0, self.context - rows.shape[1]), value=self.pad)

    def __reduce__(self) -> tuple:                             # the cache does not travel to worker processes
        return type(self), (list(self.ranks), self.context)

    def batch(self, texts: Sequence[str], max_len: int | None = None) -> Int64[Tensor, "b t"]:
        """One row a text, as long as the longest; over ``max_len`` (default: ``context``) it is cut and ends
        in <end>."""
        return super().batch(texts, self.context if max_len is None else max_len)

    def _merged(self, word: str) -> tuple[int, ...]:
        if word in (START, END):
            return (self.index[word],)
        letters = [self.letters[byte] for byte in word.encode("utf-8")]
        return tuple(self.index[piece] for piece in merge([*letters[:-1], letters[-1] + WORD_END],
                                                          self.ranks))

    def _words_of(self, piece: str) -> tuple[int, ...]:
        return tuple(i for word in WORD.findall(piece) for i in self._word(word))

    def _ids(self, text: str) -> list[int]:
        return list(chain.from_iterable(map(self._piece, clean(text).split(" "))))

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Text of ``ids`` up to the first <end>, without <start> and without the zeros that pad it.

        Raises ``ValueError`` for an id outside the vocabulary.
        """
        numbers: list[int] = ids.tolist() if isinstance(ids, Tensor) else [int(i) for i in ids]
        numbers = numbers[: numbers.index(self.eos)] if self.eos in numbers else numbers
        while numbers and numbers[-1] == self.pad:              # id 0 ends no word, so that these are padding
            numbers.pop()
        for i in numbers:
            if not 0 <= i < len(self):
                raise ValueError(f"token id {i} is not in 0..{len(self) - 1}; decode with the tokeniser that "
                                 f"encoded")
        return self._text([i for i in numbers if i != self.bos])

    def _text(self, ids: list[int]) -> str:
        spelled = bytearray()
        for word in (self.words[i] for i in ids):
            spelled += bytes(self.bytes[letter] for letter in word.removesuffix(WORD_END))
            spelled += b" " if word.endswith(WORD_END) else b""
        return spelled.decode("utf-8", "replace").strip()


def _read(path: Path) -> list[tuple[str, str]]:
    """The first 48,894 pairs of a file."""
    if path.suffix == ".json":
        listed = read_json(path)["model"]["merges"]
        if not isinstance(listed, list) or len(listed) > 10 * MERGES:
            raise ValueError("model.merges is no list of a tokeniser's length")
        halves = [tuple(line.split(" ")) if isinstance(line, str) else tuple(line) for line in listed]
    else:
        text = _unpacked(path) if path.suffix == ".gz" else read_text(path)
        lines = [line for line in text.split("\n") if line.strip()
                 and not line.startswith('"bpe_simple')]
        halves = [tuple(line.split()) for line in lines if not line.startswith("#version")][:MERGES]
    if not all(isinstance(part, str) for half in halves for part in half):
        raise ValueError("a merge is no pair of text")
    return [(left, right) for left, right in halves]


def _unpacked(path: Path) -> str:
    """The text in a gzip file, which must not be longer than a list of merges can be."""
    with gzip.open(path) as file:
        content = file.read(UNPACKED + 1)
    if len(content) > UNPACKED:
        raise ValueError(f"it unpacks to more than {UNPACKED >> 20} MB")
    return content.decode("utf-8")


@lru_cache(maxsize=4)
def _remembered(path: Path, changed: int) -> CLIPTokeniser:
    """One tokeniser a file: the list takes a while to read, and its words are cached."""
    return CLIPTokeniser.load(path)
