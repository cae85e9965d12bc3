"""What a small data2vec learns of pictures: the recipe beside pixels as targets, targets of one block,
targets without context, and no training at all.

Papers: A. Baevski et al. (2022), *data2vec*, ICML, arXiv:2202.03555, sec. 3, 4.1 and 5.4 (fig. 2: how many
blocks a target averages; fig. 3: how much the teacher sees); Z. Xie et al. (2022), *SimMIM*, CVPR,
arXiv:2111.09886 (pixels as targets).  Survey: 5.1.
Differs from the papers: miniatures on drawn scenes of 32 pixels, without augmentation; a probe of frozen
features instead of fine-tuning.

All arms of a seed start from the same encoder and see the same pictures with the same patches hidden, by the
same optimiser and schedule. "no context": the teacher reads every patch alone. The probe is a linear
classifier of the whitened mean of a block's patches, fitted on pictures of its own and tested on others:
"last" is its accuracy on the last block, "best" on the block that is best on validation pictures.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from mmlearn.both_modalities.data2vec import (
    Data2VecConfig,
    Predicted,
    effective_rank,
    spread,
    train_data2vec,
)
from mmlearn.both_modalities.data2vec_vision import (
    Data2VecVision,
    Data2VecVisionConfig,
    HiddenPictures,
    VisionData2Vec,
)
from mmlearn.data.images import standardise
from mmlearn.data.pairs import class_pictures, scene_pairs
from mmlearn.data.things import ATTRIBUTES, attributes_of
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.nn.beit import MaskedHead
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.nn.vision import IMAGENET_MEAN, IMAGENET_STD
from mmlearn.text_for_vision.linear_probe import fit_probe
from mmlearn.train import warmup_cosine

BASE, UNTRAINED, PIXELS = "data2vec", "untrained", "pixels"
ARMS = (BASE, PIXELS, "one block", "no context", UNTRAINED)
SIZE, MOST = 32, 6                      # pixels a side; things in a scene, at most
BATCH = 250                             # pictures judged at a time


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=3)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--blocks", type=int, default=3, help="K, blocks of which a target is the mean")
    parser.add_argument("--train", type=int, default=4000, help="scenes to pre-train on")
    parser.add_argument("--probe", type=int, default=1500, help="pictures to fit a probe on")
    parser.add_argument("--test", type=int, default=600, help="pictures to test it on")
    parser.add_argument("--folder", type=Path, help="checkpoints of the trainings, to go on from")


# ------------------------------------------------------------------------------------------------------- arms


class PixelTargets(nn.Module):
    """A learner of the numbers of hidden patches, without a teacher: ``Data2Vec``'s student and loss."""

    def __init__(self, student: Data2VecVision, method: Data2VecConfig) -> None:
        super().__init__()
        of = student.config
        self.student, self.config = student, method
        self.head = MaskedHead(of.width, 3 * of.patch**2, of.eps)

    def forward(self, inputs: Float[Tensor, "b 3 y x"], mask: Bool[Tensor, "b p"],
                corrupted: None = None) -> Predicted:
        states = self.student.hidden_states(inputs, mask)
        return Predicted(self.head(states), patch_pixels(inputs, self.student.config.patch)[mask])

    def update(self) -> None:
        """Nothing: pixels do not move."""


def patch_pixels(images: Float[Tensor, "b 3 y x"], patch: int) -> Float[Tensor, "b p c"]:
    """The numbers of each patch, channel by channel, row by row."""
    return nn.functional.unfold(images, patch, stride=patch).mT


class Alone(Data2VecVision):
    """The same encoder, but each patch attends to itself alone: it knows nothing of its neighbours."""

    def biases(self, grid: int) -> list[Float[Tensor, "h t t"]]:
        others = ~torch.eye(grid**2 + 1, dtype=torch.bool, device=self.cls.device)
        return [R.masked_fill(others, -torch.inf) for R in super().biases(grid)]


class WithoutContext(VisionData2Vec):
    """A teacher that reads every patch alone."""

    teacher: Alone

    def __init__(self, student: Data2VecVision, head: nn.Module, config: Data2VecConfig) -> None:
        super().__init__(student, head, config)
        alone = Alone(student.config).requires_grad_(False).eval()
        alone.load_state_dict(self.teacher.state_dict())
        self.teacher = alone


def model_of(name: str, args: argparse.Namespace, seed: int) -> VisionData2Vec | PixelTargets:
    """The arm ``name``, with the same first encoder for all arms of a seed."""
    method = replace(Data2VecConfig.mini(args.blocks, steps=args.steps), twice=True)
    if name == "one block":
        method = replace(method, K=1)
    with seeded(seed):
        model = VisionData2Vec.new(Data2VecVisionConfig.mini(SIZE), method)
        if name == PIXELS:
            return PixelTargets(model.student, method)       # type: ignore[arg-type]
    if name == "no context":
        return WithoutContext(model.student, model.head, method)    # type: ignore[arg-type]
    return model


