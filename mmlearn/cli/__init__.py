"""The command line: ``mmlearn COMMAND``.

Each command lives in a module of this package, named in ``COMMANDS``, that offers ``add(parser)``, which adds
its arguments and sets ``parser.set_defaults(run=function)``. ``run(args)`` returns the exit code (None is 0).
Bad input is raised as ``ValueError`` or ``OSError`` with one clear sentence; it is printed on stderr and the
exit code is 2. Results go to stdout, progress to stderr.
"""

import argparse
import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

COMMANDS = {
    "systems": "list every system of the book, its configurations and parameter counts",
    "data": "make the scene world, or download COCO",
    "train": "train a system",
    "evaluate": "score results: captions, boxes, masks, answers, generated pictures, word vectors",
    "caption": "caption an image with a trained captioner",
    "answer": "answer a question about a picture (Flamingo), after examples if some are given",
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
        with ended_softly():
            code = args.run(args) or 0
            sys.stdout.flush()                          # else it is Python's end that finds no room for it
            return code
    except BrokenPipeError:
        discard_output()
        return 0
    except (ValueError, OSError) as error:
        print(f"mmlearn {args.command}: {sentence(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_full(error):
            raise
        print(f"mmlearn {args.command}: this takes more memory than the machine has; give less at once, or "
              f"make the model smaller", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"mmlearn {args.command}: interrupted", file=sys.stderr)
        return 130


@contextmanager
def ended_softly() -> Iterator[None]:
    """Within this block the signal that ends a process (``kill``) is an exception, as Ctrl-C is, so that
    nothing half written stays. Another thread than the main one may not say so."""
    ours = (threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def sentence(error: ValueError | OSError) -> str:
    """What an error says. One of the system has a number for the reader, and no remedy."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path and its permissions"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:      # a file would have a name
        discard_output()
        return f"the output cannot be written ({error.strerror}); make room, or send it elsewhere"
    return str(error)


def discard_output() -> None:
    """What is still to be printed goes nowhere: it has no place, and Python's end would complain again."""
    with suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_full(error: BaseException) -> bool:
    """Does an error say that memory, or the stack, is full? PyTorch says so in words."""
    return isinstance(error, (MemoryError, RecursionError)) or any(
        words in str(error) for words in ("DefaultCPUAllocator", "out of memory"))


def refuse_empty(argv: Sequence[str]) -> None:
    """Raises ``ValueError`` for an empty argument: as a path it would be the folder one stands in."""
    for before, argument in zip(["", *argv], argv):
        option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        if not value.strip() and (equals or not option):
            name = option or (before if before.startswith("--") else "an argument")
            raise ValueError(f"{name} is empty; give it a value, or leave it out")
        if "\0" in argument:
            raise ValueError(f"{argument!r} holds a character that no name of a file can have; leave it out")
