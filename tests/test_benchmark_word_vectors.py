"""The benchmarks of word vectors and of GloVe compare the same computation, done in two ways."""

from argparse import Namespace

import numpy as np
import pytest
from benchmark_modules import benchmark_module

files, glove = benchmark_module("word_vectors"), benchmark_module("glove")
VECTORS = Namespace(words=30, dim=4)
GLOVE = Namespace(words=30, tokens=600, dim=4, steps=3)


@pytest.mark.parity
@pytest.mark.parametrize("task", files.TASKS)
def test_both_ways_read_the_same_vectors_and_write_the_same_bytes(task, tmp_path):
    vectors = files.some_vectors(VECTORS)
    ways = {way: files.prepared(task, way, tmp_path, vectors) for way in files.WAYS}
    files.compare(task, ways, tmp_path)
    files.compare(task, ways, tmp_path)


@pytest.mark.parity
def test_all_ways_of_glove_give_the_same_vectors():
    counts = glove.corpus_counts(30, 600)
    ways = {way: glove.prepared(way, counts, GLOVE) for way in glove.WAYS}
    glove.compare(ways)
    with pytest.raises(AssertionError):
        glove.compare({**ways, "mmlearn float64": lambda: np.asarray(ways["mittens"]()) + 1e-3})
