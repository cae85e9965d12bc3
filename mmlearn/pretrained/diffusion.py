r"""The public weights of diffusion U-Nets: names and shapes of the authors' files, turned into ours.

Papers: see the modules of the models.  Files: ``64x64_diffusion.pt`` … and the classifiers of
github.com/openai/guided-diffusion (MIT); folders of Hugging Face's hub as ``google/ddpm-cifar10-32``
(Apache-2.0), converted from the authors' TensorFlow checkpoints.  Survey: 2.3.
Differs from the papers: nothing.

A guided-diffusion file says neither how many pixels its pictures have nor how its attention is cut into
heads: that is looked up among the published sizes, or given as ``config``. Rows of its projections are
ordered by head and then queries, keys, values, except in ``64x64_diffusion.pt``, which orders them as we do
(``use_new_attention_order`` in the authors' README).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.files import read_json
from mmlearn.nn.configuration import configured, shown
from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import download, layers_of, read_state, shape_of, weights_in, whole
from mmlearn.text2image.adm import ADMConfig, ADMUNet, ADMUpsampler, NoisyClassifier, NoisyClassifierConfig
from mmlearn.text2image.ddpm import DDPMConfig, DDPMUNet
from mmlearn.text2image.unet import HalfUNet, SpatialAttention, UNetConfig
from mmlearn.weights import SUFFIXES

SYSTEM = "guided-diffusion and DDPM"
State = dict[str, Tensor]
FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
ADDRESS = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/"
SIGNATURE = {"time_embed.0.weight", "input_blocks.1.0.in_layers.0.weight"}
STRANGERS = re.compile(r"transformer|encoder_kv|token_embedding|label_emb\.0")    # GLIDE, latent diffusion
GUIDED = (                                                              # ours -> theirs
    (r"^time\.linear1", "time_embed.0"), (r"^time\.linear2", "time_embed.2"), (r"^label\.", "label_emb."),
    (r"^conv_in", "input_blocks.0.0"), (r"^down\.(\d+)", lambda found: f"input_blocks.{int(found[1]) + 1}"),
    (r"^middle", "middle_block"), (r"^up", "output_blocks"), (r"^norm", "out.0"), (r"^conv_out", "out.2"),
    (r"^pool\.places", "out.2.positional_embedding"), (r"^pool\.in_", "out.2.qkv_proj."),
    (r"^pool\.out", "out.2.c_proj"), (r"\.norm1", ".in_layers.0"), (r"\.conv1", ".in_layers.2"),
    (r"\.condition", ".emb_layers.1"), (r"\.norm2", ".out_layers.0"), (r"\.conv2", ".out_layers.3"),
    (r"\.shortcut", ".skip_connection"), (r"\.in_(weight|bias)", r".qkv.\1"),
    (r"(_block|_blocks\.\d+)\.(\d)\.out\.", r"\1.\2.proj_out."), (r"\.context\.", ".encoder_kv."),
)


def guided_name(ours: str) -> str:
    """What guided-diffusion, and GLIDE after it, call our tensor ``ours`` of an ADM U-Net or a classifier."""
    for pattern, theirs in GUIDED:
        ours = re.sub(pattern, theirs, ours)                            # type: ignore[call-overload]
    return ours


def by_kind(rows: Tensor, heads: int, kinds: int = 3) -> Tensor:
    """Rows ordered by head and then kind (queries, keys, values) in the order of kind and then head."""
    return rows.unflatten(0, (heads, kinds, -1)).transpose(0, 1).flatten(0, 2)


def guided_weights(model: HalfUNet, state: Mapping[str, Tensor], new_order: bool) -> State:
    """The tensors of a guided-diffusion state as ``model`` holds them, in float32.

    ``state`` has every name that ``guided_name`` gives; ``new_order`` says that rows of projections are
    ordered by kind already. Kernels of their convolutions over lists lose their length of 1.
    """
    heads = {name: layer.heads for name, layer in model.named_modules()
             if isinstance(layer, SpatialAttention)}
    weights = {}
    for name, mine in model.state_dict().items():
        value = state[guided_name(name)].float()
        if name == "pool.places":
            value = value.mT
        layer, _, kind = name.rpartition(".")
        kinds = 3 if kind in ("in_weight", "in_bias") else 2 if layer.endswith(".context") else 0
        of = layer.removesuffix(".context")
        value = value.reshape(mine.shape)
        if kinds and of in heads and not new_order:
            value = by_kind(value, heads[of], kinds)
        weights[name] = value.clone(memory_format=torch.contiguous_format)
    return weights


def guided_shapes(model: HalfUNet) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a guided-diffusion file of ``model`` has."""
    shapes = {}
    for name, mine in model.state_dict().items():
        shape = tuple(mine.shape)
        if name == "pool.places":
            shape = shape[::-1]
        elif re.search(r"\.in_weight|\.context\.weight", name) or (
                name.endswith("out.weight") and len(shape) == 2):
            shape = *shape, 1
        shapes[guided_name(name)] = shape
    return shapes


