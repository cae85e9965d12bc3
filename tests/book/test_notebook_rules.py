"""Rules that every notebook of the book keeps; CONTRIBUTING.md lists them."""

import base64
import json
import re
import tomllib
from pathlib import Path

import nbformat
import pytest
from notebooks import (
    CHECKED,
    COLUMNS,
    MAX_PNG_BYTES,
    NEEDS,
    ROOT,
    columns,
    conform,
    deeper,
    needs,
    notebooks,
    setup_cell,
    toc_pages,
    wide_lines,
    words,
)
from sections import exercises, sections
from unconverted import WIDE_SOURCE

import mmlearn

NOTEBOOKS = notebooks()
# Folders of a person's machine. The site's and the web's addresses are no such paths.
ABSOLUTE = re.compile(
    r"(?<![\w:/.])(/home/|/root/|/Users/|/work/|/tmp/|/opt/|/usr/|/mnt/|/content/|[A-Z]:\\\\)"
)

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS,
                                        ids=lambda p: p.relative_to(ROOT / "book").as_posix())


def code_cells(path: Path) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def outputs(path: Path):
    return [(i, o) for i, c in enumerate(code_cells(path)) for o in c.outputs]


def text_of(output) -> str:
    return json.dumps(output.get("text", "")) + json.dumps({k: v for k, v in output.get("data", {}).items()
                                                           if k.startswith("text/")})


def test_there_is_a_notebook_for_each_chapter():
    names = {p.stem for p in NOTEBOOKS if p.parent == ROOT / "book"}
    assert names == {"1-image2text", "2-text2image", "3-images-for-language", "4-text-for-vision",
                     "5-both-modalities"}


@pytest.mark.parametrize("path", deeper(), ids=lambda p: p.stem)
def test_a_side_page_belongs_to_a_chapter_stands_below_it_in_the_toc_and_leads_back(path):
    number, topic = re.fullmatch(r"([1-5])-([a-z0-9-]+)", path.stem).groups()
    chapter = next(p for p in NOTEBOOKS if p.parent == ROOT / "book" and p.name.startswith(f"{number}-"))
    assert topic != chapter.stem.partition("-")[2], "a side page is named after its topic"
    pages = toc_pages()
    before = [p for p in pages[:pages.index(f"book/deeper/{path.stem}")] if re.match(r"book/\d", p)]
    assert before[-1] == f"book/{chapter.stem}", "list it under its chapter"
    text = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    assert re.match(r"# Deeper: \S", text[0]) and f"(../{chapter.name}" in "\n".join(text)
    linked = "\n".join(c.source for c in nbformat.read(chapter, as_version=4).cells
                       if c.cell_type == "markdown")
    assert f"(deeper/{path.name}" in linked, f"link it in {chapter.name}, as [title](deeper/{path.name})"
    assert sections(path)[1], "every level-2 heading opens a section that runs alone; none has code"


@each_notebook
def test_lines_of_code_output_and_listings_fit_the_page(path):
    found, waits = wide_lines(path), path.relative_to(ROOT).as_posix() in WIDE_SOURCE
    if waits:
        assert found, f"{path.name} fits: take it off the list in tests/book/unconverted.py"
    else:
        assert found == [], f"over {COLUMNS} columns"


def test_notebooks_that_wait_for_their_rewrite_exist():
    assert {p.relative_to(ROOT).as_posix() for p in NOTEBOOKS} >= WIDE_SOURCE


def test_wide_lines_are_found_in_code_outputs_and_listings(tmp_path):
    v4, long = nbformat.v4, "x" * 80
    cells = [
        v4.new_markdown_cell(f"{long} {long}\n\n```python\nfine\n{long}\n```\nafter {long}"),
        v4.new_code_cell(
            f"ok\n{long}",
            outputs=[
                v4.new_output("stream", text=f"{'图' * 40}\n{'图' * 39}\n"),
                v4.new_output(
                    "display_data",
                    data={"text/markdown": f"| {long} |\n\n```python\n{long}\n```", "text/plain": long},
                ),
                v4.new_output("display_data", data={"text/html": long, "text/plain": long}),
                v4.new_output(
                    "execute_result", data={"text/plain": "y" * 79 + "\n" + "y" * 81}, execution_count=1
                ),
            ],
        ),
    ]
    file = tmp_path / "n.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), file)
    assert [line.partition(" columns")[0] for line in wide_lines(file)] == [
        "cell 1, fence line 2, 80", "cell 2, code line 2, 80", "cell 2, output line 1, 80",
        "cell 2, listing line 1, 80", "cell 2, output line 2, 81"]
    assert columns("e\u0301") == 1


