"""The checks of chapter 2's exercises about diffusion and GLIDE. Reading on shows answers: try the exercise
first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give. Times are given by their $\\bar\\alpha$, the share of the data's variance that is left.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from mmlearn.exercises import Case, Hint, as_number, as_several, as_tensor, check, diagnose, same

PAIRS = ((0.9, 0.5), (0.6, 0.05), (0.99, 0.9))          # alpha bar at an earlier and at a later time

# ------------------------------------------------------------------------------------- 24, 25: there and back


@check("noise is added in jumps as well as in steps, and every jump shrinks what was there")
def a_jump(answer: Callable[..., Any]) -> str | None:
    """Compares factors and variances of jumps between two times."""
    factors, variances = [], []
    for early, late in PAIRS:
        factor, variance = as_several(answer(early, late), ("the factor", "the variance"))
        ratio = late / early
        factors.append((as_number(factor, "the factor"), math.sqrt(ratio), {
            "this is the factor from the data on; here the picture at the earlier time is given":
                math.sqrt(late),
            "the root is missing: variances shrink by the ratio, pixels by its root": ratio,
            "the wrong way round: a later picture holds less of the data": math.sqrt(early / late),
            "this is a difference; shares of the variance multiply from step to step":
                math.sqrt(early - late),
            "nothing shrinks here: each step would only add noise": 1.0,
        }))
        variances.append((as_number(variance, "the variance"), 1 - ratio, {
            "this is the deviation; the variance is its square": math.sqrt(1 - ratio),
            "this is all noise since the data; some was there at the earlier time": 1 - late,
            "the noise that was there at the earlier time shrinks, too, and has to be made up for":
                early - late,
            "what is left is the ratio; the noise is the rest": ratio,
        }))
    return (diagnose(factors, "the factor should be {want}, yours is {got}")
            or diagnose(variances, "the factor is right; the variance should be {want}, yours is {got}"))


@check("between two ends that are known an earlier picture is a weighted mean of both")
def between_two_ends(answer: Callable[..., Any]) -> str | None:
    """Compares means and variances of an earlier picture, given the data and a later one."""
    means, variances = [], []
    for early, late in PAIRS:
        x_0, x_t = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
        mean, variance = as_several(answer(x_0, x_t, early, late), ("the mean", "the variance"))
        jump, rest = late / early, 1 - late
        a, b = math.sqrt(early) * (1 - jump) / rest, math.sqrt(jump) * (1 - early) / rest
        means.append((as_tensor(mean, (4,), "the mean"), a * x_0 + b * x_t, {
            "the two weights are exchanged": b * x_0 + a * x_t,
            "this is the forward mean from the data, which does not look at the later picture":
                math.sqrt(early) * x_0,
            "this turns the jump round; the data are not looked at": x_t / math.sqrt(jump),
            "the roots are missing": early * (1 - jump) / rest * x_0 + jump * (1 - early) / rest * x_t,
            "this is not divided by the noise at the later time": rest * (a * x_0 + b * x_t),
            "this is a straight line between both, without looking at the noise":
                (math.sqrt(early) * x_0 + x_t) / 2,
        }))
        variances.append((as_number(variance, "the variance"), (1 - early) * (1 - jump) / rest, {
            "this is the noise of the jump; knowing the data leaves less": 1 - jump,
            "this is the noise at the earlier time; knowing the later picture leaves less": 1 - early,
            "this is the deviation; the variance is its square": math.sqrt((1 - early) * (1 - jump) / rest),
            "both noises multiplied are not yet divided by that of the later time": (1 - early) * (1 - jump),
        }))
    return (diagnose(means, "the mean should be {want}, yours is {got}")
            or diagnose(variances, "the mean is right; the variance should be {want}, yours is {got}"))


# -------------------------------------------------------------------------------------------- 26: guidance


@check("guided as far as asked, and no louder than the prediction it began with")
def as_loud_as_before(answer: Callable[..., Any]) -> str | None:
    """Compares guided predictions, scaled back by several shares, for examples of unlike loudness."""
    cases: list[Case] = []
    for scale, share in ((3.0, 1.0), (7.5, 0.7), (2.0, 0.0), (1.0, 0.5)):
        loud = torch.tensor([1.0, 3.0]).double().view(2, 1, 1, 1)
        by_text = loud * torch.randn(2, 3, 4, 4, dtype=torch.float64)
        empty = torch.randn(2, 3, 4, 4, dtype=torch.float64)
        got = as_tensor(answer(by_text, empty, scale, share), (2, 3, 4, 4), "the prediction")
        guided = empty + scale * (by_text - empty)

        def level(x: Any) -> Any:
            return x.std((1, 2, 3), keepdim=True)

        quiet = guided * level(by_text) / level(guided)
        further = empty + (scale + 1) * (by_text - empty)
        cases.append((got, share * quiet + (1 - share) * guided, {
            "the scale is Ho and Salimans's w here, one more than asked for":
                share * further * level(by_text) / level(further) + (1 - share) * further,
            "guided, but never scaled back": guided,
            "scaled back in full, whatever share is asked for": quiet,
            "the shares are exchanged": (1 - share) * quiet + share * guided,
            "the deviation is that of the whole batch; each picture has its own":
                share * guided * by_text.std() / guided.std() + (1 - share) * guided,
            "as loud as the prediction without text; it should be as loud as the one with text":
                share * guided * level(empty) / level(guided) + (1 - share) * guided,
            "the direction is the wrong one: away from the text":
                share * (2 * empty - guided) * level(by_text) / level(2 * empty - guided)
                + (1 - share) * (2 * empty - guided),
        }))
    return diagnose(cases, "a prediction should be {want}, yours is {got}")


# ------------------------------------------------------------------------------------ 27-29: steps of drawing


@check("one step in both directions: the noise that leads to a picture can be read off the picture")
def both_ways(answer: Callable[..., Any]) -> str | None:
    """Compares steps towards the data and away from them, and a walk there and back."""
    cases: list[Case] = []
    for start, end in (*PAIRS, *((late, early) for early, late in PAIRS), (0.5, 1.0)):
        x, noise = 2 * torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
        got = as_tensor(answer(x, noise, start, end), (5,), "the picture")
        data = (x - math.sqrt(1 - start) * noise) / math.sqrt(start)

        def moved(data: Any, noise: Any = noise, end: float = end) -> Any:
            return math.sqrt(end) * data + math.sqrt(1 - end) * noise

        cases.append((got, moved(data), {
            "the estimate of the data is clipped: a step back would not find where it came from":
                moved(data.clamp(-1, 1)),
            "the two times are exchanged": math.sqrt(start) * (x - math.sqrt(1 - end) * noise)
                / math.sqrt(end) + math.sqrt(1 - start) * noise,
            "this is the estimate of the data; noise of the new time is still to be added": data,
            "the roots of the noise's share are missing":
                math.sqrt(end) * (x - (1 - start) * noise) / math.sqrt(start) + (1 - end) * noise,
            "the data are not scaled to the new time": data + math.sqrt(1 - end) * noise,
            "the old noise stays: its share belongs to the time before":
                math.sqrt(end) * data + math.sqrt(1 - start) * noise,
        }))
    if wrong := diagnose(cases, "after a step the picture should be {want}, yours is {got}"):
        return wrong
    x, noise = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    there = answer(x, noise, 0.3, 0.8)
    if not same(answer(there, noise, 0.8, 0.3), x):
        return "there and back with the same noise does not end where it began"
    return None


@check("what sticks out is drawn in, picture by picture, and what fits is left alone")
def drawn_in(answer: Callable[..., Any]) -> str | None:
    """Compares pictures of which one fits into [-1, 1] and others stick out, and the share of white or
    black."""
    pictures, shares = [], []
    for p in (0.9, 0.75):
        x = torch.randn(3, 3, 5, 5, dtype=torch.float64) * torch.tensor([0.2, 1.0, 3.0]).view(3, 1, 1, 1)
        got, share = as_several(answer(x, p), ("the pictures", "the share of each"))
        got, share = as_tensor(got, x.shape, "the pictures"), as_tensor(share, (3,), "the share of each")

        def bound(x: Any, p: float = p, each: bool = True) -> Any:
            values = x.flatten(1) if each else x.flatten()[None]
            return values.quantile(p, dim=1).view(-1, 1, 1, 1)

        s = bound(x.abs()).clamp(min=1)
        want = x.clamp(-s, s) / s
        flat = bound(x.abs(), each=False).clamp(min=1)
        raw = bound(x.abs())
        pictures.append((got, want, {
            "this is the plain clipping; the bound follows the picture": x.clamp(-1, 1),
            "the bound is one for the whole batch; a loud picture would dim a quiet one":
                x.clamp(-flat, flat) / flat,
            "the bound is never below 1: a picture that fits would be blown up": x.clamp(-raw, raw) / raw,
            "clipped at the bound, but not divided by it": x.clamp(-s, s),
            "divided by the bound, but what lies beyond it is not clipped": x / s,
            "the quantile is that of the signed numbers; dark ones stick out, too":
                x.clamp(-bound(x).clamp(min=1), bound(x).clamp(min=1)) / bound(x).clamp(min=1),
            "this is the largest number of all; a share p of them should lie within the bound":
                x / x.abs().amax((1, 2, 3), keepdim=True).clamp(min=1),
        }))
        inside = (x.abs() >= s).double().mean((1, 2, 3))
        shares.append((share, inside, {
            "this is the share that is neither white nor black": 1 - inside,
            "this is the share beyond 1 before anything was done": (x.abs() > 1).double().mean((1, 2, 3)),
            "these are numbers of pixels; a share divides by all": inside * 75,
            "1 - p is right only where the bound is above 1": torch.full((3,), 1 - p, dtype=torch.float64),
            "only white is counted": (x >= s).double().mean((1, 2, 3)),
        }))
    return (diagnose(pictures, "a picture should be {want}, yours is {got}")
            or diagnose(shares, "the pictures are right; the shares should be {want}, yours are {got}"))


@check("the known pixels are kept to the last digit, and the noise is the one that leads to them")
def known_pixels(answer: Callable[..., Any]) -> str | None:
    """Compares predictions of the noise whose estimate of the data has the known pixels."""
    cases: list[Case] = []
    for a in (0.9, 0.3, 0.02):
        x, noise, known = (torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(3))
        mask = torch.rand(2, 1, 4, 4) < 0.5
        got = as_tensor(answer(x, noise, known, mask, a), x.shape, "the noise")
        data = (x - math.sqrt(1 - a) * noise) / math.sqrt(a)

        def noise_of(data: Any, a: float = a, x: Any = x) -> Any:
            return (x - math.sqrt(a) * data) / math.sqrt(1 - a)

        want = noise_of(torch.where(mask, known, data))
        cases.append((got, want, {
            "the mask is inverted: True means known": noise_of(torch.where(mask, data, known)),
            "the noise of unknown pixels stays as it was predicted; you set it, too": noise_of(known),
            "nothing has changed: the estimate is corrected, but the noise is not computed anew": noise,
            "this is the corrected estimate of the data; the noise that leads to it is asked for":
                torch.where(mask, known, data),
            "the known pixels are put into the noised picture, where they do not belong":
                torch.where(mask, (known - math.sqrt(a) * data) / math.sqrt(1 - a), noise),
            "the roots are missing": torch.where(mask, (x - a * known) / (1 - a), noise),
            "the known pixels have noise 0; they have that which leads from them to the noised picture":
                torch.where(mask, torch.zeros_like(noise), noise),
        }))
    if wrong := diagnose(cases, "the noise should be {want}, yours is {got}"):
        return wrong
    x, noise, known = (torch.randn(1, 1, 2, 2, dtype=torch.float64) for _ in range(3))
    all_known = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    got = as_tensor(answer(x, noise, known, all_known, 0.5), x.shape, "the noise")
    if not same(x, math.sqrt(0.5) * known + math.sqrt(0.5) * got):
        raise Hint("where all is known, the noise and the picture do not add up to the noised one")
    return None
