"""Regions of the scene world: targets from graphs, a detector that learns, vectors that mean what they
say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmlearn.data.scenes import CATEGORIES, CATEGORY, render, sample_scene
from mmlearn.data.scenes.graph import COLOURS, SETTINGS
from mmlearn.image2text import regions
from mmlearn.image2text.regions import (
    ATTRIBUTES,
    LEAST_SIDE,
    UNKNOWN,
    DetectionData,
    Detector,
    DetectorConfig,
    detection_results,
    detection_targets,
    detection_truth,
    detector_loss,
    load_detector,
    place,
    region_features,
    save_detector,
    sound_boxes,
)

TINY = DetectorConfig(widths=(8, 16, 16, 16), pyramid=16, features=24)


@pytest.fixture(scope="module")
def data():
    return DetectionData(4, "train", 64, seed=3)


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return Detector(TINY).eval()


def test_targets_are_the_visible_boxes_and_attributes_of_the_graph():
    scene = next(s for s in (sample_scene(0, i) for i in range(50)) if len(s.objects) == 3)
    masks = render(scene, 64).masks
    target = detection_targets(scene, masks)
    row = 0
    for thing, mask in zip(scene.objects, masks):
        ys, xs = np.where(mask)
        if len(ys) < 8:
            continue
        assert target["boxes"][row].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert CATEGORIES[target["labels"][row] - 1].name == thing.category
        assert COLOURS[target["colour"][row]] == thing.colour
        wanted = ("left" if thing.flip else "right") if CATEGORY[thing.category].facing else None
        told = target["facing"][row]
        assert (None if told == UNKNOWN else ATTRIBUTES["facing"][told]) == wanted
        row += 1
    assert row == len(target["boxes"])
    assert SETTINGS[target["setting"]] == scene.setting


def test_an_object_that_hardly_shows_is_no_target():
    scene = sample_scene(0, 0)
    masks = render(scene, 64).masks.copy()
    masks[0] = False
    masks[0, 0, :7] = True                                        # 7 pixels, one short of visible
    alone = replace(scene, objects=scene.objects[:1])
    assert len(detection_targets(alone, masks[:1])["boxes"]) == 0
    masks[0, 0, 7] = True
    assert detection_targets(alone, masks[:1])["boxes"].tolist() == [[0, 0, 8, 1]]


def test_a_mirrored_picture_has_mirrored_boxes_and_directions(data):
    images, targets = data.batch([0, 1])
    flipped, mirrored = data.batch([0, 1], flip=True)
    assert torch.equal(flipped[0, :, :, 0], images[0, :, :, 63])
    for before, after in zip(targets, mirrored):
        for old, new, was, now in zip(before["boxes"].tolist(), after["boxes"].tolist(), before["facing"],
                                      after["facing"]):
            assert new == [64 - old[2], old[1], 64 - old[0], old[3]]
            assert now == was == UNKNOWN or int(now) == 1 - int(was)


def test_a_detector_learns_a_handful_of_pictures(data):
    torch.manual_seed(0)
    model = Detector(TINY).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss, parts = detector_loss(model, data.batch(range(4)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert set(parts) == {"class", "box", "objectness", "rpn_box_reg", "setting", *ATTRIBUTES}
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad is not None for p in model.parameters())


def test_boxes_end_at_the_picture_and_slivers_are_none():
    inf, nan = float("inf"), float("nan")
    boxes = torch.tensor([[-3.0, 5, 10, 20], [30, 30, 30, 40], [63.5, 0, 80, 9], [70, 70, 90, 90],
                          [8, 8, 4, 4], [0, 0, nan, 9], [-inf, -inf, inf, inf], [2, 2, 3, 3]])
    clipped, sound = sound_boxes(boxes, (48, 64))
    assert sound.tolist() == [True, False, False, False, False, False, True, True]
    assert clipped[sound].tolist() == [[0, 5, 10, 20], [0, 0, 64, 48], [2, 2, 3, 3]]


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4, 1e30])
def test_no_weights_make_a_box_without_width_or_outside_the_picture(data, scale):
    """Whatever a network computes, even numbers too large for it, a detection is a rectangle of the
    picture."""
    torch.manual_seed(0)
    model = Detector(TINY)
    for name, weight in model.named_parameters():
        if "bbox_pred" in name or "cls_" in name:
            weight.detach().normal_(std=scale)
    model.eval()
    model.roi_heads.score_thresh = 0.0
    boxes = torch.cat([d["boxes"] for d in model(list(data.images.float() / 255))])
    assert len(boxes) > 0 or scale > 1
    assert bool((boxes >= 0).all()) and bool((boxes <= 64).all())
    assert bool((boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all())
    found = region_features(model, data.images, threshold=0.0)
    sides = (found.boxes[..., 2:] - found.boxes[..., :2])[found.mask]
    assert bool((sides >= LEAST_SIDE).all()) and bool((found.boxes <= 64).all())


def test_the_first_region_is_the_whole_picture_and_padding_is_zero(detector, data):
    images, _ = data.batch(range(4))
    found = region_features(detector, images, threshold=0.0, max_regions=4)
    assert found.features.shape == (4, 4, 24 + 5)
    assert found.boxes[:, 0].tolist() == [[0, 0, 64, 64]] * 4
    assert found.labels[:, 0].tolist() == [-1] * 4
    assert bool(found.mask[:, 0].all()) and bool((found.labels[:, 1:][found.mask[:, 1:]] >= 0).all())
    alone = region_features(detector, images, threshold=2.0, max_regions=4)
    assert alone.mask.tolist() == [[True, False, False, False]] * 4
    assert not alone.features[~alone.mask].any() and torch.equal(alone.features[:, 0], found.features[:, 0])


def test_the_place_of_a_box_is_its_corners_and_area_as_fractions():
    x0, y0, x1, y1 = 16.0, 0.0, 48.0, 32.0
    got = place(torch.tensor([[x0, y0, x1, y1]]), 64)
    assert got[0].tolist() == [x0 / 64, y0 / 64, x1 / 64, y1 / 64, (x1 - x0) * (y1 - y0) / 64**2]


def test_regions_of_a_batch_are_those_of_each_picture_alone(detector, data):
    together = region_features(detector, data.images, max_regions=5, threshold=0.0)
    for i in range(len(data)):
        alone = region_features(detector, data.images[i:i + 1], max_regions=5, threshold=0.0)
        torch.testing.assert_close(together.boxes[i], alone.boxes[0], atol=1e-3, rtol=0)
        torch.testing.assert_close(together.features[i], alone.features[0], atol=1e-4, rtol=1e-4)


def test_bytes_and_fractions_are_the_same_picture(detector, data):
    a = region_features(detector, data.images, max_regions=3)
    b = region_features(detector, data.images.float() / 255, max_regions=3)
    torch.testing.assert_close(a.features, b.features)


def test_truth_is_a_coco_file_and_results_name_its_categories(detector, data):
    truth = detection_truth(data)
    assert len(truth["annotations"]) == sum(len(t["boxes"]) for t in data.targets)
    first = truth["annotations"][0]
    x0, y0, x1, y1 = data.targets[0]["boxes"][0].tolist()
    assert first["bbox"] == [x0, y0, x1 - x0, y1 - y0] and first["id"] == 1 and first["image_id"] == 1
    ids = {c.id for c in CATEGORIES}
    assert all(r["category_id"] in ids and 1 <= r["image_id"] <= 4 for r in detection_results(detector, data))


def test_a_saved_detector_comes_back_in_half_precision(detector, data, tmp_path):
    save_detector(detector, tmp_path / "d.safetensors", {"note": "test"})
    again = load_detector(tmp_path / "d.safetensors")
    for (name, a), (_, b) in zip(detector.state_dict().items(), again.state_dict().items()):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-3, msg=name)
    assert not again.training and sorted(p.name for p in tmp_path.iterdir()) == ["d.json", "d.safetensors"]


def test_a_missing_or_broken_or_foreign_detector_is_told_in_one_sentence(detector, tmp_path, monkeypatch):
    path = tmp_path / "d.safetensors"
    with pytest.raises(FileNotFoundError, match="experiments detector"):
        load_detector(path)
    save_detector(detector, path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_detector(path)
    path.write_bytes(whole)
    monkeypatch.setattr(regions, "CATEGORIES", CATEGORIES[1:])
    with pytest.raises(ValueError, match="other categories"):
        load_detector(path)


def test_pictures_of_another_size_are_refused(detector):
    with pytest.raises(ValueError, match="32x32"):
        region_features(detector, torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="multiple of 32"):
        Detector(DetectorConfig(size=50))


def test_the_committed_detector_finds_what_is_there():
    detector = load_detector()
    data = DetectionData(20, "test", 64)
    found = region_features(detector, data.images)
    hits = total = 0
    for row, target in enumerate(data.targets):
        seen = set((found.labels[row][found.mask[row]]).tolist())
        for label in {int(x) - 1 for x in target["labels"]}:
            hits, total = hits + (label in seen), total + 1
    assert hits / total > 0.6
