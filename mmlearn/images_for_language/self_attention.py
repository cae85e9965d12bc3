r"""Self-attention as matrices: all tokens at once, in no order, where a recurrent network goes one by one.

Paper: A. Vaswani et al. (2017), *Attention Is All You Need*, arXiv:1706.03762, sec. 3.2 and 4, table 1.
Survey: 3.5.  Differs from the paper: nothing.  The parts of a Transformer are those of ``mmlearn.nn``
(eq:attention, eq:multi-head, eq:add-norm, eq:sinusoid); here is what is said of them: that they are one
product of matrices, that they do not know an order, and what they cost beside a recurrence.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.nn.attention import attention


def one_query(
    x: Float[Tensor, " d"], X: Float[Tensor, "t d"], W_q: Float[Tensor, "d e"],
    W_k: Float[Tensor, "d e"], W_v: Float[Tensor, "d v"],
) -> Float[Tensor, " v"]:
    r"""eq:attention-row: $z_i=\sum_ja_{ij}\,x_jW_v$ with
    $a_{ij}=\exp(s_{ij})/\sum_k\exp(s_{ik})$, $s_{ij}=x_iW_q\cdot x_jW_k/\sqrt{d_k}$: one token."""
    q = x @ W_q
    scores = [q @ (other @ W_k) / math.sqrt(len(q)) for other in X]
    shares = torch.stack(scores).exp()
    shares = shares / shares.sum()
    read = [share * (other @ W_v) for share, other in zip(shares, X)]
    return torch.stack(read).sum(dim=0)


def self_attention(
    X: Float[Tensor, "*b t d"], W_q: Float[Tensor, "d e"],
    W_k: Float[Tensor, "d e"], W_v: Float[Tensor, "d v"],
) -> Float[Tensor, "*b t v"]:
    r"""eq:self-attention: $Z=\mathrm{softmax}\big(XW_q(XW_k)^\top/\sqrt{d_k}\big)XW_v$: eq:attention-row
    of all tokens, in four products of matrices."""
    return attention(X @ W_q, X @ W_k, X @ W_v)


def recurrence(
    X: Float[Tensor, "*b t d"], W_x: Float[Tensor, "d e"],
    W_h: Float[Tensor, "e e"], b: Float[Tensor, " e"],
) -> Float[Tensor, "*b t e"]:
    r"""eq:recurrence: $h_i=\tanh(x_iW_x+h_{i-1}W_h+b)$, $h_0=0$: token i waits for token i-1."""
    inputs = X @ W_x + b                    # what needs no waiting, at once
    h, states = torch.zeros_like(inputs[..., 0, :]), []
    for i in range(X.shape[-2]):
        h = torch.tanh(inputs[..., i, :] + h @ W_h)
        states.append(h)
    return torch.stack(states, dim=-2)


def equivariance_gap(
    f: Callable[[Tensor], Tensor], X: Float[Tensor, "*b t d"],
    order: Int[Tensor, " t"],
) -> float:
    r"""eq:equivariance: $f(PX)=P\,f(X)$ for a permutation P of the tokens: the largest number by which the
    two sides differ.

    0 says that ``f`` does not know the order of its tokens.
    """
    return float((f(X[..., order, :]) - f(X)[..., order, :]).abs().max())


def influence(
    f: Callable[[Tensor], Tensor], X: Float[Tensor, "t d"], at: int = -1
) -> Float[Tensor, " t"]:
    r"""eq:influence: $g_j=\|\partial f(X)_i/\partial x_j\|$: how much each token moves the state of token
    ``at`` (i)."""
    def state(x: Tensor) -> Tensor:
        return f(x)[at]

    jacobian = torch.autograd.functional.jacobian(state, X)             # e t d
    return jacobian.movedim(1, 0).flatten(1).norm(dim=1)


class Cost(NamedTuple):
    """Of a layer: multiplications, steps that wait for each other, and steps between the two furthest
    tokens."""

    multiplications: int
    waits: int
    path: int


def attention_cost(t: int, d: int) -> Cost:
    r"""eq:attention-cost: $2t^2d$ multiplications for t tokens of width d, $O(1)$ waits, a path of 1.

    Those of scores and of values; the projections of queries, keys and values, $3td^2$, are not in it, as the
    projection of a recurrence's input is not in eq:recurrence-cost.
    """
    return Cost(2 * t * t * d, 1, 1)


def recurrence_cost(t: int, d: int) -> Cost:
    r"""eq:recurrence-cost: $td^2$ multiplications, t waits, a path of t - 1 from the first token to the
    last."""
    return Cost(t * d * d, t, t - 1)
