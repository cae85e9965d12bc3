"""The figures of the tasks show what the data and the official rules say."""

import re

import pytest
from figure_parts import check_texts, drawing, frames, texts

from mmlearn.data.questions import vqa_pairs
from mmlearn.data.rationales import vcr_problems, with_names
from mmlearn.figures.both_modalities import tasks
from mmlearn.metrics.vqa import accuracy_of_matches, vqa_accuracy


@pytest.fixture(scope="module")
def pairs():
    return vqa_pairs(18, "test", scenes=100)


def test_a_balanced_pair_has_one_question_two_answers_and_what_people_say_is_worth(pairs):
    for kind in ("count", "colour", "exist"):
        one, two = pair = tasks.pair_of_kind(pairs, kind)
        drawn = tasks.balanced_pair(pair, pairs.images())
        check_texts(drawn)
        said = texts(drawn)
        assert said[0] == one.text and one.answer != two.answer
        assert f"right: {one.answer}" in said and f"right: {two.answer}" in said
        rows = [re.fullmatch(r"(\d+) (.*): (\d\.\d\d)", text) for text in said]
        assert sum(int(row[1]) for row in rows if row) == 20
        for row in rows:
            if row:
                worth = {round(vqa_accuracy(row[2], one.answers), 2) for one in pair}
                assert float(row[3]) in worth
    with pytest.raises(ValueError, match="there are 2 pairs of the kind"):
        tasks.pair_of_kind(pairs, "count", 9)


@pytest.mark.parametrize("m", range(11))
def test_each_person_is_left_out_once(m):
    said = ["yes"] * m + [f"no {i}" for i in range(10 - m)]
    want = []
    for i in range(10):
        others = said[:i] + said[i + 1:]
        want.append(min(1, others.count("yes") / 3))
    assert tasks.left_out(m) == pytest.approx(want)
    assert sum(want) / 10 == pytest.approx(accuracy_of_matches(m))


def test_the_slider_over_annotators_has_a_frame_for_each_number_with_its_mean():
    block = tasks.annotators()
    shown = frames(block)
    assert len(shown) == 11
    for m, frame in enumerate(shown):
        if m != 2:                                              # the still one stands in another form
            check_texts(drawing(frame))
            assert texts(drawing(frame))[-1] == f"{accuracy_of_matches(m):.1f}"
            assert texts(drawing(frame)).count("yes") == m


def test_a_problem_shows_its_boxes_question_answers_and_reasons():
    data = vcr_problems(60, "test", scenes=100)
    images = data.images()
    for number in range(6):
        one = data.problems[number]
        drawn = tasks.vcr_problem(data, number, images)
        check_texts(drawn)
        said = " ".join(texts(drawn))
        scene = data.scenes[one.scene]
        for text in (one.question, *one.answers, *one.rationales):
            assert with_names(text, scene) in said
        assert said.count("✓") == 2 and said.count("·") == 6
        assert drawn.svg.count("mm-new") > 4


def test_lines_hold_all_words_and_fit():
    lines = tasks.wrapped("one two three four five six", 14, 60)
    assert " ".join(lines) == "one two three four five six" and len(lines) > 2
    assert all(tasks.text_width(line, 14) <= 60 or " " not in line for line in lines)


def test_the_table_holds_means_and_a_dash_for_what_a_system_does_not_do():
    found = {"arms": {
        "prior": [{"seed": 0, "scores": {"VQA": 0.25, "captions CIDEr-D": 1.0}},
                  {"seed": 1, "scores": {"VQA": 0.35, "captions CIDEr-D": 2.0}}],
        "network": [{"seed": 0, "scores": {"VQA": 0.5}}, {"seed": 1, "scores": {"VQA": 0.6}}]}}
    head, rows = tasks.task_table(found)
    assert head == ["system", "VQA", "CIDEr-D"]
    assert rows == [["prior", "30.0", "1.50"], ["network", "55.0", "–"]]
