"""Questions of the scene world have the answers of their graph, pairs are balanced, and who sees nothing
gains nothing."""

import json
import re
from collections import Counter

import pytest

from mmlearn.cli import main
from mmlearn.data.question_programs import (
    ANSWERS,
    KINDS,
    MOST,
    NEAR,
    PEOPLE,
    PREDICATES,
    Program,
    programs,
    ten_answers,
)
from mmlearn.data.questions import (
    BLIND,
    VQAPairs,
    blind_scores,
    changed_priors,
    image_only_answers,
    likeness,
    prior_answers,
    question_only_answers,
    vqa_pairs,
    vqa_questions,
    write_vqa,
)
from mmlearn.data.scenes import CATEGORIES, sample_scene, scene_tuples
from mmlearn.data.scenes.language import HYPERNYMS, RELATION_WORDS, Dice
from mmlearn.metrics.vqa import human_accuracy, normalise_answer, vqa_accuracy

PLURAL = {c.plural: c.name for c in CATEGORIES}
KIND = {words[1]: kind for kind, words in HYPERNYMS.items()}
SUPER = {c.name: c.supercategory for c in CATEGORIES}
PREDICATE = {RELATION_WORDS[p][0]: p for p in PREDICATES}
RELATION = "|".join(sorted(PREDICATE, key=len, reverse=True))


@pytest.fixture(scope="module")
def train():
    return vqa_pairs(180, "train", scenes=130)


@pytest.fixture(scope="module")
def test():
    return vqa_pairs(90, "test", scenes=90)


@pytest.fixture(scope="module")
def loose():
    return vqa_questions(500, "train", scenes=130), vqa_questions(250, "test", scenes=90)


def naive_answer(scene, text):
    """The answer from the words of the question and the list of things, or None where it makes no sense."""
    def of(name):
        return [o for o in scene.objects if o.category == name]

    def yes(holds):
        return "yes" if holds else "no"

    if m := re.fullmatch(r"Is there an? (.+) in the picture\?", text):
        return yes(of(m[1]))
    if m := re.fullmatch(r"Are there more (.+) than (.+)\?", text):
        first, second = len(of(PLURAL[m[1]])), len(of(PLURAL[m[2]]))
        return yes(first > second) if first and second else None
    if m := re.fullmatch(r"How many (.+) are there\?", text):
        total = sum(SUPER[o.category] == KIND[m[1]] for o in scene.objects) if m[1] in KIND else \
            len(of(PLURAL[m[1]]))
        return str(total) if total <= MOST else None
    if text == "Where is this?":
        return scene.setting
    if m := re.fullmatch(rf"Is the (.+?) ({RELATION}) the (.+)\?", text):
        if not len(of(m[1])) == len(of(m[3])) == 1:
            return None
        return yes(any(scene.objects[r.subject].category == m[1] and r.predicate == PREDICATE[m[2]]
                       and scene.objects[r.object].category == m[3] for r in scene.relations))
    for pattern, value in ((r"What colour is the (.+?)(?: wearing)?\?", lambda o, _: o.colour),
                           (r"What pattern (?:is|does) the (.+?) (?:have|wearing)\?", lambda o, _: o.texture),
                           (r"Is the (.+?) (?:in )?(\w+)\?", lambda o, m: yes(o.colour == m[2]))):
        if m := re.fullmatch(pattern, text):
            return value(of(m[1])[0], m) if len(of(m[1])) == 1 else None
    raise AssertionError(text)


def test_every_program_answers_as_counting_and_comparing_in_the_graph():
    seen, kinds = set(), Counter()
    for index in range(25):
        scene, other = sample_scene(3, index), sample_scene(3, index + 1)
        for program, answer in programs(scene):
            assert answer == naive_answer(scene, program.text()), (index, program)
            assert program.answer(other) == naive_answer(other, program.text())
            assert answer in ANSWERS
            kinds[program.kind] += 1
            seen.add(answer)
    assert set(kinds) == set(KINDS) and set(ANSWERS) >= seen > {"yes", "no", "0", "1", "2", "red"}
    assert len(ANSWERS) == len(set(ANSWERS)) <= 30


