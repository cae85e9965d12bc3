"""``mmlearn evaluate vqa``: the official table, and one sentence for each way a file can be broken."""

import json

import pytest

from mmlearn.cli import main


def annotation(number, kind, answer_type, *answers):
    return {"question_id": number, "image_id": number // 1000, "question_type": kind,
            "answer_type": answer_type, "multiple_choice_answer": answers[0],
            "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i + 1}
                        for i, a in enumerate(answers)]}


TRUTH = {"info": {}, "annotations": [
    annotation(1000, "is the", "yes/no", *["yes"] * 8, "no", "no"),
    annotation(1001, "how many", "number", *["2"] * 9, "3"),
    annotation(2000, "what color is the", "other", *["red"] * 7, *["orange"] * 3)]}
RESULTS = [{"question_id": 1000, "answer": "no"}, {"question_id": 1001, "answer": "Two."},
           {"question_id": 2000, "answer": "a red"}]


@pytest.fixture
def run(tmp_path, capsys):
    def evaluate(annotations, results, *options):
        paths = []
        for name, content in (("annotations.json", annotations), ("results.json", results)):
            path = tmp_path / name
            if content is not None:
                path.write_text(content if isinstance(content, str) else json.dumps(content),
                                encoding="utf-8")
            paths.append(str(path))
        code = main(["evaluate", "vqa", *paths, *options])
        streams = capsys.readouterr()
        return code, streams.out, streams.err
    return evaluate


def test_the_official_table_is_printed_as_json(run):
    code, out, err = run(TRUTH, RESULTS, "--json")
    assert code == 0 and err == ""
    assert json.loads(out) == {
        "overall": 86.67, "perQuestionType": {"is the": 60.0, "how many": 100.0, "what color is the": 100.0},
        "perAnswerType": {"yes/no": 60.0, "number": 100.0, "other": 100.0}}


def test_a_table_is_printed_for_people(run):
    code, out, _ = run(TRUTH, RESULTS)
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == ["overall", "86.67"]
    assert [line.split()[0] for line in lines[3:6]] == ["number", "other", "yes/no"]
    assert "what color is the  100.00" in out


def test_a_subset_is_scored_when_asked(run):
    code, out, err = run(TRUTH, RESULTS[1:], "--subset", "--json")
    assert code == 0 and json.loads(out)["overall"] == 100
    assert "2 of the 3 questions of annotations.json have results" in err


def test_people_without_numbers_are_told_of(run):
    truth = {"annotations": [{**TRUTH["annotations"][0], "answers": [{"answer": "yes"}] * 10}]}
    code, out, err = run(truth, RESULTS[:1], "--json")
    assert code == 0 and json.loads(out)["overall"] == 0
    assert "in 1 of 1 questions answers have no 'answer_id'" in err


def with_field(**fields):
    return {"annotations": [{**TRUTH["annotations"][0], **fields}]}


@pytest.mark.parametrize("annotations, results, options, sentence", [
    (None, RESULTS, (), "no file at"),
    (TRUTH, None, (), "results.json; a VQA results file is a list of records"),
    ("{", RESULTS, (), "annotations.json is not valid JSON"),
    (TRUTH, "[{", (), "results.json is not valid JSON"),
    ([], RESULTS, (), "holds a list, where an object is expected"),
    (TRUTH, {"results": []}, (), "results.json holds an object, where a list is expected"),
    ({"questions": []}, RESULTS, (), "has no list 'annotations'"),
    ({"annotations": []}, [], (), "no annotation in it"),
    ({"annotations": [5]}, RESULTS, (), "record 0: 5 is no object"),
    ({"annotations": [{"image_id": 1, "caption": "a"}]}, RESULTS, (), "it has no 'question_id', only image"),
    (with_field(question_type=None), RESULTS, (), "'question_type' is None; give a text"),
    (with_field(answers=[]), RESULTS, (), "give a list of records with 'answer', one for each person"),
    (with_field(answers=["yes"]), RESULTS, (), "give a list of records with 'answer'"),
    (with_field(answers=[{"answer": 2}]), RESULTS, (), "give a text as 'answer' of each person"),
    ({"annotations": [TRUTH["annotations"][0]] * 2}, RESULTS, (), "1 question (1000) has more than one ann"),
    (TRUTH, [*RESULTS, RESULTS[0]], (), "1 question (1000) has more than one answer; keep one"),
    (TRUTH, RESULTS[:1], (), "2 questions (1001, 2000) of annotations.json, which has 3, have no answer"),
    (TRUTH, [], ("--subset",), "there is no result in it"),
    (TRUTH, [*RESULTS, {"question_id": 7, "answer": "x"}], (), "'question_id' is 7, which is not among"),
    (TRUTH, [{"question_id": "1000", "answer": "x"}], (), "'question_id' is text, '1000'"),
    (TRUTH, [{"question_id": 1000, "answer": 2}], (), "'answer' is 2; give a text"),
    (TRUTH, [{"question_id": 1000}], (), "it has no 'answer', only question_id; give a text")])
def test_a_broken_file_gets_one_sentence_and_code_2(run, annotations, results, options, sentence):
    code, out, err = run(annotations, results, *options)
    assert code == 2 and out == ""
    assert sentence in err, err
    assert len(err.strip().splitlines()) == 1
