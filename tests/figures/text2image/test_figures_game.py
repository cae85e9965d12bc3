"""The figures of the game show its numbers, and the points that they were given."""

import json
import math
import re

import matplotlib.pyplot as plt
import pytest
import torch

from mmlearn.figures.interactive import LIMIT, Block
from mmlearn.figures.text2image import game
from mmlearn.figures.text2image.game import Snapshots, game_on_a_line, line_game, modes_over_training
from mmlearn.text2image.gan import GAN, GANConfig, GaussianMixture, grid, train_gan

RING = GaussianMixture.ring(std=0.05)


def block_data(block: Block) -> dict:
    page = block._repr_html_()
    assert len(page) < LIMIT
    return json.loads(re.search(r"const D = (\{.*\});\n", page).group(1))


def looked_at(steps, points) -> Snapshots:
    run = Snapshots(every=1)
    run.steps, run.points = list(steps), list(points)
    return run


def test_a_game_on_a_line_is_that_of_two_bells():
    """JSD by a sum over another grid, densities written out."""
    mean, std = -0.5, 1.4
    found = line_game(mean, std)
    x = torch.linspace(-9, 10, 7001, dtype=torch.float64)

    def bell(m, s):
        return (-((x - m) ** 2) / (2 * s**2)).exp() / (s * math.sqrt(2 * math.pi))

    p, q = bell(1.0, 0.7), bell(mean, std)
    value = (p * (p / (p + q)).log() + q * (q / (p + q)).log()).sum() * (x[1] - x[0])
    assert found["C"].item() == pytest.approx(value.item(), abs=1e-4)
    torch.testing.assert_close(found["D"], found["p"] / (found["p"] + found["q"]), rtol=1e-6, atol=1e-9,
                               equal_nan=True)


def test_far_out_the_best_discriminator_is_known_where_densities_round_to_nothing():
    found = line_game(-4, 0.35)
    assert found["q"][-1] == 0 and found["D"][-1] == 1 and found["D"].isfinite().all()


def test_the_sliders_reach_the_optimum_and_say_its_value():
    block = game_on_a_line(means=[-4, 0, 1.0], widths=[0.35, 0.7])
    data = block_data(block)
    assert data["axes"] == [["-4", "0", "1.0"], ["0.35", "0.7"]]
    labels = [re.search(r"C\(G\) = (−?[\d.]+) = −log 4 \+ 2 · ([\d.]+)", frame).groups()
              for frame in data["frames"]]
    values = [(float(C.replace("−", "-")), float(JSD)) for C, JSD in labels]
    assert values[5] == (-1.386, 0.0) and values[0] == (-0.0, 0.693)
    for C, JSD in values:
        assert C == pytest.approx(-math.log(4) + 2 * JSD, abs=2e-3)


def test_plots_are_drawn_with_named_axes():
    x = torch.linspace(-3, 3, 31)
    for figure in (game.logit_gradients(), game.learned_logit(x, -x**2, -(x - 1) ** 2, 1 - 2 * x)):
        (axis,) = figure.axes
        assert axis.get_xlabel() and axis.get_ylabel() and len(axis.get_legend().get_texts()) >= 2
        plt.close(figure)


def test_the_figures_of_the_side_page_show_one_panel_or_line_each():
    plane = game.discriminators_in_the_plane(torch.rand(25), torch.rand(25), 3)
    assert [axis.get_title() for axis in plane.axes[:2]] == ["the best D", "the trained D"]
    x = torch.linspace(-1, 1, 11)
    bells = game.fitted_bells(x, x.softmax(0), {"a": x.softmax(0), "b": (-x).softmax(0)})
    assert [line.get_label() for line in bells.axes[0].lines] == ["a", "b"]
    paths = game.paths_of_two({"one": [(1.0, 0.5), (0.9, 0.6)], "two": [(1.0, 0.5), (0.5, 0.1)]})
    assert [axis.get_title() for axis in paths.axes] == ["one", "two"]
    for figure in (plane, bells, paths):
        plt.close(figure)


def test_the_map_of_a_plane_has_the_second_coordinate_upwards():
    upper = (grid(-1, 1, 5)[:, 1] > 0).float()                          # D = 1 above the middle
    figure = game.discriminators_in_the_plane(upper, upper, 1)
    image = figure.axes[0].images[0]
    assert image.origin == "lower" and image.get_array()[-1].min() == 1 and image.get_array()[0].max() == 0
    plt.close(figure)


def test_snapshots_follow_the_same_noise_through_training():
    torch.manual_seed(0)
    gan, run = GAN(GANConfig.mini()), Snapshots(every=2, n=6)
    train_gan(gan, RING.sample, 4, batch=8, on_step=run)
    assert run.steps == [1, 2, 4] and [tuple(points.shape) for points in run.points] == [(6, 2)] * 3
    with torch.no_grad():
        assert torch.equal(run.points[-1], gan(run.z))
    assert not torch.equal(run.points[0], run.points[1])


def test_the_player_counts_modes_and_draws_the_share_of_each():
    one = RING.centres[2].expand(40, 2)
    runs = {"all": looked_at([1, 50], [torch.zeros(40, 2), RING.centres.repeat(5, 1)]),
            "one": looked_at([1, 50], [torch.full((40, 2), 99.0), one])}
    block = modes_over_training(runs, RING)
    first, last = block_data(block)["frames"]
    assert "after 1 steps. all: 0 of 8 modes, 0% good; one: 0 of 8 modes, 0% good" in first
    page = last or block._repr_html_()
    assert "after 50 steps. all: 8 of 8 modes, 100% good; one: 1 of 8 modes, 100% good" in page
    assert first.count("h0M") == 39                             # 40 points in sight, the others are far out
    assert "d=\"M0 0\"" in first


@pytest.mark.parametrize("runs", [
    {}, {"a": looked_at([], [])},
    {"a": looked_at([1], [torch.zeros(3, 2)]), "b": looked_at([2], [torch.zeros(3, 2)])}])
def test_runs_that_were_looked_at_otherwise_are_refused(runs):
    with pytest.raises(ValueError, match="give one or two with the same steps"):
        modes_over_training(runs, RING)
