r"""Words as the features that a trained network has of their pictures: mean or largest, beside the vector of
a text model.

Papers: D. Kiela and L. Bottou (2014), *Learning Image Embeddings using Convolutional Neural Networks for
Improved Multi-Modal Semantics*, EMNLP, sec. 3; M. Oquab, L. Bottou, I. Laptev and J. Sivic (2014), *Learning
and Transferring Mid-Level Image Representations using Convolutional Neural Networks*, CVPR, sec. 3 (the
network); A. Krizhevsky, I. Sutskever and G. Hinton (2012), *ImageNet Classification with Deep Convolutional
Neural Networks*, NeurIPS, sec. 3 (its convolutions); A. Krizhevsky (2014), *One weird trick for parallelizing
convolutional neural networks*, arXiv:1404.5997 (torchvision's variant).  Survey: 3.3.
Differs from the papers: the network of Oquab et al. has the convolutions of Krizhevsky et al., 6144 units in
FC6 and FC7 and 1512 classes; that its convolutions come in two groups and with local response normalisation
is taken from the latter. Whether FC7 is read before or after its ReLU, and whether vectors are centred before
or after they get unit length, is not said there: ``rectified`` and ``prepared`` do either. No public weights
of the 6144-wide network are known; torchvision's AlexNet (``mmlearn.pretrained.alexnet``) and
EfficientNet-Lite0 (``mmlearn.nn.lite0``) are what can be loaded.

The network is read after its seventh layer, FC7, and nowhere else: five convolutions and two fully connected
layers stand before the feature, they are not the feature.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmlearn.data.pairs import signed_pixels
from mmlearn.images_for_language.sequential_fusion import fuse_features, unit_rows
from mmlearn.nn.configuration import check
from mmlearn.nn.feature_networks import resized

AGGREGATES = ("mean", "max")
ORDERS = ("none", "unit", "unit-centre", "centre-unit")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)          # of ImageNet's pixels in [0, 1]
KERNELS, PADS = (11, 5, 3, 3, 3), (2, 2, 1, 1, 1)                       # of the five convolutions
POOLED = (0, 1, 4)                                                      # convolutions before a pooling


@dataclass(frozen=True)
class AlexNetConfig:
    channels: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)     # of C1 to C5
    groups: tuple[int, int, int, int, int] = (1, 1, 1, 1, 1)                # of their inputs
    width: int = 4096           # units of FC6 and of FC7: the size of a feature
    classes: int = 1000         # of FC8
    size: int = 224             # pixels a side
    normalised: bool = False    # local response normalisation after C1 and C2
    dropout: float = 0.5        # before FC6 and FC7

    def __post_init__(self) -> None:
        check(self, groups=(1, 64))
        before = (3, *self.channels[:4])
        for number, (into, out, groups) in enumerate(zip(before, self.channels, self.groups), 1):
            if into % groups or out % groups:
                raise ValueError(f"C{number} has {groups} groups for {into} and {out} channels; use a number "
                                 f"that divides both")
        if self.size < 63:
            raise ValueError(f"size is {self.size} pixels, of which C1 to C5 leave nothing; use 63 or more, "
                             f"as 224")

    @classmethod
    def oquab(cls) -> "AlexNetConfig":
        """The network that Kiela and Bottou read: FC6 and FC7 of 6144, 1512 classes of ImageNet."""
        return cls((96, 256, 384, 384, 256), (1, 2, 1, 2, 2), 6144, 1512, normalised=True)

    @classmethod
    def krizhevsky(cls) -> "AlexNetConfig":
        """The network of 2012, whose FC7 of 4096 numbers Caffe's users read (Lazaridou et al. 2015)."""
        return cls((96, 256, 384, 384, 256), (1, 2, 1, 2, 2), normalised=True)

    @classmethod
    def torchvision(cls) -> "AlexNetConfig":
        """torchvision's AlexNet, the one tower of 2014, whose weights are public."""
        return cls()

    @classmethod
    def mini(cls) -> "AlexNetConfig":
        """A miniature for pictures of 64 pixels."""
        return cls((8, 16, 24, 16, 16), (1, 2, 1, 2, 2), 64, 10, 64, normalised=True)


# -------------------------------------------------------------------------------------------------- equations

def response_norm(
    x: Float[Tensor, "b c y x"], n: int = 5, k: float | int = 2,
    alpha: float = 1e-4, beta: float = 0.75
) -> Float[Tensor, "b c y x"]:
    r"""eq:visual-lrn: $x_c\big/\big(k+\alpha\sum_{|i-c|\le n/2}x_i^2\big)^\beta$: a channel is held down by
    its neighbours."""
    # torch divides alpha by n
    return F.local_response_norm(x, n, alpha * n, beta, k)


def mean_vector(features: Float[Tensor, "n f"]) -> Float[Tensor, " f"]:
    r"""eq:visual-mean: $v_w=\frac1n\sum_if(x_i)$: what the pictures of a word have in common (CNN-Mean)."""
    return features.mean(dim=0)


def max_vector(features: Float[Tensor, "n f"]) -> Float[Tensor, " f"]:
    r"""eq:visual-max: $v_{w,j}=\max_if(x_i)_j$: what any of its pictures shows (CNN-Max)."""
    return features.max(dim=0).values


def centred(vectors: Float[Tensor, "w f"]) -> Float[Tensor, "w f"]:
    r"""eq:visual-centre: $v_w-\frac1{\lvert W\rvert}\sum_{w'}v_{w'}$: rectified features have no negative
    number, so all their cosines are positive until the mean of the words is taken off."""
    return vectors - vectors.mean(dim=0)


