"""Figures show what they are given, in colours and sizes that everybody can read."""

import io

import numpy as np
import pytest
import torch
from matplotlib import colors
from matplotlib import pyplot as plt

from mmlearn import plot
from mmlearn.train import History


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        plot.use_style()
        yield
    plt.close("all")


def history(scale):
    return History(steps=[1, 2, 3], loss=[3 * scale, 2 * scale, scale], metric_steps=[3],
                   metrics={"CIDEr": [scale]})


def bytes_of(figure):
    file = io.BytesIO()
    figure.savefig(file)
    return len(file.getvalue())


FIGURES = {
    "curves": lambda: plot.curves({"a": history(1.0), "b": history(2.0), "plain": [3.0, 2.0]}),
    "grid": lambda: plot.image_grid(torch.linspace(0, 1, 64).expand(8, 3, 64, 64),
                                    ["a red cat sits on the beach"] * 8),
    "overlay": lambda: plot.attention_overlay(torch.rand(3, 64, 64), torch.rand(5, 16), list("abcde")),
    "heatmap": lambda: plot.heatmap(torch.rand(6, 9), list("abcdef"), ["word"] * 9, numbers=True, title="t"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_small_and_its_text_survives_a_phone(name):
    figure = FIGURES[name]()
    figure.canvas.draw()
    assert bytes_of(figure) < 100_000
    width = figure.get_figwidth()
    sizes = [text.get_fontsize() for text in figure.findobj(plt.Text) if text.get_text()
             and text.get_visible()]
    assert sizes and min(sizes) >= 10 and width <= 10.0


def luminance(colour):
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colors.to_rgb(colour)]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


def test_the_palette_is_okabe_and_itos_and_lines_stand_out_from_white():
    assert set(plot.PALETTE) == {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00",
                                 "#CC79A7"}
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in plot.PALETTE[:7])
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(plot.PALETTE)


def test_curves_show_losses_and_metrics_by_name():
    left, right = plot.curves({"a": history(1.0), "b": history(2.0)}).axes
    assert [list(line.get_ydata()) for line in right.lines] == [[1.0], [2.0]]
    assert list(left.lines[0].get_ydata()) == [3, 2, 1] and list(left.lines[1].get_ydata()) == [3, 2.5, 2]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["a", "b"]
    assert len({line.get_linestyle() for line in right.lines}) == 2      # told apart without colour


@pytest.mark.parametrize("image", [
    torch.tensor([1.0, 0.0, 0.5])[:, None, None].expand(3, 4, 5),
    np.tile(np.array([255, 0, 128], np.uint8), (4, 5, 1))])
def test_pictures_are_read_from_tensors_and_arrays(image):
    pixels = plot.picture(image)
    assert pixels.shape == (4, 5, 3)
    assert pixels[2, 3] == pytest.approx([1.0, 0.0, 0.5], abs=0.01)


def test_grey_pictures_get_three_channels_and_other_shapes_are_refused():
    assert (
        plot.picture(torch.full((1, 4, 5), 0.5)).shape
        == plot.picture(np.full((4, 5), 0.5)).shape
        == (4, 5, 3)
    )
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4, 5\)"):
        plot.picture(torch.zeros(2, 3, 4, 5))


def test_attention_brightens_the_cell_that_a_word_looks_at():
    weights = torch.zeros(1, 4)
    weights[0, 3] = 1.0                                  # the lower right of a 2 x 2 grid
    figure = plot.attention_overlay(np.ones((8, 8, 3)), weights, ["cat"])
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    assert pixels[7, 7, 0] == pytest.approx(1.0) and pixels[0, 0, 0] < 0.5
    assert figure.axes[0].get_title() == "cat"


def test_attention_over_boxes_brightens_and_frames_the_strongest():
    weights = torch.tensor([[0.9, 0.1]])
    figure = plot.attention_overlay(np.ones((8, 8, 3)), weights, ["cat"], boxes=[(1, 2, 3, 4), (6, 0, 2, 2)])
    pixels = np.asarray(figure.axes[0].images[0].get_array())[..., 0]
    assert (pixels[2:6, 1:4] == 1.0).all() and pixels[7, 7] == pixels.min()
    frame = figure.axes[0].patches[0]
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (0.5, 1.5, 3, 4)


def test_overlays_of_the_wrong_shape_get_one_sentence():
    with pytest.raises(ValueError, match="2 rows of weights for 1 words"):
        plot.attention_overlay(np.ones((8, 8, 3)), torch.rand(2, 4), ["cat"])
    with pytest.raises(ValueError, match="5 weights make no square grid"):
        plot.attention_overlay(np.ones((8, 8, 3)), torch.rand(1, 5), ["cat"])
    with pytest.raises(ValueError, match="1 titles for 2 images"):
        plot.image_grid([np.ones((8, 8, 3))] * 2, ["one"])


def test_a_heatmap_writes_its_numbers():
    figure = plot.heatmap([[0.0, 1.0]], numbers=True)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.00", "1.00"]
