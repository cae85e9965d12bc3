"""The miniatures that draw: GAN-INT-CLS, AttnGAN, DM-GAN and DF-GAN, trained on pictures of one thing.

Survey: 2.1.2, 2.1.3.  Trained on scenes of one thing at 64 pixels and judged by networks that no generator
was trained with: the scene classifier, and chapter 4's CLIP.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from mmlearn.data.images import read_image
from mmlearn.data.pairs import SIZE, PairData, pixels, signed_pixels
from mmlearn.data.things import attributes_of, kinds_of, thing_pairs
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.metrics.generation import attribute_scores, compare, features_of, match_scores
from mmlearn.nn.feature_networks import SceneClassifier, sharpened
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text2image.painting import Drawer
from mmlearn.text2image.pipeline import (
    CHECKPOINTS,
    TextToImage,
    load_char_cnn_rnn,
    load_damsm,
    load_judge,
    pictures_of_sheet,
    save_text_to_image,
    sheet,
)
from mmlearn.text2image.training import (
    RECIPES,
    attribute_watch,
    mini_config,
    new_game,
    stretch_sentences,
    train_game,
)
from mmlearn.text_for_vision.training import load_mini

FILMED = 4          # of the sentences that are drawn over and over: those that a film of the training shows
SHOWN = (
    "a blue car in the snow", "a red house in a meadow", "a green bird at night", "a grey cat in a room",
    "a green tree on a street", "a purple boat by the sea", "an orange balloon in the snow",
    "a pink bed in a room", "a person in blue on a beach", "a white moon at night",
    "a brown dog on the grass", "a black car on a street")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", choices=sorted(RECIPES), default="dfgan")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels a side")
    parser.add_argument("--width", type=int, help="of the maps of GAN-CLS and DF-GAN")
    parser.add_argument("--train", type=int, default=20_000, help="training pictures")
    parser.add_argument("--test", type=int, default=1000, help="sentences that are drawn for the scores")
    parser.add_argument("--decay", type=float, default=0.3,
                        help="share of the steps, the last ones, over which the rate falls to 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoders", type=Path, default=CHECKPOINTS, help="where the text encoders are")
    parser.add_argument("--stretch", action=argparse.BooleanOptionalAction, default=True,
                        help="DAMSM's sentences, until their numbers vary with variance 1")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    parser.add_argument("--evaluate-every", type=int, default=1000)
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


def build(system: str, size: int, width: int | None, folder: Path, data: PairData,
          stretch: bool = True) -> tuple[nn.Module, Callable[..., Any], Any, Tokeniser]:
    """A fresh model of the system, its game, the encoder of text (DAMSM's with ``stretch``: see
    ``stretch_sentences``) and its tokeniser."""
    kinds = kinds_of(data.scenes)
    if system == "gan-cls":
        encoder, letters = load_char_cnn_rnn(folder)
        model, game = new_game(mini_config(system, size, encoder.config.embed, width), encoder, kinds)
        return model, game, encoder, letters
    damsm, words = load_damsm(folder)
    if stretch:
        stretch_sentences(damsm.text, words, [captions[0] for captions in data.captions[:2000]])
    model, game = new_game(mini_config(system, size, damsm.config.embed, width), damsm, kinds)
    return model, game, damsm.text, words


def judge_pictures(
    model: Drawer, judge: SceneClassifier, data: PairData, seed: int = 0
) -> dict[str, float]:
    """What is asked of a generator on the plain sentences of ``data``: Fréchet distance and recall against
    its pictures and accuracy by the scene classifier, R-precision among 100 by chapter 4's CLIP."""
    texts = [captions[0] for captions in data.captions]
    drawn = model.draw(texts, seed=seed)
    truth = features_of(judge, (signed_pixels(data.images[i:i + 250]) for i in range(0, len(data), 250)))
    sets = compare(truth, features_of(judge, drawn.split(250)), judge.name)
    wanted = attributes_of(data.scenes)
    found = attribute_scores(judge.answers(drawn), wanted, judge.name)
    clip = load_mini("resnet")
    with eval_mode(clip.model), torch.no_grad():
        bytes_ = ((sharpened(drawn, SIZE) + 1) * 127.5).round().clamp(0, 255).byte()
        u = torch.cat([clip.model.encode_image(pixels(part)) for part in bytes_.split(250)])
        v = clip.model.encode_text(clip.tokeniser.batch(texts, clip.model.config.context))
    match = match_scores(u, v, "CLIP of chapter 4", classes=kinds_of(data.scenes))
    scores = {**sets, **found, **match}
    return {name: round(score.value, 4) for name, score in scores.items()}


