"""``mmlearn evaluate retrieval`` and ``mmlearn evaluate zero-shot``: a dual encoder, judged on pictures with
captions and on pictures of classes; nothing is trained."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlearn.cli.dual import add_weights, check_words, open_dual, say_drawings_only
from mmlearn.cli.pictures import images_in

if TYPE_CHECKING:
    from mmlearn.data.coco import CaptionRecord

BATCH = 64


def add_retrieval(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn evaluate retrieval``."""
    parser.add_argument("data", type=Path, metavar="DATA",
                        help="a folder of pictures with captions.csv, such a table, or a COCO captions file")
    add_images(parser)
    parser.add_argument("--split", choices=("train", "val", "test"),
                        help="DATA is a Karpathy file: judge on this split of it")
    parser.add_argument("--skip-incomplete", action="store_true",
                        help="leave out images without file or caption (COCO)")
    add_weights(parser)
    parser.set_defaults(run=evaluate_retrieval)


def add_zero_shot(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn evaluate zero-shot``."""
    parser.add_argument("data", type=Path, metavar="DATA",
                        help="a folder of folders named like the classes of their pictures (_ is a blank), a "
                             "table with the columns file, label, or a COCO file with one category an image")
    add_images(parser)
    parser.add_argument("--template", action="append", metavar="TEXT",
                        help="a sentence with {} or {a} for the class, as in mmlearn classify; several are "
                             "averaged")
    add_weights(parser)
    parser.set_defaults(run=evaluate_zero_shot)


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the argument that says where the pictures of a file are."""
    parser.add_argument("--images", type=Path, metavar="DIR",
                        help="folder of the pictures (default: that of the table; needed for a COCO file)")


def evaluate_retrieval(args: argparse.Namespace) -> None:
    """Print R@1, R@5, R@10 and the median rank in both directions."""
    import torch

    from mmlearn.metrics.retrieval import retrieval
    from mmlearn.text_for_vision.training import embed_texts
    from mmlearn.text_for_vision.zero_shot import unknown_words

    records = captioned(args)
    texts = [text for record in records for text in record.captions]
    owner = torch.tensor([i for i, record in enumerate(records) for _ in record.captions])
    ready = open_dual(args)
    say_drawings_only(args.weights)
    if odd := sum(bool(unknown_words(ready.tokeniser, text)) for text in texts):
        print(f"{odd} of {len(texts)} captions hold words that {args.weights} does not know", file=sys.stderr)
    u = embedded(ready, [record.path for record in records])
    v = embed_texts(ready.model, ready.tokeniser, texts)
    ks = [k for k in (1, 5, 10) if k <= len(records)]
    show({**retrieval(u, v, owner, ks), "images": len(records), "captions": len(texts)}, args.json)


def evaluate_zero_shot(args: argparse.Namespace) -> None:
    """Print top-1 and top-5 accuracy."""
    import torch

    from mmlearn.text_for_vision.zero_shot import (
        default_templates,
        prompts,
        top_k_accuracy,
        zero_shot_weights,
    )

    for template in args.template or ():
        prompts("thing", [template])                                # refuse it before the model is fetched
    pictures = classified(args)
    classes = sorted({name for _, name in pictures})
    if len(classes) < 2:
        raise ValueError(f"{args.data} has one class, {classes[0]!r}; give pictures of two or more")
    ready = open_dual(args)
    templates = args.template or default_templates(ready.tokeniser)
    check_words(ready.tokeniser, args.weights, classes, "a class")
    check_words(ready.tokeniser, args.weights, prompts(classes[0], templates), "--template")
    say_drawings_only(args.weights)
    weights = zero_shot_weights(ready.model, ready.tokeniser, classes, templates).cpu()
    scores = embedded(ready, [path for path, _ in pictures]) @ weights.T
    labels = torch.tensor([classes.index(name) for _, name in pictures])
    found = {f"top-{k}": top_k_accuracy(scores, labels, k) for k in (1, 5) if k < len(classes)}
    show({**found, "images": len(pictures), "classes": len(classes)}, args.json)


def captioned(args: argparse.Namespace) -> "list[CaptionRecord]":
    """The pictures of DATA with their captions."""
    from mmlearn.data.captioned_files import read_captions
    from mmlearn.data.coco import CocoCaptions, read_karpathy

    if args.data.suffix.lower() != ".json" or args.data.is_dir():
        if args.split or args.skip_incomplete:
            raise ValueError(f"{'--split' if args.split else '--skip-incomplete'} is for a JSON file, which "
                             f"{args.data} is not; leave it out")
        return read_captions(args.data, args.images)
    images = folder_of(args)
    if args.split:
        return read_karpathy(images, args.data, args.split, skip_incomplete=args.skip_incomplete)
    return CocoCaptions(images, args.data, skip_incomplete=args.skip_incomplete).records


def classified(args: argparse.Namespace) -> list[tuple[Path, str]]:
    """The pictures of DATA, each with the name of its class."""
    from mmlearn.data.captioned_files import read_captions
    from mmlearn.data.coco import read_classes

    if args.data.is_dir():
        folders = sorted(path for path in args.data.iterdir() if path.is_dir() and path.name[0] != ".")
        if not folders:
            raise ValueError(f"{args.data} holds no folders; give one folder a class, named like the class")
        return [(path, folder.name.replace("_", " ")) for folder in folders for path in images_in(folder)]
    if args.data.suffix.lower() == ".json":
        return read_classes(folder_of(args), args.data)
    records = read_captions(args.data, args.images, "label")
    if twice := next((record for record in records if len(set(record.captions)) > 1), None):
        raise ValueError(f"{args.data} gives {twice.path.name} the labels {', '.join(twice.captions)}; to be "
                         f"classified, a picture has one")
    return [(record.path, record.captions[0]) for record in records]


def folder_of(args: argparse.Namespace) -> Path:
    """--images, which a JSON file needs."""
    if args.images is None:
        raise ValueError(f"{args.data} does not say where its pictures are; give --images DIR")
    return args.images


def embedded(ready: Any, paths: Sequence[Path]) -> Any:
    """Unit embeddings (n, e) of pictures, prepared as the checkpoint asks for; one that cannot be read is an
    error."""
    import torch

    from mmlearn.data.images import preprocess, read_image
    from mmlearn.nn.modes import eval_mode
    from mmlearn.progress import Progress

    rows = []
    with eval_mode(ready.model) as device, torch.no_grad(), Progress(len(paths), "images", sys.stderr,
                                                                     shown=len(paths) > BATCH) as bar:
        for start in range(0, len(paths), BATCH):
            batch = torch.stack([preprocess(read_image(path), ready.recipe)
                                 for path in paths[start:start + BATCH]])
            rows.append(ready.model.encode_image(batch.to(device), normalise=True).float().cpu())
            bar.update(min(start + BATCH, len(paths)))
    return torch.cat(rows)


def show(found: Mapping[str, float | int], as_json: bool) -> None:
    """Print numbers, as a table or as JSON."""
    if as_json:
        print(json.dumps({name: round(value, 4) for name, value in found.items()}))
        return
    for name, value in found.items():
        print(f"{name:<26}{value:>8}" if isinstance(value, int) else f"{name:<26}{value:8.3f}")
