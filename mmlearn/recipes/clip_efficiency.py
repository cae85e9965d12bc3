"""Recipe: write the caption, predict its words, or recognise it? Zero-shot accuracy against images seen, with seeds.

Paper: A. Radford et al. (2021), arXiv:2103.00020, sec. 2.3 and fig. 2.  Survey: 4.2, 4.2.1.
Differs from the paper: miniatures on drawn scenes of 32 pixels; a fourth arm, contrastive with a Transformer.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from mmlearn.recipes import seeds
from mmlearn.recipes.jobs import add_jobs, run_jobs
from mmlearn.text_for_vision.prediction import ARMS, RATE, RATES, arm_accuracy, build_arm, train_arm
from mmlearn.text_for_vision.studies import StudyConfig
from mmlearn.text_for_vision.task import class_pictures, scene_pairs, scene_tokeniser

SIZE = 32


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--every", type=int, default=30, help="steps between two points of the curve")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, help="of all arms (default: each arm's own)")
    parser.add_argument("--train", type=int, default=6000, help="training scenes")
    parser.add_argument("--pictures", type=int, default=600, help="test pictures of one thing")


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training with its curve: zero-shot accuracy after so many images."""
    data = scene_pairs(args.train, size=SIZE)
    tokeniser, pictures = scene_tokeniser(data), class_pictures(args.pictures, size=SIZE)
    model = build_arm(name, StudyConfig(len(tokeniser)), seed)
    history = train_arm(name, model, data, tokeniser, steps=args.steps, batch=args.batch, lr=args.lr, seed=seed,
                        progress=False, evaluate_every=args.every,
                        evaluate=lambda judged: {"top-1": arm_accuracy(judged, tokeniser, pictures)})
    return {"seed": seed, "images": [step * args.batch for step in history.metric_steps],
            "top-1": [round(v, 4) for v in history.metrics["top-1"]], "loss": round(history.smooth(20)[-1], 4),
            "parameters": sum(p.numel() for p in model.parameters())}


def images_to_reach(images: Sequence[int], accuracy: Sequence[float], level: float) -> float | None:
    """Images seen when the curve first crosses ``level``, on the straight line between two points; None if never.

    The curve starts at (0, 0).
    """
    before = (0.0, 0.0)
    for point in zip(images, accuracy):
        if point[1] >= level:
            return before[0] + (point[0] - before[0]) * (level - before[1]) / (point[1] - before[1])
        before = (float(point[0]), float(point[1]))
    return None


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, Any] = {name: {"parameters": 0, "runs": []} for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name]["parameters"] = measured.pop("parameters")
        found[name]["runs"].append(measured)
        print(f"seed {seed}  {name:22} top-1 {measured['top-1'][-1]:.3f} after {measured['images'][-1]} images", flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": {name: args.lr or RATES.get(name, RATE) for name in ARMS}, "warmup": 30, "schedule": "cosine to 0",
                         "weight decay": 0.2, "size": SIZE, "train": f"{args.train} scenes of train, seed 0",
                         "test pictures": args.pictures, "seeds": seeds(args.seeds)},
            "arms": found}
