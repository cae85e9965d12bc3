"""The simulated annotation pipeline against enumeration, simulation and a judge with a paper list."""

from itertools import product

import numpy as np
import pytest
from pycocotools.coco import COCO

from mmlearn.data.scenes import CATEGORIES, sample_scene
from mmlearn.image2text.annotation import (
    GROUP,
    GROUPS,
    NAMES,
    PUBLISHED_HOURS,
    GroundTruth,
    Worker,
    WorkerTimes,
    _segment_all,
    expected_questions,
    expected_recall,
    grid_pass_probability,
    ground_truth,
    keep_probability,
    label_categories,
    outlines,
    paired_iou,
    polygon_mask,
    recall_precision,
    run_pipeline,
    segment,
    spot_instances,
    training_task,
    union_recall,
    verify,
    worker_hours,
)

CAREFUL = Worker(attention=1.0, half_area=0.0, false_alarm=0.0, aim=0.0, spacing=0.01, tremor=0.0, slip=0.0)


def disks(positions: list[tuple[float, float, float]], category: int = 0, size: int = 64) -> GroundTruth:
    """One picture with disks of one category at (x, y, radius), in fractions of the picture."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    masks = np.stack([(x - cx) ** 2 + (y - cy) ** 2 <= r**2 for cx, cy, r in positions])
    return GroundTruth(1, np.zeros(len(masks), dtype=int), np.full(len(masks), category),
                       masks.mean(axis=(1, 2)), np.array([[cx, cy] for cx, cy, _ in positions]), masks)


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(0, i) for i in range(40)]


@pytest.fixture(scope="module")
def truth(scenes):
    return ground_truth(scenes)


# --- equations ----------------------------------------------------------------------------------------------

@pytest.mark.equation("eq:coco-recall")
@pytest.mark.parametrize("p, n", [(0.5, 8), (0.3, 3), (0.9, 1), (0.0, 4)])
def test_a_union_finds_what_at_least_one_annotator_sees(p, n):
    want = 0.0
    for seen in product([True, False], repeat=n):  # every way in which n people see or miss it
        if any(seen):
            want += np.prod([p if s else 1 - p for s in seen])
    assert union_recall(p, n) == pytest.approx(want, abs=1e-12)
    assert 1 - union_recall(0.5, 8) == pytest.approx(0.0039, abs=5e-5)          # the number of the paper


@pytest.mark.equation("eq:coco-recall")
def test_simulated_recall_follows_the_closed_form(truth):
    worker, repeats = Worker(false_alarm=0.0), 60
    rng = np.random.default_rng(1)
    found = np.zeros(8)
    for _ in range(repeats):
        labels = label_categories(truth, [worker] * 8, rng)
        found += [recall_precision(labels.union(n), truth.present)[0] for n in range(1, 9)]
    want = [expected_recall(truth, worker, n) for n in range(1, 9)]
    np.testing.assert_allclose(found / repeats, want, atol=0.02)
    assert np.all(np.diff(want) > 0)


@pytest.mark.equation("eq:coco-recall")
def test_expected_recall_is_the_mean_over_labels_by_hand():
    truth = disks([(0.2, 0.2, 0.1), (0.7, 0.7, 0.2)])
    worker = Worker(attention=0.8, half_area=0.05)
    p = [0.8 * a / (a + 0.05) for a in truth.area]
    seen_by_one = 1 - (1 - p[0]) * (1 - p[1])                       # one label, either disk is enough
    assert expected_recall(truth, worker, 3) == pytest.approx(1 - (1 - seen_by_one) ** 3)


@pytest.mark.equation("eq:coco-questions")
def test_expected_questions_are_the_average_over_all_group_patterns():
    sizes, presence = [3, 5, 2, 4], [0.5, 0.1, 0.9, 0.3]
    want = 0.0
    for pattern in product([0, 1], repeat=4):
        chance = np.prod([pi if there else 1 - pi for pi, there in zip(presence, pattern)])
        asked = 0
        for size, there in zip(sizes, pattern):
            asked += 1                                              # is there anything of this group?
            if there:
                asked += size                                       # then each of its icons
        want += chance * asked
    assert expected_questions(sizes, presence) == pytest.approx(want)
    with pytest.raises(ValueError, match="4 group sizes but 3"):
        expected_questions(sizes, presence[:3])


@pytest.mark.equation("eq:coco-questions")
def test_workers_answer_as_many_questions_as_expected(truth):
    rng = np.random.default_rng(0)
    sure = label_categories(truth, [CAREFUL] * 2, rng)
    presence = [float(truth.present[:, GROUP == g].any(axis=1).mean()) for g in range(len(GROUPS))]
    assert sure.questions.mean() == pytest.approx(
        expected_questions([int(n) for n in np.bincount(GROUP)], presence)
    )
    flat = label_categories(truth, [CAREFUL], rng, hierarchical=False)
    assert (flat.questions == len(CATEGORIES)).all()


@pytest.mark.equation("eq:coco-verify")
@pytest.mark.parametrize("v", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_a_mask_is_kept_as_often_as_the_enumerated_votes_say(v):
    want = 0.0
    for votes in product([True, False], repeat=5):
        first = votes[:3]
        kept = all(first) or sum(votes) >= 4  # the last two vote only if somebody objected
        want += kept * np.prod([v if vote else 1 - v for vote in votes])
    assert keep_probability(v) == pytest.approx(want, abs=1e-12)


@pytest.mark.equation("eq:coco-verify")
def test_simulated_judges_keep_good_masks_and_return_bad_ones():
    rng, repeats = np.random.default_rng(0), 20_000
    for v in (0.95, 0.3):
        verdicts = verify(np.full(repeats, v), rng)
        assert verdicts.kept.mean() == pytest.approx(keep_probability(v), abs=0.01)
        assert verdicts.judgements.mean() == pytest.approx(3 + 2 * (1 - v**3), abs=0.03)


def test_a_planted_grid_lets_careful_judges_through_and_few_others():
    for v in (0.1, 0.5, 0.9):
        want = sum(np.prod([v if hit else 1 - v for hit in hits])
                   for hits in product([True, False], repeat=4) if sum(hits) >= 3)
        assert grid_pass_probability(v) == pytest.approx(want)
    assert grid_pass_probability(0.9) > 0.9 and grid_pass_probability(0.1) < 0.01


@pytest.mark.equation("eq:coco-cost")
def test_the_published_hours_add_up():
    assert worker_hours([2_500_000], [22 * 3600 / 1000]) == pytest.approx(PUBLISHED_HOURS.segmentation)
    assert 22 * 3600 / 1000 == pytest.approx(79.2)
    assert PUBLISHED_HOURS.total == 85_000
    assert worker_hours([10, 20], [36.0, 18.0]) == pytest.approx((10 * 36 + 20 * 18) / 3600)


@pytest.mark.equation("eq:coco-cost")
def test_published_times_give_the_published_hours_back():
    times = WorkerTimes.published()
    questions = 11 + 3.5 * 91 / 11
    assert worker_hours([328_000 * 8 * questions], [times.question]) == pytest.approx(20_000)
    assert worker_hours([328_000 * 8 * 3.5], [times.spot]) == pytest.approx(10_000)
    assert times.mask == pytest.approx(79.2)


# --- stages -------------------------------------------------------------------------------------------------

def test_small_things_are_overlooked_more_often():
    chance = Worker().notice(np.array([0.001, 0.01, 0.1, 1.0]))
    assert np.all(np.diff(chance) > 0) and chance[-1] <= 0.9
    assert np.all(Worker().notice(np.array([0.001]), zoom=2.0) > chance[0])


def test_both_questionnaires_give_the_same_labels(truth):
    tree = label_categories(truth, [Worker()] * 3, np.random.default_rng(5))
    flat = label_categories(truth, [Worker()] * 3, np.random.default_rng(5), hierarchical=False)
    np.testing.assert_array_equal(tree.votes, flat.votes)
    assert tree.questions.mean() < flat.questions.mean()


def test_a_picture_of_person_dog_and_cat_needs_an_icon_of_each():
    one = disks([(0.2, 0.2, 0.1), (0.5, 0.5, 0.1), (0.8, 0.8, 0.1)])
    rows = np.array([NAMES.index(name) for name in ("person", "dog", "cat")])
    truth = GroundTruth(1, one.image, rows, one.area, one.centre, one.masks)
    labels = label_categories(truth, [CAREFUL], np.random.default_rng(0)).union()
    assert {NAMES[k] for k in np.nonzero(labels[0])[0]} == {"person", "dog", "cat"}  # two icons for "animal"


def test_more_annotators_find_more_and_invent_more():
    scenes = [sample_scene(3, i) for i in range(60)]
    truth = ground_truth(scenes)
    labels = label_categories(truth, [Worker(false_alarm=0.01)] * 8, np.random.default_rng(0))
    recall, precision = zip(*(recall_precision(labels.union(n), truth.present) for n in (1, 4, 8)))
    assert recall[0] < recall[1] < recall[2]
    assert precision[0] > precision[1] > precision[2]


def test_crosses_of_several_workers_on_one_thing_are_one_spot():
    truth = disks([(0.2, 0.2, 0.1), (0.8, 0.8, 0.1)])
    sure = np.ones((1, len(NAMES)), dtype=bool)
    steady = Worker(attention=1.0, half_area=0.0, aim=0.05)
    crosses = spot_instances(truth, sure, [steady] * 8, np.random.default_rng(0))
    assert len(crosses.worker) == 16 and len(crosses.spots()) == 2
    for spot in (0, 1):
        assert len(np.unique(crosses.instance[crosses.spot == spot])) == 1


def test_one_worker_crosses_two_close_things_twice():
    truth = disks([(0.50, 0.5, 0.02), (0.53, 0.5, 0.02)])
    sure = np.ones((1, len(NAMES)), dtype=bool)
    crosses = spot_instances(truth, sure, [CAREFUL], np.random.default_rng(0), radius=0.2)
    assert len(crosses.spots()) == 2


def test_nobody_crosses_more_than_ten_of_a_category_or_a_category_without_label():
    many = disks([(0.05 + 0.06 * i, 0.5, 0.02) for i in range(16)])
    sure = np.ones((1, len(NAMES)), dtype=bool)
    crosses = spot_instances(many, sure, [CAREFUL] * 3, np.random.default_rng(0), radius=0.02)
    assert np.bincount(crosses.worker).tolist() == [10, 10, 10]
    assert len(spot_instances(many, ~sure, [CAREFUL] * 3, np.random.default_rng(0)).worker) == 0


def test_a_careful_polygon_covers_the_mask_and_a_careless_one_does_not():
    mask = disks([(0.5, 0.5, 0.3)], size=128).masks[0]
    rng = np.random.default_rng(0)
    careful = polygon_mask(segment(mask, CAREFUL, rng), 128)
    careless = [paired_iou(polygon_mask(segment(mask, Worker(slip=1.0), rng), 128), mask) for _ in range(20)]
    assert paired_iou(careful, mask) > 0.97
    assert np.mean(careless) < 0.95


def test_outlines_leave_out_holes_and_keep_parts():
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:9, 2:9] = True
    mask[4:6, 4:6] = False                                      # a hole
    mask[12:18, 12:18] = True                                   # a second part
    lines = outlines(mask)
    assert len(lines) == 2
    whole = polygon_mask([line.ravel().tolist() for line in lines], 20)
    assert whole[4, 4] and whole[15, 15] and not whole[10, 10]
    assert outlines(np.eye(1, dtype=bool))                      # even a single pixel has an outline


def test_paired_iou_counts_pixels():
    a, b = np.zeros((2, 4, 4), dtype=bool), np.zeros((2, 4, 4), dtype=bool)
    a[0, :2], b[0, 1:3] = True, True                            # 8 and 8 pixels, 4 shared
    np.testing.assert_allclose(paired_iou(a, b), [4 / 12, 0.0])


def test_the_training_task_passes_steady_hands_only(truth):
    rng = np.random.default_rng(0)
    steady, shaky = Worker(slip=0.0, tremor=0.0, spacing=0.02), Worker(slip=1.0)
    assert training_task(truth, [steady] * 5, rng).all()
    assert not training_task(truth, [shaky] * 5, rng).any()


def test_about_a_third_of_the_pool_passes_the_training_task(truth):
    rng = np.random.default_rng(0)
    assert 0.2 < training_task(truth, Worker.pool(200, rng), rng).mean() < 0.47


# --- the pipeline -------------------------------------------------------------------------------------------

def test_the_pipeline_repeats_itself(scenes):
    once, again = run_pipeline(scenes[:10], seed=4), run_pipeline(scenes[:10], seed=4)
    assert once == again
    assert run_pipeline(scenes[:10], seed=5) != once


def test_flawless_workers_reproduce_the_truth(scenes):
    report = run_pipeline(scenes, annotators=1, worker=CAREFUL)
    assert report.label_recall == report.label_precision == 1.0
    assert report.spot_recall == 1.0 and report.duplicates == 0.0
    assert report.mask_iou > 0.9


def test_verification_buys_better_masks_with_more_polygons(scenes):
    with_judges = run_pipeline(scenes, annotators=4)
    without = run_pipeline(scenes, annotators=4, verification=False)
    assert with_judges.mask_iou > without.mask_iou and with_judges.bad_masks <= without.bad_masks
    assert with_judges.masks_drawn > without.masks_drawn
    assert with_judges.hours.judging > 0 == without.hours.judging


def test_super_categories_save_labelling_hours_and_nothing_else(scenes):
    tree, flat = run_pipeline(scenes, seed=2), run_pipeline(scenes, seed=2, hierarchical=False)
    assert tree.hours.labelling < flat.hours.labelling
    assert tree.annotations == flat.annotations


def test_rejected_masks_are_drawn_again_until_kept(truth):
    strict = Worker(strictness=0.9, sharpness=100.0)
    polygons, masks, drawn, judgements = _segment_all(
        truth, np.arange(30), strict, np.random.default_rng(0), True
    )
    assert drawn > 30 and judgements >= 3 * drawn
    assert set(polygons) == set(masks) <= set(range(30))


def test_annotations_are_a_coco_file_that_pycocotools_reads(scenes):
    report = run_pipeline(scenes[:12])
    coco = COCO()
    coco.dataset = {"images": [{"id": i + 1, "width": 64, "height": 64,
                                "file_name": f"{i}.png"} for i in range(12)],
                    "annotations": report.annotations,
                    "categories": [{"id": c.id, "name": c.name,
                                    "supercategory": c.supercategory} for c in CATEGORIES]}
    coco.createIndex()
    assert [a["id"] for a in report.annotations] == list(range(1, len(report.annotations) + 1))    # never 0
    for annotation in report.annotations:
        assert coco.annToMask(annotation).sum() == annotation["area"]


def test_a_crowd_shares_one_mask():
    import mmlearn.image2text.annotation as annotation
    many = disks([(0.06 + 0.06 * i, 0.2 + 0.2 * (i % 3), 0.025) for i in range(15)])
    own, crowded = annotation._crowds(many, np.arange(15))
    assert len(own) == 10 and [len(group) for group in crowded] == [5]
    record = annotation._crowd(many, crowded[0])
    union = many.masks[10:].any(axis=0)
    counts = record["segmentation"]["counts"]
    assert record["iscrowd"] == 1 and sum(counts[1::2]) == record["area"] == union.sum()
    pixels = np.repeat(np.arange(len(counts)) % 2, counts).reshape(64, 64, order="F")
    np.testing.assert_array_equal(pixels.astype(bool), union)


def test_nobody_annotates_nothing(scenes):
    with pytest.raises(ValueError, match="at least 1"):
        run_pipeline(scenes, annotators=0)
    with pytest.raises(ValueError, match="at least one scene"):
        ground_truth([])