def test_a_question_that_makes_no_sense_has_no_answer():
    scene = sample_scene(0, 0)
    there = {o.category for o in scene.objects}
    absent = next(c.name for c in CATEGORIES if c.name not in there)
    assert Program("colour", (absent,)).answer(scene) is None
    assert Program("relation", (absent, "above", next(iter(there)))).answer(scene) is None
    assert Program("compare", (absent, next(iter(there)))).answer(scene) is None
    assert Program("exist", (absent,)).answer(scene) == "no"


def test_ten_people_mostly_agree_and_never_all_write_alike_for_long(train):
    accuracy, one_form, forms = [], 0, set()
    for q in train.questions:
        assert len(q.answers) == len(q.sure) == PEOPLE and set(q.sure) <= {"yes", "maybe"}
        accuracy.append(vqa_accuracy(q.answer, q.answers))
        one_form += len(set(q.answers)) == 1
        forms.update(q.answers)
    assert 0.95 < sum(accuracy) / len(accuracy) <= 1
    assert one_form < 0.2 * len(train)                              # the normalisation has something to do
    assert len(forms) > 3 * len({normalise_answer(form) for form in forms})
    assert 0.9 < sum(human_accuracy(q.answers) for q in train.questions) / len(train) < 1


def test_people_slip_to_what_is_near():
    for answer in ANSWERS:
        program = Program("count", ("cat",)) if answer.isdigit() else Program("setting")
        given = {normalise_answer(a) for i in range(60) for a in ten_answers(program, answer, Dice(i))[0]}
        near = {str(int(answer) - 1), str(int(answer) + 1)} if answer.isdigit() else set(NEAR[answer])
        assert answer in given and given & near
        assert not given & (set(ANSWERS) - near - {answer})


def test_a_pair_is_one_question_about_two_scenes_with_two_answers(train):
    assert isinstance(train, VQAPairs) and len(train) == 360
    for first, second in train.pairs():
        assert first.text == second.text and first.scene != second.scene
        assert first.answer != second.answer
        for q in (first, second):
            assert naive_answer(train.scenes[q.scene], q.text) == q.answer
    assert len({q.id for q in train.questions}) == len(train)
    assert len({(q.scene, q.program) for q in train.questions}) == len(train)
    kinds = Counter(q.program.kind for q in train.questions)
    assert max(kinds.values()) <= 2 * min(kinds.values())
    with pytest.raises(ValueError, match="are no balanced pair"):
        VQAPairs(train.scenes, (train.questions[0], train.questions[0]))


def test_the_second_scene_is_more_like_the_first_than_others_are(train):
    alike = likeness(train.scenes, train.scenes)
    pairs = [alike[a.scene, b.scene].item() for a, b in train.pairs()]
    assert sum(pairs) / len(pairs) > 1.3 * alike[~alike.eq(1)].mean().item()


def test_likeness_is_common_facts_over_all_facts():
    scenes = [sample_scene(1, i) for i in range(4)]
    got = likeness(scenes[:3], scenes[1:])
    for i, a in enumerate(scenes[:3]):
        for j, b in enumerate(scenes[1:]):
            x, y = scene_tuples(a), scene_tuples(b)
            assert got[i, j].item() == pytest.approx(len(x & y) / len(x | y))


def test_questions_are_a_function_of_their_arguments():
    assert vqa_pairs(20, "val", seed=4, scenes=30) == vqa_pairs(20, "val", seed=4, scenes=30)
    assert vqa_pairs(20, "val", seed=4, scenes=30) != vqa_pairs(20, "val", seed=5, scenes=30)
    assert vqa_questions(20, "val", scenes=30) == vqa_questions(20, "val", scenes=30)


def test_whoever_sees_no_picture_is_right_about_at_most_half_of_the_pairs(train, test):
    for answers in (prior_answers, question_only_answers):
        assert test.exact(answers(train, test)) <= 0.5
        assert test.exact(answers(test, test)) <= 0.5               # even who has seen the test itself
    scores = blind_scores(train, test)
    assert set(scores) == set(BLIND)
    for score in scores.values():
        assert score.overall < 0.58
    for name in ("prior of the question type", "question only"):    # half, and what people slip
        assert 0.45 < scores[name].by_answer_type["yes/no"] < 0.6
    perfect = test.scores([q.answer for q in test.questions])
    assert perfect.overall > 0.95


