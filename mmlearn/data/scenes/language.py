"""Five captions of a scene and the way back: from the words of a caption to the facts it states.

Paper: X. Chen et al. (2015), *Microsoft COCO Captions*, arXiv:1504.00325, for five captions an image; P.
Anderson et al. (2016), *SPICE*, arXiv:1607.08822, for the facts (objects, attributes, relations).  Survey:
1.1, 1.2.
Differs from the papers: the captions are written by a grammar from a known graph, so the facts that a caption
states can be read back exactly, without a statistical parser.

A fact is a tuple of words: ``("cat",)``, ``("cat", "red")``, ``("bird", "two")``, ``("cat", "left of",
"tree")``, or ``("meadow",)`` for the setting. Relations are kept in one direction (*right of*, *below* and
*behind* are turned round), so that "the cat is left of the tree" and "the tree is right of the cat" state the
same fact.
"""

import re
import zlib
from collections.abc import Sequence
from functools import cache
from random import Random

from mmlearn.data.scenes.categories import CATEGORY
from mmlearn.data.scenes.graph import COLOURS, Scene, SceneObject

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
           "twelve",
           "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")
INVERSE = {"right of": "left of", "below": "above", "behind": "in front of"}   # fact kept the other way round
OPPOSITE = {"left of": "right of", "above": "below", "in front of": "behind"}
OPPOSITE |= INVERSE

# What a caption may say for each value of the graph; the first of a list is the plainest.
SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big"), "medium": ()}
TEXTURE_WORDS = {"striped": ("striped", "stripy"), "spotted": ("spotted", "dotted"),
                 "checked": ("checked", "checkered"), "plain": ()}
RELATION_WORDS = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "in front of": ("in front of",),
    "behind": ("behind",),
    "on": ("on", "on top of"),
}
# Setting: phrases for "where", and nouns for "a picture of …".
PLACE_PHRASES = {
    "meadow": ("in a meadow", "in a field", "on the grass", "in a grassy field"),
    "beach": ("on a beach", "on the beach", "by the sea", "on the sand"),
    "street": ("on a street", "on a road", "in the street", "along a road"),
    "night": ("at night", "on a dark night", "under the night sky"),
    "snow": ("in the snow", "in a snowy field", "on a snowy day"),
    "room": ("in a room", "inside a room", "indoors"),
}
PLACE_NOUNS = {
    "meadow": ("a meadow", "a field", "a grassy field"),
    "beach": ("a beach", "a sandy beach", "the seaside"),
    "street": ("a street", "a road", "a city street"),
    "night": ("a night scene", "a dark night"),
    "snow": ("a snowy field", "a winter scene", "a snowy landscape"),
    "room": ("a room", "the inside of a room"),
}
PLACE_LEXICON = {
    "meadow": ("meadow", "field", "grass"), "beach": ("beach", "sea", "sand", "seaside"),
    "street": ("street", "road"), "night": ("night",), "room": ("room",),
    "snow": ("snow", "snowy field", "snowy day", "winter scene", "snowy landscape"),
}
SYNONYMS: dict[str, tuple[tuple[str, str], ...]] = {     # category -> further (singular, plural)
    "bicycle": (("bike", "bikes"),), "plane": (("airplane", "airplanes"),), "rabbit": (("bunny", "bunnies"),),
    "cup": (("mug", "mugs"),),
}
HYPERNYMS: dict[str, tuple[str, str]] = {                # supercategory -> (singular, plural)
    "animal": ("animal", "animals"), "plant": ("plant", "plants"), "vehicle": ("vehicle", "vehicles"),
    "building": ("building", "buildings"), "toy": ("toy", "toys"),
    "furniture": ("piece of furniture", "pieces of furniture"),
}
_PATTERNS = tuple(word for words in TEXTURE_WORDS.values() for word in words)
ONE_OF_A_KIND = ("sun", "moon")                          # "the sun", never "a sun"


class Dice:
    """Choices that are the same on every platform and Python version (only ``random()`` is promised to
    be)."""

    def __init__(self, *key: object) -> None:
        self.random = Random(zlib.crc32("/".join(map(str, key)).encode())).random

    def pick(self, options: Sequence):
        """One of the options, all equally likely."""
        return options[int(self.random() * len(options))]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def shuffled(self, options: Sequence) -> list:
        """The options in random order."""
        return [item for _, item in sorted(((self.random(), i), item) for i, item in enumerate(options))]


