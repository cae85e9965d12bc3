"""The benchmark of skip-gram compares two trainings that learn the same."""

from argparse import Namespace

import pytest
from benchmark_modules import benchmark_module

benchmark = benchmark_module("skip_gram")
ARGS = Namespace(dim=16, epochs=1, workers=1)


@pytest.mark.parity
@pytest.mark.parametrize("task", benchmark.TASKS)
def test_both_come_to_the_same_loss_on_text_that_neither_has_seen(task):
    losses = benchmark.compare(task, ARGS, tokens=30_000, words=300)
    assert all(0 < loss < 6 for loss in losses.values())


@pytest.mark.parity
def test_a_training_that_learns_something_else_is_refused(monkeypatch):
    losses = iter([2.0, 2.1])
    monkeypatch.setattr(benchmark, "loss_of", lambda *_: next(losses))
    with pytest.raises(AssertionError, match="hs"):
        benchmark.compare("hs", ARGS, tokens=2000, words=50)


def test_a_drawn_corpus_has_the_asked_size_and_is_the_same_each_time():
    sentences = benchmark.corpus(1000, 50)
    assert len(sentences) == 50 and {len(s) for s in sentences} == {20}
    assert sentences == benchmark.corpus(1000, 50) != benchmark.corpus(1000, 50, seed=1)
