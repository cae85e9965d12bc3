"""The public address stands in _config.yml; everything that repeats it agrees, and one command changes
all."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from notebooks import ROOT, notebooks, repository, set_repository

GITHUB = re.compile(r"https://github\.com/[\w.-]+/mmlearn(?![\w-])")
COLAB = re.compile(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/")


def tracked() -> list:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout.splitlines()
    return [ROOT / n for n in names if n.endswith((".md", ".ipynb", ".yml", ".cff", ".toml", ".py", ".css"))
            or n == "Makefile"]


def test_the_config_states_an_address():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["repository"]["url"] == repository()
    assert config["repository"]["branch"] == "main" and config["repository"]["path_to_book"] == ""


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_every_file_that_repeats_the_address_agrees_with_the_config():
    want = repository()
    for path in tracked():
        if path.is_relative_to(ROOT / "tests") or not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        assert set(GITHUB.findall(text)) <= {want}, path
        assert set(COLAB.findall(text)) <= {want.removeprefix("https://github.com/")}, path


def test_citation_and_readme_state_the_address():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == citation["url"] == repository()
    assert citation["cff-version"] == "1.2.0" and citation["license"] == ["MIT", "CC-BY-4.0"]
    readme = (ROOT / "README.md").read_text()
    assert repository() in readme
    assert (
        f"colab.research.google.com/github/{repository().removeprefix('https://github.com/')}/blob/main/book/1-image2text.ipynb"
        in readme
    )


def test_one_command_changes_the_address_everywhere(tmp_path):
    for name in ("_config.yml", "README.md", "CITATION.cff", "pyproject.toml", "Makefile"):
        shutil.copy(ROOT / name, tmp_path / name)
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.png")
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=ignore)
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=ignore)
    old, new = repository(), "https://github.com/a-school/course-2027"
    done = subprocess.run(["make", "repository", f"URL={new}/", f"PYTHON={sys.executable}"], cwd=tmp_path,
                          capture_output=True, text=True, env=alone())
    assert done.returncode == 0, done.stderr
    for path in [p for p in tmp_path.rglob("*") if p.suffix in (".yml", ".md", ".cff", ".ipynb", ".toml")]:
        text = path.read_text(encoding="utf-8")
        assert old not in text and f"/github/{old.removeprefix('https://github.com/')}/" not in text, path
        if path.suffix == ".ipynb":
            json.loads(text)
            assert f'book = \\"{new}\\"' in text
    assert (
        "/github/a-school/course-2027/blob/main/book/1-image2text.ipynb"
        in (tmp_path / "README.md").read_text()
    )


EVIL = ['x";touch hit;"', "$(touch hit)", "`touch hit`", "$(shell touch hit)", "$$(touch hit)",
        "a'b;touch hit", "x; touch hit #", "x && touch hit", "| touch hit", "x\ntouch hit"]


def alone() -> dict[str, str]:
    """The environment without what a make that runs these tests has put there: its options and variables
    (``make test VENV=…``) would be those of the make that is tried here."""
    own = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MAKEFILES",
           "VENV", "WORKERS", "PORT", "NOTEBOOKS", "URL", "VERSION"}
    return {name: value for name, value in os.environ.items() if name not in own}


@pytest.fixture
def makefile(tmp_path):
    """Our Makefile in a folder where every program that it starts prints its arguments."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "_config.yml", "_toc.yml"):
        (tmp_path / name).write_text("")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "oracles.txt").write_text("")
    (tmp_path / "tools" / "notebooks.py").write_text("import sys\nprint(sys.argv[1:])\n")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "ruff", "mypy", "lint-imports", "jupyter-book"):
        (programs / name).write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
        (programs / name).chmod(0o755)
    for name in (".installed-book", ".installed-test"):
        (programs.parent / name).write_text("")
    html = tmp_path / "_build" / "html"
    html.mkdir(parents=True)
    (html / ".built").write_text("")

    def make(target: str, *variables: str, environment: dict[str, str] | None = None):
        done = subprocess.run(["make", "-s", target, *variables, f"PYTHON={sys.executable}"], cwd=tmp_path,
                              capture_output=True, text=True, env={**alone(), **(environment or {})})
        assert not (tmp_path / "hit").exists(), f"make {target} has run what {variables} quotes"
        return done
    return make


@pytest.mark.parametrize("url", EVIL)
def test_an_address_is_never_run_as_a_command(makefile, url):
    done = makefile("repository", f"URL={url}")
    assert done.returncode == 0 and done.stdout.strip().endswith(str(["repository", url])), (
        done.stdout + done.stderr
    )


@pytest.mark.parametrize("target, name, word", [
    ("execute", "NOTEBOOKS", "execute"), ("check", "WORKERS", "-n"), ("test", "WORKERS", "-n"),
    ("serve", "PORT", "http.server"), ("release", "VERSION", "set"),
])
def test_no_variable_is_run_as_a_command(makefile, target, name, word):
    for value in EVIL:
        done = makefile(target, f"{name}={value}")
        first = value.split()[0] if name == "NOTEBOOKS" else value
        assert f"<{word}><{first}>" in done.stdout, done.stdout + done.stderr
    makefile(target, environment={name: "$(touch hit)"})


def test_every_variable_that_a_recipe_takes_is_quoted():
    """But for the names of programs and folders that a maintainer states to be run: PYTHON, VENV."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    taken = set(re.findall(r"^(\w+) \?=", text, re.M)) - {"PYTHON", "VENV"} | {"URL", "VERSION"}
    assert {"NOTEBOOKS", "PORT", "WORKERS"} <= taken
    for name in taken:
        assert not re.search(rf"(?<!\$)\$[({{]{name}[)}}]", text), f'say "$${name}"'


def test_notebooks_to_execute_are_given_one_by_one(makefile):
    done = makefile("execute", "NOTEBOOKS=book/a.ipynb book/b.ipynb")
    assert "<tools/notebooks.py><execute><book/a.ipynb><book/b.ipynb>" in done.stdout


def test_no_address_at_all_is_asked_for(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run(["make", "-s", "repository"], cwd=tmp_path, capture_output=True, text=True,
                          env=alone())
    assert done.returncode != 0 and "say which" in done.stderr


@pytest.mark.parametrize("url", ["mmlearn", "https://github.com/only-owner", "https://github.com/a b/c", ""])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="give the address of a repository"):
        set_repository(url)


def test_no_badge_or_notebook_forgets_the_main_branch():
    for path in [ROOT / "README.md", *notebooks()]:
        for link in re.findall(r"colab\.research\.google\.com/github/[^)\s\"\\]+",
                               path.read_text(encoding="utf-8")):
            assert "/blob/main/book/" in link, f"{path.name}: {link}"
