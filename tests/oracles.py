"""Reference implementations whose imports need stand-ins for packages that no longer build or exist.

What is stood in for is never called in a comparison: a trainer, a tokeniser, the version of an installed
package. The stand-ins are in ``sys.modules`` only while the import lasts, so that nobody else mistakes them
for the real ones.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from torch import nn

LIGHTNING = ("pytorch_lightning", "pytorch_lightning.trainer", "pytorch_lightning.callbacks",
             "pytorch_lightning.utilities", "pytorch_lightning.utilities.distributed")
TAMING = ("models.vqgan", "modules.diffusionmodules.model", "modules.discriminator.model",
          "modules.vqvae.quantize", "modules.losses.vqperceptual", "modules.losses.lpips")


class _Anything:
    """A base class, a decorator, whatever an import makes of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


class _StandIn(ModuleType):
    """A module in which every name is an empty class."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Anything,), {})


@contextmanager
def stand_ins(*names: str, **attributes: Any) -> Iterator[None]:
    """Modules ``names`` can be imported in the block; those not there are stand-ins with ``attributes``."""
    made = {}
    for name in names:
        if name not in sys.modules:
            made[name] = _StandIn(name)
            vars(made[name]).update(attributes)
    sys.modules.update(made)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                # those of other people's code
            yield
    finally:
        for name, module in made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@cache
def taming(*more: str) -> ModuleType:
    """The package ``taming`` (taming-transformers) with the modules of VQGAN imported, and those of ``more``.

    ``taming().models.vqgan.VQModel``; ``taming("modules.transformer.mingpt")`` for its transformer. Its LPIPS
    downloads weights when it is made: give ``lossconfig={"target": "torch.nn.Identity"}`` where no loss is
    compared.
    """
    pytest.importorskip("taming")
    with stand_ins(*LIGHTNING, LightningModule=nn.Module):
        if any("transformer" in name for name in more):
            import transformers
            if not hasattr(transformers, "top_k_top_p_filtering"):
                transformers.top_k_top_p_filtering = None  # it was removed; it is imported, and not called
        for name in TAMING + more:
            importlib.import_module(f"taming.{name}")
    return sys.modules["taming"]


@cache
def dalle_pytorch() -> ModuleType:
    """The package ``dalle_pytorch`` (lucidrains): ``DALLE``, ``DiscreteVAE``, ``attention`` with its masks.

    Its rotary embedding divides by zero for ``dim_head=8``; 16 works.
    """
    dall_e(), taming()
    with stand_ins("youtokentome", "pkg_resources", *LIGHTNING, LightningModule=nn.Module):
        return importlib.import_module("dalle_pytorch")


@cache
def dall_e() -> ModuleType:
    """The package ``dall_e`` (OpenAI): ``Encoder``, ``Decoder``, ``map_pixels``, ``unmap_pixels``."""
    with stand_ins():
        return pytest.importorskip("dall_e")
