"""``mmlearn imagine``: an untrained VQGAN and the book's CLIP; one sentence on bad input."""

import json

import pytest
import torch

from mmlearn.checkpoints import save_model
from mmlearn.cli import main
from mmlearn.data.images import read_image
from mmlearn.nn.modes import seeded
from mmlearn.text2image.vqgan import VQGAN, VQGANConfig

QUICK = ["--steps", "2", "--cuts", "2"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A VQGAN that has learnt nothing."""
    path = tmp_path_factory.mktemp("vqgan") / "vqgan"
    with seeded(0):
        save_model(path, VQGAN(VQGANConfig.mini(8, 16)), "vqgan", {})
    return str(path)


def test_a_picture_is_imagined_and_the_same_seed_gives_the_same_bytes(weights, tmp_path, capsys):
    one, two, other = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    for place, seed in ((one, "3"), (two, "3"), (other, "4")):
        assert main(["imagine", "a red car", "--weights", weights, *QUICK, "--seed", seed, "--out",
                     str(place)]) == 0
    assert read_image(one).size == (64, 64)
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()
    assert f"{one}: a red car (similarity " in capsys.readouterr().out


def test_several_sentences_and_samples_and_the_way_to_one(weights, tmp_path, capsys):
    out = tmp_path / "x.png"
    assert main(["imagine", "a red car", "a cat", "--weights", weights, *QUICK, "--samples", "2", "--json",
                 "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["text"], one["sample"], one["seed"]) for one in found] == [
        ("a red car", 0, 0), ("a red car", 1, 1), ("a cat", 0, 0), ("a cat", 1, 1)]
    assert [one["file"] for one in found] == [str(tmp_path / f"x-{i}.png") for i in range(4)]
    way, start = tmp_path / "way.png", tmp_path / "x-0.png"
    assert main(["imagine", "a cat", "--weights", weights, *QUICK, "--frames", str(way), "--every", "1",
                 "--start", str(start), "--out", str(tmp_path / "y.png")]) == 0
    frames = [read_image(tmp_path / f"way-{i}.png") for i in range(3)]
    assert frames[-1].tobytes() == read_image(tmp_path / "y.png").tobytes()


@pytest.mark.parametrize("given, words", [
    (["--steps", "0"], "--steps is 0; take 1 to 100,000"),
    (["--cuts", "-1"], "--cuts is -1; take 1 to 1000, or 0 for the picture alone"),
    (["--lr", "0"], "--lr is 0.0; take a number above 0"),
    (["--size", "50"], "use a multiple of 8"),
    (["--frames", "f.png", "--samples", "2"], "--frames is for one picture, and 2 are asked for"),
    (["--weights", "nothing"], "nothing is neither a file or folder nor one of the public names"),
    (["--clip", "nothing"], "nothing is neither a file or folder nor one of the public names"),
    (["--weights", "clip-mini"], "the book's CLIP, which goes to --clip"),
    (["--clip", "vqgan"], "the book's VQGAN, which goes to --weights"),
    (["--frames", "f.png"], "--frames: f-0.png is a folder"),
    (["--out", "x" * 300 + ".png"], "name too long"),
    (["--start", "nothing.png"], "nothing.png"),
])
def test_bad_input_is_one_sentence(weights, tmp_path, capsys, monkeypatch, given, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f-0.png").mkdir()
    assert main(["imagine", "a red car", "--weights", weights, *QUICK, "--out", "x.png", *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mmlearn imagine: ") and words in said and said.strip().count("\n") == 0
    assert not (tmp_path / "x.png").exists()


def test_words_that_the_guide_does_not_know_are_named(weights, tmp_path, capsys):
    assert main(["imagine", "a purple zeppelin", "--weights", weights, *QUICK, "--out",
                 str(tmp_path / "x.png")]) == 2
    assert "clip-mini does not know the word" in capsys.readouterr().err
    assert main(["imagine", "1" * 5000, "--weights", weights, *QUICK, "--out", str(tmp_path / "x.png")]) == 2
    assert len(capsys.readouterr().err) < 600
    assert torch.is_grad_enabled()
