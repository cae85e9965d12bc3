"""How fast is CLIP?  ``python benchmarks/clip.py`` times ViT-B/32 (151 M parameters) at the paper's size.

Peers, in the same process and in turns: "open_clip" (``ViT-B-32-quickgelu``, random weights) and
"transformers" (``CLIPModel`` of the same sizes, QuickGELU, fused attention). Tasks: ``step``, the forward
pass of both towers, the symmetric contrastive loss and the backward pass (``--optimizer`` adds AdamW);
``images``, the image tower alone without gradient; ``tokens``, 10,000 scene captions as ids, 77 a caption.
Captions of a step fill the context of 77 tokens; the row "ours, captions cut" gives our tower captions of
``--words`` tokens, cut behind the last one, which changes no result. ``--resnet`` times RN50 instead, against
open_clip alone. Medians of ``--repeats`` turns; a ratio above 1 means that ours is faster than the faster
peer.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from itertools import chain, cycle, islice
from typing import Any

import measuring
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlearn.data.clip_tokeniser import CLIPTokeniser
from mmlearn.data.pairs import scene_pairs
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig

Models = dict[str, tuple[nn.Module, Callable[..., tuple[Tensor, Tensor, Tensor]]]]
Task = Callable[[], object]
TASKS = ("step", "images", "tokens")


def contrastive(u: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    """The symmetric cross-entropy, the same lines for every peer."""
    logits = scale * u @ v.T
    labels = torch.arange(len(u), device=u.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def build(resnet: bool, device: str) -> Models:
    """The models, and how each is called."""
    import open_clip

    name = "RN50-quickgelu" if resnet else "ViT-B-32-quickgelu"
    ours = CLIP(CLIPConfig.rn50() if resnet else CLIPConfig.vit_b32())
    peer = open_clip.create_model(name, pretrained=None)
    models: Models = {
        "ours": (ours, ours), "open_clip": (peer, peer)}
    if not resnet:
        from transformers import CLIPConfig as TheirConfig
        from transformers import CLIPModel

        config = TheirConfig(text_config={"hidden_act": "quick_gelu"},
                             vision_config={"hidden_act": "quick_gelu"})
        config._attn_implementation = "sdpa"
        theirs = CLIPModel(config)

        def call(images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            out = theirs(input_ids=tokens, pixel_values=images)
            return out.image_embeds, out.text_embeds, theirs.logit_scale.exp()
        models["transformers"] = (theirs, call)
    for model, _ in models.values():
        model.to(device).train()
    return models


def steps(args: argparse.Namespace, models: Models) -> dict[str, Task]:
    """A training step of every model."""
    images = torch.randn(args.batch, 3, 224, 224, device=args.device)
    tokens = torch.randint(1, 49_000, (args.batch, 77), device=args.device)
    tokens[:, -1] = 49_407
    cut = torch.cat([tokens[:, : args.words - 1], tokens[:, -1:]], dim=1)

    def step(name: str, tokens: Tensor) -> Task:
        model, call = models[name]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True) if args.optimizer else None

        def run() -> None:
            model.zero_grad(set_to_none=True)
            with torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
                u, v, scale = call(images, tokens)
                loss = contrastive(u, v, scale)
            loss.backward()
            if optimizer is not None:
                optimizer.step()
        return run

    return {name: step(name, tokens) for name in models} | {"ours, captions cut": step("ours", cut)}


def encoding(args: argparse.Namespace, models: Models) -> dict[str, Task]:
    """Pictures as embeddings by every model."""
    images = torch.randn(args.batch, 3, 224, 224, device=args.device)
    encode = {"ours": "encode_image", "open_clip": "encode_image", "transformers": "get_image_features"}

    def run(name: str) -> Task:
        model = models[name][0].eval()

        def call() -> None:
            with torch.no_grad(), torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
                getattr(model, encode[name])(images)
        return call

    return {name: run(name) for name in models}


def tokenising(args: argparse.Namespace) -> dict[str, Task]:
    """10,000 captions as ids by every tokeniser, from CLIP's one list of merges; the ids are compared."""
    import open_clip
    from transformers import CLIPTokenizer

    ours, peer = CLIPTokeniser.find(), open_clip.get_tokenizer("ViT-B-32")
    merges: list[Any] = [*ours.ranks]                       # pairs, where its annotation says words
    theirs = CLIPTokenizer(vocab=ours.index, merges=merges)
    captions = list(islice(cycle(chain.from_iterable(scene_pairs(2000).captions)), 10_000))
    ways = {"ours": lambda: ours(captions), "open_clip": lambda: peer(captions),
            "transformers": lambda: theirs(captions, padding="max_length", max_length=77, truncation=True,
                                           return_tensors="pt")["input_ids"]}
    found = {name: way() for name, way in ways.items()}
    ends = found["transformers"].eq(49_407).cumsum(dim=1)
    found["transformers"][ends > 1] = 0                           # it pads with <end>, the others with 0
    for name, ids in found.items():
        if not ids.equal(found["open_clip"]):
            raise SystemExit(f"{name} reads the captions otherwise than open_clip; nothing was timed")
    return dict(ways)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--words", type=int, default=16,
                        help="tokens of a caption in the row of cut captions")
    parser.add_argument("--bf16", action="store_true", help="under autocast to bfloat16")
    parser.add_argument("--optimizer", action="store_true", help="count AdamW's step too")
    parser.add_argument("--resnet", action="store_true", help="RN50 instead of ViT-B/32")
    measuring.add_common(parser, repeats=9, memory=False)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    models = build(args.resnet, args.device) if {"step", "images"} & {*args.task} else {}
    ways = {"step": lambda: steps(args, models), "images": lambda: encoding(args, models),
            "tokens": lambda: tokenising(args)}
    told = {}
    for task in args.task:
        tasks = measuring.synchronised(ways[task](), args.device)
        seconds = measuring.turns(tasks, args.repeats, measuring.clock(args), uncounted=2)
        times = measuring.medians(seconds)
        peers = [name for name in tasks if not name.startswith("ours")]
        told[task] = {
            "seconds": times, "ratios": {name: times[name] / times["ours"] for name in peers},
            "ratios turn by turn": {name: statistics.median(b / a for a, b in zip(seconds["ours"],
                                                                                  seconds[name]))
                                    for name in peers}}
    if args.json:
        print(json.dumps(told, indent=1))
        return
    print(f"{'RN50' if args.resnet else 'ViT-B/32'}, batch {args.batch}, {args.device}, {args.threads} "
          f"threads, "
          f"{'bfloat16' if args.bf16 else 'float32'}, {measuring.unit(args)}, "
          f"torch {torch.__version__}")
    for task, row in told.items():
        print(task)
        for name, value in row["seconds"].items():
            print(f"  {name:<36} {value:8.3f} s")
        for name, value in row["ratios"].items():
            paired = row["ratios turn by turn"][name]
            print(f"  against {name:<28} {value:8.2f} x   (turn by turn {paired:.2f})")
        print(f"  against the faster peer              {min(row['ratios'].values()):8.2f} x")


if __name__ == "__main__":
    main()
