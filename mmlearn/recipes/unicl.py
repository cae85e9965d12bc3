"""Recipe: labels in several wordings, learnt with CLIP's loss and with UniCL's; prompts first and captions last.

Papers: J. Yang et al. (2022), arXiv:2204.03610; L. Yuan et al. (2021), arXiv:2111.11432.  Survey: 4.4.
Differs from the papers: see ``mmlearn.text_for_vision.unicl_study``.
"""

import argparse
from typing import Any

import torch

from mmlearn.recipes import seeds


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of a curve")
    parser.add_argument("--every", type=int, default=10, help="steps between two points of a curve")
    parser.add_argument("--batch", type=int, default=256, help="of a curve")
    parser.add_argument("--train", type=int, default=2000, help="labelled pictures")
    parser.add_argument("--test", type=int, default=500, help="test pictures")
    parser.add_argument("--staged-steps", type=int, default=200, help="of the study in two stages")
    parser.add_argument("--staged-train", type=int, default=3000, help="pictures of the study in two stages")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mmlearn.text_for_vision.unicl_study import ASKED, LOSSES, WORDINGS, label_curve, staged_run
    torch.set_num_threads(1)
    wanted = seeds(args.seeds)
    curves: dict[str, dict[str, list[Any]]] = {}
    for panel, wordings in (("eight wordings", WORDINGS), ("one wording", ASKED)):
        curves[panel] = {loss: [] for loss in LOSSES}
        for seed in wanted:
            for loss, runs in curves[panel].items():
                runs.append(label_curve(loss, wordings, train=args.train, test=args.test, steps=args.steps, every=args.every,
                                        batch=args.batch, seed=seed))
                print(f"{panel:15} {loss:6} seed {seed}: {runs[-1]['top-1']}", flush=True)
    stages: dict[str, list[dict[str, float]]] = {}
    for name, share in (("one stage, everything", 1.0), ("three quarters, then captions alone", 0.75),
                        ("half, then captions alone", 0.5), ("one stage, captions alone", 0.0)):
        stages[name] = []
        for seed in wanted:
            stages[name].append(staged_run(round(share * args.staged_steps), train=args.staged_train, test=args.test,
                                           steps=args.staged_steps, seed=seed))
            print(f"{name:36} seed {seed}: {stages[name][-1]}", flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": 2e-3, "warmup": min(50, args.steps // 4), "size": 32,
                         "train": args.train, "test": args.test, "labels": 30, "wordings": list(WORDINGS),
                         "staged steps": args.staged_steps, "staged train": args.staged_train, "staged batch": 128,
                         "seeds": wanted},
            "curves": curves, "stages": stages}
