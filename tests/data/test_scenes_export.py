"""A COCO folder of scenes is read by pycocotools, scores as the ground truth that it is, and survives
interruption."""

import contextlib
import copy
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmlearn.data.scenes import CATEGORY, SceneDataset, captions, export_coco, questions, render, sample_scene

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return export_coco(tmp_path_factory.mktemp("scenes") / "coco", COUNT, 48)


def quiet(work, *args):
    with contextlib.redirect_stdout(io.StringIO()):
        return work(*args)


def load(folder: Path, name: str = "instances") -> COCO:
    return quiet(COCO, str(folder / "annotations" / f"{name}_train.json"))


def evaluate(truth: COCO, results: list[dict], kind: str) -> np.ndarray:
    def run():
        scorer = COCOeval(truth, truth.loadRes(results), kind)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
        return scorer.stats
    return quiet(run)


def as_results(truth: COCO, kind: str, score: float = 0.9) -> list[dict]:
    field = "bbox" if kind == "bbox" else "segmentation"
    return [{"image_id": a["image_id"], "category_id": a["category_id"], "score": score,
             field: copy.deepcopy(a[field])}
            for a in truth.dataset["annotations"]]


# ---- scores ------------------------------------------------------------------------------------------------

@pytest.mark.equation("eq:coco-ap")
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_ground_truth_itself_scores_one(folder, kind):
    truth = load(folder)
    assert evaluate(truth, as_results(truth, kind), kind)[0] == pytest.approx(1.0, abs=1e-12)


def one_category(folder: Path) -> tuple[COCO, list[dict], int]:
    """The export with all categories made one, its detections best first, and their number."""
    truth = load(folder)
    dataset = copy.deepcopy(truth.dataset)
    for annotation in dataset["annotations"]:
        annotation["category_id"] = 1
    merged = COCO()
    merged.dataset = dataset
    quiet(merged.createIndex)
    results = as_results(merged, "bbox")
    for rank, result in enumerate(results):
        result["score"] = 0.9 - 0.001 * rank
    return merged, results, len(results)


def sampled(precision_at) -> float:
    """The mean of the interpolated precision at recalls 0, 0.01 … 1."""
    return sum(precision_at(r) for r in range(101)) / 101


@pytest.mark.equation("eq:ap")
def test_a_dropped_detection_costs_the_recalls_that_are_no_longer_reached(folder):
    truth, results, n = one_category(folder)
    stats = evaluate(truth, results[:-1], "bbox")
    assert n > 12
    # precision 1 up to recall (n - 1) / n
    by_hand = sampled(lambda r: 1.0 if r / 100 <= (n - 1) / n else 0.0)
    assert by_hand < 1
    assert stats[0] == pytest.approx(by_hand, abs=1e-9)


@pytest.mark.equation("eq:coco-ap")
def test_a_shifted_box_counts_up_to_the_threshold_that_its_overlap_reaches(folder):
    """Width w moved by w / 5: intersection 4/5, union 6/5, IoU 2/3, so right at .5 to .65 and wrong at six
    more."""
    truth, results, n = one_category(folder)
    left, top, width, height = results[-1]["bbox"]
    results[-1]["bbox"] = [left + width / 5, top, width, height]
    assert run_lengths.iou([results[-1]["bbox"]], [[left, top, width, height]],
                           [0])[0, 0] == pytest.approx(2 / 3)
    others = [a["bbox"] for a in truth.imgToAnns[results[-1]["image_id"]]][:-1]
    if others:                                     # it must not fit another thing better
        assert run_lengths.iou([results[-1]["bbox"]], others, [0] * len(others)).max() < 0.5
    stats = evaluate(truth, results, "bbox")
    # lowest score: a false positive at the end
    wrong = sampled(lambda r: 1.0 if r / 100 <= (n - 1) / n else 0.0)
    assert stats[0] == pytest.approx((4 * 1.0 + 6 * wrong) / 10, abs=1e-9)
    assert stats[1] == pytest.approx(1.0, abs=1e-9)
    assert stats[2] == pytest.approx(wrong, abs=1e-9)


