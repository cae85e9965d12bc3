"""The study of the KL's weight trains what it says and judges it."""

import argparse
import json

import pytest

from mmlearn.claims import paired
from mmlearn.experiments import main, results
from mmlearn.experiments.text2image.dvae_kl import ARMS, BASE, job

SMALL = {"steps": 3, "batch": 4, "size": 16, "codes": 8, "width": 8, "lr": 1e-3, "train": 8, "test": 8}


def test_arms_of_a_seed_begin_alike_and_are_functions_of_it():
    args = argparse.Namespace(**SMALL)
    one, same, heavy, other = (job(name, seed, args) for name, seed in (
        (BASE, 1), (BASE, 1), ("beta 6.6", 1), (BASE, 2)))
    assert one == same and set(one["scores"]) == {"mse", "codes in use", "perplexity", "kl"}
    assert one["curve"]["step"] == [0, 2]
    assert one["curve"]["nll"][0] == heavy["curve"]["nll"][0] != other["curve"]["nll"][0]
    assert one["curve"]["nll"][1] != heavy["curve"]["nll"][1]


@pytest.mark.slow
def test_the_study_of_the_kl_runs_from_the_command_line(tmp_path):
    out = tmp_path / "r.json"
    options = [part for key, value in SMALL.items() for part in (f"--{key}", str(value))]
    assert main(["dvae-kl", "--seeds", "1", "--processes", "1", *options, "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert set(told["arms"]) == set(ARMS) and told["settings"]["seeds"] == [0]


# ---- what the side page says about the committed results ---------------------------------------------------

def verdict(ours, base, key):
    arms = results("dvae-kl")["arms"]
    values = [[float(run["scores"][key]) for run in arms[name]] for name in (ours, base)]
    return paired(*values, lower_is_better=key == "mse").verdict


def test_the_right_weight_uses_more_codes_with_a_smaller_error_than_none():
    assert {verdict("beta 1.65", BASE, key) for key in ("mse", "codes in use", "perplexity")} == {"better"}


def test_four_times_as_much_uses_more_codes_and_is_no_better_than_none():
    assert verdict("beta 6.6", BASE, "codes in use") == "better"
    assert verdict("beta 6.6", BASE, "mse") == "cannot tell" and verdict("beta 6.6", "beta 1.65",
                                                                         "mse") == "worse"
    kl = [run["scores"]["kl"] for run in results("dvae-kl")["arms"]["beta 6.6"]]
    assert sum(kl) / len(kl) == pytest.approx(0.09, abs=5e-3)
