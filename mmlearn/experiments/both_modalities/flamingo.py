"""The miniature Flamingo and what it is made of, removed one thing at a time.

Paper: J.-B. Alayrac et al. (2022), *Flamingo*, arXiv:2204.14198, sec. 3.3 (the ablations).  Survey: 5.3.

Over one frozen language model (``scene-lm``) and one frozen encoder all arms of a seed begin with the same
weights and see the same pages. Told are: the loss of captions with their own picture, with another and with
none; questions answered word for word, beside who does not look and who gives the most frequent answer of a
kind; nonsense words bound in the prompt, over the number of shots, with swapped words, and to things that
nothing was trained on; random shots beside the nearest ones; and what the language model says of text alone,
before and after.
"""

import argparse
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmlearn.both_modalities.few_shot import clip_features, shot_curve
from mmlearn.both_modalities.flamingo import Flamingo
from mmlearn.both_modalities.flamingo_training import (
    answers_by_kind,
    binding_accuracy,
    binding_episodes,
    caption_losses,
    encode_pictures,
    mini_config,
    named_support,
    new_flamingo,
    prior_by_kind,
    save_flamingo,
    scene_batches,
    scene_encoder,
    train_flamingo,
)
from mmlearn.both_modalities.interleaved import look_at_features, question_examples
from mmlearn.both_modalities.language_model import TextBatches, all_examples, copied, judge_lm, load_lm
from mmlearn.data.pairs import ClassPictures, PairData, class_names, class_pictures, scene_pairs
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.files import package_data
from mmlearn.nn.modes import remembered

BASE = "Flamingo"
ARMS = (BASE, "no gates", "pairs only", "all previous pictures", "language model trained")
SHOTS = (0, 1, 2, 4)                            # of each of two words
# things that keep one nonsense word each, for random and nearest shots
NAMED = ("cat", "car", "tree", "house", "boat", "flower", "chair", "balloon")
SETTINGS = ("steps", "batch", "binding", "most", "lr", "scenes", "things", "test", "episodes",
            "questions", "encoder")


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=24, help="pages a step")
    parser.add_argument("--binding", type=int, default=16, help="pages a step that bind words to pictures")
    parser.add_argument("--most", type=int, default=4, help="pictures of a page at most")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--scenes", type=int, default=2000, help="training scenes")
    parser.add_argument("--things", type=int, default=1500, help="training pictures of one thing")
    parser.add_argument("--test", type=int, default=150, help="scenes to judge by")
    parser.add_argument("--episodes", type=int, default=300, help="that bind words, to judge by")
    parser.add_argument("--questions", type=int, default=400, help="to judge by, at most")
    parser.add_argument("--encoder", default="resnet", help="the frozen CLIP of chapter 4: resnet or vit")
    parser.add_argument("--glances", type=int, default=4, help="how often a training is looked at")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--language", type=Path, default=package_data("checkpoints") / "scene-lm.safetensors",
                        help="the frozen language model")
    parser.add_argument("--folder", type=Path, help="where trainings can be gone on with")
    parser.add_argument("--checkpoint", type=Path, help="where the recipe's first seed is written")


class Seen(NamedTuple):
    """Pictures and what the frozen encoder makes of them."""

    data: Any
    features: Tensor


class World(NamedTuple):
    """What all arms share: pictures to train on, pictures to judge by."""

    train: Seen
    things: Seen
    test: Seen
    asked: Seen                                 # one thing each, of classes that were drawn in training
    new: Seen                                   # of classes that no part has seen


@cache
def world(scenes: int, things: int, test: int, encoder: str) -> World:
    vision = scene_encoder(encoder)
    sets: list[PairData | ClassPictures] = [
        scene_pairs(scenes), class_pictures(things, "train"), scene_pairs(test, "val"),
        class_pictures(3 * test, "test"), class_pictures(test, "zero_shot")]
    return World(*(Seen(data, encode_pictures(vision, data.images)) for data in sets))


@remembered
def nearness(scenes: int, things: int, test: int, encoder: str) -> tuple[Tensor, Tensor]:
    """What RICES compares pictures by: those asked for, and those of the support."""
    of = world(scenes, things, test, encoder)
    return clip_features(of.asked.data.images), clip_features(of.things.data.images)


