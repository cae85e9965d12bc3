"""DALL-E's tokeniser of captions: lower-cased byte pairs, of which training drops some merges.

Papers: A. Ramesh et al. (2021), arXiv:2102.12092, sec. 2.2 (16,384 tokens, 10 % dropout); R. Sennrich, B.
Haddow and A. Birch (2016), arXiv:1508.07909 (BPE); I. Provilkov, D. Emelianenko and E. Voita (2020),
*BPE-Dropout: Simple and Effective Subword Regularization*, arXiv:1910.13267.  Survey: 2.2.1.
Differs from the paper: its vocabulary was never published, so one is trained on the captions at hand.
"""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from tokenizers import Tokenizer as _Tokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from mmlearn.data.tokenisers import BPETokeniser


def drop_merges(
    pieces: Sequence[str], ranks: dict[tuple[str, str], int],
    dropout: float | int, draws: random.Random
) -> list[str]:
    """The tokens of a word: again and again the pair of the lowest rank is merged, but in each round every
    pair is passed over with the probability ``dropout``; it ends when no pair is left in a round.

    0 gives the word's usual tokens, 1 its single letters.
    """
    word = list(pieces)
    while True:
        pairs = [(ranks[pair], i)
                 for i, pair in enumerate(zip(word, word[1:]))
                 if pair in ranks
                 and not (dropout and draws.random() < dropout)]
        if not pairs:
            return word
        i = min(pairs)[1]
        word[i:i + 2] = [word[i] + word[i + 1]]


class CaptionBPE(BPETokeniser):
    """Byte pairs of lower-cased captions; ``batch`` gives plain tokens, without beginning and end.

    ``unk``, ``pad``, ``bos``, ``eos`` are ``<|endoftext|>``, ``<pad>``, ``<bos>``, ``<|endoftext|>``.
    """

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 16_384, min_count: int = 2) -> "CaptionBPE":
        """Learn at most ``size`` tokens from ``texts``; the 256 bytes and 3 special tokens are always among
        them."""
        inner = _Tokenizer(models.BPE())
        inner.normalizer = normalizers.Lowercase()
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        inner.train_from_iterator(texts, trainers.BpeTrainer(
            vocab_size=size, min_frequency=min_count, show_progress=False,
            special_tokens=[cls.END, "<pad>", "<bos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        return cls(inner)

    def __init__(self, inner: _Tokenizer) -> None:
        super().__init__(inner)
        model = json.loads(inner.to_str())["model"]
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        self.ranks = {(left, right): i for i, (left, right) in enumerate(pairs)}
        self.numbers = inner.get_vocab()

    @classmethod
    def load(cls, path: str | Path) -> "CaptionBPE":
        """Read what ``save`` wrote. Raises ``FileNotFoundError``, ``ValueError`` for anything else."""
        inner = cls._read(path)
        return cls._made(path, lambda: cls(inner))

    def encode_dropping(self, text: str, draws: random.Random, dropout: float | int = 0.1) -> list[int]:
        """Ids of ``text`` with BPE dropout: the same text reads differently each time. ``draws`` gives the
        random numbers. Raises ``ValueError`` unless ``dropout`` lies from 0 to 1."""
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout}; give a probability from 0 to 1")
        normal = self.inner.normalizer.normalize_str(text)
        words = (word for word, _ in self.inner.pre_tokenizer.pre_tokenize_str(normal))
        return [self.numbers[piece] for word in words
                for piece in drop_merges(word, self.ranks, dropout, draws)]

    def batch(self, texts: Sequence[str], max_len: int | None = None, *, dropout: float | int = 0.0,
              seed: int = 0) -> Int64[Tensor, "b t"]:
        """One row ``token token … pad`` a text, as long as the longest; over ``max_len`` it is cut. With
        ``dropout`` merges are dropped, a function of ``seed``."""
        draws = random.Random(seed)
        rows = [(self.encode_dropping(text, draws, dropout) if dropout else self._ids(text))[:max_len]
                for text in texts]
        ids = torch.full((len(rows), max(map(len, rows), default=0)), self.pad)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        return ids
