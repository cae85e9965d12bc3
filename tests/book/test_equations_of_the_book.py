"""Equations, functions and tests belong together; pages read off the code are current."""

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
