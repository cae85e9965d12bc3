"""``mmlearn train data2vec``: pictures without captions, of which a part is hidden; judged on held-out ones
by the loss and by how much the targets still differ."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from mmlearn.cli.trainer import (
    VALIDATION_SCENES,
    Estimate,
    add_common,
    asked_for,
    check_settings,
    ending,
    go_on,
    keep_history,
    one_first,
    open_records,
    tell,
)
from mmlearn.cli.training import alone, has_begun, refuse_to_write_over, remember

if TYPE_CHECKING:
    from mmlearn.both_modalities.data2vec import Data2VecConfig
    from mmlearn.both_modalities.data2vec_vision import Data2VecVisionConfig, VisionData2Vec
    from mmlearn.catalog import System
    from mmlearn.data.pairs import PairData

SIZES = ("mini", "base", "large")
RATES = {"mini": 2e-3, "base": 2e-3, "large": 1e-3}         # the published sizes have the paper's
BATCH, EPOCHS, EVALUATIONS = 64, 20, 20
JUDGED = 200                                                # pictures of an evaluation


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train data2vec``."""
    parser.epilog = "example:\n  mmlearn train data2vec --data folder --images photos --out runs/data2vec"
    parser.add_argument("--config", "--size", dest="size", choices=SIZES, default="mini",
                        help="a miniature (32 pixels), or a published size (224 pixels, with its "
                             "augmentation; default mini)")
    add_common(parser, run, {
        "steps": f"default: {EPOCHS} epochs", "batch": f"pictures a step (default {BATCH})",
        "lr": "at its highest (default 2e-3; large 1e-3)",
        "warmup": "default a tenth of the steps"})


@alone
def run(args: argparse.Namespace, defaults: dict[str, Any]) -> None:
    """Begin or resume a run; see ``mmlearn train data2vec --help``."""
    from mmlearn.both_modalities.data2vec import train_data2vec
    from mmlearn.both_modalities.data2vec_vision import HiddenPictures, VisionData2Vec
    from mmlearn.checkpoints import save_model
    from mmlearn.nn.modes import seeded
    from mmlearn.train import warmup_cosine

    with one_first(args) as writes:
        settings = plan(args, defaults)
        data, val = open_data(settings)
        settings["batch"] = min(settings["batch"], len(data))
        settings["steps"] = settings["steps"] or EPOCHS * max(1, len(data) // settings["batch"])
        if settings["warmup"] is None:
            settings["warmup"] = settings["steps"] // 10
        remember(args.out, settings)
    encoder, method = configurations(settings)
    with seeded(settings["seed"]):
        model = VisionData2Vec.new(encoder, method)
    judge = judge_of(data if val is None else val, encoder)
    untrained = judge(model)
    batches = HiddenPictures(data.images, settings["batch"], encoder, seed=settings["seed"],
                             augment=settings["size"] != "mini")
    history = train_data2vec(
        model, batches, steps=settings["steps"], lr=settings["lr"], weight_decay=0.05, clip=3.0,
        schedule=warmup_cosine(settings["lr"], settings["warmup"], settings["steps"]), seed=settings["seed"],
        folder=args.out / "steps", save_every=settings["save_every"], precision=settings["precision"],
        progress=sys.stderr, title="data2vec", on_step=Estimate(settings["steps"]),
        evaluate=judge, evaluate_every=max(1, settings["steps"] // EVALUATIONS))
    if not writes:
        return
    scores = judge(model)
    part = f"{min(JUDGED, len(data if val is None else val))} {'training' if val is None else 'validation'}"
    save_model(args.out, model.student, "data2vec",
               {"settings": settings, f"{part} pictures": scores, "untrained": untrained})
    keep_history(args.out / "history.json", history)
    result = {"out": str(args.out), "steps": history.steps[-1],
              "parameters": sum(p.numel() for p in model.student.parameters()), "pictures": len(data),
              "last loss": history.smooth(10)[-1], "judged on": f"{part} pictures", **scores,
              "untrained": untrained, "seconds": round(history.seconds, 1)}
    lines = [f"data2vec: {result['parameters']:,} parameters of the encoder, {result['steps']} steps on "
             f"{len(data)} pictures, loss {result['last loss']:.3f} (it may rise: targets move)",
             ending(history, ""), f"on {result['judged on']}, in brackets before training:",
             *(f"  {name:<20}{value:8.4g} ({untrained[name]:.4g})" for name, value in scores.items()),
             "a target spread or rank near 0 is a collapse",
             f"{args.out} holds the encoder: mmlearn.checkpoints.load_model opens it"]
    tell(args, result, "\n".join(line for line in lines if line))


def judge_of(data: "PairData", config: "Data2VecVisionConfig") -> Any:
    """For ``fit``'s evaluate: the loss on some pictures, always with the same patches hidden, and spread and
    rank of the targets."""
    from mmlearn.both_modalities.data2vec import effective_rank, regression_loss, spread
    from mmlearn.both_modalities.data2vec_vision import HiddenPictures
    from mmlearn.nn.modes import eval_mode

    some = data.first(JUDGED)
    batch = HiddenPictures(some.images, len(some), config, shuffle=False)[0]

    def judge(model: "VisionData2Vec") -> dict[str, float]:
        import torch

        predicted, target, of = [], [], model.config
        with eval_mode(model) as device, torch.no_grad():
            for images, mask in zip(batch.inputs.split(32), batch.mask.split(32)):
                found = model(images.to(device), mask.to(device))
                predicted.append(found.prediction.float().cpu())
                target.append(found.target.float().cpu())
        f, y = torch.cat(predicted), torch.cat(target)
        return {name: round(float(value), 4) for name, value in (
            ("loss", regression_loss(f, y, of.beta, of.reduction)), ("target spread", spread(y)),
            ("target rank", effective_rank(y[:4000])))}

    return judge


def plan(args: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run: from the command line, or those it was begun with."""
    asked = {**asked_for(args), "phase": "contrastive"}         # its checkpoints are in ``steps``
    begun = has_begun(args.out, "steps", "history.json")
    if args.resume:
        return go_on(args, asked, {**defaults, "phase": "contrastive"})
    refuse_to_write_over(args.out, begun)
    asked["batch"] = BATCH if asked["batch"] is None else asked["batch"]
    asked["lr"] = RATES[asked["size"]] if asked["lr"] is None else asked["lr"]
    check_settings(asked)
    return asked


def open_data(settings: dict[str, Any]) -> "tuple[PairData, PairData | None]":
    """Pictures to train on, and those to judge on where there are some; their captions are not used."""
    from mmlearn.data.pairs import file_pairs, scene_pairs

    size = configurations({**settings, "steps": settings["steps"] or 1})[0].size
    if settings["data"] == "scenes":
        return scene_pairs(settings["scenes"], size=size), scene_pairs(VALIDATION_SCENES, "val", size=size)
    train, held = open_records(settings)
    if not train:
        raise ValueError("there is no picture to train on; give 1 or more")
    return file_pairs(train, size), file_pairs(held, size) if held else None


def configurations(settings: dict[str, Any]) -> "tuple[Data2VecVisionConfig, Data2VecConfig]":
    """The encoder, and what the method sets."""
    from dataclasses import replace

    from mmlearn.both_modalities.data2vec import Data2VecConfig
    from mmlearn.both_modalities.data2vec_vision import Data2VecVisionConfig

    encoder = getattr(Data2VecVisionConfig, settings["size"])()
    if settings["size"] == "mini":
        return encoder, replace(Data2VecConfig.mini(3, steps=settings["steps"]), twice=True)
    return encoder, Data2VecConfig.vision()
