"""The benchmark of data2vec on images compares the same step, done in two ways."""

from argparse import Namespace

import pytest
import torch
from benchmark_modules import benchmark_module

benchmark = benchmark_module("data2vec_vision")

ARGS = Namespace(size="mini", layers=3, batch=2, drop_path=0.0, device="cpu")


@pytest.mark.parity
def test_both_ways_make_the_same_steps():
    ways = benchmark.prepared(ARGS)
    for _ in range(3):                              # without skipped blocks every step can be compared
        benchmark.compare(ways)


@pytest.mark.parity
def test_a_way_with_another_loss_is_refused():
    ours = benchmark.prepared(ARGS, ("mmlearn",))["mmlearn"]
    with pytest.raises(AssertionError):
        benchmark.compare({"mmlearn": ours, "other": lambda: ours() + torch.ones(2)})
