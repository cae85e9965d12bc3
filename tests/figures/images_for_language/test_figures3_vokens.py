"""The figures of Vokenization: diagrams say all in words, the curve is the formula, the vokens shown are
those that the vokenizer finds."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figure_parts import SVG, check_texts, drawing, frames, svg_of, texts

from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.diagram import Diagram, data_uri
from mmlearn.figures.images_for_language import vokens
from mmlearn.figures.interactive import LIMIT, hover
from mmlearn.images_for_language.token_image_matching import MatcherConfig, TokenImageMatcher
from mmlearn.images_for_language.voken_lm import VokenLMConfig
from mmlearn.images_for_language.vokenizer import Vokenizer, image_keys
from mmlearn.nn.modes import seeded

SENTENCES = ["a red car", "a blue bird and a red car"]
WORDS = WordTokeniser.train(SENTENCES * 5, splitter="simple")


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (5, 3, 16, 16), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def vokenizer(images):
    with seeded(0):
        model = TokenImageMatcher(MatcherConfig.mini(len(WORDS), WORDS.pad, 12))
    return Vokenizer(model, image_keys(model, images), WORDS.bos, WORDS.eos, 10)


@pytest.mark.parametrize("draw", [
    vokens.matcher, vokens.voken_lm, lambda: vokens.matcher(MatcherConfig.mini()),
    lambda: vokens.voken_lm(VokenLMConfig.mini())])
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert len(drawn.alt) > 200 and drawn.width <= 480
    check_texts(drawn)


def test_sizes_in_the_diagrams_are_those_of_the_paper():
    said = " ".join(texts(vokens.matcher()))
    assert "3,072 → 256 → 64" in said and "2,048 → 256 → 64" in said and "0.5" in said
    assert "768 → 768 → 50,000" in " ".join(texts(vokens.voken_lm()))


def test_the_curve_of_the_undecided_token_is_flat_at_the_margin():
    axis = vokens.undecided(0.5).axes[0]
    first, second, mean = (np.asarray(line.get_ydata()) for line in axis.lines)
    delta = np.asarray(axis.lines[0].get_xdata())
    np.testing.assert_allclose(mean, (first + second) / 2, atol=1e-6)
    np.testing.assert_allclose(mean[np.abs(delta) <= 0.5], 0.5, atol=1e-6)
    assert mean[0] == pytest.approx(0.75) and mean[-1] == pytest.approx(0.75)
    plt.close(axis.figure)


def test_under_each_word_stands_the_most_relevant_picture(vokenizer, images):
    block = vokens.vokens_of(vokenizer, WORDS, SENTENCES, images)
    assert len(block.html.encode()) < LIMIT and block.alt
    for sentence, frame in zip(SENTENCES, frames(block)):
        found = vokenizer.vokenise([WORDS.encode(sentence)])[0]
        if "mm-svg" not in frame:                           # the still one stands in another form
            shown = drawing(frame)
            pictures = [image.get("href") for image in svg_of(shown).iter(f"{SVG}image")]
            assert pictures == [data_uri(images[i], lossless=False) for i in found]
            assert sentence.split() == texts(shown)[::2]


def test_a_voken_has_its_word_above_it(vokenizer, images, monkeypatch):
    seen: list[Diagram] = []

    def kept(words, panels, alt):
        seen.extend(panels)
        return hover(words, panels, alt)

    monkeypatch.setattr(vokens, "hover", kept)
    vokens.vokens_of(vokenizer, WORDS, SENTENCES, images)
    assert texts(seen[0])[::2] == ["a", "red", "car"] and len(texts(seen[0])) == 6


@pytest.mark.parametrize("count, sentences, message", [
    (4, SENTENCES, "4 pictures for 5 keys"), (5, [], "no sentence")])
def test_what_cannot_be_shown_is_refused(vokenizer, images, count, sentences, message):
    with pytest.raises(ValueError, match=message):
        vokens.vokens_of(vokenizer, WORDS, sentences, images[:count])
