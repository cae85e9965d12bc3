"""Answers of the word world's tasks are right, balanced, and not in the text."""

import pytest
import torch

from mmlearn.data import word_tasks, word_world
from mmlearn.data.scenes import COLOURS
from mmlearn.data.word_tasks import OddOneOut, SentencePairs, TwinQuestion
from mmlearn.data.word_world import GENERA, KINDS_OF_WORDS, NOUNS, PICTURED, TWINS


def looks(first: list[str], second: list[str]) -> torch.Tensor:
    """A model that knows how things look."""
    return torch.tensor([word_world.visual_similarity(a, b) for a, b in zip(first, second)])


def company(first: list[str], second: list[str]) -> torch.Tensor:
    """A model that knows all that an endless corpus tells."""
    return torch.tensor([word_world.relatedness_of(a, b) for a, b in zip(first, second)])


def test_questions_about_twins_are_clear_and_balanced():
    questions = word_tasks.twin_questions(10)
    assert len(questions) == 10 * len(TWINS) == len(set(questions))
    for question in questions:
        difference = (word_world.visual_similarity(question.word, question.like)
                      - word_world.visual_similarity(question.word, question.unlike))
        assert difference >= 0.15 and not KINDS_OF_WORDS[question.word].twin and question.word in PICTURED
    for a, b in TWINS:
        answers = [q.like for q in questions if {q.like, q.unlike} == {a, b}]
        assert answers.count(a) == answers.count(b) == 5


def test_looks_answer_all_questions_about_twins_and_an_endless_corpus_none():
    assert word_tasks.twin_accuracy(looks)["mean"] == 1
    near = word_tasks.twin_accuracy(lambda a, b: company(a, b).mul(1e9).round())
    assert near["mean"] == 0.5 and set(near) == {"-".join(p) for p in TWINS} | {"mean"}


def test_an_answer_that_ignores_the_question_is_right_in_half_of_them():
    order = {word: i for i, word in enumerate(NOUNS)}
    accuracy = word_tasks.twin_accuracy(lambda a, b: torch.tensor([float(order[w]) for w in b]))
    assert all(value == 0.5 for value in accuracy.values())


def test_the_accuracy_of_a_few_questions_is_counted_by_hand():
    asked = [TwinQuestion("panther", "raven", "dove"), TwinQuestion("yacht", "dove", "raven"),
             TwinQuestion("rose", "poppy", "bluebell")]
    say = {("panther", "raven"): 3.0, ("panther", "dove"): 1.0, ("yacht", "dove"): 1.0,
           ("yacht", "raven"): 2.0, ("rose", "poppy"): 1.0, ("rose", "bluebell"): 1.0}
    accuracy = word_tasks.twin_accuracy(lambda a, b: torch.tensor([say[p] for p in zip(a, b)]), asked)
    assert accuracy == {"raven-dove": 0.5, "poppy-bluebell": 0.5, "mean": 0.5}


