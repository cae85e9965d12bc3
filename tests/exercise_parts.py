"""What tests of the checks of exercises have in common: an exercise's answers and known mistakes, tried."""

from collections.abc import Iterable
from types import ModuleType
from typing import Any

import mmlearn.exercises
from mmlearn.exercises import same


def checked_by(parts: Iterable[Any], modules: dict[str, ModuleType]) -> list[Any]:
    """The exercises whose checks are those of ``modules``, named as pages import them."""
    return [part for part in parts
            if any(f"{name} as check" in cell.source for name in modules for cell in part.tagged(None))]


def check_answers(part: Any, capsys: Any, **given: Any) -> None:
    """Right answers are told so; each wrong one gets the hint of its own, and no other."""
    hints = [cell.metadata.mmlearn["hint"] for cell in part.tagged("wrong")]
    assert len(part.tagged("solution")) >= 2 and len(set(hints)) == len(hints) >= 4

    def said(cell: Any) -> str:
        space = dict(given)
        exec(part.tagged(None)[0].source, space)
        exec(cell.source, space)
        return " ".join(capsys.readouterr().out.split())

    for cell in part.tagged("solution"):
        assert said(cell).startswith("right: "), cell.source
    for cell in part.tagged("wrong"):
        verdict = said(cell)
        assert verdict.startswith("not yet: ") and "stopped in line" not in verdict, verdict
        assert [hint for hint in hints if hint in verdict] == [cell.metadata.mmlearn["hint"]], verdict


def check_mistakes(part: Any, modules: Iterable[ModuleType], monkeypatch: Any, uncompared: str = "") -> None:
    """Every known mistake differs from the right answer and from the other mistakes, as the check compares
    them with the first solution; only an exercise with ``uncompared`` in its title may compare nothing."""
    compared: list[Any] = []

    def recorded(cases: Any, otherwise: str) -> str | None:
        compared.append(cases)
        return mmlearn.exercises.diagnose(cases, otherwise)

    for module in modules:
        monkeypatch.setattr(module, "diagnose", recorded)
    space: dict[str, Any] = {}
    right = part.tagged("solution")[0]
    for cell in part.cells[:part.cells.index(right) + 1]:
        if cell is right or cell in part.tagged(None):
            exec(cell.source, space)
    assert compared or uncompared and uncompared in part.title
    for cases in compared:
        hints = list(cases[0][2])
        assert len({len(mistakes) for _, _, mistakes in cases}) == 1
        for k, hint in enumerate(hints):
            assert not all(same(mistakes[hint], want) for _, want, mistakes in cases), f"never given: {hint}"
            for other in hints[:k]:
                assert not all(same(m[hint], m[other]) for _, _, m in cases), f"never given: {hint}"
