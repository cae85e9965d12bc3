"""How fast and how large: a step of data2vec's training on images, against transformers' parts put together.

    python benchmarks/data2vec_vision.py                        # the base size at 224 pixels, two pictures
    python benchmarks/data2vec_vision.py --size mini --batch 64 # the book's miniature
    python benchmarks/data2vec_vision.py --drop-path 0          # no block is ever skipped
    python benchmarks/data2vec_vision.py --cpu-time             # processor time, for a busy machine
    python benchmarks/data2vec_vision.py --memory               # by how much one step makes a process grow

A step is the same work on both sides: the teacher's targets from whole pictures (the last K = 6 ends of
blocks, normalised, averaged, normalised), the learner's regression of hidden patches, smooth L1, gradient,
clipping to a norm of 3, fused AdamW, and the teacher's running mean.

- "mmlearn": ``VisionData2Vec``, with biases of offsets once a forward pass, last blocks, norms and head at
  hidden patches only, and a skipped branch not computed for the pictures that skip it.
- "transformers": ``Data2VecVisionModel`` twice and a linear head, put together as the authors' training loop
  puts theirs: all patches through norms, hidden ones through the head, a running mean a tensor at a time.

The first step skips no branch, so that losses and norms of gradients can be compared; the rest skip them at
the paper's rate. A ratio below 1 means that mmlearn needs less; the goal is 0.9.
"""

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import replace

import measuring
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlearn.both_modalities.data2vec import Data2VecConfig, regression_loss
from mmlearn.both_modalities.data2vec_vision import (
    Data2VecVisionConfig,
    VisionData2Vec,
    vision_batch,
)
from mmlearn.nn.beit import MaskedBEiT
from mmlearn.pretrained.beit import TRANSFORMERS, expected_shapes, joined

WAYS = ("mmlearn", "transformers")
GOAL, CLIP, LR = 0.9, 3.0, 2e-3
Task = Callable[[], Tensor]


def config_of(args: argparse.Namespace) -> Data2VecVisionConfig:
    """The sizes of a run: the paper's, or the miniature's."""
    config: Data2VecVisionConfig = getattr(Data2VecVisionConfig, args.size)()
    layers = args.layers or config.layers
    return replace(config, layers=layers, drop_path=args.drop_path, layer_scale=0.1)


