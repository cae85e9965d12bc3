"""Exercises and their solutions: every wrong answer gets its own hint, every right one is accepted."""

import re

import nbformat
import pytest
from notebooks import ROOT, notebooks
from sections import exercises, run, run_each, solutions_of

CHAPTERS = [path for path in notebooks() if path.parent.name == "exercises"]
PAGES = [*CHAPTERS, ROOT / "book" / "appendix" / "data.ipynb"]
EXERCISES = [(path, part) for path in PAGES for part in exercises(path)[1]]
SOLUTIONS = {(path, part.title): part for path in PAGES for part in exercises(solutions_of(path))[1]}
NAMES = [f"{path.stem}-{part.title.split()[1]}" for path, part in EXERCISES]

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
each_exercise = pytest.mark.parametrize("path,part", EXERCISES, ids=NAMES)


def verdicts(printed: str) -> list[str]:
    """What checks said; a sentence goes on in lines that are indented."""
    said = re.findall(r"^(?:right|not yet|not written yet): .*(?:\n {4}.*)*", printed, re.M)
    return [" ".join(sentence.split()) for sentence in said]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_at_least_eight_exercises_of_all_three_kinds(path):
    parts = exercises(path)[1]
    assert len(parts) >= 8
    assert {re.search(r"\((\w+)\)", part.title)[1] for part in parts} == {"check", "build", "open"}


@each_page
def test_exercises_are_numbered_and_the_solutions_have_the_same_headings(path):
    parts = exercises(path)[1]
    assert parts
    assert [part.title.split()[1] for part in parts] == [str(n + 1) for n in range(len(parts))]
    assert [part.title for part in exercises(solutions_of(path))[1]] == [part.title for part in parts]


@each_page
def test_an_exercise_says_what_it_teaches_and_links_its_solution(path):
    texts = [c.source for c in nbformat.read(path, as_version=4).cells
             if c.cell_type == "markdown" and c.source.startswith("## Exercise")]
    assert len(texts) == len(exercises(path)[1])
    for text in texts:
        assert "**What it teaches.**" in text and "**A good answer**" in text, text[:60]
        anchor = re.sub(r"[^\w\- ]", "", text.splitlines()[0].removeprefix("## ").lower()).replace(" ", "-")
        assert f"solutions/{path.name}#{anchor})" in text, anchor


@each_exercise
def test_the_students_cell_is_unwritten_and_the_check_is_one_line(path, part):
    (exercise,), (check,) = part.tagged("exercise"), part.tagged("check")
    assert not part.tagged("wrong") and not part.tagged("solution")
    order = [cell.metadata.get("tags", []) for cell in part.cells]
    assert order[-2:] == [["exercise"], ["check"]] and not any(order[:-2])
    bare = re.sub(r'""".*?"""', "", exercise.source, flags=re.S)
    body = [line.strip() for line in bare.splitlines() if line.startswith(" ") and line.strip()]
    assert set(body) <= {"not_written()"} | {line for line in body if line.endswith(("->", ":", ","))}, body
    assert "not_written()" in body
    assert re.fullmatch(r"check\.\w+\(.*\)", check.source), check.source


@each_exercise
def test_a_solution_starts_from_what_the_exercise_gives_and_is_folded(path, part):
    solved = SOLUTIONS[path, part.title]
    assert not solved.tagged("exercise") and not solved.tagged("check")
    given = [cell.source for cell in solved.tagged(None)]
    assert given[: len(part.tagged(None))] == [cell.source for cell in part.tagged(None)]
    check = part.tagged("check")[0].source
    for cell in solved.tagged("solution") + solved.tagged("wrong"):
        assert "hide-cell" in cell.metadata.tags and check in cell.source.splitlines(), cell.source[:80]


@each_exercise
def test_there_are_two_right_answers_and_four_wrong_ones_with_hints_of_their_own(path, part):
    solved = SOLUTIONS[path, part.title]
    right, hints = (
        solved.tagged("solution"),
        [cell.metadata.mmlearn["hint"] for cell in solved.tagged("wrong")],
    )
    assert len(right) >= 2 and len({cell.source for cell in right}) == len(right)
    assert len(hints) >= 4 and len(set(hints)) == len(hints)
    for cell in right + solved.tagged("wrong"):
        assert not any(len(line) > 79 for line in cell.source.splitlines())


@each_exercise
def test_the_stored_outputs_say_what_the_check_says(path, part):
    def stored(cell):
        return verdicts("".join(output.get("text", "") for output in cell.outputs))

    assert [v.split(":")[0] for v in stored(part.tagged("check")[0])] == ["not written yet"]
    solved = SOLUTIONS[path, part.title]
    for cell in solved.tagged("solution"):
        assert [v.split(":")[0] for v in stored(cell)] == ["right"]
    for cell in solved.tagged("wrong"):
        (said,) = stored(cell)
        assert said.startswith("not yet: ") and cell.metadata.mmlearn["hint"] in said


@pytest.mark.notebook
@each_exercise
def test_the_exercise_runs_unwritten_and_says_so(path, part, monkeypatch):
    monkeypatch.setenv("MMLEARN_SCALE", "smoke")
    said = verdicts(run([exercises(path)[0], *(cell.source for cell in part.cells)], path.parent))
    assert len(said) == 1 and said[0].startswith("not written yet: "), said


@pytest.mark.notebook
@each_exercise
def test_right_answers_are_accepted_and_each_wrong_one_is_told_what_is_wrong_with_it(path, part, monkeypatch):
    monkeypatch.setenv("MMLEARN_SCALE", "smoke")
    solved = SOLUTIONS[path, part.title]
    printed = run_each([exercises(path)[0], *(cell.source for cell in solved.cells)], path.parent)[1:]
    hints = {cell.metadata.mmlearn["hint"] for cell in solved.tagged("wrong")}
    for cell, text in zip(solved.cells, printed):
        said, tags = verdicts(text), cell.metadata.get("tags", [])
        if "solution" in tags:
            assert len(said) == 1 and said[0].startswith("right: "), f"{cell.source}\n{text}"
        if "wrong" in tags:
            assert len(said) == 1 and said[0].startswith("not yet: "), f"{cell.source}\n{text}"
            assert [hint for hint in hints if hint in said[0]] == [cell.metadata.mmlearn["hint"]], said[0]
            assert "stopped in line" not in said[0], "say it in words"


@each_page
def test_a_solution_links_its_exercise_and_no_page_of_exercises_holds_an_answer(path):
    solved = solutions_of(path)
    texts = [c.source for c in nbformat.read(solved, as_version=4).cells
             if c.source.startswith("## Exercise")]
    assert len(texts) == len(exercises(path)[1])
    for text in texts:
        target = re.search(r"\]\(([^)#]+)#", text)[1]
        assert (solved.parent / target).resolve() == path
    assert not [c for c in nbformat.read(path, as_version=4).cells
                if {"solution", "wrong"} & set(c.metadata.get("tags", []))]
