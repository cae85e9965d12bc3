"""Imagined pictures are kept, and found again."""

import json

import pytest
import torch
from PIL import Image

from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.images_for_language.cutouts import CutoutConfig
from mmlearn.images_for_language.imagination import embedded, imagined_pictures, place_of, seen
from mmlearn.images_for_language.vqgan_clip import VQGANCLIP, VQGANCLIPConfig
from mmlearn.nn.modes import seeded
from mmlearn.nn.vit import ViTConfig
from mmlearn.text2image.vqvae import VQVAEConfig
from mmlearn.text_for_vision.clip import CLIPConfig, TextConfig

TEXTS = ["a red cat", "a blue dog", "a red cat", "a cat"]
WORDS = WordTokeniser.train(TEXTS, 1)


@pytest.fixture(scope="module")
def model():
    with seeded(0):
        clip = CLIPConfig(6, ViTConfig(8, 4, 16, 1, 2), TextConfig(len(WORDS), 6, 16, 1, 2, 3))
        return VQGANCLIP(VQGANCLIPConfig(VQVAEConfig(16, 8, 4, 1, 10, 4), clip,
                                         CutoutConfig(2), 16, 3)).eval()


def test_equal_sentences_share_a_picture_whatever_the_batch(model):
    one, many = (imagined_pictures(model, WORDS, TEXTS, batch=n) for n in (1, 3))
    assert one.shape == (4, 3, 16, 16) and one.dtype == torch.uint8 and torch.equal(one[0], one[2])
    assert (one.int() - many.int()).abs().max() <= 1


def test_pictures_are_kept_as_soon_as_they_are_there_and_read_the_next_time(model, tmp_path, monkeypatch):
    folder, calls = tmp_path / "kept", []
    imagine = model.imagine

    def counted(goals, **options):
        calls.append(len(goals))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return imagine(goals, **options)

    monkeypatch.setattr(model, "imagine", counted)
    with pytest.raises(KeyboardInterrupt):
        imagined_pictures(model, WORDS, TEXTS, folder, batch=2)
    first = imagined_pictures(model, WORDS, TEXTS, folder, batch=2)
    assert calls == [2, 1, 1]                               # the two of the first batch were not drawn again
    assert torch.equal(imagined_pictures(model, WORDS, TEXTS, folder), first) and len(calls) == 3
    monkeypatch.undo()
    assert (imagined_pictures(model, WORDS, TEXTS).int() - first.int()).abs().max() <= 1
    assert len(list(folder.glob("*.png"))) == 3


def test_a_folder_of_another_seed_or_with_a_wrong_picture_is_refused(model, tmp_path):
    imagined_pictures(model, WORDS, TEXTS[:1], tmp_path)
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == 0
    with pytest.raises(ValueError, match="imagined with another seed; give another folder"):
        imagined_pictures(model, WORDS, TEXTS, tmp_path, seed=1)
    Image.new("RGB", (4, 5)).save(place_of(tmp_path, TEXTS[0]))
    with pytest.raises(ValueError, match="has 5 x 4 pixels, expected 16 x 16; delete it"):
        imagined_pictures(model, WORDS, TEXTS, tmp_path)
    with pytest.raises(ValueError, match="there is no sentence to imagine"):
        imagined_pictures(model, WORDS, [])


def test_features_are_clips_and_not_normalised(model):
    texts = embedded(model.clip, WORDS, TEXTS, batch=3)
    images = seen(model.clip, torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8), batch=2)
    with torch.no_grad():
        torch.testing.assert_close(texts, model.clip.encode_text(WORDS.batch(TEXTS, 6)))
    assert images.shape == (3, 6) and not torch.allclose(images.norm(dim=1), torch.ones(3))
    assert not images.requires_grad and not texts.requires_grad
    large = torch.full((1, 3, 24, 24), 128, dtype=torch.uint8)
    small = seen(model.clip, large[:, :, :8, :8])
    torch.testing.assert_close(seen(model.clip, large), small, atol=1e-4, rtol=0)
