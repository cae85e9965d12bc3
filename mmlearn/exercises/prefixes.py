"""The checks of chapter 5's exercises about a picture as a prefix of a text. Reading on shows answers: try
the exercise first."""

from collections.abc import Callable
from typing import Any

import torch

from mmlearn.claims import Paired, paired
from mmlearn.exercises import Case, Hint, as_several, as_tensor, check, diagnose

PARTS = ("prefix", "prefix and language model", "other pictures")
SCORES = ("captions", "text alone")

# ------------------------------------------------------------------------------------------ 18: a prefix mask


@check("the prefix sees all of itself, a word all before it, and nothing is told ahead")
def prefix_mask(answer: Callable[..., Any]) -> str | None:
    """Compares with loops over rows, queries and keys; texts have padding at the left, whose own rows do not
    matter."""
    cases: list[Case] = []
    for b, t, lengths, padded in ((3, 6, [2, 3, 0], [0, 1, 2]), (2, 5, [1, 4], [0, 0]), (1, 7, [3], [2])):
        n = torch.tensor(lengths)
        real = torch.arange(t) >= torch.tensor(padded)[:, None]
        got = as_tensor(answer(n, real), (b, t, t), "the mask", torch.bool)
        first = torch.tensor(padded)[:, None]
        in_prefix = real & (torch.arange(t) < first + n[:, None])               # b t

        def masks(sees: Callable[[int, int, int], bool], b: int = b, t: int = t,
                  real: torch.Tensor = real) -> torch.Tensor:
            rows = torch.tensor([[[sees(i, q, k) for k in range(t)] for q in range(t)] for i in range(b)])
            return rows & real[:, :, None]

        def right(i: int, q: int, k: int, real: Any = real, P: Any = in_prefix) -> bool:
            return bool(real[i, k] and (k <= q or (P[i, q] and P[i, k])))

        def own(i: int, q: int, k: int, real: Any = real) -> bool:
            return bool(real[i, k] and k <= q)

        def everywhere(i: int, q: int, k: int, real: Any = real) -> bool:
            return bool(real[i, k])

        def ahead(i: int, q: int, k: int, real: Any = real, P: Any = in_prefix) -> bool:
            return bool(real[i, k] and (k <= q or P[i, q]))

        def turned(i: int, q: int, k: int, real: Any = real, P: Any = in_prefix) -> bool:
            return bool(real[i, k] and (k >= q or (P[i, q] and P[i, k])))

        def strict(i: int, q: int, k: int, real: Any = real, P: Any = in_prefix) -> bool:
            return bool(real[i, k] and (k < q or (P[i, q] and P[i, k])))

        def parted(i: int, q: int, k: int, real: Any = real, P: Any = in_prefix) -> bool:
            return bool(real[i, k] and ((k <= q and not P[i, q] and not P[i, k]) or (P[i, q] and P[i, k])))

        def from_zero(i: int, q: int, k: int, real: Any = real, n: Any = n) -> bool:
            return bool(real[i, k] and (k <= q or (q < n[i] and k < n[i])))

        def padding(i: int, q: int, k: int, P: Any = in_prefix) -> bool:
            return bool(k <= q or (P[i, q] and P[i, k]))

        cases.append((got & real[:, :, None], masks(right), {
            "this is the causal mask: inside the prefix a place may see those behind it, too": masks(own),
            "everything sees everything: a word would be told the words behind it": masks(everywhere),
            "the prefix sees the words behind it, and hands on what they say": masks(ahead),
            "queries and keys are exchanged: a word sees what stands before it, not behind it": masks(turned),
            "a place sees itself, too": masks(strict),
            "words do not see the prefix, which is there for them": masks(parted),
            "the prefix begins with the first real place, not at 0": masks(from_zero),
            "padding is seen": masks(padding),
        }))
    return diagnose(cases, "not yet right; print your mask for a text of five places with a prefix of two")


# ----------------------------------------------------------------------------------------- 19: freeze or not


@check("what training the language model gains on captions and costs on text alone is told, with a control")
def freeze_or_not(study: Callable[..., Any], trained: Callable[..., Any]) -> str | None:
    """Records what was trained, and compares the tables and the verdicts with it."""
    record: dict[str, dict[int, dict[str, float]]] = {part: {} for part in PARTS}

    def recorded(part: str, seed: int) -> dict[str, float]:
        if part not in record:
            raise Hint(f"there is no arm {part!r}; take {PARTS}")
        record[part][seed] = dict(trained(part, seed))
        return dict(record[part][seed])

    tables, verdicts = as_several(study(recorded), ("the tables", "the verdicts"))
    if not isinstance(tables, dict) or set(tables) != set(SCORES):
        raise Hint(f"return the tables as a dictionary with the keys {SCORES}: what is gained, and what it "
                   "costs")
    for part in PARTS:
        if part not in tables[SCORES[0]]:
            raise Hint("the control is missing: does it matter which picture stands before a text?"
                       if part == PARTS[-1] else f"the table has no row for {part}")
    if len({frozenset(by) for by in record.values()}) > 1:
        raise Hint("the arms have different seeds: compare like with like")
    if len(record[PARTS[0]]) < 3:
        raise Hint("fewer than three seeds: a single run cannot tell a difference from luck")
    cases: list[Case] = []
    for score, other in (SCORES, SCORES[::-1]):
        for part in PARTS:
            by = record[part]
            want = [by[seed][score] for seed in sorted(by)]
            row = tables[score].get(part)
            if not isinstance(row, list | tuple):
                raise Hint(f"{score}: {part} should be a list, the loss of each seed")
            got = sorted(map(float, row))
            cases.append((want if got == sorted(want) else list(map(float, row)), want, {
                "the two losses are exchanged": [by[seed][other] for seed in sorted(by)],
                "these are means over seeds; report each seed": [sum(want) / len(want)] * len(want),
                "this is the lowest loss of the arm each time": [min(want)] * len(want),
                "this is what was gained; report the losses themselves":
                    [record[PARTS[0]][seed][score] - by[seed][score] for seed in sorted(by)],
            }))
    if wrong := diagnose(cases, "losses should be {want}, yours are {got}"):
        return wrong
    if not isinstance(verdicts, dict) or not all(isinstance(verdicts.get(s), Paired) for s in SCORES):
        raise Hint(f"the second thing is a dictionary with what `paired` has returned for each of {SCORES}")
    for score in SCORES:
        seeds = sorted(record[PARTS[0]])
        base, ours = ([record[part][seed][score] for seed in seeds] for part in PARTS[:2])
        right = paired(ours, base, lower_is_better=True)
        if str(verdicts[score]) != str(right):
            if str(verdicts[score]) == str(paired(base, ours, lower_is_better=True)):
                return "the arms are exchanged: the language model trained as well, beside the prefix alone"
            if str(verdicts[score]) == str(paired(ours, base)):
                return "a loss is better when it is lower; tell `paired` so"
            return f"of {score} `paired` says: {right}, and yours is: {verdicts[score]}"
    return None
