r"""What two networks play for: the value of the game, its optimum, and the losses that GANs are trained with.

Papers: I. Goodfellow et al. (2014), *Generative Adversarial Nets*, arXiv:1406.2661, sec. 3 and 4 (value,
optimal discriminator, Jensen-Shannon divergence; the non-saturating loss is at the end of sec. 3); M.
Arjovsky and L. Bottou (2017), *Towards Principled Methods for Training Generative Adversarial Networks*,
arXiv:1701.04862, thm. 2.5 (what the non-saturating loss descends); J. Lim and J. Ye (2017), *Geometric GAN*,
arXiv:1705.02894, and D. Tran et al. (2017), arXiv:1702.08896 (the hinge).  Survey: 2.1.1.
Differs from the papers: discriminators give logits $a$, $D=\sigma(a)$, so that nothing is computed as the
logarithm of a number that has been rounded to 0 or 1.

``p`` and ``q`` are the probabilities of data and generator on the same places (*n, s), each summing to 1:
tables, or densities on a grid by ``masses``. Everything is in nats. Losses are means over the batch, in
single precision or better, and are all to be minimised.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmlearn.text_for_vision.blockwise import single


def masses(log_density: Float[Tensor, "*n s"]) -> Float[Tensor, "*n s"]:
    """Probabilities of the cells of a regular grid from the logarithm of a density at their centres, whose
    constant does not matter; the grid has to hold all of the mass."""
    return log_density.softmax(dim=-1)


def check_masses(p: Tensor, q: Tensor) -> None:
    """Refuse what is not two distributions over the same places."""
    if p.shape != q.shape:
        raise ValueError(f"p has shape {tuple(p.shape)}, q {tuple(q.shape)}; give the probabilities of the "
                         f"same places")
    for name, mass in (("p", p), ("q", q)):
        total = mass.sum(dim=-1)
        if bool((mass < 0).any()) or not torch.allclose(total, torch.ones_like(total), atol=1e-4):
            raise ValueError(f"{name} sums to {float(total.flatten()[0]):g}, its least entry is "
                             f"{float(mass.min()):g}; give probabilities, for densities on a grid use masses")


# -------------------------------------------------------------------------------------------------- the value


def value(real: Float[Tensor, " b"], fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    r"""eq:gan-value: $V(D,G)=\mathbb E_{x\sim p_{data}}[\log D(x)]+\mathbb E_{z\sim p_z}[\log(1-D(G(z)))]$,
    estimated from the discriminator's logits of real and of generated examples. D wants it large, G small."""
    return F.logsigmoid(single(real)).mean() + F.logsigmoid(-single(fake)).mean()


def value_of_game(
    p: Float[Tensor, "*n s"],
    q: Float[Tensor, "*n _"],
    D: Float[Tensor, "*n s"],
) -> Float[Tensor, "*n"]:
    r"""eq:gan-value-sum: $V(D,G)=\sum_xp(x)\log D(x)+q(x)\log(1-D(x))$ where both distributions are known; D
    are probabilities."""
    check_masses(p, q)
    return (torch.xlogy(p, D) + torch.xlogy(q, 1 - D)).sum(dim=-1)


def optimal_discriminator(
    p: Float[Tensor, "*n s"], q: Float[Tensor, "*n _"]
) -> Float[Tensor, "*n s"]:
    r"""eq:gan-optimal-d: $D^*(x)=\frac{p(x)}{p(x)+q(x)}$, the largest $p\log y+q\log(1-y)$ at each place; 1/2
    where nothing ever lies and any value is as good. Densities will do: what they share cancels."""
    total = p + q
    return torch.where(total > 0, p / total.where(total > 0, 1), 0.5)


