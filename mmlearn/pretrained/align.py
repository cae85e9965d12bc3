"""The public weights of ALIGN: kakaobrain/align-base, in the layout of ``transformers.AlignModel``.

Paper: C. Jia et al. (2021), arXiv:2102.05918, whose authors published no weights; these are Kakao Brain's,
trained on COYO-700M (M. Byeon et al., 2022, github.com/kakaobrain/coyo-dataset).  Survey: 4.3.1.
Differs from the paper: EfficientNet-B7 and BERT-base, 640 dimensions; convolutions with stride 2 pad as
``transformers`` pads.

A folder holds config.json and model.safetensors. Fields of the configuration that would change the
computation in a way that we do not know are refused. The weights expect pixels in [-1, 1], resized to 346 x
346 and cropped to the middle 289 x 289, and texts of BERT's lower-case tokeniser, at most 64 word pieces with
<cls> and <sep>.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmlearn.files import read_json
from mmlearn.nn.configuration import fits, shown
from mmlearn.nn.efficientnet import EfficientNetConfig, Stage
from mmlearn.nn.modes import blank
from mmlearn.pretrained import bert, fitting
from mmlearn.pretrained.files import (
    HUGGING_FACE,
    Table,
    fetch_hugging_face,
    part_of,
    read_config,
    read_state,
    weights_in,
    whole,
)
from mmlearn.text_for_vision.align import ALIGN, ALIGNConfig

SYSTEM = "ALIGN"
BUFFERS = re.compile(r"(.*\.)?(position_ids|num_batches_tracked|token_type_ids)")
# the defaults
VISION: dict[str, Any] = {
    "kernel_sizes": (3, 3, 5, 3, 5, 5, 3), "in_channels": (32, 16, 24, 40, 80, 112, 192),
    "out_channels": (16, 24, 40, 80, 112, 192, 320), "strides": (1, 2, 2, 2, 1, 2, 1),
    "num_block_repeats": (1, 2, 2, 3, 3, 4, 1), "expand_ratios": (1, 6, 6, 6, 6, 6, 6)}
IMAGE: Table = {                        # fields of the trunk that are numbers
    "width": ("width_coefficient", 2.0), "depth": ("depth_coefficient", 3.1), "size": ("image_size", 600),
    "drop_path": ("drop_connect_rate", 0.2), "divisor": ("depth_divisor", 8), "eps": ("batch_norm_eps", 1e-3),
    "squeeze": ("squeeze_expansion_ratio", 0.25), "square": ("depthwise_padding", ())}
STAGE = ("expand_ratios", "kernel_sizes", "strides", "out_channels", "num_block_repeats")
FIXED = {"hidden_act": "swish", "num_channels": 3, "pooling_type": "mean"}

BLOCK = (("expand.0", "expansion.expand_conv"), ("expand.1", "expansion.expand_bn"),
         ("depthwise.0", "depthwise_conv.depthwise_conv"), ("depthwise.1", "depthwise_conv.depthwise_norm"),
         ("squeeze.fc1", "squeeze_excite.reduce"), ("squeeze.fc2", "squeeze_excite.expand"),
         ("narrow.0", "projection.project_conv"), ("narrow.1", "projection.project_bn"))
OTHERS = (("image.stem.0", "vision_model.embeddings.convolution"),
          ("image.stem.1", "vision_model.embeddings.batchnorm"))


def config_of(file: Mapping[str, Any], where: str) -> ALIGNConfig:
    """Our configuration from the fields of config.json. Raises ``ValueError`` for what we cannot compute."""
    vision, text = part_of(file, "vision_config", where), part_of(file, "text_config", where)
    for name, known in FIXED.items():
        if vision.get(name, known) != known:
            raise ValueError(f"{where}: vision_config says {name} = {shown(vision[name])}, this reader knows "
                             f"{known!r} only; give a checkpoint made for it")
    vision = {**VISION, **vision}
    lists = {name: list_of(vision, name, where) for name in STAGE}
    before, after = list_of(vision, "in_channels", where), lists["out_channels"]
    if before != [32, *after[:-1]]:  # transformers' first convolution gives 32
        raise ValueError(f"{where}: in_channels are {before}, but the stages before give "
                         f"{[32, *after[:-1]]}; no such model runs")
    image = read_config(EfficientNetConfig, vision, IMAGE, f"{where}: vision_config", padding="transformers",
                        stages=tuple(Stage(*values) for values in zip(*lists.values())))
    embed = whole(file, "projection_dim", 640, where)
    if image.out != embed:
        raise ValueError(f"{where}: projection_dim is {embed}, the image trunk gives {image.out}; these "
                         f"models do not project images")
    return ALIGNConfig(image, bert.config_of(text, f"{where}: text_config"), embed)


def list_of(vision: Mapping[str, Any], name: str, where: str) -> list[int]:
    """One whole number a stage. Raises ``ValueError`` for anything else."""
    values, stages = vision[name], vision["out_channels"]
    for what in (values, stages):
        if not isinstance(what, list | tuple) or not all(fits(value, int) for value in what):
            field = name if what is values else "out_channels"
            raise ValueError(f"{where}: {field} is {shown(what)}, expected a list of whole numbers; take the "
                             f"file as it was published")
    if not values or len(values) != len(stages):
        raise ValueError(f"{where}: {name} has {len(values)} numbers, out_channels {len(stages)}; give one "
                         f"of each a stage")
    return list(values)


def sources(name: str) -> list[str]:
    """The checkpoint's tensors that, joined, are our tensor ``name``."""
    if name.startswith("text."):
        return [f"text_model.{their}" for their in bert.sources(name.removeprefix("text."))]
    names: tuple[tuple[str, str], ...]
    if block := re.match(r"image\.blocks\.(\d+)\.", name):
        head, rest, names = f"vision_model.encoder.blocks.{block[1]}.", name[block.end():], BLOCK
    else:
        head, rest, names = "", name, OTHERS
    for ours, theirs in names:
        if rest.startswith(ours + "."):
            return [head + theirs + rest.removeprefix(ours)]
    return [name]                                                           # text_projection, temperature


