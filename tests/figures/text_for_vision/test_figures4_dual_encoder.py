"""The figures of section 4.2 and of chapter 4's first screen show what the models compute."""

import re

import pytest
import torch
from figure_parts import block_data, check_texts, drawing, frames, texts
from torch.nn.functional import normalize

from mmlearn.data.pairs import class_pictures, scene_pairs
from mmlearn.figures.diagram import text_width
from mmlearn.figures.text_for_vision import dual_encoder as figures
from mmlearn.figures.text_for_vision import labels as answers
from mmlearn.figures.text_for_vision import temperature
from mmlearn.text_for_vision.training import embed_images, embed_texts, load_mini, zero_shot_accuracy


@pytest.fixture(scope="module")
def mini():
    return load_mini("resnet")


@pytest.fixture(scope="module")
def eight(mini):
    pairs = scene_pairs(8, "test")
    said = figures.long_captions(pairs)
    u, v = embed_images(mini.model, pairs.images), embed_texts(mini.model, mini.tokeniser, said)
    return pairs.images, said, u, v


def test_no_text_of_a_diagram_is_cut_off_or_covers_another(eight):
    images, said, u, v = eight
    for drawn in (figures.dual_encoder(), figures.matched(images, said, u @ v.T)):
        assert drawn.width <= 480 and len(drawn.alt) > 200 and "  " not in drawn.alt
        assert drawn.smallest >= 13 and len(drawn._repr_html_()) < 100_000
        check_texts(drawn)


def test_the_diagram_has_a_cell_for_every_pair_and_the_right_ones_are_violet():
    drawn = figures.dual_encoder()
    cells = [t for t in texts(drawn) if re.fullmatch(r"ℓ\d\d", t)]
    assert cells == [f"ℓ{i}{j}" for i in range(1, 5) for j in range(1, 5)]
    assert drawn.svg.count('class="mm-b mm-new"') == 4


def test_the_matrix_says_the_cosines_of_the_miniature_and_its_diagonal_wins(eight):
    images, said, u, v = eight
    cosines = u @ v.T
    drawn = figures.matched(images, said, cosines)
    shown = [t for t in texts(drawn) if re.fullmatch(r"−?\.\d\d", t)]
    assert shown == [figures.short(value) for value in cosines.flatten().tolist()]
    assert figures.own_first(cosines) == (8, 8)                         # as the page says of it
    assert set(said[0].split()) <= set(" ".join(texts(drawn)).split())
    assert [figures.short(x) for x in (0.784, -0.284, -0.001, 1.0)] == [".78", "−.28", ".00", "1.00"]


def test_pictures_and_texts_are_watched_from_the_first_step_to_the_last(eight, mini):
    watch = figures.Watch(mini.tokeniser, scene_pairs(8, "test"), 40, moments=5)
    for step in range(41):
        watch(mini.model, step)
    assert min(watch.seen) == 0 and max(watch.seen) == 40 and len(watch.seen) == 5
    torch.testing.assert_close(watch.seen[40][0], eight[2])
    with pytest.raises(ValueError, match="1 steps and 13 moments"):
        figures.Watch(mini.tokeniser, scene_pairs(8, "test"), 1)


def test_the_player_counts_who_finds_the_partner(eight):
    images, _, u, v = eight
    mixed = v[torch.tensor([1, 0, *range(2, 8)])]                       # two texts in each other's place
    block = figures.matrix_and_map(images, {0: (u, mixed), 10: (u, v)})
    data = block_data(block)
    found = re.findall(r'mm-label">([^<]*)<', "".join(frames(block)) + block._repr_html_())
    rows, columns = figures.own_first(u @ mixed.T)
    assert rows <= 6 and f"step 0: {rows} of 8 pictures find their text, {columns} of 8 texts" in found[0]
    assert any(label.startswith("step 10: 8 of 8") for label in found)
    assert data["under"].count("<image") == 8
    for frame in frames(block):
        check_texts(drawing(frame))


