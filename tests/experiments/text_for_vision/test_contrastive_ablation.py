"""The variants of the contrastive loss that the ablation compares."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmlearn.data.pairs import scene_pairs, scene_tokeniser
from mmlearn.experiments.text_for_vision.contrastive_ablation import (
    LOSSES,
    build_variant,
    fewer_negatives_loss,
    random_negatives,
    smoothed_loss,
    with_share,
)
from mmlearn.text_for_vision.contrastive import clip_loss
from mmlearn.text_for_vision.small_encoder import StudyConfig
from mmlearn.text_for_vision.training import train_clip

CONFIG = StudyConfig(vocab=300, channels=(4, 8, 8, 8), embed=8, width=16, layers=1)


def pairs(b=5, e=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(b, e, generator=g, dtype=torch.float64), dim=1) for _ in range(2)]


@pytest.mark.equation("eq:fewer-negatives")
def test_struck_out_negatives_are_missing_from_both_sums():
    u, v = pairs()
    mask = random_negatives(5, 0.5, torch.Generator().manual_seed(1))
    want = 0.0
    for i in range(5):
        row = sum(math.exp(7.0 * float(u[i] @ v[j])) for j in range(5) if mask[i, j])
        column = sum(math.exp(7.0 * float(u[j] @ v[i])) for j in range(5) if mask[j, i])
        own = math.exp(7.0 * float(u[i] @ v[i]))
        want -= (math.log(own / row) + math.log(own / column)) / 10
    assert not mask.all() and math.isclose(float(fewer_negatives_loss(u, v, 7.0, mask)), want, rel_tol=1e-12)


def test_with_all_negatives_it_is_the_loss_of_clip():
    u, v = pairs()
    torch.testing.assert_close(fewer_negatives_loss(u, v, 7.0, torch.ones(5, 5, dtype=torch.bool)),
                               clip_loss(u, v, 7.0))
    torch.testing.assert_close(with_share(1)(u, v, 7.0), clip_loss(u, v, 7.0))


def test_the_mask_keeps_partners_and_about_the_share_asked_for():
    mask = random_negatives(200, 0.25, torch.Generator().manual_seed(0))
    assert mask.diagonal().all()
    others = mask[~torch.eye(200, dtype=torch.bool)].double().mean()
    assert abs(float(others) - 0.25) < 0.01                         # 5 standard deviations
    for share in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"share is {share}"):
            random_negatives(4, share)


def test_smoothing_gives_every_pair_a_little_of_the_target():
    u, v = pairs()
    l = 7.0 * u @ v.T
    target = 0.9 * torch.eye(5, dtype=torch.float64) + 0.1 / 5
    want = -(target * (l.log_softmax(1) + l.log_softmax(0))).sum() / 10
    torch.testing.assert_close(smoothed_loss(u, v, 7.0), want)


@pytest.mark.parametrize("name", LOSSES)
def test_variants_start_alike_and_learn(name):
    data = scene_pairs(24, size=32)
    tokeniser = scene_tokeniser(data)
    model, loss = build_variant(name, CONFIG, 3)
    same, _ = build_variant("CLIP", CONFIG, 3)
    assert torch.equal(model.image.projection.weight, same.image.projection.weight)
    start = model.logit_scale.item()
    assert math.isclose(math.exp(start), {"sigmoid": 10.0, "sigmoid, bias -5": 10.0,
                                          "temperature fixed at 1": 1.0}.get(name, 1 / 0.07), rel_tol=1e-5)
    if name.startswith("sigmoid"):
        assert model.logit_bias.item() == {"sigmoid": -10.0, "sigmoid, bias -5": -5.0}[name]
    history = train_clip(model, data, tokeniser, steps=2, batch=8, lr=1e-2, loss=loss, progress=False)
    assert all(math.isfinite(x) for x in history.loss)
    fixed = name.startswith("temperature fixed")
    assert (model.logit_scale.item() == start) is fixed             # learned in all others
    assert not torch.equal(model.image.projection.weight, same.image.projection.weight)


def test_a_variant_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="variant 'hinge' is unknown; use one of CLIP, half"):
        build_variant("hinge", CONFIG)
