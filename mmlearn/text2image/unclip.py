r"""unCLIP (DALL-E 2): a decoder that draws the picture of a CLIP embedding, and what enlarges its pictures.

Paper: A. Ramesh, P. Dhariwal, A. Nichol, C. Chu and M. Chen (2022), *Hierarchical Text-Conditional Image
Generation with CLIP Latents*, arXiv:2204.06125, sec. 2.1 and table 3. Karlo's sizes are those of the
configurations of github.com/kakaobrain/karlo (D. Lee et al., 2022).  Survey: 2.3.1. Differs from the paper:
captions are of GLIDE's tokens and padding; the paper has no caption's vocabulary. The low resolution is
enlarged bilinearly, as in GLIDE. The second upsampler's training pictures are to be spoilt by the BSR
degradation of another paper, which is no part of this module; the first one's Gaussian blur is. In Karlo the
padding of a caption is masked, here it is attended to, as in GLIDE.

The embedding enters twice, beside the text and not in the place of the noise: it is projected and added to
the timestep's embedding, and projected to four tokens that stand before the caption's in every attention
layer. The picture starts as noise, as ever. Where embeddings come from is ``unclip_prior``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import FieldError, check
from mmlearn.text2image.adm import ADMConfig, ADMUNet
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.glide import GLIDEText, GLIDETextConfig, enlarged
from mmlearn.text2image.samplers import guided, sample


@dataclass(frozen=True)
class UnCLIPConfig:
    unet: ADMConfig = field(default_factory=lambda: ADMConfig(width=512, dropout=0.1, context=2048))
    text: GLIDETextConfig = field(default_factory=lambda: GLIDETextConfig(50_257, 256, 2048, 24, 32))
    embed: int = 1024           # e, size of CLIP's embeddings
    tokens: int = 4             # tokens of context that an embedding becomes

    def __post_init__(self) -> None:
        check(self)
        check_context(self, self.text.width)

    @classmethod
    def paper(cls) -> "UnCLIPConfig":
        """DALL-E 2's decoder at 64 pixels, table 3: stated as 3.5B, 3,565,435,398 here."""
        return cls()

    @classmethod
    def mini(cls, vocab: int = 400, size: int = 32, embed: int = 64, context: int = 32) -> "UnCLIPConfig":
        """A miniature over the miniature CLIP of chapter 4."""
        return cls(ADMConfig.mini(size, context=64), GLIDETextConfig(vocab, context, 64, 2, 4), embed)


@dataclass(frozen=True)
class KarloConfig:
    unet: ADMConfig = field(default_factory=lambda: ADMConfig(width=320, dropout=0.1, context=1536))
    states: int = 768           # size of a token's state in CLIP's text tower
    embed: int = 768            # e, size of CLIP's embeddings
    tokens: int = 4             # tokens of context that an embedding becomes

    def __post_init__(self) -> None:
        check(self)
        check_context(self, self.unet.context)

    @classmethod
    def released(cls) -> "KarloConfig":
        """Karlo's decoder over CLIP ViT-L/14: stated as 900M, 893,318,086 here."""
        return cls()

    @classmethod
    def mini(cls, size: int = 32, states: int = 96, embed: int = 64) -> "KarloConfig":
        """A miniature over the miniature CLIP of chapter 4."""
        return cls(ADMConfig.mini(size, context=64), states, embed)


def check_context(config: UnCLIPConfig | KarloConfig, width: int | None) -> None:
    """Refuse a U-Net that reads no tokens, or tokens of another size than ``width``."""
    if width is None or config.unet.context != width:
        raise FieldError(
            type(config).__name__,
            "unet",
            f"reads tokens of size {config.unet.context}, those of "
            f"the text have {width}; make context and width the same",
        )


