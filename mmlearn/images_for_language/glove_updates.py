r"""How GloVe learns: AdaGrad on all counts at once, and the released program's update for each count.

Paper: J. Pennington, R. Socher and C. D. Manning (2014), *GloVe*, EMNLP, sec. 4.2; J. Duchi, E. Hazan and
Y. Singer (2011), *Adaptive Subgradient Methods for Online Learning and Stochastic Optimization*, JMLR 12
(AdaGrad); github.com/stanfordnlp/GloVe and the package ``mittens``.  Survey: 3.2.

Both are fast twins of ``glove.gradients``, and held equal to it, and to a loop, by tests. All at once: the
products of the counted pairs alone, and their weighted sums, by torch's kernels for sparse tables; a bias
is one more number of a vector whose partner is 1. One by one: entries that have no word in common do not
see each other's update, so those that come next and are free of each other are done together, which changes
nothing.
"""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

CUT = 100.0                 # of a component of a gradient, in the released program
Parameters = tuple[Tensor, Tensor, Tensor, Tensor]


def adagrad(
    theta: Float[Tensor, "*n"], g: Float[Tensor, "*n"],
    s: Float[Tensor, "*n"], lr: float | int,
) -> None:
    r"""eq:glove-adagrad: $s\leftarrow s+g^2$, $\theta\leftarrow\theta-\eta\,g/\sqrt s$, number by number,
    in place: what has moved much moves less."""
    s.addcmul_(g, g)
    theta.addcdiv_(g, s.sqrt(), value=-lr)


