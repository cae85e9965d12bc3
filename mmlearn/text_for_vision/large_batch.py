r"""Batches that do not fit: the loss without its matrix, the towers in parts, and the batch over many
workers.

Papers: L. Gao, Y. Zhang, J. Han and J. Callan (2021), *Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup*, arXiv:2101.06983 (gradient caching); A. Radford et al. (2021), arXiv:2103.00020, sec.
2.5 (similarities computed where they are needed); the four ways to gather are those of
github.com/mlfoundations/open_clip.  Survey: none. Differs from the papers: the cached gradient is one
autograd function, so that ``backward()``, gradient clipping and data-parallel training need not know of it.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmlearn.text_for_vision.blockwise import Scale, check_chunk, check_pairs, symmetric_loss
from mmlearn.text_for_vision.contrastive import clip_loss, fused_clip_loss, logits

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


# ----------------------------------------------------------------------------------- without the b x b matrix

def chunked_clip_loss(
    u: Float[Tensor, "b e"], v: Float[Tensor, "c d"], scale: Scale, chunk: int | None = None
) -> Float[Tensor, ""]:
    r"""``clip_loss`` in memory for ``chunk`` x b logits instead of b x b (eq:running-logsumexp), at one more
    product.

    Loss and gradients are those of ``clip_loss``. The default chunk is made for the device.
    Raises ``ValueError`` if u and v are not pairs, and for a chunk below 1.
    """
    return symmetric_loss(u, v, scale, chunk, keep=False)


# ------------------------------------------------------------------------------------------- gradient caching

@contextmanager
def _random_state(states: tuple[Tensor, Tensor | None] | None, device: torch.device) -> Any:
    """Run with earlier states of the random generators, and leave the present ones as they are."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if states is not None:
            torch.set_rng_state(states[0])
            if states[1] is not None:
                torch.cuda.set_rng_state(states[1], device)
        yield


def _random_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


class _CachedLoss(torch.autograd.Function):
    """eq:gradient-cache; its inputs are the model's parameters, so that autograd hands each of them its
    gradient."""

    @staticmethod
    def forward(ctx: Any, model: nn.Module, images: Tensor, tokens: Tensor, chunk: int, loss: Loss,
                gradient: bool, *weights: Tensor) -> Tensor:
        device = images.device
        parts = [slice(i, i + chunk) for i in range(0, len(images), chunk)]
        states, us, vs = [], [], []
        scale = torch.empty(0)
        for part in parts:  # 1. features of all chunks, without a graph
            states.append(_random_states(device))
            u, v, scale = model(images[part], tokens[part])
            us.append(u)
            vs.append(v)
        features = [x.detach().requires_grad_(gradient) for x in (torch.cat(us), torch.cat(vs), scale)]
        with torch.set_grad_enabled(gradient):                          # 2. the loss, and its gradient there
            value = loss(*features)
        if gradient:
            asked = [*features, *weights]  # a loss may use weights itself: SigLIP's bias
            found = torch.autograd.grad(value, asked, allow_unused=True)
            cached = [torch.zeros_like(x) if g is None else g for x, g in zip(features, found)]
            ctx.save_for_backward(images, tokens, *cached, *weights)
            ctx.model, ctx.parts, ctx.states, ctx.direct = model, parts, states, found[3:]
            ctx.autocast = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
        return value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        images, tokens, grad_u, grad_v, grad_scale, *weights = ctx.saved_tensors
        device = images.device
        total = list(ctx.direct)
        enabled, dtype = ctx.autocast
        # 3. each chunk again, with its graph
        for number, (part, states) in enumerate(zip(ctx.parts, ctx.states)):
            with (
                _random_state(states, device),
                torch.enable_grad(),
                torch.autocast(device.type, dtype, enabled),
            ):
                u, v, scale = ctx.model(images[part], tokens[part])
                ends, slopes = [u, v], [grad_u[part], grad_v[part]]
                if number == 0:                                         # the scale is the same in every chunk
                    ends, slopes = [*ends, scale], [*slopes, grad_scale]
                live = [(e, s.to(e)) for e, s in zip(ends, slopes) if e.requires_grad]
                found = torch.autograd.grad([e for e, _ in live], weights, [s for _, s in live],
                                            allow_unused=True) \
                    if live else [None] * len(weights)
            total = [g if t is None else t if g is None else t + g for t, g in zip(total, found)]
        return None, None, None, None, None, None, *(None if g is None else outer * g for g in total)


