"""Public weights of causal language models: GPT-2, OPT, and MPT and RedPajama, which OpenFlamingo froze.

Papers: A. Radford et al. (2019), *Language Models are Unsupervised Multitask Learners* (weights
openai-community/gpt2, MIT); S. Zhang et al. (2022), *OPT*, arXiv:2205.01068 (facebook/opt, a licence of its
own); A. Awadalla et al. (2023), *OpenFlamingo*, arXiv:2308.01390, which takes mosaicml/mpt-1b-redpajama-200b,
mosaicml/mpt-7b (Apache-2.0) and togethercomputer/RedPajama-INCITE-3B (Apache-2.0).  Survey: 5.3.
Differs from the papers: nothing.

A folder holds config.json and weights (one file, or an index and its parts), with the names of
``transformers``' GPT2LMHeadModel, OPTForCausalLM, GPTNeoXForCausalLM or MptForCausalLM, or, for MPT-1B, those
of its own code ("mosaic_gpt"). What computes something else (OPT-350M, which normalises after the sum;
Pythia, which turns a quarter of each head and adds both parts of a layer at once) is refused.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmlearn.files import read_json
from mmlearn.nn.causal_lm import CausalLM, CausalLMConfig
from mmlearn.nn.configuration import shown
from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import (
    HUGGING_FACE,
    Table,
    fetch_hugging_face,
    part_of,
    read_config,
    read_state,
    weights_in,
)

SYSTEM = "Causal language model"
Names = Mapping[str, str]               # our part -> theirs
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu tanh", "gelu_pytorch_tanh": "gelu tanh", "relu": "relu"}


class Family(NamedTuple):
    """How a family of models writes its configuration and names its tensors."""

    fields: Table
    fixed: Mapping[str, Any]            # what the fields must say, which is what they say by default
    others: Names
    layer: Names
    stem: str                           # before the number of a layer
    prefixes: tuple[str, ...]           # one of which stands before all names, or none
    given: Mapping[str, Any]            # fields of ours that are always so
    activation: tuple[str, str] = ("", "gelu")      # its field and its value where that is absent
    qkv: tuple[str, ...] = ("",)        # the parts of the projection of queries, keys and values
    tied: bool = True                   # where tie_word_embeddings is absent


GPT2 = Family(
    {"vocab": ("vocab_size", 50_257), "context": ("n_positions", 1024), "width": ("n_embd", 768),
     "layers": ("n_layer", 12), "heads": ("n_head", 12), "ff": ("n_inner", None),
     "eps": ("layer_norm_epsilon", 1e-5), "dropout": ("resid_pdrop", 0.1)},
    {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    {"words": "wte", "positions": "wpe", "norm": "ln_f"},
    {"attention_norm": "ln_1", "attention.in": "attn.c_attn", "attention.out": "attn.c_proj",
     "feed_forward_norm": "ln_2", "feed_forward.inner": "mlp.c_fc", "feed_forward.outer": "mlp.c_proj"},
    "h", ("transformer.",), {}, ("activation_function", "gelu_new"))
OPT = Family(
    {"vocab": ("vocab_size", 50_272), "context": ("max_position_embeddings", 2048),
     "width": ("hidden_size", 768), "layers": ("num_hidden_layers", 12),
     "heads": ("num_attention_heads", 12), "ff": ("ffn_dim", 3072), "dropout": ("dropout", 0.1)},
    {"do_layer_norm_before": True, "_remove_final_layer_norm": False, "enable_bias": True,
     "layer_norm_elementwise_affine": True},
    {"words": "embed_tokens", "positions": "embed_positions", "norm": "final_layer_norm"},
    {"attention_norm": "self_attn_layer_norm", "attention.in": "self_attn",
     "attention.out": "self_attn.out_proj", "feed_forward_norm": "final_layer_norm",
     "feed_forward.inner": "fc1", "feed_forward.outer": "fc2"},
    "layers", ("model.decoder.", "decoder."), {"offset": 2}, ("activation_function", "relu"),
    (".q_proj", ".k_proj", ".v_proj"))
NEOX = Family(
    {"vocab": ("vocab_size", 50_432), "context": ("max_position_embeddings", 2048),
     "width": ("hidden_size", 6144), "layers": ("num_hidden_layers", 44),
     "heads": ("num_attention_heads", 64), "ff": ("intermediate_size", 24_576),
     "eps": ("layer_norm_eps", 1e-5), "dropout": ("hidden_dropout", 0.0)},
    {"attention_bias": True},
    {"words": "embed_in", "norm": "final_layer_norm"},
    {"attention_norm": "input_layernorm", "attention.in": "attention.query_key_value",
     "attention.out": "attention.dense", "feed_forward_norm": "post_attention_layernorm",
     "feed_forward.inner": "mlp.dense_h_to_4h", "feed_forward.outer": "mlp.dense_4h_to_h"},
    "layers", ("gpt_neox.",), {"positions": "rotary"}, ("hidden_act", "gelu"), tied=False)
MPT = Family(
    {"vocab": ("vocab_size", 50_368), "context": ("max_seq_len", 2048), "width": ("d_model", 2048),
     "layers": ("n_layers", 24), "heads": ("n_heads", 16), "eps": ("layer_norm_epsilon", 1e-5),
     "dropout": ("resid_pdrop", 0.0)},
    {"no_bias": True, "logit_scale": None},
    {"words": "wte", "norm": "norm_f"},
    {"attention_norm": "norm_1", "attention.in": "attn.Wqkv", "attention.out": "attn.out_proj",
     "attention.query_norm": "attn.q_ln", "attention.key_norm": "attn.k_ln", "feed_forward_norm": "norm_2",
     "feed_forward.inner": "ffn.up_proj", "feed_forward.outer": "ffn.down_proj"},
    "blocks", ("transformer.", "model.transformer."),
    {"positions": "alibi", "activation": "gelu", "bias": False})
MOSAIC = MPT._replace(
    others={"words": "wte", "norm": "ln_f"},
    layer={**MPT.layer, "attention_norm": "ln_1", "feed_forward_norm": "ln_2",
           "feed_forward.inner": "mlp.mlp_up", "feed_forward.outer": "mlp.mlp_down"})
FAMILIES = {"gpt2": GPT2, "opt": OPT, "gpt_neox": NEOX, "mpt": MPT, "mosaic_gpt": MOSAIC}
BUFFERS = re.compile(r".*\.(attn|attention)\.(bias|masked_bias|rotary_emb\.inv_freq)|rotary_emb\.inv_freq")
HEADS = ("lm_head.weight", "embed_out.weight")         # what the logits are told by
ATTENTION = {"alibi": True, "prefix_lm": False, "clip_qkv": None, "softmax_scale": None, "alibi_bias_max": 8,
             "attn_uses_sequence_id": False}            # of MPT


def _must_be(found: Mapping[str, Any], fixed: Mapping[str, Any], where: str) -> None:
    for name, known in fixed.items():
        if found.get(name, known) != known:
            raise ValueError(f"{where} says {name} = {shown(found[name])}, this reader knows {known!r} only; "
                             f"give a checkpoint made for it")


def config_of(found: Mapping[str, Any], where: str) -> CausalLMConfig:
    """Our configuration from the fields of config.json; what it leaves out has the defaults of its library.

    Raises ``ValueError`` for another family, for what cannot be, and for fields that compute something else.
    """
    kind = found.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"{where} says model_type = {shown(kind)}, this reader knows "
                         f"{', '.join(FAMILIES)}; give the folder of one of these")
    family = FAMILIES[kind]
    _must_be(found, family.fixed, where)
    more = dict(family.given)
    if kind in ("mpt", "mosaic_gpt"):
        parts = dict(found) if kind == "mosaic_gpt" else part_of(found, "attn_config", where)
        if kind == "mosaic_gpt":
            parts |= {"qk_ln": found.get("attn_qk_ln", False), "clip_qkv": found.get("attn_clip_qkv")}
            parts.setdefault("alibi", False)            # as its own code has it
        _must_be(parts, ATTENTION, where)
        ratio = found.get("mlp_ratio" if kind == "mosaic_gpt" else "expansion_ratio", 4)
        width = found.get("d_model", 2048)
        if not all(isinstance(x, int) and not isinstance(x, bool) for x in (ratio, width)):
            raise ValueError(f"{where} says d_model = {shown(width)} and a ratio of {shown(ratio)}, expected "
                             f"whole numbers; take the file as it was published")
        more |= {"ff": ratio * width, "qk_norm": bool(parts.get("qk_ln", False))}
    else:
        name, default = family.activation
        activation = found.get(name, default)
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise ValueError(f"{where} says {name} = {shown(activation)}, this reader knows "
                             f"{', '.join(ACTIVATIONS)} only; give a checkpoint made for it")
        more["activation"] = ACTIVATIONS[activation]
    if kind == "gpt_neox":
        _neox_rotation(found, where)
    if kind == "opt" and found.get("word_embed_proj_dim") is not None:
        _must_be(found, {"word_embed_proj_dim": found.get("hidden_size", 768)}, where)
    if kind == "gpt2" and found.get("n_inner") is None:
        width = found.get("n_embd", 768)
        found = {**found, "n_inner": 4 * width if isinstance(width, int) else width}
    tied = found.get("tie_word_embeddings", family.tied)
    return read_config(CausalLMConfig, found, family.fields, where, tied=tied, **more)


def _neox_rotation(found: Mapping[str, Any], where: str) -> None:
    """All numbers of a head are turned, at the usual rates, and the parts of a layer come one after the
    other."""
    rope = part_of(found, "rope_parameters", where)
    turned = {"use_parallel_residual": found.get("use_parallel_residual", True),
              "rotary_pct": rope.get("partial_rotary_factor", found.get("rotary_pct", 0.25)),
              "rotary_emb_base": rope.get("rope_theta", found.get("rotary_emb_base", 10_000)),
              "rope_type": rope.get("rope_type", "default")}
    _must_be(turned, {"use_parallel_residual": False, "rotary_pct": 1.0, "rotary_emb_base": 10_000,
                      "rope_type": "default"}, where)


def sources(name: str, family: Family) -> list[str]:
    """The checkpoint's tensors that, joined, are our tensor ``name``."""
    if name == "positions":
        return [family.others["positions"] + ".weight"]
    if name == "out.weight":
        return [HEADS[0]]
    layer = re.match(r"layers\.(\d+)\.", name)
    head, rest = (f"{family.stem}.{layer[1]}.", name[layer.end():]) if layer else ("", name)
    rest = rest.replace("attention.in_", "attention.in.")
    for ours, theirs in (family.layer if layer else family.others).items():
        if rest.startswith(ours + "."):
            kind = rest.removeprefix(ours)
            parts = family.qkv if ours == "attention.in" else ("",)
            return [head + theirs + part + kind for part in parts]
    raise ValueError(f"{name} is no tensor of a language model")


