"""The picture-swap control on photographs: is a caption likelier beside its own picture than beside another?

Paper: M. Cornia et al. (2020), *Meshed-Memory Transformer for Image Captioning*, arXiv:1912.08226; M. Hodosh
et al. (2013), *Framing Image Description as a Ranking Task*, for ranking in place of writing.  Survey: 1.2.1.
Differs from the paper: fifty photographs, a small M2, cells of a convolutional network in place of detected
regions.

The loss of a captioner falls on any data, since words are easier to guess than pictures are to read. So each
held-out caption is scored twice: beside its own photograph, and beside others. Only the difference shows that
the model looks. Two networks give the cells: EfficientNet-Lite0, trained on ImageNet, and a ResNet-18 of
random weights.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmlearn.data.images import PictureFiles, TensorInputs
from mmlearn.image2text.features import calibrate, efficientnet_lite0_features
from mmlearn.image2text.losses import caption_cross_entropy
from mmlearn.image2text.m2 import M2Config, M2Transformer
from mmlearn.image2text.training import PAD, CaptionData, coco_data, train_cross_entropy
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.nn.vision import TorchvisionTrunk

FEATURES = ("EfficientNet-Lite0, ImageNet", "ResNet-18, random")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="folder of the photographs")
    parser.add_argument("--annotations", type=Path, required=True, help="their COCO captions file")
    parser.add_argument("--held-out", type=int, default=30, help="photographs that are not trained on")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--every", type=int, default=30, help="steps between two measurements")
    parser.add_argument("--swaps", type=int, default=3,
                        help="other photographs beside which a caption is scored")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3)


@torch.no_grad()
def cells(name: str, pictures: PictureFiles) -> Tensor:
    """Cells (n, p, f) of all pictures, each channel standardised over pictures and cells."""
    if name == FEATURES[0]:
        extract = efficientnet_lite0_features
    else:
        with seeded(0):
            extract = TorchvisionTrunk("resnet18")
        calibrate(extract, pictures)
    rows = torch.cat([extract(pictures.rows(range(i, min(i + 10, len(pictures))))[0])
                      for i in range(0, len(pictures), 10)])
    return (rows - rows.mean((0, 1))) / rows.std((0, 1)).clamp_min(1e-6)


@torch.no_grad()
def caption_losses(model: M2Transformer, features: Tensor, tokens: Tensor) -> Tensor:
    """Loss (n,) of the captions of each of n photographs, nats per token; ``tokens`` (n, k, t)."""
    with eval_mode(model):
        logits = model(features, tokens[..., :-1].flatten(0, 1))
        return torch.stack([caption_cross_entropy(some, targets, PAD) for some, targets in
                            zip(logits.unflatten(0, tokens.shape[:2]), tokens[..., 1:])])


def measure(model: M2Transformer, features: Tensor, tokens: Tensor, swaps: int) -> dict[str, float]:
    """Mean loss beside the own photograph and beside the next ``swaps`` ones, and how often the own one is
    the best."""
    matched = caption_losses(model, features, tokens)
    swapped = torch.stack([caption_losses(model, features.roll(k, 0), tokens) for k in range(1, swaps + 1)])
    return {"matched": round(matched.mean().item(), 4), "swapped": round(swapped.mean().item(), 4),
            "own is best": round((matched < swapped.min(0).values).float().mean().item(), 3)}


def train(features: Tensor, data: CaptionData, seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train one captioner in stretches of ``args.every`` steps; held-out and training photographs after
    each."""
    tokeniser = data.vocabulary()
    count = len(data) - args.held_out
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    parts = {"trained": order[:count], "held out": order[count:]}
    most = min(len(texts) for texts in data.captions)
    tokens = tokeniser.batch([text for i in order for text in data.captions[i][:most]], 30).unflatten(0,
            (-1, most))
    inputs = TensorInputs(features[parts["trained"]])
    captions = CaptionData(inputs, [data.captions[i] for i in parts["trained"]], range(count))
    with seeded(seed):
        model = M2Transformer(config(len(tokeniser), features.shape[-1]))
    curve: list[dict[str, Any]] = []
    places = {"trained": slice(0, count), "held out": slice(count, None)}
    for step in range(args.every, args.steps + 1, args.every):
        train_cross_entropy(model, captions, tokeniser, steps=args.every, images=10, captions=most,
                            lr=args.lr,
                            warmup=10, seed=seed * 1000 + step, progress=False)
        curve.append({"step": step, **{part: measure(model, features[parts[part]], tokens[places[part]],
                                                     args.swaps)
                                       for part in parts}})
    return curve


def config(vocab: int, features: int) -> M2Config:
    """A small M2: two layers of width 128."""
    return replace(M2Config.mini(vocab, features), width=128, layers=2, ff=256)


def run(args: argparse.Namespace) -> dict[str, Any]:
    data = coco_data(args.images, args.annotations)
    if not 0 < args.held_out < len(data):
        raise ValueError(f"--held-out {args.held_out} of {len(data)} photographs leaves nothing to train on "
                         f"or to test")
    assert isinstance(data.inputs, PictureFiles)
    arms = {name: cells(name, data.inputs) for name in FEATURES}
    words = len(data.vocabulary())
    settings = {key: getattr(args, key) for key in ("held_out", "steps", "every", "swaps", "lr", "seeds")}
    curves: dict[str, list[Any]] = {name: [] for name in arms}
    for seed in range(args.seeds):
        for name, features in arms.items():
            curves[name].append(train(features, data, seed, args))
    return {"settings": settings, "photographs": len(data), "words": words,
            "model": asdict(config(words, 320)), "runs": curves}
