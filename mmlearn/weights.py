"""Weights as people have them: tensors by name from one file or from many with an index; no code is run.

Survey: none.  A file is ``.safetensors`` or a pickle of PyTorch's (``.pt``, ``.pth``, ``.bin``, ``.ckpt``,
``.pth.tar``); what training programs wrap around a state dict is taken off, and said.
"""

import re
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from mmlearn.files import read_json

Tensors = dict[str, Tensor]
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
UNDER = ("state_dict", "model", "model_state_dict", "module")      # where a run's state dict is kept
WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "model.")   # in front of every name
INNER = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module)\.")   # in front of a compiled or sharded part
SPARE = 64 << 20        # bytes that a file may unpack to beyond four times its own size
_read: ContextVar[dict[Any, Tensors] | None] = ContextVar("_read", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Within it, a file of weights is read once, however many readers look into it."""
    token = _read.set({})
    try:
        yield
    finally:
        _read.reset(token)


def read_weights(path: str | Path, under: Sequence[str] = UNDER, trust: bool = False) -> Tensors:
    """The tensors of a file of weights, or of all files that an index (``….index.json``) lists, by name.

    A state dict is looked for under the names ``under``; wrappers before all of its names and values that are
    no tensors are left out, with a line on stderr. ``trust`` allows to run the code of a TorchScript archive.
    Raises ``FileNotFoundError`` where there is no file and ``ValueError`` for anything but tensors of finite
    size, with the file's name and the remedy.
    """
    path = Path(path)
    remembered = _read.get()
    key = (path, tuple(under), trust)
    if remembered is not None and key in remembered:
        return remembered[key]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {path}; what it belongs to is not complete, "
                                f"copy, download or train it again")
    tensors = _sharded(path, under, trust) if path.name.endswith(".index.json") else _one(path, under, trust)
    tensors, left = unwrapped(tensors)
    _say(path, [f"took {prefix!r} off the names" for prefix in left])
    if remembered is not None:
        remembered[key] = tensors
    return tensors


def _one(path: Path, under: Sequence[str], trust: bool) -> Tensors:
    if path.suffix == ".safetensors":
        try:
            tensors = safetensors.torch.load(path.read_bytes())
        except OSError:
            raise
        except Exception as error:         # the library has errors of its own, and lets others pass
            raise ValueError(f"{path} is not a whole safetensors file ({reason(error)}); copy or download it "
                             f"again") from None
    elif is_torchscript(path):
        if not trust:
            raise ValueError(
                f"{path} is a TorchScript archive, as OpenAI publishes CLIP: it holds code, which loading "
                "could run. Convert it once, torch.save(torch.jit.load(FILE, "
                "map_location='cpu').state_dict(), "
                "NEW), on a machine where that may be, and load NEW; or pass trust=True if you know where "
                "the file comes from")
        try:
            tensors = dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        except RuntimeError as error:
            raise ValueError(f"{path} cannot be read as weights ({reason(error)}); download it "
                             f"again") from None
    else:
        tensors = state_dict(_unpickled(path), under, path)
    _check_storage(tensors, path)
    return tensors


def _unpickled(path: Path) -> Any:
    """What a pickle of PyTorch's holds, if it is tensors, numbers, text and containers of them."""
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")                        # about pickles of another age
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:             # a damaged pickle ends in whatever its instructions meet
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{path} cannot be read as weights ({reason(error)}); download it again") from None


def _check_archive(path: Path) -> None:
    """Refuse what unpacks to far more than it is, and archives in which a file of weights may lie."""
    size = path.stat().st_size
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                whole = sum(member.file_size for member in archive.infolist())
                locked = any(member.flag_bits & 1 for member in archive.infolist())
            if locked:
                raise ValueError("it is encrypted")
            if whole > 4 * size + SPARE:
                raise ValueError(f"its {size:,} bytes would become {whole:,}")
        elif tarfile.is_tarfile(path):
            raise ValueError("it is a tar archive: unpack it and load what is in it")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as weights ({error}); give the file as it was "
                         "published") from None
    except Exception as error:             # of the many ways in which an archive can be damaged
        raise ValueError(f"{path} cannot be read as weights ({reason(error)}); download it again") from None


