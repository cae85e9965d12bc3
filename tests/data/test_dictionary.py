"""A dictionary alone goes round: every walk through its definitions comes back, until some words are
grounded; the smallest such set is found."""

import random
from itertools import combinations

import pytest

from mmlearn.data.dictionary import (
    DICTIONARY,
    FUNCTION_WORDS,
    all_grounding_sets,
    circles,
    defining_words,
    definition_graph,
    goes_round,
    grounding_set,
    learnable,
    look_up,
)

GRAPH = definition_graph()


def random_graph(draw: random.Random, words: int, share: float) -> dict[str, tuple[str, ...]]:
    names = [chr(97 + i) for i in range(words)]
    return {a: tuple(b for b in names if draw.random() < share) for a in names}


def acyclic(graph: dict[str, tuple[str, ...]], gone: set[str]) -> bool:
    """By taking away words without arrows until nothing changes."""
    left = set(graph) - gone
    while True:
        ends = {w for w in left if not set(graph[w]) & left}
        if not ends:
            return not left
        left -= ends


def test_definitions_use_words_of_the_dictionary_alone():
    assert len(GRAPH) >= 60 and set(GRAPH) == set(DICTIONARY) and FUNCTION_WORDS.isdisjoint(GRAPH)
    for word, sent in GRAPH.items():
        assert sent and set(sent) <= set(GRAPH) and word not in sent, word
    assert defining_words("The parts of a thing, that brings light".replace(",", "")) == (
        "part", "thing", "bring", "light")


def test_every_walk_in_the_ungrounded_dictionary_goes_round():
    """Whatever word of a definition is looked up: a thousand walks, and a proof by exhaustion that no word is
    without a way on."""
    draw = random.Random(0)
    for word in GRAPH:
        assert goes_round(look_up(word, GRAPH))
        for _ in range(12):
            walk = look_up(word, GRAPH, choose=draw.choice)
            assert goes_round(walk) and len(walk) <= len(GRAPH) + 1
            assert all(b in GRAPH[a] for a, b in zip(walk, walk[1:]))
    assert learnable(GRAPH, ()) == []


def test_with_the_grounding_set_no_walk_goes_round_and_all_words_can_be_learnt():
    grounded = grounding_set(GRAPH)
    draw = random.Random(1)
    for word in GRAPH:
        for _ in range(12):
            walk = look_up(word, GRAPH, grounded, draw.choice)
            assert not goes_round(walk) and walk[-1] in grounded
    order = learnable(GRAPH, grounded)
    assert len(order) + len(grounded) == len(GRAPH)
    known = set(grounded)
    for word in order:
        assert set(GRAPH[word]) <= known
        known.add(word)
    assert circles(GRAPH, grounded) == []


def test_without_any_one_of_its_words_the_grounding_set_no_longer_suffices():
    grounded = grounding_set(GRAPH)
    assert 5 < len(grounded) < len(GRAPH) / 3
    for word in grounded:
        rest = [w for w in grounded if w != word]
        assert circles(GRAPH, rest)
        assert len(learnable(GRAPH, rest)) + len(rest) < len(GRAPH)


def test_the_grounding_set_is_smallest_in_random_graphs_by_trying_all():
    draw = random.Random(2)
    sizes = set()
    for number in range(120):
        graph = random_graph(draw, draw.randint(2, 9), draw.choice((0.1, 0.2, 0.3, 0.5)))
        found = grounding_set(graph)
        assert acyclic(graph, set(found))
        smallest = next(n for n in range(len(graph) + 1)
                        if any(acyclic(graph, set(c)) for c in combinations(graph, n)))
        assert len(found) == smallest, graph
        if number % 10 == 0:
            assert tuple(found) in all_grounding_sets(graph, smallest)
        sizes.add(smallest)
    assert len(sizes) > 4


def test_circles_are_the_words_that_reach_themselves():
    draw = random.Random(3)
    for _ in range(60):
        graph = random_graph(draw, 8, 0.15)
        reach = {a: {b for b in graph if b in graph[a]} for a in graph}
        for _ in graph:
            reach = {a: s | {c for b in s for c in reach[b]} for a, s in reach.items()}
        expected = {frozenset(b for b in graph if b in reach[a] and a in reach[b])
                    for a in graph if a in reach[a]}
        assert {frozenset(part) for part in circles(graph)} == expected
        assert bool(circles(graph)) == (not acyclic(graph, set()))


def test_a_walk_stops_at_a_grounded_word_and_says_where_it_went():
    graph = {"a": ("b",), "b": ("c", "a"), "c": ("a",)}
    assert look_up("a", graph) == ["a", "b", "c", "a"]
    assert look_up("a", graph, ["c"]) == ["a", "b", "c"]
    assert look_up("a", graph, ["a"]) == ["a"]
    assert look_up("b", graph, choose=lambda words: words[-1]) == ["b", "a", "b"]
    assert grounding_set(graph) == ["a"] or grounding_set(graph) == ["b"]


def test_words_without_an_entry_are_refused():
    with pytest.raises(ValueError, match="has no entry"):
        look_up("quark", GRAPH)
    with pytest.raises(ValueError, match="says 'quark', which has no entry"):
        definition_graph({"a": "the quark"})
    with pytest.raises(ValueError, match="names no word of the dictionary"):
        definition_graph({"a": "the one that is"})
