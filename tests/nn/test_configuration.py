"""A configuration that no model can have is refused when it is made, by the name of its field."""

import pytest

from mmlearn.image2text.m2 import M2Config
from mmlearn.image2text.regions import DetectorConfig
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.configuration import FieldError, configured
from mmlearn.nn.efficientnet import EfficientNetConfig, Stage
from mmlearn.nn.modified_resnet import ResNetConfig
from mmlearn.nn.swin import SwinConfig
from mmlearn.nn.vit import ViTConfig
from mmlearn.text_for_vision.clip import CLIPConfig, TextConfig


@pytest.mark.parametrize(
    "kind, field, value, message",
    [
        (BERTConfig, "width", 10**30, "from 1 to 10,000,000"),
        (BERTConfig, "layers", -1, "from 0 to 1,000"),
        (BERTConfig, "width", "768", "'768', expected a whole number"),
        (BERTConfig, "eps", -1e-12, "from 0 to 1"),
        (BERTConfig, "eps", float("nan"), "from 0 to 1"),
        (BERTConfig, "layers", True, "True, expected a whole number"),
        (BERTConfig, "heads", 7, "7, which does not divide width 768"),
        (BERTConfig, "dropout", 1.5, "from 0 to 1"),
        (ViTConfig, "heads", 0, "from 1"),
        (ViTConfig, "size", 224.0, "224.0, expected a whole number"),
        (ResNetConfig, "blocks", (1, 2, 3), "a list of 4, each a whole number"),
        (SwinConfig, "depths", (2, 2, "6", 2), "a list"),
        (SwinConfig, "window", 10**6, "from 1 to 256"),
        (M2Config, "memory", -1, "from 0"),
        (TextConfig, "eps", 10**400, "inf, expected from 0 to 1"),
        (CLIPConfig, "activation", ["gelu"], "expected text"),
        (CLIPConfig, "logit_bias", "none", "a number or a whole number or nothing"),
        (DetectorConfig, "anchors", ((8,), (16,), (-32,)), "from 1"),
    ],
)
def test_a_field_that_cannot_be_is_named_with_what_it_may_be(kind, field, value, message):
    with pytest.raises(ValueError, match=rf"^f\.json: {field} is .*{message}"):
        configured(kind, {field: value}, "f.json")


def test_a_call_is_told_the_field_and_the_class():
    with pytest.raises(FieldError, match="^layers of BERTConfig is -1, expected from 0 to 1,000$"):
        BERTConfig(layers=-1)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="eot is 49407, the vocabulary goes from 0 to 99"):
        TextConfig(vocab=100)
    with pytest.raises(ValueError, match="stage 2 has kernel 0"):
        EfficientNetConfig(stages=(Stage(1, 3, 1, 16, 1), Stage(1, 0, 1, 16, 1)))
    with pytest.raises(ValueError, match="9 stages halve a picture too often"):
        SwinConfig(depths=(1,) * 9, heads=(1,) * 9)


def test_a_file_is_named_with_its_own_name_of_the_field():
    names = {"width": "hidden_size"}
    assert configured(BERTConfig, {"dropout": 0, "width": 24}, "f.json") == BERTConfig(dropout=0.0, width=24)
    assert configured(SwinConfig, {"depths": [1, 1], "heads": [3, 3]}, "f.json").depths == (1, 1)
    with pytest.raises(
        ValueError, match=r"^f\.json: hidden_size is None, expected a whole number; take the file"
    ):
        configured(BERTConfig, {"width": None}, "f.json", names)
    with pytest.raises(ValueError, match=r"^f\.json: pad is 7, the vocabulary"):
        configured(BERTConfig, {"vocab": 7, "pad": 7}, "f.json", names)
