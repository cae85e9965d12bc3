"""The benchmark of the search for vokens compares ways that find the same pictures."""

from argparse import Namespace

import pytest
from benchmark_modules import benchmark_module

benchmark = benchmark_module("voken_retrieval")

ARGS = Namespace(tokens=70, images=900, width=8, device="cpu")


@pytest.mark.parity
def test_all_ways_find_the_same_pictures():
    f, g = benchmark.inputs(ARGS)
    assert benchmark.offered(ARGS) == benchmark.WAYS
    benchmark.compare(f, g, {way: benchmark.prepared(way, f, g) for way in benchmark.WAYS})


def test_a_way_that_finds_others_is_refused():
    f, g = benchmark.inputs(ARGS)
    ours = benchmark.prepared("mmlearn", f, g)
    with pytest.raises(AssertionError, match="other"):
        benchmark.compare(f, g, {"mmlearn": ours, "other": lambda: (ours() + 1) % 900})
