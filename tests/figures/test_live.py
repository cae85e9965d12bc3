"""What is stored of a live model: a prepared answer with alt text, small, with torch's own numbers."""

import base64
import io
import json
import re
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from mmlearn.checkpoints import read_tensors
from mmlearn.figures.live import (
    LABELS,
    MODELS,
    SCENES,
    bind,
    fill,
    live,
    pixels_of,
    scene_to_pick,
    thing_to_pick,
    weights_of,
)
from mmlearn.files import package_data
from mmlearn.generate import greedy
from mmlearn.image2text.saved import load_captioner
from mmlearn.text2image.token_drawing import load_token_drawer


@pytest.mark.parametrize("name", MODELS)
def test_a_place_has_an_answer_that_needs_no_script(name):
    page = live(name)._repr_html_()
    assert "<script" not in page and "<button" not in page and "http" not in page.split("</style>")[1]
    assert page.count("<img ") == 1
    assert re.search(r'<img src="data:image/webp;base64,[^"]+" alt="[^"]{9,}"', page)
    assert len(page.encode()) < 13_000 and repr(live(name)).startswith("moving figure: ")


def test_the_reader_begins_where_the_answer_was_prepared():
    page = live("clip-mini-resnet", scene=3, labels=["cat & dog", "tree"])._repr_html_()
    given = json.loads(unescape(re.search('data-given="([^"]+)"', page)[1]))
    assert given["scene"] == 3 and given["labels"] == ["cat & dog", "tree"]
    assert scene_to_pick(3)[1] in page and "cat &amp; dog</th>" in page


def test_probabilities_of_the_labels_are_a_table_largest_first():
    page = live("clip-mini-resnet")._repr_html_()
    odds = [float(number) for number in re.findall(r"<td>([\d.]+) %</td>", page)]
    assert len(odds) == len(LABELS) and odds == sorted(odds, reverse=True)
    assert sum(odds) == pytest.approx(100, abs=0.5)


@torch.no_grad()
def test_the_caption_is_the_captioners():
    saved = load_captioner("captioner-grid")
    tokens, _ = greedy(saved.model, saved.model.encode(pixels_of(scene_to_pick(1)[0])))
    assert f"“{saved.tokeniser.decode(tokens[0])}”" in live("captioner-grid", scene=1)._repr_html_()


def test_a_gap_gets_words_the_likeliest_first():
    text = "A large ___ is to the left of the sun."
    words = fill(0, text)
    assert next(iter(words)) == "boat" and list(words.values()) == sorted(words.values(), reverse=True)
    page = live("vilbert", question=text)._repr_html_()
    assert all(f">{word}</th>" in page for word in words)


def test_neighbours_of_a_word_stand_beside_those_with_pictures():
    page = live("word-space")._repr_html_()
    assert ">dove 0.91</td>" in page and ">magpie 0.84</td>" in page and "raven" in page


def test_a_word_that_was_bound_fits_another_picture_of_the_same_thing():
    for asked, word in ((1, "dax"), (3, "blicket")):
        odds = bind([(0, "dax"), (2, "blicket")], asked)
        assert odds[word] > 0.99 and sum(odds.values()) == pytest.approx(1)
    assert thing_to_pick(0)[1].startswith("A cat") and thing_to_pick(2)[1].endswith("snowy day.")


def test_weights_of_a_model_that_stands_on_others_are_theirs_in_one_file():
    tensors = load(weights_of("flamingo"))
    language = read_tensors(package_data("checkpoints", "scene-lm.safetensors"))
    assert torch.equal(tensors["language.norm.weight"], language["norm.weight"])
    assert "image.stem.0.0.weight" in tensors and "end" in tensors
    assert not any(name.startswith(("text.", "image.pool")) for name in tensors)
    drawer = load(weights_of("dalle"))
    vqgan = read_tensors(package_data("checkpoints", "vqgan.safetensors"))
    assert torch.equal(drawer["stage.codebook.weight"], vqgan["codebook.weight"])
    assert "dalle.start" in drawer and not any(name.startswith("stage.encoder") for name in drawer)
    assert weights_of("attngan") == package_data("checkpoints", "attngan.safetensors").read_bytes()


def test_a_drawn_picture_is_the_drawers():
    text = "a blue car in the snow"
    page = live("dalle", texts=[text, "a tree"], seed=2)._repr_html_()
    assert f"“{text}” (seed 2)" in page and f'alt="drawn by the model: {text}"' in page
    address = re.search(r"data:image/webp;base64,([^\"]+)", page)[1]
    stored = np.asarray(Image.open(io.BytesIO(base64.b64decode(address))).convert("RGB")).astype(float)
    want = (load_token_drawer("dalle").draw([text], seed=2)[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(stored - want).mean() < 8                 # but for what compression takes


def test_what_cannot_run_is_refused():
    for wrong, message in ((dict(name="m2-regions"), "does not run in the browser"),
                           (dict(name="attngan", texts=["one"]), "give at least one label and two texts"),
                           (dict(name="captioner-grid", scene=len(SCENES)), "give one of 0 to 11"),
                           (dict(name="word-space", word="canary"), "has no pictures in the word world"),
                           (dict(name="vilbert", question="a boat"), "has no gap")):
        with pytest.raises(ValueError, match=message):
            live(**wrong)
