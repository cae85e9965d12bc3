"""Pictures of one thing, and sentences that say what and where."""

import pytest
import torch

from mmlearn.data.pairs import signed_pixels
from mmlearn.data.scenes import HELD_OUT_PAIRS, portrait, side_by_side
from mmlearn.data.scenes.language import parse_caption
from mmlearn.data.things import (
    ATTRIBUTES,
    attributes_of,
    halves,
    kinds_of,
    plain_sentences,
    side_pictures,
    side_scenes,
    sides,
    thing_pairs,
    two_things,
)
from mmlearn.data.tokenisers import PlainWordTokeniser


def test_a_plain_sentence_names_thing_colour_and_place():
    scene = portrait("car", colour="red", setting="snow")
    assert plain_sentences(scene) == ("A red car in the snow.", "A red car in a snowy field.",
                                      "A red car on a snowy day.")
    person = portrait("person", colour="blue", setting="beach")
    assert plain_sentences(person)[0] == "A person in blue on a beach."
    assert plain_sentences(portrait("balloon", colour="orange", setting="room"))[0].startswith("An orange")


@pytest.mark.parametrize("split", ["train", "compositional"])
def test_every_plain_sentence_is_understood_as_what_the_picture_shows(split):
    data = thing_pairs(40, split, size=16)
    for scene, texts in zip(data.scenes, data.captions):
        thing = scene.objects[0]
        for text in plain_sentences(scene):
            said = parse_caption(text)
            assert {(thing.category,), (scene.setting,)} <= said and text in texts
            assert any(thing.colour in words for words in said)


def test_the_number_of_an_attribute_is_its_place_in_the_list():
    scenes = [portrait("car", colour="red", setting="snow"), portrait("cat", colour="black", setting="room")]
    found = attributes_of(scenes)
    for name, values in {"category": ("car", "cat"), "colour": ("red", "black"),
                         "setting": ("snow", "room")}.items():
        assert tuple(ATTRIBUTES[name][i] for i in found[name].tolist()) == values
    assert found.keys() == ATTRIBUTES.keys()


def test_kinds_are_alike_only_if_all_three_attributes_are():
    red = portrait("car", colour="red", setting="snow", variant=1)
    others = [portrait("car", colour="blue", setting="snow"), portrait("car", colour="red", setting="street"),
              portrait("bus", colour="red", setting="snow")]
    kinds = kinds_of([red, portrait("car", colour="red", setting="snow", variant=9), *others]).tolist()
    assert kinds[0] == kinds[1] and len(set(kinds)) == 4


def test_pairs_of_the_compositional_split_are_never_seen_in_training():
    def pairs(split):
        return {(s.objects[0].category, s.objects[0].colour) for s in thing_pairs(120, split, size=16).scenes}

    assert not pairs("train") & pairs("compositional")


def test_signed_pixels_go_from_minus_one_to_one():
    ends = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 2, 2)
    assert signed_pixels(ends)[0, 0].tolist() == [[-1.0, 1.0], [-1.0, 1.0]]


def test_plain_words_have_neither_begin_nor_end():
    words = PlainWordTokeniser(["<unk>", "<pad>", "<bos>", "<eos>", "a", "red", "car"])
    assert words.batch(["A red car.", "a car"]).tolist() == [[4, 5, 6], [4, 6, 1]]
    assert words.batch(["A red car."], 2).tolist() == [[4, 5]] and words.batch([]).shape == (0, 0)
    assert words.decode(words.batch(["a car", "a red car"])[0]) == "a car"


@pytest.mark.parametrize("split", ["train", "compositional", "zero_shot"])
def test_two_things_stand_side_by_side_each_in_its_half(split):
    for index in range(60):
        scene = side_by_side(3, index, split)
        left, right = sides(scene)
        assert left.x + left.width / 2 <= 0.5 <= right.x - right.width / 2 and left.category != right.category
        assert {r.predicate for r in scene.relations} == {"left of", "right of"}
        for thing in scene.objects:
            assert thing.x - thing.width / 2 >= 0 and thing.x + thing.width / 2 <= 1
            assert thing.y - thing.height / 2 >= 0 and thing.y + thing.height / 2 <= 1
        assert scene == side_by_side(3, index, split)


def test_of_two_things_one_is_of_an_unseen_pair_in_the_compositional_split_alone():
    def unseen(split):
        return [sum((o.colour, o.category) in HELD_OUT_PAIRS for o in side_by_side(0, i, split).objects)
                for i in range(80)]

    assert set(unseen("train")) == {0} and set(unseen("compositional")) == {1}


def test_sentences_of_two_things_say_both_with_colour_side_and_place():
    data = two_things(30, size=16)
    for scene, texts in zip(data.scenes, data.captions):
        left, right = sides(scene)
        for text in plain_sentences(scene):
            said = parse_caption(text)
            assert {(left.category,), (right.category,), (scene.setting,)} <= said and text in texts
            assert {(left.category, "left of", right.category), (right.category, "right of", left.category)
                    } & said


def test_attributes_of_sides_are_those_of_the_left_and_of_the_right_thing():
    scene = side_by_side(0, 5)
    for alone, thing in zip(side_scenes([scene]), sides(scene)):
        values = {name: ATTRIBUTES[name][int(found)] for name, found in attributes_of(alone).items()}
        assert values == {"category": thing.category, "colour": thing.colour, "setting": scene.setting}


def test_halves_are_the_left_of_every_picture_and_then_the_right_stretched():
    images = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4).float()
    found = halves(images)
    assert found.shape == (4, 3, 4, 4)
    for n in range(2):
        for side in range(2):
            half = images[n, :, :, 2 * side:2 * side + 2]
            want = torch.stack([half[..., 0], 0.75 * half[..., 0] + 0.25 * half[..., 1],
                                0.25 * half[..., 0] + 0.75 * half[..., 1], half[..., 1]], dim=-1)
            torch.testing.assert_close(found[2 * side + n], want)


def test_pictures_of_sides_show_one_thing_each_with_its_own_sentences():
    data = two_things(4, size=16)
    alone = side_pictures(data)
    assert alone.images.shape == (8, 3, 16, 16) and alone.images.dtype == torch.uint8
    for i, scene in enumerate(data.scenes):
        for side, thing in enumerate(sides(scene)):
            assert alone.scenes[4 * side + i].objects == (thing,)
            assert alone.captions[4 * side + i][0] == plain_sentences(alone.scenes[4 * side + i])[0]


def test_two_things_without_a_picture_or_of_an_unknown_split_are_refused():
    with pytest.raises(ValueError, match="at least 1 picture"):
        two_things(0)
    with pytest.raises(ValueError, match="unknown"):
        two_things(2, "tomorrow")
    with pytest.raises(ValueError, match="negative"):
        side_by_side(0, -1)
    with pytest.raises(ValueError, match="shows 1 things"):
        sides(portrait("car"))
