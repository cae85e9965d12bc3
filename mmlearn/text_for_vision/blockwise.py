r"""The symmetric contrastive loss, its gradient with it, a block of rows at a time.

Paper: A. Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*,
arXiv:2103.00020, sec. 2.3 and fig. 3 (the loss); the running log-sum-exp is M. Milakov and N. Gimelshein
(2018), *Online normalizer calculation for softmax*, arXiv:1805.02867.  Survey: 4.2.1.
Differs from the paper: nothing in the result. Autograd keeps several b x b matrices (and needs six products
where each direction has logits of its own); here it is three products and one matrix, or four products and
none (``keep``). Where the matrix is kept and its numbers lie close enough, one exponential of each serves
its row and its column.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Scale = Float[Tensor, ""] | float | int            # e^t = 1 / tau
ENTRIES = {"cpu": 2**24}  # numbers of a block (64 MB in float32) by device: large enough that
MORE_ENTRIES = 2**26                               # threads are rarely waited for; and on an accelerator
SPAN = 80.0                    # between logits whose exponentials float32 holds beside that of the largest


def single(x: Tensor) -> Tensor:
    """At least single precision: 16-bit embeddings are multiplied and exponentiated as float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def check_pairs(u: Tensor, v: Tensor) -> None:
    """Refuse image and text embeddings that are not pairs."""
    if u.shape != v.shape or u.ndim != 2 or len(u) == 0:
        raise ValueError(f"images have shape {tuple(u.shape)}, texts {tuple(v.shape)}; row i of both is pair "
                         f"i, "
                         "so give two tensors (b, e) of the same shape with b of at least 1")


def check_chunk(chunk: int | None) -> None:
    """Refuse blocks without rows."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; a block has at least 1 row")


def rows_at_once(u: Tensor, columns: int, chunk: int | None) -> int:
    """Rows of a block: as asked for, else as many as make a block of the size that suits the device."""
    check_chunk(chunk)
    return chunk or max(1, ENTRIES.get(u.device.type, MORE_ENTRIES) // columns)


def running_logsumexp(
    most: Float[Tensor, " c"], total: Float[Tensor, " c"],
    block: Float[Tensor, "b c"]
) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    r"""eq:running-logsumexp: $m'_j=\max(m_j,\max_i\ell_{ij})$,
    $Z'_j=Z_je^{m_j-m'_j}+\sum_ie^{\ell_{ij}-m'_j}$: more rows of the columns whose log-sum-exp is $m+\log Z$;
    starts with $m=-\infty$, $Z=0$."""
    larger = torch.maximum(most, block.amax(dim=0))
    new = (block - larger).exp_().sum(dim=0)
    return larger, total * (most - larger).exp() + new


def needs_gradient(*inputs: Tensor | float | int) -> bool:
    """Whether autograd will ask for the gradient of any of them."""
    return torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)


class SymmetricLoss(torch.autograd.Function):
    r"""eq:clip-loss with the gradient eq:clip-gradient, worked out while the loss is: backward only
    multiplies.

    A first pass over blocks of rows leaves the log-sum-exp of every row and column, a second one the gradient
    $G=\frac1{2b}(P+Q-2I)$ block by block, with $\partial u=e^tGv$, $\partial v=e^tG^\top u$ and
    $\partial e^t=\sum_iu_i^\top(Gv)_i$. With ``keep`` the logits are one matrix, worked out once; if none is
    further than ``SPAN`` from another, $E=e^{\ell-\max\ell}$ with its row sums r and column sums c gives all:
    $P+Q=E_{ij}(1/r_i+1/c_j)$.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, scale: Tensor | float | int, chunk: int, keep: bool,
                gradient: bool) -> Tensor:
        ctx.types = u.dtype, v.dtype, scale.dtype if isinstance(scale, Tensor) else None
        with torch.autocast(u.device.type, enabled=False):
            u, v = single(u.detach()), single(v.detach())
            factor = scale.detach().to(u) if isinstance(scale, Tensor) else scale
            b, texts = len(u), v.mT
            images = u * factor
            parts = [slice(i, min(i + chunk, b)) for i in range(0, b, chunk)]
            if keep:
                logits = torch.mm(images, texts)
                low, high = logits.aminmax()
                if high - low <= SPAN:
                    loss, found = _one_exponential(logits, high, images, u, v, factor, gradient)
                    if gradient:
                        ctx.save_for_backward(*found)
                    return loss
            else:
                logits = u.new_empty(min(chunk, b), b)

            def block(part: slice) -> Tensor:
                if keep:
                    return logits[part]
                return torch.mm(images[part], texts, out=logits[: part.stop - part.start])

            rows, pairs = u.new_empty(b), u.new_empty(b)
            most, total = u.new_full((b,), -math.inf), u.new_zeros(b)
            for part in parts:
                l = block(part)
                rows[part] = l.logsumexp(dim=1)
                pairs[part] = l.diagonal(part.start)
                most, total = running_logsumexp(most, total, l)
            columns = most + total.log()
            loss = ((rows + columns) / 2 - pairs).mean()
            if gradient:
                ctx.save_for_backward(*_symmetric_gradient(images, u, v, parts, block, rows, columns, factor))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if kind is None else (outer * found).to(kind)
                 for found, kind in zip(ctx.saved_tensors, ctx.types)), None, None, None


