"""Words that were only read: are their pictures found, and are their pictures named?

Paper: A. Lazaridou, N. T. Pham and M. Baroni (2015), *Combining Language and Vision with a Multimodal
Skip-gram Model*, arXiv:1501.02598, sec. 5.2 and 6.  Survey: 3.4.

Skip-gram with a ridge learnt afterwards, models A and B, B without a margin (the survey's formula), and A and
B with the pictures of their words exchanged among them. All arms of a seed read the same text from the same
start and see pictures of the same 70 % of the nouns; three words in ten are never pictured, none of them a
class of the network whose features they are. Scores are those of the words never pictured, among the pictures
(or the words) of all nouns, and among those never pictured alone: where seen words stand in the way of
others, the two differ. Pictures of the search are others than those of the training. Two amounts of text tell
whether reading more makes up for not seeing.
"""

import argparse
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mmlearn.data.pairs import class_names, signed_pixels
from mmlearn.data.vocabulary import Vocabulary
from mmlearn.data.word_vectors import WordVectors
from mmlearn.data.word_world import (
    ABSTRACT,
    KINDS_OF_WORDS,
    NOUNS,
    ZERO_SHOT,
    concreteness,
    relatedness,
    sentences,
    visual,
    word_pictures,
)
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.images_for_language.multimodal_skip_gram import (
    MultimodalSkipGram,
    MultimodalSkipGramConfig,
    train_multimodal_skip_gram,
)
from mmlearn.images_for_language.sequential_fusion import unit_rows
from mmlearn.images_for_language.zero_shot import (
    company,
    entropy,
    fit_ridge,
    hold_out,
    label,
    label_by_folds,
    places,
    retrieve,
    zero_shot_scores,
)
from mmlearn.metrics.similarity import evaluate_pairs, pairs_within, spearman
from mmlearn.nn.modes import remembered
from mmlearn.text2image.pipeline import load_judge

BASE = "skip-gram + ridge"
EXCHANGED = " with exchanged pictures"
ARMS = (BASE, "A", f"A{EXCHANGED}", "B", "B without margin", f"B{EXCHANGED}")
TASKS = ("retrieval", "labelling", "labelling by folds", "retrieval among unseen", "labelling among unseen")
LOWER = tuple(f"{task} mean rank" for task in TASKS)


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=5)
    parser.add_argument("--sentences", type=int, default=30_000, help="sentences of the smaller text")
    parser.add_argument("--more", type=int, default=100_000, help="sentences of the larger text; 0: none")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.025)
    parser.add_argument("--dim", type=int, default=64, help="numbers of a word's and of a picture's vector")
    parser.add_argument("--pictures", type=int, default=10, help="pictures of a word")
    parser.add_argument("--held-out", type=float, default=0.3, help="share of the nouns never pictured")


@remembered
def features(count: int, split: str) -> Tensor:
    """The mean features of ``count`` pictures of each noun (n, 128), as the book's classifier of scenes sees
    them; of nouns that are not pictured before the test those of split "test" in both splits."""
    judge = load_judge()
    rows = []
    with torch.no_grad():
        for word in NOUNS:
            pictures = word_pictures(word, count, "test" if word in ZERO_SHOT else split)
            rows.append(judge(signed_pixels(pictures)).mean(dim=0))
    return torch.stack(rows)


def sights(args: argparse.Namespace, seen: list[int]) -> tuple[Tensor, Tensor]:
    """Vectors of the nouns' pictures for training and for the search (n, dim): the directions in which the
    training pictures of the nouns in ``seen`` vary most."""
    train, test = features(args.pictures, "train"), features(args.pictures, "test")
    mean = train[seen].mean(dim=0)
    axes = torch.linalg.svd((train[seen] - mean).double(), full_matrices=False).Vh[:args.dim].float()
    return (train - mean) @ axes.mT, (test - mean) @ axes.mT


