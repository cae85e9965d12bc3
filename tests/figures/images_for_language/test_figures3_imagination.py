"""The figures of imagination: diagrams say all in words, curves are the formulas, the player shows what an
untrained model imagines step by step."""

import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_parts import check_texts, frames, texts

from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.diagram import data_uri
from mmlearn.figures.images_for_language import imagination
from mmlearn.figures.interactive import LIMIT
from mmlearn.images_for_language.iace import IACEConfig
from mmlearn.images_for_language.imagination import embedded
from mmlearn.images_for_language.vqgan_clip import VQGANCLIP, VQGANCLIPConfig
from mmlearn.nn.modes import seeded

TEXTS = ["a red car", "a blue bird"]
WORDS = WordTokeniser.train(TEXTS * 5, splitter="simple")


@pytest.fixture(scope="module")
def model():
    with seeded(0):
        return VQGANCLIP(replace(VQGANCLIPConfig.mini(len(WORDS)), steps=4)).eval()


@pytest.mark.parametrize("draw", [
    imagination.vqgan_clip, imagination.iace, lambda: imagination.vqgan_clip(VQGANCLIPConfig.mini()),
    lambda: imagination.iace(IACEConfig.mini())])
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert len(drawn.alt) > 200 and drawn.width <= 480
    check_texts(drawn)


def test_sizes_in_the_diagrams_are_those_of_the_paper():
    said = texts(imagination.vqgan_clip())
    assert {"256 × 322", "32 cutouts of 2242", "x, 3 × 5122"} <= set(said)
    assert {"t, 512", "v, 512"} <= set(texts(imagination.iace()))


def test_the_spherical_loss_is_half_the_squared_angle_and_its_slope_the_angle():
    left, right = imagination.angle_losses(91).axes
    theta = np.deg2rad(np.asarray(left.lines[0].get_xdata()))
    for axis, line, wanted in ((left, 0, theta**2 / 2), (left, 1, 1 - np.cos(theta)),
                               (right, 0, theta), (right, 1, np.sin(theta))):
        np.testing.assert_allclose(np.asarray(axis.lines[line].get_ydata()), wanted, atol=1e-6)
    plt.close(left.figure)


def test_few_labels_draws_the_mean_of_the_seeds_of_every_arm_and_its_standard_error():
    tasks = {task: {n: {"text": [0.5, 0.7 + shift], "both": [0.9, 0.9]} for n in (16, 64)}
             for task, shift in (("one", 0.0), ("two", 0.1), ("three", 0.2))}
    figure = imagination.few_labels(tasks)
    panels = figure.axes[:3]
    assert [axis.get_title() for axis in panels] == [*tasks]
    for axis, shift in zip(panels, (0.0, 0.1, 0.2)):
        text, both = axis.containers
        assert list(text.lines[0].get_xdata()) == [16, 64]
        np.testing.assert_allclose(text.lines[0].get_ydata(), 0.6 + shift / 2)
        np.testing.assert_allclose(both.lines[0].get_ydata(), 0.9)
        low, high = text.lines[2][0].get_segments()[0][:, 1]
        assert high - low == pytest.approx(0.2 + shift)             # two standard errors of two seeds
        assert np.diff(axis.get_ylim()) >= 0.2
    assert [t.get_text() for t in figure.axes[3].get_legend().get_texts()] == ["text", "both"]
    plt.close(figure)


def test_the_player_shows_what_is_imagined_and_its_loss(model):
    block = imagination.imagining(model, WORDS, TEXTS, frames=3)
    found = model.imagine(embedded(model.clip, WORDS, TEXTS), keep_every=2)
    assert len(block.html.encode()) < LIMIT and found.frame_steps == (0, 2, 4)
    shown = frames(block)
    assert len(shown) == 3
    for frame, pictures in list(zip(shown, found.frames))[1:]:
        assert all(data_uri(pixels, lossless=False) in frame for pixels in pictures)
    said = re.findall(r"after 2 of 4 steps: loss (\d\.\d\d), an angle of about (\d+)°", block.html)
    assert float(said[0][0]) == pytest.approx(float(found.losses[2].mean()), abs=0.006)
    assert float(said[0][1]) == pytest.approx(np.rad2deg((2 * float(found.losses[2].mean()))**0.5), abs=0.6)


@pytest.mark.parametrize("texts, frames, steps, message", [
    ([], 3, 4, "0 texts"), (TEXTS * 2, 3, 4, "4 texts"), (TEXTS, 1, 4, "1 frames"), (TEXTS, 3, 0, "0 steps")])
def test_what_cannot_be_shown_is_refused(model, texts, frames, steps, message):
    other = VQGANCLIP.of(model.vqgan, model.clip, steps=steps)
    with pytest.raises(ValueError, match=message):
        imagination.imagining(other, WORDS, texts, frames)
