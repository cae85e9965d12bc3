"""A corpus as numbers: the vocabulary, what is left out of it, and the pairs within its windows."""

import numpy as np
import pytest
import torch

from mmlearn.data.vocabulary import (
    Text,
    Vocabulary,
    WindowBatches,
    cooccurrences,
    generator_of,
    keep_probability,
    keep_probability_of_code,
    numbered,
    pairs,
    read_corpus,
    stays,
    widths,
    window_share,
)
from mmlearn.data.wordpiece import WordPiece

SENTENCES = [["b", "a", "c"], ["a", "b"], ["d", "a", "c"], ["e"]]


# ------------------------------------------------------------------------------------------------- vocabulary

def test_words_stand_by_falling_count_and_ties_by_their_first_occurrence():
    found = Vocabulary.of(SENTENCES)
    assert found.words == ("a", "b", "c", "d", "e") and found.counts == (3, 2, 2, 1, 1)
    assert found.ids == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4} and len(found) == 5
    torch.testing.assert_close(found.frequencies(), torch.tensor([3, 2, 2, 1, 1], dtype=torch.float64) / 9)


def test_rare_words_are_dropped_and_unknown_ones_are_not_encoded():
    found = Vocabulary.of(SENTENCES, min_count=2)
    assert found.words == ("a", "b", "c")
    assert found.encode(["c", "e", "zebra", "a"]) == [2, 0]
    assert found == Vocabulary(("a", "b", "c"), (3, 2, 2))


@pytest.mark.parametrize("make, sentence", [
    (lambda: Vocabulary.of([]), "the corpus holds no word"),
    (lambda: Vocabulary.of([[], []]), "the corpus holds no word"),
    (lambda: Vocabulary.of(SENTENCES, 4), "no word occurs 4 times, the most frequent one, 'a', 3 times"),
    (lambda: Vocabulary((), ()), "at least one word"),
    (lambda: Vocabulary(("a", "b"), (1,)), "2 words and 1 counts"),
    (lambda: Vocabulary(("a", "a"), (2, 1)), "lists 'a' twice"),
    (lambda: Vocabulary(("a", "b"), (1, 2)), "sort its words by count"),
    (lambda: Vocabulary(("a", "b"), (1, 0)), "end at 1 or more"),
    (lambda: numbered([["x"]], Vocabulary(("a",), (1,))), "none of the 1 words of the vocabulary occurs"),
])
def test_what_is_no_vocabulary_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_file_is_read_line_by_line_and_empty_lines_are_passed_over(tmp_path):
    (tmp_path / "corpus.txt").write_bytes("\ufeffder Bär\tschläft\r\n\n  a b \n".encode())
    assert read_corpus(tmp_path / "corpus.txt") == [["der", "Bär", "schläft"], ["a", "b"]]


@pytest.mark.parametrize("content, sentence", [
    (b"", "holds no word; give a text file in UTF-8 with one sentence a line"),
    (b" \n\t\n", "holds no word"),
    ("Bär".encode("latin-1"), "is not UTF-8 text"),
    (b"\x00\xff\xfe", "is not UTF-8 text"),
])
def test_a_file_without_words_or_of_other_bytes_is_refused(tmp_path, content, sentence):
    (tmp_path / "corpus.txt").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_corpus(tmp_path / "corpus.txt")
    with pytest.raises(FileNotFoundError, match="give a text file"):
        read_corpus(tmp_path / "nothing.txt")


def test_a_corpus_is_one_row_of_ids_and_the_numbers_of_their_sentences():
    text = numbered(SENTENCES, Vocabulary.of(SENTENCES, 2))
    assert text.ids.tolist() == [1, 0, 2, 0, 1, 0, 2]
    assert text.sentence.tolist() == [0, 0, 0, 1, 1, 2, 2]


# -------------------------------------------------------------------------------- subsampling, windows

