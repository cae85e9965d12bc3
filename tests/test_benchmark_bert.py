"""The benchmark of BERT's step compares the same computation in both."""

from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from benchmark_modules import benchmark_module

from mmlearn.nn.bert import BERTConfig

benchmark = benchmark_module("bert")

ARGS = Namespace(size="base", batch=3, length=10, device="cpu")


@pytest.fixture
def tiny(monkeypatch):
    """Both models, small."""
    monkeypatch.setattr(benchmark, "config", lambda task, args: replace(
        BERTConfig(200, 512, 16, 2, 2, 32, dropout=0.0), pooler=task == "pre-training"))


@pytest.mark.parity
@pytest.mark.parametrize("task", benchmark.TASKS)
def test_both_have_the_same_loss_and_gradients_and_go_on_alike(tiny, task):
    for step in benchmark.ways(task, ARGS).values():
        first, second = float(step()), float(step())
        assert second < first
    theirs = benchmark.peer(task, ARGS)
    mine = benchmark.ours(task, ARGS, theirs)
    with torch.no_grad():
        mine.words.bias[7] += 5
    with pytest.raises(AssertionError):
        benchmark.compare(mine, theirs, ARGS)
