"""Recipe: what in the contrastive loss matters? Eight losses at equal steps, batch and weights at the start.

Papers: A. Radford et al. (2021), arXiv:2103.00020, sec. 2; C. Jia et al. (2021), arXiv:2102.05918, its ablation study.  Survey: 4.2.
Differs from the papers: miniatures of a fifth of a million parameters on drawn scenes of 32 pixels.
"""

import argparse
from typing import Any

from mmlearn.recipes import seeds
from mmlearn.recipes.clip_mini import rounded
from mmlearn.recipes.jobs import add_jobs, run_jobs
from mmlearn.text_for_vision.ablation import LOSSES, build_variant
from mmlearn.text_for_vision.studies import StudyConfig
from mmlearn.text_for_vision.task import (
    class_pictures,
    retrieval,
    scene_pairs,
    scene_tokeniser,
    train_clip,
    zero_shot_accuracy,
)

SIZE = 32


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--train", type=int, default=6000, help="training scenes")
    parser.add_argument("--pictures", type=int, default=1000, help="test pictures of one thing")
    parser.add_argument("--scenes", type=int, default=500, help="test scenes for retrieval")


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training: scores, the loss and the scale every 20 steps."""
    data = scene_pairs(args.train, size=SIZE)
    tokeniser = scene_tokeniser(data)
    model, loss = build_variant(name, StudyConfig(len(tokeniser)), seed)
    history = train_clip(model, data, tokeniser, steps=args.steps, batch=args.batch, lr=args.lr, warmup=30, loss=loss,
                         seed=seed, progress=False)
    scores = {"zero-shot": zero_shot_accuracy(model, tokeniser, class_pictures(args.pictures, size=SIZE)),
              **retrieval(model, tokeniser, scene_pairs(args.scenes, "test", size=SIZE))}
    at = list(range(0, args.steps, max(1, args.steps // 20))) + [args.steps - 1]
    smooth = history.smooth(20)
    return {"seed": seed, "scores": rounded(scores), "training seconds": round(history.seconds, 1),
            "curve": {"step": [i + 1 for i in at], "loss": [round(smooth[i], 4) for i in at],
                      "scale": [round(history.scalars["scale"][i], 3) for i in at]}}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in LOSSES]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in LOSSES}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:27} zero-shot {measured['scores']['zero-shot']:.3f}  image to text R@1 "
              f"{measured['scores']['image to text R@1']:.3f}  scale {measured['curve']['scale'][-1]:.1f}", flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": args.lr, "warmup": 30, "schedule": "cosine to 0",
                         "weight decay": 0.2, "size": SIZE, "train": f"{args.train} scenes of train, seed 0",
                         "test pictures": args.pictures, "test scenes": args.scenes, "seeds": seeds(args.seeds)},
            "variants": found}
