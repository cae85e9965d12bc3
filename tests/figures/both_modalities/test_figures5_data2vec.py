"""The figures of data2vec: the diagram says all in words, masks are those of the masker, curves are the
formulas, studies are shown as they were measured."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figure_parts import SVG, block_data, check_texts, drawing, frames, svg_of, texts

from mmlearn.both_modalities.data2vec import Data2VecConfig
from mmlearn.both_modalities.data2vec_vision import Data2VecVisionConfig, VisionData2Vec, block_mask
from mmlearn.data.images import standardise
from mmlearn.experiments.both_modalities.collapse import ARMS as COLLAPSE_ARMS
from mmlearn.experiments.both_modalities.data2vec_vision import ARMS
from mmlearn.figures.both_modalities import data2vec
from mmlearn.nn.vision import IMAGENET_MEAN, IMAGENET_STD


@pytest.mark.parametrize("sizes", [(6, 3), (4, 2), (6, 1)])
def test_no_text_of_the_diagram_is_cut_off_or_covers_another(sizes):
    drawn = data2vec.teacher_and_student(*sizes)
    assert len(drawn.alt) > 300 and drawn.width <= 480
    check_texts(drawn)


def test_the_blue_blocks_are_the_last_ones():
    drawn = data2vec.teacher_and_student(6, 2)
    assert sum(name.startswith("block") for name in texts(drawn)) == 12
    blue = ["".join(text.itertext()) for text in svg_of(drawn).iter(f"{SVG}text")
            if "mm-block" in text.get("class", "")]
    assert sorted(name for name in blue if name.startswith("block")) == ["block 5", "block 6"]


def test_the_mask_is_that_of_the_masker_block_by_block():
    config = Data2VecVisionConfig.base()
    for seed in range(3):
        steps = data2vec.block_steps(config.grid, config.masked, config.least, seed)
        want = block_mask(config.grid, config.masked, config.least, torch.Generator().manual_seed(seed))
        assert np.array_equal(steps[-1].flatten(), want.numpy()) and not steps[0].any()
        for before, after in zip(steps, steps[1:]):
            assert (after & before == before).all() and after.sum() > before.sum()


def test_hidden_patches_have_one_colour_and_the_others_stay():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    hidden = np.array([[True, False], [False, False]])
    shown = data2vec.with_patches(image, hidden, (1, 2, 3))
    assert (shown[1:4, 1:4] == (1, 2, 3)).all()
    assert (shown[5:, 5:] == image[5:, 5:]).all() and (shown[0] == 255).all()


def test_the_player_shows_every_block_then_what_both_read_and_what_is_asked():
    steps = len(data2vec.block_steps(14, 120, 16, 0))
    block = data2vec.masking()
    found = frames(block)
    assert len(found) == steps + 2
    assert "76 patches and 120 times" in found[-2] and "targets" in found[-1]
    for frame in found[:2]:
        check_texts(drawing(frame))


def test_the_teacher_is_shown_for_every_tau():
    data = block_data(data2vec.slow_teacher())
    assert data["axes"] == [["0", "0.5", "0.9", "0.98", "0.99", "0.999"]]
    assert "693 updates" in data["frames"][-1] and "after 69 updates" in data["frames"][4]


def test_the_loss_is_continuous_and_the_survey_s_is_not():
    figure = data2vec.two_regimes(2.0)
    loss, slope = figure.axes
    e, ours = (np.asarray(part) for part in loss.lines[0].get_data())
    want = np.where(e <= 2, e**2 / 4, e - 1)
    np.testing.assert_allclose(ours, want, atol=1e-6)
    assert loss.lines[1].get_ydata()[-1] == pytest.approx(2.0)          # survey's, up to beta
    assert float(loss.lines[2].get_ydata()[0]) == pytest.approx(1.0, abs=0.01)
    assert float(slope.lines[1].get_ydata()[-1]) == pytest.approx(2.0)
    assert np.max(slope.lines[0].get_ydata()) == pytest.approx(1.0)
    plt.close(figure)


def test_a_study_is_shown_with_a_dot_for_each_seed():
    score = {"target spread": 0.5, "target rank": 9.0, "probe": 0.3}
    study = {"arms": {arm: [{"scores": score, "untrained": score}] * 3 for arm in COLLAPSE_ARMS}}
    figure = data2vec.collapses(study)
    assert [axis.get_title() for axis in figure.axes] == ["spread of targets", "their rank", "probe"]
    assert list(figure.axes[1].lines[0].get_xdata()) == [9.0] * 3
    plt.close(figure)
    run = {question: {"last": 0.25} for question in data2vec.QUESTIONS}
    figure = data2vec.what_was_learned({"arms": {arm: [run] * 2 for arm in ARMS}})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(ARMS)
    plt.close(figure)


def test_behind_the_mask_stands_the_patch_whose_target_is_nearest():
    model = VisionData2Vec.new(Data2VecVisionConfig.mini(), Data2VecConfig.mini())
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    mask = torch.zeros(2, 64, dtype=torch.bool)
    mask[0, 3] = mask[1, 62] = True
    bank = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    found = data2vec.expected(model, images, mask, bank)
    x, y = (standardise(part.float() / 255, IMAGENET_MEAN, IMAGENET_STD) for part in (images, bank))
    predicted, told = model.eval()(x, mask).prediction, model.teach(y)
    for row, place in ((0, 3), (1, 62)):
        best = min(((m, p) for m in range(3) for p in range(64)),
                   key=lambda at: float((told[at] - predicted[row]).square().sum()))
        top, left = 4 * (place // 8), 4 * (place % 8)
        up, side = 4 * (best[1] // 8), 4 * (best[1] % 8)
        assert torch.equal(found[row, :, top : top + 4, left : left + 4],
                           bank[best[0], :, up : up + 4, side : side + 4])
    rest = (found != images).any(dim=1)
    assert int(rest.sum()) <= 2 * 16
    figure = data2vec.behind_the_mask(model, images, mask, bank)
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["picture", "read", "expected"]
    plt.close(figure)
