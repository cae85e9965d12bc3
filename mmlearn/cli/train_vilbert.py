"""``mmlearn train vilbert``: ViLBERT pre-trained on regions of pictures with captions, judged by hidden words
and regions and by pairs."""

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
    from mmlearn.both_modalities.vilbert_training import RegionTexts
    from mmlearn.catalog import System

DEFAULTS = {"batch": 64, "lr": 1e-3}
WATCH = "pairs"
EVALUATIONS = 20                            # of a run, with pictures to validate on
MOST_REGIONS = 9                            # of a picture


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train vilbert``."""
    parser.epilog = (
        "The regions are those of the book's detector, which was trained on drawn scenes and sees pictures "
        "at 64 pixels: in photographs it finds little, and takes what it finds for the scene world's things.")
    parser.add_argument("--size", choices=("mini",), default="mini",
                        help="the miniature; the published sizes want regions of a larger detector")
    add_common(parser, run, {
        "steps": "default: 20 epochs", "batch": "pairs a step (default 64)",
        "lr": "at its highest, after a tenth of the steps (default 1e-3)"})


@alone
def run(args: argparse.Namespace, defaults: dict[str, Any]) -> None:
    """Begin or resume a run; see ``mmlearn train vilbert --help``."""
    from dataclasses import replace

    from mmlearn.both_modalities.vilbert_pretraining import PretrainingConfig
    from mmlearn.both_modalities.vilbert_training import (
        PretrainingBatches,
        judged,
        mini_model,
        pretrain,
        save_vilbert,
    )

    with one_first(args) as writes:
        settings = plan(args, defaults)
        data, val = open_data(settings)
        tokeniser = data.vocabulary()
        settings["steps"] = settings["steps"] or 20 * max(1, len(data) // settings["batch"])
        remember(args.out, settings)
    model = mini_model(tokeniser, data, settings["seed"])
    seen = data if val is None else val
    untrained = rounded(judged(model, seen, tokeniser))
    config = replace(PretrainingConfig.mini(), batch=min(settings["batch"], len(data)), lr=settings["lr"])
    options: dict[str, Any] = {} if val is None else {
        "evaluate": lambda model: judged(model, seen, tokeniser), "watch": WATCH,
        "evaluate_every": max(1, settings["steps"] // EVALUATIONS)}
    history = pretrain(
        model, PretrainingBatches(data, tokeniser, config, seed=settings["seed"]), steps=settings["steps"],
        seed=settings["seed"], folder=args.out / "steps", save_every=settings["save_every"],
        precision=settings["precision"], progress=sys.stderr, on_step=Estimate(settings["steps"]), **options)
    if not writes:
        return
    scores = rounded(judged(model, seen, tokeniser))
    part = "training" if val is None else "validation"
    save_vilbert(args.out, model, tokeniser,
                 {"settings": settings, f"{part} pictures": scores, "untrained": untrained})
    keep_history(args.out / "history.json", history)
    regions = round(float(data.seen.mask.sum(dim=1).double().mean()), 2)
    result = {"out": str(args.out), "steps": history.steps[-1],
              "parameters": sum(p.numel() for p in model.parameters()), "pictures": len(data),
              "regions a picture": regions, "tokens": len(tokeniser), "last loss": history.smooth(10)[-1],
              "judged on": f"{len(seen)} {part} pictures", **scores, "untrained": untrained,
              "best": history.best, "seconds": round(history.seconds, 1)}
    lines = [f"vilbert: {result['parameters']:,} parameters, {result['steps']} steps on {len(data)} pictures "
             f"with {regions:g} regions each, loss {result['last loss']:.3f}", ending(history, WATCH),
             f"on {result['judged on']}, in brackets before training:",
             *(f"  {name:<32}{value:8.4g} ({untrained[name]:.4g})" for name, value in scores.items()),
             f"open it with mmlearn.both_modalities.vilbert_training.load_vilbert({str(args.out)!r})"]
    tell(args, result, "\n".join(line for line in lines if line))


def rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}


def plan(args: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run: from the command line, or those it was begun with."""
    asked = {**asked_for(args), "phase": "contrastive"}
    begun = has_begun(args.out, "steps", "history.json")
    if args.resume:
        return go_on(args, asked, {**defaults, "phase": "contrastive"})
    refuse_to_write_over(args.out, begun)
    asked |= {name: value for name, value in DEFAULTS.items() if asked[name] is None}
    check_settings(asked)
    if asked["batch"] < 2:
        raise ValueError(f"--batch is {asked['batch']}; take 2 or more, one pair has no text of another "
                         f"picture")
    return asked


def open_data(settings: dict[str, Any]) -> "tuple[RegionTexts, RegionTexts | None]":
    """Regions and captions to train on, and those to judge on where there are some."""
    from mmlearn.both_modalities.vilbert_training import RegionTexts, kept_regions, scene_regions
    from mmlearn.data.pairs import file_pairs
    from mmlearn.image2text.regions import load_detector

    detector = load_detector()
    if settings["data"] == "scenes":
        return (scene_regions(detector, settings["scenes"]),
                scene_regions(detector, VALIDATION_SCENES, "val"))
    train, val = open_records(settings)
    if len(train) < 2:
        raise ValueError(f"there is {len(train)} picture to train on; give 2 or more, one pair has no text "
                         f"of another picture")
    found = []
    for records in (train, val):
        if records:
            pairs = file_pairs(records, detector.config.size)
            found.append(RegionTexts(kept_regions(detector, pairs.images[:], MOST_REGIONS), pairs.captions))
    return found[0], found[1] if len(found) > 1 else None
