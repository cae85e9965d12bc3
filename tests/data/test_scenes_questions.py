"""Questions have the answers that counting and comparing in the graph gives; expressions pick one thing."""

import re
from collections import Counter

import pytest

from mmlearn.data.scenes import CATEGORIES, SPLITS, questions, referring, sample_scene
from mmlearn.data.scenes.graph import COLOURS, Scene, SceneObject
from mmlearn.data.scenes.language import PLACE_PHRASES, RELATION_WORDS

PLURAL = {c.plural: c.name for c in CATEGORIES}
SUPER = {c.name: c.supercategory for c in CATEGORIES}
GROUPS = {"animals": "animal", "plants": "plant", "vehicles": "vehicle", "buildings": "building",
          "toys": "toy", "pieces of furniture": "furniture"}
NUMBER = {word: n for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
PREDICATE = {words[0]: predicate for predicate, words in RELATION_WORDS.items()}
RELATION = "|".join(sorted(PREDICATE, key=len, reverse=True))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(0, index, split) for split in SPLITS for index in range(40)]


def holds(scene: Scene, subject: str, predicate: str, target: str) -> bool:
    return any(scene.objects[r.subject].category == subject and r.predicate == predicate
               and scene.objects[r.object].category == target for r in scene.relations)


def naive_answer(scene: Scene, text: str) -> str:
    """The answer from the words of the question and the lists of the graph, nothing else."""
    def of(name: str) -> list[SceneObject]:
        return [o for o in scene.objects if o.category == name]

    if m := re.fullmatch(r"Is there an? (.+) in the picture\?", text):
        return "yes" if of(m[1]) else "no"
    if m := re.fullmatch(rf"Is the (.+?) ({RELATION}) the (.+)\?", text):
        assert len(of(m[1])) == len(of(m[3])) == 1
        return "yes" if holds(scene, m[1], PREDICATE[m[2]], m[3]) else "no"
    if m := re.fullmatch(r"Is the (.+?) (?:in )?(\w+)\?", text):
        assert len(of(m[1])) == 1 and m[2] in COLOURS
        return "yes" if of(m[1])[0].colour == m[2] else "no"
    if m := re.fullmatch(r"How many (.+) are there\?", text):
        words = m[1]
        if words in PLURAL:
            total = len(of(PLURAL[words]))
        elif words in GROUPS:
            total = sum(SUPER[o.category] == GROUPS[words] for o in scene.objects)
        else:
            colour = words.removesuffix(" things")
            assert not any(o.category == "person" and o.colour == colour for o in scene.objects)
            total = sum(o.colour == colour for o in scene.objects)
        return next(word for word, n in NUMBER.items() if n == total)
    if m := re.fullmatch(r"What colour (?:is|are) the (.+?)(?: wearing)?\?", text):
        colours = {o.colour for o in of(PLURAL.get(m[1], m[1]))}
        assert len(colours) == 1
        return colours.pop()
    if text == "Where is this?":
        return PLACE_PHRASES[scene.setting][0]
    if m := re.fullmatch(r"Where is the (.+)\?", text):
        index = scene.objects.index(of(m[1])[0])
        own = [r for r in scene.relations if r.subject == index]
        assert len(own) == 1 and len(of(scene.objects[own[0].object].category)) == 1
        return f"{RELATION_WORDS[own[0].predicate][0]} the {scene.objects[own[0].object].category}"
    if m := re.fullmatch(r"What is the (.+) doing\?", text):
        assert len(of(m[1])) == 1
        return of(m[1])[0].pose
    m = re.fullmatch(rf"What is ({RELATION}) the (.+)\?", text)
    assert m and len(of(m[2])) == 1, text
    found = {c.name for c in CATEGORIES if holds(scene, c.name, PREDICATE[m[1]], m[2])}
    assert len(found) == 1
    return found.pop()


def test_every_answer_is_what_counting_in_the_graph_gives(scenes):
    wrong = [(q.text, q.answer) for scene in scenes for q in questions(scene)
             if naive_answer(scene, q.text) != q.answer]
    assert wrong == []