def joined_vectors(
    text: Float[Tensor, "w d"], image: Float[Tensor, "w f"],
    alpha: float | int = 0.5
) -> Float[Tensor, "w c"]:
    r"""eq:visual-fusion: $\alpha\,\frac{v_{text}}{\lVert v_{text}\rVert}\oplus(1-\alpha)\,\frac{v_{vis}}{
    \lVert v_{vis}\rVert}$."""
    return fuse_features(unit_rows(text), unit_rows(image), alpha)


def aggregated(features: Float[Tensor, "n f"], how: str = "mean") -> Float[Tensor, " f"]:
    """eq:visual-mean or eq:visual-max. Raises ``ValueError`` for another name and for no picture."""
    if how not in AGGREGATES:
        raise ValueError(f"features are to be aggregated by {how!r}; use one of {', '.join(AGGREGATES)}")
    if not len(features):
        raise ValueError("a word has no pictures; leave it out, or give at least one")
    return mean_vector(features) if how == "mean" else max_vector(features)


def prepared(vectors: Float[Tensor, "w f"], order: str = "unit") -> Float[Tensor, "w f"]:
    """Vectors of unit length and of mean 0 over the words, in an ``order``: "unit", "unit-centre" (then their
    lengths differ again), "centre-unit" (then their mean does), or "none". Raises ``ValueError`` for another.
    """
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}; use one of {', '.join(ORDERS)}")
    for step in order.split("-"):
        if step != "none":
            vectors = unit_rows(vectors) if step == "unit" else centred(vectors)
    return vectors


# ---------------------------------------------------------------------------------------------------- network

class AlexNet(nn.Module):
    """Five convolutions and three fully connected layers: pictures (b, 3, s, s), normalised as ImageNet's, ->
    logits (b, classes).

    ``features`` gives the output of FC7 (b, width), after its ReLU or before it. Raises ``ValueError`` for
    pictures of another size.
    """

    def __init__(self, config: AlexNetConfig) -> None:
        super().__init__()
        self.config = c = config
        channels = (3, *c.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], KERNELS[i],
                      stride=1 if i else 4, padding=PADS[i],
                      groups=c.groups[i])
            for i in range(5))
        self.fc6 = nn.Linear(channels[-1] * side_after(c.size) ** 2, c.width)
        self.fc7 = nn.Linear(c.width, c.width)
        self.fc8 = nn.Linear(c.width, c.classes)
        self.dropout = nn.Dropout(c.dropout)

    def maps(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c h w"]:
        """What C5 sees, pooled."""
        if images.shape[-2:] != (self.config.size, self.config.size):
            raise ValueError(f"pictures have {images.shape[-2]} x {images.shape[-1]} pixels, the network "
                             f"wants {self.config.size} x {self.config.size}; resize them")
        x = images
        for i, convolution in enumerate(self.convolutions):
            x = F.relu(convolution(x))
            if self.config.normalised and i < 2:
                x = response_norm(x)
            if i in POOLED:
                x = F.max_pool2d(x, 3, stride=2)
        return x

    def features(
        self, images: Float[Tensor, "b 3 y x"], rectified: bool = True
    ) -> Float[Tensor, "b f"]:
        """The feature that stands for a picture: the output of FC7."""
        x = self.dropout(self.maps(images).flatten(1))
        x = self.dropout(F.relu(self.fc6(x)))
        x = self.fc7(x)
        return F.relu(x) if rectified else x

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        return self.fc8(self.features(images))


def side_after(size: int) -> int:
    """The side of the map after C5 and its pooling: 6 for 224 pixels."""
    side = (size + 2 * PADS[0] - KERNELS[0]) // 4 + 1
    for _ in POOLED:
        side = (side - 3) // 2 + 1
    return side


class FC7Features(nn.Module):
    """A network read at FC7, as the networks of features of ``mmlearn.nn.feature_networks``: pictures
    (b, 3, y, x) in [-1, 1] of any size -> features (b, width)."""

    name = "AlexNet, FC7"

    def __init__(self, network: AlexNet, rectified: bool = True) -> None:
        super().__init__()
        self.network, self.rectified = network.requires_grad_(False).eval(), rectified
        self.num_features = network.config.width

    def train(self, mode: bool = True) -> "FC7Features":
        return super().train(False)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b f"]:
        return self.network.features(imagenet_pixels(images, self.network.config.size), self.rectified)


def imagenet_pixels(images: Float[Tensor, "b 3 y x"], size: int) -> Float[Tensor, "b 3 size size"]:
    """Pictures in [-1, 1] as ImageNet's networks want them: resized, mean 0 and deviation 1 a channel."""
    images = resized(images, size)
    mean, deviation = (images.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return ((images + 1) / 2 - mean) / deviation


@torch.no_grad()
def features_of(
    network: Callable[[Tensor], Tensor], images: UInt8[Tensor, "n 3 _ _"], batch: int = 64
) -> Float[Tensor, "n f"]:
    """The features of the pictures of a word, 0 to 255, which ``network`` gets in [-1, 1].

    Raises ``ValueError`` where there are none.
    """
    if not len(images):
        raise ValueError("a word has no pictures; leave it out, or give at least one")
    return torch.cat([network(signed_pixels(part)) for part in images.split(batch)])


def word_vectors(
    network: Callable[[Tensor], Tensor], pictures: Iterable[UInt8[Tensor, "_ 3 _ _"]], how: str = "mean",
    batch: int = 64
) -> Float[Tensor, "w f"]:
    """A row a word: the aggregated features of its pictures (n, 3, y, x), 0 to 255.

    Raises ``ValueError`` for a word without pictures and an unknown aggregate.
    """
    rows = [aggregated(features_of(network, images, batch), how) for images in pictures]
    if not rows:
        raise ValueError("there are no words; give the pictures of at least one")
    return torch.stack(rows)
