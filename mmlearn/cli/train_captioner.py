"""``mmlearn train m2`` and ``mmlearn train captioner``: cross-entropy, then self-critical training."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlearn.cli.training import (
    add_data,
    alone,
    check_data,
    given,
    has_begun,
    recall,
    records,
    remember,
    resumed,
)
from mmlearn.files import write_atomically

if TYPE_CHECKING:
    from mmlearn.catalog import System
    from mmlearn.image2text.saved import SavedCaptioner, Sight
    from mmlearn.image2text.training import CaptionData
    from mmlearn.train import History

# Defaults by size. None: the paper's schedule of the learning rate, eq:noam.
DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("xe", "mini"): {"batch": 64, "lr": 1e-3, "warmup": 100, "min_count": 1, "pixels": 64},
    ("xe", "paper"): {"batch": 50, "lr": None, "warmup": 10_000, "min_count": 5, "pixels": 224},
    ("scst", "mini"): {"batch": 32, "lr": 2e-4},
    ("scst", "paper"): {"batch": 10, "lr": 5e-6},
}
# the rest belongs to the run
OF_THE_PHASE = ("phase", "steps", "batch", "lr", "warmup", "precision", "save_every")
PATIENCE = 5


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train m2`` and ``mmlearn train captioner``."""
    add_data(parser)
    parser.add_argument("--phase", choices=("xe", "scst"), default="xe",
                        help="cross-entropy; then, on the same folder, self-critical training")
    parser.add_argument("--size", choices=("mini", "paper"), help="default: mini for scenes, paper for coco")
    parser.add_argument("--features", metavar="grid|regions|FILE",
                        help="what M2 reads: cells of a CNN, regions of the scene detector, or arrays "
                             "'<id>_features' in a "
                             ".safetensors, .npz or .hdf5 file (default: regions for scenes, grid for coco)")
    parser.add_argument("--trunk", default="resnet101",
                        help="torchvision ResNet that gives the cells (default resnet101)")
    parser.add_argument("--weights", metavar="NAME",
                        help="its torchvision weights, such as IMAGENET1K_V2 (downloaded); "
                        "default: random ones, good for trying only")
    parser.add_argument("--pixels", type=int, help="side that images are squeezed to (default: mini 64, "
                                                   "paper 224)")
    parser.add_argument("--steps", type=int, help="of this phase (default: 20 epochs)")
    parser.add_argument("--batch", type=int, help="captions a step (xe: mini 64, paper 50) or images (scst: "
                                                  "mini 32, paper 10)")
    parser.add_argument("--lr", type=float, help="default: xe: mini 1e-3, paper its schedule; scst: mini "
                                                 "2e-4, paper 5e-6")
    parser.add_argument("--warmup", type=int, metavar="STEPS", help="default: mini 100, paper 10000")
    parser.add_argument("--min-count", type=int, help="a word must occur so often (default: mini 1, paper 5)")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--save-every", type=int, metavar="STEPS", help="default: a tenth of the phase")
    parser.set_defaults(run=run)