def _one_exponential(logits: Tensor, high: Tensor, images: Tensor, u: Tensor, v: Tensor,
                     factor: Tensor | float | int, gradient: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss, and its gradient with respect to u, v and the scale if it is asked for; overwrites the
    logits, 256 rows at a time, so that they stay in the cache between one operation and the next."""
    b, pairs = len(u), logits.diagonal().clone()
    blocks = logits.split(256)
    rows, columns = [], torch.zeros_like(pairs)
    for l in blocks:
        E = l.sub_(high).exp_()
        rows.append(E.sum(dim=1))
        columns += E.sum(dim=0)
    loss = ((torch.cat(rows).log() + columns.log()) / 2 + high - pairs).mean()
    if not gradient:
        return loss, ()
    for E, row in zip(blocks, rows):
        E *= 1 / row[:, None] + 1 / columns                             # P + Q
    logits.diagonal().sub_(2)
    pulled = logits @ v                                                 # G v, still without 1 / 2b
    grad_v = logits.mT @ images                                         # e^t G' u
    grad_scale = (u * pulled).sum()
    return loss, (pulled.mul_(factor / (2 * b)), grad_v.div_(2 * b), grad_scale / (2 * b))


def _symmetric_gradient(images: Tensor, u: Tensor, v: Tensor, parts: list[slice], block: Any, rows: Tensor,
                        columns: Tensor, factor: Tensor | float | int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the mean loss with respect to u, v and the scale; overwrites the blocks."""
    b = len(u)
    grad_u, grad_v, grad_scale = torch.empty_like(u), torch.zeros_like(v), u.new_zeros(())
    for part in parts:
        l = block(part)
        g = (l - rows[part, None]).exp_()                               # P
        g += l.sub_(columns).exp_()                                     # P + Q
        g.diagonal(part.start).sub_(2)
        pulled = torch.mm(g, v, out=grad_u[part])                       # G v, still without 1 / 2b
        grad_scale += (u[part] * pulled).sum()
        grad_v.addmm_(g.mT, images[part])                               # e^t G' u
    return grad_u.mul_(factor / (2 * b)), grad_v.div_(2 * b), grad_scale / (2 * b)


def symmetric_loss(u: Float[Tensor, "b e"], v: Float[Tensor, "c d"], scale: Scale, chunk: int | None = None,
                   keep: bool = True) -> Float[Tensor, ""]:
    """The loss of b pairs in blocks of ``chunk`` rows (default: by device), the logits kept in between or
    not."""
    check_pairs(u, v)
    return SymmetricLoss.apply(u, v, scale, rows_at_once(u, len(v), chunk), keep, needs_gradient(u, v, scale))