def reason(error: BaseException) -> str:
    """The first line of an error, or its name where it says nothing; at most 200 letters. PyTorch's advice to
    read a pickle in a way that runs what it holds is left out."""
    said = str(error).rpartition("WeightsUnpickler error: ")[2].partition(". Please use")[0]
    lines = [line.strip() for line in said.splitlines() if line.strip() and "`weights_only`" not in line]
    return lines[0][:200] if lines else type(error).__name__


def is_torchscript(path: Path) -> bool:
    """Is this an archive of TorchScript, that is of code and tensors?"""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except Exception:                      # a damaged archive is none; reading it says what is wrong
        return False


def harmless() -> list[Any]:
    """NumPy's arrays and numbers, under the names that NumPy 1 and 2 give them in a pickle."""
    core: Any = getattr(np, "_core", None) or np.core
    allowed: list[Any] = [np.ndarray, np.dtype]
    for package in ("numpy.core", "numpy._core"):
        for function in ("_reconstruct", "scalar"):
            allowed.append((getattr(core.multiarray, function), f"{package}.multiarray.{function}"))
    kinds = ("bool", "uint8", "int32", "uint32", "int64", "uint64", "float32", "float64")
    return allowed + [type(np.dtype(kind)) for kind in kinds]


# ------------------------------------------------------------------------------------------------ state dicts

def state_dict(content: Any, under: Sequence[str], path: Path, depth: int = 3) -> Tensors:
    """The tensors by name in what a checkpoint holds: itself, or what is under one of the names ``under``.

    Where several nets stand there, ``{"netG": {"fc.weight": …}}``, their names go before those of their
    tensors, ``netG.fc.weight``. Values that are no tensors are left out with a line on stderr. Raises
    ``ValueError`` if there are no tensors by name.
    """
    for _ in range(4):                                             # {"checkpoint": {"model": …}}
        if not isinstance(content, Mapping):
            break
        inside = next((content[name] for name in under if _has_tensors(content.get(name))), None)
        if inside is None and not any(isinstance(value, Tensor) for value in content.values()):
            sets = [name for name, value in content.items() if _has_tensors(value)]
            if len(sets) > 1 and depth:
                return {f"{net}.{name.removeprefix('module.')}": value for net in sets
                        for name, value in state_dict(content[net], (), path, depth - 1).items()}
            inside = content[sets[0]] if sets else None
        if inside is None:
            break
        content = inside
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no state dict, that is tensors by name (alone or under "
                         f"{' or '.join(under)}); give the file of weights as it was published")
    if stray := [name for name, value in content.items() if not isinstance(value, Tensor)]:
        _say(path, [f"left out {', '.join(map(repr, stray[:4]))}{' …' if len(stray) > 4 else ''}, which "
                    f"{'is no tensor' if len(stray) == 1 else 'are no tensors'}"])
    tensors = {name: value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    if odd := [name for name in tensors if not isinstance(name, str)]:
        raise ValueError(f"{path} calls a tensor {odd[0]!r}, which is no text; give a state dict as a model "
                         f"writes it")
    return tensors


def _has_tensors(value: Any, depth: int = 3) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(inner, Tensor) or (depth > 0 and _has_tensors(inner, depth - 1))
        for inner in value.values())


