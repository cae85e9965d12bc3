"""Studies run from the command line, in small, and the results that are committed are theirs."""

import json

import pytest

from mmlearn.experiments import EXPERIMENTS, RESULTS, main, results
from mmlearn.image2text.saved import load_captioner

COMMITTED = sorted(RESULTS.glob("*.json"))


def test_the_detector_study_writes_weights_and_what_they_are_worth(tmp_path, capsys):
    assert main(["detector", "--steps", "2", "--images", "20", "--batch", "2", "--test", "4", "--checkpoint",
                 str(tmp_path / "d.safetensors"), "--out", str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["settings"]["steps"] == 2 and "AP50" in told["test"] and told["versions"]["torch"]
    assert json.loads((tmp_path / "d.json").read_text())["test"] == told["test"]


def test_results_do_not_go_over_the_description_of_the_weights(tmp_path, capsys):
    assert main(["detector", "--checkpoint", str(tmp_path / "d.safetensors"), "--out",
                 str(tmp_path / "d.json")]) == 2
    assert "where the description of --checkpoint goes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_ablation_compares_models_of_equal_size(tmp_path):
    assert main(["m2-ablation", "--seeds", "1", "--steps", "2", "--every", "1", "--train", "20", "--val", "4",
                 "--test", "4", "--processes", "1", "--keep", str(tmp_path / "kept"), "--out",
                 str(tmp_path / "r.json")]) == 0
    models = json.loads((tmp_path / "r.json").read_text())["models"]
    sizes = [model["parameters"] for model in models.values()]
    assert len(sizes) == 6 and max(sizes) - min(sizes) < 0.01 * max(sizes)
    assert models["M2"]["runs"][0]["curve"]["step"] == [1, 2]


@pytest.mark.slow
def test_the_scst_study_measures_before_and_after(tmp_path):
    assert main(["scst", "--seeds", "1", "--before", "2", "--steps", "1", "--train", "20", "--val", "4",
                 "--test", "4", "--images", "4", "--processes", "1", "--out", str(tmp_path / "r.json")]) == 0
    runs = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert len(runs) == 5 and all("CIDEr-D" in run[0]["scores"] for run in runs.values())


SMALL = ["--steps", "2", "--images", "4", "--train", "24", "--val", "4", "--test", "6", "--polish", "1"]


def test_the_grid_study_writes_a_captioner_and_knows_what_not_looking_gives(tmp_path):
    path = tmp_path / "grid.safetensors"
    command = ["captioner-grid", "--labels", "2", *SMALL, "--checkpoint", str(path), "--out",
               str(tmp_path / "r.json"), "--folder", str(tmp_path / "kept")]
    assert main(command) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert {"scores", "blank picture", "most frequent caption", "captions of the data", "cells"} <= set(told)
    saved = load_captioner(path)
    assert saved.system == "captioner" and saved.about["half precision"] == told["half precision"]
    assert main(command) == 0  # gone on with: nothing is left to do, the same comes out
    assert json.loads((tmp_path / "r.json").read_text())["beam 5"] == told["beam 5"]


def test_the_study_of_m2_writes_a_captioner_without_its_detector(tmp_path):
    path = tmp_path / "m2.safetensors"
    assert main(["m2-regions", *SMALL, "--width", "16", "--checkpoint", str(path), "--out",
                 str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert {"scores", "beam 5", "cross-entropy", "captions of the data", "half precision"} <= set(told)
    assert len(told["reward"]) == 1
    with pytest.raises(FileNotFoundError, match=r"detector\.json is missing"):
        load_captioner(path)


def test_a_study_without_seeds_is_refused(capsys):
    assert main(["m2-ablation", "--seeds", "0", "--train", "2", "--val", "2", "--test", "2"]) == 2
    assert "--seeds is 0" in capsys.readouterr().err


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_results_say_what_was_run_where_and_when(path):
    told = json.loads(path.read_text())
    assert {"recipe", "versions", "device", "date", "seconds"} <= set(told)
    assert "/" not in told["device"]


def test_results_that_are_not_there_name_the_command():
    with pytest.raises(FileNotFoundError, match="python -m mmlearn.experiments none"):
        results("none")
    chapter_1 = {"detector", "m2-ablation", "scst", "captioner-grid", "m2-regions"}
    assert chapter_1 <= {name.split("/")[1] for name in EXPERIMENTS}
