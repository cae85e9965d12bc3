"""``mmlearn train glide``: a base model, the same for holes, and an upsampler, one after the other.

Each phase has its checkpoints in a folder of that name; the captions make the byte pairs of the tokeniser.
"""

import argparse
import io
import sys
from typing import TYPE_CHECKING, Any

from mmlearn.cli.trainer import (
    VALIDATION_SCENES,
    Estimate,
    add_common,
    asked_for,
    check_settings,
    flag,
    go_on,
    keep_history,
    one_first,
    open_records,
    reached,
    tell,
)
from mmlearn.cli.training import alone, has_begun, refuse_to_write_over, remember
from mmlearn.files import write_atomically

if TYPE_CHECKING:
    from mmlearn.catalog import System
    from mmlearn.data.glide_tokeniser import GLIDETokeniser
    from mmlearn.data.pairs import PairData
    from mmlearn.text2image.glide import GLIDE, GLIDEConfig
    from mmlearn.train import History

BATCH, LR = 32, 1e-3
EPOCHS = 100                                # of a run whose steps are not given
EVALUATIONS = 10                            # of a phase
JUDGED, SHOWN, DRAWN_IN = 100, 12, 25       # pictures of an evaluation; captions of the sheet, their steps
MERGES = 4000                               # byte pairs, at most
PIXELS = (16, 32, 64, 128)
PHASES = ("base", "hole", "upsampler")


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train glide``."""
    parser.epilog = "example:\n  mmlearn train glide --data folder --images photos --out runs/glide"
    parser.add_argument("--size", choices=("mini", "filtered", "full"), default="mini",
                        help="the miniature, or a published pair of base model and upsampler (default mini)")
    parser.add_argument("--pixels", type=int,
                        help=f"side of the miniature's pictures: {', '.join(map(str, PIXELS))} (default 64); "
                             f"the base model has half")
    parser.add_argument("--hole-steps", type=int, metavar="STEPS",
                        help="of the base model with a hole in the picture (default: a fifth of --steps)")
    parser.add_argument("--up-steps", type=int, metavar="STEPS",
                        help="of the upsampler (default: those of the base model)")
    add_common(parser, run, {
        "steps": f"of the base model (default: {EPOCHS} epochs)",
        "batch": f"pictures a step (default {BATCH})",
        "lr": f"at its highest; a quarter of it with holes (default {LR:g}, 1e-4 in a published size)"})


@alone
def run(args: argparse.Namespace, defaults: dict[str, Any]) -> None:
    """Begin or resume a run; see ``mmlearn train glide --help``."""
    from mmlearn.nn.modes import seeded
    from mmlearn.text2image.glide import GLIDE
    from mmlearn.text2image.painting import Painter, save_painter

    with one_first(args) as writes:
        settings = plan(args, defaults)
        data, val = open_data(settings)
        settings["steps"] = settings["steps"] or EPOCHS * max(1, len(data) // settings["batch"])
        settings["hole_steps"] = settings["hole_steps"] or max(1, settings["steps"] // 5)
        settings["up_steps"] = settings["up_steps"] or settings["steps"]
        tokeniser = tokeniser_of(data)
        remember(args.out, settings)
    judged = (data if val is None else val).first(JUDGED)
    with seeded(settings["seed"]):
        small, large = configurations(settings, tokeniser)
        base, upsampler = GLIDE(small), GLIDE(large)
    found: dict[str, Any] = {}

    def phase(name: str, model: "GLIDE", steps: int, lr: float) -> "GLIDE":
        history = train_phase(args, settings, name, model, data, judged, tokeniser, steps, lr)
        found[name] = {"steps": history.steps[-1], "last loss": history.smooth(100)[-1],
                       "parameters": sum(p.numel() for p in model.parameters()),
                       **{key: values[-1] for key, values in history.metrics.items()}}
        if writes:
            keep_history(args.out / ("history.json" if name == "base" else f"history-{name}.json"), history)
        assert isinstance(history.ema, GLIDE)
        return history.ema

    base = phase("base", base, settings["steps"], settings["lr"])
    base = phase("hole", base.widened_for_inpainting(), settings["hole_steps"], settings["lr"] / 4)
    upsampler = phase("upsampler", upsampler, settings["up_steps"], settings["lr"])
    if not writes:
        return
    painter = Painter.of(tokeniser, base, upsampler)
    texts = [captions[0] for captions in judged.captions[:SHOWN]]
    save_painter(args.out, painter, {"settings": settings, **found, "samples": texts})
    write_sheet(args, settings, painter, texts)
    report(args, settings, found, data, judged, val is not None)


def train_phase(args: argparse.Namespace, settings: dict[str, Any], name: str, model: "GLIDE",
                data: "PairData", judged: "PairData", tokeniser: "GLIDETokeniser", steps: int,
                lr: float) -> "History":
    """One of ``PHASES``, in a folder of its own."""
    from mmlearn.text2image.diffusion_training import denoising_errors, train_diffusion

    return train_diffusion(
        model, data, tokeniser, steps=steps, batch=settings["batch"], lr=lr, seed=settings["seed"],
        folder=args.out / name, save_every=settings["save_every"], precision=settings["precision"],
        progress=sys.stderr, title=f"glide, {name}", on_step=Estimate(steps),
        evaluate=lambda trained: denoising_errors(trained, judged, tokeniser),
        evaluate_every=max(1, steps // EVALUATIONS))


def write_sheet(args: argparse.Namespace, settings: dict[str, Any], painter: Any, texts: list[str]) -> None:
    """What the model draws of a few captions, as one picture."""
    from mmlearn.text2image.pipeline import sheet

    picture = io.BytesIO()
    drawn = painter.draw(texts, seed=settings["seed"], steps=DRAWN_IN, method="ddim")
    sheet(drawn).save(picture, "PNG")
    write_atomically(args.out / "samples.png", picture.getvalue())


def report(args: argparse.Namespace, settings: dict[str, Any], found: dict[str, Any], data: "PairData",
           judged: "PairData", validated: bool) -> None:
    """Say what came of the run."""
    part = f"{len(judged)} {'validation' if validated else 'training'} pictures"
    result = {"out": str(args.out), "pictures": len(data), "pixels": settings["pixels"], "judged on": part,
              **found, "samples": str(args.out / "samples.png")}
    errors = ", ".join(f"{name} {found[name]['error']:.3f}" for name in PHASES)
    tell(args, result, f"glide: {found['base']['parameters']:,} parameters of the base model, "
                       f"{found['upsampler']['parameters']:,} of the upsampler, on {len(data)} pictures of "
                       f"{settings['pixels']} pixels\nmean squared error of the noise, on {part}: {errors}\n"
                       f"{args.out / 'samples.png'} shows what it draws; draw with mmlearn generate TEXT "
                       f"--weights {args.out} --out x.png")


# --------------------------------------------------------------------------------------------------- settings

def plan(args: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run: from the command line, or those it was begun with."""
    asked = {**asked_for(args), "phase": "base"}
    begun = has_begun(args.out, "base", "history.json")
    if args.resume:
        settings = go_on(args, asked, {**defaults, "phase": "base"})
        for name, steps in (("hole", "hole_steps"), ("upsampler", "up_steps")):
            if reached(args.out / name) > (settings[steps] or 0) > 0:
                raise ValueError(f"the {name} in {args.out} is at step {reached(args.out / name)} already; "
                                 f"leave {flag(steps)} out")
        return settings
    refuse_to_write_over(args.out, begun)
    asked["batch"] = BATCH if asked["batch"] is None else asked["batch"]
    if asked["lr"] is None:
        asked["lr"] = LR if asked["size"] == "mini" else 1e-4
    check_settings(asked)
    if asked["size"] != "mini":
        if asked["pixels"] is not None:
            raise ValueError(f"--pixels is for --size mini; --size {asked['size']} draws 256, leave it out")
        asked["pixels"] = 256
    elif asked["pixels"] is None:
        asked["pixels"] = 64
    elif asked["pixels"] not in PIXELS:
        raise ValueError(f"--pixels is {asked['pixels']}; take one of {', '.join(map(str, PIXELS))}")
    return asked


