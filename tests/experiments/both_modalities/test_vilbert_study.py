"""The study of ViLBERT compares arms of one size that differ in what it says, and saves the miniature."""

import argparse
import json

import pytest
import torch

from mmlearn.both_modalities.vilbert_regions import Seen
from mmlearn.both_modalities.vilbert_training import RegionTexts, load_vilbert
from mmlearn.experiments import main
from mmlearn.experiments.both_modalities.vilbert import (
    ARMS,
    BASE,
    FRESH,
    ONE_WAY,
    STREAM,
    SURVEY,
    arm,
    asked,
    config_of,
    material,
)

TEXTS = ("a red cat", "two dogs")


@pytest.fixture(scope="module")
def data():
    dice = torch.Generator().manual_seed(0)
    mask = torch.ones(2, 3, dtype=torch.bool)
    return RegionTexts(Seen(torch.randn(2, 3, 256, generator=dice), torch.rand(2, 3, 5, generator=dice), mask,
                            torch.full((2, 3, 35), 1 / 35)), tuple((text,) for text in TEXTS))


def test_two_streams_begin_alike_and_one_stream_has_as_many_parameters(data):
    words = data.vocabulary([f"word{i}" for i in range(200)])
    models = {name: arm(name, words, data, 0) for name in ARMS}
    first = models[BASE].state_dict()
    for name in (SURVEY, ONE_WAY, FRESH):
        assert all(torch.equal(first[key], value) for key, value in models[name].state_dict().items())
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    assert abs(counts[STREAM] / counts[BASE] - 1) < 0.05
    assert config_of(STREAM, models[BASE].config).text.layers == 6


def test_what_crosses_is_as_the_arm_says(data):
    words = data.vocabulary()
    tokens = words.batch(TEXTS)
    crosses = {BASE: (True, True), SURVEY: (False, False), ONE_WAY: (True, False), STREAM: (True, True)}
    for name, want in crosses.items():
        model = arm(name, words, data, 0).eval()
        inputs = (tokens, None, None, *data.seen[:3])
        with torch.no_grad():
            before = model(*inputs)
            other = model(tokens, None, None, data.seen.features.flip(0), *data.seen[1:3])
            said = model(tokens.flip(1), None, None, *data.seen[:3])
        words_change = not torch.allclose(before.words, other.words, atol=1e-6)
        regions_change = not torch.allclose(before.regions, said.regions, atol=1e-6)
        assert (words_change, regions_change) == want, name
        assert not torch.allclose(before.pairs, other.pairs, atol=1e-7), name      # the product joins them


@pytest.mark.slow
def test_the_study_writes_its_arms_and_the_miniature_its_file(tmp_path):
    small = ["--steps", "2", "--batch", "8", "--tune", "2", "--train", "24", "--asked", "30", "--test", "20",
             "--regions-in", str(tmp_path / "regions"), "--processes", "1"]
    (tmp_path / "regions").mkdir()
    assert main(["vilbert", *small, "--seeds", "1", "--out", str(tmp_path / "r.json")]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert tuple(found["arms"]) == ARMS and "curve" not in found["arms"][FRESH][0]
    assert set(found["blind"]) == {"questions", "referring"}
    assert all({"pairs", "questions", "referring", "R@1"} <= set(one[0]["scores"])
               for one in found["arms"].values())
    path = tmp_path / "m.safetensors"
    assert main(["vilbert", *small, "--checkpoint", str(path), "--out", str(tmp_path / "m-r.json")]) == 0
    model, words, about = load_vilbert(path)
    assert about["metrics"] == json.loads((tmp_path / "m-r.json").read_text())["scores"]
    args = argparse.Namespace(train=24, test=20, asked=30, regions_in=tmp_path / "regions")
    train, test, again = material(args)
    assert again.words == words.words and len(train) == 24 and len(asked(args, again)[2]) == 40
    assert main(["vilbert", *small, "--checkpoint", str(path), "--out", str(tmp_path / "m.json")]) == 2
