"""``mmlearn edit``: draw a part of a picture anew, as a sentence says; all other pixels stay as they are."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlearn.cli.generate import (
    MOST,
    add_diffusion,
    check_place,
    diffusion_options,
    say_what_is_not_read,
    write_picture,
)

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT = "glide"
WHITE = 128             # a pixel of the mask that is so bright, or brighter, is to be redrawn
EXAMPLES = """examples:
  mmlearn edit house.png --mask sky.png "a blue house at night" --out night.png
  mmlearn edit house.png --mask door.png "a red car in the snow" --samples 4 --seed 7 --out car.png
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmlearn edit``."""
    parser.epilog = EXAMPLES
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="as large as the model draws")
    parser.add_argument("text", metavar="TEXT", help="what the whole picture shall show")
    parser.add_argument("--mask", type=Path, required=True, metavar="MASK",
                        help="a picture of the same size: what is white in it is drawn anew, what is black "
                             "stays")
    parser.add_argument("--model", "--weights", "--checkpoint", dest="model", default=DEFAULT, metavar="NAME",
                        help=f"a saved diffusion model, or {DEFAULT}, that of the book, where it came with "
                             f"this copy (default {DEFAULT})")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="how many pictures (default 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="the same seed draws the same pictures (default 0)")
    add_diffusion(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png",
                        help="the picture; of several FILE-0.png, FILE-1.png …")
    parser.add_argument("--json", action="store_true", help="one JSON list, an entry a picture")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Edit a picture; see ``mmlearn edit --help``."""
    places = plan(args)
    picture, hole = read_both(args.picture, args.mask)
    from mmlearn.text2image.painting import Painter, open_drawer

    model = open_drawer(args.model)
    if not isinstance(model, Painter):
        raise ValueError(f"{args.model} is a {model.system}, which draws whole pictures only; give a "
                         f"diffusion model")
    options = diffusion_options(args, model)
    if not model.base.config.inpaint:
        print(f"{args.model} was not trained to fill holes; what it draws is only corrected by the picture "
              f"around it", file=sys.stderr)
    say_what_is_not_read(args.model, model, [args.text])
    size = model.config.size
    if (wide := picture.shape[2], high := picture.shape[1]) != (size, size):
        raise ValueError(f"{args.picture} is {wide} x {high} pixels, {args.model} edits {size} x {size}; "
                         f"resize it and the mask")
    found: list[dict[str, Any]] = []
    for i, drawn in enumerate(model.edit(picture, hole, args.text, args.samples, args.seed, **options)):
        write_picture(places[i], drawn)
        found.append({"file": str(places[i]), "text": args.text, "sample": i, "seed": args.seed,
                      "redrawn": round(float(hole.float().mean()), 4)})
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for one in found:
        print(f"{one['file']}: {one['text']}, {one['redrawn']:.1%} drawn anew")


def plan(args: argparse.Namespace) -> list[Path]:
    """Where each picture goes. Raises ``ValueError`` before anything is read."""
    if args.samples < 1 or args.samples > MOST:
        raise ValueError(f"--samples is {args.samples}; take 1 to {MOST}")
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed is {args.seed}; take 0 to {2**32 - 1}")
    if args.out.suffix.lower() != ".png":
        raise ValueError(f"--out is {str(args.out)[:80]}; pictures are PNG files, give a name that ends in "
                         f".png")
    places = ([args.out] if args.samples == 1 else
              [args.out.with_stem(f"{args.out.stem}-{i}") for i in range(args.samples)])
    for place in places:
        check_place(place)
    return places


def read_both(picture: Path, mask: Path) -> "tuple[Tensor, Tensor]":
    """A picture (3, y, x) in [-1, 1] and its hole (y, x), True where it is to be redrawn.

    Raises ``FileNotFoundError`` or ``ValueError`` for what is no picture, for sizes that differ, and for a
    mask without white.
    """
    import numpy as np
    import torch

    from mmlearn.data.images import read_image

    bytes_, colours = (torch.from_numpy(np.array(read_image(path))) for path in (picture, mask))     # y x 3
    grey = colours.float().mean(dim=2)
    if bytes_.shape[:2] != grey.shape:
        raise ValueError(f"{mask} is {grey.shape[1]} x {grey.shape[0]} pixels, {picture} {bytes_.shape[1]} x "
                         f"{bytes_.shape[0]}; give a mask of the picture's size")
    hole = grey >= WHITE
    if not bool(hole.any()):
        raise ValueError(f"{mask} has no white pixel, so that nothing is to be redrawn; paint white what "
                         f"shall be")
    return bytes_.permute(2, 0, 1).float() / 127.5 - 1, hole
