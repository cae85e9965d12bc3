"""The word world: its text is drawn as its tables say, twins cannot be told apart by it, pictures vary within
a word and differ between words."""

import re
import time
import zlib

import numpy as np
import pytest
import torch

from mmlearn.data import word_world
from mmlearn.data.scenes import CATEGORY, HELD_OUT_CATEGORIES, HELD_OUT_PAIRS
from mmlearn.data.scenes.graph import COLOURS, TEXTURES
from mmlearn.data.scenes.render import render
from mmlearn.data.word_world import NOUNS, PICTURED, THEMES, TWINS, ZERO_SHOT, grammar, lexicon
from mmlearn.data.word_world.grammar import FRAMES, frame_weights, table
from mmlearn.data.word_world.looks import visual_similarities

COUNT = 40_000


@pytest.fixture(scope="module")
def text() -> list[list[str]]:
    return word_world.sentences(COUNT, seed=1)


def test_a_sentence_is_a_function_of_its_number_alone(text):
    assert word_world.sentences(30, seed=1, start=1017) == text[1017:1047]
    assert word_world.sentences(30, seed=1) == text[:30]
    assert word_world.sentences(30, seed=2) != text[:30]
    assert word_world.sentences(30, "val", seed=1) != text[:30]
    assert word_world.sentences(0) == []


def test_the_first_sentences_are_the_same_on_every_platform():
    first = [" ".join(words) for words in word_world.sentences(1000)]
    assert first[:4] == ["he wept and was sad", "after death comes grief",
                         "they think of death when the widow works", "fate is solemn"]
    assert zlib.crc32("\n".join(first).encode()) == 3962101794


def test_numbers_and_words_say_the_same(text):
    ids, ends = word_world.sentence_ids(500, seed=1)
    names = word_world.words()
    begin = 0
    for words, end in zip(text, ends):
        assert [names[i] for i in ids[begin:end]] == words
        begin = end
    assert word_world.sentence_ids(0)[0].size == 0


def test_chunks_leave_no_seam(monkeypatch, text):
    monkeypatch.setattr(grammar, "CHUNK", 7)
    assert word_world.sentences(40, seed=1) == text[:40]
    ids, ends = word_world.sentence_ids(40, seed=1)
    assert ends[-1] == len(ids) == sum(map(len, text[:40]))


def test_four_sentences_in_a_row_have_one_theme():
    themes = word_world.themes_of(400)
    assert all(len(set(themes[i:i + 4])) == 1 for i in range(0, 400, 4))
    assert len(set(themes)) == len(THEMES)


def test_there_are_enough_words_and_nouns(text):
    found = {word for words in text for word in words}
    assert found == set(word_world.words()) and len(found) >= 300
    assert len(NOUNS) >= 150 and len(PICTURED) >= 150 and set(NOUNS) <= found
    assert len(ZERO_SHOT) >= 30 and set(ZERO_SHOT) | set(PICTURED) == set(NOUNS)
    assert len(word_world.ABSTRACT) >= 60
    assert all(re.fullmatch("[a-z]+", word) for word in found)


def test_no_word_belongs_to_two_classes():
    named = {"places": lexicon.PLACES, "abstract": lexicon.ABSTRACT, "feelings": lexicon.FEELINGS,
             "thoughts": lexicon.THOUGHTS, "verbs": lexicon.VERBS, "uses": lexicon.USES,
             "nouns": tuple(dict.fromkeys((*NOUNS, *word_world.GENERA))),
             "supercategories": word_world.SUPERCATEGORIES}
    everything = [word for words in named.values() for word in words]
    assert sorted(w for w in set(everything) if everything.count(w) > 1) == []
    literal = {word for frame in FRAMES for word in frame.words if word[0] != "{"}
    assert literal & set(everything) == set()


def test_frequencies_fall_as_a_power_of_the_rank():
    counts = np.sort(word_world.expected_counts())[::-1]
    rank = np.log(np.arange(1, 301))
    slope, _ = np.polyfit(rank, np.log(counts[:300]), 1)
    assert -1.2 < slope < -0.7
    assert np.corrcoef(rank, np.log(counts[:300]))[0, 1] ** 2 > 0.95
    assert word_world.words()[int(word_world.expected_counts().argmax())] == "the"


