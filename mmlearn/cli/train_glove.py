"""``mmlearn train glove CORPUS --out VECTORS``: word vectors of a text file, by GloVe.

The name of VECTORS says its format: ``.txt`` word2vec's text, ``.bin`` its binary form, ``.glove`` GloVe's.
"""

import argparse
import math
import sys
from typing import TYPE_CHECKING

from mmlearn.cli.trainer import tell
from mmlearn.cli.vector_files import add_corpus, check_out, open_corpus

if TYPE_CHECKING:
    from mmlearn.catalog import System

EXAMPLES = """examples:
  mmlearn train glove corpus.txt --out vectors.glove
  mmlearn train glove corpus.txt --out vectors.txt --dim 300 --window 10 --updates entry --epochs 50
  mmlearn train glove corpus.txt --out vectors.bin --checkpoints runs/glove   # may be killed and called again
"""


def add(parser: argparse.ArgumentParser, system: "System") -> None:
    """Add the arguments of ``mmlearn train glove``."""
    parser.epilog = EXAMPLES
    add_corpus(parser)
    parser.add_argument("--window", type=int, default=10, help="words on each side (default 10)")
    parser.add_argument("--left-only", action="store_true", help="count words to the left alone")
    parser.add_argument("--x-max", type=float, default=100.0, metavar="X",
                        help="count from which all weigh 1; take 5 to 10 for a small corpus (default 100)")
    parser.add_argument("--alpha", type=float, default=0.75, help="exponent of the weight (default 0.75)")
    parser.add_argument("--updates", choices=("all", "entry"), default="all",
                        help="one update a pass by all counts (default; fast), or one for each count, as the "
                             "released program has it")
    parser.add_argument("--epochs", type=int, metavar="N",
                        help="passes over the counts (default 300; with --updates entry 50)")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate (default 0.05)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train and write the vectors; see ``mmlearn train glove --help``."""
    check_out(args.out, args.corpus)
    from mmlearn.data.word_vectors import write_vectors
    from mmlearn.images_for_language.glove import GloVeConfig, train_glove

    all_at_once = args.updates == "all"
    config = GloVeConfig(
        dim=args.dim, window=args.window, both_sides=not args.left_only, x_max=args.x_max, alpha=args.alpha,
        lr=args.lr, accumulator=0.1 if all_at_once else 1.0, updates=args.updates, min_count=args.min_count,
        epochs=(300 if all_at_once else 50) if args.epochs is None else args.epochs)
    sentences, vocabulary = open_corpus(args)
    trained = train_glove(sentences, config, vocabulary=vocabulary, seed=args.seed, folder=args.checkpoints,
                          progress=sys.stderr)
    write_vectors(args.out, trained.vectors())
    history = trained.history
    agreement = trained.model.agreement(trained.counts)
    result = {"out": str(args.out), "words": trained.model.config.vocab, "dim": args.dim,
              "counts": len(trained.counts), "epochs": config.epochs, "first loss": round(history.loss[0], 4),
              "last loss": round(history.loss[-1], 4),
              "agreement": None if math.isnan(agreement) else round(agreement, 4),
              "seconds": round(history.seconds, 1)}
    tell(args, result,
         f"{result['words']:,} words with {len(trained.counts):,} counts, {args.dim} numbers each, in "
         f"{args.out}\nloss {history.loss[0]:.4f} -> {history.loss[-1]:.4f} a count; predictions agree with "
         f"the logarithms of counts at {agreement:.3f}")
