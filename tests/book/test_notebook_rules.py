"""Rules that every notebook of the book keeps; CONTRIBUTING.md lists them."""

import base64
import json
import re
import tomllib
import warnings
from pathlib import Path

import nbformat
import pytest
from notebooks import MAX_PNG_BYTES, NEEDS, ROOT, notebooks, setup_cell
from sections import exercises, sections

NOTEBOOKS = notebooks()
# Folders of a person's machine. The site's and the web's addresses are no such paths.
ABSOLUTE = re.compile(r"(?<![\w:/.])(/home/|/root/|/Users/|/work/|/tmp/|/opt/|/usr/|/mnt/|/content/|[A-Z]:\\\\)")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "book").as_posix())


def code_cells(path: Path) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def outputs(path: Path):
    return [(i, o) for i, c in enumerate(code_cells(path)) for o in c.outputs]


def text_of(output) -> str:
    return json.dumps(output.get("text", "")) + json.dumps({k: v for k, v in output.get("data", {}).items()
                                                           if k.startswith("text/")})


def test_there_is_a_notebook_for_each_chapter():
    names = {p.stem for p in NOTEBOOKS if p.parent == ROOT / "book"}
    assert names == {"1-image2text", "2-text2image", "3-images-for-language", "4-text-for-vision", "5-both-modalities"}


@each_notebook
def test_a_notebook_is_valid_and_small(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    assert path.stat().st_size < 6_000_000, "a notebook with its pictures stays below 6 MB"


@each_notebook
def test_the_first_code_cell_is_the_setup_cell_word_for_word(path):
    assert code_cells(path)[0].source == setup_cell(path.stem)


def test_the_setup_cell_installs_what_the_package_needs_and_never_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=!~\[ ]", d)[0] for d in project["dependencies"]}
    in_colab = {"torch", "torchvision", "numpy", "pillow", "matplotlib", "tqdm"}
    assert set(NEEDS) == needed - in_colab
    assert not set(NEEDS) & {"torch", "torchvision", "numpy"}


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
        assert output.output_type != "error", f"code cell {cell + 1}: {output.get('ename')}: {output.get('evalue')}"
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
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), f"code cell {cell + 1}"


@each_notebook
def test_a_figure_has_alt_text_and_a_reasonable_size(path):
    for number, cell in enumerate(code_cells(path), 1):
        for output in cell.outputs:
            data = output.get("data", {})
            if any(kind.startswith("image/") for kind in data):
                alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
                assert len(alt) >= 20, f"code cell {number} shows a figure; say in mystnb.image.alt what it shows"
            if "image/png" in data:
                size = len(base64.b64decode(data["image/png"]))
                assert size <= MAX_PNG_BYTES, f"code cell {number}: a picture of {size:,} bytes, {MAX_PNG_BYTES:,} are allowed"


@each_notebook
def test_code_cells_are_short(path):
    for number, cell in enumerate(code_cells(path), 1):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 25, f"code cell {number} has {len(lines)} lines; move what does not teach to mmlearn"
        if len(lines) > 15:
            warnings.warn(f"{path.name}: code cell {number} has {len(lines)} lines, 15 is the aim", stacklevel=1)


@each_notebook
def test_pictures_in_the_text_have_full_addresses(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)", cell.source):
                assert target.startswith(("https://", "attachment:")), f"{target} is dead in Colab: draw it in a cell"


@each_notebook
def test_the_text_defines_no_latex_macros(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not re.search(r"\\(re)?newcommand|\\def\\", cell.source)


def test_a_section_lasts_until_the_next_one(tmp_path):
    cells = [nbformat.v4.new_code_cell("a = 1"), nbformat.v4.new_markdown_cell("## 1.2 One\ntext\n### More"),
             nbformat.v4.new_code_cell("b = 2"), nbformat.v4.new_markdown_cell("### 1.2.1 Two"), nbformat.v4.new_code_cell("c = 3"),
             nbformat.v4.new_markdown_cell("## Summary"), nbformat.v4.new_code_cell("d = 4"),
             nbformat.v4.new_markdown_cell("## Exercise 2 (check): Three"), nbformat.v4.new_code_cell("e = 5")]
    file = tmp_path / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    setup, parts = sections(file)
    assert setup == "a = 1"
    assert [(p.title, [c.source for c in p.cells]) for p in parts] == [("1.2 One", ["b = 2"]), ("1.2.1 Two", ["c = 3"])]
    assert [p.title for p in exercises(file)[1]] == ["Exercise 2 (check): Three"]
