"""The study of data2vec for pictures compares what it says it compares."""

import argparse
import json

import pytest
import torch

from mmlearn.both_modalities.data2vec_vision import Data2VecVisionConfig, HiddenPictures, block_masks
from mmlearn.experiments import main
from mmlearn.experiments.both_modalities.data2vec_vision import (
    ARMS,
    PIXELS,
    UNTRAINED,
    accuracy,
    job,
    model_of,
    patch_pixels,
    questions,
)

SMALL = {"steps": 2, "batch": 8, "lr": 1e-3, "blocks": 3, "train": 16, "probe": 40, "test": 20}
ARGS = argparse.Namespace(**SMALL, folder=None)


def test_all_arms_begin_with_one_encoder_and_differ_in_their_targets():
    models = {name: model_of(name, ARGS, 0) for name in ARMS}
    first = models["data2vec"].student.state_dict()
    for model in models.values():
        assert all(torch.equal(first[name], value) for name, value in model.student.state_dict().items())
    assert models["one block"].config.K == 1 and models["data2vec"].config.K == 3
    config = Data2VecVisionConfig.mini()
    images = torch.randn(4, 3, 32, 32)
    mask = block_masks(4, config, torch.Generator().manual_seed(0))
    found = {name: model(images, mask) for name, model in models.items()}
    assert found[PIXELS].target.shape[1] == 48 and found["data2vec"].target.shape[1] == 64
    torch.testing.assert_close(found["data2vec"].prediction, found["no context"].prediction)
    assert not torch.allclose(found["data2vec"].target, found["no context"].target)


def test_a_target_without_context_depends_on_its_own_patch_alone():
    model = model_of("no context", ARGS, 0)
    images = torch.randn(1, 3, 32, 32)
    mask = torch.zeros(1, 64, dtype=torch.bool)
    mask[0, 9] = True                                       # row 1, column 1 of the grid
    other = torch.randn(1, 3, 32, 32)
    other[:, :, 4:8, 4:8] = images[:, :, 4:8, 4:8]
    torch.testing.assert_close(model(images, mask).target, model(other, mask).target)
    with_context = model_of("data2vec", ARGS, 0)
    assert not torch.allclose(with_context(images, mask).target, with_context(other, mask).target)


def test_patches_are_cut_channel_by_channel_row_by_row():
    images = torch.arange(2 * 3 * 8 * 8.0).reshape(2, 3, 8, 8)
    found = patch_pixels(images, 4)
    for b in range(2):
        for row in range(2):
            for column in range(2):
                want = images[b, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten()
                assert torch.equal(found[b, 2 * row + column], want)


def test_a_probe_reads_what_is_there_however_small_it_is_written():
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(3, (n,), generator=generator) for n in (300, 60)]
    loud = [torch.randn(len(part), 5, generator=generator) for part in labels]
    features = [torch.cat([100 * noise, 0.01 * torch.eye(3)[part]], dim=1)
                for noise, part in zip(loud, labels)]
    assert accuracy(features, labels, 3) == [1.0]
    assert accuracy(loud, labels, 3)[0] < 0.6


def test_the_pictures_of_a_batch_follow_from_its_number():
    images = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8)
    one, same = (HiddenPictures(images, 8, Data2VecVisionConfig.mini(), seed=1) for _ in range(2))
    assert torch.equal(one[3].mask, same[3].mask) and torch.equal(one[3].inputs, same[3].inputs)
    assert not torch.equal(one[3].mask, one[2].mask)


def test_what_is_asked_has_an_answer_in_the_scene():
    for images, labels, classes in questions(ARGS).values():
        assert [len(part) for part in images] == [len(part) for part in labels] == [40, 20, 20]
        assert all(0 <= int(part.min()) and int(part.max()) < classes for part in labels)


def test_a_run_is_a_function_of_its_seed():
    one, same = job("data2vec", 1, ARGS), job("data2vec", 1, ARGS)
    one.pop("seconds"), same.pop("seconds")
    assert one == same and len(one["category"]["blocks"]) == 4
    assert "curve" not in job(UNTRAINED, 1, ARGS)


@pytest.mark.slow
def test_the_study_writes_its_arms(tmp_path):
    few = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    out = str(tmp_path / "r.json")
    assert main(["data2vec-vision", *few, "--seeds", "1", "--processes", "1", "--out", out]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert tuple(told["arms"]) == ARMS and told["settings"]["steps"] == 2
