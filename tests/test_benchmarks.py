"""What a benchmark compares is the same computation, done in several ways."""

from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from benchmark_modules import benchmark_module

from mmlearn.text2image.attngan import AttnGAN, AttnGANConfig
from mmlearn.text2image.damsm import DAMSM, DAMSMConfig
from mmlearn.text2image.dfgan import DFGAN, DFGANConfig

gan_step = benchmark_module("gan_step")


@pytest.fixture
def tiny(monkeypatch):
    """The networks of the benchmark, small and in double precision."""
    def build(system, size):
        torch.manual_seed(0)
        damsm = DAMSM(replace(DAMSMConfig.mini(size=16), vocab=150, embed=8, trunk_width=4))
        damsm = damsm.double().requires_grad_(False).eval()
        if system == "dfgan":
            return DFGAN(DFGANConfig.mini(size=16, width=4, text=8, noise=6)).double(), damsm
        config = replace(AttnGANConfig.mini(text=8, size=16, branches=2), width=8, critic=4)
        return AttnGAN(config).double(), damsm

    monkeypatch.setattr(gan_step, "build", build)


ARGS = Namespace(size="mini", batch=3, words=5, device="cpu")


@pytest.mark.parametrize("system", gan_step.SYSTEMS)
def test_three_ways_to_make_a_step_of_a_gan_have_the_same_losses(tiny, system):
    gan_step.compare(gan_step.prepared(system, ARGS), tolerance=1e-5)


@pytest.mark.parametrize("system", gan_step.SYSTEMS)
def test_a_way_with_other_losses_is_refused(tiny, system):
    steps = gan_step.prepared(system, ARGS)
    honest = steps["as released"]
    steps["as released"] = lambda: [1.001 * loss for loss in honest()]
    with pytest.raises(AssertionError):
        gan_step.compare(steps, tolerance=1e-5)


def test_the_words_of_captions_are_compared_one_after_the_other_as_all_at_once():
    damsm = DAMSM(replace(DAMSMConfig.mini(size=16), embed=8, trunk_width=4)).eval()
    words, regions = torch.randn(3, 5, 8), torch.randn(3, 64, 8)
    mask = torch.arange(5) < torch.tensor([5, 3, 2])[:, None]
    code = torch.randn(3, 8)
    losses = damsm.losses(regions, code, words, code, mask)
    by_loop = gan_step.words_by_loop(words, regions, mask, damsm.config)
    torch.testing.assert_close(by_loop, losses.words_1 + losses.words_2, rtol=1e-5, atol=1e-5)
