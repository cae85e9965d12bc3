"""The study of sequential fusion at a size of seconds: all arms, the same pairs, controls of another word."""

import argparse
import math

import pytest
import torch

from mmlearn.data import word_world
from mmlearn.experiments.images_for_language import sequential_fusion as study

SMALL = ["--seeds", "1", "--processes", "1", "--sentences", "400", "--pictures", "1", "--words", "6",
         "--pairs", "60", "--dim", "4"]


def options(*more):
    parser = argparse.ArgumentParser()
    study.add(parser)
    return parser.parse_args([*SMALL, *more])


def test_a_shuffled_noun_has_the_row_of_another_and_every_row_is_used():
    table = torch.arange(50.0)[:, None]
    found = study.shuffled(table, torch.Generator().manual_seed(0))[:, 0]
    assert not bool((found == table[:, 0]).any()) and sorted(found.tolist()) == table[:, 0].tolist()


def test_pairs_that_are_tuned_on_are_none_of_those_that_are_judged():
    known = study.judgements(60)

    def keys(name):
        return set(zip(known[name].first, known[name].second))

    assert not keys("development") & keys("mixed") and len(keys("mixed")) == 60
    unseen = set(word_world.ZERO_SHOT)
    assert all({a, b} & unseen for a, b in keys("unseen"))
    assert not any({a, b} & unseen for name in ("relatedness", "visual", "mixed") for a, b in keys(name))


def test_nouns_without_pictures_have_rows_of_zeros():
    table = torch.ones(len(word_world.PICTURED), 3)
    found = study.with_all_nouns(table)
    empty = {word for word, row in zip(word_world.NOUNS, found) if not row.any()}
    assert empty == set(word_world.ZERO_SHOT)


@pytest.mark.slow
def test_every_arm_is_judged_on_every_set(monkeypatch):
    args = options()
    monkeypatch.setattr(study, "RANKS", (4, None))
    monkeypatch.setattr(study, "SHARES", (0.0, 0.5, 1.0))
    monkeypatch.setattr(study, "run_jobs", lambda job, jobs, args: ((j, job(*j, args)) for j in jobs))
    found = study.run(args)
    assert found["settings"]["seeds"] == [0] and found["pairs"]["mixed"] == 60
    assert {"text", "visual words", "CNN mean", "CNN max: tuned features", "CNN mean, shuffled: naive scores",
            "visual words: image mixed", "skip-gram", "skip-gram, imagined"} <= set(found["arms"])
    for name, runs in found["arms"].items():
        (run,) = runs
        assert set(run["scores"]) == set(study.SETS)
        assert all(value is None or -1 <= value <= 1 for value in run["scores"].values()), name
    assert found["arms"]["visual words"][0]["scores"]["unseen"] is None     # pictures of none of them
    (curve,) = found["curves"]["CNN mean"]
    assert len(curve) == 3 and curve[2] == found["arms"]["text"][0]["scores"]
    assert all(not math.isnan(c["share"]) and c["rank"] in (4, None)
               for runs in found["chosen"].values() for c in runs)
