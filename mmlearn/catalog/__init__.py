"""Every system of the book, registered once: section, paper, class, configurations, counts, oracle, weights,
trainer.

The commands ``mmlearn systems`` and ``mmlearn train``, the systems page of the book, what opens a saved
model, the paper-scale test and the parity tests read it. Modules are named by strings and imported when they
are needed, so that this list imports none of them.
The entries stand in a file a chapter, with two for chapter 2. Parameter counts are those of the model built
on the ``meta`` device, so that listing them takes no memory.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from mmlearn.catalog import (
    both_modalities,
    image2text,
    images_for_language,
    text2image,
    text2image_gans,
    text_for_vision,
)
from mmlearn.catalog.entry import Configuration, System

__all__ = ["SYSTEMS", "Configuration", "System", "as_records", "build", "count_parameters", "kinds",
           "parameters", "published", "registered", "resolve"]

SYSTEMS: tuple[System, ...] = (*image2text.SYSTEMS, *text2image_gans.SYSTEMS, *text2image.SYSTEMS,
                               *images_for_language.SYSTEMS, *text_for_vision.SYSTEMS,
                               *both_modalities.SYSTEMS)


def published(name: str) -> dict[str, int]:
    """The published parameter counts of a system's configurations, by their names. Raises ``KeyError`` for
    another name."""
    system = {system.name: system for system in SYSTEMS}[name]
    return {c.name: c.published for c in system.configurations if c.published is not None}


def registered(command: str) -> System:
    """The system of that name on the command line. Raises ``ValueError`` that lists the names."""
    found = next((system for system in SYSTEMS if system.command == command), None)
    if found is None:
        names = ", ".join(system.command for system in SYSTEMS if system.command)
        raise ValueError(f"there is no system {command!r}; known are {names}")
    return found


def kinds(*commands: str) -> dict[str, tuple[type, type]]:
    """Classes of configuration and model of some systems, as ``checkpoints.load_model`` wants them."""
    found = [registered(command) for command in commands]
    return {system.command: (resolve(system.configurations[0].build.rpartition(".")[0]),
                             resolve(str(system.model)))
            for system in found}


def resolve(path: str) -> Any:
    """What "package.module:Name.attribute" names."""
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def build(system: System, configuration: Configuration, device: str = "meta") -> nn.Module:
    """The model of ``system`` at ``configuration``, on ``device``; on "meta" it takes no memory."""
    if system.model is None:
        raise ValueError(f"{system.name} has no model to build; see {system.module}")
    model: Callable[..., nn.Module] = resolve(system.model)
    with torch.device(device):
        return model(resolve(configuration.build)())


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@cache
def parameters(system: System, configuration: Configuration) -> int:
    """Trainable parameters of a configuration, counted on the meta device."""
    return count_parameters(build(system, configuration))


def as_records() -> list[dict[str, Any]]:
    """The catalogue as plain lists and dictionaries, ready for JSON."""
    return [
        {
            "name": system.name, "section": system.section, "paper": system.paper,
            "configurations": [
                {"name": c.name, "parameters": parameters(system, c), "published": c.published,
                 "source": c.source}
                for c in system.configurations
            ],
            "oracle": system.oracle, "weights": system.weights, "equations": list(system.equations),
        }
        for system in SYSTEMS
    ]
