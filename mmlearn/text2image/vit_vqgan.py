r"""ViT-VQGAN: a picture as 1,024 tokens, by two Vision Transformers with a codebook between them.

Paper: J. Yu, X. Li, J. Y. Koh, H. Zhang, R. Pang, J. Qin, A. Ku, Y. Xu, J. Baldridge and Y. Wu (2021),
*Vector-quantized Image Modeling with Improved VQGAN*, ICLR 2022, arXiv:2110.04627, sec. 3; it is the
tokeniser of Parti (arXiv:2206.10789).  Survey: 2.3.1. Differs from the paper: sizes and weights of losses
are figures from secondary digests, not read in the paper. Those say 32M, 91M and 599M for a small, base and
large transformer; the blocks that they list make 26M, 86M and 631M of one half, which is told beside the
counts. As Parti's, the decoder ends without a sigmoid and without logit-Laplace; pictures are in [-1, 1] as
everywhere in this package. Perceptual distance and discriminator (the paper's is StyleGAN's) are those of
``vqgan``, and are handed to the loss.

A code is looked up in 32 dimensions among normalised vectors (``vector_quantisation.FactorisedCodebook``):
that keeps nearly all of 8,192 codes in use.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import FieldError, check, check_divides
from mmlearn.nn.transformer import LayerNorm32, PreNormEncoderLayer
from mmlearn.text2image.vector_quantisation import FactorisedCodebook, Quantised


@dataclass(frozen=True)
class HalfConfig:
    """One of the two transformers."""

    width: int = 512            # d
    layers: int = 8
    heads: int = 8

    def __post_init__(self) -> None:
        check(self)
        check_divides(self, "heads", "width")


SMALL, BASE, LARGE = HalfConfig(), HalfConfig(768, 12, 12), HalfConfig(1280, 32, 16)


@dataclass(frozen=True)
class ViTVQGANConfig:
    encoder: HalfConfig = field(default_factory=HalfConfig)
    decoder: HalfConfig = field(default_factory=HalfConfig)
    size: int = 256             # pixels a side
    patch: int = 8              # pixels a side of a patch: a token each
    codes: int = 8192           # K
    code: int = 32              # numbers by which a code is looked up

    def __post_init__(self) -> None:
        check(self)
        if self.size % self.patch:
            raise FieldError("ViTVQGANConfig", "patch", f"is {self.patch}, which does not divide size "
                                                        f"{self.size}; choose a patch that does")

    @classmethod
    def small(cls) -> "ViTVQGANConfig":
        """Small encoder, small decoder."""
        return cls()

    @classmethod
    def base(cls) -> "ViTVQGANConfig":
        """Base encoder, base decoder."""
        return cls(BASE, BASE)

    @classmethod
    def large(cls) -> "ViTVQGANConfig":
        """Large encoder, large decoder."""
        return cls(LARGE, LARGE)

    @classmethod
    def parti(cls) -> "ViTVQGANConfig":
        """Parti's: small encoder, and the large decoder that was trained after it."""
        return cls(SMALL, LARGE)

    @classmethod
    def mini(cls, size: int = 32) -> "ViTVQGANConfig":
        """A miniature for the scene world: 64 tokens of 32 pixels a side."""
        half = HalfConfig(64, 2, 4)
        return cls(half, half, size, 4, 128, 8)

    @property
    def grid(self) -> int:
        """Tokens a side."""
        return self.size // self.patch


# ------------------------------------------------------------------------------------------ equations


