"""The checks of chapter 2's exercises about VAEs, codes and DALL-E. Reading on shows answers: try the
exercise first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import Case, Hint, as_number, as_several, as_tensor, check, diagnose, measured_table

# ------------------------------------------------------------------------------------------- 17: VAE


@check("a mean in place of a sum is a claim about the noise of the pixels")
def assumed_noise(answer: Callable[..., Any]) -> str | None:
    """Compares deviations for several sizes of pictures and latents and several weights."""
    cases: list[Case] = []
    for D, n, weight in ((3072, 32, 1.0), (784, 10, 0.1), (12_288, 256, 2.5)):
        got = as_number(answer(D, n, weight), "the deviation")
        variance = weight * D / (2 * n)
        cases.append((got, math.sqrt(variance), {
            "this is the variance of a pixel; its root is the deviation": variance,
            "the Gaussian has 1/2 in its exponent: a factor 2 is missing": math.sqrt(2 * variance),
            "the KL is a mean over its n numbers here, too, and you take it for their sum":
                math.sqrt(variance * n),
            "the squared errors are a mean over D numbers, and you take it for their sum":
                math.sqrt(variance / D),
            "the number of latents is on the wrong side: the more of them share the mean, the less noise":
                math.sqrt(weight * D * n / 2),
            "this is the inverse: the larger the weight of the KL, the more noise": 1 / math.sqrt(variance),
        }))
    return diagnose(cases, "one deviation should be {want}, yours is {got}")


# -------------------------------------------------------------------------- 18, 19: vector quantisation


@check("the encoder hears the decoder through a jump; the codebook does not hear it at all")
def through_the_jump(answer: Callable[..., Any]) -> str | None:
    """Compares gradients of random encoders' outputs, codes, linear decoders and pictures."""
    encoders, codes = [], []
    for beta in (0.25, 2.0):
        z, e, x = (torch.randn(n, dtype=torch.float64) for n in (3, 3, 5))
        A = torch.randn(5, 3, dtype=torch.float64)
        by_z, by_e = as_several(answer(z, e, A, x, beta), ("the gradient of z", "the gradient of e"))
        by_z, by_e = as_tensor(by_z, (3,), "the gradient of z"), as_tensor(by_e, (3,), "the gradient of e")
        decoder, at_z = 2 * A.T @ (A @ e - x), 2 * A.T @ (A @ z - x)
        commitment = 2 * beta * (z - e)
        encoders.append((by_z, decoder + commitment, {
            "the decoder reads the code: its gradient is taken at e, and you take it at z":
                at_z + commitment,
            "nothing comes from the decoder, as if the jump stopped its gradient": commitment,
            "the commitment is missing": decoder,
            "the term of the codebook moves z, too; its z is behind a stop":
                decoder + commitment + 2 * (z - e),
            "the commitment has no weight beta": decoder + 2 * (z - e),
            "the commitment has the wrong sign: it pulls the encoder towards its code":
                decoder - commitment,
            "the 2 of the squares is missing": (decoder + commitment) / 2,
        }))
        codes.append((by_e, 2 * (e - z), {
            "the reconstruction reaches the codebook; straight-through hands its gradient to z instead":
                2 * (e - z) + decoder,
            "the weight beta belongs to the commitment, not to the codebook": 2 * beta * (e - z),
            "the code moves away from the encoder's output": 2 * (z - e),
            "the commitment moves e, too; its e is behind a stop": 2 * (e - z) * (1 + beta),
            "the 2 of the square is missing": e - z,
        }))
    return (diagnose(encoders, "the gradient of z should be {want}, yours is {got}")
            or diagnose(codes, "that of z is right; the gradient of e should be {want}, yours is {got}"))


