"""Zero-shot naming and finding: ridges, places, entropy, and what moved."""

import math

import numpy as np
import pytest
import torch
from networks import numbers

from mmlearn.images_for_language.sequential_fusion import unit_rows
from mmlearn.images_for_language.zero_shot import (
    STRENGTHS,
    company,
    entropy,
    fit_ridge,
    hold_out,
    label,
    label_by_folds,
    left_out_errors,
    nearest_pictures,
    neighbours_kept,
    places,
    retrieve,
    retrieve_by_ridge,
    ridge_weights,
    turned,
    zero_shot_scores,
)


def centred(*shape, seed=0):
    x = numbers(*shape, seed=seed)
    return x - x.mean(dim=0)


def cosine(a, b):
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


@pytest.mark.equation("eq:zero-shot-ridge")
def test_no_other_map_has_a_smaller_penalised_error_than_the_ridge():
    X, Y, alpha = centred(9, 4), centred(9, 3, seed=1), 0.7

    def goal(W):
        return float((X @ W - Y).square().sum() + alpha * W.square().sum())

    W = ridge_weights(X, Y, alpha)
    leaning = (2 * X.T @ (X @ W - Y) + 2 * alpha * W).abs().max()
    assert leaning < 1e-12
    for seed in range(5):
        assert goal(W + 0.01 * numbers(4, 3, seed=seed)) > goal(W)


@pytest.mark.equation("eq:zero-shot-left-out")
def test_the_errors_of_rows_left_out_are_those_of_fits_without_them():
    X, Y, alpha = centred(8, 3), centred(8, 2, seed=1), 0.3
    errors = left_out_errors(X, Y, alpha)
    for i in range(8):
        rest = [j for j in range(8) if j != i]
        ridge = fit_ridge(X[rest], Y[rest], alpha)
        torch.testing.assert_close(errors[i], Y[i] - ridge(X[i:i + 1])[0])


@pytest.mark.parity
def test_the_ridge_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge as TheirRidge
    from sklearn.linear_model import RidgeCV

    X, Y, new = 3 + numbers(20, 6), numbers(20, 4, seed=1) - 2, numbers(5, 6, seed=2)
    for alpha in (0.01, 1, 30.0):
        theirs = TheirRidge(alpha=alpha).fit(X.numpy(), Y.numpy())
        np.testing.assert_allclose(fit_ridge(X, Y, alpha)(new), theirs.predict(new.numpy()), atol=1e-10)
    theirs = RidgeCV(alphas=STRENGTHS).fit(X.numpy(), Y.numpy())
    ours = fit_ridge(X, Y)
    assert ours.alpha == theirs.alpha_
    np.testing.assert_allclose(ours(new), theirs.predict(new.numpy()), atol=1e-10)
    wide = fit_ridge(numbers(5, 12), numbers(5, 3, seed=1), 0.5)            # fewer pairs than numbers
    theirs = TheirRidge(alpha=0.5).fit(numbers(5, 12).numpy(), numbers(5, 3, seed=1).numpy())
    np.testing.assert_allclose(wide(numbers(4, 12, seed=3)), theirs.predict(numbers(4, 12, seed=3).numpy()))


def test_a_ridge_learns_a_linear_map_and_keeps_single_precision():
    M, x = numbers(4, 3), numbers(30, 4, seed=1)
    ridge = fit_ridge(x, x @ M + 5)
    torch.testing.assert_close(ridge(x), x @ M + 5, rtol=1e-3, atol=1e-3)
    assert fit_ridge(x.float(), (x @ M).float())(x.float()).dtype == torch.float32


@pytest.mark.parametrize("pairs, alpha, words", [(2, 1.0, "2 pairs are too few"), (4, 0, "alpha is 0"),
                                                 (4, float("nan"), "alpha is nan")])
