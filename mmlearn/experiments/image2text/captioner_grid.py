"""The generic captioner from pixels, trained until it captions, against two ways of not looking.

Paper: O. Vinyals et al. (2015), arXiv:1411.4555; K. Xu et al. (2015), arXiv:1502.03044.  Survey: 1.2.
Differs from the papers: the network that sees has learnt the labels of cells of drawn scenes, not ImageNet's.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmlearn import checkpoints
from mmlearn.data.images import TensorInputs
from mmlearn.experiments import environment
from mmlearn.experiments.image2text.m2_ablation import four_digits, rounded
from mmlearn.figures.image2text.captioning import attention_on_things
from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer, build_trunk
from mmlearn.image2text.cells import CellData, CellReader, OnCells, cell_accuracy, grids, train_cells
from mmlearn.image2text.regions import Detector
from mmlearn.image2text.saved import CHECKPOINTS, SavedCaptioner, Sight, load_captioner, save_captioner
from mmlearn.image2text.training import (
    CaptionData,
    describe,
    evaluate_captioner,
    scene_data,
    score_captions,
    score_writers,
    train_cross_entropy,
    train_self_critical,
)
from mmlearn.nn.modes import seeded

SHOWN = 20  # captions that are recorded


def most_frequent(data: CaptionData, test: CaptionData) -> list[str]:
    """The commonest caption of ``data``, said of every image of ``test``."""
    counts = Counter(" ".join(words) for group in data.words for words in group)
    return [counts.most_common(1)[0][0]] * len(test)


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
    parser.add_argument("--steps", type=int, default=3000, help="steps of captioning")
    parser.add_argument("--images", type=int, default=32, help="scenes a step")
    parser.add_argument("--captions", type=int, default=4, help="captions of each")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--polish", type=int, default=0, help="self-critical steps at the end")
    parser.add_argument(
        "--train", type=int, default=10_000, help="training scenes, for labels and for captions"
    )
    parser.add_argument("--val", type=int, default=300, help="validation scenes, for the curve")
    parser.add_argument("--test", type=int, default=1000, help="test scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINTS / "captioner-grid.safetensors")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


def part(folder: Path | None, name: str) -> Path | None:
    """The folder of one phase of a run, or none."""
    return folder and folder / name


def train_trunk(args: argparse.Namespace) -> tuple[torch.nn.Module, dict[str, float]]:
    """A trunk that has learnt what cells show, and how often it is right on validation scenes."""
    with seeded(args.seed):
        trunk = build_trunk("residual")
        reader = CellReader(trunk, trunk.out_channels)
    folder = part(args.folder, "cells")
    found = checkpoints.newest(folder) if folder is not None else None
    if found is not None and found.step == args.labels:  # nothing to train, nothing to draw
        checkpoints.fill(reader, found.tensors["model"], str(folder))
        reader.eval()
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
    history = train_cross_entropy(
        reader,
        seen,
        tokeniser,
        steps=args.steps,
        images=args.images,
        captions=args.captions,
        lr=args.lr,
        seed=args.seed,
        folder=part(args.folder, "grid-captions"),
        save_every=100,
        progress=False,
        evaluate=lambda judged: evaluate_captioner(judged, watched, tokeniser, full=False),
        evaluate_every=max(1, args.steps // 8),
    )
    print("captions", rounded(history.metrics), flush=True)
    if args.polish:
        train_self_critical(
            reader,
            seen,
            tokeniser,
            steps=args.polish,
            seed=args.seed,
            eos_in_reward=False,
            folder=part(args.folder, "grid-polish"),
            save_every=20,
            progress=False,
        )
    saved = SavedCaptioner("captioner", model.eval(), tokeniser, Sight("pictures", 64), {})
    measured = {
        "settings": {
            **{k: v for k, v in vars(args).items() if isinstance(v, int | float)},
            "schedule": "Adam(.9, .98), cosine to lr / 20",
            "labels of": "train, seed 1",
            "precision of the labels": "bf16",
            "test of": "test, seed 0",
            "longest caption": "16 words",
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
        "scores": four_digits(evaluate_captioner(model, test, tokeniser)),
        "beam 5": four_digits(evaluate_captioner(model, test, tokeniser, beam=5)),
        "blank picture": four_digits(evaluate_captioner(model, blank, tokeniser)),
        "most frequent caption": four_digits(score_captions(most_frequent(data, test), test)),
        "captions of the data": four_digits(score_writers(test)),
    }
    return finish(args.name, saved, test, measured, args.checkpoint)


def finish(
    recipe: str, saved: SavedCaptioner, test: CaptionData, measured: dict[str, Any], path: Path
) -> dict[str, Any]:
    """Write the weights, read them again and measure what the rounding to half precision has left."""
    saved.about = {"recipe": recipe, **measured, **environment()}
    write_miniature(path, saved)
    again = load_captioner(path, saved.sight.module if isinstance(saved.sight.module, Detector) else None)
    few = CaptionData(
        TensorInputs(*test.inputs.rows(range(min(100, len(test))))),
        test.captions[:100],
        test.ids[:100],
        (test.scenes or [])[:100],
    )
    measured["half precision"] = {
        "beam 5": four_digits(evaluate_captioner(again.model, test, saved.tokeniser, beam=5)),
        "100 scenes": four_digits(evaluate_captioner(again.model, few, saved.tokeniser, beam=5)),
    }
    measured["captions"] = describe(again.model, few, saved.tokeniser, beam_size=5)[:SHOWN]
    if saved.sight.kind == "pictures" and test.scenes is not None:
        measured["attention"] = where_nouns_look(again, few)
    again.about = {"recipe": recipe, **measured, **environment()}
    write_miniature(path, again)
    return measured


def write_miniature(path: Path, saved: SavedCaptioner) -> None:
    """Write a captioner that comes with the book; the book's detector is not written again."""
    save_captioner(
        path,
        saved.model,
        saved.tokeniser,
        saved.sight,
        saved.about,
        half=True,
        detector="detector" if saved.sight.kind == "regions" else None,
    )


def where_nouns_look(saved: SavedCaptioner, data: CaptionData) -> dict[str, float] | None:
    """``attention_on_things`` for the record; None where no caption names a thing that is there."""
    try:
        on = attention_on_things(
            saved.model, data.inputs.rows(range(len(data)))[0], data.scenes or [], saved.tokeniser
        )
    except ValueError:
        return None
    return {name: round(value, 4) for name, value in on._asdict().items()}
