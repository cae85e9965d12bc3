"""The checks of chapter 3's exercises about attention without an order, vokens and iACE. Reading on shows
answers: try the exercise first.

Every check compares with what the task says, written out by hand, and with what the usual mistakes of its
task would give.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import Case, Hint, as_number, as_several, as_tensor, check, diagnose, same

NONE = -100                                     # the voken of a token that gets none
Span = tuple[int, int]                          # of characters: the first, and the one behind the last

# --------------------------------------------------------------------------------- 12: no order, only counts


@check("what is read depends on how often each word was said, and on nothing else")
def attention_over_a_bag(answer: Callable[..., Any]) -> str | None:
    """Compares with attention over rows that are repeated as often as their words were said."""
    cases: list[Case] = []
    for d, e, counts in ((4, 3, [1, 2, 5, 1, 0]), (9, 2, [3, 0, 1, 7]), (2, 2, [1, 1])):
        n = torch.tensor(counts)
        q, K = torch.randn(d, dtype=torch.float64), torch.randn(len(n), d, dtype=torch.float64)
        V = torch.randn(len(n), e, dtype=torch.float64)
        got = as_tensor(answer(q, K, V, n), (e,), "the state")
        s, rows = K @ q / math.sqrt(d), torch.arange(len(n)).repeat_interleave(n)
        shares = s.softmax(0)
        cases.append((got, s[rows].softmax(0) @ V[rows], {
            "the counts are left out: who says a word twice is heard twice": shares @ V,
            "a word said twice is not twice as alike: counts multiply shares, not scores":
                (n * s).softmax(0) @ V,
            "the shares were made to sum to 1 before the counts came in, and no longer do":
                (n * shares) @ V,
            "divided by the number of tokens; what makes shares sum to 1 is their own sum":
                (n * shares) @ V / n.sum(),
            "the square root of the width is missing": (K @ q + n.log()).softmax(0) @ V,
            "a count in the exponent has to be a logarithm": (s + n).softmax(0) @ V,
            "log(1 + n) reads words that were never said": (s + n.log1p()).softmax(0) @ V,
            "only whether a word was said is looked at, not how often":
                s.masked_fill(n == 0, -math.inf).softmax(0) @ V,
        }))
    if wrong := diagnose(cases, "one state should be {want}, yours is {got}"):
        return wrong
    K, V = torch.eye(3, dtype=torch.float64), torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    for q, n in ((4000.0 * torch.tensor([0.5, 0.5, 0.0]), torch.tensor([1, 3, 1])),
                 (4000.0 * torch.tensor([0.5, 0.5, 1.0]), torch.tensor([1, 3, 0]))):
        got = as_tensor(answer(q.double(), K, V, n), (1,), "the state")
        if not same(got, torch.tensor([1.75])):
            return ("scores of a thousand end in a wrong number or in none: take the largest score off "
                    "before exp, and let it be that of a word that was said")
    return None


# -------------------------------------------------------------------------- 13-15: matching, voting, finding


@check("every picture of the batch that is not a token's own is a wrong answer, and none is counted twice")
def every_other_picture(answer: Callable[..., Any]) -> str | None:
    """Compares losses with loops over tokens and pictures; padding holds large numbers."""
    cases: list[Case] = []
    for ids, t, margin in (([3, 7, 3, 5], 4, 0.5), ([1, 2], 3, 0.2), ([4, 4, 9], 2, 1.0)):
        b = len(ids)
        f, g = torch.randn(b, t, 3, dtype=torch.float64), torch.randn(b, 3, dtype=torch.float64)
        f, g = f / f.norm(dim=-1, keepdim=True), g / g.norm(dim=-1, keepdim=True)
        mask = torch.arange(t) < torch.tensor([t - i % 2 for i in range(b)])[:, None]
        f = torch.where(mask[..., None], f, 100 * f)
        got = as_number(answer(f, g, mask, torch.tensor(ids), margin), "the loss")

        def losses(s: int, i: int, sign: float = 1.0, f: Any = f, g: Any = g, M: float = margin) -> Any:
            return (M - sign * (f[s, i] @ g[s] - g @ f[s, i])).clamp(min=0)

        real = [(s, i) for s in range(b) for i in range(t) if mask[s, i]]
        padded = [(s, i) for s in range(b) for i in range(t)]

        def others(s: int, ids: Any = ids) -> list[int]:
            return [k for k in range(len(ids)) if ids[k] != ids[s]]

        def all_but_itself(s: int, b: int = b) -> list[int]:
            return [k for k in range(b) if k != s]

        def everyone(s: int, b: int = b) -> list[int]:
            return list(range(b))

        def mean(tokens: Any, rows: Callable[[int], list[int]], sign: float = 1.0) -> float:
            return float(torch.cat([losses(s, i, sign)[rows(s)] for s, i in tokens]).mean())

        per_row = [mean([(s, i) for i in range(t) if mask[s, i]], others) for s in range(b)]
        total = [losses(s, i)[others(s)] for s, i in real]
        want = mean(real, others)
        cases.append((got, want, {
            "a token's own picture is among the wrong ones, which adds M each time": mean(
                real, lambda s: [*others(s), s]),
            "the same picture under another caption is counted as a wrong one": mean(
                real, all_but_itself),
            "all pictures are counted as wrong ones, also a token's own": mean(
                real, everyone),
            "padding is counted": mean(padded, others),
            "this is a mean over captions of their means; every pair of token and picture weighs the same":
                sum(per_row) / b,
            "this is a sum; divide by the number of pairs": float(torch.cat(total).sum()),
            "divided by the number of tokens; there are more pairs than tokens":
                float(torch.cat(total).sum()) / len(real),
            "only the hardest wrong picture of each token is counted":
                float(torch.stack([row.max() for row in total]).mean()),
            "the wrong picture wins here: the two relevances are exchanged": mean(real, others, -1.0),
        }))
    if wrong := diagnose(cases, "one loss should be {want}, yours is {got}"):
        return wrong
    f, g = torch.ones(2, 2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    alone = as_number(answer(f, g, torch.ones(2, 2, dtype=torch.bool), torch.tensor([6, 6]), 0.5), "the loss")
    return None if alone == 0 else ("a batch whose captions all speak of one picture has no wrong ones: the "
                                    f"loss should be 0, yours is {alone:g}")


def voted(vokens: Sequence[int], source: Sequence[Span], target: Sequence[Span],
          weight: Callable[[int, Span, Span], float], add: bool = True, last: bool = False,
          smallest: bool = False, none: int | None = NONE) -> list[int]:
    """The voken of each target token by the votes of the source tokens that share a character with it."""
    found = []
    for a, b in target:
        votes: dict[int, float] = {}
        for voken, (start, end) in zip(vokens, source):
            shared = min(b, end) - max(a, start)
            if shared > 0:
                vote = weight(shared, (start, end), (a, b))
                votes[voken] = votes.get(voken, 0.0) + vote if add else max(votes.get(voken, 0.0), vote)
        most = max(votes.values(), default=0.0)
        best = [voken for voken in votes if votes[voken] == most]
        if best:
            found.append(min(best) if smallest else best[-1 if last else 0])
        else:
            later = [v for v, (start, _) in zip(vokens, source) if start >= b]
            found.append((later or [*vokens, NONE])[0] if none is None else none)
    return found


def shared(both: int, source: Span, target: Span) -> float | int:
    """One vote for each character that both tokens have."""
    return both


def drawn_spans(cuts: Tensor, gaps: Tensor) -> list[Span]:
    """Tokens of so many characters, with so many characters between them."""
    spans, at = [], 0
    for length, gap in zip(cuts.tolist(), gaps.tolist()):
        spans.append((at + gap, at + gap + length))
        at += gap + length
    return spans


@check("characters vote, whatever tokens they belong to")
def vokens_by_vote(answer: Callable[..., Any]) -> str | None:
    """Compares vokens carried over to tokens that are cut, merged, and apart from all others."""
    texts: list[tuple[list[int], list[Span], list[Span]]] = [
        ([7, 2, 7], [(0, 3), (4, 9), (9, 12)], [(0, 3), (4, 9), (9, 12)]),
        ([7, 2, 7], [(0, 3), (4, 9), (9, 12)], [(0, 12), (13, 15)]),
        ([1, 2, 2], [(0, 6), (6, 7), (7, 8)], [(0, 8)]),
        ([4, 9], [(0, 20), (20, 22)], [(17, 22)]),
        ([5, 3, 3, 5], [(0, 2), (2, 4), (5, 7), (7, 9)], [(0, 4), (5, 9), (20, 23)]),
        ([8, 6], [(0, 2), (6, 9)], [(0, 1), (3, 5), (7, 9)]),
        ([], [], [(0, 4)]),
    ]
    for _ in range(6):
        source = drawn_spans(torch.randint(1, 6, (9,)), torch.randint(0, 2, (9,)))
        target = drawn_spans(torch.randint(1, 8, (7,)), torch.randint(0, 3, (7,)))
        texts.append((torch.randint(1, 4, (9,)).tolist(), source, target))
    cases: list[Case] = []
    for vokens, source, target in texts:
        got = answer(list(vokens), list(source), list(target))
        if not isinstance(got, list | Tensor) or len(got) != len(target):
            raise Hint(f"return a list of {len(target)} numbers, a voken for each target token")
        given = (vokens, source, target)
        cases.append(([int(voken) for voken in got], voted(*given, shared), {
            "this is the overlap by union; characters vote, and the length of a token does not matter": voted(
                *given, lambda both, s, t: both / (max(s[1], t[1]) - min(s[0], t[0])), add=False),
            "tokens vote here, each once; their characters should": voted(*given, lambda both, s, t: 1),
            "two source tokens with the same voken are to be added up": voted(*given, shared, add=False),
            "all characters of a source token vote; only those inside the target token should": voted(
                *given, lambda both, s, t: s[1] - s[0]),
            "at a tie the voken wins that comes first in the text, and yours comes last": voted(
                *given, shared, last=True),
            "at a tie the voken wins that comes first in the text, not the smallest number": voted(
                *given, shared, smallest=True),
            "0 is a picture, too: where nothing overlaps the voken is -100": voted(*given, shared, none=0),
            "where nothing overlaps nobody votes: the next token's voken is not taken": voted(
                *given, shared, none=None),
        }))
    return diagnose(cases, "vokens should be {want}, yours are {got}")


@check("one number more, and the nearest key is the most alike, the second nearest the second")
def nearest_is_most_alike(answer: Callable[..., Any]) -> str | None:
    """Compares the order of distances with that of inner products."""
    cases: list[Case] = []
    for k, n, e in ((8, 4, 3), (12, 3, 2)):
        g = torch.randn(k, e, dtype=torch.float64) * torch.linspace(0.2, 4, k, dtype=torch.float64)[:, None]
        f = torch.randn(n, e, dtype=torch.float64)
        new = as_several(answer(g, f), ("the keys", "the queries"))
        keys = as_tensor(new[0], (k, e + 1), "the keys")
        queries = as_tensor(new[1], (n, e + 1), "the queries")
        if keys.isnan().any() or queries.isnan().any():
            raise Hint("a root of a negative number: R has to be at least the largest length of all keys")

        def distances(g: Tensor, x: Tensor, f: Tensor, y: Tensor) -> Tensor:
            D = torch.cdist(torch.cat([f, y[:, None]], 1), torch.cat([g, x[:, None]], 1)).square()
            return D - D.mean(1, keepdim=True)          # what is the same for all keys says nothing

        length, none, no = g.norm(dim=1), f.new_zeros(n), f.new_zeros(k)
        R = length.max()
        x = (R**2 - length**2).clamp(min=0).sqrt()      # rounding: the longest has 0
        want = distances(g, x, f, none)
        got = distances(keys[:, :-1], keys[:, -1], queries[:, :-1], queries[:, -1])
        right = torch.equal(got.argsort(1), (-f @ g.mT).argsort(1))
        all_R = torch.cat([length, f.norm(dim=1)]).max()
        cases.append((want if right else got, want, {
            "keys of length 1 have other inner products: their lengths have to stay":
                distances(g / length[:, None], no, f, none),
            "the length itself makes long keys even longer; what is missing to R is needed":
                distances(g, length, f, none),
            "the queries' new number is 0; theirs must not be compared with the keys'": distances(
                g, (all_R**2 - length**2).clamp(min=0).sqrt(), f,
                (all_R**2 - f.square().sum(1)).clamp(min=0).sqrt()),
            "a query's new number is 0, not 1: it would be compared with the keys'":
                distances(g, x, f, none + 1),
            "nothing has changed: a long key is far from everything": distances(g, no, f, none),
            "squares add up: the new number is a root": distances(g, R**2 - length**2, f, none),
            "lengths do not add up, their squares do": distances(g, R - length, f, none),
            "R has to be the largest length of all keys; longer ones than yours are cut":
                distances(g, (length.mean()**2 - length**2).clamp(min=0).sqrt(), f, none),
        }))
    return diagnose(cases, "the order by distance is not yet that by inner product")


# ----------------------------------------------------------------------------------------- 16: iACE's logits


@check("bounded logits leave a loss that no training removes, and a scale that would")
def a_loss_that_stays(answer: Callable[..., Any]) -> str | None:
    """Compares least losses and scales for several numbers of classes."""
    losses, scales = [], []
    for c, s, eps in ((2, 1.0, 0.1), (3, 1.0, 0.24), (10, 3.0, 1e-3), (5, 0.5, 0.7)):
        loss, scale = as_several(answer(c, s, eps), ("the least loss", "the scale"))
        others, ratio = (c - 1) * math.exp(-2 * s), (c - 1) / math.expm1(eps)
        losses.append((as_number(loss, "the least loss"), math.log1p(others), {
            "the others sit at -s, which is 2 s below the right one":
                math.log1p((c - 1) * math.exp(-s)),
            "the right class is one of the c: c - 1 others remain": math.log1p(c * math.exp(-2 * s)),
            "these are bits; the loss is in nats": math.log1p(others) / math.log(2),
            "this is the largest probability; its loss is asked for": 1 / (1 + others),
            "the others are together only as likely as one of them": math.log1p(math.exp(-2 * s)),
            "a loss is a minus logarithm: the sign": -math.log1p(others),
            "1 - p is close to -log p only for small losses": others / (1 + others),
        }))
        scales.append((as_number(scale, "the scale"), math.log(ratio) / 2, {
            "this is 2 s: the logits lie that far apart": math.log(ratio),
            "c - 1 others, not c, also in the scale": math.log(c / math.expm1(eps)) / 2,
            "eps stands for e^eps - 1, which is right for small losses only": math.log((c - 1) / eps) / 2,
            "with this scale 1 - p is eps; the loss should be": math.log((c - 1) * (1 - eps) / eps) / 2,
            "the sign: a smaller loss needs a larger scale": -math.log(ratio) / 2,
            "the number of classes is forgotten in the scale": -math.log(math.expm1(eps)) / 2,
        }))
    if wrong := (diagnose(losses, "the least loss should be {want}, yours is {got}")
                 or diagnose(scales, "the losses are right; the scale should be {want}, yours is {got}")):
        return wrong
    small = as_number(as_several(answer(2, 25.0, 0.1), ("the least loss", "the scale"))[0], "the least loss")
    if abs(small / math.exp(-50.0) - 1) > 1e-3:
        return f"for s = 25 the loss is 1.93e-22, yours {small:g}: 1 + a tiny number is rounded; see log1p"
    return None
