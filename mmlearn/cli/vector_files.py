"""Files of word vectors on the command line: options that say how they are read, or trained and written."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmlearn.files import check_writable, shown

if TYPE_CHECKING:
    from mmlearn.data.vocabulary import Vocabulary
    from mmlearn.data.word_vectors import WordVectors


FORMATS = (".txt", ".vec", ".bin", ".glove")


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """Add what all that trains vectors on a text file has in common: CORPUS, --out, and how a run is kept."""
    parser.add_argument("corpus", type=Path, metavar="CORPUS",
                        help="text file in UTF-8, one sentence a line, words separated by white space")
    parser.add_argument("--out", type=Path, required=True, metavar="VECTORS",
                        help="file of vectors: .txt (word2vec's text), .bin (binary) or .glove")
    parser.add_argument("--dim", type=int, default=100, help="numbers of a vector (default 100)")
    parser.add_argument("--min-count", type=int, default=5, metavar="N",
                        help="occurrences of a word that gets a vector, at least (default 5)")
    parser.add_argument("--checkpoints", type=Path, metavar="DIR",
                        help="keep the state of the run there, and go on from it if it was killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def check_out(out: Path, corpus: Path) -> None:
    """Raises ``ValueError`` for a name of a file of vectors that says no format, for the corpus itself, and
    for a place that cannot be written."""
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out {out} says no format; end the name of the file with .txt, .bin or .glove")
    check_writable(out)
    if out.exists() and corpus.exists() and out.samefile(corpus):
        raise ValueError(f"--out {out} is the corpus itself, which would be lost; give another name")


def open_corpus(args: argparse.Namespace) -> "tuple[list[list[str]], Vocabulary]":
    """The sentences of CORPUS and its vocabulary. Raises ``ValueError`` if that is one word, of which there
    is nothing to learn."""
    from mmlearn.data.vocabulary import Vocabulary, read_corpus

    sentences = read_corpus(args.corpus)
    vocabulary = Vocabulary.of(sentences, args.min_count)
    if len(vocabulary) < 2:
        raise ValueError(f"{args.corpus} has only one word that occurs {args.min_count} times or more, "
                         f"{shown(vocabulary.words[0])}; lower --min-count, or give more text")
    return sentences, vocabulary


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
