"""Count n-grams of many captions at once: the engine under BLEU and CIDEr.

Papers: BLEU (Papineni et al. 2002, sec. 2), CIDEr (Vedantam et al. 2015, sec. 3).  Survey: none (metrics).
An n-gram is interned as a pair (its first n-1 words, its last word), two integers in one, so that sorting and
searching in NumPy replace a dictionary of tuples.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count

import numpy as np

ORDERS = (1, 2, 3, 4)
SHIFT = 32                     # an n-gram's key is (id of its first n-1 words << SHIFT) + id of its last word
LOW = (1 << SHIFT) - 1

Words = Sequence[str]


def check_pairs(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    """Raise ``ValueError`` unless there is one list of references, not empty, for each candidate."""
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates for {len(references)} lists of references; give one "
                         f"each")
    if not len(candidates):
        raise ValueError("there is no candidate to score; give at least one")
    check_references(references)
    check_words(candidates)


def check_references(references: Sequence[Sequence[Words]]) -> None:
    """Raise ``ValueError`` for an image without references, or a reference that is not a list of words."""
    for i, refs in enumerate(references):
        if isinstance(refs, str) or not len(refs):
            raise ValueError(f"image {i} has references {refs!r}; give a list of at least one tokenised "
                             f"caption")
        check_words(refs)


def check_words(captions: Sequence[Words]) -> None:
    """Raise ``ValueError`` for a caption that is a string instead of a list of words."""
    for caption in captions:
        if isinstance(caption, str):
            raise ValueError(f"caption {caption!r} is a string; give a list of words, for instance "
                             f"ptb_tokenise(text)")


class Captions:
    """Captions as one run of word ids, with the caption that each word is in and how many words are left in
    it."""

    def __init__(self, captions: Sequence[Words], ids: Iterator[int]) -> None:
        self.lengths = np.fromiter(map(len, captions), np.int64, len(captions))     # (c,)
        self.words = np.fromiter(ids, np.int64, self.lengths.sum())                 # (w,)
        self.owners = np.repeat(np.arange(len(self.lengths)), self.lengths)         # (w,)
        ends = np.cumsum(self.lengths)
        self.left = ends[self.owners] - np.arange(len(self.words))                  # (w,) 1 at the last word

    def extend(self, grams: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Places where an n-gram begins, and its keys; ``grams`` (w,) holds the (n-1)-gram that begins at
        each place."""
        at = np.flatnonzero(self.left >= n)
        return at, (grams[at] << SHIFT) + self.words[at + n - 1]


@dataclass(frozen=True)
class Match:
    """The n-grams of one order in candidates, and in those references that share them.

    A candidate entry is one distinct n-gram of one candidate; a reference entry likewise. ``pair`` numbers
    the (candidate, reference) pairs, ``hit`` is the candidate entry with the same n-gram, -1 where there is
    none.
    """

    owner: np.ndarray           # (e,) candidate of each candidate entry
    gram: np.ndarray            # (e,) n-gram id; at least len(document frequencies) if no reference has it
    count: np.ndarray           # (e,) how often the candidate has it
    ref_pair: np.ndarray        # (f,) pair of each reference entry
    ref_gram: np.ndarray        # (f,)
    ref_count: np.ndarray       # (f,)
    hit: np.ndarray             # (f,)


@dataclass
class _Order:
    keys: np.ndarray            # (g,) sorted keys of the n-grams in the references; the id is the position
    frequency: np.ndarray       # (g,) in how many documents the n-gram occurs
    gram: np.ndarray            # (f,) the distinct n-grams of each reference, one reference after the other
    count: np.ndarray           # (f,)
    first: np.ndarray           # (r + 1,) where the entries of each reference begin


