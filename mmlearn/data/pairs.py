"""Pictures with captions, pictures of one thing with its class, and batches of pairs, from the scene world.

Survey: 1.2, 4.2.  A pair is an image and one of its captions, drawn anew every time the image is seen.
Everything here is a function of its arguments, so that a training that is stopped and resumed sees what it
would have seen.
"""

import multiprocessing
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count as numbers_from
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mmlearn.data.batches import Batches
from mmlearn.data.coco import CaptionRecord
from mmlearn.data.images import PictureFiles, load_square, standardise
from mmlearn.data.scenes import (
    CATEGORIES,
    CATEGORY,
    HELD_OUT_CATEGORIES,
    SPLITS,
    STYLES,
    render,
    sample_scene,
)
from mmlearn.data.scenes import captions as scene_captions
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.language import HYPERNYMS
from mmlearn.data.tokenisers import Tokeniser, WordTokeniser
from mmlearn.nn.modes import remembered

SIZE = 64                                                   # pixels a side of a scene, unless said otherwise


def short_captions(scene: Scene, longest: int) -> tuple[str, ...]:
    """The scene's captions of at most ``longest`` words, at least the shortest one."""
    texts = scene_captions(scene)
    return tuple(t for t in texts if len(t.split()) <= longest) or (min(texts, key=len),)


@dataclass(frozen=True)
class PairData:
    """Images (in memory or in files) and the captions of each; ``scenes`` are the graphs of drawn ones, else
    empty.

    ``dataclasses.replace(data, captions=…)`` is the same images with other texts.
    """

    images: UInt8[Tensor, "n 3 s s"] | PictureFiles
    captions: tuple[tuple[str, ...], ...]
    scenes: tuple[Scene, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.captions) == len(self.scenes or self.captions):
            raise ValueError(f"{len(self.images)} images, {len(self.captions)} lists of captions and "
                             f"{len(self.scenes)} "
                             "scenes; give one of each an image")
        empty = next((i for i, texts in enumerate(self.captions) if not texts), None)
        if empty is not None:
            raise ValueError(f"image {empty} has no caption; a pair needs one, leave the image out")

    def __len__(self) -> int:
        return len(self.captions)

    def first(self, count: int) -> "PairData":
        """The first ``count`` images."""
        return self.rows(range(min(count, len(self))))

    def rows(self, indices: Sequence[int]) -> "PairData":
        """The images of these numbers, in this order."""
        chosen = list(indices)
        return PairData(self.images[chosen], tuple(self.captions[i] for i in chosen),
                        tuple(self.scenes[i] for i in chosen) if self.scenes else ())


def joined(parts: Sequence[PairData]) -> PairData:
    """Several sets of pairs as one; pictures in files are read."""
    if len(parts) == 1:
        return parts[0]
    return PairData(torch.cat([part.images[:] for part in parts]),
                    tuple(texts for part in parts for texts in part.captions),
                    tuple(scene for part in parts for scene in part.scenes))


@dataclass(frozen=True)
class ClassPictures:
    """Pictures of one thing each, with the number of its class; ``classes`` are noun phrases without
    article."""

    images: UInt8[Tensor, "n 3 s s"]
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]
    scenes: tuple[Scene, ...]

    def __len__(self) -> int:
        return len(self.labels)


def _draw(task: tuple[Sequence[Scene], int, str]) -> np.ndarray:
    scenes, size, style = task
    return np.stack([render(scene, size, style).image for scene in scenes])


def draw_scenes(scenes: Sequence[Scene], size: int = SIZE, style: str = "normal",
                processes: int = 2) -> UInt8[Tensor, "n 3 s s"]:
    """Pictures of scenes, drawn by ``processes`` processes where the system can fork, else by this one."""
    if not scenes:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    tasks = [(scenes[i:i + 20], size, style) for i in range(0, len(scenes), 20)]
    forks = sys.platform.startswith("linux")    # macOS has fork, too, and libraries that do not survive it
    if processes > 1 and len(tasks) > 2 and forks and not multiprocessing.current_process().daemon:
        with warnings.catch_warnings():         # Python warns of forking beside threads; only NumPy runs here
            warnings.simplefilter("ignore", DeprecationWarning)
            with multiprocessing.get_context("fork").Pool(processes) as pool:
                parts = pool.map(_draw, tasks, chunksize=1)
    else:
        parts = [_draw(task) for task in tasks]
    return torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()


@remembered
def scene_pairs(count: int, split: str = "train", *, size: int = SIZE, seed: int = 0, style: str = "normal",
                longest: int = 16) -> PairData:
    """Scenes ``0 … count-1`` of a split with their captions of at most ``longest`` words (at least the
    shortest).

    A function of its arguments, remembered as long as the process lives. Raises ``ValueError`` for an unknown
    split or style and for less than one scene.
    """
    _check(count, split, style)
    scenes = tuple(sample_scene(seed, i, split) for i in range(count))
    return PairData(draw_scenes(scenes, size, style), tuple(short_captions(s, longest) for s in scenes),
                    scenes)


