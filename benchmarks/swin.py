"""How fast is Swin?  ``python benchmarks/swin.py`` times Swin-T (27.5 M parameters), forward and backward.

The peer is timm's ``swin_tiny_patch4_window7_224`` with random weights, in the same process and in turns.
Both get the same pictures and give one vector a picture; the loss is its mean square. Dropped paths are off
in both. Medians of ``--repeats`` turns; a ratio below 1 means that ours is faster.
"""

import json
from collections.abc import Callable
from dataclasses import replace

import measuring
import torch
from torch import Tensor, nn

from mmlearn.nn.swin import Swin, SwinConfig


def models(config: SwinConfig) -> dict[str, nn.Module]:
    """Ours and timm's, of one size, in training mode."""
    from timm.models.swin_transformer import SwinTransformer

    theirs = SwinTransformer(img_size=config.size, embed_dim=config.width, depths=config.depths,
                             num_heads=config.heads, window_size=config.window, num_classes=0,
                             drop_path_rate=0.0)
    return {"ours": Swin(replace(config, drop_path=0.0)), "timm": theirs}


def step(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Forward and backward pass."""
    def run() -> Tensor:
        model.zero_grad(set_to_none=True)
        loss = model(images).square().mean()
        loss.backward()
        return loss.detach()
    return run


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--batch", type=int, default=8)
    measuring.add_common(parser, repeats=7, memory=False)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = SwinConfig.swin_t()
    images = torch.randn(args.batch, 3, config.size, config.size, device=args.device)
    tasks = measuring.synchronised({name: step(model.to(args.device), images)
                                    for name, model in models(config).items()}, args.device)
    times = measuring.in_turns(tasks, args)
    ratio = times["ours"] / times["timm"]
    if args.json:
        print(json.dumps({"seconds": times, "ratio": ratio}, indent=1))
        return
    print(f"Swin-T forward and backward, batch {args.batch}, {measuring.setting(args)}, "
          f"{measuring.unit(args)}")
    for name, value in times.items():
        print(f"  {name:<8} {value:8.3f} s")
    print(f"  ours / timm {ratio:5.2f}")


if __name__ == "__main__":
    main()
