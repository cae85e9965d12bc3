"""The checks of chapter 4's exercises about what an encoder reads off.

Reading on shows answers: try the exercise first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import Case, as_tensor, check, diagnose

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