@check("an online k-means with a memory, in which a code that nobody chose keeps its place")
def moving_codes(answer: Callable[..., Any]) -> str | None:
    """Compares counts, sums and codes after one step; one code is chosen by nobody."""
    parts: dict[str, list[Case]] = {"counts": [], "sums": [], "codes": []}
    for gamma, smooth in ((0.9, 1e-2), (0.5, 0.3)):
        z = torch.randn(12, 2, dtype=torch.float64)
        k = torch.tensor([0, 0, 0, 1, 1, 3, 3, 3, 3, 0, 1, 3])              # nobody chose code 2
        N, m = torch.rand(4, dtype=torch.float64) + 0.5, torch.randn(4, 2, dtype=torch.float64)
        got = as_several(answer(z, k, N, m, gamma, smooth), ("the counts", "the sums", "the codes"))
        counts, sums, codes = (as_tensor(part, shape, name) for part, shape, name in zip(
            got, ((4,), (4, 2), (4, 2)), ("the counts", "the sums", "the codes")))
        n = torch.stack([(k == i).sum() for i in range(4)]).double()
        s = torch.stack([z[k == i].sum(0) for i in range(4)])
        new_N, new_m = gamma * N + (1 - gamma) * n, gamma * m + (1 - gamma) * s
        total = new_N.sum()
        smoothed = (new_N + smooth) / (total + 4 * smooth) * total
        parts["counts"].append((counts, new_N, {
            "the decay belongs to the memory, 1 - gamma to the batch; you have them exchanged":
                (1 - gamma) * N + gamma * n,
            "the batch enters with weight 1": gamma * N + n,
            "these are the counts of the batch alone": n,
            "the counts are smoothed before they are kept: keep them as they are, smooth for the division":
                smoothed,
        }))
        means = s / n.clamp(min=1)[:, None]
        parts["sums"].append((sums, new_m, {
            "the average is over sums, and you average the means of the clusters":
                gamma * m + (1 - gamma) * means,
            "the decay belongs to the memory, 1 - gamma to the batch; you have them exchanged in the sums":
                (1 - gamma) * m + gamma * s,
            "a code that nobody chose forgets nothing of its sum in yours; both fade, sum and count":
                torch.where(n[:, None] > 0, new_m, m),
        }))
        parts["codes"].append((codes, new_m / smoothed[:, None], {
            "divided by the counts as they are, without Laplace's rule": new_m / new_N[:, None],
            "smoothed, but not scaled back: the smoothed counts should add up to the old total":
                new_m / ((new_N + smooth) / (total + 4 * smooth))[:, None],
            "only a constant is added to each count; the total grows by that": new_m / (new_N
                                                                                     + smooth)[:, None],
            "these are the means of the batch; the codes are those of the memory": means,
        }))
    for name, cases in parts.items():
        if wrong := diagnose(cases, f"the {name} should be {{want}}, yours are {{got}}"):
            return wrong
    return None


# ------------------------------------------------------------------------------------------- 20, 21: the dVAE


@check("the two largest noisy logits are a draw without putting back")
def two_winners(answer: Callable[..., Any]) -> str | None:
    """Compares tables of the first and the second winner, and with frequencies of drawn ones."""
    cases: list[Case] = []
    for k in (3, 5):
        logits = 1.5 * torch.randn(k, dtype=torch.float64)
        got = as_tensor(answer(logits), (k, k), "the table")
        q = logits.softmax(0)
        off = 1 - torch.eye(k, dtype=torch.float64)
        want = off * q[:, None] * q / (1 - q[:, None])
        again = q[:, None] * q
        pairs = want + want.T
        cases.append((got, want, {
            "this puts the first winner back: it cannot come second": again,
            "the diagonal is emptied, but the rest was not scaled up: what could come second adds up to 1":
                off * again,
            "the whole table is scaled up at once; each row has its own rest, 1 - q of its first winner":
                off * again / (off * again).sum(),
            "first and second are exchanged: rows are the first winner": want.T,
            "this counts a pair in both orders": pairs,
            "this is the second given the first; the first has to win, too": off * q / (1 - q[:, None]),
            "exponentials of logits are no probabilities; they have to add up to 1 first":
                off * logits.exp()[:, None] * logits.exp(),
        }))
    return diagnose(cases, "the table should be {want}, yours is {got}")


