"""Tokenisers: words for captions, WordPiece for BERT's family, byte-level BPE for GPT-2's family, with one
interface.

Papers: Y. Wu et al. (2016), *Google's Neural Machine Translation System*, arXiv:1609.08144 (WordPiece); R.
Sennrich, B. Haddow and A. Birch (2016), *Neural Machine Translation of Rare Words with Subword Units*,
arXiv:1508.07909 (BPE); A. Radford et al. (2019), *Language Models are Unsupervised Multitask Learners* (on
bytes).
Survey: 1.2 and 2.1.  Differs: the two subword tokenisers are thin wrappers over the `tokenizers` library.
"""

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from tokenizers import Tokenizer as _Tokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from mmlearn.files import read_json, read_text, write_atomically

# Where the PTB rules are not wanted: runs of letters and digits, with inner apostrophes, hyphens and dots.
_WORD = re.compile(r"[^\W_]+(?:['’.\-][^\W_]+)*|[$%&]")


def simple_words(text: str) -> list[str]:
    """Lower-cased words of ``text`` by one regular expression; punctuation between words is dropped."""
    return _WORD.findall(text.lower())


def ptb_words(text: str) -> list[str]:
    """Words as the caption metrics see them: PTB tokenisation, lower-cased, punctuation dropped."""
    from mmlearn.data.ptb import ptb_tokenise
    return ptb_tokenise(text)


SPLITTERS: dict[str, Callable[[str], list[str]]] = {"ptb": ptb_words, "simple": simple_words}


