"""Linear probe: how much of what a class needs can be read off frozen features by one matrix.

Papers: A. Radford et al. (2021), arXiv:2103.00020, sec. 3.2, 3.1.5 (few-shot) and app. A.3 (L-BFGS, at most
1000 iterations, the search for the regularisation); D. Liu and J. Nocedal (1989), *On the Limited Memory BFGS
Method for Large Scale Optimization* (the optimiser).  Survey: 4.2.1.
Differs from the paper: the optimiser is PyTorch's, in float64, and not scikit-learn's; the optimum is the
same.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor

EIGHTHS = range(-48, 49)  # exponents of the grid 10^(n/8), 10^-6 to 10^6: 96 steps, eight a decade


def probe_loss(
    W: Float[Tensor, "c f"], b: Float[Tensor, " c"],
    features: Float[Tensor, "n f"], labels: Int[Tensor, " n"],
    penalty: float | int,
) -> Float[Tensor, ""]:
    r"""eq:linear-probe: $J(W,b)=-\sum_{i=1}^n\log\operatorname{softmax}(Wx_i+b)_{y_i}+\frac\lambda2\|W\|^2$,
    in nats.

    ``penalty`` is $\lambda$; in scikit-learn's terms $C=1/\lambda$. The bias is not regularised.
    """
    return (
        F.cross_entropy(features @ W.T + b, labels.long(), reduction="sum")
        + penalty / 2 * W.square().sum()
    )


@dataclass(frozen=True)
class Probe:
    """A linear classifier of frozen features, and the ``penalty`` it was fitted with."""

    W: Float[Tensor, "c f"]
    b: Float[Tensor, " c"]
    penalty: float

    def scores(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        """Logits, in float64."""
        return features.double() @ self.W.T + self.b

    def accuracy(self, features: Float[Tensor, "n f"], labels: Int[Tensor, " n"]) -> float:
        """Fraction of rows whose label has the highest score."""
        return float((self.scores(features).argmax(dim=1) == labels).double().mean())


def fit_probe(
    features: Float[Tensor, "n f"], labels: Int[Tensor, " k"], classes: int, penalty: float | int = 1.0, *,
    iterations: int = 1000, tolerance: float = 1e-8,
) -> Probe:
    """The minimum of eq:linear-probe, by L-BFGS in float64; a strictly convex problem, so that it is the only
    one.

    Starts at zero and stops when no entry of the gradient of the loss per example exceeds ``tolerance``. A
    class without examples gets a low score. Raises ``ValueError`` for labels outside 0..classes-1, features
    that are not finite, no examples, and a penalty that is not positive.
    """
    if len(features) != len(labels) or not len(features):
        raise ValueError(f"{len(features)} rows of features and {len(labels)} labels; give one label a row, "
                         f"and 1 row or more")
    if not (0 <= int(labels.min()) and int(labels.max()) < classes):
        raise ValueError(f"labels go from {int(labels.min())} to {int(labels.max())}, the classes from 0 to "
                         f"{classes - 1}")
    if not bool(features.isfinite().all()):
        raise ValueError("some features are not finite; look for NaN in the embeddings")
    if not 0 < penalty < math.inf:
        raise ValueError(f"penalty is {penalty}; without regularisation separable classes have no optimum, "
                         f"give a positive number")
    x, y = features.detach().double(), labels.long()
    # L-BFGS starts as gradient descent, which wants curvatures of one size: W is searched as V / s, so that
    # penalty and
    # data together bend V about as much as they bend the bias.
    s = (penalty / len(x) + x.square().mean()) ** 0.5
    V = torch.zeros(classes, x.shape[1], dtype=x.dtype, device=x.device, requires_grad=True)
    b = torch.zeros(classes, dtype=x.dtype, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([V, b], max_iter=iterations, history_size=20, tolerance_grad=tolerance,
                                  tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = probe_loss(V / s, b, x, y, penalty) / len(x)  # per example: the same minimum, better scaled
        loss.backward()
        return loss.detach()

    with torch.enable_grad():
        optimizer.step(closure)
    return Probe((V / s).detach(), b.detach(), float(penalty))


def search_penalty(
    accuracy: Callable[[float], float],
) -> tuple[float, dict[float, float]]:
    """The penalty of the grid 10^-6 … 10^6 (eight a decade) with the highest validation accuracy, coarse to
    fine.

    Seven values two decades apart first, then the neighbours of the best at half the distance, four times
    (app. A.3). ``accuracy(penalty)`` is called for at most 15 of the 97; of equally good ones the one in
    their middle wins. Returns the penalty and all that was measured.
    """
    found: dict[int, float] = {}
    step, tried = 16, list(EIGHTHS[::16])
    while True:
        for n in tried:
            if n in EIGHTHS and n not in found:
                found[n] = accuracy(10 ** (n / 8))
        tied = sorted(n for n in found if found[n] == max(found.values()))
        best = tied[len(tied) // 2]
        if step == 1:
            tried_all = {10 ** (n / 8): found[n] for n in sorted(found)}
            return 10 ** (best / 8), tried_all
        step //= 2
        tried = [best - step, best + step]


def linear_probe(
    train: tuple[Float[Tensor, "n f"], Int[Tensor, " n"]],
    val: tuple[Float[Tensor, "m f"], Int[Tensor, " m"]], classes: int, *, iterations: int = 1000,
) -> tuple[Probe, dict[float, float]]:
    """The paper's protocol: search the penalty on ``val``, then fit on ``train`` and ``val`` together.

    Returns the probe and the validation accuracy of every penalty that was tried.
    """
    penalty, tried = search_penalty(
        lambda p: fit_probe(*train, classes, p, iterations=iterations).accuracy(*val)
    )
    both = torch.cat([train[0], val[0]]), torch.cat([train[1], val[1]])
    return fit_probe(*both, classes, penalty, iterations=iterations), tried


# ----------------------------------------------------------------------------------------------- few examples

def draw_shots(labels: Int[Tensor, " n"], shots: int, classes: int,
               generator: torch.Generator) -> Int64[Tensor, " k"]:
    """Row numbers of ``shots`` examples a class, drawn without replacement.

    Raises ``ValueError`` if a class has fewer.
    """
    chosen = []
    for c in range(classes):
        rows = (labels == c).nonzero()[:, 0]
        if len(rows) < shots:
            raise ValueError(f"class {c} has {len(rows)} examples, {shots} are wanted; draw more pictures or "
                             f"ask for fewer shots")
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:shots]])
    return torch.cat(chosen)


def few_shot_curve(
    train: tuple[Float[Tensor, "n f"], Int[Tensor, " n"]],
    test: tuple[Float[Tensor, "m f"], Int[Tensor, " m"]], classes: int, *,
    shots: Sequence[int] = (1, 2, 4, 8, 16), draws: int = 3, penalty: float | int = 1.0, seed: int = 0,
) -> dict[int, list[float]]:
    """Test accuracy of probes fitted on k examples a class, ``draws`` times each, by k.

    Every draw is new: no set contains a smaller one. The penalty is given and not searched, because with one
    example a class there is nothing left to validate on; features are best of length 1, where 1 is a mild
    penalty.
    """
    generator = torch.Generator().manual_seed(seed)
    curve: dict[int, list[float]] = {}
    for k in shots:
        curve[k] = []
        for _ in range(draws):
            rows = draw_shots(train[1], k, classes, generator)
            curve[k].append(fit_probe(train[0][rows], train[1][rows], classes, penalty,
                                      tolerance=1e-6).accuracy(*test))
    return curve


def labels_worth(curve: dict[int, list[float]], accuracy: float) -> float:
    r"""eq:labels-worth: with $a(k_1)\le a<a(k_2)$ neighbours on the curve,
    $\log k=\log k_1+\frac{a-a(k_1)}{a(k_2)-a(k_1)}\log\frac{k_2}{k_1}$.

    The number of labelled examples a class with which a probe becomes as accurate as a classifier without any
    (sec. 3.1.5: interpolation that is linear in log k). Below the first point 0, beyond the last infinite.
    """
    points = [(k, sum(values) / len(values)) for k, values in sorted(curve.items())]
    if accuracy < points[0][1]:
        return 0.0
    for (k1, a1), (k2, a2) in zip(points, points[1:]):
        if a1 <= accuracy < a2:
            return math.exp(math.log(k1) + (accuracy - a1) / (a2 - a1) * math.log(k2 / k1))
    return math.inf
