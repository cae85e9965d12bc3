"""A feeling that no cue tells: which modalities, and which way to join them, get above the best guess.

Papers: D. Kiela et al. (2020), *The Hateful Memes Challenge*, NeurIPS, arXiv:2005.04790; A. Zadeh et al.
(2017), *Tensor Fusion Network for Multimodal Sentiment Analysis*, EMNLP, arXiv:1707.07250.  Survey: 5.

All arms of a seed see the same examples and the same batches. An arm is a set of modalities and a way to join
them; those with fewer modalities take the outer product, in which a modality that is not read is a row of
zeros beside its 1. Told are accuracy and weighted F1 on examples that no arm was trained on, accuracy in
training, and the best that anybody could do who sees no more (``bayes_accuracy``).
"""

import argparse
from functools import lru_cache
from typing import Any

import torch

from mmlearn.both_modalities.affect_fusion import AffectConfig, AffectFusion, evaluate_affect, train_affect
from mmlearn.data.affect import MODALITIES, AffectData, bayes_accuracy, make_affect
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.data.voices import speak
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.nn.modes import seeded

ARMS: dict[str, tuple[tuple[str, ...], str]] = {       # name: modalities, fusion
    "picture": (("picture",), "product"),
    "text": (("text",), "product"),
    "voice": (("voice",), "product"),
    "picture, text": (("picture", "text"), "product"),
    "picture, voice": (("picture", "voice"), "product"),
    "text, voice": (("text", "voice"), "product"),
    "all: sum of decisions": (MODALITIES, "decisions"),
    "all: features": (MODALITIES, "features"),
    "all: product": (MODALITIES, "product"),
}
SIZE = 32                               # pixels a side


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=3)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--train", type=int, default=2048, help="examples to train on, others for each seed")
    parser.add_argument("--test", type=int, default=1024, help="examples to test on, the same for all seeds")


@lru_cache(maxsize=2)
def examples(count: int, split: str, seed: int) -> AffectData:
    """Examples with waves; the last two sets are kept, so that the arms of a seed share them."""
    return make_affect(count, split, size=SIZE, speak=speak, seed=seed)


def model_of(name: str, vocab: int, seed: int) -> AffectFusion:
    """The arm ``name``; what all arms have in common begins with the same numbers."""
    modalities, fusion = ARMS[name]
    with seeded(seed):
        return AffectFusion(AffectConfig(vocab, modalities=modalities, fusion=fusion))  # type: ignore[arg-type]


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training and its scores."""
    train, test = examples(args.train, "train", seed), examples(args.test, "test", 0)
    tokeniser = WordTokeniser.train(train.texts, splitter="simple")
    model = model_of(name, len(tokeniser), seed)
    history = train_affect(model, train, tokeniser, steps=args.steps, batch=args.batch, lr=args.lr, seed=seed,
                           progress=False)
    every = max(1, args.steps // 20)
    right = torch.tensor(history.scalars["accuracy"])
    return {"seed": seed, "scores": evaluate_affect(model, test, tokeniser),
            "in training": evaluate_affect(model, train, tokeniser)["accuracy"],
            "parameters": sum(p.numel() for p in model.parameters()),
            "curve": {"step": history.steps[every - 1 :: every],
                      "accuracy": [float(part.mean()) for part in right.split(every)][: args.steps // every]}}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:22}  {measured['scores']}", flush=True)
    settings = {key: getattr(args, key) for key in ("steps", "batch", "lr", "train", "test")}
    return {"settings": {**settings, "size": SIZE, "seeds": seeds(args.seeds)},
            "best guess": {name: bayes_accuracy(modalities) for name, (modalities, _) in ARMS.items()},
            "arms": found}