def trained_model(name: str, seed: int, args: argparse.Namespace) -> tuple[Flamingo, Any, list[Any]]:
    """The model of an arm, how it was trained, and its gates over training."""
    saved = load_lm(args.language)
    of = world(args.scenes, args.things, args.test, args.encoder)
    config = mini_config(saved.model, of.train.features.shape[-1], gated=name != "no gates",
                         sees="all" if name == "all previous pictures" else "last")
    model = new_flamingo(config, saved.model, seed,
                         ("language",) if name == "language model trained" else ())
    batches = scene_batches(
        all_examples(of.train.data), look_at_features(of.train.features), of.things.data,
        look_at_features(of.things.features), saved.tokeniser, batch=args.batch, binding=args.binding,
        most=1 if name == "pairs only" else args.most, seed=seed)
    gates: list[Any] = []
    every = max(1, args.steps // 24)

    def keep(step: int, trained: Any) -> None:
        if config.gated and (step == 1 or step % every == 0):
            told = trained.adapter.gates().detach().flatten().tolist()
            gates.append([step, *(round(value, 4) for value in told)])

    look, look_asked = look_at_features(of.test.features), look_at_features(of.asked.features)
    some = binding_episodes(of.asked.data, min(100, args.episodes), shots=max(SHOTS), seed=99)

    def glance(trained: Any) -> dict[str, float]:
        losses = caption_losses(trained, of.test.data, saved.tokeniser, look)
        told = {kind: round(float(loss.mean()), 4) for kind, loss in losses.items()}
        told |= {f"{shots} shots": binding_accuracy(trained, some, saved.tokeniser, look_asked, shots=shots)
                 for shots in (0, 1, 4)}
        print(f"seed {seed}  {name}: {told}", flush=True)
        return told

    folder = args.folder / f"{name.replace(' ', '-')}-{seed}" if args.folder else None
    history = train_flamingo(model, batches, steps=args.steps, lr=args.lr, seed=seed, on_step=keep,
                             folder=folder, progress=False, evaluate=glance,
                             evaluate_every=max(1, args.steps // args.glances))
    return model, history, gates


def judged(model: Flamingo, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """All that is told of a trained model."""
    saved = load_lm(args.language)
    of, words = world(args.scenes, args.things, args.test, args.encoder), saved.tokeniser
    look, look_asked, look_new = (look_at_features(s.features) for s in (of.test, of.asked, of.new))
    questions = question_examples(of.test.data)[: args.questions]
    told: dict[str, Any] = {
        "captions": {name: float(loss.mean()) for name, loss in
                     caption_losses(model, of.test.data, words, look).items()},
        "questions": {"Flamingo": answers_by_kind(model, questions, words, look),
                      "blind": answers_by_kind(model, questions, words, None),
                      "prior": prior_by_kind(question_examples(of.train.data), questions)},
        "number of questions": len(questions)}
    episodes = binding_episodes(of.asked.data, args.episodes, shots=max(SHOTS), seed=seed)
    strange = binding_episodes(of.new.data, args.episodes, shots=max(SHOTS), seed=seed)
    told["binding"] = {"shots": list(SHOTS), "known things": [], "new things": [], "swapped words": []}
    for shots in SHOTS:
        for name, some, seeing, wrong in (("known things", episodes, look_asked, False),
                                          ("new things", strange, look_new, False),
                                          ("swapped words", episodes, look_asked, True)):
            told["binding"][name].append(binding_accuracy(model, some, words, seeing, shots=shots,
                                                          wrong=wrong))
    told["nearest"] = nearest(model, args, words)
    with_text = TextBatches(all_examples(of.test.data), words, 64, context=128, binding=0.0)
    told["text"] = {"before": judge_lm(saved.model, with_text)["loss"],
                    "after": judge_lm(model.language, with_text)["loss"],
                    "copied before": copied(saved.model, words, class_names()),
                    "copied after": copied(model.language, words, class_names())}
    return told


def nearest(model: Flamingo, args: argparse.Namespace, words: Any) -> dict[str, Any]:
    """Eight things have a word each, which only shots tell: shots at random, and the nearest ones."""
    of = world(args.scenes, args.things, args.test, args.encoder)
    near_asked, near_things = nearness(args.scenes, args.things, args.test, args.encoder)
    each = min(10, *(int((of.things.data.labels == of.things.data.classes.index(name)).sum())
                     for name in NAMED))
    support = named_support(of.things.data, NAMED, each)
    few = min(10, *(int((of.asked.data.labels == of.asked.data.classes.index(name)).sum())
                    for name in NAMED))
    queries = named_support(of.asked.data, NAMED, few)
    # the shots' pictures and the query's come from different sets: their features stand one behind the other
    count = len(of.things.features)
    queries = [query._replace(picture=query.picture + count) for query in queries]
    both = torch.cat([of.things.features, of.asked.features])
    near = (near_asked[[query.picture - count for query in queries]],
            near_things[[example.picture for example in support]])
    shots = [k for k in (1, 2, 4, 8) if k <= len(support)]
    curve = shot_curve(model, queries, support, list(dict.fromkeys(e.answer for e in support)), words,
                       look_at_features(both), shots=shots, near=near, arms=("random", "RICES"))
    return {"shots": shots, "queries": len(queries), "candidates": len(NAMED), **curve}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training, judged at its end."""
    model, history, gates = trained_model(name, seed, args)
    told = rounded(judged(model, args, seed))
    every = max(1, args.steps // 60)
    curve = {"step": history.steps[every - 1 :: every],
             "glances": {"step": history.metric_steps, **history.metrics},
             **{part: [round(sum(values[i - every : i]) / every, 4)
                       for i in range(every, len(values) + 1, every)]
                for part, values in (("loss", history.loss), *history.scalars.items())}}
    if args.checkpoint and name == BASE and seed == 0:
        save_flamingo(args.checkpoint, model.adapter, args.encoder, {
            "settings": {key: getattr(args, key) for key in SETTINGS}, "metrics": told},
            args.language.stem)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"seed": seed, "scores": told, "curve": curve, "gates": gates, "trained": trained,
            "train seconds": round(history.seconds, 1)}


LOWER = ("loss, own picture", "text loss after")       # of the numbers of ``summary`` the better are small


def summary(scores: dict[str, Any]) -> dict[str, float]:
    """The numbers of a run by which arms are compared."""
    captions, binding = scores["captions"], scores["binding"]
    return {"loss, own picture": captions["own"],
            "other less own picture": captions["other"] - captions["own"],
            "questions right": scores["questions"]["Flamingo"]["all"],
            **{f"bindings, {k} shots": right for k, right in zip(binding["shots"], binding["known things"])},
            "bindings, new things": binding["new things"][-1],
            "text loss after": scores["text"]["after"]}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in args.arms]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in args.arms}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        scores = measured["scores"]
        print(f"seed {seed}  {name:24}  captions {scores['captions']}  binding {scores['binding']}  "
              f"questions {scores['questions']['Flamingo']['all']}  {measured['train seconds']} s",
              flush=True)
    settings = {key: getattr(args, key) for key in SETTINGS}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "arms": found}
