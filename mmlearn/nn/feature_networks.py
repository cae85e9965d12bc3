"""Networks of features for the metrics of generated pictures, other than Inception: one trained on
photographs, one on the scene world.

Paper: M. Tan and Q. Le (2019), *EfficientNet*, arXiv:1905.11946 (see ``mmlearn.nn.lite0``); K. He et al.
(2016), arXiv:1512.03385 (the trunk of the classifier of scenes).  Survey: 2.1.
Differs from the paper: both are miniatures beside Inception; every number says which network it rests on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.nn.lite0 import lite0_classifier
from mmlearn.nn.vision import ResidualTrunk


def resized(images: Float[Tensor, "b 3 y x"], size: int) -> Float[Tensor, "b 3 h w"]:
    """Pictures of ``size`` pixels a side, smoothed where they become smaller."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def sharpened(images: Float[Tensor, "b 3 y x"], size: int) -> Float[Tensor, "b 3 h w"]:
    """Pictures of ``size`` pixels a side, each pixel repeated where that fills a whole number of times, so
    that edges stay edges; otherwise ``resized``.

    A network that learnt on sharp pictures misreads smoothly enlarged ones: of 600 drawings of 32 pixels the
    classifier of scenes names .83 of the things so, and .995 with repeated pixels.
    """
    height, width = images.shape[-2:]
    if height != width or size <= height or size % height:
        return resized(images, size)
    return F.interpolate(images, size=(size, size), mode="nearest")


class Lite0Features(nn.Module):
    """EfficientNet-Lite0, trained on ImageNet: pictures (b, 3, y, x) in [-1, 1] -> features (b, 1280).

    ``logits`` (b, 1000) are those of ImageNet's classes. Raises ``FileNotFoundError`` where its weights are
    not installed.
    """

    name = "EfficientNet-Lite0"
    num_features = 1280

    def __init__(self) -> None:
        super().__init__()
        self.network = lite0_classifier().requires_grad_(False)

    def train(self, mode: bool = True) -> "Lite0Features":
        return super().train(False)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b f"]:
        return self.network.head(self.network.trunk.grid(resized(images, 224))).mean(dim=(2, 3))

    def logits_of(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        return self.network.classifier(features)

    def logits(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        return self.logits_of(self(images))


@dataclass(frozen=True)
class SceneClassifierConfig:
    heads: Mapping[str, int] = field(default_factory=dict)      # attribute -> number of its values
    size: int = 64                                              # pixels a side that it looks at
    channels: tuple[int, ...] = (32, 64, 128, 128)              # of the stages; the last is the feature size

    def __post_init__(self) -> None:
        check(self)
        if not self.heads or min(self.heads.values()) < 2:
            raise ValueError(f"heads are {dict(self.heads)}; name at least one attribute with two values or "
                             f"more")


class SceneClassifier(nn.Module):
    """A small residual network that reads attributes off pictures of the scene world (category, colour,
    setting …).

    Pictures (b, 3, y, x) in [-1, 1], of any size -> features (b, f), for distances of sets. ``attributes``
    gives the logits of each head, ``answers`` its likeliest values, for attribute accuracy; ``logits`` are
    those of the first head, for the Inception Score. It must not be trained together with a generator that
    it is to judge.
    """

    name = "scene classifier"

    def __init__(self, config: SceneClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = ResidualTrunk(config.channels)
        self.num_features = self.trunk.out_channels
        self.heads = nn.ModuleDict({name: nn.Linear(self.num_features, values)
                                    for name, values in config.heads.items()})

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b f"]:
        return self.trunk((sharpened(images, self.config.size) + 1) / 2).mean(dim=1)

    def attributes(self, images: Float[Tensor, "b 3 y x"]) -> dict[str, Float[Tensor, "b _"]]:
        features = self(images)
        return {name: head(features) for name, head in self.heads.items()}

    def logits_of(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        return self.heads[next(iter(self.config.heads))](features)

    def logits(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        return self.logits_of(self(images))

    @torch.no_grad()
    def answers(self, images: Float[Tensor, "b 3 y x"]) -> dict[str, Int[Tensor, " b"]]:
        return {name: scores.argmax(dim=1) for name, scores in self.attributes(images).items()}


def attribute_loss(
    scores: Mapping[str, Float[Tensor, "b _"]], wanted: Mapping[str, Int[Tensor, " b"]]
) -> Float[Tensor, ""]:
    """Cross-entropy of each attribute, averaged over the pictures that have it (-1: has none) and summed over
    attributes; a head that has learnt nothing adds the logarithm of its values."""
    losses = [F.cross_entropy(scores[name].float(), values.clamp(min=0), reduction="none")[values >= 0]
              for name, values in wanted.items()]
    return torch.stack([loss.sum() / max(1, len(loss)) for loss in losses]).sum()
