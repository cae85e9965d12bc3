"""What keeps data2vec from predicting nothing: its safeguards, removed one at a time, on captions of drawn
scenes.

Paper: A. Baevski et al. (2022), *data2vec*, ICML, arXiv:2202.03555, sec. 3.3 and 5.  Survey: 5.1.

A target that is the same everywhere is predicted without error. All arms of a seed start from the same
numbers and see the same texts with the same places hidden. Told are, over places of texts that were not
trained on, the spread and the effective rank of the targets and of the student's states, and what a linear
map reads of a hidden word in the student's state; "untrained" is all this before the first step.
"""

import argparse
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmlearn.both_modalities.data2vec import (
    Data2Vec,
    Data2VecConfig,
    Predicted,
    effective_rank,
    spread,
    targets,
    train_data2vec,
)
from mmlearn.both_modalities.data2vec_text import (
    Data2VecText,
    Data2VecTextConfig,
    HiddenTexts,
    choose_spans,
    data2vec_text,
)
from mmlearn.data.scenes import SceneDataset
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.nn.modes import eval_mode, seeded

BASE = "data2vec"
ARMS = (BASE, "one block", "not normalised", "teacher = student", "teacher = student, not normalised",
        "gradient into the targets", "nothing hidden")
BATCH = 250                             # texts judged at a time


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--blocks", type=int, default=3, help="K, blocks of which a target is the mean")
    parser.add_argument("--train", type=int, default=2000, help="scenes to train on")
    parser.add_argument("--test", type=int, default=400, help="scenes to test on")


class WithGradient(Data2Vec):
    """No teacher: the targets are the student's own, and learn to be predicted."""

    def teach(self, inputs: Any) -> Float[Tensor, "b t d"]:
        of = self.config
        layers = self.student.layers(inputs)  # type: ignore[operator]
        return targets(layers, of.K, of.norm, of.twice)


class WithNothingHidden(Data2Vec):
    """The student reads whole texts, and is asked at the same places."""

    def forward(self, inputs: Any, mask: Bool[Tensor, "b t"], corrupted: Any = None) -> Predicted:
        return Predicted(self.head(self.student(inputs)[mask]), self.teach(inputs)[mask])


def model_of(name: str, config: Data2VecTextConfig, args: argparse.Namespace, seed: int) -> Data2Vec:
    """The arm ``name``, with the same first weights for all arms of a seed."""
    method = Data2VecConfig.mini(args.blocks, steps=args.steps)
    if name == "one block":
        method = replace(method, K=1)
    if "not normalised" in name:
        method = replace(method, norm="none")
    if "teacher = student" in name:
        method = replace(method, tau_0=0.0, tau_e=0.0)
    with seeded(seed):
        model = data2vec_text(config, method)
    kinds = {"gradient into the targets": WithGradient, "nothing hidden": WithNothingHidden}
    return kinds[name](model.student, model.head, method) if name in kinds else model


def texts(count: int, split: str) -> list[str]:
    """The first caption of every scene."""
    data = SceneDataset(count, split)
    return [data.captions(i)[0] for i in range(count)]


@torch.no_grad()
def hidden_states(
    student: Data2VecText, tokens: Int[Tensor, "n t"], mask: Bool[Tensor, "n t"]
) -> Float[Tensor, "m d"]:
    """What the student says at hidden places, row by row."""
    with eval_mode(student):
        return torch.cat([student(tokens[i : i + BATCH], mask[i : i + BATCH])[mask[i : i + BATCH]]
                          for i in range(0, len(tokens), BATCH)])


def probe(
    x: Float[Tensor, "n d"], y: Int[Tensor, " n"], x_test: Float[Tensor, "m d"], y_test: Int[Tensor, " m"],
    vocab: int, ridge: float = 1e-2,
) -> float:
    """Share of words that ridge regression from states to one-hot words tells right, on other states."""
    mean = x.mean(dim=0)
    scale = (x - mean).square().mean().sqrt() + 1e-3
    one = lambda a: F.pad((a - mean) / scale, (0, 1), value=1.0).double()      # noqa: E731
    X, Y = one(x), F.one_hot(y, vocab).double()
    W = torch.linalg.solve(X.T @ X + ridge * len(X) * torch.eye(X.shape[1], dtype=X.dtype), X.T @ Y)
    return float(((one(x_test) @ W).argmax(dim=1) == y_test).double().mean())


@torch.no_grad()
def judged(model: Data2Vec, train: Tensor, test: Tensor, config: Data2VecTextConfig) -> dict[str, float]:
    """Spreads, ranks and what the probe reads; places are the same for all arms and seeds."""
    student: Data2VecText = model.student  # type: ignore[assignment]
    found = []
    for number, tokens in enumerate((train, test)):
        mask = choose_spans(tokens != config.pad, generator=torch.Generator().manual_seed(number))
        found.append((hidden_states(student, tokens, mask), tokens[mask]))
    (x, y), (x_test, y_test) = found
    with eval_mode(model):
        told = torch.cat([model.teach(test[i : i + BATCH])[test[i : i + BATCH] != config.pad]
                          for i in range(0, len(test), BATCH)])
    return {"target spread": float(spread(told)), "target rank": float(effective_rank(told)),
            "state spread": float(spread(x_test)), "state rank": float(effective_rank(x_test)),
            "probe": probe(x, y, x_test, y_test, config.vocab)}


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training, judged before and after it."""
    words = texts(args.train, "train")
    tokeniser = WordTokeniser.train(words)
    context = max(len(tokeniser.encode(text, add_special=True)) for text in words)
    train, test = (tokeniser.batch(part, context) for part in (words, texts(args.test, "val")))
    config = Data2VecTextConfig.mini(len(tokeniser) + 1, tokeniser.pad, context)
    model = model_of(name, config, args, seed)
    before = judged(model, train, test, config)
    batches = HiddenTexts(train, args.batch, config, seed=seed)
    history = train_data2vec(model, batches, steps=args.steps, lr=args.lr, seed=seed, progress=False)
    every = max(1, args.steps // 20)
    places = test != config.pad
    return {
        "seed": seed, "untrained": before, "scores": judged(model, train, test, config),
        "most frequent word": float((test[places] == train[train != config.pad].mode().values)
                                    .double().mean()),
        "curve": {"step": history.steps[every - 1 :: every], "loss": history.loss[every - 1 :: every],
                  **{part: history.scalars[part][every - 1 :: every]
                     for part in ("target spread", "prediction spread")}},
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:35}  {measured['scores']}", flush=True)
    settings = {key: getattr(args, key) for key in ("steps", "batch", "lr", "blocks", "train", "test")}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "arms": found}
