"""Questions about a scene, with answers that are right by construction and the reason why.

Paper: S. Antol et al. (2015), *VQA*, arXiv:1505.00468, for the kinds of questions; J. Johnson et al. (2017),
*CLEVR*, arXiv:1612.06890, for questions generated from a graph.  Survey: 1.1, 2.1, 5.1.
Differs from the papers: every answer carries a rationale, one sentence that names the facts it follows from.

Yes and no are balanced exactly in every scene: each question with the answer *yes* is followed by one of the
same form whose answer is *no*, so that a model that sees no picture is right half of the time.
"""

from dataclasses import dataclass

from mmlearn.data.scenes.categories import CATEGORIES, CATEGORY, HELD_OUT_CATEGORIES
from mmlearn.data.scenes.graph import Scene, SceneObject
from mmlearn.data.scenes.language import (
    HYPERNYMS,
    NUMBERS,
    PLACE_PHRASES,
    RELATION_WORDS,
    Dice,
    article,
    count_groups,
    join,
    sentence,
)

QUESTION_KINDS = ("yes/no", "count", "colour", "where", "what")


@dataclass(frozen=True)
class Question:
    """A question, its answer (one or few words, lower case), and the reason, a sentence."""

    kind: str               # one of QUESTION_KINDS
    text: str
    answer: str
    rationale: str


def _a(words: str) -> str:
    return f"{article(words)} {words}"


def _some(category: str, number: int) -> str:
    """``no cats``, ``one cat``, ``two cats``: so many of a category, in words."""
    return f"{NUMBERS[number] if number else 'no'} {category if number == 1 else CATEGORY[category].plural}"


def _there(items: list[str]) -> str:
    """``there is one dog and two cats``: the verb goes with the first item, as in speech."""
    return f"there {'is' if items[0].startswith('one ') else 'are'} {join(items)}"


