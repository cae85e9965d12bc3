"""DALL-E's figures show the sizes, masks, shares and orders of the package, and cut nothing off."""

import math

import matplotlib.pyplot as plt
import pytest
import torch
from figure_parts import check_texts, frames, texts

from mmlearn.data.tokenisers import PlainWordTokeniser
from mmlearn.figures.interactive import LIMIT
from mmlearn.figures.text2image import dalle
from mmlearn.text2image.dalle import DALLE, DALLEConfig
from mmlearn.text2image.dvae import DVAE, DVAEConfig, DVAESchedule
from mmlearn.text2image.token_drawing import TokenDrawer


@pytest.mark.parametrize("drawn", [
    dalle.dvae(), dalle.dvae(DVAEConfig.mini()), dalle.transformer(), dalle.transformer(DALLEConfig.mini()),
    dalle.transformer(DALLEConfig(attention="full"))],
    ids=["dvae", "dvae mini", "transformer", "transformer mini", "transformer full"])
def test_a_diagram_covers_no_text_and_says_all_in_words(drawn):
    assert drawn.width <= 480 and len(drawn.alt) > 200 and "  " not in drawn.alt
    assert len(drawn._repr_html_()) < 100_000
    check_texts(drawn)


def test_the_dvae_has_the_channels_and_sides_of_the_paper():
    shown = texts(dalle.dvae())
    for size in ("256 × 2562", "512 × 1282", "1024 × 642", "2048 × 322"):
        assert shown.count(size) == 2                              # in the encoder and in the decoder
    assert "logits ℓ, 8192 × 322" in shown and "8192 vectors of 128" in shown
    assert "53,786,240 parameters" in shown and "43,829,766 parameters" in shown


def test_the_transformer_has_the_layers_and_vocabularies_of_the_paper():
    shown = " ".join(texts(dalle.transformer()))
    for words in ("64 layers, width 3968, 62 heads", "47 layers", "16 layers", "the last layer",
                  "16384 words", "8192 codes", "start and 256 places of text", "1023 of 1024 codes"):
        assert words in shown
    assert "47 of kind row, 16 of kind column, 1 of kind convolution" in dalle.transformer().alt


