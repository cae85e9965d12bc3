"""The studies of imagination do what they say, at a size of seconds."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from mmlearn.checkpoints import save_model
from mmlearn.claims import paired
from mmlearn.experiments import main, results
from mmlearn.experiments.images_for_language import cutouts, imagined_sentences
from mmlearn.experiments.images_for_language.imagined_sentences import (
    ARMS,
    BASE,
    NAMES,
    TASKS,
    counts,
    data_of,
    job,
    shuffled,
    tokens_of,
)
from mmlearn.nn.modes import seeded
from mmlearn.text2image.vqgan import VQGAN, VQGANConfig
from mmlearn.text_for_vision.training import load_mini


@pytest.fixture(scope="module")
def vqgan(tmp_path_factory) -> Path:
    """A VQGAN that has learnt nothing."""
    path = tmp_path_factory.mktemp("vqgan") / "vqgan.safetensors"
    with seeded(0):
        model = VQGAN(VQGANConfig.mini(8, 16))
    save_model(path, model, "vqgan", {})
    return path


def test_with_and_without_cutouts_a_seed_starts_alike(vqgan):
    args = argparse.Namespace(texts=3, steps=2, lr=0.1, at_once=8, guide="vit", second="resnet", vqgan=vqgan)
    plain, again, cut = (cutouts.job(name, 1, args) for name in (cutouts.BASE, cutouts.BASE, "cutouts"))
    assert plain == again and plain["random codes"] == cut["random codes"] and len(plain["losses"]) == 2
    assert plain["losses"] != cut["losses"] and set(plain["scores"]) == {
        "guide", "guide, own first", "second", "second, own first"}
    assert plain["real"]["guide"] > 0.5 > plain["other pictures"]["guide"]


def test_shuffled_pictures_are_nobodys_own_and_stay_within_their_split():
    order = shuffled(10, 6, 0)
    assert sorted(order[:6].tolist()) == list(range(6)) and sorted(order[6:].tolist()) == list(range(6, 10))
    assert all(int(place) != i for i, place in enumerate(order))


def test_tasks_read_what_they_are_called():
    x = torch.zeros(3, 3, 4, 4)
    x[0] = 1                                            # white
    x[1, 0] = 1                                         # red
    x[2, :, 2:] = 1                                     # a bright ground
    assert TASKS["bright"](x).argmax() == 0 and TASKS["warm"](x).argmax() == 1
    assert TASKS["bright ground"](x).argmax() == 2


def test_two_sentences_stand_one_behind_the_other_each_with_its_end():
    words = load_mini("vit").tokeniser
    tokens, segments = tokens_of(words, [("a red car", "a cat"), ("a cat", "a cat")])
    a, b = (words.batch([text])[0, 1:-1].tolist() for text in ("a red car", "a cat"))
    assert tokens[0].tolist() == [words.bos, *a, words.eos, *b, words.eos]
    assert segments[0].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert tokens[1, -1] == words.pad and segments[1, -1] == 0


def test_pairs_are_halves_of_yes_and_no_in_words_that_clip_knows():
    data, words = data_of("same colour", 6, 4), load_mini("vit").tokeniser
    assert data.real.shape == (10, 2, 3, 64, 64) and data.labels[:6].sum() == 3 == data.labels[6:].sum() + 1
    assert all(words.unk not in words.batch([text])[0] for one in data.texts for text in one)


def test_numbers_of_examples_are_checked():
    assert counts(argparse.Namespace(examples="4,8", train=8)) == [4, 8]
    for given in ("4,9", "0", "x"):
        with pytest.raises(ValueError, match="give whole numbers from 1 to 8"):
            counts(argparse.Namespace(examples=given, train=8))


@pytest.mark.slow
def test_the_study_of_sentences_runs_is_repeated_and_keeps_its_pictures(vqgan, tmp_path):
    small = {"examples": "4", "train": 6, "test": 4, "imagine-steps": 1, "phase-one": 2, "captions": 4,
             "steps": 3}
    options = [part for key, value in small.items() for part in (f"--{key}", str(value))]
    out, pictures = tmp_path / "r.json", tmp_path / "pictures"
    assert main(["imagined-sentences", "--seeds", "1", "--processes", "1", *options, "--vqgan", str(vqgan),
                 "--pictures", str(pictures), "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert set(told["tasks"]) == set(NAMES) and told["settings"]["seeds"] == [0]
    scores = told["tasks"]["bright"][0]["scores"]["4"]
    assert set(scores) == {BASE, *ARMS, *(f"{arm}, head alone" for arm in ARMS)}
    assert 4 <= len(list(pictures.glob("*.png"))) <= 30
    args = argparse.Namespace(**{key.replace("-", "_"): value for key, value in small.items()}, lr=1e-3,
                              guide="vit", vqgan=vqgan, pictures=pictures)
    assert job("bright", 0, args) == told["tasks"]["bright"][0]
    assert imagined_sentences.BASE not in ARMS


# ---- what the chapter says of the committed results ------------------------------------------------------

def verdicts(ours, base):
    def scores(runs, n, arm):
        return [run["scores"][n][arm] for run in runs]

    return {(name, n): paired(scores(runs, n, ours), scores(runs, n, base)).verdict
            for name, runs in results("imagined-sentences")["tasks"].items() for n in runs[0]["scores"]}


def test_imagined_pictures_are_nowhere_better_than_the_text_twice():
    found = list(verdicts("imagined", "text twice").values())
    assert len(found) == 25 and "better" not in found and found.count("worse") == 4


def test_imagined_pictures_beat_somebody_elses_only_where_two_are_compared():
    better = {place for place, verdict in verdicts("imagined", "shuffled").items() if verdict == "better"}
    assert better == {("same colour, compared", "128"), ("same colour, compared", "256")}


def test_a_head_that_cannot_compare_is_at_chance():
    for run in results("imagined-sentences")["tasks"]["same colour"]:
        assert all(abs(score - 0.5) < 0.13 for by in run["scores"].values() for score in by.values())
