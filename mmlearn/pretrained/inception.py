"""Public weights of Inception-v3 for the metrics of generated pictures: pytorch-fid's, or torchvision's.

Paper: C. Szegedy et al. (2016), arXiv:1512.00567; ``pt_inception-2015-12-05-6726825d.pth`` of
github.com/mseitzer/pytorch-fid (Apache-2.0), ``inception_v3_google-0cc3c7bd.pth`` of torchvision.  Survey:
2.1.  Differs from the paper: nothing.

Both files have torchvision's names; the number of classes tells them apart (1008 and 1000). Torchvision's
second classifier is dropped, and so are counters of batches, which some versions write.
"""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from mmlearn.nn.inception import CLASSES, InceptionFeatures
from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import read_state
from mmlearn.weights import SUFFIXES

SYSTEM = "Inception-v3"
COUNTER = ".num_batches_tracked"
SIGNATURE = {"Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch_pool.conv.weight", "fc.weight"}


def knows(names: Collection[str]) -> bool:
    """Are these names torchvision's of Inception-v3?"""
    return set(names) >= SIGNATURE


def recognises(path: Path) -> bool:
    """Is this a file of Inception-v3 with torchvision's names?"""
    if not path.is_file() or path.suffix not in SUFFIXES:
        return False
    return knows(read_state(path))


def load(path: Path | None) -> InceptionFeatures:
    """The network of features with the weights of a file, every name and shape accounted for.

    Raises ``FileNotFoundError`` without a path, ``ValueError`` if names or shapes are neither file's.
    """
    if path is None:
        raise FileNotFoundError("the weights of Inception-v3 are not on the hub; download "
                                "pt_inception-2015-12-05-6726825d.pth from the releases of "
                                "github.com/mseitzer/pytorch-fid and load it by its path")
    state = {name: value for name, value in read_state(path).items()
             if not name.startswith("AuxLogits.") and not name.endswith(COUNTER)}
    if "fc.weight" not in state or not state["fc.weight"].ndim:
        raise ValueError(f"{path} has no fc.weight; give Inception-v3 with its classifier")
    classes = len(state["fc.weight"])
    variant = next((name for name, count in CLASSES.items() if count == classes), None)
    if variant is None:
        raise ValueError(f"{path} has {classes} classes, and Inception-v3 is known with "
                         f"{' and '.join(map(str, CLASSES.values()))}; give pytorch-fid's or torchvision's "
                         "file")
    with blank():
        model = InceptionFeatures(variant, trained=True)
    ours = {name: value for name, value in model.network.state_dict().items() if not name.endswith(COUNTER)}
    state = fitting(state, {name: tuple(value.shape) for name, value in ours.items()}, str(path))
    whole: dict[str, Tensor] = {name: value.float().clone() for name, value in state.items()}
    whole |= {name: torch.tensor(0) for name in model.network.state_dict() if name.endswith(COUNTER)}
    model.network.load_state_dict(whole, assign=True)
    return model.requires_grad_(False)
