"""``mmlearn evaluate vqa``: the official accuracy of answers to the questions of a VQA annotation file."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from mmlearn.data.coco_files import Id, Record, Unfit, check_known, checked, identity, read_lists, text
from mmlearn.files import read_json
from mmlearn.metrics.vqa import VQAScores, vqa_scores

HINT = "a VQA annotation has 'question_id', 'question_type', 'answer_type' and 'answers'"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn evaluate vqa``."""
    parser.add_argument("annotations", metavar="ANNOTATIONS.json", type=Path,
                        help="the annotations of VQA, such as v2_mscoco_val2014_annotations.json")
    parser.add_argument("results", metavar="RESULTS.json", type=Path,
                        help="VQA results: a list of records with 'question_id' and 'answer'")
    parser.add_argument("--subset", action="store_true",
                        help="score the questions that have results, such as one split of the annotations")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the accuracy over all questions, by answer type and by question type."""
    questions = read_questions(args.annotations)
    results = read_answers(args.results, questions, args.annotations.name)
    if missing := [key for key in questions if key not in results]:
        if not args.subset:
            raise ValueError(f"{args.results}: {some(missing)} of {args.annotations.name}, which has "
                             f"{len(questions)}, {'has' if len(missing) == 1 else 'have'} no answer; give "
                             f"one for each question, or add --subset to score those that have one")
        if not results:
            raise ValueError(f"{args.results}: there is no result in it; give at least one")
        print(f"{len(results)} of the {len(questions)} questions of {args.annotations.name} have results",
              file=sys.stderr)
    asked = [question for key, question in questions.items() if key in results]
    if nameless := sum(any("answer_id" not in answer for answer in one["answers"]) for one in asked):
        print(f"in {nameless} of {len(asked)} questions answers have no 'answer_id'; as officially, people "
              f"who cannot be told apart are left out together", file=sys.stderr)
    show(vqa_scores(asked, results), args.json)


def read_questions(path: Path) -> dict[Id, Record]:
    """The annotations of a VQA file by question id; one sentence for a file that is none."""
    where = f"{path}, annotations"
    rows = read_lists(path, "annotations")["annotations"]
    records = checked(rows, where, {"question_id": identity, "question_type": text, "answer_type": text,
                                    "answers": people}, HINT)
    if not records:
        raise ValueError(f"{path}: there is no annotation in it; give a VQA annotation file")
    refuse_twice([record["question_id"] for record in records], where, "annotation")
    return {record["question_id"]: record for record in records}


def read_answers(path: Path, questions: Mapping[Id, Any], owner: str) -> dict[Id, str]:
    """The answers of a results file by question id, each of a question that is known."""
    rows = read_json(path, list, "a VQA results file is a list of records, one a question")
    records = checked(rows, str(path), {"question_id": identity, "answer": text})
    check_known(records, str(path), "question_id", questions, owner)
    refuse_twice([record["question_id"] for record in records], str(path), "answer")
    return {record["question_id"]: record["answer"] for record in records}


def people(value: Any) -> list[Record]:
    """What several people answered: records with "answer"."""
    if not isinstance(value, list) or not value or not all(isinstance(one, Mapping) for one in value):
        raise Unfit("give a list of records with 'answer', one for each person")
    try:
        return [{**one, "answer": text(one.get("answer"))} for one in value]
    except Unfit:
        raise Unfit("give a text as 'answer' of each person") from None


def refuse_twice(keys: Sequence[Id], where: str, what: str) -> None:
    """Raise ``ValueError`` if a question id occurs more than once."""
    if twice := [key for key, count in Counter(keys).items() if count > 1]:
        raise ValueError(f"{where}: {some(twice)} {'has' if len(twice) == 1 else 'have'} more than one "
                         f"{what}; keep one for each question")


def some(ids: Sequence[Id]) -> str:
    """For instance "3 questions (7, 8, 9)"; at most five are named."""
    named = ", ".join(map(shown, ids[:5])) + (", …" if len(ids) > 5 else "")
    return f"{len(ids)} question{'' if len(ids) == 1 else 's'} ({named})"


def show(scores: VQAScores, as_json: bool) -> None:
    """Print the official table, as JSON or for people, the largest share of right answers first."""
    table = scores.table()
    if as_json:
        print(json.dumps(table))
        return
    kinds = (*table["perAnswerType"], *table["perQuestionType"])
    width = max(len("overall"), *map(len, kinds))
    print(f"{'overall':<{width}}  {table['overall']:6.2f}")
    for title, part in (("by answer type", "perAnswerType"), ("by question type", "perQuestionType")):
        print(f"\n{title}")
        for kind, value in sorted(table[part].items(), key=lambda item: (-item[1], item[0])):
            print(f"{kind:<{width}}  {value:6.2f}")
