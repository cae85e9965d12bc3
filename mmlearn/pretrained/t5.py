"""The public weights of T5's encoders: names and shapes of ``transformers``, turned into ours.

Paper: C. Raffel et al. (2020), arXiv:1910.10683; the checkpoints of version 1.1, google/t5-v1_1-xxl and the
smaller ones (Apache-2.0), and those that were trained further from them with the same layers.  Survey: 2.3.1.
Differs from the paper: nothing. What a file holds of a decoder is left out, and said.

Version 1.0 (t5-small …) has other feed-forward nets and is refused.
"""

import re
import sys
from collections.abc import Collection
from pathlib import Path

import torch

from mmlearn.files import read_json
from mmlearn.nn.modes import blank
from mmlearn.nn.t5 import T5Config, T5Encoder
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import (
    HUGGING_FACE,
    Table,
    fetch_hugging_face,
    read_config,
    read_state,
    weights_in,
)

SYSTEM = "T5's encoder"
SIGNATURE = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
BESIDE = re.compile(r"(decoder|lm_head)\.|encoder\.embed_tokens\.")    # the last is the same table once more
CONFIG: Table = {
    "vocab": ("vocab_size", 32_128),
    "width": ("d_model", 512),
    "heads": ("num_heads", 8),
    "head": ("d_kv", 64),
    "ff": ("d_ff", 2048),
    "layers": ("num_layers", 6),
    "buckets": ("relative_attention_num_buckets", 32),
    "distance": ("relative_attention_max_distance", 128),
    "eps": ("layer_norm_epsilon", 1e-6),
}
NAMES = (  # ours -> theirs
    (r"^words\.", "shared."),
    (r"^bias\.table\.", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias."),
    (r"^norm_after\.", "encoder.final_layer_norm."),
    (r"^layers\.(\d+)\.", r"encoder.block.\1."),
    (r"\.attention_norm\.", ".layer.0.layer_norm."),
    (r"\.out\.", ".layer.0.SelfAttention.o."),
    (r"\.feed_forward_norm\.", ".layer.1.layer_norm."),
    (r"\.gate\.", ".layer.1.DenseReluDense.wi_0."),
    (r"\.inner\.", ".layer.1.DenseReluDense.wi_1."),
    (r"\.outer\.", ".layer.1.DenseReluDense.wo."),
)


def public_names(ours: str) -> tuple[str, ...]:
    """Their names of our tensor, which joins three of theirs in a projection."""
    for pattern, theirs in NAMES:
        ours = re.sub(pattern, theirs, ours)
    if ".project." in ours:
        return tuple(ours.replace(".project.", f".layer.0.SelfAttention.{part}.") for part in "qkv")
    return (ours,)


def knows(names: Collection[str]) -> bool:
    """Are these names those of a T5?"""
    return SIGNATURE in names


def recognises(path: Path) -> bool:
    """Is this a folder of a T5?"""
    return path.is_dir() and (path / HUGGING_FACE[0]).is_file() and (
        read_json(path / HUGGING_FACE[0]).get("model_type") == "t5")


def fetch(name: str) -> Path:
    """The folder of a public T5, downloaded (once)."""
    return fetch_hugging_face(name, [])


def load(path: Path) -> T5Encoder:
    """The encoder of a folder, in evaluation mode and float32, every name and shape accounted for.

    Raises ``FileNotFoundError`` for a folder without weights, ``ValueError`` for another feed-forward net
    than the gated one, and where names or shapes differ.
    """
    where = str(path / HUGGING_FACE[0])
    found = read_json(path / HUGGING_FACE[0])
    if found.get("feed_forward_proj") != "gated-gelu":
        raise ValueError(
            f"{where} has the feed-forward net {found.get('feed_forward_proj', 'relu')!r}, expected "
            "'gated-gelu'; give a T5 of version 1.1"
        )
    with blank():
        model = T5Encoder(read_config(T5Config, found, CONFIG, where))
    file = weights_in(path, HUGGING_FACE[1])
    state = read_state(file)
    if beside := [name for name in state if BESIDE.match(name)]:
        print(f"{file}: left out {len(beside)} tensors of the decoder", file=sys.stderr)
    ours = {name: public_names(name) for name in model.state_dict()}
    expected = {their: (value.shape[0] // len(ours[name]), *value.shape[1:])
                for name, value in model.state_dict().items() for their in ours[name]}
    state = fitting({name: value for name, value in state.items() if name not in beside}, expected, str(file))
    model.load_state_dict({name: torch.cat([state[their].float() for their in theirs])
                           for name, theirs in ours.items()}, assign=True)
    return model.eval()
