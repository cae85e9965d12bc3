r"""What the nouns of the word world look like: pictures with variation, and how alike two looks are.

Paper: C. Silberer and M. Lapata (2014), *Learning grounded meaning representations with autoencoders*, ACL,
for visual similarity as a rating of its own.  Survey: 3.3, 3.4.
Differs from rated pairs: the similarity is computed from what the pictures are drawn from.

A picture shows one thing in one of the settings of its drawing. What belongs to the word: the drawing, the
colours, the texture, the size. What varies: setting, pose, side, proportions, shade, place, and, for a word
that stands for all its kinds ("bird"), the colour and the texture.
"""

import zlib
from dataclasses import replace
from functools import cache

import numpy as np
from jaxtyping import Float64, UInt8
from torch import Tensor

from mmlearn.data.pairs import SIZE, draw_scenes
from mmlearn.data.scenes.categories import CATEGORY
from mmlearn.data.scenes.graph import COLOURS, TEXTURES, Scene
from mmlearn.data.scenes.pen import PALETTE
from mmlearn.data.scenes.render import render
from mmlearn.data.scenes.sample import Draws, portrait
from mmlearn.data.word_world.grammar import SPLITS
from mmlearn.data.word_world.lexicon import GENERA, KINDS_OF_WORDS, NOUNS, Kind

SCALE = {"small": 62, "medium": 82, "large": 100}          # percent of the size that fills the picture
SHAPE, COLOUR, TEXTURE = 0.4, 0.4, 0.2                     # weights of the parts of visual similarity


def kind_of(word: str) -> Kind:
    """What a noun looks like. Raises ``ValueError`` for a word without pictures."""
    if word not in KINDS_OF_WORDS:
        what = "a word for things of several looks" if word in GENERA else "no noun with pictures"
        raise ValueError(f"{word!r} is {what}; take one of NOUNS, for instance 'raven'")
    return KINDS_OF_WORDS[word]


