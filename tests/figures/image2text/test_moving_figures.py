"""Chapter 1's diagrams and moving figures show what they were given, and real models can be shown in them."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from figure_parts import frames, texts

from mmlearn.data.scenes import CATEGORIES, captions, render, sample_scene
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.figures.image2text import architecture, decoding, m2, scores, training
from mmlearn.figures.image2text.captioning import attention_maps
from mmlearn.figures.image2text.decoding import Hypothesis, beam_steps
from mmlearn.figures.image2text.looking import where_words_look
from mmlearn.figures.interactive import LIMIT
from mmlearn.generate import beam_trace
from mmlearn.image2text.m2 import M2Config, M2Transformer
from mmlearn.image2text.regions import load_detector, region_features

SVG = "{http://www.w3.org/2000/svg}"
SCENE = sample_scene(0, 6)
WORDS = WordTokeniser.train([text for i in range(20) for text in captions(sample_scene(0, i))])
DIAGRAMS = (architecture.coco_pipeline, architecture.captioner, m2.memory_attention, m2.m2_beside_transformer,
            m2.meshed_decoder_layer, decoding.beam_search, training.self_critical)


@pytest.fixture(scope="module")
def seen():
    """A picture, its regions from the committed detector, and an untrained M2 that captions it."""
    picture = torch.from_numpy(render(SCENE, 64).image).permute(2, 0, 1)[None]
    regions = region_features(load_detector(), picture)
    torch.manual_seed(0)
    model = M2Transformer(M2Config.mini(len(WORDS), regions.features.shape[-1])).eval()
    return picture, regions, model


@pytest.mark.parametrize("draw", DIAGRAMS, ids=lambda draw: draw.__name__)
def test_a_diagram_says_all_in_words_and_stays_inside_its_frame(draw):
    drawn = draw()
    for each in filter(None, (drawn, drawn.narrow)):
        assert len(each.alt) > 60
        for text in ET.fromstring(each.svg).iter(f"{SVG}text"):
            assert 0 <= float(text.get("x")) <= each.width and 0 < float(text.get("y")) <= each.height
    assert (drawn.narrow or drawn).width <= 480                         # a phone shows it whole


def test_the_memory_diagram_appends_the_slots_to_keys_and_values_and_not_to_queries():
    shapes = texts(m2.memory_attention())
    assert [shapes.count(shape) for shape in ("(p + nm) × d", "p × d", "p × (p + nm)")] == [2, 3, 1]
    assert "Mk" in shapes and "Mv" in shapes and "Mq" not in shapes


@pytest.mark.parametrize("layers", [2, 3])
def test_the_mesh_has_a_connection_from_every_encoder_to_every_decoder_layer(layers):
    svg = m2.m2_beside_transformer(layers).svg
    assert svg.count('class="mm-h mm-new"') == layers**2                # heads of violet arrows
    assert svg.count('class="mm-b mm-new"') == 3 * layers               # memory slots


def test_a_beam_is_drawn_with_its_best_caption_and_what_was_cut():
    drawn = decoding.beam_search()
    assert "Best caption: a red tree behind a dog, log-probability -2.73." in drawn.alt
    assert decoding.beam_search(upto=2).alt.startswith("Beam search after 2 steps. Best caption: a dog,")
    cut = sum(not h.kept for step in decoding.EXAMPLE for h in step)
    assert drawn.svg.count('fill-opacity="0.3"') == cut > 0
    assert drawn.height < 500


def test_the_example_of_a_beam_could_be_one():
    for before, step in zip(decoding.EXAMPLE, decoding.EXAMPLE[1:]):
        kept = [h for h in step if h.kept]
        assert len(kept) == 2 and [h.score for h in step] == sorted((h.score for h in step), reverse=True)
        for h in step:
            parent = before[h.parent]
            assert parent.kept and h.score <= parent.score
            assert not parent.ended or (h.ended and h.score == parent.score)


def test_beam_steps_are_those_of_the_search(seen):
    _, regions, model = seen
    with torch.no_grad():
        context = model.encode(regions.features, regions.mask)
    trace = beam_trace(model, context, k=3, bos=WORDS.bos, eos=WORDS.eos, pad=WORDS.pad, max_len=6)
    steps = beam_steps(trace, WORDS)
    assert [sum(h.kept for h in step) for step in steps] == [3] * len(trace.steps)
    place, said = 0, []
    for step in reversed(steps):
        said.append(step[place].word)
        place = step[place].parent
    best = [WORDS.words[i] for i in trace.tokens[0, 0].tolist() if i not in (WORDS.eos, WORDS.pad)]
    assert [word for word in reversed(said) if word != "end"] == best
    assert steps[-1][0].score == pytest.approx(trace.log_probs[0, 0].sum().item(), abs=1e-4)
    for step in steps:                                          # nothing that was cut beats what was kept
        cut = [h.score for h in step if not h.kept]
        assert max(cut, default=-np.inf) <= min(h.score for h in step if h.kept)
    assert len(frames(decoding.beam_player(steps))) == len(steps)


def test_a_beam_with_marks_in_its_words_is_drawn_as_it_is():
    steps = [[Hypothesis("<unk>", -1.0), Hypothesis("a_b*c", -2.0)]]
    assert {"<unk>", "a_b*c"} <= set(texts(decoding.beam_search(steps)))


def test_real_words_look_at_real_regions(seen):
    picture, regions, model = seen
    told = attention_maps(model, regions.features, WORDS, regions.mask, k=2, max_len=8)
    boxes = regions.boxes[0, regions.mask[0]].clone()
    boxes[:, 2:] -= boxes[:, :2]
    names = ["whole picture", *(CATEGORIES[i].name for i in regions.labels[0, regions.mask[0]][1:].tolist())]
    block = where_words_look(picture[0], told.words, told.attention, boxes, names)
    shown = frames(block)
    assert len(shown) == len(told.words) and len(block._repr_html_()) < LIMIT
    best = int(told.attention[0].argmax())
    assert f"“{told.words[0]}”: {names[best]} {float(told.attention[0, best]):.0%}" in shown[0]


def test_a_word_lights_the_cells_that_it_looks_at():
    weights = np.zeros((2, 4, 4))
    weights[0, 0, 0] = weights[1, 3, 3] = 1.0
    from mmlearn.figures.image2text.looking import _lit
    bright = np.full((64, 64, 3), 0.8)
    corners = [_lit(bright, row, None)[[4, -5], [4, -5]].mean(-1) for row in weights]
    assert corners[0][0] > 2 * corners[0][1] and corners[1][1] > 2 * corners[1][0]
    assert "“b”: 100% of its attention" in frames(where_words_look(bright, ["a", "b"], weights))[1]


@pytest.mark.parametrize("shape, words, message", [
    ((3, 16), ["a"], "3 rows of weights for 1 words"), ((1, 15), ["a"], "15 weights make no square")])
def test_weights_that_do_not_fit_are_refused(shape, words, message):
    with pytest.raises(ValueError, match=message):
        where_words_look(np.zeros((8, 8, 3)), words, np.ones(shape))


def test_the_slider_shows_the_gate_of_the_equation():
    shown = frames(m2.memory_as_gate(degrees=90))
    assert len(shown) == 4 * len(m2.SCALES)
    q = np.array([0.0, 2.0])                                             # 90 degrees, length 2
    weights = np.exp([np.dot(q, k) / np.sqrt(2) for k in (*m2.KEYS, *m2.SLOTS)])
    share = weights[:3].sum() / weights.sum()
    assert f"query at 90 degrees, length 2: {share:.2f} of" in shown[len(m2.SCALES) + m2.SCALES.index(2.0)]
    assert all(f">{value:.2f}<" in shown[len(m2.SCALES) + 2] for value in weights / weights.sum())


def test_real_mesh_gates_are_shown_word_by_word(seen):
    _, regions, model = seen
    told = attention_maps(model, regions.features, WORDS, regions.mask, k=1, max_len=5)
    gates = told.gates.transpose(1, 2)                                   # l n t -> l t n
    shown = frames(m2.mesh_gates(told.words, gates))
    assert len(shown) == len(told.words)
    assert f"decoder layer 2: {', '.join(f'{v:.2f}' for v in gates[1, 0])}" in shown[0]
    with pytest.raises(ValueError, match="give one row a word"):
        m2.mesh_gates(["one"], gates)


def test_channels_of_gates_are_shown_as_lines():
    means = np.full((1, 2), 0.5)
    channels = np.linspace(0, 1, 11).reshape(1, 1, 1, 11).repeat(2, axis=2)
    with_lines = frames(m2.mesh_gates(["a"], means, channels))[0]
    assert with_lines.count('class="mm-l"') == 2 and "M161 " in with_lines        # 136 + 250 times 0.1


def test_the_scores_of_variants_move_as_they_should():
    references = captions(SCENE)
    corpus = [captions(sample_scene(0, i)) for i in range(20, 40)]
    right = references[0]
    table = scores.variant_scores([right, "a clock"], references, corpus)
    assert list(table[right]) == ["BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D", "SPICE-world"]
    assert table[right]["BLEU-4"] == pytest.approx(1) and table[right]["ROUGE-L"] == pytest.approx(1)
    assert all(table["a clock"][name] < value for name, value in table[right].items())
    shown = frames(scores.score_variants(table, references, render(SCENE, 128).image))
    change = table["a clock"]["CIDEr-D"] - table[right]["CIDEr-D"]
    assert f"{change:+.2f}".replace("-", "−") in shown[1]
    assert "mm-loss" in shown[1] and "mm-loss" not in shown[0]
    with pytest.raises(ValueError, match="the same metrics"):
        scores.score_variants({"a": {"x": 1.0}, "b": {"y": 1.0}})


def test_a_player_over_training_shows_each_caption_at_its_loss():
    losses = [4.0] * 50 + [1.0] * 50
    said = ["a", "a dog", "a dog runs"]
    block = training.training_player(render(SCENE, 64).image, [1, 50, 100], said, losses, [0.0, 1.0, 2.0])
    shown = frames(block)
    assert [re.search(r"after (\d+) steps?: [a-z ]+", frame).group() for frame in shown] == [
        "after 1 steps: a", "after 50 steps: a dog", "after 100 steps: a dog runs"]
    assert ">4.00<" in shown[1] and ">1.00<" in shown[2] and "CIDEr-D 2.00" in shown[2]
    with pytest.raises(ValueError, match="1 captions for 2 steps"):
        training.training_player(np.zeros((4, 4)), [1, 2], ["a"], losses)


def test_self_critical_training_prefers_captions_above_the_mean():
    drawn = training.self_critical([("good", 3.0), ("bad", 1.0)])
    assert "good: 3.0, +1.0; bad: 1.0, -1.0" in drawn.alt
    words = texts(drawn)
    assert words.index("likelier") < words.index("less so") and "baseline b: their mean, 2.0" in words
