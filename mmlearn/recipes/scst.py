"""Recipe: self-critical training after cross-entropy, with and without the end token in the reward.

Paper: S. Rennie et al. (2017), arXiv:1612.00563, sec. 3 and app. E; M. Cornia et al. (2020), arXiv:1912.08226, sec. 3.3.
Survey: 1.2.1.  Differs from the papers: miniatures, and a learning rate to match.
"""

import argparse
import copy
from typing import Any

from mmlearn.image2text.m2 import M2Config
from mmlearn.image2text.task import Estimator, describe, evaluate_captioner, train_self_critical
from mmlearn.recipes import seeds
from mmlearn.recipes.m2_ablation import TEST, TRAIN, features_of, one_run, region_data

ARMS: dict[str, tuple[Estimator, bool]] = {         # name -> estimator, <eos> in the reward
    "beam, <eos> in the reward": ("beam", True),
    "beam, no <eos> in the reward": ("beam", False),
    "samples, leave-one-out": ("sample", True),
    "samples, greedy baseline": ("greedy", True),
}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--before", type=int, default=600, help="steps of cross-entropy before")
    parser.add_argument("--steps", type=int, default=100, help="self-critical steps of 10 scenes")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--train", type=int, default=TRAIN)
    parser.add_argument("--test", type=int, default=TEST)


def run(args: argparse.Namespace) -> dict[str, Any]:
    data, test, tokeniser = region_data(args.train, args.test)
    config = M2Config.mini(len(tokeniser), features_of(data))
    found: dict[str, Any] = {"cross-entropy": [], **{name: [] for name in ARMS}}
    for seed in seeds(args.seeds):
        start, _ = one_run(config, data, test, tokeniser, seed=seed, steps=args.before, every=args.before,
                           progress=False)
        found["cross-entropy"].append({"seed": seed, "scores": scores_of(start, test, tokeniser)})
        for name, (estimator, eos) in ARMS.items():
            model = copy.deepcopy(start)
            history = train_self_critical(model, data, tokeniser, steps=args.steps, lr=args.lr, estimator=estimator,
                                          eos_in_reward=eos, max_len=24, seed=seed, progress=False)
            scores = scores_of(model, test, tokeniser)
            found[name].append({"seed": seed, "scores": scores, "seconds": round(history.seconds, 1),
                                "reward": [round(r, 3) for r in history.scalars["reward"]],
                                "captions": describe(model, test, tokeniser, beam_size=5)[:10]})
            before = found["cross-entropy"][-1]["scores"]
            print(f"seed {seed}  {name:30} CIDEr-D {before['CIDEr-D']:.3f} -> {scores['CIDEr-D']:.3f}  bad endings "
                  f"{before['bad endings']:.3f} -> {scores['bad endings']:.3f}  {history.seconds:.0f} s", flush=True)
    return {"settings": {"before": args.before, "steps": args.steps, "images": 10, "k": 5, "lr": args.lr,
                         "decoding": "beam 5", "train": args.train, "test": args.test, "seeds": seeds(args.seeds)},
            "runs": found}


def scores_of(model: Any, test: Any, tokeniser: Any) -> dict[str, float]:
    """All metrics with a beam of 5, as in the paper."""
    return {k: round(v, 4) for k, v in evaluate_captioner(model, test, tokeniser, beam=5).items()}
