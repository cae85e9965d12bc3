r"""How well was walked: success, success weighted by path length, oracle success, navigation error.

Papers: P. Anderson et al. (2018), *On Evaluation of Embodied Navigation Agents*, arXiv:1807.06757
(an episode succeeds if the agent itself says that it has arrived, near the goal; SPL); P. Anderson et al.
(2018), *Vision-and-Language Navigation*, CVPR, arXiv:1711.07280 (error, oracle success).
Survey: 5.  Differs from the papers: a success needs the walker's own stop as the first demands; the second,
whose agents all stop at the end of time, does not ask for it. A walk that begins at its goal ($\ell=p=0$)
and stops there counts 1, of which the formula says nothing. Distances are in whatever unit is given.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor


def navigation_error(to_goal: Num[Tensor, "b t"]) -> Num[Tensor, " b"]:
    r"""eq:nav-error: $d(x_{i,T},g_i)$, how far from its goal each walk ends."""
    return to_goal[:, -1]


def success(
    error: Num[Tensor, " b"], stopped: Bool[Tensor, " b"],
    radius: float | int = 0
) -> Bool[Tensor, " b"]:
    r"""eq:nav-success: $S_i=1$ if the walker stopped by itself at most a radius from the goal, else 0."""
    return stopped & (error <= radius)


def oracle_success(
    to_goal: Num[Tensor, "b t"], radius: float | int = 0
) -> Bool[Tensor, " b"]:
    r"""eq:nav-oracle: was it within the radius at any time: $\min_td(x_{i,t},g_i)\le r$; what a walker that
    knew when to stop would have reached on the same trail."""
    return to_goal.amin(dim=1) <= radius


def path_share(
    shortest: Num[Tensor, " b"], taken: Num[Tensor, " b"]
) -> Float[Tensor, " b"]:
    r"""eq:nav-share: $\ell_i/\max(p_i,\ell_i)$: the shortest way in parts of the way that was taken; 1 where
    both are 0."""
    longer = torch.maximum(taken, shortest)
    return torch.where(longer > 0, shortest / longer.clamp(min=1e-12), 1.0)


def spl(
    successes: Bool[Tensor, " b"], shortest: Num[Tensor, " b"],
    taken: Num[Tensor, " b"]
) -> Float[Tensor, ""]:
    r"""eq:nav-spl: $\mathrm{SPL}=\frac1N\sum_iS_i\,\ell_i/\max(p_i,\ell_i)$: success weighted by (normalised
    inverse) path length, at most the rate of success."""
    return (successes * path_share(shortest, taken)).mean()


@dataclass(frozen=True)
class NavigationScores:
    """Means over walks: ``success``, ``oracle_success`` and ``spl`` in [0, 1]; ``error``, the distance to the
    goal at the end, and ``length`` of the way that was taken, in the unit of the distances."""

    success: float
    spl: float
    oracle_success: float
    error: float
    length: float
    walks: int


def navigation_scores(
    to_goal: Num[Tensor, "b t"], stopped: Bool[Tensor, " b"], shortest: Num[Tensor, " b"],
    taken: Num[Tensor, " b"], radius: float | int = 0,
) -> NavigationScores:
    """Scores of trails: ``to_goal`` is the distance of every place of a trail to the goal, the last one
    repeated to the end of the longest; ``shortest`` from the start, ``taken`` the length of the way.

    Raises ``ValueError`` if there is no walk, a distance is negative (no way leads there), or a successful
    walk of radius 0 is shorter than the shortest.
    """
    if not len(to_goal):
        raise ValueError("there is no walk to score; give at least one")
    if any((x < 0).any() for x in (to_goal, shortest, taken)):
        raise ValueError("a distance is negative: no way leads from there to the goal; leave such walks out")
    error = navigation_error(to_goal)
    good = success(error, stopped, radius)
    if radius == 0 and (good & (taken < shortest)).any():
        i = int((good & (taken < shortest)).nonzero()[0])
        raise ValueError(f"walk {i} reached its goal by {float(taken[i]):g}, shorter than the shortest way "
                         f"{float(shortest[i]):g}; give both in the same unit")
    return NavigationScores(float(good.float().mean()), float(spl(good, shortest, taken)),
                            float(oracle_success(to_goal, radius).float().mean()),
                            float(error.float().mean()), float(taken.float().mean()), len(to_goal))
