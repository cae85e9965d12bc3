"""``mmlearn classify``, ``retrieve`` and ``caption`` on folders of one's own: words that a model does not
know, an index, links, names, results that can be scored."""

import json
import os
import shutil
import socket
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from mmlearn.cli import main
from mmlearn.cli.dual import hub_reached
from mmlearn.data.clip_tokeniser import CLIPTokeniser
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.text_for_vision.zero_shot import SCENE, default_templates, prompts, unknown_words

SAMPLE = Path(__file__).parents[2] / "data/scenes-sample"
DRAWINGS = SAMPLE / "images"
TOWER = str(DRAWINGS / "train_000003.png")
MINI = ["--weights", "clip-mini-resnet"]


@pytest.fixture
def drawings(tmp_path):
    """A folder with three drawings."""
    folder = tmp_path / "drawings"
    folder.mkdir()
    for i in (0, 3, 18):
        shutil.copy(DRAWINGS / f"train_{i:06d}.png", folder)
    return folder


def said(capsys, code, *arguments):
    assert main([str(a) for a in arguments]) == code
    return capsys.readouterr()


# ------------------------------------------------------------------------------------------------------ words

def test_a_miniature_brings_its_own_sentences_and_says_that_it_knows_drawings_only(capsys):
    streams = said(capsys, 0, "classify", TOWER, "--labels", "cat,tower,car", *MINI, "--json")
    best = json.loads(streams.out)[0]["classes"][0]
    assert best["label"] == "tower" and best["probability"] > 0.9
    assert streams.err == "clip-mini-resnet knows the drawn scenes of the book only, and no photographs\n"


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["classify", TOWER, "--labels", "cat,zebra"],
     "--labels: clip-mini-resnet does not know the word 'zebra'; it knows person, cat, dog"),
    (["classify", TOWER, "--labels", "bicycel"], "did you mean 'bicycle'?"),
    (["classify", TOWER, "--labels", "cat,!!"], "does not know the word '!!'"),
    (["classify", TOWER, "--labels", "cat", "--template", "a photo of a {}"],
     "--template: clip-mini-resnet does not know the word 'photo'"),
    (["retrieve", DRAWINGS, "a red car", "a zebra"], "TEXT: clip-mini-resnet does not know the word 'zebra'"),
])
def test_a_word_that_the_miniature_does_not_know_is_an_error_that_names_it(arguments, sentence, capsys):
    streams = said(capsys, 2, *arguments, *MINI)
    assert sentence in streams.err and streams.err.count("\n") == 1 and streams.out == ""


def test_templates_are_those_whose_words_a_model_knows():
    specials = ["<unk>", "<pad>", "<bos>", "<eos>"]
    every = {word for text in SCENE for word in text.lower().strip(".").split() if "{" not in word}
    assert default_templates(WordTokeniser([*specials, *sorted(every | {"a", "an"})])) == SCENE
    assert default_templates(WordTokeniser([*specials, "a", "an", "picture", "of"])) == ("a picture of {a}.",)
    assert default_templates(WordTokeniser([*specials, "a", "an", "cat"])) == ("{a}",)
    assert default_templates(WordTokeniser([*specials, "a", "cat"])) == ("{}",)
    assert default_templates(CLIPTokeniser.find()) == ("a photo of {}.",)


def test_unknown_words_are_those_of_whole_word_models_only():
    words = WordTokeniser(["<unk>", "<pad>", "<bos>", "<eos>", "a", "cat"])
    assert unknown_words(words, "A cat, a dog and a bos") == ["dog", "and", "bos"]
    assert unknown_words(words, "!") == ["!"] and unknown_words(words, "Cat") == []
    assert unknown_words(CLIPTokeniser.find(), "zyx !") == []


@pytest.mark.parametrize(("template", "sentence"), [
    ("{}{}", "dogdog"), ("a {} is {a}.", "a dog is a dog."), ("{a} in a {{field}}", "A dog in a {field}"),
    ("{{{}}}", "{dog}")])
def test_braces_of_a_template_stand_for_the_class_wherever_they_are(template, sentence):
    assert prompts("dog", [template]) == [sentence]


@pytest.mark.parametrize("template", ["", "a photo", "{", "}", "{}{", "{0}", "{b}", "{:>9999999999}", "{!r}",
                                      "{a.__class__}", "{a[0]}", "{{}}", "{} {name}"])
def test_anything_else_in_braces_is_refused(template):
    with pytest.raises(ValueError, match="must hold {} for the class"):
        prompts("dog", [template])


# --------------------------------------------------------------------------------------------------- networks

def test_without_a_network_the_message_is_quick_and_names_the_miniature(capsys, monkeypatch):
    monkeypatch.setattr("mmlearn.cli.dual.hub_reached", lambda: False)
    monkeypatch.setattr("mmlearn.pretrained.dual_encoders.open_model", None)   # nothing is tried before that
    streams = said(capsys, 2, "retrieve", DRAWINGS, "a red car")
    assert "could not be fetched" in streams.err and "--weights clip-mini-resnet" in streams.err


