"""The categories of the scene world: what each may look like, where it may stand, and how to add one.

Survey: 1.1 (COCO's categories and super-categories).  The 34 categories and their ids are our own.

How to add a category. One line in ``CATEGORIES`` and one drawing function in a ``draw_*.py`` module, found by
its name (``draw_cat`` draws the cat). In a notebook, without editing the package, the same two pieces are
handed over::

    snowman = Category(100, "snowman", "snowmen", "toy", colours=("white",), settings=("snow",), aspect=0.6)

    def draw_snowman(pen):                     # y from -1 (top) to 1; ``pen.Pen`` tells the shapes there are
        pen.fill(pen.circle(0.0, 0.45, 0.55))  # in the object's colour, with an outline
        pen.fill(pen.circle(0.0, -0.50, 0.40))
        pen.eye(0.12, -0.56, 0.06)

    with add_category(snowman, draw_snowman):
        render(portrait("snowman", colour="white"), 256).image
        render(sample_scene(0, 0, categories=(*CATEGORIES, snowman))).image

``add_category`` without ``with`` keeps it until the end of the process. ``CATEGORIES`` itself never changes,
so the scenes of everyone else stay what they are.
"""

import re
from collections.abc import Callable
from typing import Any

from mmlearn.data.scenes.graph import COLOURS, SETTINGS, TEXTURES, Category

_BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_PAINT = (*_BRIGHT, "white", "grey", "black")
_OUTDOORS = ("meadow", "beach", "street", "night", "snow")
_DAY = ("meadow", "beach", "street", "snow")
_LAND = ("meadow", "street", "night", "snow")
_PICNIC = ("room", "meadow", "beach")

