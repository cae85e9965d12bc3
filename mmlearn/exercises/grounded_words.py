"""The checks of chapter 3's exercises about how words with pictures are judged. Reading on shows answers: try
the exercise first.

Every check compares with what the task says, written out by hand, and with what the usual mistakes of its
task would give.
"""

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from mmlearn.claims import Paired, paired
from mmlearn.data.word_tasks import twin_accuracy, twin_questions
from mmlearn.data.word_world import NOUNS
from mmlearn.exercises import (
    Answer,
    Case,
    Hint,
    as_several,
    as_tensor,
    check,
    diagnose,
    measured_table,
    same,
    where,
)
from mmlearn.images_for_language.zero_shot import fit_ridge
from mmlearn.metrics.similarity import ranks

PATIENCE = 200_000                      # lines that an answer may run through before it is called endless

# ------------------------------------------------------------------------------------- 11: families left out


@check("a family that is left out together takes its own help along, and one fit tells how much that was")
def family_left_out(answer: Callable[..., Any]) -> str | None:
    """Compares errors with those of ridges that were fitted anew without each family."""
    cases: list[Case] = []
    for families, alpha in (([0, 3, 1, 0, 3, 2, 3, 0, 4, 1, 4, 3], 0.3), (list(range(7)), 2.0)):
        G = torch.tensor(families)
        n = len(G)
        X, Y = torch.randn(n, 4, dtype=torch.float64) + 1, torch.randn(n, 2, dtype=torch.float64) - 2
        got = as_tensor(answer(X, Y, G, alpha), (n, 2), "the errors")
        want, r = torch.empty_like(Y), Y - fit_ridge(X, Y, alpha)(X)
        for family in G.unique():
            out = family == G
            want[out] = Y[out] - fit_ridge(X[~out], Y[~out], alpha)(X[out])
        x = X - X.mean(0)
        H = x @ torch.linalg.solve(x.mT @ x + alpha * torch.eye(4, dtype=X.dtype), x.mT)
        I, ones = torch.eye(n, dtype=X.dtype), torch.full((n, n), 1 / n, dtype=X.dtype)

        def blocks(A: Tensor, r: Any = r, G: Any = G, product: bool = False) -> Tensor:
            out = torch.empty_like(r)
            for family in G.unique():
                rows = (family == G).nonzero()[:, 0]
                block = A[rows][:, rows]
                out[rows] = block @ r[rows] if product else torch.linalg.solve(block, r[rows])
            return out

        cases.append((got, want, {
            "each row is left out alone; the rest of its family still helps":
                r / (I - ones - H).diag()[:, None],
            "only the diagonal of H is used: rows of a family also pull at each other":
                blocks(I - ones - H.diag().diag()),
            "these are errors with the means of all rows; the family was in them, too": blocks(I - H),
            "the means are shared: 1/n stands everywhere in the block, not only on its diagonal":
                blocks(I - I / n - H),
            "these are the residuals of the fit that has seen all rows": r,
            "multiplied by the block; leaving out makes errors larger": blocks(I - ones - H, product=True),
            "the sign: an error is what is true less what is predicted": -want,
        }))
    return diagnose(cases, "errors should be {want}, yours are {got}")


# ------------------------------------------------------------------------------------ 17: pictures exchanged


def allowed_orders(kinds: Tensor) -> set[tuple[int, ...]]:
    """All orders in which no word gets a picture of its own kind."""
    k = kinds.tolist()
    return {order for order in itertools.permutations(range(len(k)))
            if all(k[i] != k[j] for i, j in enumerate(order))}


