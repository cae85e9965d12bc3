"""``mmlearn edit``, and ``mmlearn generate`` with a diffusion model: tiny and untrained, one sentence on bad
input."""

import json

import numpy as np
import pytest
from PIL import Image
from torch import nn

from mmlearn.checkpoints import save_model
from mmlearn.cli import main
from mmlearn.data.glide_tokeniser import GLIDETokeniser
from mmlearn.nn.modes import seeded
from mmlearn.text2image import pipeline
from mmlearn.text2image.adm import ADMConfig
from mmlearn.text2image.gan import GAN, GANConfig
from mmlearn.text2image.glide import GLIDE, GLIDETextConfig, fitted
from mmlearn.text2image.painting import Painter, save_painter

WORDS = GLIDETokeniser.train(["a red car in the snow", "a blue house at night"], 300, context=8)
QUICK = ["--steps", "2"]


def small(size, low=0, inpaint=False):
    config = fitted(ADMConfig(size, 8, (1, 2), 1, (), groups=4, head_channels=8),
                            GLIDETextConfig(len(WORDS), 8, 8, 1, 2), low, "linear" if low else "cosine")
    with seeded(size):
        model = GLIDE(config.with_hole() if inpaint else config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model with a hole and an upsampler, one without, and a folder of nothing that draws."""
    folder = tmp_path_factory.mktemp("models")
    about = {"settings": {"data": "scenes"}}
    save_painter(folder / "hole", Painter.of(WORDS, small(8, inpaint=True), small(16, 8, inpaint=True)),
                 about)
    save_painter(folder / "plain", Painter.of(WORDS, small(8)), {})
    with seeded(0):
        save_model(folder / "gan", GAN(GANConfig.mini()), "gan", {})
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A picture, masks for it, and a picture of another size."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "CHECKPOINTS", tmp_path)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save("picture.png")
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[4:10, 6:13] = 255
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(np.zeros((16, 16), dtype=np.uint8)).save("black.png")
    Image.fromarray(mask[:8]).save("half.png")
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save("large.png")
    Image.fromarray(np.full((20, 30), 255, dtype=np.uint8)).save("large-mask.png")
    return tmp_path


def pixels(path):
    return np.asarray(Image.open(path))


def refused(capsys, *arguments):
    assert main([*map(str, arguments)]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    lines = streams.err.splitlines()
    assert lines[-1].startswith(f"mmlearn {arguments[0]}: ")
    return streams.err


def test_white_is_drawn_anew_black_stays_and_a_seed_has_its_bytes(models, place, capsys):
    run = ["edit", "picture.png", "--mask", "mask.png", "a red car", "--model", str(models / "hole"), *QUICK]
    assert main([*run, "--seed", "3", "--out", "new/x.png"]) == 0
    streams = capsys.readouterr()
    assert streams.out == "new/x.png: a red car, 16.4% drawn anew\n" and streams.err == ""
    hole = pixels("mask.png") > 127
    before, after = pixels("picture.png"), pixels("new/x.png")
    assert after.shape == (16, 16, 3) and np.array_equal(before[~hole], after[~hole])
    assert (before[hole] != after[hole]).any()
    for seed, same in (("3", True), ("4", False)):
        assert main([*run, "--seed", seed, "--out", "y.png"]) == 0
        assert (place / "y.png").read_bytes() == (place / "new" / "x.png").read_bytes() or not same
    capsys.readouterr()
    assert main([*run, "--samples", "2", "--guidance", "1.5", "--out", "z.png", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in found] == ["z-0.png", "z-1.png"] and found[1]["sample"] == 1
    assert found[0]["redrawn"] == pytest.approx(42 / 256, abs=1e-4) and found[0]["text"] == "a red car"
    assert not np.array_equal(pixels("z-0.png"), pixels("z-1.png"))


def test_a_model_that_was_not_trained_for_holes_says_so_and_keeps_them_all_the_same(models, place, capsys):
    Image.fromarray(pixels("picture.png")[:8, :8]).save("small.png")
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:5, 1:4] = 200
    Image.fromarray(mask).save("small-mask.png")
    assert main(["edit", "small.png", "--mask", "small-mask.png", "a zebra", "--model", str(models / "plain"),
                 *QUICK,
                 "--out", "x.png"]) == 0
    said = capsys.readouterr().err
    assert "was not trained to fill holes" in said and "never read 'zebra'" in said
    assert np.array_equal(pixels("small.png")[mask < 128], pixels("x.png")[mask < 128])


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["picture.png", "--mask", "half.png", "a car"], "half.png is 16 x 8 pixels, picture.png 16 x 16; give a "
                                                     "mask"),
    (["picture.png", "--mask", "black.png", "a car"], "black.png has no white pixel"),
    (["large.png", "--mask", "large-mask.png", "a car"], "large.png is 30 x 20 pixels, "),
    (["none.png", "--mask", "mask.png", "a car"], "no image at none.png"),
    (["picture.png", "--mask", "none.png", "a car"], "no image at none.png"),
    (["picture.png", "--mask", "mask.png", "a car", "--samples", "0"], "--samples is 0; take 1 to 1000"),
    (["picture.png", "--mask", "mask.png", "a car", "--seed", "-1"], "--seed is -1"),
    (["picture.png", "--mask", "mask.png", "a car", "--steps", "0"], "--steps is 0; take 1 to 1000"),
    (["picture.png", "--mask", "mask.png", "a car", "--guidance", "nan"], "--guidance is nan; take 0 to 100"),
    (["picture.png", "--mask", "mask.png", "a car", "--out", "x.jpg"], "give a name that ends in .png"),
    (["picture.png", "--mask", "mask.png", " "], "an argument is empty"),
    (["picture.png", "--mask", "mask.png", "a car", "--model", "glide"], "the miniature glide did not come "
                                                                         "with"),
    (["picture.png", "--mask", "mask.png", "a car", "--model", "nowhere"], "no trained model at nowhere"),
    (["picture.png", "--mask", "mask.png", "a car", "--model", "GAN"], "of 'gan', which draws no sentences"),
])
def test_edit_refuses_in_one_sentence(models, place, arguments, sentence, capsys):
    arguments = [str(models / "gan") if word == "GAN" else word for word in arguments]
    model = [] if "--model" in arguments else ["--model", models / "hole"]
    out = [] if "--out" in arguments else ["--out", "out.png"]
    assert sentence in refused(capsys, "edit", *arguments, *model, *out)
    assert not (place / "out.png").exists() and not (place / "x.jpg").exists()


def test_the_model_of_the_book_fills_holes_and_keeps_the_rest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[10:50, 20:40] = 255
    Image.fromarray(before).save("picture.png")
    Image.fromarray(mask).save("mask.png")
    assert main(["edit", "picture.png", "--mask", "mask.png", "a red car in the snow", *QUICK,
                 "--out", "x.png"]) == 0
    after = pixels("x.png")
    assert np.array_equal(after[mask == 0], before[mask == 0]) and not np.array_equal(after, before)


def test_what_is_no_picture_is_not_replaced(models, place, capsys):
    (place / "notes.png").write_text("years of work")
    said = refused(capsys, "edit", "picture.png", "--mask", "mask.png", "a car", "--model", models / "hole",
                   "--out",
                   "notes.png")
    assert "is there and is no picture" in said and (place / "notes.png").read_text() == "years of work"


def test_generate_draws_with_a_diffusion_model(models, place, capsys):
    run = ["generate", "a red car", "a blue house", "--model", str(models / "hole"), *QUICK]
    assert main([*run, "--samples", "2", "--seed", "1", "--out", "x.png"]) == 0
    streams = capsys.readouterr()
    assert len(streams.out.splitlines()) == 4 and "knows drawings of one thing or two" in streams.err
    assert Image.open("x-0.png").size == (16, 16)
    assert main([*run, "--samples", "2", "--seed", "1", "--out", "y.png"]) == 0
    assert all((place / f"x-{i}.png").read_bytes() == (place / f"y-{i}.png").read_bytes() for i in range(4))
    assert main([*run, "--samples", "2", "--seed", "1", "--guidance", "1", "--out", "z.png"]) == 0
    assert (place / "z-0.png").read_bytes() != (place / "x-0.png").read_bytes()
    capsys.readouterr()
    assert main(["generate", "a red car in the snow at night in the snow", "--model", str(models / "plain"),
                 *QUICK,
                 "--out", "x.png"]) == 0
    assert "reads 8 tokens; it does not see ' in the snow'" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--steps", "1001"], "--steps is 1001; take 1 to 1000"), (["--guidance", "-1"], "--guidance is -1.0; "
                                                                                     "take 0"),
    (["--model", "GAN"], "which draws no sentences; give gan-cls, stackgan")])
def test_generate_refuses_what_diffusion_cannot_do(models, place, arguments, sentence, capsys):
    arguments = [str(models / "gan") if word == "GAN" else word for word in arguments]
    model = [] if "--model" in arguments else ["--model", models / "hole"]
    assert sentence in refused(capsys, "generate", "a car", *arguments, *model, "--out", "x.png")


def test_guidance_and_steps_are_for_diffusion_models(place, capsys, monkeypatch):
    from mmlearn.text2image import painting

    class Drawn:
        system, tokeniser = "dfgan", None

        def draw(self, texts, samples=1, seed=0):
            raise AssertionError

    monkeypatch.setitem(painting.OPENERS, "dfgan", lambda name: Drawn())
    said = refused(capsys, "generate", "a car", "--model", "dfgan", "--steps", "5", "--out", "x.png")
    assert "--steps is for diffusion models, and dfgan is a dfgan; leave it out" in said
    said = refused(capsys, "edit", "picture.png", "--mask", "mask.png", "a car", "--model", "dfgan", "--out",
                   "x.png")
    assert "dfgan is a dfgan, which draws whole pictures only; give a diffusion model" in said
