"""DALL-E 2's prior over the miniature CLIP: is it better to predict the embedding than its noise?

Paper: A. Ramesh et al. (2022), *Hierarchical Text-Conditional Image Generation with CLIP Latents*,
arXiv:2204.06125, sec. 2.2.  Survey: 2.3.1. Differs from the paper: a transformer of 0.13 million parameters,
and embeddings of 64 numbers, those of the miniature CLIP of chapter 4, of pictures of one thing.

Both arms of a seed start from the same weights, see the same batches and are drawn from with the same noise.
The recorded run is short, 200 steps: the arm that predicts noise is far from done (a loss of 0.62, where no
prediction at all has 1), so it tells how fast each learns, not which would be better in the end.
"""

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmlearn.data.pairs import PairData, pixels
from mmlearn.data.things import thing_pairs
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.nn.modes import eval_mode, remembered, seeded
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.unclip_prior import (
    DiffusionPrior,
    PriorConfig,
    Text,
    choose_better,
    draw_embeddings,
    drop_text,
    prior_loss,
)
from mmlearn.text_for_vision.training import Mini, load_mini

ARMS = ("x0", "noise")


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--train", type=int, default=2000, help="pictures to train on")
    parser.add_argument("--test", type=int, default=300, help="pictures to judge by")
    parser.add_argument("--draws", type=int, default=32, help="steps of the chain when embeddings are drawn")
    parser.add_argument("--bound", type=float, default=2.0,
                        help="largest number of an estimate, scaled; without it predicted noise explodes")
    parser.add_argument("--scale", type=float, default=1.0, help="of guidance")


@torch.no_grad()
def embedded(mini: Mini, data: PairData, seed: int) -> tuple[Float[Tensor, "n e"], Text]:
    """The embeddings (n, e) of pictures, and what is read of one caption of each, drawn by ``seed``."""
    g = torch.Generator().manual_seed(seed)
    texts = [some[int(torch.randint(len(some), (), generator=g))] for some in data.captions]
    context, pad = mini.model.config.text.context, mini.tokeniser.pad
    tokens = mini.tokeniser.batch(texts, context)
    tokens = F.pad(tokens, (0, context - tokens.shape[1]), value=pad)
    clip, z, states, words = mini.model, [], [], []
    with eval_mode(clip):
        for i in range(0, len(data), 250):
            part = tokens[i : i + 250]
            z.append(clip.encode_image(pixels(data.images[i : i + 250]), True))
            states.append(clip.text.tokens(part))
            words.append(clip.encode_text(part, True))
    return torch.cat(z), Text(torch.cat(states), tokens != pad, torch.cat(words))


def train_prior(
    model: DiffusionPrior, z: Float[Tensor, "n e"], text: Text, schedule: NoiseSchedule,
    args: argparse.Namespace, seed: int
) -> list[float]:
    """Train ``model`` with Adam, the learning rate falling to 0 as a cosine; the loss of every step."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), args.lr, betas=(0.9, 0.96))
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    losses = []
    for _ in range(args.steps):
        which = torch.randint(len(z), (args.batch,), generator=g)
        read = drop_text(Text(*(part[which] for part in text)), 0.1, g)
        loss = prior_loss(model, z[which], read, schedule, g)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
        losses.append(loss.item())
    return losses


def scores(z: Float[Tensor, "n e"], drawn: Float[Tensor, "n e"], text: Text) -> dict[str, float]:
    """Mean cosines of drawn embeddings with those of the pictures, and with those of the captions."""
    return {"with the picture": round(F.cosine_similarity(drawn, z).mean().item(), 4),
            "with the caption": round(F.cosine_similarity(drawn, text.embedding).mean().item(), 4)}


@remembered
def pictures(count: int, split: str, seed: int) -> tuple[Float[Tensor, "n e"], Text]:
    """``embedded`` of the first ``count`` pictures of one thing of a split, computed once."""
    return embedded(load_mini("vit"), thing_pairs(count, split), seed)


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One prior, trained and judged: the mean of two draws, and the better of two (eq:unclip-choose)."""
    (z, text), (z_test, text_test) = pictures(args.train, "train", 0), pictures(args.test, "test", 1)
    with seeded(seed):
        model = DiffusionPrior(PriorConfig.mini(predicts=name))
    schedule = NoiseSchedule.cosine()
    losses = train_prior(model, z, text, schedule, args, seed)
    with eval_mode(model):
        two = torch.stack([draw_embeddings(model, text_test, schedule, args.draws, args.scale, 1,
                                           bound=args.bound,
                                           generator=torch.Generator().manual_seed(draw))
                           for draw in range(2)], 1)
    single = [scores(z_test, drawn, text_test) for drawn in two.unbind(1)]
    return {"seed": seed, "loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
            "one": {key: round(sum(one[key] for one in single) / 2, 4) for key in single[0]},
            "the better of two": scores(z_test, choose_better(two, text_test.embedding), text_test),
            "caption itself": scores(z_test, text_test.embedding, text_test)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.test < 2 or args.steps < 1:
        raise ValueError(f"--test is {args.test} and --steps {args.steps}; give 2 pictures and 1 step or "
                         "more")
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        one, two = measured["one"], measured["the better of two"]
        print(f"seed {seed}  {name:6}  with the picture {one['with the picture']:.3f}, of two "
              f"{two['with the picture']:.3f}; with the caption {one['with the caption']:.3f}, of two "
              f"{two['with the caption']:.3f}", flush=True)
    names = ("steps", "batch", "lr", "train", "test", "draws", "bound", "scale")
    settings = {key: getattr(args, key) for key in names}
    return {"settings": {**settings, "dropped": 0.1, "sampler": "ddpm", "seeds": seeds(args.seeds)},
            "arms": found}
