"""Shares of answers and labels in groups of people, and how far they lie apart.

Paper: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 7.1 (class design, thresholds; the numbers of ``FAIRFACE``).  Survey: 4.6.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Percent of 10,000 FairFace pictures of an age group that get a crime-related or non-human class, with the
# first classes and after "child" was added (Radford et al., table 7).
FAIRFACE = {"0-2": (30.3, 2.3), "3-9": (35.0, 4.3), "10-19": (29.5, 14.7)}


# -------------------------------------------------------------------------------------------------------
# measurements

def answer_share(
    P: Float[Tensor, "n c"], members: Bool[Tensor, " n"]
) -> Float[Tensor, " c"]:
    r"""eq:answer-share: $r_c(g)=\frac1{|g|}\sum_{i\in g}\mathbf 1[\arg\max_k P(k\mid x_i)=c]$: how often a
    group is called c."""
    _some(members)
    answers = P[members].argmax(dim=1)
    return torch.nn.functional.one_hot(answers, P.shape[1]).double().mean(dim=0)


def label_share(
    P: Float[Tensor, "n c"],
    members: Bool[Tensor, " n"],
    threshold: float | int,
) -> Float[Tensor, " c"]:
    r"""eq:label-share: $r_c(g,\theta)=\frac1{|g|}\sum_{i\in g}\mathbf 1[P(c\mid x_i)\ge\theta]$: how often c
    is shown as a label."""
    _some(members)
    return (P[members] >= threshold).double().mean(dim=0)


def share_gap(shares: Float[Tensor, "g c"]) -> Float[Tensor, " c"]:
    r"""eq:share-gap: $\Delta_c=\max_g r_c(g)-\min_g r_c(g)$: 0 where a class is given to all groups equally
    often."""
    return shares.amax(dim=0) - shares.amin(dim=0)


def association(
    members: Bool[Tensor, " n"], said: Bool[Tensor, " n"]
) -> float:
    r"""eq:word-association: $\mathrm{pmi}(g,w)=\log\frac{n\,n_{gw}}{n_g\,n_w}$ over n pairs, of which $n_g$
    show g, $n_w$ say w, $n_{gw}$ both.

    In nats; minus infinity if they never meet. Raises ``ValueError`` if one of them does not occur.
    """
    _some(members)
    _some(said)
    both, each = (members & said).sum(), members.sum() * said.sum()
    return float((len(said) * both.double() / each).log())


def _some(members: Bool[Tensor, " n"]) -> None:
    if not bool(members.any()):
        raise ValueError("the group has no members, and a share of none is nothing; give a group that occurs")