def file_pairs(records: Sequence[CaptionRecord], size: int = SIZE) -> PairData:
    """Pictures in files with their captions: the square in the middle of each, at ``size`` pixels."""
    return PairData(PictureFiles([r.path for r in records], size, load_square),
                    tuple(r.captions for r in records))


def _check(count: int, split: str, style: str) -> None:
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 picture")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(SPLITS)}")
    if style not in STYLES:
        raise ValueError(f"style {style!r} is unknown; take one of {', '.join(STYLES)}")


By = Literal["category", "pair", "kind"]


def class_names(by: By = "category", unseen: bool = False) -> tuple[str, ...]:
    """The classes: categories ("cat"), pairs of colour and category ("red car"), or kinds ("animal").

    Those of the 30 categories that are drawn in training, with ``unseen`` of all 34.
    """
    known = [c for c in CATEGORIES if unseen or c.name not in HELD_OUT_CATEGORIES]
    if by == "category":
        return tuple(c.name for c in known)
    if by == "pair":
        return tuple(coloured(shade, c.name) for c in known for shade in c.colours)
    return tuple(pair[0] for kind, pair in HYPERNYMS.items() if any(c.supercategory == kind for c in known))


def coloured(colour: str, category: str) -> str:
    """A coloured thing as captions say it: ``red car``, but ``person in red``."""
    return f"person in {colour}" if category == "person" else f"{colour} {category}"


def class_of(scene: Scene, by: By = "category") -> str:
    """The class of the one thing that a scene shows ("" for a kind without a word, such as food)."""
    thing = scene.objects[0]
    if by == "category":
        return thing.category
    if by == "pair":
        return coloured(thing.colour, thing.category)
    return HYPERNYMS.get(CATEGORY[thing.category].supercategory, ("", ""))[0]


@remembered
def class_pictures(count: int, split: str = "test", *, by: By = "category", style: str = "normal",
                   size: int = SIZE, seed: int = 0, unseen: bool | None = None) -> ClassPictures:
    """The first ``count`` pictures of a split that show one thing, with its class.

    ``by`` "category" (30 classes), "pair" (colour and category; in split "compositional" all are pairs never
    drawn in training), "kind" (animal, plant, vehicle …; things whose kind has no word are left out).
    ``unseen`` adds the categories never drawn in training to the classes, as split "zero_shot" does by
    itself.
    """
    _check(count, split, style)
    classes = class_names(by, split == "zero_shot" if unseen is None else unseen)
    number = {name: i for i, name in enumerate(classes)}
    found: list[Scene] = []
    for index in numbers_from():
        scene = sample_scene(seed, index, split)
        if scene.kind == "iconic object" and class_of(scene, by) in number:
            found.append(scene)
            if len(found) == count:
                break
    labels = torch.tensor([number[class_of(scene, by)] for scene in found])
    return ClassPictures(draw_scenes(found, size, style), labels, classes, tuple(found))


def scene_tokeniser(data: PairData, min_count: int = 1) -> WordTokeniser:
    """A tokeniser of the words of the captions; ids 0-3 are <unk> <pad> <bos> <eos>, and <eos> is where CLIP
    reads."""
    return WordTokeniser.train((text for texts in data.captions for text in texts), min_count)


def pixels(images: UInt8[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
    """Pictures of 0..255 as the image towers want them: standardised with CLIP's mean and deviation."""
    return standardise(images.float() / 255)


def signed_pixels(images: UInt8[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
    """Pictures of 0..255 as models that draw make them: in [-1, 1]."""
    return images.float() / 127.5 - 1


class PairBatch(NamedTuple):
    """Pairs: row i of ``tokens`` is a caption of image i; ``which`` is the number of each image in the data
    set."""

    images: Float[Tensor, "b 3 s s"]
    tokens: Int[Tensor, "b t"]
    which: Int[Tensor, " b"]


class PairBatches(Batches):
    """Endless shuffled batches of ``batch`` images with one of their captions each, a function of their
    number.

    Captions longer than ``max_len`` tokens are cut. ``scale`` makes numbers of pixels, by default those that
    CLIP's towers want.
    """

    def __init__(self, data: PairData, tokeniser: Tokeniser, batch: int = 128, *, seed: int = 0,
                 max_len: int | None = None, scale: Callable[[Tensor], Tensor] = pixels) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}; a batch has at least 1 pair (and 2 to contrast)")
        super().__init__(data, min(batch, len(data)), seed=seed)
        self.pad, self.scale = tokeniser.pad, scale
        self.tokens = tokeniser.batch([text for texts in data.captions for text in texts], max_len)
        self.counts = torch.tensor([len(texts) for texts in data.captions])
        self.start = self.counts.cumsum(0) - self.counts

    def make(self, indices: list[int], number: int) -> PairBatch:
        which = torch.tensor(indices)
        draw = torch.rand(len(which), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + number))
        tokens = self.tokens[self.start[which] + (draw * self.counts[which]).long()]
        tokens = tokens[:, : int((tokens != self.pad).sum(1).max())]
        return PairBatch(self.scale(self.data.images[which]), tokens, which)
