"""What every notebook calls: one line of setup, source beside equations, the table of claims."""

import random
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from mmlearn import book
from mmlearn.claims import claim, claims
from mmlearn.plot import PALETTE


def sample(x: int) -> int:
    """Twice ``x``.

    Two paragraphs long.
    """
    # doubled here
    return 2 * x


class Sample:
    """A class."""

    def method(self) -> str:
        """A method."""
        return '''not a docstring'''


def only_words() -> None:
    """There is nothing but this."""


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu"])
def test_setup_prints_versions_and_what_it_runs_on_in_two_lines(scale, monkeypatch, capsys):
    monkeypatch.setenv("MMLEARN_SCALE", scale)
    book.setup("1-image2text")
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 2 and printed.err == ""
    assert max(map(len, printed.out.splitlines())) <= book.COLUMNS
    for part in (torch.__version__, f"scale {scale}", "Python 3.", "torchvision 0.", " s at most"):
        assert part in printed.out


def test_setup_makes_every_draw_repeatable_and_forgets_claims(monkeypatch):
    monkeypatch.setenv("MMLEARN_SCALE", "smoke")
    draws = []
    for _ in range(2):
        book.setup("1-image2text")
        assert claims == [] and plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(PALETTE)
        plt.rcdefaults()
        claim("one", 1, ">", 0)
        draws.append((float(torch.rand(())), float(np.random.random()), random.random()))     # noqa: NPY002
    claims.clear()
    assert draws[0][:2] == draws[1][:2]


@pytest.mark.parametrize(
    "torch_version, want", [("2.14.1+cu130", "0.29"), ("2.11.0", "0.26"), ("2.5.1", "0.20"), ("3.0.0", None)]
)
def test_releases_of_torch_and_torchvision_go_in_pairs(torch_version, want):
    assert book.fitting_torchvision(torch_version) == want


def test_a_torchvision_for_another_torch_is_named_with_the_remedy(monkeypatch):
    import torchvision
    monkeypatch.setattr(torch, "__version__", "2.11.0")
    monkeypatch.setattr(torchvision, "__version__", "0.29.2")
    with pytest.raises(RuntimeError, match=r"torchvision 0.29.2 was made for another torch than 2.11.0; "
                                           r"install torchvision 0.26"):
        book.check_torchvision()


def test_a_torchvision_whose_operators_fail_is_named_with_the_remedy(monkeypatch):
    import torchvision

    def broken(*args):
        raise RuntimeError("operator torchvision::nms does not exist")
    monkeypatch.setattr(torchvision.ops, "nms", broken)
    with pytest.raises(RuntimeError, match="torchvision does not work with torch .*nms does not "
                                           "exist.*install torchvision"):
        book.check_torchvision()


def test_source_is_shown_as_it_stands_or_without_docstrings():
    assert book.source_of(sample, docstrings=True).splitlines()[:2] == [
        "def sample(x: int) -> int:",
        '    """Twice ``x``.',
    ]
    assert book.source_of(sample) == \
        "def sample(x: int) -> int:\n    # doubled here\n    return 2 * x"
    assert book.source_of(Sample) == \
        "class Sample:\n    def method(self) -> str:\n        return '''not a docstring'''"
    assert book.source_of(only_words).endswith('"""There is nothing but this."""')
    assert book.source_of(Sample.method, docstrings=True).startswith("def method(self)")


def test_outside_a_notebook_source_and_claims_are_printed(capsys, monkeypatch):
    from mmlearn.train import noam_rate
    book.show_source(noam_rate)
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert re.fullmatch(r"# mmlearn/train\.py( · eq:[\w-]+)?", first) and second.startswith("def noam_rate(")
    claims.clear()
    book.chapter_claims()
    assert "No claims were made." in capsys.readouterr().out


