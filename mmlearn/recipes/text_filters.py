"""Recipe: do ALIGN's rules about texts help? Training before and after they have removed junk, and without any junk.

Paper: C. Jia et al. (2021), *Scaling Up Visual and Vision-Language Representation Learning With Noisy Text
Supervision*, arXiv:2102.05918, sec. 3.  Survey: 4.3.
Differs from the paper: drawn single things; the junk is planted, so that what the rules remove can be counted.
"""

import argparse
from typing import Any

import torch

from mmlearn.recipes import seeds
from mmlearn.text_for_vision.noisy_text import JUNK, TextRules, filter_pairs, noisy_pairs
from mmlearn.text_for_vision.studies import captioned, objects, prompt_tokeniser, train_encoder
from mmlearn.text_for_vision.task import zero_shot_accuracy


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--train", type=int, default=2000, help="training pictures")
    parser.add_argument("--test", type=int, default=600, help="test pictures")
    parser.add_argument("--junk", type=float, default=0.5, help="share of pictures with junk in place of captions")


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    wanted = seeds(args.seeds)
    clean = captioned(objects(args.train, 3, places="any"))
    noisy = noisy_pairs(clean, {kind: args.junk / len(JUNK) for kind in JUNK})
    junk = {text for texts, kind in zip(noisy.data.captions, noisy.kinds) if kind != "clean" for text in texts}
    sets = {"with junk": noisy.data, "after the rules": filter_pairs(noisy.data, TextRules.scenes()), "captions alone":
            clean.rows([i for i, kind in enumerate(noisy.kinds) if kind == "clean"])}
    test = objects(args.test, 1, places="any")
    tokeniser = prompt_tokeniser(clean, noisy.data)
    runs: dict[str, list[float]] = {name: [] for name in sets}
    for seed in wanted:
        for name, data in sets.items():
            model, _ = train_encoder(data, tokeniser, steps=args.steps, seed=seed, batch=args.batch)
            runs[name].append(round(zero_shot_accuracy(model, tokeniser, test), 4))
            print(f"{name:16} {len(data):5} pictures, seed {seed}: {runs[name][-1]:.3f}", flush=True)
    return {"settings": {"steps": args.steps, "batch": args.batch, "lr": 2e-3, "warmup": 50, "size": 32, "junk": args.junk,
                         "train": args.train, "test": args.test, "seeds": wanted},
            "pictures": {name: len(data) for name, data in sets.items()},
            "junk texts": {name: sum(text in junk for texts in data.captions for text in texts) for name, data in sets.items()},
            "texts": {name: sum(map(len, data.captions)) for name, data in sets.items()}, "runs": runs}
