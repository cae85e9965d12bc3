"""The first stages of the chapter's miniatures: a VQGAN, or the autoencoder of latent diffusion, trained on
scenes of one, two and several things at 64 pixels.

Survey: 2.2, 2.3.1.  The perceptual distance is that of the scene classifier's maps, which also measures what
was learned; pixels, codes and edges are counted beside it.
"""

import argparse
from pathlib import Path
from typing import Any

from mmlearn.checkpoints import save_model
from mmlearn.data.pairs import SIZE, scene_pairs
from mmlearn.data.things import thing_pairs, two_things
from mmlearn.nn.modes import seeded
from mmlearn.text2image.first_stage import (
    both,
    new_game,
    pictures_of,
    reconstruct,
    reconstruction_scores,
    scaled,
    train_first_stage,
)
from mmlearn.text2image.kl_autoencoder import KLAutoencoder
from mmlearn.text2image.pipeline import CHECKPOINTS, load_judge, sheet

NAMES = {"vqgan": "vqgan", "kl": "kl-autoencoder"}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", choices=sorted(NAMES), default="vqgan", help="codes, or normal latents")
    parser.add_argument("--factor", type=int, choices=(4, 8), default=4, help="how many times smaller")
    parser.add_argument("--codes", type=int, default=256, help="of the codebook")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=3000, help="step with which the game begins")
    parser.add_argument("--perceptual", type=float, default=0.3, help="weight of the perceptual distance")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels a side")
    parser.add_argument("--train", type=int, default=24_000,
                        help="training pictures: half of one thing, a quarter of two, a quarter of several")
    parser.add_argument("--test", type=int, default=1000, help="pictures of one thing, as many of several")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoders", type=Path, default=CHECKPOINTS, help="where the scene classifier is")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    parser.add_argument("--evaluate-every", type=int, default=1000)
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


def run(args: argparse.Namespace) -> dict[str, Any]:
    quarter = max(1, args.train // 4)
    train = pictures_of(thing_pairs(2 * quarter, size=args.size), two_things(quarter, size=args.size),
                        scene_pairs(quarter, size=args.size))
    judge = load_judge(args.encoders / "scene-classifier.safetensors")
    few = min(100, args.test)
    val = pictures_of(thing_pairs(few, "val", size=args.size), scene_pairs(few, "val", size=args.size))
    shown = val[::max(1, len(val) // 16)][:16]
    with seeded(args.seed):
        game = new_game(args.kind, args.factor, args.codes, args.start, args.perceptual)

    def evaluate(now: Any) -> dict[str, float]:
        scores = reconstruction_scores(now.autoencoder, val, judge)
        if args.folder:
            done = len(list(args.folder.glob("drawn-*.png")))
            sheet(both(shown, reconstruct(now.autoencoder, shown)), 8).save(
                args.folder / f"drawn-{done:03d}.png")
        print({name: round(value, 3) for name, value in scores.items()}, flush=True)
        return scores

    history = train_first_stage(
        game, train, judge, steps=args.steps, batch=args.batch, lr=args.lr, seed=args.seed,
        precision=args.precision, folder=args.folder, save_every=250, evaluate=evaluate,
        evaluate_every=args.evaluate_every, progress=False)
    averaged: Any = history.ema
    model = averaged.autoencoder.eval()
    if isinstance(model, KLAutoencoder):
        model = scaled(model, val)
    tests = {"one thing": thing_pairs(args.test, "test", size=args.size),
             "unseen pairs": thing_pairs(args.test, "compositional", size=args.size),
             "two things": two_things(args.test, "test", size=args.size),
             "several things": scene_pairs(args.test, "test", size=args.size)}
    found = {
        "parameters": {name: sum(p.numel() for p in part.parameters())
                       for name, part in game.named_children()},
        "settings": {name: getattr(args, name) for name in (
            "kind", "factor", "codes", "steps", "start", "perceptual", "batch", "lr", "size", "train", "seed",
            "precision")} | {"average of weights": 0.999},
        "test": {name: {score: round(value, 4) for score, value in reconstruction_scores(
            model, pictures_of(data), judge).items()} for name, data in tests.items()},
        "curve": {"step": history.metric_steps,
                  **{name: [round(v, 4) for v in values] for name, values in history.metrics.items()}},
        "seconds a step": round(history.seconds / args.steps, 3),
    }
    print(found["test"], flush=True)
    name = NAMES[args.kind]
    save_model(args.checkpoint or CHECKPOINTS / f"{name}.safetensors", model, name, found, half=True)
    return found
