"""What the weight of the KL does to the codes of a small dVAE: three weights, the same seeds.

Paper: A. Ramesh et al. (2021), *Zero-Shot Text-to-Image Generation*, arXiv:2102.12092, sec. 2.1 (beta = 6.6
with 192 numbers of a picture for each of its codes).  Survey: 2.2.1.

All arms of a seed start from the same weights and see the same pictures and noise. A nat of KL weighs
beta places / numbers here: with 48 numbers a code, 1.65 is the paper's 6.6.
"""

import argparse
from typing import Any, cast

import torch
from torch import Tensor

from mmlearn.data.things import thing_pairs
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.experiments.text2image.dvae import judge
from mmlearn.nn.modes import seeded
from mmlearn.text2image.dvae import DVAE, DVAEConfig, DVAESchedule

BASE = "beta 0"
ARMS = {BASE: 0.0, "beta 1.65": 1.65, "beta 6.6": 6.6}


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=16, help="pixels a side")
    parser.add_argument("--codes", type=int, default=64, help="kinds of codes")
    parser.add_argument("--width", type=int, default=16, help="channels of the first group")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--train", type=int, default=600, help="training pictures")
    parser.add_argument("--test", type=int, default=200, help="test pictures")


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training: error of test pictures through their codes, kinds of codes in use, their perplexity, and
    the mean KL of a place."""
    images = cast(Tensor, thing_pairs(args.train, size=args.size).images)
    test = thing_pairs(args.test, "test", size=args.size)
    plan = DVAESchedule.mini(args.steps, ARMS[name], args.lr)
    with seeded(seed):
        model = DVAE(DVAEConfig.mini(args.size, args.codes, args.width))
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    curve: dict[str, list[float]] = {"step": [], "nll": [], "kl": []}
    for step in range(args.steps):
        batch = images[torch.randint(len(images), (args.batch,), generator=draws)].float() / 255
        optimizer.param_groups[0]["lr"] = plan.lr_at(step)
        loss, parts = model.loss(batch, plan.tau_at(step), plan.beta_at(step), draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == args.steps - 1:
            curve["step"].append(step)
            for key, value in parts.items():
                curve[key].append(round(float(value), 4))
    return {"seed": seed, "scores": {**judge(model, test), "kl": curve["kl"][-1]}, "curve": curve}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:10}  {measured['scores']}", flush=True)
    settings = {key: getattr(args, key)
                for key in ("steps", "batch", "size", "codes", "width", "lr", "train", "test")}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "arms": found}
