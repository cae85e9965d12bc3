"""The figures of the grounded space show the sizes of the configurations and where words lie."""

import json
import re
import xml.etree.ElementTree as ET
from itertools import combinations

import matplotlib.pyplot as plt
import pytest
import torch

from mmlearn.data.vocabulary import Vocabulary
from mmlearn.data.word_vectors import WordVectors
from mmlearn.data.word_world import sentences
from mmlearn.figures.diagram import Diagram, text_width
from mmlearn.figures.images_for_language import grounded_space as figures
from mmlearn.figures.interactive import LIMIT, Block
from mmlearn.images_for_language.grounded_space import GroundedSpaceConfig
from mmlearn.images_for_language.multimodal_skip_gram import (
    MultimodalSkipGramConfig,
    train_multimodal_skip_gram,
)
from mmlearn.images_for_language.zero_shot import unit_rows

SVG = "{http://www.w3.org/2000/svg}"
WORDS = ("robin", "husky", "canary")
DRAWN = [("papers", figures.two_models),
         ("fc7", lambda: figures.two_models(b=MultimodalSkipGramConfig.fc7())),
         ("minis", lambda: figures.two_models(MultimodalSkipGramConfig.mini_a(),
                                              MultimodalSkipGramConfig.mini())),
         ("sentences", figures.sentences_grounded),
         ("sentences-mini", lambda: figures.sentences_grounded(GroundedSpaceConfig.mini()))]


def texts(drawn: Diagram) -> list[str]:
    return ["".join(text.itertext()) for text in ET.fromstring(drawn.svg).iter(f"{SVG}text")]


def frames(drawn: Diagram) -> list[tuple[str, float, float, float, float]]:
    """Each text with its left, top, right and bottom edge, as far as they can be known without a browser."""
    found = []
    for text in ET.fromstring(drawn.svg).iter(f"{SVG}text"):
        words, size = "".join(text.itertext()), float(text.get("font-size", 14))
        x, y = float(text.get("x", 0)), float(text.get("y", 0))
        wide = text_width(words, size)
        left = x - wide * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor", "start")]
        found.append((words, left, y - 0.75 * size, left + wide, y + 0.2 * size))
    return found


def block_data(block: Block) -> dict:
    page = block._repr_html_()
    assert len(page) < LIMIT
    return json.loads(re.search(r"const D = (\{.*\});\n", page).group(1))


@pytest.mark.parametrize("draw", [draw for _, draw in DRAWN], ids=[name for name, _ in DRAWN])
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert drawn.width <= 480 and len(drawn.alt) > 200 and "  " not in drawn.alt and "mm-new" in drawn.svg
    assert len(drawn._repr_html_()) < 100_000
    places = frames(drawn)
    for words, left, top, right, bottom in places:
        assert left >= 0 and right <= drawn.width and top >= 0 and bottom <= drawn.height, words
    for (one, l1, t1, r1, b1), (other, l2, t2, r2, b2) in combinations(places, 2):
        assert min(r1, r2) - max(l1, l2) < 1 or min(b1, b2) - max(t1, t2) < 1, f"{one} covers {other}"


def test_sizes_on_the_diagrams_are_those_of_the_configurations():
    papers = figures.two_models()
    assert {"20 others", "5 others", "M, 300 × 300", "zw = vw M"} <= set(texts(papers))
    assert "M, 300 × 4096" in texts(figures.two_models(b=MultimodalSkipGramConfig.fc7()))
    assert "4096 numbers" in figures.two_models(b=MultimodalSkipGramConfig.fc7()).alt
    assert "g, 512" in texts(figures.sentences_grounded())
    assert "t, 64" in texts(figures.sentences_grounded(GroundedSpaceConfig.mini()))


@pytest.fixture(scope="module")
def moments():
    text = sentences(600)
    vocabulary = Vocabulary.of(text)
    config = MultimodalSkipGramConfig(len(vocabulary), 6, "hs", 2, min_count=1, sample=0.0, epochs=1,
                                      features=6, others=3)
    before = train_multimodal_skip_gram(text, None, config, vocabulary=vocabulary, progress=False).model
    start = before.W_in.detach().clone()
    seen = WordVectors(WORDS[:2], torch.eye(6)[:2])
    found = figures.pulled(before, seen, text, parts=3, lr=0.05)
    assert torch.equal(before.W_in, start)                                  # a copy is trained
    with pytest.raises(ValueError, match="0 parts of 600 sentences"):
        figures.pulled(before, seen, text, parts=0)
    return found


def test_pictured_words_are_pulled_to_their_pictures(moments):
    assert list(moments) == [0, 200, 400, 600]
    for i, word in enumerate(WORDS[:2]):
        cosines = [float(unit_rows(at[word])[i]) for at in moments.values()]
        assert cosines[-1] > cosines[0]


def test_the_player_says_how_near_words_are_to_their_pictures(moments):
    pictures = WordVectors(WORDS, torch.eye(6)[:3])
    data = block_data(figures.words_in_motion(moments, pictures, WORDS, WORDS[:2]))
    assert len(data["frames"]) == 4 and data["under"].count("<image") == 3
    labels = re.findall(r'mm-label">([^<]*)<', "".join(data["frames"]))
    last = moments[600]
    seen = sum(float(unit_rows(last[word])[i]) for i, word in enumerate(WORDS[:2])) / 2
    assert labels[-1] == (f"600 sentences with pictures: cosine with the own picture {seen:.2f} of nouns "
                          f"pictured, {float(unit_rows(last['canary'])[2]):.2f} of those never pictured")
    assert "stroke-dasharray" in data["frames"][1] and data["frames"][1].count("mm-new") >= 2
    with pytest.raises(ValueError, match="1 words have no plane"):
        figures.words_in_motion(moments, pictures, WORDS[:1], WORDS)


def test_lengths_are_drawn_relative_to_their_start():
    figure = figures.lengths_over_steps({"both": [2.0, 2.0], "one": [2.0, 3.0]})
    assert [line.get_ydata()[-1] for line in figure.axes[0].lines] == [1.0, 1.5]
    plt.close(figure)


def test_bars_have_the_height_of_the_mean_and_a_dot_a_seed():
    rows = {"A": {"seen": [0.2, 0.4], "abstract": [0.0, 0.1]}, "B": {"seen": [0.1, 0.1], "abstract": [0, 0]}}
    figure = figures.moved_by_kind(rows)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([0.3, 0.1, 0.05, 0.0]) and len(figure.axes[0].lines) == 4
    plt.close(figure)


def test_names_at_one_spot_stand_above_each_other():
    words, spots = ("raven", "dove", "jogger"), [(100.0, 200.0), (104.0, 199.0), (300.0, 200.0)]
    one, two, far = figures.stacked(words, spots)
    assert (one, far) == (187, 187) and two <= one - 16
