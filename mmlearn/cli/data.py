"""``mmlearn data scenes``: write the scene world as a COCO folder. ``mmlearn data coco``: download COCO itself."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from mmlearn.data.download import COCO_SPLITS, download_coco

EXAMPLES = """examples:
  mmlearn data scenes --out data/scenes --images 2000 --size 64
  mmlearn data scenes --out data/scenes --images 200 --split val
  mmlearn data coco --out data/coco --split val2017
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn data``."""
    parser.epilog = EXAMPLES
    kinds = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    scenes = kinds.add_parser("scenes", help="draw and describe scenes, in COCO's format", description=(
        "Write images, instances, captions, questions and referring expressions of the scene world as a COCO folder. "
        "The same numbers give the same files; an interrupted run goes on where it stopped."),
        epilog="example: mmlearn data scenes --out data/scenes --images 2000 --size 64")
    scenes.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, new or made by this command")
    scenes.add_argument("--images", type=int, required=True, metavar="N", help="number of images")
    scenes.add_argument("--size", type=int, default=64, metavar="PX", help="width and height, 16 to 1024 (default 64)")
    scenes.add_argument("--split", default="train", help="train, val, test, compositional or zero_shot (default train)")
    scenes.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another world (default 0)")
    scenes.add_argument("--style", default="normal", help="drawing style, e.g. sketch, night (default normal)")
    scenes.add_argument("--workers", type=int, default=1, metavar="N", help="processes that draw (default 1)")
    scenes.add_argument("--force", action="store_true", help="replace scenes of this split that differ")
    scenes.add_argument("--json", action="store_true", help="print what was written as JSON")
    scenes.set_defaults(run=run_scenes)
    coco = kinds.add_parser("coco", help="download COCO and unpack it", description=(
        "Download images and annotations of COCO, resuming what broke off and checking what arrived, and unpack them."),
        epilog="example: mmlearn data coco --out data/coco --split val2017")
    coco.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for images and annotations")
    coco.add_argument("--split", default="val2017", help=f"one of {', '.join(COCO_SPLITS)} (default val2017, 1 GB)")
    coco.add_argument("--keep", action="store_true", help="keep the downloaded archives")
    coco.add_argument("--json", action="store_true", help="print what was written as JSON")
    coco.set_defaults(run=run_coco)


def run_scenes(args: argparse.Namespace) -> None:
    """Write scenes; see ``mmlearn data scenes --help``."""
    from mmlearn.data.scenes.export import Recipe, export_coco

    if args.workers < 1:
        raise ValueError(f"--workers is {args.workers}; take 1 or more")
    begun, bar = time.perf_counter(), _Bar("drawing")
    folder = export_coco(args.out, args.images, args.size, args.split, args.seed, args.style, force=args.force,
                         workers=args.workers, progress=lambda done, total: bar(done, total))
    bar.close()
    seconds = time.perf_counter() - begun
    recipe = asdict(Recipe(args.images, args.size, args.split, args.seed, args.style))
    files = {name: str(folder / "annotations" / f"{name}_{args.split}.json")
             for name in ("instances", "captions", "questions", "referring")}
    if args.json:
        print(json.dumps({"folder": str(folder), "images": str(folder / "images"), **files, "recipe": recipe,
                          "seconds": round(seconds, 3)}, indent=2))
    else:
        print(f"{args.images} images in {folder / 'images'}, annotations in {folder / 'annotations'} ({seconds:.1f} s)")


def run_coco(args: argparse.Namespace) -> None:
    """Download COCO; see ``mmlearn data coco --help``."""
    bar = _Bar("")
    folder = download_coco(args.out, args.split, bar.named, keep_archives=args.keep)
    bar.close()
    if args.json:
        print(json.dumps({"folder": str(folder), "split": args.split,
                          "content": sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))}, indent=2))
    else:
        print(f"COCO {args.split} is in {folder}")


class _Bar:
    """A line of progress on stderr, written at most ten times a second and only to a terminal or every tenth part."""

    def __init__(self, what: str) -> None:
        self.what, self.last, self.tenth, self.open = what, 0.0, -1, False

    def named(self, what: str, done: int, total: int) -> None:
        if what != self.what:
            self.close()
            self.what, self.tenth = what, -1
        self(done, total)

    def __call__(self, done: int, total: int) -> None:
        now, tenth = time.monotonic(), 10 * done // total if total else done >> 26
        if sys.stderr.isatty():
            if now - self.last < 0.1 and done != total:
                return
            print(f"\r{self.what}: {done}{f' of {total}' if total else ''}", end="", file=sys.stderr, flush=True)
            self.open = True
        elif tenth != self.tenth:
            print(f"{self.what}: {done}{f' of {total}' if total else ''}", file=sys.stderr, flush=True)
        self.last, self.tenth = now, tenth

    def close(self) -> None:
        if self.open:
            print(file=sys.stderr)
            self.open = False
