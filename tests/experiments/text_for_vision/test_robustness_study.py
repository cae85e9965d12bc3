"""The worlds of the studies are what they are called, and the study measures what it says."""

import pytest
import torch

from mmlearn.data.pairs import pixels
from mmlearn.data.scenes import CATEGORY, render
from mmlearn.experiments.text_for_vision.objects import (
    captioned,
    first,
    label_accuracy,
    object_scene,
    objects,
    prompt_tokeniser,
    shuffled_captions,
    train_encoder,
    train_labels,
)
from mmlearn.experiments.text_for_vision.robustness import (
    ARMS,
    GROUPS,
    NEW_STYLES,
    SAME,
    SHIFTS,
    WEB_STYLES,
    Scale,
    adapted,
    beyond,
    broad_world,
    by_group,
    four_arms,
    judge,
    narrow_world,
    reference_models,
    shifted_sets,
)
from mmlearn.metrics.robustness import effective_robustness, fit_line
from mmlearn.text_for_vision.small_encoder import ConvTower, LabelClassifier, StudyConfig, StudyEncoder
from mmlearn.text_for_vision.training import embed_images, zero_shot_accuracy

TINY = (4, 8, 8, 8)
SMALL = Scale(train=24, test=8, steps=2, batch=8)


@pytest.fixture(scope="module")
def tests():
    return shifted_sets(8)


# ---- worlds ------------------------------------------------------------------------------------------------

def test_things_stand_where_the_world_says():
    for i in range(60):
        usual, elsewhere = object_scene(5, i), object_scene(5, i, "elsewhere")
        assert len(usual.objects) == 1 and usual.setting == CATEGORY[usual.objects[0].category].settings[0]
        assert elsewhere.setting in CATEGORY[elsewhere.objects[0].category].settings[1:]
        assert object_scene(5, i) == usual
    assert {object_scene(5, i, "any", ("cat",)).setting for i in range(40)} == set(CATEGORY["cat"].settings)
    with pytest.raises(ValueError, match="places is 'nowhere'"):
        object_scene(0, 0, "nowhere")


def test_pictures_take_the_styles_in_turn_and_keep_their_labels():
    pictures = objects(6, 4, styles=("normal", "sketch", "grey"))
    for i, style in enumerate(("normal", "sketch", "grey") * 2):
        assert torch.equal(
            pictures.images[i], torch.from_numpy(render(pictures.scenes[i], 32, style).image).permute(2, 0, 1)
        )
        assert pictures.classes[pictures.labels[i]] == pictures.scenes[i].objects[0].category
    with pytest.raises(ValueError, match="'cubist'"):
        objects(2, styles=("cubist",))


def test_the_broad_world_is_half_normal_and_half_web_styles():
    pictures = broad_world(16)
    normal = objects(16, 3, places="any")
    same = [torch.equal(a, b) for a, b in zip(pictures.images, normal.images)]
    assert same == ([True] * 4 + [False] * 4) * 2 and pictures.scenes == normal.scenes


def test_the_first_pictures_of_a_world_are_a_smaller_world():
    assert torch.equal(first(narrow_world(12), 5).images, narrow_world(5).images)
    assert first(narrow_world(12), 5).scenes == narrow_world(5).scenes


def test_shifts_show_the_same_things_drawn_otherwise(tests):
    assert set(tests) == {SAME, *SHIFTS} and not set(WEB_STYLES) & set(NEW_STYLES)
    assert {name for names in GROUPS.values() for name in names} == set(SHIFTS) - {"re-sampled"}
    for style in (*WEB_STYLES, *NEW_STYLES):
        assert tests[style].scenes == tests[SAME].scenes and not torch.equal(
            tests[style].images, tests[SAME].images
        )
    assert tests["re-sampled"].scenes != tests[SAME].scenes
    assert not set(tests[SAME].scenes) & set(narrow_world(24).scenes)
    assert list(shifted_sets(8, ("grey", SAME))) == ["grey", SAME]
    with pytest.raises(ValueError, match="shift 'cubist' is unknown"):
        shifted_sets(8, ("cubist",))


def test_exactly_the_share_of_captions_is_wrong_and_no_caption_is_lost():
    data = captioned(objects(20, 3, places="any"))
    noisy = shuffled_captions(data, 0.4)
    assert sum(a is not b for a, b in zip(data.captions, noisy.captions)) == 8
    assert sorted(data.captions) == sorted(noisy.captions) and torch.equal(data.images, noisy.images)
    assert shuffled_captions(data, 0).captions == data.captions
    with pytest.raises(ValueError, match="share is 1.5"):
        shuffled_captions(data, 1.5)


# ---- models ------------------------------------------------------------------------------------------------

