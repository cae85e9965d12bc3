r"""Voices: short words as waveforms, spoken by many throats and with a feeling, made and not recorded.

Papers: G. Fant (1960), *Acoustic Theory of Speech Production* (a source of harmonics, shaped by resonances);
G. E. Peterson and H. L. Barney (1952), *Control Methods Used in a Study of the Vowels*, JASA 24 (formants of
vowels, means of 33 men); P. N. Juslin and P. Laukka (2003), *Communication of Emotions in Vocal Expression
and Music Performance*, Psychological Bulletin 129 (that pitch, loudness and tempo tell feelings).  Survey: 5,
5.1.  Differs from the papers: every letter is one sound, whatever English does with it; consonants, their
formants and noises, and all sizes of prosody are ours, chosen to be told apart and not measured on people. No
claim is made that a voice shows what somebody feels: here it does, because it is made so.

A row depends on its word, its feeling and its seed alone, not on the batch that it is made in. Waveforms
(b, s) are in [-1, 1]. Letters of shapes: b utterances, s samples, f frames of control (200 a second),
n samples of a frame, k harmonics.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

RATE = 8000                             # samples a second
SECONDS = 0.5                           # of an utterance
CONTROL = 200                           # frames a second, at which what the mouth does is given
UNIT = 0.045                            # seconds of a sound of length 1, at tempo 1
LETTERS = 12                            # most letters of a word
BANDWIDTHS = (60.0, 90.0, 150.0)        # Hz, of the three resonances
HISS = 0.002                            # of the room, so that silence is not nothing
WORDS = ("red", "green", "blue", "yellow", "circle", "square", "star", "one", "two", "six")


class Sound(NamedTuple):
    """A stretch of a word: its resonances in Hz, how much of it is voice and noise, where the noise lies."""

    formants: tuple[float, float, float]
    voice: float = 1.0                  # amplitude of the harmonics
    noise: float = 0.0                  # amplitude of the noise
    centre: float = 1500.0              # Hz, the middle of the noise
    length: float = 0.8                 # in units of ``UNIT`` seconds


class Prosody(NamedTuple):
    """How a word is said, beside what it says."""

    pitch: float = 1.0                  # factor of the throat's own
    rise: float = -2.0                  # semitones from the beginning to the end of the word
    swing: float = 0.5                  # semitones up and down on the way
    loudness: float = 0.0               # decibels, at most 6
    tempo: float = 1.0                  # factor: twice as fast is 2
    tilt: float = 1.0                   # how steeply harmonics fall: amplitude 1 / k^tilt
    breath: float = 0.02                # noise within the voice


class Throat(NamedTuple):
    """Who speaks, and when: what is drawn for an utterance, (b,) each."""

    pitch: Tensor                       # Hz
    tract: Tensor                       # factor of all formants: short throats have high ones
    onset: Tensor                       # share of the free time that goes before the word
    phase: Tensor                       # of the swing, in radians


FEELINGS: Mapping[str, Prosody] = MappingProxyType({
    "neutral": Prosody(),
    "joyful": Prosody(1.35, 4.0, 2.5, 4.0, 1.2, 0.9, 0.02),
    "sad": Prosody(0.8, -4.0, 0.2, -8.0, 0.7, 1.3, 0.05),
    "angry": Prosody(1.15, 2.0, 1.5, 6.0, 1.35, 0.6, 0.06),
    "afraid": Prosody(1.6, 3.0, 0.3, -4.0, 1.5, 1.0, 0.15),
    "tender": Prosody(0.9, -3.0, 0.4, -6.0, 0.8, 1.6, 0.08),
})

_VOWELS = {"a": (730.0, 1090.0, 2440.0), "e": (530.0, 1840.0, 2480.0), "i": (270.0, 2290.0, 3010.0),
           "o": (570.0, 840.0, 2410.0), "u": (300.0, 870.0, 2240.0)}
_SOFT = {"m": (250.0, 1000.0, 2200.0), "n": (250.0, 1500.0, 2450.0), "l": (350.0, 1100.0, 2700.0),
         "r": (350.0, 1200.0, 1600.0), "w": (300.0, 650.0, 2200.0)}
_STOPS = {"b": (True, 700.0), "p": (False, 700.0), "d": (True, 3200.0), "t": (False, 3200.0),
          "g": (True, 1700.0), "k": (False, 1700.0)}                            # voiced? middle of the burst
_HISSES = {"s": (0.0, 3500.0), "z": (0.4, 3500.0), "f": (0.0, 2400.0), "v": (0.4, 2400.0),
           "h": (0.0, 1200.0), "j": (0.4, 2800.0)}                              # voice; middle of the noise
_REST = (400.0, 1400.0, 2400.0)         # formants where a consonant has none of its own


def _sounds() -> dict[str, tuple[Sound, ...]]:
    """The sounds of every letter."""
    found: dict[str, tuple[Sound, ...]] = {}
    found |= {letter: (Sound(formants, length=1.6),) for letter, formants in _VOWELS.items()}
    found |= {letter: (Sound(formants, 0.4),) for letter, formants in _SOFT.items()}
    for letter, (voiced, centre) in _STOPS.items():
        closed = Sound(_REST, 0.15 if voiced else 0.0, length=0.5)
        found[letter] = (closed, Sound(_REST, 0.3 if voiced else 0.0, 0.5, centre, 0.3))
    found |= {letter: (Sound(_REST, voice, 0.35, centre),) for letter, (voice, centre) in _HISSES.items()}
    return found | {"c": found["k"], "q": found["k"], "x": found["k"] + found["s"], "y": found["i"]}


SOUNDS: Mapping[str, tuple[Sound, ...]] = MappingProxyType(_sounds())


# -------------------------------------------------------------------------------------------------- equations

def pitch_contour(
    u: Float[Tensor, "b f"], base: Float[Tensor, "b 1"],
    rise: Float[Tensor, "b 1"], swing: Float[Tensor, "b 1"],
    phase: Float[Tensor, "b 1"]
) -> Float[Tensor, "b f"]:
    r"""eq:voice-pitch: $f_0(u)=f_b\,2^{(r(u-\frac12)+w\sin(3\pi u+\phi_0))/12}$: pitch in Hz where a share
    $u$ of the word is said; it rises by $r$ semitones and swings by $w$."""
    wave = torch.sin(3 * math.pi * u + phase)
    return base * 2 ** ((rise * (u - 0.5) + swing * wave) / 12)


def resonance(
    f: Float[Tensor, "*#n"], formant: Float[Tensor, "*#n"],
    bandwidth: float | int
) -> Float[Tensor, "*n"]:
    r"""eq:voice-resonance: $H(f)=\frac{F^2}{\sqrt{(F^2-f^2)^2+B^2f^2}}$: how much a resonance at $F$ Hz,
    $B$ Hz wide, lets through at $f$ Hz: 1 at 0, $F/B$ at $F$."""
    gap = formant.square() - f.square()
    return formant.square() / (gap.square() + (bandwidth * f).square()).sqrt()


def harmonics(
    f0: Float[Tensor, "b f"], formants: Float[Tensor, "b f 3"],
    tilt: Float[Tensor, "b 1"], k: int | float, top: float | int
) -> Float[Tensor, "b f"]:
    r"""eq:voice-harmonic: $a_k=k^{-\gamma}\prod_{i=1}^3H_i(kf_0)$, and 0 from ``top`` Hz on: the source falls
    with the number of the harmonic, the mouth raises what lies near a formant."""
    f = k * f0
    gains = [resonance(f, formants[..., i], width)
             for i, width in enumerate(BANDWIDTHS)]
    a = k ** -tilt * gains[0] * gains[1] * gains[2]
    return torch.where(f < top, a, 0)


def sum_of_sines(
    a: Sequence[Float[Tensor, "*n"]], phi: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    r"""eq:voice-clenshaw: $\sum_{k=1}^{K}a_k\sin k\phi=b_1\sin\phi$ with
    $b_k=a_k+2\cos\phi\,b_{k+1}-b_{k+2}$ and $b_{K+1}=b_{K+2}=0$: one sine and one cosine for all harmonics
    (Clenshaw, 1955)."""
    twice = 2 * torch.cos(phi)
    after = later = torch.zeros_like(phi)
    for a_k in reversed(a):
        after, later = a_k + twice * after - later, after
    return after * torch.sin(phi)


def band_noise(
    g: Float[Tensor, "b two s"], psi: Float[Tensor, "b s"]
) -> Float[Tensor, "b s"]:
    r"""eq:voice-noise: $n_t=g_t\cos\psi_t+h_t\sin\psi_t$: two slow noises on a carrier are noise around the
    carrier's frequency."""
    return g[:, 0] * torch.cos(psi) + g[:, 1] * torch.sin(psi)


