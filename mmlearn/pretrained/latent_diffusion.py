r"""The public weights of latent diffusion: Stable Diffusion 1 and the paper's text-to-image U-Net, as ours.

Files: github.com/CompVis/latent-diffusion (MIT) and CompVis/stable-diffusion (CreativeML OpenRAIL-M), one
checkpoint with the U-Net behind ``model.diffusion_model.``, the autoencoder behind ``first_stage_model.``
and CLIP's text tower behind ``cond_stage_model.transformer.``; folders of diffusers'
``UNet2DConditionModel``, such as ``unet`` of CompVis/stable-diffusion-v1-4.  Survey: 2.3.1.  Differs from
the paper: nothing.

A checkpoint that holds all three parts becomes a ``LatentDiffusion``, a U-Net alone a ``LatentUNet``. Heads
are told by no shape: 8 in all of these models (diffusers calls their number ``attention_head_dim``). What
else a checkpoint holds (averages, schedules, the paper's text transformer, whose layout is another) is left
out and said.
"""

import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.files import read_json
from mmlearn.nn.configuration import configured
from mmlearn.nn.modes import blank
from mmlearn.pretrained import clip, fitting, vqgan
from mmlearn.pretrained.files import download, layers_of, read_state, shape_of, weights_in, whole
from mmlearn.text2image.kl_autoencoder import KLAutoencoder
from mmlearn.text2image.latent_diffusion import (
    CLIPStates,
    LatentDiffusion,
    LatentDiffusionConfig,
    LatentUNet,
    LatentUNetConfig,
)
from mmlearn.text_for_vision.clip import TextConfig
from mmlearn.weights import SUFFIXES

SYSTEM = "latent diffusion"
State = dict[str, Tensor]
FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
CLASS = "UNet2DConditionModel"
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
TEXT = "cond_stage_model.transformer.text_model."
SIGNATURE = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
HEADS = 8
KNOWN = {  # settings of diffusers that would make another network, and ours
    "act_fn": "silu",
    "center_input_sample": False,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "class_embed_type": None,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "addition_embed_type": None,
    "encoder_hid_dim": None,
    "upcast_attention": False,
    "use_linear_projection": False,
}

BLOCK = {  # our part of a residual block -> CompVis's, diffusers'
    "norm1": ("in_layers.0", "norm1"), "conv1": ("in_layers.2", "conv1"),
    "condition": ("emb_layers.1", "time_emb_proj"), "norm2": ("out_layers.0", "norm2"),
    "conv2": ("out_layers.3", "conv2"), "shortcut": ("skip_connection", "conv_shortcut")}
READER = (  # our part of a transformer -> both theirs
    (r"^enter\.", "proj_in."), (r"^leave\.", "proj_out."), (r"^layers\.", "transformer_blocks."),
    (r"self_attention\.out\.", "attn1.to_out.0."), (r"cross_attention\.out\.", "attn2.to_out.0."),
    (r"feed_forward\.inner\.", "ff.net.0.proj."), (r"feed_forward\.outer\.", "ff.net.2."))
JOINED = (("self_attention.project.", "attn1.to_", "qkv"), ("cross_attention.queries.", "attn2.to_", "q"),
          ("cross_attention.keys_values.", "attn2.to_", "kv"))


def inside(part: str, layout: int) -> tuple[str, ...]:
    """Names within one layer, of which ours is ``part``: several where ours joins them."""
    head, _, rest = part.partition(".")
    if head in BLOCK:
        return (f"{BLOCK[head][layout]}.{rest}",)
    for pattern, theirs in READER:
        part = re.sub(pattern, theirs, part)
    for ours, theirs, letters in JOINED:
        if ours in part:
            return tuple(part.replace(ours, f"{theirs}{letter}.") for letter in letters)
    return (part,)


def compvis_names(config: LatentUNetConfig) -> Callable[[str], tuple[str, ...]]:
    """Names in the authors' checkpoints: the way down counts from ``input_blocks.1``."""
    ends = {"time.linear1": "time_embed.0", "time.linear2": "time_embed.2", "conv_in": "input_blocks.0.0",
            "norm": "out.0", "conv_out": "out.2"}

    def names(ours: str) -> tuple[str, ...]:
        for mine, theirs in ends.items():
            if ours.startswith(f"{mine}."):
                return (theirs + ours.removeprefix(mine),)
        way, *rest = ours.split(".")
        if way == "middle":
            place, part = f"middle_block.{rest[0]}", ".".join(rest[1:])
        else:
            number = int(rest[0]) + (way == "down")
            place, part = (f"{'input' if way == 'down' else 'output'}_blocks.{number}.{rest[1]}",
                           ".".join(rest[2:]))
        if way == "down" and part.startswith("conv."):                  # a convolution that halves
            return (f"{place}.op.{part.removeprefix('conv.')}",)
        return tuple(f"{place}.{name}" for name in inside(part, 0))

    return names


