"""Does size make up for noise? Few pictures with right captions against many with 40 % wrong ones.

Paper: C. Jia et al. (2021), *Scaling Up Visual and Vision-Language Representation Learning With Noisy Text
Supervision*, arXiv:2102.05918, its ablation study (size and noise), sec. 4 (smoothing).  Survey: 4.3.
Differs from the paper: drawn single things; the noise is planted (captions exchanged among a share of the
pictures), and every model takes the same number of steps, so that a model of few pictures sees each of them
more often.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from mmlearn.data.pairs import PairData
from mmlearn.experiments import seeds
from mmlearn.experiments.text_for_vision.objects import (
    captioned,
    objects,
    prompt_tokeniser,
    shuffled_captions,
    train_encoder,
)
from mmlearn.text_for_vision.align import align_loss
from mmlearn.text_for_vision.training import zero_shot_accuracy

CLEAN, NOISY = (250, 500, 1000), (1000, 2000, 4000, 8000)                   # pictures


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--test", type=int, default=600, help="test pictures")
    parser.add_argument("--noise", type=float, default=0.4,
                        help="share of pictures with another picture's captions")
    parser.add_argument("--clean", type=int, nargs="+", default=list(CLEAN), help="sizes without noise")
    parser.add_argument("--noisy", type=int, nargs="+", default=list(NOISY), help="sizes with noise")


def crossing(clean: dict[int, float], accuracy: float) -> float | None:
    """How many clean pictures give this accuracy: straight lines between the measured sizes, on a logarithmic
    axis.

    None outside the measured range.
    """
    points = sorted(clean.items())
    for (small, low), (large, high) in zip(points, points[1:]):
        if low <= accuracy <= high and high > low:
            return small * (large / small) ** ((accuracy - low) / (high - low))
    return None


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    wanted = seeds(args.seeds)
    largest = captioned(objects(max(*args.clean, *args.noisy), 3, places="any"))
    test = objects(args.test, 1, places="any")
    tokeniser = prompt_tokeniser(largest)

    def accuracies(name: str, data: PairData, **options: Any) -> list[float]:
        found = []
        for seed in wanted:
            model, history = train_encoder(data, tokeniser, steps=args.steps, seed=seed, batch=args.batch,
                                           **options)
            found.append(round(zero_shot_accuracy(model, tokeniser, test), 4))
            print(f"{name:24} {len(data):5} pictures, seed {seed}: {found[-1]:.3f}  ({history.seconds:.0f} "
                  f"s)", flush=True)
        return found

    clean = {n: accuracies("clean", largest.first(n)) for n in args.clean}
    noisy = {n: accuracies("noisy", shuffled_captions(largest.first(n), args.noise)) for n in args.noisy}
    most = max(args.noisy)
    smooth = accuracies("noisy, smoothed", shuffled_captions(largest.first(most), args.noise),
                        loss=partial(align_loss, smoothing=0.1))
    means = {n: mean(values) for n, values in clean.items()}
    worth = {n: crossing(means, mean(values)) for n, values in noisy.items()}
    return {
        "settings": {
            "steps": args.steps,
            "batch": args.batch,
            "lr": 2e-3,
            "warmup": 50,
            "size": 32,
            "noise": args.noise,
            "test": args.test,
            "seeds": wanted,
        },
        "clean": {str(n): v for n, v in clean.items()},
        "noisy": {str(n): v for n, v in noisy.items()},
        "smoothed": {str(most): smooth},
        "clean pictures that do as well": {str(n): None if w is None else round(w) for n, w in worth.items()},
    }
