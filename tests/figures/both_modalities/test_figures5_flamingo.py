"""Figures of section 5.3 show what is computed, and no text covers another."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figure_parts import SVG, block_data, check_texts, drawing, frames, svg_of, texts

from mmlearn.both_modalities.flamingo import FlamingoConfig
from mmlearn.figures.both_modalities.flamingo import (
    architecture,
    forgotten,
    gated_block,
    gates_opening,
    mask_matrix,
    over_shots,
    page_of,
    seen_by_words,
)

PAGE = "my pets <image> a cat <EOC> <image> a dog <EOC>"


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("config, cells", [(FlamingoConfig.mini(), 64), (FlamingoConfig.flamingo_3b(), 100),
                                           (FlamingoConfig.flamingo_80b(), 100)])
def test_the_whole_says_the_sizes_of_its_configuration(config, cells):
    drawn = architecture(config, cells)
    check_texts(drawn)
    told = texts(drawn)
    assert f"{cells} × {config.features}" in told and f"{config.latents} × {config.visual}" in told
    assert f"… {len(config.places)} blocks, {config.layers} layers …" in told
    assert f"Layer {config.places[1] + 1}" in told
    frozen = [rect for rect in svg_of(drawn).iter(f"{SVG}rect") if "mm-frozen" in rect.get("class")]
    assert len(frozen) == 4 == told.count("frozen")             # encoder, embedding, two layers


def test_a_gated_block_has_two_gates_and_the_resampler_none():
    drawn = gated_block()
    check_texts(drawn)
    assert [text for text in texts(drawn) if text.startswith("tanh")] == ["tanh α", "tanh α'"]
    assert texts(drawn).count("×") == 2 and texts(drawn).count("+") == 4


def test_a_word_sees_the_picture_shown_last():
    words, phi = page_of(PAGE)
    assert phi.tolist() == [[0, 0, 1, 1, 1, 1, 2, 2, 2, 2]]
    for sees, filled in (("last", 8), ("all", 12)):
        drawn = mask_matrix(words, phi, 2, sees)
        check_texts(drawn)
        full = [r for r in svg_of(drawn).iter(f"{SVG}rect") if "mm-image" in r.get("class")]
        assert len(full) == filled
    assert "my: none" in drawn.alt and "dog: 1, 2" in drawn.alt


def test_pointing_at_a_word_frames_its_picture():
    words, phi = page_of(PAGE)
    block = seen_by_words(words, phi, [torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    panels = [drawing(frame) for frame in frames(block)[:-1]]
    for word, panel, i in zip(words, panels, phi[0].tolist()):
        check_texts(panel)
        framed = [r for r in svg_of(panel).iter(f"{SVG}rect") if "stroke-width:5" in r.get("style", "")]
        assert len(framed) == (i > 0)
        assert f"{word}: φ = {i}, sees {f'picture {i}' if i else 'no picture'}" in texts(panel)
    assert len(block_data(block)["frames"]) == len(words)


def test_bars_of_gates_are_as_long_as_the_gates_are_open():
    block = gates_opening([[1, 0.0, 0.0, 0.0, 0.0], [50, 0.1, -0.2, 0.4, 0.05]])
    shown = frames(block)
    first = drawing(shown[0])
    check_texts(first)
    assert "block 2" in texts(first) and "+0.00" in texts(first)
    last = shown[1]
    widths = [re.findall(r'class="mm-h mm-\w+"[^>]*width="([\d.]+)"', drawing(frame)) for frame in shown[:2]]
    assert widths[0] == ["0.5"] * 4                             # nothing is open, a hair's breadth is drawn
    assert [round(float(w) / 230 * 0.4, 2) for w in widths[1]] == [0.1, 0.2, 0.4, 0.05]
    assert "step 50" in last


def test_a_slider_over_shots_says_every_accuracy():
    curves = {"known things": [0.5, 0.75, 1.0], "new things": [0.5, 0.6, 0.7]}
    block = over_shots((0, 1, 4), curves)
    for k, frame in enumerate(frames(block)[:-1]):
        panel = drawing(frame)
        check_texts(panel)
        assert [t for t in texts(panel) if "%" in t] == [f"{100 * c[k]:.0f} %" for c in curves.values()]
    assert block_data(block)["axes"] == [["0", "1", "4"]]


def test_what_is_forgotten_stands_right_of_the_line():
    axis = forgotten(0.9, {"frozen": [0.9, 0.9], "trained": [1.4, 1.5]}).axes[0]
    x = [np.asarray(line.get_xdata()).tolist() for line in axis.lines]
    assert x == [[0.9, 0.9], [1.4, 1.5], [0.9, 0.9]]
