"""Recipe: effective robustness of labels and captions, of narrow and broad pictures, and of CLIP after adaptation.

Papers: A. Radford et al. (2021), arXiv:2103.00020, sec. 3.3; A. Fang et al. (2022), arXiv:2205.01397.
Survey: 4.1, 4.2.1.  Differs from the papers: see ``mmlearn.text_for_vision.robustness_study``.
"""

import argparse
from typing import Any

import torch

from mmlearn.recipes import seeds
from mmlearn.text_for_vision.robustness_study import (
    ARMS,
    GROUPS,
    IMAGES,
    SAME,
    Scale,
    beyond,
    by_group,
    four_arms,
    reference_models,
    shifted_sets,
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=Scale().steps)
    parser.add_argument("--batch", type=int, default=Scale().batch)
    parser.add_argument("--train", type=int, default=Scale().train, help="pictures of each world")
    parser.add_argument("--test", type=int, default=Scale().test, help="pictures of each test set")
    parser.add_argument("--images", type=int, nargs="+", default=list(IMAGES), help="labelled pictures of the reference models")


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    scale = Scale(args.train, args.test, args.steps, args.batch)
    wanted = seeds(args.seeds)
    tests = shifted_sets(scale.test)
    reference = reference_models(tests, scale, args.images)
    for model in reference:
        print(f"{model['images']:5} labelled pictures, {model['channels'][-1]} channels: {model['accuracy'][SAME]:.3f}", flush=True)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for seed in wanted:
        for name, accuracy in four_arms(scale, seed, tests).items():
            runs[name].append(accuracy)
            print(f"seed {seed}  {name:34} " + " ".join(f"{k} {v:.2f}" for k, v in accuracy.items()), flush=True)
    line = [model["accuracy"] for model in reference]
    rho = {name: beyond(rows, line) for name, rows in runs.items()}
    return {"settings": {**scale._asdict(), "lr": 2e-3, "warmup": 50, "schedule": "cosine to 0", "size": 32,
                         "seeds": wanted, "threads a run": 1, "groups": {k: list(v) for k, v in GROUPS.items()}},
            "reference": reference, "runs": runs,
            "effective robustness": {name: {k: [round(x, 4) for x in v.tolist()] for k, v in shifts.items()}
                                     for name, shifts in rho.items()},
            "by group": {name: {k: round(v, 4) for k, v in by_group(shifts).items()} for name, shifts in rho.items()}}
