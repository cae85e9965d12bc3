"""Cutouts: each change of a picture against the formula and against torchvision, and draws that repeat."""

import math

import pytest
import torch
import torchvision.transforms.functional as TF
from torchvision.transforms import InterpolationMode

from mmlearn.images_for_language.cutouts import (
    CutoutConfig,
    affine_matrix,
    blended,
    cut,
    draw_cuts,
    erased,
    grey,
    homography,
    noise_of,
    noisy,
    pooled,
    recoloured,
    turned_hue,
    warped,
)

CORNERS = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)


def pictures(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:imagine-pool")
def test_a_pixel_of_a_cut_is_half_mean_and_half_maximum():
    x = pictures(1, 1, 6, 6)
    want = torch.empty(1, 1, 3, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            four = x[0, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            want[0, 0, i, j] = (four.sum() / 4 + four.max()) / 2
    torch.testing.assert_close(pooled(x, 3), want)
    torch.testing.assert_close(pooled(x, 6), x)


@pytest.mark.equation("eq:imagine-affine")
@pytest.mark.equation("eq:imagine-warp")
def test_pictures_are_turned_shifted_and_sheared_as_torchvision_does_it():
    x = pictures(2, 3, 12, 12)
    angles, shears, shifts = (20.0, -7.0), ((5.0, -3.0), (-4.0, 8.0)), ((2, -1), (0, 3))
    A = affine_matrix(torch.tensor(angles).double().deg2rad(),
                      torch.tensor(shifts).double() / 6, torch.tensor(shears).double().deg2rad())
    for i in range(2):
        want = TF.affine(x[i], angles[i], list(shifts[i]), 1.0, list(shears[i]), InterpolationMode.BILINEAR)
        torch.testing.assert_close(warped(x[i : i + 1], A[i : i + 1])[0], want, atol=1e-5, rtol=0)


@pytest.mark.equation("eq:imagine-affine")
def test_a_matrix_shears_first_then_turns_then_shifts():
    phi, sx, sy = 0.3, 0.2, -0.1
    A = affine_matrix(torch.tensor([phi]).double(), torch.tensor([[0.5, -0.25]]).double(),
                      torch.tensor([[sx, sy]]).double())[0]
    x, y = 0.7, -0.4
    x1 = x - math.tan(sx) * y
    y1 = y - math.tan(sy) * x1
    want = [math.cos(phi) * x1 - math.sin(phi) * y1 + 0.5, math.sin(phi) * x1 + math.cos(phi) * y1 - 0.25, 1]
    torch.testing.assert_close(A @ torch.tensor([x, y, 1.0]).double(), torch.tensor(want).double())


@pytest.mark.equation("eq:imagine-homography")
@pytest.mark.equation("eq:imagine-warp")
def test_four_corners_go_where_they_are_sent():
    end = CORNERS * (1 - 0.7 * pictures(5, 4, 2))
    H = homography(CORNERS.expand(5, 4, 2), end)
    assert (H[:, 2, 2] == 1).all()
    for i in range(5):
        for corner, want in zip(CORNERS, end[i]):
            found = H[i] @ torch.tensor([*corner, 1.0]).double()
            torch.testing.assert_close(found[:2] / found[2], want)


@pytest.mark.equation("eq:imagine-warp")
def test_a_picture_seen_from_aside_is_torchvisions():
    x = pictures(1, 3, 16, 16)
    before = [[0, 0], [16, 0], [16, 16], [0, 16]]
    after = [[1, 2], [13, 0], [14, 15], [3, 12]]
    H = homography(*(torch.tensor([points]).double() / 8 - 1 for points in (before, after)))
    want = TF.perspective(x[0], before, after, InterpolationMode.BILINEAR)
    torch.testing.assert_close(warped(x, H)[0], want, atol=1e-5, rtol=0)


@pytest.mark.equation("eq:imagine-blend")
@pytest.mark.equation("eq:imagine-grey")
def test_brightness_contrast_and_saturation_are_torchvisions():
    x = pictures(2, 3, 5, 4)
    red, green, blue = x[0, :, 1, 2]
    torch.testing.assert_close(grey(x)[0, 0, 1, 2], 0.2989 * red + 0.587 * green + 0.114 * blue)
    for f in (0.9, 1.3):
        factor = torch.tensor(f).double()
        torch.testing.assert_close(blended(x, 0.0, factor), TF.adjust_brightness(x, f))
        mean = grey(x).mean(dim=(-2, -1), keepdim=True)
        torch.testing.assert_close(blended(x, mean, factor), TF.adjust_contrast(x, f))
        torch.testing.assert_close(blended(x, grey(x), factor), TF.adjust_saturation(x, f))


@pytest.mark.equation("eq:imagine-hue")
def test_the_hue_is_torchvisions_also_of_grey_black_and_pure_colours():
    x = pictures(2, 3, 6, 6).float()
    x[0, :, 0] = torch.tensor([[0.0, 1.0, 0.4, 1.0, 0.0, 0.0], [0.0, 1.0, 0.4, 0.0, 1.0, 0.0],
                               [0.0, 1.0, 0.4, 0.0, 0.0, 1.0]])
    for turn in (-0.3, -0.1, 0.0, 0.07, 0.5):
        torch.testing.assert_close(turned_hue(x, torch.tensor(turn)), TF.adjust_hue(x, turn), atol=1e-5,
                                   rtol=0)
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    torch.testing.assert_close(turned_hue(red, torch.tensor(1 / 3))[:, 0, 0], torch.tensor([0.0, 1.0, 0.0]))


@pytest.mark.equation("eq:imagine-noise")
def test_noise_has_the_deviation_of_its_cut():
    x, eps = pictures(2, 3, 3, 2, 2), torch.randn(2, 3, 2, 2).double()
    got = noisy(x, torch.tensor([0.0, 0.1]).double(), eps)
    for i, scale in enumerate((0.0, 0.1)):
        for j in range(3):
            torch.testing.assert_close(got[i, j], x[i, j] + scale * eps[i])


def test_gradients_pass_through_every_change():
    x = 0.2 + 0.6 * pictures(1, 3, 4, 4)
    A = affine_matrix(torch.tensor([0.2]).double(), torch.tensor([[0.1, 0.0]]).double(),
                      torch.tensor([[0.05, 0.02]]).double())
    factors = torch.tensor([[1.05, 0.95, 1.02, 0.03]]).double()

    def changed(x):
        return recoloured(warped(x, A)[:, None] * 0.8 + 0.1, factors, (3, 0, 2, 1))

    assert torch.autograd.gradcheck(changed, x.requires_grad_())


# ------------------------------------------------------------------------------------------------------- cuts

def test_without_changes_a_cut_is_the_picture():
    x = pictures(2, 3, 8, 8).float()
    cuts = draw_cuts(CutoutConfig.none(), generator())
    assert len(cuts) == 1 and torch.equal(cut(x, cuts)[0], x)


def test_cuts_are_a_function_of_the_generator_and_differ_from_each_other():
    x = pictures(2, 3, 8, 8).float()
    one, same, other = (cut(x, draw_cuts(CutoutConfig(4), generator(seed))) for seed in (0, 0, 1))
    assert torch.equal(one, same) and one.shape == (4, 2, 3, 8, 8) and not torch.equal(one, other)
    assert len({tuple(row.flatten()[:20].tolist()) for row in one}) == 4


def test_few_cuts_at_a_time_are_the_same_cuts():
    x, cuts = pictures(2, 3, 8, 8).float(), draw_cuts(CutoutConfig(5), generator(2))
    parts = list(cuts.split(2))
    assert [len(part) for part in parts] == [2, 2, 1]
    torch.testing.assert_close(torch.cat([cut(x, part) for part in parts]), cut(x, cuts))


def test_a_picture_of_a_batch_is_cut_as_if_it_were_alone():
    x, cuts = pictures(3, 3, 8, 8).float(), draw_cuts(CutoutConfig(4), generator(3))
    torch.testing.assert_close(cut(x, cuts)[:, 1:2], cut(x[1:2], cuts))


def test_what_the_recipe_says_is_what_is_drawn():
    config, g = CutoutConfig.paper(), generator(4)
    drawn = [draw_cuts(config, g) for _ in range(60)]
    colours = torch.cat([c.colours for c in drawn])
    assert 0.9 <= colours[:, :3].min() and colours[:, :3].max() <= 1.1 and colours[:, 3].abs().max() <= 0.1
    for name in ("affine", "perspective"):
        moved = torch.cat([(getattr(c, name) != torch.eye(3)).flatten(1).any(dim=1) for c in drawn])
        assert abs(moved.float().mean() - 0.7) < 0.05
    assert abs(torch.cat([c.coloured for c in drawn]).float().mean() - 0.7) < 0.05
    holes = [c.hole for c in drawn if c.hole is not None]
    assert 0.5 < len(holes) / 60 < 0.9
    for y, x, height, width in holes:
        assert 0.099 <= height * width <= 0.401 and 0 <= y <= 1 - height and 0 <= x <= 1 - width
        assert 0.299 <= height / width <= 3.34
    assert 0 <= min(c.noise.min() for c in drawn) and max(c.noise.max() for c in drawn) <= 0.1
    shifts = torch.cat([c.affine[:, :2, 2] for c in drawn]).abs()
    assert 0.19 < shifts.max() <= 0.2                   # a tenth of a side is a fifth of the way from -1 to 1
    assert len({c.order for c in drawn}) > 10


def test_a_hole_is_black_and_the_same_for_all():
    x = torch.ones(2, 3, 8, 8)
    torn = erased(x, (0.25, 0.5, 0.25, 0.5))
    want = torch.ones(8, 8)
    want[2:4, 4:8] = 0
    assert torch.equal(torn, want.expand_as(x)) and erased(x, None) is x
    assert erased(x, (0.99, 0.99, 0.001, 0.001))[0, 0].eq(0).sum() == 1


def test_noise_is_the_same_wherever_it_is_drawn():
    assert torch.equal(noise_of(7, (3, 2, 2)), noise_of(7, (3, 2, 2)))
    assert not torch.equal(noise_of(7, (3, 2, 2)), noise_of(8, (3, 2, 2)))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="share of CutoutConfig is 1.5, expected from 0 to 1"):
        CutoutConfig(share=1.5)
    with pytest.raises(ValueError, match="cuts of CutoutConfig is 0"):
        CutoutConfig(cuts=0)
    with pytest.raises(ValueError, match="erase is 0.4 to 0.1; give the smaller number first"):
        CutoutConfig(erase=(0.4, 0.1))
    with pytest.raises(ValueError, match="ratio is 2.0 to 3.0.*with 1 in it"):
        CutoutConfig(ratio=(2.0, 3.0))
