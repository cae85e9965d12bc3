"""How fast and how large: files of word vectors read and written, against gensim.

    python benchmarks/word_vectors.py                           # clock time, 400,000 words of 300 numbers
    python benchmarks/word_vectors.py --words 20000 --cpu-time  # processor time, for a busy machine
    python benchmarks/word_vectors.py --memory                  # by how much reading makes a process grow

"read text", "read binary": the file of gensim by ``read_vectors`` and by
``KeyedVectors.load_word2vec_format``. "write text", "write binary": ``write_vectors`` and
``save_word2vec_format``. What is read is compared, and so are the bytes that are written, before anything
is timed.

A ratio is peer over mmlearn: above 1 mmlearn is faster.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import measuring
import numpy as np
import torch

from mmlearn.data.word_vectors import WordVectors, read_vectors, write_vectors

TASKS = ("read text", "read binary", "write text", "write binary")
WAYS = ("mmlearn", "gensim")
NAMES = {"text": "v.txt", "binary": "v.bin"}


def some_vectors(args: argparse.Namespace) -> WordVectors:
    """Vectors of as many words as are asked for."""
    words = tuple(f"word{i}" for i in range(args.words))
    g = torch.Generator().manual_seed(0)
    return WordVectors(words, torch.randn(args.words, args.dim, generator=g) / 3)


def prepared(task: str, way: str, folder: Path, vectors: WordVectors) -> Callable[[], object]:
    """A function that reads or writes in one of the ways; the file to be read is made."""
    from gensim.models import KeyedVectors

    verb, kind = task.split()
    binary = kind == "binary"
    if verb == "read":
        path = folder / NAMES[kind]
        if not path.exists():
            write_vectors(path, vectors)
        if way == "mmlearn":
            return lambda: read_vectors(path)
        return lambda: KeyedVectors.load_word2vec_format(str(path), binary=binary)
    path = folder / f"{way}-{NAMES[kind]}"
    if way == "mmlearn":
        return lambda: write_vectors(path, vectors)
    theirs = KeyedVectors(vectors.width)
    theirs.add_vectors(list(vectors.words), vectors.vectors.numpy())
    return lambda: theirs.save_word2vec_format(str(path), binary=binary)


def compare(task: str, ways: dict[str, Callable[[], object]], folder: Path) -> None:
    """Refuse ways that read other vectors, or write other bytes."""
    found = {way: run() for way, run in ways.items()}
    verb, kind = task.split()
    if verb == "read":
        ours, theirs = found["mmlearn"], found["gensim"]
        assert list(ours.words) == theirs.index_to_key
        assert np.array_equal(ours.vectors.numpy(), theirs.vectors)
    else:
        a, b = ((folder / f"{way}-{NAMES[kind]}").read_bytes() for way in WAYS)
        assert a == b, task


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--words", type=int, default=400_000)
    parser.add_argument("--dim", type=int, default=300)
    measuring.add_common(parser, repeats=3, device=False)
    args = parser.parse_args()
    args.device = "cpu"
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.child:
            run = prepared(args.task[0], args.child, folder, some_vectors(args))
            measuring.forget_peak()
            print(measuring.growth(run, "cpu"))
            return
        about = f"{args.words:,} words, {args.dim} numbers, {args.threads} threads, torch {torch.__version__}"
        if args.memory:
            found = measuring.growth_of({task: WAYS for task in args.task}, __file__, args,
                                        ("words", "dim", "threads"))
            what, shown = "growth by one call", measuring.megabytes
        else:
            vectors, found = some_vectors(args), {}
            for task in args.task:
                ways = {way: prepared(task, way, folder, vectors) for way in WAYS}
                compare(task, ways, folder)
                found[task] = measuring.in_turns(ways, args)
            what, shown = f"{measuring.unit(args)}, median of {args.repeats}", measuring.seconds
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{about}; {what}")
    measuring.print_rows(found, (13, 8), shown, lambda way, share: "" if way == "mmlearn" else
                         f"   (mmlearn / peer {1 / max(share, 1e-9):.2f})")


if __name__ == "__main__":
    main()
