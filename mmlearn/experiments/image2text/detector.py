"""The Faster R-CNN of the scene world, its AP, and the checkpoint that the chapter loads.

Paper: S. Ren et al. (2015), *Faster R-CNN*, arXiv:1506.01497.  Survey: 1.2.1 (regions).
Differs from the paper: one stage of AdamW with a cosine learning rate instead of alternating SGD.
"""

import argparse
import contextlib
import io
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from mmlearn.data.batches import Batches
from mmlearn.experiments import environment
from mmlearn.image2text.regions import (
    CHECKPOINT,
    DetectionData,
    Detector,
    DetectorConfig,
    detection_results,
    detection_truth,
    detector_loss,
    load_detector,
    save_detector,
)
from mmlearn.nn.modes import seeded
from mmlearn.train import History, fit, warmup_cosine

STATS = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large", "AR1", "AR10", "AR100")


class DetectionBatches(Batches):
    """Endless shuffled batches, mirrored half of the time, a function of their number."""

    def __init__(self, data: DetectionData, size: int = 16, seed: int = 0):
        super().__init__(data, min(size, len(data)), seed=seed)

    def make(self, indices: list[int], number: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return self.data.batch(indices, flip=bool(torch.rand((), generator=draw) < 0.5))


def train_detector(data: DetectionData, *, steps: int = 4500, batch: int = 16, lr: float = 1e-3,
                   seed: int = 0, config: DetectorConfig | None = None, precision: str = "no",
                   **options: Any) -> tuple[Detector, History]:
    """A detector trained from random weights; ``options`` go to ``fit``."""
    with seeded(seed):
        model = Detector(config or DetectorConfig.mini())
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    history = fit(model, detector_loss, DetectionBatches(data, batch, seed), steps=steps, optimizer=optimizer,
                  schedule=warmup_cosine(lr, min(200, steps // 5), steps, lr / 100), clip=5.0, seed=seed,
                  precision=precision, **options)
    return model, history


def average_precision(detector: Detector, data: DetectionData) -> dict[str, float]:
    """COCO's box AP and AR of a detector, by pycocotools; NaN where there is no object of that size."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = detection_truth(data)
        truth.createIndex()
        found = detection_results(detector, data)
        if not found:
            return dict.fromkeys(STATS, 0.0)
        judge = COCOeval(truth, truth.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: float(value) if value >= 0 else math.nan for name, value in zip(STATS, judge.stats)}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=16, help="pictures a step")
    parser.add_argument("--images", type=int, default=10_000, help="training scenes")
    parser.add_argument("--test", type=int, default=500, help="test scenes")
    parser.add_argument("--lr", type=float, default=1e-3, help="at its highest, after 200 steps")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="bf16",
                        help="bf16 (a quarter faster on processors that have it) or no")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="where the weights are written")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


def run(args: argparse.Namespace) -> dict[str, Any]:
    # Seed 1 of the scene world: the captioners train on seed 0, and should not read regions learnt by heart.
    train = DetectionData(args.images, "train", args.size, seed=1)
    test = DetectionData(args.test, "test", args.size)
    detector, history = train_detector(train, steps=args.steps, batch=args.batch, lr=args.lr, seed=args.seed,
                                       config=DetectorConfig(size=args.size), folder=args.folder,
                                       save_every=100, precision=args.precision)
    scores = {name: None if math.isnan(value) else round(value, 4)
              for name, value in average_precision(detector, test).items()}
    measured = {
        "settings": {"steps": args.steps, "batch": args.batch, "lr": args.lr,
                     "optimiser": "AdamW, cosine", "precision": args.precision, "images": args.images,
                     "scenes": "train, seed 1", "test": f"{args.test} scenes of test, seed 0",
                     "seed": args.seed, "config": asdict(detector.config)},
        "parameters": sum(p.numel() for p in detector.parameters()),
        "test": scores, "curve": thinned(history, max(50, args.steps // 60)),
        "training seconds": round(history.seconds, 1),
    }
    save_detector(detector, args.checkpoint, {**measured, **environment()})
    rounded = average_precision(load_detector(args.checkpoint), test)       # after rounding to half precision
    return {**measured, "half precision": {"AP": round(rounded["AP"], 4), "AP50": round(rounded["AP50"], 4)}}


def thinned(history: History, every: int) -> dict[str, list[int] | list[float]]:
    """Means of the loss over blocks of ``every`` steps."""
    blocks = torch.tensor(history.loss).split(every)
    return {"step": [every * i + len(b) for i, b in enumerate(blocks)],
            "loss": [round(b.mean().item(), 4) for b in blocks]}
