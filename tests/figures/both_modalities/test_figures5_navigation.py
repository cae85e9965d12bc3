"""The figures of walks: diagrams say all in words; what moves is what the walker does."""

import pytest
import torch
from figure_parts import check_texts, drawing, frames, texts

from mmlearn.both_modalities.walker import Walker, WalkerConfig
from mmlearn.data.navigation import STOP, make_walks
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.both_modalities import navigation
from mmlearn.nn.modes import seeded


@pytest.fixture(scope="module")
def walks():
    return make_walks(6, houses=2, size=32, steps=(3, 4))


@pytest.fixture(scope="module")
def words(walks):
    return WordTokeniser.train(walks.instructions, splitter="simple")


@pytest.fixture(scope="module")
def model(words):
    with seeded(1):
        return Walker(WalkerConfig(len(words), 6, 8, (4, 6), most=4))


@pytest.mark.parametrize("draw", [navigation.walker, navigation.three_ways])
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert drawn.width <= 480 and len(drawn.alt) > 150
    check_texts(drawn)


def test_sizes_of_the_walker_are_those_of_its_configuration():
    said = " ".join(texts(navigation.walker()))
    assert "64 → 128" in said and "128 numbers" in said


def test_three_ways_count_by_the_formula():
    said = texts(navigation.three_ways())
    assert said.count("success 1") == 2 and said.count("success 0") == 1
    assert "counts 3/3 = 1.00" in said and "counts 3/5 = 0.60" in said and "counts 0" in said


def test_a_traced_walk_is_the_one_that_the_walker_goes(model, walks, words):
    for number in range(3):
        steps = navigation.traced(model, walks, words, number)
        one = walks.rows([number])
        trail = model.eval()(one, words.batch(one.instructions)).trail
        assert [step.room for step in steps] == trail.rooms[0, :len(steps)].tolist()
        assert (steps[-1].action == STOP) == bool(trail.stopped[0])
        for step in steps:
            assert int(step.policy.argmax()) == step.action
            assert float(step.policy.sum()) == pytest.approx(1, abs=1e-5)
            assert float(step.words.sum()) == pytest.approx(1, abs=1e-5)


def test_the_moving_walk_says_what_is_done_and_how_likely_it_was(model, walks, words):
    steps = navigation.traced(model, walks, words, 0)
    shown = frames(navigation.walking(model, walks, words, 0))
    assert len(shown) == len(steps)
    for i, (step, frame) in enumerate(zip(steps, shown)):
        assert f"{float(step.policy[step.action]):.2f}" in frame
        name = "stop" if step.action == STOP else f"go {navigation.DIRECTIONS[step.action]}"
        assert f"step {i + 1}: {name}" in frame
    for frame in shown[1:]:
        check_texts(drawing(frame))
    assert torch.isfinite(steps[0].policy).all()
