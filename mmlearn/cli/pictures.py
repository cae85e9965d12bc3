"""The pictures that a command is given: those of a folder, and those among them that can be read."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
T = TypeVar("T")


def add_links(parser: argparse.ArgumentParser) -> None:
    """Add the flag that lets links lead out of a folder."""
    parser.add_argument("--follow-links", action="store_true",
                        help="also pictures and folders that symbolic links outside the folder lead to")


def images_in(folder: Path, follow: bool = False) -> list[Path]:
    """The image files of a folder and of those in it, in the order of their names.

    A link within the folder is as good as a file; one that leads out of it is left out, and stderr says so,
    unless ``follow``. Raises ``FileNotFoundError`` for a folder that is none, or holds no image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give a folder of images")
    root, seen, found, outside = folder.resolve(), set(), [], 0
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_left_out):
        here = Path(place)
        if here.resolve() in seen:                          # a link to a folder above: a circle
            folders.clear()
            continue
        seen.add(here.resolve())
        for name in [name for name in folders if (here / name).is_symlink()]:
            leaves = not (here / name).resolve().is_relative_to(root)
            outside += leaves and not follow
            if not (leaves and follow):                     # within the folder it is listed at its own place
                folders.remove(name)
        for path in (here / name for name in files):
            if path.suffix.lower() not in ENDINGS or not path.is_file():
                continue
            if follow or not path.is_symlink() or path.resolve().is_relative_to(root):
                found.append(path)
            else:
                outside += 1
    if outside:
        print(f"left out: {outside} link{'s' * (outside > 1)} that lead out of {folder}; --follow-links "
              f"takes what they lead to", file=sys.stderr)
    if not found:
        raise FileNotFoundError(f"{folder} holds no images ({', '.join(sorted(ENDINGS))}); give another "
                                f"folder")
    return sorted(found)


def _left_out(error: OSError) -> None:
    print(f"left out: {error}", file=sys.stderr)


def readable(paths: Iterable[Path], read: Callable[[Path], T]) -> Iterator[tuple[Path, T]]:
    """What ``read`` makes of each picture; those that it cannot read, for whatever reason, are named on
    stderr and left out."""
    for path in paths:
        try:
            yield path, read(path)
        except Exception as error:                          # a reader of pictures may raise anything
            said = str(error) or type(error).__name__
            print(f"left out: {said if str(path) in said else f'{path}: {said}'}", file=sys.stderr)
