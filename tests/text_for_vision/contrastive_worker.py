"""Contrastive losses over several processes, which the tests start, and over one for comparison."""

import itertools
import os
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mmlearn.text_for_vision.large_batch import cached_loss, distributed_clip_loss
from mmlearn.text_for_vision.siglip import distributed_sigmoid_loss

FLAGS = list(itertools.product((False, True), repeat=2))                # local_loss, gather_with_grad


class Towers(nn.Module):
    """A small dual encoder in double precision, with the dropout that gradient caching has to repeat."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4)).double()
        self.text = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4)).double()
        self.logit_scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.logit_bias = nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (
            F.normalize(self.image(images), dim=1),
            F.normalize(self.text(tokens), dim=1),
            self.logit_scale.exp(),
        )


def batch(b: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(7)
    return torch.randn(b, 6, generator=g).double(), torch.randn(b, 5, generator=g).double()


def objectives(model: Towers, images: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Each loss on the pairs given, by name."""
    losses = {
        f"clip {int(l)}{int(g)}": distributed_clip_loss(
            *model(images, tokens), local_loss=l, gather_with_grad=g
        )
        for l, g in FLAGS
    }
    losses["sigmoid"] = distributed_sigmoid_loss(*model(images, tokens), model.logit_bias, chunk=2)
    losses["sigmoid in 16 bits"] = distributed_sigmoid_loss(
        *(x.bfloat16() for x in model(images, tokens)[:2]), 4.5, -2.0).double()
    losses["cached"] = cached_loss(model, images, tokens, 2, distributed_clip_loss)
    return losses


def measure(out: str | Path, b: int) -> None:
    """Save the loss and the gradients of every objective, averaged over processes as in data-parallel
    training."""
    torch.set_num_threads(1)
    model, (images, tokens) = Towers(), batch(b)
    rank, count = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    mine = slice(rank * b // count, (rank + 1) * b // count)
    found: dict[str, Tensor] = {}
    for name, loss in objectives(model, images[mine], tokens[mine]).items():
        model.zero_grad()
        loss.backward()
        found[f"{name}/loss"] = loss.detach().clone()
        found |= {f"{name}/{p}": q.grad.clone() for p, q in model.named_parameters() if q.grad is not None}
    if count > 1:
        for tensor in found.values():
            dist.all_reduce(tensor)
            tensor /= count
    if rank == 0:
        safetensors.torch.save_file(found, out)


def main(rank: int, count: int, port: int, out: str, b: int) -> None:
    """Process ``rank`` of ``count`` that meet over gloo."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=count)
    measure(out, b)
    dist.barrier()
    dist.destroy_process_group()
