"""EfficientNet: one small convolutional network, scaled in width, depth and resolution at once.

Paper: M. Tan and Q. Le (2019), *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*,
ICML, arXiv:1905.11946, table 1 and sec. 4 (B0 to B7); Q. Xie et al. (2020), *Self-training with Noisy Student
improves ImageNet classification*, arXiv:1911.04252, table 7 (L2).  Survey: 4.3.1.
Differs from the paper: nothing; the padding is a choice, because its three public implementations differ
there.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation, StochasticDepth

from mmlearn.nn.configuration import check, fits, shown

Padding = Literal["tensorflow", "transformers", "symmetric"]


class Stage(NamedTuple):
    """Blocks of one width at one resolution, before scaling."""

    expand: int                     # the inner width is this many times the width that comes in
    kernel: int                     # of the depthwise convolution
    stride: int                     # of the first block
    channels: int                   # that come out
    blocks: int


STAGES = (Stage(1, 3, 1, 16, 1), Stage(6, 3, 2, 24, 2), Stage(6, 5, 2, 40, 2), Stage(6, 3, 2, 80, 3),
          Stage(6, 5, 1, 112, 3), Stage(6, 5, 2, 192, 4), Stage(6, 3, 1, 320, 1))


@dataclass(frozen=True)
class EfficientNetConfig:
    width: float | int = 1.0                # every number of channels is multiplied by this
    depth: float | int = 1.0                # and every number of blocks by this
    size: int = 224                         # pixels a side it is meant for; any size is accepted
    dropout: float = 0.2                    # before a classifier
    drop_path: float = 0.2                  # chance to skip the last block in training; grows linearly from 0
    stages: tuple[Stage, ...] = STAGES
    stem: int = 32                          # channels of the first convolution
    divisor: int = 8                        # channels are multiples of this
    squeeze: float = 0.25  # inner width of squeeze-and-excitation, of what comes in; 0: there is none
    eps: float = 1e-3                       # of batch normalisation
    momentum: float = 0.01                  # share of a new batch in running statistics (TensorFlow: 0.99)
    padding: Padding = "tensorflow"         # of convolutions with stride 2, see ``StridedConv``
    square: tuple[int, ...] = ()  # with "transformers": numbers of the blocks that pad all sides alike
    activation: type[nn.Module] = nn.SiLU   # after every normalisation but the last of a block

    def __post_init__(self) -> None:
        check(self, width=(1e-3, 1e3), depth=(1e-3, 1e3))
        for number, stage in enumerate(self.stages, 1):
            for name, value in stage._asdict().items():
                low, high = {"blocks": (0, 1000), "channels": (1, 10**5)}.get(name, (1, 255))
                if not fits(value, int) or not low <= value <= high:
                    raise ValueError(f"stage {number} has {name} {shown(value)}, expected a whole number "
                                     f"from {low} to {high}")

    @classmethod
    def b0(cls) -> "EfficientNetConfig":
        return cls()

    @classmethod
    def b1(cls) -> "EfficientNetConfig":
        return cls(1.0, 1.1, 240, 0.2)

    @classmethod
    def b2(cls) -> "EfficientNetConfig":
        return cls(1.1, 1.2, 260, 0.3)

    @classmethod
    def b3(cls) -> "EfficientNetConfig":
        return cls(1.2, 1.4, 300, 0.3)

    @classmethod
    def b4(cls) -> "EfficientNetConfig":
        return cls(1.4, 1.8, 380, 0.4)

    @classmethod
    def b5(cls) -> "EfficientNetConfig":
        return cls(1.6, 2.2, 456, 0.4)

    @classmethod
    def b6(cls) -> "EfficientNetConfig":
        return cls(1.8, 2.6, 528, 0.5)

    @classmethod
    def b7(cls) -> "EfficientNetConfig":
        return cls(2.0, 3.1, 600, 0.5)

    @classmethod
    def l2(cls) -> "EfficientNetConfig":
        """Of Noisy Student: 480,309,308 parameters with its classifier."""
        return cls(4.3, 5.3, 800, 0.5)

    @classmethod
    def lite0(cls) -> "EfficientNetConfig":
        """EfficientNet-Lite0 of the TPU repository: no squeeze-and-excitation, ReLU6; 4,652,008 parameters as
        a classifier."""
        return cls(squeeze=0.0, activation=nn.ReLU6)

    @classmethod
    def mini(cls) -> "EfficientNetConfig":
        """A miniature for the scene world (32 to 64 pixels): four stages, 64 channels out; short runs need
        quick statistics."""
        return cls(1.0, 1.0, 64, 0.0, 0.0, stem=16, momentum=0.1, stages=(
            Stage(1, 3, 1, 8, 1), Stage(4, 3, 2, 16, 2), Stage(4, 5, 2, 32, 2), Stage(4, 3, 1, 64, 1)))

    @property
    def out(self) -> int:
        """Channels of the last stage, and so of the pooled image vector."""
        return scaled_channels(self.stages[-1].channels, self.width, self.divisor)

    @property
    def head(self) -> int:
        """Channels of the 1 x 1 convolution before a classifier."""
        return scaled_channels(4 * self.stages[-1].channels, self.width, self.divisor)


def scaled_channels(
    channels: int, width: float | int, divisor: int = 8
) -> int:
    r"""eq:efficientnet-width: $\max\big(q,\,q\lfloor wc/q+\tfrac12\rfloor\big)$, $c$ channels times $w$ as a
    multiple of $q$, and one $q$ more if that is below $0.9\,wc$."""
    wanted = channels * width
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


def scaled_blocks(blocks: int, depth: float | int) -> int:
    """The number of blocks of a stage times ``depth``, rounded up."""
    return math.ceil(depth * blocks)


class StridedConv(nn.Conv2d):
    """A convolution with stride 2 whose zero padding follows one of the three public implementations.

    Kernel k, side n: "symmetric" puts k // 2 on each side (torchvision). "tensorflow" puts as much as gives
    ceil(n / 2) outputs, the odd one behind: symmetric for odd n, one less in front for even n. "transformers"
    always puts one less in front, as if n were even. Pixel centres shift by one between them, so weights
    belong to their padding.
    """

    def __init__(self, before: int, after: int, kernel: int, groups: int, padding: Padding) -> None:
        super().__init__(before, after, kernel, stride=2, groups=groups, bias=False)
        self.kernel, self.rule = kernel, padding

    def pads(self, n: int) -> tuple[int, int]:
        """Zeros in front of and behind ``n`` pixels."""
        k = self.kernel
        if self.rule == "symmetric":
            return k // 2, k // 2
        if self.rule == "transformers":
            return k // 2 - 1, k // 2
        total = max((math.ceil(n / 2) - 1) * 2 + k - n, 0)
        return total // 2, total - total // 2

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f g h"]:
        (top, bottom), (left, right) = (self.pads(n) for n in x.shape[-2:])
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, stride=2, padding=(top, left), groups=self.groups)
        return super().forward(F.pad(x, (left, right, top, bottom)))


class MBConv(nn.Module):
    """The inverted bottleneck: widen by a 1 x 1 convolution, filter each channel, weight the channels, narrow
    again.

    (b, c, y, x) -> (b, f, y', x'), halved sides where ``stride`` is 2. With ``skip`` the input is added; in
    training the rest is then left out for a share ``drop_path`` of the images.
    """

    def __init__(self, config: EfficientNetConfig, before: int, after: int, stage: Stage, stride: int,
                 skip: bool,
                 drop_path: float, padding: Padding) -> None:
        super().__init__()
        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, eps=config.eps, momentum=config.momentum)

        inner = before * stage.expand
        self.expand = nn.Sequential() if stage.expand == 1 else nn.Sequential(
            nn.Conv2d(before, inner, 1, bias=False), norm(inner), config.activation(inplace=True))
        depthwise = (StridedConv(inner, inner, stage.kernel, inner, padding) if stride == 2 else
                     nn.Conv2d(inner, inner, stage.kernel, padding=stage.kernel // 2, groups=inner,
                               bias=False))
        self.depthwise = nn.Sequential(depthwise, norm(inner), config.activation(inplace=True))
        self.squeeze = nn.Sequential() if not config.squeeze else SqueezeExcitation(
            inner, max(1, int(before * config.squeeze)), activation=nn.SiLU)
        self.narrow = nn.Sequential(nn.Conv2d(inner, after, 1, bias=False), norm(after))
        self.drop_path = StochasticDepth(drop_path, "row")
        self.skip = skip

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f g h"]:
        update = self.narrow(self.squeeze(self.depthwise(self.expand(x))))
        return x + self.drop_path(update) if self.skip else update


class EfficientNet(nn.Module):
    """The trunk, without the 1 x 1 head and classifier: standardised pixels (b, 3, y, x) -> (b, f), averaged
    over places.

    ``grid`` gives the map before the average, (b, f, y/32, x/32) for the seven stages of the paper, rounded
    as the padding says. f = ``config.out``: 320 for B0, 640 for B7, 1376 for L2. Raises ``ValueError`` for
    images smaller than a cell.
    """

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        self.config = config
        width = scaled_channels(config.stem, config.width, config.divisor)
        self.stem = nn.Sequential(StridedConv(3, width, 3, 1, config.padding),
                                  nn.BatchNorm2d(width, eps=config.eps, momentum=config.momentum),
                                  config.activation(inplace=True))
        counts = [scaled_blocks(stage.blocks, config.depth) for stage in config.stages]
        blocks: list[nn.Module] = []
        for stage, count in zip(config.stages, counts):
            after = scaled_channels(stage.channels, config.width, config.divisor)
            for i in range(count):
                number = len(blocks)
                padding: Padding = "symmetric" if number in config.square else config.padding
                blocks.append(MBConv(config, width, after, stage, stage.stride if i == 0 else 1, i > 0,
                                     config.drop_path * number / sum(counts), padding))
                width = after
        self.blocks = nn.ModuleList(blocks)
        self.reduction = 2 * math.prod(stage.stride for stage in config.stages)
        self.apply(initialise)
        self.to(memory_format=torch.channels_last)

    def grid(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b f g h"]:
        if min(images.shape[-2:]) < self.reduction:
            raise ValueError(
                f"images of {images.shape[-2]} x {images.shape[-1]} pixels are smaller than one cell of "
                f"{self.reduction}; give larger ones")
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b f"]:
        return self.grid(images).mean(dim=(2, 3))


class EfficientNetClassifier(nn.Module):
    """The whole network of the paper: trunk, 1 x 1 head, average, dropout, linear classifier: (b, 3, y, x) ->
    (b, c)."""

    def __init__(self, config: EfficientNetConfig, classes: int = 1000) -> None:
        super().__init__()
        self.trunk = EfficientNet(config)
        self.head = nn.Sequential(nn.Conv2d(config.out, config.head, 1, bias=False),
                                  nn.BatchNorm2d(config.head, eps=config.eps, momentum=config.momentum),
                                  config.activation(inplace=True))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.head, classes)
        self.head.apply(initialise)
        nn.init.uniform_(self.classifier.weight, -classes**-0.5, classes**-0.5)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        return self.classifier(self.dropout(self.head(self.trunk.grid(images)).mean(dim=(2, 3))))


def initialise(module: nn.Module) -> None:
    """Convolutions normal with variance 2 / (outputs that one input reaches), gains 1, biases 0."""
    if isinstance(module, nn.Conv2d):
        reach = module.out_channels // module.groups * math.prod(module.kernel_size)
        nn.init.normal_(module.weight, std=math.sqrt(2 / reach))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
