"""The studies that train what draws: each runs from end to end on a handful of pictures, and measures what it
says."""

import json
from argparse import Namespace

import pytest
import torch
from PIL import Image

from mmlearn.data.pairs import joined
from mmlearn.data.things import thing_pairs
from mmlearn.experiments import main
from mmlearn.experiments.text2image import matching, successors, text_to_image
from mmlearn.nn.modes import seeded
from mmlearn.text2image.char_cnn_rnn import CharacterTokeniser, CharCNNRNN, CharCNNRNNConfig
from mmlearn.text2image.gan_cls import GANCLS, GANCLSConfig
from mmlearn.text2image.pipeline import TextToImage, load_text_to_image


def study(capsys, out, *arguments):
    assert main([*map(str, arguments), "--out", str(out)]) == 0, capsys.readouterr().err
    return json.loads(out.read_text())


@pytest.mark.slow
def test_judge_encoders_and_generators_are_trained_one_after_the_other(tmp_path, capsys):
    few = ["--steps", 2, "--train", 60, "--test", 105]
    judge = study(capsys, tmp_path / "a.out", "scene-classifier", *few, "--train-unseen", 20, "--checkpoint",
                  tmp_path / "scene-classifier.safetensors")
    assert judge["test"].keys() == {"category", "colour", "setting", "all"}
    for encoder in ("damsm", "char-cnn-rnn"):
        found = study(capsys, tmp_path / "b.out", "text-encoders", *few, "--encoder", encoder, "--judge",
                      tmp_path / "scene-classifier.safetensors", "--checkpoint",
                      tmp_path / f"{encoder}.safetensors", "--steps", 10)
        assert 0 <= found["test"]["R-precision of 100"] <= 1
    for system in ("gan-cls", "dfgan"):
        found = study(capsys, tmp_path / "c.out", "text-to-image", *few, "--system", system, "--size", 16,
                      "--batch", 8, "--precision", "no", "--folder",
                      tmp_path / system, "--evaluate-every", 1, "--checkpoint",
                      tmp_path / f"{system}.safetensors")
        assert found["curve"]["step"] == [1, 2] and found["unseen pairs"]["R-precision"] <= 1
        sheets = sorted((tmp_path / system).glob("drawn-*.png"))
        assert len(sheets) == 2
        with Image.open(tmp_path / f"{system}-training.png") as film, Image.open(sheets[1]) as second:
            assert film.size == (64, 32)                                        # four sentences, two steps
            assert film.crop((0, 16, 64, 32)).tobytes() == second.crop((0, 0, 64, 16)).tobytes()
        drawing = load_text_to_image(tmp_path / f"{system}.safetensors")
        assert drawing.draw(["a red car"]).shape == (1, 3, 16, 16)


@pytest.mark.slow
def test_the_four_successors_are_measured_alike(capsys, tmp_path):
    args = Namespace(steps=1, batch=4, size=32, train=40, test=105, precision="no",
                           encoders=text_to_image.CHECKPOINTS)
    for arm in (*successors.SYSTEMS, "dfgan short"):
        found = successors.one_run(arm, 0, args)
        judging = "discriminator" if arm.startswith("dfgan") else "critics"
        assert found["parameters"].keys() == {"generator", judging}
        assert {"Frechet distance", "recall", "R-precision", "all", "spread"} <= found["test"].keys()
        assert found["seconds a step"] > 0 and found["seconds a picture"] > 0
        table = successors.by_metric({"0": found, "1": found})
        assert set(successors.LOWER_IS_BETTER) <= table.keys()
        assert table["all, unseen pairs"] == [found["unseen pairs"]["all"]] * 2


def tiny():
    with seeded(0):
        encoder, model = CharCNNRNN(CharCNNRNNConfig.mini(16)), GANCLS(GANCLSConfig.mini(16, 16))
    return encoder.requires_grad_(False), model, CharacterTokeniser(96)


def test_a_discriminator_that_cannot_read_is_right_half_of_the_time():
    encoder, model, letters = tiny()
    data = thing_pairs(60, "test", size=16)
    share = matching.reads(model, encoder, letters, data)
    assert 0.2 < share < 0.8
    with torch.no_grad():
        model.discriminator.compress[0].weight.zero_()             # it sees no text: all ties
    assert matching.reads(model, encoder, letters, data) == 0.5


def test_the_largest_step_of_an_even_way_is_a_tenth_and_of_a_jump_the_whole():
    class Draws(torch.nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.shape = shape

        def forward(self, z, text):
            t = text[:, :1, None, None]
            return self.shape(t).expand(-1, 3, 4, 4)

    encoder, model, letters = tiny()
    data = thing_pairs(5, "test", size=16)
    for shape, want in ((lambda t: t, 0.1), (lambda t: (t > t.mean() * 0 + t.median()).float(), None)):
        drawing = TextToImage.of(encoder, model, letters)
        drawing.generator = Draws(shape)
        found = matching.largest_step(drawing, data, ways=4)
        assert found == pytest.approx(want, abs=1e-3) if want else found > 0.1


@pytest.mark.slow
def test_the_arms_of_matching_differ_in_their_weights_alone():
    args = Namespace(steps=1, batch=8, size=16, train=40, test=30, precision="no",
                           encoders=text_to_image.CHECKPOINTS)
    found = {name: matching.job(name, 0, args) for name in ("GAN", "GAN-INT-CLS")}
    for result in found.values():
        assert {"D reads", "largest step", "all, seen pairs", "all, unseen pairs"} <= result["scores"].keys()
    assert matching.ARMS["GAN"] == (0, 0) and matching.ARMS["GAN-INT-CLS"] == (0.5, 1)


def test_joined_pictures_keep_their_captions_and_scenes():
    first, second = thing_pairs(3, size=16), thing_pairs(2, "compositional", size=16)
    both = joined([first, second])
    assert len(both) == 5 and both.captions[3:] == second.captions and both.scenes[:3] == first.scenes
    assert torch.equal(both.images[3:], second.images)
