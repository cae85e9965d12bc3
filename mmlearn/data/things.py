"""Pictures of one thing or of two in one place, and sentences that say what and where: what the models that
draw learn from.

Survey: 2.1, 2.3.  A thing has a category, a colour and a setting; a plain sentence names all three ("A red
car in the snow."), of two things also which stands left of the other; the scene world's own captions say some
of it.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.data.pairs import (
    SIZE,
    ClassPictures,
    PairData,
    class_names,
    class_pictures,
    coloured,
    draw_scenes,
)
from mmlearn.data.pairs import short_captions as captions_of
from mmlearn.data.scenes.graph import COLOURS, SETTINGS, Scene, SceneObject
from mmlearn.data.scenes.language import PLACE_PHRASES, article, sentence
from mmlearn.data.scenes.sample import side_by_side
from mmlearn.nn.modes import remembered

ATTRIBUTES: dict[str, tuple[str, ...]] = {"category": class_names(), "colour": COLOURS, "setting": SETTINGS}


def sides(scene: Scene) -> tuple[SceneObject, SceneObject]:
    """The left and the right one of two things. Raises ``ValueError`` for a scene of more or fewer."""
    if len(scene.objects) != 2:
        raise ValueError(f"scene {scene.index} shows {len(scene.objects)} things; take one of two, as "
                         f"side_by_side makes them")
    first, second = scene.objects
    return (first, second) if first.x < second.x else (second, first)


def plain_sentences(scene: Scene) -> tuple[str, ...]:
    """The thing with its colour in its setting, once for each phrase that says where; of two things, for each
    phrase once from the left and once from the right."""
    named = [coloured(thing.colour, thing.category)
             for thing in (sides(scene) if len(scene.objects) == 2 else scene.objects[:1])]
    whats = [f"{article(what)} {what}" for what in named]
    if len(whats) == 2:
        whats = [f"{whats[0]} left of {whats[1]}", f"{whats[1]} right of {whats[0]}"]
    return tuple(sentence(f"{what} {where}") for where in PLACE_PHRASES[scene.setting] for what in whats)


def captioned(pictures: ClassPictures, longest: int = 16, plain: bool = False) -> PairData:
    """Pictures of one thing with the scene world's captions of at most ``longest`` words, and before them,
    if asked for, the ``plain`` sentences."""
    return PairData(pictures.images, texts_of(pictures.scenes, longest, plain), pictures.scenes)


def texts_of(scenes: Sequence[Scene], longest: int = 16, plain: bool = True) -> tuple[tuple[str, ...], ...]:
    """The sentences of each scene: first the ``plain`` ones, then captions of at most ``longest`` words."""
    return tuple((plain_sentences(s) if plain else ()) + captions_of(s, longest) for s in scenes)


@remembered
def thing_pairs(count: int, split: str = "train", *, size: int = SIZE, seed: int = 0) -> PairData:
    """The first ``count`` pictures of a split that show one thing of a category drawn in training, with plain
    sentences and captions.

    In split "compositional" colour and category were never drawn together in training. Remembered as long as
    the process lives. Raises ``ValueError`` for an unknown split and less than one picture.
    """
    return captioned(class_pictures(count, split, size=size, seed=seed, unseen=False), plain=True)


@remembered
def two_things(count: int, split: str = "train", *, size: int = SIZE, seed: int = 0) -> PairData:
    """``count`` pictures of two things side by side, with plain sentences and captions.

    In split "compositional" colour and category of one of the two were never drawn together in training.
    Remembered as long as the process lives. Raises ``ValueError`` for an unknown split and less than one
    picture.
    """
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 picture")
    scenes = tuple(side_by_side(seed, i, split) for i in range(count))
    return PairData(draw_scenes(scenes, size), texts_of(scenes), scenes)


def attributes_of(scenes: Sequence[Scene]) -> dict[str, Int[Tensor, " n"]]:
    """Category, colour and setting of the thing that each scene shows, as numbers in ``ATTRIBUTES``; -1 for
    a category that is not drawn in training."""
    things = [scene.objects[0] for scene in scenes]
    said = {"category": [thing.category for thing in things], "colour": [thing.colour for thing in things],
            "setting": [scene.setting for scene in scenes]}
    return {name: torch.tensor([ATTRIBUTES[name].index(v) if v in ATTRIBUTES[name] else -1 for v in values])
            for name, values in said.items()}


def halves(images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "_ 3 s s"]:
    """The left half of every picture, then every right half, (2n, 3, s, s), stretched to squares."""
    size = images.shape[-1]
    both = torch.cat([images[..., :size // 2], images[..., size // 2:]])
    return F.interpolate(both, size=(size, size), mode="bilinear", align_corners=False)


def side_scenes(scenes: Sequence[Scene]) -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    """Of scenes of two things those of the left ones alone, and of the right ones."""
    left, right = (tuple(replace(scene, objects=(sides(scene)[side],), relations=()) for scene in scenes)
                   for side in (0, 1))
    return left, right


def side_pictures(data: PairData, longest: int = 16) -> PairData:
    """``halves`` of pictures of two things, each as a picture of the one thing that it shows."""
    left, right = side_scenes(data.scenes)
    scenes = left + right
    images = halves(data.images[:].float()).round().byte()
    return PairData(images, texts_of(scenes, longest), scenes)


def kinds_of(scenes: Sequence[Scene]) -> Int[Tensor, " n"]:
    """One number for each combination of category, colour and setting: scenes with the same number fit each
    other's plain sentences."""
    number = torch.zeros(len(scenes), dtype=torch.long)
    for name, values in attributes_of(scenes).items():
        number = number * (len(ATTRIBUTES[name]) + 1) + values + 1
    return number
