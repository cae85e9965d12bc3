"""ADM, the ablated diffusion model: the U-Net of guided diffusion, whose successors read text.

Paper: P. Dhariwal and A. Nichol (2021), *Diffusion Models Beat GANs on Image Synthesis*, arXiv:2105.05233, sec. 3
(architecture), tables 11 to 13 (sizes), app. G (upsamplers), sec. 4 and app. I (classifier guidance).
Survey: 2.3, 2.3.1.
Differs from the paper: nothing; ``embedding`` and ``context`` are GLIDE's, through which conditions enter.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import FieldError
from mmlearn.text2image.unet import ResidualBlock, SpatialAttention, UNet, UNetConfig


@dataclass(frozen=True)
class ADMConfig(UNetConfig):
    """Sizes of ADM's U-Nets; those of ``UNetConfig``, and how heads are cut and conditions enter.

    Sides of ``attention`` are pixels. ``out_channels`` is twice the channels of a picture where the variance
    is learned.
    """

    size: int = 64
    width: int = 192
    multipliers: tuple[float, ...] = (1, 2, 3, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (32, 16, 8)
    out_channels: int = 6
    head_channels: int | None = 64          # channels of a head; None: ``heads`` of them in every layer
    heads: int = 4
    classes: int | None = None              # labels; None: the model knows none
    null_label: bool = False                # one label more, ``classes``, that stands for none
    context: int | None = None              # size of the tokens that attention reads; None: it reads none

    @classmethod
    def imagenet64(cls) -> "ADMConfig":
        """ImageNet at 64 pixels: 295,904,454 parameters."""
        return cls(dropout=0.1, classes=1000)

    @classmethod
    def imagenet128(cls) -> "ADMConfig":
        """128 pixels, 4 heads in every layer: 421,529,606 parameters."""
        return cls(128, 256, (1, 1, 2, 3, 4), 2, head_channels=None, classes=1000)

    @classmethod
    def imagenet256(cls) -> "ADMConfig":
        """256 pixels: 553,838,086 parameters."""
        return cls(256, 256, (1, 1, 2, 2, 4, 4), 2, classes=1000)

    @classmethod
    def imagenet512(cls) -> "ADMConfig":
        """512 pixels: 558,997,638 parameters."""
        return cls(512, 256, (0.5, 1, 1, 2, 2, 4, 4), 2, classes=1000)

    @classmethod
    def upsampler256(cls) -> "ADMConfig":
        """From 64 to 256 pixels, the small picture in three more channels: 311,795,910 parameters."""
        return cls(256, 192, (1, 1, 2, 2, 4, 4), 2, in_channels=6, head_channels=None, classes=1000)

    @classmethod
    def mini(cls, size: int = 32, classes: int | None = None, context: int | None = None) -> "ADMConfig":
        """A miniature for the scene world of 2.5 million parameters."""
        return cls(size, 48, (1, 2, 3), 1, (8,), groups=16, head_channels=48, classes=classes,
                   null_label=classes is not None, context=context)

    @property
    def labels(self) -> int:
        """How many label embeddings there are."""
        return 0 if self.classes is None else self.classes + self.null_label

    def heads_of(self, channels: int) -> int:
        """How many heads attention over so many channels has."""
        return self.heads if self.head_channels is None else channels // self.head_channels

    def __post_init__(self) -> None:
        super().__post_init__()
        for channels in self.attending:
            if self.heads_of(channels) < 1 or channels % self.heads_of(channels) or (
                    self.head_channels is not None and channels % self.head_channels):
                name, value = (("heads", self.heads) if self.head_channels is None
                               else ("head_channels", self.head_channels))
                raise FieldError("ADMConfig", name, f"is {value}, which does not divide the {channels} "
                                 "channels of a layer that attends; choose a number that does")

    @property
    def attending(self) -> tuple[int, ...]:
        """Channels of the layers that attend, the middle's among them."""
        sides = [self.size // 2**level for level in range(len(self.widths))]
        return *(w for w, side in zip(self.widths, sides) if side in self.attention), self.widths[-1]


def drop_labels(
    labels: Int[Tensor, " b"], null: int, probability: float,
    generator: torch.Generator | None = None
) -> Int[Tensor, " b"]:
    """Labels of which a share is replaced by ``null``, that of no label: training for classifier-free
    guidance."""
    drawn = torch.rand(labels.shape, generator=generator, device=labels.device)
    return labels.masked_fill(drawn < probability, null)


class ADMUNet(UNet):
    """Noisy pictures (b, 3, s, s) and timesteps (b) -> the noise and, after it, what the variance is made of
    (b, 6, s, s).

    ``labels`` (b) are embedded and ``embedding`` (b, 4 w) is added to the timestep's; ``context`` (b, k, e)
    are tokens that every attention layer reads. Raises ``ValueError`` for conditions the model has no use
    for.
    """

    config: ADMConfig

    def __init__(self, config: ADMConfig) -> None:
        super().__init__(config)
        self.label = nn.Embedding(config.labels, config.embedding) if config.labels else None

    def attend(self, channels: int) -> SpatialAttention:
        config = self.config
        return SpatialAttention(channels, config.heads_of(channels), config.context, config.groups)

    def embed(
        self, t: Float[Tensor, " b"] | Int[Tensor, " b"], embedding: Float[Tensor, "b e"] | None = None,
        labels: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b e"]:
        """The sum of what is added to the timestep's embedding."""
        whole = self.time(t)
        if labels is not None:
            if self.label is None:
                raise ValueError("labels were given to a U-Net without classes; build it with classes=n")
            whole = whole + self.label(labels)
        return whole if embedding is None else whole + embedding

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b i y x"], t: Float[Tensor, " b"] | Int[Tensor, " b"],
        embedding: Float[Tensor, "b e"] | None = None, context: Float[Tensor, "b k w"] | None = None,
        labels: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b o y x"]:
        return self.through(x, self.embed(t, embedding, labels), context)
