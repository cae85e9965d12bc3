"""The figures of chapter 5's opening say what the configurations say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_parts import SVG, check_texts, svg_of, texts

from mmlearn.catalog import SYSTEMS, parameters
from mmlearn.figures.both_modalities import opening


@pytest.mark.parametrize("draw", [opening.three_answers, opening.frozen_and_trained])
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert drawn.width <= 480 and len(drawn.alt) > 200 and drawn.smallest >= 12
    assert len(drawn._repr_html_()) < 100_000
    check_texts(drawn)


def test_the_map_shows_what_is_frozen_and_what_is_new():
    said = texts(opening.three_answers())
    assert said.count("student") == said.count("teacher") == 2 and said.count("co-attend") == 2
    assert said.count("keys, values") == 2 and "64 tokens" in said and said.count("LM layer") == 2


def test_counts_are_those_of_the_catalogue_and_bars_are_shares():
    by = {row.name: row for row in opening.counts()}
    size = {(s.name, c.name): parameters(s, c) for s in SYSTEMS for c in s.configurations
            if s.name in ("ViLBERT", "data2vec vision", "Flamingo", "Causal language model")}
    assert by["ViLBERT"].trained == size["ViLBERT", "base"]
    assert by["data2vec, pictures"].trained == size["data2vec vision", "base"]
    for name, language in (("3b", "1b4"), ("9b", "7b"), ("80b", "70b")):
        row = by[f"Flamingo-{name.upper()}"]
        assert row.trained == size["Flamingo", f"flamingo_{name}"]
        assert row.frozen == size["Causal language model", f"chinchilla_{language}"] + opening.NFNET_F6
    drawn = opening.frozen_and_trained([opening.Count("a", 25_000_000, 75_000_000, "")])
    wide = [float(bar.get("width")) for bar in svg_of(drawn).iter(f"{SVG}rect")]
    assert wide[0] / sum(wide) == pytest.approx(0.25, abs=0.01)
    assert {"25 M", "75 M"} <= set(texts(drawn)) and opening.said(1_351_459_376) == "1.35 B"


def test_lines_are_means_and_dots_the_draws():
    figure = opening.labels_needed({"a": {8: [0.1, 0.3], 16: [0.5, 0.7]}, "b": {8: [0.2, 0.2]}}, 0.1)
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.2, 0.6])
    assert [line.get_label() for line in axis.lines] == ["a", "b", "chance"] and len(axis.collections) == 3
    plt.close(figure)
