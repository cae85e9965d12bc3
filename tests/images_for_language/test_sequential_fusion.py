"""Sequential fusion: what the SVD keeps, what the split changes, what a weight means; the whole pipeline."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmlearn.images_for_language import sequential_fusion
from mmlearn.images_for_language.counts import weigh, window_counts
from mmlearn.images_for_language.sequential_fusion import (
    RANKS,
    SHARES,
    Blocks,
    FusedSpace,
    SequentialFusionConfig,
    compact,
    fuse,
    fuse_features,
    fuse_scores,
    fused_cosines,
    inner,
    inner_cosines,
    joined,
    krylov_svd,
    low_rank,
    mixed,
    multimodal_space,
    score_weight,
    settings,
    split,
    truncated_svd,
    tuned,
    unit_rows,
)
from mmlearn.images_for_language.visual_words import BagOfVisualWords, VisualWordsConfig
from mmlearn.metrics.similarity import WordPairs, evaluate_pairs


def table(rows, columns, seed=0):
    """Counts as a corpus has them: many zeros, few large ones."""
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, columns, dtype=torch.float64, generator=g) ** 4 * 9).floor()


TEXT, IMAGE = table(9, 12), table(9, 20, 1)


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def pairs(n):
    return torch.triu_indices(n, n, 1).unbind()


@pytest.mark.equation("eq:fusion-rows")
def test_rows_have_unit_length_and_a_row_of_zeros_stays_one():
    x = table(5, 7, 2)
    x[3] = 0
    for i, row in enumerate(unit_rows(x)):
        want = x[i] / math.sqrt(float((x[i] ** 2).sum())) if i != 3 else x[i]
        torch.testing.assert_close(row, want)
    sparse = unit_rows(x.to_sparse())
    assert sparse.is_sparse
    torch.testing.assert_close(sparse.to_dense(), unit_rows(x))


# ------------------------------------------------------------------------------------------------------- SVD

@pytest.mark.equation("eq:fusion-mix")
def test_the_truncated_table_is_the_nearest_of_its_rank():
    """Eckart and Young: what is left out is the sum of the squared singular values; no other table does
    better."""
    M = torch.cat([unit_rows(TEXT), unit_rows(IMAGE)], dim=1)
    singular = torch.linalg.svdvals(M)
    generator = torch.Generator().manual_seed(0)
    for k in (1, 3, 8):
        U, S, V = truncated_svd(M, k)
        lost = float((M - low_rank(U, S, V)).square().sum())
        assert lost == pytest.approx(float(singular[k:].square().sum()))
        naive = sum(S[i] * torch.outer(U[:, i], V[:, i]) for i in range(k))
        torch.testing.assert_close(low_rank(U, S, V), naive)
        for _ in range(20):
            A = U + 0.1 * torch.randn(U.shape, dtype=U.dtype, generator=generator)
            other = A @ torch.linalg.lstsq(A, M).solution             # the best of rank k with these columns
            assert float((M - other).square().sum()) >= lost - 1e-12


@pytest.mark.parity
@pytest.mark.parametrize("sparse", [False, True])
def test_the_mixing_is_scikit_learns_truncated_svd(sparse):
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD

    M = torch.cat([unit_rows(weigh(table(30, 40, 3))), unit_rows(weigh(table(30, 25, 4)))], dim=1)
    for k in (2, 10):
        peer = TruncatedSVD(k, algorithm="arpack")
        mixed_rows = peer.fit_transform(csr_matrix(M.numpy())) @ peer.components_
        ours = low_rank(*(krylov_svd(M.to_sparse(), k) if sparse else truncated_svd(M, k)))
        np.testing.assert_allclose(ours.numpy(), mixed_rows, atol=1e-7 if sparse else 1e-12)


def test_a_large_table_is_never_made_dense(monkeypatch):
    """Products with the sparse table alone give the same singular values and the same table of low rank."""
    x = table(60, 300, 5)
    U, S, V = truncated_svd(x, 6)
    sparse = x.to_sparse()
    monkeypatch.setattr(sequential_fusion, "CELLS", 100)
    monkeypatch.setattr(torch.Tensor, "to_dense", None)
    u, s, v = truncated_svd(sparse, 6)
    assert u.shape == (60, 6) and v.shape == (300, 6)
    torch.testing.assert_close(s, S)
    torch.testing.assert_close(low_rank(u, s, v), low_rank(U, S, V), rtol=0, atol=1e-4)


def test_a_table_has_no_more_singular_values_than_rows_or_columns():
    assert truncated_svd(table(4, 3), 50)[1].shape == (3,)
    assert krylov_svd(table(4, 3).to_sparse(), 3)[1].shape == (3,)
    thin = torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 9)).double()         # of rank 1
    U, S, V = krylov_svd(thin.to_sparse(), 4)
    torch.testing.assert_close(low_rank(U, S, V), thin)
    torch.testing.assert_close(U.mT @ U, torch.eye(4, dtype=torch.float64))


@pytest.mark.equation("eq:fusion-split")
@pytest.mark.equation("eq:fusion-compact")
def test_the_blocks_of_a_split_have_their_old_widths_and_compact_ones_their_cosines():
    blocks = joined(TEXT, IMAGE)
    M = torch.cat(list(blocks), dim=1)
    factors = truncated_svd(M, 4)
    text, image = split(*factors, 12)
    assert text.shape == TEXT.shape and image.shape == IMAGE.shape
    torch.testing.assert_close(torch.cat([text, image], dim=1), low_rank(*factors))
    short = compact(*factors, 12)
    for block, small in zip((text, image), short):
        assert small.shape == (9, 4)
        for i in range(9):
            for j in range(9):
                assert float(small[i] @ small[j]) == pytest.approx(float(block[i] @ block[j]), abs=1e-12)


def test_the_whole_has_the_cosines_of_its_factors_and_the_blocks_do_not():
    U, S, V = truncated_svd(torch.cat(list(joined(TEXT, IMAGE)), dim=1), 4)
    whole, factors, (text, image) = low_rank(U, S, V), U * S, split(U, S, V, 12)
    for i, j in ((0, 1), (2, 7), (3, 4)):
        assert cosine(whole[i], whole[j]) == pytest.approx(cosine(factors[i], factors[j]))
        assert abs(cosine(text[i], text[j]) - cosine(factors[i], factors[j])) > 1e-3
        assert abs(cosine(text[i], text[j]) - cosine(image[i], image[j])) > 1e-3


def test_mixing_with_all_dimensions_changes_no_similarity():
    first, second = pairs(9)
    plain, whole = mixed(joined(TEXT, IMAGE), None), mixed(joined(TEXT, IMAGE), 9)
    for a, b in zip(plain, whole):
        torch.testing.assert_close(inner(b, first, second), inner(a, first, second))


def test_pizza_and_coin_share_no_context_and_are_brought_together_by_what_is_round():
    """The paper's story: after the mixing, words of equal pictures have related texts."""
    #           oven, cheese, bank, pay, sky, cloud                      round, flat, blue
    text = torch.tensor([[5, 4, 0, 0, 0, 0], [0, 0, 5, 4, 0, 0], [0, 0, 0, 0, 5, 5]], dtype=torch.float64)
    image = torch.tensor([[9, 1, 0], [8, 2, 0], [0, 0, 9]], dtype=torch.float64)
    before = joined(text, image, "ppmi")
    after = mixed(before, 2)
    assert cosine(before.text[0], before.text[1]) == 0
    assert cosine(after.text[0], after.text[1]) > 0.9
    assert abs(cosine(after.text[0], after.text[2])) < 1e-9


