"""``mmlearn train data2vec``: drawn scenes, a folder; stopped, resumed, opened again."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from mmlearn.both_modalities.data2vec_vision import Data2VecVision
from mmlearn.catalog import kinds
from mmlearn.checkpoints import load_model
from mmlearn.cli import main
from mmlearn.cli.train_data2vec import configurations

SMALL = ["--batch", "4", "--save-every", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six pictures of noise with captions, not square."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["file,caption"]
    for i in range(6):
        noise = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        lines.append(f"{i}.png,noise")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def train(capsys, *arguments) -> dict:
    assert main(["train", "data2vec", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_of_pictures_makes_an_encoder_that_opens_again(folder, tmp_path, capsys):
    out = tmp_path / "run"
    told = train(capsys, "--data", "folder", "--images", folder, "--steps", 2, *SMALL, "--out", out)
    assert told["steps"] == 2 and told["pictures"] == 6 and told["judged on"] == "6 training pictures"
    assert {"loss", "target spread", "target rank"} <= set(told) and told["untrained"].keys() <= told.keys()
    model, about = load_model(out, kinds("data2vec"))
    assert isinstance(model, Data2VecVision) and about["settings"]["steps"] == 2
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 64, 64)


def test_a_run_cut_short_and_resumed_ends_as_one_that_was_not(folder, tmp_path, capsys):
    pictures = ["--data", "folder", "--images", folder, "--hold-out", 2]
    told = train(capsys, *pictures, *SMALL, "--steps", 4, "--out", tmp_path / "whole")
    assert told["judged on"] == "2 validation pictures"
    half = ["--out", tmp_path / "half"]
    train(capsys, *pictures, *SMALL, "--steps", 4, *half)
    for step in (tmp_path / "half" / "steps").glob("step-*4"):  # as if it had been killed after step 2
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    assert train(capsys, "--resume", *half)["steps"] == 4
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_scenes_are_drawn_and_judged_on_other_scenes(tmp_path, capsys):
    told = train(capsys, "--scenes", 8, "--steps", 1, *SMALL, "--out", tmp_path)
    assert told["pictures"] == 8 and told["judged on"] == "200 validation pictures"


@pytest.mark.parametrize("size, K, tau, pixels", [("mini", 3, 0.99, 32), ("base", 6, 0.9998, 224),
                                                 ("large", 6, 0.9998, 224)])
def test_a_name_is_a_size_with_its_recipe(size, K, tau, pixels):
    encoder, method = configurations({"size": size, "steps": 10})
    assert (encoder.size, method.K, method.tau_0, method.twice) == (pixels, K, tau, True)


@pytest.mark.parametrize("arguments, sentence", [
    (["--data", "folder"], "--data folder needs --images DIR"),
    (["--batch", "0"], "--batch is 0; take 1 or more"), (["--resume"], "holds no run to resume"),
])
def test_bad_arguments_get_one_sentence_and_code_two(arguments, sentence, tmp_path, capsys):
    assert main(["train", "data2vec", *arguments, "--out", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_a_folder_that_holds_a_run_is_not_overwritten(folder, tmp_path, capsys):
    train(capsys, "--data", "folder", "--images", folder, "--steps", 1, *SMALL, "--out", tmp_path)
    assert main(["train", "data2vec", "--out", str(tmp_path)]) == 2
    assert "add --resume" in capsys.readouterr().err