def check_form(pairs: SentencePairs, make) -> None:
    n = len(pairs)
    assert n == len(pairs.second) == len(pairs.labels) == len(pairs.first_scenes)
    assert pairs.labels.reshape(-1, 2).sum(1).tolist() == [1] * (n // 2)
    assert 0.3 < float(pairs.labels[::2].float().mean()) < 0.7              # the order tells nothing
    shorter = make(n // 2)
    assert shorter.first == pairs.first[:n // 2]
    assert torch.equal(shorter.labels, pairs.labels[:n // 2])
    assert make(n, seed=1).first != pairs.first and make(n, "test").first != pairs.first


def noun_of(text: str) -> str:
    return next(word for word in text.split() if word in KINDS_OF_WORDS)


def test_things_of_a_pair_have_the_colour_that_the_label_says_and_no_sentence_does():
    pairs = word_tasks.colour_pairs(60)
    check_form(pairs, word_tasks.colour_pairs)
    for a, b, label, scene, other in zip(pairs.first, pairs.second, pairs.labels, pairs.first_scenes,
                                         pairs.second_scenes):
        kinds = [KINDS_OF_WORDS[noun_of(text)] for text in (a, b)]
        assert (kinds[0].colours == kinds[1].colours) == bool(label)
        assert kinds[0].genus != kinds[1].genus
        assert not set(f"{a} {b}".split()) & set(COLOURS)
        assert (scene.objects[0].colour == other.objects[0].colour) == bool(label)
        assert scene.objects[0].category == kinds[0].drawing
    pictures = word_tasks.colour_pairs(4).pictures(32)
    assert pictures[0].shape == pictures[1].shape == (4, 3, 32, 32)


def test_a_sentence_entails_what_is_said_of_the_genus_or_supercategory():
    pairs = word_tasks.category_pairs(60)
    check_form(pairs, word_tasks.category_pairs)
    supercategories = set(word_world.SUPERCATEGORIES)
    for a, b, label in zip(pairs.first, pairs.second, pairs.labels):
        own = GENERA[KINDS_OF_WORDS[noun_of(a)].genus]
        changed = [y for x, y in zip(a.split(), b.split()) if x != y and y not in ("a", "an")]
        assert len(changed) == 1 and changed[0] in {*GENERA, *supercategories}
        assert (changed[0] in (own.word, own.supercategory)) == bool(label)


@pytest.mark.slow
def test_scenes_of_a_pair_have_the_dominant_colour_that_the_label_says_and_no_caption_does():
    pairs = word_tasks.scene_pairs(24)
    check_form(pairs, word_tasks.scene_pairs)
    for a, b, label, scene, other in zip(pairs.first, pairs.second, pairs.labels, pairs.first_scenes,
                                         pairs.second_scenes):
        assert (word_tasks.dominant_colour(scene) == word_tasks.dominant_colour(other)) == bool(label)
        assert not set(f"{a} {b}".lower().replace(".", "").split()) & set(COLOURS)
        assert scene != other
    assert len({word_tasks.dominant_colour(s) for s in pairs.first_scenes}) >= 3


@pytest.mark.parametrize("name", word_tasks.PROPERTIES)
def test_three_words_share_the_property_and_the_odd_one_shares_nothing(name):
    fields = {"colour": "colours", "category": "genus", "theme": "themes"}
    questions = word_tasks.odd_words(name, 40)
    assert len({q.odd for q in questions}) == 4

    def value(word: str, which: str) -> str:
        held = getattr(KINDS_OF_WORDS[word], fields[which])
        return held if isinstance(held, str) else held[0]

    for question in questions:
        three = [w for i, w in enumerate(question.words) if i != question.odd]
        odd = question.words[question.odd]
        assert len(set(question.words)) == 4
        assert len({value(w, name) for w in three}) == 1
        for other in word_tasks.PROPERTIES:
            assert value(odd, other) not in {value(w, other) for w in three}
            assert other == name or len({value(w, other) for w in three}) == 3
    assert word_tasks.odd_words(name, 10) == questions[:10]
    assert word_tasks.odd_words(name, 10, "test") != questions[:10]


def test_looks_find_the_odd_colour_and_company_the_odd_category():
    colours, kinds = word_tasks.odd_words("colour", 60), word_tasks.odd_words("category", 60)
    assert word_tasks.odd_accuracy(looks, colours) > 0.6
    assert word_tasks.odd_accuracy(company, kinds) > 0.6
    assert word_tasks.odd_accuracy(company, colours) < 0.55


def test_odd_ones_are_counted_by_hand():
    asked = [OddOneOut(("a", "b", "c", "d"), 2)]
    assert word_tasks.odd_accuracy(lambda a, b: torch.tensor(
        [0.0 if "c" in pair else 1.0 for pair in zip(a, b)]), asked) == 1
    assert word_tasks.odd_accuracy(lambda a, b: torch.zeros(len(a)), asked) == 0.25


def test_wrong_requests_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="even number"):
        word_tasks.twin_questions(3)
    with pytest.raises(ValueError, match="ask at most"):
        word_tasks.twin_questions(400)
    with pytest.raises(ValueError, match="even number"):
        word_tasks.colour_pairs(5)
    with pytest.raises(ValueError, match="unknown"):
        word_tasks.category_pairs(4, "dev")
    with pytest.raises(ValueError, match="unknown"):
        word_tasks.odd_words("size", 4)
    with pytest.raises(ValueError, match="1 or more"):
        word_tasks.odd_words("colour", 0)
