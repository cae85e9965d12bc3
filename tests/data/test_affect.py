"""A feeling in picture, text and voice: what each alone, and all together, can tell."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch

from mmlearn.data.affect import (
    BAD,
    FEELINGS,
    GOOD,
    MODALITIES,
    TABLE,
    TONES,
    Cues,
    bayes_accuracy,
    draw_person,
    feeling_of,
    make_affect,
    sentence_of,
    voice_of,
)


@pytest.mark.equation("eq:affect-label")
def test_a_feeling_is_what_is_meant_and_how():
    for cues in TABLE:
        good = not cues.praise if cues.wink else cues.praise
        lively = not cues.lively if cues.arms else cues.lively
        assert FEELINGS[feeling_of(cues)] == {(True, True): "joyful", (True, False): "tender",
                                              (False, True): "angry", (False, False): "sad"}[good, lively]
    assert Counter(feeling_of(cues) for cues in TABLE) == dict.fromkeys(range(4), 4)


@pytest.mark.equation("eq:affect-bayes")
def test_no_modality_alone_beats_chance_and_all_three_tell_the_feeling():
    known = {("picture",): 0.25, ("text",): 0.25, ("voice",): 0.25, ("picture", "text"): 0.5,
             ("picture", "voice"): 0.5, ("text", "voice"): 0.25, MODALITIES: 1.0, (): 0.25}
    for n in range(4):
        for modalities in combinations(MODALITIES, n):
            best = 0.0                                  # over every possible way to answer, by counting
            for shown in {cues.of(modalities) for cues in TABLE}:
                labels = [feeling_of(cues) for cues in TABLE if cues.of(modalities) == shown]
                best += max(labels.count(label) for label in range(4)) / len(TABLE)
            assert bayes_accuracy(modalities) == best == known[modalities]
    with pytest.raises(ValueError, match="modality 'smell' is unknown"):
        bayes_accuracy(["smell"])


def test_no_single_cue_moves_the_probability_of_any_feeling():
    for place in range(4):
        for value in (False, True):
            labels = [feeling_of(cues) for cues in TABLE if cues[place] == value]
            assert Counter(labels) == dict.fromkeys(range(4), 2)


def test_what_a_modality_shows_depends_on_its_own_cues_and_the_seed_alone():
    for seed in range(5):
        pictures, texts, voices = {}, {}, {}
        for cues in TABLE:
            pictures.setdefault(cues.of(["picture"]), set()).add(draw_person(cues, seed, 32).tobytes())
            texts.setdefault(cues.of(["text"]), set()).add(sentence_of(cues, seed))
            voices.setdefault(cues.of(["voice"]), set()).add(voice_of(cues, seed))
        for shown, count in ((pictures, 4), (texts, 2), (voices, 2)):
            assert len(shown) == count and all(len(same) == 1 for same in shown.values())
            assert len(set().union(*shown.values())) == count               # the cue can be seen


def test_a_sentence_differs_by_its_adjective_and_a_voice_by_its_tone_only():
    for seed in range(20):
        good, bad = (sentence_of(Cues(False, False, praise, False), seed).split() for praise in (True, False))
        changed = [(a, b) for a, b in zip(good, bad) if a != b]
        assert len(changed) == 1 and changed[0][0] in GOOD and changed[0][1] in BAD
        one, two = (voice_of(Cues(False, False, False, lively), seed) for lively in (True, False))
        assert (one.word, one.seed) == (two.word, two.seed)
        assert one.tone in TONES[True] and two.tone in TONES[False]


def test_a_tone_says_nothing_of_good_and_bad():
    table = Counter((voice_of(cues, seed).tone, feeling_of(cues) % 2) for seed in range(40) for cues in TABLE)
    for tone in ("joyful", "angry", "tender", "sad"):
        share = table[tone, 1] / (table[tone, 0] + table[tone, 1])
        assert 0.35 < share < 0.65


def test_data_are_balanced_and_a_function_of_their_number():
    data, again = make_affect(48, "val", size=16), make_affect(48, "val", size=16)
    assert torch.equal(data.pictures, again.pictures) and data.texts == again.texts
    assert Counter(data.cues) == dict.fromkeys(TABLE, 3)
    assert data.pictures.shape == (48, 3, 16, 16) and data.pictures.dtype == torch.uint8
    assert [feeling_of(cues) for cues in data.cues] == data.feelings.tolist() and data.waves is None
    other = make_affect(48, "test", size=16)
    assert other.texts != data.texts
    some = data.rows([3, 1])
    assert some.texts == (data.texts[3], data.texts[1]) and len(some) == 2
    assert torch.equal(some.pictures[1], data.pictures[1])


def test_voices_are_spoken_by_whatever_synthesiser_is_given():
    asked = []

    def speak(words, tones, seeds):
        asked.extend(zip(words, tones, seeds))
        return torch.arange(float(len(words)))[:, None].expand(-1, 5)

    data = make_affect(20, size=16, speak=speak)
    assert data.waves.shape == (20, 5) and asked == [tuple(said) for said in data.said]
    assert data.rows([7]).waves.tolist() == [[7.0] * 5]


def test_a_wink_closes_an_eye_and_arms_are_raised():
    plain = draw_person(Cues(False, False, True, True), 3, 64).astype(int)
    wink = draw_person(Cues(True, False, True, True), 3, 64).astype(int)
    arms = draw_person(Cues(False, True, True, True), 3, 64).astype(int)
    rows, columns = np.nonzero(np.abs(plain - wink).sum(-1))
    assert 32 <= columns.min() and columns.max() < 46 and 22 <= rows.min() and rows.max() < 38
    _, columns = np.nonzero(np.abs(plain - arms).sum(-1))
    assert columns.min() < 12 and columns.max() > 52


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="split 'dev' is unknown"):
        make_affect(1, "dev")
    with pytest.raises(ValueError, match="count is 0; make at least 1 example"):
        make_affect(0)
