r"""A feeling in a picture, a sentence and a voice, of which none tells it alone.

Papers: D. Kiela et al. (2020), *The Hateful Memes Challenge: Detecting Hate Speech in Multimodal Memes*,
NeurIPS, arXiv:2005.04790, sec. 3 (examples made so that one modality alone does not suffice); S. Uppal et al.
(2022), *Multimodal Research in Vision and Language: A Review of Current and Emerging Trends*, Information
Fusion 77 (affective computing as a task).  Survey: 5.
Differs from both: all examples are drawn, written and spoken here, by a table. Nothing in it is a claim about
people: a wink, raised arms, a word or a tone show a feeling here because the table says so, and what a face
looks like says little about what somebody feels.

The table: a sentence praises or complains, and a wink in the picture says that the opposite is meant; a voice
is lively or calm, and raised arms in the picture say that it is put on. A feeling is whether good is meant
and whether it is lively: joyful, tender, angry or sad. So a picture, a sentence or a voice alone is right in
a quarter of all cases, which is chance; picture and sentence, or picture and voice, in half; sentence and
voice in a quarter; all three always. Everything else (mouth, colours, topic, adjective, word that is said,
who says it, which of two lively or calm tones) is drawn from the seed alone, whatever the cues are.

Letters of shapes: n examples, s pixels a side, w samples of a wave.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mmlearn.data.scenes.graph import SceneObject
from mmlearn.data.scenes.language import Dice
from mmlearn.data.scenes.pen import INK, PALETTE, Pen, darker, lighter, rgb
from mmlearn.data.scenes.sheet import Part, Sheet

FEELINGS = ("sad", "tender", "angry", "joyful")         # 2 for a lively one, plus 1 for a good one
MODALITIES = ("picture", "text", "voice")
SPLITS = ("train", "val", "test")
TONES = {True: ("joyful", "angry"), False: ("tender", "sad")}   # lively, calm: each has a good and a bad one
GOOD = ("lovely", "wonderful", "great", "fine", "splendid", "brilliant")
BAD = ("awful", "terrible", "dreadful", "poor", "nasty", "dull")
TOPICS = ("day", "cake", "trip", "song", "game", "film", "walk", "party")
TEMPLATES = ("what a {} {}", "that was a {} {}", "i had a {} {}", "such a {} {}", "oh a {} {}")
WORDS = ("one", "two", "six", "red", "blue")            # what the voice says: nothing about the feeling
MOUTHS = ("smile", "frown", "line")
_SKIN = ((252, 214, 178), (238, 186, 142), (206, 148, 104), (156, 104, 72), (112, 74, 54))
_HAIR = ((62, 44, 40), (120, 76, 46), (214, 160, 80), (176, 88, 50), (206, 206, 212))

Speak = Callable[[Sequence[str], Sequence[str], Sequence[int]], Tensor]     # words, tones, seeds -> (n, w)


class Cues(NamedTuple):
    """What an example shows of the feeling: two cues in the picture, one in the text, one in the voice."""

    wink: bool              # picture: the opposite of the words is meant
    arms: bool              # picture, raised: the voice is put on
    praise: bool            # text
    lively: bool            # voice

    def of(self, modalities: Iterable[str]) -> tuple[bool, ...]:
        """The cues that some of ``MODALITIES`` carry."""
        shown = {"picture": (self.wink, self.arms), "text": (self.praise,), "voice": (self.lively,)}
        return tuple(cue for name in modalities for cue in shown[name])


class Said(NamedTuple):
    """What the voice of an example does: the word, the tone by name, and the speaker's seed."""

    word: str
    tone: str
    seed: int


TABLE = tuple(Cues(*values) for values in product((False, True), repeat=4))    # all alike likely


def feeling_of(cues: Cues) -> int:
    r"""eq:affect-label: $y=2\,(\mathrm{lively}\oplus\mathrm{arms})+(\mathrm{praise}\oplus\mathrm{wink})$, the
    number of a feeling; $\oplus$ is 1 where its two sides differ."""
    return 2 * (cues.lively != cues.arms) + (cues.praise != cues.wink)


def bayes_accuracy(
    modalities: Sequence[str], table: Sequence[Cues] = TABLE
) -> float:
    r"""eq:affect-bayes: $\sum_x\max_yP(x,y)$: how often the best answer to what ``modalities`` show is right,
    which nobody who sees no more can surpass. ``table``: all examples, each as likely as the others."""
    unknown = set(modalities) - set(MODALITIES)
    if unknown:
        raise ValueError(f"modality {sorted(unknown)[0]!r} is unknown; take "
                         f"some of {MODALITIES}")
    pairs = Counter((cues.of(modalities), feeling_of(cues)) for cues in table)
    best: dict[tuple[bool, ...], int] = {}
    for (shown, _), times in pairs.items():
        best[shown] = max(best.get(shown, 0), times)
    return sum(best.values()) / len(table)


# ------------------------------------------------------------------------------------------ what carries them

