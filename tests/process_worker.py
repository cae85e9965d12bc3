"""A training run that the tests start in two processes (with `torchrun`, or forked), and alone."""

import sys

import safetensors.torch
import torch
import torch._dynamo
from torch import nn

from mmlearn.train import Batches, fit


class Net(nn.Module):
    """``score`` is not ``forward``: processes have to agree whichever method a loss calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def score(self, x):
        return self.layers(x)


def token_mean(model, batch):
    """Mean over valid tokens, which are not equally many in every process."""
    x, y, valid = batch
    errors = (model.score(x)[..., 0] - y) ** 2
    return (errors * valid).sum() / valid.sum(), {"weight": valid.sum(), "largest": (errors * valid).max()}


def examples():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(32, 5, 3, generator=generator)
    lengths = torch.randint(1, 6, (32,), generator=generator)
    return [(row, row.sum(-1), torch.arange(5) < length) for row, length in zip(x, lengths)]


@torch.no_grad()
def clamp(step, model):
    """As CLIP's scale is: what is learnt stays below a bound."""
    model.layers[0].bias.clamp_(max=0.1)


def train(out, folder=None, steps=12, size=8, accumulate=1):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Net()
    history = fit(model, token_mean, Batches(examples(), size), steps=steps, lr=0.02, clip=1.0, ema=0.9,
                  accumulate=accumulate, folder=folder, save_every=4, progress=False, watch="-bias",
                  evaluate_every=3, evaluate=lambda m: {"bias": float(m.layers[2].bias)}, on_step=clamp)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    tensors = {**model.state_dict(), "losses": torch.tensor(history.loss), "best": torch.tensor(history.best),
               **{f"ema.{name}": value for name, value in history.ema.state_dict().items()}}
    safetensors.torch.save_file(tensors, f"{out}-{rank}")


def rank_of_two(rank, port, out, folder, steps, size, accumulate):
    """Process ``rank`` of two that meet over gloo."""
    import os
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    train(out, folder, steps, size, accumulate)
    assert torch.distributed.get_backend() == "gloo" and torch.distributed.get_world_size() == 2
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    train(sys.argv[1])
    torch.distributed.destroy_process_group()
