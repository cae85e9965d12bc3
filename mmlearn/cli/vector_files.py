"""Files of word vectors on the command line: the options that say how they are read."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmlearn.data.word_vectors import WordVectors


def add_vectors(parser: argparse.ArgumentParser) -> None:
    """Add VECTORS and how they are read."""
    parser.add_argument("vectors", type=Path, metavar="VECTORS",
                        help="file of vectors: .bin (word2vec's binary format), or text as word2vec or GloVe "
                             "write it (.txt, .vec, .glove); may be compressed (.gz)")
    parser.add_argument("--limit", type=int, metavar="N", help="read the first N words only")
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help="of the words (default utf-8)")
    parser.add_argument("--duplicates", choices=("refuse", "first"), default="refuse",
                        help="what becomes of a word that stands there twice: refuse the file (default), or "
                             "keep the first")


def open_vectors(args: argparse.Namespace) -> "WordVectors":
    """The vectors that the options name."""
    from mmlearn.data.word_vectors import read_vectors

    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit is {args.limit}; take 1 or more")
    return read_vectors(args.vectors, args.encoding, duplicates=args.duplicates, limit=args.limit)
