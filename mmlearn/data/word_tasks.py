"""Small tasks of understanding in the word world, whose answers are known: twins, pairs of sentences, kinds
of things, odd words out.

Papers: Y. Lu et al. (2022), *Imagination-Augmented Natural Language Understanding*, NAACL, arXiv:2204.08535,
for few examples of a visual fact that no text states; S. Harnad (1990), *The symbol grounding problem*,
Physica D 42, for why twins.  Survey: 3.1, 3.5.1, 3.6.
Differs from GLUE's tasks: these are made, so that it is known which of them text alone can solve.

A task is a function of (seed, split, number of the example), so the first 16 examples are the first of 256.
Labels are balanced: of two examples in a row one is true.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from mmlearn.data.pairs import SIZE, draw_scenes
from mmlearn.data.scenes import CATEGORY, COLOURS, captions, parse_caption, render, sample_scene
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.pen import PALETTE
from mmlearn.data.scenes.sample import Draws
from mmlearn.data.word_world import (
    GENERA,
    KINDS_OF_WORDS,
    NOUNS,
    PICTURED,
    SPLITS,
    TWINS,
    sentences,
    word_scene,
)
from mmlearn.data.word_world.looks import visual_similarities
from mmlearn.metrics.similarity import Judged, likeness

POOL = 12_000                           # sentences of a split from which those of a task are chosen
MARGIN = 0.15                            # of visual similarity: how clear the answer about twins is
PROPERTIES = ("colour", "category", "theme")


# ---- twins -------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class TwinQuestion:
    """Which of two twins looks more like ``word``? ``like`` does, ``unlike`` does not."""

    word: str
    like: str
    unlike: str


@cache
def twin_questions(count: int = 10, seed: int = 0) -> tuple[TwinQuestion, ...]:
    """``count`` questions about each pair of TWINS, half of them with the one as the answer, half with the
    other, so that an answer that does not depend on the question is right in half of them.

    The words asked about are nouns with pictures and no twins. Raises ``ValueError`` for an odd number and
    for more questions than there are.
    """
    if count < 2 or count % 2:
        raise ValueError(f"count is {count}; take an even number, half of it for each twin")
    others = [word for word in PICTURED if not KINDS_OF_WORDS[word].twin]
    known, row = visual_similarities(), {word: i for i, word in enumerate(NOUNS)}
    found = []
    for number, pair in enumerate(TWINS):
        for like, unlike in (pair, pair[::-1]):
            clear = [word for word in others
                     if known[row[word], row[like]] - known[row[word], row[unlike]] >= MARGIN]
            if len(clear) < count // 2:
                raise ValueError(f"count is {count}; only {len(clear)} nouns look clearly more like {like!r} "
                                 f"than like {unlike!r}, ask at most {2 * len(clear)}")
            draws = Draws(seed, number, NOUNS.index(like), 7)
            for _ in range(count // 2):
                found.append(TwinQuestion(clear.pop(draws.below(len(clear))), like, unlike))
    return tuple(found)


def twin_accuracy(judged: Judged, questions: Sequence[TwinQuestion] | None = None) -> dict[str, float]:
    """Share of questions in which a model finds ``like`` more alike to the word than ``unlike``, for each
    pair of twins ("raven-dove") and their "mean"; what it does not know, or finds equal, counts half.

    A method whose only input is text, and which treats words alike, is right in one half of them on average
    over corpora: exchanging the names of twins maps the distribution of corpora onto itself and turns every
    answer round.
    """
    questions = twin_questions() if questions is None else questions
    if not questions:
        raise ValueError("there are no questions, so no share is right; give one or more")
    of = likeness(judged)
    right = of([q.word for q in questions], [q.like for q in questions])
    wrong = of([q.word for q in questions], [q.unlike for q in questions])
    score = torch.where(right > wrong, 1.0, torch.where(right < wrong, 0.0, 0.5))
    names = {frozenset(pair): "-".join(pair) for pair in TWINS}
    parts: dict[str, list[float]] = {}
    for question, value in zip(questions, score.tolist()):
        parts.setdefault(names[frozenset((question.like, question.unlike))], []).append(value)
    found = {name: sum(values) / len(values) for name, values in parts.items()}
    return {**found, "mean": sum(found.values()) / len(found)}


# ---- pairs of sentences ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class SentencePairs:
    """Pairs of sentences with a yes (1) or no (0), and the scene that each sentence is about."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    labels: Int64[Tensor, " n"]
    first_scenes: tuple[Scene, ...]
    second_scenes: tuple[Scene, ...]

    def __len__(self) -> int:
        return len(self.first)

    def pictures(self, size: int = SIZE) -> tuple[UInt8[Tensor, "n 3 s s"], UInt8[Tensor, "n 3 s s"]]:
        """The real pictures of the first and of the second sentences: what an imagination is measured by."""
        return (draw_scenes(self.first_scenes, size, processes=1),
                draw_scenes(self.second_scenes, size, processes=1))


