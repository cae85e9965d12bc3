"""The study of walkers trains what it says, in houses that it says, and writes the walker of the book."""

import argparse
import json

import pytest
import torch

from mmlearn.both_modalities.walker import evaluate_walker, load_walker
from mmlearn.claims import paired
from mmlearn.experiments import main, results
from mmlearn.experiments.both_modalities.walker import ARMS, config_of, job, references, rounded, walks_of

SMALL = {"steps": 2, "batch": 4, "lr": 1e-3, "train": 12, "houses": 3, "few": 1, "test": 8, "size": 64,
         "pixels": 16}


def test_arms_differ_in_what_they_get():
    of = {name: config_of(name, 30) for name in ARMS}
    assert of["seeing"] == of["four houses"] and of["raw pixels"].features == 0
    assert not of["word-blind"].reads and of["word-blind"].looks
    assert not of["picture-blind"].looks and of["picture-blind"].reads
    args = argparse.Namespace(**SMALL)
    worlds = {(name, split): walks_of(split, args, name).world for name in ("seeing", "four houses")
              for split in ("train", "seen", "unseen")}
    assert [len(w.houses) for w in worlds.values()] == [3, 3, 3, 1, 1, 3]
    assert worlds["seeing", "train"].houses[0].landmarks == worlds["four houses", "seen"].houses[0].landmarks
    assert walks_of("unseen", args, "raw pixels").world.pictures.shape[-1] == 16


def test_references_lie_between_chance_and_the_shortest_path():
    told = references(argparse.Namespace(**SMALL))
    best = told["shortest path"]["unseen"]
    assert best["success"] == best["spl"] == 1.0 and best["error"] == 0.0
    assert told["random"]["unseen"]["spl"] <= told["random"]["unseen"]["success"] < 1


def test_a_run_is_a_function_of_its_seed_and_leaves_a_walker(tmp_path):
    path = tmp_path / "walker.safetensors"
    args = argparse.Namespace(**SMALL, checkpoint=path)
    one, same = job("seeing", 0, args), job("seeing", 0, args)
    assert one | {"seconds": 0} == same | {"seconds": 0}
    assert one["curve"]["step"] == [1, 2] and set(one["seen by length"]) <= {"3", "4", "5", "6"}
    model, tokeniser, about = load_walker(path)
    assert about["metrics"]["unseen"] == one["unseen"] and about["settings"]["train"] == 12
    assert rounded(evaluate_walker(model, walks_of("unseen", args), tokeniser)).keys() == one["unseen"].keys()
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.slow
def test_the_walker_study_writes_its_arms(tmp_path):
    few = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    out = str(tmp_path / "r.json")
    assert main(["walker", *few, "--seeds", "1", "--processes", "1", "--out", out]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert tuple(told["arms"]) == ARMS and told["settings"]["steps"] == 2
    assert set(told["references"]) == {"random", "forward", "shortest path"}


def test_the_stored_study_says_what_the_page_says():
    """Words and pictures are both needed, another walk's way leads elsewhere, few houses cost in new ones."""
    study = results("walker")
    new = {name: [run["unseen"]["success"] for run in runs] for name, runs in study["arms"].items()}
    assert tuple(new) == ARMS and all([run["seed"] for run in runs] == study["settings"]["seeds"]
                                      for runs in study["arms"].values())
    assert max(new["word-blind"]) == 0 and min(new["seeing"]) > 2 * max(new["picture-blind"])
    assert all(run["unseen, other words"]["success"] < 0.1 for run in study["arms"]["seeing"])
    assert paired(new["four houses"], new["seeing"]).verdict == "worse"
    assert paired(new["raw pixels"], new["seeing"]).verdict == "cannot tell"