def test_a_ridge_that_cannot_be_is_refused(pairs, alpha, words):
    with pytest.raises(ValueError, match=words):
        fit_ridge(numbers(pairs, 2), numbers(pairs, 2), alpha)


@pytest.mark.equation("eq:zero-shot-place")
def test_a_place_counts_the_candidates_that_lie_at_least_as_near():
    queries, candidates = numbers(5, 4), numbers(9, 4, seed=1)
    answers = torch.tensor([0, 3, 8, 2, 2])
    want = []
    for q, a in zip(queries, answers.tolist()):
        own = cosine(q, candidates[a])
        want.append(1 + sum(cosine(q, candidates[j]) >= own for j in range(9) if j != a))
    assert places(queries, candidates, answers).tolist() == want


def test_a_model_that_cannot_tell_anything_apart_finds_nothing():
    same = torch.ones(6, 3)
    assert places(same[:2], same, torch.tensor([0, 5])).tolist() == [6, 6]
    assert places(torch.zeros(1, 3), same, torch.tensor([2])).tolist() == [6]


def test_p_at_k_is_the_share_of_answers_among_the_first_k():
    found = torch.tensor([1, 3, 2, 11])
    scores = zero_shot_scores(found, (1, 2, 10))
    assert scores == {"P@1": 0.25, "P@2": 0.5, "P@10": 0.75, "mean rank": 4.25}


def test_words_that_the_network_learned_to_tell_apart_are_not_held_out():
    words = [f"w{i}" for i in range(20)]
    seen, held = hold_out(words, 0.25, never=words[:10], seed=3)
    assert sorted(seen + held) == list(range(20)) and len(held) == 5
    assert min(held) >= 10
    assert hold_out(words, 0.25, words[:10], seed=3) == (seen, held)
    assert hold_out(words, 0.25, words[:10], seed=4) != (seen, held)
    assert {11, 12} < set(hold_out(words, 0.25, words[:10], words[11:13])[1])


@pytest.mark.parametrize("share, never, always", [(0.9, "ab", ""), (0.0, "", ""), (0.01, "", ""),
                                                  (0.5, "", "abc"), (0.5, "a", "a")])
def test_a_split_that_cannot_be_is_refused(share, never, always):
    with pytest.raises(ValueError, match="choose another share|decide"):
        hold_out(list("abcd"), share, never, always)


def world(n=40, d=6, f=9, noise=0.0):
    """Words and pictures that a linear map connects."""
    words = numbers(n, d)
    return words, words @ numbers(d, f, seed=1) + noise * numbers(n, f, seed=2)


