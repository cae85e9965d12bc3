"""``mmlearn caption``: say what is on an image, with a miniature of the book or one that you have trained."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from mmlearn.cli.pictures import add_links, images_in, readable
from mmlearn.files import read_json, write_atomically

MINIATURES = ("m2-regions", "captioner-grid")
BATCH = 16
MOST = 100              # hypotheses
COCO_NAME = re.compile(r"(?:^|_)([0-9]{12})$")      # COCO_val2014_000000391895
EXAMPLES = """examples:
  mmlearn caption data/scenes-sample/images/train_000003.png
  mmlearn caption photo.jpg --checkpoint runs/coco
  mmlearn caption a.png b.png --checkpoint runs/m2 --beam 5 --json
  mmlearn caption val2014 --annotations captions_val2014.json --checkpoint runs/coco --out results.json
  mmlearn evaluate captions captions_val2014.json results.json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn caption``."""
    parser.epilog = EXAMPLES
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE",
                        help="JPEG or PNG files, or folders of them")
    parser.add_argument("--annotations", type=Path, metavar="FILE",
                        help="a COCO file: caption the images that it lists, which lie in the one folder "
                             "given")
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="write the captions as COCO results, which mmlearn evaluate captions reads; "
                             "image ids are those of --annotations, else COCO's number in the name of the "
                             "file, else the name")
    parser.add_argument("--checkpoint", "--weights", default=MINIATURES[0], metavar="DIR",
                        help="the --out folder of mmlearn train, or a miniature of the book: m2-regions "
                             "(default) or captioner-grid")
    parser.add_argument("--beam", type=int, default=5, metavar="K",
                        help="hypotheses (default 5; 1 is greedy)")
    parser.add_argument("--max-len", type=int, default=24, metavar="T", help="most words (default 24)")
    add_links(parser)
    parser.add_argument("--json", action="store_true",
                        help="one JSON list, with all hypotheses and their log-probabilities")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Caption images; see ``mmlearn caption --help``."""
    from mmlearn.data.images import PictureFiles
    from mmlearn.image2text.saved import load_captioner

    if not 1 <= args.beam <= MOST or args.max_len < 1:
        raise ValueError(f"--beam is {args.beam} and --max-len {args.max_len}; take 1 to {MOST} hypotheses "
                         f"and 1 word or more")
    if args.out is not None:
        check_results(args.out)
    wanted = chosen(args)
    saved = load_captioner(args.checkpoint)
    if args.checkpoint in MINIATURES or saved.about.get("data") == "scenes":
        print(f"{args.checkpoint} knows the drawn scenes of the book only, and no photographs",
              file=sys.stderr)
    pictures = PictureFiles(list(wanted), saved.feature_extractor.size)
    saved.feature_extractor.inputs(pictures)            # refuse a model without eyes before all else
    if len(wanted) == 1:
        pictures.rows([0])                              # the only picture: what is wrong with it is the error
    found = captions_of(saved, pictures, args.beam, args.max_len)
    if not found:
        raise ValueError(f"none of the {len(wanted)} images can be read; give JPEG or PNG files")
    if args.out is not None:
        results = [{"image_id": wanted[Path(one["image"])], "caption": one["caption"]} for one in found]
        write_atomically(args.out, json.dumps(results) + "\n")
        print(f"{len(results)} captions in {args.out}", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    elif args.out is None or len(found) == 1:
        for one in found:
            print(one["caption"] if len(found) == 1 else f"{one['image']}: {one['caption']}")


def captions_of(saved: Any, pictures: Any, k: int, max_len: int) -> list[dict[str, Any]]:
    """The caption of each picture that can be read, with all hypotheses, best first."""
    import torch

    from mmlearn.generate import beam
    from mmlearn.image2text.saved import look_at
    from mmlearn.image2text.training import encode
    from mmlearn.progress import Progress

    found, place = [], {path: i for i, path in enumerate(pictures.paths)}
    max_len = min(max_len, saved.model.config.max_len)
    with torch.no_grad(), Progress(len(place), "captions", sys.stderr, unit="picture",
                                   shown=len(place) > BATCH) as bar:
        for start in range(0, len(place), BATCH):
            part = [path for path, _ in readable(pictures.paths[start:start + BATCH],
                                                 lambda path: pictures.rows([place[path]]))]
            if part:
                context = encode(saved.model, *look_at(saved, pictures, [place[path] for path in part]))
                tokens, log_probs = beam(saved.model, context, k=k, max_len=max_len)
                for path, rows, scores in zip(part, tokens, log_probs.sum(-1)):
                    hypotheses = [
                        {"caption": saved.tokeniser.decode(row), "log_probability": round(float(score), 4)}
                        for row, score in zip(rows, scores)]
                    found.append({"image": str(path), **hypotheses[0], "hypotheses": hypotheses})
            bar.update(min(start + BATCH, len(place)))
    return found


def chosen(args: argparse.Namespace) -> dict[Path, int | str]:
    """The files to caption, with their ids in a table of results."""
    if args.annotations is not None:
        if len(args.images) != 1 or not args.images[0].is_dir():
            raise ValueError("--annotations lists images of one folder; give that folder, and nothing else")
        return listed(args.annotations, args.images[0])
    names: dict[Path, str] = {}
    for given in args.images:
        if given.is_dir():
            names |= {path: str(path.relative_to(given)) for path in images_in(given, args.follow_links)}
        else:
            names[given] = given.name
    numbers = {path: int(digits[1]) for path in names if (digits := COCO_NAME.search(path.stem))}
    if len(set(numbers.values())) == len(names):
        return dict(numbers)
    if args.out is not None and len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise ValueError(f"two images are called {twice}, and --out could not tell them apart; caption one "
                         f"folder at a time")
    return dict(names)


def listed(annotations: Path, folder: Path) -> dict[Path, int | str]:
    """The files of a folder that a COCO file lists, with their ids there."""
    from mmlearn.data.coco import inside
    from mmlearn.data.coco_files import file_name, image_records, read_lists

    rows = image_records(read_lists(annotations, "images"), annotations, file_name=file_name)
    if not rows:
        raise ValueError(f"{annotations} lists no image; give a COCO annotation file")
    found: dict[Path, int | str] = {inside(folder, row["file_name"], str(annotations)): i
                                    for i, row in rows.items()}
    if len(found) < len(rows):
        raise ValueError(f"{annotations} lists a file twice; each may stand there once")
    return found


def check_results(path: Path) -> None:
    """Raises ``ValueError`` if ``path`` is there and holds anything but results, which may be replaced."""
    if not path.exists():
        return
    remedy = "give --out another name"
    rows = read_json(path, list, remedy) if path.is_file() else [None]
    if not all(isinstance(row, dict) and {"image_id", "caption"} == row.keys() for row in rows):
        raise ValueError(f"{path} holds something else than results of mmlearn caption; {remedy}")
