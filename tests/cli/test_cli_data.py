"""``mmlearn data``: results on stdout, progress on stderr, one sentence and exit code 2 on bad input."""

import json
import subprocess
import sys

import pytest
from pycocotools.coco import COCO

from mmlearn.cli import main


def test_scenes_are_written_where_asked_and_told_as_json(tmp_path, capsys):
    out = tmp_path / "scenes"
    assert main(["data", "scenes", "--out", str(out), "--images", "3", "--size", "32", "--split", "val",
                 "--json"]) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["recipe"] == {"count": 3, "size": 32, "split": "val", "seed": 0, "style": "normal",
                              "format": "mmlearn scenes 1"}
    assert "drawing: 100%" in printed.err and "3/3" in printed.err
    assert len(COCO(told["instances"]).imgs) == 3
    assert len(COCO(told["captions"]).anns) == 15


def test_scenes_are_told_in_a_sentence_without_json(tmp_path, capsys):
    assert main(["data", "scenes", "--out", str(tmp_path / "s"), "--images", "1", "--size", "16"]) == 0
    assert capsys.readouterr().out.startswith("1 images in ")


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--images", "0"], "--images is 0"), (["--images", "-5"], "--images is -5"),
    (["--images", "2", "--size", "7"], "size 7"), (["--images", "2", "--split", "trian"], "split 'trian' is "
                                                                                          "unknown; take one "
                                                                                          "of train, val"),
    (["--images", "2", "--style", "cubist"], "style 'cubist'"),
    (["--images", "2", "--workers", "0"], "--workers is 0"),
])
def test_bad_numbers_get_one_sentence_and_code_two(tmp_path, capsys, arguments, sentence):
    assert main(["data", "scenes", "--out", str(tmp_path / "s"), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and sentence in printed.err and printed.err.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_a_folder_with_other_things_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["data", "scenes", "--out", str(tmp_path), "--images", "1"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_force_replaces_scenes_that_differ(tmp_path, capsys):
    arguments = ["data", "scenes", "--out", str(tmp_path / "s"), "--size", "16", "--images"]
    assert main([*arguments, "1"]) == 0
    assert main([*arguments, "2"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "2", "--force"]) == 0


def test_an_unknown_split_of_coco_is_refused_before_anything_is_fetched(tmp_path, capsys):
    assert main(["data", "coco", "--out", str(tmp_path / "coco"), "--split", "val2018"]) == 2
    assert "take one of val2017" in capsys.readouterr().err
    assert not (tmp_path / "coco").exists()


def test_without_a_network_coco_says_so_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    from mmlearn.data import download

    nowhere = {key: download.Remote("http://127.0.0.1:9/" + key + ".zip") for key in download.COCO_FILES}
    monkeypatch.setattr(download, "COCO_FILES", nowhere)
    assert main(["data", "coco", "--out", str(tmp_path / "coco")]) == 2
    printed = capsys.readouterr()
    assert "cannot reach 127.0.0.1" in printed.err and printed.err.count("\n") == 1


@pytest.mark.parametrize("words", [["data", "--help"], ["data", "scenes", "--help"],
                                   ["data", "coco", "--help"]])
def test_help_has_an_example(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    assert "mmlearn data" in capsys.readouterr().out.partition("example")[2]


def test_the_console_program_works(tmp_path):
    done = subprocess.run([sys.executable, "-m", "mmlearn", "data", "scenes", "--out", str(tmp_path / "s"),
                           "--images", "1", "--size", "16", "--json"], capture_output=True, text=True,
                           check=True)
    assert json.loads(done.stdout)["recipe"]["count"] == 1