@pytest.mark.equation("eq:skipgram-keep")
@pytest.mark.equation("eq:skipgram-keep-code")
def test_frequent_words_are_kept_with_the_roots_of_paper_and_code():
    for f in (0.49, 0.1, 1e-3, 1e-4, 1e-6):
        for t in (1e-3, 1e-5):
            ratio, tensor = t / f, torch.tensor([f], dtype=torch.float64)
            assert float(keep_probability(tensor, t)) == pytest.approx(min(1, ratio**0.5))
            assert float(keep_probability_of_code(tensor, t)) == pytest.approx(min(1, ratio**0.5 + ratio))


def test_e21_word2vec_and_glove_read_whole_words_and_bert_reads_pieces():
    sentences = [["unable", "cats", "sit"], ["cats", "sit"], ["unaffable", "cats"]]
    vocabulary = Vocabulary.of(sentences)
    assert set(vocabulary.words) == {"unable", "cats", "sit", "unaffable"}      # what stood between spaces
    pieces = WordPiece.train([" ".join(words) for words in sentences], size=24)
    split = pieces.pieces("unaffable")
    assert len(split) > 1 and "".join(part.removeprefix("##") for part in split) == "unaffable"


def test_p1_the_paper_and_the_code_keep_frequent_words_with_other_probabilities():
    f = torch.tensor(0.49, dtype=torch.float64)
    keep = [float(k(f, 0.49 * 0.0571**2)) for k in (keep_probability, keep_probability_of_code)]
    assert keep == pytest.approx([0.0571, 0.0604], abs=5e-5)


def test_a_word_stays_as_often_as_its_probability_says(seeded):
    ids = torch.tensor([0, 1, 2]).repeat(20_000)
    kept = stays(ids, torch.tensor([1.0, 0.25, 0.0]))
    shares = [float(kept[ids == w].double().mean()) for w in range(3)]
    assert shares[0] == 1 and shares[2] == 0 and shares[1] == pytest.approx(0.25, abs=0.015)


@pytest.mark.equation("eq:skipgram-window")
def test_a_word_at_distance_j_is_within_a_drawn_window_as_often_as_the_formula_says():
    c = 5
    for j in (-6, -5, -4, -1, 1, 2, 3, 4, 5, 7):
        within = np.mean([abs(j) <= width for width in range(1, c + 1)])
        assert float(window_share(torch.tensor(j), c)) == pytest.approx(within)
    drawn = widths(50_000, c, torch.Generator().manual_seed(0))
    assert drawn.min() == 1 and drawn.max() == c
    assert float((drawn >= 4).double().mean()) == pytest.approx(0.4, abs=0.01)
    assert widths(3, 7, dynamic=False).tolist() == [7, 7, 7]


def naive_pairs(sentences, width):
    found, place = [], 0
    for sentence in sentences:
        for t, target in enumerate(sentence):
            reach = width[place + t]
            for s in range(max(0, t - reach), min(len(sentence), t + reach + 1)):
                if s != t:
                    found.append((sentence[s], target))
        place += len(sentence)
    return found


def test_pairs_are_those_of_a_loop_over_sentences_in_its_order():
    rng = np.random.default_rng(0)
    sentences = [rng.integers(0, 9, n).tolist() for n in (5, 1, 8, 2, 3)]
    text = Text(torch.tensor(sum(sentences, [])),
                torch.tensor(sum(([i] * len(s) for i, s in enumerate(sentences)), [])))
    width = torch.from_numpy(rng.integers(1, 4, len(text.ids)))
    inputs, targets = pairs(text, width)
    assert list(zip(inputs.tolist(), targets.tolist())) == naive_pairs(sentences, width.tolist())
    some = torch.tensor([7, 0, 18])
    inputs, targets = pairs(text, width, some)
    single = [tuple(t.tolist() for t in pairs(text, width, one[None])) for one in some]
    assert inputs.tolist() == sum((i for i, _ in single), [])
    assert targets.tolist() == sum((t for _, t in single), [])


def test_a_word_that_is_left_out_lets_its_neighbours_meet():
    text = Text(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0]))
    kept = text.kept(torch.tensor([True, False, True]))
    inputs, targets = pairs(kept, torch.ones(2, dtype=torch.int64))
    assert list(zip(inputs.tolist(), targets.tolist())) == [(2, 0), (0, 2)]


