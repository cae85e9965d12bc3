"""How fast and how large: the symmetric contrastive loss of mmlearn against that of open_clip, forward and
backward.

    python benchmarks/contrastive_loss.py                       # 4096 pairs of width 512, float32, two
    threads python benchmarks/contrastive_loss.py --memory --batch 32768

Speed: mmlearn's loss (``fused_clip_loss``), the same without the matrix of logits (``chunked_clip_loss``),
mmlearn's formula left to autograd, and ``open_clip.loss.ClipLoss`` take turns; each turn is a forward and a
backward pass to both embeddings and the scale. Losses and gradients are compared before. A ratio above 1
means that open_clip takes longer. Memory: one pass of each in a process of its own, and by how much the
process grew at most; --only names one.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import measuring
import torch
import torch.nn.functional as F
from torch import Tensor

from mmlearn.text_for_vision.contrastive import fused_clip_loss, logits, symmetric_cross_entropy
from mmlearn.text_for_vision.large_batch import chunked_clip_loss

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def formula(u: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    """The equation as it stands, differentiated by autograd."""
    return symmetric_cross_entropy(logits(u, v, scale))


def losses(peer: bool = True) -> dict[str, Loss]:
    ours: dict[str, Loss] = {"mmlearn": fused_clip_loss, "mmlearn, chunked": chunked_clip_loss,
                             "mmlearn, formula": formula}
    if not peer:
        return ours
    from open_clip.loss import ClipLoss
    return ours | {"open_clip": ClipLoss()}


def inputs(batch: int, width: int) -> list[Tensor]:
    torch.manual_seed(0)
    u, v = (F.normalize(torch.randn(batch, width), dim=1) for _ in range(2))
    return [x.requires_grad_() for x in (u, v, torch.tensor(14.3))]


def turn(loss: Loss, given: list[Tensor]) -> tuple[Tensor, ...]:
    value = loss(*given)
    return value.detach(), *torch.autograd.grad(value, given)


def one_memory(name: str, batch: int, width: int) -> None:
    """Print by how many bytes one pass makes this process grow, and its seconds."""
    loss, given = losses(peer=name == "open_clip")[name], inputs(batch, width)
    turn(loss, inputs(64, width))
    before, start = measuring.grown(), time.perf_counter()
    turn(loss, given)
    print(json.dumps({"bytes": measuring.grown() - before, "seconds": time.perf_counter() - start}))


def memory(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    names = [args.only] if args.only else [*losses()]
    found = {}
    for name in names:
        done = measuring.in_child(__file__, name, args, ("batch", "width", "threads"))
        if done.returncode == 0:                    # killed by the system: one that needs more than there is
            found[name] = json.loads(done.stdout.splitlines()[-1])
        else:
            print(f"{name}: ended with {done.returncode} (-9: out of memory) {done.stderr[-300:]}",
                  file=sys.stderr)
    return found


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--only", help="with --memory: one loss", choices=[*losses(peer=False), "open_clip"])
    measuring.add_common(parser, repeats=7, device=False)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        return one_memory(args.child, args.batch, args.width)
    about = (f"{args.batch} pairs of width {args.width}, float32, {args.threads} threads, "
             f"torch {torch.__version__}")
    if args.memory:
        found, matrix = memory(args), 4 * args.batch**2
        if args.json:
            print(json.dumps({"matrix": matrix, "grown": found}, indent=1))
            return None
        print(f"{about}; a matrix of logits has {matrix / 1e9:.2f} GB")
        for name, row in found.items():
            print(f"  {name:<20} {row['bytes'] / 1e9:8.2f} GB {row['bytes'] / matrix:8.2f} matrices "
                  f"{row['seconds']:8.1f} s")
        return None

    given, tasks = inputs(args.batch, args.width), losses()
    want = turn(tasks["open_clip"], given)
    for loss in tasks.values():
        for a, b in zip(turn(loss, given), want):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    seconds = measuring.in_turns({name: lambda loss=loss: turn(loss, given) for name, loss in tasks.items()},
                                 args)
    ratios = {name: seconds["open_clip"] / value for name, value in seconds.items()}
    if args.json:
        print(json.dumps({"seconds": seconds, "ratios": ratios}, indent=1))
        return None
    print(f"{about}, {measuring.unit(args)}, median of {args.repeats}")
    for name, value in seconds.items():
        print(f"  {name:<20} {value:8.3f} s {ratios[name]:8.2f} x")
    return None


if __name__ == "__main__":
    main()
