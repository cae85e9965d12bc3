"""Labels said in several wordings: CLIP's loss against UniCL's, and prompts first, captions last.

Papers: J. Yang et al. (2022), *Unified Contrastive Learning in Image-Text-Label Space*, arXiv:2204.03610,
sec. 3; L. Yuan et al. (2021), *Florence*, arXiv:2111.11432, sec. 2.2 (two stages).  Survey: 4.4.
Differs from the papers: drawn single things with thirty labels; a small dual encoder; hundreds of steps.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.pairs import ClassPictures, PairBatch, PairBatches, PairData
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.text_for_vision.objects import captioned, objects, prompt_tokeniser, train_encoder
from mmlearn.nn.modes import seeded
from mmlearn.text_for_vision.contrastive import clip_loss
from mmlearn.text_for_vision.small_encoder import StudyConfig, StudyEncoder
from mmlearn.text_for_vision.training import (
    Loss,
    adamw_cosine,
    contrastive_objective,
    embed_images,
    embed_texts,
    zero_shot_accuracy,
)
from mmlearn.text_for_vision.unicl import unicl_loss
from mmlearn.text_for_vision.zero_shot import prompts
from mmlearn.train import fit

WORDINGS = ("a photo of {a}.", "a cropped photo of {a}.", "there is {a}.", "{a} can be seen.",
            "a close view of {a}.", "the picture shows {a}.", "an image of {a}.", "just {a}.")
ASKED = WORDINGS[:1]                                # the prompt by which everything is judged


def clip_of_keys(
    u: Float[Tensor, "b e"], v: Float[Tensor, "b e"], scale: Float[Tensor, ""] | float | int,
    keys: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    """CLIP's loss, which does not look at the keys."""
    return clip_loss(u, v, scale)


LOSSES: dict[str, Loss] = {"CLIP": clip_of_keys, "UniCL": unicl_loss}


def worded(pictures: ClassPictures, wordings: Sequence[str] = WORDINGS) -> PairData:
    """Labelled pictures as pairs: the captions of a picture are its label in each of the wordings."""
    texts = [tuple(prompts(name, wordings)) for name in pictures.classes]
    return PairData(pictures.images, tuple(texts[label] for label in pictures.labels.tolist()),
                    pictures.scenes)


def label_curve(loss: str, wordings: Sequence[str], *, train: int = 2000, test: int = 500, steps: int = 60,
                every: int = 10, batch: int = 256, seed: int = 0) -> dict[str, Any]:
    """Zero-shot accuracy during training on labelled pictures with one of ``LOSSES``."""
    pictures, judged = (objects(n, s, places="any") for n, s in ((train, 3), (test, 1)))
    tokeniser = prompt_tokeniser(worded(pictures), templates=WORDINGS)

    def evaluate(model: nn.Module) -> dict[str, float]:
        return {"top-1": zero_shot_accuracy(model, tokeniser, judged, ASKED)}
    _, history = train_encoder(worded(pictures, wordings), tokeniser, steps=steps, seed=seed, batch=batch,
                               loss=LOSSES[loss], keys=pictures.labels, evaluate=evaluate,
                               evaluate_every=every)
    return {"seed": seed, "step": history.metric_steps,
            "top-1": [round(x, 4) for x in history.metrics["top-1"]]}


class Staged:
    """Batches of the first source up to step ``switch``, then of the second; a function of the step."""

    def __init__(self, before: PairBatches, after: PairBatches, switch: int) -> None:
        self.before, self.after, self.switch = before, after, switch

    def __call__(self, step: int) -> PairBatch:
        return self.before(step) if step < self.switch else self.after(step)


