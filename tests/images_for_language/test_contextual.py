"""Vectors of words in their sentences, and one vector a word out of them."""

import pytest
import torch
from networks import numbers, stirred

from mmlearn.data.wordpiece import WordPiece
from mmlearn.images_for_language.contextual import (
    centroid_accuracy,
    contextual_vectors,
    means,
    word_states,
)
from mmlearn.nn.bert import BERT, BERTConfig

TEXTS = ["a red cat sits on the unaffable mat", "the cat and the dog", "dog", "", "a mat on a mat, red"]
TOKENS = WordPiece.train(TEXTS[:2] * 3, size=45)


def model(context=16):
    return stirred(BERT(BERTConfig(len(TOKENS), context, 16, 2, 2, 32, dropout=0.5)), scale=0.3)


@pytest.mark.equation("eq:bert-static")
def test_a_vector_is_the_mean_of_what_its_word_owns():
    rows, owners = numbers(6, 2, 3), torch.tensor([0, 2, 0, 2, 2, 0])
    got = means(rows, owners, 4)
    for w in range(4):
        own = [rows[i] for i in range(6) if owners[i] == w]
        want = sum(own) / len(own) if own else torch.zeros(2, 3).double()
        torch.testing.assert_close(got[w], want)


def one_by_one(bert, text):
    """The words of a text with their states by layer, without batches."""
    spans, ids = [], [TOKENS.bos]
    for word, pieces in TOKENS.split(text):
        spans.append((word, len(ids), len(ids) + len(pieces)))
        ids += pieces
    bert.eval()
    with torch.no_grad():
        layers = list(bert.by_layer(torch.tensor([[*ids, TOKENS.eos]])))
    return [(word, torch.stack([x[0, a:b].mean(dim=0) for x in layers])) for word, a, b in spans]


def test_states_are_found_in_batches_as_one_by_one_whatever_the_padding():
    bert = model()
    assert len(TOKENS.encode("unaffable")) > 1                           # a word of several pieces
    found = [(word, sentence, states) for batch in word_states(bert, TOKENS, TEXTS, batch=3)
             for word, sentence, states in zip(*batch)]
    assert bert.training                                                 # and the mode is as it was
    want = [(word, i, states) for i, text in enumerate(TEXTS) for word, states in one_by_one(bert, text)]
    assert [row[:2] for row in found] == [row[:2] for row in want]
    for (*_, ours), (*_, theirs) in zip(found, want):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    some = next(word_states(bert, TOKENS, TEXTS, ["mat"], batch=9))
    assert some.words == ["mat"] * 3 and some.sentences == [0, 4, 4]


def test_a_static_vector_is_the_mean_over_the_first_occurrences():
    bert = model()
    sets = contextual_vectors(bert, TOKENS, TEXTS, most=2, batch=2)
    assert len(sets) == 3 and sets[0].words[:3] == ("a", "red", "cat") and "dog" in sets[2]
    of_mat = [states for text in TEXTS for word, states in one_by_one(bert, text) if word == "mat"]
    assert len(of_mat) == 3
    for layer in range(3):
        want = (of_mat[0][layer] + of_mat[1][layer]) / 2
        torch.testing.assert_close(sets[layer]["mat"], want, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="none of the words occurs"):
        contextual_vectors(bert, TOKENS, TEXTS, ["zebra"])
    with pytest.raises(ValueError, match="most is 0"):
        contextual_vectors(bert, TOKENS, TEXTS, most=0)


def test_words_that_do_not_fit_are_left_out_whole():
    found = next(word_states(model(context=5), TOKENS, ["a mat on a mat on a mat"]))
    assert len(found.words) <= 3 and found.words[0] == "a"


def test_the_same_word_differs_by_its_sentence_and_a_static_vector_cannot():
    bert = model()
    states = [rows for text in TEXTS for word, rows in one_by_one(bert, text) if word == "cat"]
    assert (states[0][2] - states[1][2]).norm() > 0.1
    senses = torch.tensor([0, 1] * 100)
    apart = numbers(200, 4) * torch.tensor([0.1, 2, 2, 2]).double()
    apart[:, 0] += 3 * senses                                            # in the direction of least spread
    assert centroid_accuracy(apart[:100], senses[:100], apart[100:], senses[100:]) == 1
    alike = torch.ones(20, 4)
    assert centroid_accuracy(alike[:10], senses[:10], alike[10:], senses[10:20]) == 0.5
