"""M2 on the regions of the scene world, trained until it captions; the checkpoint that the chapter loads.

Paper: M. Cornia et al. (2020), arXiv:1912.08226, sec. 4.2.  Survey: 1.2.1.
Differs from the paper: a miniature; cross-entropy with a cosine instead of the warm-up rate of Vaswani et al.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmlearn.experiments.image2text.captioner_grid import SHOWN, finish, most_frequent, part
from mmlearn.experiments.image2text.m2_ablation import features_of, four_digits, rounded
from mmlearn.image2text.m2 import M2Config, M2Transformer
from mmlearn.image2text.regions import CHECKPOINT, load_detector
from mmlearn.image2text.saved import CHECKPOINTS, SavedCaptioner, Sight
from mmlearn.image2text.training import (
    describe,
    evaluate_captioner,
    scene_data,
    score_captions,
    score_writers,
    train_cross_entropy,
    train_self_critical,
)
from mmlearn.nn.modes import seeded


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--width", type=int, default=96, help="of the states; the feed-forward nets are twice as wide"
    )
    parser.add_argument("--steps", type=int, default=3000, help="steps of cross-entropy")
    parser.add_argument("--images", type=int, default=16, help="scenes a step")
    parser.add_argument("--captions", type=int, default=4, help="captions of each")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument(
        "--polish", type=int, default=100, help="self-critical steps at the end, 32 scenes each"
    )
    parser.add_argument("--polish-lr", type=float, default=1e-4)
    parser.add_argument("--train", type=int, default=10_000, help="training scenes")
    parser.add_argument("--val", type=int, default=300, help="validation scenes, for the curve")
    parser.add_argument("--test", type=int, default=1000, help="test scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", type=Path, default=CHECKPOINT)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINTS / "m2-regions.safetensors")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


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
    history = train_cross_entropy(
        model,
        data,
        tokeniser,
        steps=args.steps,
        images=args.images,
        captions=args.captions,
        lr=args.lr,
        seed=args.seed,
        folder=part(args.folder, "m2-captions"),
        save_every=100,
        progress=False,
        evaluate=lambda judged: evaluate_captioner(judged, val, tokeniser, full=False),
        evaluate_every=max(1, args.steps // 8),
    )
    print("captions", rounded(history.metrics), flush=True)
    measured = {
        "settings": {
            **{k: v for k, v in vars(args).items() if isinstance(v, int | float)},
            "schedule": "Adam(.9, .98), cosine to lr / 20",
            "test of": "test, seed 0",
            "longest caption": "16 words",
            "polish reward": "CIDEr-D without <eos>",
            "detector": "data/checkpoints/detector.safetensors",
        },
        "parameters": sum(p.numel() for p in model.parameters()),
        "curve": {"step": history.metric_steps, **rounded(history.metrics)},
        "training seconds": round(history.seconds, 1),
        "most frequent caption": four_digits(score_captions(most_frequent(data, test), test)),
        "captions of the data": four_digits(score_writers(test)),
        "cross-entropy": {
            "greedy": four_digits(evaluate_captioner(model, test, tokeniser)),
            "beam 5": four_digits(evaluate_captioner(model, test, tokeniser, beam=5)),
            "captions": describe(model, test, tokeniser, beam_size=5)[:SHOWN],
        },
    }
    print(measured["cross-entropy"], flush=True)
    if args.polish:
        rewards = train_self_critical(
            model,
            data,
            tokeniser,
            steps=args.polish,
            lr=args.polish_lr,
            seed=args.seed,
            eos_in_reward=False,
            folder=part(args.folder, "m2-polish"),
            save_every=20,
            progress=False,
        ).scalars["reward"]
        measured["reward"] = [round(value, 3) for value in rewards]
    measured |= {
        "scores": four_digits(evaluate_captioner(model, test, tokeniser)),
        "beam 5": four_digits(evaluate_captioner(model, test, tokeniser, beam=5)),
    }
    sight = Sight.regions(detector)
    return finish(
        args.name, SavedCaptioner("m2", model.eval(), tokeniser, sight, {}), test, measured, args.checkpoint
    )