@pytest.mark.equation("eq:precision-recall")
def test_a_false_alarm_with_the_best_score_lowers_precision_everywhere(folder):
    """One false alarm first, then n hits: precision after k hits is k / (k + 1), best at the end: n / (n +
    1)."""
    truth, results, n = one_category(folder)
    alarm = {"image_id": results[0]["image_id"], "category_id": 1, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 1.0}
    stats = evaluate(truth, [alarm, *results], "bbox")
    assert stats[0] == pytest.approx(n / (n + 1), abs=1e-9)


# ---- content -----------------------------------------------------------------------------------------------

def test_masks_boxes_and_areas_are_those_of_the_visible_pixels(folder):
    truth = load(folder)
    for image in truth.dataset["images"]:
        scene = sample_scene(0, image["id"] - 1)
        masks = render(scene, 48).masks
        visible = [i for i in range(len(masks)) if masks[i].any()]
        own = truth.imgToAnns[image["id"]]
        assert [a["category_id"] for a in own] == [CATEGORY[scene.objects[i].category].id for i in visible]
        for i, annotation in zip(visible, own):
            assert np.array_equal(truth.annToMask(annotation).astype(bool), masks[i])
            rows, columns = np.nonzero(masks[i])
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == box
            assert annotation["area"] == masks[i].sum()


def test_ids_count_from_one_and_point_at_what_exists(folder):
    for name in ("instances", "captions", "questions", "referring"):
        content = json.loads((folder / "annotations" / f"{name}_train.json").read_text())
        images = [image["id"] for image in content["images"]]
        ids = [a["id"] for a in content["annotations"]]
        assert images == list(range(1, COUNT + 1))
        assert ids == list(range(1, len(ids) + 1))
        assert {a["image_id"] for a in content["annotations"]} <= set(images)
        assert content["licenses"][0]["name"].startswith("CC0")


def test_images_are_the_drawings(folder):
    for image in load(folder).dataset["images"]:
        pixels = np.array(Image.open(folder / "images" / image["file_name"]))
        assert np.array_equal(pixels, render(sample_scene(0, image["id"] - 1), 48).image)


def test_captions_and_questions_are_those_of_the_scene(folder):
    spoken = load(folder, "captions")
    asked = json.loads((folder / "annotations" / "questions_train.json").read_text())["annotations"]
    for i in range(COUNT):
        scene = sample_scene(0, i)
        assert tuple(a["caption"] for a in spoken.imgToAnns[i + 1]) == captions(scene)
        own = [(a["question"], a["answer"]) for a in asked if a["image_id"] == i + 1]
        assert own == [(q.text, q.answer) for q in questions(scene)]


def test_relations_and_referring_expressions_point_at_annotations_of_the_same_image(folder):
    truth = load(folder)
    names = {c["id"]: c["name"] for c in truth.dataset["categories"]}
    related = 0
    for image in truth.dataset["images"]:
        for a, _, b in image["relations"]:
            assert truth.anns[a]["image_id"] == truth.anns[b]["image_id"] == image["id"]
            related += 1
    assert related > 10
    for r in json.loads((folder / "annotations" / "referring_train.json").read_text())["annotations"]:
        annotation = truth.anns[r["annotation_id"]]
        assert annotation["image_id"] == r["image_id"] and annotation["bbox"] == r["bbox"]
        assert names[annotation["category_id"]] in r["expression"]


def test_caption_results_are_read_by_the_coco_tools(folder, tmp_path):
    spoken = load(folder, "captions")
    results = [{"image_id": i, "caption": "A cat."} for i in spoken.getImgIds()]
    (tmp_path / "results.json").write_text(json.dumps(results))
    read = quiet(spoken.loadRes, str(tmp_path / "results.json"))
    assert [a["caption"] for a in read.loadAnns(read.getAnnIds())] == ["A cat."] * COUNT


def test_the_coco_tools_can_draw_the_annotations(folder):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    truth = load(folder)
    plt.figure()
    truth.showAnns(truth.imgToAnns[1])
    assert len(plt.gca().images) == len(truth.imgToAnns[1])
    plt.close()


# ---- folders -----------------------------------------------------------------------------------------------

