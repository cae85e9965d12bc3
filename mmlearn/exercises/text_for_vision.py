"""The checks of chapter 4's exercises. Reading on shows answers: try the exercise first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmlearn.exercises import Answer, Case, Hint, as_number, as_several, as_tensor, check, diagnose, same

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


# ------------------------------------------------------------------------------------ 1-4: contrastive losses


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
        want = (rows + columns) / 2
        cases.append((as_number(answer(l, there), "the loss"), want, {
            "one direction only: here each image looks for its text, but no text for its image": rows,
            "one direction only: here each text looks for its image, but no image for its text": columns,
            "the two directions are added; their mean is asked for": 2 * want,
            "this is the sum over the pairs; the mean is asked for": n * want,
            "this is the sum over pairs and directions; the mean is asked for": 2 * n * want,
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
            "the pair itself is missing in the denominator: the right answer is one of the candidates":
                float(((others.logsumexp(1) + others.logsumexp(0)) / 2 - part.diagonal()).mean()),
            "the sign is wrong: a loss falls as the right answer becomes likelier": -want,
        }))
    wrong = diagnose(cases, "one of the batches has the loss {want}, you say {got}")
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
        }))
    if not any(math.isfinite(got) for got, _, _ in cases):
        return OVERFLOW.format(got=cases[0][0])
    wrong = diagnose([case for case in cases if math.isfinite(case[0])],
                     "one of the batches has the loss {want}, your blocks give {got}")
    large = as_number(answer(unit_rows(b, 4).float(), unit_rows(b, 4).float(), 1000.0, 8), "the loss")
    if wrong is None and not (math.isfinite(large) and all(math.isfinite(got) for got, _, _ in cases)):
        return OVERFLOW.format(got=large)
    return wrong


# ------------------------------------------------------------------------------- 5-7: zero-shot and retrieval


@check("every sentence has one vote, every class a vector of length 1")
def classifier_of_sentences(answer: Callable[..., Any]) -> str | None:
    """Compares class vectors, from an encoder whose vectors have lengths from 1 to 100."""
    sentences = {"cat": ["a photo of a cat", "a cat"],
                 "crane": ["a crane, a bird", "a tall bird", "a grey crane"],
                 "tree": ["a tree"], "dog": ["a dog", "there is a dog", "a drawn dog", "the dog"]}
    memory: dict[str, Tensor] = {}

    def encode(texts: Sequence[str]) -> Tensor:
        for text in texts:
            memory.setdefault(text, torch.randn(8) * 10 ** (2 * torch.rand(1)))
        return torch.stack([memory[text] for text in texts])

    got = as_tensor(answer(encode, sentences), (4, 8), "the classifier")
    missing = [text for texts in sentences.values() for text in texts if text not in memory]
    if missing:
        return f"the sentence {missing[0]!r} was never embedded"

    def unit(x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)

    each = [encode(texts) for texts in sentences.values()]
    votes = torch.stack([unit(v).mean(0) for v in each])
    want = unit(votes)
    return diagnose([(got, want, {
        "long vectors outvote short ones: every sentence needs length 1 before the average":
            unit(torch.stack([v.mean(0) for v in each])),
        "the rows are shorter than 1: a mean of unit vectors is no unit vector": votes,
        "the rows are longer than 1: a sum of unit vectors is no unit vector":
            torch.stack([unit(v).sum(0) for v in each]),
        "nothing has length 1 here, neither a sentence nor a class": torch.stack([v.mean(0) for v in each]),
        "the normalisation runs over the classes; a row should have length 1": votes / votes.norm(dim=0),
        "only the first sentence of each class is read": torch.stack([unit(v[0]) for v in each]),
        "classes with many sentences get longer rows: divide by the number of its own sentences, or "
        "normalise":
            torch.stack([unit(v).sum(0) for v in each]) / 10,
        "this is the largest value of each channel over the sentences; their mean is asked for":
            unit(torch.stack([unit(v).amax(0) for v in each])),
    })], "a row is not the mean of its own sentences: which sentences belong to which class?")


@check("one caption of a picture is enough, each caption is asked for its picture, and ties do not help")
def recalls(answer: Callable[..., Any]) -> str | None:
    """Compares recalls for pictures with several captions, with ties and without."""
    n = range(18)
    texts: list[Case] = []
    pictures: list[Case] = []
    tied: list[Case] = []
    for rounded in (False, True) * 8:
        scores, owner = torch.randn(6, 18), torch.cat([torch.arange(6), torch.randint(6, (12,))])
        scores[owner, torch.arange(18)] += 0.8
        scores = (2 * scores).round() if rounded else scores
        k = int(torch.randint(1, 5, (1,)))
        got = as_several(answer(scores, owner, k), ("R@k to text", "R@k to picture"))
        S, O = scores.tolist(), owner.tolist()

        def ahead(i: int, j: int, strict: bool = False, siblings: bool = False,
                  S: list = S, O: list = O) -> int:
            """How many captions stand before caption j of picture i."""
            return sum((S[i][w] > S[i][j]) if strict else (S[i][w] >= S[i][j])
                       for w in n if w != j and (siblings or O[w] != i))

        own = [[j for j in n if O[j] == i] for i in range(6)]
        first = [min(j for j in own[i]) for i in range(6)]

        def share(hits: Sequence[bool]) -> float:
            return sum(hits) / len(hits)

        to_text = share([min(ahead(i, j) for j in own[i]) < k for i in range(6)])
        before = [sum(S[w][j] >= S[O[j]][j] for w in range(6) if w != O[j]) for j in n]
        to_picture = share([a < k for a in before])
        numbers = as_number(got[0], "R@k to text"), as_number(got[1], "R@k to picture")
        (tied if rounded else texts).append((numbers[0], to_text, {
            "all captions of a picture are asked to stand in the first places; one of them is enough":
                share([max(ahead(i, j) for j in own[i]) < k for i in range(6)]),
            "all captions of a picture have to stand in the first places here, and they compete with each "
            "other":
                share([max(ahead(i, j, siblings=True) for j in own[i]) < k for i in range(6)]),
            "every caption is counted by itself, with the picture's other captions as competitors; "
            "a picture is answered once, by any of its captions":
                share([ahead(O[j], j, siblings=True) < k for j in n]),
            "every caption is counted by itself; a picture is answered once, by any of its captions":
                share([ahead(O[j], j) < k for j in n]),
            "only the first caption of a picture is a right answer here; all of its captions are":
                share([ahead(i, first[i]) < k for i in range(6)]),
            "only the first caption of a picture is a right answer, and its other captions compete with it":
                share([ahead(i, first[i], siblings=True) < k for i in range(6)]),
            "this is the recall at k + 1: k wrong answers before the right one are too many":
                share([min(ahead(i, j) for j in own[i]) <= k for i in range(6)]),
            "the two recalls are exchanged: first from picture to text, then from text to picture":
                to_picture,
        }))
        pictures.append((numbers[1], to_picture, {
            "from text to picture: a wrong picture with the same score stands before the right one, ties do "
            "not help":
                share([sum(S[w][j] > S[O[j]][j] for w in range(6)) < k for j in n]),
            "from text to picture: this is the mean over pictures; the captions are asked, each once":
                share_of_means([[before[j] < k for j in own[i]] for i in range(6)]),
            "from text to picture: this is the recall at k + 1": share([a <= k for a in before]),
            "from text to picture: captions are asked for captions here; a column holds the pictures":
                share([ahead(O[j], j) < k for j in n]),
        }))
    return (diagnose(texts, "from picture to text a recall should be {want}, yours is {got}")
            or diagnose(tied, "from picture to text you are right without ties; with a tie a recall should "
                              "be {want} and is {got}: a wrong caption with the same score stands "
                              "before the right one")
            or diagnose(pictures, "from text to picture a recall should be {want}, yours is {got}"))


def share_of_means(groups: Sequence[Sequence[bool]]) -> float:
    """The mean over groups of the mean in each."""
    return sum(sum(group) / len(group) for group in groups) / len(groups)


@check("chosen on validation pictures, reported on pictures that had no say in the choice")
def search_for_a_prompt(answer: Callable[..., Any], accuracy: Callable[..., Any]) -> str | None:
    """Runs the search with an accuracy that keeps a record of every look."""
    looks: list[tuple[str, tuple[str, ...], float]] = []

    def recorded(templates: Sequence[str], split: str) -> float:
        if isinstance(templates, str):
            raise Hint("templates are a tuple of sentences; a single one is written (sentence,)")
        looks.append((split, tuple(templates), float(accuracy(templates, split))))
        return looks[-1][2]

    report = answer(recorded)
    if not isinstance(report, dict) or not {"templates", "val", "test"} <= set(report):
        return "return a dictionary with the keys 'templates', 'val' and 'test'"
    chosen = tuple(report["templates"])
    scores = {templates: a for split, templates, a in looks if split == "val"}
    tests = [(templates, a) for split, templates, a in looks if split == "test"]
    if len(tests) > 1:
        return (f"you looked at the test pictures {len(tests)} times: each look that may change "
                "the choice makes them training data")
    if not tests:
        return ("the test pictures were never looked at: what you report as 'test' is the accuracy of the "
                "pictures that chose")
    if len(scores) < 10:
        return f"{len(scores)} candidates were compared on the validation pictures; try at least ten"
    if ("{}",) not in scores:
        return "the bare name '{}' is not among the candidates: it is the one to beat"
    if tests[0][0] != chosen or chosen not in scores:
        return "the templates that you report are not the ones that you tested"
    if scores[chosen] < scores[("{}",)]:
        return "on the validation pictures your choice does worse than the bare name"
    if not (same(report["val"], scores[chosen]) and same(report["test"], tests[0][1])):
        return "the reported accuracies are not the measured ones: which of them belongs to which pictures?"
    print(f"{len(scores)} candidates; {report['val']:.3f} on validation, "
          f"{report['test']:.3f} on test pictures:")
    print("\n".join(f"  {template}" for template in chosen))
    return None


# ------------------------------------------------------------------------------------ 8 and 9: the two towers


@check("one query, the mean of what is there; keys are the mean and the cells that exist; heads of their own")
def pool_with_filling(answer: Callable[..., Any]) -> str | None:
    """Compares pooled vectors of images with different numbers of cells."""
    b, p, c, e, heads = 3, 6, 8, 5, 4
    cells, there = torch.randn(b, p, c, dtype=torch.float64), torch.arange(p) < torch.tensor([[6], [4], [2]])
    W_q, W_k, W_v, W_o = (torch.randn(c, n, dtype=torch.float64) / c**0.5 for n in (c, c, c, e))
    got = as_tensor(answer(cells, there, W_q, W_k, W_v, W_o, heads), (b, e), "the pooled vectors")

    def pool(n: int = heads, mean: str = "there", keys: str = "there", first: bool = True,
             everybody: bool = False, root: float | int | None = None, after: bool = False) -> Tensor:
        """The pool written out image by image and head by head, with the parts that are mistaken as
        options."""
        out = []
        for i in range(b):
            real = cells[i][there[i]] if keys == "there" and not after else cells[i]
            average = cells[i][there[i]].mean(0) if mean == "there" else \
                cells[i].mean(0) if mean == "all" else (cells[i] * there[i][:, None]).mean(0)
            x = torch.stack([average, *real]) if first else real
            q, k, v = torch.stack([average, *real]) @ W_q, x @ W_k, x @ W_v
            read = []
            for part in torch.arange(c).split(c // n):
                weights = (q[:, part] @ k[:, part].T / (root or c // n) ** 0.5).softmax(1)
                if after:
                    weights = weights * torch.cat([torch.tensor([True]), there[i]])
                read.append(weights @ v[:, part])
            rows = torch.cat(read, 1) @ W_o
            out.append(rows.mean(0) if everybody else rows[0])
        return torch.stack(out)

    return diagnose([(got, pool(), {
        "filling is in the mean, and it is a key: cells that do not exist have no say":
            pool(mean="all", keys="all"),
        "filling is in the mean: average the cells that exist": pool(mean="all"),
        "the mean divides by all cells; divide by the number of those that exist": pool(mean="zero"),
        "filling is a key: hide its scores before the softmax": pool(keys="all"),
        "weights of filling are set to 0 after the softmax, so that the rest does not sum to 1":
            pool(after=True),
        "every row asks here and the answers are averaged; the mean alone is the query": pool(everybody=True),
        "this is one head of width c; split queries, keys and values into heads of width c / h": pool(n=1),
        "the mean asks and is not among the keys; it is one of them, as in CLIP": pool(first=False),
        "the scores are divided by the root of c; a head has the width c / h": pool(root=c),
        "the scores are not divided by the root of a head's width": pool(root=1.0),
    })], "the pooled vectors differ: do queries, keys and values meet their own matrices, and rows stand on "
         "the left?")


@check("the mean runs to the first end and no further, whatever stands behind it")
def mean_to_the_end(answer: Callable[..., Any]) -> str | None:
    """Compares means for several paddings, and for a caption that was cut off before its end."""
    cases: list[Case] = []
    cut_cases: list[Case] = []
    for pad, eot in ((1, 3), (3, 3), (0, 7)):
        tokens, states = torch.full((5, 9), pad), torch.randn(5, 9, 4, dtype=torch.float64)
        ends = [2, 5, 8, 1, 6]
        for row, end in enumerate(ends):
            tokens[row, :end], tokens[row, end] = torch.randint(10, 50, (end,)), eot
        got = as_tensor(answer(states, tokens, eot), (5, 4))

        def means(stops: Sequence[int], states: Tensor = states) -> Tensor:
            return torch.stack([states[row, :stop].mean(0) for row, stop in enumerate(stops)])

        cases.append((got, means([end + 1 for end in ends]), {
            "the mean runs over the whole row, padding too": means([9] * 5),
            "the end of the text is left out; it is the state that has seen all": means(ends),
            "this is the state at the end; the mean of all states up to it is asked for":
                torch.stack([states[row, end] for row, end in enumerate(ends)]),
            "the mean runs to the last end of text; padding may be the same token, so take the first":
                means([9 if pad == eot else end + 1 for end in ends]),
            "this is the sum of the states; the mean is asked for":
                torch.stack([states[row, : end + 1].sum(0) for row, end in enumerate(ends)]),
            "right sum, but divided by the width of the row": torch.stack(
                [states[row, : end + 1].sum(0) / 9 for row, end in enumerate(ends)]),
            "all tokens but the ends of text are averaged; that takes padding, and leaves the end out":
                torch.stack([states[row][tokens[row] != eot].mean(0) for row in range(5)]),
            "the end is not the largest id, that is so in CLIP's own vocabulary only":
                means([int(row.argmax()) + 1 for row in tokens]),
        }))
        tokens, states = torch.randint(10, 50, (2, 9)), torch.randn(2, 9, 4, dtype=torch.float64)
        tokens[1, 4] = eot
        cut_cases.append((as_tensor(answer(states, tokens, eot), (2, 4)),
                          torch.stack([states[0].mean(0), states[1, :5].mean(0)]), {}))
    return (diagnose(cases, "a caption's mean should be {want}, yours is {got}")
            or diagnose(cut_cases, "a caption that was cut off has no end of text: then its whole row "
                                   "counts"))


# --------------------------------------------------------------------------------- 10-13: targets, and a bias


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

        as_known = [k for k in n if keys[k] >= 0]
        cases.append((as_number(answer(l, torch.tensor(keys)), "the loss"), loss(), {
            "this is CLIP's loss: texts with the same key count as wrong answers": symmetric(l),
            "-1 is no class: a pair whose key is unknown has its own text as the only right answer":
                loss(unknown=False),
            "one half only: texts look for their images as well, over the columns": loss(halves="images"),
            "one half only: images look for their texts as well, over the rows": loss(halves="texts"),
            "keys that occur often weigh more here: the targets of each row have to sum to 1":
                loss(share=False),
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
