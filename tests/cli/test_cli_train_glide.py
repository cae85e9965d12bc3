"""``mmlearn train glide``: tiny models, two steps a phase, drawn with and filled in afterwards."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmlearn.cli import main
from mmlearn.text2image.painting import load_painter

TINY = ["--pixels", "16", "--batch", "4", "--steps", "2", "--hole-steps", "1", "--up-steps", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six pictures of noise with captions, not square."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["file,caption"]
    for i, word in enumerate(("cat", "dog", "car", "tree", "house", "boat")):
        noise = np.random.default_rng(i).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        lines += [f"{i}.png,a {word}"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A run on pictures of one's own."""
    out = tmp_path_factory.mktemp("runs") / "glide"
    assert main(["train", "glide", "--data", "folder", "--images", str(folder), "--hold-out", "2", "--out",
                 str(out), *TINY]) == 0
    return out


def test_a_run_on_own_pictures_draws_and_fills_holes(trained, folder, tmp_path, capsys):
    model = load_painter(trained)
    assert model.base.config.inpaint and model.base.config.size == 8 and model.upsampler.config.size == 16
    assert model.base.config.text.context == model.tokeniser.context
    assert {path.name for path in trained.iterdir()} >= {"base", "hole", "upsampler", "samples.png",
                                                         "history.json", "history-upsampler.json"}
    picture, mask = tmp_path / "p.png", tmp_path / "m.png"
    assert main(["generate", "a cat", "--weights", str(trained), "--steps", "2", "--out", str(picture)]) == 0
    assert Image.open(picture).size == (16, 16)
    Image.fromarray(np.tril(np.full((16, 16), 255, np.uint8))).save(mask)
    assert main(["edit", str(picture), "--mask", str(mask), "a dog", "--weights", str(trained), "--steps",
                 "2", "--out", str(tmp_path / "q.png")]) == 0
    before, after = (np.asarray(Image.open(path)) for path in (picture, tmp_path / "q.png"))
    assert (before[np.triu_indices(16, 1)] == after[np.triu_indices(16, 1)]).all()


def test_a_run_is_resumed_to_the_weights_of_one_that_was_never_stopped(trained, folder, tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["train", "glide", "--data", "scenes", "--scenes", "6", *TINY[:-2], "--up-steps", "3"]
    assert main([*arguments, "--out", str(whole)]) == 0
    assert main([*arguments, "--save-every", "1", "--out", str(parts)]) == 0
    for name in ("step-00000003", "step-00000002"):             # as if it had been killed in the last phase
        for file in (parts / "upsampler" / name).iterdir():
            file.unlink()
        (parts / "upsampler" / name).rmdir()
    capsys.readouterr()
    assert main(["train", "glide", "--resume", "--out", str(parts), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["upsampler"]["steps"] == 3 and result["hole"]["steps"] == 1
    assert result["judged on"] == "100 validation pictures" and result["base"]["error"] > 0
    for ours, theirs in zip(load_painter(parts).parameters(), load_painter(whole).parameters()):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("arguments, message", [
    (["--pixels", "48"], "--pixels is 48; take one of 16, 32, 64, 128"),
    (["--hole-steps", "0"], "--hole-steps is 0; take 1 or more"),
    (["--size", "filtered", "--pixels", "64"], "--pixels is for --size mini"),
    (["--data", "folder"], "--images"),
])
def test_what_cannot_be_trained_is_refused_in_a_sentence(arguments, message, tmp_path, capsys):
    assert main(["train", "glide", *arguments, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1 and not (tmp_path / "run" / "base").exists()


def test_a_run_is_not_begun_twice_nor_resumed_with_other_settings(trained, capsys):
    assert main(["train", "glide", "--out", str(trained), *TINY]) == 2
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert main(["train", "glide", "--resume", "--pixels", "32", "--out", str(trained)]) == 2
    assert "--pixels is 32, and the run in" in capsys.readouterr().err
    assert main(["train", "glide", "--resume", "--steps", "1", "--out", str(trained)]) == 2
    assert "is at step 2 already; give --steps 2 or more" in capsys.readouterr().err
