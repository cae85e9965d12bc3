"""Every notebook runs at smoke scale, as a whole and section by section."""

import os
import subprocess
import sys

import pytest
from notebooks import ROOT, notebooks
from sections import exercises, run, sections
from unconverted import WIDE_SOURCE

NOTEBOOKS = notebooks()
SECTIONS = [(path, number, part) for path in NOTEBOOKS for number, part in enumerate(sections(path)[1])]
EXERCISES = [(path, part) for path in NOTEBOOKS if path.parent.name == "exercises" for part in exercises(path)[1]]


def strict(path) -> str:
    """Whether a line of a listing that the page cannot hold raises."""
    return str(int(path.relative_to(ROOT).as_posix() not in WIDE_SOURCE))


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "book").as_posix())
def test_a_notebook_runs_and_its_checked_outputs_are_current(path):
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "nbval_run.py"), str(path)], capture_output=True, text=True,
                          timeout=1200, cwd=ROOT, env=dict(os.environ, MMLEARN_SCALE="smoke", MMLEARN_STRICT_LISTINGS=strict(path)))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize("path,number,part", SECTIONS, ids=[f"{p.stem}-{part.title[:40]}" for p, _, part in SECTIONS])
def test_a_section_runs_after_the_setup_cell_alone(path, number, part, monkeypatch):
    monkeypatch.setenv("MMLEARN_SCALE", "smoke")
    monkeypatch.setenv("MMLEARN_STRICT_LISTINGS", strict(path))
    run([sections(path)[0], *(cell.source for cell in part.cells)], path.parent)


@pytest.mark.parametrize("path,part", EXERCISES, ids=[part.title[:50] for _, part in EXERCISES])
def test_an_exercise_has_a_task_a_check_a_wrong_answer_and_a_solution(path, part):
    for tag, number in (("exercise", 1), ("check", 1), ("solution", 1)):
        assert len(part.tagged(tag)) == number, f"{part.title}: {len(part.tagged(tag))} cells are tagged {tag!r}"
    assert part.tagged("wrong"), f"{part.title}: no cell is tagged 'wrong'"
    order = [next(t for t in c.metadata.tags if t in ("exercise", "check", "wrong", "solution"))
             for c in part.cells if set(c.metadata.get("tags", [])) & {"exercise", "check", "wrong", "solution"}]
    assert order[:2] == ["exercise", "check"] and order[-1] == "solution", order
    assert all("remove-cell" in c.metadata.tags for c in part.tagged("wrong"))
    assert "hide-cell" in part.tagged("solution")[0].metadata.tags


@pytest.mark.notebook
@pytest.mark.parametrize("path,part", EXERCISES, ids=[part.title[:50] for _, part in EXERCISES])
def test_an_exercise_rejects_the_unsolved_cell_and_wrong_answers_and_accepts_the_solution(path, part, monkeypatch):
    monkeypatch.setenv("MMLEARN_SCALE", "smoke")
    given = [exercises(path)[0], *(c.source for c in part.tagged(None))]
    check = part.tagged("check")[0].source

    def verdicts(answer: str) -> list[str]:
        lines = run([*given, answer, check], path.parent).splitlines()
        return [line for line in lines if line.startswith(("right:", "not yet:"))]

    unsolved = verdicts(part.tagged("exercise")[0].source)
    assert unsolved and all(v.startswith("not yet:") for v in unsolved[:1]), unsolved
    assert "not written yet" in unsolved[0], unsolved
    for cell in part.tagged("wrong"):
        said = verdicts(cell.source)
        assert any(v.startswith("not yet:") for v in said), f"a wrong answer passed: {said}"
        assert not any("not written yet" in v or "stopped with" in v for v in said), f"say what is wrong in words: {said}"
    said = verdicts(part.tagged("solution")[0].source)
    assert said and all(v.startswith("right:") for v in said), said