# ------------------------------------------------------------------------------------------------------ judge


def standardised(images: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
    """Pictures as the encoder reads them."""
    return standardise(images.float() / 255, IMAGENET_MEAN, IMAGENET_STD)


@torch.no_grad()
def pooled(student: Data2VecVision, images: UInt8[Tensor, "n 3 s s"]) -> list[Float[Tensor, "n d"]]:
    """The mean over the patches of each block's end, block by block."""
    with eval_mode(student) as device:
        parts = [[a.mean(dim=1) for a in student.layers(standardised(part.to(device)))]
                 for part in images.split(BATCH)]
    return [torch.cat(block).cpu() for block in zip(*parts)]


def accuracy(features: list[Float[Tensor, "_ d"]], labels: list[Int[Tensor, " _"]], classes: int,
             penalty: float | int = 10.0) -> list[float]:
    """A probe is fitted on the first set; its accuracy on the others.

    Features are whitened by the first set, so that a direction counts for what it tells and not for how long
    it is.
    """
    mean = features[0].mean(dim=0).double()
    _, s, Vh = torch.linalg.svd(features[0].double() - mean, full_matrices=False)
    W = Vh.mT / s.clamp(min=1e-6 * s[0]) * len(features[0]) ** 0.5
    x = [(part.double() - mean) @ W for part in features]
    fitted = fit_probe(x[0], labels[0], classes, penalty, tolerance=1e-6)
    return [fitted.accuracy(*each) for each in zip(x[1:], labels[1:])]


def questions(args: argparse.Namespace) -> dict[str, tuple[list[Tensor], list[Tensor], int]]:
    """Of each question the pictures to fit on, to choose a block on and to test on, their labels, and the
    number of classes: what is the one thing, which colour has it, how many things are there?"""
    counts = ((args.probe, "train", 7), (args.test, "val", 7), (args.test, "test", 7))
    things = [class_pictures(n, split, size=SIZE, seed=seed) for n, split, seed in counts]
    scenes = [scene_pairs(n, split, size=SIZE, seed=seed) for n, split, seed in counts]
    said = [attributes_of(part.scenes) for part in things]
    images = [part.images for part in things]
    found = {name: (images, [part[name] for part in said], len(ATTRIBUTES[name]))
             for name in ("category", "colour", "setting")}
    many = [torch.tensor([len(scene.objects) - 1 for scene in part.scenes]) for part in scenes]
    return {**found, "count": ([part.images[:] for part in scenes], many, MOST)}


def judged(student: Data2VecVision, args: argparse.Namespace) -> dict[str, Any]:
    """Of every question: accuracy on the last block, and on the best of all, which is named; and the spread
    and rank of the last block's means."""
    told: dict[str, Any] = {}
    seen: dict[int, list[list[Tensor]]] = {}
    for name, (images, labels, classes) in questions(args).items():
        if id(images[0]) not in seen:
            seen[id(images[0])] = [pooled(student, part) for part in images]
        blocks = [accuracy(list(features), labels, classes) for features in zip(*seen[id(images[0])])]
        best = max(range(len(blocks)), key=lambda i: blocks[i][0])
        told[name] = {"last": blocks[-1][1], "best": blocks[best][1], "best block": best + 1,
                      "blocks": [test for _, test in blocks]}
    last = next(iter(seen.values()))[-1][-1]
    return {**told, "spread": float(spread(last)), "rank": float(effective_rank(last))}


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One arm of one seed, trained and judged."""
    model = model_of(name, args, seed)
    told: dict[str, Any] = {"seed": seed}
    if name != UNTRAINED:
        images = scene_pairs(args.train, size=SIZE).images
        student: Any = model.student
        history = train_data2vec(
            model, HiddenPictures(images[:], args.batch, student.config, seed=seed),    # type: ignore[arg-type]
            steps=args.steps, lr=args.lr, weight_decay=0.05, clip=3.0, seed=seed, progress=False,
            schedule=warmup_cosine(args.lr, args.steps // 10, args.steps),
            folder=args.folder and args.folder / f"{name.replace(' ', '-')}-{seed}")
        every = max(1, args.steps // 20)
        told["curve"] = {"step": history.steps[every - 1 :: every],
                         "loss": [round(v, 4) for v in history.loss[every - 1 :: every]],
                         "target spread": [round(v, 4) for v in
                                           history.scalars["target spread"][every - 1 :: every]]}
        told["seconds"] = round(history.seconds, 1)
    return {**told, **judged(model.student, args)}          # type: ignore[arg-type]


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        scores = {part: round(measured[part]["last"], 3)
                  for part in ("category", "colour", "setting", "count")}
        print(f"seed {seed}  {name:12} {scores}  {measured.get('seconds', 0):.0f} s", flush=True)
    settings = {key: getattr(args, key)
                for key in ("steps", "batch", "lr", "blocks", "train", "probe", "test")}
    return {"settings": {**settings, "seeds": seeds(args.seeds), "size": SIZE}, "arms": found}
