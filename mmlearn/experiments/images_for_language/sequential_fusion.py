"""What pictures add to vectors of words by counting: text alone, pictures alone, mixed, fused, tuned; and
what a network's features, their mean or maximum, and pictures of the wrong words do.

Papers: E. Bruni, N.-K. Tran and M. Baroni (2014), *Multimodal Distributional Semantics*, JAIR 49; D. Kiela
and L. Bottou (2014), EMNLP; G. Collell et al. (2017), AAAI.  Survey: 3.3.

All arms of a seed have the same sentences and the same pictures; the seed changes both, the visual words and
the skip-gram. Judged is Spearman's rho with known similarities of nouns: "relatedness", "visual" and "mixed"
of nouns that have pictures, and "unseen", mixed similarities of pairs in which a noun has none. What is tuned
is tuned on other pairs of "mixed". The pictures of a shuffled arm are those of another noun.
"""

import argparse
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from mmlearn.data import word_world
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.images_for_language.counts import weigh, window_counts
from mmlearn.images_for_language.sequential_fusion import (
    Blocks,
    FusedSpace,
    SequentialFusionConfig,
    mixed,
    settings,
    tuned,
    unit_rows,
)
from mmlearn.images_for_language.skip_gram import SkipGramConfig, train_skip_gram
from mmlearn.images_for_language.visual_vectors import aggregated, features_of, prepared
from mmlearn.images_for_language.visual_words import BagOfVisualWords, VisualWordsConfig
from mmlearn.images_for_language.zero_shot import fit_ridge
from mmlearn.metrics.similarity import WordPairs, pairs_within, spearman
from mmlearn.pretrained.feature_networks import SCENES, open_network

RANKS = (8, 16, 32, 64, 128, None)
SHARES = tuple(i / 20 for i in range(21))
SETS = ("relatedness", "visual", "mixed", "unseen")


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--sentences", type=int, default=30_000)
    parser.add_argument("--pictures", type=int, default=20, help="of each noun")
    parser.add_argument("--words", type=int, default=100, help="visual words")
    parser.add_argument("--bins", type=int, default=2, help="parts of a side of the picture")
    parser.add_argument("--pairs", type=int, default=2000, help="of each set of similarities")
    parser.add_argument("--dim", type=int, default=50, help="of the skip-gram")
    parser.add_argument("--penalty", type=float, default=1.0, help="of the ridge regression")
    parser.add_argument("--network", default=SCENES, help="whose features describe pictures")


# ---------------------------------------------------------------------------------------------- what is known

@cache
def judgements(count: int) -> dict[str, WordPairs]:
    """The pairs of each set, and those that are tuned on ("development")."""
    pictured, unseen = word_world.PICTURED, set(word_world.ZERO_SHOT)
    both = word_world.mixed(2 * count, pictured)
    odd = torch.arange(len(both)) % 2 == 1
    every = word_world.mixed(count, word_world.NOUNS)
    new = torch.tensor([bool({a, b} & unseen) for a, b in zip(every.first, every.second)])
    return {"relatedness": pairs_within(word_world.relatedness(count, "concrete"), pictured),
            "visual": word_world.visual(count, pictured), "mixed": both.where(odd),
            "unseen": every.where(new), "development": both.where(~odd)}


def rows_of(pairs: WordPairs) -> tuple[Tensor, Tensor]:
    """The rows of both words of each pair in the tables of all nouns."""
    place = {word: row for row, word in enumerate(word_world.NOUNS)}
    return (torch.tensor([place[word] for word in pairs.first]),
            torch.tensor([place[word] for word in pairs.second]))


Similar = Callable[[Tensor, Tensor], Tensor]


def scores(similar: Similar, count: int) -> dict[str, float | None]:
    """Spearman's rho on each set of pairs; nothing where all pairs look alike, as words without pictures do
    to pictures alone."""
    rho = {name: spearman(similar(*rows_of(judgements(count)[name])), judgements(count)[name].score)
           for name in SETS}
    return {name: None if math.isnan(value) else round(value, 4) for name, value in rho.items()}


# --------------------------------------------------------------------------------------------- what is learnt

def text_counts(sentences: list[list[str]], window: int) -> Tensor:
    """Counts of content words around each noun (all nouns, content words)."""
    content = [word for word in word_world.words() if word_world.class_of(word) != "function"]
    ids = {word: number for number, word in enumerate(content)}
    table = window_counts([[ids[w] for w in s if w in ids] for s in sentences], len(ids), window)
    return table[[ids[word] for word in word_world.NOUNS]]


def with_all_nouns(table: Tensor) -> Tensor:
    """A table of the nouns with pictures, with rows of zeros for those without."""
    place = {word: row for row, word in enumerate(word_world.NOUNS)}
    rows = torch.tensor([place[word] for word in word_world.PICTURED])
    return table.new_zeros(len(place), table.shape[1]).index_copy_(0, rows, table)


def skip_gram_vectors(sentences: list[list[str]], dim: int, seed: int) -> Tensor:
    """Vectors of all nouns, of a skip-gram with negative sampling; zeros for one that is not in the text."""
    config = SkipGramConfig(dim=dim, min_count=1, sample=0.0, epochs=10, lr=0.05)
    vectors = train_skip_gram(sentences, config, seed=seed, progress=False).vectors()
    none = torch.zeros(dim)
    return torch.stack([vectors[word] if word in vectors else none for word in word_world.NOUNS]).double()


