"""The scene graph: what a picture of the scene world shows, before anything is drawn or said.

Everything else is a pure function of it: pixels and masks (``render``), captions, questions and referring
expressions (``language``), COCO files (``export``). Positions are multiples of 1/256, so that a graph is the
same on every platform.
"""

from dataclasses import dataclass

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "grey", "black")
SIZES = ("small", "medium", "large")
TEXTURES = ("plain", "striped", "spotted", "checked")
SETTINGS = ("meadow", "beach", "street", "night", "snow", "room")
KINDS = ("iconic object", "iconic scene", "non-iconic")
PREDICATES = ("left of", "right of", "above", "below", "in front of", "behind", "on")


@dataclass(frozen=True)
class Category:
    """A category: its COCO id, name, plural, supercategory, and the attributes that its objects may take."""

    id: int
    name: str
    plural: str
    supercategory: str
    colours: tuple[str, ...] = COLOURS
    textures: tuple[str, ...] = ("plain",)
    poses: tuple[str, ...] = ("",)          # "sitting", "waving" …; "" where a pose means nothing
    settings: tuple[str, ...] = SETTINGS    # where it may stand
    aspect: float = 1.0                     # width / height of its box
    scale: float = 0.3                      # height of a medium one, as a fraction of the picture
    place: str = "ground"               # "ground", "sky", "water" or "surface" (ground, or on a table or bed)
    facing: bool = False                    # whether left/right orientation can be seen


@dataclass(frozen=True)
class SceneObject:
    """One thing in a scene. ``x, y`` is the centre of its box, in fractions of the picture, origin top
    left."""

    category: str
    colour: str
    size: str
    texture: str
    pose: str
    flip: bool              # True: faces left
    x: float
    y: float
    width: float            # of the box before occlusion, fraction of the picture
    height: float
    variant: int            # seed of the variation within the class (proportions, details)


@dataclass(frozen=True)
class Relation:
    """``objects[subject] predicate objects[object]``, for instance *cat, left of, tree*."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True)
class Scene:
    """A scene: a pure function of ``(seed, index, split)``. ``objects`` go from back to front (painter's
    order)."""

    seed: int
    index: int
    split: str
    kind: str
    setting: str
    objects: tuple[SceneObject, ...]
    relations: tuple[Relation, ...]
