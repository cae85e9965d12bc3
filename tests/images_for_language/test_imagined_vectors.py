"""MAP-C: a map from text to pictures that speaks for words without pictures, beside ridge regression."""

import pytest
import torch
from networks import count_blank, numbers

from mmlearn.images_for_language.imagined_vectors import (
    ImaginedConfig,
    ImaginedVectors,
    imagined_error,
    imagined_vectors,
    train_imagined,
)
from mmlearn.nn.modes import seeded


@pytest.mark.equation("eq:imagined-error")
def test_the_error_is_the_mean_squared_distance_of_words():
    guess, image = numbers(4, 3), numbers(4, 3, seed=1)
    want = sum(float(((guess[w] - image[w]) ** 2).sum()) for w in range(4)) / 4
    assert float(imagined_error(guess, image)) == pytest.approx(want)


@pytest.mark.equation("eq:imagined-join")
def test_both_parts_stand_at_unit_length():
    text, guess = numbers(3, 4), numbers(3, 2, seed=1)
    got = imagined_vectors(text, guess, 0.7)
    for w in range(3):
        want = torch.cat([0.7 * text[w] / text[w].norm(), 0.3 * guess[w] / guess[w].norm()])
        torch.testing.assert_close(got[w], want)


def test_sizes_are_those_of_a_linear_map_and_of_one_hidden_layer():
    assert count_blank(ImaginedVectors, ImaginedConfig.glove_linear()) == 300 * 128 + 128
    assert count_blank(ImaginedVectors, ImaginedConfig.glove_network()) == 300 * 300 + 300 + 300 * 128 + 128


@pytest.mark.parametrize("hidden", [0, 16])
def test_a_map_learnt_on_some_words_speaks_for_the_others(hidden):
    with seeded(0):
        model = ImaginedVectors(ImaginedConfig(6, 4, hidden, 0.0))
    text = numbers(60, 6).float()
    image = text @ numbers(6, 4, seed=1).float()
    errors = train_imagined(model, text[:40], image[:40], torch.Generator().manual_seed(0), 100, 40, 3e-2)
    assert errors[-1] < 0.2 * errors[0]
    unseen = float(imagined_error(model(text[40:]), image[40:]).detach())
    mean = float(imagined_error(image[:40].mean(dim=0).expand(20, 4), image[40:]))
    assert unseen < 0.5 * mean
    assert model.vectors(text).shape == (60, 10) and not model.training
    torch.testing.assert_close(model.vectors(text)[:1], model.vectors(text[:1]))


def test_dropout_acts_in_training_alone_and_every_parameter_learns():
    with seeded(0):
        model, x = ImaginedVectors(ImaginedConfig(6, 4, 5, 0.5)), numbers(8, 6).float()
        assert not torch.equal(model.train()(x), model(x))
        model.eval()
    assert torch.equal(model(x), model(x))
    imagined_error(model(x), x[:, :4]).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    with pytest.raises(ValueError, match="text vectors have 5 numbers, the map wants 6"):
        model(x[:, :5])
