r"""Perceptual distances: two pictures are alike if a network that knows pictures sees the same in them.

Paper: R. Zhang, P. Isola, A. Efros, E. Shechtman and O. Wang (2018), *The Unreasonable Effectiveness of Deep
Features as a Perceptual Metric*, CVPR, arXiv:1801.03924, sec. 3 (LPIPS); K. Simonyan and A. Zisserman (2015),
arXiv:1409.1556 (VGG-16).  Survey: 2.2.
Differs from the paper: nothing; this is version 0.1 of the authors' package, which standardises the pixels.
Heads that were not learned weigh all channels by one, as its "baseline" does. The miniatures of the book are
trained with the maps of their own scene classifier in place of VGG's.

Pictures are in [-1, 1]; a distance is a number from 0 on for each of the b pairs of pictures. Networks of
features are frozen: gradients reach the pictures only.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.feature_networks import Lite0Features, SceneClassifier, resized
from mmlearn.text_for_vision.blockwise import single

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)         # of ImageNet's pixels in [-1, 1]
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
TAPS = (3, 8, 15, 22, 29)                                              # relu1_2, 2_2, 3_3, 4_3, 5_3
UNIT_EPS = 1e-10


# -------------------------------------------------------------------------------------------------- equations


def unit_channels(y: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
    r"""eq:lpips-unit: $\hat y_p=\frac{y_p}{\lVert y_p\rVert_2+10^{-10}}$,
    the features of every place at length 1."""
    return y / (y.square().sum(dim=1, keepdim=True).sqrt() + UNIT_EPS)


def map_distance(
    y: Float[Tensor, "b c y x"], other: Float[Tensor, "b c y x"],
    w: Float[Tensor, " c"],
) -> Float[Tensor, " b"]:
    r"""eq:lpips-layer: $\frac1P\sum_p\sum_cw_c\,(\hat y_{pc}-\hat y'_{pc})^2$
    with weights $w_c\ge0$: how far two maps of one layer are apart, on
    average over their P places."""
    error = (unit_channels(y) - unit_channels(other)).square()
    return (error.mean(dim=(2, 3)) * w).sum(dim=1)


def perceptual_distance(
    maps: Sequence[Tensor], others: Sequence[Tensor],
    weights: Iterable[Tensor],
) -> Float[Tensor, " b"]:
    r"""eq:lpips-distance: $d(x,x')=\sum_l\frac1{P_l}\sum_p\sum_cw_{lc}\,
    (\hat y_{lpc}-\hat y'_{lpc})^2$, eq:lpips-layer summed over layers."""
    layers = [map_distance(y, other, w)
              for y, other, w in zip(maps, others, weights, strict=True)]
    return torch.stack(layers).sum(dim=0)


# ---------------------------------------------------------------------------------------------- feature maps


class Maps(Protocol):
    """What a perceptual distance needs: pictures (b, 3, y, x) -> maps of some layers, of ``channels``."""

    channels: tuple[int, ...]

    def __call__(self, images: Tensor) -> Sequence[Tensor]: ...


class VGG16Maps(nn.Module):
    """The convolutions of VGG-16: pictures (b, 3, y, x) -> the maps of relu1_2, 2_2, 3_3, 4_3 and 5_3.

    Parts are named and numbered as in ``torchvision.models.vgg16().features``. Random weights until
    ``mmlearn.pretrained.vqgan.load_lpips`` fills them. Raises ``ValueError`` below 16 pixels a side.
    """

    channels = (64, 128, 256, 512, 512)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into = 3
        for out in VGG16:
            if isinstance(out, str):
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU()]
                into = out
        self.features = nn.Sequential(*layers)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> list[Tensor]:
        if min(images.shape[-2:]) < 16:
            raise ValueError(f"pictures of {images.shape[-2]} x {images.shape[-1]} pixels vanish within "
                             f"VGG-16; give 16 or more a side")
        x = (images - cast(Tensor, self.shift)) / cast(Tensor, self.scale)
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in TAPS:
                maps.append(x)
        return maps


class SceneMaps(nn.Module):
    """The maps behind the residual blocks of the classifier of scenes: pictures of any size, (b, 3, y, x)."""

    def __init__(self, classifier: SceneClassifier) -> None:
        super().__init__()
        self.size, self.channels = classifier.config.size, tuple(classifier.config.channels)
        self.blocks = classifier.trunk.blocks

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> list[Tensor]:
        x = resized(images, self.size).contiguous(memory_format=torch.channels_last)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i >= 3:                                          # after convolution, normalisation and ReLU
                maps.append(x)
        return maps


class Lite0Maps(nn.Module):
    """The maps of EfficientNet-Lite0 where their sides are about to be halved, and its last: pictures of any
    size are brought to ``size`` pixels, (b, 3, y, x)."""

    def __init__(self, network: Lite0Features, size: int = 224) -> None:
        super().__init__()
        self.trunk, self.size = network.network.trunk, size
        with torch.no_grad():
            self.channels = tuple(y.shape[1] for y in self(torch.zeros(1, 3, size, size)))

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> list[Tensor]:
        x = self.trunk.stem(resized(images, self.size).contiguous(memory_format=torch.channels_last))
        maps: list[Tensor] = []
        for block in self.trunk.blocks:
            before, x = x, block(x)
            if x.shape[-1] < before.shape[-1]:
                maps.append(before)
        return [*maps, x]


# -------------------------------------------------------------------------------------------------- distance


class PerceptualDistance(nn.Module):
    """eq:lpips-distance over the maps of a frozen network: two batches of pictures (b, 3, y, x) -> (b).

    ``heads`` are the weights of the channels, one tensor a layer (default: all one). Stays in evaluation
    mode. Raises ``ValueError`` for weights that are negative or not those of the layers.
    """

    def __init__(self, maps: nn.Module, heads: Sequence[Float[Tensor, " c"]] | None = None) -> None:
        super().__init__()
        self.maps = maps
        channels = cast(Maps, maps).channels
        heads = [torch.ones(c) for c in channels] if heads is None else heads
        if [len(w) for w in heads] != list(channels):
            raise ValueError(f"heads have {', '.join(str(len(w)) for w in heads)} weights, the layers "
                             f"{', '.join(map(str, channels))} channels; give one weight a channel")
        if any(bool((w < 0).any()) for w in heads if not w.is_meta):
            raise ValueError("heads have negative weights, with which a distance could be negative; give "
                             "weights from 0 on")
        self.heads = nn.ParameterList(w.clone() for w in heads)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "PerceptualDistance":
        return super().train(False)

    def forward(
        self, images: Float[Tensor, "b 3 y x"], others: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, " b"]:
        if images.shape != others.shape:
            raise ValueError(f"pictures have shape {tuple(images.shape)} and {tuple(others.shape)}; "
                             f"compare pictures of one size, in pairs")
        maps, other_maps = ([single(y) for y in self.maps(x)] for x in (images, others))
        return perceptual_distance(maps, other_maps, self.heads)


class LPIPS(PerceptualDistance):
    """The learned perceptual distance of Zhang et al. with VGG-16; the weights come from
    ``mmlearn.pretrained.vqgan.load_lpips``, until then they are random and the heads one."""

    def __init__(self) -> None:
        super().__init__(VGG16Maps())


def scene_distance(classifier: SceneClassifier) -> PerceptualDistance:
    """The distance with which the miniatures are trained: all maps of the classifier, all channels alike."""
    return PerceptualDistance(SceneMaps(classifier))


def lite0_distance(network: Lite0Features, size: int = 224) -> PerceptualDistance:
    """A distance by a network that was trained on photographs."""
    return PerceptualDistance(Lite0Maps(network, size))
