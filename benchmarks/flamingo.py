"""How fast and how large: Flamingo's resampler and its gated block, in training and while a text is written.

    python benchmarks/flamingo.py                          # all tasks, clock time
    python benchmarks/flamingo.py --cpu-time --threads 1   # processor time, for a busy machine
    python benchmarks/flamingo.py --memory                 # by how much one of them makes a process grow
    python benchmarks/flamingo.py --width 2048 --visual 1024 --heads 8 --head 64     # OpenFlamingo-3B's block

What is compared, with the same weights and GELU in all:

- "pictures": a training step of the resampler over pictures of 256 patches; "video": over videos of 8 frames
  of 10 x 10 cells. The peers make keys and values of all features; mmlearn does so where that is less work.
- "text": a training step of the gated block over texts of 256 tokens with 5 pictures each, every token seeing
  the last one.
- "writing": 16 tokens written one by one by the block. open_flamingo projects the pictures for each token
  again (its ``use_cached_media`` caches their places alone).

flamingo-pytorch has no frames, no writing token by token, and no width of its own for pictures: it takes part
with pictures, and with texts whose width is that of the visual tokens (``--width`` = ``--visual``). Outputs
and gradients are compared before anything is timed. A ratio is peer over mmlearn: above 1 mmlearn is faster
(the goal, mmlearn over peer, stands in brackets).
"""

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import torch
from torch import Tensor, nn

from mmlearn.both_modalities.flamingo import (
    FlamingoConfig,
    GatedCrossAttention,
    PerceiverResampler,
    media_mask,
)
from mmlearn.nn.attention import KVCache

TASKS = ("pictures", "video", "text", "writing")
PEERS = ("flamingo-pytorch", "open_flamingo")
GOAL = 0.9


def ways_of(task: str, args: argparse.Namespace) -> tuple[str, ...]:
    """Who takes part in a task."""
    lucid = task == "pictures" or (task == "text" and args.width == args.visual)
    return ("mmlearn", *PEERS[0 if lucid else 1:])


def config_of(args: argparse.Namespace) -> FlamingoConfig:
    """The sizes that all have."""
    return FlamingoConfig(
        1, args.width, args.heads, 1, 0, args.visual, args.visual, args.layers, args.heads, args.latents,
        args.frames, args.head, "gelu")


def peers(way: str) -> Any:
    """The module of a peer; open_flamingo's helpers by their file, since the package imports much more."""
    if way == PEERS[0]:
        return importlib.import_module("flamingo_pytorch")
    found = importlib.util.find_spec("open_flamingo")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("open_flamingo is not installed: pip install --no-deps open_flamingo==2.0.1")
    file = Path(found.submodule_search_locations[0]) / "src" / "helpers.py"
    spec = importlib.util.spec_from_file_location("open_flamingo_helpers", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resampler(way: str, args: argparse.Namespace) -> nn.Module:
    """The resampler of one of the ways, with weights drawn from one seed."""
    config = config_of(args)
    torch.manual_seed(0)
    ours = PerceiverResampler(config)
    if way == "mmlearn":
        return ours
    sizes = {"dim": args.visual, "depth": args.layers, "dim_head": args.head, "heads": args.heads,
             "num_latents": args.latents}
    more = {"num_media_embeds": args.pictures} if way == PEERS[0] else {"max_num_frames": args.frames}
    theirs = peers(way).PerceiverResampler(**sizes, **more)
    state = {"latents": ours.latents, "norm.weight": ours.norm.weight, "norm.bias": ours.norm.bias}
    times = ours.times[:1].expand(args.pictures, -1)[:, None] if way == PEERS[0] else ours.times
    state["media_pos_emb" if way == PEERS[0] else "frame_embs"] = times
    for i, layer in enumerate(ours.layers):
        attention, inner = layer.attention, args.heads * args.head
        state |= {f"layers.{i}.0.to_q.weight": attention.in_weight[:inner],
                  f"layers.{i}.0.to_kv.weight": attention.in_weight[inner:],
                  f"layers.{i}.0.to_out.weight": attention.out.weight}
        for mine, other in (("norm_features", "norm_media"), ("norm_latents", "norm_latents")):
            state |= {f"layers.{i}.0.{other}.{kind}": getattr(getattr(attention, mine), kind)
                      for kind in ("weight", "bias")}
        state |= net(layer.dense, f"layers.{i}.1")
    theirs.load_state_dict(state)
    return theirs


def net(dense: nn.Module, name: str) -> dict[str, Tensor]:
    """A feed-forward net in the peers' names."""
    return {f"{name}.0.weight": dense.norm.weight, f"{name}.0.bias": dense.norm.bias,
            f"{name}.1.weight": dense.inner.weight, f"{name}.3.weight": dense.outer.weight}


def block(way: str, args: argparse.Namespace) -> nn.Module:
    """The gated block of one of the ways, its gates half open."""
    torch.manual_seed(0)
    ours = GatedCrossAttention(config_of(args))
    nn.init.constant_(ours.gate_read, 0.5)
    nn.init.constant_(ours.gate_dense, 0.5)
    if way == "mmlearn":
        return ours
    more = {} if way == PEERS[0] else {"dim_visual": args.visual}
    theirs = peers(way).GatedCrossAttentionBlock(dim=args.width, dim_head=args.head, heads=args.heads, **more)
    attention = ours.attention
    theirs.load_state_dict(net(ours.dense, "ff") | {
        "attn_gate": ours.gate_read, "ff_gate": ours.gate_dense, "attn.norm.weight": attention.norm.weight,
        "attn.norm.bias": attention.norm.bias, "attn.to_q.weight": attention.queries.weight,
        "attn.to_kv.weight": attention.sources.weight, "attn.to_out.weight": attention.out.weight})
    return theirs


def media(args: argparse.Namespace) -> Tensor:
    """Where pictures stand: evenly in each text, from its first token on."""
    at = torch.zeros(args.batch, args.text, dtype=torch.bool, device=args.device)
    at[:, torch.arange(args.pictures) * args.text // args.pictures] = True
    return at


def prepared(task: str, way: str, args: argparse.Namespace) -> Callable[[], list[Tensor]]:
    """A function that does a task in one of the ways and returns what all ways must agree on."""
    g = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).to(args.device)

    def gradients(module: nn.Module, call: Callable[[], Tensor], *inputs: Tensor) -> list[Tensor]:
        for value in (*module.parameters(), *inputs):
            value.grad = None
        out = call()
        (out * weight).sum().backward()
        squares = [p.grad.square().sum() for name, p in module.named_parameters()
                   if p.grad is not None and name != "times" and "emb" not in name]
        return [out.detach(), torch.stack(squares).sum(), *(value.grad for value in inputs)]

    if task in ("pictures", "video"):
        frames, places = (1, args.places) if task == "pictures" else (args.frames, args.cells)
        module = resampler(way, args).to(args.device)
        features = draw(args.batch, args.pictures, frames, places, args.visual).requires_grad_()
        weight = draw(args.batch, args.pictures, args.latents, args.visual)

        def see() -> Tensor:
            if way == "mmlearn":
                return module(features.flatten(0, 1)).unflatten(0, features.shape[:2])
            return module(features[:, :, 0] if way == PEERS[0] else features)
        return lambda: gradients(module, see, features)
    module = block(way, args).to(args.device)
    x = draw(args.batch, args.text, args.width)
    visual = draw(args.batch, args.pictures, args.latents, args.visual)
    at = media(args)
    phi = at.cumsum(1)
    if task == "text":
        weight = draw(*x.shape)
        x.requires_grad_(), visual.requires_grad_()

        def read() -> Tensor:
            if way == "mmlearn":
                return module(x, visual, media_mask(phi, args.pictures))
            return module(x, visual, media_locations=at)
        return lambda: gradients(module, read, x, visual)
    steps = x[:, -16:]

    @torch.no_grad()
    def write() -> list[Tensor]:
        if way == "mmlearn":
            seen = media_mask(phi[:, -1:], args.pictures)
            with KVCache(module):
                return [torch.cat([module(one, visual, seen) for one in steps.split(1, 1)], 1)]
        rows = [module(one, visual, media_locations=at, use_cached_media=True) for one in steps.split(1, 1)]
        return [torch.cat(rows, 1)]
    return write


def compare(task: str, ways: dict[str, Callable[[], list[Tensor]]]) -> None:
    """Refuse ways that do not compute the same."""
    found = {way: run() for way, run in ways.items()}
    ours = found.pop("mmlearn")
    for way, theirs in found.items():
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, rtol=2e-3, atol=2e-3 * float(b.abs().mean())), (task, way)


