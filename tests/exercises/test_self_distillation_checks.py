"""What the checks of chapter 5's exercises about data2vec know of mistakes, and what they take for right."""

import pytest
import torch
from exercise_parts import check_answers, check_mistakes, checked_by
from notebooks import ROOT
from sections import exercises, solutions_of

from mmlearn.both_modalities.data2vec import ema_shares, smooth_l1, targets
from mmlearn.both_modalities.data2vec_speech import masked_share
from mmlearn.exercises import self_distillation as checks

PAGE = ROOT / "book" / "exercises" / "5-both-modalities.ipynb"
PARTS = checked_by(exercises(solutions_of(PAGE))[1], {"self_distillation": checks})
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title.split()[1])


def test_this_module_checks_four_exercises():
    assert len(PARTS) == 4


@each_part
def test_right_answers_are_right_and_each_wrong_one_gets_a_hint_of_its_own(part, capsys):
    check_answers(part, capsys, torch=torch)


@each_part
def test_every_known_mistake_differs_from_the_right_answer_and_from_the_other_mistakes(part, monkeypatch):
    check_mistakes(part, [checks], monkeypatch)


def test_the_book_s_shares_are_those_of_a_constant_tau():
    def shares(tau):
        if not torch.equal(tau, tau[:1].expand_as(tau)):
            raise ValueError("not for a tau that grows")
        return ema_shares(len(tau), float(tau[0]))

    assert "not for a tau that grows" in checks.shares_of_a_teacher.verdict(shares)
    torch.testing.assert_close(shares(torch.full((3,), 0.5)),
                               torch.tensor([0.125, 0.125, 0.25, 0.5], dtype=torch.float64))


def test_the_book_s_loss_passes():
    def loss(f, y, mask, beta):
        f = f.clone().requires_grad_()
        value = smooth_l1(f, y, beta)[mask].mean()
        return value.detach(), torch.autograd.grad(value, f)[0]

    assert checks.loss_with_gradient.verdict(loss).startswith("right")


def test_the_book_s_targets_pass_on_the_frames_that_there_are():
    def of_real(layers, real, K):
        y = torch.zeros_like(layers[0])
        y[real] = targets([block[real][None] for block in layers], K, "instance")[0].to(y)
        return y

    assert checks.targets_of_speech.verdict(of_real).startswith("right")


def test_the_book_s_share_is_that_of_a_long_utterance():
    assert "endless utterance" in checks.share_of_hidden_frames.verdict(lambda t, p, M: masked_share(p, M))