@dataclass
class NgramIndex:
    """References of all images, interned once; candidates are matched against it.

    ``references[i]`` holds the tokenised captions of image i. With ``documents="image"`` an n-gram's document
    frequency counts images, with ``"caption"`` it counts single captions (what M2's reward does).
    """

    references: Sequence[Sequence[Words]]
    documents: str = "image"
    words: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.documents not in ("image", "caption"):
            raise ValueError(f"documents is {self.documents!r}; use 'image' or 'caption'")
        check_references(self.references)
        intern: defaultdict[str, int] = defaultdict(count().__next__)        # a new word gets the next number
        captions = [caption for refs in self.references for caption in refs]
        words = Captions(captions, map(intern.__getitem__, chain.from_iterable(captions)))
        self.words = dict(intern)
        self.per_image = np.array([len(refs) for refs in self.references], dtype=np.int64)
        self.image_start = np.concatenate([[0], np.cumsum(self.per_image)])
        self.lengths = words.lengths                                      # (r,) words per reference
        self.num_documents = len(self.per_image if self.documents == "image" else self.lengths)
        image_of = np.repeat(np.arange(len(self.per_image)), self.per_image)
        self.orders: list[_Order] = []
        grams, at, keys = words.words.copy(), np.arange(len(words.words)), np.arange(len(self.words))
        for n in ORDERS:
            if n > 1:
                at, raw = words.extend(grams, n)
                keys, grams[at] = _number(raw)
            owner, gram, times = _tally(words.owners[at], grams[at])
            document = image_of[owner] if self.documents == "image" else owner
            frequency = np.bincount(_tally(gram, document)[0], minlength=len(keys))
            self.orders.append(_Order(keys, frequency, gram, times,
                                      np.searchsorted(owner, np.arange(len(self.lengths) + 1))))

    def pairs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The (candidate, reference) pairs when candidate i belongs to image ``images[i]``."""
        candidate = np.repeat(np.arange(len(images)), self.per_image[images])
        return candidate, _ranges(self.image_start[images], self.per_image[images])

    def match(self, candidates: Sequence[Words], images: np.ndarray) -> tuple[np.ndarray, list[Match]]:
        """Lengths of the candidates, and for each order 1..4 their n-grams against those of their
        references."""
        known = self.words
        fresh: defaultdict[str, int] = defaultdict(count(len(known)).__next__)
        words = Captions(candidates, (known[word] if word in known else fresh[word]
                                      for word in chain.from_iterable(candidates)))
        pair_candidate, pair_reference = self.pairs(images)
        grams, at, out = words.words.copy(), np.arange(len(words.words)), []
        for n, order in zip(ORDERS, self.orders):
            if n > 1:
                at, raw = words.extend(grams, n)
                grams[at] = _lookup(raw, order.keys)
            owner, gram, times = _tally(words.owners[at], grams[at])
            sizes = (order.first[1:] - order.first[:-1])[pair_reference]
            entry = _ranges(order.first[pair_reference], sizes)           # reference entries of all pairs
            ref_pair = np.repeat(np.arange(len(pair_reference)), sizes)
            wanted = (pair_candidate[ref_pair] << SHIFT) + order.gram[entry]
            have = (owner << SHIFT) + gram                              # ascending, by construction of _tally
            place = np.searchsorted(have, wanted)
            present = place < len(have)
            present[present] = have[place[present]] == wanted[present]
            out.append(Match(owner, gram, times, ref_pair, order.gram[entry], order.count[entry],
                             np.where(present, place, -1)))
        return words.lengths, out


def _tally(owners: np.ndarray, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct (owner, gram) in ascending order, and how often each occurs."""
    both = np.sort((owners << SHIFT) + grams)
    first = np.flatnonzero(_changes(both))
    times = np.diff(np.append(first, len(both)))
    return both[first] >> SHIFT, both[first] & LOW, times


def _number(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct keys in ascending order, and the position of each key of ``raw`` among them."""
    order = np.argsort(raw)
    first = _changes(raw[order])
    place = np.empty(len(raw), dtype=np.int64)
    place[order] = np.cumsum(first) - 1
    return raw[order][first], place


def _changes(ascending: np.ndarray) -> np.ndarray:
    """True where a number differs from the one before it, and at the first."""
    first = np.ones(len(ascending), dtype=bool)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return first


def _lookup(raw: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Position of each key in the sorted ``keys``; the ones not there are numbered from ``len(keys)`` on."""
    place = np.searchsorted(keys, raw)
    known = place < len(keys)
    known[known] = keys[place[known]] == raw[known]
    place[~known] = len(keys) + _number(raw[~known])[1]
    return place


def _ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The numbers starts[i] … starts[i] + sizes[i] - 1 for each i, one after the other."""
    before = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) + np.repeat(starts - before, sizes)
