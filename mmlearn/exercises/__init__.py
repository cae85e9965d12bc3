"""Exercises that answer in words: what is right, what is not yet, what is not written yet, where code
stopped.

One module a chapter, or one a theme of it, holds the checks of its exercises. A notebook calls a check by
name with the function that was written, ``check.gates_that_sum_to_one(competing_mesh)``, and one sentence is
printed:

* ``right: …`` says what the answer has shown;
* ``not yet: …`` says what is wrong, or at which line the code stopped;
* ``not written yet: …`` means that the cell still holds ``not_written()``.

A check never stops the notebook, draws its inputs from a fixed seed and leaves the global random state as it
was.
"""

import functools
import inspect
import linecache
import math
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

COLUMNS = 79                                    # of a printed line
Case = tuple[Any, Any, Mapping[str, Any]]       # what came out, what should, mistake -> what it would give


class NotWrittenYet(Exception):
    """The student's cell is as it was."""


class Hint(Exception):
    """What is wrong with an answer, in a sentence."""


def not_written() -> NoReturn:
    """Stands where the student's code shall stand."""
    raise NotWrittenYet("replace the line not_written() by your own")


class Answer:
    """A function that a student wrote; whatever goes wrong in it becomes a ``Hint``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "your function")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        result = self.run(*arguments, **options)
        if result is None:
            raise Hint(f"{self.name} returns nothing (None): is the return missing?")
        return result

    def run(self, *arguments: Any, **options: Any) -> Any:
        """The same for a function that need not return anything."""
        before = [copied(a) for a in arguments]
        try:
            result = self.function(*arguments, **options)
        except NotWrittenYet as error:
            raise NotWrittenYet(f"{self.name}: {error}") from None
        except Hint:
            raise
        except Exception as error:
            raise Hint(where(error, self.function)) from error
        for number, (a, b) in enumerate(zip(arguments, before)):
            if b is not None and not same(a, b, exact=True):
                raise Hint(f"{self.name} changes its argument {parameter(self.function, number)} in place; "
                           "whoever called it still needs it: work on a copy")
        return result


class Check:
    """What looks at the answer of one exercise; call it with the functions that were written."""

    def __init__(self, look: Callable[..., str | None], right: str) -> None:
        self.look, self.right = look, right
        functools.update_wrapper(self, look)

    def verdict(self, *answers: Any) -> str:
        """The sentence that is printed."""
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                wrong = self.look(*(Answer(a) if callable(a) else a for a in answers))
        except NotWrittenYet as unwritten:
            return f"not written yet: {unwritten}"
        except Hint as hint:
            wrong = str(hint)
        return f"not yet: {wrong}" if wrong else f"right: {self.right}"

    def __call__(self, *answers: Any) -> None:
        wanted = len(inspect.signature(self.look).parameters)
        if len(answers) != wanted or not callable(answers[0]):
            said = (f"not yet: hand over {wanted} argument{'s' * (wanted > 1)}, your function by its name "
                    "and uncalled")
        else:
            said = self.verdict(*answers)
        print(textwrap.fill(said, COLUMNS, subsequent_indent="    ", break_on_hyphens=False,
                            break_long_words=False))


def check(right: str) -> Callable[[Callable[..., str | None]], Check]:
    """Make a check of a function that returns what is wrong in a sentence (or raises a ``Hint``), or None."""
    return lambda look: Check(look, right)


# ----------------------------------------------------------------------------------------- the student's code


def copied(value: Any) -> Any:
    """A copy of an argument that a function could change by accident, None for others."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [copied(v) if isinstance(v, list | Tensor) else v for v in value]
    return None


def parameter(function: Callable[..., Any], number: int) -> str:
    """The name of a parameter by its place."""
    names = list(inspect.signature(function).parameters)
    return names[number] if number < len(names) else str(number + 1)


