"""What Flamingo sees with: vision encoders that give a picture as a sequence of cells.

Paper: A. Brock et al. (2021), *High-Performance Large-Scale Image Recognition Without Normalization* (NFNet),
arXiv:2102.06171, for Flamingo (arXiv:2204.14198, sec. 2.1); A. Radford et al. (2021), arXiv:2103.00020, for
OpenFlamingo (arXiv:2308.01390).  Survey: 5.3.  Differs from the paper: NFNet-F6 comes from the package timm
(an extra: ``pip install timm``) and has random weights, since those that Flamingo trained by contrast were
never released.
"""

import importlib
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.modified_resnet import ModifiedResNet
from mmlearn.nn.vision import grid_to_sequence
from mmlearn.nn.vit import VisionTransformer


class NFNetCells(nn.Module):
    """A network of timm without pooling and classifier: pictures (b, 3, s, s) -> cells (b, p, f).

    NFNet-F6 makes of 320 pixels a side 10 x 10 cells of 3,072 numbers. Raises ``ModuleNotFoundError`` without
    timm.
    """

    def __init__(self, name: str = "nfnet_f6") -> None:
        super().__init__()
        try:
            timm: Any = importlib.import_module("timm")
        except ModuleNotFoundError:
            raise ModuleNotFoundError(f"{name} comes from the package timm, which is not installed; "
                                      "run pip install timm") from None
        self.network = timm.create_model(name, pretrained=False, num_classes=0)
        self.out_channels = int(self.network.num_features)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p f"]:
        return grid_to_sequence(self.network.forward_features(images))


class PatchStates(nn.Module):
    """The patches of a Vision Transformer's last layer, without its class token and before its last
    normalisation: standardised pictures (b, 3, s, s) -> (b, p, d).

    OpenFlamingo reads CLIP ViT-L/14 so: the versions of open_clip of its time gave the patches as they leave
    the last layer, and later ones normalise them.
    """

    def __init__(self, transformer: VisionTransformer) -> None:
        super().__init__()
        self.transformer = transformer
        self.out_channels = transformer.config.width

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p d"]:
        return self.transformer.tokens(images)[:, 1:]


class ResNetCells(nn.Module):
    """The last feature map of a CLIP ResNet, before its pooling: standardised pictures (b, 3, s, s) -> cells
    (b, p, f). That of the miniature has 2 x 2 cells of 512 numbers."""

    def __init__(self, network: ModifiedResNet) -> None:
        super().__init__()
        self.network = network
        self.out_channels = network.config.channels

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p f"]:
        return grid_to_sequence(self.network.grid(images))
