"""Spoken captions: a simple formant synthesiser, letters to sounds to waveform, in NumPy.

Paper: D. H. Klatt (1980), *Software for a cascade/parallel formant synthesizer*, J. Acoust. Soc. Am. 67;
formant frequencies after G. E. Peterson and H. L. Barney (1952), J. Acoust. Soc. Am. 24.  Survey: 5.1 (speech
as a modality).
Differs from the paper: the voice is a sum of harmonics weighted by three resonances, noise is shaped in the
frequency domain, and English spelling is turned into sounds by some eighty rules and a few exceptions. It
sounds like a robot; it is no recording and no neural synthesiser. What matters here: it is speech-like, the
same words give the same sounds, different words different ones, and no two speakers sound the same.
"""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from mmlearn.data.scenes.language import Dice

HOP = 0.005                                  # seconds between two sets of synthesis parameters


@dataclass(frozen=True)
class Sound:
    """Targets of one sound: formants and noise in Hz, loudness of voice and noise relative to a vowel."""

    formants: tuple[int, int, int]
    seconds: float = 0.09
    voice: float = 1.0
    noise: float = 0.0
    centre: int = 2000                      # of the noise band
    width: int = 1000


def _vowel(f1: int, f2: int, f3: int, seconds: float = 0.11) -> Sound:
    return Sound((f1, f2, f3), seconds)


def _hiss(centre: int, width: int, noise: float, voice: float = 0.0) -> Sound:
    return Sound((350, 1600, 2600), 0.10, voice, noise, centre, width)


def _burst(f2: int, centre: int, voice: float) -> Sound:
    return Sound((250, f2, 2500), 0.03, voice, 0.5, centre, 1200)


SOUNDS: dict[str, Sound] = {
    "iy": _vowel(270, 2290, 3010), "ih": _vowel(390, 1990, 2550, 0.08), "eh": _vowel(530, 1840, 2480, 0.09),
    "ae": _vowel(660, 1720, 2410), "ah": _vowel(640, 1190, 2390, 0.07), "aa": _vowel(730, 1090, 2440),
    "ao": _vowel(570, 840, 2410), "uh": _vowel(440, 1020, 2240, 0.08), "uw": _vowel(300, 870, 2240),
    "er": _vowel(490, 1350, 1690),
    "m": Sound((250, 1000, 2200), 0.07, 0.35), "n": Sound((250, 1700, 2600), 0.06, 0.35),
    "ng": Sound((250, 2200, 2700), 0.07, 0.35), "l": Sound((360, 1300, 2700), 0.06, 0.6),
    "r": Sound((310, 1060, 1380), 0.06, 0.6), "w": Sound((290, 610, 2150), 0.06, 0.6),
    "y": Sound((260, 2070, 3020), 0.05, 0.6),
    "s": _hiss(5800, 1600, 0.55), "sh": _hiss(3000, 1400, 0.55), "f": _hiss(5000, 4000, 0.22),
    "th": _hiss(6200, 3500, 0.20), "h": _hiss(1500, 2500, 0.22), "z": _hiss(5800, 1600, 0.35, 0.35),
    "zh": _hiss(3000, 1400, 0.35, 0.35), "v": _hiss(5000, 4000, 0.12, 0.4),
    "dh": _hiss(6200, 3500, 0.10, 0.4),
    "p": _burst(900, 900, 0.0), "t": _burst(1800, 4500, 0.0), "k": _burst(2000, 2000, 0.0),
    "b": _burst(900, 900, 0.4), "d": _burst(1800, 4500, 0.4), "g": _burst(2000, 2000, 0.4),
    "closure": Sound((250, 1500, 2500), 0.05, 0.0), "murmur": Sound((200, 1200, 2400), 0.05, 0.15),
    "pause": Sound((500, 1500, 2500), 0.06, 0.0), "stop": Sound((500, 1500, 2500), 0.18, 0.0),
}
EXCEPTIONS = {w: s.split() for w, s in {
    "a": "ah", "the": "dh ah", "of": "ah v", "is": "ih z", "are": "aa r", "one": "w ah n", "two": "t uw",
    "four": "f ao r", "eight": "eh iy t", "to": "t uw", "there": "dh eh r", "people": "p iy p ah l",
    "they": "dh eh iy",
    "orange": "ao r ih n d zh", "nothing": "n ah th ih ng", "only": "ao uh n l iy", "picture": "p ih k ch er",
    "with": "w ih th", "this": "dh ih s", "that": "dh ae t", "above": "ah b ah v", "person": "p er s ah n",
    "banana": "b ah n ae n ah", "balloon": "b ah l uw n", "building": "b ih l d ih ng",
    "purple": "p er p ah l",
    "animal": "ae n ih m ah l", "vehicle": "v iy ih k ah l", "furniture": "f er n ih ch er", "can": "k ae n",
    "bicycle": "b aa iy s ih k ah l",
}.items()}
# Spelling -> sounds, tried in this order at each place;
# "$" is the end of the word, "(e)" a silent e after a consonant.
RULES: tuple[tuple[str, str], ...] = tuple((spelling, sounds) for spelling, sounds in (
    ("igh", "aa iy"), ("tch", "ch"), ("sh", "sh"), ("ch", "ch"), ("th", "th"), ("ph", "f"), ("wh", "w"),
    ("ck", "k"),
    ("ng$", "ng"), ("ng", "ng g"), ("qu", "k w"), ("kn", "n"), ("tion", "sh ah n"), ("ture", "ch er"),
    ("oor", "ao r"), ("air", "eh r"), ("ear", "iy r"), ("our", "ao r"), ("ar", "aa r"), ("or", "ao r"),
    ("er", "er"),
    ("ir", "er"), ("ur", "er"), ("ee", "iy"), ("ea", "iy"), ("oo", "uw"), ("ou", "aa uw"), ("ow$", "ao uh"),
    ("ow", "aa uw"), ("oa", "ao uh"), ("ai", "eh iy"), ("ay", "eh iy"), ("au", "ao"), ("aw", "ao"),
    ("oi", "ao iy"),
    ("oy", "ao iy"), ("ie", "iy"), ("ew", "y uw"), ("ue$", "uw"), ("le$", "ah l"), ("ge$", "d zh"),
    ("ce$", "s"),
    ("se$", "s"), ("a(e)", "eh iy"), ("i(e)", "aa iy"), ("o(e)", "ao uh"), ("u(e)", "y uw"), ("e(e)", "iy"),
    ("all", "ao l"), ("e$", ""), ("e$", "iy"), ("a$", "ah"), ("y$", "iy"), ("ce", "s eh"), ("ci", "s ih"),
    ("x", "k s"), ("a", "ae"), ("e", "eh"),
    ("i", "ih"), ("o", "aa"), ("u", "ah"), ("y", "ih"), ("c", "k"), ("q", "k"), ("j", "d zh"),
    *((letter, letter) for letter in "bdfghklmnprstvwz"),
))


