"""METEOR: the formula, the alignment, and the official Java program."""

import itertools
import random
import shutil

import numpy as np
import pytest

from mmlearn.metrics.meteor import meteor, meteor_score, normalise
from mmlearn.metrics.meteor_alignment import Aligner
from mmlearn.metrics.meteor_tables import available_stages, synonyms

CANDIDATES = ["a red circle left of a blue square", "two green triangles above a star", "a white square",
              "a big red circle in a small blue square",
              "three stars three stars three stars of different colors"]
REFERENCES = [
    [
        "a red circle is left of a blue square",
        "a red circle next to a blue square",
        "there is a blue square to the right of a red circle",
    ],
    [
        "two green triangles above a yellow star",
        "two green triangles over one yellow star",
        "a yellow star below two green triangles",
    ],
    [
        "a large white square in the middle",
        "one big white square",
        "a large white square on a black background",
    ],
    [
        "a small blue circle inside a big red square",
        "a blue circle within a red square",
        "the red square contains a small blue circle",
    ],
    [
        "three stars one red one blue and one green",
        "three stars of different colors",
        "a red star a blue star and a green star",
    ],
]
CHOSEN = [((8, 9, 3, 4), (5, 5, 3, 3), (2, 8, 8)), ((6, 7, 2, 2), (4, 4, 2, 2), (2, 6, 6)),
          ((3, 4, 1, 1), (2, 2, 0, 0), (1, 2, 2)), ((9, 9, 3, 2), (6, 6, 2, 2), (4, 8, 8)),
          ((9, 5, 1, 1), (4, 4, 1, 1), (1, 5, 5))]
SCORES = [.5206965804, .4384876665, .3001065939, .4208543278, .4963999070]


def by_the_book(lengths, exact, rest):
    """The formula for a caption whose matches are all exact."""
    (len_h, len_r, f_h, f_r), (c_h, c_r, g_h, g_r), (chunks, m_h, m_r) = lengths, exact, rest
    P = (.75 * c_h + .25 * g_h) / (.75 * (len_h - f_h) + .25 * f_h)
    R = (.75 * c_r + .25 * g_r) / (.75 * (len_r - f_r) + .25 * f_r)
    F = 1 / (.15 / P + .85 / R)
    penalty = 0 if m_h == len_h and m_r == len_r and chunks == 1 else .6 * (chunks / ((m_h + m_r) / 2)) ** .2
    return (1 - penalty) * F


def split(captions):
    return [c.split() for c in captions]


@pytest.mark.equation("eq:meteor")
def test_the_score_is_its_formula_on_the_known_statistics():
    for (lengths, exact, rest), want in zip(CHOSEN, SCORES):
        statistics = [float(x) for x in (*lengths, *exact, *[0] * 12, *rest)]
        assert meteor_score(statistics) == pytest.approx(by_the_book(lengths, exact, rest), abs=1e-12)
        assert meteor_score(statistics) == pytest.approx(want, abs=5e-11)


def test_the_known_corpus_has_the_known_statistics_and_scores():
    result = meteor(split(CANDIDATES), [split(refs) for refs in REFERENCES])
    np.testing.assert_allclose(result.per_image, SCORES, atol=5e-11)
    assert result.corpus == pytest.approx(.4435482933, abs=5e-11)
    for row, (lengths, exact, rest) in zip(result.statistics.tolist(), CHOSEN):
        assert row == [*lengths, *exact, *[0.0] * 12, *rest]


def test_exact_and_stem_alone_are_a_lower_bound_with_a_name():
    result = meteor([["a", "big", "dog", "runs"]], [[["a", "large", "dog", "running"]]],
                    stages=("exact", "stem"))
    full = meteor([["a", "big", "dog", "runs"]], [[["a", "large", "dog", "running"]]])
    assert result.stages == ("exact", "stem")
    assert result.corpus < full.corpus


@pytest.mark.equation("eq:meteor-alignment")
def test_the_alignment_covers_most_words_in_fewest_chunks():
    rng = random.Random(0)
    for _ in range(60):
        c, r = (rng.choices("abcd", k=rng.randint(1, 6)) for _ in range(2))
        best = (0, 0)
        for size in range(min(len(c), len(r)), 0, -1):
            options = [list(zip(at, rows)) for rows in itertools.combinations(range(len(r)), size)
                       for at in itertools.permutations(range(len(c)), size)
                       if all(c[i] == r[j] for i, j in zip(at, rows))]
            if options:
                chunks = [1 + sum(b != (a[0] + 1, a[1] + 1) for a,
                                  b in itertools.pairwise(links)) for links in options]
                best = (size, min(chunks))
                break
        statistics = Aligner(("exact",)).statistics([*c, "x"], [*r, "y"])       # x, y: never equal captions
        assert (statistics[21], statistics[20]) == best


def test_a_perfect_copy_has_no_penalty():
    assert meteor([["a", "black", "cat"]], [[["a", "black", "cat"]]], stages=("exact",)).corpus == 1


def test_nothing_in_common_scores_zero():
    assert meteor([["x"], []], [[["y"]], [["z"]]], stages=("exact",)).corpus == 0


def test_wordnet_knows_synonyms_and_irregular_forms():
    assert synonyms("car") & synonyms("automobile")
    assert synonyms("men") & synonyms("man")
    assert not synonyms("car") & synonyms("dog")


def test_its_own_tokens_split_hyphens_and_apostrophes():
    assert normalise(["a", "red-and-blue", "man", "'s", "t-shirt", "is", "n't", "10,000", "p.m."]) == \
        "a red and blue man ' s t shirt is n 't 10,000 pm".split()


def test_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match="'synonyms' is unknown"):
        meteor([["a"]], [[["a"]]], stages=("exact", "synonyms"))


def test_a_stage_without_its_table_is_refused(monkeypatch):
    monkeypatch.setattr("mmlearn.metrics.meteor_tables.find_spec", lambda name: None)
    assert available_stages() == ("exact", "stem")
    with pytest.raises(FileNotFoundError, match="pip install pycocoevalcap"):
        meteor([["a"]], [[["a"]]], stages=("exact", "synonym"))


@pytest.mark.slow
@pytest.mark.parity
def test_captions_get_the_score_of_the_official_program():
    if shutil.which("java") is None:
        pytest.skip("there is no `java` on the PATH: the official METEOR was not compared")
    from pycocoevalcap.meteor.meteor import Meteor

    rng = random.Random(0)
    words = ("a a a the the two red green blue big large small man men woman person child dog dogs puppy cat "
             "sits sitting "
             "stands standing on next to near in front of behind left right with and is are there grass "
             "street road car "
             "automobile bus bike bicycle riding rides holds playing ball picture photo group of people "
             "couple 's n't").split()
    candidates = [" ".join(rng.choices(words, k=rng.randint(1, 13))) for _ in range(80)]
    references = [[" ".join(rng.choices(words, k=rng.randint(1, 13))) for _ in range(3)] for _ in range(80)]
    want, per_image = Meteor().compute_score(
        dict(enumerate(references)), {i: [c] for i, c in enumerate(candidates)}
    )
    result = meteor(split(candidates), [split(refs) for refs in references])
    np.testing.assert_allclose(result.per_image, per_image, atol=1e-9)
    assert result.corpus == pytest.approx(want, abs=1e-9)
