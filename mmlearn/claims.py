"""Claims: a chapter's statements about its own experiments, judged where they are made."""

import math
import numbers
import operator
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

import torch

SCALES = ("smoke", "cpu", "gpu")
COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}


class ClaimFailed(AssertionError):
    """A claim of the text does not hold in this run."""


@dataclass(frozen=True)
class Claim:
    """One judged statement: ``verdict`` is "holds" or "fails", or "not judged" at smoke scale."""

    text: str
    ours: float
    comparison: str
    other: float
    verdict: str

    def __str__(self) -> str:
        said = f"{self.verdict:>10} | {self.text}: {self.ours:.3f} {self.comparison} {self.other:.3f}"
        return textwrap.fill(said, 79, subsequent_indent=" " * 11 + "| ", drop_whitespace=True,
                             break_on_hyphens=False)


claims: list[Claim] = []


def scale() -> str:
    """The scale of this run: ``MMLEARN_SCALE`` if set, else "gpu" where CUDA is there, else "cpu"."""
    value = os.environ.get("MMLEARN_SCALE") or ("gpu" if torch.cuda.is_available() else "cpu")
    if value not in SCALES:
        raise ValueError(f"MMLEARN_SCALE is {value!r}; set it to one of {', '.join(SCALES)}")
    return value


def budget(*, cpu: int, gpu: int | None = None, smoke: int = 2) -> int:
    """How many steps (or images, or repeats) this run can afford: ``cpu``, ``gpu`` (default: ``cpu``) or
    ``smoke``."""
    return {"smoke": min(smoke, cpu), "cpu": cpu, "gpu": cpu if gpu is None else gpu}[scale()]


def claim(text: str, ours: SupportsFloat, comparison: str, other: SupportsFloat) -> Claim:
    """Print and record a claim. It is not judged at smoke scale; at any other, one that fails stops the run.

    Raises ``ValueError`` for an unknown comparison, ``ClaimFailed`` if the statement does not hold.
    """
    if comparison not in COMPARISONS:
        raise ValueError(f"comparison {comparison!r} is unknown; use one of {', '.join(COMPARISONS)}")
    ours, other = float(ours), float(other)
    holds = COMPARISONS[comparison](ours, other)
    verdict = "not judged" if scale() == "smoke" else "holds" if holds else "fails"
    made = Claim(text, ours, comparison, other, verdict)
    claims.append(made)
    print(made)
    if verdict == "fails":
        raise ClaimFailed(f"{text}: {ours:.4g} {comparison} {other:.4g} does not hold. "
                          "Report it: either the text or the code is wrong.")
    return made


def scale_note() -> str:
    """One sentence on what this run's scale means for its claims."""
    return {"smoke": "A smoke run: everything is executed, too shortly for its claims to be judged.",
            "cpu": "A run at cpu scale: minutes on two cores, one seed.",
            "gpu": "A run at gpu scale: minutes on one GPU, one seed."}[scale()]


UNESCAPED = re.compile(r"(?<!\\)\|")        # a bar that would begin another cell


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], digits: int = 3) -> str:
    """A Markdown table that also reads as plain text: floats with ``digits`` digits, columns of numbers flush
    right, bars in cells escaped.

    Raises ``ValueError`` if a row has not as many cells as the header.
    """
    def is_number(cell: Any) -> bool:
        return isinstance(cell, numbers.Real) and not isinstance(cell, bool)

    def text(cell: Any) -> str:
        if is_number(cell) and not isinstance(cell, numbers.Integral):
            return f"{cell:.{digits}f}"
        return UNESCAPED.sub(r"\\|", str(cell))

    body = [tuple(row) for row in rows]
    for row in body:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells and the header {len(header)}: {row}")
    table = [tuple(map(text, header)), *(tuple(map(text, row)) for row in body)]
    count = range(len(header))
    widths = [max(len(row[i]) for row in table) for i in count]
    right = [bool(body) and all(is_number(row[i]) or row[i] in ("", "–") for row in body)
             and any(is_number(row[i]) for row in body) for i in count]
    lines = ["| " + " | ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w,
                               r in zip(row, widths, right)) + " |"
             for row in table]
    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def claims_table(made: list[Claim] | None = None) -> str:
    """The claims of this session (or those given) as a Markdown table, one row each, that also reads as plain
    text."""
    made = claims if made is None else made
    if not made:
        return "No claims were made."
    rows = [(c.text.replace("|", "\\|"), c.ours, c.comparison, c.other, c.verdict) for c in made]
    return "\n".join([markdown_table(("claim", "ours", "", "other", "verdict"), rows), "", scale_note()])


@dataclass(frozen=True)
class Paired:
    """What the same seeds say about two arms: mean difference (ours less base), its standard error, the
    verdict."""

    mean: float
    error: float                # standard error of the mean; nan for a single seed
    verdict: str                # "better", "worse" or "cannot tell"

    def __str__(self) -> str:
        return f"{self.verdict} ({self.mean:+.3f} ± {self.error:.3f})"


def paired(
    ours: Sequence[float | int],
    base: Sequence[float | int],
    *,
    lower_is_better: bool = False,
) -> Paired:
    """The book's one rule of evidence: the same seeds, ``ours[i]`` beside ``base[i]``.

    "better" and "worse" need the same sign with every seed and a mean difference of at least twice its
    standard error; anything else is "cannot tell". Raises ``ValueError`` for arms of different length or
    none.
    """
    n = len(ours)
    if n == 0 or n != len(base):
        raise ValueError(f"{n} values beside {len(base)}; "
                         "give one of each arm for every seed")
    differences = [float(a) - float(b) for a, b in zip(ours, base)]
    mean = sum(differences) / n
    if n == 1:
        return Paired(mean, math.nan, "cannot tell")
    squares = sum((d - mean) ** 2 for d in differences)
    error = math.sqrt(squares / (n - 1) / n)
    same_sign = min(differences) > 0 or max(differences) < 0
    if not same_sign or abs(mean) < 2 * error:
        return Paired(mean, error, "cannot tell")
    good = (mean > 0) != lower_is_better
    return Paired(mean, error, "better" if good else "worse")


def evidence(
    ours: Mapping[str, Sequence[float]], base: Mapping[str, Sequence[float]],
    lower_is_better: Iterable[str] = (),
) -> dict[str, Paired]:
    """``paired`` for every metric that both arms recorded, the adverse ones first, then the undecided, then
    the good."""
    lower = set(lower_is_better)
    judged = {name: paired(values, base[name], lower_is_better=name in lower)
              for name, values in ours.items() if name in base}
    order = ("worse", "cannot tell", "better")
    return dict(sorted(judged.items(), key=lambda item: order.index(item[1].verdict)))


def evidence_rows(arms: Mapping[str, Mapping[str, Paired]]) -> list[list[str]]:
    """``evidence`` of several arms as rows of a table: one a metric, in the order of the first arm, one
    column an arm."""
    metrics = dict.fromkeys(name for arm in arms.values() for name in arm)
    return [[name, *(str(arm[name]) if name in arm else "" for arm in arms.values())] for name in metrics]
