"""The figures of GLIDE and its successors: diagrams say all in words, moving ones show what a painter draws,
an untrained one here."""

import math
import re

import pytest
import torch
from figure_parts import check_texts, frames, texts

from mmlearn.data.glide_tokeniser import GLIDETokeniser
from mmlearn.figures.diagram import data_uri
from mmlearn.figures.interactive import LIMIT
from mmlearn.figures.text2image import guidance
from mmlearn.nn.modes import seeded
from mmlearn.text2image.adm import ADMConfig
from mmlearn.text2image.glide import GLIDE, GLIDEConfig, GLIDETextConfig, fitted
from mmlearn.text2image.painting import Painter
from mmlearn.text2image.toy_diffusion import Mixture

TEXTS = ["a red cat", "a blue house at night"]
WORDS = GLIDETokeniser.train(TEXTS, 100, context=6)
FEW = {"steps": 3, "upsampling": 2, "method": "ddim"}


@pytest.fixture(scope="module")
def painter():
    base = fitted(ADMConfig(8, 8, (1, 2), 1, (4,), groups=4, head_channels=8),
                  GLIDETextConfig(len(WORDS), 6, 16, 1, 2))
    up = fitted(ADMConfig(16, 8, (1, 2), 1, (), groups=4, head_channels=8),
                GLIDETextConfig(len(WORDS), 6, 16, 1, 2), 8, "linear")
    with seeded(0):
        made = Painter.of(WORDS, GLIDE(base), GLIDE(up))
        for parameter in made.parameters():                     # a fresh U-Net says 0 to everything
            torch.nn.init.normal_(parameter, std=0.1)
    return made


def shown(pixels):
    """How a picture in [-1, 1] stands in a figure."""
    return data_uri((pixels.float().clamp(-1, 1) + 1) / 2, lossless=False)


@pytest.mark.parametrize("draw", [guidance.glide, guidance.cascade, guidance.unclip,
                                  guidance.latent_diffusion, lambda: guidance.glide(GLIDEConfig.mini())])
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert len(drawn.alt) > 200 and drawn.width <= 480
    check_texts(drawn)


def test_the_u_net_shows_the_sizes_of_its_configuration():
    said = " ".join(texts(guidance.glide(GLIDEConfig.filtered())))
    assert "16 layers, width 512" in said and "192 × 642" in said and "768 × 82" in said
    assert said.count("attention") == 8                                     # 3 down, 3 up, middle, states


def test_what_is_aimed_at_is_the_class_itself_without_guidance_and_everything_at_0():
    world = Mixture.overlapping(gap=0.5, std=0.3)
    assert guidance.aimed_at(world, 1) == pytest.approx((0.25, 0.3), abs=1e-4)
    assert guidance.aimed_at(world, 0) == pytest.approx((0.0, math.sqrt(0.09 + 0.0625)), abs=1e-4)
    means, widths = zip(*(guidance.aimed_at(world, s) for s in (1, 2, 4, 8)))
    assert list(means) == sorted(means) and list(widths) == sorted(widths, reverse=True)


def test_the_density_aimed_at_is_that_of_the_formula():
    world = Mixture.overlapping()
    x, density = guidance.aimed_density(world, 3, points=801)
    own = torch.exp(-0.5 * ((x - 0.25) / 0.3) ** 2)
    other = torch.exp(-0.5 * ((x + 0.25) / 0.3) ** 2)
    want = own**3 * (own + other) ** -2
    want /= want.sum() * (x[1] - x[0])
    torch.testing.assert_close(density, want)


def test_guided_points_are_surer_narrower_and_overshoot():
    world = Mixture.overlapping()
    plain, far = (guidance.guided_points(world, s, 800, 40) for s in (1, 5))
    assert world.log_classes(far)[:, 1].exp().mean() > world.log_classes(plain)[:, 1].exp().mean() + 0.1
    assert far[:, 0].std() < plain[:, 0].std() and far[:, 0].mean() > guidance.aimed_at(world, 5)[0]


def test_the_slider_in_the_plane_has_a_frame_a_scale():
    block = guidance.guidance_in_the_plane((0, 1, 4), 40, 8)
    assert len(frames(block)) == 3 and '["0","1","4"]' in block.html and len(block.html) < LIMIT
    assert all(re.search(r"aimed at −?\d\.\d\d", frame) for frame in frames(block))


def test_the_chain_ends_in_the_picture_that_the_painter_draws(painter):
    chain, drawn = guidance.reverse_chain(painter, TEXTS[0], 2, 5, 3, upsampling=2)
    torch.testing.assert_close(drawn, painter.draw([TEXTS[0]], 2, 5, **FEW))
    assert [step.t for step in chain][-1] == -1 and len(chain) == 4
    alone = Painter.of(WORDS, painter.base)
    chain, drawn = guidance.reverse_chain(alone, TEXTS[0], 2, 5, 3)
    torch.testing.assert_close(drawn, chain[-1].x)


def test_the_player_shows_the_chain_and_then_what_is_drawn(painter):
    block = guidance.denoising_player(painter, TEXTS[1], 2, 5, frames=4, steps=6, upsampling=2)
    chain, drawn = guidance.reverse_chain(painter, TEXTS[1], 2, 5, 6, upsampling=2)
    seen = frames(block)
    assert len(seen) == 4 and len(block.html) < LIMIT and TEXTS[1] in block.html
    assert shown(chain[0].x[0]) in seen[0] and shown(chain[5].x0[1]) in seen[2]
    assert all(shown(pixels) in seen[3] for pixels in drawn) and "enlarged to 16" in seen[3]
    short = guidance.denoising_player(painter, TEXTS[1], 1, frames=12, steps=2, upsampling=1)
    assert len(frames(short)) == 3                                          # no moment twice


def test_the_slider_shows_every_sentence_at_every_scale_from_the_same_noise(painter):
    block = guidance.guidance_slider(painter, TEXTS, (1, 4), 2, 3, ["off", "on"], **FEW)
    for frame, scale, note in zip(frames(block), (1, 4), ("off", "on")):
        pictures = painter.draw(TEXTS, 2, 3, guidance=scale, **FEW)
        assert all(shown(pixels) in frame for pixels in pictures) and note in frame
    assert '["1","4"]' in block.html and all(text in block.html for text in TEXTS)


def test_a_hole_is_filled_for_each_sentence_and_nothing_else_changes(painter):
    picture = torch.linspace(-1, 1, 3 * 16 * 16).reshape(3, 16, 16)
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[:, 8:] = True
    block = guidance.inpainting_slider(painter, picture, hole, TEXTS, 2, **FEW)
    for frame, text in zip(frames(block), TEXTS):
        assert text in frame and "known pixel: 0" in frame
        assert all(shown(pixels) in frame for pixels in painter.edit(picture, hole, text, 2, **FEW))


def test_what_does_not_fit_is_refused(painter):
    with pytest.raises(ValueError, match="1 notes for 2 scales"):
        guidance.guidance_slider(painter, TEXTS, (1, 2), notes=["one"])
    with pytest.raises(ValueError, match="needs 2 at least"):
        guidance.denoising_player(painter, TEXTS[0], frames=1)