# ---- words -------------------------------------------------------------------------------------------------

def article(phrase: str) -> str:
    """``a`` or ``an``, by the sound that the phrase begins with."""
    return "an" if phrase[0] in "aeio" or phrase.startswith(("umb", "unk", "up", "und")) else "a"


def join(items: Sequence[str]) -> str:
    """``a``; ``a and b``; ``a, b and c``."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def sentence(text: str) -> str:
    """First letter in upper case, full stop at the end."""
    return text[0].upper() + text[1:] + "."


def facing(thing: SceneObject) -> str:
    """``facing left``, ``facing right``, or nothing where a category looks the same from both sides."""
    if not CATEGORY[thing.category].facing:
        return ""
    return "facing left" if thing.flip else "facing right"


def attributes(thing: SceneObject) -> tuple[str, ...]:
    """All attribute words of an object in their plain form: size, colour, texture, pose, direction."""
    words = [thing.size if thing.size != "medium" else "", thing.colour,
             thing.texture if thing.texture != "plain" else "", thing.pose, facing(thing)]
    return tuple(word for word in words if word)


def canonical(subject: str, predicate: str, object: str) -> tuple[str, str, str]:
    """The fact in the one direction in which facts are kept."""
    if predicate in INVERSE:
        return object, INVERSE[predicate], subject
    return subject, predicate, object


def count_groups(scene: Scene) -> dict[str, list[SceneObject]]:
    """The objects of a scene by category, larger things first."""
    groups: dict[str, list[SceneObject]] = {}
    for thing in sorted(scene.objects, key=lambda o: (-o.width * o.height, o.x, o.y)):
        groups.setdefault(thing.category, []).append(thing)
    return groups


def scene_tuples(scene: Scene) -> set[tuple[str, ...]]:
    """Every fact that a caption of the scene may state (eq:spice compares such sets)."""
    facts: set[tuple[str, ...]] = {(scene.setting,)}
    counts: dict[str, int] = {}
    for thing in scene.objects:
        facts.add((thing.category,))
        facts.update((thing.category, word) for word in attributes(thing))
        kind = HYPERNYMS.get(CATEGORY[thing.category].supercategory)
        if kind:
            facts.add((kind[0],))
        for name in (thing.category, "thing", *((kind[0],) if kind else ())):
            counts[name] = counts.get(name, 0) + 1
    facts.update((name, NUMBERS[n]) for name, n in counts.items() if n < len(NUMBERS))
    for r in scene.relations:
        facts.add(canonical(scene.objects[r.subject].category, r.predicate, scene.objects[r.object].category))
    return facts


# ---- noun phrases ------------------------------------------------------------------------------------------

class _Writer:
    """Writes the captions of one scene; every random choice comes from the dice of that scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.dice = scene, Dice("caption", scene.seed, scene.index, scene.split)
        self.groups = count_groups(scene)
        self.main = next(iter(self.groups.values()))[0] if self.groups else None
        self.said: set[int] = set()                     # objects of this sentence that were already named
        self.once = sorted({
            (r.object, INVERSE[r.predicate], r.subject) if r.predicate in INVERSE else
            (r.subject, r.predicate, r.object) for r in scene.relations})

    def noun(self, category: str, plural: bool = False) -> str:
        names = ((category, CATEGORY[category].plural), *SYNONYMS.get(category, ()))
        pair = names[0] if len(names) == 1 or self.dice.chance(0.7) else self.dice.pick(names[1:])
        return pair[plural]

    def adjectives(self, things: Sequence[SceneObject], detail: float = 0.8, pose: bool = False) -> list[str]:
        """Size, colour and texture that all the things share, each said with probability ``detail``."""
        first, words = things[0], []
        for field, table in (("size", SIZE_WORDS), ("colour", None), ("texture", TEXTURE_WORDS)):
            value = getattr(first, field)
            options = (value,) if table is None else table[value]
            if options and all(getattr(o, field) == value for o in things) and self.dice.chance(detail):
                words.append(options[0] if self.dice.chance(0.7) else options[-1])
        if pose and first.pose and all(o.pose == first.pose for o in things) and self.dice.chance(detail):
            words.append(first.pose)
        return words

    def one(self, thing: SceneObject, detail: float = 0.8, pose: bool = False, definite: bool = False) -> str:
        """``a small red cat``; ``the cat`` if ``definite`` and there is only one."""
        alone = len(self.groups[thing.category]) == 1
        noun = self.noun(thing.category)
        if alone and (definite or thing.category in ONE_OF_A_KIND or id(thing) in self.said):
            return f"the {noun}"
        self.said.add(id(thing))
        phrase = self.phrase(noun, self.adjectives([thing], detail, pose))
        return f"{article(phrase)} {phrase}"

    def phrase(self, noun: str, words: Sequence[str]) -> str:
        """Adjectives and noun; the colour and pattern of a person are those of the clothes."""
        if noun not in ("person", "people"):
            return " ".join([*words, noun])
        worn = [w for w in words if w in COLOURS or w in _PATTERNS]
        rest = [*(w for w in words if w not in worn), noun]
        if not worn:
            return " ".join(rest)
        if len(worn) == 1 and worn[0] in COLOURS and self.dice.chance(0.6):
            return " ".join([*rest, "in", worn[0]])
        if noun == "people":
            return " ".join([*rest, "in", *worn, "clothes"])
        return " ".join([*rest, self.dice.pick(("in", "wearing")), article(worn[0]), *worn, "shirt"])

    def several(self, things: Sequence[SceneObject], detail: float = 0.5, count: bool = False) -> str:
        """``a red cat`` or ``two small red birds``: all things of one category; ``count`` says *one* for
        *a*."""
        if len(things) == 1:
            phrase = self.one(things[0], detail)
            return re.sub("^an? ", "one ", phrase) if count else phrase
        number = NUMBERS[len(things)]
        return f"{number} {self.phrase(self.noun(things[0].category, True), self.adjectives(things, detail))}"

    def inventory(self, detail: float, most: int = 5, count: bool = False) -> list[str]:
        """The categories of the scene with their numbers, larger things first."""
        return [self.several(things, detail, count) for things in list(self.groups.values())[:most]]

    def place(self, chance: float = 1.0, before: str = " ") -> str:
        if not self.dice.chance(chance):
            return ""
        return before + self.dice.pick(PLACE_PHRASES[self.scene.setting])

    # ---- relations -----------------------------------------------------------------------------------------

    def stated(self) -> list[tuple[int, str, int]]:
        """Relations worth saying, both ways round, those of the largest thing first, none of them twice."""
        objects, facts = self.scene.objects, []
        for subject, predicate, object in self.dice.shuffled(self.once):
            a, b = objects[subject], objects[object]
            if a.category == b.category and a.colour == b.colour:
                continue                                     # "a red bird is left of a red one" tells nothing
            if predicate in OPPOSITE and self.dice.chance(0.4):
                subject, predicate, object = object, OPPOSITE[predicate], subject
            facts.append((subject, predicate, object))
        facts.sort(key=lambda f: self.main not in (objects[f[0]], objects[f[2]]))
        return facts

    def tail(self, fact: tuple[int, str, int], detail: float = 0.6) -> str:
        """``to the left of a tree``: the relation and its object."""
        a, b = self.scene.objects[fact[0]], self.scene.objects[fact[2]]
        words = self.dice.pick(RELATION_WORDS[fact[1]])
        if a.category == b.category:
            if a.category == "person":
                return f"{words} {self.dice.pick(('a person', 'one'))} in {b.colour}"
            return f"{words} {article(b.colour)} {b.colour} one"
        return f"{words} {self.one(b, detail, pose=self.dice.chance(0.2))}"

    def head(self, fact: tuple[int, str, int], detail: float = 0.8) -> str:
        """The subject of a relation; of two things of one category, it is told by its colour."""
        a, b = self.scene.objects[fact[0]], self.scene.objects[fact[2]]
        if a.category == b.category:
            phrase = self.phrase(self.noun(a.category), [a.colour])
            return f"{article(phrase)} {phrase}"
        return self.one(a, detail, pose=not a.pose.endswith("ing"))

    def doing(self, thing: SceneObject, chance: float = 0.6) -> str:
        """`` is sitting``, `` facing left is``, or the plain verb."""
        if thing.pose.endswith("ing") and self.dice.chance(chance):
            return f" is {thing.pose}"
        if facing(thing) and self.dice.chance(chance * 0.5):
            return f" {facing(thing)} is"
        return self.dice.pick((" is", " is", " can be seen"))

    # ---- the five captions ---------------------------------------------------------------------------------

    def relation(self) -> str:
        """Attributes, and one relation where there is one."""
        if self.main is None:
            return self.dice.pick(("{p} with nothing in it", "an empty scene{q}")).format(
                p=self.dice.pick(PLACE_NOUNS[self.scene.setting]), q=self.place(before=" "))
        facts = self.stated()
        if not facts:
            return self.single()
        fact = facts[0]
        a, b = self.scene.objects[fact[0]], self.scene.objects[fact[2]]
        form = self.dice.pick(("is", "is", "is", "there", "turned", "with", "the"))
        if form == "the" and len(self.groups[a.category]) == len(self.groups[b.category]) == 1:
            words = self.dice.pick(RELATION_WORDS[fact[1]])
            return f"the {self.noun(a.category)} is {words} the {self.noun(b.category)}{self.place(0.3)}"
        if form == "there":
            pose = f" {a.pose}" if a.pose.endswith("ing") and self.dice.chance(0.5) else ""
            return f"there is {self.head(fact)}{pose} {self.tail(fact)}{self.place(0.3)}"
        if form == "turned" and a.category != b.category:
            return f"{self.tail(fact, 0.8)} there is {self.head(fact)}"
        if form == "with" and a.category != b.category and b.category not in ONE_OF_A_KIND:
            return f"{self.one(b)} with {self.head(fact)} {self.dice.pick(RELATION_WORDS[fact[1]])} it{self.place(0.3)}"
        return f"{self.head(fact)}{self.doing(a)} {self.tail(fact)}{self.place(0.4)}"

    def single(self) -> str:
        """Attributes of the largest thing."""
        thing = self.main
        assert thing is not None
        noun = self.noun(thing.category)
        words = self.adjectives([thing], 1.0)
        full = self.phrase(noun, words)
        side = f" {facing(thing)}" if facing(thing) and self.dice.chance(0.6) else ""
        pose = f" {thing.pose}" if thing.pose.endswith("ing") and self.dice.chance(0.7) else ""
        start = self.dice.pick(("", "", "a picture of ", "a close view of ", "there is "))
        if noun != "person" and self.dice.chance(0.2):
            return f"{article(noun)} {noun} that is {join(words)}{self.place(0.5)}"
        return f"{start}{article(full)} {full}{pose}{side}{self.place(0.5)}"

    def count(self) -> str:
        """How many there are."""
        if self.main is None:
            return f"there is nothing to see{self.place()}"
        most = max(self.groups.values(), key=len)
        form = self.dice.pick(("list", "there", "total", "kinds", "colours", "colours"))
        number = NUMBERS[min(len(self.scene.objects), 20)]
        if form == "colours" and 2 <= len(most) <= 3 and len({o.colour for o in most}) == len(most):
            parts = join([f"one {'in ' * (o.category == 'person')}{o.colour}" for o in most])
            return f"{NUMBERS[len(most)]} {self.noun(most[0].category, True)}{self.place()}, {parts}"
        if form == "kinds":
            kinds: dict[str, int] = {}
            for thing in self.scene.objects:
                kind = CATEGORY[thing.category].supercategory
                kinds[kind] = kinds.get(kind, 0) + 1
            named = [(HYPERNYMS[k], n) for k, n in kinds.items() if k in HYPERNYMS]
            if sum(n for _, n in named) > 1:
                items = join([f"{NUMBERS[n]} {pair[n > 1]}" for pair, n in named])
                return self.dice.pick(("there {verb} {items}{p}", "{items}{p}",
                                       "{items} can be seen{p}")).format(
                    items=items, p=self.place(), verb="is" if named[0][1] == 1 else "are")
        if len(self.scene.objects) == 1:
            name = self.several(most, 0.5, count=True)
            return self.dice.pick((f"there is only {name}{self.place()}", f"just {name}{self.place()}",
                                   f"only {name} can be seen{self.place(0.5)}"))
        if form == "total" and len(self.groups) > 1:
            items = join(self.inventory(0.0, 8, count=True))
            return f"{number} things{self.place()}: {items}"
        if form == "list" or len(most) == 1:
            return f"{join(self.inventory(0.3, 4, count=True))}{self.place()}"
        return f"there are {self.several(most, 0.8)}{self.place()}"

    def setting(self) -> str:
        """Where it is."""
        scene = self.dice.pick(PLACE_NOUNS[self.scene.setting])
        if self.main is None:
            return self.dice.pick((f"a view of {scene}", f"the picture shows {scene}", f"this is {scene}"))
        items = join(self.inventory(0.3, self.dice.pick((1, 2, 3))))
        form = self.dice.pick(("with", "view" if self.scene.setting != "night" else "with", "shows", "this",
                               "first"))
        if form == "first":
            verb = "is" if items.startswith(("a ", "an ", "the ")) else "are"
            return f"{self.place(before='')} there {verb} {items}"
        start = {"with": "", "view": "a view of ", "shows": "the picture shows ", "this": "this is "}[form]
        return f"{start}{scene} with {items}"

    def things(self) -> str:
        """All that there is."""
        if self.main is None:
            return self.dice.pick((f"there are no things{self.place()}",
                                   f"nothing can be seen{self.place()}"))
        items = join(self.inventory(0.6, 6))
        verb = "is" if items.startswith(("a ", "an ", "the ")) else "are"
        return self.dice.pick((items, f"a picture of {items}", f"there {verb} {items}",
                               f"an image that shows {items}"))

    def long(self) -> str:
        """Setting, attributes and up to two relations."""
        place = self.place(before="")
        if self.main is None:
            return f"{place} there is nothing but an empty scene"
        facts = self.stated()
        if not facts:
            full = self.one(self.main, 1.0)
            pose = f" is {self.main.pose}" if self.main.pose else " can be seen"
            also = f"{' and' * bool(self.main.pose)} {facing(self.main)}" if facing(self.main) else ""
            rest = ", and nothing else is there" if len(self.scene.objects) == 1 else ""
            return f"{place}, {full}{pose}{also}{rest}"
        objects, first = self.scene.objects, facts[0]
        text = f"{place}, {self.head(first, 1.0)}{self.doing(objects[first[0]], 0.8)} {self.tail(first, 0.9)}"
        same = [f for f in facts[1:] if f[0] == first[0] and f[2] != first[2]
                and len({objects[i].category for i in (f[0], f[2], first[2])}) == 3]
        other = [f for f in facts[1:] if {f[0], f[2]} != {first[0], first[2]} and f[0] != first[0]]
        other = [f for f in other if f[0] != first[2]] or other
        if same and self.dice.chance(0.5):
            return f"{text} and {self.tail(same[0])}"
        if other:
            return f"{text}, while {self.head(other[0])} is {self.tail(other[0])}"
        said = {objects[i].category for i in (first[0], first[2])}
        rest_of = [things for name, things in self.groups.items() if name not in said]
        if rest_of:
            verb = "is" if len(rest_of[0]) == 1 else "are"
            return f"{text}; there {verb} {self.several(rest_of[0])} too"
        return text

    def all(self) -> tuple[str, ...]:
        """Five sentences, no two the same."""
        written: list[str] = []
        for write in (self.relation, self.count, self.setting, self.things, self.long):
            for _ in range(12):
                self.said.clear()
                text = sentence(write())
                if text not in written:
                    break
            written.append(text)
        return tuple(written)


