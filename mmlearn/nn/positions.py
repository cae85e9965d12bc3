"""Positions: attention does not know the order of its inputs, so each position gets a vector of its own.

Paper: A. Vaswani et al. (2017), *Attention Is All You Need*, arXiv:1706.03762, sec. 3.5.  Survey: 1.2.
Differs from the paper: word embeddings are not scaled by the root of the width (nor are they in M2).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import KVCache

KINDS = ("sinusoid", "learned", "random")


def sinusoids(length: int, width: int) -> Float[Tensor, "length width"]:
    r"""eq:sinusoid: $PE(p)_{2i}=\sin(p/10000^{2i/d})$, $PE(p)_{2i+1}=\cos(p/10000^{2i/d})$ for p = 0 …
    length-1.

    Computed in float64, returned in the default dtype. Raises ``ValueError`` for an odd width.
    """
    if width % 2:
        raise ValueError(f"width {width} is odd; sine and cosine come in pairs, so give an even width")
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(torch.get_default_dtype())


def grid_sinusoids(cells: int, width: int) -> Float[Tensor, "cells width"]:
    """Positions of a square grid, row by row: the first half of the width says the row, the second the
    column.

    Raises ``ValueError`` if ``cells`` is no square or the width no multiple of 4.
    """
    side = math.isqrt(cells)
    if side * side != cells or width % 4:
        raise ValueError(
            f"{cells} cells of width {width}; give a square number of cells and a width divisible by 4")
    line = sinusoids(side, width // 2)
    return torch.cat([line.repeat_interleave(side, dim=0), line.repeat(side, 1)], dim=1)


class PositionTable(nn.Module):
    """One vector for each of ``length`` positions; positions count from ``first``.

    ``kind`` "sinusoid": frozen (eq:sinusoid); "learned": a parameter; "random": frozen Xavier noise, which is
    what became of the sinusoids in the released M2 code. A frozen table is a buffer, so it is saved and
    loaded. Output (t, d) for positions ``start`` … ``start + t - 1``. Raises ``ValueError`` past the end of
    the table, and for an unknown kind.
    """

    table: Tensor

    def __init__(self, length: int, width: int, kind: str = "sinusoid", first: int = 0) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"positions {kind!r} are unknown; use one of {', '.join(KINDS)}")
        self.length, self.first = length, first
        rows = first + length
        if kind == "sinusoid":
            table = sinusoids(rows, width)
            table[:first] = 0.0                                 # rows before the first position are padding
        else:
            table = nn.init.xavier_uniform_(torch.empty(rows, width))
        if kind == "learned":
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)

    def forward(self, t: int, start: int = 0) -> Float[Tensor, "t d"]:
        if start + t > self.length:
            raise ValueError(
                f"position {start + t} is past the table's {self.length}; raise max_len or cut the text")
        return self.table[self.first + start : self.first + start + t]


def check_tokens(tokens: Int[Tensor, "b t"], vocab: int) -> None:
    """Refuse token ids outside the vocabulary. Raises ``ValueError`` with the ids seen and the remedy."""
    if tokens.is_meta or torch.compiler.is_compiling() or not tokens.numel():
        return
    low, high = (int(i) for i in tokens.aminmax())
    if low < 0 or high >= vocab:
        raise ValueError(f"token ids go from {low} to {high}, the vocabulary from 0 to {vocab - 1}; "
                         "use the tokeniser that the model was made for")


class TokenEmbedding(nn.Module):
    r"""eq:word-embedding: $E_{y_t}+\mathrm{PE}(t)$, a vector for each word plus one for its position: (b, t)
    -> (b, t, d).

    The row of ``pad`` is zero and stays so. Positions count from 1, row 0 of the table being padding; inside
    a ``KVCache`` they go on where the last call ended.
    """

    cache: KVCache | None = None
    keeps_past = True

    def __init__(self, vocab: int, width: int, max_len: int, pad: int, kind: str = "sinusoid") -> None:
        super().__init__()
        self.words = nn.Embedding(vocab, width, padding_idx=pad)
        nn.init.xavier_uniform_(self.words.weight)
        with torch.no_grad():
            self.words.weight[pad] = 0.0
        self.positions = PositionTable(max_len, width, kind, first=1)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        start = 0 if self.cache is None else self.cache.length
        if start == 0:                           # what follows are the model's own words
            check_tokens(tokens, self.words.num_embeddings)
        return self.words(tokens) + self.positions(tokens.shape[1], start)
