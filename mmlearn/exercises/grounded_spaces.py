"""The checks of chapter 3's exercises about words and pictures in one space: the weight of a modality, words
without pictures, and the pull of pictures. Reading on shows answers: try the exercise first.

Every check compares with the formula written out by hand, with a loop over words or with automatic
differentiation, and with what the usual mistakes of its task would give.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlearn.exercises import Answer, Case, Hint, as_number, as_tensor, check, diagnose, same
from mmlearn.images_for_language.multimodal_skip_gram import vision_gradient

JUST_UNDER = 1 - 1e-9


def refuses(answer: Answer, *arguments: Any) -> bool:
    """Whether the student's function raises a ValueError for these arguments."""
    try:
        answer.run(*arguments)
    except Hint as hint:
        return isinstance(hint.__cause__, ValueError)
    return False


# ------------------------------------------------------------------------------- 6: the weight of a modality


@check("the cosine of the joined vectors is the mixture that was wanted, whatever lengths the blocks have")
def how_much_text(answer: Callable[..., Any]) -> str | None:
    """Compares weights for blocks of unit length, then of others, then for one modality alone."""
    unit: list[Case] = []
    for beta in (0.5, 0.2, 0.9, 0.64):
        got = as_number(answer(beta, 1.0, 1.0), "the weight")
        a, b = math.sqrt(beta), math.sqrt(1 - beta)
        unit.append((got, a / (a + b), {
            "weights are squared in a cosine: alpha is not the share beta": beta,
            "this is the root of beta alone; the other block weighs 1 - alpha, not the root of 1 - beta": a,
            "the inverse direction: this is the share that a weight of beta would give":
                beta**2 / (beta**2 + (1 - beta) ** 2),
            "text and pictures have changed places: alpha is the text's weight": b / (a + b),
            "this is the ratio of alpha to 1 - alpha": a / b,
        }))
    wrong = diagnose(unit, "for blocks of unit length one weight should be {want}, you say {got}")
    if wrong:
        return wrong
    scaled: list[Case] = []
    for beta, t, v in ((0.5, 1.0, 10.0), (0.8, 3.0, 0.5), (0.3, 2.0, 2.0)):
        got = as_number(answer(beta, t, v), "the weight")
        a, b = math.sqrt(beta), math.sqrt(1 - beta)
        scaled.append((got, a * v / (a * v + b * t), {
            "right for blocks of unit length; a block that is longer weighs more, and needs less weight":
                a / (a + b),
            "the lengths have changed places: the longer block needs the smaller weight":
                a * t / (a * t + b * v),
            "the lengths are squared once too often: the root was taken already":
                a * v**2 / (a * v**2 + b * t**2),
            "the root of the lengths is taken, too; they are no shares":
                a * v**0.5 / (a * v**0.5 + b * t**0.5),
        }))
    wrong = diagnose(scaled, "with other lengths one weight should be {want}, you say {got}")
    if wrong:
        return wrong
    ends = [as_number(answer(beta, 2.0, 3.0), "the weight") for beta in (0.0, 1.0)]
    return None if same(ends, [0.0, 1.0]) else (
        f"for beta 0 and 1 the weight is 0 and 1: pictures alone, text alone; you say {ends}")


# --------------------------------------------------------------------------- 7: a word without pictures


