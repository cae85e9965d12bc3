"""Words of the corpus are as alike as the process that wrote it makes them; speech is a wave that differs by
word."""

import re

import numpy as np
import pytest

from mmlearn.data.scenes import (
    CATEGORIES,
    HELD_OUT_CATEGORIES,
    captions,
    corpus,
    sample_scene,
    spectrogram,
    speech,
)
from mmlearn.data.scenes.corpus import (
    ABSTRACT,
    affinities,
    is_concrete,
    similarity,
    word_given_theme,
    word_similarity,
)
from mmlearn.data.scenes.speech import SOUNDS, sounds_of


def words_of(text: str) -> list[str]:
    return [w for w in re.findall("[a-z]+", text.lower()) if w in affinities()]


@pytest.fixture(scope="module")
def text() -> list[str]:
    return corpus(20000, seed=1)


def test_known_similarity_is_the_cosine_of_theme_distributions():
    table = affinities()
    for a, b in (("cat", "dog"), ("joy", "danger"), ("cake", "pleasure"), ("car", "calm")):
        def given_theme(word):
            same_class = [w for w in table if (w in ABSTRACT) == (word in ABSTRACT)]
            return np.array([table[word][z] / sum(table[w][z] for w in same_class) for z in range(8)])
        p, q = given_theme(a), given_theme(b)
        assert similarity(a, b) == pytest.approx(p @ q / np.linalg.norm(p) / np.linalg.norm(q), abs=1e-12)
        assert np.allclose(word_given_theme(a), p, atol=1e-12)


def test_words_are_drawn_as_often_as_the_process_says(text):
    counts = {word: 0 for word in affinities()}
    for line in text:
        for word in words_of(line):
            counts[word] += 1
    for concrete in (True, False):
        own = [w for w in counts if is_concrete(w) == concrete]
        total = sum(counts[w] for w in own)
        for word in own:
            assert counts[word] / total == pytest.approx(sum(word_given_theme(word)) / 8, abs=0.004)


def test_words_that_are_alike_keep_the_same_company(text):
    words = list(affinities())
    place = {word: i for i, word in enumerate(words)}
    together = np.zeros((len(words), len(words)))
    for line in text:
        found = [place[w] for w in words_of(line)]
        for i, a in enumerate(found):
            for b in found[i + 1:]:
                together[a, b] += 1
                together[b, a] += 1
    joint = together / together.sum()
    single = joint.sum(0)
    ratio = joint / np.outer(single, single)                   # 1 where words meet as often as by chance
    values, vectors = np.linalg.eigh(ratio)
    keep = values.argsort()[-8:]                               # as many directions as there are themes
    embedding = vectors[:, keep] * np.sqrt(values[keep])
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    pairs = word_similarity()
    measured = np.array([unit[place[a]] @ unit[place[b]] for a, b, _ in pairs])
    known = np.array([s for *_, s in pairs])
    ranks = [v.argsort().argsort() for v in (measured, known)]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] > 0.8


def test_all_categories_are_written_about_also_those_no_training_picture_shows(text):
    found = {word for line in text for word in words_of(line)}
    assert {c.name for c in CATEGORIES} <= found
    assert set(HELD_OUT_CATEGORIES) <= found
    assert set(ABSTRACT) <= found


def test_similarity_covers_every_pair_once():
    pairs = word_similarity()
    n = len(affinities())
    assert len(pairs) == n * (n - 1) // 2 == len({frozenset(p[:2]) for p in pairs})
    assert all(0 < s <= 1 + 1e-9 for *_, s in pairs)
    assert similarity("cat", "dog") > 0.95 > 0.5 > similarity("cake", "hurry")


def test_the_corpus_is_the_same_for_the_same_seed_and_grows_at_its_end():
    assert corpus(50, 3) == corpus(50, 3)
    assert corpus(50, 3) == corpus(80, 3)[:50]
    assert corpus(50, 3) != corpus(50, 4)
    assert corpus(0) == []