def refused(answer: Answer, *arguments: Any) -> bool:
    """Whether an answer raises a ``ValueError``; one that runs on without end is stopped with a hint."""
    lines = 0

    def counted(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        if lines > PATIENCE:
            raise Hint(f"{answer.name} looks without end for an order where there is none")
        return counted

    before = sys.gettrace()
    sys.settrace(counted)
    try:
        answer.function(*arguments)
    except ValueError:
        return True
    except Hint:
        raise
    except Exception as error:
        raise Hint(where(error, answer.function)) from error
    finally:
        sys.settrace(before)
    return False


@check("every allowed order is as likely as any other, and where there is none you say so")
def pictures_exchanged(answer: Answer) -> str | None:
    """Draws many orders and counts them; asks for orders that do not exist."""
    def drawn(kinds: Tensor, seed: int, count: int) -> list[tuple[int, ...]]:
        generator = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(count):
            order = as_tensor(answer(kinds, generator), (len(kinds),), "the order", torch.int64).tolist()
            if sorted(order) != list(range(len(kinds))):
                raise Hint(f"{order} is not an order: each picture goes to exactly one word")
            found.append(tuple(order))
        return found

    mixed, single = torch.tensor([0, 0, 1, 2, 2, 1]), torch.arange(5)
    few = drawn(mixed, 0, 60)
    if drawn(mixed, 0, 60) != few:
        return "the same seed gives different orders: draw from the generator that is handed over"
    k = mixed.tolist()
    if all(k[i] == k[j] for order in few for i, j in enumerate(order)):
        return "pictures go round within their kind, which is where they must not go"
    if len(set(few)) == 1:
        return "every draw gives the same order; all that are allowed should be as likely"
    if any(i == j for order in few for i, j in enumerate(order)):
        return "in some draws a word keeps its own picture"
    if any(k[i] == k[j] for order in few for i, j in enumerate(order)):
        return "in some draws a word gets the picture of another word of its kind"
    for kinds, times in ((mixed, 40), (single, 60)):
        orders = allowed_orders(kinds)
        counts = Counter(drawn(kinds, 1, times * len(orders)))
        if missing := len(orders - set(counts)):
            return f"{missing} of {len(orders)} allowed orders never come"
        excess = sum((counts[order] - times) ** 2 / times for order in orders)
        if excess > len(orders) - 1 + 5 * (2 * len(orders) - 2) ** 0.5:
            return "some allowed orders come more often than others"
    if not refused(answer, torch.tensor([0, 0, 0, 1, 2]), torch.Generator().manual_seed(0)):
        return ("three of five words of one kind cannot all get pictures of other kinds: a ValueError would "
                "say so, yours returns an order")
    half = drawn(torch.tensor([0, 1, 0, 1]), 2, 40)
    return None if len(set(half)) == 4 else "half of the words of one kind is possible: there are 4 orders"


# -------------------------------------------------------------------------------------- 18: words drawn anew


def correlated(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Pearson's correlation of rows that weigh so much."""
    w = w / w.sum()
    x, y = x - (w * x).sum(), y - (w * y).sum()
    return (w * x * y).sum() / ((w * x * x).sum() * (w * y * y).sum()).sqrt()


@check("a word that is drawn twice brings its pairs along, and ranks are those of the drawn list")
def words_drawn_anew(answer: Callable[..., Any]) -> str | None:
    """Compares correlations with Spearman's of lists in which pairs are repeated."""
    cases: list[Case] = []
    for words, n in ((8, 16), (6, 12)):
        pairs = torch.combinations(torch.arange(words))
        pairs = pairs[torch.randperm(len(pairs))[:n]]
        b = torch.randint(0, 6, (len(pairs),)).double()                         # with ties
        a = (b + 2 * torch.randn(len(pairs), dtype=torch.float64)).round()
        drawn = torch.randint(words, (6, words))
        counts = torch.stack([torch.ones(words, dtype=torch.int64),
                              *(row.bincount(minlength=words) for row in drawn)])
        got = as_tensor(answer(a, b, pairs, counts), (len(counts),), "the correlations")
        first, second = counts[:, pairs[:, 0]], counts[:, pairs[:, 1]]
        one, plain = torch.ones(len(a), dtype=torch.float64), (ranks(a), ranks(b))

        def repeated(weights: Tensor, rank: Callable[[Tensor], Tensor] = ranks,
                     a: Any = a, b: Any = b) -> Tensor:
            rows = [torch.arange(len(a)).repeat_interleave(w) for w in weights]
            return torch.stack([correlated(rank(a[r]), rank(b[r]), torch.ones(len(r), dtype=a.dtype))
                                for r in rows])

        def by_order(x: Tensor) -> Tensor:
            return x.argsort(stable=True).argsort().double()

        def weighed(x: Tensor, w: Tensor) -> Tensor:
            return torch.stack([w[x < v].sum() + (w[x == v].sum() + 1) / 2 for v in x])

        w = first * second
        cases.append((got, repeated(w), {
            "the counts of a pair's two words are multiplied, not added": repeated(first + second),
            "a pair is there or not in yours; a word drawn twice counts twice": repeated((w > 0).long()),
            "the smaller count of both is taken; a pair comes with each of the one and each of the other":
                repeated(torch.minimum(first, second)),
            "the ranks are those of the whole list; others were drawn, and more of some":
                torch.stack([correlated(*plain, row.double()) for row in w]),
            "equal values share a rank; yours are ranked by where they stand": repeated(w, by_order),
            "these are correlations of the values; Spearman's takes their ranks":
                repeated(w, lambda x: x),
            "the ranks know how often pairs count, the correlation does not": torch.stack(
                [correlated(weighed(a, row.double()), weighed(b, row.double()), one) for row in w]),
            "every sample has the correlation of the list as it is": repeated(torch.ones_like(w)),
        }))
    return diagnose(cases, "the correlations should be {want}, yours are {got}")


# ------------------------------------------------------------------------------------------- 19, 20: studies

READERS = ("skip-gram + ridge", "A", "B", "B with exchanged pictures")
TWIN_ARMS = ("all alike", "text", "text and pictures", "text and exchanged pictures")
PLACE = (len(NOUNS) + 1) / 2            # of a picture that is found by chance


def stated(verdicts: Any, wanted: Mapping[Any, str], what: str) -> Mapping[Any, str]:
    """Verdicts of the book's three kinds for everything that is wanted, or a hint."""
    if not isinstance(verdicts, dict) or set(verdicts) != set(wanted):
        raise Hint(f"{what} is a dictionary with a verdict for each of {list(wanted)}")
    for verdict in verdicts.values():
        if verdict not in ("better", "worse", "cannot tell"):
            raise Hint(f"{verdict!r} is no verdict; `paired` says better, worse or cannot tell")
    return verdicts


@check("what a picture is worth depends on how much was read, and the seeds say where it is known")
def worth_of_a_picture(study: Callable[..., Any], measure: Callable[..., Any]) -> str | None:
    """Records what was measured and compares table and verdicts with it."""
    record: dict[str, dict[tuple[Any, int], float]] = {arm: {} for arm in READERS}

    def recorded(arm: str, sentences: int, seed: int) -> float:
        if arm not in record:
            raise Hint(f"there is no arm {arm!r}; take {READERS}")
        record[arm][sentences, seed] = float(measure(arm, sentences, seed))
        return record[arm][sentences, seed]

    table, verdicts = as_several(study(recorded), ("the table", "the verdicts"))
    if not isinstance(table, dict) or not all(isinstance(rows, dict) for rows in table.values()):
        raise Hint("return the table as {arm: {sentences: [a mean place for each seed]}}")
    if READERS[-1] not in table:
        raise Hint("the control is missing: without pictures of wrong words nobody knows what finding by "
                   "chance looks like")
    if missing := [arm for arm in READERS if arm not in table]:
        raise Hint(f"the table has no row for {missing[0]}")
    for arm in READERS:
        measured_table(table[arm], record[arm], "sentences", ("mean place", "mean places"))
    budgets = sorted(table[READERS[0]])
    if any(sorted(table[arm]) != budgets for arm in READERS):
        raise Hint("the arms have read different numbers of sentences; compare like with like")
    if len(budgets) < 4 or max(budgets) < 3 * min(budgets):
        raise Hint(f"{budgets} sentences: take four numbers or more, the largest three times the smallest")
    for count in budgets:
        seeds = [{seed for n, seed in record[arm] if n == count} for arm in READERS]
        if any(other != seeds[0] for other in seeds):
            raise Hint(f"the arms with {count} sentences have different seeds: a seed is a text, and all "
                       "arms have to read the same")
    places = {(arm, n): [record[arm][n, seed] for seed in sorted(s for m, s in record[arm] if m == n)]
              for arm in READERS for n in budgets}
    control = places[READERS[-1], max(budgets)]
    if paired(control, [PLACE] * len(control), lower_is_better=True).verdict == "better":
        return f"the control finds pictures better than chance ({PLACE:g}): what has it seen?"
    wanted = {(arm, n): paired(places[arm, n], places[READERS[0], n], lower_is_better=True).verdict
              for arm in ("A", "B") for n in budgets}
    said = stated(verdicts, wanted, "the second thing, with keys (arm, sentences),")
    turned = {"better": "worse", "worse": "better", "cannot tell": "cannot tell"}
    wrong = [key for key in wanted if said[key] != wanted[key]]
    if not wrong:
        return None
    if all(said[key] == turned[wanted[key]] for key in wanted):
        return "the sign: the first place is the best, and a smaller number is better"

    def mean(arm: str, n: int) -> float:
        return sum(places[arm, n]) / len(places[arm, n])

    by_means = {(arm, n): "better" if mean(arm, n) < mean(READERS[0], n) else "worse" for arm, n in wanted}
    if said == by_means:
        return "your verdicts follow the means; where the seeds disagree `paired` cannot tell"
    arm, n = wrong[0]
    return (f"of {arm} after {n} sentences `paired` says {wanted[arm, n]!r} by your own table, you say "
            f"{said[arm, n]!r}")


@check("text alone cannot tell twins apart, right pictures can, and wrong ones cannot")
def twins_told_apart(study: Callable[..., Any], vectors: Callable[..., Any]) -> str | None:
    """Records which vectors were asked for, answers the questions with them, and compares."""
    record: dict[str, dict[int, Any]] = {arm: {} for arm in TWIN_ARMS}

    def recorded(arm: str, seed: int) -> Any:
        if arm not in record:
            raise Hint(f"there is no arm {arm!r}; take {TWIN_ARMS}")
        record[arm][seed] = vectors(arm, seed)
        return record[arm][seed]

    questions = twin_questions()
    table, verdicts = as_several(study(recorded, questions), ("the table", "the verdicts"))
    if not isinstance(table, dict) or not all(isinstance(row, list | tuple) for row in table.values()):
        raise Hint("return the table as {arm: [an accuracy for each seed]}")
    if TWIN_ARMS[0] not in table:
        raise Hint("the arm that finds all words alike is missing: it shows whether ties are judged fairly")
    if TWIN_ARMS[-1] not in table:
        raise Hint("the control is missing: pictures may help in other ways than by being the right ones")
    if missing := [arm for arm in TWIN_ARMS if arm not in table]:
        raise Hint(f"the table has no row for {missing[0]}")
    if any(set(record[arm]) != set(record[TWIN_ARMS[0]]) for arm in TWIN_ARMS):
        raise Hint("the arms have different seeds: compare like with like")
    if len(record[TWIN_ARMS[0]]) < 5 or min(map(len, table.values())) < 5:
        raise Hint("fewer than five seeds somewhere: accuracies of 13 pairs of twins spread widely")
    cases: list[Case] = []
    for arm in TWIN_ARMS:
        if len(table[arm]) != len(record[arm]):
            raise Hint(f"{arm}: {len(record[arm])} seeds were asked for, and {len(table[arm])} are reported")
        right, rows = [], []
        for seed in sorted(record[arm]):
            words = record[arm][seed]
            right.append(twin_accuracy(words, questions)["mean"])
            asked = [q.word for q in questions]
            like = words.pair_cosines(asked, [q.like for q in questions])
            unlike = words.pair_cosines(asked, [q.unlike for q in questions])
            products = [words[q.word] @ (words[q.like] - words[q.unlike]) for q in questions]
            rows.append((like, unlike, torch.stack(products)))
        got = list(map(float, table[arm]))
        cases.append((right if same(sorted(got), sorted(right)) else got, right, {
            "a tie is half a right answer; you count it as a right one":
                [float((a >= b).double().mean()) for a, b, _ in rows],
            "a tie is half a right answer; you count it as a wrong one":
                [float((a > b).double().mean()) for a, b, _ in rows],
            "the wrong way round: `like` is the answer": [1 - value for value in right],
            "inner products favour long vectors; compare by cosine":
                [float((d.sign().double().mean() + 1) / 2) for _, _, d in rows],
            "these are means over seeds; report each seed": [sum(right) / len(right)] * len(right),
            "this is the best seed of the arm each time": [max(right)] * len(right),
        }))
    if wrong := diagnose(cases, "accuracies should be {want}, yours are {got}"):
        return wrong
    half = [0.5] * len(cases[0][1])
    values = {arm: case[1] for arm, case in zip(TWIN_ARMS, cases)}
    wanted = {arm: paired(row, half) for arm, row in values.items()}
    if not isinstance(verdicts, dict) or not all(isinstance(verdicts.get(arm), Paired) for arm in TWIN_ARMS):
        raise Hint("the second thing is a dictionary with what `paired` has returned for each arm")
    for arm, verdict in wanted.items():
        if str(verdicts[arm]) != str(verdict):
            if same(verdicts[arm].mean, paired(values[arm], values["text"]).mean):
                return "these verdicts are beside text alone; chance, one half, is what to compare with"
            return f"of {arm} `paired` says: {verdict} beside chance, and yours is: {verdicts[arm]}"
    if wanted["text"].verdict != "cannot tell":
        return ("by construction text cannot tell twins apart; with these seeds it seems to, which is luck "
                "or a leak: measure more of them")
    if paired(values["text and pictures"], values[TWIN_ARMS[-1]]).verdict != "better":
        return "right pictures are not ahead of exchanged ones: are the vectors those that were asked for?"
    return None