def unwrapped(tensors: Mapping[str, Tensor]) -> tuple[Tensors, list[str]]:
    """Tensors without the prefixes that wrappers put before all names, and which these were.

    ``module.`` is ``DataParallel``'s, ``_orig_mod.`` that of ``torch.compile``; a number of the wrapper's own
    (``n_averaged``) needs no prefix, and is left out.
    """
    out, taken = dict(tensors), []
    while prefix := next((p for p in WRAPPERS if _before_all(p, out)), None):
        out = {name.removeprefix(prefix): value for name, value in out.items() if name.startswith(prefix)}
        taken.append(prefix)
    if any(INNER.search(name) for name in out):
        inner = {INNER.sub("", name): value for name, value in out.items()}
        if len(inner) == len(out):
            out, taken = inner, [*taken, "_orig_mod."]
    return out, taken


def _before_all(prefix: str, tensors: Mapping[str, Tensor]) -> bool:
    without = [value for name, value in tensors.items() if not name.startswith(prefix)]
    return len(without) < len(tensors) and all(
        value.ndim == 0 and not value.is_floating_point() for value in without) and prefix not in tensors


def _say(path: Path, lines: Sequence[str]) -> None:
    for line in lines:
        print(f"{path}: {line}", file=sys.stderr)


# ------------------------------------------------------------------------------------------------ many files

def _sharded(index: Path, under: Sequence[str], trust: bool) -> Tensors:
    """The tensors of all files that an index lists, each being where the index says."""
    remedy = "download the whole folder again"
    where = read_json(index, remedy=remedy).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(file, str) for file in where.values()):
        raise ValueError(f"{index} has no weight_map, which says in which file each tensor is; {remedy}")
    files = sorted(set(where.values()))
    for file in files:
        if Path(file).name != file or Path(file).suffix not in SUFFIXES:
            raise ValueError(f"{index} names the file {file!r}, which is no file of weights in its folder; "
                             f"{remedy}")
    if missing := [file for file in files if not (index.parent / file).is_file()]:
        raise FileNotFoundError(f"{index} lists {len(files)} files, of which {', '.join(missing[:4])}"
                                f"{' …' if len(missing) > 4 else ''} {'is' if len(missing) == 1 else 'are'} "
                                f"missing; {remedy}")
    tensors: Tensors = {}
    for file in files:
        part = _one(index.parent / file, under, trust)
        listed = {name for name, place in where.items() if place == file}
        if listed != part.keys():
            wrong = sorted(listed ^ part.keys())
            raise ValueError(f"{index.parent / file} and {index.name} differ in {', '.join(wrong[:4])}"
                             f"{' …' if len(wrong) > 4 else ''}; {remedy}")
        tensors |= part
    return tensors


# ------------------------------------------------------------------------------------------------ numbers

def _check_storage(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are not plain arrays whose numbers stand in the file, each once."""
    whole, size = 0, path.stat().st_size
    for name, value in tensors.items():
        plain = value.layout == torch.strided and not value.is_quantized and not value.is_nested
        if not plain or value.device.type != "cpu":
            raise ValueError(f"{path}: {name} is no plain tensor but {value.layout} {value.dtype} on "
                             f"{value.device}; save it as ordinary numbers")
        if value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f"{path}: {name} of shape {tuple(value.shape)} has more numbers than the file; "
                             f"download it again")
        whole += value.nbytes
    if whole > 16 * size + SPARE:
        raise ValueError(f"{path}: its {size:,} bytes would become {whole:,}; give the file as it was "
                         "published")


def check_numbers(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Refuse weights that are no real numbers, or not finite. Raises ``ValueError`` with its name."""
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise ValueError(f"{where}: {name} holds {str(value.dtype).removeprefix('torch.')}, where "
                             f"weights are real numbers; give weights that are not quantised or complex")
        if value.numel():
            value = value if value.dtype in (torch.float32, torch.float64) else value.float()
            low, high = value.aminmax()                            # both are NaN where one number is
            if not (torch.isfinite(low) and torch.isfinite(high)):
                bad = value[~value.isfinite()][0].item() if value.ndim else value.item()
                raise ValueError(f"{where}: {name} holds {bad}; the training that wrote it had diverged, or "
                                 f"the file is damaged: take weights from before")
