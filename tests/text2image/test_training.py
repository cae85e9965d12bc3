"""The trainers of chapter 2: each game is the one of its paper, and learns."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmlearn.data.pairs import PairBatch, PairBatches, scene_tokeniser, signed_pixels
from mmlearn.data.things import attributes_of, kinds_of, thing_pairs
from mmlearn.data.tokenisers import PlainWordTokeniser
from mmlearn.nn.modes import seeded
from mmlearn.text2image import dfgan
from mmlearn.text2image.attngan import AttnGAN, AttnGANConfig
from mmlearn.text2image.blocks import pyramid
from mmlearn.text2image.char_cnn_rnn import CharacterTokeniser, CharCNNRNN, CharCNNRNNConfig
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
from mmlearn.text2image.dfgan import DFGAN, DFGANConfig
from mmlearn.text2image.evaluation import read_drawings
from mmlearn.text2image.gan_cls import GANCLS, GANCLSConfig, wrong_partners
from mmlearn.text2image.pipeline import TextToImage, load_text_to_image, save_text_to_image
from mmlearn.text2image.stackgan import StackGANv2, StackGANv2Config
from mmlearn.text2image.training import (
    DistinctPairs,
    attngan_game,
    attribute_watch,
    dfgan_game,
    gan_cls_game,
    stackgan_game,
    stretch_sentences,
    train_char_cnn_rnn,
    train_damsm,
    train_game,
    train_scene_classifier,
)


@pytest.fixture(scope="module")
def data():
    return thing_pairs(48, size=16)


@pytest.fixture(scope="module")
def words(data):
    known = scene_tokeniser(data)
    return PlainWordTokeniser(known.words, known.splitter)


def damsm(words):
    with seeded(0):
        return DAMSM(DAMSMConfig.mini(len(words), 16))


def batch_of(data, words):
    return PairBatches(data, words, 8, scale=signed_pixels)(0)


def test_the_classifier_of_scenes_learns_a_handful_of_pictures():
    few = thing_pairs(16, size=32)
    judge, history = train_scene_classifier(few, steps=60, batch=16, progress=False)
    answers = judge.eval().answers(signed_pixels(few.images))
    right = torch.stack([answers[name] == wanted for name, wanted in attributes_of(few.scenes).items()])
    assert right.float().mean() > 0.9 and history.loss[-1] < history.loss[0] / 3


def test_damsm_tells_a_handful_of_pairs_apart(words):
    few = thing_pairs(8, size=16)
    model = damsm(words)
    history = train_damsm(model, few, words, steps=60, batch=8, progress=False)
    assert history.loss[-1] < 0.3 * history.loss[0]
    assert history.scalars.keys() == {"words", "sentences"}


def test_stretched_sentences_vary_by_one_and_are_those_of_the_same_model(data, words):
    encoder = damsm(words).text.eval()
    texts = [captions[0] for captions in data.captions]
    tokens = words.batch(texts)
    states, short = encoder(tokens)
    factor = stretch_sentences(encoder, words, texts)
    again, long = encoder(tokens)
    assert torch.equal(again, states) and factor == encoder.config.stretch > 1
    torch.testing.assert_close(long, factor * short)
    assert float((long - long.mean(dim=0)).square().mean()) == pytest.approx(1, abs=0.02)
    assert stretch_sentences(encoder, words, texts) == factor            # not once more
    with pytest.raises(ValueError, match="all 3 sentences are the same"):
        stretch_sentences(encoder, words, texts[:1] * 3)


def test_a_painter_keeps_how_far_its_sentences_are_stretched(data, words, tmp_path):
    encoder, texts = damsm(words).text.eval(), [captions[0] for captions in data.captions]
    with seeded(1), torch.no_grad():
        model = DFGAN(DFGANConfig(16, 4, 8, encoder.config.embed)).eval()
        for p in (*model.parameters(), *encoder.parameters()):
            p.add_(0.1 * torch.randn_like(p))               # a fresh generator does not read
            p.copy_(p.half())                               # as it is written
    short = TextToImage.of(encoder, model, words).draw(texts[:2])
    stretch_sentences(encoder, words, texts)
    painter = TextToImage.of(encoder, model, words)
    drawn = painter.draw(texts[:2])
    assert not torch.allclose(drawn, short)
    save_text_to_image(tmp_path / "dfgan.safetensors", painter, {})
    loaded = load_text_to_image(tmp_path / "dfgan.safetensors")
    assert loaded.config.text.stretch == encoder.config.stretch
    torch.testing.assert_close(loaded.draw(texts[:2]), drawn)


def test_char_cnn_rnn_meets_the_features_of_a_handful_of_pictures():
    few = thing_pairs(8, size=16)
    projection = torch.randn(3 * 16 * 16, 16, generator=torch.Generator().manual_seed(0)) / 16
    with seeded(0):
        model = CharCNNRNN(CharCNNRNNConfig.mini(16))
    history = train_char_cnn_rnn(model, lambda x: x.flatten(1) @ projection, few, CharacterTokeniser(96),
                                 steps=150, batch=8, lr=3e-3, progress=False)
    assert history.smooth(10)[-1] < 0.7 * history.loss[0]


def test_distinct_pairs_never_hold_two_pictures_of_one_kind(data, words):
    kinds = torch.arange(len(data)) // 4
    batch = DistinctPairs(data, words, 24, kinds)(0)
    assert len(set(kinds[batch.which].tolist())) == len(batch.which) > 4


def test_the_game_of_gan_cls_asks_both_players_in_turn(data):
    letters = CharacterTokeniser(96)
    with seeded(0):
        encoder, model = CharCNNRNN(CharCNNRNNConfig.mini(16)), GANCLS(GANCLSConfig.mini(16, 16))
    moves = list(gan_cls_game(encoder, kinds_of(data.scenes))(model, batch_of(data, letters)))
    assert [player for player, *_ in moves] == ["discriminator", "generator"]
    assert not any(p.requires_grad for p in encoder.parameters())
    moves[0][1].backward()
    assert all(p.grad is None for p in model.generator.parameters())


def test_the_game_of_dfgan_is_hinge_and_penalty_on_the_same_pictures(data, words):
    encoder = damsm(words).text
    with seeded(0):
        model = DFGAN(DFGANConfig.mini(16, 4))
    batch = batch_of(data, words)
    torch.manual_seed(5)
    (first, loss, scalars), (second, other, _) = dfgan_game(encoder)(model, batch)
    torch.manual_seed(5)
    sentence = encoder(batch.tokens)[1]
    fakes = model.generator(model.noise(8), sentence)
    judged = dfgan.discriminator_loss(model.discriminator, batch.images, fakes, sentence)
    assert (first, second) == ("discriminator", "generator")
    torch.testing.assert_close(loss, judged.loss)
    torch.testing.assert_close(scalars["hinge"] + scalars["penalty"], loss.detach())
    torch.testing.assert_close(other, -model.discriminator(fakes, sentence).mean())


def test_the_game_of_attngan_shows_every_critic_its_size_and_damsm_the_largest(data, words):
    matcher = damsm(words)
    with seeded(0):
        model = AttnGAN(AttnGANConfig.mini(size=16, branches=2))
    batch = batch_of(data, words)
    (first, loss, _), (second, total, parts) = attngan_game(matcher, kinds_of(data.scenes))(model, batch)
    assert (first, second) == ("critics", "generator") and parts.keys() == {"branches", "kl", "damsm"}
    torch.testing.assert_close(total, parts["branches"] + parts["kl"] + parts["damsm"])
    assert loss > 0 and not matcher.training


def test_the_game_of_stackgan_shows_real_wrong_and_drawn_pictures_of_every_size(data, words):
    encoder = damsm(words).text
    with seeded(0):
        model = StackGANv2(StackGANv2Config(64, 8, 8, 8, 4, 1, 8, 2))
    batch = batch_of(data, words)
    torch.manual_seed(5)
    (first, loss, _), (second, total, _) = stackgan_game(encoder, kinds_of(data.scenes))(model, batch)
    assert (first, second) == ("critics", "generator") and loss > 0
    loss.backward()
    assert all(p.grad is None for p in model.generator.parameters())
    torch.manual_seed(5)
    wrong = batch.images[wrong_partners(kinds_of(data.scenes)[batch.which])]
    drawn = model(torch.randn(8, 8), encoder(batch.tokens)[1])
    sizes = [pyramid(images, (8, 16)) for images in (batch.images, wrong)]
    torch.testing.assert_close(loss, torch.stack(model.discriminator_losses(*sizes, drawn)).sum())


@pytest.mark.parametrize("system", ["gan-cls", "dfgan"])
def test_a_game_trains_averages_and_is_watched(system, data, words):
    letters = CharacterTokeniser(96)
    with seeded(0):
        if system == "gan-cls":
            encoder, model, texts = (CharCNNRNN(CharCNNRNNConfig.mini(16)), GANCLS(GANCLSConfig.mini(16, 16)),
                                     letters)
            game = gan_cls_game(encoder, kinds_of(data.scenes))
        else:
            encoder, model, texts = damsm(words).text, DFGAN(DFGANConfig.mini(16, 4)), words
            game = dfgan_game(encoder)
    judge, _ = train_scene_classifier(data, steps=1, progress=False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    history = train_game(model, game, data, texts, steps=2, batch=8, critic_lr=4e-4, progress=False,
                         evaluate=attribute_watch(encoder, texts, judge.eval(), data.first(12)))
    assert {"category", "colour", "setting", "all"} <= history.metrics.keys()
    assert history.ema is not None and {"discriminator", "generator"} <= history.scalars.keys()
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert {name.split(".")[0] for name in moved} == {"generator", "discriminator"}


def test_a_generator_in_training_is_counted_as_a_trained_one_is(data, words):
    with seeded(0):
        encoder, model = damsm(words).text, DFGAN(DFGANConfig.mini(16, 4))
    judge, few = train_scene_classifier(data, steps=1, progress=False)[0].eval(), data.first(12)
    drawing = TextToImage.of(encoder, model, words, [captions[0] for captions in few.captions])
    found = attribute_watch(encoder, words, judge, few, seed=3)(model)
    assert found == read_drawings(drawing, judge, few, seed=3).of(range(12))
    assert found.keys() == {"category", "colour", "setting", "all"}


def test_a_handful_of_pictures_is_drawn_from_their_sentences():
    few = thing_pairs(4, size=16)
    few = replace(few, captions=tuple(texts[:1] for texts in few.captions))
    known = scene_tokeniser(few)
    words = PlainWordTokeniser(known.words, known.splitter)
    matcher = damsm(words)
    train_damsm(matcher, few, words, steps=40, batch=4, progress=False)
    with seeded(0):
        model = GANCLS(replace(GANCLSConfig.mini(16, 64), interp_weight=0, noise=4))
    history = train_game(model, gan_cls_game(matcher.text, torch.arange(4)), few, words, steps=200, batch=4,
                         lr=2e-3, ema=0.9, progress=False)
    drawn = TextToImage.of(matcher.text, history.ema, words).draw([texts[0] for texts in few.captions])
    far = torch.cdist(drawn.flatten(1), signed_pixels(few.images).flatten(1))
    assert (far.argmin(dim=1) == torch.arange(4)).sum() >= 3


def test_pictures_of_pair_batches_are_scaled_as_asked(data, words):
    batch = batch_of(data, words)
    assert isinstance(batch, PairBatch) and batch.images.min() >= -1 and batch.images.max() <= 1
    torch.testing.assert_close(batch.images, signed_pixels(data.images[batch.which]))
    assert F.mse_loss(batch.images, PairBatches(data, words, 8)(0).images) > 0.01
