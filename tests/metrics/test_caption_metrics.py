"""The n-gram metrics: against their formulas written out, known corpora, and the reference implementation."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from mmlearn.metrics.bleu import bleu, bleu_from_counts, bleu_precision
from mmlearn.metrics.caption import METRICS, caption_scores, evaluate_captions
from mmlearn.metrics.cider import CiderD, cider, cider_d
from mmlearn.metrics.rouge import lcs_length, lcs_table, rouge_l

REFERENCES = [
    [
        "A red circle is left of a blue square.",
        "a red circle next to a blue square",
        "There is a blue square to the right of a red circle.",
    ],
    [
        "Two green triangles above a yellow star.",
        "two green triangles over one yellow star",
        "A yellow star below two green triangles.",
    ],
    [
        "A large white square in the middle.",
        "one big white square",
        "A large white square on a black background.",
    ],
    [
        "A small blue circle inside a big red square.",
        "a blue circle within a red square",
        "The red square contains a small blue circle.",
    ],
    [
        "Three stars: one red, one blue and one green.",
        "three stars of different colors",
        "A red star, a blue star and a green star.",
    ],
]
CANDIDATES = ["a red circle left of a blue square", "two green triangles above a star", "a white square",
              "a big red circle in a small blue square",
              "three stars three stars three stars of different colors"]
TOKENS = [c.split() for c in CANDIDATES]
REF_TOKENS = [[r.lower().translate(str.maketrans("", "", ".:,")).split() for r in refs]
              for refs in REFERENCES]

words = st.sampled_from(["a", "cat", "sits", "on", "the", "mat", "café", "ünï", "犬", "-lrb-", "?!"])
caption = st.lists(words, max_size=9)
corpus = st.lists(st.tuples(caption, st.lists(caption, min_size=1, max_size=4)), min_size=1, max_size=5)


def grams(sentence, n):
    return Counter(tuple(sentence[i:i + n]) for i in range(len(sentence) - n + 1))


def official(candidates, references):
    gts = {i: [" ".join(r) for r in refs] for i, refs in enumerate(references)}
    res = {i: [" ".join(c)] for i, c in enumerate(candidates)}
    return gts, res


@pytest.mark.equation("eq:bleu-precision")
@pytest.mark.equation("eq:bleu")
@settings(deadline=None)
@given(corpus)
def test_bleu_is_its_formula(pairs):
    matched, total, c, r = [0] * 4, [0] * 4, 0, 0
    for candidate, references in pairs:
        for n in (1, 2, 3, 4):
            for gram, count in grams(candidate, n).items():
                matched[n - 1] += min(count, max(grams(s, n)[gram] for s in references))
            total[n - 1] += max(0, len(candidate) - n + 1)
        c += len(candidate)
        r += min((abs(len(s) - len(candidate)), len(s)) for s in references)[1]
    result = bleu([p[0] for p in pairs], [p[1] for p in pairs])
    precisions = [(m + 1e-15) / (t + 1e-9) for m, t in zip(matched, total)]
    np.testing.assert_allclose(bleu_precision(result.correct.sum(0), result.guess.sum(0)), precisions,
                               atol=1e-12)
    ratio = (c + 1e-15) / (r + 1e-9)
    for n in (1, 2, 3, 4):
        want = math.prod(precisions[:n]) ** (1 / n) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1)
        assert result.corpus[n - 1] == pytest.approx(want, abs=1e-12)


def test_bleu_of_the_official_example_follows_from_its_counts():
    got = bleu_from_counts(np.array([5732, 2510, 1043, 423]), np.array([9893, 8893, 7893, 6893]),
                           np.array(9893), np.array(9855))
    np.testing.assert_allclose(got, [.5793995755, .4043912974, .2785363857, .1908290438], atol=5e-11)


def lcs(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a)):
        for j in range(len(b)):
            table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@settings(deadline=None)
@given(st.lists(words, max_size=80), st.lists(words, max_size=80))
def test_the_bit_vector_finds_the_longest_common_subsequence(a, b):
    assert lcs_length(a, b) == lcs(a, b)


@pytest.mark.equation("eq:lcs")
@given(st.lists(words, max_size=7), st.lists(words, max_size=7))
def test_the_table_of_common_subsequences_holds_the_longest_that_a_search_of_all_of_them_finds(a, b):
    def inside(part, whole):
        rest = iter(whole)
        return all(word in rest for word in part)

    table = lcs_table(a, b)
    for i, j in {(len(a), len(b)), (len(a) // 2, len(b)), (len(a), len(b) // 2)}:
        parts = [[w for k, w in enumerate(a[:i]) if kept >> k & 1] for kept in range(1 << i)]
        assert table[i, j] == max(len(part) for part in parts if inside(part, b[:j]))
    assert lcs_length(a, b) == table[-1, -1]


@pytest.mark.equation("eq:rouge-l")
@settings(deadline=None)
@given(corpus)
def test_rouge_l_is_its_formula(pairs):
    want = []
    for c, refs in pairs:
        c, refs = c or [""], [s or [""] for s in refs]
        P, R = max(lcs(c, s) / len(c) for s in refs), max(lcs(c, s) / len(s) for s in refs)
        want.append((1 + 1.2**2) * P * R / (R + 1.2**2 * P) if P else 0.0)
    result = rouge_l([p[0] for p in pairs], [p[1] for p in pairs])
    np.testing.assert_allclose(result.per_image, want, atol=1e-12)
    assert result.corpus == pytest.approx(sum(want) / len(want), abs=1e-12)


def tfidf(sentence, n, references):
    """g(s): count times log of how rare the n-gram is over the images."""
    images = len(references)
    return {
        gram: count
        * (
            math.log(images)
            - math.log(max(1, sum(any(gram in grams(s, n) for s in refs) for refs in references)))
        )
        for gram, count in grams(sentence, n).items()
    }


def cider_d_by_the_book(candidates, references, clip=True, sigma=6.0):
    out = []
    for c, refs in zip(candidates, references):
        total = 0.0
        for n in (1, 2, 3, 4):
            gc = tfidf(c, n, references)
            for s in refs:
                gs = tfidf(s, n, references)
                dot = sum((min(gc[k], gs[k]) if clip else gc[k]) * gs[k] for k in gc if k in gs)
                norm = math.sqrt(sum(v * v for v in gc.values())) * math.sqrt(sum(v * v for v in gs.values()))
                bigrams = max(0, len(c) - 1) - max(0, len(s) - 1)
                total += 10 / len(refs) * math.exp(-bigrams**2 / (2 * sigma**2)) * (dot / norm if norm else 0)
        out.append(total / 4)
    return out


@pytest.mark.equation("eq:cider-tfidf")
@pytest.mark.equation("eq:cider-d")
@settings(deadline=None)
@given(corpus)
def test_cider_d_is_its_formula(pairs):
    candidates, references = [p[0] for p in pairs], [p[1] for p in pairs]
    result = cider_d(candidates, references)
    np.testing.assert_allclose(result.per_image, cider_d_by_the_book(candidates, references), atol=1e-9)


@pytest.mark.equation("eq:cider")
@settings(deadline=None)
@given(corpus)
def test_the_original_cider_is_a_mean_of_cosines(pairs):
    candidates, references = [p[0] for p in pairs], [p[1] for p in pairs]
    result = cider(candidates, references, stem=False)
    want = np.array(cider_d_by_the_book(candidates, references, clip=False, sigma=math.inf)) / 10
    np.testing.assert_allclose(result.per_image, want, atol=1e-9)
    assert (result.per_image <= 1 + 1e-9).all()


def test_the_original_cider_compares_stems():
    references = [[["dogs", "running"]], [["a", "cat"]]]
    # no 3-, 4-grams
    assert cider([["dog", "runs"], ["a", "cat"]], references).per_image[0] == pytest.approx(0.5)
    assert cider([["dog", "runs"], ["a", "cat"]], references, stem=False).per_image[0] == 0


@pytest.mark.parity
@settings(deadline=None, max_examples=200)
@given(corpus)
@example([([], [[]])])
@example([(["a"], [["a"]]), ([], [["a", "cat"], []])])
@example([(["a"] * 9, [["a"] * 4, ["cat"]])])
def test_any_corpus_gets_the_numbers_of_the_reference_implementation(pairs):
    candidates, references = [p[0] for p in pairs], [p[1] for p in pairs]
    gts, res = official(candidates, references)
    want, per_image = Bleu(4).compute_score(gts, res, verbose=0)
    ours = caption_scores(candidates, references, [m for m in METRICS if m != "METEOR"])
    np.testing.assert_allclose([ours.corpus[f"Bleu_{n}"] for n in (1, 2, 3, 4)], want, atol=1e-9)
    np.testing.assert_allclose([ours.per_image[f"Bleu_{n}"] for n in (1, 2, 3, 4)], per_image, atol=1e-9)
    want, per_image = Rouge().compute_score(gts, res)
    np.testing.assert_allclose(ours.per_image["ROUGE_L"], per_image, atol=1e-9)
    assert ours.corpus["ROUGE_L"] == pytest.approx(want, abs=1e-9)
    # the reference implementation stops where none has a word
    if any(s for refs in references for s in refs):
        want, per_image = Cider().compute_score(gts, res)
        np.testing.assert_allclose(ours.per_image["CIDEr-D"], per_image, atol=1e-9)
        assert ours.corpus["CIDEr"] == ours.corpus["CIDEr-D"] == pytest.approx(want, abs=1e-9)


def test_the_known_corpus_has_the_known_scores():
    scores = caption_scores(TOKENS, REF_TOKENS, [m for m in METRICS if m != "METEOR"])
    np.testing.assert_allclose([scores.corpus[f"Bleu_{n}"] for n in (1, 2, 3, 4)],
                               [.8095364031, .6958665342, .6032427398, .4993961439], atol=5e-11)
    np.testing.assert_allclose(scores.per_image["ROUGE_L"],
                               [.9312977099, .9104477612, .6288659794, .5115303983, .7530864198], atol=5e-11)
    np.testing.assert_allclose(scores.per_image["CIDEr-D"],
                               [3.6277523704, 4.3731947481, 1.9987125910, 2.2487118097, 1.5728050932],
                               atol=5e-11)
    assert scores.corpus["CIDEr-D"] == pytest.approx(2.7642353225, abs=5e-11)
    counted = bleu(TOKENS, REF_TOKENS)
    assert (counted.candidate_length.sum(), counted.reference_length.sum()) == (35, 37)
    assert counted.correct.sum(0).tolist() == [30, 19, 12, 6]
    assert counted.guess.sum(0).tolist() == [35, 30, 25, 20]


@pytest.mark.parametrize(("options", "want"), [
    ({"clip": False}, 2.9542), ({"sigma": math.inf}, 2.9523), ({"clip": False, "sigma": math.inf}, 3.1648)])
def test_without_clip_or_length_penalty_the_repeater_gains(options, want):
    assert CiderD(REF_TOKENS, **options).score(TOKENS).corpus == pytest.approx(want, abs=5e-5)


def test_a_copy_of_one_of_three_references_is_far_from_ten():
    assert cider_d([refs[0] for refs in REF_TOKENS], REF_TOKENS).corpus == pytest.approx(5.0607, abs=5e-5)


def test_one_image_alone_scores_zero_because_nothing_is_rare():
    assert cider_d([["a", "cat"]], [[["a", "cat"]]]).corpus == 0


def test_rewards_of_a_batch_equal_those_of_the_whole_corpus():
    reward, whole = CiderD(REF_TOKENS), cider_d(TOKENS, REF_TOKENS)
    np.testing.assert_allclose(reward([TOKENS[3], TOKENS[0], TOKENS[3]], [3, 0, 3]),
                               whole.per_image[[3, 0, 3]])


def test_with_each_caption_a_document_frequencies_count_captions():
    reward = CiderD(REF_TOKENS, documents="caption")
    assert reward.index.num_documents == 15
    captions = [set(words) for refs in REF_TOKENS for words in refs]
    for word, i in reward.index.words.items():
        assert reward.weights[0][i] == pytest.approx(math.log(15 / sum(word in c for c in captions)))


def test_an_end_token_makes_a_cut_caption_lose_its_reward():
    ended = [[[*s, "<eos>"] for s in refs] for refs in REF_TOKENS]
    whole, cut = REF_TOKENS[0][1], [*REF_TOKENS[0][1], "with", "a"]
    gap = [CiderD(r).score([w + end for w in (whole, cut)], [0, 0]).per_image
           for r, end in ((REF_TOKENS, []), (ended, ["<eos>"]))]
    assert gap[1][0] - gap[1][1] > gap[0][0] - gap[0][1] > 0


def test_the_table_has_the_official_keys_and_takes_raw_text():
    scores = evaluate_captions(dict(enumerate(CANDIDATES)), dict(enumerate(REFERENCES)))
    assert list(scores) == ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "CIDEr-D"]
    assert scores["METEOR"] == pytest.approx(.4435482933, abs=5e-11)
    assert scores["CIDEr"] == pytest.approx(2.7642353225, abs=5e-11)


@pytest.mark.parametrize(("candidates", "references", "complaint"), [
    ([["a"]], [], "1 candidates for 0"), ([], [], "no candidate"), ([["a"]], [[]], "at least one"),
    (["a cat"], [[["a"]]], "list of words"), ([["a"]], [["a cat"]], "list of words")])
def test_wrong_input_is_named(candidates, references, complaint):
    for metric in (bleu, rouge_l, cider_d, cider):
        with pytest.raises(ValueError, match=complaint):
            metric(candidates, references)


def test_an_image_without_candidate_is_named():
    with pytest.raises(ValueError, match="1 of 2 images have no candidate, the first is 'b'"):
        evaluate_captions({"a": "x"}, {"a": ["x"], "b": ["y"]})


def test_an_image_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="from 0 to 4"):
        CiderD(REF_TOKENS).score([["a"]], [5])


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="'CIDER' is unknown"):
        caption_scores(TOKENS, REF_TOKENS, ["CIDER"])
