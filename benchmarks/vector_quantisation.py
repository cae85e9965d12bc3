"""How fast and how large: the nearest of 8,192 codes for 65,536 vectors, and a training step on 16,384.

    python benchmarks/vector_quantisation.py                    # both, clock time
    python benchmarks/vector_quantisation.py --cpu-time         # processor time, for a busy machine
    python benchmarks/vector_quantisation.py --memory           # by how much one of them makes a process grow

What is compared:

- "search": the codes of vectors of 256 numbers. "mmlearn" is ``nearest_codes``: a block of vectors at a time,
  |e|^2 / 2 - z e without |z|^2 and without a root. "diffusers" is the search of its ``VectorQuantizer``,
  "vector-quantize" that of ``VectorQuantize`` in evaluation mode; both make all distances at once.
- "gradient step": straight-through output, both errors, and the gradients of vectors and codes; against
  diffusers (its module with ``legacy=False``).
- "average step": straight-through output, the commitment, the gradient of the vectors, and the codes moved by
  their averages; against vector-quantize-pytorch (without its rotation trick, which is another function).

Codes, outputs, errors, gradients and moved codes are compared before anything is timed. A ratio is peer over
mmlearn: above 1 mmlearn is faster (the goal, mmlearn over peer, stands in brackets).
"""

import argparse
import json
from collections.abc import Callable

import measuring
import torch
from torch import Tensor

from mmlearn.text2image.vector_quantisation import Codebook, EMACodebook, nearest_codes

TASKS = {"search": ("mmlearn", "diffusers", "vector-quantize"), "gradient step": ("mmlearn", "diffusers"),
         "average step": ("mmlearn", "vector-quantize")}
GOAL = 0.8
DECAY = 0.9


def peer_quantizer(codes: Tensor):
    """diffusers' module with these codes."""
    from diffusers.models.autoencoders.vae import VectorQuantizer

    module = VectorQuantizer(len(codes), codes.shape[1], beta=0.25, legacy=False).to(codes)
    module.embedding.weight.data.copy_(codes)
    return module


def peer_averages(codes: Tensor):
    """vector-quantize-pytorch's module with these codes."""
    from vector_quantize_pytorch import VectorQuantize

    module = VectorQuantize(dim=codes.shape[1], codebook_size=len(codes), decay=DECAY, commitment_weight=0.25,
                            rotation_trick=False).to(codes)
    module._codebook.embed.copy_(codes[None])
    module._codebook.embed_avg.copy_(codes[None])
    return module


def our_averages(codes: Tensor) -> EMACodebook:
    """Ours, started as the peer: each code counts as chosen once, and the start is long ago."""
    module = EMACodebook(len(codes), codes.shape[1], DECAY).to(codes)
    module.weight.copy_(codes)
    module.sums.copy_(codes)
    module.counts.fill_(1)
    module.step.fill_(100_000)
    return module


def maps(z: Tensor) -> Tensor:
    """Rows as a batch of maps of 16 x 16 (or of 1 x 1), a leaf that wants a gradient."""
    side = 16 if len(z) % 256 == 0 else 1
    return z.view(-1, side, side, z.shape[1]).permute(0, 3, 1, 2).contiguous().requires_grad_()