def test_things_of_the_corpus_have_colours_that_they_can_have(text):
    colours = {c.name: c.colours for c in CATEGORIES}
    pairs = [m for line in text for m in re.findall(r"\b[Aa]n? (\w+) (\w+)\b", line) if m[1] in colours]
    assert len(pairs) > 1000
    assert all(colour in colours[name] for colour, name in pairs)


def test_unknown_words_and_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="no known similarity"):
        similarity("cat", "quark")
    with pytest.raises(ValueError, match="take 0 or more"):
        corpus(-1)


# ---- speech ------------------------------------------------------------------------------------------------

def mean_spectrum(word: str, seed: int = 0) -> np.ndarray:
    loud = spectrogram(speech(word, seed=seed))
    middle = np.quantile(np.arange(loud.shape[1]), [0.1, 0.35, 0.65, 0.9]).astype(int)
    return np.concatenate([loud[:, a:b].mean(1) for a, b in zip(middle, middle[1:])])


def test_speech_is_a_wave_between_minus_one_and_one_that_never_changes():
    wave = speech("A red cat is on a table.")
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert 0.5 < np.abs(wave).max() <= 1
    assert 1.0 < len(wave) / 16000 < 4.0
    assert np.array_equal(wave, speech("A red cat is on a table."))


def test_words_are_told_apart_by_their_spectra():
    words = ("cat", "tree", "house", "fish", "moon", "sun", "bus", "cup")
    spectra = {w: mean_spectrum(w) for w in words}
    for a in words:
        for b in words:
            if a != b:
                assert np.sqrt(np.mean((spectra[a] - spectra[b]) ** 2)) > 4.0, (a, b)     # decibels


def test_a_hiss_is_high_and_a_vowel_is_low():
    loud = 10 ** (spectrogram(speech("sun")) / 10)
    hertz = np.linspace(0, 8000, len(loud))[:, None]
    centre = (loud * hertz).sum(0) / loud.sum(0)
    assert centre[7:12].mean() > 4000 > 1500 > centre[15:19].mean()          # s, then u


def test_speakers_differ_in_pitch_and_speed():
    waves = [speech("a large tree", seed=seed) for seed in range(6)]
    assert len({len(w) for w in waves}) > 3
    pitches = []
    for wave in waves:
        spectrum = np.abs(np.fft.rfft(wave[2000:10000]))
        low = slice(80 * 8000 // 16000, 260 * 8000 // 16000)
        pitches.append((np.arange(len(spectrum))[low][spectrum[low].argmax()]) * 2)
    assert max(pitches) - min(pitches) > 40                                   # Hz


def test_every_word_of_the_captions_can_be_pronounced():
    words = {w for i in range(60) for text in captions(sample_scene(0, i))
             for w in re.findall("[a-z]+", text.lower())}
    for word in words:
        sounds = sounds_of(word)
        assert sounds and set(sounds) <= set(SOUNDS), word
        assert any(SOUNDS[s].voice == 1.0 for s in sounds), word              # a vowel


def test_letters_become_the_sounds_an_english_reader_would_make():
    plain = {w: " ".join(s for s in sounds_of(w) if s not in ("closure", "murmur"))
             for w in ("cake", "night", "tree", "sheep", "kitten", "brown", "snow", "table")}
    assert plain == {"cake": "k eh iy k", "night": "n aa iy t", "tree": "t r iy", "sheep": "sh iy p",
                     "kitten": "k ih t eh n", "brown": "b r aa uw n", "snow": "s n ao uh",
                     "table": "t ae b ah l"}


def test_the_rate_changes_the_number_of_samples_and_not_the_duration():
    assert len(speech("a cat", 8000)) == pytest.approx(len(speech("a cat", 16000)) / 2, abs=80)


def test_a_text_without_letters_and_a_low_rate_are_refused():
    with pytest.raises(ValueError, match="no letter"):
        speech("12 !")
    with pytest.raises(ValueError, match="8000"):
        speech("cat", 4000)
