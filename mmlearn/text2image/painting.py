r"""From a sentence to a picture by diffusion: a base model, an upsampler, and the tokeniser of both; and what
fills a hole in a picture.

Papers: A. Nichol et al. (2021), *GLIDE*, ICML 2022, arXiv:2112.10741, sec. 4 and app. B.2; the notebooks of
github.com/openai/glide-text2im.  Survey: 2.3.
Differs from the papers: a mask of full size is reduced for the base model so that none of its pixels is known
that covers a part of the hole (the notebook begins with the small mask and enlarges it).

``Painter`` draws as ``mmlearn.text2image.pipeline.TextToImage`` does, and ``open_drawer`` opens either of
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.checkpoints import load_model, pair_of, read_description, save_model
from mmlearn.data.glide_tokeniser import GLIDETokeniser
from mmlearn.nn.configuration import FieldError
from mmlearn.nn.modes import eval_mode
from mmlearn.text2image import pipeline, token_drawing
from mmlearn.text2image.diffusion import draw as draw_noise
from mmlearn.text2image.glide import GLIDE, GLIDEConfig, quantised, with_known
from mmlearn.text2image.samplers import Guide, Method, guided, sample, static_clip
from mmlearn.text2image.token_drawing import load_token_drawer

SYSTEM = "glide"
STEPS, FAST = 100, "fast27"     # of the base model, and the chain of the upsampler
GUIDANCE = 3.0
COOLER = 0.997                  # what the upsampler's first noise is multiplied with: sharper above, grainy


@runtime_checkable
class Drawer(Protocol):
    """What draws sentences: ``samples`` pictures of the first, then of the second …, in [-1, 1], the same for
    the same seed."""

    tokeniser: Any

    @property
    def system(self) -> str: ...

    def draw(self, texts: Sequence[str], samples: int = 1, seed: int = 0) -> Float[Tensor, "n 3 y x"]: ...


@dataclass(frozen=True)
class PainterConfig:
    """The configurations of a base model and of the upsampler after it, where there is one."""

    base: GLIDEConfig = field(default_factory=GLIDEConfig)
    upsampler: GLIDEConfig | None = None

    def __post_init__(self) -> None:
        up = self.upsampler
        if self.base.low:
            raise FieldError("PainterConfig", "base", f"enlarges pictures of {self.base.low} pixels; give a "
                                                      f"model "
                             f"that starts from noise alone")
        if up is not None and up.low != self.base.size:
            raise FieldError("PainterConfig", "upsampler", f"enlarges pictures of {up.low} pixels, the base "
                                                           f"model "
                             f"draws {self.base.size}; give two that fit")

    @property
    def size(self) -> int:
        """Pixels a side of what is drawn in the end."""
        return (self.upsampler or self.base).size


class Painter(nn.Module):
    """A base model, an upsampler where there is one, and the tokeniser of both (``base`` and ``upsampler``
    may have vocabularies of the same ids only).

    ``draw`` makes pictures of texts, ``edit`` fills a hole. The base model is sampled with classifier-free
    guidance, the upsampler without; it is told the colours that a picture of bytes would have.
    """

    system = SYSTEM

    def __init__(self, config: PainterConfig, tokeniser: GLIDETokeniser | None = None) -> None:
        super().__init__()
        self.config, self.tokeniser = config, tokeniser
        self.base = GLIDE(config.base)
        self.upsampler = None if config.upsampler is None else GLIDE(config.upsampler)

    @classmethod
    def of(cls, tokeniser: GLIDETokeniser, base: GLIDE, upsampler: GLIDE | None = None) -> "Painter":
        """Models that are trained, or being trained (their weights are shared, not copied)."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.config = PainterConfig(base.config, None if upsampler is None else upsampler.config)
        made.tokeniser, made.base, made.upsampler = tokeniser, base, upsampler
        return made

    def tokens(self, texts: Sequence[str]) -> Int[Tensor, "b t"]:
        """Ids of the texts. Raises ``ValueError`` for a text without a letter, and without a tokeniser."""
        if self.tokeniser is None:
            raise ValueError("the model has no tokeniser; load it with load_painter")
        if blank := next((text for text in texts if not text.strip()), None):
            raise ValueError(f"{blank!r} has no word that the model could read; say what is to be drawn")
        return self.tokeniser.batch(list(texts))

    def paint(
        self, model: GLIDE, tokens: Int[Tensor, "b t"], noise: Float[Tensor, "b 3 y x"],
        steps: int | str, guidance: float | int, draws: torch.Generator,
        method: Method = "ddpm", guide: Guide | None = None,
        known: Float[Tensor, "b 3 y x"] | None = None,
        kept: Float[Tensor, "b 1 y x"] | None = None,
        low: Float[Tensor, "b 3 v u"] | None = None
    ) -> Float[Tensor, "b 3 y x"]:
        """One stage: captions are read once, then noise is taken away in ``steps`` steps. Where pixels are
        known, every estimate gets them back (eq:glide-known)."""
        tokens = tokens[:, : model.config.text.context]
        conditions: dict[str, Tensor | None] = {**model.read(tokens)._asdict(), "low": low}
        if model.config.inpaint:                            # others are told nothing of a hole, but corrected
            conditions |= {"known": known, "kept": kept}
        empty = model.empty(len(tokens))._asdict()

        def corrected(x0: Tensor) -> Tensor:
            clipped = static_clip(x0)
            if known is None or kept is None:
                return clipped
            return with_known(clipped, known, kept)

        return sample(guided(model.predict, conditions, empty, float(guidance)),
                      model.config.noise.respaced(steps), noise.shape, method,
                      denoised_fn=corrected, generator=draws, start=noise, guide=guide)

    @torch.no_grad()
    def draw_tokens(
        self, tokens: Int[Tensor, "n t"], seed: int = 0, *, guidance: float | int = GUIDANCE,
        steps: int | str = STEPS, upsampling: int | str = FAST, method: Method = "ddpm",
        guide: Guide | None = None, known: Float[Tensor, "n 3 y x"] | None = None,
        kept: Float[Tensor, "n 1 y x"] | None = None,
    ) -> Float[Tensor, "n 3 y x"]:
        """Pictures of texts that are tokens already, all at once: base model, then upsampler (27 DDIM steps,
        from a little less noise). ``known`` and ``kept`` are of full size."""
        draws = torch.Generator().manual_seed(seed)
        with eval_mode(self) as device:
            tokens = tokens.to(device)
            base, small, there = self.base.config.size, None, None
            if known is not None and kept is not None:
                known, kept = known.to(device), kept.to(device)
                small = quantised(F.interpolate(known, (base, base), mode="area"))
                there = reduced_mask(kept, base)
            noise = draw_noise((len(tokens), 3, base, base), draws).to(device)
            drawn = self.paint(self.base, tokens, noise, steps, guidance, draws, method, guide, small, there)
            if self.upsampler is not None:
                side = self.upsampler.config.size
                noise = draw_noise((len(tokens), 3, side, side), draws).to(device) * COOLER
                drawn = self.paint(self.upsampler, tokens, noise, upsampling, 1.0, draws, "ddim", None,
                                   known, kept, quantised(drawn))
            return drawn.float().cpu()

    @torch.no_grad()
    def draw(
        self, texts: Sequence[str], samples: int = 1, seed: int = 0, *, batch: int = 50, **options: Any,
    ) -> Float[Tensor, "n 3 y x"]:
        """Pictures in [-1, 1], ``samples`` of the first text, then of the second …; the same for the same
        seed, and the same ``batch``. ``options`` are those of ``draw_tokens``: ``guidance``, ``steps``,
        ``method`` …"""
        tokens = self.tokens(texts).repeat_interleave(samples, dim=0)
        return torch.cat([self.draw_tokens(part, seed + 1_000_003 * i, **options)
                          for i, part in enumerate(tokens.split(batch))])

    @torch.no_grad()
    def edit(
        self, picture: Float[Tensor, "3 y x"], hole: Bool[Tensor, "v u"], text: str, samples: int = 1,
        seed: int = 0, **options: Any,
    ) -> Float[Tensor, "n 3 y x"]:
        """``samples`` of a picture in [-1, 1] whose ``hole``, where it is True, is drawn anew for a text; the
        other pixels are those that were given. ``options`` are those of ``draw``.

        A model without inpainting channels is corrected at every step, but told nothing of the hole. Raises
        ``ValueError`` for a picture or a hole of another size than the model draws, and for an empty hole.
        """
        size = self.config.size
        for name, shape in (("picture", picture.shape[-2:]), ("hole", hole.shape)):
            if tuple(shape) != (size, size):
                raise ValueError(f"the {name} is {shape[1]} x {shape[0]} pixels, the model edits {size} x "
                                 f"{size}; resize it")
        if not bool(hole.any()):
            raise ValueError("the mask has no white pixel, so that nothing is to be redrawn; paint white "
                             "what shall be")
        tokens = self.tokens([text]).expand(samples, -1)
        known = picture.expand(samples, -1, -1, -1).float()
        kept = (~hole).float().expand(samples, 1, -1, -1)
        return with_known(self.draw_tokens(tokens, seed, known=known, kept=kept, **options), known, kept)


