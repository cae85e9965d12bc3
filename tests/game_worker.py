"""A game of two players that the tests play alone and in two processes."""

import os

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from mmlearn.train import Batches, fit


class Game(nn.Module):
    """A generator of points and a discriminator of them."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        self.discriminator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))


def play(model, batch):
    """The discriminator moves, then the generator, whose points were drawn before."""
    real, noise = batch
    fake = model.generator(noise)
    judged = F.softplus(-model.discriminator(real)) + F.softplus(model.discriminator(fake.detach()))
    yield "discriminator", judged.mean(), {"real": model.discriminator(real).mean()}
    yield "generator", F.softplus(-model.discriminator(fake)).mean()


def examples():
    generator = torch.Generator().manual_seed(3)
    return list(zip(1 + torch.randn(32, 2, generator=generator), torch.randn(32, 2, generator=generator)))


def groups(model):
    return [{"params": list(model.generator.parameters()), "scale": 1.0},
            {"params": list(model.discriminator.parameters()), "scale": 4.0}]


def train(seed=0, steps=12, size=8, **options):
    """A game played; every process may begin with other weights."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = Game()
    optimizer = torch.optim.Adam(groups(model), lr=1e-2, betas=(0.5, 0.9))
    history = fit(model, play, Batches(examples(), size), steps=steps, optimizer=optimizer, lr=1e-2,
                  progress=False, **options)
    return model, history


def rank_of_two(rank, port, out):
    """Process ``rank`` of two that meet over gloo."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    model, history = train(seed=rank)
    safetensors.torch.save_file({**model.state_dict(), "losses": torch.tensor(history.loss)}, f"{out}-{rank}")
    torch.distributed.destroy_process_group()
