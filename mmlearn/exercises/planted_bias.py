"""The check of chapter 4's exercise about a bias that is planted and found. Reading on shows answers: try the
exercise first.

It looks at what is planted, and lets the study train with a function that keeps a record.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmlearn.exercises import Answer, as_tensor, check, same

Record = dict[tuple[float, int], float]


def study_with(study: Callable[..., Any], train: Callable[[float, int], float]) -> tuple[Any, Record]:
    """What a study reports, and what it was told."""
    record: Record = {}

    def recorded(agreement: float, seed: int) -> float:
        record[agreement, seed] = train(agreement, seed)
        return record[agreement, seed]

    return study(recorded), record


def table_of_gaps(table: Any, record: Record) -> str | None:
    """What is wrong with a table of gaps before one reads it."""
    if not isinstance(table, dict) or not all(isinstance(row, list | tuple) for row in table.values()):
        return "return a dictionary {agreement: [gap of each seed]}: a mean alone has no spread"
    if 0.5 not in table:
        return f"agreements {sorted(table)}: 0.5, where nothing is planted, is the control"
    if max(table) <= 0.5 or min(table) >= 0.5:
        return f"agreements {sorted(table)}: take one on either side of 0.5, a bias has a direction"
    if min(map(len, table.values())) < 2:
        return "a single run cannot tell a bias from luck: at least two seeds for each agreement"
    measured = {a: sorted(gap for (b, _), gap in record.items() if b == a) for a in table}
    if any(not same(sorted(table[a]), measured[a]) for a in table):
        if all(same(sorted(table[a]), sorted(map(abs, measured[a]))) for a in table):
            return "the gaps are reported without their sign: a bias has a direction"
        return "some reported gaps are not the measured ones: each from a seed of its own, none left out"
    return None


@check("the gap follows what was planted, in size and direction, and is about 0 where nothing was planted")
def planted_bias(plant: Answer, study: Callable[..., Any], train: Callable[..., Any]) -> str | None:
    """Looks at what is planted, then runs the study with a trainer that keeps a record."""
    group = torch.arange(4000) % 2
    for agreement in (0.5, 0.8, 0.1):
        g, again = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
        roles = as_tensor(plant(group, agreement, g), (4000,), "the roles")
        shares = [float((roles == group)[group == k].double().mean()) for k in (0, 1)]
        if max(abs(share - 1 + agreement) for share in shares) < 0.05 and agreement != 0.5:
            return f"with agreement {agreement} only {shares[0]:.2f} agree: those who should agree disagree"
        for k, share in enumerate(shares):
            if abs(share - agreement) > 0.05:
                return f"with agreement {agreement} the roles of group {k} agree in {share:.2f} of the cases"
        if not torch.equal(roles, plant(group, agreement, again)):
            return "the same generator gives other roles: draw with the generator that is given"
        if torch.equal(roles, plant(group, agreement, g)):
            return "two draws are the same person by person: who agrees has to be drawn"
    # the first run costs nothing
    table, record = study_with(study, lambda agreement, seed: math.sin(100 * agreement + seed))
    wrong = table_of_gaps(table, record)
    if wrong:
        return wrong
    table, record = study_with(study, lambda agreement, seed: float(train(plant.function, agreement, seed)))
    wrong = table_of_gaps(table, record)
    if wrong:
        return wrong
    for a in sorted(table):
        print(f"agreement {a:.2f}: gaps {', '.join(f'{x:+.2f}' for x in table[a])}; "
              f"captions {2 * a - 1:+.2f}")
    mean, spread = ({a: float(f(row)) for a, row in table.items()} for f in (np.mean, np.std))
    for a, sign in ((max(table), 1), (min(table), -1)):
        if sign * (mean[a] - mean[0.5]) < spread[a] + spread[0.5]:
            return (f"agreement {a} does not stand out from the control by more than the spread over seeds: "
                    "plant more, or train more seeds")
    return None
