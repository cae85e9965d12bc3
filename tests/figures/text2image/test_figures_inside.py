"""Figures of section 2.1.3 show the attention, gates, slopes and masks that they were given."""

import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figure_parts import frames

from mmlearn.figures.interactive import LIMIT
from mmlearn.figures.text2image import inside
from mmlearn.text2image.attngan import AttnGANConfig, AttnGANGenerator
from mmlearn.text2image.blocks import Gates
from mmlearn.text2image.dmgan import DMGANConfig, DMGANGenerator

SVG = "{http://www.w3.org/2000/svg}"
WORDS = ["a", "red", "bird"]


def drawn_by(make, config):
    torch.manual_seed(0)
    model = make(config.mini(text=8, size=16, branches=2)).eval()
    with torch.no_grad():
        drawn = model(torch.randn(1, 32), torch.randn(1, 8), torch.randn(1, 5, 8), torch.ones(1, 5).bool())
    return drawn.images[-1][0], [a[0] for a in drawn.attention], [Gates(*(g[0] for g in gates))
                                                                  for gates in drawn.gates]


def test_each_word_of_a_real_generator_gets_a_panel_and_its_shares():
    image, attention, _ = drawn_by(AttnGANGenerator, AttnGANConfig)
    shown = frames(inside.words_on_places(image, WORDS, attention))
    assert len(shown) == 3
    mean, most = 100 * attention[0][:, 1].mean(), 100 * attention[0][:, 1].max()
    assert f"“red”: on average {mean:.0f} % of what a place reads, at most {most:.0f} %" in shown[1]


def test_a_word_is_bright_where_it_is_read_on_the_scale_of_its_branch():
    image = torch.full((3, 8, 8), 0.6)
    corner, faint = torch.zeros(2, 16)
    corner[0], faint[15] = 1.0, 0.1
    bright, dark = (inside._panel(image, [map.numpy()], [1.0], 64).mean(axis=2)
                    for map in (corner, faint))
    assert bright[4, 4] > 2 * bright[60, 60]                       # read in one corner only
    assert dark[60, 60] < 0.6 * bright[4, 4]                       # a share of 10 % stays dark
    assert dark[60, 60] > dark[4, 4]


def test_two_branches_stand_side_by_side():
    image = torch.zeros(3, 8, 8)
    panel = inside._panel(image, [np.ones(16), np.zeros(64)], [1.0, 1.0], 32)
    assert panel.shape == (32, 70, 3) and panel[:, :32].mean() > 1.5 * panel[:, 38:].mean()


def test_a_memory_is_shown_with_both_gates():
    image, attention, gates = drawn_by(DMGANGenerator, DMGANConfig)
    block = inside.memory_on_places(image, WORDS, attention, gates)
    shown = frames(block)
    assert len(shown) == 4 and len(block._repr_html_()) < LIMIT
    assert f"“bird”: writing gate {float(gates[0].writing[2, 0]):.2f}; on average" in shown[2]
    assert f"response gate: {float(gates[0].response.mean()):.2f} of the answer" in shown[3]
    with pytest.raises(ValueError, match="gates of 2 branches for 1 branches"):
        inside.memory_on_places(image, WORDS, attention, gates * 2)


@pytest.mark.parametrize("attention, message", [
    ([], "no branches that read words"), ([np.ones((15, 3))], "square map"),
    ([np.ones((16, 2))], "at least 3 words")])
def test_weights_that_do_not_fit_the_words_are_refused(attention, message):
    with pytest.raises(ValueError, match=message):
        inside.words_on_places(torch.zeros(3, 8, 8), WORDS, attention)


def test_pairs_of_the_toy_are_what_their_kind_says():
    draws = torch.Generator().manual_seed(0)
    far = {kind: (pairs[:, 0] - pairs[:, 1]).abs() for kind in inside.KINDS
           for pairs in [inside.toy_pairs(kind, 400, draws)]}
    assert far["real, matching"].max() < 0.6 and far["real, mismatched"].min() > 1.4
    assert far["fake, matching"].min() < 0.2 and far["fake, matching"].max() > 2.8


@pytest.fixture(scope="module")
def critics():
    return {at: inside.train_toy_critic(at, steps=250)
            for at in ("", "real, matching", "real, mismatched")}


def test_a_penalty_flattens_the_critic_at_its_own_kind_of_pairs_most(critics):
    none, right, wrong = (inside.slopes_by_kind(critics[at]) for at in critics)
    assert right["fake, matching"] < 0.2 * none["fake, matching"]  # and with it the whole surface
    assert right["real, matching"] < right["real, mismatched"]
    assert wrong["real, mismatched"] < wrong["real, matching"] and wrong["real, mismatched"] < 0.5


def test_the_slope_of_a_critic_is_its_gradient(critics):
    critic, at, step = critics["real, matching"], torch.tensor([[0.3, 1.0]]), 1e-3
    for axis in (0, 1):
        move = step * torch.eye(2)[axis]
        want = (critic.score(at + move) - critic.score(at - move)) / (2 * step)
        assert critic.slope(at)[0, axis] == pytest.approx(float(want), abs=2e-2)


def test_a_toy_critic_is_a_function_of_its_seed_and_leaves_the_global_one_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (inside.train_toy_critic(steps=3, seed=seed) for seed in (0, 0, 1))
    place = torch.tensor([[0.2, 1.0]])
    assert torch.equal(one.score(place), two.score(place))
    assert not torch.equal(one.score(place), other.score(place))
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="at is 'fakes'"):
        inside.train_toy_critic("fakes")


def test_the_surface_of_each_critic_is_drawn_over_the_line_of_one_text(critics):
    figure = inside.penalty_surface({"without": critics[""], "with": critics["real, matching"]})
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles == ["without", "with", "", ""]
    line = figure.axes[3].lines[0]
    x = torch.tensor(line.get_xdata()[60:61])
    want = critics["real, matching"].score(torch.stack([x, torch.ones(1)], dim=1))
    assert line.get_ydata()[60] == pytest.approx(float(want[0]), abs=1e-5)
    plt.close(figure)


def test_the_picture_of_masks_counts_the_wrong_rows_of_the_released_order():
    drawn = inside.mask_order()
    texts = ["".join(text.itertext()) for text in ET.fromstring(drawn.svg).iter(f"{SVG}text")]
    wrong = 0
    for row in range(12):                                          # row of caption r // 3, masked as r mod 4
        wrong += (5, 4, 3, 2)[row // 3] != (5, 4, 3, 2)[row % 4]
    assert wrong == 8 and "red: masked wrongly; 8 of 12 rows" in texts
    assert "8 of 12 rows are wrong" in drawn.alt
    assert drawn.svg.count('class="mm-b mm-loss"') == sum(
        (j < (5, 4, 3, 2)[r // 3]) != (j < (5, 4, 3, 2)[r % 4]) for r in range(12) for j in range(5))
    for text in ET.fromstring(drawn.svg).iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= drawn.width <= 480 and 0 < float(text.get("y")) <= drawn.height


def test_with_one_caption_no_row_is_wrong():
    assert "0 of 3 rows are wrong" in inside.mask_order((4,)).alt
