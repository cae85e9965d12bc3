"""Models on disk: trained ones to be opened again, and checkpoints of a run that can be killed and continued.

A trained model is a pair of files, ``NAME.safetensors`` with the weights and ``NAME.json`` with its system,
its configuration and whatever else is to be known of it; in a folder of its own the pair is
``model.safetensors`` and ``config.json``. ``save_model`` writes and ``load_model`` reads both.

A checkpoint of a run is a folder ``step-00000100`` with ``state.json`` and tensors in ``.safetensors`` files
(the model, its average, the best so far, the optimiser, the random states); nothing in it is a pickle. It is
written under another name, flushed to the disk and renamed, so that a folder of that name is whole; sizes and
checksums tell if it is not. Survey: none; every chapter trains with it.
"""

import json
import random
import re
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from mmlearn.files import flush, make_folder, read_json, sweep, write_atomically, writing
from mmlearn.nn.configuration import as_field, check_types
from mmlearn.nn.modes import blank
from mmlearn.weights import check_numbers, read_weights

Tensors = dict[str, Tensor]
Kinds = Mapping[str, tuple[type, type]]  # name of a system -> class of its configuration, class of its model
FORMAT = 2                               # 1, which is still read, had no checksum of its state


@dataclass
class Checkpoint:
    """What is needed to go on after ``step``: tensors by file ("model", "optimizer" …) and a JSON-able
    ``state``."""

    step: int
    state: dict[str, Any]
    tensors: dict[str, Tensors] = field(repr=False)


class Damaged(ValueError):
    """A checkpoint is not what was written."""


