r"""What pictures do to words and to their mapping, one update a token: the part of multimodal skip-gram's
training that skip-gram's own updates do not do.

Paper: A. Lazaridou, N. T. Pham and M. Baroni (2015), arXiv:1501.02598, sec. 3.  Survey: 3.4.  Differs from
the paper: where ``clip`` is positive, the gradient at ``z`` is made no longer than it.

An update reads what the one before it has written, as in ``skip_gram_updates``, and is compiled as those are.
The gradients are those of eq:mmskipgram-vision-gradient and eq:mmskipgram-map-gradient.

``W_in`` (v, d) and ``M`` (d, f) hold float32 and change; an empty ``M`` (0, 0) stands for model A. ``ids``
(n) are the tokens, ``row`` (v) which row of ``pictures`` (p, f) a word has, -1 for none; those rows have
length 1. ``others`` (n, k) are rows of the pictures that each token is to be far from. ``lr`` is the rate of
the words, ``lr_map`` that of ``M``.
"""

import math

import numpy as np

from mmlearn.images_for_language.skip_gram_updates import compiled


@compiled
def vision_updates(W_in, M, ids, row, pictures, others, margin, lam, lr, lr_map, clip):
    """One step up for each token whose word has pictures; returns the sum of L_vision before each step
    (without the penalty), and how many tokens have pictures. A word at 0 has no direction and is left."""
    d, f, is_mapped = W_in.shape[1], pictures.shape[1], len(M) > 0
    z, dz, dv = np.empty(f, np.float32), np.empty(f, np.float32), np.empty(d, np.float32)
    total, tokens = 0.0, 0
    for t in range(len(ids)):
        word = ids[t]
        own = row[word]
        if own < 0:
            continue
        tokens += 1
        if is_mapped:
            z[:] = 0
            for i in range(d):
                for j in range(f):
                    z[j] += W_in[word, i] * M[i, j]
        else:
            z[:] = W_in[word]
        square, right = np.float32(0), np.float32(0)
        for j in range(f):
            square += z[j] * z[j]
            right += z[j] * pictures[own, j]
        length = np.float32(math.sqrt(square))
        if length < 1e-8:
            total -= margin * others.shape[1]
            continue
        right /= length
        dz[:] = 0
        for k in range(others.shape[1]):
            other = others[t, k]
            wrong = np.float32(0)
            for j in range(f):
                wrong += z[j] * pictures[other, j]
            wrong /= length
            hinge = margin - right + wrong
            if hinge <= 0:
                continue
            total -= hinge
            along = (right - wrong) / length                            # what would only make z longer
            for j in range(f):
                dz[j] += pictures[own, j] - pictures[other, j] - along * z[j]
        square = np.float32(0)
        for j in range(f):
            dz[j] /= length
            square += dz[j] * dz[j]
        size = math.sqrt(square)
        if clip > 0 and size > clip:
            for j in range(f):
                dz[j] *= np.float32(clip / size)
        if is_mapped:
            for i in range(d):
                dv[i] = 0
                for j in range(f):
                    dv[i] += dz[j] * M[i, j]
                    M[i, j] += lr_map * (W_in[word, i] * dz[j] - 2 * lam * M[i, j])
            for i in range(d):
                W_in[word, i] += lr * dv[i]
        else:
            for j in range(f):
                W_in[word, j] += lr * dz[j]
    return total, tokens
