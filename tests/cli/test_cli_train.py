"""``mmlearn train`` and ``mmlearn caption`` on a small COCO folder: train, resume, go on with the metric,
caption."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mmlearn.cli import main
from mmlearn.data.scenes.export import export_coco


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> tuple[str, str, str]:
    """Folder of images, captions to train on, captions to validate on."""
    folder = export_coco(tmp_path_factory.mktemp("coco"), 6, 32, "train")
    export_coco(folder, 3, 32, "val")
    annotations = folder / "annotations" / "captions_train.json"
    first = json.loads(annotations.read_text())["images"][0]["file_name"]
    images = next(p for p in (folder / "images", folder,
                              *(folder / "images").glob("*")) if (p / first).is_file())
    return str(images), str(annotations), str(folder / "annotations" / "captions_val.json")


def data(coco: tuple[str, str, str]) -> list[str]:
    return ["--data", "coco", "--images", coco[0], "--annotations", coco[1], "--size", "mini", "--pixels",
            "32"]


def train(capsys, *arguments) -> dict:
    assert main(["train", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_captioner_is_trained_then_refined_then_captions_an_image(coco, tmp_path, capsys):
    out = tmp_path / "run"
    told = train(capsys, "captioner", *data(coco), "--steps", 6, "--batch", 8, "--out", out)
    assert told["steps"] == 6 and told["last loss"] > 0 and told["phase"] == "xe"
    told = train(capsys, "captioner", "--phase", "scst", "--steps", 2, "--batch", 3, "--out", out)
    assert told["phase"] == "scst" and told["steps"] == 2
    image = next(Path(coco[0]).rglob("*.png"))
    assert main(["caption", str(image), "--checkpoint", str(out), "--beam", "3", "--max-len", "6",
                 "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert len(found["hypotheses"]) == 3 and found["caption"] == found["hypotheses"][0]["caption"]
    scores = [h["log_probability"] for h in found["hypotheses"]]
    assert scores == sorted(scores, reverse=True) and scores[0] < 0


def test_a_run_cut_short_and_resumed_ends_as_one_that_was_not(coco, tmp_path, capsys):
    grid = [*data(coco), "--features", "grid", "--trunk", "resnet18", "--batch", "8"]
    train(capsys, "m2", *grid, "--steps", 4, "--save-every", 2, "--out", tmp_path / "whole")
    train(capsys, "m2", *grid, "--steps", 2, "--save-every", 2, "--out", tmp_path / "half")
    told = train(capsys, "m2", "--resume", "--steps", 4, "--out", tmp_path / "half")
    assert told["steps"] == 4
    whole, half = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert whole.keys() == half.keys() and all(np.array_equal(whole[k], half[k]) for k in whole)
    assert {"config.json", "model.safetensors", "trunk.safetensors"} <= {
        p.name for p in (tmp_path / "half").iterdir()}


@pytest.mark.slow
def test_a_run_killed_without_warning_goes_on(coco, tmp_path, capsys):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "mmlearn", "train", "captioner", *data(coco), "--steps", "400",
               "--save-every", "2", "--batch", "4", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    begun = time.monotonic()
    while not list(out.glob("xe/step-*")):
        assert process.poll() is None and time.monotonic() - begun < 120, "the run wrote no checkpoint"
        time.sleep(0.05)
    process.kill()
    process.wait()
    reached = max(int(p.name.removeprefix("step-")) for p in (out / "xe").glob("step-*"))
    assert reached < 400
    image = str(next(Path(coco[0]).rglob("*.png")))
    assert main(["caption", image, "--checkpoint", str(out), "--max-len", "4"]) == 0  # whole at every moment
    capsys.readouterr()
    told = train(capsys, "captioner", "--resume", "--steps", reached + 2, "--out", out)
    assert told["steps"] == reached + 2


def test_validation_keeps_the_best_epoch(coco, tmp_path, capsys):
    folder = Path(coco[2]).parent.parent
    first = json.loads(Path(coco[2]).read_text())["images"][0]["file_name"]
    images = next(p for p in (folder / "images", folder,
                              *(folder / "images").glob("*")) if (p / first).is_file())
    told = train(capsys, "captioner", *data(coco), "--validation", coco[2], "--validation-images", images,
                 "--steps", 6, "--batch", 8, "--out", tmp_path / "run")
    curve = json.loads((tmp_path / "run" / "history-xe.json").read_text())
    assert told["best"][0] in curve["metric_steps"] and told["best"][1] == max(curve["metrics"]["CIDEr-D"])


def test_stored_features_are_read_by_image_id(coco, tmp_path, capsys):
    ids = [image["id"] for image in json.loads(Path(coco[1]).read_text())["images"]]
    save_file({f"{i}_features": np.random.default_rng(i).random((3, 7), np.float32) for i in ids},
              tmp_path / "f.safetensors")
    train(capsys, "m2", *data(coco), "--features", tmp_path / "f.safetensors", "--steps", 2, "--batch", 8,
          "--out", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["features"] == 7 and config["feature_extractor"]["kind"] == "stored"
    image = str(next(Path(coco[0]).rglob("*.png")))
    assert main(["caption", image, "--checkpoint", str(tmp_path / "run")]) == 2
    assert "no eyes of its own" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["m2", "--data", "coco"], "--data coco needs --images DIR and --annotations FILE"),
    (["m2", "--resume"], "holds no run to resume"),
    (["m2", "--phase", "scst"], "holds no captioner to go on with"),
    (["captioner", "--features", "grid"], "the captioner reads pictures"),
    (["m2", "--scenes", "0"], "--scenes is 0"), (["m2", "--steps", "0"], "--steps is 0"),
    (["m2", "--features", "f.npz"], "stored features go with --data coco"),
    (["m2", "--data", "coco", "--images", "none", "--annotations", "none.json"],
     "none.json; give an annotation file"),
])
def test_bad_arguments_get_one_sentence_and_code_two(arguments, sentence, tmp_path, capsys):
    assert main(["train", *arguments, "--out", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(coco, tmp_path, capsys):
    out = tmp_path / "run"
    train(capsys, "captioner", *data(coco), "--steps", 1, "--batch", 4, "--out", out)
    assert main(["train", "captioner", *data(coco), "--steps", "1", "--out", str(out)]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main(["train", "m2", "--resume", "--out", str(out)]) == 2
    assert "holds a run of captioner" in capsys.readouterr().err


def test_captioning_needs_a_checkpoint_and_an_image(tmp_path, capsys):
    assert main(["caption", "a.png", "--checkpoint", str(tmp_path)]) == 2
    assert "config.json is missing" in capsys.readouterr().err


def test_a_folder_with_a_table_of_captions_is_trained_on(coco, tmp_path, capsys):
    pictures = sorted(Path(coco[0]).rglob("*.png"))[:3]
    lines = "".join(f"{path.name},a picture of number {i}\n" for i, path in enumerate(pictures))
    table = tmp_path / "captions.csv"
    table.write_text("file,caption\n" + lines)
    told = train(capsys, "captioner", "--data", "csv", "--annotations", table, "--images", pictures[0].parent,
                 "--size", "mini", "--pixels", 32, "--steps", 1, "--batch", 4, "--out", tmp_path / "run")
    assert told["steps"] == 1 and told["words"] == 4 + 7


def test_a_drawing_is_captioned_without_any_option(capsys):
    image = Path(__file__).parents[2] / "data/scenes-sample/images/train_000003.png"
    assert main(["caption", str(image)]) == 0
    streams = capsys.readouterr()
    assert "tower" in streams.out and "drawn scenes of the book only" in streams.err
    assert main(["caption", str(image), "--weights", "captioner-grid"]) == 0
    assert "tower" in capsys.readouterr().out
