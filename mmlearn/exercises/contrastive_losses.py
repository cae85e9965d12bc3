"""The checks of chapter 4's exercises about contrastive losses.

Reading on shows answers: try the exercise first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmlearn.exercises import Case, as_number, as_tensor, check, diagnose

OVERFLOW = ("finite logits give {got}: an exponential overflows; subtract the largest logit before it, or "
            "take the logarithm of the sum in one function")


def unit_rows(*shape: int) -> Tensor:
    """Random rows of length 1."""
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def halves(l: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of each image and of each text of a square matrix of logits."""
    return l.logsumexp(1) - l.diagonal(), l.logsumexp(0) - l.diagonal()


def symmetric(l: Tensor) -> float:
    """CLIP's loss."""
    rows, columns = halves(l)
    return float((rows + columns).mean() / 2)


# ------------------------------------------------------------------------------ 1 and 2: a loss and its bound


@check("images look for texts and texts for images, among the pairs that exist")
def both_ways(answer: Callable[..., Any]) -> str | None:
    """Compares losses of batches with pairs that are only filling."""
    cases = []
    for b, missing in ((6, (4, 5)), (5, ()), (7, (0, 3))):
        l, there = 3 * torch.randn(b, b, dtype=torch.float64), torch.ones(b, dtype=torch.bool)
        there[list(missing)] = False
        part, n = l[there][:, there], b - len(missing)
        rows, columns = (float(half.mean()) for half in halves(part))
        others = part.masked_fill(torch.eye(n, dtype=torch.bool), -math.inf)
        want, right = (rows + columns) / 2, part.softmax(1).diagonal() + part.softmax(0).diagonal()
        zero = l * there * there[:, None]
        cases.append((as_number(answer(l, there), "the loss"), want, {
            "one direction only: here each image looks for its text, but no text for its image": rows,
            "one direction only: here each text looks for its image, but no image for its text": columns,
            "the two directions are added; their mean is asked for": 2 * want,
            "this is the sum over the pairs; the mean is asked for": n * want,
            "this is the sum over pairs and directions; the mean is asked for": 2 * n * want,
            "this is the sum over the pairs, in one direction; the mean over both is asked for": n * rows,
            "divided by the size of the batch; divide by the number of pairs that exist": want * n / b,
            "filling is a candidate here: a missing text stands in the denominators of the images that exist":
                float((l.logsumexp(1) + l.logsumexp(0) - 2 * l.diagonal())[there].mean() / 2),
            "pairs that do not exist take part: they shall neither ask nor answer": symmetric(l),
            "a softmax of a softmax: a cross-entropy takes logits, and normalises by itself":
                (symmetric_of_probabilities(part.softmax(1), 1)
                 + symmetric_of_probabilities(part.softmax(0), 0)) / 2,
            "a softmax of a softmax: hand the logits themselves to both cross-entropies":
                (symmetric_of_probabilities(part.softmax(1), 1)
                 + symmetric_of_probabilities(part.softmax(1), 0)) / 2,
            "a softmax of a softmax, in one of the directions: hand the logits themselves to both":
                (symmetric_of_probabilities(part.softmax(1), 1) + columns) / 2,
            "these are probabilities; a loss in nats is made of their logarithms": float(-right.mean() / 2),
            "the logits of filling are set to 0, and e^0 is a candidate like others":
                float((zero.logsumexp(1) + zero.logsumexp(0) - 2 * l.diagonal())[there].mean() / 2),
            "the pair itself is missing in the denominator: the right answer is one of the candidates":
                float(((others.logsumexp(1) + others.logsumexp(0)) / 2 - part.diagonal()).mean()),
            "the sign is wrong: a loss falls as the right answer becomes likelier": -want,
        }))
    wrong = diagnose(cases, "one of the batches has the loss {want}, you say {got}")
    if wrong and any(not math.isfinite(got) for got, *_ in cases):
        wrong = ("a batch with filling gives nan or inf: a row in which nobody is a candidate has no "
                 "softmax, and 0 times infinity is no number; leave such rows out before the mean")
    solved = as_number(answer(100 * torch.eye(4), torch.ones(4, dtype=torch.bool)), "the loss")
    return wrong or (None if math.isfinite(solved) else OVERFLOW.format(got=solved))


