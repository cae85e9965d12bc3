"""The checks of chapter 1's exercises. Reading on shows answers: try the exercise first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give.
"""

import functools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmlearn.data.ptb import ptb_tokenise
from mmlearn.data.scenes import captions, sample_scene
from mmlearn.exercises import (
    Case,
    Hint,
    as_number,
    as_several,
    as_tensor,
    check,
    diagnose,
    measured_table,
    same,
)
from mmlearn.image2text.m2 import M2Config, M2Transformer
from mmlearn.metrics.caption import caption_scores

Words = Sequence[str]

# ------------------------------------------------------------------------------ 1-3: annotation and detection


def runs(flat: np.ndarray) -> list[int]:
    """Lengths of the runs of equal values, in order."""
    ends = np.flatnonzero(np.diff(flat)) + 1
    return np.diff([0, *ends.tolist(), flat.size]).tolist()


@check("your runs alternate, start with zeros and follow the columns, as COCO's do")
def run_lengths(answer: Callable[[np.ndarray], Any]) -> str | None:
    """Compares the runs of some masks."""
    rng, cases = np.random.default_rng(0), []
    masks = [rng.random((rng.integers(3, 6), rng.integers(6, 9))) < 0.6 for _ in range(20)]
    for mask in [*masks, np.ones((3, 2), dtype=bool), np.zeros((3, 2), dtype=bool)]:
        got = answer(mask)
        if not isinstance(got, list | tuple | np.ndarray) or any(np.ndim(c) for c in got):
            return f"return the list of the counts, not a {type(got).__name__}"
        down, along = mask.ravel(order="F"), mask.ravel()
        want = [0] * bool(down[0]) + runs(down)
        cases.append(([int(c) for c in got], want, {
            "the runs are those of the rows: COCO reads a mask down its columns":
                [0] * bool(along[0]) + runs(along),
            "the first count is the number of zeros at the start, even if that is 0": runs(down),
            "a 0 stands in front of every list; it belongs there only if the first pixel is set":
                [0, *runs(down)],
            "a 0 stands in front if the first pixel is not set, where it should be the other way round":
                [0] * (not down[0]) + runs(down),
            "the last run is missing: it ends at the end of the mask, not at a change": want[:-1],
            "these are the places where runs end; their lengths are asked for": np.cumsum(want).tolist(),
            "only the runs of ones are there; zeros and ones take turns": want[1::2],
        }))
    return diagnose(cases, "one of the masks should give {want}, not {got}")


@check("the number you give is enough, and one annotator fewer is not")
def annotators_needed(answer: Callable[[float, float], Any]) -> str | None:
    """Compares numbers of annotators, at the border too."""
    draw, cases = random.Random(0), []
    chances = [(0.5, 0.75), (0.5, 0.875), (0.1, 0.99), (0.95, 0.1)]
    for p, r in chances + [(draw.uniform(0.02, 0.9), draw.uniform(0.05, 0.999)) for _ in range(50)]:
        got = as_number(answer(p, r), f"the answer for p = {p:.2f} and r = {r:.2f}")
        if got != int(got) or got < 1:
            return (f"for p = {p:.2f} and r = {r:.2f} you say {got:.4g}; annotators come in whole numbers "
                    "from 1 on")
        exact = math.log(1 - r) / math.log(1 - p)
        want = next(n for n in range(1, 10_000) if 1 - (1 - p) ** n >= r - 1e-12)
        cases.append((got, want, {
            "you add up what each one finds, but two annotators often notice the same label":
                max(1, math.ceil(r / p)),
            "rounding to the nearest number is too few half of the time": max(1, round(exact)),
            "rounding down leaves one annotator too few": max(1, math.floor(exact)),
            "at the border one annotator fewer is enough: 1 - (1 - p)^n may be equal to r":
                max(1, int(exact) + 1),
            "one annotator more than is needed": want + 1,
            "a label is lost if everybody misses it, each with chance 1 - p; you multiply the chances p of "
            "noticing":
                max(1, math.ceil(math.log(1 - r) / math.log(p))),
            "that many would all have to notice the label; one of them is enough":
                max(1, math.ceil(math.log(r) / math.log(p))),
        }))
    return diagnose(cases, "for p = 0.50 and r = 0.75 two are needed; somewhere you say {got} instead of "
                           "{want}")


