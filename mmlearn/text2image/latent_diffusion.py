r"""Latent diffusion: noise is taken from a small grid of latents, of which an autoencoder makes the picture.

Paper: R. Rombach, A. Blattmann, D. Lorenz, P. Esser and B. Ommer (2022), *High-Resolution Image Synthesis
with Latent Diffusion Models*, CVPR, arXiv:2112.10752, sec. 3 and app. E; sizes of the configurations of
github.com/CompVis/latent-diffusion and github.com/CompVis/stable-diffusion.  Survey: 2.3.1. Differs from the
paper: nothing. The projections of an attention's keys and values are one matrix, those of self-attention
with the queries', too.

The U-Net is DDPM's with convolutions between levels; in the place of attention it has small transformers,
which read the picture and then the caption, layer by layer. Text comes from CLIP's frozen text tower (Stable
Diffusion) or from a transformer that is trained with the U-Net.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import Attend, MultiHeadAttention, fused_attention
from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.positions import check_tokens
from mmlearn.nn.transformer import LayerNorm32
from mmlearn.text2image.diffusion import NoiseSchedule, diffusion_loss
from mmlearn.text2image.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from mmlearn.text2image.samplers import guided, sample
from mmlearn.text2image.unet import Downsample, GroupNorm, ResidualBlock, UNet, UNetConfig, Upsample, zeroed
from mmlearn.text_for_vision.clip import TextConfig, TextTransformer


@dataclass(frozen=True)
class LatentUNetConfig(UNetConfig):
    """Sizes of a U-Net over latents; sides are those of the grid."""

    size: int = 64
    width: int = 320
    multipliers: tuple[float, ...] = (1.0, 2.0, 4.0, 4.0)
    blocks: int = 2
    attention: tuple[int, ...] = (64, 32, 16)
    in_channels: int = 4
    out_channels: int = 4
    heads: int = 8              # of every attention
    context: int = 768          # size of a token of the caption
    depth: int = 1              # layers of a transformer

    @classmethod
    def stable_diffusion(cls) -> "LatentUNetConfig":
        """Stable Diffusion 1, over CLIP's text: 859,520,964 parameters."""
        return cls()

    @classmethod
    def text_to_image(cls) -> "LatentUNetConfig":
        """The paper's for text, over a transformer of its own: 872,300,484 parameters."""
        return cls(size=32, attention=(32, 16, 8), context=1280)

    @classmethod
    def mini(cls, size: int = 16, context: int = 96, channels: int = 4) -> "LatentUNetConfig":
        """A miniature over the miniature autoencoder, whose latents have 16 or 8 places a side."""
        return cls(
            size,
            48,
            (1.0, 2.0),
            1,
            (size // 2,),
            in_channels=channels,
            out_channels=channels,
            groups=16,
            heads=4,
            context=context,
        )


@dataclass(frozen=True)
class LDMTextConfig:
    """The transformer that is trained with the paper's U-Net."""

    vocab: int = 30_522         # tokens, those of BERT
    context: int = 77           # tokens of a caption
    width: int = 1280           # d
    layers: int = 32
    heads: int = 8
    head: int = 64              # size of a head's queries; h d_k is less than d
    ff: int = 5120

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def paper(cls) -> "LDMTextConfig":
        """32 layers of width 1280: 542,895,360 parameters."""
        return cls()

    @classmethod
    def mini(cls, vocab: int = 400, context: int = 32) -> "LDMTextConfig":
        """A miniature for the scene world."""
        return cls(vocab, context, 96, 3, 3, 32, 384)


# ------------------------------------------------------------------------------------------ equations


def geglu(
    x: Float[Tensor, "*b d"], W: Float[Tensor, "d f"], V: Float[Tensor, "d f"],
    b: Float[Tensor, " f"], c: Float[Tensor, " f"],
) -> Float[Tensor, "*b f"]:
    r"""eq:ldm-geglu: $(xW+b)\odot\mathrm{GELU}(xV+c)$: one half of the inner states lets the other
    through."""
    return F.linear(x, W.mT, b) * F.gelu(F.linear(x, V.mT, c))


def signal_to_noise(
    alpha_bar: Float[Tensor, "*n"], deviation: float | int,
    scale: float | int = 1,
) -> Float[Tensor, "*n"]:
    r"""eq:ldm-snr: $\mathrm{SNR}_t=\frac{\bar\alpha_t}{1-\bar\alpha_t}(s\sigma)^2$ of latents of
    deviation $\sigma$ that are multiplied by $s$: with $s=1/\sigma$ the last step is
    nearly noise, as the sampler's start supposes."""
    return alpha_bar / (1 - alpha_bar) * (scale * deviation) ** 2


# --------------------------------------------------------------------------------------------- layers


class TokenAttention(MultiHeadAttention):
    """Rows (b, t, d) read rows ``source`` (b, s, c), or themselves, in heads (eq:attention): (b, t, d).

    Queries, keys and values have no bias. ``head`` is the size of a head, by default the heads' share of d.
    """

    attend: Attend = staticmethod(fused_attention)

    def __init__(self, width: int, heads: int, source: int | None = None, head: int | None = None) -> None:
        nn.Module.__init__(self)
        inner = heads * (head or width // heads)
        self.width, self.heads, self.causal, self.keeps_past = width, heads, False, False
        if source is None:
            self.project = nn.Linear(width, 3 * inner, bias=False)
        else:
            self.queries = nn.Linear(width, inner, bias=False)
            self.keys_values = nn.Linear(source, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b t d"], source: Float[Tensor, "b s c"] | None = None
    ) -> Float[Tensor, "b t d"]:
        if source is None:
            parts = self.project(x).chunk(3, dim=-1)
        else:
            parts = (self.queries(x), *self.keys_values(source).chunk(2, dim=-1))
        Q, K, V = (self.split(part) for part in parts)
        return self.out(self.join(self.attend(Q, K, V, None)))


class GEGLUFeedForward(nn.Module):
    """eq:ldm-geglu with 4 d inner states, then a projection back: (b, t, d) -> (b, t, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        (W, V), (b, c) = self.inner.weight.chunk(2), self.inner.bias.chunk(2)
        return self.outer(geglu(x, W.mT, V.mT, b, c))


class ReadingLayer(nn.Module):
    """Places read each other, then the caption, then a feed-forward net, each as in eq:pre-norm."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (LayerNorm32(width) for _ in range(3))
        self.self_attention = TokenAttention(width, heads)
        self.cross_attention = TokenAttention(width, heads, context)
        self.feed_forward = GEGLUFeedForward(width)

    def forward(
        self, x: Float[Tensor, "b p d"], context: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b p d"]:
        x = x + self.self_attention(self.norm1(x))
        x = x + self.cross_attention(self.norm2(x), context)
        return x + self.feed_forward(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A map as a row of places, read by a small transformer and added to what
    came in: (b, c, y, x) and tokens (b, k, e) -> (b, c, y, x). It starts as the
    identity."""

    reads = "context"

    def __init__(self, channels: int, config: LatentUNetConfig) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, config.groups, eps=1e-6)
        self.enter = nn.Linear(channels, channels)
        self.layers = nn.ModuleList(
            ReadingLayer(channels, config.heads, config.context)
            for _ in range(config.depth))
        self.leave = zeroed(nn.Linear(channels, channels))

    def forward(
        self, x: Float[Tensor, "b c y x"],
        context: Float[Tensor, "b k e"] | None = None,
    ) -> Float[Tensor, "b c y x"]:
        if context is None:
            raise ValueError("a U-Net of latent diffusion reads captions; give "
                             "context (b, k, e)")
        places = self.enter(self.norm(x).flatten(2).mT)     # b c y x -> b p c
        for layer in self.layers:
            places = layer(places, context)
        return x + self.leave(places).mT.unflatten(2, x.shape[2:])


# --------------------------------------------------------------------------------------------- U-Net


class LatentUNet(UNet):
    """Noisy latents (b, 4, g, g), timesteps (b) and tokens of captions ``context`` (b, k, e) -> the noise
    (b, 4, g, g).

    The timestep is added in residual blocks; maps are halved and doubled by convolutions.
    """

    config: LatentUNetConfig

    def residual(self, into: int, out: int, sampling: str = "same") -> ResidualBlock:
        config = self.config
        return ResidualBlock(into, out, config.embedding, config.dropout, False, sampling, config.groups)

    def attend(self, channels: int) -> SpatialTransformer:
        return SpatialTransformer(channels, self.config)

    def downsample(self, channels: int) -> Downsample:
        return Downsample(channels)

    def upsample(self, channels: int) -> Upsample:
        return Upsample(channels)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b i y x"], t: Int[Tensor, " b"],
        context: Float[Tensor, "b k e"],
    ) -> Float[Tensor, "b o y x"]:
        return self.through(x, self.time(t), context)


# ----------------------------------------------------------------------------------------------- text


class CLIPStates(TextTransformer):
    """CLIP's text tower as Stable Diffusion reads it: token ids (b, t) -> the states (b, t, d) of all tokens,
    after the last normalisation. Captions end with ``eot`` and are padded with it."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config, 1)
        del self.projection

    @property
    def width(self) -> int:
        """Size of a state."""
        return self.config.width

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        return self.tokens(tokens)


class LDMTextLayer(nn.Module):
    """eq:pre-norm with attention whose heads are narrower than the width's share: (b, t, d) -> (b, t, d)."""

    def __init__(self, config: LDMTextConfig) -> None:
        super().__init__()
        d = config.width
        self.attention_norm, self.feed_forward_norm = LayerNorm32(d), LayerNorm32(d)
        self.attention = TokenAttention(d, config.heads, head=config.head)
        self.inner, self.outer = nn.Linear(d, config.ff), nn.Linear(config.ff, d)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        x = x + self.attention(self.attention_norm(x))
        return x + self.outer(F.gelu(self.inner(self.feed_forward_norm(x))))


class LDMText(nn.Module):
    """Token ids (b, t) -> states (b, t, d), read both ways, padding like words; it is trained with the U-Net.

    Raises ``ValueError`` for captions longer than the context and ids outside the vocabulary.
    """

    def __init__(self, config: LDMTextConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab, config.width)
        self.positions = nn.Parameter(torch.empty(config.context, config.width))
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        self.layers = nn.ModuleList(LDMTextLayer(config) for _ in range(config.layers))
        self.norm_after = LayerNorm32(config.width)

    @property
    def width(self) -> int:
        """Size of a state."""
        return self.config.width

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        if tokens.shape[1] > self.config.context:
            raise ValueError(
                f"captions have {tokens.shape[1]} tokens, the model reads {self.config.context}; cut them"
            )
        check_tokens(tokens, self.config.vocab)
        x = self.words(tokens) + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.norm_after(x)


# --------------------------------------------------------------------------------------- whole systems


@dataclass(frozen=True)
class LatentDiffusionConfig:
    """A U-Net, the autoencoder whose latents it draws, and what reads captions for it."""

    unet: LatentUNetConfig = field(default_factory=LatentUNetConfig)
    first_stage: KLAutoencoderConfig = field(default_factory=KLAutoencoderConfig)
    text: TextConfig | LDMTextConfig = field(default_factory=lambda: TextConfig(width=768, heads=12))

    def __post_init__(self) -> None:
        check(self)
        if self.unet.context != self.text.width or self.unet.in_channels != self.first_stage.embed:
            raise FieldError(
                "LatentDiffusionConfig",
                "unet",
                f"reads tokens of size {self.unet.context} and "
                f"latents of {self.unet.in_channels} channels; the text's have {self.text.width}, "
                f"the autoencoder's {self.first_stage.embed}: make them the same",
            )

    @classmethod
    def stable_diffusion(cls) -> "LatentDiffusionConfig":
        """Stable Diffusion 1: U-Net 859,520,964, frozen text 123,060,480, autoencoder 83,653,863."""
        return cls()

    @classmethod
    def text_to_image(cls) -> "LatentDiffusionConfig":
        """The paper's text-to-image model, stated as 1.45B: U-Net 872,300,484 and its trained text."""
        return cls(
            LatentUNetConfig.text_to_image(), KLAutoencoderConfig.stable_diffusion(), LDMTextConfig.paper()
        )

    @classmethod
    def mini(cls, vocab: int = 400, factor: int = 4, context: int = 32) -> "LatentDiffusionConfig":
        """A miniature for scenes of 64 pixels: latents of 16 (``factor`` 4) or 8 places a side (8)."""
        return cls(LatentUNetConfig.mini(64 // factor), KLAutoencoderConfig.mini(factor),
                   LDMTextConfig.mini(vocab, context))


class LatentDiffusion(nn.Module):
    """Captions -> pictures, by way of latents. ``forward`` is the denoiser of latents: (b, c, g, g),
    timesteps (b) and ``context`` (b, k, e), which ``read`` makes of token ids.

    The first stage is frozen, and so is CLIP's text tower; the paper's own transformer is trained.
    """

    def __init__(self, config: LatentDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = LatentUNet(config.unet)
        self.first_stage = KLAutoencoder(config.first_stage).requires_grad_(False)
        self.text: CLIPStates | LDMText
        if isinstance(config.text, TextConfig):
            self.text = CLIPStates(config.text).requires_grad_(False)
        else:
            self.text = LDMText(config.text)

    @property
    def schedule(self) -> NoiseSchedule:
        """The chain of all configurations: scaled-linear, of 1000 steps."""
        return NoiseSchedule.scaled_linear()

    def read(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
        """What the U-Net reads of captions."""
        return self.text(tokens)

    def forward(
        self, x: Float[Tensor, "b c y x"], t: Int[Tensor, " b"],
        context: Float[Tensor, "b k e"],
    ) -> Float[Tensor, "b c y x"]:
        return self.unet(x, t, context)


def latent_loss(
    model: LatentDiffusion, images: Float[Tensor, "b 3 y x"],
    tokens: Int[Tensor, "b t"], generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    r"""eq:ldm-loss: $\mathrm E\|\epsilon-\epsilon_\theta(z_t,t,\tau(y))\|^2$ with
    $z=s\,\mathcal E(x)$: the simple loss, of latents."""
    z = model.first_stage.encode(images, generator=generator)
    return diffusion_loss(model, z, model.schedule, generator,
                          context=model.read(tokens))


@torch.no_grad()
def draw_pictures(
    model: LatentDiffusion, tokens: Int[Tensor, "b t"], empty: Int[Tensor, "1 t"],
    scale: float | int = 7.5, steps: int = 50, method: str = "ddim",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b 3 y x"]:
    """Pictures (b, 3, s, s), about in [-1, 1], of captions: latents are drawn
    with guidance away from the ``empty`` caption, then decoded, once."""
    config = model.config.unet
    given, none = model.read(tokens), model.read(empty)
    denoise = guided(model, {"context": given}, {"context": none.expand_as(given)},
                      float(scale))
    shape = (len(tokens), config.in_channels, config.size, config.size)
    z = sample(denoise, model.schedule.respaced(steps), shape, method, denoised_fn=None,
               generator=generator, device=given.device)
    return model.first_stage.decode(z)
