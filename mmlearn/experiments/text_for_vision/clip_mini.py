"""The miniature CLIPs that come with the book, trained on the scene world until they are of use.

Paper: A. Radford et al. (2021), arXiv:2103.00020, sec. 2.4-2.5.  Survey: 4.2.
Differs from the paper: 64 pixels, words as tokens, drawn scenes instead of 400 million pairs, no random crop.
With ``--text-from`` a miniature starts with the text tower of another one, which saves minutes; those of the
book start from nothing.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from mmlearn.data.pairs import SIZE, class_pictures, scene_pairs, scene_tokeniser
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.nn.modes import seeded
from mmlearn.nn.vit import ViTConfig
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig
from mmlearn.text_for_vision.training import (
    CHECKPOINTS,
    FILES,
    load_mini,
    retrieval,
    save_mini,
    train_clip,
    zero_shot_accuracy,
)

BUILD = {"vit": CLIPConfig.mini, "resnet": CLIPConfig.mini_resnet}
STEPS, RATES = {"vit": 6000, "resnet": 8000}, {"vit": 1e-3, "resnet": 2e-3}


def judge(model: nn.Module, tokeniser: Tokeniser, pictures: int = 1000,
          scenes: int = 500) -> dict[str, float]:
    """Everything that the chapter asks of a miniature: fractions between 0 and 1, median ranks from 1.

    "zero-shot" is over 30 categories, "colour and category" over all pairs of the two, "unseen pairs" the
    same on pairs never drawn in training, "kinds" over the words animal, plant, vehicle …, "kinds of unseen
    categories" the same for categories never drawn in training. Retrieval is among ``scenes`` test scenes and
    all their short captions.
    """
    def accuracy(split: str, **how: Any) -> float:
        return zero_shot_accuracy(model, tokeniser, class_pictures(pictures, split, **how))

    return {"zero-shot": accuracy("test"), "colour and category": accuracy("test", by="pair"),
            "unseen pairs": accuracy("compositional", by="pair"), "kinds": accuracy("test", by="kind"),
            "kinds of unseen categories": accuracy("zero_shot", by="kind"),
            **retrieval(model, tokeniser, scene_pairs(scenes, "test"))}


def rounded(scores: Mapping[str, float]) -> dict[str, float]:
    """Four digits are enough for the record."""
    return {name: round(value, 4) for name, value in scores.items()}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tower", choices=sorted(FILES), default="resnet")
    parser.add_argument("--steps", type=int, help=f"default {STEPS}")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, help=f"default {RATES}")
    parser.add_argument("--train", type=int, default=60_000, help="training scenes")
    parser.add_argument("--width", type=int, help="of the Vision Transformer's states, a multiple of 32")
    parser.add_argument("--text-from", help="start with the text tower and the words of this miniature")
    parser.add_argument("--pictures", type=int, default=1000, help="test pictures of one thing")
    parser.add_argument("--scenes", type=int, default=500, help="test scenes for retrieval")
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep training checkpoints here, and go on from them")


def run(args: argparse.Namespace) -> dict[str, Any]:
    steps, lr = args.steps or STEPS[args.tower], args.lr or RATES[args.tower]
    data = scene_pairs(args.train)
    other = load_mini(args.text_from) if args.text_from else None
    tokeniser = other.tokeniser if other else scene_tokeniser(data)
    config = BUILD[args.tower](len(tokeniser))
    if args.width and isinstance(config.image, ViTConfig):
        config = replace(config, image=replace(config.image, width=args.width, heads=args.width // 32))
    with seeded(0):
        model = CLIP(config)
    if other:
        model.text.load_state_dict(other.model.text.state_dict())
    watched = class_pictures(min(400, args.pictures), "val")
    every = max(1, steps // 8)
    history = train_clip(
        model, data, tokeniser, steps=steps, batch=args.batch, lr=lr, folder=args.folder,
        evaluate=lambda judged: {"zero-shot": zero_shot_accuracy(judged, tokeniser, watched)},
        evaluate_every=every, on_step=lambda step, _: print(f"step {step} of {steps}", flush=True)
        if step % every == 0 else None)
    scores = rounded(judge(model, tokeniser, args.pictures, args.scenes))
    print(scores, flush=True)
    parameters = sum(p.numel() for p in model.parameters())
    settings = {"tower": args.tower, "steps": steps, "batch": args.batch, "lr": lr, "warmup": 50,
                "schedule": "cosine to 0", "weight decay": 0.2,
                "train": f"{args.train} scenes of train, seed 0", "text tower from": args.text_from,
                "size": SIZE, "longest caption": "16 words", "test pictures": args.pictures,
                "test scenes": args.scenes}
    smooth = history.smooth(20)
    curve = {
        "step": history.metric_steps,
        "zero-shot (val)": [round(v, 4) for v in history.metrics["zero-shot"]],
        "loss": [round(smooth[s - 1], 4) for s in history.metric_steps],
        "scale": [round(history.scalars["scale"][s - 1], 2) for s in history.metric_steps],
    }
    found = {"parameters": parameters, "settings": settings, "test": scores, "curve": curve}
    save_mini(args.checkpoint or CHECKPOINTS / FILES[args.tower], model, tokeniser, found)
    return {**found, "training seconds": round(history.seconds, 1)}
