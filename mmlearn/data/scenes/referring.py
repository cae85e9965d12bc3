"""Referring expressions: words that pick out exactly one thing of a scene.

Paper: R. Dale and E. Reiter (1995), *Computational interpretations of the Gricean maxims in the generation of
referring expressions*, Cognitive Science 19 (the incremental algorithm); S. Kazemzadeh et al. (2014),
*ReferItGame*, EMNLP.  Survey: 5.1 (what a model of both modalities can be asked).
Differs from the papers: where attributes do not suffice, a relation to a thing that is the one of its kind is
tried, then the order from left to right.
"""

from dataclasses import dataclass, field
from typing import Any

from mmlearn.data.scenes.graph import Scene, SceneObject
from mmlearn.data.scenes.language import RELATION_WORDS, article, count_groups, facing

PREFERRED = ("colour", "size", "texture", "pose", "facing")     # the order in which attributes are tried
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


@dataclass(frozen=True)
class Referring:
    """Words for one thing, its box ``(left, top, width, height)`` in fractions of the picture, and why it is
    the one.

    ``description`` holds the properties used: attributes by name, ``relation`` as ``(predicate, category)``,
    or ``order``, the place from left to right among the things of its category (0 is leftmost).
    """

    text: str
    object: int                                                 # index into ``scene.objects``
    box: tuple[float, float, float, float]
    description: dict[str, Any] = field(default_factory=dict)


def value_of(thing: SceneObject, name: str) -> str:
    """The value of an attribute, as it is said; empty where it would not be said."""
    value = facing(thing) if name == "facing" else getattr(thing, name)
    return "" if value in ("medium", "plain") else value


def _words(category: str, description: dict[str, Any]) -> str:
    """Attributes and category as a noun phrase; the colour and pattern of a person are those of the
    clothes."""
    said = {name: str(description[name]) for name in PREFERRED if name in description}
    worn = " ".join(said[name] for name in ("colour", "texture") if category == "person" and name in said)
    before = ["the", *(said[name] for name in ("size", "colour", "texture", "pose") if name in said),
              category]
    if worn:
        before = [word for word in before if word not in worn.split()]
        before += ["in", f"{article(worn)} {worn} shirt"]
    return " ".join([*before, *([said["facing"]] if "facing" in said else [])])


def refer(scene: Scene, index: int) -> Referring | None:
    """An expression for ``scene.objects[index]``, or None where two things cannot be told apart in words."""
    target = scene.objects[index]
    box = (target.x - target.width / 2, target.y - target.height / 2, target.width, target.height)
    rivals = {i for i, o in enumerate(scene.objects) if o.category == target.category and i != index}
    description: dict[str, Any] = {}
    for name in PREFERRED:
        value = value_of(target, name)
        ruled_out = {i for i in rivals if value_of(scene.objects[i], name) != value}
        if value and ruled_out:                                 # keep an attribute only if it helps
            description[name] = value
            rivals -= ruled_out
    text = _words(target.category, description)
    if not rivals:
        return Referring(text, index, box, description)
    single = {name for name, things in count_groups(scene).items() if len(things) == 1}
    for r in scene.relations:
        other = scene.objects[r.object].category
        if r.subject == index and other in single and not any(
                s.subject in rivals and s.predicate == r.predicate and s.object == r.object
                for s in scene.relations):
            return Referring(f"{text} {RELATION_WORDS[r.predicate][0]} the {other}", index, box,
                             {**description, "relation": (r.predicate, other)})
    row = sorted(o.x for o in scene.objects if o.category == target.category)
    if row.count(target.x) > 1:
        return None
    place = row.index(target.x)
    if place == 0:
        words = f"the leftmost {target.category}"
    elif place == len(row) - 1:
        words = f"the rightmost {target.category}"
    elif place < len(_ORDINALS):
        words = f"the {_ORDINALS[place]} {target.category} from the left"
    else:
        return None
    return Referring(words, index, box, {"order": place})


def referring(scene: Scene) -> tuple[Referring, ...]:
    """One expression for each thing that words can single out (nearly all); a function of the scene alone."""
    expressions = (refer(scene, index) for index in range(len(scene.objects)))
    return tuple(expression for expression in expressions if expression is not None)