def test_a_corpus_of_single_words_has_no_pair():
    inputs, targets = pairs(Text(torch.tensor([0, 1]), torch.tensor([0, 1])), torch.tensor([2, 2]))
    assert len(inputs) == len(targets) == 0


def test_expected_counts_are_the_mean_over_drawn_windows(seeded):
    vocabulary = Vocabulary.of(SENTENCES * 3)
    text = numbered(SENTENCES * 3, vocabulary)
    full, mean = cooccurrences(text, 5, 2, dynamic=False), torch.zeros(5, 5, dtype=torch.float64)
    for i, j in zip(*(t.tolist() for t in pairs(text, widths(len(text.ids), 2, dynamic=False)))):
        mean[i, j] += 1
    torch.testing.assert_close(full, mean)
    drawn = torch.zeros(5, 5, dtype=torch.float64)
    for _ in range(400):
        inputs, targets = pairs(text, widths(len(text.ids), 2))
        drawn += torch.bincount(inputs * 5 + targets, minlength=25).view(5, 5) / 400
    torch.testing.assert_close(cooccurrences(text, 5, 2), drawn, atol=0.5, rtol=0)
    assert torch.equal(full, full.mT)


# ---------------------------------------------------------------------------------------------------- batches

def test_an_epoch_of_batches_holds_each_pair_once_and_starts_anywhere():
    sentences = [[str(w) for w in np.random.default_rng(i).integers(0, 20, 7)] for i in range(30)]
    vocabulary = Vocabulary.of(sentences)
    text, keep = numbered(sentences, vocabulary), torch.linspace(0.2, 1, len(vocabulary)).double()
    batches = WindowBatches(text, 16, window=2, keep=keep, seed=3)
    for epoch in (0, 1):
        read, width, place = batches.epoch(epoch)
        assert 0 < len(read.ids) < len(text.ids) and int((place >= 0).sum()) == len(read.ids)
        found = [batches[number] for number in range(epoch * len(batches), (epoch + 1) * len(batches))]
        there = sorted(pair for batch in found for pair in zip(*(t.tolist() for t in batch)))
        assert there == sorted(zip(*(t.tolist() for t in pairs(read, width))))
    again = WindowBatches(text, 16, window=2, keep=keep, seed=3)
    for number in (20, 3):
        assert all(torch.equal(a, b) for a, b in zip(again[number], batches[number]))
    assert not torch.equal(batches.epoch(0)[2], batches.epoch(1)[2])
    assert "window=2" in repr(batches) and "subsampled=True" in repr(batches)


def test_without_keep_every_word_is_read_and_windows_may_have_one_width():
    text = Text(torch.arange(6), torch.zeros(6, dtype=torch.int64))
    read, width, place = WindowBatches(text, 2, window=2, dynamic=False).epoch(0)
    assert torch.equal(read.ids, text.ids) and width.tolist() == [2] * 6 and place.tolist() == list(range(6))


def test_generators_follow_from_their_place():
    a, b, c = (torch.rand(2, generator=generator_of(*p)) for p in ((1, 2), (1, 2), (1, 3)))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parity
def test_words_counts_and_keep_probabilities_are_those_of_gensim():
    from gensim.models import Word2Vec

    rng = np.random.default_rng(0)
    sentences = [[f"w{i}" for i in np.minimum(rng.zipf(1.3, 12), 40)] for _ in range(150)]
    theirs = Word2Vec(min_count=2, sample=1e-2, workers=1)
    theirs.build_vocab(sentences)
    ours = Vocabulary.of(sentences, 2)
    counts = {w: int(theirs.wv.get_vecattr(w, "count")) for w in theirs.wv.index_to_key}
    assert dict(zip(ours.words, ours.counts)) == counts
    assert list(ours.counts) == list(counts.values())        # of two alike, gensim has the later one first
    keep = keep_probability_of_code(ours.frequencies(), 1e-2)
    want = np.array([theirs.wv.get_vecattr(w, "sample_int") for w in ours.words]) / 2**32
    np.testing.assert_allclose(keep.numpy(), want, atol=1e-9)
