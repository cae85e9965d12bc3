"""Noise with known kinds, and the rules that remove some of it."""

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmlearn.data.pairs import scene_pairs
from mmlearn.data.scenes import captions, sample_scene
from mmlearn.experiments.text_for_vision.text_filters import JUNK, noisy_pairs, removed_by_kind, web_texts
from mmlearn.text_for_vision.overlap import precision_recall
from mmlearn.text_for_vision.text_filters import (
    TextRules,
    few_texts,
    filter_pairs,
    frequent_grams,
    grams,
    large_enough,
    not_elongated,
    not_shared,
    not_test_pictures,
    right_length,
    unigrams,
    without_rare,
)


def scene_captions(count):
    return [captions(sample_scene(0, i))[i % 5] for i in range(count)]


# -------------------------------------------------------------------------------------------------- the rules

def test_words_lose_case_and_punctuation_at_their_ends():
    assert unigrams("A cat, on the (red) mat!") == ["a", "cat", "on", "the", "red", "mat"]
    assert unigrams("IMG_4821.jpg -- 2019-03-14") == ["img_4821.jpg", "2019-03-14"]
    assert grams("a red car") == ["a", "red", "car", "a red", "red car"] and grams("...") == []


def test_frequent_grams_counts_single_words_and_pairs_together():
    assert frequent_grams(["a b", "a b", "a c"], 3) == {"a", "a b", "b"}
    assert frequent_grams(["b a"], 1) == {"a"}  # a tie goes by the alphabet


def test_a_text_shared_by_more_than_ten_pictures_goes():
    texts = ["add to cart"] * 11 + ["a cat"] * 10
    assert not_shared(texts).tolist() == [False] * 11 + [True] * 10
    assert not_shared(texts, [0] * 21).all()  # all under one picture: not shared
    with pytest.raises(ValueError, match="2 texts and 1 pictures; name the picture of each text"):
        not_shared(["a", "b"], [0])


def test_a_rare_word_or_a_rare_pair_of_words_is_enough():
    known = frequent_grams(["a red car", "a red car", "a cat"], 5)
    assert without_rare(["a red car", "a cat", "red car a"], known).tolist() == [True, False, False]


def test_length_is_counted_in_words_and_both_ends_are_kept():
    texts = [" ".join(["word"] * n) for n in (2, 3, 20, 21)]
    assert right_length(texts).tolist() == [False, True, True, False]


def test_pictures_that_are_small_or_long_go():
    sizes = torch.tensor([[200, 500], [201, 500], [300, 900], [300, 899], [899, 300]])
    assert large_enough(sizes).tolist() == [False, True, True, True, True]
    assert not_elongated(sizes).tolist() == [True, True, False, True, True]


def test_a_picture_with_too_many_texts_goes_wherever_it_stands():
    pictures, texts = ["logo"] * 4 + ["cat"] * 4, ["a", "b", "c", "d", "a cat", "a cat", "a cat", "a dog"]
    assert few_texts(pictures, texts, most=3).tolist() == [False] * 4 + [True] * 4
    with pytest.raises(ValueError, match="1 texts and 2 pictures"):
        few_texts(["a", "b"], ["c"])


def test_copies_of_test_pictures_go_in_any_size():
    pictures = scene_pairs(6, size=32).images
    test = torch.nn.functional.interpolate(pictures[2:4].float(), (48, 48), mode="bilinear").round().byte()
    assert not_test_pictures(pictures, test).tolist() == [True, True, False, False, True, True]


def test_the_papers_thresholds():
    rules = TextRules.paper()
    assert (rules.shared, rules.vocabulary, rules.least, rules.most) == (10, 100_000_000, 3, 20)


@given(st.lists(st.text(alphabet="ab c.", max_size=12), min_size=1, max_size=30))
def test_a_larger_vocabulary_never_removes_more(texts):
    small, large = (without_rare(texts, frequent_grams(texts, n)) for n in (3, 6))
    assert (large | ~small).all()
    assert TextRules(10, 10_000, 0, 100).apply(texts, [0] * len(texts))["all"].all()


# -------------------------------------------------------------------------------------------------- the noise

