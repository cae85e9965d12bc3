"""The public weights of DALL-E's dVAE, whose files hold whole Python objects: read without running any of it.

Paper: A. Ramesh et al. (2021), arXiv:2102.12092; files ``encoder.pkl`` and ``decoder.pkl``, to which the
README of github.com/openai/DALL-E links (a modified MIT licence).  Survey: 2.2, E3.  Differs from the paper:
nothing.

A published file is a pickle of the whole module, which ordinary loading would import and build class by
class (and which breaks when a class has changed since). Here each class that such a module is made of is an
empty box (``Inert``) that keeps what the file says of it; any other name is refused before anything is
called. From the boxes come the tensors by name, and these fill our modules. A plain state dict of the same
names is read, too, and the encoder as FLAVA has it, ``transformers``' ``FlavaImageCodebook``.
"""

import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import download, layers_of, read_state, shape_of
from mmlearn.text2image.dvae import DVAE, DVAEConfig, DVAEDecoder, DVAEEncoder
from mmlearn.weights import SUFFIXES, check_numbers, is_torchscript

SYSTEM = "DALL-E's dVAE"
PUBLIC, FLAVA = "openai/DALL-E", "facebook/flava-image-codebook"
PARTS = ("encoder", "decoder")
MARK = "blocks.group_1.block_1.res_path.conv_1.w"
CLASSES = (                                     # what a published module is made of
    *(f"dall_e.{part}.{name}" for part in PARTS
      for name in (part.capitalize(), f"{part.capitalize()}Block")),
    "dall_e.utils.Conv2d", "torch.nn.modules.container.Sequential", "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.pooling.MaxPool2d", "torch.nn.modules.upsampling.Upsample",
    "torch.nn.modules.linear.Identity", "functools.partial", "torch.device",
)
DEPTH = 8                                       # modules within modules


# ----------------------------------------------------------------------------------- modules as inert objects

