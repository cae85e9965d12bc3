"""The pictures of the studies show every model that was measured."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmlearn.experiments import results
from mmlearn.experiments.text_for_vision import caption_bias as bias
from mmlearn.figures.text_for_vision import studies as figures_g


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_every_reference_model_and_every_run_is_a_point_of_the_robustness_plot():
    study = results("robustness")
    panels = figures_g.robustness(study, ("moved", "blurred")).axes
    for axis, shift in zip(panels, ("moved", "blurred")):
        points = [line for line in axis.lines if line.get_linestyle() == "None"]
        assert len(points[0].get_xdata()) == len(study["reference"]) and len(points) == 1 + len(study["runs"])
        assert list(points[0].get_ydata()) == pytest.approx(
            [m["accuracy"][shift] for m in study["reference"]]
        )


def test_curves_go_through_the_means_over_seeds():
    study = results("noise-scale")
    axis = figures_g.noise_against_size(study).axes[0]
    assert list(axis.lines[1].get_ydata()) == pytest.approx(
        [np.mean(study["noisy"][k]) for k in sorted(study["noisy"], key=int)]
    )
    curves = results("unicl")["curves"]
    panel = figures_g.curves_of_losses(results("unicl"), ("one wording",)).axes[0]
    assert panel.lines[1].get_ydata()[-1] == pytest.approx(
        np.mean([run["top-1"][-1] for run in curves["one wording"]["UniCL"]])
    )


def test_bars_fill_up_to_one_and_gaps_are_dots():
    figure = figures_g.shares({"a": [[0.2, 0.8], [0.5, 0.5]]}, bias.GROUPS, bias.ROLES)
    tops = [bar.get_y() + bar.get_height() for bar in figure.axes[0].patches]
    assert max(tops) == pytest.approx(1) and len(tops) == 4
    study = results("caption-bias")
    dots = [line for line in figures_g.amplification(study).axes[0].lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_ydata()) for line in dots) == sum(
        len(study["runs"][str(a)]) for a in bias.AGREEMENTS
    )


def test_labels_are_drawn_for_each_group_and_role():
    labels = {"0.1": [[0.9, 0.4], [0.3, 0.8]], "0.5": [[0.7, 0.1], [0.0, 0.6]]}
    figure = figures_g.labels_by_threshold(labels, bias.GROUPS, bias.ROLES)
    assert [list(line.get_ydata()) for line in figure.axes[1].lines] == [[0.3, 0.0], [0.8, 0.6]]
