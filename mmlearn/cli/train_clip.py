"""``mmlearn train clip``: contrastive learning from pictures with captions, judged by retrieval."""

import argparse
import json
import sys
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
    from mmlearn.data.pairs import PairData
    from mmlearn.data.tokenisers import Tokeniser
    from mmlearn.text_for_vision.clip import CLIPConfig

MINIATURES = ("mini", "mini_resnet")        # their tokens are the words of the captions; others have CLIP's
                                            # tokeniser


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train clip``."""
    add_data(parser)
    parser.add_argument("--size", choices=[c.name for c in system.configurations], default="mini_resnet",
                        help="a miniature (64 pixels, words as tokens) or a published size (default "
                             "mini_resnet)")
    parser.add_argument("--steps", type=int, help="default: 20 epochs")
    parser.add_argument("--batch", type=int, default=128, help="pairs a step (default 128)")
    parser.add_argument("--lr", type=float, default=1e-3, help="at its highest (default 1e-3)")
    parser.add_argument("--warmup", type=int, default=50, metavar="STEPS",
                        help="default 50, at most a quarter")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--save-every", type=int, metavar="STEPS", help="default: a tenth of the run")
    parser.set_defaults(run=run)


@alone
def run(args: argparse.Namespace) -> None:
    """Begin or resume a run; see ``mmlearn train clip --help``."""
    from mmlearn.nn.modes import seeded
    from mmlearn.text_for_vision.clip import CLIP
    from mmlearn.text_for_vision.training import retrieval, save_mini, train_clip

    settings = plan(args)
    data, val = open_data(settings)
    tokeniser, config = words_and_sizes(settings, data)
    settings["steps"] = settings["steps"] or 20 * max(1, len(data) // settings["batch"])
    remember(args.out, settings)
    with seeded(settings["seed"]):
        model = CLIP(config)
    history = train_clip(
        model, data, tokeniser, steps=settings["steps"], batch=settings["batch"], lr=settings["lr"],
        warmup=settings["warmup"], seed=settings["seed"], folder=args.out / "steps",
        save_every=settings["save_every"], precision=settings["precision"], progress=sys.stderr, title="clip")
    judged = data.first(200) if val is None else val
    scores = {name: round(value, 4) for name, value in retrieval(model, tokeniser, judged).items()}
    about = {"settings": settings, "validation" if val is not None else "training pictures": scores}
    save_mini(args.out, model, tokeniser, about)
    write_atomically(args.out / "history.json", json.dumps(
        {"steps": history.steps, "loss": history.loss, **history.scalars}) + "\n")
    result = {"out": str(args.out), "steps": history.steps[-1],
              "parameters": sum(p.numel() for p in model.parameters()), "pictures": len(data),
              "tokens": len(tokeniser), "last loss": history.smooth(10)[-1],
              "judged on": f"{len(judged)} {'validation' if val is not None else 'training'} pictures",
              **scores, "seconds": round(history.seconds, 1)}
    if args.json:
        print(json.dumps(result))
        return
    print(f"clip: {result['parameters']:,} parameters, {result['steps']} steps, loss "
          f"{result['last loss']:.3f}; on "
          f"{result['judged on']} " + ", ".join(f"{name} {value:g}" for name, value in scores.items())
          + f"; open it with --weights {args.out}")


def plan(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the run: from the command line, or those it was begun with."""
    begun = has_begun(args.out, "steps", "history.json")
    if args.resume:
        return resumed(args)
    if begun or not recall(args.out) and (args.out / "config.json").exists():
        raise ValueError(f"{args.out} holds a run already; add --resume to go on with it, or choose another "
                         f"--out")
    settings = {**given(args), "phase": "contrastive"}
    check_data(settings)
    for name, least in (("batch", 2), ("steps", 1), ("save_every", 1)):
        if settings[name] is not None and settings[name] < least:
            raise ValueError(f"--{name.replace('_', '-')} is {settings[name]}; take {least} or more")
    return settings


def open_data(settings: dict[str, Any]) -> "tuple[PairData, PairData | None]":
    """Pairs to train on, and those to judge on where there are some."""
    from mmlearn.data.pairs import file_pairs, scene_pairs

    size = sizes(settings).size
    if settings["data"] == "scenes":
        return scene_pairs(settings["scenes"], size=size), scene_pairs(200, "val", size=size)
    train, val = records(settings), records(settings, validation=True)
    return file_pairs(train or [], size), file_pairs(val, size) if val else None


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
