"""What the fields of a configuration may hold: of the right type, finite, and of a possible size.

Survey: none; every system's configuration calls ``check`` when it is made, so that a bad value is one
sentence wherever it comes from: a call, a command line, the file of somebody else.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Limits = tuple[float | int, float | int]
WHOLE: Limits = (1, 10_000_000)                 # of whole numbers that have no line below
LIMITS: dict[str, Limits] = {
    "layers": (0, 1000), "blocks": (0, 1000), "depths": (0, 1000), "size": (1, 65_536), "patch": (1, 65_536),
    "window": (1, 256), "memory": (0, 1_000_000), "pad": (0, 10_000_000), "eot": (0, 10_000_000),
    "eps": (0, 1), "dropout": (0, 1), "drop_path": (0, 1), "momentum": (0, 1), "squeeze": (0, 100),
    "temperature": (1e-6, 1e6), "least": (0, 1e6), "width_factor": (1e-3, 1e3), "square": (0, 1_000_000),
    "kernel": (1, 255), "stride": (1, 255), "ratios": (1e-3, 1e3),
}
NAMES: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false",
                         type(None): "nothing"}


class FieldError(ValueError):
    """A field holds what it must not: ``field`` is its name, ``reason`` the rest of the sentence."""

    def __init__(self, kind: str, field: str, reason: str) -> None:
        super().__init__(f"{field} of {kind} {reason}")
        self.field, self.reason = field, reason


def check(config: Any, **limits: Limits) -> None:
    """Refuse a configuration with a value of another type than its field's, or one that no model can have.

    Numbers are finite and lie within ``limits`` (by the field's name), else within ``LIMITS`` or ``WHOLE``.
    Raises ``FieldError``, a ``ValueError`` that names the field.
    """
    kind = type(config)
    hints = get_type_hints(kind)
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    check_types(kind, values)
    for name, value in values.items():
        for number in numbers(value):
            low, high = limits.get(name) or LIMITS.get(name) or (
                WHOLE if isinstance(number, Integral) and float not in get_args(hints[name])
                and hints[name] is not float else (-1e9, 1e9))
            if not low <= number <= high:                    # not a number is between no two
                raise FieldError(kind.__name__, name,
                                 f"is {shown(value)}, expected from {low:,} to {high:,}")


def check_types(kind: Any, values: Mapping[str, Any]) -> None:
    """Refuse values for the fields of ``kind`` that have another type than the field's, by its name."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name in hints and not fits(value, hints[name]):
            raise FieldError(kind.__name__, name, f"is {shown(value)}, expected {named(hints[name])}")


def check_divides(config: Any, parts: str, whole: str) -> None:
    """Refuse a configuration whose field ``parts`` does not divide its field ``whole``: heads and width."""
    n, total = getattr(config, parts), getattr(config, whole)
    if total % n:
        raise FieldError(type(config).__name__, parts, f"is {n}, which does not divide {whole} {total}; "
                                                       f"choose a number that does")


def fits(value: Any, hint: Any) -> bool:
    """Has ``value`` the type ``hint`` of a field? A whole number is a number; true and false are none."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, tuple) and (
            all(fits(one, inner[0]) for one in value) if inner[-1] is Ellipsis
            else len(value) == len(inner) and all(fits(*pair) for pair in zip(value, inner)))
    if origin is type:
        return isinstance(value, type)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def numbers(value: Any) -> Iterator[float]:
    """The numbers of a field, those within tuples, too (tuples with names check themselves)."""
    if isinstance(value, Real) and not isinstance(value, bool):
        yield value  # type: ignore[misc]
    elif isinstance(value, tuple) and not hasattr(value, "_fields"):
        for one in value:
            yield from numbers(one)


def named(hint: Any) -> str:
    """A type in words: "a whole number or nothing"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(named(one) for one in inner))
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is tuple:
        count = "" if inner[-1] is Ellipsis else f" of {len(inner)}"
        return f"a list{count}, each {named(inner[0])}"
    return NAMES.get(hint) or f"a {getattr(origin or hint, '__name__', hint)}"


def shown(value: Any) -> str:
    """A value as an error tells it, cut to 60 letters."""
    if isinstance(value, int) and abs(value) >= 10**60:
        return f"a number of about {math.floor(value.bit_length() * math.log10(2)) + 1} digits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def configured(kind: Any, values: Mapping[str, Any], where: str | Path,
               names: Mapping[str, str] | None = None,
               remedy: str = "take the file as it was published") -> Any:
    """A configuration of class ``kind`` from the values of a file, which were read as JSON.

    Lists become tuples, and whole numbers numbers where the field is one. ``names`` says what the file calls
    our fields. Raises ``ValueError`` that names the file ``where``, its field and what is wrong.
    """
    hints = get_type_hints(kind)
    try:
        ours = {name: as_field(value, hints[name]) for name, value in values.items()}
        check_types(kind, ours)
        return kind(**ours)
    except FieldError as error:
        field = (names or {}).get(error.field, error.field)
        raise ValueError(f"{where}: {field} {error.reason}; {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def as_field(value: Any, hint: Any) -> Any:
    """A value of JSON as a field of type ``hint`` holds it."""
    if isinstance(value, list):
        return tuple(as_field(one, (get_args(hint) or (Any,))[0]) for one in value)
    wanted = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if isinstance(value, int) and not isinstance(value, bool) and float in wanted and int not in wanted:
        return float(value) if abs(value) < 10**300 else math.inf
    return value
