"""The study of vokens trains what it says, alike for all arms, and judges it."""

import argparse
import json

import pytest
import torch

from mmlearn.claims import paired
from mmlearn.data.pairs import scene_pairs
from mmlearn.data.word_world import PICTURED
from mmlearn.experiments import main, results
from mmlearn.experiments.images_for_language.vokens import (
    ARMS,
    BASE,
    arms_of,
    colour_of,
    colour_probe,
    job,
    noun_pairs,
    ridge_answers,
    unpictured_probe,
)
from mmlearn.images_for_language.voken_training import load_vokenizer

SMALL = {"steps": 3, "text_steps": 3, "match_steps": 3, "match_batch": 16, "match_lr": 1e-3, "batch": 16,
         "lr": 1e-3, "sentences": 400, "held_out": 200, "scenes": 20, "test": 12,
         "pictures": 1, "keys": 1, "draws": 2}


@pytest.mark.slow
def test_the_study_runs_from_the_command_line(tmp_path):
    out = tmp_path / "r.json"
    options = [part for key, value in SMALL.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    assert main(["vokens", "--seeds", "1", "--processes", "1", *options, "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert set(told["arms"]) == set(ARMS) and told["settings"]["seeds"] == [0]
    assert told["settings"]["vokens"] == len(PICTURED) and len(told["matching"]) == 1
    scores = told["arms"][BASE][0]["scores"]
    assert {"nats per hidden word", "colour after 1", "visual similarity"} <= set(scores)
    assert told["matching"][0]["scores"]["chance of R@1"] == pytest.approx(1 / 12, abs=1e-4)


@pytest.mark.slow
def test_the_miniature_is_written_and_opens_with_its_words(tmp_path):
    out, weights = tmp_path / "r.json", tmp_path / "v.safetensors"
    few = {key: SMALL[key] for key in (
        "text_steps", "match_steps", "match_batch", "match_lr", "batch", "lr", "scenes", "test")}
    options = [part for key, value in few.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    assert main(["vokenizer", *options, "--out", str(out), "--checkpoint", str(weights)]) == 0
    told = json.loads(out.read_text())
    again = job("matching", 0, argparse.Namespace(**SMALL))["scores"]
    assert again == pytest.approx(told["scores"], abs=1e-3)
    vokenizer, tokeniser = load_vokenizer(scene_pairs(6, "val").images, weights)
    vokens = vokenizer.vokenise([tokeniser.encode("a red car on the street")])[0]
    assert len(vokens) == 6 and all(0 <= voken < 6 for voken in vokens)
    assert vokenizer.model.config.trunk == (32, 64, 128, 128)
    with pytest.raises(FileNotFoundError, match="python -m mmlearn.experiments vokenizer"):
        load_vokenizer(scene_pairs(6, "val").images, tmp_path / "other.safetensors")


def test_controls_stand_where_vokens_stand_and_differ():
    tokens = torch.randint(4, 50, (30, 9), generator=torch.Generator().manual_seed(0))
    vokens = torch.randint(0, 7, (30, 9), generator=torch.Generator().manual_seed(1))
    vokens[:, 0] = -100
    arms = arms_of(tokens, vokens, 7, 51, 0)
    assert set(arms) == set(ARMS) and arms[BASE][0] is None and arms["token ids"][1] == 51
    for name in ARMS[1:]:
        given, count = arms[name]
        assert torch.equal(given >= 0, vokens >= 0) and int(given.max()) < count
        assert name == "vokens" or not torch.equal(given, vokens)


def test_pictures_of_a_noun_stand_beside_sentences_that_name_it():
    texts = ["the raven flies", "a strawberry is sweet", "hope is near"]
    data = noun_pairs([text.split() for text in texts], 2)
    assert len(data) in (2, 4) and all("raven" in text or "strawberry" in text
                                       for texts in data.captions for text in texts)


def test_the_probe_reads_a_colour_that_is_in_the_vectors_and_none_that_is_not():
    coloured = [word for word in PICTURED if colour_of(word)]
    colours = sorted({colour_of(word) for word in coloured})
    told = {word: torch.eye(len(colours))[colours.index(colour_of(word))] for word in coloured}
    assert colour_probe(told, 1, 5) == 1.0
    draws = torch.Generator().manual_seed(0)
    silent = {word: torch.randn(8, generator=draws) for word in coloured}
    assert colour_probe(silent, 2, 20) < 0.3
    assert torch.isnan(torch.tensor(unpictured_probe(told)))                # no unpictured noun among them
    x = torch.tensor([[0.0, 1.0], [0.0, 2.0], [1.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    assert ridge_answers(x, torch.tensor([0, 0, 1, 1]), x, 2, 0.1).tolist() == [0, 0, 1, 1]


# ---- what the chapter says of the committed results ------------------------------------------------------

def verdict(ours, base, key):
    arms = results("vokens")["arms"]
    values = [[run["scores"][key] for run in arms[name]] for name in (ours, base)]
    return paired(*values, lower_is_better=key.startswith("nats")).verdict


@pytest.mark.parametrize("key", ["colour after 1", "colour after 2", "colour after 4"])
def test_vokens_tell_colours_better_than_every_control(key):
    assert {verdict("vokens", arm, key) for arm in ARMS if arm != "vokens"} == {"better"}
    assert verdict("shuffled", BASE, key) == "cannot tell"


def test_another_second_task_helps_hidden_words_more():
    assert verdict("vokens", BASE, "nats per hidden word") == "better"
    assert verdict("token ids", "vokens", "nats per hidden word") == "better"
    assert verdict("random", BASE, "nats per hidden word") == "worse"
    assert verdict("token ids", BASE, "colour after 1") == "worse"


def test_colours_of_unpictured_nouns_and_looks_cannot_be_told():
    for key in ("colour of unpictured nouns", "visual similarity"):
        assert verdict("vokens", BASE, key) == verdict("vokens", "shuffled", key) == "cannot tell"


def test_reversed_vokens_bring_most_of_the_relatedness():
    arms = results("vokens")["arms"]
    means = {name: sum(run["scores"]["relatedness"] for run in arms[name]) / 5 for name in ARMS}
    assert verdict("vokens", "reversed", "relatedness") == "better"
    assert 0.6 < (means["reversed"] - means[BASE]) / (means["vokens"] - means[BASE]) < 0.85