def entry_update(
    w: Float[np.ndarray, "n d"], c: Float[np.ndarray, "n d"],
    s_w: Float[np.ndarray, "n d"], s_c: Float[np.ndarray, "n d"],
    fe: Float[np.ndarray, " n"], lr: float | int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    r"""eq:glove-entry: $g=\eta\,[f e\,\tilde w]_{-100}^{100}$, $w\leftarrow w-g/\sqrt s$,
    $s\leftarrow s+g^2$, and the same with $w$, $\tilde w$ exchanged, both with the old values: the
    released program's order, which divides before it adds."""
    g_w = lr * (fe[:, None] * c).clip(-CUT, CUT)
    g_c = lr * (fe[:, None] * w).clip(-CUT, CUT)
    return (w - g_w / np.sqrt(s_w), c - g_c / np.sqrt(s_c),
            s_w + g_w * g_w, s_c + g_c * g_c)


class AllEntries:
    """Full-batch AdaGrad: ``step`` is one update of ``parameters`` (W, C, b, b_c), in place, by all counts.

    ``i`` and ``j`` (n) are rows and columns, by row; ``log_x`` and ``f`` (n) logarithms and weights of the
    counts. Equal to ``mittens`` with ``accumulator`` 0.1.
    """

    def __init__(self, parameters: Parameters, i: Int64[Tensor, " n"], j: Int64[Tensor, " n"],
                 log_x: Float[Tensor, " n"], f: Float[Tensor, " n"], lr: float | int,
                 accumulator: float | int = 0.1, biases: bool = True, seed: int = 0) -> None:
        W, C, b, b_c = parameters
        v, self.d, self.lr, self.biases = len(W), W.shape[1], lr, biases
        self.parameters = [p.data for p in parameters]
        self.log_x, self.f = log_x.to(W), f.to(W)
        self.j, self.rows = j, starts(i, v)
        self.turn = j.argsort(stable=True)                              # the counts by column
        self.i_turned, self.columns = i[self.turn], starts(j, v)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                             # torch says that such tables are new
            self.pattern = torch.sparse_csr_tensor(torch.cat([self.rows, torch.tensor([len(i)])]), j,
                                                   torch.zeros(len(i), dtype=W.dtype), (v, v))
        self.state = [torch.full_like(p, accumulator) for p in self.parameters]

    @torch.no_grad()
    def gradients(self) -> tuple[list[Tensor], float]:
        """Half of eq:glove-gradient, and the sum of 1/2 f e^2."""
        W, C, b, b_c = self.parameters
        one = torch.ones_like(b)
        words = torch.cat([W, b[:, None], one[:, None]], dim=1)     # [w, b, 1] [c, 1, b_c] = w c + b + b_c
        contexts = torch.cat([C, one[:, None], b_c[:, None]], dim=1)
        e = torch.sparse.sampled_addmm(self.pattern, words, contexts.mT, beta=0.0).values() - self.log_x
        fe = self.f * e
        g_w = F.embedding_bag(self.j, contexts, self.rows, mode="sum", per_sample_weights=fe)
        g_c = F.embedding_bag(self.i_turned, words, self.columns, mode="sum",
                              per_sample_weights=fe[self.turn])
        d = self.d
        return [g_w[:, :d], g_c[:, :d], g_w[:, d], g_c[:, d + 1]], 0.5 * float(fe @ e)

    @torch.no_grad()
    def step(self) -> float:
        """One update; the sum of 1/2 f e^2 before it."""
        found, loss = self.gradients()
        for number, (theta, g, s) in enumerate(zip(self.parameters, found, self.state)):
            if number < 2 or self.biases:
                adagrad(theta, g, s, self.lr)
        return loss

    def sums(self) -> dict[str, Tensor]:
        """AdaGrad's sums, to be kept."""
        return dict(zip(("W", "C", "b", "b_c"), self.state))

    def fill(self, sums: dict[str, Tensor]) -> None:
        """Go on with sums that were kept."""
        for own, name in zip(self.state, ("W", "C", "b", "b_c")):
            own.copy_(sums[name])


def starts(row: Int64[Tensor, " n"], v: int) -> Int64[Tensor, " v"]:
    """Where the entries of each of v rows begin, when they stand by row."""
    return torch.bincount(row, minlength=v).cumsum(0).roll(1).index_fill(0, torch.tensor([0]), 0)


class EntryByEntry:
    """The released program: ``step`` is a pass over all counts in an order drawn once, an update each.

    Arguments as for ``AllEntries``. Biases move without the rate (eq:glove-entry with eta = 1 and 1 for the
    other word's vector).
    """

    def __init__(self, parameters: Parameters, i: Int64[Tensor, " n"], j: Int64[Tensor, " n"],
                 log_x: Float[Tensor, " n"], f: Float[Tensor, " n"], lr: float | int,
                 accumulator: float | int = 1.0, biases: bool = True, seed: int = 0) -> None:
        order = torch.randperm(len(i), generator=torch.Generator().manual_seed(seed))
        W = parameters[0]
        columns = [part[order].numpy() for part in (i, j, log_x.to(W), f.to(W))]
        rounds, ends = independent(columns[0], columns[1], len(W))
        self.columns = [column[rounds] for column in columns]
        self.ends, self.lr, self.biases = ends, lr, biases
        self.parameters = [p.data.numpy() for p in parameters]
        self.state = [np.full_like(p, accumulator) for p in self.parameters]

    def step(self) -> float:
        """One pass; the sum of 1/2 f e^2, each before its update. It ends early where that is not finite."""
        loss, start = 0.0, 0
        with np.errstate(over="ignore", invalid="ignore"):              # the caller refuses such a loss
            for end in self.ends:
                loss += self.round(*(column[start:end] for column in self.columns))
                start = end
                if not np.isfinite(loss):
                    break
        return loss

    def round(self, i: Int64[np.ndarray, " n"], j: Int64[np.ndarray, " n"], log_x: Float[np.ndarray, " n"],
              f: Float[np.ndarray, " n"]) -> float:
        """The updates of entries that share no row and no column."""
        W, C, b, b_c = self.parameters
        s_w, s_c, s_b, s_bc = self.state
        w, c = W[i], C[j]
        e = np.einsum("nd,nd->n", w, c) + b[i] + b_c[j] - log_x
        fe = f * e
        W[i], C[j], s_w[i], s_c[j] = entry_update(w, c, s_w[i], s_c[j], fe, self.lr)
        if self.biases:
            b[i] -= fe / np.sqrt(s_b[i])
            b_c[j] -= fe / np.sqrt(s_bc[j])
            s_b[i] += fe * fe
            s_bc[j] += fe * fe
        return 0.5 * float(fe @ e)

    def sums(self) -> dict[str, Tensor]:
        """AdaGrad's sums, to be kept."""
        return {name: torch.from_numpy(s) for name, s in zip(("W", "C", "b", "b_c"), self.state)}

    def fill(self, sums: dict[str, Tensor]) -> None:
        """Go on with sums that were kept."""
        for own, name in zip(self.state, ("W", "C", "b", "b_c")):
            own[...] = sums[name].numpy()


def independent(i: np.ndarray, j: np.ndarray, v: int) -> tuple[np.ndarray, list[int]]:
    """Entries in rounds, as an order and where each round ends: in a round no row and no column stands twice,
    and every entry comes after those before it that share its row or its column."""
    row, column = [0] * v, [0] * v
    rounds = np.empty(len(i), dtype=np.int64)
    for n, (a, b) in enumerate(zip(i.tolist(), j.tolist())):
        last = row[a] if row[a] > column[b] else column[b]
        rounds[n] = last
        row[a] = column[b] = last + 1
    order = rounds.argsort(kind="stable")
    return order, np.bincount(rounds).cumsum().tolist()
