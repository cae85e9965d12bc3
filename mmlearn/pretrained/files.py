"""Files of public checkpoints: tensors by name, configurations, folders of Hugging Face's hub. No code of a
file is run.

Survey: none; see the appendix on scaling up.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmlearn.nn.configuration import configured, shown
from mmlearn.weights import UNDER, is_torchscript, read_weights

__all__ = ["HUGGING_FACE", "Table", "download", "fetch_hugging_face", "is_torchscript", "layers_of",
           "part_of", "read_config", "read_state", "shape_of", "weights_in", "whole"]
HUGGING_FACE = ("config.json", ("model.safetensors", "pytorch_model.bin"))     # configuration and weights
Table = Mapping[str, tuple[str, Any]]          # our field -> its name in a file, its value where it is absent


def read_state(path: Path, under: Sequence[str] = UNDER, trust: bool = False) -> dict[str, Tensor]:
    """The tensors of a file of weights, or of all files of an index, by their names; see ``read_weights``.

    A checkpoint of a training run is opened at the first of the names ``under`` that it has. ``trust`` allows
    to run the code of a TorchScript archive. Raises ``FileNotFoundError``, and ``ValueError`` for anything
    but tensors.
    """
    return read_weights(path, under, trust)


# --------------------------------------------------------------------------------------------- configurations

def part_of(found: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """The object under ``name``, empty where it is missing or null. Raises ``ValueError`` otherwise."""
    part = found.get(name)
    if part is not None and not isinstance(part, dict):
        raise ValueError(f"{where}: {name} is {shown(part)}, expected an object; take the file as it was "
                         "published")
    return dict(part or {})


def read_config(kind: Any, part: Mapping[str, Any], table: Table, where: str, **more: Any) -> Any:
    """A configuration of class ``kind`` from the fields of a file that ``table`` names, and ``more``."""
    values = {ours: part.get(theirs, default) for ours, (theirs, default) in table.items()}
    return configured(kind, {**values, **more}, where, {ours: theirs for ours, (theirs, _) in table.items()})


def whole(part: Mapping[str, Any], name: str, default: int, where: str) -> int:
    """A whole number of a file that is 1 or more. Raises ``ValueError`` for anything else."""
    value = part.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000_000:
        raise ValueError(f"{where}: {name} is {shown(value)}, expected a whole number from 1 to "
                         f"10,000,000; take the file as it was published")
    return value


# ---------------------------------------------------------------------------------------------------- weights

def shape_of(state: Mapping[str, Tensor], name: str, dimensions: int, where: str) -> tuple[int, ...]:
    """The shape of a tensor from which sizes are read. Raises ``ValueError`` if it is missing or other."""
    if name not in state:
        raise ValueError(f"{where} has no {name}; the file is not whole, take it as it was published")
    shape = tuple(state[name].shape)
    if len(shape) != dimensions:
        raise ValueError(f"{where}: {name} has the shape {shape}, expected {dimensions} dimensions; take "
                         f"the file as it was published")
    return shape


def layers_of(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many layers the names of ``state`` speak of; ``pattern`` captures the number of one."""
    return len({found[1] for name in state if (found := re.match(pattern, name))})


def weights_in(folder: Path, names: Iterable[str]) -> Path:
    """The first of the files ``names`` that is in ``folder``, whole or as the index of its parts."""
    for name in names:
        for file in (folder / name, folder / f"{name}.index.json"):
            if file.is_file():
                return file
    raise FileNotFoundError(f"{folder} has a configuration but none of {', '.join(names)}; download the "
                            f"weights too")


def download(name: str, wanted: Sequence[str], weights: Callable[[Path], Sequence[str]]) -> Path:
    """The folder of a public model on Hugging Face's hub, with the files ``wanted`` and the first of
    ``weights`` that exists.

    ``weights`` gets the folder with the wanted files. Files that are there already are not fetched again.
    Raises ``FileNotFoundError`` if the hub cannot be reached or has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(wanted)))
        for file in weights(folder):
            folder = Path(snapshot_download(name, allow_patterns=[file]))
            if (folder / file).is_file():
                break
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise FileNotFoundError(f"{name} could not be fetched from huggingface.co ({type(error).__name__}); "
                                f"connect to the "
                                "network, or download its folder elsewhere and load it by its "
                                "path") from error
    return folder


def fetch_hugging_face(name: str, wanted: Sequence[str]) -> Path:
    """The folder of a public model of ``transformers``, downloaded (once): settings, ``wanted``, weights."""
    config, weights = HUGGING_FACE
    return download(name, [config, *wanted], lambda folder: weights)
