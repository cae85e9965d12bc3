"""Public weights of BEiT and of data2vec for images, in the layouts of ``transformers`` and of the authors.

Papers: H. Bao et al. (2022), *BEiT*, arXiv:2106.08254; A. Baevski et al. (2022), *data2vec*,
arXiv:2202.03555; weights facebook/data2vec-vision-base and others (Apache-2.0 on their pages, CC BY-NC 4.0 in
the authors' repository), microsoft/beit-base-patch16-224 and others (Apache-2.0 on their pages).  Survey:
5.1.  Differs from the papers: nothing.

A folder of ``transformers`` holds config.json and weights; names may begin with ``data2vec_vision.`` or
``beit.``. A file of the authors' (as of timm's BEiT) says its sizes by its shapes and has an epsilon of 1e-6;
a folder has the one that it says, and 1e-12 where it says none. What comes out depends on what a checkpoint
holds: a ``BEiTClassifier`` (normalisation of the mean, classes), a ``MaskedBEiT`` (normalisation of every
patch; the linear head, if it is there), or the ``BEiT`` alone. The vector of hidden patches, which no
classifier and not every converted folder has, is zeros then. Pictures are standardised with ImageNet's mean
and deviation for data2vec, with 0.5 and 0.5 for BEiT.
"""

import math
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmlearn.files import read_json
from mmlearn.nn.beit import CLASS_OFFSETS, BEiT, BEiTClassifier, BEiTConfig, MaskedBEiT
from mmlearn.nn.configuration import shown
from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import (
    HUGGING_FACE,
    Table,
    fetch_hugging_face,
    layers_of,
    read_config,
    read_state,
    shape_of,
    weights_in,
)
from mmlearn.weights import SUFFIXES

SYSTEM = "BEiT and data2vec for images"
Patterns = tuple[tuple[str, str], ...]
TYPES = ("data2vec-vision", "beit")
PREFIXES = ("data2vec_vision.", "beit.")
FIELDS: Table = {
    "size": ("image_size", 224), "patch": ("patch_size", 16), "width": ("hidden_size", 768),
    "layers": ("num_hidden_layers", 12), "heads": ("num_attention_heads", 12),
    "ff": ("intermediate_size", 3072), "layer_scale": ("layer_scale_init_value", 0.1),
    "drop_path": ("drop_path_rate", 0.1), "eps": ("layer_norm_eps", 1e-12)}
FIXED: dict[str, Any] = {"hidden_act": "gelu", "num_channels": 3, "use_absolute_position_embeddings": False,
                         "hidden_dropout_prob": 0.0}
BIASES = {"use_shared_relative_position_bias": "shared", "use_relative_position_bias": "layer"}
INDEX = re.compile(r"(.*\.)?relative_position_index")               # a buffer, which follows from the size


class Layout(NamedTuple):
    """How a family of files names things: parts of our names and theirs, in order, the normalisation of every
    patch, that of the mean, and the linear layers behind the two."""

    encoder: Patterns
    patch_norm: str
    mean_norm: str
    patch_out: str
    mean_out: str
    apart: bool                         # are queries, keys and values three matrices?
    token: str                          # the vector of hidden patches


