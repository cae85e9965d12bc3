"""``mmlearn evaluate``: score a results file against COCO annotations, captions or detections."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmlearn.metrics.caption import (
    METRICS,
    available_stages,
    caption_scores,
    official_spice,
    tokenise_captions,
)
from mmlearn.metrics.detection import average_precision
from mmlearn.metrics.meteor_tables import STAGES
from mmlearn.metrics.spice import missing_for_official_spice


def add(parser: argparse.ArgumentParser) -> None:
    """Add the two kinds of evaluation."""
    parser.epilog = ("examples:\n  mmlearn evaluate captions captions_val2014.json results.json --json\n"
                     "  mmlearn evaluate detections instances_val2017.json results.json --masks")
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    captions = kinds.add_parser("captions", help="BLEU, METEOR, ROUGE-L, CIDEr and, with --spice, SPICE",
                                epilog="example: mmlearn evaluate captions captions_val2014.json "
                                       "results.json",
                                description="The official table of COCO captioning. The row CIDEr is, as "
                                            "officially, "
                                            "CIDEr-D.")
    captions.add_argument("--spice", action="store_true", help="also the official SPICE, by its Java program")
    captions.set_defaults(run=evaluate_captions_files)
    detections = kinds.add_parser("detections", help="the 12 numbers of COCO detection",
                                  epilog="example: mmlearn evaluate detections instances_val2017.json "
                                         "boxes.json",
                                  description="Average precision and recall by the rules of COCO.")
    detections.add_argument("--masks", action="store_true", help="compare masks, not boxes")
    detections.set_defaults(run=evaluate_detections_files)
    for kind in (captions, detections):
        kind.add_argument("annotations", metavar="ANNOTATIONS.json", type=Path, help="COCO annotations")
        kind.add_argument("results", metavar="RESULTS.json", type=Path,
                          help="COCO results: a list of records")
        kind.add_argument("--json", action="store_true", help="print one JSON object")


def evaluate_captions_files(args: argparse.Namespace) -> None:
    """Print the table of a captions file."""
    candidates, references = read_captions(args.annotations, args.results)
    if args.spice and (lacking := missing_for_official_spice()):
        raise FileNotFoundError(lacking)
    say(f"{len(candidates)} images, {sum(map(len, references.values()))} references: tokenising …")
    tokens = tokenise_captions(candidates, references)
    if missing := [stage for stage in STAGES if stage not in available_stages()]:
        say(f"METEOR without {' and '.join(missing)} matches, so it is a lower bound; pip install "
            f"pycocoevalcap "
            "brings their tables")
    say("scoring …")
    scores = caption_scores(*tokens).corpus
    if args.spice:
        scores["SPICE"] = official_spice({key: " ".join(words) for key, words in zip(references, tokens[0])},
                                         {key: [" ".join(w) for w in refs] for key,
                                          refs in zip(references, tokens[1])})
    show(scores, args.json, [*METRICS, "SPICE"])


def evaluate_detections_files(args: argparse.Namespace) -> None:
    """Print the 12 numbers of a detections file."""
    truth, results = read_json(args.annotations), read_json(args.results)
    annotations = records(args.annotations, truth, "annotations", ("image_id", "category_id"))
    images = records(args.annotations, truth, "images", ("id",))
    found = result_records(args.results, results, ("image_id", "category_id", "score"))
    check_images(args.results, found, {image["id"] for image in images}, args.annotations)
    field = "segmentation" if args.masks else "bbox"
    for path, rows in ((args.annotations, annotations), (args.results, found)):
        lacking = next((i for i, row in enumerate(rows) if field not in row), None)
        if lacking is not None:
            raise ValueError(f"{path}: record {lacking} has no {field!r}; needed to compare "
                             f"{'masks' if args.masks else 'boxes'}")
    say(f"{len(images)} images, {len(annotations)} annotations, {len(found)} detections: matching …")
    sizes = {image["id"]: (image["height"], image["width"]) for image in images if "height" in image
             and "width" in image}
    result = average_precision(annotations, found, masks=args.masks, sizes=sizes,
                               images=[i["id"] for i in images])
    show(result.stats, args.json, list(result.stats))


def read_captions(annotations: Path, results: Path) -> tuple[dict[Any, str], dict[Any, list[str]]]:
    """Candidates and references by image id, in the order of the annotations.

    Raises ``ValueError`` or ``FileNotFoundError`` for a file that is not what COCO defines, for images
    without exactly one candidate, for unknown images, and for empty captions.
    """
    truth = read_json(annotations)
    references: dict[Any, list[str]] = {}
    if isinstance(truth, Mapping) and isinstance(truth.get("images"), list):
        references = {image["id"]: [] for image in records(annotations, truth, "images", ("id",))}
    for row in records(annotations, truth, "annotations", ("image_id", "caption")):
        references.setdefault(row["image_id"], []).append(text_of(annotations, row))
    if bare := [image for image, texts in references.items() if not texts]:
        raise ValueError(f"{annotations}: {some(bare, 'image')} {'has' if len(bare) == 1 else 'have'} no "
                         f"caption; "
                         "give each image at least one reference")
    if not references:
        raise ValueError(f"{annotations}: there is no annotation in it; give a COCO captions file")
    rows = result_records(results, read_json(results), ("image_id", "caption"))
    check_images(results, rows, references, annotations)
    if twice := [image for image, count in Counter(row["image_id"] for row in rows).items() if count > 1]:
        raise ValueError(f"{results}: {some(twice, 'image')} {'has' if len(twice) == 1 else 'have'} more "
                         f"than one "
                         "caption; keep one for each image")
    candidates = {row["image_id"]: text_of(results, row) for row in rows}
    if missing := [image for image in references if image not in candidates]:
        raise ValueError(f"{results}: {some(missing, 'image')} of {annotations.name}, which has "
                         f"{len(references)}, "
                         f"{'has' if len(missing) == 1 else 'have'} no caption; give one for each image")
    return candidates, references


def read_json(path: Path) -> Any:
    """Contents of a JSON file. Raises ``FileNotFoundError`` or ``ValueError`` with the place of the
    mistake."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; check the path")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON, line {error.lineno} column {error.colno}: {error.msg}; "
                         "write it with a JSON library") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; is it a JSON file?") from None


