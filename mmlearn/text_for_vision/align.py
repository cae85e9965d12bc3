r"""ALIGN: CLIP's idea with a larger, noisier data set, an EfficientNet, a BERT, and smoothed labels.

Papers: C. Jia et al. (2021), *Scaling Up Visual and Vision-Language Representation Learning With Noisy Text
Supervision*, ICML 2021, arXiv:2102.05918, sec. 4 to 7; Y. You et al. (2020), *Large Batch Optimization for
Deep Learning: Training BERT in
76 minutes*, ICLR 2020, arXiv:1904.00962, algorithm 2 (LAMB).  Survey: 4.3, 4.3.1.
Differs from the paper: the temperature is kept above a small positive number, because a number that is
learned directly could cross zero.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.nn.bert import BERT, BERTConfig
from mmlearn.nn.configuration import check
from mmlearn.nn.efficientnet import EfficientNet, EfficientNetConfig
from mmlearn.text_for_vision.blockwise import Scale, check_pairs
from mmlearn.text_for_vision.clip import DualEncoderConfig
from mmlearn.text_for_vision.contrastive import logits

Number = float | int


@dataclass(frozen=True)
class ALIGNConfig(DualEncoderConfig):
    image: EfficientNetConfig = field(default_factory=lambda: replace(EfficientNetConfig.b7(), size=289))
    text: BERTConfig = field(default_factory=BERTConfig.base)
    embed: int = 640  # e, size of the joint embedding; images are projected only where the trunk's differs
    temperature: float | int = 1.0      # tau at the start (the paper's sigma)
    least: float = 0.01                 # tau never counts as less; CLIP's cap of 100 on the scale

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def paper(cls) -> "ALIGNConfig":
        """EfficientNet-L2 at 289 pixels, BERT-large with 100,000 word pieces and 64 positions, e = 1376 (sec.
        5)."""
        text = replace(BERTConfig.large(), vocab=100_000, context=64, pooler=False)
        return cls(replace(EfficientNetConfig.l2(), size=289), text, 1376)

    @classmethod
    def base(cls) -> "ALIGNConfig":
        """EfficientNet-B7 and BERT-base with its unused pooler, as in kakaobrain/align-base: 172,117,841
        parameters."""
        return cls(replace(EfficientNetConfig.b7(), size=289, padding="transformers"))

    @classmethod
    def ablation(cls, image: str = "b5", embed: int = 640) -> "ALIGNConfig":
        """A model of the ablations (sec. 6): EfficientNet ``image`` ("b1" … "b7", "l2"), BERT-base, 80 to 640
        dimensions."""
        if image not in (known := [f"b{i}" for i in range(8)] + ["l2"]):
            raise ValueError(f"image is {image!r}; use one of {', '.join(known)}")
        text = replace(BERTConfig.base(), vocab=100_000, context=64, pooler=False)
        return cls(replace(getattr(EfficientNetConfig, image)(), size=289), text, embed)

    @classmethod
    def mini(cls, vocab: int = 400, pad: int = 1, context: int = 32) -> "ALIGNConfig":
        """A miniature for the scene world (64 pixels, word tokens); it starts nearer to where tau ends."""
        return cls(EfficientNetConfig.mini(), BERTConfig.mini(vocab, pad, context), 64, temperature=0.1)


class ALIGN(nn.Module):
    """A dual encoder: the mean of an EfficientNet's last map, and a linear image of BERT's first state.

    ``encode_image``: standardised pixels (b, 3, s, s) -> (b, e). ``encode_text``: token ids (b, t) -> (b, e),
    ``mask`` (b, t) being True for real tokens (default: all but ``config.text.pad``). ``forward``: (u, v,
    scale), both sides of length 1 and scale 1 / tau; the parameter ``temperature`` is tau,
    ``logit_scale`` is log(1 / tau).
    """

    def __init__(self, config: ALIGNConfig) -> None:
        super().__init__()
        self.config = config
        self.image = EfficientNet(config.image)
        self.text = BERT(config.text)
        self.image_projection = (
            None if config.image.out == config.embed else nn.Linear(config.image.out, config.embed)
        )
        self.text_projection = nn.Linear(config.text.width, config.embed)
        for projection in (self.image_projection, self.text_projection):
            if projection is not None:
                nn.init.xavier_uniform_(projection.weight)
                nn.init.zeros_(projection.bias)
        self.temperature = nn.Parameter(torch.tensor(float(config.temperature)))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What products are multiplied by: 1 / tau, at most 1 / ``config.least``."""
        # of the same precision: at the bound tau learns
        least = self.temperature.detach().new_full((), self.config.least)
        return 1 / self.temperature.clamp(min=least)

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        r"""$t=-\log\tau$, as CLIP's parameter would be."""
        return self.scale.log()

    def encode_image(
        self, images: Float[Tensor, "b 3 y x"], normalise: bool = False
    ) -> Float[Tensor, "b e"]:
        u = self.image(images)
        u = u if self.image_projection is None else self.image_projection(u)
        return F.normalize(u, dim=-1) if normalise else u

    def encode_text(
        self,
        tokens: Int[Tensor, "b t"],
        normalise: bool = False,
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b e"]:
        v = self.text_projection(self.text(tokens, mask)[:, 0])
        return F.normalize(v, dim=-1) if normalise else v

    def forward(
        self, images: Float[Tensor, "b 3 y x"], tokens: Int[Tensor, "c t"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "c e"], Float[Tensor, ""]]:
        return self.encode_image(images, True), self.encode_text(tokens, True), self.scale


@torch.no_grad()
def clamp_temperature_(model: ALIGN) -> None:
    r"""$\tau\leftarrow\max(\tau,\tau_{\min})$ in place, after an optimiser step: below, it would get no
    gradient."""
    model.temperature.clamp_(min=model.config.least)


# --------------------------------------------------------------------------------------------------- the loss

def check_smoothing(smoothing: Number) -> None:
    """Refuse what is no share."""
    if not 0 <= smoothing < 1:
        raise ValueError(
            f"smoothing is {smoothing}; it is a share of the target, at least 0 and less than 1"
        )


def smoothed_targets(
    b: int, smoothing: Number, dtype: torch.dtype | None = None
) -> Float[Tensor, "b b"]:
    r"""eq:smoothed-targets: $T_{ij}=(1-\varepsilon)\,\delta_{ij}+\varepsilon/b$: a share of the belief is
    spread over all pairs."""
    check_smoothing(smoothing)
    return (1 - smoothing) * torch.eye(b, dtype=dtype) + smoothing / b


def align_loss(
    u: Float[Tensor, "b e"],
    v: Float[Tensor, "c d"],
    scale: Scale,
    smoothing: Number = 0.1,
) -> Float[Tensor, ""]:
    r"""eq:align-loss: $\mathcal L=-\frac1b\sum_{ij}T_{ij}\big[\log p_{ij}+\log q_{ij}\big]$: the *sum* of
    both directions.

    Differentiable in u, v and scale. Raises ``ValueError`` if u and v are not pairs or the smoothing is
    outside [0, 1).
    """
    check_pairs(u, v)
    check_smoothing(smoothing)
    l = logits(u, v, scale)
    partner = torch.arange(len(l), device=l.device)
    return F.cross_entropy(
        l, partner, label_smoothing=smoothing
    ) + F.cross_entropy(l.mT, partner, label_smoothing=smoothing)


def smoothed_margin(b: int, smoothing: Number) -> float:
    r"""eq:smoothed-margin: $\ell_{ii}-\ell_{ij}=\log\frac{b(1-\varepsilon)+\varepsilon}{\varepsilon}$ at the
    optimum: the best logits are finite.

    Raises ``ValueError`` unless 0 < smoothing < 1.
    """
    if not 0 < smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; without smoothing the best margin is infinite, give a "
                         f"number in (0, 1)")
    return math.log((b * (1 - smoothing) + smoothing) / smoothing)


