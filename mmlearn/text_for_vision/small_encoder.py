"""A small dual encoder that trains in seconds on one core, for experiments that need many trainings.

Papers: A. Radford et al. (2021), arXiv:2103.00020, sec. 3.3 (robustness) and 7 (bias); C. Jia et al. (2021),
arXiv:2102.05918, its ablation study (noise against size); J. Yang et al. (2022), arXiv:2204.03610.  Survey:
4.2.1, 4.3, 4.4. Differs from the papers: drawn pictures of one thing at 32 pixels, and an image tower of four
convolutions (the largest response to each of its filters, projected) in place of a residual network or Vision
Transformer. The text tower is CLIP's, with two layers.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.nn.vision import ConvTrunk
from mmlearn.text_for_vision.clip import TextConfig, TextTransformer


@dataclass(frozen=True)
class StudyConfig:
    vocab: int                                      # V, tokens
    channels: tuple[int, ...] = (24, 48, 96, 128)   # of the four convolutions
    embed: int = 64                                 # e, size of the joint embedding
    context: int = 20                               # T, most tokens of a caption
    width: int = 64                                 # d, size of a token state
    layers: int = 2                                 # L, of the text tower
    eot: int = 3                                    # id of the end-of-text token
    temperature: float = 0.07                       # at the start

    def __post_init__(self) -> None:
        check(self)

    @property
    def text(self) -> TextConfig:
        """The text tower's own configuration."""
        return TextConfig(self.vocab, self.context, self.width, self.layers, 2, self.eot)


class ConvTower(nn.Module):
    """Standardised pixels (b, 3, s, s) -> embeddings (b, e): convolutions, the maximum over places, a
    matrix."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.trunk = ConvTrunk(config.channels)
        self.projection = nn.Linear(config.channels[-1], config.embed, bias=False)

    def features(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        """What a linear probe reads: the state before the projection."""
        return self.trunk(images).amax(dim=1)                                           # b p c -> b c

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b e"]:
        return self.projection(self.features(images))


class StudyEncoder(nn.Module):
    """A dual encoder with the methods of ``CLIP``: ``forward`` gives unit (u, v) and the scale $e^t$."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.config = config
        self.image = ConvTower(config)
        self.text = TextTransformer(config.text, config.embed)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))

    def encode_image(self, images: Float[Tensor, "b 3 y x"], normalise: bool = False) -> Float[Tensor, "b e"]:
        u = self.image(images)
        return F.normalize(u, dim=-1) if normalise else u

    def encode_text(self, tokens: Int[Tensor, "b t"], normalise: bool = False) -> Float[Tensor, "b e"]:
        v = self.text(tokens)
        return F.normalize(v, dim=-1) if normalise else v

    def forward(
        self, images: Float[Tensor, "b 3 y x"], tokens: Int[Tensor, "n t"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "n e"], Float[Tensor, ""]]:
        return self.encode_image(images, True), self.encode_text(tokens, True), self.logit_scale.exp()


class LabelClassifier(nn.Module):
    """The same image tower with one weight vector a class: standardised pixels (b, 3, s, s) -> logits (b,
    c)."""

    def __init__(self, config: StudyConfig, classes: int) -> None:
        super().__init__()
        self.image = ConvTower(config)
        self.head = nn.Linear(config.embed, classes)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        return self.head(self.image(images))
