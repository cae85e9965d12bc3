"""The checks of chapter 2's exercises about the game and its captions. Reading on shows answers: try the
exercise first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give. The exercises about StackGAN, AttnGAN and DF-GAN are checked in ``text2image_systems``, those about
metrics in ``text2image_metrics``.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlearn.exercises import as_number, as_several, as_tensor, check, diagnose, same


def table(n: int, *empty: int) -> Tensor:
    """Random probabilities of n places, some of which are never reached."""
    p = torch.rand(n, dtype=torch.float64) + 0.05
    p[list(empty)] = 0
    return p / p.sum()


def summed(weights: Tensor, values: Tensor) -> float:
    """The sum of weights times values, in which 0 times anything is 0."""
    return float((weights * values.masked_fill(weights == 0, 0)).sum())


# ------------------------------------------------------------------------------------------- 1, 2: the game


@check("the best discriminator weighs both sides by how often it meets them; what it gains is a divergence")
def outnumbered(answer: Callable[..., Any]) -> str | None:
    """Compares discriminators and gains on tables with places that one side or both never reach."""
    discriminators, gains = [], []
    for r in (0.25, 0.5, 0.8):
        p, q = table(7, 0, 3), table(7, 1, 3)
        D, gain = as_several(answer(p, q, r), ("the discriminator (n,)", "the gain"))
        D, gain = as_tensor(D, (7,), "the discriminator").clone(), as_number(gain, "the gain")
        if bool(D.isnan().any()):
            return "where nothing ever lies your discriminator is 0 / 0: any number from 0 to 1 will do there"
        if not 0 <= float(D[3]) <= 1:
            return (f"where nothing ever lies the discriminator may say what it likes from 0 to 1, but not "
                    f"{D[3]:.3g}")
        if math.isnan(gain):
            return "the gain is not a number: where an outcome never occurs, 0 log 0 counts as 0"
        real, fake = r * p, (1 - r) * q
        want = real / (real + fake)
        D[3] = want[3] = 0.0
        discriminators.append((D, want, {hint: wrong.index_fill(0, torch.tensor([3]), 0) for hint, wrong in {
            "this is the discriminator of batches that are half real; here a share r is": p / (p + q),
            "the shares are swapped: r is the share of real examples": (1 - r) * p / ((1 - r) * p + r * q),
            "this is the probability of a fake": fake / (real + fake),
            "the numerator is right, but what it is divided by leaves the shares out": real / (p + q),
            "these are odds, real to generated; a probability divides by both together": real / fake,
            "this is the logit; the discriminator is its sigmoid": (real / fake).log(),
        }.items()}))
        log_D, log_not = want.log(), (1 - want).log()
        value = summed(real, log_D) + summed(fake, log_not)
        blind = r * math.log(r) + (1 - r) * math.log(1 - r)
        gains.append((gain, value - blind, {
            "this is the value itself; the gain is over the discriminator that always says r": value,
            "log 2 is what the blind discriminator loses at r = 1/2 alone": value + math.log(2),
            "log 4 is what the blind discriminator loses where both sides count once": value + math.log(4),
            "both expectations have weight 1 here; a share r of the batch is real":
                summed(p, log_D) + summed(q, log_not) + math.log(4),
            "these are bits; nats are asked for": (value - blind) / math.log(2),
            "the sign is wrong: who looks does better than who does not": blind - value,
            "this is the gain at equal shares, JSD": float(
                (torch.xlogy(p, 2 * p) - torch.xlogy(p, p + q) + torch.xlogy(q, 2 * q)
                 - torch.xlogy(q, p + q)).sum() / 2),
        }))
    return (diagnose(discriminators, "one of the discriminators should be {want}, yours is {got}")
            or diagnose(gains, "the discriminator is right; one gain should be {want}, you say {got}"))


@check("a refused generator is hardly told where to go by the first, by the other two it is")
def three_refusals(answer: Callable[..., Any]) -> str | None:
    """Compares the gradients of three losses, for a discriminator that is unsure and for a very sure one."""
    cases = []
    for b in (0.3, -2.0, 1.5):
        z, theta, w = (torch.randn(*s, dtype=torch.float64) for s in ((5, 3), (3,), (3,)))
        three = as_several(answer(z, theta, w, b), ("the saturating", "the non-saturating",
                                                    "the hinge's gradient"))
        if all(isinstance(g, Tensor) and g.ndim == 0 for g in three):
            return "these are derivatives in the logit; the chain rule goes on, to the shift (d,)"
        got = [as_tensor(g, (3,), "a gradient") for g in three]
        a = (z + theta) @ w + b
        D = a.sigmoid()
        want = [-D.mean() * w, -(1 - D).mean() * w, -w]
        cases.append((got, want, {
            "all three point the wrong way: losses are minimised": [-g for g in want],
            "the first two have changed places: saturating is log(1 - D)": [want[1], want[0], want[2]],
            "sums over the examples; the losses are means": [5 * g for g in want],
            "the mean of the sigmoids is not the sigmoid of the mean logit":
                [-a.mean().sigmoid() * w, -(-a.mean()).sigmoid() * w, -w],
            "these are the derivatives in D; from D to the logit is one more step":
                [-(1 / (1 - D)).mean() * w, -(1 / D).mean() * w, -w],
            "this is how D itself moves; the losses take its logarithm":
                [-(D * (1 - D)).mean() * w, -(D * (1 - D)).mean() * w, -w],
            "the first two are right; the margin is the discriminator's alone, the generator's hinge is "
            "linear":
                [want[0], want[1], -(a < 1).double().mean() * w],
            "you forget the shift: the discriminator sees z + theta":
                [-(z @ w + b).sigmoid().mean() * w, -(-(z @ w + b)).sigmoid().mean() * w, -w],
        }))
    wrong = diagnose(cases, "the three gradients should be {want}, yours are {got}")
    if wrong:
        return wrong
    w = torch.ones(2, dtype=torch.float64)
    sure = as_several(answer(0 * w[None], 0 * w, w, -1000.0), ("one", "two", "three"))
    if not same(list(sure), [0 * w, -w, -w]):
        return ("for a discriminator with logit -1000 something is lost: the logarithm of a sigmoid that has "
                "been rounded to 0; derive by hand, or take logsigmoid")
    return None


# ------------------------------------------------------------------------------- 3-5: the captions of GAN-CLS


def discriminator() -> Callable[[Tensor, Tensor], Tensor]:
    """A discriminator of pictures (n, 4) and captions (n, 3) with random weights."""
    A = torch.randn(4, 3, dtype=torch.float64)
    return lambda images, text: ((images @ A) * text).sum(1) + 0.3 * images.sum(1)


@check("a real picture can be wrong, if a caption of another class stands beside it")
def three_pairs(answer: Callable[..., Any]) -> str | None:
    """Compares losses of batches in which some neighbours are of one class."""
    cases = []
    for classes in ([0, 1, 2, 0, 1, 0], [3, 3, 1, 2, 2], [0, 0, 0, 1], [1, 1, 1]):
        c, b, score = torch.tensor(classes), len(classes), discriminator()
        images, text, fakes = (torch.randn(b, d, dtype=torch.float64) for d in (4, 3, 4))
        got = as_number(answer(score, images, text, fakes, c), "the loss")
        if math.isnan(got):
            return "a batch whose neighbours are all of one class has no wrong pairs: their mean is 0 / 0"
        differ = c != c.roll(-1)
        real, fake = F.softplus(-score(images, text)).mean(), F.softplus(score(fakes, text)).mean()
        def wrong(logits: Tensor, which: Tensor = differ) -> Tensor:
            return F.softplus(logits[which]).sum() / max(1, int(which.sum()))

        apart = score(images.roll(-1, 0), text)
        every = torch.ones(b, dtype=torch.bool)
        cases.append((got, float(real + (wrong(apart) + fake) / 2), {hint: float(loss) for hint, loss in {
            "a picture of the same class is no wrong picture: its caption fits": real + (
                wrong(apart, every) + fake) / 2,
            "the mean is over the pairs that are wrong, you divide by all": real + (
                F.softplus(apart[differ]).sum() / b + fake) / 2,
            "each kind counts once here; the two kinds of refusals share the weight of one": (
                real + wrong(apart) + fake),
            "picture and caption are shifted together, so that they fit again": real + (
                wrong(score(images.roll(-1, 0), text.roll(-1, 0))) + fake) / 2,
            "the wrong pairs hold generated pictures; they are real ones with a wrong caption": real + (
                wrong(score(fakes.roll(-1, 0), text)) + fake) / 2,
            "wrong pairs are to be refused; you let them pass for real": real + (wrong(-apart) + fake) / 2,
            "caption i goes with the picture of row i + 1; you take row i - 1": real + (
                wrong(score(images.roll(1, 0), text), c != c.roll(1)) + fake) / 2,
            "there are no wrong pairs at all: this is the conditional GAN": real + fake,
            "the wrong pairs are missing": real + fake / 2,
            "the sign is wrong: the discriminator minimises this loss": -(real + (wrong(apart) + fake) / 2),
        }.items()}))
    hint = diagnose(cases, "one of the batches has loss {want}, you say {got}")
    huge = 1e4 * torch.ones(2, 4, dtype=torch.float64)
    got = as_number(answer(lambda images, text: images.sum(1), huge, huge, -huge, torch.arange(2)))
    return hint or (None if math.isfinite(got) else
                    "with a logit of 40000 the loss is not finite: the discriminator's sigmoid is rounded to "
                    "1, so take logarithm and sigmoid in one function")


def rest_of(p_r: Tensor, p_w: Tensor, w: float) -> Tensor:
    """The generator that leaves the best discriminator least: the largest clipped level that sums to 1."""
    low, high = 0.0, 1.0
    for _ in range(100):
        level = (low + high) / 2
        total = float((level * p_r - w * p_w).clamp(min=0).sum()) / (1 - w)
        low, high = (level, high) if total < 1 else (low, level)
    return (high * p_r - w * p_w).clamp(min=0) / (1 - w)


@check("at p_g = p_r the discriminator is no coin, and the generator does not rest there")
def where_it_rests(answer: Callable[..., Any]) -> str | None:
    """Compares discriminators and resting places: without wrong pairs, with few of them, with too many to
    make up for."""
    discriminators, rests = [], []
    for w, sharp in ((0.5, 0.2), (0.0, 2.0), (0.3, 3.0), (0.5, 3.0)):
        p_r, p_w = ((sharp * torch.randn(6, dtype=torch.float64)).softmax(0) for _ in range(2))
        D, p_g = as_several(answer(p_r, p_w, w), ("the discriminator at p_g = p_r", "the generator at rest"))
        D, p_g = as_tensor(D, (6,), "the discriminator"), as_tensor(p_g, (6,), "the generator")
        discriminators.append((D, p_r / (p_r + w * p_w + (1 - w) * p_r), {
            "one half is the discriminator of a perfect generator without wrong pairs; here it also meets "
            "those":
                torch.full_like(p_r, 0.5),
            "the three kinds have weight 1 each here; the refusals share theirs": p_r / (2 * p_r + p_w),
            "the weights of wrong and generated pairs have changed places":
                p_r / (p_r + (1 - w) * p_w + w * p_r),
            "the generated pictures are missing below": p_r / (p_r + w * p_w),
            "this is the probability that the pair is refused":
                1 - p_r / (p_r + w * p_w + (1 - w) * p_r),
        }))
        if float(p_g.min()) < -1e-9:
            return f"a probability of the generator is {float(p_g.min()):.3f}: it cannot fall below 0"
        free = ((p_r - w * p_w) / (1 - w)).clamp(min=0)
        if not math.isclose(float(p_g.sum()), 1, abs_tol=1e-6):
            return (f"the probabilities of the generator sum to {float(p_g.sum()):.3f}: what is clipped at 0 "
                    "in one place has to be taken away in others")
        rests.append((p_g, rest_of(p_r, p_w, w), {
            "this is p_r, where the generator rests without wrong pairs: put it into the discriminator and "
            "see who is refused":
                p_r,
            "clipped at 0 and scaled to 1: then D differs between the places that the generator draws, and "
            "it could move":
                free / free.sum(),
            "towards the wrong pictures: the generator makes up for what the wrong pairs lay on the other "
            "side":
                (1 - w) * p_r + w * p_w,
            "w is missing: wrong pairs are a share w of what is refused": rest_of(p_r, p_w, 0.5),
            "right and wrong have changed places": rest_of(p_w, p_r, w),
        }))
    return (diagnose(discriminators, "the discriminator should say {want}, yours says {got}")
            or diagnose(rests, "the generator should rest at {want}, you say {got}"))


@check("between two captions, and no shorter than they are")
def walk(answer: Callable[..., Any]) -> str | None:
    """Compares walks of several numbers of steps between captions of different lengths."""
    cases = []
    for n in (2, 5, 8):
        t1, t2 = torch.randn(6, dtype=torch.float64), 3 * torch.randn(6, dtype=torch.float64)
        got = as_tensor(answer(t1, t2, n), (n, 6), "the walk")

        def on_the_way(s: Tensor, t1: Tensor = t1, t2: Tensor = t2) -> tuple[Tensor, Tensor, Tensor]:
            """The straight line, its directions, and the lengths that are asked for, all for shares of t2."""
            line = (1 - s)[:, None] * t1 + s[:, None] * t2
            length = (1 - s) * t1.norm() + s * t2.norm()
            return line, line / line.norm(dim=1, keepdim=True), length[:, None]

        shares = torch.arange(n, dtype=torch.float64)
        line, unit, length = on_the_way(shares / (n - 1))
        inner, open_end = on_the_way((shares + 1) / (n + 1)), on_the_way(shares / n)
        angle = torch.arccos(t1 @ t2 / t1.norm() / t2.norm())
        s = (shares / (n - 1))[:, None]
        turned = torch.sin((1 - s) * angle) * t1 / t1.norm() + torch.sin(s * angle) * t2 / t2.norm()
        cases.append((got, unit * length, {
            "the walk goes from the second caption to the first": (unit * length).flip(0),
            "this is the straight line: half way its captions are shorter than both ends": line,
            "directions are right, lengths are not: all have length 1": unit,
            "the ends are missing: the walk begins at t1 and stops at t2": inner[1] * inner[2],
            "the last step is missing: the walk stops before t2": open_end[1] * open_end[2],
            "these are equal angles; the directions of the straight line are asked for":
                turned / torch.sin(angle) * length,
            "all are as long as the first caption; the length goes from one to the other, too":
                unit * t1.norm(),
            "all have one length, the mean of both; the length goes from one to the other, too":
                unit * (t1.norm() + t2.norm()) / 2,
            "the whole walk is scaled by one number; each caption has a length of its own":
                line / line.norm() * length,
        }))
    return diagnose(cases, "one of the walks should be {want}, yours is {got}")