def test_a_ridge_finds_pictures_of_words_that_it_was_not_fitted_on():
    words, pictures = world()
    seen, held = list(range(28)), list(range(28, 40))
    assert (retrieve_by_ridge(words, pictures, seen, held) == 1).all()
    assert (label(words, pictures, seen, held) == 1).all()
    shuffled = pictures[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    assert retrieve_by_ridge(words, shuffled, seen, held).double().mean() > 10


def test_the_strict_labelling_does_not_see_the_words_that_it_names():
    words, pictures = world(noise=0.5)
    seen, held = list(range(28)), list(range(28, 40))
    queries = fit_ridge(pictures[:28], words[:28])(pictures[28:])
    torch.testing.assert_close(label(words, pictures, seen, held),
                               places(queries, words, torch.arange(28, 40)))
    other = words.clone()
    other[28:] += 1                 # were they seen, queries would follow them
    assert not torch.equal(label(other, pictures, seen, held), label(words, pictures, seen, held))


def test_the_papers_labelling_names_each_word_by_a_ridge_of_the_other_parts():
    words, pictures = world(noise=0.5)
    held, also = list(range(25, 40)), list(range(25))
    for extra in ((), also):
        found = label_by_folds(words, pictures, held, extra, folds=5, alpha=1.0)
        for i, word in enumerate(held):
            others = [w for j, w in enumerate(held) if j % 5 != i % 5] + list(extra)
            ridge = fit_ridge(pictures[others], words[others], 1.0)
            query = ridge(pictures[word:word + 1])[0]
            assert found[i] == 1 + sum(cosine(query, words[j]) >= cosine(query, words[word])
                                       for j in range(40) if j != word)
    with pytest.raises(ValueError, match="1 folds of 15 held-out words"):
        label_by_folds(words, pictures, held, folds=1)


def test_direct_search_needs_no_ridge():
    pictures = numbers(10, 4)
    assert (retrieve(3 * pictures, pictures, [1, 5]) == 1).all()


def test_the_nearest_pictures_are_those_of_largest_cosine():
    z, pictures = numbers(4), numbers(12, 4, seed=1)
    indices, cosines = nearest_pictures(z, pictures, 3)
    want = sorted(range(12), key=lambda i: -cosine(z, pictures[i]))[:3]
    assert indices.tolist() == want
    assert cosines.tolist() == pytest.approx([cosine(z, pictures[i]) for i in want])
    with pytest.raises(ValueError, match="13 of 12 pictures"):
        nearest_pictures(z, pictures, 13)
    with pytest.raises(ValueError, match="vectors of 4 numbers, those of the pictures have 3"):
        nearest_pictures(z, pictures[:, :3], 2)


@pytest.mark.equation("eq:zero-shot-entropy")
def test_entropy_is_that_of_the_shifted_vector_as_probabilities():
    z = numbers(5, 7)
    flat = z.flatten().tolist()
    c = 1e-3 * (max(flat) - min(flat)) - min(flat)
    for row, found in zip(z.tolist(), entropy(z).tolist()):
        total = sum(x + c for x in row)
        assert found == pytest.approx(-sum((x + c) / total * math.log((x + c) / total) for x in row))


def test_a_word_with_one_feature_has_less_entropy_than_one_with_all():
    z = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    low, middle, high = entropy(z).tolist()
    assert low < middle < high == pytest.approx(math.log(4))
    torch.testing.assert_close(entropy(torch.full((3, 4), 2.0)), torch.full((3,), math.log(4)))


@pytest.mark.equation("eq:moved-turn")
@pytest.mark.equation("eq:moved-company")
def test_what_moved_is_measured_by_cosines_before_and_after():
    before, after = numbers(6, 4), numbers(6, 4, seed=1)
    turns, companies = turned(before, after), company(before, after)
    for w in range(6):
        assert float(turns[w]) == pytest.approx(1 - cosine(before[w], after[w]))
        pairs = np.array([[cosine(x[w], x[j]) for j in range(6) if j != w] for x in (before, after)])
        assert float(companies[w]) == pytest.approx(1 - np.corrcoef(pairs)[0, 1])


def test_other_axes_and_another_length_change_no_company():
    x = numbers(7, 4)
    Q = torch.linalg.qr(numbers(4, 4, seed=1)).Q
    torch.testing.assert_close(company(x, 3 * x @ Q), torch.zeros(7, dtype=torch.float64))
    assert turned(x, 3 * x @ Q).max() > 0.1
    torch.testing.assert_close(neighbours_kept(x, 3 * x @ Q, 3), torch.ones(7, dtype=torch.float64))


def test_kept_neighbours_are_counted_without_the_word_itself():
    before = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    after = torch.tensor([[1.0, 0], [0, 1], [0.9, 0.1], [0.1, 0.9]])
    assert neighbours_kept(before, after, 1).tolist() == [0, 0, 0, 0]
    assert neighbours_kept(before, before, 1).tolist() == [1, 1, 1, 1]
    assert neighbours_kept(before, after, 3).tolist() == [1, 1, 1, 1]


def test_rows_of_zeros_have_no_direction_and_no_nan():
    rows = unit_rows(torch.tensor([[0.0, 0], [3, 4]]))
    torch.testing.assert_close(rows, torch.tensor([[0.0, 0], [0.6, 0.8]]))
