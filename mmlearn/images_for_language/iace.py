r"""iACE: a language model decides beside a small network that reads what CLIP sees in an imagined picture.

Paper: Y. Lu, W. Zhu, X. E. Wang, M. Eckstein and W. Y. Wang (2022), *Imagination-Augmented Natural Language
Understanding*, NAACL, arXiv:2204.08535; the head, the order of its inputs and the average of the logits are
those of the released code, github.com/YujieLu10/IACE-NLU.  Survey: 3.6.
Differs from the paper: its weight $\lambda$ is not known to us, ours is 0.5; the code has none and adds
(``released_loss``). Both parts take a step together and their gradients are cleared together; the code steps
only one of two optimisers an epoch (``head_learns``), while the gradients of the other pile up. A head
without ``bounded`` has no tanh before its loss, and a regression compares vectors of the same shape.

Two phases: a visually supervised language model is trained (a BERT that classifies vokens, or any other), and
``IACE.of`` takes its trunk, which is then trained on a task. CLIP's features of picture and sentence are
constants, so the language model gets no gradient from the imagination: the method is an ensemble of two
classifiers. No input of the released head holds both sentences of a pair, so that it cannot compare them;
``compare`` gives it how both pictures, then both texts, differ, which is ours (``compared_slots``).

Letters of shapes: s sentences of an example (1 or 2), e numbers of a CLIP feature, c classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmlearn.data.batches import Batches
from mmlearn.nn.bert import BERT, BERTConfig
from mmlearn.nn.configuration import check
from mmlearn.nn.modes import eval_mode
from mmlearn.train import History, fit, parameter_groups, warmup_linear


@dataclass(frozen=True)
class IACEConfig:
    bert: BERTConfig = field(default_factory=BERTConfig.base)
    embed: int = 512            # e, numbers of CLIP's features of a picture and of a sentence
    width: int = 512            # of the head
    classes: int = 2            # c; 1 is a number (regression)
    dropout: float | int = 0.1
    bounded: bool = False       # logits through tanh, as in the released code
    weight: float | int = 0.5   # lambda, of the imagination's loss
    compare: bool = False       # of two sentences: one input compares their pictures, the other their texts

    def __post_init__(self) -> None:
        check(self, weight=(0, 1))

    @classmethod
    def base(cls) -> "IACEConfig":
        """BERT-base and CLIP ViT-B/32 for two classes: 110,272,260 parameters, 788,482 of the head."""
        return cls()

    @classmethod
    def released(cls) -> "IACEConfig":
        """The same with the released head, whose logits lie between -1 and 1."""
        return cls(bounded=True)

    @classmethod
    def nli(cls) -> "IACEConfig":
        """For the three classes of MNLI: a head of 788,995 parameters."""
        return cls(classes=3)

    @classmethod
    def mini(cls, vocab: int = 400, classes: int = 2) -> "IACEConfig":
        """A miniature over the miniatures of BERT and of CLIP."""
        bert = BERTConfig(vocab, 48, 64, 2, 2, 256, pad=1, dropout=0.1)
        return cls(bert, 64, 64, classes)


# -------------------------------------------------------------------------------------------------- equations

def slots(
    images: Float[Tensor, "b s e"], texts: Float[Tensor, "b s e"]
) -> tuple[Float[Tensor, "b 2*e"], Float[Tensor, "b 2*e"]]:
    r"""eq:iace-slots: $x_1=[v_1;t_1]$, $x_2=[t_s;v_s]$, s being the last
    sentence: one sentence is read in both orders, of two the second with
    its text in the place of the picture."""
    return (torch.cat([images[:, 0], texts[:, 0]], dim=1),
            torch.cat([texts[:, -1], images[:, -1]], dim=1))


def compared_slots(
    images: Float[Tensor, "b s e"], texts: Float[Tensor, "b s e"]
) -> tuple[Float[Tensor, "b 2*e"], Float[Tensor, "b 2*e"]]:
    r"""eq:iace-compared: $x_1=[|v_1-v_s|;v_1\odot v_s]$, and $x_2$ of the
    texts: how far two pictures, or two texts, are apart in each number, and
    where both are large. Not in the paper."""
    first, second = (
        torch.cat([(f[:, 0] - f[:, -1]).abs(), f[:, 0] * f[:, -1]], dim=1)
        for f in (images, texts))
    return first, second


def bounded_logits(a: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    r"""eq:iace-bounded: $\tanh a\in(-1,1)$: no class can be more than
    $e^2$ times as probable as another."""
    return a.tanh()


def bounded_floor(classes: int) -> tuple[float, float]:
    r"""eq:iace-floor: $p_{\max}=\frac{1}{1+(c-1)e^{-2}}$ and $-\log p_{\max}
    $: what logits between -1 and 1 can reach at best, 0.881 and 0.127 with
    two classes, 0.787 and 0.240 with three."""
    best = 1 / (1 + (classes - 1) * math.exp(-2))
    return best, -math.log(best)


def task_loss(
    a: Float[Tensor, "b c"],
    y: Int[Tensor, " b"] | Float[Tensor, " b"],
) -> Float[Tensor, ""]:
    r"""eq:iace-task: $-\frac1b\sum_j\log p_{y_j}$, $p=\text{softmax}(a_j)$;
    of a single output $\frac1b\sum_j(a_j-y_j)^2$."""
    if a.shape[1] == 1:
        return F.mse_loss(a[:, 0], y.to(a.dtype))
    return F.cross_entropy(a, y)


def iace_loss(
    language: Float[Tensor, ""], imagine: Float[Tensor, ""],
    weight: float | int,
) -> Float[Tensor, ""]:
    r"""eq:iace-loss: $L=\lambda L_{Imagine}+(1-\lambda)L_{Lang}$; the first
    does not depend on the language model, the second on nothing else, so
    $\lambda$ only scales the gradients of two separate trainings."""
    return weight * imagine + (1 - weight) * language


def released_loss(
    language: Float[Tensor, ""], first: Float[Tensor, ""],
    second: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    r"""eq:iace-released: $L_{Lang}+L_1+L_2$, the head's losses for its two
    inputs, as the code adds them."""
    return language + first + second


def ensemble(
    language: Float[Tensor, "b c"], first: Float[Tensor, "b c"],
    second: Float[Tensor, "b c"],
) -> Float[Tensor, "b c"]:
    r"""eq:iace-ensemble: $\tfrac12\big(a_{Lang}+\tfrac12(a_1+a_2)\big)$: the
    answer is read off an average of logits."""
    return (language + (first + second) / 2) / 2


def head_learns(epoch: int, vision_epochs: int) -> bool:
    r"""eq:iace-alternate: the released code moves the head in epoch
    $i=1,2,\dots$ if $i$ is even and $i\le n_v$, else the language model: of
    30 epochs with $n_v=5$ the head gets the second and the fourth. Nothing
    here trains so."""
    return epoch % 2 == 0 and epoch <= vision_epochs


# ------------------------------------------------------------------------------------------------------ model

class FusionHead(nn.Module):
    """CLIP's features of a picture and of a sentence, one behind the other (b,
    2e) -> logits (b, c) (eq:iace-fusion).

    Between the second and the third layer stands a dropout only, so that in
    evaluation mode both are one linear map.
    """

    def __init__(
        self, embed: int = 512, width: int = 512, classes: int = 2,
        dropout: float | int = 0.1, bounded: bool = False,
    ) -> None:
        super().__init__()
        self.fusion = nn.Linear(2 * embed, width)
        self.dense = nn.Linear(width, width)
        self.out = nn.Linear(width, classes)
        self.dropout, self.bounded = nn.Dropout(dropout), bounded

    def forward(self, x: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        h = self.dropout(fused(x, self.fusion))
        a = self.out(self.dropout(self.dense(h)))
        return bounded_logits(a) if self.bounded else a


def fused(x: Float[Tensor, "b f"], layer: nn.Linear) -> Float[Tensor, "b d"]:
    r"""eq:iace-fusion: $h=\text{ReLU}\big(\text{ReLU}(x)W_1+b_1\big)$,
    $a=(hW_2+b_2)W_3+b_3$: negative numbers of a feature are not read."""
    return layer(x.relu()).relu()


class BERTClassifier(nn.Module):
    """A BERT with a linear layer on its pooled first state, with dropout before it: token ids (b, t), mask,
    segments -> logits (b, c).

    Raises ``ValueError`` for a BERT without a pooler.
    """

    def __init__(self, config: BERTConfig, classes: int = 2) -> None:
        super().__init__()
        if not config.pooler:
            raise ValueError("this BERT has no pooler; build it with BERTConfig(pooler=True)")
        self.config = config
        self.bert = BERT(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.width, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self, tokens: Int[Tensor, "b t"], mask: Tensor | None = None, segments: Tensor | None = None,
    ) -> Float[Tensor, "b c"]:
        states = self.bert(tokens, mask, segments)
        return self.classifier(self.dropout(self.bert.pooled(states)))


class Examples(NamedTuple):
    """Examples of a task: token ids and kinds of sentences (b, t), CLIP's features of the s imagined pictures
    and sentences, labels (b), whole numbers or, of a regression, numbers."""

    tokens: Int[Tensor, "b t"]
    segments: Int[Tensor, "b t"]
    images: Float[Tensor, "b s e"]
    texts: Float[Tensor, "b s e"]
    labels: Tensor

    def rows(self, indices: Sequence[int] | Tensor) -> "Examples":
        """Some of them, in this order."""
        chosen = torch.as_tensor(indices)
        return Examples(*(part[chosen] for part in self))


class Logits(NamedTuple):
    """Logits (b, c) of the language model and of the head for its two inputs."""

    language: Tensor
    first: Tensor
    second: Tensor


class IACE(nn.Module):
    """A language model and a head that reads CLIP's features of imagined
    pictures; one head reads both inputs (eq:iace-slots).

    ``forward``: ``Examples`` -> ``Logits``; ``answer`` is eq:iace-ensemble.
    ``of`` takes the trunk of a trained BERT.
    """

    def __init__(self, config: IACEConfig) -> None:
        super().__init__()
        self.config = c = config
        self.language = BERTClassifier(c.bert, c.classes)
        self.head = FusionHead(
            c.embed, c.width, c.classes, c.dropout, c.bounded)

    @classmethod
    def of(cls, bert: BERT, embed: int = 512, width: int = 512, classes: int = 2, bounded: bool = False,
           weight: float | int = 0.5, compare: bool = False) -> "IACE":
        """The second phase: the trunk of a BERT that was trained with vokens, or otherwise, copied, with a
        new layer for the task and a new head. A trunk without a pooler gets a new one."""
        trunk = replace(bert.config, pooler=True)
        config = IACEConfig(trunk, embed, width, classes, bounded=bounded, weight=weight, compare=compare)
        model = cls(config)
        state = model.language.bert.state_dict()
        state.update({name: value.detach().clone() for name, value in bert.state_dict().items()})
        model.language.bert.load_state_dict(state)
        return model

    def inputs(
        self, batch: Examples
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b f"]]:
        """What the head reads, twice."""
        arranged = compared_slots if self.config.compare else slots
        return arranged(batch.images, batch.texts)

    def forward(self, batch: Examples) -> Logits:
        first, second = self.inputs(batch)
        return Logits(
            self.language(batch.tokens, segments=batch.segments),
            self.head(first), self.head(second))

    @torch.no_grad()
    def answer(self, examples: Examples, batch: int = 64) -> Float[Tensor, "n c"]:
        """eq:iace-ensemble of all examples, in evaluation mode, on the CPU."""
        with eval_mode(self) as device:
            parts = [self(Examples(*(part.to(device) for part in examples.rows(rows))))
                     for rows in torch.arange(len(examples.labels)).split(batch)]
        return torch.cat([ensemble(*part) for part in parts]).cpu()


# ---------------------------------------------------------------------------------------------- fine-tuning

def iace_step(
    model: IACE, batch: Examples
) -> tuple[Tensor, dict[str, Tensor]]:
    """eq:iace-loss of a batch, $L_{Imagine}$ being the mean of the head's two losses; and both parts."""
    logits = model(batch)
    language, first, second = (task_loss(a, batch.labels) for a in logits)
    imagine = (first + second) / 2
    loss = iace_loss(language, imagine, model.config.weight)
    return loss, {"language": language, "imagine": imagine}


