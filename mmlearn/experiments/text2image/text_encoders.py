"""The encoders of text that the generators of chapter 2 are trained with: DAMSM, and char-CNN-RNN.

Survey: 2.1.2, 2.1.3.  Both are trained on pictures of one thing and their sentences, and frozen afterwards.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmlearn.checkpoints import save_model
from mmlearn.data.pairs import PairData, scene_tokeniser, signed_pixels
from mmlearn.data.things import kinds_of, thing_pairs
from mmlearn.data.tokenisers import PlainWordTokeniser, Tokeniser
from mmlearn.metrics.text_match import r_precision
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text2image.char_cnn_rnn import CharacterTokeniser, CharCNNRNN, CharCNNRNNConfig, compatibility
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
from mmlearn.text2image.pipeline import CHECKPOINTS, encode, load_judge
from mmlearn.text2image.training import train_char_cnn_rnn, train_damsm

STEPS = {"damsm": 3000, "char-cnn-rnn": 6000}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoder", choices=sorted(STEPS), default="damsm")
    parser.add_argument("--steps", type=int, help=f"default {STEPS}")
    parser.add_argument("--train", type=int, default=20_000, help="training pictures")
    parser.add_argument("--test", type=int, default=1000, help="test pictures")
    parser.add_argument("--judge", type=Path, default=CHECKPOINTS / "scene-classifier.safetensors",
                        help="the classifier whose features char-CNN-RNN learns to meet")
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


@torch.no_grad()
def matching(images: Any, encoder: Any, data: PairData, tokeniser: Tokeniser) -> dict[str, float]:
    """Share of pictures whose plain sentence comes first among 100 (99 of other kinds)."""
    with eval_mode(encoder):
        parts = [slice(i, i + 250) for i in range(0, len(data), 250)]
        u = torch.cat([images(signed_pixels(data.images[p])) for p in parts])
        v = torch.cat([encode(encoder, tokeniser.batch([c[0] for c in data.captions[p]])).sentence
                       for p in parts])
    found = r_precision(u, v, kinds_of(data.scenes), folds=1, generator=torch.Generator().manual_seed(0))
    S, kinds = compatibility(u, v), kinds_of(data.scenes)
    first = (kinds[S.argmax(dim=1)] == kinds).double().mean()
    return {"R-precision of 100": round(found.mean, 4),
            f"sentence of the right kind first, of {len(data)}": round(float(first), 4)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    data, steps = thing_pairs(args.train), args.steps or STEPS[args.encoder]
    test, unseen = thing_pairs(args.test, "test"), thing_pairs(args.test, "compositional")
    words: dict[str, Any] = {}
    tokeniser: Tokeniser
    if args.encoder == "damsm":
        known = scene_tokeniser(data)
        tokeniser = PlainWordTokeniser(known.words, known.splitter)
        words = {"words": known.words, "splitter": known.splitter}
        with seeded(0):
            model: Any = DAMSM(DAMSMConfig.mini(len(tokeniser)))
        history = train_damsm(model, data, tokeniser, steps=steps, folder=args.folder, progress=False)
        images, encoder = (lambda x: model.image(x)[1]), model.text
        recipe = {"batch": 48, "lr": 2e-3, "optimiser": "Adam(.5, .999), cosine to a tenth"}
    else:
        judge = load_judge(args.judge)
        tokeniser = CharacterTokeniser(96)
        with seeded(0):
            model = CharCNNRNN(replace(CharCNNRNNConfig.mini(judge.num_features, recurrence="gru"),
                                       channels=(64, 128, 128)))
        history = train_char_cnn_rnn(model, judge, data, tokeniser, steps=steps, folder=args.folder,
                                     progress=False)
        images, encoder = judge, model
        recipe = {"batch": 40, "lr": 7e-4, "optimiser": "RMSprop, cosine to a tenth",
                  "features": "scene classifier"}
    with eval_mode(model):
        found = {"parameters": sum(p.numel() for p in model.parameters()),
                 "settings": {"steps": steps, **recipe,
                              "train": f"{args.train} pictures of one thing, seed 0"},
                 "test": matching(images, encoder, test, tokeniser),
                 "unseen pairs": matching(images, encoder, unseen, tokeniser)}
    smooth = history.smooth(100)
    found["loss"] = [round(smooth[i], 4) for i in range(steps // 10 - 1, steps, steps // 10)]
    print(found, flush=True)
    save_model(args.checkpoint or CHECKPOINTS / f"{args.encoder}.safetensors", model, args.encoder,
               {**found, **words}, half=True)
    return {**found, "training seconds": round(history.seconds, 1)}