def test_words_are_written_as_often_as_the_tables_say():
    ids, _ = word_world.sentence_ids(COUNT, seed=1)
    expected = word_world.expected_counts() * COUNT
    got = np.bincount(ids, minlength=len(expected))
    chi = ((got - expected) ** 2 / expected).sum()
    n = len(expected)
    assert abs(chi - n) < 6 * np.sqrt(2 * n)                # paragraphs share a theme: a little wider


def test_words_meet_as_often_as_the_tables_say(text):
    ids = word_world.word_ids()
    n = len(ids)
    got = np.zeros((n, n))
    for words in text[:30_000]:
        row = [ids[word] for word in words]
        for i, a in enumerate(row):
            for j, b in enumerate(row):
                if i != j:
                    got[a, b] += 1
    expected = 30_000 * word_world.expected_pairs()
    assert np.all(got[expected == 0] == 0)
    often = expected > 20
    z = (got - expected)[often] / np.sqrt(expected[often])
    assert abs(z.mean()) < 0.1 and 0.8 < z.std() < 1.6 and abs(z).max() < 8


def test_the_expected_meetings_of_a_small_frame_are_its_enumeration():
    """Independent check: "the {n} is a kind of {g}" under one theme, by a loop over its nouns."""
    ids = word_world.word_ids()
    weights = grammar.noun_weights()[0]
    share = {w: weights[ids[w]] / weights.sum() for w in NOUNS}
    mean = sum(share[w] for w in NOUNS if grammar.said_of(w, "g")[0] == "dog")
    rows = table("n")[0] / table("n")[0].sum()
    said = rows[[ids[w] for w in NOUNS]] @ (table("g") / table("g").sum(1, keepdims=True))
    assert said[ids["dog"]] == pytest.approx(mean)


def test_no_sentence_about_a_thing_says_how_it_looks(text):
    looks = {*COLOURS, *TEXTURES, "small", "large", "medium", "round", "square", "tall", "dark", "bright"}
    nouns = set(NOUNS)
    for words in text:
        said = set(words)
        assert not (looks & said and nouns & said), words
    assert not any(map(grammar.mentions_looks, text[:2000]))
    assert grammar.mentions_looks("the black raven".split())
    assert any(set(COLOURS) & set(words) for words in text)


def test_sentences_are_english_where_a_rule_can_be_checked(text):
    for words in text:
        for word, following in zip(words, words[1:]):
            if word in ("a", "an") and following in word_world.NOUNS:
                assert (word == "an") == (following[0] in "aeiou"), words
    assert any("an" in words for words in text)


def test_many_sentences_are_written_in_a_second():
    word_world.sentences(1000)
    rates = []
    for _ in range(3):
        begin = time.process_time()
        word_world.sentences(50_000)
        rates.append(50_000 / (time.process_time() - begin))
    assert max(rates) > 50_000


def test_wrong_numbers_and_splits_are_refused():
    with pytest.raises(ValueError, match="take 0 or more"):
        word_world.sentences(-1)
    with pytest.raises(ValueError, match="take one of train, val, test"):
        word_world.sentences(3, "zero_shot")
    with pytest.raises(ValueError, match="no word of the word world"):
        word_world.class_of("quark")


# ---- twins -------------------------------------------------------------------------------------------------

def exchanged(pair: tuple[str, str]) -> np.ndarray:
    """The words of the world with the names of a pair exchanged, as numbers."""
    ids = word_world.word_ids()
    order = np.arange(len(ids))
    a, b = (ids[word] for word in pair)
    order[[a, b]] = order[[b, a]]
    return order


