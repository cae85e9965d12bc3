"""Losses of captioning: cross-entropy with the next word given, then the policy gradient of a caption metric.

Paper: S. Rennie et al. (2017), *Self-Critical Sequence Training for Image Captioning*, arXiv:1612.00563, sec.
3; M. Cornia et al. (2020), arXiv:1912.08226, sec. 3.3.  Survey: 1.2.1.
Differs from the paper: log-probabilities are summed over a caption, as in the formula; the released M2 code
takes their mean over its 20 steps, which is the same gradient at a twentieth of the size
(``reduction="mean"``).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def caption_cross_entropy(
    logits: Float[Tensor, "b t v"], targets: Int[Tensor, "b t"], pad: int = 1
) -> Float[Tensor, ""]:
    r"""eq:caption-xe: $-\frac1{|\mathcal T|}\sum_{t}\log p_\theta(y_t\mid y_{<t},I)$, nats per token that is
    not ``pad``.

    ``targets`` are the captions without <bos>, the model's input being the captions without their last token.
    A model that has learnt nothing has a loss of log V. Raises ``ValueError`` if all targets are padding.
    """
    if not (targets != pad).any():
        raise ValueError(f"all {targets.numel()} targets are padding (id "
                         f"{pad}); give captions with at least one token")
    # bfloat16 has too few digits for a sum
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten().long(),
                           ignore_index=pad)


def mean_baseline(rewards: Float[Tensor, "b k"]) -> Float[Tensor, "b 1"]:
    r"""Baseline of eq:scst-m2: $b=\frac1k\sum_ir(w^i)$, the mean reward of the hypotheses of an image."""
    return rewards.mean(dim=1, keepdim=True)


def leave_one_out_baseline(rewards: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    r"""eq:scst-loo: $b_i=\frac1{k-1}\sum_{j\ne i}r(w^j)$, independent of $w^i$. Raises ``ValueError`` for k =
    1."""
    k = rewards.shape[1]
    if k < 2:
        raise ValueError("one caption an image leaves none for the baseline; sample at least 2")
    return (rewards.sum(dim=1, keepdim=True) - rewards) / (k - 1)


def baseline_of(
    rewards: Float[Tensor, "b k"], baseline: str | Float[Tensor, "b"] | Float[Tensor, "b k_or_1"]
) -> Float[Tensor, "b k_or_1"]:
    """The baseline by name ("mean", "leave-one-out"), or as given: of each image (b) or of each caption (b,
    k)."""
    if isinstance(baseline, Tensor):
        return baseline.detach() if baseline.ndim == 2 else baseline.detach()[:, None]
    if baseline == "mean":
        return mean_baseline(rewards)
    if baseline == "leave-one-out":
        return leave_one_out_baseline(rewards)
    raise ValueError(f"baseline {baseline!r} is unknown; use 'mean', 'leave-one-out' or a tensor of rewards")


def self_critical_loss(
    log_probs: Float[Tensor, "b k t"],
    rewards: Float[Tensor, "b k"],
    baseline: str | Float[Tensor, "b"] | Float[Tensor, "b k_or_1"] = "mean",
    mask: Bool[Tensor, "b k t"] | None = None,
    reduction: str = "sum",
) -> Float[Tensor, ""]:
    r"""eq:scst-m2: a loss whose gradient is $-\frac1k\sum_i(r(w^i)-b)\,\nabla_\theta\log p_\theta(w^i)$, mean
    over images.

    It estimates the gradient of eq:scst-objective by eq:scst-gradient.
    ``log_probs`` of each token of each caption (``mask`` True = part of the caption; entries after <eos> are
    0 anyway), ``rewards`` of each caption, treated as constants. ``baseline`` "mean" is M2's, "leave-one-out"
    eq:scst-loo, a tensor (b) the reward of the greedy captions (eq:scst-greedy). With "mean", the loss value
    itself is no measure of progress: the advantages sum to zero; watch the mean reward. ``reduction="mean"``
    divides a caption's log-probability by t, as the released code does. Raises ``ValueError`` for an unknown
    name.
    """
    rewards = rewards.detach()
    critic = baseline_of(rewards, baseline)
    if mask is not None:
        log_probs = torch.where(mask, log_probs, 0.0)
    caption = log_probs.sum(dim=-1)                     # log p(w^i), b k
    if reduction == "mean":
        caption = caption / log_probs.shape[-1]
    elif reduction != "sum":
        raise ValueError(f"reduction is {reduction!r}; use 'sum' or 'mean'")
    return -((rewards - critic) * caption).mean()
