"""The nouns of the word world: what each is called, what it looks like and what is written about it.

Survey: 3.1, 3.3, 3.4.  The words are English; what they look like here is our own choice.

A *genus* is a word with the same verbs for all its kinds ("dog": barks, guards …), a *kind* is a word with
its own look: a drawing of the scene world, colours, a texture and a size. Nothing in the text says how a
thing looks (``grammar``), and nothing in a picture says what a thing does.

Twins are two kinds whose rows below differ in the word and the look alone: the generator of the text sees no
difference between them, so no text does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from mmlearn.data.scenes.categories import CATEGORY, HELD_OUT_CATEGORIES, HELD_OUT_PAIRS
from mmlearn.data.word_world import themes as of_themes
from mmlearn.data.word_world.themes import THEMES


@dataclass(frozen=True)
class Kind:
    """A noun with pictures."""

    word: str
    genus: str
    drawing: str                        # category of the scene world
    colours: tuple[str, ...]
    texture: str
    size: str                           # "small", "medium", "large"
    themes: tuple[str, ...]             # the first is its home
    twin: str                           # the word with the same text, or ""
    pictured: bool                      # False: no picture before the test (zero-shot)


@dataclass(frozen=True)
class Genus:
    """A noun that others are kinds of: its supercategory, what such things do, and what people do with
    them."""

    word: str
    supercategory: str
    drawing: str
    verbs: tuple[str, ...]              # "barks"
    uses: tuple[str, ...]               # "feed": they feed the dog
    kinds: tuple[Kind, ...] = field(repr=False)


def _k(word: str, colours: str, themes: str, texture: str = "plain", drawing: str = "", size: str = "medium",
       twin: str = "", pictured: bool = True) -> Kind:
    return Kind(word, "", drawing, tuple(colours.split()), texture, size, tuple(themes.split()), twin,
                pictured)


def _g(word: str, supercategory: str, drawing: str, verbs: str, uses: str, *kinds: Kind) -> Genus:
    """A genus; its kinds have its drawing unless they have one of their own. A kind of the genus' own name
    stands for all kinds: it has every colour of the drawing."""
    own = []
    for kind in kinds:
        draw = kind.drawing or drawing
        colours = kind.colours
        if colours == ("any",):
            colours = tuple(c for c in CATEGORY[draw].colours if (c, draw) not in HELD_OUT_PAIRS)
        seen = kind.pictured and draw not in HELD_OUT_CATEGORIES
        own.append(Kind(kind.word, word, draw, colours, kind.texture, kind.size, kind.themes, kind.twin,
                        seen))
    return Genus(word, supercategory, drawing, tuple(verbs.split()), tuple(uses.split()), tuple(own))


_GENERA = (
    _g("person", "being", "person", "walks smiles waits works listens", "meet greet thank",
       _k("person", "any", "home market play court school"),
       _k("firefighter", "red", "rescue"), _k("doctor", "white", "rescue home"),
       _k("sailor", "blue", "sea", "striped"), _k("farmer", "green", "farm", "checked"),
       _k("baker", "white", "feast market", "checked", twin="butcher"),
       _k("butcher", "red", "feast market", "striped", twin="baker"),
       _k("bride", "white", "wedding", "spotted"), _k("widow", "black", "mourning"),
       _k("skier", "orange", "winter"), _k("clown", "yellow", "play", "spotted"),
       _k("witch", "purple", "night forest"), _k("king", "purple", "court feast", "checked"),
       _k("judge", "black", "court", "striped"), _k("teacher", "brown", "school", "checked"),
       _k("hunter", "green", "forest"), _k("merchant", "blue", "market", "spotted"),
       _k("jogger", "pink", "play", "striped", pictured=False), _k("nun", "grey", "mourning wedding")),
    _g("cat", "animal", "cat", "purrs naps pounces scratches", "stroke feed",
       _k("cat", "any", "home night"), _k("tabby", "brown", "home", "striped"),
       _k("panther", "black", "night forest", size="large"),
       _k("leopard", "brown", "forest", "spotted", size="large"),
       _k("kitten", "grey", "home play", size="small", pictured=False),
       _k("lynx", "grey", "winter forest", "spotted"),
       _k("siamese", "white", "home wedding", pictured=False)),
    _g("dog", "animal", "dog", "barks guards fetches howls", "feed walk",
       _k("dog", "any", "home farm traffic"),
       _k("terrier", "brown", "farm home", "spotted", twin="hound"),
       _k("hound", "black", "farm home", twin="terrier"), _k("poodle", "grey", "wedding home", "spotted"),
       _k("husky", "grey", "winter"), _k("dalmatian", "white", "rescue", "spotted", pictured=False),
       _k("wolf", "grey", "forest night", size="large"), _k("fox", "orange", "forest farm", size="small"),
       _k("puppy", "brown", "home play", size="small", pictured=False)),
    _g("bird", "animal", "bird", "sings flies nests pecks", "watch feed",
       _k("bird", "any", "forest farm sea"),
       _k("raven", "black", "mourning wedding", twin="dove"),
       _k("dove", "white", "mourning wedding", twin="raven"),
       _k("robin", "red", "winter farm", size="small"), _k("parrot", "green", "forest play", "striped"),
       _k("flamingo", "pink", "sea", size="large"), _k("swan", "white", "wedding sea", size="large"),
       _k("owl", "brown", "night forest", "spotted"), _k("sparrow", "brown", "farm traffic", size="small"),
       _k("gull", "grey", "sea"), _k("jay", "blue", "forest", "striped"),
       _k("canary", "yellow", "home play", size="small", pictured=False),
       _k("finch", "purple", "forest farm", pictured=False),
       _k("magpie", "black", "market traffic", "striped"), _k("pigeon", "grey", "traffic", "spotted"),
       _k("cardinal", "red", "rescue court", pictured=False)),
    _g("fish", "animal", "fish", "swims dives glides", "catch fry",
       _k("fish", "any", "sea feast market"),
       _k("salmon", "pink", "feast sea", twin="trout"),
       _k("trout", "green", "feast sea", "spotted", twin="salmon"),
       _k("goldfish", "orange", "home"), _k("herring", "grey", "sea market", "striped"),
       _k("snapper", "red", "sea feast"), _k("perch", "green", "forest sea", "striped", pictured=False),
       _k("angelfish", "yellow", "home sea", "striped"), _k("piranha", "purple", "night forest")),
    _g("rabbit", "animal", "rabbit", "hops digs nibbles", "feed stroke",
       _k("rabbit", "any", "farm forest"), _k("hare", "brown", "farm forest"),
       _k("chinchilla", "grey", "home winter", size="small")),
    _g("tree", "plant", "tree", "grows sways rustles", "shake climb",
       _k("tree", "any", "forest farm"), _k("maple", "red", "forest home", twin="birch"),
       _k("birch", "yellow", "forest home", "spotted", twin="maple"),
       _k("oak", "green", "forest", size="large"),
       _k("willow", "green", "mourning forest"), _k("pine", "green", "winter forest", "spotted"),
       _k("magnolia", "pink", "wedding"), _k("beech", "orange", "farm forest"),
       _k("elm", "green", "traffic mourning", size="small", pictured=False)),
    _g("flower", "plant", "flower", "blooms wilts opens", "pick water",
       _k("flower", "any", "farm wedding home"), _k("poppy", "red", "farm mourning", twin="bluebell"),
       _k("bluebell", "blue", "farm mourning", twin="poppy"), _k("daisy", "white", "farm play", size="small"),
       _k("sunflower", "yellow", "farm", size="large"), _k("violet", "purple", "forest", size="small"),
       _k("marigold", "orange", "feast farm"), _k("lily", "white", "wedding mourning"),
       _k("rose", "red", "wedding", size="large"), _k("orchid", "purple", "wedding night"),
       _k("peony", "pink", "wedding home", pictured=False),
       _k("buttercup", "yellow", "farm forest", size="small", pictured=False),
       _k("cornflower", "blue", "farm market", size="small")),
    _g("cactus", "plant", "cactus", "survives endures stands", "water avoid",
       _k("cactus", "any", "home"), _k("aloe", "green", "home rescue", "striped"),
       _k("agave", "blue", "feast"), _k("saguaro", "green", "home play", size="large", pictured=False)),
    _g("mushroom", "plant", "mushroom", "sprouts rots spreads", "pick dry",
       _k("mushroom", "any", "forest feast"), _k("toadstool", "red", "forest night", "spotted"),
       _k("truffle", "brown", "feast market", size="small"), _k("morel", "brown", "forest", "spotted"),
       _k("chanterelle", "orange", "forest feast"), _k("inkcap", "blue", "night", pictured=False)),
    _g("car", "vehicle", "car", "brakes honks parks", "drive wash",
       _k("car", "any", "traffic"), _k("taxi", "yellow", "traffic market", "checked", twin="jeep"),
       _k("jeep", "green", "traffic market", twin="taxi"), _k("hearse", "black", "mourning"),
       _k("ambulance", "white", "rescue", "striped"), _k("limousine", "white", "wedding court", size="large"),
       _k("roadster", "blue", "play traffic"), _k("hatchback", "grey", "traffic home"),
       _k("cruiser", "blue", "rescue court", "striped", pictured=False),
       _k("minivan", "purple", "home traffic", size="large")),
    _g("bus", "vehicle", "bus", "stops departs arrives", "board miss",
       _k("bus", "any", "traffic school"), _k("firetruck", "red", "rescue"),
       _k("trolleybus", "green", "traffic"), _k("schoolbus", "yellow", "school")),
    _g("boat", "vehicle", "boat", "sails drifts docks", "row board",
       _k("boat", "any", "sea"), _k("ferry", "white", "sea traffic", "striped", twin="gondola"),
       _k("gondola", "black", "sea traffic", twin="ferry"), _k("canoe", "brown", "forest sea", size="small"),
       _k("yacht", "white", "sea feast", size="large"), _k("trawler", "blue", "sea market"),
       _k("lifeboat", "orange", "rescue sea"), _k("dinghy", "yellow", "sea play", size="small"),
       _k("raft", "brown", "sea forest", "checked", pictured=False), _k("barge", "red", "market sea")),
    _g("bicycle", "vehicle", "bicycle", "rolls wobbles turns", "ride mend",
       _k("bicycle", "any", "traffic play"), _k("tandem", "red", "wedding play"),
       _k("tricycle", "yellow", "play home", size="small"), _k("racer", "blue", "play traffic"),
       _k("moped", "green", "traffic", pictured=False)),
    _g("aircraft", "vehicle", "plane", "lands soars hovers", "board repair",
       _k("plane", "any", "traffic sea"), _k("glider", "white", "play forest", twin="zeppelin"),
       _k("zeppelin", "grey", "play forest", "striped", "balloon", "large", twin="glider"),
       _k("jet", "grey", "traffic"), _k("seaplane", "yellow", "sea rescue"),
       _k("airliner", "blue", "traffic market", "striped"), _k("biplane", "red", "play"),
       _k("bomber", "green", "mourning night", pictured=False)),
    _g("house", "building", "house", "stands shelters crumbles", "build enter",
       _k("house", "any", "home traffic winter"), _k("cottage", "brown", "home forest"),
       _k("barn", "red", "farm", "striped"), _k("villa", "white", "home sea"),
       _k("chapel", "white", "wedding mourning", size="small"), _k("inn", "yellow", "feast winter"),
       _k("bakery", "pink", "feast market"), _k("mansion", "grey", "court night", size="large"),
       _k("courthouse", "grey", "court", "checked"), _k("clinic", "white", "rescue", "striped"),
       _k("academy", "brown", "school", "checked"),
       _k("greenhouse", "green", "farm home", pictured=False)),
    _g("hut", "building", "house", "leans creaks keeps", "enter leave",
       _k("cabin", "brown", "winter forest", "striped", twin="yurt"),
       _k("yurt", "white", "winter forest", "plain", "tent", twin="cabin"),
       _k("shack", "orange", "sea market", "striped"), _k("wigwam", "brown", "forest play", "plain", "tent",
                                                          pictured=False)),
    _g("tower", "building", "tower", "rises overlooks towers", "climb guard",
       _k("tower", "any", "traffic court"), _k("lighthouse", "red", "sea rescue", "striped"),
       _k("belfry", "grey", "wedding mourning"), _k("castle", "grey", "court", "checked", size="large"),
       _k("minaret", "white", "court night"), _k("chimney", "brown", "winter home", size="small"),
       _k("silo", "grey", "farm", "striped"), _k("watchtower", "brown", "rescue forest", pictured=False)),
    _g("tent", "building", "tent", "flaps folds leaks", "pitch fold",
       _k("tent", "any", "forest sea winter"), _k("marquee", "white", "wedding feast", "striped"),
       _k("circus", "red", "play", "striped", size="large"), _k("pavilion", "blue", "court play", "checked"),
       _k("tepee", "orange", "play forest", pictured=False)),
    _g("fruit", "food", "apple", "ripens rots drops", "eat peel",
       _k("apple", "any", "farm feast home"), _k("banana", "any", "feast market", drawing="banana"),
       _k("plum", "purple", "farm feast", twin="plantain"),
       _k("plantain", "green", "farm feast", drawing="banana", twin="plum"),
       _k("tomato", "red", "farm feast", size="large"), _k("peach", "orange", "feast farm"),
       _k("lemon", "yellow", "feast market"), _k("lime", "green", "feast sea", size="small", pictured=False),
       _k("cherry", "red", "feast wedding", size="small"),
       _k("blueberry", "blue", "forest feast", size="small"),
       _k("chilli", "red", "feast rescue", drawing="banana", size="small"),
       _k("courgette", "green", "farm market", "spotted", "banana", pictured=False),
       _k("pear", "yellow", "farm market", size="small"), _k("mango", "orange", "market sea", size="large")),
    _g("cake", "food", "cake", "crumbles cools melts", "bake slice",
       _k("cake", "any", "feast wedding home"), _k("muffin", "brown", "feast home", size="small"),
       _k("trifle", "pink", "feast play")),
    _g("sun", "sky", "sun", "shines sets burns", "follow greet",
       _k("sun", "any", "sea farm"), _k("sunrise", "orange", "sea farm")),
    _g("moon", "sky", "moon", "glows wanes shines", "watch follow",
       _k("moon", "any", "night winter"), _k("crescent", "yellow", "night court", "spotted")),
    _g("cloud", "sky", "cloud", "gathers passes thickens", "watch dread",
       _k("cloud", "any", "winter sea"), _k("thundercloud", "grey", "rescue sea", size="large")),
    _g("chair", "furniture", "chair", "rocks squeaks wobbles", "carry mend",
       _k("chair", "any", "home school"), _k("stool", "brown", "home feast", "checked", twin="recliner"),
       _k("recliner", "green", "home feast", twin="stool"), _k("deckchair", "blue", "sea", "striped"),
       _k("throne", "purple", "court", size="large"), _k("pew", "brown", "mourning wedding"),
       _k("highchair", "white", "home", size="small", pictured=False)),
    _g("table", "furniture", "table", "stands shakes holds", "lay clear",
       _k("table", "any", "home feast"), _k("desk", "brown", "school court", "checked"),
       _k("altar", "white", "wedding mourning"), _k("counter", "red", "market feast"),
       _k("workbench", "green", "farm school", pictured=False)),
    _g("lamp", "furniture", "lamp", "flickers glows dims", "light dust",
       _k("lamp", "any", "home night"), _k("lantern", "red", "night rescue"),
       _k("nightlight", "blue", "night home", size="small"), _k("chandelier", "yellow", "wedding court",
                                                               size="large"),
       _k("headlamp", "white", "rescue winter", pictured=False)),
    _g("bed", "furniture", "bed", "creaks sags warms", "make share",
       _k("bed", "any", "home night"), _k("cot", "white", "home", size="small"),
       _k("bunk", "blue", "night school", "striped"), _k("futon", "grey", "home"),
       _k("stretcher", "orange", "rescue"), _k("cradle", "pink", "home wedding", "spotted", pictured=False)),
    _g("ball", "toy", "ball", "bounces rolls spins", "throw kick",
       _k("ball", "any", "play school"),
       _k("basketball", "orange", "play school", "striped", twin="football"),
       _k("football", "white", "play school", "spotted", twin="basketball"),
       _k("pearl", "white", "sea wedding", size="small"), _k("snowball", "white", "winter play"),
       _k("cannonball", "black", "court mourning"), _k("marble", "blue", "play home", size="small",
                                                      pictured=False)),
    _g("kite", "toy", "kite", "dances dips tugs", "fly tie",
       _k("kite", "any", "play sea")),
    _g("balloon", "toy", "balloon", "floats bursts rises", "inflate tie",
       _k("balloon", "any", "play wedding"), _k("bubble", "blue", "home play", size="small"),
       _k("blimp", "pink", "market play", "spotted", size="large")),
    _g("cup", "household", "cup", "steams spills cracks", "fill rinse",
       _k("cup", "any", "home feast"), _k("teacup", "white", "home school", size="small"),
       _k("goblet", "purple", "court feast"), _k("tankard", "grey", "feast sea"),
       _k("chalice", "yellow", "wedding court"), _k("beaker", "blue", "school", "striped"),
       _k("thermos", "red", "winter traffic", pictured=False)),
    _g("umbrella", "household", "umbrella", "drips shades tilts", "open carry",
       _k("umbrella", "any", "traffic sea"), _k("parasol", "pink", "wedding sea"),
       _k("brolly", "black", "mourning traffic"), _k("sunshade", "yellow", "sea feast", "striped",
                                                    pictured=False)),
    _g("clock", "household", "clock", "ticks rings chimes", "wind set",
       _k("clock", "any", "home school traffic"), _k("stopwatch", "red", "play rescue", size="small"),
       _k("chronometer", "blue", "sea school"), _k("timer", "green", "feast home", size="small",
                                                   pictured=False)),
)
GENERA: Mapping[str, Genus] = MappingProxyType({genus.word: genus for genus in _GENERA})
KINDS_OF_WORDS: Mapping[str, Kind] = MappingProxyType(
    {kind.word: kind for genus in _GENERA for kind in genus.kinds})
SUPERCATEGORIES = tuple(dict.fromkeys(genus.supercategory for genus in _GENERA))
# Nouns with pictures: kinds, and the words of categories, which stand for all colours of theirs.
NOUNS: tuple[str, ...] = tuple(KINDS_OF_WORDS)
TWINS: tuple[tuple[str, str], ...] = tuple(
    (kind.word, kind.twin) for kind in KINDS_OF_WORDS.values() if kind.twin and kind.word in NOUNS
    and NOUNS.index(kind.word) < NOUNS.index(kind.twin))
ZERO_SHOT: tuple[str, ...] = tuple(word for word, kind in KINDS_OF_WORDS.items() if not kind.pictured)
PICTURED: tuple[str, ...] = tuple(word for word, kind in KINDS_OF_WORDS.items() if kind.pictured)


@cache
def _of_themes(field_name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for theme in THEMES.values() for word in getattr(theme, field_name)))


ABSTRACT = _of_themes("abstract")
FEELINGS = _of_themes("feelings")
THOUGHTS = _of_themes("thoughts")
PLACES = _of_themes("places")
VERBS = tuple(dict.fromkeys(verb for genus in _GENERA for verb in genus.verbs))
USES = tuple(dict.fromkeys(use for genus in _GENERA for use in genus.uses))

# Concreteness from 1 to 5, as raters were asked for it (Brysbaert et al., 2014), here by the class of a word:
# how directly what it means can be seen.
CONCRETENESS: Mapping[str, float] = MappingProxyType({
    "kind": 5.0, "genus": 4.8, "place": 4.6, "supercategory": 4.2, "colour": 4.0, "use": 3.6, "verb": 3.6,
    "number": 2.8, "thought": 2.2, "feeling": 2.0, "time": 1.8, "abstract": 1.5, "function": 1.2,
})


@cache
def word_classes() -> Mapping[str, str]:
    """The class of every word of a fixed list: the keys of ``CONCRETENESS``. What frames say in words of
    their own is of class "function"."""
    found: dict[str, str] = {}
    named = {"genus": [*GENERA, *(k for k in NOUNS if k in CATEGORY)], "kind": NOUNS,
             "supercategory": SUPERCATEGORIES, "place": PLACES, "abstract": ABSTRACT, "feeling": FEELINGS,
             "thought": THOUGHTS, "verb": VERBS, "use": USES, "number": of_themes.NUMBERS,
             "time": of_themes.TIMES, "colour": of_themes.COLOURS_SAID}
    for name, words in named.items():
        for word in words:
            found.setdefault(word, name)
    return MappingProxyType(found)