def levelled(
    x: Float[Tensor, "b s"], loudness: Float[Tensor, "b 1"]
) -> Float[Tensor, "b s"]:
    r"""eq:voice-level: $x_t\leftarrow\frac12\,10^{D/20}\,x_t/\max_s|x_s|$: the loudest sample is a half at
    $D=0$ decibels; 6 decibels are twice as much."""
    peak = x.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
    return 0.5 * 10 ** (loudness / 20) * x / peak


# --------------------------------------------------------------------------------------------------- speaking

def speak(
    words: Sequence[str], feelings: Sequence[str] | str = "neutral", seeds: Sequence[int] | int = 0,
    seconds: float | int = SECONDS, rate: int = RATE,
) -> Float[Tensor, "b s"]:
    """Words as they sound, (b, seconds * rate) in [-1, 1]; ``feelings`` are names of ``FEELINGS``.

    A seed says who speaks (pitch and length of the throat) and when; a single seed n means n, n + 1, … Two
    rows that differ in their feelings alone have the same throat and the same noise. Words that do not fit at
    their tempo are said faster. Raises ``ValueError`` for words of other letters than a to z, feelings that
    there are not, and times that are no whole frames.
    """
    b = len(words)
    names = [feelings] * b if isinstance(feelings, str) else list(feelings)
    numbers = list(range(seeds, seeds + b)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    _check(words, names, numbers, seconds, rate)
    step, frames = rate // CONTROL, round(seconds * CONTROL)
    throat, g = _drawn(numbers, frames * step)
    prosody = torch.tensor([FEELINGS[name] for name in names], dtype=torch.float64)      # b 7
    u, track = _tracks(words, prosody[:, 4], throat, frames + 1)
    return _voiced(u, track, throat, prosody, g, step, rate).float()


def _check(words: Sequence[str], feelings: list[str], seeds: list[int], seconds: float | int,
           rate: int) -> None:
    """Refuse what cannot be said."""
    if not words or len(feelings) != len(words) or len(seeds) != len(words):
        raise ValueError(f"there are {len(words)} words, {len(feelings)} feelings and {len(seeds)} seeds; "
                         "give at least one word, and as many of the others or one for all")
    for word in words:
        if not 1 <= len(word) <= LETTERS or any(letter not in SOUNDS for letter in word):
            raise ValueError(f"the word {word!r} cannot be said; give 1 to {LETTERS} letters from a to z")
    for feeling in feelings:
        if feeling not in FEELINGS:
            raise ValueError(f"there is no feeling {feeling!r}; use one of {', '.join(FEELINGS)}")
    if min(seeds) < 0:
        raise ValueError(f"a seed is {min(seeds)}; give whole numbers from 0 on")
    if rate % CONTROL or rate < 4000 or not math.isclose(seconds * CONTROL, round(seconds * CONTROL)) \
            or not 0.1 <= seconds <= 10:
        raise ValueError(f"{seconds} seconds at {rate} samples a second are no whole frames; use 0.1 to 10 "
                         f"seconds in steps of {1 / CONTROL} and a rate from 4000 that {CONTROL} divides")


def _drawn(seeds: Sequence[int], samples: int) -> tuple[Throat, Float[Tensor, "b 2 s"]]:
    """Who speaks, and two slow noises (means over four samples), each row from its seed alone."""
    draws = [np.random.default_rng(seed) for seed in seeds]
    who = torch.tensor(np.stack([rng.random(4) for rng in draws]))
    white = torch.tensor(np.stack([rng.standard_normal((2, samples + 3)) for rng in draws]))
    slow = white.unfold(2, 4, 1).mean(dim=3)
    pitch = 100 * 1.8 ** who[:, 0]                                             # from 100 to 180 Hz
    tract = 0.9 + 0.25 * (0.7 * who[:, 0] + 0.3 * who[:, 1])                   # high voices, short throats
    return Throat(pitch, tract, who[:, 2], 2 * math.pi * who[:, 3]), slow


def _tracks(
    words: Sequence[str], tempo: Float[Tensor, " b"], throat: Throat, frames: int
) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b f 6"]]:
    """For each frame the share of the word that is said, and formants (3), voice, noise and its centre."""
    sounds = [[sound for letter in word for sound in SOUNDS[letter]] for word in words]
    most = max(map(len, sounds))
    table = torch.zeros(len(words), most + 2, 6, dtype=torch.float64)          # silence, sounds, silence
    lengths = torch.zeros(len(words), most, dtype=torch.float64)
    for row, own in enumerate(sounds):
        values = torch.tensor([(*s.formants, s.voice, s.noise, s.centre) for s in own], dtype=torch.float64)
        table[row, 1:len(own) + 1] = values
        table[row, 0, :3], table[row, len(own) + 1:, :3] = values[0, :3], values[-1, :3]
        table[row, 0, 5], table[row, len(own) + 1:, 5] = values[0, 5], values[-1, 5]
        lengths[row, :len(own)] = torch.tensor([s.length for s in own])
    table[:, :, :3] *= throat.tract[:, None, None]
    whole = (frames - 1) / CONTROL
    said = (UNIT * lengths.sum(dim=1) / tempo).clamp(max=0.9 * whole)          # seconds
    begin = 0.04 * whole + throat.onset * (0.92 * whole - said)
    u = (torch.arange(frames) / CONTROL - begin[:, None]) / said[:, None]      # 0 to 1 within the word
    ends = lengths.cumsum(dim=1) / lengths.sum(dim=1, keepdim=True)
    # from its first instant on a word has as many sounds behind it as have ended
    place = torch.where(u < 0, 0, 1 + (u[..., None] >= ends[:, None]).sum(dim=-1))
    place = place.clamp(max=most + 1)
    track = table.gather(1, place[..., None].expand(-1, -1, 6))
    return u.clamp(0, 1), _smoothed(track)


def _smoothed(track: Float[Tensor, "b f c"]) -> Float[Tensor, "b f c"]:
    """Means over three frames: a mouth does not jump."""
    padded = torch.cat([track[:, :1], track, track[:, -1:]], dim=1)
    return (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3


def _between(values: Float[Tensor, "b f"], step: int) -> Float[Tensor, "b g n"]:
    """From frames to samples, along straight lines: b f -> b (f - 1) n."""
    ramp = torch.arange(step, dtype=values.dtype) / step
    return values[:, :-1, None] + (values[:, 1:] - values[:, :-1])[..., None] * ramp


def _voiced(
    u: Float[Tensor, "b f"], track: Float[Tensor, "b f 6"], throat: Throat, prosody: Float[Tensor, "b 7"],
    g: Float[Tensor, "b 2 s"], step: int, rate: int
) -> Float[Tensor, "b s"]:
    """The waveform of what the mouth does at each frame."""
    pitch, rise, swing, loudness, _, tilt, breath = prosody[..., None].unbind(dim=1)     # b 1 each
    f0 = pitch_contour(u, throat.pitch[:, None] * pitch, rise, swing, throat.phase[:, None])
    phi = 2 * math.pi * _between(f0, step).flatten(1).cumsum(dim=1).unflatten(1, (-1, step)) / rate
    top = 0.48 * rate
    count = int(top / float(f0.min()))
    a = [_between(harmonics(f0, track[..., :3], tilt, k, top), step) for k in range(1, count + 1)]
    voice = _between(track[..., 3], step).flatten(1)
    tone = sum_of_sines(a, phi).flatten(1) * voice
    centre = _between(track[..., 5].clamp(max=0.45 * rate), step).flatten(1)
    noise = band_noise(g, 2 * math.pi * centre.cumsum(dim=1) / rate)
    # noise is given as a share of a vowel's peak, of which a voice of many harmonics has about 6
    x = tone + 6 * noise * (_between(track[..., 4], step).flatten(1) + breath * voice)
    return (levelled(x, loudness) + HISS * g[:, 0]).clamp(-1, 1)


class SpokenWords:
    """``size`` spoken words: item -> (waveform (s), number of the word, number of the feeling).

    Words and ``feelings`` (names of ``FEELINGS``) are drawn evenly; item i follows from (``seed``, i) alone.
    Raises ``ValueError`` for a size below 1 and what ``speak`` refuses.
    """

    def __init__(self, size: int, seed: int = 0, words: Sequence[str] = WORDS,
                 feelings: Sequence[str] = ("neutral",), seconds: float | int = SECONDS,
                 rate: int = RATE) -> None:
        if size < 1 or seed < 0:
            raise ValueError(f"size is {size} and seed {seed}; use a size from 1 and a seed from 0 on")
        if not words or not feelings:
            raise ValueError(f"there are {len(words)} words and {len(feelings)} feelings; give one at least "
                             f"of each")
        _check(words, [feelings[0]] * len(words), [0] * len(words), seconds, rate)
        _check([words[0]] * len(feelings), list(feelings), [0] * len(feelings), seconds, rate)
        self.size, self.seed, self.seconds, self.rate = size, seed, seconds, rate
        self.words, self.feelings = tuple(words), tuple(feelings)

    def __len__(self) -> int:
        return self.size

    def labels(self, index: int) -> tuple[int, int, int]:
        """Number of the word, number of the feeling, and seed of the throat of an item."""
        if not 0 <= index < self.size:
            raise IndexError(f"item {index} of {self.size}; use 0 to {self.size - 1}")
        rng = np.random.default_rng((self.seed, index))
        word, feeling = int(rng.integers(len(self.words))), int(rng.integers(len(self.feelings)))
        return word, feeling, int(rng.integers(2**31))

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Int[Tensor, ""], Int[Tensor, ""]]]:
        found = [self.labels(index) for index in indices]
        waves = speak([self.words[word] for word, _, _ in found], [self.feelings[f] for _, f, _ in found],
                      [seed for _, _, seed in found], self.seconds, self.rate)
        return [(wave, torch.tensor(word), torch.tensor(feeling))
                for wave, (word, feeling, _) in zip(waves, found)]

    def __getitem__(self, index: int) -> tuple[Tensor, Int[Tensor, ""], Int[Tensor, ""]]:
        return self.__getitems__([index])[0]
