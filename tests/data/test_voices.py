"""Voices that are made: the equations of sound, who speaks, what is said, and how."""

import math

import pytest
import torch
from networks import covers, numbers

from mmlearn.data.batches import Batches
from mmlearn.data.voices import (
    BANDWIDTHS,
    FEELINGS,
    SOUNDS,
    WORDS,
    SpokenWords,
    band_noise,
    harmonics,
    levelled,
    pitch_contour,
    resonance,
    speak,
    sum_of_sines,
)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def spectrum(wave, rate=8000):
    """Frequencies, and how strong each is in a wave."""
    return torch.fft.rfftfreq(len(wave), 1 / rate), torch.fft.rfft(wave * torch.hann_window(len(wave))).abs()


def pitch_of(wave, rate=8000):
    """Pitch in Hz of a wave's loudest 100 ms: where it fits itself best, its formants pressed down."""
    size, low, high = rate // 10, rate // 400, rate // 60
    at = int(wave.unfold(0, size, 80).square().sum(dim=1).argmax()) * 80
    power = torch.fft.rfft(wave[at : at + size] * torch.hann_window(size), 2 * size).abs()
    return rate / (low + int(torch.fft.irfft(power**0.6)[low:high].argmax()))


# -------------------------------------------------------------------------------------------------- equations

@covers("eq:voice-pitch")
def test_a_pitch_rises_and_swings_in_semitones():
    u, phase = torch.tensor([[0.0, 0.3, 1.0], [0.0, 0.5, 1.0]], dtype=torch.float64), column(0.2, 0.0)
    base, rise, swing = column(100.0, 200.0), column(-3.0, 12.0), column(1.5, 0.0)
    want = torch.tensor([[base[i, 0] * 2 ** ((rise[i, 0] * (u[i, j] - 0.5) + swing[i, 0]
                                             * math.sin(3 * math.pi * u[i, j] + phase[i, 0])) / 12)
                          for j in range(3)] for i in range(2)], dtype=torch.float64)
    found = pitch_contour(u, base, rise, swing, phase)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(found[1, 2] / found[1, 0], torch.tensor(2.0).double())     # twelve semitones


@covers("eq:voice-resonance")
def test_a_resonance_lets_its_own_frequency_through_best():
    f, F, B = torch.tensor([0.0, 250.0, 500.0, 900.0]).double(), 500.0, 80.0
    want = torch.tensor([F**2 / math.sqrt((F**2 - x**2) ** 2 + B**2 * x**2) for x in f.tolist()]).double()
    found = resonance(f, torch.full_like(f, F), B)
    torch.testing.assert_close(found, want)
    assert found[0] == 1 and torch.isclose(found[2], torch.tensor(F / B).double())


@covers("eq:voice-harmonic")
def test_a_harmonic_is_what_the_source_gives_times_three_resonances():
    f0, formants = torch.tensor([[110.0, 150.0]]).double(), torch.tensor(SOUNDS["a"][0].formants).double()
    tracks = torch.stack([formants, 1.1 * formants])[None]
    for k in (1, 7, 30):
        want = []
        for j in range(2):
            f, gain = k * f0[0, j].item(), k**-1.3
            for F, B in zip(tracks[0, j].tolist(), BANDWIDTHS):
                gain *= F**2 / math.sqrt((F**2 - f**2) ** 2 + B**2 * f**2)
            want.append(gain if f < 3840 else 0.0)
        found = harmonics(f0, tracks, column(1.3), k, 3840)
        torch.testing.assert_close(found, torch.tensor([want]).double())


@covers("eq:voice-clenshaw")
def test_one_sine_and_one_cosine_give_the_sum_of_all_harmonics():
    a, phi = numbers(40, 3, 5), 7 * numbers(3, 5, seed=1)
    want = torch.zeros(3, 5).double()
    for k in range(40):
        for i in range(3):
            for j in range(5):
                want[i, j] += a[k, i, j] * math.sin((k + 1) * phi[i, j])
    torch.testing.assert_close(sum_of_sines(list(a), phi), want)


@covers("eq:voice-noise")
def test_noise_lies_around_its_carrier():
    g, psi = numbers(2, 2, 3), numbers(2, 3, seed=1)
    want = torch.tensor([[g[i, 0, t] * math.cos(psi[i, t]) + g[i, 1, t] * math.sin(psi[i, t])
                          for t in range(3)] for i in range(2)])
    torch.testing.assert_close(band_noise(g, psi), want)
    hiss = speak(["sssss"], seeds=3)[0]
    f, power = spectrum(hiss)
    assert 2800 < (f * power.square()).sum() / power.square().sum() < 3900


@covers("eq:voice-level")
def test_the_loudest_sample_is_a_half_and_six_decibels_are_twice_as_much():
    x, loudness = numbers(2, 50), column(0.0, 6.0)
    want = torch.stack([0.5 * 10 ** (loudness[i, 0] / 20) * x[i] / max(abs(v) for v in x[i].tolist())
                        for i in range(2)])
    found = levelled(x, loudness)
    torch.testing.assert_close(found, want)
    assert found[0].abs().max() == 0.5 and 0.99 < found[1].abs().max() < 1