def test_yes_and_no_are_equally_frequent_in_every_scene(scenes):
    for scene in scenes:
        answers = Counter(q.answer for q in questions(scene) if q.kind == "yes/no")
        assert answers["yes"] == answers["no"] > 0
        assert set(answers) == {"yes", "no"}


def test_all_kinds_of_questions_are_asked_often(scenes):
    kinds = Counter(q.kind for scene in scenes for q in questions(scene))
    assert set(kinds) == {"yes/no", "count", "colour", "where", "what"}
    assert min(kinds.values()) > len(scenes) * 0.7


def test_no_question_is_asked_twice_of_a_scene(scenes):
    for scene in scenes:
        texts = [q.text for q in questions(scene)]
        assert len(texts) == len(set(texts))


def test_every_answer_has_a_reason_that_is_a_sentence(scenes):
    for scene in scenes:
        for q in questions(scene):
            assert re.fullmatch(r"[A-Z].*\.", q.rationale), q
            if q.kind in ("colour", "where") or q.text.endswith("doing?"):
                assert q.answer in q.rationale, q


def test_questions_about_an_empty_scene_are_still_right():
    empty = Scene(0, 0, "train", "iconic scene", "beach", (), ())
    asked = questions(empty)
    assert {q.kind for q in asked} == {"count", "where"}
    assert all(naive_answer(empty, q.text) == q.answer for q in asked)


# ---- referring expressions ---------------------------------------------------------------------------------

def matches(scene: Scene, description: dict, category: str) -> list[int]:
    """The things of the category that have all the properties, tried one by one."""
    found = []
    for i, o in enumerate(scene.objects):
        side = ("facing left" if o.flip else "facing right") if "facing" in description else ""
        values = {"colour": o.colour, "size": o.size, "texture": o.texture, "pose": o.pose, "facing": side}
        fits = o.category == category and all(values[k] == v for k, v in description.items() if k in values)
        if fits and "relation" in description:
            predicate, other = description["relation"]
            fits = any(r.subject == i and r.predicate == predicate
                       and scene.objects[r.object].category == other
                       for r in scene.relations)
        if fits and "order" in description:
            left = sum(p.category == category and p.x < o.x for p in scene.objects)
            fits = left == description["order"]
        if fits:
            found.append(i)
    return found


def test_an_expression_fits_exactly_one_thing(scenes):
    for scene in scenes:
        for r in referring(scene):
            assert matches(scene, r.description, scene.objects[r.object].category) == [r.object], r.text


def test_the_words_of_an_expression_say_its_description_and_no_more(scenes):
    known = {"small", "large", "striped", "spotted", "checked", *COLOURS}
    for scene in scenes:
        for r in referring(scene):
            said = set(re.findall("[a-z]+", r.text))
            used = {r.description[k] for k in ("colour", "size", "texture") if k in r.description}
            assert said & known == used, (r.text, r.description)
            assert scene.objects[r.object].category in r.text
            if "relation" in r.description:
                predicate, other = r.description["relation"]
                assert r.text.endswith(f"{RELATION_WORDS[predicate][0]} the {other}")


def test_no_two_things_of_a_scene_are_referred_to_in_the_same_words(scenes):
    for scene in scenes:
        texts = [r.text for r in referring(scene)]
        assert len(texts) == len(set(texts))


def test_nearly_every_thing_can_be_referred_to(scenes):
    told, total = sum(len(referring(s)) for s in scenes), sum(len(s.objects) for s in scenes)
    assert told / total > 0.99


def test_the_box_of_an_expression_is_that_of_its_thing(scenes):
    for scene in scenes[:20]:
        for r in referring(scene):
            o = scene.objects[r.object]
            left, top, width, height = r.box
            assert (left + width / 2, top + height / 2, width, height) == (o.x, o.y, o.width, o.height)


def test_twins_on_the_same_spot_cannot_be_told_apart_and_are_left_out():
    twin = SceneObject("bird", "red", "medium", "plain", "flying", False, 0.5, 0.5, 0.2, 0.2, 0)
    assert referring(Scene(0, 0, "train", "non-iconic", "meadow", (twin, twin), ())) == ()
