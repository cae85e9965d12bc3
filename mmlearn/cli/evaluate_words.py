"""``mmlearn evaluate words``: how well the cosines of word vectors agree with what people say of pairs of
words, and how many analogies they solve."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmlearn.cli.vector_files import add_vectors, open_vectors

if TYPE_CHECKING:
    from mmlearn.data.word_vectors import WordVectors
    from mmlearn.metrics.similarity import WordPairs


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn evaluate words``."""
    add_vectors(parser)
    parser.add_argument("pairs", type=Path, nargs="*", metavar="PAIRS",
                        help="files of word pairs: two words and a score a line, as WordSim-353, MEN, RW, "
                             "SimVerb-3500 and SimLex-999 are published")
    parser.add_argument("--column", metavar="NAME",
                        help="the column of the scores, by its name or number (default: the first one of "
                             "numbers)")
    parser.add_argument("--analogies", type=Path, metavar="FILE",
                        help="questions as in questions-words.txt: ': name', then four words a line")
    parser.add_argument("--case", action="store_true", help="tell capital letters from small ones")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print Spearman's rho and coverage for each file of pairs. Raises ``ValueError`` if none has a score."""
    from mmlearn.metrics.similarity import evaluate_analogies, evaluate_pairs, read_analogies, read_pairs

    if not args.pairs and args.analogies is None:
        raise ValueError("there is nothing to compare with; give one or more PAIRS, or --analogies FILE")
    files = [*args.pairs, *([args.analogies] if args.analogies else [])]
    stems = [path.stem for path in files]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise ValueError(f"two files are called {twice!r}, and results go by that name; rename one of them")
    column = int(args.column) if (args.column or "").isdecimal() and len(args.column) < 10 else args.column
    pairs = [read_pairs(path, column) for path in args.pairs]
    sections = read_analogies(args.analogies) if args.analogies else None
    vectors = open_vectors(args)
    found = {path.stem: evaluate_pairs(vectors, one, not args.case) for path, one in zip(args.pairs, pairs)}
    if sections is not None:
        found[args.analogies.stem] = evaluate_analogies(vectors, sections, fold_case=not args.case)["total"]
    about: dict[str, WordPairs | None] = {path.stem: one for path, one in zip(args.pairs, pairs)}
    lacking = [f"{stem}: {why_no_score(scores, about.get(stem), vectors, args)}"
               for stem, scores in found.items() if any(map(math.isnan, scores.values()))]
    if len(lacking) == len(found):
        raise ValueError(f"{'; '.join(lacking)}; give other pairs or vectors, so that there is a score")
    for sentence in lacking:
        print(sentence, file=sys.stderr)
    if args.json:
        print(json.dumps({stem: {name: None if math.isnan(value) else value for name, value in scores.items()}
                          for stem, scores in found.items()}))
        return
    width = max(map(len, found))
    for stem, scores in found.items():
        if "spearman" in scores:
            print(f"{stem:<{width}}  rho {scores['spearman']:6.3f}  {scores['covered']} of "
                  f"{scores['pairs']} pairs")
        else:
            print(f"{stem:<{width}}  {100 * scores['accuracy']:5.1f} % right  {scores['covered']} of "
                  f"{scores['questions']} questions")


def why_no_score(scores: dict[str, float], pairs: "WordPairs | None", vectors: "WordVectors",
                 args: argparse.Namespace) -> str:
    """Why a file of ``pairs``, or of analogies, has no score."""
    from mmlearn.metrics.similarity import likeness

    asked, known = scores.get("pairs", scores.get("questions")), scores["covered"]
    if pairs is None or known < 2:
        return f"{known} of {asked} have all their words in {args.vectors}, too few for a score"
    cosines = likeness(vectors, not args.case)(pairs.first, pairs.second)
    alike = "scores" if len(pairs.score[~cosines.isnan()].unique()) == 1 else "cosines"
    return f"all {alike} of the {known} pairs whose words are in {args.vectors} are alike, and have no order"
