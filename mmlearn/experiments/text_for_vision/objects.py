"""Worlds of single objects, and the small dual encoder trained on them: what several studies of chapter 4
share.

Survey: 4.2.1, 4.3, 4.4.  Pictures show one drawn thing at 32 pixels; the model is
``text_for_vision.small_encoder``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlearn.data.pairs import (
    ClassPictures,
    PairBatch,
    PairBatches,
    PairData,
    class_names,
    draw_scenes,
    pixels,
    scene_tokeniser,
)
from mmlearn.data.scenes import CATEGORY, STYLES, portrait
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.sample import Draws
from mmlearn.data.things import captioned
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.nn.modes import eval_mode, remembered, seeded
from mmlearn.text_for_vision.small_encoder import LabelClassifier, StudyConfig, StudyEncoder
from mmlearn.text_for_vision.training import TEMPLATES, adamw_cosine, train_clip
from mmlearn.train import History, fit

SIZE = 32                                           # pixels a side


# ----------------------------------------------------------------------------------------------------- worlds

def object_scene(seed: int, index: int, places: str = "usual", names: Sequence[str] = ()) -> Scene:
    """A picture of one thing, a function of its arguments: category uniform over ``names`` (default: the 30
    known).

    ``places`` "usual" puts it where its category is listed first, "any" in any of its settings, "elsewhere"
    in any but the first (categories with one setting only are left out). Raises ``ValueError`` for other
    ``places``.
    """
    if places not in ("usual", "any", "elsewhere"):
        raise ValueError(f"places is {places!r}; use 'usual', 'any' or 'elsewhere'")
    draws = Draws(seed, index, 4_302)
    known = [CATEGORY[name] for name in names or class_names()]
    if places == "elsewhere":
        known = [c for c in known if len(c.settings) > 1]
    category = draws.choice(known)
    settings = {"usual": category.settings[:1], "any": category.settings,
                "elsewhere": category.settings[1:]}[places]
    return portrait(category.name, colour=draws.choice(category.colours),
                    texture=draws.choice(category.textures), pose=draws.choice(category.poses),
                    setting=draws.choice(settings), flip=category.facing and draws.chance(50),
                    variant=draws.below(1 << 16))


@remembered
def objects(count: int, seed: int = 0, *, places: str = "usual", styles: tuple[str, ...] = ("normal",),
            names: tuple[str, ...] = (), size: int = SIZE) -> ClassPictures:
    """``count`` pictures of single things; picture i is drawn in style ``styles[i % len(styles)]``.

    Remembered as long as the process lives. Raises ``ValueError`` for an unknown style and less than one
    picture.
    """
    unknown = [style for style in styles if style not in STYLES]
    if unknown or not styles or count < 1:
        raise ValueError(f"{count} pictures in styles {styles}: ask for at least 1 picture, in styles of "
                         f"{', '.join(STYLES)}")
    classes = names or class_names()
    scenes = tuple(object_scene(seed, i, places, names) for i in range(count))
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for style in sorted(set(styles)):
        rows = [i for i in range(count) if styles[i % len(styles)] == style]
        if rows:
            images[rows] = draw_scenes([scenes[i] for i in rows], size, style)
    number = {name: i for i, name in enumerate(classes)}
    return ClassPictures(images, torch.tensor([number[s.objects[0].category] for s in scenes]), classes,
                         scenes)


def first(pictures: ClassPictures, count: int) -> ClassPictures:
    """The first ``count`` pictures."""
    return replace(pictures, images=pictures.images[:count], labels=pictures.labels[:count],
                   scenes=pictures.scenes[:count])


def shuffled_captions(data: PairData, share: float | int, seed: int = 0) -> PairData:
    """The captions of a ``share`` of the images exchanged in a circle among them: each gets another image's.

    Raises ``ValueError`` unless the share is in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it is a fraction of the images, between 0 and 1")
    order = np.random.default_rng(seed).permutation(len(data))[: round(share * len(data))]
    captions = list(data.captions)
    for image, source in zip(order, np.roll(order, 1)):
        captions[image] = data.captions[source]
    return replace(data, captions=tuple(captions))


# --------------------------------------------------------------------------------------------------- training

def train_encoder(data: PairData, tokeniser: WordTokeniser, *, steps: int, seed: int = 0,
                  lr: float | int = 2e-3, channels: tuple[int, ...] = StudyConfig.channels,
                  **options: Any) -> tuple[StudyEncoder, History]:
    """A fresh dual encoder trained on pairs; further options are those of ``train_clip`` and ``fit``."""
    with seeded(seed):
        model = StudyEncoder(StudyConfig(len(tokeniser), channels))
    options.setdefault("progress", False)
    return model, train_clip(model, data, tokeniser, steps=steps, seed=seed, lr=lr, **options)


def train_labels(pictures: ClassPictures, *, steps: int, batch: int = 128, seed: int = 0,
                 lr: float | int = 2e-3, channels: tuple[int, ...] = StudyConfig.channels,
                 **options: Any) -> tuple[LabelClassifier, History]:
    """A fresh classifier trained on labels, with the batches, optimiser and schedule of ``train_encoder``."""
    data = captioned(pictures)
    tokeniser = scene_tokeniser(data.first(1))
    with seeded(seed):
        model = LabelClassifier(StudyConfig(len(tokeniser), channels), len(pictures.classes))

    def objective(trained: nn.Module, batch: PairBatch) -> Tensor:
        return F.cross_entropy(trained(batch.images), pictures.labels[batch.which].to(batch.images.device))

    options.setdefault("progress", False)
    return model, fit(model, objective, PairBatches(data, tokeniser, batch, seed=seed), steps=steps,
                      seed=seed,
                      **adamw_cosine(model, lr, steps), **options)


@torch.no_grad()
def in_parts(function: Callable[[Tensor], Tensor], pictures: ClassPictures, batch: int = 250) -> Tensor:
    """``function`` of standardised pixels, batch by batch, on the CPU."""
    return torch.cat([function(pixels(pictures.images[i:i + batch])) for i in range(0, len(pictures), batch)])


def label_accuracy(model: LabelClassifier, pictures: ClassPictures) -> float:
    """Fraction of pictures whose label gets the largest logit, in evaluation mode."""
    with eval_mode(model):
        return float((in_parts(model, pictures).argmax(dim=1) == pictures.labels).float().mean())


def prompt_tokeniser(*data: PairData, templates: Sequence[str] = TEMPLATES) -> WordTokeniser:
    """The words of all captions, and of the sentences that will ask for classes."""
    texts = [text for part in data for captions in part.captions for text in captions]
    return WordTokeniser.train([*texts, *(t.replace("{}", " ") for t in templates)], 1)
