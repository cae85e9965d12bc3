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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmlearn.files import read_json
from mmlearn.nn.bert import BERTConfig
from mmlearn.nn.efficientnet import EfficientNetConfig, Stage
from mmlearn.pretrained import match
from mmlearn.pretrained.clip import HUGGING_FACE
from mmlearn.pretrained.files import download, read_state, weights_in
from mmlearn.text_for_vision.align import ALIGN, ALIGNConfig

BUFFERS = re.compile(r"(.*\.)?(position_ids|num_batches_tracked|token_type_ids)")
# the defaults
VISION = {"width_coefficient": 2.0, "depth_coefficient": 3.1, "image_size": 600, "batch_norm_eps": 1e-3,
          "depthwise_padding": (), "drop_connect_rate": 0.2, "kernel_sizes": (3, 3, 5, 3, 5, 5, 3),
          "in_channels": (32, 16, 24, 40, 80, 112, 192), "out_channels": (16, 24, 40, 80, 112, 192, 320),
          "strides": (1, 2, 2, 2, 1, 2, 1), "num_block_repeats": (1, 2, 2, 3, 3, 4, 1),
          "expand_ratios": (1, 6, 6, 6, 6, 6, 6), "depth_divisor": 8, "squeeze_expansion_ratio": 0.25}
TEXT = {"vocab": ("vocab_size", 30_522), "context": ("max_position_embeddings", 512),
        "width": ("hidden_size", 768), "layers": ("num_hidden_layers", 12),
        "heads": ("num_attention_heads", 12), "ff": ("intermediate_size", 3072),
        "segments": ("type_vocab_size", 2), "pad": ("pad_token_id", 0), "eps": ("layer_norm_eps", 1e-12),
        "dropout": ("hidden_dropout_prob", 0.1)}
FIXED: dict[str, dict[str, Any]] = {
    "vision_config": {"hidden_act": "swish", "num_channels": 3, "pooling_type": "mean"},
    "text_config": {"hidden_act": "gelu", "position_embedding_type": "absolute"},
}

LAYER = (("attention.out", "attention.output.dense"), ("attention_norm", "attention.output.LayerNorm"),
         ("feed_forward.inner", "intermediate.dense"), ("feed_forward.outer", "output.dense"),
         ("feed_forward_norm", "output.LayerNorm"))
BLOCK = (("expand.0", "expansion.expand_conv"), ("expand.1", "expansion.expand_bn"),
         ("depthwise.0", "depthwise_conv.depthwise_conv"), ("depthwise.1", "depthwise_conv.depthwise_norm"),
         ("squeeze.fc1", "squeeze_excite.reduce"), ("squeeze.fc2", "squeeze_excite.expand"),
         ("narrow.0", "projection.project_conv"), ("narrow.1", "projection.project_bn"))
OTHERS = (("image.stem.0", "vision_model.embeddings.convolution"),
          ("image.stem.1", "vision_model.embeddings.batchnorm"),
          ("text.embed.words", "text_model.embeddings.word_embeddings"),
          ("text.embed.positions", "text_model.embeddings.position_embeddings"),
          ("text.embed.segments", "text_model.embeddings.token_type_embeddings"),
          ("text.embed.norm", "text_model.embeddings.LayerNorm"), ("text.pooler", "text_model.pooler.dense"))


def config_of(file: Mapping[str, Any], where: str) -> ALIGNConfig:
    """Our configuration from the fields of config.json. Raises ``ValueError`` for what we cannot compute."""
    parts = {part: dict(file.get(part) or {}) for part in FIXED}
    for part, values in parts.items():
        for name, known in FIXED[part].items():
            if values.get(name, known) != known:
                raise ValueError(f"{where}: {part} says {name} = {values[name]!r}, this reader knows "
                                 f"{known!r} only; "
                                 "give a checkpoint made for it")
    vision = {name: parts["vision_config"].get(name, default) for name, default in VISION.items()}
    before, after = list(vision["in_channels"]), list(vision["out_channels"])
    if before != [32, *after[:-1]]:  # transformers' first convolution gives 32
        raise ValueError(f"{where}: in_channels are {before}, but the stages before give "
                         f"{[32, *after[:-1]]}; no such model runs")
    stages = tuple(
        Stage(*values)
        for values in zip(
            vision["expand_ratios"],
            vision["kernel_sizes"],
            vision["strides"],
            vision["out_channels"],
            vision["num_block_repeats"],
            strict=True,
        )
    )
    image = EfficientNetConfig(
        vision["width_coefficient"], vision["depth_coefficient"], vision["image_size"],
        drop_path=float(vision["drop_connect_rate"]), stages=stages, divisor=vision["depth_divisor"],
        squeeze=vision["squeeze_expansion_ratio"], eps=vision["batch_norm_eps"], padding="transformers",
        square=tuple(vision["depthwise_padding"]))
    text = BERTConfig(**{ours: parts["text_config"].get(theirs, default) for ours,
                         (theirs, default) in TEXT.items()})
    embed = file.get("projection_dim", 640)
    if image.out != embed:
        raise ValueError(f"{where}: projection_dim is {embed}, the image trunk gives {image.out}; these "
                         f"models do not project images")
    return ALIGNConfig(image, text, embed)


def sources(name: str) -> list[str]:
    """The checkpoint's tensors that, joined, are our tensor ``name``."""
    if third := re.fullmatch(r"text\.layers\.(\d+)\.attention\.in_(weight|bias)", name):
        return [f"text_model.encoder.layer.{third[1]}.attention.self.{kind}.{third[2]}"
                for kind in ("query", "key", "value")]
    names: tuple[tuple[str, str], ...]
    if layer := re.match(r"text\.layers\.(\d+)\.", name):
        head, rest, names = f"text_model.encoder.layer.{layer[1]}.", name[layer.end():], LAYER
    elif block := re.match(r"image\.blocks\.(\d+)\.", name):
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
    with torch.device("meta"):
        model = ALIGN(config)
    own = {name: value for name, value in model.state_dict().items() if not BUFFERS.fullmatch(name)}
    expected: dict[str, tuple[int, ...]] = {}
    for name, value in own.items():
        theirs = sources(name)
        for their in theirs:
            expected[their] = (value.shape[0] // len(theirs), *value.shape[1:]) if value.ndim else ()
    match({name: tuple(value.shape) for name, value in state.items()}, expected, where)
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


def recognises(path: Path) -> bool:
    """Is this a folder that ``transformers.AlignModel`` has saved?"""
    config = path / HUGGING_FACE[0]
    return config.is_file() and read_json(config).get("model_type") == "align"


def fetch(name: str) -> Path:
    """The folder of the public model with its tokeniser and settings, downloaded (once)."""
    config, weights = HUGGING_FACE
    return download(name, [config, "preprocessor_config.json", "vocab.txt", "tokenizer*"],
                    lambda folder: weights)


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
