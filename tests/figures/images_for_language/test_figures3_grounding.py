"""The figures of grounding: walks are those of the dictionary, twins have bars of equal length, no text is
cut off."""

import xml.etree.ElementTree as ET

import pytest
from figure_parts import SVG, block_data, check_texts, texts

from mmlearn.data.dictionary import DICTIONARY, definition_graph, grounding_set, look_up, rounds
from mmlearn.figures.images_for_language import grounding

GRAPH = definition_graph()
DIAGRAMS = {"twins": grounding.twins, "others": lambda: grounding.twins("poppy", "bluebell"),
            "word_world": grounding.word_world}


@pytest.mark.parametrize("draw", DIAGRAMS.values(), ids=DIAGRAMS)
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert drawn.width <= 480 and len(drawn.alt) > 200 and "  " not in drawn.alt
    assert len(drawn._repr_html_()) < 100_000
    check_texts(drawn)


@pytest.mark.parametrize("word", DICTIONARY)
def test_definitions_fit_into_their_rows(word):
    check_texts(grounding._walk(look_up(word, GRAPH), set(), 700))


def test_a_walk_shows_its_definitions_and_where_it_comes_back():
    data = block_data(grounding.dictionary_walks(("raven", "joy")))
    assert data["axes"] == [["raven", "joy"], list(grounding.WAYS)] and len(data["frames"]) == 6
    first = data["frames"][0].split("<div")[0]
    assert texts(first) == ["raven", DICTIONARY["raven"], "big", "not small", "small", "not big"]
    assert "3 definitions read: back at “big”" in data["frames"][0]


def test_a_grounded_word_ends_a_walk():
    data = block_data(grounding.dictionary_walks(("raven",), grounding_set(GRAPH)))
    assert "which is grounded" in data["frames"][0] and "back at" not in "".join(data["frames"])


def test_the_word_that_is_followed_is_marked_in_whatever_form_it_stands():
    assert grounding._marked("warm days and days", "day") == "warm *days* and days"


def test_every_word_is_learnt_in_the_first_round_in_which_its_definition_is_known():
    grounded = grounding_set(GRAPH)
    known, found = set(grounded), rounds(GRAPH, grounded)
    for learnt in found:
        assert all(set(GRAPH[word]) <= known for word in learnt)
        assert not any(set(GRAPH[word]) <= known for word in set(GRAPH) - known - set(learnt))
        known |= set(learnt)
    assert known == set(GRAPH)
    data = block_data(grounding.grounding_spreads())
    assert len(data["frames"]) == len(found) + 1
    assert f"{len(GRAPH)} of {len(GRAPH)} known" in data["frames"][-1]


def test_bars_of_twins_are_equally_long():
    drawn = grounding.twins()
    wide = [float(bar.get("width")) for bar in ET.fromstring(drawn.svg).iter(f"{SVG}rect")
            if "mm-h" in bar.get("class", "")]
    assert len(wide) == 14 and wide[::2] == pytest.approx(wide[1::2], abs=1e-6)


def test_words_that_are_no_twins_are_refused():
    with pytest.raises(ValueError, match="no twins"):
        grounding.twins("raven", "hound")
