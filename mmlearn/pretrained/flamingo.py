r"""The public weights of OpenFlamingo, which hold the trained parts alone: resampler, gated blocks, words.

Paper: A. Awadalla et al. (2023), *OpenFlamingo*, arXiv:2308.01390; files checkpoint.pt of
huggingface.co/openflamingo, in the names of github.com/mlfoundations/open_flamingo (code MIT).  Survey: 5.3.
Differs from the paper: nothing.

A file names a gated block by its place in the language model
(``lang_encoder.transformer.blocks.3.gated_cross_attn_layer.…``), in a list of its own
(``lang_encoder.gated_cross_attn_layers.3.…``), or both, equal. Sizes are read off shapes; what leaves no
trace there is as released: heads of 64 numbers, GELU, the last picture alone, and as many layers of the
language model as make the last one have a block. The file has the embedding of all tokens, those of <image>
and <|endofchunk|> included, and may have the matrix of the output. How much of the frozen parts a file of the
first release repeats was not to be checked here: such names are refused.
"""

import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmlearn.both_modalities.flamingo import OPEN, Flamingo, FlamingoAdapter, FlamingoConfig
from mmlearn.nn.modes import blank
from mmlearn.pretrained import fitting
from mmlearn.pretrained.files import download, layers_of, read_state, shape_of
from mmlearn.weights import SUFFIXES

SYSTEM = "OpenFlamingo"
FILE, HEAD = "checkpoint.pt", OPEN["head"]
State = dict[str, Tensor]
SIGNATURE = {"perceiver.latents", "perceiver.norm.weight"}
BLOCK = re.compile(
    r"lang_encoder\.(?:.*\.(\d+)\.gated_cross_attn_layer|gated_cross_attn_layers\.(\d+))\.(.*)")
WORDS = tuple(f"lang_encoder.{name}.weight" for name in (
    "transformer.wte", "gpt_neox.embed_in", "model.embed_tokens", "model.decoder.embed_tokens"))
OUTPUTS = tuple(f"lang_encoder.{name}.weight" for name in ("embed_out", "lm_head"))
DENSE = (("dense.norm", "0"), ("dense.inner", "1"), ("dense.outer", "3"))
RESAMPLER = (("attention.norm_features", "0.norm_media"), ("attention.norm_latents", "0.norm_latents"),
             ("attention.out", "0.to_out"), *((ours, f"1.{theirs}") for ours, theirs in DENSE))
GATED = (("gate_read", "attn_gate"), ("gate_dense", "ff_gate"), ("attention.norm", "attn.norm"),
         ("attention.queries", "attn.to_q"), ("attention.sources", "attn.to_kv"),
         ("attention.out", "attn.to_out"), *((ours, f"ff.{theirs}") for ours, theirs in DENSE))


def sources(name: str) -> list[str]:
    """The file's tensors that, joined, are our tensor ``name`` of an adapter; blocks are ``blocks.N`` in
    both."""
    head, rest = "perceiver.", name.removeprefix("resampler.")
    table: tuple[tuple[str, str], ...] = ()
    if found := re.match(r"resampler\.layers\.\d+\.|blocks\.\d+\.", name):
        block = name.startswith("blocks.")
        head = found[0] if block else "perceiver." + found[0].removeprefix("resampler.")
        rest, table = name[found.end():], GATED if block else RESAMPLER
    if rest == "attention.in_weight":
        return [f"{head}0.to_q.weight", f"{head}0.to_kv.weight"]
    for ours, theirs in table:
        if rest == ours or rest.startswith(ours + "."):
            return [head + theirs + rest.removeprefix(ours)]
    return [head + rest]


def parts(state: Mapping[str, Tensor], where: str) -> tuple[State, State]:
    """The tensors of the adapter, those of a block as ``blocks.N.…`` and once, and the tables of words.

    Raises ``ValueError`` where two copies of a block differ.
    """
    kept: State = {}
    tables: State = {}
    for name, value in state.items():
        if name in WORDS + OUTPUTS:
            tables["words" if name in WORDS else "out"] = value
            continue
        if found := BLOCK.fullmatch(name):
            name = f"blocks.{found[1] or found[2]}.{found[3]}"
        if name in kept and not torch.equal(kept[name], value):
            raise ValueError(f"{where} holds two copies of {name} that differ; take the file as it was "
                             "published")
        kept[name] = value
    return kept, tables