def split(args: argparse.Namespace, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the nouns that are seen with pictures, and of those that are not."""
    known = set(class_names()) - set(ZERO_SHOT)
    return hold_out(NOUNS, args.held_out, known, ZERO_SHOT, seed)


def configuration(args: argparse.Namespace, vocab: int, name: str) -> MultimodalSkipGramConfig:
    """The configuration of an arm, all but its size the paper's."""
    mapped = name.startswith("B")
    return MultimodalSkipGramConfig(
        vocab, args.dim, "hs", 5, sample=0.0, min_count=1, epochs=args.epochs, lr=args.lr, features=args.dim,
        others=5 if mapped else 20, margin=0.0 if name == "B without margin" else 0.5, mapped=mapped,
        penalty=1e-4 if mapped else 0.0)


def train(name: str, seed: int, count: int,
          args: argparse.Namespace) -> tuple[MultimodalSkipGram, dict[str, list[float]]]:
    """The model of an arm and the curves of its training: loss of text, L_vision."""
    text = sentences(count, seed=seed)
    vocabulary = Vocabulary.of(text)
    if missing := [word for word in NOUNS if word not in vocabulary.ids]:
        raise ValueError(f"{count} sentences do not name {missing[0]!r}; raise --sentences and --more")
    seen, _ = split(args, seed)
    pictures = sights(args, seen)[0][seen]
    if name.endswith(EXCHANGED):
        pictures = pictures[torch.randperm(len(seen), generator=torch.Generator().manual_seed(seed))]
    shown = None if name == BASE else WordVectors(tuple(NOUNS[i] for i in seen), pictures)
    trained = train_multimodal_skip_gram(text, shown, configuration(args, len(vocabulary), name),
                                         vocabulary=vocabulary, seed=seed, progress=False)
    model = trained.model
    assert isinstance(model, MultimodalSkipGram)
    curves = {"text": trained.history.loss, "vision": trained.history.scalars["vision"]}
    return model, {key: [round(value, 4) for value in values] for key, values in curves.items()}


@cache
def read_only(seed: int, count: int, settings: tuple[tuple[str, Any], ...]) -> WordVectors:
    """Skip-gram's vectors of a seed, from which the others' differ by what the pictures did."""
    return train(BASE, seed, count, argparse.Namespace(**dict(settings)))[0].vectors()


def judge(model: MultimodalSkipGram, is_mapped_later: bool, seed: int, args: argparse.Namespace) -> Any:
    """Scores of the words never pictured; ``is_mapped_later``: a ridge says where words lie."""
    seen, held = split(args, seed)
    shown, searched = sights(args, seen)
    words, z = model.vectors(), model.word_pictures()
    if is_mapped_later:
        ridge = fit_ridge(unit_rows(words.rows(NOUNS)[seen]), unit_rows(shown[seen]))
        z = WordVectors(words.words, ridge(unit_rows(words.vectors)))
    v, placed, looks = unit_rows(words.rows(NOUNS)), z.rows(NOUNS), unit_rows(searched)
    back, own = fit_ridge(looks[seen], v[seen]), torch.arange(len(held))
    found = {"retrieval": retrieve(placed, searched, held), "labelling": label(v, looks, seen, held),
             "labelling by folds": label_by_folds(v, looks, held, seen if is_mapped_later else ()),
             "retrieval among unseen": places(placed[held], looks[held], own),
             "labelling among unseen": places(back(looks[held]), v[held], own)}
    scores = {f"{task} {key}": value for task, place in found.items()
              for key, value in zero_shot_scores(place, (1, 10)).items()}
    nearest = (unit_rows(placed[held]) @ looks.mT).argmax(dim=1).tolist()
    kinds = [(KINDS_OF_WORDS[NOUNS[i]], KINDS_OF_WORDS[NOUNS[j]]) for i, j in zip(held, nearest)]
    drawings = sum(a.drawing == b.drawing for a, b in kinds)
    colours = sum(bool({*a.colours} & {*b.colours}) for a, b in kinds)
    scores |= {"nearest has its drawing": drawings / len(kinds),
               "nearest has its colour": colours / len(kinds)}
    unseen = [NOUNS[i] for i in held]
    for name, pairs in (("visual", visual(1000, unseen)),
                        ("relatedness", pairs_within(relatedness(5000, "concrete"), unseen))):
        for what, vectors in (("", words), (" mapped", z)):
            scores[f"{name} rho{what}"] = evaluate_pairs(vectors, pairs)["spearman"]
    known = [word for word in words.words if word in concreteness()]
    rated = torch.tensor([concreteness()[word] for word in known], dtype=torch.float64)
    for what, vectors in (("", words), (" mapped", z)):
        scores[f"entropy rho{what}"] = spearman(entropy(vectors.rows(known)).double(), rated)
    return scores


def what_moved(words: WordVectors, before: WordVectors, seed: int,
               args: argparse.Namespace) -> dict[str, float]:
    """How far the company of words changed by the pictures (eq:moved-company), by kind of word."""
    seen, held = split(args, seed)
    changed = dict(zip(words.words, company(before.vectors, words.vectors).tolist()))
    groups: Mapping[str, list[str]] = {
        "seen": [NOUNS[i] for i in seen], "never pictured": [NOUNS[i] for i in held],
        "abstract": [word for word in ABSTRACT if word in changed]}
    return {f"moved, {name}": sum(changed[word] for word in group) / len(group)
            for name, group in groups.items()}


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training of one arm; ``name`` is the number of sentences and the arm."""
    count, arm = name.split(" ", 1)
    model, curves = train(arm, seed, int(count), args)
    scores = judge(model, arm == BASE, seed, args)
    if arm != BASE:
        settings = tuple(sorted((key, value) for key, value in vars(args).items() if key in SETTINGS))
        scores |= what_moved(model.vectors(), read_only(seed, int(count), settings), seed, args)
    return {"seed": seed, "scores": {key: round(float(value), 4) for key, value in scores.items()},
            "curve": curves}


SETTINGS = ("sentences", "more", "epochs", "lr", "dim", "pictures", "held_out")


def run(args: argparse.Namespace) -> dict[str, Any]:
    amounts = [count for count in (args.sentences, args.more) if count]
    jobs = [(f"{count} {arm}", seed) for count in amounts for seed in seeds(args.seeds) for arm in ARMS]
    found: dict[str, dict[str, list[dict[str, Any]]]] = {str(n): {arm: [] for arm in ARMS} for n in amounts}
    for (name, seed), measured in run_jobs(job, jobs, args):
        count, arm = name.split(" ", 1)
        found[count][arm].append(measured)
        print(f"{count} seed {seed}  {arm:26}  " + "  ".join(
            f"{key} {value:.3f}" for key, value in list(measured["scores"].items())[:5]), flush=True)
    nouns = len(NOUNS)
    held = round(args.held_out * nouns)
    colours = [{*KINDS_OF_WORDS[word].colours} for word in NOUNS]
    same = sum(bool(a & b) for i, a in enumerate(colours) for j, b in enumerate(colours) if i != j)
    return {"settings": {**{key: getattr(args, key) for key in SETTINGS}, "seeds": seeds(args.seeds),
                         "nouns": nouns, "never pictured": held},
            "chance": {"mean rank": (nouns + 1) / 2, "P@1": round(1 / nouns, 4), "P@10": round(10 / nouns, 4),
                       "mean rank among unseen": (held + 1) / 2, "P@1 among unseen": round(1 / held, 4),
                       "P@10 among unseen": round(10 / held, 4),
                       "nearest has its colour": round(same / nouns / (nouns - 1), 4)},
            "arms": found}
