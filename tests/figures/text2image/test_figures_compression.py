"""The figures of compression show the sizes of the configurations, and the pictures that they were given."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figure_parts import block_data, check_texts, texts

from mmlearn.figures.interactive import plane
from mmlearn.figures.text2image import compression
from mmlearn.text2image.dalle import DALLEConfig
from mmlearn.text2image.vae import VAE, Autoencoder, VAEConfig
from mmlearn.text2image.vqgan import VQGANConfig
from mmlearn.text2image.vqvae import VQVAEConfig

DIAGRAMS = (compression.two_stages, compression.vae, compression.vqvae, compression.vqgan)
VARIANTS = ((compression.two_stages, DALLEConfig.mini()), (compression.vae, VAEConfig.plane()),
            (compression.vqvae, VQVAEConfig.mini()), (compression.vqgan, VQGANConfig.mini()))
DRAWN = [(draw.__name__, lambda draw=draw: draw()) for draw in DIAGRAMS] + [
    (f"{draw.__name__}-variant", lambda draw=draw, config=config: draw(config)) for draw, config in VARIANTS]


@pytest.mark.parametrize("draw", [draw for _, draw in DRAWN], ids=[name for name, _ in DRAWN])
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(draw):
    drawn = draw()
    assert drawn.width <= 480 and len(drawn.alt) > 200 and "  " not in drawn.alt and "mm-new" in drawn.svg
    assert len(drawn._repr_html_()) < 100_000
    check_texts(drawn)


def test_shapes_on_the_arrows_are_those_of_the_papers():
    assert {"32 × 32 of 8,192", "256 tokens of text", "1,024 codes of the picture",
            "Transformer, 64 layers"} <= set(texts(compression.two_stages()))
    assert {"3 × 32 × 32", "μ, 2", "z, 2"} <= set(texts(compression.vae(VAEConfig.plane())))
    assert {"3 × 1282", "64 × 322", "codebook, 512 × 64", "k, 322"} <= set(texts(compression.vqvae()))
    assert {"256 × 162", "1,024 codes", "each score: 702 pixels"} <= set(texts(compression.vqgan()))


@pytest.mark.parametrize("kind", [VAE, Autoencoder])
def test_the_plane_shows_what_the_model_decodes_at_its_points(kind):
    torch.manual_seed(0)
    model = kind(VAEConfig.plane()).train()
    block = compression.latent_plane(model, torch.rand(5, 3, 32, 32), reach=2, steps=5)
    data = block_data(block)
    assert model.training and len(data["frames"]) == 25 and data["start"] == 12
    assert data["axes"] == [["−2.0", "−1.0", "0.0", "1.0", "2.0"]] * 2
    assert "decoded at z = (−2.0, −1.0)" in data["frames"][1]          # the second number runs fastest
    left, top, right, bottom = data["area"]
    assert 0 < left < right < 0.6 and 0 < top < bottom < 1


def test_a_plane_is_pointed_at_from_the_bottom_up():
    """The red frame of the last point stands at the upper right, where the pointer would be."""
    block = compression.latent_plane(VAE(VAEConfig.plane()), steps=3)
    data = block_data(block)
    places = [[float(n) for n in re.search(r'<rect [^>]*x="([\d.]+)" y="([\d.]+)"', frame).groups()]
              for frame in data["frames"]]
    assert places[0][0] < places[-1][0] and places[0][1] > places[-1][1]
    assert places[0][0] == places[2][0] and places[0][1] == places[6][1]


def test_a_model_with_more_numbers_has_no_plane():
    with pytest.raises(ValueError, match="32 latent numbers; a plane shows 2"):
        compression.latent_plane(VAE(VAEConfig.mini()))


def test_reconstructions_say_their_bits_and_their_error():
    images = torch.zeros(2, 3, 8, 8)
    drawn = {(side, K): torch.full_like(images, 1 / K) for side in (4, 2) for K in (2, 8)}
    data = block_data(compression.reconstructions_over_bits(images, drawn))
    labels = [re.search(r'mm-label">([^<]*)<', frame).group(1) for frame in data["frames"]]
    assert labels == ["4 places × 1 bits = 4 bits, error 0.50", "4 places × 3 bits = 12 bits, error 0.12",
                      "16 places × 1 bits = 16 bits, error 0.50", "16 places × 3 bits = 48 bits, error 0.12"]
    assert data["axes"] == [["4", "2"], ["2", "8"]]
    with pytest.raises(ValueError, match="give all combinations"):
        compression.reconstructions_over_bits(images, {(4, 2): images, (2, 8): images})


def test_a_strip_holds_the_pictures_with_white_between():
    shown = compression.strip(torch.stack([torch.full((3, 4, 4), -1.0), torch.full((3, 4, 4), 0.0)]))
    assert shown.shape == (4, 10, 3)
    np.testing.assert_allclose(shown[:, [0, 4, 6], 0], np.tile([0, 1, 0.5], (4, 1)))


def test_an_edge_at_one_of_four_places_has_a_ramp_as_its_mean_and_an_edge_as_its_median():
    figure = compression.losses_of_an_edge()
    mean, median = (line.get_ydata() for line in figure.axes[0].lines[-2:])
    assert list(mean) == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1] and set(median) == {0.0, 1.0}
    plt.close(figure)


def test_a_plane_refuses_what_cannot_be_pointed_at():
    two = {"a": [1, 2], "b": [1, 2]}
    with pytest.raises(ValueError, match="1 parameters for a plane"):
        plane({"a": [1]}, ["x"], "alt", area=(0, 0, 1, 1))
    with pytest.raises(ValueError, match="growing shares"):
        plane(two, ["x"] * 4, "alt", area=(0.5, 0, 0.5, 1))
