"""The checks of chapter 5's exercises about ViLBERT: reading in the other stream, answers of ten people,
hidden regions. Reading on shows answers: try the exercise first.

Every check compares with what the task says, written out by hand, and with what the usual mistakes of its
task would give.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import Case, as_number, as_several, as_tensor, check, diagnose, same

Weights = dict[str, Tensor]
FLOOR = 1e-4            # a share of 0 or 1 is moved inwards by so much

# --------------------------------------------------------------------------------- 5: reading, or not reading


def read(Q: Tensor, K: Tensor, V: Tensor, real: Tensor, *, scale: float, slot: float | None = 0.0) -> Tensor:
    """What queries read of keys that are real and of an empty slot with the score ``slot``, by loops."""
    rows = []
    for q in Q:
        scores = [float(q @ k) / scale for k, there in zip(K, real) if there]
        values = [v for v, there in zip(V, real) if there]
        if slot is not None:
            scores, values = [*scores, slot], [*values, torch.zeros_like(V[0])]
        largest = max(scores, default=0.0)
        shares = [math.exp(score - largest) for score in scores]
        rows.append(sum((s / sum(shares) * v for s, v in zip(shares, values)), torch.zeros_like(V[0])))
    return torch.stack(rows)


@check("queries ask the other stream, its mask decides, and who finds nothing there reads nothing")
def reading_or_not(answer: Callable[..., Any]) -> str | None:
    """Compares both directions with loops over queries and keys."""
    cases: list[Case] = []
    for n, t, d, e, k in ((3, 4, 5, 2, 4), (2, 3, 2, 6, 9), (4, 2, 3, 3, 2)):
        X, Y = torch.randn(n, d).double(), torch.randn(t, e).double()
        x_real, y_real = torch.arange(n) < n - 1, torch.arange(t) != 0
        W = {f"{part}_{stream}": torch.randn(width, k).double()
             for stream, width in (("X", d), ("Y", e)) for part in "QKV"}
        P = {name: (X if name[2] == "X" else Y) @ matrix for name, matrix in W.items()}
        root = math.sqrt(k)
        results = as_several(answer(X, Y, x_real, y_real, W), ("C_X", "C_Y"))
        if [len(one) for one in results if isinstance(one, Tensor) and one.ndim == 2] == [t, n]:
            return "the two results are exchanged: C_X is what regions have read, one row for each of them"
        got = [as_tensor(one, (rows, k), name) for one, rows, name in zip(results, (n, t), ("C_X", "C_Y"))]

        def both(scale: tuple[float, float] = (root, root), slot: float | None = 0.0, key: str = "",
                 value: str = "", masks: bool = True, P: Any = P, x_real: Tensor = x_real,
                 y_real: Tensor = y_real) -> list[Tensor]:
            found = []
            for own, other, real, by in (("X", "Y", y_real, scale[0]), ("Y", "X", x_real, scale[1])):
                rows = P[f"{key or 'K'}_{other}"]
                found.append(read(P[f"Q_{own}"], rows, P[f"{value or 'V'}_{other}"],
                                  real if masks else torch.ones_like(real), scale=by, slot=slot))
            return found

        own = [read(P[f"Q_{s}"], P[f"K_{s}"], P[f"V_{s}"], real, scale=root)
               for s, real in (("X", x_real), ("Y", y_real))]
        asked = [read(P[f"K_{s}"], P[f"Q_{o}"], P[f"V_{o}"], real, scale=root)
                 for s, o, real in (("X", "Y", y_real), ("Y", "X", x_real))]
        cases.append((got, both(), {
            "each stream reads itself: keys and values come from the other stream": own,
            "the empty slot is missing: its score of 0 is a 1 in every denominator": both(slot=None),
            "the slot's score is 0, so that it counts exp(0) = 1; yours counts something else":
                both(slot=1.0),
            "padding of the other stream is read": both(masks=False),
            "scores are divided by the root of k, the width of a query; yours by that of the stream":
                both(scale=(math.sqrt(d), math.sqrt(e))),
            "scores are not divided by the root of k": both(scale=(1.0, 1.0)),
            "queries and keys are exchanged: the own stream asks": asked,
        }))
    if wrong := diagnose(cases, "some shares are wrong: one result should be {want}, yours is {got}"):
        return wrong
    X, Y = torch.eye(2).double(), torch.eye(2).double()
    W = {f"{part}_{stream}": 1000 * torch.eye(2).double() for part in "QK" for stream in "XY"}
    W |= {"V_X": torch.eye(2).double(), "V_Y": torch.eye(2).double()}
    some = torch.tensor([True, True])
    C_X, C_Y = as_several(answer(X, Y, some, some, W), ("C_X", "C_Y"))
    if not same(C_X, torch.eye(2)) or not same(C_Y, torch.eye(2)):
        return "scores of many thousands end in a wrong number or in none: take the largest off before exp"
    C_X, C_Y = as_several(answer(X, Y, some, ~some, W), ("C_X", "C_Y"))
    if not same(C_X, torch.zeros(2, 2)):
        return "where no key is real all goes to the slot, and what is read is 0; yours is not"
    return None


# ------------------------------------------------------------------------------------------- 6: who is blind


def logit(share: Tensor) -> Tensor:
    return torch.log(share) - torch.log1p(-share)


def binary(z: Tensor, s: Tensor) -> Tensor:
    """Cross-entropy of soft targets, number by number."""
    return -(s * z.sigmoid().log() + (1 - s) * (1 - z.sigmoid()).log())


@check("a head that never looks says how often each answer counts, and pays what the answers leave open")
def blind_head(answer: Callable[..., Any]) -> str | None:
    """Compares the best constant logits and their loss with those written out."""
    cases: list[Case] = []
    for q, a in ((6, 3), (9, 5), (4, 4)):
        n = torch.randint(0, 5, (q, a))
        n[0, 0], n[1, 0], n[:, -1] = 7, 10, 0
        got_z, got_loss = as_several(answer(n), ("the logits", "the loss"))
        z, loss = as_tensor(got_z, (a,), "the logits"), as_number(got_loss, "the loss")

        def result(s: Tensor, inverse: Callable[[Tensor], Tensor] = logit, total: str = "sum",
                   n: Tensor = n) -> list[Any]:
            share = s.double().mean(0).clamp(FLOOR, 1 - FLOOR)
            best = inverse(share)
            each = binary(best, (n / 3).clamp(max=1).double())
            each = each.sum(1).mean() if total == "sum" else each.mean() if total == "mean" else each.sum()
            return [best, float(each)]

        soft = (n / 3).clamp(max=1)
        cases.append(([z, loss], result(soft), {
            "the targets are shares of ten: who agrees with two others is right in full": result(n / 10),
            "n/3 goes beyond 1; an answer cannot be more than right": result((n / 3).clamp(max=3.0) / 1.0)
            if bool((n > 3).any()) else result(soft),
            "only the most frequent answer of each question counts; several may be right":
                result(torch.nn.functional.one_hot(n.argmax(1), n.shape[1])),
            "an answer counts whole as soon as one person gave it": result(n > 0),
            "the logits are those of a softmax: every answer is a yes or no of its own":
                result(soft, torch.log),
            "the logits are the shares; a sigmoid of them is something else": result(soft, lambda s: s),
            "this is a mean over answers; they are summed, and questions averaged":
                result(soft, total="mean"),
            "this is a sum over questions; they are averaged": result(soft, total="all"),
        }))
    return diagnose(cases, "some numbers are wrong: logits and loss should be {want}, yours are {got}")


# ---------------------------------------------------------------------------------------- 7: hidden regions


@check("hidden regions of pairs that belong together are asked, each weighs the same, and none cost nothing")
def hidden_regions(answer: Callable[..., Any]) -> str | None:
    """Compares with loops over pairs and regions."""
    cases: list[Case] = []
    for b, n, c in ((3, 4, 5), (4, 2, 3), (5, 3, 4)):
        logits, p = torch.randn(b, n, c).double(), (3 * torch.randn(b, n, c)).softmax(-1).double()
        p[..., 0] = 0.0
        p = p / p.sum(-1, keepdim=True)
        hidden = torch.rand(b, n) < 0.5
        pairs = torch.randint(2, (b,))
        pairs[0], hidden[0], pairs[1], hidden[1] = 0, True, 1, True
        hidden[2, 0], hidden[2, 1], pairs[2] = True, False, 0
        log_q = logits.log_softmax(-1)
        log_p = p.clamp(min=1e-300).log()
        each = (p * (log_p - log_q)).sum(-1)
        cross = -(p * log_q).sum(-1)
        back = (log_q.exp() * (log_q - p.clamp(min=1e-8).log())).sum(-1)
        got = as_number(answer(logits, p, hidden, pairs), "the loss")
        chosen, other = hidden & (pairs == 0)[:, None], hidden & (pairs == 1)[:, None]
        rows = [each[i][chosen[i]].mean() for i in range(b) if chosen[i].any()]
        cases.append((got, float(each[chosen].mean()), {
            "regions of pairs that do not belong together are asked, too": float(each[hidden].mean()),
            "label 0 says that they belong together; yours asks the others": float(each[other].mean()),
            "regions that were not hidden are asked, too": float(each[pairs == 0].mean()),
            "divided by the number of all regions; divide by that of those asked":
                float(each[chosen].sum() / (b * n)),
            "this is a sum; divide by the number of regions that are asked": float(each[chosen].sum()),
            "this is a mean over pictures of their means; every region weighs the same":
                float(torch.stack(rows).mean()),
            "this is a cross-entropy: a model that says what the detector says pays 0 here":
                float(cross[chosen].mean()),
            "the divergence is turned round: the detector's p weighs": float(back[chosen].mean()),
            "this is a mean over classes; they are summed": float(each[chosen].mean() / c),
        }))
    for got, _, _ in cases:
        if math.isnan(got):
            return "0 times log 0 is 0, and yours is no number: some classes have p = 0"
    if wrong := diagnose(cases, "one loss should be {want}, yours is {got}"):
        return wrong
    logits, p = torch.zeros(2, 3, 4), torch.full((2, 3, 4), 0.25)
    nothing = as_number(answer(logits, p, torch.zeros(2, 3, dtype=torch.bool), torch.tensor([0, 1])))
    alone = as_number(answer(logits + torch.arange(4), p, torch.ones(2, 3, dtype=torch.bool),
                             torch.tensor([1, 1])))
    if nothing != 0 or alone != 0:
        return (f"where nothing is asked the loss is 0; yours is {nothing:g} where nothing is hidden and "
                f"{alone:g} where no pair belongs together")
    large = as_number(answer(1e4 * torch.eye(2)[None].double(), torch.eye(2)[None].double(),
                             torch.ones(1, 2, dtype=torch.bool), torch.tensor([0])))
    return None if large == 0 else "logits of ten thousand end in a wrong number: use log_softmax"
