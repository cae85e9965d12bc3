"""Figures of section 3.2, skip-gram and GloVe: what is predicted from what, Huffman's tree as it grows, the
table that GloVe fits, what negative sampling converges to, word2vec's sigmoid.

Papers: T. Mikolov et al. (2013), arXiv:1301.3781, fig. 1; D. A. Huffman (1952), Proc. IRE 40(9), fig. 1;
J. Pennington, R. Socher and C. D. Manning (2014), *GloVe*, EMNLP, sec. 3; O. Levy and Y. Goldberg (2014),
NIPS, sec. 3.  Survey: 3.2.

Colours: amber are words and their vectors as words (inputs), blue those as company (outputs), violet what
sets a system apart or what has just been made, red losses, grey what is not visited.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from mmlearn.figures.diagram import Box, Diagram, literal
from mmlearn.figures.interactive import Block, player
from mmlearn.images_for_language.glove import GloVeConfig
from mmlearn.images_for_language.huffman import HuffmanTree, Joined, growth
from mmlearn.images_for_language.skip_gram import SkipGramConfig
from mmlearn.plot import PALETTE

SENTENCE = ("the", "raven", "sings", "near", "the", "church")
W_TILDE, B_TILDE = "W\u0303", "b\u0303"

# ------------------------------------------------------------------------------------------------- diagrams


def skip_gram(config: SkipGramConfig | None = None) -> Diagram:
    """A pair of words of a window, the two tables of vectors, and the three ways to make a loss of scores."""
    config = config or SkipGramConfig.word2vec()
    v, d, K = config.vocab, config.dim, config.negatives
    drawn = Diagram(470, 394, (
        f"Skip-gram. The sentence {' '.join(SENTENCE)}; a window of two words on each side of “sings”. One "
        "pair is followed: “raven” is read, “sings” is predicted. Raven picks its row v_i of the table W_in "
        f"of {v:,} words by {d} numbers. Its inner products with vectors u of the table W_out are scores. "
        f"Three ways lead to a loss, in red: a softmax over all {v:,} words; a tree, with as many scores as "
        f"there are turns on the way to the word; or negative sampling, with the word and {K} words that are "
        "drawn. Violet: the two ways that need no sum over all words."))
    left = 40
    drawn.group(196, 30, 390, 46)
    words = []
    for i, word in enumerate(SENTENCE):
        role = {1: "text", 2: "block"}.get(i, "")
        words.append(drawn.rect(left + 78 * i, 30, 70, 28, role))
        drawn.text(left + 78 * i, 30, word, 14, weight=600 if i in (1, 2) else 400)
    drawn.text(62, 70, "input *i*", 13, "text")
    drawn.text(262, 70, "output *o*", 13, "block")
    table = drawn.matrix(118, 138, ["frozen", "text", "frozen", "frozen", "frozen"], 5, 14)
    drawn.text(118, 186, f"*W_{{in}}*: {v:,} × {d}", 13, "soft")
    drawn.arrow((words[1].x, 44), (words[1].x, 103), role="text")
    row = drawn.matrix(228, 117, ["text"], 5, 14)
    drawn.text(228, 136, f"*v_i*: {d}", 13, "text")
    drawn.arrow((table.x + table.w / 2, 117), row, role="text")
    out = drawn.matrix(366, 138, ["frozen", "frozen", "block", "frozen", "frozen"], 5, 14)
    drawn.text(366, 186, "*W_{out}*: vectors *u*", 13, "soft")
    times = drawn.node(296, 117, "·")
    drawn.arrow(row, times, role="text")
    drawn.arrow((out.x - out.w / 2, 117), times, role="block")
    drawn.arrow((196 + 22, 44), (366, 103), role="block", via=((218, 88), (366, 88)))
    drawn.arrow(times, (296, 222), head=False)
    drawn.line([(82, 222), (388, 222)])
    drawn.text(306, 206, "scores *u*^⊤*v_i*", 13, "soft", "start")
    ways = (("softmax", f"{v:,} scores", "sums to 1", ""),
            ("tree", "*L_w* scores", "sums to 1", "new"),
            ("negatives", f"1 + {K} scores", "no probabilities", "new"))
    for x, (name, scores, sums, role) in zip((82, 235, 388), ways):
        box = drawn.box(x, 274, f"{name}\n{scores}\n{sums}", role, 136, 66)
        drawn.arrow((x, 222), box, role=role)
        loss = drawn.box(x, 358, "loss ℓ", "loss", 90, 36)
        drawn.arrow(box, loss, role="loss")
    return drawn


def glove(config: GloVeConfig | None = None) -> Diagram:
    """The table of counts, its logarithms as a product of two tables and two biases, and the loss."""
    config = config or GloVeConfig.glove_300()
    v, d = config.vocab, config.dim
    drawn = Diagram(470, 372, (
        f"GloVe. A text is counted into a table X of {v:,} by {v:,} words, most of it zero, drawn grey. The "
        f"logarithm of each count that is not zero is to be the inner product of a row of W, {v:,} by {d}, "
        f"with a row of W tilde, {v:,} by {d}, plus a bias b of the word and a bias b tilde of its company. "
        "The squared error of each pair, in red, is weighted by f of the count, which rises to 1. Violet: "
        "biases and weight. In the end a word's vector is the sum of its rows of W and W tilde."))
    cells = np.random.default_rng(3).random((7, 7))
    cells = np.maximum(cells, cells.T)
    X = Box(88, 84, 98, 98)
    for i in range(7):
        for j in range(7):
            here = (X.x - 42 + 14 * j, X.y - 42 + 14 * i)
            drawn.rect(*here, 14, 14, "image" if cells[i, j] > 0.86 else "frozen", radius=2)
    drawn.text(88, 18, "counts *X*", 14, weight=600)
    drawn.text(88, 148, f"{v:,} × {v:,}", 13, "soft")
    drawn.text(180, 84, "log *X_{ij}*  ≈", 14)
    W = drawn.matrix(244, 84, ["text"] * 7, 3, 14)
    drawn.text(244, 18, "*W*", 14, "text", weight=600)
    drawn.text(244, 148, f"{v:,} × {d}", 13, "text")
    turned = drawn.matrix(330, 84, ["block"] * 3, 7, 14)
    drawn.text(330, 50, f"*{W_TILDE}*^⊤", 14, "block", weight=600)
    drawn.text(330, 120, f"{d} × {v:,}", 13, "block")
    drawn.text(393, 84, "+", 15)
    drawn.matrix(410, 84, ["new"] * 7, 1, 14)
    drawn.text(410, 18, "*b*", 14, "new", weight=600)
    drawn.text(427, 84, "+", 15)
    drawn.text(448, 84, f"*{B_TILDE}*^⊤", 15, "new", weight=600)
    loss = drawn.box(262, 220, "*f*(*X_{ij}*) · (error)^2", "loss", 184, 40)
    drawn.arrow((W.x, 158), (W.x, 200), role="loss")
    drawn.arrow((turned.x, 130), (turned.x, 200), role="loss")
    drawn.arrow((X.x, 158), loss, role="loss", sides="bl")
    drawn.text(96, 180, "not the zeros", 13, "soft", "start")
    curve = [(40 + 2.2 * s, 340 - 60 * min(1.0, (s / 60) ** config.alpha)) for s in range(0, 101, 5)]
    drawn.line([(40, 340), (266, 340)])
    drawn.line([(40, 340), (40, 268)])
    drawn.line(curve, "new")
    drawn.text(118, 356, f"count *X_{{ij}}*, {config.x_max:g} at the bend", 13, "soft")
    drawn.text(52, 264, "weight *f*", 13, "new", "start")
    drawn.box(382, 306, f"*w_i* + *{'w' + chr(0x303)}_i*\nvector after training", "", 158, 50)
    return drawn


# ------------------------------------------------------------------------------------------ a tree that grows


def tree_player(counts: Mapping[str, int]) -> Block:
    """Huffman's tree over words and their counts, join after join; the last frame has the codes.

    Raises ``ValueError`` for fewer than two words or more than eight.
    """
    if len(counts) > 8:
        raise ValueError(f"{len(counts)} words do not fit into the figure; give eight or fewer")
    words, numbers = list(counts), [*counts.values()]
    steps, tree = list(growth(numbers)), HuffmanTree.of(numbers)
    places = _places(len(words), steps)
    weight = dict(enumerate(numbers)) | {step.node: step.weight for step in steps}
    frames = [_forest(words, numbers, steps, n, places) for n in range(len(words))]
    labels = [f"{len(words)} words and their counts: a forest of {len(words)} trees"]
    for left, step in enumerate(reversed(steps), 1):
        labels.insert(1, f"the two lightest, {weight[step.left]} and {weight[step.right]}, are joined: "
                         f"{step.weight}; {left} tree{'s' if left > 1 else ''} left")
    codes = [tree.code(i) for i in range(len(words))]
    frames.append(_forest(words, numbers, steps, len(steps), places, codes))
    labels.append(f"codes: the way from the root; {tree.expected_length():.2f} bits a word on average")
    return player(frames, labels, (
        f"Huffman's tree grows over the words {', '.join(f'{w} ({n})' for w, n in counts.items())}: in "
        f"{len(steps)} steps the two lightest trees are joined, until one is left. The codes are "
        f"{', '.join(f'{word} {code}' for word, code in zip(words, codes))}."), seconds=1.6)


def _places(v: int, steps: Sequence[Joined]) -> dict[int, tuple[float, float]]:
    """Where each node stands: leaves side by side in the order of the finished tree, a node above the middle
    of its children."""
    children = {step.node: (step.left, step.right) for step in steps}
    order: list[int] = []
    stack = [steps[-1].node]
    while stack:
        node = stack.pop()
        if node in children:
            stack += children[node][::-1]
        else:
            order.append(node)
    gap = 440 / v
    height = dict.fromkeys(range(v), 0)
    x = {leaf: 15 + gap * (i + 0.5) for i, leaf in enumerate(order)}
    for step in steps:
        height[step.node] = 1 + max(height[step.left], height[step.right])
        x[step.node] = (x[step.left] + x[step.right]) / 2
    level = min(52.0, 230 / max(height.values()))
    return {node: (x[node], 262 - level * height[node]) for node in x}


def _forest(words: Sequence[str], numbers: Sequence[int], steps: Sequence[Joined], done: int,
            places: Mapping[int, tuple[float, float]], codes: Sequence[str] = ()) -> Diagram:
    """The forest after ``done`` joins."""
    made = steps[:done]
    drawn = Diagram(470, 330, f"a forest after {done} of {len(steps)} joins")
    fresh = made[-1].node if made and not codes else -1
    for step in made:
        x, y = places[step.node]
        for bit, child in enumerate((step.left, step.right)):
            to = places[child]
            role = "new" if step.node == fresh or codes else ""
            drawn.line([(x, y), to], role)
            if codes:
                middle = 0.55 * x + 0.45 * to[0] + (9 if bit else -9), 0.55 * y + 0.45 * to[1]
                drawn.text(*middle, str(bit), 14, "new", weight=600, halo=True)
    for step in made:
        drawn.node(*places[step.node], str(step.weight), "new" if step.node == fresh else "block", 30)
    taken = {made[-1].left, made[-1].right} if fresh >= 0 else set()
    wide = min(84.0, 440 / len(words) - 6)
    for i, word in enumerate(words):
        x, y = places[i]
        drawn.rect(x, y + 8, wide, 42, "new" if i in taken else "text")
        drawn.text(x, y, literal(word), 14, weight=600)
        drawn.text(x, y + 17, str(numbers[i]), 13, "soft")
        if codes:
            drawn.text(x, y + 48, codes[i], 13, "new", weight=600)
    return drawn


# ----------------------------------------------------------------------------------------------------- plots


def scores_over_pmi(x: Float[Tensor, "v c"], best: Float[Tensor, "v c"], counts: Float[Tensor, "v c"],
                    often: float = 100, seldom: float = 10, most: int = 1500) -> Figure:
    """Scores of pairs over where negative sampling would have them (eq:skipgram-shifted-pmi), for pairs that
    were met ``often`` and those met from once to ``seldom`` times; at most ``most`` of each."""
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    draw = torch.Generator().manual_seed(0)
    groups = (((counts >= 1) & (counts < seldom), f"met 1 to {seldom:g} times", PALETTE[5], "x"),
              (counts >= often, f"met {often:g} times or more", PALETTE[0], "o"))
    for chosen, name, colour, marker in groups:
        where, score = best[chosen], x[chosen]
        kept = torch.randperm(len(where), generator=draw)[:most]
        axis.scatter(where[kept], score[kept], s=7, color=colour, marker=marker, alpha=0.45, label=name,
                     linewidths=0.8, rasterized=True)
    low, high = axis.get_xlim()
    axis.axline((0, 0), slope=1, color="black", linewidth=1, linestyle="--")
    axis.set(xlim=(low, high), xlabel="PMI − log K, from counts", ylabel="score of the trained model")
    legend = axis.legend(markerscale=2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure


def sigmoid_error(table: Float[np.ndarray, " n"]) -> Figure:
    """word2vec's sigmoid beside the exact one: near 0, and the difference from −6 to 6."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.0))

    def by_table(x: np.ndarray) -> np.ndarray:
        return table[np.floor((x + 6) * 83).astype(int)]

    for axis, reach, count in ((axes[0], 0.1, 2000), (axes[1], 5.999, 4000)):
        x = np.linspace(-reach, reach, count)
        exact = 1 / (1 + np.exp(-x))
        if axis is axes[0]:
            axis.plot(x, exact, "--", color=PALETTE[1], label="exact")
            axis.plot(x, by_table(x), color=PALETTE[0], label="table")
            axis.set(xlabel="x", ylabel="σ(x)")
            axis.legend()
        else:
            axis.plot(x, by_table(x) - exact, color=PALETTE[0], linewidth=0.8)
            axis.set(xlabel="x", ylabel="table − exact")
    return figure
