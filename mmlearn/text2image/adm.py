"""ADM, the ablated diffusion model: the U-Net of guided diffusion, its upsamplers and its classifiers.

Paper: P. Dhariwal and A. Nichol (2021), *Diffusion Models Beat GANs on Image Synthesis*, arXiv:2105.05233,
sec. 3 (architecture), sec. 4 (classifiers), tables 11 to 13 (sizes).  Survey: 2.3, 2.3.1.
Differs from the paper: nothing; ``embedding`` and ``context`` are where GLIDE's text and its successors'
conditions enter, and ``null_label`` is for classifier-free guidance, which came after the paper.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.attention import MultiHeadAttention
from mmlearn.nn.norm_activation import norm_activation
from mmlearn.text2image.unet import GroupNorm, HalfUNet, SpatialAttention, UNet, UNetConfig

Times = Float[Tensor, " b"] | Int[Tensor, " b"]
LEVELS = {64: (1, 2, 3, 4), 128: (1, 1, 2, 3, 4), 256: (1, 1, 2, 2, 4, 4), 512: (0.5, 1, 1, 2, 2, 4, 4)}


@dataclass(frozen=True)
class ADMConfig(UNetConfig):
    """Sizes of ADM's U-Nets: those of ``UNetConfig``, and how conditions enter.

    ``out_channels`` is twice the channels of a picture where the variance is learned, as in all of them.
    """

    size: int = 64
    width: int = 192
    multipliers: tuple[float | int, ...] = LEVELS[64]
    blocks: int = 3
    attention: tuple[int, ...] = (32, 16, 8)
    heads: int = 4
    head_channels: int | None = 64
    out_channels: int = 6
    classes: int | None = None              # labels; None: the model knows none
    null_label: bool = False                # one label more, ``classes``, that stands for none
    context: int | None = None              # size of the tokens that attention reads; None: it reads none

    @classmethod
    def imagenet64(cls) -> "ADMConfig":
        """ImageNet at 64 pixels: 295,904,454 parameters, 296 million in the paper."""
        return cls(dropout=0.1, classes=1000)

    @classmethod
    def imagenet128(cls) -> "ADMConfig":
        """128 pixels, four heads in every layer: 421,529,606 parameters, 422 million in the paper."""
        return cls(128, 256, LEVELS[128], 2, head_channels=None, classes=1000)

    @classmethod
    def imagenet256(cls) -> "ADMConfig":
        """256 pixels: 553,838,086 parameters, 554 million in the paper."""
        return cls(256, 256, LEVELS[256], 2, classes=1000)

    @classmethod
    def imagenet512(cls) -> "ADMConfig":
        """512 pixels: 558,997,638 parameters, 559 million in the paper."""
        return cls(512, 256, LEVELS[512], 2, classes=1000)

    @classmethod
    def lsun256(cls) -> "ADMConfig":
        """LSUN at 256 pixels, without labels; ImageNet without labels has no dropout."""
        return cls(256, 256, LEVELS[256], 2, dropout=0.1)

    @classmethod
    def upsampler256(cls) -> "ADMConfig":
        """From 64 to 256 pixels: 311,795,910 parameters, 312 million in the paper."""
        return cls(256, 192, LEVELS[256], 2, head_channels=None, in_channels=6, classes=1000)

    @classmethod
    def upsampler512(cls) -> "ADMConfig":
        """From 128 to 512 pixels; maps of 32 and 16 pixels attend."""
        return cls(512, 192, LEVELS[256], 2, (32, 16), in_channels=6, classes=1000)

    @classmethod
    def mini(cls, size: int = 32, classes: int | None = None, context: int | None = None,
             width: int = 48) -> "ADMConfig":
        """A miniature for the scene world of 3.1 million parameters; maps of a quarter of the side attend."""
        return cls(size, width, (1, 2, 2), 1, (size // 4,), heads=2, head_channels=None, groups=16,
                   classes=classes, null_label=classes is not None, context=context)

    @property
    def labels(self) -> int:
        """How many label embeddings there are."""
        return 0 if self.classes is None else self.classes + self.null_label


@dataclass(frozen=True)
class NoisyClassifierConfig(UNetConfig):
    """Sizes of the classifiers that guide; ``out_channels`` is the number of labels."""

    size: int = 64
    width: int = 128
    multipliers: tuple[float | int, ...] = LEVELS[64]
    blocks: int = 4
    attention: tuple[int, ...] = (32, 16, 8)
    head_channels: int | None = 64
    out_channels: int = 1000

    @classmethod
    def imagenet64(cls) -> "NoisyClassifierConfig":
        """64 pixels, four blocks a level: 65,438,568 parameters, 65 million in the paper."""
        return cls()

    @classmethod
    def imagenet128(cls) -> "NoisyClassifierConfig":
        """128 pixels."""
        return cls(128, multipliers=LEVELS[128], blocks=2)

    @classmethod
    def imagenet256(cls) -> "NoisyClassifierConfig":
        """256 pixels."""
        return cls(256, multipliers=LEVELS[256], blocks=2)

    @classmethod
    def imagenet512(cls) -> "NoisyClassifierConfig":
        """512 pixels."""
        return cls(512, multipliers=LEVELS[512], blocks=2)

    @classmethod
    def mini(cls, size: int = 32, classes: int = 8) -> "NoisyClassifierConfig":
        """A miniature for the scene world."""
        return cls(size, 32, (1, 2, 3), 1, (size // 4,), heads=2, head_channels=None, groups=16,
                   out_channels=classes)


# -------------------------------------------------------------------------------------------------- equations


def drop_labels(
    labels: Int[Tensor, " b"], null: int, probability: float | int,
    generator: torch.Generator | None = None
) -> Int[Tensor, " b"]:
    r"""eq:adm-drop: $y'=\varnothing$ with probability $p$, else $y$: labels of which some become
    ``null``, so that one network learns with and without them."""
    drawn = torch.rand(labels.shape, generator=generator)
    return labels.masked_fill((drawn < probability).to(labels.device), null)


# ----------------------------------------------------------------------------------------------------- models


class ADMUNet(UNet):
    """Noisy pictures (b, 3, s, s) and timesteps (b) -> the noise and, after it, what the variance is made of
    (b, 6, s, s).

    ``labels`` (b) are embedded and ``embedding`` (b, 4 w) is added to the timestep's; ``context`` (b, k, e)
    are tokens that every attention layer reads. Raises ``ValueError`` for conditions that the model has no
    use for.
    """

    config: ADMConfig

    def __init__(self, config: ADMConfig) -> None:
        super().__init__(config)
        self.label = nn.Embedding(config.labels, config.embedding) if config.labels else None

    def attend(self, channels: int) -> SpatialAttention:
        config = self.config
        return SpatialAttention(channels, config.heads_of(channels), config.context, config.groups, self.eps)

    def embed(
        self, t: Times, embedding: Float[Tensor, "b e"] | None = None,
        labels: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b e"]:
        """The sum of the embeddings of timestep, label and whatever else."""
        whole = self.time(t)
        if labels is not None:
            if self.label is None:
                raise ValueError("labels were given to a U-Net without classes; build it with classes=n")
            whole = whole + self.label(labels)
        return whole if embedding is None else whole + embedding

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b i y x"], t: Times, embedding: Float[Tensor, "b e"] | None = None,
        context: Float[Tensor, "b k w"] | None = None, labels: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b o y x"]:
        return self.through(x, self.embed(t, embedding, labels), context)


class ADMUpsampler(ADMUNet):
    """An ``ADMUNet`` that also sees the small picture ``low`` (b, 3, r, r), enlarged to its own size by
    bilinear interpolation in the channels after the noisy one."""

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b i y x"], t: Times, low: Float[Tensor, "b j v u"],
        embedding: Float[Tensor, "b e"] | None = None, context: Float[Tensor, "b k w"] | None = None,
        labels: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b o y x"]:
        low = F.interpolate(low, x.shape[2:], mode="bilinear", align_corners=False)
        return super().forward(torch.cat([x, low.to(x)], dim=1), t, embedding, context, labels)


class AttentionPool(MultiHeadAttention):
    """One vector from a map, (b, c, y, x) -> (b, o): the mean of all places reads the mean and the places,
    each with an embedding of where it is."""

    def __init__(self, channels: int, heads: int, places: int, out: int) -> None:
        super().__init__(channels, heads)
        self.out = nn.Linear(channels, out)
        self.places = nn.Parameter(torch.empty(places + 1, channels).normal_(0, channels**-0.5))
        bound = channels**-0.5                          # as PyTorch starts a 1 x 1 convolution
        nn.init.uniform_(self.in_weight, -bound, bound)
        nn.init.uniform_(self.in_bias, -bound, bound)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b o"]:  # type: ignore[override]
        tokens = x.flatten(2).mT                                            # b c y x -> b (y x) c
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + self.places.to(x.dtype)
        K, V = self.project_source(tokens)
        read = self.read(self.project_queries(tokens[:, :1]), K, V, None)
        return self.out(self.join(read)).squeeze(1)


class NoisyClassifier(HalfUNet):
    """Noisy pictures (b, 3, s, s) and timesteps (b) -> logits (b, k) of the labels: the way down of a U-Net,
    then attention pooling."""

    def __init__(self, config: NoisyClassifierConfig) -> None:
        super().__init__(config)
        channels, side = config.widths[-1], config.size >> (len(config.widths) - 1)
        self.norm = GroupNorm(channels, config.groups, self.eps)
        self.pool = AttentionPool(channels, config.heads_of(channels), side * side, config.out_channels)

    def forward(self, x: Float[Tensor, "b i y x"], t: Times) -> Float[Tensor, "b k"]:
        x, _ = self.descend(x, self.time(t))
        return self.pool(norm_activation(x, self.norm))
