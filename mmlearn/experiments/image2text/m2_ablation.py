"""Which part of M2 helps? Six models of equal size on the regions of the scene world, several seeds.

Paper: M. Cornia et al. (2020), arXiv:1912.08226, table 2.  Survey: 1.2.1.
Differs from the paper: miniatures trained by cross-entropy only; every variant has as many parameters as M2
(by its feed-forward width, eq:m2-equal-params), so that what is measured is the wiring and not the size.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.image2text.m2 import M2Config, M2Transformer, equalise
from mmlearn.image2text.regions import CHECKPOINT, load_detector
from mmlearn.image2text.training import CaptionData, evaluate_captioner, scene_data, train_cross_entropy
from mmlearn.nn.modes import seeded
from mmlearn.train import warmup_cosine


def variants(vocab: int, features: int) -> dict[str, M2Config]:
    """The six models of the study, all with the parameters of the miniature M2."""
    m2 = M2Config.mini(vocab, features)
    return {
        "plain Transformer": equalise(replace(m2, memory=0, mesh="last"), m2),
        "memory only": equalise(replace(m2, mesh="last"), m2),
        "mesh only": equalise(replace(m2, memory=0), m2),
        "M2": m2,
        "M2 one-to-one": equalise(replace(m2, mesh="one-to-one"), m2),
        "M2 softmax gates": replace(m2, mesh="softmax"),
    }


def features_of(data: CaptionData) -> int:
    """f, the size of what the data offers of a region."""
    return int(data.inputs.rows([0])[0].shape[-1])


def one_run(config: M2Config, data: CaptionData, val: CaptionData, tokeniser: WordTokeniser, *, seed: int,
            steps: int, every: int, test: CaptionData | None = None,
            **options: Any) -> tuple[M2Transformer, dict[str, Any]]:
    """Train one model; its learning curve on ``val`` and its scores at the end on ``test`` (greedy
    captions)."""
    with seeded(seed):
        model = M2Transformer(config)
    watched = 0.0

    def evaluate(judged: Any) -> dict[str, float]:
        nonlocal watched
        start = time.perf_counter()
        scores = evaluate_captioner(judged, val, tokeniser, full=False)
        watched += time.perf_counter() - start
        return scores

    history = train_cross_entropy(model, data, tokeniser, steps=steps, seed=seed, evaluate=evaluate,
                                  evaluate_every=every, **options)
    scores = evaluate_captioner(model, val if test is None else test, tokeniser)
    return model, {"seed": seed, "loss": round(sum(history.loss[-50:]) / len(history.loss[-50:]), 4),
                   "curve": {"step": history.metric_steps, **rounded(history.metrics)},
                   "scores": four_digits(scores),
                   "training seconds": round(history.seconds - watched, 1)}


def rounded(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Four digits are enough for a curve."""
    return {name: [round(value, 4) for value in values] for name, values in columns.items()}


def four_digits(scores: dict[str, float]) -> dict[str, float]:
    """The same scores, rounded for the record."""
    return {name: round(value, 4) for name, value in scores.items()}


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=250,
                        help="steps between two points of the learning curve")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--train", type=int, default=6000, help="training scenes")
    parser.add_argument("--val", type=int, default=200, help="validation scenes, for the curves")
    parser.add_argument("--test", type=int, default=1000, help="test scenes, for the scores at the end")
    parser.add_argument("--detector", type=Path, default=CHECKPOINT)


Study = tuple[CaptionData, CaptionData, CaptionData, WordTokeniser]


def study_data(args: argparse.Namespace) -> Study:
    """Regions of training, validation and test scenes, and the words; what was found is kept in
    ``args.keep``."""
    detector = load_detector(args.detector)
    train, val, test = (
        scene_data(count, split, detector=detector, keep=args.keep)
        for count, split in ((args.train, "train"), (args.val, "val"), (args.test, "test")))
    return train, val, test, train.vocabulary()


_shared: dict[str, Any] = {}            # of a worker process: the data, read once


def _job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One model: its curve on validation scenes, its scores on test scenes."""
    if "data" not in _shared:
        _shared["data"] = study_data(args)
    train, val, test, tokeniser = _shared["data"]
    config = variants(len(tokeniser), features_of(train))[name]
    model, measured = one_run(
        config,
        train,
        val,
        tokeniser,
        seed=seed,
        steps=args.steps,
        every=args.every,
        lr=args.lr,
        schedule=warmup_cosine(args.lr, min(100, args.steps // 4), args.steps),
        progress=False,
        test=test,
    )
    return {**measured, "parameters": sum(p.numel() for p in model.parameters())}


def run(args: argparse.Namespace) -> dict[str, Any]:
    train, _, _, tokeniser = study_data(args)           # made once, then read by every process
    names = list(variants(len(tokeniser), features_of(train)))
    found: dict[str, Any] = {name: {"parameters": 0, "runs": []} for name in names}
    for (name, seed), measured in run_jobs(
        _job, [(name, seed) for seed in seeds(args.seeds) for name in names], args
    ):
        found[name]["parameters"] = measured.pop("parameters")
        found[name]["runs"].append(measured)
        print(f"seed {seed}  {name:18} CIDEr-D {measured['scores']['CIDEr-D']:.3f}  BLEU-4 "
              f"{measured['scores']['Bleu_4']:.3f}  {measured['training seconds']:.0f} s", flush=True)
    return {"settings": {"steps": args.steps, "images": 16, "captions": 4, "lr": args.lr, "warmup": 100,
                         "schedule": "cosine to 0", "decoding": "greedy", "longest caption": "16 words",
                         "train": f"{args.train} scenes of train, seed 0",
                         "val": f"{args.val} scenes of val, seed 0",
                         "test": f"{args.test} scenes of test, seed 0", "curves": "on val",
                         "scores": "on test", "regions": "data/checkpoints/detector.safetensors",
                         "seeds": seeds(args.seeds), "processes": args.processes},
            "vocabulary": len(tokeniser), "models": found}
