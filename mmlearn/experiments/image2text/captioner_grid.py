"""The generic captioner, from pixels and end to end, against two ways of not looking at the picture.

Paper: O. Vinyals et al. (2015), arXiv:1411.4555; K. Xu et al. (2015), arXiv:1502.03044.  Survey: 1.2.
Differs from the papers: four convolution blocks learnt from nothing instead of an ImageNet network.
"""

import argparse
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from mmlearn.data.images import TensorInputs
from mmlearn.experiments import seeds
from mmlearn.experiments.image2text.m2_ablation import TEST, four_digits, rounded
from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer
from mmlearn.image2text.training import (
    CaptionData,
    describe,
    evaluate_captioner,
    scene_data,
    score_captions,
    train_cross_entropy,
)

TRAIN = 4000


def most_frequent(data: CaptionData, test: CaptionData) -> list[str]:
    """The commonest caption of ``data``, said of every image of ``test``."""
    counts = Counter(" ".join(words) for group in data.words for words in group)
    return [counts.most_common(1)[0][0]] * len(test)


def blanked(data: CaptionData) -> CaptionData:
    """The same images and captions, every picture replaced by the mean colour."""
    pictures: Tensor = data.inputs.rows(range(len(data)))[0]
    return CaptionData(TensorInputs(pictures.mean((0, 2, 3), keepdim=True).expand_as(pictures)), data.captions, data.ids,
                       data.scenes)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=150)
    parser.add_argument("--train", type=int, default=TRAIN)
    parser.add_argument("--test", type=int, default=TEST)


def run(args: argparse.Namespace) -> dict[str, Any]:
    data, test = scene_data(args.train, "train"), scene_data(args.test, "test")
    tokeniser = data.vocabulary()
    blank = blanked(test)
    runs: list[dict[str, Any]] = []
    for seed in seeds(args.seeds):
        torch.manual_seed(seed)
        model = CNNTransformer(CaptionerConfig.mini(len(tokeniser)))
        history = train_cross_entropy(
            model, data, tokeniser, steps=args.steps, seed=seed, evaluate_every=args.every, progress=False,
            evaluate=lambda judged: evaluate_captioner(judged, test, tokeniser, full=False))
        runs.append({"seed": seed, "curve": {"step": history.metric_steps, **rounded(history.metrics)},
                     "scores": four_digits(evaluate_captioner(model, test, tokeniser)),
                     "beam 5": four_digits(evaluate_captioner(model, test, tokeniser, beam=5)),
                     "blank picture": four_digits(evaluate_captioner(model, blank, tokeniser)),
                     "captions": describe(model, test, tokeniser)[:10], "seconds": round(history.seconds, 1)})
        print(f"seed {seed}  CIDEr-D {runs[-1]['scores']['CIDEr-D']:.3f}, blank picture "
              f"{runs[-1]['blank picture']['CIDEr-D']:.3f}, {history.seconds:.0f} s", flush=True)
    return {"settings": {"steps": args.steps, "images": 16, "captions": 4, "lr": 2e-3, "warmup": 100, "train": args.train,
                         "test": args.test, "seeds": seeds(args.seeds), "decoding": "greedy"},
            "most frequent caption": four_digits(score_captions(most_frequent(data, test), test)), "runs": runs}
