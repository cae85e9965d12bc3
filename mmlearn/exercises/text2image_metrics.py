"""The checks of chapter 2's exercises about metrics of pictures. Reading on shows answers: try the exercise
first.

Every check compares with the formula written out by hand, and with what the usual mistakes of its task would
give.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmlearn.exercises import as_number, as_several, check, diagnose, measured_table
from mmlearn.metrics.frechet import GaussianStatistics, frechet_distance
from mmlearn.metrics.generation import conditional_information
from mmlearn.nn.modes import remembered

# ------------------------------------------------------------------------------------- 12: Frechet distance


def root_of(covariance: Tensor) -> Tensor:
    """The symmetric root of a covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


def distance_of(shift: Tensor, one: Tensor, other: Tensor) -> float:
    """The Frechet distance from the difference of means and two covariances, by matrix roots."""
    root = root_of(one)
    return float(shift @ shift + (one + other - 2 * root_of(root @ other @ root)).trace())


@check("squared, without a root around it, and defined for fewer pictures than features")
def frechet_of_features(answer: Callable[..., Any]) -> str | None:
    """Compares distances of correlated features, the last ones of fewer pictures than features."""
    cases = []
    for n, m, d in ((40, 30, 4), (25, 60, 3), (5, 6, 8)):
        mix = [torch.randn(d, d, dtype=torch.float64) for _ in range(2)]
        A, B = (torch.randn(k, d, dtype=torch.float64) @ M for k, M in zip((n, m), mix))
        B = B + torch.randn(d, dtype=torch.float64)
        got = answer(A, B)
        if torch.is_tensor(got) and got.is_complex() or np.iscomplexobj(got):
            return ("the distance is a complex number: rounding leaves an imaginary part, which is to be "
                    "dropped")
        got = as_number(got, "the distance")
        if math.isnan(got):
            return ("with fewer pictures than features the distance is not a number: an eigenvalue that "
                    "should be 0 is rounded to less, and has no root")
        shift, one, other = A.mean(0) - B.mean(0), A.mT.cov(), B.mT.cov()
        want, means = distance_of(shift, one, other), float(shift @ shift)
        l1, l2 = (torch.linalg.eigvalsh(c).clamp(min=0).sqrt() for c in (one, other))
        cases.append((got, want, {
            "FID is the square; there is no root around it": math.sqrt(want),
            "covariances divide by n - 1, yours by n":
                distance_of(shift, one * (n - 1) / n, other * (m - 1) / m),
            "the distance of the means is not squared": want - means + math.sqrt(means),
            "the means are missing": want - means,
            "the covariances are missing": means,
            "the factor 2 before the root is missing": (want + means + float((one + other).trace())) / 2,
            "the eigenvalues of both covariances are paired by size; their axes are not the same":
                means + float(((l1 - l2) ** 2).sum()),
            "the features are taken one by one; what they have in common is lost":
                means + float(((one.diagonal().sqrt() - other.diagonal().sqrt()) ** 2).sum()),
            "this is the distance of two roots of covariances, which is larger unless they share their axes":
                means + float(((root_of(one) - root_of(other)) ** 2).sum()),
            "this is the distance of the covariances, not that of the Gaussians":
                means + float(((one - other) ** 2).sum()),
            "these are moments around 0; covariances are around the mean":
                distance_of(shift, A.mT @ A / (n - 1), B.mT @ B / (m - 1)),
        }))
    return diagnose(cases, "one of the distances should be {want}, yours is {got}")


# ---------------------------------------------------------------------------- 13, 14: R-precision, inception


