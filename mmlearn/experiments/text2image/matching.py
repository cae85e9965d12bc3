"""Do wrong pairs teach a discriminator to read, and do interpolated captions fill the gaps? GAN, GAN-CLS,
GAN-INT and GAN-INT-CLS with the same pictures, encoder of text and steps.

Paper: S. Reed et al. (2016), *Generative Adversarial Text to Image Synthesis*, arXiv:1605.05396, sec. 4.2 and
4.3.  Survey: 2.1.2.
Differs from the paper: it shows pictures; here the discriminator's judgement of real pictures, attributes of
what is drawn and steps between two captions are measured, with several seeds.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mmlearn.data.pairs import PairData, signed_pixels
from mmlearn.data.things import kinds_of, thing_pairs
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text2image.evaluation import read_drawings
from mmlearn.text2image.gan_cls import GANCLS, GANCLSConfig, interpolate, wrong_partners
from mmlearn.text2image.pipeline import CHECKPOINTS, TextToImage, encode, load_char_cnn_rnn, load_judge
from mmlearn.text2image.training import RECIPES, mini_config, new_game, train_game

BASE = "GAN"
ARMS = {BASE: (0.0, 0.0), "GAN-CLS": (0.5, 0.0), "GAN-INT": (0.0, 1.0), "GAN-INT-CLS": (0.5, 1.0)}
LOWER_IS_BETTER = ("largest step",)
STEPS_BETWEEN = 10                              # pictures of a way from one caption to another, less one


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--train", type=int, default=20_000, help="training pictures")
    parser.add_argument("--test", type=int, default=1000, help="test pictures, and sentences that are drawn")
    parser.add_argument("--encoders", type=Path, default=CHECKPOINTS, help="where encoder and judge are")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")


@torch.no_grad()
def reads(model: GANCLS, encoder: Any, tokeniser: Any, data: PairData, seed: int = 0) -> float:
    """How often the discriminator finds that a real picture fits its own plain sentence better than that of
    a picture of another kind."""
    wrong = wrong_partners(kinds_of(data.scenes), torch.Generator().manual_seed(seed))
    hits = []
    with eval_mode(model):
        text = encode(encoder, tokeniser.batch([texts[0] for texts in data.captions])).sentence
        for rows in torch.arange(len(data)).split(250):
            images = signed_pixels(data.images[rows.tolist()])
            right, other = (model.discriminator(images, text[of]) for of in (rows, wrong[rows]))
            hits.append((right > other).double() + (right == other).double() / 2)
    return float(torch.cat(hits).mean())


@torch.no_grad()
def largest_step(model: TextToImage, data: PairData, ways: int = 100, seed: int = 0) -> float:
    """On the way from one sentence to the next, with the same noise: the largest change between neighbouring
    pictures as a share of the whole way. Equal steps have 0.1; 1 is a single jump."""
    texts = [captions[0] for captions in data.captions[: ways + 1]]
    with eval_mode(model):
        text = encode(model.encoder, model.tokens(texts))
        z = model.noise(len(texts) - 1, seed)
        way = torch.stack([model.images(text._replace(sentence=interpolate(text.sentence[1:],
                                                                           text.sentence[:-1], beta)), z)
                           for beta in torch.linspace(0, 1, STEPS_BETWEEN + 1).tolist()])
    steps = (way[1:] - way[:-1]).flatten(2).norm(dim=2)                                 # step, way
    return float((steps.amax(dim=0) / steps.sum(dim=0).clamp(min=1e-12)).mean())


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one arm with one seed, and measure it."""
    data = thing_pairs(args.train, size=args.size)
    encoder, letters = load_char_cnn_rnn(args.encoders)
    judge = load_judge(args.encoders / "scene-classifier.safetensors")
    cls_weight, interp_weight = ARMS[name]
    config = replace(cast(GANCLSConfig, mini_config("gan-cls", args.size, encoder.config.embed)),
                     cls_weight=cls_weight, interp_weight=interp_weight)
    with seeded(seed):
        model, game = new_game(config, encoder, kinds_of(data.scenes))
    history = train_game(model, game, data, letters, steps=args.steps, batch=args.batch, seed=seed,
                         precision=args.precision, progress=False, **RECIPES["gan-cls"])
    drawing = TextToImage.of(encoder, history.ema, letters, [texts[0] for texts in data.captions])
    test, unseen = (thing_pairs(args.test, split, size=args.size) for split in ("test", "compositional"))
    found: dict[str, float | Tensor] = {"D reads": reads(cast(GANCLS, model), encoder, letters, test, seed),
                                        "largest step": largest_step(drawing, test, seed=seed)}
    for part, asked in (("seen", test), ("unseen", unseen)):
        hits = read_drawings(drawing, judge, asked, seed=seed).hits
        found |= {f"{attribute}, {part} pairs": float(hit.mean()) for attribute, hit in hits.items()}
    return {"scores": {key: round(float(value), 4) for key, value in found.items()},
            "seconds": round(history.seconds, 1)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    arms: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), result in run_jobs(job, [(name, s) for s in seeds(args.seeds) for name in ARMS], args):
        arms[name].append(result)
        print(name, seed, result["scores"], flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "size": args.size,
                         "seeds": seeds(args.seeds), "precision": args.precision,
                         "average of weights": 0.999, **RECIPES["gan-cls"],
                         "train": f"{args.train} pictures of one thing, seed 0", "test": args.test},
            "arms": arms}
