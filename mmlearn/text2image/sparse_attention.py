r"""The sparse attention of DALL-E: all of the text, and of the picture a row, a column or a window.

Paper: A. Ramesh et al. (2021), *Zero-Shot Text-to-Image Generation*, arXiv:2102.12092, sec. 2.2, app. B.1 and
fig. 11; R. Child et al. (2019), *Generating Long Sequences with Sparse Transformers*, arXiv:1904.10509.
Survey: 2.2, 2.2.1.
Differs from the paper: nothing that it states. A sequence is ``text`` places (the start and the text) and the
picture's tokens, row by row; which of two neighbours a shifted input counts as is not said, and here a place
of the mask is the token that enters there.

Query i and key j are places of the picture, W its side, o = i - j how far the key lies back. In all kinds a
key may be attended to if o is one of a few numbers, so rows wrap around: the key to the left of the first
place of a row is the last one of the row above.
"""

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmlearn.nn.attention import KeysValues, KVCache, MultiHeadAttention, causal_mask
from mmlearn.nn.modes import remembered

KINDS = ("row", "column", "convolution", "full")


# -------------------------------------------------------------------------------------------------- equations

def row_mask(o: Int[Tensor, "*n"], side: int) -> Bool[Tensor, "*n"]:
    r"""eq:dalle-row: $0\le o\le W$: the last W places, the place itself and nothing else of the picture."""
    return (o >= 0) & (o <= side)


def column_mask(o: Int[Tensor, "*n"], side: int) -> Bool[Tensor, "*n"]:
    r"""eq:dalle-column: $o\ge 0$ and $W\mid o$: the places above, and the place itself."""
    return (o >= 0) & (o % side == 0)


def convolution_mask(
    o: Int[Tensor, "*n"], side: int, kernel: int = 11
) -> Bool[Tensor, "*n"]:
    r"""eq:dalle-convolution: $o=rW+c\ge 0$ with $0\le r\le\lfloor\kappa/2\rfloor$ and
    $|c|\le\lfloor\kappa/2\rfloor$: the part of a window of $\kappa\times\kappa$ that is there already."""
    half = kernel // 2
    found = torch.zeros_like(o, dtype=torch.bool)
    for r in range(half + 1):
        found |= (o - r * side).abs() <= half
    return found & (o >= 0)


def image_mask(kind: str, side: int, kernel: int = 11) -> Bool[Tensor, "n n"]:
    """True where query i may attend to key j, both places of a picture of side x side.

    Raises ``ValueError`` for an unknown kind.
    """
    place = torch.arange(side * side)
    o = place[:, None] - place
    if kind == "row":
        return row_mask(o, side)
    if kind == "column":
        return column_mask(o, side)
    if kind == "convolution":
        return convolution_mask(o, side, kernel)
    if kind == "full":
        return o >= 0
    raise ValueError(f"attention of kind {kind!r} is unknown; use one of {', '.join(KINDS)}")


def dalle_mask(
    kind: str, text: int, side: int, kernel: int = 11
) -> Bool[Tensor, "s s"]:
    r"""eq:dalle-mask: $\begin{pmatrix}
    \mathrm{causal}&0\\1&\mathrm{kind}\end{pmatrix}$: text sees the text
    before it, the picture all of the text and what ``kind`` says of the
    picture: one softmax over both."""
    mask = causal_mask(text + side * side)
    mask[text:, text:] = image_mask(kind, side, kernel)
    return mask


def layer_kinds(layers: int) -> tuple[str, ...]:
    r"""eq:dalle-layers: layer i of 1 … N is a convolution for $i=N$, a column for $i\equiv 2\pmod 4$, else a
    row.

    Of 64 layers 47 see rows, 16 columns, and the last a window.
    """
    kinds = ["column" if i % 4 == 2 else "row" for i in range(1, layers + 1)]
    return tuple([*kinds[:-1], "convolution"]) if layers else ()


# ----------------------------------------------------------------------------------------------------- blocks

@lru_cache(maxsize=64)
def _mask(kind: str, text: int, side: int, kernel: int, device: torch.device) -> Tensor:
    """``dalle_mask``, remembered."""
    return dalle_mask(kind, text, side, kernel).to(device)


