"""The study of a small BERT trains what it says and judges it."""

import argparse
import json

import pytest

from mmlearn.experiments import main
from mmlearn.experiments.images_for_language.bert_mini import ARMS, ambiguous, job, senses

SMALL = {"steps": 3, "batch": 4, "lr": 1e-3, "pieces": 150, "length": 24, "train": 40, "test": 20,
         "copies": 1}


def test_two_words_are_spelt_alike_and_it_is_known_which_was_which():
    text = "two boats, a bed and one boat on a bedspread"
    assert ambiguous(text) == "two boatbeds, a boatbed and one boatbed on a bedspread"
    assert senses(text) == [0, 1, 0] and senses("a cat") == []


def test_a_run_is_a_function_of_its_seed_and_measures_what_it_says():
    args = argparse.Namespace(**SMALL)
    one, same, frozen = (job(name, 1, args) for name in ("BERT", "BERT", "no positions"))
    assert one == same and one["scores"] != frozen["scores"]
    assert one["baselines"].keys() == {"unigram", "bigram", "both", "most frequent label of a pair"}
    layers = one["scores"]["senses by layer"]
    assert len(layers) == 3 and all(0 <= share <= 1 for share in layers)
    assert one["scores"]["one vector"] >= 0.5 or one["scores"]["occurrences"][1] < 20


@pytest.mark.slow
def test_the_study_writes_its_arms(tmp_path):
    few = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    out = str(tmp_path / "r.json")
    assert main(["bert-mini", *few, "--seeds", "1", "--processes", "1", "--out", out]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert tuple(told["arms"]) == ARMS and told["settings"]["steps"] == 3
    assert "nsp accuracy" not in told["arms"]["words alone"][0]["scores"]