def smoothed_floor(b: int, smoothing: Number) -> float:
    r"""eq:smoothed-floor: $2H(T_i)=-2\sum_jT_{ij}\log T_{ij}$, the least value of eq:align-loss, in nats."""
    check_smoothing(smoothing)
    own, other = 1 - smoothing + smoothing / b, smoothing / b
    return -2 * (own * math.log(own) + ((b - 1) * other * math.log(other) if smoothing else 0.0))


def smoothed_gradient(
    l: Float[Tensor, "b b"], smoothing: Number
) -> Float[Tensor, "b b"]:
    r"""eq:smoothed-gradient: $\partial\mathcal L/\partial\ell_{ij}=\frac1b(p_{ij}+q_{ij}-2T_{ij})$."""
    return (
        l.softmax(dim=1)
        + l.softmax(dim=0)
        - 2 * smoothed_targets(len(l), smoothing, l.dtype).to(l.device)
    ) / len(l)


def sigma_gradient(
    s: Float[Tensor, "b b"], tau: Number, smoothing: Number
) -> Float[Tensor, ""]:
    r"""eq:sigma-gradient: $\frac{\partial\mathcal
    L}{\partial\tau}=\frac1{b\,\tau^2}\sum_{ij}(2T_{ij}-p_{ij}-q_{ij})\,s_{ij}$, ``s`` being the cosines and
    tau the temperature, which the paper calls sigma."""
    return -(smoothed_gradient(s / tau, smoothing) * s).sum() / tau**2


# ------------------------------------------------------------------------------------------ searching by sums

def compose_query(
    u: Float[Tensor, "*b e"], v: Float[Tensor, "*b e"], weight: Number = 2.0
) -> Float[Tensor, "*b e"]:
    r"""eq:compose-query: $q=\frac{u}{\|u\|}+\lambda\frac{v}{\|v\|}$, made a unit vector: an image, and words
    that change it.

    A negative ``weight`` takes the words away. The paper weights the text twice (sec. 7).
    """
    return F.normalize(F.normalize(u, dim=-1) + weight * F.normalize(v, dim=-1), dim=-1)


# --------------------------------------------------------------------------------------------------- training

class LAMB(torch.optim.Optimizer):
    r"""eq:lamb: $w\leftarrow w-\eta\frac{\|w\|}{\|r\|}r$, $r=\hat m/(\sqrt{\hat v}+\epsilon)+\lambda w$:
    Adam's direction, a length like the weight's own.

    $\hat m$ and $\hat v$ are Adam's averages, their start corrected; the ratio is 1 where one of the norms is
    0, and in parameter groups with ``adapt=False``. Each tensor counts as a layer.
    """

    def __init__(self, params: Any, lr: Number = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-6, weight_decay: Number = 0.0, adapt: bool = True) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "adapt": adapt})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:            # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for w in (p for p in group["params"] if p.grad is not None):
                state = self.state[w]
                if not state:
                    state.update(step=0, m=torch.zeros_like(w), v=torch.zeros_like(w))
                state["step"] += 1
                state["m"].lerp_(w.grad, 1 - first)
                state["v"].lerp_(w.grad.square(), 1 - second)
                m = state["m"] / (1 - first ** state["step"])
                v = state["v"] / (1 - second ** state["step"])
                r = m / (v.sqrt() + group["eps"]) + group["weight_decay"] * w
                ratio = w.norm() / r.norm()
                ratio = ratio.where(ratio.isfinite() & (ratio > 0), 1.0) if group["adapt"] else 1.0
                w.sub_(group["lr"] * ratio * r)
        return loss