def test_the_map_is_the_plane_of_largest_differences():
    torch.manual_seed(0)
    u, v = (normalize(torch.randn(4, 6), dim=1) for _ in range(2))
    plane = figures.plane_of(u, v)
    torch.testing.assert_close(plane.T @ plane, torch.eye(2), atol=1e-5, rtol=0)
    both = torch.cat([u, v]) - torch.cat([u, v]).mean(0)
    values = torch.linalg.eigvalsh(both.T @ both)
    assert float((both @ plane).square().sum()) == pytest.approx(float(values[-2:].sum()), rel=1e-4)


def test_labels_get_the_probabilities_of_the_zero_shot_classifier(mini):
    pictures = class_pictures(13, "test").images[[4, 3]]
    names = ("lamp", "car")
    lists = {"what?": answers._things(*names)}
    row = answers.answers(mini, pictures, lists)["what?"]
    u = embed_images(mini.model, pictures)
    sentences = [[f"A picture of a {name}.", f"There is a {name}."] for name in names]
    means = [normalize(embed_texts(mini.model, mini.tokeniser, texts).mean(0), dim=0)
             for texts in (list(lists["what?"][name]) for name in names)]
    naive = (mini.model.logit_scale.exp() * u @ torch.stack(means).T).softmax(1)
    torch.testing.assert_close(row, naive.detach(), atol=1e-5, rtol=0)
    assert all(text in lists["what?"][name] for name, few in zip(names, sentences) for text in few)


def test_every_list_can_be_chosen_for_every_picture(mini):
    pictures = class_pictures(13, "test").images[[4, 3, 5]]
    block = answers.choose_labels(mini, pictures)
    data = block_data(block)
    assert data["axes"] == [list(answers.LABELS), ["1", "2", "3"]]
    assert len(data["frames"]) == 3 * len(answers.LABELS)
    for frame in frames(block):
        check_texts(drawing(frame))
    with pytest.raises(ValueError, match="0 pictures"):
        answers.choose_labels(mini, pictures[:0])


def test_places_are_told_as_well_as_the_page_says(mini):
    new = class_pictures(60, "test")
    setting = {"meadow": "field"}
    wanted = [list(answers.LABELS["where?"]).index(setting.get(s.setting, s.setting)) for s in new.scenes]
    given = answers.answers(mini, new.images, {"where?": answers.LABELS["where?"]})["where?"].argmax(1)
    assert given.tolist() == wanted
    assert zero_shot_accuracy(mini.model, mini.tokeniser, new) > 0.95


def test_a_temperature_shows_its_softmax_and_loss(eight):
    images, said, u, v = eight
    block = temperature.temperatures(images[0], said, u @ v.T, taus=(1.0, 0.07))
    for frame, tau in zip(frames(block), (1.0, 0.07)):
        p = ((u @ v.T)[0] / tau).softmax(0)
        assert [t for t in texts(drawing(frame)) if t.endswith("%")] == [f"{x:.1%}" for x in p.tolist()]
        label = re.search(r'mm-label">([^<]*)<', frame)
        assert label is None or f"loss {-p[0].log():.3f}" in label[1]
        check_texts(drawing(frame))


def test_negatives_are_the_nearest_and_share_the_push(eight):
    images, said, u, v = eight
    cosines = u @ v.T
    near = temperature.hardest(cosines, 0, 3)
    row = cosines[0].tolist()
    assert near == sorted(range(1, 8), key=lambda j: -row[j])[:3]
    block = temperature.negatives(images, said, cosines, which=(0,), taus=(1.0, 0.01), count=3)
    for frame, tau in zip(frames(block), (1.0, 0.01)):
        total = sum(torch.tensor(row[j] / tau).exp().item() for j in range(1, 8))
        wanted = [f"{torch.tensor(row[j] / tau).exp().item() / total:.1%}" for j in near]
        assert [t for t in texts(drawing(frame)) if t.endswith("%")] == wanted
        check_texts(drawing(frame))


def test_a_long_text_is_cut_to_its_place():
    text = "A person in a yellow checked shirt is standing left of a green bed indoors."
    assert temperature.cut(text, 1000) == text
    short = temperature.cut(text, 200)
    assert short.endswith("…") and text.startswith(short[:-1]) and text_width(short, 13) <= 200
