"""The figures of sequential fusion show the sizes of the configurations, and the numbers that they were
given."""

import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figure_parts import block_data, check_texts, texts

from mmlearn.data import word_world
from mmlearn.figures.images_for_language import fusion
from mmlearn.images_for_language.sequential_fusion import fuse_features, unit_rows
from mmlearn.images_for_language.visual_vectors import AlexNetConfig
from mmlearn.images_for_language.visual_words import BagOfVisualWords, VisualWordsConfig, described, sift

DRAWN = {"bruni": fusion.bruni_pipeline, "bruni-mini": lambda: fusion.bruni_pipeline(
    VisualWordsConfig.mini(), 200, 180, 16), "kiela": fusion.kiela_bottou,
    "kiela-torchvision": lambda: fusion.kiela_bottou(AlexNetConfig.torchvision())}


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_of_a_diagram_is_cut_off_or_covers_another(name):
    drawn = DRAWN[name]()
    assert drawn.width <= 480 and len(drawn.alt) > 200 and "mm-new" in drawn.svg
    assert len(drawn._repr_html_()) < 100_000
    check_texts(drawn)


def test_sizes_on_the_diagrams_are_those_of_the_papers():
    assert {"5,000 visual words", "20,525 × 80,000", "20,525 × 30,000", "Fv, 80,000"} <= set(
        texts(fusion.bruni_pipeline()))
    said = texts(fusion.kiela_bottou())
    assert said.count("6,144") == 2 and "1,512 cut" in said and {"96", "256", "384"} <= set(said)


def study(count: int = 3) -> dict:
    shares = [i / (count - 1) for i in range(count)]
    curve = [{"relatedness": share, "visual": 1 - share, "mixed": 0.5, "unseen": None} for share in shares]
    other = [{name: value and value / 2 for name, value in point.items()} for point in curve]
    return {"shares": shares, "curves": {"a": [curve, other], "b": [other, other]}}


def test_the_slider_says_rho_and_the_share_of_the_cosine():
    data = block_data(fusion.rho_over_weight(study(), ("a", "b"), start=0.5))
    assert data["axes"] == [["a", "b"], ["0", "0.5", "1"]] and data["start"] == 4
    assert "relatedness 0.75" in data["frames"][2] and "visual 0.00" in data["frames"][2]
    assert "text 100%" in data["frames"][2] and "pictures 0%" in data["frames"][2]
    assert "text has 50% of the cosine" in data["frames"][1]
    with pytest.raises(ValueError, match="no curve of 'c'"):
        fusion.rho_over_weight(study(), ("c",))


def test_products_are_those_of_the_fused_vectors_at_unit_length():
    draws = torch.Generator().manual_seed(0)
    text, image = (unit_rows(torch.randn(5, n, generator=draws, dtype=torch.float64)) for n in (4, 3))
    fused = unit_rows(fuse_features(text, image, 0.7))
    torch.testing.assert_close(fusion.fused_products(text, image, 0.7), fused @ fused.mT)


def test_the_plane_is_that_of_the_principal_components():
    points = torch.randn(9, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, part = fusion.projected(points @ points.mT)
    U, S, _ = torch.linalg.svd(points - points.mean(dim=0), full_matrices=False)
    torch.testing.assert_close(found.abs(), (U[:, :2] * S[:2]).abs())
    assert part == pytest.approx(float(S[:2].square().sum() / S.square().sum()))


def test_points_are_turned_back_onto_each_other():
    points = torch.randn(6, 2, generator=torch.Generator().manual_seed(2))
    c, s = math.cos(1.0), math.sin(1.0)
    torch.testing.assert_close(fusion.turned(points @ torch.tensor([[c, s], [s, -c]]), points), points)


def test_the_map_has_a_frame_a_weight_and_tells_twins_apart_by_pictures_alone():
    words = [*word_world.PICTURED[:30], "raven", "dove"]
    words = list(dict.fromkeys(words))
    text = unit_rows(torch.rand(len(words), 6, generator=torch.Generator().manual_seed(0)))
    image = unit_rows(torch.rand(len(words), 5, generator=torch.Generator().manual_seed(1)))
    text[words.index("dove")] = text[words.index("raven")]
    data = block_data(fusion.modality_map(words, text, image, (0, 0.5, 1)))
    assert len(data["frames"]) == 3 and data["start"] == 2
    labels = [re.search(r'mm-label">([^<]*)<', f or "").group(1) for f in data["frames"][:2]]
    assert "text has 0%" in labels[0] and "text has 50%" in labels[1]
    assert "raven and dove" in labels[0]
    assert data["frames"][0].count("<circle") == len(words)
    with pytest.raises(ValueError, match="one of each a word"):
        fusion.modality_map(words[1:], text, image)


def test_dots_have_the_colour_of_the_thing():
    assert fusion.colour_of("bird") == fusion.GREY and fusion.colour_of("raven") != fusion.colour_of("dove")


def test_the_steps_of_a_descriptor_end_in_the_descriptor(monkeypatch):
    picture = word_world.word_pictures("raven", 1)[0]
    seen = []
    monkeypatch.setattr(fusion, "limited", lambda x, real=fusion.limited: seen.append(real(x)) or seen[-1])
    data = block_data(fusion.descriptor_steps(picture, 30, 30, 10))
    assert len(data["frames"]) == 6
    value = fusion.rgb_to_hsv(picture[None].float() / 255)[:, 2]
    at = fusion.described(picture[None], VisualWordsConfig(4, 1, 4, (10,)))[1]
    row = int(((at * 64 - 30).abs().sum(dim=1)).argmin())
    assert (at[row] * 64).tolist() == [30, 30]
    want = sift(value, 10, 4).flatten(1, 2)[0, row]
    torch.testing.assert_close(seen[0], want, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="leave the picture of 64"):
        fusion.descriptor_steps(picture, 5, 32, 10)


def test_patches_of_a_visual_word_are_those_nearest_to_it():
    pictures = word_world.word_pictures("castle", 3)
    bag = BagOfVisualWords(VisualWordsConfig(4, 1, 8, (8,)))
    points = described(pictures, bag.config)[0]
    bag.centres.copy_(torch.stack([points[0, 0], points[1, 5], points[2, 7], points[0, 9]]))
    figure = fusion.patches_of_words(bag, pictures, (0, 1), 2)
    assert len([axis for axis in figure.axes if axis.images]) == 4
    plt.close(figure)


def test_the_tables_of_the_mixing_and_the_grid_show_what_they_are_given():
    before = torch.eye(2)
    figure = fusion.mixing_tables(before, before / 2, ["a", "b"], ["c", "d"], 1)
    assert "0.50" in [text.get_text() for text in figure.axes[1].texts]
    plt.close(figure)
    grid = {(rank, share): share for rank in (8, None) for share in (0.0, 1.0)}
    figure = fusion.tuning_grid(grid)
    assert [line.get_label() for line in figure.axes[0].lines] == ["rank 8", "not mixed"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0, 1])
    plt.close(figure)
