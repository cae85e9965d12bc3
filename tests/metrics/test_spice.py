"""SPICE on tuples, and on captions of the scene world."""

import numpy as np
import pytest

from mmlearn.metrics.cider import CiderD
from mmlearn.metrics.spice import missing_for_official_spice, spice, spice_f1, spice_of_captions

CAT = {("cat",), ("cat", "black"), ("tree",), ("cat", "left of", "tree")}


@pytest.mark.equation("eq:spice")
def test_spice_is_the_f1_of_shared_tuples():
    said = {("cat",), ("cat", "black"), ("dog",)}
    precision, recall, f1 = spice_f1(said, CAT)
    assert (precision, recall) == (2 / 3, 2 / 4)
    assert f1 == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))


def test_a_tuple_said_twice_counts_once():
    assert spice_f1([("cat",), ("cat",)], [("cat",)]) == (1, 1, 1)


def test_nothing_said_scores_nothing():
    assert spice_f1([], CAT) == (0, 0, 0)
    assert spice_f1(CAT, []) == (0, 0, 0)


def test_synonyms_match_if_we_say_so():
    def same(a, b):
        return [w.replace("kitten", "cat") for w in a] == [w.replace("kitten", "cat") for w in b]

    assert spice_f1({("kitten",)}, {("cat",)})[2] == 0
    assert spice_f1({("kitten",)}, {("cat",)}, same)[2] == 1


def test_the_corpus_score_is_the_mean_of_images():
    result = spice([CAT, set()], [CAT, CAT])
    np.testing.assert_allclose(result.per_image, [1, 0])
    assert result.corpus == 0.5


def test_references_are_one_graph():
    parse = lambda text: [(word,) for word in text.split()]        # noqa: E731
    assert spice_of_captions(["cat tree"], [["cat", "tree"]], parse).corpus == 1


def test_swapped_roles_cost_more_than_in_n_grams():
    said, swapped = "the black cat is left of the tree", "the tree is left of the black cat"
    graph = {said: CAT, swapped: (CAT - {("cat", "left of", "tree")}) | {("tree", "left of", "cat")}}
    drop = 1 - spice([graph[swapped]], [graph[said]]).corpus
    assert drop == pytest.approx(1 / 4)
    ones = CiderD([[said.split()], ["a red bus".split()]]).score([swapped.split()], [0]).per_order[0, 0]
    assert ones == pytest.approx(10)               # the words are all there


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="1 candidates for 2"):
        spice([CAT], [CAT, CAT])


def test_what_the_official_program_lacks_is_said(monkeypatch):
    monkeypatch.setattr("mmlearn.metrics.spice.shutil.which", lambda name: None)
    assert "no `java` on the PATH" in missing_for_official_spice()
    monkeypatch.setattr("mmlearn.metrics.spice.find_spec", lambda name: None)
    assert "pip install pycocoevalcap" in missing_for_official_spice()