class _Asker:
    """Asks about one scene. Only things that are the one of their category are spoken of as "the cat"."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.dice = scene, Dice("questions", scene.seed, scene.index, scene.split)
        self.groups = count_groups(scene)
        self.single = {name: things[0] for name, things in self.groups.items() if len(things) == 1}
        objects = scene.objects
        self.facts = sorted({(objects[r.subject].category, r.predicate, objects[r.object].category)
                             for r in scene.relations
                             if objects[r.subject].category in self.single
                             and objects[r.object].category in self.single})

    def absent(self) -> str:
        """A category that the scene has not, of those that its setting could have."""
        return self.dice.pick([c.name for c in CATEGORIES if c.name not in self.groups
                               and c.name not in HELD_OUT_CATEGORIES and self.scene.setting in c.settings])

    # ---- yes and no, in pairs ------------------------------------------------------------------------------

    def existence(self) -> list[Question]:
        if not self.groups:
            return []
        there, absent = self.dice.pick(list(self.groups)), self.absent()
        seen = join([_some(name, len(things)) for name, things in self.groups.items()])
        return [
            Question("yes/no", f"Is there {_a(there)} in the picture?", "yes",
                     sentence(f"the picture shows {_some(there, len(self.groups[there]))}")),
            Question("yes/no", f"Is there {_a(absent)} in the picture?", "no",
                     sentence(f"the picture shows {seen}, but no {absent}")),
        ]

    def colours(self) -> list[Question]:
        if not self.single:
            return []
        thing = self.dice.pick(list(self.single.values()))
        other = self.dice.pick([c for c in CATEGORY[thing.category].colours if c != thing.colour]
                               or ["purple"])
        wears = "in " if thing.category == "person" else ""
        return [
            Question("yes/no", f"Is the {thing.category} {wears}{thing.colour}?", "yes",
                     f"The only {thing.category} is {wears}{thing.colour}."),
            Question("yes/no", f"Is the {thing.category} {wears}{other}?", "no",
                     f"The only {thing.category} is {wears}{thing.colour}, not {wears}{other}."),
        ]

    def related(self) -> list[Question]:
        """The same words with the roles swapped: only one of the two can be true."""
        if not self.facts:
            return []
        a, predicate, b = self.dice.pick(self.facts)
        words = RELATION_WORDS[predicate][0]
        return [
            Question("yes/no", f"Is the {a} {words} the {b}?", "yes", f"The {a} is {words} the {b}."),
            Question("yes/no", f"Is the {b} {words} the {a}?", "no",
                     f"It is the other way round: the {a} is {words} the {b}."),
        ]

    # ---- numbers -------------------------------------------------------------------------------------------

    def counts(self) -> list[Question]:
        asked = []
        name = (
            self.absent() if not self.groups or self.dice.chance(0.2) else self.dice.pick(list(self.groups))
        )
        things = self.groups.get(name, [])
        colours = [o.colour for o in things]
        wears = "in " if name == "person" else ""
        why = _there([_some(name, len(things))])
        if len(set(colours)) > 1:
            why += ": " + join([f"{NUMBERS[colours.count(c)]} {wears}{c}" for c in dict.fromkeys(colours)])
        asked.append(Question("count", f"How many {CATEGORY[name].plural} are there?", NUMBERS[len(things)],
                              sentence(why)))
        worn = {o.colour for o in self.groups.get("person", ())}     # a person in red is no red thing
        plain = [o.colour for o in self.scene.objects if o.colour not in worn]
        if plain:
            colour = self.dice.pick(plain)
            alike = [name for name, group in self.groups.items() for o in group if o.colour == colour]
            names = [_some(n, alike.count(n)) for n in dict.fromkeys(alike)]
            asked.append(Question("count", f"How many {colour} things are there?", NUMBERS[len(alike)],
                                  sentence(f"{_there(names)} of this colour")))
        kinds = [CATEGORY[o.category].supercategory for o in self.scene.objects]
        kinds = [k for k in dict.fromkeys(kinds) if k in HYPERNYMS]
        if kinds:
            kind = self.dice.pick(kinds)
            members = {n: len(g) for n, g in self.groups.items() if CATEGORY[n].supercategory == kind}
            total = sum(members.values())
            asked.append(Question("count", f"How many {HYPERNYMS[kind][1]} are there?", NUMBERS[total],
                                  sentence(_there([_some(n, k) for n, k in members.items()]))))
        return asked

    # ---- colour, where, what -------------------------------------------------------------------------------

    def colour(self) -> list[Question]:
        alike = [things for things in self.groups.values() if len({o.colour for o in things}) == 1]
        if not alike:
            return []
        things = self.dice.pick(alike)
        name, colour = things[0].category, things[0].colour
        if name == "person":
            who, verb = (name, "is") if len(things) == 1 else ("people", "are")
            return [Question("colour", f"What colour {verb} the {who} wearing?", colour,
                             sentence(f"{_some(name, len(things))} can be seen, in {colour}"))]
        if len(things) == 1:
            return [Question("colour", f"What colour is the {name}?", colour,
                             f"The only {name} is {colour}.")]
        plural = CATEGORY[name].plural
        return [Question("colour", f"What colour are the {plural}?", colour,
                         sentence(f"{'both' if len(things) == 2 else f'all {NUMBERS[len(things)]}'} {plural} "
                                  f"are {colour}"))]

    def where(self) -> list[Question]:
        place = PLACE_PHRASES[self.scene.setting][0]
        asked = [Question("where", "Where is this?", place, sentence(f"the picture was made {place}"))]
        # "Where is the cat?" has one right answer only if the cat stands in one relation to one thing.
        for name in self.dice.shuffled(list(self.single)):
            own = [fact for fact in self.facts if fact[0] == name]
            tied = [r for r in self.scene.relations if self.scene.objects[r.subject].category == name]
            if len(own) == len(tied) == 1:
                answer = f"{RELATION_WORDS[own[0][1]][0]} the {own[0][2]}"
                asked.append(Question("where", f"Where is the {name}?", answer, f"The {name} is {answer}."))
                break
        return asked

    def what(self) -> list[Question]:
        asked = []
        for name in self.dice.shuffled(list(self.single)):
            target = self.scene.objects.index(self.single[name])
            sides = {r.predicate for r in self.scene.relations if r.object == target}
            alone = []
            for predicate in sorted(sides):
                subjects = {self.scene.objects[r.subject].category for r in self.scene.relations
                            if r.object == target and r.predicate == predicate}
                if len(subjects) == 1:
                    alone.append((subjects.pop(), predicate))
            if alone:
                answer, predicate = self.dice.pick(alone)
                words, number = RELATION_WORDS[predicate][0], len(self.groups[answer])
                fact = f"the {answer} is" if number == 1 else f"{_a(answer)} is"
                asked.append(Question("what", f"What is {words} the {name}?", answer,
                                      sentence(f"{fact} {words} the {name}, and nothing of another kind")))
                break
        doing = [o for o in self.single.values() if o.pose.endswith("ing")]
        if doing:
            thing: SceneObject = self.dice.pick(doing)
            asked.append(Question("what", f"What is the {thing.category} doing?", thing.pose,
                                  f"The only {thing.category} is {thing.pose}."))
        return asked

    def all(self) -> tuple[Question, ...]:
        parts = (self.existence, self.colours, self.related, self.counts, self.colour, self.where, self.what)
        return tuple(question for ask in parts for question in ask())


def questions(scene: Scene) -> tuple[Question, ...]:
    """Questions of all kinds that the scene answers beyond doubt; as many *yes* as *no*; a function of the
    scene."""
    return _Asker(scene).all()


