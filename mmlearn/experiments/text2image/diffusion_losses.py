"""What should a diffusion model predict, and how much does a step count? Four answers on a ring of blobs.

Paper: J. Ho et al. (2020), *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239, sec. 4.2 and table 2
(the mean or the noise, the bound or the simple loss).  Survey: 2.3.1.
Differs from the paper: points in the plane and a perceptron, so that the perfect denoiser is known, in place
of CIFAR-10 and a U-Net; the variance is fixed in all arms.

All arms of a seed start from the same weights and see the same points, steps and noise.
"""

import argparse
import time
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.nn.modes import seeded
from mmlearn.text2image.diffusion import (
    Denoiser,
    NoiseSchedule,
    bound_weight,
    diffusion_loss,
    draw,
    noised,
)
from mmlearn.text2image.samplers import Ancestral, sample
from mmlearn.text2image.toy_diffusion import Mixture, MixtureDenoiser
from mmlearn.text2image.unet import sinusoids

BASE = "noise, simple loss"
ARMS = {BASE: ("noise", "simple"), "noise, bound": ("noise", "bound"),
        "mean, bound": ("mean", "bound"), "mean, squared error": ("mean", "error")}


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--chain", type=int, default=1000, help="steps of the chain")
    parser.add_argument("--lr", type=float, default=5e-3, help="at first; it falls to a hundredth along a "
                                                               "line")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--std", type=float, default=0.15,
                        help="width of the eight blobs, whose centres lie on a circle of radius 1.4")
    parser.add_argument("--samples", type=int, default=2000, help="points that are drawn and judged")


class PointDenoiser(nn.Module):
    """A perceptron that reads points (b, 2) and timesteps (b), and gives the noise, or with ``predicts``
    "mean" the mean of the reverse step, turned into noise (eq:diffusion-posterior-mean-noise)."""

    def __init__(self, schedule: NoiseSchedule, width: int = 64, predicts: str = "noise") -> None:
        super().__init__()
        self.schedule, self.predicts = schedule, predicts
        self.net = nn.Sequential(nn.Linear(2 + 32, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                                 nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x: Float[Tensor, "b 2"], t: Int[Tensor, " b"]) -> Float[Tensor, "b 2"]:
        output = self.net(torch.cat([x, sinusoids(t, 32)], dim=1))
        if self.predicts == "noise":
            return output
        beta, bar = (table[t].to(x)[:, None] for table in (self.schedule.betas, self.schedule.alpha_bars))
        return (x - (1 - beta).sqrt() * output) * (1 - bar).sqrt() / beta


def weights_of(loss: str, schedule: NoiseSchedule) -> Float[Tensor, " T"] | None:
    """What the squared error of the noise is multiplied with at each step: "simple", the "bound" with the
    large variance, or the squared "error" of the mean."""
    if loss == "simple":
        return None
    beta, bar = schedule.betas, schedule.alpha_bars
    variance = beta if loss == "bound" else torch.full_like(beta, 0.5)
    return torch.as_tensor(bound_weight(beta, bar, variance))


@torch.no_grad()
def bound_lacks(
    model: Denoiser, perfect: Denoiser, x: Float[Tensor, "n 2"], schedule: NoiseSchedule, seed: int = 0
) -> float:
    """By how many nats a dimension the bound of a model lies above that of the perfect denoiser, steps 2 to
    T, with the large variance and the same noise for both."""
    draws, total = torch.Generator().manual_seed(seed), 0.0
    weights = weights_of("bound", schedule)
    assert weights is not None
    for place in range(1, len(schedule)):
        noise, t = draw(x.shape, draws), torch.full((len(x),), place)
        x_t = noised(x, noise, schedule.alpha_bars[place].item())
        more = (model(x_t, t) - noise).square().mean() - (perfect(x_t, t) - noise).square().mean()
        total += weights[place].item() * more.item()
    return total


def energy_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'|, without bias: about 0 for points of one distribution."""
    x, y = x.double(), y.double()
    within = [torch.cdist(a, a).sum() / (len(a) * (len(a) - 1)) for a in (x, y)]
    return float(2 * torch.cdist(x, y).mean() - within[0] - within[1])


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training, and what its model draws with all steps."""
    predicts, loss = ARMS[name]
    schedule, ring = NoiseSchedule.linear(args.chain), Mixture.ring(radius=1.4, std=args.std)
    weights, began = weights_of(loss, schedule), time.process_time()
    with seeded(seed):
        model = PointDenoiser(schedule, args.width, predicts)
    adam = torch.optim.Adam(model.parameters(), lr=args.lr)
    slower = torch.optim.lr_scheduler.LinearLR(adam, 1, 0.01, args.steps)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(args.steps):
        x0, _labels = ring.sample(args.batch, draws)
        value = diffusion_loss(model, x0, schedule, draws, weights)
        adam.zero_grad()
        value.backward()
        adam.step()
        slower.step()
    trained = time.process_time() - began
    fresh = torch.Generator().manual_seed(1000 + seed)
    data, _labels = ring.sample(args.samples, fresh)
    drawn = sample(model, schedule, (args.samples, 2), Ancestral("small"), denoised_fn=None, generator=fresh)
    near = torch.cdist(drawn, ring.means).min(dim=1).values <= 3 * args.std
    lacks = bound_lacks(model, MixtureDenoiser(ring, schedule), data[:500], schedule, seed)
    return {"seed": seed, "processor seconds of training": round(trained, 1), "scores": {
        "at blobs": round(near.double().mean().item(), 4),
        "distance": round(1000 * energy_distance(drawn, data), 3), "bound lacks": round(lacks, 4)}}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        told = ", ".join(f"{key} {value:.3f}" for key, value in measured["scores"].items())
        print(f"seed {seed}  {name:20}  {told}", flush=True)
    names = ("steps", "batch", "chain", "lr", "width", "std", "samples")
    settings = {key: getattr(args, key) for key in names}
    return {"settings": {**settings, "modes": 8, "radius": 1.4, "seeds": seeds(args.seeds)}, "arms": found}