def digest(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_recipe_gives_the_same_bytes_with_any_number_of_processes(tmp_path):
    assert digest(export_coco(tmp_path / "a", 6, 32)) == digest(export_coco(tmp_path / "b", 6, 32, workers=2))


def test_nothing_but_the_named_files_is_left(folder):
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    annotations = {
        f"annotations/{n}_train.json" for n in ("instances", "captions", "questions", "referring", "recipe")
    }
    assert names == annotations | {f"images/train_{i:06d}.png" for i in range(COUNT)}


def test_a_finished_export_is_not_made_again_and_another_recipe_is_refused(tmp_path):
    folder = export_coco(tmp_path / "coco", 3, 32)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    export_coco(folder, 3, 32)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    with pytest.raises(ValueError, match="already holds 3 images of split train at 32 px.*--force"):
        export_coco(folder, 4, 32)
    export_coco(folder, 2, 32, force=True)
    assert len(list((folder / "images").iterdir())) == 2


def test_splits_share_a_folder(tmp_path):
    export_coco(tmp_path, 2, 32)
    export_coco(tmp_path, 2, 32, split="val")
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == [
        "train_000000.png", "train_000001.png", "val_000000.png", "val_000001.png"]


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is not empty"):
        export_coco(tmp_path, 2, 32)
    with pytest.raises(ValueError, match="is not empty"):
        export_coco(tmp_path, 2, 32, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("change", "sentence"), [
    ({"count": 0}, "at least one image"), ({"count": -3}, "0 or more"), ({"size": 8}, "16..1024"),
    ({"split": "trian"}, "take one of train, val"), ({"style": "cubist"}, "take one of normal"),
])
def test_what_cannot_be_made_is_refused_in_one_sentence_before_anything_is_written(
    tmp_path, change, sentence
):
    with pytest.raises(ValueError, match=sentence):
        export_coco(tmp_path / "new", **{"count": 2, "size": 32, **change})
    assert not (tmp_path / "new").exists()


def test_an_export_that_was_interrupted_goes_on_and_ends_the_same(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_coco(tmp_path / "stopped", 6, 32, progress=stop)
    assert not (tmp_path / "stopped" / "annotations" / "instances_train.json").exists()
    with pytest.raises(ValueError, match="unfinished export of 6 images"):
        export_coco(tmp_path / "stopped", 7, 32)
    lines = tmp_path / "stopped" / ".unfinished-train" / "records.jsonl"
    with open(lines, "a") as out:
        out.write('{"image": {"id": 4, "file')                     # a line that was cut off
    seen: list[int] = []
    export_coco(tmp_path / "stopped", 6, 32, progress=lambda done, total: seen.append(done))
    assert seen == [4, 5, 6]
    assert digest(tmp_path / "stopped") == digest(export_coco(tmp_path / "whole", 6, 32))


def test_a_process_that_is_killed_leaves_an_export_that_can_be_finished(tmp_path):
    code = f"from mmlearn.data.scenes import export_coco; export_coco({str(tmp_path / 'killed')!r}, 150, 32)"
    process = subprocess.Popen([sys.executable, "-c", code])
    lines = tmp_path / "killed" / ".unfinished-train" / "records.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (lines.exists() and lines.read_bytes().count(b"\n") >= 5):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = lines.read_bytes().count(b"\n")
    assert 5 <= done < 150
    code = code.replace("export_coco", "sample_scene, export_coco", 1)
    subprocess.run([sys.executable, "-c", code], check=True)
    truth = load(tmp_path / "killed")
    assert len(truth.imgs) == len(list((tmp_path / "killed" / "images").glob("*.png"))) == 150


def test_two_exports_into_one_folder_are_one_and_a_sentence(tmp_path):
    """As two users, or one who started it twice; another split may be written at the same time."""
    def second(done: int, total: int) -> None:
        if done == 2:
            with pytest.raises(OSError, match=f"is being written by process {os.getpid()} on .*; wait until"):
                export_coco(tmp_path / "both", 4, 32)
            export_coco(tmp_path / "both", 2, 32, split="val")
    export_coco(tmp_path / "both", 4, 32, progress=second)
    export_coco(tmp_path / "alone", 4, 32)
    export_coco(tmp_path / "alone", 2, 32, split="val")
    assert digest(tmp_path / "both") == digest(tmp_path / "alone")


def test_scenes_that_are_replaced_leave_nothing_whenever_the_replacing_is_stopped(tmp_path, monkeypatch):
    whole = digest(export_coco(tmp_path / "whole", 2, 32, seed=1))
    removals, unlink = [0], Path.unlink

    def stopped(path, missing_ok=False):
        removals[0] += 1
        if removals[0] == at:
            raise KeyboardInterrupt
        unlink(path, missing_ok)
    for at in (1, 2, 3, 6, 8, 9):
        folder = tmp_path / str(at)
        export_coco(folder, 3, 32)
        removals[0] = 0
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Path, "unlink", stopped)
            export_coco(folder, 2, 32, seed=1, force=True)
        assert digest(export_coco(folder, 2, 32, seed=1, force=at < 4)) == whole


@pytest.mark.parametrize("content", ["[]", "null", "{", "{}", '{"count": 2}', "\x00",
                                     '{"count": "2", "size": 32, "split": "train", "seed": 0, '
                                     '"style": "normal", "format": "mmlearn scenes 1"}'])
@pytest.mark.parametrize("name", ["annotations/recipe_train.json", ".unfinished-train/recipe.json"])
def test_a_damaged_recipe_is_named_and_force_begins_again(tmp_path, content, name):
    export_coco(tmp_path, 2, 16)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{Path(name).name} .*export again with --force"):
        export_coco(tmp_path, 2, 16)
    export_coco(tmp_path, 2, 16, force=True)
    assert digest(tmp_path) == digest(export_coco(tmp_path.parent / f"{tmp_path.name}-whole", 2, 16))


@pytest.mark.parametrize("number", [{"count": 10**30}, {"seed": -1}, {"workers": 0}, {"workers": 10**30}])
def test_a_number_beyond_all_reason_is_named(tmp_path, number):
    with pytest.raises(ValueError, match=f"{next(iter(number))} is {next(iter(number.values()))}; "):
        export_coco(tmp_path / "new", **{"count": 2, "size": 16, **number})
    assert not (tmp_path / "new").exists()


def test_a_full_disk_names_what_could_not_be_written(tmp_path, monkeypatch):
    full = OSError(28, os.strerror(28))
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(full))
    with pytest.raises(OSError, match=rf"recipe.json cannot be written \({full.strerror}\)"):
        export_coco(tmp_path, 2, 16)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """The peak of a process that writes ten times as many scenes is at most a few MB higher."""
    code = ("import resource, sys\nfrom mmlearn.data.scenes import export_coco\n"
            "export_coco(sys.argv[1], int(sys.argv[2]), 16)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    peaks = [int(subprocess.run([sys.executable, "-c", code, str(tmp_path / n), n], capture_output=True,
                                text=True, check=True).stdout) for n in ("20", "200")]
    assert peaks[1] - peaks[0] < 12_000                             # kB


