"""What cutouts do to an imagined picture: the same sentences, starts and steps, with cuts and without, judged
by the CLIP that guided and by another one, which knows nothing of it.

Paper: K. Crowson et al. (2022), *VQGAN-CLIP*, ECCV, arXiv:2204.08583.  Survey: 3.6.

Each seed imagines the plain sentences of pictures of one thing. Compared are pictures of codes drawn at
random, the real pictures, and those of other sentences. The guide is the miniature with a Vision Transformer,
the second judge the one with a ResNet; they share no weight and no seed.
"""

import argparse
from pathlib import Path
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor

from mmlearn.data.things import thing_pairs
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.images_for_language.cutouts import CutoutConfig
from mmlearn.images_for_language.imagination import embedded, seen
from mmlearn.images_for_language.vqgan_clip import VQGANCLIP, as_bytes, latents_of, pictures_of
from mmlearn.text2image.first_stage import load_vqgan
from mmlearn.text_for_vision.training import load_mini

BASE = "no cutouts"
ARMS = {BASE: CutoutConfig.none(), "cutouts": CutoutConfig.mini(), "the paper's": CutoutConfig(8)}


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--texts", type=int, default=32, help="sentences, the same for all seeds")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--at-once", type=int, default=8, help="cuts at a time")
    parser.add_argument("--guide", default="vit", help="the CLIP that guides")
    parser.add_argument("--second", default="resnet", help="the CLIP that judges beside it")
    parser.add_argument("--vqgan", type=Path, help="a trained VQGAN (default: that of the book)")


def measured(pictures: Tensor, goals: dict[str, Tensor], clips: dict[str, Any]) -> dict[str, float]:
    """Of pictures (n, 3, s, s) as bytes and each CLIP: the mean cosine with the own sentence, and the share
    of pictures whose own sentence is closer than all others."""
    found = {}
    for name, mini in clips.items():
        cosines = F.normalize(seen(mini.model, pictures), dim=-1) @ F.normalize(goals[name], dim=-1).T
        own = cosines.diagonal()
        others = cosines.clone().fill_diagonal_(-2)
        found[name] = round(float(own.mean()), 4)
        found[f"{name}, own first"] = round(float((own > others.amax(dim=1)).float().mean()), 4)
    return found


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One seed of one arm: losses of the steps, and what both CLIPs say of the pictures, of those of random
    codes, of the real ones and of those that belong to the next sentence."""
    data = thing_pairs(args.texts, "test")
    texts = [sentences[0] for sentences in data.captions]
    clips = {"guide": load_mini(args.guide), "second": load_mini(args.second)}
    goals = {which: embedded(mini.model, mini.tokeniser, texts) for which, mini in clips.items()}
    model = VQGANCLIP.of(load_vqgan(args.vqgan), clips["guide"].model, ARMS[name], steps=args.steps,
                         lr=args.lr)
    found = model.imagine(goals["guide"], seed=seed, at_once=args.at_once)
    plain = VQGANCLIP.of(model.vqgan, model.clip, CutoutConfig.none(), steps=0)      # type: ignore[arg-type]
    angles = (plain.scores(found.images, goals["guide"]).arccos().square() / 2).mean()
    real = cast(Tensor, data.images)
    random = as_bytes(pictures_of(latents_of(model.vqgan), model.first(len(texts), seed)))
    return {
        "seed": seed, "losses": [round(float(v), 4) for v in found.losses.mean(dim=1)],
        "loss of whole pictures": round(float(angles), 4),
        "scores": measured(as_bytes(found.images), goals, clips),
        "random codes": measured(random, goals, clips), "real": measured(real, goals, clips),
        "other pictures": measured(real.roll(1, 0), goals, clips),
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), result in run_jobs(job, jobs, args):
        found[name].append(result)
        print(f"seed {seed}  {name:12}  {result['scores']}", flush=True)
    settings = {key: getattr(args, key) for key in ("texts", "steps", "lr", "guide", "second")}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "arms": found}
