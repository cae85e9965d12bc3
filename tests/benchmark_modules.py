"""The programs of benchmarks/ as modules."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = str(Path(__file__).parents[1] / "benchmarks")


def benchmark_module(name: str) -> ModuleType:
    """A benchmark by its name; where a peer that it imports is missing, the tests that ask are skipped."""
    if FOLDER not in sys.path:
        sys.path.append(FOLDER)
    return pytest.importorskip(name)