# ---- letters to sounds -------------------------------------------------------------------------------------

def sounds_of(word: str) -> list[str]:
    """The sounds of an English word, by exceptions and spelling rules: ``cake`` -> ``k eh iy k``."""
    word = re.sub("[^a-z]", "", word.lower())
    if word in EXCEPTIONS:
        return _spread(EXCEPTIONS[word])
    phonemes: list[str] = []
    i = 0
    while i < len(word):
        for spelling, sounds in RULES:
            letters = spelling.rstrip("$").removesuffix("(e)")
            if not word.startswith(letters, i):
                continue
            rest = word[i + len(letters):]
            if spelling.endswith("$") and rest:
                continue
            if (spelling, sounds) == ("e$", "") and not any(
                SOUNDS[s].voice == 1.0 for s in phonemes if s in SOUNDS
            ):
                continue                                        # "be" is no "b"
            if spelling.endswith("(e)") and not re.fullmatch("[^aeiouy]es?", rest):
                continue
            phonemes += sounds.split()
            # double letter: once
            i += len(letters) + (len(rest) > 0 and letters == rest[0] and letters not in "aeiou")
            break
        else:
            i += 1
    return _spread(phonemes)


def _spread(sounds: list[str]) -> list[str]:
    """``ch`` is ``t sh``, and a stop is a closure and a burst."""
    spread: list[str] = []
    for sound in sounds:
        for part in (("t", "sh") if sound == "ch" else (sound,)):
            spread += ["closure"] * (part in "ptk") + ["murmur"] * (part in "bdg") + [part]
    return spread


# ---- sounds to waveform ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Speaker:
    """A voice: pitch in Hz, length of the vocal tract (formants are divided by it), and speed."""

    pitch: float
    tract: float
    speed: float

    @classmethod
    def number(cls, seed: int) -> "Speaker":
        """The speaker with this number: from a deep slow voice to a high quick one."""
        dice = Dice("speaker", seed)
        pitch = 95 + 125 * dice.random()
        return cls(pitch, 1.12 - 0.0016 * (pitch - 95) + 0.06 * (dice.random() - 0.5),
                   0.9 + 0.25 * dice.random())


