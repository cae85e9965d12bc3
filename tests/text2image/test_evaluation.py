"""Pictures of a split's sentences, and what a classifier reads off them."""

from dataclasses import replace

import pytest
import torch

from mmlearn.data.pairs import class_pictures
from mmlearn.data.things import (
    ATTRIBUTES,
    attributes_of,
    captioned,
    halves,
    side_scenes,
    thing_pairs,
    two_things,
)
from mmlearn.nn.feature_networks import SceneClassifier, SceneClassifierConfig
from mmlearn.text2image.char_cnn_rnn import CharacterTokeniser, CharCNNRNNConfig
from mmlearn.text2image.evaluation import Reading, drawing_scores, read_drawings, read_two
from mmlearn.text2image.gan_cls import GANCLSConfig, StyleEncoder, style_objective
from mmlearn.text2image.pipeline import TextToImage, TextToImageConfig, encode
from mmlearn.text2image.training import train_style_encoder

IMAGE = replace(GANCLSConfig.mini(16, 12), noise=6, compressed=5, generator_width=8, discriminator_width=8)


def painter(seed=0, image=IMAGE):
    torch.manual_seed(seed)
    return TextToImage(TextToImageConfig(CharCNNRNNConfig.mini(12), image), CharacterTokeniser(96)).eval()


class Says(SceneClassifier):
    """A judge with prepared answers, picture by picture."""

    def __init__(self, answers):
        super().__init__(SceneClassifierConfig({name: len(v) for name, v in ATTRIBUTES.items()}, 8, (4, 4)))
        self.said, self.seen = answers, []

    def answers(self, images):
        start = sum(map(len, self.seen))
        self.seen.append(images)
        return {name: values[start:start + len(images)] for name, values in self.said.items()}


@pytest.fixture(scope="module")
def data():
    return thing_pairs(5, "compositional", size=16)


def test_each_picture_is_held_against_its_own_sentence(data):
    asked = {name: values.repeat_interleave(3) for name, values in attributes_of(data.scenes).items()}
    asked["colour"] = asked["colour"].clone()
    asked["colour"][4] = (asked["colour"][4] + 1) % len(ATTRIBUTES["colour"])        # sentence 1, sample 1
    reading = read_drawings(painter(), Says(asked), data, samples=3, batch=2)
    want = torch.ones(5, 3, dtype=torch.float64)
    assert torch.equal(reading.hits["category"], want) and torch.equal(reading.hits["setting"], want)
    want[1, 1] = 0
    assert torch.equal(reading.hits["colour"], want) and torch.equal(reading.hits["all"], want)
    assert torch.equal(reading.answers["colour"].flatten(), asked["colour"])
    assert reading.of([1])["all"] == pytest.approx(2 / 3) and reading.of([0, 2])["all"] == 1


def test_the_pictures_are_those_that_the_model_draws_of_the_plain_sentences(data):
    judge, model = Says({name: torch.zeros(10, dtype=torch.long) for name in ATTRIBUTES}), painter()
    read_drawings(model, judge, data, samples=2, seed=3, batch=10)
    texts = [captions[0] for captions in data.captions]
    torch.testing.assert_close(torch.cat(judge.seen), model.draw(texts, 2, seed=3))
    parts = Says(judge.said)
    read_drawings(model, parts, data, samples=2, seed=3, batch=2)
    torch.testing.assert_close(torch.cat(parts.seen), torch.cat(judge.seen))


class SaysOfSides(SceneClassifier):
    """A judge with prepared answers for left halves, and for right ones."""

    def __init__(self, left, right):
        super().__init__(SceneClassifierConfig({name: len(v) for name, v in ATTRIBUTES.items()}, 8, (4, 4)))
        self.said, self.seen = (left, right), []

    def answers(self, images):
        side, start = len(self.seen) % 2, sum(map(len, self.seen[len(self.seen) % 2::2]))
        self.seen.append(images)
        return {name: values[start:start + len(images)] for name, values in self.said[side].items()}


