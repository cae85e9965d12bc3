"""Run-length masks, overlap and average precision, against hand-made numbers and the reference
implementation."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmlearn.metrics.detection import (
    average_precision,
    compressed,
    decode_segmentation,
    interpolate,
    iou,
    mask_iou,
    precision_recall,
    rle_area,
    rle_decode,
    rle_delta,
    rle_encode,
    rle_from_string,
    rle_iou,
    rle_to_string,
)

masks = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0, 1)).map(
    lambda a: np.random.default_rng(a[2]).random(a[:2]) < a[3])


@pytest.mark.equation("eq:rle-delta")
def test_a_small_mask_has_the_runs_worked_out_by_hand():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    counts = rle_encode(mask)
    assert counts == [5, 2, 2, 2, 2, 2, 5]
    assert rle_delta(counts) == [5, 2, 2, 0, 0, 0, 3]
    assert rle_to_string(counts) == "5220003"
    assert rle_area(counts) == 6


def test_a_mask_that_starts_with_ones_begins_with_an_empty_run():
    assert rle_encode(np.ones((5, 6), bool)) == [0, 30]
    assert rle_to_string([0, 30]) == "0n0"


@pytest.mark.parity
@settings(deadline=None)
@given(masks)
def test_any_mask_has_the_reference_string_and_comes_back(mask):
    counts = rle_encode(mask)
    string = rle_to_string(counts)
    assert string.encode() == reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert rle_from_string(string) == counts
    np.testing.assert_array_equal(rle_decode(counts, *mask.shape), mask)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_any_run_lengths_survive_the_compressed_form(counts):
    assert rle_from_string(rle_to_string(counts)) == counts


@pytest.mark.parametrize(("string", "complaint"), [("52\n", "not part"), ("5P", "cut off")])
def test_a_broken_string_is_refused(string, complaint):
    with pytest.raises(ValueError, match=complaint):
        rle_from_string(string)


def test_runs_that_do_not_fill_the_mask_are_refused():
    with pytest.raises(ValueError, match="cover 7 pixels"):
        rle_decode([3, 4], 2, 3)


@pytest.mark.parametrize(("polygon", "size", "string", "area"), [
    ([1, 1, 4, 1, 4, 3, 1, 3], (5, 6), "6230009", 6), ([0, 0, 6, 0, 6, 5, 0, 5], (5, 6), "0n0", 30),
    ([1.5, 1.5, 4.5, 1.5, 4.5, 3.5, 1.5, 3.5], (5, 6), "<230003", 6)])
def test_polygons_become_the_known_masks(polygon, size, string, area):
    mask = decode_segmentation([polygon], size)
    assert rle_to_string(rle_encode(mask)) == string
    assert mask.sum() == area


def test_a_disk_has_the_known_area():
    y, x = np.mgrid[:480, :640]
    assert rle_area(rle_encode((x - 320) ** 2 + (y - 240) ** 2 <= 2500)) == 7845


@pytest.mark.equation("eq:iou")
@pytest.mark.equation("eq:iou-crowd")
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_overlap_is_shared_area_over_united_area_and_over_the_detection_for_crowds(seed, d, g):
    rng = np.random.default_rng(seed)
    boxes = [np.concatenate([rng.integers(0, 20, (n, 2)), rng.integers(1, 20, (n, 2))],
                            1).astype(float) for n in (d, g)]
    crowd = rng.random(g) < 0.5
    pixels = [np.zeros((n, 40, 40), bool) for n in (d, g)]
    for drawn, rows in zip(pixels, boxes):
        for i, (x, y, w, h) in enumerate(rows.astype(int)):
            drawn[i, y:y + h, x:x + w] = True
    want = np.array([[(a & b).sum() / (a.sum() if c else (a | b).sum()) for b, c in zip(pixels[1], crowd)]
                     for a in pixels[0]])
    np.testing.assert_allclose(iou(*boxes, crowd), want, atol=1e-12)
    np.testing.assert_allclose(mask_iou(*pixels, crowd), want, atol=1e-12)
    np.testing.assert_allclose(reference.iou(*boxes, crowd.astype(np.uint8).tolist()), want, atol=1e-12)


BOXES = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0},
         {"id": 2, "image_id": 1, "category_id": 1, "bbox": [60, 60, 20, 20], "area": 400, "iscrowd": 0},
         {"id": 3, "image_id": 2, "category_id": 1, "bbox": [5, 5, 50, 50], "area": 2500, "iscrowd": 0}]
FOUND = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "score": .9},
         {"image_id": 2, "category_id": 1, "bbox": [5, 5, 50, 40], "score": .8},
         {"image_id": 1, "category_id": 1, "bbox": [30, 30, 20, 20], "score": .7},
         {"image_id": 1, "category_id": 1, "bbox": [60, 60, 20, 15], "score": .6}]


@pytest.mark.equation("eq:coco-ap")
def test_the_worked_example_has_the_twelve_known_numbers():
    stats = list(average_precision(BOXES, FOUND).stats.values())
    want = [.71683168, .91584158, .91584158, .3, .85148515, -1, .56666667, .76666667, .76666667, .6, .85, -1]
    np.testing.assert_allclose(stats, want, atol=5e-9)


@pytest.mark.equation("eq:precision-recall")
@pytest.mark.equation("eq:ap")
def test_average_precision_by_hand():
    hits = np.array([True, True, False, True])
    precision, recall = precision_recall(hits, ~hits, 3)
    np.testing.assert_allclose(precision, [1, 1, 2 / 3, 3 / 4])
    np.testing.assert_allclose(recall, [1 / 3, 2 / 3, 2 / 3, 1])
    sampled = interpolate(precision, recall)
    want = [max([p for p, r in zip([1, 1, 2 / 3, 3 / 4], [1 / 3, 2 / 3, 2 / 3, 1]) if r >= i / 100 - 1e-12],
                default=0)
            for i in range(101)]
    np.testing.assert_allclose(sampled, want)
    assert abs(sampled.mean() - (67 + 34 * 0.75) / 101) < 1e-12


def test_the_truth_found_with_certainty_scores_one_even_with_id_zero():
    truth = [dict(row, id=i) for i, row in enumerate(BOXES)]
    assert average_precision(truth, [dict(row, score=1.0) for row in BOXES]).stats["AP"] == pytest.approx(1.0)


def world(rng, masked):
    """Random truths and detections of 3 images and 2 categories, with crowds, small things and equal
    scores."""
    truths, found = [], []
    for image in (1, 2, 3):
        for category in (1, 2):
            for _ in range(rng.integers(0, 4)):
                x, y, w, h = (int(v) for v in rng.integers(0, 60, 4) + (0, 0, 1, 1))
                truths.append({"id": len(truths) + 1, "image_id": image, "category_id": category,
                               "bbox": [x, y, w, h], "area": w * h, "iscrowd": int(rng.random() < 0.25)})
            for _ in range(rng.integers(0, 6)):
                near = [t["bbox"] for t in truths if t["image_id"] == image]
                base = (
                    near[rng.integers(len(near))] if near and rng.random() < 0.8 else rng.integers(1, 60, 4)
                )
                x, y, w, h = (
                    int(v) for v in np.maximum(np.array(base) + rng.integers(-4, 5, 4), (0, 0, 1, 1))
                )
                found.append({"image_id": image, "category_id": category, "bbox": [x, y, w, h],
                              "score": round(float(rng.random()), 1)})
    if masked:
        for row in truths + found:
            x, y, w, h = row["bbox"]
            mask = np.zeros((128, 128), bool)
            mask[y:y + h, x:x + w] = rng.random((h, w)) < 0.9
            row["segmentation"] = {"size": [128, 128], "counts": rle_to_string(rle_encode(mask))}
            row["area"] = int(mask.sum())
    return truths, found


@pytest.mark.parity
@pytest.mark.equation("eq:coco-ap")
@pytest.mark.parametrize(("masked", "boxed"), [(False, True), (True, False), (True, True)])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_detections_get_the_numbers_of_the_reference(seed, masked, boxed):
    truths, found = world(np.random.default_rng(seed), masked)
    if not truths or not found:
        return
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": i, "height": 128, "width": 128} for i in (1, 2, 3)],
                        "annotations": truths, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
        coco.createIndex()
        found = [{k: v for k, v in row.items() if k != "area" and (boxed or k != "bbox")} for row in found]
        rows = [dict(row) for row in found]
        evaluation = COCOeval(coco, coco.loadRes(rows), "segm" if masked else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = average_precision(truths, found, masks=masked)
    np.testing.assert_allclose(list(ours.stats.values()), evaluation.stats, atol=1e-9)


def test_a_record_without_its_box_is_named():
    with pytest.raises(ValueError, match="annotations, record 0: it has no 'bbox'"):
        average_precision([{"image_id": 1, "category_id": 1}], [])


def test_a_polygon_without_image_size_is_refused():
    with pytest.raises(ValueError, match="size of its image"):
        decode_segmentation([[0, 0, 1, 0, 1, 1]], None)


@pytest.mark.parity
@pytest.mark.equation("eq:iou-crowd")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_overlap_of_run_lengths_is_that_of_the_pixels_they_stand_for(seed, share):
    rng = np.random.default_rng(seed)
    found, truths = rng.random((3, 7, 9)) < share, rng.random((2, 7, 9)) < 0.5
    found[0], crowd = False, rng.random(2) < 0.5
    runs = [[compressed({"size": [7, 9], "counts": rle_encode(mask)}) for mask in part]
            for part in (found, truths)]
    want = [[(a & b).sum() / max((a.sum() if c else (a | b).sum()), 1) for b, c in zip(truths, crowd)]
            for a in found]
    np.testing.assert_allclose(rle_iou(*runs, crowd), want, atol=1e-12)
    np.testing.assert_allclose(mask_iou(found, truths, crowd), want, atol=1e-12)


@pytest.mark.parametrize("points", [
    [1, 1, 4, 1, 4, float("nan")], [1, 1, 4, 1, 4, 1e9], [1, 1, 4, 1, 4, 1e308], [1, 1, 4, 1, 4, None],
    [1, 1, 4, 1, 4], [1, 1], [], "114143", [0, 0, 9e5, 9e5] * 4, [1, 1, 4, 1, 4, 10**40]])
def test_one_bad_number_in_a_polygon_is_refused_before_it_ends_the_process(points):
    for polygons in ([points], [[1, 1, 4, 1, 4, 3], points]):
        with pytest.raises(ValueError, match="give "):
            decode_segmentation(polygons, (5, 6))


def test_a_polygon_that_leaves_the_picture_is_cut_off_at_its_border():
    mask = decode_segmentation([[-200, -200, 3, -200, 3, 800, -200, 800]], (5, 6))
    assert mask[:, :3].all() and not mask[:, 3:].any()


def test_masks_of_one_picture_have_one_size():
    square = {"size": [5, 6], "counts": [6, 2, 22]}
    row = {"image_id": 1, "category_id": 1, "score": 0.5}
    with pytest.raises(ValueError, match=r"detections, record 0: 'segmentation' is .* 4 x 6, .* 5 x 6"):
        average_precision([{**row, "segmentation": square}],
                          [{**row, "segmentation": {"size": [4, 6], "counts": [24]}}], masks=True)


def test_a_truth_without_area_has_that_of_its_mask_and_a_detection_that_of_its_box_if_it_has_one():
    small = {"size": [200, 200], "counts": [0, 900, 39_100]}           # a mask of 900 pixels, "small"
    truth = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 100], "segmentation": small, "area": None}
    found = {"image_id": 1, "category_id": 1, "score": 1.0, "segmentation": small}
    stats = average_precision([truth], [found], masks=True).stats
    assert stats["AP small"] == pytest.approx(1) and stats["AP large"] == -1
    boxes = average_precision([truth], [{**found, "bbox": truth["bbox"]}]).stats
    assert boxes["AP small"] == pytest.approx(1)
    boxes = average_precision([{**truth, "segmentation": None}], [{**found, "bbox": truth["bbox"]}]).stats
    assert boxes["AP small"] == -1 and boxes["AP large"] == pytest.approx(1)
