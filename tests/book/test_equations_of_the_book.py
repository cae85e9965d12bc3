"""Equations, functions and tests belong together; pages read off the code are current."""

import re
from pathlib import Path

import make_appendix
import pytest


def test_every_labelled_equation_has_a_test_and_every_marker_an_equation():
    assert make_appendix.problems() == []


def test_every_labelled_equation_is_implemented_by_a_function():
    code = make_appendix.implementations()
    assert [label for label in make_appendix.labelled_equations() if label not in code] == []


def test_every_equation_of_the_catalogue_stands_in_the_book():
    from mmlearn.catalog import SYSTEMS

    labels = make_appendix.labelled_equations()
    assert [e for system in SYSTEMS for e in system.equations if e not in labels] == []


@pytest.mark.parametrize("name", make_appendix.PAGES)
def test_a_page_read_off_the_code_is_current(name):
    page = getattr(make_appendix, f"{name}_page")()
    assert (make_appendix.APPENDIX / f"{name}.md").read_text(encoding="utf-8") == page, (
        "run tools/make_appendix.py"
    )


def test_labels_are_found_where_they_stand(tmp_path, monkeypatch):
    (tmp_path / "book" / "appendix").mkdir(parents=True)
    (tmp_path / "book" / "page.md").write_text("$$\nx = 1\n$$ (eq:one)\n\n```{math}\n:label: "
                                               "eq:two\nx\n```\n", encoding="utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text('@pytest.mark.equation("eq:one")\ndef test_a(): pass\n\n'
                                                   '@pytest.mark.equation("eq:lost")\ndef test_b(): '
                                                   'pass\n', encoding="utf-8")
    monkeypatch.setattr(make_appendix, "ROOT", tmp_path)
    monkeypatch.setattr(make_appendix, "APPENDIX", tmp_path / "book" / "appendix")
    monkeypatch.setattr(make_appendix, "notebooks", lambda: [])
    assert set(make_appendix.labelled_equations()) == {"eq:one", "eq:two"}
    said = " ".join(make_appendix.problems())
    assert "eq:two (page.md) has no test" in said and "eq:lost is marked by" in said and "eq:one" not in said


def test_equations_of_a_side_page_are_found_as_those_of_a_chapter(tmp_path, monkeypatch):
    import json

    import notebooks

    side = tmp_path / "book" / "deeper" / "1-annotation.ipynb"
    side.parent.mkdir(parents=True)
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["$$\n", "x = 1\n", "$$ (eq:side)\n"]}
    side.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(make_appendix, "ROOT", tmp_path)
    assert notebooks.deeper() == [side]
    assert make_appendix.labelled_equations() == {"eq:side": [side]}
    assert make_appendix.problems() == [
        'eq:side (1-annotation.ipynb) has no test: mark one with @pytest.mark.equation("eq:side")'
    ]


# ----------------------------------------------------------------------------------------- names of equations

KEBAB = re.compile(r"eq:[a-z0-9]+(?:-[a-z0-9]+)*")


def places() -> dict[str, list[str]]:
    """label -> modules that state its formula: in a docstring that begins with the label and a colon."""
    found: dict[str, list[str]] = {}
    for path in make_appendix.python_files("mmlearn"):
        for _, _, text in make_appendix.definitions(path):
            for label in re.findall(r"\A(eq:[\w-]+):\s", text):
                homes, module = found.setdefault(label, []), make_appendix.module_name(path)
                homes += [module] if module not in homes else []
    return found


def mentioned() -> set[str]:
    """Every label that a docstring, a comment, a page or a test of an equation uses."""
    texts = [path.read_text(encoding="utf-8") for path in make_appendix.python_files("mmlearn")]
    texts += [text for _, text in make_appendix.markdown_sources()]
    return {label for text in texts for label in re.findall(r"\beq:[A-Za-z0-9][\w-]*", text)}


def test_every_name_of_an_equation_is_in_small_letters_with_single_hyphens():
    names = mentioned() | set(make_appendix.equation_markers()) | set(make_appendix.labelled_equations())
    assert len(names) > 200 and [name for name in sorted(names) if not KEBAB.fullmatch(name)] == []


@pytest.mark.parametrize("name, fits", [
    ("eq:gan-value", True), ("eq:m2-mesh", True), ("eq:GAN-value", False), ("eq:gan_value", False),
    ("eq:gan--value", False), ("eq:gan-", False)])
def test_a_name_that_is_written_otherwise_is_found(name, fits):
    assert bool(KEBAB.fullmatch(name)) == fits


def test_an_equation_is_stated_in_one_module():
    """Two modules that state a formula under one label would be two meanings of one name."""
    assert {label: homes for label, homes in places().items() if len(homes) > 1} == {}


def test_a_name_that_code_mentions_belongs_to_a_function_or_a_page():
    known = set(places()) | set(make_appendix.labelled_equations())
    assert sorted(mentioned() - known) == []


CHAPTERS = {"image2text": "1", "text2image": "2", "images_for_language": "3", "text_for_vision": "4",
            "both_modalities": "5"}


def test_an_equation_of_a_chapters_system_stands_in_that_chapter():
    """A label of text2image that a page of chapter 1 carries, too, would be one name for two formulas."""
    home = {label: CHAPTERS.get(homes[0].split(".")[1]) for label, homes in places().items()}
    for label, pages in make_appendix.labelled_equations().items():
        number = Path(pages[0]).name[0]
        assert not home.get(label) or not number.isdigit() or number == home[label], (label, pages[0].name)
