"""From a sentence to a picture: every generator with its encoder, and back from disk."""

import copy

import pytest
import torch

from mmlearn.data.tokenisers import PlainWordTokeniser
from mmlearn.text2image.attngan import AttnGAN, AttnGANConfig
from mmlearn.text2image.char_cnn_rnn import CharacterTokeniser, CharCNNRNN, CharCNNRNNConfig, characters
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
from mmlearn.text2image.dfgan import DFGAN, DFGANConfig
from mmlearn.text2image.dmgan import DMGAN, DMGANConfig
from mmlearn.text2image.gan_cls import GANCLS, GANCLSConfig
from mmlearn.text2image.pipeline import (
    NAMES,
    TextToImage,
    TextToImageConfig,
    encode,
    load_text_to_image,
    pictures_of_sheet,
    save_text_to_image,
    sheet,
)
from mmlearn.text2image.stackgan import StackGANv2, StackGANv2Config

WORDS = ["<unk>", "<pad>", "<bos>", "<eos>", "a", "red", "blue", "car", "in", "the", "snow"]
TEXTS = ["a red car in the snow", "a blue car"]


def build(system):
    torch.manual_seed(0)
    if system == "gan-cls":
        encoder = CharCNNRNN(CharCNNRNNConfig.mini(16))
        return TextToImage.of(encoder, GANCLS(GANCLSConfig.mini(16, 16)), CharacterTokeniser(96))
    encoder = DAMSM(DAMSMConfig.mini(len(WORDS))).text
    model = {"dfgan": lambda: DFGAN(DFGANConfig.mini(16, 4)),
             "stackgan": lambda: StackGANv2(StackGANv2Config(64, 8, 8, 8, 4, 1, 8, 2)),
             "attngan": lambda: AttnGAN(AttnGANConfig.mini(size=16, branches=2)),
             "dmgan": lambda: DMGAN(DMGANConfig.mini(size=16, branches=2))}[system]()
    return TextToImage.of(encoder, model, PlainWordTokeniser(WORDS))


@pytest.mark.parametrize("system", NAMES)
def test_a_seed_draws_the_same_pictures_and_another_seed_others(system):
    model = build(system)
    first = model.draw(TEXTS, samples=2, seed=3)
    assert first.shape == (4, 3, 16, 16) and first.abs().max() <= 1 and first.dtype == torch.float32
    assert torch.equal(first, model.draw(TEXTS, samples=2, seed=3))
    assert not torch.equal(first, model.draw(TEXTS, samples=2, seed=4))
    assert model.system == system and model.training


@pytest.mark.parametrize("system", NAMES)
def test_a_model_comes_back_from_disk_and_draws_the_same(system, tmp_path):
    model = build(system).eval()
    for parameter in [*model.parameters(), *model.buffers()]:       # what 16 bits hold
        if parameter.is_floating_point():
            parameter.data = parameter.data.half().float()
    save_text_to_image(tmp_path / "x.safetensors", model, {"settings": {"steps": 1}})
    again = load_text_to_image(tmp_path / "x.safetensors")
    assert again.config == model.config and again.system == system and not again.training
    assert torch.equal(again.draw(TEXTS, seed=1), model.draw(TEXTS, seed=1))


@pytest.mark.parametrize("system", NAMES)
def test_the_configuration_of_each_system_builds_its_own_generator(system):
    model = build(system)
    fresh = TextToImage(model.config)
    assert fresh.state_dict().keys() == model.state_dict().keys()
    with pytest.raises(ValueError, match="no tokeniser"):
        fresh.draw(TEXTS)


def test_statistics_of_averaged_weights_are_those_of_what_they_draw():
    """With fresh statistics the pictures are nearly those that batch norm makes of a batch's own."""
    model, gan = build("gan-cls"), GANCLS(GANCLSConfig.mini(16, 16))
    gan.generator = model.generator
    averaged = copy.deepcopy(gan)
    for norm in (m for m in averaged.generator.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean += 3.0                                    # as those of other weights would be
    fresh = TextToImage.of(model.encoder, averaged, model.tokeniser, TEXTS)
    z, text = model.noise(64, 7), encode(model.encoder, model.tokens(TEXTS * 32))
    with torch.no_grad():
        own = copy.deepcopy(gan).train().generator(z, text.sentence)
        far, near = (float((m.eval().generator(z, text.sentence) - own).abs().mean())
                     for m in (averaged, fresh))
    assert near < far / 5
    norms = [m for m in fresh.generator.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(m.momentum == 0.1 and m.num_batches_tracked == 20 for m in norms)
    assert float(averaged.generator.layers[1].running_mean.mean()) > 2      # the model given stays as it is


def test_noise_that_is_given_decides_the_picture():
    model = build("dfgan")
    noise = model.noise(1, seed=5).expand(2, -1)
    same = model.draw([TEXTS[0]] * 2, noise=noise)
    torch.testing.assert_close(same[0], same[1])
    assert model.noise(1000).abs().max() <= 2 * 0.88 < build("attngan").noise(1000).abs().max()


def test_pictures_between_two_sentences_begin_and_end_at_theirs():
    model = build("gan-cls").eval()
    text = encode(model.encoder, model.tokens(TEXTS))
    z = model.noise(1)
    ends = model.images(text, z.expand(2, -1))
    half = model.images(text._replace(sentence=text.sentence.mean(0, keepdim=True)), z)
    assert not torch.equal(ends[0], half[0]) and not torch.equal(ends[1], half[0])
    torch.testing.assert_close(model.images(text._replace(sentence=text.sentence[:1]), z)[0], ends[0])


def test_short_texts_of_characters_are_filled_up_to_the_encoders_length():
    encoder = CharCNNRNN(CharCNNRNNConfig.mini(16)).eval()
    whole = characters(TEXTS, 96)
    cut = whole[:, :30]
    torch.testing.assert_close(encode(encoder, cut).sentence, encoder(whole))
    letters = CharacterTokeniser(96)
    assert torch.equal(letters.batch(TEXTS, 5), whole)
    assert letters.decode(letters.encode("a red car")) == "a red car"
    assert len(letters) == 71


def test_pictures_come_back_from_their_sheet():
    x = torch.randint(0, 256, (6, 3, 5, 5), generator=torch.Generator().manual_seed(0)) / 127.5 - 1
    image = sheet(x, 3)
    assert image.size == (15, 10)
    torch.testing.assert_close(pictures_of_sheet(image, 3), x)
    with pytest.raises(ValueError, match="15 x 10 pixels is no sheet .* 4 columns; say how many"):
        pictures_of_sheet(image, 4)


def test_files_of_something_else_get_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="stackgan, attngan, dmgan, dfgan or the --out folder"):
        load_text_to_image(tmp_path / "none")
    config = build("dfgan").config
    assert isinstance(config, TextToImageConfig)
