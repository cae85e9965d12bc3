"""``mmlearn evaluate`` on files: the tables, and one clear sentence for each way a file can be wrong."""

import json
import math

import pytest

from mmlearn.cli import main

IMAGES = [{"id": i, "width": 100, "height": 100} for i in (1, 2)]
CAPTIONS = {"images": IMAGES, "annotations": [
    {"id": 1, "image_id": 1, "caption": "A black cat."},
    {"id": 2, "image_id": 1, "caption": "a cat on a mat"},
    {"id": 3, "image_id": 2, "caption": "Two red buses."}]}
RESULTS = [{"image_id": 1, "caption": "a black cat"}, {"image_id": 2, "caption": "two green buses"}]
BOXES = {"images": IMAGES, "categories": [{"id": 1, "name": "cat"}], "annotations": [
    {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0},
    {"id": 2, "image_id": 1, "category_id": 1, "bbox": [60, 60, 20, 20], "area": 400, "iscrowd": 0},
    {"id": 3, "image_id": 2, "category_id": 1, "bbox": [5, 5, 50, 50], "area": 2500, "iscrowd": 0}]}
FOUND = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "score": .9},
         {"image_id": 2, "category_id": 1, "bbox": [5, 5, 50, 40], "score": .8},
         {"image_id": 1, "category_id": 1, "bbox": [30, 30, 20, 20], "score": .7},
         {"image_id": 1, "category_id": 1, "bbox": [60, 60, 20, 15], "score": .6}]


@pytest.fixture
def run(tmp_path, capsys):
    def evaluate(kind, annotations, results, *options):
        paths = []
        for name, contents in (("annotations.json", annotations), ("results.json", results)):
            path = tmp_path / name
            if contents is not None:
                path.write_text(contents if isinstance(contents, str) else json.dumps(contents),
                                encoding="utf-8")
            paths.append(str(path))
        code = main(["evaluate", kind, *paths, *options])
        out = capsys.readouterr()
        return code, out.out, out.err
    return evaluate


def test_captions_print_the_official_table_as_json(run):
    code, out, err = run("captions", CAPTIONS, RESULTS, "--json")
    scores = json.loads(out)
    assert code == 0
    assert list(scores) == ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "CIDEr-D"]
    assert scores["Bleu_1"] == pytest.approx(5 / 6)
    assert scores["CIDEr"] == scores["CIDEr-D"]
    assert "tokenising" in err


def test_captions_print_a_table_for_people(run):
    code, out, _ = run("captions", CAPTIONS, RESULTS)
    assert code == 0
    assert out.splitlines()[0].split() == ["Bleu_1", "0.833"]


def test_detections_print_the_twelve_numbers(run):
    code, out, _ = run("detections", BOXES, FOUND, "--json")
    stats = json.loads(out)
    assert code == 0
    assert stats["AP"] == pytest.approx(.71683168, abs=5e-9)
    assert stats["AP large"] == -1
    assert len(stats) == 12


def test_masks_are_compared_when_asked(run):
    polygon = [[10, 10, 50, 10, 50, 50, 10, 50]]
    truth = {**BOXES, "annotations": [{**BOXES["annotations"][0], "segmentation": polygon}]}
    found = [{"image_id": 1, "category_id": 1, "score": 1.0, "segmentation": polygon}]
    code, out, _ = run("detections", truth, found, "--masks", "--json")
    assert code == 0
    assert json.loads(out)["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(("annotations", "results", "sentence"), [
    (None, RESULTS, "no file at"),
    (CAPTIONS, None, "results.json; a COCO results file"),
    (CAPTIONS, "[{", "results.json is not valid JSON"),
    ([], RESULTS, "holds a list, where an object is expected"),
    (CAPTIONS, {"annotations": []}, "results.json holds an object, where a list is expected"),
    (CAPTIONS, [{"caption": "a"}],
     "results.json, record 0: it has no 'image_id', only caption; give a whole number"),
    (CAPTIONS, [{"image_id": [1], "caption": "a"}], "'image_id' is [1]; give a whole number or a text"),
    (CAPTIONS, RESULTS[:1],
     "1 image (2) of annotations.json, which has 2, has no caption; give one for each image, or add --sub"),
    (CAPTIONS, [*RESULTS, {"image_id": 7, "caption": "x"}],
     "record 2: 'image_id' is 7, which is not among the 2 of annotations.json"),
    (CAPTIONS, [*RESULTS, RESULTS[0]], "1 image (1) has more than one caption"),
    (CAPTIONS, [RESULTS[0], {"image_id": 2, "caption": None}], "give a text"),
    ({**CAPTIONS, "annotations": CAPTIONS["annotations"][:2]}, RESULTS, "1 image (2) has no caption"),
    ({"images": [], "annotations": []}, RESULTS, "no annotation in it")])
