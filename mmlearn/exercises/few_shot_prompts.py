"""The checks of chapter 5's exercises about Flamingo and its prompts. Reading on shows answers: try the
exercise first.

Every check compares with what the task says, written out by hand, and with what the usual mistakes of its
task would give.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from mmlearn.exercises import Case, as_several, as_tensor, check, diagnose

# ------------------------------------------------------------------------------ 8: what a picture reaches


@check("one block touches the words of a picture, and the whole model every word that stands behind it")
def what_a_picture_reaches(answer: Callable[..., Any]) -> str | None:
    """Compares two masks with loops over the tokens."""
    cases: list[Case] = []
    for shows, i in (([0, 1, 0, 0, 1, 0, 1, 0], 2), ([1, 0, 0, 1, 0], 1), ([0, 0, 1, 0, 1, 0, 0], 1),
                     ([1, 1, 0, 1, 0, 0], 3)):
        t = len(shows)
        direct, all_in_all = as_several(answer(torch.tensor(shows, dtype=torch.bool), i),
                                        ("what one block changes", "what the model changes"))
        got = [as_tensor(direct, (t,), "the first mask").int().tolist(),
               as_tensor(all_in_all, (t,), "the second mask").int().tolist()]
        phi = [sum(shows[: place + 1]) for place in range(t)]
        here, later = [int(p == i) for p in phi], [int(p >= i) for p in phi]
        shifted = [0, *phi[:-1]]
        cases.append((got, [here, later], {
            "causal attention hands on what was read: words behind the next picture change, too":
                [here, here],
            "a gated block itself shows a word the last picture alone": [later, later],
            "no word can change that stands before the picture: attention is causal": [here, [1] * t],
            "the token <image> sees its own picture, the count includes it":
                [[int(p == i) for p in shifted], [int(p >= i) for p in shifted]],
            "pictures are numbered from 1; 0 is no picture":
                [[int(p == i + 1) for p in phi], [int(p >= i + 1) for p in phi]],
            "only the token <image> itself is marked": [
                [int(shows[place] and phi[place] == i) for place in range(t)], later],
            "return what one block changes first, then what the whole model changes": [later, here],
        }))
    return diagnose(cases, "the two masks should be {want}, yours are {got}")


# ---------------------------------------------------------------------------- 9: a gate for every channel


@check("a closed gate moves, what stands behind it does not, and each channel has its own slope")
def gate_for_every_channel(answer: Callable[..., Any]) -> str | None:
    """Compares with derivatives written out channel by channel; one case has closed gates."""
    cases: list[Case] = []
    for t, d, closed in ((4, 3, False), (5, 2, True), (3, 4, False)):
        g, f = torch.randn(t, d, dtype=torch.float64), torch.randn(t, d, dtype=torch.float64)
        alpha = torch.zeros(d, dtype=torch.float64) if closed else torch.randn(d, dtype=torch.float64)
        one, two = as_several(answer(g, f, alpha), ("the gradient of alpha", "the gradient of f"))
        got = [as_tensor(one, (d,), "the gradient of alpha"), as_tensor(two, (t, d), "the gradient of f")]
        open_, slope, both = alpha.tanh(), 1 - alpha.tanh() ** 2, (g * f).sum(0)
        cases.append((got, [both * slope, g * open_], {
            "the derivative of tanh is missing: an open gate moves less": [both, g * open_],
            "one number for all channels: sum over the words only":
                [((g * f).sum() * slope), g * open_],
            "the words are summed, not averaged": [both / t * slope, g * open_],
            "f gets the gradient times tanh alpha, and nothing where the gate is closed": [both * slope, g],
            "the slope is 1 - tanh squared, not 1 - tanh": [both * (1 - open_), g * open_],
            "alpha is not its tanh: the derivative is taken at alpha": [
                both * (1 - alpha**2), g * open_],
            "the gate's gradient is the inner product of g with f, not with tanh alpha times f":
                [both * slope * open_, g * open_],
            "what f gets is g times the gate, not times its slope": [both * slope, g * slope],
        }))
    return diagnose(cases, "the two gradients should be {want}, yours are {got}")


# -------------------------------------------------------------------------- 10: the nearest of each answer


@check("the nearest picture of each answer, never the query itself, and the most similar one last")
def nearest_of_each_answer(answer: Callable[..., Any]) -> str | None:
    """Compares with a loop over the support, from the nearest on."""
    cases: list[Case] = []
    for n, e, shots, kinds in ((12, 4, 3, 5), (9, 3, 2, 4), (15, 5, 4, 6)):
        support = torch.randn(n, e, dtype=torch.float64) * torch.rand(n, 1, dtype=torch.float64).mul(9).exp()
        labels = [i % kinds for i in torch.randperm(n).tolist()]
        own = int(torch.randint(n, ()))
        query = support[own] + 0.01 * torch.randn(e, dtype=torch.float64)
        got = answer(query, support, labels, shots, own)
        got = [int(i) for i in got] if isinstance(got, list | tuple) else as_tensor(
            got, (shots,), "the shots").tolist()
        cos, dot = F.normalize(support, dim=1) @ F.normalize(query, dim=0), support @ query

        def chosen(score: torch.Tensor, leave: int | None, once: bool = True, labels: list[int] = labels,
                   shots: int = shots) -> list[int]:
            kept: list[int] = []
            for i in score.argsort(descending=True).tolist():
                if i != leave and len(kept) < shots and not (
                        once and labels[i] in [labels[j] for j in kept]):
                    kept.append(i)
            return kept[::-1]

        first: dict[int, int] = {}
        for i in range(n):
            if i != own:
                first.setdefault(labels[i], i)
        of_first = sorted(first.values(), key=lambda i: float(cos[i]))[-shots:]
        cases.append((got, chosen(cos, own), {
            "the query's own picture is among the shots: its answer would be told": chosen(cos, None),
            "the most similar shot stands last, next to the query": chosen(cos, own)[::-1],
            "an answer is shown more than once": chosen(cos, own, once=False),
            "the inner product prefers long vectors; the cosine divides by both lengths": chosen(dot, own),
            "these are the farthest pictures, not the nearest": chosen(-cos, own),
            "of each answer the first picture of the support was taken, not the nearest": of_first,
        }))
    return diagnose(cases, "the shots should be {want}, yours are {got}")


# ------------------------------------------------------------------------------- 11: where an answer ends


@check("every token of an answer counts, its <EOC> too, and nothing that stands behind")
def score_with_its_end(answer: Callable[..., Any]) -> str | None:
    """Compares with a loop over answers and tokens; some are beginnings of others."""
    eoc, pad, cases = 3, 1, []
    for rows, v in (([[7, eoc], [7, 8, eoc], [8, 7, 7, eoc]], 10), ([[5, 6, eoc], [5, eoc]], 8),
                    ([[4, eoc], [9, 4, eoc], [9, eoc], [4, 4, 4, eoc]], 11)):
        t = max(map(len, rows))
        tokens = torch.tensor([row + [pad] * (t - len(row)) for row in rows])
        log_probs = torch.randn(len(rows), t, v, dtype=torch.float64).log_softmax(-1)
        got = as_tensor(answer(log_probs, tokens, eoc), (len(rows),), "the scores")
        each = [[float(log_probs[k, i, token]) for i, token in enumerate(row)] for k, row in enumerate(rows)]
        whole = [[float(log_probs[k, i, tokens[k, i]]) for i in range(t)] for k in range(len(rows))]
        likeliest = [[float(log_probs[k, i].max()) for i in range(len(row))] for k, row in enumerate(rows)]

        def told(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64)

        cases.append((got, told([sum(row) for row in each]), {
            "without <EOC> an answer that begins another is never less likely than it":
                told([sum(row[:-1]) for row in each]),
            "what stands behind <EOC> is padding and does not count": told([sum(row) for row in whole]),
            "a mean a token is another score: it forgives long answers": told(
                [sum(row) / len(row) for row in each]),
            "these are the likeliest tokens, not those of the answer": told([sum(row) for row in likeliest]),
            "only the first token is counted": told([row[0] for row in each]),
            "probabilities are multiplied, so their logarithms are added": told(
                [sum(torch.tensor(row).exp().tolist()) for row in each]),
            "only <EOC> is counted": told([row[-1] for row in each]),
        }))
    return diagnose(cases, "the scores should be {want}, yours are {got}")
