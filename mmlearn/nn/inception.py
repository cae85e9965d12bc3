"""Inception-v3 as a network of features for the metrics of generated pictures, in two variants.

Paper: C. Szegedy et al. (2016), *Rethinking the Inception Architecture for Computer Vision*,
arXiv:1512.00567; M. Heusel et al. (2017), arXiv:1706.08500 (features of the last pooling for the FID).
Survey: 2.1.
Differs from the paper: the architecture is torchvision's. The network of the FID is TensorFlow's of 2015 as
github.com/mseitzer/pytorch-fid ported it: 1008 classes and other poolings, which are written out below.
Both have torchvision's names. A FID of one variant says nothing beside a FID of the other.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.inception import Inception3, InceptionA, InceptionC, InceptionE

SIZE, FEATURES = 299, 2048
CLASSES = {"fid": 1008, "torchvision": 1000}
NAMES = {"fid": "Inception-v3 of 2015 (pytorch-fid)", "torchvision": "Inception-v3 of torchvision"}
TRUNK = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3",
         "maxpool2", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d",
         "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c")


class OtherPool:
    """The block of torchvision with another pooling before its last branch: averages without the zeros around
    the map."""

    def pool(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        branches = self._forward(x)[:-1]                                        # type: ignore[attr-defined]
        return torch.cat([*branches, self.branch_pool(self.pool(x))], dim=1)    # type: ignore[attr-defined]


class FIDInceptionA(OtherPool, InceptionA):
    """Blocks at 35 x 35 places."""


class FIDInceptionC(OtherPool, InceptionC):
    """Blocks at 17 x 17 places."""


class FIDInceptionE(OtherPool, InceptionE):
    """The first block at 8 x 8 places."""


class FIDInceptionEMax(OtherPool, InceptionE):
    """The second block at 8 x 8 places takes maxima, a slip of 2015 that the FID has kept."""

    def pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, stride=1, padding=1)


FID_BLOCKS = {
    "Mixed_5b": lambda: FIDInceptionA(192, 32), "Mixed_5c": lambda: FIDInceptionA(256, 64),
    "Mixed_5d": lambda: FIDInceptionA(288, 64), "Mixed_6b": lambda: FIDInceptionC(768, 128),
    "Mixed_6c": lambda: FIDInceptionC(768, 160), "Mixed_6d": lambda: FIDInceptionC(768, 160),
    "Mixed_6e": lambda: FIDInceptionC(768, 192), "Mixed_7b": lambda: FIDInceptionE(1280),
    "Mixed_7c": lambda: FIDInceptionEMax(2048),
}


class InceptionFeatures(nn.Module):
    """Pictures (b, 3, y, x) in [-1, 1], of any size -> features (b, 2048) of the last pooling.

    Pictures are brought to 299 pixels by bilinear interpolation without smoothing, as pytorch-fid does it:
    other interpolations give other numbers. ``logits`` are those of the Inception Score (b, classes),
    products without the bias, as its authors computed them. ``mmlearn.pretrained.inception`` reads weights;
    without them the numbers mean nothing, and ``name`` says so. Raises ``ValueError`` for an unknown variant.
    """

    num_features = FEATURES

    def __init__(self, variant: str = "fid", trained: bool = False) -> None:
        super().__init__()
        if variant not in CLASSES:
            raise ValueError(f"variant is {variant!r}; use one of {', '.join(CLASSES)}")
        self.variant = variant
        self.name = NAMES[variant] + ("" if trained else ", not trained")
        self.network = Inception3(num_classes=CLASSES[variant], aux_logits=False, init_weights=False)
        if variant == "fid":
            for name, build in FID_BLOCKS.items():
                setattr(self.network, name, build())
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "InceptionFeatures":
        """Always in evaluation mode: batch statistics would make a picture's features depend on its
        neighbours."""
        return super().train(False)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b f"]:
        x = images
        if x.shape[-2:] != (SIZE, SIZE):
            x = F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        for part in TRUNK:
            x = getattr(self.network, part)(x)
        return x.mean(dim=(2, 3))

    def logits_of(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        return features @ self.network.fc.weight.T

    def logits(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        return self.logits_of(self(images))