def captions(scene: Scene) -> tuple[str, ...]:
    """Five captions: a relation, numbers, the setting, all things, a long one; a function of the scene
    alone."""
    return _Writer(scene).all()


# ---- the way back ------------------------------------------------------------------------------------------

@cache
def _lexicon(categories: tuple[str, ...]) -> dict[str, list[tuple[tuple[str, ...], str, str]]]:
    """First word -> (words, part of speech, value), longest first."""
    entries: list[tuple[str, str, str]] = [("thing", "noun", "thing"), ("things", "noun", "thing"),
                                           ("it", "it", "")]
    for name in categories:
        pairs = ((name, CATEGORY[name].plural), *SYNONYMS.get(name, ()))
        entries += [(form, "noun", name) for pair in pairs for form in pair]
        entries += [(pose, "adjective", pose) for pose in CATEGORY[name].poses if pose]
    entries += [(form, "noun", pair[0]) for pair in HYPERNYMS.values() for form in pair]
    entries += [(colour, "adjective", colour) for colour in COLOURS] + [("gray", "adjective", "grey")]
    for table in (SIZE_WORDS, TEXTURE_WORDS):
        entries += [(form, "adjective", value) for value, forms in table.items() for form in forms]
    entries += [(f"facing {side}", "adjective", f"facing {side}") for side in ("left", "right")]
    entries += [(number, "number", number) for number in NUMBERS[1:]]
    entries += [(form, "relation", value) for value, forms in RELATION_WORDS.items() for form in forms]
    entries += [(form, "place", value) for value, forms in PLACE_LEXICON.items() for form in forms]
    entries += [("indoors", "indoors", "room")]
    entries += [(word, "article", "") for word in ("a", "an", "the", "another", "there")]
    entries += [(word, "verb", "") for word in ("is", "are", "can", "in", "at", "by", "inside", "along",
                                                "wearing")]
    entries += [("no", "no", ""), ("without", "no", ""), ("and", "and", ""), ("with", "with", "")]
    table_of: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
    for text, part, value in dict.fromkeys(entries):
        words = tuple(text.split())
        table_of.setdefault(words[0], []).append((words, part, value))
    for options in table_of.values():
        options.sort(key=lambda entry: -len(entry[0]))
    return table_of