# ---------------------------------------------------------------------------------------------------- fusion

@pytest.mark.equation("eq:fusion-features")
@pytest.mark.equation("eq:fusion-cosine")
def test_the_cosine_of_fused_features_needs_only_inner_products():
    text, image = TEXT.clone(), IMAGE.clone()
    image[4] = 0                                                # a word that nobody has seen
    first, second = pairs(9)
    for alpha in (0.0, 0.3, 1.0):
        fused = fuse_features(text, image, alpha)
        want = torch.cat([alpha * text, (1 - alpha) * image], dim=1)
        assert torch.equal(fused, want)
        got = inner_cosines(inner(text, first, second), inner(image, first, second), alpha)
        for q, (i, j) in enumerate(zip(first, second)):
            product = float(want[i].norm() * want[j].norm())
            assert float(got[q]) == pytest.approx(float(want[i] @ want[j]) / product if product else 0)


@pytest.mark.equation("eq:fusion-scores")
def test_scores_are_weighted_cosines():
    first, second = pairs(9)
    space = FusedSpace(Blocks(TEXT, IMAGE), "score", 0.3)
    got = space.cosines(first, second)
    for q, (i, j) in enumerate(zip(first, second)):
        want = 0.3 * cosine(TEXT[i], TEXT[j]) + 0.7 * cosine(IMAGE[i], IMAGE[j])
        assert float(got[q]) == pytest.approx(want)
    torch.testing.assert_close(fuse_scores(TEXT, TEXT, 0.3), TEXT)
    with pytest.raises(ValueError, match="scores are fused, and these have no vectors"):
        space.vectors()