# ---- the data set ------------------------------------------------------------------------------------------

def test_items_hold_image_captions_scene_and_index():
    data = SceneDataset(5, size=32)
    item = data[3]
    assert set(item) == {"image", "captions", "scene", "index"}
    assert item["image"].shape == (3, 32, 32) and item["image"].dtype == torch.float32
    assert 0 <= item["image"].min() and item["image"].max() <= 1
    assert (
        item["scene"] == sample_scene(0, 3)
        and item["captions"] == captions(item["scene"])
        and item["index"] == 3
    )
    expected = torch.from_numpy(render(item["scene"], 32).image.copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(item["image"], expected)


def test_the_data_set_ends_and_can_be_read_from_its_end():
    data = SceneDataset(5, size=32)
    assert len(data) == 5 and data[-1]["index"] == 4
    for index in (5, -6):
        with pytest.raises(IndexError, match="outside the 5 scenes"):
            data[index]


def test_a_loader_makes_batches():
    loader = torch.utils.data.DataLoader(SceneDataset(5, "val", 32), batch_size=2,
                                         collate_fn=SceneDataset.collate)
    batches = list(loader)
    assert [tuple(b["image"].shape) for b in batches] == [(2, 3, 32, 32), (2, 3, 32, 32), (1, 3, 32, 32)]
    assert batches[1]["index"] == [2, 3] and len(batches[0]["captions"][0]) == 5


def test_styles_change_the_picture_and_not_the_words():
    normal, inverted = SceneDataset(2, size=32)[1], SceneDataset(2, size=32, style="inverted")[1]
    assert normal["captions"] == inverted["captions"]
    assert (normal["image"] - inverted["image"]).abs().mean() > 0.05