def prepared(task: str, way: str, z: Tensor, codes: Tensor) -> Callable[[], list[Tensor]]:
    """A function that does a task in one of the ways and returns what all ways must agree on."""
    if task == "search":
        if way == "mmlearn":
            return lambda: [nearest_codes(z, codes)]
        if way == "diffusers":
            module, x = peer_quantizer(codes), maps(z)

            @torch.no_grad()
            def find() -> list[Tensor]:
                return [module(x)[2][2]]
            return find
        module = peer_averages(codes).eval()

        @torch.no_grad()
        def look() -> list[Tensor]:
            return [module(z[None])[1][0]]
        return look
    x, weight = maps(z), torch.linspace(-1, 1, z.shape[1]).to(z)[:, None, None]
    if task == "gradient step":
        if way == "mmlearn":
            ours = Codebook(len(codes), codes.shape[1]).to(codes)
            ours.weight.data.copy_(codes)
        else:
            module = peer_quantizer(codes)

        def step() -> list[Tensor]:
            book = ours.weight if way == "mmlearn" else module.embedding.weight
            x.grad = book.grad = None
            if way == "mmlearn":
                found = ours(x)
                z_q, loss, chosen = found.z_q, found.loss(), found.codes
            else:
                z_q, loss, (_, _, chosen) = module(x)
            ((z_q * weight).sum() + loss).backward()
            return [chosen.flatten(), z_q.detach(), loss.detach(), x.grad, book.grad]
        return step
    averages = our_averages(codes) if way == "mmlearn" else peer_averages(codes).train()
    rows = z.clone().view(1, *z.shape).requires_grad_()

    def move() -> list[Tensor]:
        rows.grad = None
        if way == "mmlearn":
            found = averages(rows.mT)
            z_q, loss, chosen, now = found.z_q.mT, found.loss(), found.codes, averages.weight
        else:
            z_q, chosen, loss = averages(rows)
            now = averages._codebook.embed[0]
        ((z_q * weight[:, 0, 0]).sum() + loss).backward()
        return [chosen.flatten(), z_q.detach(), loss.detach().flatten()[0], rows.grad, now.clone()]
    return move


def inputs(task: str, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Vectors, and codes among them, as a trained codebook lies among what it codes."""
    torch.manual_seed(0)
    n = args.vectors if task == "search" else args.step_vectors
    codes = torch.randn(args.codes, args.width, device=args.device)
    near = torch.randint(args.codes, (n,), device=args.device)
    return codes[near] + torch.randn(n, args.width, device=args.device), codes


def compare(task: str, ways: dict[str, Callable[[], list[Tensor]]]) -> None:
    """Refuse ways that differ in one of two steps; vectors as near to two codes may take either."""
    for _ in range(2):
        results = {way: run() for way, run in ways.items()}
        ours = results.pop("mmlearn")
        for theirs in results.values():
            assert float((ours[0] == theirs[0]).double().mean()) > 0.9999, task
            for a, b in zip(ours[1:], theirs[1:]):
                far = ((a - b).abs() > 1e-4 + 1e-3 * b.abs()).double().mean()
                assert float(far) < 1e-3, (task, float(far))


def one_memory(task: str, way: str, args: argparse.Namespace) -> int:
    """By how many bytes the task makes this process, or its share of the device, grow."""
    z, codes = inputs(task, args)
    run = prepared(task, way, z, codes)
    if args.device == "cpu":
        prepared(task, way, z[:256].clone(), codes[:64].clone())()      # what every call needs is not counted
        measuring.forget_peak()
    return measuring.growth(run, args.device)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    parser.add_argument("--vectors", type=int, default=65_536, help="of the search")
    parser.add_argument("--step-vectors", type=int, default=16_384, help="of a training step")
    parser.add_argument("--codes", type=int, default=8192)
    parser.add_argument("--width", type=int, default=256)
    measuring.add_common(parser, repeats=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        print(one_memory(args.task[0], args.child, args))
        return
    about = (f"{args.vectors:,} (step: {args.step_vectors:,}) x {args.width}, {args.codes:,} codes, "
             f"{measuring.setting(args)}")

    def compared(task: str) -> dict[str, Callable]:
        z, codes = inputs(task, args)
        ways = {way: prepared(task, way, z, codes) for way in TASKS[task]}
        compare(task, ways)
        return ways

    if args.memory:
        names = ("vectors", "step_vectors", "codes", "width", "threads", "device")
        found = measuring.growth_of({task: TASKS[task] for task in args.task}, __file__, args, names)
        what, shown = "growth by one run", measuring.megabytes
    else:
        found = measuring.seconds_of(args.task, compared, args)
        what = f"{measuring.unit(args)}, median of {args.repeats}"

        def shown(value: float) -> str:
            return measuring.seconds(value) + " "                       # as wide as megabytes
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{about}; {what}")
    measuring.print_rows(found, (14, 16), shown, lambda way, share: "" if way == "mmlearn" else
                         f"   (mmlearn / peer {1 / max(share, 1e-9):.2f}, goal {GOAL})")


if __name__ == "__main__":
    main()
