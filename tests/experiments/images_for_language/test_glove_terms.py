"""The study of GloVe's terms trains what it says and judges it."""

import argparse
import json

import pytest

from mmlearn.claims import paired
from mmlearn.experiments import main, results
from mmlearn.experiments.images_for_language.glove_terms import ARMS, BASE, NARROW, job

SMALL = {"sentences": 400, "pairs": 50, "dim": 6, "window": 3, "x_max": 5.0, "lr": 0.05, "epochs": 4}


@pytest.mark.slow
def test_arms_of_a_seed_read_the_same_sentences_and_are_functions_of_it():
    args = argparse.Namespace(**SMALL)
    one, same, other = job(BASE, 1, args), job(BASE, 1, args), job(BASE, 2, args)
    assert one == same != other
    assert set(one["scores"]) == {"rho all", "rho concrete", "rho abstract", "rho all, word alone",
                                  "rho all, context alone", "fit", "fit to other sentences",
                                  "length and count"}
    assert len(one["curve"]) == 4 and one["curve"][-1] < one["curve"][0]
    assert len({tuple(job(name, 1, args)["curve"]) for name in ARMS}) == len(ARMS)  # all arms differ


@pytest.mark.slow
def test_the_study_of_terms_runs_from_the_command_line(tmp_path):
    out = tmp_path / "r.json"
    options = [part for key, value in SMALL.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    assert main(["glove-terms", "--seeds", "1", "--processes", "1", *options, "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert set(told["arms"]) == set(ARMS) and told["settings"]["seeds"] == [0]


# ---- what the chapter may say of the committed results -----------------------------------------------------

def scores(arm, key):
    return [run["scores"][key] for run in results("glove-terms")["arms"][arm]]


def verdict(arm, key, base=BASE):
    return paired(scores(arm, key), scores(base, key), lower_is_better=key == "length and count").verdict


def test_the_sum_of_both_vectors_is_better_than_either():
    for side in ("word", "context"):
        assert paired(scores(BASE, "rho all"), scores(BASE, f"rho all, {side} alone")).verdict == "better"


def test_predictions_agree_with_the_logarithms_of_counts():
    assert min(scores(BASE, "fit")) > 0.97 and min(scores(BASE, "fit to other sentences")) > 0.94


def test_the_exponent_of_three_quarters_is_better_than_one_and_than_no_weight_but_for_abstract_words():
    assert verdict("alpha 1", "rho all") == verdict("no weight", "rho all") == "worse"
    concrete, abstract = "rho concrete", "rho abstract"
    assert (verdict("alpha 1", concrete), verdict("alpha 1", abstract)) == ("cannot tell", "worse")
    assert (verdict("no weight", concrete), verdict("no weight", abstract)) == ("worse", "better")


def test_without_biases_counts_are_fitted_worse_and_most_where_vectors_are_narrow():
    assert verdict("no biases", "fit") == "worse" and verdict("no biases", "rho all") == "cannot tell"
    assert verdict("no biases", "fit to other sentences") == "better"       # by 0.0007
    narrow = f"no biases, {NARROW}"
    for key in ("fit", "fit to other sentences", "length and count"):
        assert verdict(narrow, key, NARROW) == "worse"
    assert verdict(narrow, "rho all", NARROW) == "cannot tell"


def test_the_weight_by_distance_helps_where_things_are_named():
    assert verdict("no distance", "rho concrete") == "worse"
    assert verdict("no distance", "rho all") == verdict("no distance", "rho abstract") == "cannot tell"