# ---------------------------------------------------------------------------------------------- their sizes


def published(kind: Any) -> list[Any]:
    """The configurations of a class that have a name of their own, miniatures left out."""
    names = [name for name, value in vars(kind).items() if isinstance(value, classmethod) and name != "mini"]
    return [getattr(kind, name)() for name in names]


def build(config: Any) -> HalfUNet:
    """The network of a configuration, without numbers."""
    with blank():
        if isinstance(config, NoisyClassifierConfig):
            return NoisyClassifier(config)
        return ADMUpsampler(config) if config.in_channels == 6 else ADMUNet(config)


def adm_config(state: Mapping[str, Tensor], where: str) -> ADMConfig:
    """The sizes of a U-Net: published ones where they fit, else what names and shapes say.

    Heads of 64 channels and, at the lowest map that attends, 8 pixels are assumed then. Raises ``ValueError``
    where the names are not those of a whole U-Net.
    """
    ups = [int(found[1]) for name in state
           if (found := re.fullmatch(r"output_blocks\.(\d+)\.[12]\.in_layers\.0\.weight", name))]
    stages = layers_of(state, r"output_blocks\.(\d+)\.")
    per_level = min(ups) + 1 if ups else stages
    if stages % per_level or not stages:
        raise ValueError(f"{where}: {stages} output blocks are not levels of {per_level} each; take the file "
                         f"as it was published")
    levels = stages // per_level
    width = shape_of(state, "time_embed.0.weight", 2, where)[1]
    first = [1 + level * per_level for level in range(levels)]          # the first input block of each level
    widths = [shape_of(state, f"input_blocks.{i}.0.out_layers.3.weight", 4, where)[0] for i in first]
    attending = [level for level, i in enumerate(first) if f"input_blocks.{i}.1.qkv.weight" in state]
    size = 8 << attending[-1] if attending else 8 << (levels - 1)
    into, out = (shape_of(state, name, 4, where)[side] for name, side in (("input_blocks.0.0.weight", 1),
                                                                          ("out.2.weight", 0)))
    classes = shape_of(state, "label_emb.weight", 2, where)[0] if "label_emb.weight" in state else None
    sizes = ADMConfig(size, width, tuple(w / width for w in widths), per_level - 1,
                      tuple(size >> level for level in attending), in_channels=into, out_channels=out,
                      classes=classes, head_channels=None, heads=1)
    known = next((config for config in published(ADMConfig) if sizes_of(config) == sizes_of(sizes)), None)
    if known is not None:
        return known
    try:
        return replace(sizes, head_channels=64, heads=ADMConfig.heads)
    except ValueError as error:
        raise ValueError(f"{where}: {error}, or give config=ADMConfig(…)") from None