def diffusers_names(config: LatentUNetConfig) -> Callable[[str], tuple[str, ...]]:
    """Names in the files of diffusers: levels, and blocks and transformers within them."""
    ends = {"time.linear1": "time_embedding.linear_1", "time.linear2": "time_embedding.linear_2",
            "conv_in": "conv_in", "norm": "conv_norm_out", "conv_out": "conv_out"}
    middle = ("resnets.0", "attentions.0", "resnets.1")

    def names(ours: str) -> tuple[str, ...]:
        for mine, theirs in ends.items():
            if ours.startswith(f"{mine}."):
                return (theirs + ours.removeprefix(mine),)
        way, *rest = ours.split(".")
        if way == "middle":
            place, part = f"mid_block.{middle[int(rest[0])]}", ".".join(rest[1:])
        else:
            level, i = divmod(int(rest[0]), config.blocks + 1)
            part = ".".join(rest[2:])
            kind = ("samplers.0" if part.startswith("conv.") else
                    f"resnets.{i}" if rest[1] == "0" else f"attentions.{i}")
            place = f"{way}_blocks.{level}.{kind.replace('samplers', f'{way}samplers')}"
        return tuple(f"{place}.{name}" for name in inside(part, 1))

    return names


# -------------------------------------------------------------------------------------- configurations


def prefix_of(names: Collection[str]) -> str | None:
    """What stands before the names of a U-Net of the authors; None where there is none."""
    return next((prefix for prefix in PREFIXES if prefix + SIGNATURE in names), None)