def test_a_wrong_captions_file_gets_one_sentence_and_code_2(run, annotations, results, sentence):
    code, out, err = run("captions", annotations, results)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(("annotations", "results", "options", "sentence"), [
    (CAPTIONS, FOUND, (),
     "annotations.json, annotations, record 0 (id 1): it has no 'category_id'"),
    (BOXES, RESULTS, (), "results.json, record 0: it has no 'category_id'"),
    ({**BOXES, "categories": 5}, FOUND, (), "has no list 'categories'"),
    (BOXES, [{**FOUND[0], "score": "high"}], (), "give a number"),
    (BOXES, [{**FOUND[0], "image_id": 9}], (), "record 0: 'image_id' is 9, which is not among"),
    (BOXES, FOUND, ("--masks",), "record 0 (id 1): it has no 'segmentation'"),
    (BOXES, [FOUND[0], {k: v for k, v in FOUND[1].items() if k != "bbox"}], (),
     "record 1: it has no 'bbox'")])
def test_a_wrong_detections_file_gets_one_sentence_and_code_2(run, annotations, results, options, sentence):
    code, _, err = run("detections", annotations, results, *options)
    assert code == 2
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_spice_without_its_program_says_what_is_missing(run, monkeypatch):
    monkeypatch.setattr("mmlearn.metrics.spice.shutil.which", lambda name: None)
    code, _, err = run("captions", CAPTIONS, RESULTS, "--spice")
    assert code == 2
    assert "no `java` on the PATH" in err


@pytest.mark.parametrize("results", [RESULTS[:1], [{"image_id": 1.0, "caption": "a black cat"}]])
def test_a_subset_is_scored_when_asked_as_if_the_annotations_held_no_other_image(run, results):
    alone = {"images": IMAGES[:1], "annotations": CAPTIONS["annotations"][:2]}
    want = json.loads(run("captions", alone, RESULTS[:1], "--json")[1])
    code, out, err = run("captions", CAPTIONS, results, "--subset", "--json")
    assert code == 0 and json.loads(out) == want
    assert "1 of the 2 images of annotations.json have results" in err


def test_an_empty_caption_is_scored_as_a_caption_without_words(run):
    code, out, _ = run("captions", CAPTIONS, [RESULTS[0], {"image_id": 2, "caption": ""}], "--json")
    dot = run("captions", CAPTIONS, [RESULTS[0], {"image_id": 2, "caption": " . "}], "--json")[1]
    assert code == 0 and out == dot
    assert json.loads(out)["Bleu_1"] == pytest.approx(math.exp(1 - 6 / 3))      # all 3 words right, 6 wanted


def test_texts_against_numbers_are_named_as_such(run):
    texts = [{**row, "image_id": str(row["image_id"])} for row in RESULTS]
    code, _, err = run("captions", CAPTIONS, texts)
    assert code == 2 and "'image_id' is text, '1', and the ids of annotations.json are numbers" in err
    code, _, err = run("detections", BOXES, [{**row, "category_id": "1"} for row in FOUND])
    assert code == 2 and "'category_id' is text, '1', and the ids of the categories are numbers" in err


def test_a_category_that_is_not_listed_is_refused_in_the_truth_and_told_of_detections(run):
    code, _, err = run("detections", {**BOXES, "categories": [{"id": 2, "name": "dog"}]}, FOUND)
    assert code == 2
    assert "record 0 (id 1): 'category_id' is 1, which is not among the 1 of 'categories'" in err
    code, out, err = run("detections", BOXES, [*FOUND, {**FOUND[0], "category_id": 5}], "--json")
    assert code == 0 and json.loads(out)["AP"] == pytest.approx(.71683168, abs=5e-9)
    assert "1 of 5 detections are of 1 category (5) not in annotations.json" in err


@pytest.mark.parametrize("field", ["area", "iscrowd"])
@pytest.mark.parametrize("missing", [True, False])
def test_a_missing_area_is_that_of_the_box_and_without_a_word_nothing_is_a_crowd(run, field, missing):
    rows = [dict(row) if missing else {**row, field: None} for row in BOXES["annotations"]]
    if missing:
        for row in rows:
            del row[field]
    want = run("detections", BOXES, FOUND, "--json")[1]
    assert run("detections", {**BOXES, "annotations": rows}, FOUND, "--json")[:2] == (0, want)
