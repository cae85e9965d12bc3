r"""Sentences of the word world: a generator whose distribution is known exactly, written many at a time.

Paper: T. Mikolov et al. (2013), arXiv:1301.3781, for what is learned from such text; E. Bruni, N.-K. Tran and
M. Baroni (2014), *Multimodal distributional semantics*, JAIR 49, table 1, for what text leaves unsaid.
Survey: 3.1, 3.2.
Differs from real text: it is drawn from a known process, and it never says how a thing looks.

The process. Four sentences in a row are a paragraph; a paragraph has a hidden theme $z$. A frame (the
function words and the slots) is drawn from $p(f \mid z)$. A slot is filled either with a word of its class
drawn from $p(w \mid z)$, or, where it says something of a noun $n$ of the same sentence, with one drawn from
$p(w \mid n)$: a verb or a use of its genus, its genus, its supercategory. All tables are integers, and all
draws are integers (SplitMix64 of seed, split and number of the sentence), so sentence $i$ is the same on
every platform, whatever stands around it.

Two nouns are twins if every table says the same of both. Then exchanging them maps each sentence to one that
is exactly as probable: the distribution of the text is its own image, and so is that of every count. A method
that sees the text alone and treats words alike cannot tell which of the two is which.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64, Int32, Int64

from mmlearn.data.scenes.categories import CATEGORY
from mmlearn.data.word_world.lexicon import GENERA, KINDS_OF_WORDS, NOUNS, word_classes
from mmlearn.data.word_world.themes import (
    COLOURS_SAID,
    LINKS,
    NUMBERS,
    RELATIONS,
    SOMEONE,
    THEMES,
    TIMES,
    WHO,
)

SPLITS = ("train", "val", "test")
PARAGRAPH = 4                           # sentences with one theme
CHUNK = 100_000                         # sentences that are written at once

# What is said: frame, weight. {n} {m}: nouns. Of {n}: {v} a verb, {u} a use, {g} its genus, {s} its
# supercategory, {a} "a" or "an"; {w} a verb of {m}. Of the theme: {p} a place, {x} {y} abstract nouns,
# {f} {e} feelings, {b} a thought. Of neither: {k} a number, {t} a time, {h} who (plural), {o} someone,
# {r} a relation, {l} a preposition of place, {c} a colour.
CONCRETE_FRAMES: tuple[tuple[str, int], ...] = (
    ("the {n} {v} {l} the {p}", 40), ("the {n} is {r} the {m}", 30), ("the {n} {v} {r} the {m}", 24),
    ("{h} {u} the {n}", 24), ("{h} {u} the {n} {t}", 16), ("{h} {u} the {n} {l} the {p}", 16),
    ("there is {a} {n} {l} the {p}", 24), ("the {n} is a kind of {g}", 14), ("every {n} {v}", 12),
    ("{a} {n} {v} and the {m} {w}", 16), ("{h} saw {a} {n} and the {m} {l} the {p}", 16),
    ("at {k} the {n} {v}", 8), ("the {n} and the {m} are {r} the {p}", 14), ("no {n} {v} {t}", 6),
    ("this {n} is the {s} of the {p}", 8), ("some {g} {l} the {p} is {a} {n}", 6),
    ("like every {g} the {n} {v}", 8), ("a {s} such as the {n} {v} {t}", 6), ("my {n} and your {m}", 6),
    ("where is the {n} of the {p}", 6),
)
MIXED_FRAMES: tuple[tuple[str, int], ...] = (
    ("there is {x} where the {n} {v}", 10), ("{h} think of {x} when the {n} {v}", 10),
    ("{o} {b} about the {n}", 12), ("the {n} costs {k} coins", 5), ("{x} came with the {n}", 8),
    ("{h} are {f} because the {n} {v}", 8), ("to {u} {a} {n} brings {x}", 8),
    ("for {o} the {n} means {x}", 8), ("{o} was {f} {l} the {p}", 10), ("the {p} is full of {x}", 8),
)
ABSTRACT_FRAMES: tuple[tuple[str, int], ...] = (
    ("the {x} of {y}", 14), ("{x} is {f}", 10), ("{h} spoke of {x} and of {y}", 12),
    ("{o} {b} and was {f}", 12), ("there is no {x} without {y}", 12), ("{t} {h} were {f} and {e}", 8),
    ("{x} and {y} go together", 8), ("{o} {b} about {x} {t}", 12), ("what is {x} but {y}", 6),
    ("{k} of us {b}", 4), ("{h} had {k} reasons for {x}", 4), ("after {x} comes {y}", 8),
    ("the colour {c} took the prize", 2), ("{o} likes the word {c}", 2),
)
_OF_NOUN = {"v": "n", "u": "n", "g": "n", "s": "n", "a": "n", "w": "m"}
_FREE: dict[str, tuple[str, ...]] = {"k": NUMBERS, "t": TIMES, "h": WHO, "o": SOMEONE, "r": RELATIONS,
                                     "l": LINKS, "c": COLOURS_SAID}
_THEMED = {"p": "places", "x": "abstract", "y": "abstract", "f": "feelings", "e": "feelings", "b": "thoughts"}


@dataclass(frozen=True)
class Frame:
    """The words of a frame, a slot as one letter in braces, and the slots: position, letter, and the
    position of the noun of which it says something (-1: of none)."""

    words: tuple[str, ...]
    slots: tuple[tuple[int, str, int], ...]


def _frame(text: str) -> Frame:
    words = tuple(text.split())
    place = {word[1]: i for i, word in enumerate(words) if word[0] == "{"}
    slots = tuple((i, s, place[_OF_NOUN[s]] if s in _OF_NOUN else -1) for s, i in place.items())
    return Frame(words, tuple(sorted(slots, key=lambda slot: slot[2] >= 0)))       # nouns are drawn first


FRAMES: tuple[Frame, ...] = tuple(
    _frame(text) for group in (CONCRETE_FRAMES, MIXED_FRAMES, ABSTRACT_FRAMES) for text, _ in group)
_THEMES = tuple(THEMES.values())


# ---- the words and the tables ------------------------------------------------------------------------------

@cache
def words() -> tuple[str, ...]:
    """Every word that can be written, the words of the frames first."""
    spoken = [word for frame in FRAMES for word in frame.words if word[0] != "{"]
    spoken += [word for options in _FREE.values() for word in options] + ["a", "an"]
    return tuple(dict.fromkeys([*spoken, *word_classes()]))


@cache
def word_ids() -> Mapping[str, int]:
    return MappingProxyType({word: i for i, word in enumerate(words())})


def class_of(word: str) -> str:
    """The class of a word, a key of ``CONCRETENESS``. Raises ``ValueError`` for a word never written."""
    if word not in word_ids():
        raise ValueError(f"{word!r} is no word of the word world; it has {len(words())} words, see words()")
    return word_classes().get(word, "function")


def noun_rank(word: str) -> int:
    """How rare a noun is within its kinds: words of categories first, twins alike."""
    if word in CATEGORY:
        return 2
    names = sorted((w for w in NOUNS if w not in CATEGORY), key=lambda w: zlib.crc32(w.encode()))
    twin = KINDS_OF_WORDS[word].twin
    return 8 + min(names.index(w) for w in (word, twin) if w)


def _leaning(word: str, theme: str) -> int:
    """Of 40: how much of a word is said under a theme that is not its own, by its spelling; twins alike."""
    kind = KINDS_OF_WORDS.get(word)
    name = min(word, kind.twin or word) if kind else word
    return (1, 1, 1, 1, 2, 3, 6)[zlib.crc32(f"{name}/{theme}".encode()) % 7]


@cache
def noun_weights() -> Int64[np.ndarray, "themes v"]:
    """How often a noun slot holds each word under each theme, up to a factor: about 1 / rank (Zipf), most in
    its home, half as much in its other themes, and a little elsewhere."""
    table = np.zeros((len(THEMES), len(words())), np.int64)
    for word in NOUNS:
        base, home = 100_000 // (30 + noun_rank(word)), KINDS_OF_WORDS[word].themes
        for z, theme in enumerate(THEMES):
            table[z, word_ids()[word]] = base * (40 if theme == home[0] else 20 if theme in home else
                                                 _leaning(word, theme))
    return table


@cache
def _themed(name: str) -> Int64[np.ndarray, "themes v"]:
    """Weights of the words of a field of ``Theme``: in order of the list of each theme, and, but for places,
    a little for the words of others."""
    table = np.stack([_listed(getattr(theme, name)) for theme in _THEMES])
    if name == "places":
        return table
    for z, theme in enumerate(THEMES):
        for word in np.flatnonzero(table.any(0)):
            if table[z, word] == 0:
                table[z, word] = table[:, word].max() * (_leaning(words()[word], theme) - 1) // 40
    return table


def _listed(options: Sequence[str]) -> Int64[np.ndarray, " v"]:
    """Weights 1 / rank for words in the order of a list."""
    row = np.zeros(len(words()), np.int64)
    for rank, word in enumerate(options):
        row[word_ids()[word]] += 100_000 // (rank + 3)
    return row


def said_of(word: str, slot: str) -> tuple[str, ...]:
    """What a slot may say of a noun, the commonest first."""
    genus = GENERA[KINDS_OF_WORDS[word].genus]
    if slot == "a":
        return ("an",) if word[0] in "aeiou" else ("a",)
    if slot == "g":
        return (genus.supercategory,) if word == genus.word else (genus.word,)
    if slot == "s":
        return (genus.supercategory,)
    return genus.verbs if slot in "vw" else genus.uses


@cache
def table(slot: str) -> Int64[np.ndarray, "conditions v"]:
    """The weights of the words of a slot: one row a theme, or, where it says something of a noun, one row a
    noun (in the order of ``NOUNS``)."""
    if slot in "nm":
        return noun_weights()
    if slot in _OF_NOUN:
        return np.stack([_listed(said_of(word, slot)) for word in NOUNS])
    if slot in _FREE:
        return np.stack([_listed(_FREE[slot])] * len(THEMES))
    return _themed(_THEMED[slot])


@cache
def frame_weights() -> Int64[np.ndarray, "themes frames"]:
    """How often each frame is used under each theme: ``concrete`` percent frames about things; of the rest
    half mixed, half abstract."""
    rows = []
    for theme in _THEMES:
        rest = 100 - theme.concrete
        row: list[int] = []
        for share, group in ((2 * theme.concrete, CONCRETE_FRAMES), (rest, MIXED_FRAMES),
                             (rest, ABSTRACT_FRAMES)):
            total = sum(weight for _, weight in group)
            row += [share * weight * 1000 // total for _, weight in group]
        rows.append(row)
    return np.array(rows, np.int64)


# ---- drawing -----------------------------------------------------------------------------------------------

_BIG = np.int64(1) << 32                # more than the weights of any row together
_STEP, _M1, _M2 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class _Chooser:
    """Draws from the rows of a table of integer weights."""

    options: Int64[np.ndarray, " n"]    # word of each weight that is not zero, row after row
    ends: Int64[np.ndarray, " n"]       # running sums within a row, plus ``_BIG`` for each row before it
    totals: Int64[np.ndarray, " rows"]

    @classmethod
    def of(cls, weights: Int64[np.ndarray, "rows v"]) -> "_Chooser":
        rows, options = weights.nonzero()
        totals = weights.sum(1)
        if totals.max() >= _BIG:
            raise ValueError(f"the weights of a row add up to {totals.max()}; keep them below {_BIG}")
        ends = np.concatenate([row[row > 0].cumsum() for row in weights]) + rows * _BIG
        return cls(options, ends, totals)

    def draw(self, rows: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """One option for each row number, by 32 random bits each."""
        value = ((bits >> np.uint64(32)) * self.totals[rows].astype(np.uint64)) >> np.uint64(32)
        return self.options[np.searchsorted(self.ends, rows * _BIG + value.astype(np.int64), side="right")]


@cache
def _choosers() -> Mapping[str, _Chooser]:
    slots = {letter for frame in FRAMES for _, letter, _ in frame.slots}
    found = {letter: _Chooser.of(table(letter)) for letter in slots}
    found["frame"] = _Chooser.of(frame_weights())
    found["theme"] = _Chooser.of(np.array([[theme.weight for theme in _THEMES]], np.int64))
    return found


def _mix(state: np.ndarray) -> np.ndarray:
    """SplitMix64 of many states at once (G. Steele, D. Lea and C. Flood, 2014)."""
    state = state + _STEP
    state = (state ^ (state >> np.uint64(30))) * _M1
    state = (state ^ (state >> np.uint64(27))) * _M2
    return state ^ (state >> np.uint64(31))


def _key(seed: int, split: str) -> np.ndarray:
    seed = seed & ((1 << 64) - 1)
    return _mix(_mix(np.array([seed], np.uint64)) ^ np.uint64(SPLITS.index(split) + 1))


@cache
def _noun_rows() -> np.ndarray:
    """Row of each word in the tables of nouns; -1 for other words."""
    rows = np.full(len(words()), -1, np.int64)
    rows[[word_ids()[word] for word in NOUNS]] = np.arange(len(NOUNS))
    return rows


@cache
def _literal(number: int) -> np.ndarray:
    """The words of a frame as numbers, 0 in its slots."""
    return np.array([word_ids().get(word, 0) for word in FRAMES[number].words], np.int32)


def theme_ids(count: int, split: str = "train", seed: int = 0, start: int = 0) -> Int64[np.ndarray, " n"]:
    """The theme of each sentence, as its number in ``THEMES``."""
    index = np.arange(start, start + count).astype(np.uint64) // np.uint64(PARAGRAPH)
    bits = _mix(_mix(_key(seed, split) ^ np.uint64(1)) ^ index)
    return _choosers()["theme"].draw(np.zeros(count, np.int64), bits)


def _chunk(count: int, split: str, seed: int, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sentences by frame: their numbers in the chunk (n,), and their words as numbers (n, length)."""
    choosers = _choosers()
    themes = theme_ids(count, split, seed, start)
    own = _mix(_key(seed, split) ^ np.arange(start, start + count).astype(np.uint64))
    frames = choosers["frame"].draw(themes, _mix(own))
    for number, frame in enumerate(FRAMES):
        here = np.flatnonzero(frames == number)
        if not len(here):
            continue
        ids = np.repeat(_literal(number)[None], len(here), 0)
        for position, letter, noun in frame.slots:
            rows = themes[here] if noun < 0 else _noun_rows()[ids[:, noun]]
            ids[:, position] = choosers[letter].draw(rows, _mix(own[here] ^ np.uint64(position + 1)))
        yield here, ids