@pytest.mark.parametrize("pair", TWINS, ids="-".join)
def test_exchanging_twins_maps_the_generator_onto_itself(pair):
    """Every table, words and conditions exchanged, is the table: so each sentence is as probable as its
    image."""
    order = exchanged(pair)
    rows = np.arange(len(NOUNS))
    a, b = (NOUNS.index(word) for word in pair)
    rows[[a, b]] = rows[[b, a]]
    for slot in {letter for frame in FRAMES for _, letter, _ in frame.slots}:
        weights = table(slot)
        of_nouns = slot in grammar._OF_NOUN
        image = weights[rows if of_nouns else np.arange(len(weights))][:, order]
        assert np.array_equal(image, weights), slot
    for frame in FRAMES:
        assert not set(pair) & set(frame.words)
    assert frame_weights().shape == (len(THEMES), len(FRAMES))       # of themes alone, not of words


def probability(words: list[str]) -> float:
    """Of a sentence, by going through all themes and frames: written apart from the generator."""
    total_weight = sum(theme.weight for theme in THEMES.values())
    ids, p = word_world.word_ids(), 0.0
    for z, theme in enumerate(THEMES.values()):
        shares = frame_weights()[z] / frame_weights()[z].sum()
        for number, frame in enumerate(FRAMES):
            if len(frame.words) != len(words):
                continue
            if any(w != said and w[0] != "{" for w, said in zip(frame.words, words)):
                continue
            q = theme.weight / total_weight * shares[number]
            for place, letter, noun in frame.slots:
                if noun >= 0 and words[noun] not in NOUNS:
                    q = 0.0
                    break
                row = table(letter)[z if noun < 0 else NOUNS.index(words[noun])]
                q *= row[ids[words[place]]] / row.sum()
            p += q
    return p


def test_a_sentence_and_its_image_are_equally_probable(text):
    tried = 0
    for pair in TWINS:
        swap = {pair[0]: pair[1], pair[1]: pair[0]}
        for words in [w for w in text[:8000] if set(w) & set(pair)][:4]:
            image = [swap.get(word, word) for word in words]
            assert probability(words) == pytest.approx(probability(image), rel=1e-12)
            assert probability(words) > 0
            tried += 1
    assert tried >= 30


@pytest.mark.parametrize("pair", TWINS, ids="-".join)
def test_expected_counts_of_twins_are_the_same_and_sampled_ones_up_to_noise(pair):
    order = exchanged(pair)
    single, pairs = word_world.expected_counts(), word_world.expected_pairs()
    np.testing.assert_allclose(single[order], single, rtol=1e-12)
    np.testing.assert_allclose(pairs[order][:, order], pairs, rtol=1e-9, atol=1e-15)


def test_counts_of_twins_differ_by_no_more_than_chance(text):
    """Any function of the count matrix gets the same up to sampling: rows of twins have the chi square of
    two samples from one distribution, rows of other pairs have not."""
    ids = word_world.word_ids()
    counts = np.zeros((len(NOUNS), len(ids)))
    place = {word: i for i, word in enumerate(NOUNS)}
    for words in text:
        for noun in set(words) & set(NOUNS):
            for word in words:
                if word != noun:
                    counts[place[noun], ids[word]] += 1

    def standardised(a: str, b: str) -> float:
        x, y = counts[place[a]].copy(), counts[place[b]].copy()
        keep = x + y >= 8
        keep[[ids[a], ids[b]]] = False
        x, y = x[keep], y[keep]
        ratio = np.sqrt(y.sum() / x.sum())
        chi = ((ratio * x - y / ratio) ** 2 / (x + y)).sum()
        return (chi - len(x) + 1) / np.sqrt(2 * len(x))

    twins = np.array([standardised(a, b) for a, b in TWINS])
    others = np.array([standardised(a, c) for (a, _), (_, c) in zip(TWINS, TWINS[1:])])
    assert abs(twins).max() < 4.5 and abs(twins.mean()) < 1.5
    assert others.min() > 10


def test_twins_look_different_and_are_both_pictured():
    assert len(TWINS) >= 10
    for a, b in TWINS:
        assert {a, b} <= set(PICTURED) and word_world.visual_similarity(a, b) < 0.7
        assert word_world.class_of(a) == word_world.class_of(b) == "kind"