class Tokeniser(ABC):
    """What every tokeniser offers: text to ids, ids to text, and padded batches.

    ``unk``, ``pad``, ``bos``, ``eos`` are ids. A text that is padded reads ``bos … eos pad pad``; ``decode``
    drops these.
    """

    unk: int
    pad: int
    bos: int
    eos: int

    @abstractmethod
    def __len__(self) -> int:
        """Number of tokens, special ones included."""

    @abstractmethod
    def _ids(self, text: str) -> list[int]:
        """Ids of ``text`` without special tokens."""

    @abstractmethod
    def _text(self, ids: list[int]) -> str:
        """Text of ids that hold no special token."""

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        """Ids of ``text``; with ``add_special`` between ``bos`` and ``eos``."""
        ids = self._ids(text)
        return [self.bos, *ids, self.eos] if add_special else ids

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Text of ``ids`` up to the first ``eos`` (one that does not open the text), without ``pad`` and
        ``bos``.

        Raises ``ValueError`` for an id outside the vocabulary.
        """
        numbers: list[int] = ids.tolist() if isinstance(ids, Tensor) else [int(i) for i in ids]
        if numbers and numbers[0] == self.bos:           # GPT-2 opens and closes a text with the same token
            numbers = numbers[1:]
        if self.eos in numbers:
            numbers = numbers[: numbers.index(self.eos)]
        if numbers and not (0 <= min(numbers) and max(numbers) < len(self)):
            wrong = min(numbers) if min(numbers) < 0 else max(numbers)
            raise ValueError(f"token id {wrong} is not in 0..{len(self) - 1}; decode with the tokeniser that "
                             f"encoded")
        return self._text([i for i in numbers if i not in (self.pad, self.bos)])

    def batch(self, texts: Sequence[str], max_len: int | None = None) -> Int64[Tensor, "b t"]:
        """One row ``bos … eos pad …`` a text, as long as the longest; over ``max_len`` (specials counted) it
        is cut, and ends in ``eos`` all the same."""
        if max_len is not None and max_len < 2:
            raise ValueError(f"max_len is {max_len}, but bos and eos take 2 tokens; use 2 or more")
        rows = [self._ids(text)[: None if max_len is None else max_len - 2] for text in texts]
        lengths = torch.tensor([len(row) + 2 for row in rows], dtype=torch.long)
        ids = torch.full((len(rows), 2 + max(map(len, rows), default=0)), self.pad)
        there = torch.arange(ids.shape[1]) < lengths[:, None]
        ids[there] = torch.tensor([i for row in rows for i in (self.bos, *row, self.eos)], dtype=torch.long)
        return ids


class WordTokeniser(Tokeniser):
    """One id a word, as captioning systems do it; ids 0-3 are ``<unk> <pad> <bos> <eos>`` (the order of the
    M2 code).

    Words are lower-cased and punctuation is dropped, by the PTB rules that the metrics use
    (``splitter="ptb"``) or by one regular expression (``"simple"``). ``words`` lists the vocabulary, the most
    frequent first after the specials.
    """

    SPECIALS = ("<unk>", "<pad>", "<bos>", "<eos>")

    def __init__(self, words: Sequence[str], splitter: str = "ptb") -> None:
        if tuple(words[:4]) != self.SPECIALS:
            raise ValueError(f"the vocabulary begins with {list(words[:4])}, expected {list(self.SPECIALS)}")
        if splitter not in SPLITTERS:
            raise ValueError(f"splitter {splitter!r} is unknown; use one of {', '.join(SPLITTERS)}")
        self.words, self.splitter = list(words), splitter
        # a text cannot spell a special token
        self.index = {word: i for i, word in enumerate(self.words) if i > 3}
        if len(set(self.words)) != len(self.words):
            twice = next(word for word, n in Counter(self.words).items() if n > 1)
            raise ValueError(f"the vocabulary lists {twice!r} twice; every word must have one id")
        self.unk, self.pad, self.bos, self.eos = range(4)
        # Captions repeat themselves over epochs; remembering the split makes a later epoch almost free.
        self._split = lru_cache(maxsize=100_000)(lambda text: tuple(SPLITTERS[splitter](text)))

    @classmethod
    def train(cls, texts: Iterable[str], min_count: int = 1, splitter: str = "ptb") -> "WordTokeniser":
        """Vocabulary of the words that occur at least ``min_count`` times, by falling count, then by
        alphabet."""
        if splitter not in SPLITTERS:
            raise ValueError(f"splitter {splitter!r} is unknown; use one of {', '.join(SPLITTERS)}")
        split = SPLITTERS[splitter]
        counts = Counter(word for text in texts for word in split(text))
        kept = sorted((w for w, n in counts.items() if n >= min_count and w not in cls.SPECIALS),
                      key=lambda w: (-counts[w], w))
        if counts and not kept:
            raise ValueError(f"no word occurs {min_count} times, the most frequent one "
                             f"{max(counts.values())} times; lower the number")
        return cls([*cls.SPECIALS, *kept], splitter)

    def __len__(self) -> int:
        return len(self.words)

    def __reduce__(self) -> tuple:                   # the cached splitter does not travel to worker processes
        return type(self), (self.words, self.splitter)

    def _ids(self, text: str) -> list[int]:
        return [self.index.get(word, self.unk) for word in self._split(text)]

    def _text(self, ids: list[int]) -> str:
        return " ".join(self.words[i] for i in ids)

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON, in one step."""
        content = {"kind": "words", "splitter": self.splitter, "words": self.words}
        write_atomically(path, json.dumps(content, ensure_ascii=False, indent=0).encode())

    @classmethod
    def load(cls, path: str | Path) -> "WordTokeniser":
        """Read what ``save`` wrote. Raises ``ValueError`` if the file is something else."""
        return cls.of(read_json(path, remedy="train the tokeniser again"), path)

    @classmethod
    def of(cls, content: Mapping[str, Any], where: str | Path) -> "WordTokeniser":
        """From the ``words`` and the ``splitter`` of a description that was read from the file ``where``.

        Raises ``ValueError`` that names the file if they are missing or no vocabulary.
        """
        words, splitter = content.get("words"), content.get("splitter")
        try:
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError("words is no list of words")
            if not isinstance(splitter, str):
                raise ValueError("splitter is no text")
            return cls(words, splitter)
        except ValueError as error:
            raise ValueError(f"{where} is not a word vocabulary written by WordTokeniser.save ({error}); "
                             "train the tokeniser again") from None


class PlainWordTokeniser(WordTokeniser):
    """Words alone, without ``<bos>`` and ``<eos>``, as encoders read them that attend to each word."""

    def batch(self, texts: Sequence[str], max_len: int | None = None) -> Int64[Tensor, "b t"]:
        """One row ``word word … pad`` a text, as long as the longest; over ``max_len`` it is cut."""
        rows = [self._ids(text)[:max_len] for text in texts]
        ids = torch.full((len(rows), max(map(len, rows), default=0)), self.pad)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        return ids