def where(error: Exception, function: Callable[..., Any]) -> str:
    """At which line of a function (of its cell, in a notebook) an error came up, and which."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    about = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}".rstrip(": ")
    if not frames or frames[-1].lineno is None:
        return f"your code stopped with {about}"
    line = frames[-1].line or linecache.getline(str(file), frames[-1].lineno).strip()
    quoted = f", `{line}`," if line else ""
    return f"your code stopped in line {frames[-1].lineno} of its cell{quoted} with {about}"


# -------------------------------------------------------------------------------------------------- comparing


def same(a: Any, b: Any, exact: bool = False) -> bool:
    """Whether two numbers, tensors, arrays or nested lists of them agree, to rounding unless ``exact``."""
    if isinstance(a, list | tuple) or isinstance(b, list | tuple):
        return (isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b)
                and all(same(x, y, exact) for x, y in zip(a, b)))
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    x, y = (torch.as_tensor(v).detach().double() for v in (a, b))
    if x.shape != y.shape:
        return False
    return torch.equal(x, y) if exact else torch.allclose(x, y, rtol=1e-4, atol=1e-6)


def diagnose(cases: Sequence[Case], otherwise: str) -> str | None:
    """None if every case is right; else the first mistake that explains what came out in every case.

    If no mistake does, ``otherwise``, in which {got} and {want} stand for the first case that differs.
    """
    wrong = [(got, want) for got, want, _ in cases if not same(got, want)]
    if not wrong:
        return None
    for hint in cases[0][2]:
        if all(same(got, mistakes[hint]) for got, _, mistakes in cases):
            return hint
    return otherwise.format(got=shown(wrong[0][0]), want=shown(wrong[0][1]))


def shown(value: Any) -> str:
    """A value as it is shown in a hint."""
    if isinstance(value, Tensor | np.ndarray):
        return shown(value.tolist())
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)


def as_number(got: Any, what: str = "the answer") -> float:
    """A finite number, or a hint; a tensor or an array of one number will do."""
    if isinstance(got, list | tuple | dict | str):
        raise Hint(f"{what} is a {type(got).__name__}, and should be one number")
    if isinstance(got, Tensor | np.ndarray) and math.prod(got.shape) != 1:
        raise Hint(f"{what} has shape {tuple(got.shape)}, and should be one number: what is summed or "
                   "averaged?")
    try:
        return float(got)
    except (TypeError, ValueError):
        raise Hint(f"{what} is a {type(got).__name__}, and should be one number") from None


def as_tensor(got: Any, shape: Sequence[int], what: str = "the answer",
              dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of a shape (and of a dtype, where it matters), or a hint."""
    if not isinstance(got, Tensor):
        raise Hint(f"{what} is a {type(got).__name__}, and should be a tensor of shape {tuple(shape)}")
    if tuple(got.shape) != tuple(shape):
        raise Hint(f"{what} has shape {tuple(got.shape)}, and should have {tuple(shape)}")
    if dtype is not None and got.dtype != dtype:
        raise Hint(f"{what} holds {str(got.dtype).removeprefix('torch.')}, and should hold "
                   f"{str(dtype).removeprefix('torch.')}")
    return got.detach()


def measured_table(table: Any, record: Mapping[tuple[Any, int], float], settings: str,
                   value: tuple[str, str], control: Any = None) -> dict[Any, Sequence[float]]:
    """A table {setting: [value of each seed]} of a study, with three settings and three seeds or more, or a
    hint.

    ``record`` holds what was measured with (setting, seed), ``settings`` and ``value`` (one, several) name
    it: "slots", ("accuracy", "accuracies"). A ``control`` is a setting that has to be there.
    """
    one, several = value
    if not isinstance(table, dict) or not all(isinstance(row, list | tuple) for row in table.values()):
        raise Hint(f"return a dictionary {{{settings}: [{one} of each seed]}}: a mean alone has no spread")
    if len(table) < 3 or (control is not None and control not in table):
        needed = "at least three" if control is None else f"{control} (the control) and at least two others"
        raise Hint(f"the table has rows for {sorted(table)} {settings}; it needs {needed}")
    if min(map(len, table.values())) < 3:
        raise Hint("fewer than three seeds somewhere: a single run cannot tell a difference from luck")
    if any(len({seed for setting, seed in record if setting == row}) < len(table[row]) for row in table):
        raise Hint(f"some {several} were not measured with a number of {settings} and a seed of their own")
    for setting, row in table.items():
        if sorted(row) != sorted(v for (s, _), v in record.items() if s == setting):
            raise Hint(f"the {several} reported for {setting} {settings} are not those measured: none left "
                       "out, none made up")
    return table


def as_several(got: Any, names: Sequence[str]) -> tuple[Any, ...]:
    """A tuple of so many things, or a hint."""
    if not isinstance(got, tuple | list) or len(got) != len(names):
        raise Hint(f"return {len(names)} things, {' and '.join(names)}")
    for value, name in zip(got, names):
        if value is None:
            raise Hint(f"{name} is None")
    return tuple(got)
