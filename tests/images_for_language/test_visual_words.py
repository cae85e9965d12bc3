"""Bag of visual words: descriptors by loops and by scikit-image, k-means as scikit-learn's, words as sums."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmlearn.images_for_language import visual_words
from mmlearn.images_for_language.visual_words import (
    BagOfVisualWords,
    VisualWordsConfig,
    binned,
    cell_weights,
    described,
    direction_maps,
    grid,
    k_means,
    limited,
    lloyd_step,
    random_start,
    rgb_to_hsv,
    sift,
    stacked,
    word_sum,
)


def picture(*shape, seed=0):
    """Smooth numbers in [0, 1], as a picture has."""
    x = torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for axis in (-1, -2):
        for _ in range(3):
            x = (x + x.roll(1, axis) + x.roll(-1, axis)) / 3
    return (x - x.min()) / (x.max() - x.min())


def pictures(count, size=40, seed=0):
    return (picture(count, 3, size, size, seed=seed) * 255).to(torch.uint8)


TINY = VisualWordsConfig(words=5, bins=2, step=6, radii=(6, 8))


@pytest.mark.equation("eq:bovw-hsv")
def test_hue_saturation_and_value_are_those_of_matplotlib():
    from matplotlib.colors import rgb_to_hsv as theirs

    x = torch.rand(2, 3, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[0, :, 0] = 0.3                                            # grey
    x[0, :, 1] = 0                                              # black
    x[1, :, 2, :] = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)[:, None]     # two largest channels
    want = theirs(x.movedim(1, -1).numpy())
    np.testing.assert_allclose(rgb_to_hsv(x).movedim(1, -1).numpy(), want, atol=1e-12)


@pytest.mark.equation("eq:bovw-directions")
def test_each_gradient_is_shared_by_the_two_nearest_directions():
    x = picture(1, 6, 5)
    maps = direction_maps(x)
    down, right = np.gradient(x[0].numpy())
    for i in range(6):
        for j in range(5):
            length, angle = math.hypot(down[i, j], right[i, j]), math.atan2(down[i, j], right[i, j])
            for o in range(8):
                apart = abs((angle - 2 * math.pi * o / 8 + math.pi) % (2 * math.pi) - math.pi)
                want = length * max(0.0, 1 - 8 / (2 * math.pi) * apart)
                assert float(maps[0, o, i, j]) == pytest.approx(want, abs=1e-12)
    torch.testing.assert_close(maps.sum(dim=1)[0], torch.tensor(np.hypot(down, right)))


@pytest.mark.equation("eq:bovw-cells")
@pytest.mark.parametrize("radius", [5, 8, 15])
def test_a_pixel_gives_to_the_cells_beside_it(radius):
    weights, reach = cell_weights(radius), 5 * radius // 4
    assert weights.shape == (4, 2 * reach + 1)
    for i in range(4):
        for x in range(-reach, reach + 1):
            share = max(0.0, 1 - abs(x - radius / 2 * (i - 1.5)) / (radius / 2))
            want = share * math.exp(-x * x / (2 * radius**2))
            assert float(weights[i, x + reach]) == pytest.approx(want, abs=1e-12)
    assert float(cell_weights(radius)[0].max()) == pytest.approx(float(cell_weights(radius)[3].max()))


@pytest.mark.equation("eq:bovw-limit")
def test_no_number_of_a_descriptor_outweighs_the_rest():
    x = torch.tensor([[9.0, 1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    unit = x[0] / x[0].norm()
    cut = torch.minimum(unit, torch.tensor(0.2, dtype=torch.float64))
    torch.testing.assert_close(limited(x)[0], cut / cut.norm())
    assert not limited(x)[1].any()


def test_a_descriptor_is_a_sum_over_pixels_cells_and_directions():
    x, radius, step = picture(1, 26, 30), 7, 5
    found = sift(x, radius, step)
    rows, columns = grid(26, radius, step), grid(30, radius, step)
    assert found.shape == (1, len(rows), len(columns), 128)
    down, right = np.gradient(x[0].numpy())
    for a, b in ((0, 0), (1, 2), (len(rows) - 1, len(columns) - 1)):
        r, c = int(rows[a]), int(columns[b])
        want = np.zeros((4, 4, 8))
        for y in range(26):
            for z in range(30):
                length, angle = math.hypot(down[y, z], right[y, z]), math.atan2(down[y, z], right[y, z])
                window = math.exp(-((y - r) ** 2 + (z - c) ** 2) / (2 * radius**2))
                for i in range(4):
                    for j in range(4):
                        near = (max(0.0, 1 - abs(y - r - radius / 2 * (i - 1.5)) / (radius / 2))
                                * max(0.0, 1 - abs(z - c - radius / 2 * (j - 1.5)) / (radius / 2)))
                        for o in range(8 if near else 0):
                            apart = abs((angle - math.pi * o / 4 + math.pi) % (2 * math.pi) - math.pi)
                            want[i, j, o] += length * window * near * max(0.0, 1 - 4 / math.pi * apart)
        unit = want.reshape(-1) / np.linalg.norm(want)
        unit = np.minimum(unit, 0.2)
        np.testing.assert_allclose(found[0, a, b].numpy(), unit / np.linalg.norm(unit), atol=1e-9)


@pytest.mark.parity
def test_descriptors_are_those_of_scikit_image_at_upright_keypoints():
    """Its bins turn the other way from the column, and its numbers are whole, up to 512 times ours."""
    from skimage.feature import SIFT

    x, radius, step = picture(1, 60, 64), 10, 7
    rows, columns = grid(60, radius, step), grid(64, radius, step)
    points = torch.cartesian_prod(rows, columns).numpy().astype(float)
    peer = SIFT(upsampling=1)
    peer.float_dtype = np.float64
    peer.octaves = peer.scales = np.zeros(len(points), dtype=int)
    peer.positions, peer.orientations = points, np.zeros(len(points))
    peer.sigmas = np.full(len(points), radius / peer.lambda_descr)
    gradient = [g[..., None] for g in np.gradient(x[0].numpy())]
    peer._compute_descriptor([gradient])
    inside = ((points >= 2 * radius) & (points <= np.array([60, 64]) - 2 * radius)).all(axis=1)
    theirs = peer.descriptors.reshape(-1, 4, 4, 8)[inside].astype(float) / 512
    turned = [(2 - o) % 8 for o in range(8)]
    ours = sift(x, radius, step)[0].flatten(0, 1).view(-1, 4, 4, 8).numpy()[inside]
    assert inside.sum() >= 4
    assert np.abs(ours - theirs[..., turned]).max() < 1.01 / 512


def test_a_brighter_picture_has_the_same_descriptors_and_a_flat_one_has_none():
    x = picture(1, 30, 30)
    torch.testing.assert_close(sift(0.2 + 0.5 * x, 8, 4), sift(x, 8, 4), atol=1e-9, rtol=0)
    assert not sift(torch.full((1, 30, 30), 0.7), 8, 4).any()


def test_points_of_a_grid_keep_their_patches_within_the_picture():
    points = grid(64, 10, 5)
    assert int(points[0]) >= 10 and int(points[-1]) <= 54 and bool((points.diff() == 5).all())
    assert int(points[0]) - 0 in (64 - int(points[-1]), 64 - int(points[-1]) - 1)
    assert grid(20, 10, 5).tolist() == [10]
    with pytest.raises(ValueError, match="radius 10 needs 20 pixels, the picture has 19"):
        grid(19, 10, 5)


def test_descriptors_of_a_batch_are_those_of_each_picture_alone():
    images = pictures(3)
    together, places = described(images, TINY)
    alone = torch.cat([described(image[None], TINY)[0] for image in images])
    torch.testing.assert_close(together, alone)
    assert together.shape == (3, len(places), 128) and 0 <= float(places.min()) < float(places.max()) < 1
    wide = VisualWordsConfig(words=5, bins=2, step=6, radii=(6, 8), colour="concatenate")
    each = described(images, wide)[0]
    assert each.shape[-1] == wide.width == 384
    torch.testing.assert_close(each.unflatten(2, (3, 128)).mean(dim=2), together)


# -------------------------------------------------------------------------------------------------- k-means

@pytest.mark.equation("eq:bovw-lloyd")
def test_a_step_of_lloyd_equals_two_loops_and_never_loses():
    x = torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    centres = x[:4].clone()
    before = math.inf
    for _ in range(5):
        moved, nearest = lloyd_step(x, centres)
        for i, point in enumerate(x):
            assert int(nearest[i]) == min(range(4), key=lambda j: float((point - centres[j]).norm()))
        for j in range(4):
            mine = torch.stack([point for point, a in zip(x, nearest) if a == j])
            torch.testing.assert_close(moved[j], mine.mean(dim=0))
        now = float((x - centres[nearest]).square().sum())
        assert now <= before
        before, centres = now, moved


@pytest.mark.parity
@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_centres_are_those_of_scikit_learn_from_the_same_start(tolerance):
    from sklearn.cluster import KMeans

    generator = torch.Generator().manual_seed(3)
    x = torch.randn(400, 6, dtype=torch.float64, generator=generator)
    x[:, 0] += torch.arange(400) % 5 * 2.0
    start = random_start(x, 7, generator)
    peer = KMeans(7, init=start.numpy(), n_init=1, algorithm="lloyd", tol=tolerance).fit(x.numpy())
    centres, nearest = k_means(x, start, tolerance=tolerance)
    np.testing.assert_allclose(centres.numpy(), peer.cluster_centers_, atol=1e-9)
    assert nearest.tolist() == peer.labels_.tolist()


def test_a_centre_without_points_takes_the_furthest():
    x = torch.tensor([[0.0], [1.0], [2.0], [30.0]])
    centres, nearest = k_means(x, torch.tensor([[1.0], [1000.0]]))
    assert centres.flatten().tolist() == [1.0, 30.0] and nearest.tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match="4 points for 5 centres"):
        k_means(x, torch.zeros(5, 1))
    with pytest.raises(ValueError, match="4 points for 5 centres"):
        random_start(x, 5, torch.Generator())


# ---------------------------------------------------------------------------------------------------- words

@pytest.mark.equation("eq:bovw-histogram")
def test_a_histogram_counts_the_visual_words_of_each_part_of_the_picture():
    nearest = torch.tensor([[0, 2, 1, 2, 2], [1, 1, 1, 0, 2]])
    places = torch.tensor([[0.1, 0.2], [0.4, 0.9], [0.6, 0.1], [0.7, 0.99], [0.99, 0.5]])
    found = binned(nearest, places, words=3, bins=2)
    for b in range(2):
        want = torch.zeros(2, 2, 3)
        for word, (r, c) in zip(nearest[b].tolist(), places.tolist()):
            want[math.floor(2 * r), math.floor(2 * c), word] += 1
        assert torch.equal(found[b], want.flatten())


@pytest.mark.equation("eq:bovw-sum")
def test_a_word_is_the_sum_of_its_pictures():
    images = pictures(5)
    bag = BagOfVisualWords(TINY).learn(images, torch.Generator().manual_seed(0))
    counts = bag(images)
    table = bag.of_words([images[:2], images[2:]])
    want = [sum((counts[i] for i in which), torch.zeros(TINY.columns)) for which in ((0, 1), (2, 3, 4))]
    assert torch.equal(table, torch.stack(want)) and torch.equal(word_sum(counts[:2]), want[0])
    points = described(images, TINY)[0].shape[1]
    assert table.sum(dim=1).tolist() == [2 * points, 3 * points]
    sparse = stacked(iter(counts), dense=10)
    assert sparse.is_sparse and torch.equal(sparse.to_dense(), counts)


def test_a_picture_alone_is_counted_as_in_a_batch(monkeypatch):
    images = pictures(5)
    bag = BagOfVisualWords(TINY).learn(images, torch.Generator().manual_seed(0))
    whole = bag(images)
    monkeypatch.setattr(visual_words, "PICTURES", 2)
    assert torch.equal(bag(images), whole)
    assert torch.equal(torch.cat([bag(image[None]) for image in images]), whole)


def test_visual_words_depend_on_the_seed_alone_and_are_kept_with_the_model():
    images = pictures(4)
    first, second, third = (
        BagOfVisualWords(TINY).learn(images, torch.Generator().manual_seed(seed), sample=60)
        for seed in (0, 0, 1))
    assert torch.equal(first.centres, second.centres) and not torch.equal(first.centres, third.centres)
    other = BagOfVisualWords(TINY)
    other.load_state_dict(first.state_dict())
    assert torch.equal(other(images), first(images))


def test_pictures_of_one_pattern_have_its_visual_words():
    """Stripes that run across and stripes that run down fall into different words."""
    stripes = (torch.arange(40) // 4 % 2 * 255).to(torch.uint8)
    across = stripes[:, None].expand(3, 40, 40).clone()[None]
    down = stripes[None].expand(3, 40, 40).clone()[None]
    config = VisualWordsConfig(words=2, bins=1, step=8, radii=(8,))
    a, b = BagOfVisualWords(config).learn(torch.cat([across, down]), torch.Generator().manual_seed(1))(
        torch.cat([across, down]))
    assert float(a @ b) == 0


def test_sizes_of_the_paper():
    config = VisualWordsConfig.bruni()
    assert (config.words, config.columns, config.width, config.step, config.radii) == (
        5000, 80_000, 128, 5, (10, 15, 20, 25))
    assert VisualWordsConfig.mini().columns == 200


def test_p3_a_descriptor_in_colour_has_128_numbers_or_three_times_as_many():
    """The paper averages hue, saturation and value to 128 numbers in one paragraph, and clusters 3 x 128 in
    another."""
    bruni = VisualWordsConfig.bruni()
    assert bruni.colour == "average" and bruni.width == 128
    assert replace(bruni, colour="concatenate").width == 3 * 128


def test_booklet_b3_the_visual_matrix_is_not_square():
    """20,525 words with pictures, and 80,000 columns: each of 5,000 visual words in 16 parts of a picture."""
    assert VisualWordsConfig.bruni().columns == 5000 * 16 == 80_000 != 20_525


def test_what_cannot_be_described_is_refused():
    with pytest.raises(ValueError, match="colour is 'rgb'; use one of average, concatenate"):
        VisualWordsConfig(colour="rgb")
    with pytest.raises(ValueError, match="radii are empty"):
        VisualWordsConfig(radii=())
    with pytest.raises(ValueError, match="not learnt yet"):
        BagOfVisualWords(TINY)(pictures(1))
    with pytest.raises(ValueError, match="there are no words"):
        BagOfVisualWords(TINY).of_words([])
