"""The miniature dVAE: pictures of one thing as 8 x 8 codes, trained with the paper's three annealings.

Survey: 2.2.  A miniature of DALL-E may learn to write its codes. What is lost by them is measured beside
plain patches and VQGAN's codes; ``--trained`` measures weights again that are there already.
"""

import argparse
import math
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmlearn.catalog import kinds
from mmlearn.checkpoints import load_model, save_model
from mmlearn.data.batches import Batches
from mmlearn.data.pairs import SIZE, PairData
from mmlearn.data.things import thing_pairs
from mmlearn.images_for_language.visual_words import k_means, random_start
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.nn.vision import patches
from mmlearn.text2image.dvae import DVAE, DVAEConfig, DVAESchedule, kl_to_uniform, map_pixels
from mmlearn.text2image.first_stage import edge_energy, load_vqgan, reconstruct
from mmlearn.text2image.pipeline import CHECKPOINTS, load_judge
from mmlearn.text2image.vector_quantisation import nearest_codes
from mmlearn.train import fit

EVERY = 50                                      # steps between two records of the curve
FITTED = 2000                                   # pictures whose patches k-means reads


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--codes", type=int, default=128, help="kinds of codes")
    parser.add_argument("--width", type=int, default=32, help="channels of the first group")
    parser.add_argument("--beta", type=float, default=6.6, help="weight of the KL after its annealing")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--train", type=int, default=20_000, help="training pictures")
    parser.add_argument("--test", type=int, default=500, help="test pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")
    parser.add_argument("--trained", type=Path,
                        help="measure these weights again on --test pictures, without training")


class Pictures(Batches):
    """Endless shuffled batches of pictures in [0, 1], with the number of their step."""

    def make(self, indices: list[int], number: int) -> tuple[Tensor, int]:
        return self.data.images[indices].float() / 255, number


@torch.no_grad()
def judge(model: DVAE, data: PairData) -> dict[str, float]:
    """Mean squared error of pictures through tokens, codes in use and their perplexity."""
    with eval_mode(model) as device:
        error, counts = 0.0, torch.zeros(model.config.vocab)
        for part in cast(Tensor, data.images).split(100):
            images = part.to(device).float() / 255
            tokens = model.tokens(images)
            error += float((model.pictures(tokens) - images).square().mean()) * len(part) / len(data)
            counts += torch.bincount(tokens.flatten().cpu(), minlength=len(counts))
    p = counts / counts.sum()
    return {"mse": round(error, 5), "codes in use": int((counts > 0).sum()),
            "perplexity": round(float(torch.special.entr(p).sum().exp()), 2)}


@torch.no_grad()
def certainty(model: DVAE, data: PairData) -> dict[str, float]:
    """Mean over places of the KL to even odds, in nats, and of the share of the likeliest code; the
    perplexity of a place's q is the number of codes over the exponential of that KL."""
    kl, largest = 0.0, 0.0
    with eval_mode(model) as device:
        for part in cast(Tensor, data.images).split(100):
            logits = model.encoder(map_pixels(part.to(device).float() / 255))
            kl += float(kl_to_uniform(logits).mean()) * len(part) / len(data)
            largest += float(logits.softmax(1).amax(1).mean()) * len(part) / len(data)
    return {"kl": round(kl, 4), "largest share": round(largest, 4)}


def whole(parts: Float[Tensor, "n p d"], factor: int) -> Float[Tensor, "n 3 s s"]:
    """The pictures that ``patches`` cut."""
    side = factor * math.isqrt(parts.shape[1])
    return F.fold(parts.mT, side, factor, stride=factor)


