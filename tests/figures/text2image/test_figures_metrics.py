"""The figures of the metrics show the numbers that they are given."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
import torch

from mmlearn.data.pairs import PairData
from mmlearn.figures.text2image import metrics as figures
from mmlearn.metrics.frechet import extrapolate, root_trace
from mmlearn.metrics.manifolds import precision_recall


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def drawn(n=6):
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 64, 64), dtype=torch.uint8, generator=g)
    return PairData(images, (("A <red> car in the snow.",),) * n)


def test_each_suspect_has_its_pictures_its_sentence_and_its_bars():
    made = {"none": drawn(), "few": replace(drawn(), captions=(("A blue house.",),) * 6)}
    scores = {"none": {"Frechet distance": 4.0, "recall": 0.8},
              "few": {"Frechet distance": 9.0, "recall": 0.1}}
    block = figures.suspects(made, scores)
    assert block.html.count("<script") == 1 and "A blue house." in block.html
    assert "few: Frechet distance 9, recall 0.1" in block.html
    assert "&lt;red&gt;" in block.html and "<red>" not in block.html
    assert len(block.html) < 400_000
    with pytest.raises(ValueError, match="give the same metrics for each"):
        figures.suspects(made, {"none": scores["none"], "few": {"recall": 0.1}})


def test_what_is_worse_is_red_and_what_is_as_good_is_not():
    made = {"none": drawn(1), "other": drawn(1)}

    def colours(**other):
        first = {"Frechet distance": 4.0, "recall": 0.8}
        html = figures.suspects(made, {"none": first, "other": first | other}).html
        return html.count("mm-loss")

    worse = colours(**{"Frechet distance": 9.0}), colours(recall=0.2)
    assert worse[0] == worse[1] > colours() == colours(recall=0.9) == colours(**{"Frechet distance": 1.0})


def test_the_cheapest_angle_is_the_one_that_is_drawn():
    eye, zero = torch.eye(2).double(), torch.zeros(2).double()
    angles = [a / 10 for a in range(-31, 32)]
    costs = [4 - 4 * math.cos(a) for a in angles]                       # unit circles: 2 + 2 - 2 Tr K
    figure = figures.transport(zero, eye, zero, eye, angles, costs, 4 - 2 * root_trace(eye, eye).item())
    real, generated = figure.axes[0].lines[:2]
    assert list(real.get_xdata()) == pytest.approx(list(generated.get_xdata()))          # nothing moves
    assert min(figure.axes[1].lines[0].get_ydata()) == 0 == figure.axes[1].lines[1].get_ydata()[0]


def test_the_line_of_the_bias_ends_at_infinity():
    line = extrapolate(lambda i: 1 + 10 / len(i), 100, [20, 50, 100])
    axis = figures.sample_bias({"none": line}).axes[0]
    points, dashed, star = axis.lines
    assert list(points.get_ydata()) == pytest.approx([1.5, 1.2, 1.1])
    assert dashed.get_ydata()[0] == star.get_ydata()[0] == pytest.approx(1) and star.get_xdata()[0] == 0
    assert [label.get_text() for label in axis.get_xticklabels()] == ["∞", "20", "50", "100"]


def test_a_panel_a_fault_and_a_point_a_level():
    figure = figures.by_level({"noise": {0: 1.0, 0.5: 3.0}, "blur": {0: 1.0, 2: 9.0}},
                              {"noise": "a", "blur": "b"})
    assert [list(axis.lines[0].get_ydata()) for axis in figure.axes] == [[1, 3], [1, 9]]
    assert [axis.get_xlabel() for axis in figure.axes] == ["a", "b"]


def test_points_are_crosses_outside_and_dots_inside_the_balls():
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(30, 2, generator=g), torch.randn(40, 2, generator=g) + 1
    want = precision_recall(real, fake)
    left, right = figures.manifolds(real, fake).axes
    assert len(left.patches) == 30 and len(right.patches) == 40
    for axis, name, share in ((left, "precision", want.precision), (right, "recall", want.recall)):
        assert axis.get_title() == f"{name} {share:.2f}"
        inside, outside = (len(line.get_xdata()) for line in axis.lines[1:])
        assert inside / (inside + outside) == pytest.approx(share)