def _tokens(clause: str) -> list[tuple[str, str]]:
    """Parts of speech and values of the known words of a clause, longest phrase first; other words are passed
    over."""
    words, lexicon, found, i = re.findall(r"[a-z]+", clause), _lexicon(tuple(CATEGORY)), [], 0
    while i < len(words):
        for phrase, part, value in lexicon.get(words[i], ()):
            if tuple(words[i:i + len(phrase)]) == phrase:
                found.append((part, value))
                i += len(phrase)
                break
        else:
            i += 1
    return found


class _Reader:
    """Reads one clause from left to right; what it has understood so far is in ``facts``."""

    def __init__(self, facts: set[tuple[str, ...]]) -> None:
        self.facts = facts
        self.adjectives: list[str] = []
        self.number = ""
        self.negated = False
        # noun just read; noun before "with"; subject of the relation
        self.last = self.anchor = self.subject = ""
        self.relation = ""                              # a relation that waits for its object
        self.turned: tuple[str, str] | None = None      # "behind a house": waits for its subject

    def settle(self) -> None:
        """Adjectives that no noun follows belong to the noun before: "the bird is red"."""
        if self.last and self.adjectives:
            self.facts.update((self.last, word) for word in self.adjectives)
        self.adjectives, self.number = [], ""

    def noun(self, name: str) -> None:
        if self.negated:
            self.adjectives, self.number, self.relation, self.negated = [], "", "", False
            return
        if name != "thing":                          # "four things" counts, but says nothing of what they are
            self.facts.add((name,))
        self.facts.update((name, word) for word in self.adjectives)
        if self.number:
            self.facts.add((name, self.number))
        self.adjectives, self.number = [], ""
        self.relate(name)
        self.last = name

    def relate(self, name: str) -> None:
        """Complete a relation that waits for ``name``."""
        if self.relation and self.subject:
            self.facts.add(canonical(self.subject, self.relation, name))
        elif self.relation:
            self.turned = (self.relation, name)
        elif self.turned:
            self.facts.add(canonical(name, *self.turned))
            self.turned = None
        self.relation = ""

    def read(self, tokens: Sequence[tuple[str, str]]) -> None:
        before = ""
        for part, value in tokens:
            if part == "adjective":
                self.adjectives.append(value)
            elif part == "noun":
                self.noun(value)
            elif (
                part == "number" and value == "one" and before == "adjective" and self.relation and self.last
            ):
                self.noun(self.last)                    # "a red bird is left of a blue one"
            elif part == "number":
                self.settle()
                self.number = value
            elif part == "relation":
                self.settle()
                if not (before == "and" and self.subject):
                    self.subject = self.last           # "left of a tree and behind a house" keeps its subject
                self.relation = value
            elif part == "it" and self.relation and self.anchor:
                self.relate(self.anchor)
            elif part == "place":
                self.facts.add((value,))                # "on a beach" is no relation between things
                self.adjectives, self.number, self.relation = [], "", ""
            elif part in ("article", "verb", "with", "indoors"):
                self.settle()
                if value:
                    self.facts.add((value,))
                self.anchor = self.last if part == "with" else self.anchor
            elif part == "no":
                self.settle()
                self.negated = True
            before = part
        self.settle()


def parse_caption(text: str) -> set[tuple[str, ...]]:
    """The facts that a caption states (eq:spice): exact for ours, best effort for any text in the same
    words."""
    facts: set[tuple[str, ...]] = set()
    for clause in re.split(r"[.;:!?]|\bwhile\b", text.lower()):
        _Reader(facts).read(_tokens(clause))
    return facts
