r"""Noised CLIP: a CLIP that knows how noisy a picture is, so that it can say which way a half-drawn one
should go.

Paper: A. Nichol et al. (2021), *GLIDE*, ICML 2022, arXiv:2112.10741, sec. 2.3 and 4.3; sizes of the released
one in github.com/openai/glide-text2im (``clip/config.yaml``).  Survey: 2.3.
Differs from the paper: its noised CLIP is a ViT-L, which was not released; the released one is a ViT-B with
patches of 4 pixels, whose scale is fixed at 100.

CLIP's class token is replaced by a learned vector of the timestep. Keys have no bias: it would add the same
number to all scores of a query, which the softmax takes away again. A guide's gradient (eq:guidance-clip) is
that of ``mmlearn.text2image.samplers``.
"""

import math
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.images import standardise
from mmlearn.nn.attention import MultiHeadAttention
from mmlearn.nn.configuration import check
from mmlearn.nn.transformer import LayerNorm32, PreNormEncoderLayer
from mmlearn.nn.vision import PatchEmbedding
from mmlearn.nn.vit import ViTConfig
from mmlearn.text2image.diffusion import NoiseSchedule, draw, noised, per_example
from mmlearn.text2image.samplers import Guide, clip_guide
from mmlearn.text_for_vision.clip import TextConfig, TextTransformer, read_at_eot
from mmlearn.text_for_vision.contrastive import clip_loss


@dataclass(frozen=True)
class NoisedCLIPConfig:
    embed: int = 512                        # e, size of the joint embedding
    image: ViTConfig = field(default_factory=lambda: ViTConfig(64, 4, 768, 12, 12))
    text: TextConfig = field(default_factory=lambda: TextConfig(65_536))
    steps: int = 1000                       # T, timesteps
    scale: float = 100.0                    # of the cosines, e^tau; where a training starts, if it is learned
    learned_scale: bool = False             # is it a parameter?

    def __post_init__(self) -> None:
        check(self, scale=(1e-6, 1e6))

    @classmethod
    def released(cls) -> "NoisedCLIPConfig":
        """The released one, for pictures of 64 pixels: 71,679,488 parameters read and 86,443,776 see."""
        return cls()

    @classmethod
    def mini(cls, vocab: int = 400, eot: int = 3, size: int = 32, context: int = 24) -> "NoisedCLIPConfig":
        """A miniature for the scene world, at 32 pixels, with word tokens."""
        return cls(64, ViTConfig(size, 4, 96, 4, 3), TextConfig(vocab, context, 96, 3, 3, eot),
                   scale=1 / 0.07, learned_scale=True)


# -------------------------------------------------------------------------------------------------- equations


def noised_embed(
    patches: Float[Tensor, "b p d"], time: Float[Tensor, "b d"],
    positions: Float[Tensor, "p_and_1 d"]
) -> Float[Tensor, "b p_and_1 d"]:
    r"""eq:noised-clip-embed: $z_0=[w_t;\,x_1E;\dots;x_pE]+E_{\mathrm{pos}}$: a vector of the
    timestep stands where CLIP has its class token."""
    return torch.cat([time[:, None], patches], dim=1) + positions


