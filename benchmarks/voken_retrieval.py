"""How fast and how large: the most relevant of 50,000 pictures for each of 16,384 tokens, 64 numbers each.

    python benchmarks/voken_retrieval.py                    # clock time
    python benchmarks/voken_retrieval.py --cpu-time         # processor time, for a busy machine
    python benchmarks/voken_retrieval.py --memory           # by how much one search makes a process grow

What is compared, all exact:

- "mmlearn": ``nearest_images``, which keeps the largest relevance of each block of pictures and looks for its
  place in the block that wins.
- "faiss IP", "faiss L2": faiss' ``IndexFlatIP`` and ``IndexFlatL2`` (the index of the released code), whose
  pictures are added before the clock starts; on unit vectors both find the same.
- "one product": all relevances at once and ``argmax``, as a formula would be typed (its memory grows with the
  number of tokens; at most 2,048 are given to it at a time).

The pictures found are compared before anything is timed. A ratio is peer over mmlearn: above 1 mmlearn is
faster or smaller (the goal, mmlearn over peer, stands in brackets).
"""

import argparse
import json
from collections.abc import Callable

import measuring
import torch
import torch.nn.functional as F
from torch import Tensor

from mmlearn.images_for_language.vokenizer import PAPER_IMAGES, nearest_images, voken_of

WAYS = ("mmlearn", "faiss IP", "faiss L2", "one product")
TASK, GOAL = "search", 1.0
AT_ONCE = 2048


def inputs(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Tokens and pictures on the unit sphere, each token near one of the pictures."""
    torch.manual_seed(0)
    keys = F.normalize(torch.randn(args.images, args.width, device=args.device), dim=1)
    near = keys[torch.randint(args.images, (args.tokens,), device=args.device)]
    noise = torch.randn(args.tokens, args.width, device=args.device) / args.width**0.5
    return F.normalize(near + noise, dim=1), keys


def prepared(way: str, f: Tensor, g: Tensor) -> Callable[[], Tensor]:
    """A function that finds the pictures in one of the ways."""
    if way == "mmlearn":
        return lambda: nearest_images(f, g)
    if way == "one product":
        return lambda: torch.cat([voken_of(part, g) for part in f.split(AT_ONCE)])
    import faiss

    index = (faiss.IndexFlatIP if way == "faiss IP" else faiss.IndexFlatL2)(g.shape[1])
    index.add(g.numpy())
    queries = f.numpy()
    return lambda: torch.from_numpy(index.search(queries, 1)[1][:, 0])


def compare(f: Tensor, g: Tensor, ways: dict[str, Callable[[], Tensor]]) -> None:
    """Refuse ways that find a less relevant picture; of pictures as relevant to 6 digits any will do."""
    found = {way: run() for way, run in ways.items()}
    ours = (f * g[found.pop("mmlearn")]).sum(dim=1)
    for way, places in found.items():
        theirs = (f * g[places]).sum(dim=1)
        assert float((theirs - ours).abs().max()) < 1e-6, way


def offered(args: argparse.Namespace) -> tuple[str, ...]:
    """The ways that there are on this device: faiss-cpu has none for others."""
    return tuple(way for way in WAYS if args.device == "cpu" or not way.startswith("faiss"))


def set_threads(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    if args.device == "cpu":
        import faiss

        faiss.omp_set_num_threads(args.threads)


def one_memory(way: str, args: argparse.Namespace) -> int:
    """By how many bytes one search makes this process, or its share of the device, grow."""
    f, g = inputs(args)
    prepared(way, f[:64].clone(), g[:64].clone())()         # what every call needs is not counted
    run = prepared(way, f, g)
    if args.device == "cpu":
        measuring.forget_peak()
    return measuring.growth(run, args.device)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--images", type=int, default=PAPER_IMAGES)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--task", default=TASK, choices=(TASK,))
    measuring.add_common(parser, repeats=3)
    args = parser.parse_args()
    set_threads(args)
    if args.child:
        print(one_memory(args.child, args))
        return
    if args.memory:
        names = ("tokens", "images", "width", "threads", "device")
        found = measuring.growth_of({TASK: offered(args)}, __file__, args, names)
        what, shown = "growth by one search", measuring.megabytes
    else:
        f, g = inputs(args)
        ways = {way: prepared(way, f, g) for way in offered(args)}
        compare(f, g, ways)
        found = {TASK: measuring.in_turns(measuring.synchronised(ways, args.device), args)}
        what, shown = f"{measuring.unit(args)}, median of {args.repeats}", measuring.seconds
    if args.json:
        print(json.dumps(found, indent=1))
        return
    about = f"{args.tokens:,} tokens, {args.images:,} pictures x {args.width}"
    print(f"{about}, {measuring.setting(args)}; {what}")
    measuring.print_rows(found, (8, 14), shown, lambda way, share: "" if way == "mmlearn" else
                         f"   (mmlearn / peer {1 / max(share, 1e-9):.2f}, goal {GOAL})")


if __name__ == "__main__":
    main()
