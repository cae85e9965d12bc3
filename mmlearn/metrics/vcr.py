r"""Visual commonsense reasoning: the right answer, the right reason for it, and both.

Paper: R. Zellers et al. (2019), *From Recognition to Cognition: Visual Commonsense Reasoning*,
arXiv:1811.10830, sec. 2.  Survey: 5.
Differs from the paper: nothing. Each question has four answers, and the right answer four reasons; a reason
is always chosen in sight of the right answer, and the joint number counts the questions where both choices
are right. Who guesses is right in 1/4, 1/4 and 1/16 of them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CHOICES = 4
CHANCE = {"Q->A": 1 / CHOICES, "QA->R": 1 / CHOICES, "Q->AR": 1 / CHOICES**2}


@dataclass(frozen=True)
class VCRScores:
    """Shares of questions from 0 to 1."""

    answer: float               # Q->A
    rationale: float            # QA->R, given the right answer
    joint: float                # Q->AR, both right

    def table(self) -> dict[str, float]:
        """The shares under the names of the paper."""
        return {"Q->A": self.answer, "QA->R": self.rationale, "Q->AR": self.joint}


def joint_accuracy(
    answered: Bool[Tensor, " n"], explained: Bool[Tensor, " n"]
) -> float:
    r"""eq:vcr-joint: $\frac1n\sum_{i=1}^n[\hat a_i=a_i]\,[\hat r_i=r_i]$: the share of questions whose answer
    and whose reason were both chosen rightly."""
    return float((answered & explained).double().mean())


def vcr_scores(answers: Int[Tensor, " n"], rationales: Int[Tensor, " r"],
               right_answers: Int[Tensor, " m"], right_rationales: Int[Tensor, " k"]) -> VCRScores:
    """The three accuracies of chosen answers and reasons, numbers from 0 to 3.

    Raises ``ValueError`` for lists of different length, for empty ones, and for numbers outside 0..3.
    """
    given = {"answers": answers, "rationales": rationales, "right_answers": right_answers,
             "right_rationales": right_rationales}
    if len({len(one) for one in given.values()}) > 1 or not len(answers):
        counts = ", ".join(f"{len(one)} {name}" for name, one in given.items())
        raise ValueError(f"there are {counts}; give one of each a question, and at least one question")
    for name, one in given.items():
        if one.min() < 0 or one.max() >= CHOICES:
            raise ValueError(f"{name} go from {int(one.min())} to {int(one.max())}; there are {CHOICES} "
                             f"choices, numbered from 0")
    answered, explained = answers == right_answers, rationales == right_rationales
    return VCRScores(float(answered.double().mean()), float(explained.double().mean()),
                     joint_accuracy(answered, explained))


def choose(logits: Float[Tensor, "n c"]) -> Int[Tensor, " n"]:
    """The choice with the largest logit of each question; of equals the first. Raises ``ValueError`` unless
    there are four a question, and for what is not a number."""
    if logits.shape[1] != CHOICES:
        raise ValueError(f"there are {logits.shape[1]} logits a question; give one for each of {CHOICES} "
                         f"choices")
    if torch.isnan(logits).any():
        raise ValueError("some logits are not a number; look for the step that made them")
    return logits.argmax(dim=1)
