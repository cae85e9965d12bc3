"""Studies run from the command line, in small, and the results that are committed are theirs."""

import json

import pytest

from mmlearn.experiments import EXPERIMENTS, RESULTS, main, results

COMMITTED = sorted(RESULTS.glob("*.json"))


def test_the_detector_study_writes_weights_and_what_they_are_worth(tmp_path, capsys):
    assert main(["detector", "--steps", "2", "--images", "20", "--batch", "2", "--test", "4", "--checkpoint",
                 str(tmp_path / "d.safetensors"), "--out", str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["settings"]["steps"] == 2 and "AP50" in told["test"] and told["versions"]["torch"]
    assert json.loads((tmp_path / "d.json").read_text())["test"] == told["test"]


@pytest.mark.slow
def test_the_ablation_compares_models_of_equal_size(tmp_path):
    assert main(["m2-ablation", "--seeds", "1", "--steps", "2", "--every", "1", "--train", "20", "--test", "4",
                 "--processes", "1", "--out", str(tmp_path / "r.json")]) == 0
    models = json.loads((tmp_path / "r.json").read_text())["models"]
    sizes = [model["parameters"] for model in models.values()]
    assert len(sizes) == 6 and max(sizes) - min(sizes) < 0.01 * max(sizes)
    assert models["M2"]["runs"][0]["curve"]["step"] == [1, 2]


@pytest.mark.slow
def test_the_scst_study_measures_before_and_after(tmp_path):
    assert main(["scst", "--seeds", "1", "--before", "2", "--steps", "1", "--train", "20", "--test", "4", "--images", "4",
                 "--processes", "1", "--out",
                 str(tmp_path / "r.json")]) == 0
    runs = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert len(runs) == 5 and all("CIDEr-D" in run[0]["scores"] for run in runs.values())


def test_the_grid_study_knows_what_not_looking_gives(tmp_path):
    assert main(["captioner-grid", "--seeds", "1", "--steps", "2", "--every", "2", "--train", "20", "--test", "4", "--out",
                 str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert set(told["runs"][0]) >= {"scores", "blank picture"} and "CIDEr-D" in told["most frequent caption"]


def test_a_study_without_seeds_is_refused(capsys):
    assert main(["captioner-grid", "--seeds", "0", "--train", "2", "--test", "2"]) == 2
    assert "--seeds is 0" in capsys.readouterr().err


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_results_say_what_was_run_where_and_when(path):
    told = json.loads(path.read_text())
    assert {"recipe", "versions", "device", "date", "seconds"} <= set(told)
    assert "/" not in told["device"]


def test_results_that_are_not_there_name_the_command():
    with pytest.raises(FileNotFoundError, match="python -m mmlearn.experiments none"):
        results("none")
    assert {"detector", "m2-ablation", "scst", "captioner-grid"} <= {name.split("/")[1] for name in EXPERIMENTS}
