r"""Huffman's tree over the words of a vocabulary: the hierarchical softmax walks it.

Papers: D. A. Huffman (1952), *A Method for the Construction of Minimum-Redundancy Codes*, Proc. IRE 40(9);
F. Morin and Y. Bengio (2005), *Hierarchical Probabilistic Neural Network Language Model*, AISTATS (a tree in
place of a softmax); T. Mikolov, K. Chen, G. Corrado and J. Dean (2013), arXiv:1301.3781, sec. 3 (Huffman's).
Survey: 3.2.  Differs from the papers: of equal counts those are joined that gensim joins.

The two rarest trees of a forest are joined until one is left. A word's code says the way from the root to its
leaf: bit 0 goes to the rarer of the two that were joined, bit 1 to the other. Letters of shapes: v words (the
leaves), l bits of the longest code.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor


class Joined(NamedTuple):
    """A state of the growing tree: ``left`` and ``right`` were joined under ``node``, of weight ``weight``.

    Leaves are numbered 0 … v - 1 as their words, inner nodes from v on in the order in which they are made.
    ``roots`` are the trees of the forest now, the lightest first, each as (number, weight).
    """

    node: int
    left: int
    right: int
    weight: int
    roots: tuple[tuple[int, int], ...]


@dataclass
class _Tree:
    """A tree in the heap. Weights alone are compared: which of equals comes first is the heap's affair, and
    gensim's codes follow from it."""

    weight: int
    node: int = -1

    def __lt__(self, other: "_Tree") -> bool:
        return self.weight < other.weight


def growth(
    counts: Sequence[int], roots: bool = True
) -> Iterator[Joined]:
    """The v - 1 steps in which a tree grows from ``counts``, by each join; without ``roots`` the forest is
    not listed, which takes time for a large vocabulary.

    Raises ``ValueError`` for fewer than two words or a count below 1.
    """
    if len(counts) < 2:
        raise ValueError(f"a tree over {len(counts)} words has no branch; "
                         f"give two words or more")
    if min(counts) < 1:
        raise ValueError(f"a word has the count {min(counts)}; a word of a "
                         f"vocabulary occurs once at least")
    heap = [_Tree(int(count), i) for i, count in enumerate(counts)]
    heapq.heapify(heap)
    for node in range(len(counts), 2 * len(counts) - 1):
        left, right = heapq.heappop(heap), heapq.heappop(heap)
        joined = _Tree(left.weight + right.weight, node)
        heapq.heappush(heap, joined)
        now = tuple((t.node, t.weight) for t in sorted(heap)) if roots else ()
        yield Joined(node, left.node, right.node, joined.weight, now)


@dataclass(frozen=True)
class HuffmanTree:
    """The ways from the root to all words, padded to the longest.

    ``paths`` (v, l) are the inner nodes on the way, numbered 0 … v - 2 in the order in which they were made
    (the root is the last), ``bits`` (v, l) which way leads on there, ``mask`` (v, l) where there is a node.
    ``children`` (v - 1, 2) are what a node was made of, leaves as 0 … v - 1, inner nodes from v on.
    """

    counts: tuple[int, ...]
    paths: Tensor
    bits: Tensor
    mask: Tensor
    children: Tensor

    @classmethod
    def of(cls, counts: Sequence[int]) -> "HuffmanTree":
        """The tree of these counts. Raises ``ValueError`` for fewer than two, or one below 1."""
        v = len(counts)
        steps = growth(counts, roots=False)
        children = torch.tensor([step[1:3] for step in steps])
        parent, bit = [0] * (2 * v - 1), [0] * (2 * v - 1)
        for node, pair in enumerate(children.tolist(), v):
            for b, child in enumerate(pair):
                parent[child], bit[child] = node, b
        depth = [0] * (2 * v - 1)
        for node in range(2 * v - 3, -1, -1):  # a parent comes after its children
            depth[node] = depth[parent[node]] + 1
        longest = max(depth)
        paths = torch.zeros(v, longest, dtype=torch.int64)
        bits = torch.zeros_like(paths)
        up, down = torch.tensor(parent), torch.tensor(bit)
        lengths = torch.tensor(depth)[:v]
        at = torch.arange(v)
        for step in range(1, longest + 1):    # all leaves climb one step together
            word = torch.nonzero(lengths >= step)[:, 0]
            place = lengths[word] - step
            bits[word, place] = down[at[word]]
            at[word] = up[at[word]]
            paths[word, place] = at[word] - v
        mask = torch.arange(longest) < lengths[:, None]
        return cls(tuple(counts), paths, bits, mask, children)

    def __len__(self) -> int:
        """Words of the tree."""
        return len(self.counts)

    @property
    def lengths(self) -> Int64[Tensor, " v"]:
        """Bits of each word's code."""
        return self.mask.sum(1)

    @property
    def frequencies(self) -> Float[Tensor, " v"]:
        """The share of each word, in double precision."""
        counts = torch.tensor(self.counts, dtype=torch.float64)
        return counts / counts.sum()

    def code(self, word: int) -> str:
        """The code of a word, such as "0110"."""
        return "".join(str(b) for b in self.bits[word][self.mask[word]].tolist())

    def expected_length(self) -> float:
        """eq:huffman-length of this tree, in bits."""
        return float(expected_length(self.frequencies, self.lengths))


def expected_length(
    f: Float[Tensor, " v"], lengths: Int[Tensor, " v"]
) -> Float[Tensor, ""]:
    r"""eq:huffman-length: $\mathbb E[L]=\sum_w f_wL_w$: bits of a word's code, nodes on its way, on average;
    no tree has fewer than Huffman's."""
    return (f * lengths).sum()


def entropy(f: Float[Tensor, " v"]) -> Float[Tensor, ""]:
    r"""eq:huffman-entropy: $H(f)=-\sum_wf_w\log_2f_w$ bits; $H(f)\le\mathbb E[L]<H(f)+1$ for Huffman's
    tree."""
    return -(f * f.log2()).sum()

