"""The study that trains the first stages runs from end to end on a handful of pictures."""

import json

import pytest

from mmlearn.experiments import main
from mmlearn.text2image.first_stage import load_kl_autoencoder, load_vqgan


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vqgan", "kl"])
def test_a_first_stage_is_trained_measured_and_saved(kind, tmp_path, capsys):
    arguments = ["vqgan", "--kind", kind, "--steps", 2, "--start", 1, "--train", 16, "--test", 12,
                 "--batch", 4, "--size", 32, "--factor", 8, "--codes", 16, "--precision", "no",
                 "--evaluate-every", 1,
                 "--folder", tmp_path / "run", "--checkpoint", tmp_path / "stage.safetensors", "--out",
                 tmp_path / "out.json"]
    assert main([str(a) for a in arguments]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["test"].keys() == {"one thing", "unseen pairs", "two things", "several things"}
    assert found["curve"]["step"] == [1, 2] and len(list((tmp_path / "run").glob("drawn-*.png"))) == 2
    model = (load_vqgan if kind == "vqgan" else load_kl_autoencoder)(tmp_path / "stage.safetensors")
    assert model.config.autoencoder.factor == 8