def draw_person(cues: Cues, seed: int, size: int = 64) -> UInt8[np.ndarray, "s s 3"]:
    """A person with a wink and raised arms as the cues say; mouth and colours follow from ``seed`` alone."""
    dice = Dice("affect picture", seed)
    shirt, ground = dice.pick(tuple(PALETTE)), rgb(dice.pick(tuple(PALETTE)))
    skin, hair, mouth = rgb(dice.pick(_SKIN)), rgb(dice.pick(_HAIR)), dice.pick(MOUTHS)
    canvas = np.empty((3, size, size), np.float32)
    canvas[:] = np.array(lighter(ground, 0.55), np.float32)[:, None, None]
    sheet = Sheet(canvas, np.zeros((1, size, size), bool))
    part = Part((0, 0, size, size), None)
    sheet.begin(part)
    thing = SceneObject("person", shirt, "large", "plain", "", False, 0.5, 0.5, 1.0, 1.0, seed % (1 << 20))
    pen = Pen(thing, sheet, part, size)
    _person(pen, cues, skin, hair, mouth)
    pen.finish()
    sheet.flush()
    return np.ascontiguousarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _person(p: Pen, cues: Cues, skin: tuple, hair: tuple, mouth: str) -> None:
    sleeve = darker(p.colour, 0.12)
    for side in (-1, 1):
        if cues.arms:
            p.fill(p.path([(side * 0.45, 0.72), (side * 0.76, 0.45), (side * 0.78, -0.25)], 0.11), sleeve)
            p.fill(p.circle(side * 0.78, -0.38, 0.13), skin)
        else:
            p.fill(p.path([(side * 0.45, 0.72), (side * 0.62, 1.05)], 0.12), sleeve)
    p.fill(p.ellipse(0, 1.0, 0.58, 0.46))
    p.fill(p.box(0, 0.48, 0.12, 0.16, 0.03), skin)
    p.fill(p.circle(0, -0.12, 0.60), hair)
    p.fill(p.ellipse(0, 0.0, 0.50, 0.52), skin)
    p.fill(p.circle(-0.20, -0.10, 0.075), INK, outline=None)
    if cues.wink:
        p.mark(p.arc(0.20, -0.14, 0.10, 0.25, 2.89, 0.035), INK)
    else:
        p.fill(p.circle(0.20, -0.10, 0.075), INK, outline=None)
    if mouth == "smile":
        p.mark(p.arc(0, 0.12, 0.20, 0.35, 2.79, 0.035), (150, 50, 56))
    elif mouth == "frown":
        p.mark(p.arc(0, 0.42, 0.20, 3.49, 5.93, 0.035), (150, 50, 56))
    else:
        p.mark(p.capsule(-0.16, 0.27, 0.16, 0.27, 0.035), (150, 50, 56))


def sentence_of(cues: Cues, seed: int) -> str:
    """A sentence that praises or complains; its topic and its form follow from ``seed`` alone."""
    dice = Dice("affect text", seed)
    template, topic, number = dice.pick(TEMPLATES), dice.pick(TOPICS), int(dice.random() * len(GOOD))
    return template.format((GOOD if cues.praise else BAD)[number], topic)


def voice_of(cues: Cues, seed: int) -> Said:
    """What is said and how; the word, the speaker and which of the two tones follow from ``seed`` alone."""
    dice = Dice("affect voice", seed)
    word, tone = dice.pick(WORDS), int(dice.random() * 2)
    return Said(word, TONES[cues.lively][tone], int(dice.random() * (1 << 20)))


# ------------------------------------------------------------------------------------------------------- data

@dataclass(frozen=True)
class AffectData:
    """Examples: ``pictures`` (n, 3, s, s) bytes, ``texts``, ``said`` (what each voice does), ``feelings`` (n)
    as numbers of ``FEELINGS``, ``cues``, and ``waves`` (n, w) if there is a synthesiser."""

    pictures: UInt8[Tensor, "n 3 s s"]
    texts: tuple[str, ...]
    said: tuple[Said, ...]
    feelings: Int[Tensor, " n"]
    cues: tuple[Cues, ...]
    waves: Float[Tensor, "n w"] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, indices: Sequence[int]) -> "AffectData":
        """The examples of these numbers, in this order."""
        i = list(indices)
        return AffectData(self.pictures[i], tuple(self.texts[j] for j in i), tuple(self.said[j] for j in i),
                          self.feelings[i], tuple(self.cues[j] for j in i),
                          None if self.waves is None else self.waves[i])


def make_affect(count: int, split: str = "train", *, size: int = 64, speak: Speak | None = None,
                seed: int = 0) -> AffectData:
    """``count`` examples of a split, a function of the arguments; each sixteen in a row hold all cues once.

    ``speak`` turns words, tones and seeds into waves; without it only what the voice would do is told.
    Raises ``ValueError`` for an unknown split or no example.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {SPLITS}")
    if count < 1:
        raise ValueError(f"count is {count}; make at least 1 example")
    cues: list[Cues] = []
    while len(cues) < count:
        cues += Dice("affect cues", seed, split, len(cues)).shuffled(TABLE)
    cues = cues[:count]
    seeds = [int(Dice("affect", seed, split, i).random() * (1 << 30)) for i in range(count)]
    images = np.stack([draw_person(*pair, size) for pair in zip(cues, seeds)])
    said = tuple(voice_of(*pair) for pair in zip(cues, seeds))
    waves = None if speak is None else speak([s.word for s in said], [s.tone for s in said],
                                             [s.seed for s in said])
    return AffectData(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
                      tuple(sentence_of(*pair) for pair in zip(cues, seeds)), said,
                      torch.tensor([feeling_of(c) for c in cues]), tuple(cues), waves)
