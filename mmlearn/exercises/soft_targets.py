"""The checks of chapter 4's exercises about targets: smoothed, shared, yes or no.

Reading on shows answers: try the exercise first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import as_number, check, diagnose
from mmlearn.exercises.contrastive_losses import symmetric, unit_rows

# --------------------------------------------------------------------------------------------- 10-12: targets


@check("at your gap the softmax is the target, and nothing pulls any more")
def gap_of_smoothed_labels(answer: Callable[..., Any]) -> str | None:
    """Compares gaps with where the gradient of a smoothed cross-entropy vanishes."""
    cases = []
    for b, eps in ((8, 0.1), (64, 0.2), (1000, 0.01), (3, 0.5)):
        right, other = 1 - eps + eps / b, eps / b
        cases.append((as_number(answer(b, eps), "the gap"), math.log(right / other), {
            "almost: the share eps goes to all b texts, the right one too":
                math.log((1 - eps) * (b - 1) / eps),
            "there is not one other text, there are b - 1 of them": math.log((1 - eps) / eps),
            "the right text has a share of eps as well as the others: its target is more than 1 - eps":
                math.log((1 - eps) / other),
            "this is the difference of the targets; logits are logarithms of what the softmax gives":
                right - other,
            "this is the ratio of the targets; a softmax turns differences of logits into ratios":
                right / other,
            "the sign is wrong: the right logit is larger than the others": -math.log(right / other),
            "this is the logarithm of the right target alone": math.log(right),
            "this makes the right probability right in a softmax of two; the others are b - 1":
                math.log(right / (1 - right)),
            "log2 or log10: the logits are in nats": math.log2(right / other),
            "log10: the logits are in nats": math.log10(right / other),
        }))
    return diagnose(cases, "one of the gaps is {want}, you say {got}")


@check("all right answers share the target, in rows and in columns; who is unknown stands for itself")
def loss_with_keys(answer: Callable[..., Any]) -> str | None:
    """Compares losses of batches with classes, with unknown ones among them."""
    cases, n = [], range(6)
    for keys in ([0, 0, 1, 2, 2, 2], [-1, 3, -1, 3, 0, -1], [1, 1, 1, -1, -1, 2]):
        l = 2 * torch.randn(6, 6, dtype=torch.float64)
        log_p, log_q = l.log_softmax(1), l.log_softmax(0)

        def loss(unknown: bool = True, share: bool = True, inside: bool = False, halves: str = "both",
                 keys: list = keys, log_p: Tensor = log_p, log_q: Tensor = log_q) -> float:
            """The loss with the parts that are mistaken as options."""
            total = 0.0
            for i in n:
                right = [j for j in n if j == i or (keys[j] == keys[i] and (keys[i] >= 0 or not unknown))]
                for side, half in ((log_p[i, right], "images"), (log_q[right, i], "texts")):
                    value = side.logsumexp(0) if inside else side.sum() / (len(right) if share else 1)
                    total -= float(value) * (halves in ("both", half))
            return total / (12 if halves == "both" else 6)

        known = torch.tensor(keys)
        M = ((known == known[:, None]) & (known >= 0) | torch.eye(6, dtype=torch.bool)).double()
        T = M / M.sum(1, keepdim=True)
        twice = -(T * (l.softmax(1).log_softmax(1) + l.softmax(0).log_softmax(0))).sum() / 12
        as_known = [k for k in n if keys[k] >= 0]
        cases.append((as_number(answer(l, torch.tensor(keys)), "the loss"), loss(), {
            "this is CLIP's loss: texts with the same key count as wrong answers": symmetric(l),
            "-1 is no class: a pair whose key is unknown has its own text as the only right answer":
                loss(unknown=False),
            "one half only: texts look for their images as well, over the columns": loss(halves="images"),
            "one half only: images look for their texts as well, over the rows": loss(halves="texts"),
            "keys that occur often weigh more here: the targets of each row have to sum to 1":
                loss(share=False),
            "the targets of the whole batch sum to 1 here; those of each row have to":
                float(-(M / M.sum() * (log_p + log_q)).sum() / 2),
            "a softmax of a softmax: a cross-entropy takes logits, and normalises by itself": float(twice),
            "this is the logarithm of the summed probability; the mean of the logarithms is asked for":
                loss(inside=True),
            "the two halves are added; their mean is asked for": 2 * loss(),
            "this is the sum over the batch; the mean is asked for": 6 * loss(),
            "pairs without a key are left out; each has its own text as the right answer":
                left_out(l, keys, as_known),
        }))
    if any(math.isnan(got) for got, _, _ in cases):
        return "a batch gives nan: does a pair without a key have no right answer at all? Its own text is one"
    return diagnose(cases, "one of the batches has the loss {want}, you say {got}")


def left_out(l: Tensor, keys: Sequence[int], known: Sequence[int]) -> float:
    """The loss of the images and texts whose key is known, among all candidates."""
    total = 0.0
    for i in known:
        right = [j for j in known if keys[j] == keys[i]]
        total -= float(l.log_softmax(1)[i, right].mean() + l.log_softmax(0)[right, i].mean())
    return total / 2 / max(1, len(known))


@check("each text is answered yes or no by each image, every question by itself")
def yes_or_no(answer: Callable[..., Any]) -> str | None:
    """Compares losses of images with several captions each, and takes logits without measure."""
    cases, b, n = [], 4, 7
    for scale, bias in ((10.0, -10.0), (5.0, 0.5), (8.0, -3.0)):
        u, v, owner = unit_rows(b, 5), unit_rows(n, 5), torch.tensor([2, 0, 1, 3, 0, 2, 2])
        mine = owner == torch.arange(b)[:, None]
        cosines = u @ v.T
        first = torch.zeros_like(mine)
        for i in range(b):
            first[i, int(mine[i].int().argmax())] = True

        def cost(l: Tensor, yes: Tensor) -> Tensor:
            return torch.nn.functional.softplus(torch.where(yes, -l, l))

        l = scale * cosines + bias
        each = cost(l, mine)
        want = float(each.sum()) / b
        cases.append((as_number(answer(u, v, owner, scale, bias), "the loss"), want, {
            "a larger bias changes nothing in your loss: a softmax takes a common term out again":
                float((l.logsumexp(0) - l[owner, torch.arange(n)]).mean()),
            "every image and text are asked to agree: the answer is no for all that do not belong together":
                float(cost(l, torch.ones_like(mine)).sum()) / b,
            "only the questions whose answer is yes are asked": float(each[mine].sum()) / b,
            "only the questions whose answer is no are asked": float(each[~mine].sum()) / b,
            "only the first caption of an image counts as its own": float(cost(l, first).sum()) / b,
            "the answer no is a sign of -1, not of 0: log sigmoid(0) learns nothing":
                float(torch.where(mine, cost(l, mine), torch.full_like(l, math.log(2))).sum()) / b,
            "divide by the b images, not by all questions": want * b / (b * n),
            "divide by the b images, not by the texts": want * b / n,
            "this is the sum over images; their mean is asked for": want * b,
            "the bias is missing": float(cost(scale * cosines, mine).sum()) / b,
            "the bias is subtracted; it is added to the logits": float(cost(l - 2 * bias, mine).sum()) / b,
            "the bias is scaled as if it were a cosine":
                float(cost(scale * (cosines + bias), mine).sum()) / b,
            "the bias stands outside the sign: it belongs to the logit, before z turns it round":
                float(torch.nn.functional.softplus(
                    torch.where(mine, -scale * cosines, scale * cosines) - bias).sum()) / b,
        }))
    wrong = diagnose(cases, "one of the losses is {want}, you say {got}")
    if wrong:
        return wrong
    far = as_number(answer(torch.eye(3), -torch.eye(3), torch.arange(3), 1e4, 0.0), "the loss")
    return None if math.isfinite(far) else (
        f"logits of -10,000 give {far}: the sigmoid is 0 there and its logarithm minus infinity; take the "
        "logarithm of the sigmoid in one function")
