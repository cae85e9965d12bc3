"""How fast: word vectors of a corpus of a million words, by skip-gram, against gensim.

    python benchmarks/skip_gram.py                      # negative sampling and hierarchical softmax
    python benchmarks/skip_gram.py --workers 1 --task ns
    python benchmarks/skip_gram.py --memory             # by how much one of them makes a process grow

What is compared, from sentences in memory to vectors (the vocabulary is counted, too), one epoch with
word2vec.c's other defaults: 100 numbers, windows of 5, 5 negatives, subsampling at 1e-3:

- "mmlearn" is ``train_skip_gram``, one update a pair in a loop that numba compiles, on ``--workers`` threads;
- "gensim" is ``Word2Vec``, its loop in Cython and BLAS, on as many.

Both clocks are shown: the clock's seconds, and processor seconds of all threads, for a machine that is
shared. The corpus is drawn: words by Zipf's law, in sentences of 20, some of them in topics, so that there is
something to learn. Before anything is timed, the loss of both on text that neither has seen is compared, and
the share of words that are kept. A ratio is peer over mmlearn: above 1 mmlearn is faster (goal: 1 and more).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import measuring
import numpy as np
import torch

from mmlearn.data.vocabulary import Vocabulary, numbered, pairs
from mmlearn.images_for_language.skip_gram import SkipGram, SkipGramConfig, train_skip_gram

TASKS, WAYS = ("ns", "hs"), ("mmlearn", "gensim")
LENGTH = 20                     # words of a sentence


def corpus(tokens: int, words: int, seed: int = 0) -> list[list[str]]:
    """Sentences of ``LENGTH`` words: by Zipf's law, half of them in one of 100 topics of the sentence."""
    rng = np.random.default_rng(seed)
    p = 1 / (np.arange(words) + 2.7)
    rows = rng.choice(words, (max(1, tokens // LENGTH), LENGTH), p=p / p.sum())
    topical = rng.random(rows.shape) < 0.5
    topic = rng.integers(0, 100, (len(rows), 1))
    rows = np.where(topical, np.minimum(rows // 100 * 100 + topic, words - 1), rows)
    names = np.array([f"w{i}" for i in range(words)], dtype=object)
    return names[rows].tolist()


def config_of(task: str, args: argparse.Namespace) -> SkipGramConfig:
    """word2vec.c's defaults, one epoch."""
    return SkipGramConfig(dim=args.dim, objective=task, epochs=args.epochs)


def prepared(task: str, way: str, sentences: list[list[str]], args: argparse.Namespace) -> Callable[[], Any]:
    """A function that trains in one of the ways and returns what it has trained."""
    config = config_of(task, args)
    if way == "mmlearn":
        return lambda: train_skip_gram(sentences, config, workers=args.workers, progress=False).model
    from gensim.models import Word2Vec

    hs = task == "hs"
    return lambda: Word2Vec(sentences, sg=1, hs=int(hs), negative=0 if hs else config.negatives,
                            vector_size=config.dim, window=config.window, sample=config.sample,
                            min_count=config.min_count, epochs=config.epochs, alpha=config.lr,
                            min_alpha=config.lr * config.least, workers=args.workers)


def as_ours(theirs: Any, ours: SkipGram) -> SkipGram:
    """A model of gensim's as one of ours; it keeps its order of words, from which its tree follows."""
    words = tuple(theirs.wv.index_to_key)
    counts = tuple(int(theirs.wv.get_vecattr(word, "count")) for word in words)
    model = SkipGram(ours.config, Vocabulary(words, counts))
    with torch.no_grad():
        model.W_in.copy_(torch.from_numpy(theirs.wv.vectors))
        model.W_out.copy_(torch.from_numpy(theirs.syn1[:-1] if ours.config.objective == "hs"
                                           else theirs.syn1neg))
    return model


@torch.no_grad()
def loss_of(model: SkipGram, sentences: list[list[str]]) -> float:
    """The mean loss of a model on a corpus, with the same negatives for all models."""
    assert model.vocabulary is not None
    text = numbered(sentences, model.vocabulary)
    return float(model.loss(*pairs(text, torch.full_like(text.ids, 2)), torch.Generator().manual_seed(0)))


def compare(task: str, args: argparse.Namespace, tokens: int = 60_000, words: int = 1000) -> dict[str, float]:
    """The losses of both on text that neither has seen. Refuses a difference of more than 2 in 100."""
    sentences, held = corpus(tokens, words), corpus(4000, words, seed=1)
    ours, theirs = (prepared(task, way, sentences, args)() for way in WAYS)
    found = {"mmlearn": loss_of(ours, held), "gensim": loss_of(as_ours(theirs, ours), held)}
    assert abs(found["mmlearn"] / found["gensim"] - 1) < 0.02, (task, found)
    return found


def clocks() -> Any:
    """Seconds of the clock, and of all processors."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=30_000, help="of the vocabulary, at most")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        sentences = corpus(args.tokens, args.words)
        prepared(args.task[0], args.child, sentences[:500], args)()     # what every call needs is not counted
        measuring.forget_peak()
        print(measuring.growth(prepared(args.task[0], args.child, sentences, args), "cpu"))
        return
    if args.memory:
        names = ("tokens", "words", "dim", "epochs", "workers")
        found = measuring.growth_of({task: WAYS for task in args.task}, __file__, args, names)
        print(json.dumps(found) if args.json else f"memory, {args.tokens:,} tokens")
        if not args.json:
            measuring.print_rows(found, (4, 10), measuring.megabytes)
        return
    results: dict[str, Any] = {}
    sentences = corpus(args.tokens, args.words)
    for task in args.task:
        losses = compare(task, args)
        ways = {way: prepared(task, way, sentences, args) for way in WAYS}
        turns: Any = measuring.turns(ways, args.repeats, clocks)
        results[task] = {way: {"wall": statistics.median(s[0] for s in seconds),
                               "processor": statistics.median(s[1] for s in seconds), "loss": losses[way]}
                         for way, seconds in turns.items()}
    if args.json:
        print(json.dumps(results))
        return
    print(f"{args.tokens:,} tokens, {args.dim} numbers, {args.epochs} epoch, {args.workers} workers")
    for task, of in results.items():
        for way, values in of.items():
            ratios = {clock: values[clock] / of["mmlearn"][clock] for clock in ("wall", "processor")}
            print(f"  {task} {way:<8} {args.tokens * args.epochs / values['wall']:10,.0f} words/s  "
                  f"wall {values['wall']:7.3f} s ({ratios['wall']:.2f} x)  "
                  f"processor {values['processor']:7.3f} s ({ratios['processor']:.2f} x)")


if __name__ == "__main__":
    main()