def rows_back(kind: str, side: int, kernel: int) -> int:
    """How many rows above its own a row of queries needs keys of: 1, or those of the window and one for what
    wraps around."""
    half = kernel // 2
    return 1 if kind == "row" else math.ceil((half * side + half) / side)


@lru_cache(maxsize=64)
def _near(kind: str, side: int, rows: int, kernel: int, device: torch.device) -> Tensor:
    """The mask of blocks (g, w, u): g blocks of w queries, each of which sees u near keys or fewer."""
    if kind == "column":
        return causal_mask(rows, device=device)[None]
    back = rows_back(kind, side, kernel)
    query, key = torch.arange(side)[:, None] + back * side, torch.arange((back + 1) * side)
    o = query - key
    near = row_mask(o, side) if kind == "row" else convolution_mask(o, side, kernel)
    there = key // side + torch.arange(rows)[:, None] >= back               # g u: not above the first row
    return (near & there[:, None]).to(device)


def _windows(x: Float[Tensor, "b h n e"], side: int, back: int) -> Float[Tensor, "b h g u e"]:
    """For each row of the picture the rows above it and itself, (back + 1) side places; zeros above the
    first."""
    padded = F.pad(x, (0, 0, back * side, 0))
    return padded.unfold(2, (back + 1) * side, side).mT


