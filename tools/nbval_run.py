"""Run notebooks under nbval in one fresh kernel each, with a time limit for every cell.

    python tools/nbval_run.py [--seconds 120] NOTEBOOK ...

Cells tagged ``nbval-check-output`` must print what is stored; all others must only run. A cell that may take
longer than ``--seconds`` says so in its metadata: ``{"mmlearn": {"seconds": 300}}``. Stops at the first cell
that fails.
"""

import argparse
import os
import sys

import pytest


class CellLimits:
    """Gives each notebook cell its own time limit; nbval has one for all."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def pytest_runtest_setup(self, item) -> None:
        cell = getattr(item, "cell", None)
        if cell is not None:
            stated = cell.get("metadata", {}).get("mmlearn", {}).get("seconds", 0)
            item.config.option.nbval_cell_timeout = max(self.seconds, stated)


def main(argv: list[str] | None = None) -> int:
    """Run the notebooks; returns pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="limit of a cell that states none")
    parser.add_argument("notebooks", nargs="+")
    args = parser.parse_args(argv)
    return int(pytest.main(["-c", os.devnull, "-q", "--exitfirst", "--no-header", "--color=no", "-p",
                            "no:cacheprovider", "--nbval-lax", "--nbval-current-env", *args.notebooks],
                            plugins=[CellLimits(args.seconds)]))


if __name__ == "__main__":
    sys.exit(main())
