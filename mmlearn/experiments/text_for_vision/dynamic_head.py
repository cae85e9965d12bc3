"""A detector of CoSwin, feature pyramid and Dynamic Head on the scene world, and the same without the head.

Paper: X. Dai et al. (2021), *Dynamic Head: Unifying Object Detection Heads with Attentions*,
arXiv:2106.08322; L. Yuan et al. (2021), *Florence*, arXiv:2111.11432, sec. 2.4.  Survey: 4.4.1.
Differs from the papers: a trunk with random weights, drawn scenes, one stage of AdamW; FCOS in place of ATSS.
"""

import argparse
from dataclasses import asdict, replace
from typing import Any

import torch

from mmlearn.experiments import seeds
from mmlearn.experiments.image2text.detector import DetectionBatches, thinned
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.image2text.regions import DetectionData
from mmlearn.metrics.detection import average_precision
from mmlearn.nn.modes import seeded
from mmlearn.text_for_vision.dynamic_head import (
    DetectorConfig,
    DynamicDetector,
    detections,
    detector_loss,
    truths,
)
from mmlearn.train import History, fit, warmup_cosine

STATS = ("AP", "AP50", "AP75")


def train_detector(data: DetectionData, *, steps: int = 1000, batch: int = 16, lr: float | int = 1e-3,
                   seed: int = 0, config: DetectorConfig | None = None,
                   **options: Any) -> tuple[DynamicDetector, History]:
    """A detector trained from random weights; ``options`` go to ``fit``."""
    with seeded(seed):
        model = DynamicDetector(config or DetectorConfig.mini())
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    history = fit(model, detector_loss, DetectionBatches(data, batch, seed), steps=steps, optimizer=optimizer,
                  schedule=warmup_cosine(lr, min(100, steps // 5), steps, lr / 100), clip=1.0, seed=seed,
                  **options)
    return model, history


def with_blocks(blocks: int) -> DetectorConfig:
    """The detector of things, whatever they are, with so many blocks in its head."""
    config = DetectorConfig.proposals()
    return replace(config, head=replace(config.head, blocks=blocks))


def judged(model: DynamicDetector, data: DetectionData) -> dict[str, float]:
    """COCO's AP on a data set."""
    found = average_precision(truths(model, data), detections(model, data), images=range(1, len(data) + 1))
    return {name: round(found.stats[name], 4) for name in STATS}


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16, help="pictures a step")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--images", type=int, default=3000, help="training scenes")
    parser.add_argument("--test", type=int, default=500, help="test scenes")
    parser.add_argument("--blocks", type=int, default=1, help="of the head")


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One detector of things, whatever they are, with the head or without: COCO's AP and the curve of the
    loss."""
    train, test = DetectionData(args.images, "train", seed=1), DetectionData(args.test, "test")
    model, history = train_detector(train, steps=args.steps, batch=args.batch, lr=args.lr, seed=seed,
                                    progress=False,
                                    config=with_blocks(args.blocks if name == "Dynamic Head" else 0))
    return {"seed": seed, "test": judged(model, test), "training seconds": round(history.seconds, 1),
            "parameters": sum(p.numel() for p in model.parameters()), "curve": thinned(history, 50)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"Dynamic Head": [], "no head": []}
    for (name, seed), measured in run_jobs(job, [(name, seed) for seed in seeds(args.seeds) for name in runs],
                                           args):
        runs[name].append(measured)
        print(f"{name:12} seed {seed}: {measured['test']}", flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": args.lr, "images": args.images,
                         "test": args.test, "scenes": "train, seed 1; test, seed 0",
                         "start": "as in the released code",
                         "seeds": seeds(args.seeds), "config": asdict(with_blocks(args.blocks))},
                         "runs": runs}
