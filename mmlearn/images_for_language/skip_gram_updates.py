r"""Skip-gram's training as it was published: one update of the weights a pair, word after word.

Code: github.com/tmikolov/word2vec.  Survey: 3.2.  Differs from the code: see ``table``; negatives are drawn
by the alias method (A. J. Walker, 1977) instead of from a table of 100 million entries, with the exact
probabilities.

An update reads what the update before it has written: a loop over a corpus that no tensor operation can do
at once. The functions below are therefore compiled by numba when they are first called (some seconds, once;
the result is kept beside this file), and are imported when training begins. Each goes over the centres
``begin`` … ``end`` - 1 of a corpus and returns the sum of the losses of its pairs in nats, before each
update, and their number. The gradients are those of eq:skipgram-hs-gradient and eq:skipgram-ns-gradient.

``W_in`` (v, d) and ``W_out`` hold float32 and change; ``ids``, ``sentence`` and ``width`` (n) are int32.
``table`` holds the sigmoid at 1000 points from -6 to 6 as word2vec.c has it, at which it looks up
$\lfloor 83(x+6)\rfloor$ (83 where 83.3 would be right); with an empty table the sigmoid is exact. With a
table the hierarchical softmax leaves out nodes with $|x|\ge6$, and negative sampling takes 0 or 1 there.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

FAST = {"reassoc", "contract", "nsz", "arcp"}      # sums in any order; infinities stay what they are
HALF, LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
ONE, TWO, FIVE = np.uint64(1), np.uint64(2), np.uint64(5)
LEAST = 1e-100                                     # a product of probabilities, its logarithm is taken


def compiled(function: Callable[..., Any]) -> Any:
    """The function as machine code, kept on the disk where that can be written."""
    function = inspect.unwrap(function)            # without the checks of shapes that tests put around it
    try:
        return numba.njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)(function)
    except RuntimeError:                           # nowhere to keep it
        return numba.njit(nogil=True, fastmath=FAST, error_model="numpy")(function)


def sigmoid_table() -> np.ndarray:
    """word2vec.c's sigmoid at -6, -5.988, …, 5.988."""
    share = np.arange(1000, dtype=np.float32) / np.float32(1000)
    powers = np.exp((share * 2 - 1) * 6).astype(np.float32)
    return (powers / (powers + 1)).astype(np.float32)


EXACT = np.zeros(0, np.float32)


def alias_table(
    p: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two columns by which a number is drawn from the distribution ``p`` (v) in one step: a row is drawn
    uniformly, and stands for itself with probability ``accept / 2**32``, else for its ``alias``."""
    v = len(p)
    share = (p * (v / p.sum())).tolist()
    alias = list(range(v))
    small = [i for i in range(v) if share[i] < 1]
    large = [i for i in range(v) if share[i] >= 1]
    accept = [1.0] * v
    while small and large:
        low, high = small.pop(), large.pop()
        accept[low], alias[low] = share[low], high
        share[high] -= 1 - share[low]
        (small if share[high] < 1 else large).append(high)
    bits = np.rint(np.array(accept) * 2**32).astype(np.int64)
    return bits, np.array(alias, np.int32)


@compiled
def looked_up(table, x):
    """The sigmoid of x within (-6, 6) as word2vec.c has it."""
    return table[int((x + np.float32(6)) * np.float32(83))]


@compiled
def hs_updates(W_in, W_out, ids, sentence, width, begin, end,
               paths, bits, lengths, lr, table):
    """Hierarchical softmax: the nodes on the way to the centre are taught the turns to take."""
    d, n = W_in.shape[1], len(ids)
    back = np.empty(d, np.float32)
    loss, product, pairs = 0.0, 1.0, 0
    for t in range(begin, end):
        target = ids[t]
        for s in range(max(0, t - width[t]), min(n, t + width[t] + 1)):
            if s == t or sentence[s] != sentence[t]:
                continue
            word = ids[s]
            pairs += 1
            back[:] = 0
            for step in range(lengths[target]):
                node, bit = paths[target, step], bits[target, step]
                sign = 1 - 2 * bit
                x = np.float32(0)
                for j in range(d):
                    x += W_in[word, j] * W_out[node, j]
                if len(table) and abs(x) >= 6:
                    continue
                q = 1 / (1 + math.exp(-sign * float(x)))    # of the right turn
                g = np.float32(sign * (1 - q))
                if len(table):
                    g = np.float32(1 - bit) - looked_up(table, x)
                g *= lr
                for j in range(d):
                    back[j] += g * W_out[node, j]
                    W_out[node, j] += g * W_in[word, j]
                product *= q
                if product < LEAST:
                    loss -= math.log(product)
                    product = 1.0
            for j in range(d):
                W_in[word, j] += back[j]
    return loss - math.log(product), pairs


@compiled
def drawn(state, accept, alias):
    """The next state of splitmix64, and a word: 32 bits for a row of the alias
    table, 32 for the choice in it."""
    state += np.uint64(0x9E3779B97F4A7C15)
    z = (state ^ (state >> HALF - TWO)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> HALF - FIVE)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> HALF - ONE
    row = np.int64((z >> HALF) * np.uint64(len(accept)) >> HALF)
    if np.int64(z & LOW) < accept[row]:
        return state, np.int32(row)
    return state, alias[row]


@compiled
def ns_updates(W_in, W_out, ids, sentence, width, begin, end,
               accept, alias, K, lr, table, seed):
    """Negative sampling: the centre is told from K words that are drawn for each pair."""
    d, n = W_in.shape[1], len(ids)
    back = np.empty(d, np.float32)
    loss, product, pairs = 0.0, 1.0, 0
    state = np.uint64(seed)
    for t in range(begin, end):
        target = ids[t]
        for s in range(max(0, t - width[t]), min(n, t + width[t] + 1)):
            if s == t or sentence[s] != sentence[t]:
                continue
            word = ids[s]
            pairs += 1
            back[:] = 0
            for k in range(K + 1):
                out, sign = target, np.float32(1)
                if k:
                    state, out = drawn(state, accept, alias)
                    sign = np.float32(-1)
                    if out == target:
                        continue
                x = np.float32(0)
                for j in range(d):
                    x += W_in[word, j] * W_out[out, j]
                q = 1 / (1 + math.exp(-sign * float(x)))
                g = np.float32(sign * (1 - q))
                if len(table):
                    label = np.float32(k == 0)
                    if x >= 6:
                        g = label - np.float32(1)
                    elif x <= -6:
                        g = label
                    else:
                        g = label - looked_up(table, x)
                g *= lr
                for j in range(d):
                    back[j] += g * W_out[out, j]
                    W_out[out, j] += g * W_in[word, j]
                product *= q
                if product < LEAST:
                    loss -= math.log(product)
                    product = 1.0
            for j in range(d):
                W_in[word, j] += back[j]
    return loss - math.log(product), pairs