def as_clip_sees(x: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b 3 y x"]:
    r"""eq:noised-clip-pixels: $\big(\frac{x+1}2-\mu\big)/\sigma$ with CLIP's mean and deviation of
    a colour; noisy pixels may lie anywhere."""
    return standardise((x + 1) / 2)


# ----------------------------------------------------------------------------------------------------- towers


class AttentionWithoutKeyBias(MultiHeadAttention):
    """Self-attention whose keys have no bias: (b, t, d) -> (b, t, d). ``in_bias`` (2 d) is that of queries
    and values."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__(width, heads, causal)
        self.in_bias = nn.Parameter(torch.zeros(2 * width))

    def project_all(
        self, x: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b h t e"], Float[Tensor, "b h t e"]]:
        of_queries, of_values = self.in_bias.chunk(2)
        bias = torch.cat([of_queries, torch.zeros_like(of_queries), of_values])
        Q, K, V = F.linear(x, self.in_weight, bias).chunk(3, dim=-1)
        return self.split(Q), self.split(K), self.split(V)


def layer(width: int, heads: int, layers: int, causal: bool, eps: float) -> PreNormEncoderLayer:
    """A pre-norm layer, initialised as the released code does it: narrower where it adds to the residual."""
    attention = AttentionWithoutKeyBias(width, heads, causal)
    made = PreNormEncoderLayer(width, heads, 4 * width, activation=nn.GELU, attention=attention,
                               layer_norm=partial(LayerNorm32, eps=eps))
    onto = 1 / math.sqrt(width * (2 * layers) ** 2)
    for weight, std in ((attention.in_weight, width**-0.5), (attention.out.weight, onto),
                        (made.feed_forward.inner.weight, (2 * width) ** -0.5),
                        (made.feed_forward.outer.weight, onto)):
        nn.init.normal_(weight, std=std)
    return made


class NoisedTextTransformer(TextTransformer):
    """CLIP's text tower with GELU and without a bias of keys: captions (b, t) of token ids -> (b, e)."""

    def __init__(self, config: TextConfig, embed: int) -> None:
        super().__init__(config, embed, nn.GELU)
        self.layers = nn.ModuleList(layer(config.width, config.heads, config.layers, True, config.eps)
                                    for _ in range(config.layers))

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b e"]:
        return read_at_eot(self.tokens(tokens), tokens, self.config.eot) @ self.projection


class NoisedVisionTransformer(nn.Module):
    """Noisy pictures (b, 3, s, s) in [-1, 1] where there is no noise, and timesteps (b) -> embeddings (b, e)
    (eq:noised-clip-pixels, eq:noised-clip-embed, eq:pre-norm).

    The embedding is read off where the timestep stood. Raises ``ValueError`` for pictures of another size and
    timesteps that were not trained.
    """

    def __init__(self, config: ViTConfig, embed: int, steps: int) -> None:
        super().__init__()
        self.config, self.steps = config, steps
        d, std = config.width, config.width**-0.5
        self.patches = PatchEmbedding(config.patch, d, bias=False)
        self.times = nn.Parameter(std * torch.randn(steps, d))
        self.positions = nn.Parameter(std * torch.randn(config.grid**2 + 1, d))
        self.norm_before = LayerNorm32(d, eps=config.eps)
        self.layers = nn.ModuleList(layer(d, config.heads, config.layers, False, config.eps)
                                    for _ in range(config.layers))
        self.norm_after = LayerNorm32(d, eps=config.eps)
        self.projection = nn.Parameter(std * torch.randn(d, embed))
        nn.init.normal_(self.patches.project.weight, std=math.sqrt(2 / (d * config.patch**2)))

    def forward(self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"]) -> Float[Tensor, "b e"]:
        size = self.config.size
        if tuple(x.shape[-2:]) != (size, size):
            raise ValueError(f"pictures are {x.shape[-2]} x {x.shape[-1]} pixels, the model wants {size} x "
                             f"{size}; guide the base model, which draws this size")
        if t.numel() and not t.is_meta and not 0 <= int(t.min()) <= int(t.max()) < self.steps:
            raise ValueError(f"timesteps go from {int(t.min())} to {int(t.max())}, those that were trained "
                             f"from 0 to {self.steps - 1}; give the timesteps of the whole schedule")
        x = self.norm_before(noised_embed(self.patches(as_clip_sees(x)), self.times[t], self.positions))
        for one in self.layers:
            x = one(x)
        return self.norm_after(x[:, 0]) @ self.projection


class NoisedCLIP(nn.Module):
    """Noisy pictures and captions as unit vectors of one space, and the scale of their products.

    ``encode_image``: pictures (b, 3, s, s) and timesteps (b) -> (b, e); ``encode_text``: token ids (b, t) ->
    (b, e). ``forward``: (u, v, scale), both sides of length 1. ``guide`` steers a sampler towards captions.
    """

    def __init__(self, config: NoisedCLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.image = NoisedVisionTransformer(config.image, config.embed, config.steps)
        self.text = NoisedTextTransformer(config.text, config.embed)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(config.scale)),
                                        requires_grad=config.learned_scale)

    def encode_image(
        self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        return F.normalize(self.image(x, t), dim=-1)

    def encode_text(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b e"]:
        return F.normalize(self.text(tokens), dim=-1)

    def forward(
        self, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"], tokens: Int[Tensor, "c t"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "c e"], Float[Tensor, ""]]:
        return self.encode_image(x, t), self.encode_text(tokens), self.logit_scale.exp()

    @torch.no_grad()
    def guide(self, tokens: Int[Tensor, "b t"], scale: float | int = 1.0) -> Guide:
        """For a sampler: which way (b, 3, s, s) noisy pictures should go to fit the captions (b, t),
        ``scale`` times."""
        return clip_guide(self.image, self.encode_text(tokens), scale, float(self.logit_scale.exp()))


def clip_gradient(
    model: NoisedCLIP, x: Float[Tensor, "b 3 y x"], t: Int[Tensor, " b"],
    tokens: Int[Tensor, "b t"], scale: float | int = 1.0
) -> Float[Tensor, "b 3 y x"]:
    """eq:guidance-clip at one moment of a chain: the gradient of how well noisy pictures fit their
    captions."""
    return model.guide(tokens, scale)(x, t)


def noised_clip_loss(
    model: NoisedCLIP, images: Float[Tensor, "b 3 y x"], tokens: Int[Tensor, "b t"],
    schedule: NoiseSchedule, generator: torch.Generator | None = None
) -> Float[Tensor, ""]:
    """eq:clip-loss of pictures that were noised to a step each (eq:diffusion-marginal): chapter 4's loss, in
    nats."""
    i = torch.randint(len(schedule), (len(images),), generator=generator)
    noise = draw(images.shape, generator).to(images)
    x = noised(images, noise, per_example(schedule.alpha_bars, i, images))
    return clip_loss(*model(x, schedule.timesteps[i].to(images.device), tokens))