def _check(count: int, split: str) -> None:
    if count < 2 or count % 2:
        raise ValueError(f"count is {count}; take an even number: one half of the answers is yes")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(SPLITS)}")


@cache
def _about(split: str, seed: int) -> Mapping[str, tuple[str, ...]]:
    """Sentences of the word world that name one noun with pictures and no other noun of the lexicon."""
    found: dict[str, list[str]] = {}
    lexicon = {*NOUNS, *GENERA}
    for words in sentences(POOL, split, seed):
        named = [word for word in words if word in lexicon]
        if len(named) == 1 and named[0] in PICTURED:
            found.setdefault(named[0], []).append(" ".join(words))
    return MappingProxyType({word: tuple(dict.fromkeys(texts)) for word, texts in found.items()})


def _examples(count: int, split: str, seed: int, task: int,
              make: Callable[[Draws, bool], tuple[str, str, Scene, Scene]]) -> SentencePairs:
    """``count`` examples: of numbers 2 k and 2 k + 1 one is true, by a draw."""
    first, second, labels, scenes, others = [], [], [], [], []
    for i in range(count):
        label = Draws(seed, i // 2, SPLITS.index(split), task).chance(50) == (i % 2 == 0)
        a, b, scene, other = make(Draws(seed, i, SPLITS.index(split), task, 1), label)
        first.append(a)
        second.append(b)
        labels.append(int(label))
        scenes.append(scene)
        others.append(other)
    return SentencePairs(tuple(first), tuple(second), torch.tensor(labels), tuple(scenes), tuple(others))


@cache
def _of_colour() -> Mapping[str, tuple[str, ...]]:
    """Kinds with pictures by their colour."""
    found: dict[str, list[str]] = {}
    for word in PICTURED:
        if word not in CATEGORY:
            found.setdefault(KINDS_OF_WORDS[word].colours[0], []).append(word)
    return MappingProxyType({colour: tuple(words) for colour, words in found.items()})


def colour_pairs(count: int, split: str = "train", seed: int = 0) -> SentencePairs:
    """Are the things of these two sentences of the same colour? No sentence says it.

    Sentences of the word world, each about one kind of thing; the two things are never of one genus. Text
    alone knows something (some themes favour a colour), pictures of the nouns know all.
    Raises ``ValueError`` for an odd count and an unknown split.
    """
    _check(count, split)
    about = _about(split, seed)
    by_colour = {c: [w for w in words if w in about] for c, words in _of_colour().items()}

    def make(draws: Draws, same: bool) -> tuple[str, str, Scene, Scene]:
        while True:
            colour, other = draws.choice(list(by_colour)), draws.choice(list(by_colour))
            a = draws.choice(by_colour[colour])
            b = draws.choice(by_colour[colour if same else other])
            if KINDS_OF_WORDS[a].genus != KINDS_OF_WORDS[b].genus and (same or colour != other):
                break
        return (draws.choice(about[a]), draws.choice(about[b]), word_scene(a, draws.below(1000), split),
                word_scene(b, draws.below(1000), split))

    return _examples(count, split, seed, 11, make)


def category_pairs(count: int, split: str = "train", seed: int = 0) -> SentencePairs:
    """Does the first sentence entail the second? The second is the first with its noun replaced by a word for
    more: the genus or the supercategory of the thing (yes), or those of another thing (no).

    What text alone can know: it says of every kind what it is a kind of.
    """
    _check(count, split)
    about = _about(split, seed)
    named = [word for word in about if word not in CATEGORY]

    def make(draws: Draws, entailed: bool) -> tuple[str, str, Scene, Scene]:
        word = draws.choice(named)
        own = GENERA[KINDS_OF_WORDS[word].genus]
        wider = draws.choice((own.word, own.supercategory))
        if not entailed:
            others = [g for g in GENERA.values() if g.supercategory != own.supercategory]
            other = draws.choice(others)
            wider = draws.choice((other.word, other.supercategory))
        text = draws.choice(about[word])
        scene = word_scene(word, draws.below(1000), split)
        parts = [wider if w == word else w for w in text.split()]
        for i, following in enumerate(parts[1:]):
            if parts[i] in ("a", "an") and following == wider:
                parts[i] = "an" if wider[0] in "aeiou" else "a"
        return text, " ".join(parts), scene, scene

    return _examples(count, split, seed, 12, make)


@cache
def dominant_colour(scene: Scene) -> str:
    """The colour of the palette that is nearest to most pixels of a scene's picture."""
    picture = render(scene, 32).image.reshape(-1, 3).astype(np.float32)
    palette = np.array([PALETTE[c] for c in COLOURS], np.float32)
    nearest = ((picture[:, None] - palette[None]) ** 2).sum(-1).argmin(1)
    return COLOURS[int(np.bincount(nearest, minlength=len(COLOURS)).argmax())]


def _plain_caption(scene: Scene) -> str:
    """A caption of a scene that says where it is and no colour, or "" if there is none."""
    texts = [text for text in captions(scene) if not set(text.lower().rstrip(".").split()) & set(COLOURS)]
    return min((text for text in texts if (scene.setting,) in parse_caption(text)), key=len, default="")


@cache
def _scene_pool(count: int, split: str, seed: int) -> Mapping[str, tuple[tuple[str, Scene], ...]]:
    """Scenes by their dominant colour, with their captions, of colours that are not rare."""
    found: dict[str, list[tuple[str, Scene]]] = {}
    for i in range(count):
        scene = sample_scene(seed, i, split)
        if text := _plain_caption(scene):
            found.setdefault(dominant_colour(scene), []).append((text, scene))
    return MappingProxyType({colour: tuple(rows) for colour, rows in found.items()
                             if len(rows) >= count // 20})


def scene_pairs(count: int, split: str = "train", seed: int = 0) -> SentencePairs:
    """Are these two captions of pictures with the same dominant colour? No caption names a colour.

    Captions of the scene world in the words that its models know, so that one who can imagine the pictures
    (snow is white, a meadow green, a street grey) knows the answer. Raises ``ValueError`` for an odd count
    and an unknown split.
    """
    _check(count, split)
    pool = _scene_pool(160, split, seed)

    def make(draws: Draws, same: bool) -> tuple[str, str, Scene, Scene]:
        colour = draws.choice(list(pool))
        other = colour if same else draws.choice([c for c in pool if c != colour])
        (a, scene), (b, second) = draws.choice(pool[colour]), draws.choice(pool[other])
        while same and scene == second:
            b, second = draws.choice(pool[other])
        return a, b, scene, second

    return _examples(count, split, seed, 13, make)


# ---- odd one out -------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class OddOneOut:
    """Four words of which three have something in common: the one at ``odd`` has not."""

    words: tuple[str, ...]
    odd: int


def _property_of(word: str, name: str) -> str:
    kind = KINDS_OF_WORDS[word]
    return {"colour": kind.colours[0], "category": kind.genus, "theme": kind.themes[0]}[name]


def odd_words(name: str, count: int, split: str = "train", seed: int = 0) -> tuple[OddOneOut, ...]:
    """``count`` questions whose three words share their "colour", "category" (genus) or "theme", and differ
    from each other in the other two; the odd one shares none of the three with any of them.

    Raises ``ValueError`` for an unknown property or split and a count below 1.
    """
    if name not in PROPERTIES:
        raise ValueError(f"property {name!r} is unknown; take one of {', '.join(PROPERTIES)}")
    if split not in SPLITS or count < 1:
        raise ValueError(f"split is {split!r} and count {count}; take one of {', '.join(SPLITS)}, and 1 or "
                         f"more")
    kinds = [word for word in PICTURED if word not in CATEGORY]
    found = []
    for i in range(count):
        draws = Draws(seed, i, SPLITS.index(split), 20 + PROPERTIES.index(name))
        while len(chosen := _four(draws, kinds, name)) < 4:
            pass
        place = draws.below(4)
        words = [*chosen[:3][:place], chosen[3], *chosen[:3][place:]]
        found.append(OddOneOut(tuple(words), place))
    return tuple(found)


def _four(draws: Draws, kinds: Sequence[str], name: str) -> list[str]:
    """Three words with the property in common and a fourth without; fewer if the draw found none."""
    rest = [p for p in PROPERTIES if p != name]
    chosen = [draws.choice(kinds)]
    for _ in range(60):
        word = draws.choice(kinds)
        shared = [_property_of(word, name) == _property_of(other, name) for other in chosen]
        alike = any(_property_of(word, p) == _property_of(other, p) for p in rest for other in chosen)
        if alike or word in chosen:
            continue
        if len(chosen) < 3 and all(shared) or len(chosen) == 3 and not any(shared):
            chosen.append(word)
        if len(chosen) == 4:
            break
    return chosen


def odd_accuracy(judged: Judged, questions: Sequence[OddOneOut]) -> float:
    """Share of questions in which the word that a model finds least alike to the other three is the odd one
    (a quarter by chance); of several least alike ones, each counts its part."""
    if not questions:
        raise ValueError("there are no questions, so no share is right; give one or more")
    of, right = likeness(judged), 0.0
    for question in questions:
        pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
        values = of([question.words[i] for i, _ in pairs], [question.words[j] for _, j in pairs])
        mean = values.nan_to_num(0.0).reshape(4, 3).mean(1)
        least = (mean == mean.min()).nonzero()[:, 0].tolist()
        right += (question.odd in least) / len(least)
    return right / len(questions)
