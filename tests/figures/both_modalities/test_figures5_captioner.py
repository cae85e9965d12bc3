"""The figures of the recurrent attention captioner: diagrams say all in words, weights are the model's."""

import re

import pytest
import torch
from figure_parts import check_texts, frames, texts

from mmlearn.both_modalities.attention_captioner import (
    AttentionCaptionerConfig,
    RecurrentAttentionCaptioner,
)
from mmlearn.data.scenes import portrait, render
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.both_modalities import captioner
from mmlearn.nn.modes import seeded

WORDS = WordTokeniser.train(["a red car on the street"], splitter="simple")


@pytest.fixture(scope="module")
def model():
    config = AttentionCaptionerConfig(features=5, vocab=len(WORDS), embedding=4, width=6, attention=3)
    with seeded(0):
        return RecurrentAttentionCaptioner(config)


def test_no_text_of_the_diagram_is_cut_off_or_covers_another_and_attention_stands_where_it_reads():
    drawn = captioner.two_captioners()
    assert drawn.width <= 500 and len(drawn.alt) > 300 and "512 numbers" in drawn.alt
    check_texts(drawn)
    said = texts(drawn)
    assert said.count("attention") == 2 and "ht asks" in said and "ht−1 asks" in said


def test_a_word_shows_the_weights_by_which_it_was_said(model):
    grid, picture = torch.randn(4, 5), torch.rand(3, 8, 8)
    words, weights = captioner.gazes(model, WORDS, grid, "a red car")
    assert words == ["a", "red", "car", "(end)"] and weights.shape == (4, 4)
    read = model.eval().read(WORDS.batch(["a red car"])[:, :-1], model.encode(grid[None])).weights[0]
    torch.testing.assert_close(weights, read)
    shown = frames(captioner.where_it_looks(model, WORDS, grid, picture, "a red car"))
    for row, frame in zip(weights, shown):
        assert f"{float(row.max()):.2f}" in frame
    veils = [float(x) for x in re.findall(r'opacity="([\d.]+)"', shown[1])]
    want = 0.8 * (1 - weights[1] / weights[1].max())
    assert veils[-4:] == pytest.approx(want.tolist(), abs=1e-3)


def test_the_reading_is_the_weighted_mean_and_its_arrows_the_jacobian():
    block = captioner.reading_plane(steps=(0, 2))
    first, second = frames(block)
    V = torch.tensor([[-2.0, -1.0], [2.0, -1.0], [0.0, 2.0]])
    for frame, score in ((first, 0.0), (second, 2.0)):
        weights = torch.tensor([score, 0.0, 0.0]).softmax(0)
        v = weights @ V
        longest = max(float(weights[i] * (V[i] - v).norm()) for i in range(3))
        assert f"the reading is at ({v[0]:.2f}, {v[1]:.2f})" in frame
        assert f"longest arrow {longest:.2f}" in frame
    for frame in captioner.reading_plane().html.split("<svg")[:1]:
        assert frame


def test_no_text_of_the_plane_covers_another():
    cells, weights = torch.tensor([[-2.0, -1.0], [2.0, -1.0], [0.0, 2.0]]).numpy(), torch.ones(3).numpy() / 3
    check_texts(captioner._plane(cells, weights, weights @ cells, cells / 3, 0))


def test_weight_on_a_named_thing_is_that_of_its_pixels(model):
    scene = portrait("car", colour="red", setting="street")
    grid = torch.randn(16, 5)
    found = captioner.on_what_is_named(model, WORDS, grid[None], [scene], ["a red car on the street"])
    mask = render(scene, size=32).masks[0]
    weights = captioner.gazes(model, WORDS, grid, "a red car on the street")[1][2]
    want = sum(float(weights[4 * y + x]) * mask[8 * y:8 * y + 8, 8 * x:8 * x + 8].mean()
               for y in range(4) for x in range(4))
    assert found.tolist() == [pytest.approx([want, mask.mean()], abs=1e-5)]
