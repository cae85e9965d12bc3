"""``mmlearn data scenes``: write the scene world as a COCO folder. ``mmlearn data coco``: download COCO
itself."""

import argparse
import json
import sys
import time
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

from mmlearn.data.download import COCO_SPLITS, download_coco
from mmlearn.progress import Progress

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
        "Write images, instances, captions, questions and referring expressions of the scene world as a COCO "
        "folder. "
        "The same numbers give the same files; an interrupted run goes on where it stopped."),
        epilog="example: mmlearn data scenes --out data/scenes --images 2000 --size 64")
    scenes.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="folder to write, new or made by this command")
    scenes.add_argument("--images", type=int, required=True, metavar="N", help="number of images")
    scenes.add_argument("--size", type=int, default=64, metavar="PX",
                        help="width and height, 16 to 1024 (default 64)")
    scenes.add_argument("--split", default="train",
                        help="train, val, test, compositional or zero_shot (default train)")
    scenes.add_argument("--seed", type=int, default=0, metavar="N",
                        help="another seed, another world (default 0)")
    scenes.add_argument("--style", default="normal",
                        help="drawing style, e.g. sketch, night (default normal)")
    scenes.add_argument("--workers", type=int, default=1, metavar="N", help="processes that draw (default 1)")
    scenes.add_argument("--force", action="store_true", help="replace scenes of this split that differ")
    scenes.add_argument("--json", action="store_true", help="print what was written as JSON")
    scenes.set_defaults(run=run_scenes)
    coco = kinds.add_parser("coco", help="download COCO and unpack it", description=(
        "Download images and annotations of COCO, resuming what broke off and checking what arrived, and "
        "unpack them."),
        epilog="example: mmlearn data coco --out data/coco --split val2017")
    coco.add_argument("--out", type=Path, required=True, metavar="DIR",
                      help="folder for images and annotations")
    coco.add_argument("--split", default="val2017",
                      help=f"one of {', '.join(COCO_SPLITS)} (default val2017, 1 GB)")
    coco.add_argument("--keep", action="store_true", help="keep the downloaded archives")
    coco.add_argument("--json", action="store_true", help="print what was written as JSON")
    coco.set_defaults(run=run_coco)


def run_scenes(args: argparse.Namespace) -> None:
    """Write scenes; see ``mmlearn data scenes --help``."""
    from mmlearn.data.scenes.export import Recipe, export_coco

    for name, most in (("images", 10**7), ("workers", 256)):
        value = getattr(args, name)
        if not 1 <= value <= most:
            raise ValueError(f"--{name} is {value}; take 1 {'or more' if value < 1 else f'to {most}'}")
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed is {args.seed}; take 0 to {2**32 - 1}")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"--out {args.out} is a file; give a folder, new or made by this command")
    begun = time.perf_counter()
    with closing(_Bars("scene")) as bars:
        folder = export_coco(args.out, args.images, args.size, args.split, args.seed, args.style,
                             force=args.force, workers=args.workers, progress=partial(bars, "drawing"))
    seconds = time.perf_counter() - begun
    recipe = asdict(Recipe(args.images, args.size, args.split, args.seed, args.style))
    files = {name: str(folder / "annotations" / f"{name}_{args.split}.json")
             for name in ("instances", "captions", "questions", "referring")}
    if args.json:
        print(json.dumps({"folder": str(folder), "images": str(folder / "images"), **files, "recipe": recipe,
                          "seconds": round(seconds, 3)}, indent=2))
    else:
        print(f"{args.images} images in {folder / 'images'}, annotations in {folder / 'annotations'} "
              f"({seconds:.1f} s)")


def run_coco(args: argparse.Namespace) -> None:
    """Download COCO; see ``mmlearn data coco --help``."""
    with closing(_Bars("B")) as bars:
        folder = download_coco(args.out, args.split, bars, keep_archives=args.keep)
    if args.json:
        print(json.dumps({"folder": str(folder), "split": args.split,
                          "content": sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))},
                          indent=2))
    else:
        print(f"COCO {args.split} is in {folder}")


class _Bars:
    """A progress bar on stderr for each task in turn, shown once the task says how far it is."""

    def __init__(self, unit: str) -> None:
        self.unit, self.what = unit, ""
        self.bar: Progress | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if self.bar is None or what != self.what:
            self.close()
            unit = "file" if what.startswith("unpacking") else self.unit
            self.what, self.bar = what, Progress(total, what, sys.stderr, unit=unit)
        self.bar.update(done)

    def close(self) -> None:
        """Leave the last bar behind as one line."""
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
