import matplotlib.pyplot as plt
import pytest
import torch

from mmlearn.figures.text_for_vision.architecture import (
    activations,
    error_against_compute,
    looks,
)
from mmlearn.text_for_vision.clip import PUBLISHED


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_difference_of_the_two_activations_is_drawn_beside_them():
    left, right = activations(3).axes
    assert [line.get_label() for line in left.lines] == ["GELU", "QuickGELU"]
    gap = right.lines[0].get_ydata()
    assert 0.02 < abs(gap).max() < 0.021 and abs(gap[0]) < 0.02


def test_each_model_stands_at_its_compute_and_its_error():
    axis = error_against_compute(PUBLISHED).axes[0]
    resnets, vits = axis.lines[:2]
    assert len(resnets.get_xdata()) == 5 and len(vits.get_xdata()) == 4
    assert resnets.get_ydata()[0] == pytest.approx(100 - 59.82) and vits.get_xdata()[-1] == pytest.approx(
        395.2
    )


def test_a_picture_is_brightest_where_its_weight_is_largest():
    weights = torch.zeros(1, 16)
    weights[0, 5] = 1.0                                                 # second row, second column of 4 x 4
    figure = looks(torch.ones(1, 3, 32, 32), weights, ["all white"])
    shown = figure.axes[4].images[0].get_array()                        # below the first of four columns
    y, x = divmod(int(shown.sum(-1).argmax()), 32)
    assert 8 <= y < 16 and 8 <= x < 16 and shown.min() == pytest.approx(0.15)


def test_weights_that_are_no_square_are_refused():
    with pytest.raises(ValueError, match="17 weights are no square grid; leave out the class token"):
        looks(torch.ones(1, 3, 32, 32), torch.ones(1, 17), ["x"])
