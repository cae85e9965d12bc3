r"""data2vec: a student that sees a part of its input predicts what a slow copy of it, the teacher, makes of
the whole.

Paper: A. Baevski, W.-N. Hsu, Q. Xu, A. Babu, J. Gu and M. Auli (2022), *data2vec: A General Framework for
Self-supervised Learning in Speech, Vision and Language*, ICML, arXiv:2202.03555, sec. 3; released code:
fairseq's examples/data2vec (speech, text) and facebookresearch/data2vec_vision. The effective rank is that of
O. Roy and M. Vetterli (2007), *The effective rank*, EUSIPCO.  Survey: 5.1.
Differs from the paper: nothing. Where code and paper disagree, a configuration says whose numbers it has.

What all modalities share is here: teacher, targets, loss, training, and the signs of a collapse. What differs
is an encoder (``Learner``) and the way in which a part is hidden (``MaskedInputs``): ``data2vec_vision``,
``data2vec_text`` and ``data2vec_speech``. No weight is shared between modalities.

Which tensor $a^l$ is, and in which order it is normalised, is a matter of modality: the output of the
feed-forward net before dropout and residual sum for text (layer norm of each block) and speech (instance norm
of each block); the end of the block, without the class token, for images in the released code (layer norm of
each block, and of the mean once more).

Letters: $\theta$ and $\Delta$ are the weights of student and teacher, $u$ counts updates, $a_t^l$ is what
block l of the teacher's L blocks says of place t, $y$ a target, $f$ its prediction, $e=y-f$ the error.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmlearn.nn.configuration import FieldError, check
from mmlearn.nn.transformer import GELU, EncoderLayer
from mmlearn.train import History, Schedule, fit, parameter_groups

Norm = Literal["layer", "instance", "none"]
Reduction = Literal["mean", "root", "sum"]


@dataclass(frozen=True)
class Data2VecConfig:
    """What a modality sets of the method; the encoder has a configuration of its own."""

    K: int = 6                          # blocks, counted from the last, of which a target is the mean
    beta: float = 2.0                   # where the loss turns from a square to a line; 0: squares alone
    tau_0: float = 0.999                # decay of the teacher at first
    tau_e: float = 0.9999               # and at last
    tau_n: int = 100_000                # updates in which the decay gets there
    norm: Norm = "layer"                # of each block's output, before the mean
    twice: bool = False                 # is the mean normalised by layer norm once more?
    reduction: Reduction = "mean"       # over the d channels: their mean, their sum / sqrt(d), their sum

    def __post_init__(self) -> None:
        check(self, beta=(0, 1e6), tau_0=(0, 1), tau_e=(0, 1), tau_n=(1, 10**9))
        if self.tau_e < self.tau_0:
            raise FieldError("Data2VecConfig", "tau_e", f"is {self.tau_e}, below tau_0 {self.tau_0}; a "
                                                        f"teacher gets slower, so give tau_0 or more")

    def decay(self, u: int) -> float:
        """eq:d2v-decay with these numbers."""
        return ema_decay(u, self.tau_0, self.tau_e, self.tau_n)

    @classmethod
    def vision(cls) -> "Data2VecConfig":
        """Images, base (both the paper's and as released); normalised twice, as the released code does."""
        return cls(6, 2.0, 0.9998, 0.9998, 1, twice=True)

    @classmethod
    def vision_second(cls) -> "Data2VecConfig":
        """Images, large, from epoch 800 on, after ``Data2Vec.restart``; before it is ``vision``."""
        return cls(6, 2.0, 0.9999, 0.9999, 1, twice=True)

    @classmethod
    def text(cls) -> "Data2VecConfig":
        """Text, as in the paper; the reduction is the released one (``loss_scale: 1``)."""
        return cls(10, 4.0, 0.999, 0.9999, 100_000, reduction="sum")

    @classmethod
    def text_released(cls) -> "Data2VecConfig":
        """Text, as in fairseq's base.yaml, where the decay takes 300,000 updates."""
        return cls(10, 4.0, 0.999, 0.9999, 300_000, reduction="sum")

    @classmethod
    def speech(cls) -> "Data2VecConfig":
        """Speech: squares, normalised over time, the channels' sum / sqrt(d)."""
        return cls(8, 0.0, 0.999, 0.9999, 30_000, "instance", reduction="root")

    @classmethod
    def mini(cls, K: int = 3, beta: float = 2.0, steps: int = 400, norm: Norm = "layer") -> "Data2VecConfig":
        """For a run of ``steps`` updates, which the paper's teacher would sleep through."""
        return cls(K, beta, 0.99, 0.999, max(1, 6 * steps // 10), norm)


# ------------------------------------------------------------------------------------------------ the teacher


def ema_decay(u: int, tau_0: float, tau_e: float, tau_n: int) -> float:
    r"""eq:d2v-decay: $\tau(u)=\tau_0+(\tau_e-\tau_0)\min(u/\tau_n,1)$ at
    update u = 1, 2, …: a teacher is to change fast at first."""
    return tau_0 + (tau_e - tau_0) * min(u / tau_n, 1.0)


@torch.no_grad()
def ema_update_(
    teacher: nn.Module, student: nn.Module, tau: float,
    shared: tuple[str, ...] = (),
) -> None:
    r"""eq:d2v-ema: $\Delta\leftarrow\tau\Delta+(1-\tau)\theta$, in place.

    Parts whose names ``shared`` begins, and buffers, are copied. Computed in
    the teacher's precision. Raises ``ValueError`` if that is below float32:
    a step of $1-\tau$ = 0.0001 would be rounded away.
    """
    thetas = dict(student.named_parameters())
    averaged: list[Tensor] = []
    news: list[Tensor] = []
    for name, delta in teacher.named_parameters():
        if torch.finfo(delta.dtype).eps > 1e-6:
            raise ValueError(
                f"the teacher's {name} is {delta.dtype}, in which small steps "
                f"are lost; keep the teacher in float32")
        theta = thetas[name].to(delta)
        if any(name == part or name.startswith(part + ".") for part in shared):
            delta.copy_(theta)
        else:
            averaged.append(delta)
            news.append(theta)
    if averaged:
        torch._foreach_lerp_(averaged, news, 1 - tau)
    for old, new in zip(teacher.buffers(), student.buffers()):
        old.copy_(new)


def ema_shares(u: int, tau: float) -> Float[Tensor, " u_and_1"]:
    r"""eq:d2v-unrolled: $\Delta_u=\tau^u\theta_0
    +(1-\tau)\sum_{s=1}^u\tau^{u-s}\theta_s$: the shares of
    $\theta_0,\dots,\theta_u$ in the teacher, which sum to 1 (in float64)."""
    shares = (1 - tau) * tau ** torch.arange(u, -1, -1, dtype=torch.float64)
    shares[0] = tau**u
    return shares


def half_life(tau: float) -> float:
    r"""eq:d2v-half-life: $\ln 2/(1-\tau)$ updates, after which the teacher
    remembers half of what it was.

    Exact is $-\ln 2/\ln\tau$; the two differ by less than one update.
    """
    return math.log(2) / (1 - tau)


# ------------------------------------------------------------------------------------------------ the targets


def precise(a: Tensor) -> Tensor:
    """In float32 at least."""
    return a if a.dtype == torch.float64 else a.float()


def layer_normed(
    a: Float[Tensor, "b t d"], eps: float = 1e-5
) -> Float[Tensor, "b t d"]:
    r"""eq:d2v-layer-norm:
    $\hat a_{tc}=(a_{tc}-\mu_t)/\sqrt{\sigma_t^2+\epsilon}$: mean and
    variance of a place, over its channels; without weights."""
    return F.layer_norm(precise(a), a.shape[-1:], eps=eps)


def instance_normed(
    a: Float[Tensor, "b t d"], eps: float = 1e-5
) -> Float[Tensor, "b t d"]:
    r"""eq:d2v-instance-norm:
    $\hat a_{tc}=(a_{tc}-\mu_c)/\sqrt{\sigma_c^2+\epsilon}$: mean and
    variance of a channel, over the places of an example.

    What is the same at all places becomes 0. Raises ``ValueError`` for a
    single place.
    """
    if a.shape[1] < 2:
        raise ValueError(f"there is {a.shape[1]} place to normalise over; "
                         f"give examples of 2 or more")
    return F.instance_norm(precise(a).mT, eps=eps).mT


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "layer": layer_normed, "instance": instance_normed, "none": precise}


def targets(
    layers: Sequence[Float[Tensor, "b t d"]], k: int, norm: Norm = "layer",
    twice: bool = False,
) -> Float[Tensor, "b t d"]:
    r"""eq:d2v-targets: $y_t=\frac1K\sum_{l=L-K+1}^L\hat a_t^l$, the mean of
    the last K of L blocks, each normalised before.

    With ``twice`` the mean is normalised by eq:d2v-layer-norm once more.
    Raises ``ValueError`` for a K that there is not.
    """
    if not 1 <= k <= len(layers):
        raise ValueError(f"K is {k} and there are {len(layers)} blocks; give "
                         f"a K from 1 to {len(layers)}")
    y = NORMS[norm](layers[-k])
    for a in layers[len(layers) - k + 1 :]:
        y = y + NORMS[norm](a)
    return layer_normed(y / k) if twice else y / k


# --------------------------------------------------------------------------------------------------- the loss


def smooth_l1(
    prediction: Float[Tensor, "*n"], target: Float[Tensor, "*n"], beta: float
) -> Float[Tensor, "*n"]:
    r"""eq:d2v-smooth-l1:
    $\ell_\beta(e)=\begin{cases}e^2/(2\beta)&|e|\le\beta\\
    |e|-\beta/2&\text{otherwise}\end{cases}$, for each number by itself."""
    return F.smooth_l1_loss(prediction, target, reduction="none", beta=beta)


def smooth_l1_slope(
    e: Float[Tensor, "*n"], beta: float
) -> Float[Tensor, "*n"]:
    r"""eq:d2v-slope: $\ell'_\beta(e)=\max(-1,\min(e/\beta,1))$; its integral
    from 0 on is eq:d2v-smooth-l1, with both halves."""
    return (e / beta).clamp(-1, 1)


def squared(
    prediction: Float[Tensor, "*n"], target: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    r"""eq:d2v-squared: $\ell_0(e)=e^2$, for speech; the code calls it
    $\beta=0$, where eq:d2v-smooth-l1 would tend to $|e|$."""
    return F.mse_loss(prediction, target, reduction="none")


def survey_smooth_l1(
    e: Float[Tensor, "*n"], beta: float
) -> Float[Tensor, "*n"]:
    r"""eq:d2v-survey-loss: $e^2/\beta$ up to $\beta$, then $|e|-\beta/2$, as
    the survey has it: it falls from $\beta$ to $\beta/2$ there."""
    return torch.where(e.abs() <= beta, e.square() / beta, e.abs() - beta / 2)


def regression_loss(
    prediction: Float[Tensor, "n d"], target: Float[Tensor, "n d"],
    beta: float, reduction: Reduction = "mean",
) -> Float[Tensor, ""]:
    r"""eq:d2v-loss: $L=\frac{c}{|M|}\sum_{t\in M}\sum_{j=1}^d
    \ell_\beta(y_{tj}-f_{tj})$ over the hidden places M; c is 1/d,
    $1/\sqrt d$ or 1.

    ``reduction`` names c: "mean", "root" or "sum". Without a place it is 0.
    """
    prediction, d = prediction.to(target.dtype), target.shape[1]
    loss = (smooth_l1(prediction, target, beta) if beta > 0
            else squared(prediction, target))
    scale = {"mean": 1 / d, "root": d**-0.5, "sum": 1.0}[reduction]
    return scale * loss.sum() / max(1, len(target))


# ------------------------------------------------------------------------------------------ signs of collapse


def spread(y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    r"""eq:d2v-spread: $\frac1d\sum_{j=1}^d
    \sqrt{\mathrm{Var}_n(y_{nj})+10^{-6}}$: 0.001 if all rows are alike.

    The variance is that of the rows at hand; fairseq, which logs this,
    divides by n - 1.
    """
    return (precise(y).var(dim=0, correction=0) + 1e-6).sqrt().mean()


def effective_rank(y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    r"""eq:d2v-rank: $\exp\big(-\sum_ip_i\log p_i\big)$ with
    $p_i=s_i/\sum_js_j$, $s$ the singular values of the rows about their mean.

    From 1 (a line) to min(n - 1, d); 0 if all rows are alike, within
    rounding.
    """
    y = precise(y)
    s = torch.linalg.svdvals(y - y.mean(dim=0))
    s = s[s > 10 * torch.finfo(y.dtype).eps * torch.linalg.matrix_norm(y)]
    if not len(s):
        return y.new_zeros(())
    p = s / s.sum()
    return (-(p * p.log()).sum()).exp()


# ------------------------------------------------------------------------------------------------ the encoder


class Learner(Protocol):
    r"""An encoder of one modality, an ``nn.Module``, as ``Data2Vec`` wants it.

    It is called with inputs and ``mask`` (b, t), True = hidden, and gives the last states (b, t, d) of the t
    places that may be hidden; ``layers`` gives $a^1,\dots,a^L$ of whole inputs, each (b, t, d). ``shared``,
    if it has one, names the parts that the teacher copies and does not average.
    """

    def __call__(self, inputs: Any, mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b t d"]:
        ...

    def layers(self, inputs: Any) -> tuple[Tensor, ...]:
        ...


class BlockTensors(NamedTuple):
    """What can be a target of a block, each (b, t, d): after attention, after the feed-forward net, after its
    residual sum, and at the end."""

    attention: Tensor
    ffn: Tensor
    residual: Tensor
    end: Tensor


class TargetBlock(EncoderLayer):
    """A post-norm block (eq:add-norm) that also tells what it computes on its
    way: text and speech take the output of the feed-forward net, before
    dropout and sum."""

    def tensors(
        self, x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> BlockTensors:
        """All four; ``mask`` says which places are real."""
        read = self.attention(x, mask)
        x = self.attention_norm(x + self.dropout(read))
        a = self.feed_forward(x)
        both = x + self.dropout(a)
        return BlockTensors(read, a, both, self.feed_forward_norm(both))

    def forward(
        self, x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        return self.tensors(x, mask).end


def regression_head(width: int, layers: int = 1) -> nn.Sequential:
    """The student's head, d -> d: one linear map for images and speech; two for text, 2 d wide between."""
    widths = [width, *[2 * width] * (layers - 1), width]
    parts: list[nn.Module] = []
    for i, (into, out) in enumerate(zip(widths, widths[1:])):
        linear = nn.Linear(into, out)
        nn.init.trunc_normal_(linear.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(linear.bias)
        parts += [linear] if i == layers - 1 else [linear, GELU()]
    return nn.Sequential(*parts)


# ------------------------------------------------------------------------------------------------- the method


class MaskedInputs(NamedTuple):
    """A batch: whole ``inputs``, ``mask`` (b, t) of the places that are hidden and asked for, and what the
    student reads, where that is not the inputs with the mask alone."""

    inputs: Any
    mask: Tensor
    corrupted: Any = None


class Predicted(NamedTuple):
    """Of the n hidden places of a batch, row by row: what the student says and what it should, (n, d)
    each."""

    prediction: Tensor
    target: Tensor


class Data2Vec(nn.Module):
    """Student, head and teacher: a batch with hidden places -> ``Predicted``.

    The teacher begins as a copy of the student, in float32, gets no gradient
    and no dropout, and sees the whole input; ``update`` moves it after every
    step of the optimiser. It has no head. Raises ``ValueError`` for a batch in
    which nothing is hidden.
    """

    updates: Tensor

    def __init__(self, student: nn.Module, head: nn.Module,
                 config: Data2VecConfig) -> None:
        super().__init__()
        self.student, self.head, self.config = student, head, config
        self.teacher = deepcopy(student).requires_grad_(False).eval()
        for p in self.teacher.parameters():
            p.data = precise(p.data)
        self.shared = tuple(getattr(student, "shared", ()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> "Data2Vec":
        """Training mode, but for the teacher, which has no dropout ever."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, inputs: Any, mask: Bool[Tensor, "b t"],
                corrupted: Any = None) -> Predicted:
        if not mask.any():
            raise ValueError("nothing is hidden in this batch, so there is "
                             "nothing to predict; hide a place or more")
        read = inputs if corrupted is None else corrupted
        states = self.student(read, mask)
        return Predicted(self.head(states[mask]), self.teach(inputs)[mask])

    @torch.no_grad()
    def teach(self, inputs: Any) -> Float[Tensor, "b t d"]:
        """The targets of all places (eq:d2v-targets), from whole inputs."""
        layers = cast(Learner, self.teacher).layers(inputs)
        of = self.config
        return targets(layers, of.K, of.norm, of.twice)

    def update(self) -> float:
        """Move the teacher (eq:d2v-ema); returns the decay that was used."""
        self.updates += 1
        tau = self.config.decay(int(self.updates))
        ema_update_(self.teacher, self.student, tau, self.shared)
        return tau

    def restart(self) -> None:
        """The teacher becomes the student, and updates count from 0 again."""
        ema_update_(self.teacher, self.student, 0.0)
        self.updates.zero_()


# --------------------------------------------------------------------------------------------------- training


def data2vec_objective(model: Data2Vec, batch: MaskedInputs) -> tuple[Tensor, dict[str, Any]]:
    """A loss for ``fit``: eq:d2v-loss of a batch, and eq:d2v-spread of targets and predictions.

    A loss that rises is no bad sign, as the targets move; a spread that goes to 0 is one.
    """
    found, of = model(batch.inputs, batch.mask, batch.corrupted), model.config
    loss = regression_loss(found.prediction, found.target, of.beta, of.reduction)
    return loss, {"weight": len(found.target), "target spread": spread(found.target),
                  "prediction spread": spread(found.prediction.detach())}


def tri_stage_rate(
    step: int, lr: float, steps: int, shares: tuple[float, float, float],
    first: float = 0.01, last: float = 0.01,
) -> float:
    r"""eq:d2v-rate: $\eta_s=\eta\,(r_0+(1-r_0)s/w)$ for s < w, then $\eta$ for
    h steps, then $\eta\,r_e^{(s-w-h)/g}$: w, h and g are shares of all steps,
    and the ends are a hundredth of the top."""
    w, h, g = (max(1, round(share * steps)) for share in shares)
    if step < w:
        return lr * (first + (1 - first) * step / w)
    return lr * last ** (min(max(0, step - w - h), g) / g)


def tri_stage(
    lr: float, steps: int, shares: tuple[float, float, float] = (0.05, 0.8, 0.15)
) -> Schedule:
    """eq:d2v-rate as a schedule of ``fit``, whose steps count from 1; the shares are those of text, (0.03,
    0.9, 0.07) those of speech."""
    return Schedule(f"tri_stage({lr}, steps={steps}, shares={shares})",
                    lambda step: tri_stage_rate(step - 1, lr, steps, shares))


def train_data2vec(
    model: Data2Vec, batches: Any, *, steps: int, lr: float = 1e-3, weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.98), eps: float = 1e-6, clip: float | None = 5.0,
    on_step: Callable[[int, Any], Any] | None = None, **options: Any,
) -> History:
    """Train on batches of ``MaskedInputs``: AdamW, eq:d2v-rate, and the teacher moved after every step.

    The defaults are those of text but for the rate, which the paper has at 0.0002 for 1,000,000 steps.
    Further ``options`` (``schedule``, ``folder``, ``evaluate``, ``title`` …) go to ``fit``.
    """
    def after(step: int, model: Data2Vec) -> None:
        model.update()
        if on_step is not None:
            on_step(step, model)

    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, betas=betas, eps=eps)
    options = {"schedule": tri_stage(lr, steps), **options}
    return fit(model, data2vec_objective, batches, steps=steps, optimizer=optimizer, clip=clip, on_step=after,
               **options)
