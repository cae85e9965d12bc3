"""Referring expressions of the scene world as a task: words, the boxes of all things, and which one is meant.

Papers: S. Kazemzadeh et al. (2014), *ReferItGame*, EMNLP; L. Yu et al. (2016), *Modeling Context in Referring
Expressions*, arXiv:1608.00272 (RefCOCO, and RefCOCO+ without words of location); J. Lu et al. (2019),
*ViLBERT*, arXiv:1908.02265 (a region is right where its IoU with the true box is above 0.5).
Survey: 5.2.
Differs from the papers: the boxes are the true ones of all things, so that only the choice is judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmlearn.data.pairs import SIZE, draw_scenes
from mmlearn.data.scenes.graph import Scene
from mmlearn.data.scenes.language import Dice, count_groups
from mmlearn.data.scenes.referring import referring
from mmlearn.data.scenes.sample import SPLITS, sample_scene
from mmlearn.metrics.detection import iou

WHERE = ("relation", "order")           # properties that say where a thing is


@dataclass(frozen=True)
class Expression:
    """Words for one thing of a scene: ``objects[target]`` of scene number ``scene``."""

    scene: int
    text: str
    target: int


@dataclass(frozen=True)
class ExpressionSet:
    """Scenes and expressions for their things."""

    scenes: tuple[Scene, ...]
    expressions: tuple[Expression, ...]

    def __len__(self) -> int:
        return len(self.expressions)

    def images(self, size: int = SIZE) -> UInt8[Tensor, "n 3 s s"]:
        """The pictures of all scenes."""
        return draw_scenes(self.scenes, size)

    def boxes(self, scene: int) -> Float[Tensor, "p 4"]:
        """Left, top, right and bottom of all things of a scene, as fractions of the picture, cut at its
        edge."""
        return object_boxes(self.scenes[scene])

    def accuracy(self, chosen: Sequence[int]) -> float:
        """The share of expressions for which the chosen thing's box has an IoU above 0.5 with the true one.

        ``chosen`` is the number of a thing for each expression. Raises ``ValueError`` for more or fewer.
        """
        if len(chosen) != len(self):
            raise ValueError(f"{len(chosen)} choices for {len(self)} expressions; give one for each")
        hits = 0
        for one, choice in zip(self.expressions, chosen):
            boxes = self.boxes(one.scene)
            if not 0 <= choice < len(boxes):
                raise ValueError(f"thing {choice} is chosen for {one.text!r}, and the scene has "
                                 f"{len(boxes)}, numbered from 0")
            hits += box_hit(boxes[choice], boxes[one.target])
        return hits / len(self)


def object_boxes(scene: Scene) -> Float[Tensor, "p 4"]:
    """Left, top, right and bottom of all things of a scene, as fractions of the picture, cut at its edge."""
    rows = [[o.x - o.width / 2, o.y - o.height / 2, o.x + o.width / 2, o.y + o.height / 2]
            for o in scene.objects]
    return torch.tensor(rows).reshape(-1, 4).clamp(0, 1)


def box_hit(box: Float[Tensor, "4"], truth: Float[Tensor, "4"]) -> bool:
    r"""eq:ref-hit: $[\mathrm{IoU}(A,B)>\tfrac12]$ of a box $A$ that was chosen and the true one $B$, given by
    left, top, right and bottom."""
    sides = [torch.cat([one[:2], one[2:] - one[:2]])[None].numpy() for one in (box, truth)]
    return bool(iou(sides[0], sides[1])[0, 0] > 0.5)


def expressions(count: int, split: str = "train", *, seed: int = 0, location: bool = False) -> ExpressionSet:
    """``count`` expressions, each for a thing that has a rival of its own category; a function of the
    arguments.

    As in RefCOCO+ no expression says where a thing is, unless ``location``. Raises ``ValueError`` for an
    unknown split and for less than one expression.
    """
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 expression")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; take one of {', '.join(SPLITS)}")
    scenes: list[Scene] = []
    found: list[Expression] = []
    index = 0
    while len(found) < count:
        scene = sample_scene(seed, index, split)
        groups = count_groups(scene)
        own = [Expression(len(scenes), one.text, one.object) for one in referring(scene)
               if len(groups[scene.objects[one.object].category]) > 1
               and (location or not any(name in one.description for name in WHERE))]
        if own:
            scenes.append(scene)
            found += own
        index += 1
    return ExpressionSet(tuple(scenes), tuple(found[:count]))


def blind_choices(data: ExpressionSet, seed: int = 0) -> dict[str, list[int]]:
    """What three baselines choose that do not compare words with pixels.

    "any thing" chooses at random, "largest thing" reads nothing, "category" reads the noun and chooses among
    the things of that category at random: the accuracy that is left when attributes are not understood.
    """
    chosen: dict[str, list[int]] = {"any thing": [], "largest thing": [], "category": []}
    for number, one in enumerate(data.expressions):
        dice, scene = Dice("choices", seed, number), data.scenes[one.scene]
        areas = [o.width * o.height for o in scene.objects]
        name = scene.objects[one.target].category
        chosen["any thing"].append(dice.pick(range(len(areas))))
        chosen["largest thing"].append(areas.index(max(areas)))
        chosen["category"].append(dice.pick([i for i, o in enumerate(scene.objects) if o.category == name]))
    return chosen