@check("a picture finds its sentence among those of other classes, and you know what luck would find")
def found_among_others(answer: Callable[..., Any]) -> str | None:
    """Compares shares and chance levels of matrices with ties, and with classes of several sizes."""
    shares, chances = [], []
    for classes in ([0, 0, 1, 1, 1, 2, 3, 3], [4, 4, 4, 4, 0, 1], [1, 1, 2, 2, 2, 2, 2], [0, 1, 2] * 6):
        c, n = torch.tensor(classes), len(classes)
        # Rounded, so that scores tie, and higher at the pair and within a class, so that both matter.
        S = (torch.randn(n, n, dtype=torch.float64) + 1.3 * torch.eye(n) + 0.7 * (c[:, None] == c)).round()
        share, chance = as_several(answer(S, c), ("the share", "the chance level"))
        share, chance = as_number(share, "the share"), as_number(chance, "the chance level")
        other = c[:, None] != c
        own = S.diagonal()
        best, back = (T.masked_fill(~other, -math.inf).amax(1) for T in (S, S.mT))
        everybody = S.masked_fill(torch.eye(n, dtype=torch.bool), -math.inf).amax(1)
        right = float((own > best).double().mean())
        shares.append((share, right, {
            "sentences of its own class compete with a picture's sentence; they may fit as well":
                float((own > everybody).double().mean()),
            "a sentence of another class with the same score stands before: a tie is no hit":
                float((own >= best).double().mean()),
            "of its own class or not, and ties count as found: two mistakes":
                float((own >= everybody).double().mean()),
            "here sentences look for pictures; pictures look for sentences, along a row":
                float((own > back).double().mean()),
            "this is the number of hits; a share divides by the pictures": right * n,
            "this is per cent": 100 * right,
            "this is the share of misses": 1 - right,
        }))
        k = other.sum(1).double()
        luck = float((1 / (1 + k)).mean())
        chances.append((chance, luck, {
            "luck chooses among the candidates only, not among all sentences": 1 / n,
            "the own sentence is one of the candidates: one more than there are others":
                float((1 / k).mean()),
            "every picture has its own number of candidates; the mean of 1 / k is not 1 over the mean of k":
                float(1 / (1 + k.mean())),
            "this is luck among classes": 1 / len(set(classes)),
            "this is per cent": 100 * luck,
        }))
    return (diagnose(shares, "one of the shares should be {want}, you say {got}")
            or diagnose(chances, "the shares are right; the chance level should be {want}, you say {got}"))


@check("the score is the exponential of what a picture tells about its class")
def score_of_kinds(answer: Callable[..., Any]) -> str | None:
    """Compares scores of tables, with classes that are never named and classifiers that are sure."""
    cases = []
    for n, c in ((4, 6), (7, 3), (3, 3)):
        w = torch.rand(n, dtype=torch.float64) + 0.05
        w = w / w.sum()
        P = (2 * torch.randn(n, c, dtype=torch.float64)).softmax(1)
        P[0] = torch.eye(c, dtype=torch.float64)[0]
        got = as_number(answer(w, P), "the score")
        if math.isnan(got):
            return "the score is not a number: where a class has probability 0, 0 log 0 counts as 0"

        def entropy(p: Tensor) -> Tensor:
            return -torch.xlogy(p, p).sum(-1)

        marginal, each = w @ P, entropy(P)
        information = float(entropy(marginal) - w @ each)
        even = float(entropy(P.mean(0)) - each.mean())
        cases.append((got, math.exp(information), {
            "this is the information itself; the score is its exponential": information,
            "every kind counts the same here; the generator draws some more often": math.exp(even),
            "the marginal is right, but the mean over the kinds forgets how often they are drawn":
                math.exp(float(entropy(marginal) - each.mean())),
            "the mean is right, but the marginal forgets how often kinds are drawn":
                math.exp(float(entropy(P.mean(0)) - w @ each)),
            "the exponential has to undo the logarithm: nats and e, or bits and 2":
                math.exp(information / math.log(2)),
            "2 to the power of nats: the exponential has to undo the logarithm": 2**information,
            "this counts the classes that are named, however unsure each picture is":
                math.exp(float(entropy(marginal))),
            "this counts how many classes one picture could be": math.exp(float(w @ each)),
            "the sign is wrong: a score is never below 1": math.exp(-information),
            "the mean of the exponentials; the exponential of the mean is asked for":
                float(w @ (entropy_against(P, marginal)).exp()),
        }))
    return diagnose(cases, "one of the scores should be {want}, you say {got}")


def entropy_against(P: Tensor, marginal: Tensor) -> Tensor:
    """KL of every row from the marginal."""
    return (torch.xlogy(P, P) - torch.xlogy(P, marginal)).sum(1)


# ------------------------------------------------------------------------------------- 15, 16: open exercises


