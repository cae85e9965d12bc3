"""A version is made once: its number agrees everywhere, its changes are told, its website is one file."""

import datetime
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import nbformat
import pytest
from notebooks import repository, setup_cell
from release import PLACES, ROOT, current, set_version, tag, zip_site

import mmlearn


@pytest.fixture
def copy(tmp_path):
    """A repository with the files that a version touches."""
    for name in (*(name for name, *_ in PLACES), "CHANGELOG.md", "_config.yml", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    changes = tmp_path / "CHANGELOG.md"
    changes.write_text(re.sub(r"(?s)## Unreleased.*",
                              "## Unreleased\n\n- Something.\n\n## 0.0.1\n\n- First.\n", changes.read_text()))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("old")])
    (tmp_path / "book").mkdir()
    nbformat.write(notebook, tmp_path / "book" / "1-image2text.ipynb")
    for command in (["init", "-q"], ["config", "user.name", "A"], ["config", "user.email", "a@example.org"],
                    ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_the_version_agrees_everywhere():
    assert current() == mmlearn.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mmlearn.__version__"}


def test_a_version_is_written_told_and_tagged(copy):
    set_version("99.1.0", copy, datetime.date(2030, 2, 3))
    assert current(copy) == "99.1.0"
    assert "## Unreleased\n\n## 99.1.0 (2030-02-03)\n\n- Something." in (copy / "CHANGELOG.md").read_text()
    assert tag(copy) == "v99.1.0"
    first = nbformat.read(copy / "book" / "1-image2text.ipynb", as_version=4).cells[0].source
    assert "--branch v99.1.0" in first and first == setup_cell("1-image2text", copy)
    left = subprocess.run(["git", "status", "--porcelain"], cwd=copy, capture_output=True, check=True)
    assert not left.stdout
    log = subprocess.run(["git", "log", "-1", "--format=%s%d"], cwd=copy, capture_output=True, text=True,
                         check=True).stdout
    assert log.startswith("Version 99.1.0") and "tag: v99.1.0" in log
    with pytest.raises(ValueError, match="nothing under '## Unreleased'"):
        set_version("99.2.0", copy)


@pytest.mark.parametrize("version, sentence", [
    ("1.0", "is no version"), ("1.0.0; ls", "is no version"), ("0.0.1", "does not come after"),
    (current(), "does not come after"),
])
def test_what_is_no_later_version_is_refused(copy, version, sentence):
    with pytest.raises(ValueError, match=sentence):
        set_version(version, copy)
    assert current(copy) == current()


def test_a_version_is_not_made_of_uncommitted_work(copy):
    (copy / "CITATION.cff").write_text((copy / "CITATION.cff").read_text() + "\n")
    with pytest.raises(ValueError, match="not committed"):
        set_version("99.1.0", copy)


def test_the_website_is_one_file_below_one_folder(tmp_path):
    pages = tmp_path / "_build" / "html" / "book"
    pages.mkdir(parents=True)
    (pages.parent / "index.html").write_text("start")
    (pages.parent / ".built").write_text("")
    (pages / "1.html").write_text("one")
    packed = [zip_site(tmp_path, tmp_path / f"{name}.zip") for name in ("book-1.0.0",)]
    with zipfile.ZipFile(packed[0]) as archive:
        assert archive.namelist() == ["book-1.0.0/book/1.html", "book-1.0.0/index.html"]
        assert archive.read("book-1.0.0/book/1.html") == b"one"
    before = packed[0].read_bytes()
    assert zip_site(tmp_path, packed[0]).read_bytes() == before


IN_COLAB = """
import subprocess, sys, types
from pathlib import Path

sys.modules["google.colab"] = types.ModuleType("google.colab")
run = subprocess.run
subprocess.run = lambda command, **options: (           # what the cell would install is installed here
    print(" ".join(command)) if command[0] == "pip" else run(command, **options))
exec(compile(Path("cell.py").read_text(encoding="utf-8"), "cell.py", "exec"))
import mmlearn
from mmlearn.experiments import results
from mmlearn.image2text.saved import load_captioner
print(Path(mmlearn.__file__).as_posix(), results("scst")["recipe"], load_captioner("captioner-grid").system)
"""


@pytest.mark.slow
def test_in_colab_the_setup_cell_fetches_the_tag_and_runs_what_it_brings(tmp_path):
    """The public address leads to a repository here that has the tag; nothing else of this checkout is
    seen."""
    origin, content = tmp_path / "origin", tmp_path / "content"
    listed = subprocess.run(["git", "ls-files", "mmlearn", "data", "book/colab.txt"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.split("\n")
    for name in filter(None, listed):
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, origin / name)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"],
                    ["tag", "-a", f"v{mmlearn.__version__}", "-m", "a version"]):
        subprocess.run([*git, *command], cwd=origin, check=True)
    (tmp_path / "cell.py").write_text(setup_cell("1-image2text").replace("/content", content.as_posix()),
                                      encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": repository(),
                    "GIT_CONFIG_KEY_0": f"url.{origin.as_uri()}.insteadOf"}
    done = subprocess.run([sys.executable, "-c", IN_COLAB], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    asked, *_, last = done.stdout.strip().splitlines()
    assert asked == f"pip install -q -r {content.as_posix()}/mmlearn/book/colab.txt"
    assert (content / "mmlearn" / "book" / "colab.txt").is_file()
    assert last.split() == [f"{content.as_posix()}/mmlearn/mmlearn/__init__.py", "scst", "captioner"]
