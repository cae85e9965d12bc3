"""The studies that train the miniature dVAE and the miniature DALL-E run from end to end and can go on."""

import json
import math

import pytest
import torch

from mmlearn.data.things import thing_pairs
from mmlearn.experiments import main, results
from mmlearn.experiments.text2image.dvae import Pictures, beside, certainty, judge, patches, whole
from mmlearn.nn.modes import seeded
from mmlearn.text2image.dvae import DVAE, DVAEConfig
from mmlearn.text2image.first_stage import load_dvae
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
    assert found["beside"].keys() >= {"likeliest codes", "drawn codes", "16 patches", "VQGAN"}
    anew = study(capsys, tmp_path / "d.out", "dvae", "--trained", stage, "--test", 10)
    assert anew["curve"] == found["curve"] and anew["settings"] == found["settings"]
    assert anew["test"]["mse"] == pytest.approx(found["test"]["mse"], rel=0.02)         # stored in half
    assert "system" not in anew and anew["device"]
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


def small():
    with seeded(0):
        return DVAE(DVAEConfig.mini(16, 8, 8)).eval()


def test_the_kl_and_the_largest_share_are_means_over_places():
    model, data = small(), thing_pairs(3, "test", size=16)
    kls, largest = [], []
    with torch.no_grad():
        for image in data.images:
            logits = model.encoder(0.8 * image[None] / 255 + 0.1)[0].double()
            for row in range(4):
                for column in range(4):
                    weights = [math.exp(float(logits[k, row, column])) for k in range(8)]
                    q = [weight / sum(weights) for weight in weights]
                    kls.append(sum(share * math.log(8 * share) for share in q))
                    largest.append(max(q))
    found = certainty(model, data)
    assert found["kl"] == pytest.approx(sum(kls) / len(kls), abs=1e-4)
    assert found["largest share"] == pytest.approx(sum(largest) / len(largest), abs=1e-4)


def test_patches_are_cut_and_put_together_again():
    images = torch.rand(2, 3, 8, 8)
    parts = patches(images, 4)
    assert parts.shape == (2, 4, 48)
    assert torch.equal(parts[1, 2].view(3, 4, 4), images[1, :, 4:, :4])
    assert torch.equal(whole(parts, 4), images)


@pytest.mark.slow
def test_beside_the_codes_stand_patches_that_say_no_less_and_the_likeliest_codes_err_as_judged():
    model, test = small(), thing_pairs(6, "test", size=16)
    found = beside(model, test, thing_pairs(30, size=16))
    assert found["likeliest codes"]["mse"] == pytest.approx(judge(model, test)["mse"], abs=1e-5)
    few = next(name for name in found if name.endswith("patches") and name != "8 patches")
    assert found["drawn codes"]["nats"] <= found[few]["nats"] <= found["8 patches"]["nats"]
    for row in found.values():
        assert row["mse"] <= row["mae"] and all(0 <= row[name] <= 1 for name in ("category", "setting"))


@pytest.mark.slow
def test_the_results_are_those_of_the_committed_dvae():
    model, said = load_dvae(), results("dvae")
    assert not any(p.requires_grad for p in model.parameters())
    test = thing_pairs(500, "test", size=model.config.size)
    assert judge(model, test) == pytest.approx(said["test"], rel=1e-3)
    assert certainty(model, test) == pytest.approx(said["certainty"], rel=1e-2)
