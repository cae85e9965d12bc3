"""``mmlearn words``: the words nearest to a word, and analogies, in a file of word vectors."""

import argparse
import json

from mmlearn.cli.vector_files import add_vectors, open_vectors

METHODS = ("3CosAdd", "3CosMul")
EXAMPLES = """examples:
  mmlearn words neighbours vectors.txt cat tower --top 5
  mmlearn words analogy vectors.bin man woman king
  mmlearn words analogy glove.6B.100d.txt paris france rome --method 3CosMul --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn words``."""
    parser.epilog = EXAMPLES
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    neighbours = kinds.add_parser("neighbours", help="the words of largest cosine with a word",
                                  epilog="example: mmlearn words neighbours vectors.txt cat tower",
                                  description="The words whose vectors have the largest cosine with that of "
                                              "a word.")
    add_vectors(neighbours)
    neighbours.add_argument("words", nargs="+", metavar="WORD")
    neighbours.set_defaults(run=run_neighbours)
    analogy = kinds.add_parser("analogy", help="A is to B as C is to …",
                               epilog="example: mmlearn words analogy vectors.txt man woman king",
                               description="The words that are to C what B is to A; the three are left out.")
    add_vectors(analogy)
    for name in "abc":
        analogy.add_argument(name, metavar=name.upper())
    analogy.add_argument("--method", choices=METHODS, default=METHODS[0],
                         help="3CosAdd (default): the word nearest to B - A + C; 3CosMul: cosines multiplied")
    analogy.set_defaults(run=run_analogy)
    for kind in (neighbours, analogy):
        kind.add_argument("--top", type=int, default=10, metavar="K",
                          help="how many words to print (default 10)")
        kind.add_argument("--json", action="store_true", help="print JSON")


def check(args: argparse.Namespace) -> None:
    """Raises ``ValueError`` for a number of words that cannot be printed."""
    if args.top < 1:
        raise ValueError(f"--top is {args.top}; take 1 or more")


def run_neighbours(args: argparse.Namespace) -> None:
    """Print the neighbours of words."""
    check(args)
    vectors = open_vectors(args)
    vectors.indices(args.words)                                         # refuse unknown ones before all else
    found = {word: vectors.neighbours(word, args.top) for word in args.words}
    if args.json:
        print(json.dumps([{"word": word, "answers": [
            {"word": name, "cosine": round(cosine, 4)} for name, cosine in answers]}
            for word, answers in found.items()], ensure_ascii=False))
        return
    for word, answers in found.items():
        if len(found) > 1:
            print(f"{word}:")
        for name, cosine in answers:
            print(f"{cosine:7.4f}  {name}")


def run_analogy(args: argparse.Namespace) -> None:
    """Print the answers to an analogy."""
    check(args)
    answers = open_vectors(args).analogy(args.a, args.b, args.c, args.top, args.method)
    if args.json:
        print(json.dumps({"a": args.a, "b": args.b, "c": args.c, "method": args.method, "answers": [
            {"word": name, "score": round(score, 4)} for name, score in answers]}, ensure_ascii=False))
        return
    for name, score in answers:
        print(f"{score:7.4f}  {name}")
