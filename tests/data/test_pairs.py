"""Pairs and class pictures of the scene world, and their batches."""

from dataclasses import replace

import pytest
import torch

from mmlearn.data.images import MEAN, STD
from mmlearn.data.pairs import (
    PairBatches,
    class_names,
    class_of,
    class_pictures,
    coloured,
    draw_scenes,
    pixels,
    scene_pairs,
    scene_tokeniser,
    short_captions,
)
from mmlearn.data.scenes import HELD_OUT_CATEGORIES, HELD_OUT_PAIRS, captions, render, sample_scene

SIZE = 32


@pytest.fixture(scope="module")
def data():
    return scene_pairs(24, size=SIZE)


# ------------------------------------------------------------------------------------------------------- data

def test_a_pair_is_the_drawn_scene_and_its_captions(data):
    scene = sample_scene(0, 5, "train")
    assert data.scenes[5] == scene
    assert (data.images[5].permute(1, 2, 0).numpy() == render(scene, SIZE).image).all()
    assert all(len(text.split()) <= 16 for texts in data.captions for text in texts if len(texts) > 1)


def test_several_processes_draw_what_one_draws():
    scenes = [sample_scene(0, i, "test") for i in range(50)]
    assert torch.equal(draw_scenes(scenes, 16), draw_scenes(scenes, 16, processes=1))


def test_no_scene_gives_no_picture():
    assert draw_scenes([], 16).shape == (0, 3, 16, 16)


def test_pairs_are_drawn_once_and_each_caller_has_pictures_of_its_own(data):
    changed = scene_pairs(24, size=SIZE)
    changed.images.zero_()
    again = scene_pairs(24, size=SIZE)
    assert torch.equal(again.images, data.images) and again.captions is data.captions


def test_rows_keep_images_and_captions_together(data):
    part = data.rows([7, 3])
    assert part.captions == (data.captions[7], data.captions[3]) and torch.equal(
        part.images[1], data.images[3]
    )
    assert len(data.first(5)) == 5 and len(data.first(1000)) == 24


def test_data_that_does_not_fit_together_is_refused(data):
    with pytest.raises(ValueError, match="23 lists of captions"):
        replace(data, captions=data.captions[1:])
    with pytest.raises(ValueError, match="image 3 has no caption"):
        replace(data, captions=(*data.captions[:3], (), *data.captions[4:]))


@pytest.mark.parametrize("make", [scene_pairs, class_pictures])
def test_pictures_that_cannot_be_drawn_are_refused(make):
    with pytest.raises(ValueError, match="count is 0"):
        make(0)
    with pytest.raises(ValueError, match="split 'training' is unknown"):
        make(3, "training")
    with pytest.raises(ValueError, match="style 'oil' is unknown"):
        make(3, "test", style="oil")


def test_class_pictures_show_one_thing_with_its_class():
    pictures = class_pictures(20, size=SIZE)
    assert all(len(s.objects) == 1 and s.split == "test" for s in pictures.scenes)
    assert [pictures.classes[i] for i in pictures.labels] == [s.objects[0].category for s in pictures.scenes]
    assert len(pictures.classes) == 30 and not set(HELD_OUT_CATEGORIES) & set(pictures.classes)


def test_compositional_pictures_show_pairs_that_training_never_draws():
    pictures = class_pictures(20, "compositional", by="pair", size=SIZE)
    held_out = {coloured(*pair) for pair in HELD_OUT_PAIRS}
    assert {pictures.classes[i] for i in pictures.labels} <= held_out < set(pictures.classes)
    drawn = {class_of(s, "pair") for s in class_pictures(20, "train", by="pair", size=SIZE).scenes}
    assert not drawn & held_out


def test_zero_shot_pictures_show_categories_that_training_never_draws():
    pictures = class_pictures(12, "zero_shot", size=SIZE)
    assert {pictures.classes[i] for i in pictures.labels} <= set(HELD_OUT_CATEGORIES)
    assert len(pictures.classes) == 34
    kinds = class_pictures(12, "zero_shot", by="kind", size=SIZE)
    # a cake's kind has no word
    assert {kinds.classes[i] for i in kinds.labels} <= {"animal", "vehicle", "toy"}


def test_classes_are_told_as_captions_tell_them():
    assert "person in red" in class_names("pair") and "red car" in class_names("pair")
    assert class_names("kind") == ("animal", "plant", "vehicle", "building", "toy", "piece of furniture")


# ---------------------------------------------------------------------------------------------------- batches

def test_a_batch_is_a_function_of_its_number(data):
    tokeniser = scene_tokeniser(data)
    batches, again = (PairBatches(data, tokeniser, 5, seed=3) for _ in range(2))
    late = again(9)                                                 # read in another order
    for number in range(10):
        batch = batches(number)
    assert torch.equal(batch.tokens, late.tokens) and torch.equal(batch.images, late.images)


def test_each_image_of_a_batch_has_one_of_its_own_captions(data):
    tokeniser = scene_tokeniser(data)
    batches = PairBatches(data, tokeniser, 8)
    seen = []
    for number in range(len(batches)):
        batch = batches(number)
        seen += batch.which.tolist()
        for row, which in zip(batch.tokens, batch.which.tolist()):
            assert tokeniser.decode(row) in [
                tokeniser.decode(tokeniser.encode(t)) for t in data.captions[which]
            ]
        torch.testing.assert_close(batch.images, pixels(data.images[batch.which]))
        assert (batch.tokens[:, -1] != tokeniser.pad).any()  # no column of padding only
    assert sorted(seen) == list(range(24))  # an epoch sees each once


def test_captions_are_drawn_anew_in_every_epoch(data):
    batches = PairBatches(data, scene_tokeniser(data), 24)
    drawn = [batches(i) for i in range(6)]
    texts = [{int(w): tuple(row.tolist()) for w, row in zip(b.which, b.tokens)} for b in drawn]
    assert len({t[0][:6] for t in texts}) > 1


def test_a_batch_of_nothing_is_refused(data):
    with pytest.raises(ValueError, match="batch is 0"):
        PairBatches(data, scene_tokeniser(data), 0)


def test_pixels_are_standardised_with_clips_numbers(data):
    got = pixels(data.images[:2])
    for channel in range(3):
        want = (data.images[:2, channel].double() / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(got[:, channel].double(), want, atol=1e-5, rtol=1e-5)


def test_captions_longer_than_asked_are_left_out_but_one_always_stays():
    scene = sample_scene(0, 0)
    kept = short_captions(scene, 8)
    assert kept and set(kept) == {t for t in captions(scene) if len(t.split()) <= 8}
    assert short_captions(scene, 1) == (min(captions(scene), key=len),)