@dataclass(frozen=True)
class UpsamplerConfig(ADMConfig):
    """Sizes of a U-Net that enlarges: ADM's, without attention."""

    low: int = 64               # pixels a side of what is enlarged

    @classmethod
    def to_256(cls) -> "UpsamplerConfig":
        """DALL-E 2's first, from 64 to 256 pixels: stated as 700M, 729,710,726 here."""
        return cls(256, 320, (1.0, 2.0, 3.0, 4.0), 3, (), in_channels=6, low=64)

    @classmethod
    def to_1024(cls) -> "UpsamplerConfig":
        """DALL-E 2's second, from 256 to 1024 pixels: stated as 300M, 282,064,326 here."""
        return cls(1024, 192, (1.0, 1.0, 2.0, 2.0, 4.0, 4.0), 2, (), in_channels=6, low=256)

    @classmethod
    def mini(cls, size: int = 64) -> "UpsamplerConfig":  # type: ignore[override]
        """A miniature for the scene world, to twice the side."""
        return cls(size, 16, (1.0, 2.0, 3.0), 1, (), in_channels=6, groups=8, head_channels=16, low=size // 2)


# ------------------------------------------------------------------------------------------ equations


def embedding_tokens(
    z: Float[Tensor, "b e"], W: Float[Tensor, "e n"],
    bias: Float[Tensor, " n"], k: int,
) -> Float[Tensor, "b k w"]:
    r"""eq:unclip-tokens: $(c_1,\dots,c_4)=zW_c+b_c$, cut into four: an embedding as tokens of
    context."""
    return (z @ W + bias).unflatten(1, (k, -1))


def condition_time(
    z: Float[Tensor, "b e"], W: Float[Tensor, "e w"],
    bias: Float[Tensor, " w"], text: Float[Tensor, "b w"],
) -> Float[Tensor, "b w"]:
    r"""eq:unclip-time: $e=zW_e+b_e+e_y$, what is added to the timestep's embedding: the
    picture's embedding and a vector of the caption, both projected."""
    return torch.addmm(bias, z, W) + text


def drop_embedding(
    z: Float[Tensor, "b e"], nothing: Float[Tensor, " e"],
    rate: float | int = 0.1, generator: torch.Generator | None = None,
) -> Float[Tensor, "b e"]:
    r"""eq:unclip-drop: $z\leftarrow\varnothing$ with probability 0.1, a learned embedding; the
    caption is dropped apart from it, with probability 0.5."""
    dropped = torch.rand(len(z), generator=generator) < rate
    return torch.where(dropped.to(z.device)[:, None], nothing, z)


def blurred(
    x: Float[Tensor, "b c y x"], sigma: float | int = 0.6
) -> Float[Tensor, "b c y x"]:
    r"""eq:unclip-blur: $\sum_{|i|,|j|\le1}k_ik_jx_{y+i,x+j}$,
    $k_i\propto e^{-i^2/2\sigma^2}$: the low resolution as the first upsampler
    is trained on it, so that what a decoder draws need not be as sharp as data."""
    k = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / (2 * sigma**2)).to(x)
    k = k / k.sum()
    kernel = (k[:, None] * k).expand(x.shape[1], 1, 3, 3)
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernel, groups=x.shape[1])


# --------------------------------------------------------------------------------------------- models


class UnCLIPDecoder(nn.Module):
    """Noisy pictures (b, 3, s, s), timesteps (b), CLIP embeddings (b, e) and captions (b, t) of token ids ->
    the noise, and after it what the variance is made of (b, 6, s, s) (eq:unclip-time, eq:unclip-tokens).

    GLIDE's model, into which an embedding enters. A caption may be empty: most of what is drawn stands in the
    embedding.
    """

    def __init__(self, config: UnCLIPConfig) -> None:
        super().__init__()
        self.config = config
        time = config.unet.embedding
        self.text = GLIDEText(config.text, time)
        self.unet = ADMUNet(config.unet)
        self.to_time = nn.Linear(config.embed, time)
        self.to_tokens = nn.Linear(config.embed, config.tokens * config.text.width)
        self.nothing = nn.Parameter(torch.zeros(config.embed))

    def conditions(self, z: Float[Tensor, "b e"], caption: Int[Tensor, "b t"]) -> dict[str, Tensor]:
        """What the decoder is called with."""
        return {"z": z, "caption": caption}

    def empty(self, n: int) -> dict[str, Tensor]:
        """The same of n pictures about which nothing is known."""
        pad, device = self.config.text.pad, self.nothing.device
        caption = torch.full((n, self.config.text.context), pad, device=device)
        return {"z": self.nothing.expand(n, -1), "caption": caption}

    def forward(
        self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"],
        z: Float[Tensor, "b e"], caption: Int[Tensor, "b t"],
    ) -> Float[Tensor, "b o y x"]:
        read = self.text(caption)
        W, bias = self.to_tokens.weight.mT, self.to_tokens.bias
        tokens = embedding_tokens(z, W, bias, self.config.tokens)
        time = condition_time(z, self.to_time.weight.mT, self.to_time.bias,
                              read.summary)
        return self.unet(x, t, time, torch.cat([tokens, read.states], dim=1))


