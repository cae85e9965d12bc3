"""How fast is CLIP?  ``python benchmarks/clip.py`` times a training step of ViT-B/32 (151 M parameters) at
the paper's size.

Peers, in the same process and in turns: "open_clip" (``ViT-B-32-quickgelu``, random weights) and
"transformers" (``CLIPModel`` of the same sizes, QuickGELU, fused attention). A step is the forward pass of
both towers, the symmetric contrastive loss and the backward pass; ``--optimizer`` adds AdamW. Captions fill
the context of 77 tokens; the row "ours, captions cut" gives our tower captions of ``--words`` tokens, cut
behind the last one, which changes no result. ``--resnet`` times RN50 instead, against open_clip alone.
Medians of ``--repeats`` turns; a ratio above 1 means that ours is faster than the faster peer.
"""

import json
import statistics
from collections.abc import Callable

import measuring
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlearn.text_for_vision.clip import CLIP, CLIPConfig


def contrastive(u: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    """The symmetric cross-entropy, the same lines for every peer."""
    logits = scale * u @ v.T
    labels = torch.arange(len(u), device=u.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def build(
    resnet: bool, device: str
) -> dict[str, tuple[nn.Module, Callable[..., tuple[Tensor, Tensor, Tensor]]]]:
    """The models, and how each is called."""
    import open_clip

    name = "RN50-quickgelu" if resnet else "ViT-B-32-quickgelu"
    ours = CLIP(CLIPConfig.rn50() if resnet else CLIPConfig.vit_b32())
    peer = open_clip.create_model(name, pretrained=None)
    models: dict[str, tuple[nn.Module, Callable[..., tuple[Tensor, Tensor, Tensor]]]] = {
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


def main() -> None:
    parser = measuring.parser(__doc__)
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
    models = build(args.resnet, args.device)
    images = torch.randn(args.batch, 3, 224, 224, device=args.device)
    tokens = torch.randint(1, 49_000, (args.batch, 77), device=args.device)
    tokens[:, -1] = 49_407
    cut = torch.cat([tokens[:, : args.words - 1], tokens[:, -1:]], dim=1)

    def step(name: str, tokens: Tensor) -> Callable[[], None]:
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
            if args.device != "cpu":
                torch.cuda.synchronize()
        return run

    tasks = {name: step(name, tokens) for name in models}
    tasks["ours, captions cut"] = step("ours", cut)
    seconds = measuring.turns(tasks, args.repeats, measuring.clock(args), uncounted=2)
    times = measuring.medians(seconds)
    ratios = {name: times[name] / times["ours"] for name in models if name != "ours"}
    paired = {name: statistics.median(b / a for a, b in zip(seconds["ours"], seconds[name]))
              for name in ratios}
    if args.json:
        print(json.dumps({"seconds": times, "ratios": ratios, "ratios turn by turn": paired}, indent=1))
        return
    print(f"{'RN50' if args.resnet else 'ViT-B/32'}, batch {args.batch}, {args.device}, {args.threads} "
          f"threads, "
          f"{'bfloat16' if args.bf16 else 'float32'}, {measuring.unit(args)}, "
          f"torch {torch.__version__}")
    for name, value in times.items():
        print(f"  {name:<36} {value:8.3f} s")
    for name, value in ratios.items():
        print(f"  against {name:<28} {value:8.2f} x   (turn by turn {paired[name]:.2f})")
    print(f"  against the faster peer              {min(ratios.values()):8.2f} x")


if __name__ == "__main__":
    main()
