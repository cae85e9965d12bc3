"""What the benchmark of DALL-E compares has the same sizes and does the same task."""


import pytest
import torch
from benchmark_modules import benchmark_module

dalle = benchmark_module("dalle")

SMALL = ["--width", "48", "--layers", "2", "--heads", "3", "--words", "20", "--text", "6", "--codes", "12",
         "--side", "4", "--batch", "2"]


@pytest.mark.parity
def test_both_models_have_as_many_weights_in_their_layers_and_learn():
    args = dalle.parsed(SMALL)
    config = dalle.config_of(args)
    ours, theirs = dalle.DALLE(config), dalle.peer(config, masks=False)
    assert dalle.matrices(theirs) == pytest.approx(dalle.matrices(ours), rel=0.02)
    for way, step in dalle.prepared("train", args).items():
        losses = [float(step()) for _ in range(3)]
        assert losses[2] < losses[0], way


@pytest.mark.parity
def test_every_way_of_sampling_gives_the_tokens_of_a_picture():
    for sample in dalle.prepared("sample", dalle.parsed(SMALL)).values():
        torch.manual_seed(0)
        tokens = sample()
        assert tokens.shape == (2, 16) and 0 <= tokens.min() and tokens.max() < 12