def test_without_balancing_the_question_alone_answers_more(train, test, loose):
    loose_train, loose_test = loose
    for answers in (prior_answers, question_only_answers):
        assert loose_test.exact(answers(loose_train, loose_test)) > 0.08 + test.exact(answers(train, test))


def test_whoever_does_not_read_the_question_is_lost(train, test):
    answers = image_only_answers(train, test)
    assert len({a for q, a in zip(test.questions, answers) if q.scene == test.questions[0].scene}) == 1
    assert test.exact(answers) < 0.45
    with pytest.raises(ValueError, match="neighbours is 0"):
        image_only_answers(train, test, 0)


def test_where_priors_change_the_usual_answer_is_wrong():
    data = vqa_questions(1500, "train", scenes=150)
    first, second = changed_priors(data)
    same, rest = data.rows(range(0, len(data), 2)), data.rows(range(1, len(data), 2))
    assert len(first) + len(second) == len(data)
    assert {q.id for q in first.questions}.isdisjoint(q.id for q in second.questions)
    assert min(len(first), len(second)) > 0.25 * len(data)
    usual = rest.exact(question_only_answers(same, rest))
    changed = second.exact(question_only_answers(first, second))
    assert changed < usual - 0.15
    learnt = {q.answer for q in first.questions}
    assert sum(q.answer not in learnt for q in second.questions) < 0.02 * len(second)
    assert changed_priors(data) == (first, second)
    with pytest.raises(ValueError, match="share is 0.2"):
        changed_priors(data, share=0.2)


def test_the_files_are_those_of_vqa_and_are_scored_by_the_command(tmp_path, capsys, test):
    folder = write_vqa(test, tmp_path / "vqa")
    answers = [q.answer for q in test.questions]
    (folder / "results.json").write_text(json.dumps(test.results(answers)))
    assert main(["evaluate", "vqa", str(folder / "annotations.json"), str(folder / "results.json"),
                 "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == test.scores(answers).table()
    asked = json.loads((folder / "questions.json").read_text())["questions"]
    truth = json.loads((folder / "annotations.json").read_text())["annotations"]
    assert [a["question_id"] for a in asked] == [a["question_id"] for a in truth]
    assert set(truth[0]) == {"question_id", "image_id", "question_type", "answer_type",
                             "multiple_choice_answer", "answers"}
    assert set(truth[0]["answers"][0]) == {"answer", "answer_confidence", "answer_id"}
    pairs = json.loads((folder / "complementary_pairs.json").read_text())
    texts = {a["question_id"]: a["question"] for a in asked}
    assert len(pairs) == len(test) // 2 and all(texts[a] == texts[b] for a, b in pairs)
    with pytest.raises(ValueError, match="1 answers for 180 questions"):
        test.scores(["yes"])


def test_pictures_are_those_of_the_scenes():
    data = vqa_pairs(3, scenes=12)
    assert data.images(16).shape == (12, 3, 16, 16)


@pytest.mark.parametrize("arguments, sentence", [
    ((0,), "count is 0"), ((5, "new"), "split 'new' is unknown"), ((500, "train", 2), "balanced pairs, not")])
def test_what_cannot_be_asked_is_refused(arguments, sentence):
    count, split, *scenes = (*arguments, "train")[:2] if len(arguments) < 3 else arguments
    with pytest.raises(ValueError, match=sentence):
        vqa_pairs(count, split, scenes=scenes[0] if scenes else None)


def test_booklet_b5_ten_is_the_number_of_people_not_of_answers(train):
    """The booklet says one of ten answers is chosen; ten people answer, and any answer may be given."""
    assert all(len(q.answers) == 10 for q in train.questions)
    assert len({normalise_answer(a) for q in train.questions for a in q.answers}) > 20
