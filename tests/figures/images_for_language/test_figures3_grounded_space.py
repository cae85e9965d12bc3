"""The figures of the grounded space show the sizes of the configurations and where words lie."""

import re

import matplotlib.pyplot as plt
import pytest
import torch
from figure_parts import block_data, check_texts, texts

from mmlearn.data.vocabulary import Vocabulary
from mmlearn.data.word_vectors import WordVectors
from mmlearn.data.word_world import sentences
from mmlearn.figures.images_for_language import grounded_space as figures
from mmlearn.images_for_language.grounded_space import GroundedSpaceConfig
from mmlearn.images_for_language.multimodal_skip_gram import (
    MultimodalSkipGramConfig,
    train_multimodal_skip_gram,
)
from mmlearn.images_for_language.sequential_fusion import unit_rows

WORDS = ("robin", "husky", "canary")
DRAWN = [("papers", figures.two_models),
         ("fc7", lambda: figures.two_models(b=MultimodalSkipGramConfig.fc7())),
         ("minis", lambda: figures.two_models(MultimodalSkipGramConfig.mini_a(),
                                              MultimodalSkipGramConfig.mini())),
         ("sentences", figures.sentences_grounded),
         ("sentences-mini", lambda: figures.sentences_grounded(GroundedSpaceConfig.mini()))]


@pytest.mark.parametrize("draw", [draw for _, draw in DRAWN], ids=[name for name, _ in DRAWN])
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert drawn.width <= 480 and len(drawn.alt) > 200 and "  " not in drawn.alt and "mm-new" in drawn.svg
    assert len(drawn._repr_html_()) < 100_000
    check_texts(drawn)


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
