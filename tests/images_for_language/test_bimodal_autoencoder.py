"""The stacked bimodal autoencoder: tied layers, masking, the size of the paper, and what it learns."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import count_blank, numbers, stirred

from mmlearn.images_for_language.bimodal_autoencoder import (
    BimodalAutoencoder,
    BimodalAutoencoderConfig,
    WordPictures,
    decode_logits,
    denoised_target,
    encode,
    entropic_error,
    masked,
    mean_of_others,
    squared_weights,
    stacked_loss,
    train_bimodal,
)
from mmlearn.nn.modes import seeded

MINI = BimodalAutoencoderConfig.mini()


def data(words=12, pictures=3, seed=0):
    """Attributes of words, and noisy views of them."""
    g = torch.Generator().manual_seed(seed)
    text = torch.rand(words, MINI.text, generator=g).round() * 2 - 1
    image = torch.rand(words, MINI.image, generator=g).round() * 1.6 - 0.8
    word = torch.arange(words).repeat_interleave(pictures)
    noisy = (image[word] + 0.2 * torch.randn(len(word), MINI.image, generator=g)).clamp(-1, 1)
    return WordPictures(text[word], noisy, word)


@pytest.mark.equation("eq:autoencoder-code")
@pytest.mark.equation("eq:autoencoder-decode")
def test_a_tied_layer_codes_with_a_matrix_and_decodes_with_its_transpose():
    x, W, b, back = numbers(2, 5), numbers(3, 5, seed=1), numbers(3, seed=2), numbers(5, seed=3)
    y, a = encode(x, W, b), decode_logits(numbers(2, 3), W, back)
    for row in range(2):
        for h in range(3):
            want = math.tanh(sum(float(W[h, n] * x[row, n]) for n in range(5)) + float(b[h]))
            assert float(y[row, h]) == pytest.approx(want)
        for n in range(5):
            inner = sum(float(W[h, n] * numbers(2, 3)[row, h]) for h in range(3)) + float(back[n])
            assert float(a[row, n]) == pytest.approx(2 * inner)
            assert 2 / (1 + math.exp(-float(a[row, n]))) - 1 == pytest.approx(math.tanh(inner))


@pytest.mark.equation("eq:autoencoder-noise")
@pytest.mark.equation("eq:autoencoder-target")
def test_masked_numbers_are_nothing_and_a_target_is_the_picture_and_the_mean_of_the_others():
    x = numbers(4, 3) / 4
    keep = torch.tensor([[True, False, True]] * 4)
    assert torch.equal(masked(x, keep), x * torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    word = torch.tensor([7, 2, 7, 7])
    others = mean_of_others(x, word)
    torch.testing.assert_close(others[0], (x[2] + x[3]) / 2)
    torch.testing.assert_close(others[3], (x[0] + x[2]) / 2)
    assert torch.equal(others[1], x[1])                         # a word with one picture
    got = denoised_target(x, others)
    for i in range(4):
        for j in range(3):
            assert float(got[i, j]) == max(-1.0, min(1.0, float(x[i, j] + others[i, j])))


@pytest.mark.equation("eq:autoencoder-error")
def test_the_entropic_error_reads_numbers_as_probabilities():
    x, logits = torch.tanh(numbers(2, 4)), numbers(2, 4, seed=1)
    total = 0.0
    for i in range(2):
        for j in range(4):
            p, q = (float(x[i, j]) + 1) / 2, (math.tanh(float(logits[i, j]) / 2) + 1) / 2
            total -= p * math.log(q) + (1 - p) * math.log(1 - q)
    assert float(entropic_error(logits, x)) == pytest.approx(total / 8)
    best = 2 * torch.atanh(x)                                   # the least is the entropy of x, at x itself
    assert float(entropic_error(best, x)) <= float(entropic_error(logits, x))
    assert torch.autograd.gradcheck(lambda a: entropic_error(a, x), logits.requires_grad_())


@pytest.mark.equation("eq:autoencoder-loss")
@pytest.mark.equation("eq:autoencoder-squares")
def test_the_loss_weighs_reconstruction_labels_and_squared_weights():
    config = replace(MINI, reconstruction=0.8, classification=1, decay=0.1)
    parts = [torch.tensor(value) for value in (0.7, 2.0, 30.0)]
    assert float(stacked_loss(*parts, config)) == pytest.approx(0.8 * 0.7 + 2.0 + 0.1 * 30)
    tied, labels = [numbers(2, 3), numbers(4, 2, seed=1)], numbers(3, 4, seed=2)
    want = 2 * sum(float(v) ** 2 for W in tied for v in W.flatten())
    want += sum(float(v) ** 2 for v in labels.flatten())
    assert float(squared_weights(tied, labels)) == pytest.approx(want)
    with seeded(0):
        model = BimodalAutoencoder(replace(MINI, decay=1.0, reconstruction=0, classification=0))
    batch = data()
    got = model.loss(batch.text, batch.image, batch.image, batch.word)
    weights = {name: p for name, p in model.named_parameters() if name.endswith("weight")}
    assert len(weights) == 6
    want = sum(float(p.square().sum()) * (1 if "labels" in name else 2) for name, p in weights.items())
    assert float(got.detach()) == pytest.approx(want, rel=1e-5)


def test_the_unfolded_stack_is_each_layer_after_the_other():
    with seeded(0):
        model = stirred(BimodalAutoencoder(MINI)).double()
    batch = data()
    text, image = batch.text[:4].double(), batch.image[:4].double()
    out = model.unfolded(text, image)
    t = torch.tanh(F.linear(text, model.text[0].weight, model.text[0].bias))
    t = F.normalize(torch.tanh(F.linear(t, model.text[1].weight, model.text[1].bias)), dim=1)
    v = torch.tanh(F.linear(image, model.image[0].weight, model.image[0].bias))
    v = F.normalize(torch.tanh(F.linear(v, model.image[1].weight, model.image[1].bias)), dim=1)
    code = torch.tanh(F.linear(torch.cat([t, v], dim=1), model.both.weight, model.both.bias))
    torch.testing.assert_close(out.code, code)
    torch.testing.assert_close(model(text, image), code)
    back = torch.tanh(code @ model.both.weight + model.both.back_bias)
    sides = ((model.text, back[:, :12], out.text), (model.image, back[:, 12:], out.image))
    for layers, part, logits in sides:
        part = torch.tanh(part @ layers[1].weight + layers[1].back_bias)
        want = torch.tanh(part @ layers[0].weight + layers[0].back_bias)
        torch.testing.assert_close(torch.tanh(logits / 2), want)
    torch.testing.assert_close(out.labels, F.linear(code, model.labels.weight, model.labels.bias))
    torch.testing.assert_close(model(text[:1], image[:1]), code[:1])
    none = torch.zeros(4, 12, dtype=torch.bool)
    first, other = (model.unfolded(x, image, none).code for x in (text, -text))
    torch.testing.assert_close(first, other)


def test_the_paper_has_two_and_two_and_one_tied_layers():
    c = BimodalAutoencoderConfig.paper()
    assert (c.text, c.text_codes, c.image, c.image_codes, c.width, c.noise, c.text_noise) == (
        2362, (700, 500), 414, (170, 100), 500, 0.2, 0.1)
    layers = ((2362, 700), (700, 500), (414, 170), (170, 100), (600, 500))
    want = sum(n * h + n + h for n, h in layers) + 541 * 500 + 541
    assert count_blank(BimodalAutoencoder, c) == want == 2_668_037


def test_every_parameter_learns_and_the_words_are_told_apart():
    with seeded(0):
        model = BimodalAutoencoder(MINI)
    batch = data()
    model.loss(batch.text, batch.image, batch.image, batch.word).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    losses = train_bimodal(model, batch, torch.Generator().manual_seed(0), 20, 80, 36, 3e-2)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    with torch.no_grad():
        out = model.unfolded(batch.text, batch.image)
    assert float((out.labels.argmax(dim=1) == batch.word).double().mean()) > 0.9
    assert float((torch.sign(out.text) == batch.text).double().mean()) > 0.85


def test_a_text_that_is_hidden_is_guessed_from_its_picture():
    """The masking teaches it: with the text's code away, the text is reconstructed better than by chance."""
    with seeded(0):
        model = BimodalAutoencoder(replace(MINI, noise=0.5))
    batch = data()
    train_bimodal(model, batch, torch.Generator().manual_seed(0), 20, 80, 36, 3e-2)
    with torch.no_grad():
        none = torch.zeros(len(batch.word), 12, dtype=torch.bool)
        guess = torch.sign(model.unfolded(batch.text, batch.image, none).text)
    usual = torch.sign(batch.text.mean(dim=0)).expand_as(batch.text)
    right, chance = (float((x == batch.text).double().mean()) for x in (guess, usual))
    assert right > chance


def test_training_depends_on_its_seed_alone():
    runs = []
    for seed in (0, 0, 1):
        with seeded(5):
            model = BimodalAutoencoder(MINI)
        runs.append(train_bimodal(model, data(), torch.Generator().manual_seed(seed), 3, 3))
    assert runs[0] == runs[1] != runs[2]


def test_vectors_of_another_width_are_refused():
    model = BimodalAutoencoder(MINI)
    with pytest.raises(ValueError, match="image vectors have 15 numbers, the model wants 16"):
        model(torch.zeros(2, 24), torch.zeros(2, 15))
    with pytest.raises(ValueError, match="noise of BimodalAutoencoderConfig is 2"):
        BimodalAutoencoderConfig(noise=2)
