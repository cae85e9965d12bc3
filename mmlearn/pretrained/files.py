"""Files of public checkpoints: tensors by name, configurations, folders of Hugging Face's hub. No code of a
file is run.

Survey: none; see the appendix on scaling up.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmlearn.checkpoints import read_tensors


def is_torchscript(path: Path) -> bool:
    """Is this an archive of TorchScript, that is of code and tensors?"""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def harmless() -> list[Any]:
    """NumPy's arrays and numbers, under the names that NumPy 1 and 2 give them in a pickle."""
    core: Any = getattr(np, "_core", None) or np.core
    allowed: list[Any] = [np.ndarray, np.dtype]
    for package in ("numpy.core", "numpy._core"):
        for function in ("_reconstruct", "scalar"):
            allowed.append((getattr(core.multiarray, function), f"{package}.multiarray.{function}"))
    kinds = ("bool", "uint8", "int32", "uint32", "int64", "uint64", "float32", "float64")
    return allowed + [type(np.dtype(kind)) for kind in kinds]


def read_state(path: Path, under: Sequence[str] = ("state_dict", "model"),
               trust: bool = False) -> dict[str, Tensor]:
    """The tensors of a file by their names; runs no code of the file, except a TorchScript archive's if
    ``trust``.

    A checkpoint of a training run is opened at the first of the names ``under`` that it has; where several
    nets stand there, their names go before those of their tensors. Raises ``ValueError`` for anything but
    tensors.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if is_torchscript(path):
        if not trust:
            raise ValueError(
                f"{path} is a TorchScript archive, as OpenAI publishes CLIP: it holds code, which loading "
                f"could run. Convert "
                "it once, torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), NEW), on a "
                "machine where that "
                "may be, and load NEW; or pass trust=True if you know where the file comes from")
        return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
    try:
        with torch.serialization.safe_globals(harmless()):
            file = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as weights ({reason}); download it again") from error
    if isinstance(file, dict):
        file = unfold(next((file[name] for name in under if name in file), file))
    if not isinstance(file, dict) or not all(isinstance(value, Tensor) for value in file.values()):
        raise ValueError(f"{path} holds no state dict, that is tensors by name (alone or under "
                         f"{' or '.join(under)}); give "
                         "the file of weights as it was published")
    return {name.removeprefix("module."): value for name, value in file.items()}


def unfold(file: Any) -> Any:
    """State dicts of several nets in one, ``{"netG": {"fc.weight": …}}`` as ``{"netG.fc.weight": …}``; all
    else as it is."""
    if not isinstance(file, dict) or not file or not all(isinstance(part, dict) for part in file.values()):
        return file
    return {f"{net}.{name.removeprefix('module.')}": value for net, part in file.items()
            for name, value in part.items()}


def weights_in(folder: Path, names: Iterable[str]) -> Path:
    """The first of the files ``names`` that is in ``folder``."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
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
