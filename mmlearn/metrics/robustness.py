"""Robustness: what accuracy under a shift of distribution is to be expected, and by how much a model beats
that.

Papers: R. Taori et al. (2020), *Measuring Robustness to Natural Distribution Shifts in Image Classification*,
arXiv:2007.00644, sec. 2 (both measures; accuracies on a logit scale); A. Radford et al. (2021),
arXiv:2103.00020, sec. 3.3, fig. 13 and table 16 (the numbers below).  Survey: 4.1 and 4.2.1.  Differs from
the papers: nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SHIFTS = ("ImageNet", "ImageNetV2", "ImageNet-R", "ObjectNet", "ImageNet Sketch", "ImageNet-A")
CLIP_TABLE: dict[str, tuple[float, ...]] = {        # accuracy in percent, columns SHIFTS
    "ResNet-101 (supervised)": (76.2, 64.3, 37.7, 32.6, 25.2, 2.7),
    "CLIP zero-shot (ViT-L/14@336)": (76.2, 70.1, 88.9, 72.3, 60.2, 77.1),
}
# change in points after logistic regression on ImageNet, same columns
CLIP_ADAPTED = (9.2, 5.8, -4.7, -3.8, -2.8, -1.9)


def logit(accuracy: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    r"""eq:accuracy-logit: $\operatorname{logit}(a)=\log\frac{a}{1-a}$, on which accuracies under shift lie on
    a line.

    Raises ``ValueError`` for accuracies of 0 or less, 1 or more.
    """
    if len(accuracy) and not bool(((accuracy > 0) & (accuracy < 1)).all()):
        least, most = float(accuracy.min()), float(accuracy.max())
        raise ValueError(
            f"accuracies go from {least:g} to {most:g}, and a logit needs "
            "0 < a < 1; give fractions, and (right + 1/2) / (n + 1) for none "
            "or all of n"
        )
    return (accuracy / (1 - accuracy)).log()


@dataclass(frozen=True)
class Line:
    """Expected accuracy under shift: a line through reference models on the logit scale."""

    slope: float
    intercept: float

    def expected(self, accuracy: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        r"""eq:robustness-line: $\hat a^{\mathrm{shift}}=\sigma\big(m\operatorname{logit}(a)+c\big)$."""
        return torch.sigmoid(self.slope * logit(accuracy) + self.intercept)


def fit_line(
    accuracy: Float[Tensor, " n"], shifted: Float[Tensor, " m"]
) -> Line:
    r"""eq:robustness-fit: the least-squares line:
    $\min_{m,c}\sum_i\big(\operatorname{logit}a^{\mathrm{shift}}_i-m\operatorname{logit}a_i-c\big)^2$.

    ``accuracy`` in distribution and ``shifted``, of the same reference models, as fractions. Raises
    ``ValueError`` for fewer than two models or models that are all equally accurate.
    """
    if len(accuracy) != len(shifted) or len(accuracy) < 2:
        raise ValueError(
            f"{len(accuracy)} accuracies and {len(shifted)} under shift; give "
            "both for 2 or more reference models"
        )
    x, y = logit(accuracy.double()), logit(shifted.double())
    spread = ((x - x.mean()) ** 2).sum()
    if float(spread) < 1e-12:
        raise ValueError(
            "all reference models have the same accuracy, through which no "
            "line goes; add weaker or stronger ones"
        )
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    return Line(float(slope), float(y.mean() - slope * x.mean()))


def effective_robustness(
    accuracy: Float[Tensor, " n"], shifted: Float[Tensor, " n"], line: Line
) -> Float[Tensor, " n"]:
    r"""eq:effective-robustness: $\Delta_{\mathrm{eff}}=a^{\mathrm{shift}}-\hat a^{\mathrm{shift}}$: accuracy
    beyond what the reference models lead to expect (the paper's rho)."""
    return shifted - line.expected(accuracy)


def relative_robustness(
    after: Float[Tensor, " n"], before: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    r"""eq:relative-robustness:
    $\Delta_{\mathrm{rel}}=a^{\mathrm{shift}}_{\mathrm{after}}-a^{\mathrm{shift}}_{\mathrm{before}}$: what an
    intervention gains under shift (the paper's tau)."""
    return after - before
