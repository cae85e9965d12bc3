"""How fast and how large: a training step of a small DALL-E, and sampling the tokens of a picture.

    python benchmarks/dalle.py                              # width 128, 4 layers, 64 words, 16 x 16 codes
    python benchmarks/dalle.py --task sample --batch 4
    python benchmarks/dalle.py --memory                     # by how much one call makes a process grow

Peer: dalle-pytorch 1.6.6 (install it as ``tests/oracles.txt`` says) with the same width, layers, heads,
lengths and vocabularies, without rotations and shifted tokens. Its MLP is gated;
its inner width is set so that both models have the same number of weights in their layers. Four ways, which
take turns:

- "mmlearn": rows, columns and a window, computed block by block in training and key by key in sampling;
  scores of words for text and of codes for the picture.
- "mmlearn, masks": the same under masks (training only).
- "dalle-pytorch": full attention (the backward pass of its sparse ones fails with today's PyTorch); sampling
  as its ``generate_images`` does it, which reads the whole sequence for each token.
- "dalle-pytorch, masks" (training): its rows and columns as masks (``optimize_for_inference``).
- "dalle-pytorch, cache" (sampling): its cache of keys, called by hand: ``generate_images`` drops it unless it
  is asked for guidance.

A ratio above 1 means that mmlearn is faster.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from contrastive_loss import grown
from m2 import in_turns
from torch import Tensor, nn

from mmlearn.text2image.dalle import DALLE, DALLEConfig

sys.path.append(str(Path(__file__).parents[1] / "tests"))
TASKS = ("train", "sample")
WAYS = {"train": ("mmlearn", "mmlearn, masks", "dalle-pytorch", "dalle-pytorch, masks"),
        "sample": ("mmlearn", "dalle-pytorch", "dalle-pytorch, cache")}


def config_of(args: argparse.Namespace) -> DALLEConfig:
    """The sizes that both models have."""
    return DALLEConfig(args.width, args.layers, args.heads, args.words, args.text, args.codes, args.side,
                       min(11, 2 * (args.side // 2) - 1))


def peer(config: DALLEConfig, masks: bool) -> nn.Module:
    """dalle-pytorch at the same sizes."""
    from oracles import dalle_pytorch

    theirs = dalle_pytorch()
    halvings = 2
    vae = theirs.DiscreteVAE(image_size=config.side << halvings, num_layers=halvings, hidden_dim=4,
                             num_tokens=config.image_vocab, codebook_dim=4)
    kinds = ("axial_row", "axial_col", "axial_row", "axial_row") if masks else ("full",)
    model = theirs.DALLE(dim=config.width, vae=vae, num_text_tokens=config.text_vocab,
                         text_seq_len=config.text_len, depth=config.layers, heads=config.heads,
                         dim_head=config.width // config.heads, rotary_emb=False, shift_tokens=False,
                         attn_types=kinds, optimize_for_inference=masks)
    inner = round(8 * config.width / 3)
    for part in model.modules():
        if isinstance(part, sys.modules["dalle_pytorch.transformer"].FeedForward):
            part.net[0] = nn.Linear(config.width, 2 * inner)                # gated: three matrices for two
            part.net[3] = nn.Linear(inner, config.width)
    model.vae.decode = lambda codes: codes                                  # tokens are what is compared
    return model


def matrices(model: nn.Module) -> int:
    """Weights in the matrices of the layers."""
    layers = model.blocks if isinstance(model, DALLE) else model.transformer
    return sum(p.numel() for p in layers.parameters() if p.ndim == 2)


def tokens(config: DALLEConfig, batch: int) -> tuple[Tensor, Tensor]:
    """Texts of which half the places are padding, as captions have it, and pictures."""
    torch.manual_seed(1)
    text = torch.randint(1, config.text_vocab, (batch, config.text_len))
    text[:, config.text_len // 2:] = config.pad
    return text, torch.randint(config.image_vocab, (batch, config.side**2))


def train_step(way: str, config: DALLEConfig, batch: int, device: str = "cpu") -> Callable[[], Tensor]:
    """A function that trains a model by one step and returns its loss."""
    torch.manual_seed(0)
    text, image = (x.to(device) for x in tokens(config, batch))
    model = (DALLE(config).use_blocks("masks" not in way) if way.startswith("mmlearn")
             else peer(config, "masks" in way)).to(device)
    adam = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 4.5e-4, (0.9, 0.96),
                             weight_decay=4.5e-2, fused=True)

    def step() -> Tensor:
        loss = (model.loss(text, image)[0] if isinstance(model, DALLE)
                else model(text, image, return_loss=True))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 4.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        return loss.detach()
    return step


def sampler(way: str, config: DALLEConfig, batch: int, device: str = "cpu") -> Callable[[], Tensor]:
    """A function that draws the tokens of a picture for each of ``batch`` texts, (b, n)."""
    torch.manual_seed(0)
    text = tokens(config, batch)[0].to(device)
    if way == "mmlearn":
        model = DALLE(config).to(device).eval()
        return lambda: model.sample(text)[:, 0]
    theirs = peer(config, masks=False).to(device).eval()
    if way == "dalle-pytorch":
        return lambda: theirs.generate_images(text, filter_thres=0.0)

    @torch.no_grad()
    def cached() -> Tensor:
        cache: dict = {}
        image = text.new_zeros(batch, 0)
        while image.shape[1] < config.side**2:
            logits = theirs(text, image, cache=cache)[:, -1, -config.image_vocab:]
            image = torch.cat([image, torch.multinomial(logits.softmax(-1), 1)], dim=1)
        return image
    return cached


def prepared(task: str, args: argparse.Namespace, ways: tuple[str, ...] = ()) -> dict[str, Callable]:
    """The ways to do a task, each with its own model."""
    make = train_step if task == "train" else sampler
    found = {way: make(way, config_of(args), args.batch, args.device) for way in ways or WAYS[task]}
    if args.device != "cpu":
        return {way: lambda call=call: (call(), torch.cuda.synchronize()) for way, call in found.items()}
    return found


def one_memory(task: str, way: str, args: argparse.Namespace) -> int:
    """By how many bytes a second call makes this process, or its share of the device, grow."""
    call = prepared(task, args, (way,))[way]
    if args.device != "cpu":
        call()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    before = grown()
    call()
    return grown() - before


def memory(args: argparse.Namespace) -> dict[str, dict[str, int]]:
    """One call of each in a process of its own."""
    found: dict[str, dict[str, int]] = {}
    names = ("width", "layers", "heads", "words", "text", "codes", "side", "batch", "threads", "device")
    options = [part for name in names for part in (f"--{name}", str(getattr(args, name)))]
    for task in args.task:
        for way in WAYS[task]:
            command = [sys.executable, __file__, "--child", way, "--task", task, *options]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
            found.setdefault(task, {})[way] = int(done.stdout.splitlines()[-1])
    return found


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--words", type=int, default=1000, help="vocabulary of the texts")
    parser.add_argument("--text", type=int, default=64, help="places of text")
    parser.add_argument("--codes", type=int, default=1024, help="kinds of codes")
    parser.add_argument("--side", type=int, default=16, help="codes a side of a picture")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true",
                        help="count processor seconds of all threads instead of the clock's (for a busy "
                             "machine)")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main() -> None:
    args = parsed()
    torch.set_num_threads(args.threads)
    if args.child:
        print(one_memory(args.task[0], args.child, args))
        return
    about = (f"width {args.width}, {args.layers} layers, {args.text} + {args.side**2} tokens, batch "
             f"{args.batch}, {args.device}, {args.threads} threads, float32, torch {torch.__version__}")
    if args.memory:
        values: dict[str, dict[str, float]] = {task: {way: size / 1e6 for way, size in of.items()}
                                               for task, of in memory(args).items()}
        unit, what = "MB", "growth by one call"
    else:
        clock = time.process_time if args.cpu_time else time.perf_counter
        values = {task: in_turns(prepared(task, args), args.repeats, clock) for task in args.task}
        unit, what = "s", f"{'processor' if args.cpu_time else 'clock'} seconds, median of {args.repeats}"
    if args.json:
        print(json.dumps(values, indent=1))
        return
    print(f"{about}; {what}")
    for task, of in values.items():
        for way, value in of.items():
            print(f"  {task:<7} {way:<21} {value:9.3f} {unit} {value / max(of['mmlearn'], 1e-9):8.2f} x")


if __name__ == "__main__":
    main()