_ = Category
CATEGORIES: tuple[Category, ...] = (
    _(1, "person", "people", "person", (*_BRIGHT, "white", "black"), TEXTURES,
      ("standing", "waving", "running"),
      SETTINGS, 0.42, 0.42, facing=True),
    _(2, "cat", "cats", "animal", ("orange", "brown", "white", "grey", "black"),
      ("plain", "striped", "spotted"),
      ("standing", "sitting", "sleeping"), SETTINGS, 1.3, 0.27, facing=True),
    _(3, "dog", "dogs", "animal", ("brown", "orange", "white", "grey", "black"), ("plain", "spotted"),
      ("standing", "sitting", "running"), SETTINGS, 1.25, 0.28, facing=True),
    _(4, "bird", "birds", "animal", (*_BRIGHT, "white", "brown", "black"), ("plain", "striped", "spotted"),
      ("perching", "flying"), _OUTDOORS, 1.15, 0.19, facing=True),
    _(5, "fish", "fish", "animal", _BRIGHT, ("plain", "striped", "spotted"), ("swimming", "jumping"),
      ("beach", "night"), 1.7, 0.15, "water", True),
    _(6, "rabbit", "rabbits", "animal", ("white", "grey", "brown", "black"), ("plain", "spotted"),
      ("sitting", "hopping"), _LAND, 0.8, 0.25, facing=True),
    _(7, "tree", "trees", "plant", ("green", "yellow", "orange", "red", "pink"), ("plain", "spotted"), ("",),
      _OUTDOORS, 0.72, 0.50),
    _(8, "flower", "flowers", "plant", (*_BRIGHT, "white"), ("plain",), ("",),
      ("meadow", "street", "night", "beach"),
      0.6, 0.26),
    _(9, "cactus", "cacti", "plant", ("green", "blue", "purple", "orange"), ("plain", "striped", "spotted"),
      ("",),
      ("meadow", "beach", "street", "room"), 0.72, 0.30, "surface"),
    _(10, "mushroom", "mushrooms", "plant", ("red", "brown", "orange", "purple", "blue", "white"),
      ("plain", "spotted"), ("",), ("meadow", "night", "snow"), 1.0, 0.20),
    _(11, "car", "cars", "vehicle", _PAINT, ("plain", "striped", "checked"), ("",), _OUTDOORS, 2.0, 0.21,
      facing=True),
    _(12, "bus", "buses", "vehicle", _PAINT, ("plain", "striped"), ("",), _LAND, 1.9, 0.30, facing=True),
    _(13, "boat", "boats", "vehicle", _PAINT, ("plain", "striped", "checked"), ("",), ("beach", "night"),
      0.95, 0.32, "water", True),
    _(14, "bicycle", "bicycles", "vehicle", _PAINT, ("plain",), ("",), _OUTDOORS, 1.5, 0.26, facing=True),
    _(15, "plane", "planes", "vehicle", _PAINT, ("plain", "striped"), ("",), _OUTDOORS, 1.95, 0.19, "sky",
      True),
    _(16, "house", "houses", "building", (*_BRIGHT, "brown", "white", "grey"),
      ("plain", "striped", "checked"), ("",),
      _OUTDOORS, 1.0, 0.46),
    _(17, "tower", "towers", "building", ("grey", "white", "red", "brown", "yellow", "blue"),
      ("plain", "striped", "checked"), ("",), _OUTDOORS, 0.45, 0.56),
    _(18, "tent", "tents", "building", (*_BRIGHT, "white"), TEXTURES, ("",),
      ("meadow", "beach", "night", "snow"),
      1.4, 0.29),
    _(19, "apple", "apples", "food", ("red", "green", "yellow"), ("plain",), ("",), _PICNIC, 0.92, 0.16,
      "surface"),
    _(20, "banana", "bananas", "food", ("yellow", "green", "brown"), ("plain", "spotted"), ("",), _PICNIC,
      1.5, 0.14, "surface", True),
    _(21, "cake", "cakes", "food", ("pink", "white", "brown", "yellow", "purple", "green"),
      ("plain", "striped", "spotted"), ("",), _PICNIC, 1.1, 0.21, "surface"),
    _(22, "sun", "suns", "sky", ("yellow", "orange", "red"), ("plain",), ("",), _DAY, 1.0, 0.25, "sky"),
    _(23, "moon", "moons", "sky", ("white", "yellow", "orange"), ("plain", "spotted"), ("",),
      ("night", "snow"),
      0.86, 0.22, "sky", True),
    _(24, "cloud", "clouds", "sky", ("white", "grey", "pink"), ("plain",), ("",), _OUTDOORS, 1.75, 0.16,
      "sky"),
    _(25, "chair", "chairs", "furniture", (*_PAINT, "brown"), ("plain", "striped", "checked"), ("",),
      ("room", "beach", "meadow"), 0.62, 0.34, facing=True),
    _(26, "table", "tables", "furniture", ("brown", "white", "red", "blue", "green", "black"),
      ("plain", "checked"),
      ("",), ("room", "meadow", "beach"), 1.55, 0.28),
    _(27, "lamp", "lamps", "furniture", (*_BRIGHT, "white"), TEXTURES, ("",), ("room",), 0.62, 0.30,
      "surface"),
    _(28, "bed", "beds", "furniture", (*_BRIGHT, "white", "grey"), TEXTURES, ("",), ("room",), 1.75, 0.32,
      facing=True),
    _(29, "ball", "balls", "toy", _PAINT, TEXTURES, ("",), ("meadow", "beach", "street", "snow", "room"), 1.0,
      0.16,
      "surface"),
    _(30, "kite", "kites", "toy", _BRIGHT, TEXTURES, ("",), ("meadow", "beach", "snow"), 0.6, 0.32, "sky",
      True),
    _(31, "balloon", "balloons", "toy", (*_BRIGHT, "white"), TEXTURES, ("",), SETTINGS, 0.5, 0.31, "sky"),
    _(32, "cup", "cups", "household", (*_BRIGHT, "white", "black"), TEXTURES, ("",), _PICNIC, 1.15, 0.16,
      "surface",
      True),
    _(33, "umbrella", "umbrellas", "household", (*_BRIGHT, "white", "black"), TEXTURES, ("open", "closed"),
      ("beach", "street", "meadow", "room", "snow"), 1.1, 0.32),
    _(34, "clock", "clocks", "household", (*_BRIGHT, "white", "grey"), ("plain",), ("",), ("room",), 0.85,
      0.21,
      "surface"),
)
CATEGORY: dict[str, Category] = {category.name: category for category in CATEGORIES}

