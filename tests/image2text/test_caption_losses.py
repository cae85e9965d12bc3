import math
from functools import partial

import pytest
import torch

from mmlearn.image2text.losses import (
    caption_cross_entropy,
    leave_one_out_baseline,
    mean_baseline,
    self_critical_loss,
)


@pytest.mark.equation("eq:caption-xe")
def test_cross_entropy_is_the_mean_surprise_of_the_words_that_are_no_padding():
    logits = torch.randn(2, 3, 5, dtype=torch.float64)
    targets = torch.tensor([[4, 3, 1], [2, 4, 3]])
    surprises = []
    for i in range(2):
        for t in range(3):
            if targets[i, t] != 1:
                total = sum(math.exp(v) for v in logits[i, t])
                surprises.append(-math.log(math.exp(logits[i, t, targets[i, t]]) / total))
    assert caption_cross_entropy(logits, targets).item() == pytest.approx(sum(surprises) / 5, abs=1e-12)


def test_a_model_that_knows_nothing_has_a_loss_of_log_v():
    assert caption_cross_entropy(torch.zeros(2, 3, 50),
                                 torch.full((2, 3), 7)).item() == pytest.approx(math.log(50))


def test_captions_that_are_all_padding_are_refused():
    with pytest.raises(ValueError, match="all 6 targets are padding"):
        caption_cross_entropy(torch.zeros(2, 3, 5), torch.ones(2, 3, dtype=torch.long))


@pytest.mark.equation("eq:scst-gradient")
@pytest.mark.equation("eq:scst-m2")
def test_the_gradient_of_a_one_step_bandit_is_the_formula():
    V, k = 6, 4
    z = torch.randn(V, dtype=torch.float64, requires_grad=True)
    words, rewards = [2, 0, 2, 5], torch.tensor([[1.0, 0.2, 0.4, 2.0]], dtype=torch.float64)
    log_probs = z.log_softmax(0)[words].view(1, k, 1)
    self_critical_loss(log_probs, rewards).backward()
    p = [math.exp(v) / sum(math.exp(u) for u in z.tolist()) for v in z.tolist()]
    b = sum(rewards[0].tolist()) / k
    for v in range(V):
        want = -sum((r - b) * ((w == v) - p[v]) for w, r in zip(words, rewards[0].tolist())) / k
        assert z.grad[v].item() == pytest.approx(want, abs=1e-12)


@pytest.mark.equation("eq:scst-greedy")
def test_the_greedy_caption_can_be_the_critic():
    log_probs = torch.randn(2, 3, 4, dtype=torch.float64)
    rewards, greedy = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, dtype=torch.float64)
    want = 0.0
    for i in range(2):
        for j in range(3):
            want -= (rewards[i, j] - greedy[i]) * sum(log_probs[i, j]) / 6
    torch.testing.assert_close(self_critical_loss(log_probs, rewards, greedy), want)


@pytest.mark.equation("eq:scst-loo")
def test_each_caption_can_have_the_others_as_critic():
    rewards = torch.rand(2, 4, dtype=torch.float64)
    critic = leave_one_out_baseline(rewards)
    for i in range(2):
        for j in range(4):
            assert critic[i, j].item() == pytest.approx(
                sum(rewards[i, m].item() for m in range(4) if m != j) / 3
            )
    log_probs = torch.randn(2, 4, 3, dtype=torch.float64)
    want = -((rewards - critic) * log_probs.sum(-1)).mean()
    torch.testing.assert_close(self_critical_loss(log_probs, rewards, "leave-one-out"), want)


@pytest.mark.equation("eq:scst-loo")
def test_the_mean_of_all_is_the_leave_one_out_critic_up_to_a_constant():
    k = 5
    rewards, log_probs = torch.rand(3, k, dtype=torch.float64), torch.randn(3, k, 7, dtype=torch.float64)
    torch.testing.assert_close(rewards - mean_baseline(rewards),
                               (k - 1) / k * (rewards - leave_one_out_baseline(rewards)))
    torch.testing.assert_close(self_critical_loss(log_probs, rewards),
                               (k - 1) / k * self_critical_loss(log_probs, rewards, "leave-one-out"))


@pytest.mark.equation("eq:scst-objective")
@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_over_all_captions_the_gradient_is_that_of_the_expected_reward_whatever_the_critic(baseline):
    z = torch.randn(4, dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([0.1, 1.5, 0.3, 0.9], dtype=torch.float64)
    (-(z.softmax(0) * reward).sum()).backward()
    want, z.grad = z.grad.clone(), None
    critic = torch.tensor([baseline], dtype=torch.float64)
    for word in range(4):  # the expectation: each caption with its probability
        loss = self_critical_loss(z.log_softmax(0)[word].view(1, 1, 1), reward[word].view(1, 1), critic)
        (z.detach().softmax(0)[word] * loss).backward()
    torch.testing.assert_close(z.grad, want)


def test_the_loss_has_the_gradient_of_finite_differences_and_rewards_are_constants():
    log_probs = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    rewards = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    for baseline in ("mean", "leave-one-out", torch.rand(2, 1, dtype=torch.float64)):
        assert torch.autograd.gradcheck(
            partial(self_critical_loss, rewards=rewards.detach(), baseline=baseline), [log_probs])
    self_critical_loss(log_probs, rewards).backward()
    assert rewards.grad is None


def test_words_after_the_end_do_not_count():
    log_probs, rewards = torch.randn(2, 3, 4), torch.rand(2, 3)
    mask = torch.arange(4) < torch.tensor([[2, 4, 1], [3, 3, 4]])[..., None]
    zeroed = log_probs * mask
    torch.testing.assert_close(self_critical_loss(log_probs, rewards, mask=mask),
                               self_critical_loss(zeroed, rewards))
    spoilt = torch.where(mask, log_probs, -torch.inf)
    assert torch.isfinite(self_critical_loss(spoilt, rewards, mask=mask))


def test_the_released_code_divides_by_the_number_of_steps():
    log_probs, rewards = torch.randn(2, 3, 20), torch.rand(2, 3)
    torch.testing.assert_close(self_critical_loss(log_probs, rewards, reduction="mean"),
                               self_critical_loss(log_probs, rewards) / 20)


def test_equal_rewards_teach_nothing():
    log_probs = torch.randn(2, 3, 4, requires_grad=True)
    self_critical_loss(log_probs, torch.full((2, 3), 0.75)).backward()
    assert (log_probs.grad == 0).all()


def test_unknown_names_and_lonely_captions_are_refused():
    log_probs, rewards = torch.randn(2, 1, 4), torch.rand(2, 1)
    with pytest.raises(ValueError, match="baseline 'max' is unknown"):
        self_critical_loss(log_probs, rewards, "max")
    with pytest.raises(ValueError, match="reduction is 'none'; use 'sum' or 'mean'"):
        self_critical_loss(log_probs, rewards, reduction="none")
    with pytest.raises(ValueError, match="sample at least 2"):
        self_critical_loss(log_probs, rewards, "leave-one-out")