def method_of(config: Data2VecVisionConfig) -> Data2VecConfig:
    """K = 6, or half of the blocks if there are fewer."""
    return replace(Data2VecConfig.vision(), K=min(6, max(1, config.layers // 2)))


class Peer(nn.Module):
    """The learner of transformers' parts."""

    def __init__(self, config: Data2VecVisionConfig) -> None:
        from transformers import Data2VecVisionConfig as TheirConfig
        from transformers import Data2VecVisionModel

        super().__init__()
        self.method = method_of(config)
        self.student = Data2VecVisionModel(TheirConfig(
            hidden_size=config.width, num_hidden_layers=config.layers, num_attention_heads=config.heads,
            intermediate_size=config.ff, image_size=config.size, patch_size=config.patch,
            layer_norm_eps=config.eps, use_mask_token=True, use_shared_relative_position_bias=True,
            use_mean_pooling=False, layer_scale_init_value=config.layer_scale,
            drop_path_rate=config.drop_path))
        self.head = nn.Linear(config.width, config.width)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Peer":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            ends = self.teacher(images, output_hidden_states=True).hidden_states[-self.method.K:]
            d = ends[0].shape[-1:]
            mean = sum(F.layer_norm(end[:, 1:].float(), d) for end in ends) / len(ends)
            y = F.layer_norm(mean, d)[mask]
        states = self.student(images, bool_masked_pos=mask).last_hidden_state[:, 1:]
        return F.smooth_l1_loss(self.head(states[mask]).float(), y, beta=self.method.beta)

    @torch.no_grad()
    def update(self) -> None:
        tau = self.method.decay(1)
        for old, new in zip(self.teacher.parameters(), self.student.parameters()):
            old.lerp_(new, 1 - tau)


def learners(args: argparse.Namespace) -> tuple[VisionData2Vec, Peer]:
    """Both with the same random weights, every tensor of both sides used."""
    torch.manual_seed(0)
    config = config_of(args)
    theirs = Peer(config)
    with torch.no_grad():
        for p in theirs.student.parameters():                           # nothing is at rest
            p.add_(0.02 * torch.randn(p.shape))
        for old, new in zip(theirs.teacher.parameters(), theirs.student.parameters()):
            old.copy_(new)
    whole = MaskedBEiT(config, config.width)
    state = theirs.student.state_dict() | {f"lm_head.{n}": p for n, p in theirs.head.state_dict().items()}
    if expected_shapes(whole, TRANSFORMERS) != {name: tuple(value.shape) for name, value in state.items()}:
        raise ValueError("the networks have not the same tensors; compare their configurations")
    mapped = joined(whole, TRANSFORMERS, state)
    ours = VisionData2Vec.new(config, method_of(config))
    ours.student.load_state_dict({name.removeprefix("encoder."): value for name, value in mapped.items()
                                  if name.startswith("encoder.")})
    ours.head.load_state_dict({name.removeprefix("head."): value for name, value in mapped.items()
                               if name.startswith("head.")})
    ours.restart()
    return ours, theirs


def stepper(model: VisionData2Vec | Peer, images: Tensor, mask: Tensor) -> Task:
    """A function that makes a step and returns the loss and the norm of the gradient."""
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trained, lr=LR, weight_decay=0.05, fused=True)
    model.eval()

    def run() -> Tensor:
        if isinstance(model, Peer):
            loss = model(images, mask)
        else:
            found = model(images, mask)
            loss = regression_loss(found.prediction, found.target, model.config.beta)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained, CLIP)
        adam.step()
        adam.zero_grad(set_to_none=True)
        model.update()
        model.train()
        return torch.stack([loss.detach(), norm])

    return run


def prepared(args: argparse.Namespace, ways: tuple[str, ...] = WAYS) -> dict[str, Task]:
    """A step of each way."""
    ours, theirs = learners(args)
    g = torch.Generator().manual_seed(1)
    config = config_of(args)
    images = torch.randn(args.batch, 3, config.size, config.size, generator=g)
    batch = vision_batch(images, config, g)
    models: dict[str, VisionData2Vec | Peer] = {"mmlearn": ours, "transformers": theirs}
    return {way: stepper(models[way].to(args.device), batch.inputs.to(args.device),
                         batch.mask.to(args.device)) for way in ways}


def compare(ways: dict[str, Task], tolerance: float = 1e-3) -> None:
    """Refuse ways whose first steps differ."""
    results = {way: run() for way, run in ways.items()}
    for result in results.values():
        torch.testing.assert_close(result, results["mmlearn"], rtol=tolerance, atol=tolerance)


def one_memory(way: str, args: argparse.Namespace) -> int:
    """By how many bytes a step makes this process, or its share of the device, grow."""
    run = prepared(args, (way,))[way]
    if args.device == "cpu":
        measuring.forget_peak()                                         # making the networks is not counted
    return measuring.growth(run, args.device)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=("step",), default=["step"])
    parser.add_argument("--size", choices=("mini", "base", "large"), default="base")
    parser.add_argument("--layers", type=int, default=0, help="blocks, where not all of the size's")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--drop-path", type=float, default=0.2)
    measuring.add_common(parser, repeats=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        print(one_memory(args.child, args))
        return
    about = (f"data2vec vision, {args.size}, {config_of(args).layers} blocks, {args.batch} pictures, drop "
             f"path {args.drop_path}, {measuring.setting(args)}")
    if args.memory:
        names = ("size", "layers", "batch", "drop_path", "threads", "device")
        found = measuring.growth_of({"step": WAYS}, __file__, args, names)
        what, shown = "growth by one step", measuring.megabytes
    else:
        def compared(task: str) -> dict[str, Task]:
            ways = prepared(args)
            compare(ways)
            return ways

        found = measuring.seconds_of(args.task, compared, args)
        what, shown = f"{measuring.unit(args)}, median of {args.repeats}", measuring.seconds
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{about}; {what}")
    measuring.print_rows(found, (6, 14), shown, lambda way, share: "" if way == "mmlearn" else
                         f"   (mmlearn / peer {1 / max(share, 1e-9):.2f}, goal {GOAL})")


if __name__ == "__main__":
    main()