def _tracks(sounds: list[str], speaker: Speaker) -> dict[str, np.ndarray]:
    """Synthesis parameters every ``HOP`` seconds: targets of the sounds, glided over 30 ms."""
    rows = []
    for name in sounds:
        sound = SOUNDS[name]
        row = [f / speaker.tract for f in sound.formants] + [sound.voice, sound.noise, sound.centre,
                                                             sound.width]
        rows += [row] * max(2, round(sound.seconds / speaker.speed / HOP))
    table = np.array(rows)
    glide = np.hanning(9)[1:-1] / np.hanning(9).sum()
    padded = np.pad(table, ((3, 3), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(column, glide, mode="valid") for column in padded.T])
    names = ("f1", "f2", "f3", "voice", "noise", "centre", "width")
    return dict(zip(names, smooth))


def _resonance(frequency: np.ndarray, formant: np.ndarray, width: float) -> np.ndarray:
    """Gain of a second-order resonance that is 1 at frequency 0."""
    return formant**2 / np.sqrt((frequency**2 - formant**2) ** 2 + (width * frequency) ** 2)


def _voice(tracks: dict[str, np.ndarray], speaker: Speaker, rate: int) -> np.ndarray:
    """Harmonics of a falling pitch, each as loud as three resonances and the slope of the source make it."""
    frames = len(tracks["f1"])
    when = np.arange(int(frames * HOP * rate)) / rate / HOP              # in frames
    steps = np.arange(frames)
    pitch = speaker.pitch * (1.12 - 0.24 * steps / frames + 0.03 * np.sin(2 * np.pi * steps * HOP * 2.1))
    phase = 2 * np.pi * np.cumsum(np.interp(when, steps, pitch)) / rate
    wave = np.zeros(len(when))
    for k in range(1, int(min(5000.0, rate / 2) / (speaker.pitch * 1.15)) + 1):
        loud = tracks["voice"] / k
        for name, width in (("f1", 80.0), ("f2", 110.0), ("f3", 160.0)):
            loud = loud * _resonance(k * pitch, tracks[name], width)
        wave += np.interp(when, steps, loud) * np.sin(k * phase)
    return wave


def _noise(tracks: dict[str, np.ndarray], rate: int, seed: int) -> np.ndarray:
    """White noise with a moving band, filtered frame by frame and added up with overlapping windows."""
    frames, hop = len(tracks["f1"]), int(HOP * rate)
    size = 4 * hop
    window = np.hanning(size)
    white = np.random.default_rng(seed).standard_normal((frames, size))
    bins = np.fft.rfftfreq(size, 1 / rate)
    shape = np.exp(-0.5 * ((bins - tracks["centre"][:, None]) / tracks["width"][:, None]) ** 2)
    pieces = np.fft.irfft(np.fft.rfft(white) * shape, size) * window * tracks["noise"][:, None]
    wave = np.zeros((frames + 3) * hop)
    for i, piece in enumerate(pieces):
        wave[i * hop:i * hop + size] += piece
    return wave


def speech(text: str, rate: int = 16000, seed: int = 0) -> Float32[np.ndarray, "t"]:
    """The text as spoken by speaker number ``seed``: float32 samples in [-1, 1], ``rate`` of them a second.

    A function of its arguments. Raises ``ValueError`` for a rate below 8000, or a text without a letter.
    """
    if rate < 8000:
        raise ValueError(f"rate is {rate} samples a second; speech needs 8000 or more")
    sounds: list[str] = ["pause"]
    for token in re.findall(r"[a-z]+|[.,;:!?]", text.lower()):
        sounds += [*sounds_of(token), "pause"] if token.isalpha() else ["stop"]
    if not re.search("[a-z]", text.lower()):
        raise ValueError(f"text {text!r} has no letter that could be spoken")
    speaker = Speaker.number(seed)
    tracks = _tracks(sounds, speaker)
    voice, noise = _voice(tracks, speaker, rate), _noise(tracks, rate, seed)
    wave = voice + 1.5 * noise[:len(voice)]
    return (0.9 * wave / np.abs(wave).max()).astype(np.float32)


def spectrogram(wave: Float[np.ndarray, "t"], rate: int = 16000, window: float = 0.025,
                hop: float = 0.010) -> Float[np.ndarray, "frequency frame"]:
    """Loudness in dB (0 is the loudest, at least -80) by frequency (0 to rate / 2) and time."""
    size, step = int(window * rate), int(hop * rate)
    if len(wave) < size:
        raise ValueError(f"the wave has {len(wave)} samples, fewer than one window of {size}")
    frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64),
                                                      size)[::step] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2
    return np.maximum(10 * np.log10(power / power.max() + 1e-12), -80.0).T
