r"""Imagen: a frozen language model reads, a diffusion model draws 64 pixels a side, two more make them 1024.

Paper: C. Saharia, W. Chan, S. Saxena, L. Li, J. Whang, E. Denton, S. K. S. Ghasemipour, B. K. Ayan, S. S.
Mahdavi, R. G. Lopes, T. Salimans, J. Ho, D. J. Fleet and M. Norouzi (2022), *Photorealistic Text-to-Image
Diffusion Models with Deep Language Understanding*, NeurIPS, arXiv:2205.11487, sec. 2 and app. B to F.
Survey: 2.3.1. Differs from the paper: timesteps are those of a chain of 1,000, where the paper's are
continuous. What it leaves open is chosen here: a learned query pools the text; the strength of augmentation
is the share of noise in the variance; padding stands as zeros among the tokens that the base model reads,
and is masked in the upsamplers. The stated sizes are 2B, 600M and 400M; how ours compare is told at each.

It is a cascade of diffusion models, not an autoregressive one. The text encoder is T5's, never trained here.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import MultiHeadAttention
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.t5 import T5Config, T5Encoder
from mmlearn.nn.transformer import LayerNorm32
from mmlearn.text2image.adm import ADMConfig, ADMUNet
from mmlearn.text2image.diffusion import NoiseSchedule, diffusion_loss, draw, noised
from mmlearn.text2image.efficient_unet import EfficientUNet, EfficientUNetConfig
from mmlearn.text2image.glide import enlarged
from mmlearn.text2image.samplers import dynamic_threshold, guided, sample
from mmlearn.text2image.unet import TimeEmbedding


@dataclass(frozen=True)
class ImagenConfig:
    text: T5Config = field(default_factory=T5Config)
    base: ADMConfig = field(default_factory=lambda: ADMConfig(width=512, out_channels=3, context=4096))
    first: EfficientUNetConfig = field(default_factory=EfficientUNetConfig.to_256)
    second: EfficientUNetConfig = field(default_factory=EfficientUNetConfig.to_1024)

    def __post_init__(self) -> None:
        check(self)
        if self.base.context != self.text.width:
            raise FieldError(
                "ImagenConfig",
                "base",
                f"reads tokens of size {self.base.context}, the text's have "
                f"{self.text.width}; make context and width the same",
            )
        if (self.base.size, self.first.size) != (self.first.low, self.second.low):
            raise FieldError(
                "ImagenConfig",
                "first",
                f"enlarges {self.first.low} pixels to {self.first.size}, "
                f"the base draws {self.base.size} and the second enlarges {self.second.low}; make "
                "them follow each other",
            )

    @classmethod
    def paper(cls) -> "ImagenConfig":
        """Over T5-XXL, 64 to 256 to 1024 pixels: stated as 2B, 600M and 400M; 2,424,829,955, 601,908,227
        and 597,709,827 here, the second upsampler having as many blocks as the first."""
        return cls()

    @classmethod
    def mini(cls, vocab: int = 400) -> "ImagenConfig":
        """A miniature for the scene world, 16 to 32 to 64 pixels."""
        first = EfficientUNetConfig.mini(32)
        return cls(T5Config.mini(vocab), replace(ADMConfig.mini(16, context=64), out_channels=3), first,
                   replace(EfficientUNetConfig.mini(64), self_attention=False))


# ------------------------------------------------------------------------------------------ equations


def pooled(
    Q: Float[Tensor, "h e"], K: Float[Tensor, "b h t e"],
    V: Float[Tensor, "b h t e"], mask: Bool[Tensor, "b t"],
) -> Float[Tensor, "b d"]:
    r"""eq:imagen-pool: $p=\sum_i\mathrm{softmax}_i(q\,k_i^\top/\sqrt{d_k})\,v_i$ over the tokens of a text,
    with a learned query $q$ in each head; nothing, where there are none."""
    Q = Q[None, :, None].expand(len(K), -1, -1, -1)
    read = F.scaled_dot_product_attention(Q, K, V, mask[:, None, None])
    return read.flatten(1)


def augmented(
    low: Float[Tensor, "b 3 v u"], noise: Float[Tensor, "b 3 v u"],
    level: Float[Tensor, " b"],
) -> Float[Tensor, "b 3 v u"]:
    r"""eq:imagen-augmentation: $\tilde l=\sqrt{1-a}\,l+\sqrt a\,\epsilon$: the picture to be
    enlarged is spoilt by a known amount $a$, so that what the model before drew
    wrongly need not be believed."""
    return noised(low, noise, 1 - level[:, None, None, None])


def drop_text(
    states: Float[Tensor, "b t e"], mask: Bool[Tensor, "b t"],
    rate: float | int = 0.1, generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "b t e"], Bool[Tensor, "b t"]]:
    r"""eq:imagen-drop: $y\leftarrow0$ with probability 0.1: a dropped text is zeros."""
    kept = (torch.rand(len(mask), generator=generator) >= rate).to(mask.device)
    return states * kept[:, None, None], mask & kept[:, None]


# ------------------------------------------------------------------------------------------- conditions


class TextCondition(MultiHeadAttention):
    """States (b, t, e) of a text, and which are real (b, t) -> what joins the timestep's embedding (b, w),
    and tokens (b, t, k) to attend to, both normalised (eq:imagen-pool).

    Without ``tokens``, a size, the tokens keep theirs.
    """

    def __init__(self, width: int, time: int, tokens: int | None = None, heads: int = 8) -> None:
        nn.Module.__init__(self)
        self.width, self.heads, self.causal, self.keeps_past = width, heads, False, False
        self.norm, self.pool_norm = LayerNorm32(width), LayerNorm32(width)
        self.query = nn.Parameter(torch.randn(width))
        self.keys_values = nn.Linear(width, 2 * width)
        self.to_time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.to_tokens = nn.Identity() if tokens is None else nn.Linear(width, tokens)

    def forward(  # type: ignore[override]
        self, states: Float[Tensor, "b t e"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b w"], Float[Tensor, "b t k"]]:
        states = states * mask[..., None]
        K, V = (self.split(part) for part in
                self.keys_values(self.pool_norm(states)).chunk(2, dim=-1))
        time = self.to_time(pooled(self.query.view(self.heads, -1), K, V, mask))
        return time, self.to_tokens(self.norm(states))


# ---------------------------------------------------------------------------------------------- models


class ImagenBase(nn.Module):
    """Noisy pictures (b, 3, s, s), timesteps (b), states (b, t, e) of texts and their mask (b, t) -> the
    noise (b, 3, s, s).

    ADM's U-Net: the pooled text joins the timestep's embedding, and its tokens stand among keys and values of
    every attention.
    """

    def __init__(self, config: ImagenConfig) -> None:
        super().__init__()
        self.config = config.base
        self.text = TextCondition(config.text.width, config.base.embedding)
        self.unet = ADMUNet(config.base)

    def forward(
        self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"],
        states: Float[Tensor, "b t e"], mask: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b 3 y x"]:
        time, tokens = self.text(states, mask)
        return self.unet(x, t, time, tokens)


class ImagenUpsampler(nn.Module):
    """The same for pictures beside small ones ``low`` (b, 3, n, n), which are spoilt by ``level`` (b) from 0
    to 1: an Efficient U-Net, told how much it may believe."""

    def __init__(self, config: EfficientUNetConfig, text: int) -> None:
        super().__init__()
        self.config = config
        self.text = TextCondition(text, config.embedding, config.text)
        self.level = TimeEmbedding(config.widths[0])
        self.unet = EfficientUNet(config)

    def forward(
        self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"],
        states: Float[Tensor, "b t e"], mask: Bool[Tensor, "b t"],
        low: Float[Tensor, "b 3 v u"], level: Float[Tensor, " b"],
    ) -> Float[Tensor, "b 3 y x"]:
        time, tokens = self.text(states, mask)
        time = time + self.unet.time(t) + self.level(1000 * level)
        both = torch.cat([x, enlarged(low, x.shape[-1])], dim=1)
        return self.unet(both, time, tokens, mask)


def base_loss(
    model: ImagenBase, images: Float[Tensor, "b 3 y x"], states: Float[Tensor, "b t e"],
    mask: Bool[Tensor, "b t"], generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """The simple loss with the cosine schedule, a tenth of the texts being dropped."""
    states, mask = drop_text(states, mask, generator=generator)
    return diffusion_loss(model, images, NoiseSchedule.cosine(), generator, states=states, mask=mask)


def upsampler_loss(
    model: ImagenUpsampler, images: Float[Tensor, "b 3 y x"], low: Float[Tensor, "b 3 v u"],
    states: Float[Tensor, "b t e"], mask: Bool[Tensor, "b t"], schedule: NoiseSchedule,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """The simple loss of an upsampler, the small picture being spoilt by a
    random amount that the model is told (eq:imagen-augmentation)."""
    states, mask = drop_text(states, mask, generator=generator)
    level = torch.rand(len(images), generator=generator).to(images)
    spoilt = augmented(low, draw(low.shape, generator).to(low), level)
    return diffusion_loss(model, images, schedule, generator, states=states, mask=mask,
                          low=spoilt, level=level)


# ---------------------------------------------------------------------------------------- whole system


class Imagen(nn.Module):
    """Texts -> pictures: T5's encoder, which is frozen, a base model and two upsamplers."""

    def __init__(self, config: ImagenConfig) -> None:
        super().__init__()
        self.config = config
        self.text = T5Encoder(config.text).requires_grad_(False)
        self.base = ImagenBase(config)
        self.first = ImagenUpsampler(config.first, config.text.width)
        self.second = ImagenUpsampler(config.second, config.text.width)

    @torch.no_grad()
    def read(
        self, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b t e"]:
        """The states of texts; ``mask`` says which tokens are real."""
        return self.text(tokens, mask)


@torch.no_grad()
def draw_pictures(
    model: Imagen, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"],
    scales: tuple[float | int, ...] = (7.5, 8.0, 8.0), level: float | int = 0.1,
    steps: tuple[int, ...] = (256, 128, 32), share: float = 0.995,
    generator: torch.Generator | None = None,
) -> list[Float[Tensor, "b 3 y x"]]:
    """Pictures in [-1, 1] of texts at the three sizes, each drawn with guidance
    and dynamic thresholding (eq:guidance-dynamic-threshold) at each step."""
    states = model.read(tokens, mask)
    drawn: list[Tensor] = []
    given = {"states": states, "mask": mask}
    empty = {name: torch.zeros_like(one) for name, one in given.items()}
    stages: tuple[tuple[Any, NoiseSchedule], ...] = (
        (model.base, NoiseSchedule.cosine()), (model.first, NoiseSchedule.cosine()),
        (model.second, NoiseSchedule.linear()))
    for (stage, schedule), scale, count in zip(stages, scales, steps):
        more = {}
        if drawn:
            levels = torch.full((len(tokens),), float(level), device=states.device)
            noise = draw(drawn[-1].shape, generator).to(states)
            more = {"low": augmented(drawn[-1], noise, levels), "level": levels}
        denoise = guided(stage, {**given, **more}, empty, float(scale))
        size = int(stage.config.size)
        drawn.append(sample(denoise, schedule.respaced(count), (len(tokens), 3, size, size), "ddpm",
                            denoised_fn=lambda x0: dynamic_threshold(x0, share),
                            generator=generator, device=states.device))
    return drawn
