"""What the benchmark of diffusion compares is the same computation."""

from argparse import Namespace

import pytest
import torch
from benchmark_modules import benchmark_module
from networks import count

benchmark = benchmark_module("diffusion")

ARGS = Namespace(size="mini", batch=2, device="cpu")


@pytest.mark.parity
def test_ten_steps_of_ddim_with_the_same_weights_give_the_same_pictures():
    pytest.importorskip("diffusers")
    ways = benchmark.ddim10(ARGS)
    benchmark.compare(ways, tolerance=1e-4)
    assert ways["mmlearn"]().shape == (2, 3, 16, 16)
    honest = ways["diffusers"]
    ways["diffusers"] = lambda: 1.01 * honest()
    with pytest.raises(AssertionError):
        benchmark.compare(ways, tolerance=1e-4)


@pytest.mark.parity
def test_every_number_of_both_networks_is_copied():
    pytest.importorskip("diffusers")
    ours, theirs = benchmark.networks("mini")
    assert count(ours) == count(theirs)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 700])
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x, t), theirs.eval()(x, t).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parity
def test_the_first_step_of_training_has_the_same_loss_and_gradient_and_the_second_another():
    pytest.importorskip("diffusers")
    ways = benchmark.step(ARGS)
    benchmark.compare(ways, tolerance=1e-4)
    loss, norm = ways["mmlearn"]()
    assert loss > 0 and norm > 0
    honest = benchmark.step(ARGS)["diffusers"]
    with pytest.raises(AssertionError):
        benchmark.compare({"mmlearn": ways["mmlearn"], "diffusers": honest}, tolerance=1e-4)