def inception(logits: Tensor) -> float:
    """The Inception Score without splits."""
    return float(conditional_information(logits.double().log_softmax(1)).exp())


@remembered
def pool() -> tuple[Tensor, Tensor]:
    """600 "pictures" of 8 classes: features (600, 16) in clouds that overlap, and the logits (600, 8) of a
    classifier that knows the clouds. Everything is drawn from one seed."""
    generator = torch.Generator().manual_seed(0)
    centres = 0.7 * torch.randn(8, 16, generator=generator)
    features = centres.repeat(75, 1) + torch.randn(600, 16, generator=generator)
    return features, -torch.cdist(features, centres).square() / 2


def frechet(features: Tensor, others: Tensor) -> float:
    """The Frechet distance of two sets of features."""
    return frechet_distance(GaussianStatistics.of(features), GaussianStatistics.of(others))


@check("few pictures, again and again, and a better score than all of them have")
def praised_collapse(answer: Callable[..., Any]) -> str | None:
    """Scores the chosen pictures, and shows what the Frechet distance says of them."""
    features, logits = pool()
    chosen = answer(features, logits)
    if isinstance(chosen, Tensor | np.ndarray):
        chosen = chosen.tolist()
    if not isinstance(chosen, list | tuple) or not all(type(i) is int for i in chosen):
        return "return whole numbers, the rows of the chosen pictures; a picture may be named many times"
    if len(chosen) != 60:
        return f"you name {len(chosen)} rows; a generator that has collapsed still draws 60 pictures"
    if not all(0 <= i < len(logits) for i in chosen):
        return f"the rows go from 0 to {len(logits) - 1}"
    different = len(set(chosen))
    if different > 10:
        return f"{different} different pictures are no collapse; stay within 10"
    rows = torch.tensor(chosen)
    ours, all_of_them = inception(logits[rows]), inception(logits)
    if ours < 1 + 1e-6:
        return "a single picture tells nothing about classes: it has the score 1, the lowest there is"
    print(f"{different} pictures: Inception Score {ours:.2f}, Frechet distance "
          f"{frechet(features, features[rows]):.2f}")
    print(f"all {len(logits)}: Inception Score {all_of_them:.2f}")
    if ours <= all_of_them:
        return (f"your score is not above that of all pictures, {all_of_them:.2f}: which pictures is the "
                "classifier sure of, and how many classes do they name?")
    return None


@check("one distribution, a distance that falls with the number of pictures, and 0 where the line ends")
def more_pictures(answer: Callable[..., Any], distance: Callable[..., Any]) -> str | None:
    """Runs the study with a distance that keeps a record, and reads table and end of the line."""
    record: dict[tuple[int, int], float] = {}

    def recorded(n: int, seed: int) -> float:
        record[n, seed] = distance(n, seed)
        return record[n, seed]

    table, end = as_several(answer(recorded), ("the table", "the end of the line"))
    table = measured_table(table, record, "pictures", ("distance", "distances"))
    end = as_number(end, "the end of the line")
    sizes = sorted(table)
    if sizes[-1] < 8 * sizes[0]:
        return (f"from {sizes[0]} to {sizes[-1]} pictures is a short lever: take a largest number 8 times "
                "the smallest")
    means = [float(np.mean(table[n])) for n in sizes]
    for n, mean in zip(sizes, means):
        print(f"{n:5d} pictures: {mean:.3f} ± {np.std(table[n]):.3f}")
    if same_as_one(end, means):
        return ("this is the distance of your largest number, or of another; the line goes on to infinitely "
                "many")
    straight, wrong = (float(np.polyfit([f(n) for n in sizes], means, 1)[1])
                       for f in (lambda n: 1 / n, lambda n: n))
    if math.isclose(end, wrong, rel_tol=0.01):
        return ("the distance is a line over n here, and its start is taken for its end: over what is it a "
                "line?")
    if abs(end) > 0.2 * means[-1]:
        return (f"the line ends at {end:.3f}, though both sides are one distribution (over 1 / n it ends at "
                f"{straight:.3f})")
    return None


def same_as_one(value: float, values: list[float]) -> bool:
    """Whether a number is one of several."""
    return any(math.isclose(value, v, rel_tol=1e-6) for v in values)