@check("what the text columns alone decide, and for a known word its own pictures")
def without_pictures(answer: Answer) -> str | None:
    """Compares picture blocks of new words, of known ones, and asks for a text that does not decide."""
    cases: list[Case] = []
    for words, k, j, m in ((12, 3, 6, 5), (9, 2, 4, 7), (15, 4, 5, 6)):
        table = torch.randn(words, j + m, dtype=torch.float64)
        _, S, Vh = torch.linalg.svd(table, full_matrices=False)
        S, Vh = S[:k], Vh[:k]
        coordinates = torch.randn(4, k, dtype=torch.float64) * S
        noise = 0.3 * torch.randn(4, j, dtype=torch.float64)
        text = coordinates @ Vh[:, :j] + noise * (words != 12)          # the first table has exact rows
        got = answer(text, Vh, S)
        if isinstance(got, Tensor) and got.shape == (4, k):
            return "these are the word's coordinates; asked is its picture block, so many numbers as columns"
        if isinstance(got, Tensor) and got.shape == (4, j + m):
            return "this is the whole row, text and pictures; asked is the picture block alone"
        V_t, V_v = Vh[:, :j], Vh[:, j:]
        fitted = text @ torch.linalg.pinv(V_t)
        cases.append((as_tensor(got, (4, m), "the picture block"), fitted @ V_v, {
            "the text part of orthonormal rows is not orthonormal: taken for coordinates, text times V_t "
            "transposed treats the pictures as if they were zeros, and zeros are a claim":
                text @ V_t.mT @ V_v,
            "the singular values come in twice: what the fit finds has them already": fitted * S @ V_v,
            "divided by the singular values: the coordinates have to be those of the row, not of U":
                fitted / S @ V_v,
        }))
    wrong = diagnose(cases, "one picture block should be {want}, yours is {got}")
    if wrong:
        return wrong
    Vh = torch.linalg.svd(torch.randn(12, 9, dtype=torch.float64), full_matrices=False).Vh[:5]
    # 5 coordinates, 3 columns of text
    return None if refuses(answer, torch.randn(2, 3, dtype=torch.float64), Vh, torch.ones(5).double()) else (
        "three numbers of text do not decide five coordinates: for k > j raise a ValueError")


# ------------------------------------------------------------------------- 8 to 10: the pull of pictures


