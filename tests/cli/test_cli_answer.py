"""``mmlearn answer``: what is asked is what the model reads, and one sentence on bad input."""

import argparse
import json
from types import SimpleNamespace

import pytest
import torch

from mmlearn.both_modalities.interleaved import IMAGE, ChunkTokeniser, chunk
from mmlearn.cli import answer, main
from mmlearn.files import package_data

WORDS = ["what colour is the car ? where is this : question answer red street blue <image>"]


def table(folder, *rows, head="picture,question,answer"):
    path = folder / "shots.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def test_shots_stand_before_the_question_each_with_its_picture(tmp_path):
    shots = answer.read_shots(table(tmp_path, 'a.png,"Red, or blue?",red', "b.jpg,Where is this?, street "))
    assert [shot.picture for shot in shots] == [tmp_path / "a.png", tmp_path / "b.jpg"]
    assert shots[0].question == "Red, or blue?" and shots[1].answer == "street"
    page = answer.episode(shots, "What colour is the car?")
    assert [example.picture for example in page] == [0, 1, 2]
    assert chunk(page[1]) == f"{IMAGE}Question: Where is this? Answer: street<EOC>"
    assert chunk(page[2], answered=False) == f"{IMAGE}Question: What colour is the car? Answer:"


def test_words_that_the_model_never_read_are_named(capsys):
    words = ChunkTokeniser.train(WORDS)
    page = answer.episode([], "Where is the unicorn?")
    answer.say_unknown(words, page)
    assert "unicorn" in capsys.readouterr().err


@pytest.mark.parametrize(("rows", "head", "message"), [
    (["a.png,What?,red"], "picture,question", "no column 'answer'"),
    ([], "picture,question,answer", "has no row"),
    (["a.png,What?,"], "picture,question,answer", "line 2 has no answer"),
    (["a.png,What?,red,blue"], "picture,question,answer", "line 2 has more columns"),
    (["a.png,What?,red"] * 17, "picture,question,answer", "has 17 shots; give at most 16"),
])
def test_a_table_that_is_none_is_told_in_one_sentence(rows, head, message, tmp_path, pictures, capsys):
    path = table(tmp_path, *rows, head=head)
    assert main(["answer", str(pictures / "a.png"), "What?", "--shots", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("mmlearn answer: ") and message in told and told.count("\n") == 1


def test_bad_input_is_told_in_one_sentence(pictures, tmp_path, capsys):
    image = str(pictures / "a.png")
    for arguments, message in (
            ([image, " ?"], "has no word"),
            ([image, "What?", "--beams", "0"], "--beams is 0"),
            ([image, "What?", "--max-len", "0"], "--max-len 0"),
            ([str(tmp_path / "no.png"), "What?"], "no image at"),
            ([image, "What?", "--shots", str(tmp_path / "no.csv")], "No such file"),
            ([image, "What?", "--weights", str(tmp_path / "no")], "is no file and no folder")):
        assert main(["answer", *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("mmlearn answer: ") and message in told and told.count("\n") == 1


def test_the_model_gets_the_pictures_in_their_order_and_its_answer_is_printed(
    pictures, tmp_path, capsys, monkeypatch
):
    from mmlearn.both_modalities import few_shot, flamingo_training

    asked = {}

    def load(path):
        asked["path"] = path
        return SimpleNamespace(model="model", tokeniser=ChunkTokeniser.train(WORDS))

    def write(model, episodes, tokeniser, look, *, beams, max_len):
        asked.update(page=episodes[0], look=look, beams=beams, max_len=max_len)
        return ["red"]

    monkeypatch.setattr(flamingo_training, "load_flamingo", load)
    monkeypatch.setattr(few_shot, "write_answers", write)
    shots = table(pictures, "b.jpg,Where is this?,street")
    assert main(["answer", str(pictures / "a.png"), "What colour is the car?", "--shots", str(shots),
                 "--beams", "2", "--json", "--weights", str(pictures)]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"picture": str(pictures / "a.png"), "answer": "red", "shots": 1,
                                    "question": "What colour is the car?"}
    assert asked["path"] == pictures and (asked["beams"], asked["max_len"]) == (2, 8)
    assert "photographs" not in told.err
    seen = asked["look"](torch.tensor([example.picture for example in asked["page"]]))
    assert seen.shape == (2, 3, 64, 64) and not torch.equal(seen[0], seen[1])
    assert main(["answer", str(pictures / "a.png"), "What colour is the car?"]) == 0
    told = capsys.readouterr()
    assert told.out == "red\n" and "no photographs" in told.err and asked["path"].stem == "flamingo"


def test_the_miniature_of_the_book_answers_by_default(capsys):
    image = package_data("scenes-sample") / "images" / "train_000000.png"
    assert main(["answer", str(image), "Where is this?"]) == 0
    told = capsys.readouterr()
    assert told.out == "in a room\n" and "no photographs" in told.err


def test_the_miniature_is_the_default():
    parser = argparse.ArgumentParser()
    answer.add(parser)
    args = parser.parse_args(["a.png", "What?"])
    assert args.weights == "flamingo" and args.shots is None and args.beams == 3
