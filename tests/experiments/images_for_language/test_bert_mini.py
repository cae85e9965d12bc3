"""The study of a small BERT trains what it says and judges it."""

import argparse
import json

import pytest

from mmlearn.experiments import main
from mmlearn.experiments.images_for_language.bert_mini import ARMS, ambiguous, job, senses, sides

SMALL = {"steps": 3, "batch": 4, "lr": 1e-3, "pieces": 150, "length": 24, "train": 40, "test": 20,
         "copies": 1}


def test_two_words_are_spelt_alike_and_it_is_known_which_was_which():
    text = "two boats, a bed and one boat on a bedspread"
    assert ambiguous(text) == "two boatbeds, a boatbed and one boatbed on a bedspread"
    assert senses(text) == [0, 1, 0] and senses("a cat") == []
    assert sides("on the left of a dog facing left, to the left") == [0, 1, 0]


def test_a_run_is_a_function_of_its_seed_and_measures_what_it_says():
    args = argparse.Namespace(**SMALL)
    one, same, frozen = (job(name, 1, args) for name in ("BERT", "BERT", "no positions"))
    assert one == same and one["scores"] != frozen["scores"]
    assert one["baselines"].keys() == {"unigram", "bigram", "both", "most frequent label of a pair"}
    for word in one["scores"]["senses"].values():
        assert len(word["by layer"]) == 3 and all(0 <= share <= 1 for share in word["by layer"])
        assert 0 <= word["one vector"] <= 1 and min(word["occurrences"]) > 0


@pytest.mark.slow
def test_the_study_writes_its_arms(tmp_path):
    few = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    out = str(tmp_path / "r.json")
    assert main(["bert-mini", *few, "--seeds", "1", "--processes", "1", "--out", out]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert tuple(told["arms"]) == ARMS and told["settings"]["steps"] == 3
    assert "nsp accuracy" not in told["arms"]["words alone"][0]["scores"]
