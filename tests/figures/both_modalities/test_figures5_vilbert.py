"""The figures of ViLBERT: the layers are those of the schedule, what is lit is what the model attends to."""

import re

import pytest
import torch
from figure_parts import SVG, check_texts, drawing, frames, svg_of, texts

from mmlearn.both_modalities.vilbert import WHOLE, ViLBERTConfig
from mmlearn.both_modalities.vilbert_regions import Seen
from mmlearn.both_modalities.vilbert_training import RegionTexts, mini_model
from mmlearn.data.pairs import draw_scenes
from mmlearn.data.scenes import captions, sample_scene
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.both_modalities import vilbert
from mmlearn.nn.attention import record_attention

SCENE = sample_scene(0, 3, "test")
TEXT = captions(SCENE)[0]


@pytest.fixture(scope="module")
def what():
    """An untrained miniature with large weights, so that it attends to something, and a scene."""
    words = WordTokeniser.train(captions(SCENE))
    dice = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[[0.1, 0.1, 0.4, 0.5, 0.12], [0.5, 0.5, 0.9, 0.9, 0.16], [0.0] * 5]])
    mask = torch.tensor([[True, True, False]])
    classes = torch.zeros(1, 3, 35)
    classes[0, 0, 5], classes[0, 1, 7], classes[0, 1, 8] = 1.0, 0.6, 0.4
    features = torch.randn(1, 3, 256, generator=dice).masked_fill(~mask[..., None], 0.0)
    seen = Seen(features, boxes, mask, classes)
    model = mini_model(words, RegionTexts(seen, (captions(SCENE),))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return vilbert.Shown(model, words, SCENE, draw_scenes([SCENE])[0], seen)


@pytest.mark.parametrize("draw", [
    vilbert.streams, vilbert.meeting, lambda: vilbert.streams(ViLBERTConfig.mini()),
    lambda: vilbert.streams(ViLBERTConfig.depth_2()), lambda: vilbert.meeting(ViLBERTConfig.mini())])
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert len(drawn.alt) > 200 and drawn.width <= 480
    check_texts(drawn)


@pytest.mark.parametrize("config", [ViLBERTConfig.base(), ViLBERTConfig.depth_2(), ViLBERTConfig.mini()])
def test_layers_are_drawn_in_the_order_in_which_they_run(config):
    drawn = vilbert.streams(config)
    heights: dict[tuple[str, int], float] = {}
    for text in svg_of(drawn).iter(f"{SVG}text"):
        words, x, y = "".join(text.itertext()), float(text.get("x")), float(text.get("y"))
        if found := re.fullmatch(r"(Co-TRM|TRM) (\d+)", words):
            kind = "co" if found[1] == "Co-TRM" else "text" if x < 235 else "vision"
            heights[kind, int(found[2])] = y
    assert set(heights) == set(config.schedule())
    for stream in (("text", "co"), ("vision", "co")):
        order = [heights[layer] for layer in config.schedule() if layer[0] in stream]
        assert order == sorted(order) and len(set(order)) == len(order)
    assert f"{config.classes} scores" in texts(drawn) and f"*Y*: t × {config.text.width}".replace(
        "*", "") in texts(drawn)


def test_keys_and_values_cross_and_queries_do_not():
    said = texts(vilbert.meeting())
    assert "own Q, K and V of X" in said and "own Q, K and V of Y" in said
    assert {"QY", "KY", "VY", "QX", "KX", "VX", "CX", "CY"} <= set(said)
    assert "8 heads of 128 numbers" in said


def test_a_word_lights_the_boxes_that_it_attends_to_and_a_box_the_words(what):
    drawn = [drawing(frame) for frame in frames(vilbert.looking(what, TEXT))]
    for frame in drawn:
        check_texts(frame)
    tokens = what.tokeniser.batch([TEXT])
    with torch.no_grad(), record_attention(what.model) as weights:
        what.model(tokens, None, None, *what.seen[:3])
    by_words = weights["vilbert.co_layers.1.text.attention"][0].mean(0)[:, :3]
    by_regions = weights["vilbert.co_layers.1.vision.attention"][0].mean(0)[:3]
    t = tokens.shape[1]
    assert len(drawn) == t + 3
    for k in range(t):
        want = [f"{weight:.2f}" for weight in by_words[k].tolist()]
        assert [w for w in texts(drawn[k]) if re.fullmatch(r"\d\.\d\d", w)] == want
    for k in range(3):
        want = [f"{weight:.2f}" for weight in by_regions[k].tolist()]
        assert [w for w in texts(drawn[t + k]) if re.fullmatch(r"\d\.\d\d", w)] == want
    assert "1 " in " ".join(texts(drawn[t + 1]))


def test_a_place_is_five_numbers(what):
    drawn = [drawing(frame) for frame in frames(vilbert.places(what))]
    for frame, row in zip(drawn, [WHOLE, *what.seen.boxes[0, :2].tolist()], strict=True):
        check_texts(frame)
        assert [w for w in texts(frame) if re.fullmatch(r"\d\.\d\d", w)] == [f"{x:.2f}" for x in row]


def test_a_hidden_region_has_the_detectors_classes_and_the_models(what):
    drawn = vilbert.posterior(what, [TEXT, "a pink one"], number=1)
    check_texts(drawn)
    p, q = vilbert.hidden_region(what.model, what.tokeniser.batch([TEXT]), what.seen, 1, 1)
    assert p[7] == pytest.approx(0.6) and sum(q) == pytest.approx(1, abs=1e-5)
    features = what.seen.features.clone()
    features[0, 1] = 0
    with torch.no_grad():
        logits = what.model(what.tokeniser.batch([TEXT]), None, None, features, *what.seen[1:3]).regions[0, 1]
    assert q == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)
    said = texts(drawn)
    assert vilbert.NAMES[7] in said and "0.60" in said and f"{max(q):.2f}" in said