def block_attention(
    Q: Float[Tensor, "b h n e"], K: Float[Tensor, "b h n e"],
    V: Float[Tensor, "b h n e"],
    kind: str, text: int, side: int, kernel: int = 11,
) -> Float[Tensor, "b h n e"]:
    """An optimisation: attention under ``dalle_mask`` in blocks, which leaves out most pairs that nobody
    attends to.

    A row of queries meets two rows of keys, a column (of the transposed picture) itself, windows the rows
    that they touch; all meet the text, in the same softmax. The last places of the sequence may be missing.
    It pays from some 300 places on; below, one dense product is faster.
    """
    n = Q.shape[2] - text
    if kind == "full" or n <= 0:
        return F.scaled_dot_product_attention(Q, K, V, is_causal=True)
    K_t, V_t = K[:, :, :text], V[:, :, :text]
    read = F.scaled_dot_product_attention(
        Q[:, :, :text], K_t, V_t, is_causal=True)
    rows = -(-n // side)
    q, k, v = (F.pad(x[:, :, text:], (0, 0, 0, rows * side - n))
               for x in (Q / math.sqrt(Q.shape[-1]), K, V))
    if kind == "column":
        q, k, v = (x.unflatten(2, (rows, side)).transpose(2, 3)
                   for x in (q, k, v))
    else:
        back = rows_back(kind, side, kernel)
        q = q.unflatten(2, (rows, side))
        k, v = (_windows(x, side, back) for x in (k, v))
    mask, blocks = _near(kind, side, rows, kernel, Q.device), q.shape[2:4]
    to_text = (q.flatten(2, 3) @ K_t.mT).unflatten(2, blocks)   # b h g w t
    near = (q @ k.mT).masked_fill(~mask, -math.inf)             # b h g w u
    weights = torch.cat([to_text, near], dim=-1).softmax(dim=-1)
    out = weights[..., text:] @ v                               # b h g w e
    of_text = weights[..., :text].flatten(2, 3) @ V_t
    out = out + of_text.unflatten(2, blocks)
    out = (out.transpose(2, 3) if kind == "column" else out).flatten(2, 3)
    return torch.cat([read, out[:, :, :n]], dim=2)


@remembered
def keys_of(kind: str, place: int, side: int, kernel: int = 11) -> slice | Tensor:
    """The places of the picture that place number ``place`` attends to: a slice, or their numbers."""
    if kind == "full":
        return slice(0, place + 1)
    if kind == "row":
        return slice(max(place - side, 0), place + 1)
    if kind == "column":
        return slice(place % side, place + 1, side)
    o = torch.arange(place, -1, -1)
    return convolution_mask(o, side, kernel).nonzero()[:, 0]


class PairCache(KVCache):
    """Keys and values of a sequence that grows token by token, in memory that is taken once, for ``length``
    places."""

    def __init__(self, model: Any, length: int) -> None:
        super().__init__(model)
        self.capacity, self.filled = length, dict.fromkeys(self.layers, 0)

    def __enter__(self) -> "PairCache":
        super().__enter__()
        return self

    @property
    def length(self) -> int:
        """Number of places decoded so far."""
        return next(iter(self.filled.values()), 0)

    def extend(self, layer: Any, K: Tensor, V: Tensor) -> KeysValues:
        """Store the keys and values of new places; returns those of all places, which are not copied."""
        start, stop = self.filled[layer], self.filled[layer] + K.shape[2]
        if stop > self.capacity:
            raise ValueError(f"place {stop} is past the cache's {self.capacity}; a picture has no "
                             "more tokens")
        if layer not in self.past:
            rooms = (x.new_empty(*x.shape[:2], self.capacity, x.shape[3]) for x in (K, V))
            self.past[layer] = next(rooms), next(rooms)
        for room, new in zip(self.past[layer], (K, V)):
            room[:, :, start:stop] = new
        self.filled[layer] = stop
        keys, values = self.past[layer]
        return keys[:, :, :stop], values[:, :, :stop]

    def repeat(self, k: int) -> None:
        """Let each row so far be the beginning of ``k`` rows, which stand together."""
        rows = torch.arange(len(next(iter(self.past.values()))[0])).repeat_interleave(k)
        self.select(rows.to(next(iter(self.past.values()))[0].device))


class SparseAttention(MultiHeadAttention):
    """Self-attention under ``dalle_mask``: (b, n, d) -> (b, n, d), for the first n places of a sequence.

    ``text`` places come before the picture's side x side. With ``blockwise`` it computes block by block
    (``block_attention``), else under the mask as it stands. Inside a ``PairCache`` only new places are given,
    and one new token of the picture meets the keys that it attends to and no others.
    """

    def __init__(self, width: int, heads: int, kind: str, text: int, side: int, kernel: int = 11) -> None:
        super().__init__(width, heads, causal=True)
        if kind not in KINDS:
            raise ValueError(f"attention of kind {kind!r} is unknown; use one of {', '.join(KINDS)}")
        self.kind, self.text, self.side, self.kernel = kind, text, side, kernel
        self.blockwise = False

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kind={self.kind}, text={self.text}, side={self.side}"

    def mask(self, t: int, s: int, device: torch.device) -> Bool[Tensor, "t s"]:
        """The mask of the last ``t`` of ``s`` places. Raises ``ValueError`` for more places than there
        are."""
        whole = _mask(self.kind, self.text, self.side, self.kernel, device)
        if s > len(whole):
            raise ValueError(f"the sequence has {s} places, the model {len(whole)}: {self.text} of text and "
                             f"{self.side} x {self.side} of the picture; cut it")
        return whole[s - t:s, :s]

    def forward(self, x: Float[Tensor, "b n d"], mask: None = None) -> Float[Tensor, "b n d"]:  # type: ignore[override]
        Q, K, V = self.project_all(x)
        if self.cache is not None:
            K, V = self.cache.extend(self, K, V)
        t, s, recorded = Q.shape[2], K.shape[2], "attend" in vars(self)
        if self.cache is not None and t == 1 and s > self.text and not recorded:
            read = self.step(Q, K, V)
        elif self.blockwise and t == s and not recorded:
            read = block_attention(Q, K, V, self.kind, self.text, self.side, self.kernel)
        else:
            read = self.read(Q, K, V, self.mask(t, s, x.device)[None, None])
        return self.project_out(self.join(read), x)

    def step(
        self, Q: Float[Tensor, "b h 1 e"], K: Float[Tensor, "b h s e"],
        V: Float[Tensor, "b h s e"]
    ) -> Float[Tensor, "b h 1 e"]:
        """One new token of the picture, and the keys that it attends to: one softmax over text and
        picture."""
        t = self.text
        place = K.shape[2] - t - 1
        keys = keys_of(self.kind, place, self.side, self.kernel)
        near, values = (x[:, :, t:][:, :, keys] for x in (K, V))
        Q = Q / math.sqrt(Q.shape[-1])
        scores = torch.cat([Q @ K[:, :, :t].mT, Q @ near.mT], dim=-1)
        weights = scores.softmax(dim=-1)
        return weights[..., :t] @ V[:, :, :t] + weights[..., t:] @ values
