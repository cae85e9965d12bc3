"""The pictures of the two studies show what was stored."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmlearn.figures.text_for_vision.efficiency import efficiency_curves, paired_differences, scale_curves


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_an_arm_is_its_mean_and_range_from_nothing_on():
    study = {"arms": {"captioner": {"runs": [{"images": [1000, 2000], "top-1": [0.1, 0.2]},
                                             {"images": [1000, 2000], "top-1": [0.3, 0.4]}]}}}
    axis = efficiency_curves(study, {"captioner": ([1000], [0.25])}).axes[0]
    mean, live = axis.lines
    np.testing.assert_allclose(mean.get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(mean.get_ydata(), [0, 0.2, 0.3])
    np.testing.assert_allclose([live.get_xdata()[0], live.get_ydata()[0]], [1, 0.25])
    band = axis.collections[0].get_paths()[0].get_extents()
    assert band.ymin == 0 and np.isclose(band.ymax, 0.4)


def test_a_scale_has_one_line_a_seed_and_one_name_a_variant():
    run = {"curve": {"step": [1, 2], "scale": [14.3, 15.0]}}
    axis = scale_curves({"variants": {"CLIP": [run, run], "other": [run]}}, ("CLIP",)).axes[0]
    assert len(axis.lines) == 2 and [t.get_text() for t in axis.get_legend().get_texts()] == ["CLIP"]


def test_differences_are_those_of_equal_seeds_and_say_their_verdict():
    def runs(*values):
        return [{"scores": {"top-1": value}} for value in values]

    figure = paired_differences({"CLIP": runs(0.5, 0.4), "worst": runs(0.3, 0.2), "as good": runs(0.6, 0.3)},
                                "top-1")
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.lines[1].get_xdata(), [-0.2, -0.2])
    np.testing.assert_allclose(axis.lines[3].get_xdata(), [0.1, -0.1])
    np.testing.assert_allclose(axis.lines[2].get_xdata(), [-0.2, 0.2])      # two standard errors of 0.1
    assert [text.get_text() for text in axis.texts] == ["worse", "cannot tell"]
    assert axis.lines[1].get_color() != axis.lines[3].get_color()
