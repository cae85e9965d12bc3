"""StackGAN-v2, AttnGAN, DM-GAN and DF-GAN on the same pictures, with the same encoder of text and the same
number of pictures seen.

Survey: 2.1.3.  Each has its released code's losses and optimiser; sizes are miniatures. DAMSM is a loss of
AttnGAN and DM-GAN, so pictures are matched with sentences by chapter 4's CLIP, which no generator knows.
Sentences are stretched; DF-GAN, whose penalty limits the slope in the sentence, is also trained on them as
they are ("dfgan short").
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmlearn.data.pairs import PairData
from mmlearn.data.things import thing_pairs
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.experiments.text2image.text_encoders import load_judge
from mmlearn.experiments.text2image.text_to_image import RECIPES, build, judge_pictures
from mmlearn.metrics.generation import features_of
from mmlearn.metrics.manifolds import spread
from mmlearn.nn.modes import seeded
from mmlearn.text2image.pipeline import CHECKPOINTS, TextToImage
from mmlearn.text2image.training import train_game

SYSTEMS = ("stackgan", "attngan", "dmgan", "dfgan")
SHORT = " short"                                # behind the name of a system: sentences are not stretched
ARMS = (*SYSTEMS, "dfgan" + SHORT)
SMALLER = ("Frechet distance", "kernel distance")
LOWER_IS_BETTER = (*SMALLER, *(f"{metric}, unseen pairs" for metric in SMALLER), "seconds a step",
                   "seconds a picture", "parameters")
SAMPLES = 4                                     # pictures of one sentence, for its spread


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), metavar="ARM",
                        choices=[*SYSTEMS, *(system + SHORT for system in SYSTEMS)])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--train", type=int, default=20_000, help="training pictures")
    parser.add_argument("--test", type=int, default=1000, help="sentences that are drawn for the scores")
    parser.add_argument("--encoders", type=Path, default=CHECKPOINTS, help="where DAMSM and the judge are")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")


def one_run(arm: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one arm with one seed, and score what it draws."""
    system = arm.removesuffix(SHORT)
    data, judge = thing_pairs(args.train, size=args.size), load_judge(args.encoders
                                                                      / "scene-classifier.safetensors")
    with seeded(seed):
        model, game, encoder, tokeniser = build(system, args.size, None, args.encoders, data,
                                                system == arm)
    history = train_game(model, game, data, tokeniser, steps=args.steps, batch=args.batch, seed=seed,
                         precision=args.precision, progress=False, **RECIPES[system])
    trained = TextToImage.of(encoder, history.ema, tokeniser, [captions[0] for captions in data.captions])
    test = thing_pairs(args.test, "test", size=args.size)
    unseen = thing_pairs(args.test, "compositional", size=args.size)
    start = time.perf_counter()
    trained.draw([texts[0] for texts in test.captions])
    seconds = (time.perf_counter() - start) / len(test)
    return {"parameters": {name: sum(p.numel() for p in part.parameters())
                           for name, part in model.named_children()},
            "test": {**judge_pictures(trained, judge, test), "spread": spread_of(trained, judge, test)},
            "unseen pairs": judge_pictures(trained, judge, unseen),
            "seconds a step": round(history.seconds / args.steps, 4),
            "seconds a picture": round(seconds, 5)}


def spread_of(model: TextToImage, judge: Any, data: PairData, sentences: int = 100) -> float:
    """How far apart pictures of one sentence are, in the features of the judge."""
    drawn = model.draw([texts[0] for texts in data.captions[:sentences]], SAMPLES)
    with torch.no_grad():
        features = features_of(judge, drawn.split(100))
    return round(spread(features.unflatten(0, (-1, SAMPLES))), 4)


def by_metric(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float]]:
    """The runs of an arm (seed -> what ``one_run`` gives) as one number a seed for each metric; those of
    unseen pairs of colour and thing end with ", unseen pairs", parameters are the generator's."""
    rows = [{**run["test"],
             **{f"{metric}, unseen pairs": value for metric, value in run["unseen pairs"].items()},
             "parameters": run["parameters"]["generator"], "seconds a step": run["seconds a step"],
             "seconds a picture": run["seconds a picture"]} for run in runs.values()]
    return {metric: [float(row[metric]) for row in rows] for metric in rows[0]}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(arm, seed) for seed in seeds(args.seeds) for arm in args.arms]
    found: dict[str, dict[str, Any]] = {arm: {} for arm in args.arms}
    for (arm, seed), result in run_jobs(one_run, jobs, args):
        found[arm][str(seed)] = result
        print(arm, seed, result["test"], flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "size": args.size, "seeds": args.seeds,
                         "precision": args.precision, "average of weights": 0.999,
                         "sentences": "of DAMSM, stretched to variance 1; short: as they are",
                         "recipes": RECIPES,
                         "train": f"{args.train} pictures of one thing, seed 0", "test": args.test},
            "runs": found}
