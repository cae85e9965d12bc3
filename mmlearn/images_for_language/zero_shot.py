r"""Zero-shot naming and finding: the picture of a word that was only read, and the word of a picture that was
never seen with it.

Paper: A. Lazaridou, N. T. Pham and M. Baroni (2015), *Combining Language and Vision with a Multimodal
Skip-gram Model*, NAACL-HLT, arXiv:1501.02598, sec. 5.2 (labelling and retrieval) and sec. 6 (entropy);
A. E. Hoerl and R. W. Kennard (1970), *Ridge Regression: Biased Estimation for Nonorthogonal Problems*,
Technometrics 12, for the baseline.  Survey: 3.4.  Differs from the paper: the strength of a ridge, which the
paper does not state, is chosen by the errors of its own training words, each left out in turn; ties count
against a model. Beside the paper's labelling, whose ridge learns from some held-out words to name the others
(``label_by_folds``), stands the strict one, whose ridge learns from words that were seen with pictures alone.
The paper says that vectors are made positive by a constant and brought to unit norm before their entropy is
taken; the norm here is the sum, so that the numbers are probabilities.

Letters: $v_w$ is the vector of word $w$ (the paper's $u_w$), $f_w$ that of its pictures (the paper's $v_w$),
$z_w$ where the word lies among pictures. What the paper calls P@k is the share of questions whose answer
stands among the first $k$: ``metrics.retrieval.recall_at_k``.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.images_for_language.sequential_fusion import unit_rows
from mmlearn.metrics.retrieval import recall_at_k

STRENGTHS = tuple(10.0 ** power for power in range(-4, 4))      # of ridges; the best of them is taken
KS = (1, 2, 10, 20, 50)                                         # the places that the paper reports


# ------------------------------------------------------------------------------------------ equations


def ridge_weights(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n f"], alpha: float | int
) -> Float[Tensor, "d f"]:
    r"""eq:zero-shot-ridge: $W=(X^\top X+\alpha I)^{-1}X^\top Y$, which makes
    $\|XW-Y\|^2+\alpha\|W\|^2$ least; the means of $X$ and $Y$ were taken off."""
    I = torch.eye(X.shape[1], dtype=X.dtype, device=X.device)
    return torch.linalg.solve(X.mT @ X + alpha * I, X.mT @ Y)


def left_out_errors(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n f"], alpha: float | int
) -> Float[Tensor, "n f"]:
    r"""eq:zero-shot-left-out: $e_i=(y_i-x_iW)/(1-\frac1n-h_i)$ with
    $h_i=x_i(X^\top X+\alpha I)^{-1}x_i^\top$, after the means were taken off:
    what the ridge that never saw row $i$ gets wrong there, without fitting it."""
    rows = torch.eye(len(X), dtype=X.dtype, device=X.device)
    both = ridge_weights(X, torch.cat([Y, rows], dim=1), alpha)
    W, P = both.split([Y.shape[1], len(X)], dim=1)              # d f, d n
    h = (X * P.mT).sum(dim=1)
    return (Y - X @ W) / (1 - 1 / len(X) - h)[:, None]


def places(
    queries: Float[Tensor, "q f"], candidates: Float[Tensor, "n f"],
    answers: Int[Tensor, " q"],
) -> Int[Tensor, " q"]:
    r"""eq:zero-shot-place: $r=1+|\{j\ne a:\cos(z,f_j)\ge\cos(z,f_a)\}|$, the place
    of the answer $a$ among all candidates, those of training among them."""
    scores = unit_rows(queries) @ unit_rows(candidates).mT          # q n
    return (scores >= scores.gather(1, answers[:, None])).sum(dim=1)


def entropy(
    z: Float[Tensor, "n f"], least: float = 1e-3
) -> Float[Tensor, " n"]:
    r"""eq:zero-shot-entropy: $H_w=-\sum_ip_i\log p_i$ with
    $p_i=(z_{wi}+c)/\sum_j(z_{wj}+c)$, and one $c$ that makes the numbers of all
    words positive: low where few features stand out (in nats)."""
    positive = z - z.min() + least * (z.max() - z.min()).clamp(min=1e-8)
    p = positive / positive.sum(dim=1, keepdim=True)
    return -(p * p.log()).sum(dim=1)


# ------------------------------------------------------------------------------------- ridge regression


@dataclass(frozen=True)
class Ridge:
    """A linear map with an offset from vectors (n, d) to vectors (n, f), and the strength it was fitted
    with."""

    weights: Float[Tensor, "d f"]
    x_mean: Float[Tensor, " d"]
    y_mean: Float[Tensor, " f"]
    alpha: float

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n f"]:
        return (x - self.x_mean) @ self.weights + self.y_mean


def fit_ridge(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n f"], alpha: float | int | None = None
) -> Ridge:
    """The ridge from X to Y (eq:zero-shot-ridge), in float64; without ``alpha`` the strength of ``STRENGTHS``
    with the smallest squared error of rows left out (eq:zero-shot-left-out).

    Raises ``ValueError`` for fewer than three pairs, and for a strength that is not positive.
    """
    if len(X) < 3:
        raise ValueError(f"{len(X)} pairs are too few to learn a map from; give at least 3")
    if alpha is not None and not alpha > 0:
        raise ValueError(f"alpha is {alpha}; the strength of a ridge is a positive number")
    x_mean, y_mean = X.double().mean(dim=0), Y.double().mean(dim=0)
    x, y = X.double() - x_mean, Y.double() - y_mean
    if alpha is None:
        alpha = min(STRENGTHS, key=lambda a: float(left_out_errors(x, y, a).square().sum()))
    W = ridge_weights(x, y, alpha)
    return Ridge(W.to(Y.dtype), x_mean.to(X.dtype), y_mean.to(Y.dtype), float(alpha))


# --------------------------------------------------------------------------------- labelling, retrieval


def hold_out(
    words: Sequence[str], share: float, never: Collection[str] = (), always: Collection[str] = (),
    seed: int = 0,
) -> tuple[list[int], list[int]]:
    """The strict split: numbers of the words that are seen with pictures, and of those that are held out,
    about ``share`` of all.

    Words in ``never`` are not held out: the classes that the network of the features was trained to tell
    apart, whose pictures it has seen with a label. Those in ``always`` are. Raises ``ValueError`` where that
    cannot be.
    """
    both, barred = set(never) & set(always), set(never) | set(always)
    held = {i for i, word in enumerate(words) if word in set(always)}
    free = [i for i, word in enumerate(words) if word not in barred]
    wanted = round(share * len(words))
    if both:
        raise ValueError(f"{sorted(both)[0]!r} is never and always held out; decide")
    if not 0 < wanted <= len(held) + len(free) or wanted < len(held):
        raise ValueError(f"{wanted} of {len(words)} words are to be held out, of {len(held) + len(free)} "
                         f"that may and {len(held)} that must be; choose another share")
    order = torch.randperm(len(free), generator=torch.Generator().manual_seed(seed)).tolist()
    held |= {free[i] for i in order[:wanted - len(held)]}
    return [i for i in range(len(words)) if i not in held], sorted(held)


def label(
    words: Float[Tensor, "n d"], pictures: Float[Tensor, "n f"],
    seen: Sequence[int], held_out: Sequence[int], alpha: float | int | None = None,
) -> Int[Tensor, " q"]:
    """Picture -> word, strictly: a ridge that learned from the words in ``seen`` maps the pictures of those
    in ``held_out`` among all n words; places of the right ones."""
    ridge = fit_ridge(pictures[list(seen)], words[list(seen)], alpha)
    answers = torch.tensor(list(held_out), dtype=torch.int64)
    return places(ridge(pictures[answers]), words, answers)


def label_by_folds(
    words: Float[Tensor, "n d"], pictures: Float[Tensor, "n f"], held_out: Sequence[int],
    also: Sequence[int] = (), folds: int = 5, alpha: float | int | None = None,
) -> Int[Tensor, " q"]:
    """Picture -> word as in the paper: the held-out words are named in ``folds`` parts, each by a ridge that
    learned from the other parts, and from the words in ``also`` (for skip-gram, all words seen with
    pictures; for the multimodal models, whose vectors of such words know their pictures, none)."""
    held = list(held_out)
    if not 2 <= folds <= len(held):
        raise ValueError(f"{folds} folds of {len(held)} held-out words; choose from 2 to their number")
    found = torch.empty(len(held), dtype=torch.long)
    for fold in range(folds):
        rest = [w for i, w in enumerate(held) if i % folds != fold]
        found[fold::folds] = label(words, pictures, [*rest, *also], held[fold::folds], alpha)
    return found


def retrieve(
    z: Float[Tensor, "n f"], pictures: Float[Tensor, "n f"], held_out: Sequence[int]
) -> Int[Tensor, " q"]:
    """Word -> picture: places of the pictures of the held-out words among those of all n, nearest to where
    the word lies, ``z``: its vector itself (A), mapped (B), or brought there by a ridge."""
    answers = torch.tensor(list(held_out), dtype=torch.int64)
    return places(z[answers], pictures, answers)


def retrieve_by_ridge(
    words: Float[Tensor, "n d"], pictures: Float[Tensor, "n f"],
    seen: Sequence[int], held_out: Sequence[int], alpha: float | int | None = None,
) -> Int[Tensor, " q"]:
    """Word -> picture for vectors that know of no pictures: by a ridge that learned from words seen."""
    return retrieve(fit_ridge(words[list(seen)], pictures[list(seen)], alpha)(words), pictures, held_out)


def zero_shot_scores(found: Int[Tensor, " q"], ks: Sequence[int] = KS) -> dict[str, float]:
    """P@k, the shares of answers among the first k, and the mean place."""
    return {**{f"P@{k}": recall_at_k(found, k) for k in ks}, "mean rank": float(found.double().mean())}


def nearest_pictures(
    z: Float[Tensor, " f"], pictures: Float[Tensor, "n e"], k: int = 5
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Numbers of the k pictures that lie nearest to where a word lies, and their cosines: what a word that
    was only read looks like. Raises ``ValueError`` for more pictures than there are, and for vectors of
    another width than the word's."""
    if not 0 < k <= len(pictures):
        raise ValueError(f"{k} of {len(pictures)} pictures are asked for; choose from 1 to their number")
    if len(z) != pictures.shape[1]:
        raise ValueError(f"the word lies among vectors of {len(z)} numbers, those of the pictures have "
                         f"{pictures.shape[1]}; take the features that the model was trained with")
    best = (unit_rows(pictures) @ unit_rows(z)).topk(k)
    return best.indices, best.values


