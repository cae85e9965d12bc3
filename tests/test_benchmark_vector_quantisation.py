"""The benchmark of vector quantisation compares the same computation, done in several ways."""

from argparse import Namespace

import pytest
from benchmark_modules import benchmark_module

benchmark = benchmark_module("vector_quantisation")

ARGS = Namespace(vectors=256, step_vectors=256, codes=20, width=6, device="cpu")


@pytest.mark.parity
@pytest.mark.parametrize("task", benchmark.TASKS)
def test_all_ways_give_the_same_codes_errors_and_gradients(task):
    z, codes = benchmark.inputs(task, ARGS)
    ways = {way: benchmark.prepared(task, way, z, codes) for way in benchmark.TASKS[task]}
    benchmark.compare(task, ways)


def test_a_way_with_other_results_is_refused():
    z, codes = benchmark.inputs("search", ARGS)
    ours = benchmark.prepared("search", "mmlearn", z, codes)
    with pytest.raises(AssertionError, match="search"):
        benchmark.compare("search", {"mmlearn": ours, "other": lambda: [(ours()[0] + 1) % 20]})
    step = benchmark.prepared("gradient step", "mmlearn", z, codes)
    with pytest.raises(AssertionError, match="gradient step"):
        benchmark.compare("gradient step", {"mmlearn": step, "other": lambda: [
            value if i == 0 else 2 * value for i, value in enumerate(step())]})
