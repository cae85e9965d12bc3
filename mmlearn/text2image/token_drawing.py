"""From a sentence to a picture through tokens: a first stage, DALL-E and a tokeniser as one, and on disk.

Paper: A. Ramesh et al. (2021), arXiv:2102.12092, sec. 2.6 (many pictures a text, of which CLIP chooses).
Survey: 2.2.1.  A first stage is a dVAE or a VQGAN: whatever turns pictures in [-1, 1] into a grid of codes
and back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from mmlearn.checkpoints import load_model, pair_of, save_model
from mmlearn.data.pairs import SIZE, pixels, signed_pixels
from mmlearn.data.tokenisers import PlainWordTokeniser, Tokeniser, WordTokeniser
from mmlearn.nn.feature_networks import sharpened
from mmlearn.nn.modes import eval_mode
from mmlearn.text2image import pipeline
from mmlearn.text2image.dalle import DALLE, DALLEConfig
from mmlearn.text2image.dvae import DVAE, DVAEConfig
from mmlearn.text2image.pipeline import check_words
from mmlearn.text2image.vqgan import VQGAN, VQGANConfig
from mmlearn.text_for_vision.training import Mini

SYSTEM = "dalle"
REMEDY = "train one with `python -m mmlearn.experiments dalle` and give its file"
Score = Callable[[Tensor, str], Tensor]         # pictures (n, 3, y, x) in [-1, 1] and a text -> n scores


@runtime_checkable
class FirstStage(Protocol):
    """What turns pictures (b, 3, y, x) in [-1, 1] into codes (b, h, w), and codes into pictures."""

    def encode(self, images: Tensor) -> Tensor: ...

    def decode(self, codes: Tensor) -> Tensor: ...


@torch.no_grad()
def codes_of(
    stage: nn.Module, images: UInt8[Tensor, "n 3 y x"], batch: int = 100
) -> Int[Tensor, "n p"]:
    """The codes of pictures of bytes, row by row: computed once, a transformer learns from them."""
    with eval_mode(stage) as device:
        return torch.cat([stage.encode(signed_pixels(part.to(device))).flatten(1).cpu()  # type: ignore[operator]
                          for part in images.split(batch)])


class Ranked(NamedTuple):
    """Pictures from the best to the worst, their scores, and where each was before."""

    pictures: Tensor
    scores: Tensor
    order: Tensor


@torch.no_grad()
def rerank(
    pictures: Float[Tensor, "n 3 y x"], text: str, clip: Score
) -> Ranked:
    """Pictures of one text in the order of ``clip(pictures, text)``, the best first; of equal ones the
    earlier. Raises ``ValueError`` if there is not one finite score a picture."""
    scores = clip(pictures, text).float().cpu()
    if scores.shape != (len(pictures),) or not scores.isfinite().all():
        raise ValueError(
            f"the score has the shape {tuple(scores.shape)}, expected "
            f"{len(pictures)} finite numbers; give one score a picture")
    order = scores.argsort(descending=True, stable=True)
    return Ranked(pictures[order], scores[order], order)


def clip_score(clip: Mini, batch: int = 100) -> Score:
    """The cosine of a picture and a text by a CLIP of chapter 4, as a function for ``rerank``."""
    def score(pictures: Tensor, text: str) -> Tensor:
        with eval_mode(clip.model) as device, torch.no_grad():
            tokens = clip.tokeniser.batch([text], clip.model.config.context).to(device)
            v = clip.model.encode_text(tokens)
            bytes_ = ((sharpened(pictures, SIZE) + 1) * 127.5).round().clamp(0, 255).byte()
            u = torch.cat([clip.model.encode_image(pixels(part.to(device))) for part in bytes_.split(batch)])
            return torch.cosine_similarity(u, v).cpu()
    return score


@dataclass(frozen=True)
class TokenDrawerConfig:
    """The configurations of a first stage and of a DALL-E that was trained with its codes."""

    stage: DVAEConfig | VQGANConfig
    tokens: DALLEConfig

    def __post_init__(self) -> None:
        kinds = self.stage.vocab if isinstance(self.stage, DVAEConfig) else self.stage.codes
        if kinds != self.tokens.image_vocab:
            raise ValueError(f"the first stage has codes of {kinds} kinds, DALL-E writes "
                             f"{self.tokens.image_vocab}; make both of one size")

    @classmethod
    def mini(cls, vocab: int = 200) -> "TokenDrawerConfig":
        """32 pixels, 8 x 8 codes of 128 kinds."""
        return cls(DVAEConfig.mini(), DALLEConfig.mini(vocab))


class TokenDrawer(nn.Module):
    """A first stage, a DALL-E that writes its codes, and the tokeniser of the texts.

    ``draw`` makes pictures of texts, of as many pixels a side as DALL-E's codes a side times what a code
    stands for. ``stage`` is a dVAE or a VQGAN (any ``FirstStage``, where ``of`` was given one). ``forward``:
    tokens of texts (b, t) and of pictures (b, n) -> DALL-E's logits.
    """

    system = SYSTEM

    def __init__(self, config: TokenDrawerConfig, tokeniser: Tokeniser | None = None) -> None:
        super().__init__()
        self.config: TokenDrawerConfig | None = config
        stage = config.stage
        self.stage: nn.Module = DVAE(stage) if isinstance(stage, DVAEConfig) else VQGAN(stage)
        self.dalle, self.tokeniser = DALLE(config.tokens), tokeniser

    @classmethod
    def of(cls, stage: nn.Module, dalle: DALLE, tokeniser: Tokeniser) -> "TokenDrawer":
        """The parts of a model, which share their weights with it. Raises ``ValueError`` if ``stage`` cannot
        encode and decode."""
        if not isinstance(stage, FirstStage):
            raise ValueError(f"a {type(stage).__name__} has no encode and decode; give a dVAE or a VQGAN")
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        known = isinstance(stage, DVAE | VQGAN)
        made.config = TokenDrawerConfig(stage.config, dalle.config) if known else None  # type: ignore[arg-type]
        made.stage, made.dalle, made.tokeniser = stage, dalle, tokeniser
        return made

    def forward(self, text: Int[Tensor, "b t"], image: Int[Tensor, "b n"]) -> tuple[Tensor, Tensor]:
        return self.dalle(text, image)

    def tokens(self, texts: Sequence[str]) -> Int[Tensor, "b t"]:
        """Ids of the texts, padded. Raises ``ValueError`` for a word that the model does not know, for a text
        without words and for one that is too long."""
        if self.tokeniser is None:
            raise ValueError("the model has no tokeniser; load it with load_token_drawer")
        for text in texts:
            if isinstance(self.tokeniser, WordTokeniser):
                check_words(self.tokeniser, text)
        return self.dalle.padded(self.tokeniser.batch(list(texts)))

    @torch.no_grad()
    def draw(
        self, texts: Sequence[str], samples: int = 1, seed: int = 0, *, temperature: float | int = 1.0,
        top_k: int | None = None, top_p: float | int | None = None, prime: Int[Tensor, "t m"] | None = None,
        clip: Score | None = None, keep: int | None = None, batch: int = 64,
    ) -> Float[Tensor, "n 3 y x"]:
        """Pictures in [-1, 1], ``samples`` of the first text, then of the second …; the same for the same
        seed.

        ``prime`` gives the first codes of each text's pictures. With ``clip`` the pictures of a text are
        those that it likes best, best first, and ``keep`` says how many stay (default: all). ``batch`` bounds
        how many are sampled at once.
        """
        keep = samples if keep is None else keep
        if not 1 <= keep <= samples:
            raise ValueError(f"keep is {keep} of {samples} samples; keep from 1 to all of them")
        drawn = []
        with eval_mode(self.stage), eval_mode(self.dalle) as device:
            draws = torch.Generator(device).manual_seed(seed)
            tokens = self.tokens(texts).to(device)
            for i, text in enumerate(texts):
                first = None if prime is None else prime[i:i + 1].to(device)
                parts = []
                for start in range(0, samples, batch):
                    codes = self.dalle.sample(
                        tokens[i:i + 1], min(batch, samples - start), prime=first, temperature=temperature,
                        top_k=top_k, top_p=top_p, generator=draws)[0]
                    parts.append(self.pictures(codes))
                pictures = torch.cat(parts)
                drawn.append((pictures if clip is None else rerank(pictures, text, clip).pictures)[:keep])
        return torch.cat(drawn)

    @torch.no_grad()
    def pictures(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b 3 y x"]:
        """Pictures in [-1, 1] of codes in rows, on the CPU."""
        side = self.dalle.config.side
        return self.stage.decode(codes.unflatten(1, (side, side))).float().clamp(-1, 1).cpu()  # type: ignore[operator]


def save_token_drawer(path: str | Path, model: TokenDrawer, about: dict[str, Any],
                      parts: Mapping[str, str] | None = None) -> None:
    """Write a model with a dVAE or a VQGAN as ``path`` (.safetensors, 16 bits; or a folder) with its
    configuration, its words and ``about``; ``parts`` are those of ``save_model``. Raises ``ValueError`` for
    another first stage, which has a file of its own."""
    if model.config is None:
        raise ValueError(f"the first stage is a {type(model.stage).__name__}; save it and the DALL-E as "
                         "files of their own")
    words = ({"splitter": model.tokeniser.splitter, "words": model.tokeniser.words}
             if isinstance(model.tokeniser, WordTokeniser) else {})
    save_model(path, model, SYSTEM, {**about, **words}, half=True, parts=parts)


def load_token_drawer(name: str | Path) -> TokenDrawer:
    """The miniature that comes with the book ("dalle"), or what ``save_token_drawer`` wrote at a path.

    Raises ``FileNotFoundError`` if the files are not there, ``ValueError`` if they are something else.
    """
    path = pipeline.miniature_at(name, SYSTEM, REMEDY)
    found, about = load_model(path, {SYSTEM: (TokenDrawerConfig, TokenDrawer)}, REMEDY)
    model = cast(TokenDrawer, found)
    model.tokeniser = PlainWordTokeniser.of(about, pair_of(path)[1])
    return model
