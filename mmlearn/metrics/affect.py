r"""Scores of affective computing: accuracy and the F1 of each class, weighted by how frequent it is.

Paper: A. Zadeh et al. (2018), *Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable
Dynamic Fusion Graph*, ACL (weighted measures for classes, the mean absolute error and Pearson's
correlation for strengths).  Survey: 5.
Differs from the paper: the weighted F1 is the mean of the classes' F1 by their counts, as scikit-learn has
it.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def class_f1(
    answers: Int[Tensor, " n"], truth: Int[Tensor, " n"], classes: int
) -> Float[Tensor, " c"]:
    r"""eq:affect-f1: $F_c=2\,n_{cc}/(n_{c\cdot}+n_{\cdot c})$: examples of class c that were answered c, over
    the mean of those that were answered c and those that are; 0 for a class that neither has."""
    hits = torch.bincount(truth[answers == truth], minlength=classes)
    true = torch.bincount(truth, minlength=classes)
    answered = torch.bincount(answers, minlength=classes)
    return 2 * hits / (true + answered).clamp(min=1)


def weighted_f1(
    answers: Int[Tensor, " n"], truth: Int[Tensor, " n"], classes: int
) -> Float[Tensor, ""]:
    r"""eq:affect-weighted: $\sum_c\frac{n_c}nF_c$ with $n_c$ the examples of class c."""
    share = torch.bincount(truth, minlength=classes) / len(truth)
    return (share * class_f1(answers, truth, classes)).sum()


def strength_error(
    answers: Float[Tensor, " n"], truth: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    r"""eq:affect-error: $\frac1n\sum_i|\hat y_i-y_i|$, the mean absolute error of strengths."""
    return (answers - truth).abs().mean()


def affect_scores(
    answers: Int[Tensor, " n"], truth: Int[Tensor, " n"], classes: int
) -> dict[str, float]:
    """ "accuracy" and "weighted F1" in [0, 1]. Raises ``ValueError`` for no answer, or a class outside 0 to
    ``classes`` - 1."""
    if not len(truth):
        raise ValueError("there is no answer to score; give at least one")
    low, high = int(min(answers.min(), truth.min())), int(max(answers.max(), truth.max()))
    if low < 0 or high >= classes:
        raise ValueError(f"classes go from {low} to {high}, expected 0 to {classes - 1}")
    return {"accuracy": float((answers == truth).float().mean()),
            "weighted F1": float(weighted_f1(answers, truth, classes))}
