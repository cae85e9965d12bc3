"""What the checks of chapter 3's exercises about vokens and grounded words know of mistakes, and what they
take for right."""

import itertools
import sys

import pytest
import torch
from exercise_parts import check_answers, check_mistakes, checked_by
from notebooks import ROOT
from sections import exercises, solutions_of

from mmlearn.claims import paired
from mmlearn.data.word_tasks import twin_accuracy, twin_questions
from mmlearn.data.word_vectors import WordVectors
from mmlearn.data.word_world import NOUNS, PICTURED
from mmlearn.data.word_world.looks import visual_similarities
from mmlearn.exercises import Answer, Hint, grounded_words, vokens
from mmlearn.images_for_language.iace import bounded_floor
from mmlearn.images_for_language.revokenization import revokenise
from mmlearn.images_for_language.token_image_matching import paired_hinge
from mmlearn.images_for_language.zero_shot import left_out_errors

MODULES = {"grounded_words": grounded_words, "vokens": vokens}
PAGE = ROOT / "book" / "exercises" / "3-images-for-language.ipynb"
PARTS = checked_by(exercises(solutions_of(PAGE))[1], MODULES)
SHORT = [part for part in PARTS if "(open)" not in part.title]       # the studies have stand-ins, below
each_short_part = pytest.mark.parametrize("part", SHORT, ids=lambda part: part.title.split()[1])

# --------------------------------------------------------------------------- the answers on the page


def test_these_modules_check_ten_exercises():
    assert len(PARTS) == 10 and len(SHORT) == 8


@each_short_part
def test_right_answers_are_right_and_each_wrong_one_gets_a_hint_of_its_own(part, capsys):
    check_answers(part, capsys, torch=torch)


@each_short_part
def test_every_known_mistake_differs_from_the_right_answer_and_from_the_other_mistakes(part, monkeypatch):
    check_mistakes(part, MODULES.values(), monkeypatch, "Exercise 17 ")


# ----------------------------------------------------------------------------- the book's own formulas


def test_families_of_one_are_rows_left_out():
    def errors(X, Y, families, alpha):
        if len(families.unique()) < len(families):
            raise ValueError("not for families")
        return left_out_errors(X - X.mean(0), Y - Y.mean(0), alpha)

    assert "not for families" in grounded_words.family_left_out.verdict(errors)
    X, Y = torch.randn(8, 3).double(), torch.randn(8, 2).double()
    out = torch.arange(8) == 2
    x, y = X[~out] - X[~out].mean(0), Y[~out] - Y[~out].mean(0)
    W = torch.linalg.solve(x.mT @ x + 0.5 * torch.eye(3).double(), x.mT @ y)
    torch.testing.assert_close(left_out_errors(X - X.mean(0), Y - Y.mean(0), 0.5)[2],
                               (Y[out] - Y[~out].mean(0) - (X[out] - X[~out].mean(0)) @ W)[0])


def test_two_captions_of_two_pictures_have_the_loss_of_the_section():
    f, g = torch.randn(2, 3, 4).double(), torch.randn(2, 4).double()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    losses = [(0.5 - f[s, i] @ g[s] + f[s, i] @ g[1 - s]).clamp(min=0)
              for s in range(2) for i in range(3) if mask[s, i]]
    assert float(paired_hinge(f, g, mask, 0.5)) == pytest.approx(sum(map(float, losses)) / 5)


def test_the_vote_and_the_overlap_differ_where_a_long_token_ends():
    source, target = [(0, 20), (20, 22)], [(17, 22)]
    assert revokenise([4, 9], source, target) == [9]
    assert vokens.voted([4, 9], source, target, vokens.shared) == [4]


@pytest.mark.parametrize("classes", [2, 3])
def test_at_scale_one_the_loss_that_stays_is_that_of_the_released_head(classes):
    def bounds(c, s, eps):
        raise Hint(f"{bounded_floor(classes)[1]:.3f}")

    assert {2: "0.127", 3: "0.240"}[classes] in vokens.a_loss_that_stays.verdict(bounds)


# ----------------------------------------------------------------------------------------------------- orders


@pytest.mark.parametrize("kinds, orders", [([0, 1, 2], 2), ([0, 1, 0, 1], 4), ([0, 0, 0, 1], 0), ([0], 0),
                                           (list(range(5)), 44), ([0, 0, 1, 2, 2, 1], 80)])
def test_allowed_orders_are_those_without_a_picture_of_the_same_kind(kinds, orders):
    assert len(grounded_words.allowed_orders(torch.tensor(kinds))) == orders
    assert bool(orders) == (2 * max(map(kinds.count, kinds)) <= len(kinds))