TRANSFORMERS = Layout((
    (r"^patches\.project", "embeddings.patch_embeddings.projection"), (r"^cls$", "embeddings.cls_token"),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^table$", "encoder.relative_position_bias.relative_position_bias_table"),
    (r"^blocks\.", "encoder.layer."), (r"\.attention\.weight$", ".attention.attention.*.weight"),
    (r"\.attention\.q_bias$", ".attention.attention.query.bias"),
    (r"\.attention\.v_bias$", ".attention.attention.value.bias"),
    (r"\.attention\.out\.", ".attention.output.dense."), (r"\.attention_norm\.", ".layernorm_before."),
    (r"\.feed_forward_norm\.", ".layernorm_after."), (r"\.feed_forward\.inner\.", ".intermediate.dense."),
    (r"\.feed_forward\.outer\.", ".output.dense."), (r"\.gamma_", ".lambda_"),
    (r"\.table$", ".attention.attention.relative_position_bias.relative_position_bias_table"),
), "layernorm", "pooler.layernorm", "lm_head", "classifier", True, "embeddings.mask_token")
AUTHORS = Layout((
    (r"^patches\.project", "patch_embed.proj"), (r"^cls$", "cls_token"),
    (r"^table$", "rel_pos_bias.relative_position_bias_table"),
    (r"\.attention\.weight$", ".attn.qkv.weight"), (r"\.attention\.([qv]_bias)$", r".attn.\1"),
    (r"\.attention\.out\.", ".attn.proj."), (r"\.attention_norm\.", ".norm1."),
    (r"\.feed_forward_norm\.", ".norm2."), (r"\.feed_forward\.inner\.", ".mlp.fc1."),
    (r"\.feed_forward\.outer\.", ".mlp.fc2."), (r"\.table$", ".attn.relative_position_bias_table"),
), "norm", "fc_norm", "lm_head", "head", False, "mask_token")


# ---------------------------------------------------------------------------------------------- names


def layout_of(names: Collection[str]) -> Layout | None:
    """The family that has such names, None if neither has."""
    stripped = {stem(name) for name in names}
    if {"embeddings.cls_token", "encoder.layer.0.lambda_1"} <= stripped:
        return TRANSFORMERS
    return AUTHORS if {"cls_token", "blocks.0.attn.q_bias", "blocks.0.gamma_1"} <= stripped else None


def stem(name: str) -> str:
    """A name without the model's before it."""
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def sources(name: str, layout: Layout, mean: bool) -> list[str]:
    """The checkpoint's tensors that, joined, are our tensor ``name``; ``mean`` says that a head reads the
    mean."""
    norm, out = (layout.mean_norm, layout.mean_out) if mean else (layout.patch_norm, layout.patch_out)
    for ours, theirs in (("head.norm", norm), ("head.out", out)):
        if name.startswith(ours):
            return [theirs + name.removeprefix(ours)]
    name = name.removeprefix("encoder.")
    for pattern, theirs in layout.encoder:
        name = re.sub(pattern, theirs, name)
    return [name.replace("*", part) for part in ("query", "key", "value")] if "*" in name else [name]


