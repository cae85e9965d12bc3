"""What makes a GAN lose modes? Eight Gaussians, five ways of playing, and a count of what is drawn.

Papers: I. Goodfellow et al. (2014), *Generative Adversarial Nets*, arXiv:1406.2661, algorithm 1 and sec. 6
(the discriminator has to keep up); L. Metz et al. (2017), *Unrolled Generative Adversarial Networks*,
arXiv:1611.02163, sec. 3.1 (eight Gaussians, between which a generator hops).  Survey: 2.1.1. Differs from the
papers: smaller networks, two numbers of noise, wider Gaussians.

All arms of a seed start from the same weights. A generator that is losing modes moves about, so a measure of
a run is a mean over the counts of its last third.
"""

import argparse
import math
from typing import Any

import torch

from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.nn.modes import seeded
from mmlearn.text2image.adversarial import (
    hinge_discriminator_loss,
    hinge_generator_loss,
    saturating_loss,
)
from mmlearn.text2image.gan import GAN, GANConfig, GaussianMixture, mode_coverage, train_gan

BASE = "non-saturating"
ARMS: dict[str, dict[str, Any]] = {
    BASE: {},
    "saturating": {"loss": saturating_loss},
    "hinge": {"loss": hinge_generator_loss, "d_loss": hinge_discriminator_loss},
    "three steps of D": {"d_steps": 3},
    "slow D": {"d_lr": 1e-4},
}


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--every", type=int, default=100, help="steps between two counts")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--std", type=float, default=0.05,
                        help="width of the Gaussians, whose centres lie on a circle of radius 2")
    parser.add_argument("--samples", type=int, default=2000, help="points of a count")


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training: modes reached, share of good points and their unevenness (eq:mode-divergence) over steps.

    A count without a good point has the unevenness of a single mode, log 8.
    """
    ring = GaussianMixture.ring(std=args.std)
    with seeded(seed):
        gan = GAN(GANConfig.mini())
    curve: dict[str, list[float]] = {"step": [], "modes": [], "good": [], "unevenness": []}

    def count(step: int, model: GAN) -> None:
        if step % args.every:
            return
        with torch.no_grad():
            found = mode_coverage(model.sample(args.samples, torch.Generator().manual_seed(step)), ring)
        most = math.log(len(ring.centres))
        for key, value in (("step", step), ("modes", found.modes), ("good", round(found.good, 4)),
                           ("unevenness", round(min(found.divergence, most), 4))):
            curve[key].append(value)

    history = train_gan(gan, ring.sample, args.steps, batch=args.batch, lr=args.lr, seed=seed, on_step=count,
                        **ARMS[name])
    last = len(curve["step"]) - max(1, len(curve["step"]) // 3)
    measured = {key: round(sum(values[last:]) / len(values[last:]), 4)
                for key, values in curve.items() if key != "step"}
    return {"seed": seed, "scores": measured, "curve": curve, "training seconds": round(history.seconds, 1)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.every > args.steps:
        raise ValueError(f"--every is {args.every}, --steps {args.steps}: nothing would be counted")
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        told = ", ".join(f"{key} {value:.2f}" for key, value in measured["scores"].items())
        print(f"seed {seed}  {name:16}  {told}", flush=True)
    settings = {key: getattr(args, key) for key in ("steps", "every", "batch", "lr", "std", "samples")}
    return {"settings": {**settings, "modes": 8, "radius": 2, "lr of slow D": 1e-4,
                         "seeds": seeds(args.seeds)}, "arms": found}