@pytest.mark.equation("eq:fusion-weight")
def test_e7_the_weight_of_features_counts_squared():
    """With unit blocks, the cosine at weight alpha is the score at alpha^2 / (alpha^2 + (1-alpha)^2)."""
    first, second = pairs(9)
    blocks = Blocks(unit_rows(TEXT), unit_rows(IMAGE))
    for alpha in (0.0, 0.2, 0.5, 0.8, 1.0):
        features = FusedSpace(blocks, "feature", alpha).cosines(first, second)
        beta = score_weight(alpha)
        assert beta == pytest.approx(alpha**2 / (alpha**2 + (1 - alpha) ** 2))
        torch.testing.assert_close(features, FusedSpace(blocks, "score", beta).cosines(first, second))
    assert round(score_weight(0.8), 2) == 0.94


def test_e7_without_unit_rows_a_weight_says_nothing():
    """Ten times the picture block changes the cosine at the same weight; with unit rows nothing changes."""
    first, second = pairs(9)

    def at_half(text, image):
        return FusedSpace(Blocks(text, image), "feature", 0.5).cosines(first, second)

    assert float((at_half(TEXT, IMAGE) - at_half(TEXT, 10 * IMAGE)).abs().max()) > 0.1
    torch.testing.assert_close(at_half(unit_rows(TEXT), unit_rows(IMAGE)),
                               at_half(unit_rows(TEXT), unit_rows(10 * IMAGE)))


def test_e7_fusion_is_more_than_one_weighted_concatenation():
    """After the mixing the blocks are no longer of unit length: weights of features and of scores part."""
    first, second = pairs(9)
    config = SequentialFusionConfig.mini()
    fused = fuse(TEXT, IMAGE, replace(config, rank=3))
    assert float((fused.blocks.text.norm(dim=1) - 1).abs().max()) > 0.05
    scores = fused.with_share(0.5, "score").cosines(first, second)
    assert float((fused.cosines(first, second) - scores).abs().max()) > 1e-3
    again = fuse(TEXT, IMAGE, replace(config, rank=3, unit_again=True))
    torch.testing.assert_close(again.cosines(first, second),
                               again.with_share(0.5, "score").cosines(first, second))


def test_vectors_of_a_space_have_its_cosines_and_sparse_tables_give_the_same():
    first, second = pairs(9)
    for config in (SequentialFusionConfig(rank=4), SequentialFusionConfig.naive_features()):
        space = fuse(TEXT, IMAGE, config)
        vectors = space.vectors()
        torch.testing.assert_close(F.cosine_similarity(vectors[first], vectors[second]),
                                   space.cosines(first, second))
        sparse = fuse(TEXT.to_sparse(), IMAGE.to_sparse(), config)
        torch.testing.assert_close(sparse.cosines(first, second), space.cosines(first, second))
    assert sparse.blocks.text.is_sparse                         # without mixing, nothing is made dense


