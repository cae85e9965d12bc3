"""The public weights of M2: names and shapes of the authors' checkpoint, turned into ours.

Paper: M. Cornia et al. (2020), *Meshed-Memory Transformer for Image Captioning*, arXiv:1912.08226; weights
``meshed_memory_transformer.pth`` of github.com/aimagelab/meshed-memory-transformer (BSD-3-Clause).  Survey:
1.2.1. Differs from the paper: nothing; the model is built as the weights were trained
(``M2Config.released``): residual and normalisation inside the meshed attention, frozen position table as
saved, padded regions not masked.

The file is a pickle that also holds the state of NumPy's and Python's random generators. It is read with
``weights_only=True``, which runs no code of the file; NumPy's array and number types are allowed by name,
because without them the generator's state, which we do not use, would make the whole file unreadable.
"""

import re
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from mmlearn.image2text.m2 import M2Config, M2Transformer
from mmlearn.nn.configuration import configured
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import layers_of, read_state, shape_of
from mmlearn.weights import SUFFIXES

SYSTEM = "M2"
SIGNATURE = "encoder.layers.0.mhatt.attention.m_k"        # only M2 has memory in its keys
BUFFERS = re.compile(r"decoder\.(running_mask_self_attention|running_seq)"
                     r"|decoder\.layers\.\d+\.self_att\.running_(keys|values)")


def weights_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by the authors' names, without the decoder's running buffers."""
    return {name: value for name, value in read_state(path).items() if not BUFFERS.fullmatch(name)}


def knows(names: Collection[str]) -> bool:
    """Are these names those of the released M2 code?"""
    return SIGNATURE in names


def recognises(path: Path) -> bool:
    """Is this a checkpoint of the released M2 code?"""
    if not path.is_file() or path.suffix not in SUFFIXES:
        return False
    return knows(read_state(path))


def config_of(state: dict[str, Tensor], heads: int, where: str = "the checkpoint") -> M2Config:
    """The sizes of the model, read off the shapes; only the number of heads leaves no trace in them."""
    vocab, width = shape_of(state, "decoder.word_emb.weight", 2, where)
    sizes = dict(
        vocab=vocab, width=width, heads=heads,
        layers=layers_of(state, r"encoder\.layers\.(\d+)\."),
        ff=shape_of(state, "encoder.layers.0.pwff.fc1.weight", 2, where)[0],
        memory=shape_of(state, "encoder.layers.0.mhatt.attention.m_k", 3, where)[1],
        features=shape_of(state, "encoder.fc.weight", 2, where)[1],
        max_len=shape_of(state, "decoder.pos_emb.weight", 2, where)[0] - 1,
    )
    return configured(M2Config, {**asdict(M2Config.released()), **sizes}, where)


def official_shapes(config: M2Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything that a checkpoint of this size must hold."""
    d, N = config.width, config.layers
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, into: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (d,), (d,)

    linear("encoder.fc", d, config.features)
    norm("encoder.layer_norm")
    for side, attentions in (("encoder", ("mhatt",)), ("decoder", ("self_att", "enc_att"))):
        for i in range(N):
            layer = f"{side}.layers.{i}"
            for attention in attentions:
                for matrix in ("fc_q", "fc_k", "fc_v", "fc_o"):
                    linear(f"{layer}.{attention}.attention.{matrix}", d, d)
                norm(f"{layer}.{attention}.layer_norm")
            linear(f"{layer}.pwff.fc1", config.ff, d)
            linear(f"{layer}.pwff.fc2", d, config.ff)
            norm(f"{layer}.pwff.layer_norm")
            if side == "encoder":
                for slots in ("m_k", "m_v"):
                    shapes[f"{layer}.mhatt.attention.{slots}"] = (1, config.memory, d)
            else:
                for gate in range(1, N + 1):
                    linear(f"{layer}.fc_alpha{gate}", d, 2 * d)
    shapes["decoder.word_emb.weight"] = (config.vocab, d)
    shapes["decoder.pos_emb.weight"] = (config.max_len + 1, d)
    shapes["decoder.fc.weight"] = (config.vocab, d)
    return shapes


def to_ours(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The authors' tensors under our names: three projections in one matrix, the gates of a layer in one
    tensor."""
    ours: dict[str, Tensor] = {}

    def copy(theirs: str, name: str) -> None:
        ours[f"{name}.weight"], ours[f"{name}.bias"] = state[f"{theirs}.weight"], state[f"{theirs}.bias"]

    def attention(theirs: str, name: str) -> None:
        for part in ("weight", "bias"):
            ours[f"{name}.in_{part}"] = torch.cat([state[f"{theirs}.fc_{letter}.{part}"] for letter in "qkv"])
        copy(f"{theirs}.fc_o", f"{name}.out")

    def feed_forward(theirs: str, name: str) -> None:
        copy(f"{theirs}.pwff.fc1", f"{name}.feed_forward.inner")
        copy(f"{theirs}.pwff.fc2", f"{name}.feed_forward.outer")
        copy(f"{theirs}.pwff.layer_norm", f"{name}.feed_forward_norm")

    copy("encoder.fc", "project.linear")
    copy("encoder.layer_norm", "project.norm")
    for i in range(layers):
        theirs, name = f"encoder.layers.{i}", f"encoder.{i}"
        attention(f"{theirs}.mhatt.attention", f"{name}.attention")
        ours[f"{name}.attention.memory_keys"] = state[f"{theirs}.mhatt.attention.m_k"][0]
        ours[f"{name}.attention.memory_values"] = state[f"{theirs}.mhatt.attention.m_v"][0]
        copy(f"{theirs}.mhatt.layer_norm", f"{name}.attention_norm")
        feed_forward(theirs, name)
        theirs, name = f"decoder.layers.{i}", f"decoder.{i}"
        for their_part, part in (("self_att", "self"), ("enc_att", "cross")):
            attention(f"{theirs}.{their_part}.attention", f"{name}.{part}_attention")
            copy(f"{theirs}.{their_part}.layer_norm", f"{name}.{part}_norm")
        feed_forward(theirs, name)
        for part in ("weight", "bias"):
            gates = [state[f"{theirs}.fc_alpha{gate}.{part}"] for gate in range(1, layers + 1)]
            ours[f"{name}.gate_{part}"] = torch.stack(gates)
    ours["embed.words.weight"] = state["decoder.word_emb.weight"]
    ours["embed.positions.table"] = state["decoder.pos_emb.weight"]
    ours["output.weight"] = state["decoder.fc.weight"]
    return ours


def load(path: Path | None, heads: int = 8) -> M2Transformer:
    """M2 with the weights of a checkpoint of the released code, as they were trained.

    Raises ``FileNotFoundError`` without a path (the authors' server is the only source), ``ValueError`` if a
    name or a shape differs from what the released code saves.
    """
    if path is None:
        raise FileNotFoundError("the M2 weights are on no hub; get meshed_memory_transformer.pth by the link "
                                "in the README "
                                "of github.com/aimagelab/meshed-memory-transformer and load it by its path")
    state = weights_of(path)
    config = config_of(state, heads, str(path))
    state = fitting(state, official_shapes(config), str(path))
    model = M2Transformer(config)
    model.load_state_dict(to_ours(state, config.layers))
    return model
