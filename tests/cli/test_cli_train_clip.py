"""``mmlearn train clip``: drawn scenes, a folder, a table; stopped, resumed, and opened by the commands that
use CLIP."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from mmlearn.cli import main

SMALL = ["--batch", "4", "--save-every", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six pictures of noise with captions, not square."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["file,caption"]
    for i, word in enumerate(("cat", "dog", "car", "tree", "house", "boat")):
        noise = np.random.default_rng(i).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        lines += [f"{i}.png,a {word}", f"{i}.png,there is a {word}"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def train(capsys, *arguments) -> dict:
    assert main(["train", "clip", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_of_pictures_makes_a_model_that_other_commands_open(folder, tmp_path, capsys):
    out = tmp_path / "run"
    told = train(capsys, "--data", "folder", "--images", folder, "--steps", 4, *SMALL, "--out", out)
    assert told["steps"] == 4 and told["pictures"] == 6 and told["judged on"] == "6 training pictures"
    assert {f"{way} R@{k}" for way in ("image to text", "text to image") for k in (1, 5, 10)} <= set(told)
    assert main(["classify", str(folder / "0.png"), "--labels", "cat,dog", "--weights", str(out),
                 "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {c["label"] for c in found["classes"]} == {"cat", "dog"}


def test_a_run_cut_short_and_resumed_ends_as_one_that_was_not(folder, tmp_path, capsys):
    table = ["--data", "csv", "--annotations", folder / "captions.csv", "--validation",
             folder / "captions.csv", "--size", "mini"]
    told = train(capsys, *table, *SMALL, "--steps", 4, "--out", tmp_path / "whole")
    assert told["judged on"] == "6 validation pictures"
    half = ["--out", tmp_path / "half"]
    train(capsys, *table, *SMALL, "--steps", 4, *half)
    for step in (tmp_path / "half" / "steps").glob("step-*4"):  # as if it had been killed after step 2
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    assert train(capsys, "--resume", *half)["steps"] == 4
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_scenes_are_drawn_and_judged_on_other_scenes(tmp_path, capsys):
    told = train(capsys, "--scenes", 8, "--steps", 2, *SMALL, "--out", tmp_path)
    assert told["pictures"] == 8 and told["judged on"] == "200 validation pictures"


@pytest.mark.parametrize("arguments, sentence", [
    (["--data", "folder"], "--data folder needs --images DIR"),
    (["--data", "csv"], "--data csv needs --annotations FILE"),
    (["--batch", "1"], "--batch is 1; take 2 or more"), (["--resume"], "holds no run to resume"),
    (["--data", "csv", "--annotations", "none.csv"], "there is no table"),
])
def test_bad_arguments_get_one_sentence_and_code_two(arguments, sentence, tmp_path, capsys):
    assert main(["train", "clip", *arguments, "--out", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_a_folder_that_holds_a_run_is_not_overwritten(folder, tmp_path, capsys):
    train(capsys, "--data", "folder", "--images", folder, "--steps", 1, *SMALL, "--out", tmp_path)
    assert main(["train", "clip", "--out", str(tmp_path)]) == 2
    assert "add --resume" in capsys.readouterr().err
