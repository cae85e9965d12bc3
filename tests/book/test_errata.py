"""Every known error of the survey is on the errata page and marked in the chapter."""

import re

import nbformat
import pytest
from notebooks import ROOT

ERRATA = [f"E{number}" for number in range(1, 22)]


@pytest.mark.parametrize("erratum", ERRATA)
def test_an_erratum_is_on_the_page_and_in_the_chapter(erratum):
    page = (ROOT / "book" / "appendix" / "errata.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| \*\*{erratum}\*\* \|(.*)\|(.*)\|(.*)\|$", page, re.M)
    assert row and all(len(cell.strip()) > 8 for cell in row.groups()), f"{erratum} needs what is said, what is right, a check"
    chapter = "\n".join(c.source for c in nbformat.read(ROOT / "book" / "1-image2text.ipynb", as_version=4).cells
                        if c.cell_type == "markdown")
    assert re.search(rf"\b{erratum}\b", chapter), f"{erratum} is not marked in chapter 1"


def test_the_page_lists_nothing_that_is_not_known():
    page = (ROOT / "book" / "appendix" / "errata.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \*\*(E\d+)\*\*", page, re.M), key=lambda e: int(e[1:])) == ERRATA