def pulled(b: int, f: int, k: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Words (b, f) of different lengths, their pictures (b, f), and others (b, k, f)."""
    z = scale * torch.randn(b, f, dtype=torch.float64) * (0.3 + 3 * torch.rand(b, 1))
    return z, torch.randn(b, f, dtype=torch.float64), torch.randn(b, k, f, dtype=torch.float64)


@check("turned as far as asked, towards its pictures, and not a hair longer")
def along_the_circle(answer: Callable[..., Any]) -> str | None:
    """Compares steps for small and large learning rates, then lengths, then words that are not pulled."""
    cases: list[Case] = []
    for lr in (0.4, 1e-4, 3.0):
        z, own, others = pulled(5, 4, 3)
        gradient = vision_gradient(z, own, others, 3.0)                 # no margin is kept: all are pulled
        got = as_tensor(answer(z, gradient, lr), (5, 4), "the words")
        length, pull = z.norm(dim=1, keepdim=True), gradient.norm(dim=1, keepdim=True)
        z_hat, g_hat = z / length, gradient / pull
        angle = lr * pull / length

        def turned(angle: Tensor, z_hat: Tensor = z_hat, g_hat: Tensor = g_hat) -> Tensor:
            return angle.cos() * z_hat + angle.sin() * g_hat

        straight = z + lr * gradient
        cases.append((got, length * turned(angle), {
            "the words come out with length 1: the length is the text's business, keep it": turned(angle),
            "the angle is not divided by the length of z: a longer word turns less":
                length * turned(lr * pull),
            "this is the straight step, which lengthens": straight,
            "the straight step, cut to the old length, turns by the arctangent of what is asked":
                length * straight / straight.norm(dim=1, keepdim=True),
            "against the gradient: L_vision is made large": length * turned(-angle),
            "sine and cosine have changed places: at angle 0 nothing moves":
                length * (angle.sin() * z_hat + angle.cos() * g_hat),
            "the direction of the gradient needs length 1 before the sine takes it":
                length * angle.cos() * z_hat + angle.sin() * gradient,
            "both directions need the length of z: the second comes in with length 1":
                length * angle.cos() * z_hat + angle.sin() * g_hat,
        }))
    wrong = diagnose(cases, "the words should lie at {want}, yours at {got}")
    if wrong:
        return wrong
    off = float((got.norm(dim=1) - z.norm(dim=1)).abs().max())
    if off > 1e-9:
        return f"the lengths change by {off:.1g}; in double precision they should stay to 1e-9"
    gradient[2] = 0
    still = as_tensor(answer(z, gradient, 0.1), (5, 4), "the words")
    if bool(still.isnan().any()):
        return "where all margins are kept the gradient is 0 and your direction 0 / 0: z stays"
    return None if same(still[2], z[2]) else "where the gradient is 0 the word should stay where it is"


def allowed_rows(pictures: Tensor, own: int, tau: float) -> list[int]:
    """The rows of the pictures that are fair wrong answers for a word: others, and not too alike."""
    unit = pictures / pictures.norm(dim=1, keepdim=True)
    return [row for row in range(len(pictures)) if row != own and float(unit[row] @ unit[own]) <= tau]


def drawn_from(lists: list[list[int]], u: Tensor,
               choose: Callable[[float, int], int] = lambda x, n: int(x * n)) -> Tensor:
    """For each token the row that each of its numbers chooses."""
    return torch.tensor([[rows[choose(x, len(rows))] for x in line] for rows, line in zip(lists, u.tolist())])


def look_alikes(answer: Answer, p: int, tau: float) -> Case:
    """What comes out for p pictures and a limit below 1, what should, and what mistakes would give."""
    pictures = torch.randn(p, 3, dtype=torch.float64) * (0.2 + 4 * torch.rand(p, 1))
    unit = pictures / pictures.norm(dim=1, keepdim=True)
    lists = [allowed_rows(pictures, row, tau) for row in range(p)]
    inner = [[r for r in range(p) if r != i and float(pictures[r] @ pictures[i]) <= tau] for i in range(p)]
    alike = [[r for r in range(p) if r != i and r not in rows] for i, rows in enumerate(lists)]
    fair = [i for i in range(p) if len(lists[i]) > 1 and inner[i] and alike[i]]
    own = torch.tensor([*fair, *fair[:3]])
    u = torch.rand(len(own), 40, dtype=torch.float64)
    u[:, 0], u[:, 1] = 0.0, JUST_UNDER
    got = as_tensor(answer(pictures, own, tau, u), tuple(u.shape), "the rows", torch.int64)

    def drawn(lists: list[list[int]],
              choose: Callable[[float, int], int] = lambda x, n: int(x * n)) -> Tensor:
        return drawn_from([lists[i] for i in own.tolist()], u, choose)

    unlike = (1 - unit @ unit.mT) * torch.tensor([[r in rows for r in range(p)] for rows in lists])
    share = (unlike / unlike.sum(1, keepdim=True)).cumsum(1)[own]
    return got, drawn(lists), {
        "compared by inner products; pictures have different lengths, and a cosine divides by them":
            drawn(inner),
        "the look-alikes are drawn: those above tau are to be left out": drawn(alike),
        "all other words are drawn from, the look-alikes, too":
            drawn([[r for r in range(p) if r != i] for i in range(p)]),
        "rounded, so that the first and the last get another share; cut [0, 1) in equal parts":
            drawn(lists, lambda x, n: min(round(x * n), n - 1)),
        "the last of the allowed is never drawn: n equal parts, not n - 1":
            drawn(lists, lambda x, n: int(x * (n - 1))),
        "rounded between 0 and n - 1: the first and the last are drawn half as often":
            drawn(lists, lambda x, n: round(x * (n - 1))),
        "the less alike the likelier; each of the allowed should be as likely as the others":
            torch.searchsorted(share, u, right=True).clamp(max=p - 1),
        "these are places in the list of the allowed; asked are rows of the pictures":
            drawn([list(range(len(rows))) for rows in lists]),
    }


@check("each fair wrong answer is as likely as the others, and no look-alike is among them")
def look_different(answer: Answer) -> str | None:
    """Compares rows for random numbers, 0 and nearly 1 among them, for several limits; then without a limit,
    and where nobody is left."""
    said = "the rows should be {want}, yours are {got}"
    wrong = diagnose([look_alikes(answer, 8, 0.3), look_alikes(answer, 9, 0.1)], said)
    if wrong:
        return wrong
    pictures, own = torch.randn(6, 3, dtype=torch.float64), torch.arange(6)
    u = torch.rand(6, 40, dtype=torch.float64)
    everyone = [list(range(6))] * 6
    wrong = diagnose([(as_tensor(answer(pictures, own, 2.0, u), (6, 40), "the rows", torch.int64),
                       drawn_from([allowed_rows(pictures, i, 2.0) for i in range(6)], u),
                       {"a word's own picture is among its wrong answers: for tau of 1 or more nothing else "
                        "keeps it out": drawn_from(everyone, u)})], "without a limit " + said)
    if wrong:
        return wrong
    twins = torch.tensor([[1.0, 0.0], [2.0, 0.1], [-1.0, 3.0]]).double()
    if not refuses(answer, twins[:2], torch.tensor([0, 1]), 0.5, torch.rand(2, 3).double()):
        return "two words that look alike have no fair wrong answer: raise a ValueError where none is left"
    got = as_tensor(answer(twins, torch.tensor([1]), 0.5, torch.rand(1, 4).double()), (1, 4), "the rows")
    return None if same(got, torch.full((1, 4), 2)) else "where one is left it is drawn every time"


def forgotten(z: Tensor, own: Tensor, others: Tensor, margin: float) -> Tensor:
    """The gradient of the program: lengths taken for constants."""
    z_hat, mine, theirs = (F.normalize(x, dim=-1) for x in (z, own, others))
    right, wrong = (z_hat * mine).sum(1, keepdim=True), (z_hat[:, None] * theirs).sum(2)
    active = (margin - right + wrong > 0).to(z)
    return (active[:, :, None] * (mine[:, None] - theirs)).sum(1) / z.norm(dim=1, keepdim=True)


def by_autograd(z: Tensor, own: Tensor, others: Tensor, margin: float) -> Tensor:
    """The gradient of L_vision, summed over the words, by automatic differentiation."""
    z = z.clone().requires_grad_()
    right, wrong = F.cosine_similarity(z, own), F.cosine_similarity(z[:, None], others, dim=2)
    gain = -(margin - right[:, None] + wrong).clamp(min=0).sum()
    return torch.autograd.grad(gain, z)[0]


@check("with it the program's gradient is that of automatic differentiation, at right angles to the word")
def what_it_forgot(answer: Callable[..., Any]) -> str | None:
    """Compares with the difference of automatic differentiation and the program, for several margins, lengths
    and numbers of others."""
    cases: list[Case] = []
    for k, margin, scale in ((3, 0.5, 1.0), (6, 1.0, 5.0), (1, 0.2, 0.3), (4, 0.0, 2.0)):
        z, own, others = pulled(6, 5, k, scale)
        got = as_tensor(answer(z, own, others, margin), (6, 5), "the term")
        program, whole = forgotten(z, own, others, margin), by_autograd(z, own, others, margin)
        length = z.norm(dim=1, keepdim=True)
        z_hat = z / length
        right, wrong = F.cosine_similarity(z, own)[:, None], F.cosine_similarity(z[:, None], others, dim=2)
        active = (margin - right + wrong > 0).double()

        def along(gap: Tensor, active: Tensor = active, z_hat: Tensor = z_hat) -> Tensor:
            return -(active * gap).sum(1, keepdim=True) * z_hat

        gap = right - wrong
        cases.append((got, whole - program, {
            "all others are in the sum; those whose margin is kept have no gradient":
                along(gap, torch.ones_like(active)) / length,
            "the length of z is missing below: once for its direction, once for the slope of a cosine":
                along(gap),
            "the sign: the term is to be added, and takes off what lies along z": -along(gap) / length,
            "divided by the length once too often: its direction has length 1 already":
                along(gap) / length**2,
            "the mean over the others; L_vision adds them up": along(gap) / length / k,
            "what is missing of the margin is no cosine: its gradient has the cosines alone":
                along(margin - gap) / length,
            "the own picture's part is missing: both cosines have a gradient": along(-wrong) / length,
            "the others' part is missing: both cosines have a gradient":
                along(right.expand_as(wrong)) / length,
            "this is the whole gradient; asked is what has to be added to the program's": whole,
        }))
    return diagnose(cases, "the term should be {want}, yours is {got}")
