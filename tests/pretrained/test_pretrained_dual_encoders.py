"""What belongs to a checkpoint: tokeniser and preparation of pictures are found in its folder."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmlearn.data.clip_tokeniser import CLIPTokeniser
from mmlearn.data.images import (
    ImageRecipe,
    preprocess,
)
from mmlearn.data.tokenisers import WordPieceTokeniser
from mmlearn.pretrained.dual_encoders import open_model, recipe_for, tokeniser_for


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parity
def test_recipes_of_hugging_face_folders_give_its_pixels(tmp_path):
    from transformers import CLIPImageProcessorPil, EfficientNetImageProcessorPil

    for processor, size in (
            (CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size=24, image_mean=[.1, .2, .3],
                                   image_std=[.5, .6, .7]), 24),
            (EfficientNetImageProcessorPil(size={"height": 30, "width": 30},
                                           crop_size={"height": 24, "width": 24}, do_center_crop=True,
                                           rescale_factor=1 / 127.5, rescale_offset=True, do_normalize=False,
                                           include_top=False), 24)):
        processor.save_pretrained(tmp_path)
        recipe = recipe_for(tmp_path, size)
        want = torch.as_tensor(np.asarray(processor(picture(50, 70))["pixel_values"][0])).float()
        torch.testing.assert_close(preprocess(picture(50, 70), recipe), want, atol=2e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="prepares pictures of 24 pixels, its model reads 32"):
        recipe_for(tmp_path, 32)


def test_recipes_of_open_clip_folders_are_read(tmp_path):
    cfg = {"preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 1.0], "interpolation": "bilinear",
                              "resize_mode": "squash"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(cfg))
    assert recipe_for(tmp_path, 32) == ImageRecipe(
        32, (32, 32), (0.5, 0.5, 0.5), (0.25, 0.5, 1.0), Image.Resampling.BILINEAR
    )
    assert recipe_for(None, 32) == recipe_for(tmp_path / "nothing", 32) == ImageRecipe(32)
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"preprocess_cfg": {"resize_mode": "longest"}})
    )
    with pytest.raises(ValueError, match="'longest'"):
        recipe_for(tmp_path, 32)
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        recipe_for(tmp_path, 32)


def test_the_tokeniser_is_found_from_the_folder(tmp_path):
    assert isinstance(tokeniser_for(tmp_path), CLIPTokeniser) and isinstance(
        tokeniser_for("openai/clip-vit-base-patch32"), CLIPTokeniser
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "align"}))
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "a"]))
    words = tokeniser_for(tmp_path)
    assert isinstance(words, WordPieceTokeniser) and words.encode("A dog") == [6, 5]
    from mmlearn.text_for_vision.clip import CLIP, CLIPConfig
    with torch.device("meta"):
        assert isinstance(tokeniser_for(CLIP(CLIPConfig.vit_b32())), CLIPTokeniser)
        with pytest.raises(ValueError, match="the model has 400 tokens"):
            tokeniser_for(CLIP(CLIPConfig.mini()))


def test_a_model_that_is_not_clip_must_say_how_its_pictures_are_prepared(tmp_path, monkeypatch):
    from mmlearn.text_for_vision.align import ALIGN, ALIGNConfig
    monkeypatch.setattr("mmlearn.pretrained.dual_encoders.load", lambda source: ALIGN(ALIGNConfig.mini()))
    with pytest.raises(FileNotFoundError, match="put its preprocessor_config.json into the folder"):
        open_model(tmp_path)


def test_a_tokeniser_longer_than_the_model_is_refused(tmp_path, monkeypatch):
    from mmlearn.text_for_vision.clip import CLIP, CLIPConfig
    monkeypatch.setattr("mmlearn.pretrained.dual_encoders.load", lambda source: CLIP(CLIPConfig.mini()))
    with pytest.raises(ValueError, match="has a tokeniser of 49408 tokens and a model of 400"):
        open_model(tmp_path)


@pytest.mark.parametrize("fields, message", [
    ({"size": {"shortest_edge": -1}}, "size is -1, expected pixels"),
    ({"size": {"height": 3}}, "width of size is None"),
    ({"image_std": [0, 1, 1]}, "image_std is .*three numbers above 0"),
    ({"image_mean": "grey"}, "image_mean is 'grey'"),
    ({"rescale_factor": 0}, "rescale_factor is 0"), ({"resample": 9}, "resample is 9")])
def test_a_recipe_that_cannot_be_is_refused_by_its_field(tmp_path, fields, message):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json: (the )?{message}"):
        recipe_for(tmp_path, 32)


def test_a_model_without_two_towers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mmlearn.pretrained.dual_encoders.load", lambda source: torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="is a Linear, not a dual encoder"):
        open_model(tmp_path)
