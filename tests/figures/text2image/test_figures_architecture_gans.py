"""Chapter 2's diagrams say all in words, show the sizes of the package's configurations, cut nothing off."""

import re

import numpy as np
import pytest
from figure_parts import check_texts, texts

from mmlearn.figures.text2image import architecture, successors
from mmlearn.text2image.attngan import AttnGANConfig
from mmlearn.text2image.char_cnn_rnn import CharCNNRNNConfig
from mmlearn.text2image.dcgan import DCGANConfig
from mmlearn.text2image.dfgan import DFGANConfig
from mmlearn.text2image.dmgan import DMGANConfig
from mmlearn.text2image.gan_cls import GANCLSConfig
from mmlearn.text2image.stackgan import StackGANConfig, StackGANv2Config

DIAGRAMS = (architecture.game, architecture.dcgan, architecture.char_cnn_rnn, architecture.gan_cls,
            architecture.family, successors.stackgan, successors.stackgan_v2, successors.attngan,
            successors.damsm, successors.dmgan, successors.dfgan)
VARIANTS = (
    (architecture.dcgan, DCGANConfig.code()), (architecture.char_cnn_rnn, CharCNNRNNConfig.icml()),
    (architecture.gan_cls, GANCLSConfig.coco()), (successors.stackgan, StackGANConfig.coco()),
    (successors.stackgan_v2, StackGANv2Config.mini()), (successors.attngan, AttnGANConfig.coco()),
    (successors.dmgan, DMGANConfig.coco()), (successors.dfgan, DFGANConfig.mini()),
)
DRAWN = [(draw.__name__, lambda draw=draw: draw()) for draw in DIAGRAMS] + [
    (f"{draw.__name__}-variant", lambda draw=draw, config=config: draw(config)) for draw, config in VARIANTS]


@pytest.mark.parametrize("draw", [draw for _, draw in DRAWN], ids=[name for name, _ in DRAWN])
def test_no_text_is_cut_off_or_covers_another_and_a_phone_shows_all(draw):
    drawn = draw()
    assert (drawn.narrow or drawn).width <= 480
    for each in filter(None, (drawn, drawn.narrow)):
        check_texts(each)


@pytest.mark.parametrize("draw", DIAGRAMS, ids=lambda draw: draw.__name__)
def test_a_diagram_says_in_words_what_it_shows_and_marks_what_is_new(draw):
    drawn = draw()
    assert len(drawn.alt) > 200 and "  " not in drawn.alt
    assert "mm-new" in drawn.svg or draw is architecture.char_cnn_rnn
    assert len(drawn._repr_html_()) < 100_000


def test_a_map_has_the_sides_and_channels_of_dcgan():
    shown = texts(architecture.dcgan())
    assert [text for text in shown if re.fullmatch(r"\d+", text)] == [
        "1024", "512", "256", "128", "3", "100", "3", "128", "256", "512", "1024", "1"]
    assert [int(text.split()[0]) for text in shown if re.fullmatch(r"\d+ × \d+", text)] == [
        4, 8, 16, 32, 64, 64, 32, 16, 8, 4]


@pytest.mark.parametrize(("config", "steps"), [
    (CharCNNRNNConfig.cvpr(), ["384 × 66", "512 × 21", "256 × 8"]),
    (CharCNNRNNConfig.icml(), ["384 × 66", "512 × 21", "512 × 18"])])
def test_a_sentence_shrinks_to_as_many_steps_as_the_encoder_reads(config, steps):
    shown = texts(architecture.char_cnn_rnn(config))
    assert [text for text in shown if re.fullmatch(r"\d+ × \d+", text)] == steps
    assert f"mean of {config.steps} states, {config.channels[2]}" in shown


def test_text_enters_both_networks_of_gan_cls_and_three_pairs_are_shown():
    shown = texts(architecture.gan_cls())
    assert shown.count("linear, 128") == 2 and {"228", "512 × 4²", "640 × 4²"} <= set(shown)
    assert [text for text in shown if text in ("real", "not real")] == ["real", "not real", "not real"]


def test_sizes_of_the_successors_are_those_of_their_configurations():
    assert {"228", "512 × 162", "640 × 162", "picture, 3 × 2562"} <= set(texts(successors.stackgan()))
    assert {"h1, 64 × 642", "h2, 32 × 1282"} <= set(texts(successors.stackgan_v2()))
    assert {"h1, 32 × 642", "h2, 32 × 1282", "T × 256"} <= set(texts(successors.attngan()))
    assert {"p × 64", "T × 128", "T × 256"} <= set(texts(successors.dmgan()))
    assert {"256 × 42", "32 × 2562", "6 ×"} <= set(texts(successors.dfgan()))


def test_a_stand_in_is_another_picture_of_the_same_size_and_range():
    picture = architecture.real_picture(48)
    moved = architecture.stand_in(picture)
    assert moved.shape == picture.shape and moved.dtype == np.uint8
    assert np.abs(moved.astype(int) - picture).mean() > 3
    np.testing.assert_array_equal(moved, architecture.stand_in(picture))
