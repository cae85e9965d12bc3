"""Training and measuring the autoencoders that come before a generator."""

import math

import pytest
import torch

from mmlearn.checkpoints import save_model
from mmlearn.data.pairs import signed_pixels
from mmlearn.data.things import thing_pairs
from mmlearn.nn.feature_networks import SceneClassifier, SceneClassifierConfig
from mmlearn.nn.modes import seeded
from mmlearn.text2image.first_stage import (
    both,
    edge_energy,
    load_dvae,
    load_kl_autoencoder,
    load_vqgan,
    new_game,
    pictures_of,
    reconstruct,
    reconstruction_scores,
    scaled,
    train_first_stage,
)


def judge():
    with seeded(0):
        network = SceneClassifier(SceneClassifierConfig({"colour": 3}, 32, (4, 6, 8)))
    return network.requires_grad_(False).eval()


def images(count=12):
    return pictures_of(thing_pairs(count, size=32))


@pytest.mark.equation("eq:vqgan-edges")
def test_the_energy_of_edges_is_the_mean_square_of_differences_and_falls_with_blur():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    across = [float(x[b, c, i, j + 1] - x[b, c, i, j]) ** 2
              for b in range(2) for c in range(3) for i in range(4) for j in range(3)]
    down = [float(x[b, c, i + 1, j] - x[b, c, i, j]) ** 2
            for b in range(2) for c in range(3) for i in range(3) for j in range(4)]
    assert float(edge_energy(x)) == pytest.approx((sum(across) + sum(down)) / (2 * len(across)))
    real = signed_pixels(images(4))
    assert edge_energy(torch.nn.functional.avg_pool2d(real, 3, 1, 1)) < edge_energy(real)


@pytest.mark.parametrize("kind", ["vqgan", "kl"])
def test_a_miniature_is_trained_measured_saved_and_opened_again(kind, tmp_path):
    with seeded(0):
        game = new_game(kind, 8, 16, start=1)
    x, network = images(), judge()
    history = train_first_stage(game, x, network, steps=2, batch=4, precision="bf16", progress=False)
    assert history.scalars["weight of the game"][0] == 0 < history.scalars["weight of the game"][1]
    model = history.ema.autoencoder.eval()
    drawn = reconstruct(model, x)
    assert drawn.shape == (12, 3, 32, 32) and drawn.abs().max() <= 1
    torch.testing.assert_close(reconstruct(model, x, batch=5), drawn, atol=1e-5, rtol=1e-5)
    scores = reconstruction_scores(model, x, network)
    error = signed_pixels(x) - drawn
    assert scores["error"] == pytest.approx(float(error.abs().mean()), rel=1e-4)
    decibels = 10 * math.log10(4 / float(error.square().mean()))
    assert scores["signal to noise"] == pytest.approx(decibels, rel=1e-4)
    assert scores["values"] == (16 if kind == "vqgan" else 64)
    assert 0 <= scores["same answers"] <= 1 and scores["Frechet distance"] >= 0
    if kind == "vqgan":
        assert scores["bits"] == 64 and 1 <= scores["perplexity"] <= 16 and 0 < scores["share of codes"] <= 1
    else:
        model = scaled(model, x)
        assert float(model.encode(signed_pixels(x), mode=False).std()) == pytest.approx(1, abs=0.1)
        assert model.config.scale == pytest.approx(scores["scale"], rel=0.2)
    name, opened = ("vqgan", load_vqgan) if kind == "vqgan" else ("kl-autoencoder", load_kl_autoencoder)
    save_model(tmp_path / f"{name}.safetensors", model, name, {"test": scores}, half=True)
    again = opened(tmp_path / f"{name}.safetensors")
    assert not any(p.requires_grad for p in again.parameters())
    torch.testing.assert_close(again.decode(again.encode(signed_pixels(x[:2])) if kind == "vqgan" else
                                            again.encode(signed_pixels(x[:2]), mode=True)).clamp(-1, 1),
                               reconstruct(model, x[:2]), atol=0.05, rtol=0.05)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    def run(folder, stop=0):
        def on_step(step, model):
            if step == stop:
                raise KeyboardInterrupt

        with seeded(0):
            game = new_game("vqgan", 8, 16, start=2)
        train_first_stage(game, images(), None, steps=4, batch=4, folder=folder, save_every=2,
                          progress=False, ema=None, on_step=on_step)
        return game

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop=3)
    again = run(tmp_path / "parts")
    assert int(again.step) == 4 and again.chosen.sum() > 0
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_miniature_takes_less_than_three_million_bytes():
    for kind in ("vqgan", "kl"):
        for factor in (4, 8):
            with torch.device("meta"):
                model = new_game(kind, factor).autoencoder
            assert 2 * sum(p.numel() for p in model.parameters()) < 3e6


def test_rows_of_pictures_stand_above_their_reconstructions():
    x = images(5)
    drawn = torch.zeros(5, 3, 32, 32)
    rows = both(x, drawn, 4)
    assert torch.equal(rows[:4], signed_pixels(x[:4])) and not rows[4:8].any()
    assert torch.equal(rows[8:9], signed_pixels(x[4:])) and len(rows) == 10


def test_another_kind_is_refused_and_a_missing_miniature_says_how_it_is_trained(tmp_path):
    with pytest.raises(ValueError, match="kind is 'gan'; train a vqgan or a kl"):
        new_game("gan")
    with pytest.raises(FileNotFoundError, match="python -m mmlearn.experiments vqgan"):
        load_vqgan(tmp_path / "vqgan.safetensors")
    with pytest.raises(FileNotFoundError, match="python -m mmlearn.experiments dvae"):
        load_dvae(tmp_path / "dvae.safetensors")