def _check(count: int, split: str, start: int) -> None:
    if count < 0 or start < 0:
        raise ValueError(f"count is {count} and start {start}; take 0 or more")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(SPLITS)}")


def sentences(count: int, split: str = "train", seed: int = 0, start: int = 0) -> list[list[str]]:
    """``count`` sentences of the word world from number ``start`` on, each a list of lower-case words.

    Sentence i is a pure function of (seed, split, i); sentences 4 i to 4 i + 3 are a paragraph. Raises
    ``ValueError`` for a negative number and an unknown split.
    """
    _check(count, split, start)
    names = np.array(words(), object)
    written: list[list[str]] = []
    for begin in range(0, count, CHUNK):
        part = min(CHUNK, count - begin)
        texts, numbers = [], []
        for here, ids in _chunk(part, split, seed, start + begin):
            texts += names[ids].tolist()
            numbers.append(here)
        order = np.argsort(np.concatenate(numbers)).tolist()
        written += [texts[i] for i in order]
    return written


def sentence_ids(count: int, split: str = "train", seed: int = 0,
                 start: int = 0) -> tuple[Int32[np.ndarray, " t"], Int64[np.ndarray, " n"]]:
    """The same sentences as numbers of ``words()``, one after the other, and where each ends."""
    _check(count, split, start)
    flat, ends, length = [], [], 0
    for begin in range(0, count, CHUNK):
        part = min(CHUNK, count - begin)
        pieces = list(_chunk(part, split, seed, start + begin))
        sizes = np.empty(part, np.int64)
        for here, ids in pieces:
            sizes[here] = ids.shape[1]
        stops = sizes.cumsum()
        row = np.empty(stops[-1], np.int32)
        for here, ids in pieces:
            row[(stops[here] - ids.shape[1])[:, None] + np.arange(ids.shape[1])] = ids
        flat.append(row)
        ends.append(stops + length)
        length += int(stops[-1])
    if not flat:
        return np.empty(0, np.int32), np.empty(0, np.int64)
    return np.concatenate(flat), np.concatenate(ends)