class ExampleBatches(Batches):
    """Shuffled batches of ``Examples``, a function of their number."""

    def __init__(self, examples: Examples, size: int, *, seed: int = 0) -> None:
        super().__init__(range(len(examples.labels)), size, seed=seed)
        self.examples = examples

    def make(self, indices: list[int], number: int) -> Examples:
        return self.examples.rows(indices)


def tuner(model: nn.Module, steps: int, lr: float | int, warmup: float | int,
          decay: float | int) -> dict[str, Any]:
    """The optimiser and schedule of the second phase, for ``fit``: AdamW (eps 1e-6), a rate that rises over a
    share ``warmup`` of the steps and then falls to 0; only matrices decay."""
    groups = parameter_groups(model, decay)
    return {"optimizer": torch.optim.AdamW(groups, lr=lr, eps=1e-6, fused=True),
            "schedule": warmup_linear(lr, max(1, round(warmup * steps)), steps + 1)}


def fine_tune(model: IACE, examples: Examples, *, steps: int, batch: int = 32, lr: float | int = 1e-4,
              warmup: float | int = 0.1, decay: float | int = 0.0, seed: int = 0, **options: Any) -> History:
    """The second phase: both parts take every step together (``tuner``). Gradients are not cut to a common
    length, which would couple the parts. Further options go to ``fit``; the history's scalars hold both
    losses. Raises ``ValueError`` for features and labels that the model would misread."""
    check_examples(model.config, examples)
    batches = ExampleBatches(examples, min(batch, len(examples.labels)), seed=seed)
    return fit(model, iace_step, batches, steps=steps, seed=seed, **tuner(model, steps, lr, warmup, decay),
               **options)


