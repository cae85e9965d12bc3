"""GLIDE's miniature: a base model at 32 pixels, the same for holes, an upsampler to 64; trained and judged.

Survey: 2.3.  Trained on scenes of one thing and, from a function that gives such pairs, of two; judged by
networks that it was not trained with, at several scales of guidance, as are the other miniatures of the book
on the same sentences.
Differs from GLIDE: the base model's reader first learns alone, to say what captions name, and is then held
still, since in a few thousand steps it learns little with the U-Net (``--reader-steps 0`` lets it).
"""

import argparse
import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmlearn.data.glide_tokeniser import GLIDETokeniser
from mmlearn.data.pairs import SIZE, PairData, joined
from mmlearn.data.things import attributes_of, side_scenes
from mmlearn.experiments.text2image.text_to_image import SHOWN, film, judge_pictures
from mmlearn.metrics.text_match import attribute_accuracy
from mmlearn.nn.feature_networks import SceneClassifier
from mmlearn.nn.modes import seeded
from mmlearn.text2image.diffusion_training import (
    denoising_errors,
    hold_reader,
    train_diffusion,
    train_reader,
)
from mmlearn.text2image.evaluation import read_two
from mmlearn.text2image.glide import GLIDE, GLIDEConfig
from mmlearn.text2image.painting import Drawer, Painter, open_drawer, save_painter
from mmlearn.text2image.pipeline import CHECKPOINTS, load_judge, sheet
from mmlearn.train import History

PAIRS = ("thing_pairs", "two_things")
MERGES = 4000           # at most: every word of the captions becomes one token
WATCHED = 100           # validation sentences that are drawn while a model trains, in DDIM steps:
WATCH_STEPS = 20
LIMIT = 5_000_000       # bytes of the weights that are saved
BESIDE = ("gan-cls", "attngan", "dmgan", "dfgan", "dalle")
SIDES = "side-classifier.safetensors"
NAMED = ("category", "colour", "left category", "left colour", "right category", "right colour", "setting")
SPLITS = {"test": ("test", "two things"), "compositional": ("unseen pairs", "two things, unseen pairs")}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", nargs="+", default=[f"mmlearn.data.things:{name}" for name in PAIRS],
                        metavar="MODULE:FUNCTION", help="functions of (count, split, size=) that give "
                                                        "pictures with captions; all are trained on")
    parser.add_argument("--train", type=int, nargs="+", default=[20_000], metavar="N",
                        help="training pictures, of each function in turn (the last number holds for the "
                             "rest)")
    parser.add_argument("--test", type=int, default=200, help="sentences that are drawn for the scores")
    parser.add_argument("--judge-steps", type=int, default=25, help="DDIM steps of what is judged")
    parser.add_argument("--reader-steps", type=int, default=1000, help="of the base model's reader alone, "
                        "which learns to say what captions name and is held still from then on; 0: it learns "
                        "with the U-Net, as GLIDE's")
    parser.add_argument("--first-steps", type=int, default=3000, help="of the base model, before the others, "
                        "on pictures of the first function alone, each with its first caption")
    parser.add_argument("--steps", type=int, default=11_000, help="of the base model")
    parser.add_argument("--hole-steps", type=int, default=4000, help="of the base model with a hole")
    parser.add_argument("--up-steps", type=int, default=4000, help="of the upsampler")
    parser.add_argument("--up-hole-steps", type=int, default=500, help="of the upsampler with a hole")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--up-batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--drop", type=float, default=0.1, help="share of captions that are read as empty")
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--context", type=int, default=24, help="tokens of a caption")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels a side in the end; the base has half")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    parser.add_argument("--beside", nargs="*", default=list(BESIDE), metavar="MODEL",
                        help="miniatures of the book, or saved models, that are judged on the same "
                             "sentences")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoders", type=Path, default=CHECKPOINTS, help="where the judge is")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    parser.add_argument("--evaluate-every", type=int, default=1000)
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep the runs here, to go on with them if they are "
                                                    "killed")
    parser.add_argument("--only", choices=("base", "upsampler"),
                        help="train this part into --folder and end: the two can be trained at once, and a "
                             "last call without --only finds and judges both")


def named(place: str) -> Callable[..., PairData]:
    """The function that "package.module:function" names. Raises ``ValueError`` if there is none."""
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--pairs {place}: {error}; give module:function") from None


def captions_named(sets: Sequence[PairData], tokeniser: GLIDETokeniser) -> tuple[Tensor, dict[str, Tensor]]:
    """All captions, and what the scene of each shows: the thing's category and colour, or those of the left
    one and of the right one, and the place; -1 for what it has not."""
    named: dict[str, list[Tensor]] = {}
    for data in sets:
        counts = torch.tensor([len(texts) for texts in data.captions])
        one = of_one_thing(data)
        parts = [("", data.scenes)] if one else list(zip(("left ", "right "), side_scenes(data.scenes)))
        found = {f"{side}{name}".replace("left setting", "setting"): values.repeat_interleave(counts)
                 for side, scenes in parts for name, values in attributes_of(scenes).items()
                 if f"{side}{name}" != "right setting"}
        for name in NAMED:
            named.setdefault(name, []).append(found.get(name, torch.full((int(counts.sum()),), -1)))
    tokens = tokeniser.batch([text for data in sets for texts in data.captions for text in texts])
    return tokens, {name: torch.cat(values) for name, values in named.items()}