def test_the_small_dual_encoder_has_the_methods_of_clip():
    model = StudyEncoder(StudyConfig(20, TINY, 16, width=16, layers=1)).eval()
    images, tokens = torch.rand(3, 3, 32, 32), torch.tensor([[4, 5, 3], [6, 3, 1]])
    u, v, scale = model(images, tokens)
    assert (
        u.shape == (3, 16)
        and v.shape == (2, 16)
        and float(scale.detach()) == pytest.approx(1 / 0.07, rel=1e-5)
    )
    torch.testing.assert_close(u.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(model.encode_text(tokens[1:, :2], True), v[1:])  # padding changes nothing
    torch.testing.assert_close(model.encode_image(images[:1], True), u[:1])  # nor does the rest of the batch
    (u @ v.T * scale).sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in model.parameters())


def test_the_tower_is_a_maximum_over_places():
    tower = ConvTower(StudyConfig(20, TINY, 16)).eval()
    images = torch.rand(2, 3, 32, 32)
    cells = tower.trunk(images)
    want = torch.stack([torch.stack([max(cells[i, p, c] for p in range(cells.shape[1])) for c in range(8)])
                        for i in range(2)])
    torch.testing.assert_close(tower.features(images), want)
    torch.testing.assert_close(tower(images), want @ tower.projection.weight.T)


def test_a_classifier_and_a_dual_encoder_learn_a_handful_of_pictures():
    few = objects(12, 3, places="any")
    model, history = train_labels(few, steps=40, batch=12, lr=5e-3, channels=(8, 16, 16, 16))
    assert label_accuracy(model, few) == 1.0 and history.loss[-1] < history.loss[0]
    tokeniser = prompt_tokeniser(captioned(few))
    encoder, history = train_encoder(captioned(few), tokeniser, steps=60, batch=12, lr=5e-3,
                                     channels=(8, 16, 16, 16))
    assert history.loss[-1] < 0.5 * history.loss[0] and zero_shot_accuracy(encoder, tokeniser, few) > 0.5


def test_training_is_a_function_of_the_seed():
    few = objects(12, 3, places="any")
    a, b, c = (train_labels(few, steps=2, batch=8, seed=seed, channels=TINY)[1].loss for seed in (0, 0, 1))
    assert a == b and a != c


# ---- the study ---------------------------------------------------------------------------------------------

def test_accuracies_stay_off_nought_and_one():
    few = objects(8, 1)
    assert judge(lambda p: 1.0, {"x": few}) == {"x": round(8.5 / 9, 4)} and judge(
        lambda p: 0.0, {"x": few}
    ) == {"x": round(0.5 / 9, 4)}


def test_label_accuracy_is_that_of_the_largest_logit():
    few = objects(12, 3, places="any")
    torch.manual_seed(0)
    model = LabelClassifier(StudyConfig(20, TINY, 16), len(few.classes)).eval()
    right = [int(model(pixels(few.images[i:i + 1])).argmax()) == int(few.labels[i]) for i in range(12)]
    assert label_accuracy(model, few) == pytest.approx(sum(right) / 12)


def test_effective_robustness_is_measured_against_the_reference_line_of_each_shift():
    reference = [{SAME: a, "sketch": s, "grey": g} for a, s,
                 g in ((0.5, 0.1, 0.4), (0.7, 0.2, 0.6), (0.9, 0.3, 0.9))]
    found = beyond([{SAME: 0.8, "sketch": 0.7, "grey": 0.5}], reference)
    for name in ("sketch", "grey"):
        line = fit_line(torch.tensor([0.5, 0.7, 0.9]).double(),
                        torch.tensor([row[name] for row in reference]).double())
        want = effective_robustness(torch.tensor([0.8]).double(),
                                    torch.tensor([{"sketch": 0.7, "grey": 0.5}[name]]).double(), line)
        torch.testing.assert_close(found[name], want)
    assert set(found) == {"sketch", "grey"} and float(found["sketch"]) > 0.3 > float(found["grey"])


def test_groups_are_means_over_models_and_shifts():
    robustness = {name: torch.tensor([float(i), float(i) + 2]) for i, name in enumerate(SHIFTS)}
    for group, names in GROUPS.items():
        assert by_group(robustness)[group] == pytest.approx(
            sum(SHIFTS.index(n) + 1 for n in names) / len(names)
        )


def test_the_probe_reads_frozen_features(tests):
    torch.manual_seed(0)
    encoder = StudyEncoder(StudyConfig(20, TINY, 16, width=16, layers=1))
    before = embed_images(encoder, tests[SAME].images)
    accuracy = adapted(encoder.image, narrow_world(24), {SAME: tests[SAME]})
    assert 0 < accuracy[SAME] < 1 and torch.equal(embed_images(encoder, tests[SAME].images), before)


@pytest.mark.slow
def test_the_study_compares_all_arms_on_all_shifts(tests):
    reference = reference_models(tests, SMALL, (12, 24, 48), (TINY,))
    assert [model["images"] for model in reference] == [12, 24]                 # no more than there are
    arms = four_arms(SMALL, 0, tests)
    assert tuple(arms) == ARMS and all(set(row) == set(tests) for row in arms.values())
