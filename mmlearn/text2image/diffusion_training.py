r"""How diffusion models with captions are trained: GLIDE's base, its upsampler, filling holes, and its noised
CLIP.

Papers: A. Nichol et al. (2021), *GLIDE*, arXiv:2112.10741, sec. 4 (captions are dropped, regions erased).
Survey: 2.3.
Differs from the paper: captions are dropped from the first step on, where GLIDE drops 20 % of them in a
second phase; a hole is one rectangle (the paper says "random regions"); the reader may be taught alone, first
(``train_reader``). Guidance plays no part in a loss.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.pairs import PairBatch, PairBatches, PairData, signed_pixels
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.text2image.diffusion import NoiseSchedule, diffusion_loss, velocity_weight
from mmlearn.text2image.glide import GLIDE, GLIDEText, drop_captions, quantised
from mmlearn.text2image.noised_clip import NoisedCLIP, noised_clip_loss
from mmlearn.train import History, fit, warmup_cosine


def reduced(images: Float[Tensor, "b 3 y x"], size: int) -> Float[Tensor, "b 3 v u"]:
    """Pictures of ``size`` pixels a side, means over squares of pixels. Raises ``ValueError`` for a size that
    does not divide the side."""
    side = images.shape[-1]
    if size > side or side % size:
        raise ValueError(f"pictures of {side} pixels a side cannot be reduced to {size}; load them with a "
                         f"multiple of it")
    return F.avg_pool2d(images, side // size)


def sized(size: int) -> Callable[[Tensor], Tensor]:
    """For batches: bytes of pictures to numbers in [-1, 1], ``size`` pixels a side."""
    return lambda images: reduced(signed_pixels(images), size)


def random_holes(
    count: int, size: int, whole: float | int = 0.25, generator: torch.Generator | None = None
) -> Float[Tensor, "b 1 y x"]:
    """Masks for training, 1 where a pixel is known: a rectangle of a quarter of the side to all of it is
    erased, in a share ``whole`` of the masks everything."""
    numbers = torch.rand(count, 5, generator=generator)
    sides = (size * (0.25 + 0.75 * numbers[:, :2])).round().clamp(max=size)         # height, width
    sides = torch.where(numbers[:, 4:] < whole, float(size), sides)
    corner = (numbers[:, 2:4] * (size - sides + 1)).floor()
    place = torch.arange(size)
    inside = (place >= corner[..., None]) & (place < (corner + sides)[..., None])   # b 2 s
    hole = inside[:, 0, :, None] & inside[:, 1, None, :]
    return 1 - hole[:, None].float()


def glide_loss(
    model: GLIDE, images: Float[Tensor, "b 3 y x"], tokens: Tensor,
    schedule: NoiseSchedule, drop: float | int = 0.1,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """The loss of a batch of pictures with captions, of which a share ``drop`` is read as empty
    (eq:glide-drop). A model that says the velocity is judged by the velocity's error
    (eq:diffusion-velocity-weight).

    An upsampler gets the picture itself, reduced and with colours of bytes; a model that fills holes the
    picture with a random one. No guidance is part of it.
    """
    config, conditions = model.config, {}
    if config.low:
        conditions["low"] = quantised(reduced(images, config.low))
    if config.inpaint:
        kept = random_holes(len(images), config.size, generator=generator)
        conditions |= {"known": images, "kept": kept.to(images)}
    dropped = drop_captions(tokens, config.text.pad, drop, generator)
    weights = None
    if config.predicts == "velocity":
        weights = velocity_weight(schedule.alpha_bars)
    return diffusion_loss(model, images, schedule, generator, weights,
                          tokens=dropped, **conditions)


def train_diffusion(
    model: GLIDE, data: PairData, tokeniser: Tokeniser, schedule: NoiseSchedule | None = None, *, steps: int,
    batch: int = 64, lr: float | int = 1e-3, drop: float | int = 0.1, ema: float | int | None = 0.999,
    clip: float | int | None = 1.0, weight_decay: float | int = 0.0, final: float | int = 0.05, seed: int = 0,
    **options: Any,
) -> History:
    """Train a base model, an upsampler or one that fills holes on pictures with captions.

    ``schedule`` is by default the model's. AdamW; the rate rises over the first steps and falls along a
    cosine to a share ``final`` of it. The averaged model is in ``History.ema``. Further options are those of
    ``fit``.
    """
    schedule = schedule or model.config.noise

    def objective(trained: GLIDE, batch: PairBatch) -> Tensor:
        return glide_loss(trained, batch.images, batch.tokens, schedule, drop)

    model.to(memory_format=torch.channels_last)                             # type: ignore[call-overload]
    batches = PairBatches(data, tokeniser, batch, seed=seed, max_len=model.config.text.context,
                          scale=sized(model.config.size))
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=weight_decay, fused=True)
    return fit(model, objective, batches, steps=steps, optimizer=optimizer, ema=ema, clip=clip, seed=seed,
               schedule=warmup_cosine(lr, min(200, steps // 4), steps, lr * final), **options)


class Naming(nn.Module):
    """Captions (b, t) -> scores of each attribute's values, a linear map of the reader's last state."""

    def __init__(self, text: GLIDEText, kinds: Mapping[str, int]) -> None:
        super().__init__()
        self.text = text
        self.heads = nn.ModuleDict({name: nn.Linear(text.config.width, count)
                                    for name, count in kinds.items()})

    def forward(self, tokens: Int[Tensor, "b t"]) -> dict[str, Float[Tensor, "b _"]]:
        last = self.text(tokens).states[:, -1]
        return {name: head(last) for name, head in self.heads.items()}


def train_reader(
    model: GLIDE, tokens: Int[Tensor, "n t"], named: Mapping[str, Int[Tensor, " n"]], *, steps: int,
    batch: int = 64, lr: float | int = 1e-3, seed: int = 0, **options: Any,
) -> History:
    """Teach the text transformer alone to say what captions name, and hold it still from then on, but for the
    map to the timestep's embedding (GLIDE's learns with the U-Net, from scratch; Imagen's is held still).

    ``named`` has for each attribute the number of its value in each caption, -1 where it has none. AdamW, the
    rate falling along a cosine. Further options are those of ``fit``.
    """
    words = Naming(model.text, {name: int(numbers.max()) + 1 for name, numbers in named.items()})
    values = torch.stack(list(named.values()), dim=1)

    def objective(trained: Naming, batch: tuple[Tensor, Tensor]) -> Tensor:
        texts, asked = batch
        losses = [F.cross_entropy(scores, right, ignore_index=-1, reduction="sum")
                  for scores, right in zip(trained(texts).values(), asked.unbind(1))]
        return torch.stack(losses).sum() / len(texts)

    def drawn(number: int) -> tuple[Tensor, Tensor]:
        draws = torch.Generator().manual_seed(seed * 1_000_003 + number)
        rows = torch.randint(len(tokens), (batch,), generator=draws)
        return tokens[rows], values[rows]

    history = fit(words, objective, drawn, steps=steps, seed=seed, clip=1.0,
                  optimizer=torch.optim.AdamW(words.parameters(), lr=lr, fused=True),
                  schedule=warmup_cosine(lr, min(50, steps // 4), steps), **options)
    hold_reader(model)
    return history


def hold_reader(model: GLIDE) -> GLIDE:
    """The model, whose text transformer learns nothing more, but for the map to the timestep's embedding."""
    model.text.requires_grad_(False).summary.requires_grad_(True)
    return model


