"""A visual prefix over a frozen language model: one matrix, two layers, the language model trained as well,
and pictures that are not those of their texts.

Papers: H. Liu et al. (2023), *Visual Instruction Tuning*, arXiv:2304.08485; H. Liu et al. (2024), *Improved
Baselines with Visual Instruction Tuning*, arXiv:2310.03744; M. Tsimpoukelli et al. (2021), *Multimodal
Few-Shot Learning with Frozen Language Models*, arXiv:2106.13884.  Survey: none.

All arms of a seed begin with the same language model and projection, see the same texts in the same order,
and are judged on scenes that were not trained on: the loss of captions with their own picture and with
another's, questions answered word for word, beside a language model that sees nothing and the most frequent
answer; and what the language model says of text alone, before and after.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmlearn.both_modalities.few_shot import same_words, write_answers
from mmlearn.both_modalities.interleaved import (
    Blind,
    Example,
    InterleavedBatch,
    caption_examples,
    collate_pages,
    look_at_features,
    question_examples,
    shown,
)
from mmlearn.both_modalities.language_model import SavedLM, load_lm
from mmlearn.both_modalities.visual_prefix import StageCells, VisualPrefix, VisualPrefixConfig, train_prefix
from mmlearn.catalog import count_parameters
from mmlearn.data.pairs import PairData, pixels, scene_pairs
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.files import package_data
from mmlearn.nn.causal_lm import token_log_probs
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text_for_vision.training import load_mini

BASE = "two layers"
ARMS = (BASE, "matrix", "language model trained", "other pictures")
SETTINGS = ("steps", "batch", "lr", "train", "test")


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=3)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=32, help="texts a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--train", type=int, default=2000, help="training scenes")
    parser.add_argument("--test", type=int, default=150, help="scenes to judge by")
    parser.add_argument("--language", type=Path, default=package_data("checkpoints") / "scene-lm.safetensors",
                        help="the language model")


@dataclass(frozen=True)
class World:
    """Scenes and the cells that the frozen encoder makes of their pictures (n, p, f)."""

    data: PairData
    cells: Tensor
    captions: tuple[Example, ...]
    questions: tuple[Example, ...]


@torch.no_grad()
def cells_of(images: Tensor, batch: int = 250) -> Tensor:
    """What chapter 4's CLIP makes of pictures before its last stage, each number standardised over them."""
    encoder = StageCells(load_mini().model.image).eval()               # type: ignore[arg-type]
    cells = torch.cat([encoder(pixels(part)) for part in images.split(batch)])
    return cells / cells.square().mean().sqrt()


@cache
def world(count: int, split: str) -> World:
    """Scenes of a split, drawn and encoded once a process."""
    data = scene_pairs(count, split)
    return World(data, cells_of(torch.as_tensor(data.images)), tuple(caption_examples(data)),
                 tuple(question_examples(data)))


def arm_of(name: str, saved: SavedLM, seed: int) -> VisualPrefix:
    """The arm ``name``: all of a seed begin alike."""
    with seeded(seed):
        config = VisualPrefixConfig.mini("matrix" if name == "matrix" else "two layers",
                                         saved.model.config.width)
        return VisualPrefix(config, saved.model, trained=name == "language model trained")


@torch.no_grad()
def answer_loss(model: Any, examples: tuple[Example, ...], of: Any, cells: Tensor, batch: int = 64) -> float:
    """Nats a token of answers."""
    loss = total = 0.0
    look = look_at_features(cells)
    with eval_mode(model):
        for start in range(0, len(examples), batch):
            found: InterleavedBatch = collate_pages([[e] for e in examples[start : start + batch]], of, look,
                                                    answers_only=True)
            logits = model(found.tokens, **shown(found.pictures), media=found.media)
            scored = found.scored[:, 1:]
            loss -= float(token_log_probs(logits, found.tokens)[scored].sum())
            total += float(scored.sum())
    return loss / total


def first_captions(of: World) -> tuple[Example, ...]:
    """The first caption of each picture, to be told."""
    return tuple({e.picture: e for e in reversed(of.captions)}.values())[::-1]


def by_kind(examples: tuple[Example, ...]) -> dict[str, list[Example]]:
    """Questions by their kind."""
    kinds: dict[str, list[Example]] = {}
    for example in examples:
        kinds.setdefault(example.kind, []).append(example)
    return kinds


def answered(model: Any, test: World, of: Any) -> dict[str, float]:
    """The share of questions of each kind that are answered word for word, written greedily."""
    told: dict[str, float] = {}
    for kind, asked in by_kind(test.questions).items():
        some = asked[: len(test.cells)]
        written = write_answers(model, [[e] for e in some], of, look_at_features(test.cells), beams=1,
                                max_len=8)
        told[kind] = sum(same_words(text, e.answer, of) for text, e in zip(written, some)) / len(some)
    return told


def prior(train: World, test: World) -> dict[str, float]:
    """The share of questions whose answer is the most frequent one of their kind in training."""
    told = {}
    for kind, asked in by_kind(test.questions).items():
        most = Counter(e.answer for e in by_kind(train.questions)[kind]).most_common(1)[0][0]
        some = asked[: len(test.cells)]
        told[kind] = sum(e.answer == most for e in some) / len(some)
    return told


def judged(model: Any, test: World, of: Any) -> dict[str, Any]:
    """Losses of captions with right, other and no pictures; questions by kind."""
    firsts = first_captions(test)
    kinds = answered(model, test, of)
    return {"caption loss": answer_loss(model, firsts, of, test.cells),
            "caption loss, other picture": answer_loss(model, firsts, of, test.cells.roll(1, 0)),
            **{f"{kind} answered": share for kind, share in kinds.items()}}


def text_loss(language: Any, test: World, of: Any) -> float:
    """What a language model that sees nothing loses on captions, whose marks are words to it as in its own
    training: does training it for pictures cost text?"""
    return answer_loss(Blind(language), test.captions, of, test.cells)


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training, judged after it; "language model alone" is judged without any."""
    saved = load_lm(args.language)
    of, train, test = saved.tokeniser, world(args.train, "train"), world(args.test, "val")
    if name == "language model alone":
        return {"seed": seed, "scores": judged(Blind(saved.model), test, of),
                "text alone": text_loss(saved.model, test, of), "prior": prior(train, test)}
    model = arm_of(name, saved, seed)
    cells = train.cells
    if name == "other pictures":
        cells = cells.roll(1 + seed, 0)
    examples = (*train.captions, *train.questions)
    history = train_prefix(model, examples, of, look_at_features(cells), steps=args.steps, batch=args.batch,
                           lr=args.lr, seed=seed, progress=False)
    every = max(1, args.steps // 30)
    captions = [[e] for e in first_captions(test)[:4]]
    return {"seed": seed, "trained numbers": count_parameters(model),
            "scores": judged(model, test, of), "text alone": text_loss(saved.model, test, of),
            "seconds": round(history.seconds, 1),
            "written": {str(e[0].picture): text for e, text in zip(captions, write_answers(
                model, captions, of, look_at_features(test.cells)))},
            "curve": {"step": history.steps[every - 1 :: every], "loss": history.loss[every - 1 :: every]}}


def run(args: argparse.Namespace) -> dict[str, Any]:
    names = ("language model alone", *ARMS)
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in names if name in ARMS or seed == 0]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:24}", {key: round(v, 3) for key, v in measured["scores"].items()},
              measured.get("seconds", ""), flush=True)
    alone = found.pop("language model alone")[0]
    settings = {key: getattr(args, key) for key in SETTINGS}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "arms": found, "alone": alone}