def config_of(state: Mapping[str, Tensor], where: str, head: int = HEAD, **more: Any) -> FlamingoConfig:
    """The configuration of an adapter, read off names and shapes. Raises ``ValueError`` for what cannot
    be."""
    latents, visual = shape_of(state, "perceiver.latents", 2, where)
    places = sorted({int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))})
    if not places:
        raise ValueError(f"{where} has no gated block; the file is not whole, take it as it was published")
    inner, width = shape_of(state, f"blocks.{places[0]}.attn.to_q.weight", 2, where)
    read = shape_of(state, "perceiver.layers.0.0.to_q.weight", 2, where)[0]
    for rows in (inner, read):
        if rows % head:
            raise ValueError(f"{where} has queries of {rows} numbers, no multiple of heads of {head}; say "
                             "head=, the numbers of a head")
    every = places[1] - places[0] if len(places) > 1 else places[0] + 1
    frames = shape_of(state, "perceiver.frame_embs", 2, where)[0] if "perceiver.frame_embs" in state else 0
    values = OPEN | {
        "layers": places[-1] + 1, "width": width, "heads": inner // head, "every": every, "first": places[0],
        "features": visual, "visual": visual, "resampler_heads": read // head, "latents": latents,
        "resampler_layers": layers_of(state, r"perceiver\.layers\.(\d+)\."), "head": head, "frames": frames}
    return FlamingoConfig(**(values | more))


def expected_shapes(adapter: FlamingoAdapter) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of an adapter in a file, blocks as ``blocks.N.…``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in adapter.state_dict().items():
        names = sources(name.replace("resampler.times", "resampler.frame_embs"))
        rows, *rest = value.shape
        if len(names) == 2:                                        # queries; keys and values
            shapes |= {names[0]: (rows // 3, *rest), names[1]: (2 * rows // 3, *rest)}
        else:
            shapes[names[0]] = tuple(value.shape)
    return shapes


def weights(adapter: FlamingoAdapter, state: Mapping[str, Tensor]) -> State:
    """The tensors of a file as an adapter holds them, in float32."""
    return {name: torch.cat([state[one].float() for one in sources(
        name.replace("resampler.times", "resampler.frame_embs"))]) for name in adapter.state_dict()}


def fill_words(language: Any, tables: Mapping[str, Tensor], where: str) -> None:
    """Give a language model the words of a file. Raises ``ValueError`` for tables of other sizes."""
    for name, table in tables.items():
        found = getattr(language, name, None)
        if found is None and name == "out" and torch.equal(table, tables.get("words", table)):
            continue                                               # tied: the same matrix
        if found is None or found.weight.shape != table.shape:
            shape = "none" if found is None else str(tuple(found.weight.shape))
            raise ValueError(f"{where}: the table {name} of words is {tuple(table.shape)}, that of the "
                             f"language model {shape}; make it with vocab={len(table)}, of the same "
                             "family")
        with torch.no_grad():
            found.weight.copy_(table.float())


def knows(names: Collection[str]) -> bool:
    """Are these the names of an OpenFlamingo's trained parts?"""
    return set(names) >= SIGNATURE and any(BLOCK.fullmatch(name) for name in names)


def file_of(path: Path) -> Path:
    """The file of weights: the path itself, or checkpoint.pt in the folder."""
    return path / FILE if path.is_dir() else path


def recognises(path: Path) -> bool:
    """Is ``path`` a file (or a folder with checkpoint.pt) in OpenFlamingo's names?"""
    path = file_of(path)
    return path.is_file() and path.suffix in SUFFIXES and knows(read_state(path).keys())


def fetch(name: str) -> Path:
    """The folder of a public model with its checkpoint.pt, downloaded (once)."""
    return download(name, ["README.md"], lambda folder: [FILE])


def load(
    path: Path, language: nn.Module | None = None, vision: nn.Module | None = None, head: int = HEAD,
    **more: Any,
) -> Flamingo | FlamingoAdapter:
    """OpenFlamingo from its file, over a ``language`` model that gets the file's words, and ``vision``.

    Without ``language`` the trained parts alone, and the words are left out. ``more`` are fields of
    ``FlamingoConfig``: ``image`` and ``eoc``, the ids of <image> and <|endofchunk|>, have to be those of the
    tokeniser. Raises ``ValueError`` for other names and shapes than expected, and for a language model of
    another size.
    """
    where = str(file_of(path))
    state, tables = parts(read_state(file_of(path)), where)
    config = config_of(state, where, head, **more)
    with blank():
        adapter = FlamingoAdapter(config)
    filled = weights(adapter, fitting(state, expected_shapes(adapter), where))
    if language is None:
        if tables:
            print(f"{where}: left out {' and '.join(sorted(tables))}, which belong to the language model",
                  file=sys.stderr)
        adapter.load_state_dict(filled, assign=True)
        return adapter
    with blank():
        model = Flamingo(config, language, vision)
    model.adapter.load_state_dict(filled, assign=True)
    fill_words(language, tables, where)
    return model