def sizes_of(config: ADMConfig) -> tuple[Any, ...]:
    """What names and shapes tell of a configuration: pixels and heads are not among it."""
    attending = [side in config.attention for side in (config.size >> i for i in range(len(config.widths)))]
    return (config.width, config.widths, config.blocks, attending, config.in_channels, config.out_channels,
            config.labels)


def classifier_config(state: Mapping[str, Tensor], where: str) -> NoisyClassifierConfig:
    """The published sizes of a classifier with these tensors. Raises ``ValueError`` if there are none."""
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    for config in published(NoisyClassifierConfig):
        if guided_shapes(build(config)) == shapes:
            return config
    raise ValueError(f"{where} is none of the published classifiers of 64 to 512 pixels, and its names do "
                     f"not tell its sizes; give config=NoisyClassifierConfig(…)")


# ------------------------------------------------------------------------------------------------- diffusers


def diffusers_config(folder: Path) -> DDPMConfig:
    """The sizes that a folder's config.json states. Raises ``ValueError`` for other U-Nets than DDPM's."""
    path = folder / "config.json"
    found = read_json(path, remedy="download the folder again")
    wanted = {"_class_name": "UNet2DModel", "act_fn": "silu", "center_input_sample": False, "freq_shift": 1,
              "time_embedding_type": "positional", "flip_sin_to_cos": False, "downsample_padding": 0,
              "mid_block_scale_factor": 1, "attention_head_dim": None, "norm_eps": 1e-6,
              "resnet_time_scale_shift": "default", "downsample_type": "conv", "upsample_type": "conv",
              "add_attention": True, "class_embed_type": None, "num_class_embeds": None,
              "attn_norm_num_groups": None}
    for name, value in wanted.items():
        if found.get(name, value) != value:
            raise ValueError(f"{path}: {name} is {shown(found[name])}, expected {value!r}; give a folder of "
                             f"DDPM's U-Net, as google/ddpm-cifar10-32")
    values = {ours: found.get(theirs, default) for ours, theirs, default in (
        ("blocks", "layers_per_block", 2), ("in_channels", "in_channels", 3),
        ("out_channels", "out_channels", 3), ("groups", "norm_num_groups", 32))}
    widths, kinds = found.get("block_out_channels"), found.get("down_block_types")
    if not (isinstance(widths, list) and isinstance(kinds, list) and len(widths) == len(kinds) > 0
            and all(isinstance(w, int) and w > 0 for w in widths)):
        raise ValueError(f"{path}: block_out_channels is {shown(widths)} and down_block_types "
                         f"{shown(kinds)}, expected two lists of equal length; download the folder again")
    if strange := sorted({str(kind) for kind in kinds} - {"DownBlock2D", "AttnDownBlock2D"}):
        raise ValueError(f"{path}: down_block_types has {shown(strange[0])}, which is no block of DDPM's; "
                         f"give a folder of DDPM's U-Net, as google/ddpm-cifar10-32")
    size = whole(found, "sample_size", 32, str(path))
    values |= {"size": size, "width": widths[0], "multipliers": [w / widths[0] for w in widths],
               "attention": [size >> i for i, kind in enumerate(kinds) if kind == "AttnDownBlock2D"]}
    return configured(DDPMConfig, values, path)