@check("the whole area under the envelope, and nothing beyond the last recall")
def area_under_envelope(answer: Callable[[np.ndarray, np.ndarray], Any]) -> str | None:
    """Compares areas for random lists of hits, with labels that are never found."""
    rng, cases = np.random.default_rng(0), []
    for _ in range(20):
        hits = np.concatenate([[rng.random() < 0.5], rng.random(10) < 0.6, [True]])
        tp = hits.cumsum()
        recall, precision = tp / (tp[-1] + 2), tp / np.arange(1, 13)
        best = [max(precision[i:]) for i in range(12)]
        so_far = [max(precision[: i + 1]) for i in range(12)]
        width = [recall[0], *(b - a for a, b in zip(recall, recall[1:]))]
        want = sum(w * e for w, e in zip(width, best))
        cases.append((as_number(answer(recall, precision)), want, {
            "this is the area under the precisions as they are: the envelope takes the best one at any "
            "higher recall":
                sum(w * p for w, p in zip(width, precision)),
            "trapezia under the precisions as they are: first the envelope, which is a staircase":
                sum((b - a) * (p + q) / 2
                    for a, b, p, q in zip(recall, recall[1:], precision, precision[1:])),
            "your envelope runs from the wrong side: at a recall it is the best precision still to come":
                sum(w * e for w, e in zip(width, so_far)),
            "the first step is missing: it begins at recall 0":
                sum(w * e for w, e in zip(width[1:], best[1:])),
            "recalls that were never reached have precision 0; you go on with the last one":
                want + (1 - recall[-1]) * best[-1],
            "this is the mean over detections; each step of the staircase has the width by which recall "
            "grows":
                float(np.mean(best)),
            "this samples the envelope at 101 recalls; the area is exact": sampled(recall, best, 101),
            "this samples the envelope at 11 recalls; the area is exact": sampled(recall, best, 11),
        }))
    return diagnose(cases, "one of the lists has area {want}, you say {got}")


def sampled(recall: np.ndarray, envelope: list, points: int) -> float:
    """The mean of the envelope at equally spaced recalls."""
    reached = np.append(envelope, 0.0)
    return float(reached[np.searchsorted(recall, np.linspace(0, 1, points))].mean())


# ---------------------------------------------------------------------------------- 4-6 and 12: attention, M2


@check("every word sees itself and the words before it, nobody sees padding or the future")
def caption_mask(answer: Callable[[Tensor, int], Any]) -> str | None:
    """Compares masks of captions of several lengths, with two ids of padding."""
    cases = []
    for pad in (1, 0):
        tokens = torch.randint(4, 50, (4, 7))
        for row, length in enumerate((7, 3, 2, 5)):
            tokens[row, length:] = pad
        mask = as_tensor(answer(tokens, pad), (4, 7, 7), "the mask", torch.bool)
        there = tokens != pad
        past = torch.tensor([[j <= i for j in range(7)] for i in range(7)]).expand(4, 7, 7)
        before = torch.tensor([[j < i for j in range(7)] for i in range(7)]).expand(4, 7, 7)
        want = past & there[:, None]
        cases.append((mask, want, {
            "exactly inverted: True means 'may be attended to'": ~want,
            "nobody sees itself, and the first word sees nothing at all": before & there[:, None],
            "padding is visible: a short caption's filling is no word": past,
            "the future is visible: a word would be predicted from itself": there[:, None].expand(4, 7, 7),
            "words see the later ones and not the earlier: rows are who looks, columns what is looked at":
                past.mT & there[:, None],
            "a row of padding sees nothing, and a softmax over nothing is 0 / 0; hide padding as a column, "
            "not as a row":
                past & there[:, :, None],
            "the two conditions must both hold; you let one of them do": past | there[:, None],
            "the id of the padding is an argument, you always look for 1": past & (tokens != 1)[:, None],
        }))
    return diagnose(cases, "somebody sees padding or the future, or does not see a word that is there")


