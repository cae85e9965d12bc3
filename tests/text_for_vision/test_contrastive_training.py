"""The scene world as a contrastive task: pairs, class pictures, batches, training, judging, the miniature on
disk."""

import json
import math
from dataclasses import replace

import pytest
import torch

from mmlearn.data.pairs import (
    PairBatches,
    class_pictures,
    pixels,
    scene_pairs,
    scene_tokeniser,
)
from mmlearn.nn.modified_resnet import ResNetConfig
from mmlearn.nn.vit import ViTConfig
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig, TextConfig
from mmlearn.text_for_vision.contrastive import clip_loss
from mmlearn.text_for_vision.training import (
    context_of,
    contrastive_objective,
    embed_images,
    embed_texts,
    load_mini,
    retrieval,
    save_mini,
    train_clip,
    zero_shot_accuracy,
)
from mmlearn.train import constant, parameter_groups

SIZE = 32


@pytest.fixture(scope="module")
def data():
    return scene_pairs(24, size=SIZE)


def tiny(tokeniser, resnet=True, **options):
    torch.manual_seed(0)
    image = ResNetConfig(SIZE, (1, 1, 1, 1), 8, 4) if resnet else ViTConfig(SIZE, 8, 32, 1, 1)
    return CLIP(CLIPConfig(16, image, TextConfig(len(tokeniser), 32, 32, 1, 1, 3), **options))


# --------------------------------------------------------------------------------------------------- training

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
    assert history.loss[0] > 1.5 and history.loss[-1] < 0.3  # log 8 = 2.08 for a model that knows nothing
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
    """With a ResNet, too, whose filters lie channels-last in memory: the optimiser's averages must lie so as
    well."""
    tokeniser = scene_tokeniser(data)

    def train(model, steps, folder):
        return train_clip(model, data, tokeniser, steps=steps, batch=8, schedule=constant(1e-3),
                          folder=folder, progress=False)

    whole, parts = tiny(tokeniser, resnet=resnet), tiny(tokeniser, resnet=resnet)
    train(whole, 4, tmp_path / "whole")
    train(parts, 2, tmp_path / "parts")
    train(parts, 4, tmp_path / "parts")
    for a, b in zip(whole.state_dict().values(), parts.state_dict().values()):
        assert torch.equal(a, b)


# ---------------------------------------------------------------------------------------------------- judging

def test_embeddings_are_unit_vectors_and_leave_the_mode_alone(data):
    tokeniser = scene_tokeniser(data)
    model = tiny(tokeniser).train()
    u, v = embed_images(model, data.images, batch=7), embed_texts(model, tokeniser, ["a cat", "a dog"])
    torch.testing.assert_close(u.norm(dim=1), torch.ones(24))
    torch.testing.assert_close(v.norm(dim=1), torch.ones(2))
    assert model.training
    torch.testing.assert_close(u, embed_images(model.eval(), data.images))  # parts change nothing
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


# ------------------------------------------------------------------------------------------------ on the disk

@pytest.mark.parametrize("resnet", [True, False])
def test_a_miniature_comes_back_from_the_disk(data, tmp_path, resnet):
    tokeniser = scene_tokeniser(data)
    model = tiny(tokeniser, resnet).eval()
    path = tmp_path / "m.safetensors"
    save_mini(path, model, tokeniser, {"test": {"zero-shot": 0.5}})
    back = load_mini(path)
    assert back.model.config == model.config and not back.model.training
    assert back.tokeniser.words == tokeniser.words and back.about["test"] == {"zero-shot": 0.5}
    torch.testing.assert_close(embed_images(back.model, data.images), embed_images(model, data.images),
                               atol=5e-3, rtol=0)


def test_files_that_are_no_miniature_are_refused_by_name(data, tmp_path):
    with pytest.raises(FileNotFoundError, match="clip-mini"):
        load_mini(tmp_path / "none.safetensors")
    tokeniser = scene_tokeniser(data)
    path = tmp_path / "m.safetensors"
    save_mini(path, tiny(tokeniser), tokeniser, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="m.safetensors is not a whole safetensors file"):
        load_mini(path)
    told = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({k: v for k, v in told.items() if k != "config"}))
    with pytest.raises(ValueError, match="m.json does not describe a model of clip"):
        load_mini(path)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_miniature_of_the_book_knows_its_world(kind):
    mini = load_mini(kind)
    pictures = class_pictures(120)
    got = zero_shot_accuracy(mini.model, mini.tokeniser, pictures)
    assert abs(got - mini.about["test"]["zero-shot"]) < 0.12  # 120 of the 1000 pictures it was judged on
    assert got > 0.25                                               # chance is 0.03
    red = mini.model.encode_text(mini.tokeniser.batch(["a red car.", "a car that is red.", "a blue bed."]),
                                 True)
    assert red[0] @ red[1] > red[0] @ red[2]
    assert mini.model.logit_scale.exp() > 14 and clip_loss(red, red, 10.0) > 0