# --------------------------------------------------------------------------------------------------- speaking

def test_a_row_does_not_depend_on_the_batch_that_it_is_made_in():
    feelings = list(FEELINGS)
    together = speak(WORDS[:6], feelings, [5, 9, 2, 2, 0, 7])
    assert together.shape == (6, 4000) and together.dtype == torch.float32 and together.abs().max() <= 1
    for i, seed in ((0, 5), (3, 2), (5, 7)):
        torch.testing.assert_close(speak([WORDS[i]], [feelings[i]], [seed])[0], together[i])
    assert torch.equal(speak(["red", "red"], seeds=4)[1], speak(["red"], seeds=5)[0])
    assert not torch.allclose(speak(["red"], seeds=4), speak(["red"], seeds=5))


def test_the_formants_of_a_vowel_are_heard():
    heard = {}
    for vowel in "aiu":
        f, power = spectrum(speak([4 * vowel], seeds=1)[0])
        heard[vowel] = [(power[(low < f) & (f < high)].square().mean()).item()
                        for low, high in ((200, 500), (650, 1300), (1200, 1800), (2000, 2700))]
    low, middle, valley, high = zip(*heard.values())
    assert middle[0] > low[0] > high[0]                     # a: its first two lie between 600 and 1300 Hz
    assert low[1] > high[1] > valley[1]                     # i: one below 500 Hz, one above 2000 Hz
    assert low[2] > middle[2] > high[2]                     # u: both low


def test_a_throat_has_a_pitch_of_its_own_and_feelings_change_it():
    for seed in range(4):
        pitches = {feeling: pitch_of(speak(["aaaa"], feeling, seed)[0]) for feeling in FEELINGS}
        assert 70 < pitches["neutral"] < 200
        assert min(pitches["afraid"], pitches["joyful"]) > pitches["angry"] > pitches["neutral"]
        assert pitches["neutral"] > pitches["sad"]


def test_feelings_differ_in_loudness_and_tempo():
    waves = {feeling: speak(["circle"], feeling, 3)[0] for feeling in FEELINGS}
    peak = {feeling: wave.abs().max().item() for feeling, wave in waves.items()}
    assert peak["angry"] > peak["joyful"] > peak["neutral"] > peak["afraid"] > peak["tender"] > peak["sad"]
    said = {feeling: (wave.abs().unfold(0, 80, 40).amax(dim=1) > 0.1 * peak[feeling]).sum().item()
            for feeling, wave in waves.items()}
    assert said["afraid"] < said["neutral"] < said["sad"]


def test_words_of_a_batch_may_have_other_lengths_times_and_rates():
    assert speak(["a", "yellowyellow"], seconds=1, rate=16_000).shape == (2, 16_000)
    assert speak(["hexagon"], seconds=0.25, rate=4000).shape == (1, 1000)
    assert speak(["".join(sorted(set(SOUNDS)))[:12], "mnopqrstuvwx"]).isfinite().all()


@pytest.mark.parametrize("case, message", [
    (dict(words=[]), "0 words"), (dict(words=["Red"]), "'Red' cannot be said"),
    (dict(words=["abcdefghijklm"]), "1 to 12 letters"), (dict(words=["red"], feelings="bored"), "no feeling"),
    (dict(words=["red"], seeds=[1, 2]), "2 seeds"), (dict(words=["red"], seeds=-1), "from 0 on"),
    (dict(words=["red"], rate=8001), "no whole frames"),
    (dict(words=["red"], seconds=0.333), "no whole frames")])
def test_what_cannot_be_said_is_refused(case, message):
    with pytest.raises(ValueError, match=message):
        speak(**case)


def test_a_data_set_of_spoken_words_follows_from_its_seed():
    data = SpokenWords(40, seed=3, words=("red", "star"), feelings=("sad", "angry"))
    again = SpokenWords(40, seed=3, words=("red", "star"), feelings=("sad", "angry"))
    wave, word, feeling = data[7]
    assert torch.equal(again.__getitems__([3, 7])[1][0], wave)
    labels = [data.labels(i) for i in range(40)]
    assert {(w, f) for w, f, _ in labels} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert labels[7][:2] == (int(word), int(feeling)) and len({seed for _, _, seed in labels}) == 40
    waves, words, feelings = Batches(data, 8)[2]
    assert waves.shape == (8, 4000) and words.shape == feelings.shape == (8,)
    with pytest.raises(IndexError, match="item 40 of 40"):
        data[40]
    for options, message in ((dict(size=0), "size is 0"), (dict(size=3, words=()), "0 words"),
                             (dict(size=3, words=("Red",)), "cannot be said"),
                             (dict(size=3, feelings=("red",)), "no feeling")):
        with pytest.raises(ValueError, match=message):
            SpokenWords(**options)
