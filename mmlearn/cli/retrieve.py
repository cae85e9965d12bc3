"""``mmlearn retrieve``: the images of a folder that fit a text, or the lines of a file that fit an image."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mmlearn.cli.classify import add_weights, read_lines

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
BATCH = 64
EXAMPLES = """examples:
  mmlearn retrieve holiday/ "a dog on the beach" "sunset over the sea" --top 3
  mmlearn retrieve --image photo.jpg --captions sentences.txt --json
  mmlearn retrieve data/scenes-sample/images "a red car" --weights clip-mini-resnet
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
    add_weights(parser)
    parser.add_argument("--top", type=int, default=5, metavar="K",
                        help="how many answers to print (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON list, an entry a question")
    parser.set_defaults(run=run)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder and of those in it, in the order of their names."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give a folder of images")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise FileNotFoundError(f"{folder} holds no images ({', '.join(sorted(ENDINGS))}); give another "
                                f"folder")
    return found


def run(args: argparse.Namespace) -> None:
    """Find images or lines; see ``mmlearn retrieve --help``."""
    import torch

    from mmlearn.pretrained.dual_encoders import open_model

    _check(args)
    answers: list[Any] = read_lines(args.captions) if args.image else images_in(args.folder)
    if not answers:
        raise ValueError(f"{args.captions} holds no line; give one caption a line")
    ready = open_model(args.weights, **({"activation": args.activation} if args.activation else {}))
    ready.model.to("cuda" if torch.cuda.is_available() else "cpu")
    if args.image:
        questions, (u, _) = [str(args.image)], _look(ready, [args.image])
        scores = u @ _read(ready, answers).T
    else:
        questions, (u, answers) = args.texts, _look(ready, answers)
        scores = _read(ready, questions) @ u.T
    name = "text" if args.image else "image"
    found: list[dict[str, Any]] = []
    for question, row in zip(questions, scores):
        best = row.topk(min(args.top, len(answers)))
        found.append({"image" if args.image else "text": question, "answers": [
            {name: str(answers[i]), "cosine": round(s, 4)} for s,
            i in zip(best.values.tolist(), best.indices.tolist())]})
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
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
    elif args.folder is None or not args.texts:
        raise ValueError("nothing to look for; give a FOLDER and one or more TEXTs, or --image and "
                         "--captions")
    elif any(not text.strip() for text in args.texts):
        raise ValueError("a TEXT is empty; say what to look for")


def _look(ready: Any, paths: list[Path]) -> tuple[Any, list[Path]]:
    """Unit embeddings of images, and the files that could be read; of several, broken ones are named and left
    out."""
    import torch

    from mmlearn.data.images import preprocess, read_image
    from mmlearn.progress import Progress

    device = next(ready.model.parameters()).device
    readable, rows = [], []
    with Progress(len(paths), "images", sys.stderr, shown=len(paths) > BATCH) as bar:
        for start in range(0, len(paths), BATCH):
            batch = []
            for path in paths[start:start + BATCH]:
                try:
                    batch.append(preprocess(read_image(path), ready.recipe))
                    readable.append(path)
                except ValueError as error:
                    if len(paths) == 1:
                        raise
                    print(f"left out: {error}", file=sys.stderr)
            if batch:
                with torch.no_grad():
                    rows.append(
                        ready.model.encode_image(torch.stack(batch).to(device), normalise=True).float().cpu()
                    )
            bar.update(min(start + BATCH, len(paths)))
    if not rows:
        raise ValueError(f"none of the {len(paths)} images can be read; give JPEG or PNG files")
    return torch.cat(rows), readable


def _read(ready: Any, texts: list[str]) -> Any:
    """Unit embeddings of texts."""
    import torch

    device = next(ready.model.parameters()).device
    tokens = ready.tokeniser.batch(texts, getattr(ready.model.config, "context", None))
    with torch.no_grad():
        return torch.cat([ready.model.encode_text(part.to(device), normalise=True).float().cpu()
                          for part in tokens.split(256)])
