"""Pages of very different length side by side in few rows, so that a step of training computes no padding.

Papers: M. M. Krell et al. (2021), *Efficient Sequence Packing without Cross-contamination*, arXiv:2107.02027
(rows of several texts that do not see each other, filled by first-fit decreasing).  Survey: none; an
optimisation.
Differs from the paper: there are pictures, of which a row holds those of all its pages, and positions need no
numbers of their own, since the language models that are packed for know distances alone.

A page of the scene world has 8 tokens or 80, and as many as the longest of a batch are computed for each:
half of them padding, and as many pictures that are none. The losses are those of ``interleaved_objective``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.both_modalities.flamingo import Flamingo, media_mask
from mmlearn.both_modalities.interleaved import InterleavedBatch, shown
from mmlearn.nn.causal_lm import CausalLM


class Packed(NamedTuple):
    """Pages in rows of t tokens, each with m places for pictures, which its pages share.

    ``page`` and ``owner`` number the page, from 1, that a token or a picture belongs to (0: none). ``phi`` is
    eq:flamingo-phi in the row. ``slots`` says which of all ``pictures`` stands at a place. ``scored`` are the
    places, in the flattened rows, whose next token the loss counts, ``targets`` these tokens, ``part`` the
    set that they belong to.
    """

    tokens: Int[Tensor, "rows t"]
    page: Int[Tensor, "rows t"]
    phi: Int[Tensor, "rows t"]
    pictures: Float[Tensor, "n ..."]
    slots: Int[Tensor, "rows m"]
    owner: Int[Tensor, "rows m"]
    scored: Int[Tensor, " s"]
    targets: Int[Tensor, " s"]
    part: Int[Tensor, " s"]


def first_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which pages stand in each row of ``room`` tokens: from the longest page on, each in the first row that
    has room for it; empty pages stand nowhere."""
    rows: list[list[int]] = []
    free: list[int] = []
    for page in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not lengths[page]:
            break
        row = next((i for i, left in enumerate(free) if lengths[page] <= left), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(room)
        rows[row].append(page)
        free[row] -= lengths[page]
    return rows


def pack_pages(parts: Sequence[InterleavedBatch]) -> Packed:
    """The pages of one or several batches, each up to its last token that is scored, which itself need not be
    read."""
    lengths: list[int] = []
    counts: list[int] = []                                      # of pictures
    starts: list[int] = []
    pictures, start = [], 0
    for part in parts:
        b, t = part.tokens[:, 1:].shape
        place = torch.arange(1, t + 1, device=part.tokens.device)
        length = (place * part.scored[:, 1:]).amax(dim=1, keepdim=True)
        count = (part.media[:, :-1] * (place <= length)).amax(dim=1, keepdim=True)
        there = torch.arange(part.pictures.shape[1], device=count.device) < count
        pictures.append(part.pictures[there.to(part.pictures.device)])
        lengths += length[:, 0].tolist()
        counts += count[:, 0].tolist()
        starts += range(start, start + b * t, t)
        start += b * t
    rows = first_fit(lengths, max(lengths))
    first = np.cumsum([0, *counts])                              # picture of each page
    index = np.full((len(rows), max(lengths)), -1)               # -1: behind the end of a row
    page, before = np.zeros_like(index), np.zeros_like(index)
    m = max(1, *(sum(counts[i] for i in row) for row in rows))   # a place at least, as in each batch
    slots = np.zeros((len(rows), m), dtype=index.dtype)
    owner = np.zeros_like(slots)
    for r, row in enumerate(rows):
        begin = shown_before = 0
        for i in row:
            here, seen = slice(begin, begin + lengths[i]), slice(shown_before, shown_before + counts[i])
            index[r, here] = range(starts[i], starts[i] + lengths[i])
            page[r, here], before[r, here] = i + 1, shown_before
            slots[r, seen], owner[r, seen] = range(first[i], first[i] + counts[i]), i + 1
            begin, shown_before = here.stop, seen.stop
    device = parts[0].tokens.device
    at, pages, offset, places, owners = (torch.from_numpy(each).to(device)
                                         for each in (index, page, before, slots, owner))

    def picked(name: str, columns: slice) -> Tensor:
        """What stands at the places ``at`` in one part of all batches, 0 behind the end of a row."""
        flat = [getattr(part, name)[:, columns].flatten() for part in parts]
        return torch.cat([*flat, flat[0].new_zeros(1)])[at]

    media = picked("media", slice(-1))
    scored = picked("scored", slice(1, None)).flatten().nonzero()[:, 0]
    sizes = torch.tensor([part.tokens[:, 1:].numel() for part in parts], device=device)
    part_of = torch.repeat_interleave(torch.arange(len(parts), device=device), sizes)
    return Packed(picked("tokens", slice(-1)), pages, torch.where(media > 0, media + offset, 0),
                  torch.cat(pictures) if first[-1] else parts[0].pictures[0, :1], places, owners, scored,
                  picked("tokens", slice(1, None)).flatten()[scored], part_of[at.flatten()[scored]])


def packs(model: nn.Module) -> TypeGuard[Flamingo]:
    """Can pages of this model stand side by side? Its positions must be distances."""
    return isinstance(model, Flamingo) and isinstance(model.language, CausalLM) and (
        model.language.positions is None)


def packed_states(model: Flamingo, packed: Packed) -> Float[Tensor, "rows t d"]:
    """An optimisation: the states from which ``Flamingo.read`` makes its logits, of packed pages: a token
    sees tokens and pictures of its own page alone."""
    lm, blocks = model.language, model.adapter.blocks
    seen = media_mask(packed.phi, packed.slots.shape[1], model.config.sees)
    seen = seen & (packed.page[:, :, None] == packed.owner[:, None])
    same = packed.page[:, :, None] == packed.page[:, None]
    x = lm.embed(packed.tokens)
    if model.adapter.end is not None:
        x = x + (packed.tokens == model.config.eoc)[..., None] * model.adapter.end
    visual = model.see(**shown(packed.pictures[None]))[0]
    visual = visual.index_select(0, packed.slots.flatten()).unflatten(0, packed.slots.shape)
    for i, layer in enumerate(lm.layers):
        if str(i) in blocks:
            x = blocks[str(i)](x, visual, seen)
        x = layer(x, same)
    return lm.norm(x)


def packed_losses(model: Flamingo, batches: Mapping[str, InterleavedBatch]) -> dict[str, Float[Tensor, ""]]:
    """An optimisation: the loss of ``interleaved_objective`` of each batch, in one pass over packed pages,
    with logits only where a token is scored."""
    packed = pack_pages([*batches.values()])
    states = packed_states(model, packed).flatten(0, 1)[packed.scored]
    logits = model.language.logits(states).float()
    surprise = F.cross_entropy(logits, packed.targets, reduction="none")
    return {name: surprise[packed.part == i].mean() for i, name in enumerate(batches)}
