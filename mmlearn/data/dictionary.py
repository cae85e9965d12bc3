r"""The dictionary-go-round: a small dictionary as a graph of definitions, and the words that must be grounded
before the others can be learnt from it.

Papers: S. Harnad (1990), *The symbol grounding problem*, Physica D 42(1-3), sec. 2.2 (the
dictionary-go-round); P. Vincent-Lamarre et al. (2016), *The Latent Structure of
Dictionaries*, Topics in Cognitive Science 8(3), arXiv:1411.0129, where the smallest sets of words from which
all others can be learnt are minimum feedback vertex sets (about 1 % of a real dictionary).
Survey: 3.1.
Differs from a dictionary: it has 85 words, and a definition one sense. Function words (a, the, that,
is, for, with …) define nothing here and stand in no entry.

The graph. An arrow leads from a word to each word of its definition that has an entry. Every definition has
such a word and there are finitely many, so a walk along the arrows comes back to a word it has met: it goes
round. Words that are grounded (known without a definition) stop it. A set of words stops every walk exactly
if it leaves no circle of arrows among the other words: a *feedback vertex set*; then all other words can be
learnt, each after the words that define it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

FUNCTION_WORDS = frozenset(
    "a an the of in on at by to from with for and or not no that which who is are has have can it its one "
    "two all be yet after before as than into up out other so much more very where when what you do does "
    "something someone".split())

# The words of the dictionary with their definitions, each in words of the dictionary and function words.
DICTIONARY: Mapping[str, str] = MappingProxyType({
    "animal": "a living thing that can move",
    "bird": "an animal with feathers that can fly",
    "boat": "a thing that can move on water and carry people",
    "brave": "not stopped by fear",
    "bread": "food that people make from plants",
    "bright": "full of light",
    "building": "a big thing with a roof where people live or work",
    "carry": "to hold a thing and move with it",
    "cat": "a small animal that can live in a house",
    "child": "a small person",
    "cold": "not warm",
    "colour": "what light lets you see of a thing",
    "danger": "what brings pain or death",
    "dark": "with no light",
    "day": "the time when the sun is in the sky",
    "death": "the end of life",
    "dog": "an animal that can live with people and guard a house",
    "eat": "to put food into the mouth",
    "end": "the last part of a thing",
    "fear": "to feel danger near",
    "feathers": "the warm things on a bird",
    "feel": "to know by the body",
    "body": "all the parts of a person or an animal",
    "fish": "an animal that can live in water",
    "flower": "the bright part of a plant",
    "fly": "to move up in the sky",
    "food": "what people and animals eat",
    "fruit": "the part of a plant that people eat",
    "full": "with no more place in it",
    "give": "to let a person have a thing",
    "good": "what people like",
    "grief": "the pain that people feel at a death",
    "guard": "to hold danger out",
    "hold": "to have in the hand",
    "hand": "the part of the body with which people hold things",
    "hope": "to think of a good time not yet near",
    "house": "a building where people live",
    "joy": "to feel good",
    "know": "to have in the mind",
    "last": "near the end with no part after it",
    "let": "to not stop",
    "life": "the time from start to death",
    "light": "what lets people see",
    "like": "to feel joy at",
    "live": "to have life",
    "living": "with life",
    "love": "to like very much",
    "make": "to bring a new thing to life",
    "mind": "the part of a person that can think",
    "moon": "the bright thing in the sky at night",
    "mouth": "the part of the body with which animals eat",
    "move": "to change place",
    "change": "to make new",
    "near": "at a small way from a place",
    "new": "at the start of life",
    "night": "the dark time of a day",
    "pain": "what a person can feel and does not like",
    "part": "a thing that is in a big thing",
    "people": "more than one person",
    "person": "a living thing that can think",
    "place": "where a thing can be",
    "plant": "a living thing that can not move",
    "promise": "to let a person hope",
    "put": "to move a thing to a place",
    "raven": "a big bird with the colour of night",
    "roof": "the part of a building near the sky",
    "see": "to know by the eye",
    "eye": "the part of the body with which people see",
    "sky": "the place of sun and moon",
    "small": "not big",
    "big": "not small",
    "snow": "cold white water from the sky",
    "start": "the part of a time before which is no part",
    "stop": "to end a way",
    "sun": "the thing in the sky that brings light and warm days",
    "thing": "what people can see or think of",
    "think": "to work with the mind",
    "time": "what days and nights are parts of",
    "tree": "a big plant",
    "warm": "as a thing near the sun",
    "water": "what fish live in",
    "way": "where people move from place to place",
    "white": "the colour of snow",
    "work": "to do what makes food or things",
    "bring": "to carry to a place",
})
_FORMS = MappingProxyType({
    "animals": "animal", "things": "thing", "days": "day", "nights": "night", "parts": "part",
    "plants": "plant", "stopped": "stop", "lets": "let", "brings": "bring", "makes": "make",
})
Graph = Mapping[str, tuple[str, ...]]   # word -> the words that its definition sends to


def defining_words(definition: str) -> tuple[str, ...]:
    """The words of a definition that mean something, in their plain forms, each once."""
    words = (_FORMS.get(word, word) for word in definition.lower().split())
    return tuple(dict.fromkeys(word for word in words if word not in FUNCTION_WORDS))


def definition_graph(dictionary: Mapping[str, str] = DICTIONARY) -> dict[str, tuple[str, ...]]:
    """The arrows of a dictionary. Raises ``ValueError`` for a definition without a word of meaning, or with
    one that has no entry."""
    graph = {word: defining_words(text) for word, text in dictionary.items()}
    for word, sent in graph.items():
        unknown = [other for other in sent if other not in graph]
        if unknown or not sent:
            raise ValueError(f"the definition of {word!r}, {dictionary[word]!r}, "
                             + (f"says {unknown[0]!r}, which has no entry" if unknown
                                else "names no word of the dictionary"))
    return graph


def look_up(word: str, graph: Graph, grounded: Iterable[str] = (),
            choose: Callable[[Sequence[str]], str] = lambda words: words[0]) -> list[str]:
    """The words met when one is looked up, then a word of its definition, and so on: until a grounded word is
    reached, or one that was met before, which then stands twice.

    ``choose`` says which word of a definition is looked up next (default: the first). Raises ``ValueError``
    for a word without an entry.
    """
    known, met = set(grounded), [word]
    if word not in graph:
        raise ValueError(f"{word!r} has no entry; the dictionary has {len(graph)} words")
    while met[-1] not in known and met[-1] not in met[:-1]:
        met.append(choose(graph[met[-1]]))
    return met


def goes_round(walk: Sequence[str]) -> bool:
    """Whether a walk ended where it had been."""
    return walk[-1] in walk[:-1]


def rounds(graph: Graph, grounded: Iterable[str]) -> list[list[str]]:
    """The words that can be learnt, by round: first those defined by grounded words alone, then those defined
    by these and the grounded ones, and so on."""
    known, found = set(grounded), []
    while now := [word for word in graph if word not in known and known.issuperset(graph[word])]:
        found.append(now)
        known.update(now)
    return found


def learnable(graph: Graph, grounded: Iterable[str]) -> list[str]:
    """The words that can be learnt from their definitions, in an order in which they can: each after all the
    words that define it."""
    return [word for learnt in rounds(graph, grounded) for word in learnt]


# ---- the smallest set of words to ground -------------------------------------------------------------------

def circles(graph: Graph, without: Iterable[str] = ()) -> list[list[str]]:
    """The strongly connected parts of a graph in which arrows go round, without some words (R. Tarjan, 1972);
    none if no walk goes round."""
    gone = set(without)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    inside: set[str] = set()
    found: list[list[str]] = []

    def visit(word: str) -> None:
        index[word] = low[word] = len(index)
        stack.append(word)
        inside.add(word)
        for other in graph[word]:
            if other in gone:
                continue
            if other not in index:
                visit(other)
                low[word] = min(low[word], low[other])
            elif other in inside:
                low[word] = min(low[word], index[other])
        if low[word] == index[word]:
            part: list[str] = []
            while not part or part[-1] != word:
                part.append(stack.pop())
                inside.discard(part[-1])
            if len(part) > 1 or word in graph[word]:
                found.append(sorted(part))

    for word in graph:
        if word not in index and word not in gone:
            visit(word)
    return found


def grounding_set(graph: Graph) -> list[str]:
    """A smallest set of words whose grounding stops every walk: a minimum feedback vertex set, exactly.

    First what cannot be otherwise (H. Levy and D. Low, 1988): a word without arrows in or out is in no
    circle; one that defines itself must be grounded; one with a single arrow in or out is passed over. What
    is left is tried: a word is grounded, or passed over. Fit for small dictionaries.
    """
    best: list[str] | None = None
    after = {word: set(graph[word]) for word in graph}
    before: dict[str, set[str]] = {word: set() for word in graph}
    for word, sent in after.items():
        for other in sent:
            before[other].add(word)

    def search(after: dict[str, set[str]], before: dict[str, set[str]], chosen: list[str]) -> None:
        nonlocal best
        after, before = {w: set(s) for w, s in after.items()}, {w: set(s) for w, s in before.items()}
        chosen = list(chosen)
        _reduce(after, before, chosen)
        if best is not None and len(chosen) + _disjoint_circles(after) >= len(best):
            return
        if not after:
            best = chosen
            return
        word = max(sorted(after), key=lambda w: len(after[w]) * len(before[w]))
        with_it = {w: set(s) for w, s in after.items()}, {w: set(s) for w, s in before.items()}
        _remove(word, *with_it)
        search(*with_it, [*chosen, word])
        _pass_over(word, after, before)
        search(after, before, chosen)

    search(after, before, [])
    assert best is not None
    return sorted(best)


def _remove(word: str, after: dict[str, set[str]], before: dict[str, set[str]]) -> None:
    for other in after.pop(word):
        if other != word:
            before[other].discard(word)
    for other in before.pop(word):
        if other != word:
            after[other].discard(word)


def _pass_over(word: str, after: dict[str, set[str]], before: dict[str, set[str]]) -> None:
    """Lead arrows into a word on to where its own arrows lead."""
    sent, came = after[word], before[word]
    _remove(word, after, before)
    for source in came - {word}:
        after[source] |= sent - {word}
    for target in sent - {word}:
        before[target] |= came - {word}


def _reduce(after: dict[str, set[str]], before: dict[str, set[str]], chosen: list[str]) -> None:
    changed = True
    while changed:
        changed = False
        for word in sorted(after):
            if word not in after:
                continue
            if word in after[word]:
                chosen.append(word)
                _remove(word, after, before)
            elif not after[word] or not before[word]:
                _remove(word, after, before)
            elif len(after[word]) == 1 or len(before[word]) == 1:
                _pass_over(word, after, before)
            else:
                continue
            changed = True


def _disjoint_circles(after: Mapping[str, set[str]]) -> int:
    """How many circles without a common word there are, found greedily, shortest first: each needs a
    grounded word of its own."""
    left, count = set(after), 0
    while True:
        shortest: list[str] = []
        for start in sorted(left):
            circle = _shortest_circle(start, after, left)
            if circle and (not shortest or len(circle) < len(shortest)):
                shortest = circle
                if len(shortest) <= 2:
                    break
        if not shortest:
            return count
        left -= set(shortest)
        count += 1


def _shortest_circle(start: str, after: Mapping[str, set[str]], left: set[str]) -> list[str]:
    came: dict[str, str] = {}
    front = [start]
    while front:
        following = []
        for word in front:
            for other in sorted(after[word] & left):
                if other == start:
                    circle = [word]
                    while circle[-1] != start:
                        circle.append(came[circle[-1]])
                    return circle
                if other not in came:
                    came[other] = word
                    following.append(other)
        front = following
    return []


def all_grounding_sets(graph: Graph, size: int, among: Iterable[str] | None = None) -> list[tuple[str, ...]]:
    """Every set of ``size`` words (``among`` some) that stops all walks, by trying them all."""
    words = sorted(graph if among is None else among)
    return [chosen for chosen in combinations(words, size) if not circles(graph, chosen)]
