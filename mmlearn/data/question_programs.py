"""Questions about the scene world as programs, and what ten people answer.

Papers: J. Johnson et al. (2017), *CLEVR*, arXiv:1612.06890 (a question is a program run on the graph);
S. Antol et al. (2015), *VQA*, arXiv:1505.00468 (question types, answer types, ten answers).  Survey: 5.
Differs from the papers: the ten people are simulated. They slip, use other words and write carelessly.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mmlearn.data.scenes.categories import CATEGORIES, CATEGORY, HELD_OUT_CATEGORIES
from mmlearn.data.scenes.graph import COLOURS, SETTINGS, TEXTURES, Scene, SceneObject
from mmlearn.data.scenes.language import (
    HYPERNYMS,
    NUMBERS,
    RELATION_WORDS,
    Dice,
    article,
    count_groups,
)

# kind of a program -> question type (its first words) and answer type, as in VQA
KINDS: dict[str, tuple[str, str]] = {
    "exist": ("is there a", "yes/no"), "colour is": ("is the", "yes/no"), "relation": ("is the", "yes/no"),
    "compare": ("are there more", "yes/no"), "count": ("how many", "number"),
    "count kind": ("how many", "number"), "colour": ("what colour is the", "other"),
    "pattern": ("what pattern", "other"), "setting": ("where is this", "other"),
}
MOST = 4                        # the largest number that is asked for
PEOPLE = 10
ANSWERS: tuple[str, ...] = ("yes", "no", *map(str, range(MOST + 1)), *COLOURS, *TEXTURES, *SETTINGS)
PREDICATES = ("left of", "right of", "above", "below", "in front of", "behind")

# How people err: a share of answers is wrong, and then one of those that are near.
SLIPS = {"yes/no": 0.03, "number": 0.1, "other": 0.08}
NEAR: dict[str, tuple[str, ...]] = {
    "red": ("orange", "pink", "brown"), "orange": ("red", "yellow", "brown"), "yellow": ("orange", "white"),
    "green": ("blue",), "blue": ("purple", "green"), "purple": ("blue", "pink"), "pink": ("red", "purple"),
    "brown": ("orange", "black"), "white": ("grey", "yellow"), "grey": ("white", "black"),
    "black": ("grey", "brown"), "plain": ("striped",), "striped": ("checked", "plain"),
    "spotted": ("checked", "plain"), "checked": ("striped", "spotted"), "meadow": ("street",),
    "beach": ("meadow",), "street": ("meadow",), "night": ("meadow", "street"), "snow": ("beach",),
    "room": ("street",), "yes": ("no",), "no": ("yes",),
}
# Other words for the same, which count as other answers; other ways to write a word do not.
OTHER_WORDS = {"grey": "gray", "meadow": "field", "street": "road", "checked": "checkered",
               "night": "at night", "plain": "no pattern", "snow": "winter", "yes": "yes it is",
               "spotted": "dots"}
UNUSUAL, CARELESS = 0.06, 0.25  # shares of the two


class Program(NamedTuple):
    """A question as a program: its kind, one of ``KINDS``, and what it asks about."""

    kind: str
    arguments: tuple[str, ...] = ()

    @property
    def question_type(self) -> str:
        """The first words of the question, by which VQA sorts them."""
        return KINDS[self.kind][0]

    @property
    def answer_type(self) -> str:
        """``yes/no``, ``number`` or ``other``."""
        return KINDS[self.kind][1]

    def text(self) -> str:
        """The question in words."""
        one, *more = (*self.arguments, "")
        person = one == "person"
        match self.kind:
            case "exist":
                return f"Is there {article(one)} {one} in the picture?"
            case "colour is":
                return f"Is the {one} {'in ' if person else ''}{more[0]}?"
            case "relation":
                return f"Is the {one} {RELATION_WORDS[more[0]][0]} the {more[1]}?"
            case "compare":
                return f"Are there more {CATEGORY[one].plural} than {CATEGORY[more[0]].plural}?"
            case "count":
                return f"How many {CATEGORY[one].plural} are there?"
            case "count kind":
                return f"How many {HYPERNYMS[one][1]} are there?"
            case "colour":
                return f"What colour is the {one}{' wearing' if person else ''}?"
            case "pattern":
                return f"What pattern {'is the person wearing' if person else f'does the {one} have'}?"
        return "Where is this?"

    def answer(self, scene: Scene) -> str | None:
        """The right answer, one of ``ANSWERS``; None where the question makes no sense: it speaks of the one
        cat where there is none or more, or there is more to count than ``MOST``."""
        return self._answer(scene, count_groups(scene))

    def _answer(self, scene: Scene, groups: Mapping[str, Sequence[SceneObject]]) -> str | None:
        match self.kind:
            case "exist":
                return _word(self.arguments[0] in groups)
            case "count" | "count kind":
                return _number(self._counted(groups))
            case "compare":
                first, second = (len(groups.get(name, ())) for name in self.arguments)
                return _word(first > second) if first and second else None
            case "setting":
                return scene.setting
        names = self.arguments[::2] if self.kind == "relation" else self.arguments[:1]
        if any(len(groups.get(name, ())) != 1 for name in names):
            return None
        things = [groups[name][0] for name in names]
        if self.kind == "relation":
            return _word(_related(scene, things[0], self.arguments[1], things[1]))
        if self.kind == "colour is":
            return _word(things[0].colour == self.arguments[1])
        return things[0].colour if self.kind == "colour" else things[0].texture

    def _counted(self, groups: Mapping[str, Sequence[SceneObject]]) -> int:
        if self.kind == "count":
            return len(groups.get(self.arguments[0], ()))
        return sum(len(things) for name, things in groups.items()
                   if CATEGORY[name].supercategory == self.arguments[0])


def _word(holds: bool) -> str:
    return "yes" if holds else "no"


def _number(total: int) -> str | None:
    return str(total) if total <= MOST else None


def _related(scene: Scene, subject: SceneObject, predicate: str, other: SceneObject) -> bool:
    i, j = scene.objects.index(subject), scene.objects.index(other)
    return any(r.subject == i and r.predicate == predicate and r.object == j for r in scene.relations)


def programs(scene: Scene) -> Iterator[tuple[Program, str]]:
    """Every question that may be asked of a scene, with its answer.

    Of what is not there only what could be in such a place is asked for.
    """
    groups = count_groups(scene)
    possible = [c.name for c in CATEGORIES if c.name in groups
                or (c.name not in HELD_OUT_CATEGORIES and scene.setting in c.settings)]
    single = [name for name, things in groups.items() if len(things) == 1]
    asked = [Program("setting")]
    asked += [Program(kind, (name,)) for kind in ("exist", "count") for name in possible]
    asked += [Program("count kind", (kind,)) for kind in HYPERNYMS]
    asked += [Program("compare", (a, b)) for a in groups for b in groups if a != b]
    for name in single:
        asked += [Program("colour", (name,))]
        asked += [Program("colour is", (name, colour)) for colour in CATEGORY[name].colours]
        if len(CATEGORY[name].textures) > 1:
            asked.append(Program("pattern", (name,)))
        asked += [Program("relation", (name, predicate, other)) for other in single if other != name
                  for predicate in PREDICATES]
    for program in asked:
        answer = program._answer(scene, groups)
        if answer is not None:
            yield program, answer


# ---- ten people --------------------------------------------------------------------------------------------

def ten_answers(program: Program, answer: str, dice: Dice) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What ten people write where ``answer`` is right, and how sure each is ("yes" or "maybe")."""
    given, sure = [], []
    for _ in range(PEOPLE):
        slipped = dice.chance(SLIPS[program.answer_type])
        word = _nearby(answer, dice) if slipped else answer
        if word in OTHER_WORDS and dice.chance(UNUSUAL):
            word = OTHER_WORDS[word]
        given.append(_careless(word, dice) if dice.chance(CARELESS) else word)
        sure.append("maybe" if dice.chance(0.5 if slipped else 0.05) else "yes")
    return tuple(given), tuple(sure)


def _nearby(answer: str, dice: Dice) -> str:
    if answer.isdigit():
        return str(max(0, int(answer) + dice.pick((-1, 1))) or (1 if answer == "0" else 0))
    return dice.pick(NEAR[answer])


def _careless(word: str, dice: Dice) -> str:
    """The same answer with capitals, a period, an article or a number in words."""
    if word.isdigit():
        said = "none" if word == "0" else NUMBERS[int(word)]
        return dice.pick((said, said.capitalize(), f"{word}.", f"{word} "))
    return dice.pick((word.capitalize(), f"{word}.", f"the {word}", word.upper()))
