"""From pixels to a sequence: patches, a small convolutional trunk, and the trunks of torchvision as grids of
features.

Paper: K. He et al. (2016), *Deep Residual Learning for Image Recognition*, arXiv:1512.03385 (the trunks);
A. Dosovitskiy et al. (2021), arXiv:2010.11929, eq. 1 (patches).  Survey: 1.2.
Differs from the paper: nothing.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

IMAGENET_MEAN = (0.485, 0.456, 0.406)       # of red, green, blue in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


def grid_to_sequence(grid: Float[Tensor, "b c y x"]) -> Float[Tensor, "b p c"]:
    """Cells of a feature map as a sequence, row by row: b c y x -> b (y x) c."""
    return grid.flatten(2).transpose(1, 2)


def patches(images: Float[Tensor, "b c y x"], size: int) -> Float[Tensor, "b p f"]:
    """The squares of ``size`` pixels that an image is cut into, row by row, each as c size² numbers."""
    squares = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))      # b c y r x s
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class PatchEmbedding(nn.Module):
    """Cut an image (b, 3, s, s) into squares of ``patch`` pixels and project each: (b, p, d), row by row.

    The projection is stored as the convolution that it equals, and computed as the one product that it is.
    Raises ``ValueError`` if the sides are not multiples of ``patch``.
    """

    def __init__(self, patch: int, width: int, channels: int = 3, bias: bool = True) -> None:
        super().__init__()
        self.patch = patch
        self.project = nn.Conv2d(channels, width, patch, stride=patch, bias=bias)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b p d"]:
        if images.shape[-1] % self.patch or images.shape[-2] % self.patch:
            raise ValueError(
                f"images of {images.shape[-2]} x {images.shape[-1]} pixels do not cut into patches of "
                f"{self.patch}; resize them to multiples of it")
        return F.linear(patches(images, self.patch), self.project.weight.flatten(1), self.project.bias)


class ConvTrunk(nn.Module):
    """A few blocks of convolution, batch normalisation and ReLU: images (b, 3, s, s) -> grid (b, p, c).

    Each block but the last halves the sides, so four blocks turn 64 x 64 pixels into 8 x 8 cells.
    Pixels in [0, 1]; ``out_channels`` is c. Raises ``ValueError`` for images smaller than one cell.
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 64, 64)) -> None:
        super().__init__()
        self.out_channels = channels[-1]
        self.stride = 2 ** (len(channels) - 1)
        blocks: list[nn.Module] = []
        before = 3
        for i, after in enumerate(channels):
            stride = 2 if i < len(channels) - 1 else 1
            blocks.append(nn.Sequential(
                nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after),
                nn.ReLU(),
            ))
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p c"]:
        if min(images.shape[-2:]) < self.stride:
            raise ValueError(
                f"images of {images.shape[-2]} x {images.shape[-1]} pixels are smaller than one cell of "
                f"{self.stride}; give larger ones")
        images = (2 * images - 1).contiguous(memory_format=torch.channels_last)
        return grid_to_sequence(self.blocks(images))


class ResidualTrunk(nn.Module):
    """A small ResNet: images (b, 3, s, s) -> grid (b, p, c); 64 x 64 pixels give 8 x 8 cells.

    One residual block a stage; the stem and the next two stages halve the sides, further stages keep them.
    Pixels in [0, 1]; ``out_channels`` is c. Raises ``ValueError`` for images smaller than one cell.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 128, 128)) -> None:
        super().__init__()
        stem, *stages = channels
        self.out_channels, self.stride = channels[-1], 8
        blocks: list[nn.Module] = [nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(),
                                   BasicBlock(stem, stem)]
        for i, (before, after) in enumerate(zip(channels, stages)):
            stride = 2 if i < 2 else 1
            shorter = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            blocks.append(BasicBlock(before, after, stride, shorter))
        self.blocks = nn.Sequential(*blocks)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p c"]:
        if min(images.shape[-2:]) < self.stride:
            raise ValueError(f"images of {images.shape[-2]} x {images.shape[-1]} pixels are smaller than one "
                             f"cell of {self.stride}; give larger ones")
        images = (2 * images - 1).contiguous(memory_format=torch.channels_last)
        return grid_to_sequence(self.blocks(images))


class TorchvisionTrunk(nn.Module):
    """A ResNet of torchvision without its pooling and classifier: images (b, 3, s, s) -> grid (b, p, c).

    Pixels in [0, 1]; they are standardised here as the weights expect. At 224 pixels ResNet-50 and -101 give
    7 x 7 cells of 2048 channels. ``weights`` names torchvision weights ("IMAGENET1K_V2"), which are
    downloaded; None starts from random ones. ``out_channels`` is c. Raises ``ValueError`` for a name that is
    no ResNet of torchvision or none of its weights, ``FileNotFoundError`` if they cannot be downloaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "resnet101", weights: str | None = None) -> None:
        super().__init__()
        known = [n for n in torchvision.models.list_models(torchvision.models)
                 if n.startswith(("resnet", "wide", "resnext"))]
        if name not in known:
            raise ValueError(f"{name!r} is no ResNet of torchvision; use one of {', '.join(sorted(known))}")
        offered = [one.name for one in torchvision.models.get_model_weights(name)]
        if weights is not None and weights not in offered:
            raise ValueError(f"torchvision has no weights {weights!r} of {name}; it has {', '.join(offered)}")
        try:
            resnet = torchvision.models.get_model(name, weights=weights)
        except OSError as error:
            raise FileNotFoundError(f"the weights {weights} of {name} could not be downloaded ({error}); "
                                    f"connect to the network, or take a file of them or another "
                                    f"trunk") from error
        self.out_channels = int(resnet.fc.in_features)
        self.resnet = nn.Sequential(OrderedDict(
            (part, module) for part, module in resnet.named_children() if part not in ("avgpool", "fc")
        ))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p c"]:
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return grid_to_sequence(self.resnet(images))


class Frozen(nn.Module):
    """A trunk that is not trained: no gradients, and always in evaluation mode (batch statistics stay as
    loaded)."""

    def __init__(self, trunk: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(False).eval()
        self.out_channels = out_channels

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        self.trunk.eval()
        return self

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p c"]:
        return self.trunk(images)
