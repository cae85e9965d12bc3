"""Evaluation mode for a while, and seeds that nobody else notices."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from mmlearn.nn.modes import eval_mode, remembered, seeded


def test_every_part_gets_back_the_mode_it_had():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))).train()
    model[1][0].eval()  # a frozen part, as in a trunk that is not trained
    with eval_mode(model) as device:
        assert not any(part.training for part in model.modules()) and device == torch.device("cpu")
    assert model.training and model[0].training and not model[1][0].training and model[1][1].training


def test_the_mode_comes_back_after_an_error():
    model = nn.Linear(2, 2).train()
    with pytest.raises(ValueError, match="stop"), eval_mode(model):
        raise ValueError("stop")
    assert model.training


def test_a_model_without_weights_is_on_the_cpu():
    with eval_mode(nn.Identity()) as device:
        assert device == torch.device("cpu")


def test_a_seed_decides_what_is_drawn_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    with seeded(7):
        first = torch.rand(2)
    assert torch.equal(torch.rand(3), want)
    with seeded(7):
        assert torch.equal(torch.rand(2), first)


@dataclass(frozen=True)
class Part:
    numbers: torch.Tensor
    name: str = "part"


@dataclass(frozen=True)
class Whole:
    part: Part
    numbers: torch.Tensor


def test_a_result_is_computed_once_and_nobody_changes_that_of_another():
    calls = []

    @remembered
    def make(count, start=0):
        """How it is made."""
        calls.append(count)
        numbers = torch.arange(start, start + count)
        return Whole(Part(numbers), numbers.clone())

    first = make(3)
    first.numbers[:] = 5
    first.part.numbers.zero_()
    again = make(3)
    assert again.numbers.tolist() == again.part.numbers.tolist() == [0, 1, 2] and again.part.name == "part"

    @remembered
    def pair():
        return torch.zeros(2), Whole(Part(torch.zeros(1)), torch.zeros(1))

    pair()[0].fill_(1)
    pair()[1].part.numbers.fill_(1)
    assert pair()[0].sum() + pair()[1].part.numbers.sum() == 0
    assert (
        make(3, start=1).numbers.tolist() == [1, 2, 3]
        and calls == [3, 3]
        and make.__doc__ == "How it is made."
    )