def symmetric_of_probabilities(p: Tensor, dim: int) -> float:
    """The cross-entropy of a softmax of probabilities."""
    return float(-p.log_softmax(dim).diagonal().mean())


@check("the bound and its ceiling; a batch has to grow exponentially with what it shall prove")
def what_a_batch_proves(proved: Callable[..., Any], batch_for: Callable[..., Any]) -> str | None:
    """Compares bounds, those of useless losses too, and sizes of batches."""
    draw, bounds, sizes = random.Random(0), [], []
    above: list[Case] = []
    for _ in range(40):
        b, nats = draw.randint(3, 40_000), draw.uniform(0.8, 10)
        loss = draw.uniform(0, math.log(b - 1))
        want = math.log(b) - loss
        bounds.append((as_number(proved(loss, b), "what is proved"), want, {
            "these are bits; the loss is in nats, so that the logarithm is the natural one":
                want / math.log(2),
            "log2 of the candidates minus a loss in nats: one unit for both": math.log2(b) - loss,
            "one candidate is missing: the right text is one of the b that are compared":
                math.log(b - 1) - loss,
            "the sign is wrong: a small loss proves much": -want,
            "this is the ceiling, whatever the loss is": math.log(b),
            "the loss is a mean over the batch already": math.log(b) - loss / b,
            "nothing is proved here, for losses below log b": 0.0,
        }))
        above.append((as_number(proved(math.log(b) + 1, b), "what is proved"), 0.0, {}))
        exact = math.exp(nats)
        sizes.append((as_number(batch_for(nats), "the size of the batch"), float(math.ceil(exact)), {
            "rounding to the nearest number is half of the time one candidate too few": float(round(exact)),
            "rounding down leaves one candidate too few": float(math.floor(exact)),
            "a batch has a whole number of candidates": exact,
            "that is for bits; the amount is in nats": float(math.ceil(2**nats)),
            "one candidate more than is needed: the right one is among those counted":
                float(math.ceil(exact) + 1),
        }))
    return (diagnose(bounds, "a loss that should prove {want} nats proves {got} here")
            or diagnose(above, "a loss above log b proves nothing, which is 0 nats and not {got}")
            or diagnose(sizes, "somewhere {want} candidates are needed; you ask for {got}"))


@check("cold losses push one negative, warm ones push all of them alike")
def negatives_that_count(answer: Callable[..., Any]) -> str | None:
    """Compares effective numbers of negatives, at very low temperatures too."""
    cases: list[Case] = []
    cold: list[Case] = []
    for tau in (0.1, 0.3, 1.0, 0.001):
        s = 2 * torch.rand(5, 5, dtype=torch.float64) - 1
        if tau < 0.01:
            s = torch.tensor([[0.9 - 0.2 * ((j - i) % 5) for j in range(5)] for i in range(5)],
                             dtype=torch.float64)
        got = as_tensor(answer(s, tau), (5,))
        itself = torch.eye(5, dtype=torch.bool)

        def count(l: Tensor, dim: int = 1, base: float = 1.0) -> Tensor:
            p = l.softmax(dim)
            return (-torch.special.xlogy(p, p).sum(dim) / base).exp()

        without = (s / tau).masked_fill(itself, -math.inf)
        shares, want = without.softmax(1), count(without)
        if tau < 0.01:
            cold.append((got, want, {}))
            continue
        rest = (s / tau).softmax(1).masked_fill(itself, 0)
        cases.append((got, want, {
            "the pair is among those that are counted; it is pulled, not pushed": count(s / tau),
            "the shares of an image's negatives do not sum to 1: leave the pair out before the softmax":
                (-torch.special.xlogy(rest, rest).sum(1)).exp(),
            "the cosines are multiplied by tau; a small tau makes the logits large":
                count((s * tau).masked_fill(itself, -math.inf)),
            "the temperature is not there": count(s.masked_fill(itself, -math.inf)),
            "this is the entropy; a number of negatives is its exponential": want.log(),
            "the shares run over the columns; an image is a row": count(without, 0),
            "an entropy in bits wants a power of 2, not of e": count(without, base=math.log(2)),
            "this is 1 over the sum of squared shares, another way of counting": 1 / (shares**2).sum(1),
        }))
    wrong = diagnose(cases, "an image should have {want} negatives that count, yours are {got}")
    if wrong:
        return wrong
    if any(not torch.isfinite(got).all() for got, _, _ in cold):
        return ("at tau = 0.001 you get nan or inf: a share of 0 contributes 0 to an entropy, where 0 log 0 "
                "is computed as nan, and exp(1000) overflows")
    return diagnose(cold, "at tau = 0.001 the numbers are {want}, yours are {got}")


