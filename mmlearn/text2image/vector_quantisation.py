r"""Vector quantisation: a vector is replaced by the nearest of K codes, and yet a gradient passes.

Papers: A. van den Oord, O. Vinyals and K. Kavukcuoglu (2017), *Neural Discrete Representation Learning*,
NeurIPS, arXiv:1711.00937, sec. 3 (straight-through, the three terms of the loss) and app. A.1 (the codebook
as a moving average); J. Yu et al. (2021), *Vector-quantized Image Modeling with Improved VQGAN*, ICLR 2022,
arXiv:2110.04627, sec. 3.2 (factorised and normalised codes).  Survey: 2.2.
Differs from the papers: the two errors are means over all numbers, as in DeepMind's code (Sonnet), d times
smaller than the paper's squared distances. Moving averages are corrected for their start at zero, as
Sonnet's are; a code that no vector has chosen so far stays where it began, where Sonnet's falls to zero with
the first batch. Codes that die are restarted on request, which is a later habit of the field (the restart
is that of P. Dhariwal et al. (2020), *Jukebox*, arXiv:2005.00341, sec. 3.1).

Vectors stand in dimension 1, as channels do: (b, d), (b, d, t) or (b, d, y, x); their codes are (b), (b, t)
or (b, y, x). ``nearest_codes`` takes rows.
"""

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.text_for_vision.blockwise import single

BETA = 0.25                             # weight of the commitment; the paper: 0.1 to 2 make no difference
ENTRIES = {"cpu": 2**22}                # numbers of a block of scores, by device: 16 MB, so that it stays in
MORE_ENTRIES = 2**28                    # the cache between product and minimum; and on an accelerator


class Quantised(NamedTuple):
    """What a codebook makes of vectors: the codes' vectors, their numbers, and two errors to be weighted.

    ``z_q`` has the shape of the input, its gradient goes straight to the input; ``codes`` (b, \\*s) are from
    0 to K - 1; ``codebook`` and ``commitment`` are means of squares over all numbers. A codebook of moving
    averages has the codebook error 0: it learns without a gradient.
    """

    z_q: Tensor
    codes: Tensor
    codebook: Tensor
    commitment: Tensor

    def loss(
        self, beta: float | int = BETA, legacy: bool = False
    ) -> Float[Tensor, ""]:
        """eq:vq-loss of both errors, or eq:vq-legacy."""
        weighted = legacy_loss if legacy else vq_loss
        return weighted(self.codebook, self.commitment, beta)


# -------------------------------------------------------------------------------------------------- equations

def squared_distances(
    z: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]
) -> Float[Tensor, "n k"]:
    r"""eq:vq-distance: $\lVert z-e_j\rVert^2=\lVert z\rVert^2-2\,z\,e_j^\top+\lVert e_j\rVert^2$, so that one
    product of matrices does most of the work."""
    squares = z.square().sum(dim=1, keepdim=True)
    return squares - 2 * z @ codebook.mT + codebook.square().sum(dim=1)


@torch.no_grad()
def nearest_codes(
    z: Float[Tensor, "n d"], codebook: Float[Tensor, "k e"],
    rows: int | None = None
) -> Int[Tensor, " n"]:
    r"""eq:vq-nearest: $k^*=\arg\min_j\lVert z-e_j\rVert=\arg\min_j\big(\tfrac12\lVert e_j\rVert^2-z\,e_j^\top
    \big)$: $\lVert z\rVert^2$ is the same for all codes.

    ``rows`` vectors are compared at a time (default: as many as suit the device), so that memory does not
    grow with their number. 16-bit vectors are compared in single precision. Of equal distances the first
    code wins. Raises ``ValueError`` for vectors of another width than the codes'.
    """
    z, codebook = single(check_width(z, codebook)), single(codebook)
    rows = rows or rows_at_once(z, len(codebook))
    half = codebook.square().sum(dim=1) / 2
    codes = torch.empty(len(z), dtype=torch.long, device=z.device)
    scores = z.new_empty(min(rows, len(z)), len(codebook))
    for start in range(0, len(z), rows):
        block = z[start : start + rows]
        torch.addmm(half, block, codebook.mT, alpha=-1,
                    out=scores[: len(block)])
        torch.argmin(scores[: len(block)], dim=1,
                     out=codes[start : start + rows])
    return codes