def test_a_similarity_of_a_pair_does_not_depend_on_the_other_pairs():
    space = fuse(TEXT, IMAGE, SequentialFusionConfig(rank=4))
    first, second = pairs(9)
    alone = torch.cat([space.cosines(first[q : q + 1], second[q : q + 1]) for q in range(len(first))])
    torch.testing.assert_close(alone, space.cosines(first, second))


# ---------------------------------------------------------------------------------------------------- search

def agreement(wanted):
    def judge(found):
        x, y = found - found.mean(), wanted - wanted.mean()
        return float((x * y).sum() / (x.norm() * y.norm()))
    return judge


def test_the_search_tries_every_setting_once_and_finds_the_planted_one():
    first, second = pairs(9)
    planted = SequentialFusionConfig(rank=5, level="score", share=0.3)
    wanted = fuse(TEXT, IMAGE, planted).cosines(first, second)
    ranks, shares = (2, 5, None), (0.0, 0.3, 0.6, 1.0)
    found = list(settings(joined(TEXT, IMAGE), first, second, agreement(wanted), ranks, shares))
    assert len(found) == 3 * 2 * 4 == len({setting[:3] for setting in found})
    assert tuned(SequentialFusionConfig(), found) == planted
    for setting in found:
        config = SequentialFusionConfig(rank=setting.rank, level=setting.level, share=setting.share)
        got = fuse(TEXT, IMAGE, config).cosines(first, second)
        assert setting.correlation == pytest.approx(agreement(wanted)(got))


def test_the_grid_of_the_paper_has_198_settings():
    assert (len(RANKS), len(SHARES)) == (9, 11) and len(RANKS) * (len(SHARES) + len(SHARES)) == 198
    assert (RANKS[0], RANKS[-1], SHARES[0], SHARES[-1]) == (16, 4096, 0.0, 1.0)


def test_settings_without_a_number_are_passed_over():
    first, second = pairs(9)
    found = list(settings(joined(TEXT, IMAGE), first, second, lambda x: float("nan"), (2,), (0.5,)))
    with pytest.raises(ValueError, match="none of 2 settings has a correlation"):
        tuned(SequentialFusionConfig(), found)


# -------------------------------------------------------------------------------------------------- pipeline

def test_sizes_that_the_paper_chose():
    two, twenty = SequentialFusionConfig.bruni_window_2(), SequentialFusionConfig.bruni_window_20()
    assert (two.window, two.rank, two.level, two.share, two.weight) == (2, 512, "feature", 0.5, "lmi")
    assert (twenty.window, twenty.rank) == (20, 1024)
    assert two.images == VisualWordsConfig.bruni()
    assert SequentialFusionConfig.naive_features().rank is None
    assert SequentialFusionConfig.naive_scores().level == "score"


SENTENCES = [sentence.split() for sentence in
             ("the cat sleeps at home", "the dog sleeps at home", "the car drives on the street",
              "the bus drives on the street", "the cat eats", "the dog eats", "the bus stops",
              "the car stops")]


