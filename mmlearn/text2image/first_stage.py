r"""How the autoencoders that come before a generator are trained on scenes, and what is measured of them.

Papers: those of ``vqgan`` and ``kl_autoencoder``.  Survey: 2.2, 2.3.1.
Differs from the papers: small pictures of the scene world, the maps of its classifier in place of VGG-16's,
and codes that nobody chooses are restarted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmlearn.checkpoints import load_model
from mmlearn.data.batches import Batches
from mmlearn.data.pairs import PairData, signed_pixels
from mmlearn.files import package_data
from mmlearn.metrics.generation import compare, features_of
from mmlearn.nn.feature_networks import SceneClassifier
from mmlearn.nn.modes import eval_mode
from mmlearn.text2image.autoencoder import clipped
from mmlearn.text2image.dvae import DVAE, DVAEConfig
from mmlearn.text2image.kl_autoencoder import (
    KLAutoencoder,
    KLAutoencoderConfig,
    KLAutoencoderGame,
    KLLossConfig,
    kl_autoencoder_game,
    latent_scale,
)
from mmlearn.text2image.perceptual import scene_distance
from mmlearn.text2image.vector_quantisation import perplexity, usage
from mmlearn.text2image.vqgan import (
    VQGAN,
    Distance,
    PatchConfig,
    VQGANConfig,
    VQGANGame,
    VQGANLossConfig,
    vqgan_game,
)
from mmlearn.train import History, fit, warmup_cosine

Autoencoder = VQGAN | KLAutoencoder
REMEDY = "train it with `python -m mmlearn.experiments vqgan`"


class PictureBatches(Batches):
    """Endless shuffled batches of pictures (b, 3, s, s) in [-1, 1], a function of their number."""

    def make(self, indices: list[int], number: int) -> Tensor:
        return signed_pixels(self.data[indices])


def pictures_of(*parts: PairData) -> UInt8[Tensor, "n 3 s s"]:
    """All pictures of several data sets, in memory."""
    return torch.cat([part.images[:] for part in parts])


def new_game(kind: str = "vqgan", factor: int = 4, codes: int = 256, start: int = 1000,
             perceptual: float | int = 0.3) -> VQGANGame | KLAutoencoderGame:
    """The miniature of an autoencoder and its discriminator: "vqgan" or "kl", which reduces ``factor``
    times. The game begins with step ``start``; ``perceptual`` is the weight of that distance. Raises
    ``ValueError`` for another kind."""
    if kind == "vqgan":
        loss = replace(VQGANLossConfig.mini(), start=start, perceptual=perceptual)
        return VQGANGame(VQGANConfig.mini(factor, codes), PatchConfig.mini(), loss, restart_every=50)
    if kind == "kl":
        kl_loss = replace(KLLossConfig.mini(), start=start, perceptual=perceptual)
        return KLAutoencoderGame(KLAutoencoderConfig.mini(factor), PatchConfig.mini(), kl_loss)
    raise ValueError(f"kind is {kind!r}; train a vqgan or a kl")


def train_first_stage(
    game: VQGANGame | KLAutoencoderGame, images: UInt8[Tensor, "n 3 s s"], judge: SceneClassifier | None,
    *, steps: int, batch: int = 16, lr: float | int = 4e-4, betas: tuple[float, float] = (0.5, 0.9),
    ema: float | int | None = 0.999, seed: int = 0, **options: Any,
) -> History:
    r"""Train both players: Adam ($\beta_1=0.5$), the rate falling along a cosine to a tenth. ``judge`` gives
    the perceptual distance (None: none). The averaged game is in ``History.ema``. Further options are those
    of ``fit``."""
    game.to(memory_format=torch.channels_last)                              # type: ignore[call-overload]
    distance: Distance | None = None if judge is None else scene_distance(judge)
    play = (vqgan_game if isinstance(game, VQGANGame) else kl_autoencoder_game)(distance)
    weights = [p for p in game.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=lr, betas=betas, fused=True)
    schedule = warmup_cosine(lr, min(100, steps // 4), steps, lr / 10)
    return fit(game, play, PictureBatches(images, batch, seed=seed), steps=steps, optimizer=optimizer,
               ema=ema, seed=seed, schedule=schedule, **options)


# ------------------------------------------------------------------------------------------------ measurement


@torch.no_grad()
def reconstruct(
    model: Autoencoder, images: UInt8[Tensor, "n 3 s s"], batch: int = 50
) -> Float[Tensor, "n 3 s s"]:
    """Pictures drawn again by their likeliest codes, or by the means of their latents, in [-1, 1]."""
    with eval_mode(model) as device:
        parts = [signed_pixels(part).to(device) for part in images.split(batch)]
        drawn = [model.decode(model.encode(x) if isinstance(model, VQGAN) else model.encode(x, mode=True))
                 for x in parts]
    return clipped(torch.cat(drawn)).cpu()


def edge_energy(images: Float[Tensor, "n 3 y x"]) -> Float[Tensor, ""]:
    r"""eq:vqgan-edges: $\frac1n\sum_i\big(x_{i+1}-x_i\big)^2$ over all neighbours, side by side and one above
    the other: blurred pictures have less of it than sharp ones."""
    across, down = images.diff(dim=3).square().mean(), images.diff(dim=2).square().mean()
    return (across + down) / 2


def chunks(images: Tensor, size: int = 100) -> Iterator[Tensor]:
    """Pictures in [-1, 1] for a network of features, whether they come as bytes or so."""
    for part in images.split(size):
        yield signed_pixels(part) if part.dtype == torch.uint8 else part


@torch.no_grad()
def reconstruction_scores(
    model: Autoencoder, images: UInt8[Tensor, "n 3 s s"], judge: SceneClassifier
) -> dict[str, float]:
    """What is lost between pictures and their reconstructions.

    "error" and "signal to noise" (decibels) of pixels in [-1, 1], "distance" of the classifier's maps,
    "Fréchet distance" and the others of ``compare`` on its features, "edges" (eq:vqgan-edges against that of
    the pictures), "same answers" of the classifier, the number of "values" of a picture's latents, and of a
    VQGAN the "bits" of a picture, the "share of codes" that are used and their "perplexity"; of a
    ``KLAutoencoder`` the "scale" that gives its latents the deviation 1.
    """
    drawn = reconstruct(model, images)
    truth = torch.cat(list(chunks(images)))
    distance = scene_distance(judge)
    squares = (truth - drawn).square().mean()
    apart = torch.cat([distance(x, y) for x, y in zip(truth.split(100), drawn.split(100))])
    real, fake = (features_of(judge, chunks(x)) for x in (truth, drawn))
    found = {"error": float((truth - drawn).abs().mean()),
             "signal to noise": float(10 * torch.log10(4 / squares)),
             "distance": float(apart.mean()), "edges": float(edge_energy(drawn) / edge_energy(truth)),
             **{name: score.value for name, score in compare(real, fake, judge.name).items()}}
    answers = [[judge.answers(part) for part in x.split(100)] for x in (truth, drawn)]
    same = [torch.stack([a[name] == b[name] for name in a]).all(dim=0) for a, b in zip(*answers)]
    found["same answers"] = float(torch.cat(same).double().mean())
    with eval_mode(model):
        grids = [model.encode(part) for part in chunks(images)]
    latents = torch.cat(grids)
    found["values"] = float(latents[0].numel())
    if isinstance(model, VQGAN):
        shares = usage(latents, model.config.codes)
        found |= {"bits": found["values"] * float(torch.tensor(model.config.codes).log2()),
                  "share of codes": float((shares > 0).double().mean()),
                  "perplexity": float(perplexity(shares))}
    else:
        found["scale"] = float(latent_scale(latents) * model.config.scale)
    return found


def scaled(model: KLAutoencoder, images: UInt8[Tensor, "n 3 s s"]) -> KLAutoencoder:
    """The same autoencoder with the scale that gives the latents of these pictures the deviation 1
    (eq:kl-autoencoder-scale)."""
    with eval_mode(model):
        latents = torch.cat([model.encode(part) for part in chunks(images)]) / model.config.scale
    new = KLAutoencoder(replace(model.config, scale=float(latent_scale(latents))))
    new.load_state_dict(model.state_dict())
    return new.eval()


# --------------------------------------------------------------------------------- the miniatures of the book


def load_vqgan(path: str | Path | None = None) -> VQGAN:
    """The VQGAN that comes with the book, frozen, or a trained one. Raises ``FileNotFoundError``,
    ``ValueError``."""
    return cast(VQGAN, _load(path, "vqgan", (VQGANConfig, VQGAN)))


def load_kl_autoencoder(path: str | Path | None = None) -> KLAutoencoder:
    """The first stage of latent diffusion that comes with the book, frozen, or a trained one. Raises
    ``FileNotFoundError``, ``ValueError``."""
    return cast(KLAutoencoder, _load(path, "kl-autoencoder", (KLAutoencoderConfig, KLAutoencoder)))


def load_dvae(path: str | Path | None = None) -> DVAE:
    """The dVAE that comes with the book, frozen, or a trained one. Raises ``FileNotFoundError``,
    ``ValueError``."""
    return cast(DVAE, _load(path, "dvae", (DVAEConfig, DVAE), REMEDY.replace("vqgan", "dvae")))


def _load(path: str | Path | None, name: str, kinds: tuple[type, type], remedy: str = REMEDY) -> nn.Module:
    model, _ = load_model(path or package_data("checkpoints") / f"{name}.safetensors", {name: kinds}, remedy)
    return model.requires_grad_(False)


def both(images: UInt8[Tensor, "n 3 s s"], drawn: Float[Tensor, "n 3 s s"], columns: int = 8) -> Tensor:
    """Rows of pictures, each above the row of their reconstructions, for ``pipeline.sheet``."""
    rows: list[Tensor] = []
    truth: Sequence[Tensor] = signed_pixels(images).split(columns)
    for above, below in zip(truth, drawn.split(columns)):
        rows += [above, below]
    return torch.cat(rows)
