r"""Group norm, a scale and a shift, SiLU and dropout in one step that keeps little for the backward pass.

Papers: Y. Wu and K. He (2018), *Group Normalization*, arXiv:1803.08494; P. Dhariwal and A. Nichol (2021),
arXiv:2105.05233, app. A (the scale and the shift).  Survey: 2.3.
Differs from the papers: nothing in the result. Autograd keeps what goes into each of the four, and what was
dropped; here it is what goes into the first, and which numbers stay, a byte each. What lies between is
computed again on the way back, which costs little beside the convolutions around it.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Map = Float[Tensor, "b c *s"]
PerChannel = Float[Tensor, "b c"]
Moments = tuple[Tensor, Tensor, Tensor]


def norm_activation(
    x: Float[Tensor, "b c *s"], norm: nn.GroupNorm, scale: Float[Tensor, "b c"] | None = None,
    shift: Float[Tensor, "b c"] | None = None, dropout: float | int = 0
) -> Float[Tensor, "b c *s"]:
    r"""eq:norm-activation: $\mathrm{SiLU}\big((1+s)\odot\mathrm{GN}(x)+b\big)$, then dropout with the
    probability ``dropout``.

    Without ``scale`` and ``shift`` (both or neither) it is SiLU of the norm. In the dtype of ``x``.
    """
    return NormActivation.apply(x, norm.weight, norm.bias, scale, shift, norm.num_groups, norm.eps,
                                float(dropout))


def normalised(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Moments:
    """Group norm with the mean and the inverse deviation of every group, in the precision of ``weight``."""
    return torch.native_group_norm(in_order(x.to(weight.dtype)), weight, bias, *sizes(x), groups, eps)


def in_order(x: Tensor) -> Tensor:
    """A map as the kernels take it: an accelerator wants one channel behind the other, the CPU takes any."""
    return x if x.device.type == "cpu" else x.contiguous()


def sizes(x: Tensor) -> tuple[int, int, int]:
    """Pictures, channels, places of a map."""
    return len(x), x.shape[1], math.prod(x.shape[2:])


def per_place(numbers: Tensor, x: Tensor) -> Tensor:
    """Numbers (b, c) to stand beside a map (b, c, …)."""
    return numbers.to(x.dtype).view(*numbers.shape, *[1] * (x.ndim - 2))


class NormActivation(torch.autograd.Function):
    """See ``norm_activation``. Kept are the map, the parameters, two numbers a group and what dropout
    left."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor | None,
                shift: Tensor | None, groups: int, eps: float, dropout: float) -> Tensor:
        y, mean, inverse = normalised(x, weight, bias, groups, eps)
        if scale is not None and shift is not None:
            y = torch.addcmul(per_place(shift, y), y, 1 + per_place(scale, y))
        y = F.silu(y, inplace=True).to(x.dtype)
        left = None
        if dropout:
            left = torch.rand_like(y, dtype=torch.float32) >= dropout
            y = y.mul_(left).div_(1 - dropout) if dropout < 1 else y.zero_()
        ctx.save_for_backward(x, weight, bias, scale, shift, mean, inverse, left)
        ctx.groups, ctx.eps, ctx.dropout = groups, eps, dropout
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, scale, shift, mean, inverse, left = ctx.saved_tensors
        y = normed = normalised(x, weight, bias, ctx.groups, ctx.eps)[0]
        if left is not None:
            gradient = (gradient * left).div_(1 - ctx.dropout) if ctx.dropout < 1 else gradient * 0
        by_scale = by_shift = None
        if scale is not None:
            y = torch.addcmul(per_place(shift, y), y, 1 + per_place(scale, y))
        gradient = torch.ops.aten.silu_backward(gradient.to(y.dtype), y)
        if scale is not None:
            by_shift = gradient.flatten(2).sum(dim=2).to(shift.dtype)
            by_scale = normed.mul_(gradient).flatten(2).sum(dim=2).to(scale.dtype)
            gradient = gradient.mul_(1 + per_place(scale, y))
        by_x, by_weight, by_bias = torch.ops.aten.native_group_norm_backward(
            in_order(gradient), in_order(x.to(weight.dtype)), mean, inverse, weight, *sizes(x), ctx.groups,
            [True, True, True])
        return by_x.to(x.dtype), by_weight, by_bias, by_scale, by_shift, None, None, None
