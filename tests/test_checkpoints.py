"""Trained models on disk: one format, opened again as they were, refused by name where they do not fit."""

import json
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from mmlearn.catalog import kinds
from mmlearn.checkpoints import config_from, load_model, read_tensors, save_model
from mmlearn.files import package_data


@dataclass(frozen=True)
class Round:
    radius: float = 1.0


@dataclass(frozen=True)
class Square:
    side: int = 2
    corners: tuple[tuple[int, int], ...] = ((0, 0), (1, 1))


@dataclass(frozen=True)
class Config:
    width: int = 3
    shape: Round | Square = field(default_factory=Square)
    bias: float | None = None


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layer = nn.Linear(config.width, 2)


KINDS = {"net": (Config, Net)}


@pytest.mark.parametrize("name", ["n.safetensors", "folder"])
@pytest.mark.parametrize("shape", [Square(4, ((1, 2), (3, 4))), Round(0.5)])
def test_a_model_comes_back_with_its_configuration_and_what_was_noted(tmp_path, name, shape):
    model = Net(Config(5, shape))
    save_model(tmp_path / name, model, "net", {"note": [1, 2]})
    again, about = load_model(tmp_path / name, KINDS)
    assert (
        again.config == model.config
        and about["note"] == [1, 2]
        and about["system"] == "net"
        and not again.training
    )
    assert torch.equal(again.layer.weight, model.layer.weight)


def test_half_precision_is_stored_and_single_precision_comes_back(tmp_path):
    path = tmp_path / "n.safetensors"
    model = Net(Config())
    save_model(path, model, "net", {}, half=True)
    assert read_tensors(path)["layer.weight"].dtype == torch.float16
    again, _ = load_model(path, KINDS)
    torch.testing.assert_close(again.layer.weight, model.layer.weight, atol=1e-3, rtol=1e-3)
    assert again.layer.weight.dtype == torch.float32


class Pair(Net):
    """A net and another one, which is trained before it."""

    def __init__(self, config):
        super().__init__(config)
        self.other = Net(config)


def test_a_part_that_stands_beside_a_model_is_not_written_twice(tmp_path):
    other, pair = Net(Config()), Pair(Config())
    pair.other.load_state_dict(other.state_dict())
    for half in (False, True):
        save_model(tmp_path / "first.safetensors", other, "net", {}, half=half)
        save_model(tmp_path / "pair.safetensors", pair, "pair", {}, half=half, parts={"other": "first"})
        assert set(read_tensors(tmp_path / "pair.safetensors")) == {"layer.weight", "layer.bias"}
        again, about = load_model(tmp_path / "pair.safetensors", {"pair": (Config, Pair)})
        assert about["parts"] == {"other": "first"}
        torch.testing.assert_close(again.other.layer.weight, other.layer.weight, atol=1e-3, rtol=1e-3)
        assert again.other.layer.weight.dtype == torch.float32
    (tmp_path / "first.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"first\.safetensors"):
        load_model(tmp_path / "pair.safetensors", {"pair": (Config, Pair)})


def test_a_part_that_is_another_model_or_a_path_is_refused(tmp_path):
    save_model(tmp_path / "first.safetensors", Net(Config()), "net", {})
    path = tmp_path / "pair.safetensors"
    with pytest.raises(ValueError, match=r"pair\.safetensors is not written: other\.layer\.\w+ is another"):
        save_model(path, Pair(Config()), "pair", {}, parts={"other": "first"})
    assert not path.exists()
    save_model(path, Pair(Config()), "pair", {})
    told = json.loads(path.with_suffix(".json").read_text())
    for parts in ({"other": "../first"}, {"other": 3}, ["first"]):
        path.with_suffix(".json").write_text(json.dumps({**told, "parts": parts}))
        with pytest.raises(ValueError, match=r"parts in .*pair\.json are .* expected names of models"):
            load_model(path, {"pair": (Config, Pair)})


def test_fields_that_came_later_have_their_default_and_unknown_ones_are_refused():
    assert config_from(Config, {"width": 7}) == Config(7)
    assert config_from(Config, {"shape": {"side": 1, "corners": []}}) == Config(3, Square(1, ()))
    with pytest.raises(ValueError, match="fields width, depth"):
        config_from(Config, {"width": 7, "depth": 1})


def test_what_does_not_fit_is_refused_with_the_file_and_the_remedy(tmp_path):
    path = tmp_path / "n.safetensors"
    with pytest.raises(FileNotFoundError, match=r"n\.json is missing; make tea"):
        load_model(path, KINDS, "make tea")
    save_model(path, Net(Config()), "net", {})
    with pytest.raises(ValueError, match=r"n\.json does not describe a model of other.*KeyError"):
        load_model(path, {"other": (Config, Net)})
    content = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**content, "config": {**content["config"], "width": 4}}))
    with pytest.raises(ValueError, match=r"n\.safetensors does not fit Net: it has layer\.weight of shape "
                                         r"\(2, 3\)"):
        load_model(path, KINDS)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load_model(path, KINDS)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"n\.safetensors is missing"):
        load_model(path, KINDS)


def test_the_committed_dvae_is_stored_in_half_with_the_sizes_and_scores_that_are_told_of_it():
    path = package_data("checkpoints") / "dvae.safetensors"
    model, about = load_model(path, kinds("dvae"))
    assert {tensor.dtype for tensor in read_tensors(path).values()} == {torch.float16}
    assert sum(p.numel() for p in model.parameters()) == about["parameters"] == 182_422
    assert model.config.vocab == about["settings"]["codes"] == about["test"]["codes in use"] == 128
    assert model.tokens(torch.rand(2, 3, 32, 32)).shape == (2, 8, 8) and path.stat().st_size < 400_000
