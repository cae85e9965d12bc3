"""Recipe: a detector of CoSwin, feature pyramid and Dynamic Head on the scene world, and the same without the head.

Paper: X. Dai et al. (2021), *Dynamic Head: Unifying Object Detection Heads with Attentions*, arXiv:2106.08322; L. Yuan
et al. (2021), *Florence*, arXiv:2111.11432, sec. 2.4.  Survey: 4.4.1.
Differs from the papers: a trunk with random weights, drawn scenes, one stage of AdamW; FCOS in place of ATSS.
"""

import argparse
from dataclasses import asdict, replace
from typing import Any

import torch

from mmlearn.image2text.regions import DetectionData
from mmlearn.metrics.detection import average_precision
from mmlearn.recipes import seeds
from mmlearn.recipes.detector import DetectionBatches, thinned
from mmlearn.text_for_vision.dynamic_head import (
    DetectorConfig,
    DynamicDetector,
    detections,
    detector_loss,
    truths,
)
from mmlearn.train import History, fit, warmup_cosine

STATS = ("AP", "AP50", "AP75")


def train_detector(data: DetectionData, *, steps: int = 2000, batch: int = 16, lr: float | int = 1e-3, seed: int = 0,
                   config: DetectorConfig | None = None, **options: Any) -> tuple[DynamicDetector, History]:
    """A detector trained from random weights; ``options`` go to ``fit``."""
    torch.manual_seed(seed)
    model = DynamicDetector(config or DetectorConfig.mini())
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    history = fit(model, detector_loss, DetectionBatches(data, batch, seed), steps=steps, optimizer=optimizer,
                  schedule=warmup_cosine(lr, min(100, steps // 5), steps, lr / 100), clip=1.0, seed=seed, **options)
    return model, history


def judged(model: DynamicDetector, data: DetectionData) -> dict[str, float]:
    """COCO's AP on a data set."""
    found = average_precision(truths(model, data), detections(model, data), images=range(1, len(data) + 1))
    return {name: round(found.stats[name], 4) for name in STATS}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16, help="pictures a step")
    parser.add_argument("--images", type=int, default=3000, help="training scenes")
    parser.add_argument("--test", type=int, default=500, help="test scenes")


def run(args: argparse.Namespace) -> dict[str, Any]:
    train, test = DetectionData(args.images, "train", seed=1), DetectionData(args.test, "test")
    config = DetectorConfig.mini()
    runs: dict[str, list[dict[str, Any]]] = {}
    for name, blocks in (("Dynamic Head", config.head.blocks), ("no head", 0)):
        runs[name] = []
        for seed in seeds(args.seeds):
            model, history = train_detector(train, steps=args.steps, batch=args.batch, seed=seed,
                                            config=replace(config, head=replace(config.head, blocks=blocks)))
            runs[name].append({"seed": seed, "test": judged(model, test), "seconds": round(history.seconds, 1),
                               "parameters": sum(p.numel() for p in model.parameters()), "curve": thinned(history, 50)})
            print(f"{name} seed {seed}: {runs[name][-1]['test']}", flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": 1e-3, "images": args.images, "test": args.test,
                         "scenes": "train, seed 1; test, seed 0", "config": asdict(config)}, "runs": runs}
