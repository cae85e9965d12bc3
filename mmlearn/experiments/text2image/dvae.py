"""The miniature dVAE: pictures of one thing as 8 x 8 codes, trained with the paper's three annealings.

Survey: 2.2.  Its codes are what the miniature of DALL-E learns to write.
"""

import argparse
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mmlearn.checkpoints import save_model
from mmlearn.data.batches import Batches
from mmlearn.data.pairs import PairData
from mmlearn.data.things import thing_pairs
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text2image.dvae import DVAE, DVAEConfig, DVAESchedule
from mmlearn.text2image.pipeline import CHECKPOINTS
from mmlearn.train import fit

EVERY = 50                                      # steps between two records of the curve


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--codes", type=int, default=128, help="kinds of codes")
    parser.add_argument("--width", type=int, default=32, help="channels of the first group")
    parser.add_argument("--beta", type=float, default=6.6, help="weight of the KL after its annealing")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--train", type=int, default=20_000, help="training pictures")
    parser.add_argument("--test", type=int, default=500, help="test pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


class Pictures(Batches):
    """Endless shuffled batches of pictures in [0, 1], with the number of their step."""

    def make(self, indices: list[int], number: int) -> tuple[Tensor, int]:
        return self.data.images[indices].float() / 255, number


@torch.no_grad()
def judge(model: DVAE, data: PairData) -> dict[str, float]:
    """Mean squared error of pictures through tokens, codes in use and their perplexity."""
    with eval_mode(model) as device:
        error, counts = 0.0, torch.zeros(model.config.vocab)
        for part in cast(Tensor, data.images).split(100):
            images = part.to(device).float() / 255
            tokens = model.tokens(images)
            error += float((model.pictures(tokens) - images).square().mean()) * len(part) / len(data)
            counts += torch.bincount(tokens.flatten().cpu(), minlength=len(counts))
    p = counts / counts.sum()
    return {"mse": round(error, 5), "codes in use": int((counts > 0).sum()),
            "perplexity": round(float(torch.special.entr(p).sum().exp()), 2)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    data, test = thing_pairs(args.train, size=args.size), thing_pairs(args.test, "test", size=args.size)
    schedule = DVAESchedule.mini(args.steps, args.beta, args.lr)
    with seeded(args.seed):
        model = DVAE(DVAEConfig.mini(args.size, args.codes, args.width))

    def loss(now: DVAE, batch: tuple[Tensor, int]) -> tuple[Tensor, dict[str, Tensor]]:
        images, step = batch
        draws = torch.Generator(images.device).manual_seed(args.seed * 1_000_003 + step)
        return now.loss(images, schedule.tau_at(step), schedule.beta_at(step), draws)

    history = fit(model, loss, Pictures(data, args.batch, seed=args.seed), steps=args.steps,
                  optimizer=lambda parts: torch.optim.AdamW(parts, weight_decay=1e-4, fused=True),
                  schedule=schedule.lr_at, ema=0.999 if args.steps > 2000 else None, folder=args.folder,
                  save_every=250, seed=args.seed, progress=False)
    trained = cast(DVAE, history.ema if history.ema is not None else model)
    steps = range(0, args.steps, max(EVERY, args.steps // 100))
    found = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "settings": {"steps": args.steps, "batch": args.batch, "size": args.size, "codes": args.codes,
                     "beta": args.beta, "lr": args.lr, "seed": args.seed,
                     "train": f"{args.train} pictures of one thing, seed 0"},
        "test": judge(trained, test),
        "curve": {"step": list(steps), "loss": [round(history.loss[i], 4) for i in steps],
                  **{name: [round(history.scalars[name][i], 4) for i in steps] for name in ("nll", "kl")}},
        "seconds a step": round(history.seconds / args.steps, 3),
    }
    print(found["test"], flush=True)
    save_model(args.checkpoint or CHECKPOINTS / "dvae.safetensors", trained, "dvae", found, half=True)
    return found