# words; DESIGN: a chapter is a walk that a student finishes
LONGEST = {"1-image2text": 10_500, "3-images-for-language": 11_000, "4-text-for-vision": 10_000}


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.parent == ROOT / "book"], ids=lambda p: p.stem)
def test_a_chapter_stays_a_walk_that_can_be_finished(path, record_property):
    record_property("words", words(path))
    assert words(path) <= LONGEST.get(path.stem, 14_000), (
        f"{words(path):,} words; move a side path to book/deeper"
    )


def test_only_prose_counts_as_words(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Two words\n\nA *picture* $x = y$ with `code` and a [link](https://a.example/b).\n\n"
                    "$$\na = b\n$$ (eq:a)\n\n```python\nno words here\n```\n<details>\nit's "
                    "one\n</details>\n", encoding="utf-8")
    assert words(page) == 2 + 6 + 2 + 2


@each_notebook
def test_a_cell_that_must_print_the_same_everywhere_says_so_by_its_tag(path):
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
        assert "NBVAL_" not in cell.source, f"cell {number}: tag it {CHECKED} instead"
        if CHECKED in cell.metadata.get("tags", []):
            assert cell.cell_type == "code" and cell.outputs, (
                f"cell {number} is tagged {CHECKED} and prints nothing"
            )


@each_notebook
def test_a_folded_box_is_one_cell_of_markdown_that_renders_everywhere(path):
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
        if cell.cell_type == "markdown" and "<details" in cell.source:
            boxes = re.findall(r"(?:^|\n)<details>\n<summary>[^\n]+</summary>\n\n(.*?)\n</details>(?:\n|$)",
                               cell.source, re.S)
            assert len(boxes) == cell.source.count("<details") == cell.source.count("</details>"), (
                f"cell {number}: <details>, <summary>…</summary>, an empty line, Markdown, </details>")
            assert not any(re.search(r"(?m)^#{1,6}\s",
                                     box) for box in boxes), f"cell {number}: a heading inside a folded box"


@each_notebook
def test_a_notebook_is_valid_and_small(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    assert path.stat().st_size < 6_000_000, "a notebook with its pictures stays below 6 MB"


@each_notebook
def test_the_first_code_cell_is_the_setup_cell_word_for_word(path):
    assert code_cells(path)[0].source == setup_cell(path.stem), "run `tools/notebooks.py conform`"
    assert "hide-input" in code_cells(path)[0].metadata.get("tags", []), "run `tools/notebooks.py conform`"


def test_one_command_puts_the_setup_cell_into_a_notebook_and_changes_nothing_else(tmp_path):
    v4 = nbformat.v4
    file = tmp_path / "1-annotation.ipynb"
    cells = [v4.new_markdown_cell("# Deeper: é"), v4.new_code_cell("old"),
             v4.new_code_cell("b = 2", metadata={"tags": ["x"]})]
    nbformat.write(v4.new_notebook(cells=cells), file)
    assert conform(file) and not conform(file)
    after = nbformat.read(file, as_version=4).cells
    assert after[1].source == setup_cell("1-annotation") and after[1].metadata.tags == ["hide-input"]
    assert [after[0], after[2]] == [cells[0], cells[2]]


def test_the_setup_cell_installs_what_the_package_needs_and_never_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[<>=!~\[ ]", d)[0] for d in project["dependencies"]}
    lines = (ROOT / NEEDS).read_text(encoding="utf-8").splitlines()
    assert lines == needs(), "run `tools/notebooks.py conform`"
    named = {re.split(r"[<>=]", line)[0] for line in lines}
    assert named == needed - {"torch", "torchvision", "numpy", "pillow", "matplotlib", "tqdm"}
    assert f"/content/mmlearn/{NEEDS.as_posix()}" in setup_cell("1-image2text")


def test_what_is_installed_has_a_lower_and_an_upper_bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for one in project["dependencies"]:
        assert re.fullmatch(r"[\w.-]+>=[\d.]+,<[\d.]+", one), one


def test_the_setup_cell_fetches_the_tag_of_the_version():
    clone = re.search(r"git clone (.*?)\"", setup_cell("1-image2text"))[1]
    assert clone.split()[-2:] == ["--branch", f"v{mmlearn.__version__}"]


@each_notebook
def test_a_notebook_opens_in_colab_with_a_gpu_and_an_outline(path):
    metadata = nbformat.read(path, as_version=4).metadata
    assert metadata["accelerator"] == "GPU"
    assert metadata["colab"]["toc_visible"] is True
    assert metadata["kernelspec"]["name"] == "python3"


@each_notebook
def test_a_notebook_was_run_top_to_bottom_in_one_go(path):
    counts = [c.execution_count for c in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run `make execute`"


@each_notebook
def test_a_notebook_holds_no_errors_and_nothing_from_stderr(path):
    for cell, output in outputs(path):
        assert output.output_type != "error", (
            f"code cell {cell + 1}: {output.get('ename')}: {output.get('evalue')}"
        )
        assert output.get("name") != "stderr", f"code cell {cell + 1} printed on stderr: {output.text[:200]}"


@each_notebook
def test_a_notebook_names_no_path_of_a_machine(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.source != setup_cell(path.stem):                 # which names Colab's folder
            assert not ABSOLUTE.search(cell.source), cell.source[:200]
    for cell, output in outputs(path):
        assert not ABSOLUTE.search(text_of(output)), f"code cell {cell + 1}: {text_of(output)[:300]}"


@each_notebook
def test_a_notebook_keeps_no_widgets(path):
    assert "widgets" not in nbformat.read(path, as_version=4).metadata
    for cell, output in outputs(path):
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), (
            f"code cell {cell + 1}"
        )


@each_notebook
def test_a_figure_has_alt_text_and_a_reasonable_size(path):
    for number, cell in enumerate(code_cells(path), 1):
        for output in cell.outputs:
            data = output.get("data", {})
            if any(kind.startswith("image/") for kind in data):
                alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
                assert len(alt) >= 20, (
                    f"code cell {number} shows a figure; say in mystnb.image.alt what it shows"
                )
            if "image/png" in data:
                size = len(base64.b64decode(data["image/png"]))
                assert size <= MAX_PNG_BYTES, (
                    f"code cell {number}: a picture of {size:,} bytes, {MAX_PNG_BYTES:,} are allowed"
                )


@each_notebook
def test_code_cells_are_short(path):
    for number, cell in enumerate(code_cells(path), 1):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 25, (
            f"code cell {number} has {len(lines)} lines; move what does not teach to mmlearn"
        )


@each_notebook
def test_pictures_in_the_text_have_full_addresses(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)", cell.source):
                assert target.startswith(("https://",
                                          "attachment:")), f"{target} is dead in Colab: draw it in a cell"


@each_notebook
def test_the_text_defines_no_latex_macros(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not re.search(r"\\(re)?newcommand|\\def\\", cell.source)


def test_a_section_lasts_until_the_next_one(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("a = 1"),
        nbformat.v4.new_markdown_cell("## 1.2 One\ntext\n### More"),
        nbformat.v4.new_code_cell("b = 2"),
        nbformat.v4.new_markdown_cell("### 1.2.1 Two"),
        nbformat.v4.new_code_cell("c = 3"),
        nbformat.v4.new_markdown_cell("## Summary"),
        nbformat.v4.new_code_cell("d = 4"),
        nbformat.v4.new_markdown_cell("## Exercise 2 (check): Three"),
        nbformat.v4.new_code_cell("e = 5"),
    ]
    file = tmp_path / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    setup, parts = sections(file)
    assert setup == "a = 1"
    assert [(p.title, [c.source for c in p.cells]) for p in parts] == [("1.2 "
                                                                        "One", ["b = 2"]), ("1.2.1 "
                                                                                            "Two", ["c = 3"])]
    assert [p.title for p in exercises(file)[1]] == ["Exercise 2 (check): Three"]
    side = tmp_path / "deeper" / "1-n.ipynb"
    side.parent.mkdir()
    file.rename(side)
    assert [p.title for p in sections(side)[1]] == ["1.2 One", "Summary", "Exercise 2 (check): Three"]
