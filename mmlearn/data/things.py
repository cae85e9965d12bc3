"""Pictures of one thing in one place, and sentences that say what and where: what the models that draw learn
from.

Survey: 2.1.  A thing has a category, a colour and a setting; a plain sentence names all three ("A red car in
the snow."), the scene world's own captions some of them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mmlearn.data.pairs import SIZE, ClassPictures, PairData, class_names, class_pictures, coloured
from mmlearn.data.pairs import short_captions as captions_of
from mmlearn.data.scenes.graph import COLOURS, SETTINGS, Scene
from mmlearn.data.scenes.language import PLACE_PHRASES, article, sentence
from mmlearn.nn.modes import remembered

ATTRIBUTES: dict[str, tuple[str, ...]] = {"category": class_names(), "colour": COLOURS, "setting": SETTINGS}


def plain_sentences(scene: Scene) -> tuple[str, ...]:
    """The thing with its colour in its setting, once for each phrase that says where."""
    thing = scene.objects[0]
    what = coloured(thing.colour, thing.category)
    return tuple(sentence(f"{article(what)} {what} {where}") for where in PLACE_PHRASES[scene.setting])


def captioned(pictures: ClassPictures, longest: int = 16, plain: bool = False) -> PairData:
    """Pictures of one thing with the scene world's captions of at most ``longest`` words, and before them,
    if asked for, the ``plain`` sentences."""
    texts = tuple((plain_sentences(s) if plain else ()) + captions_of(s, longest) for s in pictures.scenes)
    return PairData(pictures.images, texts, pictures.scenes)


@remembered
def thing_pairs(count: int, split: str = "train", *, size: int = SIZE, seed: int = 0) -> PairData:
    """The first ``count`` pictures of a split that show one thing of a category drawn in training, with plain
    sentences and captions.

    In split "compositional" colour and category were never drawn together in training. Remembered as long as
    the process lives. Raises ``ValueError`` for an unknown split and less than one picture.
    """
    return captioned(class_pictures(count, split, size=size, seed=seed, unseen=False), plain=True)


def attributes_of(scenes: Sequence[Scene]) -> dict[str, Int[Tensor, " n"]]:
    """Category, colour and setting of the thing that each scene shows, as numbers in ``ATTRIBUTES``; -1 for
    a category that is not drawn in training."""
    things = [scene.objects[0] for scene in scenes]
    said = {"category": [thing.category for thing in things], "colour": [thing.colour for thing in things],
            "setting": [scene.setting for scene in scenes]}
    return {name: torch.tensor([ATTRIBUTES[name].index(v) if v in ATTRIBUTES[name] else -1 for v in values])
            for name, values in said.items()}


def kinds_of(scenes: Sequence[Scene]) -> Int[Tensor, " n"]:
    """One number for each combination of category, colour and setting: scenes with the same number fit each
    other's plain sentences."""
    number = torch.zeros(len(scenes), dtype=torch.long)
    for name, values in attributes_of(scenes).items():
        number = number * (len(ATTRIBUTES[name]) + 1) + values + 1
    return number