def train_noised_clip(
    model: NoisedCLIP, data: PairData, tokeniser: Tokeniser, schedule: NoiseSchedule, *, steps: int,
    batch: int = 128, lr: float | int = 1e-3, ema: float | int | None = None, seed: int = 0, **options: Any,
) -> History:
    """Train a noised CLIP on pictures that are noised to a random step each. AdamW, the rate falling along a
    cosine. Further options are those of ``fit``."""
    batches = PairBatches(data, tokeniser, batch, seed=seed, max_len=model.config.text.context,
                          scale=sized(model.config.image.size))

    def objective(trained: NoisedCLIP, batch: PairBatch) -> Tensor:
        return noised_clip_loss(trained, batch.images, batch.tokens, schedule)

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0125, fused=True)
    return fit(model, objective, batches, steps=steps, optimizer=optimizer, ema=ema, seed=seed,
               schedule=warmup_cosine(lr, min(50, steps // 4), steps), **options)


@torch.no_grad()
def denoising_errors(
    model: GLIDE, data: PairData, tokeniser: Tokeniser, schedule: NoiseSchedule | None = None,
    levels: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9), batch: int = 64, seed: int = 0,
) -> dict[str, float]:
    """For ``fit``'s evaluate: the mean squared error of the noise on held-out pictures, at a few levels of it
    (shares of the schedule's steps), for the same noise every time; and their mean, "error"."""
    from mmlearn.text2image.diffusion import draw, noised, split

    schedule = schedule or model.config.noise
    draws = torch.Generator().manual_seed(seed)
    size, found = model.config.size, {}
    images = torch.cat([sized(size)(data.images[i:i + batch]) for i in range(0, len(data), batch)])
    noise = draw(images.shape, draws)
    tokens = tokeniser.batch([captions[0] for captions in data.captions], model.config.text.context)
    device = next(model.parameters()).device
    for level in levels:
        place = min(len(schedule) - 1, math.floor(level * len(schedule)))
        total = 0.0
        for x0, z, text in zip(images.split(batch), noise.split(batch), tokens.split(batch)):
            x = noised(x0, z, schedule.alpha_bars[place].item())
            low = quantised(reduced(x0, model.config.low)).to(device) if model.config.low else None
            t = torch.full((len(x),), int(schedule.timesteps[place]), device=device)
            said = split(model(x.to(device), t, text.to(device), low=low), 3)
            total += float((said.noise.float().cpu() - z).square().mean()) * len(x)
        found[f"error at {level:g}"] = total / len(images)
    return {"error": sum(found.values()) / len(found), **found}
