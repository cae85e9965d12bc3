"""A check of an exercise answers in words, whatever the student's function does."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch

import mmlearn.exercises
from mmlearn.data.scenes import Category
from mmlearn.exercises import (
    Answer,
    Check,
    Hint,
    NotWrittenYet,
    as_number,
    as_several,
    as_tensor,
    check,
    diagnose,
    not_written,
    same,
)

CHECKS = [value for module in pkgutil.iter_modules(mmlearn.exercises.__path__)
          for value in vars(importlib.import_module(f"mmlearn.exercises.{module.name}")).values()
          if isinstance(value, Check)]
each_check = pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.__name__)


@check("it is the double")
def doubled(answer):
    x = torch.arange(3.0)
    return None if same(answer(x), 2 * x) else "that is not the double"


def arguments(one: Check, function) -> list:
    """The function for every parameter of a check; a metric's name or a category where one is asked for."""
    others = {"metric": "ROUGE_L", "category": Category(100, "snowman", "snowmen", "toy", settings=("snow",))}
    return [others.get(name, function) for name in inspect.signature(one.look).parameters]


def test_a_right_answer_is_told_what_it_has_shown(capsys):
    doubled(lambda x: 2 * x)
    assert capsys.readouterr().out == "right: it is the double\n"


def test_a_wrong_answer_is_told_what_is_wrong():
    assert doubled.verdict(lambda x: 3 * x) == "not yet: that is not the double"


def test_an_unwritten_answer_is_told_so_once():
    def twice(x):
        not_written()

    assert doubled.verdict(twice) == "not written yet: twice: replace the line not_written() by your own"


def test_not_implemented_of_a_library_is_an_error_of_the_code_and_not_an_unwritten_answer():
    def twice(x):
        raise NotImplementedError("no kernel for this")

    said = doubled.verdict(twice)
    assert said.startswith("not yet: your code stopped in "
                           "line") and "NotImplementedError: no kernel for this" in said


def test_an_error_is_reported_with_the_line_of_the_students_code():
    source = "import torch\n\ndef twice(x):\n    y = 2 * x\n    return torch.linalg.inv(y)\n"
    space: dict = {}
    exec(compile(source, "<cell>", "exec"), space)
    assert "in line 5 of its cell" in doubled.verdict(space["twice"])

    def third(x):
        return x[3]

    said = doubled.verdict(third)
    assert "`return x[3]`" in said and "IndexError" in said


def test_a_missing_return_is_named():
    def twice(x):
        2 * x

    assert doubled.verdict(twice) == "not yet: twice returns nothing (None): is the return missing?"


@pytest.mark.parametrize("value", [torch.ones(3), np.ones(3), [[1.0, 2.0], [3.0]]],
                         ids=["tensor", "array", "list"])
def test_a_change_of_an_argument_in_place_is_named(value):
    def spoil(first, second):
        second[0] = second[-1]
        second[-1] = 2 * second[-1]
        return second

    with pytest.raises(Hint, match="changes its argument second in place"):
        Answer(spoil)(1, value)


def test_an_argument_that_only_shares_memory_with_the_result_is_no_change():
    x = torch.ones(3)
    assert Answer(lambda x: x.view(3, 1))(x).shape == (3, 1)


@pytest.mark.parametrize("wrong", [(), (torch.ones(3),), (len, len)])
def test_a_check_says_what_it_wants_to_be_handed(wrong, capsys):
    doubled(*wrong)
    assert (
        capsys.readouterr().out == "not yet: hand over 1 argument, your function by its name and uncalled\n"
    )


def test_a_long_sentence_is_printed_in_lines_that_fit_the_page(capsys):
    check("well done " * 20)(lambda answer: None)(len)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2 and max(map(len, lines)) <= 79
    assert lines[0].startswith("right: ") and all(
        line.startswith("    well") or line.startswith("    done") for line in lines[1:]
    )


def test_a_check_leaves_the_random_state_alone_and_draws_the_same_every_time():
    seen = []

    @check("fine")
    def draws(answer):
        seen.append(torch.randn(3))
        return None

    torch.manual_seed(5)
    want = torch.randn(2)
    torch.manual_seed(5)
    draws.verdict(len), draws.verdict(len)
    assert torch.equal(torch.randn(2), want) and torch.equal(*seen)


def test_a_mistake_is_recognised_only_if_it_explains_every_case():
    cases = [(4.0, 2.0, {"squared": 4.0, "doubled": 4.0}), (6.0, 3.0, {"squared": 9.0, "doubled": 6.0})]
    assert diagnose(cases, "else") == "doubled"
    assert diagnose([*cases, (1.0, 5.0, {"squared": 25.0, "doubled": 10.0})],
                    "{got}, not {want}") == "4.0000, not 2.0000"
    assert diagnose([(2.0, 2.0, {"squared": 4.0}), (3.0, 3.0, {"squared": 9.0})], "else") is None


def test_values_agree_to_rounding_and_never_with_another_shape_or_with_nan():
    assert same(1.0, torch.tensor(1.0 + 1e-7)) and not same(1.0, 1.0 + 1e-7, exact=True)
    assert not same(torch.ones(2), torch.ones(2, 1)) and not same([1, 2], [1, 2, 3])
    assert not same(float("nan"), 1.0) and not same(float("nan"), float("nan"))


@pytest.mark.parametrize("wrong,words", [([1.0], "is a list"), (torch.ones(2), r"shape \(2,\)"),
                                         ({}, "is a dict")])
def test_what_is_no_number_is_named(wrong, words):
    with pytest.raises(Hint, match=words):
        as_number(wrong)
    assert as_number(torch.tensor([2.0])) == as_number(np.float64(2)) == as_number(2) == 2.0


@pytest.mark.parametrize("wrong,words", [([1.0, 2.0], "is a list"), (np.ones(2), "is a ndarray"),
                                         (torch.ones(1, 2), r"\(1, 2\), and should have \(2,\)"),
                                         (torch.ones(2).double(), "holds float64, and should hold float32")])
def test_what_is_no_such_tensor_is_named(wrong, words):
    with pytest.raises(Hint, match=words):
        as_tensor(wrong, (2,), dtype=torch.float32)


def test_several_results_are_asked_for_by_name():
    with pytest.raises(Hint, match="return 2 things, gates and mesh"):
        as_several(torch.ones(3), ("gates", "mesh"))
    with pytest.raises(Hint, match="mesh is None"):
        as_several((1, None), ("gates", "mesh"))


@each_check
def test_every_check_tells_the_usual_states_of_a_cell_apart(one):
    def unwritten(*args):
        not_written()

    def nothing(*args):
        len(args)

    def stops(*args):
        raise NotImplementedError("of a library")

    assert one.verdict(*arguments(one, unwritten)).startswith("not written yet: unwritten:")
    missing = "nothing was drawn" if one.__name__ == "category_of_your_own" else \
        "nothing returns nothing (None): is the return missing?"
    assert one.verdict(*arguments(one, nothing)).startswith("not yet: " + missing)
    said = one.verdict(*arguments(one, stops))
    assert "`raise NotImplementedError(\"of a library\")`" in said and "not written" not in said, said


@each_check
def test_every_check_names_what_is_no_answer_at_all(one):
    for nonsense in ("text", {}, object()):
        said = one.verdict(*arguments(one, lambda *args, nonsense=nonsense: nonsense))
        assert said.startswith("not yet: "), said


def test_not_written_is_no_error_of_python():
    with pytest.raises(NotWrittenYet):
        not_written()
    assert not issubclass(NotWrittenYet, NotImplementedError)
