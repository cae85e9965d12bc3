"""What the terms of GloVe's loss do: biases, the exponent of the weight, the distance, and the sum of both
vectors of a word.

Paper: J. Pennington, R. Socher and C. D. Manning (2014), *GloVe*, EMNLP, sec. 3 (biases, eq. 6 and 7; the
weight; W + W~) and 4.2 (1/distance).  Survey: 3.2, which leaves all of these out (erratum E9).

All arms of a seed read the same sentences of the word world and, where they are as wide, begin with the same
vectors; two are narrow, so that products have little room for what biases say elsewhere. Each is judged
by its correlation with the known relatedness of nouns, by how well its predictions fit the logarithms of the
counts it was trained on and of those of other sentences (eq:glove-agreement, with the paper's weight for all
arms), and by how far the length of a vector says how frequent its word is.
"""

import argparse
from dataclasses import replace
from typing import Any

import torch

from mmlearn.data import word_world
from mmlearn.data.vocabulary import Vocabulary, numbered
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.images_for_language.glove import (
    SIDES,
    GloVe,
    GloVeConfig,
    agreement,
    cooccurrence,
    train_glove,
    weight,
)
from mmlearn.metrics.similarity import evaluate_pairs, spearman

BASE = "GloVe"
NARROW = "4 numbers"
ARMS: dict[str, dict[str, Any]] = {
    BASE: {}, "no biases": {"biases": False}, "alpha 1": {"alpha": 1.0}, "no weight": {"alpha": 0.0},
    "no distance": {"distance": False}, NARROW: {"dim": 4},
    f"no biases, {NARROW}": {"biases": False, "dim": 4}}


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--sentences", type=int, default=30_000)
    parser.add_argument("--pairs", type=int, default=2000, help="pairs of nouns of each kind")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--x-max", type=float, default=10.0)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=300)


def fit(model: GloVe, sentences: list[list[str]], vocabulary: Vocabulary, base: GloVeConfig) -> float:
    """How well predictions fit the logarithms of the counts of some sentences, weighted as ``base`` says."""
    text = numbered(sentences, vocabulary)
    counts = cooccurrence(text, len(vocabulary), base.window, distance=model.config.distance)
    f = weight(counts.values, base.x_max, base.alpha)
    with torch.no_grad():
        predictions = model(counts.i, counts.j).double()
    return float(agreement(predictions, counts.values.log(), f))


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training and its scores."""
    sentences = word_world.sentences(args.sentences, "train", seed=seed)
    others = word_world.sentences(args.sentences, "val", seed=seed)
    base = GloVeConfig(dim=args.dim, window=args.window, x_max=args.x_max, lr=args.lr, epochs=args.epochs,
                       updates="all", accumulator=0.1)
    trained = train_glove(sentences, replace(base, **ARMS[name]), seed=seed, progress=False)
    model = trained.model
    known = model.vocabulary
    assert known is not None
    scores: dict[str, float] = {}
    for side in SIDES:
        vectors = trained.vectors(side)
        for part in ("all", "concrete", "abstract"):
            if part == "all" or side == "sum":
                pairs = word_world.relatedness(args.pairs, part)
                key = f"rho {part}" if side == "sum" else f"rho {part}, {side} alone"
                scores[key] = evaluate_pairs(vectors, pairs)["spearman"]
    length = trained.vectors().vectors.norm(dim=1)
    return {"seed": seed, "scores": {key: round(value, 4) for key, value in {
        **scores, "fit": fit(model, sentences, known, base), "fit to other sentences": fit(
            model, [[w for w in sentence if w in known.ids] for sentence in others], known, base),
        "length and count": spearman(length, torch.tensor(known.counts, dtype=length.dtype))}.items()},
        "curve": [round(loss, 5) for loss in trained.history.loss[:: max(1, args.epochs // 30)]]}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:12}  {measured['scores']}", flush=True)
    settings = {key: getattr(args, key)
                for key in ("sentences", "pairs", "dim", "window", "x_max", "lr", "epochs")}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "arms": found}
