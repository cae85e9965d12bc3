"""The network whose features judge generated pictures: the classifier of scenes, EfficientNet-Lite0, or
Inception-v3 from a file.

Paper: see ``mmlearn.nn.feature_networks`` and ``mmlearn.nn.inception``.  Survey: 2.1.
Differs from the papers: nothing. A network from a file of one's own has the file's name in its own, so that
numbers of two networks cannot be taken for each other.
"""

from pathlib import Path
from typing import Any

from mmlearn.checkpoints import is_saved
from mmlearn.nn.feature_networks import Lite0Features, SceneClassifier
from mmlearn.nn.inception import InceptionFeatures
from mmlearn.pretrained import load
from mmlearn.text2image.pipeline import load_judge

SCENES, LITE0 = "scene-classifier", "efficientnet-lite0"


def open_network(source: str | Path = SCENES) -> Any:
    """A network of features in evaluation mode, its weights fixed: "scene-classifier" (the book's own),
    "efficientnet-lite0", a scene classifier that was saved, or a file of Inception-v3 as pytorch-fid or
    torchvision publish it.

    It has ``name``, ``num_features`` and ``logits_of(features)``. Raises ``FileNotFoundError`` where it is
    not there, ``ValueError`` for a file of something else.
    """
    if str(source) == LITE0:
        return Lite0Features()
    if str(source) == SCENES:
        return load_judge()
    if is_saved(Path(source)):
        model = load_judge(Path(source))
        model.name = f"{SceneClassifier.name} {Path(source).name}"
        return model
    found = load(source)
    if not isinstance(found, InceptionFeatures):
        raise ValueError(f"{source} is a {type(found).__name__}, and pictures are judged by the features of "
                         f"Inception-v3, {SCENES} or {LITE0}; give one of these")
    return found
