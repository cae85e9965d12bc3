"""Drawings that stand in for generated ones have the fault that they are named after, and no other."""

import pytest
import torch

from mmlearn.data.stand_ins import FAULTS, degraded, stand_in, things
from mmlearn.data.things import plain_sentences, thing_pairs


def test_without_a_fault_they_are_other_pictures_of_the_same_world():
    made, real = stand_in("none", 10), thing_pairs(10, "test", seed=1)
    assert torch.equal(made.images, real.images) and made.scenes == real.scenes
    assert [texts[0] for texts in made.captions] == [texts[0] for texts in real.captions]
    assert set(made.scenes).isdisjoint(thing_pairs(10, "test").scenes)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_changes_one_thing(fault):
    made, whole = stand_in(fault, 20), stand_in("none", 20)
    assert made.captions == tuple(plain_sentences(scene)[:1] for scene in made.scenes)
    assert (made.scenes == whole.scenes) == (fault not in ("one place", "few pictures"))
    assert torch.equal(made.images, whole.images) == (fault == "none")
    assert torch.equal(made.images, whole.images.roll(-1, 0)) == (fault == "wrong sentences")
    if fault == "one place":
        assert {scene.setting for scene in made.scenes} == {"meadow"}
        assert len(set(made.scenes)) == 20 and made.scenes == tuple(things(20, "test", 1, "meadow"))
    if fault == "few pictures":
        assert len(set(made.scenes)) == 2


def test_noise_and_blur_grow_with_their_level():
    x = stand_in("none", 10).images.float() / 127.5 - 1
    for kind in ("noise", "blur"):
        away = [float((degraded(x, kind, level) - x).square().mean()) for level in (0, 0.2, 0.5, 1)]
        assert away[0] == 0 and away == sorted(away) and away[1] > 0
        assert degraded(x, kind, 1).abs().max() <= 1


def test_unknown_faults_are_refused():
    with pytest.raises(ValueError, match="fault 'ugly' is unknown"):
        stand_in("ugly", 10)
    with pytest.raises(ValueError, match="at least 10 pictures"):
        stand_in("none", 9)
    with pytest.raises(ValueError, match="take noise or blur"):
        degraded(torch.zeros(1, 3, 8, 8), "rain", 1)