def word_scene(word: str, index: int, split: str = "train") -> Scene:
    """The scene of picture number ``index`` of a word: a pure function of its arguments.

    Raises ``ValueError`` for a word without pictures, an unknown split, a negative index, and for a word of
    ``ZERO_SHOT`` outside split "test".
    """
    kind = kind_of(word)
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(SPLITS)}")
    if not kind.pictured and split != "test":
        raise ValueError(f"{word!r} is never pictured before the test (ZERO_SHOT); take split 'test', or a "
                         f"word of PICTURED")
    if index < 0:
        raise ValueError(f"index {index} is negative; pictures are numbered from 0")
    drawing = CATEGORY[kind.drawing]
    draws = Draws(zlib.crc32(word.encode()), index, SPLITS.index(split), 3)
    texture, percent = kind.texture, SCALE[kind.size]
    if word in CATEGORY:                                    # stands for all that the drawing can be
        texture = draws.choice(drawing.textures)
        percent = SCALE[draws.choice(("small", "medium", "large"))]
    scene = portrait(kind.drawing, colour=draws.choice(kind.colours), texture=texture,
                     pose=draws.choice(drawing.poses), setting=draws.choice(drawing.settings),
                     flip=drawing.facing and draws.chance(50), variant=draws.below(1 << 16))
    thing = scene.objects[0]
    percent = percent * draws.between(94, 106) // 100
    width, height = (max(8, round(256 * side) * percent // 200 * 2) for side in (thing.width, thing.height))
    across = draws.between(-12, 12)                         # its foot stays where it was
    bottom = round(256 * (thing.y + thing.height / 2)) if drawing.place != "sky" else (
        round(256 * thing.y) + height // 2)
    left = min(max(4, round(256 * thing.x) - width // 2 + across), 252 - width)
    thing = replace(thing, size=kind.size, x=(left + width // 2) / 256, y=(bottom - height // 2) / 256,
                    width=width / 256, height=height / 256)
    return replace(scene, seed=draws.below(1 << 16), index=index, split=f"{split} words", objects=(thing,))


def word_pictures(word: str, count: int, split: str = "train", *, size: int = SIZE,
                  start: int = 0) -> UInt8[Tensor, "n 3 s s"]:
    """``count`` pictures of what a noun names, from number ``start`` on; splits share none.

    Raises ``ValueError`` as ``word_scene`` does, and for less than one picture.
    """
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 picture")
    scenes = [word_scene(word, i, split) for i in range(start, start + count)]
    return draw_scenes(scenes, size, processes=1)


# ---- how alike two looks are -------------------------------------------------------------------------------

@cache
def _silhouette(drawing: str) -> Float64[np.ndarray, "s s"]:
    """Where a thing is in its pictures: the mean of its masks over poses and proportions."""
    masks = [render(portrait(drawing, pose=pose, variant=variant), 48).masks[0]
             for pose in CATEGORY[drawing].poses for variant in (0, 7)]
    centred = []
    for mask in masks:                                     # the middle of the thing in the middle
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        shift = 24 - (rows[0] + rows[-1] + 1) // 2, 24 - (columns[0] + columns[-1] + 1) // 2
        centred.append(np.roll(mask, shift, (0, 1)))
    return np.mean(centred, 0)


@cache
def _shape(first: str, second: str) -> float:
    a, b = _silhouette(first), _silhouette(second)
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def shape_similarity(first: str, second: str) -> float:
    """Shared part of the silhouettes of two nouns: intersection over union, 1 for the same drawing."""
    return _shape(*sorted((kind_of(first).drawing, kind_of(second).drawing)))


@cache
def _colour_kernel() -> Float64[np.ndarray, "c c"]:
    """How alike two colours of the palette are: a Gaussian of their distance in linear red, green, blue with
    lightness counted once more."""
    rgb = np.array([PALETTE[c] for c in COLOURS], float) / 255
    points = np.concatenate([rgb, rgb.mean(1, keepdims=True)], 1)
    square = ((points[:, None] - points[None]) ** 2).sum(-1)
    return np.exp(-square / (2 * 0.25 ** 2))


def _colours(kind: Kind) -> Float64[np.ndarray, " c"]:
    return np.array([c in kind.colours for c in COLOURS], float) / len(kind.colours)


def colour_similarity(first: str, second: str) -> float:
    """How alike the colours of two nouns are, 1 for the same: the mean over their colours, normalised as a
    cosine is."""
    p, q, kernel = _colours(kind_of(first)), _colours(kind_of(second)), _colour_kernel()
    return float(p @ kernel @ q / np.sqrt((p @ kernel @ p) * (q @ kernel @ q)))


def _textures(word: str) -> Float64[np.ndarray, " t"]:
    kind = kind_of(word)
    shown = CATEGORY[kind.drawing].textures if word in CATEGORY else (kind.texture,)
    return np.array([t in shown for t in TEXTURES], float) / len(shown)


def texture_similarity(first: str, second: str) -> float:
    """The cosine of how often each texture is shown."""
    p, q = _textures(first), _textures(second)
    return float(p @ q / np.sqrt((p @ p) * (q @ q)))


def visual_similarity(first: str, second: str) -> float:
    """How alike two nouns look, from 0 to 1: 0.4 shape, 0.4 colour, 0.2 texture."""
    return (SHAPE * shape_similarity(first, second) + COLOUR * colour_similarity(first, second)
            + TEXTURE * texture_similarity(first, second))


def visual_similarities() -> Float64[np.ndarray, "n n"]:
    """``visual_similarity`` of all NOUNS with all."""
    kinds = [kind_of(word) for word in NOUNS]
    shape = np.array([[_shape(*sorted((a.drawing, b.drawing))) for b in kinds] for a in kinds])
    colours, textures = np.stack([_colours(k) for k in kinds]), np.stack([_textures(w) for w in NOUNS])
    alike = []
    for parts, kernel in ((colours, _colour_kernel()), (textures, np.eye(len(TEXTURES)))):
        product = parts @ kernel @ parts.T
        alike.append(product / np.sqrt(np.outer(product.diagonal(), product.diagonal())))
    return SHAPE * shape + COLOUR * alike[0] + TEXTURE * alike[1]
