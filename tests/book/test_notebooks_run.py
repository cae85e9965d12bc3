"""Every notebook runs at smoke scale, as a whole and section by section."""

import os
import subprocess
import sys

import pytest
from notebooks import ROOT, notebooks
from sections import run, sections
from unconverted import WIDE_SOURCE

NOTEBOOKS = notebooks()
SECTIONS = [(path, number, part) for path in NOTEBOOKS for number, part in enumerate(sections(path)[1])]


def strict(path) -> str:
    """Whether a line of a listing that the page cannot hold raises."""
    return str(int(path.relative_to(ROOT).as_posix() not in WIDE_SOURCE))


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "book").as_posix())
def test_a_notebook_runs_and_its_checked_outputs_are_current(path):
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "nbval_run.py"), str(path)],
                          capture_output=True, text=True, timeout=1200, cwd=ROOT,
                          env=dict(os.environ, MMLEARN_SCALE="smoke", MMLEARN_STRICT_LISTINGS=strict(path)))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize("path,number,part", SECTIONS,
                         ids=[f"{p.stem}-{part.title[:40]}" for p, _, part in SECTIONS])
def test_a_section_runs_after_the_setup_cell_alone(path, number, part, monkeypatch):
    monkeypatch.setenv("MMLEARN_SCALE", "smoke")
    monkeypatch.setenv("MMLEARN_STRICT_LISTINGS", strict(path))
    run([sections(path)[0], *(cell.source for cell in part.cells)], path.parent)