@check("the pull of a pixel depends on its side alone, and the scale is at rest at the mean distance")
def pulls_of_a_pixel(answer: Callable[..., Any]) -> str | None:
    """Compares both gradients at random pixels, locations and scales."""
    locations, scales = [], []
    for _ in range(2):
        x = 0.1 + 0.8 * torch.rand(6, dtype=torch.float64)
        mu, log_b = torch.randn(6, dtype=torch.float64), 0.7 * torch.randn(6, dtype=torch.float64)
        by_mu, by_b = as_several(answer(x, mu, log_b), ("the gradient of mu", "the gradient of log b"))
        by_mu = as_tensor(by_mu, (6,), "the gradient of mu")
        by_b = as_tensor(by_b, (6,), "the gradient of log b")
        b, far = log_b.exp(), x.logit() - mu
        locations.append((by_mu, -far.sign() / b, {
            "the sign is that of a likelihood; a loss falls where mu comes nearer": far.sign() / b,
            "the scale is missing: a sure decoder is pulled harder": -far.sign(),
            "this is a Gaussian's pull, which grows with the distance": -far / b,
            "mu is a logit; you compare it with the pixel itself": -(x - mu).sign() / b,
            "divided by log b instead of b": -far.sign() / log_b,
        }))
        scales.append((by_b, 1 - far.abs() / b, {
            "this is the gradient of b; that of its logarithm is b times as large":
                1 / b - far.abs() / b**2,
            "the 1 is missing, which keeps the scale from growing without end": -far.abs() / b,
            "the wrong way: where the error is larger than b, the loss falls with a larger b":
                far.abs() / b - 1,
            "the distance is measured in units of b": 1 - far.abs(),
        }))
    return (diagnose(locations, "the gradient of mu should be {want}, yours is {got}")
            or diagnose(scales, "that of mu is right; that of log b should be {want}, yours is {got}"))


# ----------------------------------------------------------------------------------------- 22, 23: DALL-E


@check("what a layer could not see, the next one may read from those who did")
def seen_through_layers(answer: Callable[..., Any]) -> str | None:
    """Compares which places reach which through stacks of random causal masks."""
    cases: list[Case] = []
    for n, layers in ((7, 2), (9, 3), (6, 1)):
        masks = (torch.rand(layers, n, n) < 0.25).tril() | torch.eye(n, dtype=torch.bool)
        got = as_tensor(answer(masks), (n, n), "the table", torch.bool)

        def through(order: Tensor, n: int = n) -> Tensor:
            seen = torch.eye(n, dtype=torch.bool)
            for mask in order:
                new = torch.zeros_like(seen)
                for i in range(n):
                    for via in range(n):
                        if mask[i, via]:
                            new[i] |= seen[via]
                seen = new
            return seen

        want = through(masks)
        cases.append((got, want, {
            "this is what single layers see; a later layer reads what earlier ones have gathered":
                masks.any(0),
            "this is what all layers see alike": masks.all(0),
            "the layers are in the wrong order: the first one reads the codes themselves":
                through(masks.flip(0)),
            "queries and keys are exchanged": want.T,
            "the last layer alone": masks[-1],
            "this is what cannot be reached": ~want,
            "everything before a place, as in full attention": torch.ones(n, n).tril().bool(),
        }))
    return diagnose(cases, "a table has {want}, yours {got}")


@check("the best of many grows ever more slowly, and only as far as the judge can see")
def best_of_many(answer: Callable[..., Any], measure: Callable[..., Any]) -> str | None:
    """Records what was measured and compares table and number with it."""
    record: dict[tuple[Any, int], float] = {}

    def recorded(n: int, seed: int) -> float:
        record[n, seed] = float(measure(n, seed))
        return record[n, seed]

    table, enough = as_several(answer(recorded), ("the table", "the number of pictures"))
    table = measured_table(table, record, "pictures", ("quality", "qualities"), control=1)
    if max(table) < 64:
        raise Hint(f"the most pictures are {max(table)}; go up to 64 or more to see where it flattens")
    if any(2 * n not in table for n in table if n != max(table)):
        raise Hint("double the number from row to row, 1, 2, 4 and so on: each row is to be compared with "
                   "its double")
    mean = {n: sum(row) / len(row) for n, row in table.items()}
    gains = {n: mean[2 * n] - mean[n] for n in sorted(table) if 2 * n in table}
    small = [n for n, gain in gains.items() if gain < gains[1] / 2]
    if not small:
        raise Hint("no doubling gains less than half of the first one: measure more pictures a text")
    number = as_number(enough, "the number of pictures")
    if number == small[0]:
        return None
    if number == 2 * small[0]:
        return "this is already the double; the number asked for is that from which doubling gains little"
    if number == max(table):
        return "the largest number measured is no answer: from which number on does doubling gain little?"
    if number == max(mean, key=mean.__getitem__):
        return "the number with the best mean: every doubling gains something, the question is how much"
    return (f"by your own table doubling gains less than half of the first doubling from {small[0]} on, not "
            f"from {number:g}")
