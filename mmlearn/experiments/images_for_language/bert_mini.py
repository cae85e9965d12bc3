"""What a small BERT learns of captions: hidden words, captions of one scene, and the two senses of a word.

Paper: J. Devlin et al. (2019), *BERT*, NAACL, arXiv:1810.04805, sec. 3.1 and 5.1 (without next-sentence
prediction).  Survey: 3.2.

A document is the five captions of a scene. Two words have two senses: "left" is a side ("on the left of") or
a direction ("facing left"), and "boat" and "bed" are both spelt "boatbed". A static vector has to serve both
senses, the states in their sentences need not; but nothing asks the model for the sense of a made-up word,
whose spelling is right in either. All arms of a seed start from the same numbers and see the same pairs; "no
positions" is the same model with a table of positions that is 0 and stays so.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmlearn.data.scenes import SceneDataset
from mmlearn.data.wordpiece import WordPiece
from mmlearn.experiments import seeds
from mmlearn.experiments.jobs import add_jobs, run_jobs
from mmlearn.images_for_language.bert import IS_RANDOM, BERTForPreTraining
from mmlearn.images_for_language.bert_training import (
    counting_accuracy,
    judge_bert,
    pair_texts,
    train_bert,
)
from mmlearn.images_for_language.contextual import centroid_accuracy, word_states
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.modes import seeded

BASE = "BERT"
ARMS = (BASE, "words alone", "no positions")
SENSES = ("boat", "bed")
JOINED = "".join(SENSES)
Documents = list[tuple[str, ...]]


def add(parser: argparse.ArgumentParser) -> None:
    add_jobs(parser, seeds=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--pieces", type=int, default=400, help="word pieces, special tokens among them")
    parser.add_argument("--length", type=int, default=32, help="tokens of a pair")
    parser.add_argument("--train", type=int, default=2000, help="scenes to train on")
    parser.add_argument("--test", type=int, default=300, help="scenes to test on")
    parser.add_argument("--copies", type=int, default=3, help="ways in which a document is cut into pairs")


def ambiguous(text: str) -> str:
    """The text with both words spelt alike, in the plural too."""
    return re.sub(rf"\b({'|'.join(SENSES)})(s?)\b", rf"{JOINED}\2", text)


def senses(text: str) -> list[int]:
    """Which of the two words stands where, in the order of the text: 0 or 1."""
    return [SENSES.index(word) for word in re.findall(rf"\b({'|'.join(SENSES)})s?\b", text)]


def sides(text: str) -> list[int]:
    """What every "left" is, in the order of the text: 0 a side, 1 a direction."""
    return [int(bool(before)) for before in re.findall(r"(facing )?\bleft\b", text.lower())]


def sense_states(model: BERTForPreTraining, tokeniser: WordPiece, texts: Sequence[str],
                 words: Sequence[str], told: Callable[[str], list[int]]) -> tuple[Tensor, Tensor]:
    """The states (n, l + 1, d) of an ambiguous word in its sentences, and its senses (n,), as ``told``."""
    states, found = [], []
    met: Counter[int] = Counter()
    for part in word_states(model.bert, tokeniser, [ambiguous(text) for text in texts],
                            words):
        states.append(part.states)
        for sentence in part.sentences:                    # a long text is cut at its end: the first ones fit
            found.append(told(texts[sentence])[met[sentence]])
            met[sentence] += 1
    return torch.cat(states), torch.tensor(found)


def sense_accuracy(model: BERTForPreTraining, tokeniser: WordPiece, train: Sequence[str],
                   test: Sequence[str]) -> dict[str, Any]:
    """Share of occurrences whose state is nearest to the mean of its sense, by layer; and of the more
    frequent sense, which is what one vector for both can tell."""
    found = {}
    for name, words, told in ((JOINED, [JOINED, f"{JOINED}s"], senses), ("left", ["left"], sides)):
        (x, y), (x_test, y_test) = (sense_states(model, tokeniser, texts, words, told)
                                    for texts in (train, test))
        layers = [centroid_accuracy(x[:, i], y, x_test[:, i], y_test) for i in range(x.shape[1])]
        found[name] = {"by layer": layers, "occurrences": [len(y), len(y_test)],
                       "one vector": float((y_test == y.mode().values).float().mean())}
    return {"senses": found}


def scenes(args: argparse.Namespace) -> tuple[Documents, Documents]:
    """The captions of the scenes to train on and to test on, as documents."""
    found = []
    for split, count in (("train", args.train), ("val", args.test)):
        data = SceneDataset(count, split)
        found.append([data.captions(i) for i in range(count)])
    return found[0], found[1]


def job(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One training, judged on scenes that it has not seen."""
    documents = scenes(args)
    spelt = [[tuple(map(ambiguous, captions)) for captions in part] for part in documents]
    tokeniser = WordPiece.train((text for captions in spelt[0] for text in captions), args.pieces)
    train = pair_texts(spelt[0], tokeniser, args.length, args.copies, seed)
    test = pair_texts(spelt[1], tokeniser, args.length, seed=0)
    config = BERTConfig.mini(len(tokeniser), tokeniser.pad, args.length, pooler=name != "words alone")
    with seeded(seed):
        model = BERTForPreTraining(config)
    if name == "no positions":
        model.bert.embed.positions.weight.data.zero_()
        model.bert.embed.positions.weight.requires_grad_(False)
    history = train_bert(model, train, tokeniser, steps=args.steps, batch=args.batch, lr=args.lr, seed=seed,
                         progress=False)
    counted = counting_accuracy(train, test, tokeniser)
    share = float((test.labels == IS_RANDOM).float().mean())
    texts = [[text for captions in part for text in captions] for part in documents]
    smooth = history.smooth(50)
    return {"seed": seed,
            "scores": {**judge_bert(model, test, tokeniser), **sense_accuracy(model, tokeniser, *texts)},
            "baselines": {**counted, "most frequent label of a pair": max(share, 1 - share)},
            "curve": {"step": history.steps[49::50], "loss": [round(x, 3) for x in smooth[49::50]]}}


def run(args: argparse.Namespace) -> dict[str, Any]:
    jobs = [(name, seed) for seed in seeds(args.seeds) for name in ARMS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for (name, seed), measured in run_jobs(job, jobs, args):
        found[name].append(measured)
        print(f"seed {seed}  {name:13}  {measured['scores']}", flush=True)
    settings = {key: getattr(args, key)
                for key in ("steps", "batch", "lr", "pieces", "length", "train", "test", "copies")}
    return {"settings": {**settings, "seeds": seeds(args.seeds)}, "arms": found}
