"""``mmlearn train words CORPUS --out VECTORS``: word vectors of a text file, by skip-gram.

The name of VECTORS says its format: ``.txt`` word2vec's text, ``.bin`` its binary form, ``.glove`` GloVe's.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from mmlearn.cli.trainer import tell
from mmlearn.cli.vector_files import add_corpus, check_out, open_corpus

if TYPE_CHECKING:
    from mmlearn.catalog import System

EXAMPLES = """examples:
  mmlearn train words corpus.txt --out vectors.txt
  mmlearn train words corpus.txt --out vectors.bin --objective hs --dim 300 --workers 2
  mmlearn train words corpus.txt --out vectors.bin --checkpoints runs/words   # may be killed and called again
"""


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train words``."""
    parser.epilog = EXAMPLES
    add_corpus(parser)
    parser.add_argument("--objective", choices=("ns", "hs"), default="ns",
                        help="negative sampling or hierarchical softmax (default ns)")
    parser.add_argument("--window", type=int, default=5, help="words on each side, at most (default 5)")
    parser.add_argument("--negatives", type=int, metavar="K", help="words drawn for a pair (ns; default 5)")
    parser.add_argument("--sample", type=float, default=1e-3, metavar="T",
                        help="frequency above which occurrences are left out at random; 0: none is "
                             "(default 0.001)")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the corpus (default 5)")
    parser.add_argument("--lr", type=float, default=0.025, help="learning rate at the start (default 0.025)")
    parser.add_argument("--workers", type=int, default=1, metavar="N",
                        help="threads; with more than one, no run is quite like another (default 1)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train and write the vectors; see ``mmlearn train words --help``."""
    check_out(args.out, args.corpus)
    if args.negatives is not None and args.objective == "hs":
        raise ValueError(f"--negatives is {args.negatives}, and --objective hs draws none; leave it out, or "
                         f"take --objective ns")
    from mmlearn.data.word_vectors import write_vectors
    from mmlearn.images_for_language.skip_gram import SkipGramConfig, train_skip_gram

    config = SkipGramConfig(
        dim=args.dim, objective=args.objective, window=args.window,
        negatives=5 if args.negatives is None else args.negatives, sample=args.sample,
        min_count=args.min_count, epochs=args.epochs, lr=args.lr)
    sentences, vocabulary = open_corpus(args)
    trained = train_skip_gram(sentences, config, vocabulary=vocabulary, seed=args.seed, workers=args.workers,
                              folder=args.checkpoints, progress=sys.stderr)
    write_vectors(args.out, trained.vectors())
    history, words = trained.history, trained.model.config.vocab
    tenth = max(1, len(history.loss) // 10)
    result = {"out": str(args.out), "objective": args.objective, "words": words, "dim": args.dim,
              "tokens": trained.words // args.epochs, "epochs": args.epochs,
              "pairs": round(sum(history.scalars["pairs"])), "first loss": round(history.loss[0], 4),
              "last loss": round(trained.loss(tenth), 4), "seconds": round(history.seconds, 1),
              "words per second": round(trained.words_per_second)}
    tell(args, result,
         f"{words:,} words of {result['tokens']:,} tokens, {args.dim} numbers each, in {args.out}\n"
         f"loss {result['first loss']:.3f} -> {result['last loss']:.3f} nats a pair; "
         f"{result['words per second']:,} words a second")