def expected_shapes(model: nn.Module, layout: Layout) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything that a checkpoint of this model holds."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in model.state_dict().items():
        theirs = sources(name, layout, isinstance(model, BEiTClassifier))
        rows, *rest = value.shape
        single = name.removeprefix("encoder.") in ("cls", "mask_token")
        shape = (1, 1, rows) if single else (rows // len(theirs), *rest)
        shapes |= dict.fromkeys(theirs, shape)
    return shapes


def joined(model: nn.Module, layout: Layout, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of ``model`` in float32 under our names, from those of a checkpoint."""
    mean = isinstance(model, BEiTClassifier)
    return {name: torch.cat([state[their].float() for their in sources(name, layout, mean)])
            .reshape(value.shape).clone() for name, value in model.state_dict().items()}


def present(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors without the model's name before them and without buffers that count places. Raises
    ``ValueError`` for two tensors that would have one name."""
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        short = stem(name)
        if short in kept:
            raise ValueError(f"{where} has {short} with and without a prefix, and BEiT only one; save the "
                             f"encoder alone")
        if not INDEX.fullmatch(short):
            kept[short] = value
    return kept


# --------------------------------------------------------------------------------------------- configurations


def config_of(found: Mapping[str, Any], where: str) -> BEiTConfig:
    """Our configuration from the fields of config.json; what it leaves out has ``transformers``' defaults.

    Raises ``ValueError`` for what cannot be, and for fields that compute something else.
    """
    for name, known in FIXED.items():
        if found.get(name, known) != known:
            raise ValueError(f"{where} says {name} = {shown(found[name])}, this reader knows {known!r} only; "
                             f"give a checkpoint made for it")
    biases = [bias for name, bias in BIASES.items() if found.get(name, False)]
    if len(biases) != 1:
        raise ValueError(f"{where} switches on {len(biases)} of {' and '.join(BIASES)}, expected one; "
                         f"give a checkpoint made with it")
    return read_config(BEiTConfig, found, FIELDS, where, bias=biases[0])


def config_of_shapes(state: Mapping[str, Tensor], where: str) -> BEiTConfig:
    """The configuration of an authors' file, read off names and shapes. Raises ``ValueError`` for a table
    that fits no square."""
    bias = "shared" if "rel_pos_bias.relative_position_bias_table" in state else "layer"
    table = ("rel_pos_bias." if bias == "shared" else "blocks.0.attn.") + "relative_position_bias_table"
    offsets, heads = shape_of(state, table, 2, where)
    width, _, patch, _ = shape_of(state, "patch_embed.proj.weight", 4, where)
    side = math.isqrt(max(1, offsets - CLASS_OFFSETS))
    if side * side != offsets - CLASS_OFFSETS or not side % 2:
        raise ValueError(f"{where}: {table} has {offsets} rows, expected (2G - 1)² + 3; take the file as it "
                         f"was published")
    return BEiTConfig((side + 1) // 2 * patch, patch, width, layers_of(state, r"blocks\.(\d+)\."), heads,
                      shape_of(state, "blocks.0.mlp.fc1.weight", 2, where)[0],
                      "shared" if bias == "shared" else "layer")


def model_of(config: BEiTConfig, layout: Layout, state: Mapping[str, Tensor], where: str) -> nn.Module:
    """The module that a checkpoint fills, without memory for it."""
    def rows(name: str) -> int:
        return shape_of(state, f"{name}.weight", 2, where)[0] if f"{name}.weight" in state else 0

    with blank():
        if f"{layout.mean_norm}.weight" in state:
            return BEiTClassifier(config, rows(layout.mean_out))
        if f"{layout.patch_norm}.weight" in state:
            return MaskedBEiT(config, rows(layout.patch_out))
        return BEiT(config)


# ------------------------------------------------------------------------------------------------- the reader


def knows(names: Collection[str]) -> bool:
    """Are these names those of a BEiT?"""
    return layout_of(names) is not None


def recognises(path: Path) -> bool:
    """Is this a folder that ``transformers`` has saved, or a file of the authors'?"""
    config = path / HUGGING_FACE[0]
    if config.is_file():
        return read_json(config).get("model_type") in TYPES
    return path.is_file() and path.suffix in SUFFIXES and layout_of(read_state(path)) is AUTHORS


def fetch(name: str) -> Path:
    """The folder of a public model, downloaded (once) from the hub."""
    return fetch_hugging_face(name, ["preprocessor_config.json"])


def load(path: Path) -> BEiTClassifier | MaskedBEiT | BEiT:
    """What a folder or file holds, in evaluation mode and float32.

    Raises ``FileNotFoundError`` if the weights are missing, ``ValueError`` if names, shapes, numbers or
    settings differ.
    """
    config, weights = HUGGING_FACE
    if path.is_dir():
        if not (path / config).is_file():
            raise FileNotFoundError(f"{path} has no {config}; give a folder with {config} and the weights")
        file = weights_in(path, weights)
    else:
        file = path
    where = str(file)
    state = present(read_state(file), where)
    layout = layout_of(state)
    if layout is None:
        raise ValueError(f"{where} holds no BEiT with gates and biases of offsets; give one as it was "
                         f"published")
    if path.is_dir():
        sizes = config_of(read_json(path / config), str(path / config))
    elif layout is AUTHORS:
        sizes = config_of_shapes(state, where)
    else:
        raise ValueError(f"{where} is the weights of a folder with {config}; give the folder")
    model: Any = model_of(sizes, layout, state, where)
    if layout.token not in state:
        if not isinstance(model, BEiTClassifier):
            print(f"{where}: has no {layout.token}; hidden patches are zeros", file=sys.stderr)
        state[layout.token] = torch.zeros(1, 1, sizes.width)
    state = fitting(state, expected_shapes(model, layout), where)
    model.load_state_dict(joined(model, layout, state), assign=True)
    return model.eval()
