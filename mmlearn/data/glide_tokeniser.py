r"""GLIDE's tokeniser: lower-cased text is cut as GPT-2 cuts it, and a caption always fills the context.

Papers: A. Radford et al. (2019), *Language Models are Unsupervised Multitask Learners*, sec. 2.2 (byte-level
BPE); A. Nichol et al. (2021), *GLIDE*, arXiv:2112.10741, sec. 4; the rules of ``tokenizer/bpe.py`` in
github.com/openai/glide-text2im.  Survey: 2.3.
Differs from the paper: it says nothing of tokens; the released code has neither a start nor an end token, and
fills up with the last id of the vocabulary.

Neither GPT-2's list of merges is part of this package: ``released`` downloads it, once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pooch
import regex
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from mmlearn.data.clip_tokeniser import byte_letters, learn_merges, merge
from mmlearn.data.download import Remote, download
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.files import read_text

CONTEXT = 128                           # tokens of a caption, padding counted
PADDING = "<|endoftext|>"
MERGES = 50_000                         # of GPT-2: 256 bytes and the padding make 50,257 tokens of them
GPT2 = Remote("https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe", 456_318,
              sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5")

# A word takes the space before it along: an English ending, letters, digits, or a run of anything else.
WORD = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


class GLIDETokeniser(Tokeniser):
    """Byte-level BPE without start and end, every caption as long as the context; no text is unknown.

    Ids: 256 bytes, one a merge, and last ``pad``, which no text can spell; ``bos``, ``eos`` and ``unk`` are
    the same id, as GPT-2 has no other. ``batch`` gives ids (b, context): what is longer is cut, what is
    shorter padded, and the empty text is padding alone, which is how a caption is dropped. ``mask`` says
    where text stands. ``decode(encode(text))`` is the text in lower case. Raises ``ValueError`` for a context
    below 1.
    """

    def __init__(self, merges: Sequence[tuple[str, str]], context: int = CONTEXT) -> None:
        if context < 1:
            raise ValueError(f"context is {context}; a caption has 1 token or more, the released code 128")
        self.context = context
        self.letters = byte_letters()
        self.words = [*self.letters.values(), *(a + b for a, b in merges), PADDING]
        self.index = {word: i for i, word in enumerate(self.words)}
        self.ranks = {(a, b): i for i, (a, b) in enumerate(merges)}
        self.bytes = {letter: byte for byte, letter in self.letters.items()}
        self.unk = self.pad = self.bos = self.eos = len(self.words) - 1
        self._word = lru_cache(maxsize=100_000)(self._merged)       # texts repeat their words

    @classmethod
    def train(cls, texts: Iterable[str], merges: int, context: int = CONTEXT) -> "GLIDETokeniser":
        """Learn a list of at most ``merges`` (see ``learn_merges``); with enough of them, every word of
        ``texts`` is one token."""
        letters = byte_letters()
        counts = Counter(word for text in texts for word in WORD.findall(text.lower()))
        spelled = {word: [letters[byte] for byte in word.encode()] for word in counts}
        return cls(learn_merges(spelled, counts, merges), context)

    @classmethod
    def load(cls, path: str | Path, context: int = CONTEXT) -> "GLIDETokeniser":
        """From GPT-2's list of merges, ``merges.txt`` or ``vocab.bpe``.

        Raises ``FileNotFoundError``, and ``ValueError`` for a file that is not the list of 50,000 merges.
        """
        remedy = f"take GPT-2's, {GPT2.url}"
        lines = [line for line in read_text(path, remedy).split("\n")
                 if line.strip() and not line.startswith("#version")]
        pairs = [tuple(line.split(" ")) for line in lines]
        if wrong := next((pair for pair in pairs if len(pair) != 2), None):
            raise ValueError(f"{path} has the line {' '.join(wrong)[:60]!r}, which is no pair; {remedy}")
        if len(pairs) != MERGES or pairs[0] != ("Ġ", "t"):
            raise ValueError(f"{path} holds {len(pairs)} merges, GPT-2 has {MERGES}, of which a space and "
                             f"'t' is the first; {remedy}")
        return cls([(a, b) for a, b in pairs], context)

    @classmethod
    def released(cls, context: int = CONTEXT, folder: str | Path | None = None) -> "GLIDETokeniser":
        """The one that GLIDE was trained with; its list (456 kB) is downloaded into ``folder``, by default
        the user's cache, and kept.

        Raises ``OSError`` if it is neither there nor can be fetched.
        """
        return cls.load(download(GPT2, Path(folder or pooch.os_cache("mmlearn")) / GPT2.name), context)

    @classmethod
    def of(cls, content: Mapping[str, Any], where: str | Path, context: int) -> "GLIDETokeniser":
        """From the ``merges`` of a description that was read from the file ``where``. Raises ``ValueError``
        that names the file if they are missing or no list of pairs."""
        merges = content.get("merges")
        if not isinstance(merges, list) or not all(
                isinstance(pair, list) and len(pair) == 2 and all(isinstance(half, str) for half in pair)
                for pair in merges):
            raise ValueError(f"{where} has no merges, a list of pairs of text, as a tokeniser of GLIDE is "
                             f"saved; save or train the model again")
        return cls([(a, b) for a, b in merges], context)

    @property
    def merges(self) -> list[tuple[str, str]]:
        """What was learned, in its order: with the context, all that the tokeniser is made of."""
        return list(self.ranks)

    def __len__(self) -> int:
        return len(self.words)

    def __reduce__(self) -> tuple:                             # the cache does not travel to worker processes
        return type(self), (self.merges, self.context)

    def batch(self, texts: Sequence[str], max_len: int | None = None) -> Int64[Tensor, "b t"]:
        """Ids of each text, cut or padded to the context (or to ``max_len``, where that is given)."""
        length = self.context if max_len is None else max_len
        ids = torch.full((len(texts), length), self.pad)
        for i, text in enumerate(texts):
            row = self._ids(text)[:length]
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        return ids

    def mask(self, tokens: Int64[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        """Where there is text: True for a token, False for padding."""
        return tokens != self.pad

    def spelt_out(self, text: str) -> list[str]:
        """The words of a text that are no token of their own, because they were rare in training, or never
        there; those that stand first in a text have a token without the space before them."""
        words = [word.strip() for word in WORD.findall(text.lower())]
        return [word for word in words
                if word and min(len(self._word(" " + word)), len(self._word(word))) > 1]

    def _merged(self, word: str) -> tuple[int, ...]:
        letters = [self.letters[byte] for byte in word.encode("utf-8")]
        return tuple(self.index[piece] for piece in merge(letters, self.ranks))

    def _ids(self, text: str) -> list[int]:
        return [i for word in WORD.findall(text.lower()) for i in self._word(word)]

    def _text(self, ids: list[int]) -> str:
        spelled = bytes(self.bytes[letter] for i in ids for letter in self.words[i])
        return spelled.decode("utf-8", "replace")
