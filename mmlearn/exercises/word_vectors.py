"""The checks of chapter 3's exercises about words that are read alone: a dictionary, skip-gram, BERT, GloVe.
Reading on shows answers: try the exercise first.

Every check compares with what follows from the definition (the sum over all leaves, the table of counts), or
with the formula written out by hand, and with what the usual mistakes of its task would give. The exercises
about spaces that have seen pictures are checked in ``grounded_spaces``.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from mmlearn.exercises import Case, Hint, as_several, as_tensor, check, diagnose, same
from mmlearn.images_for_language.huffman import HuffmanTree

MASK = 103                          # the id of [MASK] in BERT's vocabulary
Rounds = dict[str, int | None]


# --------------------------------------------------------------------------------------- 1: a dictionary


def a_dictionary(levels: tuple[int, ...], lost: int,
                 end: str) -> tuple[dict[str, tuple[str, ...]], set[str], Rounds]:
    """A dictionary that is built from its answer: so many grounded words, words of round 1, 2, …, and words
    that are never learnt. Each of those is defined by the next; ``end`` says by what the last is: by the
    "first", by "itself", or by a word that has "no entry".

    Every second grounded word has an entry, too. The words come in the order of their letters.
    """
    names = [f"w{i:02d}" for i in torch.randperm(sum(levels) + lost + 1).tolist()]
    unlisted = names.pop()
    parts = [[names.pop() for _ in range(n)] for n in (*levels, lost)]
    *known, gone = parts
    answer: Rounds = {word: level for level, words in enumerate(known) for word in words}
    answer |= dict.fromkeys(gone)

    def some(words: list[str], n: int) -> list[str]:
        return [words[i] for i in torch.randperm(len(words))[:n].tolist()]

    graph = {word: tuple(some(names_of(parts), 2)) for word in known[0][::2]}
    for level, words in enumerate(known[1:], 1):
        earlier = names_of(known[:level])
        graph |= {word: tuple(sorted({*some(known[level - 1], 1), *some(earlier, 2)})) for word in words}
    last = {"first": gone[0], "itself": gone[-1], "no entry": unlisted}[end]
    for word, following in zip(gone, [*gone[1:], last]):
        graph[word] = tuple(sorted({following, *some(names_of(known), 1)}))
    return {word: graph[word] for word in sorted(graph)}, set(known[0]), answer


def names_of(parts: list[list[str]]) -> list[str]:
    """The words of several lists in one."""
    return [word for part in parts for word in part]


def with_one_known_word(graph: dict[str, tuple[str, ...]], grounded: set[str]) -> Rounds:
    """The rounds if one known word of a definition were enough."""
    rounds: Rounds = dict.fromkeys(graph) | dict.fromkeys(grounded, 0)
    for number in range(1, len(graph) + 1):
        known = {word for word, at in rounds.items() if at is not None}
        rounds |= {word: number for word in graph if word not in known and known & set(graph[word])}
    return rounds


@check("what stands on a circle, or leads into one, is never learnt; the others are, round by round")
def rounds(answer: Callable[..., Any]) -> str | None:
    """Compares rounds in dictionaries that were built from their answers, one of them without grounded
    words."""
    cases = [a_dictionary((4, 3, 3, 2), 3, "first"), a_dictionary((5, 4, 2, 2, 2), 4, "no entry"),
             a_dictionary((3, 6, 3), 1, "itself"), a_dictionary((0,), 4, "first")]
    found = []
    for graph, grounded, want in cases:
        mine, theirs = deepcopy(graph), set(grounded)
        got = answer(mine, theirs)
        if (mine, theirs) != (graph, grounded):
            return "your function changes the dictionary or the set that it was handed: work on a copy"
        if not isinstance(got, dict) or set(got) != set(want):
            return "return a dictionary with every word of the graph and every grounded word, and no other"
        if not all(at is None or isinstance(at, int) for at in got.values()):
            return "a round is a whole number, or None"
        found.append(got)
    if all(got == with_one_known_word(graph, grounded) for got, (graph, grounded, _) in zip(found, cases)):
        return "one known word is not enough: all words of a definition have to be known"
    for got, (graph, grounded, want) in zip(found, cases):
        if any(got[word] != 0 for word in grounded):
            return "grounded words need no round: 0, whether they have an entry or not"
        for word in graph:
            mine_at, at = got[word], want[word]
            if at is None and mine_at is not None:
                return (f"{word} is given round {mine_at}, but it waits for a word that waits for it, or for "
                        "one that nobody explains: such words are never learnt, None")
            if at is not None and mine_at is None:
                return f"{word} is never learnt, you say; after round {at} it is"
            if at is not None and mine_at is not None and mine_at < at:
                return (f"{word} cannot be learnt in round {mine_at}: a word learnt in a round can define "
                        "others only in the next")
            if mine_at != at:
                return f"{word} is learnt in round {at}, as soon as it can be; you say {mine_at}"
    return None


# ------------------------------------------------------------------------------------- 2, 3: skip-gram


def tree_of(words: int) -> tuple[HuffmanTree, Tensor]:
    """A tree over so many words of random counts, and scores of its inner nodes."""
    counts = (torch.rand(words) ** 3 * 100).long() + 1
    return HuffmanTree.of(counts.tolist()), 2 * torch.randn(words - 1, dtype=torch.float64)


def below_by_leaves(tree: HuffmanTree, scores: Tensor, word: int, depth: int) -> float:
    """The probability below the node that ``word``'s way reaches after ``depth`` turns: that of all leaves
    whose code begins as its does."""
    total = 0.0
    for leaf in range(len(tree)):
        if tree.code(leaf).startswith(tree.code(word)[:depth]):
            p = 1.0
            for node, bit in zip(tree.paths[leaf].tolist(), tree.code(leaf)):
                p *= float(torch.sigmoid(scores[node] if bit == "0" else -scores[node]))
            total += p
    return total


@check("a group of words for the price of its way: the sums over the leaves say the same")
def below_the_node(answer: Callable[..., Any]) -> str | None:
    """Compares with sums over the leaves of small trees, then with the root and with huge scores."""
    cases: list[Case] = []
    for words in (5, 9, 14):
        tree, scores = tree_of(words)
        asked = [(w, d) for w in range(words) for d in range(1, int(tree.lengths[w]) + 1)]
        word, depth = (torch.tensor(column) for column in zip(*asked))
        x, bits = scores[tree.paths[word]], tree.bits[word]
        got = as_tensor(answer(x, bits, depth), (len(asked),), "the probability")
        want = torch.tensor([below_by_leaves(tree, scores, w, d) for w, d in asked], dtype=torch.float64)
        place, sign = torch.arange(x.shape[1]), 1 - 2 * bits
        turn = torch.sigmoid(sign * x)

        def product(first: int, extra: int = 0, turn: Tensor = turn, place: Tensor = place,
                    depth: Tensor = depth) -> Tensor:
            there = (place >= first) & (place < depth[:, None] + extra)
            return turn.masked_fill(~there, 1).prod(1)

        taken = place < depth[:, None]
        cases.append((got, want, {
            "one turn too many: the turn at the node itself is not taken yet": product(0, 1),
            "one turn too few: the last of the depth turns counts, too": product(0, -1),
            "the turn at the root is missing": product(1),
            "every row goes down to its leaf; stop after depth turns": product(0, 99),
            "the branches have changed places: bit 0 is the positive one":
                torch.sigmoid(-sign * x).masked_fill(~taken, 1).prod(1),
            "this is its logarithm; a probability is asked for": want.log(),
            "turns are multiplied, not averaged": (turn * taken).sum(1) / depth,
            "the scores are multiplied before the sigmoid; each turn has a sigmoid of its own":
                torch.sigmoid((sign * x).masked_fill(~taken, 1).prod(1)),
            "the sigmoid of a sum is not the product of sigmoids":
                torch.sigmoid((sign * x * taken).sum(1)),
        }))
    wrong = diagnose(cases, "the probabilities of one tree should be {want}, yours are {got}")
    if wrong:
        return wrong
    x, bits = torch.randn(2, 3, dtype=torch.float64), torch.tensor([[0, 1, 0], [1, 1, 0]])
    if not same(as_tensor(answer(x, bits, torch.zeros(2).long()), (2,)), torch.ones(2)):
        return "after no turn at all everything lies below: at depth 0 the probability is 1"
    x, bits = torch.tensor([[1000.0, -1000.0], [1000.0, 1000.0]]).double(), torch.tensor([[0, 1], [1, 0]])
    got = as_tensor(answer(x, bits, torch.tensor([2, 1])), (2,))
    if not same(got, torch.tensor([1.0, 0.0])):
        return (f"with scores of 1000 the two probabilities are 1 and 0, yours are {got.tolist()}: an "
                "exponential overflows; take torch.sigmoid or logsigmoid")
    return None


@check("the noise that negative sampling took out is back, and the counts' own conditionals come out")
def off_word2vec(answer: Callable[..., Any]) -> str | None:
    """Compares at scores that are the optimum of a table of counts, at others, and at large ones."""
    forward: list[Case] = []
    backward: list[Case] = []
    for v, K, best in ((5, 5, True), (7, 2, True), (6, 15, False)):
        pairs = (torch.rand(v, v, dtype=torch.float64) ** 3 * 90 + 1) * 4 ** torch.rand(v, 1)
        counts = pairs.sum(1)
        noise = counts**0.75 / (counts**0.75).sum()
        shares, odds = pairs / counts[:, None], pairs / pairs.sum(0)
        x = (shares / noise).log() - torch.tensor(K).log() if best else torch.randn(v, v).double()
        p_out, p_in = as_several(answer(x, counts, K), ("p(o | i)", "p(i | o)"))
        put_back = x + noise.log()
        if not best:
            shares = put_back.softmax(1)
            odds = counts[:, None] * shares / (counts @ shares)
        forward.append((as_tensor(p_out, (v, v), "p(o | i)"), shares, {
            "the noise is missing: frequent words were negatives more often, and score lower for it":
                x.softmax(1),
            "the counts are put back whole; the noise was drawn from their power 3/4":
                (x + counts.log()).softmax(1),
            "p(o | i) is normalised over the inputs; a row is one input and sums to 1 over its outputs":
                put_back.softmax(0),
            "p(o | i) has inputs and outputs exchanged: the row is the input": put_back.softmax(1).T,
            "with the factor K this sums to 1 at the optimum alone; K is the same for all outputs, so divide "
            "by the sum of the row instead": K * put_back.exp(),
            "the rows do not sum to 1: divide by the sum of the row": put_back.exp(),
            "the noise is taken away once more: it stands below the fraction already":
                (x - noise.log()).softmax(1),
            "this is the probability that a pair is from the text and not drawn": x.sigmoid(),
            "this is a logarithm; a probability is asked for": shares.log(),
        }))
        backward.append((as_tensor(p_in, (v, v), "p(i | o)"), odds, {
            "how often each input occurs is missing: Bayes' rule asks for it": shares / shares.sum(0),
            "inputs are no negatives: they occur as often as they are counted, without the power 3/4":
                noise[:, None] * shares / (noise @ shares),
            "p(i | o) has inputs and outputs exchanged: the row is the input": odds.T,
            "p(i | o) is right at the optimum alone, where all rows have the same sum: take p(o | i), not x":
                (x + counts.log()[:, None]).softmax(0),
            "this is the probability of both together, p(i, o)": counts[:, None] * shares / counts.sum(),
            "this is p(o | i) again; each column should sum to 1": shares,
        }))
    wrong = (diagnose(forward, "one p(o | i) should be {want}, yours is {got}")
             or diagnose(backward, "p(o | i) is right; one p(i | o) should be {want}, yours is {got}"))
    if wrong:
        return wrong
    large = as_several(answer(x + 1000, counts, 5), ("p(o | i)", "p(i | o)"))
    return None if same(list(large), [shares, odds]) else (
        "with 1000 added to all scores nothing should change, and an exponential overflows: take a softmax, "
        "or subtract the largest score of the row first")


# ------------------------------------------------------------------------------------------- 4: BERT


@check("all pieces of a word are hidden or none, and every hidden place is asked")
def whole_words(answer: Callable[..., Any]) -> str | None:
    """Compares inputs and labels of sentences with words of one to four pieces."""
    cases: list[Case] = []
    for lengths, started in (([1, 3, 1, 2, 4, 1], [1, 1, 0, 0, 1, 1]), ([2, 2, 1, 3], [1, 0, 1, 1]),
                             ([4, 1, 2, 1, 3], [0, 1, 1, 1, 1])):
        sizes = [1, *lengths, 1]                                     # [CLS] and [SEP]
        starts = torch.tensor([i == 0 for n in sizes for i in range(n)])
        t = len(starts)
        tokens, random_ids = 1000 + torch.randperm(9000)[:t], 20_000 + torch.randperm(9000)[:t]
        tokens[0], tokens[-1] = 101, 102
        special = (tokens == 101) | (tokens == 102)
        choose = torch.rand(t) < 0.5
        choose[starts] = torch.tensor([1, *started, 1]).bool()
        kind = torch.rand(t, dtype=torch.float64)
        kind[1], kind[2], kind[-2] = 0.8, 0.9, 0.95
        inputs, labels = as_several(answer(tokens, ~starts, special, choose, kind, random_ids),
                                    ("the inputs", "the labels"))
        inputs, labels = (as_tensor(one, (t,), what, torch.int64) for one, what in (
            (inputs, "inputs"), (labels, "labels")))
        word = starts.long().cumsum(0) - 1
        picked = choose[starts][word] & ~special
        any_piece = torch.stack([choose[word == w].any() for w in word]) & ~special

        def hidden(places: Tensor, k: Tensor = kind, tokens: Tensor = tokens,
                   random_ids: Tensor = random_ids, edge: float = 0.8) -> Tensor:
            drawn = torch.where(k < 0.9, random_ids, tokens)
            return torch.where(places, torch.where(k < edge, MASK, drawn), tokens)

        def asked(places: Tensor, tokens: Tensor = tokens) -> Tensor:
            return torch.where(places, tokens, -100)

        reads = hidden(picked)
        cases.append(([inputs, labels], [reads, asked(picked)], {
            "labels at [MASK] alone: the places that show another word, or the right one, are asked, too":
                [reads, asked(reads == MASK)],
            "labels where the input changed: the tenth that stays as it is is asked, too":
                [reads, asked(reads != tokens)],
            "one draw for a whole word: each piece has its own kind":
                [hidden(picked, kind[starts][word]), asked(picked)],
            "pieces are chosen one by one: a word is chosen, with all its pieces, if its first piece is":
                [hidden(choose & ~special), asked(choose & ~special)],
            "first pieces alone are hidden; the rest of a word gives it away":
                [hidden(picked & starts), asked(picked & starts)],
            "a word is chosen if its first piece is, not if any piece is":
                [hidden(any_piece), asked(any_piece)],
            "the labels are swapped: -100 says that a place is not asked": [reads, asked(~picked)],
            "the labels hold what is read; asked is the token that stood there":
                [reads, torch.where(picked, reads, -100)],
            "special tokens are never chosen": [hidden(choose[starts][word]), asked(choose[starts][word])],
            "a kind of exactly 0.8 is no [MASK] any more: [0, 0.8) is":
                [hidden(picked, edge=0.8 + 1e-9), asked(picked)],
        }))
    return diagnose(cases, "inputs and labels should be {want}, yours are {got}")


# ------------------------------------------------------------------------------------------ 5: GloVe


def bias_case(answer: Callable[..., Any], v: int, d: int, empty: int | None = None) -> Case:
    """What comes out for a random table of counts, which may have an empty row, what should, and what
    mistakes would give."""
    X = (torch.rand(v, v, dtype=torch.float64) ** 2 * 40).round(decimals=1) * (torch.rand(v, v) < 0.7)
    X.fill_diagonal_(0.3)
    X[:, 0] = 5.0
    if empty is not None:
        X[empty] = 0
    w, w_tilde = torch.randn(2, v, d, dtype=torch.float64)
    b_tilde, f = torch.randn(v, dtype=torch.float64), (X / 10).clamp(max=1) ** 0.75
    got = as_tensor(answer(X, w, w_tilde, b_tilde, f), (v,), "the biases")
    there, scores, log_X = X > 0, w @ w_tilde.mT, X.clamp(min=1e-9).log()
    if bool(got[there.any(1)].isnan().any()):
        raise Hint("a cell without counts has no logarithm, and 0 times -inf is no number: leave it out")
    if bool(got.isnan().any()):
        raise Hint("a row without counts is 0 / 0 here: nothing pulls at its bias, let it be 0")

    def mean(target: Tensor, weight: Tensor, axis: int = 1) -> Tensor:
        total = weight.sum(axis)
        return torch.where(total > 0, (weight * target).sum(axis) / total.clamp(min=1e-9), 0)

    left, one = log_X - scores - b_tilde, there.double()
    want, filled = mean(left, f), X.log1p() - scores - b_tilde
    return got, want, {
        "each cell counts the same here; in the loss a cell counts by its weight": mean(left, one),
        "log(X + 1) in place of log X: the logarithm of a count is asked for": mean(filled, f),
        "a count below 1 is a count: a pair at distance 10 counts 1/10, and its logarithm is negative":
            mean(X.clamp(min=1).log() - scores - b_tilde, f),
        "cells without a count are left out, not filled with log(0 + 1)": filled.mean(1),
        "this is the logarithm of the row's sum: that is what a bias takes up if vectors say nothing":
            torch.where(there.any(1), X.sum(1).clamp(min=1e-9).log(), 0),
        "the bias of the column word is missing: it takes its part of log X": mean(log_X - scores, f),
        "what the vectors say is missing: the bias has to make up for what they leave":
            mean(log_X - b_tilde, f),
        "the sign is wrong: log X minus what is said already": -want,
        "this is the weighted sum; it has to be divided by the sum of the weights": (f * left).sum(1),
        "divided by the number of cells, not by the sum of the weights":
            (f * left).sum(1) / one.sum(1).clamp(min=1),
        "the counts are the weights here; f(X) is capped": mean(left, X),
        "these are biases of the columns; b_i belongs to row i": mean(left, f, 0),
        "this is one step of gradient descent; the loss is quadratic in the bias, go to its minimum":
            2 * (f * left).sum(1),
    }


@check("the gradient in every bias is 0 there, and empty cells have no say")
def bias_that_is_left(answer: Callable[..., Any]) -> str | None:
    """Compares biases of tables with empty cells, then of one with an empty row."""
    said = "the biases should be {want}, yours are {got}"
    return (diagnose([bias_case(answer, 5, 2), bias_case(answer, 7, 3)], said)
            or diagnose([bias_case(answer, 6, 2, empty=2)], said))
