"""The study of what a diffusion model predicts measures what it says."""

import argparse
import json

import pytest
import torch

from mmlearn.claims import paired
from mmlearn.experiments import main, results
from mmlearn.experiments.text2image.diffusion_losses import (
    ARMS,
    BASE,
    PointDenoiser,
    bound_lacks,
    energy_distance,
    job,
    weights_of,
)
from mmlearn.text2image.diffusion import NoiseSchedule, noised, posterior_mean_from_noise
from mmlearn.text2image.toy_diffusion import Mixture, MixtureDenoiser

SMALL = argparse.Namespace(steps=3, batch=16, chain=50, lr=1e-3, width=8, std=0.15, samples=40)
SCHEDULE = NoiseSchedule.linear()


def test_a_model_of_the_mean_gives_the_noise_that_belongs_to_it():
    torch.manual_seed(0)
    model, x, t = PointDenoiser(SCHEDULE, 8, "mean").double(), torch.randn(3, 2).double(), torch.tensor(
        [5, 400, 999])
    by_noise = PointDenoiser(SCHEDULE, 8).double()
    by_noise.load_state_dict(model.state_dict())
    beta, bar = SCHEDULE.betas[t][:, None], SCHEDULE.alpha_bars[t][:, None]
    mean = by_noise(x, t)                                       # the same output, read as the mean
    torch.testing.assert_close(posterior_mean_from_noise(x, model(x, t), beta, bar), mean)


def test_weights_make_squared_errors_of_the_noise_those_of_the_mean():
    noise, other, x = torch.randn(3, 4, 2, dtype=torch.float64).unbind(0)
    for place in (0, 99, 999):
        beta, bar = SCHEDULE.betas[place].item(), SCHEDULE.alpha_bars[place].item()
        means = [posterior_mean_from_noise(x, eps, beta, bar) for eps in (noise, other)]
        want = (means[0] - means[1]).square()
        for loss, share in (("error", 1.0), ("bound", 1 / (2 * beta))):
            weight = weights_of(loss, SCHEDULE)[place]
            torch.testing.assert_close(weight * (noise - other).square(), share * want)
    assert weights_of("simple", SCHEDULE) is None


def test_the_bound_of_the_perfect_denoiser_lacks_nothing_and_that_of_another_its_weighted_error():
    ring = Mixture.ring(radius=1.4, std=0.15)
    perfect = MixtureDenoiser(ring, SCHEDULE)
    x, _ = ring.sample(50, torch.Generator().manual_seed(0))
    assert bound_lacks(perfect, perfect, x, SCHEDULE) == 0

    def worse(x, t):                                            # wrong at one step only, by 100
        return perfect(x, t) + 100 * (t == 500)[:, None]

    draws = torch.Generator().manual_seed(0)
    noise = [torch.randn(50, 2, generator=draws) for _ in range(500)][-1]
    x_t = noised(x, noise, SCHEDULE.alpha_bars[500].item())
    off = perfect(x_t, torch.full((50,), 500)) - noise
    want = weights_of("bound", SCHEDULE)[500] * ((off + 100).square() - off.square()).mean()
    assert bound_lacks(worse, perfect, x, SCHEDULE) == pytest.approx(want.item(), rel=1e-4)


def test_the_energy_distance_is_a_mean_over_pairs_and_nothing_for_one_distribution():
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [4.0]])
    assert energy_distance(x, y) == pytest.approx(2 * (1 + 4 + 1 + 2) / 4 - 2 - 3)
    g = torch.Generator().manual_seed(0)
    one, other = torch.randn(600, 2, generator=g), torch.randn(600, 2, generator=g)
    assert abs(energy_distance(one, other)) < 0.01 < energy_distance(one, other + 1)


@pytest.mark.parametrize("name", ARMS)
def test_each_arm_trains_and_is_judged(name):
    found = job(name, 0, SMALL)
    assert set(found["scores"]) == {"at blobs", "distance", "bound lacks"}
    assert 0 <= found["scores"]["at blobs"] <= 1


def test_a_study_of_losses_is_a_function_of_its_seed():
    one, same, other = (job(BASE, seed, SMALL)["scores"] for seed in (3, 3, 4))
    assert one == same != other


@pytest.mark.slow
def test_the_study_of_losses_runs_from_the_command_line(tmp_path):
    out = tmp_path / "r.json"
    assert main(["diffusion-losses", "--seeds", "1", "--steps", "2", "--batch", "8", "--samples", "20",
                 "--chain", "50", "--processes", "1", "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert set(told["arms"]) == set(ARMS) and told["settings"]["seeds"] == [0]


# ---- what the chapter says about the committed results -----------------------------------------------------

@pytest.mark.parametrize("arm", [name for name in ARMS if name != BASE])
@pytest.mark.parametrize("key, lower", [("at blobs", False), ("distance", True), ("bound lacks", True)])
def test_every_other_way_is_worse_than_the_noise_with_the_simple_loss(arm, key, lower):
    arms = results("diffusion-losses")["arms"]
    ours, base = ([run["scores"][key] for run in arms[name]] for name in (arm, BASE))
    assert paired(ours, base, lower_is_better=lower).verdict == "worse"


def test_the_mean_is_far_behind_with_either_loss():
    arms = results("diffusion-losses")["arms"]
    lacks = {name: [run["scores"]["bound lacks"] for run in runs] for name, runs in arms.items()}
    assert min(lacks["mean, bound"] + lacks["mean, squared error"]) > 4 * max(lacks[BASE])
