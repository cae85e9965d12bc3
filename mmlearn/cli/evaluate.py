"""``mmlearn evaluate``: score a results file against annotations of COCO or VQA, a model on pictures with
captions or classes, generated pictures against real ones, or word vectors against people."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from mmlearn.cli import evaluate_images, evaluate_vqa, evaluate_words
from mmlearn.cli.evaluate_models import add_retrieval, add_zero_shot
from mmlearn.data.coco_files import (
    Id,
    box,
    caption_records,
    category_records,
    check_known,
    checked,
    identity,
    image_records,
    instance_records,
    optional,
    positive,
    read_lists,
    read_results,
    segmentation,
    text,
)
from mmlearn.metrics.caption import (
    METRICS,
    available_stages,
    caption_scores,
    official_spice,
    tokenise_captions,
)
from mmlearn.metrics.detection import average_precision, detection_records
from mmlearn.metrics.meteor_tables import STAGES
from mmlearn.metrics.spice import missing_for_official_spice


def add(parser: argparse.ArgumentParser) -> None:
    """Add the seven kinds of evaluation."""
    parser.epilog = ("examples:\n  mmlearn evaluate captions captions_val2014.json results.json --json\n"
                     "  mmlearn evaluate detections instances_val2017.json results.json --masks\n"
                     "  mmlearn evaluate retrieval my-pictures/ --weights runs/clip\n"
                     "  mmlearn evaluate zero-shot pets/ --json\n"
                     "  mmlearn evaluate images real/ generated/ --captions generated/captions.csv\n"
                     "  mmlearn evaluate words vectors.txt wordsim353.tsv simlex999.txt --json\n"
                     "  mmlearn evaluate vqa v2_mscoco_val2014_annotations.json answers.json --json")
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    captions = kinds.add_parser("captions", help="BLEU, METEOR, ROUGE-L, CIDEr and, with --spice, SPICE",
                                epilog="example: mmlearn evaluate captions captions_val2014.json "
                                       "results.json",
                                description="The official table of COCO captioning. The row CIDEr is, as "
                                            "officially, "
                                            "CIDEr-D.")
    captions.add_argument("--spice", action="store_true", help="also the official SPICE, by its Java program")
    captions.add_argument("--subset", action="store_true",
                          help="score the images that have results, such as one split of the annotations")
    captions.set_defaults(run=evaluate_captions_files)
    detections = kinds.add_parser("detections", help="the 12 numbers of COCO detection",
                                  epilog="example: mmlearn evaluate detections instances_val2017.json "
                                         "boxes.json",
                                  description="Average precision and recall by the rules of COCO.")
    detections.add_argument("--masks", action="store_true", help="compare masks, not boxes")
    detections.set_defaults(run=evaluate_detections_files)
    retrieval = kinds.add_parser("retrieval", help="R@k of a model (CLIP) on pictures with captions",
                                 epilog="example: mmlearn evaluate retrieval data/scenes-sample/annotations/"
                                        "captions_train.json --images data/scenes-sample/images --weights "
                                        "clip-mini-resnet",
                                 description="How often the right caption is among the first k for a "
                                             "picture, and the right picture for a caption.")
    add_retrieval(retrieval)
    zero_shot = kinds.add_parser("zero-shot", help="top-1 and top-5 of a model (CLIP) on pictures of classes",
                                 epilog="example: mmlearn evaluate zero-shot pets/ --template \"a photo of a "
                                        "{}, a type of pet.\"",
                                 description="How often the right class is first, or among the first five, "
                                             "when its name is all that the model is told.")
    add_zero_shot(zero_shot)
    images = kinds.add_parser("images", help="Frechet distance and more of generated pictures",
                              epilog="example: mmlearn evaluate images data/scenes-sample/images generated/ "
                                     "--captions generated/captions.csv",
                              description="Frechet and kernel distance, precision and recall of generated "
                                          "pictures against real ones, and their Inception Score; with "
                                          "--captions also how well they fit their sentences. Each number "
                                          "names the network that it rests on and how many pictures it is "
                                          "of: compare only what has both alike.")
    evaluate_images.add(images)
    words = kinds.add_parser("words", help="rank correlation of word vectors with ratings of pairs",
                             epilog="example: mmlearn evaluate words vectors.txt wordsim353.tsv "
                                    "simlex999.txt --json",
                             description="Spearman's rank correlation of the cosines of word vectors with "
                                         "what people say of pairs of words, over the pairs of which both "
                                         "words have a vector. Compare only vectors that cover the same "
                                         "pairs.")
    evaluate_words.add(words)
    vqa = kinds.add_parser("vqa", help="accuracy of answers to questions about pictures",
                           epilog="example: mmlearn evaluate vqa v2_mscoco_val2014_annotations.json "
                                  "answers.json --json",
                           description="The official accuracy of VQA: an answer counts in full where three "
                                       "of ten people gave it, answers are brought to one form first, and "
                                       "each person is left out once.")
    evaluate_vqa.add(vqa)
    for kind in (retrieval, zero_shot, images, words):
        kind.add_argument("--json", action="store_true", help="print one JSON object")
    for kind in (captions, detections):
        kind.add_argument("annotations", metavar="ANNOTATIONS.json", type=Path, help="COCO annotations")
        kind.add_argument("results", metavar="RESULTS.json", type=Path,
                          help="COCO results: a list of records")
        kind.add_argument("--json", action="store_true", help="print one JSON object")


def evaluate_captions_files(args: argparse.Namespace) -> None:
    """Print the table of a captions file."""
    candidates, references = read_captions(args.annotations, args.results, args.subset)
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
    truth = read_lists(args.annotations, "images", "annotations", maybe=["categories"])
    rows = read_results(args.results)
    field, read = ("segmentation", segmentation) if args.masks else ("bbox", box)
    side = optional(positive) if args.masks else side_or_none
    images = image_records(truth, args.annotations, height=side, width=side)
    where = f"{args.annotations}, annotations"
    annotations = instance_records(truth["annotations"], where, **{field: read})
    check_known(annotations, where, "image_id", images, "'images'")
    found = detection_records(rows, str(args.results), field)
    check_known(found, str(args.results), "image_id", images, args.annotations.name)
    categories = category_records(truth, args.annotations) if truth.get("categories") is not None else None
    if categories is not None:
        check_known(annotations, where, "category_id", categories, "'categories'")
    known = {a["category_id"] for a in annotations} if categories is None else set(categories)
    if unknown := {row["category_id"]: None for row in found if row["category_id"] not in known}:
        count = sum(row["category_id"] in unknown for row in found)
        check_types(args.results, list(unknown), known)
        say(f"{count} of {len(found)} detections are of {some(list(unknown), 'category', 'categories')} not "
            f"in {args.annotations.name}; as officially, they count for nothing")
    say(f"{len(images)} images, {len(annotations)} annotations, {len(found)} detections: matching …")
    sizes = {i: (image["height"], image["width"]) for i, image in images.items()
             if image["height"] and image["width"]}
    result = average_precision(annotations, found, masks=args.masks, sizes=sizes, images=images,
                               categories=categories, names=(where, str(args.results)))
    show(result.stats, args.json, list(result.stats))


def side_or_none(value: object) -> int | None:
    """The side of a picture whose size is not needed: what is no number of pixels is unknown."""
    return value if type(value) is int and value > 0 else None


def check_types(path: Path, unknown: Sequence[Id], known: set[Id]) -> None:
    """Raise ``ValueError`` if ids are unknown only because texts stand for numbers, or numbers for texts."""
    if known and all(type(a) is not type(b) for a in unknown for b in known):
        texts = isinstance(unknown[0], str)
        raise ValueError(f"{path}: 'category_id' is {'text' if texts else 'a number'}, {unknown[0]!r}, and "
                         f"the ids of the categories are {'numbers' if texts else 'texts'}; write both alike")


def read_captions(annotations: Path, results: Path,
                  subset: bool = False) -> tuple[dict[Any, str], dict[Any, list[str]]]:
    """Candidates and references by image id, in the order of the annotations.

    With ``subset`` only of the images that have results. Empty captions are captions, as officially. Raises
    ``ValueError`` or ``FileNotFoundError`` for a file that is not what COCO defines, for images without
    exactly one candidate or without reference, and for unknown images.
    """
    truth = read_lists(annotations, "annotations", maybe=["images"])
    if truth.get("images") is not None:
        images = list(image_records(truth, annotations))
    else:                                                       # references alone are enough
        images = [row["image_id"] for row in checked(
            truth["annotations"], f"{annotations}, annotations", {"image_id": identity})]
    references: dict[Id, list[str]] = {image: [] for image in images}
    for row in caption_records(truth, annotations, references):
        references[row["image_id"]].append(row["caption"])
    if not any(references.values()):
        raise ValueError(f"{annotations}: there is no annotation in it; give a COCO captions file")
    rows = checked(read_results(results), str(results), {"image_id": identity, "caption": text})
    check_known(rows, str(results), "image_id", references, annotations.name)
    candidates = {row["image_id"]: row["caption"] for row in rows}
    if len(candidates) < len(rows):
        twice = [image for image, n in Counter(row["image_id"] for row in rows).items() if n > 1]
        raise ValueError(f"{results}: {some(twice, 'image')} {'has' if len(twice) == 1 else 'have'} more "
                         f"than one caption; keep one for each image")
    if subset:
        if not candidates:
            raise ValueError(f"{results}: there is no result in it; give at least one")
        say(f"{len(candidates)} of the {len(references)} images of {annotations.name} have results")
        references = {image: texts for image, texts in references.items() if image in candidates}
    elif missing := [image for image in references if image not in candidates]:
        raise ValueError(f"{results}: {some(missing, 'image')} of {annotations.name}, which has "
                         f"{len(references)}, {'has' if len(missing) == 1 else 'have'} no caption; give one "
                         f"for each image, or add --subset to score those that have one")
    if bare := [image for image, texts in references.items() if not texts]:
        raise ValueError(f"{annotations}: {some(bare, 'image')} {'has' if len(bare) == 1 else 'have'} no "
                         f"caption; give each image at least one reference")
    return candidates, references


def some(ids: Sequence[Id], noun: str, plural: str = "") -> str:
    """For instance "3 images (7, 8, 9)"; at most five are named."""
    named = ", ".join(map(shown, ids[:5])) + (", …" if len(ids) > 5 else "")
    return f"{len(ids)} {noun if len(ids) == 1 else plural or noun + 's'} ({named})"


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
