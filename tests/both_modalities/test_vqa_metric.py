"""The official evaluator of VQA, replayed from its rules letter by letter, and its odd cases one by one."""

import hashlib
import json
import random

import pytest
import torch

from mmlearn.metrics.vqa import (
    CONTRACTIONS,
    accuracy_of_matches,
    best_answer,
    human_accuracy,
    leave_one_out,
    normalise_answer,
    percent,
    plain_words,
    soft_score,
    soft_targets,
    vqa_accuracy,
    vqa_scores,
    without_marks,
)

# what the evaluator makes of some words, by hand
WORDS = {"none": "0", "one": "1", "Zero": "0", "two": "2", "TEN": "10", "eleven": "eleven", "a": "",
         "An": "",
         "the": "", "dont": "don't", "don't": "don't", "shed've": "she'd've", "she'dve": "she'd've",
         "somebody'd": "somebodyd", "whereve": "where've", "yalld've": "yalld've", "y'alld've": "y'all'd've",
         "Im": "im", "ive": "ive", "lets": "lets", "shes": "shes", "oclock": "o'clock", "twas": "'twas",
         "theyll": "they'll", "cats": "cats", "Red": "red", "grey": "grey", "10": "10", "2.5": "2.5"}
GLUE = (" ", " ", " ", "  ", ", ", ",", ".", ". ", "-", " - ", "/", "?", "! ", "(", ") ", "\n", "\t", "_",
        "@", ";", ":", "'", "\"", "+", "1,000", "3.5", ".5", "...")


