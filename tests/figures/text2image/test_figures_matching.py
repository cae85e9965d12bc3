"""The figures of section 2.1.2 show what they were given."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from figure_parts import frames, texts

from mmlearn.data.scenes import portrait
from mmlearn.figures.diagram import data_uri
from mmlearn.figures.interactive import LIMIT
from mmlearn.figures.text2image import matching

SVG = "{http://www.w3.org/2000/svg}"
SENTENCES = ["a blue bird in a meadow", "a yellow car on a street", "a brown cat in a room"]


def plain(*sizes, value=0.0):
    return torch.full((*sizes, 3, 16, 16), value)


def address(value):
    """How a plain picture of this value in [-1, 1] stands in a figure."""
    return data_uri((plain(1, value=value)[0] + 1) / 2, lossless=False)


def test_the_pairs_say_all_in_words_and_stay_inside_their_frame():
    drawn = matching.matching_pairs()
    assert len(drawn.alt) > 60 and drawn.width <= 480                   # a phone shows it whole
    for text in ET.fromstring(drawn.svg).iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= drawn.width and 0 < float(text.get("y")) <= drawn.height


def test_of_the_three_kinds_of_pairs_one_is_new_and_one_is_right():
    drawn = matching.matching_pairs()
    shown = texts(drawn)
    assert (shown.count("yes"), shown.count("no")) == (1, 2)
    assert drawn.svg.count('class="mm-b mm-new"') == 1
    assert sum("a blue bird in a" in text for text in shown) == 3


def test_the_pairs_show_the_pictures_that_they_are_given():
    drawn = matching.matching_pairs(portrait("cat"), portrait("dog"), "a cat", plain(1, value=0.5)[0])
    assert address(0.5) in drawn.svg
    cat = matching._drawn(portrait("cat"))
    assert data_uri((cat + 1) / 2, lossless=False) in drawn.svg


def test_the_player_shows_every_sentence_at_every_step():
    values = (-0.9, -0.2, 0.6)
    pictures = torch.stack([plain(3, value=value) for value in values])
    block = matching.training_player([0, 10, 1000], pictures, SENTENCES)
    shown = frames(block)
    assert len(shown) == 3 and len(block.html) < LIMIT
    for frame, value, label in zip(shown, values, ("after 0 steps", "after 10 steps", "after 1,000 steps")):
        assert frame.count(address(value)) == 3 and label in frame
    assert all(sentence in shown[0] for sentence in SENTENCES)


def test_a_player_of_many_sentences_breaks_into_rows():
    block = matching.training_player([1], plain(1, 6), SENTENCES * 2, columns=3)
    places = re.findall(r'<image x="([\d.]+)" y="([\d.]+)"', frames(block)[0])
    assert len({x for x, _ in places}) == 3 and len({y for _, y in places}) == 2


def test_the_slider_goes_from_the_first_sentence_to_the_second():
    shares = [1.0, 0.5, 0.0]
    pictures = torch.stack([plain(4, value=share - 0.5) for share in shares])
    block = matching.between_sentences(*SENTENCES[:2], shares, pictures)
    shown = frames(block)
    for frame, share in zip(shown, shares):
        assert frame.count(address(share - 0.5)) == 4
        assert f"{share:.2f} of “{SENTENCES[0]}”" in frame
    assert '["1.00","0.50","0.00"]' in block.html


def test_the_grid_of_styles_has_a_row_a_style_and_a_column_a_sentence():
    styles = torch.stack([plain(1, value=value)[0] for value in (-0.8, 0.8)])
    drawn = matching.style_grid(styles, SENTENCES, plain(2, 3, value=0.1))
    assert [drawn.svg.count(address(value)) for value in (-0.8, 0.8, 0.1)] == [1, 1, 6]
    order = np.argsort([drawn.svg.index(address(value)) for value in (-0.8, 0.1, 0.8)])
    assert list(order) == [0, 1, 2] and all(sentence in drawn.alt for sentence in SENTENCES)


@pytest.mark.parametrize("draw, words", [
    (lambda: matching.training_player([1, 2], plain(1, 3), SENTENCES), r"\(2, 3, 3, s, s\)"),
    (lambda: matching.between_sentences("a", "b", [1, 0], plain(3, 2)), r"\(2, 2, 3, s, s\)"),
    (lambda: matching.between_sentences("a", "b", [1, 0], plain(2)), "shares, noises"),
    (lambda: matching.between_sentences("a", "b", [1, -1], plain(2, 2)), "between 0 and 1"),
    (lambda: matching.style_grid(plain(2), SENTENCES, plain(3, 3)), r"\(2, 3, 3, s, s\)")])
def test_pictures_that_do_not_fit_are_refused(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()
