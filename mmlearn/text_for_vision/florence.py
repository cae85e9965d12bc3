"""Florence: a dual encoder with a hierarchical Vision Transformer, trained with UniCL on 900 million pairs.

Papers: L. Yuan et al. (2021), *Florence: A New Foundation Model for Computer Vision*, arXiv:2111.11432, sec.
2.3; J. Yang et al. (2022), *Unified Contrastive Learning in Image-Text-Label Space*, arXiv:2204.03610, and
the models of github.com/microsoft/UniCL (initialisation, the start of the scale).  Survey: 4.4.
Differs from the paper: it publishes no layout beyond 637 M + 256 M = 893 M parameters, 12 layers of text, and
convolutional embeddings in a Swin Transformer; ``FlorenceConfig.paper`` is a reconstruction with 889 M. The
sizes of UniCL are the published ones.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.nn.swin import Swin, SwinConfig
from mmlearn.text_for_vision.clip import DualEncoderConfig, TextConfig, TextTransformer


@dataclass(frozen=True)
class FlorenceConfig(DualEncoderConfig):
    embed: int = 512                                                # e, size of the joint embedding
    image: SwinConfig = field(default_factory=SwinConfig)
    text: TextConfig = field(default_factory=lambda: TextConfig(eps=1e-12))
    logit_scale: float | int = 1.0                                  # t at the start: scale e^t

    def __post_init__(self) -> None:
        check(self, logit_scale=(-20, 20))

    @property
    def eot(self) -> int:
        """Id of the end-of-text token."""
        return self.text.eot

    @classmethod
    def paper(cls) -> "FlorenceConfig":
        """A reconstruction: CoSwin-H with 637.5 M parameters (637 M published), 889 M in all (893 M
        published)."""
        return cls(1024, SwinConfig.coswin_h(), TextConfig(context=76, width=1152, heads=18, eps=1e-12))

    @classmethod
    def unicl_swin_t(cls) -> "FlorenceConfig":
        """The smaller public model of UniCL, without convolutional embeddings."""
        return cls()

    @classmethod
    def unicl_swin_b(cls) -> "FlorenceConfig":
        """The larger public model of UniCL, without convolutional embeddings."""
        return cls(image=SwinConfig.swin_b())

    @classmethod
    def mini(cls, vocab: int = 400, eot: int = 3, context: int = 32) -> "FlorenceConfig":
        """A miniature for the scene world: 64 pixels, word tokens."""
        return cls(64, SwinConfig.mini(), TextConfig(vocab, context, 96, 3, 3, eot))


class Florence(nn.Module):
    """A dual encoder with the methods of ``CLIP``: images and captions as unit vectors of one space, and a
    scale.

    ``encode_image``: standardised pixels (b, 3, y, x) -> (b, e), the mean of the last map of CoSwin times a
    matrix without bias. ``encode_text``: token ids (b, t) -> (b, e), CLIP's text tower. ``forward``: (u, v,
    scale), both sides of length 1 and scale $e^t$, t being the parameter ``logit_scale``. Images may have
    other sizes than in training. Raises ``ValueError`` for captions that do not fit ``config.text``, and for
    images smaller than the first convolution.
    """

    def __init__(self, config: FlorenceConfig) -> None:
        super().__init__()
        self.config = config
        self.image = Swin(config.image)
        self.projection = nn.Parameter(torch.empty(config.image.channels, config.embed))
        self.text = TextTransformer(config.text, config.embed)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale)))
        for matrix in (self.projection, self.text.projection):
            nn.init.trunc_normal_(matrix, std=0.02)

    def encode_image(self, images: Float[Tensor, "b 3 y x"], normalise: bool = False) -> Float[Tensor, "b e"]:
        u = self.image(images) @ self.projection
        return F.normalize(u, dim=-1) if normalise else u

    def encode_text(self, tokens: Int[Tensor, "b t"], normalise: bool = False) -> Float[Tensor, "b e"]:
        v = self.text(tokens)
        return F.normalize(v, dim=-1) if normalise else v

    def forward(
        self, images: Float[Tensor, "b 3 y x"], tokens: Int[Tensor, "c t"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "c e"], Float[Tensor, ""]]:
        return self.encode_image(images, True), self.encode_text(tokens, True), self.logit_scale.exp()