def patches_of(x: Float[Tensor, "b c y x"], P: int) -> Float[Tensor, "b p f"]:
    r"""eq:parti-patches: $X\in\mathbb R^{p\times 3P^2}$, the rows being the colours of $P\times P$
    pixels, row of patches by row."""
    cut = x.unflatten(3, (-1, P)).unflatten(2, (-1, P))         # b c y P x P
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def picture_of(rows: Float[Tensor, "b p f"], P: int, grid: int) -> Float[Tensor, "b c y x"]:
    """Patches put together again: the inverse of ``patches_of``."""
    cut = rows.unflatten(2, (-1, P, P)).unflatten(1, (grid, grid))          # b y x c P P
    return cut.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def tokeniser_loss(
    x: Float[Tensor, "b c y x"], x_hat: Float[Tensor, "b c y x"],
    quantised: Quantised, perceptual: Float[Tensor, ""] | float = 0.0,
    adversarial: Float[Tensor, ""] | float = 0.0, beta: float = 0.25,
) -> Float[Tensor, ""]:
    r"""eq:parti-tokeniser: $\|x-\hat x\|^2+L_{VQ}+0.1\,d(x,\hat x)+0.1\,L_G$, with
    eq:vq-loss of the codes, a perceptual distance and the generator's part of a
    game."""
    fidelity = (x - x_hat).square().mean()
    game = 0.1 * perceptual + 0.1 * adversarial
    return fidelity + quantised.loss(beta) + game


# ---------------------------------------------------------------------------------------------- model


class Half(nn.Module):
    """Rows (b, p, i) of a grid -> rows (b, p, o): a projection, learned positions, pre-norm layers, and two
    layers with a tanh between them in the place of one projection out."""

    def __init__(self, config: HalfConfig, into: int | None, out: int | None, places: int) -> None:
        super().__init__()
        d = config.width
        self.enter = nn.Identity() if into is None else nn.Linear(into, d)
        self.positions = nn.Parameter(0.02 * torch.randn(places, d))
        self.layers = nn.ModuleList(
            PreNormEncoderLayer(d, config.heads, 4 * d, activation=nn.GELU, layer_norm=LayerNorm32)
            for _ in range(config.layers))
        self.norm_after = LayerNorm32(d)
        self.leave = nn.Identity() if out is None else nn.Sequential(
            nn.Linear(d, 4 * d), nn.Tanh(), nn.Linear(4 * d, out))

    def forward(self, rows: Float[Tensor, "b p i"]) -> Float[Tensor, "b p o"]:
        x = self.enter(rows) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.leave(self.norm_after(x))


class ViTVQGAN(nn.Module):
    """Pictures (b, 3, s, s) in [-1, 1] -> codes (b, g, g) and back.

    ``encode`` gives codes, ``decode`` takes them, ``forward`` does both with the gradient of a
    straight-through estimate: pictures drawn again, and what the codebook found. Raises ``ValueError`` for
    pictures of another size.
    """

    def __init__(self, config: ViTVQGANConfig) -> None:
        super().__init__()
        self.config = config
        pixels, places = 3 * config.patch**2, config.grid**2
        width = config.encoder.width
        self.encoder = Half(config.encoder, pixels, None, places)
        self.codebook = FactorisedCodebook(config.codes, width, config.code)
        into = None if config.decoder.width == width else width
        self.decoder = Half(config.decoder, into, pixels, places)

    def vectors(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b d g g"]:
        """What is looked up among the codes."""
        size, grid = self.config.size, self.config.grid
        if tuple(images.shape[-2:]) != (size, size):
            raise ValueError(
                f"pictures have {images.shape[-2]} x {images.shape[-1]} pixels, the tokeniser wants "
                f"{size} x {size}"
            )
        states = self.encoder(patches_of(images, self.config.patch))
        return states.mT.unflatten(2, (grid, grid))

    def draw(self, vectors: Float[Tensor, "b d g g"]) -> Float[Tensor, "b 3 y x"]:
        """Pictures of the codes' vectors."""
        rows = self.decoder(vectors.flatten(2).mT)
        return picture_of(rows, self.config.patch, self.config.grid)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "b 3 y x"]) -> Int[Tensor, "b g g"]:
        return self.codebook.quantise(self.vectors(images))

    def decode(self, codes: Int[Tensor, "b g g"]) -> Float[Tensor, "b 3 y x"]:
        return self.draw(self.codebook.look_up(codes))

    def forward(
        self, images: Float[Tensor, "b 3 y x"]
    ) -> tuple[Float[Tensor, "b 3 y x"], Quantised]:
        found = self.codebook(self.vectors(images))
        return self.draw(found.z_q), found
