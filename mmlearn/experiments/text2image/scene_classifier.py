"""The judge of what generators draw: a network that reads category, colour and setting off a picture of one
thing.

Survey: 2.1.  It is trained on real pictures alone, with noise on their pixels; no generator is trained
against it. It sees the pairs of colour and category too that generators never see: a judge that knows seen
pairs only takes an unseen one for a seen one (it read 60 % of their categories rightly).
"""

import argparse
from pathlib import Path
from typing import Any

from mmlearn.checkpoints import save_model
from mmlearn.data.pairs import PairData, joined, signed_pixels
from mmlearn.data.things import ATTRIBUTES, attributes_of, side_pictures, thing_pairs, two_things
from mmlearn.metrics.text_match import attribute_accuracy
from mmlearn.nn.feature_networks import SceneClassifier
from mmlearn.nn.modes import eval_mode
from mmlearn.text2image.pipeline import CHECKPOINTS
from mmlearn.text2image.training import train_scene_classifier


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--train", type=int, default=20_000, help="training pictures of seen pairs")
    parser.add_argument("--train-unseen", type=int, default=8000, help="training pictures of other pairs")
    parser.add_argument("--test", type=int, default=1000, help="test pictures")
    parser.add_argument("--sides", action="store_true", help="learn to read halves of pictures of two things")
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


def accuracy(judge: SceneClassifier, data: PairData) -> dict[str, float]:
    """Share of real pictures whose attributes are read rightly, to four digits."""
    with eval_mode(judge):
        parts = [judge.answers(signed_pixels(data.images[i:i + 250])) for i in range(0, len(data), 250)]
    answers = {name: parts[0][name].new_tensor([v for part in parts for v in part[name].tolist()])
               for name in ATTRIBUTES}
    return {name: round(value, 4)
            for name, value in attribute_accuracy(answers, attributes_of(data.scenes)).items()}


def pictures(count: int, split: str, sides: bool, seed: int = 0) -> PairData:
    """``count`` pictures of one thing each, or halves of as many pictures of two."""
    if sides:
        return side_pictures(two_things(count, split, seed=seed))
    return thing_pairs(count, split, seed=seed)


def run(args: argparse.Namespace) -> dict[str, Any]:
    data = joined([pictures(args.train, "train", args.sides),
                   pictures(args.train_unseen, "compositional", args.sides, seed=1)])
    judge, history = train_scene_classifier(data, steps=args.steps, batch=args.batch,
                                            lr=args.lr, folder=args.folder, progress=False)
    what = "both halves of pictures of two things" if args.sides else "pictures of one thing"
    found = {"parameters": sum(p.numel() for p in judge.parameters()),
             "settings": {"steps": args.steps, "batch": args.batch, "lr": args.lr, "schedule": "cosine to 0",
                          "noise": 0.1,
                          "train": f"{args.train} {what}, seed 0, and {args.train_unseen} of pairs that "
                                   f"generators do not see, seed 1"},
             "test": accuracy(judge, pictures(args.test, "test", args.sides)),
             "unseen pairs": accuracy(judge, pictures(args.test, "compositional", args.sides))}
    print(found, flush=True)
    name = "side-classifier" if args.sides else "scene-classifier"
    path = args.checkpoint or CHECKPOINTS / f"{name}.safetensors"
    save_model(path, judge, "scene-classifier", found, half=True)
    return {**found, "training seconds": round(history.seconds, 1)}