def cached_loss(model: nn.Module, images: Tensor, tokens: Tensor, chunk: int,
                loss: Loss = fused_clip_loss) -> Float[Tensor, ""]:
    r"""eq:gradient-cache: $\frac{d\mathcal L}{d\theta}=\sum_c\big(\frac{\partial
    U_c}{\partial\theta}\big)^\top\frac{\partial\mathcal L}{\partial U_c}+\big(\frac{\partial
    V_c}{\partial\theta}\big)^\top\frac{\partial\mathcal L}{\partial V_c}$ $+\frac{\partial
    t}{\partial\theta}\frac{\partial\mathcal L}{\partial t}$.

    The loss of the whole batch under a dual encoder ``model(images, tokens) -> (u, v, scale)``, whose
    ``backward()`` gives the gradient of the whole batch in the memory of ``chunk`` pairs; dropout draws the
    same masks twice. ``loss(u, v, scale)`` may use parameters of the model. Raises ``ValueError`` for a chunk
    below 1, for unequal numbers of images and texts, and for batch normalisation in training mode, whose
    statistics would be those of a chunk.
    """
    check_chunk(chunk)
    if len(images) != len(tokens):
        raise ValueError(f"there are {len(images)} images and {len(tokens)} texts; give one text for each "
                         f"image")
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise ValueError(f"{name} normalises over the batch, and would do so over each chunk alone; put "
                             f"it into eval "
                             "mode, or use a tower with layer normalisation")
    weights = [p for p in model.parameters() if p.requires_grad]
    gradient = torch.is_grad_enabled() and bool(weights)
    return _CachedLoss.apply(model, images, tokens, chunk, loss, gradient, *weights)


# ----------------------------------------------------------------------------------------------- many workers

def workers(group: Any = None) -> tuple[int, int]:
    """This worker's rank and the number of workers: (0, 1) where nothing is distributed."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


class _Gather(torch.autograd.Function):
    """Forward: every worker's rows. Backward: the sum over workers of what they say about my rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group, ctx.rows = group, len(x)
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        total = outer.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total[dist.get_rank(ctx.group) * ctx.rows:][: ctx.rows], None


def gather_with_gradient(x: Float[Tensor, "b e"], group: Any = None) -> Float[Tensor, "n e"]:
    """The rows of all workers in the order of their ranks, through which gradients flow back to where they
    belong.

    Every worker must have the same number of rows.
    """
    return x if workers(group)[1] == 1 else _Gather.apply(x, group)


def distributed_clip_loss(
    u: Float[Tensor, "b e"], v: Float[Tensor, "c d"], scale: Scale,
    local_loss: bool = True, gather_with_grad: bool = True, group: Any = None,
) -> Float[Tensor, ""]:
    r"""eq:local-loss: worker r's share $\frac1{2n}\sum_{i\in r}[-\log p_{ii}-\log q_{ii}]$; the mean over
    workers is eq:clip-loss.

    Each of W workers gives its own n pairs, as many as the others; gradients are averaged over workers
    afterwards, as data-parallel training does. With ``local_loss`` a worker scores its rows and its columns,
    n x nW twice, else the whole matrix. Without ``gather_with_grad`` the others' embeddings count as
    constants: the loss is the same, the gradient is not. Without workers this is ``clip_loss``.
    """
    check_pairs(u, v)
    rank, count = workers(group)
    if count == 1:
        return clip_loss(u, v, scale)
    n = len(u)
    if gather_with_grad:
        sent_u, sent_v = u, v
    else:
        sent_u, sent_v = u.detach(), v.detach()
    all_u = gather_with_gradient(sent_u, group)
    all_v = gather_with_gradient(sent_v, group)
    mine = slice(rank * n, (rank + 1) * n)
    return worker_loss(u, v, all_u, all_v, scale, mine, local_loss,
                       gather_with_grad)


def worker_loss(
    u: Float[Tensor, "b e"], v: Float[Tensor, "b e"], all_u: Float[Tensor, "n e"],
    all_v: Float[Tensor, "n e"], scale: Scale, mine: slice, local_loss: bool, gather_with_grad: bool,
) -> Float[Tensor, ""]:
    """What one worker computes from its own pairs, which stand at ``mine``, and from what it has gathered."""
    if local_loss:
        partner = torch.arange(len(all_u), device=u.device)[mine]
        return (F.cross_entropy(logits(u, all_v, scale),
                                partner) + F.cross_entropy(logits(v, all_u, scale), partner)) / 2
    if not gather_with_grad:                        # at least my own rows carry a gradient
        all_u = torch.cat([all_u[: mine.start], u, all_u[mine.stop:]])
        all_v = torch.cat([all_v[: mine.start], v, all_v[mine.stop:]])
    return fused_clip_loss(all_u, all_v, scale)


def simulate_workers(
    u: Float[Tensor, "b e"], v: Float[Tensor, "b e"], scale: Float[Tensor, ""], count: int,
    local_loss: bool = True, gather_with_grad: bool = True,
) -> tuple[float, Float[Tensor, "b e"], Float[Tensor, "b e"], float]:
    """``count`` workers in one process: mean loss, and the averaged gradients of u, v and the scale.

    A gathered copy is the tensor itself where gradients flow through it, else a constant. Raises
    ``ValueError`` if the pairs do not split evenly.
    """
    check_pairs(u, v)
    if count < 1 or len(u) % count:
        raise ValueError(f"{len(u)} pairs do not split evenly over {count} workers")
    n = len(u) // count
    u, v, scale = (x.detach().requires_grad_() for x in (u, v, scale))
    mean = torch.zeros(())
    for rank in range(count):
        mine = slice(rank * n, (rank + 1) * n)
        all_u, all_v = (u, v) if gather_with_grad else (u.detach(), v.detach())
        mean = mean + worker_loss(u[mine], v[mine], all_u, all_v, scale, mine, local_loss,
                                  gather_with_grad) / count
    mean.backward()
    assert u.grad is not None and v.grad is not None and scale.grad is not None
    return mean.item(), u.grad, v.grad, scale.grad.item()