# ---- pictures ----------------------------------------------------------------------------------------------

def test_pictures_of_a_word_vary_and_never_change():
    pictures = word_world.word_pictures("raven", 6)
    assert pictures.shape == (6, 3, 64, 64) and pictures.dtype == torch.uint8
    assert len({picture.numpy().tobytes() for picture in pictures}) == 6
    assert torch.equal(word_world.word_pictures("raven", 2, start=3), pictures[3:5])
    assert word_world.word_pictures("raven", 1, size=32).shape == (1, 3, 32, 32)
    assert not torch.equal(word_world.word_pictures("raven", 6, "test"), pictures)


def test_a_picture_shows_what_the_table_says():
    for word in NOUNS:
        kind = word_world.KINDS_OF_WORDS[word]
        for index in range(4):
            scene = word_world.word_scene(word, index, "test")
            thing = scene.objects[0]
            assert len(scene.objects) == 1 and thing.category == kind.drawing
            assert thing.colour in kind.colours and scene.setting in CATEGORY[kind.drawing].settings
            if word not in CATEGORY:
                assert thing.texture == kind.texture
            edges = (thing.x - thing.width / 2, thing.x + thing.width / 2, thing.y - thing.height / 2,
                     thing.y + thing.height / 2)
            assert min(edges) >= 0 and max(edges) <= 1, word
            assert (256 * np.array(edges) % 1 == 0).all(), word


def test_words_for_all_kinds_show_all_colours():
    shown = {word_world.word_scene("bird", i).objects[0].colour for i in range(80)}
    assert shown == set(CATEGORY["bird"].colours) - {"yellow"}            # yellow birds are held out


def test_words_of_one_genus_can_be_told_apart_by_their_looks():
    looks = [(k.drawing, k.colours, k.texture, k.size) for k in word_world.KINDS_OF_WORDS.values()]
    assert len(set(looks)) == len(looks)


def test_training_shows_nothing_that_the_scene_world_holds_out():
    for word in PICTURED:
        kind = word_world.KINDS_OF_WORDS[word]
        assert kind.drawing not in HELD_OUT_CATEGORIES
        assert not any((colour, kind.drawing) in HELD_OUT_PAIRS for colour in kind.colours), word


def test_words_that_are_never_pictured_are_refused_before_the_test():
    word = ZERO_SHOT[0]
    with pytest.raises(ValueError, match="never pictured before the test"):
        word_world.word_pictures(word, 1)
    assert len(word_world.word_pictures(word, 2, "test")) == 2


def test_words_without_pictures_and_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="no noun with pictures"):
        word_world.word_pictures("grief", 1)
    with pytest.raises(ValueError, match="several looks"):
        word_world.word_pictures("aircraft", 1)
    with pytest.raises(ValueError, match="at least 1"):
        word_world.word_pictures("raven", 0)
    with pytest.raises(ValueError, match="unknown"):
        word_world.word_pictures("raven", 1, "compositional")
    with pytest.raises(ValueError, match="numbered from 0"):
        word_world.word_scene("raven", -1)


# ---- similarities ------------------------------------------------------------------------------------------

def test_visual_similarity_is_one_for_a_word_and_symmetric_and_sees_shape_colour_texture():
    for a in NOUNS[::9]:
        assert word_world.visual_similarity(a, a) == pytest.approx(1)
        for b in NOUNS[::11]:
            assert 0 <= word_world.visual_similarity(a, b) <= 1 + 1e-9
            assert word_world.visual_similarity(a, b) == pytest.approx(word_world.visual_similarity(b, a))
    similar = word_world.visual_similarity
    assert similar("raven", "panther") > similar("raven", "panther") - 0.1 > similar("dove", "panther")
    assert similar("raven", "dove") > similar("raven", "villa")
    assert word_world.colour_similarity("poppy", "firefighter") == pytest.approx(1)
    assert word_world.shape_similarity("apple", "ball") > word_world.shape_similarity("apple", "tower")
    assert word_world.texture_similarity("taxi", "jeep") == 0


