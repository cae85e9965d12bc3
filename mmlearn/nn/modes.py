"""Evaluation mode and seeds for the length of a block, and results that are computed once.

Survey: none.  Dropout is off and batch statistics are fixed in evaluation mode; each module gets back the
mode it had.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

P = ParamSpec("P")
R = TypeVar("R")


class _Unfilled(TorchFunctionMode):
    """Leaves tensors as they are where an initialiser would fill them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "trunc_normal_", "uniform_", "erfinv_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def blank() -> Iterator[None]:
    """Models made in the block have names and shapes and take no memory: they are on the device "meta"."""
    with torch.device("meta"), _Unfilled():      # filling there would import a compiler, which takes seconds
        yield


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[torch.device]:
    """``model`` and all its parts in evaluation mode; yields the device of its weights ("cpu" if it has
    none).

    Afterwards every part is in the mode it was in before, whatever happens in the block.
    """
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield next((p.device for p in model.parameters()), torch.device("cpu"))
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers drawn in the block are a function of ``seed``; the global state is afterwards as it was
    before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """A function that computes a result once as long as the process lives, and gives each caller tensors of
    its own.

    With ``functools.cache`` alone a caller who changes a tensor would change it for all. The result is a
    tensor, a tuple or a dataclass that holds tensors.
    """
    kept = cache(function)

    @wraps(function)
    def fresh(*args: P.args, **kwargs: P.kwargs) -> R:
        return _own(kept(*args, **kwargs))              # type: ignore[arg-type]

    fresh.cache_clear = kept.cache_clear                # type: ignore[attr-defined]
    return fresh


def _own(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, tuple):
        parts = [_own(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if is_dataclass(value) and not isinstance(value, type):
        members = {f.name: getattr(value, f.name) for f in fields(value)}
        copies = {name: _own(part) for name, part in members.items() if isinstance(part, Tensor)
                  or is_dataclass(part)}
        return replace(value, **copies)
    return value
