"""The checks of chapter 5's exercises about data2vec. Reading on shows answers: try the exercise first.

Every check compares with what the task says, written out by hand, and with what the usual mistakes of its
task would give.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import Case, as_number, as_several, as_tensor, check, diagnose

EPS = 1e-5                              # of normalisation, as the task states it

# -------------------------------------------------------------------------------- 1: what a teacher remembers


@check("the shares are those that the updates leave, and they sum to 1")
def shares_of_a_teacher(answer: Callable[..., Any]) -> str | None:
    """Compares shares with those of updates that are carried out on unit vectors."""
    cases: list[Case] = []
    for u, low in ((4, 0.2), (6, 0.5), (1, 0.3)):
        tau = low + (1 - low) * torch.rand(u, dtype=torch.float64).sort().values
        got = as_tensor(answer(tau), (u + 1,), "the shares")
        I = torch.eye(u + 1, dtype=torch.float64)
        teacher, swapped = I[0], I[0]
        for s in range(u):
            teacher = tau[s] * teacher + (1 - tau[s]) * I[s + 1]
            swapped = (1 - tau[s]) * swapped + tau[s] * I[s + 1]
        new = torch.cat([torch.ones(1, dtype=torch.float64), 1 - tau])

        def later(t: Tensor) -> Tensor:
            """For θ_0 … θ_u the product of what came after."""
            return torch.stack([t[s:].prod() for s in range(len(t) + 1)])

        own = torch.cat([tau.prod()[None], torch.stack([tau[s:].prod() for s in range(u)])])
        earlier = torch.stack([tau[: max(0, s - 1)].prod() for s in range(u + 1)])
        last = (1 - tau[-1]) * tau[-1] ** torch.arange(u, -1, -1, dtype=torch.float64)
        last[0] = tau[-1] ** u
        cases.append((got, teacher, {
            "these are the shares of one constant tau, the last one": last,
            "each new weight enters with 1 - tau; that factor is missing": later(tau),
            "what came after a weight shrinks it, not what came before": new * earlier,
            "the tau of the update by which a weight came in does not shrink it": new * own,
            "tau and 1 - tau are exchanged: the old teacher keeps tau": swapped,
            "the order is reversed: the first share is that of the beginning": teacher.flip(0),
            "the beginning has not come in by an update, and gets no factor 1 - tau":
                torch.cat([((1 - tau[0]) * teacher[0])[None], teacher[1:]]),
            "the beginning is forgotten: its share is the product of all tau":
                torch.cat([torch.zeros(1, dtype=torch.float64), teacher[1:]]),
        }))
    return diagnose(cases, "for some tau the shares should be {want}, yours are {got}")


# -------------------------------------------------------------------------------- 2: a loss and its slope


@check("loss and gradient fit each other, at every error and at hidden places alone")
def loss_with_gradient(answer: Callable[..., Any]) -> str | None:
    """Compares the loss, and the gradient, number for number."""
    values: list[Case] = []
    slopes: list[Case] = []
    for t, d, beta in ((5, 4, 2.0), (7, 3, 0.5), (3, 2, 1.5)):
        f, y = (3 * torch.randn(t, d, dtype=torch.float64) for _ in range(2))
        mask = torch.arange(t) % 2 == 0
        got = as_several(answer(f, y, mask, beta), ("the loss", "the gradient"))
        loss, gradient = as_number(got[0], "the loss"), as_tensor(got[1], (t, d), "the gradient")
        e, n = f - y, int(mask.sum()) * d
        a, near = e.abs(), e.abs() <= beta
        square, line = e**2 / (2 * beta), a - beta / 2
        each = torch.where(near, square, line)
        length = e.norm(dim=1, keepdim=True)
        far = (length > beta).expand_as(e)

        def mean(x: Tensor, mask: Tensor = mask) -> float:
            return float(x[mask].mean())

        values.append((loss, mean(each), {
            "both halves are missing below beta: the loss jumps there": mean(
                torch.where(near, e**2 / beta, line)),
            "the half of beta is missing above beta: the loss jumps there": mean(
                torch.where(near, square, a)),
            "the length of the whole vector decides here; each number is by itself": mean(
                torch.where(far, line, square)),
            "places that are not hidden are counted, too": float(each.mean()),
            "this is a sum; the mean over the numbers of hidden places is asked for": float(
                each[mask].sum()),
            "divided by the hidden places; every one has d numbers": mean(each) * d,
            "these are squares everywhere": mean(square),
            "divided by all places, hidden or not": float(each[mask].sum()) / (t * d),
            "this is Huber's loss, beta times too large": mean(each) * beta,
        }))
        slope = torch.where(mask[:, None], (e / beta).clamp(-1, 1), 0.0)
        slopes.append((gradient, slope / n, {
            "the gradient has the wrong sign: the error is prediction minus target": -slope / n,
            "the gradient is that of a sum; your loss is a mean": slope,
            "the slope grows without bound: above beta it is the sign alone":
                torch.where(mask[:, None], e / beta, 0.0) / n,
            "the slope below beta has the factor 2 of a square without its half": torch.where(
                mask[:, None], torch.where(near, 2 * e / beta, e.sign()), 0.0) / n,
            "the slope is that of |e|; below beta it is e / beta":
                torch.where(mask[:, None], e.sign(), 0.0) / n,
            "places that are not hidden have a gradient; the loss does not see them":
                (e / beta).clamp(-1, 1) / n,
            "the gradient is divided by the hidden places; the mean is over d numbers of each": slope / n * d,
        }))
    return (diagnose(values, "one loss should be {want}, yours is {got}")
            or diagnose(slopes, "one gradient should be {want}, yours is {got}"))


# ---------------------------------------------------------------------------------- 3: targets of speech


def over_time(a: Tensor, real: Tensor, correction: int = 0) -> Tensor:
    """Each channel normalised over the real frames."""
    part = a[real]
    var = part.var(dim=0, correction=correction)
    return (a - part.mean(dim=0)) / (var + EPS).sqrt()


@check("the last K blocks, each normalised over the frames that there are")
def targets_of_speech(answer: Callable[..., Any]) -> str | None:
    """Compares targets with the definition; padding holds large numbers, one channel stands still."""
    cases: list[Case] = []
    for L, t, d, k, n in ((5, 6, 4, 3, 4), (4, 9, 3, 2, 9), (6, 5, 5, 4, 3)):
        a = torch.randn(L, t, d, dtype=torch.float64) * torch.rand(L, 1, d, dtype=torch.float64).mul(4)
        a = a + torch.randn(L, 1, d, dtype=torch.float64)
        a[:, :, -1] = a[:, :1, -1]
        real = torch.arange(t) < n
        a = torch.where(real[:, None], a, 50 * a + 7)
        got = as_tensor(answer(a.clone(), real, k), (t, d), "the targets")
        if got.isnan().any():
            return "a channel that stands still has the variance 0: add epsilon under the root"

        def kept(y: Tensor, real: Tensor = real) -> Tensor:
            return torch.where(real[:, None], y, 0.0)

        def mean(blocks: Tensor, normed: Callable[[Tensor], Tensor]) -> Tensor:
            return torch.stack([normed(block) for block in blocks]).mean(dim=0)

        def timed(x: Tensor, real: Tensor = real) -> Tensor:
            return over_time(x, real)

        def across(x: Tensor) -> Tensor:
            return (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + EPS).sqrt()

        def padded(x: Tensor) -> Tensor:
            return over_time(x, torch.ones(len(x), dtype=torch.bool))

        def unbiased(x: Tensor, real: Tensor = real) -> Tensor:
            return over_time(x, real, 1)

        want = mean(a[-k:], timed)
        cases.append((got, kept(want), {
            "these are the first K blocks; the last K make a target": kept(mean(a[:k], timed)),
            "these are all blocks; the last K make a target": kept(mean(a, timed)),
            "this is layer norm, over the channels of a frame; speech normalises a channel over time":
                kept(mean(a[-k:], across)),
            "the mean over blocks comes after the normalisation: a loud block drowns the others": kept(
                timed(a[-k:].mean(dim=0))),
            "padding is in the means and variances": kept(mean(a[-k:], padded)),
            "this is a sum over the K blocks, not their mean": kept(k * want),
            "the variance divides by n, not by n - 1": kept(mean(a[-k:], unbiased)),
            "nothing is normalised here": kept(a[-k:].mean(dim=0)),
            "padding has no target: put zeros there": want,
        }))
    return diagnose(cases, "one set of targets should be {want}, yours is {got}")


# --------------------------------------------------------------------------------- 4: share of hidden frames


@check("each frame asks how many starts could hide it")
def share_of_hidden_frames(answer: Callable[..., Any]) -> str | None:
    """Compares shares with the mean over frames of the chance that one of its starts happens."""
    cases: list[Case] = []
    for t, p, M in ((20, 0.065, 10), (8, 0.2, 3), (5, 0.5, 9), (200, 0.01, 4)):
        got = as_number(answer(t, p, M), "the share")
        reach = [min(i + 1, M) for i in range(t)]
        cases.append((got, sum(1 - (1 - p) ** n for n in reach) / t, {
            "this is the share of an endless utterance; the first frames have fewer spans before them":
                1 - (1 - p) ** M,
            "spans overlap: p times M counts a frame several times": p * M,
            "spans overlap, also near the beginning: chances of starts do not add up":
                sum(p * n for n in reach) / t,
            "this is how much stays; the share that is hidden is asked for":
                sum((1 - p) ** n for n in reach) / t,
            "this is how many frames are hidden; divide by their number":
                sum(1 - (1 - p) ** n for n in reach),
            "a frame is hidden if one of its starts happens, not if all do": sum(p**n for n in reach) / t,
            "a span that starts at a frame hides that frame, too: M starts reach it, not M - 1":
                sum(1 - (1 - p) ** min(i, M - 1) for i in range(t)) / t,
            "a span that is cut at the end hides its frames all the same": sum(
                1 - (1 - p) ** min(i + 1, M, t - i, max(1, t - M + 1)) for i in range(t)) / t,
        }))
    return diagnose(cases, "one share should be {want}, yours is {got}")
