"""The book's word space: what a skip-gram reads of words and a network sees of them, to be weighed on a page.

Paper: see ``mmlearn.images_for_language.word_space``.  Survey: 3.3.

Judged are the vectors as they are stored, in 16 bits, at five weights of the text. What is written opens by
``mmlearn.images_for_language.word_space.load_word_space``.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from mmlearn.data import word_world
from mmlearn.experiments.images_for_language.sequential_fusion import scores
from mmlearn.files import package_data
from mmlearn.images_for_language.sequential_fusion import Blocks, FusedSpace
from mmlearn.images_for_language.word_space import FILE, load_word_space, make_word_space, save_word_space
from mmlearn.pretrained.feature_networks import open_network

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sentences", type=int, default=60_000)
    parser.add_argument("--pictures", type=int, default=20, help="of each noun")
    parser.add_argument("--dim", type=int, default=50, help="of the skip-gram")
    parser.add_argument("--pairs", type=int, default=2000, help="of each set of similarities")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="where the vectors go (default: data/checkpoints)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    sentences = word_world.sentences(args.sentences, seed=args.seed)
    pictures = {word: word_world.word_pictures(word, args.pictures) for word in word_world.PICTURED}
    space, words = make_word_space(sentences, pictures, open_network(), args.dim, args.seed)
    settings = {key: getattr(args, key) for key in ("sentences", "pictures", "dim", "seed")}
    path = args.checkpoint or package_data("checkpoints") / FILE
    save_word_space(path, space, words, {"settings": settings})
    kept = load_word_space(path)
    nouns = torch.tensor([kept.words.index(word) for word in word_world.NOUNS])
    judged = FusedSpace(Blocks(*(block[nouns] for block in kept.blocks)))
    rho = {share: scores(judged.with_share(share).cosines, args.pairs) for share in SHARES}
    print(rho, flush=True)
    return {"settings": {**settings, "pairs": args.pairs}, "rho over the weight of the text": rho}
