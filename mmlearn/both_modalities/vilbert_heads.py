r"""ViLBERT's four tasks: questions about pictures, answers with reasons, what words refer to, retrieval.

Paper: J. Lu, D. Batra, D. Parikh and S. Lee (2019), *ViLBERT*, NeurIPS, arXiv:1908.02265, sec. 3.2; heads,
targets and settings of github.com/jiasenlu/vilbert_beta (vilbert.py, task_utils.py, vlbert_tasks.yml).
Survey: 5.2, which leaves the heads out.
Differs from the paper: regions alone are scored for referring expressions (the code scores the whole picture
as one of them); boxes overlap without the pixel that the code adds to their sides. How near the pictures of
hard negatives are is left to who calls.

A task adds one small head and trains everything. VQA and VCR, retrieval too, read the product of the two
pooled states; referring expressions read each region's last state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import box_iou

from mmlearn.both_modalities.vilbert import ViLBERT, ViLBERTConfig, ViLBERTStates, initialise, joint_state
from mmlearn.both_modalities.vilbert_pretraining import ViLBERTForPreTraining
from mmlearn.both_modalities.vilbert_regions import Seen
from mmlearn.nn.configuration import check
from mmlearn.nn.modes import eval_mode

VQA_ANSWERS = 3129          # answers that VQA v2 gives often enough to be classes
AGREED = 3                  # annotators with whom an answer counts in full
LEAST_OVERLAP = 0.5         # IoU from which a box is what was meant


@dataclass(frozen=True)
class FineTuningConfig:
    """How a task is trained, as released: Adam, all weights, one rate."""

    batch: int = 256            # questions
    lr: float = 4e-5
    epochs: int = 20
    text_length: int = 16       # tokens, the special ones counted
    max_regions: int = 100      # the whole picture counted

    def __post_init__(self) -> None:
        check(self, lr=(0, 10))

    @classmethod
    def vqa(cls) -> "FineTuningConfig":
        """VQA v2."""
        return cls()

    @classmethod
    def vcr_answer(cls) -> "FineTuningConfig":
        """VCR, which of four answers; trained together with ``vcr_rationale``."""
        return cls(batch=64, lr=2e-5, text_length=60)

    @classmethod
    def vcr_rationale(cls) -> "FineTuningConfig":
        """VCR, which of four reasons for the right answer."""
        return cls(batch=64, lr=2e-5, text_length=80)

    @classmethod
    def referring(cls) -> "FineTuningConfig":
        """RefCOCO+."""
        return cls(text_length=20)

    @classmethod
    def retrieval(cls) -> "FineTuningConfig":
        """Flickr30k."""
        return cls(batch=64, lr=2e-5, text_length=30)


# ------------------------------------------------------------------------------------------- questions (VQA)


def normed_weight(
    U: Float[Tensor, "o d"], g: Float[Tensor, ""]
) -> Float[Tensor, "o d"]:
    r"""eq:vilbert-weight-norm: $W=g\,U/\|U\|$, with the length of the whole
    matrix as one number: its size and its direction are learned apart."""
    return g * U / U.norm()


def soft_score(
    n: Int[Tensor, "*b a"] | Float[Tensor, "*b a"]
) -> Float[Tensor, "*b a"]:
    r"""eq:vilbert-soft-score: $s_a=\min(1,\frac{n_a}3)$, when $n_a$ of ten
    annotators gave the answer a: several answers may be right."""
    return (n / AGREED).clamp(max=1.0)


def answer_loss(
    logits: Float[Tensor, "b a"], s: Float[Tensor, "b a"]
) -> Float[Tensor, ""]:
    r"""eq:vilbert-vqa: $L=-\sum_a s_a\log\sigma(z_a)+(1-s_a)\log(1-
    \sigma(z_a))$, a yes or no for every answer; a mean over the batch."""
    each = F.binary_cross_entropy_with_logits(logits, s, reduction="none")
    return each.sum(dim=1).mean()


class WeightNormLinear(nn.Module):
    """A linear layer whose matrix is eq:vilbert-weight-norm: (…, d) -> (…, o)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        start = nn.Linear(width, out)                # the released initialisation does not reach this matrix
        self.direction = nn.Parameter(start.weight.detach())
        self.length = nn.Parameter(start.weight.detach().norm())
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n o"]:
        return F.linear(x, normed_weight(self.direction, self.length), self.bias)