def config_of(state: Mapping[str, Tensor], where: str, size: int) -> LatentUNetConfig:
    """The sizes of the authors' U-Net by names and shapes, all but the side of the grid and the heads."""
    width, channels = shape_of(state, "input_blocks.0.0.weight", 4, where)[:2]
    halvings = [
        int(found[1])
        for name in state
        if (found := re.fullmatch(r"input_blocks\.(\d+)\.0\.op\.weight", name))
    ]
    blocks = min(halvings, default=layers_of(state, r"input_blocks\.(\d+)\.")) - 1
    levels = len(halvings) + 1
    first = [1 + level * (blocks + 1) for level in range(levels)]
    widths = [shape_of(state, f"input_blocks.{i}.0.out_layers.3.weight", 4, where)[0] for i in first]
    if any(w % width for w in widths):
        raise ValueError(
            f"{where}: the levels have {', '.join(map(str, widths))} channels, no multiples of the "
            f"{width} of the first map; take the file as it was published"
        )
    attends = [f"input_blocks.{i}.1.norm.weight" in state for i in first]
    return configured(LatentUNetConfig, dict(
        size=size, width=width, multipliers=tuple(float(w // width) for w in widths), blocks=blocks,
        attention=tuple(size >> level for level in range(levels) if attends[level]), in_channels=channels,
        out_channels=shape_of(state, "out.2.weight", 4, where)[0], heads=HEADS,
        context=shape_of(state, SIGNATURE, 2, where)[1],
        depth=layers_of(state, r"input_blocks\.1\.1\.transformer_blocks\.(\d+)\.")), where)


def config_of_diffusers(found: Mapping[str, Any], where: str) -> LatentUNetConfig:
    """The U-Net of a configuration of diffusers, if it is one of latent diffusion's."""
    unlike = [name for name, value in KNOWN.items() if found.get(name, value) != value]
    widths, size = (
        found.get("block_out_channels", [320, 640, 1280, 1280]),
        whole(found, "sample_size", 64, where),
    )
    kinds = found.get("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"])
    if unlike or not {"CrossAttnDownBlock2D", "DownBlock2D"} >= set(kinds):
        raise ValueError(
            f"{where} sets {', '.join(unlike or ['down_block_types'])} otherwise than the U-Nets of "
            "latent diffusion; it is another model"
        )
    return configured(LatentUNetConfig, dict(
        size=size, width=widths[0], multipliers=tuple(w / widths[0] for w in widths),
        blocks=found.get("layers_per_block", 2),
        attention=tuple(size >> i for i, kind in enumerate(kinds) if kind.startswith("Cross")),
        in_channels=found.get("in_channels", 4), out_channels=found.get("out_channels", 4),
        heads=found.get("num_attention_heads") or found.get("attention_head_dim", 8),
        context=found.get("cross_attention_dim", 1280), groups=found.get("norm_num_groups", 32)), where,
        {"heads": "attention_head_dim", "context": "cross_attention_dim"})


# -------------------------------------------------------------------------------------------- reading


def filled(
    model: nn.Module, state: Mapping[str, Tensor], names: Callable[[str], tuple[str, ...]], where: str
) -> Any:
    """``model`` with the tensors of ``state``, every name and shape accounted for on both sides; 1 x 1
    convolutions become matrices."""
    ours = {name: names(name) for name in model.state_dict()}
    expected = {their: (value.shape[0] // len(ours[name]), *value.shape[1:])
                for name, value in model.state_dict().items() for their in ours[name]}
    state = {
        name: value.flatten(1) if re.search(r"\.proj_(in|out)\.weight$", name) and value.ndim == 4 else value
        for name, value in state.items()
    }
    found = fitting(state, expected, where)
    model.load_state_dict({name: torch.cat([found[their].float() for their in theirs])
                           for name, theirs in ours.items()}, assign=True)
    return model.eval()


def load_text(state: Mapping[str, Tensor], where: str) -> CLIPStates:
    """The frozen text tower of a checkpoint, without what its files hold besides weights."""
    inner = {name.removeprefix("cond_stage_model.transformer."): value for name, value in state.items()
             if name.startswith(TEXT) and not name.endswith("position_ids")}
    vocab, width = shape_of(inner, "text_model.embeddings.token_embedding.weight", 2, where)
    context = shape_of(inner, "text_model.embeddings.position_embedding.weight", 2, where)[0]
    config = TextConfig(vocab, context, width, layers_of(inner, r"text_model\.encoder\.layers\.(\d+)\."),
                        max(1, width // 64), vocab - 1)
    with blank():
        model = CLIPStates(config)
    return filled(model, inner, lambda name: tuple(
        one.removeprefix("text.") for one in clip.sources(f"text.{name}", "hugging-face")[0]), where)


def knows(names: Collection[str]) -> bool:
    """Are these names those of a U-Net of latent diffusion?"""
    return prefix_of(names) is not None


def recognises(path: Path) -> bool:
    """Is this a checkpoint of the authors, or a folder of diffusers with the U-Net?"""
    if path.is_dir():
        file = path / "config.json"
        return file.is_file() and read_json(file).get("_class_name") == CLASS
    return path.is_file() and path.suffix in SUFFIXES and knows(read_state(path))


def fetch(name: str) -> Path:
    """The U-Net's folder of a public model on the hub."""
    return download(name, ["unet/config.json"], lambda folder: [f"unet/{file}" for file in FILES]) / "unet"


def load(path: Path, size: int = 64) -> LatentDiffusion | LatentUNet:
    """The whole system of a checkpoint with its three parts, else the U-Net, in evaluation mode and float32.

    ``size`` is the side of the grid, which no weight tells (64: pictures of 512 pixels); a folder of
    diffusers says its own. Raises ``ValueError`` where names, shapes or settings differ.
    """
    where = str(path)
    if path.is_dir():
        config = config_of_diffusers(read_json(path / "config.json"), str(path / "config.json"))
        file = weights_in(path, FILES)
        with blank():
            unet = LatentUNet(config)
        return filled(unet, read_state(file), diffusers_names(config), str(file))
    state = read_state(path)
    prefix = prefix_of(state)
    if prefix is None:
        raise ValueError(
            f"{path} has no U-Net of latent diffusion; give a checkpoint as the authors published it"
        )
    inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    config = config_of(inner, where, size)
    with blank():
        unet = LatentUNet(config)
    unet = filled(unet, inner, compvis_names(config), where)
    parts = (prefix, vqgan.FIRST_STAGE, "cond_stage_model.")
    if not prefix or not any(name.startswith(TEXT) for name in state) or not vqgan.knows(state):
        say(where, [name for name in state if prefix and not name.startswith(prefix)])
        return unet
    say(where, [name for name in state if not name.startswith(parts)])
    first_stage, text = vqgan.load(path), load_text(state, where)
    if not isinstance(first_stage, KLAutoencoder):
        raise ValueError(f"{where} has a first stage with codes, expected one with normal latents; give a "
                         "checkpoint of Stable Diffusion")
    with blank():
        model = LatentDiffusion(LatentDiffusionConfig(config, first_stage.config, text.config))
    model.unet, model.first_stage, model.text = (
        unet,
        first_stage.requires_grad_(False),
        text.requires_grad_(False),
    )
    return model.eval()


def say(where: str, names: Collection[str]) -> None:
    """One line on stderr about tensors that are left out, by the first part of their names."""
    if names:
        parts = sorted({name.split(".")[0] for name in names})
        print(f"{where}: left out {len(names)} tensors that are not read here: {', '.join(parts[:6])}"
              f"{' …' if len(parts) > 6 else ''}", file=sys.stderr)
