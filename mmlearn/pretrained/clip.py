"""The public weights of CLIP: OpenAI's, those of Hugging Face's hub and OpenCLIP's, each with its own names,
as ours.

Paper: A. Radford et al. (2021), arXiv:2103.00020; code and weights of github.com/openai/CLIP (MIT); the
layouts of ``transformers.CLIPModel`` and of github.com/mlfoundations/open_clip (G. Ilharco et al.,
doi:10.5281/zenodo.5143773). Survey: 4.2.2.  Differs from the paper: nothing.

The files decide everything that leaves no trace in a shape: activation, heads, epsilon, the end-of-text
token. A field of a configuration that we do not know is refused, not guessed. Tensors of 16 bits become
float32.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmlearn.files import read_json
from mmlearn.nn.configuration import configured, shown
from mmlearn.nn.modes import blank
from mmlearn.nn.modified_resnet import ResNetConfig
from mmlearn.nn.vit import ViTConfig
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import (
    HUGGING_FACE,
    Table,
    download,
    is_torchscript,
    layers_of,
    part_of,
    read_config,
    read_state,
    shape_of,
    weights_in,
    whole,
)
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig, TextConfig
from mmlearn.weights import SUFFIXES

SYSTEM = "CLIP"
OPEN_CLIP = ("open_clip_config.json", ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"))
BUFFERS = re.compile(
    r"input_resolution|context_length|vocab_size|attn_mask|(.*\.)?(position_ids|num_batches_tracked)"
)
SIGNATURE = {"logit_scale", "text_projection", "token_embedding.weight", "visual.conv1.weight"}

BLOCK = (("attention.in_weight", "attn.in_proj_weight"), ("attention.in_bias", "attn.in_proj_bias"),
         ("attention.out", "attn.out_proj"), ("attention_norm", "ln_1"), ("feed_forward_norm", "ln_2"),
         ("feed_forward.inner", "mlp.c_fc"), ("feed_forward.outer", "mlp.c_proj"))
OPENAI_NAMES = (                        # parts of our names, in order, and OpenAI's
    ("text.words", "token_embedding"), ("text.positions", "positional_embedding"),
    ("text.projection", "text_projection"), ("text.norm_after", "ln_final"),
    ("text.layers", "transformer.resblocks"), ("image.patches.project", "visual.conv1"),
    ("image.cls", "visual.class_embedding"), ("image.positions", "visual.positional_embedding"),
    ("image.norm_before", "visual.ln_pre"), ("image.norm_after", "visual.ln_post"),
    ("image.projection", "visual.proj"), ("image.layers", "visual.transformer.resblocks"),
    ("image.pool.positions", "visual.attnpool.positional_embedding"),
    ("image.pool.attention.out", "visual.attnpool.c_proj"),
    *((f"image.stem.{i}.{j}", f"visual.{part}{i + 1}") for i in range(3) for j,
      part in enumerate(("conv", "bn"))),
    *((f"image.stages.{i}", f"visual.layer{i + 1}") for i in range(4)),
    *((f"{name}.{j}", f"{part}{i + 1}") for i, name in enumerate(("first", "second", "third"))
      for j, part in enumerate(("conv", "bn"))),
    ("shortcut", "downsample"), *BLOCK,
)
HUGGING_FACE_NAMES = (
    ("text.words", "text_model.embeddings.token_embedding"),
    ("text.positions", "text_model.embeddings.position_embedding.weight"),
    ("text.norm_after", "text_model.final_layer_norm"), ("text.layers", "text_model.encoder.layers"),
    ("text.projection", "text_projection.weight"),
    ("image.patches.project", "vision_model.embeddings.patch_embedding"),
    ("image.cls", "vision_model.embeddings.class_embedding"),
    ("image.positions", "vision_model.embeddings.position_embedding.weight"),
    ("image.norm_before", "vision_model.pre_layrnorm"), ("image.norm_after", "vision_model.post_layernorm"),
    ("image.layers", "vision_model.encoder.layers"), ("image.projection", "visual_projection.weight"),
    ("attention.out", "self_attn.out_proj"), ("attention_norm", "layer_norm1"),
    ("feed_forward_norm", "layer_norm2"), ("feed_forward.inner", "mlp.fc1"),
    ("feed_forward.outer", "mlp.fc2"),
)
HUGGING_FACE_TEXT: Table = {
    "vocab": ("vocab_size", 49_408), "context": ("max_position_embeddings", 77),
    "width": ("hidden_size", 512), "layers": ("num_hidden_layers", 12), "heads": ("num_attention_heads", 8),
    "eps": ("layer_norm_eps", 1e-5)}
HUGGING_FACE_IMAGE: Table = {
    "size": ("image_size", 224), "patch": ("patch_size", 32), "width": ("hidden_size", 768),
    "layers": ("num_hidden_layers", 12), "heads": ("num_attention_heads", 12),
    "eps": ("layer_norm_eps", 1e-5)}
OPEN_CLIP_TEXT: Table = {
    "vocab": ("vocab_size", 49_408), "context": ("context_length", 77), "width": ("width", 512),
    "layers": ("layers", 12), "heads": ("heads", 8)}


# ------------------------------------------------------------------------------------------------------ names

def renamed(name: str, names: Iterable[tuple[str, str]]) -> str:
    """``name`` with each part of ours that ``names`` lists put into theirs."""
    for ours, theirs in names:
        name = re.sub(rf"(?<![\w.]){re.escape(ours)}(?!\w)" if ours.startswith(("text.", "image."))
                      else rf"(?<!\w){re.escape(ours)}(?!\w)", theirs, name)
    return name


def sources(name: str, layout: str) -> tuple[list[str], bool]:
    """Where our tensor ``name`` comes from: their tensors, to be joined, and whether the result is
    transposed."""
    third = re.fullmatch(r"(.*)\.attention\.in_(weight|bias)", name)
    if layout == "openai":
        if third and third[1] == "image.pool":
            return [f"visual.attnpool.{letter}_proj.{third[2]}" for letter in "qkv"], False
        return [renamed(name, OPENAI_NAMES)], False
    if third:
        layer = renamed(third[1], HUGGING_FACE_NAMES)
        return [f"{layer}.self_attn.{letter}_proj.{third[2]}" for letter in "qkv"], False
    return [renamed(name, HUGGING_FACE_NAMES)], name.endswith(".projection")


def expected_shapes(model: CLIP, layout: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything that a checkpoint of ``model`` holds in ``layout`` ("openai" or
    "hugging-face")."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in model.state_dict().items():
        if BUFFERS.fullmatch(name):
            continue
        theirs, transposed = sources(name, layout)
        shape = tuple(value.shape)[::-1] if transposed else tuple(value.shape)
        for their in theirs:
            shapes[their] = (shape[0] // len(theirs), *shape[1:]) if shape else ()
    return shapes


def fill(config: CLIPConfig, state: Mapping[str, Tensor], layout: str, where: str) -> CLIP:
    """The model of ``config`` with the tensors ``state``, every name and shape of which is accounted for.

    Raises ``ValueError`` that lists the names that are missing, too many, or of another shape.
    """
    state = {name: value for name, value in state.items() if not BUFFERS.fullmatch(name)}
    with blank():
        model = CLIP(config)
    state = fitting(state, expected_shapes(model, layout), where)
    ours: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if BUFFERS.fullmatch(name):
            ours[name] = torch.zeros_like(value, device="cpu")  # counts batches; nothing depends on it
            continue
        theirs, transposed = sources(name, layout)
        joined = torch.cat([state[their] for their in theirs]) if len(theirs) > 1 else state[theirs[0]]
        ours[name] = (joined.T if transposed else joined).float().clone(
            memory_format=torch.channels_last if joined.ndim == 4 and isinstance(config.image, ResNetConfig)
            else torch.contiguous_format)
    model.load_state_dict(ours, assign=True)
    return model.eval()


# --------------------------------------------------------------------------------------------- configurations

def only(found: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse fields that would change the model in a way that we do not know."""
    unknown = sorted(name for name, value in found.items() if name not in known
                     and value not in (None, False))
    if unknown:
        raise ValueError(f"{where} sets {', '.join(unknown)}, which CLIP as published does not have; it is "
                         f"another model")


