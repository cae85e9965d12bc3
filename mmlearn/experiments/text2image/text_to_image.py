"""The miniatures that draw: GAN-INT-CLS, AttnGAN, DM-GAN and DF-GAN, trained on pictures of one thing.

Survey: 2.1.2, 2.1.3.  Trained on scenes of one thing at 64 pixels and judged by networks that no generator
was trained with: the scene classifier, and chapter 4's CLIP.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from mmlearn.checkpoints import load_model
from mmlearn.data.pairs import SIZE, PairData, pixels, signed_pixels
from mmlearn.data.things import attributes_of, kinds_of, thing_pairs
from mmlearn.data.tokenisers import PlainWordTokeniser, Tokeniser
from mmlearn.experiments.text2image.text_encoders import load_judge
from mmlearn.metrics.generation import attribute_scores, compare, features_of, match_scores
from mmlearn.nn.feature_networks import SceneClassifier
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text2image.attngan import AttnGAN, AttnGANConfig
from mmlearn.text2image.char_cnn_rnn import CharacterTokeniser, CharCNNRNN, CharCNNRNNConfig
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
from mmlearn.text2image.dfgan import DFGAN, DFGANConfig
from mmlearn.text2image.dmgan import DMGAN, DMGANConfig
from mmlearn.text2image.gan_cls import GANCLS, GANCLSConfig
from mmlearn.text2image.pipeline import CHECKPOINTS, TextToImage, save_text_to_image
from mmlearn.text2image.training import (
    attngan_game,
    attribute_watch,
    dfgan_game,
    gan_cls_game,
    train_game,
)
from mmlearn.text_for_vision.training import load_mini

SHOWN = (
    "a red car in the snow", "a blue house in a meadow", "a yellow bird at night", "a grey cat in a room",
    "a green tree on a street", "a purple boat by the sea", "an orange balloon in the snow",
    "a pink cake in a room", "a person in blue on a beach", "a white moon at night",
    "a brown dog on the grass", "a black bus on a street")
RECIPES: dict[str, dict[str, Any]] = {
    "gan-cls": {"lr": 4e-4, "betas": (0.5, 0.999)},
    "attngan": {"lr": 4e-4, "betas": (0.5, 0.999)},
    "dmgan": {"lr": 4e-4, "betas": (0.5, 0.999)},
    "dfgan": {"lr": 2e-4, "critic_lr": 8e-4, "betas": (0.0, 0.9)},
}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", choices=sorted(RECIPES), default="dfgan")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels a side")
    parser.add_argument("--width", type=int, help="of the maps of GAN-CLS and DF-GAN")
    parser.add_argument("--train", type=int, default=20_000, help="training pictures")
    parser.add_argument("--test", type=int, default=1000, help="sentences that are drawn for the scores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoders", type=Path, default=CHECKPOINTS, help="where the text encoders are")
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    parser.add_argument("--evaluate-every", type=int, default=1000)
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


def load_damsm(folder: Path = CHECKPOINTS) -> tuple[DAMSM, PlainWordTokeniser]:
    """The DAMSM that comes with the book, frozen, and its words."""
    path = folder / "damsm.safetensors"
    model, about = load_model(path, {"damsm": (DAMSMConfig, DAMSM)},
                              "train it with `python -m mmlearn.experiments text-encoders`")
    words = PlainWordTokeniser.of(about, path.with_suffix(".json"))
    return cast(DAMSM, model.requires_grad_(False)), cast(PlainWordTokeniser, words)


def load_char_cnn_rnn(folder: Path = CHECKPOINTS) -> tuple[CharCNNRNN, CharacterTokeniser]:
    """The char-CNN-RNN that comes with the book, frozen, and its characters."""
    path, kinds = folder / "char-cnn-rnn.safetensors", {"char-cnn-rnn": (CharCNNRNNConfig, CharCNNRNN)}
    model, _ = load_model(path, kinds, "train it with `python -m mmlearn.experiments text-encoders`")
    encoder = cast(CharCNNRNN, model.requires_grad_(False))
    return encoder, CharacterTokeniser(encoder.config.length)


def build(system: str, size: int, width: int | None, folder: Path,
          kinds: Tensor) -> tuple[nn.Module, Callable[..., Any], Any, Tokeniser]:
    """A fresh model of the system, its game, the encoder of text and its tokeniser."""
    if system == "gan-cls":
        encoder, letters = load_char_cnn_rnn(folder)
        small = GANCLSConfig.mini(size, encoder.config.embed)
        if width:
            small = replace(small, generator_width=width, discriminator_width=width)
        return GANCLS(small), gan_cls_game(encoder, kinds), encoder, letters
    damsm, words = load_damsm(folder)
    e = damsm.config.embed
    if system == "dfgan":
        return (DFGAN(DFGANConfig.mini(size, width or 16, e)), dfgan_game(damsm.text), damsm.text, words)
    game = attngan_game(damsm, kinds)
    if system == "attngan":
        return AttnGAN(AttnGANConfig.mini(e, size)), game, damsm.text, words
    return DMGAN(DMGANConfig.mini(e, size)), game, damsm.text, words


def sheet(pictures: Tensor, columns: int = 6) -> Image.Image:
    """Pictures in [-1, 1] side by side."""
    rows = pictures.split(columns)
    whole = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    return Image.fromarray(((whole + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def judge_pictures(
    model: TextToImage, judge: SceneClassifier, data: PairData, seed: int = 0
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
        bytes_ = ((drawn + 1) * 127.5).round().clamp(0, 255).byte()
        u = torch.cat([clip.model.encode_image(pixels(part)) for part in bytes_.split(250)])
        v = clip.model.encode_text(clip.tokeniser.batch(texts, clip.model.config.context))
    match = match_scores(u, v, "CLIP of chapter 4", classes=kinds_of(data.scenes))
    scores = {**sets, **found, **match}
    return {name: round(score.value, 4) for name, score in scores.items()}


def run(args: argparse.Namespace) -> dict[str, Any]:
    data = thing_pairs(args.train, size=args.size)
    judge = load_judge(args.encoders / "scene-classifier.safetensors")
    with seeded(args.seed):
        model, game, encoder, tokeniser = build(args.system, args.size, args.width, args.encoders,
                                                kinds_of(data.scenes))
    val = thing_pairs(200, "val", size=args.size)
    watch = attribute_watch(encoder, tokeniser, judge, val)
    recipe = RECIPES[args.system]

    def evaluate(now: Any) -> dict[str, float]:
        found = watch(now)
        if args.folder:
            drawn = TextToImage.of(encoder, now, tokeniser).draw(SHOWN, seed=1)
            done = len(list(args.folder.glob("drawn-*.png")))
            sheet(drawn).save(args.folder / f"drawn-{done:03d}.png")
        print({name: round(value, 3) for name, value in found.items()}, flush=True)
        return found

    history = train_game(model, game, data, tokeniser, steps=args.steps, batch=args.batch, seed=args.seed,
                         precision=args.precision, folder=args.folder, save_every=250, evaluate=evaluate,
                         evaluate_every=args.evaluate_every, progress=False, **recipe)
    trained = TextToImage.of(encoder, history.ema, tokeniser)
    found = {
        "parameters": {name: sum(p.numel() for p in part.parameters())
                       for name, part in model.named_children()},
        "settings": {"system": args.system, "steps": args.steps, "batch": args.batch, "size": args.size,
                     "seed": args.seed, "precision": args.precision, "average of weights": 0.999, **recipe,
                     "train": f"{args.train} pictures of one thing, seed 0"},
        "test": judge_pictures(trained, judge, thing_pairs(args.test, "test", size=args.size)),
        "unseen pairs": judge_pictures(trained, judge,
                                       thing_pairs(args.test, "compositional", size=args.size)),
        "curve": {"step": history.metric_steps,
                  **{name: [round(v, 4) for v in values] for name, values in history.metrics.items()}},
        "seconds a step": round(history.seconds / args.steps, 3),
    }
    print(found["test"], found["unseen pairs"], flush=True)
    save_text_to_image(args.checkpoint or CHECKPOINTS / f"{args.system}.safetensors", trained, found)
    return found
