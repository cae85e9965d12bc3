"""How fast and how large: DDPM's U-Net for CIFAR-10 against that of diffusers.

    python benchmarks/diffusion.py                              # both tasks, two pictures
    python benchmarks/diffusion.py --task step --batch 16       # steps of training
    python benchmarks/diffusion.py --memory                     # by how much one task makes a process grow

Tasks, each with the same weights on both sides; the results are compared before they are timed:

- "ddim10": ten steps of DDIM from the same noise, estimates clipped. The peer is ``UNet2DModel`` with
  ``DDIMScheduler`` as ``DDIMPipeline`` runs them, its noise derived anew from clipped estimates, as ours is.
- "step": a step of training on the mean squared error of the noise, the gradient clipped to a norm of 1, with
  the same fused Adam on both sides. The first step is without dropout, so that losses and norms can be
  compared. The peer is ``UNet2DModel`` as it comes; the weights of ours stand channels last.

Peers take turns in one process. A ratio below 1 means that mmlearn needs less.
"""

import argparse
import json
from collections.abc import Callable

import measuring
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlearn.pretrained.diffusion import diffusers_names
from mmlearn.text2image.ddpm import DDPMConfig, DDPMUNet
from mmlearn.text2image.diffusion import NoiseSchedule
from mmlearn.text2image.samplers import sample

SIZES = ("mini", "cifar10")
WAYS = ("mmlearn", "diffusers")
Task = Callable[[], Tensor]

# ---------------------------------------------------------------------------------------- both networks


def config_of(size: str) -> DDPMConfig:
    """A miniature, or the paper's network for CIFAR-10."""
    return DDPMConfig.mini() if size == "mini" else DDPMConfig.cifar10()


def peer(config: DDPMConfig) -> nn.Module:
    """The U-Net of diffusers with the sizes of ours."""
    from diffusers import UNet2DModel
    sides = [config.size // 2**level for level in range(len(config.widths))]
    attends = [side in config.attention for side in sides]
    return UNet2DModel(
        sample_size=config.size, block_out_channels=config.widths, layers_per_block=config.blocks,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        attention_head_dim=None, dropout=config.dropout, norm_num_groups=config.groups, norm_eps=1e-6,
        downsample_padding=0, flip_sin_to_cos=False, freq_shift=1)


def networks(size: str) -> tuple[DDPMUNet, nn.Module]:
    """Both networks with the same random weights, every tensor of both sides used."""
    torch.manual_seed(0)
    config = config_of(size)
    theirs, ours = peer(config), DDPMUNet(config)
    names, state = diffusers_names(ours), theirs.state_dict()
    if sorted(name for of in names.values() for name in of) != sorted(state):
        raise ValueError("the networks have not the same tensors; compare their configurations")
    ours.load_state_dict({mine: torch.cat([state[name] for name in of]) for mine, of in names.items()})
    return ours, theirs


# ---------------------------------------------------------------------------------------------- the tasks

def ddim10(args: argparse.Namespace) -> dict[str, Task]:
    """Ten steps of DDIM with either library."""
    from diffusers import DDIMScheduler
    ours, theirs = networks(args.size)
    ours, theirs = ours.to(args.device).eval(), theirs.to(args.device).eval()
    config = config_of(args.size)
    shape = (args.batch, config.in_channels, config.size, config.size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(args.device)
    schedule = NoiseSchedule.linear().respaced("ddim10")
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=True)
    scheduler.set_timesteps(10)

    def of_mmlearn() -> Tensor:
        return sample(ours, schedule, shape, "ddim", start=noise)

    @torch.no_grad()
    def of_diffusers() -> Tensor:
        x = noise
        for t in scheduler.timesteps:
            output = theirs(x, t).sample
            x = scheduler.step(output, t, x, eta=0.0, use_clipped_model_output=True).prev_sample
        return x

    return {"mmlearn": of_mmlearn, "diffusers": of_diffusers}


def step(args: argparse.Namespace) -> dict[str, Task]:
    """A step of training with either library: returns the loss and the norm of the gradient."""
    config = config_of(args.size)
    g = torch.Generator().manual_seed(1)
    shape = (args.batch, config.in_channels, config.size, config.size)
    x, noise = (torch.randn(shape, generator=g).to(args.device) for _ in range(2))
    t = torch.randint(0, 1000, (args.batch,), generator=g).to(args.device)

    def stepper(model: nn.Module, predict: Callable[[], Tensor]) -> Task:
        adam = torch.optim.Adam(model.parameters(), lr=2e-4, fused=True)
        model.eval()

        def run() -> Tensor:
            loss = F.mse_loss(predict(), noise)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad(set_to_none=True)
            model.train()
            return torch.stack([loss.detach(), norm])

        return run

    ours, theirs = (model.to(args.device) for model in networks(args.size))
    ours = ours.to(memory_format=torch.channels_last)                       # type: ignore[call-overload]
    return {"mmlearn": stepper(ours, lambda: ours(x, t)),
            "diffusers": stepper(theirs, lambda: theirs(x, t).sample)}


TASKS: dict[str, Callable[[argparse.Namespace], dict[str, Task]]] = {"ddim10": ddim10, "step": step}


def compare(ways: dict[str, Task], tolerance: float = 1e-3) -> None:
    """Refuse ways whose results differ."""
    results = {way: run() for way, run in ways.items()}
    for result in results.values():
        torch.testing.assert_close(result, results["mmlearn"], rtol=tolerance, atol=tolerance)


def one_memory(task: str, way: str, args: argparse.Namespace) -> int:
    """By how many bytes one run of a task makes this process, or its share of the device, grow."""
    run = TASKS[task](args)[way]
    if args.device == "cpu":
        measuring.forget_peak()                                         # making the networks is not counted
    return measuring.growth(run, args.device, first=False)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--size", choices=SIZES, default="cifar10")
    parser.add_argument("--batch", type=int, default=2)
    measuring.add_common(parser, repeats=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        print(one_memory(args.task[0], args.child, args))
        return
    about = f"{args.size}, batch {args.batch}, {measuring.setting(args)}"
    if args.memory:
        names = ("size", "batch", "threads", "device")
        values = measuring.growth_of(dict.fromkeys(args.task, WAYS), __file__, args, names)
        unit, scale, what = "MB", 1e-6, "growth by one run"
    else:
        def compared(task: str) -> dict[str, Task]:
            ways = TASKS[task](args)
            compare(ways)
            return ways

        values = measuring.seconds_of(args.task, compared, args)
        unit, scale, what = "s", 1.0, f"{measuring.unit(args)}, median of {args.repeats}"
    ratios = {task: of["mmlearn"] / of["diffusers"] for task, of in values.items()}
    if args.json:
        print(json.dumps({"values": values, "ratios": ratios}, indent=1))
        return
    print(f"{about}; {what}")
    for task, of in values.items():
        for way, value in of.items():
            print(f"  {task:<8} {way:<10} {value * scale:8.3f} {unit}")
        print(f"  {task:<8} ours / theirs {ratios[task]:.2f}")


if __name__ == "__main__":
    main()