class Inert:
    """An object of a file that is never brought to life: it takes any arguments and keeps its state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state


def inert_classes() -> list[Any]:
    """An inert class for each name of ``CLASSES``, under that name, and the ``set`` that modules keep."""
    boxes: list[Any] = [(type("Inert", (Inert,), {}), name) for name in CLASSES]
    return [*boxes, (set, "builtins.set"), (set, "__builtin__.set")]


def read_module(path: Path) -> dict[str, Tensor]:
    """The tensors by name of a file that holds a whole module of ``dall_e`` (or a plain state dict).

    Raises ``ValueError`` for a file that names anything else than the parts of such a module, with that name;
    nothing of the file is run.
    """
    try:
        with torch.serialization.safe_globals(inert_classes()), warnings.catch_warnings():
            warnings.simplefilter("ignore")                        # about pickles of another age
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:              # a damaged pickle ends in whatever its instructions meet
        raise ValueError(refusal(path, error)) from None
    tensors = dict(tensors_of(content, str(path)))
    if not tensors:
        raise ValueError(f"{path} holds no weights of a module; take encoder.pkl or decoder.pkl as it was "
                         "published")
    return tensors


def refusal(path: Path, error: Exception) -> str:
    """One sentence about a file that was not read."""
    message = str(error)
    if named := re.search(r"(?:GLOBAL|function|Type) ([\w.]+)", message):
        return (f"{path} names {named[1]}, which is no part of a dVAE, and nothing of it was run; take "
                "encoder.pkl or decoder.pkl as it was published")
    if "persistent_load of storage" in message:
        return (f"{path} is a module in the format that PyTorch had before 1.6, which holds source code; "
                "where it may be trusted, save it anew: torch.save(torch.load(FILE, weights_only=False), "
                "NEW)")
    inner = re.search(r"WeightsUnpickler error: (\S.*)", message)
    why = inner[1][:200] if inner else "it is no file that PyTorch wrote"
    return f"{path} cannot be read as a module of the dVAE ({why}); download it again"


def tensors_of(content: Any, where: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of an inert module and of those within it, with their names."""
    state = content.state if isinstance(content, Inert) else None
    if state is None and isinstance(content, Mapping) and not depth:
        state = {"_parameters": content}                            # a plain state dict
    if depth > DEPTH or not isinstance(state, Mapping):
        raise ValueError(f"{where}: {prefix.rstrip('.') or 'the whole'} is no module with weights; take "
                         "encoder.pkl or decoder.pkl as it was published")
    for kind in ("_parameters", "_buffers"):
        for name, value in dict(state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value.detach()
    for name, module in dict(state.get("_modules") or {}).items():
        yield from tensors_of(module, where, f"{prefix}{name}.", depth + 1)


# ------------------------------------------------------------------------------------------- names and sizes

def public_name(ours: str) -> str:
    """The authors' name of a tensor of our encoder or decoder."""
    ours = re.sub(r"^input\.", "blocks.input.", re.sub(r"^output\.", "blocks.output.conv.", ours))
    ours = re.sub(r"^groups\.(\d+)\.(\d+)\.",
                  lambda m: f"blocks.group_{int(m[1]) + 1}.block_{int(m[2]) + 1}.", ours)
    ours = re.sub(r"convs\.(\d+)\.", lambda m: f"res_path.conv_{int(m[1]) + 1}.", ours)
    return ours.replace("shortcut.", "id_path.").replace(".weight", ".w").replace(".bias", ".b")


def from_flava(name: str) -> str:
    """The authors' name of a tensor that ``transformers`` has renamed."""
    name = name.removeprefix("image_codebook.")
    name = re.sub(r"(group_\d+)\.group\.", r"\1.", name).replace("res_path.path.", "res_path.")
    return re.sub(r"\.weight$", ".w", re.sub(r"\.bias$", ".b", name))


def as_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the authors' names, whoever named them. Names that fall together are kept apart."""
    renamed = {from_flava(name): value for name, value in state.items()}
    return renamed if len(renamed) == len(state) else dict(state)


def knows(names: Collection[str]) -> bool:
    """Are these names those of an encoder or a decoder of the dVAE?"""
    return MARK in {from_flava(name) for name in names}


def part_of_names(state: Mapping[str, Tensor], where: str) -> str:
    """"encoder" or "decoder": the first convolution of an encoder is one of 7 x 7."""
    return "decoder" if shape_of(state, "blocks.input.w", 4, where)[-1] == 1 else "encoder"


def config_of(state: Mapping[str, Tensor], part: str, where: str) -> DVAEConfig:
    """The sizes of one part, read off names and shapes; what the other part alone has is that of the
    paper."""
    shape = partial(shape_of, state, dimensions=4, where=where)
    groups = layers_of(dict(state), r"blocks\.group_(\d+)\.")
    blocks = layers_of(dict(state), r"blocks\.group_1\.block_(\d+)\.")
    first, last = shape("blocks.input.w"), shape("blocks.output.conv.w")
    sizes: dict[str, int] = {"groups": groups, "blocks": blocks}
    if part == "encoder":
        sizes |= {"vocab": last[0], "width": first[0], "channels": first[1]}
    else:
        sizes |= {"vocab": first[1], "width": last[1], "channels": last[0] // 2, "code_width": first[0]}
    return DVAEConfig(**sizes)


# ---------------------------------------------------------------------------------------------------- reading

def _state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file under the authors' names: a whole module, or a state dict in any form."""
    if path.suffix == ".pkl":
        return as_published(read_module(path))
    try:
        return as_published(read_state(path))
    except ValueError:
        if path.suffix not in SUFFIXES or path.suffix == ".safetensors" or is_torchscript(path):
            raise
        return as_published(read_module(path))                      # a module under another file's name


def _files(folder: Path) -> dict[str, Path]:
    """The files of both parts in a folder."""
    files = {part: folder / f"{part}.pkl" for part in PARTS}
    return {part: file for part, file in files.items() if file.is_file()}


def recognises(path: Path) -> bool:
    """Is this a file of the dVAE's encoder or decoder, or a folder with both?"""
    if path.is_dir():
        return len(_files(path)) == len(PARTS)
    if not path.is_file() or path.suffix not in (*SUFFIXES, ".pkl"):
        return False
    return knows(_state(path))


def fetch(name: str) -> Path:
    """FLAVA's encoder from the hub; OpenAI's files are on no hub. Raises ``FileNotFoundError``."""
    if name != FLAVA:
        raise FileNotFoundError(f"the weights of {name} are on no hub; get encoder.pkl and decoder.pkl by "
                                f"the links in the README of github.com/{name} and load them, or their "
                                "folder, by path")
    files = ("model.safetensors", "pytorch_model.bin")
    folder = download(name, [], lambda _: files)
    return next(folder / file for file in files if (folder / file).is_file())


def load_part(path: Path) -> DVAEEncoder | DVAEDecoder:
    """The encoder or the decoder of a file, in evaluation mode and float32, every name and shape accounted
    for. Raises ``ValueError``."""
    state = _state(path)
    if MARK not in state:
        raise ValueError(f"{path} is no encoder or decoder of the dVAE: it has no {MARK}; give encoder.pkl "
                         "or decoder.pkl as it was published")
    check_numbers(state, path)
    part = part_of_names(state, str(path))
    config = config_of(state, part, str(path))
    with blank():
        model: nn.Module = (DVAEEncoder if part == "encoder" else DVAEDecoder)(config)
    ours = {name: public_name(name) for name in model.state_dict()}
    expected = {ours[name]: tuple(value.shape) for name, value in model.state_dict().items()}
    state = fitting(state, expected, str(path))
    model.load_state_dict({name: state[theirs].float().clone() for name, theirs in ours.items()}, assign=True)
    return model.eval()                                                     # type: ignore[return-value]


def load(path: Path) -> DVAE | DVAEEncoder | DVAEDecoder:
    """The whole dVAE of a folder with ``encoder.pkl`` and ``decoder.pkl``, or the part that a file holds.

    Raises ``ValueError`` if a file is something else, or the two parts are of different models.
    """
    if not path.is_dir():
        return load_part(path)
    encoder, decoder = (load_part(file) for file in _files(path).values())
    if not isinstance(encoder, DVAEEncoder) or not isinstance(decoder, DVAEDecoder):
        raise ValueError(f"{path}: encoder.pkl and decoder.pkl are not one encoder and one decoder; take "
                         "both as they were published")
    names = ("vocab", "width", "groups", "blocks", "channels")
    if differ := [name for name in names
                  if getattr(encoder.config, name) != getattr(decoder.config, name)]:
        raise ValueError(f"{path}: encoder and decoder differ in {', '.join(differ)}; take the files of one "
                         "model")
    with blank():
        model = DVAE(decoder.config)
    model.encoder, model.decoder = encoder, decoder
    return model.eval()
