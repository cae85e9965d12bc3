"""The checks of chapter 5's exercises about recurrent attention and about walks. Reading on shows answers:
try the exercise first.

Every check compares with what the task says, written out by hand, and with what the usual mistakes of its
task would give.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import Case, as_number, as_tensor, check, diagnose, same

PAD, BOS, EOS = 1, 2, 3

# ------------------------------------------------------------------------------------ 12: the word that comes


def some_captions(lengths: list[int], vocab: int) -> Tensor:
    """Captions of so many words: <bos> words <eos> <pad> …"""
    tokens = torch.full((len(lengths), max(lengths) + 2), PAD)
    for row, n in zip(tokens, lengths):
        row[0], row[n + 1] = BOS, EOS
        row[1:n + 1] = torch.randint(4, vocab, (n,))
    return tokens


@check("each state is asked for the word that comes, the end is a word, and padding is none")
def the_word_that_comes(answer: Callable[..., Any]) -> str | None:
    """Compares losses with loops over captions and places."""
    cases: list[Case] = []
    for lengths, vocab in (([3, 5, 1], 9), ([2, 6], 12), ([4, 1, 1, 2], 7)):
        tokens = some_captions(lengths, vocab)
        logits = 2 * torch.randn(*tokens.shape, vocab, dtype=torch.float64)
        got = as_number(answer(logits, tokens), "the loss")
        log_p = logits.log_softmax(-1)

        def said(places: Callable[[int], Any], shift: int, log_p: Any = log_p, tokens: Any = tokens,
                 lengths: Any = lengths) -> list[list[Tensor]]:
            return [[-log_p[r, t, tokens[r, t + shift]] for t in places(n)] for r, n in enumerate(lengths)]

        def mean(rows: list[list[Tensor]]) -> float:
            flat = [x for row in rows for x in row]
            return float(sum(flat)) / len(flat)

        right, longest = said(lambda n: range(n + 1), 1), max(lengths)
        cases.append((got, mean(right), {
            "a state is asked for the word that it has just read; it should say the next one":
                mean(said(lambda n: range(n + 2), 0)),
            "a state is asked for the word that it has just read, <bos> left out; it should say the next one":
                mean(said(lambda n: range(1, n + 2), 0)),
            "a state is asked for the word before the one that it has read: the shift goes the other way":
                mean(said(lambda n: range(1, n + 2), -1)),
            "padding is counted": mean(said({n: range(longest + 1) for n in lengths}.__getitem__, 1)),
            "the end of a caption is a word, too: it has to be learnt when to stop":
                mean(said(lambda n: range(n), 1)),
            "this is a mean over captions of their means; every word weighs the same":
                sum(mean([row]) for row in right) / len(right),
            "this is a sum over words; divide by their number": float(sum(x for row in right for x in row)),
            "divided by all places, padding included": float(sum(x for row in right for x in row))
                / (len(lengths) * (longest + 1)),
            "a loss is a minus logarithm: the sign": -mean(right),
        }))
    return diagnose(cases, "one loss should be {want}, yours is {got}")


# -------------------------------------------------------------------------------- 13: what a score would gain


@check("a score gains as far as its cell differs from what is read already, times the weight that it has")
def what_a_score_gains(answer: Callable[..., Any]) -> str | None:
    """Compares gradients with those of automatic differentiation."""
    cases: list[Case] = []
    for p, d in ((3, 2), (5, 4), (8, 3)):
        e, V = torch.randn(p, dtype=torch.float64), torch.randn(p, d, dtype=torch.float64) + 1
        g = torch.randn(d, dtype=torch.float64)
        got = as_tensor(answer(e, V, g), (p,), "the gradient")
        scores = e.clone().requires_grad_()
        ((scores.softmax(0) @ V) @ g).backward()
        want = scores.grad
        assert want is not None
        a = e.softmax(0)
        v = a @ V
        cases.append((got, want, {
            "what is read already is not taken off: all scores up by one would gain, and change nothing":
                a * (V @ g),
            "the weight is missing: a cell that is hardly read changes little": (V - v) @ g,
            "these are the gradients of the weights, not of the scores before the softmax": V @ g,
            "only the cell's own weight is moved here; if it grows, all others shrink":
                a * (1 - a) * (V @ g),
            "the plain mean of the cells is taken off; it should be the weighted one, what is read":
                a * ((V - V.mean(0)) @ g),
            "the sign: a cell on the side to which g points gains": -want,
            "g is left out: this asks how the sum of the reading's numbers would change":
                a * (V - v).sum(1),
            "what is taken off is weighed twice": a * (V @ g) - a * a * (v @ g),
        }))
    if wrong := diagnose(cases, "one gradient should be {want}, yours is {got}"):
        return wrong
    e, V = torch.tensor([4000.0, 4000.0, 0.0]).double(), torch.tensor([[1.0], [3.0], [9.0]]).double()
    got = as_tensor(answer(e, V, torch.ones(1).double()), (3,), "the gradient")
    return None if same(got, torch.tensor([-0.5, 0.5, 0.0])) else (
        "scores of several thousand end in a wrong number or in none: let softmax, or the largest score "
        "taken off, keep exp small")


# --------------------------------------------------------------------------------- 14: success by path length


@check("who does not stop at the goal counts 0, and nobody counts more than 1")
def success_by_length(answer: Callable[..., Any]) -> str | None:
    """Compares scores with loops over walks; some stop within the radius by less than the shortest way."""
    cases: list[Case] = []
    for n, radius in ((6, 3.0), (9, 3.0), (7, 2.0)):
        shortest = 4 + 8 * torch.rand(n, dtype=torch.float64)
        taken = shortest * (0.8 + torch.rand(n, dtype=torch.float64))
        taken[0] = shortest[0] - 1.5                    # stopped short of the goal, within the radius
        error = torch.rand(n, dtype=torch.float64) * 2 * radius
        error[:2] = torch.tensor([1.0, radius])
        stopped = torch.rand(n) < 0.7
        stopped[:2], stopped[2], error[2] = True, False, 0.5
        error[3], stopped[3] = radius + 1, True
        got = as_number(answer(shortest, taken, error, stopped, radius), "SPL")
        good = stopped & (error <= radius)
        share = [float(s / max(s, t)) for s, t in zip(shortest, taken)]
        want = sum(x for x, g in zip(share, good) if g) / n
        ratio = (shortest / taken).tolist()
        cases.append((got, want, {
            "without the max a walk that stops short of the goal, within the radius, counts more than 1":
                sum(x for x, g in zip(ratio, good) if g) / n,
            "this is the rate of success alone; a detour should count less": float(good.double().mean()),
            "a walk that stops far from its goal counts 0: success is left out": sum(share) / n,
            "who is at the goal and does not stop has not succeeded": sum(
                x for x, e in zip(share, error) if e <= radius) / n,
            "stopping is no success by itself: how far is the goal?": sum(
                x for x, s in zip(share, stopped) if s) / n,
            "the mean is over all walks, not over the successful ones": want * n / int(good.sum()),
            "upside down: this grows with the length of the way":
                sum(1 / x for x, g in zip(share, good) if g) / n,
            "at the radius itself the walk still counts": sum(
                x for x, g, e in zip(share, good, error) if g and e < radius) / n,
            "this divides sum by sum; every walk has a share of its own": float(
                (shortest * good).sum() / torch.maximum(shortest, taken).sum()),
            "this is a sum; divide by the number of walks": want * n,
        }))
    if wrong := diagnose(cases, "SPL should be {want}, yours is {got}"):
        return wrong
    zero, yes = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.bool)
    got = as_number(answer(zero, zero.clone(), zero.clone(), yes, 3.0), "SPL")
    return None if got == 1 else ("a walk that begins at its goal and stops there is as short as can be and "
                                  f"counts 1; yours is {'no number' if math.isnan(got) else f'{got:g}'}")
