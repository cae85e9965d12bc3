"""Public weights of AlexNet, torchvision's ``alexnet-owt-7be5be79.pth``, whose FC7 describes a picture.

Paper: A. Krizhevsky (2014), *One weird trick for parallelizing convolutional neural networks*,
arXiv:1404.5997; torchvision's weights are under BSD-3-Clause.  Survey: 3.3.
Differs from the paper: nothing. The file has torchvision's names; sizes are read from the tensors, so that an
AlexNet of other widths opens, too, if its maps have 6 x 6 places as torchvision's.
"""

from collections.abc import Collection
from pathlib import Path

import torch

from mmlearn.images_for_language.visual_vectors import AlexNet, AlexNetConfig
from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import read_state, shape_of
from mmlearn.weights import SUFFIXES

SYSTEM = "AlexNet"
LAYERS = {"features.0": "convolutions.0", "features.3": "convolutions.1", "features.6": "convolutions.2",
          "features.8": "convolutions.3", "features.10": "convolutions.4", "classifier.1": "fc6",
          "classifier.4": "fc7", "classifier.6": "fc8"}                       # theirs -> ours
NAMES = {f"{theirs}.{kind}": f"{ours}.{kind}"
         for theirs, ours in LAYERS.items() for kind in ("weight", "bias")}


def knows(names: Collection[str]) -> bool:
    """Are these names torchvision's of AlexNet?"""
    return set(names) == set(NAMES)


def recognises(path: Path) -> bool:
    """Is this a file of AlexNet with torchvision's names?"""
    return path.is_file() and path.suffix in SUFFIXES and knows(read_state(path).keys())


def load(path: Path | None) -> AlexNet:
    """The network with the weights of a file, every name and shape accounted for.

    Raises ``FileNotFoundError`` without a path, ``ValueError`` if names or shapes are not torchvision's.
    """
    if path is None:
        raise FileNotFoundError("the weights of AlexNet are not on the hub; download "
                                "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth and load it by "
                                "its path")
    state = read_state(path)
    where = str(path)
    channels = tuple(shape_of(state, f"{theirs}.weight", 4, where)[0]
                     for theirs in LAYERS if "features" in theirs)
    width = shape_of(state, "classifier.4.weight", 2, where)[0]
    classes = shape_of(state, "classifier.6.weight", 2, where)[0]
    with blank():
        model = AlexNet(AlexNetConfig(channels, width=width, classes=classes))      # type: ignore[arg-type]
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    state = fitting(state, {theirs: ours[name] for theirs, name in NAMES.items()}, where)
    model.load_state_dict({name: state[theirs].to(torch.float32).clone() for theirs, name in NAMES.items()},
                          assign=True)
    return model.requires_grad_(False)
