"""``mmlearn answer``: answer a question about a picture with a Flamingo, after shots if some are given."""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

MINIATURE = "flamingo"
COLUMNS = ("picture", "question", "answer")
MOST = 20               # hypotheses
FEW = 16                # shots
EXAMPLES = """examples:
  mmlearn answer a.png "Where is this?"
  mmlearn answer a.png "How many cats are there?" --weights runs/flamingo --shots shots.csv --beams 1
  mmlearn answer a.png "What colour is the car?" --weights runs/flamingo --json

shots.csv has the columns picture, question and answer; its pictures lie beside it:
  picture,question,answer
  b.png,How many cats are there?,two
"""


class Shot(NamedTuple):
    """A picture with a question and its answer."""

    picture: Path
    question: str
    answer: str


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn answer``."""
    parser.epilog = EXAMPLES
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="a JPEG or PNG file")
    parser.add_argument("question", metavar="QUESTION", help="what is asked, in quotation marks")
    parser.add_argument("--shots", type=Path, metavar="FILE.csv",
                        help=f"examples that stand before the question, at most {FEW}: a table with the "
                             f"columns {', '.join(COLUMNS)}")
    parser.add_argument("--weights", default=MINIATURE, metavar="DIR",
                        help="the --out folder of mmlearn train flamingo, or its file (default: the "
                             "book's miniature, which knows drawn scenes only)")
    parser.add_argument("--beams", type=int, default=3, metavar="K",
                        help="hypotheses (default 3; 1 is greedy)")
    parser.add_argument("--max-len", type=int, default=8, metavar="T", help="most words (default 8)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Answer a question; see ``mmlearn answer --help``."""
    from mmlearn.data.images import PictureFiles
    from mmlearn.data.pairs import SIZE

    check(args)
    shots = read_shots(args.shots) if args.shots is not None else []
    images = PictureFiles([*(shot.picture for shot in shots), args.picture], SIZE)[:]
    place = place_of(args.weights)

    from mmlearn.both_modalities.few_shot import write_answers
    from mmlearn.both_modalities.flamingo_training import load_flamingo
    from mmlearn.both_modalities.interleaved import look_at_pixels

    saved = load_flamingo(place)
    page = episode(shots, args.question)
    say_unknown(saved.tokeniser, page)
    if args.weights == MINIATURE:
        print("the miniature knows the drawn scenes of the book only, and no photographs", file=sys.stderr)
    (answer,) = write_answers(saved.model, [page], saved.tokeniser, look_at_pixels(images),
                              beams=args.beams, max_len=args.max_len)
    if args.json:
        print(json.dumps({"picture": str(args.picture), "question": args.question, "answer": answer,
                          "shots": len(shots)}))
    else:
        print(answer or "(nothing)")


def check(args: argparse.Namespace) -> None:
    """Raises ``ValueError`` for a question without words, and for numbers that cannot be."""
    if not any(letter.isalnum() for letter in args.question):
        raise ValueError(f"the question {args.question!r} has no word; ask one, such as \"Where is this?\"")
    if not 1 <= args.beams <= MOST or args.max_len < 1:
        raise ValueError(f"--beams is {args.beams} and --max-len {args.max_len}; take 1 to {MOST} hypotheses "
                         f"and 1 word or more")


def place_of(weights: str) -> Path:
    """The miniature of the book, or what is at a path."""
    from mmlearn.files import package_data

    if weights == MINIATURE:
        return package_data("checkpoints") / f"{MINIATURE}.safetensors"
    if not Path(weights).exists():
        raise FileNotFoundError(f"--weights {weights} is no file and no folder; give what mmlearn train "
                                f"flamingo wrote, or leave it out")
    return Path(weights)


def read_shots(path: Path) -> list[Shot]:
    """The shots of a table; its pictures are found beside it. Raises ``ValueError`` for what is no such
    table, ``OSError`` for a file that is not there."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = list(csv.DictReader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no table of shots ({error}); its first line is "
                             f"{','.join(COLUMNS)}") from error
    names = set(rows[0]) if rows else set()
    if missing := [name for name in COLUMNS if name not in names]:
        raise ValueError(f"{path} has {'no row' if not rows else f'no column {missing[0]!r}'}; its first "
                         f"line is {','.join(COLUMNS)}, then one shot a line")
    if len(rows) > FEW:
        raise ValueError(f"{path} has {len(rows)} shots; give at most {FEW}")
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise ValueError(f"{path}, line {number} has more columns than the first; put a text with a "
                             f"comma in quotation marks")
        if empty := [name for name in COLUMNS if not (row[name] or "").strip()]:
            raise ValueError(f"{path}, line {number} has no {empty[0]}; fill it in")
    return [Shot(path.parent / row["picture"].strip(), row["question"].strip(), row["answer"].strip())
            for row in rows]


def episode(shots: Sequence[Shot], question: str) -> list[Any]:
    """The shots and the question as chunks, the picture of each with its own number."""
    from mmlearn.both_modalities.interleaved import Example

    asked = [*shots, Shot(Path(), question, "")]
    return [Example(f"Question: {shot.question} Answer:", shot.answer, i, "question")
            for i, shot in enumerate(asked)]


def say_unknown(tokeniser: Any, page: Sequence[Any]) -> None:
    """Tell on stderr which words of the texts the model has never read."""
    texts = " ".join(f"{example.request} {example.answer}" for example in page)
    unknown = [word for word in dict.fromkeys(texts.split()) if tokeniser.unk in tokeniser.encode(word)]
    if unknown:
        print(f"the model does not know: {', '.join(unknown)}", file=sys.stderr)
