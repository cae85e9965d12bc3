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
import sys
from collections.abc import Callable
from pathlib import Path

import measuring
import torch
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
    return measuring.synchronised(found, args.device)


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    parser = measuring.parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--words", type=int, default=1000, help="vocabulary of the texts")
    parser.add_argument("--text", type=int, default=64, help="places of text")
    parser.add_argument("--codes", type=int, default=1024, help="kinds of codes")
    parser.add_argument("--side", type=int, default=16, help="codes a side of a picture")
    parser.add_argument("--batch", type=int, default=4)
    measuring.add_common(parser, repeats=5)
    return parser.parse_args(argv)


def main() -> None:
    args = parsed()
    torch.set_num_threads(args.threads)
    if args.child:
        task, way = args.task[0], args.child
        print(measuring.growth(prepared(task, args, (way,))[way], args.device))
        return
    about = (f"width {args.width}, {args.layers} layers, {args.text} + {args.side**2} tokens, batch "
             f"{args.batch}, {measuring.setting(args)}")
    if args.memory:
        names = ("width", "layers", "heads", "words", "text", "codes", "side", "batch", "threads", "device")
        grew = measuring.growth_of({task: WAYS[task] for task in args.task}, __file__, args, names)
        values = {task: {way: size / 1e6 for way, size in of.items()} for task, of in grew.items()}
        unit, what = "MB", "growth by one call"
    else:
        values = measuring.seconds_of(args.task, lambda task: prepared(task, args), args)
        unit, what = "s", f"{measuring.unit(args)}, median of {args.repeats}"
    if args.json:
        print(json.dumps(values, indent=1))
        return
    print(f"{about}; {what}")
    measuring.print_rows(values, (7, 21), lambda value: f"{value:9.3f} {unit}")


if __name__ == "__main__":
    main()
