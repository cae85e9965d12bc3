"""The scene world as a contrastive task: pairs, class pictures, batches, training, judging, the miniature on disk."""

import json
import math
from dataclasses import replace

import pytest
import torch

from mmlearn.data.scenes import HELD_OUT_CATEGORIES, HELD_OUT_PAIRS, render, sample_scene
from mmlearn.nn.modified_resnet import ResNetConfig
from mmlearn.nn.vit import ViTConfig
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig, TextConfig
from mmlearn.text_for_vision.contrastive import clip_loss
from mmlearn.text_for_vision.preprocess import MEAN, STD
from mmlearn.text_for_vision.task import (
    PairBatches,
    class_names,
    class_of,
    class_pictures,
    coloured,
    context_of,
    contrastive_objective,
    draw_scenes,
    embed_images,
    embed_texts,
    load_mini,
    parameter_groups,
    pixels,
    retrieval,
    save_mini,
    scene_pairs,
    scene_tokeniser,
    train_clip,
    zero_shot_accuracy,
)
from mmlearn.train import constant

SIZE = 32


@pytest.fixture(scope="module")
def data():
    return scene_pairs(24, size=SIZE)


def tiny(tokeniser, resnet=True, **options):
    torch.manual_seed(0)
    image = ResNetConfig(SIZE, (1, 1, 1, 1), 8, 4) if resnet else ViTConfig(SIZE, 8, 32, 1, 1)
    return CLIP(CLIPConfig(16, image, TextConfig(len(tokeniser), 32, 32, 1, 1, 3), **options))


# ------------------------------------------------------------------------------------------------------------- data

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


def test_pairs_are_remembered(data):
    assert scene_pairs(24, size=SIZE) is data


def test_rows_keep_images_and_captions_together(data):
    part = data.rows([7, 3])
    assert part.captions == (data.captions[7], data.captions[3]) and torch.equal(part.images[1], data.images[3])
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
    assert {kinds.classes[i] for i in kinds.labels} <= {"animal", "vehicle", "toy"}         # a cake's kind has no word


def test_classes_are_told_as_captions_tell_them():
    assert "person in red" in class_names("pair") and "red car" in class_names("pair")
    assert class_names("kind") == ("animal", "plant", "vehicle", "building", "toy", "piece of furniture")


# ---------------------------------------------------------------------------------------------------------- batches

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
    for number in range(batches.per_epoch):
        batch = batches(number)
        seen += batch.which.tolist()
        for row, which in zip(batch.tokens, batch.which.tolist()):
            assert tokeniser.decode(row) in [tokeniser.decode(tokeniser.encode(t)) for t in data.captions[which]]
        torch.testing.assert_close(batch.images, pixels(data.images[batch.which]))
        assert (batch.tokens[:, -1] != tokeniser.pad).any()                                 # no column of padding only
    assert sorted(seen) == list(range(24))                                                  # an epoch sees each once


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


# --------------------------------------------------------------------------------------------------------- training

def test_gains_biases_and_the_scale_do_not_decay(data):
    model = tiny(scene_tokeniser(data), resnet=False, logit_bias=-10.0)
    decay, rest = parameter_groups(model, 0.2)
    names = {id(p): name for name, p in model.named_parameters()}
    kept = {names[id(p)] for p in rest["params"]}
    assert {"logit_scale", "logit_bias", "text.norm_after.weight", "image.norm_before.bias"} <= kept
    assert decay["weight_decay"] == 0.2 and rest["weight_decay"] == 0.0
    assert "image.patches.project.weight" in {names[id(p)] for p in decay["params"]}
    assert len(decay["params"]) + len(rest["params"]) == len(names)


def test_a_loss_gets_what_it_asks_for(data):
    tokeniser = scene_tokeniser(data)
    batch = PairBatches(data, tokeniser, 6)(0)
    got = []

    def loss(*arguments):
        got.append(arguments)
        return arguments[2]

    contrastive_objective(loss)(tiny(tokeniser), batch)
    contrastive_objective(loss)(tiny(tokeniser, logit_bias=-10.0), batch)
    keys = torch.arange(100, 124)
    contrastive_objective(loss, keys)(tiny(tokeniser), batch)
    assert [len(a) for a in got] == [3, 4, 4]
    assert got[1][3].item() == -10.0 and torch.equal(got[2][3], keys[batch.which])


def test_a_handful_of_pairs_is_learnt_by_heart(data):
    one = replace(data.first(8), captions=tuple(texts[:1] for texts in data.first(8).captions))
    tokeniser = scene_tokeniser(one)
    model = tiny(tokeniser)
    history = train_clip(model, one, tokeniser, steps=60, batch=8, lr=2e-3, warmup=5, progress=False)
    assert history.loss[0] > 1.5 and history.loss[-1] < 0.3         # log 8 = 2.08 for a model that knows nothing
    found = retrieval(model, tokeniser, one)
    assert found["image to text R@1"] > 0.8 and found["text to image R@1"] > 0.8


