"""Walks by instruction in houses that were never seen: what words, pictures and many houses are worth.

Papers: P. Anderson et al. (2018), *Vision-and-Language Navigation*, CVPR, arXiv:1711.07280; P. Anderson et
al. (2018), *On Evaluation of Embodied Navigation Agents*, arXiv:1807.06757.  Survey: 5.

All arms of a seed see as many walks, in the same order, and learn from the ways that they go themselves.
"seeing" reads the instruction and sees by the frozen image tower of the miniature CLIP; the blind ones get
zeros for the words or the pictures, in training as in the test; "raw pixels" trains a small network along;
"four houses" has as many walks in 4 houses. The walker of the book is "seeing" with seed 0.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from mmlearn.both_modalities.walker import (
    WalkBatches,
    Walker,
    WalkerConfig,
    evaluate_walker,
    miniature_sight,
    save_walker,
    scores_of,
    walking_loss,
)
from mmlearn.data.navigation import (
    Walks,
    follow,
    forward_policy,
    make_walks,
    random_policy,
    shortest_path_policy,
)
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.metrics.navigation import NavigationScores
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.train import fit, warmup_cosine

BASE = "seeing"
ARMS = (BASE, "word-blind", "picture-blind", "raw pixels", "four houses")
SPLITS = ("unseen", "seen")
SETTINGS = ("steps", "batch", "lr", "train", "houses", "few", "test", "size", "pixels")


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=48, help="walks a step")
    parser.add_argument("--lr", type=float, default=3e-3, help="at most; a cosine to a fiftieth of it")
    parser.add_argument("--train", type=int, default=8000, help="walks to learn from")
    parser.add_argument("--houses", type=int, default=100, help="in which they go")
    parser.add_argument("--few", type=int, default=4, help='houses of the arm "four houses"')
    parser.add_argument("--test", type=int, default=500, help="walks to be judged by, in each of the splits")
    parser.add_argument("--size", type=int, default=64, help="pixels a side that the frozen network sees")
    parser.add_argument("--pixels", type=int, default=32, help='the same for the arm "raw pixels"')
    parser.add_argument("--checkpoint", type=Path, help="where the walker of the book is written")


def walks_of(split: str, args: argparse.Namespace, name: str = BASE) -> Walks:
    """The walks of a split for an arm, with what the frozen network sees of their pictures."""
    houses = args.few if name == "four houses" and split != "unseen" else args.houses
    pixels = name == "raw pixels"
    walks = make_walks(args.train if split == "train" else args.test, split, houses=houses,
                       size=args.pixels if pixels else args.size)
    if not pixels:
        walks.world.see(miniature_sight)
    return walks


def config_of(name: str, vocab: int) -> WalkerConfig:
    """The walker of an arm."""
    if name == "raw pixels":
        return WalkerConfig.mini(vocab)
    return replace(WalkerConfig.frozen(vocab), reads=name != "word-blind", looks=name != "picture-blind")


def rounded(scores: NavigationScores) -> dict[str, float]:
    """Four digits are enough for the record."""
    return {key: round(value, 4) for key, value in asdict(scores).items()}


@torch.no_grad()
def by_length(model: Walker, walks: Walks, tokeniser: WordTokeniser) -> dict[str, float]:
    """Success of walks whose shortest way has 3, 4, … doors."""
    with eval_mode(model):
        trail = model(walks, tokeniser.batch(walks.instructions)).trail
    good = trail.stopped & (trail.to_goal[:, -1] == 0)
    return {str(n): round(float(good[walks.shortest == n].float().mean()), 4)
            for n in walks.shortest.unique().tolist()}


@torch.no_grad()
def with_other_words(model: Walker, walks: Walks, tokeniser: WordTokeniser) -> dict[str, float]:
    """Scores of a walker that is told the way of the next walk."""
    with eval_mode(model):
        trail = model(walks, tokeniser.batch(walks.instructions).roll(1, 0)).trail
    return rounded(scores_of(walks, trail))


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One walker, trained and judged in new houses and in those it knows."""
    train = walks_of("train", args, name)
    tokeniser = WordTokeniser.train(train.instructions, splitter="simple")
    with seeded(seed):
        model = Walker(config_of(name, len(tokeniser)))
    every = max(1, args.steps // 10)
    history = fit(
        model, walking_loss, WalkBatches(train, tokeniser, args.batch, seed=seed), steps=args.steps,
        optimizer=torch.optim.Adam(model.parameters(), lr=args.lr), clip=5.0, seed=seed, progress=False,
        schedule=warmup_cosine(args.lr, min(50, args.steps // 4), args.steps, args.lr / 50),
        on_step=lambda step, _: print(f"seed {seed}  {name:15} step {step} of {args.steps}", flush=True)
        if step % every == 0 else None)
    smooth = history.smooth(every)
    steps = list(range(every, args.steps + 1, every))
    found: dict[str, Any] = {"seed": seed, "parameters": sum(p.numel() for p in model.parameters()),
                             "seconds": round(history.seconds, 1),
                             "curve": {"step": steps, "loss": [round(smooth[s - 1], 4) for s in steps]}}
    for split in SPLITS:
        walks = walks_of(split, args, name)
        found[split] = rounded(evaluate_walker(model, walks, tokeniser))
        if name == BASE:
            found[f"{split} by length"] = by_length(model, walks, tokeniser)
            found[f"{split}, other words"] = with_other_words(model, walks, tokeniser)
    if name == BASE and seed == 0 and args.checkpoint is not None:
        settings = {key: getattr(args, key) for key in SETTINGS}
        save_walker(args.checkpoint, model, tokeniser, {"settings": settings, "metrics": found})
    return found


def references(args: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Who does not learn: chance, straight on, and who knows the map, the path and the goal."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for split in SPLITS:
        walks = walks_of(split, args)
        policies = {"random": random_policy(torch.Generator().manual_seed(0)), "forward": forward_policy(),
                    "shortest path": shortest_path_policy}
        for name, policy in policies.items():
            told.setdefault(name, {})[split] = rounded(scores_of(walks, follow(walks, policy)))
    return told


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    told = references(args)
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:15} new {measured['unseen']}  known {measured['seen']}", flush=True)
    settings = {key: getattr(args, key) for key in SETTINGS}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "references": told, "arms": found}
