"""The miniature DALL-E: a Transformer that writes the codes of a picture after the words of its sentence.

Survey: 2.2.1.  The codes come from a first stage that is trained already, once for all pictures: the
miniature dVAE, or a VQGAN. Judged by the scene classifier, with and without a choice by chapter 4's CLIP.
"""

import argparse
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmlearn.checkpoints import load_model
from mmlearn.data.batches import Batches
from mmlearn.data.pairs import SIZE, PairData
from mmlearn.data.things import attributes_of, thing_pairs
from mmlearn.data.tokenisers import PlainWordTokeniser
from mmlearn.metrics.generation import attribute_scores
from mmlearn.nn.feature_networks import SceneClassifier
from mmlearn.nn.modes import seeded
from mmlearn.text2image.dalle import DALLE, DALLEConfig
from mmlearn.text2image.dvae import DVAE, DVAEConfig
from mmlearn.text2image.pipeline import CHECKPOINTS, load_judge, sheet
from mmlearn.text2image.token_drawing import TokenDrawer, clip_score, codes_of, save_token_drawer
from mmlearn.text2image.vqgan import VQGAN, VQGANConfig
from mmlearn.text_for_vision.training import load_mini
from mmlearn.train import fit, warmup_cosine

SHOWN = ("a blue car in the snow", "a red house in a meadow", "a green bird at night", "a grey cat in a room")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stage", type=Path, default=CHECKPOINTS / "dvae.safetensors",
                        help="the dVAE or the VQGAN that makes the codes")
    parser.add_argument("--size", type=int, help="pixels a side (default: the dVAE's, 64 for a VQGAN)")
    parser.add_argument("--attention", choices=("sparse", "full"), default="sparse")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--train", type=int, default=20_000, help="training pictures")
    parser.add_argument("--test", type=int, default=200, help="sentences that are drawn for the scores")
    parser.add_argument("--samples", type=int, default=8, help="pictures a sentence of which CLIP chooses")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate-every", type=int, default=1000)
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")
    parser.add_argument("--folder", type=Path, help="keep the run here, to go on with it if it is killed")


def load_stage(path: Path) -> DVAE | VQGAN:
    """The trained first stage, frozen. Raises ``FileNotFoundError``, ``ValueError``."""
    model, _ = load_model(path, {"dvae": (DVAEConfig, DVAE), "vqgan": (VQGANConfig, VQGAN)},
                          "train one with `python -m mmlearn.experiments dvae`")
    return cast(DVAE | VQGAN, model.requires_grad_(False).eval())


class TokenPairs(Batches):
    """Endless shuffled batches: tokens of one caption of each picture (b, t), and the picture's codes
    (b, n)."""

    def __init__(self, data: PairData, codes: Tensor, tokeniser: PlainWordTokeniser, batch: int, longest: int,
                 seed: int = 0) -> None:
        super().__init__(data, min(batch, len(data)), seed=seed)
        self.codes, self.counts = codes, torch.tensor([len(texts) for texts in data.captions])
        self.tokens = tokeniser.batch([text for texts in data.captions for text in texts], longest)
        self.start = self.counts.cumsum(0) - self.counts

    def make(self, indices: list[int], number: int) -> tuple[Tensor, Tensor]:
        which = torch.tensor(indices)
        draw = torch.rand(len(which), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + number))
        return self.tokens[self.start[which] + (draw * self.counts[which]).long()], self.codes[which]


def attribute_accuracy(model: TokenDrawer, judge: SceneClassifier, data: PairData, seed: int = 0,
                       **drawing: Any) -> dict[str, float]:
    """How often what a sentence of ``data`` asks for is in the picture, by the scene classifier."""
    drawn = model.draw([captions[0] for captions in data.captions], seed=seed, **drawing)
    answers = judge.answers(drawn)
    found = attribute_scores(answers, attributes_of(data.scenes), judge.name)
    return {name: round(score.value, 4) for name, score in found.items()}


def run(args: argparse.Namespace) -> dict[str, Any]:
    stage, judge = load_stage(args.stage), load_judge()
    if isinstance(stage, DVAE):
        size, kinds = args.size or stage.config.size, stage.config.vocab
    else:
        size, kinds = args.size or SIZE, stage.config.codes
    data, val = thing_pairs(args.train, size=size), thing_pairs(50, "val", size=size)
    test = thing_pairs(args.test, "test", size=size)
    unseen = thing_pairs(args.test, "compositional", size=size)
    tokeniser = cast(PlainWordTokeniser, PlainWordTokeniser.train(
        text for part in (data, val, test, unseen) for texts in part.captions for text in texts))
    codes = codes_of(stage, cast(Tensor, data.images))
    with seeded(args.seed):
        config = DALLEConfig.mini(len(tokeniser), kinds, size // stage.config.factor, width=args.width)
        model = DALLE(DALLEConfig(**{**vars(config), "attention": args.attention}))
    batches = TokenPairs(data, codes, tokeniser, args.batch, config.text_len, args.seed)

    def evaluate(now: Any) -> dict[str, float]:
        drawer = TokenDrawer.of(stage, now, tokeniser)
        if args.folder:
            done = len(list(args.folder.glob("drawn-*.png")))
            sheet(drawer.draw(SHOWN, samples=3, seed=1)).save(args.folder / f"drawn-{done:03d}.png")
        found = attribute_accuracy(drawer, judge, val, seed=1)
        print(found, flush=True)
        return found

    history = fit(model, lambda now, batch: now.loss(*batch), batches, steps=args.steps,
                  optimizer=lambda parts: torch.optim.AdamW(parts, betas=(0.9, 0.96), weight_decay=4.5e-2,
                                                            fused=True),
                  schedule=warmup_cosine(args.lr, min(100, args.steps // 10 + 1), args.steps), clip=4.0,
                  ema=0.999 if args.steps > 2000 else 0.98, folder=args.folder, save_every=250,
                  seed=args.seed, evaluate=evaluate, evaluate_every=args.evaluate_every, progress=False)
    drawer = TokenDrawer.of(stage, cast(DALLE, cast(nn.Module, history.ema)), tokeniser)
    clip = clip_score(load_mini("resnet"))
    steps = range(0, args.steps, max(1, args.steps // 100))
    found = {
        "parameters": {"dalle": sum(p.numel() for p in model.parameters()),
                       "stage": sum(p.numel() for p in stage.parameters())},
        "settings": {"steps": args.steps, "batch": args.batch, "lr": args.lr, "attention": args.attention,
                     "seed": args.seed, "train": f"{args.train} pictures of one thing, seed 0"},
        "test": attribute_accuracy(drawer, judge, test),
        "unseen pairs": attribute_accuracy(drawer, judge, unseen),
        f"best of {args.samples} by CLIP": attribute_accuracy(
            drawer, judge, test, samples=args.samples, clip=clip, keep=1),
        "curve": {"step": list(steps),
                  **{name: [round(history.scalars[name][i], 4) for i in steps]
                     for name in ("text", "image")}},
        "seconds a step": round(history.seconds / args.steps, 3),
    }
    print({name: value for name, value in found.items() if name not in ("curve", "settings")}, flush=True)
    place = args.checkpoint or CHECKPOINTS / "dalle.safetensors"
    is_beside = args.stage.resolve().parent == place.resolve().parent
    save_token_drawer(place, drawer, found, {"stage": args.stage.stem} if is_beside else None)
    return found