def configurations(settings: dict[str, Any],
                   tokeniser: "GLIDETokeniser") -> "tuple[GLIDEConfig, GLIDEConfig]":
    """Base model and upsampler, for the vocabulary and the context of a tokeniser."""
    from dataclasses import replace

    from mmlearn.text2image.glide import GLIDEConfig

    size, words, context = settings["pixels"], len(tokeniser), tokeniser.context
    if settings["size"] == "mini":
        return (GLIDEConfig.mini(words, size // 2, context),
                GLIDEConfig.mini_upsampler(words, size, context))
    made = (getattr(GLIDEConfig, settings["size"])(), getattr(GLIDEConfig, f"{settings['size']}_upsampler")())
    base, upsampler = (replace(one, text=replace(one.text, vocab=words, context=context)) for one in made)
    return base, upsampler


# ------------------------------------------------------------------------------------------------------- data

def open_data(settings: dict[str, Any]) -> "tuple[PairData, PairData | None]":
    """Pictures with captions to train on, and those to judge on where there are some. Half of the drawn
    scenes show one thing, the others two."""
    from mmlearn.data.pairs import file_pairs, joined
    from mmlearn.data.things import thing_pairs, two_things

    size, count = settings["pixels"], settings["scenes"]
    if settings["data"] != "scenes":
        train, held = open_records(settings)
        return file_pairs(train, size), file_pairs(held, size) if held else None
    parts = [make(n, "train", size=size) for make, n in ((thing_pairs, count - count // 2),
                                                         (two_things, count // 2)) if n]
    return joined(parts), thing_pairs(VALIDATION_SCENES, "val", size=size)


def tokeniser_of(data: "PairData") -> "GLIDETokeniser":
    """Byte pairs learned on the captions; the context holds the longest of them, at most 128 tokens."""
    from mmlearn.data.glide_tokeniser import CONTEXT, GLIDETokeniser

    texts = [text for captions in data.captions for text in captions]
    whole = GLIDETokeniser.train(texts, MERGES)
    whole.context = min(CONTEXT, max(len(whole.encode(text)) for text in texts) + 1)
    return whole