def naive_form(text: str) -> str:
    """Letter by letter, without a regular expression."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    marks = ";/[]\"{}()=+\\_-><@`,?!"
    digit = "0123456789"
    last = len(text) - 1
    comma = any(text[i] == "," and 0 < i < last and text[i - 1] in digit and text[i + 1] in digit
                for i in range(len(text)))
    loose = {text[i] for i in range(len(text)) if (i > 0 and text[i - 1] == " ")
             or (i < last and text[i + 1] == " ")}
    letters = ["" if letter in marks and (comma or letter in loose) else " " if letter in marks else letter
               for letter in text]
    line, kept, gone = "".join(letters), "", 0
    for i, letter in enumerate(line):
        if letter == "." and gone < 32 and not (i + 1 < len(line) and line[i + 1] in digit):
            gone += 1
        else:
            kept += letter
    known = {word.lower(): form for word, form in WORDS.items()}
    words = [known.get(word, CONTRACTIONS.get(word, word)) for word in kept.lower().split()]
    return " ".join(word for word in words if word)


def naive_accuracy(candidate: str, records: list[dict]) -> float:
    """The loops of the evaluator over records."""
    def trim(text: str) -> str:
        return text.replace("\n", " ").replace("\t", " ").strip()

    truth = [{**record, "answer": trim(record["answer"])} for record in records]
    candidate = trim(candidate)
    if len({record["answer"] for record in truth}) > 1:
        truth = [{**record, "answer": naive_form(record["answer"])} for record in truth]
        candidate = naive_form(candidate)
    scores = []
    for one in truth:
        others = [other for other in truth if other != one]
        scores.append(min(1, sum(other["answer"] == candidate for other in others) / 3))
    return sum(scores) / len(scores)


def written(draw: random.Random) -> str:
    pieces = []
    for _ in range(draw.randint(1, 4)):
        pieces += [draw.choice(list(WORDS)), draw.choice(GLUE)]
    return "".join(pieces[draw.randint(0, 1):draw.choice((-1, None))])


def people(*answers: str) -> list[dict]:
    return [{"answer": a, "answer_confidence": "yes", "answer_id": i + 1} for i, a in enumerate(answers)]


def test_the_table_of_contractions_is_the_official_one_word_for_word():
    assert len(CONTRACTIONS) == 120
    digest = hashlib.sha256(json.dumps(sorted(CONTRACTIONS.items())).encode()).hexdigest()
    assert digest == "3e5960526f62912d3b70896069c43c13d7c21be38d50ca28efbb9095b499454f"


def test_three_thousand_answers_are_normalised_as_letter_by_letter():
    draw = random.Random(0)
    for _ in range(3000):
        text = written(draw)
        assert normalise_answer(text) == naive_form(text), repr(text)


def test_a_thousand_questions_are_scored_as_by_the_loops_of_the_evaluator():
    draw = random.Random(1)
    for _ in range(1000):
        texts = [written(draw) for _ in range(draw.randint(1, 3))]
        records = people(*(draw.choice(texts) for _ in range(draw.choice((10, 10, 3, 1)))))
        if draw.random() < 0.3:                                 # people who cannot be told apart
            records = [{"answer": record["answer"]} for record in records]
        candidate = draw.choice([*texts, written(draw), texts[0].upper()])
        want = naive_accuracy(candidate, records)
        assert vqa_accuracy(candidate, records) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("text, form", [
    ("Yes.", "yes"), ("a red Cat", "red cat"), ("two", "2"), ("ten", "10"), ("eleven", "eleven"),
    ("none", "0"), ("the", ""), ("dont know", "don't know"), ("2:50 pm", "2:50 pm"), ("girl's", "girl's"),
    ("wi-fi", "wi fi"), ("wi - fi", "wi fi"), ("wi -fi", "wi fi"), ("1,000", "1000"),
    ("wi-fi 1,000", "wifi 1000"), ("red, blue", "red blue"), ("red,blue", "red blue"), ("2.5", "2.5"),
    ("2. 5", "2 5"), ("u.s.", "us"), ("no.5", "no.5"), ("x?", "x"), ("one on left", "1 on left"),
    ("Im", "im"), ("somebody'd", "somebodyd"), ("shes", "shes"), ("a\tb\nc", "b c"), ("", "")])
def test_an_answer_takes_its_official_form(text, form):
    assert normalise_answer(text) == form == naive_form(text)


def test_at_most_thirty_two_periods_go_from_an_answer():
    assert without_marks("." * 40) == "." * 8


def test_a_mark_becomes_a_space_unless_it_stands_beside_one_somewhere():
    assert without_marks("a-b-c") == "a b c"
    assert without_marks("a-b -c") == "ab c"
    assert plain_words("A  the an THE x") == "x"


def test_nothing_is_normalised_where_all_people_wrote_the_same():
    alike = people(*["yes"] * 10)
    assert vqa_accuracy("yes", alike) == 1
    assert vqa_accuracy("Yes", alike) == vqa_accuracy("yes.", alike) == 0
    assert vqa_accuracy(" yes\n", alike) == 1
    assert vqa_accuracy("Yes.", people(*["yes"] * 9, "no")) == 1
    assert vqa_accuracy("two", people(*["two"] * 10)) == 1          # both as they are
    assert vqa_accuracy("2", people(*["two"] * 10)) == 0


def test_the_answer_none_counts_as_zero_even_where_nobody_counted():
    assert vqa_accuracy("none", people("none", *["unclear"] * 9)) == pytest.approx(0.3)
    assert vqa_accuracy("0", people("none", *["unclear"] * 9)) == pytest.approx(0.3)


@pytest.mark.equation("eq:vqa-accuracy")
def test_each_person_is_left_out_once():
    for total in range(11):
        hits = [i < total for i in range(10)]
        want = 0.0
        for i in range(10):
            agree = 0
            for j in range(10):
                agree += j != i and hits[j]
            want += min(1, agree / 3) / 10
        assert leave_one_out(hits) == pytest.approx(want)


@pytest.mark.equation("eq:vqa-matches")
def test_ten_people_give_none_three_six_nine_or_all_tenths():
    assert [round(accuracy_of_matches(m), 12) for m in range(11)] == [0, .3, .6, .9, *[1.0] * 7]
    for n in (1, 2, 3, 5, 10):
        for m in range(n + 1):
            assert accuracy_of_matches(m, n) == pytest.approx(leave_one_out([i < m for i in range(n)]))


@pytest.mark.equation("eq:vqa-soft")
def test_the_training_target_is_a_third_for_each_person_and_at_most_one():
    assert [soft_score(m) for m in range(5)] == [0, 1 / 3, 2 / 3, 1, 1]
    targets = soft_targets([["Red", "red.", "blue", "green"], ["two", "2", "2.", "3"]], ["red", "blue", "2"])
    torch.testing.assert_close(targets, torch.tensor([[2 / 3, 1 / 3, 0], [0, 0, 1.]]))


@pytest.mark.equation("eq:vqa-human")
def test_people_are_scored_against_each_other():
    answers = ["yes"] * 8 + ["no"] * 2
    want = 0.0
    for i in range(10):
        want += min(1, sum(answers[j] == answers[i] for j in range(10) if j != i) / 3) / 10
    assert human_accuracy(answers) == pytest.approx(want) == pytest.approx(0.8 + 0.2 / 3)


def test_people_who_cannot_be_told_apart_are_left_out_together():
    assert vqa_accuracy("yes", [{"answer": "yes"}] * 10) == 0
    assert vqa_accuracy("yes", ["yes"] * 10) == 1               # texts are one person each
    assert vqa_accuracy("yes", [{"answer": "yes"}] * 8 + [{"answer": "no"}] * 2) == pytest.approx(0.2)


def test_the_most_frequent_answer_is_found_among_forms():
    assert best_answer(["Two", "2.", "three", "3", "two"]) == "2"
    assert best_answer(["b", "a"]) == "b"


def test_scores_are_means_by_type_rounded_as_officially():
    def question(number, kind, answer_type, *answers):
        return {"question_id": number, "question_type": kind, "answer_type": answer_type,
                "answers": people(*answers)}

    asked = [question(1, "is the", "yes/no", *["yes"] * 9, "no"),
             question(2, "is the", "yes/no", *["yes"] * 8, *["no"] * 2),
             question(3, "how many", "number", *["2"] * 9, "3")]
    scores = vqa_scores(asked, {1: "yes", 2: "no", 3: "two"})
    assert scores.each == pytest.approx({1: 1, 2: 0.6, 3: 1})
    assert scores.overall == pytest.approx(2.6 / 3)
    assert scores.table() == {"overall": 86.67, "perQuestionType": {"is the": 80.0, "how many": 100.0},
                              "perAnswerType": {"yes/no": 80.0, "number": 100.0}}
    assert percent(0.53125) == 53.13 and percent(0.00125) != 0.12     # halves away from zero
    with pytest.raises(ValueError, match="question 2 has no result"):
        vqa_scores(asked, {1: "yes"})
    with pytest.raises(ValueError, match="no questions"):
        vqa_scores([], {})
    with pytest.raises(ValueError, match="no answer to compare with"):
        vqa_accuracy("yes", [])