def reduced_mask(kept: Float[Tensor, "b 1 y x"], size: int) -> Float[Tensor, "b 1 v u"]:
    """A mask of ``size`` pixels a side, 1 where all pixels of a square are known."""
    return 1 - F.max_pool2d(1 - kept, kept.shape[-1] // size)


def save_painter(path: str | Path, model: Painter, about: dict[str, Any]) -> None:
    """Write a model as ``path`` (.safetensors, 16 bits; or a folder) with its configuration, the merges of
    its tokeniser and ``about``."""
    merges = [] if model.tokeniser is None else [list(pair) for pair in model.tokeniser.merges]
    save_model(path, model, SYSTEM, {**about, "merges": merges}, half=True)


def load_painter(name: str | Path) -> Painter:
    """The miniature that comes with the book ("glide"), or what ``save_painter`` wrote at a path.

    Raises ``FileNotFoundError`` if the files are not there, ``ValueError`` if they are something else.
    """
    path = pipeline.miniature_at(name, SYSTEM, REMEDY)
    found, about = load_model(path, {SYSTEM: (PainterConfig, Painter)}, REMEDY)
    model = cast(Painter, found)
    model.tokeniser = GLIDETokeniser.of(about, pair_of(path)[1], model.config.base.text.context)
    if len(model.tokeniser) != model.config.base.text.vocab:
        raise ValueError(f"{pair_of(path)[1]} has merges for {len(model.tokeniser)} tokens, its model reads "
                         f"{model.config.base.text.vocab}; save or train the model again")
    return model


REMEDY = "train one with `python -m mmlearn.experiments glide` and give its file"


OPENERS: dict[str, Callable[[str | Path], Any]] = {       # name of a system -> what opens its saved models
    **{name: pipeline.load_text_to_image for name in pipeline.NAMES}, token_drawing.SYSTEM: load_token_drawer,
    SYSTEM: load_painter}


def open_drawer(name: str | Path) -> Drawer:
    """Whatever draws sentences: a miniature of the book by its name, or a saved model, which says itself what
    it is. Raises ``FileNotFoundError``, ``ValueError``."""
    kind: Any = str(name)
    if kind not in OPENERS:
        remedy = f"give {', '.join(OPENERS)} or the path of a saved model"
        kind = read_description(name, remedy).get("system")
        if kind not in OPENERS:
            raise ValueError(f"{pair_of(name)[1]} describes a model of {kind!r}, which draws no sentences; "
                             f"{remedy}")
    return OPENERS[kind](name)
