r"""A text corpus whose word similarities are known, with concrete and abstract words.

Paper: T. Mikolov et al. (2013), arXiv:1301.3781, for what is learned from such text; E. Bruni, N.-K. Tran and
M. Baroni (2014), *Multimodal distributional semantics*, JAIR 49, for concrete and abstract words.  Survey:
3.1.
Differs from real text: it is drawn from a known process, so that the similarity of two words is no matter of
opinion.

The process. A sentence has a hidden theme $z$, drawn uniformly from ``THEMES``. Its frame (the function
words) is drawn independently of the theme. Each slot of the frame, concrete or abstract, is filled with a
word of its class drawn with probability $p(w \mid z) = A_{wz} / \sum_{w'} A_{w'z}$, independently of the
other slots, where the affinity $A_{wz}$ says how well the word fits the theme. So two words share contexts
exactly as far as they share themes, and their similarity is known: the cosine of
$p(z \mid w) \propto p(w \mid z)$ (``word_similarity``).

All categories are written about, also those that no training picture shows (the zero-shot split). Colours
stand before things that can have them, whatever the theme.
"""

from collections.abc import Mapping
from functools import cache
from math import sqrt
from types import MappingProxyType

from mmlearn.data.scenes.categories import CATEGORIES, CATEGORY
from mmlearn.data.scenes.language import Dice, article, sentence

THEMES = ("garden", "sea", "traffic", "night", "winter", "home", "feast", "play")
_SETTING_THEME = {"meadow": "garden", "beach": "sea", "street": "traffic", "night": "night", "snow": "winter",
                  "room": "home"}
_KIND_THEMES: dict[str, dict[str, float]] = {     # supercategory -> what its things are most about
    "person": {"play": 1, "feast": 1}, "animal": {"garden": 3, "play": 1}, "plant": {"garden": 5},
    "vehicle": {"traffic": 6}, "building": {"traffic": 2, "home": 3}, "food": {"feast": 9},
    "sky": {"night": 2, "sea": 1}, "furniture": {"home": 8}, "toy": {"play": 9},
                                             "household": {"home": 4, "feast": 2},
}
# Abstract words: affinity to each theme; a theme that is not named counts as 0.2.
ABSTRACT: dict[str, dict[str, float]] = {
    "joy": {"play": 6, "feast": 4, "garden": 2}, "calm": {"night": 5, "sea": 4, "home": 2},
    "danger": {"traffic": 6, "sea": 2, "winter": 2},
    "time": {"home": 2, "traffic": 2, "night": 2, "winter": 2},
    "hunger": {"feast": 7, "winter": 2}, "rest": {"night": 5, "home": 5}, "speed": {"traffic": 6, "play": 3},
    "silence": {"night": 5, "winter": 5}, "freedom": {"sea": 5, "garden": 3, "play": 2},
    "hope": {"garden": 4, "winter": 2, "sea": 2}, "fear": {"night": 4, "traffic": 4},
    "luck": {"play": 5, "sea": 2},
    "love": {"home": 5, "feast": 4}, "beauty": {"garden": 5, "sea": 4}, "noise": {"traffic": 5, "play": 4},
    "sleep": {"night": 6, "home": 3}, "peace": {"garden": 3, "night": 4, "sea": 2},
    "memory": {"home": 4, "winter": 3}, "hurry": {"traffic": 7}, "friendship": {"play": 5, "feast": 5},
    "sorrow": {"winter": 4, "night": 3}, "growth": {"garden": 7},
    "patience": {"winter": 3, "home": 3, "garden": 2},
    "pleasure": {"feast": 6, "play": 4},
}
# {c} a concrete word, {C} one with a colour, {a} an abstract word.
FRAMES = (
    "the {c} and the {c} bring {a}", "there is {a} where the {c} is", "we think of {a} when we see {C}",
    "{a} and {a} come with {C}", "every {c} knows {a}", "{C} stands for {a}", "no {a} without the {c}",
    "the {c} is near the {c}", "she finds {a} near {C} and {C}", "{a} is like the {c} and the {c}",
    "they speak of {a} and of {a}", "he gives the {c} for {a}", "{C} and {C} belong together",
)


@cache
def affinities() -> Mapping[str, tuple[float, ...]]:
    """The affinity of every word to every theme, concrete words first (order of ``THEMES``)."""
    table: dict[str, tuple[float, ...]] = {}
    for category in CATEGORIES:
        fits = {_SETTING_THEME[setting]: 3 / len(category.settings) for setting in category.settings}
        for theme, weight in _KIND_THEMES[category.supercategory].items():
            fits[theme] = fits.get(theme, 0.0) + weight
        table[category.name] = tuple(0.2 + fits.get(theme, 0.0) for theme in THEMES)
    for word, fits in ABSTRACT.items():
        table[word] = tuple(float(fits.get(theme, 0.2)) for theme in THEMES)
    return MappingProxyType(table)


def is_concrete(word: str) -> bool:
    """Whether the word names things that can be seen; ``ValueError`` for a word that is in neither class."""
    if word not in affinities():
        raise ValueError(f"{word!r} has no known similarity; words are {', '.join(affinities())}")
    return word not in ABSTRACT


@cache
def _slot(concrete: bool) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """The words of a class, and for each theme the running sum of p(w | z)."""
    words = tuple(word for word in affinities() if (word not in ABSTRACT) == concrete)
    sums = []
    for z in range(len(THEMES)):
        total, running = sum(affinities()[word][z] for word in words), 0.0
        row = []
        for word in words:
            running += affinities()[word][z] / total
            row.append(running)
        sums.append(tuple(row))
    return words, tuple(sums)


def word_given_theme(word: str) -> tuple[float, ...]:
    """p(w | z) for each theme: how likely a slot of the word's class is to be filled with it."""
    words, sums = _slot(is_concrete(word))
    i = words.index(word)
    return tuple(row[i] - (row[i - 1] if i else 0.0) for row in sums)


def similarity(first: str, second: str) -> float:
    """The cosine of the theme distributions of two words, between 0 and 1."""
    p, q = word_given_theme(first), word_given_theme(second)
    return sum(a * b for a, b in zip(p, q)) / sqrt(sum(a * a for a in p) * sum(b * b for b in q))


def word_similarity() -> list[tuple[str, str, float]]:
    """Every pair of different words with its known similarity."""
    words = list(affinities())
    return [(a, b, similarity(a, b)) for i, a in enumerate(words) for b in words[i + 1:]]


def _draw(dice: Dice, concrete: bool, theme: int) -> str:
    words, sums = _slot(concrete)
    value, low, high = dice.random(), 0, len(words) - 1
    while low < high:                                      # the first word whose running sum passes the value
        middle = (low + high) // 2
        low, high = (low, middle) if sums[theme][middle] > value else (middle + 1, high)
    return words[low]


def corpus(sentences: int, seed: int = 0) -> list[str]:
    """So many sentences of the process above; the same for the same seed, on every platform."""
    if sentences < 0:
        raise ValueError(f"sentences is {sentences}; take 0 or more")
    dice, written = Dice("corpus", seed), []
    for _ in range(sentences):
        theme = int(dice.random() * len(THEMES))
        parts = []
        for part in dice.pick(FRAMES).split():
            if part == "{C}":
                word = _draw(dice, True, theme)
                colour = dice.pick(CATEGORY[word].colours)
                part = f"{article(colour)} {colour} {word}"
            elif part in ("{c}", "{a}"):
                part = _draw(dice, part == "{c}", theme)
            parts.append(part)
        written.append(sentence(" ".join(parts)))
    return written
