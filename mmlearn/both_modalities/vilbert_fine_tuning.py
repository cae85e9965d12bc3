"""ViLBERT's tasks in the scene world, as it is fine-tuned for them: questions, answers with reasons, what
words refer to, retrieval.

Paper: J. Lu, D. Batra, D. Parikh and S. Lee (2019), *ViLBERT*, NeurIPS, arXiv:1908.02265, sec. 3.2 and 4.
Survey: 5.2, which leaves it out.
Differs from the paper: the scene world's questions, expressions and regions. A tag of VCR, [0] or [1], is the
name of its thing, where the paper's code gives the thing's box as a region.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.both_modalities.vilbert_heads import (
    ViLBERTForTasks,
    alternatives_loss,
    answer_loss,
    choice_loss,
    overlaps,
    pair_scores,
    question_text,
    referred,
    referring_accuracy,
    referring_loss,
    referring_targets,
    retrieval_alternatives,
    soft_score,
)
from mmlearn.both_modalities.vilbert_regions import Seen
from mmlearn.both_modalities.vilbert_training import BATCH, RegionTexts, kept_regions
from mmlearn.data.batches import Batches
from mmlearn.data.expressions import ExpressionSet, expressions
from mmlearn.data.questions import ANSWERS, VQASet, vqa_questions
from mmlearn.data.rationales import VCRSet, vcr_problems, with_names
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.image2text.regions import Detector
from mmlearn.metrics.retrieval import recall_at_k, retrieval_ranks
from mmlearn.metrics.vcr import choose
from mmlearn.nn.modes import eval_mode
from mmlearn.train import History, fit, warmup_linear

FEW = 300                   # questions, expressions and problems whose words a vocabulary holds


def task_words(count: int = FEW) -> list[str]:
    """Texts of all tasks, from training scenes: a vocabulary made with them can be fine-tuned for each."""
    problems = vcr_problems(count)
    return [*(q.text for q in vqa_questions(count).questions),
            *(one.text for one in expressions(count).expressions),
            *(with_names(text, problems.scenes[one.scene]) for one in problems.problems
              for text in (one.question, *one.answers, *one.rationales))]


# ------------------------------------------------------------------------------------------------------ tasks


class Task(NamedTuple):
    """Texts about pictures and what is right: for row i the picture ``pictures[i]``, and ``right[i]``, soft
    scores of answers (n, a) or overlaps of regions with what is meant (n, r)."""

    tokens: Int[Tensor, "n t"]
    seen: Seen
    pictures: Int[Tensor, " n"]
    right: Float[Tensor, "n ..."]


def question_task(data: VQASet, seen: Seen, tokeniser: WordTokeniser) -> Task:
    """Questions, with the share of people who gave each of ``ANSWERS`` (eq:vilbert-soft-score)."""
    place = {answer: i for i, answer in enumerate(ANSWERS)}
    counts = torch.zeros(len(data), len(ANSWERS))
    for row, question in zip(counts, data.questions):
        for answer in question.answers:
            if answer in place:
                row[place[answer]] += 1
    return Task(tokeniser.batch([q.text for q in data.questions]), seen,
                torch.tensor([q.scene for q in data.questions]), soft_score(counts))


def referring_task(data: ExpressionSet, seen: Seen, tokeniser: WordTokeniser) -> Task:
    """Expressions, with the IoU of every region with the box that is meant."""
    pictures = torch.tensor([one.scene for one in data.expressions])
    truth = torch.stack([data.boxes(one.scene)[one.target] for one in data.expressions])
    iou = overlaps(seen.boxes[pictures], truth)
    return Task(tokeniser.batch([one.text for one in data.expressions]), seen, pictures,
                iou.masked_fill(~seen.mask[pictures], 0.0))


def task_regions(
    detector: Detector, data: VQASet | ExpressionSet | VCRSet, name: str, keep: Path | None = None,
    max_regions: int = 9,
) -> Seen:
    """The regions of a task's pictures; the file ``name`` in the folder ``keep`` is read if it is there."""
    path = keep and keep / f"vilbert-{name}-{len(data)}-{len(data.scenes)}.safetensors"
    images = torch.empty(0, 3, 1, 1) if path and path.exists() else data.images()
    return kept_regions(detector, images, max_regions, path)


