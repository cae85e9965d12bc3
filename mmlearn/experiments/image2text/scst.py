"""Self-critical training after cross-entropy, with and without the end token in the reward.

Paper: S. Rennie et al. (2017), arXiv:1612.00563, sec. 3 and app. E; M. Cornia et al. (2020),
arXiv:1912.08226, sec. 3.3. Survey: 1.2.1.  Differs from the papers: miniatures, and a learning rate to match.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.image2text.m2_ablation import features_of, four_digits, one_run, study_data
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.image2text.m2 import M2Config
from mmlearn.image2text.regions import CHECKPOINT
from mmlearn.image2text.training import (
    CaptionData,
    Captioner,
    Estimator,
    describe,
    evaluate_captioner,
    train_self_critical,
)

ARMS: dict[str, tuple[Estimator, bool]] = {         # name -> estimator, <eos> in the reward
    "beam, <eos> in the reward": ("beam", True),
    "beam, no <eos> in the reward": ("beam", False),
    "samples, leave-one-out": ("sample", True),
    "samples, greedy baseline": ("greedy", True),
}


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--before", type=int, default=1000, help="steps of cross-entropy before")
    parser.add_argument("--steps", type=int, default=60, help="self-critical steps")
    parser.add_argument("--images", type=int, default=32, help="scenes a step")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--val", type=int, default=200)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--detector", type=Path, default=CHECKPOINT)


def _job(_: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Cross-entropy once, then every arm from there."""
    train, val, test, tokeniser = study_data(args)
    config = M2Config.mini(len(tokeniser), features_of(train))
    start, _measured = one_run(config, train, val, tokeniser, seed=seed, steps=args.before, every=args.before,
                               progress=False)
    before = scores_of(start, test, tokeniser)
    found: dict[str, Any] = {"cross-entropy": {"seed": seed, "scores": before}}
    for name, (estimator, eos) in ARMS.items():
        model = copy.deepcopy(start)
        history = train_self_critical(model, train, tokeniser, steps=args.steps, images=args.images,
                                      lr=args.lr, estimator=estimator, eos_in_reward=eos, seed=seed,
                                      progress=False)
        after = scores_of(model, test, tokeniser)
        found[name] = {"seed": seed, "scores": after, "seconds": round(history.seconds, 1),
                       "reward": [round(r, 3) for r in history.scalars["reward"]],
                       "captions": describe(model, test, tokeniser, beam_size=5)[:10]}
        print(f"seed {seed}  {name:30} CIDEr-D {before['CIDEr-D']:.3f} -> {after['CIDEr-D']:.3f}  bad "
              f"endings "
              f"{before['bad endings']:.3f} -> {after['bad endings']:.3f}  {history.seconds:.0f} s",
              flush=True)
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    study_data(args)                                    # made once, then read by every process
    found: dict[str, Any] = {name: [] for name in ("cross-entropy", *ARMS)}
    for _, of_seed in run_jobs(_job, [("scst", seed) for seed in seeds(args.seeds)], args):
        for name, measured in of_seed.items():
            found[name].append(measured)
    return {"settings": {"before": args.before, "steps": args.steps, "images": args.images, "k": 5,
                         "lr": args.lr, "decoding": "beam 5", "train": args.train, "test": args.test,
                         "seeds": seeds(args.seeds), "processes": args.processes},
            "runs": found}


def scores_of(model: Captioner, test: CaptionData, tokeniser: WordTokeniser) -> dict[str, float]:
    """All metrics with a beam of 5, as in the paper."""
    return four_digits(evaluate_captioner(model, test, tokeniser, beam=5))