def striped(period, seed):
    """Pictures of stripes, noisy."""
    g = torch.Generator().manual_seed(seed)
    x = (torch.arange(32) // period % 2 * 200).expand(3, 3, 32, 32)
    return (x + torch.randint(0, 50, x.shape, generator=g)).to(torch.uint8)


def test_the_pipeline_from_sentences_and_pictures_is_its_parts_one_after_the_other():
    pictures = {"cat": striped(2, 0), "car": striped(8, 1), "dog": striped(2, 2), "bus": striped(8, 3)}
    config = SequentialFusionConfig(rank=3, images=VisualWordsConfig(words=6, bins=1, step=5, radii=(5,)))
    space = multimodal_space(SENTENCES, pictures, config, torch.Generator().manual_seed(0))
    words = list(dict.fromkeys(word for sentence in SENTENCES for word in sentence))
    counts = window_counts([[words.index(word) for word in s] for s in SENTENCES], len(words), 2)
    text = counts[[words.index(word) for word in pictures]]
    bag = BagOfVisualWords(config.images).learn(torch.cat(list(pictures.values())),
                                                torch.Generator().manual_seed(0))
    want = fuse(text, bag.of_words(pictures.values()), config)
    torch.testing.assert_close(space.vectors(), want.vectors())
    image = space.with_share(0.0).cosines(torch.tensor([0, 0]), torch.tensor([2, 1]))
    assert float(image[0]) > float(image[1])
    few = multimodal_space(SENTENCES, pictures, replace(config, rank=None), torch.Generator().manual_seed(0),
                           contexts=["sleeps", "drives", "eats", "stops"])
    assert few.blocks.text.shape == (4, 4)
    with pytest.raises(ValueError, match="'whale' has pictures and no context"):
        multimodal_space(SENTENCES, pictures | {"whale": striped(4, 4)}, config, torch.Generator())


def test_a_space_with_names_is_judged_as_vectors_of_words_are():
    words = tuple("abcdefghi")
    first, second = pairs(9)
    people = WordPairs(tuple(words[i] for i in first), tuple(words[j] for j in second),
                       torch.linspace(0, 1, len(first), dtype=torch.float64))
    space = fuse(TEXT, IMAGE, SequentialFusionConfig(rank=4), words)
    judged = evaluate_pairs(space.word_vectors(), people)
    assert judged == pytest.approx(evaluate_pairs(space.likeness, people)) and judged["covered"] == 36
    scores = space.with_share(0.3, "score")
    torch.testing.assert_close(scores.likeness(people.first, people.second), scores.cosines(first, second))
    assert torch.isnan(space.likeness(["a", "a"], ["b", "zebra"])).tolist() == [False, True]
    with pytest.raises(ValueError, match="0 words and 9 vectors"):
        fuse(TEXT, IMAGE, SequentialFusionConfig(rank=4)).word_vectors()


def test_twins_in_text_are_told_apart_by_their_pictures_alone():
    """Two nouns with equal contexts: no weight of the text separates them, any of the pictures does."""
    sentences = [[noun, *rest] for noun in ("zub", "vik", "car")
                 for rest in (("is", "small"), ("runs", "home"))]
    sentences += [["car", "is", "loud"]]
    pictures = {"zub": striped(2, 0), "vik": striped(8, 1), "car": striped(4, 2)}
    config = SequentialFusionConfig(rank=None, images=VisualWordsConfig(words=8, bins=1, step=5, radii=(5,)))
    space = multimodal_space(sentences, pictures, config, torch.Generator().manual_seed(0))
    zub, vik = torch.tensor([0]), torch.tensor([1])
    assert float(space.with_share(1.0).cosines(zub, vik)) == pytest.approx(1)
    assert float(space.with_share(0.5).cosines(zub, vik)) < 0.9


def test_what_cannot_be_fused_is_refused():
    with pytest.raises(ValueError, match="text counts have 9 rows, those of pictures 8"):
        joined(TEXT, IMAGE[:8])
    with pytest.raises(ValueError, match="rank is 0; keep at least 1 dimension"):
        truncated_svd(TEXT, 0)
    for field, value, known in (("weight", "tf", "lmi, ppmi"), ("level", "late", "feature, score")):
        with pytest.raises(ValueError, match=f"{field} is {value!r}; use one of {known}"):
            SequentialFusionConfig(**{field: value})
    with pytest.raises(ValueError, match="share of SequentialFusionConfig is 1.5"):
        SequentialFusionConfig(share=1.5)
    assert fused_cosines(torch.ones(3, 1), torch.ones(3, 1), "feature", 0.5).tolist() == [1.0]
