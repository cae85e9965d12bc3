"""Rank correlation and its bootstrap by hand and by scipy, files of pairs, gensim's evaluations."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlearn.data.word_vectors import MUL, WordVectors, read_vectors
from mmlearn.metrics import similarity
from mmlearn.metrics.similarity import (
    Analogies,
    WordPairs,
    by_threshold,
    common_words,
    compare,
    correlation,
    evaluate_analogies,
    evaluate_pairs,
    halves,
    interval,
    paired_difference,
    pairs_within,
    ranks,
    read_analogies,
    read_pairs,
    resampled,
    sign_probability,
    spearman,
    spearman_interval,
)

VALUES = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=12)


def by_hand(x):
    return [1 + sum(b < a for b in x) + sum(b == a for j, b in enumerate(x) if j != i) / 2
            for i, a in enumerate(x)]


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


@pytest.mark.equation("eq:sim-ranks")
@given(VALUES)
@settings(max_examples=80, deadline=None)
def test_ranks_count_what_is_smaller_and_half_of_what_is_equal(pairs):
    x = [float(a) for a, _ in pairs]
    assert ranks(tensor(x)).tolist() == by_hand(x)


@pytest.mark.equation("eq:sim-correlation")
def test_the_correlation_is_the_sum_of_products_over_both_spreads():
    x, y = torch.randn(2, 9).double()
    mx, my = sum(x.tolist()) / 9, sum(y.tolist()) / 9
    top = sum((a - mx) * (b - my) for a, b in zip(x.tolist(), y.tolist()))
    below = math.sqrt(sum((a - mx) ** 2 for a in x.tolist()) * sum((b - my) ** 2 for b in y.tolist()))
    assert float(correlation(x, y)) == pytest.approx(top / below)


@pytest.mark.equation("eq:sim-spearman")
@pytest.mark.parity
@given(VALUES)
@settings(max_examples=80, deadline=None)
def test_spearman_is_that_of_scipy_with_ties(pairs):
    from scipy.stats import spearmanr

    a, b = (tensor(one) for one in zip(*pairs))
    got = spearman(a, b)
    if len(a.unique()) < 2 or len(b.unique()) < 2:
        assert math.isnan(got)
    else:
        assert got == pytest.approx(float(spearmanr(a.numpy(), b.numpy()).statistic), abs=1e-12)


def test_spearman_of_too_little_or_of_what_is_no_number():
    assert math.isnan(spearman(tensor([1]), tensor([2])))
    assert spearman(tensor([1, 2]), tensor([5, 3])) == pytest.approx(-1)
    with pytest.raises(ValueError, match="2 and 3 values"):
        spearman(tensor([1, 2]), tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="not numbers"):
        spearman(tensor([1, math.nan]), tensor([1, 2]))


# --------------------------------------------------------------------------------------------- bootstrap


def test_counted_ranks_are_the_ranks_of_the_pairs_that_were_drawn():
    x = tensor([3, 1, 1, 2, 5])
    y, z = tensor([1, 2, 2, 7, 3]), tensor([4, 4, 1, 0, 2])
    drawn = torch.randint(5, (40, 5), generator=torch.Generator().manual_seed(3))
    got = resampled([x, z], y, 40, torch.Generator().manual_seed(3))
    for k, one in enumerate((x, z)):
        for i, row in enumerate(drawn):
            want = spearman(one[row], y[row])
            assert float(got[k, i]) == pytest.approx(want, abs=1e-12, nan_ok=True)


@pytest.mark.equation("eq:sim-bootstrap")
def test_the_interval_holds_the_middle_share_of_the_draws():
    draws = torch.randperm(101).double()
    assert interval(draws, 0.9) == pytest.approx((5, 95))
    a = torch.randn(60, generator=torch.Generator().manual_seed(0)).double()
    b = a + torch.randn(60, generator=torch.Generator().manual_seed(1)).double()
    found = spearman_interval(a, b, 400, generator=torch.Generator().manual_seed(2))
    assert found.low < found.value == spearman(a, b) < found.high
    by_loop = []
    g = torch.Generator().manual_seed(5)
    for _ in range(400):
        rows = torch.randint(60, (60,), generator=g)
        by_loop.append(spearman(a[rows], b[rows]))
    low, high = torch.tensor(by_loop).double().quantile(tensor([0.025, 0.975])).tolist()
    assert found.low == pytest.approx(low, abs=0.06) and found.high == pytest.approx(high, abs=0.06)


@pytest.mark.equation("eq:sim-paired")
def test_two_models_that_err_alike_differ_more_surely_than_their_intervals_say():
    assert sign_probability(tensor([1, 2, 3, -1])) == pytest.approx(2 * (1 + 1) / 5)
    assert sign_probability(tensor([0.0] * 9)) == 1 and sign_probability(tensor([1.0] * 999)) == 0.002
    g = torch.Generator().manual_seed(0)
    truth, shared, own = torch.randn(3, 200, generator=g).double()
    better, worse = truth + 0.9 * shared, truth + 0.9 * shared + 0.35 * own
    found = paired_difference(better, worse, truth, 500, generator=torch.Generator().manual_seed(1))
    one, other = (spearman_interval(x, truth, 500, generator=torch.Generator().manual_seed(1))
                  for x in (better, worse))
    assert found.value == pytest.approx(one.value - other.value) and 0 < found.low < found.high
    assert found.p < 0.05 and one.low < other.high                      # the intervals overlap
    same = paired_difference(better, better, truth, 100)
    assert same == (0, 0, 0, 1)


def test_an_interval_of_nothing_is_refused():
    for a, options, part in ((tensor([1, 2]), {}, "2 pairs"), (tensor([1, 1, 1]), {}, "all 3 values are 1"),
                             (tensor([1, 2, 3]), {"samples": 0}, "0 draws"),
                             (tensor([1, 2, 3]), {"level": 1.0}, "level 1.0")):
        with pytest.raises(ValueError, match=part):
            spearman_interval(a, torch.arange(len(a)).double(), **options)


# --------------------------------------------------------------------------------------------- evaluation


def small(words="a b c d e", seed=0):
    names = tuple(words.split())
    return WordVectors(names, torch.randn(len(names), 4, generator=torch.Generator().manual_seed(seed)))


def pairs_of(words, scores=None):
    two = list(itertools.combinations(words.split(), 2))
    values = torch.arange(len(two)).double() if scores is None else tensor(scores)
    return WordPairs(tuple(a for a, _ in two), tuple(b for _, b in two), values)


def test_pairs_with_an_unknown_word_are_left_out_and_counted():
    vectors, pairs = small(), pairs_of("a b c x")
    known = [(a, b, s) for a, b, s in zip(pairs.first, pairs.second, pairs.score.tolist()) if b != "x"]
    want = spearman(tensor([vectors.cosine(a, b) for a, b, _ in known]), tensor([s for *_, s in known]))
    got = evaluate_pairs(vectors, pairs)
    assert got == {"spearman": pytest.approx(want), "pairs": 6, "covered": 3}
    assert evaluate_pairs(lambda a, b: tensor([math.nan] * len(a)), pairs)["covered"] == 0
    lone = evaluate_pairs(small("a"), pairs)
    assert math.isnan(lone["spearman"]) and lone["covered"] == 0


def test_words_are_looked_up_in_any_spelling_the_first_of_them():
    vectors, pairs = small("Cat DOG cat"), WordPairs(("cat",), ("dog",), tensor([1]))
    of = similarity.likeness(vectors)
    assert float(of(["cat"], ["dog"])) == pytest.approx(vectors.cosine("Cat", "DOG"), abs=1e-6)
    assert evaluate_pairs(vectors, pairs, fold_case=False)["covered"] == 0
    assert evaluate_pairs(vectors, pairs, first=1)["covered"] == 0


def test_models_are_compared_on_the_pairs_that_all_of_them_know():
    one, two, pairs = small("a b c d e"), small("b c d e f", 1), pairs_of("a b c d e f")
    found = compare({"one": one, "two": two}, pairs)
    inner = pairs_within(pairs, common_words(one.words, two.words))
    assert common_words(one.words, two.words) == ["b", "c", "d", "e"] and inner.words == ["b", "c", "d", "e"]
    for name, model in (("one", one), ("two", two)):
        alone, within = evaluate_pairs(model, pairs), evaluate_pairs(model, inner)
        assert found[name] == {**alone, "common": pytest.approx(within["spearman"]), "shared": 6}
        assert alone["covered"] == 10


def test_halves_are_parted_by_the_mean_concreteness_of_a_pair():
    pairs = pairs_of("a b c d")                                         # ab ac ad bc bd cd
    concreteness = {"a": 5.0, "b": 4.0, "c": 1.0}
    parts = halves(pairs, concreteness)
    assert (parts["concrete"].first, parts["concrete"].second) == (("a", "a"), ("b", "c"))
    assert (parts["abstract"].first, parts["abstract"].second) == (("b",), ("c",))
    assert len(halves(pairs, concreteness, 4)["concrete"]) == 1
    rows = by_threshold(small("a b c d"), pairs, concreteness, [0, 3, 6])
    assert [row["pairs"] for row in rows] == [3, 2, 0] and [row["threshold"] for row in rows] == [0, 3, 6]
    with pytest.raises(ValueError, match="none of the 6 pairs"):
        halves(pairs, {})


# ------------------------------------------------------------------------------------------------- files


@pytest.mark.parity
@pytest.mark.parametrize("name, count", [("wordsim353.tsv", 353), ("simlex999.txt", 999)])
def test_pairs_of_files_score_vectors_as_gensim_scores_them(name, count):
    from gensim.models import KeyedVectors
    from gensim.test.utils import datapath

    theirs = KeyedVectors.load_word2vec_format(datapath("lee_fasttext.vec"))
    _, want, unknown = theirs.evaluate_word_pairs(datapath(name))
    pairs = read_pairs(datapath(name))
    got = evaluate_pairs(read_vectors(datapath("lee_fasttext.vec")), pairs)
    assert got["spearman"] == pytest.approx(float(want[0]), abs=1e-6) and got["pairs"] == len(pairs) == count
    assert 100 * (1 - got["covered"] / got["pairs"]) == pytest.approx(unknown)


@pytest.mark.parity
def test_booklet_b1_ratings_of_people_are_no_cosines():
    from gensim.test.utils import datapath

    for name in ("wordsim353.tsv", "simlex999.txt"):
        pairs = read_pairs(datapath(name))
        assert 0 <= float(pairs.score.min()) and 9 < float(pairs.score.max()) <= 10     # not from -1 to 1
        cosine = torch.randn(len(pairs), generator=torch.Generator().manual_seed(0)).double()
        assert spearman(cosine, pairs.score) == spearman(cosine, pairs.score / 5 - 1)   # nor need they be


def test_files_of_pairs_come_in_several_forms(tmp_path):
    forms = {"ws.csv": "Word 1,Word 2,Human (mean)\nlove,sex,6.77\ntiger,cat,7.35\n",
             "men.txt": "love sex 6.77\ntiger cat 7.35\n",
             "simlex.txt": "word1\tword2\tPOS\tSimLex999\tconc(w1)\nlove\tsex\tN\t6.77\t2\n"
                           "tiger\tcat\tN\t7.35\t5\n",
             "rw.txt": "love\tsex\t6.77\t1\t10\ntiger\tcat\t7.35\t3\t9\r\n\n",
             "comments.tsv": "\ufeff# about\n# Word 1\tWord 2\tHuman (mean)\nlove\tsex\t6.77\n\n"
                             "tiger\tcat\t7.35",
             "semicolons.csv": "love;sex;6.77\ntiger;cat;7.35\n"}
    for name, text in forms.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        pairs = read_pairs(tmp_path / name)
        assert (pairs.first, pairs.second) == (("love", "tiger"), ("sex", "cat")), name
        assert pairs.score.tolist() == [6.77, 7.35]
    assert read_pairs(tmp_path / "simlex.txt", "conc(w1)").score.tolist() == [2, 5]
    assert read_pairs(tmp_path / "rw.txt", 5).score.tolist() == [10, 9]


@pytest.mark.parametrize("content, part", [
    (b"", "holds no pair"), (b"# only\n\n", "holds no pair"), (b"w1\tw2\tscore\n", "no line comes after"),
    (b"2 2\na 1 0\nb 0 1\n", "line 2: 1 is no word, so this seems to be a file of vectors"),
    (b"To be or not\nto be\n", "line 2: .* is no pair with a score"),
    (b"a\tb\t1\nc\td\n", "line 2: 'c . d' is no pair with a score in column 3"),
    (b"a\tb\t1\nc\t\t2\n", "line 2: .* is no pair"), (b"a\tb\t1\nc\td\tx\n", "line 2: the score is 'x'"),
    (b"a\tb\t1\nc\td\tnan\n", "line 2: the score is 'nan'"), (b"a\tb\t1\nH\xfc\td\t1\n", "not UTF-8")])
def test_a_broken_file_of_pairs_is_one_sentence(content, part, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=part) as error:
        read_pairs(path)
    assert str(path) in str(error.value) and "; " in str(error.value) and "\n" not in str(error.value)


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("w1\tw2\tscore\na\tb\t1\n")
    for column, part in (("mean", "its columns are w1, w2, score"), (4, "the words are columns 1 and 2, and "
                         "the last is 3"), (2, "give the number of one after")):
        with pytest.raises(ValueError, match=part):
            read_pairs(path, column)
    with pytest.raises(FileNotFoundError, match="no file at"):
        read_pairs(tmp_path / "none")


# --------------------------------------------------------------------------------------------- analogies


@pytest.mark.parity
def test_analogies_are_scored_as_gensim_scores_them():
    from gensim.models import KeyedVectors
    from gensim.test.utils import datapath

    theirs = KeyedVectors.load_word2vec_format(datapath("lee_fasttext.vec"))
    sections = read_analogies(datapath("questions-words.txt"))
    assert len(sections) == 14 and sum(len(section.questions) for section in sections) == 19_544
    ours = read_vectors(datapath("lee_fasttext.vec"))
    want, theirs_by_section = theirs.evaluate_word_analogies(datapath("questions-words.txt"))
    got = evaluate_analogies(ours, sections)
    assert got["total"]["accuracy"] == pytest.approx(want)
    for section in theirs_by_section[:-1]:
        mine = got[section["section"]]
        assert (mine["correct"], mine["covered"] - mine["correct"]) == (
            len(section["correct"]), len(section["incorrect"]))


def test_an_answer_is_none_of_the_three_words_in_any_spelling():
    words = ("man", "woman", "king", "queen", "King", "KING")
    male, female, royal = torch.eye(3)
    kings = [royal + share * female for share in (1, 0.7, 0.8)]
    vectors = WordVectors(words, torch.stack([male, female, royal + male, *kings]))
    asked = [Analogies("royal", (("man", "woman", "king", "queen"), ("a", "b", "c", "d")))]
    for method in ("3CosAdd", MUL):
        got = evaluate_analogies(vectors, asked, method)
        assert got["royal"] == got["total"] == {"accuracy": 1, "correct": 1, "covered": 1, "questions": 2}
    strict = evaluate_analogies(vectors, asked, fold_case=False, first=3)
    assert math.isnan(strict["total"]["accuracy"]) and strict["total"]["covered"] == 0


@pytest.mark.parametrize("text, part", [("", "asks no question"), (": a\n", "asks no question"),
                                        ("a b c d\n", "line 1: .* words before the first section"),
                                        (": x\na b c\n", "line 2: 'a b c' are 3 words")])
def test_a_broken_file_of_analogies_is_one_sentence(text, part, tmp_path):
    path = tmp_path / "q.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=part) as error:
        read_analogies(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("rows, part", [
    ("cat;dog;1,5\ncat;bird;2,5\n", "line 1: the score is '1,5', expected a number with a point"),
    ("cat dog 1,5\ncat bird 2,5\n", "line 1: the score is '1,5', expected a number with a point"),
    ("a;b;score\ncat;dog;1,5\n", "line 2: the score is '1,5', expected a number with a point"),
    ("new york\tcity\nparis\tcity\t3\n", "line 1: .* is neither a pair with a score nor a header"),
    ('"cat,dog,1\n"cat",bird,2\n', "line 1: ")])
def test_a_table_of_another_country_or_hand_is_refused_in_its_words(rows, part, tmp_path):
    (tmp_path / "pairs.txt").write_text(rows)
    with pytest.raises(ValueError, match=part):
        read_pairs(tmp_path / "pairs.txt")


def test_a_column_of_too_many_digits_is_named_in_short(tmp_path):
    (tmp_path / "pairs.txt").write_text("cat;dog;1.5\ncat;bird;2\n")
    assert read_pairs(tmp_path / "pairs.txt").score.tolist() == [1.5, 2]
    with pytest.raises(ValueError, match="has no column '9{39}…'"):
        read_pairs(tmp_path / "pairs.txt", "9" * 5000)


def test_nothing_to_compare_and_draws_without_an_order_are_said():
    pairs = WordPairs(("a", "b"), ("b", "c"), torch.tensor([1.0, 2]))
    for call, part in ((lambda: compare({}, pairs), "no model to compare"), (common_words, "no vocabulary")):
        with pytest.raises(ValueError, match=part):
            call()
    few = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 2])          # most draws hold the first value alone
    outcomes = set()
    for seed in range(20):
        try:
            outcomes.add(len(spearman_interval(few, few, 1, generator=torch.Generator().manual_seed(seed))))
        except ValueError as error:
            outcomes.add(str(error))
    assert outcomes == {3, "in all draws the values are equal, which have no order; take more samples"}