def one_memory(task: str, way: str, args: argparse.Namespace) -> int:
    """By how many bytes the task makes this process, or its share of the device, grow."""
    run = prepared(task, way, args)
    if args.device == "cpu":
        small = argparse.Namespace(**{**vars(args), "batch": 1, "text": 16, "places": 4, "cells": 4,
                                      "visual": 64, "width": 64, "heads": 1})
        prepared(task, way, small)()                    # what every call needs is not counted
        measuring.forget_peak()
    return measuring.growth(run, args.device)


SIZES = ("batch", "pictures", "text", "places", "cells", "frames", "width", "visual", "heads", "head",
         "latents", "layers")


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    for name, value, about in (
            ("batch", 2, "texts"), ("pictures", 5, "of a text"), ("text", 256, "tokens"),
            ("places", 256, "patches of a picture"), ("cells", 100, "cells of a frame"),
            ("frames", 8, "of a video"), ("width", 512, "of the language model"),
            ("visual", 512, "width of visual tokens"), ("heads", 8, "of all attentions"),
            ("head", 128, "width of a head"), ("latents", 64, "of a picture"),
            ("layers", 2, "of the resampler")):
        parser.add_argument(f"--{name}", type=int, default=value, help=about)
    measuring.add_common(parser, repeats=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        print(one_memory(args.task[0], args.child, args))
        return

    def compared(task: str) -> dict[str, Callable]:
        ways = {way: prepared(task, way, args) for way in ways_of(task, args)}
        compare(task, ways)
        return ways

    if args.memory:
        names = (*SIZES, "threads", "device")
        found = measuring.growth_of({task: ways_of(task, args) for task in args.task}, __file__, args, names)
        what, shown = "growth by one run", measuring.megabytes
    else:
        found = measuring.seconds_of(args.task, compared, args)
        what = f"{measuring.unit(args)}, median of {args.repeats}"

        def shown(value: float) -> str:
            return measuring.seconds(value) + " "                       # as wide as megabytes
    if args.json:
        print(json.dumps(found, indent=1))
        return
    sizes = ", ".join(f"{name} {getattr(args, name)}" for name in SIZES)
    print(f"{sizes}; {measuring.setting(args)}; {what}")
    measuring.print_rows(found, (10, 18), shown, lambda way, share: "" if way == "mmlearn" else
                         f"   (mmlearn / peer {1 / max(share, 1e-9):.2f}, goal {GOAL})")


if __name__ == "__main__":
    main()
