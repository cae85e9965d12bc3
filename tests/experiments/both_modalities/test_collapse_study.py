"""The study of data2vec's safeguards removes what it says and measures it."""

import argparse
import json

import pytest
import torch

from mmlearn.experiments import main
from mmlearn.experiments.both_modalities.collapse import ARMS, job, model_of, probe

SMALL = {"steps": 2, "batch": 8, "lr": 1e-3, "blocks": 3, "train": 24, "test": 8}


def test_all_arms_begin_alike_and_differ_in_one_safeguard():
    from mmlearn.both_modalities.data2vec_text import Data2VecTextConfig

    args, config = argparse.Namespace(**SMALL), Data2VecTextConfig.mini(20)
    models = {name: model_of(name, config, args, 0) for name in ARMS}
    first = models["data2vec"].state_dict()
    for model in models.values():
        assert all(torch.equal(first[name], value) for name, value in model.state_dict().items())
    of = {name: model.config for name, model in models.items()}
    assert of["one block"].K == 1 and of["data2vec"].K == 3
    assert of["not normalised"].norm == of["teacher = student, not normalised"].norm == "none"
    assert of["teacher = student"].decay(1) == 0.0 and of["data2vec"].decay(1) > 0.98
    tokens = torch.tensor([[2, 5, 6, 7, 3]])
    mask = torch.tensor([[False, True, False, True, False]])
    assert models["gradient into the targets"](tokens, mask).target.requires_grad
    assert not models["data2vec"](tokens, mask).target.requires_grad
    changed = tokens.clone()
    changed[mask] = 8
    for name, reads in (("data2vec", False), ("nothing hidden", True)):
        one, two = (models[name](t, mask).prediction for t in (tokens, changed))
        assert torch.allclose(one, two) is not reads


def test_the_probe_reads_what_is_there_and_the_most_frequent_word_where_nothing_is():
    g = torch.Generator().manual_seed(0)
    y, y_test = torch.randint(5, (400,), generator=g), torch.randint(5, (100,), generator=g)
    code = torch.randn(5, 8, generator=g)
    assert probe(code[y], y, code[y_test], y_test, 5) == 1.0
    y[:300] = 2
    alike = torch.ones(400, 8)
    assert probe(alike, y, alike[:100], y_test, 5) == pytest.approx(float((y_test == 2).double().mean()))


def test_a_run_is_a_function_of_its_seed_and_tells_spread_rank_and_probe():
    args = argparse.Namespace(**SMALL)
    one, same = job("data2vec", 1, args), job("data2vec", 1, args)
    assert one == same and set(one["scores"]) == set(one["untrained"]) == {
        "target spread", "target rank", "state spread", "state rank", "probe"}
    assert 0 < one["most frequent word"] < 1 and one["curve"]["step"] == [1, 2]


@pytest.mark.slow
def test_the_collapse_study_writes_its_arms(tmp_path):
    few = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    out = str(tmp_path / "r.json")
    assert main(["collapse", *few, "--seeds", "1", "--processes", "1", "--out", out]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert tuple(told["arms"]) == ARMS and told["settings"]["steps"] == 2