def _guarded(make: Callable[[], _Tokenizer], sentence: str) -> _Tokenizer:
    """What ``make`` builds; an error of the library, which may be a panic of its Rust part, is a sentence."""
    try:
        return make()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"{sentence} ({reason}); download or train it again") from None


class _Subwords(Tokeniser):
    """Shared part of the two subword tokenisers: a `tokenizers.Tokenizer` and four ids of special tokens."""

    MODEL: type = models.Model

    def __init__(self, inner: _Tokenizer, specials: tuple[str, str, str, str]) -> None:
        self.inner = inner
        vocabulary = inner.get_vocab()
        missing = [token for token in specials if token not in vocabulary]
        if missing:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}; use the files the model was "
                             f"trained with")
        if max(vocabulary.values()) != len(vocabulary) - 1:
            raise ValueError(f"the vocabulary has {len(vocabulary)} tokens and ids up to "
                             f"{max(vocabulary.values())}; a token is missing or stands twice, download it "
                             f"again")
        inner.no_padding()                       # a file may ask for both; ``batch`` does them
        inner.no_truncation()
        self.unk, self.pad, self.bos, self.eos = (vocabulary[token] for token in specials)

    def __len__(self) -> int:
        return self.inner.get_vocab_size()

    @property
    def words(self) -> list[str]:
        """Tokens in the order of their ids, in the vocabulary's own spelling."""
        vocabulary = self.inner.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    def _ids(self, text: str) -> list[int]:
        return self.inner.encode(text, add_special_tokens=False).ids

    def _text(self, ids: list[int]) -> str:
        return self.inner.decode(ids, skip_special_tokens=False)

    def save(self, path: str | Path) -> None:
        """Write the tokeniser as one JSON file (the format of the `tokenizers` library), in one step."""
        write_atomically(path, self.inner.to_str().encode())

    @classmethod
    def _read(cls, path: str | Path) -> _Tokenizer:
        text = read_text(path, "write one with save")
        inner = _guarded(lambda: _Tokenizer.from_str(text), f"{path} is not a tokeniser written by "
                                                            f"{cls.__name__}.save")
        if not isinstance(inner.model, cls.MODEL):
            raise ValueError(f"{path} is a tokeniser of kind {type(inner.model).__name__}, expected "
                             f"{cls.MODEL.__name__}; open it with the class that fits")
        return inner

    @classmethod
    def _made(cls, path: str | Path, make: Callable[[], Any]) -> Any:
        """A tokeniser from what was read of a file, which an error names."""
        try:
            return make()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def read_vocabulary(path: str | Path) -> list[str]:
    """The pieces of BERT's ``vocab.txt``, one a line, in the order of their ids.

    Raises ``FileNotFoundError``, and ``ValueError`` for a file that is no text or names a piece twice.
    """
    lines = read_text(path, "give the vocab.txt of a BERT").removesuffix("\n").split("\n")
    if len(set(lines)) < len(lines):
        twice = next(piece for piece, n in Counter(lines).items() if n > 1)
        raise ValueError(f"{path} lists {twice!r} twice, where each line is a token of its own; download "
                         f"it again")
    return lines


