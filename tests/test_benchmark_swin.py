"""Both networks of the benchmark do the same work: one vector a picture, as many weights, all with a
gradient."""

import torch
from benchmark_modules import benchmark_module

from mmlearn.nn.swin import SwinConfig

swin = benchmark_module("swin")


def test_both_networks_have_one_size_and_every_weight_gets_a_gradient():
    torch.manual_seed(0)
    config = SwinConfig(size=56, width=16, depths=(2, 2), heads=(2, 4), window=7)
    images, counts = torch.randn(2, 3, 56, 56), set()
    for model in swin.models(config).values():
        assert model(images).shape == (2, config.channels)
        assert swin.step(model, images)().isfinite()
        assert all(p.grad is not None for p in model.parameters())
        counts.add(sum(p.numel() for p in model.parameters()))
    assert len(counts) == 1
