"""Take notebooks apart: the setup cell, the numbered sections, the exercises; and run such parts by
themselves."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from notebooks import ROOT

SECTION = re.compile(r"^#{2,3}\s+\d+\.\d+(\.\d+)*\.?\s+\S")          # ## 1.2 Title, ### 1.2.1 Title
SIDE_SECTION = re.compile(r"^##\s+\S")                               # on a side page, book/deeper/…
EXERCISE = re.compile(r"^##\s+Exercise\s+\d+\s+\((check|build|open)\)\s*[:·.]")
HEADING = re.compile(r"^(#{1,6})\s+(.*\S)", re.M)


@dataclass
class Part:
    """A section or an exercise: its heading and its code cells."""

    title: str
    cells: list = field(default_factory=list)

    def tagged(self, tag: str | None) -> list:
        """The code cells with a tag; with None, those that carry none of the exercises' tags."""
        special = {"exercise", "check", "wrong", "solution"}
        tags = [set(c.metadata.get("tags", [])) & special for c in self.cells]
        return [c for c, t in zip(self.cells, tags) if (tag in t if tag else not t)]


def headings(source: str) -> list[str]:
    """The heading lines of a Markdown cell, code fences left out."""
    bare = re.sub(r"^(`{3,}|~{3,}).*?^\1", "", source, flags=re.M | re.S)
    return [match[0].strip() for match in HEADING.finditer(bare)]


def split(path: Path, opens: re.Pattern) -> tuple[str, list[Part]]:
    """The setup cell's source, and the parts of the notebook that ``opens`` begins.

    A part ends where the next begins, or at a level-2 heading that begins none.
    """
    setup, parts, current = "", [], None
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for line in headings(cell.source):
                if opens.match(line):
                    current = Part(line.lstrip("# "))
                    parts.append(current)
                elif re.match(r"#{1,2}\s", line):
                    current = None
        elif cell.cell_type == "code":
            if not setup:
                setup = cell.source
            elif current is not None:
                current.cells.append(cell)
    return setup, parts


def sections(path: Path) -> tuple[str, list[Part]]:
    """The setup cell's source and the sections that have code: numbered ones, on a side page all of level
    2."""
    setup, parts = split(path, SIDE_SECTION if path.parent.name == "deeper" else SECTION)
    return setup, [part for part in parts if part.cells]


def exercises(path: Path) -> tuple[str, list[Part]]:
    """The setup cell's source and the exercises of a notebook of exercises, or of solutions."""
    return split(path, EXERCISE)


def solutions_of(path: Path) -> Path:
    """The notebook of solutions of a notebook with exercises."""
    return ROOT / "book" / "exercises" / "solutions" / path.name


@contextlib.contextmanager
def working_folder(folder: Path) -> Iterator[None]:
    """Run the body in ``folder``, as a notebook server does."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(sources: list[str], folder: Path) -> str:
    """Run cells one after the other in a fresh name space and return what they print; an error in a cell is
    raised."""
    return "".join(run_each(sources, folder))


def run_each(sources: list[str], folder: Path) -> list[str]:
    """Like ``run``, but returns what each cell prints."""
    import matplotlib
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    matplotlib.use("agg")
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.user_ns["__name__"] = "__main__"
    printed = []
    try:
        for source in sources:
            out = io.StringIO()
            with working_folder(folder), contextlib.redirect_stdout(out):
                result = shell.run_cell(source, store_history=False)
            if result.error_before_exec or result.error_in_exec:
                raise (result.error_before_exec or result.error_in_exec)
            printed.append(out.getvalue())
    finally:
        import matplotlib.pyplot as plt

        plt.close("all")
        InteractiveShell.clear_instance()
    return printed
