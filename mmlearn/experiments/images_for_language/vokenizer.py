"""The miniature vokenizer: a matcher of scene captions over a small BERT and the classifier of scenes.

Paper: H. Tan and M. Bansal (2020), *Vokenization*, EMNLP, arXiv:2010.06775, sec. 3.  Survey: 3.5.1.

BERT reads the captions first, for hidden words; then it is frozen, and so is the CNN. What is written opens
by ``mmlearn.images_for_language.voken_training.load_vokenizer``.
"""

import argparse
from pathlib import Path
from typing import Any

from mmlearn.data.pairs import scene_pairs
from mmlearn.experiments.images_for_language.vokens import caption_matcher, judged
from mmlearn.files import package_data
from mmlearn.images_for_language.voken_training import save_matcher

FILE = "vokenizer.safetensors"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text-steps", type=int, default=4000, help="of BERT, before it is frozen")
    parser.add_argument("--match-steps", type=int, default=6000)
    parser.add_argument("--match-batch", type=int, default=256)
    parser.add_argument("--match-lr", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3, help="of BERT")
    parser.add_argument("--scenes", type=int, default=8000, help="training scenes")
    parser.add_argument("--test", type=int, default=500, help="test scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="where the weights go (default: data/checkpoints)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    matcher, words = caption_matcher(args.seed, args)
    scores = {key: round(value, 4) for key, value in
              judged(matcher, words, scene_pairs(args.test, "test")).items()}
    print(scores, flush=True)
    settings = {key: getattr(args, key) for key in (
        "text_steps", "match_steps", "match_batch", "match_lr", "batch", "lr", "scenes", "test", "seed")}
    path = args.checkpoint or package_data("checkpoints") / FILE
    save_matcher(path, matcher, words.tokeniser, {"settings": settings, "metrics": scores})
    return {"settings": settings, "scores": scores}