def fill(config: ALIGNConfig, state: Mapping[str, Tensor], where: str) -> ALIGN:
    """The model of ``config`` with the tensors ``state``; every name and shape is accounted for.

    Raises ``ValueError`` that lists the names that are missing, too many, or of another shape.
    """
    state = {name: value for name, value in state.items() if not BUFFERS.fullmatch(name)}
    with blank():
        model = ALIGN(config)
    own = {name: value for name, value in model.state_dict().items() if not BUFFERS.fullmatch(name)}
    expected: dict[str, tuple[int, ...]] = {}
    for name, value in own.items():
        theirs = sources(name)
        for their in theirs:
            expected[their] = (value.shape[0] // len(theirs), *value.shape[1:]) if value.ndim else ()
    state = fitting(state, expected, where)
    ours: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name not in own:
            ours[name] = torch.zeros_like(value, device="cpu")  # counts batches; nothing depends on it
            continue
        parts = [state[their].float() for their in sources(name)]
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]
        ours[name] = joined.clone(memory_format=torch.channels_last if joined.ndim == 4
                                  else torch.contiguous_format)
    model.load_state_dict(ours, assign=True)
    return model.eval()


def knows(names: Collection[str]) -> bool:
    """Are these names those of ``transformers.AlignModel``?"""
    return {"vision_model.embeddings.convolution.weight", "text_projection.weight"} <= set(names)


def recognises(path: Path) -> bool:
    """Is this a folder that ``transformers.AlignModel`` has saved?"""
    config = path / HUGGING_FACE[0]
    return config.is_file() and read_json(config).get("model_type") == "align"


def fetch(name: str) -> Path:
    """The folder of the public model with its tokeniser and settings, downloaded (once)."""
    return fetch_hugging_face(name, ["preprocessor_config.json", "vocab.txt", "tokenizer*"])


def load(path: Path) -> ALIGN:
    """ALIGN from a folder with config.json and weights, in evaluation mode and float32.

    Raises ``FileNotFoundError`` if the weights are missing, ``ValueError`` if names, shapes or settings
    differ.
    """
    config, weights = HUGGING_FACE
    if not (path / config).is_file():
        raise FileNotFoundError(f"{path} has no {config}; give a folder with {config} and the weights")
    return fill(config_of(read_json(path / config), str(path / config)),
                read_state(weights_in(path, weights)), str(path))
