"""The command line: ``mmlearn COMMAND``.

Each command lives in a module of this package, named in ``COMMANDS``, that offers ``add(parser)``, which adds
its arguments and sets ``parser.set_defaults(run=function)``. ``run(args)`` returns the exit code (None is 0).
Bad input is raised as ``ValueError`` or ``OSError`` with one clear sentence; it is printed on stderr and the
exit code is 2. Results go to stdout, progress to stderr.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "systems": "list every system of the book, its configurations and parameter counts",
    "data": "make the scene world, or download COCO",
    "train": "train a system",
    "evaluate": "score results: captions, boxes, masks, answers, generated pictures, word vectors",
    "caption": "caption an image with a trained captioner",
    "classify": "say which of some sentences fits an image best (CLIP)",
    "generate": "draw a picture of a sentence",
    "imagine": "move the codes of a VQGAN until CLIP sees in their picture what a sentence says",
    "edit": "draw a part of a picture anew, as a sentence says",
    "retrieve": "find images by a text, or texts by an image (CLIP)",
    "words": "the words nearest to a word, and analogies, in a file of word vectors",
}


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; with ``only``, the modules of the other commands are not imported."""
    parser = argparse.ArgumentParser(prog="mmlearn", description="Multimodal deep learning, executed.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        sub = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".",
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        if only is None or only == name:
            importlib.import_module(f"mmlearn.cli.{name}").add(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0, or 2 on bad input)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):        # names of files need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    only = next((a for a in argv if not a.startswith("-")), None)
    parser = build_parser(only if only in COMMANDS else None)
    try:
        refuse_empty(argv)
    except ValueError as error:
        print(f"mmlearn {only if only in COMMANDS else ''}".rstrip() + f": {error}", file=sys.stderr)
        return 2
    args = parser.parse_args(argv)
    try:
        return args.run(args) or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"mmlearn {args.command}: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RecursionError) as error:
        print(f"mmlearn {args.command}: {type(error).__name__}: the input is larger than this machine's "
              f"memory; give less at once", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"mmlearn {args.command}: interrupted", file=sys.stderr)
        return 130


def refuse_empty(argv: Sequence[str]) -> None:
    """Raises ``ValueError`` for an empty argument: as a path it would be the folder one stands in."""
    for before, argument in zip(["", *argv], argv):
        option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        if not value.strip() and (equals or not option):
            name = option or (before if before.startswith("--") else "an argument")
            raise ValueError(f"{name} is empty; give it a value, or leave it out")
        if "\0" in argument:
            raise ValueError(f"{argument!r} holds a character that no name of a file can have; leave it out")