def test_a_chosen_code_reads_what_a_loop_over_rows_and_columns_says():
    side, kernel = 6, 5
    block = dalle.reads(side, kernel)
    shown = frames(block)
    assert len(shown) == side * side and len(block._repr_html_()) < LIMIT
    for number, frame in enumerate(shown):
        place = side * (side - 1 - number % side) + number // side          # columns, each from its foot up
        assert f"code {place + 1} reads" in frame
        row = column = window = 0
        for key in range(place + 1):
            back = place - key
            row += back <= side
            column += back % side == 0
            window += any(abs(back - r * side) <= kernel // 2 for r in range(kernel // 2 + 1))
        assert f"row {row}, column {column}, window {window}, itself included" in frame


def test_a_square_is_drawn_for_each_key_in_its_row_and_column():
    assert dalle._cells([0, 5], 10, 20, 4, 10) == "M11.5 21.5h7v7h-7zM21.5 31.5h7v7h-7z"


def test_a_mask_is_orange_over_the_text_and_violet_within_the_picture():
    mask = torch.eye(3, dtype=torch.bool)
    shown = dalle._tinted(mask, 1)
    assert tuple(shown[0, 0]) == (0.70, 0.37, 0.0) and tuple(shown[2, 2]) == (0.46, 0.31, 0.78)
    assert (shown[0, 1:] == 1).all()
    figure = dalle.mask_matrices(2, 4, 3)
    row = sum(0 <= i - j <= 4 for i in range(16) for j in range(16))
    assert figure.axes[0].get_title() == f"row: {row} pairs of codes"
    plt.close(figure)


def test_the_slider_shows_the_relaxed_shares_of_each_temperature_and_draw():
    q, taus = (0.5, 0.3, 0.2), (1.0, 1 / 4)
    shown = frames(dalle.tau_slider(q, taus, draws=2, seed=3))
    u = torch.rand(2, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert len(shown) == 4
    for frame, (tau, draw) in zip(shown, [(tau, draw) for tau in taus for draw in (0, 1)]):
        weights = [(q[i] / -math.log(float(u[draw, i]))) ** (1 / tau) for i in range(3)]
        y = [weight / sum(weights) for weight in weights]
        assert "y = (" + ", ".join(f"{share:.2f}" for share in y) + ")" in frame
        assert f"steepest slope {max(s * (1 - s) / tau for s in y):.2f}" in frame
        assert f"code {max(range(3), key=weights.__getitem__) + 1}" in frame


def test_densities_are_those_of_the_sigmoid_of_a_laplace_variable():
    figure = dalle.logit_laplace_densities([(0.5, 0.4)])
    line = figure.axes[0].lines[0]
    x, density = line.get_xdata()[100], line.get_ydata()[100]
    want = math.exp(-abs(math.log(x / (1 - x)) - 0.5) / 0.4) / (2 * 0.4 * x * (1 - x))
    assert float(density) == pytest.approx(float(want)) and line.get_label() == "μ = 0.5, b = 0.4"
    plt.close(figure)


def test_the_schedules_begin_and_end_where_the_paper_says():
    figure = dalle.schedules(DVAESchedule.paper())
    ends = [(line.get_ydata()[0], line.get_ydata()[-1]) for axis in figure.axes for line in axis.lines[:1]]
    for (first, last), (start, end) in zip(ends, ((0, 6.6), (1, 1 / 16), (1e-4, 1.25e-6))):
        assert first == pytest.approx(start, abs=1e-6) and last == pytest.approx(end)
    plt.close(figure)


def test_the_annealed_run_shows_the_plan_of_its_settings_and_the_record():
    record = {"settings": {"steps": 800, "beta": 5.0, "lr": 1e-2, "codes": 16},
              "curve": {"step": [0, 400], "nll": [0.0, -1.5], "kl": [0.1, 2.0]}}
    figure = dalle.annealed(record)
    beta, tau, lr, nll, kl = figure.axes
    ends = [(axis.lines[0].get_ydata()[0], axis.lines[0].get_ydata()[-1]) for axis in (beta, tau, lr)]
    for (first, last), (start, end) in zip(ends, ((0, 5), (1, 1 / 16), (1e-2, 5e-4))):
        assert first == pytest.approx(start) and last == pytest.approx(end)
    steps, values = beta.lines[0].get_data()
    there = values[list(steps).index(40)]                                        # a twentieth of the steps
    assert there == pytest.approx(5) and values[list(steps).index(38)] < 5
    assert list(nll.lines[0].get_ydata()) == [0, -1.5] and list(kl.lines[0].get_ydata()) == [0.1, 2]
    assert kl.lines[1].get_ydata()[0] == pytest.approx(math.log(16))
    plt.close(figure)


def test_each_picture_stands_over_its_codes_and_what_is_drawn_of_them():
    torch.manual_seed(0)
    model, images = DVAE(DVAEConfig.mini(16, 8, 8)).eval(), torch.rand(2, 3, 16, 16)
    figure = dalle.through_codes(model, images)
    shown = [torch.as_tensor(axis.images[0].get_array()) for axis in figure.axes]
    tokens = model.tokens(images)
    with torch.no_grad():
        drawn = model.pictures(tokens)
        full = model.pictures(torch.full((1, 4, 4), int(tokens[1, 2, 3])))[0]
    assert [tuple(image.shape[:2]) for image in shown] == [(16, 16)] * 2 + [(4, 4)] * 2 + [(16, 16)] * 2
    torch.testing.assert_close(shown[1], images[1].movedim(0, -1), check_dtype=False)
    torch.testing.assert_close(shown[5], drawn[1].movedim(0, -1), check_dtype=False)
    torch.testing.assert_close(shown[3][2, 3], full.mean((1, 2)), check_dtype=False)
    plt.close(figure)


@pytest.fixture(scope="module")
def drawer():
    tokeniser = PlainWordTokeniser.train(["a red car in the snow"])
    torch.manual_seed(0)
    return TokenDrawer.of(DVAE(DVAEConfig.mini(16, 8, 8)), DALLE(DALLEConfig.mini(
        len(tokeniser), 8, 4, width=16)), tokeniser)


def brightness(pictures, text):
    return pictures.mean((1, 2, 3))


def test_a_grid_fills_code_by_code_and_ends_in_the_order_of_the_score(drawer):
    block = dalle.filling(drawer, "a red car", brightness, samples=3)
    shown = frames(block)
    assert len(shown) == 4 * 4 + 2 and len(block._repr_html_()) < LIMIT
    assert "0 of 16 codes are drawn" in shown[0] and "all 16 codes are drawn" in shown[16]
    scores = brightness(drawer.draw(["a red car"], 3, seed=0), "")
    best = max(range(3), key=lambda i: float(scores[i]))
    assert f"CLIP puts picture {best + 1} first" in shown[17]
    for score in scores.tolist():
        assert f"cosine {score:.3f}" in shown[17]


def test_without_a_score_nothing_is_ranked_and_steps_may_be_wider(drawer):
    shown = frames(dalle.filling(drawer, "a red car", samples=1, every=4))
    assert len(shown) == 5 and "all 16 codes are drawn" in shown[-1]
    with pytest.raises(ValueError, match="5 samples do not fit"):
        dalle.filling(drawer, "a red car", samples=5)
