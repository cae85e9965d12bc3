"""Vectors of text and of pictures, kept and opened again."""

import json

import pytest
import torch
import torch.nn.functional as F

from mmlearn.checkpoints import pair_of
from mmlearn.data import word_world
from mmlearn.files import read_json, write_atomically
from mmlearn.images_for_language.sequential_fusion import score_weight
from mmlearn.images_for_language.word_space import load_word_space, make_word_space, save_word_space


def colours(images):
    """A network whose features are the mean red, green and blue."""
    return images.mean(dim=(2, 3))


def made(tmp_path):
    pictures = {word: word_world.word_pictures(word, 2) for word in ("raven", "dove", "lemon")}
    space, words = make_word_space(word_world.sentences(400), pictures, colours, dim=8)
    save_word_space(tmp_path, space, words, {})
    return space, words, load_word_space(tmp_path)


def test_what_is_kept_opens_again_with_words_that_have_pictures_first(tmp_path):
    space, words, kept = made(tmp_path)
    assert kept.words == words and words[:3] == ("raven", "dove", "lemon") and len(set(words)) == len(words)
    torch.testing.assert_close(kept.blocks.text, F.normalize(space.text.half().float()))
    torch.testing.assert_close(kept.blocks.image[:3], F.normalize(space.image.half().float()))
    assert kept.blocks.image[3:].eq(0).all()


def test_the_weight_counts_squared_for_pictured_words_and_not_at_all_for_others(tmp_path):
    _, words, kept = made(tmp_path)
    pairs = torch.tensor([0]), torch.tensor([1])
    text, image = (kept.with_share(share).cosines(*pairs) for share in (1.0, 0.0))
    beta = score_weight(0.75)
    torch.testing.assert_close(kept.with_share(0.75).cosines(*pairs), beta * text + (1 - beta) * image)
    others = torch.tensor([3]), torch.tensor([4])
    torch.testing.assert_close(kept.with_share(0.25).cosines(*others), kept.with_share(1.0).cosines(*others))


def test_a_list_of_words_that_does_not_fit_is_refused(tmp_path):
    made(tmp_path)
    _, description = pair_of(tmp_path)
    about = read_json(description)
    write_atomically(description, json.dumps({**about, "words": about["words"][:-1]}))
    with pytest.raises(ValueError, match="not as many words"):
        load_word_space(tmp_path)


def test_the_books_space_has_every_word_of_the_world():
    kept = load_word_space()
    assert set(kept.words) == set(word_world.words())
    assert kept.words[: len(word_world.PICTURED)] == word_world.PICTURED
    by_text, with_pictures = (kept.with_share(share).word_vectors() for share in (1.0, 0.5))
    assert by_text.neighbours("raven", 1)[0][0] == "dove"
    assert with_pictures.neighbours("raven", 1)[0][0] == "magpie"