# ------------------------------------------------------------------------------------------ what moved


def turned(
    before: Float[Tensor, "n d"], after: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    r"""eq:moved-turn: $1-\cos(v_w,v'_w)$ of each word, for two trainings from the same
    start with the same batches: what the pictures did to its vector."""
    return 1 - (unit_rows(before) * unit_rows(after)).sum(dim=1)


def company(
    before: Float[Tensor, "n d"], after: Float[Tensor, "n e"]
) -> Float[Tensor, " n"]:
    r"""eq:moved-company: $1-\mathrm{corr}_{j\ne w}\big(\cos(v_w,v_j),\cos(v'_w,v'_j)\big)$:
    how far a word's likeness to all others changed, whatever axes either
    training has chosen."""
    n = len(before)
    others = ~torch.eye(n, dtype=torch.bool, device=before.device)
    rows = []
    for x in (before, after):
        cosines = (unit_rows(x) @ unit_rows(x).mT)[others].view(n, n - 1)
        rows.append(unit_rows(cosines - cosines.mean(dim=1, keepdim=True)))
    return 1 - (rows[0] * rows[1]).sum(dim=1)


def neighbours_kept(
    before: Float[Tensor, "n d"], after: Float[Tensor, "n e"], k: int = 5
) -> Float[Tensor, " n"]:
    """The share of each word's k nearest other words that are still among them."""
    nearest = []
    for x in (before, after):
        cosines = unit_rows(x) @ unit_rows(x).mT
        nearest.append(cosines.fill_diagonal_(float("-inf")).topk(k, dim=1).indices)
    same = nearest[0][:, :, None] == nearest[1][:, None, :]         # n k k
    return same.any(dim=2).double().mean(dim=1).to(before.dtype)