def film(sheets: Sequence[Path]) -> Image.Image:
    """The first pictures of each of the ``sheets`` of ``SHOWN``, a row a sheet: a training, from the top."""
    return sheet(torch.cat([pictures_of_sheet(read_image(path))[:FILMED] for path in sheets]), FILMED)


def run(args: argparse.Namespace) -> dict[str, Any]:
    data = thing_pairs(args.train, size=args.size)
    judge = load_judge(args.encoders / "scene-classifier.safetensors")
    with seeded(args.seed):
        model, game, encoder, tokeniser = build(args.system, args.size, args.width, args.encoders, data,
                                                args.stretch)
    val = thing_pairs(200, "val", size=args.size)
    watch = attribute_watch(encoder, tokeniser, judge, val)
    recipe, texts = RECIPES[args.system], [captions[0] for captions in data.captions]

    def evaluate(now: Any) -> dict[str, float]:
        found = watch(now)
        if args.folder:
            drawn = TextToImage.of(encoder, now, tokeniser, texts).draw(SHOWN, seed=1)
            done = len(list(args.folder.glob("drawn-*.png")))
            sheet(drawn).save(args.folder / f"drawn-{done:03d}.png")
        print({name: round(value, 3) for name, value in found.items()}, flush=True)
        return found

    history = train_game(model, game, data, tokeniser, steps=args.steps, batch=args.batch, seed=args.seed,
                         decay=args.decay, precision=args.precision, folder=args.folder, save_every=250,
                         evaluate=evaluate, evaluate_every=args.evaluate_every, progress=False, **recipe)
    trained = TextToImage.of(encoder, history.ema, tokeniser, texts)
    found = {
        "parameters": {name: sum(p.numel() for p in part.parameters())
                       for name, part in model.named_children()},
        "settings": {"system": args.system, "steps": args.steps, "batch": args.batch, "size": args.size,
                     "seed": args.seed, "decay": args.decay, "precision": args.precision,
                     "stretch of sentences": getattr(encoder.config, "stretch", 1.0),
                     "average of weights": 0.999, **recipe,
                     "train": f"{args.train} pictures of one thing, seed 0"},
        "test": judge_pictures(trained, judge, thing_pairs(args.test, "test", size=args.size)),
        "unseen pairs": judge_pictures(trained, judge,
                                       thing_pairs(args.test, "compositional", size=args.size)),
        "curve": {"step": history.metric_steps,
                  **{name: [round(v, 4) for v in values] for name, values in history.metrics.items()}},
        "seconds a step": round(history.seconds / args.steps, 3),
    }
    print(found["test"], found["unseen pairs"], flush=True)
    place = args.checkpoint or CHECKPOINTS / f"{args.system}.safetensors"
    is_beside = args.system == "gan-cls" and args.encoders.resolve() == place.resolve().parent
    save_text_to_image(place, trained, found, {"encoder": "char-cnn-rnn"} if is_beside else None)
    sheets = sorted(args.folder.glob("drawn-*.png")) if args.folder else []
    if sheets and len(sheets) == len(history.metric_steps):         # not where one was drawn twice: killed
        film(sheets).save(place.with_name(f"{place.stem}-training.png"), optimize=True)
    return found
