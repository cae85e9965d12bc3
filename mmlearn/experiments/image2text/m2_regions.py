"""M2 on the regions of the scene world, trained until it captions; the checkpoint that the chapter loads.

Paper: M. Cornia et al. (2020), arXiv:1912.08226, sec. 4.2.  Survey: 1.2.1.
Differs from the paper: a miniature; cross-entropy with a cosine instead of the warm-up rate of Vaswani et al.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmlearn.experiments.image2text.m2_ablation import features_of, four_digits, rounded
from mmlearn.experiments.image2text.miniature import (
    SHOWN,
    add_phases,
    both_decodings,
    earn_rewards,
    finish,
    most_frequent,
    say_what_people_said,
    settings,
)
from mmlearn.image2text.m2 import M2Config, M2Transformer
from mmlearn.image2text.regions import CHECKPOINT, load_detector
from mmlearn.image2text.saved import FeatureExtractor, SavedCaptioner
from mmlearn.image2text.training import describe, scene_data, score_captions, score_writers
from mmlearn.nn.modes import seeded


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--width", type=int, default=96, help="of the states; the feed-forward nets are twice as wide"
    )
    add_phases(parser, "m2-regions", images=16, polish=100)
    parser.add_argument("--detector", type=Path, default=CHECKPOINT)


def run(args: argparse.Namespace) -> dict[str, Any]:
    detector = load_detector(args.detector)
    data, val, test = (
        scene_data(count, split, detector=detector, keep=args.folder)
        for count, split in ((args.train, "train"), (args.val, "val"), (args.test, "test"))
    )
    tokeniser = data.vocabulary()
    with seeded(args.seed):
        config = replace(
            M2Config.mini(len(tokeniser), features_of(data)), width=args.width, ff=2 * args.width
        )
        model = M2Transformer(config)
    history = say_what_people_said(args, model, data, val, tokeniser, "m2-captions")
    measured = {
        "settings": {
            **settings(args),
            "polish reward": "CIDEr-D without <eos>",
            "detector": "data/checkpoints/detector.safetensors",
        },
        "parameters": sum(p.numel() for p in model.parameters()),
        "curve": {"step": history.metric_steps, **rounded(history.metrics)},
        "training seconds": round(history.seconds, 1),
        "most frequent caption": four_digits(score_captions(most_frequent(data, test), test)),
        "captions of the data": four_digits(score_writers(test)),
        "cross-entropy": {
            **both_decodings(model, test, tokeniser, "greedy"),
            "captions": describe(model, test, tokeniser, beam_size=5)[:SHOWN],
        },
    }
    print(measured["cross-entropy"], flush=True)
    if args.polish:
        rewards = earn_rewards(args, model, data, tokeniser, "m2-polish").scalars["reward"]
        measured["reward"] = [round(value, 3) for value in rewards]
    measured |= both_decodings(model, test, tokeniser)
    extractor = FeatureExtractor.regions(detector)
    saved = SavedCaptioner("m2", model.eval(), tokeniser, extractor, {})
    return finish(args.name, saved, test, measured, args.checkpoint)
