"""The catalogue tells the truth about every system that it lists."""

import importlib
import re
from pathlib import Path

import pytest
import torch

from mmlearn.catalog import (
    SYSTEMS,
    as_records,
    build,
    count_parameters,
    kinds,
    parameters,
    registered,
    resolve,
)

ROOT = Path(__file__).parents[1]
CONFIGURATIONS = [(s, c) for s in SYSTEMS for c in s.configurations]
NAMES = [f"{s.name}/{c.name}" for s, c in CONFIGURATIONS]


@pytest.mark.parametrize("system, configuration", CONFIGURATIONS, ids=NAMES)
def test_a_published_size_is_the_size_of_our_model(system, configuration):
    ours = parameters(system, configuration)
    assert ours > 0
    assert (configuration.published is None) == (configuration.source is None)
    if configuration.published is not None:
        assert ours == configuration.published


@pytest.mark.parametrize("system, configuration", CONFIGURATIONS, ids=NAMES)
def test_a_paper_size_model_takes_no_memory_to_count(system, configuration):
    assert all(p.device.type == "meta" for p in build(system, configuration).parameters())


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_every_named_configuration_of_a_system_is_listed(system):
    if system.model is None:
        assert not system.configurations
        return
    listed = {c.name for c in system.configurations}
    config = resolve(system.configurations[0].build.rpartition(".")[0])
    named = {name for name, value in vars(config).items() if isinstance(value, classmethod)}
    assert listed == named


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_a_system_has_its_module_its_paper_and_its_chapter(system):
    importlib.import_module(system.module)
    assert re.search(r"\((19|20)\d\d\)", system.paper)
    assert system.section.split(".")[0] in "12345"


def test_a_system_without_a_model_cannot_be_built():
    system = next(s for s in SYSTEMS if s.model is None)
    with pytest.raises(ValueError, match="has no model to build"):
        build(system, CONFIGURATIONS[0][1])


def test_frozen_parameters_are_not_counted():
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


def test_equations_of_a_system_are_labels_and_belong_to_one_system():
    labels = [label for s in SYSTEMS for label in s.equations]
    assert all(re.fullmatch(r"eq:[a-z0-9-]+", label) for label in labels)
    assert len(labels) == len(set(labels))


def test_records_have_the_documented_keys():
    for record in as_records():
        assert set(record) == {"name", "section", "paper", "configurations", "oracle", "weights", "equations"}
        for c in record["configurations"]:
            assert set(c) == {"name", "parameters", "published", "source"}


def test_a_system_is_registered_once_for_command_line_saved_models_and_trainers():
    commands = [s.command for s in SYSTEMS if s.command]
    assert len(commands) == len(set(commands)) and {"m2", "captioner", "clip"} <= set(commands)
    for system in SYSTEMS:
        assert not system.trainer or (system.command and callable(resolve(f"{system.trainer}:add")))
    for command in commands:
        config, model = kinds(command)[command]
        assert isinstance(config, type) and issubclass(model, torch.nn.Module)
    with pytest.raises(ValueError, match="there is no system 'gpt'; known are .*m2"):
        registered("gpt")