def themes_of(count: int, split: str = "train", seed: int = 0, start: int = 0) -> list[str]:
    """The hidden theme of each of the same sentences."""
    _check(count, split, start)
    names = tuple(THEMES)
    return [names[z] for z in theme_ids(count, split, seed, start).tolist()]


# ---- what is known of the text -----------------------------------------------------------------------------

def _shares(weights: np.ndarray) -> Float64[np.ndarray, "rows v"]:
    return weights / weights.sum(1, keepdims=True)


@cache
def _expected() -> tuple[np.ndarray, np.ndarray]:
    """Expected counts a sentence: of words (v,) and of pairs of words in one sentence (v, v)."""
    nouns = [word_ids()[word] for word in NOUNS]
    themes = _shares(np.array([[theme.weight for theme in _THEMES]]))[0]
    frames = _shares(frame_weights())
    shares = {letter: _shares(table(letter)) for letter in _choosers() if letter not in ("frame", "theme")}
    v = len(words())
    pairs, singles = np.zeros((v, v)), []
    left: list[np.ndarray] = []              # what is added to ``pairs``: left.T @ right
    right: list[np.ndarray] = []
    for number, frame in enumerate(FRAMES):
        weight = (themes * frames[:, number])[:, None]
        rows = [np.zeros((len(themes), v)) for _ in frame.words]           # p(word | theme) at each place
        for place, word in enumerate(frame.words):
            if word[0] != "{":
                rows[place][:, word_ids()[word]] = 1
        for place, letter, noun in frame.slots:
            rows[place] = shares[letter] if noun < 0 else rows[noun][:, nouns] @ shares[letter]
        total = np.sum(rows, 0)
        singles.append((weight * total).sum(0))
        left += [weight * total, *(-weight * row for row in rows)]         # independent given the theme,
        right += [total, *rows]
        for k, (place, letter, noun) in enumerate(frame.slots):            # but not what is said of one noun
            if noun < 0:
                continue
            given = (weight * rows[noun][:, nouns]).sum(0)[:, None]        # p(noun), all themes
            both = np.zeros((v, v))
            both[nouns] = given * shares[letter]
            pairs += both + both.T
            left += [-weight * rows[noun], -weight * rows[place]]
            right += [rows[place], rows[noun]]
            for other, second, its in frame.slots[k + 1:]:
                if its == noun:
                    both = shares[letter].T @ (given * shares[second])
                    pairs += both + both.T
                    left += [-weight * rows[place], -weight * rows[other]]
                    right += [rows[other], rows[place]]
    pairs += np.concatenate(left).T @ np.concatenate(right)
    return np.sum(singles, 0), (pairs + pairs.T) / 2


def expected_counts() -> Float64[np.ndarray, " v"]:
    """How often a sentence holds each word of ``words()``, on average."""
    return _expected()[0].copy()


def expected_pairs() -> Float64[np.ndarray, "v v"]:
    """How often two words stand in one sentence, on average: the count matrix of an endless corpus whose
    window is the sentence, divided by the number of sentences."""
    return _expected()[1].copy()


def mentions_looks(sentence: Sequence[str]) -> bool:
    """Whether a sentence that names a pictured noun also names a colour, a texture or a size: never in this
    world (reporting bias)."""
    said = set(sentence)
    looks = {*COLOURS_SAID, "plain", "striped", "spotted", "checked", "small", "large", "round"}
    return bool(said & set(NOUNS)) and bool(said & looks)
