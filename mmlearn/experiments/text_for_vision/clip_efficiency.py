"""Write the caption, predict its words, or recognise it? Zero-shot accuracy against images seen, with seeds.

Paper: A. Radford et al. (2021), arXiv:2103.00020, sec. 2.3 and fig. 2.  Survey: 4.2, 4.2.1.
Differs from the paper: miniatures on drawn scenes of 32 pixels; a fourth arm, contrastive with a Transformer.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from mmlearn.data.pairs import (
    ClassPictures,
    PairBatches,
    PairData,
    class_pictures,
    pixels,
    scene_pairs,
    scene_tokeniser,
)
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text_for_vision.contrastive import clip_loss
from mmlearn.text_for_vision.prediction import (
    BagEncoder,
    CaptionPredictor,
    WordPredictor,
    bag_of_words,
    bow_score,
    lm_score,
    predict_caption,
    predict_words,
)
from mmlearn.text_for_vision.small_encoder import ConvTower, StudyConfig, StudyEncoder
from mmlearn.text_for_vision.training import (
    adamw_cosine,
    contrastive_objective,
    zero_shot_accuracy,
)
from mmlearn.text_for_vision.zero_shot import prompts, top_k_accuracy
from mmlearn.train import History, fit

# ------------------------------------------------------------------------------------------------------- arms

ARMS: dict[str, type[nn.Module]] = {
    "captioner": CaptionPredictor, "words predicted": WordPredictor, "words contrasted": BagEncoder,
    "Transformer contrasted": StudyEncoder}
# Learning rates: the best of 1, 2, 4, 8 and 16 thousandths for each arm, by validation pictures and seed 0;
RATES = {"Transformer contrasted": 2e-3}
RATE = 8e-3                                     # the three arms of CLIP's figure agree on one


def build_arm(name: str, config: StudyConfig, seed: int = 0) -> nn.Module:
    """A model of one arm; the convolutions of all arms start from the same weights, a function of
    ``seed``."""
    if name not in ARMS:
        raise ValueError(f"arm {name!r} is unknown; use one of {', '.join(ARMS)}")
    with seeded(seed):
        model = ARMS[name](config)
    with seeded(seed):
        model.image.trunk.load_state_dict(ConvTower(config).trunk.state_dict())  # type: ignore[union-attr, operator, arg-type]
    return model


OBJECTIVES: dict[str, Callable[..., Any]] = {"captioner": predict_caption, "words predicted": predict_words}


def train_arm(name: str, model: nn.Module, data: PairData, tokeniser: Tokeniser, *, steps: int,
              batch: int = 128, lr: float | int | None = None, warmup: int = 30,
              weight_decay: float | int = 0.2, seed: int = 0,
              **options: Any) -> History:
    """Train one arm: the same images in the same order, the same captions, optimiser and schedule for all of
    them.

    The learning rate is by default the arm's own, of ``RATES`` (else ``RATE``).
    """
    lr = RATES.get(name, RATE) if lr is None else lr
    batches = PairBatches(data, tokeniser, batch, seed=seed,
                          max_len=model.config.context)  # type: ignore[union-attr, arg-type]
    return fit(model, OBJECTIVES.get(name, contrastive_objective(clip_loss)), batches, steps=steps, seed=seed,
               **adamw_cosine(model, lr, steps, warmup=warmup, weight_decay=weight_decay), **options)


@torch.no_grad()
def arm_accuracy(model: nn.Module, tokeniser: Tokeniser, pictures: ClassPictures,
                 templates: tuple[str, ...] = ("A picture of {a}.",), batch: int = 100) -> float:
    """Zero-shot top-1 accuracy of any arm: by eq:lm-score, eq:bow-score, or the closest class sentence.

    The captioner scores the first of ``templates``, the word predictor the bare names, the others the mean of
    all.
    """
    if isinstance(model, StudyEncoder):
        return zero_shot_accuracy(model, tokeniser, pictures, templates)
    with eval_mode(model) as device:
        if isinstance(model, CaptionPredictor):
            sentences = tokeniser.batch([prompts(name, templates)[0] for name in pictures.classes],
                                        model.config.context)
            scores = [lm_score(model, pixels(part.to(device)), sentences.to(device))
                      for part in pictures.images.split(batch)]
        else:
            words = (bag_of_words(tokeniser.batch(pictures.classes), len(tokeniser)) > 0).float().to(device)
            scores = [bow_score(model(pixels(part.to(device))),
                                words) for part in pictures.images.split(batch)]
    return top_k_accuracy(torch.cat(scores).cpu(), pictures.labels)


SIZE = 32


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--every", type=int, default=30, help="steps between two points of the curve")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, help="of all arms (default: each arm's own)")
    parser.add_argument("--train", type=int, default=6000, help="training scenes")
    parser.add_argument("--pictures", type=int, default=600, help="test pictures of one thing")


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training with its curve: zero-shot accuracy after so many images."""
    data = scene_pairs(args.train, size=SIZE)
    tokeniser, pictures = scene_tokeniser(data), class_pictures(args.pictures, size=SIZE)
    model = build_arm(name, StudyConfig(len(tokeniser)), seed)
    history = train_arm(name, model, data, tokeniser, steps=args.steps, batch=args.batch, lr=args.lr,
                        seed=seed, progress=False, evaluate_every=args.every,
                        evaluate=lambda judged: {"top-1": arm_accuracy(judged, tokeniser, pictures)})
    return {"seed": seed, "images": [step * args.batch for step in history.metric_steps],
            "top-1": [round(v, 4) for v in history.metrics["top-1"]],
            "loss": round(history.smooth(20)[-1], 4),
            "parameters": sum(p.numel() for p in model.parameters())}


def images_to_reach(images: Sequence[int], accuracy: Sequence[float], level: float) -> float | None:
    """Images seen when the curve first crosses ``level``, on the straight line between two points; None if
    never.

    The curve starts at (0, 0).
    """
    before = (0.0, 0.0)
    for point in zip(images, accuracy):
        if point[1] >= level:
            return before[0] + (point[0] - before[0]) * (level - before[1]) / (point[1] - before[1])
        before = (float(point[0]), float(point[1]))
    return None


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, Any] = {name: {"parameters": 0, "runs": []} for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name]["parameters"] = measured.pop("parameters")
        found[name]["runs"].append(measured)
        print(f"seed {seed}  {name:22} top-1 {measured['top-1'][-1]:.3f} after {measured['images'][-1]} "
              f"images", flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch,
                         "lr": {name: args.lr or RATES.get(name, RATE) for name in ARMS}, "warmup": 30,
                         "schedule": "cosine to 0", "weight decay": 0.2, "size": SIZE,
                         "train": f"{args.train} scenes of train, seed 0", "test pictures": args.pictures,
                         "seeds": seeds(args.seeds)},
            "arms": found}