def test_of_two_things_each_half_is_held_against_the_thing_on_its_side():
    data, model = two_things(5, "compositional", size=16), painter()
    left, right = ({name: values.repeat_interleave(2) for name, values in attributes_of(side).items()}
                   for side in side_scenes(data.scenes))
    right["colour"] = right["colour"].clone()
    right["colour"][3] = (right["colour"][3] + 1) % len(ATTRIBUTES["colour"])       # sentence 1, sample 1
    judge = SaysOfSides(left, right)
    reading = read_two(model, judge, data, samples=2, seed=4, batch=2)
    want = torch.ones(5, 2, dtype=torch.float64)
    assert torch.equal(reading.hits["left"], want) and torch.equal(reading.hits["setting"], want)
    want[1, 1] = 0
    assert torch.equal(reading.hits["right"], want) and torch.equal(reading.hits["both"], want)
    swapped = read_two(model, SaysOfSides(right, left), data, samples=2, seed=4, batch=2)
    assert swapped.hits["both"].sum() == 0                          # both things, on the wrong sides
    assert torch.equal(reading.answers["right colour"].flatten(), right["colour"])
    drawn = model.draw([captions[0] for captions in data.captions], 2, seed=4)
    torch.testing.assert_close(torch.cat(judge.seen[:2]), halves(drawn[:4]))


def test_a_score_is_a_mean_over_pictures_and_its_interval_one_over_sentences():
    hits = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    scores = drawing_scores(Reading({}, {"colour": hits}), repeats=2000,
                            generator=torch.Generator().manual_seed(0))
    score = scores["colour"]
    assert (score.value, score.pictures, score.network) == (0.5, 8, "scene classifier")
    assert (score.low, score.high) == (0.0, 1.0)            # 8 pictures would say 0.125 and 0.875


def test_one_sentence_has_a_score_and_no_interval():
    score = drawing_scores(Reading({}, {"all": torch.tensor([[1.0, 0.0]], dtype=torch.float64)}))["all"]
    assert score.value == 0.5 and score.low is None


@pytest.mark.parametrize("change, words", [
    (lambda d: (replace(d, scenes=()), 1), "0 scenes"), (lambda d: (d, 0), "0 samples")])
def test_what_cannot_be_judged_is_refused(data, change, words):
    given, samples = change(data)
    with pytest.raises(ValueError, match=words):
        read_drawings(painter(), Says({}), given, samples)


def test_a_category_that_no_picture_of_training_shows_is_refused():
    unknown = captioned(class_pictures(1, "zero_shot", size=16), plain=True)
    with pytest.raises(ValueError, match=r"sentence 0 asks for a \w+, which is never drawn in training"):
        read_drawings(painter(), Says({}), unknown)


def test_a_style_encoder_learns_the_noise_and_leaves_the_painter_as_it_was(data):
    model = painter()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    style = StyleEncoder(IMAGE)
    history = train_style_encoder(style, model, data, steps=60, batch=5, lr=2e-3, progress=False)
    assert history.smooth(10)[-1] < 0.9 * history.loss[0]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():                                  # of other noise, too
        text = encode(model.encoder, model.tokens([captions[0] for captions in data.captions])).sentence
        z = torch.randn(5, 6, generator=torch.Generator().manual_seed(9))
        assert style_objective(style, model.generator, text, z) < z.square().sum(dim=1).mean()


def test_the_same_seed_trains_the_same_style_encoder(data):
    def trained():
        torch.manual_seed(1)
        style = StyleEncoder(IMAGE)
        train_style_encoder(style, painter(), data, steps=2, batch=3, seed=4, progress=False)
        return style.state_dict()

    first, second = trained(), trained()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_painter_without_words_teaches_no_style(data):
    model = painter()
    model.tokeniser = None
    with pytest.raises(ValueError, match="no tokeniser"):
        train_style_encoder(StyleEncoder(IMAGE), model, data, steps=1)
