"""The answerer of regions: what its gates do, what it reads, and what it may not read when it is blind."""

import pytest
import torch
from networks import numbers, stirred

from mmlearn.both_modalities.region_answerer import RegionAnswerer, RegionAnswererConfig, gated_regions

pytestmark = pytest.mark.usefixtures("seeded")


def tiny(**fields):
    return RegionAnswererConfig(20, 5, features=6, embedding=8, width=8, **fields)


def given():
    tokens = torch.tensor([[2, 5, 6, 3, 1], [2, 7, 8, 9, 3]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    return tokens, numbers(2, 3, 6).float() * mask[..., None], mask


def test_gated_regions_are_a_sum_and_the_largest_values():
    joint, gate = numbers(2, 3, 4).abs(), numbers(2, 3, seed=1).sigmoid()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    got = gated_regions(joint, gate, mask)
    for i in range(2):
        rows = [joint[i, j] * gate[i, j] for j in range(3) if mask[i, j]]
        torch.testing.assert_close(got[i, :4], sum(rows))
        torch.testing.assert_close(got[i, 4:], torch.stack(rows).amax(0))


def test_shapes_gradients_and_a_row_is_the_same_alone():
    model = stirred(RegionAnswerer(tiny()))
    tokens, regions, mask = given()
    said = model(tokens, regions, mask)
    assert said.answers.shape == (2, 5) and said.choice.shape == (2,) and said.regions.shape == (2, 3)
    (said.answers.sum() + said.choice.sum() + said.regions[mask].sum()).backward()
    assert all(p.grad is not None for p in model.parameters())
    alone = model(tokens[:1, :4], regions[:1, :2], mask[:1, :2])
    torch.testing.assert_close(alone.answers[0], said.answers[0])
    torch.testing.assert_close(alone.regions[0], said.regions[0, :2])


def test_the_blind_ones_do_not_read_what_they_may_not():
    tokens, regions, mask = given()
    blind = stirred(RegionAnswerer(tiny(looks=False)))
    fewer = mask & (torch.arange(mask.shape[1]) == 0)
    for said in (blind(tokens, 9 * regions, mask), blind(tokens, regions, fewer)):   # nor how many there are
        torch.testing.assert_close(said.answers, blind(tokens, regions, mask).answers)
    mute = stirred(RegionAnswerer(tiny(reads=False)))
    torch.testing.assert_close(mute(tokens, regions, mask).answers,
                               mute(tokens.flip(0), regions, mask).answers)
    whole = stirred(RegionAnswerer(tiny()))
    first = whole(tokens, regions, mask).answers
    assert not torch.allclose(first, whole(tokens, -regions, mask).answers)
    assert not torch.allclose(first, whole(tokens.flip(0), regions, mask).answers)
    assert RegionAnswererConfig.mini(9, 3).answers == 3
