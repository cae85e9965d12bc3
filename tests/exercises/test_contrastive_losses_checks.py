"""What the checks of chapter 4's exercises about losses and targets know of mistakes, and what they take for
right."""

import math

import pytest
import torch
import torch.nn.functional as F
from exercise_parts import check_answers, check_mistakes, checked_by
from notebooks import ROOT
from sections import exercises, solutions_of

from mmlearn.exercises import contrastive_losses, soft_targets
from mmlearn.text_for_vision.contrastive import logits, symmetric_cross_entropy
from mmlearn.text_for_vision.siglip import sigmoid_loss
from mmlearn.text_for_vision.unicl import unicl_loss

MODULES = {"contrastive_losses": contrastive_losses, "soft_targets": soft_targets}
PAGE = ROOT / "book" / "exercises" / "4-text-for-vision.ipynb"
PARTS = checked_by(exercises(solutions_of(PAGE))[1], MODULES)
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title.split()[1])

# --------------------------------------------------------------------------- the answers on the page


def test_these_modules_check_seven_exercises():
    assert len(PARTS) == 7


@each_part
def test_right_answers_are_right_and_each_wrong_one_gets_a_hint_of_its_own(part, capsys):
    check_answers(part, capsys, torch=torch)


@each_part
def test_every_known_mistake_differs_from_the_right_answer_and_from_the_other_mistakes(part, monkeypatch):
    check_mistakes(part, MODULES.values(), monkeypatch)


# ----------------------------------------------------------------------------- the book's own formulas


def test_the_losses_of_the_chapter_are_taken_for_right():
    def both_ways(l, there):
        return symmetric_cross_entropy(l[there][:, there])

    def yes_or_no(u, v, owner, scale, bias):
        if len(u) != len(v):                        # the chapter's loss is one text an image
            raise ValueError("pairs")
        return sigmoid_loss(u, v, scale, bias)

    assert contrastive_losses.both_ways.verdict(both_ways).startswith("right: ")
    assert "stopped in line" in soft_targets.yes_or_no.verdict(yes_or_no)


def test_keys_that_differ_give_the_loss_of_clip_and_classes_that_of_unicl():
    u, v = (F.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1) for _ in range(2))
    l = logits(u, v, 5.0)
    assert soft_targets.left_out(l, range(6), range(6)) == pytest.approx(float(symmetric_cross_entropy(l)))
    keys = torch.tensor([0, 0, 1, 2, 2, 2])
    assert soft_targets.left_out(l, keys.tolist(), range(6)) == pytest.approx(
        float(unicl_loss(u, v, 5.0, keys)))


# ----------------------------------------------------------------------------- more mistakes in words


def partner(l):
    return torch.arange(len(l))


def existing(l, there):
    return l[there][:, there]


def one_softmax_too_many(l, there):
    l = existing(l, there)
    return (F.cross_entropy(l.softmax(1), partner(l)) + F.cross_entropy(l.T, partner(l))) / 2


def both_sums(l, there):
    l = existing(l, there)
    return F.cross_entropy(l, partner(l), reduction="sum") + F.cross_entropy(l.T, partner(l), reduction="sum")


def one_sum(l, there):
    l = existing(l, there)
    return F.cross_entropy(l, partner(l), reduction="sum")


def probabilities(l, there):
    l = existing(l, there)
    return -(l.softmax(0) + l.softmax(1)).diagonal().mean() / 2


def zeros_for_filling(l, there):
    z = l * there * there[:, None]
    return (-(z.log_softmax(0) + z.log_softmax(1)).diagonal() / 2)[there].mean()


def rows_without_candidates(l, there):
    z = l.masked_fill(~there, -math.inf).masked_fill(~there[:, None], -math.inf)
    return -(z.log_softmax(0) + z.log_softmax(1)).diagonal().mean() / 2


def no_return(l, there):
    symmetric_cross_entropy(existing(l, there))


@pytest.mark.parametrize("wrong, words", [
    (one_softmax_too_many, "in one of the directions: hand the logits themselves"),
    (both_sums, "sum over pairs and directions"), (one_sum, "sum over the pairs, in one direction"),
    (probabilities, "these are probabilities"), (zeros_for_filling, "e^0 is a candidate"),
    (rows_without_candidates, "nobody is a candidate"), (no_return, "is the return missing?")])
def test_what_is_often_written_for_two_directions_is_answered_in_words(wrong, words):
    assert words in contrastive_losses.both_ways.verdict(wrong)


def test_a_loss_that_overflows_at_a_hundred_is_not_taken():
    def bare(l, there):
        e = existing(l, there).exp()
        p, q = (e / e.sum(d, keepdim=True) for d in (1, 0))
        return -(p.diagonal() * q.diagonal()).log().mean() / 2

    assert not torch.isfinite(bare(100 * torch.eye(4), torch.ones(4, dtype=torch.bool)))
    said = contrastive_losses.both_ways.verdict(bare)
    assert "an exponential overflows" in said and "nan" in said


@pytest.mark.parametrize("columns, pairs, words", [
    ("logarithms", 1, "the logarithms of the blocks' sums are added"),
    ("sums", 0, "lack the scale"), ("own", 1, "a column sees the images of its own block only")])
def test_what_is_often_written_for_blocks_is_answered_in_words(columns, pairs, words):
    def loss_in_chunks(u, v, scale, chunk):
        rows, sums, own = [], torch.full((len(v),), -math.inf), []
        logarithms = torch.zeros(len(v))
        for part, texts in zip(u.split(chunk), v.split(chunk)):
            l = scale * part @ v.T
            rows.append(l.logsumexp(1))
            sums, logarithms = torch.logaddexp(sums, l.logsumexp(0)), logarithms + l.logsumexp(0)
            own.append((scale * part @ texts.T).logsumexp(0))
        found = {"sums": sums, "logarithms": logarithms, "own": torch.cat(own)}[columns]
        return ((torch.cat(rows) + found) / 2 - (scale if pairs else 1) * (u * v).sum(1)).mean()

    assert words in contrastive_losses.loss_in_chunks.verdict(loss_in_chunks)


@pytest.mark.parametrize("spread, soft, words", [
    ("batch", False, "the targets of the whole batch sum to 1"), ("row", True, "a softmax of a softmax")])
def test_what_is_often_written_for_shared_answers_is_answered_in_words(spread, soft, words):
    def loss_with_keys(l, keys):
        same = (keys[:, None] == keys) & (keys >= 0) | torch.eye(len(l), dtype=torch.bool)
        target = same / same.sum(1, keepdim=True) if spread == "row" else len(l) * same / same.sum()
        rows, columns = (l.softmax(1), l.T.softmax(1)) if soft else (l, l.T)
        if spread == "batch":
            return -(target * (l.log_softmax(1) + l.log_softmax(0))).sum() / 2 / len(l)
        return (F.cross_entropy(rows, target) + F.cross_entropy(columns, target)) / 2

    assert words in soft_targets.loss_with_keys.verdict(loss_with_keys)
