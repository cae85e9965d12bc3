"""The figures of section 4.6 show what was measured, and the colour of a bar is a role."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mmlearn.experiments import results
from mmlearn.experiments.text_for_vision import caption_bias as bias
from mmlearn.figures.text_for_vision import bias as figures


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_each_person_stands_under_the_role_that_its_captions_give_and_no_title_touches_the_next():
    crowd = bias.people(12, 0.9)
    figure = figures.called(crowd, 6)
    figure.canvas.draw()
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == [f"“{bias.ROLES[r]}”" for r in crowd.role[:6].tolist()]
    boxes = [axis.title.get_window_extent() for axis in shown]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not any(box.overlaps(axis.get_window_extent()) for box in boxes for axis in shown)
    assert all(axis.title.get_text().strip("“”") in crowd.data.captions[i][0]
               for i, axis in enumerate(shown))


def test_fewer_people_than_places_leave_places_empty():
    assert sum(bool(axis.images) for axis in figures.called(bias.people(2, 0.9), 6).axes) == 2


def test_gaps_of_answers_and_of_probabilities_are_marks_of_their_own():
    study = results("caption-bias")
    axis = figures.amplification(study).axes[0]
    marks = {kind: [line for line in axis.lines if line.get_marker() == kind] for kind in "ox"}
    for (i, agreement), kind in zip([(i, a) for i, a in enumerate(bias.AGREEMENTS)] * 2, "oooo" + "xxxx"):
        runs, line = study["runs"][str(agreement)], marks[kind][i]
        want = [run["gap"] if kind == "o" else abs(run["probabilities"][0][0] - run["probabilities"][1][0])
                for run in runs]
        np.testing.assert_allclose(line.get_ydata(), want)
        assert np.mean(line.get_xdata()) == pytest.approx(2 * agreement - 1)


def test_bars_fill_up_to_one_and_a_colour_is_a_role_in_each_of_them():
    figure = figures.shares({"a": [[0.2, 0.8], [0.5, 0.5]], "b": [[0.1, 0.9], [1.0, 0.0]]}, bias.GROUPS,
                            bias.ROLES)
    for axis in figure.axes[:2]:
        tops = [bar.get_y() + bar.get_height() for bar in axis.patches]
        assert max(tops) == pytest.approx(1) and len(tops) == 4
        colours = [to_hex(bar.get_facecolor()) for bar in axis.patches]
        assert colours == [to_hex(c) for c in figures.ROLE_COLOURS[:2]] * 2
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [f"called {role}" for role in bias.ROLES]


def test_labels_are_drawn_for_each_group_and_role_in_the_colour_of_the_role():
    labels = {"0.1": [[0.9, 0.4], [0.3, 0.8]], "0.5": [[0.7, 0.1], [0.0, 0.6]]}
    figure = figures.labels_by_threshold(labels)
    assert [list(line.get_ydata()) for line in figure.axes[1].lines] == [[0.3, 0.0], [0.8, 0.6]]
    assert [line.get_color() for line in figure.axes[1].lines] == list(figures.ROLE_COLOURS[:2])
