"""The study of GloVe's terms trains what it says and judges it."""

import argparse
import json

import pytest

from mmlearn.experiments import main
from mmlearn.experiments.images_for_language.glove_terms import ARMS, BASE, job

SMALL = {"sentences": 400, "pairs": 50, "dim": 6, "window": 3, "x_max": 5.0, "lr": 0.05, "epochs": 4}


def test_arms_of_a_seed_read_the_same_sentences_and_are_functions_of_it():
    args = argparse.Namespace(**SMALL)
    one, same, other = job(BASE, 1, args), job(BASE, 1, args), job(BASE, 2, args)
    assert one == same != other
    assert set(one["scores"]) == {"rho all", "rho concrete", "rho abstract", "rho all, word alone",
                                  "rho all, context alone", "fit", "fit to other sentences",
                                  "length and count"}
    assert len(one["curve"]) == 4 and one["curve"][-1] < one["curve"][0]
    assert len({job(name, 1, args)["curve"][0] for name in ARMS}) == len(ARMS)      # all arms differ


@pytest.mark.slow
def test_the_study_of_terms_runs_from_the_command_line(tmp_path):
    out = tmp_path / "r.json"
    options = [part for key, value in SMALL.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    assert main(["glove-terms", "--seeds", "1", "--processes", "1", *options, "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert set(told["arms"]) == set(ARMS) and told["settings"]["seeds"] == [0]
