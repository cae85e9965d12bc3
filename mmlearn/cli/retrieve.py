"""``mmlearn retrieve``: the images of a folder that fit a text, or the lines of a file that fit an image."""

import argparse
import sys
from pathlib import Path
from typing import Any

from mmlearn.cli.dual import add_weights, check_words, open_dual, print_json, read_lines, say_drawings_only
from mmlearn.cli.pictures import add_links, images_in, readable

BATCH = 64
KEEP_EVERY = 8192       # pictures after which an index is written: a killed run loses no more
EXAMPLES = """examples:
  mmlearn retrieve data/scenes-sample/images "a red car" --weights clip-mini-resnet
  mmlearn retrieve holiday/ "a dog on the beach" "sunset over the sea" --top 3 --index holiday.safetensors
  mmlearn retrieve --image photo.jpg --captions sentences.txt --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn retrieve``."""
    parser.epilog = EXAMPLES
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER",
                        help="a folder of images (and the folders in it)")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="what to look for")
    parser.add_argument("--image", type=Path, metavar="IMAGE",
                        help="instead of a folder: the image to find lines for")
    parser.add_argument("--captions", type=Path, metavar="FILE", help="a text file, one caption a line")
    parser.add_argument("--index", type=Path, metavar="FILE",
                        help="keep what the model sees of the folder in this file (.safetensors), and look "
                             "only at pictures that are new or changed")
    add_links(parser)
    add_weights(parser)
    parser.add_argument("--top", type=int, default=5, metavar="K",
                        help="how many answers to print (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON list, an entry a question")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Find images or lines; see ``mmlearn retrieve --help``."""
    from mmlearn.data.images import preprocess, read_image

    _check(args)
    answers: list[Any]
    if args.image:
        lines, picture = read_lines(args.captions), read_image(args.image)
        if not lines:
            raise ValueError(f"{args.captions} holds no line; give one caption a line")
        ready = open_dual(args)
        check_words(ready.tokeniser, args.weights, lines, str(args.captions))
        say_drawings_only(args.weights)
        questions, answers = [str(args.image)], lines
        scores = _embed(ready, [preprocess(picture, ready.recipe)]) @ _read(ready, lines).T
    else:
        paths, questions = images_in(args.folder, args.follow_links), args.texts
        ready = open_dual(args)
        check_words(ready.tokeniser, args.weights, questions, "TEXT")
        u, answers = (_look(ready, paths) if args.index is None else
                      _indexed(ready, args.folder, paths, args.index, args.weights))
        say_drawings_only(args.weights)
        if not answers:
            raise ValueError(f"none of the images in {args.folder} can be read; give JPEG or PNG files")
        scores = _read(ready, questions) @ u.T
    name = "text" if args.image else "image"
    found: list[dict[str, Any]] = []
    for question, row in zip(questions, scores):
        best = row.topk(min(args.top, len(answers)))
        found.append({"image" if args.image else "text": question, "answers": [
            {name: str(answers[i]), "cosine": round(s, 4)} for s,
            i in zip(best.values.tolist(), best.indices.tolist())]})
    if args.json:
        print_json(found)
        return
    for question, one in zip(questions, found):
        if len(found) > 1:
            print(f"{question}:")
        for answer in one["answers"]:
            print(f"{answer['cosine']:7.4f}  {answer[name]}")


def _check(args: argparse.Namespace) -> None:
    if args.top < 1:
        raise ValueError(f"--top is {args.top}; take 1 or more")
    if args.image is not None or args.captions is not None:
        if args.folder is not None or args.image is None or args.captions is None:
            raise ValueError("give a FOLDER and TEXTs, or --image and --captions, not a mixture of them")
        if args.index is not None or args.follow_links:
            raise ValueError("--index and --follow-links are for a FOLDER; leave them out with --image")
    elif args.folder is None or not args.texts:
        raise ValueError("nothing to look for; give a FOLDER and one or more TEXTs, or --image and "
                         "--captions")


def _indexed(ready: Any, folder: Path, paths: list[Path], file: Path,
             weights: str) -> tuple[Any, list[Path]]:
    """Unit embeddings of the images of a folder: those that ``file`` has, and the new ones, which it gets."""
    import torch

    from mmlearn.cli.picture_index import PictureIndex, model_number, name_in, stamp

    model = model_number(ready)
    old = PictureIndex.read(file, model, weights) if file.exists() else None
    have: dict[str, tuple[list[int], Any]] = {} if old is None else {
        name: (s, row) for name, s, row in zip(old.names, old.stamps, old.rows)}
    names = {name_in(folder, path): path for path in paths}
    if have and not have.keys() & names.keys():
        raise ValueError(f"{file} is the index of another folder, none of its {len(have)} pictures is in "
                         f"{folder}; give --index another name")
    fresh = [name for name, path in names.items() if name not in have or have[name][0] != stamp(path)]
    gone = len(have.keys() - names.keys())
    have = {name: have[name] for name in names if name in have and name not in set(fresh)}
    for start in range(0, len(fresh), KEEP_EVERY):
        rows, read = _look(ready, [names[name] for name in fresh[start:start + KEEP_EVERY]])
        have |= {name_in(folder, path): (stamp(path), row) for path, row in zip(read, rows)}
        if have:
            PictureIndex(model, list(have), [s for s, _ in have.values()],
                         torch.stack([row for _, row in have.values()])).write(file)
    print(f"{file}: {len(have)} pictures, {len(fresh)} of them looked at now, {gone} gone", file=sys.stderr)
    ordered = [name for name in names if name in have]
    rows = torch.stack([have[name][1] for name in ordered]) if ordered else torch.empty(0, 1)
    return rows, [names[name] for name in ordered]


def _look(ready: Any, paths: list[Path]) -> tuple[Any, list[Path]]:
    """Unit embeddings of images, and the files that could be read; the others are named and left out."""
    import torch

    from mmlearn.data.images import preprocess, read_image
    from mmlearn.progress import Progress

    looked: list[Path] = []
    rows = []
    with Progress(len(paths), "images", sys.stderr, shown=len(paths) > BATCH) as bar:
        for start in range(0, len(paths), BATCH):
            batch = dict(readable(paths[start:start + BATCH],
                                  lambda path: preprocess(read_image(path), ready.recipe)))
            if batch:
                looked += batch
                rows.append(_embed(ready, list(batch.values())))
            bar.update(min(start + BATCH, len(paths)))
    return torch.cat(rows) if rows else torch.empty(0, 1), looked


def _embed(ready: Any, pictures: list[Any]) -> Any:
    """Unit embeddings of prepared pictures."""
    import torch

    device = next(ready.model.parameters()).device
    with torch.no_grad():
        return ready.model.encode_image(torch.stack(pictures).to(device), normalise=True).float().cpu()


def _read(ready: Any, texts: list[str]) -> Any:
    """Unit embeddings of texts."""
    import torch

    device = next(ready.model.parameters()).device
    tokens = ready.tokeniser.batch(texts, getattr(ready.model.config, "context", None))
    with torch.no_grad():
        return torch.cat([ready.model.encode_text(part.to(device), normalise=True).float().cpu()
                          for part in tokens.split(256)])
