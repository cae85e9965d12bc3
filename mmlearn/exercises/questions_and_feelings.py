"""The checks of chapter 5's exercises about questions, reasons and feelings. Reading on shows answers: try
the exercise first.

Every check compares with what the task says, written out by hand, and with what the usual mistakes of its
task would give.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch

from mmlearn.exercises import Case, as_number, as_several, as_tensor, check, diagnose

# --------------------------------------------------------------------------------- 15: three of the others


@check("an answer is right as far as three of the others gave it, and each person is left out once")
def three_of_the_others(answer: Callable[..., Any]) -> str | None:
    """Compares with a loop over the people, for ten of them and for other numbers."""
    cases: list[Case] = []
    for said in (["yes"] * 3 + ["no"] * 7, ["red"] * 2 + ["blue"] * 8, ["2", *["3"] * 4, *"44552"],
                 ["on"] * 4 + ["off"] * 2, ["a"] * 3 + ["b", "c"], ["up"] * 1 + ["down"] * 6):
        candidate, n = said[0], len(said)
        m = said.count(candidate)
        others = [said[:i].count(candidate) + said[i + 1:].count(candidate) for i in range(n)]
        want = sum(min(1, k / 3) for k in others) / n
        most = max(said.count(one) for one in said)
        cases.append((as_number(answer(candidate, list(said)), "the accuracy"), want, {
            "nobody is left out: who gave the answer counts for himself": min(1, m / 3),
            "one is taken off always; when somebody else is left out, all who agree remain":
                min(1, (m - 1) / 3),
            "this is the share of people who agree; three are enough, whatever the number of people": m / n,
            "this asks whether most people gave it": float(m == most),
            "two of the others are worth two thirds, not nothing": sum(k >= 3 for k in others) / n,
            "the values are added up and divided by 10; divide by the number of people":
                sum(min(1, k / 3) for k in others) / 10,
            "three others are worth 1, and four are not worth more": sum(k / 3 for k in others) / n,
        }))
    if wrong := diagnose(cases, "one accuracy should be {want}, yours is {got}"):
        return wrong
    nobody = as_number(answer("green", ["red"] * 10), "the accuracy")
    return None if nobody == 0 else f"nobody said green: the accuracy should be 0, yours is {nobody:g}"


# -------------------------------------------------------------------------------------- 16: both, or neither


@check("a reason is chosen in sight of the right answer, and both have to be right")
def both_or_neither(answer: Callable[..., Any]) -> str | None:
    """Compares the three accuracies with loops over questions."""
    cases: list[Case] = []
    for n in (40, 25, 60):
        answers = torch.randn(n, 4, dtype=torch.float64)
        reasons = torch.randn(n, 4, 4, dtype=torch.float64)
        a, r = torch.randint(4, (n,)), torch.randint(4, (n,))
        answers[torch.arange(n), a] += 1.0
        reasons[torch.arange(n), a, r] += 1.0
        got = [as_number(value, name) for value, name in zip(
            as_several(answer(answers, reasons, a, r), ("Q->A", "QA->R", "Q->AR")),
            ("Q->A", "QA->R", "Q->AR"))]
        rows = range(n)
        chosen = [int(answers[i].argmax()) for i in rows]
        first = [chosen[i] == int(a[i]) for i in rows]
        second = [int(reasons[i, a[i]].argmax()) == int(r[i]) for i in rows]
        own = [int(reasons[i, chosen[i]].argmax()) == int(r[i]) for i in rows]
        blind = [int(reasons[i].mean(0).argmax()) == int(r[i]) for i in rows]
        q, qa = sum(first) / n, sum(second) / n
        both = sum(x and y for x, y in zip(first, second))
        cases.append((got, [q, qa, both / n], {
            "the reason is chosen after the answer that was chosen; the right answer is given for it":
                [q, sum(own) / n, both / n],
            "the two accuracies are multiplied, as if nothing linked them; count questions":
                [q, qa, q * qa],
            "one of the two right is not both right": [q, qa, sum(x or y for x, y in zip(first, second)) / n],
            "the joint number is no mean of the two": [q, qa, (q + qa) / 2],
            "reasons are counted over the questions that were answered rightly alone; count all":
                [q, both / max(sum(first), 1), both / n],
            "reasons are averaged over all four answers; take those that follow the right one":
                [q, sum(blind) / n, sum(x and y for x, y in zip(first, blind)) / n],
        }))
    return diagnose(cases, "the three accuracies should be {want}, yours are {got}")


# ---------------------------------------------------------------------------------- 17: what two votes can do


@check("you see which cases a sum of votes gets right; now show that it never gets all four")
def cases_got_right(answer: Callable[..., Any]) -> str | None:
    """Compares with a loop over the four cases; some sums are 0, which does not mean good."""
    cases: list[Case] = []
    votes = [(torch.randint(-3, 4, (2,)).double(), torch.randint(-3, 4, (2,)).double()) for _ in range(12)]
    for f, g in [*votes, (torch.tensor([1.0, -1.0]), torch.tensor([-1.0, 1.0])),
                 (torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))]:
        got = as_tensor(answer(f, g), (2, 2), "the table", torch.bool)

        def table(rule: Callable[[int, int], bool]) -> torch.Tensor:
            right = torch.zeros(2, 2, dtype=torch.bool)
            for wink, praise in product((0, 1), repeat=2):
                right[wink, praise] = rule(wink, praise)
            return right

        cases.append((got, table(lambda w, p, f=f, g=g: bool(f[w] + g[p] > 0) == (w != p)), {  # type: ignore
            "a sum of exactly 0 is no vote for good":
                table(lambda w, p, f=f, g=g: bool(f[w] + g[p] >= 0) == (w != p)),   # type: ignore[misc]
            "these are the answers; asked is where they are right":
                table(lambda w, p, f=f, g=g: bool(f[w] + g[p] > 0)),                # type: ignore[misc]
            "rows and columns are exchanged: the first index is the wink, and f is its vote":
                table(lambda w, p, f=f, g=g: bool(f[p] + g[w] > 0) == (w != p)),    # type: ignore[misc]
            "good is meant where exactly one of the two is there; with both it is not":
                table(lambda w, p, f=f, g=g: bool(f[w] + g[p] > 0) == bool(w or p)),    # type: ignore[misc]
            "good is meant where the two differ, not where they are alike":
                table(lambda w, p, f=f, g=g: bool(f[w] + g[p] > 0) == (w == p)),    # type: ignore[misc]
            "votes are added, not multiplied":
                table(lambda w, p, f=f, g=g: bool(f[w] * g[p] > 0) == (w != p)),    # type: ignore[misc]
        }))
    return diagnose(cases, "one table should be {want}, yours is {got}")