def test_the_table_of_visual_similarities_is_the_function():
    known = visual_similarities()
    for a in range(0, len(NOUNS), 23):
        for b in range(0, len(NOUNS), 17):
            assert known[a, b] == pytest.approx(word_world.visual_similarity(NOUNS[a], NOUNS[b]))


def test_similar_colours_are_near_in_the_pictures():
    words = [k.word for k in word_world.GENERA["bird"].kinds if k.texture == "plain" and k.word != "bird"]
    mean = {}
    for word in words:
        picture = render(word_world.word_scene(word, 1, "test"))
        mean[word] = picture.image[picture.masks[0]].mean(0)
    pairs = [(a, b) for i, a in enumerate(words) for b in words[i + 1:]]
    near = np.array([-np.linalg.norm(mean[a] - mean[b]) for a, b in pairs])
    known = np.array([word_world.colour_similarity(a, b) for a, b in pairs])
    assert np.corrcoef(near.argsort().argsort(), known.argsort().argsort())[0, 1] > 0.5


def test_relatedness_is_the_ppmi_cosine_of_the_expected_counts():
    pairs, ids = word_world.expected_pairs(), word_world.word_ids()
    content = [w for w in word_world.words() if word_world.class_of(w) != "function"]
    columns = [ids[w] for w in content]
    total = pairs[:, columns].sum()

    def row(word: str) -> np.ndarray:
        values = []
        for y in columns:
            n = pairs[ids[word], y]
            chance = pairs[ids[word], columns].sum() * pairs[:, y].sum() / total
            values.append(max(0.0, np.log(n / chance)) if n > 0 else 0.0)
        return np.array(values)

    for a, b in (("raven", "grief"), ("dog", "wolf"), ("price", "profit")):
        p, q = row(a), row(b)
        want = p @ q / np.linalg.norm(p) / np.linalg.norm(q)
        assert word_world.relatedness_of(a, b) == pytest.approx(want, rel=1e-9)
    assert word_world.relatedness_of("dog", "wolf") > 0.4 > word_world.relatedness_of("dog", "price")


def test_pairs_are_many_different_and_spread_over_the_scale():
    for pairs in (word_world.relatedness(2000), word_world.visual(2000), word_world.mixed(2000)):
        assert len(pairs) == 2000 == len({frozenset(p) for p in zip(pairs.first, pairs.second)})
        score = pairs.score.numpy()
        assert 0 <= score.min() < 0.15 and 0.85 < score.max() <= 1 + 1e-9
        assert np.histogram(score, 4)[0].min() > 30
    abstract = word_world.relatedness(500, "abstract")
    assert set(abstract.words) <= set(word_world.ABSTRACT)
    assert set(word_world.relatedness(500, "concrete").words) <= set(NOUNS)
    again = word_world.visual(100, seed=3)
    assert again.first == word_world.visual(100, seed=3).first != word_world.visual(100, seed=4).first
    mixed = word_world.mixed(50)
    for a, b, s in zip(mixed.first, mixed.second, mixed.score):
        want = (word_world.relatedness_of(a, b) + word_world.visual_similarity(a, b)) / 2
        assert float(s) == pytest.approx(want)


def test_pairs_within_given_words_and_wrong_counts():
    assert set(word_world.visual(40, ("raven", "dove", *NOUNS[:20])).words) <= {"raven", "dove", *NOUNS[:20]}
    with pytest.raises(ValueError, match="take 1 or more"):
        word_world.visual(100, NOUNS[:3])
    with pytest.raises(ValueError, match="take 'all'"):
        word_world.relatedness(10, "verbs")


def test_concreteness_is_between_one_and_five_and_high_for_what_is_drawn():
    known = word_world.concreteness()
    assert set(known) == set(word_world.words()) and min(known.values()) >= 1 and max(known.values()) <= 5
    assert min(known[w] for w in NOUNS) > 4.5 > 2 > max(known[w] for w in word_world.ABSTRACT)
    assert known["the"] < known["walks"] < known["kitchen"] < known["raven"]