class AnswerHead(nn.Module):
    """The product of the pooled states (b, e) to logits of answers (b, a), through one hidden layer."""

    def __init__(self, config: ViLBERTConfig, answers: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.inner = WeightNormLinear(config.inner, 2 * config.inner)
        self.dropout = nn.Dropout(dropout)
        self.outer = WeightNormLinear(2 * config.inner, answers)

    def forward(self, joint: Float[Tensor, "b e"]) -> Float[Tensor, "b a"]:
        return self.outer(self.dropout(torch.relu(self.inner(joint))))


# ------------------------------------------------------------------------- alternatives (VCR and retrieval)


def choice_loss(
    logits: Float[Tensor, "b k"], right: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    r"""eq:vilbert-choice: $L=-\log\frac{\exp z_r}{\sum_{k=1}^4\exp z_k}$,
    the right one of four texts (VCR) or pairs (retrieval); a mean."""
    return F.cross_entropy(logits, right)


def question_text(
    question: Sequence[int], response: Sequence[int], cls: int, sep: int, most: int = 60
) -> tuple[list[int], list[int]]:
    """Tokens and segments of [CLS] question [SEP] response [SEP]: 0 for the question, 1 for the response.

    A reason is asked for by a question that already ends in [SEP] and the answer. What is longer than
    ``most`` tokens loses the last ones of its longer part. Raises ``ValueError`` if that leaves nothing.
    """
    if most < 5 or not question or not response:
        raise ValueError(f"a question of {len(question)} and a response of {len(response)} tokens in {most}; "
                         f"give both, and 5 tokens or more")
    a, b = list(question), list(response)
    while len(a) + len(b) > most - 3:
        (a if len(a) > len(b) else b).pop()
    return [cls, *a, sep, *b, sep], [0] * (len(a) + 2) + [1] * (len(b) + 1)


class Alternatives(NamedTuple):
    """Four pairs for each picture, by rows of texts and of pictures; the first is the right one."""

    texts: Int[Tensor, "b 4"]
    pictures: Int[Tensor, "b 4"]


def retrieval_alternatives(
    b: int, near: Int[Tensor, "b k"] | None = None,
    generator: torch.Generator | None = None,
) -> Alternatives:
    """A picture with its own text, with a random one, a random picture with the text, and the text of a
    picture that looks alike.

    ``near`` are the rows of such pictures, for each picture (by default any other). The hard negative changes
    the text, as in the released code; the paper lets it open. Raises ``ValueError`` for fewer than 2 pairs.
    """
    if b < 2:
        raise ValueError(f"{b} pairs have no wrong text or picture; use "
                         f"batches of 2 or more")
    device = generator.device if generator else None
    draw = partial(torch.randint, generator=generator, device=device)
    own = torch.arange(b, device=device)

    def others() -> Tensor:
        return (own + draw(1, b, (b,))) % b

    text, picture, hard = others(), others(), others()
    if near is not None:
        column = draw(near.shape[1], (b, 1))
        hard = near.to(own.device).gather(1, column)[:, 0]
    return Alternatives(torch.stack([own, text, own, hard], dim=1),
                        torch.stack([own, own, picture, own], dim=1))


def look_alikes(features: Float[Tensor, "n f"], k: int) -> Int[Tensor, "n k"]:
    """For each picture the rows of the ``k`` nearest others, by the cosine of their features: the pool of
    hard negatives. Raises ``ValueError`` if there are not so many."""
    if not 1 <= k < len(features):
        raise ValueError(f"k is {k} with {len(features)} pictures; ask for 1 "
                         f"to {len(features) - 1} others")
    unit = F.normalize(features, dim=1)
    return (unit @ unit.mT).fill_diagonal_(-torch.inf).topk(k, dim=1).indices


# ------------------------------------------------------------------------------------- referring expressions


def overlaps(boxes: Float[Tensor, "b n 5"], target: Float[Tensor, "b 4"]) -> Float[Tensor, "b n"]:
    """IoU of every region with the box that was meant, corners as fractions of the picture."""
    return torch.stack([box_iou(own[:, :4], one[None])[:, 0] for own, one in zip(boxes, target)])


def referring_targets(
    iou: Float[Tensor, "b n"], soft: bool = True
) -> Float[Tensor, "b n"]:
    r"""eq:vilbert-overlap: $u_i=o_i$ if $o_i\ge0.5$, else 0, $o_i$ the IoU
    of region i with what is meant (code; the paper has 1 for $o_i$)."""
    kept = iou >= LEAST_OVERLAP
    return torch.where(kept, iou, 0.0) if soft else kept.to(iou.dtype)


def referring_loss(
    logits: Float[Tensor, "b n"], u: Float[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
) -> Float[Tensor, ""]:
    r"""eq:vilbert-refer: $L=-\sum_{i=1}^nu_i\log\sigma(z_i)+(1-u_i)\log(1-
    \sigma(z_i))$ over the real regions; a mean over the batch."""
    each = F.binary_cross_entropy_with_logits(logits, u, reduction="none")
    return each.masked_fill(~mask, 0.0).sum(dim=1).mean()


def referred(logits: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Int[Tensor, " b"]:
    """The region with the largest logit; a picture without regions answers 0, which never hits."""
    return logits.masked_fill(~mask, -torch.inf).argmax(dim=1)


def referring_accuracy(
    logits: Float[Tensor, "b n"], iou: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]
) -> float:
    """Share of expressions whose chosen region overlaps what was meant by more than half."""
    chosen = referred(logits, mask)[:, None]
    hit = (iou.gather(1, chosen) > LEAST_OVERLAP) & mask.gather(1, chosen)
    return hit.double().mean().item()


# ------------------------------------------------------------------------------------------------------ model


class TaskScores(NamedTuple):
    """Logits of answers, of the pair as an alternative, and of regions as what is meant."""

    answers: Float[Tensor, "b a"]
    choice: Float[Tensor, " b"]
    regions: Float[Tensor, "b n"]


class ViLBERTForTasks(nn.Module):
    """ViLBERT with the heads of all tasks, of which a task trains one.

    Arguments are those of ``ViLBERT``. ``choose`` scores several texts for
    one picture; ``pair_scores`` all texts with all pictures.
    """

    def __init__(
        self, config: ViLBERTConfig, answers: int = VQA_ANSWERS
    ) -> None:
        super().__init__()
        self.config = config
        self.vilbert = ViLBERT(config)
        self.answers = AnswerHead(config, answers)
        self.choice = nn.Linear(config.inner, 1)
        self.regions = nn.Linear(config.width, 1)
        self.dropout = nn.Dropout(config.dropout)
        for head in (self.choice, self.regions):
            initialise(head)

    def forward(
        self, tokens: Int[Tensor, "b t"],
        segments: Int[Tensor, "b t"] | None,
        text_mask: Bool[Tensor, "b t"] | None,
        regions: Float[Tensor, "b n f"], boxes: Float[Tensor, "b n 5"],
        region_mask: Bool[Tensor, "b n"] | None = None,
    ) -> TaskScores:
        states = self.vilbert(
            tokens, segments, text_mask, regions, boxes, region_mask)
        joint = self.joint(states)
        rows = self.dropout(states.vision[:, 1:])
        return TaskScores(self.answers(joint), self.choice(joint)[:, 0],
                          self.regions(rows)[..., 0])

    def joint(self, states: ViLBERTStates) -> Float[Tensor, "b e"]:
        """Picture and text as one vector (eq:vilbert-joint), dropped out in training."""
        return self.dropout(joint_state(states.pooled_vision, states.pooled_text))

    def choose(
        self, tokens: Int[Tensor, "b k t"],
        segments: Int[Tensor, "b k t"] | None,
        text_mask: Bool[Tensor, "b k t"] | None,
        regions: Float[Tensor, "b n f"], boxes: Float[Tensor, "b n 5"],
        region_mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b k"]:
        """Logits of k texts for each picture: the answers of VCR, or its
        reasons, each read together with its question."""
        b, k, _ = tokens.shape
        text = [None if part is None else part.flatten(0, 1)
                for part in (tokens, segments, text_mask)]
        seen = [None if part is None else part.repeat_interleave(k, dim=0)
                for part in (regions, boxes, region_mask)]
        return self(*text, *seen).choice.view(b, k)


def for_tasks(model: ViLBERTForPreTraining, answers: int = VQA_ANSWERS) -> ViLBERTForTasks:
    """A model for tasks that starts from a pre-trained one, whose streams are copied; its heads are new."""
    tasks = ViLBERTForTasks(model.config, answers).to(next(model.parameters()))
    tasks.vilbert.load_state_dict(model.vilbert.state_dict())
    return tasks


def alternatives_loss(
    model: ViLBERTForTasks, tokens: Int[Tensor, "b t"], seen: Seen, pairs: Alternatives
) -> Float[Tensor, ""]:
    """The loss of retrieval (eq:vilbert-choice): of four pairs the first is the right one."""
    four = seen.rows(pairs.pictures.flatten())
    logits = model(tokens[pairs.texts.flatten()], None, None, four.features, four.boxes, four.mask).choice
    logits = logits.view(pairs.texts.shape)
    return choice_loss(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@torch.no_grad()
def pair_scores(
    model: nn.Module, tokens: Int[Tensor, "q t"], seen: Seen, score: Callable[..., Tensor],
    batch: int = 100,
) -> Float[Tensor, "q b"]:
    """How well q texts fit b pictures, all with all, in evaluation mode.

    ``score`` makes one number a pair of what the model says: ``lambda s: s.choice`` after fine-tuning,
    ``lambda s: alignment_score(s.pairs)`` of ``ViLBERTForPreTraining`` before. The ranks are
    ``retrieval_ranks(torch.eye(b), scores)``: row i of the first is picture i, and a product picks a column.
    """
    q, b = len(tokens), len(seen.mask)
    texts = torch.arange(q).repeat_interleave(b)
    pictures = torch.arange(b).repeat(q)
    parts = []
    with eval_mode(model) as device:
        for start in range(0, q * b, batch):
            here = seen.rows(pictures[start:start + batch].to(seen.mask.device))
            words = tokens[texts[start:start + batch].to(tokens.device)].to(device)
            parts.append(score(model(words, None, None, *(part.to(device) for part in here[:3]))))
    return torch.cat(parts).view(q, b)