def portable(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors as `safetensors` takes them: on the CPU, contiguous, and none a view into another's memory."""
    out: Tensors = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        shared = (
            tensor.untyped_storage().data_ptr() in seen or tensor.untyped_storage().nbytes() != tensor.nbytes
        )
        out[name] = tensor.clone() if shared else tensor  # tied weights are written under each of their names
        seen.add(out[name].untyped_storage().data_ptr())
    return out


def save(folder: str | Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write ``checkpoint`` into ``folder`` in one step, then delete all but the newest ``keep``; returns its
    path.

    Checkpoints of later steps are deleted, too: they were damaged, and the run went back before them.
    """
    folder = make_folder(folder)
    sweep(folder)                                                # of a run that was killed while it wrote
    final = folder / f"step-{checkpoint.step:08d}"
    partial = make_folder(folder / f".partial-{final.name}")
    files = {}
    for name, tensors in checkpoint.tensors.items():
        content = safetensors.torch.save(portable(tensors))
        files[f"{name}.safetensors"] = [len(content), zlib.crc32(content)]
        write_atomically(partial / f"{name}.safetensors", content)
    state = {"format": FORMAT, "step": checkpoint.step, "files": files, **checkpoint.state}
    write_atomically(partial / "state.json", sealed(json.dumps(state)))
    with writing(final):
        if final.exists():  # a damaged one, or the same step written again
            final.rename(folder / f".partial-old-{final.name}")
        partial.rename(final)
        flush(folder)
        present = steps_in(folder)
        place = present.index(final)
        for old in [*present[:place], *present[place + keep:]]:  # out of sight first: it takes many steps
            old.rename(folder / f".partial-old-{old.name}")
    sweep(folder)
    return final


def steps_in(folder: str | Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    found = (path for path in Path(folder).glob("step-*") if path.name.removeprefix("step-").isdecimal())
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def sealed(text: str) -> bytes:
    """A JSON object with a checksum of everything behind it as its first member."""
    rest = text.removeprefix("{").encode()
    return b'{"checksum": "%08x", ' % zlib.crc32(rest) + rest


def unsealed(path: Path) -> dict[str, Any]:
    """What ``sealed`` wrote into a file. Raises ``ValueError`` if a bit of it has changed."""
    content = path.read_bytes()
    state = json.loads(content)
    before = isinstance(state, dict) and state.get("format") == 1 and "checksum" not in state
    if not before and content != sealed("{" + content[len(sealed("{")):].decode()):
        raise ValueError("it was altered: its checksum differs")
    return state


def read(path: str | Path) -> Checkpoint:
    """Read one checkpoint. Raises ``Damaged`` if a file of it is missing, cut short or altered."""
    path = Path(path)
    try:
        state = unsealed(path / "state.json")
        step, files = int(state["step"]), {name: (size, number) for name, (size, number)
                                           in state["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{path / 'state.json'} cannot be read ({error})") from error
    if state.get("format") not in (1, FORMAT):
        raise Damaged(f"{path} has format {state.get('format')}, expected {FORMAT}")
    tensors = {}
    for name, (size, checksum) in files.items():
        if Path(name).name != name:
            raise Damaged(f"{path / 'state.json'} names the file {name!r}, which is not in its folder")
        try:
            content = (path / name).read_bytes()
        except (OSError, ValueError) as error:
            raise Damaged(f"{path / name} cannot be read ({error})") from error
        if len(content) != size:
            raise Damaged(f"{path / name} has {len(content)} bytes, expected {size}")
        if zlib.crc32(content) != checksum:
            raise Damaged(f"{path / name} was altered (its checksum differs)")
        try:
            tensors[name.removesuffix(".safetensors")] = safetensors.torch.load(content)
        except (safetensors.SafetensorError, KeyError) as error:
            raise Damaged(f"{path / name} holds no tensors ({error})") from error
    return Checkpoint(step, state, tensors)


def newest(folder: str | Path) -> Checkpoint | None:
    """The newest checkpoint of a run that can be read, or None where there is none yet.

    A damaged one is passed over with a sentence on stderr. Raises ``ValueError`` if all are damaged.
    """
    paths = steps_in(folder)
    reasons = []
    for path in paths:
        try:
            return read(path)
        except Damaged as error:
            reasons.append(str(error))
            if path != paths[-1]:
                print(f"{error}; going back to the checkpoint before it", file=sys.stderr)
    if reasons:
        raise ValueError(f"no checkpoint in {folder} can be read: {reasons[0]}; delete the folder to start "
                         f"again")
    return None


# Model ------------------------------------------------------------------------------------------------------

def fill(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy ``tensors`` into ``model``, every name and shape matched on both sides.

    Raises ``ValueError`` with the names that differ; ``source`` says in it where the tensors come from.
    """
    _compare(model, tensors, source)
    model.load_state_dict(dict(tensors))


def _compare(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    ours = model.state_dict()
    problems = [f"lacks {name}" for name in ours if name not in tensors]
    problems += [f"has {name}, which the model has not" for name in tensors if name not in ours]
    problems += [f"has {name} of shape {tuple(tensors[name].shape)}, the model {tuple(ours[name].shape)}"
                 for name in ours if name in tensors and tensors[name].shape != ours[name].shape]
    if problems:
        more = f" and {len(problems) - 3} more differences" if len(problems) > 3 else ""
        raise ValueError(f"{source} does not fit {type(model).__name__}: it {', '.join(problems[:3])}{more}; "
                         "build the model with the configuration it was saved with")
    check_numbers({name: tensors[name] for name in ours if ours[name].is_floating_point()}, source)


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a number which is not finite, or None."""
    numbers = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    sums = [tensor.detach().sum(dtype=torch.float32) for tensor in numbers.values()]
    if not sums or bool(torch.stack([total.to(sums[0].device) for total in sums]).isfinite().all()):
        return None                                     # a sum is quick, and finite only if all its terms are
    return next((name for name, tensor in numbers.items() if not bool(tensor.isfinite().all())), None)


def save_weights(model: nn.Module, path: str | Path, half: bool = False, without: Iterable[str] = ()) -> None:
    """Write the weights of ``model`` alone, as one ``.safetensors`` file, in one step; ``half`` rounds them
    to 16 bits, submodules ``without`` are left out. Raises ``ValueError`` for numbers that are not finite."""
    left_out = tuple(f"{part}." for part in without)
    state = {name: v.half() if half and v.is_floating_point() else v for name,
             v in model.state_dict().items() if not name.startswith(left_out)}
    if name := not_finite(state):
        raise ValueError(f"{path} is not written: the weights {name} are not finite{' in 16 bits' * half}; "
                         f"train them again with a lower learning rate or a clipped gradient")
    write_atomically(path, safetensors.torch.save(portable(state)))


def read_tensors(path: str | Path) -> Tensors:
    """The tensors of a file of weights by their names, see ``read_weights``. Raises ``FileNotFoundError`` or
    ``ValueError``."""
    return read_weights(path)


def load_weights(model: nn.Module, path: str | Path, which: str | None = None) -> None:
    """Fill ``model`` from a ``.safetensors`` file, a checkpoint, or the newest checkpoint of a run's folder.

    ``which`` is "model", "ema" or "best"; by default the best where the run kept it, else the last weights.
    Raises ``FileNotFoundError`` if nothing is there, ``ValueError`` if it does not fit.
    """
    path = Path(path)
    if path.is_file():
        return fill(model, as_trained(read_tensors(path)), str(path))
    checkpoint = read(path) if (path / "state.json").is_file() else newest(path) if path.is_dir() else None
    if checkpoint is None:
        raise FileNotFoundError(f"no weights at {path}; train with folder={str(path)!r} first")
    which = which or ("best" if "best" in checkpoint.tensors else "model")
    if which not in checkpoint.tensors:
        raise ValueError(f"{path} holds no {which!r} weights, only {', '.join(sorted(checkpoint.tensors))}")
    fill(model, checkpoint.tensors[which], str(path))


def as_trained(tensors: Tensors) -> Tensors:
    """Numbers of 16 bits, in which weights may be stored, as those of 32 bits in which models compute."""
    return {name: v.float() if v.is_floating_point() else v for name, v in tensors.items()}


# Trained model ----------------------------------------------------------------------------------------------

def pair_of(path: str | Path) -> tuple[Path, Path]:
    """The two files of a trained model, weights and description: ``path`` is the first, or the folder of
    both."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return path, path.with_suffix(".json")
    return path / "model.safetensors", path / "config.json"


def is_saved(path: str | Path) -> bool:
    """Is this a trained model as ``save_model`` writes it? Folders of other libraries have a ``config.json``,
    too."""
    weights, description = pair_of(path)
    if not (weights.is_file() and description.is_file()):
        return False
    try:
        return "config" in read_json(description)
    except ValueError:
        return False


def save_model(path: str | Path, model: nn.Module, system: str, about: Mapping[str, Any], *,
               half: bool = False, parts: Mapping[str, str] | None = None) -> None:
    """Write a trained model; ``about`` (words, settings, metrics …) stands beside its system and
    configuration.

    ``half`` stores 16 bits a number. ``parts`` maps submodules to the names of models in the same folder
    that they are; what stands there is not written twice. The weights are written first: a pair with a
    description is whole. Raises ``ValueError`` if a part is another model than the one of that name.
    """
    weights, description = pair_of(path)
    config: Any = model.config
    content = {"system": system, "config": asdict(config), **about}
    if parts:
        content["parts"] = dict(parts)
        state = model.state_dict()
        for name, v in tensors_of_parts(weights, parts, description).items():
            if not torch.equal(v, state[name].cpu().to(v)):
                raise ValueError(f"{weights} is not written: {name} is another one than beside it, in "
                                 f"{' or '.join(parts.values())}; save the whole model")
    save_weights(model, weights, half, parts or ())
    write_atomically(description, json.dumps(content, indent=1) + "\n")


def read_description(path: str | Path, remedy: str = "train it again") -> dict[str, Any]:
    """What stands beside the weights of a trained model: system, configuration, and what was noted at saving.

    Raises ``FileNotFoundError`` or ``ValueError`` with the name of the file that is missing or damaged, and
    the ``remedy``.
    """
    weights, description = pair_of(path)
    missing = next((file for file in (description, weights) if not file.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"no trained model at {path}: {missing.name} is missing; {remedy}")
    return read_json(description, remedy=remedy)


def load_model(path: str | Path, kinds: Kinds, remedy: str = "train it "
                                                             "again") -> tuple[nn.Module, dict[str, Any]]:
    """A trained model of one of ``kinds`` in evaluation mode and float32, and what stands in its description.

    A description that names no system is one of the first of ``kinds``. Raises ``FileNotFoundError`` or
    ``ValueError`` with the name of the file that is missing or does not fit, and the ``remedy``.
    """
    content = read_description(path, remedy)
    weights, description = pair_of(path)
    try:
        config_kind, kind = kinds[content.get("system", next(iter(kinds)))]
        if not isinstance(content["config"], dict):
            raise ValueError(f"config is no object but {str(content['config'])[:40]!r}")
        config = config_from(config_kind, content["config"])
        with blank():                      # a size that the weights have not asks for no memory
            expected = kind(config)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{description} does not describe a model of {', '.join(kinds)} "
                         f"({type(error).__name__}: {error}); {remedy}") from error
    tensors = read_tensors(weights) | tensors_of_parts(weights, content.get("parts", {}), description)
    tensors = as_trained(tensors)
    _compare(expected, tensors, str(weights))
    model = kind(config)
    model.load_state_dict(tensors)
    return model.eval(), content


def tensors_of_parts(weights: Path, parts: Any, description: Path) -> Tensors:
    """The tensors of a model that stand in other models' files beside it, by their names in it. Raises
    ``ValueError`` for parts that are no names, ``FileNotFoundError`` for one that is not there."""
    if not isinstance(parts, dict) or not all(
            isinstance(name, str) and re.fullmatch(r"[a-z0-9-]+", name) for name in parts.values()):
        raise ValueError(f"parts in {description} are {str(parts)[:60]}, expected names of models beside it; "
                         f"correct the file, or train the model again")
    return {f"{part}.{key}": v for part, name in parts.items()
            for key, v in read_tensors(weights.with_name(f"{name}.safetensors")).items()}


def config_from(kind: Any, values: Any) -> Any:
    """A configuration as ``asdict`` and JSON took it apart: dataclasses within dataclasses, lists for tuples;
    a mapping stays one.

    Where a field may hold one of several dataclasses, it is the one that has these names.
    """
    if isinstance(values, list):
        inner = get_args(kind)
        return tuple(config_from(inner[0] if inner else Any, value) for value in values)
    if not isinstance(values, dict) or get_origin(kind) is Mapping:
        return values
    fitting = [k for k in (get_args(kind) or (kind,)) if is_dataclass(k)
               and values.keys() <= {f.name for f in fields(k)}]
    if not fitting:
        raise ValueError(f"{kind} has not all of the fields {', '.join(values)}")
    # what a field added later leaves out is its default
    chosen: Any = min(fitting, key=lambda k: len(fields(k)))
    hints = get_type_hints(chosen)
    made = {name: as_field(config_from(hints[name], value), hints[name]) for name, value in values.items()}
    check_types(chosen, made)
    return chosen(**made)


# Optimiser --------------------------------------------------------------------------------------------------

def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """State of an optimiser as tensors (``"3.exp_avg"``: of the fourth parameter) and JSON-able settings."""
    state = optimizer.state_dict()
    tensors, numbers = {}, {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                numbers[f"{index}.{name}"] = value
    return tensors, {"groups": state["param_groups"], "numbers": numbers}


def fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor],
                   settings: dict[str, Any]) -> None:
    """Put back what ``pack_optimizer`` took."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *settings["numbers"].items()]:
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = [{name: tuple(v) if isinstance(v, list) and name != "params" else v for name, v in group.items()}
              for group in settings["groups"]]                   # JSON has lists only, betas are a pair
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for group in optimizer.param_groups:  # a fused step reads memory as it lies: a filter that is
        for weight in group["params"]:  # stored channels-last needs its averages so, too
            kept = optimizer.state[weight]
            for name, value in kept.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    kept[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


# Random states ----------------------------------------------------------------------------------------------

def random_states() -> Tensors:
    """States of the generators of Python, NumPy and PyTorch in this process."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (other code may draw from it)
    states = {"python": torch.tensor([version, *words], dtype=torch.int64),
              "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
              "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
              "numpy_rest": torch.tensor([position, has_gauss, cached], dtype=torch.float64),
              "torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Tensor]) -> None:
    """Put back what ``random_states`` took."""
    version, *words = states["python"].tolist()
    gauss = states["python_gauss"].tolist()
    random.setstate((version, tuple(words), gauss[0] if gauss else None))
    position, has_gauss, cached = states["numpy_rest"].tolist()
    np.random.set_state(("MT19937", states["numpy"].numpy().astype(np.uint32),    # noqa: NPY002
                         int(position), int(has_gauss), cached))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


# What a run is ----------------------------------------------------------------------------------------------

def describe(model: nn.Module, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What must stay the same when a run goes on: the model's class and configuration, and ``settings``."""
    config = getattr(model, "config", None)
    values = asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}
    described = {"model": type(model).__name__, **{f"config.{name}": value for name, value in values.items()},
                 **settings}
    return json.loads(json.dumps(described, default=str))


def same_run(here: Mapping[str, Any], there: Mapping[str, Any], folder: str | Path) -> None:
    """Raises ``ValueError`` naming what differs between the run in ``folder`` and this one."""
    differ = [f"{name} {there.get(name, 'absent')} (now {here.get(name, 'absent')})"
              for name in dict.fromkeys([*there, *here])
              if there.get(name, "absent") != here.get(name, "absent")]
    if differ:
        raise ValueError(f"{folder} holds a run with "
                         f"{', '.join(differ[:4])}{' …' if len(differ) > 4 else ''}; "
                         "resume it as it was begun, or train in another folder")
