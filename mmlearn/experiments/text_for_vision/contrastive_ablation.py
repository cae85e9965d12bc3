"""What in the contrastive loss matters: fewer negatives, a fixed temperature, smoothed targets, other losses.

Papers: A. Radford et al. (2021), arXiv:2103.00020, sec. 2.3-2.5 (a learned temperature); C. Jia et al.
(2021), *ALIGN*, arXiv:2102.05918, its ablation study (half and a quarter of the negatives, temperatures,
smoothing); C.-H. Yeh et al. (2021), *Decoupled Contrastive Learning*, arXiv:2110.06848; X. Zhai et al.
(2023), *SigLIP*, arXiv:2303.15343.  Survey: 4.2. Differs from the papers: negatives are struck out at random,
pair by pair; miniatures on drawn scenes.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmlearn.data.pairs import class_pictures, scene_pairs, scene_tokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.experiments.text_for_vision.clip_mini import rounded
from mmlearn.nn.modes import seeded
from mmlearn.text_for_vision.align import align_loss
from mmlearn.text_for_vision.contrastive import clip_loss, decoupled_loss, logits
from mmlearn.text_for_vision.siglip import START_BIAS, START_SCALE, sigmoid_loss
from mmlearn.text_for_vision.small_encoder import StudyConfig, StudyEncoder
from mmlearn.text_for_vision.training import retrieval, train_clip, zero_shot_accuracy

Scale = Float[Tensor, ""] | float | int


def random_negatives(
    b: int, share: float | int, generator: torch.Generator | None = None,
    device: torch.device | str = "cpu"
) -> Bool[Tensor, "b b"]:
    """Which pairs are compared: each partner, and each other pair with probability ``share``.

    Raises ``ValueError`` unless 0 < share <= 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; keep more than none of the "
                         "negatives and at most all, 1")
    kept = torch.rand(b, b, generator=generator) < share
    return kept.fill_diagonal_(True).to(device)


def fewer_negatives_loss(
    u: Float[Tensor, "b e"], v: Float[Tensor, "b e"], scale: Scale,
    mask: Bool[Tensor, "b b"]
) -> Float[Tensor, ""]:
    r"""eq:fewer-negatives:
    $-\frac1{2b}\sum_i\big[\log\frac{e^{\ell_{ii}}}{\sum_jm_{ij}e^{\ell_{ij}}}+\log\frac{e^{\ell_{ii}}}{\sum_jm_{ji}e^{\ell_{ji}}}\big]$.

    ``mask`` $m$ is True for pairs that are compared, on the diagonal always; all True is the loss of CLIP.
    """
    l = logits(u, v, scale).masked_fill(~mask, -math.inf)
    at = torch.arange(len(l), device=l.device)
    return (F.cross_entropy(l, at) + F.cross_entropy(l.mT, at)) / 2


def with_share(share: float | int) -> Callable[..., Tensor]:
    """A loss that keeps a random ``share`` of the negatives, drawn anew at every call."""
    def loss(u: Tensor, v: Tensor, scale: Scale) -> Tensor:
        return fewer_negatives_loss(u, v, scale, random_negatives(len(u), share, device=u.device))
    return loss


def smoothed_loss(u: Float[Tensor, "b e"], v: Float[Tensor, "b e"], scale: Scale,
                  smoothing: float | int = 0.1) -> Float[Tensor, ""]:
    """The mean of both directions with smoothed targets: half of eq:align-loss, to compare with CLIP's at one
    learning rate."""
    return align_loss(u, v, scale, smoothing) / 2


class SigmoidEncoder(StudyEncoder):
    """The small dual encoder with SigLIP's scale 10 and bias -10 at the start."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__(config)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))
        self.logit_bias = nn.Parameter(torch.tensor(START_BIAS))


LOSSES: dict[str, Callable[..., Tensor]] = {
    "CLIP": clip_loss, "half the negatives": with_share(0.5), "a quarter of the negatives": with_share(0.25),
    "temperature fixed at 1": clip_loss, "temperature fixed at 0.07": clip_loss,
    "positive left out": decoupled_loss, "label smoothing 0.1": smoothed_loss, "sigmoid": sigmoid_loss,
    "sigmoid, bias -5": sigmoid_loss}


def build_variant(
    name: str, config: StudyConfig, seed: int = 0
) -> tuple[StudyEncoder, Callable[..., Tensor]]:
    """The model and loss of one row of the ablation; all rows start from the same weights, a function of
    ``seed``."""
    if name not in LOSSES:
        raise ValueError(f"variant {name!r} is unknown; use one of {', '.join(LOSSES)}")
    with seeded(seed):
        model = (SigmoidEncoder if name.startswith("sigmoid") else StudyEncoder)(config)
    if name.startswith("temperature fixed at "):
        tau = float(name.removeprefix("temperature fixed at "))
        model.logit_scale = nn.Parameter(torch.tensor(math.log(1 / tau)), requires_grad=False)
    if ", bias " in name:  # -5 is near -log 127, what a batch of 128 makes likely
        model.logit_bias = nn.Parameter(torch.tensor(float(name.split(", bias ")[1])))
    return model, LOSSES[name]


SIZE = 32


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--train", type=int, default=6000, help="training scenes")
    parser.add_argument("--pictures", type=int, default=1000, help="test pictures of one thing")
    parser.add_argument("--scenes", type=int, default=500, help="test scenes for retrieval")


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training: scores, the loss and the scale every 20 steps."""
    data = scene_pairs(args.train, size=SIZE)
    tokeniser = scene_tokeniser(data)
    model, loss = build_variant(name, StudyConfig(len(tokeniser)), seed)
    history = train_clip(model, data, tokeniser, steps=args.steps, batch=args.batch, lr=args.lr, warmup=30,
                         loss=loss, seed=seed, progress=False)
    scores = {"zero-shot": zero_shot_accuracy(model, tokeniser, class_pictures(args.pictures, size=SIZE)),
              **retrieval(model, tokeniser, scene_pairs(args.scenes, "test", size=SIZE))}
    at = list(range(0, args.steps, max(1, args.steps // 20))) + [args.steps - 1]
    smooth = history.smooth(20)
    return {"seed": seed, "scores": rounded(scores), "training seconds": round(history.seconds, 1),
            "curve": {"step": [i + 1 for i in at], "loss": [round(smooth[i], 4) for i in at],
                      "scale": [round(history.scalars["scale"][i], 3) for i in at]}}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in LOSSES]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in LOSSES}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:27} zero-shot {measured['scores']['zero-shot']:.3f}  image to text R@1 "
              f"{measured['scores']['image to text R@1']:.3f}  scale {measured['curve']['scale'][-1]:.1f}",
              flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": args.lr, "warmup": 30,
                         "schedule": "cosine to 0", "weight decay": 0.2, "size": SIZE,
                         "train": f"{args.train} scenes of train, seed 0", "test pictures": args.pictures,
                         "test scenes": args.scenes, "seeds": seeds(args.seeds)},
            "variants": found}
