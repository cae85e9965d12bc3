"""The table of all models: rows that can be run alone and put together, and rows that need files."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from mmlearn.data.question_programs import KINDS
from mmlearn.data.questions import ANSWERS, vqa_pairs
from mmlearn.experiments import main
from mmlearn.experiments.both_modalities.both_modalities import (
    ROWS,
    chosen_rows,
    crops,
    four_texts,
    job,
    merged,
    region_overlaps,
    regions,
    statement,
    tasks,
    walker,
)

SMALL = {"train": 60, "test": 60, "captioned": 60, "pictures": 12, "steps": 2, "caption_steps": 2, "shots": 1}


def given(**more):
    return argparse.Namespace(**{**SMALL, "vilbert": None, "flamingo": None, "walker": None,
                                 "systems": list(ROWS), **more})


def test_every_answer_to_every_question_makes_a_statement():
    asked = vqa_pairs(36, scenes=100).questions
    assert {q.program.kind for q in asked} == set(KINDS)
    for question in asked:
        same = [q.answer for q in asked if q.program.kind == question.program.kind]
        said = {answer: statement(question.program, answer) for answer in same}
        assert len(set(said.values())) == len(said) and all(text.split() for text in said.values())
    count = next(q.program for q in asked if q.program.kind == "count")
    assert statement(count, "0").startswith("no ") and statement(count, "2").startswith("two ")
    assert set(ANSWERS) >= {q.answer for q in asked}


def test_regions_overlap_what_is_meant_and_the_whole_picture_is_no_answer():
    data, seen = tasks(60, "test", 0).expressions, regions("expressions", 60, "test", 0)
    iou = region_overlaps(data, seen)
    assert iou.shape == (60, seen.mask.shape[1]) and not iou[:, 0].any()
    one = data.expressions[7]
    truth, box = data.boxes(one.scene)[one.target], seen.features[one.scene, 1, -5:-1]
    wide = (torch.minimum(truth[2:], box[2:]) - torch.maximum(truth[:2], box[:2])).clamp(min=0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (truth, box)]
    common = wide.prod()
    torch.testing.assert_close(iou[7, 1], common / (sum(areas) - common))
    assert float((iou > 0.5).any(1).double().mean()) > 0.6
    cut = crops(data.images()[:2], type(seen)(*(part[:2] for part in seen)), 16)
    assert cut.shape == (int(seen.mask[:2].sum()), 3, 16, 16)


def test_the_texts_of_a_choice_hold_the_question_and_reasons_the_right_answer():
    data = tasks(60, "test", 0).vcr
    answers, reasons = four_texts(data, False), four_texts(data, True)
    assert len(answers) == len(reasons) == 4 * len(data)
    words = data.problems[0].answers[data.problems[0].answer].split("]")[-1]
    assert all(words in text for text in reasons[:4]) and sum(words in text for text in answers[:4]) == 1


def test_baselines_do_their_tasks_and_a_pair_is_never_right_without_a_picture():
    found = {name: job(name, 0, given())["scores"] for name in ("prior", "question only", "picture only")}
    assert found["prior"]["VCR Q->AR"] == 1 / 16 and found["prior"]["retrieval R@1"] == 1 / 12
    assert found["question only"]["VQA both of a pair"] == found["prior"]["VQA both of a pair"] == 0
    assert all(0 <= value <= 1 for scores in found.values() for name, value in scores.items()
               if "CIDEr" not in name)
    assert "referring" in found["picture only"] and "referring" not in found["question only"]


def test_rows_without_their_file_are_left_out_and_unknown_ones_refused(tmp_path, capsys):
    names = chosen_rows(given(systems=["walker", "network", "prior"]))
    assert names == ["prior", "network"] and "walker: left out, since --walker is not given" in (
        capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main(["both-modalities", "--systems", "magic", "--out", str(tmp_path / "out.json")])
    assert "invalid choice: 'magic'" in capsys.readouterr().err
    (tmp_path / "w.json").write_text(json.dumps({"arms": {"seeing": [
        {"seed": 0, "unseen": {"success": 0.5, "spl": 0.25}},
        {"seed": 1, "unseen": {"success": 0.75, "spl": 0.5, "error": 1}}]}}))
    file = given(walker=tmp_path / "w.json", systems=["walker"])
    assert chosen_rows(file) == ["walker"]
    assert walker(1, file) == {"walks success": 0.75, "walks spl": 0.5}
    with pytest.raises(ValueError, match="no walker 'seeing' with seed 7"):
        walker(7, file)
    missing = given(walker=Path("nowhere.json"), systems=["walker"])
    assert chosen_rows(missing) == []


def test_earlier_rows_are_put_in_their_place_and_other_settings_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"settings": {"train": 1}, "arms": {"network": [1], "prior": [0]}}))
    both = merged({"question only": [2], "prior": [3]}, {"train": 1}, [path])
    assert list(both) == ["prior", "question only", "network"] and both["prior"] == [3]
    with pytest.raises(ValueError, match="rows of one table need the same"):
        merged({}, {"train": 2}, [path])
    assert set(both) <= set(ROWS)


@pytest.mark.slow
def test_the_study_writes_rows_that_can_be_merged(tmp_path):
    few = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    first, second = str(tmp_path / "1.json"), str(tmp_path / "2.json")
    run = ["both-modalities", *few, "--seeds", "1", "--processes", "1", "--keep", str(tmp_path / "keep")]
    assert main([*run, "--systems", "network", "network without question", "attention captioner",
                 "--out", first]) == 0
    assert main([*run, "--systems", "prior", "CLIP zero-shot", "--merge", first, "--out", second]) == 0
    told = json.loads(Path(second).read_text())
    assert list(told["arms"]) == ["prior", "network without question", "network", "CLIP zero-shot",
                                  "attention captioner"]
    assert set(told["arms"]["CLIP zero-shot"][0]["scores"]) > {"VQA", "VCR Q->AR", "referring",
                                                               "retrieval R@1"}
