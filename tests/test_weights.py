"""Weights as people have them: wrapped, nested, in parts, with numbers beside them; and what is none."""

import gzip
import io
import json
import os
import pickle
import re
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from mmlearn.weights import check_numbers, read_once, read_weights, unwrapped

STATE = {
    "layer.weight": torch.arange(6.0).view(2, 3),
    "layer.bias": torch.ones(2),
    "scale": torch.tensor(2.0),
}


def same(tensors):
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[n], v) for n, v in STATE.items())


def prefixed(prefix):
    return {prefix + name: value for name, value in STATE.items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
def test_what_wraps_a_model_is_taken_off_the_names_and_said(tmp_path, capsys, prefix):
    torch.save(prefixed(prefix), tmp_path / "wrapped.pth.tar")
    assert same(read_weights(tmp_path / "wrapped.pth.tar"))
    said = capsys.readouterr().err
    assert all(
        f"wrapped.pth.tar: took '{part}.' off the names" in said for part in prefix.strip(".").split(".")
    )
    save_file(prefixed(prefix), tmp_path / "wrapped.safetensors")
    assert same(read_weights(tmp_path / "wrapped.safetensors"))


def test_a_part_that_was_compiled_loses_its_mark():
    state = {"image._orig_mod.weight": torch.ones(2), "text.weight": torch.ones(3)}
    assert unwrapped(state)[0].keys() == {"image.weight", "text.weight"}


def test_a_prefix_that_only_some_names_have_stays():
    state = {"model.weight": torch.ones(2), "head.weight": torch.ones(2)}
    assert unwrapped(state) == (state, [])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state},
        lambda state: {"state_dict": state, "epoch": 3, "best": 0.5, "args": {"lr": 1}},
        lambda state: {"checkpoint": {"model": state}},
        lambda state: {"weights": state, "optimizer": {"lr": 0.1}},
        lambda state: {"state_dict": {f"module.{n}": v for n, v in state.items()}},
        lambda state: {"n_averaged": torch.tensor(7), **{f"module.{n}": v for n, v in state.items()}},
        lambda state: {**state, "epoch": 7},
    ],
)
def test_a_state_dict_is_found_where_programs_keep_it(tmp_path, wrap):
    torch.save(wrap(STATE), tmp_path / "run.pt")
    assert same(read_weights(tmp_path / "run.pt"))


def test_values_beside_the_tensors_are_left_out_and_named(tmp_path, capsys):
    torch.save({**STATE, "epoch": 7, "name": "run"}, tmp_path / "run.pt")
    assert same(read_weights(tmp_path / "run.pt"))
    assert "run.pt: left out 'epoch', 'name', which are no tensors" in capsys.readouterr().err


def sharded(folder, suffix):
    names = list(STATE)
    parts = {f"model-00001-of-00002{suffix}": names[:1], f"model-00002-of-00002{suffix}": names[1:]}
    for file, own in parts.items():
        tensors = {name: STATE[name] for name in own}
        save_file(tensors, folder / file) if suffix == ".safetensors" else torch.save(tensors, folder / file)
    index = folder / f"model{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, own in parts.items() for name in own}}))
    return index, list(parts)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_parts_with_an_index_are_one(tmp_path, suffix):
    index, parts = sharded(tmp_path, suffix)
    assert same(read_weights(index))
    (tmp_path / parts[1]).rename(tmp_path / "elsewhere")
    with pytest.raises(
        FileNotFoundError, match=rf"index\.json lists 2 files, of which {parts[1]} is missing"
    ):
        read_weights(index)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda where: where.update(other=where["scale"]), "differ in other"),
        (lambda where: where.pop("scale"), "differ in scale"),
        (
            lambda where: where.update(scale="../model.bin"),
            "names the file '../model.bin', which is no file of weights",
        ),
        (lambda where: where.clear(), "has no weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_parts_is_refused(tmp_path, change, message):
    index, _ = sharded(tmp_path, ".bin")
    where = json.loads(index.read_text())["weight_map"]
    change(where)
    index.write_text(json.dumps({"weight_map": where}))
    with pytest.raises(ValueError, match=message):
        read_weights(index)


def archive(kind):
    out = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=out, mode="w") as file:
            file.addfile(tarfile.TarInfo("weights"))
    else:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("archive/data.pkl", bytes(100 << 20) if kind == "bomb" else b"x")
    content = out.getvalue()
    return (
        content.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
        if kind == "locked"
        else content
    )


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.pt", b"hello", "cannot be read as weights"),
        ("a.pth", b"", "cannot be read as weights"),
        ("a.safetensors", b"hello", "is not a whole safetensors file"),
        ("a.bin", archive("tar"), "tar archive: unpack it"),
        ("a.bin", archive("locked"), "it is encrypted"),
        ("a.pt", archive("zip"), "cannot be read as weights"),
        ("a.pt", archive("zip")[:-9], "cannot be read as weights"),
        ("a.pt", archive("bomb"), "bytes would become 104,857,600"),
        ("a.pt", gzip.compress(b"hello", mtime=0), "cannot be read as weights"),
    ],
)
def test_a_file_that_is_no_weights_is_refused_in_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} .*{message}") as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)


def test_nobody_is_advised_to_run_what_a_file_of_weights_holds(tmp_path):
    for content in (b"hello world", bytes(range(256)), pickle.dumps(print, 2), pickle.dumps(os.system, 2)):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as weights") as caught:
            read_weights(tmp_path / "a.pt")
        said = str(caught.value)
        assert not any(word in said for word in ("weights_only", "Re-running", "trust", "safe_globals")), said


@pytest.mark.parametrize("content", ["hello", [torch.ones(2)], {"a": 1}, torch.ones(2), {3: torch.ones(2)}])
def test_a_pickle_without_tensors_by_name_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt (holds no state dict|calls a tensor 3)"):
        read_weights(tmp_path / "a.pt")


def test_a_tensor_with_more_numbers_than_the_file_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1).expand(10**12)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="weight of shape .* has more numbers than the file"):
        read_weights(tmp_path / "a.pt")
    torch.save({"weight": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="weight is no plain tensor"):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "value, message",
    [
        (torch.tensor([1.0, float("nan")]), "w holds nan"),
        (torch.tensor([float("-inf")]).half(), "w holds -inf"),
        (torch.ones(2, dtype=torch.bool), "w holds bool"),
        (torch.ones(2, dtype=torch.complex64), "w holds complex64"),
        (torch.ones(2, dtype=torch.int8), "w holds int8"),
    ],
)
def test_weights_are_finite_real_numbers(value, message):
    check_numbers({"v": torch.ones(2), "empty": torch.ones(0)}, "file")
    with pytest.raises(ValueError, match=f"file: {message}"):
        check_numbers({"w": value}, "file")


def test_a_file_is_read_once_however_many_look_into_it(tmp_path):
    torch.save(STATE, tmp_path / "a.pt")
    with read_once():
        assert read_weights(tmp_path / "a.pt") is read_weights(tmp_path / "a.pt")
    assert read_weights(tmp_path / "a.pt") is not read_weights(tmp_path / "a.pt")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"no file of weights {tmp_path / 'a.pt'}")):
        read_weights(tmp_path / "a.pt")