def optimal_logit(log_p: Float[Tensor, "*n"], log_q: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-optimal-logit: $a^*(x)=\log\frac{p(x)}{q(x)}$, so that $\sigma(a^*)=D^*$."""
    return log_p - log_q


def density_ratio(a: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-density-ratio: $\frac{p(x)}{q(x)}\approx\frac{D(x)}{1-D(x)}=e^{a(x)}$: a trained discriminator
    knows how many times more likely x is among the data than among what the generator draws."""
    return single(a).exp()


def criterion(p: Float[Tensor, "*n s"], q: Float[Tensor, "*n _"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-criterion: $C(G)=\max_DV(D,G)=-\log4+2\,\mathrm{JSD}(p\|q)$: what is left for the generator to
    minimise against the best discriminator; at $q=p$ it is $-\log4$."""
    return 2 * jensen_shannon(p, q) - math.log(4)


def jensen_shannon_bound(V: Float[Tensor, ""] | float) -> float:
    r"""eq:gan-jsd-bound: $\mathrm{JSD}(p\|q)\ge\frac12\big(V(D,G)+\log4\big)$ for any D, with equality at
    $D^*$: the value of a real discriminator measures how far apart data and generator are, from below."""
    return (float(V) + math.log(4)) / 2


# -------------------------------------------------------------------------------------------------- distances


def kullback_leibler(p: Float[Tensor, "*n s"], q: Float[Tensor, "*n _"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-kl: $\mathrm{KL}(p\|q)=\sum_xp(x)\log\frac{p(x)}{q(x)}$; infinite where q is 0 and p is not."""
    check_masses(p, q)
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(dim=-1)


def jensen_shannon(p: Float[Tensor, "*n s"], q: Float[Tensor, "*n _"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-jsd: $\mathrm{JSD}(p\|q)=\frac12\mathrm{KL}\big(p\|\frac{p+q}2\big)+\frac12\mathrm{KL}\big(q\|
    \frac{p+q}2\big)$, from 0 at $p=q$ to $\log2$ where they share no place."""
    check_masses(p, q)
    middle = (p + q) / 2
    return (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2


def total_variation(p: Float[Tensor, "*n s"], q: Float[Tensor, "*n _"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-tv: $\mathrm{TV}(p,q)=\frac12\sum_x|p(x)-q(x)|$, from 0 to 1."""
    check_masses(p, q)
    return (p - q).abs().sum(dim=-1) / 2


def non_saturating_divergence(p: Float[Tensor, "*n s"], q: Float[Tensor, "*n _"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-non-saturating-divergence: $\mathrm{KL}(q\|p)-2\,\mathrm{JSD}(p\|q)$: its gradient in q is that
    of the non-saturating loss against a fixed $D^*$. The reversed KL forgives missing modes."""
    return kullback_leibler(q, p) - 2 * jensen_shannon(p, q)


# ----------------------------------------------------------------------------------------------------- losses


def real_loss(logits: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    r"""eq:bce-real: $-\frac1b\sum_i\log\sigma(a_i)$: cross-entropy of logits with the label "real"."""
    return F.softplus(-single(logits)).mean()


def fake_loss(logits: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    r"""eq:bce-fake: $-\frac1b\sum_i\log(1-\sigma(a_i))$: cross-entropy of logits with the label "not
    real"."""
    return F.softplus(single(logits)).mean()


def discriminator_loss(real: Float[Tensor, " b"], fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    r"""eq:gan-d-loss: $L_D=-V=-\mathbb E[\log\sigma(a(x))]-\mathbb E[\log(1-\sigma(a(\hat x)))]$, from the
    logits of real and generated examples; $\log4$ for a discriminator that always says 1/2."""
    return real_loss(real) + fake_loss(fake)


def saturating_loss(fake: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    r"""eq:gan-saturating: $L_G=\mathbb E[\log(1-\sigma(a(\hat x)))]$: the part of V that depends on the
    generator."""
    return -fake_loss(fake)


def non_saturating_loss(fake: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    r"""eq:gan-non-saturating: $L_G=-\mathbb E[\log\sigma(a(\hat x))]$: the generator wants its pictures to be
    taken for real. All GANs of the chapter but DF-GAN are trained by it."""
    return real_loss(fake)


def saturating_gradient(a: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-saturating-gradient: $\frac{\partial}{\partial a}\log(1-\sigma(a))=-\sigma(a)$, which vanishes
    where D is sure of a fake: at $a=-6$ it is $-0.0025$."""
    return -a.sigmoid()


def non_saturating_gradient(a: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-non-saturating-gradient: $\frac{\partial}{\partial a}\big(-\log\sigma(a)\big)=-(1-\sigma(a))$,
    which is largest where D is sure of a fake: at $a=-6$ it is $-0.9975$."""
    return -(-a).sigmoid()


# -------------------------------------------------------------------------------------------------- the hinge


def hinge_discriminator_loss(real: Float[Tensor, " b"], fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    r"""eq:gan-hinge: $L_D=\mathbb E\big[(1-a(x))_+\big]+\mathbb E\big[(1+a(\hat x))_+\big]$: logits beyond
    the margin 1 on the right side cost nothing."""
    return F.relu(1 - single(real)).mean() + F.relu(1 + single(fake)).mean()


def hinge_generator_loss(fake: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    r"""eq:gan-hinge-g: $L_G=-\mathbb E[a(\hat x)]$, whose gradient in the logit never saturates."""
    return -single(fake).mean()


def hinge_of_game(
    p: Float[Tensor, "*n s"], q: Float[Tensor, "*n _"], a: Float[Tensor, "*n s"]
) -> Float[Tensor, "*n"]:
    r"""eq:gan-hinge-sum: $L_D=\sum_xp(x)(1-a(x))_++q(x)(1+a(x))_+$ where both distributions are known."""
    check_masses(p, q)
    return (p * F.relu(1 - a) + q * F.relu(1 + a)).sum(dim=-1)


def hinge_optimum(p: Float[Tensor, "*n s"], q: Float[Tensor, "*n _"]) -> Float[Tensor, "*n s"]:
    r"""eq:gan-hinge-optimum: $a^*(x)=\mathrm{sign}(p(x)-q(x))$; where they are equal every value in $[-1,1]$
    is optimal, and 0 is given. Unlike $\log\frac pq$ it says who is ahead, but not by how much."""
    return (p - q).sign()


def hinge_floor(p: Float[Tensor, "*n s"], q: Float[Tensor, "*n _"]) -> Float[Tensor, "*n"]:
    r"""eq:gan-hinge-tv: $\min_aL_D=2-2\,\mathrm{TV}(p,q)$: against the best discriminator the hinge measures
    total variation, as the logarithms measure JSD."""
    return 2 - 2 * total_variation(p, q)
