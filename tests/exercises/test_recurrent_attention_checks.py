"""The checks about recurrent attention and walks: what they compare with is what the task says."""

import pytest
import torch
import torch.nn.functional as F

from mmlearn.exercises import recurrent_attention as checks
from mmlearn.metrics.navigation import path_share, spl


def right_loss(logits, tokens):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=checks.PAD)


def right_gradient(e, V, g):
    a = e.softmax(0)
    return a * ((V - a @ V) @ g)


def right_spl(shortest, taken, error, stopped, radius):
    return spl(stopped & (error <= radius), shortest, taken)


@pytest.mark.parametrize("check, answer", [
    (checks.the_word_that_comes, right_loss), (checks.what_a_score_gains, right_gradient),
    (checks.success_by_length, right_spl)])
def test_the_functions_of_the_package_are_right_answers(check, answer):
    assert check.verdict(answer).startswith("right: ")


@pytest.mark.parametrize("check, answer, words", [
    (checks.the_word_that_comes, lambda x, t: -right_loss(x, t), "the sign"),
    (checks.the_word_that_comes, lambda x, t: right_loss(x, t) * (t[:, 1:] != 1).sum(), "this is a sum"),
    (checks.the_word_that_comes, lambda x, t: right_loss(x, t) * (t[:, 1:] != 1).float().mean(),
     "padding included"),
    (checks.what_a_score_gains, lambda e, V, g: -right_gradient(e, V, g), "the sign"),
    (checks.what_a_score_gains, lambda e, V, g: right_gradient(e, V, torch.ones_like(g)), "g is left out"),
    (checks.what_a_score_gains,
     lambda e, V, g: (a := e.softmax(0)) * (V @ g) - a * a * ((a @ V) @ g), "weighed twice"),
    (checks.success_by_length, lambda s, t, e, x, r: right_spl(s, t, e, x, r) * len(s), "this is a sum"),
    (checks.success_by_length, lambda s, t, e, x, r: right_spl(s, t, e + 1e-9, x, r), "at the radius itself"),
    (checks.success_by_length, lambda s, t, e, x, r: (x & (e <= r)).div(path_share(s, t)).mean(),
     "upside down"),
    (checks.success_by_length,
     lambda s, t, e, x, r: (s * (x & (e <= r))).sum() / torch.maximum(s, t).sum(), "sum by sum"),
])
def test_further_mistakes_get_their_hints(check, answer, words):
    assert words in check.verdict(answer)


def test_captions_begin_and_end_and_are_padded():
    torch.manual_seed(0)
    tokens = checks.some_captions([1, 3], 9)
    assert tokens[:, 0].tolist() == [2, 2] and tokens[0, 2:].tolist() == [3, 1, 1]
    assert int(tokens[1, 4]) == 3 and bool((tokens[1, 1:4] >= 4).all())
