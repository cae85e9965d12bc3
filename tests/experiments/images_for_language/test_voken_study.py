"""The study of vokens trains what it says, alike for all arms, and judges it."""

import argparse
import json

import pytest
import torch

from mmlearn.data.word_world import PICTURED
from mmlearn.experiments import main
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

SMALL = {"steps": 3, "text_steps": 3, "match_steps": 3, "batch": 16, "lr": 1e-3, "sentences": 400,
         "held_out": 200, "scenes": 20, "test": 12, "pictures": 1, "keys": 1, "draws": 2}


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
def test_a_seed_says_everything():
    args = argparse.Namespace(**{**SMALL, "sentences": 200, "held_out": 100})
    one, same = (job("matching", 1, args) for _ in range(2))
    assert one == same


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
    data = noun_pairs([["the", "raven", "flies"], ["a", "strawberry", "is", "sweet"], ["hope", "is", "near"]], 2)
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
