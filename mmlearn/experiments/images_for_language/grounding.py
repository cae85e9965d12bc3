"""Grounding by construction: nouns whose text is the same and whose pictures differ, told apart or not by
vectors of text alone, with pictures, and with pictures of the wrong words.

Papers: S. Harnad (1990), *The symbol grounding problem*, Physica D 42; the methods are those of T. Mikolov et
al. (2013), J. Pennington et al. (2014), E. Bruni et al. (2014) and A. Lazaridou et al. (2015).  Survey: 3.1
to 3.4.

Exchanging the names of two twins maps the text's distribution onto itself, so that what sees text alone
answers one half of the questions about them rightly, on average over corpora; no amount of text changes that.
All arms of a seed have the same sentences and pictures; a shuffled arm has the pictures in a random order,
and its scores, where nothing is trained on pictures, are the mean over several orders.

Judged are "twins" (which of the two looks more like a third noun?), "which picture" (new pictures of twins,
each given to that twin whose vector, mapped to pictures by a ridge regression over all other nouns, is
nearer), odd words out, and Spearman's rho with the known similarities of nouns that have pictures.
"""

import argparse
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmlearn.claims import evidence, paired
from mmlearn.data import word_world
from mmlearn.data.pairs import signed_pixels
from mmlearn.data.word_tasks import odd_accuracy, odd_words, twin_accuracy, twin_questions
from mmlearn.data.word_vectors import WordVectors
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.images_for_language.counts import weigh, window_counts
from mmlearn.images_for_language.glove import GloVeConfig, train_glove
from mmlearn.images_for_language.multimodal_skip_gram import (
    MultimodalSkipGramConfig,
    train_multimodal_skip_gram,
)
from mmlearn.images_for_language.sequential_fusion import fuse_features, truncated_svd, unit_rows
from mmlearn.images_for_language.skip_gram import SkipGramConfig, train_skip_gram
from mmlearn.images_for_language.visual_vectors import word_vectors
from mmlearn.images_for_language.zero_shot import fit_ridge
from mmlearn.metrics.similarity import evaluate_pairs, pairs_within
from mmlearn.pretrained.feature_networks import SCENES, open_network

TEXTS = ("PPMI", "skip-gram", "GloVe")
ALONE, PICTURES, SHUFFLED = "text alone", "with pictures", "shuffled pictures"
CHANCE = 0.5
NEW = 10                                # pictures of each twin that no vector was made of


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--sentences", type=int, default=60_000)
    parser.add_argument("--pictures", type=int, default=10, help="of each noun")
    parser.add_argument("--dim", type=int, default=32, help="numbers of a word's vector from text")
    parser.add_argument("--questions", type=int, default=10, help="about each pair of twins")
    parser.add_argument("--pairs", type=int, default=2000, help="of each set of similarities")
    parser.add_argument("--orders", type=int, default=10, help="in which pictures are shuffled")
    parser.add_argument("--penalty", type=float, default=1.0, help="of the ridge regression")
    parser.add_argument("--network", default=SCENES, help="whose features describe pictures")


def text_vectors(name: str, sentences: list[list[str]], dim: int, seed: int) -> Tensor:
    """Vectors of the nouns with pictures, a row a word, learnt from sentences alone."""
    if name == "PPMI":
        ids = word_world.word_ids()
        table = weigh(window_counts([[ids[w] for w in s] for s in sentences], len(ids), 5), "ppmi")
        U, S, _ = truncated_svd(table.to_dense().double(), dim)
        return (U * S.sqrt())[[ids[word] for word in word_world.PICTURED]]
    if name == "GloVe":
        vectors = train_glove(sentences, GloVeConfig.mini(dim=dim), seed=seed, progress=False).vectors()
    else:
        config = SkipGramConfig(dim=dim, window=5, min_count=1, sample=0.0, epochs=5, lr=0.05)
        vectors = train_skip_gram(sentences, config, seed=seed, progress=False).vectors()
    return rows_of(vectors)


def rows_of(vectors: WordVectors) -> Tensor:
    return torch.stack([vectors[word] for word in word_world.PICTURED]).double()


def shuffled(table: Tensor, draws: torch.Generator) -> Tensor:
    """The rows in any order, all orders equally likely: exchanging what two twins get turns an order into
    another one, so that a question about them is right in exactly half of all orders. (Orders in which no
    noun keeps its own row would not be balanced so.)"""
    return table[torch.randperm(len(table), generator=draws)]


def multimodal(sentences: list[list[str]], pictures: Tensor | None, dim: int, seed: int) -> Tensor:
    """Vectors of multimodal skip-gram A with these pictures, or, without any, of its text alone."""
    config = MultimodalSkipGramConfig(
        len(word_world.words()), dim, "hs", 5, min_count=1, sample=0.0, epochs=3, features=dim, others=5,
        clip=1.0)
    seen = None if pictures is None else WordVectors(word_world.PICTURED, pictures.float())
    return rows_of(train_multimodal_skip_gram(sentences, seen, config, seed=seed, progress=False).vectors())


class Seen(NamedTuple):
    """What a network sees in pictures: of each noun on average, and of new ones of each twin (twins, n, f);
    all less the mean over nouns, and of length 1."""

    nouns: Tensor
    twins: Tensor


TWIN_ROWS = tuple(tuple(word_world.PICTURED.index(word) for word in pair) for pair in word_world.TWINS)