def test_pairs_are_shown_with_their_probabilities(what):
    drawn = vilbert.pictures_of_pairs([(what.image, "a bird", 0.91), (what.image, "two cars", 0.2)])
    check_texts(drawn)
    assert {"0.91", "0.20", "two cars"} <= set(texts(drawn)) and "0.91" in drawn.alt


def test_hits_and_misses_are_shown_with_their_overlap():
    from mmlearn.both_modalities.vilbert import box_geometry
    from mmlearn.both_modalities.vilbert_fine_tuning import Task
    from mmlearn.data.expressions import expressions

    data = expressions(4)
    n = len(data.scenes)
    boxes = torch.zeros(n, 2, 5)
    pictures = torch.tensor([one.scene for one in data.expressions])
    for one in data.expressions:
        boxes[one.scene, 0] = box_geometry(data.boxes(one.scene)[one.target], 1, 1)
    seen = Seen(torch.zeros(n, 2, 6), boxes, torch.ones(n, 2, dtype=torch.bool), torch.zeros(n, 2, 5))
    task = Task(torch.zeros(4, 3, dtype=torch.long), seen, pictures, torch.tensor([[0.93, 0.0]] * 4))
    drawn = vilbert.referred_boxes(data, task, torch.tensor([0, 0, 1, 1]))
    check_texts(drawn)
    assert texts(drawn).count("IoU 0.93") == 2 and texts(drawn).count("IoU 0.00") == 2
    assert {one.text for one in data.expressions} <= set(texts(drawn))


@pytest.mark.slow
def test_where_no_miniature_is_there_one_is_trained_for_a_few_steps(monkeypatch, tmp_path):
    monkeypatch.setattr(vilbert, "CHECKPOINT", tmp_path / "none.safetensors")
    model, words = vilbert.trained_model(steps=1, scenes=64)
    assert not model.training and len(words) > 50