class Rows(Batches):
    """Endless shuffled batches of the numbers of rows."""

    def __init__(self, count: int, size: int, seed: int = 0) -> None:
        super().__init__(range(count), min(size, count), seed=seed)

    def make(self, indices: list[int], number: int) -> Tensor:
        return torch.tensor(indices)


def scores_at(model: ViLBERTForTasks, task: Task, rows: Int[Tensor, " b"]) -> Any:
    """``TaskScores`` of some rows of a task."""
    device = next(model.parameters()).device
    here = task.seen.rows(task.pictures[rows])
    return model(task.tokens[rows].to(device), None, None, *(part.to(device) for part in here[:3]))


def question_step(task: Task, model: ViLBERTForTasks, rows: Tensor) -> Tensor:
    """The loss of questions (eq:vilbert-vqa)."""
    logits = scores_at(model, task, rows).answers
    return answer_loss(logits, task.right[rows].to(logits))


def referring_step(task: Task, model: ViLBERTForTasks, rows: Tensor) -> Tensor:
    """The loss of expressions (eq:vilbert-refer)."""
    logits = scores_at(model, task, rows).regions
    mask = task.seen.mask[task.pictures[rows]].to(logits.device)
    return referring_loss(logits, referring_targets(task.right[rows].to(logits)), mask)


STEPS: dict[str, Callable[..., Tensor]] = {"questions": question_step, "referring": referring_step}


