"""Batches in an order that is a pure function of (seed, batch number), so that a stopped run continues
exactly.

A sampler that draws from the global random state has to be replayed to be resumed. Here the order of an epoch
follows from (seed, epoch), and batch number n of a run from n: training jumps to any place at once.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate


class _Places(Sampler):
    """The batches of indices from number ``start`` on, without end, as a ``DataLoader`` wants them."""

    def __init__(self, batches: "Batches", start: int, rank: int, world: int) -> None:
        self.batches, self.start, self.rank, self.world = batches, start, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        number = self.start
        while True:
            yield self.batches.indices(number, self.rank, self.world)
            number += 1


class Batches:
    """Batches of ``size`` examples of ``data`` (anything with ``len`` and integer indices), epoch after
    epoch.

    Every epoch has its own order (or the given one without ``shuffle``); an incomplete last batch is dropped
    if ``drop_last``, so that all steps weigh alike. ``collate`` turns a list of examples into a batch. With
    several processes ``size`` is the size of the whole batch and each takes its share. ``workers`` processes
    load ahead.

    Random augmentation inside ``data`` resumes exactly with ``workers=0``, or if it is a function of the
    index. A task whose batches are more than a list of examples overrides ``make``.
    Raises ``ValueError`` if ``data`` holds no whole batch.
    """

    def __init__(self, data: Any, size: int, *, seed: int = 0, shuffle: bool = True, drop_last: bool = True,
                 collate: Callable[[list], Any] | None = None, workers: int = 0) -> None:
        if not len(data):
            raise ValueError("there are no examples to make batches of; give at least one")
        if size < 1 or len(data) < (size if drop_last else 1):
            raise ValueError(f"{len(data)} examples do not make one batch of {size}; use a size in "
                             f"1..{len(data)}")
        self.data, self.size, self.seed, self.shuffle, self.drop_last = data, size, seed, shuffle, drop_last
        self.collate = collate or default_collate
        self.workers = workers
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.data), self.size)
        return whole + (rest > 0 and not self.drop_last)

    def __repr__(self) -> str:
        return (f"{type(self).__name__}({len(self.data)} examples, size={self.size}, seed={self.seed}, "
                f"shuffle={self.shuffle}, "
                f"drop_last={self.drop_last})")

    def order(self, epoch: int) -> np.ndarray:
        """The examples' order in ``epoch``, from (seed, epoch) alone."""
        if not self.shuffle:
            return np.arange(len(self.data))
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.data))

    def indices(self, number: int, rank: int = 0, world: int = 1) -> list[int]:
        """Indices of batch ``number``, counted from the first batch of the first epoch; with several
        processes the share of process ``rank`` of ``world``."""
        epoch, place = divmod(number, len(self))
        if self._order[0] != epoch:
            self._order = (epoch, self.order(epoch))
        return self._order[1][place * self.size : (place + 1) * self.size][rank::world].tolist()

    def __getitem__(self, number: int) -> Any:
        """Batch ``number``, counted from the first batch of the first epoch."""
        return self.make(self.indices(number), number)

    def __call__(self, number: int) -> Any:
        """The same: a source of batches is a function of their number."""
        return self[number]

    def make(self, indices: list[int], number: int) -> Any:
        """The batch ``number``, of these examples; what is drawn at random for it has to follow from the
        number."""
        many = getattr(self.data, "__getitems__", None)          # a data set may fetch a whole batch at once
        return self.collate(many(indices) if many else [self.data[i] for i in indices])

    def __iter__(self) -> Iterator[Any]:
        """The first epoch."""
        return (self[number] for number in range(len(self)))

    def stream(self, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[Any]:
        """Batches from number ``start`` on, without end."""
        if self.size % world:
            raise ValueError(f"a batch of {self.size} does not split evenly over {world} processes; "
                             f"use a multiple of {world}")
        if not self.workers:
            return (self.make(self.indices(number, rank, world), number) for number in count(start))
        return iter(DataLoader(self.data, batch_sampler=_Places(self, start, rank, world),
                               collate_fn=self.collate, num_workers=self.workers,
                               pin_memory=torch.cuda.is_available(),
                               generator=torch.Generator().manual_seed(self.seed)))


def stream(batches: Any, start: int = 0, seed: int = 0, rank: int = 0, world: int = 1) -> Iterator[Any]:
    """Batches of process ``rank`` from its number ``start`` on, without end where the source allows it.

    ``batches`` is a ``Batches``; or a function of the batch number; or anything that can be iterated again
    and again (a ``DataLoader``, a list), whose random order is made a function of (``seed``, epoch) and which
    is read up to ``start``. The last two deal out whole batches: process ``rank`` takes every ``world``-th.
    """
    if isinstance(batches, Batches):
        return batches.stream(start, rank, world)
    if callable(batches):
        return _called(batches, start, rank, world)
    source = _repeated(batches, seed, rank, world)
    for _ in range(start):
        next(source)
    return source


def _called(function: Callable[[int], Any], start: int, rank: int, world: int) -> Iterator[Any]:
    number = start * world + rank
    while True:
        yield function(number)
        number += world


def _repeated(source: Iterable, seed: int, rank: int, world: int) -> Iterator[Any]:
    number = epoch = 0
    while True:
        before = number
        generator = getattr(source, "generator", None)
        if generator is not None:
            generator.manual_seed(_mixed(seed, epoch))
        with _seeded(_mixed(seed, epoch)):                    # a sampler draws its order with the first batch
            iterator = iter(source)
            batch = next(iterator, iterator)
        while batch is not iterator:
            if number % world == rank:
                yield batch
            number += 1
            batch = next(iterator, iterator)
        if number == before:
            raise ValueError(f"the batches ran out after {number}; pass a DataLoader, a list or a function "
                             f"of "
                             "the batch number, which can be read again, or train for fewer steps")
        epoch += 1


def _mixed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1)


class _seeded:
    """Draw from a given seed for a while, then go on as before."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.python, self.torch = random.getstate(), torch.get_rng_state()
        random.seed(self.seed)
        torch.default_generator.manual_seed(self.seed)

    def __exit__(self, *error: Any) -> None:
        random.setstate(self.python)
        torch.set_rng_state(self.torch)


def epochs(batches: Sized, number: float | int, accumulate: int = 1) -> int:
    """How many optimiser steps ``number`` epochs of ``batches`` are, when each takes ``accumulate``
    batches."""
    return max(1, round(number * len(batches) / accumulate))
