"""Training runs that the tests of resuming start in processes of their own (imported there without
pytest)."""

import time
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
import torch._dynamo
from torch import nn
from torch.utils.data import DataLoader

from mmlearn.train import Batches, fit, noam

STEPS = 60


@dataclass(frozen=True)
class Config:
    width: int = 8
    dropout: float = 0.2


class Net(nn.Module):
    """Dropout and batch statistics, so that random states and buffers matter."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.body = nn.Sequential(nn.Linear(3, config.width), nn.BatchNorm1d(config.width),
                                  nn.Dropout(config.dropout))
        self.head = nn.Linear(config.width, 1)

    def forward(self, x):
        return self.head(self.body(x))


def squared(model, batch):
    x, y = batch
    noise = float(np.random.random())  # noqa: NPY002 (beartype draws from Python's generator, so the tests do not)
    return ((model(x) - y) ** 2).mean() * noise


def run(folder=None, *, steps=STEPS, source="batches", config=None, first=0, **more):
    """One training run as every test here uses it, of weights drawn from seed ``first``; returns the final
    tensors."""
    torch.manual_seed(first)
    model = Net(config or Config())
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    data = [(row, row.sum()[None]) for row in x]
    batches = Batches(data, 8) if source == "batches" else DataLoader(data, 8, shuffle=True)
    settings = {"schedule": noam(8, 20), "accumulate": 2, "clip": 1.0, "ema": 0.9, "save_every": 7, "seed": 5,
                **more}
    history = fit(model, squared, batches, steps=steps, folder=folder, progress=False,
                  evaluate=lambda m: {"score": -abs(float(m.head.bias) - 0.1)}, evaluate_every=10,
                  watch="score",
                  **settings)
    averaged = {f"ema.{name}": value for name, value in history.ema.state_dict().items()}
    return {**model.state_dict(), **averaged, "losses": torch.tensor(history.loss, dtype=torch.float64),
            "scores": torch.tensor(history.metrics["score"], dtype=torch.float64)}


def run_to_file(folder, out, slow=0.0, **more):
    """In a process of its own: train (slowly)."""
    torch.set_num_threads(1)
    tensors = run(folder, on_step=lambda step, model: time.sleep(slow), **more)
    safetensors.torch.save_file(tensors, out)
