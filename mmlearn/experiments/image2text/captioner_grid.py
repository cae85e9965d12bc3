"""The generic captioner from pixels, trained until it captions, against two ways of not looking.

Paper: O. Vinyals et al. (2015), arXiv:1411.4555; K. Xu et al. (2015), arXiv:1502.03044.  Survey: 1.2.
Differs from the papers: the network that sees has learnt the labels of cells of drawn scenes, not ImageNet's.
"""

import argparse
from typing import Any

import torch
from torch import Tensor

from mmlearn import checkpoints
from mmlearn.data.images import TensorInputs
from mmlearn.experiments.image2text.m2_ablation import four_digits, rounded
from mmlearn.experiments.image2text.miniature import (
    add_phases,
    both_decodings,
    earn_rewards,
    finish,
    most_frequent,
    part,
    say_what_people_said,
    settings,
)
from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer, build_trunk
from mmlearn.image2text.cells import CellData, CellReader, OnCells, cell_accuracy, grids, train_cells
from mmlearn.image2text.saved import FeatureExtractor, SavedCaptioner
from mmlearn.image2text.training import (
    CaptionData,
    evaluate_captioner,
    scene_data,
    score_captions,
    score_writers,
)
from mmlearn.nn.modes import seeded


def blanked(data: CaptionData) -> CaptionData:
    """The same images and captions, every picture replaced by the mean colour."""
    pictures: Tensor = data.inputs.rows(range(len(data)))[0]
    return CaptionData(
        TensorInputs(pictures.mean((0, 2, 3), keepdim=True).expand_as(pictures)),
        data.captions,
        data.ids,
        data.scenes,
    )


def on_cells(data: CaptionData, trunk: torch.nn.Module) -> CaptionData:
    """The same images as grids of cells."""
    pictures: Any = data.inputs
    return CaptionData(TensorInputs(grids(trunk, pictures.values)), data.captions, data.ids, data.scenes)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels", type=int, default=2000, help="steps of the trunk on the labels of cells, 64 scenes each"
    )
    add_phases(parser, "captioner-grid", images=32, polish=0)


def train_trunk(args: argparse.Namespace) -> tuple[torch.nn.Module, dict[str, float]]:
    """A trunk that has learnt what cells show, and how often it is right on validation scenes."""
    with seeded(args.seed):
        trunk = build_trunk("residual")
        reader = CellReader(trunk, trunk.out_channels)
    folder = part(args.folder, "cells")
    found = checkpoints.newest(folder) if folder is not None else None
    if found is not None and found.step == args.labels:  # nothing to train, nothing to draw
        checkpoints.fill(reader, found.tensors["model"], str(folder))
    else:
        train_cells(
            reader,
            CellData(args.train, seed=1),
            steps=args.labels,
            seed=args.seed,
            save_every=100,
            folder=folder,
            precision="bf16",
            progress=False,
        )
    return trunk, four_digits(cell_accuracy(reader, CellData(args.val, "val", seed=0)))


def run(args: argparse.Namespace) -> dict[str, Any]:
    trunk, accuracy = train_trunk(args)
    print("cells", accuracy, flush=True)
    data, val, test = (
        scene_data(count, split, keep=args.folder)
        for count, split in ((args.train, "train"), (args.val, "val"), (args.test, "test"))
    )
    tokeniser = data.vocabulary()
    with seeded(args.seed):
        model = CNNTransformer(CaptionerConfig.residual(len(tokeniser)))
    model.trunk.trunk.load_state_dict(trunk.state_dict())  # type: ignore[union-attr]
    seen, watched, reader = on_cells(data, trunk), on_cells(val, trunk), OnCells(model)
    history = say_what_people_said(args, reader, seen, watched, tokeniser, "grid-captions")
    if args.polish:
        earn_rewards(args, reader, seen, tokeniser, "grid-polish")
    saved = SavedCaptioner("captioner", model.eval(), tokeniser, FeatureExtractor("pictures", 64), {})
    measured = {
        "settings": {
            **settings(args),
            "labels of": "train, seed 1",
            "precision of the labels": "bf16",
        },
        "parameters": {
            "trunk": sum(p.numel() for p in model.trunk.parameters()),
            "all": sum(p.numel() for p in model.parameters()),
        },
        "cells": accuracy,
        "curve": {"step": history.metric_steps, **rounded(history.metrics)},
        "training seconds": round(history.seconds, 1),
    }
    blank = blanked(test)
    measured |= {
        **both_decodings(model, test, tokeniser),
        "blank picture": four_digits(evaluate_captioner(model, blank, tokeniser)),
        "most frequent caption": four_digits(score_captions(most_frequent(data, test), test)),
        "captions of the data": four_digits(score_writers(test)),
    }
    return finish(args.name, saved, test, measured, args.checkpoint)
