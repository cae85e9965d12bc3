"""What the study of GLIDE's miniature measures: pictures of one thing whole, of two things by halves."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace

import pytest
import torch
from PIL import Image

from mmlearn.data.glide_tokeniser import GLIDETokeniser
from mmlearn.data.things import ATTRIBUTES, attributes_of, halves, side_scenes, sides, thing_pairs, two_things
from mmlearn.experiments.text2image import glide as study
from mmlearn.experiments.text2image.text_to_image import FILMED
from mmlearn.nn.modes import seeded
from mmlearn.text2image.adm import ADMConfig
from mmlearn.text2image.glide import GLIDE, GLIDETextConfig, fitted
from mmlearn.text2image.painting import Painter
from mmlearn.text2image.pipeline import CHECKPOINTS, load_judge

SCALES = [1.0, 3.0]


@pytest.fixture(scope="module")
def painter():
    words = GLIDETokeniser.train(["a red bird left of a blue car in a meadow"], 20, 8)
    unet = ADMConfig(16, 16, (1, 1), 1, (), groups=8, head_channels=16)
    with seeded(0):
        model = GLIDE(replace(fitted(unet, GLIDETextConfig(len(words), 8, 16, 1, 1)), predicts="velocity"))
        for weight in model.parameters():                       # none is zero, so that words have an effect
            torch.nn.init.normal_(weight, std=0.1)
    return Painter.of(words, model.eval())


@pytest.mark.slow
def test_each_split_is_drawn_at_each_scale_of_guidance(painter):
    args = Namespace(test=110, size=16, guidance=SCALES, judge_steps=2, encoders=CHECKPOINTS)
    found = study.measured(painter, (thing_pairs, two_things), load_judge(), args)
    scales = {f"guidance {scale:g}" for scale in SCALES}
    for name in ("test", "unseen pairs"):
        assert found[name].keys() == scales
        assert {"category", "Frechet distance", "R-precision"} <= found[name]["guidance 1"].keys()
    for name in ("two things", "two things, unseen pairs"):
        assert found[name].keys() == scales
        assert found[name]["guidance 3"].keys() == {"left", "right", "both", "setting", "all"}
    assert found["test"]["guidance 1"] != found["test"]["guidance 3"]
    assert found["processor seconds a picture"] > 0


@pytest.mark.slow
def test_parts_that_were_trained_apart_are_found_and_judged(monkeypatch, tmp_path):
    monkeypatch.setattr(study, "WATCHED", 2)
    monkeypatch.setattr(study, "SHOWN", study.SHOWN[:2])
    monkeypatch.setattr(study, "measured", lambda painter, *_: {
        "drawn": list(painter.draw(["a red car"], steps=2).shape)})
    few = ["--train", 20, "--first-steps", 1, "--steps", 1, "--hole-steps", 1, "--up-steps", 1,
           "--up-hole-steps", 1, "--batch", 2, "--up-batch", 2, "--precision", "no", "--size", 32, "--folder",
           tmp_path / "runs", "--checkpoint", tmp_path / "glide", "--beside",
           "--evaluate-every", 1, "--reader-steps", 2]
    parser = ArgumentParser()
    study.add(parser)

    def call(*more):
        return study.run(parser.parse_args([str(word) for word in (*few, *more)]))

    parts = [call("--only", "upsampler"), call("--only", "base")]
    assert [list(part["last loss"]) for part in parts] == [["upsampler", "upsampler-hole"],
                                                           ["reader", "first", "base", "hole"]]
    assert not (tmp_path / "glide").exists()
    whole = call()
    assert whole["last loss"] == parts[0]["last loss"] | parts[1]["last loss"]
    assert whole["drawn"] == [1, 3, 32, 32] and (tmp_path / "glide").exists()
    with Image.open(tmp_path / "glide-training.png") as film:       # a row an evaluation
        rows = sum(len(whole["curves"][name]["step"]) for name in ("first", "base"))
        assert rows >= 2 and film.size == (16 * FILMED, 16 * rows)


def test_a_reader_is_asked_what_each_scene_shows():
    words = GLIDETokeniser.train(["a red bird left of a blue car in a meadow"], 20, 8)
    sets = [thing_pairs(5, "test"), two_things(4, "test")]
    tokens, asked = study.captions_named(sets, words)
    texts = [text for data in sets for texts in data.captions for text in texts]
    assert len(tokens) == len(texts) and set(asked) == set(study.NAMED)
    owners = [scene for data in sets for scene, texts in zip(data.scenes, data.captions) for _ in texts]
    for row, scene in enumerate(owners):
        one = len(scene.objects) == 1
        assert (asked["category"][row] >= 0) == one == (asked["left colour"][row] < 0)
        thing, side = (scene.objects[0], "") if one else (sides(scene)[1], "right ")
        assert ATTRIBUTES["category"][asked[f"{side}category"][row]] == thing.category
        assert ATTRIBUTES["colour"][asked[f"{side}colour"][row]] == thing.colour
        assert ATTRIBUTES["setting"][asked["setting"][row]] == scene.setting


@pytest.mark.slow
def test_other_models_are_judged_on_the_same_sentences(monkeypatch):
    asked = []
    monkeypatch.setattr(study, "open_drawer", lambda name: asked.append(name) or Alike())
    args = Namespace(test=110, size=64)
    found = study.beside("any", (two_things, thing_pairs), load_judge(), args)
    assert asked == ["any"] and found["parameters"] == 3 and found["processor seconds a picture"] >= 0
    assert found["test"]["all"] > 0.98 and found["unseen pairs"]["all"] < 0.1    # it shows the test pictures
    assert found["test"]["Frechet distance"] < 1e-3 < found["unseen pairs"]["Frechet distance"]


def test_a_part_without_a_folder_is_refused():
    with pytest.raises(ValueError, match="--only base leaves nothing behind without a --folder"):
        study.run(Namespace(only="base", folder=None))


class Alike(torch.nn.Module):
    """A model of 3 parameters that draws the pictures of the test split, whatever is asked for."""

    tokeniser, system = None, "alike"

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))

    def draw(self, texts, samples=1, seed=0):
        return torch.as_tensor(thing_pairs(110, "test").images[:len(texts)]).float() / 127.5 - 1


class Shows:
    """A drawer whose pictures are those of the scenes themselves, or the same mirrored."""

    tokeniser, system = None, "shows"

    def __init__(self, images):
        self.images = images

    def draw(self, texts, samples=1, seed=0):
        return self.images.float() / 127.5 - 1


def test_two_things_are_right_where_they_stand_and_wrong_on_the_other_side():
    data = two_things(30, "test")
    images = torch.as_tensor(data.images[:])
    sides = load_judge(CHECKPOINTS / study.SIDES)
    right = study.sides_right(Shows(images), sides, data)
    assert right == {"left": 1, "right": 1, "both": 1, "setting": 1, "all": 1}
    mirrored = study.sides_right(Shows(images.flip(-1)), sides, data)
    assert mirrored["both"] < 0.1 and mirrored["setting"] > 0.9


def test_the_judge_of_sides_reads_each_half_of_pictures_of_pairs_never_seen():
    data = two_things(40, "compositional")
    judge = load_judge(CHECKPOINTS / study.SIDES)
    drawn = halves(torch.as_tensor(data.images[:]).float() / 127.5 - 1)
    answers = judge.answers(drawn)
    for name, asked in attributes_of([*side_scenes(data.scenes)[0], *side_scenes(data.scenes)[1]]).items():
        assert (answers[name] == asked).double().mean() > 0.97