def test_without_a_network_another_public_name_is_looked_for_here_only(capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("mmlearn.cli.dual.hub_reached", lambda: False)
    streams = said(capsys, 2, "retrieve", DRAWINGS, "a red car", "--weights", "openai/clip-vit-base-patch16")
    assert "could not be fetched" in streams.err and "--weights clip-mini-resnet" in streams.err
    assert constants.HF_HUB_OFFLINE                 # its client did not try on its own


def test_a_hub_that_does_not_answer_is_given_up_in_time(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr("mmlearn.cli.dual.getproxies", lambda: {})
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        assert not hub_reached()                                    # nobody listens
        server.listen()
        assert hub_reached()
    monkeypatch.setattr(socket, "create_connection", lambda *_: nullcontext(time.sleep(2)))     # slow
    begun = time.monotonic()
    assert not hub_reached(0.2) and time.monotonic() - begun < 10


# ------------------------------------------------------------------------------------------------------ index

def test_an_index_answers_as_the_pictures_do_and_looks_at_each_once(drawings, tmp_path, capsys, monkeypatch):
    ask = ["retrieve", drawings, "a red car", "a tower", *MINI, "--json"]
    want = said(capsys, 0, *ask).out
    index = tmp_path / "sub" / "index.safetensors"
    first = said(capsys, 0, *ask, "--index", index)
    assert first.out == want and "3 pictures, 3 of them looked at now" in first.err
    from mmlearn.cli import retrieve

    with monkeypatch.context() as patch:
        patch.setattr(retrieve, "readable", None)                   # nothing is read any more
        again = said(capsys, 0, *ask, "--index", index)
    assert again.out == want and "3 pictures, 0 of them looked at now, 0 gone" in again.err
    shutil.copy(DRAWINGS / "train_000005.png", drawings / "train_000003.png")   # another picture of that name
    shutil.copy(DRAWINGS / "train_000007.png", drawings / "new.png")
    (drawings / "train_000000.png").unlink()
    want = said(capsys, 0, *ask).out
    changed = said(capsys, 0, *ask, "--index", index)
    assert changed.out == want and "3 pictures, 2 of them looked at now, 1 gone" in changed.err


def test_an_index_of_another_model_or_folder_or_no_index_is_refused(drawings, tmp_path, capsys):
    index, other = tmp_path / "i.safetensors", tmp_path / "other"
    ask = [*MINI, "--index", index]
    said(capsys, 0, "retrieve", drawings, "a cat", *ask)
    kept = index.read_bytes()
    streams = said(capsys, 2, "retrieve", drawings, "a cat", "--weights", "clip-mini", "--index", index)
    assert "of another model than clip-mini" in streams.err
    other.mkdir()
    shutil.copy(TOWER, other / "elsewhere.png")
    assert "index of another folder" in said(capsys, 2, "retrieve", other, "a cat", *ask).err
    assert index.read_bytes() == kept
    for content in (b"", b"hello", kept[:-7], kept[:200], b"\xff" * 64,
                    (SAMPLE.parent / "checkpoints/clip-mini.safetensors").read_bytes()):
        index.write_bytes(content)
        streams = said(capsys, 2, "retrieve", drawings, "a cat", *ask)
        assert f"{index} is no index of pictures" in streams.err and streams.err.count("\n") == 1
        assert index.read_bytes() == content                        # what is no index is not overwritten
    assert "is no index" in said(capsys, 2, "retrieve", drawings, "a cat", *MINI, "--index", tmp_path).err
    streams = said(capsys, 2, "retrieve", "--image", TOWER, "--captions", "x", *ask)
    assert "--index and --follow-links are for a FOLDER" in streams.err


# -------------------------------------------------------------------------------------- links, names, damages

def test_links_within_a_folder_are_pictures_and_those_that_leave_it_need_the_flag(drawings, tmp_path, capsys):
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(DRAWINGS / "train_000005.png", outside / "secret.png")
    (drawings / "inner").mkdir()
    (drawings / "inner" / "circle").symlink_to(drawings)
    (drawings / "link.png").symlink_to(drawings / "train_000003.png")
    (drawings / "away.png").symlink_to(outside / "secret.png")
    (drawings / "folder").symlink_to(outside)
    (drawings / "broken.png").symlink_to(outside / "nothing.png")
    ask = ["retrieve", drawings, "a tower", *MINI, "--top", "99"]
    streams = said(capsys, 0, *ask)
    names = sorted(Path(line.split("  ")[-1]).relative_to(drawings).as_posix()
                   for line in streams.out.splitlines())
    assert names == ["link.png", "train_000000.png", "train_000003.png", "train_000018.png"]
    assert f"left out: 2 links that lead out of {drawings}; --follow-links takes" in streams.err
    streams = said(capsys, 0, *ask, "--follow-links")
    assert "secret.png" in streams.out and "away.png" in streams.out and "left out" not in streams.err


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
def test_names_that_are_not_utf_8_are_printed(drawings, tmp_path, capfdbinary):
    os.rename(os.fsencode(drawings / "train_000003.png"), os.fsencode(drawings) + b"/t\xfcrm.png")
    index = ["--index", str(tmp_path / "i.safetensors")]
    for _ in range(2):                                              # written to the index, and read from it
        assert main(["retrieve", str(drawings), "a tower", *MINI, "--json", *index]) == 0
        best = json.loads(capfdbinary.readouterr().out)[0]["answers"][0]["image"]
        assert os.fsencode(best).endswith(b"/t\xfcrm.png")
    assert main(["caption", str(drawings), "--beam", "1"]) == 0
    assert b"t\\udcfcrm.png: " in capfdbinary.readouterr().out


def test_whatever_is_wrong_with_a_picture_it_is_named_and_left_out(drawings, capsys, monkeypatch):
    from mmlearn.data import images

    def read(path):
        errors = {"train_000000.png": RuntimeError("strange"), "train_000003.png": MemoryError()}
        if Path(path).name in errors:
            raise errors[Path(path).name]
        return Image.open(path).convert("RGB")

    monkeypatch.setattr(images, "read_image", read)
    streams = said(capsys, 0, "retrieve", drawings, "a car", *MINI)
    assert streams.out.count("\n") == 1 and "train_000018.png" in streams.out
    assert f"left out: {drawings / 'train_000000.png'}: strange" in streams.err
    assert f"left out: {drawings / 'train_000003.png'}: MemoryError" in streams.err


# --------------------------------------------------------------------------------------------------- captions

def test_captions_of_a_coco_file_are_results_that_are_scored(tmp_path, capsys):
    truth = SAMPLE / "annotations" / "captions_train.json"
    results = tmp_path / "results.json"
    streams = said(capsys, 0, "caption", DRAWINGS, "--annotations", truth, "--out", results, "--beam", "1",
                   "--weights", "captioner-grid")
    assert streams.out == "" and f"24 captions in {results}" in streams.err
    rows = json.loads(results.read_text())
    names = {image["id"]: image["file_name"] for image in json.loads(truth.read_text())["images"]}
    assert [row["image_id"] for row in rows] == list(names)
    assert "tower" in next(row["caption"] for row in rows if names[row["image_id"]] == Path(TOWER).name)
    from mmlearn.cli.evaluate import read_captions

    candidates, references = read_captions(truth, results)
    assert len(candidates) == len(references) == 24
    said(capsys, 0, "caption", TOWER, "--out", results, "--beam", "1")      # results may be replaced


def test_a_folder_is_captioned_by_the_numbers_of_coco_or_by_names(drawings, tmp_path, capsys):
    (drawings / "bad.png").write_text("no picture")
    results = tmp_path / "results.json"
    streams = said(capsys, 0, "caption", drawings, "--out", results, "--beam", "1")
    assert "left out" in streams.err and "bad.png" in streams.err
    assert [row["image_id"] for row in json.loads(results.read_text())] == [
        "train_000000.png", "train_000003.png", "train_000018.png"]
    (drawings / "bad.png").unlink()
    for i, path in enumerate(sorted(drawings.iterdir())):
        path.rename(drawings / f"COCO_val2014_{39 + i:012d}.png")
    said(capsys, 0, "caption", drawings, "--out", results, "--beam", "1")
    assert [row["image_id"] for row in json.loads(results.read_text())] == [39, 40, 41]


def test_captions_that_cannot_be_written_or_told_apart_are_refused_first(drawings, tmp_path, capsys):
    truth = tmp_path / "captions.json"
    shutil.copy(SAMPLE / "annotations" / "captions_train.json", truth)
    for arguments, sentence in (
            ([drawings, "--out", truth], "an object, where a list is expected; give --out another name"),
            ([drawings, drawings, "--annotations", truth], "--annotations lists images of one folder"),
            ([TOWER, "--annotations", truth], "--annotations lists images of one folder"),
            ([drawings, "--annotations", tmp_path / "none.json"], "none.json"),
            ([drawings, TOWER, "--out", tmp_path / "r.json"], "two images are called train_000003.png"),
            ([TOWER, "--beam", "101"], "take 1 to 100"), ([tmp_path / "no.png"], "no image at")):
        streams = said(capsys, 2, "caption", *arguments)
        assert sentence in streams.err and streams.out == "" and not (tmp_path / "r.json").exists()
    truth.write_text('{"images": [{"id": 1}]}')
    assert "file_name" in said(capsys, 2, "caption", drawings, "--annotations", truth).err


def test_an_empty_argument_is_refused_and_named(tmp_path, capsys):
    for arguments, sentence in ((["train", "clip", "--out", ""], "--out is empty"),
                                (["train", "clip", "--out="], "--out is empty"),
                                (["caption", ""], "an argument is empty"),
                                (["caption", "a\0b.png"], "holds a character")):
        assert sentence in said(capsys, 2, *arguments).err
    assert not any(tmp_path.iterdir())