@torch.no_grad()
def beside(model: DVAE, test: PairData, train: PairData, seed: int = 0) -> dict[str, dict[str, float]]:
    """Test pictures through the likeliest codes, through codes drawn from q, through the nearest of as many
    patches that k-means has found, of so few that they say as much as drawn codes, and through VQGAN's codes.

    Each with the "nats" that a place says at most (for drawn codes, the mean KL), "mse" and "mae" of pixels
    in [0, 1], "edges" (eq:vqgan-edges, a share of the pictures'), and how often the scene classifier answers
    as it does for the picture, both enlarged to its size. VQGAN reads and draws the same scenes at that size;
    its pictures are made smaller.
    """
    judge, factor, count = load_judge(), model.config.factor, model.config.vocab
    images, fitted = (cast(Tensor, data.images).float() / 255 for data in (test, train))
    kl = certainty(model, test)["kl"]
    draws = torch.Generator().manual_seed(seed)
    with eval_mode(model) as device:
        q = torch.cat([model.encoder(map_pixels(part.to(device))).softmax(1).cpu()
                       for part in images.split(100)])
        drawn = torch.multinomial(q.movedim(1, -1).flatten(0, 2), 1, generator=draws)
        made = {"likeliest codes": (math.log(count), q.argmax(1)),
                "drawn codes": (kl, drawn.view(len(images), *q.shape[2:]))}
        pictures = {name: (nats, torch.cat([model.pictures(part.to(device)).cpu()
                                            for part in tokens.split(100)]))
                    for name, (nats, tokens) in made.items()}
    points, squares = patches(fitted, factor).flatten(0, 1), patches(images, factor)
    for k in dict.fromkeys((count, max(2, math.ceil(math.exp(kl))))):
        centres, _ = k_means(points, random_start(points, k, draws), iterations=50)
        nearest = centres[nearest_codes(squares.flatten(0, 1), centres)].view_as(squares)
        pictures[f"{k} patches"] = math.log(k), whole(nearest, factor)
    vqgan, large = load_vqgan(), thing_pairs(len(test), "test", size=SIZE)
    redrawn = (reconstruct(vqgan, cast(Tensor, large.images)) + 1) / 2
    pictures["VQGAN"] = (math.log(vqgan.config.codes),
                         F.interpolate(redrawn, size=images.shape[-2:], mode="area"))

    def answers(x: Tensor) -> dict[str, Tensor]:
        parts = [judge.answers(2 * part - 1) for part in x.split(100)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    told, found = answers(images), {}
    for name, (nats, picture) in pictures.items():
        said = answers(picture)
        found[name] = {
            "nats": nats, "mse": float((picture - images).square().mean()),
            "mae": float((picture - images).abs().mean()),
            "edges": float(edge_energy(picture) / edge_energy(images)),
            **{part: float((said[part] == told[part]).double().mean()) for part in told}}
    return {name: {key: round(value, 5) for key, value in row.items()} for name, row in found.items()}


def measured(model: DVAE, count: int) -> dict[str, Any]:
    """All that is measured of a trained model on ``count`` test pictures."""
    size = model.config.size
    test = thing_pairs(count, "test", size=size)
    return {"test": judge(model, test), "certainty": certainty(model, test),
            "beside": beside(model, test, thing_pairs(FITTED, size=size))}


def again(args: argparse.Namespace) -> dict[str, Any]:
    """The record of a training with everything measured anew."""
    model, about = load_model(args.trained, kinds("dvae"))
    found = {name: value for name, value in about.items() if name not in ("system", "config")}
    return {**found, **measured(cast(DVAE, model), args.test)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.trained:
        return again(args)
    data = thing_pairs(args.train, size=args.size)
    schedule = DVAESchedule.mini(args.steps, args.beta, args.lr)
    with seeded(args.seed):
        model = DVAE(DVAEConfig.mini(args.size, args.codes, args.width))

    def loss(now: DVAE, batch: tuple[Tensor, int]) -> tuple[Tensor, dict[str, Tensor]]:
        images, step = batch
        draws = torch.Generator(images.device).manual_seed(args.seed * 1_000_003 + step)
        return now.loss(images, schedule.tau_at(step), schedule.beta_at(step), draws)

    history = fit(model, loss, Pictures(data, args.batch, seed=args.seed), steps=args.steps,
                  optimizer=lambda parts: torch.optim.AdamW(parts, weight_decay=1e-4, fused=True),
                  schedule=schedule.lr_at, ema=0.999 if args.steps > 2000 else None, folder=args.folder,
                  save_every=250, seed=args.seed, progress=False)
    trained = cast(DVAE, history.ema if history.ema is not None else model)
    steps = range(0, args.steps, max(EVERY, args.steps // 100))
    found = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "settings": {"steps": args.steps, "batch": args.batch, "size": args.size, "codes": args.codes,
                     "beta": args.beta, "lr": args.lr, "seed": args.seed,
                     "train": f"{args.train} pictures of one thing, seed 0"},
        **measured(trained, args.test),
        "curve": {"step": list(steps), "loss": [round(history.loss[i], 4) for i in steps],
                  **{name: [round(history.scalars[name][i], 4) for i in steps] for name in ("nll", "kl")}},
        "seconds a step": round(history.seconds / args.steps, 3),
    }
    print(found["test"], flush=True)
    save_model(args.checkpoint or CHECKPOINTS / "dvae.safetensors", trained, "dvae", found, half=True)
    return found