class WordPieceTokeniser(_Subwords):
    """BERT's tokeniser: words are split greedily into the longest known pieces, inner ones marked ``##``.

    ``unk, pad, bos, eos`` are ``[UNK] [PAD] [CLS] [SEP]``.
    """

    SPECIALS = ("[UNK]", "[PAD]", "[CLS]", "[SEP]")
    MODEL = models.WordPiece

    @classmethod
    def _build(cls, model: models.WordPiece, lowercase: bool) -> _Tokenizer:
        inner = _Tokenizer(model)
        inner.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inner.decoder = decoders.WordPiece(cleanup=False)
        return inner

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 8000, min_count: int = 2,
              lowercase: bool = True) -> "WordPieceTokeniser":
        """Learn at most ``size`` pieces from ``texts``."""
        inner = cls._build(models.WordPiece(unk_token="[UNK]"), lowercase)
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]     # BERT's order
        inner.train_from_iterator(texts, trainers.WordPieceTrainer(
            vocab_size=size, min_frequency=min_count, special_tokens=special, show_progress=False))
        return cls(inner, cls.SPECIALS)

    @classmethod
    def from_vocab(cls, path: str | Path, lowercase: bool = True) -> "WordPieceTokeniser":
        """From BERT's ``vocab.txt``: one piece a line, the line number is the id.

        Raises ``FileNotFoundError``, and ``ValueError`` for a file that is no list of pieces.
        """
        vocabulary = {piece: i for i, piece in enumerate(read_vocabulary(path))}
        inner = _guarded(lambda: cls._build(
            models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100), lowercase),
            f"{path} is no list of word pieces")
        inner.add_special_tokens([t for t in (*cls.SPECIALS, "[MASK]") if t in vocabulary])
        return cls._made(path, lambda: cls(inner, cls.SPECIALS))

    @classmethod
    def load(cls, path: str | Path) -> "WordPieceTokeniser":
        """Read what ``save`` wrote. Raises ``FileNotFoundError``, ``ValueError`` for anything else."""
        inner = cls._read(path)
        return cls._made(path, lambda: cls(inner, cls.SPECIALS))


class BPETokeniser(_Subwords):
    """GPT-2's tokeniser: byte pairs are merged in the order learned, so that no text is unknown.

    GPT-2 has one special token, ``<|endoftext|>``; it serves as ``unk``, ``pad``, ``bos`` and ``eos``. A
    tokeniser trained here has ``<pad>`` and ``<bos>`` besides, so that padding and end differ.
    """

    END = "<|endoftext|>"
    MODEL = models.BPE

    def __init__(self, inner: _Tokenizer) -> None:
        names = inner.get_vocab()
        super().__init__(inner, (self.END, "<pad>" if "<pad>" in names else self.END,
                                 "<bos>" if "<bos>" in names else self.END, self.END))

    @classmethod
    def _build(cls, model: models.BPE) -> _Tokenizer:
        inner = _Tokenizer(model)
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        inner.post_processor = processors.ByteLevel(trim_offsets=False)
        return inner

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 8000, min_count: int = 2) -> "BPETokeniser":
        """Learn at most ``size`` tokens from ``texts``; the 256 bytes and 3 special tokens are always among
        them."""
        inner = cls._build(models.BPE())
        inner.train_from_iterator(texts, trainers.BpeTrainer(
            vocab_size=size, min_frequency=min_count, show_progress=False,
            special_tokens=[cls.END, "<pad>", "<bos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        return cls(inner)

    @classmethod
    def from_files(cls, vocab: str | Path, merges: str | Path) -> "BPETokeniser":
        """From GPT-2's ``vocab.json`` and ``merges.txt``.

        Raises ``FileNotFoundError``, and ``ValueError`` for files that are no such lists or do not belong
        together.
        """
        names = read_json(vocab, remedy="download it again")
        bad = next((name for name, i in names.items() if isinstance(i, bool) or not isinstance(i, int)
                    or not 0 <= i < 10_000_000), None)
        if bad is not None:
            raise ValueError(f"{vocab} gives {bad!r} no whole number as its id; download it again")
        lines = read_text(merges, "download it again").split("\n")
        halves = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
        if wrong := next((half for half in halves if len(half) != 2), None):
            raise ValueError(f"{merges} has the line {' '.join(wrong)[:60]!r}, which is no pair; download it "
                             f"again")
        made = {left + right for left, right in halves}
        if lost := [name for name in names if len(name) > 1 and name not in made
                    and not re.fullmatch(r"<.*>|madeupword\d+", name)]:
            raise ValueError(f"{merges} has no merge that makes {lost[0]!r}, which {vocab} lists, nor "
                             "those of "
                             f"{len(lost) - 1} more; the files do not belong together, or one is cut short")
        inner = _guarded(lambda: cls._build(models.BPE(names, [(left, right) for left, right in halves])),
                         f"{merges} does not belong to {vocab}")
        inner.add_special_tokens([cls.END])
        return cls._made(vocab, lambda: cls(inner))

    @classmethod
    def load(cls, path: str | Path) -> "BPETokeniser":
        """Read what ``save`` wrote. Raises ``FileNotFoundError``, ``ValueError`` for anything else."""
        inner = cls._read(path)
        return cls._made(path, lambda: cls(inner))
