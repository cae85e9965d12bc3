"""``mmlearn train vilbert``: drawn scenes, a table of pictures; stopped, resumed, and opened."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from mmlearn.both_modalities.vilbert_training import load_vilbert
from mmlearn.cli import main, train_vilbert
from mmlearn.data.scenes import captions, render, sample_scene

SMALL = ["--batch", "4", "--save-every", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six drawn scenes as files, not square, with captions."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["file,caption"]
    for i in range(6):
        scene = sample_scene(0, i, "train")
        Image.fromarray(render(scene, 80).image).resize((100, 80)).save(folder / f"{i}.png")
        lines += [f'{i}.png,"{text}"' for text in captions(scene)[:2]]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def train(capsys, *arguments) -> dict:
    assert main(["train", "vilbert", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_run_cut_short_and_resumed_ends_as_one_that_was_not_and_is_opened(folder, tmp_path, capsys):
    table = ["--data", "csv", "--annotations", folder / "captions.csv", "--validation",
             folder / "captions.csv"]
    result = train(capsys, *table, *SMALL, "--steps", 4, "--out", tmp_path / "whole")
    assert result["judged on"] == "6 validation pictures" and result["steps"] == 4
    assert {"pairs", "colours", "colours, no picture", "region divergence"} <= set(result)
    half = ["--out", tmp_path / "half"]
    train(capsys, *table, *SMALL, "--steps", 4, *half)
    for step in (tmp_path / "half" / "steps").glob("step-*4"):  # as if it had been killed after step 2
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    assert train(capsys, "--resume", *half)["steps"] == 4
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    model, tokeniser, about = load_vilbert(tmp_path / "whole")
    assert model.config.text.vocab == len(tokeniser) + 1 and about["settings"]["steps"] == 4


@pytest.mark.slow
def test_scenes_are_drawn_and_judged_on_other_scenes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_vilbert, "VALIDATION_SCENES", 3)
    result = train(capsys, "--scenes", 8, "--steps", 2, *SMALL, "--out", tmp_path)
    assert result["pictures"] == 8 and result["judged on"] == "3 validation pictures"
    assert result["regions a picture"] > 1


@pytest.mark.slow
def test_a_folder_without_validation_is_judged_on_itself_and_not_overwritten(folder, tmp_path, capsys):
    result = train(capsys, "--data", "folder", "--images", folder, "--steps", 1, *SMALL, "--out", tmp_path)
    assert result["judged on"] == "6 training pictures"
    assert main(["train", "vilbert", "--out", str(tmp_path)]) == 2
    assert "add --resume" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, sentence", [
    (["--data", "folder"], "--data folder needs --images DIR"), (["--batch", "1"], "--batch is 1; take 2"),
    (["--resume"], "holds no run to resume"), (["--data", "csv", "--annotations", "none.csv"], "no table"),
])
def test_bad_arguments_get_one_sentence_and_code_two(arguments, sentence, tmp_path, capsys):
    assert main(["train", "vilbert", *arguments, "--out", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and printed.out == ""