def records(path: Path, contents: Any, key: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The list under ``key`` of a COCO file, each record with the ``fields``."""
    if not isinstance(contents, Mapping) or not isinstance(contents.get(key), list):
        raise ValueError(f"{path}: expected a COCO file, an object with a list {key!r}; is it the "
                         f"annotations file?")
    return checked(path, contents[key], key, fields)


def result_records(path: Path, contents: Any, fields: Sequence[str]) -> list[dict[str, Any]]:
    """A results file: a list of records, each with the ``fields``."""
    if not isinstance(contents, list):
        raise ValueError(f"{path}: expected a COCO results file, a list of records with {', '.join(fields)}, "
                         f"got {'an object' if isinstance(contents, Mapping) else type(contents).__name__}")
    return checked(path, contents, "results", fields)


def checked(path: Path, rows: list[Any], what: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """``rows``, if each is an object with the ``fields``."""
    for i, row in enumerate(rows):
        if not isinstance(row, dict) or any(field not in row for field in fields):
            raise ValueError(f"{path}: record {i} of {what} needs {', '.join(map(repr, fields))}, got "
                             f"{str(row)[:80]}")
        for field in fields:
            if field.endswith("id") and not isinstance(row[field], int | str):
                raise ValueError(f"{path}: record {i} of {what} has {field} {str(row[field])[:40]}; give a "
                                 f"number")
            if field == "score" and (isinstance(row[field], bool) or not isinstance(row[field], int | float)):
                raise ValueError(f"{path}: record {i} of {what} has score {str(row[field])[:40]!r}; give a "
                                 f"number")
    return rows


def text_of(path: Path, row: Mapping[str, Any]) -> str:
    """The caption of a record. Raises ``ValueError`` if it is no text, or empty."""
    caption = row["caption"]
    if not isinstance(caption, str):
        raise ValueError(f"{path}: the caption of image {row['image_id']} is {str(caption)[:40]}; give a "
                         f"text")
    if not caption.strip():
        raise ValueError(f"{path}: the caption of image {row['image_id']} is empty; give at least one word")
    return caption


def check_images(path: Path, rows: Sequence[Mapping[str, Any]], known: Any, annotations: Path) -> None:
    """Raise ``ValueError`` if a record is about an image that the annotations do not have."""
    if unknown := list(dict.fromkeys(row["image_id"] for row in rows if row["image_id"] not in known)):
        raise ValueError(f"{path}: {some(unknown, 'image')} {'is' if len(unknown) == 1 else 'are'} not in "
                         f"{annotations.name}; are these the right annotations?")


def some(ids: Sequence[Any], noun: str) -> str:
    """For instance "3 images (7, 8, 9)"; at most five are named."""
    named = ", ".join(map(str, ids[:5])) + (", …" if len(ids) > 5 else "")
    return f"{len(ids)} {noun}{'s' * (len(ids) != 1)} ({named})"


def show(scores: Mapping[str, float], as_json: bool, order: Sequence[str]) -> None:
    """Print scores, as a table or as JSON."""
    if as_json:
        print(json.dumps({name: scores[name] for name in order if name in scores}))
        return
    for name in order:
        if name in scores:
            print(f"{name:<12}{scores[name]:7.3f}")


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr)
