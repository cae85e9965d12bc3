"""Every known error of the survey is on the errata page and marked in its chapter."""

import re

import nbformat
import pytest
from notebooks import ROOT

KNOWN = {"1-image2text": 21, "4-text-for-vision": 16}                  # chapter -> number of its last erratum
ERRATA = [(chapter, f"E{number}") for chapter, last in KNOWN.items() for number in range(1, last + 1)]


def page_of(chapter: str) -> str:
    """The part of the errata page that belongs to a chapter; numbers start again in each."""
    page = (ROOT / "book" / "appendix" / "errata.md").read_text(encoding="utf-8")
    parts = re.split(r"(?m)^## Chapter (?=\d)", page)
    return next(part for part in parts if part.startswith(chapter[0] + ","))


@pytest.mark.parametrize("chapter, erratum", ERRATA, ids=lambda value: value)
def test_an_erratum_is_on_the_page_and_in_the_chapter(chapter, erratum):
    row = re.search(rf"^\| \*\*{erratum}\*\* \|(.*)\|(.*)\|(.*)\|$", page_of(chapter), re.M)
    assert row and all(len(cell.strip()) > 8 for cell in row.groups()), f"{erratum} needs what is said, what is right, a check"
    text = "\n".join(c.source for c in nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells
                     if c.cell_type == "markdown")
    assert re.search(rf"\b{erratum}\b", text), f"{erratum} is not marked in chapter {chapter}"


@pytest.mark.parametrize("chapter", KNOWN)
def test_the_page_lists_nothing_that_is_not_known(chapter):
    found = re.findall(r"^\| \*\*(E\d+)\*\*", page_of(chapter), re.M)
    assert sorted(found, key=lambda e: int(e[1:])) == [e for c, e in ERRATA if c == chapter]
