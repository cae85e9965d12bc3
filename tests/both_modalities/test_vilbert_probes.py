"""Captions that are wrong in one respect, and whether a model prefers the true one."""

import pytest
import torch

from mmlearn.both_modalities.vilbert_probes import KINDS, altered, contests, won
from mmlearn.both_modalities.vilbert_regions import Seen
from mmlearn.both_modalities.vilbert_training import RegionTexts
from mmlearn.data.scenes import captions, parse_caption, sample_scene, scene_tuples
from mmlearn.data.scenes.language import Dice

SCENES = tuple(sample_scene(0, i, "test") for i in range(60))


def data():
    n = len(SCENES)
    seen = Seen(torch.arange(n).float()[:, None, None], torch.zeros(n, 1, 5),
                torch.ones(n, 1, dtype=torch.bool), torch.zeros(n, 1, 3))
    return RegionTexts(seen, tuple(captions(scene) for scene in SCENES), SCENES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_caption_has_as_many_words_and_says_what_is_not_so(kind):
    found = contests(data(), kind)
    assert len(found) > 3
    for one in found:
        scene, true = SCENES[one.number], one.true.lower().rstrip(".").split()
        wrong = one.wrong.split()
        changed = [(a, b) for a, b in zip(true, wrong, strict=True) if a != b]
        assert changed and one.true in captions(scene)
        if kind == KINDS[0]:
            assert changed[0][1] not in {o.category for o in scene.objects}
        if kind == KINDS[1]:
            assert changed[0][1] not in {o.colour for o in scene.objects}
        if kind in KINDS[2:]:
            assert sorted(w.strip(",") for pair in changed for w in pair[:1]) == sorted(
                w.strip(",") for pair in changed for w in pair[1:]) or kind == KINDS[3]
        if kind in KINDS[:2]:
            assert parse_caption(one.wrong) - scene_tuples(scene)


def test_what_cannot_be_made_wrong_is_left():
    scene, dice = SCENES[0], Dice("x")
    assert altered("a quiet day", scene, KINDS[0], dice) is None
    assert altered("a red cat and a red dog", scene, KINDS[2], dice) is None
    assert altered("a red cat and a blue cat", scene, KINDS[2], dice) is None
    assert altered("a red cat and a blue dog", scene, KINDS[2], dice) == "a blue cat and a red dog"
    assert altered("A cat to the left of a dog.", scene, KINDS[3], dice) == "a cat to the right of a dog"
    assert altered("a cat above a dog", scene, KINDS[3], dice) is None


class Counts(torch.nn.Module):
    """The more often the token 7 stands in a text, the more it belongs."""

    def forward(self, tokens, segments, mask, regions, boxes, region_mask):
        own = (tokens == 7).sum(1).float()
        return torch.zeros(*tokens.shape, 2), torch.zeros(*regions.shape[:2], 2), torch.stack([own, -own], 1)


def test_the_more_probable_caption_wins():
    some = data()
    asked = contests(some, KINDS[1])[:5]
    words = some.vocabulary()
    want = [words.encode(one.true).count(7) > words.encode(one.wrong).count(7) for one in asked]
    assert won(Counts(), some, words, asked) == want
