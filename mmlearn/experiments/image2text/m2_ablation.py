"""Which part of M2 helps? Six models of equal size on the regions of the scene world, several seeds.

Paper: M. Cornia et al. (2020), arXiv:1912.08226, table 2.  Survey: 1.2.1.
Differs from the paper: miniatures trained by cross-entropy only; every variant has as many parameters as M2 (by its
feed-forward width, eq:m2-equal-params), so that what is measured is the wiring and not the size.
"""

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.image2text.m2 import M2Config, M2Transformer, equalise
from mmlearn.image2text.regions import load_detector
from mmlearn.image2text.training import CaptionData, evaluate_captioner, scene_data, train_cross_entropy

TRAIN, TEST = 2000, 200             # scenes; the chapter's live run uses the same


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


def region_data(train: int = TRAIN, test: int = TEST) -> tuple[CaptionData, CaptionData, WordTokeniser]:
    """Regions and captions of training and test scenes, seen by the committed detector, and the vocabulary."""
    detector = load_detector()
    data = scene_data(train, "train", detector=detector)
    return data, scene_data(test, "test", detector=detector), data.vocabulary()


def features_of(data: CaptionData) -> int:
    """f, the size of what the data offers of a region."""
    return int(data.inputs.rows([0])[0].shape[-1])


def one_run(config: M2Config, data: CaptionData, test: CaptionData, tokeniser: WordTokeniser, *, seed: int, steps: int,
            every: int, **options: Any) -> tuple[M2Transformer, dict[str, Any]]:
    """Train one model; its learning curve (greedy captions) and its scores at the end (greedy, all metrics)."""
    torch.manual_seed(seed)
    model = M2Transformer(config)
    watched = 0.0

    def evaluate(judged: Any) -> dict[str, float]:
        nonlocal watched
        start = time.perf_counter()
        scores = evaluate_captioner(judged, test, tokeniser, full=False)
        watched += time.perf_counter() - start
        return scores

    history = train_cross_entropy(model, data, tokeniser, steps=steps, seed=seed, evaluate=evaluate,
                                  evaluate_every=every, **options)
    scores = evaluate_captioner(model, test, tokeniser)
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
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100, help="steps between two points of the learning curve")
    parser.add_argument("--train", type=int, default=TRAIN, help="training scenes")
    parser.add_argument("--test", type=int, default=TEST, help="test scenes")
    parser.add_argument("--processes", type=int, default=2, help="models trained at the same time, one thread each")


_shared: dict[str, Any] = {}            # of a worker process: the data, read once


def _prepare(data: tuple[CaptionData, CaptionData, WordTokeniser], args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    _shared.update(data=data, args=args)


def _job(name: str, seed: int) -> dict[str, Any]:
    train, test, tokeniser = _shared["data"]
    args = _shared["args"]
    config = variants(len(tokeniser), features_of(train))[name]
    model, measured = one_run(config, train, test, tokeniser, seed=seed, steps=args.steps, every=args.every,
                              progress=False)
    return {**measured, "parameters": sum(p.numel() for p in model.parameters())}


def run(args: argparse.Namespace) -> dict[str, Any]:
    train, test, tokeniser = region_data(args.train, args.test)
    names = list(variants(len(tokeniser), features_of(train)))
    found: dict[str, Any] = {name: {"parameters": 0, "runs": []} for name in names}
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in names]
    workers = ProcessPoolExecutor(max(1, args.processes), multiprocessing.get_context("spawn"), _prepare,
                                  ((train, test, tokeniser), args))
    with workers:
        for (name, seed), measured in zip(jobs, workers.map(_job, *zip(*jobs))):
            found[name]["parameters"] = measured.pop("parameters")
            found[name]["runs"].append(measured)
            print(f"seed {seed}  {name:18} CIDEr-D {measured['scores']['CIDEr-D']:.3f}  BLEU-4 "
                  f"{measured['scores']['Bleu_4']:.3f}  {measured['training seconds']:.0f} s", flush=True)
    return {"settings": {"steps": args.steps, "images": 16, "captions": 4, "lr": 2e-3, "warmup": 100,
                         "schedule": "cosine to lr / 20", "decoding": "greedy", "longest caption": "16 words",
                         "train": f"{args.train} scenes of train, seed 0", "test": f"{args.test} scenes of test, seed 0",
                         "regions": "data/checkpoints/detector.safetensors", "seeds": seeds(args.seeds),
                         "processes": args.processes},
            "vocabulary": len(tokeniser), "models": found}