def config_of_state(
    state: Mapping[str, Tensor], activation: str, where: str = "the checkpoint"
) -> CLIPConfig:
    """The sizes of a model, read off OpenAI's names and shapes; heads are 64 wide in all of its models."""
    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        return shape_of(state, name, dimensions, where)

    vocab, width = shape("token_embedding.weight", 2)
    context, embed = shape("positional_embedding", 2)[0], shape("text_projection", 2)[1]
    text = configured(TextConfig, dict(
        vocab=vocab, context=context, width=width, heads=max(1, width // 64), eot=max(0, vocab - 1),
        layers=layers_of(state, r"transformer\.resblocks\.(\d+)\.")), where)
    if "visual.proj" in state:
        d, _, patch, _ = shape("visual.conv1.weight", 4)
        cells = shape("visual.positional_embedding", 2)[0] - 1
        image = configured(ViTConfig, dict(
            size=patch * math.isqrt(max(0, cells)), patch=patch, width=d, heads=max(1, d // 64),
            layers=layers_of(state, r"visual\.transformer\.resblocks\.(\d+)\.")), where)
    else:
        w = shape("visual.layer1.0.conv1.weight", 4)[0]
        cells = shape("visual.attnpool.positional_embedding", 2)[0] - 1
        image = configured(ResNetConfig, dict(
            size=32 * math.isqrt(max(0, cells)), width=w, heads=max(1, 32 * w // 64),
            blocks=[layers_of(state, rf"visual\.layer{i}\.(\d+)\.") for i in range(1, 5)]), where)
    return configured(CLIPConfig, dict(embed=embed, image=image, text=text, activation=activation,
                                       logit_bias=0.0 if "logit_bias" in state else None), where)


def config_of_open_clip(found: Mapping[str, Any], where: str) -> CLIPConfig:
    """The model of an OpenCLIP configuration ("model_cfg")."""
    only(found, ("embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale", "init_logit_bias"),
         where)
    if missing := [name for name in ("embed_dim", "vision_cfg", "text_cfg") if name not in found]:
        raise ValueError(f"{where} has no {', '.join(missing)}; download it again")
    vision, text = part_of(found, "vision_cfg", where), part_of(found, "text_cfg", where)
    only(vision, ("image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"),
         f"{where}: vision_cfg")
    only(text, ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type",
                "pad_id", "eos_id", "hf_tokenizer_name", "tokenizer_kwargs"), f"{where}: text_cfg")
    pooling, vocab = text.get("pool_type", "argmax"), whole(text, "vocab_size", 49_408, f"{where}: text_cfg")
    if pooling not in ("argmax", "eos"):
        raise ValueError(f"{where} reads a caption at {shown(pooling)}, CLIP at its end-of-text token; it is "
                         f"another model")
    if not isinstance(found.get("quick_gelu", False), bool):
        raise ValueError(f"{where}: quick_gelu is {shown(found['quick_gelu'])}, expected true or false; "
                         f"download it again")
    inside = f"{where}: vision_cfg"
    width, head = whole(vision, "width", 768, inside), whole(vision, "head_width", 64, inside)
    layers = vision.get("layers", 12)
    sizes = dict(size=vision.get("image_size", 224), width=width)
    if isinstance(layers, list):
        image = configured(ResNetConfig, dict(**sizes, blocks=layers, heads=32 * width // head), inside)
    else:
        image = configured(ViTConfig, dict(**sizes, patch=vision.get("patch_size", 16), layers=layers,
                                           heads=width // head), inside,
                           {"size": "image_size", "patch": "patch_size", "heads": "width / head_width"})
    return configured(CLIPConfig, dict(
        embed=found["embed_dim"], image=image,
        text=read_config(TextConfig, text, OPEN_CLIP_TEXT, f"{where}: text_cfg",
                         eot=vocab - 1 if pooling == "argmax" else text.get("eos_id", 2)),
        activation="quick_gelu" if found.get("quick_gelu") else "gelu",
        logit_bias=found.get("init_logit_bias"),
    ), where, {"embed": "embed_dim", "logit_bias": "init_logit_bias"})


def config_of_hugging_face(found: Mapping[str, Any], where: str) -> CLIPConfig:
    """The model of a configuration of ``transformers.CLIPModel``; what it leaves out has that class's
    defaults.

    An ``eos_token_id`` of 2 stands in old configurations and is wrong; such models read at the highest id,
    and so do those where it is null. A list of one id is this id.
    """
    text = part_of(found, "text_config_dict", where) or part_of(found, "text_config", where)
    vision = part_of(found, "vision_config_dict", where) or part_of(found, "vision_config", where)
    activation, other = (config.get("hidden_act", "quick_gelu") for config in (text, vision))
    if activation != other:
        both = " and ".join(sorted(str(shown(one)).strip("'") for one in (activation, other)))
        raise ValueError(f"{where} has activations {both}; CLIP has the same in both towers")
    vocab = whole(text, "vocab_size", 49_408, f"{where}: text_config")
    eot = text.get("eos_token_id", 49_407 if vocab == 49_408 else None)
    if isinstance(eot, list) and len(eot) == 1:
        eot = eot[0]
    return configured(CLIPConfig, dict(
        embed=found.get("projection_dim", 512),
        image=read_config(ViTConfig, vision, HUGGING_FACE_IMAGE, f"{where}: vision_config"),
        text=read_config(TextConfig, text, {**HUGGING_FACE_TEXT, "eot": ("eos_token_id", None)},
                         f"{where}: text_config", eot=vocab - 1 if eot in (2, None) else eot),
        activation=activation,
    ), where, {"embed": "projection_dim", "activation": "hidden_act"})


# ------------------------------------------------------------------------------------------------------ entry

def is_hugging_face(folder: Path) -> bool:
    """Has this folder the configuration of a ``transformers.CLIPModel``?"""
    path = folder / HUGGING_FACE[0]
    return path.is_file() and read_json(path).get("model_type") == "clip"


def knows(names: Collection[str]) -> bool:
    """Are these names those of OpenAI's code?"""
    return set(names) >= SIGNATURE


def recognises(path: Path) -> bool:
    """Is this a folder or file of CLIP?"""
    if path.is_dir():
        return (path / OPEN_CLIP[0]).is_file() or is_hugging_face(path)
    if not path.is_file() or path.suffix not in SUFFIXES:
        return False
    if is_torchscript(path):
        return True  # no other system is published so
    try:
        return knows(read_state(path))
    except ValueError:
        return False


def fetch(name: str) -> Path:
    """The folder of a public CLIP, downloaded (once): the weights are OpenCLIP's where its configuration is
    there."""
    def weights(folder: Path) -> Sequence[str]:
        return (OPEN_CLIP if (folder / OPEN_CLIP[0]).is_file() else HUGGING_FACE)[1]
    return download(name, ["config.json", "*open_clip_config.json"], weights)


def load(path: Path, activation: str | None = None, trust: bool = False) -> CLIP:
    """CLIP with the weights of a folder or a file, in evaluation mode and float32.

    A folder is Hugging Face's (config.json) or OpenCLIP's (open_clip_config.json). A file holds a state dict
    with OpenAI's names; if it is not OpenAI's own, it does not say its ``activation``, "quick_gelu" or
    "gelu". ``trust`` allows to run the code of a TorchScript archive. Raises ``ValueError``,
    ``FileNotFoundError``.
    """
    if path.is_dir():
        config, weights = OPEN_CLIP if (path / OPEN_CLIP[0]).is_file() else HUGGING_FACE
        found, where = read_json(path / config), str(path / config)
        if config == HUGGING_FACE[0]:
            return fill(config_of_hugging_face(found, where), read_state(weights_in(path, weights)),
                        "hugging-face", str(path))
        model = part_of(found, "model_cfg", where) if "model_cfg" in found else found
        return fill(config_of_open_clip(model, where),
                    read_state(weights_in(path, weights)), "openai", str(path))
    state = read_state(path, trust=trust)
    if {"input_resolution", "context_length", "vocab_size"} <= state.keys():
        activation = activation or "quick_gelu"  # only OpenAI's own files hold these
    if activation is None:
        raise ValueError(f"{path} does not say which activation the model was trained with; pass "
                         f"activation='quick_gelu' "
                         "for OpenAI's weights and their descendants, activation='gelu' for OpenCLIP's")
    return fill(config_of_state(state, activation, str(path)), state, "openai", str(path))
