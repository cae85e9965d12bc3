"""How fast and how large: a step of GloVe's full-batch AdaGrad on the counts of a corpus, against mittens.

    python benchmarks/glove.py                      # clock time
    python benchmarks/glove.py --cpu-time           # processor time, for a busy machine
    python benchmarks/glove.py --memory             # by how much a training makes a process grow

The corpus is drawn: words by Zipf's law, each after one that it goes with half of the time; its counts,
of a window of 10 words with weights 1/distance, are made by mmlearn and given to both. "mmlearn" is
``train_glove`` with ``updates="all"`` in float32, "mmlearn float64" the same in double precision,
"mittens" is ``mittens.GloVe`` (NumPy, double precision, on the whole table). A training of few steps is
timed, with what it prepares. All begin with the same numbers; their vectors are compared before anything
is timed. mmlearn computes at the counts that are not zero alone, mittens in every cell of the table.

A ratio is peer over mmlearn; the goal, mmlearn over peer at most 1, stands in brackets.
"""

import argparse
import json
from collections.abc import Callable

import measuring
import numpy as np
import torch

from mmlearn.data.vocabulary import Text
from mmlearn.images_for_language.glove import Counts, GloVe, GloVeConfig, cooccurrence, train_glove

WAYS = ("mmlearn", "mmlearn float64", "mittens")
GOAL = 1.0


def corpus_counts(words: int, tokens: int, window: int = 10) -> Counts:
    """The counts of a corpus of sentences of 20 words."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, words + 1)
    ids = rng.choice(words, tokens, p=share / share.sum())
    follows = rng.permutation(words)
    pairs = rng.random(tokens) < 0.5
    ids[1:] = np.where(pairs[1:], follows[ids[:-1]], ids[1:])
    text = Text(torch.from_numpy(ids), torch.arange(tokens) // 20)
    return cooccurrence(text, words, window)


def model(args: argparse.Namespace, dtype: torch.dtype) -> GloVe:
    """A model with numbers of its own, the same each time."""
    torch.manual_seed(0)
    config = GloVeConfig(args.words, args.dim, epochs=args.steps, updates="all", accumulator=0.1)
    return GloVe(config).to(dtype)


def prepared(way: str, counts: Counts, args: argparse.Namespace) -> Callable[[], np.ndarray]:
    """A training in one of the ways, which returns the sums of both vectors of each word."""
    if way == "mittens":
        from mittens import GloVe as Mittens

        table, start = counts.dense().numpy(), model(args, torch.float64)

        def theirs() -> np.ndarray:
            W, C, b, b_c = (p.detach().numpy().copy() for p in (start.W, start.C, start.b, start.b_c))
            peer = Mittens(n=args.dim, max_iter=args.steps, display_progress=0, test_mode=True)
            return peer.fit(table, fixed_initialization={"W": W, "C": C, "bw": b[:, None],
                                                         "bc": b_c[:, None]})
        return theirs
    dtype = torch.float64 if way.endswith("64") else torch.float32

    def ours() -> np.ndarray:
        trained = train_glove(None, model=model(args, dtype), counts=counts, progress=False).model
        return (trained.W + trained.C).detach().double().numpy()
    return ours


def compare(ways: dict[str, Callable[[], np.ndarray]]) -> None:
    """Refuse ways whose vectors differ."""
    results = {way: run() for way, run in ways.items()}
    want = results["mittens"]
    scale = np.abs(want).max()
    assert np.abs(results["mmlearn float64"] - want).max() < 1e-9 * scale
    assert np.abs(results["mmlearn"] - want).max() < 1e-3 * scale


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--words", type=int, default=4000)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--task", nargs="+", default=["train"], help=argparse.SUPPRESS)
    measuring.add_common(parser, repeats=3, device=False)
    args = parser.parse_args()
    args.device = "cpu"
    torch.set_num_threads(args.threads)
    counts = corpus_counts(args.words, args.tokens)
    if args.child:
        run = prepared(args.child, counts, args)
        small = argparse.Namespace(words=20, dim=args.dim, steps=1)
        prepared(args.child, corpus_counts(20, 400), small)()           # what every call needs is not counted
        measuring.forget_peak()
        print(measuring.growth(run, "cpu"))
        return
    about = (f"{args.words:,} words, {len(counts):,} counts ({len(counts) / args.words**2:.1%} of the "
             f"table), {args.dim} numbers, {args.steps} steps, {args.threads} threads, torch "
             f"{torch.__version__}")
    if args.memory:
        found = measuring.growth_of({"train": WAYS}, __file__, args,
                                    ("words", "tokens", "dim", "steps", "threads"))
        what, shown = "growth by one training", measuring.megabytes
    else:
        ways = {way: prepared(way, counts, args) for way in WAYS}
        compare(ways)
        found = {"train": measuring.in_turns(ways, args)}
        what, shown = f"{measuring.unit(args)}, median of {args.repeats}", measuring.seconds
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{about}; {what}")
    measuring.print_rows(found, (6, 16), shown, lambda way, share: "" if way.startswith("mmlearn") else
                         f"   (mmlearn / peer {1 / max(share, 1e-9):.3f}, goal {GOAL})")


if __name__ == "__main__":
    main()