def test_noise_has_the_shares_and_kinds_that_it_says():
    texts = scene_captions(400)
    noisy = web_texts(texts, {"shuffled": 0.25, "date": 0.1}, seed=3)
    counts = {kind: int(noisy.are(kind).sum()) for kind in set(noisy.kinds)}
    assert counts == {"clean": 260, "shuffled": 100, "date": 40}
    for text, kind, own in zip(noisy.texts, noisy.kinds, texts):
        if kind == "clean":
            assert text == own
    moved = [i for i, kind in enumerate(noisy.kinds) if kind == "shuffled"]
    assert sorted(noisy.texts[i] for i in moved) == sorted(texts[i] for i in moved)
    assert sum(noisy.texts[i] != texts[i] for i in moved) > 90
    assert noisy == web_texts(texts, {"shuffled": 0.25, "date": 0.1}, seed=3)
    assert noisy != web_texts(texts, {"shuffled": 0.25, "date": 0.1}, seed=4)


def test_every_kind_looks_like_itself():
    noisy = web_texts(["x"] * 700, {kind: 1 / len(JUNK) for kind in JUNK})
    shapes = {"file name": r"\w+[-\d]*\.(jpg|JPG|png|gif)", "code": r"item no \d+ ref [a-z]{5} tid \d+",
              "date": r"\d{4}-\d\d-\d\d|\d+ \w+ \d{4}", "one word": r"\w+", "keywords": r"(\w+, ){20,}\w+"}
    for text, kind in zip(noisy.texts, noisy.kinds):
        assert re.fullmatch(shapes.get(kind, r"[a-z ]{10,}"), text), (kind, text)


@pytest.mark.parametrize("shares", [{"rumour": 0.1}, {"date": -0.1}, {"date": 0.6, "code": 0.5}])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="give fractions of 0 or more that sum to at most 1"):
        web_texts(["a"], shares)


def test_each_rule_has_its_victims_and_none_sees_a_wrong_caption():
    shares = {"shuffled": 0.2, "advert": 0.1, "stock phrase": 0.1,
              **{kind: 0.05 for kind in ("code", "file name", "date", "one word", "keywords")}}
    noisy = web_texts(scene_captions(800), shares, seed=0)
    kept = TextRules(shared=5, vocabulary=2_000).apply(noisy.texts)
    removed = removed_by_kind(noisy, kept)
    assert removed["shared"]["advert"] == removed["shared"]["stock phrase"] == 1.0
    assert removed["shared"]["clean"] == removed["shared"]["code"] == 0.0
    assert removed["rare"]["code"] > 0.9 and removed["rare"]["advert"] == removed["rare"]["one word"] == 0.0
    assert (
        removed["length"]["one word"]
        == removed["length"]["file name"]
        == removed["length"]["keywords"]
        == 1.0
    )
    assert removed["length"]["advert"] == removed["length"]["code"] == 0.0
    assert all(removed["all"][kind] > 0.9 for kind in JUNK if kind != "date")
    assert abs(removed["all"]["shuffled"] - removed["all"]["clean"]) < 0.15
    assert torch.equal(kept["all"], kept["shared"] & kept["rare"] & kept["length"])
    precision, recall = precision_recall(~kept["all"], noisy.are(*JUNK))
    junk = sum(shares[kind] for kind in JUNK)
    assert recall > 0.9 and precision > 1.2 * junk  # better than removing at random


# -------------------------------------------------------------------------------------------------- data sets

def test_noisy_pairs_change_captions_and_nothing_else():
    data = scene_pairs(60, size=32)
    noisy = noisy_pairs(data, {"shuffled": 0.2, "advert": 0.3}, seed=1)
    assert noisy.data.images is data.images and len(noisy.kinds) == 60
    for own, texts, kind in zip(data.captions, noisy.data.captions, noisy.kinds):
        if kind == "clean":
            assert texts == own
        elif kind == "advert":
            assert len(texts) == 1 and texts != own
        else:
            assert texts in data.captions
    assert sum(kind == "advert" for kind in noisy.kinds) == 18


def test_filtering_pairs_keeps_pictures_with_a_text_that_passes():
    data = scene_pairs(30, size=32)
    data = replace(data, captions=(("add to cart",),
                                   ) * 20 + (("a red car on grass", "x"),) * 5 + data.captions[25:])
    left = filter_pairs(data, TextRules(shared=10, vocabulary=100_000))
    assert len(left) == 10 and all(len(texts) >= 1 for texts in left.captions)
    assert left.captions[0] == ("a red car on grass",) and left.scenes == data.scenes[20:]
    assert torch.equal(left.images, data.images[20:])
    with pytest.raises(ValueError, match="no text of 20 passes"):
        filter_pairs(data.first(20), TextRules())