def half_described(count: int, seed: int = 3) -> tuple[PairData, PairData, WordTokeniser]:
    """Pairs of which every other one has a label in the place of captions, expanded by prompts; those with
    captions; words."""
    pictures = objects(count, seed, places="any")
    captions = captioned(pictures)
    expanded = worded(pictures)
    mixed = tuple(expanded.captions[i] if i % 2 else captions.captions[i] for i in range(count))
    everything = PairData(pictures.images, mixed, pictures.scenes)
    return everything, captions.rows(range(0, count, 2)), prompt_tokeniser(captions, expanded)


def staged_run(switch: int, *, train: int = 3000, test: int = 500, steps: int = 200, batch: int = 128,
               lr: float | int = 2e-3, seed: int = 0) -> dict[str, float]:
    """Train on everything up to step ``switch`` and on captions alone after it; classification and retrieval
    at the end."""
    everything, described, tokeniser = half_described(train)
    with seeded(seed):
        model = StudyEncoder(StudyConfig(len(tokeniser)))
    before, after = (PairBatches(data, tokeniser, batch, seed=seed,
                                 max_len=model.config.context) for data in (everything, described))
    fit(model, contrastive_objective(clip_loss), Staged(before, after, switch), steps=steps, seed=seed,
        progress=False,
        **adamw_cosine(model, lr, steps))
    return judged_both_ways(model, tokeniser, objects(test, 1, places="any"))


def judged_both_ways(model: nn.Module, tokeniser: WordTokeniser, pictures: ClassPictures) -> dict[str, float]:
    """Top-1 with a prompt, and R@1 between pictures and their captions (the longest caption of each)."""
    texts = [max(captions, key=len) for captions in captioned(pictures).captions]
    scores = embed_images(model, pictures.images) @ embed_texts(model, tokeniser, texts).T
    own = scores.diagonal()
    found = {"top-1": zero_shot_accuracy(model, tokeniser, pictures, ASKED),
             "image to text R@1": float(((scores >= own[:, None]).sum(dim=1) == 1).float().mean()),
             "text to image R@1": float(((scores >= own[None]).sum(dim=0) == 1).float().mean())}
    return {name: round(value, 4) for name, value in found.items()}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of a curve")
    parser.add_argument("--every", type=int, default=10, help="steps between two points of a curve")
    parser.add_argument("--batch", type=int, default=256, help="of a curve")
    parser.add_argument("--train", type=int, default=2000, help="labelled pictures")
    parser.add_argument("--test", type=int, default=500, help="test pictures")
    parser.add_argument("--staged-steps", type=int, default=200, help="of the study in two stages")
    parser.add_argument("--staged-train", type=int, default=3000, help="pictures of the study in two stages")


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    wanted = seeds(args.seeds)
    curves: dict[str, dict[str, list[Any]]] = {}
    for panel, wordings in (("eight wordings", WORDINGS), ("one wording", ASKED)):
        curves[panel] = {loss: [] for loss in LOSSES}
        for seed in wanted:
            for loss, runs in curves[panel].items():
                runs.append(label_curve(loss, wordings, train=args.train, test=args.test, steps=args.steps,
                                        every=args.every, batch=args.batch, seed=seed))
                print(f"{panel:15} {loss:6} seed {seed}: {runs[-1]['top-1']}", flush=True)
    stages: dict[str, list[dict[str, float]]] = {}
    for name, share in (("one stage, everything", 1.0), ("three quarters, then captions alone", 0.75),
                        ("half, then captions alone", 0.5), ("one stage, captions alone", 0.0)):
        stages[name] = []
        for seed in wanted:
            stages[name].append(staged_run(round(share * args.staged_steps), train=args.staged_train,
                                           test=args.test, steps=args.staged_steps, seed=seed))
            print(f"{name:36} seed {seed}: {stages[name][-1]}", flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": 2e-3,
                         "warmup": min(50, args.steps // 4), "size": 32, "train": args.train,
                         "test": args.test, "labels": 30, "wordings": list(WORDINGS),
                         "staged steps": args.staged_steps, "staged train": args.staged_train,
                         "staged batch": 128, "seeds": wanted},
            "curves": curves, "stages": stages}