def test_an_answer_that_refuses_everything_or_breaks_is_told_so():
    def never(kinds, generator):
        raise ValueError("no")

    def broken(kinds, generator):
        order = torch.randperm(len(kinds), generator=generator)
        if 2 * kinds.bincount().max() > len(kinds):
            raise TypeError("oh")
        while (kinds[order] == kinds).any():
            order = torch.randperm(len(kinds), generator=generator)
        return order

    def lenient(kinds, generator):
        order = torch.randperm(len(kinds), generator=generator)
        while 2 * kinds.bincount().max() <= len(kinds) and (kinds[order] == kinds).any():
            order = torch.randperm(len(kinds), generator=generator)
        return order

    def too_strict(kinds, generator):
        if 2 * kinds.bincount().max() >= len(kinds):
            raise ValueError("no")
        return lenient(kinds, generator)

    said = grounded_words.pictures_exchanged.verdict
    assert "stopped in line" in said(never)
    assert "TypeError: oh" in said(broken)
    assert "yours returns an order" in said(lenient)
    assert "stopped in line" in said(too_strict)


@pytest.mark.parametrize("made, words", [
    (lambda kinds, g: torch.zeros(len(kinds), dtype=torch.long), "is not an order"),
    (lambda kinds, g: torch.randperm(len(kinds)), "the same seed gives different orders"),
    (lambda kinds, g: torch.randperm(len(kinds), generator=g).float(), "should hold int64")])
def test_what_is_no_order_and_what_is_drawn_elsewhere_is_told_so(made, words):
    assert words in grounded_words.pictures_exchanged.verdict(made)


def test_looking_for_what_does_not_exist_is_stopped_and_the_tracing_is_put_back():
    def endless(kinds):
        while True:
            kinds = kinds + 1

    before = sys.gettrace()
    with pytest.raises(Hint, match="without end"):
        grounded_words.refused(Answer(endless), 1)
    assert sys.gettrace() is before


# ---------------------------------------------------------------------------------------------------- studies


BUDGETS = (4000, 6000, 9000, 13000)
RIDGE, CONTROL = grounded_words.READERS[0], grounded_words.READERS[-1]


def place(arm, sentences, seed):
    """A is ahead all along, B until 9,000 with seeds that disagree there; exchanged pictures find nothing."""
    if arm == CONTROL:
        return 117.0 + (-1) ** seed
    gain = {RIDGE: 0.0, "A": 5.0 + 0.1 * seed, "B": {4000: 9.0 + 0.2 * seed, 6000: 4.0 + 0.1 * seed,
            9000: 2.0 - 1.5 * seed}.get(sentences, -5.0 - 0.1 * seed)}[arm]
    return 60.0 - sentences / 1000 + seed - gain


def table_of(measure, arms=grounded_words.READERS, budgets=BUDGETS, seeds=range(3)):
    return {arm: {n: [measure(arm, n, seed) for seed in seeds] for n in budgets} for arm in arms}


def verdicts_of(table, budgets=BUDGETS):
    return {(arm, n): paired(table[arm][n], table[RIDGE][n], lower_is_better=True).verdict
            for arm in "AB" for n in budgets}


def verdict(study, measure=place):
    return grounded_words.worth_of_a_picture.verdict(study, measure)


def test_a_study_of_pictures_and_reading_is_right_with_its_own_verdicts():
    def study(measure):
        table = table_of(measure)
        return table, verdicts_of(table)

    assert verdict(study).startswith("right:")
    said = verdicts_of(table_of(place))
    assert [said["B", n] for n in BUDGETS] == ["better", "better", "cannot tell", "worse"]


@pytest.mark.parametrize("change, words", [
    (lambda t, v: ([t], v), "return the table as"),
    (lambda t, v: ({k: t[k] for k in t if k != CONTROL}, v), "the control is missing"),
    (lambda t, v: ({k: t[k] for k in t if k != "B"}, v), "no row for B"),
    (lambda t, v: (t | {"A": t["A"] | {4000: [1.0, 2.0, 3.0]}}, v), "none left out, none made up"),
    (lambda t, v: (t | {"A": t["A"] | {4000: t["A"][4000][:2]}}, v), "fewer than three seeds"),
    (lambda t, v: ({k: {n: r[n] for n in BUDGETS[:3]} for k, r in t.items()}, v), "four numbers or more"),
    (lambda t, v: (t | {"B": {n: t["B"][n] for n in BUDGETS[1:]}}, v), "different numbers of sentences"),
    (lambda t, v: (t, dict(itertools.islice(v.items(), 3))), "a verdict for each of"),
    (lambda t, v: (t, v | {("A", 4000): "yes"}), "'yes' is no verdict"),
    (lambda t, v: (t, {k: {"better": "worse", "worse": "better"}.get(w, w) for k, w in v.items()}),
     "a smaller number is better"),
    (lambda t, v: (t, v | {("B", 9000): "better"}), "your verdicts follow the means"),
    (lambda t, v: (t, v | {("B", 13000): "cannot tell"}), "of B after 13000 sentences `paired` says 'worse'"),
])
def test_tables_that_leave_out_make_up_or_overstate_are_told_so(change, words):
    def study(measure):
        table = table_of(measure)
        return change(table, verdicts_of(table))

    assert words in verdict(study)


