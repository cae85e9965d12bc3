"""Windows are counted as a double loop counts them, dense or sparse; what is more than chance is weighed."""

import math

import pytest
import torch

from mmlearn.images_for_language.counts import (
    blocks,
    lmi,
    pmi,
    ppmi,
    shifted_pmi,
    shifted_ppmi,
    sums,
    weigh,
    window_counts,
)

SENTENCES = [[0, 1, 2, 0, 3], [4], [], [2, 2, 1], [3, 0, 4, 1, 1, 0]]


def counted(sentences, size, window):
    table = torch.zeros(size, size, dtype=torch.float64)
    for sentence in sentences:
        for i, word in enumerate(sentence):
            for j in range(max(0, i - window), min(len(sentence), i + window + 1)):
                if j != i:
                    table[word, sentence[j]] += 1
    return table


@pytest.mark.equation("eq:counts-window")
@pytest.mark.parametrize("window", [1, 2, 9])
def test_windows_are_counted_as_a_double_loop_counts_them(window):
    want = counted(SENTENCES, 5, window)
    assert torch.equal(window_counts(SENTENCES, 5, window), want)
    sparse = window_counts(iter(SENTENCES), 5, window, dense=False)
    assert sparse.is_sparse and sparse.is_coalesced() and torch.equal(sparse.to_dense(), want)
    assert torch.equal(want, want.mT)


def test_a_corpus_may_come_in_blocks_of_any_size(monkeypatch):
    import mmlearn.images_for_language.counts as module

    generator = torch.Generator().manual_seed(0)
    corpus = [torch.randint(7, (n % 6,), generator=generator).tolist() for n in range(50)]
    whole = [window_counts(corpus, 7, 3, dense=dense).to_dense() for dense in (True, False)]
    monkeypatch.setattr(module, "BLOCK", 4)
    assert max(len(words) for words, _ in blocks(corpus, 7)) < 10
    again = [window_counts(corpus, 7, 3, dense=dense).to_dense() for dense in (True, False)]
    assert all(torch.equal(table, counted(corpus, 7, 3)) for table in whole + again)


@pytest.mark.equation("eq:counts-pmi")
@pytest.mark.equation("eq:counts-ppmi")
@pytest.mark.equation("eq:counts-lmi")
@pytest.mark.equation("eq:counts-shifted")
@pytest.mark.equation("eq:counts-shifted-positive")
def test_every_weight_equals_its_formula_cell_by_cell():
    table = counted(SENTENCES, 6, 2)[:, :5]                     # the sixth word was never met
    total = float(table.sum())
    for t in range(6):
        for c in range(5):
            n, row, column = float(table[t, c]), float(table[t].sum()), float(table[:, c].sum())
            got = [f(*(torch.tensor(x, dtype=torch.float64) for x in (n, row, column)), total)
                   for f in (pmi, ppmi, lmi)]
            shifted = [f(*(torch.tensor(x, dtype=torch.float64) for x in (n, row, column)), total, 5)
                       for f in (shifted_pmi, shifted_ppmi)]
            if n == 0:
                assert float(got[0]) == float(shifted[0]) == -math.inf
                assert float(got[1]) == float(got[2]) == float(shifted[1]) == 0
                continue
            ratio = math.log((n / total) / ((row / total) * (column / total)))
            want = [ratio, max(ratio, 0), max(n * ratio, 0)]
            assert [float(x) for x in got] == pytest.approx(want, abs=1e-12)
            assert [float(x) for x in shifted] == pytest.approx([ratio - math.log(5),
                                                                 max(ratio - math.log(5), 0)], abs=1e-12)


@pytest.mark.parametrize("weight", ["lmi", "ppmi"])
def test_a_sparse_table_is_weighed_as_a_dense_one_and_stays_sparse(weight):
    table = counted(SENTENCES, 5, 2)
    dense, sparse = weigh(table, weight), weigh(table.to_sparse(), weight)
    assert sparse.is_sparse and torch.equal(sparse.to_dense(), dense)
    assert int((dense != 0).sum()) == sparse.values().numel() < (table != 0).sum()
    for axis in (0, 1):
        torch.testing.assert_close(sums(sparse, axis), dense.sum(dim=axis))


def test_the_local_mutual_information_is_counts_times_the_positive_one():
    table = counted(SENTENCES, 5, 2)
    torch.testing.assert_close(weigh(table, "lmi"), table * weigh(table, "ppmi"))


def test_words_whose_contexts_are_equal_have_equal_rows():
    """The distributional hypothesis as a statement about data: no function of the text tells them apart."""
    twins = [[0, 2, 3], [1, 2, 3], [4, 0, 2], [4, 1, 2], [3, 0], [3, 1]]
    table = weigh(window_counts(twins, 5, 2)[:2, 2:])
    assert torch.equal(table[0], table[1]) and bool((table[0] >= 0).all())


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="window is 0; a context reaches at least 1 word"):
        window_counts(SENTENCES, 5, 0)
    with pytest.raises(ValueError, match="numbered from 0 to 4, the vocabulary has 4; encode"):
        window_counts(SENTENCES, 4, 2)
    with pytest.raises(ValueError, match="weight is 'tfidf'; use one of lmi, ppmi"):
        weigh(torch.ones(2, 2), "tfidf")
    with pytest.raises(ValueError, match="holds 0 counts.*at least one"):
        weigh(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="least cell -1; give counts of 0 and more"):
        weigh(torch.tensor([[3.0, -1.0]]))
