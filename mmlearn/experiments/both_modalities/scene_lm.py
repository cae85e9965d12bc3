"""The miniature's language model: trained on what is said of scenes, and on pages that bind words to things.

Papers: J.-B. Alayrac et al. (2022), *Flamingo*, arXiv:2204.14198, sec. 2.2 (the language model comes first);
A. Radford et al. (2019), *Language Models are Unsupervised Multitask Learners*.  Survey: 5.3.

Told are the loss in nats a token on scenes that were not trained on, beside that of who knows how often each
word occurs; and, on fresh pages that bind nonsense words to things, the share of words said again where
their thing is named again. What is written opens by ``mmlearn.both_modalities.language_model.load_lm``.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmlearn.both_modalities.language_model import (
    TextBatches,
    all_examples,
    copied,
    judge_lm,
    lm_tokeniser,
    save_lm,
    train_lm,
    unigram_loss,
)
from mmlearn.data.pairs import class_names, scene_pairs
from mmlearn.data.scenes.graph import COLOURS
from mmlearn.files import package_data
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.modes import seeded

FILE = "scene-lm.safetensors"
THINGS = (*class_names(unseen=True), *COLOURS)      # what pages bind words to
WAYS = (2, 3, 4)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=32, help="pages a step")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--binding", type=float, default=0.5, help="share of pages that bind words")
    parser.add_argument("--repeated", type=float, default=0.0, help="share of pages of repeated random words")
    parser.add_argument("--scenes", type=int, default=4000, help="training scenes")
    parser.add_argument("--test", type=int, default=400, help="scenes to judge by")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--context", type=int, default=128, help="tokens of a page in training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=500, help="steps between two looks")
    parser.add_argument("--folder", type=Path, help="where training can be gone on with")
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    train, test = scene_pairs(args.scenes), scene_pairs(args.test, "val")
    of = lm_tokeniser(train, things=THINGS)
    config = CausalLMConfig(len(of), args.context, args.width, args.layers, 4, 4 * args.width, "rotary",
                            "gelu")
    with seeded(args.seed):
        model = CausalLM(config)
    held = TextBatches(all_examples(test), of, 64, context=args.context, binding=0.0, seed=args.seed)

    def judge(lm: CausalLM) -> Mapping[str, float]:
        scores = {"copied, 2 ways": copied(lm, of, THINGS, ways=2),
                  "copied, 4 ways": copied(lm, of, THINGS, ways=4), **judge_lm(lm, held)}
        print({key: round(value, 4) for key, value in scores.items()}, flush=True)
        return scores

    history = train_lm(model, all_examples(train), of, steps=args.steps, batch=args.batch, lr=args.lr,
                       binding=args.binding, things=THINGS, ways=WAYS, repeated=args.repeated, seed=args.seed,
                       evaluate=judge,
                       evaluate_every=args.every, folder=args.folder, save_every=args.every,
                       progress=False, title="scene-lm")
    names = ("steps", "batch", "lr", "binding", "repeated", "scenes", "test", "layers", "width", "context",
             "seed")
    settings = {key: getattr(args, key) for key in names}
    scores = {key: round(value, 4) for key, value in judge(model).items()}
    scores |= {"unigram": round(unigram_loss(held), 4), "words": len(of),
               "parameters": sum(p.numel() for p in model.parameters())}
    print(scores, flush=True)
    path = args.checkpoint or package_data("checkpoints") / FILE
    save_lm(path, model, of, {"settings": settings, "metrics": scores})
    thin = max(1, args.steps // 100)
    return {"settings": settings, "scores": scores,
            "curve": {"step": history.steps[thin - 1 :: thin], "loss": history.loss[thin - 1 :: thin],
                      "judged": {"step": history.metric_steps, **history.metrics}}}
