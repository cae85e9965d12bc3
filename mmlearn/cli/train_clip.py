"""``mmlearn train clip``: contrastive learning from pictures with captions, judged by retrieval."""

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
    from mmlearn.catalog import System
    from mmlearn.data.pairs import PairData
    from mmlearn.data.tokenisers import Tokeniser
    from mmlearn.text_for_vision.clip import CLIPConfig

MINIATURES = ("mini", "mini_resnet")        # their tokens are the words of the captions; others have CLIP's
                                            # tokeniser
DEFAULTS = {"batch": 128, "lr": 1e-3, "warmup": 50}
WATCH = "mean R@k"
EVALUATIONS = 20                            # of a run, with pictures to validate on


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train clip``."""
    parser.add_argument("--size", choices=[c.name for c in system.configurations], default="mini_resnet",
                        help="a miniature (64 pixels, words as tokens) or a published size (default "
                             "mini_resnet)")
    add_common(parser, run, {
        "steps": "default: 20 epochs", "batch": "pairs a step (default 128)",
        "lr": "at its highest (default 1e-3)", "warmup": "default 50, at most a quarter of the steps"})


@alone
def run(args: argparse.Namespace, defaults: dict[str, Any]) -> None:
    """Begin or resume a run; see ``mmlearn train clip --help``."""
    from mmlearn.nn.modes import seeded
    from mmlearn.text_for_vision.clip import CLIP
    from mmlearn.text_for_vision.training import retrieval, save_mini, train_clip

    with one_first(args) as writes:
        settings = plan(args, defaults)
        data, val = open_data(settings)
        tokeniser, config = words_and_sizes(settings, data)
        settings["steps"] = settings["steps"] or 20 * max(1, len(data) // settings["batch"])
        remember(args.out, settings)
    with seeded(settings["seed"]):
        model = CLIP(config)
    judged = data.first(200) if val is None else val
    untrained = rounded(retrieval(model, tokeniser, judged))
    options: dict[str, Any] = {} if val is None else {
        "evaluate": lambda model: averaged(retrieval(model, tokeniser, judged)), "watch": WATCH,
        "evaluate_every": max(1, settings["steps"] // EVALUATIONS)}
    history = train_clip(
        model, data, tokeniser, steps=settings["steps"], batch=settings["batch"], lr=settings["lr"],
        warmup=settings["warmup"], seed=settings["seed"], folder=args.out / "steps",
        save_every=settings["save_every"], precision=settings["precision"], progress=sys.stderr, title="clip",
        on_step=Estimate(settings["steps"]), **options)
    if not writes:
        return
    scores = rounded(retrieval(model, tokeniser, judged))
    part = "training" if val is None else "validation"
    save_mini(args.out, model, tokeniser,
              {"settings": settings, f"{part} pictures": scores, "untrained": untrained})
    keep_history(args.out / "history.json", history)
    result = {"out": str(args.out), "steps": history.steps[-1],
              "parameters": sum(p.numel() for p in model.parameters()), "pictures": len(data),
              "tokens": len(tokeniser), "last loss": history.smooth(10)[-1],
              "judged on": f"{len(judged)} {part} pictures", **scores, "untrained": untrained,
              "best": history.best, "seconds": round(history.seconds, 1)}
    lines = [f"clip: {result['parameters']:,} parameters, {result['steps']} steps on {len(data)} pictures, "
             f"loss {result['last loss']:.3f}", ending(history, WATCH),
             f"on {result['judged on']}, in brackets before training:",
             *(f"  {name:<26}{value:8.4g} ({untrained[name]:.4g})" for name, value in scores.items()),
             f"open it with --weights {args.out}"]
    tell(args, result, "\n".join(line for line in lines if line))


def rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}


def averaged(scores: dict[str, float]) -> dict[str, float]:
    """The scores, and the mean of all R@k in both directions."""
    recalls = [value for name, value in scores.items() if "R@" in name]
    return {**scores, WATCH: sum(recalls) / len(recalls)}


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
        raise ValueError(f"--batch is {asked['batch']}; take 2 or more, one pair has nothing to be told from")
    return asked


def open_data(settings: dict[str, Any]) -> "tuple[PairData, PairData | None]":
    """Pairs to train on, and those to judge on where there are some."""
    from mmlearn.data.pairs import file_pairs, scene_pairs

    size = sizes(settings).size
    if settings["data"] == "scenes":
        return scene_pairs(settings["scenes"], size=size), scene_pairs(VALIDATION_SCENES, "val", size=size)
    train, val = open_records(settings)
    if len(train) < 2:
        raise ValueError(f"there is {len(train)} picture to train on; give 2 or more, one has nothing to be "
                         f"told from")
    return file_pairs(train, size), file_pairs(val, size) if val else None


def sizes(settings: dict[str, Any], **options: Any) -> "CLIPConfig":
    """The configuration of that name."""
    from mmlearn.text_for_vision.clip import CLIPConfig

    return getattr(CLIPConfig, settings["size"])(**options)


def words_and_sizes(settings: dict[str, Any], data: "PairData") -> "tuple[Tokeniser, CLIPConfig]":
    """The tokeniser, and the configuration with as many tokens."""
    from mmlearn.data.clip_tokeniser import CLIPTokeniser
    from mmlearn.data.pairs import scene_tokeniser

    if settings["size"] not in MINIATURES:
        return CLIPTokeniser.find(), sizes(settings)
    tokeniser = scene_tokeniser(data)
    return tokeniser, sizes(settings, vocab=len(tokeniser))