def fine_tune_head(model: IACE, examples: Examples, *, steps: int, batch: int = 32, lr: float | int = 1e-4,
                   warmup: float | int = 0.1, decay: float | int = 0.0, seed: int = 0,
                   **options: Any) -> History:
    """What ``fine_tune`` does to the head, without the language model, which it does not touch: several heads
    are compared beside one language model."""
    check_examples(model.config, examples)

    def step(head: FusionHead, part: Examples) -> Tensor:
        first, second = (task_loss(head(x), part.labels) for x in model.inputs(part))
        return model.config.weight * (first + second) / 2

    batches = ExampleBatches(examples, min(batch, len(examples.labels)), seed=seed)
    return fit(model.head, step, batches, steps=steps, seed=seed,
               **tuner(model.head, steps, lr, warmup, decay), **options)


def check_examples(config: IACEConfig, examples: Examples) -> None:
    """Refuse examples that the model would misread."""
    if examples.images.shape != examples.texts.shape or examples.images.shape[-1] != config.embed:
        raise ValueError(f"features have shapes {tuple(examples.images.shape)} and "
                         f"{tuple(examples.texts.shape)}, the head reads {config.embed} numbers of each; "
                         f"embed pictures and sentences with the same CLIP")
    labels = examples.labels
    if config.classes == 1:
        return
    if labels.is_floating_point() or not 0 <= int(labels.min()) <= int(labels.max()) < config.classes:
        raise ValueError(f"labels are from {labels.min().item()} to {labels.max().item()}; {config.classes} "
                         f"classes are the whole numbers from 0 to {config.classes - 1}")


def sampled_rows(total: int, count: int, seed: int = 0) -> list[int]:
    """``count`` rows drawn without replacement. Raises ``ValueError`` if there are fewer."""
    if not 1 <= count <= total:
        raise ValueError(f"{count} of {total} examples; take 1 to {total}")
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].tolist()


def accuracy(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> float:
    """Share of rows whose largest logit is that of the label."""
    return float((logits.argmax(dim=1) == labels).float().mean())
