"""Pictures of one thing, and sentences that say what and where."""

import pytest
import torch

from mmlearn.data.pairs import signed_pixels
from mmlearn.data.scenes import portrait
from mmlearn.data.scenes.language import parse_caption
from mmlearn.data.things import ATTRIBUTES, attributes_of, kinds_of, plain_sentences, thing_pairs
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