def seen_by(network: str, pictures: int, start: int) -> Seen:
    net = open_network(network)
    raw = word_vectors(net, (word_world.word_pictures(word, pictures, start=start)
                             for word in word_world.PICTURED)).double()
    twins = [word for pair in word_world.TWINS for word in pair]
    new = torch.stack([net(signed_pixels(word_world.word_pictures(word, NEW, "test", start=start)))
                       for word in twins]).double()
    mean = raw.mean(0)
    return Seen(unit_rows(raw - mean), unit_rows((new - mean).flatten(0, 1)).reshape(new.shape))


def which_picture(table: Tensor, seen: Seen, penalty: float | int) -> float:
    """Share of the new pictures of twins that are nearer to where their own noun's vector is mapped than to
    where its twin's is; the mapping has seen neither."""
    learnt = torch.ones(len(table), dtype=torch.bool)
    learnt[[row for pair in TWIN_ROWS for row in pair]] = False
    imagined = unit_rows(fit_ridge(table[learnt], seen.nouns[learnt], penalty)(table))
    right = []
    for pair, (first, second) in enumerate(TWIN_ROWS):
        nearer = seen.twins[2 * pair:2 * pair + 2] @ (imagined[first] - imagined[second])      # twin, picture
        right.append(((nearer[0] > 0).double().mean() + (nearer[1] < 0).double().mean()) / 2)
    return float(torch.stack(right).mean())


def judged(table: Tensor, seen: Seen, args: argparse.Namespace) -> dict[str, float]:
    """The scores of vectors of the nouns with pictures."""
    vectors = WordVectors(word_world.PICTURED, table.float())
    pairs = {"relatedness": pairs_within(word_world.relatedness(args.pairs, "concrete"),
                                         word_world.PICTURED),
             "visual": word_world.visual(args.pairs, word_world.PICTURED),
             "mixed": word_world.mixed(args.pairs, word_world.PICTURED)}
    return {"twins": twin_accuracy(vectors, twin_questions(args.questions))["mean"],
            "which picture": which_picture(unit_rows(table), seen, args.penalty),
            "odd colour": odd_accuracy(vectors, odd_words("colour", 200, "test")),
            "odd category": odd_accuracy(vectors, odd_words("category", 200, "test")),
            **{name: evaluate_pairs(vectors, known)["spearman"] for name, known in pairs.items()}}


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """All arms of one seed."""
    draws = torch.Generator().manual_seed(seed)
    sentences = word_world.sentences(args.sentences, seed=seed)
    seen = seen_by(args.network, args.pictures, seed * args.pictures)
    wrong = [shuffled(seen.nouns, draws) for _ in range(args.orders)]
    arms = {f"pictures alone: {PICTURES}": [seen.nouns], f"pictures alone: {SHUFFLED}": wrong}
    for text in TEXTS:
        rows = unit_rows(text_vectors(text, sentences, args.dim, seed))
        arms[f"{text}: {ALONE}"] = [rows]
        arms[f"{text}: {PICTURES}"] = [fuse_features(rows, seen.nouns, 0.5)]
        arms[f"{text}: {SHUFFLED}"] = [fuse_features(rows, one, 0.5) for one in wrong]
    U, S, _ = truncated_svd(seen.nouns, args.dim)            # A wants as many numbers as of a word
    few = unit_rows(U * S)
    swap = shuffled(few, draws)
    for how, given in ((ALONE, None), (PICTURES, few), (SHUFFLED, swap)):
        arms[f"multimodal skip-gram A: {how}"] = [multimodal(sentences, given, args.dim, seed)]
    scores = {arm: [judged(rows, seen, args) for rows in tables] for arm, tables in arms.items()}
    return {"seed": seed, "arms": {arm: {key: round(sum(one[key] for one in found) / len(found), 4)
                                         for key in found[0]} for arm, found in scores.items()}}


def verdicts(arms: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the seeds say, adverse first: each method with pictures beside its text alone and beside shuffled
    pictures, and each arm that cannot know about twins beside chance (there "cannot tell" is what the
    construction says)."""
    def values(arm: str) -> dict[str, list[float]]:
        return {key: [run["scores"][key] for run in arms[arm]] for key in arms[arm][0]["scores"]}

    found = []
    for method in dict.fromkeys(arm.split(":")[0] for arm in arms):
        for other in (ALONE, SHUFFLED):
            if f"{method}: {other}" not in arms:
                continue
            base = values(f"{method}: {other}")
            for key, said in evidence(values(f"{method}: {PICTURES}"), base).items():
                found.append({"arm": f"{method}: {PICTURES}", "base": other, "score": key,
                              "mean": said.mean, "error": said.error, "verdict": said.verdict})
            for key in ("twins", "which picture"):
                said = paired(base[key], [CHANCE] * len(base[key]))
                found.append({"arm": f"{method}: {other}", "base": "chance", "score": key,
                              "mean": said.mean, "error": said.error, "verdict": said.verdict})
    order = ("worse", "cannot tell", "better")
    return sorted(found, key=lambda row: order.index(row["verdict"]))


def run(args: argparse.Namespace) -> dict[str, Any]:
    arms: dict[str, list[dict[str, Any]]] = {}
    for (_, seed), measured in run_jobs(job, [("grounding", seed) for seed in seeds(args.seeds)], args):
        for name, scores in measured["arms"].items():
            arms.setdefault(name, []).append({"seed": seed, "scores": scores})
        print(f"seed {seed}  " + "  ".join(f"{name} {scores['twins']:.2f}"
                                           for name, scores in measured["arms"].items()), flush=True)
    names = ("sentences", "pictures", "dim", "questions", "pairs", "orders", "penalty", "network")
    return {"settings": {**{name: getattr(args, name) for name in names}, "seeds": seeds(args.seeds)},
            "arms": arms, "verdicts": verdicts(arms)}