def test_in_a_notebook_source_is_fenced_markdown_with_a_plain_form(monkeypatch):
    import IPython.display
    shown = []
    monkeypatch.setattr(book, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    book.show_source(sample)
    assert shown[0]["text/markdown"].startswith("```python\n# test_book_helpers.py\ndef sample(") or \
        shown[0]["text/markdown"].startswith("```python\n# tests/test_book_helpers.py\ndef sample(")
    assert shown[0]["text/markdown"].endswith("\n```") and "```" not in shown[0]["text/plain"]


@pytest.fixture
def shown(monkeypatch):
    pieces: list[tuple[str, str]] = []
    monkeypatch.setattr(book, "show_markdown", lambda markdown, plain: pieces.append((markdown, plain)))
    return pieces


def labelled() -> int:
    """eq:first, eq:second: one and one is two, by eq:first."""
    return 1 + 1


def wide() -> str:
    """A line that no page holds."""
    return "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"


def test_a_listing_names_its_file_and_its_equations():
    assert book.listing(labelled).splitlines()[0].endswith("test_book_helpers.py · eq:first, eq:second")
    assert book.listing(sample).splitlines()[0].endswith("test_book_helpers.py")


def test_a_long_listing_is_folded_unless_the_page_says_otherwise(shown):
    book.show_source(labelled)
    book.show_source(labelled, folded=True)
    book.show_source(book.setup, book.show_source)
    book.show_source(book.listing, folded=False)
    assert [markdown.startswith("<details>\n<summary>Listing of <code>") for markdown, _ in shown] == [
        False, True, book.listing(book.setup).count("\n") >= book.OPEN_LINES, False, False]
    assert shown[1][0].endswith("\n```\n\n</details>") and "</summary>\n\n```python\n" in shown[1][0]
    assert not any(plain.startswith("<details>") for _, plain in shown)


def test_a_line_that_the_page_cannot_hold_raises_where_the_tests_ask_for_it(monkeypatch):
    monkeypatch.delenv("MMLEARN_STRICT_LISTINGS", raising=False)
    assert "aaaa" in book.listing(wide)
    monkeypatch.setenv("MMLEARN_STRICT_LISTINGS", "1")
    with pytest.raises(ValueError, match=r"test_book_helpers.py is shown in the book and has a line of 100 "
                                         r"columns, 79 fit"):
        book.listing(wide)
    assert book.listing(labelled)


def test_results_are_shown_as_a_table_with_numbers_flush_right(shown):
    book.show_table(["model", "CIDEr-D", "facts"], [["M2", 1.23456, 3], ["plain", 0.5, 12]])
    assert shown[0][0] == shown[0][1] == ("| model | CIDEr-D | facts |\n|-------|--------:|------:|\n"
                                          "| M2    |   1.235 |     3 |\n| plain |   0.500 |    12 |")
    book.show_table(["model", "score"], [["a", "–"], ["b", np.float64(2)]], digits=1)
    assert shown[1][0].splitlines()[1:] == ["|-------|------:|", "| a     |     – |", "| b     |   2.0 |"]
    with pytest.raises(ValueError, match="a row has 1 cells and the header 2"):
        book.show_table(["model", "score"], [["a"]])


def test_the_helpers_import_without_ipython():
    code = "import sys; sys.modules['IPython'] = None; import mmlearn.book, mmlearn.progress; print('fine')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.slow
def test_a_notebook_keeps_one_line_of_progress_rendered_source_and_no_stderr():
    import nbformat
    from nbclient import NotebookClient

    cells = [
        "from mmlearn.book import chapter_claims, setup, show_source\nsetup('1-image2text')",
        "import torch\nfrom mmlearn.train import fit, noam_rate\nmodel = torch.nn.Linear(2, 1)\n"
        "history = fit(model, lambda m, x: m(x).square().mean(), [torch.ones(3, 2)], steps=600, "
        "title='a line')",
        "show_source(noam_rate)\nchapter_claims()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    line, bar, shown = (cell.outputs for cell in notebook.cells)
    assert not [out for out in line + bar + shown if out.get("name") == "stderr"]
    assert len(line) == 1 and line[0]["text"].count("\n") == 2
    assert len(bar) == 1 and bar[0]["output_type"] == "display_data"
    text = bar[0]["data"]["text/plain"]
    assert text.startswith("a line: 100%") and "600/600" in text and "\r" not in text and "\n" not in text
    assert shown[0]["data"]["text/markdown"].startswith("```python\n# mmlearn/train.py")
    assert shown[1]["data"]["text/markdown"] == "No claims were made."


def test_special_tokens_in_a_table_are_text_and_no_html():
    assert book.literal_tags("| without <eos> | a < b |") == "| without &lt;eos> | a &lt; b |"
