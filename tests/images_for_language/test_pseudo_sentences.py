"""Pseudo-sentences bring what is seen of a word into its text, as often as the rate says."""

from collections import Counter

import pytest
import torch

from mmlearn.images_for_language.counts import weigh, window_counts
from mmlearn.images_for_language.pseudo_sentences import (
    expected_meetings,
    feature_shares,
    pseudo_sentence,
    visual_features,
    with_pseudo_sentences,
)

SENTENCES = [["the", "crocodile", "sleeps"], ["joy", "sleeps"], ["a", "crocodile", "and", "a", "crocodile"]]
FEATURES = {"crocodile": {"green": 3.0, "teeth": 1.0, "wings": 0.0}}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.equation("eq:pseudo-share")
@pytest.mark.equation("eq:pseudo-meetings")
def test_features_are_written_as_often_as_their_weights_and_the_rate_say():
    shares = feature_shares(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
    assert shares.tolist() == [0.75, 0.25, 0.0]
    written = with_pseudo_sentences(SENTENCES * 200, FEATURES, generator(), rate=1.5, pairs=4)
    met = Counter(word for sentence in written for word in sentence)
    for feature, share in zip(("green", "teeth", "wings"), shares.tolist()):
        want = expected_meetings(600, 1.5, 4, share)
        assert want == 600 * 1.5 * 4 * share
        assert abs(met[feature] - want) <= 0.1 * want
    added = len(written) - 600
    assert abs(added - 900) < 60


def test_a_pseudo_sentence_names_word_and_feature_in_turn():
    found = pseudo_sentence("crocodile", ["green", "teeth"], torch.tensor([0.5, 0.5]), 6, generator())
    assert found[::2] == ["crocodile"] * 6 and set(found[1::2]) == {"green", "teeth"}


def test_the_text_stays_and_words_without_features_get_none():
    written = with_pseudo_sentences(SENTENCES, FEATURES, generator(), rate=2)
    assert [s for s in written if s in SENTENCES] == SENTENCES
    assert [s[0] for s in written].count("crocodile") == 6 and len(written) == 9
    assert with_pseudo_sentences(SENTENCES, FEATURES, generator(), rate=0) == SENTENCES
    assert with_pseudo_sentences(SENTENCES, FEATURES, generator(3)) == with_pseudo_sentences(
        SENTENCES, FEATURES, generator(3))


def test_twins_in_text_are_told_apart_once_their_looks_are_written():
    sentences = [[noun, *rest] for noun in ("raven", "dove") for rest in (("flies", "home"), ("sings",))]
    looks = {"raven": {"black": 1.0}, "dove": {"white": 1.0}}

    def likeness(corpus):
        words = list(dict.fromkeys([*(w for s in sentences for w in s), "black", "white"]))
        table = weigh(window_counts([[words.index(w) for w in s] for s in corpus], len(words), 2), "ppmi")
        a, b = table[words.index("raven")], table[words.index("dove")]
        return float(a @ b / (a.norm() * b.norm()))

    assert likeness(sentences) == pytest.approx(1)
    assert likeness(with_pseudo_sentences(sentences, looks, generator())) < 0.9


def test_the_heaviest_visual_words_become_features():
    table = torch.tensor([[0.0, 5.0, 2.0, 9.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found = visual_features(["a", "b", "c"], table, most=2)
    assert found == {"a": {"seen:3": 9.0, "seen:1": 5.0}, "c": {"seen:0": 1.0}}
    assert visual_features(["a", "b", "c"], table.to_sparse(), most=2) == found
    with pytest.raises(ValueError, match="there are 2 words and 3 rows"):
        visual_features(["a", "b"], table)


def test_what_cannot_be_written_is_refused():
    for options in ({"rate": -1}, {"rate": float("nan")}, {"pairs": 0}):
        with pytest.raises(ValueError, match="use a rate of 0 or more and at least 1 pair"):
            with_pseudo_sentences(SENTENCES, FEATURES, generator(), **options)
    with pytest.raises(ValueError, match="features of 'joy' have no weight"):
        with_pseudo_sentences(SENTENCES, {"joy": {"red": 0.0}}, generator())