def diffusers_names(model: DDPMUNet) -> dict[str, list[str]]:
    """What diffusers calls our tensors: one name each, or those of queries, keys and values."""
    per_level = model.config.blocks + 1
    names: dict[str, list[str]] = {}
    for name in model.state_dict():
        part, *rest = name.split(".")
        if part in ("down", "up"):
            level, i = divmod(int(rest[0]), per_level)
            layer = {"0": f"resnets.{i}", "1": f"attentions.{i}", "2": "upsamplers.0"}[rest[1]]
            if rest[2] == "conv":                                       # leads to the next level
                layer = "downsamplers.0" if part == "down" else "upsamplers.0"
            theirs = f"{part}_blocks.{level}.{layer}."
            inner = ".".join(rest[2:])
        elif part == "middle":
            theirs = "mid_block." + ("resnets.0.", "attentions.0.", "resnets.1.")[int(rest[0])]
            inner = ".".join(rest[1:])
        else:
            theirs, inner = "", re.sub(r"^time\.linear", "time_embedding.linear_", re.sub(
                r"^norm\.", "conv_norm_out.", name))
        for pattern, other in (("condition", "time_emb_proj"), ("shortcut", "conv_shortcut")):
            inner = inner.replace(pattern, other)
        if "attentions" in theirs:
            inner = re.sub(r"^norm\.", "group_norm.", re.sub(r"^out\.", "to_out.0.", inner))
        kinds = [f"to_{kind}." for kind in "qkv"] if inner.startswith("in_") else [""]
        names[name] = [theirs + kind + inner.removeprefix("in_") for kind in kinds]
    return names


OLD = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))   # names until 2023


def of_today(name: str) -> str:
    """Today's name of a tensor of an older file of diffusers."""
    for old, new in OLD:
        name = name.replace(f".{old}.", f".{new}.")
    return name


def load_diffusers(folder: Path) -> DDPMUNet:
    """DDPM's U-Net from a folder of the hub, every name and shape accounted for."""
    path = weights_in(folder, FILES)
    with blank():
        model = DDPMUNet(diffusers_config(folder))
    names, expected = diffusers_names(model), {}
    for name, theirs in names.items():
        shape = tuple(model.state_dict()[name].shape)
        for one in theirs:
            expected[one] = (shape[0] // len(theirs), *shape[1:])
    state = fitting({of_today(name): value for name, value in read_state(path).items()}, expected, str(path))
    model.load_state_dict({name: torch.cat([state[one].float() for one in theirs])
                           for name, theirs in names.items()}, assign=True)
    return model


# ------------------------------------------------------------------------------------------------ the reader


def knows(names: Collection[str]) -> bool:
    """Are these names those of a U-Net or a classifier of guided-diffusion?"""
    return (SIGNATURE <= set(names)) and not any(STRANGERS.search(name) for name in names)


def recognises(path: Path) -> bool:
    """Is this a file of guided-diffusion, or a folder of diffusers with a U-Net?"""
    if path.is_dir():
        config = path / "config.json"
        return config.is_file() and read_json(config).get("_class_name") == "UNet2DModel"
    return path.is_file() and path.suffix in SUFFIXES and knows(read_state(path))


def fetch(name: str) -> Path:
    """The folder of a DDPM on the hub. Raises ``FileNotFoundError`` for guided-diffusion: it has none."""
    if name.startswith("openai/"):
        raise FileNotFoundError(f"the weights of {name} are on no hub; get a file such as {ADDRESS}"
                                f"256x256_diffusion.pt and load it by its path")
    return download(name, ["config.json"], lambda folder: FILES)


def load(path: Path, config: UNetConfig | None = None, new_order: bool | None = None) -> nn.Module:
    """The network of a file or folder, in evaluation mode and float32, every name and shape accounted for.

    For files of guided-diffusion ``config`` gives sizes that are not published ones, and ``new_order`` that
    the rows of its projections are ordered by queries, keys and values before heads; without it, this is so
    for the published sizes of 64 pixels alone. Raises ``ValueError`` if a name or a shape differs.
    """
    if path.is_dir():
        return load_diffusers(path).eval()
    where, state = str(path), read_state(path)
    if config is None:
        classifier = "out.2.positional_embedding" in state
        config = classifier_config(state, where) if classifier else adm_config(state, where)
    model = build(config)
    state = fitting(state, guided_shapes(model), where)
    if new_order is None:
        new_order = isinstance(config, ADMConfig) and config == ADMConfig.imagenet64()
    model.load_state_dict(guided_weights(model, state, new_order), assign=True)
    return model.eval()
