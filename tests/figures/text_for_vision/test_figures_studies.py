"""The pictures of the studies show every model that was measured."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmlearn.experiments import results
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