def test_other_texts_other_arms_and_a_control_that_finds_are_told_so():
    def other_texts(measure):
        table = table_of(measure)
        table["A"] = {n: [measure("A", n, seed) for seed in (0, 1, 3)] for n in BUDGETS}
        return table, verdicts_of(table)

    def other_arm(measure):
        return measure("C", 4000, 0), {}

    def study(measure):
        table = table_of(measure)
        return table, verdicts_of(table)

    def leaking(arm, sentences, seed):
        return 30.0 + seed if arm == CONTROL else place(arm, sentences, seed)

    def narrow(measure):
        budgets = (4000, 5000, 6000, 7000)
        table = table_of(measure, budgets=budgets)
        return table, verdicts_of(table, budgets)

    assert "none left out" in verdict(other_texts)
    assert "there is no arm 'C'" in verdict(other_arm)
    assert "what has it seen?" in verdict(study, leaking)
    assert "three times the smallest" in verdict(narrow)


LOOKS = torch.as_tensor(visual_similarities())[[NOUNS.index(word) for word in PICTURED]].double()
LOOKS = 5 * (LOOKS - LOOKS.mean(0))


def words_of(arm, seed):
    """Words whose text is noise."""
    noise = torch.Generator().manual_seed(seed)
    text = torch.randn(len(PICTURED), 20, generator=noise, dtype=torch.float64)
    order = torch.randperm(len(PICTURED), generator=noise)
    tables = {"all alike": torch.ones_like(text), "text": text,
              "text and pictures": torch.cat([text, LOOKS], 1),
              "text and exchanged pictures": torch.cat([text, LOOKS[order]], 1)}
    return WordVectors(PICTURED, tables[arm])


def twins(vectors, questions, seeds=range(5), arms=grounded_words.TWIN_ARMS):
    table = {arm: [twin_accuracy(vectors(arm, seed), questions)["mean"] for seed in seeds] for arm in arms}
    return table, {arm: paired(row, [0.5] * len(row)) for arm, row in table.items()}


def test_a_table_of_twins_is_right_and_its_rows_may_stand_in_any_order():
    def backwards(vectors, questions):
        return twins(vectors, questions, range(4, -1, -1))

    said = grounded_words.twins_told_apart.verdict
    assert said(twins, words_of).startswith("right:"), said(twins, words_of)
    assert said(backwards, words_of).startswith("right:")
    table, verdicts = twins(words_of, twin_questions())
    assert table["all alike"] == [0.5] * 5 and verdicts["all alike"].verdict == "cannot tell"
    assert verdicts["text and pictures"].verdict == "better"


@pytest.mark.parametrize("study, vectors, words", [
    (lambda v, q: ([0.5], {}), words_of, "return the table as"),
    (lambda v, q: twins(v, q, arms=grounded_words.TWIN_ARMS[1:]), words_of, "all words alike is missing"),
    (lambda v, q: twins(v, q, arms=grounded_words.TWIN_ARMS[:3]), words_of, "the control is missing"),
    (lambda v, q: twins(v, q, range(3)), words_of, "fewer than five seeds"),
    (lambda v, q: twins(v, q, arms=("all alike", "text and exchanged pictures", "text")), words_of,
     "no row for text and pictures"),
    (lambda v, q: v("looks", 0), words_of, "there is no arm 'looks'"),
    (lambda v, q: ({a: [1 - x for x in r] for a, r in twins(v, q)[0].items()}, {}), words_of,
     "`like` is the answer"),
    (lambda v, q: ({a: 5 * [max(r)] for a, r in twins(v, q)[0].items()}, {}), words_of, "the best seed"),
    (lambda v, q: (twins(v, q)[0], twins(v, q)[1] | {"text": "worse"}), words_of,
     "what `paired` has returned for each arm"),
    (lambda v, q: (twins(v, q)[0], twins(v, q)[1] | {"text": paired([0.6] * 5, [0.5] * 5)}), words_of,
     "of text `paired` says: cannot tell"),
    (twins, lambda arm, seed: words_of("text and pictures" if arm == "text" else arm, seed),
     "by construction text cannot tell twins apart"),
    (twins, lambda arm, seed: words_of("text" if arm == "text and pictures" else arm, seed),
     "right pictures are not ahead"),
])
def test_tables_of_twins_with_gaps_ties_or_leaks_are_told_so(study, vectors, words):
    assert words in grounded_words.twins_told_apart.verdict(study, vectors)