class KarloDecoder(nn.Module):
    """The same over CLIP's text tower instead of a transformer of its own: ``states`` (b, t, s) of all tokens
    and the embedding ``text`` (b, e) of the caption."""

    def __init__(self, config: KarloConfig) -> None:
        super().__init__()
        self.config = config
        time, context = config.unet.embedding, config.unet.context or 0
        self.unet = ADMUNet(config.unet)
        self.to_time, self.text_to_time = nn.Linear(config.embed, time), nn.Linear(config.embed, time)
        self.to_tokens = nn.Linear(config.embed, config.tokens * context)
        self.states_in, self.states_norm = nn.Linear(config.states, context), nn.LayerNorm(context)
        self.nothing = nn.Parameter(torch.zeros(config.embed))

    def conditions(
        self, z: Float[Tensor, "b e"], states: Float[Tensor, "b t s"], text: Float[Tensor, "b e"]
    ) -> dict[str, Tensor]:
        """What the decoder is called with."""
        return {"z": z, "states": states, "text": text}

    def empty(
        self, n: int, states: Float[Tensor, "1 t s"], text: Float[Tensor, "1 e"]
    ) -> dict[str, Tensor]:
        """The same of n pictures about which nothing is known; ``states`` and ``text`` are those of the empty
        caption."""
        return {"z": self.nothing.expand(n, -1), "states": states.expand(n, -1, -1),
                "text": text.expand(n, -1)}

    def forward(
        self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"], z: Float[Tensor, "b e"],
        states: Float[Tensor, "b t s"], text: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b o y x"]:
        W, bias = self.to_tokens.weight.mT, self.to_tokens.bias
        tokens = embedding_tokens(z, W, bias, self.config.tokens)
        time = condition_time(z, self.to_time.weight.mT, self.to_time.bias, self.text_to_time(text))
        read = self.states_norm(self.states_in(states))
        return self.unet(x, t, time, torch.cat([tokens, read], dim=1))


class Nothing(nn.Identity):
    """In the place of an attention layer."""

    reads = ""


class UnCLIPUpsampler(ADMUNet):
    """Noisy pictures (b, 3, s, s), timesteps (b) and small pictures ``low`` -> noise and variance (b, 6, s,
    s).

    It knows no caption and has no attention, so that it may be trained on crops of a quarter of the side and
    used on whole pictures: any side will do that can be halved as often as the U-Net halves it.
    """

    def attend(self, channels: int) -> Nothing:  # type: ignore[override]
        return Nothing()

    def descend(
        self, x: Float[Tensor, "b i y x"], embedding: Float[Tensor, "b e"],
        context: Float[Tensor, "b k w"] | None = None
    ) -> tuple[Float[Tensor, "b c v u"], list[Tensor]]:
        least = 2 ** (len(self.config.widths) - 1)
        if x.shape[2] % least or x.shape[3] % least:
            raise ValueError(f"maps are {x.shape[2]} x {x.shape[3]}, the upsampler halves them "
                             f"{len(self.config.widths) - 1} times; give sides that {least} divides")
        kept = [self.conv_in(x.contiguous(memory_format=torch.channels_last))]
        for stage in self.down:
            kept.append(stage(kept[-1], embedding))
        return self.middle(kept[-1], embedding), kept

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"],
        low: Float[Tensor, "b 3 v u"],
    ) -> Float[Tensor, "b o y x"]:
        both = torch.cat([x, enlarged(low, x.shape[-1])], dim=1)
        return self.through(both, self.embed(t))


def crop_both(
    high: Float[Tensor, "b 3 y x"], low: Float[Tensor, "b 3 v u"], share: int = 4,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "b 3 g h"], Float[Tensor, "b 3 i j"]]:
    """The same place of pictures and of their small versions, ``share`` times smaller a side: what an
    upsampler is trained on. Raises ``ValueError`` where ``share`` divides no side of the small ones."""
    if low.shape[-1] % share or low.shape[-2] % share:
        raise ValueError(
            f"small pictures of {low.shape[-2]} x {low.shape[-1]} pixels have no {share}th part; "
            "choose a share that divides their sides"
        )
    f, h, w = high.shape[-1] // low.shape[-1], low.shape[-2] // share, low.shape[-1] // share
    y, x = (int(torch.randint(side - part + 1, (), generator=generator))
            for side, part in ((low.shape[-2], h), (low.shape[-1], w)))
    return (high[..., f * y : f * (y + h), f * x : f * (x + w)], low[..., y : y + h, x : x + w])


@torch.no_grad()
def draw_pictures(
    decoder: UnCLIPDecoder | KarloDecoder, conditions: Mapping[str, Tensor], empty: Mapping[str, Tensor],
    upsamplers: tuple[UnCLIPUpsampler, ...] = (), scale: float | int = 1.0,
    steps: tuple[int, ...] = (250, 27, 15), generator: torch.Generator | None = None,
) -> Float[Tensor, "b 3 y x"]:
    """Pictures in [-1, 1] of embeddings: drawn small with guidance, then
    enlarged without.

    ``steps`` are the paper's: ancestral ones of the decoder (cosine schedule), DDIM's of the first
    upsampler (cosine) and the second (linear).
    """
    config = decoder.config.unet
    n = len(next(iter(conditions.values())))
    denoise = guided(decoder, conditions, empty, float(scale))
    schedules = (NoiseSchedule.cosine(), NoiseSchedule.cosine(), NoiseSchedule.linear())
    x = sample(denoise, schedules[0].respaced(steps[0]), (n, 3, config.size, config.size),
               "ddpm", generator=generator)
    for up, schedule, count in zip(upsamplers, schedules[1:], steps[1:]):
        low, size = x, int(up.config.size)
        x = sample(lambda x, t, up=up, low=low: up(x, t, low=low), schedule.respaced(count),
                   (n, 3, size, size), "ddim", generator=generator)
    return x
