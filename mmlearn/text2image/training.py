r"""How the models of chapter 2 are trained on pictures with sentences.

Papers: those of the systems; the recipes are their released code's, with smaller batches.  Survey: 2.1.
Differs from the papers: one caption a picture where Reed et al. average the embeddings of four; pictures are
neither cropped nor mirrored (captions say where a thing faces), and generators are averaged over steps.

Pictures are in [-1, 1]. A game is a generator function for ``fit``: it yields who moves, and the loss that
this player goes down. The encoder of the text is trained before and frozen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.pairs import PairBatch, PairBatches, PairData, scene_tokeniser, signed_pixels
from mmlearn.data.things import ATTRIBUTES, attributes_of, kinds_of
from mmlearn.data.tokenisers import Tokeniser
from mmlearn.metrics.text_match import r_precision
from mmlearn.nn.feature_networks import SceneClassifier, SceneClassifierConfig, attribute_loss
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text2image import dfgan
from mmlearn.text2image.attngan import AttnGAN, AttnGANConfig
from mmlearn.text2image.blocks import pyramid
from mmlearn.text2image.char_cnn_rnn import CharCNNRNN, sje_loss
from mmlearn.text2image.damsm import DAMSM, TextEncoder
from mmlearn.text2image.dfgan import DFGAN, DFGANConfig
from mmlearn.text2image.dmgan import DMGAN, DMGANConfig
from mmlearn.text2image.evaluation import read_drawings
from mmlearn.text2image.gan_cls import GANCLS, GANCLSConfig, StyleEncoder, style_objective, wrong_partners
from mmlearn.text2image.pipeline import Encoder, TextToImage, encode
from mmlearn.text2image.stackgan import StackGANv2, StackGANv2Config
from mmlearn.train import History, constant, fit, linear_decay, warmup_cosine

Moves = Iterator[tuple[str, Tensor, dict[str, Any]]]
Game = Callable[[Any, PairBatch], Moves]


# -------------------------------------------------------------------------------------------------- the judge

def train_scene_classifier(
    data: PairData, *, steps: int, batch: int = 128, lr: float | int = 2e-3, noise: float | int = 0.1,
    seed: int = 0, **options: Any,
) -> tuple[SceneClassifier, History]:
    """A fresh network that reads category, colour and setting off pictures of one thing, with some ``noise``
    on their pixels. Further options are those of ``fit``."""
    with seeded(seed):
        model = SceneClassifier(SceneClassifierConfig({name: len(v) for name, v in ATTRIBUTES.items()}))
    wanted = attributes_of(data.scenes)

    def objective(judge: SceneClassifier, batch: PairBatch) -> Tensor:
        scores = judge.attributes(batch.images + noise * torch.randn_like(batch.images))
        return attribute_loss(scores, {name: v[batch.which.cpu()].to(batch.images.device)
                                       for name, v in wanted.items()})

    batches = PairBatches(data, scene_tokeniser(data), batch, seed=seed, scale=signed_pixels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, fused=True)
    return model, fit(model, objective, batches, steps=steps, optimizer=optimizer, seed=seed,
                      schedule=warmup_cosine(lr, min(50, steps // 4), steps), **options)


# ------------------------------------------------------------------------------------------ encoders of text

def train_damsm(
    model: DAMSM, data: PairData, tokeniser: Tokeniser, *, steps: int, batch: int = 48,
    lr: float | int = 2e-3, max_len: int | None = 18, seed: int = 0, **options: Any,
) -> History:
    r"""eq:damsm-loss on pairs; pictures that say the same are no wrong answers. Adam ($\beta_1=0.5$), the
    rate falling along a cosine to a tenth. Further options are those of ``fit``."""
    kinds = kinds_of(data.scenes) if data.scenes else torch.arange(len(data))

    def objective(trained: DAMSM, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        losses = trained(batch.images, batch.tokens, classes=kinds[batch.which.cpu()].to(batch.tokens.device))
        return losses.total(), {"words": losses.words_1, "sentences": losses.sentence_1}

    batches = PairBatches(data, tokeniser, batch, seed=seed, max_len=max_len, scale=signed_pixels)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)
    return fit(model, objective, batches, steps=steps, optimizer=optimizer, seed=seed,
               schedule=warmup_cosine(lr, min(50, steps // 4), steps, lr / 10), **options)


def stretch_sentences(encoder: TextEncoder, tokeniser: Tokeniser, texts: Sequence[str]) -> float:
    """Make the encoder's sentences so long that their numbers, of all ``texts``, vary with variance 1; gives
    the factor (``DAMSMConfig.stretch``).

    DAMSM asks for angles only, and the book's says short sentences that lie close together (a deviation of
    0.14), which eq:dfgan-magp makes dear to tell apart. At 32 pixels, one seed, the place was right in .79
    of DF-GAN's pictures after 1,000 steps of 16 with stretched sentences, in .26 after 4,000 without. Raises
    ``ValueError`` for texts that all say the same.
    """
    with torch.no_grad(), eval_mode(encoder) as device:
        tokens = tokeniser.batch(list(texts)).to(device)
        said = torch.cat([encoder(part)[1] for part in tokens.split(500)]) / encoder.config.stretch
    deviation = float((said - said.mean(dim=0)).square().mean().sqrt())
    if not deviation > 1e-5 * float(said.abs().max()):
        raise ValueError(f"all {len(texts)} sentences are the same to the encoder; give some that differ")
    encoder.config = replace(encoder.config, stretch=float(f"{1 / deviation:.3g}"))
    return encoder.config.stretch


class DistinctPairs(PairBatches):
    """Batches of pairs in which no two pictures are of the same kind, as the ranking loss wants them."""

    def __init__(self, data: PairData, tokeniser: Tokeniser, batch: int, kinds: Int[Tensor, " n"],
                 **options: Any) -> None:
        super().__init__(data, tokeniser, batch, **options)
        self.kinds = kinds

    def make(self, indices: list[int], number: int) -> PairBatch:
        one_of = {int(self.kinds[i]): i for i in indices}
        return super().make(list(one_of.values()), number)


def train_char_cnn_rnn(
    model: CharCNNRNN, features: Callable[[Tensor], Tensor] | Tensor, data: PairData, tokeniser: Tokeniser,
    *, steps: int, batch: int = 40, lr: float | int = 7e-4, seed: int = 0, **options: Any,
) -> History:
    """eq:sje-loss on pictures of different kinds with a text each; ``features`` (b, 3, s, s) -> (b, e) are
    those of a frozen network, or what it says of each picture of ``data``, (n, e). RMSprop, the rate falling
    along a cosine to a tenth. Further options are those of ``fit``."""
    kinds = kinds_of(data.scenes) if data.scenes else torch.arange(len(data))

    def objective(trained: CharCNNRNN, batch: PairBatch) -> Tensor:
        with torch.no_grad():
            theta = (features[batch.which.cpu()].to(batch.images.device) if isinstance(features, Tensor)
                     else features(batch.images))
        return sje_loss(theta, encode(trained, batch.tokens).sentence)

    batches = DistinctPairs(data, tokeniser, batch, kinds, seed=seed, scale=signed_pixels)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=lr)
    return fit(model, objective, batches, steps=steps, optimizer=optimizer, seed=seed,
               schedule=warmup_cosine(lr, min(50, steps // 4), steps, lr / 10), **options)


# ------------------------------------------------------------------------------------------------- the games

def gan_cls_game(encoder: Encoder, kinds: Int[Tensor, " n"]) -> Game:
    """GAN-CLS and its kin: ``kinds`` says of each picture of the data set which captions fit it."""
    encoder.requires_grad_(False).eval()

    def play(model: GANCLS, batch: PairBatch) -> Moves:
        text = encode(encoder, batch.tokens).sentence
        wrong = wrong_partners(kinds[batch.which.cpu()])
        b = len(text)
        yield "discriminator", model.discriminator_loss(batch.images, text, model.draw(b), wrong), {}
        yield "generator", model.generator_loss(text, model.draw(model.draws(b))), {}

    return play


def stackgan_game(encoder: Encoder, kinds: Int[Tensor, " n"]) -> Game:
    """StackGAN-v2: the discriminators of all branches move together, then the generator."""
    encoder.requires_grad_(False).eval()

    def play(model: StackGANv2, batch: PairBatch) -> Moves:
        text = encode(encoder, batch.tokens).sentence
        wrong = batch.images[wrong_partners(kinds[batch.which.cpu()]).to(text.device)]
        drawn = model(torch.randn(len(text), model.config.noise, device=text.device), text)
        real, other = (pyramid(images, model.config.sizes) for images in (batch.images, wrong))
        yield "critics", torch.stack(model.discriminator_losses(real, other, drawn)).sum(), {}
        yield "generator", model.generator_loss(drawn), {}

    return play


def attngan_game(damsm: DAMSM, kinds: Int[Tensor, " n"]) -> Game:
    """AttnGAN and DM-GAN: the discriminators of all branches move together, then the generator."""
    damsm.requires_grad_(False).eval()

    def play(model: AttnGAN, batch: PairBatch) -> Moves:
        damsm.to(batch.images.device)
        words, sentence = damsm.text(batch.tokens)
        mask = damsm.text.mask(batch.tokens)
        drawn = model(torch.randn(len(sentence), model.config.noise, device=sentence.device), sentence, words,
                      mask)
        real = pyramid(batch.images, model.config.sizes)
        losses = model.discriminator_losses(real, drawn, sentence)
        yield "critics", torch.stack(losses).sum(), {}
        loss = model.generator_loss(drawn, sentence, words, mask, damsm,
                                    kinds[batch.which.cpu()].to(sentence.device))
        yield "generator", loss.total(), loss._asdict()

    return play


def dfgan_game(encoder: Encoder, k: float | int = 2, p: float | int = 6) -> Game:
    """DF-GAN: hinge and matching-aware penalty, then the linear hinge."""
    encoder.requires_grad_(False).eval()

    def play(model: DFGAN, batch: PairBatch) -> Moves:
        sentence = encode(encoder, batch.tokens).sentence
        fakes = model.generator(model.noise(len(sentence)), sentence)
        judged = dfgan.discriminator_loss(model.discriminator, batch.images, fakes, sentence, k, p)
        yield "discriminator", judged.loss, {"penalty": judged.penalty, "hinge": judged.hinge}
        yield "generator", dfgan.generator_loss(model.discriminator, fakes, sentence), {}

    return play


Config = GANCLSConfig | StackGANv2Config | AttnGANConfig | DMGANConfig | DFGANConfig
RECIPES: dict[str, dict[str, Any]] = {                  # of miniatures, for ``train_game``
    "gan-cls": {"lr": 4e-4, "betas": (0.5, 0.999)},
    "stackgan": {"lr": 4e-4, "betas": (0.5, 0.999)},
    "attngan": {"lr": 4e-4, "betas": (0.5, 0.999)},
    "dmgan": {"lr": 4e-4, "betas": (0.5, 0.999)},
    "dfgan": {"lr": 2e-4, "critic_lr": 8e-4, "betas": (0.0, 0.9)},
}


def mini_config(system: str, size: int, text: int, width: int | None = None) -> Config:
    """The miniature of a system for pictures of ``size`` pixels and embeddings of ``text`` numbers; ``width``
    is that of the maps of GAN-CLS and DF-GAN."""
    if system == "gan-cls":
        small = GANCLSConfig.mini(size, text)
        return replace(small, generator_width=width, discriminator_width=width) if width else small
    if system == "dfgan":
        return DFGANConfig.mini(size, width or 16, text)
    if system == "stackgan":
        return replace(StackGANv2Config.mini(text), size=size // 4)
    return (DMGANConfig if system == "dmgan" else AttnGANConfig).mini(text, size)


def new_game(config: Config, encoder: DAMSM | Encoder, kinds: Int[Tensor, " n"]) -> tuple[nn.Module, Game]:
    """A fresh model of a configuration and the game that trains it. AttnGAN and DM-GAN need all of DAMSM, the
    others an encoder of text; ``kinds`` are those of ``gan_cls_game``."""
    text: Encoder = encoder.text if isinstance(encoder, DAMSM) else encoder
    if isinstance(config, GANCLSConfig):
        return GANCLS(config), gan_cls_game(text, kinds)
    if isinstance(config, DFGANConfig):
        return DFGAN(config), dfgan_game(text)
    if isinstance(config, StackGANv2Config):
        return StackGANv2(config), stackgan_game(text, kinds)
    if not isinstance(encoder, DAMSM):
        raise ValueError(f"{type(config).__name__} was given a {type(encoder).__name__}; its words and its "
                         f"loss come from a DAMSM, give one")
    model = DMGAN(config) if isinstance(config, DMGANConfig) else AttnGAN(config)
    return model, attngan_game(encoder, kinds)


def train_game(
    model: nn.Module, game: Game, data: PairData, tokeniser: Tokeniser, *, steps: int, batch: int = 32,
    lr: float | int = 2e-4, critic_lr: float | int | None = None,
    betas: tuple[float | int, float] = (0.5, 0.999), ema: float | int | None = 0.999,
    decay: float | int = 0.0, max_len: int | None = 18, seed: int = 0, **options: Any,
) -> History:
    """Train a generator and its critics: Adam, each with its own constant rate (``critic_lr``, default
    ``lr``), which falls along a line to 0 over the last share ``decay`` of the steps.

    The averaged model is in ``History.ema``. Further options are those of ``fit``.
    """
    names = dict(model.named_children())
    groups = [{"params": list(part.parameters()),
               "scale": 1.0 if name == "generator" else (critic_lr or lr) / lr}
              for name, part in names.items()]
    model.to(memory_format=torch.channels_last)                             # type: ignore[call-overload]
    batches = PairBatches(data, tokeniser, batch, seed=seed, max_len=max_len, scale=signed_pixels)
    optimizer = torch.optim.Adam(groups, lr=lr, betas=betas, fused=True)
    schedule = linear_decay(lr, round(steps * (1 - decay)), steps) if decay else constant(lr)
    return fit(model, game, batches, steps=steps, optimizer=optimizer, schedule=schedule, ema=ema, seed=seed,
               **options)


def train_style_encoder(
    style: StyleEncoder, painter: TextToImage, data: PairData, *, steps: int, batch: int = 64,
    lr: float | int = 5e-4, seed: int = 0, **options: Any,
) -> History:
    r"""eq:gan-style on what a trained GAN-CLS draws of the captions of ``data``: no real picture is seen.
    Adam ($\beta_1=0.5$), the rate falling along a cosine. Further options are those of ``fit``."""
    painter.requires_grad_(False).eval()

    def objective(trained: StyleEncoder, batch: PairBatch) -> Tensor:
        text = encode(painter.encoder, batch.tokens).sentence
        z = torch.randn(len(text), style.config.noise, device=text.device)
        return style_objective(trained, painter.generator.to(text.device), text, z)

    if painter.tokeniser is None:
        raise ValueError("the model has no tokeniser; load it with load_text_to_image")
    batches = PairBatches(data, painter.tokeniser, batch, seed=seed)
    optimizer = torch.optim.Adam(style.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)
    return fit(style, objective, batches, steps=steps, optimizer=optimizer, seed=seed,
               schedule=warmup_cosine(lr, min(50, steps // 4), steps), **options)


def attribute_watch(
    encoder: Encoder, tokeniser: Tokeniser, judge: SceneClassifier, data: PairData, seed: int = 0
) -> Callable[[Any], dict[str, float]]:
    """For ``fit``'s evaluate: how many of the things, colours and settings of the plain sentences of ``data``
    a classifier finds in what the generator draws."""
    texts = [captions[0] for captions in data.captions]

    def evaluate(model: Any) -> dict[str, float]:
        drawing = TextToImage.of(encoder, model, tokeniser, texts)
        return read_drawings(drawing, judge, data, seed=seed).of(range(len(texts)))

    return evaluate


class Match(NamedTuple):
    """R-precision: the share of pictures whose own sentence comes first among ``candidates`` and itself."""

    precision: float
    candidates: int


def text_match(
    images: Float[Tensor, "n 3 y x"], codes: Callable[[Tensor], Tensor], encoder: Encoder,
    tokens: Int[Tensor, "n t"], kinds: Int[Tensor, " n"], most: int = 99,
) -> Match | None:
    """eq:r-precision of pictures in [-1, 1] and the captions of each, among at most ``most`` captions of
    other ``kinds``; ``codes`` embeds pictures where ``encoder`` embeds captions. None if all are of one
    kind."""
    others = len(kinds) - int(torch.bincount(kinds.unique(return_inverse=True)[1]).max())
    if others < 1:
        return None
    with torch.no_grad(), eval_mode(encoder) as device:
        u = torch.cat([codes(part).float().cpu() for part in images.split(50)])
        v = torch.cat([encode(encoder, part.to(device)).sentence.float().cpu() for part in tokens.split(50)])
    count = min(most, others)
    draws = torch.Generator().manual_seed(0)
    return Match(r_precision(u, v, kinds, candidates=count, folds=1, generator=draws).mean, count)
