"""The Vision Transformer as it was published: a picture as a sentence of patches, read for its class.

Paper: A. Dosovitskiy et al. (2021), *An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale*, ICLR, arXiv:2010.11929, sec. 3.1 and 3.2, table 1.  Survey: 5.1 (4.2.2 has CLIP's variant, whose parts
are used here: ``mmlearn.nn.vit``).
Differs from the paper: no dropout, which the paper uses in some of its pre-training; one linear layer as
head, as in fine-tuning (pre-training has a hidden layer with a tanh there).

Unlike CLIP's variant patches are projected with a bias, nothing is normalised before the first layer, the
activation is GELU and the epsilon of normalisation 1e-6.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.transformer import LayerNorm32
from mmlearn.nn.vision import PatchEmbedding
from mmlearn.nn.vit import ViTConfig, image_layer, resize_positions, vit_embed


@dataclass(frozen=True)
class ViTClassifierConfig(ViTConfig):
    """Sizes of the paper's table 1; feed-forward nets are four times as wide as states."""

    patch: int = 16             # P, pixels a side of a patch
    eps: float = 1e-6           # of layer normalisation

    @classmethod
    def base_16(cls) -> "ViTClassifierConfig":
        """ViT-B/16: 85,798,656 parameters without a head; the paper says 86 M."""
        return cls()

    @classmethod
    def large_16(cls) -> "ViTClassifierConfig":
        """ViT-L/16: 303,301,632 parameters without a head; the paper says 307 M."""
        return cls(width=1024, layers=24, heads=16)

    @classmethod
    def huge_14(cls) -> "ViTClassifierConfig":
        """ViT-H/14; the paper says 632 M."""
        return cls(patch=14, width=1280, layers=32, heads=16)

    @classmethod
    def mini(cls) -> "ViTClassifierConfig":
        """A miniature for drawings of 32 pixels: 64 patches."""
        return cls(size=32, patch=4, width=64, layers=4, heads=4)


class ViT(nn.Module):
    """Images (b, 3, s, s), standardised -> logits (b, c); without ``classes`` the class token's state (b, d).

    Patches, class token and positions (eq:vit-embed) go through pre-norm layers (eq:pre-norm) and a last
    normalisation; the class token is projected, by zeros at first. ``tokens`` gives all normalised states (b,
    1 + p, d). Images of another size are read with the positions resized. Raises ``ValueError`` for images
    that are not square or do not cut into patches.
    """

    def __init__(self, config: ViTClassifierConfig, classes: int = 0) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.patches = PatchEmbedding(config.patch, d)
        self.cls = nn.Parameter(torch.zeros(d))
        places = config.grid**2 + 1
        self.positions = nn.Parameter(0.02 * torch.randn(places, d))
        self.layers = nn.ModuleList(
            image_layer(config, nn.GELU) for _ in range(config.layers))
        self.norm_after = LayerNorm32(d, eps=config.eps)
        self.head = nn.Linear(d, classes) if classes else nn.Identity()
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def embed(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> Float[Tensor, "b t d"]:
        """What the first layer reads."""
        if images.shape[-1] != images.shape[-2]:
            raise ValueError(
                f"images are {images.shape[-2]} x {images.shape[-1]} pixels, "
                f"the positions are those of squares; crop them to squares")
        patches = self.patches(images)
        grid = math.isqrt(patches.shape[1])
        positions = resize_positions(self.positions, grid)
        return vit_embed(patches, self.cls, positions)

    def tokens(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> Float[Tensor, "b t d"]:
        x = self.embed(images)
        for layer in self.layers:
            x = layer(x)
        return self.norm_after(x)

    def forward(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> Float[Tensor, "b _"]:
        return self.head(self.tokens(images)[:, 0])