def fine_tune(
    model: ViLBERTForTasks, step: Callable[..., Tensor], count: int, *, steps: int, batch: int = 64,
    lr: float | int = 3e-4, seed: int = 0, **options: Any
) -> History:
    """Train all weights by ``step(model, rows)`` on batches of ``count`` rows: Adam, a rate that rises in a
    tenth of the steps and falls to zero. ``options`` are those of ``fit``."""
    schedule = warmup_linear(lr, max(1, steps // 10), steps)
    return fit(model, step, Rows(count, batch, seed), steps=steps, schedule=schedule, seed=seed,
               optimizer=partial(torch.optim.AdamW, lr=lr, weight_decay=0.01), title="a task", **options)


def tune_task(model: ViLBERTForTasks, name: str, task: Task, **options: Any) -> History:
    """Fine-tune for "questions" or "referring"."""
    return fine_tune(model, partial(STEPS[name], task), len(task.tokens), **options)


@torch.no_grad()
def evaluated(model: ViLBERTForTasks, task: Task, part: str) -> Tensor:
    """Logits of all rows: ``part`` is "answers" or "regions"."""
    with eval_mode(model):
        rows = torch.arange(len(task.tokens)).split(BATCH)
        return torch.cat([getattr(scores_at(model, task, some), part).cpu() for some in rows])


def given_answers(model: ViLBERTForTasks, task: Task) -> list[str]:
    """The answer with the largest logit, to each question."""
    return [ANSWERS[i] for i in evaluated(model, task, "answers").argmax(dim=1).tolist()]


def referring_score(model: ViLBERTForTasks, task: Task) -> float:
    """Share of expressions whose region overlaps what is meant by more than half."""
    return referring_accuracy(evaluated(model, task, "regions"), task.right,
                              task.seen.mask[task.pictures])


def chosen_regions(model: ViLBERTForTasks, task: Task) -> Int[Tensor, " n"]:
    """The region that each expression is taken to mean."""
    return referred(evaluated(model, task, "regions"), task.seen.mask[task.pictures])


def blind_referring(task: Task) -> dict[str, float]:
    """What is right without reading or without looking: a random region, the largest one, the detector's
    first; and with the best region, what no model can pass."""
    mask, iou = task.seen.mask[task.pictures], task.right
    area = task.seen.boxes[task.pictures][..., 4]
    hit = (iou > 0.5) & mask
    first = lambda scores: referring_accuracy(scores, iou, mask)        # noqa: E731
    return {"any region": float((hit.sum(1) / mask.sum(1).clamp(min=1)).double().mean()),
            "largest region": first(area), "most certain region": first(-torch.arange(area.shape[1])
                                                                        .expand_as(area).double()),
            "best region": float(hit.any(1).double().mean())}


# -------------------------------------------------------------------------------------------------- retrieval


def retrieval_step(
    data: RegionTexts, tokens: Int[Tensor, "n t"], model: ViLBERTForTasks, rows: Tensor,
    near: Int[Tensor, "n k"] | None = None,
) -> Tensor:
    """The loss of retrieval on some pictures with their first captions; ``near`` are rows of all pictures, of
    which one text is the hard negative."""
    device = next(model.parameters()).device
    dice = torch.Generator().manual_seed(int(rows[0]) + 1_000_003 * int(rows[-1]))
    pairs = retrieval_alternatives(len(rows), generator=dice)
    texts, pictures = rows[pairs.texts], rows[pairs.pictures]
    if near is not None:
        column = torch.randint(near.shape[1], (len(rows),), generator=dice)
        texts[:, 3] = near[rows, column]
    used, place = torch.cat([texts, pictures]).unique(return_inverse=True)
    here = Seen(*(part.to(device) for part in data.seen.rows(used)))
    local = type(pairs)(place[: len(rows)].to(device), place[len(rows) :].to(device))
    return alternatives_loss(model, tokens[used].to(device), here, local)


def retrieval_scores(
    model: torch.nn.Module, tokens: Int[Tensor, "n t"], seen: Seen, score: Callable[..., Tensor]
) -> dict[str, float]:
    """R@1, R@5 and R@10 of pictures for texts, whose own picture has the same number."""
    scores = pair_scores(model, tokens, seen, score)
    ranks = retrieval_ranks(torch.eye(len(tokens)), scores)
    return {f"R@{k}": recall_at_k(ranks.text_to_image, k) for k in (1, 5, 10)}


# -------------------------------------------------------------------------------------------------------- VCR


class ChoiceTask(NamedTuple):
    """Four texts for each picture, with their segments; ``right`` is the number of the right one."""

    tokens: Int[Tensor, "n 4 t"]
    segments: Int[Tensor, "n 4 t"]
    seen: Seen
    pictures: Int[Tensor, " n"]
    right: Int[Tensor, " n"]


def choice_task(data: VCRSet, seen: Seen, tokeniser: WordTokeniser, reasons: bool = False) -> ChoiceTask:
    """Answers to questions, or reasons for the right answers, with names for tags."""
    most = 64
    tokens = torch.full((len(data), 4, most), tokeniser.pad)
    segments = torch.zeros_like(tokens)
    for i, one in enumerate(data.problems):
        scene = data.scenes[one.scene]
        asked = tokeniser.encode(with_names(one.question, scene))
        if reasons:
            asked += [tokeniser.eos, *tokeniser.encode(with_names(one.answers[one.answer], scene))]
        for k, text in enumerate(one.rationales if reasons else one.answers):
            ids, kinds = question_text(asked, tokeniser.encode(with_names(text, scene)), tokeniser.bos,
                                       tokeniser.eos, most)
            tokens[i, k, : len(ids)], segments[i, k, : len(ids)] = torch.tensor(ids), torch.tensor(kinds)
    used = int((tokens != tokeniser.pad).sum(-1).max())
    right = [one.rationale if reasons else one.answer for one in data.problems]
    return ChoiceTask(tokens[..., :used], segments[..., :used], seen,
                      torch.tensor([one.scene for one in data.problems]), torch.tensor(right))


def choice_logits(model: ViLBERTForTasks, task: ChoiceTask, rows: Int[Tensor, " b"]) -> Float[Tensor, "b 4"]:
    """Logits of the four texts of some rows."""
    device = next(model.parameters()).device
    here = task.seen.rows(task.pictures[rows])
    return model.choose(task.tokens[rows].to(device), task.segments[rows].to(device), None,
                        *(part.to(device) for part in here[:3]))


def choice_step(task: ChoiceTask, model: ViLBERTForTasks, rows: Tensor) -> Tensor:
    """The loss of choices (eq:vilbert-choice)."""
    logits = choice_logits(model, task, rows)
    return choice_loss(logits, task.right[rows].to(logits.device))


@torch.no_grad()
def chosen_texts(model: ViLBERTForTasks, task: ChoiceTask) -> Int[Tensor, " n"]:
    """The text with the largest logit, for each row."""
    with eval_mode(model):
        rows = torch.arange(len(task.right)).split(BATCH // 4)
        return choose(torch.cat([choice_logits(model, task, some).cpu() for some in rows]))

