r"""SigLIP and LiT: every pair judged alone, and an image tower that is not trained.

Papers: X. Zhai, B. Mustafa, A. Kolesnikov and L. Beyer (2023), *Sigmoid Loss for Language Image
Pre-Training*, ICCV 2023, arXiv:2303.15343; X. Zhai et al. (2022), *LiT: Zero-Shot Transfer with Locked-image
text Tuning*, CVPR 2022, arXiv:2111.07991.  Survey: none (what came after).
Differs from the papers: nothing in the result. The loss is summed in blocks of rows and leaves its gradient
behind as it goes, so that no b x b matrix is ever held; over workers the texts travel in a ring, and their
gradient with them.
"""

import math
import types
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmlearn.text_for_vision.blockwise import Scale, check_pairs, needs_gradient, rows_at_once, single
from mmlearn.text_for_vision.contrastive import logits
from mmlearn.text_for_vision.large_batch import workers

START_SCALE = 10.0      # e^t' at the start, t' = log 10
START_BIAS = -10.0      # b at the start


# ----------------------------------------------------------------------------------------------- the formulas

def pairwise_sigmoid(l: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    r"""eq:sigmoid-loss: $-\frac1b\sum_{i,j}\log\sigma(z_{ij}\ell_{ij})$, with $z_{ij}$ = 1 for pairs, -1
    otherwise, and $\ell_{ij}=e^{t}u_i^\top v_j+\beta$: b² yes-or-no questions."""
    z = 2 * torch.eye(len(l)).to(l) - 1
    return -F.logsigmoid(z * l).sum() / len(l)


def sigmoid_gradient(l: Float[Tensor, "b b"]) -> Float[Tensor, "b b"]:
    r"""eq:sigmoid-gradient: $\partial\mathcal
    L/\partial\ell_{ij}=\frac1b\big(\sigma(\ell_{ij})-\delta_{ij}\big)$: no entry looks at another."""
    return (l.sigmoid() - torch.eye(len(l)).to(l)) / len(l)


def sigmoid_start(b: int, bias: float | int) -> tuple[float, float]:
    r"""eq:sigmoid-start: $\log(1+e^{-\beta})$ for the pair and $(b-1)\log(1+e^{\beta})$ for all others: the
    two parts of each image's loss when all similarities are 0."""
    def softplus(x: float | int) -> float:
        return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
    return softplus(-bias), (b - 1) * softplus(bias)


# --------------------------------------------------------------------------------------------- without matrix

def _add_blocks(u: Tensor, v: Tensor, scale: Tensor | float, bias: Tensor | float, pairs: bool, chunk: int,
                into: list[Tensor] | None) -> Tensor:
    """Sum of the losses of all images with all texts, of which row i and row i are pairs or none are; the
    gradient of that sum is added to ``into``: of u, v, scale and bias."""
    total = torch.zeros((), dtype=torch.float64 if u.device.type != "mps" else u.dtype, device=u.device)
    images = u * scale
    for start in range(0, len(u), chunk):
        part = slice(start, min(start + chunk, len(u)))
        l = images[part] @ v.mT + bias
        if pairs:
            l.diagonal(start).neg_()  # -z l, and its loss is log(1 + e^(-z l))
        total += F.softplus(l).sum()
        if into is not None:
            g = l.sigmoid_()
            if pairs:
                g.diagonal(start).neg_()
            pulled = g @ v
            into[0][part] += pulled * scale
            into[1].addmm_(g.mT, images[part])
            into[2] += (u[part] * pulled).sum()
            into[3] += g.sum()
    return total


class _SigmoidLoss(torch.autograd.Function):
    """eq:sigmoid-loss of this worker's images with all workers' texts, and its gradient with it."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, scale: Tensor | float, bias: Tensor | float, chunk: int,
                count: int, group: Any, gradient: bool) -> Tensor:
        ctx.types = (
            *(x.dtype for x in (u, v)),
            *(x.dtype if isinstance(x, Tensor) else None for x in (scale, bias)),
        )
        with torch.autocast(u.device.type, enabled=False):
            u, v = single(u.detach()), single(v.detach()).contiguous()
            scale, bias = (x.detach().to(u) if isinstance(x, Tensor) else float(x) for x in (scale, bias))
            n = len(u)
            into = [torch.zeros_like(u), torch.zeros_like(v), u.new_zeros(()),
                    u.new_zeros(())] if gradient else None
            total = _add_blocks(u, v, scale, bias, True, chunk, into)
            for _ in range(count - 1):  # the texts go on, their gradient with them
                v = _pass_on(v, group)
                if into is not None:
                    into[1] = _pass_on(into[1], group)
                total = total + _add_blocks(u, v, scale, bias, False, chunk, into)
            if into is not None:
                if count > 1:
                    into[1] = _pass_on(into[1], group)                  # the last step brings it home
                ctx.save_for_backward(*(g / n for g in into))
        return (total / n).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if kind is None else (outer * found).to(kind)
                 for found, kind in zip(ctx.saved_tensors, ctx.types)), None, None, None, None


def _pass_on(x: Tensor, group: Any) -> Tensor:
    """Give a tensor to the next worker of the ring and take that of the previous one."""
    rank, count = workers(group)
    def neighbour(at: int) -> int:
        return dist.get_global_rank(group, at % count) if group is not None else at % count
    received = torch.empty_like(x)
    sending = dist.P2POp(dist.isend, x.contiguous(), neighbour(rank + 1), group=group)
    taking = dist.P2POp(dist.irecv, received, neighbour(rank - 1), group=group)
    for request in dist.batch_isend_irecv([sending, taking]):
        request.wait()
    return received


def sigmoid_loss(u: Float[Tensor, "b e"], v: Float[Tensor, "c d"], scale: Scale, bias: Scale,
                 chunk: int | None = None) -> Float[Tensor, ""]:
    """eq:sigmoid-loss of b pairs of embeddings, in nats per image.

    ``chunk`` is an optimisation: rows of logits that are in memory at once, each block's gradient being
    worked out with its loss; then it is differentiable once. Raises ``ValueError`` if u and v are not pairs,
    and for a chunk below 1.
    """
    check_pairs(u, v)
    if chunk is None:
        return pairwise_sigmoid(logits(u, v, scale) + bias)
    return _SigmoidLoss.apply(u, v, scale, bias, rows_at_once(u, len(v), chunk), 1, None,
                              needs_gradient(u, v, scale, bias))


def distributed_sigmoid_loss(
    u: Float[Tensor, "b e"],
    v: Float[Tensor, "c d"],
    scale: Scale,
    bias: Scale,
    chunk: int | None = None,
    group: Any = None,
) -> Float[Tensor, ""]:
    r"""eq:sigmoid-ring: worker i's share $\frac1n\sum_{k=0}^{W-1}B_{i,i-k}$, where $B_{ij}$ sums the losses
    of the images of i with the texts of j; the mean over workers is eq:sigmoid-loss.

    Each of W workers gives its n pairs, as many as the others, and holds one block of others' texts at a
    time: they travel round a ring. Gradients are averaged over workers afterwards. Without workers this is
    ``sigmoid_loss``.
    """
    check_pairs(u, v)
    if workers(group)[1] == 1:
        return sigmoid_loss(u, v, scale, bias, chunk)
    return _SigmoidLoss.apply(
        u,
        v,
        scale,
        bias,
        rows_at_once(u, len(v), chunk),
        workers(group)[1],
        group,
        needs_gradient(u, v, scale, bias),
    )


# -------------------------------------------------------------------------------------------------------- LiT

def _stay_in_eval(tower: nn.Module, mode: bool = True) -> nn.Module:
    return tower


def lock_image_tower(model: nn.Module, tower: str = "image") -> nn.Module:
    """LiT: freeze the image tower of a dual encoder for good: weights, batch statistics, dropout; returns the
    model.

    The tower is in eval mode afterwards and stays there when the model is put into training mode. ``tower``
    is its name. Raises ``ValueError`` if the model has no such part.
    """
    found = dict(model.named_children()).get(tower)
    if found is None:
        names = ", ".join(name for name, _ in model.named_children())
        raise ValueError(
            f"the model has no part named {tower!r}; "
            f"name its image tower, one of: {names}"
        )
    found.eval().requires_grad_(False)
    stay = types.MethodType(_stay_in_eval, found)
    found.train = stay  # type: ignore[method-assign]
    return model
