"""Huffman's tree: its codes, its length, its growth."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from mmlearn.images_for_language.huffman import HuffmanTree, entropy, expected_length, growth

COUNTS = (40, 30, 14, 9, 4, 2, 1)


def codes(tree):
    return [tree.code(word) for word in range(len(tree))]


def random_counts(seed, v):
    return tuple(sorted(np.random.default_rng(seed).integers(1, 60, v).tolist(), reverse=True))


@pytest.mark.parametrize("counts", [COUNTS, (1, 1), (5, 5, 5, 5), (1,) * 9, random_counts(0, 33)])
def test_no_code_begins_another_and_every_branch_is_used(counts):
    tree = HuffmanTree.of(counts)
    found = codes(tree)
    assert len(set(found)) == len(counts)
    assert not any(a != b and b.startswith(a) for a in found for b in found)
    assert sum(2.0**-len(code) for code in found) == 1.0                     # Kraft, with equality
    assert tree.lengths.tolist() == [len(code) for code in found]


def test_the_way_to_a_word_leads_from_the_root_over_its_code_to_it():
    tree = HuffmanTree.of(COUNTS)
    v = len(COUNTS)
    for word in range(v):
        node = v - 2                                                         # the root is the last made
        for step in range(int(tree.lengths[word])):
            assert int(tree.paths[word, step]) == node
            child = int(tree.children[node, int(tree.bits[word, step])])
            node = child - v
        assert child == word
    assert not tree.paths[~tree.mask].any() and not tree.bits[~tree.mask].any()


@pytest.mark.equation("eq:huffman-length")
@pytest.mark.equation("eq:huffman-entropy")
@pytest.mark.parametrize("seed", range(5))
def test_the_expected_length_lies_between_the_entropy_and_one_bit_more(seed):
    counts = random_counts(seed, 20)
    tree, total = HuffmanTree.of(counts), sum(counts)
    want = sum(count / total * len(code) for count, code in zip(counts, codes(tree)))
    H = -sum(count / total * math.log2(count / total) for count in counts)
    assert tree.expected_length() == pytest.approx(want)
    assert float(expected_length(tree.frequencies, tree.lengths)) == pytest.approx(want)
    assert float(entropy(tree.frequencies)) == pytest.approx(H)
    assert H <= want < H + 1


@pytest.mark.parametrize("counts", [(8, 4, 2, 1, 1), (5, 4, 3, 2, 1), (9, 1, 1, 1), (3, 3, 3)])
def test_no_other_prefix_code_is_shorter(counts):
    v, total = len(counts), sum(counts)
    least = min(sum(n * length for n, length in zip(counts, lengths)) / total
                for lengths in product(range(1, v), repeat=v)
                if sum(2.0**-length for length in lengths) <= 1)              # Kraft: such a code exists
    assert HuffmanTree.of(counts).expected_length() == pytest.approx(least)


def test_dyadic_frequencies_cost_exactly_their_entropy():
    tree = HuffmanTree.of((8, 4, 2, 1, 1))
    assert tree.expected_length() == float(entropy(tree.frequencies)) == 1.875
    assert tree.lengths.tolist() == [1, 2, 3, 4, 4]


def test_a_skewed_vocabulary_needs_fewer_bits_than_a_balanced_tree():
    counts = tuple(1000 // (i + 1) for i in range(64))
    assert HuffmanTree.of(counts).expected_length() < math.log2(64) - 0.5


def test_the_tree_grows_by_joining_the_two_lightest():
    forest = dict(enumerate(COUNTS))
    for step in growth(COUNTS):
        lightest = sorted(forest.values())[:2]
        pair = [forest.pop(step.left), forest.pop(step.right)]
        assert sorted(pair) == lightest and pair[0] <= pair[1] and step.weight == sum(pair)
        forest[step.node] = step.weight
        assert dict(step.roots) == forest
        assert [weight for _, weight in step.roots] == sorted(forest.values())
    assert list(forest.values()) == [sum(COUNTS)] and step.node == 2 * len(COUNTS) - 2
    assert [s[:4] for s in growth(COUNTS)] == [s[:4] for s in growth(COUNTS, roots=False)]


@pytest.mark.parametrize("counts, sentence", [
    ((3,), "a tree over 1 words has no branch"), ((), "a tree over 0 words"), ((2, 0), "has the count 0")])
def test_what_makes_no_tree_is_refused(counts, sentence):
    with pytest.raises(ValueError, match=sentence):
        HuffmanTree.of(counts)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(3))
def test_codes_and_ways_are_those_of_gensim(seed):
    from gensim.models import Word2Vec

    rng = np.random.default_rng(seed)
    sentences = [[f"w{i}" for i in np.minimum(rng.zipf(1.2, 15), 60)] for _ in range(60)]  # with many ties
    theirs = Word2Vec(sg=1, hs=1, negative=0, min_count=1, workers=1)
    theirs.build_vocab(sentences)
    words = theirs.wv.index_to_key
    tree = HuffmanTree.of([int(theirs.wv.get_vecattr(w, "count")) for w in words])
    for i, word in enumerate(words):
        n = int(tree.lengths[i])
        assert tree.bits[i, :n].tolist() == theirs.wv.get_vecattr(word, "code").tolist()
        assert tree.paths[i, :n].tolist() == theirs.wv.get_vecattr(word, "point").tolist()


def test_tensors_are_as_wide_as_the_longest_code():
    tree = HuffmanTree.of(COUNTS)
    assert tree.paths.shape == tree.bits.shape == tree.mask.shape == (7, int(tree.lengths.max()))
    assert tree.paths.dtype == torch.int64 and len(tree) == 7 and tree.children.shape == (6, 2)
