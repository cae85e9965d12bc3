"""The studies that train the miniature dVAE and the miniature DALL-E run from end to end and can go on."""

import json

import pytest
import torch

from mmlearn.experiments import main
from mmlearn.experiments.text2image.dvae import Pictures
from mmlearn.text2image.token_drawing import load_token_drawer


def study(capsys, out, *arguments):
    assert main([*map(str, arguments), "--out", str(out)]) == 0, capsys.readouterr().err
    return json.loads(out.read_text())


@pytest.mark.slow
def test_a_dvae_is_trained_and_a_dalle_on_its_codes_which_draws(tmp_path, capsys):
    stage = tmp_path / "dvae.safetensors"
    few = ["--train", 60, "--batch", 8]
    found = study(capsys, tmp_path / "a.out", "dvae", *few, "--steps", 3, "--size", 16, "--width", 8,
                  "--codes", 16, "--test", 10, "--checkpoint", stage, "--folder", tmp_path / "a")
    assert found["test"].keys() == {"mse", "codes in use", "perplexity"}
    assert found["curve"].keys() == {"step", "loss", "nll", "kl"}
    dalle = ["dalle", "--stage", stage, *few, "--steps", 2, "--width", 16, "--test", 3, "--samples", 2,
             "--checkpoint", tmp_path / "dalle.safetensors", "--folder", tmp_path / "b"]
    found = study(capsys, tmp_path / "b.out", *dalle)
    assert {"test", "unseen pairs", "best of 2 by CLIP"} <= found.keys()
    assert len(found["curve"]["image"]) == 2 and list((tmp_path / "b").glob("drawn-*.png"))
    again = study(capsys, tmp_path / "c.out", *dalle)                       # nothing is left to do
    assert again["curve"] == found["curve"] and again["test"] == found["test"]
    model = load_token_drawer(tmp_path / "dalle.safetensors")
    assert model.draw(["a red car"], 2).shape == (2, 3, 16, 16)
    assert (tmp_path / "dalle.safetensors").stat().st_size < 3_000_000


def test_a_batch_of_pictures_knows_its_step():
    class Data:
        images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 2, 2)

        def __len__(self):
            return 6

    images, step = Pictures(Data(), 2, seed=1)[4]
    assert images.shape == (2, 3, 2, 2) and step == 4 and images.max() <= 5 / 255
