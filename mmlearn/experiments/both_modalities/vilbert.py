"""ViLBERT on the regions of drawn scenes: the miniature that the chapter loads, and what its parts do.

Paper: J. Lu, D. Batra, D. Parikh and S. Lee (2019), *ViLBERT*, NeurIPS, arXiv:1908.02265, sec. 4, table 1.
Survey: 5.2.
Differs from the paper: miniatures from scratch. The single stream has as many parameters as the two and as
many layers as a word passes there; the paper's is a BERT-base, and smaller.

With ``--checkpoint`` the miniature alone is trained and saved. Without it arms of equal size are compared:
the paper's co-attention; the survey's formula, where each stream reads its own values; words that read
regions while regions read their own; one stream for both. Each is pre-trained with the same batches, judged,
and fine-tuned for two tasks, which one more arm is trained for without pre-training. Regions are computed
once and kept in the folder ``--regions-in``.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmlearn.both_modalities.vilbert import (
    Directions,
    Projected,
    ViLBERT,
    ViLBERTConfig,
    ViLBERTStates,
)
from mmlearn.both_modalities.vilbert_fine_tuning import (
    Task,
    blind_referring,
    given_answers,
    question_task,
    referring_score,
    referring_task,
    retrieval_scores,
    task_regions,
    task_words,
    tune_task,
)
from mmlearn.both_modalities.vilbert_heads import ViLBERTForTasks, for_tasks
from mmlearn.both_modalities.vilbert_pretraining import PretrainingConfig, ViLBERTForPreTraining
from mmlearn.both_modalities.vilbert_training import (
    CHECKPOINT,
    CONTEXT,
    PretrainingBatches,
    RegionTexts,
    judged,
    mask_id,
    mini_model,
    pretrain,
    save_vilbert,
    scene_regions,
)
from mmlearn.data.expressions import expressions
from mmlearn.data.questions import ANSWERS, VQAPairs, blind_scores, vqa_pairs
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.image2text.regions import load_detector
from mmlearn.nn.attention import attention
from mmlearn.nn.modes import seeded
from mmlearn.train import History

BASE, SURVEY, ONE_WAY, STREAM, FRESH = ARMS = (
    "co-attention", "survey's formula", "words read regions", "single stream", "no pre-training")
WIDTH = 120             # of the single stream, which so has as many parameters as the two


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=3)
    parser.add_argument("--checkpoint", type=Path, help=f"train the miniature alone and save it here (the "
                                                        f"book's: data/checkpoints/{CHECKPOINT.name})")
    parser.add_argument("--regions-in", type=Path, help="folder for regions that are computed once")
    parser.add_argument("--folder", type=Path, help="checkpoints of the miniature's run, to go on with")
    parser.add_argument("--steps", type=int, default=2000, help="of pre-training")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--tune", type=int, default=400, help="steps of each task")
    parser.add_argument("--tune-lr", type=float, default=3e-4)
    parser.add_argument("--train", type=int, default=8000, help="scenes to train on")
    parser.add_argument("--asked", type=int, default=3000, help="questions, and expressions, to fine-tune on")
    parser.add_argument("--test", type=int, default=500, help="scenes to test on; tasks have twice as many")
    parser.add_argument("--seed", type=int, default=0, help="of the miniature")


# ------------------------------------------------------------------------------------------------------- arms


def words_read_regions(
    regions: Projected, words: Projected,
    region_mask: Bool[Tensor, "b 1 1 n"] | None = None, text_mask: Bool[Tensor, "b 1 1 t"] | None = None,
    attend: Directions = (attention, attention),
) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h t e"]]:
    """One direction: words ask regions, and regions ask one another."""
    Q_Y, _, _ = words
    _, K_X, V_X = regions
    return attend[0](*regions, region_mask), attend[1](Q_Y, K_X, V_X, region_mask)


class SingleStream(nn.Module):
    """Words and regions as one sequence through the layers of one BERT; called as ``ViLBERT`` is, of which it
    takes the embeddings and the poolers."""

    def __init__(self, two: ViLBERT) -> None:
        super().__init__()
        self.config, self.text, self.regions = two.config, two.text, two.regions
        self.text_pooler, self.vision_pooler = two.text_pooler, two.vision_pooler
        self.masks, self.pool = two.masks, two.pool

    def forward(
        self, tokens: Int[Tensor, "b t"], segments: Int[Tensor, "b t"] | None,
        text_mask: Bool[Tensor, "b t"] | None, regions: Float[Tensor, "b n f"],
        boxes: Float[Tensor, "b n 5"], region_mask: Bool[Tensor, "b n"] | None = None,
    ) -> ViLBERTStates:
        read, seen = self.masks(tokens, text_mask, regions, region_mask)
        y = self.text.embed(tokens, segments)
        x, seen = self.regions(regions, boxes, seen)
        t, mask = y.shape[1], torch.cat([read, seen], dim=1)
        both = torch.cat([y, x], dim=1)
        for layer in self.text.layers:
            both = layer(both, mask)
        y, x = both[:, :t], both[:, t:]
        return ViLBERTStates(y, x, self.pool(y, self.text_pooler), self.pool(x, self.vision_pooler))


def config_of(name: str, base: ViLBERTConfig) -> ViLBERTConfig:
    """The sizes of an arm."""
    if name == STREAM:
        layers = base.text.layers + len(base.co_text)
        text = replace(base.text, width=WIDTH, ff=2 * WIDTH, layers=layers)
        return replace(base, text=text, width=WIDTH, ff=2 * WIDTH, layers=0, co_text=(), co_vision=())
    return replace(base, co_attention="survey" if name == SURVEY else "paper")


Model = ViLBERTForPreTraining | ViLBERTForTasks


def as_arm(name: str, model: Model) -> Model:
    """A model whose streams are those of the arm; its weights stay."""
    if name == STREAM:
        model.vilbert = SingleStream(model.vilbert)  # type: ignore[assignment]
    elif name == ONE_WAY:
        for layer in model.vilbert.co_layers:
            layer.exchange = words_read_regions  # type: ignore[assignment]
    return model


def arm(name: str, tokeniser: WordTokeniser, data: RegionTexts, seed: int) -> ViLBERTForPreTraining:
    """A new model; the first weights of the arms with two streams are the same."""
    base = ViLBERTConfig.mini(mask_id(tokeniser) + 1, tokeniser.pad, CONTEXT, data.seen.features.shape[-1],
                              data.seen.classes.shape[-1])
    return as_arm(name, mini_model(tokeniser, data, seed, config_of(name, base)))  # type: ignore[return-value]


def tuned(name: str, model: ViLBERTForPreTraining, task: str, rows: Task, seed: int,
          args: argparse.Namespace) -> ViLBERTForTasks:
    """The arm fine-tuned for a task, with new heads."""
    with seeded(seed + 1):
        if name == STREAM:
            tasks = as_arm(name, ViLBERTForTasks(model.config, len(ANSWERS)))
            tasks.vilbert.load_state_dict(model.vilbert.state_dict())
        else:
            tasks = as_arm(name, for_tasks(model, len(ANSWERS)))
    tune_task(tasks, task, rows, steps=args.tune, batch=args.batch, lr=args.tune_lr,  # type: ignore[arg-type]
              seed=seed, progress=False)
    return tasks  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------------- runs


def four(scores: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in scores.items()}


def material(args: argparse.Namespace) -> tuple[RegionTexts, RegionTexts, WordTokeniser]:
    """Scenes to train and to test on, and the words of all texts."""
    detector = load_detector()
    train, test = (scene_regions(detector, count, split, keep=args.regions_in)
                   for count, split in ((args.train, "train"), (args.test, "test")))
    return train, test, train.vocabulary(task_words())


def recipe(args: argparse.Namespace) -> PretrainingConfig:
    return replace(PretrainingConfig.mini(), batch=args.batch, lr=args.lr)


def difference(scores: Any) -> Tensor:
    """The logit of "belong together" above the other: ranks as the probability does, and never ties at 1."""
    return scores.pairs[:, 0] - scores.pairs[:, 1]


def zero_shot(model: ViLBERTForPreTraining, test: RegionTexts, tokeniser: WordTokeniser) -> dict[str, float]:
    """Pictures of 100 for their texts, by the alignment alone."""
    rows = torch.arange(min(100, len(test)))
    return retrieval_scores(model, tokeniser.batch(test.first())[rows], test.seen.rows(rows), difference)


def curve(history: History, every: int) -> dict[str, Any]:
    """Losses, means over ``every`` steps."""
    def mean(values: list[float]) -> list[float]:
        parts = [values[i : i + every] for i in range(0, len(values), every)]
        return [round(sum(part) / len(part), 4) for part in parts]

    steps = [min(i + every, len(history.loss)) for i in range(0, len(history.loss), every)]
    return {"step": steps, "loss": mean(history.loss),
            **{name: mean(history.scalars[name]) for name in ("mlm", "region", "pair")}}


def miniature(args: argparse.Namespace) -> dict[str, Any]:
    """Train, judge and save the chapter's model."""
    train, test, tokeniser = material(args)
    val = scene_regions(load_detector(), args.test, "val", keep=args.regions_in)
    model = mini_model(tokeniser, train, args.seed)

    def told(model: ViLBERTForPreTraining) -> dict[str, float]:
        found = judged(model, val, tokeniser)
        print(four(found), flush=True)
        return found

    history = pretrain(
        model, PretrainingBatches(train, tokeniser, recipe(args), seed=args.seed), steps=args.steps,
        seed=args.seed, evaluate=told, evaluate_every=max(1, args.steps // 12), folder=args.folder,
        progress=False)
    scores = four({**judged(model, test, tokeniser), **zero_shot(model, test, tokeniser)})
    print(scores, flush=True)
    settings = {key: getattr(args, key) for key in ("steps", "batch", "lr", "train", "test", "seed")}
    measured = {
        "settings": settings, "parameters": sum(p.numel() for p in model.parameters()), "scores": scores,
        "curve": {**curve(history, max(1, args.steps // 60)),
                  "judged at": history.metric_steps,
                  **{name: [round(v, 4) for v in values] for name, values in history.metrics.items()}},
        "training seconds": round(history.seconds, 1)}
    looks = {"step": history.metric_steps, "pairs": [round(v, 4) for v in history.metrics["pairs"]]}
    save_vilbert(args.checkpoint, model, tokeniser, {"settings": settings, "metrics": scores,
                                                     "pairs in training": looks})
    return measured


Asked = tuple[VQAPairs, Task, VQAPairs, Task, Task, Task]


def asked(args: argparse.Namespace, tokeniser: WordTokeniser) -> Asked:
    """Questions and their rows, to train on and to test on; rows of expressions, to train on and to test
    on."""
    detector, keep = load_detector(), args.regions_in
    questions: list[Any] = []
    referring: list[Task] = []
    for split, count in (("train", args.asked), ("test", 2 * args.test)):
        data = vqa_pairs(count // 2, split)
        seen = task_regions(detector, data, f"questions-{split}", keep)
        questions += [data, question_task(data, seen, tokeniser)]
        said = expressions(count, split)
        seen = task_regions(detector, said, f"referring-{split}", keep)
        referring += [referring_task(said, seen, tokeniser)]
    return (*questions, *referring)  # type: ignore[return-value]


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One arm: pre-trained, judged, fine-tuned twice."""
    train, test, tokeniser = material(args)
    _, learned, data, rows, meant, meant_test = asked(args, tokeniser)
    model = arm(name, tokeniser, train, seed)
    measured: dict[str, Any] = {"seed": seed, "parameters": sum(p.numel() for p in model.parameters())}
    if name != FRESH:
        history = pretrain(model, PretrainingBatches(train, tokeniser, recipe(args), seed=seed),
                           steps=args.steps, seed=seed, progress=False)
        measured["curve"] = curve(history, max(1, args.steps // 20))
        measured["pre-training seconds"] = round(history.seconds, 1)
    scores = {**judged(model, test, tokeniser), **zero_shot(model, test, tokeniser)}
    answering = tuned(name, model, "questions", learned, seed, args)
    scores["questions"] = data.scores(given_answers(answering, rows)).overall
    swapped = rows._replace(pictures=rows.pictures.roll(2 * args.test // 3))
    scores["questions, other picture"] = data.scores(given_answers(answering, swapped)).overall
    finding = tuned(name, model, "referring", meant, seed, args)
    scores["referring"] = referring_score(finding, meant_test)
    return {**measured, "scores": four(scores)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.checkpoint is not None:
        return miniature(args)
    _, _, tokeniser = material(args)
    questions, _, test, _, _, meant = asked(args, tokeniser)
    blind = {name: table.overall for name, table in blind_scores(questions, test).items()}
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:20}  {measured['scores']}", flush=True)
    settings = {key: getattr(args, key) for key in
                ("steps", "batch", "lr", "tune", "tune_lr", "train", "asked", "test")}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "arms": found,
            "blind": {"questions": four(blind),
                      "referring": four(blind_referring(meant))}}
