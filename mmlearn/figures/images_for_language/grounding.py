"""Figures of section 3.1: a dictionary that goes round, the words that stop it, and words that no text tells
apart.

Papers: S. Harnad (1990), *The symbol grounding problem*, Physica D 42, sec. 2.2; P. Vincent-Lamarre et al.
(2016), arXiv:1411.0129.  Survey: 3.1.

Amber is text, teal are pictures, violet is what is grounded or joins the two, red is a way back.
"""

from collections.abc import Iterable, Sequence

from mmlearn.data.dictionary import (
    DICTIONARY,
    defining_words,
    definition_graph,
    goes_round,
    grounding_set,
    look_up,
    rounds,
)
from mmlearn.data.word_world import (
    NOUNS,
    TWINS,
    ZERO_SHOT,
    class_of,
    expected_pairs,
    word_ids,
    word_pictures,
    words,
)
from mmlearn.figures.diagram import Diagram, Number, in_lines, text_width
from mmlearn.figures.interactive import Block, player, slider

STARTS = ("raven", "bird", "snow", "night", "grief", "promise")
WAYS = {"the first word": lambda options: options[0], "the middle word": lambda o: o[len(o) // 2],
        "the last word": lambda options: options[-1]}
ROW = 27                                # pixels of a definition


# ---------------------------------------------------------------------------------------------- moving ones


def dictionary_walks(starts: Sequence[str] = STARTS, grounded: Iterable[str] = ()) -> Block:
    """Walks through the dictionary: choose a word, and which word of every definition is looked up next.

    A walk ends at a word of ``grounded``, or where it had been. Raises ``ValueError`` for a word without an
    entry.
    """
    graph, known = definition_graph(), set(grounded)
    walks = [look_up(start, graph, known, choose) for start in starts for choose in WAYS.values()]
    height = ROW * max(len(walk) - (0 if walk[-1] in known else 1) for walk in walks) + 12
    frames = [_walk(walk, known, height) for walk in walks]
    labels = []
    for walk in walks:
        count = len(walk) - 1
        end = f"back at “{walk[-1]}”" if goes_round(walk) else f"at “{walk[-1]}”, which is grounded"
        labels.append(f"{count} {'definition' if count == 1 else 'definitions'} read: {end}")
    return slider({"look up": starts, "then": list(WAYS)}, frames,
                  "A walk through a dictionary: each definition sends to another word, until the walk is "
                  + ("at a word that is grounded" if known else "back where it had been"), labels=labels,
                  start=1)


def _walk(walk: Sequence[str], known: set[str], height: Number) -> Diagram:
    """The definitions of a walk, one below the other, and the way back."""
    ends = walk[-1] in known
    rows = list(walk) if ends else list(walk[:-1])
    drawn = Diagram(470, height, "looked up one after the other: " + ", ".join(walk))
    for i, word in enumerate(rows):
        y = ROW * i + 18
        if word in known:
            drawn.rect(64, y, text_width(word, 14) + 24, 23, "new")
            drawn.text(64, y, word, 14, "new", weight=600)
            drawn.text(116, y, "known without a definition", 13, "new", "start")
            continue
        drawn.text(40, y, word, 14, anchor="start", weight=600)
        drawn.text(116, y, _marked(DICTIONARY[word], walk[i + 1]), 13, "soft", "start")
        if i + 1 < len(rows):
            drawn.line([(48, y + 8), (48, y + ROW - 8)], "text", head=True)
    if not ends:
        first, last = ROW * walk.index(walk[-1]) + 18, ROW * (len(rows) - 1) + 18
        drawn.line([(36, last), (14, last), (14, first), (36, first)] if last > first else
                   [(36, last + 4), (14, last + 4), (14, last - 4), (36, last - 4)], "loss", head=True)
    return drawn


def _marked(definition: str, followed: str) -> str:
    """A definition with the word that is looked up next in italics."""
    marked, done = [], False
    for word in definition.split():
        found = not done and defining_words(word) == (followed,)
        marked.append(f"*{word}*" if found else word)
        done = done or found
    return " ".join(marked)


def grounding_spreads(grounded: Sequence[str] | None = None) -> Block:
    """How the dictionary is learnt from a set of grounded words (default: a smallest one that is enough),
    round after round."""
    graph = definition_graph()
    start = grounding_set(graph) if grounded is None else list(grounded)
    after = [sorted(learnt) for learnt in rounds(graph, start)]
    places, height = _places(sorted(graph))
    under = Diagram(470, height, "the words of the dictionary")
    for word, (x, y, _) in places.items():
        under.text(x, y, word, 13, "soft")
    frames, labels, learnt = [], [], []
    for i, now in enumerate([[], *after]):
        learnt += now
        frame = Diagram(470, height, f"round {i}: {', '.join(now) or 'grounded words alone'}")
        for word in (*start, *learnt):
            x, y, wide = places[word]
            role = "new" if word in start else "image"
            frame.rect(x, y, wide, 22, role, radius=5)
            frame.text(x, y, word, 13, role, weight=600 if word in now or word in start else 400)
        known = len(start) + len(learnt)
        labels.append(f"round {i}: {len(now)} more, {known} of {len(graph)} known" if i else
                      f"grounded: {len(start)} of {len(graph)} words")
        frames.append(frame)
    return player(frames, labels, "The words of a dictionary: some are grounded, and others are learnt from "
                  "their definitions, round after round", under=under)


def _places(names: Sequence[str]) -> tuple[dict[str, tuple[Number, Number, Number]], int]:
    """Where each word stands, (x, y, width), in lines from left to right; and how high all are."""
    widths = [text_width(name, 13) + 13 for name in names]
    lines = in_lines(widths, 460, 5)
    return ({name: (6 + x, 16 + 27 * line, wide) for name, wide, (x, line) in zip(names, widths, lines)},
            32 + 27 * lines[-1][1])


# ------------------------------------------------------------------------------------------------- diagrams


def twins(first: str = "raven", second: str = "dove", rows: int = 7) -> Diagram:
    """Two words with one row of counts, and their pictures.

    Raises ``ValueError`` for two words that are no twins.
    """
    if (first, second) not in TWINS and (second, first) not in TWINS:
        raise ValueError(f"{first!r} and {second!r} are no twins; take a pair of TWINS, for instance 'raven' "
                         f"and 'dove'")
    ids, pairs = word_ids(), expected_pairs()
    company = [word for word in sorted(words(), key=lambda word: -pairs[ids[first], ids[word]])
               if class_of(word) != "function" and word not in (first, second)][:rows]
    counts = [[10_000 * pairs[ids[word], ids[other]] for other in company] for word in (first, second)]
    top, step = 64, 23
    seen = top + step * len(company) + 20
    drawn = Diagram(470, seen + 92, (
        f"Twins. In the text, {first} and {second} keep the same company: of 10,000 sentences as many hold "
        f"{first} and {company[0]} as hold {second} and {company[0]}, and so on for "
        f"{', '.join(company[1:])}: the bars to the left and to the right are equally long. Below, three "
        f"pictures of each: they look different."))
    for x, word in ((112, first), (358, second)):
        drawn.text(x, 16, word, 16, weight=600)
    drawn.text(235, 38, "what is written: together in 10,000 sentences", 13, "text", weight=600)
    longest = max(map(max, counts))
    for i, other in enumerate(company):
        y = top + step * i
        drawn.text(235, y, other, 13)
        for sign, row in ((-1, counts[0]), (1, counts[1])):
            wide = 112 * row[i] / longest
            inner = 235 + 54 * sign
            drawn.bar(inner if sign > 0 else inner - wide, y, wide, 13, "text")
            drawn.text(inner + sign * (wide + 6), y, f"{row[i]:.1f}", 13, "soft",
                       "start" if sign > 0 else "end")
    drawn.text(235, seen - 8, "what is seen", 13, "image", weight=600)
    for left, word in ((38, first), (284, second)):
        for i, picture in enumerate(word_pictures(word, 3)):
            drawn.image(left + 74 * i, seen + 44, picture, 68)
    return drawn


def word_world(examples: Sequence[str] = ("raven", "dove")) -> Diagram:
    """The word world: what is written and what is drawn come from two tables, and similarities are known."""
    drawn = Diagram(470, 356, (
        f"The word world. {len(NOUNS)} nouns, among them {len(TWINS)} pairs of twins and {len(ZERO_SHOT)} "
        "that are never pictured. Left: what is told of a noun, its genus, verbs, uses and themes; from it "
        "come the sentences, and from an endless text the relatedness of two nouns. Right: how it is drawn, "
        "shape, colours, texture and size; from it come the pictures, and the visual similarity of two "
        "nouns. Nothing crosses from one side to the other. Mixed similarity is the mean of both."))
    nouns = drawn.box(235, 30, f"{len(NOUNS)} nouns\n{len(TWINS)} pairs of twins, {len(ZERO_SHOT)} never "
                      "pictured", "", 250, 48)
    told = drawn.box(112, 112, "what is told of it\ngenus, verbs, uses, themes", "text", 192, 46)
    looks = drawn.box(358, 112, "how it is drawn\nshape, colours, texture, size", "image", 192, 46)
    drawn.arrow(nouns.at("b", 0.2), told, sides="bt")
    drawn.arrow(nouns.at("b", 0.8), looks, sides="bt")
    text = drawn.box(112, 190, "sentences\n“the raven nests by the …”", "text", 192, 46)
    drawn.arrow(told, text)
    shown = drawn.rect(358, 190, 192, 62, "image")
    for i, word in enumerate(examples):
        drawn.image(358 + 62 * (i - (len(examples) - 1) / 2), 190, word_pictures(word, 1)[0], 50)
    drawn.arrow(looks, shown)
    related = drawn.box(112, 268, "relatedness\nalike in company", "text", 192, 46)
    visual = drawn.box(358, 268, "visual similarity\nalike in looks", "image", 192, 46)
    drawn.arrow(text, related, "endless text")
    drawn.arrow(looks.at("r"), visual.at("r"), sides="rr", via=[(464, 112), (464, 268)])
    drawn.text(235, 144, "nothing", 13, "loss")
    drawn.text(235, 160, "crosses", 13, "loss")
    drawn.line([(235, 96), (235, 134)], "loss", dashed=True)
    drawn.line([(235, 170), (235, 292)], "loss", dashed=True)
    mixed = drawn.box(235, 330, "mixed\nthe mean of both", "new", 140, 44)
    drawn.arrow(related, mixed, sides="bl", role="new")
    drawn.arrow(visual, mixed, sides="br", role="new")
    return drawn