class LargestTensor(TorchDispatchMode):
    """While it is entered, remembers the number of entries of the largest tensor that an operation
    returned."""

    most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else (result,):
            self.most = max(self.most, tensor.numel() if isinstance(tensor, Tensor) else 0)
        return result


@check("the same loss from blocks, without a matrix and without an overflow")
def loss_in_chunks(answer: Callable[..., Any]) -> str | None:
    """Compares losses, watches the size of tensors, and takes logits that no bare exponential survives."""
    cases, b = [], 64
    for chunk, scale in ((8, 14.0), (7, 14.0), (64, 30.0), (5, 60.0)):
        u, v = unit_rows(b, 4).float(), unit_rows(b, 4).float()
        with LargestTensor() as seen:
            got = as_number(answer(u, v, scale, chunk), "the loss")
        if seen.most > max(chunk * b, u.numel()):
            return (f"a tensor of {seen.most} entries was made; with chunks of {chunk} rows {chunk * b} are "
                    "enough")
        l = scale * u.double() @ v.double().T
        parts = [slice(i, min(i + chunk, b)) for i in range(0, b, chunk)]
        pair, rows, columns = l.diagonal(), l.logsumexp(1), l.logsumexp(0)
        own_rows = torch.cat([l[p, p].logsumexp(1) for p in parts])
        own_columns = torch.cat([l[p, p].logsumexp(0) for p in parts])
        want = symmetric(l)
        most = torch.stack([l[p].amax(0) for p in parts])
        stale = (l[parts[0]] - most[0]).exp().sum(0)
        for i, p in enumerate(parts[1:], 1):
            stale += (l[p] - most[: i + 1].amax(0)).exp().sum(0)
        cases.append((got, want, {
            "each block is its own small batch here: a row has to meet all texts, a column all images":
                float(((own_rows + own_columns) / 2 - pair).mean()),
            "a column sees the images of its own block only; the other blocks have to be added to it":
                float(((rows + own_columns) / 2 - pair).mean()),
            "a row sees the texts of its own block only": float(((own_rows + columns) / 2 - pair).mean()),
            "the columns remember the last block alone: what was there before is overwritten":
                float(((rows + l[parts[-1]].logsumexp(0)) / 2 - pair).mean()),
            "the mean over the blocks' means: the last block may be smaller, and then weighs too much":
                sum(float(((rows + columns) / 2 - pair)[p].mean()) for p in parts) / len(parts),
            "one direction only: the texts look for their images as well, over the columns":
                float((rows - pair).mean()),
            "one direction only: the images look for their texts as well, over the rows":
                float((columns - pair).mean()),
            "when a block brings a larger maximum, the sum so far has to be put into its units":
                float(((rows + most.amax(0) + stale.log()) / 2 - pair).mean()),
            "this is the sum over the pairs; the mean is asked for": want * b,
            "the two directions are added; their mean is asked for": 2 * want,
            "the scale is missing": symmetric(l / scale),
            "the pairs' own logits lack the scale": float(((rows + columns) / 2 - pair / scale).mean()),
            "the logarithms of the blocks' sums are added; a column needs the sum of all exponentials, and "
            "then one logarithm":
                float(((rows + torch.stack([l[p].logsumexp(0) for p in parts]).sum(0)) / 2 - pair).mean()),
        }))
    if not any(math.isfinite(got) for got, _, _ in cases):
        return OVERFLOW.format(got=cases[0][0])
    wrong = diagnose([case for case in cases if math.isfinite(case[0])],
                     "one of the batches has the loss {want}, your blocks give {got}")
    large = as_number(answer(unit_rows(b, 4).float(), unit_rows(b, 4).float(), 1000.0, 8), "the loss")
    if wrong is None and not (math.isfinite(large) and all(math.isfinite(got) for got, _, _ in cases)):
        return OVERFLOW.format(got=large)
    return wrong