class Joined(TorchDispatchMode):
    """While it is entered, remembers whether tensors were joined to one with ``size`` rows."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.seen = size, False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if "aten::cat" in str(getattr(function, "_schema", "")) and self.size in result.shape:
            self.seen = True
        return result


@check("attention over a union is a mixture of attentions; M2's memory gate is the case of two parts")
def attention_in_parts(answer: Callable[..., Any]) -> str | None:
    """Compares shares and output with attention over all keys at once."""
    cases, shares_cases = [], []
    for strength in (1.0, 3.0, 3000.0):
        Q = strength * torch.randn(5, 8, dtype=torch.float64)
        parts = [(torch.randn(n, 8, dtype=torch.float64), torch.randn(n, 4, dtype=torch.float64))
                 for n in (6, 3, 4)]
        with Joined(13) as joined:
            shares, out = as_several(answer(Q, parts), ("the shares (n, parts)", "the output (n, v)"))
        if joined.seen:
            return "keys or values of several parts were joined to one tensor; let each part answer by itself"
        shares, out = as_tensor(shares, (5, 3), "the shares"), as_tensor(out, (5, 4), "the output")
        if not (torch.isfinite(shares).all() and torch.isfinite(out).all()):
            return ("with large scores your shares are not finite: exponentials overflow, the logarithm of "
                    "their sum does not if it is taken in one function")
        scores = [Q @ K.T / math.sqrt(8) for K, _ in parts]
        each = torch.stack([s.softmax(1) @ V for s, (_, V) in zip(scores, parts)])           # parts n v
        logs = torch.stack([s.logsumexp(1) for s in scores], 1)                               # n parts
        want = logs.softmax(1)
        bare = torch.stack([(s * math.sqrt(8)).logsumexp(1) for s in scores], 1)
        sizes = torch.tensor([6.0, 3.0, 4.0], dtype=torch.float64).expand(5, 3)
        if strength < 100:
            shares_cases.append((shares, want, {
                "every query gets the same shares: how well its keys answer a query matters, not how many "
                "they are":
                    sizes / 13,
                "every part has the same share": torch.ones_like(want) / 3,
                "the scores are divided by the root of their width before the exponential": bare.softmax(1),
                "the shares of a query sum to 1 over the parts; yours do over the queries": logs.softmax(0),
                "a part is more than its best key: add the exponentials of all its scores":
                    torch.stack([s.amax(1) for s in scores], 1).softmax(1),
                "these are the logarithms of the sums; shares sum to 1": logs,
                "these are the sums of exponentials; shares sum to 1": logs.exp(),
                "you average the exponentials of a part; in one softmax over all keys they are added":
                    torch.stack([s.exp().mean(1) for s in scores], 1)
                    / torch.stack([s.exp().mean(1) for s in scores], 1).sum(1, keepdim=True),
            }))
        cases.append((out, torch.einsum("np,pnv->nv", want, each), {
            "the shares are right, but the parts' outputs are added as if each had weight 1": each.sum(0),
            "the shares are right, but the parts' outputs are averaged evenly": each.mean(0),
            "the shares are right, the answer of each part is not: its own softmax also needs the root of "
            "the width":
                torch.einsum("np,pnv->nv", want, torch.stack([(s * math.sqrt(8)).softmax(1) @ V
                                                              for s, (_, V) in zip(scores, parts)])),
        }))
    return (diagnose(shares_cases, "a query should have shares {want}; yours are {got}")
            or diagnose(cases, "the shares are right, their mixture is not: a share weighs the answer of its "
                               "own part"))


@check("your gates compete over the layers, and their mixture is M2's softmax variant")
def gates_that_sum_to_one(answer: Callable[..., Any]) -> str | None:
    """Compares gates and mesh; all sizes differ, so that axes cannot be confused unseen."""
    gates, meshes = [], []
    for _ in range(2):
        Y, C, W, b = torch.randn(2, 3, 4), torch.randn(2, 5, 3, 4), torch.randn(5, 4, 8), torch.randn(5, 4)
        alpha, out = as_several(answer(Y, C, W, b), ("the gates (b, n, t, d)", "the mesh (b, t, d)"))
        alpha, out = as_tensor(alpha, (2, 5, 3, 4), "the gates"), as_tensor(out, (2, 3, 4), "the mesh")
        scores, swapped = torch.zeros(2, 5, 3, 4), torch.zeros(2, 5, 3, 4)
        for i in range(5):
            scores[:, i] = Y @ W[i, :, :4].T + C[:, i] @ W[i, :, 4:].T + b[i]
            swapped[:, i] = C[:, i] @ W[i, :, :4].T + Y @ W[i, :, 4:].T + b[i]
        want = scores.softmax(1)
        gates.append((alpha, want, {
            "the gates sum to 1 over the channels; they should compete over the layers": scores.softmax(3),
            "the gates sum to 1 over the words; they should compete over the layers": scores.softmax(2),
            "the gates sum to 1 over the batch; they should compete over the layers": scores.softmax(0),
            "these gates are independent sigmoids; they do not compete": scores.sigmoid(),
            "sigmoids divided by their sum compete, but by another formula: use one softmax":
                scores.sigmoid() / scores.sigmoid().sum(1, keepdim=True),
            "these are the scores; a gate needs one more step": scores,
            "the bias is missing": (scores - b[:, None]).softmax(1),
            "in [Y; C_i] the word comes first and the reading second": swapped.softmax(1),
        }))
        total = (want * C).sum(1)
        meshes.append((out, total / math.sqrt(5), {
            "the gates are right, but their sum is not divided by the root of n": total,
            "the gates are right, but their sum is divided by n instead of its root": total / 5,
            "the gates are right, but their sum is divided by the root of the width": total / 2,
            "the gates are right, but the readings are added without them": C.sum(1) / math.sqrt(5),
        }))
    return (diagnose(gates, "the gates have other values than the softmax over layers of W_i [Y; C_i] + b_i")
            or diagnose(meshes, "the gates are right, the mesh is not: what is added up, and what is it "
                                "divided by?"))


def encoder(slots: int, seed: int) -> tuple[M2Transformer, Tensor]:
    """A small encoder with random weights, and features."""
    torch.manual_seed(seed)
    config = replace(M2Config.mini(), width=16, heads=2, ff=32, memory=slots)
    return M2Transformer(config).eval(), torch.randn(2, 5, 64)


@functools.cache
def telling_seeds() -> tuple[int, ...]:
    """Seeds of two encoders in which an inner layer changes more than the last one, whose largest change is
    once a rise and once a fall."""
    found: dict[bool, int] = {}
    for seed in range(200):
        model, features = encoder(8, seed)
        change = model.encode(features).levels - model.encode(features.repeat(1, 2, 1)).levels[:, :, :5]
        last = change[:, -1]
        if change.abs().max() > 1.02 * last.abs().max() and abs(last.max() + last.min()) > 0.01:
            found.setdefault(bool(last.max() > -last.min()), seed)
        if len(found) == 2:
            break
    return tuple(found.values())


@check("a plain encoder does not notice that everything is there twice; one with memory does")
@torch.no_grad()
def change_by_duplication(answer: Callable[..., Any]) -> str | None:
    """Measures on random encoders, one of them without memory."""
    cases = []
    for model, features in (encoder(0, 0), *(encoder(8, seed) for seed in telling_seeds())):
        got = as_number(answer(model, features), "the change")
        once, copies = model.encode(features).levels, model.encode(features.repeat(1, 2, 1)).levels
        block, mixed = copies[:, :, :5], model.encode(features.repeat_interleave(2, 1)).levels[:, :, :5]
        change = once[:, -1] - block[:, -1]
        cases.append((round(got, 4), round(float(change.abs().max()), 4), {
            hint: round(float(value), 4) for hint, value in {
                "you compare other regions: with a, a, b, b, … row i is not region i any more":
                    (once[:, -1] - mixed[:, -1]).abs().max(),
                "this is the largest change over all layers; the last one is asked for":
                    (once - block).abs().max(),
                "this is the change of the first layer; the last one is asked for":
                    (once[:, 0] - block[:, 0]).abs().max(),
                "this is the mean change; the largest one is asked for": change.abs().mean(),
                "take the absolute value: a change may be negative": change.max(),
                "take the absolute value, a change may be negative": (-change).max(),
                "you compare the two copies with each other; compare them with the regions listed once":
                    (copies[:, -1, :5] - copies[:, -1, 5:]).abs().max(),
                "this is the largest value, not the largest change": once[:, -1].abs().max(),
            }.items()
        }))
    return diagnose(cases, "one of the encoders changes by {want}, you measure {got}")


# ----------------------------------------------------------------------------------------------- 7-9: metrics


@check("clipped by the best single reference, over the words of the candidate")
def clipped_precision(answer: Callable[[list[str], list[list[str]]], Any]) -> str | None:
    """Compares precisions of random captions, and that of no words."""
    draw, cases = random.Random(0), []
    for _ in range(30):
        candidate, *references = [draw.choices("abcdef", k=draw.randint(2, 8)) for _ in range(4)]
        counts, among = Counter(candidate), [Counter(r) for r in references]
        total = sum(min(n, max(r[w] for r in among)) for w, n in counts.items())
        cases.append((as_number(answer(list(candidate), references)), total / len(candidate), {
            "nothing is clipped: a repeated word is paid each time":
                sum(any(r[w] for r in among) for w in candidate) / len(candidate),
            "you add the counts of all references; take the largest count in any one of them":
                sum(min(n, sum(r[w] for r in among)) for w, n in counts.items()) / len(candidate),
            "a word should count as often as in the reference that has it most often, not least often":
                sum(min(n, min(r[w] for r in among)) for w, n in counts.items()) / len(candidate),
            "each different word is counted once; the clip is by the references' counts":
                sum(any(r[w] for r in among) for w in counts) / len(candidate),
            "this is the share of the different words; repeated ones count in the denominator":
                sum(any(r[w] for r in among) for w in counts) / len(counts),
            "divided by the number of different words; the denominator is the length of the candidate":
                total / len(counts),
            "this is a count; a precision is divided by the length of the candidate": total,
            "only the first reference is read":
                sum(min(n, among[0][w]) for w, n in counts.items()) / len(candidate),
            "a precision per reference, and then the best one: the clip takes the best reference word by "
            "word":
                max(sum(min(n, r[w]) for w, n in counts.items()) for r in among) / len(candidate),
        }))
    wrong = diagnose(cases, "one of the captions has precision {want}, you say {got}")
    if wrong:
        return wrong
    try:
        empty = as_number(answer([], [["a"]]), "the precision of no words")
    except Hint as hint:
        if "ZeroDivisionError" in str(hint):
            return "a caption without words divides by zero: its precision is 0"
        raise
    return None if empty == 0 else f"a caption without words has precision 0, you say {empty}"


def cider(candidates: Sequence[Words], references: Sequence[Sequence[Words]], *, clip: bool = True,
          sigma: float = 6.0, two: float = 2.0, factor: float = 10.0, over: str = "images",
          smooth: float = 0.0, total: bool = False, frequency: bool = False) -> list[float]:
    """CIDEr-D of single words, with the parts that are forgotten as options."""
    groups = [[w for s in refs for w in s] for refs in references] if over == "images" else \
             [list(s) for refs in references for s in refs]
    n = len(references) if over != "captions" else len(groups)

    def weights(s: Words) -> dict[str, float]:
        if over == "counts":
            return {w: float(s.count(w)) for w in set(s)}
        return {w: s.count(w) / (len(s) if frequency else 1)
                * (math.log(n + smooth) - math.log(max(1, sum(w in g for g in groups))))
                for w in set(s)}

    def score(c: Words, s: Words) -> float:
        a, b = weights(c), weights(s)
        norms = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
        dot = sum((min(x, b[w]) if clip else x) * b[w] for w, x in a.items() if w in b)
        return factor * math.exp(-((len(c) - len(s)) ** 2) / (two * sigma**2)) * dot / norms if norms else 0.0

    sums = [sum(score(c, s) for s in refs) for c, refs in zip(candidates, references)]
    return [s if total else s / len(refs) for s, refs in zip(sums, references)]


@check("your CIDEr-D of single words is the official one")
def cider_d_of_words(answer: Callable[..., Any]) -> str | None:
    """Compares scores on random corpora, the corpus of one image among them."""
    draw, cases, corpora = random.Random(0), [], []
    for images in (2, 3, 4, 5, 5, 4, 6):
        some = [[draw.choices("abcdefgh", k=draw.randint(2, 9)) for _ in range(4)] for _ in range(images)]
        candidates, references = [group[0] for group in some], [group[1:] for group in some]
        candidates[0].append("word")                                 # which no reference has
        corpora.append((candidates, references))
        got = scores_of(answer, candidates, references)
        version = functools.partial(cider, candidates, references)
        cases.append((got, version(), {
            "the factor 2 in the exponent is missing: the Gaussian divides by 2 sigma^2": version(two=1.0),
            "the factor 10 is missing": version(factor=1.0),
            "too high: a word that the candidate repeats more often than the reference is paid too much, "
            "clip it":
                version(clip=False),
            "too high where lengths differ: the Gaussian of the difference is missing":
                version(sigma=math.inf),
            "too high: neither the clip nor the Gaussian is there; this is CIDEr, not CIDEr-D":
                version(clip=False, sigma=math.inf),
            "the exponent divides by 2 sigma instead of 2 sigma^2": version(two=2.0 / 6),
            "document frequency counts captions here; it counts images, each once however many captions have "
            "the word":
                version(over="captions"),
            "document frequency counts captions here, out of the number of images": version(over="mixed"),
            "counts are divided by the length of their caption; that changes what the clip compares, so take "
            "counts":
                version(frequency=True),
            "two things: document frequency counts images, each once, and counts are not divided by the "
            "length":
                version(over="mixed", frequency=True),
            "two things: document frequency and I both count images, and counts are not divided by the "
            "length":
                version(over="captions", frequency=True),
            "words have no weights: a word that all images share should count for nothing":
                version(over="counts"),
            "you add over the references; the mean is asked for": version(total=True),
            "log(I + 1) instead of log I: a word that all images share should weigh exactly 0":
                version(smooth=1.0),
        }))
    wrong = diagnose(cases, example_of(cases, corpora))
    if wrong:
        return wrong
    try:
        alone = scores_of(answer, [["a", "b"]], [[["a", "b"], ["a", "c"]]])
    except Hint as hint:
        if "ZeroDivisionError" in str(hint):
            return "with one image all weights are 0, and so are the norms: the cosine 0 / 0 counts as 0"
        raise
    return None if same(alone, [0.0]) else ("with one image every weight is 0, so that the score is 0; "
                                            f"you say {alone}")


def example_of(cases: Sequence[Case], corpora: Sequence[tuple[list, list]]) -> str:
    """The first image whose score is wrong, in words."""
    for (got, want, _), (candidates, references) in zip(cases, corpora):
        for one, right, c, refs in zip(got, want, candidates, references):
            if not same(one, right):
                others = ", ".join(f"'{' '.join(s)}'" for s in refs)
                return (f"in a corpus of {len(candidates)} images the caption '{' '.join(c)}' against "
                        f"{others} should score {right:.4f}, you say {one:.4f}")
    return "the scores differ"


def scores_of(answer: Callable[..., Any], candidates: list, references: list) -> list[float]:
    """One score for each image, or a hint."""
    try:
        got = answer(candidates, references)
    except Hint as hint:
        if "math domain error" in str(hint) or "expected a positive input" in str(hint):
            raise Hint("a word of the candidate that no reference has is in 0 images, and log 0 does not "
                       "exist: the formula takes max(1, df)") from None
        raise
    got = got.tolist() if isinstance(got, Tensor | np.ndarray) else got
    if not isinstance(got, list | tuple) or len(got) != len(candidates):
        raise Hint(f"{len(candidates)} images went in; return a list of {len(candidates)} scores, one for "
                   "each")
    return [as_number(x, "a score") for x in got]


@functools.cache
def tokenised_scenes() -> tuple[tuple[tuple[str, ...], ...], ...]:
    """The captions of 60 validation scenes, as words."""
    return tuple(tuple(tuple(ptb_tokenise(text)) for text in captions(sample_scene(0, i, "val")))
                 for i in range(60))


def blind_score(sentence: str, metric: str) -> float:
    """A metric of the captions when each of 60 scenes gets the same sentence."""
    scenes = [[list(words) for words in refs] for refs in tokenised_scenes()]
    return float(caption_scores([ptb_tokenise(sentence)] * len(scenes), scenes, [metric]).corpus[metric])


@check("a blind sentence beats the plain one; now say why, and look at the other metrics")
def one_sentence_for_all(answer: Callable[[], Any], metric: str) -> str | None:
    """Scores the sentence blindly; it has to be a sentence, and the same one every time."""
    sentence = answer()
    if not isinstance(sentence, str) or not sentence.strip():
        return ("return one sentence as text, not "
                f"{'nothing' if not sentence else 'a ' + type(sentence).__name__}")
    words = [w for w in ptb_tokenise(sentence) if w.isalpha()]
    if len(words) > 20:
        return f"{len(words)} words are no caption any more; stay within 20"
    if len(set(words)) < 4 or len(set(words)) < 0.6 * len(words):
        return (f"{sentence!r} says the same few words again and again: find a sentence that somebody could "
                "have said")
    known = {w for refs in tokenised_scenes() for s in refs for w in s}
    if len(known & set(words)) < 0.5 * len(set(words)):
        return (f"most words of {sentence!r} are in no caption of any scene: which words do many captions "
                "share?")
    if answer() != sentence:
        return "two calls give two sentences; every scene gets the same one"
    ours, plain = blind_score(sentence, metric), blind_score("a picture", metric)
    if ours <= plain:
        return (f"{sentence!r} has {metric} {ours:.3f}, the sentence 'a picture' {plain:.3f}: it has to be "
                "higher")
    return None


# ----------------------------------------------------------------------- 10, 11 and 13: decoding and training


@check("captions are compared by what each of their own words costs")
def ranking(answer: Callable[..., Any]) -> str | None:
    """Compares orders of captions of different lengths."""
    cases = []
    for alpha, fill in ((0.0, 1), (0.7, 1), (1.0, 3), (1.0, 1), (0.7, 3), (1.0, 3), (1.0, 1), (0.5, 3)):
        lengths, eos = torch.randperm(12)[:6] + 1, 3
        tokens, log_probs = torch.full((6, 12), fill), torch.zeros(6, 12)
        for row, n in enumerate(lengths.tolist()):
            tokens[row, :n], tokens[row, n - 1] = torch.randint(4, 40, (n,)), eos
            log_probs[row, :n] = -torch.rand(n) - 0.5
        got = answer(log_probs, tokens, alpha, eos)
        if isinstance(got, list | tuple):
            return (f"you return a {type(got).__name__}; return a tensor of indices, as torch.Tensor.argsort "
                    "does")
        got = as_tensor(got, (6,), "the order")
        if got.is_floating_point():
            return "you return the scores; the indices of the captions are asked for, best first"
        sums = log_probs.sum(1)
        order = functools.partial(torch.argsort, descending=True)
        want = order(sums / lengths**alpha)
        cases.append((got, want, {
            "this is the worst first": want.flip(0),
            "this is the order of the plain sums: a length that is the same for all changes no order":
                order(sums),
            "the <eos> of a caption counts as one of its words: the model had to predict it":
                order(sums / (lengths - 1).clamp(min=1) ** alpha),
            "a long caption is punished twice here: dividing, not multiplying, makes up for its length":
                order(sums * lengths**alpha),
            "alpha is not there: this is the mean for every alpha": order(sums / lengths),
            "these are places, not indices: caption i stands at place got[i]; best first, the indices are "
            "asked for":
                want.argsort(),
            "what stands behind the first <eos> is no word of the caption, even if it is another <eos>":
                order(sums / (torch.full_like(lengths, 12) if fill == eos else lengths) ** alpha),
            "alpha multiplies the length; it is its power": order(sums / (alpha * lengths).clamp(min=1e-9)),
        }))
    return diagnose(cases, "one of the orders should be {want}, yours is {got}")


@check("good words are pushed up, bad ones down, and a common bonus changes nothing")
def gradient_of_one_word_captions(answer: Callable[..., Any]) -> str | None:
    """Compares with the derivative of every logit, and with what common slips give."""
    cases = []
    for _ in range(3):
        z, words = torch.randn(6, dtype=torch.float64), torch.randint(6, (5,))
        rewards = 3 * torch.rand(5, dtype=torch.float64) + 2
        p, advantage = z.softmax(0), rewards - rewards.mean()
        got = answer(z, words, rewards)
        if isinstance(got, Tensor) and tuple(got.shape) == (5, 6):
            return "this is one gradient for each sample; their mean has the shape of z, (6,)"
        one_hot = torch.stack([(torch.arange(6) == w).double() for w in words])

        def push(a: Tensor, minus: Tensor = p, hot: Tensor = one_hot) -> Tensor:
            return -sum(x * (h - minus) for x, h in zip(a, hot)) / 5

        want = push(advantage)
        cases.append((as_tensor(got, (6,), "the gradient"), want, {
            "the sign is wrong: the loss falls where the reward rises, and this points up the reward": -want,
            "the bonus that all samples share is not taken away: where is the baseline?": push(rewards),
            "the sum over the samples; the mean is asked for": 5 * want,
            "you leave a sample out of its own baseline; here the baseline is the mean of all": want * 5 / 4,
            "only the words that were drawn move; raising one probability has to lower the others":
                push(advantage, torch.zeros(6, dtype=torch.float64)),
            "this is the derivative with respect to the probabilities; the logits move all of them":
                push(advantage, torch.zeros(6, dtype=torch.float64), one_hot / p),
            "you subtract the log-probabilities where the probabilities belong":
                push(advantage, z.log_softmax(0)),
            "the advantages are divided by their standard deviation; the loss does not ask for that":
                push(advantage / rewards.std()),
            "the advantages are divided by their standard deviation; the loss asks for none":
                push(advantage / rewards.std(correction=0)),
        }))
    return diagnose(cases, "the gradient should be {want}, yours is {got}")


@check("the difference between no memory and the best memory is larger than the spread over seeds")
def ablation_of_memory(answer: Callable[..., Any], train: Callable[..., Any]) -> str | None:
    """Runs the study with a trainer that keeps a record, and reads the table."""
    record: dict[tuple[int, int], float] = {}

    def recorded(slots: int, seed: int, **options: Any) -> float:
        record[slots, seed] = train(slots, seed, **options)
        return record[slots, seed]

    table = measured_table(answer(recorded), record, "slots", ("accuracy", "accuracies"), control=0)
    mean, spread = ({slots: float(f(row)) for slots, row in table.items()} for f in (np.mean, np.std))
    best = max((slots for slots in table if slots), key=lambda slots: mean[slots])
    for slots in sorted(table):
        print(f"{slots:2d} slots: {mean[slots]:.2f} ± {spread[slots]:.2f}")
    if mean[best] - mean[0] < 2 * (spread[best] + spread[0]):
        return "no number of slots stands out by more than twice the spread: more seeds, or longer training?"
    return None