def shuffled(table: Tensor, generator: torch.Generator) -> Tensor:
    """Each noun with the row of another noun that has pictures."""
    order = torch.randperm(len(table), generator=generator)
    return table[order.roll(1)][order.argsort()]


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One seed: the scores of every arm, rho over the weight of the text, and what was chosen."""
    draws = torch.Generator().manual_seed(seed)
    sentences = word_world.sentences(args.sentences, seed=seed)
    pictures = [word_world.word_pictures(word, args.pictures, start=seed * args.pictures)
                for word in word_world.PICTURED]
    text = unit_rows(weigh(text_counts(sentences, 2)))
    config = VisualWordsConfig(args.words, args.bins, 4, (6, 10), "concatenate")
    bag = BagOfVisualWords(config).learn(torch.cat([images[:4] for images in pictures]), draws, sample=20_000,
                                         iterations=30)
    counts = bag.of_words(pictures).double()
    network = open_network(args.network)
    seen = [features_of(network, images).double() for images in pictures]
    features = {how: torch.stack([aggregated(found, how) for found in seen]) for how in ("mean", "max")}
    skip_gram = skip_gram_vectors(sentences, args.dim, seed)

    def counted(table: Tensor) -> Tensor:
        return unit_rows(weigh(with_all_nouns(table)))

    def described(table: Tensor) -> Tensor:
        return with_all_nouns(prepared(table, "centre-unit"))

    visual = {"visual words": counted(counts), "visual words, shuffled": counted(shuffled(counts, draws)),
              "CNN mean": described(features["mean"]), "CNN max": described(features["max"]),
              "CNN mean, shuffled": described(shuffled(features["mean"], draws))}
    judged = partial(scores, count=args.pairs)
    development = judgements(args.pairs)["development"]

    def on_development(similarities: Tensor) -> float:
        return spearman(similarities, development.score)

    arms = {"text": judged(FusedSpace(Blocks(text, text), share=1.0).cosines)}
    curves, chosen = {}, {}
    for which, block in visual.items():
        blocks = Blocks(text, block)
        space = FusedSpace(blocks)
        arms[which] = judged(space.with_share(0.0).cosines)
        arms[f"{which}: naive features"] = judged(space.cosines)
        arms[f"{which}: naive scores"] = judged(space.with_share(0.5, "score").cosines)
        curves[which] = [judged(space.with_share(share).cosines) for share in SHARES]
        found = list(settings(blocks, *rows_of(development), on_development, RANKS, SHARES))
        for level in ("feature", "score"):
            best = tuned(SequentialFusionConfig(), [s for s in found if s.level == level])
            space = FusedSpace(mixed(blocks, best.rank), level, best.share)
            arms[f"{which}: tuned {level}s"] = judged(space.cosines)
            chosen[f"{which}: tuned {level}s"] = {"rank": best.rank, "share": best.share}
        for name, share in (("text", 1.0), ("image", 0.0)):
            best = tuned(SequentialFusionConfig(), [s for s in found if s.rank and s.share == share])
            arms[f"{which}: {name} mixed"] = judged(FusedSpace(mixed(blocks, best.rank), share=share).cosines)
            chosen[f"{which}: {name} mixed"] = {"rank": best.rank, "share": share}
    words = unit_rows(skip_gram)
    arms["skip-gram"] = judged(FusedSpace(Blocks(words, words), share=1.0).cosines)
    for how in ("CNN mean", "CNN max"):
        arms[f"skip-gram, {how}"] = judged(FusedSpace(Blocks(words, visual[how])).cosines)
    known = torch.tensor([word in set(word_world.PICTURED) for word in word_world.NOUNS])
    guess = fit_ridge(words[known], visual["CNN mean"][known], args.penalty)(words)
    arms["skip-gram, imagined"] = judged(FusedSpace(Blocks(words, unit_rows(guess))).cosines)
    return {"seed": seed, "arms": arms, "curves": curves, "chosen": chosen}


def run(args: argparse.Namespace) -> dict[str, Any]:
    arms: dict[str, list[dict[str, Any]]] = {}
    curves: dict[str, list[list[dict[str, float | None]]]] = {}
    chosen: dict[str, list[dict[str, Any]]] = {}
    for (_, seed), measured in run_jobs(job, [("fusion", seed) for seed in seeds(args.seeds)], args):
        for name, found in measured["arms"].items():
            arms.setdefault(name, []).append({"seed": seed, "scores": found})
        for name, curve in measured["curves"].items():
            curves.setdefault(name, []).append(curve)
        for name, setting in measured["chosen"].items():
            chosen.setdefault(name, []).append({"seed": seed, **setting})
        print(f"seed {seed}  " + "  ".join(f"{name} {measured['arms'][name]['mixed']:.3f}" for name in (
            "text", "visual words", "CNN mean", "visual words: tuned features", "CNN mean: tuned features")),
            flush=True)
    names = ("sentences", "pictures", "words", "bins", "pairs", "dim", "penalty", "network")
    pairs = {name: len(found) for name, found in judgements(args.pairs).items()}
    return {"settings": {**{name: getattr(args, name) for name in names}, "seeds": seeds(args.seeds)},
            "pairs": pairs, "shares": list(SHARES), "arms": arms, "curves": curves, "chosen": chosen}
