"""Expressions pick one thing among rivals, and the baselines show what is left without attributes."""

import pytest
import torch

from mmlearn.data.expressions import ExpressionSet, blind_choices, box_hit, expressions, object_boxes
from mmlearn.data.pairs import scene_pairs
from mmlearn.data.scenes import sample_scene
from mmlearn.metrics.retrieval import recall_at_k, retrieval_ranks

LOCATION = (" of the ", "leftmost", "rightmost", "from the left", " above ", " below ", " behind ",
            " on the ")


@pytest.fixture(scope="module")
def data():
    return expressions(150, "test")


def test_each_thing_has_a_rival_of_its_category(data):
    assert len(data) == 150
    for one in data.expressions:
        objects = data.scenes[one.scene].objects
        name = objects[one.target].category
        assert name in one.text and sum(o.category == name for o in objects) > 1


def test_no_expression_says_where_a_thing_is_unless_asked_for(data):
    assert not any(word in one.text for one in data.expressions for word in LOCATION)
    every = expressions(150, "test", location=True)
    assert any(word in one.text for one in every.expressions for word in LOCATION)


def test_expressions_are_a_function_of_their_arguments(data):
    assert expressions(150, "test") == data != expressions(150, "test", seed=1)
    with pytest.raises(ValueError, match="split 'new' is unknown"):
        expressions(3, "new")
    with pytest.raises(ValueError, match="count is 0"):
        expressions(0)


@pytest.mark.equation("eq:ref-hit")
def test_a_box_is_right_where_it_shares_more_than_half_with_the_true_one():
    draw = torch.Generator().manual_seed(0)
    for _ in range(50):
        a, b = (torch.cat([c, c + s]) for c, s in (
            (torch.rand(2, generator=draw) / 4, torch.rand(2, generator=draw)) for _ in range(2)))
        width = max(0.0, min(a[2], b[2]).item() - max(a[0], b[0]).item())
        height = max(0.0, min(a[3], b[3]).item() - max(a[1], b[1]).item())
        union = ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])).item() - width * height
        assert box_hit(a, b) == (width * height / union > 0.5)


def test_the_right_things_give_one_and_blind_baselines_less(data):
    assert data.accuracy([one.target for one in data.expressions]) == 1
    found = {name: data.accuracy(chosen) for name, chosen in blind_choices(data).items()}
    assert found["any thing"] < found["category"] < 0.65
    assert found["largest thing"] < 0.5
    assert blind_choices(data) == blind_choices(data)
    with pytest.raises(ValueError, match="1 choices for 150"):
        data.accuracy([0])
    with pytest.raises(ValueError, match="thing 99 is chosen"):
        data.accuracy([99] * 150)


def test_boxes_are_cut_at_the_edge_of_the_picture(data):
    for scene in data.scenes[:20]:
        boxes = object_boxes(scene)
        assert boxes.shape == (len(scene.objects), 4)
        assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    assert object_boxes(sample_scene(0, 0)).dtype == torch.float32
    assert ExpressionSet(data.scenes[:2], ()).images(16).shape == (2, 3, 16, 16)


def test_retrieval_pairs_are_five_captions_a_picture_and_guessing_finds_one_in_a_hundred():
    pairs = scene_pairs(4, "test", size=16, longest=100)
    assert len(pairs) == 4 and all(len(texts) == 5 for texts in pairs.captions)
    draw = torch.Generator().manual_seed(0)
    u, v = (torch.randn(100, 64, generator=draw) for _ in range(2))
    ranks = retrieval_ranks(u, v)
    assert recall_at_k(ranks.image_to_text, 1) < 0.06
    assert recall_at_k(retrieval_ranks(u, u).image_to_text, 1) == 1
