"""The checks of chapter 2's exercises about StackGAN, AttnGAN and DF-GAN. Reading on shows answers: try the
exercise first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import Case, as_number, as_several, as_tensor, check, diagnose

# --------------------------------------------------------------------------- 6: the conditions of StackGAN


@check("nothing for equal captions, the section's formula where the second is a standard normal")
def how_far_apart(answer: Callable[..., Any]) -> str | None:
    """Compares divergences of random diagonal Gaussians, and of some with standard normal ones."""
    cases = []
    for standard in (False, False, True):
        mu1, lv1, mu2, lv2 = (torch.randn(3, 5, dtype=torch.float64) for _ in range(4))
        if standard:
            mu2, lv2 = torch.zeros_like(mu2), torch.zeros_like(lv2)
        got = as_tensor(answer(mu1, lv1, mu2, lv2), (3,), "the divergence")

        def terms(mu1: Tensor = mu1, lv1: Tensor = lv1, mu2: Tensor = mu2, lv2: Tensor = lv2) -> Tensor:
            return ((mu1 - mu2) ** 2 / lv2.exp() + (lv1 - lv2).exp() - (lv1 - lv2) - 1) / 2

        want = terms().sum(1)
        cases.append((got, want, {
            "the other way round: this is KL of the second caption from the first":
                terms(mu2, lv2, mu1, lv1).sum(1),
            "the mean over the dimensions, as the released codes have it; the divergence is their sum":
                terms().mean(1),
            "the factor 1/2 is missing": 2 * want,
            "the -1 of every dimension is missing, so that a caption is not 0 from itself": want + 2.5,
            "the logarithm is that of the variance, not of the standard deviation":
                terms(mu1, 2 * lv1, mu2, 2 * lv2).sum(1),
            "the distance of the means is not measured in widths of the second caption":
                (((mu1 - mu2) ** 2 + (lv1 - lv2).exp() - (lv1 - lv2) - 1) / 2).sum(1),
            "the second caption is taken for a standard normal": terms(mu1, lv1, 0 * mu2, 0 * lv2).sum(1),
            "the logarithms have the wrong sign": (terms() + (lv1 - lv2)).sum(1),
            "this is symmetric, the mean of both directions":
                (terms() + terms(mu2, lv2, mu1, lv1)).sum(1) / 2,
        }))
    return diagnose(cases, "one of the divergences should be {want}, yours is {got}")


# ------------------------------------------------------------------------------------ 7, 8: words and regions


@check("every place has the mask of its own caption, and you know what the released order gets wrong")
def whose_mask(answer: Callable[..., Any]) -> str | None:
    """Compares masks of rows and shares of wrong rows, for captions of different and of equal lengths."""
    masks, shares = [], []
    for lengths, places in (([5, 4, 3, 2], 3), ([3, 3, 1], 2), ([1, 4, 4, 2], 6), ([2, 5], 4)):
        b = len(lengths)
        mask = torch.arange(5) < torch.tensor(lengths)[:, None]
        rows, share = as_several(answer(mask, places), ("the mask of the rows", "the share"))
        rows = as_tensor(rows, (b * places, 5), "the mask of the rows", torch.bool)
        share = as_number(share, "the share")
        want = torch.stack([mask[row // places] for row in range(b * places)])
        tiled = torch.stack([mask[row % b] for row in range(b * places)])
        differ = want != tiled
        other = sum(row % b != row // places for row in range(b * places)) / (b * places)
        masks.append((rows, want, {
            "this is the released order: row r has the mask of caption r mod b": tiled,
            "exactly inverted: True means 'may be attended to'": ~want,
            "this is the released order, and inverted": ~tiled,
            "every place reads everything: padding is no word": torch.ones_like(want),
        }))
        wrong = float(differ.any(1).double().mean())
        shares.append((share, wrong, {
            "this is the share of entries; a row is wrong as soon as one entry is":
                float(differ.double().mean()),
            "this is the share of rows that are right": 1 - wrong,
            "rows with the mask of another caption are harmless where both captions are equally long": other,
            "this is the number of rows; a share divides by all of them": wrong * b * places,
            "this is per cent": 100 * wrong,
        }))
    return (diagnose(masks, "the rows are those of caption 0 first, then those of caption 1, and so on")
            or diagnose(shares, "the mask is right; the share of wrong rows should be {want}, you say {got}"))


@check("from the mean to the best word, and long captions win nothing")
def pay_for_length(answer: Callable[..., Any]) -> str | None:
    """Compares scores from gamma = 0 to a gamma whose exponentials overflow."""
    cases = []
    mask = torch.arange(6) < torch.tensor([6, 2, 4, 1])[:, None]
    n = mask.sum(1)
    for gamma in (0.5, 5.0, 20.0):
        cosine = 2 * torch.rand(3, 4, 6, dtype=torch.float64) - 1
        got = as_tensor(answer(cosine, mask, gamma), (3, 4), "the scores")
        there = (gamma * cosine).masked_fill(~mask, -math.inf)
        sums, silent = there.logsumexp(2), (gamma * cosine * mask).logsumexp(2)
        cases.append((got, (sums - n.log()) / gamma, {
            "this is DAMSM's score: t equal words get log(t) / gamma more than one": sums / gamma,
            "this is the released score, without the factor 1 / gamma": sums,
            "the length is taken away, the factor 1 / gamma is missing": sums - n.log(),
            "divided by the length of the row; padding is no word": (sums - math.log(6)) / gamma,
            "padding is a word with cosine 0 here, though its mean has the right length":
                (silent - n.log()) / gamma,
            "padding is a word with cosine 0 here": (silent - math.log(6)) / gamma,
            "the length is taken away as log t; it was added as log(t) / gamma": sums / gamma - n.log(),
            "the logarithm is divided by the length, not the sum inside it": sums / gamma / n,
            "this is the best word for every gamma": cosine.masked_fill(~mask, -math.inf).amax(2),
            "this is the mean for every gamma": (cosine * mask).sum(2) / n,
        }))
    wrong = diagnose(cases, "the scores should be {want}, yours are {got}")
    if wrong:
        return wrong
    cosine = 2 * torch.rand(2, 4, 6, dtype=torch.float64) - 1
    sharp = as_tensor(answer(cosine, mask, 1e5), (2, 4))
    if not bool(sharp.isfinite().all()):
        return "at gamma = 100 000 the exponential overflows: take the logarithm of the sum in one function"
    flat = as_tensor(answer(cosine, mask, 0.0), (2, 4))
    limits: list[Case] = [(sharp, cosine.masked_fill(~mask, -math.inf).amax(2) - n.log() / 1e5, {}),
                          (flat, (cosine * mask).sum(2) / n, {})]
    if bool(flat.isnan().any() | flat.isinf().any()):
        return "at gamma = 0 you divide by 0; what does the score tend to there?"
    return diagnose(limits, "at the ends of the scale a score should be {want}, yours is {got}")


# --------------------------------------------------------------------------------------------- 9-11: DF-GAN


@check("without the bend between them any number of affine maps is one")
def one_map(answer: Callable[..., Any]) -> str | None:
    """Compares scale and shift of stacks of one to four maps."""
    scales, shifts = [], []
    for k in (3, 1, 2, 4):
        gammas, thetas = (torch.randn(2, k, 5, dtype=torch.float64) for _ in range(2))
        gamma, theta = as_several(answer(gammas, thetas), ("the scale (b, c)", "the shift (b, c)"))
        gamma, theta = as_tensor(gamma, (2, 5), "the scale"), as_tensor(theta, (2, 5), "the shift")

        def applied(x: Tensor, backwards: bool = False, g: Tensor = gammas, t: Tensor = thetas) -> Tensor:
            for i in reversed(range(g.shape[1])) if backwards else range(g.shape[1]):
                x = g[:, i] * x + t[:, i]
            return x

        own = torch.zeros(2, 5, dtype=torch.float64)
        for i in range(k):
            own = gammas[:, i] * (own + thetas[:, i])
        zero = torch.zeros_like(own)
        scales.append((gamma, gammas.prod(1), {
            "scales are added; one after the other they multiply": gammas.sum(1),
            "these are means; one after the other scales multiply": gammas.mean(1),
            "this is the scale of the last map alone": gammas[:, -1],
            "the shifts are multiplied where the scales should be": thetas.prod(1),
        }))
        shifts.append((theta, applied(zero), {
            "the shifts are added as they are; a later scale stretches an earlier shift": thetas.sum(1),
            "the last map acts first here": applied(zero, backwards=True),
            "a map scales first and shifts then: its own scale does not touch its shift": own,
            "every shift is stretched by all scales, those before it too": gammas.prod(1) * thetas.sum(1),
            "this is what comes out for x = 1; the shift is what comes out for x = 0":
                applied(torch.ones_like(own)),
            "this is the shift of the last map alone": thetas[:, -1],
            "the shifts multiply as the scales do; they do not": thetas.prod(1),
        }))
    return (diagnose(scales, "the scale should be {want}, yours is {got}")
            or diagnose(shifts, "the scale is right; the shift should be {want}, yours is {got}"))


@check("a discriminator under the hinge says who is ahead, and its floor is twice what both share")
def hinge_among_three(answer: Callable[..., Any]) -> str | None:
    """Compares scores and floors, at places where nobody is ahead too."""
    scores, floors = [], []
    for tie in (False, False, True):
        p_r, p_w, p_g = (torch.randn(6, dtype=torch.float64).softmax(0) for _ in range(3))
        if tie:
            p_w, p_g = torch.cat([p_r[:3], p_r[3:].roll(1)]), p_r
        a, floor = as_several(answer(p_r, p_w, p_g), ("the score (n,)", "the floor"))
        a, floor = as_tensor(a, (6,), "the score").double().clone(), as_number(floor, "the floor")
        m = (p_w + p_g) / 2
        want, even = (p_r - m).sign(), (p_r - m).abs() < 1e-9

        def settled(a: Tensor, even: Tensor = even) -> Tensor:
            """Where nobody is ahead all scores from -1 to 1 are as good as 0."""
            return torch.where(even & (a.abs() <= 1), 0.0, a)

        scores.append((settled(a), settled(want), {hint: settled(wrong) for hint, wrong in {
            "this says by how much one side is ahead; a hinge is best at one of its two bends": p_r - m,
            "this is the best logit of the logarithms; a hinge knows only who is ahead": (p_r / m).log(),
            "refused are pairs of two kinds with weight 1/2 each, you give each the weight 1":
                (p_r - p_w - p_g).sign(),
            "the wrong pairs are forgotten: real against generated alone": (p_r - p_g).sign(),
            "the wrong side is ahead: the score is high where right pairs are": -want,
            "between refused and real lies the score 0; the hinge bends at -1 and 1": (p_r > m).double(),
            "this is the probability of a right pair, the best discriminator of the logarithms":
                p_r / (p_r + m),
        }.items()}))
        least = float(2 * torch.minimum(p_r, m).sum())
        floors.append((floor, least, {
            "this is the floor without wrong pairs": float(2 * torch.minimum(p_r, p_g).sum()),
            "each side loses its own part: where the score is on the other's side the hinge costs 2":
                least / 2,
            "this is the total variation of right and refused; the floor falls as it grows": 1 - least / 2,
            "2 - TV: the variation counts twice": 2 - (1 - least / 2),
            "the refused of both kinds have weight 1 together, not each":
                float((p_r * 2 * (p_r < m) + (p_w + p_g) * 2 * (p_r > m)).sum()),
            "this is a mean over the places; probabilities are summed": least / 6,
        }))
    return (diagnose(scores, "the scores should be {want}, yours are {got}")
            or diagnose(floors, "the scores are right; the floor should be {want}, you say {got}"))


class Slope:
    """A discriminator of pictures (n, 3, 2, 2) and texts (n, 4) with one weight, which is multiplied at the
    end."""

    def __init__(self, weight: float) -> None:
        self.A = torch.randn(12, 4, dtype=torch.float64) / 4
        self.weight = torch.tensor(weight, dtype=torch.float64, requires_grad=True)

    def __call__(self, images: Tensor, text: Tensor) -> Tensor:
        return self.weight * ((images.flatten(1) @ self.A).tanh() * text).sum(1)

    def norms(self, images: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """The norms of the gradients in each picture and in each text."""
        seen = (images.flatten(1) @ self.A).tanh()
        by_image = self.weight * ((1 - seen**2) * text) @ self.A.T
        return by_image.norm(dim=1).detach(), (self.weight * seen).norm(dim=1).detach()


@check("flat where picture and text match, free everywhere else, and the discriminator can learn from it")
def penalty_at_matches(answer: Callable[..., Any]) -> str | None:
    """Compares penalties, and the gradient that reaches the discriminator."""
    cases = []
    for weight, k, p in ((1.0, 2.0, 6.0), (0.7, 2.0, 6.0), (1.3, 3.0, 4.0)):
        score = Slope(weight)
        images, text = torch.randn(6, 3, 2, 2, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
        matching = torch.tensor([True, False, True, True, False, True])
        got = answer(score, images, text, matching, k, p)
        value = as_number(got.detach() if isinstance(got, Tensor) else got, "the penalty")
        if not isinstance(got, Tensor):
            return "the penalty is a plain number; the discriminator learns from a tensor with a gradient"
        x, e = score.norms(images, text)
        joint, m = (x**2 + e**2).sqrt(), matching
        cases.append((value, k * (joint[m] ** p).mean(), {hint: wrong for hint, wrong in {
            "pairs that do not match are flattened too: there the slope is wanted": k * (joint**p).mean(),
            "the mean is over the matching pairs; you divide by all": k * (joint[m] ** p).sum() / 6,
            "the sum over the pairs; the mean is asked for": k * (joint[m] ** p).sum(),
            "this is the paper's sum of the two norms; the joint norm is asked for": k * (
                (x + e)[m] ** p).mean(),
            "the power is missing": k * joint[m].mean(),
            "the power acts on the squared norm: twice too much": k * (joint[m] ** (2 * p)).mean(),
            "this is the square of the norm, whatever p is": k * (joint[m] ** 2).mean(),
            "the weight k is missing": (joint[m] ** p).mean(),
            "only the slope in the picture is punished": k * (x[m] ** p).mean(),
            "only the slope in the text is punished": k * (e[m] ** p).mean(),
            "each norm has its own power; they are joined before it": k * ((x**p + e**p)[m]).mean(),
            "the norm shall be 0 at these points, not 1: this is no WGAN": k * ((joint[m] - 1) ** p).mean(),
            "the norm is taken over the whole batch, not for each pair": k * (joint[m] ** 2).sum() ** (p / 2),
            "the power acts on the mean of the norms, not on each": k * joint[m].mean() ** p,
        }.items()}))
        if not got.requires_grad or not reaches(got, score):
            return ("the value may be right, but the discriminator cannot learn from it: a gradient of which "
                    "a gradient shall be taken needs create_graph=True")
    wrong = diagnose(cases, "one of the penalties should be {want}, yours is {got}")
    flat = Slope(0.0)
    got = answer(flat, torch.randn(2, 3, 2, 2, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64),
                 torch.ones(2, dtype=torch.bool), 2.0, 6.0)
    if not wrong and not bool(torch.autograd.grad(got, flat.weight)[0].isfinite()):
        return ("where the slope is 0 the discriminator's gradient is not a number: a square root has no "
                "slope at 0, so raise the square to p / 2 instead")
    return wrong


def reaches(penalty: Tensor, score: Slope) -> bool:
    """Whether the penalty's gradient reaches the discriminator's weight."""
    found = torch.autograd.grad(penalty, score.weight, allow_unused=True, retain_graph=True)[0]
    return found is not None and bool(found.abs() > 0)