def of_one_thing(data: PairData) -> bool:
    """Can the classifier of scenes judge pictures of these?"""
    return bool(data.scenes) and all(len(scene.objects) == 1 for scene in data.scenes)


@dataclass
class At:
    """A painter with settings, as what judges pictures asks for."""

    painter: Painter
    options: dict[str, Any]
    system: str = "glide"
    tokeniser: Any = None

    def draw(self, texts: Sequence[str], samples: int = 1, seed: int = 0) -> Tensor:
        return self.painter.draw(texts, samples, seed, **self.options)


def watch_base(tokeniser: GLIDETokeniser, sets: Sequence[PairData], judge: SceneClassifier,
               folder: Path | None) -> Callable[[Any], dict[str, float]]:
    """For ``fit``'s evaluate: errors of the noise, what the classifier finds in what is drawn of validation
    sentences of one thing, and a sheet of pictures."""
    one = next((data.first(WATCHED) for data in sets if of_one_thing(data)), None)
    texts = [*SHOWN, *(captions[0] for data in sets if not of_one_thing(data)
                       for captions in data.captions[:6])]
    options: dict[str, Any] = {"steps": WATCH_STEPS, "method": "ddim"}

    def evaluate(model: Any) -> dict[str, float]:
        painter = Painter.of(tokeniser, model)
        found = denoising_errors(model, joined([data.first(WATCHED) for data in sets]), tokeniser)
        if one is not None:
            drawn = painter.draw([captions[0] for captions in one.captions], **options)
            found |= attribute_accuracy(judge.answers(drawn), attributes_of(one.scenes))
        if folder:
            done = len(list(folder.glob("drawn-*.png")))
            sheet(painter.draw(texts, seed=1, **options)).save(folder / f"drawn-{done:03d}.png")
        print({name: round(value, 3) for name, value in found.items()}, flush=True)
        return found

    return evaluate


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.only and args.folder is None:
        raise ValueError(f"--only {args.only} leaves nothing behind without a --folder; name one")
    functions = [named(place) for place in args.pairs]
    counts = [*args.train, *[args.train[-1]] * len(functions)]
    sets = [make(count, "train", size=args.size) for make, count in zip(functions, counts)]
    data = joined(sets)
    val = [make(200, "val", size=args.size) for make in functions]
    judge = load_judge(args.encoders / "scene-classifier.safetensors")
    tokeniser = GLIDETokeniser.train((text for texts in data.captions for text in texts), MERGES,
                                     args.context)
    cut = sum(len(tokeniser.encode(text)) > args.context for texts in data.captions[:2000] for text in texts)
    print(f"{len(tokeniser)} tokens; of the captions of 2000 pictures {cut} are longer than {args.context}",
          flush=True)
    settings = {name: value for name, value in vars(args).items()
                if name not in ("out", "folder", "checkpoint", "encoders", "name", "only")}
    histories: dict[str, History] = {}

    def train(name: str, model: GLIDE, steps: int, batch: int, lr: float, data: PairData = data) -> GLIDE:
        """One phase, in a folder of its own; gives the averaged model."""
        folder = None if args.folder is None else args.folder / name
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        base = not model.config.low
        if base and args.reader_steps:
            hold_reader(model)
        histories[name] = history = train_diffusion(
            model, data, tokeniser, steps=steps, batch=batch, lr=lr, drop=args.drop, ema=args.ema,
            seed=args.seed, precision=args.precision, folder=folder,
            save_every=max(1, min(250, steps // 4)), progress=False,
            evaluate=watch_base(tokeniser, val, judge, folder) if base else upsampling(val, tokeniser),
            evaluate_every=args.evaluate_every)
        assert isinstance(history.ema, GLIDE)
        return history.ema

    with seeded(args.seed):
        base = GLIDE(GLIDEConfig.mini(len(tokeniser), args.size // 2, args.context))
        upsampler = GLIDE(GLIDEConfig.mini_upsampler(len(tokeniser), args.size, args.context))
    if args.only != "upsampler":
        if args.reader_steps:
            tokens, asked = captions_named(sets, tokeniser)
            histories["reader"] = train_reader(
                base, tokens, asked, steps=args.reader_steps, lr=args.lr, seed=args.seed, progress=False,
                folder=None if args.folder is None else args.folder / "reader")
        if args.first_steps:
            plain = replace(sets[0], captions=tuple(texts[:1] for texts in sets[0].captions))
            train("first", base, args.first_steps, args.batch, args.lr, plain)
            # what goes on are the weights themselves: their average is a thousand steps behind
        base = train("base", base, args.steps, args.batch, args.lr)
        if args.hole_steps:
            base = train("hole", base.widened_for_inpainting(), args.hole_steps, args.batch, args.lr / 4)
    if args.only != "base":
        upsampler = train("upsampler", upsampler, args.up_steps, args.up_batch, args.lr)
        if args.up_hole_steps:
            upsampler = train("upsampler-hole", upsampler.widened_for_inpainting(), args.up_hole_steps,
                              args.up_batch, args.lr / 4)
    curves = {"curves": {name: {"step": history.metric_steps,
                                **{key: [round(v, 4) for v in values] for key, values
                                   in history.metrics.items()}}
                         for name, history in histories.items()},
              "last loss": {name: round(history.smooth(200)[-1], 4) for name, history in histories.items()},
              "seconds a step": {name: round(history.seconds / max(1, history.steps[-1]), 3)
                                 for name, history in histories.items()}}
    if args.only:
        return {"settings": settings, **curves}
    painter = Painter.of(tokeniser, base, upsampler)
    found = {"parameters": parameters_of(painter), "settings": settings, "tokens": len(tokeniser),
             **measured(painter, functions, judge, args), **curves}
    path = args.checkpoint or CHECKPOINTS / "glide.safetensors"
    save_painter(path, painter, found)
    found["beside"] = {name: beside(name, functions, judge, args) for name in args.beside}
    steps = [histories[name].metric_steps for name in ("first", "base") if name in histories]
    sheets = [] if args.folder is None else [sheet for name in ("first", "base")
                                             for sheet in sorted((args.folder / name).glob("drawn-*.png"))]
    if sheets and len(sheets) == sum(map(len, steps)):              # not where one was drawn twice: killed
        film(sheets).save(path.with_name(f"{path.stem}-training.png"), optimize=True)
    if path.suffix and (size := path.stat().st_size) > LIMIT:
        raise ValueError(f"{path} has {size:,} bytes, a checkpoint of the book has {LIMIT:,} at most; make "
                         f"the "
                         "miniature smaller")
    return found


def upsampling(sets: Sequence[PairData], tokeniser: GLIDETokeniser) -> Callable[[Any], dict[str, float]]:
    """For ``fit``'s evaluate: errors of the noise of an upsampler."""
    data = joined([one.first(WATCHED) for one in sets])

    def evaluate(model: Any) -> dict[str, float]:
        found = denoising_errors(model, data, tokeniser)
        print({name: round(value, 3) for name, value in found.items()}, flush=True)
        return found

    return evaluate


def parameters_of(painter: Painter) -> dict[str, int]:
    """How many parameters each part has."""
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    parts = {"base": painter.base, "upsampler": painter.upsampler}
    return {f"{name} {half}": count(getattr(model, half)) for name, model in parts.items()
            if model is not None
            for half in ("text", "unet")}


def measured(painter: Painter, functions: Sequence[Callable[..., PairData]], judge: SceneClassifier,
             args: argparse.Namespace) -> dict[str, Any]:
    """What is drawn of test sentences, and of pairs of colour and thing that were never seen together, at
    each scale of guidance: of one thing read whole, of two things each half; and how long a picture takes."""
    sides = load_judge(args.encoders / SIDES)
    found: dict[str, Any] = {name: {} for names in SPLITS.values() for name in names}
    for make in functions:
        for split, names in SPLITS.items():
            data = make(args.test, split, size=args.size)
            is_one = of_one_thing(data)
            name = names[0] if is_one else names[1]
            for scale in args.guidance:
                at = At(painter, {"guidance": scale, "steps": args.judge_steps, "method": "ddim"})
                scores = judge_pictures(at, judge, data) if is_one else sides_right(at, sides, data)
                found[name][f"guidance {scale:g}"] = scores
                print(name, scale, scores, flush=True)
    at = At(painter, {"guidance": max(args.guidance), "steps": args.judge_steps, "method": "ddim"})
    return {**found, "processor seconds a picture": seconds_of(at)}


def beside(name: str, functions: Sequence[Callable[..., PairData]], judge: SceneClassifier,
           args: argparse.Namespace) -> dict[str, Any]:
    """The same scores of what another model draws of the same sentences of one thing, its parameters without
    critics, and its time."""
    drawer = open_drawer(name)
    found: dict[str, Any] = {split: judge_pictures(drawer, judge, make(args.test, place, size=args.size))
                             for make in functions for place, (split, _) in SPLITS.items()
                             if of_one_thing(make(1, place, size=args.size))}
    print(name, found, flush=True)
    return {**found, "parameters": sum(p.numel() for p in cast(nn.Module, drawer).parameters()),
            "processor seconds a picture": seconds_of(drawer)}


def seconds_of(drawer: Drawer) -> float:
    """Processor time of a picture, where a few are drawn at once."""
    began = time.process_time()
    drawer.draw(SHOWN)
    return round((time.process_time() - began) / len(SHOWN), 4)


def sides_right(at: Drawer, judge: SceneClassifier, data: PairData) -> dict[str, float]:
    """Shares of pictures of two things in which each stands on its side, and both do, in the right place."""
    hits = read_two(at, judge, data).hits
    return {**{name: round(float(values.mean()), 4) for name, values in hits.items()},
            "all": round(float((hits["both"] * hits["setting"]).mean()), 4)}