def test_the_scale_is_recorded_and_capped(data):
    tokeniser = scene_tokeniser(data)
    model = tiny(tokeniser, temperature=0.0101)
    steps = []
    history = train_clip(model, data, tokeniser, steps=6, batch=8, lr=0.1, most=99.5, progress=False,
                         on_step=lambda step, _: steps.append(step))
    assert math.isclose(history.scalars["scale"][0], 1 / 0.0101, rel_tol=1e-4)
    assert model.logit_scale.exp() <= 99.6 and max(history.scalars["scale"][1:]) <= 99.6
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("resnet", [False, True], ids=["vit", "resnet"])
def test_training_goes_on_where_it_was_stopped(data, tmp_path, resnet):
    """With a ResNet, too, whose filters lie channels-last in memory: the optimiser's averages must lie so as well."""
    tokeniser = scene_tokeniser(data)

    def train(model, steps, folder):
        return train_clip(model, data, tokeniser, steps=steps, batch=8, schedule=constant(1e-3), folder=folder, progress=False)

    whole, parts = tiny(tokeniser, resnet=resnet), tiny(tokeniser, resnet=resnet)
    train(whole, 4, tmp_path / "whole")
    train(parts, 2, tmp_path / "parts")
    train(parts, 4, tmp_path / "parts")
    for a, b in zip(whole.state_dict().values(), parts.state_dict().values()):
        assert torch.equal(a, b)


# --------------------------------------------------------------------------------------------------------- judging

def test_embeddings_are_unit_vectors_and_leave_the_mode_alone(data):
    tokeniser = scene_tokeniser(data)
    model = tiny(tokeniser).train()
    u, v = embed_images(model, data.images, batch=7), embed_texts(model, tokeniser, ["a cat", "a dog"])
    torch.testing.assert_close(u.norm(dim=1), torch.ones(24))
    torch.testing.assert_close(v.norm(dim=1), torch.ones(2))
    assert model.training
    torch.testing.assert_close(u, embed_images(model.eval(), data.images))                  # parts change nothing
    assert context_of(model) == 32 and context_of(torch.nn.Linear(2, 2)) is None


def test_zero_shot_accuracy_is_what_the_closest_sentence_says(data):
    tokeniser = scene_tokeniser(data)
    model = tiny(tokeniser).eval()
    pictures = class_pictures(20, size=SIZE)
    right = 0
    with torch.no_grad():
        v = model.encode_text(tokeniser.batch([f"a picture of a {name}." for name in pictures.classes]))
        for image, label in zip(pictures.images, pictures.labels):
            u = model.encode_image(pixels(image[None]))[0]
            cosines = [float(u @ w / u.norm() / w.norm()) for w in v]
            right += cosines.index(max(cosines)) == int(label)
    got = zero_shot_accuracy(model, tokeniser, pictures, ("a picture of a {}.",))
    assert math.isclose(got, right / 20, abs_tol=1e-6)
    assert zero_shot_accuracy(model, tokeniser, pictures, k=30) == 1.0


def test_retrieval_counts_an_image_found_by_any_of_its_captions(data):
    tokeniser = scene_tokeniser(data)
    model = tiny(tokeniser).eval()
    part = data.first(10)
    found = retrieval(model, tokeniser, part, ks=(1, 3))
    u = embed_images(model, part.images)
    flat = [(i, text) for i, texts in enumerate(part.captions) for text in texts]
    v = embed_texts(model, tokeniser, [text for _, text in flat])
    hits = sum(any(flat[j][0] == i for j in (v @ u[i]).topk(3).indices.tolist()) for i in range(10))
    assert math.isclose(found["image to text R@3"], hits / 10, abs_tol=1e-6)
    hits = sum(owner in (u @ w).topk(3).indices.tolist() for (owner, _), w in zip(flat, v))
    assert math.isclose(found["text to image R@3"], hits / len(flat), abs_tol=1e-6)


# ----------------------------------------------------------------------------------------------------- on the disk

@pytest.mark.parametrize("resnet", [True, False])
def test_a_miniature_comes_back_from_the_disk(data, tmp_path, resnet):
    tokeniser = scene_tokeniser(data)
    model = tiny(tokeniser, resnet).eval()
    path = tmp_path / "m.safetensors"
    save_mini(path, model, tokeniser, {"test": {"zero-shot": 0.5}})
    back = load_mini(path)
    assert back.model.config == model.config and not back.model.training
    assert back.tokeniser.words == tokeniser.words and back.about["test"] == {"zero-shot": 0.5}
    torch.testing.assert_close(embed_images(back.model, data.images), embed_images(model, data.images), atol=5e-3, rtol=0)


def test_files_that_are_no_miniature_are_refused_by_name(data, tmp_path):
    with pytest.raises(FileNotFoundError, match="clip-mini"):
        load_mini(tmp_path / "none.safetensors")
    tokeniser = scene_tokeniser(data)
    path = tmp_path / "m.safetensors"
    save_mini(path, tiny(tokeniser), tokeniser, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="m.safetensors does not hold the weights"):
        load_mini(path)
    told = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({k: v for k, v in told.items() if k != "config"}))
    with pytest.raises(ValueError, match="does not describe a miniature"):
        load_mini(path)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_miniature_of_the_book_knows_its_world(kind):
    mini = load_mini(kind)
    pictures = class_pictures(120)
    got = zero_shot_accuracy(mini.model, mini.tokeniser, pictures)
    assert abs(got - mini.about["test"]["zero-shot"]) < 0.12        # 120 of the 1000 pictures it was judged on
    assert got > 0.25                                               # chance is 0.03
    red = mini.model.encode_text(mini.tokeniser.batch(["a red car.", "a car that is red.", "a blue bed."]), True)
    assert red[0] @ red[1] > red[0] @ red[2]
    assert mini.model.logit_scale.exp() > 14 and clip_loss(red, red, 10.0) > 0