def transposed(name: str, family: Family) -> bool:
    """Does the checkpoint hold this matrix the other way round? GPT-2 does, but for words and positions."""
    return family is GPT2 and name.startswith("layers.") and name.endswith("weight") and "norm" not in name


def expected_shapes(model: nn.Module, family: Family) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything that a checkpoint of this model holds."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in model.state_dict().items():
        theirs = sources(name, family)
        shape = (value.shape[0] // len(theirs), *value.shape[1:])
        shapes |= {their: shape[::-1] if transposed(name, family) else shape for their in theirs}
    return shapes


def joined(model: CausalLM, state: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Our tensors in float32 from those of a checkpoint."""
    found = {}
    for name in model.state_dict():
        value = torch.cat([state[their].float() for their in sources(name, family)])
        if transposed(name, family):
            value = value.mT
        if family is NEOX and ".attention.in_" in name:             # h (q k v) e -> (q k v) h e
            value = value.unflatten(0, (model.config.heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        found[name] = value.contiguous().clone()
    return found


def present(state: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """The tensors without what stands before all names and without buffers; the head is ``lm_head``."""
    found = {}
    for name, value in state.items():
        if BUFFERS.fullmatch(name):
            continue
        prefix = next((p for p in family.prefixes if name.startswith(p)), "")
        name = HEADS[0] if name in HEADS else name.removeprefix(prefix)
        found[name] = value
    return found


def untied(state: dict[str, Tensor], config: CausalLMConfig, family: Family, where: str) -> dict[str, Tensor]:
    """The tensors of a model whose words serve twice, each once. Raises ``ValueError`` if the two differ."""
    if not config.tied or HEADS[0] not in state:
        return state
    words = family.others["words"] + ".weight"
    head = state.pop(HEADS[0])
    if not torch.equal(head, state.setdefault(words, head)):
        raise ValueError(f"{where}: {HEADS[0]} differs from {words}, where the model has one tensor; give a "
                         f"checkpoint whose config.json says tie_word_embeddings = false")
    return state


def knows(names: Collection[str]) -> bool:
    """Are these names those of one of the families?"""
    first = {"wte.weight", "transformer.wte.weight", "decoder.embed_tokens.weight",
             "model.decoder.embed_tokens.weight", "gpt_neox.embed_in.weight"}
    return not first.isdisjoint(names)


def recognises(path: Path) -> bool:
    """Is this a folder that a model of one of the families has saved?"""
    config = path / HUGGING_FACE[0]
    return config.is_file() and read_json(config).get("model_type") in FAMILIES


def fetch(name: str) -> Path:
    """The folder of a public model, downloaded (once) from the hub."""
    return fetch_hugging_face(name, ["vocab.json", "merges.txt", "tokenizer*"])


def load(path: Path) -> CausalLM:
    """A language model from a folder with config.json and weights, in evaluation mode and float32.

    Raises ``FileNotFoundError`` if the weights are missing, ``ValueError`` if names, shapes, numbers or
    settings differ.
    """
    config, weights = HUGGING_FACE
    if not (path / config).is_file():
        raise FileNotFoundError(f"{path} has no {config}; give a folder with {config} and the weights")
    file, found = weights_in(path, weights), read_json(path / config)
    sizes = config_of(found, str(path / config))
    family = FAMILIES[found["model_type"]]
    with blank():
        model = CausalLM(sizes)
    state = untied(present(read_state(file), family), sizes, family, str(file))
    state = fitting(state, expected_shapes(model, family), str(file))
    model.load_state_dict(joined(model, state, family), assign=True)
    return model.eval()
