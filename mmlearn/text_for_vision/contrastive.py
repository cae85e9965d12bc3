r"""Contrastive learning: which of b texts belongs to this image?

Papers: A. van den Oord, Y. Li and O. Vinyals (2018), *Representation Learning with Contrastive Predictive
Coding*, arXiv:1807.03748 (InfoNCE); B. Poole et al. (2019), *On Variational Bounds of Mutual Information*,
arXiv:1905.06922; T. Chen et al. (2020), *A Simple Framework for Contrastive Learning of Visual
Representations*, arXiv:2002.05709, eq. 1 (NT-Xent); Y. Zhang et al. (2020), *Contrastive Learning of Medical
Visual Representations from Paired Images and Text*, arXiv:2010.00747, sec. 2 (ConVIRT); C.-H. Yeh et al.
(2021), *Decoupled Contrastive Learning*, arXiv:2110.06848; A. Radford et al. (2021), arXiv:2103.00020, fig. 3
(the symmetric loss).  Survey: 4.2.1. Differs from the papers: nothing; the survey's own formulas are here
too, under the names ``decoupled`` and ``survey``.

Everywhere ``u`` (b, e) are unit embeddings of images and ``v`` (b, e) of texts, row i of both being a pair;
``scale`` is $e^t=1/\tau$; a matrix of logits has a row an image and a column a text. Losses are in nats per
image.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmlearn.text_for_vision.blockwise import Scale, check_pairs, single, symmetric_loss

Number = float | int


def check_negatives(count: int) -> None:
    """Refuse batches without anything to contrast with."""
    if count < 2:
        raise ValueError(f"the batch has {count} pair; a pair is contrasted with others, so give at least 2")


def check_temperature(tau: Number) -> None:
    """Refuse temperatures that divide by zero."""
    if not tau > 0:
        raise ValueError(f"the temperature is {tau}; it is a positive number, such as 0.07")


# ------------------------------------------------------------------------------------------------- the losses

def logits(
    u: Float[Tensor, "b e"], v: Float[Tensor, "c e"], scale: Scale
) -> Float[Tensor, "b c"]:
    r"""eq:contrastive-logits: $\ell_{ij}=e^tu_i^\top v_j$; in single precision or better, whatever the
    embeddings are."""
    with torch.autocast(u.device.type, enabled=False):
        return scale * (single(u) @ single(v).mT)


def info_nce_rows(l: Float[Tensor, "b b"]) -> Float[Tensor, " b"]:
    r"""eq:info-nce: $L_i=-\log p_{ii}=-\log\frac{e^{\ell_{ii}}}{\sum_je^{\ell_{ij}}}$, each image's loss
    among b texts."""
    return l.logsumexp(dim=1) - l.diagonal()


def info_nce(u: Float[Tensor, "b e"], v: Float[Tensor, "c d"], scale: Scale) -> Float[Tensor, ""]:
    """The mean of eq:info-nce over images: image to text only. Raises ``ValueError`` if u and v are not
    pairs."""
    check_pairs(u, v)
    return info_nce_rows(logits(u, v, scale)).mean()


def symmetric_cross_entropy(l: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    r"""eq:clip-loss: $\mathcal L=\frac1{2b}\sum_i\big[-\log p_{ii}-\log q_{ii}\big]$: the right text in every
    row, the right image in every column."""
    partner = torch.arange(len(l), device=l.device)
    return (F.cross_entropy(l, partner) + F.cross_entropy(l.mT, partner)) / 2


def clip_loss(u: Float[Tensor, "b e"], v: Float[Tensor, "c d"], scale: Scale) -> Float[Tensor, ""]:
    """eq:clip-loss of b pairs of embeddings; 16-bit embeddings are multiplied and exponentiated in 32 bits.

    Raises ``ValueError`` if u and v are not b pairs of the same width.
    """
    check_pairs(u, v)
    return symmetric_cross_entropy(logits(u, v, scale))


def fused_clip_loss(u: Float[Tensor, "b e"], v: Float[Tensor, "c d"], scale: Scale) -> Float[Tensor, ""]:
    """An optimisation: ``clip_loss`` with its gradient from eq:clip-gradient instead of autograd, for large
    batches.

    Differentiable once in u, v and scale.
    """
    return symmetric_loss(u, v, scale)


def convirt_loss(
    u: Float[Tensor, "b e"], v: Float[Tensor, "c d"], scale: Scale,
    weight: Number = 0.75
) -> Float[Tensor, ""]:
    r"""eq:convirt: $\frac1b\sum_i\big[-\lambda\log p_{ii}-(1-\lambda)\log q_{ii}\big]$, with $\lambda$ =
    ``weight``."""
    check_pairs(u, v)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight}; it is the share of the "
                         "image-to-text half, from 0 to 1")
    l = logits(u, v, scale)
    rows, columns = info_nce_rows(l), info_nce_rows(l.mT)
    return (weight * rows + (1 - weight) * columns).mean()


def decoupled_rows(l: Float[Tensor, "b b"]) -> Float[Tensor, " b"]:
    r"""eq:decoupled: $L^{\mathrm{dec}}_i=-\log\frac{e^{\ell_{ii}}}{\sum_{j\ne i}e^{\ell_{ij}}}$: without the
    pair itself."""
    check_negatives(len(l))
    itself = torch.eye(len(l), dtype=torch.bool, device=l.device)
    return l.masked_fill(itself, -math.inf).logsumexp(dim=1) - l.diagonal()


def decoupled_loss(u: Float[Tensor, "b e"], v: Float[Tensor, "c d"], scale: Scale) -> Float[Tensor, ""]:
    """The mean of eq:decoupled over images; it has no lower bound of 0, and needs at least two pairs."""
    check_pairs(u, v)
    return decoupled_rows(logits(u, v, scale)).mean()


def survey_rows(s: Float[Tensor, "b b"], tau: Number) -> Float[Tensor, " b"]:
    r"""eq:survey-contrastive: $-\log\frac{e^{s_{ii}}/\tau}{\sum_{j\ne i}e^{s_{ij}/\tau}}$, as the survey
    typesets it."""
    check_temperature(tau)
    as_written = s.diagonal() - math.log(tau)       # log of the numerator
    return decoupled_rows(s / tau) + s.diagonal() / tau - as_written


def nt_xent(z: Float[Tensor, "n e"], scale: Scale) -> Float[Tensor, ""]:
    r"""eq:nt-xent: $-\frac1{2b}\sum_i\log\frac{e^{\ell_{i,i'}}}{\sum_{k\ne i}e^{\ell_{ik}}}$ over $2b$ views,
    $i'$ being the other view of the image of $i$: rows i and i + b of ``z`` (2b, e) are views of one
    image."""
    if len(z) == 0 or len(z) % 2:
        raise ValueError(f"there are {len(z)} views; give two views of each "
                         "image, the second ones after the first ones")
    l = logits(z, z, scale)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(l.masked_fill(itself, -math.inf), partner)


# ---------------------------------------------------------------------------------------------- the gradients

def clip_gradient(l: Float[Tensor, "b b"]) -> Float[Tensor, "b b"]:
    r"""eq:clip-gradient: $\partial\mathcal L/\partial\ell=\frac1{2b}(P+Q-2I)$, P softmax over rows, Q over
    columns."""
    P, Q, identity = l.softmax(dim=1), l.softmax(dim=0), torch.eye(len(l))
    return (P + Q - 2 * identity.to(l)) / (2 * len(l))


def info_nce_gradient(l: Float[Tensor, "b b"]) -> Float[Tensor, "b b"]:
    r"""eq:info-nce-gradient: $\partial L_i/\partial\ell_{ij}=p_{ij}-\delta_{ij}$."""
    return l.softmax(dim=1) - torch.eye(len(l)).to(l)


def decoupled_gradient(l: Float[Tensor, "b b"]) -> Float[Tensor, "b b"]:
    r"""eq:decoupled-gradient: $\partial L^{\mathrm{dec}}_i/\partial\ell_{ij}=\frac{p_{ij}}{1-p_{ii}}$ for
    $j\ne i$, and -1 for $j=i$."""
    check_negatives(len(l))
    itself = torch.eye(len(l), dtype=torch.bool, device=l.device)
    return l.masked_fill(itself, -math.inf).softmax(dim=1) - itself.to(l)


def embedding_gradient(
    raw: Float[Tensor, "b e"], v: Float[Tensor, "b e"], scale: Scale
) -> Float[Tensor, "b e"]:
    r"""eq:embedding-gradient: $\frac{\partial L_i}{\partial\tilde u_i}=\frac{e^t}{\|\tilde
    u_i\|}(I-u_iu_i^\top)\big(\sum_jp_{ij}v_j-v_i\big)$, for each image's own loss; ``raw`` are its embeddings
    before normalisation."""
    length = raw.norm(dim=1, keepdim=True)
    u = raw / length
    pull = logits(u, v, scale).softmax(dim=1) @ v - v
    return scale / length * (pull - u * (u * pull).sum(dim=1, keepdim=True))


def temperature_gradient(
    s: Float[Tensor, "b b"], tau: Number
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    r"""eq:temperature-gradient: $\frac{\partial L_i}{\partial\tau}=\frac{s_{ii}-\mathbb
    E_{p_i}[s_{i\cdot}]}{\tau^2}$ and $\frac{\partial L_i}{\partial t}=\frac{\mathbb
    E_{p_i}[s_{i\cdot}]-s_{ii}}{\tau}$ of each image, at $t=-\log\tau$."""
    check_temperature(tau)
    behind = ((s / tau).softmax(dim=1) * s).sum(dim=1) - s.diagonal()
    return -behind / tau**2, behind / tau


# ------------------------------------------------------------------------------------------------ temperature

def negative_weights(
    s: Float[Tensor, " n"], tau: Number
) -> Float[Tensor, " n"]:
    r"""eq:negative-weights: $\frac{p_{ij}}{1-p_{ii}}=\mathrm{softmax}_{j\ne i}(s_{ij}/\tau)$: how the push is
    shared out among the negatives, whose similarities are ``s``."""
    check_temperature(tau)
    return (s / tau).softmax(dim=0)


def cold_limit(s: Float[Tensor, "b b"], tau: Number) -> Float[Tensor, " b"]:
    r"""eq:cold-limit: $L_i\approx\frac1\tau\max_j(s_{ij}-s_{ii})$ as $\tau\to0$: the hardest negative, and 0
    if none is closer."""
    check_temperature(tau)
    return (s.amax(dim=1) - s.diagonal()) / tau


def hot_limit(s: Float[Tensor, "b b"], tau: Number) -> Float[Tensor, " b"]:
    r"""eq:hot-limit: $L_i\approx\log b+\frac1\tau(\bar s_{i\cdot}-s_{ii})$ as $\tau\to\infty$: all candidates
    weigh alike."""
    check_temperature(tau)
    return math.log(len(s)) + (s.mean(dim=1) - s.diagonal()) / tau


def loss_floor(b: int, tau: Number) -> float:
    r"""eq:loss-floor: $\log\big(1+(b-1)e^{-2/\tau}\big)$: less than this no unit vectors can reach, because
    $|s|\le1$."""
    check_temperature(tau)
    return math.log1p((b - 1) * math.exp(-2 / tau))


def simplex_floor(b: int, tau: Number) -> float:
    r"""eq:simplex-floor: $\log\big(1+(b-1)e^{-b/((b-1)\tau)}\big)$: the least mean loss of b pairs, that of a
    regular simplex."""
    check_temperature(tau)
    check_negatives(b)
    return math.log1p((b - 1) * math.exp(-b / ((b - 1) * tau)))


# ----------------------------------------------------------------------------------------- mutual information

def partner_posterior(log_ratio: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    r"""eq:partner-posterior: $P(i\mid x,y_{1:n})=r(x,y_i)/\sum_jr(x,y_j)$, from
    $\log r=\log\frac{p(x,y)}{p(x)p(y)}$ of each candidate."""
    return log_ratio.softmax(dim=1)


def partner_weight(a: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    r"""eq:partner-weight: $\omega=\frac{e^{a(x,y_1)}}{\frac1n\sum_je^{a(x,y_j)}}$; its mean over independent
    candidates is 1, whatever the score. Column 0 is $y_1$."""
    return a.shape[1] * a.softmax(dim=1)[:, 0]


def mi_lower_bound(loss: Float[Tensor, ""] | Number, b: int) -> float:
    r"""eq:mi-bound: $I(X;Y)\ge\log b-\mathcal L$, in nats, for the mean loss of any score."""
    return math.log(b) - float(loss)


def leave_one_out_bound(loss: Float[Tensor, ""] | Number, b: int) -> float:
    r"""eq:mi-leave-one-out: $\log(b-1)-\mathcal L^{\mathrm{dec}}\ge I(X;Y)$ at the best score; no bound at
    any other."""
    check_negatives(b)
    return math.log(b - 1) - float(loss)


@dataclass(frozen=True)
class GaussianPairs:
    """Pairs (x, y) of k independent coordinates each, standard normal with correlation rho: all is known
    about them.

    Raises ``ValueError`` unless k is at least 1 and rho between -1 and 1.
    """

    k: int                      # coordinates
    rho: float | int            # correlation of x and y in each

    def __post_init__(self) -> None:
        if self.k < 1 or not -1 < self.rho < 1:
            raise ValueError(f"k is {self.k}, rho {self.rho}; k is at least 1, and rho between -1 and 1 "
                             f"without the ends")

    @property
    def information(self) -> float:
        r"""eq:gaussian-mi: $I(X;Y)=-\frac k2\log(1-\rho^2)$, in nats."""
        return -self.k / 2 * math.log1p(-self.rho**2)

    def sample(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """n pairs, in double precision."""
        x, noise = (torch.randn(n, self.k, dtype=torch.float64, generator=generator) for _ in range(2))
        return x, self.rho * x + math.sqrt(1 - self.rho**2) * noise

    def log_ratio(
        self, x: Float[Tensor, "b k"], y: Float[Tensor, "c k"]
    ) -> Float[Tensor, "b c"]:
        r"""eq:gaussian-ratio: $\log\frac{p(x,y)}{p(x)p(y)}=I-\frac{\rho^2(\|x\|^2+\|y\|^2)-2\rho\,x^\top
        y}{2(1-\rho^2)}$, of all x with all y: the best score."""
        rest = 1 - self.rho**2
        squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
        away = self.rho**2 * squares - 2 * self.rho * (x @ y.mT)
        return self.information - away / (2 * rest)

    def bounds(self, b: int, images: int, generator: torch.Generator | None = None) -> tuple[float, float]:
        """eq:mi-bound and eq:mi-leave-one-out at the best score, from ``images`` draws of x in batches of
        ``b`` pairs."""
        rows = []
        for _ in range(max(1, images // b)):
            l = self.log_ratio(*self.sample(b, generator))
            rows.append(torch.stack([info_nce_rows(l).mean(), decoupled_rows(l).mean()]))
        loss, without = torch.stack(rows).mean(dim=0).tolist()
        return mi_lower_bound(loss, b), leave_one_out_bound(without, b)
