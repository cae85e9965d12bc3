"""What the models of the chapter can do: one table of tasks, each number beside what needs no picture.

Papers: Y. Goyal et al. (2017), *Making the V in VQA Matter*, arXiv:1612.00837; R. Zellers et al. (2019),
*From Recognition to Cognition*, arXiv:1811.10830; L. Yu et al. (2016), arXiv:1608.00272 (RefCOCO+).
Survey: 5.

A system is a row. Every seed has its own training questions, the test is the same for all: balanced pairs
of questions, problems of visual commonsense, expressions, the first captions of drawn scenes. Rows can be
run one by one (``--systems``) and put together (``--merge``). Numbers are shares, but CIDEr-D. Rows of
trained models need their files: without one the row is left out with a note.

Referring expressions choose one of the detector's regions, right where its IoU is above 0.5, as in ViLBERT.
"""

import argparse
import importlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.both_modalities.attention_captioner import (
    AttentionCaptionerConfig,
    RecurrentAttentionCaptioner,
    soft_attention_loss,
    write_captions,
)
from mmlearn.both_modalities.region_answerer import RegionAnswerer, RegionAnswererConfig
from mmlearn.both_modalities.vilbert_heads import (
    answer_loss,
    choice_loss,
    overlaps,
    referring_accuracy,
    referring_loss,
    referring_targets,
)
from mmlearn.data.expressions import ExpressionSet, expressions
from mmlearn.data.pairs import pixels
from mmlearn.data.question_programs import KINDS, Program
from mmlearn.data.questions import ANSWERS, BLIND, VQAPairs, vqa_pairs
from mmlearn.data.rationales import VCRSet, shortcuts, vcr_problems, with_names
from mmlearn.data.scenes.categories import CATEGORY
from mmlearn.data.scenes.language import HYPERNYMS, NUMBERS, PLACE_PHRASES, article
from mmlearn.data.tokenisers import WordTokeniser
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.files import read_json
from mmlearn.image2text.regions import Regions, load_detector, region_features
from mmlearn.image2text.training import CaptionBatches, CaptionData, scene_data, score_captions
from mmlearn.metrics.retrieval import recall_at_k, retrieval_ranks
from mmlearn.metrics.vcr import CHANCE, choose
from mmlearn.metrics.vqa import soft_targets
from mmlearn.nn.modes import eval_mode, seeded
from mmlearn.text_for_vision.training import embed_images, embed_texts, load_mini
from mmlearn.train import fit

FEW = 400                               # training scenes that the one caption for all is chosen by
PLACE = 5                               # last numbers of a region: its corners and its area
Scores = dict[str, float]


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=3)
    parser.add_argument("--systems", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW",
                        help=f"the rows to run, in quotation marks; all are {', '.join(ROWS)}")
    parser.add_argument("--merge", type=Path, nargs="*", default=[], metavar="FILE",
                        help="earlier results of other rows with the same settings")
    parser.add_argument("--vilbert", type=Path, help="the pre-trained miniature of ViLBERT")
    parser.add_argument("--flamingo", type=Path, help="the trained miniature of Flamingo")
    parser.add_argument("--walker", type=Path, help="the results of the study of walks")
    parser.add_argument("--train", type=int, default=3000, help="pairs of questions, problems, expressions")
    parser.add_argument("--test", type=int, default=500, help="the same, to test on")
    parser.add_argument("--captioned", type=int, default=4000, help="scenes for the captioner")
    parser.add_argument("--pictures", type=int, default=200, help="scenes to caption and to retrieve")
    parser.add_argument("--steps", type=int, default=2000,
                        help="of the small network; half as many where four texts are read a question")
    parser.add_argument("--caption-steps", type=int, default=2000)
    parser.add_argument("--shots", type=int, default=4)


# ------------------------------------------------------------------------------------------------------- data

class Split(NamedTuple):
    """The questions, problems and expressions of a split."""

    vqa: VQAPairs
    vcr: VCRSet
    expressions: ExpressionSet


