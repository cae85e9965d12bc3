"""The study of mode collapse counts what it says, and the chapter says what it found."""

import argparse
import json
import math

import pytest

from mmlearn.claims import paired
from mmlearn.experiments import main, results
from mmlearn.experiments.text2image.mode_collapse import ARMS, BASE, job, run

SMALL = {"steps": 6, "every": 2, "batch": 16, "lr": 1e-3, "std": 0.05, "samples": 60}


@pytest.mark.parametrize("name", ARMS)
def test_each_arm_is_counted_as_it_goes_and_a_score_is_the_mean_of_the_last_third(name):
    found = job(name, 0, argparse.Namespace(**SMALL))
    curve = found["curve"]
    assert curve["step"] == [2, 4, 6] and set(found["scores"]) == {"modes", "good", "unevenness"}
    assert all(value == curve[key][-1] for key, value in found["scores"].items())
    assert all(0 <= modes <= 8 and 0 <= good <= 1 and 0 <= uneven <= math.log(8) + 1e-4
               for modes, good, uneven in zip(curve["modes"], curve["good"], curve["unevenness"]))


def test_a_run_is_a_function_of_its_seed():
    wide = argparse.Namespace(**{**SMALL, "std": 0.5})                  # something is good from the start
    one, same, other = (job(BASE, seed, wide)["curve"] for seed in (3, 3, 4))
    assert one == same != other


@pytest.mark.slow
def test_the_study_runs_from_the_command_line(tmp_path):
    out = tmp_path / "r.json"
    assert main(["mode-collapse", "--seeds", "1", "--steps", "2", "--every", "1", "--batch", "8", "--samples",
                 "20", "--processes", "1", "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert set(told["arms"]) == set(ARMS) and told["settings"]["seeds"] == [0]


def test_counts_that_would_never_come_are_refused():
    with pytest.raises(ValueError, match="--every is 9, --steps 5: nothing would be counted"):
        run(argparse.Namespace(steps=5, every=9))


# ---- what the chapter says about the committed results -----------------------------------------------------

def scores(key):
    arms = results("mode-collapse")["arms"]
    return {name: [run["scores"][key] for run in runs] for name, runs in arms.items()}


def verdict(arm, key, **options):
    return paired(scores(key)[arm], scores(key)[BASE], **options).verdict


def test_the_saturating_loss_draws_all_modes_more_evenly():
    assert verdict("saturating", "unevenness", lower_is_better=True) == "better"
    assert all(modes == 8 for modes in scores("modes")["saturating"])


def test_more_steps_of_the_discriminator_make_the_modes_less_even():
    assert verdict("three steps of D", "unevenness", lower_is_better=True) == "worse"
    assert verdict("three steps of D", "good") == "cannot tell"


def test_of_the_hinge_the_study_cannot_tell():
    assert {verdict("hinge", key) for key in ("modes", "good", "unevenness")} == {"cannot tell"}


def test_a_slow_discriminator_loses_nearly_everything():
    for key in ("modes", "good"):
        assert verdict("slow D", key) == "worse"
    assert max(scores("modes")["slow D"]) < 1 and max(scores("good")["slow D"]) < 0.1