@alone
def run(args: argparse.Namespace) -> None:
    """Begin or resume a run; see ``mmlearn train --help``."""
    from mmlearn.image2text.saved import load_captioner, save_captioner

    settings = plan(args)
    data, val = open_data(settings)
    settings["steps"] = settings["steps"] or 20 * max(1, len(data) // images_a_step(settings))
    settings["save_every"] = settings["save_every"] or max(1, settings["steps"] // 10)
    remember(args.out, settings)
    if settings["phase"] == "xe" and not has_begun(args.out, "xe", "history-xe.json"):
        begin(args.out, settings, data)
    saved = load_captioner(args.out)
    data = seen(data, saved.sight, settings)
    val = None if val is None else seen(val, saved.sight, settings)

    def export(step: int, model: Any) -> None:
        save_captioner(args.out, model, saved.tokeniser, saved.sight, about(settings, step),
                       weights_only=True)

    history = train(args.out, settings, saved, data, val, export)
    save_captioner(args.out, saved.model, saved.tokeniser, saved.sight,
                   about(settings, history.steps[-1]), weights_only=True)
    report(args, settings, history, saved)


# --------------------------------------------------------------------------------------------------- settings

def plan(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of this phase: from the command line, the folder of the run, and the defaults of the
    size."""
    if args.resume:
        return resumed(args)
    asked, phases = given(args), recall(args.out)
    if has_begun(args.out, args.phase, f"history-{args.phase}.json"):
        raise ValueError(f"{args.out} holds a run of phase {args.phase} already; add --resume to go on with "
                         f"it, or choose "
                         "another --out")
    if args.phase == "scst":
        first = next((settings for settings in phases if settings["phase"] == "xe"), None)
        if first is None:
            raise ValueError(f"{args.out} holds no captioner to go on with; self-critical training needs one "
                             f"that was "
                             "trained by cross-entropy (--phase xe) in the same folder")
        if not (args.out / "history-xe.json").exists():
            raise ValueError(f"the first phase in {args.out} has not ended; go on with it with --resume "
                             f"before the second")
        asked = {**asked, **first, **{k: asked[k] for k in OF_THE_PHASE}}
    elif not phases and (args.out / "config.json").exists():
        raise ValueError(f"{args.out} holds another captioner; choose another --out")
    check_data(asked)
    asked["size"] = asked["size"] or ("mini" if asked["data"] == "scenes" else "paper")
    if args.phase == "xe":
        asked["features"] = features_of(asked)
    for name, value in DEFAULTS[asked["phase"], asked["size"]].items():
        asked[name] = value if asked.get(name) is None else asked[name]
    for name in ("batch", "steps", "save_every", "pixels"):
        if asked[name] is not None and asked[name] < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {asked[name]}; take 1 or more")
    return asked


def features_of(settings: dict[str, Any]) -> str:
    """What the system reads: pictures, grid, regions, or the path of a file."""
    if settings["system"] == "captioner":
        if settings["features"] is not None:
            raise ValueError("--features is for m2; the captioner reads pictures")
        return "pictures"
    found = settings["features"] or ("regions" if settings["data"] == "scenes" else "grid")
    if found in ("grid", "regions"):
        return found
    if settings["data"] == "scenes":
        raise ValueError(f"--features {found}: stored features go with --data coco; use grid or regions")
    return str(Path(found).resolve())


def about(settings: dict[str, Any], step: int) -> dict[str, Any]:
    """What a checkpoint says of its training."""
    return {"phase": settings["phase"], "step": step, "data": settings["data"], "seed": settings["seed"]}


# ------------------------------------------------------------------------------------------------------- data

def open_data(settings: dict[str, Any]) -> "tuple[CaptionData, CaptionData | None]":
    """Training and validation images as pictures, with their captions."""
    from mmlearn.image2text.training import file_data, scene_data

    if settings["data"] == "scenes":
        from mmlearn.image2text.regions import load_detector

        size = load_detector().config.size if settings["features"] == "regions" else settings["pixels"]
        return scene_data(settings["scenes"], "train", size=size), scene_data(200, "val", size=size)
    train, val = records(settings), records(settings, validation=True)
    return file_data(train or [], settings["pixels"]), file_data(val, settings["pixels"]) if val else None


def seen(data: "CaptionData", sight: "Sight", settings: dict[str, Any]) -> "CaptionData":
    """The same images as the model reads them."""
    from dataclasses import replace

    from mmlearn.image2text.features import StoredFeatures

    if sight.kind == "stored":
        return replace(data, inputs=StoredFeatures(settings["features"], data.ids))
    return replace(data, inputs=sight.inputs(data.inputs))


def begin(out: Path, settings: dict[str, Any], data: "CaptionData") -> None:
    """Write the untrained captioner: its words, its sight, its random weights."""
    from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer
    from mmlearn.image2text.m2 import M2Config, M2Transformer
    from mmlearn.image2text.regions import load_detector
    from mmlearn.image2text.saved import Sight, save_captioner
    from mmlearn.nn.modes import seeded

    tokeniser = data.vocabulary(settings["min_count"])
    if settings["features"] == "pictures":
        sight = Sight("pictures", settings["pixels"])
    elif settings["features"] == "grid":
        sight = Sight.grid(settings["trunk"], settings["weights"], settings["pixels"], settings["seed"],
                           data.inputs)
    elif settings["features"] == "regions":
        sight = Sight.regions(load_detector())
    else:
        sight = Sight("stored", settings["pixels"])
    with seeded(settings["seed"]):
        if settings["system"] == "captioner":
            config = (CaptionerConfig.mini(len(tokeniser)) if settings["size"] == "mini" else
                      CaptionerConfig(trunk=settings["trunk"], weights=settings["weights"],
                                      vocab=len(tokeniser)))
            model: Any = CNNTransformer(config)
        else:
            width = int(seen(data, sight, settings).inputs.rows([0])[0].shape[-1])
            model = M2Transformer(M2Config.mini(len(tokeniser), width) if settings["size"] == "mini" else
                                  M2Config(vocab=len(tokeniser), features=width))
    save_captioner(out, model, tokeniser, sight, about(settings, 0))


# --------------------------------------------------------------------------------------------------- training

def images_a_step(settings: dict[str, Any]) -> int:
    """Images in a batch: a miniature reads four captions of each, the paper pairs of one image and one
    caption."""
    if settings["phase"] == "scst" or settings["size"] == "paper":
        return settings["batch"]
    return max(1, settings["batch"] // 4)


def train(out: Path, settings: dict[str, Any], saved: "SavedCaptioner", data: "CaptionData",
          val: "CaptionData | None", export: Any) -> "History":
    """One phase with checkpoints in its own folder; a phase that was begun goes on."""
    from mmlearn.image2text.training import evaluate_captioner, train_cross_entropy, train_self_critical
    from mmlearn.train import linear_warmup, noam

    paper, images = settings["size"] == "paper", images_a_step(settings)
    max_len = 20 if paper else 24
    options: dict[str, Any] = {
        "steps": settings["steps"], "seed": settings["seed"], "images": images,
        "precision": settings["precision"], "folder": out / settings["phase"],
        "save_every": settings["save_every"], "progress": sys.stderr, "on_save": export,
        "title": f"{settings['system']} {settings['phase']}"}
    if val is not None:
        options |= {
            "evaluate": lambda model: evaluate_captioner(
                model, val, saved.tokeniser, max_len=max_len, full=False
            ),
            "evaluate_every": max(1, len(data) // images),
            "watch": "CIDEr-D",
            "patience": PATIENCE,
        }
    if settings["phase"] == "xe":
        captions = 1 if paper else 4
        if settings["lr"] is None:
            options["schedule"] = noam(saved.model.config.width, settings["warmup"])
        else:
            options |= {"lr": settings["lr"], "schedule": linear_warmup(settings["lr"], settings["warmup"])}
        return train_cross_entropy(saved.model, data, saved.tokeniser, captions=captions, **options)
    return train_self_critical(saved.model, data, saved.tokeniser, lr=settings["lr"], max_len=max_len,
                               documents="caption" if paper else "image", **options)


def report(args: argparse.Namespace, settings: dict[str, Any], history: "History",
           saved: "SavedCaptioner") -> None:
    """Say what came of it, and keep the loss of every step beside the captioner."""
    curve = {"steps": history.steps, "loss": history.loss, **history.scalars,
             "metric_steps": history.metric_steps, "metrics": history.metrics}
    write_atomically(args.out / f"history-{settings['phase']}.json", json.dumps(curve) + "\n")
    span = max(1, min(10, len(history.loss) // 3))
    result = {"out": str(args.out), "phase": settings["phase"], "steps": history.steps[-1],
              "parameters": sum(p.numel() for p in saved.model.parameters() if p.requires_grad),
              "words": len(saved.tokeniser), "first loss": sum(history.loss[:span]) / span,
              "last loss": sum(history.loss[-span:]) / span, "best": history.best,
              "seconds": round(history.seconds, 1)}
    if args.json:
        print(json.dumps(result))
        return
    print(f"{settings['system']} {settings['phase']}: {result['parameters']:,} parameters, "
          f"{result['words']:,} words, "
          f"{result['steps']} steps; loss {result['first loss']:.3f} -> {result['last loss']:.3f} "
          f"(means of {span} steps); the captioner is in {args.out}")