@lru_cache(maxsize=3)
def tasks(count: int, split: str, seed: int) -> Split:
    """``count`` balanced pairs, problems and expressions, over half as many scenes."""
    scenes = max(100, count // 2)
    return Split(vqa_pairs(count, split, seed=seed, scenes=scenes),
                 vcr_problems(max(30, count), split, seed=seed, scenes=scenes),
                 expressions(count, split, seed=seed))


@lru_cache(maxsize=3)
def captioned(count: int, split: str, seed: int) -> CaptionData:
    """Scenes with their captions."""
    return scene_data(count, split, seed=seed)


@lru_cache(maxsize=6)
def regions(part: str, count: int, split: str, seed: int) -> Regions:
    """What the detector sees in the pictures of "vqa", "vcr" or "expressions"."""
    return region_features(load_detector(), getattr(tasks(count, split, seed), part).images())


def region_overlaps(data: ExpressionSet, seen: Regions) -> Float[Tensor, "n p"]:
    """The IoU of each region with what an expression means; 0 for the whole picture and for none."""
    which = torch.tensor([one.scene for one in data.expressions])
    truth = torch.stack([data.boxes(one.scene)[one.target] for one in data.expressions])
    things = seen.mask.clone()
    things[:, 0] = False
    return overlaps(seen.features[which, :, -PLACE:], truth).masked_fill(~things[which], 0.0)


def referring_of(data: ExpressionSet, seen: Regions, logits: Float[Tensor, "n p"]) -> float:
    """Accuracy of choosing the region of the largest logit."""
    which = torch.tensor([one.scene for one in data.expressions])
    mask = seen.mask[which].clone()
    mask[:, 0] = False
    return referring_accuracy(logits, region_overlaps(data, seen), mask)


def question_scores(data: VQAPairs, answers: Sequence[str]) -> Scores:
    """The official accuracy, by type of answer, and the share of pairs with both answers right."""
    scores = data.scores(answers)
    right = [q.answer == a for q, a in zip(data.questions, answers)]
    return {"VQA": scores.overall, **{f"VQA {kind}": v for kind, v in sorted(scores.by_answer_type.items())},
            "VQA both of a pair": sum(a and b for a, b in zip(right[::2], right[1::2])) / (len(right) // 2)}


def choice_scores(data: VCRSet, answers: Sequence[int], reasons: Sequence[int]) -> Scores:
    """The three accuracies of visual commonsense reasoning."""
    return {f"VCR {name}": value for name, value in data.scores(answers, reasons).table().items()}


# ----------------------------------------------------------------------------------------- without a network

def prior(seed: int, args: argparse.Namespace) -> Scores:
    """Nothing is seen, and of a question its first words: the most usual answer, a guess, the caption that
    fits best to some training scenes."""
    train, test = tasks(args.train, "train", seed), tasks(args.test, "test", 0)
    seen = regions("expressions", args.test, "test", 0)
    hit = region_overlaps(test.expressions, seen) > 0.5
    which = torch.tensor([one.scene for one in test.expressions.expressions])
    any_thing = hit.sum(1) / (seen.mask[which].sum(1) - 1).clamp(min=1)
    known, pictures = captioned(args.captioned, "train", seed), captioned(args.pictures, "test", 0)
    known = known.rows(range(min(FEW, len(known))))
    some = [texts[0] for texts in known.captions[:30]]
    best = max(some, key=lambda text: known.cider_d.score([text.split()] * len(known)).corpus)
    said = score_captions([best] * len(pictures), pictures, full=False)
    return {**question_scores(test.vqa, BLIND["prior of the question type"](train.vqa, test.vqa)),
            **{f"VCR {name}": share for name, share in CHANCE.items()},
            "referring": float(any_thing.double().mean()), "retrieval R@1": 1 / len(pictures),
            "captions CIDEr-D": said["CIDEr-D"]}


def question_only(seed: int, args: argparse.Namespace) -> Scores:
    """The most usual answer to the same question; the choice that was often right in training."""
    train, test = tasks(args.train, "train", seed), tasks(args.test, "test", 0)
    chosen = shortcuts(train.vcr, test.vcr)["choices only"].table()
    return {**question_scores(test.vqa, BLIND["question only"](train.vqa, test.vqa)),
            **{f"VCR {name}": value for name, value in chosen.items()}}


def picture_only(seed: int, args: argparse.Namespace) -> Scores:
    """The most usual answer about scenes like this one, of which all is known; the largest region."""
    train, test = tasks(args.train, "train", seed), tasks(args.test, "test", 0)
    seen = regions("expressions", args.test, "test", 0)
    which = torch.tensor([one.scene for one in test.expressions.expressions])
    return {**question_scores(test.vqa, BLIND["image only"](train.vqa, test.vqa)),
            "referring": referring_of(test.expressions, seen, seen.features[which, :, -1])}


# ------------------------------------------------------------------------------------------ the small network

def four_texts(data: VCRSet, reasons: bool) -> list[str]:
    """Question and choice as one text, with names for tags; four texts a problem."""
    texts = []
    for one in data.problems:
        scene = data.scenes[one.scene]
        asked = with_names(one.question, scene)
        if reasons:
            asked += " " + with_names(one.answers[one.answer], scene)
        texts += [f"{asked} {with_names(choice, scene)}"
                  for choice in (one.rationales if reasons else one.answers)]
    return texts


class Rows:
    """Batches of numbers below ``count``, a function of seed and number of the batch."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.count, self.size, self.seed = count, min(size, count), seed

    def __call__(self, number: int) -> Int[Tensor, " b"]:
        dice = torch.Generator().manual_seed(1_000_003 * self.seed + number)
        return torch.randint(self.count, (self.size,), generator=dice)


def taught(tokeniser: WordTokeniser, step: Callable[..., Tensor], count: int, seed: int,
           args: argparse.Namespace, *, texts: int = 1, **options: Any) -> RegionAnswerer:
    """A network of the seed, trained by ``step(model, rows)``; of several texts a row fewer rows."""
    with seeded(seed):
        model = RegionAnswerer(RegionAnswererConfig(len(tokeniser), len(ANSWERS), **options))
    size, steps = (64, args.steps) if texts == 1 else (32, max(1, args.steps // 2))
    fit(model, step, Rows(count, size, seed), steps=steps, lr=2e-3, seed=seed, progress=False)
    return model


def network(seed: int, args: argparse.Namespace, *, looks: bool = True, reads: bool = True) -> Scores:
    """The answerer of ``region_answerer``, trained from nothing for each task."""
    train, test = tasks(args.train, "train", seed), tasks(args.test, "test", 0)
    options = {"looks": looks, "reads": reads}
    found = _network_vqa(train.vqa, test.vqa, seed, args, options)
    if looks and reads:
        found |= _network_referring(train.expressions, test.expressions, seed, args)
    if reads:
        right = [_network_choices(train.vcr, test.vcr, seed, args, options, reasons)
                 for reasons in (False, True)]
        found |= choice_scores(test.vcr, *right)
    return found


def _network_vqa(train: VQAPairs, test: VQAPairs, seed: int, args: argparse.Namespace,
                 options: dict[str, bool]) -> Scores:
    tokeniser = WordTokeniser.train([q.text for q in train.questions])
    seen = regions("vqa", args.train, "train", seed), regions("vqa", args.test, "test", 0)
    tokens = [tokeniser.batch([q.text for q in part.questions]) for part in (train, test)]
    which = [torch.tensor([q.scene for q in part.questions]) for part in (train, test)]
    targets = soft_targets([q.answers for q in train.questions], ANSWERS)

    def step(model: RegionAnswerer, rows: Tensor) -> Tensor:
        scene = which[0][rows]
        said = model(tokens[0][rows], seen[0].features[scene], seen[0].mask[scene])
        return answer_loss(said.answers, targets[rows])

    model = taught(tokeniser, step, len(train), seed, args, **options)
    with torch.no_grad(), eval_mode(model):
        logits = model(tokens[1], seen[1].features[which[1]], seen[1].mask[which[1]]).answers
    return question_scores(test, [ANSWERS[i] for i in logits.argmax(dim=1).tolist()])


def _network_choices(train: VCRSet, test: VCRSet, seed: int, args: argparse.Namespace,
                     options: dict[str, bool], reasons: bool) -> list[int]:
    tokeniser = WordTokeniser.train(four_texts(train, reasons))
    seen = regions("vcr", args.train, "train", seed), regions("vcr", args.test, "test", 0)
    tokens = [tokeniser.batch(four_texts(part, reasons)).unflatten(0, (-1, 4)) for part in (train, test)]
    which = [torch.tensor([one.scene for one in part.problems]) for part in (train, test)]
    right = torch.tensor([one.rationale if reasons else one.answer for one in train.problems])

    def logits(model: RegionAnswerer, part: int, rows: Tensor) -> Tensor:
        scene = which[part][rows].repeat_interleave(4)
        return model(tokens[part][rows].flatten(0, 1), seen[part].features[scene],
                     seen[part].mask[scene]).choice.view(-1, 4)

    model = taught(tokeniser, lambda model, rows: choice_loss(logits(model, 0, rows), right[rows]),
                   len(train), seed, args, texts=4, **options)
    with torch.no_grad(), eval_mode(model):
        return choose(logits(model, 1, torch.arange(len(test)))).tolist()


def _network_referring(train: ExpressionSet, test: ExpressionSet, seed: int,
                       args: argparse.Namespace) -> Scores:
    tokeniser = WordTokeniser.train([one.text for one in train.expressions])
    seen = regions("expressions", args.train, "train", seed), regions("expressions", args.test, "test", 0)
    tokens = [tokeniser.batch([one.text for one in part.expressions]) for part in (train, test)]
    which = [torch.tensor([one.scene for one in part.expressions]) for part in (train, test)]
    iou = region_overlaps(train, seen[0])

    def step(model: RegionAnswerer, rows: Tensor) -> Tensor:
        scene = which[0][rows]
        said = model(tokens[0][rows], seen[0].features[scene], seen[0].mask[scene])
        return referring_loss(said.regions, referring_targets(iou[rows]), seen[0].mask[scene])

    model = taught(tokeniser, step, len(train), seed, args)
    with torch.no_grad(), eval_mode(model):
        logits = model(tokens[1], seen[1].features[which[1]], seen[1].mask[which[1]]).regions
    return {"referring": referring_of(test, seen[1], logits)}


# ------------------------------------------------------------------------------------------- CLIP, zero-shot

def statement(program: Program, answer: str) -> str:
    """What is said of a picture if this is the answer to that question, as a caption might have it."""
    one, *more = (*program.arguments, "")
    match program.kind:
        case "exist":
            return f"a picture {'with' if answer == 'yes' else 'without'} {article(one)} {one}"
        case "colour is":
            return f"a {one} that is {'' if answer == 'yes' else 'not '}{more[0]}"
        case "relation":
            return f"a {one} that is {'' if answer == 'yes' else 'not '}{more[0]} a {more[1]}"
        case "compare":
            first, second = (CATEGORY[name].plural for name in (one, more[0]))
            return f"more {first} than {second}" if answer == "yes" else f"not more {first} than {second}"
        case "count" | "count kind":
            number = NUMBERS[int(answer)] if int(answer) else "no"
            several = CATEGORY[one].plural if program.kind == "count" else HYPERNYMS[one][1]
            single = one if program.kind == "count" else HYPERNYMS[one][0]
            return f"{number} {single if answer == '1' else several}"
        case "setting":
            return f"a picture {PLACE_PHRASES[answer][0]}"
    return f"a {answer} {one}"


def allowed(program: Program, usual: dict[str, set[str]]) -> list[str]:
    """The answers that a question of this kind may have."""
    return [answer for answer in ANSWERS if answer in usual[program.kind]]


def crops(images: Tensor, seen: Regions, side: int) -> Float[Tensor, "m 3 s s"]:
    """The regions of all pictures, cut out and brought to one size, row by row."""
    cut = []
    for image, boxes, mask in zip(pixels(images), seen.boxes, seen.mask):
        for x0, y0, x1, y1 in boxes[mask].round().int().tolist():
            part = image[:, y0:max(y1, y0 + 2), x0:max(x1, x0 + 2)][None]
            cut.append(F.interpolate(part, (side, side), mode="bilinear")[0])
    return torch.stack(cut)


def clip(seed: int, args: argparse.Namespace) -> Scores:
    """Chapter 4's miniature, trained on pairs of pictures and captions and on no task."""
    mini, test = load_mini(), tasks(args.test, "test", 0)
    read = partial(embed_texts, mini.model, mini.tokeniser)
    usual: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for asked in tasks(args.train, "train", seed).vqa.questions:
        usual[asked.program.kind].add(asked.answer)
    pictures = embed_images(mini.model, test.vqa.images())
    answers = []
    for asked in test.vqa.questions:
        possible = allowed(asked.program, usual)
        fits = read([statement(asked.program, one) for one in possible]) @ pictures[asked.scene]
        answers.append(possible[int(fits.argmax())])
    found = question_scores(test.vqa, answers)
    pictures, which = embed_images(mini.model, test.vcr.images()), [p.scene for p in test.vcr.problems]
    right = [(read(four_texts(test.vcr, reasons)).unflatten(0, (-1, 4))
              @ pictures[which][..., None])[..., 0].argmax(1).tolist() for reasons in (False, True)]
    found |= choice_scores(test.vcr, *right)
    found["referring"] = _clip_referring(mini, test.expressions, args)
    shown = captioned(args.pictures, "test", 0)
    images = embed_images(mini.model, shown.inputs.values)  # type: ignore[attr-defined]
    ranks = retrieval_ranks(images, read([texts[0] for texts in shown.captions]))
    found["retrieval R@1"] = recall_at_k(ranks.text_to_image, 1)
    return found


def _clip_referring(mini: Any, data: ExpressionSet, args: argparse.Namespace) -> float:
    seen = regions("expressions", args.test, "test", 0)
    images = data.images()
    with torch.no_grad(), eval_mode(mini.model):
        cut = crops(images, seen, images.shape[-1])
        rows = torch.cat([mini.model.encode_image(part, normalise=True) for part in cut.split(250)])
    vectors = rows.new_zeros(*seen.mask.shape, rows.shape[1])
    vectors[seen.mask] = rows
    texts = embed_texts(mini.model, mini.tokeniser, [one.text for one in data.expressions])
    which = torch.tensor([one.scene for one in data.expressions])
    return referring_of(data, seen, (vectors[which] @ texts[..., None])[..., 0])


# ------------------------------------------------------------------------------------------- trained models

def captioner(seed: int, args: argparse.Namespace) -> Scores:
    """The recurrent attention captioner, trained from pixels."""
    train, test = captioned(args.captioned, "train", seed), captioned(args.pictures, "test", 0)
    tokeniser = WordTokeniser.train([text for texts in train.captions for text in texts])
    with seeded(seed):
        model = RecurrentAttentionCaptioner(AttentionCaptionerConfig.mini(len(tokeniser)))
    fit(model, soft_attention_loss, CaptionBatches(train, tokeniser, seed=seed), seed=seed,
        steps=args.caption_steps, lr=1e-3, progress=False)
    inputs, _ = test.inputs.rows(range(len(test)))
    said = score_captions(write_captions(model, inputs, tokeniser, beam_size=3), test, full=False)
    return {"captions CIDEr-D": said["CIDEr-D"]}


def vilbert(seed: int, args: argparse.Namespace) -> Scores:
    """The pre-trained miniature, fine-tuned for each task as in its own study."""
    tuning = importlib.import_module("mmlearn.both_modalities.vilbert_fine_tuning")
    training = importlib.import_module("mmlearn.both_modalities.vilbert_training")
    heads = importlib.import_module("mmlearn.both_modalities.vilbert_heads")
    saved = training.load_vilbert(args.vilbert)
    model, tokeniser, detector = saved[0], saved[1], load_detector()
    train, test = tasks(args.train, "train", seed), tasks(args.test, "test", 0)

    def begin() -> Any:
        with seeded(seed):
            return heads.for_tasks(model, len(ANSWERS))

    def seen(part: str, data: Split) -> Any:
        return tuning.task_regions(detector, getattr(data, part), part)

    fresh = begin()
    parts = [tuning.question_task(data.vqa, seen("vqa", data), tokeniser) for data in (train, test)]
    tuning.tune_task(fresh, "questions", parts[0], steps=args.steps, seed=seed, progress=False)
    found = question_scores(test.vqa, tuning.given_answers(fresh, parts[1]))
    fresh = begin()
    parts = [tuning.referring_task(data.expressions, seen("expressions", data), tokeniser)
             for data in (train, test)]
    tuning.tune_task(fresh, "referring", parts[0], steps=args.steps, seed=seed, progress=False)
    found["referring"] = tuning.referring_score(fresh, parts[1])
    right = []
    for reasons in (False, True):
        fresh = begin()
        parts = [tuning.choice_task(data.vcr, seen("vcr", data), tokeniser, reasons)
                 for data in (train, test)]
        tuning.fine_tune(fresh, partial(tuning.choice_step, parts[0]), len(parts[0].right),
                         steps=args.steps, batch=16, seed=seed, progress=False)
        right.append(tuning.chosen_texts(fresh, parts[1]).tolist())
    return found | choice_scores(test.vcr, *right)


def flamingo(seed: int, args: argparse.Namespace, blind: bool = False) -> Scores:
    """The miniature with shots drawn by the seed, on the balanced questions; ``blind`` takes all pictures
    away."""
    few = importlib.import_module("mmlearn.both_modalities.few_shot")
    pages = importlib.import_module("mmlearn.both_modalities.interleaved")
    training = importlib.import_module("mmlearn.both_modalities.flamingo_training")
    saved = training.load_flamingo(args.flamingo)
    train, test = tasks(args.train, "train", seed).vqa, tasks(args.test, "test", 0).vqa
    features = training.encode_pictures(saved.encoder, torch.cat([test.images(), train.images()]))

    def examples(data: VQAPairs, first: int) -> list[Any]:
        return [pages.Example(f"Question: {q.text} Answer:", q.answer, first + q.scene, q.program.kind)
                for q in data.questions]

    queries, support = examples(test, 0), examples(train, len(test.scenes))
    by_kind = {kind: [one for one in support if one.kind == kind] for kind in KINDS}
    usual = {kind: sorted({one.answer for one in queries + support if one.kind == kind}) for kind in KINDS}
    answers: dict[int, str] = {}
    for kind, pool in by_kind.items():
        mine = [i for i, one in enumerate(queries) if one.kind == kind]
        if not mine or len(pool) < args.shots:
            continue
        rows = few.random_shots(len(pool), len(mine), args.shots, torch.Generator().manual_seed(seed))
        episodes = few.with_shots([queries[i] for i in mine], pool, rows)
        episodes = [few.blind(one) if blind else one for one in episodes]
        judged = few.score_answers(saved.model, episodes, usual[kind], saved.tokeniser,
                                   pages.look_at_features(features))
        answers |= {i: usual[kind][int(best)] for i, best in zip(mine, judged.chosen)}
    return question_scores(test, [answers.get(i, "yes") for i in range(len(queries))])


def walker(seed: int, args: argparse.Namespace, arm: str = "seeing") -> Scores:
    """The walker of an arm and a seed in houses that it has never seen, from its own study."""
    runs = read_json(args.walker)["arms"][arm]
    found = next((one for one in runs if one["seed"] == seed), None)
    if found is None:
        raise ValueError(f"{args.walker} has no walker {arm!r} with seed {seed}; run its study with as many "
                         f"seeds")
    return {f"walks {name}": found["unseen"][name] for name in ("success", "spl")}


ROWS: dict[str, tuple[Callable[..., Scores], str]] = {      # row: how it is found, the file that it needs
    "prior": (prior, ""), "question only": (question_only, ""), "picture only": (picture_only, ""),
    "network without picture": (partial(network, looks=False), ""),
    "network without question": (partial(network, reads=False), ""),
    "network": (network, ""), "CLIP zero-shot": (clip, ""), "attention captioner": (captioner, ""),
    "ViLBERT fine-tuned": (vilbert, "vilbert"), "Flamingo few-shot": (flamingo, "flamingo"),
    "Flamingo few-shot blind": (partial(flamingo, blind=True), "flamingo"),
    "walker without words": (partial(walker, arm="word-blind"), "walker"),
    "walker without pictures": (partial(walker, arm="picture-blind"), "walker"),
    "walker": (walker, "walker"),
}
SETTINGS = ("train", "test", "captioned", "pictures", "steps", "caption_steps", "shots")


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One row with one seed."""
    return {"seed": seed, "scores": ROWS[name][0](seed, args)}


def chosen_rows(args: argparse.Namespace) -> list[str]:
    """The rows to run: those asked for, in the order of the table, whose files are there."""
    kept = []
    for name in (row for row in ROWS if row in args.systems):
        needs = ROWS[name][1]
        path = getattr(args, needs) if needs else None
        if needs and (path is None or not path.exists()):
            print(f"{name}: left out, since --{needs} {'is not given' if path is None else 'is not there'}",
                  flush=True)
        else:
            kept.append(name)
    return kept


def merged(arms: dict[str, Any], settings: dict[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Rows of earlier results beside new ones, which replace those of the same name, in the order of the
    table. Raises ``ValueError`` for a file with other settings."""
    for path in files:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier["settings"] != settings:
            raise ValueError(f"{path} has the settings {earlier['settings']}, this run {settings}; rows of "
                             f"one table need the same")
        arms = {**earlier["arms"], **arms}
    return {name: arms[name] for name in ROWS if name in arms}


def run(args: argparse.Namespace) -> dict[str, Any]:
    names = chosen_rows(args)
    settings = {**{key: getattr(args, key) for key in SETTINGS}, "seeds": seeds(args.seeds)}
    merged({}, settings, args.merge)                                    # refuse before the work
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in names]
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        told = "  ".join(f"{key} {value:.3f}" for key, value in measured["scores"].items())
        print(f"seed {seed}  {name:27} {told}", flush=True)
    return {"settings": settings, "arms": merged(found, settings, args.merge)}