# A pose may change the box: (category, pose) -> (aspect, factor on the height of a medium one).
POSE_SHAPE: dict[tuple[str, str], tuple[float, float]] = {
    ("person", "waving"): (0.52, 1.08), ("person", "running"): (0.68, 0.97),
    ("cat", "sitting"): (0.80, 1.15), ("cat", "sleeping"): (1.75, 0.68),
    ("dog", "sitting"): (0.78, 1.15), ("dog", "running"): (1.65, 0.92),
    ("bird", "flying"): (1.35, 1.05), ("fish", "jumping"): (1.05, 1.45), ("rabbit", "hopping"): (1.25, 0.95),
    ("umbrella", "closed"): (0.30, 1.00),
}
# Where things can be put: category -> height of the standing line below the top of its box, as a fraction of
# the box.
SURFACES: dict[str, float] = {"table": 0.14, "bed": 0.52}

# Never in train, val or test; at least one in every picture of the split "compositional".
HELD_OUT_PAIRS: tuple[tuple[str, str], ...] = (
    ("orange", "cat"), ("white", "dog"), ("yellow", "bird"), ("blue", "fish"), ("red", "car"),
    ("green", "boat"),
    ("blue", "house"), ("pink", "flower"), ("green", "apple"), ("black", "chair"), ("yellow", "ball"),
    ("purple", "umbrella"),
)
# Never in train, val, test or compositional pictures; at least one in every picture of the split "zero_shot".
HELD_OUT_CATEGORIES: tuple[str, ...] = ("rabbit", "bus", "cake", "kite")

# Drawing functions handed over by ``add_category``; those of the package are found by name.
DRAWINGS: dict[str, Callable[[Any], None]] = {}


class Added:
    """What ``add_category`` returns: the category; as a context manager it takes the category out again."""

    def __init__(self, category: Category):
        self.category = category

    def __enter__(self) -> Category:
        return self.category

    def __exit__(self, *exception: object) -> None:
        remove_category(self.category.name)


def add_category(category: Category, draw: Callable[[Any], None]) -> Added:
    """Make ``category`` known to ``CATEGORY`` and to ``render``, which will call ``draw(pen)`` for it.

    For good, or for the length of a ``with`` block. Defining it again (rerunning a notebook cell) replaces
    it.
    Raises ``ValueError`` if the name or id belongs to a category of the package, or an attribute is unknown.
    """
    taken = [other for other in CATEGORIES if other.name == category.name or other.id == category.id]
    taken += [o for o in CATEGORY.values() if o.id == category.id and o.name != category.name]
    if taken:
        free = max(other.id for other in CATEGORY.values()) + 1
        raise ValueError(f"category {category.name!r} with id {category.id} collides with {taken[0].name!r} "
                         f"(id {taken[0].id}); take another name and id, for instance {free}")
    if not re.fullmatch(r"[a-z]+( [a-z]+)*", category.name):
        raise ValueError(f"category name {category.name!r} is not made of lower-case words; captions need "
                         f"such a name")
    for field, known in (("colours", COLOURS), ("textures", TEXTURES), ("settings", SETTINGS)):
        values = getattr(category, field)
        unknown = [value for value in values if value not in known]
        if unknown or not values:
            raise ValueError(f"{field} {values!r} of category {category.name!r}: take one or more of {known}")
    if category.place not in ("ground", "sky", "water", "surface"):
        raise ValueError(f"place {category.place!r} of category {category.name!r}: take ground, sky, water "
                         f"or surface")
    if not (0.1 <= category.aspect <= 4 and 0.05 <= category.scale <= 0.7):
        raise ValueError(f"category {category.name!r} has aspect {category.aspect} and scale "
                         f"{category.scale}; "
                         "take an aspect between 0.1 and 4 and a scale between 0.05 and 0.7")
    CATEGORY[category.name] = category
    DRAWINGS[category.name] = draw
    return Added(category)


def remove_category(name: str) -> None:
    """Forget a category that ``add_category`` added; ``ValueError`` for one of the package's own."""
    if name not in DRAWINGS:
        raise ValueError(f"category {name!r} was not added by add_category; added are {sorted(DRAWINGS)}")
    del DRAWINGS[name], CATEGORY[name]


def box_shape(category: Category, pose: str) -> tuple[float, float]:
    """Aspect (width / height) and medium height (fraction of the picture) of a category in a pose."""
    aspect, factor = POSE_SHAPE.get((category.name, pose), (category.aspect, 1.0))
    return aspect, category.scale * factor
