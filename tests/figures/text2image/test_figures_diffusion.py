"""The figures of diffusion show the chains, samplers and sizes that they were given."""

import re

import matplotlib.pyplot as plt
import pytest
import torch
from figure_parts import block_data, check_texts, texts

from mmlearn.figures.text2image import diffusion
from mmlearn.figures.text2image.diffusion import SAMPLERS, at_blobs, drawn_by, path_ends, path_error
from mmlearn.text2image.adm import ADMConfig
from mmlearn.text2image.ddpm import DDPMConfig
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.toy_diffusion import Mixture, MixtureDenoiser

RING = Mixture.ring(radius=1.4, std=0.15)
SHORT = NoiseSchedule.linear(100)
PERFECT = MixtureDenoiser(RING, SHORT)
DRAWN = {"chain": diffusion.chain, "cifar10": diffusion.unet,
         "adm64": lambda: diffusion.unet(ADMConfig.imagenet64()), "mini": lambda: diffusion.unet(
             DDPMConfig.mini())}


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_of_a_diagram_of_diffusion_is_cut_off_or_covers_another(name):
    drawn = DRAWN[name]()
    assert drawn.width <= 480 and len(drawn.alt) > 100
    check_texts(drawn)


def test_the_u_net_shows_the_sizes_of_its_configuration():
    words = texts(diffusion.unet())
    for size in ("128 × 32 × 32", "256 × 16 × 16", "256 × 8 × 8"):
        assert words.count(size) == 2
    assert words.count("256 × 4 × 4") == 3                      # down, middle, up
    assert words.count("2 × (residual, attention)") == 1 and words.count("3 maps") == 4
    assert "e: 512 numbers" in words


def test_the_noised_scene_ends_without_its_picture():
    data = block_data(diffusion.noised_scene(frames=3))
    assert len(data["frames"]) == 3 and "t = 1000 of 1000" in data["frames"][2]
    assert "picture √ᾱt = 0.006" in re.sub(r"<[^>]*>", "", data["frames"][2]).replace("α̅", "ᾱ").replace(
        "α\u0304", "ᾱ")


def test_both_chains_are_told_by_their_own_steps_and_keep_their_colours():
    data = block_data(diffusion.two_chains(PERFECT, RING, n=40, frames=5))
    labels = [re.search(r"forward t = (\d+) · reverse t = (\d+)", frame) for frame in data["frames"][1:]]
    assert [tuple(map(int, found.groups())) for found in labels] == [(25, 75), (50, 50), (75, 25), (100, 0)]
    assert {"mm-image", "mm-text", "mm-new", "mm-block"} <= set(re.findall(r"mm-\w+", data["frames"][4]))


def test_samplers_use_as_many_calls_as_they_say():
    calls = []

    class Counting(MixtureDenoiser):
        def __call__(self, x, t, labels=None):
            calls.append(len(x))
            return super().__call__(x, t, labels)

    for name in [*SAMPLERS, "Heun, even in λ"]:
        calls.clear()
        points = drawn_by(name, Counting(RING, NoiseSchedule.linear()), 9, n=3)
        assert len(calls) == 9 and points.shape == (3, 2)


def test_points_at_blobs_are_those_within_three_deviations():
    points = RING.means[:4] + torch.tensor([[0.0, 0.0], [0.44, 0.0], [0.0, -0.46], [5.0, 0.0]])
    assert at_blobs(points, RING) == 0.5


def test_more_calls_end_nearer_to_the_exact_path():
    ends = path_ends(PERFECT, n=50)
    few, many = (path_error("DPM-Solver++, even in λ", PERFECT, calls, ends) for calls in (8, 40))
    assert many < few / 3


def test_the_slider_over_calls_names_every_sampler_and_its_share():
    block = diffusion.sampler_slider(PERFECT, RING, counts=(4, 12), n=20)
    frame = block_data(block)["frames"][0]
    assert all(f"{name}: " in frame for name in SAMPLERS) and frame.count("at blobs</text>") == len(SAMPLERS)


def test_pictures_over_steps_have_a_row_for_each_sampler():
    pictures = [torch.rand(2, 3, 8, 8) * 2 - 1 for _ in range(3)]
    block = diffusion.pictures_over_steps({"a": pictures, "b": pictures}, (5, 10, 20), "a red bird")
    data = block_data(block)
    assert data["frames"][0].count("<image") == 4 and "in 5 steps by a, b" in data["frames"][0]
    with pytest.raises(ValueError, match="give one each"):
        diffusion.pictures_over_steps({"a": pictures}, (5, 10), "a red bird")


def test_plots_of_diffusion_have_named_axes_and_a_line_for_each_name():
    lines = {"a": [1.0, 2.0], "b": [2.0, 1.0]}
    plots = [diffusion.weights_over_time(SHORT), diffusion.terms_over_time(lines, [0, 9]),
             diffusion.errors_over_calls(lines, (5, 10)),
             diffusion.schedules_over_time({"linear": SHORT, "cosine": NoiseSchedule.cosine(100)})]
    for figure in plots:
        for axis in figure.axes:
            assert axis.get_xlabel() and axis.get_ylabel() and len(axis.lines) >= 2
        plt.close(figure)
    figure = diffusion.paths_on_a_line({"one": ([0.0, 1.0], torch.zeros(2, 3))},
                                       lambda x, s: torch.ones_like(x))
    assert len(figure.axes[0].lines) == 3 and figure.axes[0].images
    plt.close(figure)


def test_perfect_answers_are_the_picture_itself_where_there_is_little_noise():
    stored = torch.rand(3, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    memory = Mixture(torch.full((3,), 1 / 3, dtype=torch.float64), stored, torch.zeros(3), torch.arange(3))
    figure = diffusion.perfect_answers(MixtureDenoiser(memory, SHORT), stored[0].unflatten(0, (3, 2, 2)),
                                       timesteps=(1, 99))
    sharp = torch.as_tensor(figure.axes[1].images[0].get_array())          # row 2, column 1 of 2 x 2 axes
    pictures = [axis.images[0].get_array() for axis in figure.axes]
    want = ((stored[0].unflatten(0, (3, 2, 2)) + 1) / 2).permute(1, 2, 0)
    assert len(pictures) == 4 and sharp.shape == want.shape
    torch.testing.assert_close(torch.as_tensor(pictures[2]), want, atol=1e-3, rtol=0)
    plt.close(figure)
