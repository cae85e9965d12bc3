"""The studies of chapter 4's first half run in small, can be stopped and gone on with, and their record is
whole."""

import json
import math

import pytest
from networks import count

from mmlearn.experiments import main, results
from mmlearn.experiments.text_for_vision.clip_efficiency import ARMS, images_to_reach
from mmlearn.experiments.text_for_vision.contrastive_ablation import LOSSES
from mmlearn.text_for_vision.training import load_mini

SMALL = ["--seeds", "1", "--steps", "2", "--train", "20", "--batch", "4", "--pictures", "6", "--processes",
         "1"]


@pytest.mark.slow
@pytest.mark.parametrize("tower", ["resnet", "vit"])
def test_the_miniature_is_trained_judged_and_written(tmp_path, tower):
    assert main(["clip-mini", "--tower", tower, "--steps", "2", "--batch", "4", "--train", "20", "--pictures",
                 "6", "--scenes", "6", "--checkpoint", str(tmp_path / "m.safetensors"), "--out",
                 str(tmp_path / "r.json")]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    mini = load_mini(tmp_path / "m.safetensors")
    assert mini.about["test"] == told["test"] and set(told["test"]) >= {
        "zero-shot",
        "unseen pairs",
        "image to text R@1",
    }
    assert count(mini.model) == told["parameters"]


@pytest.mark.slow
def test_the_efficiency_study_goes_on_where_it_was_stopped(tmp_path, capsys):
    how = ["clip-efficiency", *SMALL, "--every", "1", "--keep", str(tmp_path / "keep"), "--out",
           str(tmp_path / "r.json")]
    assert main(how) == 0
    first = json.loads((tmp_path / "r.json").read_text())["arms"]
    assert list(first) == list(ARMS) and first["captioner"]["runs"][0]["images"] == [4, 8]
    kept = tmp_path / "keep" / "captioner-0.json"
    content = json.loads(kept.read_text())
    content["result"]["top-1"] = [0.25, 0.75]                       # a mark: what is kept is not run again
    kept.write_text(json.dumps(content))
    assert main(how) == 0
    again = json.loads((tmp_path / "r.json").read_text())["arms"]
    assert again["captioner"]["runs"][0]["top-1"] == [0.25, 0.75]
    assert again["words predicted"] == first["words predicted"]
    assert main([*how, "--lr", "0.1"]) == 2  # another setting does not take these for its own
    assert "use another --keep folder" in capsys.readouterr().err


@pytest.mark.slow
def test_the_ablation_study_compares_all_losses(tmp_path):
    assert main(["contrastive-ablation", *SMALL, "--scenes", "6", "--out", str(tmp_path / "r.json")]) == 0
    variants = json.loads((tmp_path / "r.json").read_text())["variants"]
    assert list(variants) == list(LOSSES)
    for name, runs in variants.items():
        curve = runs[0]["curve"]
        assert curve["step"][-1] == 2 and len(curve["scale"]) == len(curve["step"])
        assert name != "temperature fixed at 1" or set(curve["scale"]) == {1.0}


def test_a_level_is_reached_on_the_line_between_two_points():
    assert images_to_reach([100, 200], [0.2, 0.6], 0.4) == 150
    assert images_to_reach([100, 200], [0.2, 0.6], 0.1) == 50  # the curve starts at nothing for no images
    assert images_to_reach([100, 200], [0.2, 0.6], 0.7) is None


def test_the_stored_efficiency_study_has_the_order_of_the_paper():
    arms = results("clip-efficiency")["arms"]
    last = {name: [run["top-1"][-1] for run in arm["runs"]] for name, arm in arms.items()}
    assert min(last["words contrasted"]) > max(last["words predicted"])
    assert min(last["words predicted"]) > max(last["captioner"])


def test_the_stored_ablation_is_of_equal_steps():
    variants = results("contrastive-ablation")["variants"]
    assert {run["curve"]["step"][-1] for runs in variants.values() for run in runs} == {
        results("contrastive-ablation")["settings"]["steps"]}
    assert all(math.isclose(run["curve"]["scale"][0], 1 / 0.07, rel_tol=0.01) for run in variants["CLIP"])
