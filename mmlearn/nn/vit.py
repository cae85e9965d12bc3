"""The Vision Transformer as CLIP uses it: an image becomes a sequence of patches, read by Transformer layers.

Papers: A. Dosovitskiy et al. (2021), *An Image is Worth 16x16 Words*, arXiv:2010.11929, eq. 1-4; A. Radford
et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*, arXiv:2103.00020, sec.
2.4 (the extra normalisation); S. Abnar and W. Zuidema (2020), *Quantifying Attention Flow in Transformers*,
arXiv:2005.00928 (rollout).
Survey: 4.2.2.  Differs from the papers: nothing; as in CLIP's code the patch projection has no bias, and the
layers start from PyTorch's default initialisation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.attention import MultiHeadAttention
from mmlearn.nn.configuration import check, check_divides
from mmlearn.nn.transformer import LayerNorm32, PreNormEncoderLayer, QuickGELU
from mmlearn.nn.vision import PatchEmbedding


@dataclass(frozen=True)
class ViTConfig:
    size: int = 224             # pixels a side of the (square) image
    patch: int = 32             # P, pixels a side of a patch
    width: int = 768            # d, size of a token state
    layers: int = 12            # L
    heads: int = 12             # h, attention heads of width d / h
    eps: float = 1e-5           # of layer normalisation

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")
        if self.size % self.patch:
            raise ValueError(
                f"size {self.size} is not a multiple of patch {self.patch}; choose a patch that divides it")

    @property
    def grid(self) -> int:
        """Patches a side, G."""
        return self.size // self.patch


def vit_embed(
    patches: Float[Tensor, "b p d"],
    cls: Float[Tensor, " d"],
    positions: Float[Tensor, "p_and_1 d"],
) -> Float[Tensor, "b p_and_1 d"]:
    r"""eq:vit-embed: $z_0=[x_{\mathrm{class}};\,x_1E;\dots;x_pE]+E_{\mathrm{pos}}$, the projected patches
    being given."""
    first = cls.expand(len(patches), 1, -1)
    return torch.cat([first, patches], dim=1) + positions


def resize_positions(
    table: Float[Tensor, "p d"], grid: int
) -> Float[Tensor, "q d"]:
    """Position embeddings (1 + G², d) for another grid of ``grid`` patches a side: (1 + grid², d), bicubic.

    The first row belongs to the class token, which has no place in the image, and is kept. Raises
    ``ValueError`` if the other rows do not form a square.
    """
    old = math.isqrt(len(table) - 1)
    if old * old != len(table) - 1:
        raise ValueError(
            f"{len(table)} positions are not one class token and a square of "
            "patches; give 1 + G² rows"
        )
    if old == grid:
        return table
    image = table[1:].T.unflatten(1, (old, old))[None]  # (y x) d -> 1 d y x
    image = F.interpolate(image, size=(grid, grid), mode="bicubic",
                          align_corners=False, antialias=True)
    return torch.cat([table[:1], image[0].flatten(1).T])


def attention_rollout(
    weights: Sequence[Float[Tensor, "b h t t"]],
) -> Float[Tensor, "b t t"]:
    r"""eq:attention-rollout: $R=\tilde A_L\cdots\tilde A_1$,
    $\tilde A_l=\tfrac12(I+\tfrac1h\sum_a A_l^{(a)})$, first layer first.

    Row i says how much of each input token is in output token i if attention were all that mixes tokens; rows
    sum to 1. Raises ``ValueError`` without layers.
    """
    if not weights:
        raise ValueError(
            "there are no attention weights; run the model inside "
            "record_attention and pass its values"
        )
    identity = torch.eye(weights[0].shape[-1]).to(weights[0])
    rollout = identity.expand_as(weights[0][:, 0])
    for A in weights:
        rollout = (rollout + A.mean(dim=1) @ rollout) / 2
    return rollout


def image_layer(config: ViTConfig, activation: Callable[[], nn.Module]) -> PreNormEncoderLayer:
    """A pre-norm layer as ``nn.MultiheadAttention`` and ``nn.Linear`` would initialise it: CLIP leaves it
    so."""
    attention = MultiHeadAttention(config.width, config.heads)
    nn.init.xavier_uniform_(attention.in_weight)                        # all three projections as one matrix
    nn.init.kaiming_uniform_(attention.out.weight, a=math.sqrt(5))
    layer = PreNormEncoderLayer(config.width, config.heads, 4 * config.width, activation=activation,
                                attention=attention, layer_norm=partial(LayerNorm32, eps=config.eps))
    layer.feed_forward.inner.reset_parameters()
    layer.feed_forward.outer.reset_parameters()
    return layer


class VisionTransformer(nn.Module):
    """Images (b, 3, s, s), standardised -> embeddings (b, e), not normalised (eq:vit-embed, eq:pre-norm).

    Layer normalisation stands before the first layer (CLIP's addition) and on the class token after the last;
    a matrix without bias projects it to ``embed`` numbers. ``tokens`` gives all states of the last layer (b,
    1 + p, d), ``features`` the normalised class token (b, d). ``record_attention`` gets the weights of layer
    i as "layers.i.attention" (b, h, 1 + p, 1 + p). Raises ``ValueError`` for images of another size.
    """

    def __init__(
        self, config: ViTConfig, embed: int, activation: Callable[[], nn.Module] = QuickGELU
    ) -> None:
        super().__init__()
        self.config = config
        d, std = config.width, config.width**-0.5
        self.patches = PatchEmbedding(config.patch, d, bias=False)
        self.cls = nn.Parameter(std * torch.randn(d))
        self.positions = nn.Parameter(std * torch.randn(config.grid**2 + 1, d))
        self.norm_before = LayerNorm32(d, eps=config.eps)
        self.layers = nn.ModuleList(image_layer(config, activation) for _ in range(config.layers))
        self.norm_after = LayerNorm32(d, eps=config.eps)
        self.projection = nn.Parameter(std * torch.randn(d, embed))

    def embed(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b t d"]:
        """What the first layer reads."""
        size = self.config.size
        if tuple(images.shape[-2:]) != (size, size):
            raise ValueError(
                f"images are {images.shape[-2]} x {images.shape[-1]} pixels, "
                f"the model wants {size} x {size}; "
                "resize them, or the model's positions with resize_positions")
        return self.norm_before(vit_embed(self.patches(images), self.cls, self.positions))

    def tokens(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b t d"]:
        x = self.embed(images)
        for layer in self.layers:
            x = layer(x)
        return x

    def features(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> Float[Tensor, "b d"]:
        x = self.embed(images)
        for layer in self.layers[:-1]:
            x = layer(x)
        first = torch.zeros(len(x), dtype=torch.long, device=x.device)
        # all that is read of it
        x = self.layers[-1].forward_at(x, first)    # type: ignore[operator]
        return self.norm_after(x[:, 0])

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b e"]:
        return self.features(images) @ self.projection
