"""Figures of skip-gram and GloVe: texts are whole, sizes the configurations', the tree that of growth."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figure_parts import block_data, check_texts, drawing, svg_of, texts

from mmlearn.figures.diagram import Diagram
from mmlearn.figures.images_for_language import word_vectors as figures
from mmlearn.figures.interactive import Block
from mmlearn.images_for_language.glove import GloVeConfig
from mmlearn.images_for_language.skip_gram import SkipGramConfig
from mmlearn.images_for_language.skip_gram_updates import sigmoid_table

COUNTS = {"the": 6, "cat": 3, "dog": 2, "moon": 1, "sings": 1}
DRAWN = {"skip_gram": figures.skip_gram, "skip_gram-mini": lambda: figures.skip_gram(SkipGramConfig.mini()),
         "glove": figures.glove, "glove-mini": lambda: figures.glove(GloVeConfig.mini())}


def drawings(block: Block) -> list[str]:
    """The drawings of the frames of a block, but for the still one where it stands in another form."""
    return [drawing(frame) for frame in block_data(block)["frames"] if "<svg" in frame]


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(name):
    drawn = DRAWN[name]()
    assert isinstance(drawn, Diagram) and drawn.width <= 480
    assert len(drawn.alt) > 200 and "  " not in drawn.alt
    assert len(drawn._repr_html_()) < 100_000
    check_texts(drawn)


def test_sizes_are_those_of_the_configurations():
    assert {"Win: 71,291 × 100", "71,291 scores", "1 + 5 scores"} <= set(texts(figures.skip_gram()))
    assert {"Win: 300 × 32", "vi: 32"} <= set(texts(DRAWN["skip_gram-mini"]()))
    assert {"400,000 × 400,000", "400,000 × 300", "300 × 400,000"} <= set(texts(figures.glove()))
    assert "count Xij, 10 at the bend" in texts(DRAWN["glove-mini"]())


@pytest.mark.parametrize("counts", [COUNTS, {"a": 1, "b": 1}, {f"w{i}": 2**i for i in range(8)},
                                    {f"word{i}": 1 for i in range(8)}], ids=["page", "two", "chain", "even"])
def test_the_tree_grows_join_by_join_and_ends_with_its_codes(counts):
    block = figures.tree_player(counts)
    drawn = drawings(block)
    assert len(drawn) == len(counts) + 1                               # the forest, the joins, the codes
    for svg in drawn:
        check_texts(svg)
        assert svg_of(svg).attrib["viewBox"] == "0 0 470 330"
    for n, svg in enumerate(drawn[:-1]):
        assert len(texts(svg)) == 2 * len(counts) + n                  # a weight for each join
    assert str(sum(counts.values())) in texts(drawn[-2])


def test_the_last_frame_of_the_tree_shows_the_codes_of_the_page():
    assert {"0", "10", "110", "1110", "1111"} <= set(texts(drawings(figures.tree_player(COUNTS))[-1]))


def test_too_many_words_for_a_tree_are_refused():
    with pytest.raises(ValueError, match="9 words"):
        figures.tree_player({f"w{i}": 1 for i in range(9)})


def test_the_scatter_shows_frequent_and_rare_pairs():
    draw = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 300, (40, 40), generator=draw).double()
    best = torch.randn(40, 40, generator=draw).double()
    figure = figures.scores_over_pmi(best, best, counts, most=50)
    rare, frequent = figure.axes[0].collections
    assert len(frequent.get_offsets()) == 50 and len(rare.get_offsets()) <= 50
    assert np.allclose(*np.asarray(frequent.get_offsets()).T)
    plt.close(figure)


def test_the_tables_sigmoid_is_too_low_at_zero():
    figure = figures.sigmoid_error(sigmoid_table())
    exact, table = figure.axes[0].lines
    middle = len(exact.get_ydata()) // 2
    assert table.get_ydata()[middle] == pytest.approx(0.494, abs=1e-3)
    assert exact.get_ydata()[middle] == pytest.approx(0.5, abs=1e-3)
    plt.close(figure)
