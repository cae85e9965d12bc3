"""What the checks of chapter 3's exercises 1 to 10 know of mistakes, and what they take for right."""

import math

import pytest
import torch
import torch.nn.functional as F
from exercise_parts import check_answers, check_mistakes, checked_by
from notebooks import ROOT
from sections import exercises, solutions_of

from mmlearn.data.dictionary import learnable
from mmlearn.exercises import grounded_spaces, word_vectors
from mmlearn.images_for_language.multimodal_skip_gram import vision_gradient

MODULES = {"word_vectors": word_vectors, "grounded_spaces": grounded_spaces}
PAGE = ROOT / "book" / "exercises" / "3-images-for-language.ipynb"
PARTS = checked_by(exercises(solutions_of(PAGE))[1], MODULES)
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title.split()[1])


def test_these_modules_check_ten_exercises():
    assert len(PARTS) == 10


@each_part
def test_right_answers_are_right_and_each_wrong_one_gets_a_hint_of_its_own(part, capsys):
    check_answers(part, capsys)


@each_part
def test_every_known_mistake_differs_from_the_right_answer_and_from_the_other_mistakes(part, monkeypatch):
    check_mistakes(part, MODULES.values(), monkeypatch, "Exercise 1 ")


# ------------------------------------------------------------------------------------- what is right


@pytest.mark.parametrize("end", ["first", "itself", "no entry"])
def test_a_dictionary_has_the_rounds_that_it_was_built_from(end):
    torch.manual_seed(0)
    graph, grounded, answer = word_vectors.a_dictionary((4, 3, 3, 2), 3, end)
    learnt = learnable(graph, grounded)
    assert {word for word, at in answer.items() if at is not None} == grounded | set(learnt)
    for word in learnt:
        assert answer[word] == 1 + max(answer[other] for other in graph[word])


def test_the_leaves_below_the_children_of_a_node_sum_to_those_below_the_node():
    torch.manual_seed(0)
    tree, scores = word_vectors.tree_of(8)
    below = {tree.code(w)[:d]: word_vectors.below_by_leaves(tree, scores, w, d)
             for w in range(8) for d in range(int(tree.lengths[w]) + 1)}
    assert below[""] == pytest.approx(1)
    for code, p in below.items():
        if code + "0" in below:
            assert below[code + "0"] + below[code + "1"] == pytest.approx(p)


def test_the_loss_of_glove_has_no_slope_at_the_biases_that_are_right():
    torch.manual_seed(0)
    seen = []

    def answer(*arguments):
        seen.extend(arguments)
        return torch.zeros(6)

    X, w, w_tilde, b_tilde, f = (word_vectors.bias_case(answer, 6, 2, empty=1), seen)[1]
    torch.manual_seed(0)
    _, want, _ = word_vectors.bias_case(lambda *_: torch.zeros(6), 6, 2, empty=1)
    b = want.clone().requires_grad_()
    loss = sum(f[i, j] * (w[i] @ w_tilde[j] + b[i] + b_tilde[j] - X[i, j].log()) ** 2
               for i in range(6) for j in range(6) if X[i, j] > 0)
    loss.backward()
    assert not X[1].any() and want[1] == 0
    torch.testing.assert_close(b.grad, torch.zeros(6).double())


@pytest.mark.parametrize("beta, t, v", [(0.7, 2.0, 9.0), (0.2, 1.0, 1.0), (0.5, 30.0, 0.1)])
def test_the_weight_that_is_right_makes_the_cosine_the_mixture(beta, t, v):
    torch.manual_seed(0)
    text, image = (F.normalize(torch.randn(2, n, dtype=torch.float64), dim=1) for n in (5, 8))
    a, b = math.sqrt(beta) * v, math.sqrt(1 - beta) * t
    alpha = a / (a + b)
    joined = torch.cat([alpha * t * text, (1 - alpha) * v * image], dim=1)
    mixed = beta * (text[0] @ text[1]) + (1 - beta) * (image[0] @ image[1])
    assert float(F.cosine_similarity(joined[0], joined[1], dim=0)) == pytest.approx(float(mixed))


def test_automatic_differentiation_of_the_check_is_the_gradient_of_the_package():
    torch.manual_seed(0)
    z, own, others = grounded_spaces.pulled(6, 5, 4)
    torch.testing.assert_close(grounded_spaces.by_autograd(z, own, others, 0.5),
                               vision_gradient(z, own, others, 0.5))


# ------------------------------------------------------------------------- what is no answer at all


def later(graph, grounded):
    """Every word one round too late."""
    right = on_time(graph, grounded)
    return {word: at and at + 1 for word, at in right.items()}


def on_time(graph, grounded):
    found = dict.fromkeys(grounded, 0)
    for number in range(1, len(graph) + 1):
        known = set(found)
        found |= {w: number for w in graph if w not in known and known.issuperset(graph[w])}
    return dict.fromkeys(graph) | found


@pytest.mark.parametrize("answer, words", [
    (on_time, "right: "),
    (later, "as soon as it can be"),
    (lambda graph, grounded: dict.fromkeys(graph) | dict.fromkeys(grounded, 0), "is never learnt, you say"),
    (lambda graph, grounded: dict.fromkeys(graph, "soon") | dict.fromkeys(grounded, 0), "whole number"),
])
def test_rounds_that_are_wrong_are_named_with_the_word(answer, words):
    assert words in word_vectors.rounds.verdict(answer)


def test_a_way_of_no_turns_is_certain():
    def never_at_the_root(x, bits, depth):
        turns = torch.sigmoid((1 - 2 * bits) * x)
        beyond = torch.arange(x.shape[1]) >= depth[:, None]
        return turns.masked_fill(beyond, 1).prod(dim=1) * (depth > 0)

    assert "at depth 0 the probability is 1" in word_vectors.below_the_node.verdict(never_at_the_root)


def test_a_share_of_one_divides_by_no_zero():
    def by_the_ratio(beta, t, v):
        ratio = math.sqrt(beta / max(1 - beta, 1e-3)) * v / t
        return ratio / (1 + ratio)

    assert "pictures alone, text alone" in grounded_spaces.how_much_text.verdict(by_the_ratio)


def test_a_word_that_nothing_pulls_stays_and_the_others_keep_their_length():
    def turned(z, g, lr, off=0.0, still=1.0):
        length, pull = z.norm(dim=1, keepdim=True), g.norm(dim=1, keepdim=True)
        angle = lr * pull / length
        out = angle.cos() * z + angle.sin() * length * F.normalize(g, dim=1)
        return torch.where(pull > 0, out * (1 + off), still * z)

    assert grounded_spaces.along_the_circle.verdict(turned).startswith("right")
    assert "to 1e-9" in grounded_spaces.along_the_circle.verdict(lambda *a: turned(*a, off=1e-7))
    assert "stay where it is" in grounded_spaces.along_the_circle.verdict(lambda *a: turned(*a, still=2.0))