def straight_through(
    z: Float[Tensor, "*n"], z_q: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    r"""eq:vq-straight-through: $z+\mathrm{sg}[z_q-z]$: the value of $z_q$ (but for rounding), the gradient of
    $z$. The codebook gets none of it."""
    return z + (z_q - z).detach()


def codebook_loss(
    z: Float[Tensor, "*n"], z_q: Float[Tensor, "*n"]
) -> Float[Tensor, ""]:
    r"""eq:vq-codebook: $\lVert\mathrm{sg}[z]-e\rVert^2$, the codes move towards the vectors; the mean over
    all numbers."""
    return F.mse_loss(single(z_q), single(z).detach())


def commitment_loss(
    z: Float[Tensor, "*n"], z_q: Float[Tensor, "*n"]
) -> Float[Tensor, ""]:
    r"""eq:vq-commitment: $\lVert z-\mathrm{sg}[e]\rVert^2$, the vectors stay near their codes; the mean over
    all numbers."""
    return F.mse_loss(single(z), single(z_q).detach())


def vq_loss(
    codebook: Float[Tensor, ""], commitment: Float[Tensor, ""],
    beta: float | int = BETA
) -> Float[Tensor, ""]:
    r"""eq:vq-loss: $\lVert\mathrm{sg}[z]-e\rVert^2+\beta\,\lVert z-\mathrm{sg}[e]\rVert^2$, to be added to
    $-\log p_\theta(x\mid z_q)$."""
    return codebook + beta * commitment


def legacy_loss(
    codebook: Float[Tensor, ""], commitment: Float[Tensor, ""],
    beta: float | int = BETA
) -> Float[Tensor, ""]:
    r"""eq:vq-legacy: $\beta\,\lVert\mathrm{sg}[z]-e\rVert^2+\lVert z-\mathrm{sg}[e]\rVert^2$: the weight on
    the other term, a slip of VQGAN's code that its released checkpoints keep."""
    return beta * codebook + commitment


def moving_average(
    old: Float[Tensor, "*n"], new: Float[Tensor, "*n"], gamma: float
) -> Float[Tensor, "*n"]:
    r"""eq:vq-ema: $m_i\leftarrow\gamma\,m_i+(1-\gamma)\sum_{j:k_j=i}z_j$, and $N_i$ likewise with the number
    of the vectors."""
    return gamma * old + (1 - gamma) * new


def debias(
    average: Float[Tensor, "*n"], gamma: float, step: int
) -> Float[Tensor, "*n"]:
    r"""eq:vq-debias: $m\,/\,(1-\gamma^s)$ after $s$ steps: an average that began with zero is too small by
    the weight of that zero."""
    return average / (1 - gamma**step)


def smoothed_counts(
    counts: Float[Tensor, " k"], eps: float
) -> Float[Tensor, " k"]:
    r"""eq:vq-smooth: $\hat N_i=\frac{N_i+\epsilon}{\sum_jN_j+K\epsilon}\sum_jN_j$ (Laplace's rule): no count
    is zero, and their sum stays."""
    total = counts.sum()
    return (counts + eps) / (total + len(counts) * eps) * total


def averaged_codes(
    counts: Float[Tensor, " k"], sums: Float[Tensor, "k d"], eps: float
) -> Float[Tensor, "k d"]:
    r"""eq:vq-ema-code: $e_i=m_i/\hat N_i$: a code is the mean of the vectors that chose it, which is what
    minimises the sum of their squared distances."""
    return sums / smoothed_counts(counts, eps)[:, None]


def normalise(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    r"""eq:vq-normalised: $\ell_2(x)=x/\lVert x\rVert$; between such vectors $\lVert\ell_2(z)-\ell_2(e)\rVert
    ^2=2-2\cos(z,e)$, and only directions are compared."""
    return F.normalize(x, dim=-1)


def usage(codes: Int[Tensor, "*n"], size: int) -> Float[Tensor, " k"]:
    r"""eq:vq-usage: $\bar p_i=\frac1n\,\lvert\{j:k_j=i\}\rvert$, the share of every code."""
    return torch.bincount(codes.flatten(), minlength=size) / codes.numel()


def perplexity(shares: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    r"""eq:vq-perplexity: $\exp\big(-\sum_i\bar p_i\log\bar p_i\big)$: as many codes, used evenly, would be as
    hard to guess; from 1 to K."""
    return torch.special.entr(shares).sum().exp()


def kl_to_uniform(q: Float[Tensor, "*n k"]) -> Float[Tensor, "*n"]:
    r"""eq:vq-kl: $\mathrm{KL}(q\,\|\,\text{uniform})=\sum_iq_i\log q_i+\log K$ nats; of a posterior that is
    certain of one code, $\log K$."""
    return math.log(q.shape[-1]) - torch.special.entr(q).sum(dim=-1)


def code_bits(positions: int, size: int) -> float:
    r"""eq:vq-bits: $P\log_2K$, the bits of P codes of K."""
    return positions * math.log2(size)


# --------------------------------------------------------------------------------------------------- helpers

def check_width(z: Tensor, codebook: Tensor) -> Tensor:
    """Refuse vectors of another width than the codes'."""
    if z.shape[-1] != codebook.shape[-1]:
        raise ValueError(f"the vectors have {z.shape[-1]} numbers, the codes {codebook.shape[-1]}; project "
                         "the vectors first, or move their channels to where they are expected")
    return z


def rows_at_once(z: Tensor, size: int) -> int:
    """Rows of a block of scores that suits the device."""
    return max(1, ENTRIES.get(z.device.type, MORE_ENTRIES) // size)


def to_rows(z: Float[Tensor, "b d *s"]) -> Float[Tensor, "n d"]:
    """Vectors in dimension 1 -> rows."""
    return z.movedim(1, -1).reshape(-1, z.shape[1])     # b d y x -> (b y x) d


def everywhere(total: Tensor) -> Tensor:
    """The sum of ``total`` over all processes that train together."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
    return total


# ------------------------------------------------------------------------------------------------- codebooks

class Codebook(nn.Module):
    r"""K codes of d numbers that learn by gradient (eq:vq-nearest, eq:vq-straight-through, eq:vq-codebook,
    eq:vq-commitment).

    ``forward``: vectors (b, d, \*s) -> ``Quantised``. With ``normalised`` codes and vectors are divided by
    their lengths before they are compared, and ``z_q`` has length 1 (eq:vq-normalised). Codes start uniform
    in [-1/K, 1/K], normalised ones as random directions.
    """

    weight: Tensor

    def __init__(self, size: int, width: int, normalised: bool = False) -> None:
        super().__init__()
        if size < 1 or width < 1:
            raise ValueError(f"a codebook of {size} codes with {width} numbers; both are at least 1")
        self.size, self.width, self.normalised = size, width, normalised
        self.weight = nn.Parameter(torch.empty(size, width))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The start, drawn anew."""
        if self.normalised:
            self.weight.normal_()
        else:
            self.weight.uniform_(-1 / self.size, 1 / self.size)

    @property
    def vectors(self) -> Float[Tensor, "k d"]:
        """The codes as they are compared."""
        return normalise(self.weight) if self.normalised else self.weight

    def look_up(self, codes: Int[Tensor, "b *s"]) -> Float[Tensor, "b d *s"]:
        """The vectors of codes."""
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.size:
            raise ValueError(f"codes are from {int(codes.min())} to {int(codes.max())}, the codebook has "
                             f"0 to {self.size - 1}; take codes of this codebook")
        return F.embedding(codes, self.vectors).movedim(-1, 1)

    def quantise(self, z: Float[Tensor, "b d *s"]) -> Int[Tensor, "b *s"]:
        """The codes of vectors, without a gradient."""
        rows = to_rows(z.detach())
        rows = normalise(rows) if self.normalised else rows
        return nearest_codes(rows, self.vectors).view(z.shape[0], *z.shape[2:])

    def forward(self, z: Float[Tensor, "b d *s"]) -> Quantised:
        rows = z.movedim(1, -1).contiguous()            # b d y x -> b y x d
        rows = normalise(rows) if self.normalised else rows
        vectors = self.vectors
        codes = nearest_codes(rows.flatten(0, -2), vectors)
        codes = codes.view(rows.shape[:-1])
        z_q = F.embedding(codes, vectors)
        return Quantised(straight_through(rows, z_q).movedim(-1, 1), codes,
                         codebook_loss(rows, z_q), commitment_loss(rows, z_q))

    @torch.no_grad()
    def restart(self, z: Float[Tensor, "b d *s"], dead: Bool[Tensor, " k"],
                generator: torch.Generator | None = None) -> int:
        """Put the codes that are ``dead`` onto vectors of ``z`` drawn at random; returns how many were."""
        count = int(dead.sum())
        if count:
            self.weight[dead] = draw_rows(to_rows(z), count, generator).to(self.weight)
        return count


def draw_rows(rows: Float[Tensor, "n d"], count: int, generator: torch.Generator | None) -> Tensor:
    """``count`` of the rows, each at most once more than any other; drawn on the CPU."""
    rounds = -(-count // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(rounds)])[:count]
    drawn = rows[order.to(rows.device)]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(drawn, src=0)                                    # processes keep the same codes
    return drawn


class EMACodebook(Codebook):
    r"""K codes that are moving averages of the vectors that chose them (eq:vq-ema, eq:vq-debias,
    eq:vq-smooth, eq:vq-ema-code); no gradient, no optimiser.

    ``forward`` as in ``Codebook``, with a codebook error of 0. While training it then updates the codes, so
    that what it returned are those from before; in evaluation mode it does not. ``counts`` and ``sums`` are
    the averages before their correction. Processes that train together share one average.
    """

    counts: Tensor
    sums: Tensor
    step: Tensor

    def __init__(self, size: int, width: int, decay: float = 0.99, eps: float = 1e-5,
                 normalised: bool = False) -> None:
        super().__init__(size, width, normalised)
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; use a number from 0 to below 1, such as 0.99")
        self.decay, self.eps = decay, eps
        start = self.weight.detach()
        del self.weight
        self.register_buffer("weight", start)
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, width))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, z: Float[Tensor, "b d *s"]) -> Quantised:
        found = super().forward(z)
        if self.training:
            self.update(z.detach(), found.codes)
        return found._replace(codebook=found.codebook.new_zeros(()))

    @torch.no_grad()
    def update(
        self, z: Float[Tensor, "b d *s"], codes: Int[Tensor, "b *s"]
    ) -> None:
        """Move the averages by one batch and the codes with them."""
        rows = single(to_rows(z))
        rows = normalise(rows) if self.normalised else rows
        chosen = codes.flatten()
        counts = torch.bincount(chosen, minlength=self.size).to(self.counts)
        sums = torch.zeros_like(self.sums).index_add_(0, chosen, rows)
        counts, sums = everywhere(counts), everywhere(sums)
        self.counts.copy_(moving_average(self.counts, counts, self.decay))
        self.sums.copy_(moving_average(self.sums, sums, self.decay))
        self.step += 1
        means = averaged_codes(
            self.debiased_counts,
            debias(self.sums, self.decay, int(self.step)), self.eps)
        known = self.counts > 0                     # one that nobody chose yet stays
        self.weight.copy_(torch.where(known[:, None], means, self.weight))

    @property
    def debiased_counts(self) -> Float[Tensor, " k"]:
        """How many vectors of a batch choose each code, on a moving average."""
        return debias(self.counts, self.decay, max(int(self.step), 1))

    @torch.no_grad()
    def restart(self, z: Float[Tensor, "b d *s"], dead: Bool[Tensor, " k"] | None = None,
                generator: torch.Generator | None = None, least: float = 1.0) -> int:
        """Put codes that died onto vectors of ``z`` drawn at random; returns how many were.

        Without ``dead`` those are meant that on average fewer than ``least`` vectors of a batch choose. A
        code that restarts counts as if ``least`` vectors had chosen it.
        """
        dead = self.debiased_counts < least if dead is None else dead
        count = super().restart(z, dead, generator)
        if count:
            share = least * (1 - self.decay ** max(int(self.step), 1))
            self.weight[dead] = self.vectors[dead]
            self.counts[dead] = share
            self.sums[dead] = share * self.weight[dead]
        return count


class FactorisedCodebook(nn.Module):
    r"""Codes that are looked up in few dimensions (ViT-VQGAN): a projection to ``code_width`` numbers, the
    nearest normalised code, a projection back.

    ``forward``: vectors (b, d, \*s) -> ``Quantised`` with ``z_q`` of d numbers; both errors are those of the
    projected, normalised vectors.
    """

    def __init__(self, size: int, width: int, code_width: int = 32, normalised: bool = True) -> None:
        super().__init__()
        self.down = nn.Linear(width, code_width)
        self.codebook = Codebook(size, code_width, normalised)
        self.up = nn.Linear(code_width, width)

    @property
    def size(self) -> int:
        """K."""
        return self.codebook.size

    def project(self, z: Float[Tensor, "b d *s"]) -> Float[Tensor, "b e *s"]:
        """What is looked up."""
        return self.down(z.movedim(1, -1)).movedim(-1, 1)

    def look_up(self, codes: Int[Tensor, "b *s"]) -> Float[Tensor, "b d *s"]:
        """The vectors of codes, projected back."""
        return self.up(self.codebook.look_up(codes).movedim(1, -1)).movedim(-1, 1)

    def quantise(self, z: Float[Tensor, "b d *s"]) -> Int[Tensor, "b *s"]:
        """The codes of vectors, without a gradient."""
        return self.codebook.quantise(self.project(z))

    def forward(self, z: Float[Tensor, "b d *s"]) -> Quantised:
        found = self.codebook(self.project(z))
        return found._replace(z_q=self.up(found.z_q.movedim(1, -1)).movedim(-1, 1))
